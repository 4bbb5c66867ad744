"""A program: one of the papers' networks as a list of small steps that integers can take.

Each *node* makes a map out of earlier nodes' maps. There are two kinds of maps:

* *wide* ones, sums of products and of each other: int32 in units of 1/4096, within +-LIMIT;
* *narrow* ones, which matrix products read: int8 or int16, each with a scale of its own.

| node | makes | of |
|---|---|---|
| ``input`` | narrow | the pixels less 128, and a channel that tells inside from outside |
| ``given`` | narrow | nothing: a map that comes from another program (PixelRNN, section 3.6) |
| ``linear`` | wide | a narrow map at some *taps*, offsets of row and column, by a matrix |
| ``add`` | either | maps of one kind, each at an offset |
| ``activate`` | narrow | a wide map: ``identity``, ``relu``, ``elu`` or ``concat_elu`` |
| ``gate`` | either | halves of a wide map: ``tanh`` (narrow) or ``linear``, by a sigmoid |
| ``lstm`` | narrow | wide sums of four gates: ``row``, ``left`` or ``right`` |
| ``slice``, ``cat`` | wide | some channels of a map; several maps' |

A map lies on a *level*: level s has one position for 2^s x 2^s pixels. A linear node may read a map
one level finer (``stride`` 2) or coarser (``stride`` -2, as a transposed convolution does).

In networks that tell colours apart (PixelRNN, section 3.4) a map's channels fall into ``parts``,
each of which is split evenly among the colours; a colour's channels are found once the colours
before it are known. A map of 0 parts is found at once.

A program is stored as JSON in the header of a frozen network's file and is part of what its
fingerprint covers: reading an old file needs no more than these few kinds of nodes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.errors import NetworkFileError
from pixelzip.models.frozen.shell import Tensors

Part = tuple["Program", Tensors]
"""A program and its tensors, whose names `pixelzip.models.programs.engine.Network` says."""
WIDE = 1 << 12
"""Wide maps are in units of 1 / WIDE."""

OPS = {
    "input": (),
    "given": (),
    "linear": (),
    "add": (),
    "activate": ("identity", "relu", "elu", "concat_elu"),
    "gate": ("tanh", "linear"),
    "lstm": ("row", "left", "right"),
    "slice": (),
    "cat": (),
}
STATES = {
    "row": ((-1, -1), (-1, 0), (-1, 1)),
    "left": ((-1, 0), (0, -1)),
    "right": ((-1, 0), (0, 1)),
}
"""Where each kind of LSTM finds the hidden states that it reads, in the order of its weights."""
CELLS = {"row": (-1, 0), "left": (0, -1), "right": (0, 1)}
"""And where it finds the cell that it changes."""
_MOST_NODES, _MOST_CHANNELS, _MOST_INPUTS, _FARTHEST, _COARSEST = 4096, 8192, 256, 16, 4
_MOST_ALTOGETHER = 1 << 18  # channels of all the maps, of which each pixel takes room


@dataclass(frozen=True)
class Node:
    """One step. ``taps`` are offsets (row, column): of a linear node's inputs, or one an input."""

    op: str
    inputs: tuple[int, ...]
    channels: int
    kind: str = ""
    taps: tuple[tuple[int, int], ...] = ()
    stride: int = 1
    level: int = 0
    parts: int = 0
    start: int = 0  # of a slice
    blank: int = 0  # rows at the top where the map is zero, whatever its inputs say

    @property
    def narrow(self) -> bool:
        """Whether its map is narrow; that of ``add`` is what its inputs are."""
        if self.op == "gate":
            return self.kind == "tanh"
        return self.op in ("input", "given", "activate", "lstm")


@dataclass(frozen=True)
class Program:
    """The nodes of a network, in an order in which each comes after those that it reads.

    The last one's map is what the output reads.
    """

    colours: int
    output: str  # softmax, binary or mixture; "map" for a program that another is given
    components: int  # of a mixture
    coupled: bool  # whether the output couples the colours, or the maps tell them apart
    lag: int | None  # columns that a row must trail the row above; None: all of it
    beyond: int = 0  # columns of zeros to the right of the image
    classes: int = 0
    bits: int = 16  # of narrow maps and of weights: 8 or 16
    nodes: tuple[Node, ...] = field(default=())

    @property
    def largest(self) -> int:
        """The size that no number of a narrow map exceeds."""
        return 127 if self.bits == 8 else 32767

    @property
    def state_unit(self) -> int:
        """Narrow maps of gates and hidden states, within +-1, are in units of one in so many.

        Two of them are added in a Diagonal BiLSTM.
        """
        return 63 if self.bits == 8 else 1 << 14

    @property
    def parameters(self) -> int:
        """How many channels the last map has."""
        pairs = self.colours * (self.colours - 1) // 2 if self.coupled else 0
        if self.output == "softmax":
            return 256 * (self.colours + pairs)
        if self.output == "binary":
            return self.colours
        return self.components * (1 + 2 * self.colours + pairs)

    @property
    def given(self) -> int:
        """The node that is given: ValueError if there is none."""
        return [node.op for node in self.nodes].index("given")

    def narrow(self, node: int) -> bool:
        """Whether that node's map is narrow."""
        return self._narrow[node]

    @cached_property
    def _narrow(self) -> list[bool]:
        found: list[bool] = []
        for i, node in enumerate(self.nodes):
            sums = node.op == "add" and node.inputs and 0 <= node.inputs[0] < i
            found.append(found[node.inputs[0]] if sums else node.narrow)
        return found

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold; members that are as by default are left out."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        default = Node("", (), 0).__dict__
        plain["nodes"] = [
            {name: value for name, value in node.__dict__.items() if value != default[name]}
            for node in self.nodes
        ]
        return plain


def colours_of(channels: int, colours: int, parts: int) -> NDArray[np.int64]:
    """(channels,) the colour that each belongs to, in a map of ``parts`` stacked maps.

    The four gates of an LSTM are such parts: each of them is split among the colours.
    """
    size = channels // parts
    return np.arange(channels) % size * colours // size


def from_dict(members: dict[str, Any]) -> Program:
    """The way back from `Program.as_dict`. Raises NetworkFileError for what is no sound program."""
    known = {f.name for f in fields(Program)}
    if set(members) != known:
        raise NetworkFileError("its program has other members than it should")
    nodes = []
    for found in members["nodes"]:
        if not isinstance(found, dict):
            raise NetworkFileError("its program holds what is no node")
        taps = tuple((_whole(r, _FARTHEST), _whole(c, _FARTHEST)) for r, c in found.get("taps", ()))
        inputs = tuple(_whole(i, _MOST_NODES) for i in found.get("inputs", ()))
        nodes.append(Node(**{**found, "taps": taps, "inputs": inputs}))
    program = Program(**{**members, "nodes": tuple(nodes)})
    check(program)
    return program


def _whole(value: Any, largest: int) -> int:
    if type(value) is not int or abs(value) > largest:
        raise NetworkFileError("its program holds a number out of range")
    return value


def check(program: Program) -> None:
    """Raise NetworkFileError unless every node can be evaluated."""
    numbers = [program.colours, program.components, program.beyond, program.classes, program.bits]
    for number in numbers + ([] if program.lag is None else [program.lag]):
        _whole(number, 256)
    sound = (
        program.colours in (1, 3)
        and program.output in ("softmax", "binary", "mixture", "map")
        and type(program.coupled) is bool
        and program.bits in (8, 16)
        and program.beyond in (0, 1)
        and program.classes >= 0
        and (program.output != "mixture" or (program.coupled and program.components > 0))
        and (program.lag is None or program.lag > 0)
        and 1 < len(program.nodes) <= _MOST_NODES
        and program.nodes[0] == Node("input", (), program.colours + 1, level=program.nodes[0].level)
        and program.nodes[0].level in (range(1, 1 + _COARSEST) if program.output == "map" else (0,))
    )
    if not sound:
        raise NetworkFileError("its program is not one of this version")
    for i, node in enumerate(program.nodes[1:], 1):
        if not _fits(program, i, node):
            raise NetworkFileError(f"node {i} of its program does not fit the others")
    if sum(node.channels for node in program.nodes) > _MOST_ALTOGETHER:
        raise NetworkFileError("its program's maps are too large, taken together")
    readers = Counter(j for node in program.nodes for j in set(node.inputs))
    if any(node.op == "lstm" and readers[node.inputs[0]] > 1 for node in program.nodes):
        raise NetworkFileError("the sums of one of its LSTMs are read elsewhere")
    last = program.nodes[-1]
    if program.output == "map":
        return
    if program.narrow(len(program.nodes) - 1) or last.level or last.channels != program.parameters:
        raise NetworkFileError("its program does not end in what its output reads")


def _fits(program: Program, i: int, node: Node) -> bool:
    """Whether a node is one that its inputs allow."""
    for number in (node.channels, node.stride, node.level, node.parts, node.start, node.blank):
        _whole(number, _MOST_CHANNELS)
    if node.op == "given":
        return node == Node("given", (), node.channels)
    if node.op not in OPS or node.op == "input" or not node.inputs or max(node.inputs) >= i:
        return False
    if node.kind not in (OPS[node.op] or ("",)) or min(node.inputs) < 0 or node.channels < 1:
        return False
    if not (0 <= node.level <= _COARSEST and node.parts in (0, 1, 2, 4) and node.start >= 0):
        return False
    if node.parts and node.channels % node.parts:
        return False
    if len(node.inputs) > _MOST_INPUTS or len(set(node.taps)) < len(node.taps) * (node.op != "add"):
        return False
    if node.parts and (node.op in ("slice", "cat") or node.kind == "concat_elu"):
        return False
    if node.blank and (node.blank < 0 or node.op not in ("activate", "gate")):
        return False
    sources = [program.nodes[j] for j in node.inputs]
    wide = [not program.narrow(j) for j in node.inputs]
    first, one = sources[0], len(sources) == 1
    level = {1: first.level, 2: first.level + 1, -2: first.level - 1}.get(node.stride)
    if node.level != level or (node.stride != 1 and node.op != "linear"):
        return False
    if any(source.level != first.level for source in sources):
        return False
    if node.op == "linear":
        return one and not wide[0] and len(node.taps) > 0
    if node.op == "add":
        same = all(source.channels == node.channels for source in sources)
        # Narrow ones do not fit their type unless they are two hidden states.
        states = len(sources) == 2 and all(source.op == "lstm" for source in sources)
        return same and (all(wide) or states) and len(node.taps) == len(sources)
    if node.op == "cat":
        return all(wide) and node.channels == sum(source.channels for source in sources)
    if not one or not wide[0] or node.taps:
        return False
    if node.op == "slice":
        return node.start + node.channels <= first.channels
    if node.op == "lstm":
        return first.channels == 4 * node.channels and node.level == 0
    if node.op == "gate":
        return first.channels == 2 * node.channels
    return node.channels == first.channels * (2 if node.kind == "concat_elu" else 1)
