"""Offsets fitted to a tile: found alike everywhere, worth their bytes, and added when decoding."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray
from toys import Toy

import pixelzip
from pixelzip.codec import cdf, coder, native, offsets, tiles
from pixelzip.codec.conditional import Shift, fitted_tiles, front_order
from pixelzip.codec.container import StoredPlane, pack, unpack
from pixelzip.codec.errors import FormatError
from pixelzip.codec.methods import Method, Tile
from pixelzip.models import zoo
from pixelzip.models.freezing import freeze
from pixelzip.models.frozen import backends
from pixelzip.models.frozen import native as engine
from pixelzip.models.frozen.kernels import Kernels
from pixelzip.models.frozen.walk import Walked
from pixelzip.models.gpu.photo import Twins

Crops = dict[str, NDArray[np.uint8]]
Mixtures = NDArray[np.int32]


@pytest.fixture(scope="module")
def network(crops: Crops) -> Any:
    """A little one, whose mixtures leave much to fit."""
    return backends.make("n", *integers(crops))


def integers(crops: Crops) -> Any:
    frozen = tiny.photo().freeze(tiny.sample(crops.values())[:8])
    return freeze.arrays(frozen), tiny.CONFIG


@pytest.fixture
def pictures(crops: Crops) -> list[NDArray[np.uint8]]:
    """Just large enough, larger, and too small."""
    whole = crops["bikes-96x64"]
    return [whole[:64, :64], whole, whole[:40, :50]]


def drawn(mixtures: Mixtures, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A value of each of (n, 3, K) mixtures."""
    logits, means, log_scales = mixtures[:, 0] / 256, mixtures[:, 1] / 256, mixtures[:, 2] / 32
    chosen = (logits + rng.gumbel(size=logits.shape)).argmax(1)[:, None]
    mean, log_scale = (np.take_along_axis(x, chosen, 1)[:, 0] for x in (means, log_scales))
    found = np.rint(mean + np.exp(log_scale) * rng.logistic(size=len(mean)))
    return np.clip(found, 0, 255).astype(np.uint8)


def some_mixtures(rng: np.random.Generator, n: int, k: int) -> Mixtures:
    parts = [
        rng.integers(-300, 300, (n, k)),
        rng.integers(20 * 256, 230 * 256, (n, 1)) + rng.integers(-2000, 2000, (n, k)),
        rng.integers(0, 80, (n, k)),
    ]
    return np.stack(parts, 1).astype(np.int32)


# --- The fit -------------------------------------------------------------------------------------


def no_factors(values: NDArray[np.uint8]) -> Mixtures:
    return np.zeros(values.shape, np.int32)


def test_what_mixtures_are_off_by_is_found() -> None:
    rng = np.random.default_rng(1)
    right = some_mixtures(rng, 8000, 2)
    values = drawn(right, rng)[:, None]
    factors = rng.integers(-5000, 5000, (8000, 4), dtype=np.int32)
    weights = np.array([400, 0, -200], np.int32)
    wrong = right - np.array([[160, 0], [0, 320], [-16, 0]], np.int32)
    wrong[:, 1] -= offsets.moved(factors[:, :3], weights)[:, None]
    wrong, right = wrong[:, None], right[:, None]
    found = offsets.fit(wrong, values, factors)
    assert found.offsets.dtype == np.int8
    assert found.offsets.shape == (1, 3, 2)
    logits, means, log_scales = found.offsets[0].astype(int)
    assert logits[0] - logits[1] == pytest.approx(10, abs=3)  # of 1/16 nat; both may move alike
    assert means == pytest.approx([0, 20], abs=5)
    assert log_scales == pytest.approx([-16, 0], abs=3)
    shift = found.shift(3)
    assert shift.weights.shape == (1, 4)
    assert shift.weights[0] == pytest.approx([400, 0, -200, 0], abs=20)
    assert np.array_equal(shift.weights[0, :3] % (1 << found.steps[0]), [0, 0, 0])
    alone = offsets.fit(wrong, values, factors, weighed=False)
    assert alone.weights[0].size == 0
    assert not alone.shift(3).weights.any()
    saved = [offsets.gain(wrong, values, factors, some.shift(3)) for some in (found, alone)]
    assert saved[0] > saved[1] + 200 > 200
    nothing = offsets.fit(right, values, factors)
    assert offsets.gain(right, values, factors, nothing.shift(3)) < 2 * offsets.luck(nothing)


def test_finer_steps_where_more_is_known() -> None:
    rng = np.random.default_rng(9)
    mixtures = some_mixtures(rng, 4000, 2)[:, None]
    values, factors = drawn(mixtures[:, 0], rng)[:, None], np.zeros((4000, 3), np.int32)
    factors[:] = rng.integers(-300, 300, (4000, 1))
    steps = [offsets.fit(mixtures, values, factors * large).steps[0] for large in (1, 10, 100)]
    assert steps == sorted(steps, reverse=True)
    assert len(set(steps)) == 3


def test_loops_are_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    if offsets._library() is None:
        pytest.skip("there is no library")
    rng = np.random.default_rng(2)
    for k, n, shared in ((5, 600, 6), (1, 1, 0), (16, 200, 78)):
        wild = np.stack(
            [
                rng.integers(-5000, 5000, (n, 2, k)),
                rng.integers(-(1 << 20), 1 << 20, (n, 2, k)),
                rng.integers(-300, 300, (n, 2, k)),
            ],
            2,
        ).astype(np.int32)
        usual = some_mixtures(rng, 2 * n, k).reshape(n, 2, 3, k)
        values = rng.choice(np.array([0, 1, 100, 254, 255], np.uint8), (n, 2))
        factors = rng.integers(-20000, 20000, (n, shared + 2), dtype=np.int32)
        for mixtures, seen in ((wild, factors << 12), (usual, factors)):
            expected = offsets.fit(mixtures, values, seen, 3)
            added = mixtures.copy()
            offsets.add(added, seen, expected.shift(shared))
            with monkeypatch.context() as without:
                without.setattr(offsets, "_library", lambda: None)
                found = offsets.fit(mixtures, values, seen, 3)
                assert found.steps == expected.steps
                assert np.array_equal(found.offsets, expected.offsets)
                assert all(map(np.array_equal, found.weights, expected.weights))
                without.setattr(native, "coding", lambda: None)
                again = mixtures.copy()
                offsets.add(again, seen, expected.shift(shared))
                assert np.array_equal(again, added)


def test_what_moves_means_is_rounded_and_bounded() -> None:
    factors = np.array([[1 << 27, 3], [-(1 << 27), 3], [1, 1], [0, 2048], [0, 2047]], np.int32)
    weights = np.array([127 << 12, 1], np.int32)
    found = offsets.moved(factors, weights).tolist()
    assert found == [1 << 26, -(1 << 26), 127, 1, 0]
    parameters = np.zeros((5, 1, 3, 1), np.int32)
    shift = Shift(np.zeros((1, 3, 1), np.int32), np.array([[127 << 12, 1, 9]], np.int32))
    offsets.add(parameters, np.concatenate([factors, factors[:, :1]], 1), shift)
    assert parameters[:, 0, 1, 0].tolist() == found


def some_fit(channels: int, k: int, shared: int | None) -> offsets.Fit:
    rng = np.random.default_rng(3)
    counts = [0 if shared is None else shared + c for c in range(channels)]
    return offsets.Fit(
        rng.integers(-127, 128, (channels, 3, k), np.int8),
        tuple(rng.integers(-9, 9, count).astype(np.int8) for count in counts),
        tuple(3 * c + 2 if count else 255 for c, count in enumerate(counts)),
    )


def same(one: offsets.Fit, other: offsets.Fit) -> bool:
    return (
        one.steps == other.steps
        and np.array_equal(one.offsets, other.offsets)
        and all(map(np.array_equal, one.weights, other.weights))
    )


@pytest.mark.parametrize(("channels", "shared"), [(3, 7), (1, 0), (1, 5), (3, None)])
def test_bytes(channels: int, shared: int | None) -> None:
    some = some_fit(channels, 4, shared)
    rest = cdf.intervals(
        some_mixtures(np.random.default_rng(4), 9, 2), np.arange(9, dtype=np.uint8)
    )
    head, numbers = offsets.start(some), offsets.intervals(some)
    assert len(head) == 1 + 3 * channels
    assert len(numbers) == 2 * some.count
    payload = head + coder.encode(np.concatenate([numbers, rest.reshape(-1, 3)]))
    back, decoder = offsets.read(payload, channels, shared)
    assert same(back, some)
    table = cdf.high_table(some_mixtures(np.random.default_rng(4), 9, 2)[:1])
    assert decoder.decode(table).tolist() == [0]
    assert 8 * len(payload) == pytest.approx(offsets.taken(some) + cdf.ideal_bits(rest), abs=40)
    steep = bytes([payload[0], 13]) + payload[2:]
    for damaged in (b"", b"\0" + payload[1:], payload[: len(head) - 1], steep):
        with pytest.raises(FormatError, match="damaged"):
            offsets.read(damaged, channels, shared)
    if shared:
        with pytest.raises(FormatError, match="network"):
            offsets.read(payload, channels, None)


# --- Tiles ---------------------------------------------------------------------------------------


def decoded(network: Any, made: list[Tile], shapes: list[Any], channels: int, **more: Any) -> Any:
    return [
        tiles.decode_tiles(network, [tile.payload], [shape], channels, method=tile.method, **more)[
            0
        ]
        for tile, shape in zip(made, shapes, strict=True)
    ]


@pytest.mark.parametrize("channels", [3, 1])
def test_tiles_come_back(network: Any, pictures: list[Any], channels: int) -> None:
    together = [np.ascontiguousarray(picture[:, :, :channels]) for picture in pictures]
    shapes = [tile.shape[:2] for tile in together]
    made = tiles.encode_fitted(network, together)
    assert [tile.method for tile in made] == [Method.FITTED, Method.FITTED, Method.NETWORK]
    for threads in (2, 7):
        assert tiles.encode_fitted(network, together, threads=threads) == made
    assert [tiles.encode_fitted(network, [tile])[0] for tile in together] == made
    plain = tiles.encode_tiles(network, together)
    assert made[2].payload == plain[2]
    for tile, payload in zip(made[:2], plain, strict=False):
        assert len(tile.payload) < len(payload)
    assert all(map(np.array_equal, decoded(network, made, shapes, channels), together))
    both = [tile.payload for tile in made[:2]]
    for threads in (1, 2, 7):
        back = tiles.decode_tiles(
            network, both, shapes[:2], channels, method=Method.FITTED, threads=threads
        )
        assert all(map(np.array_equal, back, together[:2]))


def test_whatever_evaluates_the_network(crops: Crops, pictures: list[Any]) -> None:
    own = integers(crops)
    walked = Walked("n", *own, Kernels())
    assert fitted_tiles(walked) is None
    expected = tiles.encode_fitted(walked, pictures[:1])
    assert weighed(expected[0])
    for isa in engine.instruction_sets():
        compiled = engine.Native("n", *own, isa)
        assert tiles.encode_fitted(compiled, pictures[:1]) == expected
        assert np.array_equal(decoded(compiled, expected, [(64, 64)], 3)[0], pictures[0])
    for other in (walked, Walked("n", *own, Twins("cpu"))):
        assert np.array_equal(decoded(other, expected, [(64, 64)], 3)[0], pictures[0])


def weighed(tile: Tile) -> bool:
    """Whether it is fitted, and all channels have weights."""
    return tile.method == Method.FITTED and max(tile.payload[1:10:3]) <= 12


@pytest.mark.parametrize("members", [{}, {"colours": 1, "near": 24}, {"colours": 1, "given": 5}])
def test_factors_are_the_same_whatever_computes_them(crops: Crops, members: dict[str, Any]) -> None:
    own, rng = tiny.wild(4, **members), np.random.default_rng(8)
    colours = own[1].colours
    tile = np.ascontiguousarray(crops["parrot-32x32"][:9, :14, :colours])
    given = rng.integers(0, 256, (9, 14, 5), np.uint8) if own[1].given else None
    walked = Walked("n", *own, Kernels())
    shared = walked.shared()
    mixtures, factors = walked.parameters_of_tile(tile, given)
    assert factors.shape == (9 * 14, shared + colours)
    backs = [Walked("n", *own, Twins("cpu"))]
    backs += [engine.Native("n", *own, isa) for isa in engine.instruction_sets()]
    for other in backs:
        assert other.shared() == shared
        found = other.parameters_of_tile(tile, given, 2)
        assert np.array_equal(found[0], mixtures)
        assert np.array_equal(found[1], factors)
    limits = np.array([[1 << 22], [-(1 << 22)], [12345]] * 3)[:colours]
    weights = np.broadcast_to(limits, (colours, shared + colours)).astype(np.int32)
    shift = Shift(rng.integers(-2000, 2000, (colours, 3, own[1].components), np.int32), weights)
    offsets.add(mixtures, factors, shift)
    scored = cdf.intervals(mixtures.reshape(-1, *mixtures.shape[2:]), tile.reshape(-1))
    order = front_order(walked.steps((9, 14)))
    message = coder.encode(tiles.in_order(scored.reshape(9 * 14, colours, 2, 3), order))
    for other in backs[1:]:
        back = other.decode_fitted(coder.Decoder(message), (9, 14), colours, shift, given)
        assert np.array_equal(back, tile)
    told = None if given is None else [given]
    for stepped in (walked, *backs):
        stepper = stepped.stepwise([(9, 14)], colours, [0], told)
        for ((_, numbers),) in tiles.fronts(stepped, [(9, 14)]):
            stepper.select(np.zeros(len(numbers), np.intp), *np.divmod(numbers, 14))
            for channel in range(colours):
                stepper.parameters(channel)
                expected = factors[numbers, : shared + channel]
                assert np.array_equal(stepper.factors(channel), expected)
                stepper.reveal(channel, tile.reshape(-1, colours)[numbers, channel])


def test_costs_are_those_of_the_payload(network: Any, pictures: list[Any]) -> None:
    made = tiles.encode_fitted(network, pictures[:2])
    payloads = [tile.payload for tile in made]
    fits = tiles.fits_of(network, 3, payloads, Method.FITTED)
    assert fits is not None
    scores = tiles.score_tiles(network, pictures[:2], fits=fits)
    for payload, score, picture, fit in zip(payloads, scores, pictures, fits, strict=False):
        assert score.shape == picture.shape[:2]
        own = offsets.taken(fit) / 8
        assert 8 * (len(payload) - own) == pytest.approx(float(score.sum()), abs=72)


def test_other_networks_go_on_as_before(crops: Crops) -> None:
    tile = np.ascontiguousarray(crops["bikes-96x64"][:, :, :1])
    wide = Toy("lag 3")
    for other, pixels in ((wide, tile), (zoo.load("mnist"), (tile > 90) * np.uint8(255))):
        (made,) = tiles.encode_fitted(other, [pixels])
        assert made == Tile(Method.NETWORK, tiles.encode_tiles(other, [pixels])[0])
        with pytest.raises(FormatError, match="network"):
            decoded(other, [Tile(Method.FITTED, made.payload)], [(64, 96)], 1)


def test_damage_is_an_error_or_other_pixels(network: Any, pictures: list[Any]) -> None:
    (made,), random = tiles.encode_fitted(network, pictures[:1]), Random(5)
    refused = 0
    for number in range(40):
        damaged = bytearray(made.payload)
        if number < 20:
            damaged[random.randrange(60)] ^= 1 << random.randrange(8)
        else:
            del damaged[random.randrange(len(damaged)) :]
        try:
            (back,) = decoded(network, [Tile(Method.FITTED, bytes(damaged))], [(64, 64)], 3)
        except FormatError:
            refused += 1
        else:
            assert not np.array_equal(back, pictures[0]) or bytes(damaged) == made.payload
    assert refused > 10


def test_components_that_the_network_has_not_are_damage(crops: Crops, network: Any) -> None:
    many = some_fit(3, 9, None)
    wrong = offsets.start(many) + coder.encode(offsets.intervals(many)) + b"more"
    for evaluated in (network, Walked("n", *integers(crops), Kernels())):
        with pytest.raises(FormatError, match="network"):
            decoded(evaluated, [Tile(Method.FITTED, wrong)], [(8, 8)], 3)


# --- Files ---------------------------------------------------------------------------------------


def test_files(crops: Crops) -> None:
    rng = np.random.default_rng(6)
    pixels = crops["bikes-96x64"].repeat(2, 0).repeat(2, 1)[:128, :128]
    pixels = np.clip(pixels + rng.normal(0, 6, pixels.shape), 0, 255).astype(np.uint8)
    data = pixelzip.compress(pixels, origin="none")
    (component,) = unpack(data).components
    (plane,) = component.planes
    assert [tile.method for tile in plane.tiles] == [Method.FITTED]
    assert pixelzip.info(data).parts[0].methods == {"fitted": 1}
    assert np.array_equal(pixelzip.decompress_array(data), pixels)
    costs = float(pixelzip.cost_map(data).sum())
    assert costs == pytest.approx(8 * pixelzip.info(data).parts[0].bytes, rel=0.01)
    region = pixelzip.decompress_array(data, region=(5, 6, 30, 20))
    assert np.array_equal(region, pixels[6:26, 5:35])
    few = StoredPlane(plane.layout, 0, plane.tiles, plane.network, b"red")
    container = unpack(data)
    wrong = replace(container, components=(replace(component, planes=(few,)),))
    with pytest.raises(FormatError, match="few colours"):
        unpack(pack(wrong))


def test_bits_are_what_the_coder_spends() -> None:
    mixtures = some_mixtures(np.random.default_rng(7), 50, 3)
    values = np.arange(50, dtype=np.uint8)
    shift = offsets.Fit(np.zeros((1, 3, 3), np.int8), (np.zeros(0, np.int8),), (255,)).shift(0)
    seen = no_factors(values[:, None])
    assert offsets.gain(mixtures[:, None], values[:, None], seen, shift) == 0
    assert cdf.symbol_bits(cdf.intervals(mixtures, values)).sum() > 0
