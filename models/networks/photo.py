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

``luma`` and ``chroma`` are the same network for one plane (``colours=1``). ``chroma`` is also
*given* samples of earlier planes, whole: it looks at a 5x5 window around its pixel in them, and its
head weighs what differs there from the pixel to its neighbours.

Frozen, weights become int8 with a scale for each output (the first layer and the linear predictor,
whose zero-sum filters would not survive that, 16 bits). Activations become 7 bits and a sign, with
a scale for each channel, calibrated on photographs: each channel's range is set by the largest
values that it takes there. An activation's scale is folded into the weights that read it, so the
integer network needs one multiplication per sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelzip.codec import cdf
from pixelzip.models.frozen.architecture import (
    COLUMNS_LEFT,
    COLUMNS_RIGHT,
    ENTRY,
    GIVEN,
    INSIDE,
    LOOK,
    LOOK_NEAR,
    MIDDLE,
    NEIGHBOURS,
    ROWS_ABOVE,
    WINDOW,
    PhotoConfig,
    head_sizes,
)
from pixelzip.models.frozen.file import FILTER_BITS, MEAN_BITS, PREDICTOR_BITS, check
from pixelzip.models.networks.mixture import log_likelihood
from pixelzip.models.networks.quantise import (
    LARGEST,
    Moments,
    Ranges,
    Rectifier,
    Rounded,
    Watch,
    arrays,
    rounded_weight,
)

HATS = 23  # hat functions on the companded residual: -5.5 to 5.5 in steps of a half
STREAM_UNIT = 2048  # the residual stream is in 1/2048
CONTRAST_UNIT = 32  # the companding table has 32 entries for each unit of contrast
CONTRAST_REACH = 512  # and ends there
COMPANDED_STEP = math.log(1 + CONTRAST_REACH) / LARGEST  # what the first layer gives in integers
CODE_UNIT = 16  # rows of the code for each unit of the companded residual
MOMENTS_CROPS = 96  # on which weights are rounded with as little harm as may be
MEAN_UNIT = 4.0  # pixel values that an output of 1 moves a component's mean


luma = partial(PhotoConfig, blocks="MNMNMN", colours=1, near=24)
chroma = partial(PhotoConfig, channels=96, blocks="MNMN", colours=1, near=24, given=GIVEN)


def field_of_view(config: PhotoConfig) -> str:
    """The receptive field as "rows above x columns", in pixels."""
    masked = config.blocks.count("M")
    columns = COLUMNS_LEFT + 1 + COLUMNS_RIGHT + 2 * masked
    return f"{ROWS_ABOVE + masked + 1} x {columns}"


def compand(x: Tensor) -> Tensor:
    """sign(x) * log(1 + |x|): tells small contrasts apart without losing the large ones."""
    return torch.sign(x) * torch.log(1 + torch.abs(x))


def compand_rounded(x: Tensor) -> Tensor:
    """The same, rounded as the frozen network has it, with the gradient of what is not rounded."""
    y = compand(x)
    integers = torch.round(y / COMPANDED_STEP).clamp(-LARGEST, LARGEST)
    return y + (integers * COMPANDED_STEP - y).detach()


def hats(residual: Tensor) -> Tensor:
    """(P,) residuals in pixel values -> (P, HATS): which knots of a piecewise linear curve."""
    knots = torch.arange(HATS, dtype=torch.float32, device=residual.device) - HATS // 2
    return F.relu(1 - torch.abs(compand(residual).unsqueeze(-1) * 2 - knots))


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
        self.into_a, self.into_b = Rectifier(), Rectifier()

    def forward(self, h: Tensor) -> Tensor:  # (B, C, H, W)
        channels = len(self.a_bias)
        a, b = self.into_a.weight(self.a), self.into_b.weight(self.b)
        x = self.into_a(h)
        if self.masked:
            sixth = torch.zeros(channels, channels, dtype=a.dtype, device=h.device)
            taps = torch.cat([a, sixth], 1).view(channels, 2, 3, channels)
            x = F.conv2d(F.pad(x, (1, 1, 1, 0)), taps.permute(0, 3, 1, 2), self.a_bias)
        else:
            x = F.conv2d(x, a[:, :, None, None], self.a_bias)
        x = self.into_b(x)
        return h + F.conv2d(x, b[:, :, None, None], self.b_bias)

    def read(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, inputs of ``a``, H, W): what ``a`` reads, tap by tap."""
        if not self.masked:
            return x
        padded, (h, w) = F.pad(x, (1, 1, 1, 0)), x.shape[2:]
        taps = [padded[:, :, :h, i : i + w] for i in range(3)]
        return torch.cat([*taps, padded[:, :, 1:, :w], x], 1)

    def freeze(self, made: Rounded, name: str) -> None:
        """Add its tensors in integers."""
        into_a, into_b = made.step(f"{name}.a"), made.step(f"{name}.b")
        made.tensors[f"{name}.input_scale"] = (1 / (into_a * STREAM_UNIT)).float()
        taps = self.a.shape[1] // len(self.a_bias)
        made.layer(f"{name}.a", self.a, self.a_bias, into_a.repeat(taps), 1 / into_b)
        made.layer(f"{name}.b", self.b, self.b_bias, into_b, STREAM_UNIT)


class Photo(nn.Module):
    """The float network, for training, and how it becomes integers."""

    def __init__(self, config: PhotoConfig) -> None:
        super().__init__()
        self.config = config
        self.contrast = compand
        channels, n, s = config.channels, len(WINDOW), config.colours
        # Half of the left, half of the upper pixel: a far better start than nothing.
        predictor = torch.zeros(s, n, s)
        for c in range(s):
            predictor[c, WINDOW.index((0, -1)), c] = 0.5
            predictor[c, WINDOW.index((-1, 0)), c] = 0.5
        self.predictor = nn.Parameter(predictor.view(s, s * n))
        self.predictor_bias = nn.Parameter(torch.zeros(s))
        first = zero_sum(channels, WINDOW, s)
        first = torch.cat([0.6 * first, torch.randn(channels, n, 1) / n], -1).flatten(1)
        if config.given:
            self.look_predictor = nn.Parameter(torch.zeros(1, len(LOOK) * ENTRY))
            flag = torch.zeros(channels, len(LOOK), 1)
            luma, chroma = zero_sum(channels, LOOK, 4), zero_sum(channels, LOOK, 1)
            look = torch.cat([0.3 * luma, flag, 0.6 * chroma, flag], -1).flatten(1)
            first = torch.cat([first, look], 1)
        self.first = nn.Parameter(first)
        self.first_bias = nn.Parameter(torch.zeros(channels))
        self.stem = nn.Parameter(torch.randn(channels, channels) * channels**-0.5)
        self.stem_bias = nn.Parameter(torch.zeros(channels))
        self.blocks = nn.ModuleList(Block(kind, channels) for kind in config.blocks)
        self.trunk = nn.Parameter(torch.randn(s * config.head, channels) * channels**-0.5)
        self.trunk_bias = nn.Parameter(torch.zeros(s * config.head))
        if s == 3:  # red's residual to green, red's to blue, green's to blue
            self.code = nn.Parameter(torch.randn(3, HATS, config.head) * 0.2)
        self.heads = nn.ModuleList(self._head(c) for c in range(s))
        self.into_trunk = Rectifier()
        self.into_heads = nn.ModuleList(Rectifier() for _ in range(s))

    def _head(self, c: int) -> nn.Linear:
        k = self.config.components
        head = nn.Linear(self.config.head, sum(head_sizes(self.config, c)))
        with torch.no_grad():
            head.weight *= 0.1
            head.bias.zero_()
            head.bias[2 * k : 3 * k] = torch.linspace(-0.5, 2, k)
        return head

    def forward(self, pixels: Tensor, given: Tensor | None = None) -> Tensor:
        """(B, H, W, S) uint8 -> (B, H, W, S) log-likelihoods in nats, float32.

        ``given``: (B, H, W, ENTRY) int8, of a network that is given samples: see `entries`.
        """
        b, h, w, s = pixels.shape
        value = pixels.float()
        x = torch.cat([value - MIDDLE, torch.full_like(value[..., :1], INSIDE)], -1)
        x = F.pad(x, (0, 0, COLUMNS_LEFT, COLUMNS_RIGHT, ROWS_ABOVE, 0))
        window = shifted(x, WINDOW, (ROWS_ABOVE, COLUMNS_LEFT), (h, w))  # (P, n, S + 1)
        seen, look = window.flatten(1), None
        if given is not None:
            x = F.pad(given.float(), (0, 0, 2, 2, 2, 2))
            look = shifted(x, LOOK, (2, 2), (h, w))
            seen = torch.cat([seen, look.flatten(1)], 1)
        contrast = self.contrast(F.linear(seen, self.first, self.first_bias))
        y = contrast.view(b, h, w, -1).permute(0, 3, 1, 2)
        stem: Tensor = self.stem
        if self.into_trunk.step is not None:
            stem = rounded_weight(stem, stem.new_full((len(stem),), COMPANDED_STEP))
        y = F.conv2d(y, stem[:, :, None, None], self.stem_bias)
        for block in self.blocks:
            y = block(y)
        trunk = self.into_trunk.weight(self.trunk)
        y = F.conv2d(self.into_trunk(y), trunk[:, :, None, None], self.trunk_bias)
        z = y.permute(0, 2, 3, 1).reshape(b * h * w, s, -1)
        return self.likelihood(z, window, value.view(-1, s), look).view(b, h, w, s)

    def likelihood(
        self, z: Tensor, window: Tensor, value: Tensor, look: Tensor | None = None
    ) -> Tensor:
        """Heads and mixtures: ``z`` (P, S, head), ``window`` (P, n, S + 1), ``value`` (P, S).

        ``look``: (P, 25, ENTRY), of a network that is given samples.
        """
        k, s = self.config.components, self.config.colours
        j = self.config.near * s
        colour = window[..., :s]
        with torch.autocast(value.device.type, enabled=False):
            predicted = F.linear(colour.flatten(1), self.predictor, self.predictor_bias)
            if look is not None:
                predicted = predicted + F.linear(look.flatten(1), self.look_predictor)
        near = torch.stack([colour[:, WINDOW.index(o)] for o in NEIGHBOURS[: self.config.near]], 1)
        contrast = (near - predicted.unsqueeze(1)).flatten(1)
        if look is not None:
            contrast = torch.cat([contrast, look_contrast(look)], 1)
        result, residuals = [], list[Tensor]()
        for c in range(s):
            hidden = z[:, c]
            for i, residual in enumerate(residuals):
                hidden = hidden + hats(residual).to(hidden.dtype) @ self.code[c + i - 1].to(
                    hidden.dtype
                )
            head, into = self.heads[c], self.into_heads[c]
            assert isinstance(head, nn.Linear)
            assert isinstance(into, Rectifier)
            out = F.linear(into(hidden), into.weight(head.weight), head.bias).float()
            weights = out[:, 3 * k : 3 * k + contrast.shape[1]]
            centre = predicted[:, c] + MIDDLE + (weights * contrast).sum(1)
            for i, residual in enumerate(residuals):
                centre = centre + out[:, 3 * k + j + i] * residual
            means = centre.unsqueeze(1) + MEAN_UNIT * out[:, k : 2 * k]
            result.append(log_likelihood(value[:, c], out[:, :k], means, out[:, 2 * k : 3 * k]))
            residuals.append(value[:, c] - centre)
        return torch.stack(result, 1)

    def rectifiers(self) -> dict[str, Rectifier]:
        """By the name of the layer that each feeds."""
        found = dict[str, Rectifier]()
        for i, block in enumerate(self._blocks()):
            found |= {f"blocks.{i}.a": block.into_a, f"blocks.{i}.b": block.into_b}
        found["trunk"] = self.into_trunk
        for c, into in enumerate(self.into_heads):
            assert isinstance(into, Rectifier)
            found[f"heads.{c}"] = into
        return found

    def round_at(self, steps: Mapping[str, Tensor]) -> None:
        """From now on compute as the frozen network will: see `Rectifier`, and `steps`."""
        for name, rectifier in self.rectifiers().items():
            rectifier.step = steps[name].float()
        self.contrast = compand_rounded

    @torch.no_grad()
    def steps(self, crops: Tensor, given: Tensor | None = None) -> dict[str, Tensor]:
        """(C,) what an integer of 1 means, of what feeds each layer, from (N, H, W, S) crops."""
        ranges = Ranges()
        watches = {name: partial(ranges.see, name) for name in self.rectifiers()}
        self.watched(watches, crops, given)
        return ranges.steps()

    def watched(
        self, watches: Mapping[str, Watch], crops: Tensor, given: Tensor | None = None
    ) -> None:
        """Look at the crops, and show what each rectifier gives by the way: see `rectifiers`."""
        for name, rectifier in self.rectifiers().items():
            rectifier.watch = watches[name]
        told = (crops,) if given is None else (crops, given)
        for parts in zip(*(torch.split(tensor, 16) for tensor in told), strict=True):
            self(*parts)
        for rectifier in self.rectifiers().values():
            rectifier.watch = None

    def _moments(self, crops: Tensor, given: Tensor | None) -> Moments:
        moments = Moments()
        watches = dict[str, Watch]()
        for name in self.rectifiers():
            watches[name] = partial(moments.see, name)
        for i, block in enumerate(self._blocks()):
            watches[f"blocks.{i}.a"] = partial(_see_taps, moments, f"blocks.{i}.a", block)

        def contrast(x: Tensor) -> Tensor:
            companded = compand(x)
            moments.see("stem", companded)
            return companded

        self.contrast = contrast
        some = slice(MOMENTS_CROPS)
        self.watched(watches, crops[some], None if given is None else given[some])
        self.contrast = compand
        return moments

    @torch.no_grad()
    def freeze(
        self,
        crops: Tensor,
        given: Tensor | None = None,
        steps: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """The tensors of the frozen network, calibrated on (N, H, W, S) uint8 crops.

        ``given``: (N, H, W, ENTRY) int8, what a network that is given samples knows of each crop.
        ``steps``: those that it was trained to be rounded at, in place of a calibration; its
        weights are then rounded as they were in training.
        """
        if steps:
            made = Rounded(steps, None)
        else:
            made = Rounded(self.steps(crops, given), self._moments(crops, given))
        s = self.config.colours
        self._freeze_first(made)
        for i, block in enumerate(self._blocks()):
            block.freeze(made, f"blocks.{i}")
        into = made.step("trunk")
        made.tensors["trunk.input_scale"] = (1 / (into * STREAM_UNIT)).float()
        made.layer("trunk", self.trunk, self.trunk_bias, into, STREAM_UNIT)
        if s == 3:
            made.tensors["code.bins"], made.tensors["code.rows"] = _code(self.code.double())
        for i in range(s):
            self._freeze_head(made, i)
        check(arrays(made.tensors), self.config)
        return made.tensors

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def _freeze_first(self, made: Rounded) -> None:
        """The first layer: contrasts at CONTRAST_UNIT, companded by a table to int8; the stem."""
        out, s = made.tensors, self.config.colours
        first, bias = self.first.double(), self.first_bias.double()
        scale = first.abs().amax(1) / 32000
        wide = torch.round(first / scale[:, None])
        predictor = torch.zeros(s, len(WINDOW), s + 1, dtype=torch.float64)
        predictor[..., :s] = self.predictor.double().view(s, -1, s)
        predictor = predictor.flatten(1)
        if self.config.given:
            predictor = torch.cat([predictor, self.look_predictor.double()], 1)
        linear = torch.round(predictor * 2**PREDICTOR_BITS)
        out["first.weight"] = torch.cat([wide, linear]).to(torch.int16).t().contiguous()
        out["first.bias"] = torch.round(bias / scale).to(torch.int32)
        out["first.scale"] = (scale * CONTRAST_UNIT).float()
        linear_bias = self.predictor_bias.double() * 2**PREDICTOR_BITS
        out["first.predictor_bias"] = torch.round(linear_bias).to(torch.int32)
        reach = CONTRAST_UNIT * CONTRAST_REACH
        contrast = torch.arange(-reach, reach + 1, dtype=torch.float64) / CONTRAST_UNIT
        out["first.table"] = torch.round(compand(contrast) / COMPANDED_STEP).to(torch.int8)
        steps = torch.full((self.config.channels,), COMPANDED_STEP, dtype=torch.float64)
        made.layer("stem", self.stem, self.stem_bias, steps, STREAM_UNIT)

    def _freeze_head(self, made: Rounded, i: int) -> None:
        head, k, into = self.heads[i], self.config.components, made.step(f"heads.{i}")
        assert isinstance(head, nn.Linear)
        made.tensors[f"heads.{i}.input_scale"] = (1 / (into * STREAM_UNIT)).float()
        unit = torch.full((head.out_features,), float(1 << FILTER_BITS), dtype=torch.float64)
        unit[:k] = cdf.LOGIT_UNIT
        unit[k : 2 * k] = cdf.MEAN_UNIT * MEAN_UNIT
        unit[2 * k : 3 * k] = cdf.SCALE_UNIT
        made.layer(f"heads.{i}", head.weight, head.bias, into, unit)


def _see_taps(moments: Moments, name: str, block: Block, x: Tensor) -> None:
    moments.see(name, block.read(x))


def _code(code: Tensor) -> tuple[Tensor, Tensor]:
    """What a residual adds to a head, at CODE_UNIT rows for each unit of its companded size."""
    sizes = np.arange(1 << 13) / 2 ** (MEAN_BITS - 4)
    bins = np.rint(np.log1p(sizes) * CODE_UNIT)
    last = int(bins[-1])
    rows = torch.arange(-last, last + 1, dtype=torch.float64) / CODE_UNIT
    knots = torch.arange(HATS, dtype=torch.float64) - HATS // 2
    hats = (1 - (rows[:, None] * 2 - knots).abs()).clamp(min=0)
    spelt = torch.round(torch.einsum("rk,ikh->irh", hats, code) * STREAM_UNIT)
    return torch.from_numpy(bins.astype(np.int16)), spelt.to(torch.int32).contiguous()


def zero_sum(channels: int, offsets: tuple[tuple[int, int], ...], samples: int) -> Tensor:
    """(channels, offsets, samples) random filters that see contrasts; near pixels matter most."""
    near = torch.tensor([1 / (1 + abs(row) + abs(column)) for row, column in offsets])
    filters = torch.randn(channels, len(offsets), samples) * near[:, None]
    filters -= filters.sum((1, 2), keepdim=True) * (near / near.sum() / samples)[:, None]
    return filters


def shifted(
    x: Tensor, offsets: tuple[tuple[int, int], ...], origin: tuple[int, int], size: tuple[int, int]
) -> Tensor:
    """A padded (B, ., ., E) map, read at these offsets from each pixel: (B * h * w, offsets, E)."""
    (top, left), (h, w) = origin, size
    parts = [x[:, top + r : top + r + h, left + c : left + c + w] for r, c in offsets]
    return torch.stack(parts, 3).view(-1, len(offsets), x.shape[-1])


def entries(given: Tensor) -> Tensor:
    """(B, H, W, 4 or 5) uint8 given samples -> (B, H, W, ENTRY) int8: what the first layer sees."""
    signed = (given.short() - MIDDLE).to(torch.int8)
    inside = torch.full_like(signed[..., :1], INSIDE)
    absent = torch.zeros_like(inside)
    chroma = [signed[..., 4:], inside] if given.shape[-1] == GIVEN else [absent, absent]
    return torch.cat([signed[..., :4], inside, *chroma], -1)


def look_contrast(look: Tensor) -> Tensor:
    """(P, 25, ENTRY) -> (P, 16): the neighbours' luma and chroma less the pixel's own."""
    values = torch.stack([look[..., :4].mean(-1), look[..., 5]], -1)  # (P, 25, 2)
    own = values[:, LOOK.index((0, 0))].unsqueeze(1)
    return (values[:, [LOOK.index(o) for o in LOOK_NEAR]] - own).flatten(1)
