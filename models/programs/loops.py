"""What nodes do to numbers, in loops that numba compiles: where there is no compiled engine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.compiled import kernel, part
from pixelzip.codec.errors import DeviceError
from pixelzip.models.frozen.shell import LIMIT
from pixelzip.models.programs import tables
from pixelzip.models.programs.arithmetic import CELL_LIMIT, Matrix
from pixelzip.models.programs.program import Program

_REACH = tables.REACH << tables.STEP_BITS + tables.FRACTION_BITS
_SHIFT, _MASK = tables.FRACTION_BITS, (1 << tables.FRACTION_BITS) - 1


@cache
def float64_is_exact() -> bool:
    """Whether numpy's float64 products carry those of 16-bit integers."""
    x = np.full((64, 640), -(2**15))
    weight = np.full((640, 128), 2**15 - 1)
    x[1::2], x[2::4, ::2] = 2**15 - 1, 1
    weight[:, 1::2], weight[1::2, 2::4], weight[::3, 3::4] = -(2**15), -1, 1
    return np.array_equal(x.astype(np.float64) @ weight.astype(np.float64), x @ weight)


@kernel
def _places(base, row, column, height, width, depth, pitch, taps, stride, outside, out):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            if stride == -2:
                r, c = row[i] + taps[j, 0], column[i] + taps[j, 1]
                whole = r & 1 == 0 and c & 1 == 0
                r, c = r >> 1, c >> 1
            else:
                r, c = stride * row[i] + taps[j, 0], stride * column[i] + taps[j, 1]
                whole = True
            if whole and 0 <= r < height[i] and 0 <= c < width[i]:
                out[i, j] = base[i] + (r % depth[i]) * pitch[i] + c % pitch[i]
            else:
                above = outside == 1 and r < 0 and 0 <= c < width[i]
                out[i, j] = 1 if above or outside == 2 else 0


@part
def _sigmoid(x):  # type: ignore[no-untyped-def]
    z = np.int64(min(max(x, -_REACH), _REACH)) + _REACH
    at = np.uint64(z >> _SHIFT)
    line = (np.int64(tables.SIGMOID_SLOPE[at]) * (z & _MASK)) >> _SHIFT
    return np.int64(tables.SIGMOID[at]) + line


@part
def _tanh(x):  # type: ignore[no-untyped-def]
    return (_sigmoid(2 * np.int64(x)) - (1 << 21)) >> 6


@part
def _elu(x):  # type: ignore[no-untyped-def]
    if x > 0:
        return np.int64(x)
    z = np.int64(max(x, -_REACH)) + _REACH
    at = np.uint64(z >> _SHIFT)
    line = (np.int64(tables.EXP_SLOPE[at]) * (z & _MASK)) >> _SHIFT
    power = np.int64(tables.EXP[at]) + line
    return (power - (1 << 18) + 32) >> 6


@kernel
def _widen(product, bias, scale, out):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        which = i if bias.shape[0] > 1 else 0
        for c in range(out.shape[1]):
            x = np.rint((np.float64(product[i, c]) + bias[which, c]) * scale[c])
            out[i, c] = np.int32(min(max(x, -float(LIMIT)), float(LIMIT)))


@kernel
def _add(x, y):  # type: ignore[no-untyped-def]
    for i in range(x.shape[0]):
        for c in range(x.shape[1]):
            x[i, c] = min(max(np.int64(x[i, c]) + y[i, c], -LIMIT), LIMIT)


@kernel
def _activate(x, kind, scale, largest, out):  # type: ignore[no-untyped-def]
    channels = x.shape[1]
    for i in range(x.shape[0]):
        for c in range(channels):
            y = np.int64(x[i, c])
            if kind == 1:
                y = max(y, np.int64(0))
            elif kind >= 2:
                y = _elu(y)
            z = np.rint(np.float64(y) * scale[c])
            out[i, c] = np.int32(min(max(z, -largest), largest))
            if kind == 3:
                z = np.rint(np.float64(_elu(-np.int64(x[i, c]))) * scale[channels + c])
                out[i, channels + c] = np.int32(min(max(z, -largest), largest))


@kernel
def _gate_tanh(x, unit, out):  # type: ignore[no-untyped-def]
    channels = out.shape[1]
    for i in range(out.shape[0]):
        for c in range(channels):
            product = _tanh(x[i, c]) * (_sigmoid(x[i, channels + c]) >> 7)
            out[i, c] = (product * unit + (1 << 29)) >> 30


@kernel
def _gate_linear(x, out):  # type: ignore[no-untyped-def]
    channels = out.shape[1]
    for i in range(out.shape[0]):
        for c in range(channels):
            out[i, c] = (x[i, c] * _sigmoid(x[i, channels + c]) + (1 << 21)) >> 22


@kernel
def _lstm(sums, cell, unit, hidden):  # type: ignore[no-untyped-def]
    h = cell.shape[1]
    for i in range(cell.shape[0]):
        for c in range(h):
            forget, enter = _sigmoid(sums[i, h + c]) >> 7, _sigmoid(sums[i, 2 * h + c]) >> 7
            kept = (forget * cell[i, c]) >> 15
            new = kept + ((enter * _tanh(sums[i, 3 * h + c])) >> 14)
            new = min(max(new, -CELL_LIMIT), CELL_LIMIT)
            cell[i, c] = new
            product = (_sigmoid(sums[i, c]) >> 7) * _tanh(new >> 4)
            hidden[i, c] = (product * unit + (1 << 29)) >> 30


_KINDS = {"identity": 0, "relu": 1, "elu": 2, "concat_elu": 3}


class Compiled:
    """Integers in numpy arrays."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.types = {
            "narrow": np.dtype(np.int8 if program.bits == 8 else np.int16),
            "wide": np.dtype(np.int32),
        }

    def begin(self) -> None:
        """See `Arithmetic`, as for all that follow."""

    def array(self, values: NDArray[Any]) -> Any:
        return values

    def numbers(self, array: Any) -> NDArray[Any]:
        found: NDArray[Any] = array
        return found

    def joined(self, maps: list[Any], axis: int) -> Any:
        return np.concatenate(maps, axis)

    def empty(self, shape: tuple[int, ...], kind: str) -> Any:
        return np.zeros(shape, self.types[kind])

    def matrix(
        self, weight: NDArray[Any], bias: NDArray[Any], scale: NDArray[Any], largest: int
    ) -> Matrix:
        if not float64_is_exact():
            raise DeviceError("float64 products are not exact here: numpy's BLAS is at fault")
        held = weight.astype(np.float64)
        return Matrix(lambda x: x.astype(np.float64) @ held, bias.astype(np.float64), scale)

    def places(self, *arguments: Any) -> Any:
        *rest, taps, stride, outside = arguments
        out = np.empty((len(rest[0]), len(taps)), np.int64)
        _places(*rest, taps, stride, outside, out)
        return out

    def gather(self, store: Any, at: Any) -> Any:
        return store.take(at, 0).reshape(len(at), -1)

    def widen(self, product: Any, bias: Any, scale: Any) -> Any:
        out = np.empty(product.shape, np.int32)
        _widen(product, bias, scale, out)
        return out

    def add(self, maps: Sequence[Any]) -> Any:
        total = maps[0].astype(np.int32)
        for other in maps[1:]:
            _add(total, other)
        return total.astype(maps[0].dtype, copy=False)

    def activate(self, kind: str, x: Any, scale: Any) -> Any:
        shape = (len(x), x.shape[1] * (2 if kind == "concat_elu" else 1))
        out = np.empty(shape, self.types["narrow"])
        _activate(x, _KINDS[kind], scale, float(self.program.largest), out)
        return out

    def gate(self, kind: str, x: Any) -> Any:
        shape = (len(x), x.shape[1] // 2)
        if kind == "linear":
            out = np.empty(shape, np.int32)
            _gate_linear(x, out)
        else:
            out = np.empty(shape, self.types["narrow"])
            _gate_tanh(x, self.program.state_unit, out)
        return out

    def lstm(self, sums: Any, cell: Any) -> tuple[Any, Any]:
        hidden, cell = np.empty(cell.shape, self.types["narrow"]), cell.copy()
        _lstm(sums, cell, self.program.state_unit, hidden)
        return hidden, cell
