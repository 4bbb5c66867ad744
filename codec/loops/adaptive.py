"""The adaptive last stage in loops that numba compiles: see ``codec/csrc/adaptive.c``.

All floats are binary32, each operation rounded once, in the order that stands here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.compiled import kernel, part
from pixelzip.codec.loops.frequencies import UNIT_BITS, clamp, next_word, sigmoid, weights
from pixelzip.codec.tables import (
    INVERSE_SCALE,
    LOG_SCALE_MAX,
    LOG_SCALE_MIN,
    MEAN_LIMIT,
    TOTAL_BITS,
)

_FEATURES, _OWN, _OWN_ALONE, _OTHER = 32, 12, 20, 6
_ABOVE, _BESIDE, _RADIUS, _ALIKE = 3, 5, 8, 6
_NEAREST, _NEAREST_ALONE = 12, 10
_RECURSIVE, _FILTERS, _EXPERTS, _MEMORIES, _INPUTS = 2, 5, 7, 8, 16
_SOLVE_EVERY, _NOTED = 4, 8
_LN_2 = 45426
_SIZES, _JUMPS, _HALVINGS, _NODES = 8, 1, 17, 49
_SETS, _STORIES, _CERTAINTIES, _WIDTHS, _DISPUTES = 5, 12, 32, 36, 20
_STARTS = np.cumsum(
    [0, 8 * _STORIES, 8 * _CERTAINTIES, _NODES * _SIZES, 8 * _WIDTHS, 8 * _DISPUTES]
)
_WEIGHTS = np.array([1050000, *[100000] * 3, 0, 0, 100000, *[40000] * 8, 0], np.int32)
_MOST_WEIGHT, _RATE = 1 << 25, 400
_REACH, _BELOW, _CONTEXT_BITS = 16, 7, 14
_COUNT, _MOST_COUNTED, _DOUBT = 32, 1 << 14, 48
_STRETCH_LIMIT, _Z_LIMIT = 12 << 16, 1 << 18
_CHANCES, _LEAST_CHANCE = 1 << 22, 8
_UNIT = 1 << UNIT_BITS
_SPREAD = (1 << TOTAL_BITS) - 4
_MISSED, _WIDE = _FILTERS, _FILTERS + 1  # after the filters' errors
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_TINY, _BYTE, _UNITS = np.float32(2.0**-40), np.float32(255), np.float32(256)
_KEEP = np.array([0.998, 0.9998], np.float32)
_KNOWN = np.array([0, 2, 4, 6, 8, 8, 8, 8, 8])  # columns from this one on, by row
_NEAR = np.array([
    (0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-2, 1), (-2, -1), (-1, -2), (-2, 2),
    (0, -3), (-3, 0), (-2, -2), (-1, -3), (0, -4), (-3, 1), (-3, -1), (-2, 3), (-3, 2), (-2, -3),
])  # fmt: skip


# Rows of the room for a sub-pixel's integers, ...
_PREDICTED, _SCALES, _BOTTOM, _MIDDLE, _TOP, _INPUT, _CHOSEN, _CHANCE, _CONTEXTS = range(9)
_MEMORY, _LOWEST, _BELOWS = 9, 10, 11  # the last one of a memory; those of the others follow
# ... of that for its floats, after a matrix, ...
_VECTOR, _SOLVED, _HERE, _X, _THERE = range(_FEATURES, _FEATURES + 5)
# ... of a recursive filter, likewise, ...
_TARGET, _FILTER = range(_FEATURES, _FEATURES + 2)
# ... and of a mixture.
_WEIGHT, _MEAN, _INVERSE, _MOVED = range(4)


class State(NamedTuple):
    """What is known of a tile, and room. Few arrays: each makes the compiler take longer."""

    samples: NDArray[np.uint8]
    notes: NDArray[np.int32]
    recursive: NDArray[np.float32]
    """(channels, filters, matrix and two rows, features)"""
    since: NDArray[np.int64]
    weights: NDArray[np.int32]
    counts: NDArray[np.uint16]
    """(channels, memories, contexts, values)"""
    products: NDArray[np.int64]
    """(features and one row, features)"""
    integers: NDArray[np.int64]
    floats: NDArray[np.float32]


def fresh(height: int, width: int, channels: int) -> State:
    """Of a tile of which nothing is known yet."""
    both = channels, _RECURSIVE
    state = State(
        samples=np.full((height + _ABOVE, width + 2 * _BESIDE, channels), 128, np.uint8),
        notes=np.zeros((height, _NOTED, channels, _FILTERS + 2), np.int32),
        recursive=np.zeros((*both, _FEATURES + 2, _FEATURES), np.float32),
        since=np.zeros(both, np.int64),
        weights=np.tile(_WEIGHTS, (channels, _STARTS[-1], 1)),
        counts=np.zeros((channels, _MEMORIES, 1 << _CONTEXT_BITS, _REACH), np.uint16),
        products=np.zeros((_FEATURES + 1, _FEATURES), np.int64),
        integers=np.zeros((_BELOWS + _MEMORIES, _REACH + 1), np.int64),
        floats=np.zeros((_FEATURES + 5, _FEATURES), np.float32),
    )
    state.integers[_INPUT, _INPUTS - 1] = 19661
    for channel in range(channels):
        own = _OWN_ALONE if channels == 1 else _OWN + 2 * _OTHER + channel
        state.recursive[channel, :, _FILTER, own] = 1
    return state


@part
def _put(samples, row, column, channel, value):  # type: ignore[no-untyped-def]
    """A sample gets known, and with it those outside of the tile that it stands for."""
    width = samples.shape[1] - 2 * _BESIDE
    r, c = row + _ABOVE, column + _BESIDE
    samples[r, c, channel] = value
    if column == 0 and r + 1 < samples.shape[0]:
        for beside in range(_BESIDE):
            samples[r + 1, beside, channel] = value
    if column == width - 1:
        for beside in range(c + 1, samples.shape[1]):
            samples[r, beside, channel] = value
    if row == 0:
        for up in range(1, _ABOVE + 1):
            if column + up + 2 < width + _BESIDE:
                samples[r - up, c + up + 2, channel] = value


@part
def _find_features(samples, row, column, channel, floats, to):  # type: ignore[no-untyped-def]
    channels = samples.shape[2]
    r, c, count = row + _ABOVE, column + _BESIDE, 0
    for i in range(_OWN_ALONE if channels == 1 else _OWN):
        floats[to, count] = samples[r + _NEAR[i, 0], c + _NEAR[i, 1], channel]
        count += 1
    for other in range(channels):
        if other == channel:
            continue
        if other < channel:
            floats[to, count] = samples[r, c, other]
            count += 1
        for i in range(_OTHER):
            floats[to, count] = samples[r + _NEAR[i, 0], c + _NEAR[i, 1], other]
            count += 1
    return count


@part
def _eliminate(n, a):  # type: ignore[no-untyped-def]
    """The first half of solving the symmetric a w = b of n unknowns, b a row of ``a``.

    Only the upper triangle of a counts.
    """
    for j in range(n):
        if not a[j, j] >= _TINY:
            a[j, j] = _TINY
        for i in range(j + 1, n):
            f = a[j, i] / a[j, j]
            for m in range(i, n):
                a[i, m] -= f * a[j, m]
            a[_VECTOR, i] -= f * a[_VECTOR, j]


@part
def _substitute(n, a, to, row):  # type: ignore[no-untyped-def]
    """The second half, of the first n unknowns: w is a row of ``to``."""
    for i in range(n):
        to[row, i] = a[_VECTOR, i]
    for i in range(n - 1, -1, -1):
        to[row, i] /= a[i, i]
        for m in range(i):
            to[row, m] -= a[m, i] * to[row, i]


@part
def _filtered(n, w, row, floats):  # type: ignore[no-untyped-def]
    total = _ZERO
    for i in range(n):
        total += w[row, i] * floats[_X, i]
    return total


@part
def _rounded(prediction):  # type: ignore[no-untyped-def]
    if not prediction >= _ZERO:
        return 0
    return np.int64(min(prediction, _BYTE) * _UNITS + _HALF)


@part
def _learn_recursive(a, keep, solve, n, floats, target):  # type: ignore[no-untyped-def]
    part = _ONE - keep
    for q in range(n):
        z = floats[_X, q] * part
        for m in range(q, n):
            a[q, m] = a[q, m] * keep + z * floats[_X, m]
    z = target * part
    for m in range(n):
        a[_TARGET, m] = a[_TARGET, m] * keep + z * floats[_X, m]
    if solve:
        for q in range(n):
            for m in range(q, n):
                floats[q, m] = a[q, m]
            floats[q, q] += _HALF
            floats[_VECTOR, q] = a[_TARGET, q]
        floats[_VECTOR, n - 1] += _HALF
        _eliminate(n, floats)
        _substitute(n, floats, a, _FILTER)


@part
def _look_back(samples, width, row, column, channel, n, a, sums):  # type: ignore[no-untyped-def]
    """What local filters are solved from, into ``a``."""
    base, total, z = 64 * np.int64(a[_HERE, 0] + a[_HERE, 1]), np.int64(0), _FEATURES
    for q in range(n):
        for m in range(q, n + 1):
            sums[q, m] = 0
    for up in range(_RADIUS + 1):
        for right in range(-_RADIUS, _KNOWN[up]):
            r, c = row - up, column + right
            if r < 0 or c < 0 or c >= width:
                continue
            _find_features(samples, r, c, channel, a, _THERE)
            a[_THERE, n] = samples[r + _ABOVE, c + _BESIDE, channel]
            unlike = np.int64(0)
            for i in range(_ALIKE):
                unlike += np.int64(abs(a[_THERE, i] - a[_HERE, i]))
            g = 648000 // (18 + up + abs(right)) // (9 + unlike)
            total += g * g
            for i in range(n + 1):
                sums[z, i] = ((128 * np.int64(a[_THERE, i]) - base) * g + (1 << 14)) >> 15
            for q in range(n):
                for m in range(q, n + 1):
                    sums[q, m] += sums[z, q] * sums[z, m]
    ridge = np.float32(total) / np.float32(1 << 16) if total > 1 << 16 else _ONE
    for q in range(n):
        for m in range(q, n):
            a[q, m] = np.float32(sums[q, m])
        a[q, q] += ridge
        a[_VECTOR, q] = np.float32(sums[q, n])
    a[_VECTOR, 0] += _HALF * ridge
    a[_VECTOR, 1] += _HALF * ridge


@part
def _predict_locally(channels, n, base, a, integers):  # type: ignore[no-untyped-def]
    _eliminate(n, a)
    for i in range(_RECURSIVE, _FILTERS):
        near = _NEAREST_ALONE if channels == 1 else _NEAREST
        count = n if i == _RECURSIVE else near if i == _RECURSIVE + 1 else _ALIKE
        _substitute(count, a, a, _SOLVED)
        integers[_PREDICTED, i] = _rounded(base + _filtered(count, a, _SOLVED, a))


@part
def _ln(x, ln):  # type: ignore[no-untyped-def]
    """2^16 ln(x), for x >= 1."""
    digits, step = 0, 32
    while step:
        if x >> (digits + step):
            digits += step
        step >>= 1
    y = (x >> (digits - 22) if digits >= 22 else x << (22 - digits)) - (1 << 22)
    at = y >> 12
    more = ((ln[at + 1] - ln[at]) * (y & 4095)) >> 12 if y & 4095 else 0
    return digits * _LN_2 + ln[at] + more


@part
def _note(notes, width, row, column, channel, which):  # type: ignore[no-untyped-def]
    if row < 0 or column < 0 or column >= width:
        return np.int64(0)
    return np.int64(notes[row, column % _NOTED, channel, which])


@part
def _scale(notes, width, r, c, k, i):  # type: ignore[no-untyped-def]
    """How wide a filter's logistic is, from the errors that it made nearby."""
    near = 4 * (_note(notes, width, r, c - 1, k, i) + _note(notes, width, r - 1, c, k, i))
    near += 3 * _note(notes, width, r - 1, c - 1, k, i)
    near += 3 * _note(notes, width, r - 1, c + 1, k, i)
    near += 2 * (_note(notes, width, r, c - 2, k, i) + _note(notes, width, r - 2, c, k, i))
    scale = 35 + near // 24
    if k > 0:
        before = _note(notes, width, r, c, k - 1, i)
        scale = (5 * scale + 3 * (before if before > 77 else 77)) // 10
    return scale


@part
def _near(notes, width, r, c, k, which):  # type: ignore[no-untyped-def]
    near = 2 * (_note(notes, width, r, c - 1, k, which) + _note(notes, width, r - 1, c, k, which))
    near += _note(notes, width, r - 1, c - 1, k, which)
    return near + _note(notes, width, r - 1, c + 1, k, which)


@part
def _look_around(notes, width, r, c, k, mean, spread, ln, integers):  # type: ignore[no-untyped-def]
    missed = 16 + _near(notes, width, r, c, k, _MISSED)
    promised = 16 + _near(notes, width, r, c, k, _WIDE)
    far = 0
    if k > 0:
        before = _note(notes, width, r, c, k - 1, _MISSED)
        wide = _note(notes, width, r, c, k - 1, _WIDE)
        missed += 2 * before
        promised += 2 * wide
        far = 2 if before > 2 * wide else 1 if before > wide else 0
    story = (_ln(missed, ln) - _ln(promised, ln) + (5 << 15)) >> 15
    integers[_CONTEXTS, 0] = clamp(story, 0, _STORIES - 1)
    width_now = clamp((_ln(spread + 1, ln) - (3 << 16)) >> 15, 0, 11)
    integers[_CONTEXTS, 1] = 3 * width_now + far
    apart = integers[_PREDICTED, _RECURSIVE] - mean
    dispute = clamp(_ln(16 * abs(apart) // (spread // 16 + 1) + 1, ln) >> 15, 0, 9)
    integers[_CONTEXTS, 2] = dispute + (_DISPUTES // 2 if apart < 0 else 0)


@part
def _remember(counts, i, a, b, c, expected, integers):  # type: ignore[no-untyped-def]
    """The counts of the context of three numbers, of values about the expected one."""
    every = ((a + 512) << 20) | ((b + 512) << 10) | (c + 512)
    context = ((every * 0x9E3779B1) & 0xFFFFFFFF) >> (32 - _CONTEXT_BITS)
    integers[_MEMORY, i] = context
    integers[_LOWEST, i] = expected - _BELOW
    total = np.int64(0)
    for q in range(_REACH):
        integers[_BELOWS + i, q] = total
        total += counts[i, context, q]
    integers[_BELOWS + i, _REACH] = total


@part
def _difference(samples, r, c, k):  # type: ignore[no-untyped-def]
    """Of a channel and the one before; without one, the channel."""
    before = np.int64(samples[r, c, k - 1]) if k > 0 else 0
    return np.int64(samples[r, c, k]) - before


@part
def _remember_all(samples, row, column, k, counts, integers):  # type: ignore[no-untyped-def]
    r, c = row + _ABOVE, column + _BESIDE
    left, above = _difference(samples, r, c - 1, k), _difference(samples, r - 1, c, k)
    corner, right = _difference(samples, r - 1, c - 1, k), _difference(samples, r - 1, c + 1, k)
    further, higher = _difference(samples, r, c - 2, k), _difference(samples, r - 2, c, k)
    both = (left + above) >> 1
    if k == 0:
        _remember(counts, 0, above - higher, left - corner, 0, above, integers)
        _remember(counts, 1, left - further, above - corner, 0, left, integers)
        _remember(counts, 2, left - corner, above - corner, 0, left + above - corner, integers)
        _remember(counts, 3, above - corner, right - above, 0, above, integers)
        _remember(counts, 4, above - higher, left - further, 0, both, integers)
        _remember(counts, 5, left, above, 0, both, integers)
        _remember(counts, 6, left - above, right - above, 0, above, integers)
        _remember(counts, 7, right - higher, left - corner, 0, right, integers)
        return
    last, here = np.int64(samples[r, c, k - 1]), _difference(samples, r, c, k - 1)
    _remember(counts, 2, left, above, 0, last + both, integers)
    _remember(counts, 3, above, right, 0, last + ((above + right) >> 1), integers)
    _remember(counts, 4, above, higher, 0, last + above, integers)
    _remember(counts, 5, left, further, 0, last + left, integers)
    for i in (0, 1, 6, 7):
        up, beside = (0, -1) if i == 1 else (1, 0 if i == 0 else -1 if i == 6 else 1)
        there = _difference(samples, r - up, c + beside, k)
        before = _difference(samples, r - up, c + beside, k - 1)
        more = before if k > 1 else 0
        _remember(counts, i, there, here - before, more, last + there, integers)


@part
def _remembered(i, low, edge, high, integers, ln):  # type: ignore[no-untyped-def]
    """A memory's opinion of a decision, stretched."""
    lowest, row = integers[_LOWEST, i], _BELOWS + i
    least = integers[row, clamp(low - lowest, 0, _REACH)]
    middle = integers[row, clamp(edge - lowest, 0, _REACH)]
    most = integers[row, clamp(high - lowest, 0, _REACH)]
    return _ln(most - middle + _DOUBT, ln) - _ln(middle - least + _DOUBT, ln)


@part
def _learn_counts(counts, value, integers):  # type: ignore[no-untyped-def]
    for i in range(_MEMORIES):
        context = integers[_MEMORY, i]
        counts[i, context, clamp(value - integers[_LOWEST, i], 0, _REACH - 1)] += _COUNT
        if integers[_BELOWS + i, _REACH] + _COUNT > _MOST_COUNTED:
            for q in range(_REACH):
                counts[i, context, q] -= counts[i, context, q] >> 1


@part
def _cdf(edge, mixture, mean):  # type: ignore[no-untyped-def]
    """C of a mixture, with its means in that row, at an edge from 1 to 255."""
    total = np.int64(0)
    for k in range(mixture.shape[1]):
        if mixture[_WEIGHT, k] > 0:
            z = (256 * edge - 128 - mixture[mean, k]) * mixture[_INVERSE, k]
            total += mixture[_WEIGHT, k] * sigmoid(z)
    return total


@part
def _ask(low, edge, high, mixture, integers, ln):  # type: ignore[no-untyped-def]
    """What each expert says of a decision: C at the edge, and the stretched probability."""
    for i in range(_EXPERTS):
        if i == 0:
            middle = _cdf(edge, mixture, _MEAN)
        elif i < _EXPERTS - 1:
            z = (256 * edge - 128 - integers[_PREDICTED, i - 1]) * integers[_SCALES, i - 1]
            middle = sigmoid(z) << 14
        else:
            middle = _cdf(edge, mixture, _MOVED)
        doubt = 1 << 16 if i == 0 else 1 << 23
        up = _ln(integers[_TOP, i] - middle + doubt, ln)
        down = _ln(middle - integers[_BOTTOM, i] + doubt, ln)
        integers[_MIDDLE, i] = middle
        integers[_INPUT, i] = clamp(up - down, -_STRETCH_LIMIT, _STRETCH_LIMIT)
        if i > 0:
            integers[_INPUT, i] -= integers[_INPUT, 0]
    for i in range(_MEMORIES):
        integers[_INPUT, _EXPERTS + i] = _remembered(i, low, edge, high, integers, ln)


@part
def _mix(sets, starts, place, node, integers):  # type: ignore[no-untyped-def]
    """The chance of a yes, by the weights that the contexts choose."""
    certainty = clamp((integers[_INPUT, 0] + (8 << 16)) >> 15, 0, _CERTAINTIES - 1)
    integers[_CHOSEN, 0] = starts[0] + place * _STORIES + integers[_CONTEXTS, 0]
    integers[_CHOSEN, 1] = starts[1] + place * _CERTAINTIES + certainty
    integers[_CHOSEN, 2] = starts[2] + node
    integers[_CHOSEN, 3] = starts[3] + place * _WIDTHS + integers[_CONTEXTS, 1]
    integers[_CHOSEN, 4] = starts[4] + place * _DISPUTES + integers[_CONTEXTS, 2]
    every = np.int64(0)
    for s in range(_SETS):
        total = np.int64(0)
        for i in range(_INPUTS):
            total += np.int64(sets[integers[_CHOSEN, s], i]) * integers[_INPUT, i]
        total = clamp(total >> 22, -_Z_LIMIT, _Z_LIMIT)
        integers[_CHANCE, s] = sigmoid(total << 14)
        every += total
    chance = sigmoid((every // _SETS) << 14)
    return clamp(chance, _LEAST_CHANCE, _CHANCES - _LEAST_CHANCE)


@part
def _adjust(sets, bit, integers):  # type: ignore[no-untyped-def]
    """The weights learn from a decision, and each expert's interval shrinks to what is left."""
    for s in range(_SETS):
        at, error = integers[_CHOSEN, s], (_CHANCES if bit else 0) - integers[_CHANCE, s]
        for i in range(_INPUTS):
            step = (((error * integers[_INPUT, i]) >> 14) * _RATE + (1 << 19)) >> 20
            sets[at, i] = clamp(np.int64(sets[at, i]) + step, -_MOST_WEIGHT, _MOST_WEIGHT)
    for i in range(_EXPERTS):
        integers[_BOTTOM if bit else _TOP, i] = integers[_MIDDLE, i]


@part
def _read(payload, coder, zero):  # type: ignore[no-untyped-def]
    """A bit whose zero has a frequency of ``zero`` + 1; a 2 if it cannot be there."""
    scale = coder[1] >> np.uint64(TOTAL_BITS)
    quantile = coder[0] // scale
    first, middle, end = np.uint64(1), np.uint64(zero + 2), np.uint64(_SPREAD + 3)
    if quantile < first or quantile >= end:
        return 2
    bit = 1 if quantile >= middle else 0
    below, above = (middle, end) if bit else (first, middle)
    coder[0] -= scale * below
    coder[1] = scale * (above - below)
    if coder[1] >> np.uint64(32) == 0:
        coder[1] <<= np.uint64(32)
        coder[0] = (coder[0] << np.uint64(32)) | next_word(payload, coder)
    return bit


@kernel
def code(  # type: ignore[no-untyped-def]
    state, rows, columns, channel, parameters, mixture,
    values, intervals, counts, payload, coder, ln,
):  # fmt: skip
    """See adaptive_code in adaptive.c. If there are ``intervals``, they are filled in.

    ``mixture`` is room, (4, components).
    """
    integers, floats, notes, filled = state.integers, state.floats, state.notes, 0
    samples, recursive, sets = state.samples, state.recursive, state.weights[channel]
    counted = state.counts[channel]
    starts, width, components = _STARTS, samples.shape[1] - 2 * _BESIDE, mixture.shape[1]
    for number in range(len(rows)):
        row, column = np.int64(rows[number]), np.int64(columns[number])
        # What the network says.
        weights(parameters[number, 0], mixture[_WEIGHT])
        centre = spread = np.int64(0)
        for k in range(components):
            mean = clamp(np.int64(parameters[number, 1, k]), -MEAN_LIMIT, MEAN_LIMIT)
            size = clamp(np.int64(parameters[number, 2, k]), LOG_SCALE_MIN, LOG_SCALE_MAX)
            mixture[_MEAN, k] = mean
            mixture[_INVERSE, k] = INVERSE_SCALE[size - LOG_SCALE_MIN]
            centre += mixture[_WEIGHT, k] * mean
        centre >>= 14
        for k in range(components):
            around = (1 << 28) // mixture[_INVERSE, k] + abs(mixture[_MEAN, k] - centre)
            spread += mixture[_WEIGHT, k] * around
        spread >>= 14
        centre = clamp(centre, 0, 255 * 256)
        # What the filters say.
        n = _find_features(samples, row, column, channel, floats, _HERE)
        floats[_HERE, n] = np.float32(centre) / _UNITS
        n += 1
        base = (floats[_HERE, 0] + floats[_HERE, 1]) * _HALF
        for i in range(n):
            floats[_X, i] = floats[_HERE, i] - base
        _look_back(samples, width, row, column, channel, n - 1, floats, state.products)
        _predict_locally(samples.shape[2], n - 1, base, floats, integers)
        together = centre + integers[_PREDICTED, _RECURSIVE]
        for i in range(_RECURSIVE):
            found = base + _filtered(n, recursive[channel, i], _FILTER, floats)
            integers[_PREDICTED, i] = _rounded(found)
            together += integers[_PREDICTED, i]
        together //= _RECURSIVE + 2
        for i in range(_FILTERS):
            integers[_SCALES, i] = (1 << 28) // _scale(notes, width, row, column, channel, i)
        for k in range(components):
            mixture[_MOVED, k] = mixture[_MEAN, k] + together - centre
        _look_around(notes, width, row, column, channel, centre, spread, ln, integers)
        _remember_all(samples, row, column, channel, counted, integers)
        for i in range(_EXPERTS):
            integers[_BOTTOM, i] = 0
            integers[_TOP, i] = _UNIT
        middling, size = clamp((together + 128) >> 8, 1, 255), 0
        while size < _SIZES - 1 and 185 << size < spread:
            size += 1
        low, high, side, jumps, between = np.int64(0), np.int64(256), 0, -1, False
        before = filled
        while high - low > 1:
            # On which side of the centre, how far away, and where there.
            if jumps < 0:
                edge, node, place = middling, 0, 0
            else:
                reach = ((2 << jumps) - 1) << size
                edge = middling + reach if side else middling - reach
                node, place = _JUMPS + _SIZES * side + jumps, 1 + jumps if jumps < 2 else 3
                between = between or not low < edge < high
            if between:
                wide, far = high - low, jumps if jumps < 3 else 3
                level = 3 if wide > 8 else 2 if wide > 4 else 1 if wide > 2 else 0
                edge, place = (low + high) >> 1, 4 + level
                node = _HALVINGS + 4 * (4 * side + far) + level
            _ask(low, edge, high, mixture, integers, ln)
            zero = _SPREAD - 4 * _mix(sets, starts, place, node * _SIZES + size, integers)
            if len(intervals):
                above = 1 if values[number] >= edge else 0
                below = zero + 2 if above else 1
                frequency = _SPREAD - zero + 1 if above else zero + 1
                intervals[filled, 0] = below - 1
                intervals[filled, 1] = frequency - 1
                intervals[filled, 2] = (1 << TOTAL_BITS) - below - frequency - 1
                filled += 1
            else:
                above = _read(payload, coder, zero)
                if above > 1:
                    return 1
            _adjust(sets, above, integers)
            if above:
                low = edge
            else:
                high = edge
            if jumps < 0:
                side = above
            elif above != side:
                between = True
            if not between:
                jumps += 1
        counts[number] = filled - before
        # What is learnt of it.
        value = low
        values[number] = value
        at = column % _NOTED
        for i in range(_FILTERS):
            notes[row, at, channel, i] = abs(256 * value - integers[_PREDICTED, i])
        notes[row, at, channel, _MISSED] = abs(256 * value - centre)
        notes[row, at, channel, _WIDE] = spread
        for i in range(_RECURSIVE):
            since = (state.since[channel, i] + 1) % _SOLVE_EVERY
            state.since[channel, i] = since
            target = np.float32(value) - base
            _learn_recursive(recursive[channel, i], _KEEP[i], since == 0, n, floats, target)
        _learn_counts(counted, value, integers)
        _put(samples, row, column, channel, value)
    return 0
