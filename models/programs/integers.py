"""The papers' networks in integers: programs with their tensors, as the codec sees them.

A frozen network is one safetensors file with its programs as JSON in the metadata; its fingerprint
is a hash over all of that. Most networks are one program. A Multi-Scale PixelRNN is three: one for
the subsampled image, one that upsamples it, and one that is given the result and codes the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelzip.codec.conditional import Conditional, Given, Shape, Stepper, lagged
from pixelzip.codec.errors import NetworkFileError
from pixelzip.models import zoo
from pixelzip.models.frozen import carriers
from pixelzip.models.frozen.file import opened
from pixelzip.models.programs import causality, program
from pixelzip.models.programs.arithmetic import Arithmetic, Compiled, Plain
from pixelzip.models.programs.engine import Network, Parallel, Steps, bands, image
from pixelzip.models.programs.program import Program

FORMAT = zoo.PROGRAMS
Part = tuple[Program, Mapping[str, Tensor]]
"""A program and its tensors, named as `pixelzip.models.programs.engine.Network` wants them."""

_MOST_MATRIX = 1 << 24  # numbers in one


def fingerprint(parts: Sequence[Part]) -> bytes:
    """SHA-256 over the programs and every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(f"{FORMAT}\n{_written(parts)}\n".encode())
    for k, (_, tensors) in enumerate(parts):
        for name in sorted(tensors):
            tensor = tensors[name].contiguous()
            digest.update(f"{k}.{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.numpy().astype(tensor.numpy().dtype.newbyteorder("<")).tobytes())
    return digest.digest()


def _written(parts: Sequence[Part]) -> str:
    return json.dumps([p.as_dict() for p, _ in parts], sort_keys=True, separators=(",", ":"))


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
            if tuple(tensor.shape) != shape or tensor.dtype != dtype:
                raise NetworkFileError(f"tensor {name} has the wrong shape or type")
            if dtype == torch.float64 and not bool(((tensor > 0) & (tensor < 2.0**40)).all()):
                raise NetworkFileError(f"tensor {name} holds a scale that is not positive")
            if name.endswith(".hidden") and _size(tensor) > p.state_unit:
                raise NetworkFileError(f"tensor {name} holds a state out of range")
            if name.endswith(".cell") and _size(tensor) > 1 << 30:
                raise NetworkFileError(f"tensor {name} holds a state out of range")
        for name, tensor in tensors.items():
            if name.endswith(".weight"):
                bias = tensors.get(name.removesuffix("weight") + "bias", tensor.new_zeros(1).long())
                most = carriers.bound(tensor, p.largest + 1) + _size(bias)
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


def _size(tensor: Tensor) -> int:
    """The largest absolute value; that of the most negative number does not fit its type."""
    return max(int(tensor.max()), -int(tensor.min()))


def _layout(p: Program) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """The name, shape and type of every tensor of a program."""
    weights = torch.int8 if p.bits == 8 else torch.int16
    narrow = weights
    found: dict[str, tuple[tuple[int, ...], torch.dtype]] = {}
    for i, node in enumerate(p.nodes):
        if node.op == "linear":
            inputs = len(node.taps) * p.nodes[node.inputs[0]].channels
            if inputs * node.channels > _MOST_MATRIX:
                raise NetworkFileError("one of its matrices is too large")
            found[f"{i}.weight"] = ((inputs, node.channels), weights)
            found[f"{i}.bias"] = ((node.channels,), torch.int64)
            found[f"{i}.scale"] = ((node.channels,), torch.float64)
            if i in _of_classes(p):
                found[f"{i}.bias"] = ((p.classes, node.channels), torch.int64)
        elif node.op == "lstm":
            taps = len(program.STATES[node.kind])
            h = node.channels
            found[f"{i}.weight"] = ((taps * h, 4 * h), weights)
            found[f"{i}.scale"] = ((4 * h,), torch.float64)
            found[f"{i}.hidden"], found[f"{i}.cell"] = ((h,), narrow), ((h,), torch.int32)
        elif node.op == "activate":
            found[f"{i}.scale"] = ((node.channels,), torch.float64)
    return found


def _of_classes(p: Program) -> set[int]:
    """The linear nodes whose biases a class chooses: those that gates read (PixelCNN++, 3.2)."""
    if not p.classes:
        return set()
    return {node.inputs[0] for node in p.nodes if (node.op, node.kind) == ("gate", "linear")}


class Integers:
    """A frozen network of one program: a `pixelzip.codec.conditional.Conditional`.

    ``carrier`` asks for a number format (see `pixelzip.models.frozen.carriers`), ``device`` is a
    torch device. On the CPU compiled loops run, elsewhere plain torch; ``plain`` asks for the
    latter.
    """

    given = 0

    def __init__(
        self,
        name: str,
        parts: Sequence[Part],
        *,
        carrier: str | None = None,
        device: str = "cpu",
        plain: bool = False,
    ) -> None:
        self.name, self.fingerprint = name, fingerprint(parts)
        self.device = carriers.device_of(device)
        carrier = carrier or carriers.asked_for()

        def arithmetic(p: Program) -> Arithmetic:
            if plain or self.device.type != "cpu":
                return Plain(p, carrier, self.device)
            return Compiled(p, carrier)

        self.networks = [Network(p, tensors, arithmetic(p)) for p, tensors in parts]
        self.program = self.networks[0].program
        self.classes = self.program.classes

    @property
    def forkable(self) -> bool:
        """See `pixelzip.codec.conditional.Conditional.forkable`."""
        return self.device.type == "cpu"

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
        network = self.networks[0]
        return bands(network, _last_map(network, pixels, label), pixels, pixels.shape[2])

    def stepwise(
        self,
        shapes: Sequence[Shape],
        channels: int,
        labels: Sequence[int],
        given: Sequence[Given] | None = None,
    ) -> Stepper:
        """See `pixelzip.codec.conditional.Conditional.stepwise`."""
        return Steps(self.networks[0], shapes, channels, labels)


def _last_map(
    network: Network, pixels: NDArray[np.uint8], label: int = 0, given: Any = None
) -> Any:
    """The last map of a tile that is known."""
    evaluation = Parallel(network, pixels.shape[:2], label)
    evaluation.tell(0, image(pixels, network.program))
    for i, node in enumerate(network.program.nodes):
        if node.op == "given":
            evaluation.tell(i, given)
    return evaluation.run()


class MultiScale(Integers):
    """A frozen Multi-Scale PixelRNN: first every ``factor``-th pixel each way, then the rest."""

    def __init__(self, name: str, parts: Sequence[Part], **settings: Any) -> None:
        super().__init__(name, parts, **settings)
        self.factor = 1 << self.networks[1].program.nodes[0].level

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

    def upsampled(self, small: NDArray[np.uint8], shape: Shape) -> Any:
        """(H, W, c): what the subsampled image tells of the whole one."""
        network = self.networks[1]
        evaluation = Parallel(network, shape)
        evaluation.tell(0, image(small, network.program))
        return evaluation.run().reshape(*shape, -1)

    def parallel(
        self, pixels: NDArray[np.uint8], label: int = 0, given: Given | None = None
    ) -> Iterator[NDArray[np.int32]]:
        """See `pixelzip.codec.conditional.Conditional.parallel`."""
        shape = pixels.shape[:2]
        small = np.ascontiguousarray(pixels[:: self.factor, :: self.factor])
        rows = _last_map(self.networks[2], pixels, label, self.upsampled(small, shape))
        first = np.flatnonzero(self.first(shape).ravel())
        rows[self.networks[2].arithmetic.array(first)] = _last_map(self.networks[0], small)
        return bands(self.networks[2], rows, pixels, pixels.shape[2])

    def stepwise(
        self,
        shapes: Sequence[Shape],
        channels: int,
        labels: Sequence[int],
        given: Sequence[Given] | None = None,
    ) -> Stepper:
        """See `pixelzip.codec.conditional.Conditional.stepwise`."""
        return MultiScaleSteps(self, shapes, channels)


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
        self.first = Steps(network.networks[0], self.halves, channels, labels)
        self.rest = Steps(network.networks[2], shapes, channels, labels)
        self.widths = np.array([w for _, w in shapes])
        self.done = np.full(len(shapes), -1)  # of each tile's pixels, by the second network
        node = [i for i, n in enumerate(self.rest.program.nodes) if n.op == "given"]
        self.given = node[0]

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


def make(name: str, parts: Sequence[Part], **settings: Any) -> Integers:
    """The frozen network of these parts. Raises NetworkFileError if they are not sound."""
    check(parts)
    return (MultiScale if len(parts) == 3 else Integers)(name, parts, **settings)


def read(path: Path) -> list[Part]:
    """The programs and tensors of a frozen network's file; never unpickles.

    Raises NetworkFileError for a file that is damaged, hostile or not a frozen network.
    """
    parts: list[Part] = []
    with opened(path, FORMAT, "pt") as (metadata, tensors):
        for k, found in enumerate(json.loads(metadata["programs"])):
            start = f"{k}."
            own = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
            parts.append((program.from_dict(found), own))
        if sum(len(own) for _, own in parts) != len(tensors):
            raise NetworkFileError("it holds tensors of no program")
        check(parts)
        if fingerprint(parts).hex() != metadata.get("fingerprint"):
            raise NetworkFileError("its integers do not match its fingerprint")
    return parts


_: type[Conditional] = Integers
