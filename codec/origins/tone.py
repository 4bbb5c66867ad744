"""One tone: a grey picture, also one stored as colour, that a JPEG decoder made.

Its plane holds the tone; what there is to find are the coefficients that it was computed from.
Coloured pixels, such as a caption, are left to corrections.

Parameters: a byte, how many channels the pixels have, 1 or 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pixelzip.codec import native
from pixelzip.codec.errors import FormatError
from pixelzip.codec.origins import blocks
from pixelzip.codec.origins.origin import Found, Samples
from pixelzip.codec.picture import Box, Bytes, Plane, PlaneLayout
from pixelzip.codec.workers import Map

NUMBER = 2

_SAMPLE = 1 << 12
"""So many pixels are looked at before all of them are."""
_GREY = 0.9
"""The least share of pixels without a colour."""


def find(pixels: Samples, parallel: Map = map) -> Found | None:
    """(height, width, 1 or 3) uint8 -> the tone and its coefficients, if it was a JPEG's."""
    height, width, channels = pixels.shape
    if pixels.dtype != np.uint8 or channels not in (1, 3) or native.coding() is None:
        return None
    plane, known = pixels[:, :, channels // 2], np.ones((height, width), np.bool_)
    if channels == 3:
        some = pixels.reshape(-1, 3)[:: max(1, height * width // _SAMPLE)]
        green = some[:, 1]
        if ((some[:, 0] == green) & (some[:, 2] == green)).mean() < _GREY:
            return None
        known = (pixels == pixels[:, :, :1]).all(axis=2)
    found = blocks.find(np.ascontiguousarray(plane), known, parallel=parallel)
    if found is None:
        return None
    return Found(bytes([channels]), (Plane(plane[:, :, None], "luma"),), (found,))


def layout(parameters: bytes, shape: tuple[int, int]) -> tuple[PlaneLayout, ...]:
    """The one plane. FormatError if the parameters are not a 1 or a 3."""
    if parameters not in (b"\1", b"\3"):
        raise FormatError("the file is damaged: its pixels have neither one channel nor three")
    return (PlaneLayout(*shape, 1, "luma"),)


def render(parameters: bytes, planes: Sequence[Bytes], shape: tuple[int, int]) -> Bytes:
    """The tone in each channel."""
    return planes[0].repeat(parameters[0], axis=2)


def part(parameters: bytes, shape: tuple[int, int], box: Box) -> tuple[bytes, Box]:
    """Each pixel is rendered by itself."""
    return parameters, box


def describe(parameters: bytes) -> str:
    """In words."""
    return "one tone"
