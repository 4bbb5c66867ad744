"""The compiled engines on processors that are not here, in an emulator: ARM, and an old x86-64.

They are built as an install would build them, with small programs around them (`foreign/replay.c`,
`foreign/replay_programs.c`), and have to give the very sums, intervals and pixels that come out
here. Wants qemu's user emulation and,
for ARM, a cross compiler: on Debian, qemu-user-static and gcc-aarch64-linux-gnu.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from architectures import frozen
from conftest import ROOT
from numpy.typing import NDArray

from pixelzip.codec import coder, tables, tiles
from pixelzip.models import zoo
from pixelzip.models.frozen import file, native
from pixelzip.models.frozen.architecture import GIVEN
from pixelzip.models.programs import heads, integers
from pixelzip.models.programs import tables as functions
from pixelzip.models.programs.engine import image

MACHINES = {
    "ARM": ("aarch64-linux-gnu-gcc", "qemu-aarch64-static", "max", ["dotprod", "neon", "portable"]),
    "ARM without dot products": (
        "aarch64-linux-gnu-gcc", "qemu-aarch64-static", "cortex-a57", ["neon", "portable"],
    ),
    "plain x86-64": ("gcc", "qemu-x86_64-static", "qemu64", ["sse2", "portable"]),
}  # fmt: skip

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Machine:
    """Another processor; to `native._Packer` it looks like the library."""

    command: list[str]
    sets: list[tuple[str, int, int, int]]
    folder: Path

    def engine_group(self, number: int) -> int:
        return self.sets[number][1]

    def engine_depth(self, number: int) -> int:
        return self.sets[number][2]

    def engine_offset(self, number: int) -> int:
        return self.sets[number][3]

    def answer(self, request: Iterable[bytes]) -> bytes:
        asked, answered = self.folder / "request", self.folder / "answer"
        asked.write_bytes(b"".join(request))
        subprocess.run([*self.command, asked, answered], check=True)
        return answered.read_bytes()


def built(name: str, source: str, folder: Path) -> tuple[list[str], str]:
    """The command that is ``source`` on a machine of that name, and what it says of its sets."""
    compiler, emulator, processor, _ = MACHINES[name]
    for program in (compiler, emulator):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (module,) = [
        one for one in project["tool"]["setuptools"]["ext-modules"] if "_engine" in one["name"]
    ]
    folders = [*module["include-dirs"], str(Path(module["sources"][0]).parent)]
    subprocess.run(
        [compiler, "-static", *module["extra-compile-args"], *(f"-I{path}" for path in folders),
         Path(__file__).with_name("foreign") / source, "-lm", "-o", folder / "replay"],
        cwd=ROOT, check=True,
    )  # fmt: skip
    command = [emulator, "-cpu", processor, str(folder / "replay")]
    return command, subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module", params=MACHINES)
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    folder = tmp_path_factory.mktemp("foreign")
    command, said = built(request.param, "replay.c", folder)
    lines = [line.split() for line in said.splitlines()]
    found = Machine(command, [(name, *map(int, numbers)) for name, *numbers in lines], folder)
    assert [name for name, *_ in found.sets] == MACHINES[request.param][-1]
    return found


def number(value: int) -> bytes:
    return value.to_bytes(8, "little")


def array(values: NDArray[Any]) -> bytes:
    return number(values.nbytes) + values.tobytes()


def begin(isa: int, packer: native._Packer, network: native._Network) -> list[bytes]:
    """Tables, and a network with all that it points to."""
    parts = [array(table) for table in (tables.EXP, tables.INVERSE_SCALE, tables.SIGMOID)]
    parts += [number(isa), number(len(bytes(network))), bytes(network), number(len(packer.kept))]
    for kept in packer.kept:
        parts += [number(kept.ctypes.data), array(kept)]
    return parts


def test_products_that_saturate(machine: Machine) -> None:
    rng = np.random.default_rng(0)
    x = rng.choice(np.array([0, 127, 128, 255], np.uint8), (45, 160))
    weight = rng.choice(np.array([-128, -127, 1, 127], np.int8), (160, 70))
    x[0], weight[:, 0], weight[:, 1] = 255, 127, -128
    exact = x.astype(np.int64) @ weight.astype(np.int64)
    for isa in range(len(machine.sets)):
        packer = native._Packer(machine, isa)
        network = native._Network(stem=packer.layer(weight, np.zeros(70, np.int32), None))
        pitch, outputs = network.stem.pitch, network.stem.outputs
        rows = np.zeros((len(x) + 32, pitch), np.uint8)
        rows[: len(x), : x.shape[1]] = x
        request = [number(len(x)), rows.tobytes(), number(0)]
        answer = machine.answer([*begin(isa, packer, network), *request])
        sums = np.frombuffer(answer, np.int32).reshape(len(x), outputs)
        np.testing.assert_array_equal(sums[:, :70], exact)


NETWORKS = {
    "photo": {},
    "wild": {"near": 24},
    "wild, odd sizes": {"channels": 65, "head": 33, "components": 11, "blocks": "MMN"},
    "wild chroma": {"colours": 1, "near": 24, "given": GIVEN},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_tiles(machine: Machine, name: str, crops: dict[str, Bytes]) -> None:
    """Each instruction set scores and decodes as this machine does."""
    if name.startswith("wild"):
        tensors, config = tiny.wild(1, **NETWORKS[name])
        shapes = [(1, 1), (7, 2), (5, 40), (13, 17)]
    else:
        tensors, config, _ = file.read(Path(zoo.__file__).with_name(f"{name}.safetensors"))
        shapes = [(16, 20)]
    here = native.Native("n", tensors, config, native.instruction_sets()[0])
    rng = np.random.default_rng(0)
    expected, tiles = [], [number(len(shapes))]
    for height, width in shapes:
        pixels = np.ascontiguousarray(crops["parrot-32x32"][:height, :width, : config.colours])
        if pixels.shape[:2] != (height, width):
            pixels = rng.integers(0, 256, (height, width, config.colours), dtype=np.uint8)
        samples = rng.integers(0, 256, (height, width, config.given), dtype=np.uint8)
        intervals = here.score_tile(pixels, 0, samples if config.given else None)
        payload, state = coder.encode(intervals), np.empty(3, np.uint64)
        sizes = (height, width, config.colours, config.given)
        tiles += [*map(number, sizes), pixels.tobytes(), samples.tobytes(), number(len(payload))]
        tiles.append(payload)
        expected.append((intervals.tobytes(), pixels.tobytes(), payload, state.nbytes))
    for isa in range(len(machine.sets)):
        packer = native._Packer(machine, isa)
        network = packer.network(tensors, config)
        nothing = [number(0), bytes(32 * network.stem.pitch)]
        answer = machine.answer([*begin(isa, packer, network), *nothing, *tiles])
        for intervals, pixels, payload, size in expected:
            assert answer.startswith(intervals)
            answer = answer[len(intervals) :]
            assert answer.startswith(pixels)
            answer = answer[len(pixels) :]
            coder.check_finished(payload, np.frombuffer(answer[:size], np.uint64))
            answer = answer[size:]
        assert not answer


# --- The papers' networks ------------------------------------------------------------------------

PROGRAMS = ["diagonal-bilstm", "row-lstm", "pixelcnn++-classes", "small-11x5-autoregressive"]


@pytest.fixture(scope="module", params=["ARM", "plain x86-64"])
def interpreter(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Machine:
    folder = tmp_path_factory.mktemp("foreign")
    command, said = built(request.param, "replay_programs.c", folder)
    assert said.split() == {"ARM": ["neon", "portable"]}.get(request.param, ["sse2", "portable"])
    return Machine(command, [(name, 0, 0, 0) for name in said.split()], folder)


def pieces(kept: list[Any]) -> list[bytes]:
    """All that is laid out, with its addresses."""
    found = [number(len(kept))]
    for piece in kept:
        structures = isinstance(piece, ctypes.Array)
        address = ctypes.addressof(piece) if structures else piece.ctypes.data
        content = bytes(piece) if structures else piece.tobytes()
        found += [number(address), number(structures), number(len(content)), content]
    return found


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(interpreter: Machine, name: str, bits: int) -> None:
    """Products that saturate, and tiles: each instruction set gives what this machine does."""
    rng, end = np.random.default_rng(0), 1 << bits - 1
    x = rng.choice([-end, end - 1, 0, 1], (5, 611))
    weight = rng.choice([-end, end - 1, -end + 1, 1], (611, 83))
    x[0], x[1], weight[:, 0], weight[:, 1] = end - 1, -end, end - 1, -end
    made = integers.make(name, frozen(name, bits))
    assert isinstance(made, integers.Native)
    network, colours = made.networks[0], made.program.colours
    layout = network._layout
    matrix = layout.matrix(weight, np.zeros((1, 83)), np.ones(83))
    rows = np.zeros((len(x), 2 * matrix.pairs), np.int16)
    rows[:, : x.shape[1]] = x
    log_sigmoid, _, width, _ = heads.log_tables()
    decay = functions.EXP.astype(np.int64)
    every = tables.EXP, tables.INVERSE_SCALE, tables.SIGMOID, decay, log_sigmoid, width
    asked = [number(bits), number(len(x)), rows.tobytes(), bytes(network.structure), number(2)]
    expected = []
    for shape in ((9, 11), (1, 7)):
        pixels = rng.integers(0, 256, (*shape, colours), np.uint8)
        label = 1 if made.classes else 0
        found = np.concatenate(list(made.parallel(pixels, label)))
        (payload,) = tiles.encode_tiles(made, [pixels], label=label if made.classes else None)
        payload = payload[made.classes > 0 :]
        asked += [*map(number, (*shape, colours, label))]
        asked += [image(pixels, made.program).astype(np.int16).tobytes(), pixels.tobytes()]
        asked += [number(len(payload)), payload, coder.start(payload).tobytes()]
        expected.append((found.tobytes() + pixels.tobytes(), payload))
    for isa in range(len(interpreter.sets)):
        request = [*map(array, every), number(isa), *pieces(layout.kept), bytes(matrix), *asked]
        answer = interpreter.answer(request)
        size = len(x) * matrix.outputs * 8
        sums = np.frombuffer(answer[:size]).reshape(len(x), -1)
        np.testing.assert_array_equal(sums[:, :83], x @ weight)
        answer = answer[size:]
        for start, payload in expected:
            assert answer.startswith(start)
            state = np.frombuffer(answer[len(start) : len(start) + 24], np.uint64)
            coder.check_finished(payload, state)
            answer = answer[len(start) + 24 :]
        assert not answer
