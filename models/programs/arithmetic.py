"""What a program's nodes do to numbers, three times over.

* `Compiled`: integers, in loops compiled for the CPU;
* `Plain`: the same integers in plain torch, for any device; a test holds the two to each other;
* `Reals`: floats, to find out what ranges the integers need, and to hold the program to the
  network that it was made from.

Rounding is to nearest, ties to even, of a single float64 product: one conversion, one
multiplication, one rounding, each defined to the last bit by IEEE 754 and never fused with another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelzip.codec.compiled import kernel
from pixelzip.models.frozen import carriers
from pixelzip.models.frozen.file import LIMIT
from pixelzip.models.programs import tables
from pixelzip.models.programs.program import WIDE, Program

CELL_UNIT = 1 << 16
_CELL_LIMIT = 1 << 30
_REACH = tables.REACH << tables.STEP_BITS + tables.FRACTION_BITS
_SHIFT, _MASK = tables.FRACTION_BITS, (1 << tables.FRACTION_BITS) - 1
OUTSIDE = {"": 0, "row": 1, "left": 2, "right": 2}
"""Beyond the border there are zeros, but for an LSTM's states: above (1) or all around (2) there is
what has been learnt."""


class Matrix:
    """A matrix product and how its sums become wide: ``(x @ weight + bias) * scale``."""

    def __init__(self, multiply: Any, bias: Any, scale: Any) -> None:
        self.multiply, self.bias, self.scale = multiply, bias, scale


# --- Compiled ------------------------------------------------------------------------------------


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


@kernel
def _sigmoid(x):  # type: ignore[no-untyped-def]
    z = np.int64(min(max(x, -_REACH), _REACH)) + _REACH
    at = np.uint64(z >> _SHIFT)
    line = (np.int64(tables.SIGMOID_SLOPE[at]) * (z & _MASK)) >> _SHIFT
    return np.int64(tables.SIGMOID[at]) + line


@kernel
def _tanh(x):  # type: ignore[no-untyped-def]
    return (_sigmoid(2 * np.int64(x)) - (1 << 21)) >> 6


@kernel
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
            new = min(max(new, -_CELL_LIMIT), _CELL_LIMIT)
            cell[i, c] = new
            product = (_sigmoid(sums[i, c]) >> 7) * _tanh(new >> 4)
            hidden[i, c] = (product * unit + (1 << 29)) >> 30


_KINDS = {"identity": 0, "relu": 1, "elu": 2, "concat_elu": 3}


class Compiled:
    """Integers in numpy arrays, on the CPU."""

    device = torch.device("cpu")

    def __init__(self, program: Program, carrier: str | None = None) -> None:
        self.program, self.carrier = program, carrier
        self.types = {
            "narrow": np.dtype(np.int8 if program.bits == 8 else np.int16),
            "wide": np.dtype(np.int32),
        }

    def array(self, values: Any) -> Any:
        """A tensor or numpy array as this arithmetic holds it."""
        return values.contiguous().numpy() if isinstance(values, Tensor) else values

    def tensor(self, array: Any) -> Tensor:
        """The way back, for what `pixelzip.models.programs.heads` does."""
        return torch.from_numpy(array)

    def empty(self, shape: tuple[int, ...], kind: str) -> Any:
        """Zeros for a ``narrow`` or a ``wide`` map."""
        return np.zeros(shape, self.types[kind])

    def matrix(self, weight: Tensor, bias: Tensor, scale: Tensor, largest: int) -> Matrix:
        """The product with integers (K, N), for inputs within +-``largest``."""
        inner = carriers.integer_product(weight, largest, self.carrier, self.device)
        return Matrix(
            lambda x: inner(torch.from_numpy(x)).numpy(),
            bias.double().reshape(-1, weight.shape[1]).numpy(),
            scale.numpy(),
        )

    def places(self, *arguments: Any) -> Any:
        """(n, J): where the taps of n positions lie in a store, see `OUTSIDE`."""
        *rest, taps, stride, outside = arguments
        out = np.empty((len(rest[0]), len(taps)), np.int64)
        _places(*rest, taps, stride, outside, out)
        return out

    def gather(self, store: Any, at: Any) -> Any:
        """(n, J * C): the entries ``at`` (n, J) of a store (N, C), side by side."""
        return store.take(at, 0).reshape(len(at), -1)

    def widen(self, product: Any, bias: Any, scale: Any) -> Any:
        """(n, N) sums -> wide. ``bias`` is (1, N), or a row for each sum."""
        out = np.empty(product.shape, np.int32)
        _widen(product, bias, scale, out)
        return out

    def add(self, maps: Sequence[Any]) -> Any:
        """The sum of maps of one kind."""
        total = maps[0].astype(np.int32)
        for other in maps[1:]:
            _add(total, other)
        return total.astype(maps[0].dtype, copy=False)

    def activate(self, kind: str, x: Any, scale: Any) -> Any:
        """Wide -> narrow, by a scale for each channel of the result."""
        shape = (len(x), x.shape[1] * (2 if kind == "concat_elu" else 1))
        out = np.empty(shape, self.types["narrow"])
        _activate(x, _KINDS[kind], scale, float(self.program.largest), out)
        return out

    def gate(self, kind: str, x: Any) -> Any:
        """(n, 2 C) wide -> (n, C): the first half's tanh or the half itself, times a sigmoid."""
        shape = (len(x), x.shape[1] // 2)
        if kind == "linear":
            out = np.empty(shape, np.int32)
            _gate_linear(x, out)
        else:
            out = np.empty(shape, self.types["narrow"])
            _gate_tanh(x, self.program.state_unit, out)
        return out

    def lstm(self, sums: Any, cell: Any) -> tuple[Any, Any]:
        """(n, 4 h) sums and (n, h) cells -> hidden states and new cells."""
        hidden, cell = np.empty(cell.shape, self.types["narrow"]), cell.copy()
        _lstm(sums, cell, self.program.state_unit, hidden)
        return hidden, cell


# --- Plain ---------------------------------------------------------------------------------------


class Plain:
    """The same integers in tensors, on any device. Nothing here may be fused by a compiler."""

    def __init__(
        self, program: Program, carrier: str | None = None, device: torch.device | None = None
    ) -> None:
        self.program, self.carrier = program, carrier
        self.device = device or torch.device("cpu")
        narrow = torch.int8 if program.bits == 8 else torch.int16
        self.types = {"narrow": narrow, "wide": torch.int32}

    def array(self, values: Any) -> Tensor:
        found = values if isinstance(values, Tensor) else torch.from_numpy(values)
        return found.to(self.device)

    def tensor(self, array: Tensor) -> Tensor:
        return array

    def empty(self, shape: tuple[int, ...], kind: str) -> Tensor:
        return torch.zeros(shape, dtype=self.types[kind], device=self.device)

    def matrix(self, weight: Tensor, bias: Tensor, scale: Tensor, largest: int) -> Matrix:
        multiply = carriers.integer_product(weight, largest, self.carrier, self.device)
        bias = bias.double().reshape(-1, weight.shape[1])
        return Matrix(multiply, bias.to(self.device), scale.to(self.device))

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
            wide = tables.elu(wide)
        elif kind == "concat_elu":
            wide = torch.cat([tables.elu(wide), tables.elu(-wide)], 1)
        largest = self.program.largest
        return torch.round(wide.double() * scale).clamp(-largest, largest).to(self.types["narrow"])

    def gate(self, kind: str, x: Tensor) -> Tensor:
        value, gate = x.long().chunk(2, 1)
        if kind == "linear":
            return ((value * tables.sigmoid(gate) + (1 << 21)) >> 22).to(torch.int32)
        return self._state(tables.hyperbolic_tangent(value), gate)

    def lstm(self, sums: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        out, forget, enter, content = sums.long().chunk(4, 1)
        kept = ((tables.sigmoid(forget) >> 7) * cell) >> 15
        new = kept + (((tables.sigmoid(enter) >> 7) * tables.hyperbolic_tangent(content)) >> 14)
        new = new.clamp(-_CELL_LIMIT, _CELL_LIMIT)
        return self._state(tables.hyperbolic_tangent(new >> 4), out), new.to(torch.int32)

    def _state(self, value: Tensor, gate: Tensor) -> Tensor:
        product = value * (tables.sigmoid(gate) >> 7)
        return ((product * self.program.state_unit + (1 << 29)) >> 30).to(self.types["narrow"])


# --- Reals ---------------------------------------------------------------------------------------


class Reals(Compiled):
    """Floats in numpy arrays: every map holds what it means."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.types = {"narrow": np.dtype(np.float64), "wide": np.dtype(np.float64)}

    def matrix(self, weight: Tensor, bias: Tensor, scale: Tensor, largest: int) -> Matrix:
        held = weight.double().numpy()
        rows = bias.double().reshape(-1, weight.shape[1]).numpy()
        return Matrix(lambda x: x @ held, rows, scale)

    def widen(self, product: Any, bias: Any, scale: Any) -> Any:
        return product + bias

    def add(self, maps: Sequence[Any]) -> Any:
        return sum(maps[1:], maps[0])

    def activate(self, kind: str, x: Any, scale: Any) -> Any:
        if kind == "relu":
            return np.maximum(x, 0)
        if kind == "concat_elu":
            x = np.concatenate([x, -x], 1)
        return x if kind == "identity" else np.where(x > 0, x, np.expm1(np.minimum(x, 0)))

    def gate(self, kind: str, x: Any) -> Any:
        value, gate = np.split(x, 2, 1)
        return (np.tanh(value) if kind == "tanh" else value) * _logistic(gate)

    def lstm(self, sums: Any, cell: Any) -> tuple[Any, Any]:
        out, forget, enter, content = np.split(sums, 4, 1)
        cell = _logistic(forget) * cell + _logistic(enter) * np.tanh(content)
        return _logistic(out) * np.tanh(cell), cell


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 + 0.5 * np.tanh(x / 2)


Arithmetic = Compiled | Plain

assert WIDE == 1 << tables.STEP_BITS + tables.FRACTION_BITS
