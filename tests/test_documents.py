"""Documents: TIFF files whose pages are pictures of their own."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
import reference_decoder
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image, ImageSequence

import pixelzip
from pixelzip import contents, leftovers, pictures, tiff
from pixelzip.cli import cli
from pixelzip.codec import document
from pixelzip.codec.errors import FormatError, LimitError, UnsupportedImageError
from pixelzip.codec.picture import Picture

PHOTO = Path(__file__).parent / "images" / "bikes-96x64.png"
GOLDEN = Path(__file__).parent / "golden" / "documents"


def page_images() -> list[Image.Image]:
    """Pages of several sizes and modes."""
    photo = Image.open(PHOTO).convert("RGB")
    photo.info = {}
    pages = [photo.crop((0, 0, 40, 30)), photo.crop((0, 0, 24, 50))]
    pages += [photo.crop((8, 0, 48, 30)).convert(mode) for mode in ("L", "1", "P", "CMYK", "RGBA")]
    return [*pages, Image.fromarray(np.arange(600, dtype=np.uint16).reshape(20, 30))]


def scanned() -> bytes:
    """A TIFF file of these, each with a resolution and words of its own."""
    out = io.BytesIO()
    parts = []
    for number, page in enumerate(page_images(), 1):
        file = io.BytesIO()
        page.save(file, "TIFF", dpi=(100 * number, 300), tiffinfo={270: f"page {number}"})
        parts.append(file.getvalue())
    out.write(tiff.joined(parts))
    return out.getvalue()


def assert_same(one: Picture, other: Picture) -> None:
    assert (one.mode, one.metadata) == (other.mode, other.metadata)
    for plane, same in zip(one.planes, other.planes, strict=True):
        np.testing.assert_array_equal(plane, same)


def shown(image: Image.Image) -> list[tuple[str, NDArray[np.generic], str, object]]:
    return [
        (page.mode, np.asarray(page), page.getexif().get(270), page.info["dpi"])
        for page in (frame.copy() for frame in ImageSequence.Iterator(image))
    ]


def test_pages_come_back_as_they_are() -> None:
    data = scanned()
    packed = pixelzip.compress(data, network="none")
    assert leftovers.left_behind(data) == ()
    (found,) = contents.decode([packed], networks=(), max_pixels=1 << 20, threads=1, device="cpu")
    assert isinstance(found, contents.Document)
    back, lost = found.write(".tif")
    assert lost == []
    assert not contents.take(back).compare(contents.take(data))
    assert contents.take(data).is_in(packed)
    (again,) = pixelzip.decompress_many([packed])
    opened = Image.open(io.BytesIO(packed))
    assert opened.n_frames == 8
    for other in (Image.open(io.BytesIO(back)), pixelzip.decompress(packed), again):
        for one, same in zip(shown(Image.open(io.BytesIO(data))), shown(other), strict=True):
            np.testing.assert_array_equal(one[1], same[1])
            assert (one[0], *one[2:]) == (same[0], *same[2:])
    for number, page in enumerate(page_images()):
        opened.seek(number)
        assert (opened.mode, opened.size) == (page.mode, page.size)
        np.testing.assert_array_equal(np.asarray(opened), np.asarray(page))


@pytest.mark.parametrize("order", ["<", ">"])
def test_deep_pages_come_back(order: str) -> None:
    """Of which Pillow knows the high bytes only."""
    samples = [
        np.random.default_rng(n).integers(0, 1 << 16, (9 + n, 12, 3), dtype=np.uint16)
        for n in range(2)
    ]
    pages = [pictures.from_array(one) for one in samples]
    data, _ = pictures.write_pages(pages, ".tif")
    if order == ">":
        alone = [swapped_tiff(one) for one in samples]
        for file, page in zip(alone, pages, strict=True):
            assert_same(pictures.read(file), page)
    for one, page in zip(pictures.read_pages(data), pages, strict=True):
        assert_same(one, page)
    alike, _ = pictures.write_pages([pages[0]] * 3, ".tif")
    tall = pictures.read(alike)  # pages that are alike are one picture, deep ones too
    assert pixelzip.info(pixelzip.compress(alike, network="none")).frames == 3
    again = pictures.read(pictures.write(tall, ".tif")[0])
    assert_same(again, tall)
    with pytest.raises(UnsupportedImageError, match="16-bit samples of mode RGB"):
        Image.open(io.BytesIO(pixelzip.compress(data, network="none")))


def swapped_tiff(samples: NDArray[np.uint16]) -> bytes:
    """An uncompressed TIFF file of the other byte order."""
    height, width, channels = samples.shape
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, 8), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 200), (277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, samples.nbytes),
    ]  # fmt: skip
    out = bytearray(b"MM\0*\0\0\0\x10" + b"\0\x10" * 3 + b"\0\0")
    out += len(tags).to_bytes(2, "big")
    for tag, kind, count, value in tags:
        size = 2 if kind == 3 and count == 1 else 4
        out += tag.to_bytes(2, "big") + kind.to_bytes(2, "big") + count.to_bytes(4, "big")
        out += value.to_bytes(size, "big").ljust(4, b"\0")
    return bytes(out.ljust(200, b"\0")) + samples.astype(">u2").tobytes()


def test_what_cannot_be_said_of_a_document() -> None:
    data = scanned()
    packed = pixelzip.compress(data, network="none")
    no_single = "pages that are not of one size and kind"
    for call in (pixelzip.decompress_array, pixelzip.cost_map):
        with pytest.raises(UnsupportedImageError, match=no_single):
            call(packed)
    with pytest.raises(UnsupportedImageError, match=no_single):
        pixelzip.decompress(packed, region=(0, 0, 1, 1))
    with pytest.raises(UnsupportedImageError, match="8 pages are not of one size and kind"):
        pixelzip.ideal_bits(data)
    with pytest.raises(LimitError, match="more than the limit of 2000 pixels in all"):
        pixelzip.decompress(packed, max_pixels=2000)
    for suffix in (".png", ".npy"):
        with pytest.raises(UnsupportedImageError, match="cannot hold pages of several kinds"):
            pictures.write_pages(pictures.read_pages(data), suffix)


def test_what_info_and_peek_say_of_a_document() -> None:
    packed = pixelzip.compress(scanned(), network="none")
    about = pixelzip.info(packed)
    assert (about.frames, about.width, about.height) == (8, 40, 30)
    assert about.mode == "RGB, L, 1, P, CMYK, RGBA, I;16"
    assert about.found[1].startswith("page 2: 24 x 50, mode RGB")
    assert about.sub_pixels == sum(
        page.width * page.height * (1 if page.mode == "I;16" else len(page.getbands()))
        for page in page_images()
    )
    assert set(about.metadata) == {"pages", "resolution", "EXIF", "palette"}
    for data in (packed, packed[:400]):
        header = pixelzip.peek(data)
        assert (header.width, header.height, header.mode) == (40, 30, "RGB")


def test_commands_keep_documents(tmp_path: Path) -> None:
    source, packed, back = (tmp_path / name for name in ("scan.tif", "scan.pxz", "back"))
    source.write_bytes(scanned())
    for command in (
        ["compress", source, "-n", "none"],
        ["compress", source, "-n", "none", "--skip-existing"],
        ["info", packed],
        ["verify", packed, "--against", source],
        ["decompress", packed, "-o", f"{back}/"],
        ["verify", packed, "--against", back / "scan.tif"],
        ["decompress", packed, "-o", f"{back}/", "--skip-existing"],
        ["compress", source, "-f", "-n", "none", "--rm"],
        ["decompress", packed, "-fo", f"{back}/", "--rm"],
    ):
        done = CliRunner().invoke(cli, [str(word) for word in command])
        assert done.exit_code == 0, done.output
    assert not source.exists()
    assert not packed.exists()
    assert [path.name for path in back.iterdir()] == ["scan.tif"]


def test_the_specification_says_how_pages_are_stored() -> None:
    pages = pictures.read_pages(scanned())
    packed = pixelzip.compress(scanned(), network="none")
    decoded = reference_decoder.decode_pages(packed, lambda _fingerprint: None)
    for planes, page in zip(decoded, pages, strict=True):
        for plane, own in zip(planes, page.planes, strict=True):
            np.testing.assert_array_equal(plane, own)


def test_a_golden_document_decodes() -> None:
    packed = (GOLDEN / "two.pxz").read_bytes()
    with pixelzip.decompress(packed) as image:
        pages = [np.asarray(page.copy()) for page in ImageSequence.Iterator(image)]
    photo = Image.open(PHOTO).convert("RGB")
    np.testing.assert_array_equal(pages[0], np.asarray(photo.crop((0, 0, 12, 9))))
    np.testing.assert_array_equal(pages[1], np.asarray(photo.crop((0, 0, 20, 24)).convert("1")))


def test_damaged_documents() -> None:
    packed = pixelzip.compress(scanned(), network="none")
    files = document.unpack(packed)
    assert document.pack(files) == packed
    for hurt in (
        packed[:-1],
        packed + b"\0",
        document.pack([*files, packed]),  # a document in a document
        document.pack([*files, files[0][:-1]]),
        document.pack([files[0], b"\xf5z\x1f123456"]),  # a JPEG
        document.pack([files[0], b"junk, of some length"]),
    ):
        with pytest.raises(FormatError):
            pixelzip.decompress(hurt)
        with pytest.raises(FormatError):
            pixelzip.info(hurt)
    draw = random.Random(7)
    for _ in range(300):
        hurt = bytearray(packed)
        hurt[draw.randrange(len(hurt))] ^= 1 << draw.randrange(8)
        for call in (pixelzip.info, pixelzip.decompress):
            with pytest.raises(FormatError):
                call(bytes(hurt))


def test_damaged_chains_of_pages() -> None:
    data = scanned()
    for at in range(4, 8):
        for value in (0, 1, 255):
            hurt = bytearray(data)
            hurt[at] = value
            if bytes(hurt) != data:
                with pytest.raises(pixelzip.PixelzipError):
                    pictures.read_pages(bytes(hurt))
    pages = [pictures.from_array(np.zeros((1, 1 + n % 2), np.uint8)) for n in range(4097)]
    many, _ = pictures.write_pages(pages, ".tif")
    with pytest.raises(UnsupportedImageError, match="more than 4096 pages"):
        pictures.read_pages(many)
