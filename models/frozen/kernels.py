"""A backend in numpy arrays and loops that numba compiles: for where there is no compiled engine.

Each function has a twin of the same name and meaning in `pixelzip.models.gpu.photo`, in plain
torch, which is what runs on a GPU; a test holds each pair to the same bytes. Products are of 32-bit
integers. Rounding is to nearest, ties to even, of a single float32 product: one conversion, one
multiplication and one rounding, each defined to the last bit by IEEE 754 and never fused.

What `gather`, `first` and `activate` return lies in memory that they use again when the same thread
calls them next (`gather`, for a store as wide): to ask the system for fresh pages each time would
cost more than the arithmetic.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.compiled import kernel
from pixelzip.models.frozen.shell import LIMIT

_held = threading.local()


def _room(owner: str, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """An array of this shape in ``owner``'s memory of this thread, its contents undefined."""
    size = math.prod(shape)
    memory: NDArray[Any] | None = getattr(_held, owner, None)
    if memory is None or len(memory) < size:
        memory = np.empty(size, dtype)
        setattr(_held, owner, memory)
    return memory[:size].reshape(shape)


def begin():  # type: ignore[no-untyped-def]
    """Called by each thread before it evaluates anything."""


def array(values):  # type: ignore[no-untyped-def]
    """A numpy array as this backend holds it."""
    return np.ascontiguousarray(values)


def numbers(array):  # type: ignore[no-untyped-def]
    """The way back from `array`."""
    return array


@kernel
def _product(x, weight, out):  # type: ignore[no-untyped-def]
    out[:] = 0
    for i in range(out.shape[0]):
        for k in range(weight.shape[0]):
            value = np.int32(x[i, k])
            if value != 0:  # as every other one is, after a rectifier
                for c in range(out.shape[1]):
                    out[i, c] += value * weight[k, c]


def product(weight, largest):  # type: ignore[no-untyped-def]
    """The product with an int8 matrix (K, N), for inputs within +-``largest``: (n, N) int32."""
    held = weight.astype(np.int32)

    def multiply(x):  # type: ignore[no-untyped-def]
        out = np.empty((len(x), held.shape[1]), np.int32)
        _product(x, held, out)
        return out

    return multiply


@kernel
def _positions(base, row, column, height, width, pitch, mask, offsets, out):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            r = row[i] + offsets[j, 0]
            c = column[i] + offsets[j, 1]
            inside = 0 <= r < height[i] and 0 <= c < width[i]
            out[i, j] = base[i] + r * pitch[i] + (c & mask) if inside else 0


def positions(base, row, column, height, width, pitch, mask, offsets):  # type: ignore[no-untyped-def]
    """(n, J) int32: where each pixel's J neighbours lie in a store, or 0 outside the tile.

    Neighbour (r, c) of a tile lies at ``base + r * pitch + (c & mask)``; entry 0 of a store holds
    what is outside.
    """
    out = np.empty((len(row), len(offsets)), np.int32)
    _positions(base, row, column, height, width, pitch, mask, offsets, out)
    return out


def gather(store, at):  # type: ignore[no-untyped-def]
    """(n, J * C) int8: the entries ``at`` (n, J) of a store (N, C), side by side."""
    out = _room(f"gather {store.shape[1]}", (*at.shape, store.shape[1]), np.int8)
    np.take(store, at, 0, out, "clip")  # "raise" would copy; no position lies outside
    return out.reshape(len(at), -1)


def scatter(store, at, values):  # type: ignore[no-untyped-def]
    """Write the rows ``values`` (n, C) to the entries ``at`` (n,) of a store."""
    store[at] = values


@kernel
def _first(product, bias, scale, table, predictor_bias, shift, out, predicted):  # type: ignore[no-untyped-def]
    channels, half = bias.shape[0], product.shape[1] // 2
    reach = (table.shape[0] - 1) // 2
    for i in range(out.shape[0]):
        for c in range(channels):
            total = 256 * product[i, c] + product[i, half + c] + bias[c]
            x = np.rint(np.float32(total) * scale[c])
            x = min(max(x, np.float32(-reach)), np.float32(reach))
            out[i, c] = table[np.uint32(np.int32(x) + reach)]
        for c in range(predictor_bias.shape[0]):
            j = channels + c
            total = 256 * product[i, j] + product[i, half + j] + predictor_bias[c]
            predicted[i, c] = (total + (1 << (shift - 1))) >> shift


def first(product, bias, scale, table, predictor_bias, shift):  # type: ignore[no-untyped-def]
    """The first layer after its product (n, 2 N), whose halves are high and low bytes' sums.

    Returns the companded contrasts (n, C) int8, looked up in ``table``, and the linear predictor
    (n, S) int32.
    """
    out = _room("first", (len(product), len(bias)), np.int8)
    predicted = np.empty((len(product), len(predictor_bias)), np.int32)
    _first(product, bias, scale, table, predictor_bias, shift, out, predicted)
    return out, predicted


@kernel
def _rescaled(total, scale):  # type: ignore[no-untyped-def]
    x = np.rint(np.float32(total) * scale)
    return np.int32(min(max(x, np.float32(-LIMIT)), np.float32(LIMIT)))


@kernel
def _rescale(product, bias, scale, out):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        for c in range(out.shape[1]):
            out[i, c] = _rescaled(product[i, c] + bias[c], scale[c])


def rescale(product, bias, scale):  # type: ignore[no-untyped-def]
    """(n, C) int32: ``(product + bias) * scale``, rounded."""
    out = np.empty((len(product), len(bias)), np.int32)
    _rescale(product, bias, scale, out)
    return out


@kernel
def _add(stream, product, bias, scale):  # type: ignore[no-untyped-def]
    for i in range(stream.shape[0]):
        for c in range(stream.shape[1]):
            stream[i, c] += _rescaled(product[i, c] + bias[c], scale[c])


def add(stream, product, bias, scale):  # type: ignore[no-untyped-def]
    """Add ``rescale`` of the product to the residual stream, in place."""
    _add(stream, product, bias, scale)


@kernel
def _activate(x, bias, scale, out):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        for c in range(out.shape[1]):
            y = np.rint(np.float32(x[i, c] + bias[c]) * scale[c])
            out[i, c] = np.int8(min(max(y, np.float32(0)), np.float32(127)))


def activate(x, bias, scale):  # type: ignore[no-untyped-def]
    """(n, C) int8: a rectifier on ``(x + bias) * scale``, rounded, at most 127."""
    out = _room("activate", x.shape, np.int8)
    _activate(x, bias, scale, out)
    return out


@kernel
def _spell(residual, bins, code, hidden):  # type: ignore[no-untyped-def]
    last = bins.shape[0] - 1
    for i in range(hidden.shape[0]):
        size = min(abs(residual[i]) >> 4, last)
        index = np.int32(bins[size])
        if residual[i] < 0:
            index = -index
        row = code.shape[0] // 2 + index
        for c in range(hidden.shape[1]):
            hidden[i, c] += code[row, c]


def spell(residual, bins, code, hidden):  # type: ignore[no-untyped-def]
    """Add to ``hidden`` (n, H), in place, the row of ``code`` that a residual (n,) falls in."""
    _spell(residual, bins, code, hidden)


def side_by_side(one, other):  # type: ignore[no-untyped-def]
    """(n, A + B): the columns of both."""
    return np.concatenate([one, other], 1)


def columns(x, first, last):  # type: ignore[no-untyped-def]
    """A copy of the columns of ``x`` (n, C) from ``first`` up to, not including, ``last``."""
    return np.ascontiguousarray(x[:, first:last])


@kernel
def _mixture(product, bias, scale, components, bits, contrast, predicted, residuals, out, centre):  # type: ignore[no-untyped-def]
    k, j = components, contrast.shape[1]
    half = np.int64(1) << (bits - 1)
    value = np.empty(bias.shape[0], np.int32)
    for i in range(out.shape[0]):
        for c in range(bias.shape[0]):
            value[c] = _rescaled(product[i, c] + bias[c], scale[c])
        total = np.int64(0)
        for c in range(j):
            total += np.int64(value[3 * k + c]) * np.int64(contrast[i, c])
        for c in range(residuals.shape[1]):
            total += np.int64(value[3 * k + j + c]) * np.int64(residuals[i, c])
        middle = predicted[i] + ((total + half) >> bits)
        middle = min(max(middle, np.int64(-LIMIT)), np.int64(LIMIT))
        centre[i] = middle
        for c in range(k):
            out[i, 0, c] = value[c]
            out[i, 1, c] = value[k + c] + middle
            out[i, 2, c] = value[2 * k + c]


def mixture(product, bias, scale, components, bits, contrast, predicted, residuals):  # type: ignore[no-untyped-def]
    """A head's outputs -> (n, 3, K) mixture parameters, and the centre (n,) that they lie about.

    Weighs ``contrast`` (n, J) and the earlier sub-pixels' ``residuals`` (n, c) with the head's
    filter, in units of 2^-``bits``, and adds the sum to ``predicted`` (n,).
    """
    out = np.empty((len(product), 3, components), np.int32)
    centre = np.empty(len(product), np.int32)
    _mixture(product, bias, scale, components, bits, contrast, predicted, residuals, out, centre)
    return out, centre


@kernel
def _contrasts(store, at, predicted, shift, out):  # type: ignore[no-untyped-def]
    colours = predicted.shape[1]
    for i in range(at.shape[0]):
        for j in range(at.shape[1]):
            for c in range(colours):
                near = np.int32(store[at[i, j], c]) << shift
                out[i, colours * j + c] = near - predicted[i, c]


def contrasts(store, at, predicted, shift):  # type: ignore[no-untyped-def]
    """(n, J * S) int32: the neighbours' colours, in units of 2^-shift, less the prediction."""
    out = np.empty((len(at), predicted.shape[1] * at.shape[1]), np.int32)
    _contrasts(store, at, predicted, shift, out)
    return out


@kernel
def _look_contrasts(store, at, here, out):  # type: ignore[no-untyped-def]
    for i in range(at.shape[0]):
        for j in range(at.shape[1]):
            luma = np.int32(0)
            for k in range(4):
                luma += np.int32(store[at[i, j], k]) - np.int32(store[here[i], k])
            out[i, 2 * j] = 64 * luma
            out[i, 2 * j + 1] = 256 * (np.int32(store[at[i, j], 5]) - np.int32(store[here[i], 5]))


def look_contrasts(store, at, here):  # type: ignore[no-untyped-def]
    """(n, 2 J) int32: the given luma and chroma at ``at`` (n, J), less those at ``here`` (n,).

    In 1/256 of a pixel value; the luma is the mean of its four samples.
    """
    out = np.empty((len(at), 2 * at.shape[1]), np.int32)
    _look_contrasts(store, at, here, out)
    return out
