"""Planes that a JPEG decoder computed from quantised coefficients, in blocks of 8 by 8 samples.

A decoder multiplies each coefficient with the step of its frequency, undoes the transform of each
block, adds 128 and rounds. `render` does what libjpeg and libjpeg-turbo do by default ("islow", the
accurate integer transform). It is two products with a matrix of integers, `WAVES`:

    D[v, u] = saturated(step[v, u] * coefficient[v, u])
    H[y, u] = saturated((sum over v of WAVES[v, y] * D[v, u] + 2^10) >> 11)
    S[y, x] = (sum over u of WAVES[u, x] * H[y, u] + 2^17) >> 18
    sample  = S + 128, or 0 or 255 where it is beyond them

Saturated means: to what 16 bits can hold, -2^15 to 2^15 - 1; so that every sum fits 32 bits. No
encoder makes coefficients that come near to that.

Columns come first, and H is rounded. So a picture that was transposed after decoding (turned by a
quarter, say) is another one than that of the transposed coefficients. Mirroring changes nothing
but signs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native
from pixelzip.codec.picture import Bytes

WAVES = np.array(
    [
        [8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192],
        [11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363],
        [10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703],
        [9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633],
        [8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192],
        [6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437],
        [4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433],
        [2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260],
    ]
)
"""(frequency, place): 2^13 times the cosines, as sums of libjpeg's rounded constants."""


@dataclass(frozen=True)
class Blocks:
    """Quantised coefficients of a plane, and how its blocks lie."""

    steps: NDArray[np.uint16]
    """(64,): row by row, the frequency along rows of samples running fastest."""
    coefficients: NDArray[np.int16]
    """(rows, columns, 64), in the order of the steps."""
    top: int
    left: int
    """So many samples of the first blocks lie outside the plane, before it: 0 to 7."""
    transposed: bool
    """Whether the plane was transposed after it was decoded. Steps and coefficients are then
    transposed as well; the decoder's first pass ran along rows."""


def size(shape: tuple[int, int], top: int, left: int) -> tuple[int, int]:
    """Rows and columns of blocks that cover a plane."""
    return (top + shape[0] + 7) // 8, (left + shape[1] + 7) // 8


def render(blocks: Blocks, shape: tuple[int, int]) -> Bytes:
    """The plane of (height, width) that a decoder makes of blocks. Any coefficients are legal.

    ValueError if there are not as many blocks as `size` says.
    """
    (height, width), (rows, columns) = shape, size(shape, blocks.top, blocks.left)
    if blocks.coefficients.shape != (rows, columns, 64) or blocks.steps.shape != (64,):
        raise ValueError(f"blocks of {blocks.coefficients.shape} do not cover a plane of {shape}")
    plane = np.empty(shape, np.uint8)
    library = native.coding()
    if library is not None:
        library.blocks_render(
            *(np.ascontiguousarray(blocks.coefficients), np.ascontiguousarray(blocks.steps)),
            *(rows, columns, blocks.transposed, blocks.top, blocks.left, height, width, plane),
        )
        return plane
    for row in range(rows):
        made = _samples(blocks.coefficients[row], blocks.steps, blocks.transposed)
        strip = made.swapaxes(0, 1).reshape(8, 8 * columns)
        y = 8 * row - blocks.top
        plane[max(y, 0) : y + 8] = strip[max(-y, 0) :, blocks.left : blocks.left + width][
            : height - max(y, 0)
        ]
    return plane


def _samples(
    coefficients: NDArray[np.int16], steps: NDArray[np.uint16], transposed: bool
) -> Bytes:
    """(n, 64) quantised coefficients -> (n, 8, 8) samples."""
    dequantised = _saturated(coefficients.astype(np.int64) * steps).reshape(-1, 8, 8)
    if transposed:
        dequantised = dequantised.swapaxes(1, 2)
    half = _saturated((WAVES.T @ dequantised + (1 << 10)) >> 11)
    made: Bytes = np.clip(((half @ WAVES + (1 << 17)) >> 18) + 128, 0, 255).astype(np.uint8)
    return made.swapaxes(1, 2) if transposed else made


def _saturated(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.clip(numbers, -(1 << 15), (1 << 15) - 1)
