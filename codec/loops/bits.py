"""The adaptive binary coder: see `pixelzip.codec.bits`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.compiled import kernel, part
from pixelzip.codec.probabilities import LOGIT, PRECISION
from pixelzip.codec.tables import SIGMOID

_WIDTH, _LOWER, _DONE, _ENCODING = range(4)  # of a `pixelzip.codec.bits.Coder`
_LEARNT_BITS = 40  # of a context's probability
_LOGIT_BITS = 12  # of the probabilities that the table of logits tells apart
_UNIT_BITS = 14  # a logit is in units of 2^-14
_WEIGHT_BITS = 16
_RATE_BITS = 28  # a mixer's weights learn at a rate of 2^(22 + 14 - 16 - 28), 1/256
_SIGMOID_BITS = 22


def fresh(contexts: int) -> NDArray[np.int64]:
    """So many contexts that have seen nothing: (contexts, 2)."""
    out = np.zeros((contexts, 2), np.int64)
    out[:, 0] = 1 << (_LEARNT_BITS - 1)
    return out


@part
def learn(contexts, context, limit, bit):  # type: ignore[no-untyped-def]
    """Let a context see a bit."""
    target = np.int64(bit) << _LEARNT_BITS
    seen = contexts[context, 1]
    contexts[context, 0] += 2 * (target - contexts[context, 0]) // (2 * seen + 3)
    if seen < limit:
        contexts[context, 1] = seen + 1


@part
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


@part
def _carry(words, done):  # type: ignore[no-untyped-def]
    """Add one to the words written so far, as one large number."""
    done = min(done, len(words))
    while done > 0:
        done -= 1
        words[done] += np.uint32(1)
        if words[done] != 0:
            break


@part
def code_bit(coder, words, contexts, context, limit, bit):  # type: ignore[no-untyped-def]
    """Code a bit with what one context believes, and let it see the bit; returns the bit."""
    one = contexts[context, 0] >> (_LEARNT_BITS - PRECISION)
    bit = code(coder, words, one, bit)
    learn(contexts, context, limit, bit)
    return bit


def mixer(sets: int, inputs: int) -> NDArray[np.int64]:
    """So many sets of weights for so many contexts each: (sets, inputs)."""
    return np.full((sets, inputs), (1 << _WEIGHT_BITS) * 3 // (2 * inputs + 1), np.int64)


@part
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


@part
def _sigmoid(logit):  # type: ignore[no-untyped-def]
    """The logistic function of a logit in units of 2^-14, in units of 2^-22."""
    limit = np.int64(16) << _UNIT_BITS
    shifted = min(max(logit, -limit), limit) + limit
    at = shifted >> 8
    if at == 2048:
        return SIGMOID[at]
    return SIGMOID[at] + (((SIGMOID[at + 1] - SIGMOID[at]) * (shifted & 255)) >> 8)


# The simplest model: a row of flags.

_HISTORIES = (2, 5, 9, 13)
"""Flags are coded in four contexts together: what this many flags before them were."""


def flags(coder: NDArray[np.uint64], words: NDArray[np.uint32], given: NDArray[np.bool_]) -> None:
    contexts, weights = fresh(1 << (_HISTORIES[-1] + 1)), mixer(1, len(_HISTORIES))[0]
    _flags(coder, words, given, contexts, weights, np.zeros(len(_HISTORIES), np.int64))


@kernel
def _flags(coder, words, given, contexts, weights, chosen):  # type: ignore[no-untyped-def]
    before = np.int64(0)
    for i in range(len(given)):
        for k in range(len(_HISTORIES)):
            size = np.int64(1) << _HISTORIES[k]
            chosen[k] = size + (before & (size - 1))
        bit = code_mixed(coder, words, contexts, chosen, 255, weights, np.int64(given[i]))
        given[i] = bit != 0
        before = 2 * before + bit & (1 << _HISTORIES[-1]) - 1
