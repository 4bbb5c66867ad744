"""What the papers' networks end in, in integers: from the last map to the coder's parameters.

The last map's columns come in the units that are read here (`units`): logits and log-scales in
those of `pixelzip.codec.cdf`, so that all that is left is to couple the colours. These are the
integer twins of `pixelzip.models.networks.outputs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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


def parameters(program: Program) -> int:
    """How many columns the last map has."""
    colours = program.colours
    pairs = colours * (colours - 1) // 2 if program.coupled else 0
    if program.output == "softmax":
        return 256 * (colours + pairs)
    if program.output == "binary":
        return colours
    return program.components * (1 + 2 * colours + pairs)


def units(program: Program) -> Tensor:
    """(columns,) how many integers a float of 1 becomes, in each column of the last map."""
    colours, k = program.colours, program.components
    found = torch.full(
        (parameters(program),), float(cdf.LOGIT_UNIT), dtype=torch.float64, device="cpu"
    )
    if program.output == "softmax":
        found[256 * colours :] = _FINE
    elif program.output == "mixture":
        found[k : k + colours * k] = 128 * cdf.MEAN_UNIT
        found[k + colours * k : k + 2 * colours * k] = cdf.SCALE_UNIT
        found[k + 2 * colours * k :] = WIDE
    return found


def offsets(program: Program) -> Tensor:
    """(columns,) what is added to the floats of the last map, before they become integers."""
    found = torch.zeros(parameters(program), dtype=torch.float64, device="cpu")
    if program.output == "mixture":
        first = program.components * (1 + program.colours)
        found[first : first + program.components * program.colours] = _LOG_MIDDLE
    return found


class Head:
    """Reads parameters of one sub-pixel after the other from rows (n, columns) of the last map."""

    def __init__(self, program: Program, device: torch.device) -> None:
        self.program, self.device = program, device

    def begin(self, rows: Tensor) -> None:
        """The rows (n, columns) int32 of the pixels that come next."""
        self.rows, self.known = rows, list[Tensor]()
        self.logits: Tensor  # of a mixture, and its logistics, for the sub-pixel asked for last
        self.means: Tensor
        self.log_scales: Tensor

    def learn(self, values: NDArray[np.uint8]) -> None:
        """The values (n,) of the sub-pixel whose parameters were asked for last."""
        self.known.append(torch.from_numpy(values.astype(np.int64)).to(self.device))

    def parameters(self, channel: int) -> NDArray[np.int32]:
        """(n, 256) logits or (n, 3, K) mixture parameters of one sub-pixel."""
        read = {"softmax": self._softmax, "binary": self._binary, "mixture": self._mixture}
        return read[self.program.output](channel).to(torch.int32).cpu().numpy()

    def _softmax(self, channel: int) -> Tensor:
        logits = self.rows[:, 256 * channel : 256 * channel + 256]
        if not self.program.coupled or channel == 0:
            return logits
        total = logits.long() * (128 * _FINE // cdf.LOGIT_UNIT)
        pair = self.program.colours + channel * (channel - 1) // 2
        for value in self.known[:channel]:
            coefficients = self.rows[:, 256 * pair : 256 * pair + 256].long()
            total += coefficients * (value - 128)[:, None]
            pair += 1
        half = 64 * _FINE // cdf.LOGIT_UNIT
        return (total + half) >> (2 * half).bit_length() - 1

    def _binary(self, channel: int) -> Tensor:
        logits = torch.full((len(self.rows), 256), _NEVER, dtype=torch.int32, device=self.device)
        logits[:, 0] = 0
        logits[:, 255] = self.rows[:, channel]
        return logits

    def _mixture(self, channel: int) -> Tensor:
        colours, k = self.program.colours, self.program.components
        blocks = self.rows.view(len(self.rows), -1, k).long()
        if channel == 0:
            self.logits = blocks[:, 0]
        else:  # the posterior of the indicator, given the sub-pixel before
            seen = log_probability(self.known[channel - 1], self.means, self.log_scales)
            self.logits = self.logits + seen
            # Only differences count; within this range they do not overflow.
            self.logits = (self.logits - self.logits.amax(1, keepdim=True)).clamp(min=_NEVER)
        means = blocks[:, 1 + channel] + _MIDDLE
        pair = 1 + 2 * colours + channel * (channel - 1) // 2
        for value in self.known[:channel]:
            coefficient = hyperbolic_tangent(blocks[:, pair])
            means = means + ((coefficient * (value - 128)[:, None] + 64) >> 7)
            pair += 1
        self.means = means.clamp(-cdf.MEAN_LIMIT, cdf.MEAN_LIMIT)
        scales = blocks[:, 1 + colours + channel]
        self.log_scales = scales.clamp(cdf.LOG_SCALE_MIN, cdf.LOG_SCALE_MAX)
        return torch.stack([self.logits, self.means, self.log_scales], 1)


def log_probability(value: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """Of values (n,) under each discretized logistic (n, K): in units of `cdf.LOGIT_UNIT`.

    log(sigmoid(upper) - sigmoid(lower)) as the sum of three logarithms, as in
    `pixelzip.models.networks.mixture`.
    """
    log_sigmoid, slope, width, inverse = _tables(str(value.device))
    scale = log_scales - cdf.LOG_SCALE_MIN
    middle = value[:, None] * cdf.MEAN_UNIT - means
    half = cdf.MEAN_UNIT // 2
    upper = (middle + half) * inverse[scale]
    lower = (middle - half) * inverse[scale]

    def logarithm(z: Tensor) -> Tensor:
        # Of 28 bits behind the point 14 are kept.
        z = z >> 28 - _STEP_BITS - _FRACTION_BITS
        limit = _REACH << _STEP_BITS + _FRACTION_BITS
        inside = z.clamp(-limit, limit)
        at = (inside + limit) >> _FRACTION_BITS
        fraction = inside & ((1 << _FRACTION_BITS) - 1)
        beyond = torch.minimum(z + limit, torch.zeros_like(z))
        line = (slope[at] * fraction) >> _FRACTION_BITS
        return log_sigmoid[at] + line + (beyond >> _STEP_BITS + _FRACTION_BITS - _LOG_BITS)

    first, last = logarithm(upper), logarithm(-lower)
    lowest, highest = (value == 0)[:, None], (value == 255)[:, None]
    inner = first + last + width[scale]
    found = torch.where(lowest, first, torch.where(highest, last, inner))
    bits = _LOG_BITS - (cdf.LOGIT_UNIT.bit_length() - 1)
    return (found + (1 << bits - 1)) >> bits


@cache
def _tables(device: str) -> Sequence[Tensor]:
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
    found = (log_sigmoid, slope, width, cdf.INVERSE_SCALE)
    return [torch.from_numpy(x.copy()).to(device) for x in found]
