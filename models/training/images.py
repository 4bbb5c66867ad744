"""Whole small images to train on: a folder of them, or files of rows.

In a *file of rows* each row of one picture is an image, read as its pixels are coded: 1024 RGB
pixels are a 32x32 image (as CIFAR-10's), 784 grey ones a 28x28 image (as MNIST's). Such a file is
named itself, ``batch_0.png``, or with the rows that are meant, ``batch_2.png:500-999``, the first
of a file being 0. Classes may stand in a text file beside it, ``batch_0.txt``, a number for each
row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelzip.codec.errors import TrainingError
from pixelzip.models.training import photographs

LARGEST = 64
"""Pixels a side, beyond which images of one size are taken for photographs."""
_LAYOUTS = {("RGB", 1024): (32, 32, 3), ("L", 784): (28, 28, 1)}
_ROWS = re.compile(r"(?P<path>.+):(?P<first>\d+)-(?P<last>\d+)")


@dataclass(frozen=True)
class Images:
    """``pixels`` (N, H, W, C), and the classes (N,) that they belong to, if that is known."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None

    def __getitem__(self, chosen: slice | NDArray[np.intp] | NDArray[np.bool_]) -> Images:
        labels = None if self.labels is None else self.labels[chosen]
        return Images(self.pixels[chosen], labels)

    def binarised(self, rng: np.random.Generator) -> Images:
        """Each value becomes 255 with a probability of value / 255, and 0 otherwise."""
        drawn = rng.random(self.pixels.shape, np.float32) * 255 < self.pixels
        return Images(np.where(drawn, 255, 0).astype(np.uint8), self.labels)


def is_rows(source: Path) -> bool:
    """Whether this names a file of rows, or some rows of one."""
    return _split(source)[0].is_file()


def read(sources: Sequence[Path], colours: int) -> Images | None:
    """The images of files of rows and folders; None if one folder's are not of one small size.

    Raises TrainingError if a file is not one of rows, if the images have another number of
    ``colours``, or if they differ in size.
    """
    found = []
    for source in sources:
        images = _read_rows(source) if is_rows(source) else _read_folder(source, colours)
        if images is None:
            return None
        found.append(images)
        if images.pixels.shape[3] != colours:
            raise TrainingError(
                f"{source} has {images.pixels.shape[3]} colours, the network {colours}:"
                f" set colours={images.pixels.shape[3]}"
            )
        if images.pixels.shape[1:] != found[0].pixels.shape[1:]:
            raise TrainingError(f"the images of {source} and {sources[0]} differ in size")
    if not found:
        return None
    labels = [images.labels for images in found if images.labels is not None]
    return Images(
        np.concatenate([images.pixels for images in found]),
        np.concatenate(labels) if len(labels) == len(found) else None,
    )


def _split(source: Path) -> tuple[Path, int, int | None]:
    """A file, and the first and last row of it that are meant."""
    match = _ROWS.fullmatch(str(source))
    if match is None:
        return source, 0, None
    return Path(match["path"]), int(match["first"]), int(match["last"])


def _read_rows(source: Path) -> Images:
    path, first, last = _split(source)
    try:
        with Image.open(path) as image:
            layout = _LAYOUTS.get((image.mode, image.width))
            if layout is None:
                raise TrainingError(
                    f"{path} is not a file of images in rows: 1024 RGB or 784 grey pixels each"
                )
            pixels = np.asarray(image).reshape(-1, *layout)
    except (OSError, SyntaxError, ValueError) as error:
        raise TrainingError(f"{path} cannot be read as an image: {error}") from error
    labels = None
    beside = path.with_suffix(".txt")
    if beside.exists():
        try:
            labels = np.array(beside.read_text("utf-8").split(), np.int64)
        except ValueError as error:
            raise TrainingError(f"{beside} holds something that is not a number") from error
        if len(labels) != len(pixels):
            raise TrainingError(f"{beside} has {len(labels)} classes for {len(pixels)} images")
    last = len(pixels) - 1 if last is None else last
    if not first <= last < len(pixels):
        raise TrainingError(f"{path} has no rows {first} to {last}: there are {len(pixels)}")
    return Images(pixels, labels)[first : last + 1]


def _read_folder(folder: Path, colours: int) -> Images | None:
    paths = photographs.find([folder])
    mode, size, pixels = "L" if colours == 1 else "RGB", None, []
    for path in paths:
        try:
            with Image.open(path) as image:
                size = size or image.size
                if image.size != size or max(size) > LARGEST:
                    return None
                pixels.append(np.atleast_3d(np.asarray(image.convert(mode))))
        except (OSError, SyntaxError, ValueError) as error:
            raise TrainingError(f"{path} cannot be read as an image: {error}") from error
    return Images(np.stack(pixels))


class Whole:
    """Draws whole images; its generator is all the state there is.

    ``binary``: each is binarised anew whenever it is drawn.
    """

    def __init__(self, images: Images, rng: np.random.Generator, binary: bool) -> None:
        self.images, self.rng, self.binary = images, rng, binary

    def draw(self, count: int) -> tuple[NDArray[np.generic], ...]:
        """(count, H, W, C) pixels, the weights (count, C) of their losses: ones; any labels."""
        chosen = self.images[self.rng.integers(len(self.images.pixels), size=count)]
        if self.binary:
            chosen = chosen.binarised(self.rng)
        weights = np.ones((count, chosen.pixels.shape[3]), np.float32)
        return (chosen.pixels, weights, *([] if chosen.labels is None else [chosen.labels]))
