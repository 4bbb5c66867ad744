"""The papers' networks as programs of integers: faithful, exact, and safe to read from files."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import architectures as tiny
import numpy as np
import pytest
import torch
from architectures import CODING, KINDS, frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file
from stepping import Tile, known, learnt

import pixelzip
from pixelzip.codec import cdf, tiles
from pixelzip.codec.errors import NetworkFileError
from pixelzip.models import zoo
from pixelzip.models.freezing import freeze
from pixelzip.models.freezing.reals import Reals
from pixelzip.models.frozen.shell import LIMIT
from pixelzip.models.gpu import programs as on_gpu
from pixelzip.models.gpu.programs import Plain
from pixelzip.models.networks import architectures, mixture, outputs
from pixelzip.models.networks.layers import scaled
from pixelzip.models.programs import FORMAT, engine, file, heads, integers, native, plan, program
from pixelzip.models.programs.arithmetic import CELL_UNIT
from pixelzip.models.programs.integers import (
    Integers,
    MultiScale,
    Native,
    NativeMultiScale,
)
from pixelzip.models.programs.loops import Compiled
from pixelzip.models.programs.program import WIDE, Part, Program

SHAPES = [(9, 11), (5, 3), (1, 7), (6, 1)]


@cache
def compiled(name: str, bits: int = 16) -> Integers:
    return integers.make(name, frozen(name, bits))


def in_arrays(name: str, bits: int = 16) -> Integers:
    """The network where nothing is compiled to C."""
    parts = frozen(name, bits)
    networks = [engine.Network(*part, Compiled(part[0])) for part in parts]
    kind = MultiScale if len(parts) == 3 else Integers
    return kind(name, file.fingerprint(parts), networks)


def for_an_instruction_set(name: str, bits: int, isa: str) -> Integers:
    parts = frozen(name, bits)
    kind = NativeMultiScale if len(parts) == 3 else Native
    networks = [native.Network(*part, isa) for part in parts]
    return kind(name, file.fingerprint(parts), networks)


def cut(name: str, channels: int | None = None) -> list[Tile]:
    """Tiles of odd shapes, with what the network can code."""
    pixels = tiny.random_pixels(name, len(SHAPES), 12, 12, 2).numpy()
    return [
        np.ascontiguousarray(p[:h, :w, :channels]) for p, (h, w) in zip(pixels, SHAPES, strict=True)
    ]


def label_of(name: str) -> int:
    """The class that `architectures.evaluate` takes: the last one."""
    return max(0, compiled(name).classes - 1)


# --- The program is the network ------------------------------------------------------------------


def reals(found: Part) -> engine.Network:
    """A traced program that is evaluated in floats."""
    traced, tensors = found
    ones = {
        f"{i}.scale": np.ones(node.channels * (4 if node.op == "lstm" else 1))
        for i, node in enumerate(traced.nodes)
        if node.op in ("linear", "lstm", "activate")
    }
    return engine.Network(traced, ones | tensors, Reals(traced))


def last_map(
    network: engine.Network,
    pixels: Tile,
    shape: tuple[int, int],
    given_: Any = None,
    label: int = 0,
) -> Any:
    """(H, W, channels): the last map of a program in floats."""
    evaluation = engine.Parallel(network, shape, label)
    evaluation.tell(0, engine.image(pixels, network.program) / 128)
    for i, node in enumerate(network.program.nodes):
        if node.op == "given":
            evaluation.tell(i, given_)
    return evaluation.run().reshape(*shape, -1)


@pytest.mark.parametrize("name", CODING)
@torch.no_grad()
def test_a_traced_program_is_its_network(name: str) -> None:
    network: Any = tiny.make(name)
    pixels = tiny.random_pixels(name, 1, 9, 11)
    parts = [reals(part) for part in network.trace(tiny.config(name).field.lag)]

    def same(found: Any, expected: torch.Tensor) -> None:
        np.testing.assert_allclose(found, expected[0].permute(1, 2, 0), rtol=0, atol=1e-9)
        assert expected.std() > 0.01

    def on(x: torch.Tensor) -> torch.Tensor:
        return scaled(x).double()

    if len(parts) == 1:
        classes = parts[0].program.classes
        labels = [torch.tensor([classes - 1])] if classes else []
        found = last_map(parts[0], pixels[0].numpy(), (9, 11), label=max(0, classes - 1))
        same(found, network.trunk(on(pixels), *labels))
        return
    small = pixels[:, :: network.factor, :: network.factor].contiguous()
    first = last_map(parts[0], small[0].numpy(), small.shape[1:3])
    same(first, network.unconditional.trunk(on(small)))
    given_ = last_map(parts[1], small[0].numpy(), (9, 11))
    condition = network.upsampling(on(small), 9, 11)
    same(given_, condition)
    rest = last_map(parts[2], pixels[0].numpy(), (9, 11), given_)
    same(rest, network.conditional(on(pixels), condition))


@pytest.mark.parametrize("name", CODING)
def test_programs_as_json(name: str) -> None:
    for found, _ in frozen(name):
        text = json.dumps(found.as_dict())
        assert program.from_dict(json.loads(text)) == found


@pytest.mark.parametrize("name", CODING)
def test_programs_stay_as_they_are(name: str) -> None:
    plain = [found.as_dict() for found, _ in frozen(name)]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    assert hashlib.sha256(text.encode()).hexdigest().startswith(tiny.PROGRAMS[name])


def test_a_density_cannot_code() -> None:
    network: Any = tiny.make("pixelcnn++-continuous")
    with pytest.raises(ValueError, match="continuous"):
        network.trace(None)


# --- Exactness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("name", CODING)
def test_parallel_is_stepwise(name: str, bits: int) -> None:
    """And what one backend encodes, the others decode."""
    network, arrays = compiled(name, bits), in_arrays(name, bits)
    plain = integers.make(name, frozen(name, bits), carrier="float64")
    label = label_of(name)
    for channels in {network.program.colours, 1} if bits == 16 else {network.program.colours}:
        together = cut(name, channels)
        expected = [known(network, tile, label) for tile in together]
        for one, other in zip(expected, learnt(network, together, label), strict=True):
            np.testing.assert_array_equal(one, other)
        for other in (plain, arrays):
            np.testing.assert_array_equal(known(other, together[0], label), expected[0])
        assert len(np.unique(expected[0][:, 0], axis=0)) > 50  # it depends on the pixels
        payloads = tiles.encode_tiles(network, together)
        shapes = [tile.shape[:2] for tile in together]
        assert tiles.encode_tiles(arrays, together) == payloads
        for other in (network, plain, arrays):
            decoded = tiles.decode_tiles(other, payloads, shapes, channels)
            for tile, back in zip(together, decoded, strict=True):
                np.testing.assert_array_equal(tile, back)


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("isa", native.instruction_sets())
def test_instruction_sets(isa: str, bits: int) -> None:
    for name in ("diagonal-bilstm", "small-11x5-autoregressive"):
        network, expected = for_an_instruction_set(name, bits, isa), in_arrays(name, bits)
        for tile in cut(name):
            np.testing.assert_array_equal(known(network, tile), known(expected, tile))


@given(st.integers(0, 2**32), st.sampled_from([8, 16]), st.sampled_from(native.instruction_sets()))
def test_compiled_products(seed: int, bits: int, isa: str) -> None:
    """Of any size and any numbers, the largest and the smallest ones among them."""
    rng, end = np.random.default_rng(seed), 1 << bits - 1
    n, inputs, outputs = (int(rng.integers(1, most)) for most in (9, 1200, 99))
    x, weight = rng.integers(-end, end, (n, inputs)), rng.integers(-end, end, (inputs, outputs))
    for numbers in (x, weight):
        extreme = rng.random(numbers.shape) < rng.random()
        numbers[extreme] = rng.choice([-end, end - 1, -end + 1, 0, 1], extreme.sum())
    engine_ = native.library()
    assert engine_ is not None
    number = native.instruction_sets().index(isa)
    np.testing.assert_array_equal(native.product(engine_, number, bits, x, weight), x @ weight)


@pytest.mark.parametrize("name", KINDS)
def test_files_do_not_depend_on_batches_threads_or_order(name: str) -> None:
    network, together = compiled(name, 8), cut(name)
    shapes = [tile.shape[:2] for tile in together]
    payloads = [tiles.encode_tiles(network, [tile])[0] for tile in together]
    assert tiles.encode_tiles(network, together[::-1], threads=2) == payloads[::-1]
    for threads, order in ((1, slice(None, None, -1)), (3, slice(1, None)), (7, slice(None))):
        decoded = tiles.decode_tiles(
            network, payloads[order], shapes[order], together[0].shape[2], threads=threads
        )
        for tile, back in zip(together[order], decoded, strict=True):
            np.testing.assert_array_equal(tile, back)


@pytest.mark.parametrize("carrier", ["int8", "float32", "float64"])
@pytest.mark.parametrize("name", ["row-lstm", "pixelcnn++-classes"])
def test_carriers(name: str, carrier: str) -> None:
    together = cut(name)[:2]
    for bits in (8, 16):
        expected = [known(compiled(name, bits), tile) for tile in together]
        network = integers.make(name, frozen(name, bits), carrier=carrier)
        for one, other in zip(expected, learnt(network, together), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", CODING)
@torch.no_grad()
def test_what_freezing_costs(name: str) -> None:
    """Of networks that are as tame as trained ones: those above say more than a coder believes."""
    torch.manual_seed(0)
    config: Any = tiny.config(name)
    network = architectures.find((tiny.SETTINGS | tiny.MORE)[name][0]).build(config).eval()
    for parameter in network.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    steps = torch.randint(-9, 10, (3, 12, 12, config.colours)).cumsum(2) + 128
    if config.output == "binary":
        steps = (steps > 128) * 255
    pixels = steps.clamp(0, 255).to(torch.uint8)
    floats = -tiny.evaluate(network, network, pixels).double().numpy() / math.log(2)
    likely = floats.max(3) < 16  # the coder has a floor under what is not
    assert likely.mean() > 0.95
    for bits, near in ((16, 5e-4), (8, 4e-3)):
        parts = freeze.freeze_program(network, config.field.lag, pixels, bits)
        made = integers.make(name, parts)
        labels = [made.classes - 1] * 3 if made.classes else None
        maps = tiles.score_tiles(made, list(pixels.numpy()), labels=labels)
        found = np.stack(maps)[likely].sum(dtype=np.float64)
        assert found == pytest.approx(floats[likely].sum(), rel=near)


@pytest.mark.parametrize("name", CODING)
def test_stepping_computes_each_activation_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visited: dict[tuple[engine.Network, int, int], Counter[tuple[int, int, int]]] = {}
    evaluate = engine.Evaluation.evaluate

    def counting(self: engine.Evaluation, i: int, places: engine.Places, group: int) -> None:
        if isinstance(self, engine.Steps):
            columns = self.network.plan.columns[i]
            all_of_them = group == 0 and len(columns) > 1  # beyond the image: all colours at once
            for k in range(1, len(columns)) if all_of_them else [group]:
                found = columns[k]
                if found is not plan.NOTHING:
                    at = visited.setdefault((self.network, i, k), Counter())
                    at.update(zip(places.tiles, places.rows, places.columns, strict=True))
        evaluate(self, i, places, group)

    monkeypatch.setattr(engine.Evaluation, "evaluate", counting)
    network, together = in_arrays(name), cut(name)
    learnt(network, together, label_of(name))
    stepped: list[Any] = [network.networks[0]]
    if isinstance(network, MultiScale):
        stepped.append(network.networks[2])
    assert {key[0] for key in visited} == set(stepped)
    for part in stepped:
        nodes = part.program.nodes
        small = network.factor if isinstance(network, MultiScale) and part is stepped[0] else 1
        for i, node in enumerate(nodes):
            groups = [k for k, c in enumerate(part.plan.columns[i]) if c is not plan.NOTHING]
            if part.plan.groups > 1:
                groups.remove(0)
            for group in groups if node.op not in ("input", "given") else ():
                at = visited[part, i, group]
                assert set(at.values()) == {1}
                for t, tile in enumerate(together):
                    height, width = (-(-side // small) for side in tile.shape[:2])
                    size = 1 << node.level
                    rows, columns = -(-height // size), -(-width // size)
                    if node.kind == "right":
                        rows -= 1  # nothing reads the last one
                    needed = {(t, r, c) for r in range(rows) for c in range(columns)}
                    if small == 1 and len(stepped) == 2:
                        # It stops at the last pixel that the first network has not coded.
                        needed = {p for p in needed if p[1] < rows - 1}
                    assert needed <= set(at)
                beyond = [p for p in at if p[2] >= together[p[0]].shape[1]]
                assert part.program.beyond or not beyond


# --- Arithmetic: loops, their twins, and what they stand for -------------------------------------

SEEDS = st.integers(0, 2**32)


def some_program(bits: int) -> Program:
    return Program(1, "binary", 0, True, 1, bits=bits)


def assert_same(bits: int, method: str, *arguments: Any) -> Any:
    """Compiled and plain give the same, to the type; what they give."""
    one, other = Compiled(some_program(bits)), Plain(some_program(bits))

    def tensors(x: Any) -> Any:
        if isinstance(x, list):
            return [tensors(each) for each in x]
        return torch.from_numpy(x.copy()) if isinstance(x, np.ndarray) else x

    found = getattr(one, method)(*deepcopy(arguments))
    twin = getattr(other, method)(*tensors(list(arguments)))
    for mine, theirs in zip(
        *((x if isinstance(x, tuple) else (x,)) for x in (found, twin)), strict=True
    ):
        assert mine.dtype == theirs.numpy().dtype
        np.testing.assert_array_equal(mine, theirs.numpy())
    return found


def wild(rng: np.random.Generator, *shape: int, limit: int = LIMIT) -> NDArray[np.int32]:
    """Wide numbers of all sizes, the extremes among them."""
    x = rng.integers(-limit, limit + 1, shape) >> rng.integers(0, limit.bit_length(), shape)
    x = np.where(rng.random(shape) < 0.1, rng.choice([-limit, limit, 0, -1], shape), x)
    return x.astype(np.int32)


def scales(rng: np.random.Generator, columns: int) -> NDArray[np.float64]:
    """From the smallest to the largest; halves and quarters, so that ties come up."""
    found = np.exp2(rng.uniform(-60, 39, columns))
    return np.where(rng.random(columns) < 0.5, np.exp2(rng.integers(-14, 3, columns)), found)


@given(SEEDS, st.sampled_from([8, 16]))
def test_widen_add_and_activate(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    n, columns = 5, 6
    reach = 31 if bits == 8 else 53
    product = rng.integers(-(2**reach) // 2, 2**reach // 2, (n, columns))
    product >>= rng.integers(0, reach, product.shape)
    product = product.astype(np.int32 if bits == 8 else np.float64)
    scale = scales(rng, columns)
    for rows in (1, n):
        bias = (rng.integers(-(2**52), 2**52, (rows, columns)) >> rng.integers(0, 52)).astype(float)
        found = assert_same(bits, "widen", product, bias, scale)
        exact = np.clip(np.rint((product + bias) * scale), -LIMIT, LIMIT)
        np.testing.assert_array_equal(found, exact)
    maps = [wild(rng, n, columns) for _ in range(3)]
    found = assert_same(bits, "add", maps)
    two = np.clip(maps[0] + maps[1], -LIMIT, LIMIT)
    np.testing.assert_array_equal(found, np.clip(two + maps[2], -LIMIT, LIMIT))
    narrow = np.int8 if bits == 8 else np.int16
    unit = some_program(bits).state_unit
    states = [rng.integers(-unit, unit + 1, (n, columns)).astype(narrow) for _ in range(2)]
    found = assert_same(bits, "add", states)
    np.testing.assert_array_equal(found, states[0].astype(int) + states[1])
    largest = some_program(bits).largest
    for kind in program.OPS["activate"]:
        scale = scales(rng, columns * (2 if kind == "concat_elu" else 1))
        found = assert_same(bits, "activate", kind, maps[0], scale)
        assert np.abs(found.astype(int)).max() <= largest
        if kind in ("identity", "relu"):
            x = maps[0] if kind == "identity" else np.maximum(maps[0], 0)
            np.testing.assert_array_equal(found, np.clip(np.rint(x * scale), -largest, largest))


@given(SEEDS, st.sampled_from([8, 16]))
def test_gates_and_cells(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    n, h = 5, 4
    unit = some_program(bits).state_unit

    def sigmoid(wide: Any) -> Any:
        return 1 / (1 + np.exp(-np.clip(wide / WIDE, -40, 40)))

    x = wild(rng, n, 2 * h)
    value, gate = x[:, :h], x[:, h:]
    found = assert_same(bits, "gate", "tanh", x)
    np.testing.assert_allclose(
        found / unit, np.tanh(value / WIDE) * sigmoid(gate), rtol=0, atol=0.5 / unit + 1e-4
    )
    found = assert_same(bits, "gate", "linear", x)
    exact = value * sigmoid(gate)
    assert (np.abs(found - exact) <= 1 + 5e-6 * np.abs(value)).all()
    sums, cell = wild(rng, n, 4 * h), wild(rng, n, h, limit=1 << 30)
    hidden, new = assert_same(bits, "lstm", sums, cell)
    out, forget, enter, content = np.split(sums, 4, 1)
    expected = sigmoid(forget) * (cell / CELL_UNIT) + sigmoid(enter) * np.tanh(content / WIDE)
    expected = np.clip(expected, -(2**14), 2**14)
    error = np.abs(new / CELL_UNIT - expected)
    assert (error <= 1e-4 + 4e-5 * np.abs(cell / CELL_UNIT)).all()
    state = sigmoid(out) * np.tanh(new / CELL_UNIT)
    np.testing.assert_allclose(hidden / unit, state, rtol=0, atol=0.5 / unit + 3e-4)


@given(SEEDS)
def test_places_and_products(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 20))
    height, width = rng.integers(1, 9, (2, n))
    depth, pitch = (np.minimum(side, rng.integers(1, 9, n)) for side in (height, width))
    row, column = (rng.integers(0, side) for side in (height, width))
    base, taps = rng.integers(2, 1000, n), rng.integers(-4, 5, (5, 2))
    for stride in (1, 2, -2):
        for outside in (0, 1, 2):
            sizes = height, width, depth, pitch
            arguments = (base, row, column, *sizes, taps, stride, outside)
            at = assert_same(16, "places", *arguments)
            assert (
                (at < 2) | ((at >= base[:, None]) & (at < (base + depth * pitch)[:, None]))
            ).all()
    at = rng.integers(0, 30, (7, 5))
    for bits, kind in ((8, np.int8), (16, np.int16)):
        end = 2 ** (bits - 1)
        store = rng.integers(-end, end, (30, 4)).astype(kind)
        rows = assert_same(bits, "gather", store, at)
        weight = rng.integers(-end + 1, end, (20, 3)).astype(kind)
        rest = np.zeros(3, np.int64), np.ones(3)
        exact = rows.astype(object) @ weight.astype(object)
        for arithmetic in (Compiled(some_program(bits)), Plain(some_program(bits))):
            matrix = arithmetic.matrix(weight, *rest, end)
            product = matrix.multiply(arithmetic.array(rows))
            assert np.asarray(product).astype(object).tolist() == exact.tolist()


def test_tables() -> None:
    wide = torch.arange(-17 * WIDE, 17 * WIDE + 1)
    exact = (wide.double() / WIDE).clamp(-16, 16)
    error = (on_gpu.sigmoid(wide) / 2.0**22 - torch.sigmoid(exact)).abs().max()
    assert error < 3.5e-6
    error = (on_gpu.elu(wide) - torch.nn.functional.elu(wide.double() / WIDE) * WIDE).abs().max()
    assert error < 0.65  # of a wide unit
    assert (on_gpu.elu(wide).diff() >= 0).all()
    error = (on_gpu.hyperbolic_tangent(wide) / 2.0**15 - torch.tanh(wide / WIDE)).abs().max()
    assert error < 4e-5


# --- Heads ---------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(SEEDS)
def test_log_probability(seed: int) -> None:
    rng = np.random.default_rng(seed)
    value = torch.from_numpy(rng.integers(0, 256, 50))
    value[:2] = torch.tensor([0, 255])
    means = torch.from_numpy(rng.integers(-40 * 256, 300 * 256, (50, 3)))
    means[5:10] = torch.from_numpy(rng.choice([-cdf.MEAN_LIMIT, cdf.MEAN_LIMIT], (5, 3)))
    scale = torch.from_numpy(rng.integers(cdf.LOG_SCALE_MIN, cdf.LOG_SCALE_MAX + 1, (50, 3)))
    found = torch.from_numpy(heads.log_probability(value.numpy(), means.numpy(), scale.numpy()))
    found = found.double() / cdf.LOGIT_UNIT
    expected = mixture.component_log_likelihood(
        value[:, None].double(), means / cdf.MEAN_UNIT, scale.double() / cdf.SCALE_UNIT
    )
    error = (found - expected).abs()
    # Far away the logarithm is linear, with a slope that has 20 bits behind the point.
    assert (error <= 0.004 + 1e-6 * (value[:, None] - means / cdf.MEAN_UNIT).abs()).all()


def head(made: Program, rows: NDArray[np.int32], values: Tile) -> list[torch.Tensor]:
    """The parameters of each sub-pixel, as floats."""
    reader = heads.Head(made)
    reader.begin(rows)
    found = []
    for channel in range(made.colours):
        found.append(torch.from_numpy(reader.parameters(channel)).double())
        reader.learn(values[:, channel])
    return found


def in_floats(made: Program, rows: NDArray[np.int32]) -> torch.Tensor:
    """(1, columns, n, 1): what a float network would have said."""
    floats = torch.from_numpy(rows / heads.units(made) - heads.offsets(made))
    return floats.t()[None, :, :, None]


@pytest.mark.parametrize("coupled", [True, False])
@pytest.mark.parametrize("colours", [3, 1])
def test_softmax_in_integers(colours: int, coupled: bool) -> None:
    rng = np.random.default_rng(0)
    made = Program(colours, "softmax", 0, coupled, None)
    n = 40
    rows = rng.integers(-5 * 256, 5 * 256, (n, made.parameters)).astype(np.int32)
    values = rng.integers(0, 256, (n, colours), dtype=np.uint8)
    values[:2] = [[0], [255]]
    rows[:, 256 * colours :] *= 16
    expected = outputs.Softmax(colours, coupled).log_probabilities(
        in_floats(made, rows), torch.from_numpy(values).view(1, n, 1, colours)
    )
    for channel, logits in enumerate(head(made, rows, values)):
        found = torch.log_softmax(logits / cdf.LOGIT_UNIT, 1)
        torch.testing.assert_close(found, expected[0, :, 0, channel], rtol=0, atol=0.5 / 256 + 1e-3)


def test_binary_in_integers() -> None:
    made = Program(1, "binary", 0, True, None)
    rows = np.arange(-2000, 2000, 17, dtype=np.int32)[:, None]
    values = np.zeros((len(rows), 1), np.uint8)
    (logits,) = head(made, rows, values)
    expected = outputs.Binary(1).log_probabilities(
        in_floats(made, rows), torch.from_numpy(values)[None, :, None]
    )
    found = torch.log_softmax(logits / cdf.LOGIT_UNIT, 1)
    torch.testing.assert_close(found[:, [0, 255]], expected[0, :, 0, 0])
    assert (found[:, 1:255] < -1000).all()


@pytest.mark.parametrize("colours", [3, 1])
def test_mixtures_in_integers(colours: int) -> None:
    """Coupled means, and weights that are the posterior of the indicator."""
    rng = np.random.default_rng(0)
    n, k = 60, 3
    made = Program(colours, "mixture", k, True, None)
    pairs = colours * (colours - 1) // 2
    blocks = [
        rng.integers(-3 * 256, 3 * 256, (n, k)),
        rng.integers(-(2**15), 2**15, (n, colours * k)),
        rng.integers(32, 4 * 32, (n, colours * k)),
        rng.integers(-2 * WIDE, 2 * WIDE, (n, pairs * k)),
    ]
    rows = np.concatenate(blocks, 1).astype(np.int32)
    values = rng.integers(0, 256, (n, colours), dtype=np.uint8)
    values[:2] = [[0], [255]]
    expected = (
        outputs.Mixture(colours, k)
        .double()
        .log_probabilities(in_floats(made, rows), torch.from_numpy(values).view(1, n, 1, colours))
    )
    every = torch.arange(256).double().view(1, 256, 1)
    for channel, found in enumerate(head(made, rows, values)):
        logits, means, log_scales = found.unbind(1)
        component = mixture.component_log_likelihood(
            every, means[:, None] / cdf.MEAN_UNIT, log_scales[:, None] / cdf.SCALE_UNIT
        )
        weights = torch.log_softmax(logits / cdf.LOGIT_UNIT, 1)
        mixed = torch.logsumexp(weights[:, None] + component, 2)
        error = (mixed - expected[0, :, 0, channel]).abs()
        assert error.max() < 0.02
        assert error.mean() < 0.004


# --- Files ---------------------------------------------------------------------------------------

Tensors = dict[str, torch.Tensor]


def save(path: Path, programs: Any, tensors: Tensors) -> None:
    """A file of these programs, with the fingerprint that they would have."""
    try:
        parts = [
            (program.from_dict(p), {n[2:]: t.numpy() for n, t in tensors.items() if n[0] == str(k)})
            for k, p in enumerate(programs)
        ]
        name = file.fingerprint(parts).hex()
    except Exception:  # there is none, whatever the reason is
        name = ""
    metadata = {"format": FORMAT, "programs": json.dumps(programs), "fingerprint": name}
    save_file({key: t.contiguous() for key, t in tensors.items()}, path, metadata)


def sound(name: str, bits: int = 16) -> tuple[list[Any], Tensors]:
    """What `save` takes, of a network as it should be."""
    parts = frozen(name, bits)
    tensors = {
        f"{k}.{n}": torch.from_numpy(t) for k, (_, own) in enumerate(parts) for n, t in own.items()
    }
    return json.loads(json.dumps([p.as_dict() for p, _ in parts])), tensors


def refused(path: Path) -> bool:
    """Whether the file is; fails on any other error, and on one that takes long."""
    start = time.process_time()
    try:
        parts, _ = file.read(path)
    except NetworkFileError as error:
        said = str(error)
    else:
        said = ""
    assert time.process_time() - start < 2
    if said:
        assert str(path) in said
        return True
    network = integers.make("n", parts)
    channels = network.program.colours
    tile = np.random.default_rng(0).integers(0, 256, (5, 4, channels), dtype=np.uint8)
    if network.program.output == "binary":
        tile = np.where(tile < 128, 0, 255).astype(np.uint8)
    expected = known(network, tile)
    assert len(expected) == 20
    found, _ = learnt(network, [tile, tile[:2, :3]])
    np.testing.assert_array_equal(found, expected)
    return False


@pytest.mark.parametrize("name", KINDS)
def test_files_are_read_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    made = freeze.write_program(path, frozen(name, 8), "n", tiny.config(name), "a test")
    parts, _ = file.read(path)
    assert file.fingerprint(parts) == made == compiled(name, 8).fingerprint
    assert made != compiled(name, 16).fingerprint
    for (one, mine), (other, theirs) in zip(parts, frozen(name, 8), strict=True):
        assert one == other
        assert mine.keys() == theirs.keys()
        for key in mine:
            np.testing.assert_array_equal(mine[key], theirs[key])
    network = zoo.load(str(path))
    assert isinstance(network, Integers)
    assert (network.name, network.fingerprint) == ("mine", made)
    save(path, *sound(name))
    assert not refused(path)


@pytest.mark.parametrize("name", KINDS)
def test_hostile_programs(name: str, tmp_path: Path) -> None:
    """Any change of the JSON is refused, or gives another network that can be evaluated."""
    programs, tensors = sound(name, 8)
    path, random = tmp_path / "hostile.safetensors", Random(name)
    values: list[Callable[[Any], Any]] = [
        lambda x: x + 1 if isinstance(x, int) else [], lambda _: -1, lambda _: 0, lambda _: 2,
        lambda _: 7, lambda _: 8193, lambda _: 10**30, lambda _: None, lambda _: "row",
        lambda _: "concat_elu", lambda _: "linear", lambda _: "add", lambda _: "cat",
        lambda _: "slice", lambda _: "given", lambda _: [], lambda _: {}, lambda _: True,
        lambda _: 1.5, lambda _: float("nan"), lambda x: [x], lambda x: x * 2,
        lambda _: [[0, 16]], lambda _: [[1, 0]], lambda _: [0], lambda _: [1, 1],
    ]  # fmt: skip

    def places(x: Any) -> list[tuple[Any, Any]]:
        keys = list(x) if isinstance(x, dict) else range(len(x)) if isinstance(x, list) else []
        return [(x, key) for key in keys] + [p for key in keys for p in places(x[key])]

    count = 0
    for _ in range(60):
        changed = deepcopy(programs)
        for _ in range(random.choice([1, 1, 2])):
            inside, key = random.choice(places(changed))
            try:
                match random.randrange(6):
                    case 0:
                        del inside[key]
                    case 1 if isinstance(inside, dict) and "op" in inside:
                        members = ["kind", "stride", "level", "parts", "start", "blank", "channels"]
                        inside[random.choice(members)] = random.choice(values)(1)
                    case _:
                        inside[key] = random.choice(values)(inside[key])
            except TypeError:
                inside[key] = None
        save(path, changed, tensors)
        count += refused(path) or changed == programs
    assert count > 20


@pytest.mark.parametrize("name", KINDS)
def test_what_is_accepted_can_be_decoded(name: str, tmp_path: Path) -> None:
    """Taps that move, other lags, parts and kinds: refused, or the same in both directions."""
    programs, tensors = sound(name, 8)
    path, random = tmp_path / "other.safetensors", Random(name)
    count = 0
    for _ in range(25):
        changed = deepcopy(programs)
        p = random.choice(changed)
        for _ in range(random.choice([1, 1, 2])):
            match random.randrange(5):
                case 0:
                    p["lag"] = random.choice([None, 1, 2, 3, 5, 20])
                case 1:
                    p["beyond"] = random.choice([0, 1])
                case 2:
                    node = random.choice(p["nodes"][1:])
                    node["parts"] = random.choice([0, 1, 2, 4])
                case _:
                    tapped = [node for node in p["nodes"] if node.get("taps")]
                    taps = random.choice(tapped)["taps"]
                    taps[random.randrange(len(taps))][random.randrange(2)] += random.choice(
                        [-2, -1, 1]
                    )
        save(path, changed, tensors)
        count += refused(path)
    assert 5 < count < 25


def test_weights_that_look_ahead(tmp_path: Path) -> None:
    """In a network that tells colours apart, masks are zeros of the matrices."""
    programs, tensors = sound("pixelcnn", 8)
    path = tmp_path / "ahead.safetensors"
    for i, node in enumerate(programs[0]["nodes"]):
        if node["op"] == "linear":
            weight = tensors[f"0.{i}.weight"]
            masked = (weight == 0).all(1).logical_not()[:, None] & (weight == 0)
            for place in masked.nonzero()[:: max(1, int(masked.sum()) // 5)]:
                other = weight.clone()
                other[tuple(place)] = 1
                save(path, programs, tensors | {f"0.{i}.weight": other})
                refused(path)  # or the same in both directions
    first = tensors["0.1.weight"]
    save(path, programs, tensors | {"0.1.weight": torch.where(first == 0, 1, first)})
    assert refused(path)


def test_a_right_lstm_is_read_in_rows_above_only(tmp_path: Path) -> None:
    programs, tensors = sound("diagonal-bilstm", 8)
    path = tmp_path / "right.safetensors"
    right = next(i for i, n in enumerate(programs[0]["nodes"]) if n.get("kind") == "right")
    for node in programs[0]["nodes"]:
        for k, j in enumerate(node.get("inputs", ())):
            if j == right:
                node["taps"][k] = [0, 0]
    save(path, programs, tensors)
    assert refused(path)


def test_a_long_chain_is_no_recursion() -> None:
    nodes = [program.Node("input", (), 2), program.Node("linear", (0,), 1, taps=((-1, 0),))]
    for i in range(1, 4094):
        nodes.append(program.Node("add", (i,), 1, taps=((0, 0),)))
    chain = Program(1, "binary", 0, False, 2, nodes=tuple(nodes))
    started = time.process_time()
    program.check(chain)
    assert not chain.narrow(4094)
    assert time.process_time() - started < 2


def test_the_memory_of_a_program_is_bounded() -> None:
    nodes = [program.Node("input", (), 2)]
    nodes += [program.Node("linear", (0,), 8192, taps=((-1, 0),))] * 33
    nodes += [program.Node("linear", (0,), 1, taps=((-1, 0),))]
    with pytest.raises(NetworkFileError, match="too large, taken together"):
        program.check(Program(1, "binary", 0, False, 2, nodes=tuple(nodes)))
    program.check(Program(1, "binary", 0, False, 2, nodes=tuple(nodes[:31] + nodes[-1:])))


BAD = {
    "no list": lambda p: 7,
    "a member": lambda p: {"nodes": p},
    "nothing": lambda p: [],
    "two of them": lambda p: p * 2,
    "numbers for nodes": lambda p: [p[0] | {"nodes": [1, 2]}],
    "a program of numbers": lambda p: [3],
    "no nodes": lambda p: [p[0] | {"nodes": []}],
    "nodes without end": lambda p: [p[0] | {"nodes": p[0]["nodes"] * 300}],
    "a cycle": lambda p: change(p, 2, inputs=[2]),
    "a later node": lambda p: change(p, 2, inputs=[5]),
    "an earlier one than the first": lambda p: change(p, 2, inputs=[-1]),
    "huge": lambda p: change(p, 2, channels=8192),
    "negative": lambda p: change(p, 2, channels=-8),
    "an input level": lambda p: change(p, 0, level=1),
    "a level of no number": lambda p: change(p, 0, level=[]),
    "far taps": lambda p: change(p, 1, taps=[[0, 17]] * 9),
    "taps twice": lambda p: change(p, 1, taps=[[0, 0]] * len(p[0]["nodes"][1]["taps"])),
    "deep": lambda p: json.loads("[" * 900 + "]" * 900),
    "a map for itself": lambda p: [p[0] | {"output": "map"}],
    "no bits": lambda p: [p[0] | {"bits": 4}],
    "bits that the tensors have not": lambda p: [p[0] | {"bits": 8}],
    "a lag of none": lambda p: [p[0] | {"lag": 0}],
    "colours": lambda p: [p[0] | {"colours": 2}],
    "classes": lambda p: [p[0] | {"classes": 257}],
    "a mixture": lambda p: [p[0] | {"output": "mixture", "components": 3}],
    "more members": lambda p: [p[0] | {"more": 1}],
}


def change(programs: list[Any], node: int, **members: Any) -> list[Any]:
    changed = deepcopy(programs)
    changed[0]["nodes"][node] |= members
    return changed


@pytest.mark.parametrize("what", BAD)
def test_programs_that_make_no_sense(what: str, tmp_path: Path) -> None:
    programs, tensors = sound("pixelcnn-grey")
    path = tmp_path / "bad.safetensors"
    save(path, BAD[what](deepcopy(programs)), tensors)
    assert refused(path)


def filled(tensor: torch.Tensor, value: float) -> torch.Tensor:
    changed = tensor.clone()
    changed.view(-1)[0] = value
    return changed


TENSORS: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "other type": ("0.1.weight", lambda t: t.int()),
    "brain floats": ("0.1.scale", lambda t: t.bfloat16()),
    "single scales": ("0.1.scale", lambda t: t.float()),
    "an empty bias": ("0.1.bias", lambda t: t[:0]),
    "an infinite bias": ("0.1.bias", lambda t: torch.full(t.shape, math.inf)),
    "a complex bias": ("0.1.bias", lambda t: t.to(torch.complex64)),
    "transposed": ("0.1.weight", lambda t: t.t()),
    "one dimension more": ("0.1.bias", lambda t: t[None]),
    "short": ("0.1.bias", lambda t: t[:-1]),
    "empty": ("0.1.scale", lambda t: t[:0]),
    "nan": ("0.1.scale", lambda t: filled(t, math.nan)),
    "infinite": ("0.1.scale", lambda t: filled(t, math.inf)),
    "zero": ("0.1.scale", lambda t: filled(t, 0)),
    "negative": ("0.1.scale", lambda t: filled(t, -1)),
    "vast": ("0.1.scale", lambda t: filled(t, 2.0**40)),
    "overflow": ("0.1.bias", lambda t: filled(t, 2**53)),
    "overflow below": ("0.1.bias", lambda t: filled(t, -(2**63))),
    "state": ("0.{lstm}.hidden", lambda t: filled(t, 2**14 + 1)),
    "most negative state": ("0.{lstm}.hidden", lambda t: filled(t, -(2**15))),
    "cell": ("0.{lstm}.cell", lambda t: filled(t, 2**30 + 1)),
    "most negative cell": ("0.{lstm}.cell", lambda t: filled(t, -(2**31))),
}


@pytest.mark.parametrize("what", TENSORS)
def test_hostile_tensors(what: str, tmp_path: Path) -> None:
    programs, tensors = sound("row-lstm")
    lstm = next(i for i, node in enumerate(programs[0]["nodes"]) if node["op"] == "lstm")
    name, damage = TENSORS[what]
    name = name.format(lstm=lstm)
    path = tmp_path / "hostile.safetensors"
    save(path, programs, tensors | {name: damage(tensors[name])})
    assert refused(path)
    if damage(tensors[name]).dtype == torch.bfloat16:  # numpy has no such
        return
    changed = {n[2:]: t.numpy() for n, t in tensors.items()}
    parts = [(frozen("row-lstm")[0][0], changed | {name[2:]: damage(tensors[name]).numpy()})]
    with pytest.raises(NetworkFileError):
        integers.make("n", parts)


def test_tensors_too_many_and_too_few(tmp_path: Path) -> None:
    programs, tensors = sound("pixelcnn-grey")
    path = tmp_path / "other.safetensors"
    for more in ("1.1.weight", "0.2.weight", "weight"):
        save(path, programs, tensors | {more: torch.zeros(1)})
        assert refused(path)
    save(path, programs, {n: t for n, t in tensors.items() if n != "0.1.bias"})
    assert refused(path)
    save(path, programs, tensors | {"0.1.bias": tensors["0.1.bias"] + 1})
    assert not refused(path)  # another network, with a fingerprint of its own
    save(path, programs, tensors)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert refused(path)


def test_three_programs_belong_together(tmp_path: Path) -> None:
    programs, tensors = sound("multi-scale", 8)
    path = tmp_path / "three.safetensors"
    for changed in (
        programs[:2], programs[::-1], [programs[2]], [programs[1]],
        [programs[0], programs[1], programs[0]], [programs[2], programs[1], programs[2]],
        [p | {"classes": 2} for p in programs], [programs[0] | {"lag": 3}, *programs[1:]],
    ):  # fmt: skip
        kept = {n: t for n, t in tensors.items() if int(n[0]) < len(changed)}
        save(path, changed, kept)
        assert refused(path)


def test_headers_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "not.safetensors"
    texts = [b"", b"[]", b"7", b'{"__metadata__": null}', b'{"__metadata__": []}', b"[" * 100_000]
    for text in texts:
        path.write_bytes(len(text).to_bytes(8, "little") + text)
        for read in (file.read, lambda path: zoo.load(str(path))):
            with pytest.raises(NetworkFileError, match=r"not\.safetensors"):
                read(path)


# --- From a checkpoint to a file -----------------------------------------------------------------


def decided(name: str) -> list[Part]:
    """The network, but sure of what it says, so that pictures of its own making are small."""
    parts = [(p, dict(tensors)) for p, tensors in frozen(name, 8)]
    for p, tensors in parts:
        if p.output != "map":
            last = f"{len(p.nodes) - 1}.scale"
            surer: Any = 16
            if p.output == "mixture":
                surer = np.where(heads.units(p) == cdf.SCALE_UNIT, 0.01, 1.0)
            tensors[last] = tensors[last] * surer
    return parts


@pytest.mark.parametrize("name", ["gated-pixelcnn", "pixelcnn++-classes", "multi-scale"])
def test_pictures_with_such_a_network(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    parts = decided(name)
    freeze.write_program(path, parts, "n", tiny.config(name), "a test")
    network = zoo.load(str(path))
    (pixels,) = tiles.sample_tiles(network, [(10, 9)], 3, seed=1)
    data = pixelzip.compress(pixels, network=str(path))
    assert len(data) < 0.8 * pixels.size
    assert pixelzip.info(data).networks
    back = pixelzip.decompress_array(data, networks=[str(path)])
    np.testing.assert_array_equal(back, pixels)
