"""The adaptive stage: the same in all its forms, as its page has it, and worth its time."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sysconfig
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import reference_adaptive
import reference_decoder as reference
import tiny
from click.testing import CliRunner
from numpy.typing import NDArray
from toys import Toy

import pixelzip
from pixelzip.cli import cli
from pixelzip.codec import adaptive, coder, native, tiles
from pixelzip.codec.conditional import lagged
from pixelzip.codec.container import Container, StoredPlane, pack, unpack
from pixelzip.codec.errors import FormatError
from pixelzip.codec.methods import MAX_ADAPTIVE_SIDE, Method, Tile
from pixelzip.models import zoo
from pixelzip.models.freezing import freeze
from pixelzip.models.frozen import backends
from pixelzip.models.frozen import native as engine
from pixelzip.models.frozen.kernels import Kernels
from pixelzip.models.frozen.walk import Walked

Crops = dict[str, NDArray[np.uint8]]
ROOT = Path(__file__).resolve().parent.parent
COMPILER = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0])
SHAPES = [(1, 1), (1, 9), (9, 1), (2, 3), (3, 2), (13, 7), (6, 40), (24, 24)]


@pytest.fixture(scope="module")
def network(crops: Crops) -> Any:
    """A little one, whose mixtures leave much to learn."""
    frozen = tiny.photo().freeze(tiny.sample(crops.values())[:8])
    return backends.make("n", freeze.arrays(frozen), tiny.CONFIG)


def cut(crops: Crops, channels: int = 3) -> list[NDArray[np.uint8]]:
    """Tiles of photographs and one of noise, of these shapes."""
    picture = crops["bikes-96x64"]
    noise = np.random.default_rng(3).integers(0, 2, (7, 8, 3), dtype=np.uint8) * 255
    found = [picture[5 : 5 + height, 9 : 9 + width] for height, width in SHAPES]
    return [tile[:, :, :channels] for tile in [*found, noise]]


def bits(network: Any, some: list[NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
    """The intervals of tiles."""
    found = [adaptive.score(network, tile, None) for tile in some]
    assert all(scored is not None for scored in found)
    return [scored[0] for scored in found if scored is not None]


# --- There and back ----------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [3, 1])
def test_tiles_come_back(network: Any, crops: Crops, channels: int) -> None:
    together = cut(crops, channels)
    shapes = [tile.shape[:2] for tile in together]
    payloads = tiles.encode_adaptively(network, together, threads=2)
    assert payloads == [tiles.encode_adaptively(network, [tile])[0] for tile in together]
    full = [payload for payload in payloads if payload is not None]
    for threads in (1, 2, 7):
        decoded = tiles.decode_tiles(
            network, full, shapes, channels, method=Method.ADAPTIVE, threads=threads
        )
        assert all(map(np.array_equal, decoded, together))


def test_chroma_is_given_what_its_network_wants(crops: Crops) -> None:
    chroma, picture = zoo.load("chroma"), crops["bikes-96x64"]
    given = np.repeat(picture[:12, :16, 1:2], 4, axis=2)
    tile = picture[:12, :16, :1]
    (payload,) = tiles.encode_adaptively(chroma, [tile], given=[given])
    assert payload is not None
    (back,) = tiles.decode_tiles(
        chroma, [payload], [(12, 16)], 1, given=[given], method=Method.ADAPTIVE
    )
    assert np.array_equal(back, tile)


def test_costs_are_those_of_the_payload(network: Any, crops: Crops) -> None:
    together = cut(crops)
    payloads = tiles.encode_adaptively(network, together)
    scores = tiles.score_tiles(network, together, adaptive=True)
    for tile, payload, score in zip(together, payloads, scores, strict=True):
        assert score.shape == tile.shape[:2]
        assert payload is not None
        assert 8 * len(payload) == pytest.approx(float(score.sum()), abs=72)


# --- The same in all forms ---------------------------------------------------------------------


def test_loops_are_the_library(network: Any, crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    if adaptive._library() is None:
        pytest.skip("there is no library")
    for channels in (3, 1):
        together = cut(crops, channels)
        expected = bits(network, together)
        with monkeypatch.context() as without:
            without.setattr(adaptive, "_library", lambda: None)
            assert all(map(np.array_equal, bits(network, together), expected))
            for tile, intervals in zip(together, expected, strict=True):
                payload = coder.encode(intervals)
                back = adaptive.decode(network, payload, tile.shape[:2], channels, None)
                assert np.array_equal(back, tile)


def test_whatever_evaluates_the_network(crops: Crops) -> None:
    """Every instruction set, and the loops that stand in for all of them."""
    frozen = tiny.photo().freeze(tiny.sample(crops.values())[:8])
    integers = freeze.arrays(frozen), tiny.CONFIG
    together = cut(crops)
    expected = bits(Walked("n", *integers, Kernels()), together)
    for isa in engine.instruction_sets():
        found = bits(engine.Native("n", *integers, isa), together)
        assert all(map(np.array_equal, found, expected)), isa


@pytest.mark.skipif(COMPILER is None, reason="there is no compiler")
@pytest.mark.parametrize("flags", ["-O0", "-O3 -march=native", "-O2 -fno-tree-vectorize"])
def test_however_it_is_compiled(
    flags: str, network: Any, crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without vectors, with the longest there are; what the build may not do is to fuse."""
    if adaptive._library() is None:
        pytest.skip("there is no library")
    together = cut(crops)
    expected = bits(network, together)
    source, built = ROOT / "codec" / "csrc" / "adaptive.c", tmp_path / "adaptive.so"
    plain = "-shared -fPIC -ffp-contract=off -DNO_CLONES"
    assert COMPILER is not None
    subprocess.run([COMPILER, *plain.split(), *flags.split(), source, "-o", built], check=True)
    adaptive._library.cache_clear()
    try:
        with monkeypatch.context() as other:
            other.setattr(native, "coding", lambda: ctypes.CDLL(str(built)))
            assert all(map(np.array_equal, bits(network, together), expected))
    finally:
        adaptive._library.cache_clear()


def test_the_page_says_what_it_does(crops: Crops) -> None:
    path = Path(zoo.__file__).parent / "photo.safetensors"
    own, network = reference.Network(path.read_bytes()), zoo.load("photo")
    for tile in (crops["bikes-96x64"][20:29, 30:41], crops["parrot-32x32"][:12, :2, :1]):
        (payload,) = tiles.encode_adaptively(network, [tile])
        assert payload is not None
        assert np.array_equal(reference_adaptive.decode_tile(own, payload, *tile.shape), tile)


# --- What it does not go with ---------------------------------------------------------------------


def test_networks_that_it_does_not_suit(crops: Crops) -> None:
    tile = crops["parrot-32x32"][:9, :9]
    logits = Toy("raster")
    logits.order = lambda shape: lagged(shape, 2)  # otherwise as it should be
    for network in (Toy("raster"), Toy("lag 3"), Toy("raster", classes=2), logits):
        assert tiles.encode_adaptively(network, [tile]) == [None]
        with pytest.raises(FormatError, match="does not go with its method"):
            tiles.decode_tiles(network, [b"\1\2\3"], [(9, 9)], 3, method=Method.ADAPTIVE)


def test_the_largest_tile(network: Any) -> None:
    assert adaptive.suits(network, (MAX_ADAPTIVE_SIDE, 1))
    assert not adaptive.suits(network, (1, MAX_ADAPTIVE_SIDE + 1))


def replaced(container: Container, plane: StoredPlane) -> Container:
    """The same with another plane."""
    (component,) = container.components
    return replace(container, components=(replace(component, planes=(plane,)),))


def test_damage_is_an_error_or_other_pixels(network: Any, crops: Crops) -> None:
    tile, random = crops["bikes-96x64"][:10, :12], Random(5)
    (payload,) = tiles.encode_adaptively(network, [tile])
    assert payload is not None
    refused, start = 0, time.process_time()
    for number in range(150):
        damaged = bytearray(payload)
        if number % 3:
            damaged[random.randrange(len(damaged))] ^= 1 << random.randrange(8)
        elif number % 2:
            damaged = bytearray(random.randbytes(len(damaged)))
        else:
            del damaged[random.randrange(len(damaged)) :]
        try:
            (back,) = tiles.decode_tiles(
                network, [bytes(damaged)], [(10, 12)], 3, method=Method.ADAPTIVE
            )
        except FormatError:
            refused += 1
        else:
            assert back.shape == tile.shape
            assert not np.array_equal(back, tile) or bytes(damaged) == payload
    assert refused > 30
    assert time.process_time() - start < 60


# --- Files ----------------------------------------------------------------------------------------


def methods(data: bytes) -> set[Method]:
    """Those of the tiles of a file."""
    planes = [plane for component in unpack(data).components for plane in component.planes]
    return {tile.method for plane in planes for tile in plane.tiles}


def test_files_of_the_greatest_effort(crops: Crops) -> None:
    pixels = crops["bikes-96x64"] // 2  # darker than the network knows, so that offsets pay
    usual = pixelzip.compress(pixels, origin="none")
    data = pixelzip.compress(pixels, origin="none", effort="max")
    assert methods(usual) == {Method.FITTED}
    assert methods(data) == {Method.ADAPTIVE}
    assert len(data) < len(usual)
    assert usual == pixelzip.compress(pixels, origin="none", effort="photo")
    assert np.array_equal(pixelzip.decompress_array(data), pixels)
    assert pixelzip.info(data).parts[0].methods == {"adaptive": 1}
    costs = float(pixelzip.cost_map(data).sum())
    assert costs == pytest.approx(8 * pixelzip.info(data).parts[0].bytes, rel=0.01)
    with pytest.raises(ValueError, match='"fast", "photo" or "max"'):
        pixelzip.compress(pixels, effort="most")


def test_few_colours_are_coded_without_it(crops: Crops) -> None:
    from PIL import Image

    few = Image.fromarray(crops["bikes-96x64"][:40, :64]).quantize(60).convert("RGB")
    data = pixelzip.compress(few, effort="max")
    (component,) = unpack(data).components
    if component.planes[0].colours:
        assert methods(data) == {Method.NETWORK}
    assert np.array_equal(pixelzip.decompress_array(data), np.asarray(few))


def test_an_adaptive_tile_of_few_colours_is_damage(crops: Crops) -> None:
    data = pixelzip.compress(crops["parrot-32x32"], origin="none", effort="max")
    container = unpack(data)
    plane = container.components[0].planes[0]
    assert plane.tiles[0].method == Method.ADAPTIVE
    wrong = StoredPlane(plane.layout, 0, plane.tiles, plane.network, b"red")
    with pytest.raises(FormatError, match="few colours"):
        unpack(pack(replaced(container, wrong)))


def test_a_tile_that_is_too_short_is_damage(crops: Crops) -> None:
    container = unpack(pixelzip.compress(crops["parrot-32x32"], origin="none", effort="max"))
    plane = container.components[0].planes[0]
    short = Tile(Method.ADAPTIVE, b"x" * (32 * 32 * 3 // 128 - 1))
    wrong = StoredPlane(plane.layout, 0, (short,), plane.network)
    with pytest.raises(FormatError, match="too short"):
        unpack(pack(replaced(container, wrong)))


def test_the_command_line(crop_paths: list[Path], tmp_path: Path) -> None:
    made = tmp_path / "made.pxz"
    run = CliRunner().invoke(
        cli, ["compress", str(crop_paths[0]), "-o", str(made), "--effort", "max", "-q"]
    )
    assert run.exit_code == 0, run.output
    assert Method.ADAPTIVE in methods(made.read_bytes())
    assert "adaptive" in CliRunner().invoke(cli, ["info", str(made)]).output
    assert CliRunner().invoke(cli, ["compress", "x.png", "--effort", "most"]).exit_code == 2
