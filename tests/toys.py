"""Toys: conditionals without a network, of any order, with classes, given planes; and origins."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelzip.codec import origins
from pixelzip.codec.conditional import Given, Shape, lagged
from pixelzip.codec.errors import FormatError
from pixelzip.codec.origins.origin import Found, Samples
from pixelzip.codec.picture import Box, Plane, PlaneLayout
from pixelzip.codec.workers import Map

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
    one before. If it is told of earlier planes, it expects the pixel to rise above the left one as
    they do, and looks a little ahead.
    """

    def __init__(
        self, order: str, classes: int = 0, coded: Sequence[int] = (1, 3), given: int = 0
    ) -> None:
        self.order, self.classes, self.coded, self.given = ORDERS[order], classes, coded, given
        text = f"{order} {classes} {given}"
        self.fingerprint = hashlib.sha256(text.encode()).digest()

    def codes(self, channels: int) -> bool:
        return channels in self.coded

    def steps(self, shape: Shape) -> NDArray[np.int32]:
        return self.order(shape)

    def parallel(
        self, pixels: Bytes, label: int = 0, given: Given | None = None
    ) -> Iterator[NDArray[np.int32]]:
        height, width, channels = pixels.shape
        slope = self.slope(given, pixels.shape[:2])
        values = np.zeros((height + 2, width + 2, channels), np.int32)
        values[1:-1, 1:-1] = pixels
        steps = np.full((height + 2, width + 2), NEVER, np.int32)
        steps[1:-1, 1:-1] = self.steps((height, width))
        for row in range(1, height + 1):
            at = np.full(width, row), np.arange(1, width + 1)
            near = [(at[0] + y, at[1] + x) for y, x in AROUND]
            known = np.array([steps[place] < steps[at] for place in near])
            guess = self.guess(np.array([values[place] for place in near]), known)
            guess += slope[row - 1][:, None]
            yield np.stack(
                [self.logits(guess, values[at], c, label) for c in range(channels)], axis=1
            )

    def stepwise(
        self,
        shapes: Sequence[Shape],
        channels: int,
        labels: Sequence[int],
        given: Sequence[Given] | None = None,
    ) -> ToyStepper:
        told: Sequence[Given | None] = [None] * len(shapes) if given is None else given
        slopes = [self.slope(one, shape) for one, shape in zip(told, shapes, strict=True)]
        return ToyStepper(self, shapes, channels, labels, slopes)

    def slope(self, given: Given | None, shape: Shape) -> NDArray[np.int32]:
        """(height, width): how far a pixel should rise above those before it."""
        assert (self.given > 0) == (given is not None)
        if given is None:
            return np.zeros(shape, np.int32)
        assert given.shape[:2] == shape
        luma = np.pad(given[:, :, :4].astype(np.int32), ((0, 1), (1, 1), (0, 0)), mode="edge")
        ahead = 2 * luma[:-1, 1:-1].sum(2) + luma[:-1, 2:].sum(2) + luma[1:, 1:-1].sum(2)
        rise = (ahead - 4 * luma[:-1, :-2].sum(2)) // 32
        if given.shape[2] == 5:
            first = given[:, :, 4].astype(np.int32)
            rise = rise + np.diff(first, axis=1, prepend=first[:, :1]) // 2
        return rise.astype(np.int32)

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
        self,
        toy: Toy,
        shapes: Sequence[Shape],
        channels: int,
        labels: Sequence[int],
        slopes: Sequence[NDArray[np.int32]],
    ) -> None:
        self.slopes = slopes
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
        places = zip(tiles, rows, columns, strict=True)
        self.guess += np.array([self.slopes[t][r, c] for t, r, c in places], np.int32)[:, None]

    def parameters(self, channel: int) -> NDArray[np.int32]:
        label = self.labels[self.at[0]]
        return self.toy.logits(self.guess, self.values[self.at], channel, label)

    def reveal(self, channel: int, values: Bytes) -> None:
        self.values[(*self.at, channel)] = values
        self.known[self.at] = channel == self.values.shape[3] - 1


LUMA = Toy("lag 3", coded=[1])
CHROMA = Toy("raster", coded=[1], given=5)


class Halved:
    """A toy of an origin: green, and red and blue less green at half the resolution or in full.

    The parameter says of each direction whether chroma is halved, and the phase.
    """

    NUMBER = 100

    def find(self, pixels: Samples, parallel: Map = map) -> Found | None:
        if pixels.itemsize != 1 or pixels.shape[2] != 3:
            return None
        shape = pixels.shape[:2]
        green = pixels[:, :, 1:2]
        red, blue = (np.clip(pixels[:, :, c].astype(int) - green[:, :, 0] + 128, 0, 255)
                     for c in (0, 2))  # fmt: skip
        for number in (15, 3, 7, 11, 1, 2, 5, 10, 0):
            parameters = bytes([number])
            _, chroma, _ = self.layout(parameters, shape)
            rows, columns = (np.minimum(step * np.arange(n), side - 1) for n, step, side in zip(
                (chroma.height, chroma.width), chroma.step, shape, strict=True))  # fmt: skip
            planes = [Plane(green, "luma")]
            for plane in (blue, red):
                samples = plane[rows][:, columns, None].astype(np.uint8)
                planes.append(Plane(samples, "chroma", chroma.step, chroma.phase))
            rendered = self.render(parameters, [plane.samples for plane in planes], shape)
            if (rendered == pixels).all(axis=2).mean() > 0.7:
                return Found(parameters, tuple(planes))
        return None

    def layout(self, parameters: bytes, shape: tuple[int, int]) -> tuple[PlaneLayout, ...]:
        if len(parameters) != 1 or parameters[0] > 15 or parameters[0] >> 2 & ~parameters[0] & 3:
            raise FormatError("the file is damaged: a toy has other parameters")
        (height, width), number = shape, parameters[0]
        step = (1 + (number & 1), 1 + (number >> 1 & 1))
        phase = (number >> 2 & 1, number >> 3 & 1)
        size = -(-height // step[0]), -(-width // step[1])
        chroma = PlaneLayout(*size, 1, "chroma", step, phase)
        return PlaneLayout(height, width, 1, "luma"), chroma, chroma

    def render(self, parameters: bytes, planes: Sequence[Bytes], shape: tuple[int, int]) -> Samples:
        _, chroma, _ = self.layout(parameters, shape)
        rows, columns = (np.minimum((np.arange(n) + phase) // step, side - 1)
                         for n, step, phase, side in zip(
            shape, chroma.step, chroma.phase, (chroma.height, chroma.width), strict=True
        ))  # fmt: skip
        green = planes[0][:, :, 0].astype(int)
        blue, red = (plane[rows][:, columns, 0] + green - 128 for plane in planes[1:])
        return np.clip(np.stack([red, green, blue], axis=2), 0, 255).astype(np.uint8)

    def part(self, parameters: bytes, shape: tuple[int, int], box: Box) -> tuple[bytes, Box]:
        return parameters, (0, 0, *shape)

    def describe(self, parameters: bytes) -> str:
        return f"a toy, {parameters[0]}"


class Few:
    """A toy of an origin of 16-bit samples: at most 100 values, which the parameters list."""

    NUMBER = 101

    def find(self, samples: Samples, parallel: Map = map) -> Found | None:
        values, numbers = np.unique(samples, return_inverse=True)
        if len(values) > 100 or samples.itemsize != 2:
            return None
        channels = samples.shape[2]
        parameters = bytes([channels]) + values.astype("<u2").tobytes()
        plane = numbers.reshape(samples.shape).astype(np.uint8)
        return Found(parameters, (Plane(plane, "colour" if channels == 3 else "luma"),))

    def layout(self, parameters: bytes, shape: tuple[int, int]) -> tuple[PlaneLayout, ...]:
        if len(parameters) % 2 == 0 or not 3 <= len(parameters) <= 201:
            raise FormatError("the file is damaged: a toy has other parameters")
        if parameters[0] not in (1, 3):
            raise FormatError("the file is damaged: a toy has other channels")
        kind: Any = "colour" if parameters[0] == 3 else "luma"
        return (PlaneLayout(*shape, parameters[0], kind),)

    def render(self, parameters: bytes, planes: Sequence[Bytes], shape: tuple[int, int]) -> Samples:
        values = np.frombuffer(parameters[1:], "<u2").astype(np.uint16)
        samples: Samples = values[np.minimum(planes[0], len(values) - 1)]
        return samples

    def part(self, parameters: bytes, shape: tuple[int, int], box: Box) -> tuple[bytes, Box]:
        return parameters, box

    def describe(self, parameters: bytes) -> str:
        return f"a toy of {len(parameters) // 2} values"


@contextmanager
def toy_origins() -> Iterator[None]:
    """The toys in place of the real origins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(origins, "ALL", (Halved(), Few()))
        yield
