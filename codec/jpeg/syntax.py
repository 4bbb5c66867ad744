"""Scans of a JPEG file to coefficients and back, by the C library.

What is written is what was read, to the last bit: padding, restart markers, where runs of ended
blocks were cut. A scan that cannot be read to its end is read as far as it can be written again.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native
from pixelzip.codec.errors import FormatError
from pixelzip.codec.jpeg.headers import Scan

MAX_EXCEPTIONS = 1 << 16

Blocks = NDArray[np.int16]
"""Coefficients, (blocks, 64) in zigzag order: component after component, each row by row."""


@dataclass(frozen=True)
class Stretch:
    """As much of a scan as could be read, and what its coefficients do not say."""

    bytes: int
    units: int
    pads: NDArray[np.uint8]
    """The bits between the end of each interval and the next byte, below a one."""
    exceptions: NDArray[np.uint32]
    """(n, 2): see docs/format.md."""


@native.once
def library() -> ctypes.CDLL | None:
    """The compiled functions, or None where there was no compiler."""
    found = native.library("pixelzip.codec._coding")
    if found is None:
        return None
    numbers, octets, size = native.array(np.int32), native.array(np.uint8), ctypes.c_int64
    blocks, words, text = native.array(np.int16), native.array(np.uint32), ctypes.c_void_p
    found.scan_read.restype, found.scan_write.restype = ctypes.c_int, size
    lengths = native.array(np.int64)
    found.scan_read.argtypes = [text, size, numbers, octets, blocks, octets, words, size, lengths]
    found.scan_write.argtypes = [
        *(blocks, numbers, octets, octets, size, words, size, size),
        *(octets, size),
    ]
    return found


def read(scan: Scan, data: NDArray[np.uint8], start: int, blocks: Blocks) -> Stretch:
    """Read a scan whose data begin at ``start`` of the file into the coefficients."""
    found = library()
    assert found is not None
    pads = np.empty(scan.intervals(scan.units), np.uint8)
    exceptions = np.empty((MAX_EXCEPTIONS, 2), np.uint32)
    counts = np.empty(4, np.int64)
    failed = found.scan_read(
        *(data.ctypes.data + start, len(data) - start, scan.parameters, scan.tables, blocks),
        *(pads, exceptions, len(exceptions), counts),
    )
    if failed:
        raise MemoryError
    taken, units, pad_count, exception_count = map(int, counts)
    return Stretch(taken, units, pads[:pad_count].copy(), exceptions[:exception_count].copy())


def write(scan: Scan, blocks: Blocks, stretch: Stretch, out: NDArray[np.uint8]) -> int:
    """Write to ``out`` what `read` has read; how many bytes that is.

    Raises FormatError if these coefficients cannot be written, or not in so many bytes.
    """
    found = library()
    assert found is not None
    count = found.scan_write(
        *(blocks, scan.parameters, scan.tables, stretch.pads, len(stretch.pads)),
        *(stretch.exceptions, len(stretch.exceptions), stretch.units, out, len(out)),
    )
    if count == -2:
        raise MemoryError
    if count < 0:
        raise FormatError("the file is damaged: its coefficients do not fit its JPEG headers")
    return int(count)
