"""The exactness matrix: the same integers, whatever the machine does on the way to them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import architectures
import matrix
import numpy as np
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from stepping import Tile, known, learnt

import pixelzip
from pixelzip import contents
from pixelzip.codec import cdf, coder, decode, encode, tiles
from pixelzip.codec import native as coding
from pixelzip.codec.conditional import WholeTiles
from pixelzip.codec.decode import decode_many
from pixelzip.codec.encode import encode_many
from pixelzip.codec.errors import DeviceError, FormatError, PixelzipError
from pixelzip.codec.picture import Picture
from pixelzip.codec.workers import side_by_side
from pixelzip.models import zoo
from pixelzip.models.freezing import freeze
from pixelzip.models.frozen import backends, file, native
from pixelzip.models.frozen import network as frozen
from pixelzip.models.frozen.architecture import GIVEN, PhotoConfig
from pixelzip.models.frozen.kernels import Kernels
from pixelzip.models.frozen.network import Frozen
from pixelzip.models.frozen.reference import Reference
from pixelzip.models.frozen.shell import LIMIT
from pixelzip.models.frozen.walk import Walked
from pixelzip.models.gpu import carriers
from pixelzip.models.gpu.photo import Twins
from pixelzip.sources import to_picture

Crops = dict[str, NDArray[np.uint8]]
Network = tuple[dict[str, NDArray[Any]], PhotoConfig]

CPU = torch.device("cpu")
COMPILER = shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0])
"""What an install builds C with, None if it cannot."""
SHAPES = [(1, 1), (1, 2), (2, 1), (1, 23), (23, 1), (2, 3), (3, 2), (9, 4), (13, 17), (5, 40)]
"""Narrower than the lag, lower than the window, and larger."""


@pytest.fixture(scope="module")
def networks(crops: Crops) -> dict[str, Network]:
    """The integers of a tiny network, of a deeper one with odd sizes, and of the shipped one."""
    calibration = tiny.sample(crops.values())[:8]
    return {
        "tiny": (freeze.arrays(tiny.photo().freeze(calibration)), tiny.CONFIG),
        "deep": (freeze.arrays(tiny.photo(tiny.DEEP, 1).freeze(calibration)), tiny.DEEP),
        "photo": file.read(Path(zoo.__file__).with_name("photo.safetensors"))[:2],
    }


@pytest.fixture(scope="module", params=["tiny", "deep", "photo"])
def integers(request: pytest.FixtureRequest, networks: dict[str, Network]) -> Network:
    return networks[request.param]


def cut(crops: Crops, channels: int = 3, shapes: Sequence[tuple[int, int]] = SHAPES) -> list[Tile]:
    """Tiles of these shapes out of photographs, and one of noise."""
    pictures = sorted(crops.items())
    found = []
    for i, (height, width) in enumerate(shapes):
        picture = next(p for _, p in pictures[i % len(pictures) :] + pictures
                       if p.shape[0] >= height and p.shape[1] >= width)  # fmt: skip
        top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
        found.append(picture[top : top + height, left : left + width, :channels])
    noise = np.random.default_rng(0).integers(0, 256, (6, 9, channels), dtype=np.uint8)
    return [*found, np.where(noise < 128, 0, 255).astype(np.uint8)]


# --- One network, evaluated in many ways ---------------------------------------------------------


@pytest.mark.parametrize("channels", [3, 1])
def test_parallel_is_stepwise(integers: Network, crops: Crops, channels: int) -> None:
    network = backends.make("n", *integers)
    together = cut(crops, channels)
    expected = [known(network, tile) for tile in together]
    for one, other in zip(expected, learnt(network, together), strict=True):
        np.testing.assert_array_equal(one, other)
    alone = [learnt(network, [tile])[0] for tile in together]
    for one, other in zip(expected, alone, strict=True):
        np.testing.assert_array_equal(one, other)
    # The network has something to say: what it says depends on the pixels.
    assert len(np.unique(expected[8][:, 0, 1], axis=0)) > 100


def test_bands(integers: Network, crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    network = backends.make("n", *integers)
    together = cut(crops, shapes=[(13, 17), (40, 3), (7, 50), (1, 30)])
    expected = [known(network, tile) for tile in together]
    for band in (1, 20, 51, 100, 1 << 20):
        monkeypatch.setattr(frozen, "BAND", band)
        for tile, parameters in zip(together, expected, strict=True):
            np.testing.assert_array_equal(known(network, tile), parameters)
    monkeypatch.setattr(frozen, "BAND", 1)
    assert len(list(network.parallel(together[0]))) == 13  # a band is a row at least


@pytest.mark.parametrize("channels", [3, 1])
def test_files_do_not_depend_on_batches_threads_or_order(
    integers: Network, crops: Crops, channels: int
) -> None:
    network = backends.make("n", *integers)
    together = cut(crops, channels)
    shapes = [tile.shape[:2] for tile in together]
    payloads = [tiles.encode_tiles(network, [tile])[0] for tile in together]
    assert tiles.encode_tiles(network, together) == payloads
    assert tiles.encode_tiles(network, together, threads=2) == payloads
    assert tiles.encode_tiles(network, together[::-1], threads=3) == payloads[::-1]
    for threads in (1, 2, 3):
        decoded = tiles.decode_tiles(network, payloads, shapes, channels, threads=threads)
        for tile, back in zip(together, decoded, strict=True):
            np.testing.assert_array_equal(back, tile)
    decoded = tiles.decode_tiles(network, payloads[::-1], shapes[::-1], channels)
    for tile, back in zip(together[::-1], decoded, strict=True):
        np.testing.assert_array_equal(back, tile)
    for tile, payload in zip(together, payloads, strict=True):
        (back,) = tiles.decode_tiles(network, [payload], [tile.shape[:2]], channels)
        np.testing.assert_array_equal(back, tile)


def backend(name: str, integers: Network) -> Frozen:
    """The network in any of its backends."""
    if name == "reference":
        return Reference("n", *integers)
    if name == "numba":
        return Walked("n", *integers, Kernels())
    if name.startswith("torch"):
        return Walked("n", *integers, Twins("cpu", name.partition(" ")[2] or None))
    return native.Native("n", *integers, name)


BACKENDS = [
    *native.instruction_sets(), "numba", "torch", *(f"torch {c}" for c in carriers.CARRIERS)
]  # fmt: skip


@pytest.mark.skipif(COMPILER is None, reason="no C compiler here")
def test_what_a_compiler_makes_is_used() -> None:
    """Where there is one, an install without its work would leave half of the code untested."""
    for name in ("pixelzip.codec._coding", "pixelzip.models.frozen._engine"):
        spec = find_spec(name)
        assert spec is not None, f"{name} was not built: install pixelzip again"
        assert spec.origin is not None
        assert Path(spec.origin).is_file()
    assert coding.coding() is not None
    assert native.instruction_sets()[-1] == "portable"
    networks = zoo.load("photo"), zoo.load("luma"), zoo.load("chroma")
    assert all(isinstance(network, native.Native) for network in networks)


def told(config: PhotoConfig, tile: Tile, samples: int = GIVEN) -> NDArray[np.uint8] | None:
    """What a network that is given samples may be given for a tile: noise."""
    if not config.given:
        return None
    rng = np.random.default_rng(tile.size)
    return rng.integers(0, 256, (*tile.shape[:2], samples), dtype=np.uint8)


def mixtures(network: Frozen, tile: Tile, given: NDArray[np.uint8] | None) -> NDArray[np.int32]:
    return np.concatenate(list(network.parallel(tile, 0, given)))


WILD: dict[str, dict[str, Any]] = {
    "photo": {},
    "photo, more neighbours": {"near": 24},
    "luma": {"colours": 1, "near": 24},
    "chroma": {"colours": 1, "near": 24, "given": GIVEN},
    "chroma, little": {"colours": 1, "given": GIVEN, "channels": 1, "head": 1, "components": 1},
    "odd sizes": {"channels": 65, "head": 33, "components": 11, "blocks": "MMN"},
    "no blocks": {"blocks": ""},
}


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("kind", WILD)
def test_backends_are_the_reference(kind: str, name: str) -> None:
    """Of networks that are random up to the brim: known, stepped through, scored and decoded."""
    rng = np.random.default_rng(5)
    for seed in range(2):
        integers = tiny.wild(seed, **WILD[kind])
        reference, network = backend("reference", integers), backend(name, integers)
        assert network.fingerprint == reference.fingerprint
        for channels in {1, integers[1].colours}:
            together = [
                rng.integers(0, 256, (*shape, channels), dtype=np.uint8)
                for shape in (*SHAPES, (70, 3), (2, 150))
            ]
            given = [told(integers[1], tile, 4 + i % 2) for i, tile in enumerate(together)]
            expected = list(map(partial(mixtures, reference), together, given))
            found = list(map(partial(mixtures, network), together, given))
            stepped = learnt(network, together, given=given if network.given else None)
            for one, *others in zip(expected, found, stepped, strict=True):
                for other in others:
                    np.testing.assert_array_equal(other, one)
            if isinstance(network, WholeTiles):
                for tile, samples, parameters in zip(together, given, expected, strict=True):
                    ordered = in_order(tile, parameters)
                    for bands in {1, min(3, len(tile)), len(tile)}:
                        with side_by_side(2) as parallel:
                            intervals = network.score_tile(tile, 0, samples, bands, parallel)
                        np.testing.assert_array_equal(intervals, ordered)
                    payload = coder.encode(intervals)
                    shape = tile.shape[:2]
                    decoded = network.decode_tile(payload, shape, channels, 0, samples)
                    np.testing.assert_array_equal(decoded, tile)


def in_order(tile: Tile, parameters: NDArray[np.int32]) -> NDArray[np.float32]:
    """The intervals of a tile's nibbles as docs/format.md orders them, one by one."""
    height, width, channels = tile.shape
    values = tile.reshape(-1, channels)
    pieces = []
    steps = [[(t - 2 * r, r) for r in range(height)] for t in range(width + 2 * height)]
    for front in steps:
        pixels = [r * width + c for c, r in front if 0 <= c < width]
        for channel in range(channels if pixels else 0):
            of_front = cdf.intervals(parameters[pixels, channel], values[pixels, channel])
            pieces += [of_front[:, 0], of_front[:, 1]]
    return np.concatenate(pieces)


@pytest.mark.parametrize("name", BACKENDS)
def test_backends(integers: Network, crops: Crops, name: str) -> None:
    shapes = [(1, 1), (2, 3), (9, 4), (8, 11)]
    network, reference = backend(name, integers), backend("reference", integers)
    for channels in (3, 1):
        together = cut(crops, channels, shapes)
        expected = [known(reference, tile) for tile in together]
        for tile, parameters in zip(together, expected, strict=True):
            np.testing.assert_array_equal(known(network, tile), parameters)
        for parameters, stepped in zip(expected, learnt(network, together), strict=True):
            np.testing.assert_array_equal(stepped, parameters)


def test_what_one_backend_encodes_the_other_decodes(integers: Network, crops: Crops) -> None:
    together = cut(crops, shapes=[(8, 11), (3, 2)])
    shapes = [tile.shape[:2] for tile in together]
    names = [BACKENDS[0], *native.instruction_sets()[-1:], "numba", "torch float64"]
    payloads = [tiles.encode_tiles(backend(name, integers), together) for name in names]
    assert all(made == payloads[0] for made in payloads)
    for name in names:
        decoded = tiles.decode_tiles(backend(name, integers), payloads[0], shapes, 3)
        for tile, back in zip(together, decoded, strict=True):
            np.testing.assert_array_equal(back, tile)


@pytest.mark.parametrize("name", [*native.instruction_sets(), "numba"])
def test_any_number_of_threads_makes_the_same_file(
    networks: dict[str, Network], crops: Crops, name: str
) -> None:
    """Of one picture in many tiles, and of many pictures, which threads take one by one."""
    network, other = backend(name, networks["tiny"]), backend(BACKENDS[-1], networks["tiny"])
    pictures = [Picture("RGB", (crops["bikes-96x64"],))]
    pictures += [Picture("RGB", (crops["bikes-96x64"][:20, k : k + 20],)) for k in range(7)]
    own = {"colour": [network]}
    expected = encode_many(pictures, {"colour": [other]}, tile_size=16)
    for threads in (1, 2, 3, 7):
        assert encode_many(pictures, own, tile_size=16, threads=threads) == expected
        assert encode_many(pictures[:1], own, tile_size=16, threads=threads) == expected[:1]
        decoded = decode_many(expected, lambda _: network, threads=threads)
        for picture, back in zip(pictures, decoded, strict=True):
            np.testing.assert_array_equal(back.planes[0], picture.planes[0])


@pytest.mark.parametrize("origin", ["auto", "none"])
def test_any_number_of_threads_makes_the_same_large_file(origin: str, photo_path: Path) -> None:
    """Of a whole photograph with the networks that ship."""
    with Image.open(photo_path) as image:
        pixels = np.asarray(image)
    data = pixelzip.compress(pixels, origin=origin, threads=1)
    for threads in (1, 2, 3, 7):
        back = pixelzip.decompress_array(data, threads=threads)
        np.testing.assert_array_equal(back, pixels)
        if threads > 1:
            assert pixelzip.compress(pixels, origin=origin, threads=threads) == data


@pytest.mark.parametrize("small", [0, 2**16])
def test_any_number_of_threads_makes_the_same_files(
    small: int, crops: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of pictures that each take some, or one; among them JPEGs, as pixels and as files."""
    monkeypatch.setattr(encode, "_SMALL", small)
    monkeypatch.setattr(decode, "_SMALL", small)
    stream = io.BytesIO()
    Image.fromarray(crops["bikes-96x64"]).save(stream, "JPEG", quality=80)
    jpeg = stream.getvalue()
    images: list[Any] = [crops[name] for name in ("bikes-96x64", "parrot-32x32", "palms-96x64")]
    images += [jpeg, np.asarray(Image.open(stream)), images[0][:50, :70], images[2][:, :, 0]]
    expected = [pixelzip.compress(image, threads=1) for image in images]
    arrays = [np.asarray(pixelzip.decompress(data, threads=1)) for data in expected]
    for threads in (1, 2, 3, 7):
        assert pixelzip.compress_many(images, threads=threads) == expected
        for back, array in zip(
            pixelzip.decompress_arrays(expected, threads=threads), arrays, strict=True
        ):
            np.testing.assert_array_equal(back, array)
        said: list[float] = []
        contents.encode(
            [contents.take(jpeg), *(contents.Still(to_picture(image)) for image in images[:3])],
            network=None, origin="auto", effort="photo", label=None, tile_size=None,
            threads=threads, device="cpu", progress=said.append,
        )  # fmt: skip
        assert said == sorted(said)
        assert said[-1] == pytest.approx(1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("carrier", [None, *carriers.CARRIERS])
def test_gpu(integers: Network, crops: Crops, carrier: str | None) -> None:
    together = cut(crops)
    shapes = [tile.shape[:2] for tile in together]
    here = backends.make("n", *integers)
    there = backends.make("n", *integers, carrier=carrier, device="cuda")
    payloads = tiles.encode_tiles(here, together)
    assert tiles.encode_tiles(there, together) == payloads
    for tile, back in zip(together, tiles.decode_tiles(there, payloads, shapes, 3), strict=True):
        np.testing.assert_array_equal(back, tile)


def test_given_samples_have_to_fit(crops: Crops) -> None:
    tile = crops["parrot-32x32"][:4, :5, :1]
    for name in (BACKENDS[0], "numba", "reference"):
        network = backend(name, tiny.wild(0, **WILD["chroma"]))
        for wrong in (None, np.zeros((4, 4, 5), np.uint8), np.zeros((4, 5, 3), np.uint8)):
            with pytest.raises(ValueError, match="given samples"):
                list(network.parallel(tile, 0, wrong))
        network = backend(name, tiny.wild(0, **WILD["luma"]))
        with pytest.raises(ValueError, match="given samples"):
            list(network.parallel(tile, 0, np.zeros((4, 5, 5), np.uint8)))


@contextmanager
def ambience(name: str) -> Iterator[None]:
    """What a program around us may have told torch."""
    threads = torch.get_num_threads()
    try:
        match name:
            case "bfloat16 products":
                torch.set_float32_matmul_precision("medium")
            case "double by default":
                torch.set_default_dtype(torch.float64)
            case "half by default":
                torch.set_default_dtype(torch.float16)
            case "no denormals":
                torch.set_flush_denormal(True)
            case "many threads":
                torch.set_num_threads(5)
        with torch.autocast("cpu", torch.bfloat16, enabled=name == "autocast"):
            yield
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.set_default_dtype(torch.float32)
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    "name",
    ["autocast", "bfloat16 products", "double by default", "half by default", "no denormals",
     "many threads"],
)  # fmt: skip
def test_settings_of_the_program_around(
    networks: dict[str, Network], crops: Crops, name: str
) -> None:
    integers = networks["tiny"]
    together = cut(crops, shapes=[(8, 11), (12, 9)])
    shapes = [tile.shape[:2] for tile in together]
    payloads = tiles.encode_tiles(backends.make("n", *integers), together)
    for which in BACKENDS:
        with ambience(name):
            network = backend(which, integers)
            parameters = known(network, together[0])
            encoded = tiles.encode_tiles(network, together, threads=2)
            decoded = tiles.decode_tiles(network, payloads, shapes, 3, threads=2)
        np.testing.assert_array_equal(parameters, known(backends.make("n", *integers), together[0]))
        assert encoded == payloads
        for tile, back in zip(together, decoded, strict=True):
            np.testing.assert_array_equal(back, tile)


def test_damaged_payloads(networks: dict[str, Network], crops: Crops) -> None:
    """They give an error or other pixels of the same shape, from any of the tiles in step."""
    network = backends.make("n", *networks["tiny"])
    tile = crops["parrot-32x32"][:9, :11]
    payload = tiles.encode_tiles(network, [tile])[0]
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        damaged = bytearray(payload)
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        damaged = damaged[: rng.integers(1, 2 * len(damaged))]
        shapes = [(9, 11), (9, 11)]
        try:
            back = tiles.decode_tiles(network, [payload, bytes(damaged)], shapes, 3)
        except FormatError:
            refused += 1
        else:
            np.testing.assert_array_equal(back[0], tile)
            assert back[1].shape == tile.shape
    assert refused < 40


# --- Carriers ------------------------------------------------------------------------------------


def extremes(rng: np.random.Generator, *shape: int, lowest: int = -127) -> torch.Tensor:
    """int8 matrices of the largest numbers, of random ones, and of a mixture."""
    wild = np.where(rng.random(shape) < 0.5, lowest, 127)
    match rng.integers(4):
        case 0:
            wild[:] = 127
        case 1:
            wild = rng.integers(lowest, 128, shape)
        case 2:
            wild[rng.random(shape) < 0.3] = 0
    return torch.from_numpy(wild.astype(np.int8))


@settings(max_examples=60)
@given(st.integers(1, 70), st.integers(1, 200), st.integers(1, 80), st.integers(0, 2**32))
def test_carriers_are_exact(n: int, inputs: int, outputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, weight = extremes(rng, n, inputs, lowest=-128), extremes(rng, inputs, outputs)
    exact = (x.long() @ weight.long()).to(torch.int32)
    for carrier in (None, *carriers.CARRIERS):
        assert torch.equal(carriers.product(weight, 128, carrier, CPU)(x), exact)


def test_sums_too_large_for_a_carrier_go_to_the_next() -> None:
    weight = torch.full((1057, 16), 127, dtype=torch.int8)  # sums pass 2^24 by a little
    x = torch.full((20, 1057), 127, dtype=torch.int8)
    x[1::2, ::2] = 126
    exact = (x.long() @ weight.long()).to(torch.int32)
    assert exact.max() > 2**24
    assert (exact % 2 == 1).any()  # what float32 would have rounded
    for carrier in (None, *carriers.CARRIERS):
        assert torch.equal(carriers.product(weight, 127, carrier, CPU)(x), exact)
    assert carriers.bound(weight, 127) == 1057 * 127 * 127


def test_a_carrier_that_saturates_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    carried = carriers._carried

    def saturating(weight: torch.Tensor, carrier: str) -> carriers.Product:
        """As processors without VNNI do it: pairs of products meet in 16 bits."""
        if carrier != "int8":
            return carried(weight, carrier)

        def multiply(x: torch.Tensor) -> torch.Tensor:
            unsigned = (x.long() + 128)[..., None] * weight.long()  # (n, K, N)
            pairs = unsigned.unflatten(1, (-1, 2)).sum(2).clamp(-(2**15), 2**15 - 1)
            return (pairs.sum(1) - 128 * weight.long().sum(0)).to(torch.int32)

        return multiply

    monkeypatch.setattr(carriers, "_carried", saturating)
    assert set(carriers.ranking.__wrapped__(CPU)) == {"float32", "float64"}


def test_float64_has_to_hold_53_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.full((4, 2), 3, dtype=torch.int16)
    product = carriers.integer_product(weight, 2**15, None, CPU)
    assert product(torch.full((1, 4), 5, dtype=torch.int16)).tolist() == [[60.0, 60.0]]

    def rough(x: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
        return (x.float() @ held.float()).double()

    monkeypatch.setattr(carriers, "_as_floats", rough)
    unproven = carriers.float64_is_exact.__wrapped__
    monkeypatch.setattr(carriers, "float64_is_exact", unproven)
    with pytest.raises(DeviceError, match="not exact on cpu"):
        carriers.integer_product(weight, 2**15, None, CPU)


def test_the_environment_chooses_a_carrier(
    networks: dict[str, Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    carried, used = carriers._carried, set[str]()

    def recorded(weight: torch.Tensor, carrier: str) -> carriers.Product:
        used.add(carrier)
        return carried(weight, carrier)

    monkeypatch.setattr(carriers, "_carried", recorded)
    for carrier in carriers.ranking(CPU):
        used.clear()
        monkeypatch.setenv("PIXELZIP_CARRIER", carrier)
        backend("torch", networks["tiny"])
        assert used == {carrier}
    monkeypatch.setenv("PIXELZIP_CARRIER", "int4")
    with pytest.raises(PixelzipError, match="int4"):
        backend("torch", networks["tiny"])


# --- Instruction sets of the compiled engine -----------------------------------------------------


@settings(max_examples=60)
@given(st.integers(1, 70), st.integers(1, 200), st.integers(1, 80), st.integers(0, 2**32))
def test_products_are_exact(n: int, inputs: int, outputs: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = extremes(rng, n, inputs, lowest=-128).numpy().view(np.uint8)
    weight = extremes(rng, inputs, outputs, lowest=-128).numpy()
    exact = x.astype(np.int64) @ weight.astype(np.int64)
    engine = native.library()
    assert engine is not None
    for number in range(len(native.instruction_sets())):
        np.testing.assert_array_equal(native.Product(engine, number, weight)(x), exact)


def test_an_instruction_set_that_saturates_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    class Saturating(native.Product):
        """The last one is as old processors would have it: pairs of products meet in 16 bits."""

        def __init__(self, engine: Any, number: int, weight: Any) -> None:
            super().__init__(engine, number, weight)
            self.weight = weight.astype(int)

        def __call__(self, x: NDArray[np.uint8]) -> NDArray[np.int32]:
            if self.engine.engine_name(self.number) != b"portable":
                return super().__call__(x)
            products = x.astype(int)[..., None] * self.weight
            pairs = products.reshape(len(x), -1, 2, self.shape[1]).sum(2)
            return pairs.clip(-(2**15), 2**15 - 1).sum(1).astype(np.int32)

    monkeypatch.setattr(native, "Product", Saturating)
    exact = native.instruction_sets.__wrapped__()
    assert exact == native.instruction_sets()[:-1]


def test_the_environment_chooses_an_instruction_set(
    networks: dict[str, Network], monkeypatch: pytest.MonkeyPatch
) -> None:
    for isa in native.instruction_sets():
        monkeypatch.setenv("PIXELZIP_ISA", isa)
        network = backends.make("n", *networks["tiny"])
        assert isinstance(network, native.Native)
        assert network.isa == isa
    monkeypatch.setenv("PIXELZIP_ISA", "none")
    assert isinstance(backends.make("n", *networks["tiny"]), Walked)
    monkeypatch.setenv("PIXELZIP_ISA", "mmx")
    with pytest.raises(PixelzipError, match="mmx"):
        backends.make("n", *networks["tiny"])


# --- Each kernel against its twin ----------------------------------------------------------------

SEEDS = st.integers(0, 2**32)


def sums(rng: np.random.Generator, n: int, columns: int) -> tuple[Any, Any]:
    """Products (n, columns) and biases, whose sums fill 31 bits, now and then to the brim."""
    total = rng.integers(-(2**31) + 1, 2**31, (n, columns)) >> rng.integers(0, 31, (n, columns))
    total = np.where(rng.random(total.shape) < 0.1, 2**31 - 1, total)
    total = np.where(rng.random(total.shape) < 0.1, -(2**31) + 1, total)
    bias = rng.integers(-(2**30), 2**30, columns) >> rng.integers(0, 31, columns)
    product = np.clip(total - bias, -(2**31) + 1 + abs(bias), 2**31 - 1 - abs(bias))
    return product.astype(np.int32), bias.astype(np.int32)


def scales(rng: np.random.Generator, columns: int) -> Any:
    """From the smallest to the largest; halves and quarters, so that ties come up."""
    wild = np.exp2(rng.uniform(-140, 19.9, columns))
    usual = np.exp2(rng.uniform(-24, 0, columns))
    ties = np.exp2(rng.integers(-3, 3, columns))
    kind = rng.integers(3, size=columns)
    scale = np.choose(kind, [wild, usual, ties]).astype(np.float32)
    return np.maximum(scale, np.float32(2.0**-140))


def twin(function: str, *arguments: Any) -> Any:
    """Call the twin with the same numbers; give back arrays, and the arguments' new contents."""
    given_ = [torch.from_numpy(a.copy()) if isinstance(a, np.ndarray) else a for a in arguments]
    result = getattr(Twins(), function)(*given_)
    if result is None:
        result = given_
    return [
        r.numpy() if isinstance(r, torch.Tensor) else r
        for r in (result if isinstance(result, (tuple, list)) else [result])
    ]


def assert_same(function: str, *arguments: Any) -> list[Any]:
    """Kernel and twin give the same, to the type; what they give."""
    expected = twin(function, *arguments)
    mine = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
    result = getattr(Kernels(), function)(*mine)
    if result is None:
        result = mine
    result = list(result) if isinstance(result, (tuple, list)) else [result]
    for one, other in zip(result, expected, strict=True):
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    return result


@given(SEEDS)
def test_positions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 20)
    height, width = rng.integers(1, 9, (2, n), dtype=np.int32)
    row, column = (rng.integers(0, side).astype(np.int32) for side in (height, width))
    base = rng.integers(1, 1000, n, dtype=np.int32)
    offsets = rng.integers(-6, 7, (5, 2), dtype=np.int32)
    for mask, pitch in ((-1, width), (3, np.full(n, 4, np.int32))):
        (at,) = assert_same("positions", base, row, column, height, width, pitch, mask, offsets)
        assert at.min() >= 0


@given(SEEDS)
def test_gather_scatter_and_contrasts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    store = rng.integers(-128, 128, (30, 4)).astype(np.int8)
    at = rng.integers(0, 30, (7, 5)).astype(np.int32)
    assert_same("gather", store, at)
    where = rng.permutation(30)[:7].astype(np.int32)
    assert_same("scatter", store, where, rng.integers(-128, 128, (7, 4)).astype(np.int8))
    predicted = rng.integers(-(2**26), 2**26, (7, 3)).astype(np.int32)
    assert_same("contrasts", store, at, predicted, 8)
    assert_same("contrasts", store, at, predicted[:, :1].copy(), 8)
    given = rng.integers(-128, 128, (30, 7)).astype(np.int8)
    assert_same("look_contrasts", given, at, where)
    assert_same("side_by_side", store, store)


@given(SEEDS)
def test_first(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, channels = 9, 6
    inputs = rng.integers(-128, 128, (n, 40))
    wide = rng.integers(-32639, 32640, (40, channels + 3))
    wide >>= rng.integers(0, 10, wide.shape)
    high = (wide + 128) >> 8
    product = (inputs @ np.concatenate([high, wide - 256 * high], 1)).astype(np.int32)
    bias, predictor_bias = (
        rng.integers(-(2**30), 2**30, size).astype(np.int32) for size in (channels, 3)
    )
    table = rng.integers(-127, 128, 2 * rng.integers(1, 200) + 1).astype(np.int8)
    scale = scales(rng, channels)
    _, predicted = assert_same("first", product, bias, scale, table, predictor_bias, 5)
    exact = inputs @ wide[:, channels:] + predictor_bias
    np.testing.assert_array_equal(predicted, (exact + 16) >> 5)


@given(SEEDS)
def test_rescale_add_and_activate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    product, bias = sums(rng, 8, 12)
    scale = scales(rng, 12)
    (rescaled,) = assert_same("rescale", product, bias, scale)
    total = (product.astype(np.int64) + bias).astype(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        exact = np.clip(np.rint(total * scale), -LIMIT, LIMIT)
    np.testing.assert_array_equal(rescaled, exact)
    (activated,) = assert_same("activate", product, bias, scale)
    np.testing.assert_array_equal(activated, np.clip(exact, 0, 127))
    stream = rng.integers(-(2**30), 2**30, (8, 12)).astype(np.int32)
    added = assert_same("add", stream, product, bias, scale)[0]
    np.testing.assert_array_equal(added, stream + exact)


@given(SEEDS)
def test_spell(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = 2 * rng.integers(0, 30) + 1
    bins = np.append(0, rng.integers(0, rows // 2 + 1, 50)).astype(np.int16)
    code = rng.integers(-(2**26), 2**26 + 1, (rows, 5)).astype(np.int32)
    residual = rng.integers(-(2**27), 2**27, 16) >> rng.integers(0, 27, 16)
    residual = np.append(residual, [0, 1, -1, 15, -15, 16, -16]).astype(np.int32)
    hidden = rng.integers(-(2**26), 2**26, (len(residual), 5)).astype(np.int32)
    assert_same("spell", residual, bins, code, hidden)


@given(SEEDS)
def test_mixture(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, k, near, c = 7, rng.integers(1, 6), 36, rng.integers(0, 3)
    product, bias = sums(rng, n, 3 * k + near + c)
    scale = scales(rng, 3 * k + near + c)
    contrast = (rng.integers(-(2**27), 2**27, (n, near)) >> rng.integers(0, 27)).astype(np.int32)
    predicted = (rng.integers(-(2**26), 2**26, n) >> rng.integers(0, 26, n)).astype(np.int32)
    residuals = (rng.integers(-(2**27), 2**27, (n, c)) >> rng.integers(0, 27)).astype(np.int32)
    out, centre = assert_same(
        "mixture", product, bias, scale, int(k), 12, contrast, predicted, residuals
    )
    value = Kernels().rescale(product, bias, scale).astype(object)
    total = (value[:, 3 * k : 3 * k + near] * contrast).sum(1)
    total = total + (value[:, 3 * k + near :] * residuals).sum(1)
    exact = [min(max(int(p) + ((int(t) + 2048) >> 12), -LIMIT), LIMIT)
             for p, t in zip(predicted, total, strict=True)]  # fmt: skip
    assert centre.tolist() == exact
    np.testing.assert_array_equal(out[:, 1], value[:, k : 2 * k] + centre[:, None])


def test_kernels_and_twins_are_pairs() -> None:
    own, theirs = ({f for f in vars(kind) if not f.startswith("_")} for kind in (Kernels, Twins))
    assert own == theirs


# --- Machines ----------------------------------------------------------------------------

MACHINES = {
    "nothing compiled": {"PIXELZIP_ISA": "none"},
    "an old one": {
        "PIXELZIP_ISA": "none",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "ATEN_CPU_CAPABILITY": "default",
        "NUMBA_CPU_NAME": "generic",
        "OPENBLAS_CORETYPE": "Nehalem",
        "MKL_CBWR": "COMPATIBLE",
        "OMP_NUM_THREADS": "1",
    },
    "another one": {
        "PIXELZIP_ISA": "portable",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "OMP_NUM_THREADS": "3",
    },
    "AVX-512, and int8 asked for where it saturates": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "ATEN_CPU_CAPABILITY": "avx512",
        "PIXELZIP_CARRIER": "int8",
    },
    "this one, in floats": {"PIXELZIP_CARRIER": "float32", "ONEDNN_DEFAULT_FPMATH_MODE": "ANY"},
    **{isa: {"PIXELZIP_ISA": isa} for isa in native.instruction_sets()},
}


@pytest.fixture(scope="module")
def fixed(
    networks: dict[str, Network], crops: Crops, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """A folder of pictures, networks and files made here; the digests of the files."""
    folder = tmp_path_factory.mktemp("matrix")
    for name in ("tiny", "photo"):
        tiny.write(folder / f"{name}.safetensors", *networks[name])
    for name in ("row-lstm", "pixelcnn++"):
        for bits in (8, 16):
            config, images = architectures.config(name), architectures.random_pixels(name, 2, 9, 9)
            made_of = architectures.make(name).float(), config.field.lag
            parts = freeze.freeze_program(*made_of, images, bits)
            path = folder / f"{name}-{bits}.safetensors"
            freeze.write_program(path, parts, name, config, "a test")
    made = {}
    for name in ("parrot-32x32", "flower-64x48"):
        pixels = crops[name]
        Image.fromarray(pixels).save(folder / f"{name}.png")
        for path in folder.glob("*.safetensors"):
            network = zoo.load(str(path))
            payloads = tiles.encode_tiles(network, matrix.halves(pixels, network))
            for i, payload in enumerate(payloads):
                (folder / f"{name}.{path.stem}.{i}").write_bytes(payload)
            made[f"{name}.{path.stem}"] = hashlib.sha256(b"".join(payloads)).hexdigest()
        for origin, used in (("auto", {"luma", "chroma"}), ("none", {"photo", "clean", "tiny"})):
            data = pixelzip.compress(folder / f"{name}.png", origin=origin, strip=True)
            assert set(pixelzip.info(data).networks) <= used
            (folder / f"{name}.{origin}.pxz").write_bytes(data)
            made[f"{name}.{origin}"] = hashlib.sha256(data).hexdigest()
    return folder, made


@pytest.mark.parametrize("machine", MACHINES)
def test_machines(machine: str, fixed: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    folder, made = fixed
    environment = os.environ | MACHINES[machine]
    if "NUMBA_CPU_NAME" in environment:
        environment["NUMBA_CACHE_DIR"] = str(tmp_path)  # what it compiles is of no use later
    script = Path(__file__).with_name("matrix.py")
    run = subprocess.run(
        [sys.executable, script, folder], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["made"] == made
    assert said["right"]
    assert "float64" in said["carriers"]
    assert ("int8" in said["carriers"]) <= (not said["bad"])


@pytest.mark.parametrize("device", ["mps", "meta", "cuda:99", "nonsense", "cpu:x"])
@pytest.mark.parametrize("network", ["photo", "mnist"])
def test_other_devices_are_refused(device: str, network: str) -> None:
    with pytest.raises(DeviceError, match=r"device|not on|CUDA"):
        zoo.load(network, device=device)
