"""Freezing: a trained float network becomes integers, once.

``photo`` does that itself (`pixelzip.models.networks.photo`). The papers' networks write themselves
down as programs first (`pixelzip.models.networks.tracer`), whose weights and activations get 16
bits or 8; with 16 there is room for values four times as large as any that was seen.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from pixelzip.codec.errors import NetworkFileError
from pixelzip.models.freezing.reals import Reals
from pixelzip.models.frozen import shell
from pixelzip.models.frozen.architecture import LAG, PhotoConfig
from pixelzip.models.frozen.file import (
    FORMAT,
    described,
    fingerprint,
)
from pixelzip.models.networks import architectures
from pixelzip.models.networks import photo as floats
from pixelzip.models.networks.multiscale import MultiScale
from pixelzip.models.networks.photo import Photo
from pixelzip.models.networks.quantise import Ranges, arrays
from pixelzip.models.networks.tracer import traced
from pixelzip.models.programs import FORMAT as PROGRAMS
from pixelzip.models.programs import file as of_programs
from pixelzip.models.programs import heads
from pixelzip.models.programs.arithmetic import CELL_UNIT
from pixelzip.models.programs.engine import Network, Parallel, image
from pixelzip.models.programs.program import WIDE, Part, Program
from pixelzip.models.programs.program import check as check_program

CALIBRATION = 48
"""So many small images are enough to calibrate a program on."""
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


@torch.no_grad()
def freeze_program(network: nn.Module, lag: int | None, images: Tensor, bits: int) -> list[Part]:
    """The programs of a network in integers, calibrated on (N, H, W, C) uint8 images.

    Raises ValueError if its output cannot code, NetworkFileError if it is too large for integers.
    """
    parts = [(replace(program, bits=bits), tensors) for program, tensors in traced(network, lag)]
    ranges = _calibrate(network, parts, images)
    frozen: list[Part] = []
    for k, (program, tensors) in enumerate(parts):
        given = None
        if len(parts) == 3 and k == 2:  # what it is given comes in the upsampling's units
            given = 1 / (frozen[1][1][f"{len(parts[1][0].nodes) - 1}.scale"] * WIDE)
        check_program(program)
        frozen.append((program, _integers(program, tensors, ranges[k], given)))
    of_programs.check(frozen)
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


def write(path: Path, tensors: dict[str, Tensor], config: PhotoConfig, trained: str) -> bytes:
    """Write a frozen network's file, and return its fingerprint.

    ``trained`` is one line about its training, for those who list the networks.
    """
    held = arrays(tensors)
    name = fingerprint(held, config)
    metadata = {
        "format": FORMAT,
        "architecture": described(config),
        "fingerprint": name.hex(),
        "lag": str(LAG),
        "field": floats.field_of_view(config),
        "trained": trained,
    }
    shell.write(path, held, metadata)
    return name


def write_program(
    path: Path, parts: Sequence[Part], name: str, architecture: Any, trained: str
) -> bytes:
    """Write a file of programs, and return its fingerprint. ``name`` is the architecture's."""
    found = of_programs.fingerprint(parts)
    metadata = {
        "format": PROGRAMS,
        "programs": json.dumps([program.as_dict() for program, _ in parts]),
        "architecture": json.dumps({"network": name, **asdict(architecture)}, sort_keys=True),
        "fingerprint": found.hex(),
        "lag": str(architecture.field.lag or 0),
        "field": str(architecture.field),
        "trained": trained,
    }
    shell.write(path, of_programs.joined(parts), metadata)
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
        tensors = network.freeze(images, state.get("calibration_labels"), state.get("steps"))
        return write(output, tensors, network.config, trained)
    architecture = architectures.find(state["network_name"])
    config = architecture.config(**state["architecture"])
    images = images[:CALIBRATION]
    try:
        parts = freeze_program(network, config.field.lag, images, bits or 16)
    except (ValueError, NetworkFileError) as error:
        raise NetworkFileError(f"{checkpoint}: {error}") from error
    return write_program(output, parts, architecture.name, config, trained)
