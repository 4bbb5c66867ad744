"""What of a program is evaluated when, and what is kept of it: known once, for all tiles.

While stepping, when a pixel is selected each node is evaluated at

* the pixel's own position, if it depends on what is left in the row;
* the position that the pixel will need next, if the node sees rows above only: so many columns
  ahead (its *lead*) as later layers look to the right; the whole row, where the lead has no end;
* nothing, on a coarser level, unless the pixel is the first of its 2^level x 2^level block;
* the whole row backwards, once it is known, if it is an LSTM from right to left.

So each activation is computed once, and decoding costs the arithmetic of encoding. In networks
that tell colours apart each colour's channels follow as soon as the colours before it are known.

A node's map is *stored* if anything reads it elsewhere than where it is being made.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pixelzip.models.programs.program import STATES, Node, Program, colours_of

WHOLE_ROW = 1 << 20  # the lead of a node that is evaluated a row at a time

Indices = NDArray[np.int64]
Columns = Indices | slice | None
"""Some of a map's channels: a slice where they lie side by side, which is faster; None for all."""
NOTHING = slice(0, 0)
SELF = ((0, 0),)


class Plan:
    """What is done with a program, whatever does it.

    Of each node: ``columns``, the channels that are found, of all at once and then with each
    colour; ``gates``, those of them in the two halves or four gates that it reads; ``leads``;
    ``here``, of each input, whether it is read only as it is being made; ``last_use``, the nodes
    that are read no more after it. ``stored`` are nodes; ``rows`` and ``window`` say how many rows
    of a map are ever read at once, and how many columns of a row.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self.groups = 1 if program.coupled else program.colours
        self.columns = [_columns(node, self.groups) for node in program.nodes]
        self.gates = [
            [None if some is None else _gates(some, node) for some in columns]
            for node, columns in zip(program.nodes, self.columns, strict=True)
        ]
        self.leads = leads_of(program)
        self.here = _here(program, self.leads)
        self.stored = _stored(program, self.here)
        self.rows, self.window = _kept(program, self.leads)
        self.last_use = _last_uses(program)
        self.steady = [
            i for i, node in enumerate(program.nodes) if is_made(node) and node.kind != "right"
        ]
        """Evaluated as the pixels come; `late` ones when a row is known."""
        self.late = [i for i, node in enumerate(program.nodes) if node.kind == "right"]


def is_made(node: Node) -> bool:
    """Whether its map is made of others', and not told."""
    return node.op not in ("input", "given")


def _columns(node: Node, groups: int) -> list[Columns]:
    """Of all channels (None), and then of each colour's: which of a node's channels are found.

    A node of no parts is found whole with the first colour.
    """
    if groups == 1:
        return [None]
    if not node.parts:
        return [None, None, *[NOTHING] * (groups - 1)]
    colour = colours_of(node.channels, groups, node.parts)
    return [None, *(_sliced(np.flatnonzero(colour == group)) for group in range(groups))]


def _gates(columns: Indices | slice, node: Node) -> Indices | slice:
    """Of the two halves that a gate reads, or of an LSTM's four gates, what belongs to these."""
    count = 4 if node.op == "lstm" else 2
    return _sliced(np.arange(count * node.channels).reshape(count, -1)[:, columns].ravel())


def _sliced(columns: Indices) -> Indices | slice:
    if not len(columns):
        return NOTHING
    first, last = int(columns[0]), int(columns[-1])
    return slice(first, last + 1) if last - first + 1 == len(columns) else columns


def leads_of(program: Program) -> list[int]:
    """Of each node, how many columns ahead of the selected pixel it is evaluated."""
    leads = [0] * len(program.nodes)
    for i in range(len(program.nodes) - 1, 0, -1):
        node = program.nodes[i]
        taps = node.taps or ((0, 0),) * len(node.inputs)
        for j in dict.fromkeys(node.inputs):
            if program.nodes[j].op in ("input", "given"):
                continue
            own = [t for k, t in enumerate(taps) if node.op != "add" or node.inputs[k] == j]
            ahead = [c for r, c in own if r == 0 or node.stride == -2]
            if not ahead:
                continue
            lead = leads[i] + max(ahead)
            if lead > 0 and (program.lag is None or leads[i] >= WHOLE_ROW):
                lead = WHOLE_ROW
            leads[j] = max(leads[j], lead)
    return leads


def _here(program: Program, leads: Sequence[int]) -> list[list[bool]]:
    """Of each node and input: whether it reads only what is made together with its own map."""
    found = []
    for i, node in enumerate(program.nodes):
        own = []
        for k, j in enumerate(node.inputs):
            taps = node.taps if node.op == "linear" else node.taps[k : k + 1]
            same = node.stride == 1 and all(tap == (0, 0) for tap in taps)
            made = program.nodes[j].op not in ("input", "given")
            own.append(same and made and leads[i] == leads[j])
        found.append(own)
    return found


def _stored(program: Program, here: Sequence[Sequence[bool]]) -> set[int]:
    """The nodes whose maps are read elsewhere than where they are being made."""
    found = {0}
    for i, node in enumerate(program.nodes):
        found.update(j for j, own in zip(node.inputs, here[i], strict=True) if not own)
        if node.op in ("given", "lstm"):
            found.add(i)
        if node.kind == "right":
            found.add(node.inputs[0])
    return found


def _kept(program: Program, leads: Sequence[int]) -> tuple[int, int]:
    """How many rows of a map are ever read at once, and how many columns of a row.

    A row's newest column lies ``lag`` farther to the right with each row up.
    """
    rows = columns = 1
    for i, node in enumerate(program.nodes):
        reads = [(i, tap) for tap in STATES.get(node.kind, ())]
        for k, j in enumerate(node.inputs):
            if program.nodes[j].op not in ("input", "given"):
                taps = node.taps if node.op == "linear" else node.taps[k : k + 1] or SELF
                reads += [(j, tap) for tap in taps]
        for j, (row, column) in reads:
            rows = max(rows, 1 - row)
            behind = leads[j] - column - (program.lag or 0) * row  # from column 0 on, at first
            columns = max(columns, 1 + behind)
    return rows, columns


def _last_uses(program: Program) -> list[list[int]]:
    """After each node, the nodes that are read no more."""
    last: dict[int, int] = {}
    for i, node in enumerate(program.nodes):
        last[i] = i
        for j in node.inputs:
            last[j] = i
    last[len(program.nodes) - 1] = -1
    return [[j for j, use in last.items() if use == i and j] for i in range(len(program.nodes))]
