"""The adaptive last stage: a network's mixtures, corrected by what their tile has taught so far.

A network is the same for all pictures. The stage goes through one tile in the order of decoding and
keeps solving least squares over what it has passed. It codes a sub-pixel as a few decisions: on
which side of a prediction it lies, how far away, and where exactly. For each it has the opinions of
several *experts*: the network's own mixture; logistics about the predictions of the filters; the
network's mixture moved to where they all point; and *memories* of which values came in the same
surroundings. These are mixed in the logistic domain, with
weights that learn from decision to decision. docs/format.md has all of it to the last rounding
("Adaptive payloads").

It needs a network that gives mixtures, whose rows trail by two columns, and that has no classes.
"""

from __future__ import annotations

import ctypes
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import coder, native
from pixelzip.codec.conditional import Conditional, Given, Shape, front_order, trails_by_two
from pixelzip.codec.decimals import table
from pixelzip.codec.errors import FormatError
from pixelzip.codec.methods import MAX_ADAPTIVE_SIDE

_MOST_DECISIONS = 16  # of a value
_LN_STEPS = 1024


class Front(NamedTuple):
    """One channel of n pixels that are coded together."""

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    channel: int
    parameters: NDArray[np.int32]
    """(n, 3, K) mixtures."""


Code = Callable[[Front], NDArray[np.uint8]]
"""Codes a front: the values (n)."""

Scored = tuple[NDArray[np.float32], NDArray[np.uint8]]
"""(decisions, 3) intervals, and how many of them each sub-pixel has."""


@cache
def _ln() -> NDArray[np.int64]:
    """The natural logarithm from 1 to 2; made when it is asked for, which takes a while."""
    return table(
        ((1 + Decimal(i) / _LN_STEPS).ln() for i in range(_LN_STEPS + 1)),
        16,
        "b36268140ba296a8841b24c36f1eed9e616dd63f4588aeb503afc96d42e7e07a",
    )


def suits(conditional: Conditional, shape: Shape) -> bool:
    """Whether the stage may go with a network, on a tile of this shape.

    Whether that gives mixtures shows when it is asked for one.
    """
    return max(shape) <= MAX_ADAPTIVE_SIDE and trails_by_two(conditional, shape)


def score(conditional: Conditional, tile: NDArray[np.uint8], given: Given | None) -> Scored | None:
    """What a tile (height, width, channels) takes, in the order of decoding.

    None if the network gives no mixtures.
    """
    height, width, channels = tile.shape
    found: list[Scored] = []

    def code(front: Front) -> NDArray[np.uint8]:
        values: NDArray[np.uint8] = tile[front.rows, front.columns, front.channel]
        found.append(stage.encode(front, values))
        return values

    with _stage((height, width), channels) as stage:
        if not _step(conditional, (height, width), channels, given, code):
            return None
    intervals, counts = zip(*found, strict=True)
    return np.concatenate(intervals), np.concatenate(counts)


def decode(
    conditional: Conditional, payload: bytes, shape: Shape, channels: int, given: Given | None
) -> NDArray[np.uint8]:
    """The tile (height, width, channels) of a payload. FormatError if it is damaged."""
    source = coder.Decoder(payload)
    pixels = np.empty((*shape, channels), np.uint8)

    def code(front: Front) -> NDArray[np.uint8]:
        values = stage.decode(front, source)
        pixels[front.rows, front.columns, front.channel] = values
        return values

    with _stage(shape, channels) as stage:
        if not suits(conditional, shape) or not _step(conditional, shape, channels, given, code):
            raise FormatError("the file is damaged: its network does not go with its method")
    source.finish()
    return pixels


def _step(
    conditional: Conditional, shape: Shape, channels: int, given: Given | None, code: Code
) -> bool:
    """Go through a tile front by front. False, and nothing done, if there are no mixtures."""
    stepper = conditional.stepwise([shape], channels, [0], None if given is None else [given])
    order, ends = front_order(conditional.steps(shape))
    for numbers in np.split(order, ends[:-1]):
        rows, columns = np.divmod(numbers, shape[1])
        stepper.select(np.zeros(len(numbers), np.intp), rows, columns)
        for channel in range(channels):
            parameters = stepper.parameters(channel)
            if parameters.ndim != 3:
                return False
            front = Front(rows.astype(np.int32), columns.astype(np.int32), channel, parameters)
            stepper.reveal(channel, code(front))
    return True


class _Stage(ABC):
    """What is known of a tile, and its filters and weights."""

    def encode(self, front: Front, values: NDArray[np.uint8]) -> Scored:
        """What the values (n) take."""
        intervals = np.empty((len(values) * _MOST_DECISIONS, 3), np.float32)
        counts = np.empty(len(values), np.uint8)
        self._code(front, values, intervals, counts, b"", None)
        return intervals[: counts.sum()].copy(), counts

    def decode(self, front: Front, source: coder.Decoder) -> NDArray[np.uint8]:
        """The values (n). FormatError if none can be there."""
        values, counts = np.zeros(len(front.rows), np.uint8), np.empty(len(front.rows), np.uint8)
        if self._code(front, values, None, counts, source.payload, source.state):
            raise FormatError("the compressed data is damaged")
        return values

    @abstractmethod
    def _code(
        self,
        front: Front,
        values: NDArray[np.uint8],
        intervals: NDArray[np.float32] | None,
        counts: NDArray[np.uint8],
        payload: bytes,
        state: NDArray[np.uint64] | None,
    ) -> int:
        """Fill intervals, one after the other, and counts of them by values; or without a place
        for them, values by a payload and the decoder's state. Not 0 if that is damaged."""


@native.once
def _library() -> ctypes.CDLL | None:
    """The compiled stage, None where there is none."""
    library = native.coding()
    if library is None or not hasattr(library, "adaptive_open"):
        return None
    native.fill_tables(library.adaptive_tables)
    octets, integers, number = native.array(np.uint8), native.array(np.int32), ctypes.c_int
    pointer, size, floats = ctypes.c_void_p, ctypes.c_int64, native.array(np.float32)
    for name, result, arguments in (
        ("adaptive_ln", None, [native.array(np.int64)]),
        ("adaptive_open", pointer, [number] * 3),
        ("adaptive_close", None, [pointer]),
        ("adaptive_code", number, [
            pointer, integers, integers, size, number, integers, number, octets, floats, octets,
            ctypes.c_char_p, size, native.array(np.uint64),
        ]),
    ):  # fmt: skip
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.adaptive_ln(_ln())
    return library


@contextmanager
def _stage(shape: Shape, channels: int) -> Iterator[_Stage]:
    library = _library()
    if library is None:
        yield _Loops(shape, channels)
        return
    address = library.adaptive_open(*shape, channels)
    if not address:
        raise MemoryError("there is not enough memory for a tile")
    try:
        yield _Compiled(library, address)
    finally:
        library.adaptive_close(address)


class _Compiled(_Stage):
    """struct adaptive of adaptive.c."""

    def __init__(self, library: ctypes.CDLL, address: int) -> None:
        self.library, self.address = library, address

    def _code(
        self,
        front: Front,
        values: NDArray[np.uint8],
        intervals: NDArray[np.float32] | None,
        counts: NDArray[np.uint8],
        payload: bytes,
        state: NDArray[np.uint64] | None,
    ) -> int:
        rows, columns, channel, parameters = front
        parameters = np.ascontiguousarray(parameters, np.int32)
        damaged: int = self.library.adaptive_code(
            self.address, rows, columns, len(rows), channel, parameters, parameters.shape[2],
            np.ascontiguousarray(values), intervals, counts, payload, len(payload), state,
        )  # fmt: skip
        return damaged


class _Loops(_Stage):
    """The same in loops that numba compiles."""

    def __init__(self, shape: Shape, channels: int) -> None:
        from pixelzip.codec.loops import adaptive as loops

        self.code, self.state = loops.code, loops.fresh(*shape, channels)

    def _code(
        self,
        front: Front,
        values: NDArray[np.uint8],
        intervals: NDArray[np.float32] | None,
        counts: NDArray[np.uint8],
        payload: bytes,
        state: NDArray[np.uint64] | None,
    ) -> int:
        if intervals is None:
            intervals = np.zeros((0, 3), np.float32)
        if state is None:
            state = np.zeros(3, np.uint64)
        room = np.empty((4, front.parameters.shape[2]), np.int64)
        read = np.frombuffer(payload, np.uint8)
        coded = self.code(self.state, *front, room, values, intervals, counts, read, state, _ln())
        return int(coded)
