"""Planes that a JPEG decoder computed from quantised coefficients, in blocks of 8 by 8 samples.

A decoder multiplies each coefficient with the step of its frequency, undoes the transform of each
block, adds 128 and rounds. `render` does what libjpeg and libjpeg-turbo do by default ("islow", the
accurate integer transform). It is two products with a matrix of integers, `WAVES`:

    D[v, u] = saturated(step[v, u] * coefficient[v, u])
    H[y, u] = saturated((sum over v of WAVES[v, y] * D[v, u] + 2^10) >> 11)
    S[y, x] = (sum over u of WAVES[u, x] * H[y, u] + 2^17) >> 18
    sample  = S + 128, or 0 or 255 where it is beyond them

Saturated means: to what 16 bits can hold, -2^15 to 2^15 - 1; so that every sum fits 32 bits. No
encoder makes coefficients that come near to that.

Columns come first, and H is rounded. So a picture that was transposed after decoding (turned by a
quarter, say) is another one than that of the transposed coefficients. Mirroring changes nothing
but signs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native
from pixelzip.codec.origins import steps
from pixelzip.codec.origins.downsampling import Mask
from pixelzip.codec.origins.steps import Like, Steps, window_gains
from pixelzip.codec.picture import Bytes
from pixelzip.codec.workers import Map, shares

WAVES = np.array(
    [
        [8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192],
        [11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363],
        [10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703],
        [9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633],
        [8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192],
        [6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437],
        [4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433],
        [2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260],
    ]
)
"""(frequency, place): 2^13 times the cosines, as sums of libjpeg's rounded constants."""

_WINDOWS = (8, 256)
"""In so many places the grid is looked for at first, and at most; ..."""
_AREA = 1024
"""... then in one for so many samples."""
_PRICE = 64
"""What speaks for a step has to exceed that, in 16ths: one of them always fits best."""
_EVIDENCE = 16 * 25
"""What has to speak for a grid, in 16ths, beyond what speaks for another, ..."""
_RIVAL = 1.3
"""... so many times."""
_HOPE = 16 * 6
"""With less than that it isn't looked for in more places."""
_GRIDS = 4
"""At most so many of several grids are tried."""
_STRIDE = 1_000_003
"""A prime, so that counting by it visits all of a number of blocks."""
_TRIED = 512
"""So many blocks are solved before all of them are."""
_FEWEST = 4
"""Of so many of them most samples have to be known."""
_MEASURED = 128
"""Of so many blocks steps are read that others than these cannot hide."""
_LATER = 255
"""In place of the number of samples that do not fit, in blocks of which less is known."""
_QUICK, _EFFORT = 20, 300
"""So many moves are made in search for a block's coefficients."""
_MISFITS = 3
"""So many samples of a block may be wrong, though they are said to be known."""
_NOISY = 0.05
"""Where more blocks than these have some, it is the samples that are wrong."""
_SHARE, _OFFSETS = 16, 8
"""So many blocks at least are solved by one thread, and so many offsets tried."""
_LEAST = 0.6
"""The share of blocks that have to fit, ..."""
_FINE, _WHOLLY = 3.0, 0.25
"""... and of those that have to fit wholly where the mean of the steps is less."""


@dataclass(frozen=True)
class Blocks:
    """Quantised coefficients of a plane, and how its blocks lie."""

    steps: Steps
    """(64,): row by row, the frequency along rows of samples running fastest."""
    coefficients: NDArray[np.int16]
    """(rows, columns, 64), in the order of the steps."""
    top: int
    left: int
    """So many samples of the first blocks lie outside the plane, before it: 0 to 7."""
    transposed: bool
    """Whether the plane was transposed after it was decoded. Steps and coefficients are then
    transposed as well; the decoder's first pass ran along rows."""


def size(shape: tuple[int, int], top: int, left: int) -> tuple[int, int]:
    """Rows and columns of blocks that cover a plane."""
    return (top + shape[0] + 7) // 8, (left + shape[1] + 7) // 8


def render(blocks: Blocks, shape: tuple[int, int]) -> Bytes:
    """The plane of (height, width) that a decoder makes of blocks. Any coefficients are legal.

    ValueError if there are not as many blocks as `size` says.
    """
    (height, width), (rows, columns) = shape, size(shape, blocks.top, blocks.left)
    if blocks.coefficients.shape != (rows, columns, 64) or blocks.steps.shape != (64,):
        raise ValueError(f"blocks of {blocks.coefficients.shape} do not cover a plane of {shape}")
    plane = np.empty(shape, np.uint8)
    library = native.coding()
    if library is not None:
        library.blocks_render(
            *(np.ascontiguousarray(blocks.coefficients), np.ascontiguousarray(blocks.steps)),
            *(rows, columns, blocks.transposed, blocks.top, blocks.left, height, width, plane),
        )
        return plane
    for row in range(rows):
        made = _samples(blocks.coefficients[row], blocks.steps, blocks.transposed)
        strip = made.swapaxes(0, 1).reshape(8, 8 * columns)
        y = 8 * row - blocks.top
        plane[max(y, 0) : y + 8] = strip[max(-y, 0) :, blocks.left : blocks.left + width][
            : height - max(y, 0)
        ]
    return plane


def find(
    plane: Bytes,
    known: Mask,
    low: Bytes | None = None,
    high: Bytes | None = None,
    *,
    offsets: Sequence[tuple[int, int]] | None = None,
    like: Blocks | None = None,
    parallel: Map = map,
) -> Blocks | None:
    """The blocks that a plane (height, width) was decoded from, if it was.

    A sample that is not known is a guess, between ``low`` and ``high`` where they are given. One
    of 0 or 255 may have been clamped, and a few that are known may be wrong all the same. Blocks
    that render to other samples than those of the plane are near to them.

    ``offsets`` are all (top, left) that come into question. ``like`` are the blocks of another
    component: they lie the same way round, and their steps are likely, or those of a chroma table
    of their quality. None where there is no library.
    """
    library = native.coding()
    if library is None:
        return None
    low = np.where(known, plane, 0 if low is None else np.minimum(low, plane))
    high = np.where(known, plane, 255 if high is None else np.maximum(high, plane))
    bounds = (plane, low.astype(np.uint8), high.astype(np.uint8))
    search = _Search(library, parallel, *(np.ascontiguousarray(samples) for samples in bounds))
    ways: tuple[bool, ...] = (False, True)
    hint = None
    if like is not None:
        ways = (like.transposed,)
        hint = Like(like.steps, (like.coefficients != 0).any((0, 1)), like.transposed)
    fewest = 1 if offsets else _FEWEST

    def look(place: tuple[int, int]) -> tuple[float, Blocks | None]:
        """What the best steps for a grid are worth."""
        best, found = 0.0, None
        for chosen in search.steps(*place, hint):
            count = (*size(plane.shape, *place), 64)
            tried = [Blocks(chosen, np.zeros(count, np.int16), *place, way) for way in ways]
            fits = [search.attempt(blocks, fewest) for blocks in tried]
            # Large steps say more, where they fit.
            worth = max(fits) ** 4 * (1 + float(np.log(chosen).mean()))
            if max(fits) >= _LEAST and worth > best:
                best, found = worth, tried[int(np.argmax(fits))]
        return best, found

    looked: list[tuple[float, Blocks | None]] = list(parallel(look, search.offsets(offsets)))
    _, found = max(looked, key=lambda one: one[0], default=(0, None))  # the first one of several
    if found is None or search.solve(found) < _LEAST:
        return None
    return found


@dataclass(frozen=True)
class _Search:
    """A plane of which blocks are sought: samples, and between what bounds they are."""

    library: Any
    parallel: Map
    plane: Bytes
    low: Bytes
    high: Bytes

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.plane, self.low, self.high, *self.plane.shape

    def offsets(self, given: Sequence[tuple[int, int]] | None) -> list[tuple[int, int]]:
        """Where the grid may lie, (top, left): what is most likely, or of those given a few."""
        first, last = _WINDOWS
        if given is not None:
            scores = self._scores(last)
            return sorted(given, key=lambda o: -scores[-o[0] % 8 * 8 + -o[1] % 8])[:_GRIDS]
        share = max(first, self.plane.size // _AREA)
        for most in sorted({min(n, last) for n in (first, share, 4 * share, 16 * share)}):
            scores = self._scores(most)
            *_, second, best = np.sort(scores)
            if best > _EVIDENCE + _RIVAL * second:
                row, column = divmod(int(scores.argmax()), 8)
                return [(-row % 8, -column % 8)]
            if most >= share and best < _HOPE + _RIVAL * second:
                break
        return []

    def _scores(self, most: int) -> NDArray[np.int64]:
        """(64,): what speaks for a grid at each offset in that many windows, in 16ths."""
        windows, scores = np.empty((most, 8, 15 * 8), np.int16), np.zeros(64, np.int64)
        found, gains = self.library.blocks_windows(*self.arguments, most, windows), window_gains()

        def score(some: NDArray[np.int64]) -> None:
            self.library.blocks_scores(windows, found, some, len(some), gains, _PRICE, scores)

        list(self.parallel(score, shares(np.arange(64), _OFFSETS)))
        return scores

    def steps(self, top: int, left: int, like: Like | None) -> Iterator[Steps]:
        """Steps that are likely, (64,) each, the best ones first."""
        found, _ = steps.likely(self._magnitudes(top, left, None), like)
        counts = self._magnitudes(top, left, found)
        found = steps.finer(counts, *steps.likely(counts, like))
        better = steps.robust(self._sizes(top, left), like, found)
        if better is not None:
            yield better
        yield found

    def _sizes(self, top: int, left: int) -> NDArray[np.int32]:
        """(n, 64): the sizes of the coefficients of some blocks, in eighths."""
        count, sizes = 0, np.zeros((_MEASURED, 64), np.int32)
        for guesses in (0, 8):
            if count < _MEASURED // 2:
                place = (*self.arguments, top, left, guesses)
                count = self.library.blocks_levels(*place, _MEASURED, sizes)
        return sizes[:count]

    def _magnitudes(self, top: int, left: int, going: Steps | None) -> NDArray[np.float32]:
        """(64, 8192): how often the coefficients of each frequency have a size, in eighths.

        Of blocks that are ``going`` with steps, if there are some.
        """
        for guesses in (0, 8):
            counts = np.zeros((64, steps.SIZES), np.float32)
            place = (*self.arguments, top, left, guesses)
            if self.library.blocks_histogram(*place, going, counts) > 64:
                break
        return counts

    def attempt(self, blocks: Blocks, fewest: int) -> float:
        """The share of blocks that fit, of some; those that fit wholly count a little more.

        0 if fewer blocks are known than ``fewest``, or if small steps explain many of them only
        nearly, as they do with any samples. Blocks without a wave fit anyway.
        """
        coefficients = blocks.coefficients.reshape(-1, 64)
        some = np.arange(min(_TRIED, len(coefficients))) * _STRIDE % len(coefficients)
        wrong = self._solved(blocks, some, _QUICK)[some]
        tried = wrong != _LATER
        waves = tried & (coefficients[some, 1:] != 0).any(1)
        tried = waves if waves.sum() >= _FEWEST else tried
        if tried.sum() < fewest:
            return 0
        wholly = (wrong[tried] == 0).mean()
        if blocks.steps.mean() < _FINE and wholly < _WHOLLY:
            return 0
        return float((wrong[tried] <= _MISFITS).mean() + 0.001 * wholly)

    def solve(self, blocks: Blocks) -> float:
        """Find all coefficients; the share of blocks that fit."""
        coefficients = blocks.coefficients.reshape(-1, 64)
        wrong = self._solved(blocks, np.arange(len(coefficients)), _EFFORT)
        rest = wrong > 0
        if (rest & (wrong <= _MISFITS)).mean() > _NOISY:
            rest = wrong > _MISFITS
        prior = _prior(coefficients[wrong <= _MISFITS])
        still = self._solved(blocks, np.flatnonzero(rest), _EFFORT, *prior)
        return float((np.where(rest, still, wrong) <= _MISFITS).mean())

    def _solved(
        self, blocks: Blocks, numbers: NDArray[np.int64], effort: int, *prior: Any
    ) -> Bytes:
        """Solve some of the blocks; how many samples of each do not fit."""
        wrong = np.zeros(len(blocks.coefficients.reshape(-1, 64)), np.uint8)

        def solve(some: NDArray[np.int64]) -> int:
            found: int = self.library.blocks_solve(
                *(*self.arguments, blocks.steps, blocks.coefficients.shape[1], blocks.top),
                *(blocks.left, blocks.transposed, effort, *(prior or (None, None, None))),
                *(some, len(some), blocks.coefficients, wrong),
            )
            return found

        if not all(self.parallel(solve, shares(numbers, _SHARE))):
            raise MemoryError("there is not enough memory to look for an origin")
        return wrong


def _prior(coefficients: NDArray[np.int16]) -> tuple[NDArray[np.float64], ...]:
    """What a size of each frequency's coefficients costs, (64, 64), what it does for each beyond,
    and the mean square, (64) each. Costs are negative logarithms of probabilities.
    """
    sizes = np.abs(coefficients.astype(np.int64))
    mean = sizes.mean(0) + 0.02
    slopes = np.log1p(1 / mean)
    capped = np.minimum(sizes, 63) + 64 * np.arange(64)
    counts = np.bincount(capped.ravel(), minlength=4096).reshape(64, 64)
    smooth = np.exp(-slopes[:, None] * np.arange(64)) / (1 + mean[:, None])
    probability = (counts + 20 * smooth) / (len(sizes) + 20)
    probability[:, 1:] /= 2  # the sign
    return -np.log(probability), slopes, (sizes**2).mean(0) + 0.05


def _samples(coefficients: NDArray[np.int16], steps: NDArray[np.uint16], transposed: bool) -> Bytes:
    """(n, 64) quantised coefficients -> (n, 8, 8) samples."""
    dequantised = _saturated(coefficients.astype(np.int64) * steps).reshape(-1, 8, 8)
    if transposed:
        dequantised = dequantised.swapaxes(1, 2)
    half = _saturated((WAVES.T @ dequantised + (1 << 10)) >> 11)
    made: Bytes = np.clip(((half @ WAVES + (1 << 17)) >> 18) + 128, 0, 255).astype(np.uint8)
    return made.swapaxes(1, 2) if transposed else made


def _saturated(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.clip(numbers, -(1 << 15), (1 << 15) - 1)
