"""Toy conditionals without a network: any order of the pixels, logits for an answer, classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.conditional import Shape, lagged

Bytes = NDArray[np.uint8]
AROUND = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
NEVER = 2**31 - 1


def raster(shape: Shape) -> NDArray[np.int32]:
    """Pixel by pixel."""
    return np.arange(shape[0] * shape[1], dtype=np.int32).reshape(shape)


def coarse(shape: Shape) -> NDArray[np.int32]:
    """Every second pixel of every second row first, then the others: with steps left out."""
    steps = raster(shape) + shape[0] * shape[1]
    steps[::2, ::2] -= shape[0] * shape[1]
    return steps


def rows(shape: Shape) -> NDArray[np.int32]:
    """A whole row in a step, from the bottom up."""
    return np.repeat(np.arange(shape[0], dtype=np.int32)[::-1, None], shape[1], axis=1)


ORDERS: dict[str, Callable[[Shape], NDArray[np.int32]]] = {
    "raster": raster,
    "coarse": coarse,
    "rows": rows,
    "lag 3": lambda shape: lagged(shape, 3),
}


class Toy:
    """Guesses a pixel from those of the eight around it whose step comes before its own.

    In class ``c`` it expects values ``4 * (c // 2)`` above them, so every second class is like the
    one before.
    """

    forkable = True

    def __init__(self, order: str, classes: int = 0, coded: Sequence[int] = (1, 3)) -> None:
        self.order, self.classes, self.coded = ORDERS[order], classes, coded
        self.fingerprint = bytes([len(order), classes]) * 16

    def codes(self, channels: int) -> bool:
        return channels in self.coded

    def steps(self, shape: Shape) -> NDArray[np.int32]:
        return self.order(shape)

    def parallel(self, pixels: Bytes, label: int = 0) -> Iterator[NDArray[np.int32]]:
        height, width, channels = pixels.shape
        values = np.zeros((height + 2, width + 2, channels), np.int32)
        values[1:-1, 1:-1] = pixels
        steps = np.full((height + 2, width + 2), NEVER, np.int32)
        steps[1:-1, 1:-1] = self.steps((height, width))
        for row in range(1, height + 1):
            at = np.full(width, row), np.arange(1, width + 1)
            near = [(at[0] + y, at[1] + x) for y, x in AROUND]
            known = np.array([steps[place] < steps[at] for place in near])
            guess = self.guess(np.array([values[place] for place in near]), known)
            yield np.stack(
                [self.logits(guess, values[at], c, label) for c in range(channels)], axis=1
            )

    def stepwise(self, shapes: Sequence[Shape], channels: int, labels: Sequence[int]) -> ToyStepper:
        return ToyStepper(self, shapes, channels, labels)

    def guess(self, near: NDArray[np.int32], known: NDArray[np.bool_]) -> NDArray[np.int32]:
        """(8, n, channels) values, (8, n) -> (n, channels) the mean of the known ones."""
        total = (near * known[:, :, None]).sum(0)
        count = known.sum(0)[:, None]
        mean: NDArray[np.int32] = np.where(count > 0, total // np.maximum(count, 1), 128)
        return mean.astype(np.int32)

    def logits(
        self,
        guess: NDArray[np.int32],
        own: NDArray[np.int32],
        channel: int,
        label: NDArray[np.int32] | int,
    ) -> NDArray[np.int32]:
        """(n, 256), from the guesses and the pixel's own earlier channel."""
        centre = guess[:, channel] + 4 * (np.asarray(label) // 2)
        if channel:
            centre = centre + (own[:, channel - 1] - guess[:, channel - 1]) // 2
        logits: NDArray[np.int32] = -40 * abs(np.arange(256, dtype=np.int32) - centre[:, None])
        return logits.astype(np.int32)


class ToyStepper:
    """The same, front by front, from what has been revealed."""

    def __init__(
        self, toy: Toy, shapes: Sequence[Shape], channels: int, labels: Sequence[int]
    ) -> None:
        self.toy, self.labels = toy, np.array(labels, np.int32)
        side = [max(s) for s in zip(*shapes, strict=True)]
        size = (len(shapes), side[0] + 2, side[1] + 2)
        self.values = np.zeros((*size, channels), np.int32)
        self.known = np.zeros(size, bool)

    def select(
        self, tiles: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> None:
        self.at = tiles, rows + 1, columns + 1
        near = [(tiles, rows + 1 + y, columns + 1 + x) for y, x in AROUND]
        known = np.array([self.known[place] for place in near])
        self.guess = self.toy.guess(np.array([self.values[place] for place in near]), known)

    def parameters(self, channel: int) -> NDArray[np.int32]:
        label = self.labels[self.at[0]]
        return self.toy.logits(self.guess, self.values[self.at], channel, label)

    def reveal(self, channel: int, values: Bytes) -> None:
        self.values[(*self.at, channel)] = values
        self.known[self.at] = channel == self.values.shape[3] - 1
