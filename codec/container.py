"""The layout of a ``.pxz`` file: what is where, and nothing of what is inside the payloads.

::

    | magic | head | sides | components | metadata | fingerprints | check | payloads ... | seal |
    |   2   |  1   | 2..6  |    >= 2    |   >= 1   | 2 or 4 each  | 1 / 4 | tile by tile |  4   |

A picture is a few *components* (colour, alpha, low bytes...), stored as *planes* by a *transform*;
each plane is cut into *tiles*, each tile a payload with a method. All lengths stand in the header,
so any tile can be decoded alone. The most common file, one network-coded tile and no metadata, is
*plain*: it leaves out the components and the metadata, and everything but its payload is twelve
bytes for a picture of 32x32.

Two checksums guard a file. The *seal*, over all its bytes, shows any damage without decoding; the
*check*, over the pixels, shows that they are the ones that were coded.

Two rules keep the format honest. There is one way to write each header (numbers in their shortest
form, no unused bits), so a reader refuses whatever a writer would not have written. And whatever a
header claims is checked against the bytes that are really there before anything is allocated for
it. ``docs/format.md`` is the specification.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, NamedTuple
from zlib import crc32

from pixelzip.codec import raw_lzma, transforms
from pixelzip.codec.errors import FormatError, LimitError, TruncatedError
from pixelzip.codec.methods import (
    MAX_ADAPTIVE_SIDE,
    MAX_NETWORK_SIDE,
    Method,
    Tile,
    exact_length,
    least_length,
)
from pixelzip.codec.numbers import Reader, varint
from pixelzip.codec.picture import MODES, Box, PlaneLayout
from pixelzip.codec.transforms import Form, Transform

MAGIC = b"\xf5z"
VERSION = 1

MAX_PIXELS = 2**27
"""The largest picture, in pixels, that is read or written unless the caller says otherwise."""

MAX_SIDE = 2**20
"""The largest width or height, in pixels, that the format can hold."""

MAX_METADATA = 2**26
"""The most metadata, in bytes, that the format can hold."""

MAX_PARAMETERS = 1024
"""The most bytes that an origin's parameters can have."""

MIN_TILE = 16
"""The smallest tile size, so that a hostile index cannot ask for millions of tiny tiles."""

SMALL = 4096
"""Pictures of at most this many pixels have shorter fingerprints and a shorter check."""

SEAL = 4
"""The bytes of the seal at a file's end."""

_PLAIN = 0x80
_PREFIX = 4096  # bytes in which nearly all headers end
_MODE_NAMES = tuple(MODES)
_METADATA_PROPERTIES = raw_lzma.properties()


@dataclass(frozen=True)
class StoredPlane:
    """A plane cut into tiles.

    ``tile_size`` is the largest side of a tile in samples, 0 where one tile is the whole plane;
    ``tiles`` are in the order of `grid`. ``network`` says which one of the file's networks codes
    the tiles of methods NETWORK and ADAPTIVE; None where there are none. ``colours`` restricts what
    that network's distributions allow, and is empty where they are not restricted.
    """

    layout: PlaneLayout
    tile_size: int
    tiles: tuple[Tile, ...]
    network: int | None = None
    colours: bytes = b""

    @property
    def grid(self) -> list[Box]:
        """The tiles' places."""
        return tile_grid(self.layout.height, self.layout.width, self.tile_size)


@dataclass(frozen=True)
class Component:
    """One component of the picture, or several that are stored together."""

    position: int
    """Of the first one that it carries, in ``MODES[mode]``."""
    form: Form
    planes: tuple[StoredPlane, ...]
    corrections: bytes = b""
    """To the pixels that an origin renders."""


@dataclass(frozen=True)
class Container:
    """A ``.pxz`` file, taken apart; ``unpack(pack(container)) == container``.

    The components carry each of those of ``MODES[mode]`` once, by ascending position.
    ``networks`` are the starts of the networks' fingerprints, `fingerprint_length` bytes each, in
    the order in which planes use them first. ``checksum`` is the `truncated_checksum` of all the
    bytes of the picture's planes in order.
    """

    mode: str
    width: int
    height: int
    networks: tuple[bytes, ...]
    components: tuple[Component, ...]
    metadata: bytes
    checksum: int


def fingerprint_length(width: int, height: int) -> int:
    """How many bytes of the network's fingerprint the file of a picture of this size holds."""
    return 2 if width * height <= SMALL else 4


def truncated_checksum(crc: int, width: int, height: int) -> int:
    """As many low bits of a CRC-32 as the file of a picture of this size holds: 8 or 32."""
    return crc & ((1 << 8 * _checksum_length(width, height)) - 1)


def area(box: Box) -> tuple[slice, slice]:
    """The rows and columns of a box, to index an array with."""
    top, left, height, width = box
    return slice(top, top + height), slice(left, left + width)


def tile_grid(height: int, width: int, tile_size: int) -> list[Box]:
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


def check_limits(width: int, height: int, metadata: bytes) -> None:
    """Raise LimitError if a side or the metadata is more than the format holds."""
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise LimitError(f"the image is {width}x{height} and each side may be 1 to {MAX_SIDE}")
    if len(metadata) > MAX_METADATA:
        raise LimitError(
            f"the image carries {len(metadata)} bytes of metadata and the limit is "
            f"{MAX_METADATA}: strip it"
        )


def seal(data: bytes) -> bytes:
    """The bytes of a file, and the CRC-32 of all of them: `check_whole` takes it off again."""
    return data + crc32(data).to_bytes(SEAL, "little")


def check_whole(data: bytes) -> bytes:
    """A file without its seal. Raises FormatError if any of its bytes is not as it was written."""
    body, seal = data[:-SEAL], data[-SEAL:]
    if len(seal) < SEAL or crc32(body) != int.from_bytes(seal, "little"):
        raise FormatError("the file is damaged or cut short: its bytes do not match their checksum")
    return body


def pack(container: Container) -> bytes:
    """Lay out a file. Raises LimitError if a side or the metadata is more than the format holds."""
    width, height = container.width, container.height
    check_limits(width, height, container.metadata)
    plain = _is_plain(container.components, container.metadata)
    out = bytearray(MAGIC)
    out.append(_MODE_NAMES.index(container.mode) | VERSION << 4 | (_PLAIN if plain else 0))
    out += varint(width - 1) + varint(height - 1)
    if not plain:
        out += _pack_components(container.components) + _pack_metadata(container.metadata)
    out += b"".join(container.networks)
    out += container.checksum.to_bytes(_checksum_length(width, height), "little")
    for component in container.components:
        out += component.corrections
        for plane in component.planes:
            out += plane.colours
            out += b"".join(tile.payload for tile in plane.tiles)
    return seal(bytes(out))


def _is_plain(components: Sequence[Component] | Sequence[ComponentIndex], metadata: bytes) -> bool:
    """Whether the header leaves out the components and the metadata."""
    component, *others = components
    if others or metadata or component.form != Form(Transform.DIRECT):
        return False
    (plane,) = component.planes
    return not plane.tile_size and not plane.colours and plane.tiles[0].method == Method.NETWORK


@dataclass(frozen=True)
class Header:
    """All of a file that stands before its payloads.

    Fields that a `Container` has too are the same. ``length`` is the header's own, in bytes.
    """

    mode: str
    width: int
    height: int
    networks: tuple[bytes, ...]
    components: tuple[ComponentIndex, ...]
    metadata: bytes
    checksum: int
    length: int


def read_header(data: bytes, max_pixels: int = MAX_PIXELS) -> Header:
    """The header of a file of which ``data`` is the beginning.

    Raises TruncatedError if the header goes on after ``data``, FormatError if there is no header,
    LimitError if the picture has more than ``max_pixels`` pixels.
    """
    reader = Reader(data)
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
    networks = _Networks(int(plain))
    components: tuple[ComponentIndex, ...]
    if plain:
        components, metadata = (_plain_index(mode, (height, width)),), b""
    else:
        components = tuple(_read_components(reader, mode, (height, width), networks))
        metadata = _read_metadata(reader)
        if _is_plain(components, metadata):
            raise _damaged("a header that is not in its shortest form")
    length = fingerprint_length(width, height)
    fingerprints = tuple(reader.take(length) for _ in range(networks.count))
    check = int.from_bytes(reader.take(_checksum_length(width, height)), "little")
    return Header(mode, width, height, fingerprints, components, metadata, check, reader.position)


def header_of(file: IO[bytes], max_pixels: int = MAX_PIXELS) -> Header:
    """The header of a file that is open at its beginning; not much more of it is read.

    Raises what `read_header` raises.
    """
    data = file.read(_PREFIX)
    while True:
        try:
            return read_header(data, max_pixels)
        except TruncatedError:
            more = file.read(len(data))
            if not more:
                raise
            data += more


def unpack(data: bytes, max_pixels: int = MAX_PIXELS) -> Container:
    """Take a file apart, in time and memory proportional to its length and its metadata.

    The pixels are not decoded, so their checksum is not verified yet. Raises FormatError if it is
    not a valid file, LimitError if the picture has more than ``max_pixels`` pixels.
    """
    header = read_header(data, max_pixels)
    reader = Reader(check_whole(data))
    if header.length > reader.remaining:
        raise _truncated()
    reader.take(header.length)
    components = tuple(_read_payloads(reader, index) for index in header.components)
    if reader.remaining:
        raise _damaged("bytes after its end")
    return Container(
        header.mode,
        header.width,
        header.height,
        header.networks,
        components,
        header.metadata,
        header.checksum,
    )


# Components. The header says of each the transform, then of each of its planes the tiles.


class TileIndex(NamedTuple):
    """What the header says of a tile; a length of None stands for all the rest of the file."""

    method: Method
    length: int | None


@dataclass(frozen=True)
class PlaneIndex:
    """What the header says of a plane: of its colours the length of their payload."""

    layout: PlaneLayout
    tile_size: int
    colours: int
    tiles: tuple[TileIndex, ...]
    network: int | None


@dataclass(frozen=True)
class ComponentIndex:
    """What the header says of a component: of its corrections their length."""

    position: int
    form: Form
    corrections: int
    planes: tuple[PlaneIndex, ...]


class _Networks:
    """Numbers the networks in the order in which planes use them first.

    A plane that uses one says which, unless there is none yet.
    """

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def pack(self, network: int) -> bytes:
        said = varint(network) if self.count else b""
        self.count = max(self.count, network + 1)
        return said

    def read(self, reader: Reader) -> int:
        network = reader.varint() if self.count else 0
        if network > self.count:
            raise _damaged("a network that is not in order")
        self.count = max(self.count, network + 1)
        return network


def _pack_components(components: Sequence[Component]) -> bytes:
    out, networks = bytearray(), _Networks()
    for component in components:
        form, planes = component.form, component.planes
        if form.transform == Transform.ORIGIN:
            out += varint(form.origin << 3 | form.transform)
            out += varint(len(form.parameters)) + form.parameters
            out += varint(len(component.corrections))
            for plane in planes:
                out += varint(_shape(plane)) + _pack_plane(plane, networks)
        elif form.transform == Transform.CONSTANT:
            out += varint(form.transform) + form.parameters
        else:
            (plane,) = planes
            out += varint(_shape(plane) << 3 | form.transform) + _pack_plane(plane, networks)
    return bytes(out)


def _shape(plane: StoredPlane) -> int:
    return plane.tile_size << 1 | bool(plane.colours)


def _pack_plane(plane: StoredPlane, networks: _Networks) -> bytes:
    """The length of the colours if there are any, the index, and which network there is."""
    out = bytearray(varint(len(plane.colours)) if plane.colours else b"")
    for tile, (_, _, height, width) in zip(plane.tiles, plane.grid, strict=True):
        implied = exact_length(tile.method, (height, width, plane.layout.channels)) is not None
        out += varint((0 if implied else len(tile.payload)) << 3 | tile.method)
    if plane.network is not None:
        out += networks.pack(plane.network)
    return bytes(out)


def _plain_index(mode: str, shape: tuple[int, int]) -> ComponentIndex:
    if len(MODES[mode]) > 1:
        raise _damaged("a header that leaves out too much")
    form = Form(Transform.DIRECT)
    (layout,) = transforms.layouts(mode, 0, form, shape)
    plane = PlaneIndex(layout, 0, 0, (TileIndex(Method.NETWORK, None),), 0)
    return ComponentIndex(0, form, 0, (plane,))


def _read_components(
    reader: Reader, mode: str, shape: tuple[int, int], networks: _Networks
) -> Iterator[ComponentIndex]:
    missing = set(range(len(MODES[mode])))
    while missing:
        position = min(missing)
        number = reader.varint()
        if number & 7 not in list(Transform):
            raise _damaged("an unknown transform")
        transform, rest = Transform(number & 7), number >> 3
        if not transforms.is_possible(mode, position, transform):
            raise _damaged(f"a component that cannot be {transform.name.lower()}")
        missing -= set(transforms.carried(mode, position, transform))
        form, corrections = _read_form(reader, mode, position, transform, rest)
        layouts = transforms.layouts(mode, position, form, shape)
        if transform == Transform.ORIGIN:
            planes = [_read_plane(reader, at, reader.varint(), networks) for at in layouts]
        else:
            planes = [_read_plane(reader, at, rest, networks) for at in layouts]
        yield ComponentIndex(position, form, corrections, tuple(planes))


def _read_form(
    reader: Reader, mode: str, position: int, transform: Transform, rest: int
) -> tuple[Form, int]:
    """The form, and the length of the corrections."""
    if transform == Transform.CONSTANT:
        if rest:
            raise _damaged("a header with bits that mean nothing")
        return Form(transform, parameters=reader.take(MODES[mode][position])), 0
    if transform == Transform.ORIGIN:
        length = reader.varint()
        if length > MAX_PARAMETERS:
            raise _damaged("too many parameters")
        return Form(transform, rest, reader.take(length)), reader.varint()
    return Form(transform), 0


def _read_plane(reader: Reader, layout: PlaneLayout, shape: int, networks: _Networks) -> PlaneIndex:
    tile_size, restricted = shape >> 1, shape & 1
    height, width, channels = layout.shape
    if tile_size and not MIN_TILE <= tile_size < max(height, width):
        raise _damaged("an impossible tile size")
    colours = reader.varint() if restricted else 0
    tile_count = -(-width // tile_size) * -(-height // tile_size) if tile_size else 1
    if tile_count > reader.remaining:
        raise _truncated()
    tiles = tuple(
        _read_tile(reader, (rows, columns, channels))
        for _, _, rows, columns in tile_grid(height, width, tile_size)
    )
    coded = any(tile.method.needs_network for tile in tiles)
    if restricted and not (coded and colours and layout.kind == "colour"):
        raise _damaged("colours that mean nothing")
    if restricted and any(tile.method in (Method.ADAPTIVE, Method.FITTED) for tile in tiles):
        raise _damaged("a tile of few colours by a method that knows none")
    network = networks.read(reader) if coded else None
    return PlaneIndex(layout, tile_size, colours, tiles, network)


def _read_tile(reader: Reader, shape: tuple[int, int, int]) -> TileIndex:
    """A tile's entry of an index, which says no length that follows from the method."""
    number = reader.varint()
    if number & 7 not in list(Method):
        raise _damaged("an unknown method")
    method, length = Method(number & 7), number >> 3
    exact = exact_length(method, shape)
    if exact is None:
        return TileIndex(method, length)
    if length:
        raise _damaged("a length that means nothing")
    return TileIndex(method, exact)


def _read_payloads(reader: Reader, index: ComponentIndex) -> Component:
    corrections = reader.take(index.corrections)
    planes = tuple(_read_tiles(reader, plane) for plane in index.planes)
    return Component(index.position, index.form, planes, corrections)


def _read_tiles(reader: Reader, index: PlaneIndex) -> StoredPlane:
    colours, tiles = reader.take(index.colours), []
    layout = index.layout
    grid = tile_grid(layout.height, layout.width, index.tile_size)
    for (method, length), (_, _, height, width) in zip(index.tiles, grid, strict=True):
        payload = reader.take(reader.remaining if length is None else length)
        if method.needs_network and layout.channels not in (1, 3):
            raise _damaged("a network tile of joined channels")
        if method.needs_network and max(height, width) > MAX_NETWORK_SIDE:
            raise _damaged("a network tile that is too long")
        if method == Method.ADAPTIVE and max(height, width) > MAX_ADAPTIVE_SIDE:
            raise _damaged("an adaptive tile that is too long")
        if method == Method.BLOCKS and not (
            index.tile_size == 0 and layout.channels == 1 and layout.kind in ("luma", "chroma")
        ):
            raise _damaged("blocks that are not of a whole plane")
        if len(payload) < least_length(method, (height, width, layout.channels)):
            raise _damaged("a tile that is too short")
        tiles.append(Tile(method, payload))
    return StoredPlane(layout, index.tile_size, tuple(tiles), index.network, colours)


def _pack_metadata(metadata: bytes) -> bytes:
    """A varint ``length << 1 | compressed`` and that many bytes."""
    compressed = raw_lzma.compress(metadata, _METADATA_PROPERTIES) if metadata else b""
    if len(compressed) < len(metadata):
        return varint(len(compressed) << 1 | 1) + compressed
    return varint(len(metadata) << 1) + metadata


def _read_metadata(reader: Reader) -> bytes:
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
    return 1 if width * height <= SMALL else 4


def _cuts(side: int, tile_size: int) -> list[int]:
    parts = -(-side // tile_size)
    return [side * k // parts for k in range(parts + 1)]


def _truncated() -> TruncatedError:
    return TruncatedError("the file is truncated or damaged: it is shorter than it says")


def _damaged(what: str) -> FormatError:
    return FormatError(f"the file is damaged: it has {what}")
