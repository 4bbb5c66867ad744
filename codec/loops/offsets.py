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

ROUNDS = 4
_WEIGHT_BITS = 14


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
def _solve(a, b):  # type: ignore[no-untyped-def]
    n = b.shape[0]
    for j in range(n):
        for i in range(j + 1, n):
            f = a[j, i] / a[j, j]
            for m in range(i, n):
                a[i, m] -= f * a[j, m]
            b[i] -= f * b[j]
    for i in range(n - 1, -1, -1):
        for m in range(i + 1, n):
            b[i] -= a[i, m] * b[m]
        b[i] = b[i] / a[i, i]


@kernel
def improve(  # type: ignore[no-untyped-def]
    parameters,
    values,
    shift,
    doubt,
    offsets,
    information,
    slope,
    mixture,
    weight,
    gradient,
    between,
):  # fmt: skip
    """A round: (n, 3, K) mixtures of (n) values improve the offsets (3 K), in nats and values.

    ``shift`` (3, K) is what is added to mixtures by now, and ``doubt`` (3 K) what it takes to
    believe in an offset; ``information`` (3 K, 3 K) and ``slope`` (3 K) are zeros.
    """
    components = weight.shape[0]
    unknowns = 3 * components
    for s in range(values.shape[0]):
        for i in range(3):
            for k in range(components):
                mixture[i, k] = parameters[s, i, k] + shift[i, k]
        weights(mixture[0], weight)
        _find_gradient(mixture, weight, np.int64(values[s]), gradient, between)
        for i in range(unknowns):
            slope[i] += gradient[i]
            for j in range(i, unknowns):
                information[i, j] += gradient[i] * gradient[j]
    for i in range(unknowns):
        information[i, i] += doubt[i]
        slope[i] -= doubt[i] * offsets[i]
    _solve(information, slope)
    for i in range(unknowns):
        offsets[i] += min(max(slope[i], -0.5), 0.5)
