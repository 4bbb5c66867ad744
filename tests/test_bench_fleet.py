"""What a billion pictures would take: kinds are made, really coded, and summed up."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from pixelzip.bench import fleet
from pixelzip.bench.fleet import Batch


@pytest.fixture
def data(crop_paths: list[Path], tmp_path: Path) -> Path:
    """A small one of the kind that `fleet` takes."""
    for folder in ("photos/valid", "kodak", "cifar10"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(crop_paths[0], tmp_path / "kodak")
    with Image.open(crop_paths[0]) as image:
        for number in range(10):
            photograph = image.convert("RGB").rotate(36 * number).resize((60, 60))
            photograph.save(tmp_path / "photos" / "valid" / f"{number}.jpg")
    rows = np.random.default_rng(1).integers(0, 50, (3, 1024, 3), np.uint8)
    Image.fromarray(rows).save(tmp_path / "cifar10" / "batch_2.png")
    return tmp_path


def test_kinds_are_measured(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "SQUARE", 30)
    monkeypatch.setattr(fleet, "_COUNTS", (1, 1, 3))
    done = CliRunner().invoke(fleet.main, [str(data)])
    assert done.exit_code == 0, done.output
    _, _, *rows = done.output[: done.output.index("\n\n")].splitlines()
    kinds = [re.match(r"\| (\d) (.*?) \| ([\d,]+) \|", row) for row in rows]
    found = {kind[2]: (int(kind[1]), int(kind[3].replace(",", ""))) for kind in kinds if kind}
    assert set(found) == {*fleet.MIXTURE, fleet.KODAK}
    assert found[fleet.CIFAR] == (3, 1024)
    assert found[fleet.WHOLE] == (1, 10 * 30 * 30)
    assert found[fleet.KODAK][0] == 1
    assert found[fleet.WEB] == found[fleet.DECODED]
    assert "core-hours, which are" in done.output
    for wrong in ([], [str(data), "--folder", str(data)]):
        assert CliRunner().invoke(fleet.main, wrong).exit_code == 2


def test_the_sums_of_a_mixture() -> None:
    names = [*fleet.MIXTURE, fleet.KODAK]
    batches = [Batch(name, 1, 1e6, 2000, 1000, 3.6, 1.8) for name in names]
    said = fleet.mixture(batches, core_hour=0.04, get=0.0004, put=0.005)
    said = " ".join(said.split())
    assert "= 3.6000 core-seconds for a file" in said
    assert "1,000,000 core-hours, which are 41.7 days on 1,000 cores" in said
    assert "40,000 dollars for cores and 5,800 for requests, 45,800 in all" in said
    assert "of 2 TB 1 are saved, 23 dollars a month" in said
    assert "12 megapixels some 43 core-seconds each" in said
    (row,) = fleet.table(batches[:1], 0.04, 0.0004, 0.005).splitlines()[2:]
    assert row.endswith("| 3.6000 | 3.60 | 1.8000 | 1.80 | 1,000,000 | 41.7 | 40,000 | 5,800 |")
