"""An image as the codec sees it, and the planes of samples that it is stored as."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

Box = tuple[int, int, int, int]
"""(top, left, height, width)."""

MODES: dict[str, tuple[int, ...]] = {
    "1": (1,),
    "L": (1,),
    "LA": (1, 1),
    "P": (1,),
    "RGB": (3,),
    "RGBA": (3, 1),
    "I;16": (1, 1),
    "LA;16": (1, 1, 1, 1),
    "RGB;16": (3, 3),
    "RGBA;16": (3, 1, 3, 1),
    "CMYK": (3, 1),
    "CMYK;16": (3, 1, 3, 1),
}
"""Mode to the channels of each of its components, in the order in which they are stored.

A mode's number in the file is its position here. The 16-bit modes hold all the high bytes before
all the low bytes: ``RGBA;16`` is colour high, alpha high, colour low, alpha low. ``CMYK`` holds
what each ink leaves of the light, so it looks as RGB does: 255 less cyan, magenta, yellow; black.
"""


Kind = Literal["colour", "luma", "chroma", "labels"]
"""What samples are, which decides the network that may code them: three colours; one tone, such as
grey, alpha or luma; chroma, coded given the luma; labels or low bytes, which no network knows."""


def is_deep(mode: str) -> bool:
    """Whether a mode's samples have 16 bits: its components are high bytes, then low bytes."""
    return mode.endswith(";16")


def kind_of(mode: str, position: int) -> Kind:
    """What the samples of a mode's component are."""
    low_bytes = is_deep(mode) and position >= len(MODES[mode]) // 2
    if mode in ("1", "P") or low_bytes:
        return "labels"
    return "colour" if MODES[mode][position] == 3 else "luma"


@dataclass(frozen=True)
class PlaneLayout:
    """The size and place of a plane's samples, all but the samples themselves."""

    height: int
    width: int
    channels: int
    kind: Kind
    step: tuple[int, int] = (1, 1)
    """Picture pixels for each sample, down and right: 1 or 2."""
    phase: tuple[int, int] = (0, 0)
    """Sample k covers picture rows ``step * k - phase`` on: 0, or 1 or 2 where the step is 2."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, channels)."""
        return self.height, self.width, self.channels


@dataclass(frozen=True)
class Plane:
    """Samples that are coded as one image: (height, width, channels) uint8."""

    samples: Bytes
    kind: Kind
    step: tuple[int, int] = (1, 1)
    phase: tuple[int, int] = (0, 0)

    @property
    def layout(self) -> PlaneLayout:
        """All but the samples."""
        height, width, channels = self.samples.shape
        return PlaneLayout(height, width, channels, self.kind, self.step, self.phase)


@dataclass(frozen=True)
class Picture:
    """Planes of bytes, a mode, and metadata.

    ``planes`` holds one (height, width, channels) uint8 array for each component of
    ``MODES[mode]``; ``metadata`` comes back as it went in.
    """

    mode: str
    planes: tuple[Bytes, ...]
    metadata: bytes = b""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"there is no mode {self.mode!r}")
        if len(self.planes) != len(MODES[self.mode]):
            raise ValueError(f"mode {self.mode} has {len(MODES[self.mode])} planes")
        for plane, channels in zip(self.planes, MODES[self.mode], strict=True):
            if plane.dtype != np.uint8 or plane.shape != (self.height, self.width, channels):
                raise ValueError(f"a plane of mode {self.mode} is {plane.dtype} {plane.shape}")
        if self.height == 0 or self.width == 0:
            raise ValueError("a picture has at least one pixel")

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.planes[0].shape[0])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.planes[0].shape[1])

    @property
    def crc(self) -> int:
        """The CRC-32 of the bytes of all planes in order."""
        crc = 0
        for plane in self.planes:
            for band in bands(plane):  # one colour need not be there as all pixels
                crc = crc32(np.ascontiguousarray(band).data, crc)
        return crc


def bands(pixels: NDArray[Any], at_once: int = 1 << 18) -> Iterator[NDArray[Any]]:
    """Rows of (height, width, ...) pixels from the top on, so many pixels at once at most, or one
    row: what is computed of them takes bounded memory."""
    rows = max(1, at_once // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        yield pixels[top : top + rows]
