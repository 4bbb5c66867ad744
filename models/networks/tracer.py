"""What the layers write themselves down with: a program in the making, in floats.

A layer's ``trace`` stands beside its ``forward`` and does the same, with the numbers of nodes in
place of maps. Weights keep their values here; `pixelzip.models.freezing.freeze` turns them into
integers. Masks, shifts, short-cuts, strides and transposed convolutions all come down to taps and
weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelzip.models.programs.program import Node

Taps = tuple[tuple[int, int], ...]
Tensors = dict[str, NDArray[np.float64]]
INPUT = 0
"""The image's node."""
SELF: Taps = ((0, 0),)


class Tracer:
    """A program in the making. Its methods add a node each, and return its number."""

    def __init__(self, colours: int, level: int = 0) -> None:
        self.nodes = [Node("input", (), colours + 1, level=level)]
        self.tensors: Tensors = {}
        self.activations: dict[tuple[int, str], int] = {}

    def node(self, op: str, inputs: Sequence[int], channels: int, **members: object) -> int:
        """Any kind of node, on its inputs' level unless ``members`` say otherwise."""
        level = self.nodes[inputs[0]].level if inputs else 0
        members = {"level": level, **members}
        self.nodes.append(Node(op, tuple(inputs), channels, **members))  # type: ignore[arg-type]
        return len(self.nodes) - 1

    def linear(
        self,
        source: int,
        weight: Tensor,
        bias: Tensor | None,
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
        made = self.node(
            "linear", [source], len(weight), taps=taps, stride=stride, level=level, parts=parts
        )
        self.tensors[f"{made}.weight"] = _matrix(weight)
        self.tensors[f"{made}.bias"] = _numbers(torch.zeros(len(weight)) if bias is None else bias)
        return made

    def add(self, *sources: int, taps: Taps = (), parts: int = 0) -> int:
        """The sum of maps, each at one of the taps."""
        taps = taps or SELF * len(sources)
        return self.node("add", sources, self.nodes[sources[0]].channels, taps=taps, parts=parts)

    def activate(self, kind: str, source: int, blank: int = 0) -> int:
        """Narrow; the same activation of the same map is made once."""
        if (source, kind) not in self.activations:
            node = self.nodes[source]
            channels = node.channels * (2 if kind == "concat_elu" else 1)
            made = self.node(
                "activate", [source], channels, kind=kind, parts=node.parts, blank=blank
            )
            self.activations[source, kind] = made
        return self.activations[source, kind]

    def gate(self, kind: str, source: int, parts: int = 0, blank: int = 0) -> int:
        """One half of a map, or its tanh, times the other half's sigmoid."""
        channels = self.nodes[source].channels // 2
        return self.node("gate", [source], channels, kind=kind, parts=parts, blank=blank)

    def lstm(self, kind: str, source: int, weight: Tensor, hidden: Tensor, cell: Tensor) -> int:
        """``weight`` (4 h, h, taps) of hidden states; ``hidden`` and ``cell`` (h, 1) outside."""
        made = self.node("lstm", [source], len(hidden), kind=kind, parts=1)
        self.tensors[f"{made}.weight"] = _matrix(weight)
        self.tensors[f"{made}.hidden"] = _numbers(hidden.flatten())
        self.tensors[f"{made}.cell"] = _numbers(cell.flatten())
        return made


def traced(layer: nn.Module, *arguments: Any) -> Any:
    """What the ``trace`` of a layer gives of whose type torch's lists know nothing."""
    trace: Any = layer.trace
    return trace(*arguments)


def kernel_taps(rows: int, columns: int, down: int, right: int) -> Taps:
    """The offsets of a kernel's taps, where the one at (down, right) is the position's own."""
    return tuple((r - down, c - right) for r in range(rows) for c in range(columns))


def _matrix(weight: Tensor) -> NDArray[np.float64]:
    """(outputs, inputs, taps) -> (taps * inputs, outputs)"""
    return _numbers(weight.permute(2, 1, 0).flatten(0, 1))


def _numbers(tensor: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = tensor.detach().double().contiguous().numpy()
    return found
