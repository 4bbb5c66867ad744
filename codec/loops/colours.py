"""Sets of colours as bits: see `pixelzip.codec.colour_bits`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.bits import Coder, Words
from pixelzip.codec.compiled import kernel, part
from pixelzip.codec.loops.bits import code_bit, code_mixed, fresh, mixer

_BLOCK = 8
_BLOCKS = 256 // _BLOCK
_MARGIN = 6  # as far as contexts reach
_SIDE = 256 + 2 * _MARGIN  # of the cube with zeros around it
_LIMIT = 1023  # of the contexts


def _before(*steps: tuple[int, int, int]) -> NDArray[np.int64]:
    """How far back in the cube the colours are that are so much less red, green, blue."""
    return np.array([(r * _SIDE + g) * _SIDE + b for r, g, b in steps])


_NEAR = _before((0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 2), (0, 1, 1),
                (1, 1, 1), (1, 1, 0), (1, 0, 1), (0, 1, -1), (1, 0, -1))  # fmt: skip
_IN_LINE = _before((0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 0, 4),
                   (0, 0, 5), (0, 0, 6), (0, 1, 0), (1, 0, 0))  # fmt: skip
_DIAGONAL = _before((1, 1, 1), (2, 2, 2), (1, 1, 0), (1, 0, 0), (1, 1, -1),
                    (1, 1, 2), (1, 0, -1), (1, -1, -1), (1, -1, 0), (1, 0, 1))  # fmt: skip
_AROUND = _before((0, 0, 1), (0, 0, 2), (0, 1, 0), (0, 2, 0), (1, 0, 0), (2, 0, 0), (0, 1, 2),
                  (0, 1, -2), (0, 2, 1), (0, 2, -1), (1, 2, 0), (1, -2, 0), (1, 0, -2),
                  (1, 0, 2), (2, 2, 2), (1, 1, 1), (1, -1, -1), (1, 1, -1), (1, -1, 1),
                  (2, -1, 0))  # fmt: skip
_BLOCKS_BEFORE = np.array([(0, 0, -1), (0, -1, 0), (-1, 0, 0), (-1, -1, -1), (-1, -1, 0),
                           (-1, 0, 1), (0, -1, 1), (-1, 1, 0), (-1, 1, 1)])  # fmt: skip


def code(coder: Coder, words: Words, blue: NDArray[np.uint16], most: int) -> bool:
    """Encode the set ``blue``, or decode it into zeros. False if it is impossible.

    What is decoded has at most ``most`` colours, and so bounds the work.
    """
    found: bool = _code(
        coder, words, blue, most,
        cube=np.zeros(_SIDE * _SIDE * _SIDE, np.uint8),
        filled=np.zeros((_BLOCKS + 2, _BLOCKS + 2, _BLOCKS + 2), np.uint8),
        block_contexts=fresh(1 << len(_BLOCKS_BEFORE)),
        contexts=fresh((1 << len(_NEAR)) + (1 << len(_IN_LINE)) + (1 << len(_DIAGONAL)) + 21),
        weights=mixer(32, 4),
        chosen=np.zeros(4, np.int64),
    )  # fmt: skip
    return found


@kernel
def _code(  # type: ignore[no-untyped-def]
    coder, words, blue, most, cube, filled, block_contexts, contexts, weights, chosen
):
    total = 0
    for red in range(_BLOCKS):
        for green in range(_BLOCKS):
            for blue_block in range(_BLOCKS):
                near = 0
                for i in range(len(_BLOCKS_BEFORE)):
                    r, g, b = _BLOCKS_BEFORE[i]
                    near = 2 * near + filled[red + 1 + r, green + 1 + g, blue_block + 1 + b]
                corner = (_BLOCK * red, _BLOCK * green, _BLOCK * blue_block)
                there = _any(blue, corner)
                there = code_bit(coder, words, block_contexts, near, _LIMIT, there)
                filled[red + 1, green + 1, blue_block + 1] = there
                if there:
                    found = _code_block(coder, words, blue, cube, corner, contexts, weights, chosen)
                    total += found
                    if found == 0 or total > most:
                        return False
    return total > 0


@part
def _any(blue, corner):  # type: ignore[no-untyped-def]
    """Whether a block has any colours."""
    red, green, first = corner
    found = 0
    for r in range(red, red + _BLOCK):
        for g in range(green, green + _BLOCK):
            found |= np.int64(blue[256 * r + g, first >> 4]) >> (first & 15) & 255
    return np.int64(found != 0)


@part
def _code_block(coder, words, blue, cube, corner, contexts, weights, chosen):  # type: ignore[no-untyped-def]
    """Code the colours of a block that has some; returns how many there are."""
    red, green, first = corner
    found = 0
    for r in range(red, red + _BLOCK):
        for g in range(green, green + _BLOCK):
            row = 256 * r + g
            at = ((r + _MARGIN) * _SIDE + g + _MARGIN) * _SIDE + first + _MARGIN
            for b in range(first, first + _BLOCK):
                base = 0
                chosen[0] = base + _pattern(cube, at, _NEAR)
                base += 1 << len(_NEAR)
                chosen[1] = base + _pattern(cube, at, _IN_LINE)
                base += 1 << len(_IN_LINE)
                chosen[2] = base + _pattern(cube, at, _DIAGONAL)
                base += 1 << len(_DIAGONAL)
                around = _number(cube, at, _AROUND)
                chosen[3] = base + around
                mixed = 4 * min(around * 8 // 20, 7) + 2 * cube[at - _NEAR[0]] + cube[at - _NEAR[1]]
                bit = np.int64(blue[row, b >> 4]) >> (b & 15) & 1
                bit = code_mixed(coder, words, contexts, chosen, _LIMIT, weights[mixed], bit)
                blue[row, b >> 4] |= np.uint16(bit << (b & 15))
                cube[at] = bit
                found += bit
                at += 1
    return found


@part
def _pattern(cube, at, before):  # type: ignore[no-untyped-def]
    """Which of some colours are there, as a number."""
    pattern = np.int64(0)
    for i in range(len(before)):
        pattern = 2 * pattern + cube[np.uint64(at - before[i])]
    return pattern


@part
def _number(cube, at, before):  # type: ignore[no-untyped-def]
    """How many of some colours are there."""
    number = np.int64(0)
    for i in range(len(before)):
        number += cube[np.uint64(at - before[i])]
    return number
