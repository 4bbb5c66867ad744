"""PixelCNN++, whole (PixelCNN++, sections 2.1 to 2.5, figure 2; class-conditional: 3.2).

Two streams run side by side: the *down* stream sees the rows above, the *right* stream also what
is left in the row, and listens to the down stream at each layer. Halfway they are a quarter of the
image's size; what the first half knew at each size comes back by short-cuts::

    size 1     first - n layers ------------------------------ n + 1 layers - output
                         |  down            short-cuts              | up
    size 1/2             '- n layers --------------- n + 1 layers --'
                                |  down                   | up
    size 1/4                    '-- n layers -- n layers -'

    | part            | down stream                  | right stream                           |
    |-----------------|------------------------------|----------------------------------------|
    | first           | 2x3, shifted down            | 1x3, shifted down; 2x1, shifted right  |
    | gated residual  | 2x3 down-shifted             | 2x2 down-right-shifted, 1x1 of down    |
    | down            | 2x3 down-shifted, stride 2   | 2x2 down-right-shifted, stride 2       |
    | up              | 2x3 transposed, stride 2     | 2x2 transposed, stride 2               |
    | output          |                              | ELU, 1x1: a mixture of logistics       |

Each residual layer of the second half is short-cut to the corresponding one of the first. The
paper's has n = 5 layers of 192 features, 10 logistics (it says that 5 suffice) and a dropout of
one half.

Some pixel or other sees all that was coded before; which one sees how far to the left in its own
row depends on where it stands in the coarser grids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelzip.models.networks import outputs
from pixelzip.models.networks.field import Field
from pixelzip.models.networks.layers import (
    DownRightShiftedConv2d,
    DownRightShiftedDeconv2d,
    DownShiftedConv2d,
    DownShiftedDeconv2d,
    GatedResidual,
    Pointwise,
    shift_down,
    shift_right,
)
from pixelzip.models.networks.tracer import Tracer, traced

SCALES = 3


@dataclass(frozen=True)
class PixelCNNppConfig:
    """Hyper-parameters of PixelCNN++."""

    channels: int = 32  # features of each stream
    layers: int = 2  # n: residual layers of a block, one more after each enlargement
    components: int = 5  # logistics in the mixture
    dropout: float = 0.0  # share of the features inside a residual layer that a step leaves out
    shortcuts: bool = True  # between the two halves
    classes: int = 0  # of a class-conditional network
    output: str = "mixture"  # or softmax, binary, continuous
    colours: int = 3  # sub-pixels of a pixel: 3, or 1 for grey

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is a share from 0 to below 1, not {self.dropout}")

    @property
    def field(self) -> Field:
        return Field(None, None, None, lag=None)


class First(nn.Module):
    """The first layers of both streams, which keep the pixel itself from them.

    (B, colours, H, W) -> (down, right), each (B, channels, H, W). With ``rows`` = 2::

        row -2    o o o
        row -1    o o o            o o o
        row  0      x              o x

    The image gets one more channel, of ones, so that its border can be told from black.
    """

    def __init__(self, colours: int, channels: int, rows: int = 2) -> None:
        super().__init__()
        self.down = DownShiftedConv2d(colours + 1, channels, (rows, 3))
        self.above = DownShiftedConv2d(colours + 1, channels, (1, 3))
        self.left = DownRightShiftedConv2d(colours + 1, channels, (2, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        down = shift_down(self.down(x))
        return down, shift_down(self.above(x)) + shift_right(self.left(x))

    def trace(self, t: Tracer) -> tuple[int, int]:
        down = self.down.trace_first(t, 1, 0)
        return down, t.add(self.above.trace_first(t, 1, 0), self.left.trace_first(t, 0, 1))


class Streams(nn.Module):
    """One gated residual layer of each stream: (down, right) -> (down, right).

    In the second half of the network each is also given its short-cut.
    """

    def __init__(
        self, config: PixelCNNppConfig, shortcut: bool, *, pointwise: bool = False
    ) -> None:
        super().__init__()
        c, extra = config.channels, config.channels if shortcut else 0
        settings: dict[str, Any] = {
            "dropout": config.dropout, "classes": config.classes, "pointwise": pointwise,
        }  # fmt: skip
        self.down = GatedResidual(DownShiftedConv2d, c, shortcuts=extra, **settings)
        self.right = GatedResidual(DownRightShiftedConv2d, c, shortcuts=c + extra, **settings)

    def forward(
        self,
        down: Tensor,
        right: Tensor,
        shortcut: tuple[Tensor, Tensor] | None,
        label: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        if shortcut is None:
            down = self.down(down, None, label)
            return down, self.right(right, down, label)
        down = self.down(down, shortcut[0], label)
        return down, self.right(right, torch.cat([down, shortcut[1]], 1), label)

    def trace(
        self, t: Tracer, down: int, right: int, shortcut: tuple[int, int] | None = None
    ) -> tuple[int, int]:
        if shortcut is None:
            down = self.down.trace(t, down)
            return down, self.right.trace(t, right, [down])
        down = self.down.trace(t, down, [shortcut[0]])
        return down, self.right.trace(t, right, [down, shortcut[1]])


class Shrink(nn.Module):
    """Both streams to half their size, rounded up."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = DownShiftedConv2d(channels, channels, stride=2)
        self.right = DownRightShiftedConv2d(channels, channels, stride=2)

    def forward(self, down: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return self.down(down), self.right(right)

    def trace(self, t: Tracer, down: int, right: int) -> tuple[int, int]:
        down = self.down.trace(t, t.activate("identity", down))
        return down, self.right.trace(t, t.activate("identity", right))


class Enlarge(nn.Module):
    """Both streams to the size (H, W) that they had before they were shrunk."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = DownShiftedDeconv2d(channels, channels)
        self.right = DownRightShiftedDeconv2d(channels, channels)

    def forward(self, down: Tensor, right: Tensor, size: torch.Size) -> tuple[Tensor, Tensor]:
        return self.down.enlarge(down, *size), self.right.enlarge(right, *size)

    def trace(self, t: Tracer, down: int, right: int) -> tuple[int, int]:
        return self.down.trace(t, down), self.right.trace(t, right)


class PixelCNNpp(nn.Module):
    """The trunk: (B, colours, H, W) -> (B, parameters, H, W), given labels (B,) if need be."""

    coupled = True

    def __init__(self, config: PixelCNNppConfig, parameters: int) -> None:
        super().__init__()
        c, n = config.channels, config.layers
        self.shortcuts, self.classes = config.shortcuts, config.classes
        self.first = First(config.colours, c)
        encoder, decoder = list[nn.Module](), list[nn.Module]()
        for scale in range(SCALES):
            if scale > 0:
                encoder.append(Shrink(c))
                decoder.append(Enlarge(c))
            encoder += [Streams(config, False) for _ in range(n)]
            decoder += [Streams(config, config.shortcuts) for _ in range(n + (scale > 0))]
        self.encoder, self.decoder = nn.ModuleList(encoder), nn.ModuleList(decoder)
        self.top = Pointwise(c, parameters, gain=0.3)

    def forward(self, x: Tensor, label: Tensor | None = None) -> Tensor:
        down, right = self.first(x)
        kept, sizes = [(down, right)], list[torch.Size]()
        for layer in self.encoder:
            if isinstance(layer, Shrink):
                sizes.append(down.shape[2:])
                down, right = layer(down, right)
            else:
                down, right = layer(down, right, None, label)
            kept.append((down, right))
        down, right = kept.pop()
        for layer in self.decoder:
            if isinstance(layer, Enlarge):
                down, right = layer(down, right, sizes.pop())
            else:
                shortcut = kept.pop()
                down, right = layer(down, right, shortcut if self.shortcuts else None, label)
        return self.top(F.elu(right))  # type: ignore[no-any-return]

    def trace(self, t: Tracer) -> int:
        down, right = self.first.trace(t)
        kept = [(down, right)]
        for layer in self.encoder:
            down, right = traced(layer, t, down, right)
            kept.append((down, right))
        down, right = kept.pop()
        for layer in self.decoder:
            if isinstance(layer, Enlarge):
                down, right = traced(layer, t, down, right)
            else:
                shortcut = kept.pop()
                down, right = traced(layer, t, down, right, shortcut if self.shortcuts else None)
        return self.top.trace(t, t.activate("elu", right))


def build(config: PixelCNNppConfig) -> outputs.Network:
    """The network, with weights to be trained."""
    output = outputs.make(config.output, config.colours, config.components, coupled=True)
    return outputs.Network(PixelCNNpp(config, output.parameters_per_pixel), output)
