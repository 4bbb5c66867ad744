"""Sparse colours: a picture that has few of the 2^24 RGB colours does without all the others.

Rendering, stretching, a change of saturation, a palette leave holes in the cube of colours. A
`Colours` holds those that a picture has. It says which values a sub-pixel can have given the
earlier ones of its pixel, for `pixelzip.codec.cdf` to leave the others out, and it writes itself
down in few bytes.

The bytes are one message of `pixelzip.codec.bits`: for each block of 8x8x8 colours, in order of
red, green and blue, whether it has any; then, if so, for each of its colours, in the same order,
whether it is there. What is already known nearby, in the directions in which photographs extend (of
brightness above all) and in which renderings repeat, tells what to expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import bits
from pixelzip.codec.bits import code_bit, code_mixed, fresh, kernel, mixer
from pixelzip.codec.errors import FormatError

Pixels = NDArray[np.uint8]
Words = NDArray[np.uint16]

_BLOCK = 8
_BLOCKS = 256 // _BLOCK
_MARGIN = 6  # as far as contexts reach
_SIDE = 256 + 2 * _MARGIN  # of the cube with zeros around it
_LIMIT = 1023  # of the contexts

_SAMPLE = 2000
"""So many pixels, and so many colours, tell how crowded the cube is."""
_REACH = 3
"""A network's guess at a pixel is taken to reach this far in each direction, falling off by ..."""
_SPREAD, _LEAST_SPREAD = 0.7, 0.3
"""... so much of the error of a simple guess, and at least so much, for each factor of e."""
_REGULAR = 0.6
"""Sets of colours need at least about this fraction of the bits of sets drawn by chance."""
_SHARE = 0.05
"""It takes longer to code what is sparse, so this fraction of the file at least is to be saved."""
_GUESSED = 1.4
"""A pixel costs about so many times the bits of the errors of a simple guess."""


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


class Colours:
    """A set of RGB colours, at least one."""

    def __init__(self, blue: Words) -> None:
        """From (65536, 16): of each red and green (256 * red + green), which blues there are.

        Bit j of word i stands for 16 * i + j, here as in `pixelzip.codec.cdf`.
        """
        has_green: NDArray[np.bool_] = np.any(blue, axis=1).reshape(256, 256)
        self.table: Words = np.concatenate(
            [_packed(np.any(has_green, axis=1)[None]), _packed(has_green), blue]
        )
        """(1 + 256 + 65536, 16): the reds; for each red the greens; for each of both the blues."""

    @classmethod
    def of(cls, pixels: Pixels) -> Colours:
        """Those of some pixels (..., 3)."""
        return cls(_blues(pixels))

    @classmethod
    def from_bytes(cls, data: bytes, most: int) -> Colours:
        """Back from `data`. FormatError if damaged, or if there are more than ``most``."""
        blue = np.zeros((65536, 16), np.uint16)
        if not _code(*bits.decoder(data), blue, most):
            raise FormatError("the file is damaged: its set of colours is impossible")
        return cls(blue)

    @cached_property
    def data(self) -> bytes:
        """The set in few bytes."""
        blue = self.table[257:]
        return bits.encode(lambda coder, words: _code(coder, words, blue, 1 << 24))

    def allowed(self, earlier: Pixels) -> Words:
        """(n, 16): the values that there can be after the earlier channels (n, 0 to 2) of pixels.

        None at all after values that do not occur.
        """
        return self.table[rows(earlier)]

    def __len__(self) -> int:
        """The number of colours."""
        return int(np.bitwise_count(self.table[257:]).sum())


class Several:
    """The sets of colours of several tiles; None for a tile that may have any."""

    def __init__(self, sets: Sequence[Colours | None]) -> None:
        unlike = list({id(one): one for one in sets if one is not None}.values())
        everything = np.full((1, 16), 0xFFFF, np.uint16)
        self._table = np.concatenate([everything, *(one.table for one in unlike)])
        first = {id(one): 1 + i * len(one.table) for i, one in enumerate(unlike)}
        self._first = np.array([first.get(id(one), 0) for one in sets], np.intp)

    def allowed(self, tiles: NDArray[np.intp], earlier: Pixels) -> Words:
        """As `Colours.allowed`, each pixel of one of the tiles (n,)."""
        first = self._first[tiles]
        return self._table[np.where(first > 0, first + rows(earlier), 0)]


def rows(earlier: Pixels) -> NDArray[np.intp]:
    """(n,): the row of `Colours.table` for each of (n, 0 to 2) earlier channels."""
    numbers = np.zeros(len(earlier), np.intp)
    for channel in range(earlier.shape[1]):
        numbers = numbers * 256 + earlier[:, channel] + 1
    return numbers


def _packed(members: NDArray[np.bool_]) -> Words:
    """(n, 256) -> (n, 16)"""
    return np.packbits(members, axis=1, bitorder="little").view("<u2").astype(np.uint16)


def _blues(pixels: Pixels) -> Words:
    blue = np.zeros((65536, 16), np.uint16)
    _gather(np.ascontiguousarray(pixels).reshape(-1, 3), blue)
    return blue


@kernel
def _gather(pixels, blue):  # type: ignore[no-untyped-def]
    """Note the colours of pixels (n, 3)."""
    for i in range(len(pixels)):
        row = np.uint64(pixels[i, 0]) << np.uint64(8) | np.uint64(pixels[i, 1])
        value = np.uint64(pixels[i, 2])
        blue[row, value >> np.uint64(4)] |= np.uint16(1) << np.uint16(value & np.uint64(15))


# Looking for a set that pays.


def find(pixels: Pixels) -> Colours | None:
    """The colours of (height, width, 3) pixels, if leaving out the others seems to be worth it.

    That is where pixels gain more bits, there being less room for them, than the set costs.
    """
    height, width, _ = pixels.shape
    if height < 2 or width < 2:
        return None
    blue = _blues(pixels)
    count = int(np.bitwise_count(blue).sum(dtype=np.int64))
    places = np.linspace(0, (height - 1) * (width - 1) - 1, _SAMPLE).astype(np.intp)
    row, column = np.divmod(places, width - 1)
    colours, errors = _guess(pixels, row + 1, column + 1)
    room = _room(blue, colours, _SPREAD * errors + _LEAST_SPREAD)
    gain = -np.log2(room).mean()
    bits_now = _GUESSED * np.log2(1 + 2 * errors).sum(axis=1).mean()
    budget = height * width * float(gain - _SHARE * bits_now)
    if budget < _REGULAR * _random_cost(blue, count):
        return None
    found = Colours(blue)
    return found if budget > 8 * len(found.data) else None


def _guess(
    pixels: Pixels, row: NDArray[np.intp], column: NDArray[np.intp]
) -> tuple[Pixels, NDArray[np.float64]]:
    """Pixels (n, 3), and how wrong a simple guess at each is: red, green - red, blue - green."""
    left, above = pixels[row, column - 1].astype(np.int64), pixels[row - 1, column].astype(np.int64)
    plane = left + above - pixels[row - 1, column - 1]
    guess = plane.clip(np.minimum(left, above), np.maximum(left, above))
    here = pixels[row, column]
    return here, abs(np.diff(here - guess, axis=1, prepend=0)).astype(np.float64)


def _room(blue: Words, colours: Pixels, spread: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """(n,): the fraction of the places around each colour, its own included, that are taken.

    Places count the less the further away they are, by (n, 3) spreads of red, green - red and
    blue - green.
    """
    steps = np.arange(-_REACH, _REACH + 1)
    weights = np.exp(-abs(steps) / np.broadcast_to(spread, colours.shape)[:, :, None])
    out = np.empty(len(colours))
    _weigh(blue, colours, weights, out)
    return out


@kernel
def _weigh(blue, colours, weights, out):  # type: ignore[no-untyped-def]
    for n in range(len(colours)):
        r, g, b = np.int64(colours[n, 0]), np.int64(colours[n, 1]), np.int64(colours[n, 2])
        taken, total = 0.0, 0.0
        for i in range(-_REACH, _REACH + 1):
            for j in range(-_REACH, _REACH + 1):
                for k in range(-_REACH, _REACH + 1):
                    red, green, value = r + i, g + i + j, b + i + j + k
                    if (red | green | value) & -256 == 0:
                        weight = (
                            weights[n, 0, i + _REACH]
                            * weights[n, 1, j + _REACH]
                            * weights[n, 2, k + _REACH]
                        )
                        total += weight
                        row, word, bit = 256 * red + green, value >> 4, value & 15
                        taken += weight * (np.int64(blue[row, word]) >> bit & 1)
        out[n] = taken / total


def _random_cost(blue: Words, count: int) -> float:
    """The bits of a set that is as crowded here and there as this one, and else drawn by chance."""
    members = np.empty((min(count, _SAMPLE), 3), np.uint8)
    _choose(blue, count, members)
    # A place is taken with probability p; each colour bears its part of the empty places around.
    p = _room(blue, members, np.inf).clip(max=0.999)
    return count * float((-np.log2(p) - (1 - p) / p * np.log2(1 - p)).mean())


@kernel
def _choose(blue, count, out):  # type: ignore[no-untyped-def]
    """Some of the ``count`` colours of a set, evenly spaced."""
    chosen, seen = 0, 0
    for row in range(blue.shape[0]):
        for high in range(16):
            word, value = np.int64(blue[row, high]), 16 * high
            while word > 0 and chosen < len(out):
                if word & 1:
                    if seen * len(out) >= chosen * count:
                        out[chosen, 0], out[chosen, 1], out[chosen, 2] = row >> 8, row & 255, value
                        chosen += 1
                    seen += 1
                word, value = word >> 1, value + 1


# The set's bytes.


@kernel
def _code(coder, words, blue, most):  # type: ignore[no-untyped-def]
    """Encode the set ``blue``, or decode it into zeros. False if it is impossible.

    What is decoded has at most ``most`` colours, and so bounds the work.
    """
    cube = np.zeros(_SIDE * _SIDE * _SIDE, np.uint8)
    filled = np.zeros((_BLOCKS + 2, _BLOCKS + 2, _BLOCKS + 2), np.uint8)
    block_contexts = fresh(1 << len(_BLOCKS_BEFORE))
    contexts = fresh((1 << len(_NEAR)) + (1 << len(_IN_LINE)) + (1 << len(_DIAGONAL)) + 21)
    weights = mixer(32, 4)
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
                    found = _code_block(coder, words, blue, cube, corner, contexts, weights)
                    total += found
                    if found == 0 or total > most:
                        return False
    return total > 0


@kernel
def _any(blue, corner):  # type: ignore[no-untyped-def]
    """Whether a block has any colours."""
    red, green, first = corner
    found = 0
    for r in range(red, red + _BLOCK):
        for g in range(green, green + _BLOCK):
            found |= np.int64(blue[256 * r + g, first >> 4]) >> (first & 15) & 255
    return np.int64(found != 0)


@kernel
def _code_block(coder, words, blue, cube, corner, contexts, weights):  # type: ignore[no-untyped-def]
    """Code the colours of a block that has some; returns how many there are."""
    red, green, first = corner
    chosen = np.zeros(4, np.int64)
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


@kernel
def _pattern(cube, at, before):  # type: ignore[no-untyped-def]
    """Which of some colours are there, as a number."""
    pattern = np.int64(0)
    for i in range(len(before)):
        pattern = 2 * pattern + cube[np.uint64(at - before[i])]
    return pattern


@kernel
def _number(cube, at, before):  # type: ignore[no-untyped-def]
    """How many of some colours are there."""
    number = np.int64(0)
    for i in range(len(before)):
        number += cube[np.uint64(at - before[i])]
    return number
