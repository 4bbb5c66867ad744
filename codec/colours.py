"""Sparse colours: a picture that has few of the 2^24 RGB colours does without all the others.

Rendering, stretching, a change of saturation, a palette leave holes in the cube of colours. A
`Colours` holds those that a picture has. It says which values a sub-pixel can have given the
earlier ones of its pixel, for `pixelzip.codec.cdf` to leave the others out, and it writes itself
down in few bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native

Pixels = NDArray[np.uint8]
Words = NDArray[np.uint16]

_SMALL = 64 * 64
"""Pixels of a picture in which even looking closely would cost more than coding."""
_SAMPLE = 600
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
        from pixelzip.codec import colour_bits  # slow to load, and few pictures need it

        return cls(colour_bits.decode(data, most))

    @cached_property
    def data(self) -> bytes:
        """The set in few bytes."""
        from pixelzip.codec import colour_bits  # slow to load, and few pictures need it

        return colour_bits.encode(self.table[257:])

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
    library = native.coding()
    if library is not None:
        pixels, blue = np.ascontiguousarray(pixels), np.zeros((65536, 16), np.uint16)
        library.colours_mark(pixels, pixels.size // 3, blue)
        return blue
    r, g, b = (pixels[..., c].reshape(-1).astype(np.uint32) for c in range(3))
    there = np.zeros(1 << 24, np.bool_)
    there[r << np.uint32(16) | g << np.uint32(8) | b] = True
    return _packed(there.reshape(-1, 256))


# Looking for a set that pays.


def find(pixels: Pixels) -> Colours | None:
    """The colours of (height, width, 3) pixels, if leaving out the others seems to be worth it.

    That is where pixels gain more bits, there being less room for them, than the set costs.
    """
    height, width, _ = pixels.shape
    if height < 2 or width < 2:
        return None
    if height * width <= _SMALL:
        packed = pixels.reshape(-1, 3) @ np.array([1 << 16, 1 << 8, 1], np.int32)
        packed.sort()
        if 2 * (1 + np.count_nonzero(np.diff(packed))) > len(packed):
            return None  # a colour of a sparse set costs more than two of its pixels gain
    blue = _blues(pixels)
    places = np.linspace(0, (height - 1) * (width - 1) - 1, _SAMPLE).astype(np.intp)
    row, column = np.divmod(places, width - 1)
    colours, errors = _guess(pixels, row + 1, column + 1)
    room = _room(blue, colours, _SPREAD * errors + _LEAST_SPREAD)
    gain = -np.log2(room).mean()
    bits_now = _GUESSED * np.log2(1 + 2 * errors).sum(axis=1).mean()
    budget = height * width * float(gain - _SHARE * bits_now)
    if budget < _REGULAR * _random_cost(blue):
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
    library = native.coding()
    if library is not None:
        found, colours = np.empty(len(colours)), np.ascontiguousarray(colours)
        library.colours_room(blue, colours, np.ascontiguousarray(weights), len(colours), found)
        return found
    r, g, b = (colours[:, c].astype(np.int64)[:, None, None, None] for c in range(3))
    i, j, k = steps[:, None, None], steps[:, None], steps
    red, green, value = r + i, g + i + j, b + i + j + k
    inside = (red | green | value) & -256 == 0
    words = blue[(256 * red + green) & 65535, value >> 4 & 15]
    taken = inside & (words >> (value & 15) & 1 == 1)
    weight = np.einsum("ni,nj,nk->nijk", *weights.transpose(1, 0, 2))
    room: NDArray[np.float64] = (weight * taken).sum((1, 2, 3)) / (weight * inside).sum((1, 2, 3))
    return room


def _random_cost(blue: Words) -> float:
    """The bits of a set that is as crowded here and there as this one, and else drawn by chance."""
    count, members = _choose(blue)
    # A place is taken with probability p; each colour bears its part of the empty places around.
    p = _room(blue, members, np.inf).clip(max=0.999)
    return count * float((-np.log2(p) - (1 - p) / p * np.log2(1 - p)).mean())


def _choose(blue: Words) -> tuple[int, Pixels]:
    """How many colours a set has, and some of them (n, 3), evenly spaced."""
    flat = blue.reshape(-1).astype("<u2", copy=False).view("<u8")  # bit j of word i: 64 * i + j
    used = np.flatnonzero(flat)
    sizes = np.bitwise_count(flat[used]).astype(np.int64)
    ends = sizes.cumsum()
    count = int(ends[-1])
    places = np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)
    at = np.searchsorted(ends, places, side="right")
    members = flat[used[at]].view(np.uint8).reshape(-1, 8)
    members = np.unpackbits(members, axis=1, bitorder="little")
    rank = places - (ends[at] - sizes[at])
    bit = (members.cumsum(axis=1) > rank[:, None]).argmax(axis=1)
    numbers = 64 * used[at] + bit
    channels = numbers >> 16, numbers >> 8 & 255, numbers & 255
    return count, np.stack(channels, axis=1).astype(np.uint8)
