"""The papers' networks in integers: programs with their tensors, as the codec sees them.

Most networks are one program. A Multi-Scale PixelRNN is three: one for the subsampled image, one
that upsamples it, and one that is given the result and codes the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
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
from pixelzip.codec.native import NONE
from pixelzip.codec.workers import Map
from pixelzip.models.frozen import native as compiled
from pixelzip.models.programs import engine, native
from pixelzip.models.programs.file import check, fingerprint
from pixelzip.models.programs.program import Part, Program

_OLDER = {"avxvnni": "avx2", "dotprod": "neon"}
"""Instruction sets whose products of 16 bits are those of an older one."""


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
        self,
        pixels: NDArray[np.uint8],
        label: int = 0,
        given: Given | None = None,
        bands: int = 1,
        parallel: Map = map,
    ) -> NDArray[np.float32]:
        """See `pixelzip.codec.conditional.WholeTiles.score_tile`. There are no bands."""
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
    `pixelzip.models.gpu.carriers`). ``sound`` is the fingerprint of parts from `file.read`; others
    are looked at here. Raises NetworkFileError if they are not sound, DeviceError if there
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


_: type[Conditional] = Integers
