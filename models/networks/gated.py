"""Gated PixelCNN (van den Oord et al., 2016: Conditional image generation with PixelCNN decoders).

The baseline without a blind spot that both papers compare with: a vertical stack for the rows
above, a horizontal one for the row itself.

    | layer                |  kernel                          | features     |
    |----------------------|----------------------------------|--------------|
    | gated layer          |  7x7, mask A                     | h            |
    | gated layers         |  3x3, mask B, residual           | h            |
    | twice ReLU, 1x1      |  mask B                          | ``top``      |
    | ReLU, 1x1, softmax   |  mask B                          | 256 a colour |

The paper's has 15 layers of h = 128 on CIFAR-10. With one layer after the first::

    row -5    o o o o o o o o o
    ...
    row -1    o o o o o o o o o
    row  0    o o o o x
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from pixelzip.models.networks import outputs
from pixelzip.models.networks.field import Field
from pixelzip.models.networks.layers import GatedLayer, OutputLayers
from pixelzip.models.networks.tracer import INPUT, Tracer, traced


@dataclass(frozen=True)
class GatedConfig:
    """Hyper-parameters of Gated PixelCNN."""

    channels: int = 32  # h: features of each stack
    layers: int = 8  # after the first one
    top: int = 64  # features of the last two layers
    output: str = "softmax"  # or binary
    colours: int = 3  # sub-pixels of a pixel: 3, or 1 for grey

    @property
    def field(self) -> Field:
        reach = 3 + self.layers
        return Field(reach + 1, reach, reach, lag=reach + 1)


class GatedPixelCNN(nn.Module):
    """The trunk: (B, colours, H, W) -> (B, parameters, H, W)."""

    coupled = False

    def __init__(self, config: GatedConfig, parameters: int) -> None:
        super().__init__()
        h, colours = config.channels, config.colours
        self.first = GatedLayer("A", colours, h, 7, colours)
        self.layers = nn.ModuleList(GatedLayer("B", h, h, 3, colours) for _ in range(config.layers))
        self.top = OutputLayers(h, config.top, parameters, colours)

    def forward(self, x: Tensor) -> Tensor:
        vertical, horizontal = self.first(x, x)
        for layer in self.layers:
            vertical, horizontal = layer(vertical, horizontal)
        return self.top(horizontal)  # type: ignore[no-any-return]

    def trace(self, t: Tracer) -> int:
        vertical, horizontal = self.first.trace(t, INPUT, INPUT)
        for layer in self.layers:
            vertical, horizontal = traced(layer, t, vertical, horizontal)
        return self.top.trace(t, horizontal)


def build(config: GatedConfig) -> outputs.Network:
    """The network, with weights to be trained."""
    output = outputs.make(config.output, config.colours, coupled=False)
    return outputs.Network(GatedPixelCNN(config, output.parameters_per_pixel), output)
