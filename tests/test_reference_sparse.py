"""docs/format.md is enough to decode from: the reference decoder agrees with the codec."""

from __future__ import annotations

import re
from random import Random

import numpy as np
import pytest
import reference_sparse as reference
from conftest import ROOT
from numpy.typing import NDArray

from pixelzip.codec import bits, corrections, probabilities
from pixelzip.codec.colours import Colours
from pixelzip.codec.origins import levels

pytestmark = pytest.mark.usefixtures("coding")
PAGE = (ROOT / "docs" / "format.md").read_text()


def image(pixels: NDArray[np.uint8]) -> reference.Image:
    return [[tuple(pixel) for pixel in row] for row in pixels.tolist()]


def example(name: str) -> bytes:
    """A line of the page's examples."""
    found = re.search(rf"^{name}: ([0-9a-f]+)$", PAGE, re.MULTILINE)
    assert found is not None
    return bytes.fromhex(found[1])


def test_the_table_is_the_page_s() -> None:
    assert reference.LOGIT_DIGEST in PAGE
    assert probabilities.LOGIT.tolist() == reference.LOGIT
    assert f"| {reference.LOGIT[0]} | {reference.LOGIT[-1]} |" in PAGE


@pytest.mark.parametrize("name", ["single", "mixed"])
def test_the_page_s_bits(name: str) -> None:
    contexts = reference.Contexts(reference.Bits(example(name)), 255)
    weight, h, number = reference.mixer(2), 0, 0
    for _ in range(128):
        bit = contexts.mixed([h % 2, 2 + h], weight) if name == "mixed" else contexts.bit(2 + h)
        h, number = (2 * h + bit) % 4, 2 * number + bit
    assert f"{number:032x}" == "5a7c0ffee0ddf00d00000001ffff0000"
    assert "`5a7c0ffee0ddf00d00000001ffff0000`" in PAGE


def test_flags() -> None:
    for step, size in ((3, 256), (1, 100), (7, 1000)):
        row = np.arange(size) * 5 % 17 % step == 0
        assert reference.flags(bits.encode_flags(row), size) == row.astype(int).tolist()


def test_the_page_s_corrections() -> None:
    blank = np.zeros((4, 5, 3), np.uint8)
    found = np.array(reference.corrected(example("corrections"), image(blank)))
    assert {tuple(at): tuple(found[tuple(at)]) for at in np.argwhere(found.any(2)).tolist()} == {
        (1, 2): (1, 0, 0),
        (2, 1): (200, 100, 50),
        (2, 2): (200, 100, 50),
        (2, 3): (200, 100, 50),
        (3, 2): (190, 101, 54),
    }


def test_corrections(crops: dict[str, NDArray[np.uint8]]) -> None:
    first, second = crops["bikes-96x64"][:48, :64], crops["parrot-32x32"]
    random = np.random.default_rng(0)
    for channels in (1, 2, 3, 5):
        rendered = np.resize(first, (48, 64, channels)) if channels > 3 else first[..., :channels]
        pixels = rendered.copy()
        pixels[random.random((48, 64)) < 0.02] += 1
        pixels[5:20, 10:40] = 200
        other = np.resize(second, (20, 20, channels))
        pixels[25:45, 30:50] = other
        pixels[::5, ::7] = random.integers(0, 256, channels)
        data = corrections.encode(pixels, rendered)
        assert reference.corrected(data, image(rendered)) == image(pixels)
        # What no encoder writes is decoded in the same way.
        for _ in range(3):
            damaged = random.bytes(40) + b"\1"
            found = corrections.apply(damaged, rendered)
            assert reference.corrected(damaged, image(rendered)) == image(found)


def test_levels() -> None:
    random = np.random.default_rng(0)
    tables: list[tuple[int, NDArray[np.int64]]] = [
        (8, np.arange(200) * 255 // 199),
        (8, np.arange(32) * 8 + np.arange(32) // 4),
        (8, np.unique(random.integers(0, 256, 90))),
        (16, np.arange(4096) * 16),
        (16, np.rint(np.arange(1024) * 65535 / 1023).astype(np.int64)),
    ]
    for depth, table in tables:
        chosen = table[random.integers(0, len(table), (90, 80, 1))]
        samples = chosen.astype(np.uint8 if depth == 8 else np.uint16)
        found = levels.find(samples)
        assert found is not None
        planes = [image(plane.samples) for plane in found.planes]
        assert reference.with_levels(found.parameters, planes) == image(samples)


def test_levels_of_each_channel() -> None:
    random = np.random.default_rng(0)
    samples = (random.integers(0, 60, (90, 80, 3)) * [2, 3, 4]).astype(np.uint8)
    found = levels.find(samples)
    assert found is not None
    assert found.parameters[0] == 0b1010
    planes = [image(plane.samples) for plane in found.planes]
    assert reference.with_levels(found.parameters, planes) == image(samples)


def test_the_page_s_colours() -> None:
    small = {(r, g, b) for r in range(3) for g in range(3) for b in range(3)}
    assert reference.colours(example("colours")) == small | {(255, 0, 128)}


def test_colours(crops: dict[str, NDArray[np.uint8]]) -> None:
    random = Random(0)
    edges = [tuple(random.choice([0, 1, 7, 8, 254, 255]) for _ in range(3)) for _ in range(60)]
    for some in (crops["parrot-32x32"][:9, :9].reshape(-1, 3), np.array(edges, np.uint8)):
        wanted = {tuple(colour) for colour in some.tolist()}
        assert reference.colours(Colours.of(some).data) == wanted
