"""Planes to train ``luma`` and ``chroma`` on: what pixels are computed from, of many kinds.

A network of planes meets what decoders and scanners hold before they make RGB of it. So crops are
of one of these kinds, chosen anew for each:

* *native*: the Y, Cb and Cr of the JPEGs as they come, with all that their quantisation left there;
* *rendered*: crops of photographs, see `pixelzip.models.training.photographs`, as Y, Cb and Cr of
  full or halved chroma;
* *recompressed*: the same, through a JPEG of high quality and back to planes;
* *scanned*: the same as the Y, C1 and C2 of a PhotoCD (docs/origins.md), whose chroma is halved.

Chroma that is halved covers 2x2 luma samples; the network is given those four, see
`pixelzip.models.networks.photo.entries`.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from pixelzip.models.networks.photo import entries
from pixelzip.models.training.photographs import LARGEST_SHARE, Album, Pixels, load

Plane = NDArray[np.uint8]

NATIVE, RENDERED, RECOMPRESSED, SCANNED = range(4)
SHARES = (0.4, 0.2, 0.15, 0.25)
"""How often each kind is drawn."""
LARGEST_NATIVE = 2_000_000
"""Of a larger JPEG only so many pixels in its middle are kept."""
VALIDATION = 512
"""Crops to validate on."""
QUALITIES = (75, 99)
_JPEG_MARGIN = 8


@dataclass(frozen=True)
class Planes:
    """A picture's luma (h, w) and its two chroma planes (2, ceil(h / step), ceil(w / step))."""

    luma: Plane
    chroma: Plane
    step: int  # 1, or 2 where chroma is halved both ways


def native(path: Path | io.BytesIO) -> Planes | None:
    """The planes that a JPEG's decoder has before it makes RGB.

    None where chroma has other sizes than ours. A grey JPEG has no chroma: its planes are empty.
    """
    with Image.open(path) as image:
        if not isinstance(image, JpegImageFile) or image.mode not in ("L", "RGB"):
            return None
        if image.mode == "L":
            luma = np.asarray(image)
            return Planes(luma, np.empty((2, 0, 0), np.uint8), 1)
        sampling = {(h, v) for _, h, v, _ in image.layer}
        if sampling not in ({(1, 1)}, {(2, 2), (1, 1)}):
            return None
        image.draft("YCbCr", image.size)
        full = np.asarray(image)
    if len(sampling) == 1:
        return Planes(full[..., 0], full[..., 1:].transpose(2, 0, 1), 1)
    with Image.open(path) as image:
        # At half the size libjpeg gives halved chroma as it is.
        image.draft("YCbCr", (image.width // 2, image.height // 2))
        half = np.asarray(image)
    return Planes(full[..., 0], half[..., 1:].transpose(2, 0, 1), 2)


def middle(planes: Planes) -> Planes:
    """At most about LARGEST_NATIVE pixels of it."""
    height, width = planes.luma.shape
    share = min(1.0, (LARGEST_NATIVE / (height * width)) ** 0.5)
    top, left = (round(side * (1 - share) / 2) // 16 * 16 for side in (height, width))
    h, w = (round(side * share) // 16 * 16 + 16 for side in (height, width))
    step = planes.step
    luma = planes.luma[top : top + h, left : left + w].copy()
    chroma = planes.chroma[:, top // step : (top + h) // step, left // step : (left + w) // step]
    return Planes(luma, chroma.copy(), step)


def ycbcr(pixels: Pixels) -> NDArray[np.float64]:
    """(h, w, 3) RGB -> Y, Cb, Cr of JFIF, not rounded."""
    matrix = np.array(
        [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
    )
    converted: NDArray[np.float64] = pixels @ matrix.T + [0, 128, 128]
    return converted


def photoycc(pixels: Pixels) -> NDArray[np.float64]:
    """(h, w, 3) RGB -> Y, C1, C2 of a PhotoCD, not rounded."""
    bright = pixels @ np.array([0.299, 0.587, 0.114])
    blue, red = pixels[..., 2] - bright, pixels[..., 0] - bright
    return np.stack([bright / 1.3584, blue / 2.2179 + 156, red / 1.8215 + 137], -1)


def rounded(plane: NDArray[np.float64]) -> Plane:
    return np.clip(np.rint(plane), 0, 255).astype(np.uint8)


def halved(plane: NDArray[np.float64], cosited: bool) -> NDArray[np.float64]:
    """Every other sample of (h, w, c), h and w even: means of 2x2, or about the even samples."""
    if not cosited:
        means: NDArray[np.float64] = (plane[::2] + plane[1::2]) / 2
        return (means[:, ::2] + means[:, 1::2]) / 2
    padded = np.pad(plane, ((1, 1), (1, 1), (0, 0)), "edge")
    rows: NDArray[np.float64] = (padded[:-2] + 2 * padded[1:-1] + padded[2:])[::2] / 4
    return (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:])[:, ::2] / 4


def rendered(pixels: Pixels, kind: int, step: int, rng: np.random.Generator) -> Planes:
    """The planes of an RGB crop (h, w, 3) of even sides, as of the ``kind``."""
    if kind == RECOMPRESSED:
        file = io.BytesIO()
        quality = int(rng.integers(QUALITIES[0], QUALITIES[1] + 1))
        Image.fromarray(pixels).save(
            file, "JPEG", quality=quality, subsampling=0 if step == 1 else 2
        )
        planes = native(file)
        assert planes is not None
        return planes
    converted = photoycc(pixels) if kind == SCANNED else ycbcr(pixels)
    colour = converted[..., 1:]
    if step == 2:
        colour = halved(colour, cosited=kind == SCANNED)
    return Planes(rounded(converted[..., 0]), rounded(colour).transpose(2, 0, 1), step)


def given(luma: Plane, chroma: Plane | None, step: int) -> NDArray[np.uint8]:
    """(h, w, 4 or 5) samples of earlier planes at each chroma sample."""
    h, w = luma.shape[0] // step, luma.shape[1] // step
    blocks = luma.reshape(h, step, w, step).transpose(0, 2, 1, 3)
    four = np.broadcast_to(blocks, (h, w, 2, 2)).reshape(h, w, 4).copy()
    return four if chroma is None else np.concatenate([four, chroma[..., None]], -1)


class Crops:
    """Random crops of planes, mirrored half of the time; `pixelzip.models.training.train.Source`.

    Its generator is all the state there is. ``chroma``: whether crops are of a chroma plane, with
    what it is given, or of luma.
    """

    def __init__(
        self, paths: Sequence[Path], side: int, rng: np.random.Generator, *, chroma: bool
    ) -> None:
        self.side, self.rng, self.chroma = side, rng, chroma
        largest = 2 * side + 2 * _JPEG_MARGIN
        found = [middle(planes) for planes in map(native, paths) if planes is not None]
        self.native = [
            p for p in found
            if min(p.luma.shape) >= largest and (not chroma or p.chroma.size > 0)
        ]  # fmt: skip
        self.album = Album(load(paths, largest), rng)
        self.native_share = _shares([p.luma.size for p in self.native])

    def draw(self, count: int) -> tuple[NDArray[np.generic], ...]:
        """Pixels (count, side, side, 1), weights (count, 1), and for chroma the entries."""
        crops = [self._crop() for _ in range(count)]
        pixels = np.stack([pixels for pixels, _ in crops])[..., None]
        weights = np.ones((count, 1), np.float32)
        if not self.chroma:
            return pixels, weights
        return pixels, weights, np.stack([seen for _, seen in crops])

    def _crop(self) -> tuple[Plane, NDArray[np.int8]]:
        kind = int(self.rng.choice(4, p=SHARES))
        if not self.native:
            kind = RENDERED
        planes = self._native() if kind == NATIVE else self._rendered(kind)
        if self.rng.random() < 0.5:
            mirrored = planes.luma[:, ::-1].copy(), planes.chroma[..., ::-1].copy()
            planes = Planes(*mirrored, planes.step)
        if not self.chroma:
            return planes.luma, np.empty(0, np.int8)
        second = self.rng.random() < 0.5
        seen = given(planes.luma, planes.chroma[0] if second else None, planes.step)
        return planes.chroma[int(second)], entries(torch.from_numpy(seen)).numpy()

    def _native(self) -> Planes:
        planes = self.native[self.rng.choice(len(self.native), p=self.native_share)]
        return self._cut(planes)

    def _rendered(self, kind: int) -> Planes:
        step = 2 if kind == SCANNED else int(self.rng.integers(1, 3))
        side = self.side * (step if self.chroma else 1) + 2 * _JPEG_MARGIN
        crop = self.album.crop(side)
        return self._cut(rendered(crop, kind, step, self.rng))

    def _cut(self, planes: Planes) -> Planes:
        """``side`` samples of luma, or of chroma and what lies over them."""
        step, side = planes.step, self.side
        if not self.chroma:
            height, width = planes.luma.shape
            top, left = self.rng.integers(height - side + 1), self.rng.integers(width - side + 1)
            return Planes(planes.luma[top : top + side, left : left + side], planes.chroma, step)
        height, width = planes.luma.shape[0] // step, planes.luma.shape[1] // step
        top, left = self.rng.integers(height - side + 1), self.rng.integers(width - side + 1)
        rows, columns = slice(top, top + side), slice(left, left + side)
        luma = planes.luma[step * top : step * (top + side), step * left : step * (left + side)]
        return Planes(luma, planes.chroma[:, rows, columns], step)


def validation(
    paths: Sequence[Path], side: int, *, chroma: bool
) -> tuple[NDArray[np.generic], ...]:
    """Always the same crops: pixels (N, side, side, 1), and for chroma the entries."""
    pixels, _, *seen = Crops(paths, side, np.random.default_rng(0), chroma=chroma).draw(VALIDATION)
    return pixels, *seen


def _shares(sizes: Sequence[int]) -> NDArray[np.float64]:
    shares = np.minimum(np.array(sizes, np.float64), LARGEST_SHARE)
    return np.divide(shares, max(float(shares.sum()), 1.0))
