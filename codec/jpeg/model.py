"""Coefficients and segments of JPEG files to bytes and back, by an adaptive model in C.

Among what it mixes is what a network says (`pixelzip.codec.jpeg.network`). It begins with what it
has learnt from photographs (`prior.xz`, part of the format), and goes on learning from the file. A
large picture is cut into *bands* of rows, each of which begins anew, so that threads can share the
work.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native
from pixelzip.codec.errors import FormatError, UnknownNetworkError
from pixelzip.codec.jpeg import network, prior
from pixelzip.codec.jpeg.headers import Frame
from pixelzip.codec.jpeg.prior import Prior
from pixelzip.codec.jpeg.syntax import Blocks
from pixelzip.codec.probabilities import LOGIT
from pixelzip.codec.tables import SIGMOID
from pixelzip.codec.workers import Map

BAND = 20_000
"""The least number of blocks that a band of several has."""
MAX_BANDS = 16
EDITION = 0
"""Of network, prior and the way that both are mixed. A file names the one that it needs, so that
another one can be added beside this."""
FASTEST = 2
"""Of the instructions that the network's products are made with: 0 plain C, 1 AVX2, 2 AVX-512."""
COUNT_LIMIT = 1023
"""Up to which a slot counts the bits that it has seen, in its low bits."""

Memory = NDArray[np.int32]
Steps = NDArray[np.int32]
"""Quantisation steps, (components, 64) in zigzag order; none is 0."""


def check_edition(number: int) -> None:
    """Raise UnknownNetworkError if the edition that a file names is not at hand."""
    if number != EDITION:
        raise UnknownNetworkError(
            f"the file needs edition {number} of the network of JPEG coefficients, and this "
            f"pixelzip has {EDITION}: install a newer one"
        )


class NoRoomError(Exception):
    """Coding made more bytes than there were."""


@native.once
def library() -> ctypes.CDLL | None:
    """The compiled functions, or None where there was no compiler."""
    found = native.library("pixelzip.codec._coding")
    if found is None:
        return None
    numbers, octets, size = native.array(np.int32), native.array(np.uint8), ctypes.c_int64
    number, blocks, prices = ctypes.c_int, native.array(np.int16), native.array(np.uint32)
    found.model_tables.argtypes = [numbers] * 3
    found.memory_sizes.argtypes = found.network_sizes.argtypes = [native.array(np.int64)]
    found.model_network.argtypes = [native.array(np.int8), numbers, octets, number]
    found.memory_fresh.argtypes = [numbers]
    found.model_blocks.restype = found.model_bytes.restype = size
    found.model_blocks.argtypes = [
        *(numbers, number, blocks, numbers, number, number, numbers, number, number),
        *(octets, size, prices),
    ]
    found.model_bytes.argtypes = [numbers, number, octets, size, octets, size]
    found.model_tables(*_tables())
    sizes = np.empty(3, np.int64)
    found.network_sizes(sizes)
    found.model_network(*network.load(tuple(map(int, sizes))), FASTEST)
    return found


def _tables() -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Logits of probabilities, probabilities of logits, and what bits cost: (4096) each."""
    logit = np.clip(LOGIT >> 6, -2047, 2047)
    at = np.arange(2 * 2048, dtype=np.int64) + 2048  # in units of 1/256, from -16 on
    low, high = SIGMOID[at >> 2], SIGMOID[(at >> 2) + 1]
    sigmoid = (low + ((high - low) * (at & 3) >> 2)) >> 6
    # None of these is within 2^-15 of a half, so all machines' logarithms round alike.
    price = np.rint(1024 * (13 - np.log2(2 * np.arange(4096) + 1)))
    return logit.astype(np.int32), sigmoid.astype(np.int32), price.astype(np.int32)


def encode_blocks(
    frame: Frame, steps: Steps, blocks: Blocks, room: int, parallel: Map, first: int = 0
) -> list[bytes]:
    """The bytes of all bands. Raises NoRoomError if one of them takes more than ``room`` bytes.

    Components before the ``first`` one are not coded: a decoder knows them, too.
    """
    most = max(1, min(MAX_BANDS, frame.units_down, frame.blocks // BAND))
    count = 1 << most.bit_length() - 1  # so that two or four threads have the same to do

    def band(rows: tuple[int, int]) -> bytes:
        out = np.empty(room, np.uint8)
        length = _blocks(False, frame, steps, blocks, rows, out, None, first=first)
        return out[:length].tobytes()

    return list(parallel(band, list(pairwise(_cuts(frame, count)))))


def decode_blocks(
    frame: Frame, steps: Steps, data: Sequence[bytes], parallel: Map, known: Blocks | None = None
) -> tuple[Blocks, NDArray[np.uint32]]:
    """The coefficients of the bands, and what each block of them took, in units of 2^-10 bits.

    ``known`` are those of the components before the first one that was coded. Raises FormatError
    for bands that no encoder makes.
    """
    blocks = np.zeros((frame.blocks, 64), np.int16)
    prices = np.zeros(frame.blocks, np.uint32)
    first = 0
    if known is not None:
        blocks[: len(known)] = known
        first = [component.first for component in frame.components].index(len(known))

    def band(rows: tuple[int, int], stored: bytes) -> None:
        coded = np.frombuffer(stored, np.uint8).copy()
        _blocks(True, frame, steps, blocks, rows, coded, prices, first=first)

    with _damage():
        list(parallel(band, list(pairwise(_cuts(frame, len(data)))), data))
    return blocks, prices


def encode_bytes(text: bytes) -> bytes:
    """Segments and notes, or any bytes like them."""
    return _text_bytes(_after_dictionary().copy(), text)


def decode_bytes(data: bytes, count: int) -> bytes:
    """Back from `encode_bytes`. Raises FormatError for what it never makes."""
    text = np.zeros(count, np.uint8)
    memory, coded = _after_dictionary().copy(), np.frombuffer(data, np.uint8).copy()
    with _damage():
        _checked(_library().model_bytes(memory, True, text, count, coded, len(coded)))
    return text.tobytes()


def fresh_memory() -> Memory:
    """A memory that knows nothing."""
    memory = np.empty(sum(memory_sizes()), np.int32)
    _library().memory_fresh(memory)
    return memory


def teach(memory: Memory, frame: Frame, steps: Steps, blocks: Blocks) -> None:
    """Let a memory learn from a picture."""
    out = np.empty(64 * 64 * len(blocks) + 64, np.uint8)
    _blocks(False, frame, steps, blocks, (0, frame.units_down), out, None, memory)


def cost_of_texts(dictionary: bytes, texts: Sequence[bytes]) -> int:
    """How many bytes texts take, each by itself after a dictionary."""
    memory = _after(dictionary)
    return sum(len(_text_bytes(memory.copy(), text)) for text in texts)


@cache
def memory_sizes() -> tuple[int, ...]:
    """How many slots, weights, final weights and refined probabilities there are."""
    sizes = np.empty(4, np.int64)
    _library().memory_sizes(sizes)
    return tuple(map(int, sizes))


@cache
def _prior() -> Prior:
    return prior.load(memory_sizes(), fresh_memory())


@cache
def _after_dictionary() -> Memory:
    return _after(_prior().dictionary)


def _after(dictionary: bytes) -> Memory:
    """A memory that has coded a dictionary."""
    memory = fresh_memory()
    _text_bytes(memory, dictionary)
    return memory


def _cuts(frame: Frame, count: int) -> list[int]:
    return [frame.units_down * band // count for band in range(count + 1)]


def _blocks(
    decoding: bool,
    frame: Frame,
    steps: Steps,
    blocks: Blocks,
    rows: tuple[int, int],
    coded: NDArray[np.uint8],
    prices: NDArray[np.uint32] | None,
    memory: Memory | None = None,
    first: int = 0,
) -> int:
    memory = _prior().memory.copy() if memory is None else memory
    shapes = np.array([(c.first, c.stride, c.h, c.v) for c in frame.components], np.int32)
    return _checked(
        _library().model_blocks(
            *(memory, decoding, blocks, shapes, len(shapes), first, steps, *rows),
            *(coded, len(coded), prices),
        )
    )


def _text_bytes(memory: Memory, text: bytes) -> bytes:
    out = np.empty(16 * len(text) + 64, np.uint8)  # no bit takes more than 11
    given = np.frombuffer(text, np.uint8).copy()
    length = _checked(_library().model_bytes(memory, False, given, len(given), out, len(out)))
    return out[:length].tobytes()


def _checked(length: int) -> int:
    if length == -2:
        raise MemoryError
    if length == -1:
        raise NoRoomError
    return length


@contextmanager
def _damage() -> Iterator[None]:
    """What decoding runs into where bytes are missing or left over."""
    try:
        yield
    except NoRoomError:
        raise FormatError("the file is damaged: its coefficients are impossible") from None


def _library() -> ctypes.CDLL:
    found = library()
    assert found is not None  # callers ask first
    return found
