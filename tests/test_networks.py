"""The networks: what they see, what freezing costs, and that no file can do harm."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from pixelzip.codec import cdf, tiles
from pixelzip.codec.errors import NetworkFileError, UnknownNetworkError
from pixelzip.models import zoo
from pixelzip.models.freezing import freeze
from pixelzip.models.frozen import backends, shell
from pixelzip.models.frozen import file as frozen
from pixelzip.models.frozen.architecture import LAG, NEIGHBOURS, WINDOW, PhotoConfig
from pixelzip.models.frozen.network import Frozen
from pixelzip.models.networks import photo
from pixelzip.models.networks.photo import Photo
from pixelzip.models.networks.quantise import LARGEST, Moments, compensated, quantise
from pixelzip.models.programs import file as of_programs
from pixelzip.models.training import train
from pixelzip.models.training.photographs import Album, Crops, Photograph

Tensors = dict[str, torch.Tensor]
Offset = tuple[int, int]

CONFIGS = {"tiny": tiny.CONFIG, "deep": tiny.DEEP}


@pytest.fixture(scope="module")
def calibration(crops: dict[str, NDArray[np.uint8]]) -> torch.Tensor:
    return tiny.sample(crops.values())[:8]


@pytest.fixture(scope="module")
def tensors(calibration: torch.Tensor) -> Tensors:
    """The integers of a tiny network."""
    return tiny.photo().freeze(calibration)


@pytest.fixture
def path(tensors: Tensors, tmp_path: Path) -> Path:
    """Its file."""
    freeze.write(tmp_path / "tiny.safetensors", tensors, tiny.CONFIG, "a test")
    return tmp_path / "tiny.safetensors"


# --- What a pixel sees ---------------------------------------------------------------------------


def drawn(text: str) -> list[Offset]:
    """The offsets in a drawing of the docstring: rows of o, and an x for the pixel itself."""
    rows = [line for line in text.splitlines() if line.startswith("    row ")]
    origin = rows[-1].index("x")
    found = []
    for line in rows:
        row = int(line[8:12])
        found += [(row, (i - origin) // 2) for i, c in enumerate(line) if c == "o" and i > 12]
    return found


def test_the_window_is_as_drawn() -> None:
    assert photo.__doc__ is not None
    first, second = photo.__doc__.split("Each masked 2x3")
    assert sorted(drawn(first)) == sorted(WINDOW)
    assert set(NEIGHBOURS) < set(WINDOW)
    assert len(set(NEIGHBOURS)) == len(NEIGHBOURS)
    assert drawn(second) == TAPS


TAPS: list[Offset] = [(-1, -1), (-1, 0), (-1, 1), (0, -1)]


def field(config: PhotoConfig) -> set[Offset]:
    """All the pixels that one pixel's conditionals may depend on."""
    seen = set(WINDOW)
    for _ in range(config.blocks.count("M")):
        seen |= {(r + dr, c + dc) for r, c in seen | {(0, 0)} for dr, dc in TAPS}
    return seen


@pytest.mark.parametrize("name", CONFIGS)
def test_fields_obey_the_front_condition(name: str) -> None:
    seen = field(CONFIGS[name])
    assert all(column + LAG * row < 0 for row, column in seen)
    rows = 1 - min(row for row, _ in seen)
    columns = 1 + max(c for _, c in seen) - min(c for _, c in seen)
    assert photo.field_of_view(CONFIGS[name]) == f"{rows} x {columns}"
    declared = CONFIGS[name].field
    assert all(declared.sees(row, column) for row, column in seen)
    assert (declared.above, declared.lag) == (rows - 1, LAG)
    assert declared.left == max(-c for _, c in seen)
    assert declared.right == max(c for _, c in seen)


def influence(
    evaluate: Callable[[NDArray[np.uint8]], NDArray[np.float64]], height: int, width: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which sub-pixel changes which sub-pixel's conditional.

    Returns (offset row + height, offset column + width, 3, 3), whether a change of a sub-pixel of
    the pixel at an offset ever changes that of a pixel; and the same, whether it ever could be.
    """
    rng = np.random.default_rng(0)
    base = rng.integers(60, 190, (height, width, 3), dtype=np.uint8)
    expected = evaluate(base[None])[0]
    ever = np.zeros((2 * height, 2 * width, 3, 3), bool)
    possible = np.zeros((2 * height, 2 * width), bool)
    row, column = np.mgrid[:height, :width]
    for c in range(3):
        changed = np.repeat(base[None], height * width, 0)
        changed[np.arange(height * width), row.ravel(), column.ravel(), c] ^= 255
        # Sums of floats may come out a little different where nothing has changed.
        differs = np.abs(evaluate(changed) - expected) > 5e-4  # (changed, row, column, 3, ...)
        differs = differs.reshape(*differs.shape[:4], -1).any(-1)
        for i, (r, k) in enumerate(zip(row.ravel(), column.ravel(), strict=True)):
            for q in range(3):
                ever[r - row + height, k - column + width, c, q] |= differs[i, ..., q]
            possible[r - row + height, k - column + width] = True
    return ever, possible


def assert_causal(
    ever: NDArray[np.bool_], possible: NDArray[np.bool_], config: PhotoConfig, *, own: bool
) -> None:
    """``own``: whether what was evaluated depends on the sub-pixel's own value."""
    height, width = possible.shape[0] // 2, possible.shape[1] // 2
    seen = field(config)
    for row in range(-height + 1, height):
        for column in range(-width + 1, width):
            found = ever[row + height, column + width]  # (changed, changes)
            if (row, column) == (0, 0):
                expected = np.triu(np.ones((3, 3), bool), 0 if own else 1)
                np.testing.assert_array_equal(found, expected)
            elif (row, column) not in seen:
                assert not found.any(), (row, column)
            if (row, column) in WINDOW:
                assert found.all(), (row, column)
    inside = {(r, c) for r, c in seen if -height < r and -width < c < width}
    reached = {(r, c) for r, c in inside if ever[r + height, c + width].any()}
    assert len(reached) > 0.9 * len(inside)  # far ones may be too faint to tell


@pytest.mark.parametrize("name", CONFIGS)
def test_causality_of_the_float_network(name: str) -> None:
    network = tiny.photo(CONFIGS[name], 2)

    @torch.no_grad()
    def evaluate(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        parts = torch.from_numpy(pixels).split(40)
        return torch.cat([network(part) for part in parts]).double().numpy()

    assert_causal(*influence(evaluate, 8, 12), CONFIGS[name], own=True)


@pytest.mark.parametrize("name", CONFIGS)
def test_causality_of_the_frozen_network(name: str, calibration: torch.Tensor) -> None:
    config = CONFIGS[name]
    tensors = freeze.arrays(tiny.photo(config, 2).freeze(calibration))
    network = backends.make("n", tensors, config)

    def evaluate(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        found = [np.concatenate(list(network.parallel(p))) for p in pixels]
        return np.stack(found).reshape(*pixels.shape, -1).astype(np.float64)

    assert_causal(*influence(evaluate, 8, 12), config, own=False)


def test_grey_planes_are_seen_as_grey_photographs(
    tensors: Tensors, crops: dict[str, NDArray[np.uint8]]
) -> None:
    """A grey tile has the conditionals of the red in a tile whose colours are equal."""
    network = backends.make("n", freeze.arrays(tensors), tiny.CONFIG)
    grey = crops["parrot-32x32"][:9, :14, :1]
    alone = np.concatenate(list(network.parallel(grey)))
    colour = np.concatenate(list(network.parallel(np.repeat(grey, 3, 2))))
    assert alone.shape == (9 * 14, 1, 3, 3)
    np.testing.assert_array_equal(alone[:, 0], colour[:, 0])


# --- What freezing costs -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(crops: dict[str, NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> Photo:
    """A tiny network after some dozens of steps."""
    folder = tmp_path_factory.mktemp("nothing")
    config = train.TrainConfig(
        (folder,), (), folder, architecture=tiny.CONFIG, steps=60, batch=4, side=32, warmup=5,
        rate=4e-3, decay=0.35,
    )  # fmt: skip
    torch.manual_seed(0)
    network = Photo(tiny.CONFIG)
    optimizing = train.optimizers(network, config)
    pictures = [Photograph(picture) for name, picture in crops.items() if name != "palms-96x64"]
    drawer = Crops(Album(pictures, np.random.default_rng(0)), config.side)
    for step in range(config.steps):
        train.take_step(network, optimizing, drawer, step, config, 1)
    return network.eval()


@pytest.mark.parametrize("name", ["palms-96x64", "parrot-32x32"])
def test_frozen_files_are_as_small_as_the_float_network_says(
    trained: Photo, calibration: torch.Tensor, crops: dict[str, NDArray[np.uint8]], name: str
) -> None:
    pixels = crops[name]
    with torch.no_grad():
        likelihood = trained(torch.from_numpy(pixels.copy())[None]).double().sum()
    float_bytes = -float(likelihood) / np.log(2) / 8
    integers = freeze.arrays(trained.freeze(calibration))
    network = backends.make("n", integers, trained.config)
    parameters = np.concatenate(list(network.parallel(pixels)))
    bits = sum(
        cdf.ideal_bits(cdf.intervals(parameters[:, c], pixels.reshape(-1, 3)[:, c]))
        for c in range(3)
    )
    (payload,) = tiles.encode_tiles(network, [pixels])
    assert bits / 8 - 2 <= len(payload) <= bits / 8 + 2
    assert bits / 8 == pytest.approx(float_bytes, rel=0.02)
    rounded = deepcopy(trained)
    rounded.round_at(trained.steps(calibration))
    with torch.no_grad():
        likelihood = rounded(torch.from_numpy(pixels.copy())[None]).double().sum()
    assert bits / 8 == pytest.approx(-float(likelihood) / np.log(2) / 8, rel=5e-4)
    assert len(payload) < 0.75 * pixels.size  # and it has learnt something


def test_rounding_is_made_up_for() -> None:
    """Of inputs that resemble each other, one weight makes up for another, and the bias for all."""
    torch.manual_seed(0)
    shared = torch.randn(4000, 12, dtype=torch.float64)
    inputs = torch.relu(shared @ torch.randn(12, 40, dtype=torch.float64) + 0.3)
    weight, bias = torch.randn(8, 40, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    weight[3] = 0  # has nothing to round
    scale = 0.5 + torch.rand(40, dtype=torch.float64)
    moments = Moments()
    moments.see("layer", inputs)

    def harm(integers: torch.Tensor, unit: torch.Tensor, bias: torch.Tensor) -> float:
        sums = (inputs / scale) @ integers.double() * unit + bias
        return float((sums - exact).square().mean())

    exact = inputs @ weight.t() + bias
    *made, changed = compensated(weight, bias, scale, moments.of("layer"))
    assert made[0].abs().amax() <= LARGEST
    assert harm(*made, changed) < 0.3 * harm(*quantise(weight, scale), bias)
    assert harm(*made, changed) < harm(*made, bias)


@pytest.mark.parametrize("bias", [1e12, -1e12, float("inf")])
def test_weights_beyond_integers_do_not_freeze(calibration: torch.Tensor, bias: float) -> None:
    network = tiny.photo()
    with torch.no_grad():
        network.stem_bias[3] = bias
    with pytest.raises(NetworkFileError):
        network.freeze(calibration)


# --- Files ---------------------------------------------------------------------------------------


def test_a_file_comes_back(path: Path, tensors: Tensors) -> None:
    read, config, _ = frozen.read(path)
    assert config == tiny.CONFIG
    assert set(read) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name], tensor.numpy())
        assert read[name].dtype == tensor.numpy().dtype
    fingerprint = frozen.fingerprint(freeze.arrays(tensors), tiny.CONFIG)
    assert zoo.load(str(path)).fingerprint == fingerprint
    assert zoo.load(str(path)).name == "tiny"


def test_a_file_is_hashed_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []

    def counted(*what: Any) -> bytes:
        hashed.append(what)
        return shell.fingerprint_of(*what)

    for module in (frozen, of_programs):
        monkeypatch.setattr(module, "fingerprint_of", counted)
    for some in (path, Path(zoo.__file__).with_name("mnist.safetensors")):
        zoo._load.__wrapped__(some, None, "cpu")
    assert len(hashed) == 2


def test_a_fingerprint_names_every_integer(tensors: Tensors) -> None:
    names = {frozen.fingerprint(freeze.arrays(tensors), tiny.CONFIG)}
    names.add(frozen.fingerprint(freeze.arrays(tensors), replace(tiny.CONFIG, blocks="NM")))
    for name, tensor in tensors.items():
        changed = tensor.clone()
        changed.view(-1)[-1] += 1
        for other in (changed, tensor[None]):
            arrays = freeze.arrays(tensors | {name: other})
            names.add(frozen.fingerprint(arrays, tiny.CONFIG))
    assert len(names) == 2 + 2 * len(tensors)


def at(tensor: torch.Tensor, value: float, index: int = 0) -> torch.Tensor:
    changed = tensor.clone()
    changed.view(-1)[index] = value
    return changed


HOSTILE: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor], str]] = {
    "transposed": ("stem.weight", lambda t: t[:, :-1].contiguous(), "stem.weight"),
    "other type": ("stem.weight", lambda t: t.to(torch.int16), "stem.weight"),
    "floats for integers": ("stem.bias", lambda t: t.float(), "stem.bias"),
    "double scales": ("stem.scale", lambda t: t.double(), "stem.scale"),
    "one dimension more": ("trunk.bias", lambda t: t[None], "trunk.bias"),
    "empty": ("code.bins", lambda t: t[:0], "code.bins"),
    "no bias": ("stem.bias", lambda t: t[:0], "stem.bias has the wrong shape"),
    "a short bias": ("first.bias", lambda t: t[:-1], "first.bias has the wrong shape"),
    "a flat bias": ("heads.0.bias", lambda t: t[None], "heads.0.bias has the wrong shape"),
    "a long bias": ("first.predictor_bias", lambda t: t.repeat(9), "first.predictor_bias has"),
    "nan": ("stem.scale", lambda t: at(t, float("nan")), "scale"),
    "infinite": ("heads.1.scale", lambda t: at(t, float("inf")), "scale"),
    "negative": ("blocks.0.input_scale", lambda t: at(t, -1e-3), "scale"),
    "zero": ("trunk.input_scale", lambda t: at(t, 0), "scale"),
    "vast": ("blocks.1.a.scale", lambda t: at(t, 2.0**20), "scale"),
    "overflow": ("blocks.0.a.bias", lambda t: at(t, 2**31 - 1), "overflow"),
    "overflow below": ("heads.2.bias", lambda t: at(t, -(2**31)), "overflow"),
    "overflow of the first layer": ("first.bias", lambda t: at(t, 2**31 - 999), "overflow"),
    "overflow of the predictor": ("first.predictor_bias", lambda t: at(t, 2**31 - 9), "overflow"),
    "two bytes do not hold it": ("first.weight", lambda t: at(t, 32640), "first.weight"),
    "nor that": ("first.weight", lambda t: at(t, -32768), "first.weight"),
    "even table": ("first.table", lambda t: t[:-1].clone(), "first.table"),
    "table of -128": ("first.table", lambda t: at(t, -128), "first.table"),
    "bins past the rows": ("code.bins", lambda t: at(t, 32767, -1), "code.bins"),
    "negative bins": ("code.bins", lambda t: at(t, -1, 5), "code.bins"),
    "a sign for zero": ("code.bins", lambda t: at(t, 1), "code.bins"),
    "even rows": ("code.rows", lambda t: t[:, 1:].contiguous(), "code"),
    "few rows": ("code.rows", lambda t: t[:, 5:-4].contiguous(), "code.bins"),
    "large rows": ("code.rows", lambda t: at(t, 2**26 + 1), "code.rows"),
    "the most negative row": ("code.rows", lambda t: at(t, -(2**31)), "code.rows"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_integers(what: str, tensors: Tensors, tmp_path: Path) -> None:
    """Their fingerprint is right; a loader has to look at the integers themselves."""
    name, change, said = HOSTILE[what]
    hostile = tensors | {name: change(tensors[name])}
    path = tmp_path / "hostile.safetensors"
    freeze.write(path, hostile, tiny.CONFIG, "a test")
    with pytest.raises(NetworkFileError, match=said) as error:
        frozen.read(path)
    assert str(path) in str(error.value)
    with pytest.raises(NetworkFileError):
        backends.make("n", freeze.arrays(hostile), tiny.CONFIG)


def test_missing_and_superfluous_tensors(tensors: Tensors, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    for other in (
        {name: tensor for name, tensor in tensors.items() if name != "stem.bias"},
        tensors | {"more": torch.zeros(1)},
    ):
        freeze.write(path, other, tiny.CONFIG, "a test")
        with pytest.raises(NetworkFileError):
            frozen.read(path)


GOOD = asdict(tiny.CONFIG)
ARCHITECTURES = [
    "",
    "null",
    "[]",
    "7",
    "{",
    "[" * 100_000,
    '{"channels":' * 50_000,
    json.dumps({}),
    json.dumps(GOOD | {"more": 1}),
    json.dumps({k: v for k, v in GOOD.items() if k != "head"}),
    json.dumps(GOOD | {"channels": 17}),
    json.dumps(GOOD | {"channels": 0}),
    json.dumps(GOOD | {"channels": -16}),
    json.dumps(GOOD | {"channels": 16.0}),
    json.dumps(GOOD | {"channels": "16"}),
    json.dumps(GOOD | {"channels": 10**30}),
    json.dumps(GOOD | {"components": True}),
    json.dumps(GOOD | {"components": float("nan")}),
    json.dumps(GOOD | {"blocks": "MX"}),
    json.dumps(GOOD | {"blocks": "M" * 1000}),
    json.dumps(GOOD | {"blocks": ["M", "N"]}),
    json.dumps(GOOD | {"blocks": None}),
]


@pytest.mark.parametrize("number", range(len(ARCHITECTURES)))
def test_hostile_architectures(number: int, tensors: Tensors, tmp_path: Path) -> None:
    path = tmp_path / "hostile.safetensors"
    name = frozen.fingerprint(freeze.arrays(tensors), tiny.CONFIG).hex()
    metadata = {
        "format": frozen.FORMAT, "architecture": ARCHITECTURES[number], "fingerprint": name
    }  # fmt: skip
    save_file(tensors, path, metadata)
    with pytest.raises(NetworkFileError, match=r"hostile\.safetensors"):
        frozen.read(path)


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "00" * 32},
        {"fingerprint": ""},
        {"format": "pixelzip frozen network 2"},
        {"format": None},
        {"fingerprint": None},
        {"architecture": None},
    ],
)
def test_metadata_that_does_not_fit(
    change: dict[str, str | None], tensors: Tensors, tmp_path: Path
) -> None:
    metadata: dict[str, str | None] = {
        "format": frozen.FORMAT,
        "architecture": json.dumps(GOOD, sort_keys=True),
        "fingerprint": frozen.fingerprint(freeze.arrays(tensors), tiny.CONFIG).hex(),
    }
    path = tmp_path / "other.safetensors"
    save_file(tensors, path, metadata)
    frozen.read(path)
    metadata |= change
    save_file(tensors, path, {k: v for k, v in metadata.items() if v is not None})
    with pytest.raises(NetworkFileError):
        frozen.read(path)


class Bomb:
    """Unpickling it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.trace,)


def test_loading_never_unpickles(tmp_path: Path) -> None:
    trace, path = tmp_path / "trace", tmp_path / "bomb.safetensors"
    pickle.loads(pickle.dumps(Bomb(trace)))
    assert trace.exists()  # the bomb works
    trace.unlink()
    path.write_bytes(pickle.dumps(Bomb(trace)))
    for load in (frozen.read, freeze.load_checkpoint, lambda p: zoo.load(str(p))):
        with pytest.raises(NetworkFileError):
            load(path)
    torch.save({"network": Bomb(trace)}, path)
    for load in (frozen.read, freeze.load_checkpoint, lambda p: zoo.load(str(p))):
        with pytest.raises(NetworkFileError):
            load(path)
    assert not trace.exists()


def header(length: int, text: bytes, rest: bytes = b"") -> bytes:
    return length.to_bytes(8, "little") + text + rest


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"PK\x03\x04 not at all",
        header(2**63, b"{}"),
        header(10**8 + 1, b"{}"),
        header(2, b"{}"),
        header(0, b""),
        header(100_000, b"[" * 100_000),
        header(70, b'{"a":{"dtype":"I8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}'),
        header(73, b'{"a":{"dtype":"I8","shape":[9],"data_offsets":[0,9000000000000000000]}}  '),
    ],
    ids=range(10),
)
def test_files_of_something_else(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "not.safetensors"
    path.write_bytes(data)
    with pytest.raises(NetworkFileError, match=r"not\.safetensors"):
        frozen.read(path)


def test_files_that_cannot_be_read(path: Path, tmp_path: Path) -> None:
    with pytest.raises(NetworkFileError):
        frozen.read(tmp_path / "absent.safetensors")
    with pytest.raises(NetworkFileError):
        frozen.read(tmp_path)
    with path.open("r+b") as file:
        file.truncate(1 << 29)  # a hole: it takes no room
    with pytest.raises(NetworkFileError, match="too large"):
        frozen.read(path)


def test_fuzz(path: Path) -> None:
    """Hundreds of mutations: an error, or a file whose integers are untouched."""
    data, random = path.read_bytes(), Random(0)
    sound = zoo.load(str(path)).fingerprint
    start = 8 + int.from_bytes(data[:8], "little")
    refused = 0
    for _ in range(500):
        damaged = bytearray(data)
        # The header takes most of the blows: the rest is covered by the fingerprint.
        reach = start if random.random() < 0.8 else len(data)
        where = random.randrange(reach)
        match random.randrange(5):
            case 0:
                damaged[where] ^= 1 << random.randrange(8)
            case 1:
                damaged[where : where + 8] = random.randbytes(8)
            case 2:
                del damaged[where : where + random.randrange(1, 20)]
            case 3:
                damaged[where:where] = data[where : where + random.randrange(1, 50)]
            case 4:
                damaged = damaged[:where]
        path.write_bytes(damaged)
        try:
            tensors, config, _ = frozen.read(path)
        except NetworkFileError:
            refused += 1
        else:
            assert frozen.fingerprint(tensors, config) == sound
    assert refused > 400  # some metadata is for people only


# --- The zoo -------------------------------------------------------------------------------------


def test_the_zoo_describes_what_it_holds() -> None:
    assert "photo" in zoo.names()
    for entry in zoo.describe():
        network = zoo.load(entry["name"])
        assert network.name == entry["name"]
        assert network.fingerprint.hex() == entry["fingerprint"]
        assert entry["trained"]
        if not isinstance(network, Frozen):
            assert entry["lag"] == (network.program.lag or 0)
            continue
        assert entry["lag"] == LAG
        assert entry["field"] == photo.field_of_view(network.config)
        layout = frozen.layout(network.config)
        fixed = sum(int(np.prod(shape)) for shape, _ in layout.values() if -1 not in shape)
        assert fixed < entry["integers"] < entry["bytes"]
        assert 0 < zoo.parameters(entry) < entry["integers"]


def test_the_zoo_is_read_again_when_it_changes(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, folder = zoo.load(str(path)).fingerprint, tmp_path / "zoo"
    folder.mkdir()
    monkeypatch.setattr(zoo, "_FOLDER", folder)
    with pytest.raises(UnknownNetworkError):
        zoo.find(mine)
    (folder / "mine.safetensors").write_bytes(path.read_bytes())
    os.utime(folder, ns=(1, 1))  # clocks are coarse
    assert zoo.find(mine).fingerprint == mine
    assert [entry["name"] for entry in zoo.describe()] == ["mine"]


def test_networks_are_found_by_their_fingerprint(path: Path) -> None:
    shipped = zoo.load("photo")
    for length in (2, 4, 32):
        assert zoo.find(shipped.fingerprint[:length]) is shipped
    mine = zoo.load(str(path)).fingerprint
    assert zoo.find(mine[:4], [str(path)]).fingerprint == mine
    with pytest.raises(UnknownNetworkError, match=mine[:4].hex()):
        zoo.find(mine[:4])
    with pytest.raises(UnknownNetworkError, match="photo"):
        zoo.load("fotos")
