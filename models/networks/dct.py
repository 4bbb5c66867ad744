"""``dct``, a network of a JPEG's quantised coefficients, in floats.

It is told the blocks around a block and those of earlier components at its place, and says how
large each coefficient will be and near what value, and where the block ends. What is left of the
uncertainty the mixing model of `pixelzip.codec.jpeg.model` finds out; the network's word is among
what it mixes.

The *trunk* sees the blocks around. Then come *stages*, from the highest frequencies to the lowest,
as the model codes them: a stage adds what the stages before it have shown to the trunk's sum, so
that a hidden unit costs little in each (H. Larochelle, I. Murray: *The neural autoregressive
distribution estimator*, AISTATS 2011).

All inputs are integers from -127 to 127, and docs/format.md, "The network of coefficients", says
how they are made; here they count in units of 1/32. Coefficients stand in zigzag order.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

STARTS = (54, 43, 36, 28, 21, 15, 10, 8, 6, 4, 3, 2, 1, 0)
"""The first coefficient of each stage; the next one but last is where the stage before began."""
STAGES = tuple(zip(STARTS, (64, *STARTS), strict=False))
SIZES = (63, 63, 35, 35, 20, 20)
"""Coefficients whose magnitudes are inputs, from the first AC one on: of the blocks above, left,
above left, above right, two above and two left."""
SIGNED = 20
"""Of the first two, so many with their signs."""
AROUND = sum(SIZES) + 2 * SIGNED + 16 + 6 + 6 + 6 + 6
"""Inputs: these, spectra of two edges, differences of DC coefficients, which of the six blocks
there are, their ends and how many of their coefficients are not 0."""
EARLIER_SIZES = (63, 36)
EARLIER_SIGNED = (63, 20)
EARLIER = sum(EARLIER_SIZES) + sum(EARLIER_SIGNED) + 4 + 2 + 2 + 2
"""Likewise of the blocks of the first component and of the one before: no spectra."""
PLANE = 64 + 3 + 2
"""Steps; which component it is; whether it is subsampled across and down."""
EDGES = 16
UNIT = 32
LEAST_SCALE, LARGEST_SCALE = -3.5, 8.0
"""Natural logarithms, in steps."""


@dataclass(frozen=True)
class DctConfig:
    """``width`` is that of all hidden layers."""

    width: int = 192


class Dct(nn.Module):
    """The trunk's three layers, and of each stage: inputs, edges and heads."""

    def __init__(self, config: DctConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.first = nn.Linear(AROUND + EARLIER + PLANE, width)
        self.second = nn.Linear(width, width)
        self.base = nn.Linear(width, width)
        self.end = nn.Linear(width, 2)
        self.ends = nn.Parameter(torch.zeros(64, width))
        self.edges = nn.ModuleList(nn.Linear(EDGES, width, bias=False) for _ in STAGES)
        self.heads = nn.ModuleList(nn.Linear(width, 2 * (to - start)) for start, to in STAGES)
        self.shown = nn.ModuleList(
            nn.Linear(2 * (to - start), width, bias=False) for start, to in STAGES[:-1]
        )
        for layer in (self.end, *self.heads):
            assert isinstance(layer, nn.Linear)
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, inputs: Tensor, values: Tensor, ends: Tensor, edges: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What it says of N blocks.

        ``inputs`` (N, AROUND + EARLIER + PLANE) int8; ``values`` (N, 64) int8, the coefficients;
        ``ends`` (N,) int64; ``edges`` (N, stages, EDGES) int8. Returns (N, 2), of where blocks end,
        and (N, 64, 2), of coefficients: a mean and the logarithm of a scale, as `means_and_scales`
        reads them.
        """
        values, edges = values.float() / UNIT, edges.float() / UNIT
        hidden = functional.relu(self.first(inputs.float() / UNIT))
        hidden = functional.relu(self.second(hidden))
        end = self.end(hidden)
        total = self.base(hidden).float() + self.ends[ends]
        said = []
        for number, (start, to) in enumerate(STAGES):
            stage = functional.relu(total + self.edges[number](edges[:, number]))
            said.append(self.heads[number](stage).float().unflatten(1, (to - start, 2)))
            if start:
                own = values[:, start:to]
                total = total + self.shown[number](torch.cat([own, own.abs()], 1))
        return end.float(), torch.cat(said[::-1], 1)


def means_and_scales(said: Tensor, steps: Tensor) -> tuple[Tensor, Tensor]:
    """Means, in units of the scale, and the logarithms of scales, in steps: (N, 64) each.

    ``said`` (N, 64, 2) is what the network says, ``steps`` (N, 64) are floats.
    """
    scales = 2 * said[..., 1] + 2.5 - torch.log(steps)
    return said[..., 0], scales.clamp(LEAST_SCALE, LARGEST_SCALE)


def end_cost(said: Tensor, ends: Tensor) -> Tensor:
    """Nats that ends (N,) take."""
    mean, scale = 32 + 16 * said[:, 0], (said[:, 1] + 1).clamp(LEAST_SCALE, LARGEST_SCALE)
    return logistic_cost(ends.float(), mean * torch.exp(-scale), scale)


def coefficient_cost(said: Tensor, steps: Tensor, values: Tensor, ends: Tensor) -> Tensor:
    """Nats that coefficients (N, 64) take, given where blocks end; the first is the DC one.

    ``values`` are floats, in steps.
    """
    means, scales = means_and_scales(said, steps)
    cost = logistic_cost(values, means, scales)
    number = torch.arange(64)
    last = (number == ends[:, None]) & (number > 0)
    zero = logistic_cost(torch.zeros_like(values), means, scales)
    # The last one is known not to be 0.
    cost = torch.where(last, cost + torch.log1p(-torch.exp(-zero.clamp(min=1e-4))), cost)
    return cost * ((number <= ends[:, None]) | (number == 0))


def logistic_cost(value: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """Nats of integers under logistics; ``mean`` is in units of exp(``scale``)."""
    inverse = torch.exp(-scale)
    sign = torch.where(value < 0, -1.0, 1.0)
    size, mean = value.abs(), mean * sign
    upper, lower = (size + 0.5) * inverse - mean, (size - 0.5) * inverse - mean
    inside = torch.log(-torch.expm1(-inverse))
    return -(functional.logsigmoid(upper) + functional.logsigmoid(-lower) + inside)
