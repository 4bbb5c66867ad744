"""Growth is measured, and growth that is not linear is called out; memory is that of the work."""

from __future__ import annotations

import io
import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pixelzip.bench import memory, scaling
from pixelzip.bench.scaling import Naive, Point, Scaling, Shared

MEGABYTES = 100


def hold(megabytes: int) -> int:
    """Fill so much memory, in this process and as much in another."""
    held = np.ones(megabytes * 10**6, np.uint8)
    if (pid := os.fork()) == 0:
        held += 1  # the child's own copy, from here on
        os._exit(0)
    os.waitpid(pid, 0)
    return int(held[-1])


def die() -> None:
    os._exit(1)


@pytest.mark.skipif(not os.path.exists("/proc/self/smaps_rollup"), reason="no Linux")
def test_memory_is_that_of_the_work_and_its_children() -> None:
    _, small = memory.watch(hold, 1)
    result, large = memory.watch(hold, MEGABYTES)
    assert result == 1
    assert small is not None
    assert large is not None
    # Parent and child, unless the child was gone between two looks.
    assert 0.95 * MEGABYTES < large - small < 2.2 * MEGABYTES


def test_a_process_that_dies_is_said() -> None:
    with pytest.raises(memory.EndedError, match="ended early"):
        memory.watch(die)


def made_up(power: float) -> Scaling:
    """Pictures whose time grows as that power of their pixels."""
    pictures = tuple(
        Point(1, pixels, 1e-6 * pixels, (1e-6 * pixels) ** power, 500.0)
        for pixels in (100_000, 400_000, 1_500_000, 6_000_000, 24_000_000)
    )
    batches = tuple(replace(pictures[0], images=n, pixels=1024 * n) for n in scaling.BATCHES)
    machine = {
        "date": "today", "processor": "some", "cores": 2, "system": "Linux", "python": "3",
        "threads": 2, "repeat": 1, "versions": {}, "git": None,
    }  # fmt: skip
    return Scaling("photo", machine, pictures, batches, Naive(4096, 0.5, 0.01))


def test_growth_that_is_not_linear_is_called_out() -> None:
    linear, square = made_up(1.0), made_up(2.0)
    assert linear.growth()["decode"] == pytest.approx(1)
    assert square.growth()["decode"] == pytest.approx(2)
    assert not any("NOT LINEAR" in sentence for sentence in linear.sentences())
    said = [sentence for sentence in square.sentences() if "NOT LINEAR" in sentence]
    assert said == ["The time to decode grows as pixels^2.00, WHICH IS NOT LINEAR."]


def test_the_naive_decoder_takes_a_pass_for_each_pixel() -> None:
    found = made_up(1.0)
    assert found.naive.seconds(4096) == pytest.approx(4096 * 0.01)
    assert found.naive.seconds(8192) == pytest.approx(4 * 4096 * 0.01)
    assert found.tables()[2].rows[0][1:] == ("0.500 s", "41.0 s", "81.9 x")


def test_threads_are_compared_with_one() -> None:
    alone = made_up(1.0)
    point = alone.pictures[2]
    slower = replace(point, encode_seconds=1.9 * point.encode_seconds)
    found = replace(alone, shared=(Shared("a picture", slower, point),))
    assert found.shared[0].gain == pytest.approx({"encode": 1.9, "decode": 1})
    assert len(alone.tables()) == 3
    table = found.tables()[3]
    assert "2 threads" in table.title
    assert table.rows[0][0] == "a picture"
    assert table.rows[0][2] == "1.90 x"
    assert found.to_json()["shared"][0]["gain"]["decode"] == pytest.approx(1)


def test_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real measurement, of sizes that are small enough for a test."""
    monkeypatch.setattr(scaling, "MEGAPIXELS", (0.002, 0.004))
    monkeypatch.setattr(scaling, "BATCHES", (2,))
    some = (("picture", 1, 60, 40), ("decoded JPEGs", 2, 48, 32))
    monkeypatch.setattr(scaling, "SHARED", some)
    fractions: list[float] = []
    found = scaling.measure("photo", 2, 1, 1.0, fractions.append)
    assert [point.pixels for point in found.pictures] == pytest.approx([2000, 4000], rel=0.05)
    assert (found.batches[0].images, found.batches[0].pixels) == (2, 2048)
    assert all(point.encode_seconds > 0 for point in found.pictures)
    # An interpreter with numpy takes some tens of megabytes, one with PyTorch some hundreds.
    assert all(
        point.peak_megabytes is None or 40 < point.peak_megabytes < 1000 for point in found.batches
    )
    assert fractions == sorted(fractions)
    # Thousands of passes against a few hundred fronts.
    assert found.naive.seconds(found.naive.pixels) > 5 * found.naive.fronts_seconds
    titles = [table.title for table in found.tables()]
    assert titles[0] == "One picture, photo, 2 threads"
    shared = [row[0] for row in found.tables()[3].rows]
    assert shared == ["a picture of 60x40", "2 decoded JPEGs of 48x32"]
    assert all(min(one.gain.values()) > 0 for one in found.shared)
    with Image.open(io.BytesIO(found.plot())) as plot:
        assert plot.width > plot.height > 300
