"""JPEG files of all kinds: by libjpeg (Pillow), and from coefficients with headers of our own."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelzip.codec.jpeg import syntax
from pixelzip.codec.jpeg.headers import Headers
from pixelzip.codec.jpeg.syntax import Stretch

EOI = b"\xff\xd9"


def photo(path: object, size: tuple[int, int], mode: str = "RGB", **options: Any) -> bytes:
    """A photograph of this size as libjpeg writes it with Pillow's options."""
    with Image.open(path) as image:  # type: ignore[arg-type]
        small = image.convert("RGB").resize(size).convert(mode)
    out = io.BytesIO()
    small.save(out, "JPEG", **options)
    return out.getvalue()


def segment(marker: int, body: bytes) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body


def headers(
    width: int,
    height: int,
    sampling: Sequence[tuple[int, int]],
    *,
    progressive: bool = False,
    interval: int = 0,
) -> bytes:
    """Headers whose Huffman tables, 0 for DC and AC, have all symbols."""
    out = b"\xff\xd8" + segment(0xDB, bytes([0, *range(1, 65)]))
    parts = b"".join(bytes([i + 1, h << 4 | v, 0]) for i, (h, v) in enumerate(sampling))
    frame = struct.pack(">BHHB", 8, height, width, len(sampling)) + parts
    out += segment(0xC2 if progressive else 0xC0, frame)
    counts = bytes([0] * 7 + [255, 1] + [0] * 7)
    out += segment(0xC4, b"".join(bytes([kind]) + counts + bytes(range(256)) for kind in (0, 16)))
    return out + (segment(0xDD, struct.pack(">H", interval)) if interval else b"")


def scan_header(components: Sequence[int], ss: int, se: int, ah: int, al: int) -> bytes:
    chosen = b"".join(bytes([number + 1, 0]) for number in components)
    return segment(0xDA, bytes([len(components)]) + chosen + bytes([ss, se, ah << 4 | al]))


Script = Sequence[tuple[Sequence[int], int, int, int, int]]
"""The scans of a file: components, first and last coefficient, the bits before and now."""


def build(
    head: bytes,
    script: Script,
    seed: int,
    *,
    most: int = 9,
    pads: int | None = 0xFF,
    odd: float = 0.0,
) -> tuple[bytes, NDArray[np.int16]]:
    """A file of random coefficients, and these.

    ``odd`` of the blocks may have needless runs of zeros before their end, or cut a run of ended
    blocks. ``pads`` fill the last bytes of intervals: zeros, ones, or, if it is None, either.
    """
    random, state = Random(seed), Headers()
    out, blocks = head, np.zeros((0, 64), np.int16)
    for components, ss, se, ah, al in script:
        out_head = head + scan_header(components, ss, se, ah, al)
        scan = state.next(out_head, 0 if not len(blocks) else len(head))
        assert scan is not None, state.trouble
        assert state.frame is not None
        if not len(blocks):
            blocks = _coefficients(np.random.default_rng(seed), state.frame.blocks, most)
        count = scan.intervals(scan.units)
        filling = [pads] * count if pads is not None else [random.choice([0, 255])] * count
        where = [at for at in range(scan.units) if random.random() < odd]
        exceptions = [(at, random.randrange(4)) for at in where]
        room = np.zeros(64 + 600 * len(blocks) + 4 * count, np.uint8)
        stretch = Stretch(0, scan.units, np.array(filling, np.uint8), _pairs(exceptions))
        length = syntax.write(scan, blocks, stretch, room)
        out += out_head[len(head) :] + room[:length].tobytes()
    return out + EOI, blocks


def _pairs(exceptions: list[tuple[int, int]]) -> NDArray[np.uint32]:
    return np.array(exceptions, np.uint32).reshape(-1, 2)


def _coefficients(random: np.random.Generator, count: int, most: int) -> NDArray[np.int16]:
    """Mostly small and sparse, as in photographs; some blocks are empty, some are full."""
    size = random.integers(0, most, (count, 64))
    density = random.choice([0.0, 0.02, 0.1, 0.5, 1.0], (count, 1))
    falling = np.exp(-np.arange(64) / random.choice([2, 10, 1000], (count, 1)))
    values = (random.integers(-1, 2, (count, 64)) * 2**size).astype(np.int64)
    return np.where(random.random((count, 64)) < density * falling, values, 0).astype(np.int16)
