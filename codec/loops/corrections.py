"""Corrections: see `pixelzip.codec.corrections`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.bits import Coder, Words
from pixelzip.codec.compiled import kernel, part
from pixelzip.codec.loops.bits import code_bit, fresh

Pixels = NDArray[np.uint8]

_SAME, _LEFT, _ABOVE, _AGAIN, _RENDERED, _PREDICTED = range(6)
"""A pixel that does not differ, and the five kinds of those that do."""
_LASTING = 65535
_QUICK = 255
"""Limits of contexts: of whether pixels differ, which may be one in many thousands; of the rest."""
_GAPS = 10
"""As many orders of magnitude, to the base 8, of the pixels since the last one that differs."""
_SIZES = 9
"""A difference has a *size*, its number of bits without the sign: 0 to 8."""
_STORIES = 5
"""What the earlier channels' differences were like, see `_story`."""
_FAINT = 8
"""From this difference on, a channel and the next one are likely to be off in the same way."""
_FIELDS = 4
"""Channels that have contexts of their own; those from the fourth on share them."""


def code(coder: Coder, words: Words, rendered: Pixels, pixels: Pixels) -> None:
    """Encode ``pixels``, or decode them over what they hold, which is what is rendered."""
    height, width, channels = pixels.shape
    _code(
        coder, words, rendered, pixels,
        kinds=np.zeros((height + 2, width + 4), np.uint8),
        again=np.full(channels, 255, np.uint8),
        mask_contexts=fresh(2 * (1 << 10) + 2 * _GAPS),
        kind_contexts=fresh(6 * 6 * 4),
        size_contexts=fresh(2 * _FIELDS * _STORIES * (_SIZES + 1) * _SIZES),
        sign_contexts=fresh(2 * _FIELDS * 3),
        rest_contexts=fresh(2 * _SIZES * _SIZES),
    )  # fmt: skip


@kernel
def _code(  # type: ignore[no-untyped-def]
    coder, words, rendered, pixels, kinds, again,
    mask_contexts, kind_contexts, size_contexts, sign_contexts, rest_contexts,
):  # fmt: skip
    height, width, channels = pixels.shape
    gap = 0
    for y in range(height):
        for x in range(width):
            near = _neighbours(kinds, y, x)
            clipped = _clipped(rendered, y, x)
            context = 2 * near + clipped
            if near == 0:
                context = 2 * (1 << 10) + 2 * min((_size(gap) + 2) // 3, _GAPS - 1) + clipped
            kind = _kind(pixels, rendered, again, y, x)
            differs = code_bit(
                coder, words, mask_contexts, context, _LASTING, np.int64(kind != _SAME)
            )
            gap += 1
            if differs == 0:
                continue
            gap = 0
            around = 4 * (6 * np.int64(kinds[y + 2, x + 1]) + kinds[y + 1, x + 2])
            kind = _code_kind(coder, words, kind_contexts, around, kind)
            kinds[y + 2, x + 2] = kind
            if kind == _AGAIN:
                for channel in range(channels):
                    pixels[y, x, channel] = again[channel]
            elif kind <= _ABOVE:  # or _LEFT
                for channel in range(channels):
                    again[channel] = _beside(pixels, y, x, channel, kind)
                    pixels[y, x, channel] = again[channel]
            else:
                _code_channels(
                    coder, words, rendered, pixels, y, x, kind,
                    size_contexts, sign_contexts, rest_contexts,
                )  # fmt: skip


@part
def _neighbours(kinds, y, x):  # type: ignore[no-untyped-def]
    """Which of ten pixels around (y, x) differ, as a number. ``kinds`` has a margin of two."""
    near = np.int64(0)
    for column in range(x + 1, x + 4):
        near = 2 * near + (kinds[y, column] != _SAME)
    for column in range(x, x + 5):
        near = 2 * near + (kinds[y + 1, column] != _SAME)
    for column in range(x, x + 2):
        near = 2 * near + (kinds[y + 2, column] != _SAME)
    return near


@part
def _clipped(rendered, y, x):  # type: ignore[no-untyped-def]
    """Whether a channel is as dark or as bright as it can be."""
    for channel in range(rendered.shape[2]):
        if rendered[y, x, channel] == 0 or rendered[y, x, channel] == 255:
            return 1
    return 0


@part
def _size(number):  # type: ignore[no-untyped-def]
    """The number of bits of a number, which is at least 0."""
    size = 0
    while number > 0:
        number >>= 1
        size += 1
    return size


# Kinds.


@part
def _kind(pixels, rendered, again, y, x):  # type: ignore[no-untyped-def]
    """What to code of a pixel. (Of no meaning when decoding.)"""
    channels = pixels.shape[2]
    largest = 0
    is_left, is_above, is_again = x > 0, y > 0, True
    for channel in range(channels):
        value = np.int64(pixels[y, x, channel])
        largest = max(largest, abs(value - rendered[y, x, channel]))
        is_left = is_left and value == _beside(pixels, y, x, channel, _LEFT)
        is_above = is_above and value == _beside(pixels, y, x, channel, _ABOVE)
        is_again = is_again and value == again[channel]
    if largest == 0:
        return _SAME
    if largest == 1:
        return _RENDERED
    if is_left:
        return _LEFT
    if is_above:
        return _ABOVE
    if is_again:
        return _AGAIN
    gain = 0  # in bits of the differences' sizes
    from_rendered, from_predicted = np.int64(0), np.int64(0)
    for channel in range(channels):
        value = np.int64(pixels[y, x, channel])
        from_rendered = _signed(
            value - _base(pixels, rendered, y, x, channel, _RENDERED, from_rendered)
        )
        from_predicted = _signed(
            value - _base(pixels, rendered, y, x, channel, _PREDICTED, from_predicted)
        )
        gain += _size(abs(from_rendered)) - _size(abs(from_predicted))
    return _PREDICTED if gain > 0 else _RENDERED


@part
def _code_kind(coder, words, contexts, context, kind):  # type: ignore[no-untyped-def]
    """A kind but _SAME: is it _LEFT? If not, _ABOVE? And so on."""
    for tried in range(_LEFT, _PREDICTED):
        if code_bit(coder, words, contexts, context + tried - 1, _QUICK, np.int64(kind == tried)):
            return tried
    return _PREDICTED


@part
def _beside(pixels, y, x, channel, kind):  # type: ignore[no-untyped-def]
    """A channel of the pixel to the left or above, 0 outside of the picture."""
    if kind == _LEFT:
        return np.int64(pixels[y, x - 1, channel]) if x > 0 else np.int64(0)
    return np.int64(pixels[y - 1, x, channel]) if y > 0 else np.int64(0)


# Channels, as differences.


@part
def _code_channels(coder, words, rendered, pixels, y, x, kind, sizes, signs, rests):  # type: ignore[no-untyped-def]
    """The channels of a pixel as differences from its rendering, or from what is predicted."""
    predicts = np.int64(kind == _PREDICTED)
    before, story = np.int64(0), 0
    for channel in range(pixels.shape[2]):
        field = min(channel, _FIELDS - 1)
        base = _base(pixels, rendered, y, x, channel, kind, before)
        activity = _activity(pixels, y, x, channel) if predicts else 0
        where = 2 * field + predicts
        context = (where * _STORIES + story) * (_SIZES + 1) + activity
        sign = 3 * where + (before > 0) + 2 * (before < 0)
        wanted = _signed(pixels[y, x, channel] - base)
        before = _code_difference(
            coder, words, sizes, context * _SIZES, signs, sign, rests, predicts, wanted
        )
        pixels[y, x, channel] = (base + before) & 255
        story = _story(channel, story, before)


@part
def _code_difference(coder, words, sizes, size_context, signs, sign, rests, predicts, wanted):  # type: ignore[no-untyped-def]
    """A difference of -128 to 127: its size in unary, then its sign, then its lower bits."""
    target = _size(abs(wanted))
    size = 0
    while size < _SIZES - 1 and code_bit(
        coder, words, sizes, size_context + size, _QUICK, np.int64(target > size)
    ):
        size += 1
    if size == 0:
        return np.int64(0)
    negative = code_bit(coder, words, signs, sign, _QUICK, np.int64(wanted < 0))
    magnitude = np.int64(1)
    for place in range(size - 2, -1, -1):
        context = (predicts * _SIZES + size) * _SIZES + place
        bit = abs(wanted) >> place & 1
        magnitude = 2 * magnitude + code_bit(coder, words, rests, context, _QUICK, bit)
    return -magnitude if negative else magnitude


@part
def _signed(difference):  # type: ignore[no-untyped-def]
    """Modulo 256, from -128 to 127."""
    return ((np.int64(difference) + 128) & 255) - 128


@part
def _story(channel, story, difference):  # type: ignore[no-untyped-def]
    """What the differences were like up to this channel: 0 of nothing; 1: all zero; else by size.

    2, 3 and 4: the last one was 0, 1, or more.
    """
    if difference == 0 and (channel == 0 or story == 1):
        return 1
    return 2 + min(_size(abs(difference)), 2)


@part
def _base(pixels, rendered, y, x, channel, kind, before):  # type: ignore[no-untyped-def]
    """What a channel is likely to be, the channel before it being off by ``before``.

    What is rendered; or what is predicted by the median predictor of JPEG-LS.
    """
    if kind == _RENDERED:
        base = np.int64(rendered[y, x, channel])
        return base if abs(before) < _FAINT else min(max(base + before, 0), 255)
    left, above, corner = _around(pixels, y, x, channel)
    guess = min(max(left + above - corner, min(left, above)), max(left, above))
    return min(max(guess + before, 0), 255)


@part
def _activity(pixels, y, x, channel):  # type: ignore[no-untyped-def]
    """How much the pixels around differ: 0 to 9."""
    left, above, corner = _around(pixels, y, x, channel)
    return _size(abs(left - corner) + abs(above - corner))


@part
def _around(pixels, y, x, channel):  # type: ignore[no-untyped-def]
    corner = np.int64(pixels[y - 1, x - 1, channel]) if x > 0 and y > 0 else np.int64(0)
    left = _beside(pixels, y, x, channel, _LEFT)
    return left, _beside(pixels, y, x, channel, _ABOVE), corner
