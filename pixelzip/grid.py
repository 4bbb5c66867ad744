"""Pictures of one size side by side, in a grid as square as possible: samples and completions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

_LEGIBLE = 96
"""Smaller pictures are enlarged until their longer side has about so many pixels."""
_GAP = 2
"""Pixels between pictures, and around them."""
_PAPER = 255
GREY = 128
"""What stands for pixels that are not known."""


def arrange(images: Sequence[Image.Image], scale: int | None = None) -> Image.Image:
    """A grid of pictures of one size and mode (L or RGB), row by row.

    Each pixel becomes a square of ``scale`` pixels; by default small pictures are enlarged so that
    one can see them.
    """
    width, height = images[0].size
    scale = scale or max(1, round(_LEGIBLE / max(width, height)))
    width, height = width * scale, height * scale
    columns = _columns(len(images), width, height)
    rows = -(-len(images) // columns)
    size = columns * (width + _GAP) + _GAP, rows * (height + _GAP) + _GAP
    paper = Image.new(images[0].mode, size, (_PAPER,) * len(images[0].getbands()))
    for number, image in enumerate(images):
        row, column = divmod(number, columns)
        enlarged = image.resize((width, height), Image.Resampling.NEAREST)
        paper.paste(enlarged, (_GAP + column * (width + _GAP), _GAP + row * (height + _GAP)))
    return paper


def _columns(count: int, width: int, height: int) -> int:
    """How many pictures to put in a row: so that the longer side is the shortest."""

    def longer_side(columns: int) -> int:
        return max(columns * width, -(-count // columns) * height)

    return min(range(count, 0, -1), key=longer_side)


def masked(image: Image.Image, rows: int) -> Image.Image:
    """The picture (L or RGB) with all but its upper rows in mid-grey."""
    pixels = np.array(image)
    pixels[rows:] = GREY
    return Image.fromarray(pixels)
