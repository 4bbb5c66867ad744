"""Whole files with levels, corrections and sets of colours: smaller, exact, read independently."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
import reference_decoder as reference
from conftest import ROOT
from fuzzing import attack, same
from numpy.typing import NDArray
from PIL import Image

import pixelzip
from pixelzip.codec import candidates, colours, origins, tiles
from pixelzip.codec import encode as encoder
from pixelzip.codec.colours import Colours
from pixelzip.codec.container import (
    Component,
    Container,
    StoredPlane,
    pack,
    truncated_checksum,
    unpack,
)
from pixelzip.codec.decode import decode, decode_tile
from pixelzip.codec.encode import encode
from pixelzip.codec.errors import FormatError
from pixelzip.codec.methods import Method, Tile
from pixelzip.codec.origins import levels
from pixelzip.codec.picture import Picture, PlaneLayout
from pixelzip.codec.transforms import Form, Transform
from pixelzip.models import zoo

Pixels = NDArray[Any]
Crops = dict[str, NDArray[np.uint8]]


def part(path: Path) -> Pixels:
    """Part of a photograph, large enough for a set of colours to pay."""
    with Image.open(path) as image:
        return np.asarray(image)[100:228, 300:460].copy()


def sparse(pixels: Pixels) -> Pixels:
    """Colours that lie on planes across the cube, all levels of each channel."""
    luma = pixels.astype(np.int64) @ [77, 150, 29] >> 8
    return (pixels - luma[:, :, None] % 6).clip(0, 255).astype(np.uint8)


def stretched(pixels: Pixels) -> Pixels:
    """A contrast that was stretched."""
    clipped = pixels.clip(20, 230).astype(np.int64) - 20
    return ((2 * clipped * 255 + 210) // 420).astype(np.uint8)


def deep(pixels: Pixels, bits: int, rule: levels.Rule) -> Pixels:
    """16-bit samples of fewer real bits."""
    noise = np.random.default_rng(0).random(pixels.shape)
    v = ((pixels + noise) / 256 * 2**bits).astype(np.int64)
    return {
        levels.Rule.SHIFTED: v << (16 - bits),
        levels.Rule.REPEATED: v << (16 - bits) | v >> (2 * bits - 16),
        levels.Rule.ROUNDED: np.rint(v * 65535 / (2**bits - 1)).astype(np.int64),
    }[rule].astype(np.uint16)


def retouched(crop: Pixels) -> Pixels:
    """A decoded JPEG, and something drawn over it."""
    file = io.BytesIO()
    Image.fromarray(crop).save(file, "JPEG", quality=90, subsampling=2)
    pixels = np.array(Image.open(file))
    pixels[20:24, 30:40] = 255, 0, 0
    return pixels


def fast(network: Any, payload: bytes, *rest: Any, **more: Any) -> Any:
    """A network payload, by pixelzip's own decoder: where the file around it is what matters."""
    height, width, channels = rest
    allowed = None
    if "colours" in more:
        allowed = [Colours.of(np.array(sorted(more["colours"]), np.uint8))]
    method = Method.FITTED if "fitted" in more else Method.NETWORK
    (tile,) = tiles.decode_tiles(
        network, [payload], [(height, width)], channels, colours=allowed, method=method
    )
    return tile


def check(pixels: Pixels) -> tuple[bytes, bytes]:
    """The file, and the one of the pixels as they are, once both decoders have brought it back."""
    data = pixelzip.compress(pixels, network="tiny", threads=2)
    np.testing.assert_array_equal(pixelzip.decompress_array(data, threads=2), pixels)
    again = reference.decode_file(data, zoo.find, fast)
    assert all(map(np.array_equal, again, decode(data, zoo.find).planes))
    return data, pixelzip.compress(pixels, network="tiny", origin="none", threads=2)


# Levels.


@pytest.mark.parametrize("channels", [3, 1])
def test_a_stretched_contrast(crops: Crops, channels: int) -> None:
    for name in ("bikes-96x64", "palms-96x64"):
        pixels = stretched(crops[name])
        data, as_it_is = check(pixels if channels == 3 else pixels[:, :, 1])
        assert len(data) < 0.98 * len(as_it_is)
        assert "211 of 256 levels" in pixelzip.info(data).found[0]


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("rule", [levels.Rule.SHIFTED, levels.Rule.REPEATED, levels.Rule.ROUNDED])
def test_16_bits_with_fewer_real_ones(crops: Crops, bits: int, rule: levels.Rule) -> None:
    samples = deep(crops["flower-64x48"], bits, rule)
    data, as_it_is = check(samples)
    if rule == levels.Rule.SHIFTED:  # low bytes tell as much, or are all zero
        assert len(data) <= len(as_it_is)
        return
    assert len(data) < 0.95 * len(as_it_is)
    (found,) = pixelzip.info(data).found
    assert str(bits) in found or str(2**bits) in found


def test_cost_maps_of_levels_add_up(crops: Crops) -> None:
    data = pixelzip.compress(deep(crops["flower-64x48"], 12, levels.Rule.REPEATED), network="tiny")
    (component,) = unpack(data).components
    assert component.form == Form(Transform.ORIGIN, levels.NUMBER, component.form.parameters)
    spent = pixelzip.info(data).payload_bytes
    assert pixelzip.cost_map(data).sum() / 8 == pytest.approx(spent, abs=5)


# Corrections.


def test_what_was_drawn_over_a_jpeg_is_corrected(crops: Crops) -> None:
    pixels = retouched(crops["palms-96x64"])
    data = pixelzip.compress(pixels, network="tiny")
    (component,) = unpack(data).components
    assert component.form.transform == Transform.ORIGIN
    assert 0 < len(component.corrections) < 300
    np.testing.assert_array_equal(pixelzip.decompress_array(data), pixels)
    bits = pixelzip.cost_map(data)
    # Each plane's tables and ends are no pixel's.
    assert bits.sum() / 8 == pytest.approx(pixelzip.info(data).payload_bytes, abs=18)


@pytest.mark.parametrize("subsampling", [0, 2])
def test_one_retouched_pixel_does_not_hide_an_origin(crops: Crops, subsampling: int) -> None:
    file = io.BytesIO()
    Image.fromarray(crops["palms-96x64"]).save(file, "JPEG", quality=90, subsampling=subsampling)
    pixels = np.array(Image.open(file))
    before = pixelzip.compress(pixels, network="tiny")
    pixels[31, 47] = 255, 0, 255
    data = pixelzip.compress(pixels, network="tiny")
    np.testing.assert_array_equal(pixelzip.decompress_array(data), pixels)
    assert pixelzip.info(data).origins == pixelzip.info(before).origins != ()
    assert len(data) < len(before) + 60


def test_origins_make_no_file_larger(crops: Crops, photo_path: Path) -> None:
    """Pictures with an origin and without, whole, cut, turned, scaled, as JPEG."""
    with Image.open(photo_path) as photo:
        halved = photo.resize((384, 256), Image.Resampling.LANCZOS)
        pictures = {
            "crop": np.asarray(photo)[101:164, 203:290],
            "turned": np.rot90(np.asarray(photo)[100:132, 40:72]),
            "halved": np.asarray(halved)[60:140, 100:200],
            "blurred": np.asarray(halved.resize((24, 16)).resize((120, 80))),
            "few levels": np.asarray(halved)[:50, :50] & 0xF0,
        } | crops
    for name in ("halved", "blurred"):
        for quality in (50, 95):
            file = io.BytesIO()
            Image.fromarray(pictures[name]).save(file, "JPEG", quality=quality)
            pictures[f"{name}, {quality}"] = np.asarray(Image.open(file))
    every = [np.ascontiguousarray(pixels) for pixels in pictures.values()]
    sizes = zip(
        pixelzip.compress_many(every), pixelzip.compress_many(every, origin="none"), strict=True
    )
    larger = {n: s for n, s in zip(pictures, sizes, strict=True) if len(s[0]) > len(s[1])}
    assert not larger


def test_the_fallback_is_tried_where_it_wins(crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost by not trying it where an estimate says so."""
    y, x = np.mgrid[0:90, 0:120]
    gradient = np.stack([x * 2, y * 2, x + y], 2).astype(np.uint8)
    drawn = crops["bikes-96x64"].copy()
    drawn[:, 50:] = 200
    drawn[10:60:4, 55:90] = 0
    pictures = [gradient, drawn, crops["palms-96x64"]]
    for pixels in pictures[:2]:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=75)
        pictures.append(np.asarray(Image.open(file)))
    sizes = [len(data) for data in pixelzip.compress_many(pictures)]
    monkeypatch.setattr(candidates, "_OPTIMISM", ((np.inf, 0.0),))
    assert sizes == [len(data) for data in pixelzip.compress_many(pictures)]


def test_a_small_picture_is_looked_at_once(crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though several networks score a sample; one of them codes all of it."""
    looked: list[int] = []
    find = origins.ycc.find
    monkeypatch.setattr(
        origins.ycc, "find", lambda pixels, _parallel: looked.append(1) or find(pixels)
    )
    pixels = np.asarray(
        Image.fromarray(crops["bikes-96x64"]).resize((40, 30), Image.Resampling.LANCZOS)
    )
    data = pixelzip.compress(pixels)
    assert looked == [1]
    assert data in [pixelzip.compress(pixels, network=n) for n in ("photo", "clean", "tiny")]


# Sets of colours.


def test_colours_that_do_not_occur_are_left_out(photo_path: Path) -> None:
    pixels = sparse(part(photo_path))
    seen = len(np.unique(pixels.reshape(-1, 3), axis=0))
    data = pixelzip.compress(pixels, network="tiny")
    np.testing.assert_array_equal(pixelzip.decompress_array(data), pixels)
    info = pixelzip.info(data)
    assert f"colour: only {seen} of all colours occur" in info.found
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(colours, "find", lambda _: None)
        without = pixelzip.compress(pixels, network="tiny")
    assert len(data) < 0.95 * len(without)
    assert pixelzip.cost_map(data).sum() / 8 == pytest.approx(info.payload_bytes, abs=5)


def test_tiles_with_a_set_can_be_decoded_alone(photo_path: Path) -> None:
    pixels = sparse(part(photo_path))
    alpha = np.indices(pixels.shape[:2]).sum(0).astype(np.uint8)[:, :, None]
    data = pixelzip.compress(np.concatenate([pixels, alpha], 2), network="tiny", tile_size=100)
    container = unpack(data)
    (plane,) = container.components[0].planes
    assert plane.colours
    for number, (top, left, height, width) in enumerate(plane.grid):
        tile = decode_tile(container, 0, 0, number, zoo.find)
        np.testing.assert_array_equal(tile, pixels[top : top + height, left : left + width])


def test_a_sample_keeps_sets_away_that_do_not_pay(
    photo_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = {"colour": [zoo.load("tiny")]}
    # Noise fills the holes that PhotoCD leaves, and hides what it is.
    noise = np.random.default_rng(0).integers(-4, 5, (80, 80, 3))
    large = (part(photo_path)[:80, :80] + noise).clip(0, 255).astype(np.uint8)
    small = large[:32, :32].copy()
    expected = [encode(Picture("RGB", (pixels,)), networks) for pixels in (large, small)]
    coded: list[bool] = []
    encode_tiles = tiles.encode_tiles

    def counted(*rest: Any, **more: Any) -> Any:
        coded.append(more["colours"] is not None)
        return encode_tiles(*rest, **more)

    monkeypatch.setattr(tiles, "encode_tiles", counted)
    monkeypatch.setattr(colours, "find", Colours.of)
    for pixels, data in zip((large, small), expected, strict=True):
        coded.clear()
        assert encode(Picture("RGB", (pixels,)), networks) == data
        assert any(coded) == (pixels is small)  # small pictures are coded in every way


def test_small_pictures_take_what_is_smaller(crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    """A set wins if its bytes are not counted."""
    networks = {"colour": [zoo.load("tiny")]}
    picture = Picture("RGB", (crops["parrot-32x32"],))
    monkeypatch.setattr(colours, "find", Colours.of)
    monkeypatch.setattr(encoder, "_cost", lambda c: sum(
        len(tile.payload) for plane in c.planes for tile in plane.tiles))  # fmt: skip
    monkeypatch.setattr(origins, "ALL", ())
    data = encode(picture, networks)
    assert unpack(data).components[0].planes[0].colours
    assert same(decode(data, zoo.find), picture)


def restricted(pixels: Pixels, name: str = "tiny") -> bytes:
    """A file of one tile that is told its colours, whether that pays or not."""
    network, own = zoo.load(name), Colours.of(pixels)
    (payload,) = tiles.encode_tiles(network, [pixels], colours=[own])
    layout = PlaneLayout(*pixels.shape, "colour")
    plane = StoredPlane(layout, 0, (Tile(Method.NETWORK, payload),), 0, own.data)
    height, width, _ = pixels.shape
    crc = truncated_checksum(Picture("RGB", (pixels,)).crc, width, height)
    component = Component(0, Form(Transform.DIRECT), (plane,))
    fingerprint = network.fingerprint[:2]
    return pack(Container("RGB", width, height, (fingerprint,), (component,), b"", crc))


@pytest.mark.parametrize("name", ["photo", "tiny"])
def test_masked_tiles_follow_the_specification(crops: Crops, name: str) -> None:
    pixels = np.ascontiguousarray(crops["bikes-96x64"][20:27, 30:39])
    data = restricted(pixels, name)
    network = reference.Network((ROOT / "models" / "zoo" / f"{name}.safetensors").read_bytes())
    (again,) = reference.decode_file(data, lambda _: network)
    np.testing.assert_array_equal(again, pixels)
    np.testing.assert_array_equal(decode(data, zoo.find).planes[0], pixels)


def test_a_set_larger_than_its_plane_is_damage(crops: Crops) -> None:
    pixels = np.ascontiguousarray(crops["bikes-96x64"][:8, :8])
    container = unpack(restricted(pixels))
    (component,) = container.components
    many = Colours.of(crops["palms-96x64"]).data
    plane = replace(component.planes[0], colours=many)
    hostile = pack(replace(container, components=(replace(component, planes=(plane,)),)))
    for read in (lambda data: decode(data, zoo.find), pixelzip.info):
        with pytest.raises(FormatError, match="set of colours"):
            read(hostile)


# All of them.


def test_damage_gives_a_clear_error_or_the_right_pixels(crops: Crops) -> None:
    networks = {"colour": [zoo.load("tiny")]}
    crop = crops["bikes-96x64"][20:34, 30:46]
    samples = deep(crop[:9, :9], 10, levels.Rule.REPEATED)
    planes = (samples >> 8).astype(np.uint8), (samples & 255).astype(np.uint8)
    files = [
        restricted(np.ascontiguousarray(crop)),
        encode(Picture("RGB;16", planes), networks),
        encode(Picture("RGB", (retouched(crops["palms-96x64"])[:48, :48],)), networks),
    ]
    kinds = [unpack(data).components[0].form.transform for data in files]
    assert kinds == [Transform.DIRECT, Transform.ORIGIN, Transform.ORIGIN]
    for number, data in enumerate(files):
        donors = files[:number] + files[number + 1 :]
        read = lambda hurt: decode(hurt, zoo.find, max_pixels=2**16)  # noqa: E731
        assert attack(data, read, count=200, donors=donors) < 50


EVERYTHING = """
import sys, zlib
import numpy as np
import pixelzip
pictures = np.load(sys.argv[1])
for name in pictures:
    data = pixelzip.compress(pictures[name], network="tiny", threads=1)
    assert np.array_equal(pixelzip.decompress_array(data, threads=2), pictures[name])
    print(name, zlib.crc32(data))
"""


def test_the_same_bytes_with_any_threads_and_without_a_library(
    photo_path: Path, crops: Crops, tmp_path: Path
) -> None:
    pictures = {
        "sparse": sparse(part(photo_path)),
        "stretched": stretched(crops["bikes-96x64"]),
        "deep": deep(crops["flower-64x48"], 10, levels.Rule.ROUNDED),
        "retouched": retouched(crops["palms-96x64"]),
    }
    one, two = (
        [pixelzip.compress(p, network="tiny", threads=n) for p in pictures.values()] for n in (1, 2)
    )
    assert one == two
    for data, pixels in zip(one, pictures.values(), strict=True):
        np.testing.assert_array_equal(pixelzip.decompress_array(data, threads=2), pixels)
    np.savez(tmp_path / "pictures.npz", **pictures)
    done = subprocess.run(
        [sys.executable, "-c", EVERYTHING, str(tmp_path / "pictures.npz")],
        env=os.environ | {"PIXELZIP_ISA": "none"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    expected = [f"{name} {crc32(data)}" for name, data in zip(pictures, one, strict=True)]
    assert done.stdout.splitlines() == expected
