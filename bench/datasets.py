"""What is measured: named datasets, or any folder, glob, ``.npy`` or ``.npz`` of images.

Every image is a numpy array, as `pixelzip.compress` takes it: (height, width) or (height, width,
channels) of uint8, uint16 or bool. Metadata stays behind, because each format keeps other kinds of
it: what is compared is pixels.

Named datasets lie in a cache folder. Those that may be fetched are fetched there once and checked
(MD5 of torchvision for CIFAR and MNIST, SHA-256 of the pixels for Kodak); ImageNet has to be put
there by hand.
"""

from __future__ import annotations

import glob
import hashlib
import os
import pickle
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelzip import files, jpegs, pictures, sources
from pixelzip.codec.errors import PixelzipError

Pixels = NDArray[Any]
"""(height, width) or (height, width, channels) of uint8, uint16 or bool."""

TORCHVISION = {
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
}
"""The datasets that torchvision fetches and reads, and its names for them."""
IMAGENET = {"imagenet32": 32, "imagenet64": 64}
KODAK_URL = "https://r0k.us/graphics/kodak/kodak/"
KODAK = [
    "a002107433535944", "ae5a495df4ec40e0", "234e61f585503f2a", "e88e788fca00e6c7",
    "ed3d1ee770909d3b", "7f45158999fa297d", "4e3664bf6fe865b4", "889c3740e4ed54ca",
    "f8453140e63a4230", "fabe11b5c4f02839", "ab4dd9bf8431e717", "f412db2168e59994",
    "875703d56fb9396f", "2bd5029ee75ac169", "b5353e7511277009", "ed21745fd32fce95",
    "566bc866664e9b06", "3475af71066f3ca8", "7956408ef24222d3", "666ce8f2db5566a1",
    "2d6902daf7c4486b", "f430842120c108b6", "81992a83592267e6", "e3e3ccc3e795b82a",
]  # fmt: skip
"""The first 16 hexadecimal digits of the SHA-256 of each Kodak image's pixels, in their order."""
NAMES = (*TORCHVISION, *IMAGENET, "kodak")
TIMEOUT = 60.0  # seconds


class DatasetError(PixelzipError):
    """The dataset is not there, is damaged, or has no images."""


@dataclass(frozen=True)
class Item:
    """One image: its name, and how to get its pixels."""

    name: str
    load: Callable[[], Pixels]
    jpeg: Path | None = None
    """The JPEG file that it is decoded from, if it is."""


@dataclass(frozen=True)
class Dataset:
    """Images in a fixed order, loaded one at a time."""

    name: str
    items: Sequence[Item]


def cache_folder() -> Path:
    """Where datasets lie if nobody says otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pixelzip"


def load(
    source: str,
    *,
    split: str | None = None,
    limit: int | None = None,
    seed: int | None = None,
    data_dir: Path | None = None,
) -> Dataset:
    """A dataset by its name, or the images of a folder, file, glob, ``.npy`` or ``.npz``.

    ``split`` is "train" or "test" (the default) for those named datasets that have both. ``limit``
    keeps the first images or, with a ``seed``, a random subset, in the dataset's order.
    ``data_dir`` is the cache folder.

    Raises DatasetError in all the ways in which this can fail.
    """
    folder = cache_folder() if data_dir is None else data_dir
    if split is not None and source not in (*TORCHVISION, *IMAGENET):
        raise DatasetError(f"{source} has no splits: leave --split out")
    try:
        if source in TORCHVISION:
            items = _torchvision(source, split or "test", folder)
        elif source in IMAGENET:
            items = _imagenet(source, split or "test", folder)
        elif source == "kodak":
            items = _kodak(folder / "kodak")
        else:
            items = _own(source)
    except OSError as error:
        raise DatasetError(f"{error.filename or source}: {error.strerror or error}") from error
    if not items:
        raise DatasetError(f"there are no images in {source}")
    name = f"{source}, {split or 'test'}" if source in (*TORCHVISION, *IMAGENET) else source
    return Dataset(name, _subset(items, limit, seed))


def _subset(items: Sequence[Item], limit: int | None, seed: int | None) -> list[Item]:
    if limit is None or limit >= len(items):
        return list(items)
    if seed is None:
        return list(items[:limit])
    chosen = np.random.default_rng(seed).choice(len(items), limit, replace=False)
    return [items[i] for i in sorted(chosen)]


# Images of the user's own.


def _own(source: str) -> list[Item]:
    path = Path(source)
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in pictures.READABLE)
        return [_item(p, str(p.relative_to(path))) for p in found]
    if path.suffix.lower() in (".npy", ".npz"):
        return _arrays(path)
    if path.is_file():
        return [_item(path, path.name)]
    found = sorted(Path(p) for p in glob.glob(source, recursive=True) if Path(p).is_file())
    if not found:
        known = ", ".join(NAMES)
        raise DatasetError(f"{source} is neither a file, a folder or a glob nor one of {known}")
    return [_item(p, str(p)) for p in found]


def _item(path: Path, name: str) -> Item:
    jpeg = path if path.suffix.lower() in jpegs.ENDINGS else None
    return Item(name, lambda: read(path), jpeg)


def read(path: Path) -> Pixels:
    """The pixels of an image file; of a palette image, the colours. Raises DatasetError."""
    try:
        with Image.open(path) as image:
            if image.mode == "P":
                return np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB"))
    except (OSError, SyntaxError, ValueError) as error:  # so does Pillow say it
        raise DatasetError(f"{path} cannot be read as an image: {error}") from error
    return pictures.to_array(sources.to_picture(path, strip=True))


def _arrays(path: Path) -> list[Item]:
    """Images (n, height, width) or (n, height, width, channels); in an .npz any number of such."""
    try:
        with path.open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
            held = {"": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DatasetError(f"{path} cannot be read as numpy arrays: {error}") from error
    items = []
    for name, array in held.items():
        if array.ndim not in (3, 4) or array.dtype not in (np.uint8, np.uint16, np.bool_):
            raise DatasetError(
                f"{path}: {name or 'the array'} is {array.dtype} of shape {array.shape}, not images"
                " (n, height, width) or (n, height, width, channels) of uint8, uint16 or bool"
            )
        items += rows(array, f"{name}/" if name else "")
    return items


def rows(images: Pixels, prefix: str = "") -> list[Item]:
    """Images (n, height, width) or (n, height, width, channels) as items, named by number."""
    if images.ndim == 4 and images.shape[3] == 1:
        images = images[..., 0]
    return [Item(f"{prefix}{n}", _returning(image)) for n, image in enumerate(images)]


def _returning(image: Pixels) -> Callable[[], Pixels]:
    return lambda: image


# Named datasets.


def _torchvision(name: str, split: str, folder: Path) -> list[Item]:
    try:
        from torchvision import datasets
    except ImportError as error:
        raise DatasetError(f'{name} needs torchvision: pip install "pixelzip[bench]"') from error
    reader = getattr(datasets, TORCHVISION[name])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        dataset = reader(str(folder), train=split == "train", download=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError
        if hasattr(reader, "filename"):
            wanted, place = reader.url, folder
        else:
            wanted = " and ".join(reader.mirrors[0] + file for file, _ in reader.resources)
            place = folder / reader.__name__ / "raw"
        reason = error.reason if isinstance(error, URLError) else str(error).splitlines()[-1]
        raise DatasetError(
            f"{name} is not in {folder}, or is damaged there, and cannot be downloaded ({reason}):"
            f" put {wanted} into {place}"
        ) from error
    except (ValueError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise DatasetError(f"{name} in {folder} is damaged: {error}") from error
    return rows(np.asarray(dataset.data))


def _imagenet(name: str, split: str, folder: Path) -> list[Item]:
    """The published ``npz`` files: ``data`` (n, 3 * side * side) uint8, planes of red first."""
    side, place = IMAGENET[name], folder / name
    pattern = "train_data_batch_*.npz" if split == "train" else "val_data.npz"
    found = sorted(place.glob(pattern), key=lambda p: (len(p.name), p.name))
    if not found:
        raise DatasetError(
            f"{name} is not in {place} and cannot be downloaded without an account: get it from"
            f" https://image-net.org/download-images.php and put {pattern} into {place}"
        )
    items = []
    for path in found:
        try:
            with np.load(path, allow_pickle=False) as batch:  # the archive has checksums
                data = batch["data"].reshape(-1, 3, side, side)
        except (ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
            raise DatasetError(f"{path} is not a file of {name}, or is damaged: {error}") from error
        items += rows(data.transpose(0, 2, 3, 1), f"{path.stem}/" if split == "train" else "")
    return items


def _kodak(folder: Path) -> list[Item]:
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"kodim{number:02}.png" for number in range(1, len(KODAK) + 1)]
    return [
        Item(name, _kodak_reader(folder / name, digest))
        for name, digest in zip(names, KODAK, strict=True)
    ]


def _kodak_reader(path: Path, digest: str) -> Callable[[], Pixels]:
    def read_or_fetch() -> Pixels:
        if not path.exists():
            url = KODAK_URL + path.name
            try:
                with urlopen(url, timeout=TIMEOUT) as answer:
                    files.write(str(path), answer.read(), force=True)
            except OSError as error:
                raise DatasetError(
                    f"{path.name} is not in {path.parent} and cannot be downloaded"
                    f" ({getattr(error, 'reason', error)}): put {url} there"
                ) from error
        pixels = read(path)
        if not hashlib.sha256(pixels.tobytes()).hexdigest().startswith(digest):
            raise DatasetError(f"{path} is not the Kodak image of that name: delete it")
        return pixels

    return read_or_fetch
