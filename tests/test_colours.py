"""Sets of colours: their bytes, and distributions without all other colours."""

from __future__ import annotations

import contextlib
import time
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tiny
import toys
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from test_cdf import likely, mixtures, oracle_cdf, oracle_sums, softmaxes

from pixelzip.codec import cdf, coder, colours, tiles
from pixelzip.codec.colours import Colours, Several
from pixelzip.codec.errors import FormatError
from pixelzip.models.freezing import freeze
from pixelzip.models.frozen import backends
from pixelzip.models.frozen.network import Frozen

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def photograph(photo_path: Path) -> Pixels:
    """Part of a photograph."""
    with Image.open(photo_path) as image:
        return np.asarray(image)[:300, :400].copy()


def few(pixels: Pixels, levels: int) -> Pixels:
    """The same with fewer levels in each channel."""
    step = 255 / (levels - 1)
    return np.rint(np.rint(pixels / step) * step).astype(np.uint8)


# --- The set -------------------------------------------------------------------------------------

colour_lists = st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=40)


@settings(max_examples=40)
@given(colour_lists)
def test_any_set_comes_back(some: list[tuple[int, int, int]]) -> None:
    own = Colours.of(np.array(some, np.uint8))
    assert len(own) == len(set(some))
    again = Colours.from_bytes(own.data, len(own))
    np.testing.assert_array_equal(again.table, own.table)


def test_sets_of_photographs_come_back_in_few_bytes(crops: dict[str, Pixels]) -> None:
    for pixels in crops.values():
        for levels in (256, 64, 16):
            own = Colours.of(few(pixels, levels))
            data = own.data
            assert len(data) < 3 * len(own)
            again = Colours.from_bytes(data, pixels.size // 3)
            np.testing.assert_array_equal(again.table, own.table)


def test_it_says_what_there_can_be() -> None:
    some = [(3, 5, 7), (3, 5, 250), (3, 6, 0), (255, 255, 255)]
    own = Colours.of(np.array(some, np.uint8))

    def allowed(*earlier: int) -> list[int]:
        words = own.allowed(np.array([earlier], np.uint8).reshape(1, -1))[0]
        return [v for v in range(256) if words[v >> 4] >> (v & 15) & 1]

    assert allowed() == [3, 255]
    assert allowed(3) == [5, 6]
    assert allowed(255) == [255]
    assert allowed(3, 5) == [7, 250]
    assert allowed(3, 6) == [0]
    assert allowed(255, 255) == [255]
    assert allowed(4) == allowed(4, 5) == allowed(3, 4) == []


def test_a_set_has_no_more_colours_than_it_may() -> None:
    everything = np.array(list(product(range(0, 256, 15), repeat=3)), np.uint8)
    data = Colours.of(everything).data
    assert len(Colours.from_bytes(data, len(everything))) == len(everything)
    with pytest.raises(FormatError):
        Colours.from_bytes(data, len(everything) - 1)


@settings(max_examples=40)
@given(st.binary(max_size=200))
def test_any_data_is_a_set_or_damaged(data: bytes) -> None:
    try:
        own = Colours.from_bytes(data, 5000)
    except FormatError:
        return
    assert 1 <= len(own) <= 5000


def test_damaged_sets_are_sets_or_damaged(crops: dict[str, Pixels]) -> None:
    data = Colours.of(crops["parrot-32x32"]).data
    rng = np.random.default_rng(0)
    for _ in range(100):
        damaged = bytearray(data)
        damaged[rng.integers(len(data))] ^= 1 << rng.integers(8)
        del damaged[rng.integers(len(data), 2 * len(data)) :]
        with contextlib.suppress(FormatError):
            assert 1 <= len(Colours.from_bytes(bytes(damaged), 1024)) <= 1024


def test_a_vector() -> None:
    some = [(r, g, b) for r in range(3) for g in range(3) for b in range(3)] + [(255, 0, 128)]
    assert Colours.of(np.array(some, np.uint8)).data.hex() == "e4bace4bcd1f007c7ffef5fd659306"


# --- Looking for one ------------------------------------------------------------------------------


def test_sets_that_pay_are_found(photograph: Pixels) -> None:
    for sparse in (few(photograph, 40), posterised_luma(photograph)):
        found = colours.find(sparse)
        assert found is not None
        np.testing.assert_array_equal(found.table, Colours.of(sparse).table)


def posterised_luma(pixels: Pixels) -> Pixels:
    """Colours that lie on planes across the cube."""
    luma = pixels.astype(np.int64) @ [77, 150, 29] >> 8
    return (pixels - luma[:, :, None] % 6).clip(0, 255).astype(np.uint8)


def test_sets_that_do_not_pay_are_left_alone(photograph: Pixels, crops: dict[str, Pixels]) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(-9, 10, photograph.shape)
    for pixels in (
        (photograph + noise).clip(0, 255).astype(np.uint8),
        rng.integers(0, 256, (200, 200, 3), dtype=np.uint8),
        photograph[:1],
        photograph[:, :1],
        photograph[:2, :2],
        *crops.values(),
    ):
        assert colours.find(pixels) is None


def test_looking_is_quick(photograph: Pixels) -> None:
    large = np.tile(photograph.astype(np.int64), (4, 3, 1))
    large += np.random.default_rng(0).integers(-20, 21, large.shape)
    large = large.clip(0, 255).astype(np.uint8)
    colours.find(large)
    start = time.process_time()
    assert colours.find(large) is None
    assert time.process_time() - start < 0.1 * large.size / 3e6


# --- Distributions -------------------------------------------------------------------------------


def oracle_frequencies(edges: list[int], allowed: list[bool]) -> tuple[list[int], list[list[int]]]:
    """As `test_cdf.oracle_frequencies`, of a CDF that only grows over allowed values."""
    spread = 2**24 - 18
    mass = [(edges[v + 1] - edges[v]) * allowed[v] for v in range(256)]

    def shared(*choices: list[int]) -> list[int]:
        masses = next(c for c in (*choices, [1] * 16) if sum(c))
        ends = [sum(masses[:j]) * spread // sum(masses) for j in range(17)]
        return [ends[j + 1] - ends[j] + 1 for j in range(16)]

    bins = [slice(16 * n, 16 * n + 16) for n in range(16)]
    high = shared([sum(mass[b]) for b in bins], [sum(allowed[b]) for b in bins])
    return high, [shared(mass[b], [int(a) for a in allowed[b]]) for b in bins]


masks = st.one_of(
    st.lists(st.integers(0, 255), max_size=20).map(lambda few: [v in few for v in range(256)]),
    st.lists(st.integers(0, 255), max_size=20).map(lambda few: [v not in few for v in range(256)]),
    st.integers(1, 9).map(lambda step: [v % step == 0 for v in range(256)]),
    st.tuples(st.integers(0, 255), st.integers(0, 255)).map(
        lambda ends: [ends[0] <= v <= ends[1] for v in range(256)]
    ),
    st.just([True] * 256),
)


def words(allowed: list[bool]) -> NDArray[np.uint16]:
    return np.array(
        [[sum(allowed[16 * n + j] << j for j in range(16)) for n in range(16)]], np.uint16
    )


def check_frequencies(parameters: NDArray[np.int32], edges: list[int], allowed: list[bool]) -> None:
    high, lows = oracle_frequencies(edges, allowed)
    mask, each = words(allowed), np.arange(16, dtype=np.int32)
    high_table = cdf.high_table(parameters, mask).astype(np.int64) + 1
    low_tables = cdf.low_table(np.repeat(parameters, 16, 0), each, np.repeat(mask, 16, 0))
    assert high_table[0].tolist() == [1, *high, 1]
    assert (low_tables.astype(np.int64) + 1).tolist() == [[1, *low, 1] for low in lows]
    every = np.arange(256, dtype=np.uint8)
    scored = cdf.intervals(np.repeat(parameters, 256, 0), every, np.repeat(mask, 256, 0))
    whole = scored.astype(np.int64) + 1
    assert (whole.sum(-1) == 2**24).all()
    for value in range(256):
        nibble, low = divmod(value, 16)
        assert whole[value, 0, :2].tolist() == [1 + sum(high[:nibble]), high[nibble]]
        assert whole[value, 1, :2].tolist() == [1 + sum(lows[nibble][:low]), lows[nibble][low]]
    if sum(allowed) == 1:  # it costs next to nothing
        value = allowed.index(True)
        assert cdf.ideal_bits(scored[value]) < 1e-5


@settings(max_examples=60)
@given(mixtures(), masks)
def test_mixtures_of_allowed_values_are_the_oracle_s(
    parameters: NDArray[np.int32], allowed: list[bool]
) -> None:
    check_frequencies(parameters, oracle_cdf(parameters[0]), allowed)


@settings(max_examples=40)
@given(softmaxes(), masks)
def test_logits_of_allowed_values_are_the_oracle_s(
    logits: NDArray[np.int32], allowed: list[bool]
) -> None:
    check_frequencies(logits, oracle_sums(logits[0].tolist()), allowed)


@pytest.mark.parametrize("form", ["mixture", "softmax"])
def test_where_all_values_are_allowed_nothing_changes(form: str) -> None:
    parameters = likely(500, 5, 0)
    if form == "softmax":
        parameters = np.random.default_rng(0).normal(0, 900, (500, 256)).astype(np.int32)
    values = np.arange(500).astype(np.uint8)
    high = (values >> 4).astype(np.int32)
    everything = np.full((500, 16), 0xFFFF, np.uint16)
    for masked, plain in (
        (cdf.intervals(parameters, values, everything), cdf.intervals(parameters, values)),
        (cdf.high_table(parameters, everything), cdf.high_table(parameters)),
        (cdf.low_table(parameters, high, everything), cdf.low_table(parameters, high)),
    ):
        np.testing.assert_array_equal(masked, plain)


# --- Tiles ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network(crops: dict[str, Pixels]) -> Frozen:
    tensors = tiny.photo().freeze(tiny.sample(crops.values())[:8])
    return backends.make("tiny", freeze.arrays(tensors), tiny.CONFIG)


def posterised(crops: dict[str, Pixels]) -> list[Pixels]:
    return [few(pixels, 4 + 3 * i) for i, pixels in enumerate(crops.values())][:4]


@pytest.mark.parametrize("name", ["network", "toy"])
def test_tiles_of_few_colours_come_back(
    name: str, network: Frozen, crops: dict[str, Pixels]
) -> None:
    conditional = network if name == "network" else toys.Toy("coarse", classes=3)
    pictures = posterised(crops)
    if name == "toy":  # which is slow
        pictures = [pixels[:20, :24] for pixels in pictures[:3]]
    sets = [Colours.of(pixels) if i else None for i, pixels in enumerate(pictures)]
    payloads = tiles.encode_tiles(conditional, pictures, colours=sets)
    without = tiles.encode_tiles(conditional, pictures)
    assert payloads[0] == without[0]
    assert all(len(a) < len(b) for a, b in zip(payloads[1:], without[1:], strict=True))
    shapes = [pixels.shape[:2] for pixels in pictures]
    for threads in (1, 2):
        back = tiles.decode_tiles(conditional, payloads, shapes, 3, colours=sets, threads=threads)
        for pixels, found in zip(pictures, back, strict=True):
            np.testing.assert_array_equal(found, pixels)
    # One at a time gives the same, and the score is the payload's length.
    scores = tiles.score_tiles(conditional, pictures, colours=sets)
    for i, pixels in enumerate(pictures):
        assert tiles.encode_tiles(conditional, [pixels], colours=[sets[i]]) == [payloads[i]]
        assert scores[i].sum() / 8 == pytest.approx(len(payloads[i]), abs=3)


def test_a_tile_with_the_wrong_set_does_no_harm(network: Frozen, crops: dict[str, Pixels]) -> None:
    """Colours that the set does not have can be decoded, and what follows them."""
    pixels = few(crops["parrot-32x32"], 5)
    (payload,) = tiles.encode_tiles(network, [pixels], colours=[Colours.of(pixels)])
    for wrong in (few(pixels, 3), np.zeros((1, 3), np.uint8), crops["parrot-32x32"]):
        for data in (payload, bytes(range(1, 255)), b"\xf0" * 999 + b"\x01"):
            try:
                (back,) = tiles.decode_tiles(
                    network, [data], [(32, 32)], 3, colours=[Colours.of(wrong)]
                )
            except FormatError:
                continue
            assert back.shape == (32, 32, 3)


def test_several_tiles_share_a_table(crops: dict[str, Pixels]) -> None:
    first, last = (Colours.of(few(pixels, 5)) for pixels in list(crops.values())[:2])
    several = Several([first, None, last, first])
    earlier = crops["parrot-32x32"].reshape(-1, 3)[:, :2]
    at = np.arange(len(earlier)) % 4
    found = several.allowed(at, earlier)
    np.testing.assert_array_equal(found[at == 0], first.allowed(earlier)[at == 0])
    np.testing.assert_array_equal(found[at == 3], first.allowed(earlier)[at == 3])
    np.testing.assert_array_equal(found[at == 2], last.allowed(earlier)[at == 2])
    assert (found[at == 1] == 0xFFFF).all()


def test_masked_payloads_are_those_of_the_tables() -> None:
    """What `intervals` encodes, the tables decode."""
    parameters = likely(300, 4, 3)
    rng = np.random.default_rng(1)
    mask = rng.integers(0, 1 << 16, (300, 16)) & rng.integers(0, 1 << 16, (300, 16))
    mask[::7, 1:] = 0
    mask[:, 0] |= 2
    allowed = mask.astype(np.uint16)
    values = np.array(
        [rng.choice([v for v in range(256) if row[v >> 4] >> (v & 15) & 1]) for row in allowed]
    ).astype(np.uint8)
    payload = coder.encode(cdf.intervals(parameters, values, allowed).reshape(-1, 3))
    decoder, found = coder.Decoder(payload), []
    for i in range(300):
        row = slice(i, i + 1)
        high = decoder.decode(cdf.high_table(parameters[row], allowed[row]))
        low = decoder.decode(cdf.low_table(parameters[row], high, allowed[row]))
        found.append(16 * high[0] + low[0])
    assert found == values.tolist()


@pytest.mark.parametrize("count", [1, 5, 700, 40_000])
def test_some_colours_are_chosen_evenly(count: int) -> None:
    pixels = np.random.default_rng(count).integers(0, 256, (count, 3), np.uint8)
    number, some = colours._choose(Colours.of(pixels).table[257:])
    codes = np.unique(pixels.astype(np.int64) @ [65536, 256, 1])
    assert number == len(codes)
    places = np.linspace(0, number - 1, min(number, colours._SAMPLE)).astype(np.intp)
    np.testing.assert_array_equal(some.astype(np.int64) @ [65536, 256, 1], codes[places])
