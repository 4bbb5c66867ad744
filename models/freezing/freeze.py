"""Freezing: a trained float network becomes integers, once.

Of ``photo``, weights become int8 with a scale for each output (the first layer and the linear
predictor, whose zero-sum filters would not survive that, 16 bits). Activations become 7 bits and a
sign, with a scale for each channel, calibrated on photographs: each channel's range is set by the
largest values that it takes there. An activation's scale is folded into the weights that read it,
so the integer network needs one multiplication per sum.

The papers' networks write themselves down as programs first (`pixelzip.models.networks.tracer`).
Their weights and activations have 16 bits or 8; with 16 there is room for values four times as
large as any that was seen.
"""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import Tensor, nn

from pixelzip.codec import cdf
from pixelzip.codec.errors import NetworkFileError
from pixelzip.models.freezing.reals import Reals
from pixelzip.models.frozen.architecture import LAG, WINDOW, PhotoConfig
from pixelzip.models.frozen.file import (
    FILTER_BITS,
    FORMAT,
    MEAN_BITS,
    PREDICTOR_BITS,
    check,
    described,
    fingerprint,
)
from pixelzip.models.networks import architectures
from pixelzip.models.networks import photo as floats
from pixelzip.models.networks.multiscale import MultiScale
from pixelzip.models.networks.photo import Block, Photo
from pixelzip.models.networks.tracer import traced
from pixelzip.models.programs import heads, integers
from pixelzip.models.programs.arithmetic import CELL_UNIT
from pixelzip.models.programs.engine import Network, Parallel, image
from pixelzip.models.programs.program import WIDE, Part, Program
from pixelzip.models.programs.program import check as check_program

STREAM_UNIT = 2048  # the residual stream is in 1/2048
CONTRAST_UNIT = 32  # the companding table has 32 entries for each unit of contrast
CONTRAST_REACH = 512  # and ends there
CODE_UNIT = 16  # rows of the code for each unit of the companded residual
CALIBRATION = 48
"""So many small images are enough to calibrate a program on."""
RANGE_QUANTILE = 0.9999
"""An activation above this quantile of its channel is clipped."""
_NOT_A_CHECKPOINT = (
    pickle.UnpicklingError, SafetensorError, RuntimeError, LookupError, TypeError, ValueError,
    AttributeError, EOFError,
)  # fmt: skip
"""What PyTorch raises where it is given something else."""


HEADROOM = 4
"""With 16 bits activations may be so many times larger than any that was seen."""


def load_checkpoint(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The float network of a checkpoint, with its averaged weights, and all that is in it.

    Raises NetworkFileError if it is not a checkpoint of `pixelzip.models.training.train`.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        architecture = architectures.find(state["network_name"])
        network = architecture.build(architecture.config(**state["architecture"]))
        network.load_state_dict(state["average"])
        if state["calibration"].dtype != torch.uint8:
            raise TypeError("photographs to calibrate with are bytes")
    except OSError as error:
        raise NetworkFileError(f"{path}: {error.strerror or error}") from error
    except _NOT_A_CHECKPOINT as error:
        raise NetworkFileError(f"{path} is not a checkpoint of a network") from error
    return network.eval(), state


class Ranges:
    """Collects, for each rectified input of a layer, how large each channel gets."""

    def __init__(self) -> None:
        self.samples: dict[str, list[Tensor]] = {}

    def see(self, name: str, x: Tensor) -> None:
        """``x`` (P, C) or (B, C, H, W): keep the top of every channel."""
        if x.ndim == 4:
            x = x.permute(0, 2, 3, 1).flatten(0, 2)
        kept = max(1, math.ceil(len(x) * (1 - RANGE_QUANTILE) * 2))
        self.samples.setdefault(name, []).append(x.float().topk(kept, 0).values)
        self.samples.setdefault(name + "/count", []).append(torch.tensor([len(x)]))

    def largest(self, name: str) -> Tensor:
        """(C,) the value at the quantile, and never less than a little."""
        top = torch.cat(self.samples[name]).sort(0, descending=True).values
        count = int(torch.cat(self.samples[name + "/count"]).sum())
        at = min(len(top) - 1, int(count * (1 - RANGE_QUANTILE)))
        return top[at].clamp(min=1e-3)

    def top(self, name: str) -> Tensor:
        """(C,) the largest value, and never less than a little."""
        return torch.cat(self.samples[name]).amax(0).clamp(min=1e-3)


def quantise(weight: Tensor, input_scale: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs, inputs) weights of inputs in units of ``input_scale`` (inputs,).

    Returns int8 (inputs, outputs) and the float scale (outputs,) of their sums.
    """
    folded = weight.double() * input_scale.double()
    scale = folded.abs().amax(1).clamp(min=1e-9) / 127
    return torch.round(folded / scale[:, None]).to(torch.int8).t().contiguous(), scale


@torch.no_grad()
def freeze(network: Photo, crops: Tensor, given: Tensor | None = None) -> dict[str, Tensor]:
    """The tensors of the frozen network, calibrated on (N, H, W, S) uint8 crops.

    ``given``: (N, H, W, ENTRY) int8, what a network that is given samples knows of each crop.
    """
    config = network.config
    network_blocks = [block for block in network.blocks if isinstance(block, Block)]
    ranges = Ranges()
    network.watch = ranges.see
    for i, block in enumerate(network_blocks):
        block.watch = lambda name, x, i=i: ranges.see(f"blocks.{i}.{name}", x)
    told = (crops,) if given is None else (crops, given)
    for parts in zip(*(torch.split(tensor, 16) for tensor in told), strict=True):
        network(*parts)
    out: dict[str, Tensor] = {}

    def layer(
        name: str, weight: Tensor, bias: Tensor, input_scale: Tensor, unit: Tensor | float
    ) -> None:
        """``unit``: how many integers a float output of 1 becomes."""
        out[f"{name}.weight"], scale = quantise(weight, input_scale)
        out[f"{name}.bias"] = torch.round(bias.double() / scale).to(torch.int32)
        out[f"{name}.scale"] = (scale * unit).float()

    def step(name: str) -> Tensor:
        return ranges.largest(name).double() / 127

    # The first layer: contrasts at CONTRAST_UNIT, companded by a table to int8.
    first, bias = network.first.double(), network.first_bias.double()
    scale = first.abs().amax(1) / 32000
    wide = torch.round(first / scale[:, None])
    s = config.colours
    predictor = torch.zeros(s, len(WINDOW), s + 1, dtype=torch.float64)
    predictor[..., :s] = network.predictor.double().view(s, -1, s)
    predictor = predictor.flatten(1)
    if config.given:
        predictor = torch.cat([predictor, network.look_predictor.double()], 1)
    linear = torch.round(predictor * 2**PREDICTOR_BITS)
    out["first.weight"] = torch.cat([wide, linear]).to(torch.int16).t().contiguous()
    out["first.bias"] = torch.round(bias / scale).to(torch.int32)
    out["first.scale"] = (scale * CONTRAST_UNIT).float()
    linear_bias = network.predictor_bias.double() * 2**PREDICTOR_BITS
    out["first.predictor_bias"] = torch.round(linear_bias).to(torch.int32)
    reach = CONTRAST_UNIT * CONTRAST_REACH
    contrast = torch.arange(-reach, reach + 1, dtype=torch.float64) / CONTRAST_UNIT
    companded = floats.compand(contrast)
    contrast_step = companded[-1] / 127
    out["first.table"] = torch.round(companded / contrast_step).to(torch.int8)

    contrast_steps = contrast_step.expand(config.channels)
    layer("stem", network.stem, network.stem_bias, contrast_steps, STREAM_UNIT)
    for i, block in enumerate(network_blocks):
        into_a, into_b = step(f"blocks.{i}.a"), step(f"blocks.{i}.b")
        out[f"blocks.{i}.input_scale"] = (1 / (into_a * STREAM_UNIT)).float()
        taps = block.a.shape[1] // config.channels
        layer(f"blocks.{i}.a", block.a, block.a_bias, into_a.repeat(taps), 1 / into_b)
        layer(f"blocks.{i}.b", block.b, block.b_bias, into_b, STREAM_UNIT)
    into_trunk = step("trunk")
    out["trunk.input_scale"] = (1 / (into_trunk * STREAM_UNIT)).float()
    layer("trunk", network.trunk, network.trunk_bias, into_trunk, STREAM_UNIT)

    if s == 3:
        out["code.bins"], out["code.rows"] = _code(network.code.double())
    for i, head in enumerate(network.heads):
        assert isinstance(head, nn.Linear)
        into = step(f"heads.{i}")
        out[f"heads.{i}.input_scale"] = (1 / (into * STREAM_UNIT)).float()
        k = config.components
        unit = torch.full((head.out_features,), float(1 << FILTER_BITS), dtype=torch.float64)
        unit[:k] = cdf.LOGIT_UNIT
        unit[k : 2 * k] = cdf.MEAN_UNIT * floats.MEAN_UNIT
        unit[2 * k : 3 * k] = cdf.SCALE_UNIT
        layer(f"heads.{i}", head.weight, head.bias, into, unit)
    check(arrays(out), config)
    return out


def _code(code: Tensor) -> tuple[Tensor, Tensor]:
    """What a residual adds to a head, at CODE_UNIT rows for each unit of its companded size."""
    sizes = np.arange(1 << 13) / 2 ** (MEAN_BITS - 4)
    bins = np.rint(np.log1p(sizes) * CODE_UNIT)
    last = int(bins[-1])
    rows = torch.arange(-last, last + 1, dtype=torch.float64) / CODE_UNIT
    knots = torch.arange(floats.HATS, dtype=torch.float64) - floats.HATS // 2
    hats = (1 - (rows[:, None] * 2 - knots).abs()).clamp(min=0)
    spelt = torch.round(torch.einsum("rk,ikh->irh", hats, code) * STREAM_UNIT)
    return torch.from_numpy(bins.astype(np.int16)), spelt.to(torch.int32).contiguous()


@torch.no_grad()
def freeze_program(
    network: nn.Module, lag: int | None, images: Tensor, bits: int
) -> list[Part]:
    """The programs of a network in integers, calibrated on (N, H, W, C) uint8 images.

    Raises ValueError if its output cannot code, NetworkFileError if it is too large for integers.
    """
    parts = [
        (replace(program, bits=bits), tensors) for program, tensors in traced(network, lag)
    ]
    ranges = _calibrate(network, parts, images)
    frozen: list[Part] = []
    for k, (program, tensors) in enumerate(parts):
        given = None
        if len(parts) == 3 and k == 2:  # what it is given comes in the upsampling's units
            given = 1 / (frozen[1][1][f"{len(parts[1][0].nodes) - 1}.scale"] * WIDE)
        check_program(program)
        frozen.append((program, _integers(program, tensors, ranges[k], given)))
    integers.check(frozen)
    return frozen


def _calibrate(network: nn.Module, parts: Sequence[Part], images: Tensor) -> list[Ranges]:
    """How large the activations of each program get, in floats."""
    ranges = [Ranges() for _ in parts]
    real = []
    for program, tensors in parts:
        ones = {
            f"{i}.scale": np.ones(node.channels * (4 if node.op == "lstm" else 1))
            for i, node in enumerate(program.nodes)
            if node.op in ("linear", "lstm", "activate")
        }  # fmt: skip
        real.append(Network(program, {**ones, **tensors}, Reals(program)))
    for picture in images.numpy():
        given = None
        for k, (part, part_ranges) in enumerate(zip(real, ranges, strict=True)):
            program, pixels = part.program, picture
            if k < len(parts) - 1:  # of a Multi-Scale network: the subsampled image
                assert isinstance(network, MultiScale)
                pixels = picture[:: network.factor, :: network.factor]
            shape = picture.shape[:2] if program.output == "map" else pixels.shape[:2]
            evaluation = Parallel(part, shape)
            evaluation.tell(0, image(pixels, program) / 128)
            for i, node in enumerate(program.nodes):
                if node.op == "given":
                    evaluation.tell(i, given)

            def see(
                i: int, values: Any, program: Program = program, r: Ranges = part_ranges
            ) -> None:
                if program.nodes[i].op == "activate":
                    r.see(str(i), torch.from_numpy(np.abs(values)))

            last = evaluation.run(see)
            given = last.reshape(*shape, -1)
    return ranges


def _integers(
    program: Program,
    floats: Mapping[str, NDArray[Any]],
    ranges: Ranges,
    given: NDArray[np.float64] | None,
) -> dict[str, NDArray[Any]]:
    """A program's tensors in integers. ``given``: the units of the map it is given."""
    tensors = {name: torch.from_numpy(array) for name, array in floats.items()}
    out: dict[str, Tensor] = {}
    weights = torch.int8 if program.bits == 8 else torch.int16
    units: list[Tensor] = []  # of each narrow map's channels: what an integer of 1 means
    for i, node in enumerate(program.nodes):
        unit = torch.full((node.channels,), 1 / program.state_unit, dtype=torch.float64)
        if node.op == "input":
            unit = torch.full((node.channels,), 1 / 128, dtype=torch.float64)
        elif node.op == "given":
            assert given is not None
            unit = torch.from_numpy(given)
        elif node.op == "activate":
            largest = ranges.largest(str(i))
            if program.bits == 16:
                largest = ranges.top(str(i)) * HEADROOM
            unit = largest.double() / program.largest
            out[f"{i}.scale"] = 1 / (WIDE * unit)
        elif node.op == "linear":
            last = i == len(program.nodes) - 1
            wanted, bias = torch.tensor(float(WIDE)), tensors[f"{i}.bias"]
            if last:
                wanted = torch.from_numpy(heads.units(program))
                bias = bias + torch.from_numpy(heads.offsets(program))
            source = units[node.inputs[0]].repeat(len(node.taps))
            weight, scale = _matrix(tensors[f"{i}.weight"], bias, source, program.largest)
            out[f"{i}.weight"] = weight.to(weights)
            out[f"{i}.bias"] = torch.round(bias / scale).long()
            out[f"{i}.scale"] = scale * wanted
        elif node.op == "lstm":
            weight = tensors[f"{i}.weight"]
            source = torch.full((len(weight),), 1 / program.state_unit, dtype=torch.float64)
            weight, scale = _matrix(weight, torch.zeros(1), source, program.largest)
            out[f"{i}.weight"], out[f"{i}.scale"] = weight.to(weights), scale * WIDE
            hidden = torch.round(tensors[f"{i}.hidden"].clamp(-1, 1) * program.state_unit)
            out[f"{i}.hidden"] = hidden.to(weights)
            cell = torch.round(tensors[f"{i}.cell"] * CELL_UNIT)
            out[f"{i}.cell"] = cell.to(torch.int32)
        units.append(unit)
    return arrays(out)


def _matrix(weight: Tensor, bias: Tensor, source: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """(inputs, outputs) weights in integers, and what a sum of 1 means (outputs,)."""
    folded = weight * source[:, None]
    biases = bias.reshape(-1, bias.shape[-1]).abs().amax(0)
    scale = torch.maximum(folded.abs().amax(0) / largest, biases / 2**30).clamp(min=1e-12)
    return torch.round(folded / scale), scale


def arrays(tensors: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
    """The tensors as numpy arrays, which share their memory."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def write(path: Path, tensors: dict[str, Tensor], config: PhotoConfig, trained: str) -> bytes:
    """Write a frozen network's file, and return its fingerprint.

    ``trained`` is one line about its training, for those who list the networks.
    """
    name = fingerprint(arrays(tensors), config)
    metadata = {
        "format": FORMAT,
        "architecture": described(config),
        "fingerprint": name.hex(),
        "lag": str(LAG),
        "field": floats.field_of_view(config),
        "trained": trained,
    }
    partial = path.with_name(path.name + ".part")
    save_file(tensors, partial, metadata)
    os.replace(partial, path)
    return name


def write_program(
    path: Path, parts: Sequence[Part], name: str, architecture: Any, trained: str
) -> bytes:
    """Write a file of programs, and return its fingerprint. ``name`` is the architecture's."""
    found = integers.fingerprint(parts)
    metadata = {
        "format": integers.FORMAT,
        "programs": json.dumps([program.as_dict() for program, _ in parts]),
        "architecture": json.dumps({"network": name, **asdict(architecture)}, sort_keys=True),
        "fingerprint": found.hex(),
        "lag": str(architecture.field.lag or 0),
        "field": str(architecture.field),
        "trained": trained,
    }
    tensors = {
        f"{k}.{key}": np.ascontiguousarray(tensor)
        for k, (_, own) in enumerate(parts)
        for key, tensor in own.items()
    }
    partial = path.with_name(path.name + ".part")
    save_arrays(tensors, partial, metadata)
    os.replace(partial, path)
    return found


def freeze_checkpoint(checkpoint: Path, output: Path, bits: int | None = None) -> bytes:
    """Freeze a checkpoint's averaged weights into a file; return the fingerprint.

    ``bits`` of weights and activations: 8 or 16 (the default) of the papers' networks; ``photo``
    has 8, but for its first layer. Raises NetworkFileError if it cannot be frozen so.
    """
    network, state = load_checkpoint(checkpoint)
    trained = f"{state['pixels'] / 1e6:.0f} million pixels, {state['seconds'] / 3600:.1f} hours"
    images = state["calibration"]
    if isinstance(network, Photo):
        if bits == 16:
            raise NetworkFileError(f"{checkpoint}: {state['network_name']} is frozen to 8 bits")
        tensors = freeze(network, images, state.get("calibration_labels"))
        return write(output, tensors, network.config, trained)
    architecture = architectures.find(state["network_name"])
    config = architecture.config(**state["architecture"])
    images = images[:CALIBRATION]
    try:
        parts = freeze_program(network, config.field.lag, images, bits or 16)
    except (ValueError, NetworkFileError) as error:
        raise NetworkFileError(f"{checkpoint}: {error}") from error
    return write_program(output, parts, architecture.name, config, trained)
