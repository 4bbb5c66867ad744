"""Functions of one variable, in integers: tables with straight lines between their entries.

The tables come from `pixelzip.codec.decimals`, so that every machine and process has the same ones.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import cdf
from pixelzip.codec.decimals import table

STEP_BITS = 6  # the tables have 2^6 entries for each unit of their argument
FRACTION_BITS = 6  # wide numbers have so many bits more
REACH = 16  # the tables end there; the functions are flat beyond, as far as they can tell


SIGMOID = cdf.SIGMOID.astype(np.int32)
"""sigmoid from -16 to 16, in units of 2^-22."""
SIGMOID_SLOPE = np.append(np.diff(SIGMOID), 0).astype(np.int32)
EXP = table(
    ((Decimal(-i) / (1 << STEP_BITS)).exp() for i in range(REACH << STEP_BITS, -1, -1)),
    18,
    "da8763ca5e3e4d4757013bc24cfbcfffaa0587af5f59df74776348a0584f4f1c",
).astype(np.int32)
"""exp from -16 to 0, in units of 2^-18."""
EXP_SLOPE = np.append(np.diff(EXP), 0).astype(np.int32)


def hyperbolic_tangent(wide: NDArray[np.int64]) -> NDArray[np.int64]:
    """tanh of wide numbers, in units of 2^-15."""
    limit = REACH << STEP_BITS + FRACTION_BITS
    z = np.clip(2 * wide, -limit, limit) + limit
    at, fraction = z >> FRACTION_BITS, z & (1 << FRACTION_BITS) - 1
    sigmoid = SIGMOID[at] + ((SIGMOID_SLOPE[at] * fraction) >> FRACTION_BITS)
    found: NDArray[np.int64] = (sigmoid - (1 << 21)) >> 6
    return found
