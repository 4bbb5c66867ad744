"""The probabilities of the adaptive binary coder, and their logits: see `pixelzip.codec.bits`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

PRECISION = 20
"""Bits of the probabilities that the coder uses: 1 to 2^20 - 1."""

_PROBABILITIES = 1 << 12  # those that the table of logits tells apart
_UNIT_BITS = 14  # a logit is in units of 2^-14
_LOGARITHM_BITS = 96


def _logarithms(count: int) -> Iterator[int]:
    """ln(1), ln(3), ln(5), ... in units of 2^-96, no further off than a few thousand of these."""
    total = 0
    yield total
    for n in range(1, count):  # ln(2n + 1) - ln(2n - 1) = 2 artanh(1 / 2n)
        power, k = (2 << _LOGARITHM_BITS) // (2 * n), 1
        while power:
            total += power // k
            power, k = power // (4 * n * n), k + 2
        yield total


def _logits() -> NDArray[np.int64]:
    # Integers, because libm's logarithm is not the same everywhere. (None is so near to a tie that
    # what is off could matter.)
    logarithms, spare = list(_logarithms(_PROBABILITIES)), _LOGARITHM_BITS - _UNIT_BITS
    pairs = zip(logarithms, reversed(logarithms), strict=True)
    return np.array([(p - q + (1 << spare - 1)) >> spare for p, q in pairs])


LOGIT = _logits()
"""ln(p / (1 - p)) at p = (i + 1/2) / 4096, in units of 2^-14."""
