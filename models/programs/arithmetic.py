"""What a program's nodes do to numbers: what `engine` asks of arrays.

Integers in numpy arrays (`pixelzip.models.programs.loops`) or in torch's
(`pixelzip.models.gpu.programs`), or floats, to find out what ranges the integers need
(`pixelzip.models.freezing.reals`). Tests hold the first two to each other, and the compiled engine
to both.

Rounding is to nearest, ties to even, of a single float64 product: one conversion, one
multiplication, one rounding, each defined to the last bit by IEEE 754 and never fused with another.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from pixelzip.models.programs import tables
from pixelzip.models.programs.program import WIDE, Program

CELL_UNIT = 1 << 16
CELL_LIMIT = 1 << 30
OUTSIDE = {"": 0, "row": 1, "left": 2, "right": 2}
"""Beyond the border there are zeros, but for an LSTM's states: above (1) or all around (2) there is
what has been learnt."""


class Matrix:
    """A matrix product and how its sums become wide: ``(x @ weight + bias) * scale``."""

    def __init__(self, multiply: Any, bias: Any, scale: Any) -> None:
        self.multiply, self.bias, self.scale = multiply, bias, scale


class Arithmetic(Protocol):
    """The functions, over arrays of its own kind."""

    program: Program

    def begin(self) -> None:
        """Called before each evaluation, in its thread."""

    def array(self, values: NDArray[Any]) -> Any:
        """A numpy array as this arithmetic holds it."""

    def numbers(self, array: Any) -> NDArray[Any]:
        """The way back."""

    def empty(self, shape: tuple[int, ...], kind: str) -> Any:
        """Zeros for a ``narrow`` or a ``wide`` map."""

    def joined(self, maps: list[Any], axis: int) -> Any:
        """Several arrays as one."""

    def matrix(
        self, weight: NDArray[Any], bias: NDArray[Any], scale: NDArray[Any], largest: int
    ) -> Matrix:
        """The product with integers (K, N), for inputs within +-``largest``."""

    def places(self, *arguments: Any) -> Any:
        """(n, J): where the taps of n positions lie in a store, see `OUTSIDE`."""

    def gather(self, store: Any, at: Any) -> Any:
        """(n, J * C): the entries ``at`` (n, J) of a store (N, C), side by side."""

    def widen(self, product: Any, bias: Any, scale: Any) -> Any:
        """(n, N) sums -> wide. ``bias`` is (1, N), or a row for each sum."""

    def add(self, maps: Sequence[Any]) -> Any:
        """The sum of maps of one kind."""

    def activate(self, kind: str, x: Any, scale: Any) -> Any:
        """Wide -> narrow, by a scale for each channel of the result."""

    def gate(self, kind: str, x: Any) -> Any:
        """(n, 2 C) wide -> (n, C): the first half's tanh or the half itself, times a sigmoid."""

    def lstm(self, sums: Any, cell: Any) -> tuple[Any, Any]:
        """(n, 4 h) sums and (n, h) cells -> hidden states and new cells."""


assert WIDE == 1 << tables.STEP_BITS + tables.FRACTION_BITS
