"""The network of coefficients: its training, its integers, and the ways to multiply them."""

from __future__ import annotations

import io
import lzma
from pathlib import Path

import jpegs
import numpy as np
import pytest
import reference_jpeg as reference
import torch
from PIL import Image

from pixelzip.codec.errors import PixelzipError, TrainingError
from pixelzip.codec.jpeg import model, network, parts, syntax
from pixelzip.codec.jpeg.parts import Parts
from pixelzip.models.freezing import dct
from pixelzip.models.networks.dct import (
    AROUND,
    EARLIER,
    PLANE,
    Dct,
    DctConfig,
    coefficient_cost,
    logistic_cost,
)
from pixelzip.models.training import coefficients
from pixelzip.models.training.coefficients import Coefficients, Run

compiled = pytest.mark.skipif(syntax.library() is None, reason="there is no compiled library")


@pytest.fixture(scope="module")
def small(photo_path: Path) -> Parts:
    return parts.take_apart(jpegs.photo(photo_path, (72, 56), quality=90, subsampling="4:2:0"))


def of(*found: Parts) -> Coefficients:
    files = []
    for one in found:
        assert one.headers.frame is not None
        files.append((one.headers.frame, one.headers.model_steps(), one.blocks))
    return Coefficients(files)


def coded(found: Parts) -> list[bytes]:
    assert found.headers.frame is not None
    steps = found.headers.model_steps()
    return model.encode_blocks(found.headers.frame, steps, found.blocks, 1 << 20, map)


# --- Training -------------------------------------------------------------------------------------


@compiled
def test_it_is_told_what_the_page_says(small: Parts) -> None:
    """Of each block of a picture, also when another one comes before it in the data."""
    data = of(small, small)
    frame = small.headers.frame
    assert frame is not None
    planes = [
        reference.Plane(one.h, one.v, one.stride, one.rows, steps)
        for one, steps in zip(frame.components, small.headers.model_steps().tolist(), strict=True)
    ]
    for one, plane in zip(frame.components, planes, strict=True):
        own = small.blocks[one.first : one.first + one.blocks].tolist()
        plane.blocks = [own[i : i + one.stride] for i in range(0, len(own), one.stride)]
    batch = data.batch(np.arange(frame.blocks, 2 * frame.blocks))
    number = 0
    for which, plane in enumerate(planes):
        for row in range(len(plane.blocks)):
            for column in range(plane.stride):
                wanted = reference._inputs(planes, which, row, column, 0)
                assert batch.inputs[number].tolist() == wanted
                number += 1


def test_costs_are_those_of_a_distribution() -> None:
    """Of all values of a coefficient; the last one is known not to be 0."""
    values = torch.arange(-3000.0, 3001.0)
    mean, scale = torch.tensor(0.7), torch.tensor(1.3)
    assert torch.exp(-logistic_cost(values, mean, scale)).sum() == pytest.approx(1, abs=1e-3)
    said = torch.zeros(len(values), 64, 2)
    coefficients = torch.zeros(len(values), 64)
    coefficients[:, 5] = values
    ends = torch.full((len(values),), 5)
    cost = coefficient_cost(said, torch.full_like(coefficients, 3.0), coefficients, ends)
    odds = torch.exp(-cost[:, 5])
    assert odds[values != 0].sum() == pytest.approx(1, abs=1e-3)
    assert not cost[:, 6:].any()


@compiled
def test_a_resumed_run_takes_the_same_steps(small: Parts, tmp_path: Path) -> None:
    data, run = of(small), Run(batch=16)
    said = list[str]()
    whole = coefficients.train(data, data, tmp_path / "whole", 6, run, report=said.append)

    def stop(line: str) -> None:
        if line.startswith("step 3:"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        coefficients.train(data, data, tmp_path / "cut", 6, run, 0, stop)
    cut = coefficients.train(data, data, tmp_path / "cut", 6, run, report=said.append)
    one, other = (torch.load(path, weights_only=True) for path in (whole, cut))
    for part in ("network", "average"):
        for name, weights in one[part].items():
            assert torch.equal(weights, other[part][name])
    with pytest.raises(TrainingError, match="another run"):
        coefficients.train(data, data, tmp_path / "cut", 6, Run(batch=8))


@compiled
def test_it_learns(small: Parts, tmp_path: Path) -> None:
    data = of(small)
    before = sum(coefficients.validated(Dct(DctConfig()), data))
    path = coefficients.train(data, data, tmp_path, 300, Run(batch=63), report=lambda _: None)
    assert sum(coefficients.validated(dct.load(path), data)) < 0.7 * before


def test_photographs_are_encoded_in_many_ways(photo_path: Path, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(jpegs.photo(photo_path, (120, 90), quality=80))
    random = np.random.default_rng(3)
    made = [Image.open(io.BytesIO(d)) for d in coefficients.files([photo], random, 80)]
    assert {"L", "RGB"} == {one.mode for one in made}
    assert len({tuple(map(tuple, one.quantization.values())) for one in made}) > 20  # type: ignore[attr-defined]
    assert len({one.size for one in made}) > 5
    with pytest.raises(TrainingError, match="no JPEGs"):
        coefficients.coefficients([], 0, 1)


# --- Integers -------------------------------------------------------------------------------------


def test_integers_say_what_floats_say(small: Parts) -> None:
    torch.manual_seed(1)
    floats = Dct(DctConfig())
    for head in (floats.end, *floats.heads):
        torch.nn.init.normal_(head.weight, std=0.05)  # type: ignore[arg-type]
    torch.nn.init.normal_(floats.ends, std=0.1)
    batch = of(small).batch(np.arange(len(small.blocks)))
    integers = reference.Network(dct.freeze(floats, batch).pack())
    with torch.no_grad():
        given = (batch.inputs, batch.values, batch.ends, batch.edges)
        ends, said = floats(*map(torch.from_numpy, given))
    assert batch.inputs.shape[1] == AROUND + EARLIER + PLANE
    off = []
    for block in range(0, len(small.blocks), 7):
        sums, end = integers.see(batch.inputs[block].tolist())
        assert end[0] == pytest.approx(4 * (32 + 16 * float(ends[block, 0])), abs=4)
        sums = sums + integers.ends[batch.ends[block]]
        for stage, start in enumerate(reference.STAGES[1:]):
            for k, (mean, scale) in enumerate(
                integers.say(sums, stage, batch.edges[block, stage].tolist()), start
            ):
                off.append(mean / 64 - float(said[block, k, 0]))
                wanted = 96 + 16 * (2 * float(said[block, k, 1]) + 2.5) / np.log(2)
                off.append((scale - wanted) / 16)
            if start:
                sums = integers.show(sums, stage, batch.values[block].tolist())
    assert np.sqrt(np.mean(np.square(off))) < 0.05
    assert np.abs(off).max() < 0.4


@compiled
def test_all_instructions_make_the_same_file(small: Parts) -> None:
    library = model.library()
    assert library is not None
    sizes = np.empty(3, np.int64)
    library.network_sizes(sizes)
    weights = network.load(tuple(map(int, sizes)))
    made = set()
    try:
        for most in range(model.FASTEST + 1):
            assert library.model_network(*weights, most) <= most
            made.add(b"".join(coded(small)))
    finally:
        library.model_network(*weights, model.FASTEST)
    assert len(made) == 1


@compiled
@pytest.mark.parametrize("step", [1, 255, 65535])
def test_any_coefficients_come_back(small: Parts, step: int) -> None:
    """Also those that no photograph has: all that goes in is limited."""
    frame = small.headers.frame
    assert frame is not None
    random = np.random.default_rng(step)
    blocks = random.integers(-32767, 32768, small.blocks.shape).astype(np.int16)
    blocks[::3] //= 1 << 12
    steps = np.full((len(frame.components), 64), step, np.int32)
    made = model.encode_blocks(frame, steps, blocks, 1 << 22, map)
    assert np.array_equal(model.decode_blocks(frame, steps, made, map)[0], blocks)


def test_a_network_that_is_not_the_format_s_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PixelzipError, match="another pixelzip"):
        network.unpack(lzma.compress(b"12345"), (1, 1, 1))
    monkeypatch.setattr(network, "SHA256", "0" * 64)
    with pytest.raises(PixelzipError, match=r"network\.xz is damaged"):
        network.load((1, 1, 1))
