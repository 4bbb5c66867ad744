"""Three functions as tables of integers, from which `pixelzip.codec.cdf` makes frequencies.

Derived by decimal arithmetic, so that every machine has the same ones: powers of one exp, which is
correctly rounded by definition, to so many digits that all of them are right where it matters. (No
entry lies so near to a tie that it could be rounded the other way.)
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from pixelzip.codec.decimals import table

LOGIT_UNIT = 256  # per nat
MEAN_UNIT = 256  # per pixel value
MEAN_LIMIT = 1 << 18
SCALE_UNIT = 32  # per nat
SYMBOLS = 18  # of a nibble: 16 and two guards
TOTAL_BITS = 24  # of a nibble's frequencies
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


EXP = table(
    _powers(LOGIT_UNIT, 0, EXP_RANGE + 1),
    20,
    "01f0bedd96e36e3b2fd3b3c59553270ee9d41d44333dc7af56efdcab029c9415",
)
"""exp(-i / LOGIT_UNIT)."""
INVERSE_SCALE = table(
    _powers(SCALE_UNIT, LOG_SCALE_MIN, LOG_SCALE_MAX - LOG_SCALE_MIN + 1),
    INVERSE_BITS,
    "8a044c41400fc7642b5e473dce261ac5b9277cdac2ed483fbc0b9a611dde7456",
)
"""exp(-log-scale)."""
_HALF = REACH << STEP_BITS
SIGMOID = table(
    (1 / (1 + odds) for odds in _powers(1 << STEP_BITS, -_HALF, 2 * _HALF + 1)),
    SIGMOID_BITS,
    "ce42ef3d35d5635825980d9c1cd540e58e0346821d19aad5ca3a0147a46f224c",
)
"""The logistic function, from -REACH to REACH."""
