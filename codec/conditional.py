"""What the codec asks of a network: integers that describe the conditional of each sub-pixel.

A *conditional* is the distribution of one sub-pixel given the earlier ones. The codec knows no
network; it sees this interface alone. Both faces of it must give the same integers for the same
pixels, to the last bit, on every machine:

* `Conditional.parallel` knows all the pixels of a tile (encoding);
* `Conditional.stepwise` learns them front by front (decoding).

A *front* is the set of pixels of a tile that are decoded in one step: they do not see each other.
`Conditional.steps` says which step that is. Within a front, pixels are ordered by row, then by
column; within a pixel, sub-pixels are ordered as its channels.

The integers are of one of two kinds, always the same for one network: the parameters of a mixture
of K logistics, (3, K) for each sub-pixel, or the logits of its 256 values, (256,). Their units are
in `pixelzip.codec.cdf`, which tells the kinds apart by their shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.coder import Decoder
from pixelzip.codec.workers import Map

Shape = tuple[int, int]
"""(height, width) of a tile, in pixels."""

Given = NDArray[np.uint8]
"""(height, width, 4 or 5): samples of earlier planes, *whole*, over each pixel of a tile: four of
the luma, and that of the first chroma plane if it is the second (`pixelzip.codec.given`)."""


class Stepper(Protocol):
    """Evaluates the conditionals of several tiles at once, front by front.

    For each front ``select`` is called once, then ``parameters`` and ``reveal`` by turns, for one
    channel after the other.
    """

    def select(
        self, tiles: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> None:
        """Begin a front: these pixels (n,), each in one of the tiles. Tile by tile, in order."""

    def parameters(self, channel: int) -> NDArray[np.int32]:
        """(n, 3, K) mixture parameters or (n, 256) logits of one sub-pixel of these pixels."""

    def reveal(self, channel: int, values: NDArray[np.uint8]) -> None:
        """Tell the values (n,) of that sub-pixel, which the later ones are conditioned on."""


class Conditional(Protocol):
    """A frozen network, as far as the codec is concerned."""

    @property
    def fingerprint(self) -> bytes:
        """32 bytes that name the network's integers: the dialect of the file."""

    @property
    def given(self) -> int:
        """How many samples of earlier planes it wants to know at each pixel, at most: 0 or 5."""

    @property
    def classes(self) -> int:
        """Of a class-conditional network: how many, at most 256. 0 for any other."""

    def codes(self, channels: int) -> bool:
        """Whether it codes tiles of that many channels: 1 (grey) or 3 (colour)."""

    def steps(self, shape: Shape) -> NDArray[np.int32]:
        """(height, width): in which step each pixel of such a tile is decoded, from 0 on.

        A step may be without pixels; the codec skips it.
        """

    def parallel(
        self, pixels: NDArray[np.uint8], label: int = 0, given: Given | None = None
    ) -> Iterator[NDArray[np.int32]]:
        """Yield bands of (rows * width, channels, 3, K) or (rows * width, channels, 256) integers.

        They go from top to bottom, in raster order. ``pixels`` is one tile, (height, width,
        channels), of a number of channels that the network codes; ``label`` is its class, and
        ``given`` what the tile is given, by a network that wants to know.
        """

    def stepwise(
        self,
        shapes: Sequence[Shape],
        channels: int,
        labels: Sequence[int],
        given: Sequence[Given] | None = None,
    ) -> Stepper:
        """Start to decode tiles of these shapes in step; each has a label, 0 without classes.

        If the network wants to know earlier planes, each tile has what it is ``given``.
        """


@runtime_checkable
class WholeTiles(Protocol):
    """What a conditional may have besides: all of a tile in one call, fast and side by side.

    Threads that are in these calls do not wait for each other. All is as the codec does it with
    `Conditional.parallel` and `Conditional.stepwise`.
    """

    def score_tile(
        self,
        pixels: NDArray[np.uint8],
        label: int = 0,
        given: Given | None = None,
        bands: int = 1,
        parallel: Map = map,
    ) -> NDArray[np.float32]:
        """(nibbles, 3) intervals of `pixelzip.codec.cdf`, in the order of decoding.

        A network that can score a band of rows by itself lets ``parallel`` share out so many.
        """

    def decode_tile(
        self,
        payload: bytes,
        shape: Shape,
        channels: int,
        label: int = 0,
        given: Given | None = None,
    ) -> NDArray[np.uint8]:
        """(height, width, channels), from a message of the coder. FormatError if it is damaged."""


@dataclass(frozen=True)
class Shift:
    """What is added to the mixtures of a tile (`pixelzip.codec.offsets`).

    ``mixtures`` (channels, 3, K) as they are; and to the means of channel c what its ``weights``,
    row c of (channels, shared + channels), make of its factors, the first shared + c.
    """

    mixtures: NDArray[np.int32]
    weights: NDArray[np.int32]


@runtime_checkable
class Factored(Protocol):
    """What a conditional of mixtures may have besides: numbers that their means may move with.

    These are the *factors* of a sub-pixel: so many that the sub-pixels of a pixel *share*, and one
    for each earlier sub-pixel of the pixel. Its steppers have them, too (`FactoredStepper`).
    """

    def shared(self) -> int:
        """How many are shared."""

    def parameters_of_tile(
        self,
        pixels: NDArray[np.uint8],
        given: Given | None = None,
        bands: int = 1,
        parallel: Map = map,
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(pixels, channels, 3, K): all of `Conditional.parallel`, in bands as `score_tile`.

        And (pixels, shared + channels) factors, of which channel c has the first shared + c.
        """


class FactoredStepper(Stepper, Protocol):
    """A stepper of a `Factored`."""

    def factors(self, channel: int) -> NDArray[np.int32]:
        """(n, shared + channel), after `parameters` and before `reveal`."""


@runtime_checkable
class FittedTiles(WholeTiles, Factored, Protocol):
    """What a conditional of mixtures may have besides: tiles that mixtures were fitted to."""

    def decode_fitted(
        self,
        decoder: Decoder,
        shape: Shape,
        channels: int,
        shift: Shift,
        given: Given | None = None,
    ) -> NDArray[np.uint8]:
        """As `WholeTiles.decode_tile`, of what is left to decode; all is shifted.

        FormatError also if the shift is of another network.
        """


def factored(conditional: Conditional) -> Factored | None:
    """The conditional, if it has that."""
    return cast(Factored, conditional) if _does(type(conditional), Factored) else None


def fitted_tiles(conditional: Conditional) -> FittedTiles | None:
    """The conditional, if it has that."""
    return cast(FittedTiles, conditional) if _does(type(conditional), FittedTiles) else None


def whole_tiles(conditional: Conditional) -> WholeTiles | None:
    """The conditional, if it has that besides."""
    return cast(WholeTiles, conditional) if _does(type(conditional), WholeTiles) else None


@cache
def _does(kind: type, protocol: type) -> bool:
    return issubclass(kind, protocol)  # to find out takes as long as a small tile's layers


def lagged(shape: Shape, lag: int) -> NDArray[np.int32]:
    """The steps of a network whose rows trail the row above by ``lag`` columns.

    Those of a 6x3 tile at a lag of 2, where pixels with the same number are decoded together::

        0 1 2 3 4 5
        2 3 4 5 6 7
        4 5 6 7 8 9
    """
    height, width = shape
    rows, columns = np.arange(height, dtype=np.int32), np.arange(width, dtype=np.int32)
    return columns + np.int32(lag) * rows[:, None]


def trails_by_two(conditional: Conditional, shape: Shape) -> bool:
    """Whether the rows of a tile of this shape trail by two columns, and there are no classes.

    So do frozen networks, and methods that ask for mixtures are for such networks alone.
    """
    return not conditional.classes and np.array_equal(conditional.steps(shape), lagged(shape, 2))


Order = tuple[NDArray[np.intp], NDArray[np.intp]]


def front_order(steps: NDArray[np.int32]) -> Order:
    """The pixels of a tile in decoding order, and where each front ends in it.

    ``steps`` is (height, width), see `Conditional.steps`. Both answers are for pixels numbered in
    raster order; the second has one entry for each step that has pixels.
    """
    flat = steps.reshape(-1)
    order = np.argsort(flat, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(flat[order])) + 1, len(order))
    return order, ends
