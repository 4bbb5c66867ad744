"""Pictures that JPEG decoders made are stored as the JPEG's coefficients, and come back exactly."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import jpeglib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import pixelzip
from pixelzip.codec import native
from pixelzip.codec.container import unpack
from pixelzip.codec.errors import MissingLibraryError
from pixelzip.codec.jpeg import model
from pixelzip.codec.methods import Method

pytestmark = pytest.mark.skipif(native.coding() is None, reason="there is no compiled library")

STORED = "stored as a JPEG's coefficients"
Bytes = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photo(photo_path: Path) -> Image.Image:
    """Part of a photograph that was halved with a good filter: 201x151."""
    whole = Image.open(photo_path).resize((384, 256), Image.Resampling.LANCZOS)
    return whole.crop((100, 40, 301, 191))


def jpeg(image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def decoded(file: bytes) -> Bytes:
    return np.asarray(Image.open(io.BytesIO(file)))


def kept(pixels: Bytes) -> tuple[bytes, str]:
    """Their file, after checking that they come back, and what `info` has found of them."""
    data = pixelzip.compress(np.ascontiguousarray(pixels))
    assert np.array_equal(pixelzip.decompress_array(data), pixels)
    (found,) = pixelzip.info(data).found
    return data, found


def methods(data: bytes) -> set[Method]:
    (component,) = unpack(data).components
    return {tile.method for plane in component.planes for tile in plane.tiles}


@pytest.mark.parametrize("quality", [50, 75, 85, 90, 95])
@pytest.mark.parametrize("mode", ["4:4:4", "4:2:2", "4:2:0", "grey"])
def test_they_take_about_what_the_jpeg_takes(photo: Image.Image, mode: str, quality: int) -> None:
    if mode == "grey":
        file = jpeg(photo.convert("L"), quality=quality)
    else:
        file = jpeg(photo, quality=quality, subsampling=mode)
    data, found = kept(decoded(file))
    assert methods(data) == {Method.BLOCKS}
    assert f"{STORED}, quality {quality}" in found
    assert len(data) < 1.06 * len(pixelzip.compress(file))


@pytest.mark.parametrize("mode", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize("way", range(8))
def test_whichever_way_they_lie(photo: Image.Image, mode: str, way: int) -> None:
    file = jpeg(photo, quality=80, subsampling=mode)
    pixels = np.rot90(decoded(file), way % 4)
    data, found = kept(pixels[:, ::-1] if way >= 4 else pixels)
    assert f"{STORED}, quality 80" in found
    assert len(data) < 1.15 * len(pixelzip.compress(file))


@pytest.mark.parametrize("mode", ["4:4:4", "4:2:0"])
@pytest.mark.parametrize(("top", "left"), [(8, 16), (3, 13), (1, 0), (7, 7)])
def test_parts_of_them(photo: Image.Image, mode: str, top: int, left: int) -> None:
    file = jpeg(photo, quality=85, subsampling=mode)
    data, found = kept(decoded(file)[top : top + 120, left : left + 160])
    assert STORED in found
    assert len(data) < len(pixelzip.compress(file))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_caption_is_left_to_corrections(photo: Image.Image, mode: str) -> None:
    file = jpeg(photo.convert(mode), quality=85, subsampling=0)
    image = Image.fromarray(decoded(file))
    ink = (250, 30, 60) if mode == "RGB" else 250
    ImageDraw.Draw(image).text((20, 100), "A caption", ink, font_size=24)
    data, found = kept(np.asarray(image))
    assert STORED in found
    assert len(data) < len(pixelzip.compress(file)) + 2700


def test_grey_stored_as_colour_with_a_coloured_caption(photo: Image.Image) -> None:
    file = jpeg(photo.convert("L"), quality=85)
    image = Image.fromarray(decoded(file)).convert("RGB")
    plain, found = kept(np.asarray(image))
    assert found == f"colour: one tone; {STORED}, quality 85"
    ImageDraw.Draw(image).text((20, 100), "A caption", (255, 40, 10), font_size=24)
    data, found = kept(np.asarray(image))
    assert found.startswith(f"colour: one tone; {STORED}, quality 85; ")
    assert len(plain) < len(data) < len(plain) + 1500


def test_alpha_and_tables_of_its_own(photo: Image.Image) -> None:
    table = [3 + k % 8 + k // 8 for k in range(64)]
    image = Image.fromarray(decoded(jpeg(photo, qtables=[table], subsampling=0)))
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = pixelzip.compress(image)
    assert np.array_equal(pixelzip.decompress_array(data), np.asarray(image))
    assert (
        f"{STORED}, a table of its own in luma, the same in chroma" in pixelzip.info(data).found[0]
    )


@pytest.mark.parametrize("version", ["6b", "turbo210", "mozjpeg403"])
@pytest.mark.parametrize("fancy", [True, False])
def test_versions_of_libjpeg(photo: Image.Image, tmp_path: Path, version: str, fancy: bool) -> None:
    path = str(tmp_path / "x.jpg")
    with jpeglib.version(version):
        image = jpeglib.from_spatial(np.asarray(photo))
        image.samp_factor = "4:2:0"
        image.write_spatial(path, qt=85)
        sign = "+" if fancy else "-"
        pixels = jpeglib.read_spatial(path, flags=[f"{sign}DO_FANCY_UPSAMPLING"]).spatial
    data, found = kept(np.ascontiguousarray(pixels))
    assert STORED in found
    assert len(data) < 1.1 * len(pixelzip.compress(path))


def test_a_part_is_decoded_alone(photo: Image.Image) -> None:
    pixels = decoded(jpeg(photo, quality=85, subsampling=2))
    data, _ = kept(pixels)
    part = pixelzip.decompress_array(data, region=(33, 41, 100, 50))
    assert np.array_equal(part, pixels[41:91, 33:133])


def test_the_heat_map_adds_up(photo: Image.Image) -> None:
    data, _ = kept(decoded(jpeg(photo, quality=85, subsampling=2)))
    bits = pixelzip.cost_map(data)
    assert bits.shape == (151, 201)
    assert abs(bits.sum() / 8 - pixelzip.info(data).payload_bytes) < 20
    assert np.unique(bits[:8, :8]).size == 1  # a block of luma, a quarter of one of chroma


def test_origins_switch_it_off(photo: Image.Image) -> None:
    pixels = decoded(jpeg(photo.convert("L"), quality=85))
    data = pixelzip.compress(pixels, origin="none")
    assert Method.BLOCKS not in methods(data)
    assert np.array_equal(pixelzip.decompress_array(data), pixels)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_without_compiled_code(
    photo: Image.Image, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is neither written nor read, and the error says why."""
    pixels = decoded(jpeg(photo.convert(mode).crop((0, 0, 64, 64)), quality=85, subsampling=0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "coding", lambda: None)
        data = pixelzip.compress(pixels)
        assert Method.BLOCKS not in methods(data)
        assert np.array_equal(pixelzip.decompress_array(data), pixels)
    data, _ = kept(pixels)
    assert Method.BLOCKS in methods(data)
    monkeypatch.setattr(model, "library", lambda: None)
    with pytest.raises(MissingLibraryError, match="without a C compiler"):
        pixelzip.decompress_array(data)


def test_photographs_that_no_jpeg_made_are_as_before(photo: Image.Image) -> None:
    for pixels in (np.asarray(photo), np.asarray(photo.convert("L"))):
        data = pixelzip.compress(pixels)
        assert pixelzip.info(data).found == ()
        assert Method.BLOCKS not in methods(data)
