"""PixelCNN (Pixel Recurrent Neural Networks, section 3.5 and table 1).

    | layer                  |  kernel                        | features    |
    |------------------------|--------------------------------|-------------|
    | masked convolution     |  7x7, mask A                   | 2 h         |
    | residual blocks        |  1x1, 3x3, 1x1, mask B         | h inside    |
    | twice ReLU, 1x1        |  mask B                        | ``top``     |
    | ReLU, 1x1, softmax     |  mask B                        | 256 a colour|

On CIFAR-10 the paper has 15 layers of h = 128 and a top of 1024, on MNIST a top of 32.

A stack of such convolutions has a blind spot to the right, beyond 45 degrees from what the first
layer sees; here with one block::

    row -4    o o o o o o o o o
    row -3    o o o o o o o o o
    row -2    o o o o o o o o o
    row -1    o o o o o o o o
    row  0    o o o o x
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from pixelzip.models.networks import outputs
from pixelzip.models.networks.field import Field
from pixelzip.models.networks.layers import MaskedConv2d, OutputLayers, ResidualBlock, Stack
from pixelzip.models.networks.tracer import INPUT, Tracer


@dataclass(frozen=True)
class PixelCNNConfig:
    """Hyper-parameters of PixelCNN."""

    channels: int = 32  # h: features inside a block; there are 2 h between blocks
    layers: int = 8  # residual blocks
    top: int = 64  # features of the last two layers
    residual: bool = True  # add each block's output to its input
    skip: bool = False  # join every block to the output
    output: str = "softmax"  # or binary
    colours: int = 3  # sub-pixels of a pixel: 3, or 1 for grey

    @property
    def field(self) -> Field:
        reach = 3 + self.layers
        return Field(reach, reach, reach, lag=4, slope=1)


class PixelCNN(nn.Module):
    """The trunk: (B, colours, H, W) -> (B, parameters, H, W)."""

    coupled = False

    def __init__(self, config: PixelCNNConfig, parameters: int) -> None:
        super().__init__()
        h, colours = config.channels, config.colours
        self.first = MaskedConv2d("A", colours, 2 * h, (7, 7), colours)
        blocks = [ResidualBlock(h, colours) for _ in range(config.layers)]
        self.stack = Stack(blocks, h, colours, config.residual, config.skip)
        self.top = OutputLayers(2 * h, config.top, parameters, colours)

    def forward(self, x: Tensor) -> Tensor:
        return self.top(self.stack(self.first(x)))  # type: ignore[no-any-return]

    def trace(self, t: Tracer) -> int:
        return self.top.trace(t, self.stack.trace(t, self.first.trace(t, INPUT)))


def build(config: PixelCNNConfig) -> outputs.Network:
    """The network, with weights to be trained."""
    output = outputs.make(config.output, config.colours, coupled=False)
    return outputs.Network(PixelCNN(config, output.parameters_per_pixel), output)
