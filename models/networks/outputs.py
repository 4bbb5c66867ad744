"""What the papers' networks end in: from a map of parameters to conditionals.

A *trunk* turns an image into a map (B, parameters, H, W), causally. An *output* reads the
conditional of each sub-pixel from it, given the values of the pixel's earlier sub-pixels. Together
they are a `Network`.

| output | parameters a pixel (RGB) | section |
|---|---|---|
| `Softmax` | 256 for each sub-pixel; coupled 1536 | PixelRNN 3; PixelCNN++ 3.4.1 |
| `Binary` | 1 for each sub-pixel | PixelRNN 5.5 |
| `Mixture` | 10 for each component | PixelCNN++ 2.1 and 2.2 |
| `Continuous` | the same | PixelCNN++ 3.4.2 |

The trunks of PixelRNN tell colours apart themselves (masks A and B); those of PixelCNN++ give one
map for the whole pixel, and the output *couples* the sub-pixels: what one of them adds to the
parameters of the next is linear in its value.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelzip.models.networks import mixture
from pixelzip.models.networks.layers import precise, scaled
from pixelzip.models.networks.tracer import Tensors, Tracer, traced
from pixelzip.models.programs.program import Program

OUTPUTS = ("softmax", "binary", "mixture", "continuous")


class _LogSoftmaxAt(torch.autograd.Function):
    """Log-softmax along dimension 2, at one index: its gradient in one pass over the logits.

    Put together from log_softmax and gather it takes four, which is most of a step's time.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        total = logits.logsumexp(2, keepdim=True)
        ctx.save_for_backward(logits, total, target)
        return logits.gather(2, target) - total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        logits, total, target = ctx.saved_tensors
        (gradient,) = gradients
        found = (logits - total).exp_().mul_(-gradient)
        return found.scatter_add_(2, target, gradient), None


class Softmax(nn.Module):
    """256 logits for each sub-pixel.

    ``coupled``: green's logits also get red's value times 256 coefficients of their own, blue's
    get red's and green's.
    """

    kind = "softmax"

    def __init__(self, colours: int, coupled: bool) -> None:
        super().__init__()
        self.colours, self.coupled = colours, coupled
        self.pairs = colours * (colours - 1) // 2 if coupled else 0
        self.parameters_per_pixel = 256 * (colours + self.pairs)
        self.values: Tensor
        self.register_buffer("values", torch.arange(256), persistent=False)

    def logits(self, parameters: Tensor, pixels: Tensor) -> Tensor:
        """(B, C, 256, H, W)"""
        maps = torch.unflatten(parameters, 1, (-1, 256))
        if not self.pairs:
            return maps
        value = ((pixels - 128.0) / 128).permute(0, 3, 1, 2).unsqueeze(2)  # (B, C, 1, H, W)
        own, coefficients = torch.split(maps, [self.colours, self.pairs], 1)
        sums = []
        for c, logits in enumerate(own.unbind(1)):
            first = c * (c - 1) // 2
            sums.append(logits + (coefficients[:, first : first + c] * value[:, :c]).sum(1))
        return torch.stack(sums, 1)

    def log_probabilities(self, parameters: Tensor, pixels: Tensor) -> Tensor:
        """As `Network.log_probabilities`, from the trunk's map."""
        return F.log_softmax(self.logits(parameters, pixels), 2).permute(0, 3, 4, 1, 2)

    def log_likelihoods(self, parameters: Tensor, pixels: Tensor) -> Tensor:
        """As `Network.forward`, from the trunk's map."""
        target = pixels.long().permute(0, 3, 1, 2).unsqueeze(2)
        found: Tensor = _LogSoftmaxAt.apply(self.logits(parameters, pixels), target)
        return found.squeeze(2).permute(0, 2, 3, 1)


class Binary(nn.Module):
    """One logit for each sub-pixel: that it is 255 and not 0."""

    kind = "binary"

    def __init__(self, colours: int) -> None:
        super().__init__()
        self.colours = self.parameters_per_pixel = colours
        self.values: Tensor
        self.register_buffer("values", torch.tensor([0, 255]), persistent=False)

    def log_probabilities(self, parameters: Tensor, pixels: Tensor) -> Tensor:
        """As `Network.log_probabilities`, from the trunk's map."""
        logits = parameters.permute(0, 2, 3, 1)
        return F.logsigmoid(torch.stack([-logits, logits], 4))

    def log_likelihoods(self, parameters: Tensor, pixels: Tensor) -> Tensor:
        """As `Network.forward`, from the trunk's map."""
        logits = parameters.permute(0, 2, 3, 1)
        return F.logsigmoid(torch.where(pixels > 127, logits, -logits))


class Mixture(nn.Module):
    """Discretized logistics, whose mixture indicator the sub-pixels of a pixel share.

    Of each component: a logit; for each sub-pixel a mean and a log-scale, in units of 128 pixel
    values; for each pair of sub-pixels the coefficient by which the earlier one's value moves the
    later one's mean. A sub-pixel's weights are the posterior of the indicator given the earlier
    ones: log p(green | red) = log p(red, green) - log p(red).
    """

    kind = "mixture"

    def __init__(self, colours: int, components: int) -> None:
        super().__init__()
        self.colours, self.components = colours, components
        self.pairs = colours * (colours - 1) // 2
        self.parameters_per_pixel = components * (1 + 2 * colours + self.pairs)
        self.values: Tensor
        self.register_buffer("values", torch.arange(256), persistent=False)

    def logistics(self, parameters: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, H, W, K), means and log-scales (B, H, W, C, K), in pixel values."""
        maps = torch.unflatten(parameters.permute(0, 2, 3, 1), 3, (-1, self.components))
        logits, means, log_scales, coefficients = torch.split(
            maps, [1, self.colours, self.colours, self.pairs], 3
        )
        value = (pixels - 128.0) / 128
        moved, pair = [], 0
        for c in range(self.colours):
            mean = means[..., c, :]
            for earlier in range(c):
                coefficient = torch.tanh(coefficients[..., pair, :])
                mean = mean + coefficient * value[..., earlier, None]
                pair += 1
            moved.append(mean)
        centres = 128 * torch.stack(moved, 3) + 128
        return logits.squeeze(3), centres, log_scales + torch.log(torch.tensor(128.0))

    def component(self, value: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
        """Log-probability of values (..., 1) under each logistic (..., K)."""
        return mixture.component_log_likelihood(value, means, log_scales)

    def observed(self, pixels: Tensor) -> Tensor:
        """The values that a likelihood is asked of."""
        return pixels

    def log_probabilities(self, parameters: Tensor, pixels: Tensor) -> Tensor:
        """As `Network.log_probabilities`, from the trunk's map."""
        weights, means, log_scales = self.logistics(parameters, pixels)
        values = self.values.to(means.dtype)[:, None]
        found = []
        for c in range(self.colours):
            mean, log_scale = means[..., c, None, :], log_scales[..., c, None, :]
            component = self.component(values, mean, log_scale)  # (B, H, W, 256, K)
            mixed = torch.log_softmax(weights, -1)[..., None, :] + component
            found.append(torch.logsumexp(mixed, -1))
            here = pixels[..., c, None].to(means.dtype)
            weights = weights + self.component(here, means[..., c, :], log_scales[..., c, :])
        return torch.stack(found, 3)

    def log_likelihoods(self, parameters: Tensor, pixels: Tensor) -> Tensor:
        """As `Network.forward`, from the trunk's map."""
        logits, means, log_scales = self.logistics(parameters, pixels)
        observed = self.observed(pixels.to(means.dtype)).unsqueeze(4)
        component = self.component(observed, means, log_scales)  # (B, H, W, C, K)
        weights = torch.log_softmax(logits, -1).unsqueeze(3)
        joint = torch.logsumexp(weights + component.cumsum(3), -1)  # of this and all earlier ones
        return joint - F.pad(joint[..., :-1], (1, 0))


class Continuous(Mixture):
    """The same logistics as densities of dequantised values (section 3.4.2).

    Each value gets noise, uniform over half a step to either side, and the log-density there is a
    lower bound on the log-probability: a likelihood to compare, nothing that could code. What
    `log_probabilities` gives are log-densities at whole values.
    """

    kind = "continuous"

    def component(self, value: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
        log_scales = log_scales.clamp(mixture.LOG_SCALE_MIN, mixture.LOG_SCALE_MAX)
        z = (value - means) * torch.exp(-log_scales)
        return F.logsigmoid(z) + F.logsigmoid(-z) - log_scales

    def observed(self, pixels: Tensor) -> Tensor:
        return pixels + torch.rand_like(pixels) - 0.5


Output = Softmax | Binary | Mixture


def make(name: str, colours: int, components: int = 0, *, coupled: bool) -> Output:
    """The output of that name. ``coupled``: the trunk does not tell colours apart.

    Raises ValueError if there is no such output, or not for such a trunk.
    """
    if name == "softmax":
        return Softmax(colours, coupled)
    if name == "binary" and colours == 1:
        return Binary(colours)
    if name == "mixture" and coupled:
        return Mixture(colours, components)
    if name == "continuous" and coupled:
        return Continuous(colours, components)
    possible = (["softmax"] + ["binary"] * (colours == 1)
                + ["mixture", "continuous"] * coupled)  # fmt: skip
    raise ValueError(
        f"with {colours} colour{'s' * (colours > 1)} the output is one of {', '.join(possible)},"
        f" not {name}"
    )


class Network(nn.Module):
    """A trunk and an output."""

    def __init__(self, trunk: nn.Module, output: Output) -> None:
        super().__init__()
        self.trunk, self.output = trunk, output

    def _map(self, pixels: Tensor, labels: Tensor | None) -> Tensor:
        found: Tensor = self.trunk(scaled(pixels), *([] if labels is None else [labels]))
        return precise(found)

    def forward(self, pixels: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, H, W, C) uint8 -> (B, H, W, C) log-likelihoods in nats.

        ``labels`` (B,) are the classes of a class-conditional network's images.
        """
        return self.output.log_likelihoods(self._map(pixels, labels), pixels)

    def log_probabilities(self, pixels: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, H, W, C) uint8 -> (B, H, W, C, V): each sub-pixel's whole conditional, in nats.

        The last axis runs over the values that a sub-pixel can take, ``output.values``.
        """
        return self.output.log_probabilities(self._map(pixels, labels), pixels)

    @torch.no_grad()
    def trace(self, lag: int | None) -> list[tuple[Program, Tensors]]:
        """The network as a program, in floats. ``lag``: that of its field.

        Raises ValueError if its output cannot code.
        """
        output = self.output
        trunk: Any = self.trunk
        if output.kind == "continuous":
            raise ValueError("a continuous mixture is a likelihood to compare and cannot code")
        t = Tracer(output.colours)
        traced(trunk, t)
        program = Program(
            colours=output.colours,
            output=output.kind,
            components=getattr(output, "components", 0),
            coupled=trunk.coupled,
            lag=lag,
            beyond=getattr(trunk, "beyond", 0),
            classes=getattr(trunk, "classes", 0),
            nodes=tuple(t.nodes),
        )
        return [(program, t.tensors)]
