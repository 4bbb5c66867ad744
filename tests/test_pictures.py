"""Image files to pictures and back: pixels, modes, metadata, and what is refused.

The PNG files are made and taken apart by pypng, which shares no code with Pillow or with us.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import png as pypng
import pytest
import room
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageDraw, ImageFile, TiffImagePlugin
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import IFDRational

from pixelzip import api, metadata, pictures
from pixelzip.codec.container import MAX_METADATA
from pixelzip.codec.encode import encode
from pixelzip.codec.errors import FormatError, LimitError, PixelzipError, UnsupportedImageError
from pixelzip.codec.picture import MODES, Picture
from pixelzip.codec.workers import side_by_side
from pixelzip.leftovers import left_behind
from pixelzip.metadata import Chunk

Chunks = list[tuple[bytes, bytes]]


def chunks_of(data: bytes) -> Chunks:
    """What pypng finds in a PNG besides its header and its pixels, decompressed."""
    found = []
    for kind, body in pypng.Reader(bytes=data).chunks():
        if kind in (b"iCCP", b"zTXt"):
            name, rest = body.split(b"\0", 1)
            body = name + b"\0" + zlib.decompress(rest[1:])
        elif kind == b"iTXt":
            keyword, rest = body.split(b"\0", 1)
            language, translated, text = rest[2:].split(b"\0", 2)
            text = zlib.decompress(text) if rest[0] else text
            body = b"|".join([keyword, rest[:1], language, translated, text])
        if kind not in (b"IHDR", b"IDAT", b"IEND"):
            found.append((kind, bytes(body)))
    return found


def with_chunks(data: bytes, chunks: Chunks) -> bytes:
    """The PNG with these chunks after its palette, or else after its header."""
    parts = list(pypng.Reader(bytes=data).chunks())
    places = [place for place, (kind, _) in enumerate(parts) if kind in (b"IHDR", b"PLTE")]
    parts[places[-1] + 1 : places[-1] + 1] = chunks
    out = io.BytesIO()
    pypng.write_chunks(out, parts)
    return out.getvalue()


def saved(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format_, **options)
    return out.getvalue()


def assert_same_picture(one: Picture, other: Picture) -> None:
    assert one.mode == other.mode
    for mine, theirs in zip(one.planes, other.planes, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert one.metadata == other.metadata


def round_trip(data: bytes) -> bytes:
    written, lost = pictures.write(pictures.read(data), ".png")
    assert lost == []
    return written


@pytest.fixture
def photo(crop_paths: list[Path]) -> Image.Image:
    """A photograph's crop that comes without metadata of its own."""
    with Image.open(next(path for path in crop_paths if "parrot" in path.name)) as image:
        return Image.fromarray(np.asarray(image))


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
EXIF = Image.Exif()
EXIF[0x0112] = 6  # orientation: turned by 90 degrees
EXIF[0x010F] = "Tests & Sons"
EXIF[0x8769] = {0x829A: (1, 250), 0x9003: "2024:05:06 07:08:09"}
EXIF_BYTES = EXIF.tobytes().removeprefix(b"Exif\0\0")
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a>\xc3\xa9</a></x:xmpmeta>'

KINDS: dict[str, tuple[bytes, bytes]] = {
    "icc": (b"iCCP", b"My profile\0\0" + zlib.compress(PROFILE)),
    "srgb": (b"sRGB", b"\2"),
    "gamma": (b"gAMA", struct.pack(">I", 45455)),
    "odd-gamma": (b"gAMA", struct.pack(">I", 1)),
    "chromaticity": (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33001, 3, 60000, 0, 6000)),
    "cicp": (b"cICP", b"\x09\x10\0\1"),
    "dpi": (b"pHYs", struct.pack(">IIB", 11811, 11810, 1)),
    "aspect": (b"pHYs", struct.pack(">IIB", 3, 2, 0)),
    "exif": (b"eXIf", EXIF_BYTES),
    "xmp": (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    "text": (b"tEXt", b"Author\0J\xfcrgen"),
    "empty-text": (b"tEXt", b"Comment\0"),
    "compressed-text": (b"zTXt", b"Comment\0\0" + zlib.compress(b"words " * 500)),
    "itxt": (b"iTXt", "Title\0\0\0fr\0Titre\0Été à la mer".encode()),
    "compressed-itxt": (b"iTXt", b"T\0\1\0ja\0\xe9\xa1\x8c\0" + zlib.compress(b"\xe6\xb5\xb7" * 9)),
    "colour-key": (b"tRNS", struct.pack(">3H", 1, 2, 3)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_png_metadata_returns(kind: str, photo: Image.Image) -> None:
    data = with_chunks(saved(photo), [KINDS[kind]])
    assert len(chunks_of(data)) == 1
    assert chunks_of(round_trip(data)) == chunks_of(data)


def test_all_metadata_at_once_returns_in_order(photo: Image.Image) -> None:
    data = with_chunks(saved(photo), list(KINDS.values()))
    before, after = chunks_of(data), chunks_of(round_trip(data))
    assert sorted(after) == sorted(before)
    texts = (b"tEXt", b"zTXt", b"iTXt")
    assert [c for c in after if c[0] in texts] == [c for c in before if c[0] in texts]
    with Image.open(io.BytesIO(data)) as want, Image.open(io.BytesIO(round_trip(data))) as got:
        assert got.info == want.info
        np.testing.assert_array_equal(got, want)


def test_long_text_that_pillow_refuses_returns(photo: Image.Image) -> None:
    body = b"Workflow\0" + b"node " * 400_000
    data = with_chunks(saved(photo), [(b"tEXt", body), (b"zTXt", b"Z\0\0" + zlib.compress(body))])
    assert chunks_of(round_trip(data)) == chunks_of(data)


def test_no_metadata_is_no_bytes(photo: Image.Image) -> None:
    assert pictures.read(saved(photo)).metadata == b""


def test_strip_keeps_only_the_look(photo: Image.Image) -> None:
    data = with_chunks(saved(photo), list(KINDS.values()))
    picture = pictures.read(data, strip=True)
    assert chunks_of(pictures.write(picture, ".png")[0]) == [KINDS["colour-key"]]


OTHERS = [
    (b"sBIT", b"\5\6\5"),
    (b"bKGD", bytes(6)),
    (b"tIME", b"\7\xe8\2\x1d\1\2\3"),
    (b"caBX", b"jumbf"),
    (b"prVt", b"anything"),
    (b"sPLT", b"name\0\x08" + bytes(6)),
]


def test_all_other_chunks_return_in_their_places(photo: Image.Image) -> None:
    """Whatever a PNG says before its pixels and after them comes back just there."""
    parts = list(pypng.Reader(bytes=with_chunks(saved(photo), OTHERS[:3])).chunks())
    parts[-1:-1] = [*OTHERS[3:], KINDS["text"]]
    out = io.BytesIO()
    pypng.write_chunks(out, parts)
    picture = pictures.read(out.getvalue())
    back = list(pypng.Reader(bytes=round_trip(out.getvalue())).chunks())
    places = [kind for kind, _ in parts]
    assert list(dict.fromkeys(kind for kind, _ in back)) == places
    assert dict(back) | {b"IDAT": b""} == dict(parts) | {b"IDAT": b""}
    names = {chunk.name for chunk in metadata.parse(picture.metadata, "RGB")}
    assert names >= {"C2PA", "prVt chunk", "time of change", "significant bits"}
    assert pictures.read(round_trip(out.getvalue())).metadata == picture.metadata


def test_chunks_of_a_palette_image_keep_their_side_of_the_palette() -> None:
    image = Image.new("P", (4, 4))
    image.putpalette(bytes(12))
    parts = list(pypng.Reader(bytes=saved(image)).chunks())
    at = [kind for kind, _ in parts].index(b"PLTE")
    parts[at:at] = [(b"sBIT", b"\5\6\5"), (b"prVt", b"before")]
    parts[at + 3 : at + 3] = [(b"bKGD", b"\1"), (b"abCd", b"after")]
    out = io.BytesIO()
    pypng.write_chunks(out, parts)
    back = list(pypng.Reader(bytes=round_trip(out.getvalue())).chunks())
    assert list(dict.fromkeys(kind for kind, _ in back)) == [kind for kind, _ in parts]


def test_the_background_of_few_bit_grey_is_spread_with_it() -> None:
    out = io.BytesIO()
    pypng.Writer(2, 1, bitdepth=4, background=(9,)).write(out, [[9, 0]])
    back = pypng.Reader(bytes=round_trip(out.getvalue()))
    _, _, rows, about = back.read()
    assert [list(row) for row in rows] == [[9 * 17, 0]]
    assert about["background"] == (9 * 17,)


def test_comments_and_iptc_return(photo: Image.Image) -> None:
    resources = b"8BIM\4\4\0\0\0\0\0\x0b\x1c\2\x78\0\6Orchid\0"
    jpeg = saved(photo, "JPEG", comment=b"first")
    more = b"".join(
        b"\xff" + marker + (len(body) + 2).to_bytes(2, "big") + body
        for marker, body in ((b"\xed", b"Photoshop 3.0\0" + resources), (b"\xfe", b"s\xe9cond"))
    )
    picture = pictures.read(jpeg[:2] + more + jpeg[2:])
    texts = [c for c in metadata.parse(picture.metadata, "RGB") if c.kind in (b"tEXt", b"zTXt")]
    assert [chunk.name for chunk in texts] == ["IPTC", "text", "text"]
    assert [chunk.body for chunk in texts[1:]] == [b"Comment\0s\xe9cond", b"Comment\0first"]
    with Image.open(io.BytesIO(pictures.write(picture, ".png")[0])) as image:
        _, name, length, *lines = image.text["Raw profile type iptc"].split("\n")
    assert (name, int(length)) == ("iptc", len(resources))
    assert bytes.fromhex("".join(lines)) == resources
    gif = saved(photo.convert("P"), "GIF", comment=b"of a gif")
    assert b"Comment\0of a gif" in pictures.read(gif).metadata


def test_all_tags_of_a_tiff_file_return(photo: Image.Image) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[269] = "map.tif"  # its document
    tags[33550] = (0.5, 0.25, 0.0)  # GeoTIFF: the size of a pixel
    tags[33723] = b"\x1c\2\x78\0\6Orchid"  # IPTC
    tags[65000] = (1, 2, 70000)
    tags[33432] = "Tests & Sons"
    data = saved(photo, "TIFF", tiffinfo=tags, compression="tiff_lzw")
    picture = pictures.read(data)
    again, lost = pictures.write(picture, ".tif")
    assert lost == []
    with Image.open(io.BytesIO(again)) as back:
        for tag in (269, 33550, 33432, 33723, 65000):
            assert back.tag_v2[tag] == tags[tag]
        assert 282 not in back.tag_v2  # no resolution, as before


# What decompress gives a Pillow user is what Pillow itself finds in the original.


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"cicp"}))
def test_pillow_sees_the_same_info(kind: str, photo: Image.Image) -> None:
    data = with_chunks(saved(photo), [KINDS[kind]])
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert pictures.to_pillow(pictures.read(data)).info == image.info
        # The same again for an image that comes from Pillow instead of from a file.
        assert pictures.to_pillow(pictures.from_pillow(image)).info == image.info


def test_jpeg_metadata_returns(photo: Image.Image) -> None:
    data = saved(photo, "JPEG", exif=EXIF, icc_profile=PROFILE, dpi=(300, 299), xmp=XMP, quality=95)
    got = pictures.to_pillow(pictures.read(data))
    with Image.open(io.BytesIO(data)) as want:
        np.testing.assert_array_equal(got, want)
        assert got.size == photo.size  # the orientation is kept, not applied
        assert got.getexif()[0x0112] == 6
        assert got.info["exif"] == want.info["exif"]
        assert got.info["icc_profile"] == PROFILE
        assert got.info["xmp"] == XMP
        assert [round(side) for side in got.info["dpi"]] == [300, 299]


def test_jpeg_without_resolution_gets_none(photo: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x011A] = 96.0  # Pillow would report it as the file's own resolution
    exif[0x0128] = 2
    data = saved(photo, "JPEG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        assert "dpi" in image.info
    names = [chunk.name for chunk in metadata.parse(pictures.read(data).metadata, "RGB")]
    assert names == ["EXIF"]


@pytest.mark.parametrize("suffix", [".tif", ".bmp", ".png"])
def test_what_is_written_without_a_resolution_has_none(photo: Image.Image, suffix: str) -> None:
    written, lost = pictures.write(pictures.from_pillow(photo), suffix)
    assert (pictures.read(written).metadata, lost) == (b"", [])
    photo.info["dpi"] = (300, 300)
    written, _ = pictures.write(pictures.from_pillow(photo), suffix)
    with Image.open(io.BytesIO(written)) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.001)


def test_tiff_metadata_goes_in_and_out(photo: Image.Image) -> None:
    exif = Image.Exif()
    exif.load(EXIF.tobytes())
    exif[700] = XMP
    data = saved(photo, "TIFF", exif=exif, icc_profile=PROFILE, dpi=(300, 150))
    picture = pictures.read(data)
    again, lost = pictures.write(picture, ".tif")
    assert lost == []
    for stage in (pictures.to_pillow(picture), Image.open(io.BytesIO(again))):
        assert stage.info["icc_profile"] == PROFILE
        assert stage.info["xmp"] == XMP
        assert [round(side) for side in stage.info["dpi"]] == [300, 150]
        exif = stage.getexif()
        assert (exif[0x0112], exif[0x010F]) == (6, "Tests & Sons")
        assert exif.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_pixels_stay_as_they_lie(orientation: int, photo: Image.Image) -> None:
    photo = photo.crop((0, 0, 20, 30))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photo, "TIFF", exif=exif.tobytes())
    picture = pictures.read(data)
    np.testing.assert_array_equal(pictures.to_array(picture), photo)
    again = pictures.write(picture, ".tif")[0]
    with Image.open(io.BytesIO(data)) as want, Image.open(io.BytesIO(again)) as got:
        np.testing.assert_array_equal(got, want)  # both are turned upright by Pillow


def test_webp_metadata_returns(photo: Image.Image) -> None:
    data = saved(photo, "WEBP", lossless=True, exif=EXIF, icc_profile=PROFILE, xmp=XMP)
    got = pictures.to_pillow(pictures.read(data))
    np.testing.assert_array_equal(got, photo)
    assert got.getexif()[0x0112] == 6
    assert got.info["icc_profile"] == PROFILE
    assert got.info["xmp"] == XMP


def test_formats_that_lose_metadata_say_so(photo: Image.Image) -> None:
    data = with_chunks(saved(photo), [KINDS["icc"], KINDS["exif"], KINDS["dpi"], KINDS["text"]])
    picture = pictures.read(data)
    assert pictures.write(picture, ".ppm")[1] == ["EXIF", "ICC profile", "resolution", "text"]
    assert pictures.write(picture, ".bmp")[1] == ["EXIF", "ICC profile", "text"]
    assert pictures.write(picture, ".tif")[1] == ["text"]


def test_a_profile_without_a_name_is_the_same_in_a_png(photo: Image.Image) -> None:
    """Which has to call it something: what a TIFF file holds comes back of a PNG file of it."""
    picture = pictures.read(saved(photo, "TIFF", icc_profile=PROFILE))
    png, lost = pictures.write(picture, ".png")
    assert lost == []
    assert pictures.read(png).metadata == picture.metadata
    named = pictures.read(with_chunks(saved(photo), [KINDS["icc"]]))
    assert pictures.read(pictures.write(named, ".png")[0]).metadata == named.metadata
    assert named.metadata != picture.metadata


# Modes and sizes.


def arrays(mode: str, width: int, height: int, seed: int) -> NDArray[Any]:
    """Random samples of a mode: (height, width) or (height, width, channels)."""
    rng = np.random.default_rng(seed)
    channels = pictures.samples_per_pixel(mode)
    shape = (height, width) if channels == 1 else (height, width, channels)
    if mode == "1":
        return rng.integers(0, 2, shape).astype(bool)
    kind = np.uint16 if mode.endswith(";16") else np.uint8
    return rng.integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)


SIDES = st.integers(1, 40)
SEEDS = st.integers(0, 2**32 - 1)


@given(st.sampled_from(sorted(set(MODES) - {"P", "CMYK", "CMYK;16"})), SIDES, SIDES, SEEDS)
def test_arrays_of_all_modes_return(mode: str, width: int, height: int, seed: int) -> None:
    array = arrays(mode, width, height, seed)
    picture = pictures.from_array(array)
    assert picture.mode == mode
    assert [plane.shape for plane in picture.planes] == [(height, width, c) for c in MODES[mode]]
    back = pictures.to_array(picture)
    np.testing.assert_array_equal(back, array)
    assert back.dtype == array.dtype
    swapped = array.astype(array.dtype.newbyteorder())
    assert_same_picture(pictures.from_array(swapped), picture)
    data, _ = pictures.write(picture, ".png")
    assert_same_picture(pictures.read(data), picture)
    loaded = np.load(io.BytesIO(pictures.write(picture, ".npy")[0]))
    np.testing.assert_array_equal(loaded, array)
    # pypng reads what we wrote.
    _, _, rows, _ = pypng.Reader(bytes=data).read()
    np.testing.assert_array_equal(np.vstack(list(rows)).reshape(array.shape), array)


@given(
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from([8, 16]),
    st.booleans(),
    st.tuples(SIDES, SIDES, SEEDS),
)
def test_foreign_png_files_are_read(
    channels: int, depth: int, interlace: bool, rest: tuple[int, int, int]
) -> None:
    width, height, seed = rest
    base = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    deep = {"L": "I;16"}.get(base, base + ";16")
    array = arrays(deep if depth == 16 else base, width, height, seed)
    out = io.BytesIO()
    pypng.Writer(
        width,
        height,
        greyscale=channels < 3,
        alpha=channels in (2, 4),
        bitdepth=depth,
        interlace=interlace,
    ).write(out, array.reshape(height, -1).tolist())
    picture = pictures.read(out.getvalue())
    np.testing.assert_array_equal(pictures.to_array(picture), array)


@given(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]), SIDES, SIDES, SEEDS)
def test_pillow_images_of_all_modes_return(mode: str, width: int, height: int, seed: int) -> None:
    if mode == "P":
        image = Image.fromarray(arrays("L", width, height, seed)).convert("P")
        image.putpalette(np.random.default_rng(seed).bytes(768))
    else:
        image = Image.fromarray(arrays(mode, width, height, seed))
    assert image.mode == mode
    back = pictures.to_pillow(pictures.from_pillow(image))
    assert back.mode == mode
    assert back.size == image.size
    assert back.tobytes() == image.tobytes()
    assert back.getpalette() == image.getpalette()


@given(
    st.integers(1, 256),
    st.one_of(st.none(), st.integers(0, 255), st.binary(min_size=1, max_size=256)),
    st.tuples(SIDES, SIDES, SEEDS),
)
def test_palettes_return(
    colours: int, transparency: int | bytes | None, rest: tuple[int, int, int]
) -> None:
    width, height, seed = rest
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, colours, (height, width), dtype=np.uint8)
    image = Image.frombytes("P", (width, height), indices.tobytes())
    image.putpalette(rng.bytes(3 * colours))
    if isinstance(transparency, int):
        transparency %= colours
    options = {} if transparency is None else {"transparency": transparency}
    data = saved(image, **options)
    assert chunks_of(round_trip(data)) == chunks_of(data)
    with Image.open(io.BytesIO(data)) as want, Image.open(io.BytesIO(round_trip(data))) as got:
        assert (got.mode, got.size) == ("P", (width, height))
        assert got.convert("RGBA").tobytes() == want.convert("RGBA").tobytes()
        assert got.tobytes() == want.tobytes()
        assert got.getpalette() == want.getpalette()


def test_palette_with_alpha_from_pillow_returns() -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette(bytes([1, 2, 3, 255, 4, 5, 6, 77]), "RGBA")
    back = pictures.to_pillow(pictures.from_pillow(image))
    assert back.convert("RGBA").getpixel((0, 0)) == (4, 5, 6, 77)


def test_indices_beyond_the_palette_return() -> None:
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 200]))
    image.putpalette(bytes([9, 8, 7, 6, 5, 4]))
    picture = pictures.from_pillow(image)
    with Image.open(io.BytesIO(pictures.write(picture, ".png")[0])) as back:
        assert back.tobytes() == bytes([0, 1, 200])
        assert back.getpalette()[:6] == [9, 8, 7, 6, 5, 4]


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_few_bit_grey_keeps_its_levels_and_its_transparent_one(depth: int) -> None:
    levels = np.arange(3 * 2**depth).reshape(3, -1) % 2**depth
    out = io.BytesIO()
    writer = pypng.Writer(levels.shape[1], 3, greyscale=True, bitdepth=depth, transparent=1)
    writer.write(out, levels.tolist())
    with Image.open(io.BytesIO(out.getvalue())) as want:
        picture = pictures.read(out.getvalue())
        assert picture.mode == want.mode == ("1" if depth == 1 else "L")
        got = pictures.to_pillow(picture)
        np.testing.assert_array_equal(got, want)
    alpha = np.asarray(got.convert("RGBA"))[..., 3]
    np.testing.assert_array_equal(alpha == 0, levels == 1)


@pytest.mark.parametrize(("mode", "value"), [("1", 255), ("L", 77), ("I;16", 54321)])
def test_transparent_grey_returns(mode: str, value: int) -> None:
    image = Image.new(mode, (3, 2))
    data = saved(image, transparency=1 if mode == "1" else value)
    got = pictures.to_pillow(pictures.read(data))
    assert got.info == {"transparency": value}
    assert pictures.from_pillow(got).metadata == pictures.read(data).metadata


@pytest.mark.parametrize("format_", ["TIFF", "PPM"])
def test_sixteen_bit_grey_of_other_formats_returns(format_: str) -> None:
    array = arrays("I;16", 31, 17, 5)
    picture = pictures.read(saved(Image.fromarray(array), format_))
    assert picture.mode == "I;16"
    np.testing.assert_array_equal(pictures.to_array(picture), array)
    suffix = {"TIFF": ".tif", "PPM": ".pgm"}[format_]
    with Image.open(io.BytesIO(pictures.write(picture, suffix)[0])) as back:
        np.testing.assert_array_equal(back, array)


def test_big_endian_tiff_returns() -> None:
    array = arrays("I;16", 31, 17, 6)
    image = Image.frombytes("I;16B", (31, 17), array.astype(">u2").tobytes())
    picture = pictures.read(saved(image, "TIFF"))
    assert picture.mode == "I;16"
    np.testing.assert_array_equal(pictures.to_array(picture), array)


WRITTEN = [
    *((suffix, mode) for suffix in (".tif", ".tiff") for mode in ("1", "L", "LA", "P", "RGB")),
    *((".tif", mode) for mode in ("RGBA", "I;16")),
    *((".bmp", mode) for mode in ("1", "L", "P", "RGB")),
    (".pbm", "1"),
    (".pgm", "L"),
    (".ppm", "RGB"),
    (".pnm", "RGB"),
    (".PNG", "RGBA"),
    *((".webp", mode) for mode in ("RGB", "RGBA")),
]


@pytest.mark.parametrize(("suffix", "mode"), WRITTEN)
def test_written_formats_hold_the_same_pixels(suffix: str, mode: str, photo: Image.Image) -> None:
    image = photo.convert("I;16" if mode == "I;16" else mode)
    if image.mode == "RGBA":
        image.putpixel((0, 0), (1, 2, 3, 0))
    data, _ = pictures.write(pictures.from_pillow(image), suffix)
    with Image.open(io.BytesIO(data)) as back:
        assert back.mode == image.mode
        assert back.tobytes() == image.tobytes()
        assert back.convert("RGB").tobytes() == image.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("suffix", "mode", "sentence"),
    [
        (".jpg", "RGB", ".jpg files cannot be written without loss; use .png, "),
        (".webp", "L", ".webp cannot hold an image of mode L; use .png"),
        (".bmp", "RGBA", ".bmp cannot hold an image of mode RGBA; use .png"),
        (".ppm", "LA", ".ppm cannot hold an image of mode LA; use .png"),
        (".webp", "CMYK", ".webp cannot hold an image of mode CMYK; use .tif"),
        (".png", "CMYK", ".png cannot hold an image of mode CMYK; use .tif"),
        (".npy", "P", ".npy cannot hold an image of mode P; use .png"),
    ],
)
def test_output_that_would_lose_pixels_is_refused(suffix: str, mode: str, sentence: str) -> None:
    planes = tuple(np.zeros((2, 2, channels), np.uint8) for channels in MODES[mode])
    with pytest.raises(UnsupportedImageError, match=re.escape(sentence)):
        pictures.write(Picture(mode, planes), suffix)


def test_output_that_would_lose_transparency_is_refused() -> None:
    image = Image.new("P", (2, 2))
    image.putpalette(bytes(6))
    image.info["transparency"] = 1
    with pytest.raises(UnsupportedImageError, match=r"mode P with transparency; use \.png"):
        pictures.write(pictures.from_pillow(image), ".bmp")


# What cannot be kept.


def animation(format_: str) -> bytes:
    frames = [Image.new("RGB", (8, 8), (40 * n, 0, 0)) for n in range(3)]
    ImageDraw.Draw(frames[1]).line([(0, 0), (7, 7)], "white")
    return saved(frames[0], format_, save_all=True, append_images=frames[1:])


REFUSED = {
    "float": (saved(Image.new("F", (3, 3)), "TIFF"), "floating-point pixels cannot be kept"),
    "int32": (saved(Image.new("I", (3, 3)), "TIFF"), "32-bit integer pixels cannot be kept"),
    "lab": (saved(Image.new("LAB", (3, 3)), "TIFF"), "images of mode LAB cannot be kept"),
    "odd-ppm": (b"P6 2 1 1023\n" + bytes(12), "samples from 0 to 1023 cannot be kept"),
    "nothing": (b"", "the file is empty"),
    "words": (b"Dear diary,\n" * 9, "the file is not an image that pixelzip reads"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_kept_is_refused_in_one_sentence(case: str) -> None:
    data, sentence = REFUSED[case]
    with pytest.raises(UnsupportedImageError, match=re.escape(sentence)) as caught:
        pictures.read(data)
    assert "\n" not in str(caught.value)


def test_frames_that_are_not_known_are_refused() -> None:
    still = saved(Image.new("L", (3, 3)), "IM")
    three = io.BytesIO(still.replace(b"images): 1", b"images): 3"))
    with (
        Image.open(three) as image,
        pytest.raises(UnsupportedImageError, match="the image has 3 frames or pages"),
    ):
        pictures.from_pillow(image)


def test_mpo_is_taken_as_the_jpeg_that_it_is(photo: Image.Image) -> None:
    data = saved(photo, "MPO", save_all=True, append_images=[photo])
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 2
        np.testing.assert_array_equal(pictures.to_pillow(pictures.read(data)), image)


def test_names_of_damaged_chunks_are_no_lines(photo: Image.Image) -> None:
    data = saved(photo)
    at = data.index(b"IDAT")
    with pytest.raises(UnsupportedImageError, match="its IDAT chunk has changed"):
        pictures.read(data[: at + 9] + b"?" + data[at + 10 :])
    with pytest.raises(UnsupportedImageError, match="a chunk has changed"):
        pictures.read(data[:at] + b"I\n\r\0" + data[at + 4 :])


def test_damaged_files_are_refused(photo: Image.Image) -> None:
    data = with_chunks(saved(photo), [KINDS["text"]])
    for damaged in (data[: len(data) // 2], data[:-12], data[:20], data[:8]):
        with pytest.raises(UnsupportedImageError, match="damaged PNG"):
            pictures.read(damaged)
    for place in range(9, len(data), 97):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(PixelzipError):
            pictures.read(bytes(changed))
    jpeg = saved(photo, "JPEG")
    with pytest.raises(UnsupportedImageError, match=r"the file is damaged: (?i:.*truncated)"):
        pictures.read(jpeg[: len(jpeg) // 2])


def test_damaged_metadata_can_be_stripped(photo: Image.Image) -> None:
    data = with_chunks(saved(photo), [(b"iCCP", b"broken\0\0not a zlib stream")])
    with pytest.raises(UnsupportedImageError, match=r"ICC profile .* is damaged; strip"):
        pictures.read(data)
    np.testing.assert_array_equal(pictures.to_pillow(pictures.read(data, strip=True)), photo)


def test_too_large_is_refused_before_it_is_decoded() -> None:
    def claiming(width: int, height: int) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        out = io.BytesIO()
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(99))), (b"IEND", b"")]
        pypng.write_chunks(out, chunks)
        return out.getvalue()

    for size in ((2**14, 2**13 + 1), (2**20, 2**20)):
        with pytest.raises(LimitError, match="more than the limit of 134217728 pixels"):
            pictures.read(claiming(*size))


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((2, 2), np.float32), "arrays of float32 cannot be kept"),
        (np.zeros((2, 2), np.int64), "arrays of int64 cannot be kept"),
        (np.zeros((2, 2, 3), bool), "arrays of bool cannot be kept"),
        (np.zeros((2, 2, 5), np.uint8), "an array of shape (2, 2, 5) is not an image"),
        (np.zeros(4, np.uint8), "an array of shape (4,) is not an image"),
        (np.zeros((0, 4), np.uint8), "an array of shape (0, 4) is not an image"),
    ],
)
def test_arrays_that_are_no_images_are_refused(array: NDArray[Any], sentence: str) -> None:
    with pytest.raises(UnsupportedImageError, match=re.escape(sentence)):
        pictures.from_array(array)


def test_arrays_may_be_views(photo: Image.Image) -> None:
    pixels = np.asarray(photo)
    for view in (pixels[::2, ::-1], pixels.transpose(1, 0, 2), pixels[..., ::-1]):
        np.testing.assert_array_equal(pictures.to_array(pictures.from_array(view)), view)


# The bytes of the metadata are a file format: they must not change, and nothing may break them.


def test_metadata_bytes_are_as_specified() -> None:
    chunks = (Chunk(b"sRGB", b"\2"), Chunk(b"tEXt", b"k\0" + b"v" * 200))
    assert metadata.serialise(chunks) == b"\x03\x01\x02" + b"\x09\xca\x01k\0" + b"v" * 200
    assert metadata.parse(metadata.serialise(chunks), "RGB") == chunks
    numbers = {kind: number for number, kind in enumerate(metadata.KINDS)}
    assert numbers == {
        b"PLTE": 0,
        b"tRNS": 1,
        b"iCCP": 2,
        b"sRGB": 3,
        b"gAMA": 4,
        b"cHRM": 5,
        b"cICP": 6,
        b"pHYs": 7,
        b"eXIf": 8,
        b"tEXt": 9,
        b"zTXt": 10,
        b"iTXt": 11,
        b"IDAT": 12,
        b"": 13,
        b"acTL": 14,
        b"pages": 15,
    }


@given(st.sampled_from(sorted(set(MODES) - {"CMYK", "CMYK;16"})), st.binary(max_size=60))
def test_hostile_metadata_is_refused_or_means_itself(mode: str, data: bytes) -> None:
    try:
        chunks = metadata.parse(data, mode)
    except FormatError:
        return
    assert metadata.serialise(chunks) == data
    metadata.to_pillow(chunks, mode)
    if metadata.frames(chunks) != 1:
        return
    planes = tuple(np.zeros((1, 1, channels), np.uint8) for channels in MODES[mode])
    picture = Picture(mode, planes, data)
    assert pictures.read(pictures.write(picture, ".png")[0]).mode == mode


def test_text_from_pillow_comes_as_pillow_would_write_it(photo: Image.Image) -> None:
    text = PngInfo()
    text.add_text("Author", "Jürgen")
    text.add_text("Long", "word " * 99, zip=True)
    text.add_itxt("Title", "海", "ja", "題")
    data = saved(photo, pnginfo=text)
    with Image.open(io.BytesIO(data)) as image:
        picture = pictures.from_pillow(image)
    got = chunks_of(pictures.write(picture, ".png")[0])
    # Pillow forgets that a text was compressed; all else returns.
    assert got == [(k if k != b"zTXt" else b"tEXt", body) for k, body in chunks_of(data)]
    assert picture.mode == "RGB"
    photo.info["Plain"] = "wide: 海"
    (chunk,) = metadata.parse(pictures.from_pillow(photo).metadata, "RGB")
    assert chunk == Chunk(b"iTXt", b"Plain\0\0\0\0" + "wide: 海".encode())


# Hostile and damaged files: one sentence, soon, in little room.


def png_file(*chunks: tuple[bytes, bytes]) -> bytes:
    out = io.BytesIO()
    pypng.write_chunks(out, chunks)
    return out.getvalue()


def header(width: int, height: int, depth: int = 8, colour: int = 0, interlaced: int = 0) -> bytes:
    return struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)


def tiff_file(*extra: tuple[int, int, int, int]) -> bytes:
    """A grey TIFF of 2x1 pixels, with more entries (tag, type, count, value)."""
    entries = sorted(
        [(256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
         (273, 4, 1, 8), (277, 3, 1, 1), (278, 3, 1, 1), (279, 4, 1, 2), *extra]
    )  # fmt: skip
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0\x0a\0\0\0" + b"ab" + struct.pack("<H", len(entries)) + directory + bytes(4)


def refused(
    work: Callable[[bytes], object], data: bytes, error: type[Exception], match: str
) -> tuple[int, float]:
    """Most bytes that the process took meanwhile, and processor time."""
    with suppress(Exception):
        work(data[: len(data) // 2])  # what is loaded once does not count
    with room.Peak() as peak, pytest.raises(error, match=match):
        work(data)
    return peak.room, peak.seconds


def test_text_is_bounded_before_it_is_inflated(photo: Image.Image) -> None:
    text = zlib.compress(bytes(MAX_METADATA // 2))
    data = with_chunks(saved(photo), [(b"zTXt", b"k\0\0" + text)] * 20)
    match = r"more metadata than .* strip it"
    most, _ = room.alone(refused, pictures.read, data, LimitError, match)
    assert most < 3 * MAX_METADATA
    assert_same_picture(pictures.read(data, strip=True), pictures.from_pillow(photo))


def test_pieces_of_metadata_are_few(photo: Image.Image) -> None:
    text = (b"tEXt", b"k\0v")
    most = with_chunks(saved(photo), [text] * metadata.MAX_CHUNKS)
    picture = pictures.read(most)
    assert len(metadata.parse(picture.metadata, "RGB")) == metadata.MAX_CHUNKS
    with pytest.raises(LimitError, match="strip it"):
        pictures.read(with_chunks(most, [text]))


def test_a_few_bytes_of_metadata_are_not_millions_of_pieces() -> None:
    picture = Picture("L", (np.zeros((2, 2, 1), np.uint8),), b"\x08\x01x" * (MAX_METADATA // 3))
    data = encode(picture, {})
    assert len(data) < 20_000
    match = "too many pieces of metadata"
    most, seconds = room.alone(refused, api.info, data, FormatError, match)
    assert most < 3 * MAX_METADATA
    assert seconds < 10


@pytest.mark.parametrize("number", [5, 2**31 - 1])
def test_a_number_is_no_profile(number: int) -> None:
    picture = pictures.read(tiff_file((34675, 4, 1, number)))
    assert metadata.parse(picture.metadata, "L") == ()
    with pytest.raises(UnsupportedImageError, match="the file is damaged"):
        pictures.read(tiff_file((700, 4, 1, number)))  # Pillow searches what should be text


def test_exif_of_the_wrong_type() -> None:
    for kind, value in ((11, 0x3F800000), (4, 7)):  # a float, a number
        data = tiff_file((270, kind, 1, value))
        with suppress(UnsupportedImageError):
            pictures.read(data)
        pictures.read(data, strip=True)
    exif = Image.Exif()
    for wrong in (1.5, IFDRational(3, 2)):
        exif[270] = wrong
        with pytest.raises(ValueError, match="EXIF data is damaged"):
            metadata.descriptive(exif)


@pytest.mark.parametrize("size", [(2**20 + 1, 1), (1, 2**20 + 1)])
def test_limits_of_the_format_come_first(size: tuple[int, int]) -> None:
    rows = zlib.compress(bytes(size[1] * (1 + -(-size[0] // 8))))
    data = png_file((b"IHDR", header(*size, depth=1)), (b"IDAT", rows), (b"IEND", b""))
    most, seconds = room.alone(refused, pictures.read, data, LimitError, "each side may be")
    assert most < 1 << 24
    assert seconds < 1
    with pytest.raises(LimitError, match="each side may be"):
        pictures.from_array(np.zeros(size[::-1], np.uint8))
    plane = np.zeros((*size[::-1], 1), np.uint8)
    with pytest.raises(LimitError, match="each side may be"):
        encode(Picture("L", (plane,)), None, progress=lambda _: pytest.fail("it has begun"))


@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize(("depth", "colour", "bits"), [(1, 0, 1), (8, 2, 24), (16, 6, 64)])
def test_missing_rows_are_not_black_ones(
    depth: int, colour: int, bits: int, interlaced: int
) -> None:
    def data(length: int) -> bytes:
        rows = zlib.compress(bytes(length))
        return png_file(
            (b"IHDR", header(5, 9, depth, colour, interlaced)),
            (b"IDAT", rows[:9]), (b"IDAT", rows[9:]), (b"IEND", b""),
        )  # fmt: skip

    sizes = [(5, 9)]
    if interlaced:  # by hand, from the picture in PNG's specification
        sizes = [(1, 2), (1, 2), (2, 1), (1, 3), (3, 2), (2, 5), (5, 4)]
    whole = sum(height * (1 + -(-width * bits // 8)) for width, height in sizes)
    pictures.read(data(whole))
    for length in (0, 1, whole - 1):
        with pytest.raises(UnsupportedImageError, match="damaged"):
            pictures.read(data(length))


def test_two_headers_are_one_too_many() -> None:
    end = [(b"IDAT", zlib.compress(bytes(300))), (b"IEND", b"")]
    first = (b"IHDR", header(4, 4, 16, 2))
    for second in (header(4, 4, 16, 3), header(4, 4, 16, 0), b"short"):
        with pytest.raises(UnsupportedImageError, match="damaged PNG"):
            pictures.read(png_file(first, (b"IHDR", second), *end))


@pytest.mark.parametrize("format_", ["BMP", "GIF", "JPEG", "PCX", "PPM", "TGA", "TIFF", "WEBP"])
def test_no_damage_gives_another_exception(format_: str, photo: Image.Image) -> None:
    random = Random(format_)
    options: dict[str, Any] = (
        {"exif": EXIF.tobytes()} if format_ in ("JPEG", "TIFF", "WEBP") else {}
    )
    data = saved(photo.quantize(8) if format_ == "GIF" else photo, format_, **options)
    for _ in range(150):
        changed = bytearray(data)
        for _ in range(random.randrange(1, 6)):
            at = random.randrange(len(data) if random.random() < 0.5 else min(400, len(data)))
            changed[at] = random.choice([0, 1, 2, 127, 128, 255, random.randrange(256)])
        # TIFF's tags stand at the end of what Pillow writes.
        if format_ == "TIFF":
            changed[-random.randrange(1, 300)] = random.randrange(256)
        with suppress(UnsupportedImageError, LimitError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pictures.read(bytes(changed))


def test_whatever_pillow_raises_is_a_damaged_file(
    photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (TypeError, IndexError, KeyError, AttributeError, struct.error, RuntimeError):

        def fails(*_: object, kind: type[Exception] = kind) -> None:
            raise kind("damage")

        monkeypatch.setattr(Image.Image, "getexif", fails)
        monkeypatch.setattr(ImageFile.ImageFile, "load", fails)
        for format_ in ("PNG", "TIFF", "GIF"):
            with pytest.raises(UnsupportedImageError, match=r"the file is damaged: ."):
                pictures.read(saved(photo, format_))


def test_the_truth_about_pgm_files() -> None:
    data = b"P5 2 1 1023\n" + struct.pack(">2H", 5, 1023)
    with pytest.raises(UnsupportedImageError, match="10-bit grey cannot be kept"):
        pictures.read(data)
    whole = pictures.read(b"P5 2 1 65535\n" + struct.pack(">2H", 5, 1023))
    assert pictures.to_array(whole).tolist() == [[5, 1023]]


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("dpi", [None, (300, 300), (72, 96), (72.5, 1200)])
def test_resolution_of_tiff_files(
    dpi: tuple[float, float] | None, orientation: int, photo: Image.Image
) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    given = {} if dpi is None else {"dpi": dpi}
    picture = pictures.read(saved(photo, "TIFF", exif=exif, **given))
    names = [chunk.name for chunk in metadata.parse(picture.metadata, "RGB")]
    assert ("resolution" in names) == (dpi is not None)
    for suffix in (".tif", ".bmp") if dpi else ():
        with Image.open(io.BytesIO(pictures.write(picture, suffix)[0])) as back:
            for mine, theirs in zip(back.info["dpi"], dpi, strict=True):
                near = 0 if suffix == ".tif" and theirs == round(theirs) else 0.02
                assert abs(mine - theirs) <= near


def test_a_resolution_that_is_asked_for(photo: Image.Image) -> None:
    with Image.open(io.BytesIO(saved(photo, "TIFF"))) as image:
        picture = pictures.from_pillow(image, extra={"dpi": (300, 300)})
    assert [chunk.name for chunk in metadata.parse(picture.metadata, "RGB")] == ["resolution"]


def test_files_are_read_side_by_side(crop_paths: list[Path]) -> None:
    """Which warnings are heard is the same for all threads, and they leave it as it was."""
    files = [path.read_bytes() for path in crop_paths[:2]] * 40
    before = warnings.filters, list(warnings.filters), warnings.showwarning
    with side_by_side(4) as parallel:
        list(parallel(lambda data: (pictures.read(data), left_behind(data)), files))
    assert (warnings.filters, list(warnings.filters), warnings.showwarning) == before
