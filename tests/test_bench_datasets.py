"""Datasets in the very files that people have them in, and what is said where they are not."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pixelzip.bench import datasets
from pixelzip.bench.datasets import Dataset, DatasetError
from pixelzip.models.training.photographs import blocks

COMMAND = str(Path(sys.executable).with_name("pixelzip"))
CIFAR = Path(__file__).resolve().parents[2] / "shared" / "data" / "cifar10" / "batch_2.png"
NOWHERE = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": ""}

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def small(crops: dict[str, Pixels]) -> Pixels:
    """(12, 32, 32, 3): images of CIFAR-10 where they are at hand, else as many like them."""
    if CIFAR.exists():
        with Image.open(CIFAR) as sheet:
            return np.asarray(sheet)[500:512].reshape(-1, 32, 32, 3)
    return blocks(list(crops.values()), 32)[:12]


def pixels(dataset: Dataset) -> list[NDArray[Any]]:
    return [item.load() for item in dataset.items]


def planes(images: Pixels) -> Pixels:
    """(n, 3072): red, green and blue one after the other, as CIFAR and ImageNet have them."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)


def offline(*arguments: object) -> str:
    """The one sentence of a real process that cannot reach any network."""
    done = subprocess.run(
        [COMMAND, "bench", "--peers", "none", *map(str, arguments)],
        env={**os.environ, **NOWHERE},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


# Named datasets.


def cifar10(folder: Path, small: Pixels, monkeypatch: pytest.MonkeyPatch) -> Path:
    """CIFAR-10's archive of 12 images, as its reader wants it: members, names and checksums."""
    torchvision = pytest.importorskip("torchvision.datasets")
    members = {
        f"data_batch_{n}": {"data": planes(small[n : n + 1]), "labels": [n]} for n in range(1, 6)
    }
    members["test_batch"] = {"data": planes(small[6:]), "labels": [0] * 6}
    members["batches.meta"] = {"label_names": [str(n) for n in range(10)]}
    archive = folder / "cifar-10-python.tar.gz"
    sums = {}
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in members.items():
            data = pickle.dumps(content, protocol=2)
            sums[name] = hashlib.md5(data).hexdigest()
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    reader = torchvision.CIFAR10
    monkeypatch.setattr(reader, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(
        reader, "train_list", [[f"data_batch_{n}", sums[f"data_batch_{n}"]] for n in range(1, 6)]
    )
    monkeypatch.setattr(reader, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(reader, "meta", {**reader.meta, "md5": sums["batches.meta"]})
    for name, value in NOWHERE.items():
        monkeypatch.setenv(name, value)
    return archive


def test_cifar10(tmp_path: Path, small: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its archive is put there by hand, unpacked, read, and read again without it."""
    archive = cifar10(tmp_path, small, monkeypatch)
    test = datasets.load("cifar10", data_dir=tmp_path)
    assert test.name == "cifar10, test"
    assert np.array_equal(pixels(test), small[6:])
    archive.unlink()
    train = datasets.load("cifar10", split="train", data_dir=tmp_path)
    assert np.array_equal(pixels(train), small[1:6])


def test_damaged_cifar10(tmp_path: Path, small: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = cifar10(tmp_path, small, monkeypatch)
    damaged = bytearray(archive.read_bytes())
    damaged[100] ^= 1
    archive.write_bytes(damaged)
    with pytest.raises(DatasetError, match="is damaged there, and cannot be downloaded"):
        datasets.load("cifar10", data_dir=tmp_path)


def test_offline(tmp_path: Path) -> None:
    """The sentence says what to put where."""
    pytest.importorskip("torchvision")
    said = offline("--dataset", "cifar100", "--data-dir", tmp_path)
    assert f"put https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz into {tmp_path}" in said
    said = offline("--dataset", "fashion-mnist", "--data-dir", tmp_path)
    assert "t10k-images-idx3-ubyte.gz" in said
    assert f"into {tmp_path / 'FashionMNIST' / 'raw'}" in said
    said = offline("--dataset", "kodak", "--data-dir", tmp_path)
    assert f"kodim01.png is not in {tmp_path / 'kodak'} and cannot be downloaded" in said
    assert not list((tmp_path / "kodak").iterdir())


def test_mnist(tmp_path: Path, small: Pixels) -> None:
    """In the unpacked files of its own format: two magic bytes, dimensions, values."""
    pytest.importorskip("torchvision")
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    grey = np.ascontiguousarray(small[:, :28, :28, 1])

    def idx(array: NDArray[np.uint8]) -> bytes:
        sizes = np.array(array.shape, ">u4").tobytes()
        return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()

    for name, images in (("train", grey[:5]), ("t10k", grey[5:])):
        (raw / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        (raw / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.zeros(len(images), np.uint8)))
    assert np.array_equal(pixels(datasets.load("mnist", data_dir=tmp_path)), grey[5:])
    train = datasets.load("mnist", split="train", data_dir=tmp_path)
    assert np.array_equal(pixels(train), grey[:5])
    (raw / "t10k-images-idx3-ubyte").write_bytes(idx(grey[5:])[:-1])
    with pytest.raises(DatasetError, match="mnist"):
        datasets.load("mnist", data_dir=tmp_path)


def test_imagenet(tmp_path: Path, small: Pixels) -> None:
    with pytest.raises(DatasetError, match=r"put val_data\.npz into"):
        datasets.load("imagenet32", data_dir=tmp_path)
    folder = tmp_path / "imagenet32"
    folder.mkdir()
    labels = np.arange(4)
    np.savez(folder / "val_data.npz", data=planes(small[:4]), labels=labels)
    for n in (1, 2, 10):  # in the order of their numbers
        np.savez(folder / f"train_data_batch_{n}.npz", data=planes(small[n : n + 1]), labels=[1])
    validation = datasets.load("imagenet32", data_dir=tmp_path)
    assert np.array_equal(pixels(validation), small[:4])
    train = datasets.load("imagenet32", split="train", data_dir=tmp_path)
    assert np.array_equal(pixels(train), small[[1, 2, 10]])
    (folder / "val_data.npz").write_bytes((folder / "val_data.npz").read_bytes()[:-50])
    with pytest.raises(DatasetError, match="is damaged"):
        datasets.load("imagenet32", data_dir=tmp_path)


def test_kodak(tmp_path: Path, photo_path: Path, crop_paths: list[Path]) -> None:
    """The photograph of the examples is one of the 24; another picture of that name is not."""
    (tmp_path / "kodak").mkdir()
    shutil.copy(photo_path, tmp_path / "kodak" / "kodim23.png")
    shutil.copy(crop_paths[0], tmp_path / "kodak" / "kodim22.png")
    items = datasets.load("kodak", data_dir=tmp_path).items
    assert len(items) == 24
    with Image.open(photo_path) as photo:
        assert np.array_equal(items[22].load(), np.asarray(photo))
    with pytest.raises(DatasetError, match=r"kodim22\.png is not the Kodak image of that name"):
        items[21].load()


# Images of the user's own.


def test_folder_glob_and_file(tmp_path: Path, crop_paths: list[Path]) -> None:
    (tmp_path / "below").mkdir()
    for path in crop_paths[:2]:
        shutil.copy(path, tmp_path)
    with Image.open(crop_paths[2]) as image:
        image.quantize(16).save(tmp_path / "below" / "palette.png")
        colours = np.asarray(image.quantize(16).convert("RGB"))
    (tmp_path / "notes.txt").write_text("no image")
    names = ["below/palette.png", *(path.name for path in crop_paths[:2])]
    folder = datasets.load(str(tmp_path))
    assert [item.name for item in folder.items] == names
    assert np.array_equal(folder.items[0].load(), colours)
    found = datasets.load(str(tmp_path / "*.png"))
    assert [Path(item.name).name for item in found.items] == names[1:]
    assert len(datasets.load(str(tmp_path / names[1])).items) == 1


def test_arrays(tmp_path: Path, small: Pixels) -> None:
    np.save(tmp_path / "a.npy", small[..., :1])
    np.savez(tmp_path / "a.npz", one=small[:2], two=small[..., 0] > 100)
    assert np.array_equal(pixels(datasets.load(str(tmp_path / "a.npy"))), small[..., 0])
    both = datasets.load(str(tmp_path / "a.npz"))
    assert [item.name for item in both.items][:3] == ["one/0", "one/1", "two/0"]
    assert both.items[2].load().dtype == np.bool_


def test_limit_and_seed(tmp_path: Path, small: Pixels) -> None:
    np.save(tmp_path / "a.npy", small)
    source = str(tmp_path / "a.npy")

    def names(**options: Any) -> list[int]:
        return [int(item.name) for item in datasets.load(source, **options).items]

    assert names(limit=3) == [0, 1, 2]
    drawn = names(limit=5, seed=1)
    assert drawn == names(limit=5, seed=1) == sorted(set(drawn))
    assert drawn != names(limit=5, seed=2)
    assert names(limit=50) == list(range(12))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.npy", b"", "cannot be read as numpy arrays"),
        ("a.npz", b"PK\3\4", "cannot be read as numpy arrays"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "cannot be read as an image"),
    ],
)
def test_damaged_files(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=rf"{name}.*{said}"):
        pixels(datasets.load(str(tmp_path / name)))


def test_what_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"neither a file.*nor one of cifar10"):
        datasets.load("cifar11")
    with pytest.raises(DatasetError, match="no images"):
        datasets.load(str(tmp_path))
    with pytest.raises(DatasetError, match="has no splits"):
        datasets.load(str(tmp_path), split="train")
    np.save(tmp_path / "floats.npy", np.zeros((2, 3, 3)))
    with pytest.raises(DatasetError, match="float64"):
        datasets.load(str(tmp_path / "floats.npy"))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DatasetError, match="numpy arrays"):
        datasets.load(str(tmp_path / "objects.npy"))
