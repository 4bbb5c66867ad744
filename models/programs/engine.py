"""The evaluation of programs in arrays: where nothing is compiled, on GPUs, and in floats.

All pixels of a tile at once, or front by front, to the same integers. Both ways are the same code
over the same arithmetic, `Evaluation`, and follow the same plan (`pixelzip.models.programs.plan`).
They differ in which positions come together. Entry 0 of a *store* holds zeros, for what lies
outside of the tile, and entry 1 the states that an LSTM has learnt for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.conditional import Shape
from pixelzip.models.frozen.shell import Tensors
from pixelzip.models.programs.arithmetic import OUTSIDE, Arithmetic
from pixelzip.models.programs.heads import Head
from pixelzip.models.programs.plan import (
    NOTHING,
    SELF,
    WHOLE_ROW,
    Columns,
    Indices,
    Plan,
)
from pixelzip.models.programs.program import CELLS, STATES, Node, Program

BAND = 4096
"""A product gathers the taps of so many positions at once: they fit a cache."""

Taps = tuple[tuple[int, int], ...]


class Network:
    """A program with its tensors, as an arithmetic holds them.

    ``tensors`` are named by node: ``3.weight`` (taps * inputs, outputs), ``3.bias`` (outputs,) or
    (classes, outputs), ``3.scale`` (outputs,) of a linear node or of an LSTM, whose ``3.hidden``
    and ``3.cell`` (h,) are the states outside; ``5.scale`` (1,) of an activation.
    """

    def __init__(self, program: Program, tensors: Tensors, arithmetic: Arithmetic) -> None:
        self.program, self.arithmetic = program, arithmetic
        self.plan = plan = Plan(program)
        self.matrices: list[list[Any]] = []
        self.scales: dict[int, Any] = {}
        self.states: dict[int, tuple[Any, Any]] = {}
        for i, node in enumerate(program.nodes):
            self.matrices.append([])
            if node.op in ("linear", "lstm"):
                weight, bias, scale = sums_of(tensors, i)
                for columns in (plan.gates if node.op == "lstm" else plan.columns)[i]:
                    at = slice(None) if columns is None else columns
                    some, matrix = weight[:, at], None
                    if some.shape[1]:
                        largest = program.largest + 1
                        matrix = arithmetic.matrix(some, bias[:, at], scale[at], largest)
                    self.matrices[i].append(matrix)
            if node.op == "lstm":
                hidden, cell = tensors[f"{i}.hidden"], tensors[f"{i}.cell"]
                self.states[i] = arithmetic.array(hidden), arithmetic.array(cell)
            if node.op == "activate":
                self.scales[i] = arithmetic.array(tensors[f"{i}.scale"])
        # Nodes of equal taps share what is found of them, under a number for each kind of taps.
        self.offsets: list[Any] = []
        self._numbers: dict[Taps, int] = {}
        self.self_taps = self._number(SELF)
        self.taps = [
            [self._number(node.taps)] if node.op == "linear"
            else [self._number(node.taps[k : k + 1] or SELF) for k in range(len(node.inputs))]
            for node in program.nodes
        ]  # fmt: skip
        self.state_taps = {
            kind: (self._number(STATES[kind]), self._number((CELLS[kind],))) for kind in STATES
        }

    def _number(self, taps: Taps) -> int:
        if taps not in self._numbers:
            self._numbers[taps] = len(self.offsets)
            self.offsets.append(self.arithmetic.array(np.array(taps, np.int64)))
        return self._numbers[taps]

    def bands(
        self, pixels: NDArray[np.uint8], label: int = 0, given: Any = None
    ) -> Iterator[NDArray[np.int32]]:
        """The parameters (n, channels, ...) of a tile that is known, band by band."""
        evaluation = Parallel(self, pixels.shape[:2], label)
        evaluation.tell(0, image(pixels, self.program))
        if given is not None:
            evaluation.tell(self.program.given, given)
        rows = self.arithmetic.numbers(evaluation.run())
        head, values = Head(self.program), pixels.reshape(-1, pixels.shape[2])
        for first in range(0, len(values), BAND):
            known = values[first : first + BAND]
            head.begin(rows[first : first + BAND])
            band = []
            for channel in range(pixels.shape[2]):
                band.append(head.parameters(channel))
                head.learn(known[:, channel])
            yield np.stack(band, 1)

    def map(self, small: NDArray[np.uint8], shape: Shape) -> NDArray[Any]:
        """(H, W, c): the last map of a program that is given to another one."""
        evaluation = Parallel(self, shape)
        evaluation.tell(0, image(small, self.program))
        found: NDArray[Any] = self.arithmetic.numbers(evaluation.run())
        return found.reshape(*shape, -1)

    def steps(self, shapes: Sequence[Shape], channels: int, labels: Sequence[int]) -> Steps:
        """Tiles of these shapes, front by front."""
        return Steps(self, shapes, channels, labels)


def sums_of(tensors: Tensors, i: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Weight (inputs, outputs), bias (1 or classes, outputs) and scale (outputs,) of a node."""
    weight, scale = tensors[f"{i}.weight"], tensors[f"{i}.scale"]
    bias = tensors.get(f"{i}.bias", np.zeros(weight.shape[1], np.int64))
    return weight, bias.reshape(-1, weight.shape[1]), scale


@dataclass
class Layout:
    """How a map of many tiles lies in a store: of each tile (tiles,) its size, and what is kept.

    Row r of a tile lies in the place of row r modulo ``depths``, column c of it in that of c modulo
    ``pitches``.
    """

    heights: Indices
    widths: Indices
    depths: Indices
    pitches: Indices

    def __post_init__(self) -> None:
        areas = self.depths * self.pitches
        self.bases = 2 + np.cumsum(areas) - areas
        self.entries = 2 + int(areas.sum())


@dataclass
class Places:
    """Positions (n,) on one level: of these tiles, in these rows and columns."""

    tiles: Indices
    rows: Indices
    columns: Indices

    def __post_init__(self) -> None:
        self.found: dict[Any, Any] = {}  # where their taps lie, by level and kind of taps

    def __len__(self) -> int:
        return len(self.tiles)

    def some(self, chosen: Any) -> Places:
        """Some of them."""
        return Places(self.tiles[chosen], self.rows[chosen], self.columns[chosen])


class Evaluation:
    """Maps of some tiles in the making. ``whole``: keep all of each, not what is still needed."""

    def __init__(
        self, network: Network, shapes: Sequence[Shape], labels: Sequence[int], *, whole: bool
    ) -> None:
        self.network, self.program = network, network.program
        self.arithmetic = network.arithmetic
        self.arithmetic.begin()
        plan = network.plan
        self.labels = np.array(labels, np.int64)
        size = np.array(shapes, np.int64).reshape(-1, 2)
        size[:, 1] += self.program.beyond
        levels = 1 + max(node.level for node in self.program.nodes)
        sizes = [-(-size // 2**level).T for level in range(levels)]
        # What is told from outside is kept whole; of other maps what is still to be read.
        self.layouts = [Layout(height, width, height, width) for height, width in sizes]
        self.recent = 0 if whole else levels
        if not whole:
            for height, width in sizes:
                if self.program.lag is None:
                    layout = Layout(height, width, np.minimum(height, plan.rows), width)
                else:
                    layout = Layout(height, width, height, np.minimum(width, plan.window))
                self.layouts.append(layout)
        self.stores: dict[int, Any] = {}
        self.cells: dict[int, Any] = {}
        for i in plan.stored:
            node = self.program.nodes[i]
            kind = "narrow" if self.program.narrow(i) else "wide"
            shape = (self.layout(i).entries, node.channels)
            self.stores[i] = self.arithmetic.empty(shape, kind)
            if node.op == "lstm":
                self.cells[i] = self.arithmetic.empty(shape, "wide")
                self.stores[i][1], self.cells[i][1] = network.states[i]
        self.made: dict[int, Any] = {}

    def layout(self, i: int) -> Layout:
        """Where a node's map lies in its store."""
        return self.layouts[self._layout(i)]

    def _layout(self, i: int) -> int:
        node = self.program.nodes[i]
        return node.level + (0 if node.op in ("input", "given") else self.recent)

    def tell(self, i: int, values: Any, tile: int = 0) -> None:
        """Set the whole map of an input: (H, W, channels) of a tile, without what is beyond."""
        layout = self.layout(i)
        start, height, width = (int(x[tile]) for x in (layout.bases, layout.heights, layout.widths))
        inside = self.stores[i][start : start + height * width].reshape(height, width, -1)
        inside[:, : values.shape[1]] = self.arithmetic.array(values)

    def at(self, places: Places, i: int, taps: int, stride: int = 1, outside: str = "") -> Any:
        """(n, J): where the taps of these positions lie in a node's store."""
        number = self._layout(i)
        key = (number, taps, stride, outside)
        if key not in places.found:
            layout, tiles = self.layouts[number], places.tiles
            arrays = (
                layout.bases[tiles], places.rows, places.columns,
                layout.heights[tiles], layout.widths[tiles],
                layout.depths[tiles], layout.pitches[tiles],
            )  # fmt: skip
            places.found[key] = self.arithmetic.places(
                *(self.arithmetic.array(a) for a in arrays),
                self.network.offsets[taps],
                stride,
                OUTSIDE[outside],
            )
        return places.found[key]

    def own(self, places: Places, i: int) -> Any:
        """(n,): where these positions themselves lie in a node's store."""
        return self.at(places, i, self.network.self_taps)[:, 0]

    def evaluate(self, i: int, places: Places, group: int) -> None:
        """Node i at these positions: all its channels (0), or a colour's (from 1 on)."""
        net, node = self.network, self.program.nodes[i]
        columns = net.plan.columns[i][group]
        if columns is NOTHING:
            return
        make = self._lstm if node.op == "lstm" else self._make
        values = make(i, node, places, group)
        if node.blank:
            values[self.arithmetic.array(np.flatnonzero(places.rows < node.blank))] = 0
        if columns is None:
            self.made[i] = values
        else:
            if i not in self.made or group == 1:
                shape = (len(places), node.channels)
                self.made[i] = self.arithmetic.empty(
                    shape, "narrow" if self.program.narrow(i) else "wide"
                )
            self.made[i][:, columns] = values
        if i in self.stores and node.op != "lstm":
            _put(self.stores[i], self.own(places, i), columns, values)

    def _read(self, i: int, k: int, places: Places) -> Any:
        """What node i reads of its k-th input at its own positions, or at an offset."""
        node = self.program.nodes[i]
        j = node.inputs[k]
        if self.network.plan.here[i][k]:
            return self.made[j]
        at = self.at(places, j, self.network.taps[i][k])
        return self.arithmetic.gather(self.stores[j], at)

    def _make(self, i: int, node: Node, places: Places, group: int) -> Any:
        """The channels asked for of a node that is no LSTM."""
        do, columns = self.arithmetic, self.network.plan.columns[i][group]
        if node.op == "linear":
            return self._linear(i, node, places, self.network.matrices[i][group])
        if node.op == "add":
            read = [_pick(self._read(i, k, places), columns) for k in range(len(node.inputs))]
            return do.add(read)
        read = [self._read(i, k, places) for k in range(len(node.inputs))]
        if node.op == "activate":
            scales = self.network.scales[i]
            return do.activate(
                node.kind, _pick(read[0], columns), scales if columns is None else scales[columns]
            )
        if node.op == "gate":
            return do.gate(node.kind, _pick(read[0], self.network.plan.gates[i][group]))
        if node.op == "slice":
            return read[0][:, node.start : node.start + node.channels]
        return self.arithmetic.joined(read, 1)

    def _linear(self, i: int, node: Node, places: Places, matrix: Any) -> Any:
        do, j = self.arithmetic, node.inputs[0]
        if self.network.plan.here[i][0]:
            products = [matrix.multiply(self.made[j])]
        else:
            at = self.at(places, j, self.network.taps[i][0], node.stride)
            parts = range(0, max(1, len(at)), BAND)
            products = [
                matrix.multiply(do.gather(self.stores[j], at[first : first + BAND]))
                for first in parts
            ]
        bias, wide, first = matrix.bias, [], 0
        for product in products:
            if len(matrix.bias) > 1:
                labels = self.labels[places.tiles[first : first + BAND]]
                bias = matrix.bias[do.array(labels)]
            wide.append(do.widen(product, bias, matrix.scale))
            first += BAND
        return wide[0] if len(wide) == 1 else self.arithmetic.joined(wide, 0)

    def _lstm(self, i: int, node: Node, places: Places, group: int) -> Any:
        """One step of an LSTM, or all of them in order if the positions depend on each other."""
        (j,) = node.inputs
        if node.kind == "right" and not self.together:  # found while the row was decoded
            sums = self.stores[j][self.own(places, j)]
        else:
            sums = self.made[j]
        if not self.together:
            return self._step(i, node, places, sums, group)
        out = self.arithmetic.empty((len(places), node.channels), "narrow")
        for chosen in self._waves(node, places):
            at = self.arithmetic.array(chosen)
            out[at] = self._step(i, node, places.some(chosen), sums[at], group)
        return out

    def _waves(self, node: Node, places: Places) -> list[Indices]:
        """In which order an LSTM has to take these positions."""
        wave = places.rows
        if node.kind == "left":
            wave = places.rows + places.columns
        elif node.kind == "right":
            wave = places.rows + self.layouts[0].widths[places.tiles] - 1 - places.columns
        order = np.argsort(wave, kind="stable")
        ends = np.flatnonzero(np.diff(wave[order])) + 1
        return np.split(order, ends)

    together = False
    """Whether positions come together that depend on each other: all of a tile."""

    def _step(self, i: int, node: Node, places: Places, sums: Any, group: int) -> Any:
        do, matrix = self.arithmetic, self.network.matrices[i][group]
        columns = self.network.plan.columns[i][group]
        states, cell_taps = self.network.state_taps[node.kind]
        at = self.at(places, i, states, 1, node.kind)
        before = self.at(places, i, cell_taps, 1, node.kind)[:, 0]
        recurrent = do.widen(
            matrix.multiply(do.gather(self.stores[i], at)), matrix.bias, matrix.scale
        )
        cells = self.cells[i][before]
        total = do.add([_pick(sums, self.network.plan.gates[i][group]), recurrent])
        hidden, cell = do.lstm(total, _pick(cells, columns))
        own = self.own(places, i)
        _put(self.stores[i], own, columns, hidden)
        _put(self.cells[i], own, columns, cell)
        return hidden


def _pick(x: Any, columns: Columns) -> Any:
    return x if columns is None else x[:, columns]


def _put(store: Any, rows: Any, columns: Columns, values: Any) -> None:
    if columns is None:
        store[rows] = values
    elif isinstance(columns, slice):
        store[rows, columns] = values
    else:
        store[rows[:, None], columns] = values


class Parallel(Evaluation):
    """All positions of one tile at once."""

    together = True

    def __init__(self, network: Network, shape: Shape, label: int = 0) -> None:
        super().__init__(network, [shape], [label], whole=True)
        self.shape = shape
        self.everywhere = []
        for layout in self.layouts:
            width = int(layout.widths[0])
            row, column = np.divmod(np.arange(int(layout.heights[0]) * width), width)
            self.everywhere.append(Places(np.zeros_like(row), row, column))

    def run(self, see: Any = None) -> Any:
        """The last map (positions, channels). ``see(node, map)`` is shown each one."""
        for i, node in enumerate(self.program.nodes):
            if node.op not in ("input", "given"):
                self.evaluate(i, self.everywhere[node.level], 0)
                if see is not None:
                    see(i, self.made[i])
            for j in self.network.plan.last_use[i]:
                self.made.pop(j, None)
                self.stores.pop(j, None)
                self.cells.pop(j, None)
        last = self.made[len(self.program.nodes) - 1]
        within = self.everywhere[0].columns < self.shape[1]
        return last if within.all() else last[self.arithmetic.array(np.flatnonzero(within))]


class Steps(Evaluation):
    """Many tiles, front by front: a `pixelzip.codec.conditional.Stepper`."""

    def __init__(
        self,
        network: Network,
        shapes: Sequence[Shape],
        channels: int,
        labels: Sequence[int],
    ) -> None:
        super().__init__(network, shapes, labels, whole=False)
        self.channels = channels
        self.head = Head(self.program)
        plan, nodes = network.plan, self.program.nodes
        self.late = plan.late
        self.steady = [(i, (nodes[i].level, plan.leads[i])) for i in plan.steady]
        self.keys = sorted({key for _, key in self.steady})

    def select(
        self, tiles: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> None:
        """See `pixelzip.codec.conditional.Stepper.select`."""
        pixels = Places(tiles.astype(np.int64), rows.astype(np.int64), columns.astype(np.int64))
        begun = (pixels.columns == 0) & (pixels.rows > 0)
        if self.late and begun.any():
            self._finish_rows(pixels.some(begun))
        self.pixels = pixels
        self.sets = {key: self._places(pixels, *key) for key in self.keys}
        self.found = 0

    def parameters(self, channel: int) -> NDArray[np.int32]:
        """See `pixelzip.codec.conditional.Stepper.parameters`."""
        self._find(channel)
        if channel == 0:
            self.head.begin(self.arithmetic.numbers(self.made[len(self.program.nodes) - 1]))
        return self.head.parameters(channel)

    def reveal(self, channel: int, values: NDArray[np.uint8]) -> None:
        """See `pixelzip.codec.conditional.Stepper.reveal`."""
        self.head.learn(values)
        own = self.own(self.pixels, 0)
        signed = self.arithmetic.array(less_128(values, self.program))
        store = self.stores[0]
        if self.channels < self.program.colours:
            store[own, : self.program.colours] = signed[:, None]
            for group in range(1, self.network.plan.groups):
                self._find(group)
        else:
            store[own, channel] = signed
        store[own, self.program.colours] = INSIDE

    def _find(self, channel: int) -> None:
        """Evaluate what is not known yet of the nodes, up to this colour."""
        groups = self.network.plan.groups
        while self.found <= min(channel, groups - 1):
            self.found += 1
            for i, key in self.steady:
                places = self.sets[key]
                if len(places):
                    self.evaluate(i, places, self.found if groups > 1 else 0)

    def _places(self, pixels: Places, level: int, lead: int) -> Places:
        """Where nodes of this level and lead are to be evaluated now."""
        first = (pixels.rows & (1 << level) - 1) == 0
        if lead < WHOLE_ROW:
            first &= (pixels.columns & (1 << level) - 1) == 0
            if level == lead == 0:
                return pixels
        else:
            first &= pixels.columns == 0
        tiles, rows, columns = pixels.tiles[first], pixels.rows[first], pixels.columns[first]
        rows, columns = rows >> level, columns >> level
        if lead == 0:
            return Places(tiles, rows, columns)
        # A row that begins is evaluated up to the lead, later one column a step.
        width = self.layouts[level].widths[tiles]
        start = np.where(columns == 0, 0, columns + lead)
        counts = np.minimum(columns + lead + 1, width) - start
        counts = np.maximum(counts, 0)
        which = np.repeat(np.arange(len(tiles)), counts)
        offset = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
        return Places(tiles[which], rows[which], start[which] + offset)

    def _finish_rows(self, begun: Places) -> None:
        """Let the LSTMs from right to left go through the rows above these."""
        width = self.layouts[0].widths[begun.tiles]
        rows = begun.rows - 1
        if self.program.beyond:
            edge = Places(begun.tiles, rows, width - 1)
            for i, _ in self.steady:
                self.evaluate(i, edge, 0)
        for back in range(int(width.max())):
            column = width - 1 - back
            within = column >= 0
            places = Places(begun.tiles[within], rows[within], column[within])
            for i in self.late:
                self.evaluate(i, places, 0)


INSIDE = 64
"""What the input's last channel holds inside of the image: one half, as 128 stands for 1."""


def less_128(values: NDArray[np.uint8], program: Program) -> NDArray[np.signedinteger[Any]]:
    """Pixels as the input's narrow map holds them."""
    return (values ^ 128).view(np.int8).astype(np.int8 if program.bits == 8 else np.int16)


def image(pixels: NDArray[np.uint8], program: Program) -> NDArray[np.signedinteger[Any]]:
    """(H, W, C) pixels -> the whole map (H, W, colours + 1) of the input; grey is all colours."""
    signed = less_128(pixels, program)
    if pixels.shape[2] < program.colours:
        signed = signed.repeat(program.colours, 2)
    inside = np.full((*pixels.shape[:2], 1), INSIDE, signed.dtype)
    return np.concatenate([signed, inside], 2)
