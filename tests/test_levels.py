"""Fewer levels: what was stretched, shifted or repeated is found and comes back."""

from __future__ import annotations

import time

import numpy as np
import pytest
import room
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pixelzip.codec.errors import FormatError
from pixelzip.codec.origins import levels
from pixelzip.codec.origins.origin import Found, Samples
from pixelzip.codec.picture import PlaneLayout


@pytest.fixture(scope="module")
def photograph(photo_path) -> NDArray[np.uint8]:  # type: ignore[no-untyped-def]
    with Image.open(photo_path) as image:
        return np.asarray(image)[:300, :400].copy()


@pytest.fixture(scope="module")
def deep(photograph: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The same with many more levels, 0 to 1."""
    noise = np.random.default_rng(0).random(photograph.shape)
    return (photograph + noise) / 256


def check(samples: Samples) -> Found:
    """What is found, once it has been seen to render to the samples."""
    found = levels.find(samples)
    assert found is not None
    planes = [plane.samples for plane in found.planes]
    shape = samples.shape[:2]
    rendered = levels.render(found.parameters, planes, shape)
    assert rendered.dtype == samples.dtype
    np.testing.assert_array_equal(rendered, samples)
    assert levels.layout(found.parameters, shape) == tuple(
        PlaneLayout(*plane.samples.shape, plane.kind) for plane in found.planes
    )
    return found


# --- 8 bits --------------------------------------------------------------------------------------


def test_photographs_have_all_their_levels(
    photograph: NDArray[np.uint8], crops: dict[str, NDArray[np.uint8]]
) -> None:
    assert levels.find(photograph) is None
    for crop in crops.values():
        assert levels.find(crop) is None


@pytest.mark.parametrize(("low", "high"), [(20, 230), (0, 127), (40, 140)])
def test_a_stretched_contrast(photograph: NDArray[np.uint8], low: int, high: int) -> None:
    clipped = photograph.clip(low, high).astype(np.int64) - low
    stretched = (2 * clipped * 255 + high - low) // (2 * (high - low))
    found = check(stretched.astype(np.uint8))
    assert len(found.parameters) <= 4
    np.testing.assert_array_equal(found.planes[0].samples, clipped)
    assert found.planes[0].kind == "colour"
    assert str(high - low + 1 if low else 7) in levels.describe(found.parameters)


def test_a_table_for_each_channel(photograph: NDArray[np.uint8]) -> None:
    value = np.arange(256) / 255
    tables = [np.rint(255 * value**gamma).astype(np.uint8) for gamma in (0.6, 0.8, 1.4)]
    pixels = np.stack([tables[c][photograph[:, :, c]] for c in range(3)], axis=2)
    found = check(pixels)
    assert len(found.parameters) < 130
    counts = [len(np.unique(pixels[:, :, c])) for c in range(3)]
    assert found.planes[0].samples.reshape(-1, 3).max(0).tolist() == [n - 1 for n in counts]


def test_555(photograph: NDArray[np.uint8]) -> None:
    """Five bits for each channel, as old frame buffers have them."""
    five = photograph >> 3
    found = check(five << 3 | five >> 2)
    np.testing.assert_array_equal(found.planes[0].samples, five)
    assert levels.describe(found.parameters) == "samples of 5 bits, repeated in 8"
    found = check((five << 3)[:, :, :1])
    assert levels.describe(found.parameters) == "samples of 5 bits, shifted in 8"
    assert found.planes[0].kind == "luma"


def test_grey_of_two_channels_is_left_alone(photograph: NDArray[np.uint8]) -> None:
    assert levels.find(photograph[:, :, :2] & 0xF0) is None


# --- 16 bits -------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14])
@pytest.mark.parametrize("rule", list(levels.Rule)[:5])
def test_fewer_than_16_bits(deep: NDArray[np.float64], bits: int, rule: levels.Rule) -> None:
    v = (deep * 2**bits).astype(np.int64)
    samples = {
        levels.Rule.PLAIN: v,
        levels.Rule.SHIFTED: v << (16 - bits),
        levels.Rule.REPEATED: v << (16 - bits) | v >> max(0, 2 * bits - 16),
        levels.Rule.ROUNDED: np.rint(v * 65535 / (2**bits - 1)).astype(np.int64),
        levels.Rule.TRUNCATED: v * 65535 // (2**bits - 1),
    }[rule].astype(np.uint16)
    found = check(samples)
    numbers = found.planes[0].samples.astype(np.int64)
    if bits > 8:
        assert [plane.kind for plane in found.planes] == ["colour", "labels"]
        numbers = (numbers << (bits - 8)) + found.planes[1].samples
    else:
        assert len(found.planes) == 1
    np.testing.assert_array_equal(numbers, v)
    assert len(found.parameters) <= 4
    words = levels.describe(found.parameters).split()
    assert str(bits) in words or str(2**bits) in words


def test_any_few_levels_of_16_bits(deep: NDArray[np.float64]) -> None:
    table = np.sort(np.random.default_rng(0).choice(65536, 500, replace=False))
    samples = table[(deep[:, :, :1] * 500).astype(int)].astype(np.uint16)
    found = check(samples)
    assert len(found.planes) == 2
    assert found.planes[1].samples.max() == 1
    assert levels.describe(found.parameters) == f"{len(np.unique(samples))} of 65536 levels"


def test_16_real_bits_are_left_alone(deep: NDArray[np.float64]) -> None:
    samples = (deep * 65535).astype(np.uint16)
    assert levels.find(samples) is None
    assert levels.find(samples[:20, :20]) is None


# --- Any samples, any parameters -----------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.sampled_from([8, 16]),
    st.lists(st.integers(0, 65535), min_size=1, max_size=30),
    st.sampled_from([1, 3]),
    st.integers(0, 2**32),
)
def test_what_is_found_always_renders(
    depth: int, values: list[int], channels: int, seed: int
) -> None:
    table = (np.array(values) >> (16 - depth)).astype(np.uint8 if depth == 8 else np.uint16)
    rng = np.random.default_rng(seed)
    samples = table[rng.integers(0, len(table), (40, 50, channels))]
    if levels.find(samples) is not None:
        check(samples)


@settings(max_examples=200)
@given(
    st.one_of(
        st.binary(max_size=40),
        st.tuples(
            st.integers(0, 15), st.lists(st.sampled_from(list(levels._rules(16))), max_size=3)
        ).map(lambda parts: bytes([parts[0]]) + b"".join(parts[1])),
        st.tuples(st.integers(0, 7), st.binary(max_size=30)).map(
            lambda parts: bytes([parts[0], 5, len(parts[1]), 0]) + parts[1]
        ),
    ),
    st.integers(0, 2**32),
)
def test_any_parameters_render_or_are_damaged(parameters: bytes, seed: int) -> None:
    try:
        layouts = levels.layout(parameters, (7, 5))
    except FormatError:
        with pytest.raises(FormatError):
            levels.render(parameters, [], (7, 5))
        return
    rng = np.random.default_rng(seed)
    planes = [rng.integers(0, 256, (7, 5, one.channels), dtype=np.uint8) for one in layouts]
    rendered = levels.render(parameters, planes, (7, 5))
    assert rendered.shape == (7, 5, layouts[0].channels)
    assert levels.describe(parameters)


def test_looking_is_quick(photograph: NDArray[np.uint8], deep: NDArray[np.float64]) -> None:
    """A fraction of a second for each million pixels that have all their levels."""
    for one in (photograph, (deep * 65535).astype(np.uint16)):
        large = np.tile(one, (4, 3, 1))
        levels.find(large)
        start = time.process_time()
        levels.find(large)
        assert (time.process_time() - start) / (large.size / 3e6) < 0.1


def peak_of_few() -> list[float]:
    """What finding and rendering a large picture of few levels take, in parts of its samples."""
    rows, columns = np.indices((2000, 3000), np.int32)
    samples = (17 * ((rows * columns)[..., None] % (3, 4, 5))).astype(np.uint8)
    small = levels.find(samples[:60, :80])  # what is loaded once does not count
    assert small is not None
    with room.Peak() as finding:
        found = levels.find(samples)
    assert found is not None
    planes = [plane.samples for plane in found.planes]
    with room.Peak() as rendering:
        levels.render(found.parameters, planes, samples.shape[:2])
    return [peak.room / samples.nbytes for peak in (finding, rendering)]


def test_large_pictures_are_looked_at_in_bands() -> None:
    assert max(room.alone(peak_of_few)) < 1.9
