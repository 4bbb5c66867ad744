"""What an origin is: the interface that each module in this folder answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.picture import Box, Plane, PlaneLayout
from pixelzip.codec.workers import Map

if TYPE_CHECKING:
    from pixelzip.codec.origins.blocks import Blocks

Samples = NDArray[Any]
"""(height, width, channels) uint8; uint16 where an origin is one of 16-bit samples."""


@dataclass(frozen=True)
class Found:
    """What pixels were computed from: an origin's parameters and planes."""

    parameters: bytes
    planes: tuple[Plane, ...]
    blocks: tuple[Blocks | None, ...] = ()
    """Of each plane the coefficients that it was computed from in turn, if some were found."""


_STRIP = 1 << 19
"""So many pixels are looked at together, so that intermediate results stay small."""


def strips(height: int, width: int, pixels: int = _STRIP) -> Iterator[slice]:
    """The rows of each strip, all but the last one of an even number of them."""
    rows = max(2, pixels // width & ~1)
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


class Origin(Protocol):
    """What pixels were computed from, and how: a module of this folder."""

    NUMBER: int
    """In the file."""

    def find(self, pixels: Samples, parallel: Map = map, /) -> Found | None:
        """The planes and parameters of pixels; None, and soon, where there is nothing.

        The pixels may be of 1 or 3 channels, of 8 or 16 bits. How work is shared out by
        ``parallel`` changes nothing.
        """

    def layout(self, parameters: bytes, shape: tuple[int, int], /) -> tuple[PlaneLayout, ...]:
        """The planes of a picture of (height, width), from the parameters alone.

        Luma comes before chroma. FormatError for parameters that `find` never gives.
        """

    def render(
        self, parameters: bytes, planes: Sequence[NDArray[np.uint8]], shape: tuple[int, int], /
    ) -> Samples:
        """The pixels of a picture of (height, width), exactly. Any samples are legal."""

    def part(self, parameters: bytes, shape: tuple[int, int], box: Box, /) -> tuple[bytes, Box]:
        """What to render a box of a picture of (height, width) from: parameters and a larger box.

        They render that part of the picture from the samples that lie over it, and its pixels
        within ``box`` are those that the whole picture has there.
        """

    def describe(self, parameters: bytes, /) -> str:
        """In words."""
