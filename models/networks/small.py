"""The small PixelCNN++ (PixelCNN++, section 3.3): a bounded field, and full resolution throughout.

    | part                    | down stream            | right stream                          |
    |-------------------------|------------------------|---------------------------------------|
    | first                   | 1x3 or 2x3             | 1x3, shifted down; 2x1, shifted right |
    | gated residual layers   | 2x3 down-shifted, 1x1  | 2x2 down-right-shifted, 1x1           |
    | after every other layer | what the variant adds  | what the variant adds                 |
    | output                  |                        | ELU, 1x1: a mixture of logistics      |

A field of 11x5 is a rectangle of 11 columns and 5 rows above the pixel, and 5 columns to the left.
The second convolution of each layer is a 1x1 here, so that a layer adds a row, and a column to
either side: four layers make 11x5, six 15x8, exactly. Three variants have the same field:

* ``plain``: no more than that;
* ``nin``: three 1x1 gated residual layers in each stream;
* ``autoregressive``: the channels fall into sets, and each set but the first gets what a 1x1 gated
  residual layer makes of the sets before it.

The paper has no more to say on the latter two; after which layers they stand, and how many sets
there are, is our choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelzip.models.networks import outputs
from pixelzip.models.networks.field import Field
from pixelzip.models.networks.layers import GatedResidual, Pointwise
from pixelzip.models.networks.pixelcnnpp import First, PixelCNNppConfig, Streams
from pixelzip.models.networks.tracer import Tracer, traced

FIELDS = ("11x5", "15x8")
VARIANTS = ("plain", "nin", "autoregressive")
NINS = 3  # 1x1 layers at a place
SETS = 4  # of channels


@dataclass(frozen=True)
class SmallConfig:
    """Hyper-parameters of the small PixelCNN++."""

    channels: int = 32  # features of each stream
    size: str = "11x5"  # of the field, columns x rows; or 15x8
    variant: str = "plain"  # or nin, autoregressive
    components: int = 5  # logistics in the mixture
    dropout: float = 0.0  # share of the features inside a residual layer that a step leaves out
    output: str = "mixture"  # or softmax, binary, continuous
    colours: int = 3  # sub-pixels of a pixel: 3, or 1 for grey

    def __post_init__(self) -> None:
        if self.size not in FIELDS:
            raise ValueError(f"size is one of {', '.join(FIELDS)}, not {self.size}")
        if self.variant not in VARIANTS:
            raise ValueError(f"variant is one of {', '.join(VARIANTS)}, not {self.variant}")
        if self.variant == "autoregressive" and self.channels % SETS:
            raise ValueError(f"channels must be a multiple of {SETS} for autoregressive ones")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share from 0 to below 1, not {self.dropout}")

    @property
    def field(self) -> Field:
        columns, rows = map(int, self.size.split("x"))
        return Field(rows, columns // 2, columns // 2, lag=columns // 2 + 1)


class NetworkInNetwork(nn.Module):
    """Three 1x1 gated residual layers: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, config: SmallConfig) -> None:
        super().__init__()
        channels = config.channels
        self.layers = nn.Sequential(
            *(GatedResidual(Pointwise, channels, dropout=config.dropout) for _ in range(NINS))
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]

    def trace(self, t: Tracer, x: int) -> int:
        for layer in self.layers:
            x = traced(layer, t, x)
        return x


class AutoregressiveChannels(nn.Module):
    """Sets of channels, each joined to the sets before it: (B, C, H, W) -> (B, C, H, W)."""

    def __init__(self, config: SmallConfig) -> None:
        super().__init__()
        self.width = config.channels // SETS
        self.layers = nn.ModuleList(
            GatedResidual(Pointwise, self.width, shortcuts=i * self.width, dropout=config.dropout)
            for i in range(1, SETS)
        )

    def forward(self, x: Tensor) -> Tensor:
        first, *others = torch.split(x, self.width, 1)
        done = [first]
        for layer, mine in zip(self.layers, others, strict=True):
            done.append(layer(mine, torch.cat(done, 1)))
        return torch.cat(done, 1)

    def trace(self, t: Tracer, x: int) -> int:
        done = [t.node("slice", [x], self.width)]
        for i, layer in enumerate(self.layers, 1):
            mine = t.node("slice", [x], self.width, start=i * self.width)
            done.append(traced(layer, t, mine, list(done)))
        return t.node("cat", done, t.nodes[x].channels)


class SmallPixelCNNpp(nn.Module):
    """The trunk: (B, colours, H, W) -> (B, parameters, H, W)."""

    coupled = True

    def __init__(self, config: SmallConfig, parameters: int) -> None:
        super().__init__()
        c, (columns, rows) = config.channels, map(int, config.size.split("x"))
        layers = columns // 2 - 1
        streams = PixelCNNppConfig(c, dropout=config.dropout)
        between = {"nin": NetworkInNetwork, "autoregressive": AutoregressiveChannels}
        self.first = First(config.colours, c, rows - layers)
        self.layers = nn.ModuleList(Streams(streams, False, pointwise=True) for _ in range(layers))
        more = range(layers // 2 if config.variant in between else 0)
        self.more_down = nn.ModuleList(between[config.variant](config) for _ in more)
        self.more_right = nn.ModuleList(between[config.variant](config) for _ in more)
        self.top = Pointwise(c, parameters, gain=0.3)

    def forward(self, x: Tensor) -> Tensor:
        down, right = self.first(x)
        for i, layer in enumerate(self.layers):
            down, right = layer(down, right, None, None)
            if i % 2 == 0 and self.more_down:
                down, right = self.more_down[i // 2](down), self.more_right[i // 2](right)
        return self.top(F.elu(right))  # type: ignore[no-any-return]

    def trace(self, t: Tracer) -> int:
        down, right = self.first.trace(t)
        for i, layer in enumerate(self.layers):
            down, right = traced(layer, t, down, right)
            if i % 2 == 0 and self.more_down:
                down = traced(self.more_down[i // 2], t, down)
                right = traced(self.more_right[i // 2], t, right)
        return self.top.trace(t, t.activate("elu", right))


def build(config: SmallConfig) -> outputs.Network:
    """The network, with weights to be trained."""
    output = outputs.make(config.output, config.colours, config.components, coupled=True)
    return outputs.Network(SmallPixelCNNpp(config, output.parameters_per_pixel), output)
