"""How programs turn luma and two chroma samples into red, green and blue, to the last rounding.

Every conversion that is known here has one form. With five tables of 256 integers and a shift,

    red   = (luma[y] + red[c2]) >> shift
    green = (luma[y] + green1[c1] + green2[c2]) >> shift
    blue  = (luma[y] + blue[c1]) >> shift

each then clipped to 0..255; only the tables differ. docs/format.md defines them all. In video and
JPEG, c1 is Cb and c2 is Cr; in PhotoCD they are C1 and C2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native
from pixelzip.codec.origins.origin import strips

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int32]

NONE = 256
"""Stands in tables of samples where no sample gives the colour."""
_FAR = 1 << 29
_RED, _GREEN, _BLUE = 0, 1, 2


@dataclass(frozen=True)
class Conversion:
    """A conversion: its tables, (256,) int32 each, and what inverting it needs."""

    name: str
    shift: int
    luma: Ints
    red: Ints
    green1: Ints
    green2: Ints
    blue: Ints

    def render(self, y: Bytes, c1: Bytes, c2: Bytes) -> Bytes:
        """Samples of any one shape, uint8 -> pixels, that shape and 3 channels, uint8."""
        pixels, library = np.empty((*y.shape, 3), np.uint8), native.coding()
        if library is not None:
            planes = [np.ascontiguousarray(plane) for plane in (y, c1, c2)]
            library.conversion_render(self.tables, self.shift, *planes, y.size, pixels)
            return pixels
        if y.ndim < 2:
            self._render(y, c1, c2, pixels)
            return pixels
        for part in strips(*y.shape):
            self._render(y[part], c1[part], c2[part], pixels[part])
        return pixels

    def _render(self, y: Bytes, c1: Bytes, c2: Bytes, pixels: Bytes) -> None:
        luma = self.luma[y]
        for k, chroma in (
            (_RED, self.red[c2]),
            (_GREEN, self.green1[c1] + self.green2[c2]),
            (_BLUE, self.blue[c1]),
        ):
            chroma += luma
            chroma >>= self.shift
            pixels[..., k] = np.clip(chroma, 0, 255, out=chroma)

    def chroma_terms(self, c1: Bytes, c2: Bytes) -> tuple[Ints, Ints, Ints]:
        """What chroma adds to luma in red, green and blue, before the shift."""
        return self.red[c2], self.green1[c1] + self.green2[c2], self.blue[c1]

    @cached_property
    def slopes(self) -> tuple[float, float, float, float, float]:
        """How much luma, red, green1, green2 and blue grow with a step of their sample."""
        luma, *rest = (
            float(table[255]) - float(table[0])
            for table in (self.luma, self.red, self.green1, self.green2, self.blue)
        )
        # Luma below black may be cut off: its slope is that of the upper half.
        luma = 2 * (float(self.luma[255]) - float(self.luma[128])) * 255 / 254
        return (luma / 255, rest[0] / 255, rest[1] / 255, rest[2] / 255, rest[3] / 255)

    @cached_property
    def tables(self) -> Ints:
        """(5, 256), as the compiled library wants them."""
        return np.stack([self.luma, self.red, self.green1, self.green2, self.blue])

    @cached_property
    def _chroma2(self) -> NDArray[np.uint16]:
        return _solve(self.luma, self.red, self.shift)

    @cached_property
    def _chroma1(self) -> NDArray[np.uint16]:
        return _solve(self.luma, self.blue, self.shift)

    @cached_property
    def _green(self) -> tuple[Ints, Ints]:
        """The tables of green with an entry for `NONE`, which no green agrees with."""
        none = np.array([_FAR], np.int32)
        return np.concatenate([self.green1, none]), np.concatenate([self.green2, none])

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        """(4,) such that y is about weights @ (red, green, blue, 1)."""
        a, r, g1, g2, b = self.slopes
        # Each of (red, green, blue) << shift is a*y + its chroma term; eliminate the chroma.
        inverse = np.linalg.inv(np.array([[a, 0, r], [a, g1, g2], [a, b, 0]]))[0]
        middle = [
            float(self.luma[128]) + float(t) - a * 128
            for t in (self.red[128], self.green1[128] + self.green2[128], self.blue[128])
        ]
        chroma = np.array([[0, r], [g1, g2], [b, 0]]) @ [128.0, 128.0]
        half = ((1 << self.shift) - 1) / 2
        constant = inverse @ (half - np.array(middle) + chroma)
        return np.append(inverse * (1 << self.shift), constant)

    def invert(self, pixels: Bytes) -> tuple[Bytes, NDArray[np.bool_]]:
        """The samples that give each pixel.

        pixels: (n, 3) uint8. Returns y, c1 and c2 as (3, n) uint8, and (n,) bool: whether they
        render to it; where not, they mean nothing. Colours with a channel at 0 or 255 have many
        inverses: one of those without clipping is returned, if there is any.
        """
        library = native.coding()
        if library is not None:
            pixels, count = np.ascontiguousarray(pixels), len(pixels)
            samples, known = np.empty((3, count), np.uint8), np.empty(count, np.bool_)
            library.conversion_invert(
                self.tables, self.shift, self._weights, pixels, count, samples,
                known.view(np.uint8),
            )  # fmt: skip
            return samples, known
        r, g, b = (pixels[:, k].astype(np.int32) for k in range(3))
        w = self._weights
        guess = np.rint(r * w[0] + g * w[1] + b * w[2] + w[3]).astype(np.int32)
        r <<= 8
        b <<= 8
        samples = np.zeros((3, len(pixels)), np.uint8)
        known = np.zeros(len(pixels), np.bool_)
        left = np.arange(len(pixels))
        green1, green2 = self._green
        for offset in (0, -1, 1, -2, 2):
            if not len(left):
                break
            whole = len(left) == len(pixels)
            red, green, blue, near = (v if whole else v[left] for v in (r, g, b, guess))
            y = np.clip(near + offset, 0, 255)
            c1, c2 = self._chroma1[blue + y], self._chroma2[red + y]
            fits = (self.luma[y] + green1[c1] + green2[c2]) >> self.shift == green
            hit = left[fits]
            for plane, values in zip(samples, (y, c1, c2), strict=True):
                plane[hit] = values[fits]
            known[hit] = True
            left = left[~fits]
        return samples, known


def _solve(luma: Ints, chroma: Ints, shift: int) -> NDArray[np.uint16]:
    """(65536,) uint16: [value * 256 + y] -> the sample that gives the value with that luma."""
    table = np.full((256, 256), NONE, np.uint16)
    values = (luma[:, None] + chroma[None, :]) >> shift
    y, sample = np.nonzero((values >= 0) & (values <= 255))
    table[values[y, sample], y] = sample
    return table.ravel()


def _fixed(number: float, bits: int) -> int:
    return int(number * (1 << bits) + 0.5)


_K = np.arange(256)


def _conversion(
    name: str,
    shift: int,
    luma: NDArray[np.int64],
    red: NDArray[np.int64],
    green1: NDArray[np.int64],
    green2: NDArray[np.int64],
    blue: NDArray[np.int64],
) -> Conversion:
    tables = (t.astype(np.int32) for t in (luma, red, green1, green2, blue))
    return Conversion(name, shift, *tables)


def _libjpeg() -> Conversion:
    c = _K - 128
    return _conversion(
        "libjpeg",
        16,
        (_K << 16) + (1 << 15),
        _fixed(1.402, 16) * c,
        -_fixed(0.34414, 16) * c,
        -_fixed(0.71414, 16) * c,
        _fixed(1.772, 16) * c,
    )


def _photocd() -> Conversion:
    blue, red = _fixed(2.2179, 16) * (_K - 156), _fixed(1.8215, 16) * (_K - 137)
    return _conversion(
        "PhotoCD",
        16,
        _fixed(1.3584, 16) * _K,
        red,
        -_fixed(0.194, 16) * (blue >> 16),
        -_fixed(0.509, 16) * (red >> 16),
        blue,
    )


def _pillow() -> Conversion:
    def table(factor: float) -> NDArray[np.int64]:
        table: NDArray[np.int64] = np.trunc(factor * 64 * (_K - 128) + 0.5).astype(np.int64)
        return table

    return _conversion(
        "Pillow", 6, _K << 6, table(1.402), table(-0.34414), table(-0.71414), table(1.772)
    )


def _opencv() -> Conversion:
    c = _K - 128
    return _conversion(
        "OpenCV", 14, (_K << 14) + (1 << 13), 22987 * c, -5636 * c, -11698 * c, 29049 * c
    )


def _opencv_video() -> Conversion:
    c = _K - 128
    luma = 1220542 * np.maximum(_K - 16, 0) + (1 << 19)
    return _conversion(
        "OpenCV, video range", 20, luma, 1673527 * c, -409993 * c, -852492 * c, 2116026 * c
    )


def _webp() -> Conversion:
    def high(factor: int) -> NDArray[np.int64]:
        return (_K * factor) >> 8

    return _conversion(
        "WebP",
        6,
        high(19077),
        high(26149) - 14234,
        8708 - high(6419),
        -high(13320),
        high(33050) - 17685,
    )


def _swscale(
    name: str, black: int, luma: int, red: int, green1: int, green2: int, blue: int
) -> Callable[[], Conversion]:
    """FFmpeg's libswscale, with factors in 1/8192."""

    def make() -> Conversion:
        def table(factor: int, middle: int) -> NDArray[np.int64]:
            return (8 * (_K - middle) * factor) >> 16

        chroma = (table(factor, 128) for factor in (red, green1, green2, blue))
        return _conversion(f"FFmpeg, {name} range", 0, table(luma, black), *chroma)

    return make


_MAKERS: tuple[Callable[[], Conversion], ...] = (
    _libjpeg,
    _photocd,
    _pillow,
    _opencv,
    _opencv_video,
    _webp,
    _swscale("BT.601, video", 16, 9539, 13075, -3209, -6660, 16525),
    _swscale("BT.601, full", 0, 8192, 11485, -2819, -5850, 14516),
    _swscale("BT.709, video", 16, 9539, 14686, -1747, -4366, 17305),
    _swscale("BT.709, full", 0, 8192, 12901, -1534, -3835, 15201),
)

COUNT = len(_MAKERS)
"""How many conversions there are; their numbers in the file are 0 to COUNT - 1."""


def shares(pixels: Bytes) -> NDArray[np.float64]:
    """(COUNT,): the part of the pixels (n, 3), uint8, that some samples give by each conversion."""
    library = native.coding()
    if library is None:
        return np.array([conversion(n).invert(pixels)[1].mean() for n in range(COUNT)])
    pixels, given = np.ascontiguousarray(pixels), np.empty(COUNT, np.int64)
    library.conversions_count(*_together(), COUNT, pixels, len(pixels), given)
    return given / len(pixels)


@cache
def _together() -> tuple[Ints, Ints, NDArray[np.float64]]:
    """The tables, shifts and weights of all conversions."""
    every = [conversion(number) for number in range(COUNT)]
    shifts = np.array([each.shift for each in every], np.int32)
    return np.stack([e.tables for e in every]), shifts, np.stack([e._weights for e in every])


@cache
def conversion(number: int) -> Conversion:
    """The conversion of that number. Its tables are made when it is first asked for."""
    return _MAKERS[number]()
