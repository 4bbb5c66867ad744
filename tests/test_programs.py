"""The papers' networks as programs of integers: faithful, exact, and safe to read from files."""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import architectures as tiny
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import save_file
from stepping import Tile, known, learnt

import pixelzip
from pixelzip.codec import cdf, tiles
from pixelzip.codec.errors import NetworkFileError
from pixelzip.models import engine, freeze, heads, integers, mixture, outputs, program, tables
from pixelzip.models import tracing, zoo
from pixelzip.models.arithmetic import CELL_UNIT, Compiled, Plain, Reals
from pixelzip.models.integers import Integers, MultiScale, Part
from pixelzip.models.kernels import LIMIT
from pixelzip.models.layers import scaled
from pixelzip.models.program import WIDE, Program

CODING = [name for name in tiny.SETTINGS | tiny.MORE if "continuous" not in name]
KINDS = [
    "pixelcnn", "row-lstm", "diagonal-bilstm", "multi-scale", "gated-pixelcnn", "pixelcnn++",
    "pixelcnn++-classes", "small-11x5-autoregressive",
]  # fmt: skip
"""Networks that have every kind of node between them."""
SHAPES = [(9, 11), (5, 3), (1, 7), (6, 1)]


@cache
def frozen(name: str, bits: int = 16) -> list[Part]:
    """The programs and integers of a tiny network."""
    network = tiny.make(name).float()
    lag = tiny.config(name).field.lag
    return freeze.freeze_program(network, lag, tiny.random_pixels(name, 3, 12, 12, 1), bits)


@cache
def compiled(name: str, bits: int = 16) -> Integers:
    return integers.make(name, frozen(name, bits))


def cut(name: str, channels: int | None = None) -> list[Tile]:
    """Tiles of odd shapes, with what the network can code."""
    pixels = tiny.random_pixels(name, len(SHAPES), 12, 12, 2).numpy()
    return [
        np.ascontiguousarray(p[:h, :w, :channels])
        for p, (h, w) in zip(pixels, SHAPES, strict=True)
    ]


def label_of(name: str) -> int:
    """The class that `architectures.evaluate` takes: the last one."""
    return max(0, compiled(name).classes - 1)


# --- The program is the network ------------------------------------------------------------------


def reals(found: tuple[Program, tracing.Tensors]) -> engine.Network:
    """A traced program that is evaluated in floats."""
    traced, tensors = found
    ones = {
        f"{i}.scale": torch.ones(node.channels * (4 if node.op == "lstm" else 1))
        for i, node in enumerate(traced.nodes)
        if node.op in ("linear", "lstm", "activate")
    }
    return engine.Network(traced, ones | tensors, Reals(traced))


def last_map(
    network: engine.Network, pixels: Tile, shape: tuple[int, int], given_: Any = None, label: int = 0
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
    parts = [reals(part) for part in tracing.trace(network, tiny.config(name).field.lag)]

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


def test_a_density_cannot_code() -> None:
    with pytest.raises(ValueError, match="continuous"):
        tracing.trace(tiny.make("pixelcnn++-continuous"), None)


# --- Exactness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("name", CODING)
def test_parallel_is_stepwise(name: str, bits: int) -> None:
    """And what one arithmetic encodes, the other decodes."""
    network = compiled(name, bits)
    plain = integers.make(name, frozen(name, bits), plain=True, carrier="float64")
    label = label_of(name)
    for channels in sorted({network.program.colours, 1}):
        together = cut(name, channels)
        expected = [known(network, tile, label) for tile in together]
        for one, other in zip(expected, learnt(network, together, label), strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(known(plain, together[0], label), expected[0])
        assert len(np.unique(expected[0][:, 0], axis=0)) > 50  # it depends on the pixels
        if channels < network.program.colours and bits == 8:
            continue
        payloads = tiles.encode_tiles(network, together)
        shapes = [tile.shape[:2] for tile in together]
        decoded = tiles.decode_tiles(plain, payloads, shapes, channels)
        for tile, back in zip(together, decoded, strict=True):
            np.testing.assert_array_equal(tile, back)


@pytest.mark.parametrize("name", KINDS)
def test_files_do_not_depend_on_batches_threads_or_order(name: str) -> None:
    network, together = compiled(name, 8), cut(name)
    shapes = [tile.shape[:2] for tile in together]
    payloads = [tiles.encode_tiles(network, [tile])[0] for tile in together]
    assert tiles.encode_tiles(network, together[::-1], threads=2) == payloads[::-1]
    for threads, order in ((1, slice(None, None, -1)), (3, slice(1, None))):
        decoded = tiles.decode_tiles(
            network, payloads[order], shapes[order], together[0].shape[2], threads=threads
        )
        for tile, back in zip(together[order], decoded, strict=True):
            np.testing.assert_array_equal(tile, back)


@pytest.mark.parametrize("carrier", ["int8", "float32", "float64"])
@pytest.mark.parametrize("name", ["row-lstm", "pixelcnn++-classes"])
def test_carriers(name: str, carrier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    together = cut(name)[:2]
    monkeypatch.setenv("PIXELZIP_CARRIER", carrier)
    for bits in (8, 16):
        expected = [known(compiled(name, bits), tile) for tile in together]
        network = integers.make(name, frozen(name, bits))
        for one, other in zip(expected, learnt(network, together), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("name", CODING)
@torch.no_grad()
def test_what_freezing_costs(name: str, bits: int) -> None:
    network, pixels = tiny.make(name), tiny.random_pixels(name, 2, 9, 11, 3)
    floats = -float(tiny.evaluate(network, network, pixels).sum()) / math.log(2)
    labels = [label_of(name)] * 2 if compiled(name).classes else None
    maps = tiles.score_tiles(compiled(name, bits), list(pixels.numpy()), labels=labels)
    found = sum(float(bits.sum(dtype=np.float64)) for bits in maps)
    assert found == pytest.approx(floats, rel=0.001 if bits == 16 else 0.02)


@pytest.mark.parametrize("name", CODING)
def test_stepping_computes_each_activation_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visited: dict[tuple[engine.Network, int, int], Counter[tuple[int, int, int]]] = {}
    evaluate = engine.Evaluation.evaluate

    def counting(self: engine.Evaluation, i: int, places: engine.Places, group: int) -> None:
        if isinstance(self, engine.Steps):
            columns = self.network.columns[i]
            all_of_them = group == 0 and len(columns) > 1  # beyond the image: all colours at once
            for k in range(1, len(columns)) if all_of_them else [group]:
                found = columns[k]
                if found is None or len(found):
                    at = visited.setdefault((self.network, i, k), Counter())
                    at.update(zip(places.tiles, places.rows, places.columns, strict=True))
        evaluate(self, i, places, group)

    monkeypatch.setattr(engine.Evaluation, "evaluate", counting)
    network, together = compiled(name), cut(name)
    learnt(network, together, label_of(name))
    stepped = [network.networks[0]]
    if isinstance(network, MultiScale):
        stepped.append(network.networks[2])
    assert {key[0] for key in visited} == set(stepped)
    for part in stepped:
        nodes = part.program.nodes
        small = network.factor if isinstance(network, MultiScale) and part is stepped[0] else 1
        for i, node in enumerate(nodes):
            groups = [k for k, c in enumerate(part.columns[i]) if c is None or len(c)]
            if part.groups > 1:
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


def plan(bits: int) -> Program:
    return Program(1, "binary", 0, True, 1, bits=bits)


def assert_same(bits: int, method: str, *arguments: Any) -> Any:
    """Compiled and plain give the same, to the type; what they give."""
    one, other = Compiled(plan(bits)), Plain(plan(bits))

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
    unit = plan(bits).state_unit
    states = [rng.integers(-unit, unit + 1, (n, columns)).astype(narrow) for _ in range(2)]
    found = assert_same(bits, "add", states)
    np.testing.assert_array_equal(found, states[0].astype(int) + states[1])
    largest = plan(bits).largest
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
    unit = plan(bits).state_unit

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
    depth = np.minimum(height, rng.integers(1, 9, n))
    row, column = (rng.integers(0, side) for side in (height, width))
    base, taps = rng.integers(2, 1000, n), rng.integers(-4, 5, (5, 2))
    for stride in (1, 2, -2):
        for outside in (0, 1, 2):
            arguments = (base, row, column, depth, height, width, taps, stride, outside)
            at = assert_same(16, "places", *arguments)
            assert ((at < 2) | ((at >= base[:, None]) & (at < (base + depth * width)[:, None]))).all()
    at = rng.integers(0, 30, (7, 5))
    for bits, kind in ((8, np.int8), (16, np.int16)):
        end = 2 ** (bits - 1)
        store = rng.integers(-end, end, (30, 4)).astype(kind)
        rows = assert_same(bits, "gather", store, at)
        weight = torch.from_numpy(rng.integers(-end + 1, end, (20, 3)).astype(kind))
        rest = torch.zeros(3, dtype=torch.int64), torch.ones(3, dtype=torch.float64)
        exact = rows.astype(object) @ weight.numpy().astype(object)
        for arithmetic in (Compiled(plan(bits)), Plain(plan(bits))):
            matrix = arithmetic.matrix(weight, *rest, end)
            product = matrix.multiply(arithmetic.array(torch.from_numpy(rows)))
            assert np.asarray(product).astype(object).tolist() == exact.tolist()


def test_tables() -> None:
    wide = torch.arange(-17 * WIDE, 17 * WIDE + 1)
    exact = (wide.double() / WIDE).clamp(-16, 16)
    error = (tables.sigmoid(wide) / 2.0**22 - torch.sigmoid(exact)).abs().max()
    assert error < 3.5e-6
    error = (tables.elu(wide) - torch.nn.functional.elu(wide.double() / WIDE) * WIDE).abs().max()
    assert error < 0.65  # of a wide unit
    assert (tables.elu(wide).diff() >= 0).all()
    error = (heads.hyperbolic_tangent(wide) / 2.0**15 - torch.tanh(wide / WIDE)).abs().max()
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
    found = heads.log_probability(value, means, scale) / cdf.LOGIT_UNIT
    expected = mixture.component_log_likelihood(
        value[:, None].double(), means / cdf.MEAN_UNIT, scale.double() / cdf.SCALE_UNIT
    )
    error = (found - expected).abs()
    # Far away the logarithm is linear, with a slope that has 20 bits behind the point.
    assert (error <= 0.004 + 1e-6 * (value[:, None] - means / cdf.MEAN_UNIT).abs()).all()


def head(made: Program, rows: NDArray[np.int32], values: Tile) -> list[torch.Tensor]:
    """The parameters of each sub-pixel, as floats."""
    reader = heads.Head(made, torch.device("cpu"))
    reader.begin(torch.from_numpy(rows))
    found = []
    for channel in range(made.colours):
        found.append(torch.from_numpy(reader.parameters(channel)).double())
        reader.learn(values[:, channel])
    return found


def in_floats(made: Program, rows: NDArray[np.int32]) -> torch.Tensor:
    """(1, columns, n, 1): what a float network would have said."""
    floats = torch.from_numpy(rows) / heads.units(made) - heads.offsets(made)
    return floats.t()[None, :, :, None]


@pytest.mark.parametrize("coupled", [True, False])
@pytest.mark.parametrize("colours", [3, 1])
def test_softmax_in_integers(colours: int, coupled: bool) -> None:
    rng = np.random.default_rng(0)
    made = Program(colours, "softmax", 0, coupled, None)
    n = 40
    rows = rng.integers(-5 * 256, 5 * 256, (n, heads.parameters(made))).astype(np.int32)
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
    expected = outputs.Mixture(colours, k).double().log_probabilities(
        in_floats(made, rows), torch.from_numpy(values).view(1, n, 1, colours)
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
