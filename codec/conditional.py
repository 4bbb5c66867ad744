"""What the codec asks of a network: integers that describe the conditional of each sub-pixel.

A *conditional* is the distribution of one sub-pixel given the earlier ones. The codec knows no
network; it sees this interface alone. Both faces of it must give the same integers for the same
pixels, to the last bit, on every machine:

* `Conditional.parallel` knows all the pixels of a tile (encoding);
* `Conditional.stepwise` learns them front by front (decoding).

A *front* is the set of pixels of a tile with the same ``t = column + lag * row``: they do not see
each other, so they are decoded together. Within a front, pixels are ordered by row; within a pixel,
sub-pixels are ordered as its channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int]
"""(height, width) of a tile, in pixels."""


class Stepper(Protocol):
    """Evaluates the conditionals of several tiles at once, front by front."""

    def select(self, tiles: NDArray[np.intp], rows: NDArray[np.intp], front: int) -> None:
        """Begin a front: the pixels (n,) whose column is ``front - lag * row`` in their tile."""

    def parameters(self, channel: int) -> NDArray[np.int32]:
        """(n, 3, components) mixture parameters of one sub-pixel of the selected pixels."""

    def reveal(self, channel: int, values: NDArray[np.uint8]) -> None:
        """Tell the values (n,) of that sub-pixel, which the later ones are conditioned on."""


class Conditional(Protocol):
    """A frozen network, as far as the codec is concerned."""

    @property
    def fingerprint(self) -> bytes:
        """32 bytes that name the network's integers: the dialect of the file."""

    @property
    def lag(self) -> int:
        """How many columns a row must trail the row above."""

    @property
    def forkable(self) -> bool:
        """Whether a forked process can go on using it: not on a GPU."""

    def parallel(self, pixels: NDArray[np.uint8]) -> Iterator[NDArray[np.int32]]:
        """Yield bands of (rows * width, channels, 3, components) parameters, top to bottom.

        ``pixels`` is one tile, (height, width, channels); channels is 3, or 1 for a grey plane.
        """

    def stepwise(self, shapes: Sequence[Shape], channels: int) -> Stepper:
        """Start to decode tiles of these shapes in step."""
