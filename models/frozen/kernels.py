"""A backend in numpy arrays, its inner loops compiled by numba: where there is no compiled engine.

Each function has a twin of the same name and meaning in `pixelzip.models.gpu.photo`, in plain
torch, which is what runs on a GPU; a test holds each pair to the same bytes. Products are of 32-bit
integers. Rounding is to nearest, ties to even, of a single float32 product: one conversion, one
multiplication and one rounding, each defined to the last bit by IEEE 754 and never fused.

What `gather` and `activate` return lies in memory that they use again when the same thread
calls them next (`gather`, for a store as wide): to ask the system for fresh pages each time would
cost more than the arithmetic.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.compiled import kernel
from pixelzip.models.frozen.shell import LIMIT

Array = NDArray[Any]

_held = threading.local()


def _room(owner: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Array:
    """An array of this shape in ``owner``'s memory of this thread, its contents undefined."""
    size = math.prod(shape)
    memory: Array | None = getattr(_held, owner, None)
    if memory is None or len(memory) < size:
        memory = np.empty(size, dtype)
        setattr(_held, owner, memory)
    return memory[:size].reshape(shape)


@kernel
def _product(x, weight, out):  # type: ignore[no-untyped-def]
    out[:] = 0
    for i in range(out.shape[0]):
        for k in range(weight.shape[0]):
            value = np.int32(x[i, k])
            if value != 0:  # as every other one is, after a rectifier
                for c in range(out.shape[1]):
                    out[i, c] += value * weight[k, c]


@kernel
def _rescale(product, bias, scale, out):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        for c in range(out.shape[1]):
            x = np.rint(np.float32(product[i, c] + bias[c]) * scale[c])
            out[i, c] = np.int32(min(max(x, np.float32(-LIMIT)), np.float32(LIMIT)))


@kernel
def _activate(x, bias, scale, out):  # type: ignore[no-untyped-def]
    for i in range(out.shape[0]):
        for c in range(out.shape[1]):
            y = np.rint(np.float32(x[i, c] + bias[c]) * scale[c])
            out[i, c] = np.int8(min(max(y, np.float32(0)), np.float32(127)))


class Kernels:
    """The functions, of numpy's arrays."""

    def begin(self) -> None:
        """Called by each thread before it evaluates anything."""

    def array(self, values: NDArray[Any]) -> Array:
        """A numpy array as this backend holds it."""
        return np.ascontiguousarray(values)

    def numbers(self, array: Array) -> NDArray[Any]:
        """The way back from `array`."""
        return array

    def product(self, weight: NDArray[np.int8], largest: int) -> Callable[[Array], Array]:
        """The product with an int8 matrix (K, N), for inputs within +-``largest``: (n, N) int32."""
        held = weight.astype(np.int32)

        def multiply(x: Array) -> Array:
            out = np.empty((len(x), held.shape[1]), np.int32)
            _product(x, held, out)
            return out

        return multiply

    def positions(
        self,
        base: Array,
        row: Array,
        column: Array,
        height: Array,
        width: Array,
        pitch: Array,
        mask: int,
        offsets: Array,
    ) -> Array:
        """(n, J) int32: where each pixel's J neighbours lie in a store, or 0 outside the tile.

        Neighbour (r, c) of a tile lies at ``base + r * pitch + (c & mask)``; entry 0 of a store
        holds what is outside.
        """
        r, c = row[:, None] + offsets[:, 0], column[:, None] + offsets[:, 1]
        inside = (r >= 0) & (r < height[:, None]) & (c >= 0) & (c < width[:, None])
        return np.where(inside, base[:, None] + r * pitch[:, None] + (c & mask), 0)

    def gather(self, store: Array, at: Array) -> Array:
        """(n, J * C) int8: the entries ``at`` (n, J) of a store (N, C), side by side."""
        out = _room(f"gather {store.shape[1]}", (*at.shape, store.shape[1]), np.int8)
        np.take(store, at, 0, out, "clip")  # "raise" would copy; no position lies outside
        return out.reshape(len(at), -1)

    def scatter(self, store: Array, at: Array, values: Array) -> None:
        """Write the rows ``values`` (n, C) to the entries ``at`` (n,) of a store."""
        store[at] = values

    def first(
        self,
        product: Array,
        bias: Array,
        scale: Array,
        table: Array,
        predictor_bias: Array,
        shift: int,
    ) -> tuple[Array, Array]:
        """The first layer after its product (n, 2 N), whose halves are high and low bytes' sums.

        Returns the companded contrasts (n, C) int8, looked up in ``table``, and the linear
        predictor (n, S) int32.
        """
        half, channels, reach = product.shape[1] // 2, len(bias), len(table) // 2
        total = 256 * product[:, :half] + product[:, half:]
        x = np.rint((total[:, :channels] + bias).astype(np.float32) * scale)
        predicted = total[:, channels : channels + len(predictor_bias)] + predictor_bias
        at = np.maximum(np.minimum(x, reach), -reach).astype(np.int32) + reach
        return table[at], (predicted + (1 << (shift - 1))) >> shift

    def rescale(self, product: Array, bias: Array, scale: Array) -> Array:
        """(n, C) int32: ``(product + bias) * scale``, rounded."""
        out = np.empty((len(product), len(bias)), np.int32)
        _rescale(product, bias, scale, out)
        return out

    def add(self, stream: Array, product: Array, bias: Array, scale: Array) -> None:
        """Add ``rescale`` of the product to the residual stream, in place."""
        stream += self.rescale(product, bias, scale)

    def activate(self, x: Array, bias: Array, scale: Array) -> Array:
        """(n, C) int8: a rectifier on ``(x + bias) * scale``, rounded, at most 127."""
        out = _room("activate", x.shape, np.int8)
        _activate(x, bias, scale, out)
        return out

    def spell(self, residual: Array, bins: Array, code: Array, hidden: Array) -> None:
        """Add to ``hidden`` (n, H), in place, the row of ``code`` that a residual (n,) falls in."""
        size: Array = np.abs(residual)
        index = np.sign(residual) * bins[np.minimum(size >> 4, len(bins) - 1)]
        hidden += code[len(code) // 2 + index]

    def side_by_side(self, one: Array, other: Array) -> Array:
        """(n, A + B): the columns of both."""
        return np.concatenate([one, other], 1)

    def columns(self, x: Array, first: int, last: int) -> Array:
        """A copy of the columns of ``x`` (n, C) from ``first`` up to, not including, ``last``."""
        return np.ascontiguousarray(x[:, first:last])

    def mixture(
        self,
        product: Array,
        bias: Array,
        scale: Array,
        components: int,
        bits: int,
        contrast: Array,
        predicted: Array,
        residuals: Array,
    ) -> tuple[Array, Array]:
        """A head's outputs -> (n, 3, K) mixture parameters, and the centre (n,) they lie about.

        Weighs ``contrast`` (n, J) and the earlier sub-pixels' ``residuals`` (n, c) with the head's
        filter, in units of 2^-``bits``, and adds the sum to ``predicted`` (n,).
        """
        k = components
        value = self.rescale(product, bias, scale)
        known = np.concatenate([contrast, residuals], 1)
        total: Array = np.einsum("ij,ij->i", value[:, 3 * k :], known, dtype=np.int64)
        middle = predicted + ((total + (1 << (bits - 1))) >> bits)
        centre = np.maximum(np.minimum(middle, LIMIT), -LIMIT).astype(np.int32)
        out = np.ascontiguousarray(value[:, : 3 * k]).reshape(-1, 3, k)
        out[:, 1] += centre[:, None]
        return out, centre

    def contrasts(self, store: Array, at: Array, predicted: Array, shift: int) -> Array:
        """(n, J * S) int32: the neighbours' colours, in units of 2^-shift, less the prediction."""
        near = store[at][..., : predicted.shape[1]].astype(np.int32) << shift
        return (near - predicted[:, None]).reshape(len(at), -1)

    def look_contrasts(self, store: Array, at: Array, here: Array) -> Array:
        """(n, 2 J) int32: the given luma and chroma at ``at`` (n, J), less those at ``here`` (n,).

        In 1/256 of a pixel value; the luma is the mean of its four samples.
        """
        seen = store[at].astype(np.int32) - store[here].astype(np.int32)[:, None]
        luma = seen[..., :4].sum(2, dtype=np.int32)
        return np.stack([64 * luma, 256 * seen[..., 5]], 2).reshape(len(at), -1)
