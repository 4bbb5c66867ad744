"""Corrections: the pixels of a picture that differ from what its origin renders.

They are one message of `pixelzip.codec.bits`, pixel by pixel in raster order: whether a pixel
differs, given which of its neighbours do, how long ago the last one did, and whether its rendering
is clipped (a channel is 0 or 255), as that is where renderings fail; and if it does, its channels.

A differing pixel is of one of five *kinds*. It equals the pixel to the left, or the one above it,
or the last one of these two kinds (a box, a letter), or its channels are coded as differences, from
the rendering (which rounded otherwise, or lies under something faint) or from what the pixels
around predict (something else altogether). Where nothing differs the message has no bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import bits

Pixels = NDArray[np.uint8]


def encode(pixels: Pixels, rendered: Pixels) -> bytes:
    """What turns ``rendered`` (height, width, channels) into ``pixels`` of the same shape."""
    if np.array_equal(pixels, rendered):
        return b""
    pixels, rendered = pixels.copy(order="C"), np.ascontiguousarray(rendered)
    return bits.encode(lambda coder, words: _code(coder, words, rendered, pixels))


def apply(data: bytes, rendered: Pixels) -> Pixels:
    """The pixels that `encode` got, a new array. FormatError for data that no encoder writes.

    Other data that is damaged gives other pixels.
    """
    pixels = rendered.copy(order="C")
    if data:
        _code(*bits.decoder(data), np.ascontiguousarray(rendered), pixels)
    return pixels


def _code(coder: bits.Coder, words: bits.Words, rendered: Pixels, pixels: Pixels) -> None:
    """Encode ``pixels``, or decode them over what they hold, which is what is rendered."""
    library = bits.library()
    if library is None:
        from pixelzip.codec.loops import corrections as loops

        loops.code(coder, words, rendered, pixels)
    elif not library.corrections_code(coder, words, len(words), rendered, pixels, *pixels.shape):
        raise MemoryError("there is not enough memory to code corrections")
