"""Crops of photographs to train on.

Photographs come as JPEG, whose blocks a network must not learn: each crop is shrunk first, by any
factor that the picture allows and one of several filters. Some are enlarged again, as pictures of
the web are.

A shrunk picture is sharper and cleaner than what cameras and scanners deliver, so a part of the
crops is *developed*: half of these as film and scanner do it (softened by a lens, strewn with
grain, its colour softer than its brightness and not quite in register, sharpened), half as a camera
does (`pixelzip.models.training.cameras`). What happens to each is drawn anew, so that the network
learns to read a picture's grain and sharpness from the context. On a few crops something is drawn
(`pixelzip.models.training.drawings`), so that it knows screenshots.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelzip.codec.errors import TrainingError
from pixelzip.models.training.cameras import photographed
from pixelzip.models.training.drawings import drawn_on

T = TypeVar("T")
Pixels = NDArray[np.uint8]
"""(height, width, 3) sRGB."""

FILTERS = (
    Image.Resampling.LANCZOS,
    Image.Resampling.BICUBIC,
    Image.Resampling.BILINEAR,
    Image.Resampling.BOX,
    Image.Resampling.HAMMING,
)
LEAST_FACTOR, LEAST_SMALL_FACTOR, SMALL = 2.0, 1.5, 400
"""A JPEG is shrunk by the first and more, by the second if a side has less than so many pixels."""
LARGEST_SPAN = 512
"""Of a picture a crop shows at most so many pixels a side: small crops are of thumbnails, too."""
AS_IT_IS_SHARE = 0.25
"""Of the crops of lossless pictures."""
ENLARGED_SHARE, ENLARGEMENT = 0.08, 2.0
"""Of all crops, and by how much at most."""
LARGEST_SHARE = 200_000
"""Pixels beyond which a larger picture is drawn no more often."""
GREY_SHARE = 0.06
"""Of the crops, how many are turned grey: the network codes grey planes too."""
GREY = np.array([0.299, 0.587, 0.114], np.float32)
DEVELOPED_SHARE = 0.5
"""Of the crops, how many go through `developed`."""
DRAWN_SHARE = 0.06
"""Of the crops, how many have something drawn on them."""
MARGIN = 8
"""Mirrored pixels about a crop, so that the transform's wrap-around stays outside of it."""


@dataclass(frozen=True)
class Photograph:
    """A picture to take crops of."""

    pixels: Pixels
    least: float = 1.0
    """It has to be shrunk by that and more."""

    def fits(self, side: int) -> bool:
        """Whether there are crops of that side in it."""
        return bool(min(self.pixels.shape[:2]) >= side * self.least)


def find(folders: Sequence[Path]) -> list[Path]:
    """Every image below the folders, in a fixed order. TrainingError if there are none."""
    endings = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"}
    found = [p for f in folders for p in sorted(f.rglob("*")) if p.suffix.lower() in endings]
    if not found:
        raise TrainingError(f"there are no images in {', '.join(map(str, folders))}")
    return found


def load(paths: Sequence[Path], side: int) -> list[Photograph]:
    """All of these that have crops of that side.

    Raises TrainingError if that leaves none, or if one of them is damaged.
    """
    found = [one for one in _prepared(paths, _photograph) if one.fits(side)]
    if not found:
        raise TrainingError(f"no image is large enough, once shrunk, for {side} pixels a side")
    return found


def _photograph(path: Path) -> Photograph:
    with Image.open(path) as opened:
        lossless = opened.format not in ("JPEG", "WEBP")
        pixels = np.asarray(opened.convert("RGB"))
    if lossless:
        return Photograph(pixels)
    small = min(pixels.shape[:2]) < SMALL
    return Photograph(pixels, LEAST_SMALL_FACTOR if small else LEAST_FACTOR)


def _prepared(paths: Sequence[Path], prepare: Callable[[Path], T]) -> list[T]:
    def prepare_one(path: Path) -> T:
        try:
            return prepare(path)
        except (OSError, SyntaxError, ValueError) as error:  # so does Pillow say it
            raise TrainingError(f"{path} cannot be read as an image: {error}") from error

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(prepare_one, paths))


def validation(paths: Sequence[Path], side: int) -> Pixels:
    """Blocks (N, side, side, 3) to validate on: of the pictures halved with one filter, always the
    same. TrainingError if there are none, or if a picture is damaged."""
    large = [p for p in _prepared(paths, halved) if min(p.shape[:2]) >= side]
    if not large:
        raise TrainingError(f"no image is large enough, once halved, for {side} pixels a side")
    return blocks(large, side)


def halved(path: Path) -> Pixels:
    """The picture at half its size."""
    with Image.open(path) as opened:
        image = opened.convert("RGB")
    size = max(1, image.width // 2), max(1, image.height // 2)
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))


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
    """A crop (side, side, 3) as some camera or scanner might have delivered it."""
    mirrored = np.pad(crop, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), "symmetric")
    deliver = photographed if rng.random() < 0.5 else scanned
    return deliver(mirrored, rng)[MARGIN:-MARGIN, MARGIN:-MARGIN]


def scanned(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A crop (side, side, 3) from film. All that happens to it are transfer functions and grain."""
    side = len(pixels)
    down, right = np.fft.fftfreq(side)[:, None, None], np.fft.rfftfreq(side)[None, :, None]
    frequency = down**2 + right**2

    def soft(sigma: float) -> NDArray[np.float64]:
        """A Gaussian blur, as a transfer function."""
        transfer: NDArray[np.float64] = np.exp(-2 * np.pi**2 * sigma**2 * frequency)
        return transfer

    lens, paper = soft(rng.uniform(0, 1.0)), soft(rng.uniform(0, 0.8))
    colour = soft(rng.uniform(0, 2.0)) if rng.random() < 0.5 else 1.0
    sharpening = 1 + rng.uniform(0, 1.2) * (1 - soft(rng.uniform(0.6, 1.2)))
    # Red and blue are moved by a part of a pixel against green.
    apart = rng.normal(0, 0.15, (2, 3)) * [1, 0, 1] * (rng.random() < 0.5)
    register = np.exp(-2j * np.pi * (down * apart[0] + right * apart[1]))
    # Grain of the same brightness in all colours, of each colour alone, or some of both.
    shared, strength = rng.random(), min(rng.exponential(1.0), 4.0)
    grain = shared * rng.standard_normal((side, side, 1))
    grain = grain + (1 - shared) * rng.standard_normal((side, side, 3))
    grain *= strength / np.hypot(shared, 1 - shared)
    picture = np.fft.rfft2(pixels.astype(np.float64), axes=(0, 1)) * lens * register
    picture += np.fft.rfft2(grain, axes=(0, 1)) * paper / np.sqrt(np.mean(paper**2))
    bright = (picture @ GREY.astype(np.float64))[..., None]
    picture = bright * sharpening + (picture - bright) * colour
    result = np.fft.irfft2(picture, (side, side), axes=(0, 1))
    return np.clip(np.rint(result), 0, 255).astype(np.uint8)


class Album:
    """Photographs, of which crops are taken: shrunk, perhaps enlarged, developed, drawn on.

    Its generator is all the state there is.
    """

    def __init__(
        self,
        pictures: Sequence[Photograph],
        rng: np.random.Generator,
        developed_share: float = DEVELOPED_SHARE,
    ) -> None:
        self.pictures, self.rng, self.developed_share = pictures, rng, developed_share
        shares = np.minimum([p.pixels[..., 0].size for p in pictures], LARGEST_SHARE)
        self.shares = shares / shares.sum()

    def crop(self, side: int) -> Pixels:
        """(side, side, 3) of one of them, mirrored half of the time."""
        picture = self.pictures[self.rng.choice(len(self.pictures), p=self.shares)]
        if self.rng.random() < ENLARGED_SHARE:
            smaller = max(1, round(side / self.rng.uniform(1, ENLARGEMENT)))
            crop = _resized(self._shrunk(picture, smaller), side, self._filter())
        else:
            crop = self._shrunk(picture, side)
        if self.rng.random() < 0.5:
            crop = crop[:, ::-1]
        if self.rng.random() < self.developed_share:
            crop = developed(crop, self.rng)
        if self.rng.random() < DRAWN_SHARE:
            crop = drawn_on(crop, self.rng)
        return crop

    def _shrunk(self, picture: Photograph, side: int) -> Pixels:
        if picture.least == 1 and self.rng.random() < AS_IT_IS_SHARE:
            return self._piece(picture.pixels, side)
        most = min(picture.pixels.shape[:2]) / side
        most = max(picture.least, min(most, LARGEST_SPAN / side))
        factor = np.exp(self.rng.uniform(np.log(picture.least), np.log(most)))
        piece = self._piece(picture.pixels, int(side * factor))
        return _resized(piece, side, self._filter())

    def _piece(self, pixels: Pixels, side: int) -> Pixels:
        top, left = (self.rng.integers(length - side + 1) for length in pixels.shape[:2])
        return pixels[top : top + side, left : left + side]

    def _filter(self) -> Image.Resampling:
        return FILTERS[int(self.rng.integers(len(FILTERS)))]


def _resized(pixels: Pixels, side: int, how: Image.Resampling) -> Pixels:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((side, side), how))


class Crops:
    """Crops of an album, some of them grey."""

    def __init__(self, album: Album, side: int) -> None:
        self.album, self.side = album, side

    def draw(self, count: int) -> tuple[Pixels, NDArray[np.float32]]:
        """(count, side, side, 3) pixels, and the weight of each sub-pixel's loss (count, 3).

        In a grey crop only the first sub-pixel counts: the others repeat it.
        """
        crops = np.stack([self.album.crop(self.side) for _ in range(count)])
        weights = np.ones((count, 3), np.float32)
        grey = self.album.rng.random(count) < GREY_SHARE
        crops[grey] = np.rint(crops[grey] @ GREY)[..., None]
        weights[grey, 1:] = 0
        return crops, weights
