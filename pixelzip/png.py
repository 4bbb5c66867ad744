"""PNG files, chunk by chunk: what Pillow does not give.

Pillow decodes PNG pixels well, but it cuts 16-bit colour to 8 bits, merges the kinds of text chunks
and refuses long ones. So reading takes the chunks apart here and hands Pillow a PNG of nothing but
pixels; writing is done here altogether, which is short, because a PNG is filtered rows in a zlib
stream.

Samples are (height, width, channels) arrays, uint8 or uint16; a palette image's samples are its
indices, and a 1-bit image's are 0 and 1.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelzip import metadata
from pixelzip.codec.errors import UnsupportedImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"

Samples = NDArray[np.uint8] | NDArray[np.uint16]

_COLOUR_TYPES = {"1": 0, "L": 0, "LA": 4, "P": 3, "RGB": 2, "RGBA": 6}
_GREY, _RGB, _GREY_ALPHA, _RGBA = 0, 2, 4, 6
_SAMPLES = {_GREY: 1, _RGB: 3, 3: 1, _GREY_ALPHA: 2, _RGBA: 4}
_PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
           (0, 1, 1, 2)]  # fmt: skip
"""Of an interlaced image: each pass's first column and row, and its steps between them."""
_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_ANIMATED = (b"acTL", b"fcTL", b"fdAT")
_OF_THE_FILE = (b"iDOT",)
"""Chunks that say where in the file the pixels lie."""
_BEFORE = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"sBIT")
"""Chunks that PNG wants before the palette."""
_BAND = 1 << 20  # bytes of rows that are filtered at once


@dataclass(frozen=True)
class Header:
    """The IHDR chunk."""

    width: int
    height: int
    depth: int
    colour_type: int
    interlaced: bool

    @property
    def is_deep(self) -> bool:
        """Whether it holds 16-bit samples in a way that Pillow cannot."""
        return self.depth == 16 and self.colour_type != _GREY


def take_apart(data: bytes) -> tuple[Header, bytes, list[metadata.Chunk]]:
    """The header, a PNG of nothing but the pixels, and the chunks of metadata as they stand.

    The chunks are still compressed: see `metadata.from_png`. Of an animated file the PNG holds all
    that its frames need. Raises UnsupportedImageError if the file is damaged.
    """
    header: Header | None = None
    pixels = [SIGNATURE]
    chunks: list[metadata.Chunk] = []
    for kind, body, whole in _chunks(data):
        if kind == b"IHDR":
            if header is not None or len(body) != 13:
                raise UnsupportedImageError("the file is a damaged PNG: it has a wrong header")
            width, height, depth, colour_type, *_, interlaced = struct.unpack(">IIBBBBB", body)
            header = Header(width, height, depth, colour_type, interlaced != 0)
        if kind in _CRITICAL or kind in _ANIMATED or kind == b"tRNS":
            pixels.append(whole)
        if kind == b"IDAT":
            if all(chunk.kind != kind for chunk in chunks):
                chunks.append(metadata.Chunk(kind, b""))
        elif kind in _ANIMATED:
            pass
        elif kind == b"PLTE" or (metadata.is_ancillary(kind) and kind not in _OF_THE_FILE):
            chunks.append(metadata.Chunk(kind, body))
    if header is None:
        raise UnsupportedImageError("the file is a damaged PNG: it has no header")
    if chunks and chunks[-1].kind == b"IDAT":
        chunks.pop()  # nothing stands after the pixels
    return header, b"".join(pixels), chunks


def check_rows(header: Header, pixels: bytes) -> None:
    """Raise UnsupportedImageError unless all rows are there: Pillow would make black ones of them.

    ``pixels`` is the PNG that `take_apart` gives.
    """
    missing, inflater = _rows_length(header), zlib.decompressobj()
    begun = False
    try:
        for kind, body, _ in _chunks(pixels):
            if kind == b"fcTL" and len(body) == 26:
                if begun:
                    _check_no_more(missing)
                    width, height = struct.unpack(">II", body[4:12])
                    missing = _rows_length(replace(header, width=width, height=height))
                    inflater = zlib.decompressobj()
                continue
            body = body[4:] if kind == b"fdAT" else body
            begun |= kind == b"IDAT"
            while kind in (b"IDAT", b"fdAT") and body and missing > 0 and not inflater.eof:
                missing -= len(inflater.decompress(body, _BAND))
                body = inflater.unconsumed_tail
    except zlib.error as error:
        raise UnsupportedImageError("the file is a damaged PNG: its pixels are damaged") from error
    _check_no_more(missing)


def _check_no_more(missing: int) -> None:
    if missing > 0:
        raise UnsupportedImageError("the file is a damaged PNG: some of its rows are missing")


def _rows_length(header: Header) -> int:
    """The bytes of the filtered rows, each behind the number of its filter."""
    bits = header.depth * _SAMPLES.get(header.colour_type, 1)
    total = 0
    for left, top, across, down in _PASSES if header.interlaced else [(0, 0, 1, 1)]:
        columns, rows = -((left - header.width) // across), -((top - header.height) // down)
        if columns > 0:
            total += max(0, rows) * (1 + -(-columns * bits // 8))
    return total


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(kind, body, the whole chunk) of each chunk up to the end."""
    at = len(SIGNATURE)
    kind = b""
    while kind != b"IEND":
        length = int.from_bytes(data[at : at + 4], "big")
        whole = data[at : at + length + 12]
        kind, body = whole[4:8], whole[8:-4]
        if len(whole) < length + 12:
            raise UnsupportedImageError("the file is a damaged PNG: it is cut short")
        if zlib.crc32(whole[4:-4]) != int.from_bytes(whole[-4:], "big"):
            which = f"its {kind.decode()}" if kind.isalpha() else "a"
            raise UnsupportedImageError(f"the file is a damaged PNG: {which} chunk has changed")
        yield kind, body, whole
        at += len(whole)


def end_of(data: bytes) -> int:
    """Where a PNG ends; other bytes may follow it."""
    return len(SIGNATURE) + sum(len(whole) for _, _, whole in _chunks(data))


def read_deep(header: Header, pixels: bytes) -> NDArray[np.uint16]:
    """The samples of a PNG with 16 bits per sample of grey and alpha, RGB or RGBA.

    Pillow unpacks one byte of each sample, and which one depends on the byte order that it is told:
    so all of them come out in two passes.
    """
    if header.colour_type == _GREY_ALPHA:
        # Both bytes of both samples are what an 8-bit RGBA file of the same rows has.
        with Image.open(io.BytesIO(_as_rgba(pixels))) as image:
            both = np.asarray(image).astype(np.uint16)
        return deep(both[..., 0::2], both[..., 1::2])
    mode = {_RGB: "RGB", _RGBA: "RGBA"}[header.colour_type]
    high, low = (_unpacked(pixels, mode + order).astype(np.uint16) for order in (";16B", ";16L"))
    return deep(high, low)


def animation(pixels: bytes) -> tuple[int, int]:
    """How often an animated PNG plays (0: for ever), and how many frames it has."""
    for kind, body, _ in _chunks(pixels):
        if kind == b"acTL" and len(body) == 8:
            count, plays = struct.unpack(">II", body)
            return plays, count
    raise _wrong_frames()


def has_idle_frames(data: bytes) -> bool:
    """Whether a file has frames, but does not say how many: then it is shown as a still image."""
    chunks = [(kind, body) for kind, body, _ in _chunks(data) if kind in _ANIMATED]
    counts = [int.from_bytes(body[:4], "big") for kind, body in chunks if kind == b"acTL"]
    has_frames = any(kind == b"fdAT" for kind, _ in chunks)
    return has_frames and not (len(counts) == 1 and 2 <= counts[0] < 2**31)


def deep_frames(header: Header, pixels: bytes) -> Iterator[tuple[NDArray[np.uint16], Fraction]]:
    """The frames of an animated PNG of 16 bits a sample, as they are shown, and for how many
    milliseconds: (height, width, 4) each, the same array again.

    Raises UnsupportedImageError if they are damaged, or if a frame shines through another in part:
    what that gives is not defined to the last bit.
    """
    shown = np.zeros((header.height, header.width, 4), np.uint16)
    for control, frame in _apart(header, pixels):
        width, height, x, y, numerator, denominator, dispose, blend = control
        inside = 0 < width <= header.width - x and 0 < height <= header.height - y
        if not inside or frame.shape[:2] != (height, width) or dispose > 2 or blend > 1:
            raise _wrong_frames()
        below = shown[y : y + height, x : x + width]
        before = below.copy()
        if blend:
            alpha = frame[..., 3]
            if ((alpha > 0) & (alpha < 65535) & (below[..., 3] > 0)).any():
                raise UnsupportedImageError(
                    "16-bit frames that shine through each other cannot be kept"
                )
            below[:] = np.where((alpha > 0)[..., np.newaxis], frame, below)
        else:
            below[:] = frame
        yield shown, Fraction(1000 * numerator, denominator or 100)
        if dispose:
            below[:] = before if dispose == 2 else 0


def _apart(header: Header, pixels: bytes) -> Iterator[tuple[tuple[int, ...], NDArray[np.uint16]]]:
    """What is said of each frame (the fields of fcTL but its number), and its RGBA samples."""
    colour_key, control = b"", b""
    data: list[bytes] = []
    for kind, body, _ in _chunks(pixels):
        if kind in (b"fcTL", b"IEND"):
            if control:
                yield struct.unpack(">IIIIHHBB", control), _frame(header, control, data, colour_key)
            if len(body) != 26 and kind == b"fcTL":
                raise _wrong_frames()
            control, data = body[4:], []
        elif kind == b"tRNS":
            colour_key = body
        elif kind in (b"IDAT", b"fdAT"):
            if not control:
                raise UnsupportedImageError(
                    "the image that stands in for the animation cannot be kept"
                )
            data.append(body[4:] if kind == b"fdAT" else body)


def _frame(
    header: Header, control: bytes, data: list[bytes], colour_key: bytes
) -> NDArray[np.uint16]:
    """The RGBA samples of a frame."""
    width, height = struct.unpack(">II", control[:8])
    if width * height > header.width * header.height:
        raise _wrong_frames()
    own = replace(header, width=width, height=height)
    head = struct.pack(">IIBBBBB", width, height, 16, own.colour_type, 0, 0, own.interlaced)
    chunks = [_chunk(b"IHDR", head), _chunk(b"IDAT", b"".join(data)), _chunk(b"IEND", b"")]
    alone = SIGNATURE + b"".join(chunks)
    if own.is_deep:
        samples = read_deep(own, alone)
    else:
        with Image.open(io.BytesIO(alone)) as image:
            samples = np.asarray(image).astype(np.uint16)[..., np.newaxis]
    out = np.full((height, width, 4), 65535, np.uint16)
    has_alpha = own.colour_type in (_GREY_ALPHA, _RGBA)
    colours = samples[..., :-1] if has_alpha else samples
    out[..., :3] = colours
    if has_alpha:
        out[..., 3] = samples[..., -1]
    elif len(colour_key) == 2 * colours.shape[2]:
        out[..., 3][(colours == np.frombuffer(colour_key, ">u2")).all(axis=2)] = 0
    return out


def _wrong_frames() -> UnsupportedImageError:
    return UnsupportedImageError("the file is a damaged PNG: its frames make no sense")


def deep(high: NDArray[np.uint16], low: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """16-bit samples from their high and low bytes."""
    return np.asarray(high << 8 | low, np.uint16)


def _as_rgba(pixels: bytes) -> bytes:
    at = len(SIGNATURE) + 8
    head = bytearray(pixels[at - 4 : at + 13])
    head[12], head[13] = 8, _RGBA
    crc = zlib.crc32(head).to_bytes(4, "big")
    return pixels[: at - 4] + bytes(head) + crc + pixels[at + 17 :]


def _unpacked(pixels: bytes, rawmode: str) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(pixels)) as image:
        image.tile = [tile._replace(args=rawmode) for tile in image.tile]
        return np.asarray(image)


def write(mode: str, samples: Samples, chunks: metadata.Metadata) -> bytes:
    """A PNG file of a picture of this mode (see `pixelzip.codec.container.MODES`)."""
    height, _, channels = samples.shape
    frame_height, width = metadata.frame_height(chunks, height), samples.shape[1]
    depth = 16 if samples.dtype == np.uint16 else 1 if mode == "1" else 8
    palette = metadata.find(chunks, b"PLTE") or b""
    if mode == "P":
        # Every index needs an entry, and few entries need fewer bits.
        palette = palette.ljust(3 * (int(samples.max()) + 1), b"\0")
        depth = next(bits for bits in (1, 2, 4, 8) if len(palette) <= 3 << bits)
    colour_type = _COLOUR_TYPES[mode.partition(";")[0].replace("I", "L")]
    out = bytearray(SIGNATURE)
    out += _chunk(
        b"IHDR", struct.pack(">IIBBBBB", width, frame_height, depth, colour_type, 0, 0, 0)
    )
    kinds = [chunk.kind for chunk in chunks]
    pixels = kinds.index(b"IDAT") if b"IDAT" in kinds else len(kinds)
    colours = kinds.index(b"PLTE") if palette and b"PLTE" in kinds else 0
    first = {*range(colours), *(n for n in range(pixels) if kinds[n] in _BEFORE)}
    own = (b"PLTE", b"IDAT", b"acTL")
    animation = metadata.find(chunks, b"acTL")
    written = {
        number: _chunk(chunk.kind, metadata.to_png(chunk))
        for number, chunk in enumerate(chunks)
        if chunk.kind not in own
    }
    out += b"".join(written[n] for n in sorted(first & written.keys()))
    if palette:
        out += _chunk(b"PLTE", palette)
    out += b"".join(body for n, body in written.items() if n < pixels and n not in first)
    step = channels * depth // 8 if mode not in ("1", "P") else 0
    if animation is None:
        out += b"".join(_chunk(b"IDAT", piece) for piece in _compressed(samples, depth, step))
    else:
        out += b"".join(_animated(samples, depth, step, animation))
    out += b"".join(body for n, body in written.items() if n > pixels)
    return bytes(out + _chunk(b"IEND", b""))


def _animated(samples: Samples, depth: int, step: int, animation: bytes) -> Iterator[bytes]:
    """The chunks of the frames, which lie one below the other; see `metadata.Chunk`."""
    plays, durations = animation[:4], animation[4:]
    height, width = len(samples) // (len(durations) // 4), samples.shape[1]
    frames = [samples[top : top + height] for top in range(0, len(samples), height)]
    yield _chunk(b"acTL", struct.pack(">I", len(frames)) + plays)
    number = 0
    for at, frame in enumerate(frames):
        place = struct.pack(">5I", number, width, height, 0, 0)
        yield _chunk(b"fcTL", place + durations[4 * at : 4 * at + 4] + b"\0\0")
        number += 1
        for piece in _compressed(frame, depth, step):
            if at == 0:
                yield _chunk(b"IDAT", piece)
            else:
                yield _chunk(b"fdAT", number.to_bytes(4, "big") + piece)
                number += 1


def _chunk(kind: bytes, body: bytes) -> bytes:
    crc = zlib.crc32(body, zlib.crc32(kind)).to_bytes(4, "big")
    return len(body).to_bytes(4, "big") + kind + body + crc


def _rows(samples: Samples, depth: int) -> NDArray[np.uint8]:
    """Samples as rows of bytes; of few bits, several to a byte, the first in the highest bits."""
    if depth == 16:
        return samples.astype(">u2", order="C").view(np.uint8).reshape(len(samples), -1)
    rows = samples.astype(np.uint8, copy=False).reshape(len(samples), -1)
    if depth == 8:
        return rows
    per_byte = 8 // depth
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % per_byte)))
    values = padded.reshape(len(rows), -1, per_byte)
    shifts = np.arange(8 - depth, -1, -depth, dtype=np.uint8)
    return np.asarray(np.bitwise_or.reduce(values << shifts, axis=2), np.uint8)


def _compressed(samples: Samples, depth: int, step: int) -> Iterator[bytes]:
    """The zlib stream of the filtered rows. ``step`` is the bytes of a pixel, 0 for no filters."""
    deflater = zlib.compressobj(6, strategy=zlib.Z_FILTERED if step else zlib.Z_DEFAULT_STRATEGY)
    band = max(1, _BAND // (samples[0].nbytes))
    last = np.zeros_like(_rows(samples[:1], depth))
    for top in range(0, len(samples), band):
        rows = _rows(samples[top : top + band], depth)
        filtered = _filtered(rows, np.concatenate([last, rows[:-1]]), step)
        last = rows[-1:]
        if piece := deflater.compress(filtered.tobytes()):
            yield piece
    yield deflater.flush()


def _filtered(rows: NDArray[np.uint8], above: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Each row with the filter that leaves the least absolute sum, its number in front of it."""
    out = np.zeros((len(rows), rows.shape[1] + 1), np.uint8)
    out[:, 1:] = rows
    if not step:
        return out
    left, corner = (np.pad(x, ((0, 0), (step, 0)))[:, : rows.shape[1]] for x in (rows, above))
    a, b, c = left.astype(np.int16), above.astype(np.int16), corner.astype(np.int16)
    to_a, to_b, to_c = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    paeth = np.where((to_a <= to_b) & (to_a <= to_c), left, np.where(to_b <= to_c, above, corner))
    least = _cost(rows)
    predictions = (left, above, ((a + b) >> 1).astype(np.uint8), paeth)
    for number, prediction in enumerate(predictions, start=1):
        residuals = rows - prediction
        cost = _cost(residuals)
        better = cost < least
        least[better] = cost[better]
        out[better, 0] = number
        out[better, 1:] = residuals[better]
    return out


def _cost(residuals: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The sum over each row of the values' distance from 0, as signed bytes."""
    distances = np.minimum(residuals, 0 - residuals)
    return np.asarray(distances.sum(axis=1, dtype=np.int64))
