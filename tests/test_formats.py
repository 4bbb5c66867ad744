"""Formats that Pillow cuts down or does not know: every bit of their samples comes in and out."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from random import Random

import imagecodecs
import numpy as np
import pytest
from click.testing import CliRunner
from fuzzing import SECONDS, damage, same
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

import pixelzip
from pixelzip import leftovers, netpbm, pictures
from pixelzip.cli import cli
from pixelzip.codec.decode import decode
from pixelzip.codec.encode import encode
from pixelzip.codec.errors import LimitError, PixelzipError, UnsupportedImageError
from pixelzip.codec.picture import MODES, Picture
from pixelzip.models import zoo

DEEP = {1: "I;16", 2: "LA;16", 3: "RGB;16", 4: "RGBA;16"}


def noise(*shape: int, dtype: type = np.uint16) -> NDArray[np.uint16]:
    random = np.random.default_rng(sum(shape))
    return random.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def assert_reads(data: bytes, samples: NDArray[np.generic]) -> None:
    found = pictures.to_array(pictures.read(data))
    assert found.dtype == samples.dtype
    np.testing.assert_array_equal(found, samples)


def tiff_by_hand(
    samples: NDArray[np.uint16],
    order: str,
    orientation: int = 1,
    *,
    photometric: int = 2,
    extra: int | None = 2,
    bits: int = 16,
    body: bytes | None = None,
    **more: int,
) -> bytes:
    """A TIFF file in a byte order, "<" or ">"; uncompressed unless its ``body`` is given.

    ``extra`` says what the last channel is, if it is no colour. Other tags are ``t`` and a number.
    """
    height, width, channels = samples.shape
    body = samples.astype(order + "u2").tobytes() if body is None else body
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 274: orientation,
            277: channels, 278: height, 279: len(body)}  # fmt: skip
    if channels in (2, 4) and extra is not None:
        tags[338] = extra
    tags |= {int(name[1:]): value for name, value in more.items()}
    tags[273] = start = 8 + 2 + 12 * (len(tags) + 1) + 4 + 2 * channels
    data = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    data += struct.pack(order + "H", len(tags))
    for tag, value in sorted(tags.items()):
        if tag in (273, 279):
            data += struct.pack(order + "HHII", tag, 4, 1, value)
        elif tag == 258 and channels == 2:
            data += struct.pack(order + "HHIHH", tag, 3, 2, bits, bits)
        elif tag == 258 and channels > 2:
            data += struct.pack(order + "HHII", tag, 3, channels, start - 2 * channels)
        else:
            data += struct.pack(order + "HHIH2x", tag, 3, 1, value)
    return data + bytes(4) + struct.pack(order + f"{channels}H", *[bits] * channels) + body


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", [1, 6])
def test_sixteen_bit_grey_with_alpha_in_tiff_files(order: str, orientation: int) -> None:
    samples = noise(5, 7, 2)
    assert_reads(tiff_by_hand(samples, order, orientation, photometric=1), samples)
    left = np.pad(samples, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    body = zlib.compress((samples - left).astype(order + "u2").tobytes())
    packed = {"body": body, "t259": 8, "t317": 2}
    assert_reads(tiff_by_hand(samples, order, orientation, photometric=1, **packed), samples)


def test_tiles_of_grey_with_alpha_have_predictors_of_their_own() -> None:
    samples = noise(16, 40, 2)
    tiles = [np.pad(samples, ((0, 0), (0, 8), (0, 0)))[:, x : x + 16] for x in (0, 16, 32)]
    rows = [tile - np.pad(tile, ((0, 0), (1, 0), (0, 0)))[:, :-1] for tile in tiles]
    bodies = [zlib.compress(tile.astype("<u2").tobytes()) for tile in rows]
    data = tiff_by_hand(samples, "<", photometric=1, body=b"", t259=8, t317=2, t322=16, t323=16)
    data = bytearray(data)  # strips become tiles: where they are and their lengths follow the rest
    places = struct.pack("<3I", *np.cumsum([len(data) + 24, *map(len, bodies[:2])]).tolist())
    lengths = struct.pack("<3I", *map(len, bodies))
    for at in range(10, 10 + 12 * int.from_bytes(data[8:10], "little"), 12):
        tag = int.from_bytes(data[at : at + 2], "little")
        if tag in (273, 279):
            place = len(data) + (0 if tag == 273 else 12)
            data[at : at + 12] = struct.pack("<HHII", 324 if tag == 273 else 325, 4, 3, place)
    entries = sorted(bytes(data[at : at + 12]) for at in range(10, 10 + 12 * data[8], 12))
    entries.sort(key=lambda entry: int.from_bytes(entry[:2], "little"))
    data[10 : 10 + 12 * data[8]] = b"".join(entries)
    assert_reads(bytes(data) + places + lengths + b"".join(bodies), samples)


@pytest.mark.parametrize("order", "<>")
def test_sixteen_bit_inks_in_tiff_files(order: str, tmp_path: Path) -> None:
    inks = noise(9, 7, 4)
    data = tiff_by_hand(inks, order, photometric=5, extra=None)
    assert_reads(data, inks)
    packed = pixelzip.compress(data, network="none")
    assert pixelzip.info(packed).mode == "CMYK;16"
    np.testing.assert_array_equal(pixelzip.decompress_array(packed), inks)
    with pytest.raises(UnsupportedImageError, match="decompress it to a TIFF file"):
        pixelzip.decompress(packed)
    written, lost = pictures.write(pictures.read(data), ".tif")
    assert lost == []
    with Image.open(io.BytesIO(written)) as image:  # which gives the high bytes
        np.testing.assert_array_equal(np.asarray(image), inks >> 8)
    assert_reads(written, inks)
    with pytest.raises(UnsupportedImageError, match=r"use \.tif"):
        pictures.write(pictures.read(data), ".png")
    (tmp_path / "inks.pxz").write_bytes(packed)
    result = CliRunner().invoke(cli, ["decompress", str(tmp_path / "inks.pxz")])
    assert result.exit_code == 0, result.output
    assert_reads((tmp_path / "inks.tif").read_bytes(), inks)


def test_tags_that_cannot_be_read_are_named() -> None:
    samples = noise(4, 5, 3)
    data = tiff_by_hand(samples, "<")
    entry = struct.pack("<HHIH2x", 274, 3, 1, 1)
    assert entry in data
    lost = data.replace(entry, struct.pack("<HHII", 270, 2, 10**6, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_reads(lost, samples)
        assert leftovers.left_behind(lost) == ("tags that cannot be read",)
        assert leftovers.left_behind(data) == ()


@pytest.mark.parametrize("start", [b"P5 2 1 %d\n\0\7", b"P2 2 1 %d\n0 7\n", b"P6 1 1 %d\n\0\7\7"])
def test_samples_that_end_elsewhere_are_spread_evenly_or_refused(start: bytes) -> None:
    found = pictures.to_array(pictures.read(start % 15))
    assert found.ravel()[:2].tolist() == [0, 7 * 17]
    for largest in (14, 200):
        with pytest.raises(UnsupportedImageError, match=f"from 0 to {largest}"):
            pictures.read(start % largest)


def test_the_fourth_channel_of_a_bmp_is_named() -> None:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((8, 6)).convert("RGB").convert("RGBA").save(out, "BMP")
    assert leftovers.left_behind(out.getvalue()) == ()
    data = bytearray(out.getvalue())
    data[-1] = 7
    assert leftovers.left_behind(bytes(data)) == ("fourth channel",)


@pytest.mark.parametrize("order", "<>")
def test_grey_of_which_0_is_white_is_no_negative(order: str) -> None:
    samples = noise(5, 7, 1)
    data = tiff_by_hand(samples, order, photometric=0)
    assert_reads(data, 65535 - samples[..., 0])
    eight = (samples & 255).astype(np.uint8)
    data = tiff_by_hand(samples, order, photometric=0, bits=8, body=eight.tobytes())
    assert_reads(data, 255 - eight[..., 0])


def test_twelve_bits_become_the_high_ones_of_sixteen() -> None:
    samples = noise(4, 6, 1) >> 4
    bits = "".join(f"{value:012b}" for value in samples.ravel())
    body = int(bits, 2).to_bytes(len(bits) // 8, "big")
    data = tiff_by_hand(samples, "<", photometric=1, bits=12, body=body)
    assert_reads(data, samples[..., 0] << 4)
    with Image.open(io.BytesIO(data)) as image, pytest.raises(UnsupportedImageError, match="12"):
        pixelzip.compress(image)


@pytest.mark.parametrize(
    ("channels", "photometric", "extra", "reason"),
    [
        (4, 2, 0, "4 channels, of which only 3 are colours"),
        (5, 5, None, "cannot be read"),
        (2, 1, 0, "cannot be read"),
        (3, 8, None, "3 x 16 bits a pixel and photometric interpretation 8 cannot be read"),
    ],
)
def test_channels_are_not_dropped(
    channels: int, photometric: int, extra: int | None, reason: str
) -> None:
    data = tiff_by_hand(noise(4, 4, channels), "<", photometric=photometric, extra=extra)
    with pytest.raises(UnsupportedImageError, match=reason):
        pictures.read(data)
    body = bytes(16 * channels)
    data = tiff_by_hand(noise(4, 4, 4), "<", extra=0, bits=8, body=body)
    with Image.open(io.BytesIO(data)) as image, pytest.raises(UnsupportedImageError, match="of wh"):
        pixelzip.compress(image)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_deep_tiff_files_are_read(channels: int, order: str, orientation: int) -> None:
    samples = noise(5, 7, channels)
    assert_reads(tiff_by_hand(samples, order, orientation), samples)


@given(st.integers(1, 80), st.integers(1, 30), st.sampled_from([2, 3, 4]))
@settings(max_examples=20)
def test_deep_tiff_files_are_written(height: int, width: int, channels: int) -> None:
    samples = noise(height, width, channels)
    data, lost = pictures.write(pictures.from_array(samples), ".tif")
    assert lost == []
    np.testing.assert_array_equal(imagecodecs.imread(data), samples)
    assert_reads(data, samples)


def test_deep_tiff_files_keep_their_metadata() -> None:
    text = PngInfo()
    text.add_text("Author", "me")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[271], exif[274] = "Tests & Sons", 6
    out = io.BytesIO()
    Image.new("RGB", (2, 2)).save(out, "PNG", icc_profile=profile, dpi=(300, 300), exif=exif)
    metadata = pictures.read(out.getvalue()).metadata
    planes = pictures.from_array(noise(4, 6, 3)).planes
    data, _ = pictures.write(pictures.Picture("RGB;16", planes, metadata), ".tif")
    with Image.open(io.BytesIO(data)) as image:
        assert image.info["icc_profile"] == profile
        assert image.info["dpi"] == (300, 300)
        assert image.tag_v2[271] == "Tests & Sons"
    assert pictures.read(data).metadata
    np.testing.assert_array_equal(pictures.to_array(pictures.read(data)), noise(4, 6, 3))


def test_premultiplied_alpha_is_refused() -> None:
    data = tiff_by_hand(noise(4, 4, 4), "<")
    extra = struct.pack("<HHIH", 338, 3, 1, 2)
    assert extra in data
    with pytest.raises(UnsupportedImageError, match="multiplied by alpha"):
        pictures.read(data.replace(extra, struct.pack("<HHIH", 338, 3, 1, 1)))


@pytest.mark.parametrize("channels", DEEP)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("suffix", [".pam", ".npy"])
def test_pam_and_npy_go_out_and_in(channels: int, dtype: type, suffix: str) -> None:
    samples = noise(5, 3, channels, dtype=dtype)
    flat = samples[..., 0] if channels == 1 else samples
    data, _ = pictures.write(pictures.from_array(flat), suffix)
    assert_reads(data, flat)


def test_bilevel_pam_and_npy() -> None:
    flat = np.eye(5, 9, dtype=bool)
    for suffix in (".pam", ".npy"):
        data, _ = pictures.write(pictures.from_array(flat), suffix)
        assert_reads(data, flat)
    header = b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 1\nMAXVAL 1\nTUPLTYPE BLACKANDWHITE\nENDHDR\n"
    assert_reads(header + b"\0\1", np.array([[False, True]]))  # as the specification says it
    with pytest.raises(UnsupportedImageError, match="larger than it says"):
        pictures.read(header + b"\0\2")


def test_deep_ppm() -> None:
    samples = noise(3, 2, 3)
    data, _ = pictures.write(pictures.from_array(samples), ".ppm")
    assert data.startswith(b"P6\n2 3\n65535\n")
    assert_reads(data, samples)
    assert_reads(b"P6 # a comment\n2\t3 #more\n 65535 " + samples.astype(">u2").tobytes(), samples)


@pytest.mark.parametrize(
    "data",
    [
        b"P6 2 1 65535\n" + bytes(11),
        b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n" + bytes(5),
        b"P7\nWIDTH 2\n",
        b"P7\nWIDTH -2\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n",
        b"P7\nWIDTH 0\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n",
        b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 5\nMAXVAL 255\nTUPLTYPE CMYKA\nENDHDR\n" + bytes(50),
        b"\x93NUMPY\x01\x00\x10\x00{'a': nonsense}\n",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x01\x00\x10\x00{'shape': (((((((",
        b"\x93NUMPY\x09\x00" + bytes(50),
    ],
)
def test_damaged_arrays_and_netpbm_files(data: bytes) -> None:
    with pytest.raises(UnsupportedImageError):
        pictures.read(data)


def test_an_array_is_not_believed_to_be_longer_than_it_is() -> None:
    out = io.BytesIO()
    np.save(out, np.zeros((2, 2), np.uint8))
    for size in ("(2**40, 2)", "(99999999, 9)", "(2, 1)"):
        shape = size.replace("2**40", str(2**40)).encode()
        data = out.getvalue().replace(b"(2, 2)", shape)
        short = data[:8] + (len(data) - 14).to_bytes(2, "little") + data[10:]
        with pytest.raises(UnsupportedImageError):
            pictures.read(short)
    np.save(huge := io.BytesIO(), np.array([None]), allow_pickle=True)
    with pytest.raises(UnsupportedImageError):
        pictures.read(huge.getvalue())
    pam = b"P7\nWIDTH 99999\nHEIGHT 99999\nDEPTH 1\nMAXVAL 255\nTUPLTYPE GRAYSCALE\nENDHDR\n"
    with pytest.raises(LimitError):
        pictures.read(pam)
    assert netpbm.header_of(b"P6 2 2 255\n" + bytes(12)) is None  # Pillow's


def test_fortran_order_and_other_byte_order() -> None:
    for array in (np.asfortranarray(noise(4, 5, 3)), noise(4, 5).astype(">u2")):
        out = io.BytesIO()
        np.save(out, array)
        assert_reads(out.getvalue(), array.astype(np.uint16))


@pytest.mark.parametrize("format_", ["AVIF", "JPEG2000"])
def test_eight_bit_avif_and_jpeg_2000_are_read(format_: str) -> None:
    image = Image.fromarray(noise(40, 30, 3, dtype=np.uint8))
    out = io.BytesIO()
    image.save(out, format_)
    with Image.open(io.BytesIO(out.getvalue())) as decoded:
        assert_reads(out.getvalue(), np.asarray(decoded))


def test_deep_jpeg_2000_and_avif_are_read() -> None:
    samples = noise(20, 30, 3)
    jp2 = imagecodecs.jpeg2k_encode(samples, level=0, reversible=True)
    assert_reads(jp2, samples)
    grey = imagecodecs.jpeg2k_encode(samples[..., 0].copy(), level=0, reversible=True)
    assert_reads(grey, samples[..., 0])
    avif = imagecodecs.avif_encode(samples >> 6, bitspersample=10, level=100)
    assert_reads(avif, imagecodecs.avif_decode(avif) << 6)


def test_deep_heic_is_read() -> None:
    heif = pytest.importorskip("pillow_heif")
    image = Image.fromarray(noise(64, 64, 3, dtype=np.uint8))
    out = io.BytesIO()
    heif.from_pillow(image).save(out, quality=100, chroma=444)
    assert_reads(out.getvalue(), np.asarray(heif.open_heif(out.getvalue())))


def test_webp_says_that_it_drops_alpha_that_is_opaque() -> None:
    opaque = np.full((4, 5, 4), 255, np.uint8)
    assert pictures.write(pictures.from_array(opaque), ".webp")[1] == ["opaque alpha"]


def test_cmyk_returns() -> None:
    inks = noise(20, 30, 4, dtype=np.uint8)
    image = Image.frombytes("CMYK", (30, 20), inks.tobytes())
    for format_ in ("TIFF", "JPEG"):
        out = io.BytesIO()
        image.save(out, format_, dpi=(300, 300))
        picture = pictures.read(out.getvalue())
        with Image.open(io.BytesIO(out.getvalue())) as decoded:
            back = pictures.to_pillow(picture)
            assert (back.mode, back.tobytes()) == ("CMYK", decoded.tobytes())
            np.testing.assert_array_equal(pictures.to_array(picture), np.asarray(decoded))
            with Image.open(io.BytesIO(pictures.write(picture, ".tif")[0])) as written:
                assert (written.mode, written.tobytes()) == ("CMYK", decoded.tobytes())
    assert pixelzip.decompress(pixelzip.compress(image, network="none")).tobytes() == inks.tobytes()
    white = pictures.from_pillow(Image.new("CMYK", (2, 2)))
    assert all((plane == 255).all() for plane in white.planes)  # as white is in RGB


@pytest.mark.parametrize("name", ["png", "tif", "webp", "bmp", "ppm", "pam", "npy"])
def test_the_format_that_is_asked_for(name: str, tmp_path: Path) -> None:
    samples = noise(5, 6, 3, dtype=np.uint8)
    (tmp_path / "a.pxz").write_bytes(pixelzip.compress(samples, network="none"))
    for target in ([], ["-o", str(tmp_path / "odd.name")]):
        arguments = ["decompress", str(tmp_path / "a.pxz"), "--format", name, *target]
        assert CliRunner().invoke(cli, arguments).exit_code == 0
        made = tmp_path / ("odd.name" if target else f"a.{name}")
        assert_reads(made.read_bytes(), samples)


# What is left behind is named.


def test_the_second_image_and_what_follows_are_named() -> None:
    image = Image.fromarray(noise(16, 16, 3, dtype=np.uint8))
    out = io.BytesIO()
    image.save(out, "MPO", save_all=True, append_images=[image])
    assert "second image of an MPO" in leftovers.left_behind(out.getvalue())
    out = io.BytesIO()
    image.save(out, "JPEG", comment=b"kept", exif=Image.Exif(), progressive=True)
    jpeg = out.getvalue()
    assert leftovers.left_behind(jpeg) == ()
    assert leftovers.left_behind(jpeg + b"video") == ("bytes after the image",)
    segment = b"\xff\xeb\0\x08JPanyc"
    assert leftovers.left_behind(jpeg[:2] + segment + jpeg[2:]) == ("C2PA",)
    other = b"\xff\xec\0\x08Ducky\0"
    assert leftovers.left_behind(jpeg[:2] + other + jpeg[2:]) == ("APP12 segment",)


def test_nothing_is_left_behind_of_plain_files() -> None:
    image = Image.fromarray(noise(16, 16, 3, dtype=np.uint8))
    for format_ in ("PNG", "TIFF", "WEBP", "BMP", "AVIF"):
        out = io.BytesIO()
        image.save(out, format_)
        assert leftovers.left_behind(out.getvalue()) == ()
    out = io.BytesIO()
    image.save(out, "PNG")
    assert leftovers.left_behind(out.getvalue() + b"more") == ("bytes after the image",)


# Damage.


def real_files() -> dict[str, bytes]:
    """A small file of each format that is read by more than Pillow's plugins as they are."""
    image = Image.fromarray(noise(16, 16, 3, dtype=np.uint8))
    files = {"tiff by hand": tiff_by_hand(noise(6, 7, 3), "<")}
    for suffix, channels in ((".tif", 4), (".pam", 2), (".ppm", 3), (".npy", 3)):
        picture = pictures.from_array(noise(5, 5, channels))
        files[suffix] = pictures.write(picture, suffix)[0]
    for format_ in ("AVIF", "JPEG2000", "GIF", "PNG", "WEBP"):
        out = io.BytesIO()
        is_still = format_ in ("AVIF", "JPEG2000")
        film = {} if is_still else {"append_images": [image.rotate(90)]}
        image.save(out, format_, save_all=bool(film), **film)
        files[format_] = out.getvalue()
    files["deep JPEG 2000"] = imagecodecs.jpeg2k_encode(noise(9, 8, 3), level=0, reversible=True)
    files["deep AVIF"] = imagecodecs.avif_encode(noise(16, 16, 3) >> 6, bitspersample=10)
    return files


FILES = real_files()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore")
def test_damaged_images_end_in_one_sentence(name: str) -> None:
    random, donors = Random(name), list(FILES.values())
    for _ in range(150):
        hurt = damage(FILES[name], random.choice(donors), random)
        start = time.process_time()
        with suppress(PixelzipError):
            pictures.read(hurt)
            leftovers.left_behind(hurt)
        assert time.process_time() - start < SECONDS, hurt.hex()


def test_arrays_are_written_as_numpy_does_and_leanly() -> None:
    for mode, samples in {
        "1": noise(9, 5, dtype=np.uint8) > 99,
        "L": noise(9, 5, dtype=np.uint8),
        "RGBA;16": noise(300, 400, 4),
    }.items():
        picture = pictures.from_array(samples)
        assert picture.mode == mode
        expected = io.BytesIO()
        np.save(expected, samples)
        tracemalloc.start()
        made, lost = pictures.write(picture, ".npy")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (made, lost) == (expected.getvalue(), [])
    assert most < 2.5 * len(made)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(5, 4), (3, 1), (1, 1)])
def test_constant_pictures_are_written_in_every_format(mode: str, shape: tuple[int, int]) -> None:
    """Their planes are one pixel that counts for all; so are some planes of other pictures."""
    palette = b"\0\x09" + bytes(range(9)) if mode == "P" else b""
    values, random = 2 if mode in ("1", "P") else 256, np.random.default_rng(1)
    constant = [np.full((*shape, n), values - 1, np.uint8) for n in MODES[mode]]
    for noisy in range(len(constant) + 1):
        planes = constant.copy()
        if noisy < len(planes):
            planes[noisy] = random.integers(0, values, planes[noisy].shape, np.uint8)
        data = encode(Picture(mode, tuple(planes), palette), {})
        decoded, count = decode(data, zoo.find), 0
        for suffix in (".png", ".tif", ".webp", ".bmp", ".ppm", ".pam", ".npy"):
            with suppress(UnsupportedImageError):
                again = pictures.read(pictures.write(decoded, suffix)[0])
                count += same(again, Picture(mode, tuple(planes), again.metadata))
        assert count > 0
        with suppress(UnsupportedImageError):
            pixelzip.decompress(data).load()
