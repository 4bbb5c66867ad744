"""The methods by which a tile is coded, as a table: bytes, one pixel, packed, a network, blocks.

Three of them code a tile by itself. The network's three code many tiles together, by the functions
of `pixelzip.codec.tiles`; blocks are those of a whole plane.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from pixelzip.codec import packed
from pixelzip.codec.picture import Bytes

Shape = tuple[int, int, int]
"""(height, width, channels) of a tile."""

NETWORK_DENSITY = 1024
"""A network payload has at least one byte for every 1024 sub-pixels, so that the time to decode a
file is bounded by its length. Emptier tiles are left to the other methods."""

ADAPTIVE_DENSITY = 128
"""The same of an adaptive payload, since its sub-pixels take longer."""

MAX_NETWORK_SIDE = 4096
"""The longest side, in pixels, of a network-coded tile: fronts take time however short they are."""

MAX_ADAPTIVE_SIDE = 1024
"""The longest side of an adaptive tile, whose encoder holds more of it."""


class Method(IntEnum):
    """How a tile is coded."""

    RAW = 0
    """The bytes of the pixels."""
    CONSTANT = 1
    """One pixel, which all the others equal."""
    PACKED = 2
    """Filtered and LZMA-compressed: see `pixelzip.codec.packed`."""
    NETWORK = 3
    """Range-coded with the conditionals of a network."""
    ADAPTIVE = 4
    """The same, corrected by what the tile has taught so far: see `pixelzip.codec.adaptive`."""
    BLOCKS = 5
    """The coefficients that a JPEG decoder made it from: see `pixelzip.codec.coefficients`."""
    FITTED = 6
    """As NETWORK, with offsets and weights fitted to the tile: see `pixelzip.codec.offsets`."""

    @property
    def needs_network(self) -> bool:
        """Whether a network codes the tile."""
        return self in (Method.NETWORK, Method.ADAPTIVE, Method.FITTED)


@dataclass(frozen=True)
class Tile:
    """An independently coded rectangle of a plane."""

    method: Method
    payload: bytes


@dataclass(frozen=True)
class _Alone:
    """A method that codes a tile by itself."""

    encode: Callable[[Bytes], bytes]
    decode: Callable[[bytes, Shape], Bytes]


_ALONE = {
    Method.RAW: _Alone(
        lambda pixels: pixels.tobytes(),
        lambda payload, shape: np.frombuffer(payload, np.uint8).reshape(shape),
    ),
    Method.CONSTANT: _Alone(
        lambda pixels: pixels[0, 0].tobytes(),
        lambda payload, shape: np.broadcast_to(np.frombuffer(payload, np.uint8), shape),
    ),
    Method.PACKED: _Alone(packed.pack_pixels, packed.unpack_pixels),
}


def encode(method: Method, pixels: Bytes) -> Tile:
    """Code (height, width, channels) pixels by a method that needs no network.

    CONSTANT takes it for granted that all pixels are equal.
    """
    return Tile(method, _ALONE[method].encode(pixels))


def decode(tile: Tile, shape: Shape) -> Bytes:
    """The pixels of a tile that needs no network. Raises FormatError if it is damaged."""
    return _ALONE[tile.method].decode(tile.payload, shape)


def exact_length(method: Method, shape: Shape) -> int | None:
    """How many bytes the payload of such a tile has, where they are always as many."""
    height, width, channels = shape
    if method == Method.RAW:
        return height * width * channels
    return channels if method == Method.CONSTANT else None


def least_length(method: Method, shape: Shape) -> int:
    """The least bytes that the payload of such a tile may have."""
    height, width, channels = shape
    if method.needs_network:
        density = ADAPTIVE_DENSITY if method == Method.ADAPTIVE else NETWORK_DENSITY
        return -(-height * width * channels // density)
    return exact_length(method, shape) or 1
