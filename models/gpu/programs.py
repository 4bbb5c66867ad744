"""What a program's nodes do to numbers, in plain torch for any device.

The same integers as elsewhere: each line is one exact operation, and nothing here may be fused by a
compiler. Products are carried as `pixelzip.models.gpu.carriers` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelzip.models.frozen.shell import LIMIT
from pixelzip.models.gpu import carriers
from pixelzip.models.programs import tables
from pixelzip.models.programs.arithmetic import CELL_LIMIT, Matrix
from pixelzip.models.programs.program import Program


class Plain:
    """The same integers in tensors, on any device. Nothing here may be fused by a compiler."""

    def __init__(self, program: Program, carrier: str | None = None, device: str = "cpu") -> None:
        self.program, self.carrier = program, carrier or carriers.asked_for()
        self.device = carriers.device_of(device)
        narrow = torch.int8 if program.bits == 8 else torch.int16
        self.types = {"narrow": narrow, "wide": torch.int32}

    def begin(self) -> None:
        """See `pixelzip.models.programs.arithmetic.Arithmetic`, as for all that follow."""
        if self.device.type == "cpu":
            # Threads share out tiles; inside one, a second level of threads only gets in the way.
            torch.set_num_threads(1)

    def array(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def numbers(self, array: Tensor) -> NDArray[Any]:
        found: NDArray[Any] = array.cpu().numpy()
        return found

    def joined(self, maps: list[Tensor], axis: int) -> Tensor:
        return torch.cat(maps, axis)

    def empty(self, shape: tuple[int, ...], kind: str) -> Tensor:
        return torch.zeros(shape, dtype=self.types[kind], device=self.device)

    def matrix(
        self, weight: NDArray[Any], bias: NDArray[Any], scale: NDArray[Any], largest: int
    ) -> Matrix:
        held = torch.from_numpy(np.ascontiguousarray(weight))
        multiply = carriers.integer_product(held, largest, self.carrier, self.device)
        return Matrix(multiply, self.array(bias.astype(np.float64)), self.array(scale))

    def places(self, *arguments: Any) -> Tensor:
        base, row, column, height, width, depth, pitch, taps, stride, outside = arguments
        up = stride == -2
        r = row[:, None] * (1 if up else stride) + taps[:, 0]
        c = column[:, None] * (1 if up else stride) + taps[:, 1]
        whole = torch.ones_like(r, dtype=torch.bool)
        if up:
            whole = (r & 1 == 0) & (c & 1 == 0)
            r, c = r >> 1, c >> 1
        within = (c >= 0) & (c < width[:, None])
        inside = whole & (r >= 0) & (r < height[:, None]) & within
        learnt = torch.full_like(inside, outside == 2) | ((r < 0) & within & (outside == 1))
        at = base[:, None] + (r % depth[:, None]) * pitch[:, None] + c % pitch[:, None]
        return torch.where(inside, at, learnt.long())

    def gather(self, store: Tensor, at: Tensor) -> Tensor:
        return store[at].flatten(1)

    def widen(self, product: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
        x = torch.round((product.double() + bias) * scale)
        return x.clamp(-LIMIT, LIMIT).to(torch.int32)

    def add(self, maps: Sequence[Tensor]) -> Tensor:
        total = maps[0].to(torch.int32)
        for other in maps[1:]:
            total = (total + other).clamp(-LIMIT, LIMIT)
        return total.to(maps[0].dtype)

    def activate(self, kind: str, x: Tensor, scale: Any) -> Tensor:
        wide = x.long()
        if kind == "relu":
            wide = wide.clamp(min=0)
        elif kind == "elu":
            wide = elu(wide)
        elif kind == "concat_elu":
            wide = torch.cat([elu(wide), elu(-wide)], 1)
        largest = self.program.largest
        return torch.round(wide.double() * scale).clamp(-largest, largest).to(self.types["narrow"])

    def gate(self, kind: str, x: Tensor) -> Tensor:
        value, gate = x.long().chunk(2, 1)
        if kind == "linear":
            return ((value * sigmoid(gate) + (1 << 21)) >> 22).to(torch.int32)
        return self._state(hyperbolic_tangent(value), gate)

    def lstm(self, sums: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        out, forget, enter, content = sums.long().chunk(4, 1)
        kept = ((sigmoid(forget) >> 7) * cell) >> 15
        new = kept + (((sigmoid(enter) >> 7) * hyperbolic_tangent(content)) >> 14)
        new = new.clamp(-CELL_LIMIT, CELL_LIMIT)
        return self._state(hyperbolic_tangent(new >> 4), out), new.to(torch.int32)

    def _state(self, value: Tensor, gate: Tensor) -> Tensor:
        product = value * (sigmoid(gate) >> 7)
        return ((product * self.program.state_unit + (1 << 29)) >> 30).to(self.types["narrow"])


@cache
def _on(device: str) -> tuple[Tensor, ...]:
    arrays = (tables.SIGMOID, tables.SIGMOID_SLOPE, tables.EXP, tables.EXP_SLOPE)
    return tuple(torch.from_numpy(a).long().to(device) for a in arrays)


def sigmoid(wide: Tensor) -> Tensor:
    """The logistic function of wide numbers (int64), in units of 2^-22."""
    level, slope, _, _ = _on(str(wide.device))
    limit = tables.REACH << tables.STEP_BITS + tables.FRACTION_BITS
    z = wide.clamp(-limit, limit) + limit
    at = z >> tables.FRACTION_BITS
    return level[at] + ((slope[at] * (z & (1 << tables.FRACTION_BITS) - 1)) >> tables.FRACTION_BITS)


def hyperbolic_tangent(wide: Tensor) -> Tensor:
    """tanh of wide numbers (int64), in units of 2^-15."""
    return (sigmoid(2 * wide) - (1 << 21)) >> 6


def elu(wide: Tensor) -> Tensor:
    """ELU of wide numbers (int64), wide."""
    _, _, level, slope = _on(str(wide.device))
    limit = tables.REACH << tables.STEP_BITS + tables.FRACTION_BITS
    z = wide.clamp(-limit, 0) + limit
    at = z >> tables.FRACTION_BITS
    fraction = z & (1 << tables.FRACTION_BITS) - 1
    power = level[at] + ((slope[at] * fraction) >> tables.FRACTION_BITS)
    return torch.where(wide > 0, wide, (power - (1 << 18) + 32) >> 6)
