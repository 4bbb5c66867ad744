"""A ``.pxz`` file that holds a JPEG file, byte for byte.

::

    | magic | head | ending | length | check | form | ...              | seal |
    |   2   |  1   |  >= 1  | varint |   4   |  1   | general or model |  4   |

*Ending* is that of the file's name, *length* and *check* (CRC-32) are those of its bytes. In the
*general* form all its bytes are kept, compressed or not. In the *model* form there are its segments
and notes, and the coefficients: see `pixelzip.codec.jpeg.parts` and `pixelzip.codec.jpeg.model`;
and so there are of JPEG files within it, such as thumbnails (`pixelzip.codec.jpeg.inner`).

The general form is for what has no model (arithmetic coding, 12 bits, lossless JPEG, damage at the
very beginning), and for machines without the compiled library. A file is decoded again before it is
given out, so what comes out comes back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import raw_lzma
from pixelzip.codec.container import MAGIC, MAX_PIXELS, VERSION, check_whole, seal
from pixelzip.codec.errors import FormatError, LimitError, MissingLibraryError
from pixelzip.codec.jpeg import inner, model, parts
from pixelzip.codec.jpeg.headers import MAX_BLOCKS, SOI, Frame, Headers
from pixelzip.codec.jpeg.inner import Inner
from pixelzip.codec.numbers import Reader, varint
from pixelzip.codec.workers import side_by_side

HEAD = 15 | VERSION << 4
"""No mode of a picture: what follows is a JPEG file."""
MAX_LENGTH = 1 << 30
"""Bytes of a JPEG file."""
MAX_FRAME = 1 << 32
"""Pixels: more than any frame has; `MAX_BLOCKS` is what limits an encoder."""
PROPERTIES = raw_lzma.properties()
CODED_SEGMENTS = 1 << 20
"""Longer segments are not worth the time of the model."""

_MISSING = (
    "it holds a JPEG file whose coefficients only pixelzip's compiled library can decode, and this "
    "pixelzip was installed without a C compiler"
)


ENDING = ".jpg"
"""Of the name of a JPEG file, unless another one is given."""
_MAX_ENDING = 8
_LATE, _EARLY, _EDITION = 5, 10, 15  # bits before the numbers of inner files, and the edition


class Form(IntEnum):
    RAW = 0
    LZMA = 1
    MODEL = 2


@dataclass(frozen=True)
class Description:
    """What there is to say of such a file."""

    form: Form
    ending: str
    """Of the JPEG file's name."""
    length: int
    """Bytes of the JPEG file."""
    frame: Frame | None
    """Its size and components, if its headers say so."""
    trouble: str
    """Why it has no model, or not all of it has: "it is truncated"..."""
    segments: int
    """Bytes that headers, metadata and all else that is not coefficients take here."""
    coefficients: tuple[int, ...]
    """Bytes that each band of coefficients takes here; in the general form that is everything."""


def is_jpeg(data: bytes) -> bool:
    """Whether these are the bytes of a JPEG file, or begin as one."""
    return data[:3] == SOI + b"\xff"


def holds_jpeg(data: bytes) -> bool:
    """Whether a ``.pxz`` file, or what begins as one, holds a JPEG file."""
    return data[:3] == MAGIC + bytes([HEAD])


def ending(data: bytes) -> str:
    """The ending of the JPEG file's name, from the beginning of a ``.pxz`` file that holds one."""
    return _read_ending(Reader(data[3:]))


def encode(data: bytes, threads: int = 1, ending: str = ENDING) -> bytes:
    """The ``.pxz`` file of a JPEG file. Raises LimitError if that is larger than a gigabyte.

    ``ending`` is that of the file's name; one that is not short and plain is not kept.
    """
    if len(data) > MAX_LENGTH:
        raise LimitError(f"the file has {len(data):,} bytes and the limit is {MAX_LENGTH:,}")
    head = MAGIC + bytes([HEAD]) + _pack_ending(ending)
    head += varint(len(data)) + crc32(data).to_bytes(4, "little")
    for form, code in ((Form.MODEL, _encode_model), (Form.LZMA, _compress)):
        body = code(data, threads)
        whole = seal(head + bytes([form]) + body)
        if body and len(body) < len(data) and _comes_back(whole, data, threads):
            return whole
    return seal(head + bytes([Form.RAW]) + data)


def decode(data: bytes, threads: int = 1, max_pixels: int = MAX_PIXELS) -> bytes:
    """The JPEG file in a ``.pxz`` file.

    Raises FormatError if the file is damaged, LimitError if the picture has more than
    ``max_pixels`` pixels, MissingLibraryError if only compiled code can decode it,
    UnknownNetworkError if it needs the coefficients' network of a newer pixelzip.
    """
    stored = _read(data)
    out = stored.body
    if stored.form == Form.LZMA:
        out = raw_lzma.decompress(stored.body, PROPERTIES, stored.length)
    elif stored.form == Form.MODEL:
        coded = _read_model(stored)
        frame = _checked_frame(coded.headers, max_pixels)
        room = max_pixels - frame.width * frame.height
        segments = inner.put_back(coded.segments, coded.late, MAX_BLOCKS, room, threads)
        steps = coded.headers.model_steps()
        with side_by_side(threads) as parallel:
            blocks, _ = model.decode_blocks(frame, steps, coded.bands, parallel)
        out = parts.put_together(segments, coded.notes, blocks, stored.length)
    if len(out) != stored.length or crc32(out) != stored.check:
        raise FormatError("the file is damaged: its JPEG file does not match its checksum")
    return out


def describe(data: bytes, max_pixels: int = MAX_PIXELS) -> Description:
    """What is in a ``.pxz`` file, without decoding coefficients. Raises what `decode` raises."""
    about = _describe(data)
    if about.frame is not None:
        _checked_frame(about, max_pixels)
    return about


def _describe(data: bytes) -> Description:
    stored = _read(data)
    if stored.form != Form.MODEL:
        headers = parts.first_headers(decode(data))
        trouble = headers.trouble or "there was no compiled code for it, or it would not be smaller"
        frame, size = headers.frame, (len(stored.body),)
        return Description(stored.form, stored.ending, stored.length, frame, trouble, 0, size)
    coded = _read_model(stored)
    whole = parts.is_whole(coded.segments, coded.notes)
    trouble = "" if whole else "it is damaged or truncated"
    frame, sizes = coded.headers.frame, tuple(map(len, coded.bands))
    others = coded.inner_bytes + len(coded.text)
    return Description(stored.form, stored.ending, stored.length, frame, trouble, others, sizes)


def beginning(data: bytes) -> bytes:
    """The JPEG file without its coefficients: enough for its size, mode and metadata."""
    stored = _read(data)
    return _read_model(stored).segments if stored.form == Form.MODEL else decode(data)


def costs(data: bytes, threads: int = 1, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """The bits of each pixel, those of a block spread evenly: (height, width).

    Raises what `decode` raises, FormatError also if there is no picture.
    """
    stored, about = _read(data), _describe(data)
    frame = _checked_frame(about, max_pixels)
    shape = (frame.height, frame.width)
    total = np.zeros(shape, np.float32)
    if stored.form != Form.MODEL:
        return total + np.float32(8 * len(stored.body) / total.size)
    coded = _read_model(stored)
    with side_by_side(threads) as parallel:
        steps = coded.headers.model_steps()
        _, prices = model.decode_blocks(frame, steps, coded.bands, parallel)
    for one in frame.components:
        grid = prices[one.first : one.first + one.blocks].reshape(one.rows, one.stride)
        rows = np.arange(frame.height) * one.v // (8 * frame.most_v)
        columns = np.arange(frame.width) * one.h // (8 * frame.most_h)
        pixels = 64 * frame.most_v * frame.most_h / (one.v * one.h)
        total += grid[np.ix_(rows, columns)] / np.float32(1024 * pixels)
    return total


def _compress(data: bytes, _threads: int) -> bytes:
    return raw_lzma.compress(data, PROPERTIES, patient=len(data) < 1 << 22)


def _comes_back(whole: bytes, data: bytes, threads: int) -> bool:
    try:
        return decode(whole, threads, MAX_FRAME) == data
    except FormatError:
        return False


def _checked_frame(about: Headers | Description, max_pixels: int) -> Frame:
    frame = about.frame
    if frame is None:
        raise FormatError("it holds a JPEG file in which there is no picture")
    if frame.width * frame.height > max_pixels:
        raise LimitError(
            f"the image has {frame.width}x{frame.height} pixels and the limit is {max_pixels} in "
            "total"
        )
    return frame


# The model form: lengths, segments and notes, bands.


@dataclass(frozen=True)
class Coded:
    """What the model form has besides coefficients."""

    segments: bytes
    """Without the scans of late inner files."""
    notes: bytes
    headers: Headers
    """As they are before the first scan."""
    bands: list[bytes]
    text: bytes
    """Segments and notes as they are stored, those of inner files too."""
    late: list[Inner]
    inner_bytes: int
    """What the coefficients of all inner files take."""


def _encode_model(data: bytes, threads: int) -> bytes:
    """The model form of a JPEG file, nothing if it has none."""
    if model.library() is None:
        return b""
    found = parts.take_apart(data)
    headers = parts.first_headers(found.segments)
    if headers.frame is None or not found.notes:
        return b""
    steps, room = headers.model_steps(), len(data) + 64
    try:
        with side_by_side(threads) as parallel:
            bands = model.encode_blocks(headers.frame, steps, found.blocks, room, parallel)
    except model.NoRoomError:
        return b""
    segments, late, early = inner.take_out(found.segments, found.notes, threads)
    within = [*late, *early]
    own = [() if one.is_like(before) else (one.notes, *one.bands)
           for one, before in zip(within, [None, *within], strict=False)]  # fmt: skip
    text = segments + found.notes + b"".join(one[0] for one in own if one)
    method, stored = min(_stored(text), key=lambda one: len(one[1]))
    out = varint(len(segments)) + varint(len(found.notes)) + varint(len(stored) << 2 | method)
    counts = len(bands) | len(late) << _LATE | len(early) << _EARLY
    out += varint(counts | model.EDITION << _EDITION)
    for one, its in zip(within, own, strict=True):
        numbers = (one.place, one.removed, len(its[0]) if its else 0, max(0, len(its) - 1))
        out += b"".join(map(varint, numbers))
    bands += [band for its in own for band in its[1:]]
    out += b"".join(varint(len(band)) for band in bands[:-1])
    return out + stored + b"".join(bands)


def _stored(text: bytes) -> list[tuple[Form, bytes]]:
    if len(text) <= CODED_SEGMENTS:
        return [(Form.RAW, text), (Form.MODEL, model.encode_bytes(text))]
    return [(Form.RAW, text), (Form.LZMA, raw_lzma.compress(text, PROPERTIES, patient=False))]


def model_form(data: bytes) -> Coded:
    """The parts of a ``.pxz`` file in the model form."""
    return _read_model(_read(data))


def _read_model(stored: _Stored) -> Coded:
    if model.library() is None:
        raise MissingLibraryError(_MISSING)
    reader = Reader(stored.body)
    segments, notes, packed, counts = (reader.varint() for _ in range(4))
    count, late, early = counts & 31, counts >> _LATE & 31, counts >> _EARLY & 31
    model.check_edition(counts >> _EDITION)
    if max(late, early) > inner.MOST:
        raise _damaged()
    within = [[reader.varint() for _ in range(4)] for _ in range(late + early)]
    total = segments + notes + sum(one[2] for one in within)
    each = [count, *(one[3] for one in within)]
    if total > 2 * stored.length + 64 or not count or max(each) > model.MAX_BANDS:
        raise _damaged()
    lengths = [reader.varint() for _ in range(sum(each) - 1)]
    given = reader.take(packed >> 2)
    text = Reader(_text(packed & 3, given, total))
    bands = [reader.take(length) for length in lengths]
    bands.append(reader.take(reader.remaining))
    mine, own = text.take(segments), text.take(notes)
    found: list[Inner] = []
    rest = bands[count:]
    for place, removed, length, its in within:
        if max(place, removed) > stored.length or not (its or found):
            raise _damaged()
        same = found[-1] if not its else Inner(place, removed, text.take(length), rest[:its])
        found.append(replace(same, place=place, removed=removed))
        rest = rest[its:]
    mine = inner.put_back(mine, found[late:], inner.EARLY_BLOCKS, MAX_FRAME, 1)
    headers = parts.first_headers(mine)
    if headers.frame is None:
        raise _damaged()
    size = sum(map(len, bands[count:]))
    return Coded(mine, own, headers, bands[:count], given, found[:late], size)


def _text(method: int, stored: bytes, length: int) -> bytes:
    if method == Form.RAW and len(stored) == length:
        return stored
    if method == Form.LZMA:
        return raw_lzma.decompress(stored, PROPERTIES, length)
    if method == Form.MODEL and length <= CODED_SEGMENTS:
        return model.decode_bytes(stored, length)
    raise _damaged()


@dataclass(frozen=True)
class _Stored:
    """A file as it is laid out."""

    ending: str
    length: int
    check: int
    form: Form
    body: bytes


def _read(data: bytes) -> _Stored:
    reader = Reader(check_whole(data))
    if not holds_jpeg(reader.take(3)):
        raise _damaged()
    ending = _read_ending(reader)
    length, check = reader.varint(), int.from_bytes(reader.take(4), "little")
    form = reader.take(1)[0]
    if length > MAX_LENGTH or form not in list(Form):
        raise _damaged()
    return _Stored(ending, length, check, Form(form), reader.take(reader.remaining))


def _pack_ending(ending: str) -> bytes:
    """A byte, how long it is without its dot, and so many; 0 is the usual one."""
    letters = ending.removeprefix(".").encode("ascii", "replace")
    kept = 1 <= len(letters) <= _MAX_ENDING and letters.isalnum() and ending != ENDING
    return bytes([len(letters)]) + letters if kept else b"\0"


def _read_ending(reader: Reader) -> str:
    length = reader.take(1)[0]
    letters = reader.take(length) if length <= _MAX_ENDING else b""
    if length and (not letters.isalnum() or not letters.isascii()):
        raise _damaged()
    return "." + letters.decode("ascii") if length else ENDING


def _damaged() -> FormatError:
    return FormatError("the file is damaged: it has impossible parts of a JPEG file")
