"""The encoder's side of `upsampling`: from stretched chroma planes back to the samples.

Stretching rounds once per pixel, so each pixel that is known puts its samples between two planes in
the space of samples. `shrink` first solves the linear equations roughly, in floating point, then
searches for integers that satisfy every pixel. Nothing here needs to be exact: the encoder renders
what was found, and keeps the pixels that differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

Bytes = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float32]
Pull = Callable[[Floats], Floats]
"""(2, height, width) chroma -> how far each pixel is from chroma that it could have: the same
shape, zeros where it could have this or where nothing is known."""

WINDOW = 160
"""A rule is chosen by looking at a square of so many pixels, where chroma changes most."""

GOOD = 0.06
"""The largest share of pixels that may contradict a rule after rough solving, to be tried."""


def fill(values: Floats, known: Mask) -> Floats:
    """Smoothly continues (..., height, width) values into the pixels that are not known."""
    if known.all():
        return values
    if not known.any():
        return np.full_like(values, 128)
    height, width = known.shape
    pad = [(0, 0)] * (values.ndim - 2) + [(0, height % 2), (0, width % 2)]
    counts = _quarter(np.pad(known, pad[-2:]).astype(np.float32))
    sums = _quarter(np.pad(np.where(known, values, 0), pad))
    coarse = fill(sums / np.maximum(counts, 1), counts > 0)
    fine = coarse.repeat(2, axis=-2)[..., :height, :].repeat(2, axis=-1)[..., :width]
    filled = np.where(known, values, fine).astype(np.float32)
    unknown = np.nonzero(~known)
    for _ in range(4):
        around = [
            filled[..., np.clip(unknown[0] + i, 0, height - 1), np.clip(unknown[1] + j, 0, width - 1)]
            for i, j in ((-1, 0), (1, 0), (0, -1), (0, 1))
        ]
        filled[..., unknown[0], unknown[1]] = sum(around) / 4
    return filled


def _quarter(a: Floats) -> Floats:
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


def _adjoint(a: NDArray[Any], rule: Upsampling) -> Any:
    """For each sample, the sum over all pixels that it is part of, by its weights in them."""
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
        self, chroma: Bytes, known: Mask, rule: Upsampling, rows: Extent, columns: Extent
    ) -> None:
        self.rule, self.rows, self.columns = rule, rows, columns
        self.pad = (tuple(rows), tuple(columns))
        self.chroma = np.pad(chroma, ((0, 0), *self.pad))
        self.known = np.pad(known, self.pad)

    def crop(self, a: NDArray[Any]) -> NDArray[Any]:
        height, width = self.known.shape
        return a[
            ...,
            self.rows.before : height - self.rows.after,
            self.columns.before : width - self.columns.after,
        ]

    def stretch(self, samples: NDArray[Any]) -> NDArray[Any]:
        """Samples of any type -> the sums that are shifted to make pixels, bias included."""
        total = double(double(samples, 0, self.rule.rows), 1, self.rule.columns)
        if total is samples:
            total = samples.copy()
        add_bias(total, self.rule)
        return total


def estimate(frame: _Frame, pull: Pull | None = None) -> Floats:
    """(2, plane height, plane width) float32: roughly the samples; smooth where nothing is known."""
    rule, chroma = frame.rule, frame.chroma.astype(np.float32)
    scale = np.float32(1 << rule.shift)
    middle = np.float32((scale - 1) / 2)
    known = frame.known.astype(np.float32)
    counts = _own(known, rule)
    settled = counts > 0
    counts = np.maximum(counts, 1)
    samples = fill(_own(chroma * known, rule) / counts, settled)

    def misses() -> Floats:
        found: Floats = (chroma + (middle - frame.stretch(samples)) / scale) * known
        return found

    if FANCY in (rule.rows, rule.columns):
        for _ in range(2):
            samples += np.float32(1.2) * _own(misses(), rule) / counts * settled
        samples = fill(samples, settled)
    if not settled.all():
        for _ in range(12):
            missed, weights = misses(), known
            if pull is not None:
                now = (frame.stretch(samples) - middle) / scale
                pulled = np.pad(pull(frame.crop(now)), ((0, 0), *frame.pad))
                missed = missed + pulled
                weights = np.maximum(known, (pulled != 0).any(0))
            weights = np.maximum(_adjoint(weights, rule), np.float32(1e-3))
            step = _adjoint(missed, rule) / weights * ~settled
            if np.abs(step).max() < 0.05:
                break
            samples += step
    return np.clip(samples, 0, 255)


def _influence(stretch: Stretch, samples: int, block: int) -> NDArray[np.int32]:
    """(positions, block, window): weights of a block's samples in the pixels about it.

    The window begins one pixel before the block's first pair where the axis is halved.
    """
    if stretch.step == 1:
        return np.ones((samples, 1, 1), np.int32)
    weights = np.empty((samples, 4), np.int32)
    weights[:] = (stretch.second[1], stretch.first[0], stretch.second[0], stretch.first[1])
    weights[0, 1] += stretch.first[1]
    weights[-1, 2] += stretch.second[1]
    table = np.zeros((samples - block + 1, block, 2 * block + 2), np.int32)
    for k in range(block):
        table[:, k, 2 * k : 2 * k + 4] = weights[k : k + len(table)]
    return table


@cache
def _moves(rows: int, columns: int) -> NDArray[np.int32]:
    """(n, rows, columns): every way to change each sample of a block by -1, 0 or 1; first: none."""
    every = sorted(itertools.product((0, -1, 1), repeat=rows * columns), key=np.count_nonzero)
    return np.array(every, np.int32).reshape(-1, rows, columns)


_MARGIN = 8
"""Pixels about the frame, so that no window leaves the arrays."""


class _Search:
    """Integer samples, and the moves that bring them closer to satisfying every known pixel."""

    def __init__(self, frame: _Frame, samples: NDArray[np.int32]) -> None:
        self.rule = frame.rule
        self.samples = samples
        pad = ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN))
        goal = frame.chroma.astype(np.int32) << self.rule.shift
        self.excess = np.pad(frame.stretch(samples) - goal, pad)
        self.known = np.pad(frame.known, pad[1:])
        self.most = (1 << self.rule.shift) - 1
        self.rng = np.random.default_rng(0)

    def wrong(self) -> Mask:
        """(2, frame height + margins, ...): the known pixels that are missed."""
        return self.known & ((self.excess < 0) | (self.excess > self.most))

    def sweep(self, block: tuple[int, int], noise: float, most: int) -> int:
        """Tries the moves of a block of samples at each wrong pixel; how many there were."""
        stretches = (self.rule.rows, self.rule.columns)
        sizes = self.samples.shape[1:]
        if sizes[0] < block[0] or sizes[1] < block[1]:
            return 0
        plane, *pixel = np.nonzero(self.wrong())
        if not len(plane) or len(plane) > most:
            return len(plane)
        starts, tables, kinds, colours, windows = [], [], [], [], []
        for axis in (0, 1):
            step, size = stretches[axis].step, block[axis]
            at = pixel[axis] - _MARGIN
            if step == 2:
                at = (at + (size > 1)) // 2 - size // 2
            starts.append(np.clip(at, 0, sizes[axis] - size))
            table = _influence(stretches[axis], sizes[axis], size)
            kind, of = np.unique(table, axis=0, return_inverse=True)
            tables.append(kind)
            kinds.append(of.ravel())
            windows.append(kind.shape[2])
            colours.append(-(-kind.shape[2] // step))
        moves = _moves(*block)
        change = np.einsum("mab,iar,jbc->ijmrc", moves, *tables, dtype=np.int32)
        key = np.unique((plane * sizes[0] + starts[0]) * sizes[1] + starts[1])
        plane, i, j = key // (sizes[0] * sizes[1]), key // sizes[1] % sizes[0], key % sizes[1]
        for row, column in itertools.product(range(colours[0]), range(colours[1])):
            chosen = np.flatnonzero((i % colours[0] == row) & (j % colours[1] == column))
            for part in np.array_split(chosen, -(-len(chosen) // 2048)) if len(chosen) else ():
                self._move(plane[part], i[part], j[part], change, kinds, windows, moves, noise)
        return len(key)

    def _move(
        self,
        plane: NDArray[np.int64],
        i: NDArray[np.int64],
        j: NDArray[np.int64],
        change: NDArray[np.int32],
        kinds: list[NDArray[np.int64]],
        windows: list[int],
        moves: NDArray[np.int32],
        noise: float,
    ) -> None:
        p = plane[:, None, None]
        places = []
        for axis, (start, stretch) in enumerate(((i, self.rule.rows), (j, self.rule.columns))):
            first = 2 * start - 1 if stretch.step == 2 else start
            places.append(first[:, None] + np.arange(windows[axis]) + _MARGIN)
        rows, columns = places[0][:, :, None], places[1][:, None, :]
        here = change[kinds[0][i], kinds[1][j]]  # (n, moves, window rows, window columns)
        excess = self.excess[p, rows, columns][:, None] + here
        missed = np.maximum(np.maximum(-excess, excess - self.most), 0)
        missed *= self.known[rows, columns][:, None]
        cost = missed.sum((2, 3)).astype(np.float32)
        if noise:
            cost += self.rng.exponential(noise, cost.shape)
        best = cost.argmin(1)
        self.excess[p, rows, columns] += here[np.arange(len(best)), best]
        rows = i[:, None, None] + np.arange(moves.shape[1])[:, None]
        columns = j[:, None, None] + np.arange(moves.shape[2])
        self.samples[p, rows, columns] += moves[best]


def _copies(frame: _Frame) -> Floats:
    """The commonest of each sample's own pixels; smooth where none is known."""
    rule = frame.rule
    code = frame.chroma[0].astype(np.int32) << 8 | frame.chroma[1]
    code = np.where(frame.known, code, -1 - np.arange(code.size).reshape(code.shape))
    row, column = rule.rows.step, rule.columns.step
    own = [code[i::row, j::column] for i in range(row) for j in range(column)]
    votes = np.stack([sum((a == b).astype(np.int8) for b in own) * (a >= 0) for a in own])
    best = np.take_along_axis(np.stack(own), votes.argmax(0)[None], 0)[0]
    return fill(np.stack([best >> 8, best & 255]).astype(np.float32), best >= 0)


def shrink(
    chroma: Bytes,
    known: Mask,
    rule: Upsampling,
    rows: Extent,
    columns: Extent,
    pull: Pull | None = None,
    rounds: int = 24,
) -> Bytes:
    """Samples that stretch to the known pixels, as far as there are any.

    chroma: (2, height, width) uint8, known: (height, width) bool; returns (2, plane height, plane
    width) uint8, by `rule`.
    """
    frame = _Frame(chroma, known, rule, rows, columns)
    if rule.rows in (COPY,) or rule.columns in (COPY,):
        return np.rint(_copies(frame)).astype(np.uint8)
    samples = np.rint(estimate(frame, pull)).astype(np.int32)
    if rule.rows.step == rule.columns.step == 1:
        return samples.astype(np.uint8)
    search = _Search(frame, samples)
    for _ in range(3):
        search.sweep((1, 1), 0, known.size)
    block = (2, 2) if rule.rows.step == rule.columns.step else ((4, 1) if rule.rows.step == 2 else (1, 4))
    noise = (1 << rule.shift) / 8
    for _ in range(rounds):
        if not search.sweep(block, noise, known.size // 100):
            break
    return np.clip(search.samples, 0, 255).astype(np.uint8)


def choose(chroma: Bytes, known: Mask) -> tuple[int, Extent, Extent]:
    """The number of the rule by which chroma was stretched (0: it was not), and its extents."""
    top, left = _busiest(chroma, known)
    part = np.s_[top : top + WINDOW, left : left + WINDOW]
    some, sure = chroma[(slice(None), *part)], known[part]
    down = _plausible(some.swapaxes(1, 2), sure.T)
    across = _plausible(some, sure)
    best = (GOOD, 0, 0, 0)
    for number, rule in enumerate(RULES[1:], 1):
        for row, column in itertools.product(down[rule.rows], across[rule.columns]):
            rows, columns = _loose(len(sure), rule.rows, row), _loose(sure.shape[1], rule.columns, column)
            samples = shrink(some, sure, rule, rows, columns, rounds=0)
            score = _missed(some, sure, samples, rule, rows, columns).sum() / max(2 * sure.sum(), 1)
            best = min(best, (float(score), number, row, column))
    _, number, row, column = best
    rule = RULES[number]
    rows, columns = _loose(len(known), rule.rows, row), _loose(known.shape[1], rule.columns, column)
    turned = Upsampling("", rule.columns, rule.rows, rule.shift, tuple(zip(*rule.bias, strict=True)))  # type: ignore[arg-type]
    return (
        number,
        _tight(chroma, known, rule, row, columns),
        _tight(chroma.swapaxes(1, 2), known.T, turned, column, rows),
    )


def _missed(
    chroma: Bytes, known: Mask, samples: Bytes, rule: Upsampling, rows: Extent, columns: Extent
) -> Mask:
    """(2, height, width): the known pixels that the samples don't stretch to."""
    height, width = known.shape
    made = [upsample(plane, rule, rows, columns, (height, width)) for plane in samples]
    return (np.stack(made) != chroma) & known


def _busiest(chroma: Bytes, known: Mask) -> tuple[int, int]:
    """Where the square of `WINDOW` begins in which chroma changes most; even numbers."""
    height, width = known.shape
    if height <= WINDOW and width <= WINDOW:
        return 0, 0
    change = np.abs(np.diff(chroma[:, ::2].astype(np.int16), axis=2)).sum(0)
    change *= known[::2, 1:] & known[::2, :-1]
    best, found = -1, (0, 0)
    for top in range(0, max(height - WINDOW // 2, 1), WINDOW // 2):
        for left in range(0, max(width - WINDOW // 2, 1), WINDOW // 2):
            here = change[top // 2 : (top + WINDOW) // 2, left : left + WINDOW].sum(dtype=np.int64)
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


def _loose(pixels: int, stretch: Stretch, phase: int) -> Extent:
    """The extent with all samples that can be seen in the pixels, whose pairs begin at phase."""
    return max(e for e in extents(pixels, stretch) if e.before % 2 == phase)


_STRIP = 24


def _tight(chroma: Bytes, known: Mask, rule: Upsampling, phase: int, columns: Extent) -> Extent:
    """The extent of the rows: with a sample beyond either edge only if the pixels there need it."""
    height = len(known)
    loose = _loose(height, rule.rows, phase)
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
            samples = shrink(some, sure, rule, extent, columns, rounds=0)
            missed = _missed(some, sure, samples, rule, extent, columns)
            wrong.append(int(missed[:, -edge].sum()))
        if wrong[0] <= max(0.1 * 2 * sure[-edge].sum(), 2 * wrong[1]):
            chosen[edge] = 0
    return Extent(*chosen)
