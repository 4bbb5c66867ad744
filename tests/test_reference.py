"""The specification against the code: an independent decoder brings back what pixelzip wrote."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference_decoder as reference
import reference_programs as programs
import tiny
from architectures import CODING, KINDS, config, frozen, random_pixels
from make_golden import GOLDEN, INDEX, digest
from numpy.typing import NDArray

import pixelzip
from pixelzip.codec import cdf, coder
from pixelzip.codec.container import unpack
from pixelzip.codec.decode import decode
from pixelzip.codec.methods import Method
from pixelzip.codec.tiles import encode_tiles
from pixelzip.models import zoo
from pixelzip.models.freezing import freeze
from pixelzip.models.frozen.kernels import Kernels
from pixelzip.models.programs import integers
from pixelzip.models.programs.program import Part

ROOT = Path(__file__).resolve().parent.parent
FORMAT = (ROOT / "docs" / "format.md").read_text()
ZOO = ROOT / "models" / "zoo"
ZOO_NAMES = ["photo", "clean", "fast", "tiny", "luma", "chroma", "mnist"]
PHOTO = ZOO / "photo.safetensors"

Crops = dict[str, NDArray[np.uint8]]


@pytest.fixture(scope="module")
def network() -> reference.Network:
    """The shipped network, as the reference decoder reads it."""
    return reference.Network(PHOTO.read_bytes())


@cache
def own(name: str) -> Any:
    """A network of the zoo, as the reference decoder reads it."""
    data = (ZOO / f"{name}.safetensors").read_bytes()
    return programs.Network(data) if name == "mnist" else reference.Network(data)


@pytest.mark.parametrize("name", ZOO_NAMES)
def test_a_network_file_says_the_same_to_both(name: str) -> None:
    assert own(name).fingerprint == zoo.load(name).fingerprint


def sha256(table: list[int]) -> str:
    return hashlib.sha256(struct.pack(f"<{len(table)}q", *table)).hexdigest()


@pytest.mark.parametrize("name", ["EXP", "INVERSE_SCALE", "SIGMOID"])
def test_tables(name: str) -> None:
    table = getattr(reference, name)
    assert table == getattr(cdf, name).tolist()
    assert f"| {name} | `{sha256(table)}` |" in FORMAT
    assert f"| {name} | {len(table)} | `2^" in FORMAT
    assert f" | {table[0]} | {table[-1]} |\n" in FORMAT


def test_example_of_the_coder() -> None:
    listing = FORMAT.split("### An example\n")[1].split("```text\n")[1].split("```")[0]
    shown = dict(line.split(": ") for line in listing.splitlines())
    numbers = {
        key: [int(n) for n in text.split()] for key, text in shown.items() if key != "payload"
    }
    mixture = numbers["logits"], numbers["means"], numbers["log-scales"]
    weight = reference.weights(mixture[0])
    assert weight == numbers["weights"]
    for x in (96, 103, 112):
        assert [reference.cumulative(x, weight, mixture)] == numbers[f"C({x})"]
    high, low = reference.frequencies(mixture), reference.frequencies(mixture, 6)
    assert high == numbers["high"]
    assert low == numbers["low after 6"]

    values = np.array(numbers["values"], np.uint8)
    parameters = np.array([mixture] * len(values), np.int32)
    intervals = cdf.intervals(parameters, values)
    payload = coder.encode(intervals.transpose(1, 0, 2).reshape(-1, 3))
    assert payload == bytes.fromhex(shown["payload"])
    decoder = reference.RangeDecoder(payload)
    highs = [decoder.nibble(high) for _ in values]
    lows = [decoder.nibble(reference.frequencies(mixture, n)) for n in highs]
    assert [16 * h + n for h, n in zip(highs, lows, strict=True)] == numbers["values"]


def test_frequencies_of_any_mixture() -> None:
    # Far beyond what networks say: means outside, scales clamped, weights of zero, ties of logits.
    random = np.random.default_rng(2)
    n = 200
    parameters = np.stack(
        [
            random.choice([0, 1, -40, -3072, -3073, 2**26], (n, 4)),
            random.integers(-(2**19), 2**19, (n, 4)) >> random.integers(0, 8, (n, 1)),
            random.integers(-200, 250, (n, 4)),
        ],
        1,
    ).astype(np.int32)
    highs = random.integers(0, 16, n)
    # The coder wants frequencies less one.
    table = np.stack([cdf.high_table(parameters), cdf.low_table(parameters, highs)], 1) + 1
    for mixture, high, (high_table, low_table) in zip(parameters, highs, table, strict=True):
        logits, means, log_scales = mixture.tolist()
        assert reference.frequencies((logits, means, log_scales)) == high_table.tolist()
        assert reference.frequencies((logits, means, log_scales), int(high)) == low_table.tolist()


def test_frequencies_of_any_logits() -> None:
    random = np.random.default_rng(4)
    n = 60
    wide = random.integers(-(2**31), 2**31, (n, 256)) >> random.integers(0, 31, (n, 1))
    logits = np.concatenate([wide, random.choice([0, -3072, -3073], (n, 256))]).astype(np.int32)
    highs = random.integers(0, 16, 2 * n).astype(np.int32)
    table = np.stack([cdf.high_table(logits), cdf.low_table(logits, highs)], 1) + 1
    for row, high, (high_table, low_table) in zip(logits.tolist(), highs, table, strict=True):
        assert reference.frequencies_of_logits(row) == high_table.tolist()
        assert reference.frequencies_of_logits(row, int(high)) == low_table.tolist()


@pytest.mark.parametrize(
    ("crop", "top", "left", "height", "width", "channels"),
    [
        ("parrot-32x32", 3, 8, 9, 12, 3),
        ("bikes-96x64", 20, 40, 1, 7, 3),
        ("palms-96x64", 11, 30, 5, 1, 3),
        ("lighthouse-64x48", 12, 17, 8, 8, 1),
        ("flower-64x48", 30, 20, 14, 2, 3),
        ("knob-32x32", 0, 0, 1, 1, 3),
        ("knob-32x32", 9, 9, 6, 10, 1),
    ],
)
def test_tiles(
    network: reference.Network,
    crops: Crops,
    crop: str,
    top: int,
    left: int,
    height: int,
    width: int,
    channels: int,
) -> None:
    tile = crops[crop][top : top + height, left : left + width, :channels]
    (payload,) = encode_tiles(zoo.load("photo"), [tile])
    decoded = reference.decode_tile(network, payload, height, width, channels)
    assert np.array_equal(decoded, tile)


def test_tile_of_extremes(network: reference.Network) -> None:
    # Noise of black and white drives clamps and guards that photographs do not reach.
    tile = np.random.default_rng(3).choice([0, 255], (7, 6, 3)).astype(np.uint8)
    (payload,) = encode_tiles(zoo.load("photo"), [tile])
    assert np.array_equal(reference.decode_tile(network, payload, 7, 6, 3), tile)


@pytest.mark.parametrize("seed", range(6))
def test_wild_networks(tmp_path: Path, crops: Crops, seed: int) -> None:
    path = tmp_path / "wild.safetensors"
    tiny.write(path, *tiny.wild(seed))
    tile = crops["flower-64x48"][:7, :5]
    (payload,) = encode_tiles(zoo.load(str(path)), [tile])
    network = reference.Network(path.read_bytes())
    assert np.array_equal(reference.decode_tile(network, payload, 7, 5, 3), tile)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("near", [12, 24])
@pytest.mark.parametrize("told", [0, 4, 5])
def test_wild_networks_of_one_plane(
    tmp_path: Path, crops: Crops, told: int, near: int, seed: int
) -> None:
    path = tmp_path / "wild.safetensors"
    tiny.write(path, *tiny.wild(seed, colours=1, near=near, given=5 if told else 0))
    tile = crops["flower-64x48"][:7, :5, :1]
    random = np.random.default_rng(seed)
    given = random.integers(0, 256, (7, 5, told), np.uint8) if told else None
    wanted = None if given is None else [given]
    (payload,) = encode_tiles(zoo.load(str(path)), [tile], given=wanted)
    network = reference.Network(path.read_bytes())
    assert network.given == (5 if told else 0)
    assert np.array_equal(reference.decode_tile(network, payload, 7, 5, 1, given), tile)


@pytest.mark.parametrize("told", [4, 5])
def test_given_samples_matter(crops: Crops, told: int) -> None:
    luma = np.ascontiguousarray(crops["bikes-96x64"][20:34, 30:46, 1])
    quarters = [luma[i::2, j::2] for i in (0, 1) for j in (0, 1)]
    first = 255 - quarters[0]
    given = np.stack([*quarters, first][:told], axis=2)
    tile = quarters[0][:, :, None] // 2 + 60
    (payload,) = encode_tiles(zoo.load("chroma"), [tile], given=[given])
    decoded = reference.decode_tile(own("chroma"), payload, 7, 8, 1, given)
    assert np.array_equal(decoded, tile)
    changed = given.copy()
    changed[:, :, -1] ^= 128
    try:
        other = reference.decode_tile(own("chroma"), payload, 7, 8, 1, changed)
    except ValueError:
        return
    assert not np.array_equal(other, tile)


@pytest.mark.parametrize(
    ("t", "s", "rounded"),
    [
        (1, 0.5, 0),  # ties go to even
        (3, 0.5, 2),
        (-3, 0.5, -2),
        (2**24 + 1, 1.0, 2**24),  # binary32 has 24 bits: the conversion rounds
        (2**24 + 3, 1.0, 2**24 + 4),
        (2**23 + 1, 0.75, 6291457),  # 6291456.75, a tie between two binary32 numbers before that
        (12345677, 1 / 3, 4115226),  # 4115225.667 and a bit, for binary32 has no third
        (2**31 - 1, 1.0, 2**26),
        (-(2**31) + 1, 2.0**-4, -(2**26)),
    ],
)
def test_rounding(t: int, s: float, rounded: int) -> None:
    scale = np.array([s], np.float32)
    assert reference.rescale(np.array([t]), scale).tolist() == [rounded]
    zero = np.zeros(1, np.int32)
    assert Kernels().rescale(np.array([[t]], np.int32), zero, scale).tolist() == [[rounded]]


def only(network: Any) -> Callable[[bytes], Any]:
    """Finds this network, and no other."""

    def find(fingerprint: bytes) -> Any:
        assert network.fingerprint.startswith(fingerprint)
        return network

    return find


@pytest.mark.parametrize("channels", [3, 1])
def test_whole_files(network: reference.Network, crops: Crops, channels: int) -> None:
    pixels = crops["parrot-32x32"][:20, :24]
    some = pixels if channels == 3 else pixels[:, :, 1]
    # By its path, or else planes of one channel are left to a network of their own.
    data = pixelzip.compress(some, network=str(PHOTO), origin="none")
    (component,) = unpack(data).components
    assert component.planes[0].tiles[0].method == Method.NETWORK
    (decoded,) = reference.decode_file(data, only(network))
    assert np.array_equal(decoded, pixels if channels == 3 else pixels[:, :, 1:2])


def find(fingerprint: bytes) -> Any:
    (found,) = (n for n in map(own, ZOO_NAMES) if n.fingerprint.startswith(fingerprint))
    return found


def by_kind(network: Any, *rest: Any, **more: Any) -> Any:
    """A network payload, of a frozen network or of a program."""
    module = programs if isinstance(network, programs.Network) else reference
    return module.decode_tile(network, *rest, **more)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.pxz")), ids=lambda path: path.stem)
def test_golden_files(path: Path) -> None:
    components = reference.decode_file(path.read_bytes(), find, by_kind)
    picture = decode(path.read_bytes(), zoo.find)
    assert all(map(np.array_equal, components, picture.planes))
    assert len(components) == len(picture.planes)


def test_golden_files_show_what_is_particular() -> None:
    kinds, corrections, colours, fitted = set(), 0, 0, set()
    for path in GOLDEN.glob("*.pxz"):
        for component in unpack(path.read_bytes()).components:
            corrections += bool(component.corrections)
            for plane in component.planes:
                colours += bool(plane.colours)
                kinds |= {(plane.layout.kind, tile.method) for tile in plane.tiles}
                fitted |= {t.payload[:2] for t in plane.tiles if t.method == Method.FITTED}
    assert corrections
    assert colours
    assert {(kind, Method.NETWORK) for kind in ("colour", "luma", "chroma")} <= kinds
    assert ("colour", Method.ADAPTIVE) in kinds
    assert ("colour", Method.FITTED) in kinds
    assert any(step <= 12 for _, step in fitted)  # with weights
    assert {(kind, Method.BLOCKS) for kind in ("luma", "chroma")} <= kinds


def test_damage_is_noticed(network: reference.Network, crops: Crops) -> None:
    tile = crops["parrot-32x32"][:8, :12]
    data = bytearray(pixelzip.compress(tile, network=str(PHOTO), origin="none"))
    data[-20] ^= 4
    with pytest.raises((ValueError, AssertionError)):
        reference.decode_file(bytes(data), only(network))


# --- Frozen programs -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["DECAY", "LOG_SIGMOID", "WIDTH"])
def test_tables_of_programs(name: str) -> None:
    table = getattr(programs, name)
    assert f"| {name} | {len(table)} | `" in FORMAT
    assert f"` | {table[0]} | {table[-1]} | `{sha256(table)}` |\n" in FORMAT


def test_the_golden_digit() -> None:
    network = programs.Network((ROOT / "models" / "zoo" / "mnist.safetensors").read_bytes())
    assert network.fingerprint == zoo.load("mnist").fingerprint
    data = (GOLDEN / "digit.pxz").read_bytes()
    (decoded,) = reference.decode_file(data, only(network), programs.decode_tile)
    assert digest(decoded[:, :, 0]) == json.loads(INDEX.read_text())["digit"]


SHAPES = [(7, 6), (1, 5), (4, 1)]


def read_back(path: Path, name: str, parts: list[Part], label: int | None = None) -> None:
    """What pixelzip writes with a network, of all and of one channel, and the pixels again."""
    freeze.write_program(path, parts, name, config(name), "not at all")
    network, independent = integers.make(name, parts), programs.Network(path.read_bytes())
    assert independent.fingerprint == network.fingerprint
    for channels in {network.program.colours, 1}:
        pixels = random_pixels(name, len(SHAPES), 7, 6, 2).numpy()[:, :, :, :channels]
        tiles = [np.ascontiguousarray(p[:h, :w]) for p, (h, w) in zip(pixels, SHAPES, strict=True)]
        payloads = encode_tiles(network, tiles, label=label)
        for tile, payload in zip(tiles, payloads, strict=True):
            decoded = programs.decode_tile(independent, payload, *tile.shape)
            assert np.array_equal(decoded, tile)


@pytest.mark.parametrize("name", CODING)
def test_programs(tmp_path: Path, name: str) -> None:
    read_back(tmp_path / "mine.safetensors", name, frozen(name))


@pytest.mark.parametrize("name", KINDS)
def test_programs_of_few_bits(tmp_path: Path, name: str) -> None:
    read_back(tmp_path / "mine.safetensors", name, frozen(name, 8))


def test_every_class(tmp_path: Path) -> None:
    path, name = tmp_path / "mine.safetensors", "pixelcnn++-classes"
    for label in range(3):
        read_back(path, name, frozen(name), label)
    with pytest.raises(ValueError, match="damaged"):
        programs.decode_tile(programs.Network(path.read_bytes()), b"\3\1", 1, 1, 3)


def wild_parts(name: str, bits: int, seed: int) -> list[Part]:
    """The network with some of its numbers far too large, so that clamps are reached."""
    random = np.random.default_rng(seed)
    found = []
    for program, tensors in frozen(name, bits):
        changed = dict(tensors)
        for key, tensor in tensors.items():
            if key.endswith("scale"):
                some = random.random(tensor.shape) < 0.2
                factor = np.where(some, np.exp2(random.uniform(-4, 20, tensor.shape)), 1)
                changed[key] = tensor * factor
            elif key.endswith(("hidden", "cell")):
                limit = 2**30 if key.endswith("cell") else program.state_unit
                array = random.integers(-limit, limit + 1, tensor.shape)
                changed[key] = array.astype(tensor.dtype)
        found.append((program, changed))
    return found


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", [*KINDS, "pixelcnn++-softmax"])
def test_wild_programs(tmp_path: Path, name: str, seed: int) -> None:
    bits = 16 if seed else 8
    read_back(tmp_path / "wild.safetensors", name, wild_parts(name, bits, seed))
