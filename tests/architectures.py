"""Tiny networks of every kind that the papers describe, with every output that each can have."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from pixelzip.models.freezing import freeze
from pixelzip.models.networks import architectures
from pixelzip.models.networks.architectures import Config
from pixelzip.models.programs.program import Part

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "pixelcnn": ("pixelcnn", {"channels": 9, "layers": 2, "top": 24}),
    "pixelcnn-skip": ("pixelcnn", {"channels": 9, "layers": 2, "top": 24, "skip": True}),
    "pixelcnn-grey": ("pixelcnn", {"channels": 9, "layers": 1, "top": 8, "colours": 1}),
    "row-lstm": ("row-lstm", {"channels": 9, "layers": 1, "top": 24}),
    "row-lstm-plain": (
        "row-lstm", {"channels": 9, "layers": 2, "top": 24, "residual": False, "skip": False},
    ),
    "diagonal-bilstm": ("diagonal-bilstm", {"channels": 9, "layers": 1, "top": 24}),
    "diagonal-bilstm-binary": (
        "diagonal-bilstm",
        {"channels": 9, "layers": 2, "top": 24, "skip": False, "colours": 1, "output": "binary"},
    ),
    "multi-scale": ("multi-scale", {"channels": 9, "layers": 1, "top": 24, "condition": 4}),
    "multi-scale-binary": (
        "multi-scale",
        {"channels": 9, "layers": 1, "top": 24, "condition": 4, "factor": 4, "colours": 1,
         "output": "binary"},
    ),
    "gated-pixelcnn": ("gated-pixelcnn", {"channels": 9, "layers": 1, "top": 24}),
    "gated-pixelcnn-binary": (
        "gated-pixelcnn",
        {"channels": 9, "layers": 1, "top": 24, "colours": 1, "output": "binary"},
    ),
    "pixelcnn++": ("pixelcnn++", {"channels": 8, "layers": 1, "components": 2}),
    "pixelcnn++-softmax": ("pixelcnn++", {"channels": 8, "layers": 1, "output": "softmax"}),
    "pixelcnn++-continuous": (
        "pixelcnn++", {"channels": 8, "layers": 1, "components": 2, "output": "continuous"},
    ),
    "pixelcnn++-bare": (
        "pixelcnn++",
        {"channels": 8, "layers": 2, "components": 2, "shortcuts": False, "dropout": 0.5},
    ),
    "pixelcnn++-classes": (
        "pixelcnn++", {"channels": 8, "layers": 1, "components": 2, "classes": 3},
    ),
    "pixelcnn++-binary": (
        "pixelcnn++", {"channels": 8, "layers": 1, "colours": 1, "output": "binary"},
    ),
    "small-11x5": ("small-pixelcnn++", {"channels": 4, "components": 2}),
    "small-11x5-nin": ("small-pixelcnn++", {"channels": 4, "components": 2, "variant": "nin"}),
    "small-11x5-autoregressive": (
        "small-pixelcnn++", {"channels": 4, "components": 2, "variant": "autoregressive"},
    ),
    "small-15x8-grey": (
        "small-pixelcnn++", {"channels": 4, "components": 2, "size": "15x8", "colours": 1},
    ),
}  # fmt: skip
"""Name -> architecture and hyper-parameters."""
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "pixelcnn-plain": ("pixelcnn", {"channels": 9, "layers": 2, "top": 24, "residual": False}),
    "pixelcnn-binary": (
        "pixelcnn", {"channels": 9, "layers": 1, "top": 8, "colours": 1, "output": "binary"},
    ),
    "row-lstm-skip": (
        "row-lstm", {"channels": 9, "layers": 2, "top": 24, "residual": False, "skip": True},
    ),
    "multi-scale-quarter": (
        "multi-scale", {"channels": 9, "layers": 1, "top": 24, "condition": 4, "factor": 4},
    ),
    "small-15x8-nin": (
        "small-pixelcnn++", {"channels": 4, "components": 2, "size": "15x8", "variant": "nin"},
    ),
    "small-15x8-autoregressive": (
        "small-pixelcnn++",
        {"channels": 4, "components": 2, "size": "15x8", "variant": "autoregressive"},
    ),
    "small-11x5-softmax": ("small-pixelcnn++", {"channels": 4, "output": "softmax"}),
}  # fmt: skip
"""More combinations of what those above have, one by one."""
CODING = [name for name in SETTINGS | MORE if "continuous" not in name]
PROGRAMS = {
    "pixelcnn": "43813c9ef3867636",
    "pixelcnn-skip": "f92dbe6537d9efcb",
    "pixelcnn-grey": "3a456dbd0f97a8a0",
    "row-lstm": "82543e36b464db8d",
    "row-lstm-plain": "f7a44e8468672cc8",
    "diagonal-bilstm": "1bc29a1d252d754c",
    "diagonal-bilstm-binary": "412dfda228d5d644",
    "multi-scale": "05683c17a6f8d5a0",
    "multi-scale-binary": "d661d71a308acc8a",
    "gated-pixelcnn": "26fc75f8de1be4d9",
    "gated-pixelcnn-binary": "755a4e3711e0fc53",
    "pixelcnn++": "be91e23979e3d9b0",
    "pixelcnn++-softmax": "abcaadeb00351086",
    "pixelcnn++-bare": "ce13c19b81afdccf",
    "pixelcnn++-classes": "05042fc3ee3f059b",
    "pixelcnn++-binary": "f4dc3532ddca339c",
    "small-11x5": "c9b3b6d09d5e13e1",
    "small-11x5-nin": "298394bb0164fcb9",
    "small-11x5-autoregressive": "72e77434d1f43081",
    "small-15x8-grey": "9a6506c2a30ac52d",
    "pixelcnn-plain": "eed69b7145774d95",
    "pixelcnn-binary": "f1bf471bce3b4278",
    "row-lstm-skip": "e153d03b4f457234",
    "multi-scale-quarter": "00759555199d4cbd",
    "small-15x8-nin": "58ac3c78d7a46bc7",
    "small-15x8-autoregressive": "9e275fa1745a92e7",
    "small-11x5-softmax": "10678988bc739ec6",
}
"""What the SHA-256 of each one's programs begins with: other ones would be other networks."""
KINDS = [
    "pixelcnn", "row-lstm", "diagonal-bilstm", "multi-scale", "gated-pixelcnn", "pixelcnn++",
    "pixelcnn++-classes", "small-11x5-autoregressive",
]  # fmt: skip
"""Networks that have every kind of node between them."""


def config(name: str) -> Config:
    architecture, settings = (SETTINGS | MORE)[name]
    return architectures.find(architecture).config(**settings)


def make(name: str, seed: int = 0) -> nn.Module:
    """The network in double precision, random but alive in every part."""
    torch.manual_seed(seed)
    network = architectures.find((SETTINGS | MORE)[name][0]).build(config(name))
    with torch.no_grad():
        for parameter_name, parameter in network.named_parameters():
            if parameter_name.endswith(("bias", "hidden", "cell", "classes")):
                parameter += 0.5 + 0.3 * torch.randn_like(parameter)  # most rectifiers are on
            else:
                parameter *= 1.5
    return network.double().eval()


def random_pixels(name: str, count: int, height: int, width: int, seed: int = 0) -> Tensor:
    """(count, height, width, C) values that the network can code, as uint8."""
    settings: Any = config(name)
    drawn = torch.Generator().manual_seed(seed)
    shape = (count, height, width, settings.colours)
    if settings.output == "binary":
        return 255 * torch.randint(0, 2, shape, generator=drawn).to(torch.uint8)
    return torch.randint(0, 256, shape, generator=drawn).to(torch.uint8)


@cache
def frozen(name: str, bits: int = 16) -> list[Part]:
    """The programs and integers of the network."""
    calibration = random_pixels(name, 3, 12, 12, 1)
    return freeze.freeze_program(make(name).float(), config(name).field.lag, calibration, bits)


def evaluate(network: nn.Module, method: Callable[..., Tensor], pixels: Tensor) -> Tensor:
    """``method`` of the network on these pixels; those with classes take them for the last one."""
    classes = [p for n, p in network.named_parameters() if n.endswith("classes")]
    labels = [torch.full((len(pixels),), len(classes[0]) - 1)] if classes else []
    return method(pixels, *labels)
