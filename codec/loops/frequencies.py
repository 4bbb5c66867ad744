"""Frequencies and the range coder: see `pixelzip.codec.cdf` and `pixelzip.codec.coder`."""

from __future__ import annotations

import numpy as np

from pixelzip.codec.compiled import kernel, part
from pixelzip.codec.tables import (
    EXP,
    EXP_RANGE,
    INVERSE_BITS,
    INVERSE_SCALE,
    LOG_SCALE_MAX,
    LOG_SCALE_MIN,
    MEAN_LIMIT,
    MEAN_UNIT,
    REACH,
    SIGMOID,
    SIGMOID_BITS,
    STEP_BITS,
    SYMBOLS,
    TOTAL_BITS,
)

SPREAD = (1 << TOTAL_BITS) - SYMBOLS  # what is left when each symbol and guard has its one
_WEIGHT_BITS = 14
UNIT_BITS = _WEIGHT_BITS + SIGMOID_BITS  # of the CDF
_FRACTION_BITS = 8  # between two steps of the sigmoid it is a straight line
_ARGUMENT_BITS = STEP_BITS + _FRACTION_BITS
SLOPE = np.append(np.diff(SIGMOID), 0)


@part
def weights(logits, weight):  # type: ignore[no-untyped-def]
    """Softmax in integers; the weights add up to 2^14 exactly."""
    components = logits.shape[0]
    top = 0
    for k in range(1, components):
        if logits[k] > logits[top]:
            top = k
    total = np.int64(0)
    for k in range(components):
        below = np.int64(logits[top]) - np.int64(logits[k])
        weight[k] = EXP[below] if below <= EXP_RANGE else 0
        total += weight[k]
    rest = np.int64(1) << _WEIGHT_BITS
    for k in range(components):
        weight[k] = (weight[k] << _WEIGHT_BITS) // total
        rest -= weight[k]
    weight[top] += rest


@part
def clamp(x, lowest, highest):  # type: ignore[no-untyped-def]
    return min(max(x, lowest), highest)


@part
def _line(edge, step, parameters, k):  # type: ignore[no-untyped-def]
    """The sigmoid's argument at ``edge``, and how much ``step`` more edges add to it.

    Mean and inverse scale have 8 and 20 bits behind the point, so these numbers have 28.
    """
    mean = clamp(np.int64(parameters[1, k]), -MEAN_LIMIT, MEAN_LIMIT)
    log_scale = clamp(np.int64(parameters[2, k]), LOG_SCALE_MIN, LOG_SCALE_MAX)
    inverse = INVERSE_SCALE[np.uint64(log_scale - LOG_SCALE_MIN)]
    return (edge * MEAN_UNIT - MEAN_UNIT // 2 - mean) * inverse, step * MEAN_UNIT * inverse


@part
def sigmoid(z):  # type: ignore[no-untyped-def]
    """The logistic function of z / 2^28 in units of 2^-22, on straight lines between steps."""
    limit = np.int64(REACH) << _ARGUMENT_BITS
    z = clamp(z >> (8 + INVERSE_BITS - _ARGUMENT_BITS), -limit, limit) + limit
    at = np.uint64(z >> _FRACTION_BITS)
    fraction = z & ((1 << _FRACTION_BITS) - 1)
    return SIGMOID[at] + ((SLOPE[at] * fraction) >> _FRACTION_BITS)


@part
def cdf(edge, weight, parameters):  # type: ignore[no-untyped-def]
    """C(edge) in units of 2^-36, for an edge from 0 to 256."""
    if edge == 0:
        return np.int64(0)
    if edge == 256:
        return np.int64(1) << UNIT_BITS
    total = np.int64(0)
    for k in range(weight.shape[0]):
        if weight[k] > 0:
            z, _ = _line(edge, 0, parameters, k)
            total += weight[k] * sigmoid(z)
    return total


@part
def cdfs(first, step, weight, parameters, out):  # type: ignore[no-untyped-def]
    """C at the sixteen edges first, first + step, ...; the last one is of no meaning."""
    out[:] = 0
    for k in range(weight.shape[0]):
        if weight[k] > 0:
            z, stride = _line(first, step, parameters, k)
            for i in range(16):  # a constant, so that the compiler can unroll it
                out[i] += weight[k] * sigmoid(z + i * stride)


@part
def _high(c):  # type: ignore[no-untyped-def]
    """The cumulative frequency that a CDF value stands for among the high nibbles."""
    return (c * SPREAD) >> UNIT_BITS


@part
def _low(c, bottom, top, nibble):  # type: ignore[no-untyped-def]
    """The same among the low nibbles of a high nibble that spans bottom to top."""
    if top == bottom:
        return (np.int64(nibble) * SPREAD) >> 4
    return ((c - bottom) * SPREAD) // (top - bottom)


@part
def fill_interval(symbol, start, end, out):  # type: ignore[no-untyped-def]
    """A nibble's interval, from what its two edges stand for: below, the symbol, above."""
    # Below: a guard and one for each lower symbol. The interval itself has its own one.
    below = start + symbol + 1
    frequency = end - start + 1
    out[0] = below - 1
    out[1] = frequency - 1
    out[2] = (1 << TOTAL_BITS) - below - frequency - 1


@part
def fill_table(ends, out):  # type: ignore[no-untyped-def]
    """A nibble's table, from what the upper edges of its first 15 symbols stand for."""
    out[0] = 0
    start = np.int64(0)
    for symbol in range(15):
        out[symbol + 1] = ends[symbol] - start
        start = ends[symbol]
    out[16] = SPREAD - start
    out[17] = 0


# Mixtures.


@kernel
def mixture_intervals(parameters, values, out):  # type: ignore[no-untyped-def]
    weight = np.empty(parameters.shape[2], np.int64)
    for i in range(parameters.shape[0]):
        weights(parameters[i, 0], weight)
        value = np.int64(values[i])
        high, low = value >> 4, value & 15
        bottom = cdf(16 * high, weight, parameters[i])
        top = cdf(16 * high + 16, weight, parameters[i])
        first = cdf(value, weight, parameters[i])
        last = cdf(value + 1, weight, parameters[i])
        fill_interval(high, _high(bottom), _high(top), out[i, 0])
        start, end = _low(first, bottom, top, low), _low(last, bottom, top, low + 1)
        fill_interval(low, start, end, out[i, 1])


@kernel
def mixture_table(parameters, highs, out):  # type: ignore[no-untyped-def]
    """Of the low nibbles of ``highs`` (n,), or of the high nibbles where that is negative."""
    weight, c = np.empty(parameters.shape[2], np.int64), np.empty(16, np.int64)
    for i in range(parameters.shape[0]):
        weights(parameters[i, 0], weight)
        high = np.int64(highs[i])
        if high < 0:
            cdfs(16, 16, weight, parameters[i], c)
            for symbol in range(15):
                c[symbol] = _high(c[symbol])
        else:
            bottom = cdf(16 * high, weight, parameters[i])
            top = cdf(16 * high + 16, weight, parameters[i])
            cdfs(16 * high + 1, 1, weight, parameters[i], c)
            for symbol in range(15):
                c[symbol] = _low(c[symbol], bottom, top, symbol + 1)
        fill_table(c, out[i])


# Logits. C is not scaled to 2^36: with a bottom of 0 and a top of C(256), the rule of the low
# nibbles is that of the high ones.


@part
def largest(logits):  # type: ignore[no-untyped-def]
    top = logits[0]
    for value in range(1, 256):
        top = max(top, logits[value])
    return np.int64(top)


@part
def _sums(logits, top, first, step, out):  # type: ignore[no-untyped-def]
    """What C grows by, up to the edges ``first + step``, ``first + 2 * step``, ... of ``out``."""
    total = np.int64(0)
    value = first
    for i in range(out.shape[0]):
        for _ in range(step):
            below = top - np.int64(logits[value])
            if below <= EXP_RANGE:
                total += EXP[np.uint64(below)]
            value += 1
        out[i] = total


@kernel
def softmax_intervals(logits, values, out):  # type: ignore[no-untyped-def]
    highs, lows = np.empty(16, np.int64), np.empty(16, np.int64)
    for i in range(logits.shape[0]):
        value = np.int64(values[i])
        high, low = value >> 4, value & 15
        top = largest(logits[i])
        _sums(logits[i], top, 0, 16, highs)
        _sums(logits[i], top, 16 * high, 1, lows)
        for nibble, symbol, c in ((0, high, highs), (1, low, lows)):
            before = c[symbol - 1] if symbol > 0 else np.int64(0)
            start = _low(before, np.int64(0), c[15], symbol)
            fill_interval(symbol, start, _low(c[symbol], np.int64(0), c[15], symbol + 1),
                           out[i, nibble])  # fmt: skip


@kernel
def softmax_table(logits, first, step, out):  # type: ignore[no-untyped-def]
    """Of the nibbles whose symbols span ``step`` values each, from ``first`` (n,) on."""
    c = np.empty(16, np.int64)
    for i in range(logits.shape[0]):
        _sums(logits[i], largest(logits[i]), np.int64(first[i]), step, c)
        whole = c[15]
        for symbol in range(15):
            c[symbol] = _low(c[symbol], np.int64(0), whole, symbol + 1)
        fill_table(c, out[i])


# --- The range coder -----------------------------------------------------------------------------


@part
def next_word(payload, state):  # type: ignore[no-untyped-def]
    word = np.uint64(0)
    for i in range(4):
        at = state[2] + np.uint64(i)
        byte = payload[at] if at < np.uint64(payload.shape[0]) else np.uint8(0)
        word = (word << np.uint64(8)) | np.uint64(byte)
    state[2] += np.uint64(4)
    return word


@kernel
def decoder_decode(payload, state, tables, found):  # type: ignore[no-untyped-def]
    guard = tables.shape[1] - 1
    for i in range(found.shape[0]):
        scale = state[1] >> np.uint64(TOTAL_BITS)
        quantile = state[0] // scale
        below, above, j = np.uint64(0), np.uint64(tables[i, 0]) + np.uint64(1), 0
        while j < guard and quantile >= above:
            j += 1
            if j < guard:
                below = above
                above += np.uint64(tables[i, j]) + np.uint64(1)
        if j == 0 or j == guard:
            return 1
        state[0] -= scale * below
        state[1] = scale * (above - below)
        if state[1] >> np.uint64(32) == 0:
            state[1] <<= np.uint64(32)
            state[0] = (state[0] << np.uint64(32)) | next_word(payload, state)
        found[i] = j - 1
    return 0


@kernel
def encode(intervals, words, state):  # type: ignore[no-untyped-def]
    lower, width, written = np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF), 0
    for i in range(intervals.shape[0]):
        scale = width >> np.uint64(TOTAL_BITS)
        before = lower
        lower += scale * (np.uint64(intervals[i, 0]) + np.uint64(1))
        if lower < before:
            at = written - 1
            while at >= 0:
                words[at] += np.uint8(1)
                if words[at] != 0:
                    break
                at -= 1
        width = scale * (np.uint64(intervals[i, 1]) + np.uint64(1))
        if width >> np.uint64(32) == 0:
            for byte in range(4):
                words[written] = np.uint8((lower >> np.uint64(56 - 8 * byte)) & np.uint64(255))
                written += 1
            lower <<= np.uint64(32)
            width <<= np.uint64(32)
    state[0], state[1] = lower, width
    return written
