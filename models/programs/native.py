"""Programs in compiled C: a tile in one call, for the CPU.

`models/frozen/csrc/programs.c` walks over the nodes of a program. They are laid out for it once for
a network; what depends on a tile's size it finds out by itself. There are products for several
instruction sets, each of which has to prove itself on inputs that saturate before it is used.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native
from pixelzip.codec import tables as coding
from pixelzip.codec.conditional import Shape
from pixelzip.codec.errors import FormatError
from pixelzip.models.frozen.shell import Tensors
from pixelzip.models.programs import heads, tables
from pixelzip.models.programs.engine import image, sums_of
from pixelzip.models.programs.plan import Columns, Plan, is_made
from pixelzip.models.programs.program import Program

_BLOCK = 16  # outputs of a matrix come in multiples of this
_CHUNK = 8  # and rows of a product in so many at once
_MOST_MEMORY = 1 << 32  # bytes, of a tile in the making
_BAND = 4096  # pixels, of which parameters are handed out together
_BY_STEPS, _BY_ROWS, _AT_ONCE = range(3)
_OPS = ("input", "given", "linear", "add", "activate", "gate", "lstm", "slice", "cat")
_KINDS = {
    "activate": ("identity", "relu", "elu", "concat_elu"),
    "gate": ("tanh", "linear"),
    "lstm": ("row", "left", "right"),
}
_OUTPUTS = ("softmax", "binary", "mixture", "map")
_INT, _POINTER = ctypes.c_int32, ctypes.c_void_p


class _Run(ctypes.Structure):
    _fields_ = (("start", _INT), ("count", _INT))


class _Some(ctypes.Structure):
    _fields_ = (("runs", _POINTER), ("count", _INT), ("channels", _INT))


class _Matrix(ctypes.Structure):
    _fields_ = (
        ("weights", _POINTER), ("bias", _POINTER), ("scale", _POINTER),
        ("pairs", _INT), ("outputs", _INT), ("classes", _INT),
    )  # fmt: skip


class _Node(ctypes.Structure):
    _fields_ = (
        *((name, _INT) for name in (
            "op", "kind", "narrow", "channels", "inputs", "taps", "stride", "level", "blank",
            "start", "set", "stored", "buffer",
        )),
        *((name, _POINTER) for name in (
            "input", "tap", "here", "columns", "matrices", "scale", "hidden", "cell",
        )),
    )  # fmt: skip


class _Lead(ctypes.Structure):
    _fields_ = (("level", _INT), ("columns", _INT))


class _Program(ctypes.Structure):
    _fields_ = (
        *((name, _INT) for name in (
            "colours", "output", "components", "coupled", "lag", "beyond", "bits", "state_unit",
            "groups", "nodes", "leads", "buffers", "kept_rows", "kept_columns",
        )),
        ("node", _POINTER), ("lead", _POINTER),
    )  # fmt: skip


@native.once
def library() -> ctypes.CDLL | None:
    """The library, None where it could not be built."""
    found = native.library("pixelzip.models.frozen._engine")
    if found is None:
        return None
    pointer, number, size = _POINTER, ctypes.c_int, ctypes.c_size_t
    octets, shorts, integers = (native.array(t) for t in (np.uint8, np.int16, np.int32))
    longs, doubles = native.array(np.int64), native.array(np.float64)
    program = ctypes.POINTER(_Program)
    for name, result, arguments in (
        ("program_tables", None, [longs] * 4),
        ("program_logarithms", None, [longs] * 2),
        ("program_isa", ctypes.c_char_p, [number]),
        ("program_sizes", size, []),
        ("program_product", None,
         [ctypes.POINTER(_Matrix), number, number, number, shorts, doubles, shorts]),
        ("program_memory", ctypes.c_int64, [program, number, number, number]),
        ("program_open", pointer, [program, *[number] * 6, octets]),
        ("program_tell", None, [pointer, number, shorts, number, number]),
        ("program_map", None, [pointer, shorts]),
        ("program_score", None, [pointer, number, octets, integers]),
        ("program_select", number, [pointer, number, integers, integers]),
        ("program_parameters", None, [pointer, number, integers]),
        ("program_reveal", None, [pointer, number, octets]),
        ("program_decode", number,
         [pointer, ctypes.c_char_p, size, native.array(np.uint64), octets, octets]),
    ):  # fmt: skip
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    program_size, node, matrix = (ctypes.sizeof(x) for x in (_Program, _Node, _Matrix))
    if found.program_sizes() != program_size + 256 * node + 65536 * matrix:
        raise ImportError(f"{found._name} was built from other sources: install pixelzip again")
    decay = tables.EXP.astype(np.int64)
    found.program_tables(coding.EXP, coding.INVERSE_SCALE, coding.SIGMOID, decay)
    return found


@native.once
def _fill_logarithms(engine: ctypes.CDLL) -> None:
    """Hand tables over that take long to make, and that only mixtures of several colours need."""
    log_sigmoid, _, width, _ = heads.log_tables()
    engine.program_logarithms(log_sigmoid, width)


@cache
def instruction_sets() -> tuple[str, ...]:
    """Those that are here and exact, fastest first; none where there is no library."""
    engine = library()
    if engine is None:
        return ()
    return native.proven(engine.program_isa, partial(_is_exact, engine))


def _is_exact(engine: ctypes.CDLL, number: int) -> bool:
    """Whether products of 16 bits that saturate come out right, those of 8 bits too."""
    for bits in (8, 16):
        end = 1 << bits - 1
        x = np.full((5, 601), end - 1)
        x[1::2, ::2], x[2::4], x[3::4, ::3] = -end, -end, 1
        weight = np.full((601, 83), end - 1)
        weight[:, 1::2], weight[1::2, 2::4], weight[::3, 3::4] = -end, -end + 1, 1
        if not np.array_equal(product(engine, number, bits, x, weight), x @ weight):
            return False
    return True


def product(
    engine: ctypes.CDLL, number: int, bits: int, x: NDArray[Any], weight: NDArray[Any]
) -> NDArray[np.float64]:
    """An instruction set's own product: (n, K) with (K, N), n at most 8."""
    layout = _Layout()
    matrix = layout.matrix(weight, np.zeros((1, weight.shape[1])), np.ones(weight.shape[1]))
    rows = np.zeros((len(x), 2 * matrix.pairs), np.int16)
    rows[:, : x.shape[1]] = x
    sums = np.empty((len(x), matrix.outputs))
    parts = np.zeros((2, _CHUNK, 2 * matrix.pairs), np.int16)
    engine.program_product(ctypes.byref(matrix), number, bits, len(x), rows, sums, parts)
    return sums[:, : weight.shape[1]]


class _Layout:
    """Lays arrays and structures out side by side, and keeps them alive."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def address(self, values: Any, dtype: type[np.generic]) -> int:
        """Where a copy of the numbers lies."""
        array = np.array(values, dtype).reshape(-1)
        self.kept.append(array)
        return int(array.ctypes.data)

    def structures(self, kind: type[ctypes.Structure], found: Sequence[Any]) -> int:
        """Where an array of the structures lies."""
        array = (kind * len(found))(*found)
        self.kept.append(array)
        return ctypes.addressof(array)

    def matrix(self, weight: NDArray[Any], bias: NDArray[Any], scale: NDArray[Any]) -> _Matrix:
        """``weight`` (inputs, outputs), ``bias`` (classes or 1, outputs), ``scale`` (outputs,)."""
        inputs, outputs = weight.shape
        pairs, wide = -(-inputs // 2), -(-outputs // _BLOCK) * _BLOCK
        room = np.zeros((2 * pairs, wide), np.int16)
        room[:inputs, :outputs] = weight
        packed = room.reshape(pairs, 2, wide // _BLOCK, _BLOCK).transpose(2, 0, 3, 1)
        biases, scales = np.zeros((len(bias), wide)), np.zeros(wide)
        biases[:, :outputs], scales[:outputs] = bias, scale
        return _Matrix(
            weights=self.address(packed, np.int16),
            bias=self.address(biases, np.float64),
            scale=self.address(scales, np.float64),
            pairs=pairs,
            outputs=wide,
            classes=len(bias),
        )

    def some(self, columns: Columns, channels: int) -> _Some:
        """Some of a map's channels, as runs."""
        found = np.arange(channels) if columns is None else np.arange(channels)[columns]
        starts = np.flatnonzero(np.diff(found, prepend=-2) != 1)
        counts = np.diff(np.append(starts, len(found)))
        runs = [_Run(int(found[s]), int(n)) for s, n in zip(starts, counts, strict=True)]
        return _Some(self.structures(_Run, runs), len(runs), len(found))


class Network:
    """A program with its tensors, laid out for an instruction set. See `engine.Network`."""

    def __init__(self, program: Program, tensors: Tensors, isa: str) -> None:
        engine = library()
        assert engine is not None, "there is none without a library"
        self.engine, self.program = engine, program
        self.number = native.names(engine.program_isa).index(isa)
        if program.output == "mixture" and program.colours > 1:
            _fill_logarithms(engine)
        self.plan = plan = Plan(program)
        self._layout = layout = _Layout()
        leads = sorted({(program.nodes[i].level, plan.leads[i]) for i in plan.steady})
        buffers, size = _buffers(plan)
        nodes = [
            self._node(i, tensors, leads, buffers[i], layout) for i in range(len(program.nodes))
        ]
        self.structure = _Program(
            colours=program.colours,
            output=_OUTPUTS.index(program.output),
            components=program.components if program.output == "mixture" else 0,
            coupled=program.coupled,
            lag=program.lag or 0,
            beyond=program.beyond,
            bits=program.bits,
            state_unit=program.state_unit,
            groups=plan.groups,
            nodes=len(nodes),
            leads=len(leads),
            buffers=size,
            kept_rows=plan.rows,
            kept_columns=plan.window,
            node=layout.structures(_Node, nodes),
            lead=layout.structures(_Lead, [_Lead(*lead) for lead in leads]),
        )

    def _node(
        self, i: int, tensors: Tensors, leads: list[tuple[int, int]], buffer: int, layout: _Layout
    ) -> _Node:
        plan, node = self.plan, self.program.nodes[i]
        taps = node.taps or ((0, 0),) * len(node.inputs)
        key = (node.level, plan.leads[i])
        found = _Node(
            op=_OPS.index(node.op),
            kind=_KINDS[node.op].index(node.kind) if node.op in _KINDS else 0,
            narrow=self.program.narrow(i),
            channels=node.channels,
            inputs=len(node.inputs),
            taps=len(node.taps),
            stride=node.stride,
            level=node.level,
            blank=node.blank,
            start=node.start,
            set=leads.index(key) if key in leads else 0,
            stored=i in plan.stored,
            buffer=buffer,
            input=layout.address(node.inputs, np.int32),
            tap=layout.address(taps, np.int32),
            here=layout.address(plan.here[i], np.int32),
            columns=layout.structures(
                _Some, [layout.some(columns, node.channels) for columns in plan.columns[i]]
            ),
        )
        if node.op in ("linear", "lstm"):
            sums, matrices = sums_of(tensors, i), []
            for columns in (plan.gates if node.op == "lstm" else plan.columns)[i]:
                some = (x if columns is None else x[..., columns] for x in sums)
                matrices.append(layout.matrix(*some))
            found.matrices = layout.structures(_Matrix, matrices)
        if node.op == "activate":
            found.scale = layout.address(tensors[f"{i}.scale"], np.float64)
        if node.op == "lstm":
            found.hidden = layout.address(tensors[f"{i}.hidden"], np.int16)
            found.cell = layout.address(tensors[f"{i}.cell"], np.int32)
        return found

    def bands(
        self, pixels: NDArray[np.uint8], label: int = 0, given: NDArray[Any] | None = None
    ) -> Iterator[NDArray[np.int32]]:
        """See `engine.Network.bands`."""
        height, width, channels = pixels.shape
        evaluation = Evaluation(self, _BY_ROWS, (height, width), channels, label)
        evaluation.tell(0, image(pixels, self.program))
        if given is not None:
            evaluation.tell(self.program.given, given)
        pixels, rows = np.ascontiguousarray(pixels), max(1, _BAND // width)
        for top in range(0, height, rows):
            band = pixels[top : top + rows]
            out = np.empty((band.shape[0] * width, channels, *self.parameters), np.int32)
            self.engine.program_score(evaluation.address, len(band), band, out)
            yield out

    @property
    def parameters(self) -> tuple[int, ...]:
        """The shape of a sub-pixel's parameters."""
        return (3, self.program.components) if self.program.output == "mixture" else (256,)

    def map(self, small: NDArray[np.uint8], shape: Shape) -> NDArray[Any]:
        """See `engine.Network.map`."""
        evaluation = Evaluation(self, _AT_ONCE, shape, small.shape[2], 0)
        evaluation.tell(0, image(small, self.program))
        out = np.empty((*shape, self.program.nodes[-1].channels), np.int16)
        self.engine.program_map(evaluation.address, out)
        return out

    def steps(self, shapes: Sequence[Shape], channels: int, labels: Sequence[int]) -> Steps:
        """See `engine.Network.steps`."""
        return Steps(self, shapes, channels, labels)

    def decode(
        self,
        payload: bytes,
        state: NDArray[np.uint64],
        pixels: NDArray[np.uint8],
        label: int = 0,
        given: NDArray[Any] | None = None,
        known: NDArray[np.uint8] | None = None,
    ) -> None:
        """Decode a tile into ``pixels`` (height, width, channels), but for what is ``known`` of it.

        ``state`` is the decoder's, see `pixelzip.codec.coder.check_finished`. FormatError if the
        payload is damaged.
        """
        height, width, channels = pixels.shape
        evaluation = Evaluation(self, _BY_STEPS, (height, width), channels, label)
        if given is not None:
            evaluation.tell(self.program.given, given)
        result = self.engine.program_decode(
            evaluation.address, payload, len(payload), state, known, pixels
        )
        if result == 1:
            raise FormatError("the compressed data is damaged")
        if result == 2:
            raise MemoryError("there is not enough memory for a tile")


def _buffers(plan: Plan) -> tuple[list[int], int]:
    """Where each node's channels are while they are being made, and how much room that takes.

    Nodes whose maps are needed at different times share room, unless colours are told apart: then
    a map is made in several goes.
    """
    nodes = plan.program.nodes
    last = list(range(len(nodes)))
    for i, node in enumerate(nodes):
        for j, here in zip(node.inputs, plan.here[i], strict=True):
            if here:
                last[j] = i
    last[-1] = len(nodes)
    free: dict[int, list[int]] = {}
    starts, size = [], 0
    ends: list[list[int]] = [[] for _ in range(len(nodes) + 1)]
    for i, node in enumerate(nodes):
        room = node.channels if is_made(node) else 0
        if free.get(room) and plan.groups == 1:
            starts.append(free[room].pop())
        else:
            starts.append(size)
            size += room
        ends[last[i]].append(i)
        for j in ends[i]:
            free.setdefault(nodes[j].channels if is_made(nodes[j]) else 0, []).append(starts[j])
    return starts, size


class Evaluation:
    """struct evaluation of programs.c: a tile in the making."""

    def __init__(
        self, network: Network, mode: int, shape: Shape, channels: int, label: int
    ) -> None:
        self.network, self.engine = network, network.engine
        program = ctypes.byref(network.structure)
        size = self.engine.program_memory(program, mode, *shape)
        if size > _MOST_MEMORY:
            raise MemoryError("the network takes too much memory for such a tile")
        self.memory = np.zeros(size, np.uint8)
        self.address = self.engine.program_open(
            program, network.number, mode, *shape, channels, label, self.memory
        )

    def tell(self, node: int, values: NDArray[Any]) -> None:
        """Set the map (rows, columns, channels) of an input, or of what is given."""
        values = np.ascontiguousarray(values, np.int16)
        self.engine.program_tell(self.address, node, values, *values.shape[:2])


class Steps:
    """Several tiles in step: a `pixelzip.codec.conditional.Stepper`."""

    def __init__(
        self, network: Network, shapes: Sequence[Shape], channels: int, labels: Sequence[int]
    ) -> None:
        self.network, self.engine, self.program = network, network.engine, network.program
        self.tiles = [
            Evaluation(network, _BY_STEPS, shape, channels, label)
            for shape, label in zip(shapes, labels, strict=True)
        ]

    def tell(self, node: int, values: NDArray[Any], tile: int = 0) -> None:
        """Set the map of what is given of a tile."""
        self.tiles[tile].tell(node, values)

    def select(
        self, tiles: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> None:
        """See `pixelzip.codec.conditional.Stepper.select`."""
        self.ends = np.append(np.flatnonzero(np.diff(tiles)) + 1, len(tiles))
        self.here = [self.tiles[tile].address for tile in tiles[self.ends - 1]]
        parts = (np.split(x.astype(np.int32), self.ends[:-1]) for x in (rows, columns))
        for address, row, column in zip(self.here, *parts, strict=True):
            taken = self.engine.program_select(address, len(row), row, column)
            assert taken, "more pixels than a front has"

    def parameters(self, channel: int) -> NDArray[np.int32]:
        """See `pixelzip.codec.conditional.Stepper.parameters`."""
        out = np.empty((self.ends[-1], *self.network.parameters), np.int32)
        for address, part in zip(self.here, np.split(out, self.ends[:-1]), strict=True):
            self.engine.program_parameters(address, channel, part)
        return out

    def reveal(self, channel: int, values: NDArray[np.uint8]) -> None:
        """See `pixelzip.codec.conditional.Stepper.reveal`."""
        values = np.ascontiguousarray(values, np.uint8)
        for address, part in zip(self.here, np.split(values, self.ends[:-1]), strict=True):
            self.engine.program_reveal(address, channel, part)


assert coding.EXP.dtype == np.int64
