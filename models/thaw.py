"""Thawing: a frozen network of ``photo``'s kind becomes floats again, for training to go on from.

The other way round than `pixelzip.models.freeze`. What the integers rounded stays rounded, and clipped
ranges are forgotten, so a thawed network is a start and not the network that was frozen. Of a network
of three colours a network of one plane can begin: as the first colour's part of it, on grey pixels.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from pixelzip.codec import cdf
from pixelzip.models import frozen
from pixelzip.models.freeze import CODE_UNIT, CONTRAST_REACH, CONTRAST_UNIT, STREAM_UNIT
from pixelzip.models.photo import HATS, MEAN_UNIT, WINDOW, Photo, PhotoConfig

_ROW_NORM = math.sqrt(2)
"""Of a block's first matrix: how large its hidden units get is not in the integers."""


@torch.no_grad()
def thaw(path: Path, network: nn.Module) -> None:
    """Give a new ``network`` the weights of a frozen one.

    Raises NetworkFileError for a file that is none, ValueError if it is of another size or kind.
    """
    tensors, config = frozen.read(path)
    if not isinstance(network, Photo) or not _continues(config, network.config):
        raise ValueError(f"{path} holds a network of another size or kind")
    weights = _floats(tensors, config)
    own = network.state_dict()
    colours, entry = network.config.colours, 1 + network.config.colours
    first = weights["first"].view(-1, len(WINDOW), config.colours + 1)
    predictor = weights["predictor"].view(config.colours, len(WINDOW), config.colours)
    if colours < config.colours:  # grey: red, green and blue are one
        first = torch.cat([first[..., :-1].sum(-1, keepdim=True), first[..., -1:]], -1)
        predictor = predictor[:1].sum(-1, keepdim=True)
    own["first"][:, : len(WINDOW) * entry] = first.flatten(1)
    own["predictor"].copy_(predictor.flatten(1))
    k, near = config.components, config.near
    for c in range(colours):
        head, bias = weights[f"heads.{c}.weight"], weights[f"heads.{c}.bias"]
        mine, mine_bias = own[f"heads.{c}.weight"], own[f"heads.{c}.bias"]
        mine.zero_(), mine_bias.zero_()
        mine[: 3 * k], mine_bias[: 3 * k] = head[: 3 * k], bias[: 3 * k]
        filters = slice(3 * k, 3 * k + near * config.colours)
        folded = head[filters].view(near, config.colours, -1)
        folded_bias = bias[filters].view(near, config.colours)
        if colours < config.colours:
            folded, folded_bias = folded.sum(1, keepdim=True), folded_bias.sum(1, keepdim=True)
        end = 3 * k + near * colours
        mine[3 * k : end], mine_bias[3 * k : end] = folded.flatten(0, 1), folded_bias.flatten()
        if colours == config.colours and c:
            mine[-c:], mine_bias[-c:] = head[-c:], bias[-c:]
    for name in ("trunk", "trunk_bias", "predictor_bias"):
        own[name].copy_(weights[name][: len(own[name])])
    for name in own:
        if name in weights and not name.startswith(("heads.", "first", "trunk", "predictor")):
            own[name].copy_(weights[name])
    own["first_bias"].copy_(weights["first_bias"])
    network.load_state_dict(own)


def _continues(frozen_config: PhotoConfig, config: PhotoConfig) -> bool:
    same = all(
        getattr(frozen_config, member) == getattr(config, member)
        for member in ("channels", "blocks", "head", "components")
    )
    wide = config.colours <= frozen_config.colours and config.near >= frozen_config.near
    return same and wide and not frozen_config.given


def _floats(tensors: dict[str, Tensor], config: PhotoConfig) -> dict[str, Tensor]:
    """The float network's parameters by name."""
    found: dict[str, Tensor] = {}

    def matrix(name: str, unit: Tensor | float, source: Tensor | float) -> tuple[Tensor, Tensor]:
        """Weights (outputs, inputs) and biases of a layer whose inputs are in units of ``source``."""
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
    linear = wide[channels:].view(config.colours, -1, entry)[..., :-1].flatten(1)
    found["predictor"] = (linear / 2**frozen.PREDICTOR_BITS).float()
    bias = tensors["first.predictor_bias"].double()
    found["predictor_bias"] = (bias / 2**frozen.PREDICTOR_BITS).float()
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
        unit = torch.full((outputs,), float(1 << frozen.FILTER_BITS), dtype=torch.float64)
        unit[:k] = cdf.LOGIT_UNIT
        unit[k : 2 * k] = cdf.MEAN_UNIT * MEAN_UNIT
        unit[2 * k : 3 * k] = cdf.SCALE_UNIT
        weight, bias_c = matrix(f"heads.{c}", unit, source(f"heads.{c}"))
        found[f"heads.{c}.weight"], found[f"heads.{c}.bias"] = weight, bias_c
    return found


