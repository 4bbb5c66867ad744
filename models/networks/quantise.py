"""What turning floats into integers takes: how large activations get, and rounded matrices."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

RANGE_QUANTILE = 0.99997
"""An activation above this quantile of its channel is clipped."""
LARGEST = 127
"""Of activations and weights in integers."""
MOMENTS_EVERY = 8
"""Of so many pixels one counts in a layer's moments ..."""
DAMPING = 0.01
"""... to whose squares this part is added, so that what was seldom seen weighs little."""

Watch = Callable[[Tensor], None]


class Rectifier(nn.Module):
    """max(x, 0), which feeds a layer.

    It shows what it gives to ``watch``, if there is one. With a ``step`` (C,), what an integer of
    1 means, it rounds to what the frozen network will have, and so does `weight`: what is trained
    so learns to live with the rounding, whose gradient is taken to be one ("straight through").
    """

    watch: Watch | None = None
    step: Tensor | None = None

    def __init__(self) -> None:
        super().__init__()
        self.rounded = rounded

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) or (P, C)
        if self.step is not None:
            step = self.step[:, None, None] if x.ndim == 4 else self.step
            return self.rounded(x, step)
        y = F.relu(x)
        if self.watch is not None:
            self.watch(y)
        return y

    def weight(self, weight: Tensor) -> Tensor:
        """The matrix (outputs, taps * C) of the layer that it feeds."""
        return weight if self.step is None else rounded_weight(weight, self.step)


def rounded(x: Tensor, step: Tensor) -> Tensor:
    """max(x, 0) as a multiple of the step, of its dtype."""
    y = torch.minimum(F.relu(x), LARGEST * step)
    return (y + (torch.round(y / step) * step - y).detach()).to(x.dtype)


def rounded_weight(weight: Tensor, step: Tensor) -> Tensor:
    """(outputs, taps * C) weights as `quantise` makes them, in floats again; ``step`` (C,)."""
    steps = step.repeat(weight.shape[1] // len(step))
    folded = weight.detach() * steps
    scale = folded.abs().amax(1, keepdim=True).clamp(min=1e-9) / LARGEST
    return weight + (torch.round(folded / scale) * scale / steps - weight.detach())


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

    def steps(self) -> dict[str, Tensor]:
        """(C,) what an integer of 1 means, of what feeds each layer."""
        names = (name for name in self.samples if not name.endswith("/count"))
        return {name: self.largest(name) / LARGEST for name in names}

    def top(self, name: str) -> Tensor:
        """(C,) the largest value, and never less than a little."""
        return torch.cat(self.samples[name]).amax(0).clamp(min=1e-3)


class Moments:
    """Collects, for each layer, the mean products of any two of its inputs and 1."""

    def __init__(self) -> None:
        self.sums, self.counts = dict[str, Tensor](), dict[str, int]()

    def see(self, name: str, x: Tensor) -> None:
        """``x`` (P, inputs) or (B, inputs, H, W): some of its pixels."""
        if x.ndim == 4:
            x = x.permute(0, 2, 3, 1).flatten(0, 2)
        x = F.pad(x[::MOMENTS_EVERY].double(), (0, 1), value=1.0)
        self.sums[name] = self.sums.get(name, 0) + x.t() @ x
        self.counts[name] = self.counts.get(name, 0) + len(x)

    def of(self, name: str) -> Tensor:
        """(inputs + 1, inputs + 1)."""
        return self.sums[name] / self.counts[name]


def quantise(weight: Tensor, input_scale: Tensor) -> tuple[Tensor, Tensor]:
    """(outputs, inputs) weights of inputs in units of ``input_scale`` (inputs,).

    Returns int8 (inputs, outputs) and the float scale (outputs,) of their sums.
    """
    folded = weight.double() * input_scale.double()
    scale = folded.abs().amax(1).clamp(min=1e-9) / LARGEST
    return torch.round(folded / scale[:, None]).to(torch.int8).t().contiguous(), scale


def compensated(
    weight: Tensor, bias: Tensor, input_scale: Tensor, moments: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with less harm to the sums, and the biases (outputs,) that go with it.

    One input after the other, the weights that read it are rounded, and the inputs to come and the
    bias make up for what that changes, by least squares: Frantar et al., "GPTQ" (2022), section 3.
    ``moments``: those of the layer, see `Moments`.
    """
    units = F.pad(input_scale.double(), (0, 1), value=1.0)
    folded = torch.cat([weight.double(), bias.double()[:, None]], 1) * units
    scale = folded[:, :-1].abs().amax(1).clamp(min=1e-9) / LARGEST
    moments = moments / units / units[:, None]
    least = moments.diag().median()
    moments = moments + torch.diag(DAMPING * (moments.diag() + DAMPING * least) + 1e-12)
    remaining = torch.linalg.cholesky(torch.linalg.inv(moments), upper=True)
    integers = torch.zeros(weight.shape[1], len(weight), dtype=torch.int8)
    for i, row in enumerate(remaining[:-1]):
        rounded = torch.round(folded[:, i] / scale).clamp(-LARGEST, LARGEST)
        integers[i] = rounded.to(torch.int8)
        folded[:, i:] -= ((folded[:, i] - rounded * scale) / row[i])[:, None] * row[i:]
    return integers, scale, folded[:, -1]


class Rounded:
    """The tensors of ``photo``'s kind in the making.

    ``steps`` of activations: (C,) what an integer of 1 means, of what feeds the layer of that name.
    With ``moments`` its weights are `compensated`.
    """

    def __init__(self, steps: Mapping[str, Tensor], moments: Moments | None) -> None:
        self.steps, self.moments, self.tensors = steps, moments, dict[str, Tensor]()

    def step(self, name: str) -> Tensor:
        """(C,) in double precision."""
        return self.steps[name].double()

    def layer(
        self, name: str, weight: Tensor, bias: Tensor, input_scale: Tensor, unit: Tensor | float
    ) -> None:
        """``unit``: how many integers a float output of 1 becomes."""
        moments = None if self.moments is None else self.moments.of(name)
        if moments is not None and moments.isfinite().all():
            integers, scale, bias = compensated(weight, bias, input_scale, moments)
        else:  # trained rounded, or for `check` to refuse
            integers, scale = quantise(weight, input_scale)
        self.tensors[f"{name}.weight"] = integers
        self.tensors[f"{name}.bias"] = torch.round(bias.double() / scale).to(torch.int32)
        self.tensors[f"{name}.scale"] = (scale * unit).float()


def arrays(tensors: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
    """The tensors as numpy arrays, which share their memory."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}
