"""The compiled library and the loops that take its place give the same bytes, whatever goes in."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from test_cdf import mixtures, softmaxes
from test_corrections import pairs

from pixelzip.codec import bits, cdf, colour_bits, colours, corrections, native, packed
from pixelzip.codec.colours import Colours
from pixelzip.codec.errors import FormatError
from pixelzip.codec.origins import conversions, downsampling, ycc
from pixelzip.codec.origins.upsampling import RULES, extents, upsample

Bytes = NDArray[np.uint8]
Result = TypeVar("Result")


def both(work: Callable[[], Result]) -> tuple[Result, Result]:
    """What the library gives, and the loops."""
    assert native.coding() is not None
    compiled = work()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "coding", lambda: None)
        return compiled, work()


@settings(max_examples=40)
@given(st.lists(st.booleans(), max_size=3000), st.binary(max_size=80))
def test_flags(flags: list[bool], data: bytes) -> None:
    one, other = both(lambda: bits.encode_flags(np.array(flags, np.bool_)))
    assert one == other
    if not data.endswith(b"\0") and not data.startswith(b"\xff" * 8):
        found, same = both(lambda: bits.decode_flags(data, 700))
        np.testing.assert_array_equal(found, same)


@settings(max_examples=60)
@given(pairs(), st.binary(max_size=80))
def test_corrections(pair: tuple[Bytes, Bytes], data: bytes) -> None:
    one, other = both(lambda: corrections.encode(*pair))
    assert one == other
    if not data.endswith(b"\0") and not data.startswith(b"\xff" * 8):
        found, same = both(lambda: corrections.apply(data, pair[1]))
        np.testing.assert_array_equal(found, same)


def test_corrections_of_photographs(crops: dict[str, Bytes]) -> None:
    """Of more words than there is room for at first."""
    rendered = np.tile(crops["palms-96x64"], (3, 2, 1))
    pixels = np.tile(crops["bikes-96x64"], (3, 2, 1))
    one, other = both(lambda: corrections.encode(pixels, rendered))
    assert one == other
    np.testing.assert_array_equal(corrections.apply(one, rendered), pixels)


@settings(max_examples=10)
@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=60), st.binary())
def test_sets_of_colours(some: list[tuple[int, int, int]], data: bytes) -> None:
    blue = Colours.of(np.array(some, np.uint8)).table[257:]
    one, other = both(lambda: colour_bits.encode(blue))
    assert one == other

    def decoded() -> Bytes | None:
        try:
            return colour_bits.decode(data, 1000)
        except FormatError:
            return None

    found, same = both(decoded)
    assert np.array_equal(found, same) if found is not None else same is None


def test_shares_of_conversions(crops: dict[str, Bytes]) -> None:
    for pixels in crops.values():
        one, other = both(lambda: conversions.shares(pixels[::3].reshape(-1, 3)))  # noqa: B023
        np.testing.assert_array_equal(one, other)


def test_sets_of_photographs(crops: dict[str, Bytes]) -> None:
    for pixels in crops.values():
        own, same = both(lambda: Colours.of(pixels))  # noqa: B023
        np.testing.assert_array_equal(own.table, same.table)
        one, other = both(lambda: colour_bits.encode(own.table[257:]))  # noqa: B023
        assert one == other


def test_how_crowded_colours_are(crops: dict[str, Bytes]) -> None:
    for pixels in crops.values():
        blue = Colours.of(pixels).table[257:]
        some = np.concatenate([pixels.reshape(-1, 3)[::7], np.array([[0, 0, 0], [255, 255, 255]])])
        spread = np.random.default_rng(0).uniform(0.3, 9, some.shape)
        for given_spread in (spread, np.inf):
            one, other = both(
                lambda: colours._room(blue, some.astype(np.uint8), given_spread)  # noqa: B023
            )
            np.testing.assert_allclose(one, other, rtol=1e-12)


words = st.one_of(st.sampled_from([0, 1, 0x8000, 0xFFFF]), st.integers(0, 0xFFFF))


@settings(max_examples=60)
@given(st.one_of(mixtures(), softmaxes()), st.data())
def test_frequencies_of_allowed_values(parameters: NDArray[np.int32], data: st.DataObject) -> None:
    n = len(parameters)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values, high = rng.integers(0, 256, n, np.uint8), rng.integers(0, 16, n, np.int32)
    rows = data.draw(st.lists(st.lists(words, min_size=16, max_size=16), min_size=1, max_size=4))
    allowed = np.array(rows, np.uint16)[rng.integers(0, len(rows), n)]
    for work in (
        lambda: cdf.intervals(parameters, values, allowed),
        lambda: cdf.high_table(parameters, allowed),
        lambda: cdf.low_table(parameters, high, allowed),
    ):
        np.testing.assert_array_equal(*both(work))


@settings(max_examples=60)
@given(st.tuples(st.integers(1, 20), st.integers(1, 60)), st.integers(1, 8), st.integers(0, 2**32))
def test_filters(shape: tuple[int, int], step: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 256, shape, np.uint8)
    kinds = rng.integers(0, packed.Filter.ADAPTIVE, len(rows), np.uint8)
    chosen, likewise = both(lambda: packed._choose_filters(rows, step))
    np.testing.assert_array_equal(chosen, likewise)
    residuals, same = both(lambda: packed._filter(rows, step, kinds))
    np.testing.assert_array_equal(residuals, same)
    found, same = both(lambda: packed._unfilter(residuals, step, kinds))
    np.testing.assert_array_equal(found, rows)
    np.testing.assert_array_equal(same, rows)


@pytest.mark.parametrize("number", range(conversions.COUNT))
def test_conversions(number: int, crops: dict[str, Bytes]) -> None:
    conversion = conversions.conversion(number)
    rng = np.random.default_rng(number)
    samples = rng.integers(0, 256, (3, 20, 500), np.uint8)
    pixels, same = both(lambda: conversion.render(*samples))
    np.testing.assert_array_equal(pixels, same)
    noise = rng.integers(0, 256, (5000, 3), np.uint8)
    photograph = crops["palms-96x64"].reshape(-1, 3)
    for some in (pixels.reshape(-1, 3), noise, photograph):
        found, again = both(lambda: conversion.invert(some))  # noqa: B023
        np.testing.assert_array_equal(found[1], again[1])
        np.testing.assert_array_equal(found[0], again[0])
        y, c1, c2 = found[0][:, found[1]]
        np.testing.assert_array_equal(conversion.render(y, c1, c2), some[found[1]])


@pytest.mark.parametrize("number", range(len(RULES)))
def test_the_search_for_samples(number: int, crops: dict[str, Bytes]) -> None:
    """Of planes that were stretched, and of pixels that no samples stretch to."""
    rule, rng = RULES[number], np.random.default_rng(number)
    height, width = 47, 62
    rows, columns = extents(height, rule.rows)[-1], extents(width, rule.columns)[-1]
    size = rows.samples(height, rule.rows), columns.samples(width, rule.columns)
    planes = [crops["palms-96x64"][: size[0], : size[1], c] for c in (0, 2)]
    chroma = np.stack([upsample(p, rule, rows, columns, (height, width)) for p in planes])
    known = rng.random((height, width)) < 0.95
    chroma[:, 20:23, 30:35] ^= rng.integers(0, 5, (3, 5), np.uint8)
    found, same = both(lambda: downsampling.shrink(chroma, known, rule, rows, columns))
    np.testing.assert_array_equal(found, same)


@pytest.mark.parametrize("number", range(len(RULES)))
def test_stretching_in_floats(number: int) -> None:
    rule, rng = RULES[number], np.random.default_rng(number)
    height, width = 23, 30
    rows, columns = extents(height, rule.rows)[-1], extents(width, rule.columns)[-1]
    chroma = rng.integers(0, 256, (2, height, width), np.uint8)
    frame = downsampling._Frame(chroma, rng.random((height, width)) < 0.8, rule, rows, columns)
    size = 2, rows.samples(height, rule.rows), columns.samples(width, rule.columns)
    samples = (255 * rng.random(size)).astype(np.float32)
    for work in (
        lambda: frame.stretch(samples),
        lambda: frame.misses(samples),
        lambda: downsampling._adjoint(frame.misses(samples), rule),
        lambda: downsampling._adjoint(frame.known.astype(np.float32), rule),
    ):
        one, other = both(work)
        assert one.dtype == other.dtype == np.float32
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_clipped_pixels(subsampling: int, crops: dict[str, Bytes]) -> None:
    """Of a JPEG with much that is as dark or as bright as it can be."""
    bright = crops["palms-96x64"].astype(np.int64) * 3 - 250
    file = io.BytesIO()
    image = Image.fromarray(np.tile(bright.clip(0, 255).astype(np.uint8), (2, 2, 1)))
    image.save(file, "JPEG", quality=90, subsampling=subsampling)
    pixels = np.asarray(Image.open(file))
    one, other = both(lambda: ycc.find(pixels))
    assert one is not None
    assert other is not None
    assert one.parameters == other.parameters
    for plane, same in zip(one.planes, other.planes, strict=True):
        np.testing.assert_array_equal(plane.samples, same.samples)
