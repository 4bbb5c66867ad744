"""The layout of a file: exact bytes, exact limits, and nothing believed that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import toy_origins

from pixelzip.codec import raw_lzma, transforms
from pixelzip.codec.conditional import Conditional
from pixelzip.codec.container import (
    MAX_METADATA,
    MAX_SIDE,
    SEAL,
    Component,
    Container,
    StoredPlane,
    check_whole,
    fingerprint_length,
    pack,
    read_header,
    seal,
    tile_grid,
    truncated_checksum,
    unpack,
)
from pixelzip.codec.decode import decode
from pixelzip.codec.encode import encode
from pixelzip.codec.errors import FormatError, LimitError, PixelzipError, TruncatedError
from pixelzip.codec.methods import Method, Tile, least_length
from pixelzip.codec.picture import MODES, Picture, PlaneLayout, is_deep
from pixelzip.codec.transforms import Form, Transform

FORMAT = Path(__file__).resolve().parent.parent / "docs" / "format.md"

PLAIN = Container(
    "RGB",
    32,
    32,
    (b"\xab\xcd",),
    (
        Component(
            0,
            Form(Transform.DIRECT),
            (
                StoredPlane(
                    PlaneLayout(32, 32, 3, "colour"), 0, (Tile(Method.NETWORK, b"x" * 1000),), 0
                ),
            ),
        ),
    ),
    b"",
    0x34,
)


@pytest.fixture(scope="module", autouse=True)
def _toys() -> Iterator[None]:
    with toy_origins():
        yield


@st.composite
def containers(draw: st.DrawFn) -> Container:
    """Any container that a writer may write, with payloads of nonsense."""
    mode = draw(st.sampled_from(list(MODES)))
    width, height = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    networks = 0
    components = []
    missing = set(range(len(MODES[mode])))
    while missing:
        position = min(missing)
        possible = [t for t in Transform if transforms.is_possible(mode, position, t)]
        transform = draw(st.sampled_from(possible))
        carried = transforms.carried(mode, position, transform)
        missing -= set(carried)
        form, corrections = Form(transform), b""
        if transform == Transform.CONSTANT:
            form = Form(transform, parameters=b"pix"[: MODES[mode][position]])
        elif transform == Transform.ORIGIN:
            few = bytes([MODES[mode][position]]) + b"values"
            parameters = few if is_deep(mode) else draw(st.sampled_from([b"\0", b"\3", b"\7"]))
            form = Form(transform, 101 if is_deep(mode) else 100, parameters)
            corrections = draw(st.sampled_from([b"", b"wrong"]))
        planes = []
        for layout in transforms.layouts(mode, position, form, (height, width)):
            plane = draw(stored_planes(layout, networks))
            networks = max(networks, 0 if plane.network is None else plane.network + 1)
            planes.append(plane)
        components.append(Component(position, form, tuple(planes), corrections))
    fingerprint = b"\x00\x01\x02\x03"[: fingerprint_length(width, height)]
    return Container(
        mode=mode,
        width=width,
        height=height,
        networks=(fingerprint,) * networks,
        components=tuple(components),
        metadata=draw(st.sampled_from([b"", b"\x00", b"short", b"long and dull " * 100])),
        checksum=truncated_checksum(draw(st.integers(0, 2**32 - 1)), width, height),
    )


@st.composite
def stored_planes(draw: st.DrawFn, layout: PlaneLayout, networks: int) -> StoredPlane:
    """Any plane of this layout, in a file that has used so many networks before."""
    tile_size = draw(st.sampled_from([0, 16, 50, 64]))
    if tile_size >= max(layout.height, layout.width):
        tile_size = 0
    tiles = []
    for _, _, rows, columns in tile_grid(layout.height, layout.width, tile_size):
        possible = [m for m in Method if not m.needs_network or layout.channels in (1, 3)]
        if tile_size or layout.channels > 1 or layout.kind == "labels":
            possible.remove(Method.BLOCKS)
        method = draw(st.sampled_from(possible))
        length = least_length(method, (rows, columns, layout.channels))
        extra = draw(st.integers(0, 5)) if method >= Method.PACKED else 0
        tiles.append(Tile(method, b"p" * (length + extra)))
    if not any(tile.method.needs_network for tile in tiles):
        return StoredPlane(layout, tile_size, tuple(tiles))
    network = draw(st.integers(0, networks))
    few = (Method.ADAPTIVE, Method.FITTED)
    may_be_few = layout.kind == "colour" and all(tile.method not in few for tile in tiles)
    colours = draw(st.sampled_from([b"", b"red"])) if may_be_few else b""
    return StoredPlane(layout, tile_size, tuple(tiles), network, colours)


@given(containers())
def test_unpack_undoes_pack(container: Container) -> None:
    assert unpack(pack(container)) == container


@given(containers(), st.randoms(use_true_random=False))
def test_there_is_one_way_to_write_each_header(container: Container, random: Random) -> None:
    """Whatever a reader accepts, a writer writes in the same bytes."""
    body = bytearray(check_whole(pack(container)))
    position = random.randrange(min(len(body), 40))
    body[position] ^= 1 << random.randrange(8)
    data = seal(bytes(body))
    try:
        other = unpack(data)
    except PixelzipError:
        return
    assert other != container
    assert other.metadata != container.metadata or pack(other) == data


@pytest.mark.parametrize(
    ("layout", "tile_size", "count"),
    [
        (PlaneLayout(40, 30, 1, "luma"), 20, 4),
        (PlaneLayout(40, 30, 3, "colour"), 0, 1),
        (PlaneLayout(40, 30, 1, "labels"), 0, 1),
    ],
)
def test_only_whole_planes_of_a_tone_are_blocks(
    layout: PlaneLayout, tile_size: int, count: int
) -> None:
    tiles = (Tile(Method.BLOCKS, b"\0\0\1"),) * count
    mode = {"luma": "L", "colour": "RGB", "labels": "P"}[layout.kind]
    plane = StoredPlane(layout, tile_size, tiles)
    component = Component(0, Form(Transform.DIRECT), (plane,))
    with pytest.raises(FormatError, match="blocks that are not of a whole plane"):
        unpack(pack(Container(mode, 30, 40, (), (component,), b"", 0)))


def test_a_plain_file_spends_twelve_bytes() -> None:
    data = pack(PLAIN)
    assert data[:8] == b"\xf5z\x94\x1f\x1f\xab\xcd\x34"
    assert data[8:-4] == PLAIN.components[0].planes[0].tiles[0].payload
    assert unpack(data) == PLAIN


@pytest.mark.parametrize("side", [1, 2, 15, 16, 17, 100, 1023])
@pytest.mark.parametrize("tile_size", [0, 16, 33, 512])
def test_tiles_are_a_partition_and_nearly_equal(side: int, tile_size: int) -> None:
    seen = np.zeros((side, 40), int)
    grid = tile_grid(side, 40, tile_size)
    for top, left, height, width in grid:
        seen[top : top + height, left : left + width] += 1
    assert (seen == 1).all()
    heights, widths = {tile[2] for tile in grid}, {tile[3] for tile in grid}
    assert max(heights) - min(heights) <= 1
    assert max(widths) - min(widths) <= 1
    assert tile_size == 0 or max(heights | widths) <= tile_size
    assert grid == sorted(grid)


def test_limits() -> None:
    with pytest.raises(LimitError, match="32x32 pixels and the limit is 1000"):
        unpack(pack(PLAIN), max_pixels=1000)
    with pytest.raises(LimitError, match="each side may be 1 to 1048576"):
        pack(replace(PLAIN, width=MAX_SIDE + 1))
    with pytest.raises(LimitError, match="strip it"):
        pack(replace(PLAIN, metadata=bytes(MAX_METADATA + 1)))


RAW_2X1 = b"\xf5z\x11\x01\x00"  # version 1, mode L, 2x1
RGB_2X1 = b"\xf5z\x14\x01\x00"

REFUSED = {
    "empty": (b"", "not a .pxz file"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(50), "not a .pxz file"),
    "magic alone": (b"\xf5z", "truncated"),
    "version 2": (b"\xf5z\x21\x01\x00", "version 2"),
    "no such mode": (b"\xf5z\x1f\x01\x00", "image mode"),
    "long varint": (b"\xf5z\x11\x81\x00\x00", "shortest form"),
    "endless varint": (b"\xf5z\x11" + b"\xff" * 20, "impossible number"),
    "wide": (b"\xf5z\x11\xff\xff\xff\x7f\x00", "impossible image size"),
    "plain with two components": (b"\xf5z\x92\x01\x00" + bytes(30), "leaves out too much"),
    "no such transform": (RAW_2X1 + b"\x06\x00\x00" + bytes(5), "unknown transform"),
    "joined single": (RAW_2X1 + b"\x02\x00\x00" + bytes(5), "cannot be joined"),
    "grey grey": (RAW_2X1 + b"\x01\x00\x00" + bytes(5), "cannot be grey"),
    "joined grey without colour": (b"\xf5z\x12\x01\x00\x03\x00\x00" + bytes(7), "joined_grey"),
    "second joined": (b"\xf5z\x12\x01\x00\x00\x00\x02\x00\x00" + bytes(7), "cannot be joined"),
    "labels with an origin": (
        b"\xf5z\x10\x01\x00\xa5\x06\x01\x00\x00" + bytes(9), "cannot be origin",
    ),
    "constant and more": (RAW_2X1 + b"\x0c\x00\x00" + bytes(3), "bits that mean nothing"),
    "no such origin": (RGB_2X1 + b"\x9d\x06\x01\x00\x00" + bytes(9), "unknown origin"),
    "no such parameters": (RGB_2X1 + b"\xa5\x06\x01\x10\x00" + bytes(9), "other parameters"),
    "many parameters": (RGB_2X1 + b"\xa5\x06\x81\x08" + bytes(1100), "too many parameters"),
    "parameters beyond the end": (RGB_2X1 + b"\xa5\x06\x09\x08", "truncated"),
    "corrections beyond the end": (
        RGB_2X1 + b"\xa5\x06\x01\x00\x08" + bytes(6) + bytes(1) + bytes(12), "truncated",
    ),
    "tiny tiles": (b"\xf5z\x11\x7f\x00\x80\x01" + bytes(300), "tile size"),
    "one tile, not zero": (RAW_2X1 + b"\x80\x02\x00\x00" + bytes(5), "tile size"),
    "more tiles than bytes": (b"\xf5z\x11\xff\xff\x3f\x7f\x80\x02" + bytes(300), "truncated"),
    "no such method": (RAW_2X1 + b"\x00\x07\x00" + bytes(5), "unknown method"),
    "raw with a length": (RAW_2X1 + b"\x00\x10\x00" + bytes(5), "length that means nothing"),
    "constant with a length": (RAW_2X1 + b"\x00\x09\x00" + bytes(5), "length that means nothing"),
    "empty packed": (RAW_2X1 + b"\x00\x02\x00" + bytes(3), "too short"),
    "network that could have been plain": (RAW_2X1 + b"\x00\x0b\x00" + bytes(6), "shortest form"),
    "network too short": (b"\xf5z\x91\x7f\x7f" + bytes(8 + 15), "too short"),
    "networks out of order": (
        b"\xf5z\x12\x01\x00\x00\x0b\x00\x0b\x02\x00" + bytes(20), "not in order",
    ),
    "colours that are none": (RGB_2X1 + b"\x08\x00\x0b\x00" + bytes(20), "colours that mean"),
    "colours without a network": (RGB_2X1 + b"\x08\x03\x00\x00" + bytes(20), "colours that mean"),
    "colours of grey": (RAW_2X1 + b"\x08\x03\x0b\x00" + bytes(20), "colours that mean"),
    "bytes after the end": (RAW_2X1 + b"\x00\x00\x00" + bytes(6), "bytes after its end"),
    "metadata longer than the file": (RAW_2X1 + b"\x00\x00\xfe\x7f" + bytes(5), "truncated"),
    "metadata not LZMA": (RAW_2X1 + b"\x00\x00\x09abcd" + bytes(5), "does not decompress"),
}  # fmt: skip


def test_the_base_of_the_refused_is_accepted() -> None:
    assert unpack(seal(RAW_2X1 + b"\x00\x00\x00" + bytes(3))).width == 2


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    data, message = REFUSED[name]
    with pytest.raises(FormatError, match=message):
        _read_and_unpack(data)


def _read_and_unpack(data: bytes) -> None:
    """Refuse a header that ends too early, and what is wrong with the rest under a true seal."""
    read_header(data)
    unpack(seal(data))


def test_every_truncation_is_refused() -> None:
    data = pack(replace(PLAIN, metadata=b"metadata"))
    for length in range(len(data)):
        with pytest.raises(FormatError):
            unpack(data[:length])
    for length in range(len(data) - SEAL):
        with pytest.raises(FormatError):
            unpack(seal(data[:length]))


@given(containers(), st.randoms(use_true_random=False))
def test_every_flipped_bit_is_seen_without_decoding(container: Container, random: Random) -> None:
    data = bytearray(pack(container))
    at = random.randrange(len(data))
    data[at] ^= 1 << random.randrange(8)
    with pytest.raises(FormatError):
        unpack(bytes(data))
    with pytest.raises(FormatError, match="match their checksum"):
        check_whole(bytes(data))


@given(containers())
def test_the_header_is_read_from_the_beginning_of_a_file(container: Container) -> None:
    data = pack(container)
    header = read_header(data)
    assert read_header(data[: header.length]) == header
    for name in ("mode", "width", "height", "networks", "metadata", "checksum"):
        assert getattr(header, name) == getattr(container, name)
    for length in range(2, header.length):
        with pytest.raises(TruncatedError):
            read_header(data[:length])


def test_a_metadata_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelzip.codec.container.MAX_METADATA", 2**20)
    for size, accepted in ((2**20, True), (2**20 + 1, False), (2**24, False)):
        bomb = raw_lzma.compress(bytes(size), raw_lzma.properties())
        length = len(bomb) << 1 | 1
        assert 2**7 <= length < 2**14
        head = RAW_2X1 + b"\x00\x00" + bytes([length & 0x7F | 0x80, length >> 7])
        if accepted:
            assert unpack(seal(head + bomb + bytes(3))).metadata == bytes(size)
        else:
            with pytest.raises(FormatError, match="wrong length"):
                unpack(seal(head + bomb + bytes(3)))


# docs/format.md: what it shows is what the code does.


def example(title: str) -> bytes:
    """The bytes of the hex listing under this title, comments left out."""
    section = FORMAT.read_text().split(f"### {title}\n")[1].split("\n#")[0]
    listing = section.split("```hex\n")[1].split("```")[0]
    return bytes.fromhex("".join(re.sub(r"\|.*", "", line) for line in listing.splitlines()))


def test_first_example_of_the_specification() -> None:
    picture = Picture("RGB", (np.full((2, 3, 3), [255, 128, 0], np.uint8),))
    data = example("A constant picture")
    assert encode(picture, {}) == data
    (plane,) = decode(data, _no_network).planes
    assert np.array_equal(plane, picture.planes[0])


def test_second_example_of_the_specification() -> None:
    rows = np.array([[0, 1, 1, 0, 1, 1, 1, 1, 1, 0], [1, 0, 0, 1, 0, 0, 0, 0, 0, 1]], np.uint8)
    picture = Picture("1", (rows[:, :, None],), b"!")
    data = example("A packed picture with metadata")
    decoded = decode(data, _no_network)
    assert decoded.mode == "1"
    assert decoded.metadata == b"!"
    assert np.array_equal(decoded.planes[0], picture.planes[0])
    assert encode(picture, {}) == data


def test_third_example_of_the_specification() -> None:
    # Another version of liblzma may compress it in other bytes, so it is decoded only.
    y, x = np.mgrid[0:12, 0:16].astype(np.uint8)
    data = example("A grey picture with alpha")
    colour, alpha = decode(data, _no_network).planes
    assert np.array_equal(colour, np.stack([9 * x + y] * 3, axis=2))
    assert np.array_equal(alpha, 5 * x[:, :, None])
    ((tile,),) = (plane.tiles for plane in unpack(data).components[0].planes)
    serial = raw_lzma.decompress(tile.payload[2:], tile.payload[1], 384)
    assert serial[:64] == bytes(2) + b"\x09\x05" * 15 + b"\x01\x00" * 16


def test_modes_of_the_specification() -> None:
    rows = re.findall(r"^\| (\d+) \| `([^`]+)` \| ([\d, ]+) \|", FORMAT.read_text(), re.MULTILINE)
    assert [(name, tuple(map(int, counts.split(",")))) for _, name, counts in rows] == list(
        MODES.items()
    )
    assert [int(number) for number, _, _ in rows] == list(range(len(MODES)))


def _no_network(prefix: bytes) -> Conditional:
    raise AssertionError("no network is needed")


def test_a_network_cannot_code_joined_channels() -> None:
    plane = StoredPlane(PlaneLayout(8, 8, 4, "labels"), 0, (Tile(Method.NETWORK, b"p"),), 0)
    joined = Component(0, Form(Transform.JOINED), (plane,))
    hostile = Container("RGBA", 8, 8, (b"\x00\x01",), (joined,), b"", 0)
    with pytest.raises(FormatError, match="joined"):
        unpack(pack(hostile))


def test_opaque_alpha_takes_two_bytes() -> None:
    colour = replace(PLAIN.components[0].planes[0], tiles=(Tile(Method.PACKED, b"x" * 1000),))
    components = (
        Component(0, Form(Transform.DIRECT), (replace(colour, network=None),)),
        Component(1, Form(Transform.CONSTANT, parameters=b"\xff"), ()),
    )
    bare = pack(replace(PLAIN, networks=(), components=components[:1]))
    with_alpha = pack(replace(PLAIN, mode="RGBA", networks=(), components=components))
    assert len(with_alpha) == len(bare) + 2
