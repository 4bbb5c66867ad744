"""Offsets: see `pixelzip.codec.offsets`. The same as offsets.c, operation by operation."""

from __future__ import annotations

import numpy as np

from pixelzip.codec.compiled import kernel, part
from pixelzip.codec.loops.frequencies import clamp, sigmoid, weights
from pixelzip.codec.tables import (
    INVERSE_BITS,
    INVERSE_SCALE,
    LOG_SCALE_MAX,
    LOG_SCALE_MIN,
    MEAN_LIMIT,
    SIGMOID_BITS,
)

_WEIGHT_BITS = 14
_MOVED_BITS = 12
_BLOCK = 32


@part
def _logistic(edge, mean, inverse):  # type: ignore[no-untyped-def]
    return float(sigmoid((256 * edge - mean) * inverse)) / (1 << SIGMOID_BITS)


@part
def _find_gradient(mixture, weight, value, gradient, between):  # type: ignore[no-untyped-def]
    components = weight.shape[0]
    total = 0.0
    for i in range(components):
        mean = clamp(np.int64(mixture[1, i]), -MEAN_LIMIT, MEAN_LIMIT) + 128
        log_scale = clamp(np.int64(mixture[2, i]), LOG_SCALE_MIN, LOG_SCALE_MAX)
        inverse = INVERSE_SCALE[log_scale - LOG_SCALE_MIN]
        low = 0.0 if value == 0 else _logistic(value, mean, inverse)
        high = 1.0 if value == 255 else _logistic(value + 1, mean, inverse)
        steep = float(inverse) / (1 << INVERSE_BITS)
        start = float(256 * value - mean) / 256 * steep
        end = start + steep
        at_low, at_high = low * (1 - low), high * (1 - high)
        share = float(weight[i]) / (1 << _WEIGHT_BITS)
        between[i] = high - low
        total += share * between[i]
        gradient[i] = share
        gradient[components + i] = share * (at_low - at_high) * steep
        gradient[2 * components + i] = share * (at_low * start - at_high * end)
    chance = total + 1.0 / (1 << 20)
    for i in range(components):
        gradient[i] = gradient[i] * (between[i] - total) / chance
        gradient[components + i] = gradient[components + i] / chance
        gradient[2 * components + i] = gradient[2 * components + i] / chance


@part
def _round(number):  # type: ignore[no-untyped-def]
    return np.int64(min(max(number, -127.0), 127.0) + 127.5) - 127


@kernel
def look(  # type: ignore[no-untyped-def]
    parameters,
    values,
    factors,
    shift,
    weights_found,
    information,
    slope,
):  # fmt: skip
    """The information on the first unknowns (m, m) and the slope (m) there, added to zeros.

    Of (n, 3, K) mixtures of (n) values with their (n, count) factors; ``shift`` (3, K) is what is
    added to mixtures by now, and ``weights_found`` (count) what factors are weighed with.
    """
    n, components, count = values.shape[0], parameters.shape[2], factors.shape[1]
    offsets, unknowns = 3 * components, slope.shape[0]
    mixture = np.zeros((3, components), np.int32)
    weight, gradient = np.zeros(components, np.int64), np.zeros(offsets)
    between = np.zeros(components)
    rows = np.zeros((_BLOCK, unknowns), np.float32)
    sums = np.zeros(unknowns, np.float32)
    for start in range(0, n, _BLOCK):
        some = min(_BLOCK, n - start)
        for s in range(some):
            total = np.int64(1 << (_MOVED_BITS - 1))
            for j in range(count):
                total += np.int64(weights_found[j]) * factors[start + s, j]
            more = clamp(total >> _MOVED_BITS, -(1 << 26), 1 << 26)
            for i in range(3):
                for k in range(components):
                    mixture[i, k] = parameters[start + s, i, k] + shift[i, k]
                    if i == 1:
                        mixture[i, k] += np.int32(more)
            weights(mixture[0], weight)
            _find_gradient(mixture, weight, np.int64(values[start + s]), gradient, between)
            mean = 0.0
            for i in range(offsets):
                rows[s, i] = gradient[i]
            for k in range(components):
                mean += gradient[components + k]
            each = np.float32(mean / 256)
            for i in range(offsets, unknowns):
                rows[s, i] = each * np.float32(factors[start + s, i - offsets])
            for i in range(unknowns):
                slope[i] += rows[s, i]
        for i in range(unknowns):
            sums[:] = 0
            for s in range(some):
                for j in range(i, unknowns):
                    sums[j] += rows[s, i] * rows[s, j]
            for j in range(i, unknowns):
                information[i, j] += sums[j]


@kernel
def eliminate(a, b):  # type: ignore[no-untyped-def]
    """Eliminate the unknowns of a symmetric a w = b one by one; the upper triangle of a counts."""
    n = b.shape[0]
    for j in range(n):
        for i in range(j + 1, n):
            f = a[j, i] / a[j, j]
            for m in range(i, n):
                a[i, m] -= f * a[j, m]
            b[i] -= f * b[j]


@kernel
def improve(a, b, step, per_one, found, whole, weights_found):  # type: ignore[no-untyped-def]
    """Improve the first unknowns ``found``, by what is left of their equations.

    ``per_one``: how many units of an offset a nat or value is, of as many unknowns as are offsets.
    The others are weights, ``weights_found`` in 1/4096. These become ``whole`` multiples of a
    ``step`` unless that is below 0.
    """
    m, offsets = b.shape[0], per_one.shape[0]
    each = 0.0 if step < 0 else float(1 << max(step, 0)) / (1 << _MOVED_BITS)
    for i in range(m - 1, -1, -1):
        for j in range(i + 1, m):
            b[i] -= a[i, j] * b[j]
        b[i] = b[i] / a[i, i]
        if step >= 0 and i >= offsets:
            whole[i] = _round((found[i] + b[i]) / each)
            b[i] = whole[i] * each - found[i]
        else:
            b[i] = min(max(b[i], -0.5), 0.5)
    for i in range(m):
        found[i] += b[i]
        if i < offsets:
            whole[i] = _round(found[i] * per_one[i])
        else:
            scaled = found[i] * (1 << _MOVED_BITS) + float(1 << 24) + 0.5
            weights_found[i - offsets] = np.int64(scaled) - (1 << 24)
