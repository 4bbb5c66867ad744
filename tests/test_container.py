"""The layout of a file: exact bytes, exact limits, and nothing believed that is not there."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelzip.codec import raw_lzma
from pixelzip.codec.conditional import Conditional
from pixelzip.codec.container import (
    MAX_METADATA,
    MAX_SIDE,
    Component,
    Container,
    fingerprint_length,
    pack,
    tile_grid,
    truncated_checksum,
    unpack,
)
from pixelzip.codec.decode import decode
from pixelzip.codec.encode import encode
from pixelzip.codec.errors import FormatError, LimitError, PixelzipError
from pixelzip.codec.methods import Method, Tile, lengths
from pixelzip.codec.picture import MODES, Picture
from pixelzip.codec.transforms import groups

FORMAT = Path(__file__).resolve().parent.parent / "docs" / "format.md"

PLAIN = Container(
    "RGB",
    32,
    32,
    b"\xab\xcd",
    (Component(3, 0, (Tile(Method.NETWORK, b"x" * 1000),)),),
    b"",
    0x1234,
)


@st.composite
def containers(draw: st.DrawFn) -> Container:
    """Any container that a writer may write, with payloads of nonsense."""
    mode = draw(st.sampled_from(list(MODES)))
    width, height = draw(st.integers(1, 200)), draw(st.integers(1, 200))
    joined = len(MODES[mode]) > 1 and draw(st.booleans())
    components = []
    for group in groups(mode, joined):
        channels = len(group) if 3 in group and draw(st.booleans()) else sum(group)
        tile_size = draw(st.sampled_from([0, 16, 50, 64]))
        if tile_size >= max(width, height):
            tile_size = 0
        tiles = []
        for _, _, rows, columns in tile_grid(height, width, tile_size):
            networks = [Method.NETWORK] if channels in (1, 3) else []
            method = draw(st.sampled_from([Method.RAW, Method.CONSTANT, Method.PACKED, *networks]))
            length = 5 if method == Method.PACKED else lengths(method, (rows, columns, channels))[0]
            tiles.append(Tile(method, b"p" * length))
        components.append(Component(channels, tile_size, tuple(tiles)))
    needs = any(tile.method == Method.NETWORK for part in components for tile in part.tiles)
    return Container(
        mode=mode,
        width=width,
        height=height,
        network=b"\x00\x01\x02\x03"[: fingerprint_length(width, height)] if needs else b"",
        components=tuple(components),
        metadata=draw(st.sampled_from([b"", b"\x00", b"short", b"long and dull " * 100])),
        checksum=truncated_checksum(draw(st.integers(0, 2**32 - 1)), width, height),
    )


@given(containers())
def test_unpack_undoes_pack(container: Container) -> None:
    assert unpack(pack(container)) == container


@given(containers(), st.randoms(use_true_random=False))
def test_there_is_one_way_to_write_each_header(container: Container, random: Random) -> None:
    """Whatever a reader accepts, a writer writes in the same bytes."""
    data = bytearray(pack(container))
    position = random.randrange(min(len(data), 40))
    data[position] ^= 1 << random.randrange(8)
    try:
        other = unpack(bytes(data))
    except PixelzipError:
        return
    assert other != container
    assert other.metadata != container.metadata or pack(other) == data


def test_a_plain_file_spends_ten_bytes() -> None:
    data = pack(PLAIN)
    assert data[:7] == b"\xf5z\x94\x1f\x1f\xab\xcd"
    assert data[10:] == PLAIN.components[0].tiles[0].payload
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
    "joined single": (RAW_2X1 + b"\x02\x08\x00" + bytes(5), "joined"),
    "grey grey": (RAW_2X1 + b"\x01\x08\x00" + bytes(5), "grey component without colour"),
    "second joined": (b"\xf5z\x12\x01\x00\x00\x08\x02\x08\x00" + bytes(7), "joined"),
    "tiny tiles": (b"\xf5z\x11\x7f\x00\x04" + bytes(300), "tile size"),
    "one tile, not zero": (RAW_2X1 + b"\x40\x08\x00" + bytes(5), "tile size"),
    "more tiles than bytes": (b"\xf5z\x11\xff\xff\x3f\x7f\x40" + bytes(300), "truncated"),
    "raw too long": (RAW_2X1 + b"\x00\x0c\x00" + bytes(6), "wrong length"),
    "constant too long": (RAW_2X1 + b"\x00\x09\x00" + bytes(5), "wrong length"),
    "empty packed": (RAW_2X1 + b"\x00\x02\x00" + bytes(3), "too short"),
    "network that could have been plain": (RAW_2X1 + b"\x00\x07\x00" + bytes(6), "shortest form"),
    "network too short": (b"\xf5z\x91\x7f\x7f" + bytes(8 + 15), "too short"),
    "bytes after the end": (RAW_2X1 + b"\x00\x08\x00" + bytes(6), "bytes after its end"),
    "metadata longer than the file": (RAW_2X1 + b"\x00\x08\xfe\x7f" + bytes(5), "truncated"),
    "metadata not LZMA": (RAW_2X1 + b"\x00\x08\x09abcd" + bytes(5), "does not decompress"),
}


def test_the_base_of_the_refused_is_accepted() -> None:
    assert unpack(RAW_2X1 + b"\x00\x08\x00" + bytes(5)).width == 2


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    data, message = REFUSED[name]
    with pytest.raises(FormatError, match=message):
        unpack(data)


def test_every_truncation_is_refused() -> None:
    data = pack(replace(PLAIN, metadata=b"metadata"))
    for length in range(len(data)):
        with pytest.raises(FormatError):
            unpack(data[:length])


def test_a_metadata_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelzip.codec.container.MAX_METADATA", 2**20)
    for size, accepted in ((2**20, True), (2**20 + 1, False), (2**24, False)):
        bomb = raw_lzma.compress(bytes(size), raw_lzma.properties())
        length = len(bomb) << 1 | 1
        assert 2**7 <= length < 2**14
        head = RAW_2X1 + b"\x00\x08" + bytes([length & 0x7F | 0x80, length >> 7])
        if accepted:
            assert unpack(head + bomb + bytes(5)).metadata == bytes(size)
        else:
            with pytest.raises(FormatError, match="wrong length"):
                unpack(head + bomb + bytes(5))


# docs/format.md: what it shows is what the code does.


def example(title: str) -> bytes:
    """The bytes of the hex listing under this title, comments left out."""
    section = FORMAT.read_text().split(f"### {title}\n")[1].split("\n#")[0]
    listing = section.split("```hex\n")[1].split("```")[0]
    return bytes.fromhex("".join(re.sub(r"\|.*", "", line) for line in listing.splitlines()))


def test_first_example_of_the_specification() -> None:
    picture = Picture("RGB", (np.full((2, 3, 3), [255, 128, 0], np.uint8),))
    data = example("A constant picture")
    assert encode(picture, None) == data
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
    assert encode(picture, None) == data


def test_third_example_of_the_specification() -> None:
    # Another version of liblzma may compress it in other bytes, so it is decoded only.
    y, x = np.mgrid[0:12, 0:16].astype(np.uint8)
    data = example("A grey picture with alpha")
    colour, alpha = decode(data, _no_network).planes
    assert np.array_equal(colour, np.stack([9 * x + y] * 3, axis=2))
    assert np.array_equal(alpha, 5 * x[:, :, None])
    (tile,) = unpack(data).components[0].tiles
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
    joined = Component(4, 0, (Tile(Method.NETWORK, b"p"),))
    hostile = Container("RGBA", 8, 8, b"\x00\x01", (joined,), b"", 0)
    with pytest.raises(FormatError, match="joined"):
        unpack(pack(hostile))
