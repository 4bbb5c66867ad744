"""Functions of one variable, in integers: tables with straight lines between their entries.

The tables come from `pixelzip.codec.decimals`, so that every machine and process has the same ones.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache

import numpy as np
import torch
from torch import Tensor

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


@cache
def _on(device: str) -> tuple[Tensor, ...]:
    arrays = (SIGMOID, SIGMOID_SLOPE, EXP, EXP_SLOPE)
    return tuple(torch.from_numpy(a).long().to(device) for a in arrays)


def sigmoid(wide: Tensor) -> Tensor:
    """The logistic function of wide numbers (int64), in units of 2^-22."""
    level, slope, _, _ = _on(str(wide.device))
    limit = REACH << STEP_BITS + FRACTION_BITS
    z = wide.clamp(-limit, limit) + limit
    at = z >> FRACTION_BITS
    return level[at] + ((slope[at] * (z & (1 << FRACTION_BITS) - 1)) >> FRACTION_BITS)


def hyperbolic_tangent(wide: Tensor) -> Tensor:
    """tanh of wide numbers (int64), in units of 2^-15."""
    return (sigmoid(2 * wide) - (1 << 21)) >> 6


def elu(wide: Tensor) -> Tensor:
    """ELU of wide numbers (int64), wide."""
    _, _, level, slope = _on(str(wide.device))
    limit = REACH << STEP_BITS + FRACTION_BITS
    z = wide.clamp(-limit, 0) + limit
    at = z >> FRACTION_BITS
    power = level[at] + ((slope[at] * (z & (1 << FRACTION_BITS) - 1)) >> FRACTION_BITS)
    return torch.where(wide > 0, wide, (power - (1 << 18) + 32) >> 6)
