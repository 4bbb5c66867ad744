"""Row LSTM and Diagonal BiLSTM (Pixel Recurrent Neural Networks, sections 3.1 to 3.3, table 1).

    | layer               |  Row LSTM                | Diagonal BiLSTM         | features     |
    |---------------------|--------------------------|-------------------------|--------------|
    | masked convolution  |  7x7, mask A             | 7x7, mask A             | 2 h          |
    | LSTM blocks         |  i-s 1x3, mask B         | i-s 1x1, mask B         | h inside     |
    |                     |  s-s 1x3, no mask        | s-s 2x1, no mask        |              |
    | twice ReLU, 1x1     |  mask B                  | mask B                  | ``top``      |
    | ReLU, 1x1, softmax  |  mask B                  | mask B                  | 256 a colour |

On CIFAR-10 the paper has 12 layers of h = 128 units and a top of 1024, on MNIST 7 layers of h = 16
and a top of 32. Residual connections around the LSTMs, and skip connections from each to the
output, come one by one, both, or not at all.

The Row LSTM sees a triangle without end, here with two layers under the 7x7 (to the left it widens
in the same way). The Diagonal BiLSTM sees all that was coded before::

    row -2    ... o o o o o o o o o o         ... o o o o o o o o o o ...
    row -1    ... o o o o o o o o o           ... o o o o o o o o o o ...
    row  0        o o o o o x                 ... o o o o o x
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from pixelzip.models.networks import outputs
from pixelzip.models.networks.field import Field
from pixelzip.models.networks.layers import (
    DiagonalBiLSTM,
    LSTMBlock,
    MaskedConv2d,
    OutputLayers,
    RowLSTM,
    Stack,
)
from pixelzip.models.networks.tracer import INPUT, Tracer


@dataclass(frozen=True)
class PixelRNNConfig:
    """Hyper-parameters of both networks."""

    channels: int = 32  # h: units of an LSTM; there are 2 h features between blocks
    layers: int = 4  # LSTM blocks
    top: int = 64  # features of the last two layers
    residual: bool = True  # add each block's output to its input
    skip: bool = True  # join every block to the output
    output: str = "softmax"  # or binary
    colours: int = 3  # sub-pixels of a pixel: 3, or 1 for grey

    layer: ClassVar[type[RowLSTM] | type[DiagonalBiLSTM]]


@dataclass(frozen=True)
class RowLSTMConfig(PixelRNNConfig):
    """Hyper-parameters of the Row LSTM."""

    layer = RowLSTM

    @property
    def field(self) -> Field:
        return Field(None, None, None, lag=4, slope=1, own=3 + self.layers)


@dataclass(frozen=True)
class DiagonalBiLSTMConfig(PixelRNNConfig):
    """Hyper-parameters of the Diagonal BiLSTM."""

    layer = DiagonalBiLSTM

    @property
    def field(self) -> Field:
        return Field(None, None, None, lag=None)


class PixelRNN(nn.Module):
    """The trunk: (B, colours, H, W) -> (B, parameters, H, W).

    A conditional one (section 3.6) is also given a map (B, condition, H, W), which may tell
    anything of the whole image: it biases every LSTM.

    Mask A hides the last pixel of a row from the features of its own column, so that the right map
    of a Diagonal BiLSTM would tell the next row nothing of it. That network works on one more
    column, of zeros, whose features know the pixel.
    """

    coupled = False

    def __init__(self, config: PixelRNNConfig, parameters: int, condition: int = 0) -> None:
        super().__init__()
        h, colours = config.channels, config.colours
        self.beyond, self.condition = int(config.layer is DiagonalBiLSTM), condition
        self.first = MaskedConv2d("A", colours, 2 * h, (7, 7), colours)
        blocks = [LSTMBlock(config.layer, h, colours, condition) for _ in range(config.layers)]
        self.stack = Stack(blocks, h, colours, config.residual, config.skip)
        self.top = OutputLayers(2 * h, config.top, parameters, colours)

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        x, *biases = (F.pad(each, (0, self.beyond)) for each in (x, *condition))
        y = self.stack(self.first(x), *biases)
        return self.top(y[..., : x.shape[3] - self.beyond])  # type: ignore[no-any-return]

    def trace(self, t: Tracer) -> int:
        given = t.node("given", [], self.condition) if self.condition else None
        x = self.first.trace(t, INPUT)
        return self.top.trace(t, self.stack.trace(t, x, given))


def build(config: PixelRNNConfig) -> outputs.Network:
    """The network, with weights to be trained."""
    output = outputs.make(config.output, config.colours, coupled=False)
    return outputs.Network(PixelRNN(config, output.parameters_per_pixel), output)
