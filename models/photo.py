"""``photo``: a small PixelCNN++ (section 3.3 of its paper) whose field obeys the front condition.

It conditions on whole pixels, keeps full resolution, and bounds its field so that a row needs to
trail the row above by two columns only. Four ideas carry it:

* a *linear predictor* over the whole window, kept in high precision, centres each conditional;
* the *first layer* sees contrasts: its outputs are companded (sign * log), so that faint texture
  and hard edges fit the same eight bits;
* a *trunk* of residual blocks: masked 2x3 convolutions, and 1x1 "network in network" blocks;
* a *head* per sub-pixel: green sees red's actual residual, blue sees both. Beside the mixture it
  predicts a small filter over the nearest neighbours, whose weights change from pixel to pixel,
  and which moves the centre.

The window of the first layer (x is the pixel being coded)::

    row -3        o o o o o o o o o
    row -2      o o o o o o o o o
    row -1      o o o o o o o
    row  0    o o o o o o x

Each masked 2x3 convolution adds one row above and one column to either side::

    row -1    o o o
    row  0    o x
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelzip.models.field import Field
from pixelzip.models.mixture import log_likelihood

LAG = 2
ROWS_ABOVE, COLUMNS_LEFT, COLUMNS_RIGHT = 3, 6, 4
WINDOW = tuple(
    (row, column)
    for row, first, last in ((-3, -4, 4), (-2, -5, 3), (-1, -5, 1), (0, -6, -1))
    for column in range(first, last + 1)
)
"""(row, column) offsets that the first layer sees. A row j above reaches at most 2 j - 1 right."""

NEIGHBOURS = (
    (0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0),
    (-2, 1), (-2, -1), (-1, -2), (-2, 2), (0, -3), (-3, 0),
)  # fmt: skip
"""The pixels that the adaptive filter weighs, nearest first: a part of the window."""

MIDDLE = 128  # pixels enter the network less this, to fit a signed byte
INSIDE = 64  # fourth input channel: this inside the tile, 0 outside
HATS = 23  # hat functions on the companded residual: -5.5 to 5.5 in steps of a half
MEAN_UNIT = 4.0  # pixel values that an output of 1 moves a component's mean


@dataclass(frozen=True)
class PhotoConfig:
    """Hyper-parameters of ``photo``."""

    channels: int = 128
    blocks: str = "MNMNMN"  # M: masked 2x3 convolution, then 1x1; N: two 1x1 layers
    head: int = 64  # hidden units of each sub-pixel's head
    components: int = 5  # logistics in each mixture

    def __post_init__(self) -> None:
        if not set(self.blocks) <= {"M", "N"}:
            raise ValueError(f"blocks are the letters M and N, not {self.blocks}")

    @property
    def field(self) -> Field:
        masked = self.blocks.count("M")
        above, left, right = (side + masked for side in (ROWS_ABOVE, COLUMNS_LEFT, COLUMNS_RIGHT))
        return Field(above, left, right, LAG)


def field_of_view(config: PhotoConfig) -> str:
    """The receptive field as "rows above x columns", in pixels."""
    masked = config.blocks.count("M")
    columns = COLUMNS_LEFT + 1 + COLUMNS_RIGHT + 2 * masked
    return f"{ROWS_ABOVE + masked + 1} x {columns}"


def compand(x: Tensor) -> Tensor:
    """sign(x) * log(1 + |x|): tells small contrasts apart without losing the large ones."""
    return torch.sign(x) * torch.log(1 + torch.abs(x))


def hats(residual: Tensor) -> Tensor:
    """(P,) residuals in pixel values -> (P, HATS): which knots of a piecewise linear curve."""
    knots = torch.arange(HATS, dtype=torch.float32, device=residual.device) - HATS // 2
    return F.relu(1 - torch.abs(compand(residual).unsqueeze(-1) * 2 - knots))


Watch = Callable[[str, Tensor], None]
"""Is shown what each rectifier gives, by the name of the layer that it feeds."""


def rectify(x: Tensor, name: str, watch: Watch | None) -> Tensor:
    """max(x, 0), shown to ``watch`` if there is one."""
    y = F.relu(x)
    if watch is not None:
        watch(name, y)
    return y


class Block(nn.Module):
    """A residual block: ``h + b(relu(a(relu(h))))``; ``a`` is a masked 2x3 or a 1x1 convolution.

    The weight of the 2x3 is (C, 5 C), tap by tap in reading order, its sixth tap masked.
    """

    def __init__(self, kind: str, channels: int) -> None:
        super().__init__()
        self.masked = kind == "M"
        inputs = 5 * channels if self.masked else channels
        self.a = nn.Parameter(torch.randn(channels, inputs) * (2 / inputs) ** 0.5)
        self.a_bias = nn.Parameter(torch.zeros(channels))
        self.b = nn.Parameter(torch.zeros(channels, channels))
        self.b_bias = nn.Parameter(torch.zeros(channels))
        self.watch: Watch | None = None

    def forward(self, h: Tensor) -> Tensor:  # (B, C, H, W)
        channels = len(self.a_bias)
        x = rectify(h, "a", self.watch)
        if self.masked:
            sixth = torch.zeros(channels, channels, dtype=self.a.dtype, device=h.device)
            taps = torch.cat([self.a, sixth], 1).view(channels, 2, 3, channels)
            x = F.conv2d(F.pad(x, (1, 1, 1, 0)), taps.permute(0, 3, 1, 2), self.a_bias)
        else:
            x = F.conv2d(x, self.a[:, :, None, None], self.a_bias)
        x = rectify(x, "b", self.watch)
        return h + F.conv2d(x, self.b[:, :, None, None], self.b_bias)


class Photo(nn.Module):
    """The float network, for training; `pixelzip.models.freeze` turns it into integers."""

    def __init__(self, config: PhotoConfig) -> None:
        super().__init__()
        self.config = config
        self.contrast = compand
        self.watch: Watch | None = None
        channels, n = config.channels, len(WINDOW)
        # Half of the left, half of the upper pixel: a far better start than nothing.
        predictor = torch.zeros(3, n, 3)
        for c in range(3):
            predictor[c, WINDOW.index((0, -1)), c] = 0.5
            predictor[c, WINDOW.index((-1, 0)), c] = 0.5
        self.predictor = nn.Parameter(predictor.view(3, 3 * n))
        self.predictor_bias = nn.Parameter(torch.zeros(3))
        # Zero-sum filters see contrasts from the first step; near pixels matter most.
        near = torch.tensor([1 / (1 + abs(row) + abs(column)) for row, column in WINDOW])
        first = torch.randn(channels, n, 4)
        colour = first[..., :3] * near[:, None]
        colour -= colour.sum((1, 2), keepdim=True) * (near / near.sum() / 3)[:, None]
        first = torch.cat([0.6 * colour, first[..., 3:] / n], -1)
        self.first = nn.Parameter(first.reshape(channels, 4 * n))
        self.first_bias = nn.Parameter(torch.zeros(channels))
        self.stem = nn.Parameter(torch.randn(channels, channels) * channels**-0.5)
        self.stem_bias = nn.Parameter(torch.zeros(channels))
        self.blocks = nn.ModuleList(Block(kind, channels) for kind in config.blocks)
        self.trunk = nn.Parameter(torch.randn(3 * config.head, channels) * channels**-0.5)
        self.trunk_bias = nn.Parameter(torch.zeros(3 * config.head))
        # Red's residual to green, red's to blue, green's to blue.
        self.code = nn.Parameter(torch.randn(3, HATS, config.head) * 0.2)
        self.heads = nn.ModuleList(self._head(c) for c in range(3))

    def _head(self, c: int) -> nn.Linear:
        k = self.config.components
        head = nn.Linear(self.config.head, 3 * k + 3 * len(NEIGHBOURS) + c)
        with torch.no_grad():
            head.weight *= 0.1
            head.bias.zero_()
            head.bias[2 * k : 3 * k] = torch.linspace(-0.5, 2, k)
        return head

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 -> (B, H, W, 3) log-likelihoods in nats, float32."""
        b, h, w, _ = pixels.shape
        value = pixels.float()
        x = torch.cat([value - MIDDLE, torch.full_like(value[..., :1], INSIDE)], -1)
        x = F.pad(x, (0, 0, COLUMNS_LEFT, COLUMNS_RIGHT, ROWS_ABOVE, 0))
        window = torch.stack(
            [
                x[:, ROWS_ABOVE + r : ROWS_ABOVE + r + h, COLUMNS_LEFT + c : COLUMNS_LEFT + c + w]
                for r, c in WINDOW
            ],
            3,
        ).view(b * h * w, len(WINDOW), 4)
        contrast = self.contrast(F.linear(window.flatten(1), self.first, self.first_bias))
        y = contrast.view(b, h, w, -1).permute(0, 3, 1, 2)
        y = F.conv2d(y, self.stem[:, :, None, None], self.stem_bias)
        for block in self.blocks:
            y = block(y)
        y = rectify(y, "trunk", self.watch)
        y = F.conv2d(y, self.trunk[:, :, None, None], self.trunk_bias)
        z = y.permute(0, 2, 3, 1).reshape(b * h * w, 3, -1)
        return self.likelihood(z, window, value.view(-1, 3)).view(b, h, w, 3)

    def likelihood(self, z: Tensor, window: Tensor, value: Tensor) -> Tensor:
        """Heads and mixtures: ``z`` (P, 3, head), ``window`` (P, n, 4), ``value`` (P, 3)."""
        k, j = self.config.components, len(NEIGHBOURS)
        colour = window[..., :3]
        with torch.autocast(value.device.type, enabled=False):
            predicted = F.linear(colour.flatten(1), self.predictor, self.predictor_bias)
        near = torch.stack([colour[:, WINDOW.index(o)] for o in NEIGHBOURS], 1)  # (P, J, 3)
        contrast = near - predicted.unsqueeze(1)
        result, residuals = [], list[Tensor]()
        for c in range(3):
            hidden = z[:, c]
            for i, residual in enumerate(residuals):
                hidden = hidden + hats(residual).to(hidden.dtype) @ self.code[c + i - 1].to(
                    hidden.dtype
                )
            out = self.heads[c](rectify(hidden, f"heads.{c}", self.watch)).float()
            weights = out[:, 3 * k : 3 * k + 3 * j].view(-1, j, 3)
            centre = predicted[:, c] + MIDDLE + (weights * contrast).sum((1, 2))
            for i, residual in enumerate(residuals):
                centre = centre + out[:, 3 * k + 3 * j + i] * residual
            means = centre.unsqueeze(1) + MEAN_UNIT * out[:, k : 2 * k]
            result.append(log_likelihood(value[:, c], out[:, :k], means, out[:, 2 * k : 3 * k]))
            residuals.append(value[:, c] - centre)
        return torch.stack(result, 1)
