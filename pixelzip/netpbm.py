"""Netpbm files that Pillow would scale, cut or not know: 16-bit PPM, and PAM.

Samples are (height, width, channels) arrays: uint8, or uint16 where the largest value is 65535; of
a 1-bit image, 0 for black and 1 for white.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.errors import UnsupportedImageError

Samples = NDArray[np.uint8] | NDArray[np.uint16]

_KINDS = {
    "BLACKANDWHITE": 1, "GRAYSCALE": 1, "RGB": 3,
    "BLACKANDWHITE_ALPHA": 2, "GRAYSCALE_ALPHA": 2, "RGB_ALPHA": 4,
}  # fmt: skip
_TYPES = {"1": "BLACKANDWHITE", "L": "GRAYSCALE", "LA": "GRAYSCALE_ALPHA", "RGB": "RGB",
          "RGBA": "RGB_ALPHA"}  # fmt: skip
_PPM = re.compile(rb"P6(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)(?:\s+|#[^\n]*\n)+(\d+)\s")
_HEADER = 4096  # bytes in which a header ends


@dataclass(frozen=True)
class Header:
    """What a file says before its samples, and where those begin."""

    width: int
    height: int
    channels: int
    largest: int
    start: int

    @property
    def sample_bytes(self) -> int:
        return 1 if self.largest < 256 else 2


def header_of(data: bytes) -> Header | None:
    """The header of a PAM file or of a PPM with samples of two bytes; None of any other file.

    Raises UnsupportedImageError if it is damaged, or of samples that cannot be kept.
    """
    if data.startswith(b"P7\n"):
        header = _pam(data)
    elif match := _PPM.match(data, 0, _HEADER):
        width, height, largest = map(int, match.groups())
        header = Header(width, height, 3, largest, match.end())
        if largest < 256:
            return None
    else:
        return None
    if header.largest not in (1, 255, 65535):
        raise UnsupportedImageError(
            f"samples from 0 to {header.largest} cannot be kept; convert it to 8 or 16 bits first"
        )
    if not (header.width and header.height):
        raise UnsupportedImageError("the image has no pixels")
    return header


def _pam(data: bytes) -> Header:
    end = data.find(b"ENDHDR\n", 0, _HEADER)
    lines = data[3:end].split(b"\n") if end >= 0 else []
    fields = dict(line.split(None, 1) for line in lines if line.strip() and line[:1] != b"#"
                  and len(line.split(None, 1)) == 2)  # fmt: skip
    try:
        width, height, channels, largest = (
            int(fields[name]) for name in (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
        )
    except (KeyError, ValueError) as error:
        raise UnsupportedImageError("the file is a damaged PAM: its header is cut short") from error
    kind = fields.get(b"TUPLTYPE", b"").strip().decode("latin-1")
    if _KINDS.get(kind) != channels or min(width, height, largest) < 0:
        raise UnsupportedImageError(
            f"a PAM file with {channels} channels of type {kind!r} cannot be kept"
        )
    if (largest == 1) != kind.startswith("BLACK") or (largest == 1 and channels > 1):
        raise UnsupportedImageError(f"a PAM file of type {kind} from 0 to {largest} cannot be kept")
    return Header(width, height, channels, largest, end + len(b"ENDHDR\n"))


def read(header: Header, data: bytes) -> Samples:
    """The samples. Raises UnsupportedImageError if some are missing or too large."""
    shape = header.height, header.width, header.channels
    length = math.prod(shape) * header.sample_bytes
    if len(data) - header.start < length:
        raise UnsupportedImageError("the file is damaged: some of its rows are missing")
    kind = ">u2" if header.sample_bytes == 2 else "u1"
    samples = np.frombuffer(data, kind, math.prod(shape), header.start).reshape(shape)
    if header.largest == 1 and samples.max() > 1:
        raise UnsupportedImageError("the file is damaged: it has samples larger than it says")
    return samples.astype(np.uint16) if header.sample_bytes == 2 else samples.astype(np.uint8)


def write_ppm(samples: Samples) -> bytes:
    """A PPM file of RGB samples."""
    height, width, _ = samples.shape
    return b"P6\n%d %d\n%d\n" % (width, height, _largest(samples)) + _bytes(samples)


def write_pam(mode: str, samples: Samples) -> bytes:
    """A PAM file of a picture of mode 1, L, LA, RGB or RGBA, or one of their 16-bit modes."""
    height, width, channels = samples.shape
    largest = 1 if mode == "1" else _largest(samples)
    kind = _TYPES[mode.partition(";")[0].replace("I", "L")]
    head = (
        f"P7\nWIDTH {width}\nHEIGHT {height}\nDEPTH {channels}\nMAXVAL {largest}\n"
        f"TUPLTYPE {kind}\nENDHDR\n"
    )
    return head.encode() + _bytes(samples)


def _largest(samples: Samples) -> int:
    return 65535 if samples.dtype == np.uint16 else 255


def _bytes(samples: Samples) -> bytes:
    return samples.astype(">u2" if samples.dtype == np.uint16 else np.uint8).tobytes()
