"""Thawing: a frozen network of ``photo``'s kind becomes floats again, for training to go on from.

The other way round than `pixelzip.models.networks.photo.Photo.freeze`. What the integers rounded
stays rounded, and clipped ranges are forgotten, so a thawed network is a start and not the network
that was frozen. A network of one plane can begin as the part of a network of three colours that
codes grey pixels.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from pixelzip.codec import cdf
from pixelzip.models.frozen import file
from pixelzip.models.frozen.architecture import WINDOW, PhotoConfig
from pixelzip.models.networks.photo import (
    CODE_UNIT,
    CONTRAST_REACH,
    CONTRAST_UNIT,
    HATS,
    MEAN_UNIT,
    STREAM_UNIT,
    Photo,
)

_ROW_NORM = math.sqrt(2)
"""Of a block's first matrix: how large its hidden units get is not in the integers."""


@torch.no_grad()
def thaw(path: Path, network: nn.Module) -> None:
    """Give a new ``network`` the weights of a frozen one.

    It may have more blocks: a new block adds nothing at first, so these compute the same.
    Raises NetworkFileError for a file that is none, ValueError if it is of another size or kind.
    """
    arrays, config, _ = file.read(path)
    if not isinstance(network, Photo) or not _continues(config, network.config):
        raise ValueError(f"{path} holds a network of another size or kind")
    weights = _floats({n: torch.from_numpy(a) for n, a in arrays.items()}, config)
    if network.config.colours < config.colours:
        weights = _grey(weights, config)
    own = network.state_dict()
    for name, weight in weights.items():
        if name.startswith("heads."):  # what the new network weighs besides says nothing yet
            own[name].zero_()
        own[name][tuple(slice(side) for side in weight.shape)] = weight
    network.load_state_dict(own)


def _continues(found: PhotoConfig, wanted: PhotoConfig) -> bool:
    same = ["channels", "head", "components"]
    if wanted.colours == 3:
        same += ["colours", "near"]
    alike = all(getattr(found, member) == getattr(wanted, member) for member in same)
    deeper = wanted.blocks.startswith(found.blocks)
    return alike and deeper and wanted.near >= found.near and wanted.given >= found.given


def _grey(weights: dict[str, Tensor], config: PhotoConfig) -> dict[str, Tensor]:
    """A network of one plane: the first colour of one of three, where all three are equal."""
    k, s = config.components, config.colours
    entry = weights["first"].view(-1, len(WINDOW), s + 1)
    entry = torch.cat([entry[..., :s].sum(-1, keepdim=True), entry[..., s:]], -1)
    predictor = weights["predictor"][0].view(1, len(WINDOW), s).sum(-1)
    head, bias = weights["heads.0.weight"], weights["heads.0.bias"]
    filters = head[3 * k :].view(config.near, s, -1).sum(1)
    filter_bias = bias[3 * k :].view(config.near, s).sum(1)
    kept = {
        name: weight
        for name, weight in weights.items()
        if name != "code" and not name.startswith("heads.")
    }
    return kept | {
        "first": entry.flatten(1),
        "predictor": predictor,
        "predictor_bias": weights["predictor_bias"][:1],
        "trunk": weights["trunk"][: config.head],
        "trunk_bias": weights["trunk_bias"][: config.head],
        "heads.0.weight": torch.cat([head[: 3 * k], filters]),
        "heads.0.bias": torch.cat([bias[: 3 * k], filter_bias]),
    }


def _floats(tensors: dict[str, Tensor], config: PhotoConfig) -> dict[str, Tensor]:
    """The float network's parameters by name."""
    found: dict[str, Tensor] = {}

    def matrix(name: str, unit: Tensor | float, source: Tensor | float) -> tuple[Tensor, Tensor]:
        """Weights (outputs, inputs) and biases of a layer of inputs in units of ``source``."""
        scale = tensors[f"{name}.scale"].double() / unit
        weight = tensors[f"{name}.weight"].double().t() * scale[:, None] / source
        return weight.float(), (tensors[f"{name}.bias"].double() * scale).float()

    def source(name: str) -> Tensor:
        return 1 / (tensors[f"{name}.input_scale"].double() * STREAM_UNIT)

    wide = tensors["first.weight"].double().t()
    scale = tensors["first.scale"].double() / CONTRAST_UNIT
    channels, entry = config.channels, config.colours + 1
    found["first"] = (wide[:channels] * scale[:, None]).float()
    found["first_bias"] = (tensors["first.bias"].double() * scale).float()
    linear = wide[channels:] / 2**file.PREDICTOR_BITS
    own = linear[:, : len(WINDOW) * entry].reshape(config.colours, -1, entry)
    found["predictor"] = own[..., :-1].flatten(1).float()
    if config.given:
        found["look_predictor"] = linear[:, len(WINDOW) * entry :].float()
    bias = tensors["first.predictor_bias"].double()
    found["predictor_bias"] = (bias / 2**file.PREDICTOR_BITS).float()
    contrast = math.log(1 + CONTRAST_REACH) / 127
    found["stem"], found["stem_bias"] = matrix("stem", STREAM_UNIT, contrast)
    for i, kind in enumerate(config.blocks):
        name = f"blocks.{i}"
        taps = 5 if kind == "M" else 1
        into_a = source(name).repeat(taps)
        a, a_bias = matrix(f"{name}.a", 1.0, into_a)  # in units of what b reads
        into_b = _ROW_NORM / a.double().norm(dim=1).clamp(min=1e-6)
        found[f"{name}.a"], found[f"{name}.a_bias"] = (
            (a * into_b[:, None]).float(), (a_bias * into_b).float(),
        )  # fmt: skip
        found[f"{name}.b"], found[f"{name}.b_bias"] = matrix(f"{name}.b", STREAM_UNIT, into_b)
    found["trunk"], found["trunk_bias"] = matrix("trunk", STREAM_UNIT, source("trunk"))
    if config.colours == 3:
        rows = tensors["code.rows"].double() / STREAM_UNIT
        middle, step = rows.shape[1] // 2, CODE_UNIT // 2
        knots = middle + step * (torch.arange(HATS) - HATS // 2)
        found["code"] = rows[:, knots].float()
    k = config.components
    for c in range(config.colours):
        outputs = tensors[f"heads.{c}.bias"].shape[0]
        unit = torch.full((outputs,), float(1 << file.FILTER_BITS), dtype=torch.float64)
        unit[:k] = cdf.LOGIT_UNIT
        unit[k : 2 * k] = cdf.MEAN_UNIT * MEAN_UNIT
        unit[2 * k : 3 * k] = cdf.SCALE_UNIT
        weight, bias_c = matrix(f"heads.{c}", unit, source(f"heads.{c}"))
        found[f"heads.{c}.weight"], found[f"heads.{c}.bias"] = weight, bias_c
    return found
