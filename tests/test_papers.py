"""The papers' page: a run is really measured, figures are kept, tables say what was measured."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from pixelzip.bench import papers, programs, runs
from pixelzip.bench.runs import Coding, Measured
from pixelzip.models.networks import architectures

STEPS = 7


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory, crops: dict[str, NDArray[np.uint8]]) -> Path:
    """A file of two images in rows."""
    pixels = [crop[:32, :32].reshape(1, 1024, 3) for crop in list(crops.values())[:2]]
    path = tmp_path_factory.mktemp("rows") / "images.png"
    Image.fromarray(np.concatenate(pixels)).save(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, rows: Path) -> Path:
    """A finished run of a tiny PixelCNN, and one that is still being trained."""
    folder = tmp_path_factory.mktemp("runs")
    architecture = architectures.find("pixelcnn")
    config = architecture.configure({"channels": "4", "layers": "1", "top": "8"})
    torch.manual_seed(0)
    images = np.asarray(Image.open(rows)).reshape(-1, 32, 32, 3)
    state = {
        "network_name": architecture.name,
        "architecture": asdict(config),
        "average": architecture.build(config).state_dict(),
        "calibration": torch.from_numpy(images.copy()),
        "step": STEPS,
        "pixels": 2_000_000,
        "seconds": 3.0,
    }
    for name, left in (("pixelcnn", 0.0), ("gated", 30.5)):
        (folder / name).mkdir()
        torch.save(state, folder / name / "checkpoint.pt")
        log = f"step,train_bits_per_dim,seconds_left\n3,8.5,{left + 9}\n{STEPS},6.5,{left}\n"
        (folder / name / "log.csv").write_text(log)
    return folder


def page(folder: Path) -> Path:
    """A page with a place for each table, and old text in it."""
    path = folder / "page.md"
    names = [*papers.COMPARISONS, "speed", "precision", "training"]
    marks = "".join(f"<!-- table:{name} -->\nold\n<!-- end -->\n" for name in names)
    path.write_text(f"# Page\n\n{marks}\nAfter.\n")
    return path


def measured(run: str, theory: float = 3.5, **others: object) -> Measured:
    """Made-up figures."""
    sizes = theory + 0.01, theory + 0.02, theory + 0.1
    coding = Coding(16, 1.5, *sizes, 9, 0.011, 0.022, 0.033, 0.044)
    machine = {
        "date": "today", "processor": "some", "cores": 2, "system": "Linux", "python": "3",
        "threads": 2, "repeat": 1, "versions": {}, "git": None,
    }  # fmt: skip
    made = Measured(
        run=run, network="row-lstm", settings={"residual": False}, output="softmax", colours=3,
        parameters=1234, field="all above", steps=5, pixels=10**6, seconds=2.0, images=10,
        subpixels=3072, theory=theory, codings=(coding,), machine=machine,
    )  # fmt: skip
    return replace(made, **others)  # type: ignore[arg-type]


def test_a_run_is_measured_once(folder: Path, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = page(folder)
    command = [str(folder), "--images", str(rows), "-o", str(path), "--threads", "1"]
    result = CliRunner().invoke(papers.main, command)
    assert result.exit_code == 0, result.output
    assert "gated: not measured" in result.output.splitlines()  # it is still being trained
    assert "pixelcnn: not measured" not in result.output.splitlines()

    found = Measured.from_json((folder / "pixelcnn" / "measured.json").read_text())
    coding = found.coding()
    assert coding is not None
    assert found.settings == {"channels": 4, "layers": 1, "top": 8}
    assert (found.steps, found.images, found.subpixels) == (STEPS, 2, 3072)
    # A network that knows nothing: about a byte for each sub-pixel, in floats and in integers.
    assert found.theory == pytest.approx(8, abs=0.5)
    assert coding.theory == pytest.approx(found.theory, abs=1e-2)
    assert coding.file > 0
    text = path.read_text()
    assert f"| PixelCNN | {found.parameters:,} |" in text
    assert f"| {found.theory:.3f} | {coding.theory:.3f} |" in text
    assert f"| {coding.payload:.3f} | {coding.file:.3f} |" in text
    assert coding.theory < coding.payload < 1.01 * coding.theory
    assert "old" not in text
    assert text.endswith("After.\n")
    training = Image.open(path.with_suffix("") / "training.png")
    assert training.width > 600

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(runs, "coding", never)
    assert CliRunner().invoke(papers.main, command).exit_code == 0
    assert path.read_text() == text
    assert CliRunner().invoke(papers.main, [*command, "--again"]).exit_code != 0


def test_the_tables_say_what_was_measured() -> None:
    found = {"row-none": measured("row-none", 3.4), "row-skip": measured("row-skip", 3.6)}
    made = papers.tables(found)
    row = "| neither | 1,234 | all above | 3.400 | 3.410 | 3.420 | 3.500 | 11 | 22 | 3.22 |"
    assert row in made["connections"].splitlines()
    assert "best first: skip; neither. Ours: neither; skip." in made["connections"]
    assert "| Row LSTM, skip | 11 | 33 | 22 | 44 |" in made["speed"]
    assert "1 of Row LSTM, neither" in made["speed"]
    assert "row-lstm | residual=no | 5 | 1.0 | 2 |" in made["training"]
    assert "neither" not in made["precision"]  # it was not frozen to 8 bits
    grey = measured("mnist-pixelcnn", 0.2, colours=1, subpixels=784)
    mnist = papers.tables({"mnist-pixelcnn": grey})["mnist"]
    assert f"| {0.2 * 784 * np.log(2):.2f} |" in mnist
    alone = papers.tables({"pp-continuous": measured("pp-continuous", codings=())})
    assert (
        "| continuous mixture | 1,234 | all above | 3.500 | - | - | - | - | - | 3.11 |"
        in alone["plusplus"]
    )


def test_a_page_has_a_place_for_each_table() -> None:
    text = "a\n<!-- table:x -->\nold\n<!-- end -->\nb\n"
    assert papers.filled(text, {"x": "new\n"}).count("new") == 1
    assert "old" not in papers.filled(text, {"x": "new\n"})
    with pytest.raises(ValueError, match="marks tables"):
        papers.filled(text, {"x": "new", "y": "more"})
    ours = (Path(__file__).parent.parent / "docs" / "papers.md").read_text()
    assert papers.filled(ours, papers.tables({}))


def test_what_an_image_costs() -> None:
    settings = {"layers": "1", "channels": "8", "output": "binary", "colours": "1"}
    name, encode, decode = programs.measured("tiny", "pixelcnn", settings)
    assert name == "tiny"
    assert 0 < float(encode) < 1000 > float(decode) > 0


def test_what_another_version_measured_is_measured_again() -> None:
    fields = json.loads(measured("pp").to_json())
    assert Measured.from_json(json.dumps(fields)) == measured("pp")
    with pytest.raises((TypeError, KeyError)):
        Measured.from_json(json.dumps(fields | {"of_old": 1}))
