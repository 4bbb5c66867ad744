"""Freezes ``dct``, the network of JPEG coefficients: its floats become the integers of the format.

    python -m pixelzip.models.freezing.dct checkpoints/dct.pt photos/train -o network.xz

Units hand on numbers from 0 to 127. What the largest of a unit is, blocks of photographs tell; each
unit has a scale of its own, which goes into the weights of the layers after it. The weights of a
unit are the integers up to 127 that some power of 2 makes of them, and that is its shift.

A new network takes a new SHA-256 in `pixelzip.codec.jpeg.network`, a new prior and new golden
files.
"""

from __future__ import annotations

import argparse
import lzma
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelzip.models.networks.dct import UNIT, Dct, DctConfig
from pixelzip.models.training import coefficients, photographs
from pixelzip.models.training.coefficients import Batch, Coefficients

LARGEST = 127
LARGEST_SHIFT = 20
OCTAVE = 16
"""Units of a logarithm for a doubling."""
WHOLE = 96
"""The logarithm of one."""
MEAN_UNIT = 64
CALIBRATION_FILES, CALIBRATION_BLOCKS = 60, 5_000
QUANTILE = 0.9999
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "pb": 0}]

Floats = NDArray[np.float64]


@dataclass
class Frozen:
    """The integers, in the order in which the file has them."""

    weights: list[NDArray[np.int8]] = field(default_factory=list)
    biases: list[NDArray[np.int32]] = field(default_factory=list)
    shifts: list[NDArray[np.uint8]] = field(default_factory=list)

    def pack(self) -> bytes:
        parts = (self.weights, "i1"), (self.biases, "<i4"), (self.shifts, "u1")
        data = b"".join(one.astype(kind).tobytes() for many, kind in parts for one in many)
        return lzma.compress(data, check=lzma.CHECK_NONE, filters=FILTERS)


def shifts_for(*matrices: Floats) -> NDArray[np.int64]:
    """By how many bits each row's weights, of all matrices, may be made larger."""
    largest = np.max([np.abs(one).max(1) for one in matrices], axis=0)
    found = np.floor(np.log2(LARGEST / np.maximum(largest, 1e-9)))
    return np.asarray(np.clip(found, 0, LARGEST_SHIFT), np.int64)


def whole(matrix: Floats, shifts: NDArray[np.int64]) -> NDArray[np.int8]:
    scaled = np.rint(matrix * 2.0 ** shifts[:, None])
    return np.clip(scaled, -LARGEST, LARGEST).astype(np.int8)


def _half(shifts: NDArray[np.int64]) -> Floats:
    """So that shifting down rounds to the nearest."""
    return np.where(shifts > 0, 0.5, 0.0)


def _bias(values: Floats, shifts: NDArray[np.int64]) -> NDArray[np.int32]:
    found = np.rint((values + _half(shifts)) * 2.0**shifts)
    return np.clip(found, -(2**29), 2**29).astype(np.int32)


def array(tensor: Tensor) -> Floats:
    return np.asarray(tensor.detach().double().numpy())


def freeze(network: Dct, calibration: Batch) -> Frozen:
    """The integers of a network; ``calibration`` tells how large its units get."""
    first, second, hidden = (LARGEST / one for one in largest_units(network, calibration))
    found = Frozen()

    def layer(matrix: Floats, bias: Tensor, given: Floats | float, taken: Floats) -> None:
        matrix = matrix / given * taken[:, None]
        shifts = shifts_for(matrix)
        found.weights.append(whole(matrix, shifts))
        found.biases.append(_bias(array(bias) * taken, shifts))
        found.shifts.append(shifts.astype(np.uint8))

    def linear(one: nn.Module, given: Floats | float, taken: Floats) -> None:
        assert isinstance(one, nn.Linear)
        layer(array(one.weight), one.bias, given, taken)

    linear(network.first, UNIT, first)
    linear(network.second, first, second)

    # Stages add to one sum, so its parts have a unit's shift in common; the base may have more.
    edges = [array(one.weight) / UNIT * hidden[:, None] for one in _linears(network.edges)]
    shown = [array(one.weight) / UNIT * hidden[:, None] for one in _linears(network.shown)]
    shifts = shifts_for(*edges, *shown)
    base = array(network.base.weight) / second * hidden[:, None]
    more = np.maximum(shifts_for(base) - shifts, 0)
    base_bias = np.rint(array(network.base.bias) * hidden * 2.0 ** (shifts + more))
    found.weights.append(whole(base, shifts + more))
    found.biases.append(base_bias.astype(np.int32))
    hidden_shifts, base_shifts = shifts, more

    end_units = np.array([4 * 16, OCTAVE / np.log(2)])
    end_start = np.array([4 * 32, WHOLE + OCTAVE / np.log(2)])
    matrix = array(network.end.weight) / second * end_units[:, None]
    end_shifts = shifts_for(matrix)
    found.weights.append(whole(matrix, end_shifts))
    found.biases.append(_bias(array(network.end.bias) * end_units + end_start, end_shifts))
    head_shifts = [end_shifts]

    found.weights += [whole(one, hidden_shifts) for one in edges]
    units = np.array([MEAN_UNIT, 2 * OCTAVE / np.log(2)])
    starts = np.array([0, WHOLE + 2.5 * OCTAVE / np.log(2)])
    for head in _linears(network.heads):
        count = len(head.weight) // 2
        taken, start = np.tile(units, count), np.tile(starts, count)
        matrix = array(head.weight) / hidden * taken[:, None]
        shifts = shifts_for(matrix)
        found.weights.append(whole(matrix, shifts))
        found.biases.append(_bias(array(head.bias) * taken + start, shifts))
        head_shifts.append(shifts)
    found.weights += [whole(one, hidden_shifts) for one in shown]
    ends = array(network.ends) * hidden + _half(hidden_shifts)
    found.biases.append(np.rint(ends * 2.0**hidden_shifts).astype(np.int32))
    every = [hidden_shifts, base_shifts, *head_shifts]
    found.shifts += [one.astype(np.uint8) for one in every]
    return found


def _linears(modules: nn.ModuleList) -> list[nn.Linear]:
    return [one for one in modules if isinstance(one, nn.Linear)]


@torch.no_grad()
def largest_units(network: Dct, batch: Batch) -> tuple[Floats, Floats, Floats]:
    """Of the first, the second, and the stages' layer: what few numbers of each unit exceed."""
    inputs = torch.from_numpy(batch.inputs).float() / UNIT
    first = network.first(inputs).relu()
    second = network.second(first).relu()
    stages: list[Tensor] = []
    hooks = [
        head.register_forward_pre_hook(lambda _, given: stages.append(given[0]))
        for head in network.heads
    ]
    given = (batch.inputs, batch.values, batch.ends, batch.edges)
    network(*map(torch.from_numpy, given))
    for hook in hooks:
        hook.remove()
    return _largest(first), _largest(second), _largest(torch.cat(stages))


def _largest(units: Tensor) -> Floats:
    return np.maximum(np.quantile(array(units), QUANTILE, axis=0), 1e-3)


def load(path: Path) -> Dct:
    """The averaged weights of a checkpoint."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    network = Dct(DctConfig(**state["architecture"])).eval()
    network.load_state_dict(state["average"])
    return network


def calibration(data: Coefficients) -> Batch:
    chosen = np.random.default_rng(0).integers(0, data.count, CALIBRATION_BLOCKS)
    return data.batch(chosen)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    paths = photographs.find(given.data)
    some = paths[:: max(1, len(paths) // CALIBRATION_FILES)]
    batch = calibration(coefficients.coefficients(some, 2, 1))
    packed = freeze(load(given.checkpoint), batch).pack()
    given.output.write_bytes(packed)
    print(f"{len(packed):,} bytes")


if __name__ == "__main__":
    main()
