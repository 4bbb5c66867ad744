"""The encoder's side of `upsampling`: from stretched chroma planes back to the samples.

Stretching rounds once per pixel, so each pixel that is known puts its samples between two planes in
the space of samples. `shrink` first solves the linear equations roughly, in floating point, then
searches for integers that satisfy every pixel. Nothing here needs to be exact: the encoder renders
what was found, and keeps the pixels that differ.
"""

from __future__ import annotations

import itertools
import math
from functools import cache, lru_cache, partial
from operator import call
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native
from pixelzip.codec.origins.upsampling import (
    AT_FIRST,
    AT_SECOND,
    COPY,
    FANCY,
    RULES,
    WHOLE,
    Extent,
    Stretch,
    Upsampling,
    add_bias,
    double,
    extents,
    upsample,
)
from pixelzip.codec.workers import Map, shares

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
Ints = NDArray[np.int32]
Index = NDArray[np.int64]


class Bounds(Protocol):
    """Pixels that say something of their chroma, but not what it is: clipped ones."""

    where: tuple[Index, Index]
    """Rows and columns of these pixels, (n,) each."""

    kinds: Bytes
    """(n,): which moves suit them."""

    @property
    def moves(self) -> NDArray[np.int8]:
        """(kinds, moves, 2): steps of both planes that may suit a pixel, (0, 0) among them."""

    def pull(self, chroma: Floats, which: slice) -> Floats:
        """(2, n) chroma -> the step, (2, n), to the nearest that each of these pixels allows."""

    def gap(self, which: Index, c1: Bytes, c2: Bytes) -> NDArray[np.float64]:
        """How far pixels, by their numbers, are from allowing that chroma; 0: they do."""

    @property
    def compiled(self) -> tuple[Any, ...]:
        """What the compiled library wants to know of them, to find the gaps by itself."""


WINDOW = 96
"""A rule is chosen by looking at a square of so many pixels, where chroma changes most."""

ROUGHLY_GOOD, GOOD = 0.3, 0.06
"""The largest shares of pixels that may contradict a rule, solved roughly and then a bit better.

A quarter where pixels are copies, and there is nothing to solve.
"""

OUTLIER = 10
"""A pixel that misses its neighbourhood by so much says nothing of the samples."""

CERTAIN = 0.004
"""A rule that so few pixels contradict is not compared with others."""

PROMISING = 0.02
"""One that so few pixels contradict when it is solved roughly is solved better at once."""

_PATIENCE, _STUCK = 3, 0.97
"""A search is over if so many rounds leave more than this share of the pixels wrong."""


def fill(values: Floats, known: Mask) -> Floats:
    """Smoothly continues (..., height, width) values into the pixels that are not known."""
    if known.all():
        return values
    if not known.any():
        return np.full_like(values, 128)
    height, width = known.shape
    counts: Floats = _quarter(known.astype(np.float32))
    sums = _quarter(np.where(known, values, np.float32(0)))
    coarse = fill((sums / np.maximum(counts, 1)).astype(np.float32), counts > 0)
    fine = coarse.repeat(2, axis=-2)[..., :height, :].repeat(2, axis=-1)[..., :width]
    filled = np.where(known, values, fine).astype(np.float32)
    i, j = np.nonzero(~known)
    rows = np.maximum(i - 1, 0), np.minimum(i + 1, height - 1)
    columns = np.maximum(j - 1, 0), np.minimum(j + 1, width - 1)
    for _ in range(4):
        above, below = (filled[..., row, j] for row in rows)
        left, right = (filled[..., i, column] for column in columns)
        filled[..., i, j] = (above + below + left + right) / 4
    return filled


def _pad(a: NDArray[Any], rows: tuple[int, int], columns: tuple[int, int]) -> Any:
    """The last two axes with so many zeros before and after; as `np.pad`, but faster."""
    height, width = a.shape[-2:]
    padded = np.zeros((*a.shape[:-2], height + sum(rows), width + sum(columns)), a.dtype)
    padded[..., rows[0] : rows[0] + height, columns[0] : columns[0] + width] = a
    return padded


def _quarter(a: Floats) -> Floats:
    """The sums of 2x2 each, of fewer at the edges."""
    height, width = a.shape[-2:]
    if height % 2 or width % 2:
        a = _pad(a, (0, height % 2), (0, width % 2))
    rows: Floats = a[..., 0::2, :] + a[..., 1::2, :]
    quarter: Floats = rows[..., 0::2] + rows[..., 1::2]
    return quarter


def _pairs(a: NDArray[Any], axis: int, stretch: Stretch, first: float, second: float) -> Any:
    """Weighted sums of the pairs along axis 0 or 1 of the last two: the reverse of `double`."""
    if stretch.step == 1:
        return a
    if axis == 0:
        return first * a[..., 0::2, :] + second * a[..., 1::2, :]
    return first * a[..., 0::2] + second * a[..., 1::2]


_ANCHORS = {AT_FIRST: (1, 0), AT_SECOND: (0, 1)}


def _own(a: NDArray[Any], rule: Upsampling) -> Any:
    """For each sample, the sum over those of its own pixels that say most about it."""
    rows = _pairs(a, 0, rule.rows, *_ANCHORS.get(rule.rows, (1, 1)))
    return _pairs(rows, 1, rule.columns, *_ANCHORS.get(rule.columns, (1, 1)))


def _rows_of(a: NDArray[Any], size: int) -> list[Index]:
    """All rows of all planes, in parts for several threads: of so many numbers in all."""
    rows = math.prod(a.shape[:-1])
    return shares(np.arange(rows), max(1, rows * _TOGETHER // size))


def _adjoint(a: Floats, rule: Upsampling, parallel: Map = map) -> Any:
    """For each sample, the sum over all pixels that it is part of, by its weights in them."""
    library = native.coding()
    if library is not None:
        *planes, height, width = a.shape
        rows, columns = height // rule.rows.step, width // rule.columns.step
        out, values = np.empty((*planes, rows, columns), np.float32), np.ascontiguousarray(a)

        def add_up(part: Index) -> int:
            asked = (values, rows, columns, rule.weights, part[0], part[-1] + 1, out)
            done: int = library.stretching_adjoint(*asked)
            return done

        if not all(parallel(add_up, _rows_of(out, values.size))):
            raise MemoryError("there is not enough memory to look for an origin")
        return out
    for axis, stretch in ((0, rule.rows), (1, rule.columns)):
        if stretch.step == 1:
            continue
        near = _pairs(a, axis, stretch, stretch.first[0], stretch.second[0]).astype(np.float32)
        to_next = _pairs(a, axis, stretch, 0, stretch.second[1])
        to_last = _pairs(a, axis, stretch, stretch.first[1], 0)
        if axis == 0:
            near[..., 1:, :] += to_next[..., :-1, :]
            near[..., :-1, :] += to_last[..., 1:, :]
        else:
            near[..., 1:] += to_next[..., :-1]
            near[..., :-1] += to_last[..., 1:]
        a = near
    return a


class _Frame:
    """The pixels that a picture's samples stretch to, overhangs and all."""

    def __init__(
        self,
        chroma: Bytes,
        known: Mask,
        rule: Upsampling,
        rows: Extent,
        columns: Extent,
        parallel: Map = map,
    ) -> None:
        self.rule, self.extents, self.parallel = rule, (rows, columns), parallel
        self.chroma = _pad(chroma, rows, columns)
        self.known = _pad(known, rows, columns)

    def stretch(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Samples of any type -> the sums that are shifted to make pixels, bias included."""
        if samples.dtype == np.float32 and native.coding() is not None:
            return self.sums(samples)
        total = double(double(samples, 0, self.rule.rows), 1, self.rule.columns)
        if total is samples:
            total = samples.copy()
        add_bias(total, self.rule)
        return total

    def sums(self, samples: Floats, pixels: Bytes | None = None) -> Floats:
        """As `stretch`; or as `misses`, with the frame's pixels."""
        library = native.coding()
        assert library is not None
        rows, columns = samples.shape[1:]
        out = np.empty((2, *self.known.shape), np.float32)
        samples, known = np.ascontiguousarray(samples), self.known.view(np.uint8)

        def add_up(part: Index) -> int:
            done: int = library.stretching_sums(
                *(samples, rows, columns, self.rule.weights, self.rule.biases),
                *(1 << self.rule.shift, pixels, known, part[0], part[-1] + 1, out),
            )
            return done

        if not all(self.parallel(add_up, _rows_of(out, out.size))):
            raise MemoryError("there is not enough memory to look for an origin")
        return out

    def misses(self, samples: Floats) -> Floats:
        """How far the known pixels are from what the samples stretch to, before rounding."""
        if native.coding() is not None:
            return self.sums(samples, self.chroma)
        scale = np.float32(1 << self.rule.shift)
        made = (self.stretch(samples) - (scale - 1) / 2) / scale
        found: Floats = (self.chroma - made) * self.known
        return found


def estimate(frame: _Frame, bounds: Bounds | None = None) -> Floats:
    """(2, plane height, plane width): roughly the samples; smooth where nothing is known."""
    rule, chroma = frame.rule, frame.chroma.astype(np.float32)
    known = frame.known.astype(np.float32)
    counts = _own(known, rule)
    settled = counts > 0
    counts = np.maximum(counts, 1)
    samples = fill(_own(chroma * known, rule) / counts, settled)

    if FANCY in (rule.rows, rule.columns):
        for _ in range(2):
            samples += np.float32(1.2) * _own(frame.misses(samples), rule) / counts * settled
        samples = fill(samples, settled)
    if not settled.all():
        for _ in range(12 if bounds is not None else 2):
            missed, weights = frame.misses(samples), known
            if bounds is not None:
                weights = _pull(frame, bounds, samples, missed)
            weights = np.maximum(_adjoint(weights, rule, frame.parallel), np.float32(1e-3))
            step = _adjoint(missed, rule, frame.parallel) / weights * ~settled
            if np.abs(step).max() < 0.05:
                break
            samples += step
    return np.clip(samples, 0, 255)


def _pull(frame: _Frame, bounds: Bounds, samples: Floats, missed: Floats) -> Floats:
    """Adds to what is missed the steps to chroma that pixels with bounds allow.

    Returns what each pixel's step counts: that of known ones, and of these where they ask for one.
    """
    scale = np.float32(1 << frame.rule.shift)
    middle = np.float32((scale - 1) / 2)
    stretched = frame.stretch(samples)
    counts: Floats = frame.known.astype(np.float32)

    def pull(part: Index) -> None:
        here = slice(part[0], part[-1] + 1)
        i, j = (a[here] + e.before for a, e in zip(bounds.where, frame.extents, strict=True))
        steps = bounds.pull((stretched[:, i, j] - middle) / scale, here)
        missed[:, i, j] += steps
        counts[i, j] += (steps != 0).any(0)

    list(frame.parallel(pull, shares(np.arange(len(bounds.kinds)), _PULLED)))
    return counts


@lru_cache(256)
def _windows(stretch: Stretch, samples: int, block: int) -> tuple[Ints, Index]:
    """Weights of a block's samples in the pixels about it, by where the block begins.

    Returns (kinds, block, window) and, for each beginning, its kind: at an edge, the samples have
    more weight. The window begins one pixel before the block's first pair on a halved axis.
    """
    if stretch.step == 1:
        return np.ones((1, 1, 1), np.int32), np.zeros(samples, np.int64)
    weights = np.empty((samples, 4), np.int32)
    weights[:] = (stretch.second[1], stretch.first[0], stretch.second[0], stretch.first[1])
    weights[0, 1] += stretch.first[1]
    weights[-1, 2] += stretch.second[1]
    table = np.zeros((samples - block + 1, block, 2 * block + 2), np.int32)
    for k in range(block):
        table[:, k, 2 * k : 2 * k + 4] = weights[k : k + len(table)]
    kinds, of = np.unique(table, axis=0, return_inverse=True)
    return kinds, of.ravel()


@cache
def _moves(rows: int, columns: int) -> NDArray[np.int8]:
    """(n, samples of a block): every way to change each by -1, 0 or 1; the first one: none."""
    every = sorted(itertools.product((0, -1, 1), repeat=rows * columns), key=np.count_nonzero)
    return np.array(every, np.int8)


_ATTEMPTS, _LUCK, _ROUGH = 40, 5.0, 0.4
"""Of samples about clipped pixels: how often they are tried while pixels are wrong, what chance may
add to a move's cost at first, and what it costs to be one off the mean of the samples around.

A clipped pixel costs what the bounds of its channels are apart, in steps of luma; another one, 32
times what it is off.
"""
_SHARE, _TOGETHER = 64, 1 << 16
"""So many samples at least are moved by one thread, and so many pixels summed up."""
_PULLED = 1 << 12
"""So many clipped pixels are pulled by one thread at least."""
_NEAREST = 8
"""How far samples of their own pixel are moved to chroma that a clipped pixel allows."""

_MARGIN = 8
"""Pixels about the frame, so that no window leaves the arrays."""

_SEED = 88172645463325252
"""Of the noise: any number."""


class _Search:
    """Integer samples, and the moves that bring them closer to satisfying every known pixel."""

    def __init__(self, frame: _Frame, samples: NDArray[np.int32]) -> None:
        self.rule = frame.rule
        self.stretches = (frame.rule.rows, frame.rule.columns)
        self.samples = np.ascontiguousarray(samples)
        margins = (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)
        goal = frame.chroma.astype(np.int32) << self.rule.shift
        self.extents = frame.extents
        self.goal = _pad(goal, *margins)
        self.excess = _pad(frame.stretch(samples) - goal, *margins)
        self.known = _pad(frame.known, *margins)
        self.most = (1 << self.rule.shift) - 1
        self.random = np.array([_SEED], np.uint64)

    def sweep(self, block: tuple[int, int], noise: int, limit: int) -> int:
        """Tries all moves of a block of samples at each wrong pixel; how many those were.

        Does nothing if they are more than ``limit``. A single sample is tried where it is a wrong
        pixel's near one and where it is its far one, a larger block where it holds both. ``noise``
        is added to the cost of a move, about so many 256ths, and leads out of dead ends.
        """
        weights, moves, library = self.rule.weights, _moves(*block), native.coding()
        if library is None:
            from pixelzip.codec.loops import shrinking  # slow to load

            return shrinking.sweep(
                self.samples, self.excess, self.known, _MARGIN, limit, weights[:5], weights[5:],
                self.most, moves, *block, noise, self.random,
            )  # fmt: skip
        sizes = np.array([*self.samples.shape[1:], *self.known.shape, _MARGIN, limit])
        count: int = library.shrinking_sweep(
            self.samples, self.excess, self.known.view(np.uint8), sizes,
            weights, self.most, moves, len(moves), *block, noise,
            self.random,
        )  # fmt: skip
        return count

    def _window(self, i: Index, j: Index, shape: tuple[int, ...]) -> tuple[Index, Index]:
        """Rows (n, rows, 1) and columns (n, 1, columns) of pixels about blocks of samples."""
        down, across = (
            (s.step * at - (s.step > 1) + _MARGIN)[:, None] + np.arange(length)
            for s, at, length in zip(self.stretches, (i, j), shape, strict=True)
        )
        return down[:, :, None], across[:, None, :]

    def settle(self, bounds: Bounds, parallel: Map) -> None:
        """Moves samples until pixels with bounds allow their chroma, as far as it goes."""
        if self.rule.steps == (1, 1):
            self._settle_alone(bounds)
            return
        i, j = (a + e.before for a, e in zip(bounds.where, self.extents, strict=True))
        number = np.full(self.known.shape, -1, np.int64)
        number[i + _MARGIN, j + _MARGIN] = np.arange(len(i))
        (down, across), (height, width) = (s.step for s in self.stretches), self.samples.shape[1:]
        wrong_ones: list[int] = []
        for attempt in range(_ATTEMPTS):
            wrong = self._wrong(i + _MARGIN, j + _MARGIN, bounds)
            wrong_ones.append(int(wrong.sum()))
            before = min(wrong_ones[:-6], default=wrong_ones[-1] + 1)
            if not wrong_ones[-1] or wrong_ones[-1] >= before:
                return
            # The samples that are near and those that are far, turn by turn.
            rows = (i[wrong] + (attempt & 1) * (down - 1)) // down
            columns = (j[wrong] + (attempt >> 1 & 1) * (across - 1)) // across
            key, first = np.unique(
                np.minimum(rows, height - 1) * width + np.minimum(columns, width - 1),
                return_index=True,
            )
            rows, columns, kinds = key // width, key % width, bounds.kinds[wrong][first]

            def settle(part: Index) -> None:
                place = rows[part], columns[part], kinds[part]  # noqa: B023
                self._settle(*place, bounds, number, attempt)  # noqa: B023

            # Neither pixels nor neighbours in common: they could as well move at once.
            for row, column in itertools.product(range(2), range(2)):
                chosen = np.flatnonzero((rows % 2 == row) & (columns % 2 == column))
                list(parallel(settle, shares(chosen, _SHARE)))

    def _wrong(self, rows: Index, columns: Index, bounds: Bounds) -> Mask:
        """(n,): the pixels with bounds, at these places, that do not allow their chroma."""
        library, wrong = native.coding(), np.empty(len(rows), np.bool_)
        if library is not None:
            library.shrinking_wrong(
                self.excess, self.goal, *self.known.shape, self.rule.shift, *bounds.compiled,
                rows, columns, wrong.view(np.uint8),
            )  # fmt: skip
            return wrong
        place = (slice(None), rows, columns)
        made = self._pixels(self.excess[place] + self.goal[place])
        return bounds.gap(np.arange(len(rows)), *made) > 0

    def _settle_alone(self, bounds: Bounds) -> None:
        """Where each pixel has its own samples: the nearest chroma that it allows."""
        left = np.arange(len(bounds.where[0]))
        near = self.samples[:, *bounds.where]
        reach = range(-_NEAREST, _NEAREST + 1)
        for step in sorted(itertools.product(reach, reach), key=lambda d: d[0] ** 2 + d[1] ** 2):
            if not len(left):
                break
            c1, c2 = np.clip(near[:, left] + np.array(step)[:, None], 0, 255)
            fits = bounds.gap(left, c1, c2) == 0
            i, j = (a[left[fits]] for a in bounds.where)
            self.samples[0, i, j], self.samples[1, i, j] = c1[fits], c2[fits]
            left = left[~fits]

    def _pixels(self, total: Ints) -> Bytes:
        pixels: Bytes = np.clip(total >> self.rule.shift, 0, 255).astype(np.uint8)
        return pixels

    def _beyond_mean(self, i: Index, j: Index) -> Ints:
        """(2, n): four times how far samples are from the mean of the four around them."""
        last_row, last_column = (n - 1 for n in self.samples.shape[1:])
        around = (
            self.samples[:, np.maximum(i - 1, 0), j],
            self.samples[:, np.minimum(i + 1, last_row), j],
            self.samples[:, i, np.maximum(j - 1, 0)],
            self.samples[:, i, np.minimum(j + 1, last_column)],
        )
        beyond: Ints = 4 * self.samples[:, i, j] - sum(around)
        return beyond

    def _settle(
        self, i: Index, j: Index, kinds: Bytes, bounds: Bounds, number: Index, attempt: int
    ) -> None:
        """Makes the best move of both planes at each of n samples.

        That is the one that leaves the fewest pixels wrong, and samples like those around them.
        Chance has a say, less and less, and leads out of dead ends.
        """
        luck = _LUCK * (1 - attempt / _ATTEMPTS)
        library = native.coding()
        if library is not None:
            library.shrinking_settle(
                self.samples, self.excess, self.goal, self.known.view(np.uint8), number,
                np.array([*self.samples.shape[1:], *self.known.shape, _MARGIN]),
                self.rule.weights, self.rule.shift, *bounds.compiled, i, j, kinds, len(i),
                bounds.moves, bounds.moves.shape[1], attempt, luck, _ROUGH / 4,
            )  # fmt: skip
            return
        (down, row_kinds), (across, column_kinds) = (
            _windows(s, n, 1) for s, n in zip(self.stretches, self.samples.shape[1:], strict=True)
        )
        weights = down[row_kinds[i], 0, :, None] * across[column_kinds[j], 0, None, :]
        rows, columns = self._window(i, j, weights.shape[1:])
        excess, goal = self.excess[:, rows, columns], self.goal[:, rows, columns]  # (2, n, ...)
        known, pixel = self.known[rows, columns], number[rows, columns]
        n, r, c = np.nonzero(pixel >= 0)
        moves = bounds.moves[kinds].transpose(1, 2, 0).astype(np.int32)  # (moves, 2, n)
        costs = np.zeros((len(moves), len(i)))
        beyond = self._beyond_mean(i, j)
        for k, (cost, move) in enumerate(zip(costs, moves, strict=True)):
            moved = excess + weights * move[:, :, None, None]
            missed = np.maximum(np.maximum(-moved, moved - self.most), 0) * known
            cost += missed.sum((0, 2, 3)) * (32 / (self.most + 1))
            rough = np.abs(beyond + 4 * move).sum(0)
            cost += luck * _chance(i, j, k, attempt) + _ROUGH / 4 * rough
            made = self._pixels(moved[:, n, r, c] + goal[:, n, r, c])
            cost += np.bincount(n, bounds.gap(pixel[n, r, c], *made), len(i))
        best = moves[costs.argmin(0), :, np.arange(len(i))].T  # (2, n)
        self.excess[:, rows, columns] += best[..., None, None] * weights
        self.samples[:, i, j] += best


def _chance(i: Index, j: Index, move: int, attempt: int) -> NDArray[np.float64]:
    """(n,) numbers from 0 to 1, others for each move of each sample at each attempt."""
    mixed = (i * 73856093 ^ j * 19349663 ^ move * 83492791 ^ attempt * 2654435761).astype(np.uint32)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(2246822519)
    mixed ^= mixed >> np.uint32(13)
    return mixed / 4294967296.0


def _vote(frame: _Frame, samples: Floats) -> Floats:
    """Where pixels are copies: the commonest of each sample's own, if any is known."""
    rule = frame.rule
    code = frame.chroma[0].astype(np.int32) << 8 | frame.chroma[1]
    code = np.where(frame.known, code, -1)
    down, across = rule.steps
    own = np.stack([code[i::down, j::across] for i in range(down) for j in range(across)])
    votes = np.stack([(own == a).sum(0) * (a >= 0) for a in own])
    best = np.take_along_axis(own, votes.argmax(0)[None], 0)[0]
    chosen: Floats = np.where(best < 0, samples, np.stack([best >> 8, best & 255]))
    return chosen


def shrink(
    chroma: Bytes,
    known: Mask,
    rule: Upsampling,
    rows: Extent,
    columns: Extent,
    bounds: Bounds | None = None,
    rounds: int = 24,
    parallel: Map = map,
) -> Bytes:
    """Samples that stretch to the known pixels, as far as there are any.

    chroma: (2, height, width) uint8, known: (height, width) bool; returns (2, plane height, plane
    width) uint8, by `rule`. Rounds: how often it searches; 0 and -1 are quick and rough.
    """
    frame = _Frame(chroma, known, rule, rows, columns, parallel)
    samples = estimate(frame, bounds)
    if COPY in (rule.rows, rule.columns):
        samples = _vote(frame, samples)
    elif rule.steps != (1, 1):
        far_off = np.abs(frame.misses(samples)).max(0) > OUTLIER
        if far_off.any():  # retouched pixels whose colour happens to have an inverse
            frame.known &= ~far_off
            samples = estimate(frame, bounds)
    search = _Search(frame, np.rint(samples).astype(np.int32))
    for _ in range(3 if rounds > 0 else 1 + rounds):
        search.sweep((1, 1), 0, known.size)
    # Four samples that make pixels together.
    block = {(2, 2): (2, 2), (2, 1): (4, 1), (1, 2): (1, 4), (1, 1): (1, 1)}[rule.steps]
    noise = 22 << rule.shift  # about an eighth of what a pixel's sum may be off, on average
    wrong: list[int] = []
    for _ in range(rounds):
        wrong.append(search.sweep(block, noise, known.size // 8))
        if not wrong[-1] or (len(wrong) > _PATIENCE and wrong[-1] > _STUCK * wrong[-1 - _PATIENCE]):
            break
    if bounds is not None:
        search.settle(bounds, parallel)
    return np.clip(search.samples, 0, 255).astype(np.uint8)


_ORDER = sorted(
    range(1, len(RULES)),
    key=lambda n: (
        -RULES[n].rows.step * RULES[n].columns.step,
        FANCY in (RULES[n].rows, RULES[n].columns),
    ),
)
"""Rules in the order in which they are tried: first those that save most, then the quickest."""
_ORDER_OF_STEPS = [(2, 2), (1, 2), (2, 1)]


def choose(chroma: Bytes, known: Mask, parallel: Map = map) -> tuple[int, Extent, Extent]:
    """The number of the rule by which chroma was stretched (0: it was not), and its extents."""
    number, row, column = _choose(chroma, known, parallel)
    rule = RULES[number]
    rows, columns = _loose(rule, known.shape, row, column)
    jobs = (
        partial(_tight, chroma, known, rule, row, columns),
        partial(_tight, chroma.swapaxes(1, 2), known.T, rule.turned(), column, rows),
    )
    return (number, *parallel(call, jobs))


def _choose(chroma: Bytes, known: Mask, parallel: Map) -> tuple[int, int, int]:
    """The number of the rule, and whether pairs begin at even or odd rows and columns."""
    top, left = _busiest(chroma, known)
    part = np.s_[top : top + WINDOW, left : left + WINDOW]
    chroma, known = chroma[(slice(None), *part)], known[part]
    down = _plausible(chroma.swapaxes(1, 2), known.T)
    across = _plausible(chroma, known)

    def contradicted(number: int, row: int, column: int, roughly: bool) -> float:
        rule = RULES[number]
        loose = _loose(rule, known.shape, row, column)
        samples = shrink(chroma, known, rule, *loose, rounds=-1 if roughly else 2)
        missed = _missed(chroma, known, samples, rule, *loose)
        return float(missed.sum()) / max(2 * int(known.sum()), 1)

    def roughly_contradicted(number: int, place: tuple[int, int]) -> float:
        score = contradicted(number, *place, roughly=True)
        if CERTAIN <= score < PROMISING:
            score = min(score, contradicted(number, *place, roughly=False))
        return score

    best = (1.0, 0, 0, 0)
    for steps in _ORDER_OF_STEPS:
        rough: list[tuple[float, int, int, int]] = []
        phases: dict[tuple[Stretch, Stretch], tuple[int, int]] = {}
        for number in (n for n in _ORDER if RULES[n].steps == steps):
            rule = RULES[number]
            kinds = rule.rows, rule.columns
            options = list(itertools.product(down[rule.rows], across[rule.columns]))
            options = [phases[kinds]] if kinds in phases else options
            scores = parallel(partial(roughly_contradicted, number), options)
            for (row, column), score in zip(options, scores, strict=True):
                if score < CERTAIN:
                    return number, row, column
                rough.append((score, number, row, column))
            # Rules that only round otherwise have their pairs at the same places.
            same = sorted(found for found in rough if found[1] == number)
            if len(same) > 1 and same[0][0] < _CLEARLY * same[1][0]:
                phases[kinds] = same[0][2:]
        rough.sort()
        for score, number, row, column in rough[:2]:
            rule = RULES[number]
            if score < ROUGHLY_GOOD:
                score = contradicted(number, row, column, roughly=False)
            if score < CERTAIN:
                return number, row, column
            if score < (GOOD / 4 if COPY in (rule.rows, rule.columns) else GOOD):
                best = min(best, (score, number, row, column))
        if best[0] < GOOD / 3:
            break
    return best[1:]


def _missed(
    chroma: Bytes, known: Mask, samples: Bytes, rule: Upsampling, rows: Extent, columns: Extent
) -> Mask:
    """(2, height, width): the known pixels that the samples don't stretch to."""
    height, width = known.shape
    made = [upsample(plane, rule, rows, columns, (height, width)) for plane in samples]
    missed: Mask = (np.stack(made) != chroma) & known
    return missed


def _busiest(chroma: Bytes, known: Mask) -> tuple[int, int]:
    """Where the square of `WINDOW` begins in which chroma changes most; even numbers."""
    height, width = known.shape
    if height <= WINDOW and width <= WINDOW:
        return 0, 0
    best, found = -1, (0, 0)
    for top in range(0, max(height - WINDOW // 2, 1), WINDOW // 2):
        rows = slice(top, top + WINDOW, 2)
        change = np.abs(np.diff(chroma[:, rows].astype(np.int16), axis=2)).sum(0)
        change *= known[rows, 1:] & known[rows, :-1]
        for left in range(0, max(width - WINDOW // 2, 1), WINDOW // 2):
            here = change[:, left : left + WINDOW].sum(dtype=np.int64)
            if here > best:
                best, found = int(here), (top, left)
    return found


def _plausible(chroma: Bytes, known: Mask) -> dict[Stretch, tuple[int, ...]]:
    """For each kind of stretching along the last axis, where its pairs can begin: 0, 1 or both."""
    u = chroma.astype(np.int16)

    def holds(fits: Mask, *sure: Mask) -> bool:
        both = np.logical_and.reduce(sure)
        return bool((fits & both).sum() > 0.9 * 2 * both.sum())

    def shifted(offset: int, of: NDArray[Any], length: int) -> NDArray[Any]:
        return of[..., offset : offset + 2 * length : 2]

    found: dict[Stretch, tuple[int, ...]] = {WHOLE: (0,)}
    for stretch, reach in ((COPY, 2), (FANCY, 4), (AT_FIRST, 3), (AT_SECOND, 3)):
        phases = []
        for phase in (0, 1) if stretch in (COPY, FANCY) else (0,):
            first = phase + (stretch in (FANCY, AT_SECOND))
            length = max((u.shape[-1] - first - reach) // 2 + 1, 0)
            v = [shifted(first + k, u, length) for k in range(reach)]
            k = [shifted(first + k, known, length) for k in range(reach)]
            if stretch is COPY:
                fits = v[0] == v[1]
            elif stretch is FANCY:
                fits = np.abs(3 * (v[1] - v[2]) - (v[0] - v[3])) <= 4
            else:
                fits = np.abs(2 * v[1] - v[0] - v[2]) <= 2
            if holds(fits, *k):
                phases.append(phase)
        found[stretch] = tuple(phases)
    return found


def _loose(
    rule: Upsampling, shape: tuple[int, ...], row: int, column: int
) -> tuple[Extent, Extent]:
    """Extents with all samples that pixels depend on, for pairs that begin at row and column."""
    return (
        max(e for e in extents(shape[0], rule.rows) if e.before % 2 == row),
        max(e for e in extents(shape[1], rule.columns) if e.before % 2 == column),
    )


_CLEARLY = 0.6
"""Pairs that begin elsewhere are contradicted by so many times as many pixels, or they are not."""
_STRIP = 24


def _tight(chroma: Bytes, known: Mask, rule: Upsampling, phase: int, columns: Extent) -> Extent:
    """The extent of the rows: with a sample beyond either edge only if the pixels there need it."""
    height = len(known)
    loose = max(e for e in extents(height, rule.rows) if e.before % 2 == phase)
    chosen = list(loose)
    for edge in (0, 1):
        start, stop = ((0, min(_STRIP, height)), (max(0, height - _STRIP) & ~1, height))[edge]
        some, sure = chroma[:, start:stop], known[start:stop]
        options = sorted(
            (e for e in extents(stop - start, rule.rows) if e.before % 2 == phase),
            key=lambda e: (e[edge], -e[1 - edge]),
        )
        options = [e for e in options if e[1 - edge] == options[0][1 - edge]]
        if loose[edge] < 2 or len(options) < 2:
            continue
        wrong = []
        for extent in options:
            samples = shrink(some, sure, rule, extent, columns, rounds=6)
            missed = _missed(some, sure, samples, rule, extent, columns)
            wrong.append(int(missed[:, -edge].sum()))
            if wrong[0] <= sure[-edge].sum() / 200:
                break
        if wrong[0] <= 2 * wrong[-1] + sure[-edge].sum() / 50:
            chosen[edge] = 0
    return Extent(*chosen)
