"""An adaptive binary range coder: bits, each coded with a probability that its context has learnt.

What is coded in this way is a *model*: a compiled function that visits bits one after the other and
calls `code_bit` or `code_mixed` for each. The same function encodes and decodes, since both give
back the bit; when decoding, the bit that is passed in is not looked at::

    @kernel
    def model(coder, words, mask):
        contexts = fresh(2)
        previous = 0
        for i in range(len(mask)):
            previous = code_bit(coder, words, contexts, previous, 255, mask[i])
            mask[i] = previous

    data = encode(lambda coder, words: model(coder, words, mask))
    model(*decoder(data), mask)

Everything is integer arithmetic, so every machine finds the same probabilities. Probabilities are
those of a one. A decoder reads zeros beyond the end of its data, and is never at a loss: any data
decodes to some bits, as many as the model asks for. No data at all decodes to zeros, and only that.

A *context* is a row of an array: its probability in units of 2^-40, and how many bits it has seen,
counted up to a limit. Each bit moves the probability towards it by the 1 / (seen + 1.5)th part of
the way, so that a context learns fast at first and then as slowly as its limit says.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.compiled import kernel
from pixelzip.codec.errors import FormatError
from pixelzip.codec.tables import SIGMOID

PRECISION = 20
"""Bits of the probabilities that the coder uses: 1 to 2^20 - 1."""

Coder = NDArray[np.uint64]
"""Its state: the range, the lower end (or, decoding, the offset from it), words done, encoding?"""
Words = NDArray[np.uint32]

_WIDTH, _LOWER, _DONE, _ENCODING = range(4)
_STATE_BYTES = 8
_LEARNT_BITS = 40  # of a context's probability
_LOGIT_BITS = 12  # of the probabilities that the table of logits tells apart
_UNIT_BITS = 14  # a logit is in units of 2^-14
_WEIGHT_BITS = 16
_RATE_BITS = 28  # a mixer's weights learn at a rate of 2^(22 + 14 - 16 - 28), 1/256
_SIGMOID_BITS = 22


def _logits() -> NDArray[np.int64]:
    # Decimal's ln is correctly rounded by definition, on every machine; libm's is not.
    with localcontext() as context:
        context.prec = 30
        size = 1 << _LOGIT_BITS
        odds = [Decimal(2 * i + 1) / (2 * (size - i) - 1) for i in range(size)]
        return np.array([int((x.ln() * (1 << _UNIT_BITS)).to_integral_value()) for x in odds])


LOGIT = _logits()
"""ln(p / (1 - p)) at p = (i + 1/2) / 4096, in units of 2^-14."""


# For models.


@kernel
def fresh(contexts):  # type: ignore[no-untyped-def]
    """So many contexts that have seen nothing: (contexts, 2) int64."""
    out = np.zeros((contexts, 2), np.int64)
    out[:, 0] = np.int64(1) << (_LEARNT_BITS - 1)
    return out


@kernel
def learn(contexts, context, limit, bit):  # type: ignore[no-untyped-def]
    """Let a context see a bit."""
    target = np.int64(bit) << _LEARNT_BITS
    seen = contexts[context, 1]
    contexts[context, 0] += 2 * (target - contexts[context, 0]) // (2 * seen + 3)
    if seen < limit:
        contexts[context, 1] = seen + 1


@kernel
def code(coder, words, one, bit):  # type: ignore[no-untyped-def]
    """Code a bit that is 1 with a probability of about ``one`` / 2^20; returns it."""
    one = min(max(np.int64(one), 1), (1 << PRECISION) - 1)
    width = coder[_WIDTH]
    bound = (width >> np.uint64(PRECISION)) * np.uint64((1 << PRECISION) - one)
    encoding = coder[_ENCODING] != 0
    if not encoding:
        bit = np.int64(coder[_LOWER] >= bound)
        if bit != 0:
            coder[_LOWER] -= bound
    elif bit != 0:
        lower = coder[_LOWER] + bound
        if lower < bound:
            _carry(words, np.int64(coder[_DONE]))
        coder[_LOWER] = lower
    width = width - bound if bit != 0 else bound
    if width < np.uint64(1 << 32):
        width <<= np.uint64(32)
        done = np.int64(coder[_DONE])
        inside = done < len(words)
        if encoding:
            if inside:
                words[done] = np.uint32(coder[_LOWER] >> np.uint64(32))
            coder[_LOWER] <<= np.uint64(32)
        else:
            next_word = np.uint64(words[done]) if inside else np.uint64(0)
            coder[_LOWER] = coder[_LOWER] << np.uint64(32) | next_word
        coder[_DONE] = np.uint64(done + 1)
    coder[_WIDTH] = width
    return np.int64(bit)


@kernel
def _carry(words, done):  # type: ignore[no-untyped-def]
    """Add one to the words written so far, as one large number."""
    done = min(done, len(words))
    while done > 0:
        done -= 1
        words[done] += np.uint32(1)
        if words[done] != 0:
            break


@kernel
def code_bit(coder, words, contexts, context, limit, bit):  # type: ignore[no-untyped-def]
    """Code a bit with what one context believes, and let it see the bit; returns the bit."""
    one = contexts[context, 0] >> (_LEARNT_BITS - PRECISION)
    bit = code(coder, words, one, bit)
    learn(contexts, context, limit, bit)
    return bit


@kernel
def mixer(sets, inputs):  # type: ignore[no-untyped-def]
    """So many sets of weights for so many contexts each, (sets, inputs) int64."""
    return np.full((sets, inputs), (np.int64(1) << _WEIGHT_BITS) * 3 // (2 * inputs + 1), np.int64)


@kernel
def code_mixed(coder, words, contexts, chosen, limit, weights, bit):  # type: ignore[no-untyped-def]
    """Code a bit with what the ``chosen`` contexts believe together; returns the bit.

    Their logits are added up with a mixer's ``weights`` (inputs,), which learn from the bit too.
    """
    total = np.int64(0)
    for i in range(len(chosen)):
        at = contexts[chosen[i], 0] >> (_LEARNT_BITS - _LOGIT_BITS)
        total += weights[i] * LOGIT[min(at, (1 << _LOGIT_BITS) - 1)]
    believed = _sigmoid(total >> _WEIGHT_BITS)
    bit = code(coder, words, believed >> (_SIGMOID_BITS - PRECISION), bit)
    surprise = (np.int64(bit) << _SIGMOID_BITS) - believed
    for i in range(len(chosen)):
        at = contexts[chosen[i], 0] >> (_LEARNT_BITS - _LOGIT_BITS)
        weights[i] += (surprise * LOGIT[min(at, (1 << _LOGIT_BITS) - 1)]) >> _RATE_BITS
        learn(contexts, chosen[i], limit, bit)
    return bit


@kernel
def _sigmoid(logit):  # type: ignore[no-untyped-def]
    """The logistic function of a logit in units of 2^-14, in units of 2^-22."""
    limit = np.int64(16) << _UNIT_BITS
    shifted = min(max(logit, -limit), limit) + limit
    at = shifted >> 8
    if at == 2048:
        return SIGMOID[at]
    return SIGMOID[at] + (((SIGMOID[at + 1] - SIGMOID[at]) * (shifted & 255)) >> 8)


# From and to bytes.


def encode(model: Callable[[Coder, Words], object], likely: int = 1 << 16) -> bytes:
    """The bytes of what a model codes. ``likely`` is a guess at their number.

    The model runs again if there are more, so it has to code the same twice.
    """
    words = np.zeros(-(-likely // 4), np.uint32)
    coder = _encoder()
    model(coder, words)
    done = int(coder[_DONE])
    if done > len(words):
        words, coder = np.zeros(done, np.uint32), _encoder()
        model(coder, words)
    lower, width = int(coder[_LOWER]), int(coder[_WIDTH])
    settled = words[:done].astype(">u4").tobytes()
    # Any number in [lower, lower + width) ends the stream: take the one with the fewest bytes.
    lower += int.from_bytes(settled, "big") << 8 * _STATE_BYTES
    ends = (-(-lower >> bits) << bits for bits in range(8 * _STATE_BYTES, -1, -8))
    end: int = next(end for end in ends if end < lower + width)
    return end.to_bytes(len(settled) + _STATE_BYTES, "big").rstrip(b"\0")


def _encoder() -> Coder:
    return np.array([2**64 - 1, 0, 0, 1], np.uint64)


def decoder(data: bytes) -> tuple[Coder, Words]:
    """What a model needs to decode ``data``. FormatError for data that no encoder writes."""
    offset = int.from_bytes(data[:_STATE_BYTES].ljust(_STATE_BYTES, b"\0"), "big")
    if data.endswith(b"\0") or offset == 2**64 - 1:
        raise FormatError("the compressed data is damaged")
    rest = data[_STATE_BYTES:]
    words = np.frombuffer(rest + bytes(-len(rest) % 4), ">u4").astype(np.uint32)
    return np.array([2**64 - 1, offset, 0, 0], np.uint64), words


# The simplest model: a row of flags.

_HISTORIES = (2, 5, 9, 13)
"""Flags are coded in four contexts together: what this many flags before them were."""


def encode_flags(flags: NDArray[np.bool_]) -> bytes:
    """Flags (n,) that come in regular patterns, or in runs, in few bytes."""
    return encode(lambda coder, words: _flags(coder, words, flags.copy()))


def decode_flags(data: bytes, count: int) -> NDArray[np.bool_]:
    """Back from `encode_flags`. FormatError for data that no encoder writes."""
    flags = np.zeros(count, np.bool_)
    _flags(*decoder(data), flags)
    return flags


@kernel
def _flags(coder, words, flags):  # type: ignore[no-untyped-def]
    contexts = fresh(1 << (_HISTORIES[-1] + 1))
    weights = mixer(1, len(_HISTORIES))
    chosen = np.zeros(len(_HISTORIES), np.int64)
    before = np.int64(0)
    for i in range(len(flags)):
        for k in range(len(_HISTORIES)):
            size = np.int64(1) << _HISTORIES[k]
            chosen[k] = size + (before & (size - 1))
        bit = code_mixed(coder, words, contexts, chosen, 255, weights[0], np.int64(flags[i]))
        flags[i] = bit != 0
        before = 2 * before + bit & (1 << _HISTORIES[-1]) - 1
