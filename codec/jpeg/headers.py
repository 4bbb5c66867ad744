"""What stands between the scans of a JPEG file: the segments, as far as coding needs them.

`Headers` goes from one scan to the next. It reads the same segments twice: where the entropy-coded
data lie between them (in the file), and where they have been taken out (in what the decoder has).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SOI = b"\xff\xd8"
TABLE_BYTES = 16 + 256
MAX_SCANS = 256
MAX_SEGMENTS = 1 << 16
MAX_BLOCKS = 1 << 23
"""Of all components: half a gigapixel of luma, a gigabyte of coefficients."""

_SEQUENTIAL = (0xC0, 0xC1)
_PROGRESSIVE = 0xC2
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_KINDS = {
    0xC3: "lossless JPEG",
    0xC5: "hierarchical JPEG",
    0xC6: "hierarchical JPEG",
    0xC7: "hierarchical JPEG",
}
_ALONE = (0x01, *range(0xD0, 0xD8))
"""Markers without a segment that may stand between others: TEM, RST0 to RST7."""


@dataclass(frozen=True)
class Component:
    """A component of the frame; its blocks are padded to whole units of the frame."""

    name: int
    h: int
    v: int
    table: int
    across: int
    """Blocks a row, of those that the picture needs: the padding is not counted."""
    down: int
    stride: int
    """Blocks a row, the padding counted."""
    rows: int
    first: int
    """How many blocks the components before it have."""

    @property
    def blocks(self) -> int:
        return self.stride * self.rows


@dataclass(frozen=True)
class Frame:
    """Size and components, from a frame header."""

    width: int
    height: int
    progressive: bool
    components: tuple[Component, ...]

    @property
    def units_down(self) -> int:
        return self.components[0].rows // self.components[0].v

    @property
    def most_h(self) -> int:
        return max(component.h for component in self.components)

    @property
    def most_v(self) -> int:
        return max(component.v for component in self.components)

    @property
    def blocks(self) -> int:
        return sum(component.blocks for component in self.components)


@dataclass(frozen=True)
class Scan:
    """A scan to read or write: where its data begin, and what C needs to know of it."""

    start: int
    parameters: NDArray[np.int32]
    tables: NDArray[np.uint8]
    units: int
    interval: int

    def intervals(self, units: int) -> int:
        """How many intervals end with the first ``units``."""
        ended = units // self.interval if self.interval else 0
        return ended + (units == self.units and (not self.interval or units % self.interval != 0))


@dataclass
class Headers:
    """The state of a JPEG decoder between scans."""

    frame: Frame | None = None
    trouble: str = ""
    """Why there is no other scan, where that is not how a JPEG ends."""
    steps: dict[int, NDArray[np.uint16]] = field(default_factory=dict)
    """Quantisation tables, (64,) in zigzag order; the first one of each number."""
    ended: bool = False
    """Whether the end marker was seen."""

    def __post_init__(self) -> None:
        self._tables = np.zeros((8, TABLE_BYTES), np.uint8)
        self._interval = 0
        self._scans = 0
        self._segments = 0
        # Of each component's coefficients: up to which bit they are known, -1 if nothing is.
        self._known = np.full((4, 64), -1, np.int32)

    def model_steps(self) -> NDArray[np.int32]:
        """The steps of each component, (components, 64) in zigzag order; 1 where there is none."""
        assert self.frame is not None
        missing = np.ones(64, np.uint16)
        tables = [self.steps.get(one.table, missing) for one in self.frame.components]
        return np.maximum(np.stack(tables), 1).astype(np.int32)

    def next(self, data: bytes, position: int) -> Scan | None:
        """The next scan whose header begins at ``position`` or after other segments there."""
        try:
            return self._next(data, position)
        except _TroubleError as trouble:
            self.trouble = str(trouble)
            return None

    def _next(self, data: bytes, position: int) -> Scan | None:
        if position == 0:
            if data[:2] != SOI:
                raise _TroubleError("it does not begin as a JPEG")
            position = 2
        while True:
            if data[position : position + 1] != b"\xff":
                raise _TroubleError("it is damaged" if position < len(data) else "it is truncated")
            while data[position : position + 1] == b"\xff":
                position += 1
            if position >= len(data):
                raise _TroubleError("it is truncated")
            marker = data[position]
            position += 1
            if marker == 0xD9:
                self.ended = True
                return None
            if marker in _ALONE:
                continue
            length = int.from_bytes(data[position : position + 2], "big")
            segment = data[position + 2 : position + length]
            if length < 2 or len(segment) != length - 2:
                raise _TroubleError("it is truncated")
            self._segments += 1
            if self._segments > MAX_SEGMENTS:
                raise _TroubleError("it has too many segments")
            position += length
            if marker == 0xDA:
                return self._scan(segment, position)
            self._read(marker, segment)

    def _read(self, marker: int, segment: bytes) -> None:
        if marker in _FRAMES:
            self._read_frame(marker, segment)
        elif marker == 0xC4:
            self._read_huffman(segment)
        elif marker == 0xDB:
            self._read_steps(segment)
        elif marker == 0xDD:
            if len(segment) != 2:
                raise _TroubleError("it is damaged")
            self._interval = int.from_bytes(segment, "big")
        elif marker in (0xDC, 0xDE, 0xDF):
            raise _TroubleError("it has a height that comes later, or it is hierarchical")

    def _read_frame(self, marker: int, segment: bytes) -> None:
        if self.frame is not None:
            raise _TroubleError("it has more than one frame")
        if marker > 0xC7:
            raise _TroubleError("it is arithmetic-coded")
        if marker in _KINDS:
            raise _TroubleError(f"it is {_KINDS[marker]}")
        if len(segment) < 6 or len(segment) != 6 + 3 * segment[5]:
            raise _TroubleError("it is damaged")
        if segment[0] != 8:
            raise _TroubleError(f"it has {segment[0]} bits a sample")
        height, width = (int.from_bytes(segment[i : i + 2], "big") for i in (1, 3))
        count = segment[5]
        given = [segment[6 + 3 * i : 9 + 3 * i] for i in range(count)]
        factors = [(one[1] >> 4, one[1] & 15) for one in given]
        possible = count in (1, 2, 3, 4) and height and width
        if not possible or not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in factors):
            raise _TroubleError("it is damaged")
        most_h, most_v = (max(pair[i] for pair in factors) for i in range(2))
        units_across, units_down = -(-width // (8 * most_h)), -(-height // (8 * most_v))
        components, first = [], 0
        for (name, _, table), (h, v) in zip(given, factors, strict=True):
            across, down = -(-width * h // (8 * most_h)), -(-height * v // (8 * most_v))
            stride, rows = units_across * h, units_down * v
            one = Component(name, h, v, table, across, down, stride, rows, first)
            components.append(one)
            first += one.blocks
        if first > MAX_BLOCKS:
            raise _TroubleError("it is too large")
        progressive = marker == _PROGRESSIVE
        self.frame = Frame(width, height, progressive, tuple(components))

    def _read_huffman(self, segment: bytes) -> None:
        while segment:
            kind, number, counts = segment[0] >> 4, segment[0] & 15, segment[1:17]
            symbols = segment[17 : 17 + sum(counts)]
            if kind > 1 or number > 3 or len(counts) < 16 or len(symbols) != sum(counts):
                raise _TroubleError("it is damaged")
            if len(symbols) > 256:
                raise _TroubleError("it is damaged")
            table = self._tables[4 * kind + number]
            table[:] = 0
            table[:16] = list(counts)
            table[16 : 16 + len(symbols)] = list(symbols)
            segment = segment[17 + len(symbols) :]

    def _read_steps(self, segment: bytes) -> None:
        while segment:
            size = 2 if segment[0] >> 4 else 1
            given = segment[1 : 1 + 64 * size]
            if len(given) != 64 * size:
                raise _TroubleError("it is damaged")
            values = np.frombuffer(given, ">u2" if size == 2 else "u1")
            self.steps.setdefault(segment[0] & 15, values.astype(np.uint16))
            segment = segment[1 + 64 * size :]

    def _scan(self, segment: bytes, start: int) -> Scan:
        frame = self.frame
        count = segment[0] if segment else 0
        self._scans += 1
        if frame is None or not 1 <= count <= 4 or len(segment) != 4 + 2 * count:
            raise _TroubleError("it is damaged")
        if self._scans > MAX_SCANS:
            raise _TroubleError("it has too many scans")
        names = [component.name for component in frame.components]
        chosen = []
        for name in segment[1 : 1 + 2 * count : 2]:
            if name not in names:
                raise _TroubleError("it is damaged")
            chosen.append(names.index(name))
        if sorted(set(chosen)) != chosen:
            raise _TroubleError("its components are out of order")
        ss, se, ah, al = segment[-3], segment[-2], segment[-1] >> 4, segment[-1] & 15
        if not frame.progressive:
            ss, se, ah, al = 0, 63, 0, 0
        self._progress(chosen, ss, se, ah, al, frame.progressive)
        one = frame.components[chosen[0]]
        single = count == 1
        across = one.across if single else one.stride // one.h
        down = one.down if single else one.rows // one.v
        head = [count, frame.progressive, ss, se, ah, al, self._interval, across, down]
        parameters = np.zeros(9 + 6 * 4, np.int32)
        parameters[:9] = head
        for i, number in enumerate(chosen):
            component, tables = frame.components[number], segment[2 + 2 * i]
            if tables >> 4 > 3 or tables & 15 > 3:
                raise _TroubleError("it is damaged")
            sides = (1, 1) if single else (component.h, component.v)
            used = tables >> 4, 4 + (tables & 15)
            parameters[9 + 6 * i : 15 + 6 * i] = (component.first, component.stride, *sides, *used)
        units = across * down
        return Scan(start, parameters, self._tables.copy(), units, self._interval)

    def _progress(self, chosen: list[int], ss: int, se: int, ah: int, al: int, by: bool) -> None:
        """Check that a scan refines what is known, and by one bit; then that is known, too."""
        possible = ss <= se <= 63 and al <= 13 and (ah == 0 or ah == al + 1)
        if by:  # progressively: DC coefficients by themselves, AC ones of one component
            possible = possible and (se == 0 if ss == 0 else len(chosen) == 1)
        if not possible:
            raise _TroubleError("it is damaged")
        known = self._known[chosen, ss : se + 1]
        if (known != (ah if ah else -1)).any():
            raise _TroubleError("its scans are out of order")
        self._known[chosen, ss : se + 1] = al


class _TroubleError(Exception):
    """There is no scan that can be read."""
