"""Animations: each frame as it is shown, and for how long, comes back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import png as pypng
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, UnidentifiedImageError

import pixelzip
from pixelzip import metadata, pictures
from pixelzip.codec.encode import encode
from pixelzip.codec.errors import FormatError, LimitError, UnsupportedImageError
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
    with pytest.raises(pixelzip.RegionError, match="animation"):
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
