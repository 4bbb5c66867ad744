"""Multi-Scale PixelRNN (Pixel Recurrent Neural Networks, section 3.6).

An unconditional network codes the subsampled image: every ``factor``-th pixel of every
``factor``-th row. A conditional one codes the pixels that are left, given all of those::

    s 2 s 4 s 6     s: coded first, by the unconditional network
    1 2 3 4 5 6     the others then, row by row
    s 2 s 4 s 6

    | part                    | layers                                                          |
    |-------------------------|-----------------------------------------------------------------|
    | unconditional PixelRNN  | as in table 1, on the s                                         |
    | upsampling              | 3x3 convolution, then deconvolutions (4x4, stride 2), ReLU; c   |
    | conditional PixelRNN    | as in table 1, each LSTM biased by an unmasked 1x1 of the c     |

Both are Diagonal BiLSTMs, so that a pixel sees all that is earlier in this order to its left and
above; to the right and below it sees the nearest s, through the upsampling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelzip.models.networks import outputs, pixelrnn
from pixelzip.models.networks.field import Field
from pixelzip.models.networks.layers import initialise, precise, scaled
from pixelzip.models.networks.pixelrnn import DiagonalBiLSTMConfig, PixelRNN
from pixelzip.models.networks.tracer import INPUT, Tensors, Tracer, kernel_taps
from pixelzip.models.programs.program import Program


@dataclass(frozen=True)
class MultiScaleConfig(DiagonalBiLSTMConfig):
    """Hyper-parameters of both networks, and of what joins them."""

    factor: int = 2  # 2, 4, 8...: the subsampled image has one pixel in factor * factor
    condition: int = 32  # c: features of the upsampled map

    def __post_init__(self) -> None:
        if self.factor < 2 or self.factor & (self.factor - 1):
            raise ValueError(f"factor is 2, 4, 8 and so on, not {self.factor}")

    @property
    def field(self) -> Field:
        return Field(None, None, None, lag=None)


class Upsampling(nn.Module):
    """(B, colours, h, w) subsampled image -> (B, c, H, W) features of the whole one."""

    def __init__(self, config: MultiScaleConfig) -> None:
        super().__init__()
        c = config.condition
        self.first = nn.Conv2d(config.colours, c, 3, padding=1)
        initialise(self.first.weight, 9 * config.colours)
        self.deconvolutions = nn.ModuleList()
        for _ in range(config.factor.bit_length() - 1):
            layer = nn.ConvTranspose2d(c, c, 4, 2, padding=1)
            initialise(layer.weight, 4 * c, 2**0.5)
            self.deconvolutions.append(layer)

    def forward(self, small: Tensor, height: int, width: int) -> Tensor:
        x = self.first(small)
        for layer in self.deconvolutions:
            x = layer(F.relu(x))
        return F.relu(x)[:, :, :height, :width]

    def trace(self, t: Tracer) -> int:
        x = t.linear(INPUT, self.first.weight.flatten(2), self.first.bias, kernel_taps(3, 3, 1, 1))
        for layer in self.deconvolutions:
            assert isinstance(layer, nn.ConvTranspose2d)
            weight = layer.weight.transpose(0, 1).flatten(2)
            taps = tuple((1 - r, 1 - c) for r in range(4) for c in range(4))
            x = t.linear(t.activate("relu", x), weight, layer.bias, taps, stride=-2)
        return t.activate("relu", x)


class MultiScale(nn.Module):
    """Both: a `pixelzip.models.networks.outputs.Network` to those who train or evaluate it."""

    def __init__(self, config: MultiScaleConfig) -> None:
        super().__init__()
        self.factor = config.factor
        self.unconditional = pixelrnn.build(config)
        self.upsampling = Upsampling(config)
        self.output = outputs.make(config.output, config.colours, coupled=False)
        self.conditional = PixelRNN(config, self.output.parameters_per_pixel, config.condition)

    def forward(self, pixels: Tensor) -> Tensor:
        """As `pixelzip.models.networks.outputs.Network.forward`."""
        return self._join(pixels, self.unconditional, self.output.log_likelihoods)

    def log_probabilities(self, pixels: Tensor) -> Tensor:
        """As `pixelzip.models.networks.outputs.Network.log_probabilities`."""
        first = self.unconditional.log_probabilities
        return self._join(pixels, first, self.output.log_probabilities)

    def _join(
        self,
        pixels: Tensor,
        first: Callable[[Tensor], Tensor],
        rest: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """What ``first`` gives for the subsampled image, ``rest`` for the pixels that are left."""
        every = slice(None, None, self.factor)
        small = pixels[:, every, every]
        condition = self.upsampling(scaled(small), *pixels.shape[1:3])
        parameters = self.conditional(scaled(pixels), condition)
        joined = rest(precise(parameters), pixels).clone()
        joined[:, every, every] = first(small)
        return joined

    @torch.no_grad()
    def trace(self, lag: int | None) -> list[tuple[Program, Tensors]]:
        """As `pixelzip.models.networks.outputs.Network.trace`: the small image's program, the
        upsampling's, and one that is given its map.
        """
        [(first, tensors)] = self.unconditional.trace(lag)
        between = Tracer(first.colours, self.factor.bit_length() - 1)
        self.upsampling.trace(between)
        nodes = tuple(between.nodes)
        upsampling = replace(first, output="map", coupled=True, beyond=0, nodes=nodes)
        rest = outputs.Network(self.conditional, self.output).trace(lag)
        return [(first, tensors), (upsampling, between.tensors), *rest]


def build(config: MultiScaleConfig) -> MultiScale:
    """The network, with weights to be trained."""
    return MultiScale(config)
