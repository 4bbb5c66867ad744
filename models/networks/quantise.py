"""What turning floats into integers takes: how large activations get, and rounded matrices."""

from __future__ import annotations

import math
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

RANGE_QUANTILE = 0.99997
"""An activation above this quantile of its channel is clipped."""


class Ranges:
    """Collects, for each rectified input of a layer, how large each channel gets."""

    def __init__(self) -> None:
        self.samples: dict[str, list[Tensor]] = {}

    def see(self, name: str, x: Tensor) -> None:
        """``x`` (P, C) or (B, C, H, W): keep the top of every channel."""
        if x.ndim == 4:
            x = x.permute(0, 2, 3, 1).flatten(0, 2)
        kept = max(1, math.ceil(len(x) * (1 - RANGE_QUANTILE) * 2))
        self.samples.setdefault(name, []).append(x.float().topk(kept, 0).values)
        self.samples.setdefault(name + "/count", []).append(torch.tensor([len(x)]))

    def largest(self, name: str) -> Tensor:
        """(C,) the value at the quantile, and never less than a little."""
        top = torch.cat(self.samples[name]).sort(0, descending=True).values
        count = int(torch.cat(self.samples[name + "/count"]).sum())
        at = min(len(top) - 1, int(count * (1 - RANGE_QUANTILE)))
        return top[at].clamp(min=1e-3)

    def top(self, name: str) -> Tensor:
        """(C,) the largest value, and never less than a little."""
        return torch.cat(self.samples[name]).amax(0).clamp(min=1e-3)


def quantise(weight: Tensor, input_scale: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs, inputs) weights of inputs in units of ``input_scale`` (inputs,).

    Returns int8 (inputs, outputs) and the float scale (outputs,) of their sums.
    """
    folded = weight.double() * input_scale.double()
    scale = folded.abs().amax(1).clamp(min=1e-9) / 127
    return torch.round(folded / scale[:, None]).to(torch.int8).t().contiguous(), scale


class Rounded:
    """The tensors of ``photo``'s kind in the making, given how large activations get."""

    def __init__(self, ranges: Ranges) -> None:
        self.ranges, self.tensors = ranges, dict[str, Tensor]()

    def step(self, name: str) -> Tensor:
        """(C,) what an integer of 1 means, of what feeds the layer of that name."""
        return self.ranges.largest(name).double() / 127

    def layer(
        self, name: str, weight: Tensor, bias: Tensor, input_scale: Tensor, unit: Tensor | float
    ) -> None:
        """``unit``: how many integers a float output of 1 becomes."""
        self.tensors[f"{name}.weight"], scale = quantise(weight, input_scale)
        self.tensors[f"{name}.bias"] = torch.round(bias.double() / scale).to(torch.int32)
        self.tensors[f"{name}.scale"] = (scale * unit).float()


def arrays(tensors: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
    """The tensors as numpy arrays, which share their memory."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}
