"""JPEG files as .pxz files: all of them come back, small if they have a model."""

from __future__ import annotations

import hashlib
import io
from decimal import Decimal
from pathlib import Path
from random import Random

import imagecodecs
import jpegs
import numpy as np
import pytest
from PIL import Image

import pixelzip
from pixelzip.codec import native
from pixelzip.codec.container import seal
from pixelzip.codec.errors import (
    FormatError,
    LimitError,
    MissingLibraryError,
    PixelzipError,
    UnknownNetworkError,
)
from pixelzip.codec.jpeg import file, model, network, prior, syntax
from pixelzip.codec.jpeg.file import Form

compiled = pytest.mark.skipif(syntax.library() is None, reason="there is no compiled library")


@pytest.fixture(scope="session")
def jpeg(photo_path: Path) -> bytes:
    return jpegs.photo(photo_path, (360, 240), quality=85)


def back(data: bytes, threads: int = 1) -> bytes:
    """The .pxz file of a JPEG file, which comes back from it."""
    coded = file.encode(data, threads)
    assert file.holds_jpeg(coded)
    assert file.decode(coded) == data
    return coded


@compiled
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}])
def test_photographs_get_smaller(photo_path: Path, options: dict[str, object]) -> None:
    data = jpegs.photo(photo_path, (360, 240), quality=85, **options)
    coded = back(data)
    about = file.describe(coded)
    assert about.form == Form.MODEL
    assert not about.trouble
    assert about.length == len(data)
    assert about.frame is not None
    assert (about.frame.width, about.frame.height) == (360, 240)
    assert len(coded) < 0.8 * len(data)


@compiled
@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_get_smaller(photo_path: Path, mode: str) -> None:
    data = jpegs.photo(photo_path, (200, 120), mode, quality=85)
    assert len(back(data)) < 0.9 * len(data)


@compiled
def test_standard_headers_take_next_to_nothing(photo_path: Path) -> None:
    data = jpegs.photo(photo_path, (8, 8), quality=75)
    assert len(data) > 600
    assert len(back(data)) < 120


@compiled
def test_bands_and_threads_make_the_same_file(
    photo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jpegs.photo(photo_path, (360, 240), quality=85, subsampling="4:2:0")
    monkeypatch.setattr(model, "BAND", 300)
    coded = back(data)
    about = file.describe(coded)
    assert len(about.coefficients) == 4
    assert back(data, threads=3) == coded
    assert file.decode(coded, threads=2) == data
    monkeypatch.undo()
    assert len(back(data)) < len(coded)


@compiled
def test_costs_add_up(jpeg: bytes) -> None:
    coded = back(jpeg)
    bits = file.costs(coded)
    assert bits.shape == (240, 360)
    payload = 8 * sum(file.describe(coded).coefficients)
    assert bits.sum(dtype=np.float64) == pytest.approx(payload, rel=0.01)
    assert bits[:8, :8].min() == bits[:8, :8].max()  # of one block


def test_prices_are_rounded_logarithms() -> None:
    """And none is so near a half that a machine's logarithm could round the other way."""
    exact = [1024 * (13 - Decimal(2 * i + 1).ln() / Decimal(2).ln()) for i in range(4096)]
    assert model._tables()[2].tolist() == [int(one.to_integral_value()) for one in exact]
    assert min(abs(one % 1 - Decimal("0.5")) for one in exact) > 2**-15


def test_what_has_no_model_is_kept() -> None:
    pixels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) % 4096
    deep = imagecodecs.jpeg8_encode(pixels, bitspersample=12)
    lossless = imagecodecs.ljpeg_encode(pixels)
    for data, why in (
        (deep, "12 bits a sample"),
        (lossless, "lossless JPEG"),
        (b"\xff\xd8\xff\xd9", "no picture"),
        (b"\xff\xd8\xff" + bytes(300), "damaged"),
    ):
        about = file.describe(back(data))
        assert about.form != Form.MODEL
        assert why in about.trouble or about.frame is None


@compiled
def test_what_is_damaged_is_kept_and_said_so(jpeg: bytes) -> None:
    coded = back(jpeg[: len(jpeg) // 2])
    assert file.describe(coded).form == Form.MODEL
    assert file.describe(coded).trouble == "it is damaged or truncated"
    assert len(coded) < 0.9 * len(jpeg) / 2
    tail = back(jpeg + bytes(5000))
    assert not file.describe(tail).trouble
    assert len(tail) < len(back(jpeg)) + 300


@compiled
def test_mutations_come_back(photo_path: Path) -> None:
    random = Random(7)
    for options in ({"progressive": True}, {"restart_marker_blocks": 3}):
        data = jpegs.photo(photo_path, (48, 32), quality=70, **options)
        for _ in range(60):
            damaged = bytearray(data)
            for _ in range(random.choice([1, 1, 2, 5])):
                damaged[random.randrange(3, len(data))] = random.randrange(256)
            back(bytes(damaged[: random.choice([len(data), random.randrange(3, len(data))])]))


@compiled
def test_hostile_files_are_refused(photo_path: Path) -> None:
    """With a seal that fits, so that all of the decoder sees them."""
    data = jpegs.photo(photo_path, (48, 32), quality=70)
    body = file.encode(data)[:-4]
    random = Random(8)
    for _ in range(300):
        hostile = bytearray(body)
        for _ in range(random.choice([1, 1, 3])):
            at = random.randrange(3, random.choice([40, len(body)]))
            hostile[at] = random.randrange(256)
        try:
            found = file.decode(seal(bytes(hostile)), max_pixels=1 << 20)
        except PixelzipError:
            continue
        assert found == data  # what changed was the name's ending, or says the same


def test_damage_shows(jpeg: bytes) -> None:
    coded = bytearray(file.encode(jpeg))
    coded[len(coded) // 2] ^= 1
    with pytest.raises(FormatError, match="checksum"):
        file.decode(bytes(coded))


@compiled
def test_limits(jpeg: bytes) -> None:
    coded = file.encode(jpeg)
    with pytest.raises(LimitError, match="360x240"):
        file.decode(coded, max_pixels=1000)
    with pytest.raises(LimitError, match="360x240"):
        pixelzip.info(coded, max_pixels=1000)


def test_endings() -> None:
    data = b"\xff\xd8\xff\xd9"
    for ending, kept in ((".jpg", ".jpg"), (".JPEG", ".JPEG"), ("", ".jpg"), (".a/b", ".jpg")):
        assert file.ending(file.encode(data, ending=ending)[:16]) == kept


@compiled
def test_without_a_compiler(jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """JPEGs are kept all the same; files with a model cannot be decoded, and it says why."""
    coded = file.encode(jpeg)
    monkeypatch.setattr(native, "library", lambda name: None)
    syntax.library.cache_clear()
    model.library.cache_clear()
    try:
        assert file.describe(back(jpeg)).form != Form.MODEL
        with pytest.raises(MissingLibraryError, match="without a C compiler"):
            file.decode(coded)
        with pytest.raises(MissingLibraryError):
            pixelzip.info(coded)
    finally:
        monkeypatch.undo()
        syntax.library.cache_clear()
        model.library.cache_clear()


@compiled
@pytest.mark.parametrize("kept", ["file", "planes"])
def test_a_later_edition_of_the_model_is_named(
    kept: str, jpeg: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "later.jpg"
    path.write_bytes(jpeg)
    image: Path | Image.Image = path
    if kept == "planes":
        with Image.open(path) as opened:
            image = opened.convert("RGB")  # so that pixels are coded, as blocks
    now = pixelzip.compress(image)
    monkeypatch.setattr(model, "EDITION", 1)
    later = pixelzip.compress(image)
    assert later != now
    pixelzip.decompress(later)
    monkeypatch.undo()
    pixelzip.decompress(now)
    with pytest.raises(UnknownNetworkError, match="needs edition 1 of the network of JPEG"):
        pixelzip.decompress(later)


def test_the_page_names_this_edition() -> None:
    page = (Path(__file__).parent.parent / "docs" / "format.md").read_text("utf-8")
    assert f"| {model.EDITION} | `{network.SHA256[:8]}...` | `{prior.SHA256[:8]}...` |" in page
    assert f"`{network.SHA256}`" in page
    assert f"`{prior.SHA256}`" in page


@compiled
def test_a_prior_that_is_not_the_format_s_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prior, "SHA256", "0" * 64)
    with pytest.raises(PixelzipError, match=r"prior\.xz is damaged"):
        prior.load((1, 1, 1, 1), np.zeros(4, np.int32))


# --- In Python ------------------------------------------------------------------------------------


def test_compress_keeps_jpegs(jpeg: bytes, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpeg"
    path.write_bytes(jpeg)
    coded = pixelzip.compress(path)
    assert pixelzip.holds_jpeg(coded)
    assert pixelzip.original(coded) == jpeg
    assert file.ending(coded) == ".jpeg"
    assert pixelzip.original(pixelzip.compress(jpeg)) == jpeg
    with Image.open(path) as image:
        pixels = np.asarray(image)
    assert np.array_equal(pixelzip.decompress_array(coded), pixels)
    assert np.array_equal(np.asarray(pixelzip.decompress(coded)), pixels)
    about = pixelzip.info(coded)
    assert (about.width, about.height, about.mode) == (360, 240, "RGB")
    assert pixelzip.peek(coded).width == 360


def test_pixels_can_be_coded_in_its_place(jpeg: bytes) -> None:
    with Image.open(io.BytesIO(jpeg)) as image:
        small = image.crop((0, 0, 24, 16))
    data = io.BytesIO()
    small.save(data, "JPEG")
    coded = pixelzip.compress(data.getvalue(), pixels=True, network="none")
    assert not pixelzip.holds_jpeg(coded)
    with pytest.raises(FormatError, match="holds a picture"):
        pixelzip.original(coded)


def test_many_at_once(jpeg: bytes) -> None:
    grey = np.full((3, 5), 7, np.uint8)
    files = pixelzip.compress_many([grey, jpeg, grey])
    assert [pixelzip.holds_jpeg(one) for one in files] == [False, True, False]
    sizes = [image.size for image in pixelzip.decompress_many(files)]
    assert sizes == [(5, 3), (360, 240), (5, 3)]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_pillow_opens_them(photo_path: Path, mode: str) -> None:
    data = jpegs.photo(photo_path, (64, 48), mode, quality=80, dpi=(72, 72))
    coded = io.BytesIO(pixelzip.compress(data))
    with Image.open(coded) as image, Image.open(io.BytesIO(data)) as wanted:
        assert (image.size, image.mode, image.format) == (wanted.size, mode, "PXZ")
        assert image.info["dpi"] == wanted.info["dpi"]
        assert image.tobytes() == wanted.tobytes()


# --- The format -----------------------------------------------------------------------------------


@compiled
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("progressive", "633065c53bb74e83c4027f9858b133f8ba7bc7b5fb621564c82f5d3f1601caa3"),
        ("inner", "96495f4d6fc100297500b9e223ce46f57b22d0e7a312ee36cbf2c42787054c3f"),
    ],
)
def test_golden_files(name: str, wanted: str) -> None:
    """They decode to what they were made of, which makes them again: a new format would differ."""
    coded = (Path(__file__).parent / "golden" / "jpeg" / f"{name}.pxz").read_bytes()
    data = file.decode(coded)
    assert hashlib.sha256(data).hexdigest() == wanted
    assert file.encode(data, ending=file.ending(coded)) == coded


def with_thumbnail(data: bytes, *thumbnails: bytes, behind: bytes = b"") -> bytes:
    """A JPEG with others in segments at its beginning, and bytes behind its end."""
    body = b"".join(jpegs.segment(0xE1, b"Exif\0\0" + one + b"\0 more") for one in thumbnails)
    return data[:2] + body + data[2:] + behind


@compiled
def test_thumbnails_are_coded_as_jpegs(photo_path: Path, jpeg: bytes) -> None:
    small = jpegs.photo(photo_path, (160, 120), quality=80)
    plain, with_one = back(jpeg), back(with_thumbnail(jpeg, small))
    assert len(with_one) - len(plain) < 0.85 * len(small)
    two = back(with_thumbnail(jpeg, small, small))
    assert len(two) - len(with_one) < 0.05 * len(small)  # the same again costs little
    about = file.describe(with_one)
    assert not about.trouble
    assert about.coefficients == file.describe(plain).coefficients
    assert about.segments > file.describe(plain).segments + 0.5 * len(small)
    with Image.open(io.BytesIO(file.beginning(with_one))) as image:
        assert (image.size, image.info["exif"][6:]) == ((360, 240), small + b"\0 more")
    stored = file.model_form(with_one)
    assert not stored.late
    with Image.open(io.BytesIO(with_one)) as image:
        assert image.size == (360, 240)


@compiled
def test_pictures_behind_the_end_are_coded_as_jpegs(photo_path: Path, jpeg: bytes) -> None:
    """With thumbnails of their own, as the second image of an MPO has one."""
    small = jpegs.photo(photo_path, (80, 60), quality=80)
    second = with_thumbnail(jpegs.photo(photo_path, (300, 200), quality=70), small)
    data = with_thumbnail(jpeg, small, behind=b"\0" * 99 + second + b"and" + second[:900])
    coded = back(data, threads=2)
    assert not file.describe(coded).trouble
    alone = [len(back(one)) for one in (jpeg, second, small)]
    assert len(coded) < sum(alone) + 900
    late = file.model_form(coded).late
    assert len(late) == 2  # the second and its thumbnail
    assert file.beginning(coded).startswith(data[: 2 + 4 + 6 + len(small)])
    with pytest.raises(LimitError):
        file.decode(coded, max_pixels=360 * 240 + 300 * 200)
    assert file.decode(coded, max_pixels=360 * 240 + 300 * 200 + 80 * 60) == data


@compiled
def test_what_only_looks_like_a_jpeg_within_stays(photo_path: Path, jpeg: bytes) -> None:
    small = jpegs.photo(photo_path, (160, 120), quality=80)
    stretch = with_thumbnail(jpeg, small)
    at = stretch.index(small)
    cases = {
        "cut": with_thumbnail(jpeg, small[: len(small) // 2]),
        "without an end": with_thumbnail(jpeg, small[:-2]),
        "none": with_thumbnail(jpeg, b"\xff\xd8\xff" * 400),
        "arithmetic": with_thumbnail(jpeg, small.replace(b"\xff\xc0", b"\xff\xc9")),
        "too short a segment": stretch[: at - 8] + b"\0\x20" + stretch[at - 6 :],
    }
    for data in cases.values():
        coded = back(data)
        if file.describe(coded).form == Form.MODEL:
            assert not file.model_form(coded).late
    many = with_thumbnail(jpeg, *[small] * 20)
    assert len(back(many)) < len(back(with_thumbnail(jpeg, small))) + 6 * len(small)


@compiled
def test_damaged_inner_files(photo_path: Path, jpeg: bytes) -> None:
    """Their numbers are few bytes near the beginning: change each of them to whatever it can be."""
    small = jpegs.photo(photo_path, (48, 32), quality=80)
    coded = back(with_thumbnail(jpegs.photo(photo_path, (40, 27)), small, behind=small))
    for at in range(3, 40):
        for value in range(0, 256, 5):
            data = coded[:at] + bytes([value]) + coded[at + 1 : -4]
            for read in (file.decode, file.describe, file.beginning):
                try:
                    read(seal(data))
                except PixelzipError:
                    continue
