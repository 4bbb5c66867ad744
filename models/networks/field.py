"""The receptive field of a network, as its configuration declares it and as tests find it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """Which earlier pixels a pixel's conditionals see. ``None`` means: as many as there are.

    The field is a rectangle, unless ``slope`` says how many columns each row farther up adds to
    its right side; the row just above is seen up to column ``lag - 1``. With ``own`` the left side
    widens in the same way, from so many columns in the pixel's own row::

        Field(2, 2, 2, lag=3)       Field(3, 2, 3, lag=2, slope=1)       Field(.., own=2, slope=1)

        row -3                            o o o o o o                  o o o o o o o o o
        row -2    o o o o o               o o o o o                      o o o o o o o
        row -1    o o o o o               o o o o                          o o o o o
        row  0    o o x                   o o x                              o o x
    """

    above: int | None  # rows
    left: int | None  # columns
    right: int | None  # columns, in the rows above
    lag: int | None  # columns that a row must trail the row above; None: it needs all of it
    slope: int | None = None
    own: int | None = None

    def sees(self, row: int, column: int) -> bool:
        """Whether the pixel at this offset is seen; rows above and columns left are negative."""
        up = -row
        if up < 0 or (up == 0 and column >= 0) or up > _or_all(self.above):
            return False
        left, right = _or_all(self.left), _or_all(self.right)
        if self.own is not None:
            left = min(left, self.own + (self.slope or 0) * up)
        if self.slope is not None and self.lag is not None:
            right = min(right, self.lag - 1 + self.slope * (up - 1))
        return -left <= column <= right

    def __str__(self) -> str:
        above, left, right = (
            "all" if side is None else str(side) for side in (self.above, self.left, self.right)
        )
        return f"{above} above, {left} left, {right} right"


def _or_all(count: int | None) -> float:
    return math.inf if count is None else count
