"""The fallback: every form of it comes back, it beats PNG where it must, and it never trusts."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import pixelzip
from pixelzip.codec import packed, tiles
from pixelzip.codec.errors import FormatError
from pixelzip.codec.packed import Colours, Filter, Form, Layout

FORMS = list(packed._forms(4, colour_count=2))


def noise(height: int, width: int, channels: int, colours: int = 256) -> NDArray[np.uint8]:
    """Noise of a few colours, which every form can hold if there are at most 16."""
    rng = np.random.default_rng(height * 1000 + width * 10 + channels)
    palette = rng.integers(0, 256, (colours, channels), dtype=np.uint8)
    return palette[rng.integers(0, colours, (height, width))]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: f"{form.number:#04x}")
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (17, 30)])
def test_every_form_comes_back(form: Form, size: tuple[int, int]) -> None:
    for colours in (1, 2, 3, 5, 16):
        pixels = noise(*size, 4, colours)
        palette = packed._palette(pixels)
        serial = packed._serialise(pixels, form, palette)
        for payload in (
            bytes([form.number, packed._STORED]) + serial,
            packed._compress(form, serial, 3, True),
            packed._compress(form, serial, 108, False),
        ):
            assert np.array_equal(packed.unpack_pixels(payload, pixels.shape), pixels)


@pytest.mark.parametrize("chosen", list(Filter))
def test_filters_that_span_several_bands(chosen: Filter, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = noise(40, 31, 3)
    form = Form(Colours.DIFFERENCE, Layout.PLANES, chosen)
    whole = packed._serialise(pixels, form, None)
    monkeypatch.setattr(packed, "_BAND", 200)
    assert packed._serialise(pixels, form, None) == whole


def test_filters_are_those_of_png() -> None:
    # Left 10, above 20, between 13: Paeth estimates 17, and the nearest of the three is above.
    rows = np.array([[13, 20], [10, 99]], np.uint8)
    expected = {"NONE": 99, "SUB": 89, "UP": 79, "AVERAGE": 84, "PAETH": 79}
    for name, residual in expected.items():
        kinds = np.full(2, Filter[name], np.uint8)
        assert packed._filter(rows, 1, kinds)[1, 1] == residual


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    channels=st.sampled_from([1, 2, 3, 4, 6, 8]),
    colours=st.sampled_from([2, 4, 16, 256, 257]),
)
def test_anything_comes_back(height: int, width: int, channels: int, colours: int) -> None:
    pixels = noise(height, width, channels, colours)
    payload = packed.pack_pixels(pixels)
    assert len(payload) <= pixels.size + 2
    assert np.array_equal(packed.unpack_pixels(payload, pixels.shape), pixels)


def test_the_quick_way_for_large_pictures(
    crops: dict[str, NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = crops["palms-96x64"]
    usual = packed.pack_pixels(pixels)
    for limit in ("_LARGE", "_HUGE", "_SAMPLE"):
        monkeypatch.setattr(packed, limit, 4096)
    quick = packed.pack_pixels(pixels)
    assert np.array_equal(packed.unpack_pixels(quick, pixels.shape), pixels)
    assert len(usual) <= len(quick) < 1.1 * len(usual)


def text() -> Image.Image:
    image = Image.new("1", (600, 300), 1)
    draw = ImageDraw.Draw(image)
    for line in range(0, 300, 14):
        draw.text((5, line), f"{line * 7919 % 1000} sphinx of black quartz, judge my vow " * 3)
    return image


def gradient() -> Image.Image:
    y, x = np.mgrid[0:200, 0:300]
    return Image.fromarray(np.stack([x * 255 // 299, y * 255 // 199, (x + y) // 2], 2).astype("u1"))


def screenshot() -> Image.Image:
    image = Image.new("RGB", (500, 300), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, 500, 30), fill=(40, 60, 90))
    draw.text((10, 8), "Untitled document", fill="white")
    for line in range(40, 300, 15):
        draw.text((130, line), "pack my box with five dozen liquor jugs " * 2, fill=(20, 20, 20))
        draw.ellipse((10, line, 20, line + 10), fill=(200, line % 256, 60))
    return image


@pytest.mark.parametrize("draw", [text, gradient, screenshot], ids=lambda draw: draw.__name__)
def test_drawings_are_smaller_than_png(draw: object) -> None:
    image = draw()  # type: ignore[operator]
    png = io.BytesIO()
    image.save(png, "png", optimize=True)
    pixels = np.asarray(image).astype(np.uint8).reshape(image.height, image.width, -1)
    assert len(packed.pack_pixels(pixels)) < len(png.getvalue())


def test_a_network_is_spared_what_it_is_no_good_at(
    crops: dict[str, NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text, of which a sample is enough; not a photograph in it."""
    asked: list[int] = []
    encode_tiles = tiles.encode_tiles

    def counted(network: object, areas: list[NDArray[np.uint8]], **options: Any) -> list[bytes]:
        asked.extend(area.size for area in areas)
        return encode_tiles(network, areas, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(tiles, "encode_tiles", counted)
    page = np.asarray(screenshot())
    alone = pixelzip.compress(page, origin="none", tile_size=128)
    assert sum(asked) < page.size / 3
    assert pixelzip.info(alone).networks == ()
    assert len(alone) <= len(pixelzip.compress(page, network="none")) + 40
    asked.clear()
    image = screenshot()
    image.paste(Image.fromarray(crops["palms-96x64"]).resize((384, 256)), (110, 40))
    mixed = pixelzip.compress(image, origin="none", tile_size=128)
    assert len(pixelzip.info(mixed).networks) == 1
    assert len(mixed) < 0.7 * len(pixelzip.compress(image, network="none"))
    assert np.array_equal(pixelzip.decompress_array(mixed), np.asarray(image))


def test_photographs_are_smaller_than_png(crop_paths: list[Path]) -> None:
    for path in crop_paths:
        with Image.open(path) as image:
            pixels = np.asarray(image)
        assert len(packed.pack_pixels(pixels)) < path.stat().st_size


def test_the_estimate_is_near_for_photographs(crops: dict[str, NDArray[np.uint8]]) -> None:
    for pixels in crops.values():
        assert 0.8 < packed.estimate(pixels) / len(packed.pack_pixels(pixels)) < 1.6


def test_a_hopeless_attempt_is_cut_short(
    crops: dict[str, NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    compress = packed._compress

    def counted(*args: object) -> bytes:
        tried.append(1)
        return compress(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(packed, "_compress", counted)
    for pixels in crops.values():
        tried.clear()
        best = packed.pack_pixels(pixels)
        assert len(tried) > 1
        tried.clear()
        assert packed.pack_pixels(pixels, rival=len(best) * 1.2) == best
        assert len(tried) > 1
        tried.clear()
        hasty = packed.pack_pixels(pixels, rival=len(best) / 2)
        assert len(tried) == 1
        assert len(best) <= len(hasty) < 1.2 * len(best)
        assert np.array_equal(packed.unpack_pixels(hasty, pixels.shape), pixels)  # type: ignore[arg-type]


GOOD = packed.pack_pixels(noise(20, 20, 3, 5))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00",
        b"\x00\xe1",  # no pixels
        b"\x07\xe1" + bytes(1200),  # no such filter
        b"\x18\xe1" + bytes(1200),  # no such layout
        b"\x30\xe1" + bytes(1200),  # bits without a palette
        b"\x48\xe1" + bytes(1200),  # planes of a palette
        b"\x80\xe1" + bytes(1200),  # an unused bit
        b"\x05\xe1" + b"\x05" * 20 + bytes(1200),  # a row with no such filter
        b"\x40\xe1\x01" + bytes(6) + b"\x02" * 400,  # a colour outside the palette
        b"\x45\xe1\xff" + bytes(500),  # a palette that is cut short
        b"\x45\xe1\x01" + bytes(6),  # a palette, and nothing more
        b"\x05\xe1" + bytes(10),  # filters of some rows
        b"\x50\xe1\x10" + bytes(51) + bytes(200),  # too many colours for bits
        b"\x00\xe2" + bytes(1200),  # no such LZMA properties
        b"\x00\x15" + bytes(1200),  # more literal bits than LZMA allows
        b"\x00\xe1" + bytes(1201),
        GOOD[:-1],
        GOOD + b"\x00",
    ],
)
def test_damage_is_refused(payload: bytes) -> None:
    with pytest.raises(FormatError, match="the file is damaged"):
        packed.unpack_pixels(payload, (20, 20, 3))


def test_a_bomb_is_refused() -> None:
    bomb = packed.pack_pixels(np.tile(np.arange(2, dtype=np.uint8), 2**20).reshape(1024, 2048, 1))
    assert len(bomb) < 1000
    with pytest.raises(FormatError):
        packed.unpack_pixels(bomb, (20, 20, 3))


@pytest.mark.parametrize("chosen", [Filter.AVERAGE, Filter.PAETH, Filter.ADAPTIVE])
@pytest.mark.parametrize("shape", [(2**20, 1, 1), (1, 2**20, 1), (400_000, 1, 3)])
def test_time_is_linear_whatever_the_sides(shape: tuple[int, int, int], chosen: Filter) -> None:
    pixels = np.arange(np.prod(shape)).astype(np.uint8).reshape(shape)
    form = Form(Colours.DIRECT, Layout.PIXELS, chosen)
    payload = bytes([form.number, packed._STORED]) + packed._serialise(pixels, form, None)
    packed.unpack_pixels(b"\x04\xe1" + bytes(4), (2, 2, 1))  # compiles
    started = time.process_time()
    assert np.array_equal(packed.unpack_pixels(payload, shape), pixels)
    assert time.process_time() - started < 1


def test_rows_of_all_filters(crops: dict[str, NDArray[np.uint8]]) -> None:
    pixels = crops["palms-96x64"]
    for layout, step in ((Layout.PIXELS, 3), (Layout.PLANES, 1)):
        rows = pixels.reshape(64, -1) if step == 3 else pixels.transpose(2, 0, 1).reshape(-1, 96)
        kinds = (np.arange(len(rows)) * 7 % Filter.ADAPTIVE).astype(np.uint8)
        serial = kinds.tobytes() + packed._filter(rows, step, kinds).tobytes()
        form = Form(Colours.DIRECT, layout, Filter.ADAPTIVE)
        payload = bytes([form.number, packed._STORED]) + serial
        assert np.array_equal(packed.unpack_pixels(payload, pixels.shape), pixels)
