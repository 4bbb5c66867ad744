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
from pixelzip.codec import cdf, offsets, tiles
from pixelzip.codec.conditional import fitted_tiles
from pixelzip.codec.container import StoredPlane, pack, unpack
from pixelzip.codec.errors import FormatError
from pixelzip.codec.methods import Method, Tile
from pixelzip.models import zoo
from pixelzip.models.freezing import freeze
from pixelzip.models.frozen import backends
from pixelzip.models.frozen import native as engine
from pixelzip.models.frozen.kernels import Kernels
from pixelzip.models.frozen.walk import Walked

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


def test_what_mixtures_are_off_by_is_found() -> None:
    rng = np.random.default_rng(1)
    right = some_mixtures(rng, 8000, 2)
    values = drawn(right, rng)[:, None]
    wrong = right - np.array([[160, 0], [0, 320], [-16, 0]], np.int32)
    found = offsets.fit(wrong[:, None], values)
    assert found.dtype == np.int8
    assert found.shape == (1, 3, 2)
    logits, means, log_scales = found[0].astype(int)
    assert logits[0] - logits[1] == pytest.approx(10, abs=3)  # of 1/16 nat; both may move alike
    assert means == pytest.approx([0, 20], abs=5)
    assert log_scales == pytest.approx([-16, 0], abs=3)
    assert offsets.gain(wrong[:, None], values, found) > 100
    nothing = offsets.fit(right[:, None], values)
    assert offsets.gain(right[:, None], values, nothing) < 10


def test_loops_are_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    if offsets._library() is None:
        pytest.skip("there is no library")
    rng = np.random.default_rng(2)
    for k, n in ((5, 600), (1, 1), (16, 200)):
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
        for mixtures in (wild, usual):
            expected = offsets.fit(mixtures, values)
            with monkeypatch.context() as without:
                without.setattr(offsets, "_library", lambda: None)
                assert np.array_equal(offsets.fit(mixtures, values), expected)


def test_bytes() -> None:
    some = np.random.default_rng(3).integers(-128, 128, (3, 3, 4), np.int8)
    data = offsets.to_bytes(some)
    assert len(data) == 37
    back, rest = offsets.from_bytes(data + b"rest", 3)
    assert np.array_equal(back, some)
    assert rest == b"rest"
    assert offsets.shifts(some)[1].tolist() == [
        [16 * int(x) for x in some[1, 0]],
        [16 * int(x) for x in some[1, 1]],
        [int(x) for x in some[1, 2]],
    ]
    for damaged in (b"", b"\0" + data[1:], data[:-1], b"\xff" + data[1:]):
        with pytest.raises(FormatError, match="offsets"):
            offsets.from_bytes(damaged, 3)


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
    assert expected[0].method == Method.FITTED
    for isa in engine.instruction_sets():
        native = engine.Native("n", *own, isa)
        assert tiles.encode_fitted(native, pictures[:1]) == expected
        assert np.array_equal(decoded(native, expected, [(64, 64)], 3)[0], pictures[0])
    assert np.array_equal(decoded(walked, expected, [(64, 64)], 3)[0], pictures[0])


def test_costs_are_those_of_the_payload(network: Any, pictures: list[Any]) -> None:
    made = tiles.encode_fitted(network, pictures[:2])
    payloads = [tile.payload for tile in made]
    found = tiles.offsets_of(3, payloads, Method.FITTED)
    scores = tiles.score_tiles(network, pictures[:2], found=found)
    for payload, score, picture in zip(payloads, scores, pictures, strict=False):
        assert score.shape == picture.shape[:2]
        own = len(offsets.to_bytes(offsets.from_bytes(payload, 3)[0]))
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
    (payload,) = tiles.encode_tiles(network, [crops["bikes-96x64"][:8, :8]])
    wrong = bytes([9]) + bytes(9 * 9) + payload
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
    none = np.zeros((1, 3, 3), np.int8)
    assert offsets.gain(mixtures[:, None], values[:, None], none) == pytest.approx(-9 / np.log(2))
    assert cdf.symbol_bits(cdf.intervals(mixtures, values)).sum() > 0
