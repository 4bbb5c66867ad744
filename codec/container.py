"""The layout of a ``.pxz`` file."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

MODES: dict[str, tuple[int, ...]] = {
    "1": (1,),
    "L": (1,),
    "LA": (1, 1),
    "P": (1,),
    "RGB": (3,),
    "RGBA": (3, 1),
    "I;16": (1, 1),
    "LA;16": (1, 1, 1, 1),
    "RGB;16": (3, 3),
    "RGBA;16": (3, 1, 3, 1),
}
"""Mode to the channels of each of its components, in the order in which they are stored.

A mode's number in the file is its position here. The 16-bit modes hold all the high bytes before
all the low bytes: ``RGBA;16`` is colour high, alpha high, colour low, alpha low.
"""

MAX_PIXELS = 2**27
MAX_SIDE = 2**20


class Method(IntEnum):
    """How a tile is coded."""

    RAW = 0
    CONSTANT = 1
    PACKED = 2
    NETWORK = 3


@dataclass(frozen=True)
class Tile:
    """An independently coded rectangle of one component."""

    method: Method
    payload: bytes


@dataclass(frozen=True)
class Component:
    """One component of the picture, cut into tiles."""

    channels: int
    tile_size: int
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Container:
    """A ``.pxz`` file, taken apart."""

    mode: str
    width: int
    height: int
    network: bytes
    components: tuple[Component, ...]
    metadata: bytes
    checksum: int
