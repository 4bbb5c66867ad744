"""A JPEG file taken apart into what is coded: segments, coefficients, and notes; and put together.

The *segments* are all bytes that are not entropy-coded data of a scan, what follows the end marker
and what cannot be read among them. The *notes* say what the coefficients do not say of each scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pixelzip.codec.errors import FormatError
from pixelzip.codec.jpeg import syntax
from pixelzip.codec.jpeg.headers import Headers, Scan
from pixelzip.codec.jpeg.syntax import Blocks, Stretch
from pixelzip.codec.numbers import Reader, varint


@dataclass(frozen=True)
class Parts:
    """What there is in a JPEG file. ``headers`` is as the last scan left it."""

    segments: bytes
    notes: bytes
    headers: Headers
    blocks: Blocks


def take_apart(data: bytes) -> Parts:
    """The parts of a file; `put_together` makes it of them again, or nearly: compare.

    The headers' trouble says what is wrong with a file that has no scans, or broken ones.
    """
    headers, segments, notes = Headers(), bytearray(), bytearray()
    octets, blocks = np.frombuffer(data, np.uint8), np.zeros((0, 64), np.int16)
    position = 0
    while (scan := headers.next(data, position)) is not None:
        if headers.frame is not None and not len(blocks):
            blocks = np.zeros((headers.frame.blocks, 64), np.int16)
        stretch = syntax.read(scan, octets, scan.start, blocks)
        if stretch.units < scan.units:
            headers.trouble = "it is damaged or truncated"
        if not stretch.units:
            break
        segments += data[position : scan.start]
        notes += _note(scan, stretch)
        position = scan.start + stretch.bytes
        if headers.trouble:
            break
    segments += data[position:]
    return Parts(bytes(segments), bytes(notes), headers, blocks)


def put_together(segments: bytes, notes: bytes, blocks: Blocks, length: int) -> bytes:
    """The file of ``length`` bytes that has these parts. FormatError if there is none."""
    headers, reader, out = Headers(), Reader(notes), np.empty(length, np.uint8)
    position = done = 0

    def copy(end: int) -> None:
        nonlocal position, done
        piece = np.frombuffer(segments[position:end], np.uint8)
        if len(piece) > length - done:
            raise _damaged()
        out[done : done + len(piece)] = piece
        done, position = done + len(piece), end

    while reader.remaining:
        scan = headers.next(segments, position)
        if scan is None or headers.frame is None or headers.frame.blocks != len(blocks):
            raise _damaged()
        copy(scan.start)
        done += syntax.write(scan, blocks, _read_note(reader, scan), out[done:])
    copy(len(segments))
    if done != length:
        raise _damaged()
    return out.tobytes()


def first_headers(segments: bytes) -> Headers:
    """Headers up to the first scan: the frame, and the tables of steps that came before it."""
    headers = Headers()
    headers.next(segments, 0)
    return headers


def is_whole(segments: bytes, notes: bytes) -> bool:
    """Whether all scans have been read to their ends, and the end marker follows."""
    headers, (_, position), missing = _walk(segments, notes)
    return not missing and headers.next(segments, position) is None and headers.ended


def scan_ends(segments: bytes, notes: bytes) -> tuple[int, int]:
    """Where the headers of the first and of the last scan end."""
    return _walk(segments, notes)[1]


def _walk(segments: bytes, notes: bytes) -> tuple[Headers, tuple[int, int], int]:
    """Headers after the last scan, where the first and the last one end, and units missing."""
    headers, reader, first, last, missing = Headers(), Reader(notes), 0, 0, 0
    while reader.remaining:
        scan = headers.next(segments, last)
        if scan is None:
            raise _damaged()
        missing += scan.units - _read_note(reader, scan).units
        first, last = first or scan.start, scan.start
    return headers, (first, last), missing


def _note(scan: Scan, stretch: Stretch) -> bytes:
    missing, pads = scan.units - stretch.units, stretch.pads
    out = bytearray(varint(missing))
    if missing:
        out += varint(scan.intervals(stretch.units) - len(pads))
    if len(pads):
        same = bool((pads == pads[0]).all())
        out += bytes([same]) + (pads[:1] if same else pads).tobytes()
    out += varint(len(stretch.exceptions))
    before = 0
    for block, runs in stretch.exceptions.tolist():
        out += varint(block - before) + varint(runs)
        before = block
    return bytes(out)


def _read_note(reader: Reader, scan: Scan) -> Stretch:
    units = scan.units - reader.varint()
    if units < 0:
        raise _damaged()
    count = scan.intervals(units)
    if units < scan.units:
        count -= reader.varint()
    if count < 0:
        raise _damaged()
    pads = np.zeros(0, np.uint8)
    if count:
        same = reader.take(1)[0]
        pads = np.frombuffer(reader.take(1 if same else count), np.uint8)
        pads = np.full(count, pads[0]) if same else pads
    exceptions = np.zeros((min(reader.varint(), reader.remaining), 2), np.uint32)
    block = 0
    for number in range(len(exceptions)):
        block += reader.varint()
        exceptions[number] = min(block, 2**32 - 1), min(reader.varint(), 2**32 - 1)
    return Stretch(0, units, pads, exceptions)


def _damaged() -> FormatError:
    return FormatError("the file is damaged: it has parts of a JPEG that do not fit together")
