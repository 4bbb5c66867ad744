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
_RECURSIVE, _FILTERS, _EXPERTS, _INPUTS = 2, 3, 5, 6
_SOLVE_EVERY, _KEPT, _NOTED = 4, 32, 8
_LN_2 = 45426
_SETS, _STORIES, _CERTAINTIES, _NODES, _WIDTHS, _DISPUTES = 5, 12, 32, 256, 36, 20
_STARTS = np.cumsum([0, 8 * _STORIES, 8 * _CERTAINTIES, _NODES, 8 * _WIDTHS, 8 * _DISPUTES])
_OWN_WEIGHT, _OTHER_WEIGHT, _MOST_WEIGHT, _RATE = 713032, 136315, 1 << 25, 400
_STRETCH_LIMIT, _Z_LIMIT = 12 << 16, 1 << 18
_CHANCES, _LEAST_CHANCE = 1 << 22, 8
_UNIT = 1 << UNIT_BITS
_SPREAD = (1 << TOTAL_BITS) - 4
_MISSED, _WIDE = _FILTERS, _FILTERS + 1  # after the filters' errors
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_TINY, _BYTE, _UNITS = np.float32(2.0**-40), np.float32(255), np.float32(256)
_ENOUGH = np.float32(20)
_KEEP = np.array([0.998, 0.9998], np.float32)
_LAST = np.array([-1, 1, 3, 5, 7, 8, 8, 8, 8])  # column that is known for sure, by row
_NEAR = np.array([
    (0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0), (-2, 1), (-2, -1), (-1, -2), (-2, 2),
    (0, -3), (-3, 0), (-2, -2), (-1, -3), (0, -4), (-3, 1), (-3, -1), (-2, 3), (-3, 2), (-2, -3),
])  # fmt: skip


# Rows of the room for a sub-pixel's integers, ...
_PREDICTED, _SCALES, _BOTTOM, _MIDDLE, _TOP, _INPUT, _CHOSEN, _CHANCE, _CONTEXTS = range(9)
# ... of that for its floats, after a matrix, ...
_VECTOR, _SOLVED, _HERE, _X, _THERE = range(_FEATURES, _FEATURES + 5)
# ... of a recursive filter, likewise, ...
_TARGET, _FILTER = range(_FEATURES, _FEATURES + 2)
# ... and of a mixture.
_WEIGHT, _MEAN, _INVERSE, _MOVED = range(4)


class State(NamedTuple):
    """What is known of a tile, and room. Few arrays: each makes the compiler take longer."""

    samples: NDArray[np.uint8]
    passed: NDArray[np.float32]
    """(height, kept columns, channels, features and the value)"""
    notes: NDArray[np.int32]
    recursive: NDArray[np.float32]
    """(channels, filters, matrix and two rows, features)"""
    since: NDArray[np.int64]
    weights: NDArray[np.int32]
    integers: NDArray[np.int64]
    floats: NDArray[np.float32]


def fresh(height: int, width: int, channels: int) -> State:
    """Of a tile of which nothing is known yet."""
    both = channels, _RECURSIVE
    state = State(
        samples=np.full((height + _ABOVE, width + 2 * _BESIDE, channels), 128, np.uint8),
        passed=np.zeros((height, _KEPT, channels, _FEATURES + 1), np.float32),
        notes=np.zeros((height, _NOTED, channels, _FILTERS + 2), np.int32),
        recursive=np.zeros((*both, _FEATURES + 2, _FEATURES), np.float32),
        since=np.zeros(both, np.int64),
        weights=np.full((channels, _STARTS[-1], _INPUTS), _OTHER_WEIGHT, np.int32),
        integers=np.zeros((9, _INPUTS), np.int64),
        floats=np.zeros((_FEATURES + 5, _FEATURES), np.float32),
    )
    state.weights[..., 0], state.weights[..., -1] = _OWN_WEIGHT, 0
    state.integers[_INPUT, -1] = 19661
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
def _find_features(samples, row, column, channel, floats):  # type: ignore[no-untyped-def]
    channels = samples.shape[2]
    r, c, count = row + _ABOVE, column + _BESIDE, 0
    for i in range(_OWN_ALONE if channels == 1 else _OWN):
        floats[_HERE, count] = samples[r + _NEAR[i, 0], c + _NEAR[i, 1], channel]
        count += 1
    for other in range(channels):
        if other == channel:
            continue
        if other < channel:
            floats[_HERE, count] = samples[r, c, other]
            count += 1
        for i in range(_OTHER):
            floats[_HERE, count] = samples[r + _NEAR[i, 0], c + _NEAR[i, 1], other]
            count += 1
    for i in range(count, _FEATURES):
        floats[_HERE, i] = 0
    return count


@part
def _solve(n, a, to, row):  # type: ignore[no-untyped-def]
    """Solve the symmetric a w = b of n unknowns, b and w rows of ``a`` and ``to``.

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
    for i in range(n - 1, -1, -1):
        to[row, i] = a[_VECTOR, i] / a[i, i]
        for m in range(i):
            a[_VECTOR, m] -= a[m, i] * to[row, i]


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
        _solve(n, floats, a, _FILTER)


@part
def _predict_locally(passed, width, row, column, channel, n, base, a):  # type: ignore[no-untyped-def]
    for q in range(n):
        for m in range(q, n):
            a[q, m] = _ZERO
        a[_VECTOR, q] = _ZERO
    total = _ZERO
    for up in range(_RADIUS, -1, -1):
        for right in range(-_RADIUS, _LAST[up] + 1):
            r, c = row - up, column + right
            if r < 0 or c < 0 or c >= width:
                continue
            unlike = _ZERO
            for i in range(_ALIKE):
                apart = passed[r, c % _KEPT, channel, i] - a[_HERE, i]
                unlike += apart * apart
            far = np.float32(32 + up * up + right * right)
            g = _ONE / (far * (_ENOUGH + unlike))
            total += g
            for i in range(n):
                a[_THERE, i] = passed[r, c % _KEPT, channel, i] - base
            for q in range(n):
                z = g * a[_THERE, q]
                for m in range(q, n):
                    a[q, m] += z * a[_THERE, m]
            z = g * (passed[r, c % _KEPT, channel, _FEATURES] - base)
            for m in range(n):
                a[_VECTOR, m] += z * a[_THERE, m]
    for q in range(n):
        a[q, q] += total
    a[_VECTOR, 0] += _HALF * total
    a[_VECTOR, 1] += _HALF * total
    _solve(n, a, a, _SOLVED)
    return base + _filtered(n, a, _SOLVED, a)


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
    apart = integers[_PREDICTED, _FILTERS - 1] - mean
    dispute = clamp(_ln(16 * abs(apart) // (spread // 16 + 1) + 1, ln) >> 15, 0, 9)
    integers[_CONTEXTS, 2] = dispute + (_DISPUTES // 2 if apart < 0 else 0)


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
def _ask(edge, mixture, integers, ln):  # type: ignore[no-untyped-def]
    """What each expert says of a bit: C in the middle, and the bit's stretched probability."""
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


@part
def _mix(sets, starts, depth, node, integers):  # type: ignore[no-untyped-def]
    """The chance of a one, by the weights that the contexts choose."""
    certainty = clamp((integers[_INPUT, 0] + (8 << 16)) >> 15, 0, _CERTAINTIES - 1)
    integers[_CHOSEN, 0] = starts[0] + depth * _STORIES + integers[_CONTEXTS, 0]
    integers[_CHOSEN, 1] = starts[1] + depth * _CERTAINTIES + certainty
    integers[_CHOSEN, 2] = starts[2] + node
    integers[_CHOSEN, 3] = starts[3] + depth * _WIDTHS + integers[_CONTEXTS, 1]
    integers[_CHOSEN, 4] = starts[4] + depth * _DISPUTES + integers[_CONTEXTS, 2]
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
    """The weights learn from a bit, and each expert's interval shrinks to what is left."""
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
    state, rows, columns, channel, parameters, mixture, values, intervals, payload, coder, ln
):
    """See adaptive_code in adaptive.c. If there are ``intervals``, they are filled in.

    ``mixture`` is room, (4, components).
    """
    integers, floats, notes, passed = state.integers, state.floats, state.notes, state.passed
    samples, recursive, sets = state.samples, state.recursive, state.weights[channel]
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
        n = _find_features(samples, row, column, channel, floats)
        floats[_HERE, n] = np.float32(centre) / _UNITS
        n += 1
        base = (floats[_HERE, 0] + floats[_HERE, 1]) * _HALF
        for i in range(n):
            floats[_X, i] = floats[_HERE, i] - base
        together = centre
        for i in range(_FILTERS):
            if i < _RECURSIVE:
                found = base + _filtered(n, recursive[channel, i], _FILTER, floats)
            else:
                found = _predict_locally(passed, width, row, column, channel, n - 1, base, floats)
            integers[_PREDICTED, i] = _rounded(found)
            together += integers[_PREDICTED, i]
            integers[_SCALES, i] = (1 << 28) // _scale(notes, width, row, column, channel, i)
        for k in range(components):
            mixture[_MOVED, k] = mixture[_MEAN, k] + together // (_FILTERS + 1) - centre
        _look_around(notes, width, row, column, channel, centre, spread, ln, integers)
        for i in range(_EXPERTS):
            integers[_BOTTOM, i] = 0
            integers[_TOP, i] = _UNIT
        node = np.int64(1)
        for depth in range(8):
            _ask(((2 * node + 1) << (7 - depth)) & 255, mixture, integers, ln)
            zero = _SPREAD - 4 * _mix(sets, starts, depth, node, integers)
            if len(intervals):
                bit = (np.int64(values[number]) >> (7 - depth)) & 1
                below = zero + 2 if bit else 1
                frequency = _SPREAD - zero + 1 if bit else zero + 1
                intervals[number, depth, 0] = below - 1
                intervals[number, depth, 1] = frequency - 1
                intervals[number, depth, 2] = (1 << TOTAL_BITS) - below - frequency - 1
            else:
                bit = _read(payload, coder, zero)
                if bit > 1:
                    return 1
            _adjust(sets, bit, integers)
            node = 2 * node + bit
        # What is learnt of it.
        value = node - 256
        values[number] = value
        at = column % _NOTED
        for i in range(_FILTERS):
            notes[row, at, channel, i] = abs(256 * value - integers[_PREDICTED, i])
        notes[row, at, channel, _MISSED] = abs(256 * value - centre)
        notes[row, at, channel, _WIDE] = spread
        at = column % _KEPT
        for i in range(_FEATURES):
            passed[row, at, channel, i] = floats[_HERE, i]
        passed[row, at, channel, _FEATURES] = value
        for i in range(_RECURSIVE):
            since = (state.since[channel, i] + 1) % _SOLVE_EVERY
            state.since[channel, i] = since
            target = np.float32(value) - base
            _learn_recursive(recursive[channel, i], _KEEP[i], since == 0, n, floats, target)
        _put(samples, row, column, channel, value)
    return 0
