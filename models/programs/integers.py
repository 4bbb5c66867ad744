"""The papers' networks in integers: programs with their tensors, as the codec sees them.

A frozen network is one safetensors file with its programs as JSON in the metadata; its fingerprint
is a hash over all of that. Most networks are one program. A Multi-Scale PixelRNN is three: one for
the subsampled image, one that upsamples it, and one that is given the result and codes the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import cdf, coder, tiles
from pixelzip.codec.conditional import (
    Conditional,
    Given,
    Order,
    Shape,
    Stepper,
    front_order,
    lagged,
)
from pixelzip.codec.errors import NetworkFileError
from pixelzip.codec.native import NONE
from pixelzip.models import zoo
from pixelzip.models.frozen import native as compiled
from pixelzip.models.frozen.shell import Tensors, fingerprint_of, opened
from pixelzip.models.programs import causality, engine, native, program
from pixelzip.models.programs.program import Part, Program

FORMAT = zoo.PROGRAMS

_OLDER = {"avxvnni": "avx2", "dotprod": "neon"}
"""Instruction sets whose products of 16 bits are those of an older one."""
_MOST_MATRIX = 1 << 24  # numbers in one


def fingerprint(parts: Sequence[Part]) -> bytes:
    """SHA-256 over the programs and every tensor's name, type, shape and bytes."""
    plain = [p.as_dict() for p, _ in parts]
    described = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return fingerprint_of(FORMAT, described, joined(parts))


def joined(parts: Sequence[Part]) -> Tensors:
    """The tensors of all parts, as their file names them: the number of a part comes first."""
    return {f"{k}.{name}": t for k, (_, own) in enumerate(parts) for name, t in own.items()}


def check(parts: Sequence[Part]) -> None:
    """Raise NetworkFileError unless the parts belong together and no sum can overflow."""
    if len(parts) not in (1, 3):
        raise NetworkFileError("it has neither one program nor three")
    for p, tensors in parts:
        expected = _layout(p)
        if set(tensors) != set(expected):
            raise NetworkFileError("it does not hold the tensors of its program")
        for name, (shape, dtype) in expected.items():
            tensor = tensors[name]
            if tensor.shape != shape or tensor.dtype != dtype:
                raise NetworkFileError(f"tensor {name} has the wrong shape or type")
            if dtype == np.float64 and not ((tensor > 0) & (tensor < 2.0**40)).all():
                raise NetworkFileError(f"tensor {name} holds a scale that is not positive")
            if name.endswith(".hidden") and _size(tensor) > p.state_unit:
                raise NetworkFileError(f"tensor {name} holds a state out of range")
            if name.endswith(".cell") and _size(tensor) > 1 << 30:
                raise NetworkFileError(f"tensor {name} holds a state out of range")
        for name, tensor in tensors.items():
            if name.endswith(".weight"):
                bias = tensors.get(name.removesuffix("weight") + "bias", np.zeros(1, np.int64))
                sums = np.abs(tensor, dtype=np.int64).sum(0)
                most = int(sums.max()) * (p.largest + 1) + _size(bias)
                if most >= (1 << 31 if p.bits == 8 else 1 << 53):
                    raise NetworkFileError(f"the sums of {name} could overflow")
        if p.output != "map":  # which is made of an image that is known
            causality.check(p, tensors)
    if len(parts) == 3:
        first, between, rest = (p for p, _ in parts)
        given = [node.channels for node in rest.nodes if node.op == "given"]
        last = between.nodes[-1]
        whole = (
            between.output == "map" and last.level == 0 and between.nodes[0].level > 0
            and between.narrow(len(between.nodes) - 1) and given == [last.channels]
            and first.lag is None and rest.lag is None and not first.coupled and not rest.coupled
            and first.colours == between.colours == rest.colours
            and first.bits == between.bits == rest.bits
            and first.output == rest.output != "map"
            and not any(node.op == "given" for p in (first, between) for node in p.nodes)
            and not any(p.classes for p, _ in parts)
        )  # fmt: skip
        if not whole:
            raise NetworkFileError("its three programs do not belong together")
    elif parts[0][0].output == "map" or any(n.op == "given" for n in parts[0][0].nodes):
        raise NetworkFileError("its program is only a part of one")


def _size(tensor: NDArray[Any]) -> int:
    """The largest absolute value; that of the most negative number does not fit its type."""
    return max(int(tensor.max()), -int(tensor.min()))


def _layout(p: Program) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    """The name, shape and type of every tensor of a program."""
    narrow = np.int8 if p.bits == 8 else np.int16
    found: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {}
    for i, node in enumerate(p.nodes):
        if node.op == "linear":
            inputs = len(node.taps) * p.nodes[node.inputs[0]].channels
            if inputs * node.channels > _MOST_MATRIX:
                raise NetworkFileError("one of its matrices is too large")
            found[f"{i}.weight"] = ((inputs, node.channels), narrow)
            found[f"{i}.bias"] = ((node.channels,), np.int64)
            found[f"{i}.scale"] = ((node.channels,), np.float64)
            if i in _of_classes(p):
                found[f"{i}.bias"] = ((p.classes, node.channels), np.int64)
        elif node.op == "lstm":
            taps = len(program.STATES[node.kind])
            h = node.channels
            found[f"{i}.weight"] = ((taps * h, 4 * h), narrow)
            found[f"{i}.scale"] = ((4 * h,), np.float64)
            found[f"{i}.hidden"], found[f"{i}.cell"] = ((h,), narrow), ((h,), np.int32)
        elif node.op == "activate":
            found[f"{i}.scale"] = ((node.channels,), np.float64)
    return found


def _of_classes(p: Program) -> set[int]:
    """The linear nodes whose biases a class chooses: those that gates read (PixelCNN++, 3.2)."""
    if not p.classes:
        return set()
    return {node.inputs[0] for node in p.nodes if (node.op, node.kind) == ("gate", "linear")}


class Evaluator(Protocol):
    """A program with its tensors, ready to be evaluated by a backend."""

    program: Program

    def bands(
        self, pixels: NDArray[np.uint8], label: int = 0, given: Any = None
    ) -> Iterator[NDArray[np.int32]]:
        """The parameters (n, channels, ...) of a tile that is known, band by band."""

    def map(self, small: NDArray[np.uint8], shape: Shape) -> NDArray[Any]:
        """(H, W, c): the last map of a program that is given to another one."""

    def steps(self, shapes: Sequence[Shape], channels: int, labels: Sequence[int]) -> Steps:
        """Tiles of these shapes, front by front."""


class Steps(Stepper, Protocol):
    """Of a program."""

    def tell(self, node: int, values: NDArray[Any], tile: int = 0) -> None:
        """Set the map (H, W, channels) of what is given of a tile."""


class Integers:
    """A frozen network of one program: a `pixelzip.codec.conditional.Conditional`.

    ``networks`` are its programs, as a backend holds them.
    """

    given = 0

    def __init__(self, name: str, fingerprint: bytes, networks: Sequence[Evaluator]) -> None:
        self.name, self.fingerprint, self.networks = name, fingerprint, networks
        self.program = networks[0].program
        self.classes = self.program.classes

    def codes(self, channels: int) -> bool:
        """See `pixelzip.codec.conditional.Conditional.codes`."""
        return channels in (1, self.program.colours)

    def steps(self, shape: Shape) -> NDArray[np.int32]:
        """See `pixelzip.codec.conditional.Conditional.steps`."""
        lag = self.program.lag
        return lagged(shape, shape[1] if lag is None else lag)

    def parallel(
        self, pixels: NDArray[np.uint8], label: int = 0, given: Given | None = None
    ) -> Iterator[NDArray[np.int32]]:
        """See `pixelzip.codec.conditional.Conditional.parallel`."""
        return self.networks[0].bands(pixels, label)

    def stepwise(
        self,
        shapes: Sequence[Shape],
        channels: int,
        labels: Sequence[int],
        given: Sequence[Given] | None = None,
    ) -> Stepper:
        """See `pixelzip.codec.conditional.Conditional.stepwise`."""
        return self.networks[0].steps(shapes, channels, labels)


class MultiScale(Integers):
    """A frozen Multi-Scale PixelRNN: first every ``factor``-th pixel each way, then the rest."""

    def __init__(self, name: str, fingerprint: bytes, networks: Sequence[Evaluator]) -> None:
        super().__init__(name, fingerprint, networks)
        self.factor = 1 << networks[1].program.nodes[0].level

    def first(self, shape: Shape) -> NDArray[np.bool_]:
        """(height, width): the pixels of the subsampled image."""
        found = np.zeros(shape, bool)
        found[:: self.factor, :: self.factor] = True
        return found

    def steps(self, shape: Shape) -> NDArray[np.int32]:
        """See `pixelzip.codec.conditional.Conditional.steps`."""
        first = self.first(shape)
        found = np.empty(shape, np.int32)
        found[first] = np.arange(first.sum())
        found[~first] = np.arange(first.sum(), first.size)
        return found

    def upsampled(self, small: NDArray[np.uint8], shape: Shape) -> NDArray[Any]:
        """(H, W, c): what the subsampled image tells of the whole one."""
        return self.networks[1].map(small, shape)

    def parallel(
        self, pixels: NDArray[np.uint8], label: int = 0, given: Given | None = None
    ) -> Iterator[NDArray[np.int32]]:
        """See `pixelzip.codec.conditional.Conditional.parallel`."""
        shape = pixels.shape[:2]
        small = np.ascontiguousarray(pixels[:: self.factor, :: self.factor])
        first = self.first(shape).reshape(-1)
        of_first = np.concatenate(list(self.networks[0].bands(small)))
        told, begun = self.upsampled(small, shape), 0
        for band in self.networks[2].bands(pixels, label, told):
            mine = first[begun : begun + len(band)]
            band[mine], of_first = of_first[: mine.sum()], of_first[mine.sum() :]
            begun += len(band)
            yield band

    def stepwise(
        self,
        shapes: Sequence[Shape],
        channels: int,
        labels: Sequence[int],
        given: Sequence[Given] | None = None,
    ) -> Stepper:
        """See `pixelzip.codec.conditional.Conditional.stepwise`."""
        return MultiScaleSteps(self, shapes, channels)


class Native(Integers):
    """One program in compiled C: a `pixelzip.codec.conditional.WholeTiles` as well."""

    networks: Sequence[native.Network]

    def score_tile(
        self, pixels: NDArray[np.uint8], label: int = 0, given: Given | None = None
    ) -> NDArray[np.float32]:
        """See `pixelzip.codec.conditional.WholeTiles.score_tile`."""
        height, width, channels = pixels.shape
        values, scored = pixels.reshape(-1, channels), []
        for band in self.parallel(pixels, label):
            known, values = values[: len(band)], values[len(band) :]
            parts = [cdf.intervals(band[:, c], known[:, c]) for c in range(channels)]
            scored.append(np.stack(parts, 1))
        return tiles.in_order(np.concatenate(scored), self._order((height, width)))

    @lru_cache(maxsize=4)  # noqa: B019 (networks stay)
    def _order(self, shape: Shape) -> Order:
        return front_order(self.steps(shape))

    def decode_tile(
        self,
        payload: bytes,
        shape: Shape,
        channels: int,
        label: int = 0,
        given: Given | None = None,
    ) -> NDArray[np.uint8]:
        """See `pixelzip.codec.conditional.WholeTiles.decode_tile`."""
        state = coder.start(payload)
        pixels = self._decoded(payload, state, np.empty((*shape, channels), np.uint8), label)
        coder.check_finished(payload, state)
        return pixels

    def _decoded(
        self, payload: bytes, state: NDArray[np.uint64], pixels: NDArray[np.uint8], label: int
    ) -> NDArray[np.uint8]:
        self.networks[0].decode(payload, state, pixels, label)
        return pixels


class NativeMultiScale(Native, MultiScale):
    """Three programs in compiled C."""

    def _decoded(
        self, payload: bytes, state: NDArray[np.uint64], pixels: NDArray[np.uint8], label: int
    ) -> NDArray[np.uint8]:
        height, width, channels = pixels.shape
        first, f = self.first((height, width)), self.factor
        small = np.empty((-(-height // f), -(-width // f), channels), np.uint8)
        self.networks[0].decode(payload, state, small)
        pixels[first] = small.reshape(-1, channels)
        told = self.upsampled(small, (height, width))
        known = first.view(np.uint8)
        self.networks[2].decode(payload, state, pixels, given=told, known=known)
        return pixels


class MultiScaleSteps:
    """Steps through the subsampled images, then through the others' pixels.

    The second network takes its steps through all pixels; at those that are known it is told them.
    """

    def __init__(self, network: MultiScale, shapes: Sequence[Shape], channels: int) -> None:
        self.network, self.shapes, self.channels = network, shapes, channels
        self.factor = network.factor
        self.halves = [(-(-h // self.factor), -(-w // self.factor)) for h, w in shapes]
        labels = [0] * len(shapes)
        ends = np.cumsum([h * w for h, w in self.halves])
        self.small = np.zeros((ends[-1], channels), np.uint8)  # one tile after the other
        self.starts = np.append(0, ends)
        self.first = network.networks[0].steps(self.halves, channels, labels)
        self.rest = network.networks[2].steps(shapes, channels, labels)
        self.widths = np.array([w for _, w in shapes])
        self.done = np.full(len(shapes), -1)  # of each tile's pixels, by the second network
        self.given = network.networks[2].program.given

    def select(
        self, tiles: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> None:
        """See `pixelzip.codec.conditional.Stepper.select`."""
        f = self.factor
        early = (rows % f == 0) & (columns % f == 0)
        self.early, self.late = np.flatnonzero(early), np.flatnonzero(~early)
        self.places = tiles, rows, columns
        if len(self.early):
            self.first.select(tiles[early], rows[early] // f, columns[early] // f)
        if len(self.late):
            self._catch_up(tiles[~early], (rows * self.widths[tiles] + columns)[~early])
            self.rest.select(tiles[~early], rows[~early], columns[~early])

    def _catch_up(self, tiles: NDArray[np.intp], pixels: NDArray[np.intp]) -> None:
        """Tell the second network the known pixels that come before these, tile by tile."""
        for tile in tiles[self.done[tiles] < 0]:
            self._upsample(tile)
            self.done[tile] = 0
        while (behind := self.done[tiles] < pixels).any():
            late = tiles[behind]
            row, column = np.divmod(self.done[late], self.widths[late])
            self.rest.select(late, row, column)
            known = self.small[self._within(late, row, column)]
            for channel in range(self.channels):
                self.rest.parameters(channel)
                self.rest.reveal(channel, known[:, channel])
            self.done[late] += 1
        self.done[tiles] = pixels + 1

    def _within(
        self, tiles: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        """Where pixels of the subsampled images lie, given their places in the whole ones."""
        widths = -(-self.widths[tiles] // self.factor)
        found: NDArray[np.intp] = rows // self.factor * widths + columns // self.factor
        return self.starts[tiles] + found

    def _upsample(self, tile: int) -> None:
        """Give the second network what the subsampled image tells of the whole one."""
        small = self.small[self.starts[tile] : self.starts[tile + 1]]
        small = small.reshape(*self.halves[tile], self.channels)
        found = self.network.upsampled(small, self.shapes[tile])
        self.rest.tell(self.given, found, tile)

    def parameters(self, channel: int) -> NDArray[np.int32]:
        """See `pixelzip.codec.conditional.Stepper.parameters`."""
        parts = [(self.early, self.first), (self.late, self.rest)]
        found = [(at, steps.parameters(channel)) for at, steps in parts if len(at)]
        joined = np.empty((len(self.places[0]), *found[0][1].shape[1:]), np.int32)
        for at, values in found:
            joined[at] = values
        return joined

    def reveal(self, channel: int, values: NDArray[np.uint8]) -> None:
        """See `pixelzip.codec.conditional.Stepper.reveal`."""
        tiles, rows, columns = self.places
        if len(self.early):
            self.first.reveal(channel, values[self.early])
        if len(self.late):
            self.rest.reveal(channel, values[self.late])
        early = self.early
        self.small[self._within(tiles[early], rows[early], columns[early]), channel] = values[early]


def make(
    name: str,
    parts: Sequence[Part],
    sound: bytes | None = None,
    *,
    carrier: str | None = None,
    device: str = "cpu",
) -> Integers:
    """The frozen network of these parts, on a torch device, in the fastest way there is.

    On the CPU that is compiled C, or loops that numba compiles where there is none; elsewhere it is
    torch. ``carrier`` asks for torch's products in a number format (see
    `pixelzip.models.gpu.carriers`). ``sound`` is the fingerprint of parts that `read` has seen to;
    others are looked at here. Raises NetworkFileError if they are not sound, DeviceError if there
    is no such device.
    """
    if sound is None:
        check(parts)
        sound = fingerprint(parts)
    whole = len(parts) == 3
    if device == "cpu" and carrier is None:
        isa = _instruction_set()
        if isa != NONE:
            kind = NativeMultiScale if whole else Native
            return kind(name, sound, [native.Network(*part, isa) for part in parts])
        from pixelzip.models.programs.loops import Compiled

        networks = [engine.Network(*part, Compiled(part[0])) for part in parts]
    else:
        from pixelzip.models.gpu.programs import Plain

        networks = [engine.Network(*part, Plain(part[0], carrier, device)) for part in parts]
    return (MultiScale if whole else Integers)(name, sound, networks)


def _instruction_set() -> str:
    """That of products of 16 bits: the one that is asked for, or the fastest."""
    here, asked = native.instruction_sets(), compiled.asked_for()
    asked = _OLDER.get(asked, asked) if asked else None
    return asked if asked in here else (*here, NONE)[0]


def read(path: Path) -> tuple[list[Part], bytes]:
    """The programs and tensors of a frozen network's file, and its fingerprint; never unpickles.

    Raises NetworkFileError for a file that is damaged, hostile or not a frozen network.
    """
    parts: list[Part] = []
    with opened(path, FORMAT) as (metadata, tensors):
        for k, found in enumerate(json.loads(metadata["programs"])):
            start = f"{k}."
            own = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
            parts.append((program.from_dict(found), own))
        if sum(len(own) for _, own in parts) != len(tensors):
            raise NetworkFileError("it holds tensors of no program")
        check(parts)
        sound = fingerprint(parts)
        if sound.hex() != metadata.get("fingerprint"):
            raise NetworkFileError("its integers do not match its fingerprint")
    return parts, sound


_: type[Conditional] = Integers
