"""Planes in blocks: any of them comes back from its payload, and no damage does harm."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
import reference_blocks
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelzip.codec import coefficients, native
from pixelzip.codec.errors import FormatError, MissingLibraryError, UnknownNetworkError
from pixelzip.codec.jpeg import model, quality
from pixelzip.codec.origins.blocks import Blocks, size
from pixelzip.codec.picture import PlaneLayout
from pixelzip.codec.workers import side_by_side

pytestmark = pytest.mark.skipif(native.coding() is None, reason="there is no compiled library")

TABLES = [quality.tables()[number] for number in (0, 49, 89, 99, 100, 184)]
OWN = np.arange(3, 67, dtype=np.uint16)


def table(random: np.random.Generator) -> NDArray[np.uint16]:
    found = [*TABLES, OWN, OWN * 300, np.full(64, 65535, np.uint16)][random.integers(9)]
    return quality.transposed(found) if random.integers(2) else found


def blocks_of(layout: PlaneLayout, random: np.random.Generator) -> Blocks:
    """Mostly small coefficients, and some of any size."""
    top, left = map(int, random.integers(0, 8, 2))
    shape = (*size((layout.height, layout.width), top, left), 64)
    values = random.normal(0, 3, shape) * (random.random(shape) < random.random())
    values += np.where(random.random(shape) < 0.002, random.integers(-32767, 32768, shape), 0)
    numbers = values.clip(-32767, 32767).astype(np.int16)
    return Blocks(table(random), numbers, top, left, bool(random.integers(2)))


def same(one: Blocks, other: Blocks) -> bool:
    return (
        np.array_equal(one.steps, other.steps)
        and np.array_equal(one.coefficients, other.coefficients)
        and (one.top, one.left, one.transposed) == (other.top, other.left, other.transposed)
    )


LUMA = PlaneLayout(37, 45, 1, "luma")


@st.composite
def planes(draw: st.DrawFn) -> tuple[PlaneLayout, list[tuple[PlaneLayout, Blocks | None]], int]:
    """A plane, those that it is given, and a seed."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    luma, seed = PlaneLayout(height, width, 1, "luma"), draw(st.integers(0, 999))
    step = draw(st.sampled_from([(1, 1), (1, 2), (2, 2)]))
    phase = tuple(draw(st.integers(0, 2)) if one == 2 else 0 for one in step)
    sides = [-(-(n + p) // s) for n, p, s in zip((height, width), phase, step, strict=True)]
    chroma = PlaneLayout(sides[0], sides[1], 1, "chroma", step, (phase[0], phase[1]))
    count, random = draw(st.integers(0, 2)), np.random.default_rng(seed)
    every = [luma, chroma, chroma]
    earlier = [
        (one, blocks_of(one, random) if random.integers(3) else None) for one in every[:count]
    ]
    return every[count], earlier, seed


@settings(max_examples=40)
@given(planes())
def test_any_plane_comes_back(
    drawn: tuple[PlaneLayout, list[tuple[PlaneLayout, Blocks | None]], int],
) -> None:
    layout, earlier, seed = drawn
    blocks = blocks_of(layout, np.random.default_rng(seed + 1))
    payload = coefficients.encode(layout, blocks, earlier)
    if payload is None:  # more bytes than samples
        assert np.count_nonzero(blocks.coefficients) * 16 > layout.height * layout.width
        return
    decoded = coefficients.decode(payload, layout, earlier)
    assert same(decoded.blocks, blocks)
    # A byte at most ends the message; parts of it said what the table is and how blocks lie.
    assert decoded.prices.sum() / 8 < len(payload) < decoded.prices.sum() / 8 + 200
    assert coefficients.describe(payload)


@pytest.mark.parametrize("threads", [1, 3])
def test_large_planes_are_cut_into_bands(threads: int) -> None:
    layout = PlaneLayout(2000, 2000, 1, "luma")
    random = np.random.default_rng(1)
    numbers = np.zeros((250, 250, 64), np.int16)
    numbers[:, :, 0] = random.integers(-40, 40, (250, 250))
    blocks = Blocks(TABLES[2], numbers, 0, 0, False)
    with side_by_side(threads) as parallel:
        payload = coefficients.encode(layout, blocks, [], parallel)
        assert payload is not None
        assert payload[2] == 2  # bands
        assert same(coefficients.decode(payload, layout, [], parallel).blocks, blocks)


def test_what_is_known_of_luma_helps_chroma() -> None:
    random = np.random.default_rng(0)
    luma = PlaneLayout(160, 160, 1, "luma")
    chroma = replace(luma, kind="chroma")
    numbers = np.zeros((20, 20, 64), np.int16)
    numbers[:, :, :10] = random.integers(-3, 4, (20, 20, 10))
    blocks = Blocks(TABLES[2], numbers, 0, 0, False)
    alone = coefficients.encode(chroma, blocks, [(luma, None)])
    after = coefficients.encode(chroma, blocks, [(luma, blocks)])
    assert alone is not None
    assert after is not None
    assert len(after) < 0.9 * len(alone)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("number", range(0, 200, 7))
def test_a_table_of_the_standard_takes_one_byte(number: int, turned: bool) -> None:
    steps = quality.tables()[number]
    steps = quality.transposed(steps) if turned else steps
    blocks = Blocks(steps, np.zeros((5, 6, 64), np.int16), 0, 0, False)
    payload = coefficients.encode(LUMA, blocks, [])
    assert payload is not None
    assert len(payload) < 12
    assert coefficients.describe(payload) == f"quality {number % 100 + 1}"
    assert same(coefficients.decode(payload, LUMA, []).blocks, blocks)


def test_tables_are_the_standards() -> None:
    for number in range(quality.COUNT):
        theirs = np.array(reference_blocks.table(number)).ravel()
        assert np.array_equal(quality.tables()[number], theirs)


def test_steps_of_frequencies_that_do_not_occur_become_usual() -> None:
    luma, chroma = quality.tables()[84], quality.tables()[184]
    numbers = np.zeros((3, 3, 64), np.int16)
    numbers[1, 1, :20] = 1
    unknown = np.arange(64) >= 20
    made = [
        Blocks(np.where(unknown, 1, steps).astype(np.uint16), numbers, 0, 0, False)
        for steps in (luma, chroma, OWN)
    ]
    usual = coefficients.with_usual_steps([made[0], None, made[1]])
    assert usual[0] is not None
    assert usual[1] is None
    assert usual[2] is not None
    assert np.array_equal(usual[0].steps, luma)
    assert np.array_equal(usual[2].steps, chroma)
    _, first, second = coefficients.with_usual_steps([made[0], made[2], made[2]])
    assert first is not None
    assert second is not None
    assert np.array_equal(first.steps, made[2].steps)
    assert np.array_equal(second.steps, made[2].steps)


def test_damage_gives_an_error_or_other_blocks() -> None:
    random, source = np.random.default_rng(2), Random(2)
    chroma = PlaneLayout(19, 23, 1, "chroma", (2, 2), (1, 0))
    earlier = [(LUMA, blocks_of(LUMA, random))]
    blocks = replace(blocks_of(chroma, random), steps=OWN)
    blocks.coefficients[np.abs(blocks.coefficients) > 9] = 0
    payload = coefficients.encode(chroma, blocks, earlier)
    assert payload is not None
    refused = 0
    for _ in range(400):
        hurt = bytearray(payload)
        for _ in range(source.choice([1, 1, 3])):
            hurt[source.randrange(min(len(hurt), source.choice([8, 10**6])))] = source.randrange(
                256
            )
        cut = bytes(hurt[: source.choice([len(hurt), len(hurt), source.randrange(len(hurt))])])
        try:
            decoded = coefficients.decode(cut, chroma, earlier)
        except (FormatError, UnknownNetworkError):  # of another edition
            refused += 1
        else:
            assert decoded.blocks.coefficients.shape[2] == 64
    assert refused > 100


@pytest.mark.parametrize("more", [b"\0", b"\1", b"more"])
def test_nothing_can_be_added_and_nothing_left_out(more: bytes) -> None:
    blocks = Blocks(OWN, np.full((5, 6, 64), 2, np.int16), 0, 0, False)
    payload = coefficients.encode(LUMA, blocks, [])
    assert payload is not None
    for changed in (payload + more, payload[:-2]):
        with pytest.raises(FormatError):
            coefficients.decode(changed, LUMA, [])


def test_steps_of_a_plane_before_need_one() -> None:
    for payload in (b"\0\xca\1", b"\0\xcb\1", b"\0\xff\1", b"\0\0\0", b"\0\0\x11", b"\0", b""):
        with pytest.raises(FormatError):
            coefficients.decode(payload, LUMA, [(LUMA, None)])


def test_without_compiled_code_nothing_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "library", lambda: None)
    with pytest.raises(MissingLibraryError, match="without a C compiler"):
        coefficients.decode(b"\0\0\1", LUMA, [])
