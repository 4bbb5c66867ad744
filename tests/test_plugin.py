"""Pillow opens and saves .pxz files once pixelzip is imported."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

import pixelzip
from pixelzip import plugin
from pixelzip.codec import container


@pytest.fixture
def image(crop_paths: list[Path]) -> Image.Image:
    with Image.open(next(path for path in crop_paths if path.stem == "flower-64x48")) as image:
        return Image.fromarray(np.asarray(image))


def test_magic_is_the_container_s() -> None:
    assert plugin.MAGIC == container.MAGIC


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_save_and_open(mode: str, image: Image.Image, tmp_path: Path) -> None:
    image = image.convert(mode)
    path = tmp_path / "image.pxz"
    image.save(path, network="none")
    with Image.open(path) as back:
        assert isinstance(back, plugin.PxzImageFile)
        assert back.format == "PXZ"
        assert back.get_format_mimetype() == "image/x-pixelzip"
        assert (back.mode, back.size) == (image.mode, image.size)
        assert back.tobytes() == image.tobytes()
        assert back.getpalette() == image.getpalette()
        assert back.convert("RGBA").tobytes() == image.convert("RGBA").tobytes()
        copy = back.copy()
    assert copy.tobytes() == image.tobytes()
    assert path.read_bytes() == pixelzip.compress(image, network="none")


def test_sixteen_bit_grey() -> None:
    array = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    data = io.BytesIO()
    Image.fromarray(array).save(data, "PXZ", network="none")
    np.testing.assert_array_equal(Image.open(data), array)


def test_sixteen_bit_colour_says_what_to_do() -> None:
    data = pixelzip.compress(np.zeros((2, 2, 3), np.uint16), network="none")
    with pytest.raises(pixelzip.UnsupportedImageError, match="Pillow cannot hold 16-bit samples"):
        Image.open(io.BytesIO(data))


def test_metadata_there_and_back(image: Image.Image) -> None:
    text = PngInfo()
    text.add_itxt("Title", "海", "ja", "題")
    exif = Image.Exif()
    exif[0x0112] = 8
    png = io.BytesIO()
    image.save(png, "PNG", pnginfo=text, exif=exif, dpi=(300, 300), icc_profile=b"a profile")
    with Image.open(png) as original:
        original.load()
        packed = io.BytesIO()
        original.save(packed, "PXZ", network="none")
        with Image.open(packed) as back:
            assert back.info == original.info
            assert back.getexif()[0x0112] == 8
            assert back.info["Title"].lang == "ja"
            again = io.BytesIO()
            back.save(again, "PXZ", network="none")
        assert again.getvalue() == packed.getvalue()
        bare = io.BytesIO()
        original.save(bare, "PXZ", network="none", strip=True)
        assert pixelzip.info(bare.getvalue()).metadata == ()


def test_save_takes_metadata_as_options(image: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    data = io.BytesIO()
    image.save(data, "PXZ", network="none", exif=exif, icc_profile=b"a profile", dpi=(72, 72))
    with Image.open(data) as back:
        assert back.getexif()[0x0112] == 3
        assert back.info["icc_profile"] == b"a profile"
        assert [round(side) for side in back.info["dpi"]] == [72, 72]


def test_save_takes_the_codec_s_options(image: Image.Image) -> None:
    data = io.BytesIO()
    image.save(data, "PXZ", network="none", tile_size=16, threads=1)
    assert data.getvalue() == pixelzip.compress(image, network="none", tile_size=16)


def test_opening_reads_no_pixels(image: Image.Image, tmp_path: Path) -> None:
    """Size, mode and metadata come from the header; a damaged payload shows when it is needed."""
    data = bytearray(pixelzip.compress(image, network="none"))
    data[-20] ^= 1
    path = tmp_path / "damaged.pxz"
    path.write_bytes(data)
    with Image.open(path) as back:
        assert (back.size, back.mode) == ((64, 48), "RGB")
        with pytest.raises(pixelzip.FormatError, match="damaged"):
            back.load()
        with pytest.raises(pixelzip.FormatError, match="damaged"):
            back.load()
        with pytest.raises(OSError, match="damaged"):
            back.load()
    with Image.open(path) as back, pytest.raises(OSError, match="damaged"):
        back.verify()


def test_opening_reads_the_header_only(image: Image.Image) -> None:
    class Counting(io.BytesIO):
        total = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.total += len(data)
            return data

    image.info["comment"] = "long " * 20
    file = Counting(pixelzip.compress(image, network="none") + bytes(2**20))
    assert Image.open(file).size == (64, 48)
    assert 0 < file.total < 10_000


def test_a_crop_decodes_the_tiles_that_it_needs(image: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "image.pxz"
    image.save(path, network="none", tile_size=16)
    with Image.open(path) as back:
        assert isinstance(back, plugin.PxzImageFile)
        for box in ((3, 4, 20, 30), (0, 0, 1, 1), (-5, 40, 90, 60), (7.6, 1, 12.4, 9)):
            assert back.crop(box).tobytes() == image.crop(box).tobytes()
            assert back.crop(box).mode == "RGB"
            if box[0] == 3:
                assert back.fp is not None  # it is not loaded yet
        assert back.tobytes() == image.tobytes()
        assert back.crop((3, 4, 20, 30)).tobytes() == image.crop((3, 4, 20, 30)).tobytes()


def test_a_crop_beyond_the_edge_decodes_no_more(
    image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = io.BytesIO(pixelzip.compress(image, network="none", tile_size=16))
    with Image.open(file) as back:
        monkeypatch.setattr(pixelzip.api, "decompress", None)  # which decodes all of it
        for box in ((-9, -7, 20, 16), (60, 40, 80, 99), (-3, -3, 99, 99)):
            assert back.crop(box).tobytes() == image.crop(box).tobytes()
            assert back.crop(box).size == image.crop(box).size
        with pytest.raises(ValueError, match="Coordinate"):
            back.crop((5, 5, 4, 9))


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_drafts_and_thumbnails_of_a_jpeg_are_libjpeg_s(image: Image.Image, mode: str) -> None:
    jpeg = io.BytesIO()
    image.resize((256, 192)).save(jpeg, "JPEG", quality=80)
    packed = pixelzip.compress(jpeg.getvalue())
    with Image.open(io.BytesIO(packed)) as back, Image.open(jpeg) as wanted:
        assert back.draft(mode, (48, 48)) == wanted.draft(mode, (48, 48))
        assert (back.mode, back.size) == (wanted.mode, wanted.size) == (mode, (64, 48))
        assert back.draft(mode, (10, 10)) is None
        assert back.tobytes() == wanted.tobytes()
        assert back.draft(mode, (10, 10)) is None
    with Image.open(io.BytesIO(packed)) as back, Image.open(jpeg) as wanted:
        back.thumbnail((30, 30))
        wanted.thumbnail((30, 30))
        assert (back.size, back.tobytes()) == (wanted.size, wanted.tobytes())


def test_drafts_of_pictures_are_the_pictures(image: Image.Image) -> None:
    with Image.open(io.BytesIO(pixelzip.compress(image, network="none"))) as back:
        assert back.draft("L", (5, 5)) is None
        assert (back.mode, back.size) == ("RGB", image.size)
        back.thumbnail((9, 9))
        small = image.copy()
        small.thumbnail((9, 9))
        assert back.tobytes() == small.tobytes()


def test_verify_takes_what_is_sound(image: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "sound.pxz"
    path.write_bytes(pixelzip.compress(image, network="none"))
    with Image.open(path) as back:
        back.verify()


def test_damage_and_other_files(image: Image.Image) -> None:
    data = pixelzip.compress(image, network="none")
    for junk in (data[:2], data[:7], data[:2] + b"junk" * 9):
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(junk))
    for damaged in (data[:-1], data[:100], data + b"more"):
        opened = Image.open(io.BytesIO(damaged))
        with pytest.raises(OSError, match="damaged"):
            opened.load()
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(b"\xf5" + data[2:]))
    png = io.BytesIO()
    image.save(png, "PNG")
    assert Image.open(png).format == "PNG"


def test_files_are_closed(image: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "image.pxz"
    image.save(path, network="none")
    code = f"import pixelzip; from PIL import Image; Image.open({str(path)!r}).load()"
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=True)
    assert done.stderr == b""


def test_import_registers(image: Image.Image, tmp_path: Path) -> None:
    path = tmp_path / "image.pxz"
    image.save(path, network="none")
    code = "import {0}; from PIL import Image; print(Image.open({1!r}).size)"
    for imports, status in (("pixelzip", 0), ("PIL", 1)):
        command = [sys.executable, "-c", code.format(imports, str(path))]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=False)
        assert done.returncode == status
        assert done.stdout.decode().strip() == ("(64, 48)" if status == 0 else "")
