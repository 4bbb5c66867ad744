"""Training the papers' networks: whole small images, and runs that go on exactly."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import architectures as tiny
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from pixelzip.cli import cli
from pixelzip.codec.errors import NetworkFileError, TrainingError
from pixelzip.models import zoo
from pixelzip.models.freezing import freeze
from pixelzip.models.networks import architectures
from pixelzip.models.training import images, train


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_images(crops: dict[str, NDArray[np.uint8]], count: int, side: int) -> NDArray[np.uint8]:
    """(count, side, side, 3) pieces of real photographs."""
    rng = np.random.default_rng(0)
    pictures, found = list(crops.values()), []
    for i in range(count):
        picture = pictures[i % len(pictures)]
        top, left = (int(rng.integers(s - side + 1)) for s in picture.shape[:2])
        found.append(picture[top : top + side, left : left + side])
    return np.stack(found)


@pytest.fixture(scope="module")
def folder(crops: dict[str, NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders ``colour`` and ``grey`` of 8x8 images, and files of rows with classes."""
    folder = tmp_path_factory.mktemp("images")
    for name, mode in (("colour", "RGB"), ("grey", "L")):
        (folder / name).mkdir()
        for i, pixels in enumerate(small_images(crops, 12, 8)):
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{i:02}.png")
    rows = small_images(crops, 6, 32).reshape(6, 1024, 3)
    Image.fromarray(rows).save(folder / "batch_0.png")
    (folder / "batch_0.txt").write_text("0 1 2 0 1 2\n")
    digits = small_images(crops, 5, 28)[..., 0].reshape(5, 784)
    Image.fromarray(digits).save(folder / "digits.png")
    return folder


def run(folder: Path, output: Path, name: str, **changes: Any) -> train.TrainConfig:
    """A run of some steps with the tiny network of that name."""
    made: Any = tiny.config(name)
    data = folder / ("grey" if made.colours == 1 else "colour")
    if getattr(made, "classes", 0):
        data = folder / "batch_0.png"
    config = train.TrainConfig(
        (data,), (), output, network=tiny.SETTINGS[name][0], architecture=made, steps=4, batch=2,
        warmup=1, minutes_between_checkpoints=0, compile=False,
    )  # fmt: skip
    return replace(config, **changes)


def state(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, weights_only=True)
    found.pop("seconds")
    return found


class Stop(Exception):  # noqa: N818
    """Ends a run in the middle."""


RESUMED = [
    "pixelcnn", "row-lstm", "diagonal-bilstm-binary", "multi-scale-binary", "gated-pixelcnn",
    "pixelcnn++-continuous", "pixelcnn++-bare", "pixelcnn++-classes", "small-11x5-nin",
]  # fmt: skip
"""All architectures, and all that is random in one: noise, dropout, binarisation."""


@pytest.mark.parametrize("name", RESUMED)
def test_runs_resume_exactly(
    folder: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = train.train(run(folder, tmp_path / "straight", name, minutes_between_checkpoints=9))
    config, take_step = run(folder, tmp_path / "stopped", name), train.take_step

    def stopping(*arguments: Any) -> float:
        if arguments[3] == 2:
            raise Stop
        return take_step(*arguments)

    monkeypatch.setattr(train, "take_step", stopping)
    with pytest.raises(Stop):
        train.train(config)
    monkeypatch.undo()
    resumed, expected = state(train.train(config)), state(straight)
    for part in ("network", "average"):
        assert resumed[part].keys() == expected[part].keys()
        for key, tensor in expected[part].items():
            assert torch.equal(resumed[part][key], tensor), key
    assert resumed["generators"] == expected["generators"]
    assert resumed["network_name"] == tiny.SETTINGS[name][0]
    frozen = tmp_path / "frozen.safetensors"
    if "continuous" in name:
        with pytest.raises(NetworkFileError, match="a likelihood to compare"):
            freeze.freeze_checkpoint(straight, frozen)
        assert not frozen.exists()
    else:
        made = freeze.freeze_checkpoint(straight, frozen, 8)
        assert zoo.load(str(frozen)).fingerprint == made


@pytest.mark.parametrize("name", [n for n in tiny.SETTINGS if "grey" not in n])
def test_one_batch_is_learnt(crops: dict[str, NDArray[np.uint8]], name: str) -> None:
    """Every part of a network has a gradient, and following it lowers the loss."""
    made: Any = tiny.config(name)
    torch.manual_seed(0)
    network = architectures.find(tiny.SETTINGS[name][0]).build(made).train()
    pixels = small_images(crops, 2, 8)[..., : made.colours]
    if made.output == "binary":
        pixels = np.where(pixels > 100, 255, 0).astype(np.uint8)
    batch = torch.from_numpy(pixels)
    adam = torch.optim.Adam(network.parameters(), 5e-3)
    losses = []
    for step in range(25):
        torch.manual_seed(step)
        loss = -tiny.evaluate(network, network, batch).mean()
        loss.backward()
        for key, parameter in network.named_parameters():
            assert parameter.grad is not None, key
        adam.step()
        adam.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.02
    assert np.mean(losses[-5:]) < 0.97 * np.mean(losses[:2])


# --- Data ----------------------------------------------------------------------------------------


def test_files_of_rows(folder: Path) -> None:
    found = images.read([folder / "batch_0.png"], 3)
    assert found is not None
    assert found.pixels.shape == (6, 32, 32, 3)
    with Image.open(folder / "batch_0.png") as opened:
        row = np.asarray(opened)[4]
    np.testing.assert_array_equal(found.pixels[4, 0], row[:32])  # as pixels are coded
    np.testing.assert_array_equal(found.pixels[4, 31], row[-32:])
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2, 0, 1, 2]
    some = images.read([folder / "batch_0.png:1-2", folder / "batch_0.png:5-5"], 3)
    assert some is not None
    assert some.labels is not None
    np.testing.assert_array_equal(some.pixels, found.pixels[[1, 2, 5]])
    assert some.labels.tolist() == [1, 2, 2]
    digits = images.read([folder / "digits.png"], 1)
    assert digits is not None
    assert digits.pixels.shape == (5, 28, 28, 1)
    assert digits.labels is None


def test_folders(folder: Path, tmp_path: Path) -> None:
    found = images.read([folder / "colour"], 3)
    assert found is not None
    assert found.pixels.shape == (12, 8, 8, 3)
    grey = images.read([folder / "grey"], 1)
    assert grey is not None
    assert grey.pixels.shape == (12, 8, 8, 1)
    for i, size in enumerate([(8, 8), (8, 9)]):
        Image.new("RGB", size).save(tmp_path / f"{i}.png")
    assert images.read([tmp_path], 3) is None  # photographs, to be cropped
    (tmp_path / "1.png").unlink()
    Image.new("RGB", (65, 65)).save(tmp_path / "0.png")
    assert images.read([tmp_path], 3) is None
    assert images.read([], 3) is None


@pytest.mark.parametrize(
    ("sources", "colours", "sentence"),
    [
        (["batch_0.png"], 1, "set colours=3"),
        (["digits.png"], 3, "set colours=1"),
        (["batch_0.png:4-6"], 3, "there are 6"),
        (["batch_0.png:3-2"], 3, "no rows 3 to 2"),
        (["colour/00.png"], 3, "in rows"),
        (["batch_0.txt"], 3, "cannot be read"),
        (["nothing.png"], 3, "no images"),
        (["batch_0.png", "colour"], 3, "differ in size"),
    ],
)
def test_what_is_no_data(folder: Path, sources: list[str], colours: int, sentence: str) -> None:
    with pytest.raises(TrainingError, match=sentence):
        images.read([folder / source for source in sources], colours)


def test_classes(folder: Path, tmp_path: Path) -> None:
    for name in ("batch_0.png", "batch_0.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    config = run(tmp_path, tmp_path / "run", "pixelcnn++-classes")
    for text, sentence in (("0 1 2 0 1", "5 classes for 6"), ("0 1 2 0 1 cat", "not a number"),
                           ("0 1 2 0 1 3", "0 to 2")):  # fmt: skip
        (tmp_path / "batch_0.txt").write_text(text)
        with pytest.raises(TrainingError, match=sentence):
            train.train(config)
    (tmp_path / "batch_0.txt").unlink()
    with pytest.raises(TrainingError, match="text file of classes"):
        train.train(config)


def test_binarising_is_fair(folder: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    whole = images.Whole(images.Images(levels), np.random.default_rng(0), binary=True)
    drawn, weights = whole.draw(2000)
    assert set(np.unique(drawn)) == {0, 255}
    np.testing.assert_allclose(drawn.mean(0), levels[0], atol=20)
    assert not drawn[:, 0, 0].any()
    assert drawn[:, 15, 15].all()
    assert weights.shape == (2000, 1)
    again, _ = images.Whole(images.Images(levels), np.random.default_rng(0), True).draw(2000)
    np.testing.assert_array_equal(again, drawn)


def test_nats_per_image(folder: Path, tmp_path: Path) -> None:
    """Said for whole images; and an older log, without that column, is gone on with."""
    config = run(folder, tmp_path / "run", "diagonal-bilstm-binary", steps=2)
    said: list[train.Progress] = []
    checkpoint = train.train(config, said.append)
    valid = said[-1].valid_bits_per_dim
    assert valid is not None
    assert said[-1].valid_nats_per_image == pytest.approx(valid * math.log(2) * 64)
    assert set(state(checkpoint)["calibration"].unique().tolist()) == {0, 255}
    log = config.output / "log.csv"
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["valid_nats_per_image"]) == said[-1].valid_nats_per_image
    log.write_text("".join(line.rsplit(",", 1)[0] + "\n" for line in log.read_text().splitlines()))
    train.train(replace(config, steps=3))
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert all(None not in row and row["valid_bits_per_dim"] for row in rows)


# --- The command line ----------------------------------------------------------------------------


def test_architectures_are_listed() -> None:
    runner = CliRunner()
    text = runner.invoke(cli, ["networks", "--architectures"])
    assert text.exit_code == 0
    for name in architectures.NAMES:
        assert f"{name} " in text.output
    assert "lag 4" in text.output
    assert "whole rows" in text.output
    lines = runner.invoke(cli, ["networks", "--architectures", "--json"]).output.splitlines()
    cards = {card["name"]: card for card in map(json.loads, lines)}
    assert tuple(cards) == architectures.NAMES
    for name, card in cards.items():
        architecture = architectures.find(name)
        network = architecture.build(architecture.config())
        assert card["parameters"] == sum(p.numel() for p in network.parameters())
        assert card["settings"]["channels"] > 0
    small = cards["small-pixelcnn++"]
    assert small["field"] == {"above": 5, "left": 5, "right": 5}
    assert small["lag"] == 6


def test_training_from_the_command_line(folder: Path, tmp_path: Path) -> None:
    """And on to a frozen network, and a file that it made."""
    command = [
        "train", "--network", "row-lstm", "--set", "colours=1", "--set", "output=binary",
        "--set", "channels=4", "--set", "layers=1", "--set", "top=8", "--set", "skip=no",
        "--data", f"{folder / 'digits.png'}:0-2", "--valid", f"{folder / 'digits.png'}:3-4",
        "-o", str(tmp_path / "run"), "--steps", "2", "--batch", "2", "--rate", "0.001",
    ]  # fmt: skip
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert "nats/image" in done.output
    found = state(tmp_path / "run" / "checkpoint.pt")
    assert found["architecture"]["skip"] is False
    assert found["architecture"]["channels"] == 4
    assert found["calibration"].shape == (256, 28, 28, 1)
    assert "pixelzip freeze" in done.output
    sizes = {}
    for bits in (8, 16):
        network = tmp_path / f"{bits}.safetensors"
        command_ = ["freeze", "--bits", str(bits), "-o", str(network)]
        frozen = CliRunner().invoke(cli, [*command_, str(tmp_path / "run" / "checkpoint.pt")])
        assert frozen.exit_code == 0, frozen.output
        made = zoo.load(str(network)).fingerprint.hex()
        assert f"fingerprint {made[:16]}" in frozen.output
        sizes[bits] = network.stat().st_size
        again = CliRunner().invoke(cli, [*command_, str(tmp_path / "run" / "checkpoint.pt")])
        assert again.exit_code == 1
        assert "--force" in again.output
    assert sizes[8] < sizes[16]
    white = np.where(np.arange(64).reshape(8, 8) % 5 < 2, 255, 0).astype(np.uint8)
    Image.fromarray(white).save(tmp_path / "digit.png")
    for words in (
        ["compress", str(tmp_path / "digit.png"), "--network", str(tmp_path / "8.safetensors")],
        ["decompress", str(tmp_path / "digit.pxz"), "-o", str(tmp_path / "back.png"),
         "--network", str(tmp_path / "8.safetensors")],
    ):  # fmt: skip
        coded = CliRunner().invoke(cli, words)
        assert coded.exit_code == 0, coded.output
    with Image.open(tmp_path / "back.png") as back:
        np.testing.assert_array_equal(np.asarray(back), white)
    # Another network cannot go on with it.
    other = [{"row-lstm": "diagonal-bilstm"}.get(word, word) for word in command]
    done = CliRunner().invoke(cli, other)
    assert done.exit_code == 1
    assert "of another run" in done.output


def test_a_run_begins_with_anothers_weights(folder: Path, tmp_path: Path) -> None:
    first = train.train(run(folder, tmp_path / "first", "row-lstm"))
    began = run(folder, tmp_path / "second", "row-lstm", start=first, steps=1, rate=1e-9)
    second = state(train.train(began))
    assert second["step"] == 1
    for name, weights in state(first)["average"].items():
        assert torch.allclose(second["network"][name], weights, atol=1e-6), name
    # Once there is a checkpoint of its own, a run goes on with that.
    longer = state(train.train(replace(began, steps=2, rate=1e-2)))
    assert longer["step"] == 2
    other = run(folder, tmp_path / "third", "pixelcnn", start=first)
    with pytest.raises(TrainingError, match="of another network"):
        train.train(other)
    (tmp_path / "text").write_text("no checkpoint")
    with pytest.raises(TrainingError, match="is not a checkpoint"):
        train.train(replace(began, output=tmp_path / "fourth", start=tmp_path / "text"))


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("width=3", "has no width to set"),
        ("channels=many", "whole number"),
        ("channels=0", "from 1 to"),
        ("dropout=high", "is a number"),
        ("shortcuts=perhaps", "yes or no"),
        ("output=binary", "one of softmax, mixture, continuous"),
        ("channels", "KEY=VALUE"),
    ],
)
def test_settings_that_make_no_sense(
    folder: Path, tmp_path: Path, setting: str, sentence: str
) -> None:
    data, output = str(folder / "colour"), str(tmp_path / "run")
    command = ["train", "--network", "pixelcnn++", "--set", setting, "--data", data, "-o", output]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 2
    assert sentence in " ".join(done.output.replace("│", " ").split())
    assert not (tmp_path / "run").exists()
