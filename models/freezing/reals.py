"""Programs in floats: to find out what ranges the integers need, and to hold a program to the
network that it was made from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelzip.models.programs.arithmetic import Matrix
from pixelzip.models.programs.loops import Compiled
from pixelzip.models.programs.program import Program


class Reals(Compiled):
    """Floats in numpy arrays: every map holds what it means."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.types = {"narrow": np.dtype(np.float64), "wide": np.dtype(np.float64)}

    def matrix(
        self, weight: NDArray[Any], bias: NDArray[Any], scale: NDArray[Any], largest: int
    ) -> Matrix:
        return Matrix(lambda x: x @ weight, bias, scale)

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
