"""Pictures that a network draws."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray
from PIL import Image
from toys import Toy

import pixelzip
from pixelzip import grid
from pixelzip.codec.errors import (
    LimitError,
    UnknownNetworkError,
    UnsuitableNetworkError,
    UnsupportedImageError,
)
from pixelzip.models import zoo
from pixelzip.models.freezing import freeze

COMMAND = str(Path(sys.executable).with_name("pixelzip"))
ZOO = Path(zoo.__file__).parent

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture(scope="module")
def network(crops: dict[str, NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny frozen network's file."""
    path = tmp_path_factory.mktemp("network") / "small.safetensors"
    tensors = tiny.photo().freeze(tiny.sample(crops.values())[:8])
    freeze.write(path, tensors, tiny.CONFIG, "a test")
    return path


@pytest.fixture
def run(tmp_path: Path, network: Path, crop_paths: list[Path]) -> Run:
    """Run the command in a folder with a network and a photograph; check its exit status."""
    (tmp_path / "small.safetensors").symlink_to(network)
    (tmp_path / "photo.png").symlink_to(next(p for p in crop_paths if p.stem == "parrot-32x32"))

    def run(*arguments: object, status: int = 0) -> subprocess.CompletedProcess[bytes]:
        command = [COMMAND, *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=300, check=False)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert done.returncode == status, done.stderr.decode()
        return done

    return run


def array(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image)


# --- The commands ---------------------------------------------------------------------------------


def test_sample(run: Run, tmp_path: Path) -> None:
    options = ("sample", "--network", "small.safetensors", "-n", 6, "--size", "12x8", "--scale", 3)
    done = run(*options, "-o", "grid.png", "--seed", 0)
    assert done.stdout == b"small.safetensors -> grid.png: 6 pictures of 12 x 8\n"
    assert done.stderr == b""
    drawn = array(tmp_path / "grid.png")
    expected = pixelzip.sample(str(tmp_path / "small.safetensors"), 6, width=12, height=8)
    assert [image.size for image in expected] == [(12, 8)] * 6
    assert np.array_equal(drawn, np.asarray(grid.arrange(expected, 3)))
    before = (tmp_path / "grid.png").read_bytes()
    done = run(*options, "-o", "grid.png", "--seed", 1, status=1)
    assert b"grid.png exists already; add --force to overwrite it" in done.stderr
    run(*options, "-o", "same.png", "--threads", 2, "--quiet", "--device", "cpu")
    assert (tmp_path / "same.png").read_bytes() == before
    run(*options, "--output", "grid.png", "--seed", 1, "--force")
    assert (tmp_path / "grid.png").read_bytes() != before


def test_complete(run: Run, tmp_path: Path) -> None:
    options = ("complete", "photo.png", "--network", "small.safetensors", "--count", 4)
    done = run(*options, "--keep-top", 0.75, "-o", "grid.png", "--scale", 1)
    assert done.stdout == b"photo.png -> grid.png: 4 completions that keep 24 of 32 rows\n"
    drawn = array(tmp_path / "grid.png")
    assert drawn.shape == (2 * 34 + 2, 3 * 34 + 2, 3)
    original = array(tmp_path / "photo.png")
    cells = [drawn[top : top + 32, left : left + 32] for top in (2, 36) for left in (2, 36, 70)]
    assert np.array_equal(cells[0], original)
    assert (cells[1][24:] == grid.GREY).all()
    for cell in cells[1:]:
        assert np.array_equal(cell[:24], original[:24])
    lower = [cell[24:].tobytes() for cell in cells]
    assert len(set(lower)) == 6
    run(*options, "--keep-top", 0.75, "-o", "other.png", "--scale", 1, "--seed", 3)
    assert (tmp_path / "other.png").read_bytes() != (tmp_path / "grid.png").read_bytes()


def test_what_cannot_be_drawn(run: Run) -> None:
    sample = ("sample", "--network", "small.safetensors")
    done = run(*sample, "--class", 2, "-o", "grid.png", status=1)
    assert b"the network small.safetensors has no classes: leave out class 2" in done.stderr
    done = run("compress", "photo.png", "--network", "small.safetensors", "--class", 0, status=1)
    assert b"photo.png: error: the network small.safetensors has no classes" in done.stderr
    assert b"32 is not of the form" in run(*sample, "--size", "32", "-o", "a.png", status=2).stderr
    done = run(*sample, "-o", "grid.jpg", status=1)
    assert b"a grid is a PNG file, so name it .png and not grid.jpg" in done.stderr
    done = run("complete", "none.png", "-o", "grid.png", status=1)
    assert done.stderr == b"none.png: error: No such file or directory\n"


def test_every_help_has_examples_and_every_option_is_tried_here(run: Run) -> None:
    here = Path(__file__).read_text() + '"--help"'
    for command in ("sample", "complete"):
        text = run(command, "--help").stdout.decode()
        assert f"    pixelzip {command} " in text
        for option in re.findall(r"--[a-z-]+", text):
            assert f'"{option}' in here, f"{command} {option}"


# --- From Python ----------------------------------------------------------------------------------


def test_samples_that_cannot_be(network: Path) -> None:
    name = str(network)
    with pytest.raises(UnsuitableNetworkError, match="2-channel"):
        pixelzip.sample(name, channels=2)
    with pytest.raises(UnsuitableNetworkError, match="only a network can draw"):
        pixelzip.sample("none")
    with pytest.raises(UnknownNetworkError):
        pixelzip.sample("fotos")
    with pytest.raises(LimitError, match="4096"):
        pixelzip.sample(name, width=4097)
    for wrong in ({"count": 0}, {"width": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=r"at least|non-negative"):
            pixelzip.sample(name, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedImageError, match="its mode is RGBA"):
        pixelzip.complete(Image.new("RGBA", (8, 8)), network=name)
    with pytest.raises(ValueError, match="from 0 to 1"):
        pixelzip.complete(Image.new("RGB", (8, 8)), network=name, keep_top=1.5)


def test_grey_pictures_are_drawn_and_completed(network: Path) -> None:
    seen: list[float] = []
    images = pixelzip.sample(
        str(network), 3, width=10, height=6, channels=1, threads=1, progress=seen.append
    )
    assert {(image.mode, image.size) for image in images} == {("L", (10, 6))}
    assert seen == sorted(seen)
    assert seen[-1] == 1
    kept = pixelzip.complete(images[0], 2, network=str(network), keep_top=1)
    assert [image.tobytes() for image in kept] == [images[0].tobytes()] * 2
    done = pixelzip.complete(images[0], 2, network=str(network), keep_top=0)
    assert done[0].tobytes() == images[0].tobytes()  # of the same seed, and nothing was known
    assert done[1].tobytes() == images[1].tobytes()


def test_a_class_is_the_network_s(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy("raster", classes=4, coded=[1])
    monkeypatch.setattr(zoo, "load", lambda *_, **__: toy)
    in_turn = pixelzip.sample("toy", 6, width=9, height=9)
    assert in_turn[0].mode == "L"
    of_2 = pixelzip.sample("toy", 6, width=9, height=9, label=2)
    same = [a.tobytes() == b.tobytes() for a, b in zip(in_turn, of_2, strict=True)]
    assert same == [False, False, True, True, False, False]  # the toy's classes are alike by twos
    big = pixelzip.sample("toy", 1, width=30, height=30, label=2)[0]
    small = [pixelzip.compress(big, network="toy", label=label) for label in (2, 3)]
    assert len(small[0]) == len(small[1]) < len(pixelzip.compress(big, network="toy", label=0))
    assert pixelzip.compress(big, network="toy") == small[0]
    with pytest.raises(UnsuitableNetworkError, match="no class 4, only 0 to 3"):
        pixelzip.compress(big, network="toy", label=4)
    with pytest.raises(UnsuitableNetworkError, match="name the network"):
        pixelzip.compress(big, label=1)
    with pytest.raises(UnsuitableNetworkError, match="nothing of RGB"):
        pixelzip.complete(big.convert("RGB"), network="toy")


def test_a_grid_is_nearly_square() -> None:
    images = [Image.new("L", (30, 10), number) for number in range(10)]
    drawn = np.asarray(grid.arrange(images, 2))
    assert drawn.shape == (5 * 22 + 2, 2 * 62 + 2)
    for number in range(10):
        top, left = 2 + 22 * (number // 2), 2 + 62 * (number % 2)
        assert (drawn[top : top + 20, left : left + 60] == number).all()
    assert (drawn[:2] == 255).all()
    assert (drawn[:, -2:] == 255).all()
    assert grid.arrange([Image.new("RGB", (32, 32))] * 16).size == (4 * 98 + 2, 4 * 98 + 2)
    assert grid.arrange([Image.new("RGB", (500, 400))]).size == (504, 404)
