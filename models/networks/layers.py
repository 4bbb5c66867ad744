"""The layers of PixelRNN and PixelCNN++, under the names that the papers give them.

Maps are (B, channels, H, W) floats. Every layer is causal: what it gives at a pixel depends on
the pixels above, and on those to the left in the same row. Whether it may depend on the pixel
itself is what *mask A* and *mask B* are about, and what the shifts are about.

In the drawings ``x`` is the pixel that an output belongs to, ``o`` an input that it sees, ``.`` one
that a mask or a shift hides.

In PixelRNN's networks channels belong to colours (section 3.4): the first third of every map is
red's, the second green's, the last blue's. Red's channels see the current pixel's red at most,
green's see red and green, blue's see all three. PixelCNN++ conditions on whole pixels (section
2.2) and knows no such thing.

All layers can be frozen into integers: they are made of convolutions, functions of one variable,
products of two activations, and sums. Nothing is normalised by statistics. Beside each ``forward``
stands ``trace``, which does the same with nodes of a program (`pixelzip.models.networks.tracer`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixelzip.models.networks.tracer import INPUT, Taps, Tracer, kernel_taps, traced
from pixelzip.models.programs.program import colours_of


def scaled(pixels: Tensor) -> Tensor:
    """(B, H, W, C) values 0..255 -> (B, C, H, W) from -1 to just below 1, in steps of 1/128."""
    return (pixels.permute(0, 3, 1, 2) - 128.0) / 128


def precise(x: Tensor) -> Tensor:
    """``x`` in float32 if it comes in less: bfloat16 is not for probabilities, nor for states."""
    return x if x.dtype == torch.float64 else x.float()


def shift_down(x: Tensor) -> Tensor:
    """Each row moves one down, the last is lost, and zeros come first."""
    return F.pad(x, (0, 0, 1, 0))[:, :, :-1]


def shift_right(x: Tensor) -> Tensor:
    """Each column moves one to the right, the last is lost, and zeros come first."""
    return F.pad(x, (1, 0))[:, :, :, :-1]


def initialise(weight: Tensor, inputs: float, gain: float = 1.0) -> None:
    """Normal weights that keep the variance of as many ``inputs`` as one output sums."""
    nn.init.normal_(weight, std=gain * inputs**-0.5)


class Pointwise(nn.Conv2d):
    """A 1x1 convolution, "network in network"."""

    def __init__(self, inputs: int, outputs: int, gain: float = 1.0) -> None:
        super().__init__(inputs, outputs, 1)
        initialise(self.weight, inputs, gain)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def trace(self, t: Tracer, x: int, bias: Tensor | None = None) -> int:
        """``bias`` takes the place of its own."""
        return t.linear(x, self.weight.flatten(2), self.bias if bias is None else bias)


# --- PixelRNN: masked convolutions (section 3.4) -------------------------------------------------


class MaskedConv2d(nn.Module):
    """A convolution that sees what was coded before: mask A or B of figure 2, section 3.4.

    (B, inputs, H, W) -> (B, outputs, H, W). A 3x3 looks like this; its third row is all hidden, so
    it is not stored, nor is that of any other size::

        row -1    o o o
        row  0    o x .

    At ``x`` an output sees the inputs of earlier colours (mask A, the first layer, whose inputs
    are the colours themselves), or of its own colour as well (mask B, all others). All other taps
    join every colour with every other.
    """

    def __init__(
        self,
        mask: Literal["A", "B"],
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        colours: int,
        *,
        parts: int = 1,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        rows, columns = kernel[0] // 2 + 1, kernel[1]
        source = torch.from_numpy(colours_of(inputs, colours, 1))
        target = torch.from_numpy(colours_of(outputs, colours, parts))[:, None]
        taps = torch.ones(outputs, inputs, rows, columns)
        taps[:, :, -1, columns // 2] = (
            source < target if mask == "A" else source <= target
        ).float()
        taps[:, :, -1, columns // 2 + 1 :] = 0
        self.parts = parts
        self.mask: Tensor
        self.register_buffer("mask", taps, persistent=False)
        self.padding = (columns // 2, columns // 2, rows - 1, 0)
        self.weight = nn.Parameter(torch.empty_like(taps))
        self.bias = nn.Parameter(torch.zeros(outputs))
        seen = inputs * (rows * columns - columns // 2)
        initialise(self.weight, seen, gain)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, self.padding), self.weight * self.mask, self.bias)

    def trace(self, t: Tracer, x: int) -> int:
        weight = self.weight * self.mask
        _, _, rows, columns = weight.shape
        taps = kernel_taps(rows, columns, rows - 1, columns // 2)
        return t.linear(x, weight.flatten(2), self.bias, taps, parts=self.parts)


# --- PixelRNN: LSTM layers (sections 3.1 and 3.2) ------------------------------------------------


def lstm(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Equation 3: (..., 4 h) sums of the gates and (..., h) cells -> new hidden state and cells.

    The gates come in the paper's order: output, forget, input, content.
    """
    h = cell.shape[-1]
    out, forget, enter = torch.sigmoid(gates[..., : 3 * h]).chunk(3, -1)
    cell = torch.addcmul(enter * torch.tanh(gates[..., 3 * h :]), forget, cell)
    return out * torch.tanh(cell), cell


def _input_to_state(inputs: int, channels: int, columns: int, colours: int) -> MaskedConv2d:
    layer = MaskedConv2d("B", inputs, 4 * channels, (1, columns), colours, parts=4)
    with torch.no_grad():
        layer.bias[channels : 2 * channels] = 1  # at first, cells remember
    return layer


def _taps_first(layer: nn.Conv1d) -> Tensor:
    """A convolution's weights (outputs, inputs, taps) as a matrix (taps * inputs, outputs)."""
    return layer.weight.permute(2, 1, 0).flatten(0, 1)


def _traced_sums(t: Tracer, layer: MaskedConv2d, x: int, condition: int | None) -> int:
    sums = layer.trace(t, x)
    return sums if condition is None else t.add(sums, condition, parts=4)


class RowLSTM(nn.Module):
    """Rows from top to bottom, all pixels of a row at once (section 3.1).

    (B, inputs, H, W) -> (B, h, H, W). Input-to-state is a masked 1x3 along the row, state-to-state
    a 1x3 on the hidden states of the row above; there is no end to the triangle that it sees::

        row -2    o o o o o o
        row -1      o o o o
        row  0        o x .

    ``condition`` (B, 4 h, H, W) is added to the sums of the gates (section 3.6). The state above
    the first row is learnt (section 5.1).
    """

    def __init__(self, inputs: int, channels: int, colours: int) -> None:
        super().__init__()
        self.input_to_state = _input_to_state(inputs, channels, 3, colours)
        self.state_to_state = nn.Conv1d(channels, 4 * channels, 3, padding=1, bias=False)
        initialise(self.state_to_state.weight, 3 * channels)
        self.hidden = nn.Parameter(torch.zeros(channels, 1))
        self.cell = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        sums = self.input_to_state(x)
        if condition is not None:
            sums = sums + condition
        sums = precise(sums).permute(2, 0, 3, 1).contiguous()  # (H, B, W, 4 h)
        weight = _taps_first(self.state_to_state)
        hidden, cell = (s.view(-1).expand(*sums.shape[1:3], -1) for s in (self.hidden, self.cell))
        rows = []
        with torch.autocast(x.device.type, enabled=False):
            for row in sums:
                near = F.pad(hidden, (0, 0, 1, 1))
                near = torch.cat([near[:, :-2], hidden, near[:, 2:]], 2)
                hidden, cell = lstm(row + near @ weight, cell)
                rows.append(hidden)
        return torch.stack(rows).permute(1, 3, 0, 2)

    def trace(self, t: Tracer, x: int, condition: int | None) -> int:
        sums = _traced_sums(t, self.input_to_state, x, condition)
        return t.lstm("row", sums, self.state_to_state.weight, self.hidden, self.cell)


def skew(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H, W + H - 1): row r moves r columns to the right (figure 3)."""
    b, c, height, width = x.shape
    flat = F.pad(x, (0, height)).flatten(2)
    return flat[:, :, : height * (width + height - 1)].view(b, c, height, -1)


def unskew(x: Tensor) -> Tensor:
    """Undo `skew`: (B, C, H, W + H - 1) -> (B, C, H, W)."""
    b, c, height, skewed = x.shape
    flat = F.pad(x.flatten(2), (0, height))
    return flat.view(b, c, height, skewed + 1)[..., : skewed + 1 - height]


class DiagonalLSTM(nn.Module):
    """One direction of the Diagonal BiLSTM: left to right, all pixels of a diagonal at once.

    (B, inputs, H, W) -> (B, h, H, W). In the skewed map a diagonal is a column, and the states of
    the pixels to the left and above both lie in the column before. So state-to-state is a 2x1
    convolution down that column; it sees everything above and to the left::

        row -2    o o o o
        row -1    o o o o
        row  0    o o o x

    Input-to-state is a masked 1x1. The states beside the left and above the upper border are
    learnt.
    """

    def __init__(self, inputs: int, channels: int, colours: int) -> None:
        super().__init__()
        self.input_to_state = _input_to_state(inputs, channels, 1, colours)
        self.state_to_state = nn.Conv1d(channels, 4 * channels, 2, bias=False)
        initialise(self.state_to_state.weight, 2 * channels)
        self.hidden = nn.Parameter(torch.zeros(channels, 1))
        self.cell = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        sums = self.input_to_state(x)
        if condition is not None:
            sums = sums + condition
        height, width = x.shape[2:]
        sums = skew(precise(sums)).permute(3, 0, 2, 1).contiguous()  # (W + H - 1, B, H, 4 h)
        weight = _taps_first(self.state_to_state)
        first_hidden, first_cell = (
            s.view(-1).expand(len(x), 1, -1) for s in (self.hidden, self.cell)
        )
        hidden, cell = first_hidden[:, :0], first_cell[:, :0]
        fronts = []
        with torch.autocast(x.device.type, enabled=False):
            for front, column in enumerate(sums):
                top, end = max(0, front - width + 1), min(front + 1, height)  # rows in the image
                if front < height:  # a row begins: at its left there is what has been learnt
                    hidden = torch.cat([hidden, first_hidden], 1)
                    cell = torch.cat([cell, first_cell], 1)
                above = first_hidden if front < width else hidden[:, :0]
                above = torch.cat([above, hidden[:, :-1]], 1)
                left, cell = (s[:, -(end - top) :] for s in (hidden, cell))
                near = torch.cat([above, left], 2)
                hidden, cell = lstm(column[:, top:end] + near @ weight, cell)
                fronts.append(F.pad(hidden, (0, 0, top, height - end)))
        return unskew(torch.stack(fronts).permute(1, 3, 2, 0))

    def trace(self, t: Tracer, x: int, condition: int | None, direction: str) -> int:
        """``direction``: that in which it goes, seen from where it is traced."""
        sums = _traced_sums(t, self.input_to_state, x, condition)
        return t.lstm(direction, sums, self.state_to_state.weight, self.hidden, self.cell)


class DiagonalBiLSTM(nn.Module):
    """Both directions, the right one's map shifted down by one row and added (section 3.2).

    (B, inputs, H, W) -> (B, h, H, W). It sees everything that was coded before::

        row -2    o o o o o o o
        row -1    o o o o o o o
        row  0    o o o x . . .
    """

    def __init__(self, inputs: int, channels: int, colours: int) -> None:
        super().__init__()
        self.left = DiagonalLSTM(inputs, channels, colours)
        self.right = DiagonalLSTM(inputs, channels, colours)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        mirrored = None if condition is None else condition.flip(3)
        right = self.right(x.flip(3), mirrored).flip(3)
        return self.left(x, condition) + shift_down(right)  # type: ignore[no-any-return]

    def trace(self, t: Tracer, x: int, condition: int | None) -> int:
        left = self.left.trace(t, x, condition, "left")
        right = self.right.trace(t, x, condition, "right")
        return t.add(left, right, taps=((0, 0), (-1, 0)), parts=1)


# --- PixelRNN: what is around the layers (section 3.3, table 1) ----------------------------------


class ResidualBlock(nn.Module):
    """PixelCNN's block, figure 5 left: 2 h -> h by 1x1, h -> h by 3x3, h -> 2 h by 1x1, mask B.

    (B, 2 h, H, W) -> (B, 2 h, H, W), to be added to its input by `Stack`::

        row -1    o o o
        row  0    o x .
    """

    def __init__(self, channels: int, colours: int) -> None:
        super().__init__()
        self.enter = MaskedConv2d("B", 2 * channels, channels, (1, 1), colours, gain=2**0.5)
        self.inner = MaskedConv2d("B", channels, channels, (3, 3), colours, gain=2**0.5)
        self.leave = MaskedConv2d("B", channels, 2 * channels, (1, 1), colours)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(F.relu(self.inner(F.relu(self.enter(F.relu(x))))))  # type: ignore[no-any-return]

    def trace(self, t: Tracer, x: int, condition: int | None) -> int:
        for layer in (self.enter, self.inner, self.leave):
            x = layer.trace(t, t.activate("relu", x))
        return x


class LSTMBlock(nn.Module):
    """PixelRNN's block, figure 5 right: an LSTM from 2 h features to h, and a 1x1 back to 2 h.

    (B, 2 h, H, W) -> (B, 2 h, H, W), to be added to its input by `Stack`. A conditional network
    has a ``condition`` (B, c, H, W), which an unmasked 1x1 maps to the gates (section 3.6).
    """

    def __init__(
        self,
        layer: type[RowLSTM] | type[DiagonalBiLSTM],
        channels: int,
        colours: int,
        condition: int = 0,
    ) -> None:
        super().__init__()
        self.layer = layer(2 * channels, channels, colours)
        self.condition = Pointwise(condition, 4 * channels) if condition else None
        self.leave = MaskedConv2d("B", channels, 2 * channels, (1, 1), colours)

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        bias = self.condition(condition) if self.condition is not None else None
        return self.leave(self.layer(x, bias))  # type: ignore[no-any-return]

    def trace(self, t: Tracer, x: int, condition: int | None) -> int:
        bias = None
        if self.condition is not None and condition is not None:
            bias = self.condition.trace(t, condition)
        return self.leave.trace(t, self.layer.trace(t, t.activate("identity", x), bias))


class Stack(nn.Module):
    """Blocks one after the other, with residual and skip connections, either or none (3.3).

    (B, 2 h, H, W) -> (B, 2 h, H, W). With ``residual`` each block's output is added to its input,
    otherwise it takes its place. With ``skip`` the result is the sum of learnt 1x1 maps of what
    every block gives, otherwise what the last one gives.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], channels: int, colours: int, residual: bool, skip: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.residual = residual
        wide, gain = 2 * channels, max(1, len(blocks)) ** -0.5
        self.skips = nn.ModuleList(
            MaskedConv2d("B", wide, wide, (1, 1), colours, gain=gain) for _ in blocks if skip
        )

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        features = [x]
        for block in self.blocks:
            y = block(features[-1], *condition)
            features.append(features[-1] + y if self.residual else y)
        if not self.skips:
            return features[-1]
        return torch.stack([s(f) for s, f in zip(self.skips, features[1:], strict=True)]).sum(0)

    def trace(self, t: Tracer, x: int, condition: int | None = None) -> int:
        features = [x]
        for block in self.blocks:
            y = traced(block, t, features[-1], condition)
            features.append(t.add(features[-1], y, parts=1) if self.residual else y)
        if not self.skips:
            return features[-1]
        pairs = zip(self.skips, features[1:], strict=True)
        return t.add(*(traced(s, t, t.activate("identity", f)) for s, f in pairs), parts=1)


class OutputLayers(nn.Sequential):
    """The last rows of table 1: twice a rectifier and a 1x1 (mask B), then the output's 1x1.

    (B, inputs, H, W) -> (B, outputs, H, W).
    """

    def __init__(self, inputs: int, channels: int, outputs: int, colours: int) -> None:
        def layer(inputs: int, outputs: int, gain: float) -> MaskedConv2d:
            return MaskedConv2d("B", inputs, outputs, (1, 1), colours, gain=gain)

        super().__init__(
            nn.ReLU(), layer(inputs, channels, 2**0.5),
            nn.ReLU(), layer(channels, channels, 2**0.5),
            nn.ReLU(), layer(channels, outputs, 0.5),
        )  # fmt: skip

    def trace(self, t: Tracer, x: int) -> int:
        for layer in self:
            if isinstance(layer, MaskedConv2d):
                x = layer.trace(t, t.activate("relu", x))
        return x


# --- Gated PixelCNN ------------------------------------------------------------------------------


def gated(x: Tensor) -> Tensor:
    """(B, 2 C, H, W) -> (B, C, H, W): tanh of one half times the sigmoid of the other."""
    value, gate = x.chunk(2, 1)
    return torch.tanh(value) * torch.sigmoid(gate)


class GatedLayer(nn.Module):
    """A layer of Gated PixelCNN: two stacks, without a blind spot between them.

    (vertical, horizontal) -> (vertical, horizontal), each (B, channels, H, W). With a 3x3 kernel,
    what the vertical stack sees of its input, and the horizontal stack of its own; it also gets
    the vertical stack's sums, shifted down by a row so that they tell of the rows above only::

        row -1    o o o
        row  0    o x o            o x .

    The first layer has mask A and takes the image for both; its horizontal stack has nothing to
    add its output to.
    """

    def __init__(
        self, mask: Literal["A", "B"], inputs: int, channels: int, kernel: int, colours: int
    ) -> None:
        super().__init__()
        self.vertical = DownShiftedConv2d(inputs, 2 * channels, (kernel // 2 + 1, kernel))
        self.horizontal = MaskedConv2d(mask, inputs, 2 * channels, (1, kernel), colours, parts=2)
        self.down = Pointwise(2 * channels, 2 * channels)
        self.leave = MaskedConv2d("B", channels, channels, (1, 1), colours)
        self.residual = mask == "B"

    def forward(self, vertical: Tensor, horizontal: Tensor) -> tuple[Tensor, Tensor]:
        sums = self.vertical(vertical)
        inner = gated(self.horizontal(horizontal) + self.down(shift_down(sums)))
        y = self.leave(inner)
        return gated(sums), horizontal + y if self.residual else y

    def trace(self, t: Tracer, vertical: int, horizontal: int) -> tuple[int, int]:
        """The vertical maps are traced a row further down, where the horizontal stack reads them:
        so a row of theirs tells of the rows above only. What that moves into the image is zero.
        """
        sums = self.vertical.trace(t, vertical, down=int(vertical == INPUT))
        source = t.activate("identity", horizontal) if self.residual else horizontal
        told = t.activate("identity", sums, blank=1)
        inner = t.add(self.horizontal.trace(t, source), self.down.trace(t, told), parts=2)
        vertical = t.gate("tanh", sums, blank=1)
        y = self.leave.trace(t, t.gate("tanh", inner, parts=1))
        return vertical, t.add(horizontal, y, parts=1) if self.residual else y


# --- PixelCNN++ (sections 2.2 to 2.5, and 3.2) ---------------------------------------------------


class ShiftedConv2d(nn.Conv2d):
    """A convolution that sees no row below, and ``right`` columns to the right.

    (B, inputs, H, W) -> (B, outputs, H / stride, W / stride), rounded up.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int],
        stride: int,
        gain: float,
        right: int,
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride)
        rows, columns = kernel
        self.border = (columns - 1 - right, right, rows - 1, 0)
        initialise(self.weight, inputs * rows * columns, gain)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.border))

    def trace(self, t: Tracer, x: int, bias: Tensor | None = None, down: int = 0) -> int:
        """``bias`` takes the place of its own; the map is shifted ``down``."""
        bias = self.bias if bias is None else bias
        return t.linear(x, self.weight.flatten(2), bias, self._taps(down), stride=self.stride[0])

    def trace_first(self, t: Tracer, down: int, right: int) -> int:
        """Of the image, with a last channel of ones; the map is shifted.

        Where that leaves nothing there is no bias either: it belongs to the input's last channel,
        which is one half inside of the image, at the position that the map comes from.
        """
        taps = self._taps(down, right)
        weight = self.weight.flatten(2).clone()
        assert self.bias is not None
        weight[:, -1, taps.index((-down, -right))] += self.bias
        weight[:, -1] *= 2
        return t.linear(INPUT, weight, None, taps)

    def _taps(self, down: int = 0, right: int = 0) -> Taps:
        left, _, up, _ = self.border
        rows, columns = self.kernel_size
        return kernel_taps(rows, columns, up + down, left + right)


class DownShiftedConv2d(ShiftedConv2d):
    """A convolution that sees its own row and the rows above: the downward stream's.

    A 2x3::

        row -1    o o o
        row  0    o x o

    Once an image has been shifted down by a row, its own row is no secret any more.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int] = (2, 3),
        stride: int = 1,
        gain: float = 1.0,
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, gain, kernel[1] // 2)


class DownRightShiftedConv2d(ShiftedConv2d):
    """A convolution that sees up and left: the downward and rightward stream's.

    A 2x2::

        row -1    o o
        row  0    o x
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: tuple[int, int] = (2, 2),
        stride: int = 1,
        gain: float = 1.0,
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, gain, 0)


def _traced_deconvolution(t: Tracer, layer: nn.ConvTranspose2d, x: int, cut: int) -> int:
    """One of stride 2 whose first ``cut`` columns are cut off."""
    weight = layer.weight.transpose(0, 1)
    _, _, rows, columns = weight.shape
    taps = tuple((-r, cut - c) for r in range(rows) for c in range(columns))
    return t.linear(t.activate("identity", x), weight.flatten(2), layer.bias, taps, stride=-2)


class DownShiftedDeconv2d(nn.ConvTranspose2d):
    """Upsampling by a transposed 2x3 of stride 2, for the downward stream (section 2.3).

    (B, inputs, h, w) -> (B, outputs, H, W) for an H x W whose half, rounded up, is h x w. Each
    input X reaches two rows and three columns, the first of them in a cell to the left::

        row 0    o X o
        row 1    o o o
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, (2, 3), 2)
        initialise(self.weight, 1.5 * inputs)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def enlarge(self, x: Tensor, height: int, width: int) -> Tensor:
        """The enlarged map, cut to the size asked for."""
        return self(x)[:, :, :height, 1 : 1 + width]  # type: ignore[no-any-return]

    def trace(self, t: Tracer, x: int) -> int:
        return _traced_deconvolution(t, self, x, cut=1)


class DownRightShiftedDeconv2d(nn.ConvTranspose2d):
    """Upsampling by a transposed 2x2 of stride 2, for the downward and rightward stream.

    (B, inputs, h, w) -> (B, outputs, H, W), as above. Each input reaches down and right only::

        row 0    X o
        row 1    o o
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, (2, 2), 2)
        initialise(self.weight, inputs)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def enlarge(self, x: Tensor, height: int, width: int) -> Tensor:
        """The enlarged map, cut to the size asked for."""
        return self(x)[:, :, :height, :width]  # type: ignore[no-any-return]

    def trace(self, t: Tracer, x: int) -> int:
        return _traced_deconvolution(t, self, x, cut=0)


def concat_elu(x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 2 C, H, W): the ELU of a map and of its negative."""
    return F.elu(torch.cat([x, -x], 1))


class GatedResidual(nn.Module):
    """PixelCNN++'s residual layer, for either stream or, with 1x1s, for neither.

    (B, C, H, W) -> (B, C, H, W): ``x + a * sigmoid(b)``, where a and b are two halves of a
    convolution of a convolution, each after a concat-ELU. The first also gets a 1x1 of a
    ``shortcut`` (B, shortcuts, H, W), if there is one: the other stream, or the other half of the
    network (section 2.4). Dropout stands between the two (2.5), and a class adds a bias of its own
    to the second (3.2), which is a 1x1 if ``pointwise``.
    """

    def __init__(
        self,
        convolution: Callable[..., nn.Module],
        channels: int,
        *,
        shortcuts: int = 0,
        dropout: float = 0.0,
        classes: int = 0,
        pointwise: bool = False,
    ) -> None:
        super().__init__()
        second = Pointwise if pointwise else convolution
        self.first = convolution(2 * channels, channels)
        self.second = second(2 * channels, 2 * channels, gain=0.3)
        self.shortcut = Pointwise(2 * shortcuts, channels) if shortcuts else None
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Parameter(torch.zeros(classes, 2 * channels)) if classes else None

    def forward(
        self, x: Tensor, shortcut: Tensor | None = None, label: Tensor | None = None
    ) -> Tensor:
        y = self.first(concat_elu(x))
        if self.shortcut is not None and shortcut is not None:
            y = y + self.shortcut(concat_elu(shortcut))
        y = self.second(self.dropout(concat_elu(y)))
        if self.classes is not None and label is not None:
            y = y + self.classes[label][:, :, None, None]
        value, gate = y.chunk(2, 1)
        return x + value * torch.sigmoid(gate)  # type: ignore[no-any-return]

    def trace(self, t: Tracer, x: int, shortcuts: Sequence[int] = ()) -> int:
        """``shortcuts``: the maps that a short-cut consists of, one after the other."""
        y = traced(self.first, t, t.activate("concat_elu", x))
        if shortcuts:
            y = t.add(y, *self._traced_shortcuts(t, shortcuts))
        bias: Any = self.second.bias
        if self.classes is not None:
            bias = bias + self.classes
        y = traced(self.second, t, t.activate("concat_elu", y), bias)
        return t.add(x, t.gate("linear", y))

    def _traced_shortcuts(self, t: Tracer, sources: Sequence[int]) -> list[int]:
        assert self.shortcut is not None
        weight, bias = self.shortcut.weight.flatten(2), self.shortcut.bias
        half, sums, at = weight.shape[1] // 2, list[int](), 0
        for source in sources:
            size = t.nodes[source].channels
            both = weight[:, at : at + size], weight[:, half + at : half + at + size]
            sums.append(t.linear(t.activate("concat_elu", source), torch.cat(both, 1), bias))
            bias, at = None, at + size
        return sums
