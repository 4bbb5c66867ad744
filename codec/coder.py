"""The range coder: constriction's, fed with integer frequencies.

constriction's ``Categorical(perfect=False)`` gives each of n symbols one unit out of 2^24 and
scales the weights it is given to fill the rest. Given integers that already add up to 2^24 - n,
its scale is exactly 1, so it uses exactly these integers plus one. Hence the tables of
`pixelzip.codec.cdf` hold frequencies less one.

The encoder needs no table: the interval of the symbol is enough. It codes symbol 1 of a model of
three (all below, the symbol, all above); a decoder that holds the full table reads it back.

A payload is the coder's 32-bit words, most significant byte first, less what zeros would say.
"""

from __future__ import annotations

from collections.abc import Sequence

import constriction
import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.cdf import TOTAL_BITS
from pixelzip.codec.compiled import kernel
from pixelzip.codec.errors import FormatError

_MODEL = constriction.stream.model.Categorical(perfect=False)
_WORD = np.dtype(">u4")
_STATE_BYTES = 8  # lower and range are 64-bit numbers


def encode(intervals: NDArray[np.float32]) -> bytes:
    """Code (n, 3) intervals of `pixelzip.codec.cdf.intervals`, in order, into a payload."""
    coder = constriction.stream.queue.RangeEncoder()
    coder.encode(np.ones(len(intervals), np.int32), _MODEL, intervals)
    sealed: bytes = coder.get_compressed().astype(_WORD).tobytes()
    words, (lower, width) = coder.pos()
    head, tail = sealed[: words * _WORD.itemsize], sealed[words * _WORD.itemsize :]
    settled = int.from_bytes(head, "big")
    if int.from_bytes(tail.ljust(_STATE_BYTES, b"\0"), "big") < lower:
        settled -= 1  # constriction ended the stream with a carry
    lower += settled << 8 * _STATE_BYTES
    return _end(lower, width).to_bytes(len(head) + _STATE_BYTES, "big").rstrip(b"\0")


def _end(lower: int, width: int) -> int:
    """The number in [lower, lower + width), all of which end the stream, with the fewest bytes."""
    ends = (-(-lower >> bits) << bits for bits in range(8 * _STATE_BYTES, -1, -8))
    return next(end for end in ends if end < lower + width)


@kernel
def _follow(table, symbols, state):  # type: ignore[no-untyped-def]
    """Take the encoder's state, (lower, width, words), through these symbols."""
    lower, width, words = state
    for i in range(len(symbols)):
        below = np.uint64(0)
        for k in range(symbols[i] + 1):
            below += np.uint64(table[i, k]) + np.uint64(1)
        scale = width >> np.uint64(TOTAL_BITS)
        lower += scale * below
        width = scale * (np.uint64(table[i, symbols[i] + 1]) + np.uint64(1))
        if width < np.uint64(1 << 32):
            lower <<= np.uint64(32)
            width <<= np.uint64(32)
            words += np.uint64(1)
    state[0], state[1], state[2] = lower, width, words


class Decoder:
    """Reads the nibbles of one payload, front by front."""

    def __init__(self, payload: bytes) -> None:
        """FormatError for a payload that no encoder writes."""
        if payload.endswith(b"\0"):
            raise FormatError("the compressed data is damaged")
        self._payload = payload
        self._state = np.array([0, 2**64 - 1, 0], np.uint64)
        padded = payload + bytes(_STATE_BYTES + -len(payload) % _WORD.itemsize)
        words = np.frombuffer(padded, _WORD).astype(np.uint32)
        self._coder = constriction.stream.queue.RangeDecoder(words)

    def decode(self, table: NDArray[np.float32]) -> NDArray[np.int32]:
        """(n, 18) frequencies less one -> the n nibbles. FormatError if none can be there."""
        try:
            symbols: NDArray[np.int32] = self._coder.decode(_MODEL, table) - 1
        except (AssertionError, ValueError) as error:
            raise FormatError("the compressed data is damaged") from error
        if symbols.view(np.uint32).max() > 15:  # a guard: -1 is a large number there
            raise FormatError("the compressed data is damaged")
        _follow(table, symbols, self._state)
        return symbols

    def finish(self) -> None:
        """Raise FormatError unless the payload is what the encoder makes of what was read."""
        lower, width, words = map(int, self._state)
        tail = self._payload[words * _WORD.itemsize :]
        found = int.from_bytes(tail[:_STATE_BYTES].ljust(_STATE_BYTES, b"\0"), "big")
        beyond = (found - lower) % (1 << 8 * _STATE_BYTES)  # lower is without its carries
        if len(tail) > _STATE_BYTES or _end(found - beyond, width) != found:
            raise FormatError("the compressed data is damaged: there is more of it than it says")


class RandomBits:
    """In place of a `Decoder`: decoding random bits is sampling.

    Each nibble takes 24 random bits and comes as often as its frequency says. (constriction's own
    decoder would refuse about one in 10,000 nibbles of a random payload, because no encoder writes
    such: where 2^24 does not divide its range, a rest is left over.)
    """

    def __init__(self, seed: Sequence[int]) -> None:
        """Numbers of at least 0 that choose the bits, the same ones everywhere."""
        self._bits = np.random.PCG64(np.random.SeedSequence(seed))

    def decode(self, table: NDArray[np.float32]) -> NDArray[np.int32]:
        """(n, 18) frequencies less one -> n nibbles. A guard becomes the nibble beside it."""
        # The raw bits are the same in every version of numpy; its distributions need not be.
        raw = self._bits.random_raw(len(table))
        quantiles = (raw >> np.uint64(64 - TOTAL_BITS)).astype(np.int64)
        ends = np.cumsum(table.astype(np.int64) + 1, axis=1)
        symbols = (ends <= quantiles[:, None]).sum(axis=1)
        nibbles: NDArray[np.int32] = np.clip(symbols - 1, 0, 15).astype(np.int32)
        return nibbles

    def finish(self) -> None:
        """There are always more of them."""
