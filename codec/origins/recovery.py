"""The coefficients of luma and chroma, where each plane tells something of the others.

A plane's blocks are first sought by themselves, in the samples that are known. Where a colour is
clipped they are not; but what the other planes' blocks render there bounds the plane's own sample,
mostly to a single value. So the planes are looked at again with these bounds, until that does not
explain more of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.origins import blocks
from pixelzip.codec.origins.blocks import Blocks
from pixelzip.codec.origins.conversions import Conversion
from pixelzip.codec.origins.downsampling import Mask
from pixelzip.codec.origins.origin import strips
from pixelzip.codec.origins.upsampling import RULES, Extent, upsample
from pixelzip.codec.picture import Bytes
from pixelzip.codec.workers import Map

_STRIP = 1 << 16
"""So many pixels are compared by one thread."""
_ROUNDS = 3
_FEW = 1 / 2000
"""So few of the pixels are left to corrections."""
_TRUSTED = 0.5
"""The share of a block's samples that have to be known for the others to be believed."""

Choice = tuple[int, Extent, Extent]
"""The number of the rule by which chroma was stretched, and how samples lie about the pixels."""


class Known(NamedTuple):
    """A plane, and which of its samples are known."""

    plane: Bytes
    known: Mask


@dataclass(frozen=True)
class Picture:
    """Pixels, and how they were made of three planes."""

    pixels: Bytes
    conversion: Conversion
    choice: Choice

    def stretched(self, planes: list[Bytes], parallel: Map) -> list[Bytes]:
        """Luma and both chroma planes in the picture's size."""
        number, rows, columns = self.choice
        luma, *chroma = planes
        shape = luma.shape[0], luma.shape[1]
        stretch = partial(upsample, rule=RULES[number], rows=rows, columns=columns, shape=shape)
        return [luma, *parallel(stretch, chroma)]

    def wrong(self, planes: list[Bytes], parallel: Map) -> Mask:
        """The pixels that these planes do not give."""
        height, width, _ = self.pixels.shape
        stretched = self.stretched(planes, parallel)
        wrong = np.empty((height, width), np.bool_)

        def compare(part: slice) -> None:
            made = self.conversion.render(*(plane[part] for plane in stretched))
            np.any(made != self.pixels[part], axis=2, out=wrong[part])

        list(parallel(compare, list(strips(height, width, _STRIP))))
        return wrong


def find(
    picture: Picture, luma: Known, *chroma: Known, parallel: Map = map
) -> tuple[Blocks | None, ...]:
    """The blocks of each plane, None where there are none; and none at all without luma's."""
    seek = partial(blocks.find, parallel=parallel)
    first = seek(*luma)
    if first is None:
        return (None, None, None)
    found: list[Blocks | None] = [first]
    for one in chroma:
        like = found[-1] or first
        found.append(seek(*one, offsets=_offsets(first, picture.choice), like=like))
    planes = [luma, *chroma]
    rendered = list(parallel(_rendered, planes, found))
    wrong = picture.wrong(rendered, parallel)
    for _ in range(_ROUNDS):
        if wrong.mean() <= _FEW:
            break
        again = _again(picture, planes, found, rendered, parallel)
        rendered = list(parallel(_rendered, planes, again))
        left = picture.wrong(rendered, parallel)
        if left.sum() >= wrong.sum():
            break
        found, wrong = again, left
    return tuple(found)


def _rendered(one: Known, found: Blocks | None) -> Bytes:
    if found is None:
        return one.plane
    return blocks.render(found, (one.plane.shape[0], one.plane.shape[1]))


def _offsets(luma: Blocks, choice: Choice) -> list[tuple[int, int]]:
    """How chroma's blocks may lie where luma's lie so."""
    number, *extents = choice
    sides = []
    for start, step, extent in zip(
        (luma.top, luma.left), RULES[number].steps, extents, strict=True
    ):
        starts = (start, start + 8)[:step]
        sides.append([(at - extent.before) // step % 8 for at in starts])
    return [(top, left) for top in sides[0] for left in sides[1]]


def _again(
    picture: Picture,
    planes: list[Known],
    found: list[Blocks | None],
    rendered: list[Bytes],
    parallel: Map,
) -> list[Blocks | None]:
    """Blocks of planes of the picture's size, with what the others say; those of others stay."""
    stretched = picture.stretched(rendered, parallel)
    sure = parallel(_sure, planes, found, rendered)
    masks = [mask.astype(np.uint8) * np.uint8(255) for mask in sure]
    everywhere = [mask == 255 for mask in picture.stretched(masks, parallel)]

    def look(number: int) -> Blocks | None:
        before = found[number]
        plane, known = planes[number]
        if before is None or plane.shape != stretched[0].shape:
            return before
        where = np.nonzero(~known)
        samples = [one[where] for one in stretched]
        low, high = _bounds(picture, number, where, samples, [one[where] for one in everywhere])
        lows, highs, guess = plane.copy(), plane.copy(), plane.copy()
        lows[where], highs[where] = low, high
        guess[where] = np.clip(rendered[number][where], low, high)
        seek = partial(blocks.find, guess, known, lows, highs, parallel=parallel)
        return seek(offsets=[(before.top, before.left)], like=before) or before

    return list(parallel(look, range(len(planes))))


def _sure(one: Known, found: Blocks | None, rendered: Bytes) -> Mask:
    """Samples of blocks that go with all that is known of them, which is not little."""
    plane, known = one
    if found is None:
        return known
    down, across = (
        (np.arange(count) + start) // 8
        for count, start in zip(plane.shape, (found.top, found.left), strict=True)
    )

    def counted(mask: Mask) -> NDArray[np.int64]:
        """How many samples of each block."""
        rows = np.add.reduceat(mask, np.flatnonzero(np.diff(down, prepend=-1)), axis=0, dtype=int)
        return np.add.reduceat(rows, np.flatnonzero(np.diff(across, prepend=-1)), axis=1)

    wrong, there = counted(known & (rendered != plane)), counted(known)
    fine = (wrong == 0) & (there >= _TRUSTED * np.outer(np.bincount(down), np.bincount(across)))
    sure: Mask = fine[np.ix_(down, across)]
    return sure


def _bounds(
    picture: Picture,
    number: int,
    where: tuple[NDArray[np.int64], ...],
    samples: list[Bytes],
    sure: list[Mask],
) -> tuple[Bytes, Bytes]:
    """What a plane's samples may be at some pixels, given the other planes' where these are sure.

    Where the channels contradict each other it may be anything.
    """
    conversion = picture.conversion
    tables = (
        (conversion.luma, None, conversion.red),
        (conversion.luma, conversion.green1, conversion.green2),
        (conversion.luma, conversion.blue, None),
    )
    count = len(where[0])
    low, high = np.zeros(count, np.int64), np.full(count, 255)
    for channel, terms in enumerate(tables):
        own = terms[number]
        if own is None:
            continue
        others = [i for i, term in enumerate(terms) if term is not None and i != number]
        rest = sum(_table(terms[i])[samples[i]] for i in others)
        told = np.all([sure[i] for i in others], axis=0)
        value = picture.pixels[(*where, channel)].astype(np.int64)
        least = np.where(value == 0, -(1 << 40), (value << conversion.shift) - rest)
        most = np.where(value == 255, 1 << 40, (value + 1 << conversion.shift) - rest)
        first, last = _inverse(own, least, most)
        low = np.where(told, np.maximum(low, first), low)
        high = np.where(told, np.minimum(high, last), high)
    possible = low <= high
    return (
        np.where(possible, low, 0).astype(np.uint8),
        np.where(possible, high, 255).astype(np.uint8),
    )


def _table(table: NDArray[np.int32] | None) -> NDArray[np.int64]:
    assert table is not None
    return table.astype(np.int64)


def _inverse(
    table: NDArray[np.int32], least: NDArray[np.int64], most: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last sample whose entry is at least the one and below the other."""
    if table[255] > table[0]:
        return np.searchsorted(table, least), np.searchsorted(table, most) - 1
    first, last = np.searchsorted(table[::-1], least), np.searchsorted(table[::-1], most) - 1
    return 255 - last, 255 - first
