"""Tables of quantisation steps: the standard's, as libjpeg scales them to a quality of 1 to 100."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.uint16]
"""(64,) steps, row by row."""
Mask = NDArray[np.bool_]

ZIGZAG = np.array(
    sorted(
        range(64),
        key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8),
    )
)
"""Place in the zigzag -> place in a block, row by row."""

_LUMA = [
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
]
_CHROMA = [
    *(17, 18, 24, 47, 99, 99, 99, 99),
    *(18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99),
    *([99] * 32),
]

COUNT = 200
"""How many there are: for luma of quality 1 to 100, then for chroma."""


@cache
def tables() -> NDArray[np.uint16]:
    """All of them, (COUNT, 64)."""
    quality = np.arange(1, 101)
    factor = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    base = np.array([_LUMA, _CHROMA])[:, None, :]
    scaled: NDArray[np.int64] = (base * factor[:, None] + 50) // 100
    return scaled.clip(1, 255).astype(np.uint16).reshape(COUNT, 64)


def transposed(table: Table) -> Table:
    """The same for blocks whose rows and columns are exchanged."""
    return table.reshape(8, 8).T.ravel()


def number(steps: Table) -> int | None:
    """The number of the table with these steps; None if there is none."""
    return next((i for i, one in enumerate(tables()) if np.array_equal(one, steps)), None)


def usual(steps: Table, used: Mask, like: int | None, is_chroma: bool) -> tuple[Table, int] | None:
    """A standard table, perhaps transposed, with these steps where they are ``used``, or None.

    And its quality, of several the nearest to ``like``; first of all that of a table for chroma.
    """
    both = tables().reshape(2, 100, 8, 8)[[int(is_chroma), int(not is_chroma)]]
    every = np.stack([both, both.swapaxes(-1, -2)], 2).reshape(2, 100, 2, 64)
    fits = np.argwhere((every[..., used] == steps[used]).all(axis=-1))
    if not len(fits):
        return None
    apart = [0 if like is None else abs(int(at) + 1 - like) for at in fits[:, 1]]
    kind, at, turned = fits[int(np.argmin(apart))]
    return every[kind, at, turned], int(at) + 1
