"""Planes: what chroma is given, what pixels were computed from, and which way is taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import reference_decoder as reference
from fuzzing import attack, same
from hypothesis import given as drawing
from hypothesis import strategies as st
from numpy.typing import NDArray
from toys import CHROMA, LUMA, Few, Halved, Toy, toy_origins

from pixelzip.codec import candidates, given, survey, tiles
from pixelzip.codec.conditional import Conditional
from pixelzip.codec.container import pack, tile_grid, unpack
from pixelzip.codec.costs import cost_map
from pixelzip.codec.decode import decode, decode_many, decode_tile
from pixelzip.codec.encode import encode, encode_many
from pixelzip.codec.errors import FormatError, UnknownNetworkError
from pixelzip.codec.methods import Method
from pixelzip.codec.picture import Picture, PlaneLayout
from pixelzip.codec.transforms import Transform

Bytes = NDArray[np.uint8]
Crops = dict[str, Bytes]

COLOUR = Toy("coarse")
NETWORKS = {"colour": [COLOUR], "luma": [LUMA], "chroma": [CHROMA]}
PARAMETERS = [number for number in range(1, 16) if not number >> 2 & ~number & 3]
"""Of the toys that have chroma at half the resolution; in full, there is little to gain."""
ORIGINS = {100: Halved(), 101: Few()}


def find(prefix: bytes) -> Conditional:
    for network in (COLOUR, LUMA, CHROMA):
        if network.fingerprint.startswith(prefix):
            return network
    raise UnknownNetworkError("no such network")


@pytest.fixture(scope="module", autouse=True)
def _toys() -> Iterator[None]:
    with toy_origins():
        yield


@cache
def texture(height: int, width: int, seed: int) -> Bytes:
    """Luma such as the toy expects it."""
    (tile,) = tiles.sample_tiles(LUMA, [(height, width)], 1, seed=seed)
    return np.clip(tile, 60, 195)


def rendered(height: int, width: int, number: int) -> Bytes:
    """Pixels made of planes such as the toys expect them."""
    toy, shape = Halved(), (height, width)
    _, chroma, _ = toy.layout(bytes([number]), shape)
    rows, columns = (np.minimum(step * np.arange(n), side - 1) for step, n, side in zip(
        chroma.step, (chroma.height, chroma.width), shape, strict=True))  # fmt: skip
    noise = np.random.default_rng(number).integers(-10, 11, (2, *shape))
    luma = texture(height, width, number).astype(int)
    below = luma[rows][:, columns, 0] - 128
    first = below // 2 + noise[0][rows][:, columns]
    second = below // 3 + first // 3 + noise[1][rows][:, columns]
    planes = [luma, *(plane[:, :, None] + 128 for plane in (first, second))]
    return toy.render(bytes([number]), [plane.astype(np.uint8) for plane in planes], shape)


def transforms_of(data: bytes) -> list[Transform]:
    return [component.form.transform for component in unpack(data).components]


# Given samples.


@st.composite
def luma_and_chroma(draw: st.DrawFn) -> tuple[PlaneLayout, PlaneLayout, Bytes, Bytes]:
    """Layouts of luma and chroma planes, and samples."""
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    step = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 2]))
    phase = (draw(st.integers(0, step[0] - 1)), draw(st.integers(0, step[1] - 1)))
    chroma = PlaneLayout(-(-height // step[0]), -(-width // step[1]), 1, "chroma", step, phase)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    samples = [rng.integers(0, 256, (p.height, p.width, 1), np.uint8) for p in (
        PlaneLayout(height, width, 1, "luma"), chroma)]  # fmt: skip
    return PlaneLayout(height, width, 1, "luma"), chroma, samples[0], samples[1]


@drawing(luma_and_chroma(), st.data())
def test_given_samples_are_those_of_the_specification(
    planes: tuple[PlaneLayout, PlaneLayout, Bytes, Bytes], data: st.DataObject
) -> None:
    luma, chroma, tones, first = planes
    top, left = (data.draw(st.integers(0, n - 1)) for n in (chroma.height, chroma.width))
    box = top, left, chroma.height - top, chroma.width - left
    independent = [
        reference.Plane(p.height, p.width, 1, p.kind, p.step, p.phase, samples=samples)
        for p, samples in ((luma, tones), (chroma, first))
    ]
    for number in (1, 2):
        known = [(luma, tones), (chroma, first)][:number]
        found = given.samples(chroma, box, known)
        assert found.shape == (*box[2:], 3 + number)
        for r in range(top, chroma.height):
            for c in range(left, chroma.width):
                told = reference.given(independent[1], independent[:number], r, c)
                assert found[r - top, c - left].tolist() == told


@drawing(luma_and_chroma(), st.data())
def test_a_tile_reaches_just_what_it_is_given(
    planes: tuple[PlaneLayout, PlaneLayout, Bytes, Bytes], data: st.DataObject
) -> None:
    luma, chroma, _, _ = planes
    top, left = (data.draw(st.integers(0, n - 1)) for n in (chroma.height, chroma.width))
    left_over = chroma.height - top, chroma.width - left
    height, width = (data.draw(st.integers(1, n)) for n in left_over)
    box = top, left, height, width
    rows = np.arange(luma.height, dtype=np.uint8)[:, None, None].repeat(luma.width, 1)
    columns = np.arange(luma.width, dtype=np.uint8)[None, :, None].repeat(luma.height, 0)
    t, l, h, w = given.reach(chroma, box, luma)  # noqa: E741
    for numbers, start, count in ((rows, t, h), (columns, l, w)):
        told = given.samples(chroma, box, [(luma, numbers)])
        assert (told.min(), told.max()) == (start, start + count - 1)


# Files.


@pytest.mark.parametrize("number", PARAMETERS)
def test_pictures_with_an_origin_come_back(number: int) -> None:
    for cut, tile_size in ((0, 0), (1, 20)):
        pixels = rendered(40 - cut, 32 - cut, number)
        picture = Picture("RGB", (pixels,))
        data = encode(picture, NETWORKS, tile_size=tile_size)
        (component,) = unpack(data).components
        assert component.form.transform == Transform.ORIGIN
        assert component.form.parameters[0] & 3 == number & 3
        kinds = [plane.layout.kind for plane in component.planes]
        assert kinds == ["luma", "chroma", "chroma"]
        assert same(decode(data, find, threads=2), picture)
        assert len(data) < len(encode(picture, NETWORKS, tile_size=tile_size, origins=False))
        (again,) = reference.decode_file(data, find, with_toys, ORIGINS)
        assert np.array_equal(again, pixels)


def with_toys(network: Conditional, payload: bytes, *rest: Any) -> Bytes:
    """The toys' payloads for the reference decoder."""
    height, width, channels, *told = rest
    shapes = [(height, width)]
    (tile,) = tiles.decode_tiles(network, [payload], shapes, channels, given=told or None)
    return tile


def test_networks_are_numbered_as_they_are_used() -> None:
    crop = rendered(48, 64, 3)
    alpha = rendered(48, 64, 5)[:, :, 1:2]
    data = encode(Picture("RGBA", (crop, alpha)), NETWORKS, tile_size=32)
    container = unpack(data)
    colour, opacity = container.components
    assert [plane.network for plane in colour.planes] == [0, 1, 1]
    assert [plane.network for plane in opacity.planes] == [0]
    assert container.networks == (LUMA.fingerprint[:2], CHROMA.fingerprint[:2])
    again = reference.decode_file(data, find, with_toys, ORIGINS)
    assert np.array_equal(again[0], crop)
    assert np.array_equal(again[1], alpha)


def test_any_tile_can_be_decoded_alone() -> None:
    for number in (3, 15, 1):
        pixels = rendered(64, 96, number)
        container = unpack(encode(Picture("RGB", (pixels,)), NETWORKS, tile_size=24))
        found = Halved().find(pixels)
        assert found is not None
        (component,) = container.components
        for place, (stored, plane) in enumerate(zip(component.planes, found.planes, strict=True)):
            height, width, _ = plane.samples.shape
            for tile, box in enumerate(tile_grid(height, width, stored.tile_size)):
                top, left, h, w = box
                alone = decode_tile(container, 0, place, tile, find)
                assert np.array_equal(alone, plane.samples[top : top + h, left : left + w])


def test_a_lone_tile_takes_no_more_than_what_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = rendered(64, 96, 3)
    container = unpack(encode(Picture("RGB", (pixels,)), NETWORKS, tile_size=16))
    decoded: list[int] = []
    decode_tiles = tiles.decode_tiles

    def counted(network: Any, payloads: Sequence[bytes], *rest: Any, **more: Any) -> Any:
        decoded.append(len(payloads))
        return decode_tiles(network, payloads, *rest, **more)

    monkeypatch.setattr(tiles, "decode_tiles", counted)
    decode_tile(container, 0, 2, 0, find)
    assert decoded == [4, 1, 1]  # four of the luma, one of the first chroma plane, itself


def test_clipped_and_retouched_pixels_are_corrected() -> None:
    pixels = rendered(32, 32, 3)
    pixels[3:6, 4:9] = 7, 77, 200
    pixels[20, 20] = 255, 0, 0
    picture = Picture("RGB", (pixels,))
    data = encode(picture, NETWORKS)
    (component,) = unpack(data).components
    assert component.form.transform == Transform.ORIGIN
    assert component.corrections
    assert same(decode(data, find), picture)
    (again,) = reference.decode_file(data, find, with_toys, ORIGINS)
    assert np.array_equal(again, pixels)


def test_an_origin_that_gains_nothing_is_not_used(crops: Crops) -> None:
    """Seven pixels in ten are explained, the others are noise."""
    for name in ("parrot-32x32", "bikes-96x64"):
        pixels = rendered(*crops[name].shape[:2], 3)
        noisy = np.random.default_rng(0).random(pixels.shape[:2]) < 0.25
        pixels[noisy] = crops[name][noisy][:, ::-1]
        assert Halved().find(pixels) is not None
        picture = Picture("RGB", (pixels,))
        data, without = encode(picture, NETWORKS), encode(picture, NETWORKS, origins=False)
        assert len(data) <= len(without)
        assert same(decode(data, find), picture)


def test_a_clear_case_is_coded_in_one_way_only(monkeypatch: pytest.MonkeyPatch) -> None:
    coded: list[int] = []
    encode_fitted = tiles.encode_fitted

    def counted(network: Any, areas: Sequence[Bytes], **more: Any) -> Any:
        coded.append(areas[0].shape[2])
        return encode_fitted(network, areas, **more)

    monkeypatch.setattr(tiles, "encode_fitted", counted)
    picture = Picture("RGB", (rendered(64, 96, 3),))
    data = encode(picture, NETWORKS)
    assert coded == [1, 1]
    monkeypatch.setattr(survey, "_SMALL", 2**20)
    monkeypatch.setattr(candidates, "_RICH", np.inf)
    coded.clear()
    assert encode(picture, NETWORKS) == data
    assert sorted(coded) == [1, 1, 3]


def test_without_its_networks_another_stands_in() -> None:
    picture = Picture("RGB", (rendered(48, 64, 3),))
    everything = encode(picture, NETWORKS)
    for networks in ({"colour": [COLOUR], "luma": [LUMA]}, {"colour": [COLOUR]}, {}):
        data = encode(picture, networks)
        assert same(decode(data, find), picture)
        assert transforms_of(data) == [Transform.ORIGIN]
        assert len(unpack(data).networks) == min(1, len(networks))
        assert len(data) != len(everything)


def test_a_network_is_told_what_it_wants_to_know_or_refused() -> None:
    data = encode(Picture("RGB", (rendered(32, 32, 3),)), NETWORKS)
    container = unpack(data)
    swapped = replace(container, networks=container.networks[::-1])
    with pytest.raises(FormatError, match="does not code such pixels"):
        decode(pack(swapped), find)


def test_16_bit_samples_have_origins_too(crops: Crops) -> None:
    crop = crops["flower-64x48"] // 4
    deep = crop.astype(np.uint16) * 1000 + 17
    high, low = (deep >> 8).astype(np.uint8), (deep & 255).astype(np.uint8)
    opaque = np.full((48, 64, 1), 255, np.uint8)
    grey = Picture("I;16", (high[:, :, :1], low[:, :, :1]))
    colour = Picture("RGBA;16", (high, opaque, low, opaque))
    for picture, expected in (
        (grey, [Transform.ORIGIN]),
        (colour, [Transform.ORIGIN, Transform.CONSTANT, Transform.CONSTANT]),
    ):
        data = encode(picture, NETWORKS)
        assert transforms_of(data) == expected
        assert same(decode(data, find), picture)
        again = reference.decode_file(data, find, with_toys, ORIGINS)
        assert all(map(np.array_equal, again, picture.planes))
        bits = cost_map(data, find).sum(dtype=np.float64)
        assert bits == pytest.approx(8 * payload_bytes(data), abs=40)


def payload_bytes(data: bytes) -> int:
    components = unpack(data).components
    planes = [plane for component in components for plane in component.planes]
    sizes = [len(tile.payload) for plane in planes for tile in plane.tiles]
    aside = [len(c.corrections) + len(c.form.parameters) for c in components]
    return sum(sizes) + sum(aside)


@pytest.mark.parametrize("number", PARAMETERS)
def test_cost_maps_add_up(number: int) -> None:
    pixels = rendered(39, 31, number)
    pixels[11, 7:12:2, 2] ^= 1
    seen: list[float] = []
    data = encode(Picture("RGB", (pixels,)), NETWORKS, tile_size=24)
    assert transforms_of(data) == [Transform.ORIGIN]
    bits = cost_map(data, find, progress=seen.append)
    network_tiles = sum(
        tile.method == Method.NETWORK for plane in unpack(data).components[0].planes
        for tile in plane.tiles
    )  # fmt: skip
    overhead = 8 * payload_bytes(data) - bits.sum(dtype=np.float64)
    assert -8 * network_tiles - 0.01 < overhead < 40 * network_tiles + 0.01
    # Corrections cost where they are, and nowhere else.
    share = 8 * len(unpack(data).components[0].corrections) / 3
    assert bits[11, 7:12:2].min() > share > 1.5 * np.median(bits)
    assert bits[11, 8:12:2].max() < share
    assert seen == sorted(seen)


def test_many_are_as_one_by_one(crops: Crops) -> None:
    originals = [
        Picture("RGB", (rendered(40 - number, 48, number),)) for number in (0, 3, 15, 1, 2, 5)
    ]
    originals += [Picture("RGB", (crop[:20, :32],)) for crop in crops.values()]
    together = encode_many(originals, NETWORKS, tile_size=16, threads=2)
    assert together == [encode(original, NETWORKS, tile_size=16) for original in originals]
    assert all(map(same, decode_many(together, find, threads=2), originals))


def test_damage_gives_a_clear_error_or_the_right_pixels(crops: Crops) -> None:
    pixels = rendered(12, 16, 15)
    pixels[3, 3] = 9, 99, 9
    deep = crops["flower-64x48"][:9, :8].astype(np.uint16) // 4 * 1000
    high, low = (deep >> 8).astype(np.uint8), (deep & 255).astype(np.uint8)
    files = [
        encode(Picture("RGB", (pixels,), b"words"), NETWORKS),
        encode(Picture("RGB;16", (high, low)), NETWORKS),
        encode(Picture("RGB", (rendered(16, 20, 3),)), {}),
    ]
    assert [transforms_of(data) for data in files] == [[Transform.ORIGIN]] * 3
    for number, data in enumerate(files):
        donors = files[:number] + files[number + 1 :]
        read = lambda hurt: decode(hurt, find, max_pixels=2**16)  # noqa: E731
        assert attack(data, read, count=300, donors=donors) < 75
