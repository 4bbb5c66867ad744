"""The search for the samples of a stretched plane: see `pixelzip.codec.origins.downsampling`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.compiled import kernel, part

Ints = NDArray[np.int32]

_LONGEST = 4  # side of a block of samples
_WINDOW = 2 * _LONGEST + 2
_MOST_COST = np.int64(2**63 - 1)


@part
def _is_wrong(excess, known, most, plane, y, x):  # type: ignore[no-untyped-def]
    return known[y, x] and (excess[plane, y, x] < 0 or excess[plane, y, x] > most)


@part
def _weigh(stretch, start, length, count, weights):  # type: ignore[no-untyped-def]
    """Weights of so many samples from ``start`` on in the pixels about them; how many those are."""
    window = length if stretch[0] == 1 else 2 * length + 2
    weights[:] = 0
    for k in range(length):
        if stretch[0] == 1:
            weights[k, k] = 1
            continue
        first, last = start + k == 0, start + k == count - 1
        weights[k, 2 * k] = stretch[4]
        weights[k, 2 * k + 1] = stretch[1] + (stretch[2] if first else 0)
        weights[k, 2 * k + 2] = stretch[3] + (stretch[4] if last else 0)
        weights[k, 2 * k + 3] = stretch[2]
    return window


@part
def _chance(random):  # type: ignore[no-untyped-def]
    """About exponentially distributed, 1.5 in 256ths on average."""
    state = random[0]
    state ^= state >> np.uint64(12)
    state ^= state << np.uint64(25)
    state ^= state >> np.uint64(27)
    random[0] = state
    number = state * np.uint64(2685821657736338717)
    zeros, bits = np.int64(0), number >> np.uint64(8)
    while bits & np.uint64(1) == 0 and zeros < 24:
        bits >>= np.uint64(1)
        zeros += 1
    return 256 * zeros + np.int64(number >> np.uint64(56))


@part
def _improve(  # type: ignore[no-untyped-def]
    samples, excess, known, margin, down, across, most, plane, i, j, moves, rows, columns, noise,
    random, vertical, horizontal,
):  # fmt: skip
    """Make the best of some moves of a block of samples."""
    height = _weigh(down, i, rows, samples.shape[1], vertical)
    width = _weigh(across, j, columns, samples.shape[2], horizontal)
    top = margin + down[0] * i - (1 if down[0] > 1 else 0)
    left = margin + across[0] * j - (1 if across[0] > 1 else 0)
    best, least = 0, _MOST_COST
    for move in range(moves.shape[0]):
        cost = np.int64(0)
        for r in range(height):
            for c in range(width):
                if known[top + r, left + c]:
                    x = np.int64(excess[plane, top + r, left + c])
                    for k in range(rows * columns):
                        x += moves[move, k] * vertical[k // columns, r] * horizontal[k % columns, c]
                    cost += max(max(-x, x - most), np.int64(0))
        cost *= 256
        if noise:
            cost += noise * _chance(random) // 256
        if cost < least:
            best, least = move, cost
    for k in range(rows * columns):
        step = moves[best, k]
        samples[plane, i + k // columns, j + k % columns] += step
        for r in range(height):
            for c in range(width):
                change = vertical[k // columns, r] * horizontal[k % columns, c]
                excess[plane, top + r, left + c] += step * change


@part
def _starts(stretch, at, length, count, found):  # type: ignore[no-untyped-def]
    """Where the blocks begin that are tried for a pixel of an axis; how many those are."""
    found[:] = at
    if stretch[0] == 2:
        found[0] = at // 2 if length == 1 else (at + 1) // 2 - length // 2
        found[1] = at // 2 + at % 2 * 2 - 1
    for k in range(2):
        found[k] = max(min(found[k], count - length), 0)
    return 2 if stretch[0] == 2 and length == 1 else 1


def sweep(
    samples: Ints, excess: Ints, known: NDArray[np.bool_], margin: int, limit: int, down: Ints,
    across: Ints, most: int, moves: NDArray[np.int8], rows: int, columns: int, noise: int,
    random: NDArray[np.uint64],
) -> int:  # fmt: skip
    """Try all moves of a block of samples at each wrong pixel; how many those were, see the C."""
    wrong = int(np.count_nonzero(known & ((excess < 0) | (excess > most))))
    if 0 < wrong <= limit and samples.shape[1] >= rows and samples.shape[2] >= columns:
        shapes = (2,), (2,), (_LONGEST, _WINDOW), (_LONGEST, _WINDOW)
        _sweep(
            samples, excess, known, margin, down, across, most, moves, rows, columns, noise,
            random, *(np.zeros(shape, np.int64) for shape in shapes),
        )  # fmt: skip
    return wrong


@kernel
def _sweep(  # type: ignore[no-untyped-def]
    samples, excess, known, margin, down, across, most, moves, rows, columns, noise, random,
    tops, lefts, vertical, horizontal,
):  # fmt: skip
    for plane in range(2):
        for y in range(margin, known.shape[0] - margin):
            for x in range(margin, known.shape[1] - margin):
                if not _is_wrong(excess, known, most, plane, y, x):
                    continue
                options = _starts(across, x - margin, columns, samples.shape[2], lefts)
                for k in range(_starts(down, y - margin, rows, samples.shape[1], tops) * options):
                    if not _is_wrong(excess, known, most, plane, y, x):
                        break
                    i, j = tops[k // options], lefts[k % options]
                    _improve(samples, excess, known, margin, down, across, most, plane, i, j,
                             moves, rows, columns, noise, random,
                             vertical, horizontal)  # fmt: skip
