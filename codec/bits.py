"""An adaptive binary range coder: bits, each coded with a probability that its context has learnt.

What is coded in this way is a *model*: a compiled function that visits bits one after the other, in
C (``csrc/bits.h`` has `code_bit` and `code_mixed`) or, where that could not be compiled, in numba's
loops (`pixelzip.codec.loops.bits` has the same). The same function encodes and decodes, since
both give back the bit; when decoding, the bit that is passed in is not looked at::

    @kernel
    def model(coder, words, contexts, mask):
        previous = 0
        for i in range(len(mask)):
            previous = code_bit(coder, words, contexts, previous, 255, mask[i])
            mask[i] = previous

    data = encode(lambda coder, words: model(coder, words, fresh(2), mask))
    model(*decoder(data), fresh(2), mask)

Everything is integer arithmetic, so every machine finds the same probabilities. Probabilities are
those of a one. A decoder reads zeros beyond the end of its data, and is never at a loss: any data
decodes to some bits, as many as the model asks for. No data at all decodes to zeros, and only that.

A *context* is a row of an array: its probability in units of 2^-40, and how many bits it has seen,
counted up to a limit. Each bit moves the probability towards it by the 1 / (seen + 1.5)th part of
the way, so that a context learns fast at first and then as slowly as its limit says.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native
from pixelzip.codec.errors import FormatError
from pixelzip.codec.probabilities import LOGIT
from pixelzip.codec.tables import SIGMOID

Coder = NDArray[np.uint64]
"""Its state: the range, the lower end (or, decoding, the offset from it), words done, encoding?"""
Words = NDArray[np.uint32]

_STATE_BYTES = 8


def library() -> ctypes.CDLL | None:
    """The compiled models with their tables; None where they could not be built."""
    found = native.coding()
    return None if found is None else _with_tables(found)


@native.once
def _with_tables(found: ctypes.CDLL) -> ctypes.CDLL:
    found.bits_tables(LOGIT, SIGMOID)
    return found


# From and to bytes.


def encode(model: Callable[[Coder, Words], object], likely: int = 1 << 16) -> bytes:
    """The bytes of what a model codes. ``likely`` is a guess at their number.

    The model runs again if there are more, so it has to code the same twice.
    """
    words = np.zeros(-(-likely // 4), np.uint32)
    coder = _encoder()
    model(coder, words)
    done = int(coder[2])
    if done > len(words):
        words, coder = np.zeros(done, np.uint32), _encoder()
        model(coder, words)
    width, lower = int(coder[0]), int(coder[1])
    settled = words[:done].astype(">u4").tobytes()
    # Any number in [lower, lower + width) ends the stream: take the one with the fewest bytes.
    lower += int.from_bytes(settled, "big") << 8 * _STATE_BYTES
    ends = (-(-lower >> bits) << bits for bits in range(8 * _STATE_BYTES, -1, -8))
    end: int = next(end for end in ends if end < lower + width)
    return end.to_bytes(len(settled) + _STATE_BYTES, "big").rstrip(b"\0")


def _encoder() -> Coder:
    return np.array([2**64 - 1, 0, 0, 1], np.uint64)


def decoder(data: bytes) -> tuple[Coder, Words]:
    """What a model needs to decode ``data``. FormatError for data that no encoder writes."""
    offset = int.from_bytes(data[:_STATE_BYTES].ljust(_STATE_BYTES, b"\0"), "big")
    if data.endswith(b"\0") or offset == 2**64 - 1:
        raise FormatError("the compressed data is damaged")
    rest = data[_STATE_BYTES:]
    words = np.frombuffer(rest + bytes(-len(rest) % 4), ">u4").astype(np.uint32)
    return np.array([2**64 - 1, offset, 0, 0], np.uint64), words


# The simplest model: a row of flags.


def encode_flags(flags: NDArray[np.bool_]) -> bytes:
    """Flags (n,) that come in regular patterns, or in runs, in few bytes."""
    return encode(lambda coder, words: _flags(coder, words, flags.copy()), len(flags) // 8)


def decode_flags(data: bytes, count: int) -> NDArray[np.bool_]:
    """Back from `encode_flags`. FormatError for data that no encoder writes."""
    flags = np.zeros(count, np.bool_)
    _flags(*decoder(data), flags)
    return flags


def _flags(coder: Coder, words: Words, flags: NDArray[np.bool_]) -> None:
    found = library()
    if found is None:
        from pixelzip.codec.loops import bits as loops

        loops.flags(coder, words, flags)
    elif not found.flags_code(coder, words, len(words), flags.view(np.uint8), len(flags)):
        raise MemoryError("there is not enough memory to code flags")
