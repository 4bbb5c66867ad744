"""Corrections: any pixels come back over any rendering, and few corrections take few bytes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pixelzip.codec import corrections
from pixelzip.codec.errors import FormatError

Pixels = NDArray[np.uint8]
pytestmark = pytest.mark.usefixtures("coding")


def check(pixels: Pixels, rendered: Pixels) -> bytes:
    """The corrections, once they have been seen to give the pixels and to change nothing else."""
    kept = pixels.copy(), rendered.copy()
    data = corrections.encode(pixels, rendered)
    np.testing.assert_array_equal(corrections.apply(data, rendered), pixels)
    np.testing.assert_array_equal(pixels, kept[0])
    np.testing.assert_array_equal(rendered, kept[1])
    return data


@pytest.fixture(scope="module")
def photograph(photo_path) -> Pixels:  # type: ignore[no-untyped-def]
    with Image.open(photo_path) as image:
        return np.asarray(image)[100:356, 200:584].copy()


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Pixels, Pixels]:
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)))
    rendered = draw(arrays.arrays(np.uint8, shape))
    other = draw(arrays.arrays(np.uint8, shape))
    mask = draw(arrays.arrays(np.bool_, (*shape[:2], 1)))
    return np.where(mask, other, rendered), rendered


@settings(max_examples=150)
@given(pairs())
def test_any_pixels_come_back(pair: tuple[Pixels, Pixels]) -> None:
    check(*pair)


def test_nothing_takes_nothing(photograph: Pixels) -> None:
    assert check(photograph, photograph) == b""


@settings(max_examples=60)
@given(st.binary(max_size=100), st.integers(1, 4))
def test_any_data_gives_pixels_or_is_damaged(data: bytes, channels: int) -> None:
    rendered = np.arange(20 * 30 * channels, dtype=np.uint8).reshape(20, 30, channels)
    try:
        found = corrections.apply(data, rendered)
    except FormatError:
        return
    assert found.shape == rendered.shape
    if found.tobytes() == rendered.tobytes():
        assert check(found, rendered) == b""


def test_single_pixels_cost_little_more_than_to_say_where(photograph: Pixels) -> None:
    rng = np.random.default_rng(0)
    pixels = photograph.astype(np.int64)
    hit = rng.random(pixels.shape[:2]) < 3e-4
    pixels[hit, rng.integers(0, 3, hit.sum())] += rng.choice([-1, 1], hit.sum())
    data = check(pixels.clip(0, 255).astype(np.uint8), photograph)
    where = np.log2(hit.size / hit.sum()) + 1.44
    assert len(data) * 8 < hit.sum() * (where + np.log2(6) + 0.5) + 100


def test_where_renderings_clip_single_pixels_cost_less(photograph: Pixels) -> None:
    """Corrections that keep to pixels with a channel of 255, a few of all."""
    rendered = photograph.copy()
    rng = np.random.default_rng(1)
    rendered[rng.random(rendered.shape[:2]) < 0.02, 0] = 255
    clipped = ((rendered == 0) | (rendered == 255)).any(2)
    pixels = rendered.copy()
    pixels[clipped & (rng.random(clipped.shape) < 0.02), 1] ^= 1
    hits = int((pixels != rendered).any(2).sum())
    elsewhere = np.roll(pixels ^ rendered, 3, (0, 1)) ^ rendered
    assert hits > 20
    assert len(check(pixels, rendered)) < 0.8 * len(check(elsewhere, rendered))


def test_a_caption(photograph: Pixels) -> None:
    image = Image.fromarray(photograph)
    draw = ImageDraw.Draw(image)
    draw.rectangle((200, 210, 380, 250), fill=(20, 40, 80))
    draw.text((10, 20), "pixelzip keeps pixels", "white", ImageFont.load_default(28))
    pixels = np.asarray(image)
    changed = int((pixels != photograph).any(2).sum())
    assert len(check(pixels, photograph)) * 8 < 3 * changed


def test_another_picture_pasted_in(photograph: Pixels, crops: dict[str, Pixels]) -> None:
    pasted = crops["bikes-96x64"]
    pixels = photograph.copy()
    pixels[50 : 50 + len(pasted), 70 : 70 + pasted.shape[1]] = pasted
    assert len(check(pixels, photograph)) < pasted.size * 0.72


def test_a_vector() -> None:
    rendered = np.zeros((4, 5, 3), np.uint8)
    pixels = rendered.copy()
    pixels[1, 2] = 1, 0, 0
    pixels[2, 1:4] = 200, 100, 50
    pixels[3, 2] = 190, 101, 54
    assert check(pixels, rendered).hex() == "26c81bac593d37edd809dc2d7a0b7e"
