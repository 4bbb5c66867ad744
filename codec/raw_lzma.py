"""LZMA without any wrapping: a bare LZMA1 stream that ends with its end marker.

The one dictionary size, 16 MiB, is part of the format; everything else that a decoder must know
is *properties*, LZMA's usual byte ``(pb * 5 + lp) * 9 + lc``.
"""

from __future__ import annotations

import lzma
from typing import Any

from pixelzip.codec.errors import FormatError

DICTIONARY = 2**24


def properties(lc: int = 3, lp: int = 0, pb: int = 0) -> int:
    """The properties byte of these literal-context, literal-position and position bits."""
    return (pb * 5 + lp) * 9 + lc


def compress(data: bytes, props: int, *, patient: bool = True) -> bytes:
    """Compress ``data``; `decompress` with the same properties gives it back.

    An impatient search for matches takes a second or so for each megabyte of noise, and loses much
    where there are long matches to find.
    """
    window = _window(data, DICTIONARY)
    effort = {"mf": lzma.MF_BT4, "nice_len": 273}
    if not patient:
        effort = {"mf": lzma.MF_HC4, "nice_len": 32, "depth": 16}
    filters = [{**_filter(props, window), **effort}]
    return lzma.compress(data, format=lzma.FORMAT_RAW, filters=filters)


def hasty_length(data: bytes, props: int = properties()) -> int:
    """The length of the data when compressed in haste: for comparing, not for keeping."""
    effort = {"mode": lzma.MODE_FAST, "mf": lzma.MF_HC3, "depth": 4}
    filters = [{**_filter(props, _window(data, 2**22)), **effort}]
    return len(lzma.compress(data, format=lzma.FORMAT_RAW, filters=filters))


def _window(data: bytes, most: int) -> int:
    """The size of a dictionary for the data: a larger one takes memory and is of no use."""
    return max(4096, min(most, len(data)))


def decompress(data: bytes, props: int, limit: int) -> bytes:
    """Decompress at most ``limit`` bytes, allocating no more than that and the dictionary.

    Raises FormatError if the stream is damaged, is not all of ``data``, or holds more.
    """
    lc, lp = props % 9, props // 9 % 5
    if props >= 9 * 5 * 5 or lc + lp > 4:
        raise FormatError("the file is damaged: impossible LZMA properties")
    try:
        decoder = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[_filter(props, DICTIONARY)])
        out = decoder.decompress(data, max_length=limit + 1)
    except lzma.LZMAError:
        raise FormatError("the file is damaged: a compressed part does not decompress") from None
    if not decoder.eof or decoder.unused_data or len(out) > limit:
        raise FormatError("the file is damaged: a compressed part has the wrong length")
    return out


def _filter(props: int, window: int) -> dict[str, Any]:
    lc, lp, pb = props % 9, props // 9 % 5, props // 45
    return {"id": lzma.FILTER_LZMA1, "dict_size": window, "lc": lc, "lp": lp, "pb": pb}
