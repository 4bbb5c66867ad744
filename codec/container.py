"""The layout of a ``.pxz`` file: what is where, and nothing of what is inside the payloads.

::

    | magic | head | sides | components | metadata | fingerprint | check | payloads ... |
    |   2   |  1   | 2..6  |    >= 2    |   >= 1   |   2 or 4    | 3 / 4 | tile by tile |

A picture is a few *components* (colour, alpha, low bytes...), each cut into *tiles*, each tile a
payload with a method. All lengths stand in the header, so any tile can be decoded alone. The most
common file, one network-coded tile and no metadata, is *plain*: it leaves out the components and
the metadata, and everything but its payload is ten bytes for a picture of 32x32.

Two rules keep the format honest. There is one way to write each header (numbers in their shortest
form, no unused bits), so a reader refuses whatever a writer would not have written. And whatever a
header claims is checked against the bytes that are really there before anything is allocated for
it. ``docs/format.md`` is the specification.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from zlib import crc32

from pixelzip.codec import raw_lzma
from pixelzip.codec.errors import FormatError, LimitError
from pixelzip.codec.methods import MAX_NETWORK_SIDE, Method, Tile, lengths
from pixelzip.codec.picture import MODES
from pixelzip.codec.transforms import groups

MAGIC = b"\xf5z"
VERSION = 1

MAX_PIXELS = 2**27
"""The largest picture, in pixels, that is read or written unless the caller says otherwise."""

MAX_SIDE = 2**20
"""The largest width or height, in pixels, that the format can hold."""

MAX_METADATA = 2**26
"""The most metadata, in bytes, that the format can hold."""

MIN_TILE = 16
"""The smallest tile size, so that a hostile index cannot ask for millions of tiny tiles."""

SMALL = 4096
"""Pictures of at most this many pixels have a shorter fingerprint and a shorter checksum."""

_PLAIN = 0x80
_MODE_NAMES = tuple(MODES)
_METADATA_PROPERTIES = raw_lzma.properties()


@dataclass(frozen=True)
class Component:
    """One component of the picture, cut into tiles.

    ``channels`` counts those really coded: fewer than the mode's where the component is *grey*,
    that is, where red, green and blue are equal everywhere and only red is coded. ``tile_size`` is
    the largest side of a tile in pixels, 0 where one tile is the whole plane; ``tiles`` are in the
    order of `tile_grid`.
    """

    channels: int
    tile_size: int
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Container:
    """A ``.pxz`` file, taken apart; ``unpack(pack(container)) == container``.

    There is one component for each of ``MODES[mode]``, or a single one that carries all of their
    channels *joined*. ``network`` is the start of the network's fingerprint, `fingerprint_length`
    bytes, empty where no tile needs a network. ``checksum`` is the CRC-32 of all the bytes of the
    picture's planes in order, `truncated_checksum`.
    """

    mode: str
    width: int
    height: int
    network: bytes
    components: tuple[Component, ...]
    metadata: bytes
    checksum: int

    @property
    def joined(self) -> bool:
        """Whether one component carries the channels of several."""
        return len(self.components) < len(MODES[self.mode])

    @property
    def plain(self) -> bool:
        """Whether the header can leave out the components and the metadata."""
        component, *others = self.components
        return (
            not others
            and (component.channels,) == MODES[self.mode]
            and component.tile_size == 0
            and component.tiles[0].method == Method.NETWORK
            and not self.metadata
        )


def fingerprint_length(width: int, height: int) -> int:
    """How many bytes of the network's fingerprint the file of a picture of this size holds."""
    return 2 if width * height <= SMALL else 4


def truncated_checksum(crc: int, width: int, height: int) -> int:
    """As many low bits of a CRC-32 as the file of a picture of this size holds: 24 or 32."""
    return crc & ((1 << 8 * _checksum_length(width, height)) - 1)


def tile_grid(height: int, width: int, tile_size: int) -> list[tuple[int, int, int, int]]:
    """Cut a plane into nearly equal tiles: (top, left, height, width) of each, row by row.

    Each side is cut into ``ceil(side / tile_size)`` parts that differ by at most one pixel; a
    ``tile_size`` of 0 means one tile.
    """
    if tile_size == 0:
        return [(0, 0, height, width)]
    rows, columns = _cuts(height, tile_size), _cuts(width, tile_size)
    return [
        (top, left, bottom - top, right - left)
        for top, bottom in pairwise(rows)
        for left, right in pairwise(columns)
    ]


def pack(container: Container) -> bytes:
    """Lay out a file. Raises LimitError if a side or the metadata is more than the format holds."""
    width, height = container.width, container.height
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise LimitError(f"the image is {width}x{height} and each side may be 1 to {MAX_SIDE}")
    if len(container.metadata) > MAX_METADATA:
        raise LimitError(
            f"the image carries {len(container.metadata)} bytes of metadata and the limit is "
            f"{MAX_METADATA}: strip it"
        )
    plain = container.plain
    out = bytearray(MAGIC)
    out.append(_MODE_NAMES.index(container.mode) | VERSION << 4 | (_PLAIN if plain else 0))
    out += _varint(width - 1) + _varint(height - 1)
    if not plain:
        out += _pack_components(container) + _pack_metadata(container.metadata)
    out += container.network
    check = truncated_checksum(container.checksum ^ crc32(out), width, height)
    out += check.to_bytes(_checksum_length(width, height), "little")
    for component in container.components:
        for tile in component.tiles:
            out += tile.payload
    return bytes(out)


def unpack(data: bytes, max_pixels: int = MAX_PIXELS) -> Container:
    """Take a file apart, in time and memory proportional to its length and its metadata.

    The pixels are not decoded, so the checksum is not verified yet. Raises FormatError if it is not
    a valid file, LimitError if the picture has more than ``max_pixels`` pixels.
    """
    reader = _Reader(data)
    if data[:2] != MAGIC:
        raise FormatError("this is not a .pxz file")
    reader.take(2)
    head = reader.take(1)[0]
    if head >> 4 & 7 != VERSION:
        raise FormatError(
            f"the file is of version {head >> 4 & 7} of the .pxz format and this pixelzip reads "
            f"version {VERSION}: try a newer pixelzip"
        )
    if head & 15 >= len(_MODE_NAMES):
        raise _damaged("an unknown image mode")
    mode = _MODE_NAMES[head & 15]
    width, height = reader.varint() + 1, reader.varint() + 1
    if width > MAX_SIDE or height > MAX_SIDE:
        raise _damaged("an impossible image size")
    if width * height > max_pixels:
        raise LimitError(
            f"the image has {width}x{height} pixels and the limit is {max_pixels} in total"
        )
    plain = bool(head & _PLAIN)
    indexes = [_plain_index(mode)] if plain else list(_read_indexes(reader, mode, width, height))
    metadata = b"" if plain else _read_metadata(reader)
    needs_network = any(method == Method.NETWORK for i in indexes for method, _ in i.tiles)
    network = reader.take(fingerprint_length(width, height)) if needs_network else b""
    crc = crc32(reader.taken())
    check = int.from_bytes(reader.take(_checksum_length(width, height)), "little")
    components = tuple(
        _read_payloads(reader, index, tile_grid(height, width, index.tile_size))
        for index in indexes
    )
    if reader.remaining:
        raise _damaged("bytes after its end")
    container = Container(
        mode=mode,
        width=width,
        height=height,
        network=network,
        components=components,
        metadata=metadata,
        checksum=truncated_checksum(check ^ crc, width, height),
    )
    if container.plain != plain:
        raise _damaged("a header that is not in its shortest form")
    return container


@dataclass(frozen=True)
class _Index:
    """What the header says of a component; a length of None stands for all the rest of the file."""

    channels: int
    tile_size: int
    tiles: list[tuple[Method, int | None]]


def _pack_components(container: Container) -> bytes:
    """A varint ``tile_size << 2 | joined << 1 | grey`` and the tile index, for each component."""
    out = bytearray()
    for component, group in zip(
        container.components, groups(container.mode, container.joined), strict=True
    ):
        grey = component.channels < sum(group)
        out += _varint(component.tile_size << 2 | container.joined << 1 | grey)
        for tile in component.tiles:
            out += _varint(len(tile.payload) << 2 | tile.method)
    return bytes(out)


def _plain_index(mode: str) -> _Index:
    if len(MODES[mode]) > 1:
        raise _damaged("a header that leaves out too much")
    return _Index(MODES[mode][0], 0, [(Method.NETWORK, None)])


def _read_indexes(reader: _Reader, mode: str, width: int, height: int) -> Iterator[_Index]:
    carried = 0
    while carried < len(MODES[mode]):
        number = reader.varint()
        tile_size, joined, grey = number >> 2, bool(number & 2), bool(number & 1)
        if joined and (carried or len(MODES[mode]) == 1):
            raise _damaged("a wrongly joined component")
        group = groups(mode, joined)[carried]
        if grey and 3 not in group:
            raise _damaged("a grey component without colour")
        if tile_size and not MIN_TILE <= tile_size < max(width, height):
            raise _damaged("an impossible tile size")
        tile_count = -(-width // tile_size) * -(-height // tile_size) if tile_size else 1
        if tile_count > reader.remaining:
            raise _truncated()
        tiles = [reader.varint() for _ in range(tile_count)]
        yield _Index(
            channels=len(group) if grey else sum(group),
            tile_size=tile_size,
            tiles=[(Method(tile & 3), tile >> 2) for tile in tiles],
        )
        carried += len(group)


def _read_payloads(
    reader: _Reader, index: _Index, grid: list[tuple[int, int, int, int]]
) -> Component:
    tiles = []
    for (method, length), (_, _, height, width) in zip(index.tiles, grid, strict=True):
        payload = reader.take(reader.remaining if length is None else length)
        if method == Method.NETWORK and index.channels not in (1, 3):
            raise _damaged("a network tile of joined channels")
        if method == Method.NETWORK and max(height, width) > MAX_NETWORK_SIDE:
            raise _damaged("a network tile that is too long")
        least, most = lengths(method, (height, width, index.channels))
        if most is None and len(payload) < least:
            raise _damaged("a tile that is too short")
        if most is not None and len(payload) != most:
            raise _damaged("a tile of the wrong length")
        tiles.append(Tile(method, payload))
    return Component(index.channels, index.tile_size, tuple(tiles))


def _pack_metadata(metadata: bytes) -> bytes:
    """A varint ``length << 1 | compressed`` and that many bytes."""
    compressed = raw_lzma.compress(metadata, _METADATA_PROPERTIES) if metadata else b""
    if len(compressed) < len(metadata):
        return _varint(len(compressed) << 1 | 1) + compressed
    return _varint(len(metadata) << 1) + metadata


def _read_metadata(reader: _Reader) -> bytes:
    number = reader.varint()
    stored = reader.take(number >> 1)
    if not number & 1:
        if len(stored) > MAX_METADATA:
            raise _damaged("too much metadata")
        return stored
    metadata = raw_lzma.decompress(stored, _METADATA_PROPERTIES, MAX_METADATA)
    if len(stored) >= len(metadata):
        raise _damaged("metadata that is not in its shortest form")
    return metadata


def _checksum_length(width: int, height: int) -> int:
    return 3 if width * height <= SMALL else 4


def _cuts(side: int, tile_size: int) -> list[int]:
    parts = -(-side // tile_size)
    return [side * k // parts for k in range(parts + 1)]


def _varint(value: int) -> bytes:
    """LEB128: seven bits a byte, low bits first, the top bit set on all but the last byte."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Reader:
    """Takes bytes off the front of the data, never beyond its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def remaining(self) -> int:
        return len(self._data) - self._position

    def taken(self) -> bytes:
        return self._data[: self._position]

    def take(self, count: int) -> bytes:
        if count > self.remaining:
            raise _truncated()
        self._position += count
        return self._data[self._position - count : self._position]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
            if shift > 56:
                raise _damaged("an impossible number")
        if byte == 0 and shift:
            raise _damaged("a number that is not in its shortest form")
        return value


def _truncated() -> FormatError:
    return FormatError("the file is truncated or damaged: it is shorter than it says")


def _damaged(what: str) -> FormatError:
    return FormatError(f"the file is damaged: it has {what}")
