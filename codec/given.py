"""What a chroma plane is given: the samples of earlier planes that lie over each of its own.

Chroma is coded after the luma, so all of the luma is known, below and to the right too. Over a
chroma sample lie up to four luma samples (four times the same one where chroma is not halved), and
the second chroma plane is given the first as well::

    given (height, width, 4 or 5):  luma 00, 01, 10, 11, first chroma
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.container import area
from pixelzip.codec.picture import Box, Bytes, PlaneLayout


def earlier(layouts: Sequence[PlaneLayout], number: int) -> list[int]:
    """The planes that a plane is given, of those of a component: luma, and perhaps a chroma."""
    if layouts[number].kind != "chroma":
        return []
    kinds = [layout.kind for layout in layouts[:number]]
    return [kinds.index(kind) for kind in ("luma", "chroma") if kind in kinds]


def samples(plane: PlaneLayout, box: Box, planes: Sequence[tuple[PlaneLayout, Bytes]]) -> Bytes:
    """What a tile of a chroma plane is given, (height, width, 4 or 5), from the earlier planes."""
    (luma, tones), *others = planes
    rows, columns = _places(plane, luma, box)
    found = [tones[r][:, c, 0] for r in rows for c in columns]
    found += [chroma[area(box)][:, :, 0] for _, chroma in others]
    return np.stack(found, axis=2)


class Lazy(Sequence[Bytes]):
    """Samples of tiles that are put together when they are asked for: of all they are many."""

    def __init__(self, makers: Sequence[Callable[[], Bytes]]) -> None:
        self.makers = makers

    def __len__(self) -> int:
        return len(self.makers)

    @overload
    def __getitem__(self, index: int) -> Bytes: ...

    @overload
    def __getitem__(self, index: slice) -> Lazy: ...

    def __getitem__(self, index: int | slice) -> Bytes | Lazy:
        return Lazy(self.makers[index]) if isinstance(index, slice) else self.makers[index]()


def reach(plane: PlaneLayout, box: Box, other: PlaneLayout) -> Box:
    """The part of an earlier plane that a tile is given."""
    if other.kind == "chroma":
        return box
    rows, columns = _places(plane, other, box)
    top, left = int(rows[0][0]), int(columns[0][0])
    return top, left, int(rows[1][-1]) + 1 - top, int(columns[1][-1]) + 1 - left


def _places(
    plane: PlaneLayout, luma: PlaneLayout, box: Box
) -> tuple[list[NDArray[np.intp]], list[NDArray[np.intp]]]:
    """The rows and columns of the luma: for each of the tile's the first, and the second."""
    top, left, height, width = box
    sides = (top, height, luma.height), (left, width, luma.width)
    found = []
    for axis, (start, count, limit) in enumerate(sides):
        step, phase = plane.step[axis] // luma.step[axis], plane.phase[axis]
        first = step * np.arange(start, start + count) - phase
        found.append([np.clip(first + i * step // 2, 0, limit - 1) for i in (0, 1)])
    return found[0], found[1]
