"""Animations: each frame as it is shown, and for how long, comes back; and so do pages."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from random import Random

import imagecodecs
import numpy as np
import png as pypng
import pytest
from click.testing import CliRunner
from fuzzing import damage
from numpy.typing import NDArray
from PIL import Image, ImageDraw, UnidentifiedImageError
from PIL.TiffImagePlugin import AppendingTiffWriter

import pixelzip
from pixelzip import isobmff, leftovers, metadata, pictures
from pixelzip.cli import cli
from pixelzip.codec.encode import encode
from pixelzip.codec.errors import FormatError, LimitError, PixelzipError, UnsupportedImageError
from pixelzip.codec.picture import Picture

Shown = list[tuple[NDArray[np.uint8], float]]


def frames(count: int = 5, mode: str = "RGB") -> list[Image.Image]:
    """A disc that moves over a ramp."""
    made = []
    for number in range(count):
        frame = Image.radial_gradient("L").resize((40, 30)).convert(mode)
        draw = ImageDraw.Draw(frame)
        draw.ellipse(
            (6 * number, 5, 6 * number + 9, 14), fill=(250, 40 * number, 3, 255)[: len(mode)]
        )
        if mode == "RGBA":
            draw.rectangle((0, 20, 39, 29), fill=(0, 0, 0, 0))
        made.append(frame)
    return made


def saved(format_: str, mode: str = "RGB", **options: object) -> bytes:
    first, *others = frames(mode=mode)
    out = io.BytesIO()
    options = {"duration": [100, 40, 40, 250, 70], "loop": 0, **options}
    first.save(out, format_, save_all=True, append_images=others, **options)
    return out.getvalue()


def shown(image: Image.Image) -> Shown:
    """What is seen and for how many milliseconds, as Pillow plays it."""
    out = []
    for number in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(number)
        image.load()
        out.append((np.asarray(image.convert("RGBA")), image.info.get("duration", 0)))
    return out


def assert_same(one: Shown, other: Shown) -> None:
    assert [duration for _, duration in one] == pytest.approx([duration for _, duration in other])
    for (mine, _), (theirs, _) in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


FILES = {
    "gif": saved("GIF"),
    "gif, disposed": saved("GIF", disposal=2),
    "gif, transparent": saved("GIF", "RGBA", disposal=2),
    "apng": saved("PNG"),
    "apng, transparent": saved("PNG", "RGBA", disposal=1, blend=1),
    "webp": saved("WEBP", lossless=True),
    "webp, lossy": saved("WEBP", "RGBA", quality=50),
}


@pytest.mark.parametrize("name", FILES)
def test_every_frame_comes_back_with_its_duration(name: str) -> None:
    with Image.open(io.BytesIO(FILES[name])) as image:
        expected = shown(image)
        assert len(expected) == 5
        assert_same(shown(pictures.to_pillow(pictures.from_pillow(image))), expected)
    picture = pictures.read(FILES[name])
    written, lost = pictures.write(picture, ".png")
    assert lost == []
    with Image.open(io.BytesIO(written)) as image:
        assert_same(shown(image), expected)
        assert image.info["loop"] == 0
    assert _same(pictures.read(written), picture)


def _same(one: Picture, other: Picture) -> bool:
    return one.metadata == other.metadata and all(map(np.array_equal, one.planes, other.planes))


def test_independent_decoders_take_what_is_written() -> None:
    """Another reader of PNG takes the first frame; the chunks are in the order of the standard."""
    written, _ = pictures.write(pictures.read(FILES["apng"]), ".png")
    reader = pypng.Reader(bytes=written)
    width, height, rows, _ = reader.read()
    assert (width, height) == (40, 30)
    np.testing.assert_array_equal(
        np.array(list(rows), np.uint8).reshape(30, 40, 3), np.asarray(frames()[0])
    )
    chunks = list(pypng.Reader(bytes=written).chunks())
    numbers = [int.from_bytes(b[:4], "big") for kind, b in chunks if kind in (b"fcTL", b"fdAT")]
    assert numbers == list(range(len(numbers)))
    assert [kind for kind, _ in chunks].index(b"acTL") < [kind for kind, _ in chunks].index(b"IDAT")


@pytest.mark.parametrize(("loop", "plays"), [(0, 0), (2, 3), (None, 1)])
def test_how_often_a_gif_plays(loop: int | None, plays: int) -> None:
    first, *others = frames()
    out = io.BytesIO()
    options = {} if loop is None else {"loop": loop}
    first.save(out, "GIF", save_all=True, append_images=others, **options)
    written, _ = pictures.write(pictures.read(out.getvalue()), ".png")
    with Image.open(io.BytesIO(written)) as image:
        assert image.info["loop"] == plays


def test_a_packed_animation(tmp_path: Path) -> None:
    source, packed = tmp_path / "film.gif", tmp_path / "film.pxz"
    source.write_bytes(FILES["gif"])
    packed.write_bytes(pixelzip.compress(source, network="none"))
    about = pixelzip.info(packed)
    assert (about.width, about.height, about.frames) == (40, 30, 5)
    assert pixelzip.peek(packed).height == 30
    with Image.open(source) as image, Image.open(packed) as back:
        expected = shown(image)
        assert back.size == (40, 30)
        assert (back.n_frames, back.is_animated) == (5, True)
        assert_same(shown(back), expected)
        back.seek(1)
        assert back.crop((0, 0, 9, 9)).size == (9, 9)
        with pytest.raises(EOFError):
            back.seek(5)
        assert back.tell() == 1
    assert_same(shown(pixelzip.decompress(packed)), expected)
    array = pixelzip.decompress_array(packed)
    assert array.shape == (5, 30, 40, 3)
    np.testing.assert_array_equal(array[2], expected[2][0][..., :3])
    with pytest.raises(pixelzip.RegionError, match="frames"):
        pixelzip.decompress(packed, region=(0, 0, 1, 1))
    with pytest.raises(UnsupportedImageError, match=r"animation; use \.png"):
        pictures.write(pictures.read(FILES["gif"]), ".tif")


def test_metadata_of_an_animation_returns() -> None:
    data = saved("GIF", comment=b"a disc")
    picture = pictures.read(data)
    names = [chunk.name for chunk in metadata.parse(picture.metadata, picture.mode)]
    assert names == ["animation", "text"]
    stripped = pictures.read(data, strip=True)
    assert metadata.frames(metadata.parse(stripped.metadata, stripped.mode)) == 5


def test_frames_that_are_missing_are_not_black() -> None:
    chunks = list(pypng.Reader(bytes=FILES["apng"]).chunks())
    last = max(number for number, (kind, _) in enumerate(chunks) if kind == b"fdAT")
    chunks[last] = (b"fdAT", chunks[last][1][:14])
    out = io.BytesIO()
    pypng.write_chunks(out, chunks)
    with pytest.raises(UnsupportedImageError, match="damaged"):
        pictures.read(out.getvalue())


@pytest.mark.parametrize("count", [0, 1, 2**31 + 1])
def test_frames_of_a_file_that_says_it_has_none_are_named(
    count: int, capfd: pytest.CaptureFixture[str]
) -> None:
    chunks = list(pypng.Reader(bytes=FILES["apng"]).chunks())
    out = io.BytesIO()
    said = (b"acTL", struct.pack(">II", count, 0))
    pypng.write_chunks(out, [said if kind == b"acTL" else (kind, body) for kind, body in chunks])
    picture = pictures.read(out.getvalue())
    np.testing.assert_array_equal(pictures.to_array(picture), np.asarray(frames()[0]))
    assert leftovers.left_behind(out.getvalue()) == ("frames of a damaged animation",)
    assert leftovers.left_behind(FILES["apng"]) == ()
    assert capfd.readouterr().err == ""


def test_damaged_counts_of_frames() -> None:
    planes = (np.zeros((7, 2, 1), np.uint8),)
    for count in (2, 8, 5000):
        chunk = metadata.Chunk(b"acTL", bytes(4) + b"\0\1\0\1" * count)
        picture = Picture("L", planes, metadata.serialise([chunk]))
        data = encode(picture, {})
        with pytest.raises(FormatError, match="frames"):
            pixelzip.info(data)
        with pytest.raises(FormatError, match="frames"):
            pixelzip.decompress_array(data)
        with pytest.raises(FormatError, match="frames"):
            pixelzip.decompress(data)
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(data))


def test_films_that_are_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_PIXELS", 40 * 30 * 4)
    with pytest.raises(LimitError, match="40x150"):
        pictures.read(FILES["gif"])


def deep_apng(
    colour_type: int,
    size: tuple[int, int],
    frames: list[tuple[tuple[int, ...], bytes]],
    *extra: object,
) -> bytes:
    """An animated PNG of 16 bits: the fields of each fcTL but its number, and big-endian rows."""
    out = io.BytesIO()
    head = struct.pack(">IIBBBBB", *size, 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"acTL", struct.pack(">II", len(frames), 3)), *extra]
    number = 0
    for at, (control, samples) in enumerate(frames):
        chunks.append((b"fcTL", struct.pack(">IIIIIHHBB", number, *control)))
        length = len(samples) // control[1]
        rows = [b"\0" + samples[n : n + length] for n in range(0, len(samples), length)]
        body = zlib.compress(b"".join(rows))
        chunks.append((b"fdAT", struct.pack(">I", number + 1) + body) if at else (b"IDAT", body))
        number += 2 if at else 1
    pypng.write_chunks(out, [*chunks, (b"IEND", b"")])
    return out.getvalue()


def test_sixteen_bit_frames() -> None:
    """Parts of frames, disposal to nothing and to what was before, and two ways to blend."""
    random = np.random.default_rng(4)
    first = random.integers(0, 65536, (3, 4, 4)).astype(np.uint16)
    part = random.integers(0, 65536, (2, 2, 4)).astype(np.uint16)
    part[..., 3] = [[0, 65535], [65535, 0]]
    frames = [
        ((4, 3, 0, 0, 1, 25, 0, 0), first.astype(">u2").tobytes()),
        ((2, 2, 2, 1, 7, 0, 2, 1), part.astype(">u2").tobytes()),
        ((2, 2, 0, 0, 1, 1000, 1, 0), part.astype(">u2").tobytes()),
        ((1, 1, 3, 2, 1, 10, 0, 0), part[:1, :1].astype(">u2").tobytes()),
    ]
    data = deep_apng(6, (4, 3), frames)
    second = first.copy()
    second[1, 3], second[2, 2] = part[0, 1], part[1, 0]
    third = first.copy()
    third[:2, :2] = part
    fourth = first.copy()
    fourth[:2, :2] = 0
    fourth[2, 3] = part[0, 0]
    picture = pictures.read(data)
    assert picture.mode == "RGBA;16"
    np.testing.assert_array_equal(pictures.to_array(picture), [first, second, third, fourth])
    times = metadata.find(metadata.parse(picture.metadata, picture.mode), b"acTL")
    assert times == struct.pack(">I8H", 3, 1, 25, 7, 100, 1, 1000, 1, 10)
    written, lost = pictures.write(picture, ".png")
    assert lost == []
    np.testing.assert_array_equal(imagecodecs.apng_decode(written), [first, second, third, fourth])
    assert _same(pictures.read(written), picture)
    assert pixelzip.info(pixelzip.compress(data, network="none")).frames == 4
    with pytest.raises(UnsupportedImageError, match="Pillow cannot hold"):
        pictures.to_pillow(picture)
    frames[1] = (frames[1][0], (part >> 1).astype(">u2").tobytes())
    with pytest.raises(UnsupportedImageError, match="shine through"):
        pictures.read(deep_apng(6, (4, 3), frames))


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2)])
def test_sixteen_bit_frames_of_other_colours(colour_type: int, channels: int) -> None:
    random = np.random.default_rng(5)
    shown = random.integers(0, 65536, (2, 3, 4, channels)).astype(np.uint16)
    frames = [((4, 3, 0, 0, 1, 9, 0, 0), frame.astype(">u2").tobytes()) for frame in shown]
    found = pictures.to_array(pictures.read(deep_apng(colour_type, (4, 3), frames)))
    colours = shown[..., :-1] if channels == 2 else shown
    np.testing.assert_array_equal(found[..., :3], np.broadcast_to(colours, (2, 3, 4, 3)))
    assert found.shape[3] == (4 if channels == 2 else 3)
    if channels == 2:
        np.testing.assert_array_equal(found[..., 3], shown[..., 1])
    else:
        key = (b"tRNS", shown[1, 2, 3].astype(">u2").tobytes())
        found = pictures.to_array(pictures.read(deep_apng(colour_type, (4, 3), frames, key)))
        assert np.argwhere(found[..., 3] == 0).tolist() == [[1, 2, 3]]


def test_damaged_sixteen_bit_frames() -> None:
    body = bytes(4 * 3 * 8)
    for control in ((4, 3, 1, 0, 1, 1, 0, 0), (4, 3, 0, 0, 1, 1, 3, 0), (4, 3, 0, 0, 1, 1, 0, 2)):
        with pytest.raises(UnsupportedImageError):
            pictures.read(deep_apng(6, (4, 3), [(control, body)] * 2))
    good = deep_apng(6, (4, 3), [((4, 3, 0, 0, 1, 1, 0, 0), body)] * 2)
    random = Random(3)
    for _ in range(300):
        with suppress(PixelzipError):
            pictures.read(damage(good, good, random))


PAGES = ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "CMYK"]


def document(mode: str, count: int = 3, **options: object) -> tuple[bytes, NDArray[np.generic]]:
    """A TIFF file of several pages, and their samples."""
    pages = []
    for number in range(count):
        page = frames()[number].convert("L" if mode == "I;16" else "RGB")
        if mode == "P":
            page = page.quantize(16, palette=frames(1)[0].quantize(16))
        elif mode == "I;16":
            page = Image.fromarray(np.asarray(page).astype(np.uint16) * 251)
        else:
            page = page.convert(mode)
        pages.append(page)
    out = io.BytesIO()
    options = {"compression": "group4" if mode == "1" else "tiff_lzw", **options}
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:], **options)
    return out.getvalue(), np.array([np.asarray(page) for page in pages])


@pytest.mark.parametrize("mode", PAGES)
def test_pages_come_back(mode: str, tmp_path: Path) -> None:
    data, samples = document(mode, dpi=(300, 300))
    packed = pixelzip.compress(data, network="none")
    about = pixelzip.info(packed)
    assert (about.mode, about.frames, about.height) == (mode, 3, 30)
    assert "pages" in about.metadata
    np.testing.assert_array_equal(pixelzip.decompress_array(packed), samples)
    written, lost = pictures.write(pictures.read(data), ".tif")
    assert lost == []
    assert _same(pictures.read(written), pictures.read(data))
    (tmp_path / "pages.pxz").write_bytes(packed)
    assert CliRunner().invoke(cli, ["decompress", str(tmp_path / "pages.pxz")]).exit_code == 0
    again = io.BytesIO()
    with (
        Image.open(tmp_path / "pages.tif") as file,
        Image.open(io.BytesIO(packed)) as image,
        Image.open(io.BytesIO(data)) as source,
    ):
        for back in (file, image, pixelzip.decompress(packed)):
            assert (back.n_frames, back.mode) == (3, mode)  # type: ignore[attr-defined]
            assert back.info["dpi"] == pytest.approx((300, 300), abs=0.001)
            for number in (2, 0, 1):
                back.seek(number)
                np.testing.assert_array_equal(np.asarray(back), samples[number])
        assert pixelzip.compress(source, network="none") == packed
        image.save(again, "PXZ", network="none")
        assert again.getvalue() == packed
    for suffix in (".png", ".webp", ".bmp"):
        with pytest.raises(UnsupportedImageError, match=r"use \.tif"):
            pictures.write(pictures.read(data), suffix)


def test_pages_that_are_not_alike_are_no_single_picture() -> None:
    out = io.BytesIO()
    images = [Image.new("L", (8, 6)), Image.new("L", (8, 7)), Image.new("RGB", (8, 6))]
    palettes = [Image.new("P", (8, 6)), Image.new("P", (8, 6))]
    palettes[0].putpalette(b"\1\2\3")
    palettes[1].putpalette(b"\1\2\4")
    for pages in (images[:2], images[::2], palettes):
        out = io.BytesIO()
        pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])
        with pytest.raises(UnsupportedImageError, match="2 pages are not of one size and kind"):
            pictures.read(out.getvalue())


def pyramid(mode: str, kinds: tuple[int, ...] = (1, 1)) -> tuple[bytes, Image.Image]:
    """A TIFF file of a picture and smaller versions of it, and the picture."""
    image = frames()[0].convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 251)
    out = io.BytesIO()
    with AppendingTiffWriter(out, True) as writer:
        image.save(writer, "TIFF")
        writer.newFrame()
        for number, kind in enumerate(kinds):
            image.resize((20 >> number, 15)).save(writer, "TIFF", tiffinfo={254: kind})
            writer.newFrame()
    return out.getvalue(), image


@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_smaller_versions_of_a_picture_are_no_pages(mode: str) -> None:
    data, image = pyramid(mode)
    picture = pictures.read(data)
    np.testing.assert_array_equal(pictures.to_array(picture), np.asarray(image))
    assert leftovers.left_behind(data) == ("smaller images of a TIFF",)
    with Image.open(io.BytesIO(data)) as opened:
        assert _same(pictures.from_pillow(opened), picture)
    other, _ = pyramid(mode, (1, 0))
    with pytest.raises(UnsupportedImageError, match="its 3 pages"):
        pictures.read(other)


def test_what_later_pages_say_is_kept() -> None:
    data, _ = document("L")
    assert leftovers.left_behind(data) == ()
    out = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image, AppendingTiffWriter(out, True) as writer:
        for number in range(3):
            image.seek(number)
            image.copy().save(writer, "TIFF", tiffinfo={297: (number, 3), 270: "the same"})
            writer.newFrame()
    assert leftovers.left_behind(out.getvalue()) == ()  # their numbers are known
    assert len(pictures.read(out.getvalue()).metadata) > len(pictures.read(data).metadata)
    out = io.BytesIO()
    with Image.open(io.BytesIO(data)) as image, AppendingTiffWriter(out, True) as writer:
        for number in range(3):
            image.seek(number)
            image.copy().save(writer, "TIFF", tiffinfo={270: f"page {number}"})
            writer.newFrame()
    assert leftovers.left_behind(out.getvalue()) == ()  # each page has its own
    assert len(pictures.read_pages(out.getvalue())) == 3


def test_damaged_counts_of_pages() -> None:
    planes = (np.zeros((6, 2, 1), np.uint8),)
    for count in (4, 7, 0, 1, 2**31):
        chunk = metadata.Chunk(b"pages", count.to_bytes(4, "big"))
        data = encode(Picture("L", planes, metadata.serialise([chunk])), {})
        with pytest.raises(FormatError, match="damaged"):
            pixelzip.info(data)
        with pytest.raises(FormatError, match="damaged"):
            pixelzip.decompress(data)
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(data))


# Sequences in AVIF and HEIC files.


def test_avif_sequences_come_back() -> None:
    data = saved("AVIF")
    packed = pixelzip.compress(data, network="none")
    with Image.open(io.BytesIO(data)) as image, pixelzip.decompress(packed) as back:
        assert_same(shown(back), shown(image))
        assert back.info["loop"] == 0
        assert pixelzip.compress(image, network="none") == packed
    assert leftovers.left_behind(data) == ()
    assert pixelzip.info(packed).frames == 5


def test_how_often_an_avif_plays() -> None:
    data = saved("AVIF", loop=0)
    edits, track = data.index(b"elst") + 4, data.index(b"tkhd") + 4
    length = int.from_bytes(data[edits + 8 : edits + 16], "big")
    for times in (1, 2, 7):
        patched = bytearray(data)
        patched[track + 28 : track + 36] = (times * length - 1).to_bytes(8, "big")
        with pixelzip.decompress(pixelzip.compress(bytes(patched), network="none")) as back:
            assert back.info["loop"] == times
    once = data[: edits + 3] + b"\0" + data[edits + 4 :]
    assert isobmff.plays_of(once) == 1
    assert isobmff.plays_of(data[:track]) == isobmff.plays_of(b"") == 0


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_deep_avif_sequences_come_back(channels: int) -> None:
    samples = np.arange(3 * 16 * 16 * channels, dtype=np.uint16).reshape(3, 16, 16, channels)
    samples = samples[..., 0] if channels == 1 else samples
    data = imagecodecs.avif_encode(samples, bitspersample=10)
    packed = pixelzip.compress(data, network="none")
    shown = imagecodecs.avif_decode(data) << 6
    np.testing.assert_array_equal(pixelzip.decompress_array(packed), shown)
    assert pixelzip.info(packed).frames == 3
    film, lost = pictures.write(pictures.read(data), ".png")
    assert lost == []
    with Image.open(io.BytesIO(data)) as image, Image.open(io.BytesIO(film)) as back:
        for number in range(3):
            for one in (image, back):
                one.seek(number)
                one.load()
            assert image.info["duration"] == back.info["duration"] > 0


MOOV = b"\0\0\0\x08moov"


def test_frames_beside_an_avif_are_named() -> None:
    out = io.BytesIO()
    frames()[0].save(out, "AVIF")
    assert leftovers.left_behind(out.getvalue() + MOOV) == ("frames of a sequence",)
    assert _same(pictures.read(out.getvalue() + MOOV), pictures.read(out.getvalue()))


def test_what_is_beside_a_heic_is_named() -> None:
    heif = pytest.importorskip("pillow_heif")
    first, second, *_ = frames()
    file = heif.from_pillow(first.resize((80, 60)))
    alone = io.BytesIO()
    file.save(alone)
    assert leftovers.left_behind(alone.getvalue()) == ()
    assert leftovers.left_behind(alone.getvalue() + MOOV) == ("frames of a sequence",)
    file.info["thumbnails"] = [32]
    file.add_from_pillow(second)
    out = io.BytesIO()
    file.save(out)
    names = ("1 more images of a HEIC file", "thumbnails")
    assert leftovers.left_behind(out.getvalue()) == names
    sequence = b"\0\0\0\x10ftypmsf1\0\0\0\0" + MOOV
    with pytest.raises(UnsupportedImageError, match="sequences of HEIC pictures"):
        pictures.read(sequence)
