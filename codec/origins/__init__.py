"""Origins: what a picture's pixels were computed from, a module each.

An origin is found by looking at the pixels, verified by rendering them again, and undone: the file
holds the samples that the pixels were computed from. What is found need not render to every pixel:
the encoder compares, and corrects the others. `pixelzip.codec.origins.origin` is the interface.
"""

from __future__ import annotations

from pixelzip.codec.errors import FormatError
from pixelzip.codec.origins import levels, tone, ycc
from pixelzip.codec.origins.origin import Origin

ALL: tuple[Origin, ...] = (ycc, tone, levels)
"""In the order in which the encoder looks for them."""


def by_number(number: int) -> Origin:
    """The origin of that number. FormatError if there is none."""
    for origin in ALL:
        if number == origin.NUMBER:
            return origin
    raise FormatError(
        "the file is damaged, or newer than this pixelzip: its pixels have an unknown origin"
    )
