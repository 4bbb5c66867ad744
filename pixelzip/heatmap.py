"""A cost map as a picture: dark where pixels were cheap, bright where they were dear, and a scale.

Drawn with Pillow, pixel by pixel, so that it needs nothing that is not installed anyway and shows
each pixel of a small image as a square of its own.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_STOPS = ("#07061c", "#371168", "#7d1d7e", "#c7365c", "#f3703b", "#fbb64a", "#fcf8ba")
"""Evenly spaced; each is lighter than the one before, so that the map also reads in grey."""
_DIVISIONS = {1.0: 4, 1.5: 3, 2.0: 4, 2.5: 5, 3.0: 3, 4.0: 4, 5.0: 5, 6.0: 3, 8.0: 4, 10.0: 4}
"""Where a scale may end, but for a power of ten, and in how many parts it is then divided."""
_OUTLIERS = 0.5
"""Percent of the pixels that may cost more than the scale's end: they share its last colour."""
_SMALLEST = 480
"""The least length, in pixels, of the longer side of the drawn map: smaller ones are enlarged."""
_INK, _PAPER = "#1d1b26", "#ffffff"


def _palette() -> NDArray[np.uint8]:
    stops = np.array([[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in _STOPS])
    at = np.linspace(0, len(stops) - 1, 256)
    channels = [np.interp(at, np.arange(len(stops)), stops[:, c]) for c in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


PALETTE = _palette()
"""(256, 3): the colours from 0 bits to the scale's end."""


def scale(bits: NDArray[np.float32]) -> list[float]:
    """The marks of a round scale, from 0 bits to one that only a few pixels exceed."""
    end = max(float(np.percentile(bits, 100 - _OUTLIERS)), 1e-6)
    power = 10.0 ** math.floor(math.log10(end))
    round_end = next((m for m in _DIVISIONS if m * power >= end), 10.0)
    divisions = _DIVISIONS[round_end]
    return [round_end * power * i / divisions for i in range(divisions + 1)]


def paint(bits: NDArray[np.float32], end: float) -> Image.Image:
    """(height, width) bits as an image of that size in the colours of a scale from 0 to ``end``."""
    levels = np.clip(bits * (255 / end), 0, 255).round().astype(np.uint8)
    image = Image.fromarray(levels).convert("P")
    image.putpalette(PALETTE.tobytes())
    return image


def draw(bits: NDArray[np.float32]) -> Image.Image:
    """The heat map of a (height, width) cost map, over its scale and its total; an RGB image."""
    height, width = bits.shape
    zoom = max(1, -(-_SMALLEST // max(height, width)))
    marks = scale(bits)
    heat = paint(bits, marks[-1]).resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
    size = max(15, max(heat.size) // 45)  # of the text, the unit of all distances
    font = ImageFont.load_default(size)
    total = float(bits.sum(dtype=np.float64))
    caption = f"bits per pixel: {total / bits.size:.3g} on average, {total:,.0f} in all"
    inner = max(heat.width, math.ceil(font.getlength(caption)))
    canvas = Image.new("RGB", (inner + 2 * size, heat.height + 7 * size), _PAPER)
    canvas.paste(heat.convert("RGB"), ((canvas.width - heat.width) // 2, size))

    pen = ImageDraw.Draw(canvas)
    top = heat.height + 2 * size
    strip = np.broadcast_to(np.linspace(0, marks[-1], inner, dtype=np.float32), (size, inner))
    canvas.paste(paint(strip, marks[-1]).convert("RGB"), (size, top))
    for mark in marks:
        x = size + mark / marks[-1] * (inner - 1)
        pen.line((x, top + size, x, top + size * 1.3), _INK, max(1, size // 12))
        is_end = mark == marks[-1]
        label = f"{mark:g} or more" if is_end and bits.max() > mark else f"{mark:g}"
        anchor = "la" if mark == 0 else "ra" if is_end else "ma"  # inside of the strip's ends
        pen.text((x, top + size * 1.5), label, _INK, font, anchor)
    pen.text((size, top + size * 3.2), caption, _INK, font, "la")
    return canvas
