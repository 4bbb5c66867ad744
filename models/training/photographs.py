"""Crops of photographs to train on.

Photographs come as JPEG, whose blocks a network must not learn: each is shrunk first. It serves
at several sizes and through several filters.

A shrunk picture is sharper and cleaner than what cameras and scanners deliver, so a part of the
crops is *developed*: softened by a lens, strewn with grain, its colour softer than its brightness,
sharpened. Each of these is a transfer function, drawn anew for each crop, so that the network
learns to read a picture's grain and sharpness from the context.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelzip.codec.errors import TrainingError

Pixels = NDArray[np.uint8]
"""(height, width, 3) sRGB."""

FILTERS = (
    Image.Resampling.LANCZOS,
    Image.Resampling.BICUBIC,
    Image.Resampling.BOX,
    Image.Resampling.HAMMING,
)
LARGEST_SHARE = 200_000
"""Pixels beyond which a larger picture is drawn no more often."""
GREY_SHARE = 0.06
"""Of the crops, how many are turned grey: the network codes grey planes too."""
GREY = np.array([0.299, 0.587, 0.114], np.float32)
DEVELOPED_SHARE = 0.5
"""Of the crops, how many go through `developed`."""
MARGIN = 8
"""Mirrored pixels about a crop, so that the transform's wrap-around stays outside of it."""


def find(folders: Sequence[Path]) -> list[Path]:
    """Every image below the folders, in a fixed order. TrainingError if there are none."""
    endings = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
    found = [p for f in folders for p in sorted(f.rglob("*")) if p.suffix.lower() in endings]
    if not found:
        raise TrainingError(f"there are no images in {', '.join(map(str, folders))}")
    return found


def shrunk(path: Path, seed: int) -> list[Pixels]:
    """The picture, shrunk by several factors of 1.5 and more; a lossless one also as it is."""
    rng = np.random.default_rng(seed)
    with Image.open(path) as opened:
        lossless = opened.format not in ("JPEG", "WEBP")
        image = opened.convert("RGB")
    side = min(image.size)
    factors = [2.0, 3.0] if side < 1000 else [2.0, 3.0, 4.0]
    if side < 400:
        factors = [1.5, 2.0]
    if lossless:
        factors = [1.0, *factors]
    pictures = []
    for factor in factors:
        size = max(1, round(image.width / factor)), max(1, round(image.height / factor))
        scaled = image if factor == 1 else image.resize(size, FILTERS[rng.integers(len(FILTERS))])
        pictures.append(np.asarray(scaled))
    return pictures


def load(
    paths: Sequence[Path],
    smallest: int,
    prepare: Callable[[Path, int], list[Pixels]] = shrunk,
) -> list[Pixels]:
    """All these pictures, prepared, whose sides are at least ``smallest``.

    Raises TrainingError if that leaves none, or if one of them is damaged.
    """

    def prepare_one(path: Path, seed: int) -> list[Pixels]:
        try:
            return prepare(path, seed)
        except (OSError, SyntaxError, ValueError) as error:  # so does Pillow say it
            raise TrainingError(f"{path} cannot be read as an image: {error}") from error

    with ThreadPoolExecutor(2) as pool:
        prepared = pool.map(prepare_one, paths, range(len(paths)))
        large = [p for pictures in prepared for p in pictures if min(p.shape[:2]) >= smallest]
    if not large:
        raise TrainingError(f"no image is large enough, once shrunk, for {smallest} pixels a side")
    return large


def halved(path: Path, seed: int) -> list[Pixels]:
    """For validation: shrunk by two with one filter, always the same."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    size = max(1, image.width // 2), max(1, image.height // 2)
    return [np.asarray(image.resize(size, Image.Resampling.LANCZOS))]


def blocks(pictures: Sequence[Pixels], side: int) -> Pixels:
    """(N, side, side, 3): the pictures cut into blocks without overlap, for validation."""
    return np.stack(
        [
            p[top : top + side, left : left + side]
            for p in pictures
            for top in range(0, p.shape[0] - side + 1, side)
            for left in range(0, p.shape[1] - side + 1, side)
        ]
    )


def developed(crop: Pixels, rng: np.random.Generator) -> Pixels:
    """The crop as some camera or scanner might have delivered it; (side, side, 3) of any side."""
    mirrored = np.pad(crop, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), "symmetric")
    side = len(mirrored)
    frequency = np.fft.fftfreq(side)[:, None] ** 2 + np.fft.rfftfreq(side)[None] ** 2

    def soft(sigma: float) -> NDArray[np.float64]:
        """A Gaussian blur, as a transfer function."""
        transfer: NDArray[np.float64] = np.exp(-2 * np.pi**2 * sigma**2 * frequency)
        return transfer[..., None]

    lens, paper = soft(rng.uniform(0, 1.0)), soft(rng.uniform(0, 0.8))
    colour = soft(rng.uniform(0, 2.0)) if rng.random() < 0.5 else 1.0
    sharpening = 1 + rng.uniform(0, 1.2) * (1 - soft(rng.uniform(0.6, 1.2)))
    # Grain of the same brightness in all colours, of each colour alone, or some of both.
    shared, strength = rng.random(), min(rng.exponential(1.0), 4.0)
    grain = shared * rng.standard_normal((side, side, 1))
    grain = grain + (1 - shared) * rng.standard_normal((side, side, 3))
    grain *= strength / np.hypot(shared, 1 - shared)
    picture = np.fft.rfft2(mirrored.astype(np.float64), axes=(0, 1)) * lens
    picture += np.fft.rfft2(grain, axes=(0, 1)) * paper / np.sqrt(np.mean(paper**2))
    bright = (picture @ GREY.astype(np.float64))[..., None]
    picture = bright * sharpening + (picture - bright) * colour
    result = np.fft.irfft2(picture, (side, side), axes=(0, 1))[MARGIN:-MARGIN, MARGIN:-MARGIN]
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


class Crops:
    """Random crops, mirrored or developed half of the time.

    Its generator is all the state there is.
    """

    def __init__(self, pictures: Sequence[Pixels], side: int, rng: np.random.Generator) -> None:
        self.pictures, self.side, self.rng = pictures, side, rng
        shares = np.minimum([p.shape[0] * p.shape[1] for p in pictures], LARGEST_SHARE)
        self.shares = shares / shares.sum()

    def draw(self, count: int) -> tuple[Pixels, NDArray[np.float32]]:
        """(count, side, side, 3) pixels, and the weight of each sub-pixel's loss (count, 3).

        In a grey crop only the first sub-pixel counts: the others repeat it.
        """
        crops = np.empty((count, self.side, self.side, 3), np.uint8)
        weights = np.ones((count, 3), np.float32)
        for i, chosen in enumerate(self.rng.choice(len(self.pictures), count, p=self.shares)):
            picture = self.pictures[chosen]
            top = self.rng.integers(picture.shape[0] - self.side + 1)
            left = self.rng.integers(picture.shape[1] - self.side + 1)
            crop = picture[top : top + self.side, left : left + self.side]
            if self.rng.random() < 0.5:
                crop = crop[:, ::-1]
            if self.rng.random() < DEVELOPED_SHARE:
                crop = developed(crop, self.rng)
            if self.rng.random() < GREY_SHARE:
                crop = np.rint(crop @ GREY).astype(np.uint8)[..., None]
                weights[i, 1:] = 0
            crops[i] = crop
        return crops, weights
