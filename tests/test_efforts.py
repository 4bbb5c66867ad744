"""Efforts: which networks make a picture's file, and that any of them decodes."""

from __future__ import annotations

import io
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

import pixelzip
from pixelzip import coding
from pixelzip.bench.command import bench
from pixelzip.bench.engine import multiplications
from pixelzip.cli import cli
from pixelzip.commands.compress import compress
from pixelzip.models import zoo
from pixelzip.models.frozen import file

FAST = ("--effort", "fast", "--origin", "none")

Crops = dict[str, NDArray[np.uint8]]


def test_fast_files_are_of_the_network_fast(crops: Crops) -> None:
    pixels = crops["bikes-96x64"]
    usual, fast = (
        pixelzip.compress(pixels, origin="none", effort=effort) for effort in ("photo", "fast")
    )
    assert set(pixelzip.info(usual).networks) < set(coding.OF_PHOTOGRAPHS["colour"])
    assert pixelzip.info(fast).networks == ("fast",)
    assert len(usual) < len(fast) < 1.1 * len(usual)
    assert np.array_equal(pixelzip.decompress_array(fast), pixels)


def test_fast_does_a_third_of_the_work() -> None:
    def work(name: str) -> int:
        return multiplications(file.read(Path(zoo.__file__).with_name(f"{name}.safetensors"))[0])

    assert work("fast") < 0.35 * work("photo")


def test_fast_is_for_small_pictures_too(crops: Crops) -> None:
    pixels = crops["parrot-32x32"]
    assert pixelzip.info(pixelzip.compress(pixels, origin="none")).networks == ("tiny",)
    fast = pixelzip.compress(pixels, origin="none", effort="fast")
    assert pixelzip.info(fast).networks == ("fast",)
    assert np.array_equal(pixelzip.decompress_array(fast), pixels)


def test_planes_have_the_networks_that_they_have_with_any_effort(crops: Crops) -> None:
    pixels = crops["flower-64x48"]
    for picture in (pixels[..., 1], pixels.astype(np.uint16) * 256 + 77):
        usual, fast = (pixelzip.compress(picture, effort=effort) for effort in ("photo", "fast"))
        assert np.array_equal(pixelzip.decompress_array(fast), picture)
        replaced = dict.fromkeys(coding.OF_PHOTOGRAPHS["colour"], "fast")
        expected = {replaced.get(name, name) for name in pixelzip.info(usual).networks}
        assert set(pixelzip.info(fast).networks) == expected


def test_a_network_that_is_named_is_taken(crops: Crops) -> None:
    pixels = crops["bikes-96x64"]
    named = pixelzip.compress(pixels, network="photo", origin="none", effort="fast")
    assert pixelzip.info(named).networks == ("photo",)
    assert pixelzip.compress(pixels, network="fast") == pixelzip.compress(pixels, effort="fast")


@pytest.mark.parametrize("command", [compress, bench])
def test_commands_know_the_efforts(command: click.Command) -> None:
    (option,) = [option for option in command.params if "--effort" in option.opts]
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(coding.EFFORTS)


def test_the_command_line(crop_paths: list[Path], tmp_path: Path) -> None:
    (path,) = [path for path in crop_paths if path.stem == "bikes-96x64"]
    made = tmp_path / "made.pxz"
    run = CliRunner().invoke(cli, ["compress", str(path), "-o", str(made), *FAST])
    assert run.exit_code == 0, run.output
    assert "networks: fast" in CliRunner().invoke(cli, ["info", str(made)]).output
    back = CliRunner().invoke(cli, ["decompress", str(made), "-o", str(tmp_path / "back.png")])
    assert back.exit_code == 0, back.output
    assert pixelzip.compress(path, origin="none", effort="fast") == made.read_bytes()


def test_pillow(crops: Crops) -> None:
    made = io.BytesIO()
    Image.fromarray(crops["bikes-96x64"]).save(made, "PXZ", origin="none", effort="fast")
    assert pixelzip.info(made.getvalue()).networks == ("fast",)
