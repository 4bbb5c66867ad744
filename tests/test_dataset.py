"""Datasets of .pxz files, bits in theory, tensors, and networks of one's own in folders."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader

import pixelzip
from pixelzip.cli import cli
from pixelzip.dataset import PxzFolder
from pixelzip.models import zoo


def images(count: int = 5) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(4)
    return [random.integers(0, 256, (8, 9, 3), np.uint8) for _ in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, image in enumerate(images()):
        place = tmp_path / "data" / ("cat" if number % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.pxz").write_bytes(pixelzip.compress(image, network="none"))
    return tmp_path / "data"


def test_a_folder_is_a_dataset(folder: Path) -> None:
    data: PxzFolder[NDArray[np.uint8]] = PxzFolder(folder)
    order = [1, 3, 0, 2, 4]  # by path: those of cats come first
    assert len(data) == 5
    for number, expected in enumerate(order):
        np.testing.assert_array_equal(data[number], images()[expected])
    labelled = PxzFolder(folder, transform=lambda image: int(image[0, 0, 0]), labelled=True)
    assert labelled.classes == ["cat", "dog"]
    assert [labelled[n] for n in range(5)] == [
        (int(images()[expected][0, 0, 0]), 1 - expected % 2) for expected in order
    ]


def test_torch_loads_batches(folder: Path) -> None:
    data = PxzFolder(folder, transform=lambda image: torch.from_numpy(image).permute(2, 0, 1))
    batches = list(DataLoader(data, batch_size=2))  # type: ignore[arg-type]
    assert [batch.shape for batch in batches] == [(2, 3, 8, 9), (2, 3, 8, 9), (1, 3, 8, 9)]
    np.testing.assert_array_equal(batches[0][1].permute(1, 2, 0), images()[3])


def test_folders_that_are_no_datasets(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        PxzFolder(tmp_path / "empty")
    (folder / "loose.pxz").write_bytes(b"")
    with pytest.raises(ValueError, match="no class"):
        PxzFolder(folder, labelled=True)
    with pytest.raises(pixelzip.FormatError):
        PxzFolder(folder)[5]


def test_tensors_go_in() -> None:
    (image,) = images(1)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    assert pixelzip.compress(tensor, network="none") == pixelzip.compress(image, network="none")
    for other in ([1, 2], None, 5):
        with pytest.raises(pixelzip.PixelzipError, match="give a path, a Pillow image"):
            pixelzip.compress(other)  # type: ignore[arg-type]


def test_bits_in_theory_are_those_of_the_file(crop_paths: list[Path]) -> None:
    path = next(path for path in crop_paths if path.stem == "flower-64x48")
    bits = pixelzip.ideal_bits(path)
    data = pixelzip.compress(path, network="photo", origin="none", strip=True)
    assert bits.shape == (48, 64)
    np.testing.assert_allclose(bits, pixelzip.cost_map(data), atol=1e-3)
    done = CliRunner().invoke(cli, ["bits", str(path), "--json"])
    assert done.exit_code == 0
    record = json.loads(done.stdout.splitlines()[0])
    assert record["ideal_bits"] == pytest.approx(bits.sum(), rel=1e-5)
    assert record["file_bits"] == 8 * len(data)
    assert 0 < record["file_bits"] - record["ideal_bits"] < 8 * 24
    with pytest.raises(pixelzip.UnsuitableNetworkError, match="mode I;16"):
        pixelzip.ideal_bits(np.zeros((4, 4), np.uint16))
    with pytest.raises(pixelzip.UnsuitableNetworkError):
        pixelzip.ideal_bits(path, network="none")


def test_retired_networks_decode_and_code_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crop_paths: list[Path]
) -> None:
    """Another network has taken its name; what it coded still comes back, and says by what."""
    shipped, moved = Path(zoo.__file__).parent, tmp_path / "zoo"
    image = np.asarray(Image.open(crop_paths[0]).convert("RGB"))[:24, :24]
    data = pixelzip.compress(image, network="tiny", origin="none")
    (moved / "retired").mkdir(parents=True)
    shutil.copy(shipped / "photo.safetensors", moved / "tiny.safetensors")
    monkeypatch.setattr(zoo, "_FOLDER", moved)
    with pytest.raises(pixelzip.UnknownNetworkError):
        pixelzip.decompress(data)
    shutil.copy(shipped / "tiny.safetensors", moved / "retired" / "tiny-1.0.safetensors")
    zoo._entries.cache_clear()  # that they are retired is no change while a program runs
    assert np.array_equal(np.asarray(pixelzip.decompress(data)), image)
    assert pixelzip.info(data).networks == ("tiny-1.0",)
    assert zoo.names() == [one["name"] for one in zoo.describe()] == ["tiny"]
    assert pixelzip.compress(image, network="tiny", origin="none") != data
    with pytest.raises(pixelzip.UnknownNetworkError):
        pixelzip.compress(image, network="tiny-1.0")


def test_the_zoo_is_small_and_its_networks_are_told_apart() -> None:
    """A small picture's file names a network by two bytes of its fingerprint."""
    files = sorted(Path(zoo.__file__).parent.rglob("*.safetensors"))
    assert sum(path.stat().st_size for path in files) < 25_000_000
    starts = [zoo.load(str(path)).fingerprint[:2] for path in files]
    assert len(files) == len(set(starts)) >= len(zoo.names())


def test_networks_of_ones_own_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crop_paths: list[Path]
) -> None:
    """By name and by fingerprint, for Pillow too; other files in the folder do no harm."""
    flower = next(path for path in crop_paths if path.stem == "flower-64x48")
    image = np.asarray(Image.open(flower))[:24, :24]
    shipped = Path(zoo.__file__).parent
    original = shipped / "tiny.safetensors"
    (tmp_path / "zoo").mkdir()
    shutil.copy(shipped / "photo.safetensors", tmp_path / "zoo")
    monkeypatch.setattr(zoo, "_FOLDER", tmp_path / "zoo")
    data = pixelzip.compress(image, network=str(original), origin="none")
    for variable, place in (
        ("PIXELZIP_NETWORKS", tmp_path / "mine"),
        ("XDG_DATA_HOME", tmp_path / "share"),
    ):
        folder = place if variable == "PIXELZIP_NETWORKS" else place / "pixelzip" / "networks"
        with pytest.raises(pixelzip.UnknownNetworkError):
            pixelzip.decompress(data)
        folder.mkdir(parents=True)
        (folder / "junk.safetensors").write_bytes(b"junk")
        shutil.copy(original, folder / "mine.safetensors")
        with monkeypatch.context() as patch:
            patch.setenv(variable, str(place))
            assert np.array_equal(Image.open(io.BytesIO(data)), image)
            assert pixelzip.compress(image, network="mine", origin="none") == data
