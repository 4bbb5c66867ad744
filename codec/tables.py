"""Three functions as tables of integers, from which `pixelzip.codec.cdf` makes frequencies.

Derived by decimal arithmetic, so that every machine has the same ones: powers of one exp, which is
correctly rounded by definition, to so many digits that all of them are right where it matters. (No
entry lies so near to a tie that it could be rounded the other way.)
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

LOGIT_UNIT = 256  # per nat
SCALE_UNIT = 32  # per nat
LOG_SCALE_MIN = -4 * SCALE_UNIT
LOG_SCALE_MAX = 5 * SCALE_UNIT
EXP_RANGE = 12 * LOGIT_UNIT  # components e^-12 times less likely than the first have no weight
SIGMOID_BITS = 22
INVERSE_BITS = 20
STEP_BITS = 6  # the sigmoid's table has 2^6 steps for each unit of its argument
REACH = 16  # it spans -16 to 16


def _powers(unit: int, first: int, count: int) -> Iterator[Decimal]:
    """exp(-i / unit) for ``count`` numbers i from ``first`` on."""
    step, power = (Decimal(-1) / unit).exp(), (Decimal(-first) / unit).exp()
    for _ in range(count):
        yield power
        power *= step


def _tables() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    def scaled(x: Decimal, bits: int) -> int:
        return int((x * (1 << bits)).to_integral_value())

    scales, half = LOG_SCALE_MAX - LOG_SCALE_MIN + 1, REACH << STEP_BITS
    with localcontext() as context:
        context.prec = 40
        exp = [scaled(x, 20) for x in _powers(LOGIT_UNIT, 0, EXP_RANGE + 1)]
        inverse = [scaled(x, INVERSE_BITS) for x in _powers(SCALE_UNIT, LOG_SCALE_MIN, scales)]
        odds = _powers(1 << STEP_BITS, -half, 2 * half + 1)
        sigmoid = [scaled(1 / (1 + x), SIGMOID_BITS) for x in odds]
    return np.array(exp), np.array(inverse), np.array(sigmoid)


EXP, INVERSE_SCALE, SIGMOID = _tables()
"""exp(-i / LOGIT_UNIT), exp(-log-scale), and the logistic function, as integers."""
