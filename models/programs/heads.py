"""What the papers' networks end in, in integers: from the last map to the coder's parameters.

The last map's columns come in the units that are read here (`units`): logits and log-scales in
those of `pixelzip.codec.cdf`, so that all that is left is to couple the colours. These are the
integer twins of `pixelzip.models.networks.outputs`.
"""

from __future__ import annotations

from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import cdf
from pixelzip.codec.decimals import table
from pixelzip.models.programs.program import WIDE, Program
from pixelzip.models.programs.tables import hyperbolic_tangent

_FINE = 16 * cdf.LOGIT_UNIT  # of what values are multiplied with before they are added to logits
_NEVER = -(2**30)
_MIDDLE = 128 * cdf.MEAN_UNIT
_LOG_MIDDLE = 4.852030263919617  # ln 128: log-scales come in units of 128 pixel values
_STEP_BITS = 6  # log-sigmoid's table has 2^6 steps for each unit of its argument
_FRACTION_BITS = 8  # between which it is a straight line
_REACH = 16  # the table spans -16 to 16; beyond, it is the argument itself, or zero
_LOG_BITS = 12  # logarithms are in 1/4096 nat until the last rounding


def units(program: Program) -> NDArray[np.float64]:
    """(columns,) how many integers a float of 1 becomes, in each column of the last map."""
    colours, k = program.colours, program.components
    found = np.full(program.parameters, float(cdf.LOGIT_UNIT))
    if program.output == "softmax":
        found[256 * colours :] = _FINE
    elif program.output == "mixture":
        found[k : k + colours * k] = 128 * cdf.MEAN_UNIT
        found[k + colours * k : k + 2 * colours * k] = cdf.SCALE_UNIT
        found[k + 2 * colours * k :] = WIDE
    return found


def offsets(program: Program) -> NDArray[np.float64]:
    """(columns,) what is added to the floats of the last map, before they become integers."""
    found = np.zeros(program.parameters)
    if program.output == "mixture":
        first = program.components * (1 + program.colours)
        found[first : first + program.components * program.colours] = _LOG_MIDDLE
    return found


class Head:
    """Reads parameters of one sub-pixel after the other from rows (n, columns) of the last map."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def begin(self, rows: NDArray[np.int32]) -> None:
        """The rows (n, columns) of the pixels that come next."""
        self.rows, self.known = rows, list[NDArray[np.int64]]()
        # Of a mixture, for the sub-pixel asked for last.
        self.logits: NDArray[np.int64]
        self.means: NDArray[np.int64]
        self.log_scales: NDArray[np.int64]

    def learn(self, values: NDArray[np.uint8]) -> None:
        """The values (n,) of the sub-pixel whose parameters were asked for last."""
        self.known.append(values.astype(np.int64))

    def parameters(self, channel: int) -> NDArray[np.int32]:
        """(n, 256) logits or (n, 3, K) mixture parameters of one sub-pixel."""
        read = {"softmax": self._softmax, "binary": self._binary, "mixture": self._mixture}
        return read[self.program.output](channel).astype(np.int32, copy=False)

    def _softmax(self, channel: int) -> NDArray[Any]:
        logits = self.rows[:, 256 * channel : 256 * channel + 256]
        if not self.program.coupled or channel == 0:
            return logits
        total = logits.astype(np.int64) * (128 * _FINE // cdf.LOGIT_UNIT)
        pair = self.program.colours + channel * (channel - 1) // 2
        for value in self.known[:channel]:
            coefficients = self.rows[:, 256 * pair : 256 * pair + 256].astype(np.int64)
            total += coefficients * (value - 128)[:, None]
            pair += 1
        half = 64 * _FINE // cdf.LOGIT_UNIT
        return (total + half) >> (2 * half).bit_length() - 1

    def _binary(self, channel: int) -> NDArray[Any]:
        logits = np.full((len(self.rows), 256), _NEVER, np.int32)
        logits[:, 0] = 0
        logits[:, 255] = self.rows[:, channel]
        return logits

    def _mixture(self, channel: int) -> NDArray[Any]:
        colours, k = self.program.colours, self.program.components
        blocks = self.rows.reshape(len(self.rows), -1, k).astype(np.int64)
        if channel == 0:
            self.logits = blocks[:, 0]
        else:  # the posterior of the indicator, given the sub-pixel before
            seen = log_probability(self.known[channel - 1], self.means, self.log_scales)
            self.logits = self.logits + seen
            # Only differences count; within this range they do not overflow.
            self.logits = np.maximum(self.logits - self.logits.max(1, keepdims=True), _NEVER)
        means = blocks[:, 1 + channel] + _MIDDLE
        pair = 1 + 2 * colours + channel * (channel - 1) // 2
        for value in self.known[:channel]:
            coefficient = hyperbolic_tangent(blocks[:, pair])
            means = means + ((coefficient * (value - 128)[:, None] + 64) >> 7)
            pair += 1
        self.means = np.clip(means, -cdf.MEAN_LIMIT, cdf.MEAN_LIMIT)
        scales = blocks[:, 1 + colours + channel]
        self.log_scales = np.clip(scales, cdf.LOG_SCALE_MIN, cdf.LOG_SCALE_MAX)
        return np.stack([self.logits, self.means, self.log_scales], 1)


def log_probability(
    value: NDArray[np.int64], means: NDArray[np.int64], log_scales: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Of values (n,) under each discretized logistic (n, K): in units of `cdf.LOGIT_UNIT`.

    log(sigmoid(upper) - sigmoid(lower)) as the sum of three logarithms, as in
    `pixelzip.models.networks.mixture`.
    """
    log_sigmoid, slope, width, inverse = log_tables()
    scale = log_scales - cdf.LOG_SCALE_MIN
    middle = value[:, None] * cdf.MEAN_UNIT - means
    half = cdf.MEAN_UNIT // 2
    upper = (middle + half) * inverse[scale]
    lower = (middle - half) * inverse[scale]

    def logarithm(z: NDArray[np.int64]) -> NDArray[np.int64]:
        # Of 28 bits behind the point 14 are kept.
        z = z >> 28 - _STEP_BITS - _FRACTION_BITS
        limit = _REACH << _STEP_BITS + _FRACTION_BITS
        inside = np.clip(z, -limit, limit)
        at = (inside + limit) >> _FRACTION_BITS
        fraction = inside & ((1 << _FRACTION_BITS) - 1)
        beyond = np.minimum(z + limit, 0)
        line = (slope[at] * fraction) >> _FRACTION_BITS
        found: NDArray[np.int64] = log_sigmoid[at] + line
        return found + (beyond >> _STEP_BITS + _FRACTION_BITS - _LOG_BITS)

    first, last = logarithm(upper), logarithm(-lower)
    lowest, highest = (value == 0)[:, None], (value == 255)[:, None]
    inner = first + last + width[scale]
    found = np.where(lowest, first, np.where(highest, last, inner))
    bits = _LOG_BITS - (cdf.LOGIT_UNIT.bit_length() - 1)
    rounded: NDArray[np.int64] = (found + (1 << bits - 1)) >> bits
    return rounded


@cache
def log_tables() -> tuple[NDArray[np.int64], ...]:
    """log sigmoid(z) and its slopes, log(1 - exp(-1 / scale)), and 1 / scale."""
    half = _REACH << _STEP_BITS
    log_sigmoid = table(
        (-(1 + (Decimal(-i) / (1 << _STEP_BITS)).exp()).ln() for i in range(-half, half + 1)),
        _LOG_BITS,
        "944a117947e3dec3097f7d011dbb1d2faeea5ffae1a0b3a75b930ed405be91d9",
    )
    width = table(
        (
            (1 - (-(Decimal(-i) / cdf.SCALE_UNIT).exp()).exp()).ln()
            for i in range(cdf.LOG_SCALE_MIN, cdf.LOG_SCALE_MAX + 1)
        ),
        _LOG_BITS,
        "12404baa20cab8850a72529b4361fccf5b6fe4fe9402aafa207a190a5faaacd6",
    )
    slope = np.append(np.diff(log_sigmoid), 0)
    return log_sigmoid, slope, width, cdf.INVERSE_SCALE
