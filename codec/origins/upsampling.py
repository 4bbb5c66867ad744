"""How programs stretch chroma planes that have half a picture's rows, columns, or both.

Along a halved axis each sample becomes a pair of pixels. A pixel is made of the *near* sample, its
own, and the *far* one: the sample before for the first pixel of a pair, the one after for the
second. Where the far sample does not exist, the near one stands in for it. The two axes multiply,
and there is one rounding in all:

    pixel = (sum of weights * samples + bias) >> shift

with a bias that depends on whether the pixel is the first or second of its pair, down and across.
Mirroring and turning a picture exchanges these biases and nothing else, so each rule stands in the
table once for each way in which a picture can lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native
from pixelzip.codec.origins.origin import strips

Bytes = NDArray[np.uint8]


class Stretch(NamedTuple):
    """What becomes of one axis: weights (near, far) of the first and the second pixel of a pair.

    ``before`` and ``after`` are the overhangs that the axis may have; see `Extent`.
    """

    step: int
    first: tuple[int, int]
    second: tuple[int, int]
    before: tuple[int, ...]
    after: tuple[int, ...]


WHOLE = Stretch(1, (1, 0), (1, 0), (0,), (0,))
COPY = Stretch(2, (1, 0), (1, 0), (0, 1), (0, 1))
FANCY = Stretch(2, (3, 1), (3, 1), (0, 1, 2), (0, 1, 2))
AT_FIRST = Stretch(2, (2, 0), (1, 1), (0,), (0, 1, 2))  # a sample lies where a first pixel does
AT_SECOND = Stretch(2, (1, 1), (2, 0), (0, 2), (0, 1))


@dataclass(frozen=True)
class Upsampling:
    """A rule: what it does to rows and to columns, and its rounding."""

    name: str
    rows: Stretch
    columns: Stretch
    shift: int
    bias: tuple[tuple[int, int], tuple[int, int]]  # [second row of its pair][second column]

    @property
    def steps(self) -> tuple[int, int]:
        """Pixels for a sample, down and across."""
        return self.rows.step, self.columns.step

    @cached_property
    def weights(self) -> NDArray[np.int32]:
        """As the compiled library wants them: of rows, then columns."""
        axes = (self.rows, self.columns)
        return np.array([w for s in axes for w in (s.step, *s.first, *s.second)], np.int32)

    @cached_property
    def biases(self) -> NDArray[np.int32]:
        """As the compiled library wants them."""
        return np.array(self.bias, np.int32)

    def turned(self) -> Upsampling:
        """The rule with rows and columns exchanged."""
        (a, b), (c, d) = self.bias
        return Upsampling(self.name, self.columns, self.rows, self.shift, ((a, c), (b, d)))


def _rule(
    name: str, rows: Stretch, columns: Stretch, shift: int, bias: tuple[int, int, int, int]
) -> Upsampling:
    return Upsampling(name, rows, columns, shift, (bias[:2], bias[2:]))


RULES = (
    _rule("not halved", WHOLE, WHOLE, 0, (0, 0, 0, 0)),
    _rule("copied", WHOLE, COPY, 0, (0, 0, 0, 0)),
    _rule("copied", COPY, WHOLE, 0, (0, 0, 0, 0)),
    _rule("copied", COPY, COPY, 0, (0, 0, 0, 0)),
    # libjpeg's "fancy" upsampling, and libjpeg-turbo's of rows.
    _rule("interpolated", WHOLE, FANCY, 2, (1, 2, 1, 2)),
    _rule("interpolated, mirrored", WHOLE, FANCY, 2, (2, 1, 2, 1)),
    _rule("interpolated", FANCY, WHOLE, 2, (1, 1, 2, 2)),
    _rule("interpolated, mirrored", FANCY, WHOLE, 2, (2, 2, 1, 1)),
    _rule("interpolated", FANCY, FANCY, 4, (8, 7, 8, 7)),
    _rule("interpolated, mirrored", FANCY, FANCY, 4, (7, 8, 7, 8)),
    _rule("interpolated, turned", FANCY, FANCY, 4, (8, 8, 7, 7)),
    _rule("interpolated, turned and mirrored", FANCY, FANCY, 4, (7, 7, 8, 8)),
    # WebP's.
    _rule("interpolated evenly", FANCY, FANCY, 4, (8, 8, 8, 8)),
    # PhotoCD's.
    _rule("means between", AT_FIRST, AT_FIRST, 2, (2, 2, 2, 2)),
    _rule("means between, mirrored", AT_FIRST, AT_SECOND, 2, (2, 2, 2, 2)),
    _rule("means between, turned", AT_SECOND, AT_FIRST, 2, (2, 2, 2, 2)),
    _rule("means between, upside down", AT_SECOND, AT_SECOND, 2, (2, 2, 2, 2)),
)
"""All rules; their numbers in the file are their positions here."""


class Extent(NamedTuple):
    """How the samples of an axis lie about its pixels.

    On a halved axis, the pairs reach ``before`` pixels beyond the picture on its near side and
    ``after`` on its far side: 1 where the picture begins or ends within a pair, 2 where it has
    one more sample, that only interpolation sees.
    """

    before: int
    after: int

    def samples(self, pixels: int, stretch: Stretch) -> int:
        """How many samples there are along an axis of that many pixels."""
        return (self.before + pixels + self.after) // stretch.step

    def cut(self, start: int, stop: int, pixels: int, stretch: Stretch) -> tuple[Extent, int, int]:
        """Whole pairs around the pixels from ``start`` to ``stop``, and those beside them.

        Their extent and where they begin and end, in an axis of so many pixels.
        """
        step = stretch.step
        start = ((start + self.before) // step - 1) * step - self.before
        stop = (-(-(stop + self.before) // step) + 1) * step - self.before
        before = 0 if start > 0 else self.before
        after = 0 if stop < pixels else self.after
        return Extent(before, after), max(start, 0), min(stop, pixels)


def extents(pixels: int, stretch: Stretch) -> list[Extent]:
    """All ways in which samples can lie about that many pixels, the least overhang first."""
    every = (Extent(before, after) for before in stretch.before for after in stretch.after)
    return [e for e in every if (e.before + pixels + e.after) % stretch.step == 0]


def upsample(
    samples: Bytes, rule: Upsampling, rows: Extent, columns: Extent, shape: tuple[int, int]
) -> Bytes:
    """(plane height, plane width) uint8 samples -> uint8 of the picture's shape."""
    if rule.rows.step == rule.columns.step == 1:
        return samples
    (height, width), left, step = shape, columns.before, rule.rows.step
    pixels, library = np.empty(shape, np.uint8), native.coding()
    if library is not None:
        samples = np.ascontiguousarray(samples)
        if not library.stretching_pixels(
            samples, *samples.shape, rule.weights, rule.biases, rule.shift, rows.before, left,
            width, 0, height, pixels,
        ):  # fmt: skip
            raise MemoryError("there is not enough memory to stretch a plane")
        return pixels
    for part in strips(*samples.shape):
        first = max(0, part.start - 2)  # with neighbours on either side, if there are any
        some = samples[first : part.stop + 2].astype(np.uint16)
        total = double(double(some, 0, rule.rows), 1, rule.columns)
        add_bias(total, rule)
        total >>= rule.shift
        top = max(step * part.start - rows.before, 0)
        bottom = min(step * part.stop - rows.before, height)
        skip = rows.before - step * first
        pixels[top:bottom] = total[top + skip : bottom + skip, left : left + width]
    return pixels


def double(samples: NDArray[Any], axis: int, stretch: Stretch) -> NDArray[Any]:
    """Along rows (axis 0) or columns (1), each sample becomes its pair of weighted sums."""
    if stretch.step == 1:
        return samples
    *others, height, width = samples.shape
    shape = (*others, 2 * height, width) if axis == 0 else (*others, height, 2 * width)
    pairs = np.empty(shape, samples.dtype)
    s, out = (a.swapaxes(-1, -2) if axis == 0 else a for a in (samples, pairs))
    first, second = out[..., 0::2], out[..., 1::2]
    np.multiply(s, stretch.first[0], out=first)
    np.multiply(s, stretch.second[0], out=second)
    if far := stretch.first[1]:
        first[..., 1:] += far * s[..., :-1]
        first[..., 0] += far * s[..., 0]
    if far := stretch.second[1]:
        second[..., :-1] += far * s[..., 1:]
        second[..., -1] += far * s[..., -1]
    return pairs


def add_bias(total: NDArray[Any], rule: Upsampling) -> None:
    """Adds the rounding of each pixel to its sum, in place; pixel (0, 0) is the first of a pair."""
    for i, row in enumerate(rule.bias):
        for j, bias in enumerate(row):
            total[..., i::2, j::2] += bias
