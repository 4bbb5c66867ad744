"""Sets of colours as bits: what `pixelzip.codec.colours` holds, in few bytes.

The bytes are one message of `pixelzip.codec.bits`: for each block of 8x8x8 colours, in order of
red, green and blue, whether it has any; then, if so, for each of its colours, in the same order,
whether it is there. What is already known nearby, in the directions in which photographs extend (of
brightness above all) and in which renderings repeat, tells what to expect.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import bits
from pixelzip.codec.errors import FormatError

Words = NDArray[np.uint16]


def encode(blue: Words) -> bytes:
    """The bytes of a set (65536, 16), see `pixelzip.codec.colours.Colours`."""
    blue = blue.copy()
    return bits.encode(lambda coder, words: _code(coder, words, blue, 1 << 24), blue.nbytes)


def decode(data: bytes, most: int) -> Words:
    """Back from the bytes. FormatError if damaged, or if there are more than ``most`` colours."""
    blue = np.zeros((65536, 16), np.uint16)
    if not _code(*bits.decoder(data), blue, most):
        raise FormatError("the file is damaged: its set of colours is impossible")
    return blue


def _code(coder: bits.Coder, words: bits.Words, blue: Words, most: int) -> bool:
    """Encode the set ``blue``, or decode it into zeros. False if it is impossible.

    What is decoded has at most ``most`` colours, and so bounds the work.
    """
    library = bits.library()
    if library is None:
        from pixelzip.codec.loops import colours as loops

        return bool(loops.code(coder, words, blue, most))
    done = library.colours_code(coder, words, len(words), blue, most)
    if done < 0:
        raise MemoryError("there is not enough memory to code a set of colours")
    return bool(done)
