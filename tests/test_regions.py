"""Regions: the pixels of a crop, from as few tiles as they need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from make_golden import GOLDEN
from numpy.typing import NDArray
from PIL import Image

import pixelzip
from pixelzip.cli import cli
from pixelzip.codec import methods
from pixelzip.codec.container import Component, Container, StoredPlane, area, pack, tile_grid
from pixelzip.codec.decode import Partial
from pixelzip.codec.encode import encode
from pixelzip.codec.methods import Method, Tile
from pixelzip.codec.origins import conversions, levels, ycc
from pixelzip.codec.origins.upsampling import RULES, extents
from pixelzip.codec.picture import MODES, Box, Kind, Picture, PlaneLayout
from pixelzip.codec.transforms import Form, Transform
from pixelzip.models import zoo


@st.composite
def boxes(draw: st.DrawFn, height: int, width: int) -> Box:
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return (
        top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left)),
    )  # fmt: skip


@given(st.data())
def test_a_part_of_luma_and_chroma_renders_as_the_whole(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    number = data.draw(st.integers(0, len(RULES) - 1))
    rows = data.draw(st.sampled_from(extents(height, RULES[number].rows) or [None]))
    columns = data.draw(st.sampled_from(extents(width, RULES[number].columns) or [None]))
    if rows is None or columns is None:
        return
    packed = rows.before | rows.after << 2 | columns.before << 4 | columns.after << 6
    parameters = bytes([data.draw(st.integers(0, conversions.COUNT - 1)), number, packed])
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    layouts = ycc.layout(parameters, (height, width))
    planes = [random.integers(0, 256, layout.shape, np.uint8) for layout in layouts]
    whole = ycc.render(parameters, planes, (height, width))

    top, left, rows_, columns_ = data.draw(boxes(height, width))
    part, around = ycc.part(parameters, (height, width), (top, left, rows_, columns_))
    cut = []
    for plane, layout, own in zip(planes, layouts, ycc.layout(part, around[2:]), strict=True):
        first = [(around[i] + layout.phase[i] - own.phase[i]) // layout.step[i] for i in (0, 1)]
        cut.append(plane[first[0] : first[0] + own.height, first[1] : first[1] + own.width])
        assert cut[-1].shape == own.shape
    rendered = ycc.render(part, cut, around[2:])
    assert around[2] <= rows_ + 6
    assert around[3] <= columns_ + 6
    y, x = top - around[0], left - around[1]
    expected = whole[top : top + rows_, left : left + columns_]
    assert np.array_equal(rendered[y : y + rows_, x : x + columns_], expected)


def test_levels_are_rendered_pixel_by_pixel() -> None:
    assert levels.part(b"any", (10, 10), (1, 2, 3, 4)) == (b"any", (1, 2, 3, 4))


@pytest.mark.parametrize("mode", MODES)
def test_regions_of_every_mode(mode: str) -> None:
    random = np.random.default_rng(len(mode))
    shape = 50, 70
    top = 2 if mode == "1" else 256
    planes = tuple(random.integers(0, top, (*shape, n), np.uint8) for n in MODES[mode])
    partial = Partial(encode(Picture(mode, planes, b""), {}, tile_size=16), zoo.find)
    for box in ((0, 0, 50, 70), (49, 69, 1, 1), (3, 5, 20, 40)):
        found = partial.region(box)
        rows, columns = slice(box[0], box[0] + box[2]), slice(box[1], box[1] + box[3])
        for plane, region in zip(planes, found.planes, strict=True):
            assert np.array_equal(plane[rows, columns], region)


@pytest.mark.parametrize("name", ["photocd", "jpeg-retouched", "rgb-tiled", "grey-12bit", "rgba"])
def test_a_region_of_a_golden_file_is_the_crop(name: str) -> None:
    data = (GOLDEN / f"{name}.pxz").read_bytes()
    whole = pixelzip.decompress_array(data)
    for x, y, width, height in ((50, 10, 30, 30), (0, 0, 1, 1), (90, 60, 4, 2)):
        region = pixelzip.decompress_array(data, region=(x, y, width, height))
        assert np.array_equal(region, whole[y : y + height, x : x + width])


def test_only_the_tiles_that_a_region_needs_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    plane = np.random.default_rng(0).integers(0, 256, (100, 100, 1), np.uint8)
    data = tiled(plane)
    decoded: list[object] = []
    real = methods.decode
    monkeypatch.setattr(methods, "decode", lambda *args: decoded.append(args) or real(*args))
    partial = Partial(data, zoo.find)
    assert np.array_equal(partial.region((30, 20, 30, 10)).planes[0], plane[30:60, 20:30])
    assert len(decoded) == 4
    partial.region((31, 22, 4, 4))
    assert len(decoded) == 4
    partial.region((0, 0, 25, 25))
    assert len(decoded) == 5
    assert np.array_equal(partial.region((0, 0, 100, 100)).planes[0], plane)
    assert len(decoded) == 16


def tiled(plane: NDArray[np.uint8]) -> bytes:
    """A file of a 100x100 plane in tiles of 25, each raw."""
    component = Component(0, Form(Transform.DIRECT), (stored(plane, 25, "luma"),))
    return pack(Container("L", 100, 100, (), (component,), b"", Picture("L", (plane,)).crc))


def stored(plane: NDArray[np.uint8], tile_size: int, kind: Kind) -> StoredPlane:
    height, width, channels = plane.shape
    tiles = [
        Tile(Method.RAW, np.ascontiguousarray(plane[area(box)]).tobytes())
        for box in tile_grid(height, width, tile_size)
    ]
    return StoredPlane(PlaneLayout(height, width, channels, kind), tile_size, tuple(tiles))


def test_halved_chroma_needs_the_neighbours_of_its_region() -> None:
    """96x64, interpolated from halves both ways; tiles of 32 pixels, or 16 samples of chroma."""
    parameters, random = bytes([0, 8, 0]), np.random.default_rng(3)
    layouts = ycc.layout(parameters, (64, 96))
    samples = [random.integers(0, 256, layout.shape, np.uint8) for layout in layouts]
    planes = tuple(
        replace(stored(plane, size, layout.kind), layout=layout)
        for plane, size, layout in zip(samples, (32, 16, 16), layouts, strict=True)
    )
    pixels = ycc.render(parameters, samples, (64, 96))
    component = Component(0, Form(Transform.ORIGIN, ycc.NUMBER, parameters), planes)
    crc = Picture("RGB", (pixels,)).crc
    data = pack(Container("RGB", 96, 64, (), (component,), b"", crc))
    for box, luma, chroma in (
        ((0, 0, 20, 28), {0}, {0}),
        ((0, 0, 20, 32), {0}, {0, 1}),  # the last column is interpolated from the next sample
        ((34, 66, 30, 30), {5}, {5}),
        ((33, 66, 30, 30), {5}, {2, 5}),
    ):
        partial = Partial(data, zoo.find)
        found = partial.region(box).planes[0]
        assert np.array_equal(found, pixels[area(box)])
        needed = [canvas.known for canvas in partial.drafts[0]]
        assert needed[0] >= luma
        assert needed == [needed[0], chroma, chroma]
        assert len(needed[0]) <= len(chroma)


def test_regions_that_are_not_there() -> None:
    data = pixelzip.compress(Image.new("L", (40, 30)))
    for region in ((0, 0, 41, 1), (39, 29, 2, 1), (-1, 0, 3, 3), (0, 0, 0, 4), (5, 31, 1, 1)):
        with pytest.raises(pixelzip.RegionError, match="40x30"):
            pixelzip.decompress(data, region=region)


def test_regions_and_a_quick_look_on_the_command_line(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    packed, back = tmp_path / "image.pxz", tmp_path / "back.png"
    packed.write_bytes(pixelzip.compress(pixels, network="none"))

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(cli, [*map(str, arguments)])

    assert run("decompress", packed, "-o", back, "--region", "5,6,7,8").exit_code == 0
    with Image.open(back) as image:
        assert np.array_equal(np.asarray(image), pixels[6:14, 5:12])
    done = run("decompress", packed, "-o", back, "-f", "--region", "39,0,2,2")
    assert (done.exit_code, "40x30 and has no region" in done.stderr) == (1, True)
    for nonsense in ("1,2,3", "a,b,c,d", "-1,0,2,2", "1;2;3;4"):
        assert run("decompress", packed, "-f", "--region", nonsense).exit_code == 2

    assert run("verify", "--quick", packed).exit_code == 0
    assert run("verify", "--quick", packed, "--against", back).exit_code == 2
    data = bytearray(packed.read_bytes())
    for at in np.random.default_rng(2).integers(0, len(data), 20):
        data[at] ^= 16
        packed.write_bytes(data)
        assert run("verify", "--quick", packed).exit_code == 1
        data[at] ^= 16
