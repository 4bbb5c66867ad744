"""The fallback that needs no network: flat colour, text, palette art, gradients, dithers.

Pixels are rewritten as rows of bytes that an LZMA coder likes, in four steps, each of which may do
nothing::

    pixels (H, W, C) -> colours -> layout -> rows (R, N) -> filter -> residuals (R, N) -> LZMA

* *colours*: green subtracted from red and blue, or each pixel replaced by its number in a palette
  of at most 256 colours;
* *layout*: pixels as they come, or the plane of one channel below the other, or (small palettes)
  several pixels in a byte;
* *filter*: PNG's five predictors, one for all the rows or the best for each row;
* *LZMA*, or nothing where that would only add bytes.

Which combination is best differs wildly from image to image and is hard to guess, so `pack_pixels`
tries: all of them on a sample with a hasty compressor, then the best few on everything. The first
two bytes of the payload say which one won.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import product

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native, raw_lzma
from pixelzip.codec.errors import FormatError
from pixelzip.codec.picture import bands

Bytes = NDArray[np.uint8]


class Colours(IntEnum):
    """How the channels of a pixel are rewritten."""

    DIRECT = 0
    DIFFERENCE = 1
    """Red minus green, green, blue minus green, modulo 256; further channels as they are."""
    PALETTE = 2
    """One channel: the number of the pixel's colour in a palette."""


class Layout(IntEnum):
    """How pixels become rows of bytes."""

    PIXELS = 0
    """A row holds the pixels of a row, channel by channel."""
    PLANES = 1
    """All the rows of the first channel, then all those of the second, and so on."""
    BITS = 2
    """Palette numbers below 16: 1, 2 or 4 bits each, the leftmost in the highest bits."""


class Filter(IntEnum):
    """How a byte is predicted from the one to the left, the one above and the one between."""

    NONE = 0
    SUB = 1
    UP = 2
    AVERAGE = 3
    PAETH = 4
    ADAPTIVE = 5
    """Each row has its own of the five above; their numbers come before the rows."""


@dataclass(frozen=True)
class Form:
    """One combination of the steps: how pixels are written as bytes, up to LZMA."""

    colours: Colours
    layout: Layout
    filter: Filter

    @property
    def number(self) -> int:
        """The first byte of a payload of this form."""
        return self.filter | self.layout << 3 | self.colours << 5


_STORED = 225
"""Second byte of a payload that is not compressed: one more than the last LZMA properties."""
_PROPERTIES = (raw_lzma.properties(), raw_lzma.properties(0), raw_lzma.properties(0, 2, 2))
_SAMPLE = 2**17
_QUICK_SAMPLE = 2**15
_TINY = 2**14
"""Of so few bytes, which are within zlib's reach, LZMA takes longer to begin than to compress."""
_FINALISTS = 3
_MORE = 0.9
"""About the least part of what the first of them comes to that remains after all of them."""
_DETAILED, _NEARLY = 2.5, 0.96
"""Of a tiny area of more bits/dim than these, all forms come to no less than this fraction of what
the likeliest one does. To try them takes longer than a network does."""
_LARGE = 2**19
"""From so many bytes on, there are two finalists and one choice of properties: time matters."""
_HUGE = 2**22
_REPETITIVE = 0.25
"""From so many bytes on, there is one finalist, and LZMA is only patient with what shrinks to less
than this fraction."""


_REPEATED = 0.3
"""From such a part of the pixels on, repetition is looked into."""
_TOGETHER = 1 << 18
"""So many pixels at once."""
_MIXER = np.uint64(0x9E3779B97F4A7C15)  # any odd number without a pattern


def pack_pixels(pixels: Bytes, rival: float = np.inf) -> bytes:
    """Compress (height, width, channels) pixels into a payload of a few bytes more at most.

    Where it will hardly be less than ``rival`` bytes, it may be longer than need be.
    """
    palette = _palette(pixels)
    if pixels.size <= _TINY and np.isfinite(rival):
        likely = _usual(pixels, palette)
        form, _ = _likeliest(likely)
        payload = _compress(form, likely[form], _PROPERTIES[0], True)
        if len(payload) * _NEARLY > rival and len(payload) * 8 > _DETAILED * pixels.size:
            return payload
    sample = _sample(pixels, _SAMPLE)
    hasty = {
        form: raw_lzma.hasty_length(_serialise(sample, form, palette))
        for form in _forms(pixels.shape[2], None if palette is None else len(palette))
    }
    ranked = sorted(hasty, key=lambda form: hasty[form])
    finalists = ranked[: _finalists(pixels.size)]
    patient = pixels.size < _HUGE or hasty[ranked[0]] < sample.size * _REPETITIVE
    serials: dict[Form, bytes] = {}
    payloads: dict[Form, bytes] = {}
    for form in finalists:
        serials[form] = _serialise(pixels, form, palette)
        payloads[form] = _compress(form, serials[form], _PROPERTIES[0], patient)
        if len(payloads[form]) * _MORE > rival:
            break
    best = min(payloads, key=lambda form: len(payloads[form]))
    serial = serials[best]
    candidates = [payloads[best], bytes([best.number, _STORED]) + serial]
    if pixels.size < _LARGE and len(payloads[best]) * _MORE < rival:
        usual, *others = (raw_lzma.hasty_length(serial, props) for props in _PROPERTIES)
        for props, length in zip(_PROPERTIES[1:], others, strict=True):
            if length <= usual:
                candidates.append(_compress(best, serial, props, patient))
    return min(candidates, key=len)


def _finalists(size: int) -> int:
    """How many forms are tried on everything: time matters."""
    return 1 if size >= _HUGE else 2 if size >= _LARGE else _FINALISTS


def unpack_pixels(payload: bytes, shape: tuple[int, int, int]) -> Bytes:
    """Decompress a payload into pixels of this (height, width, channels).

    Allocates in proportion to the pixels that really are in the payload. Raises FormatError if it
    does not hold exactly these pixels.
    """
    form = _read_form(payload, shape[2])
    height, width, channels = shape
    least = height * -(-width // 8) if form.layout == Layout.BITS else height * width
    limit = height * channels + height * width * channels + 1 + 256 * channels
    if payload[1] == _STORED:
        data = payload[2:]
    else:
        data = raw_lzma.decompress(payload[2:], payload[1], limit)
    if not least <= len(data) <= limit:
        raise _damaged()
    return _deserialise(data, form, shape)


def estimate(pixels: Bytes) -> float:
    """A quick guess at ``len(pack_pixels(pixels))``, mostly too high."""
    # More of a large picture, whose fallback takes long: a wrong guess costs more there.
    sample = _sample(pixels, max(_QUICK_SAMPLE, pixels.size // 64))
    serials = _usual(sample, _palette(sample))
    best, length = _likeliest(serials)
    if sample.size > _TINY:
        length = raw_lzma.hasty_length(serials[best])
    guess = min(length, *map(len, serials.values())) * pixels.size / sample.size
    if sample is pixels or best.colours == Colours.PALETTE or _repetition(pixels) < _REPEATED:
        return guess
    return min(guess, raw_lzma.hasty_length(_serialise(pixels, best, None)))


def _usual(pixels: Bytes, palette: Bytes | None) -> dict[Form, bytes]:
    """Pixels in the few forms of which mostly one comes near the best."""
    colours = Colours.DIFFERENCE if pixels.shape[2] >= 3 else Colours.DIRECT
    tries = [
        Form(Colours.DIRECT, Layout.PIXELS, Filter.NONE),
        Form(colours, Layout.PLANES, Filter.SUB),
        Form(colours, Layout.PLANES, Filter.PAETH),
    ]
    if palette is not None:
        layout = Layout.BITS if len(palette) <= 16 else Layout.PIXELS
        tries.append(Form(Colours.PALETTE, layout, Filter.NONE))
    return {form: _serialise(pixels, form, palette) for form in tries}


def _likeliest(serials: dict[Form, bytes]) -> tuple[Form, int]:
    """The form that zlib makes the smallest, and how small."""
    zipped = {form: len(zlib.compress(serial, 1)) for form, serial in serials.items()}
    best = min(zipped, key=lambda form: zipped[form])
    return best, zipped[best]


def _repetition(pixels: Bytes) -> float:
    """Which part of the pixels comes again: far away that shows in no sample, but LZMA finds it.

    Runs of about 16 bytes are compared by a hash, which also chooses the one in 16 that count.
    """
    height, width, channels = pixels.shape
    run = -(-16 // channels)
    rows, more = max(1, _TOGETHER // width), -(-run // width)
    found = []
    for top in range(0, height, rows):
        keys = _keys(pixels[top : top + rows + more])
        count = max(0, min(rows * width, len(keys) - run + 1))
        hashes = np.zeros(count, np.uint64)
        for k in range(run):
            hashes = hashes * _MIXER + keys[k : k + count]
        found.append(hashes[hashes * _MIXER >> np.uint64(60) == 0])
    counted = np.concatenate(found)
    counted.sort()  # np.unique would fill the heap with small pieces
    again = np.count_nonzero(counted[1:] == counted[:-1])
    return again / len(counted) if len(counted) else 1.0


def _forms(channels: int, colour_count: int | None) -> Iterator[Form]:
    ways = [(Colours.DIRECT, Layout.PIXELS)]
    if channels > 1:
        ways.append((Colours.DIRECT, Layout.PLANES))
    if channels >= 3:
        ways += [(Colours.DIFFERENCE, Layout.PIXELS), (Colours.DIFFERENCE, Layout.PLANES)]
    if colour_count is not None:
        ways.append((Colours.PALETTE, Layout.PIXELS))
        if colour_count <= 16:
            ways.append((Colours.PALETTE, Layout.BITS))
    for (colours, layout), chosen in product(ways, Filter):
        yield Form(colours, layout, chosen)


def _read_form(payload: bytes, channels: int) -> Form:
    number = payload[0] if len(payload) >= 2 else 0xFF
    for form in _forms(channels, colour_count=2):
        if form.number == number:
            return form
    raise _damaged()


def _compress(form: Form, serial: bytes, props: int, patient: bool) -> bytes:
    return bytes([form.number, props]) + raw_lzma.compress(serial, props, patient=patient)


def _sample(pixels: Bytes, size: int) -> Bytes:
    """Pixels that stand for all: everything, or a few bands of rows from corner to corner."""
    if pixels.size <= size:
        return pixels
    bands = 4
    height, width, channels = pixels.shape
    columns = min(width, size // (4 * bands * channels))
    rows = max(1, min(height, size // (columns * channels)) // bands)
    tops = [(height - rows) * k // (bands - 1) for k in range(bands)]
    lefts = [(width - columns) * k // (bands - 1) for k in range(bands)]
    return np.concatenate(
        [pixels[y : y + rows, x : x + columns] for y, x in zip(tops, lefts, strict=True)]
    )


# Serialising: everything but LZMA.


def _serialise(pixels: Bytes, form: Form, palette: Bytes | None) -> bytes:
    """The palette if there is one, the rows' filters if they differ, and the residuals."""
    height, width, _ = pixels.shape
    head = b""
    if form.colours == Colours.PALETTE:
        assert palette is not None
        head = bytes([len(palette) - 1]) + palette.tobytes()
        pixels = _numbers(pixels, palette)
    elif form.colours == Colours.DIFFERENCE:
        pixels = pixels.copy()
        pixels[:, :, 0] -= pixels[:, :, 1]
        pixels[:, :, 2] -= pixels[:, :, 1]
    step = 1
    if form.layout == Layout.BITS:
        assert palette is not None
        rows = _to_bits(pixels[:, :, 0], _depth(len(palette)))
    elif form.layout == Layout.PLANES:
        rows = np.ascontiguousarray(pixels.transpose(2, 0, 1)).reshape(-1, width)
    else:
        step = pixels.shape[2]
        rows = pixels.reshape(height, -1)
    if form.filter == Filter.NONE:
        return head + rows.tobytes()
    if form.filter == Filter.ADAPTIVE:
        kinds = _choose_filters(rows, step)
        return head + kinds.tobytes() + _filter(rows, step, kinds).tobytes()
    kinds = np.full(len(rows), form.filter, np.uint8)
    return head + _filter(rows, step, kinds).tobytes()


def _deserialise(data: bytes, form: Form, shape: tuple[int, int, int]) -> Bytes:
    height, width, channels = shape
    flat = np.frombuffer(data, np.uint8)
    palette = None
    depth = 8
    coded = channels
    if form.colours == Colours.PALETTE:
        count = int(flat[0]) + 1
        if flat.size < 1 + count * channels:
            raise _damaged()
        palette, flat = flat[1 : 1 + count * channels], flat[1 + count * channels :]
        coded = 1
        if form.layout == Layout.BITS:
            if count > 16:
                raise _damaged()
            depth = _depth(count)
    step = coded if form.layout == Layout.PIXELS else 1
    row_count = height * coded // step
    row_bytes = -(-width * step * depth // 8)
    if form.filter == Filter.ADAPTIVE:
        kinds, flat = flat[:row_count], flat[row_count:]
        if kinds.size < row_count or kinds.max() >= Filter.ADAPTIVE:
            raise _damaged()
    else:
        kinds = np.full(row_count, form.filter, np.uint8)
    if flat.size != row_count * row_bytes:
        raise _damaged()
    rows = _unfilter(flat.reshape(row_count, row_bytes), step, kinds)
    if palette is not None:
        return _coloured(rows, depth, palette.reshape(-1, channels), width)
    if form.layout == Layout.PLANES:
        pixels = np.ascontiguousarray(rows.reshape(channels, height, width).transpose(1, 2, 0))
    else:
        pixels = rows.reshape(shape)
    if form.colours == Colours.DIFFERENCE:
        pixels[:, :, 0] += pixels[:, :, 1]
        pixels[:, :, 2] += pixels[:, :, 1]
    return pixels


# Palettes.


def _palette(pixels: Bytes) -> Bytes | None:
    """The sorted (n, channels) colours of the pixels, or None if there are more than 256."""
    down, across = (max(1, side // 64) for side in pixels.shape[:2])
    unique = _distinct(_keys(pixels[::down, ::across]))
    for band in bands(pixels, _TOGETHER) if max(down, across) > 1 else ():
        if unique.size > 256:
            break
        unique = _distinct(np.append(unique, _distinct(_keys(band))))
    if unique.size > 256:
        return None
    return unique.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 8 - pixels.shape[2] :].copy()


def _distinct(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Each key once, in order; sorts them in place. (np.unique takes several times as long.)"""
    keys.sort()
    found: NDArray[np.uint64] = keys[np.append(True, keys[1:] != keys[:-1])]
    return found


def _numbers(pixels: Bytes, palette: Bytes) -> Bytes:
    numbers, keys = np.empty((*pixels.shape[:2], 1), np.uint8), _keys(palette[None])
    for band, into in zip(bands(pixels, _TOGETHER), bands(numbers, _TOGETHER), strict=True):
        into[:] = np.searchsorted(keys, _keys(band)).reshape(into.shape)
    return numbers


def _coloured(rows: Bytes, depth: int, palette: Bytes, width: int) -> Bytes:
    """The pixels of rows of numbers of so many bits. FormatError if the palette has fewer."""
    pixels = np.empty((len(rows), width, palette.shape[1]), np.uint8)
    top = 0
    for into in bands(pixels, _TOGETHER):
        numbers = _from_bits(rows[top : top + len(into)], depth, width)
        top += len(into)
        if numbers.max() >= len(palette):
            raise _damaged()
        into[:] = palette[numbers]
    return pixels


def _keys(pixels: Bytes) -> NDArray[np.uint64]:
    """Each pixel (of at most 8 channels) as one number, the first channel the most significant."""
    keys = np.zeros(pixels.shape[:2], np.uint64)
    for channel in range(pixels.shape[2]):
        keys = keys << np.uint64(8) | pixels[:, :, channel]
    return keys.ravel()


def _depth(colour_count: int) -> int:
    """Bits for the number of one of at most 16 colours."""
    return 1 if colour_count <= 2 else 2 if colour_count <= 4 else 4


def _to_bits(numbers: Bytes, depth: int) -> Bytes:
    per_byte = 8 // depth
    padded = np.pad(numbers, ((0, 0), (0, -numbers.shape[1] % per_byte)))
    out = np.zeros((len(padded), padded.shape[1] // per_byte), np.uint8)
    for k in range(per_byte):
        out |= padded[:, k::per_byte] << np.uint8(8 - depth * (k + 1))
    return out


def _from_bits(rows: Bytes, depth: int, width: int) -> Bytes:
    shifts = np.arange(8 - depth, -1, -depth, dtype=np.uint8)
    numbers = rows[:, :, None] >> shifts & np.uint8((1 << depth) - 1)
    return numbers.reshape(len(rows), -1)[:, :width]


# Filters. `step` is the distance in bytes to the pixel on the left; what lies outside is zero.

_BAND = 2**20
"""Bytes that are filtered at a time, which bounds the memory of the 16-bit intermediates."""


def _filter(rows: Bytes, step: int, kinds: Bytes) -> Bytes:
    """Residuals of rows (R, N), each under its own filter (R,)."""
    out = np.empty(rows.shape, np.uint8)
    library = native.coding()
    if library is not None:
        rows = np.ascontiguousarray(rows)
        library.filters_apply(rows, *rows.shape, step, kinds, out)
        return out
    for here, there in _bands(rows):
        predicted = here[1:].copy()
        for kind in np.unique(kinds[there]):
            chosen = kinds[there] == kind
            predicted[chosen] = _predict(here[1:][chosen], here[:-1][chosen], step, kind)
        out[there] = here[1:] - predicted
    return out


def _choose_filters(rows: Bytes, step: int) -> Bytes:
    """For each row (R, N) the filter whose residuals, as signed bytes, have the least sum."""
    kinds = np.empty(len(rows), np.uint8)
    library = native.coding()
    if library is not None:
        rows = np.ascontiguousarray(rows)
        library.filters_choose(rows, *rows.shape, step, kinds)
        return kinds
    for here, there in _bands(rows):
        costs = [
            np.abs(
                (here[1:] - _predict(here[1:], here[:-1], step, kind)).view(np.int8), dtype=np.int16
            ).sum(axis=1)
            for kind in range(Filter.ADAPTIVE)
        ]
        kinds[there] = np.argmin(costs, axis=0)
    return kinds


def _bands(rows: Bytes) -> Iterator[tuple[Bytes, slice]]:
    """Bands of rows, each below the last row of the band before it (or zeros), and their place."""
    height = max(1, _BAND // rows.shape[1])
    for top in range(0, len(rows), height):
        above = rows[top - 1 : top] if top else np.zeros_like(rows[:1])
        place = slice(top, min(top + height, len(rows)))
        yield np.concatenate([above, rows[place]]), place


def _predict(rows: Bytes, above: Bytes, step: int, kind: int) -> Bytes:
    """What a filter predicts for rows (R, N) that have these rows (R, N) above them."""
    if kind == Filter.NONE:
        return np.zeros_like(rows)
    if kind == Filter.UP:
        return above
    left = np.zeros_like(rows)
    left[:, step:] = rows[:, :-step]
    if kind == Filter.SUB:
        return left
    if kind == Filter.AVERAGE:
        return _average(left, above)
    corner = np.zeros_like(above)
    corner[:, step:] = above[:, :-step]
    return _paeth(left, above, corner)


def _average(left: Bytes, above: Bytes) -> Bytes:
    """(left + above) // 2, without leaving eight bits."""
    return (left & above) + ((left ^ above) >> np.uint8(1))


def _paeth(left: Bytes, above: Bytes, corner: Bytes) -> Bytes:
    """Whichever of the three is nearest to left + above - corner, in this order."""
    across = above.astype(np.int16) - corner
    down = left.astype(np.int16) - corner
    to_left, to_above, to_corner = np.abs(across), np.abs(down), np.abs(across + down)
    rest = np.where(to_above <= to_corner, above, corner)
    return np.where((to_left <= to_above) & (to_left <= to_corner), left, rest)


def _unfilter(residuals: Bytes, step: int, kinds: Bytes) -> Bytes:
    """Rows (R, N) from their residuals and filters (R,)."""
    rows, kinds = residuals.copy(), np.ascontiguousarray(kinds)
    library = native.coding()
    if library is not None:
        library.filters_undo(rows, *rows.shape, step, kinds)
    elif kinds.any():
        from pixelzip.codec.loops import filters  # slow to load

        filters.undo(rows, step, kinds)
    return rows


def _damaged() -> FormatError:
    return FormatError("the file is damaged: a packed part does not hold the pixels it should")
