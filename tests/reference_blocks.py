"""Planes in blocks, decoded by docs/format.md alone: short, slow, importing nothing of pixelzip."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import reference_jpeg as jpeg
import reference_sparse as sparse

FORMAT = Path(__file__).resolve().parent.parent / "codec" / "jpeg"
PRIOR, NETWORK = FORMAT / "prior.xz", FORMAT / "network.xz"
Matrix = list[list[int]]

LUMA = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
]  # fmt: skip
CHROMA = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99,
    24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99,
] + [99] * 32  # fmt: skip
WAVES = [
    [8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192],
    [11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363],
    [10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703],
    [9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633],
    [8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192],
    [6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437],
    [4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433],
    [2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260],
]


def table(number: int) -> Matrix:
    """One of the standard, [row][column]."""
    q, base = 1 + number % 100, CHROMA if number >= 100 else LUMA
    f = 5000 // q if q < 50 else 200 - 2 * q
    steps = [max(1, min((b * f + 50) // 100, 255)) for b in base]
    return [steps[8 * v : 8 * v + 8] for v in range(8)]


def transposed(block: Matrix) -> Matrix:
    return [list(column) for column in zip(*block, strict=True)]


@dataclass
class Blocks:
    """What a payload says."""

    top: int
    left: int
    transposed: bool
    steps: Matrix
    plane: jpeg.Plane


@cache
def _taught() -> tuple[jpeg.Memory, jpeg.Memory]:
    """The memory that bands begin with, and that of other bytes."""
    of_blocks, of_bytes = (jpeg.Memory(sparse.LOGIT, sparse.SIGMOID) for _ in range(2))
    dictionary = of_blocks.learn_prior(PRIOR.read_bytes())
    given = [byte >> i & 1 for byte in dictionary for i in range(7, -1, -1)]
    jpeg.bytes_of(jpeg.Coder(of_bytes, given=given), len(dictionary))
    return of_blocks, of_bytes


@cache
def _network() -> jpeg.Network:
    return jpeg.Network(NETWORK.read_bytes())


def _copied(memory: jpeg.Memory) -> jpeg.Memory:
    other = copy(memory)
    other.slots, other.weights = memory.slots[:], memory.weights[:]
    other.finals, other.curves = memory.finals[:], memory.curves[:]
    return other


def decode(file: Any, length: int, plane: Any, earlier: Sequence[Any]) -> Blocks:
    """The blocks of a plane, from the file at its payload; ``earlier``: the planes it is given."""
    of_blocks, of_bytes = _taught()
    end = file.at + length
    place, number = file.take(2)
    if number < 200:
        steps = table(number)
    elif number == 202:
        steps = next(one.blocks.steps for one in reversed(earlier) if one.blocks is not None)
    else:
        assert number in (200, 201)
        size = number - 199
        coder = jpeg.Coder(_copied(of_bytes), file.take(file.varint()))
        text = jpeg.bytes_of(coder, 5 + 64 * size)
        coder.finish()
        assert text[:5] == (b"\xff\xdb\0\x43\0" if size == 1 else b"\xff\xdb\0\x83\x10")
        steps = [[0] * 8 for _ in range(8)]
        for k, (row, column) in enumerate(jpeg.PLACES):
            at = 5 + size * k
            steps[row][column] = int.from_bytes(text[at : at + size], "big")
    assert min(map(min, steps)) > 0
    if place >> 7:
        steps = transposed(steps)
    top, left = place & 7, place >> 3 & 7
    rows, columns = (top + plane.height + 7) // 8, (left + plane.width + 7) // 8
    zigzag = [steps[row][column] for row, column in jpeg.PLACES]
    own = jpeg.Plane(1, 1, columns, rows, zigzag)
    planes = [*(_seen(plane, top, left, own, other) for other in earlier), own]
    counts = file.varint()
    bands = counts & 31
    assert counts >> 5 == 0
    assert 1 <= bands <= 16
    lengths = [file.varint() for _ in range(bands - 1)]
    lengths.append(end - file.at - sum(lengths))
    for i, size in enumerate(lengths):
        coder = jpeg.Coder(_copied(of_blocks), file.take(size))
        first, last = (rows * (i + one) // bands for one in (0, 1))
        jpeg.decode_band(coder, _network(), planes, first, last, len(earlier))
        coder.finish()
    assert file.at == end
    return Blocks(top, left, bool(place >> 6 & 1), steps, own)


def _seen(plane: Any, top: int, left: int, own: jpeg.Plane, other: Any) -> jpeg.Plane:
    """The blocks of an earlier plane that lie over those of this one."""
    steps = [1] * 64 if other.blocks is None else other.blocks.plane.steps
    seen = jpeg.Plane(1, 1, own.stride, len(own.blocks), steps)
    if other.blocks is None:
        return seen

    def over(k: int, axis: int, start: int, size: int, its_start: int) -> int:
        pixel = plane.step[axis] * (8 * k - start) - plane.phase[axis]
        sample = (pixel + other.phase[axis]) // other.step[axis]
        return (max(0, min(sample, size - 1)) + its_start) // 8

    its = other.blocks
    for r, row in enumerate(seen.blocks):
        for c in range(own.stride):
            y = over(r, 0, top, other.height, its.top)
            x = over(c, 1, left, other.width, its.left)
            row[c] = its.plane.blocks[y][x]
    return seen


def rendered(blocks: Blocks, height: int, width: int) -> Matrix:
    """The samples of a plane."""
    made = [[_samples(blocks, block) for block in row] for row in blocks.plane.blocks]
    out = []
    for r in range(blocks.top, blocks.top + height):
        cells = [
            made[r // 8][c // 8][r % 8][c % 8] for c in range(blocks.left, blocks.left + width)
        ]
        out.append(cells)
    return out


def _samples(blocks: Blocks, block: Sequence[int]) -> Matrix:
    def saturated(a: int) -> int:
        return max(-(2**15), min(a, 2**15 - 1))

    d = [[0] * 8 for _ in range(8)]
    for k, (row, column) in enumerate(jpeg.PLACES):
        d[row][column] = saturated(blocks.steps[row][column] * block[k])
    if blocks.transposed:
        d = transposed(d)
    each = range(8)
    h = [
        [saturated((sum(WAVES[v][y] * d[v][u] for v in each) + 2**10) >> 11) for u in each]
        for y in each
    ]
    s = [[(sum(WAVES[u][x] * h[y][u] for u in each) + 2**17) >> 18 for x in each] for y in each]
    samples = [[max(0, min(a + 128, 255)) for a in row] for row in s]
    return transposed(samples) if blocks.transposed else samples
