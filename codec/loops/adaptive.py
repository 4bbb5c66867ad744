"""The adaptive last stage in loops that numba compiles: see ``codec/csrc/adaptive.c``.

All floats are binary32, each operation rounded once, in the order that stands here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.compiled import kernel, part
from pixelzip.codec.loops.frequencies import UNIT_BITS, decoder_decode, sigmoid, weights
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


class State(NamedTuple):
    """What is known of a tile."""

    width: int
    samples: NDArray[np.uint8]
    features: NDArray[np.float32]
    values: NDArray[np.float32]
    notes: NDArray[np.int32]
    products: NDArray[np.float32]
    targets: NDArray[np.float32]
    filters: NDArray[np.float32]
    since: NDArray[np.int64]
    weights: NDArray[np.int32]
    spare: Spare


class Spare(NamedTuple):
    """Room for what is computed of a sub-pixel, made once."""

    features: NDArray[np.float32]
    x: NDArray[np.float32]
    near: NDArray[np.float32]
    matrix: NDArray[np.float32]
    vector: NDArray[np.float32]
    solved: NDArray[np.float32]
    predicted: NDArray[np.int64]
    scales: NDArray[np.int64]
    bottom: NDArray[np.int64]
    middle: NDArray[np.int64]
    top: NDArray[np.int64]
    inputs: NDArray[np.int64]
    chosen: NDArray[np.int64]
    chances: NDArray[np.int64]
    contexts: NDArray[np.int64]
    one: NDArray[np.int64]
    point: NDArray[np.int64]
    slope: NDArray[np.int64]
    table: NDArray[np.float32]
    read: NDArray[np.int32]


def fresh(height: int, width: int, channels: int) -> State:
    """Of a tile of which nothing is known yet."""
    both = channels, _RECURSIVE
    spare = Spare(
        features=np.zeros(_FEATURES, np.float32),
        x=np.zeros(_FEATURES, np.float32),
        near=np.zeros(_FEATURES, np.float32),
        matrix=np.zeros((_FEATURES, _FEATURES), np.float32),
        vector=np.zeros(_FEATURES, np.float32),
        solved=np.zeros(_FEATURES, np.float32),
        predicted=np.zeros(_FILTERS, np.int64),
        scales=np.zeros(_FILTERS, np.int64),
        bottom=np.zeros(_EXPERTS, np.int64),
        middle=np.zeros(_EXPERTS, np.int64),
        top=np.zeros(_EXPERTS, np.int64),
        inputs=np.zeros(_INPUTS, np.int64),
        chosen=np.zeros(_SETS, np.int64),
        chances=np.zeros(_SETS, np.int64),
        contexts=np.zeros(3, np.int64),
        one=np.array([1 << 14]),
        point=np.zeros(1, np.int64),
        slope=np.zeros(1, np.int64),
        table=np.zeros((1, 4), np.float32),
        read=np.zeros(1, np.int32),
    )
    spare.inputs[-1] = 19661
    state = State(
        width,
        np.full((height + _ABOVE, width + 2 * _BESIDE, channels), 128, np.uint8),
        np.zeros((height, _KEPT, channels, _FEATURES), np.float32),
        np.zeros((height, _KEPT, channels), np.float32),
        np.zeros((height, _NOTED, channels, _FILTERS + 2), np.int32),
        np.zeros((*both, _FEATURES, _FEATURES), np.float32),
        np.zeros((*both, _FEATURES), np.float32),
        np.zeros((*both, _FEATURES), np.float32),
        np.zeros(both, np.int64),
        np.full((channels, _STARTS[-1], _INPUTS), _OTHER_WEIGHT, np.int32),
        spare,
    )
    state.weights[..., 0], state.weights[..., -1] = _OWN_WEIGHT, 0
    for channel in range(channels):
        own = _OWN_ALONE if channels == 1 else _OWN + 2 * _OTHER + channel
        state.filters[channel, :, own] = 1
    return state


@part
def _put(state, row, column, channel, value):  # type: ignore[no-untyped-def]
    """A sample gets known, and with it those outside of the tile that it stands for."""
    samples, width = state.samples, state.width
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
def _find_features(state, row, column, channel, out):  # type: ignore[no-untyped-def]
    samples, channels = state.samples, state.samples.shape[2]
    r, c, count = row + _ABOVE, column + _BESIDE, 0
    for i in range(_OWN_ALONE if channels == 1 else _OWN):
        out[count] = samples[r + _NEAR[i, 0], c + _NEAR[i, 1], channel]
        count += 1
    for other in range(channels):
        if other == channel:
            continue
        if other < channel:
            out[count] = samples[r, c, other]
            count += 1
        for i in range(_OTHER):
            out[count] = samples[r + _NEAR[i, 0], c + _NEAR[i, 1], other]
            count += 1
    for i in range(count, len(out)):
        out[i] = 0
    return count


@part
def _solve(n, a, b, w):  # type: ignore[no-untyped-def]
    """Solve the symmetric a w = b of n unknowns; only the upper triangle of a counts."""
    for j in range(n):
        if not a[j, j] >= _TINY:
            a[j, j] = _TINY
        for i in range(j + 1, n):
            f = a[j, i] / a[j, j]
            for m in range(i, n):
                a[i, m] -= f * a[j, m]
            b[i] -= f * b[j]
    for i in range(n - 1, -1, -1):
        w[i] = b[i] / a[i, i]
        for m in range(i):
            b[m] -= a[m, i] * w[i]


@part
def _filtered(n, w, x):  # type: ignore[no-untyped-def]
    total = _ZERO
    for i in range(n):
        total += w[i] * x[i]
    return total


@part
def _rounded(prediction):  # type: ignore[no-untyped-def]
    if not prediction >= _ZERO:
        return 0
    return np.int64(min(prediction, _BYTE) * _UNITS + _HALF)


@part
def _learn_recursive(state, channel, i, n, x, target):  # type: ignore[no-untyped-def]
    a, b = state.products[channel, i], state.targets[channel, i]
    keep = _KEEP[i]
    part = _ONE - keep
    for q in range(n):
        z = x[q] * part
        for m in range(q, n):
            a[q, m] = a[q, m] * keep + z * x[m]
    z = target * part
    for m in range(n):
        b[m] = b[m] * keep + z * x[m]
    state.since[channel, i] += 1
    if state.since[channel, i] == _SOLVE_EVERY:
        state.since[channel, i] = 0
        matrix, vector = state.spare.matrix, state.spare.vector
        for q in range(n):
            for m in range(q, n):
                matrix[q, m] = a[q, m]
            matrix[q, q] += _HALF
            vector[q] = b[q]
        vector[n - 1] += _HALF
        _solve(n, matrix, vector, state.filters[channel, i])


@part
def _predict_locally(state, row, column, channel, n, here, base):  # type: ignore[no-untyped-def]
    a, b, w, x = state.spare.matrix, state.spare.vector, state.spare.solved, state.spare.near
    for q in range(n):
        for m in range(q, n):
            a[q, m] = _ZERO
        b[q] = _ZERO
    total = _ZERO
    for up in range(_RADIUS, -1, -1):
        for right in range(-_RADIUS, _LAST[up] + 1):
            r, c = row - up, column + right
            if r < 0 or c < 0 or c >= state.width:
                continue
            there = state.features[r, c % _KEPT, channel]
            unlike = _ZERO
            for i in range(_ALIKE):
                unlike += (there[i] - here[i]) * (there[i] - here[i])
            far = np.float32(32 + up * up + right * right)
            g = _ONE / (far * (_ENOUGH + unlike))
            total += g
            for i in range(n):
                x[i] = there[i] - base
            for q in range(n):
                z = g * x[q]
                for m in range(q, n):
                    a[q, m] += z * x[m]
            z = g * (state.values[r, c % _KEPT, channel] - base)
            for m in range(n):
                b[m] += z * x[m]
    for q in range(n):
        a[q, q] += total
    b[0] += _HALF * total
    b[1] += _HALF * total
    _solve(n, a, b, w)
    for i in range(n):
        x[i] = here[i] - base
    return base + _filtered(n, w, x)


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
def _clamp(x, lowest, highest):  # type: ignore[no-untyped-def]
    return min(max(x, lowest), highest)


@part
def _note(state, row, column, channel, which):  # type: ignore[no-untyped-def]
    if row < 0 or column < 0 or column >= state.width:
        return np.int64(0)
    return np.int64(state.notes[row, column % _NOTED, channel, which])


@part
def _scale(state, r, c, k, i):  # type: ignore[no-untyped-def]
    """How wide a filter's logistic is, from the errors that it made nearby."""
    near = 4 * (_note(state, r, c - 1, k, i) + _note(state, r - 1, c, k, i))
    near += 3 * (_note(state, r - 1, c - 1, k, i) + _note(state, r - 1, c + 1, k, i))
    near += 2 * (_note(state, r, c - 2, k, i) + _note(state, r - 2, c, k, i))
    scale = 35 + near // 24
    if k > 0:
        scale = (5 * scale + 3 * max(_note(state, r, c, k - 1, i), 77)) // 10
    return scale


@part
def _near(state, r, c, k, which):  # type: ignore[no-untyped-def]
    near = 2 * (_note(state, r, c - 1, k, which) + _note(state, r - 1, c, k, which))
    return near + _note(state, r - 1, c - 1, k, which) + _note(state, r - 1, c + 1, k, which)


@part
def _look_around(state, r, c, k, mean, spread, predicted, ln, contexts):  # type: ignore[no-untyped-def]
    missed = promised = np.int64(16)
    missed += _near(state, r, c, k, _MISSED)
    promised += _near(state, r, c, k, _WIDE)
    far = 0
    if k > 0:
        before, wide = _note(state, r, c, k - 1, _MISSED), _note(state, r, c, k - 1, _WIDE)
        missed += 2 * before
        promised += 2 * wide
        far = int(before > wide) + int(before > 2 * wide)
    story = (_ln(missed, ln) - _ln(promised, ln) + (5 << 15)) >> 15
    contexts[0] = _clamp(story, 0, _STORIES - 1)
    contexts[1] = 3 * _clamp((_ln(spread + 1, ln) - (3 << 16)) >> 15, 0, 11) + far
    apart = predicted - mean
    dispute = min(_ln(16 * abs(apart) // (spread // 16 + 1) + 1, ln) >> 15, 9)
    contexts[2] = dispute + (_DISPUTES // 2 if apart < 0 else 0)


@part
def _cdf(edge, weight, mean, inverse):  # type: ignore[no-untyped-def]
    """C at an edge from 1 to 255."""
    total = np.int64(0)
    for k in range(len(weight)):
        if weight[k] > 0:
            total += weight[k] * sigmoid((256 * edge - 128 - mean[k]) * inverse[k])
    return total


@kernel
def code(  # type: ignore[no-untyped-def]
    state, rows, columns, channel, parameters, values, intervals, payload, coder, ln
):
    """See adaptive_code in adaptive.c. If there are ``intervals``, they are filled in."""
    components, encoding = parameters.shape[2], len(intervals) > 0
    starts = _STARTS
    weight, mean = np.empty(components, np.int64), np.empty(components, np.int64)
    inverse, moved = np.empty(components, np.int64), np.empty(components, np.int64)
    spare = state.spare
    features, x = spare.features, spare.x
    predicted, scales, contexts = spare.predicted, spare.scales, spare.contexts
    bottom, middle, top = spare.bottom, spare.middle, spare.top
    inputs, chosen, chances = spare.inputs, spare.chosen, spare.chances
    one, point, slope = spare.one, spare.point, spare.slope
    table, read = spare.table, spare.read
    sets = state.weights[channel]
    for number in range(len(rows)):
        row, column = np.int64(rows[number]), np.int64(columns[number])
        # What the network says.
        weights(parameters[number, 0], weight)
        centre = spread = np.int64(0)
        for k in range(components):
            mean[k] = _clamp(np.int64(parameters[number, 1, k]), -MEAN_LIMIT, MEAN_LIMIT)
            size = _clamp(np.int64(parameters[number, 2, k]), LOG_SCALE_MIN, LOG_SCALE_MAX)
            inverse[k] = INVERSE_SCALE[size - LOG_SCALE_MIN]
            centre += weight[k] * mean[k]
        centre >>= 14
        for k in range(components):
            spread += weight[k] * ((1 << 28) // inverse[k] + abs(mean[k] - centre))
        spread >>= 14
        centre = _clamp(centre, 0, 255 * 256)
        # What the filters say.
        n = _find_features(state, row, column, channel, features)
        features[n] = np.float32(centre) / _UNITS
        n += 1
        base = (features[0] + features[1]) * _HALF
        for i in range(n):
            x[i] = features[i] - base
        together = centre
        for i in range(_FILTERS):
            if i < _RECURSIVE:
                found = base + _filtered(n, state.filters[channel, i], x)
            else:
                found = _predict_locally(state, row, column, channel, n - 1, features, base)
            predicted[i] = _rounded(found)
            together += predicted[i]
            scales[i] = (1 << 28) // _scale(state, row, column, channel, i)
        for k in range(components):
            moved[k] = mean[k] + together // (_FILTERS + 1) - centre
        _look_around(
            state, row, column, channel, centre, spread, predicted[_FILTERS - 1], ln, contexts
        )
        for i in range(_EXPERTS):
            bottom[i], top[i] = 0, _UNIT
        node = 1
        for depth in range(8):
            edge = ((2 * node + 1) << (7 - depth)) & 255
            for i in range(_EXPERTS):
                if i == 0:
                    middle[i] = _cdf(edge, weight, mean, inverse)
                elif i < _EXPERTS - 1:
                    point[0], slope[0] = predicted[i - 1], scales[i - 1]
                    middle[i] = _cdf(edge, one, point, slope)
                else:
                    middle[i] = _cdf(edge, weight, moved, inverse)
                doubt = 1 << 16 if i == 0 else 1 << 23
                up = _ln(top[i] - middle[i] + doubt, ln)
                down = _ln(middle[i] - bottom[i] + doubt, ln)
                inputs[i] = _clamp(up - down, -_STRETCH_LIMIT, _STRETCH_LIMIT)
            certainty = _clamp((inputs[0] + (8 << 16)) >> 15, 0, _CERTAINTIES - 1)
            chosen[0] = starts[0] + depth * _STORIES + contexts[0]
            chosen[1] = starts[1] + depth * _CERTAINTIES + certainty
            chosen[2] = starts[2] + node
            chosen[3] = starts[3] + depth * _WIDTHS + contexts[1]
            chosen[4] = starts[4] + depth * _DISPUTES + contexts[2]
            every = np.int64(0)
            for s in range(_SETS):
                total = np.int64(0)
                for i in range(_INPUTS):
                    total += np.int64(sets[chosen[s], i]) * inputs[i]
                total = _clamp(total >> 22, -_Z_LIMIT, _Z_LIMIT)
                chances[s] = sigmoid(total << 14)
                every += total
            chance = sigmoid((every // _SETS) << 14)
            chance = _clamp(chance, _LEAST_CHANCE, _CHANCES - _LEAST_CHANCE)
            zero = _SPREAD - 4 * chance
            if encoding:
                bit = int((np.int64(values[number]) >> (7 - depth)) & 1)
                below = zero + 2 if bit else 1
                frequency = _SPREAD - zero + 1 if bit else zero + 1
                intervals[number, depth, 0] = below - 1
                intervals[number, depth, 1] = frequency - 1
                intervals[number, depth, 2] = (1 << TOTAL_BITS) - below - frequency - 1
            else:
                table[0, 0], table[0, 1], table[0, 2], table[0, 3] = 0, zero, _SPREAD - zero, 0
                if decoder_decode(payload, coder, table, read):
                    return 1
                bit = int(read[0])
            for s in range(_SETS):
                error = (_CHANCES if bit else 0) - chances[s]
                for i in range(_INPUTS):
                    step = (((error * inputs[i]) >> 14) * _RATE + (1 << 19)) >> 20
                    sets[chosen[s], i] = _clamp(
                        np.int64(sets[chosen[s], i]) + step, -_MOST_WEIGHT, _MOST_WEIGHT
                    )
            for i in range(_EXPERTS):
                if bit:
                    bottom[i] = middle[i]
                else:
                    top[i] = middle[i]
            node = 2 * node + bit
        # What is learnt of it.
        value = node - 256
        values[number] = value
        note = state.notes[row, column % _NOTED, channel]
        for i in range(_FILTERS):
            note[i] = abs(256 * value - predicted[i])
        note[_MISSED] = abs(256 * value - centre)
        note[_WIDE] = spread
        for i in range(_FEATURES):
            state.features[row, column % _KEPT, channel, i] = features[i]
        state.values[row, column % _KEPT, channel] = value
        for i in range(_RECURSIVE):
            _learn_recursive(state, channel, i, n, x, np.float32(value) - base)
        _put(state, row, column, channel, value)
    return 0
