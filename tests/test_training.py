"""Training: it learns, it resumes exactly, and several processes agree."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import pixelzip
from pixelzip.codec.errors import TrainingError
from pixelzip.models.freezing import freeze
from pixelzip.models.frozen import file
from pixelzip.models.networks import architectures
from pixelzip.models.networks.photo import STREAM_UNIT
from pixelzip.models.training import cameras, drawings, photographs, train
from pixelzip.models.training.photographs import Album, Crops, Photograph

STEPS = 6


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As many as the processes below have, so that their float sums are the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folders(
    crop_paths: list[Path], photo_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Photographs to learn from, and some to validate on."""
    data, valid = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("valid")
    for path in crop_paths:
        shutil.copy(path, data)
    with Image.open(photo_path) as image:
        image.crop((256, 128, 512, 256)).save(valid / "parrots.png")
        (data / "deeper").mkdir()
        image.crop((0, 0, 200, 150)).save(data / "deeper" / "parrots.jpg", quality=95)
    return data, valid


@pytest.fixture
def config(folders: tuple[Path, Path], tmp_path: Path) -> train.TrainConfig:
    """A run of a few seconds, with a checkpoint after each step."""
    data, valid = folders
    return train.TrainConfig(
        (data,), (valid,), tmp_path / "run", architecture=tiny.CONFIG, steps=STEPS, batch=2,
        side=32, warmup=2, minutes_between_checkpoints=0, compile=False,
    )  # fmt: skip


class Stop(Exception):  # noqa: N818
    """Ends a run in the middle."""


def run_until(config: train.TrainConfig, stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, and end when ``stop`` steps are done."""
    take_step = train.take_step

    def stopping(*arguments: Any) -> float:
        if arguments[3] == stop:
            raise Stop
        return take_step(*arguments)

    monkeypatch.setattr(train, "take_step", stopping)
    with pytest.raises(Stop):
        train.train(config)
    monkeypatch.setattr(train, "take_step", take_step)


def state(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(path, weights_only=True)
    return found


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """All of a checkpoint but the time it took, to the last bit."""
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one.keys() - {"seconds"}:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list):
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{where}.{i}")
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


# --- A run ---------------------------------------------------------------------------------------


def test_a_run_learns_and_leaves_its_traces(config: train.TrainConfig) -> None:
    config = replace(config, steps=50, batch=4, minutes_between_checkpoints=0, warmup=4)
    said: list[train.Progress] = []
    checkpoint = train.train(config, said.append)
    assert checkpoint == config.output / "checkpoint.pt"
    log = rows(config.output)
    assert [int(row["step"]) for row in log] == list(range(1, 51))
    assert [row["step"] for row in log] == [str(progress.step) for progress in said]
    assert [int(row["pixels"]) for row in log] == [step * 4 * 32 * 32 for step in range(1, 51)]
    losses = [float(row["train_bits_per_dim"]) for row in log]
    # Some crops are much harder than others, so it takes a few to see that they get easier.
    assert np.mean(losses[-15:]) < np.mean(losses[:5]) - 0.3
    valid = [float(row["valid_bits_per_dim"]) for row in log]
    assert valid[-1] < valid[0] - 0.5
    assert 0 < valid[-1] < 8
    assert all(float(row["pixels_per_second"]) > 0 for row in log)
    assert float(log[-1]["seconds_left"]) == 0
    with Image.open(config.output / "curve.png") as curve:
        assert curve.size > (500, 300)
        assert len(curve.convert("RGB").getcolors(1 << 24) or []) > 10
    assert not list(config.output.glob("*.part"))
    # What is left to do after the last step: nothing.
    before = state(checkpoint)
    train.train(config)
    assert_same(state(checkpoint), before)
    assert len(rows(config.output)) == 50


def test_seeds(config: train.TrainConfig, tmp_path: Path) -> None:
    once, again, other = (
        state(train.train(replace(config, output=tmp_path / name, seed=seed, steps=3)))
        for name, seed in (("once", 7), ("again", 7), ("other", 8))
    )
    assert_same(once, again)
    assert not torch.equal(once["network"]["stem"], other["network"]["stem"])


def test_what_a_checkpoint_averages(config: train.TrainConfig) -> None:
    """The average lies between the first weights and the last ones, and near the last."""
    torch.manual_seed(config.seed)
    first = train.Photo(config.architecture).state_dict()
    found = state(train.train(config))
    for name, last in found["network"].items():
        average = found["average"][name]
        assert average.shape == last.shape
        assert (average - last).norm() <= (first[name] - last).norm()
    assert any((found["average"][n] != last).any() for n, last in found["network"].items())


def test_learning_rates(config: train.TrainConfig) -> None:
    config = replace(config, steps=1000, warmup=100, decay=0.4)
    factors = [train.learning_rate_factor(step, config) for step in range(1001)]
    assert factors[0] == 0.01
    assert factors[99:600] == [1.0] * 501
    assert factors[1000] == 0
    assert (np.diff(factors[:100]) > 0).all()
    assert (np.diff(factors[601:]) < 0).all()


def test_every_parameter_is_trained(config: train.TrainConfig) -> None:
    network = tiny.photo()
    groups = [g["params"] for o in train.optimizers(network, config) for g in o.param_groups]
    trained = [id(p) for group in groups for p in group]
    assert sorted(trained) == sorted(id(p) for p in network.parameters())


# --- Resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounded", [False, True])
def test_a_resumed_run_takes_the_very_same_steps(
    config: train.TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounded: bool
) -> None:
    config = replace(config, rounded=rounded)
    straight = state(train.train(replace(config, output=tmp_path / "straight")))
    run_until(config, 3, monkeypatch)
    half = state(config.output / "checkpoint.pt")
    assert half["step"] == 3
    assert not torch.equal(half["network"]["stem"], straight["network"]["stem"])
    resumed = state(train.train(config))
    assert resumed["step"] == STEPS
    assert resumed["seconds"] > half["seconds"]
    assert_same(resumed, straight)


def test_what_is_trained_rounded_is_frozen_at_the_same_steps(config: train.TrainConfig) -> None:
    """That is those of the network that it began to be rounded with."""
    train.train(replace(config, steps=2))
    checkpoint = train.train(replace(config, steps=3, rounded=True))
    begun = state(checkpoint)["steps"]
    train.train(replace(config, rounded=True))
    assert_same(state(checkpoint)["steps"], begun)
    freeze.freeze_checkpoint(checkpoint, config.output / "frozen.safetensors")
    integers = file.read(config.output / "frozen.safetensors")[0]
    for name in ("trunk", "heads.0"):
        expected = 1 / (begun[name].double() * STREAM_UNIT)
        np.testing.assert_allclose(integers[f"{name}.input_scale"], expected, rtol=1e-6)


def test_only_photographs_in_colours_are_developed(
    config: train.TrainConfig, tmp_path: Path
) -> None:
    luma = replace(tiny.CONFIG, colours=1)
    with pytest.raises(TrainingError, match="developed"):
        train.train(replace(config, network="luma", architecture=luma, developed=0))
    rows = tmp_path / "rows.png"
    Image.new("RGB", (1024, 8)).save(rows)
    with pytest.raises(TrainingError, match="developed"):
        train.train(replace(config, data=(rows,), valid=(), developed=0))


def test_only_networks_like_photo_are_trained_rounded(config: train.TrainConfig) -> None:
    architecture = architectures.find("pixelcnn").config(layers=2, channels=8)
    with pytest.raises(TrainingError, match="rounded"):
        train.train(replace(config, network="pixelcnn", architecture=architecture, rounded=True))


def test_the_log_of_a_resumed_run(
    config: train.TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed run has logged more than its checkpoint knows, perhaps half a line of it."""
    run_until(config, 3, monkeypatch)
    before = rows(config.output)
    with (config.output / "log.csv").open("a") as file:
        for step in (4, 5):
            file.write(f"{step},9,9,9,9,9,\n")
        file.write("6,12.3")
    train.train(config)
    log = rows(config.output)
    assert [int(row["step"]) for row in log] == [1, 2, 3, 4, 5, 6]
    assert log[:3] == before
    assert all(float(row["valid_bits_per_dim"]) < 9 for row in log)
    seconds = [float(row["seconds"]) for row in log]
    assert seconds == sorted(seconds)


def test_the_log_of_a_run_that_never_saved(config: train.TrainConfig) -> None:
    config.output.mkdir()
    log = config.output / "log.csv"
    log.write_text("step,seconds,pix")
    train.train(replace(config, steps=2))
    fresh = log.read_bytes()
    (config.output / "checkpoint.pt").unlink()
    log.write_bytes(fresh + fresh.splitlines()[1])
    train.train(replace(config, steps=2))
    assert [row["step"] for row in rows(config.output)] == ["1", "2"]


@pytest.mark.parametrize("change", ["architecture", "seed", "batch", "side"])
def test_checkpoints_of_other_runs(
    config: train.TrainConfig, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    config = replace(config, steps=1)
    train.train(config)
    other = {"architecture": tiny.DEEP, "seed": 3, "batch": 3, "side": 40}
    with pytest.raises(TrainingError, match=r"checkpoint\.pt"):
        train.train(replace(config, **{change: other[change]}))


# --- Real processes ------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def command(config: train.TrainConfig, output: Path) -> list[str]:
    settings = ("channels=16", "blocks=MN", "head=8", "components=3")
    small = [word for setting in settings for word in ("--set", setting)]
    return [
        sys.executable, "-m", "pixelzip", "train", "--data", str(config.data[0]),
        "--valid", str(config.valid[0]), "-o", str(output), *small, "--side", "32",
        "--batch", "2", "--steps", str(config.steps), "--no-compile",
        "--checkpoint-minutes", "0",
    ]  # fmt: skip


def test_killed_in_the_middle(config: train.TrainConfig, tmp_path: Path) -> None:
    """kill -9, then the same command again: the same network as without the kill."""
    config = replace(config, steps=30)
    killed, straight = tmp_path / "killed", tmp_path / "straight"
    run = subprocess.Popen(
        command(config, killed), env=environment(), stderr=subprocess.PIPE, text=True
    )
    assert run.stderr is not None
    for line in run.stderr:
        if line.startswith("step 4/"):
            break
    run.send_signal(signal.SIGKILL)
    run.stderr.close()
    assert run.wait() == -signal.SIGKILL
    reached = state(killed / "checkpoint.pt")["step"]
    assert 3 <= reached < 30
    done = subprocess.run(
        command(config, killed), env=environment(), capture_output=True, text=True, check=True
    )
    assert f"step {reached + 1}/30" in done.stderr
    assert "validation" in done.stderr
    assert "pixels/s" in done.stderr
    assert str(killed / "checkpoint.pt") in done.stdout
    train.train(
        replace(config, output=straight, warmup=200, minutes_between_checkpoints=60)
    )  # the command's warm-up; how often it saves makes no difference
    assert_same(state(killed / "checkpoint.pt"), state(straight / "checkpoint.pt"))
    assert [int(row["step"]) for row in rows(killed)] == list(range(1, 31))
    # The network is ready for use.
    network = tmp_path / "mine.safetensors"
    subprocess.run(
        [sys.executable, "-m", "pixelzip", "freeze", killed / "checkpoint.pt", "-o", network],
        env=environment(), capture_output=True, check=True,
    )  # fmt: skip
    picture = next(config.data[0].glob("flower*.png"))
    data = pixelzip.compress(picture, network=str(network))
    with Image.open(picture) as image:
        back = pixelzip.decompress(data, networks=[str(network)])
        np.testing.assert_array_equal(np.asarray(back), np.asarray(image))


SEVERAL = """
import os, sys
from pathlib import Path
import torch
from pixelzip.models.training import train
from pixelzip.models.networks.photo import PhotoConfig

data, valid, output, stop = *map(Path, sys.argv[1:4]), int(sys.argv[4])
take_step, average = train.take_step, train.Average


def stopping(*arguments):
    if arguments[3] == stop:
        os._exit(0)
    return take_step(*arguments)


class Kept(average):
    def __init__(self, network):
        super().__init__(network)
        Kept.last, Kept.raw = self.network, network


train.take_step, train.Average = stopping, Kept
train.train(train.TrainConfig(
    (data,), (valid,), output, architecture=PhotoConfig(16, "MN", 8, 3), steps=4, batch=2,
    side=32, warmup=2, minutes_between_checkpoints=0, compile=False,
))
weights = Kept.raw.state_dict(), Kept.last.state_dict()
torch.save(weights, output / f"rank{os.environ['RANK']}.pt")
"""


def test_two_processes(config: train.TrainConfig, tmp_path: Path) -> None:
    """They end with the same weights, write one log, and resume exactly."""
    script = tmp_path / "several.py"
    script.write_text(SEVERAL)

    def run(output: Path, stop: int) -> None:
        subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone",
             "--nproc-per-node", "2", script, config.data[0], config.valid[0], output, str(stop)],
            env=environment(), check=True, capture_output=True, text=True,
        )  # fmt: skip

    straight, stopped = tmp_path / "together", tmp_path / "stopped"
    run(straight, -1)
    one, other = (state(straight / f"rank{rank}.pt") for rank in range(2))
    assert_same(list(one), list(other))
    found = state(straight / "checkpoint.pt")
    assert_same(found["network"], one[0])
    assert_same(found["average"], one[1])
    assert found["pixels"] == 4 * 2 * 2 * 32 * 32
    assert found["run"]["processes"] == 2
    # Each draws crops of its own.
    generators = found["generators"]
    assert len(generators) == 2
    assert generators[0] != generators[1]
    assert [int(row["step"]) for row in rows(straight)] == [1, 2, 3, 4]
    run(stopped, 2)
    assert state(stopped / "checkpoint.pt")["step"] == 2
    assert not (stopped / "rank0.pt").exists()
    run(stopped, -1)
    assert_same(state(stopped / "checkpoint.pt"), found)
    # One process cannot go on with what two have begun.
    with pytest.raises(TrainingError):
        train.train(replace(config, output=stopped, steps=4))


def test_two_processes_learn_from_both(
    config: train.TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their gradients are averaged: with the same crops, two are as one."""
    network, alone = tiny.photo(), tiny.photo()
    pictures = photographs.load(photographs.find(config.data), config.side)
    for photo, world in ((network, 2), (alone, 1)):
        monkeypatch.setattr(train.dist, "all_reduce", lambda gradient: gradient.mul_(2))
        crops = Crops(Album(pictures, np.random.default_rng(0)), config.side)
        train.take_step(photo, train.optimizers(photo, config), crops, 1, config, world)
    assert_same(dict(network.state_dict()), dict(alone.state_dict()))


# --- Photographs ---------------------------------------------------------------------------------


def gradient(width: int, height: int) -> Image.Image:
    row, column = np.mgrid[:height, :width]
    pixels = np.stack([row * 255 // height, column * 255 // width, (row + column) % 256], -1)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize(
    ("name", "size", "least"),
    [("usual.jpg", (900, 600), 2), ("small.webp", (300, 210), 1.5), ("exact.png", (900, 600), 1)],
)
def test_crops_are_shrunk_by_what_the_file_needs(
    name: str, size: tuple[int, int], least: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradient(*size).save(tmp_path / name)
    (picture,) = photographs.load([tmp_path / name], 64)
    assert picture.least == least
    assert picture.pixels.shape == (size[1], size[0], 3)
    assert picture.fits(int(min(size) / least))
    assert not picture.fits(int(min(size) / least) + 1)
    monkeypatch.setattr(photographs, "DRAWN_SHARE", 0)
    monkeypatch.setattr(photographs, "ENLARGED_SHARE", 0)
    album = Album([picture], np.random.default_rng(0), 0)
    # Red rises by 255 over the height: the more a crop is shrunk, the more of it it spans.
    factors = []
    for _ in range(100):
        crop = album.crop(64)
        assert crop.shape == (64, 64, 3)
        factors.append((int(crop[-1, 0, 0]) - int(crop[0, 0, 0])) / 63 * size[1] / 255)
    assert least - 0.1 < min(factors) < 1.2 * least
    assert max(factors) > 0.8 * min(size) / 64


def test_halved_and_blocks(tmp_path: Path) -> None:
    gradient(201, 131).convert("RGBA").save(tmp_path / "odd.png")
    picture = photographs.halved(tmp_path / "odd.png")
    assert picture.shape == (65, 100, 3)
    np.testing.assert_array_equal(
        photographs.validation([tmp_path / "odd.png"], 32), photographs.blocks([picture], 32)
    )
    cut = photographs.blocks([picture, picture[:32]], 32)
    assert cut.shape == (6 + 3, 32, 32, 3)
    np.testing.assert_array_equal(cut[1], picture[:32, 32:64])
    np.testing.assert_array_equal(cut[3], picture[32:64, :32])
    np.testing.assert_array_equal(cut[6:], cut[:3])


def test_folders(folders: tuple[Path, Path], tmp_path: Path) -> None:
    data, _ = folders
    found = photographs.find([data])
    assert [p.name for p in found if p.suffix == ".jpg"] == ["parrots.jpg"]  # in a folder below
    assert found == photographs.find([data])
    assert len(found) == 7
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(TrainingError, match="no images"):
        photographs.find([tmp_path])
    with pytest.raises(TrainingError, match="large enough"):
        photographs.load(found, 4000)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(TrainingError, match="broken"):
        photographs.load(photographs.find([tmp_path]), 32)
    whole = found[0].read_bytes()
    (tmp_path / "broken.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match="broken"):
        photographs.load(photographs.find([tmp_path]), 32)


def test_slivers_are_passed_over(tmp_path: Path) -> None:
    """An image of one pixel has no half; it is too small to learn from, not an error."""
    for size in ((1, 1), (1, 300), (300, 1), (200, 200)):
        gradient(*size).save(tmp_path / f"{size[0]}x{size[1]}.png")
    paths = photographs.find([tmp_path])
    assert [p.pixels.shape for p in photographs.load(paths, 64)] == [(200, 200, 3)]
    assert len(photographs.validation(paths, 64)) == 1


def test_held_out_pictures(config: train.TrainConfig) -> None:
    given_, valid = train.pictures(config)
    assert [p.name for p in valid] == ["parrots.png"]
    assert len(given_) == 7
    learnt, held_out = train.pictures(replace(config, valid=()))
    assert sorted(learnt + held_out) == sorted(given_)
    assert held_out
    assert learnt


def test_crops(crops: dict[str, NDArray[np.uint8]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A crop that nothing happens to is a piece of its picture, as it is, or mirrored, or grey."""
    picture = crops["bikes-96x64"]

    def draw(developed: float = 0) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        album = Album([Photograph(picture)], np.random.default_rng(3), developed)
        return Crops(album, 32).draw(300)

    windows = np.lib.stride_tricks.sliding_window_view(picture, (32, 32), (0, 1))
    pieces = {
        np.ascontiguousarray(w.transpose(1, 2, 0)).tobytes() for w in windows.reshape(-1, 3, 32, 32)
    }

    def changed(developed: float = 0) -> float:
        """The share of crops in colour that are none of the pieces."""
        colour = [c for c, w in zip(*draw(developed), strict=True) if w[1]]
        mirrors = [np.ascontiguousarray(c[:, ::-1]).tobytes() for c in colour]
        return np.mean([c.tobytes() not in pieces and m not in pieces
                        for c, m in zip(colour, mirrors, strict=True)])  # fmt: skip

    monkeypatch.setattr(photographs, "AS_IT_IS_SHARE", 1)
    monkeypatch.setattr(photographs, "ENLARGED_SHARE", 0)
    monkeypatch.setattr(photographs, "DRAWN_SHARE", 0)
    assert 0.4 < changed(0.5) < 0.6
    assert changed() == 0
    for share in ("ENLARGED_SHARE", "DRAWN_SHARE"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(photographs, share, 0.5)
            assert 0.35 < changed() < 0.6
    pixels, weights = draw()
    assert pixels.shape == (300, 32, 32, 3)
    assert weights.shape == (300, 3)
    grey = weights[:, 1] == 0
    assert 5 < grey.sum() < 40  # 6 %
    assert (weights[~grey] == 1).all()
    assert (weights[grey] == [1, 0, 0]).all()
    assert (pixels[grey] == pixels[grey][..., :1]).all()
    mirrored = [c.tobytes() not in pieces for c in pixels[~grey]]
    assert 0.35 < np.mean(mirrored) < 0.6
    np.testing.assert_array_equal(draw()[0], pixels)


@pytest.mark.parametrize("deliver", [photographs.scanned, cameras.photographed])
def test_developed_crops(
    deliver: Callable[[NDArray[np.uint8], np.random.Generator], NDArray[np.uint8]],
    crops: dict[str, NDArray[np.uint8]],
) -> None:
    """Cameras and scanners change the details of a picture and nothing else."""
    picture = crops["parrot-32x32"]
    crop = np.pad(picture, ((8, 8), (8, 8), (0, 0)), "symmetric")
    before = crop.copy()
    versions = [deliver(crop, np.random.default_rng(seed)) for seed in range(40)]
    np.testing.assert_array_equal(crop, before)
    assert len({v.tobytes() for v in versions}) == 40
    np.testing.assert_array_equal(versions[7], deliver(crop, np.random.default_rng(7)))
    for version in versions:
        assert version.dtype == np.uint8
        assert version.shape == crop.shape
        assert np.abs(version.mean((0, 1)) - crop.mean((0, 1))).max() < 8
        assert np.corrcoef(version.ravel(), crop.ravel())[0, 1] > 0.8
    detail = [np.abs(np.diff(v.astype(int), axis=1)).mean() for v in (crop, *versions)]
    assert min(detail[1:]) < detail[0] < max(detail[1:])  # softer ones, sharper or grainier ones
    small = photographs.developed(picture, np.random.default_rng(0))
    assert small.shape == picture.shape


@pytest.mark.parametrize("method", cameras.METHODS)
@pytest.mark.parametrize("phase", range(4))
def test_demosaicing(method: Callable[[cameras.Floats], cameras.Floats], phase: int) -> None:
    """What the sensor saw stays; what is flat, or rises evenly without colour, is found again."""
    rng = np.random.default_rng(phase)
    light = rng.random((12, 16, 3), np.float32)
    mosaic = cameras.sampled(light, phase)
    seen = ~np.isnan(mosaic)
    assert (seen.sum(2) == 1).all()
    assert seen.sum((0, 1)).tolist() == [48, 96, 48]
    np.testing.assert_allclose(method(mosaic)[seen], light[seen], rtol=1e-5)
    flat = np.broadcast_to(np.array([0.2, 0.5, 0.9], np.float32), (12, 16, 3))
    np.testing.assert_allclose(method(cameras.sampled(flat, phase)), flat, rtol=1e-5)
    row, column = np.mgrid[:12, :16]
    ramp = np.repeat((row * 0.03 + column * 0.02)[..., None], 3, 2).astype(np.float32)
    found = method(cameras.sampled(ramp, phase))
    np.testing.assert_allclose(found[3:-3, 3:-3], ramp[3:-3, 3:-3], atol=1e-5)


def test_denoising_keeps_edges() -> None:
    rng = np.random.default_rng(0)
    clean = np.zeros((32, 32, 3), np.float32)
    clean[:, 16:] = 0.8
    noisy = clean + 0.01 * rng.standard_normal(clean.shape, np.float32)
    left = cameras.denoised(noisy, 0.05, 2)
    assert np.abs(left - clean)[:, 4:12].mean() < 0.6 * np.abs(noisy - clean)[:, 4:12].mean()
    assert np.abs(left - clean)[2:-2, 14:18].max() < 0.05


def test_drawings_cover_a_part(crops: dict[str, NDArray[np.uint8]]) -> None:
    picture = crops["parrot-32x32"]
    drawn = [drawings.drawn_on(picture, np.random.default_rng(seed)) for seed in range(60)]
    np.testing.assert_array_equal(drawn[3], drawings.drawn_on(picture, np.random.default_rng(3)))
    covered = [(d != picture).any(2).mean() for d in drawn]
    assert np.median(covered) > 0.05
    assert np.mean(covered) < 0.8
    for thing in set(drawings.THINGS):
        image = Image.fromarray(np.zeros((48, 48, 3), np.uint8))
        for seed in range(20):
            thing(ImageDraw.Draw(image), np.random.default_rng(seed))
        assert np.asarray(image).any()


def test_grey_crops_teach_the_first_sub_pixel_only(config: train.TrainConfig) -> None:
    class Grey:
        def draw(self, count: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
            rng = np.random.default_rng(0)
            level = rng.integers(0, 256, (count, 32, 32, 1), dtype=np.uint8)
            weights = np.zeros((count, 3), np.float32)
            weights[:, 0] = 1
            return np.repeat(level, 3, 3), weights

    network = tiny.photo()
    before = {name: p.clone() for name, p in network.state_dict().items()}
    pixels, _ = Grey().draw(2)
    with torch.no_grad():
        expected = -network(torch.from_numpy(pixels))[..., 0].mean() / np.log(2)
    loss = train.take_step(network, train.optimizers(network, config), Grey(), 1, config, 1)  # type: ignore[arg-type]
    assert loss == pytest.approx(float(expected), rel=0.02)  # one of them may be in bfloat16
    for name, parameter in network.state_dict().items():
        if name.startswith(("heads.1", "heads.2")):
            assert torch.equal(parameter, before[name])
    assert not torch.equal(network.state_dict()["heads.0.weight"], before["heads.0.weight"])


def test_larger_pictures_are_drawn_more_often(monkeypatch: pytest.MonkeyPatch) -> None:
    small = np.zeros((40, 40, 3), np.uint8)
    large = np.full((80, 120, 3), 255, np.uint8)
    monkeypatch.setattr(photographs, "DRAWN_SHARE", 0)
    both = [Photograph(small), Photograph(large)]
    pixels, _ = Crops(Album(both, np.random.default_rng(0), 0), 32).draw(400)
    assert np.mean(pixels[:, 0, 0, 0] > 128) == pytest.approx(6 / 7, abs=0.06)
    vast = np.broadcast_to(np.uint8(255), (2000, 2000, 3))
    less = np.zeros((400, 500, 3), np.uint8)
    shares = Album([Photograph(less), Photograph(vast)], np.random.default_rng(0)).shares
    np.testing.assert_allclose(shares, 0.5)
