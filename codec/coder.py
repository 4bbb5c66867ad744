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

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native
from pixelzip.codec.cdf import TOTAL_BITS
from pixelzip.codec.errors import FormatError

try:
    import constriction
except ImportError:  # it is not to be had everywhere
    constriction = None
_WORD = np.dtype(">u4")
_STATE_BYTES = 8  # lower and range are 64-bit numbers


def encode(intervals: NDArray[np.float32]) -> bytes:
    """Code (n, 3) intervals of `pixelzip.codec.cdf.intervals`, in order, into a payload."""
    head, lower, width = (encoded if constriction is None else encoded_by_constriction)(intervals)
    lower += int.from_bytes(head, "big") << 8 * _STATE_BYTES
    return _end(lower, width).to_bytes(len(head) + _STATE_BYTES, "big").rstrip(b"\0")


def _end(lower: int, width: int) -> int:
    """The number in [lower, lower + width), all of which end the stream, with the fewest bytes."""
    ends = (-(-lower >> bits) << bits for bits in range(8 * _STATE_BYTES, -1, -8))
    return next(end for end in ends if end < lower + width)


def encoded_by_constriction(intervals: NDArray[np.float32]) -> tuple[bytes, int, int]:
    """The bytes that are settled, and the coder's lower and range after them."""
    model = constriction.stream.model.Categorical(perfect=False)
    coder = constriction.stream.queue.RangeEncoder()
    coder.encode(np.ones(len(intervals), np.int32), model, intervals)
    sealed: bytes = coder.get_compressed().astype(_WORD).tobytes()
    words, (lower, width) = coder.pos()
    head, tail = sealed[: words * _WORD.itemsize], sealed[words * _WORD.itemsize :]
    if int.from_bytes(tail.ljust(_STATE_BYTES, b"\0"), "big") < lower:
        # constriction ended the stream with a carry
        head = (int.from_bytes(head, "big") - 1).to_bytes(len(head), "big")
    return head, lower, width


def encoded(intervals: NDArray[np.float32]) -> tuple[bytes, int, int]:
    """The same, by our own reading of what constriction does."""
    words, state = np.empty(_WORD.itemsize * len(intervals), np.uint8), np.empty(2, np.uint64)
    library = native.coding()
    if library is not None:
        written = library.encode(np.ascontiguousarray(intervals), len(intervals), words, state)
    else:
        from pixelzip.codec.loops import frequencies as loops

        written = loops.encode(intervals, words, state)
    return words[:written].tobytes(), int(state[0]), int(state[1])


class Decoder:
    """Reads the nibbles of one payload, front by front."""

    def __init__(self, payload: bytes) -> None:
        """FormatError for a payload that no encoder writes."""
        check_end(payload)
        self.payload, self.state = payload, start(payload)

    def decode(self, table: NDArray[np.float32]) -> NDArray[np.int32]:
        """(n, 18) frequencies less one -> the n nibbles. FormatError if none can be there."""
        payload, library = self.payload, native.coding()
        nibbles = np.empty(len(table), np.int32)
        if library is not None:
            table = np.ascontiguousarray(table)
            damaged = library.decoder_decode(
                payload, len(payload), self.state, table, *table.shape, nibbles
            )
        else:
            from pixelzip.codec.loops import frequencies as loops

            read = np.frombuffer(payload, np.uint8)
            damaged = loops.decoder_decode(read, self.state, table, nibbles)
        if damaged:
            raise FormatError("the compressed data is damaged")
        return nibbles

    def finish(self) -> None:
        """Raise FormatError unless the payload is what the encoder makes of what was read."""
        check_finished(self.payload, self.state)


def start(payload: bytes) -> NDArray[np.uint64]:
    """A decoder's state (3,) at the start: offset, range, and how many bytes it asked for."""
    state, library = np.zeros(3, np.uint64), native.coding()
    if library is not None:
        library.decoder_start(payload, len(payload), state)
    else:
        head = payload[:_STATE_BYTES].ljust(_STATE_BYTES, b"\0")
        state[:] = int.from_bytes(head, "big"), 2**64 - 1, _STATE_BYTES
    return state


def check_finished(payload: bytes, state: NDArray[np.uint64]) -> None:
    """FormatError unless an encoder of what was read would have written this payload.

    ``state`` is the decoder's, see `start`.
    """
    offset, width, position = map(int, state)
    tail = payload[position - _STATE_BYTES :]  # what offset counts from lower to
    found = int.from_bytes(tail[:_STATE_BYTES].ljust(_STATE_BYTES, b"\0"), "big")
    if len(tail) > _STATE_BYTES or _end(found - offset, width) != found:
        raise FormatError("the compressed data is damaged: there is more of it than it says")


def check_end(payload: bytes) -> None:
    """FormatError if a payload ends as no encoder ends it."""
    if payload.endswith(b"\0"):
        raise FormatError("the compressed data is damaged")


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
