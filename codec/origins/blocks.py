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
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native
from pixelzip.codec.origins.downsampling import Mask
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


_NOISE = 0.3
"""The standard deviation of a coefficient when samples are rounded: 12^-1/2, and a little."""
_OTHERS = 0.02
"""The share of coefficients that are wherever they like."""
_PRICE = 64
"""What speaks for a step has to exceed that, in 16ths: one of them always fits best."""
_EVIDENCE = 16 * 40
"""What has to speak for a grid, in 16ths, beyond 1.5 times what speaks for another."""
_SURPRISE = 6
"""How much less likely a step is that no standard table has there, as a logarithm."""
_FAR = 1.2
"""No coefficient is farther from a multiple of its step."""
_TRIED = 512
"""So many blocks are solved before all of them are."""
_MISFITS = 3
"""So many samples of a block may be wrong, though they are said to be known."""
_NOISY = 0.05
"""Where more blocks than these have some, it is the samples that are wrong."""
_LATER = 255
"""In place of the number of samples that do not fit, in blocks that are left for later."""
_QUICK, _EFFORT = 20, 300
"""So many moves are made in search for a block's coefficients."""
_STRIDE = 1_000_003
"""A prime, so that counting by it visits all of a number of blocks."""
_FEWEST = 4
"""So many of them have to be known, all of their samples."""
_LEAST = 0.6
"""The share of blocks that have to fit."""

LUMA = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    ]
)
CHROMA = np.array(
    [
        *(17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99),
        *(24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99),
        *([99] * 32),
    ]
)


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


def find(plane: Bytes, known: Mask) -> Blocks | None:
    """The blocks that a plane (height, width) was decoded from, if it was.

    A sample that is not known is a guess; one of 0 or 255 may have been clamped. Blocks that render
    to other samples than those of the plane are near to them. None where there is no library.
    """
    library = native.coding()
    if library is None:
        return None
    plane, sure = np.ascontiguousarray(plane), np.ascontiguousarray(known).view(np.uint8)
    grid = _grid(library, plane, sure)
    if grid is None:
        return None
    steps = _steps(library, plane, sure, *grid)
    rows, columns = size(plane.shape, *grid)

    def solve(numbers: NDArray[np.int64], transposed: bool, effort: int, *prior: Any) -> Any:
        if not library.blocks_solve(
            *(plane, sure, *plane.shape, steps, columns, *grid, transposed, effort),
            *(prior or (None, None, None)),
            *(numbers, len(numbers), coefficients, wrong),
        ):
            raise MemoryError("there is not enough memory to look for an origin")
        return wrong[numbers]

    coefficients = np.zeros((rows * columns, 64), np.int16)
    wrong = np.zeros(rows * columns, np.uint8)
    some = np.arange(min(_TRIED, rows * columns)) * _STRIDE % (rows * columns)
    misfits = [solve(some, turned, _QUICK) for turned in (False, True)]
    tried = (misfits[0] != _LATER).sum()
    fits = [(m <= _MISFITS).sum() for m in misfits]
    if tried < _FEWEST or max(fits) < _LEAST * tried:
        return None
    transposed = bool((misfits[1] == 0).sum() > (misfits[0] == 0).sum())
    solve(np.arange(rows * columns), transposed, _EFFORT)
    prior = _prior(coefficients[wrong <= _MISFITS])
    rest = wrong > 0
    if (rest & (wrong <= _MISFITS)).mean() > _NOISY:
        rest = wrong > _MISFITS
    solve(np.flatnonzero(rest), transposed, _EFFORT, *prior)
    if (wrong <= _MISFITS).mean() < _LEAST:
        return None
    return Blocks(steps, coefficients.reshape(rows, columns, 64), *grid, transposed)


def _prior(coefficients: NDArray[np.int16]) -> tuple[NDArray[np.float64], ...]:
    """What a size of each frequency's coefficients costs, (64, 64), and more for each beyond.

    Costs are negative logarithms of probabilities, from coefficients (n, 64).
    """
    sizes = np.abs(coefficients.astype(np.int64))
    mean = sizes.mean(0) + 0.02
    slopes = np.log1p(1 / mean)
    capped = np.minimum(sizes, 63) + 64 * np.arange(64)
    counts = np.bincount(capped.ravel(), minlength=4096).reshape(64, 64)
    smooth = np.exp(-slopes[:, None] * np.arange(64)) / (1 + mean[:, None])
    probability = (counts + 20 * smooth) / (len(sizes) + 20)
    probability[:, 1:] /= 2  # the sign
    return -np.log(probability), slopes, (sizes**2).mean(0) + 0.05


def _grid(library: Any, plane: Bytes, known: Bytes) -> tuple[int, int] | None:
    """How many samples of the first blocks lie before the plane, in rows and columns."""
    gains, scores = _gains(), np.zeros(64, np.int64)
    for most in (16, max(32, min(256, plane.size // 512))):
        count = library.blocks_offsets(plane, known, *plane.shape, most, gains, _PRICE, scores)
        *_, second, best = np.sort(scores)
        if count and best > _EVIDENCE + 1.5 * second:
            row, column = divmod(int(scores.argmax()), 8)
            return -row % 8, -column % 8
    return None


def _steps(library: Any, plane: Bytes, known: Bytes, top: int, left: int) -> NDArray[np.uint16]:
    """The likeliest step of each frequency (64,)."""
    counts = np.zeros((64, 8192), np.float32)
    for guesses in (0, 8):
        if library.blocks_histogram(plane, known, *plane.shape, top, left, guesses, counts) > 64:
            break
    gains = _log_gains(8192, 255)  # (8192, 255)
    evidence = counts @ gains.astype(np.float32)
    tables = [t for table in (LUMA, CHROMA) for t in (table, table.reshape(8, 8).T.ravel())]
    family = np.array([scaled(t, quality) for t in tables for quality in range(1, 101)])
    fit = np.take_along_axis(evidence[None], family[:, :, None] - 1, 2).sum((1, 2))
    likely = family[fit.argmax()]
    prior = np.full((64, 255), -_SURPRISE, np.float32)
    prior -= np.abs(np.log(np.arange(1, 256) / likely[:, None])).astype(np.float32)
    np.put_along_axis(prior, likely[:, None] - 1, 0, 1)
    steps = (evidence + prior).argmax(1) + 1
    # What was quantised twice has few coefficients that are no multiples of the product.
    magnitude = np.arange(8192) / 8
    for k in range(64):
        off = np.abs(magnitude - np.rint(magnitude / steps[k]) * steps[k])
        others = (counts[k] * (off > _FAR)) @ gains
        others = np.where(steps[k] % np.arange(1, 256), 0, others)
        others[likely[k] - 1] *= 8
        if others.max() > _SURPRISE:
            steps[k] = others.argmax() + 1
    found: NDArray[np.uint16] = steps.astype(np.uint16)
    return found


def scaled(table: NDArray[np.int64], quality: int) -> NDArray[np.int64]:
    """The steps that libjpeg makes of a table for a quality of 1 to 100."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((table * scale + 50) // 100, 1, 255)


@cache
def _gains() -> NDArray[np.int16]:
    gains = np.rint(16 * _log_gains(512, 48)).astype(np.int16)
    gains[:4] = np.minimum(gains[:4], 0)  # a smooth plane has small ones everywhere
    return gains


@cache
def _log_gains(levels: int, steps: int) -> NDArray[np.float64]:
    """(levels, steps): how a magnitude, in eighths, speaks for a step.

    The logarithm of its likelihood beside that where all near to it are as likely: multiples of the
    step, with the noise of samples' rounding. About 0, nothing is as likely.
    """
    magnitude = (np.arange(levels) / 8)[:, None]
    step = np.arange(1, steps + 1)
    number = np.rint(magnitude / step)
    off = magnitude - number * step
    density = sum(np.exp(-0.5 * ((off + k * step) / _NOISE) ** 2) for k in (-1, 0, 1))
    room = np.where(number == 0, np.minimum(step, 3), step)
    likelihood = density * room / (_NOISE * np.sqrt(2 * np.pi))
    gains: NDArray[np.float64] = np.log((1 - _OTHERS) * likelihood + _OTHERS)
    return gains


def _samples(coefficients: NDArray[np.int16], steps: NDArray[np.uint16], transposed: bool) -> Bytes:
    """(n, 64) quantised coefficients -> (n, 8, 8) samples."""
    dequantised = _saturated(coefficients.astype(np.int64) * steps).reshape(-1, 8, 8)
    if transposed:
        dequantised = dequantised.swapaxes(1, 2)
    half = _saturated((WAVES.T @ dequantised + (1 << 10)) >> 11)
    made: Bytes = np.clip(((half @ WAVES + (1 << 17)) >> 18) + 128, 0, 255).astype(np.uint8)
    return made.swapaxes(1, 2) if transposed else made


def _saturated(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.clip(numbers, -(1 << 15), (1 << 15) - 1)
