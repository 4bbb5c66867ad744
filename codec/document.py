"""A ``.pxz`` file that holds the pages of a document, which are pictures of their own.

::

    | magic | head | pages | lengths        | files ... | seal |
    |   2   |  1   | >= 1  | a varint each  |           |  4   |

Each page is the ``.pxz`` file of a picture. They have sizes, modes and metadata of their own; pages
that are alike in all of that are a single tall picture, and need no document.
"""

from __future__ import annotations

from collections.abc import Sequence

from pixelzip.codec.container import (
    MAGIC,
    MAX_PIXELS,
    SEAL,
    VERSION,
    check_whole,
    read_header,
    seal,
)
from pixelzip.codec.errors import FormatError, LimitError
from pixelzip.codec.numbers import Reader, varint

HEAD = 14 | VERSION << 4
"""No mode of a picture: what follows are several."""
MAX_PAGES = 4096
_LEAST = 2


def holds_document(data: bytes) -> bool:
    """Whether a ``.pxz`` file, or what begins as one, holds pages and no single picture."""
    return data[:3] == MAGIC + bytes([HEAD])


def pack(pages: Sequence[bytes]) -> bytes:
    """The file of a document, from the files of at least two pages."""
    assert _LEAST <= len(pages) <= MAX_PAGES
    lengths = b"".join(varint(len(page)) for page in pages)
    return seal(b"".join([MAGIC, bytes([HEAD]), varint(len(pages) - _LEAST), lengths, *pages]))


def unpack(data: bytes, max_pixels: int = MAX_PIXELS) -> list[bytes]:
    """The files of the pages.

    Raises FormatError if any byte is not as it was written, LimitError if the pages have more than
    ``max_pixels`` pixels in all.
    """
    reader = Reader(check_whole(data))
    pages = [reader.take(length) for length in _lengths(reader)]
    if reader.remaining:
        raise _damaged()
    headers = [read_header(page, max_pixels) for page in pages]
    if sum(header.width * header.height for header in headers) > max_pixels:
        raise LimitError(f"its pages have more than the limit of {max_pixels} pixels in all")
    return pages


def beginning(data: bytes) -> bytes:
    """What there is of the first page's file in the beginning of a document's."""
    reader = Reader(data)
    first, *_ = _lengths(reader)
    return reader.take(min(first, reader.remaining))


def _lengths(reader: Reader) -> list[int]:
    if not holds_document(reader.take(3)):
        raise _damaged()
    count = reader.varint() + _LEAST
    if count > MAX_PAGES:
        raise _damaged()
    lengths = [reader.varint() for _ in range(count)]
    if min(lengths) <= SEAL:
        raise _damaged()
    return lengths


def _damaged() -> FormatError:
    return FormatError("the file is damaged: it has impossible pages")
