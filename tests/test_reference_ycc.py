"""docs/format.md is enough to render luma and chroma from: the reference agrees with the codec."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import reference_ycc as reference
from conftest import ROOT
from numpy.typing import NDArray

from pixelzip.codec.errors import FormatError
from pixelzip.codec.origins import conversions, ycc
from pixelzip.codec.origins.upsampling import RULES

PAGE = (ROOT / "docs" / "format.md").read_text()
SHAPES = [(1, 1), (1, 4), (3, 2), (4, 5), (5, 4)]


def planes(parameters: bytes, shape: tuple[int, int], seed: int) -> list[NDArray[np.uint8]]:
    """Random ones, of which some samples are extreme."""
    random = np.random.default_rng(seed)
    sizes = [(p.height, p.width, 1) for p in ycc.layout(parameters, shape)]
    full = [random.integers(0, 256, size) for size in sizes]
    ends = [random.choice([0, 15, 16, 128, 255], size) for size in sizes]
    return [
        np.where(random.random(size) < 0.3, end, some).astype(np.uint8)
        for size, some, end in zip(sizes, full, ends, strict=True)
    ]


def render(parameters: bytes, samples: list[NDArray[np.uint8]]) -> NDArray[np.int64]:
    y, c1, c2 = (plane[:, :, 0].tolist() for plane in samples)
    return np.array(reference.rendered(parameters, y, c1, c2), np.int64)


@pytest.mark.parametrize("conversion", range(conversions.COUNT))
def test_conversions(conversion: int) -> None:
    shift, tables = reference.CONVERSIONS[conversion]
    known = conversions.conversion(conversion)
    assert shift == known.shift
    theirs = known.luma, known.red, known.green1, known.green2, known.blue
    assert [table.tolist() for table in theirs] == [*tables]


@pytest.mark.parametrize("rule", range(len(RULES)))
def test_every_conversion_rule_and_overhang(rule: int) -> None:
    legal = 0
    for shape, packed in product(SHAPES, range(256)):
        for conversion in range(conversions.COUNT):
            parameters = bytes((conversion, rule, packed))
            try:
                layouts = ycc.layout(parameters, shape)
            except FormatError:
                with pytest.raises(ValueError, match="damaged"):
                    reference.chroma(parameters, shape)
                continue
            legal += 1
            size, step, phase = reference.chroma(parameters, shape)
            for plane in layouts[1:]:
                assert (plane.height, plane.width) == size
                assert (plane.step, plane.phase) == (step, phase)
            samples = planes(parameters, shape, legal)
            rendered = ycc.render(parameters, samples, shape)
            assert np.array_equal(render(parameters, samples), rendered)
    assert legal >= len(SHAPES) * conversions.COUNT // 2


@pytest.mark.parametrize("parameters", [b"", b"\0\0", b"\0\0\0\0", b"\x0a\0\0", b"\0\x11\0"])
def test_other_parameters_are_refused(parameters: bytes) -> None:
    with pytest.raises(ValueError, match="damaged"):
        reference.chroma(parameters, (4, 4))
    with pytest.raises(FormatError):
        ycc.layout(parameters, (4, 4))


def test_the_page_has_so_many_conversions_and_rules() -> None:
    assert len(reference.CONVERSIONS) == conversions.COUNT
    assert len(reference.RULES) == len(RULES)
    assert f"number of the *conversion*, 0 to {conversions.COUNT - 1} |" in PAGE
    assert f"by which chroma is stretched, 0 to {len(RULES) - 1} |" in PAGE
