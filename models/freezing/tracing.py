"""Tracing: what each layer of the papers' networks becomes in a program, in floats.

The functions mirror the layers' ``forward`` methods. Weights keep their values here;
`pixelzip.models.freezing.freeze` turns them into integers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelzip.models.networks import layers, outputs, pixelcnnpp
from pixelzip.models.networks.gated import GatedPixelCNN
from pixelzip.models.networks.multiscale import MultiScale, Upsampling
from pixelzip.models.networks.pixelcnn import PixelCNN
from pixelzip.models.networks.pixelcnnpp import PixelCNNpp
from pixelzip.models.networks.pixelrnn import PixelRNN
from pixelzip.models.networks.small import AutoregressiveChannels, NetworkInNetwork, SmallPixelCNNpp
from pixelzip.models.programs.program import Node, Program

Taps = tuple[tuple[int, int], ...]
Tensors = dict[str, NDArray[np.float64]]
INPUT = 0
SELF: Taps = ((0, 0),)


class Tracer:
    """A program in the making. Its methods add a node each, and return its number."""

    def __init__(self, colours: int, level: int = 0) -> None:
        self.nodes = [Node("input", (), colours + 1, level=level)]
        self.tensors: Tensors = {}
        self.activations: dict[tuple[int, str], int] = {}

    def _node(self, op: str, inputs: Sequence[int], channels: int, **members: object) -> int:
        level = self.nodes[inputs[0]].level if inputs else 0
        members = {"level": level, **members}
        self.nodes.append(Node(op, tuple(inputs), channels, **members))  # type: ignore[arg-type]
        return len(self.nodes) - 1

    def linear(
        self,
        source: int,
        weight: Tensor,
        bias: Tensor,
        taps: Taps = SELF,
        *,
        stride: int = 1,
        parts: int = 0,
    ) -> int:
        """``weight`` (outputs, inputs, taps); the input's last channel may be missing."""
        known = torch.nonzero(weight.abs().amax((0, 1))).flatten().tolist() or [0]
        weight, taps = weight[:, :, known], tuple(taps[k] for k in known)
        channels = self.nodes[source].channels
        missing = torch.zeros(len(weight), channels - weight.shape[1], len(taps))
        weight = torch.cat([weight, missing.to(weight)], 1)
        level = self.nodes[source].level + {1: 0, 2: 1, -2: -1}[stride]
        made = self._node(
            "linear", [source], len(weight), taps=taps, stride=stride, level=level, parts=parts
        )
        self.tensors[f"{made}.weight"] = _numbers(weight.permute(2, 1, 0).flatten(0, 1))
        self.tensors[f"{made}.bias"] = _numbers(bias)
        return made

    def add(self, *sources: int, taps: Taps = (), parts: int = 0) -> int:
        taps = taps or SELF * len(sources)
        return self._node("add", sources, self.nodes[sources[0]].channels, taps=taps, parts=parts)

    def activate(self, kind: str, source: int, blank: int = 0) -> int:
        """Narrow; the same activation of the same map is made once."""
        if (source, kind) not in self.activations:
            node = self.nodes[source]
            channels = node.channels * (2 if kind == "concat_elu" else 1)
            made = self._node(
                "activate", [source], channels, kind=kind, parts=node.parts, blank=blank
            )
            self.activations[source, kind] = made
        return self.activations[source, kind]

    def gate(self, kind: str, source: int, parts: int = 0, blank: int = 0) -> int:
        channels = self.nodes[source].channels // 2
        return self._node("gate", [source], channels, kind=kind, parts=parts, blank=blank)

    def lstm(self, kind: str, source: int, layer: layers.RowLSTM | layers.DiagonalLSTM) -> int:
        made = self._node("lstm", [source], len(layer.hidden), kind=kind, parts=1)
        weight = layer.state_to_state.weight  # (4 h, h, taps)
        self.tensors[f"{made}.weight"] = _numbers(weight.permute(2, 1, 0).flatten(0, 1))
        self.tensors[f"{made}.hidden"] = _numbers(layer.hidden.flatten())
        self.tensors[f"{made}.cell"] = _numbers(layer.cell.flatten())
        return made

    # PixelRNN's layers.

    def masked(self, layer: layers.MaskedConv2d, source: int, parts: int = 1) -> int:
        weight = layer.weight * layer.mask
        _, _, rows, columns = weight.shape
        return self.linear(
            source, weight.flatten(2), layer.bias, _taps(rows, columns, columns // 2), parts=parts
        )

    def stack(self, stack: layers.Stack, x: int, condition: int | None = None) -> int:
        features = [x]
        for block in stack.blocks:
            y = self.block(block, features[-1], condition)
            features.append(self.add(features[-1], y, parts=1) if stack.residual else y)
        if not len(stack.skips):
            return features[-1]
        return self.add(
            *(
                self.masked(skip, self.activate("identity", f))  # type: ignore[arg-type]
                for skip, f in zip(stack.skips, features[1:], strict=True)
            ),
            parts=1,
        )

    def block(self, block: nn.Module, x: int, condition: int | None) -> int:
        if isinstance(block, layers.ResidualBlock):
            y = self.masked(block.enter, self.activate("relu", x))
            y = self.masked(block.inner, self.activate("relu", y))
            return self.masked(block.leave, self.activate("relu", y))
        assert isinstance(block, layers.LSTMBlock)
        bias = None
        if block.condition is not None:
            assert condition is not None
            bias = self.linear(condition, block.condition.weight.flatten(2), _bias(block.condition))
        x = self.activate("identity", x)

        def sums(layer: layers.RowLSTM | layers.DiagonalLSTM) -> int:
            found = self.masked(layer.input_to_state, x, parts=4)
            return found if bias is None else self.add(found, bias, parts=4)

        layer = block.layer
        if isinstance(layer, layers.RowLSTM):
            y = self.lstm("row", sums(layer), layer)
        else:
            left = self.lstm("left", sums(layer.left), layer.left)
            right = self.lstm("right", sums(layer.right), layer.right)
            y = self.add(left, right, taps=((0, 0), (-1, 0)), parts=1)
        return self.masked(block.leave, y)

    def top(self, top: layers.OutputLayers, x: int) -> int:
        for layer in top:
            if isinstance(layer, layers.MaskedConv2d):
                x = self.masked(layer, self.activate("relu", x))
        return x

    # PixelCNN++'s layers.

    def shifted(
        self, layer: layers.ShiftedConv2d, source: int, bias: Tensor | None = None, down: int = 0
    ) -> int:
        weight, (left, _, up, _) = layer.weight, layer.border
        _, _, rows, columns = weight.shape
        taps = tuple((r - up - down, c - left) for r in range(rows) for c in range(columns))
        bias = _bias(layer) if bias is None else bias
        return self.linear(source, weight.flatten(2), bias, taps, stride=layer.stride[0])

    def first(self, layer: layers.ShiftedConv2d, down: int, right: int) -> int:
        """A convolution of the image whose map is then shifted.

        Where that leaves nothing there is no bias either: it belongs to the input's last channel,
        which is one half inside of the image, at the position that the map comes from.
        """
        weight, (left, _, up, _) = layer.weight.flatten(2), layer.border
        _, _, rows, columns = layer.weight.shape
        taps = tuple((r - up - down, c - left - right) for r in range(rows) for c in range(columns))
        weight = weight.clone()
        weight[:, -1, taps.index((-down, -right))] += _bias(layer)
        weight[:, -1] *= 2
        return self.linear(INPUT, weight, torch.zeros(len(weight)), taps)

    def residual(self, layer: layers.GatedResidual, x: int, shortcuts: Sequence[int] = ()) -> int:
        y = self._either(layer.first, self.activate("concat_elu", x))
        if shortcuts:
            assert layer.shortcut is not None
            weight = layer.shortcut.weight.flatten(2)
            half, sums, at = weight.shape[1] // 2, [y], 0
            for k, source in enumerate(shortcuts):
                size = self.nodes[source].channels
                mine = torch.cat(
                    [weight[:, at : at + size], weight[:, half + at : half + at + size]], 1
                )
                bias = _bias(layer.shortcut) if k == 0 else torch.zeros(len(weight))
                sums.append(self.linear(self.activate("concat_elu", source), mine, bias))
                at += size
            y = self.add(*sums)
        bias = _bias(layer.second)
        if layer.classes is not None:
            bias = bias + layer.classes
        y = self._either(layer.second, self.activate("concat_elu", y), bias)
        return self.add(x, self.gate("linear", y))

    def _either(self, layer: nn.Module, source: int, bias: Tensor | None = None) -> int:
        """A shifted convolution, or a 1x1."""
        if isinstance(layer, layers.ShiftedConv2d):
            return self.shifted(layer, source, bias)
        assert isinstance(layer, nn.Conv2d)
        bias = _bias(layer) if bias is None else bias
        return self.linear(source, layer.weight.flatten(2), bias)

    def streams(
        self,
        layer: pixelcnnpp.Streams,
        down: int,
        right: int,
        shortcut: tuple[int, int] | None,
    ) -> tuple[int, int]:
        if shortcut is None:
            down = self.residual(layer.down, down)
            return down, self.residual(layer.right, right, [down])
        down = self.residual(layer.down, down, [shortcut[0]])
        return down, self.residual(layer.right, right, [down, shortcut[1]])

    def begin(self, layer: pixelcnnpp.First) -> tuple[int, int]:
        down = self.first(layer.down, 1, 0)
        return down, self.add(self.first(layer.above, 1, 0), self.first(layer.left, 0, 1))

    def enlarge(self, layer: nn.ConvTranspose2d, x: int, shift: int) -> int:
        """A transposed convolution of stride 2, whose first ``shift`` columns are cut off."""
        weight = layer.weight.transpose(0, 1)
        _, _, rows, columns = weight.shape
        taps = tuple((-r, shift - c) for r in range(rows) for c in range(columns))
        x = self.activate("identity", x)
        return self.linear(x, weight.flatten(2), _bias(layer), taps, stride=-2)


def _taps(rows: int, columns: int, middle: int) -> Taps:
    """Offsets of a kernel whose last row is the position's own."""
    return tuple((r - rows + 1, c - middle) for r in range(rows) for c in range(columns))


def _numbers(tensor: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = tensor.detach().double().contiguous().numpy()
    return found


def _bias(layer: nn.Module) -> Tensor:
    bias = layer.bias
    assert isinstance(bias, Tensor)
    return bias


@torch.no_grad()
def trace(network: nn.Module, lag: int | None) -> list[tuple[Program, Tensors]]:
    """The programs of a network: one, or three of a `MultiScale`, see `pixelzip.models.frozen`.

    Raises ValueError if the network's output cannot code.
    """
    if isinstance(network, MultiScale):
        return _multi_scale(network)
    assert isinstance(network, outputs.Network)
    tracer = Tracer(_colours(network.output))
    _TRUNKS[type(network.trunk)](tracer, network.trunk)
    return [(_program(tracer, network.trunk, network.output, lag), tracer.tensors)]


def _colours(output: outputs.Output) -> int:
    return output.parameters_per_pixel if isinstance(output, outputs.Binary) else output.colours


def _program(tracer: Tracer, trunk: nn.Module, output: outputs.Output, lag: int | None) -> Program:
    if isinstance(output, outputs.Continuous):
        raise ValueError("a continuous mixture is a likelihood to compare and cannot code")
    kinds = {outputs.Softmax: "softmax", outputs.Binary: "binary", outputs.Mixture: "mixture"}
    program = Program(
        colours=_colours(output),
        output=kinds[type(output)],
        components=output.components if isinstance(output, outputs.Mixture) else 0,
        coupled=not isinstance(trunk, PixelCNN | PixelRNN | GatedPixelCNN),
        lag=lag,
        beyond=getattr(trunk, "beyond", 0),
        classes=_classes(trunk),
        nodes=tuple(tracer.nodes),
    )
    return program


def _classes(trunk: nn.Module) -> int:
    found = [m.classes for m in trunk.modules() if isinstance(m, layers.GatedResidual)]
    return len(found[0]) if found and found[0] is not None else 0


def _pixelcnn(t: Tracer, trunk: PixelCNN) -> None:
    t.top(trunk.top, t.stack(trunk.stack, t.masked(trunk.first, INPUT)))


def _pixelrnn(t: Tracer, trunk: PixelRNN) -> None:
    conditional = [m.condition for m in trunk.modules() if isinstance(m, layers.LSTMBlock)]
    given = None
    if conditional and conditional[0] is not None:
        given = t._node("given", [], conditional[0].in_channels)
    t.top(trunk.top, t.stack(trunk.stack, t.masked(trunk.first, INPUT), given))


def _gated(t: Tracer, trunk: GatedPixelCNN) -> None:
    """The vertical maps are traced a row further down, where the horizontal stack reads them: so
    a row of theirs tells of the rows above only. What that moves into the image is zero.
    """
    vertical = horizontal = INPUT
    for layer in [trunk.first, *trunk.layers]:
        assert isinstance(layer, layers.GatedLayer)
        sums = t.shifted(layer.vertical, vertical, down=int(vertical == INPUT))
        source = t.activate("identity", horizontal) if layer.residual else horizontal
        told = t.activate("identity", sums, blank=1)
        inner = t.add(
            t.masked(layer.horizontal, source, parts=2),
            t.linear(told, layer.down.weight.flatten(2), _bias(layer.down)),
            parts=2,
        )
        vertical = t.gate("tanh", sums, blank=1)
        y = t.masked(layer.leave, t.gate("tanh", inner, parts=1))
        horizontal = t.add(horizontal, y, parts=1) if layer.residual else y
    t.top(trunk.top, horizontal)


def _pixelcnnpp(t: Tracer, trunk: PixelCNNpp) -> None:
    down, right = t.begin(trunk.first)
    kept = [(down, right)]
    for layer in trunk.encoder:
        if isinstance(layer, pixelcnnpp.Shrink):
            down = t.shifted(layer.down, t.activate("identity", down))
            right = t.shifted(layer.right, t.activate("identity", right))
        else:
            assert isinstance(layer, pixelcnnpp.Streams)
            down, right = t.streams(layer, down, right, None)
        kept.append((down, right))
    down, right = kept.pop()
    for layer in trunk.decoder:
        if isinstance(layer, pixelcnnpp.Enlarge):
            down, right = t.enlarge(layer.down, down, 1), t.enlarge(layer.right, right, 0)
        else:
            assert isinstance(layer, pixelcnnpp.Streams)
            shortcut = kept.pop()
            down, right = t.streams(layer, down, right, shortcut if trunk.shortcuts else None)
    t.linear(t.activate("elu", right), trunk.top.weight.flatten(2), _bias(trunk.top))


def _small(t: Tracer, trunk: SmallPixelCNNpp) -> None:
    def more(layer: nn.Module, x: int) -> int:
        if isinstance(layer, NetworkInNetwork):
            for inner in layer.layers:
                x = t.residual(inner, x)  # type: ignore[arg-type]
            return x
        assert isinstance(layer, AutoregressiveChannels)
        width = layer.width
        done = [t._node("slice", [x], width)]
        for i, inner in enumerate(layer.layers, 1):
            mine = t._node("slice", [x], width, start=i * width)
            done.append(t.residual(inner, mine, list(done)))  # type: ignore[arg-type]
        return t._node("cat", done, t.nodes[x].channels)

    down, right = t.begin(trunk.first)
    for i, layer in enumerate(trunk.layers):
        assert isinstance(layer, pixelcnnpp.Streams)
        down, right = t.streams(layer, down, right, None)
        if i % 2 == 0 and len(trunk.more_down):
            down = more(trunk.more_down[i // 2], down)
            right = more(trunk.more_right[i // 2], right)
    t.linear(t.activate("elu", right), trunk.top.weight.flatten(2), _bias(trunk.top))


_TRUNKS: dict[type[nn.Module], Callable[[Tracer, Any], None]] = {
    PixelCNN: _pixelcnn,
    PixelRNN: _pixelrnn,
    GatedPixelCNN: _gated,
    PixelCNNpp: _pixelcnnpp,
    SmallPixelCNNpp: _small,
}


def _multi_scale(network: MultiScale) -> list[tuple[Program, Tensors]]:
    first = trace(network.unconditional, None)
    colours = first[0][0].colours
    level = network.factor.bit_length() - 1
    between = Tracer(colours, level)
    x = _upsampling(between, network.upsampling)
    nodes = tuple(between.nodes[: x + 1])
    upsampling = replace(first[0][0], output="map", coupled=True, beyond=0, nodes=nodes)
    rest = Tracer(colours)
    _pixelrnn(rest, network.conditional)
    conditional = _program(rest, network.conditional, network.output, None)
    return [*first, (upsampling, between.tensors), (conditional, rest.tensors)]


def _upsampling(t: Tracer, layer: Upsampling) -> int:
    weight = layer.first.weight
    taps = tuple((r - 1, c - 1) for r in range(3) for c in range(3))
    x = t.linear(INPUT, weight.flatten(2), _bias(layer.first), taps)
    for inner in layer.deconvolutions:
        assert isinstance(inner, nn.ConvTranspose2d)
        weight = inner.weight.transpose(0, 1)
        taps = tuple((1 - r, 1 - c) for r in range(4) for c in range(4))
        x = t.linear(t.activate("relu", x), weight.flatten(2), _bias(inner), taps, stride=-2)
    return t.activate("relu", x)
