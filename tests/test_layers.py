"""The layers: each against the plainest way to say what it does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pixelzip.models.networks import layers
from pixelzip.models.networks.layers import (
    DiagonalBiLSTM,
    DiagonalLSTM,
    DownRightShiftedConv2d,
    DownRightShiftedDeconv2d,
    DownShiftedConv2d,
    DownShiftedDeconv2d,
    MaskedConv2d,
    RowLSTM,
)

COLOURS = 3
INPUTS, UNITS = 6, 4


def alive(layer: nn.Module) -> nn.Module:
    """The layer in double precision, with no parameter at zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return layer.double()


def image(height: int, width: int, channels: int = INPUTS) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, height, width, generator=generator, dtype=torch.float64)


def step(sums: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Equation 3 for one pixel: (B, 4 h) sums, (B, h) cells."""
    o, f, i, g = (sums[:, n * UNITS : (n + 1) * UNITS] for n in range(4))
    cell = f.sigmoid() * cell + i.sigmoid() * g.tanh()
    return o.sigmoid() * cell.tanh(), cell


@pytest.mark.parametrize("size", [(5, 7), (1, 4), (6, 1)])
def test_row_lstm_pixel_by_pixel(size: tuple[int, int]) -> None:
    height, width = size
    layer = RowLSTM(INPUTS, UNITS, COLOURS)
    alive(layer)
    x, condition = image(height, width), image(height, width, 4 * UNITS)
    found = layer(x, condition)
    sums = layer.input_to_state(x) + condition
    weight = layer.state_to_state.weight  # (4 h, h, 3)
    states = {
        (-1, c): (layer.hidden[:, 0].expand(2, -1), layer.cell[:, 0].expand(2, -1))
        for c in range(width)
    }
    for r in range(height):
        for c in range(width):
            own = sums[:, :, r, c]
            for tap in range(3):
                if 0 <= c + tap - 1 < width:
                    own = own + states[r - 1, c + tap - 1][0] @ weight[:, :, tap].T
            states[r, c] = step(own, states[r - 1, c][1])
            torch.testing.assert_close(found[:, :, r, c], states[r, c][0])


def one_direction(layer: DiagonalLSTM, x: Tensor, condition: Tensor) -> Tensor:
    """Left to right, each pixel from the states to its left and above it."""
    height, width = x.shape[2:]
    sums = layer.input_to_state(x) + condition
    weight = layer.state_to_state.weight  # (4 h, h, 2): above, left
    start = layer.hidden[:, 0].expand(len(x), -1), layer.cell[:, 0].expand(len(x), -1)
    states: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    out = torch.zeros(len(x), UNITS, height, width, dtype=x.dtype)
    for r in range(height):
        for c in range(width):
            above, left = states.get((r - 1, c), start), states.get((r, c - 1), start)
            own = sums[:, :, r, c] + above[0] @ weight[:, :, 0].T + left[0] @ weight[:, :, 1].T
            states[r, c] = step(own, left[1])
            out[:, :, r, c] = states[r, c][0]
    return out


@pytest.mark.parametrize("size", [(5, 7), (7, 3), (1, 4), (6, 1)])
def test_diagonal_bilstm_pixel_by_pixel(size: tuple[int, int]) -> None:
    layer = DiagonalBiLSTM(INPUTS, UNITS, COLOURS)
    alive(layer)
    x, condition = image(*size), image(*size, 4 * UNITS)
    left = one_direction(layer.left, x, condition)
    right = one_direction(layer.right, x.flip(3), condition.flip(3)).flip(3)
    expected = left.clone()
    expected[:, :, 1:] += right[:, :, :-1]
    torch.testing.assert_close(layer(x, condition), expected)


def test_skew() -> None:
    x = image(4, 5)
    skewed = layers.skew(x)
    assert skewed.shape == (2, INPUTS, 4, 8)
    for r in range(4):
        for c in range(8):
            expected = x[:, :, r, c - r] if 0 <= c - r < 5 else torch.zeros(2, INPUTS).double()
            assert torch.equal(skewed[:, :, r, c], expected)
    assert torch.equal(layers.unskew(skewed), x)


def test_shifts() -> None:
    x = image(3, 4)
    down, right = layers.shift_down(x), layers.shift_right(x)
    assert torch.equal(down[:, :, 1:], x[:, :, :-1])
    assert torch.equal(right[..., 1:], x[..., :-1])
    assert not down[:, :, 0].any()
    assert not right[..., 0].any()


def seen(layer: nn.Module, channels: int = INPUTS) -> set[tuple[int, int]]:
    """The offsets that the output at the middle of a map depends on."""
    x = image(9, 9, channels).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x)[:, :, 4, 4].sum(), x)
    return {(int(r) - 4, int(c) - 4) for r, c in gradient.abs().sum((0, 1)).nonzero()}


def drawn(text: str | None) -> set[tuple[int, int]]:
    """The offsets in the drawing of a docstring: o, and x for the pixel itself."""
    assert text is not None
    rows = [line for line in text.splitlines() if line.startswith("        row ")]
    origin = rows[-1].index("x")
    return {
        (int(line[12:16]), (i - origin) // 2)
        for line in rows
        for i, letter in enumerate(line)
        if letter in "ox" and i > 15
    }


@pytest.mark.parametrize(
    "layer",
    [
        MaskedConv2d("B", INPUTS, 6, (3, 3), COLOURS),
        DownShiftedConv2d(INPUTS, 3),
        DownRightShiftedConv2d(INPUTS, 3),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_fields_are_as_drawn(layer: nn.Module) -> None:
    assert seen(layer.double()) == drawn(layer.__doc__)


@pytest.mark.parametrize("mask", ["A", "B"])
@pytest.mark.parametrize("parts", [1, 4])
def test_masks_split_the_colours(mask: str, parts: int) -> None:
    layer = MaskedConv2d("A" if mask == "A" else "B", 3, 12, (7, 7), COLOURS, parts=parts)
    layer.double()
    x = image(9, 9, 3).requires_grad_()
    out = layer(x)
    for channel in range(12):
        colour = channel % (12 // parts) * 3 // (12 // parts)
        (gradient,) = torch.autograd.grad(out[:, channel, 4, 4].sum(), x, retain_graph=True)
        own = [bool(gradient[:, c, 4, 4].any()) for c in range(3)]
        assert own == [c < colour if mask == "A" else c <= colour for c in range(3)]
        before = gradient[:, :, 1:4, 1:8].abs().amin()
        assert before > 0  # all colours of all pixels before
        assert gradient[:, :, 4, 1:4].abs().amin() > 0
        assert not gradient[:, :, 4, 5:].any()
        assert not gradient[:, :, 5:].any()


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1), (2, 5)])
def test_strides_there_and_back(size: tuple[int, int]) -> None:
    """Any size is halved, rounded up, and comes back; and what comes back is causal."""
    down, up = DownShiftedConv2d(INPUTS, 5, stride=2), DownShiftedDeconv2d(5, INPUTS)
    right, back = DownRightShiftedConv2d(INPUTS, 5, stride=2), DownRightShiftedDeconv2d(5, INPUTS)
    x = image(*size).requires_grad_()
    half = tuple((side + 1) // 2 for side in size)
    for shrink, enlarge in ((down.double(), up.double()), (right.double(), back.double())):
        small = shrink(x)
        assert small.shape[2:] == half
        out = enlarge.enlarge(small, *size)
        assert out.shape == x.shape
        for r, c in {(0, 0), (size[0] - 1, size[1] - 1), (size[0] // 2, size[1] // 2)}:
            (gradient,) = torch.autograd.grad(out[:, :, r, c].sum(), x, retain_graph=True)
            assert gradient[:, :, : r + 1].any()
            assert not gradient[:, :, r + 1 :].any()
            if shrink is right:
                assert not gradient[:, :, :, c + 1 :].any()


def test_concat_elu_and_gates() -> None:
    x = image(3, 3, 4)
    both = layers.concat_elu(x)
    assert both.shape == (2, 8, 3, 3)
    torch.testing.assert_close(both[:, :4], torch.where(x > 0, x, x.exp() - 1))
    torch.testing.assert_close(both[:, 4:], torch.where(x < 0, -x, (-x).exp() - 1))
    torch.testing.assert_close(layers.gated(x), x[:, :2].tanh() * x[:, 2:].sigmoid())
