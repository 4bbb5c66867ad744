"""Text and shapes drawn on photographs: what screens, posters and web pages mix with them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Draw = ImageDraw.ImageDraw
Colour = tuple[int, int, int]

LETTERS = "etaoinshrdlucmfwypvbgkqjxzETAOINSHRDLU0123456789.,:;-()/"
SIZES = (8, 40)
"""Of letters, in pixels."""
MOST = 5
"""Things drawn on one crop."""


def drawn_on(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A crop (height, width, 3) with one to five things drawn on it."""
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for _ in range(rng.integers(1, MOST + 1)):
        THINGS[int(rng.integers(len(THINGS)))](draw, rng)
    return np.asarray(image)


def _text(draw: Draw, rng: np.random.Generator) -> None:
    """A few lines of letters, some on a ground of one colour."""
    size = int(rng.integers(*SIZES, endpoint=True))
    font = ImageFont.load_default(size)
    words = rng.choice(list(LETTERS), size=int(rng.integers(2, 60)))
    text = "".join(words)
    lines = "\n".join(text[i : i + 12] for i in range(0, len(text), 12))
    at = _point(draw, rng)
    if rng.random() < 0.6:
        box = draw.multiline_textbbox(at, lines, font=font)
        draw.rectangle(box, fill=_colour(rng))
    draw.multiline_text(at, lines, fill=_colour(rng), font=font)


def _box(draw: Draw, rng: np.random.Generator) -> None:
    """A rectangle, with round corners or without, filled or an outline."""
    corners = _corners(draw, rng)
    line, width = _colour(rng), int(rng.integers(1, 4))
    inside = _colour(rng) if rng.random() < 0.7 else None
    radius = int(rng.integers(0, 9))
    draw.rounded_rectangle(corners, radius, fill=inside, outline=line, width=width)


def _round(draw: Draw, rng: np.random.Generator) -> None:
    draw.ellipse(_corners(draw, rng), fill=_colour(rng))


def _line(draw: Draw, rng: np.random.Generator) -> None:
    points = [_point(draw, rng) for _ in range(int(rng.integers(2, 5)))]
    draw.line(points, fill=_colour(rng), width=int(rng.integers(1, 4)))


def _ramp(draw: Draw, rng: np.random.Generator) -> None:
    """A rectangle whose colour changes from its top to its bottom."""
    left, top, right, bottom = _corners(draw, rng)
    first, last = np.array(_colour(rng)), np.array(_colour(rng))
    for row in range(top, bottom):
        share = (row - top) / max(1, bottom - top)
        red, green, blue = np.rint(first + share * (last - first)).astype(int).tolist()
        draw.line([(left, row), (right, row)], fill=(red, green, blue))


Thing = Callable[[Draw, np.random.Generator], None]
THINGS: tuple[Thing, ...] = (_text, _text, _box, _round, _line, _ramp)


def _colour(rng: np.random.Generator) -> Colour:
    """Any colour; half of the time black, white or grey."""
    if rng.random() < 0.5:
        grey = (0, 255, int(rng.integers(256)))[int(rng.integers(3))]
        return grey, grey, grey
    red, green, blue = rng.integers(256, size=3).tolist()
    return red, green, blue


def _point(draw: Draw, rng: np.random.Generator) -> tuple[int, int]:
    width, height = draw.im.size
    return int(rng.integers(-width // 4, width)), int(rng.integers(-height // 4, height))


def _corners(draw: Draw, rng: np.random.Generator) -> tuple[int, int, int, int]:
    (left, top), (right, bottom) = _point(draw, rng), _point(draw, rng)
    return min(left, right), min(top, bottom), max(left, right), max(top, bottom)
