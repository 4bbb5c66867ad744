"""Whether a program can be evaluated front by front: each node may read only what is known by then.

A program that comes in a file may say anything. One that looks ahead would encode, since then all
pixels are known, and what it has encoded could never be decoded.

A dependency is known *before*, found at the *same* time, or comes *after*. At the same time colours
count: what is found with a colour may depend on what is found with it or with those before it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.errors import NetworkFileError
from pixelzip.models.frozen.shell import Tensors
from pixelzip.models.programs.plan import WHOLE_ROW, leads_of
from pixelzip.models.programs.program import Node, Program, colours_of

Found = NDArray[np.int64]
"""(channels,): with which colour each channel of a map is found, from 0 on."""


def check(program: Program, tensors: Tensors) -> None:
    """Raise NetworkFileError if a node reads what is not known when it is evaluated."""
    leads = leads_of(program)
    found = [_found(program, node) for node in program.nodes]
    rights = any(node.kind == "right" for node in program.nodes)
    levels = any(node.level for node in program.nodes)
    if program.beyond and (program.lag is not None or levels or not rights):
        raise NetworkFileError("its program has no use for what lies beyond the image")
    for i, node in enumerate(program.nodes):
        if node.op == "lstm" and not _is_ordered(program, node, leads[i]):
            raise NetworkFileError(f"node {i} of its program, an LSTM, reads states not known yet")
        for k, j in enumerate(node.inputs):
            for t, tap in enumerate(_taps(node, k)):
                when = _when(program, leads, i, j, tap)
                if when > 0 or (when == 0 and _too_early(program, i, k, t, tensors, found)):
                    raise NetworkFileError(
                        f"node {i} of its program reads what is not known yet of node {j}"
                    )
    size = len(found[-1]) // program.colours
    if not program.coupled and (found[-1] > np.arange(len(found[-1])) // size).any():
        raise NetworkFileError("its output reads a colour before it is found")


def _found(program: Program, node: Node) -> Found:
    if node.op == "input":  # a colour is known once its value is, the channel beside them with one
        return np.array([*range(1, program.colours + 1), 1])
    if program.coupled or not node.parts:
        return np.zeros(node.channels, np.int64)
    return colours_of(node.channels, program.colours, node.parts)


def _is_ordered(program: Program, node: Node, lead: int) -> bool:
    """Whether an LSTM's own states are known: of rows above, or of a neighbour in the row."""
    if node.kind == "row":  # reads one column to the right in the row above
        return program.lag is None or program.lag > 1
    if node.kind == "left":  # goes pixel by pixel
        return lead == 0
    return program.lag is None  # goes through rows that are known


def _taps(node: Node, k: int) -> tuple[tuple[int, int], ...]:
    """The offsets at which a node reads its k-th input."""
    if node.op == "linear":
        return node.taps
    return (node.taps[k] if node.op == "add" else (0, 0),)


def _too_early(
    program: Program, i: int, k: int, t: int, tensors: Tensors, found: list[Found]
) -> bool:
    """Whether a channel of node i depends, through the t-th tap, on one that is found later."""
    node, mine, theirs = program.nodes[i], found[i], found[program.nodes[i].inputs[k]]
    if node.op == "linear":
        matrix = tensors[f"{i}.weight"].reshape(len(node.taps), len(theirs), -1)[t]
        return bool(((matrix != 0) & (theirs[:, None] > mine)).any())
    if node.op == "cat":
        start = sum(program.nodes[j].channels for j in node.inputs[:k])
        mine = mine[start : start + len(theirs)]
    elif node.op == "slice":
        theirs = theirs[node.start : node.start + node.channels]
    elif node.kind == "concat_elu":
        theirs = np.tile(theirs, 2)
    # Several where a gate reads two halves, and an LSTM four gates.
    return bool((theirs.reshape(-1, len(mine)) > mine).any())


def _when(program: Program, leads: list[int], i: int, j: int, tap: tuple[int, int]) -> int:
    """Of what node i reads at a tap of node j: -1 found before, 0 at the same time, 1 after."""
    node, source, (row, column) = program.nodes[i], program.nodes[j], tap
    if source.op == "given" or (node.kind == "right" and row == 0):
        return -1
    if row > 0:
        return 1
    if source.kind == "right":  # rows of its map are found when the next one begins
        return -1 if row < 0 else 1
    # Columns of the finer of the two levels, and how far each is ahead of the selected pixel.
    ahead = leads[i] * (2 if node.stride == 2 else 1)
    behind = leads[j] * (2 if node.stride == -2 else 1)
    if program.lag is None:
        if row < 0:
            return -1
        if leads[j] >= WHOLE_ROW and source.op != "input":
            return 0
        if leads[i] >= WHOLE_ROW:
            return 1
        return int(np.sign(ahead + column - behind))
    return int(np.sign(row * program.lag + ahead + column - behind))
