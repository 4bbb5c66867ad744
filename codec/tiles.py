"""Tiles and fronts: network-coded tiles, encoded in parallel and decoded in step.

Encoding knows all pixels, so each tile is scored in one parallel pass and its sub-pixels are then
put into the order in which the decoder will ask for them: front by front, within a front channel by
channel, within a channel all high nibbles and then all low ones, within those row by row. Which
front a pixel belongs to, the network says (`pixelzip.codec.conditional.Conditional.steps`).

Decoding steps many tiles at once, the first front of each, then the second, so that there is much
to do in each step even where a tile is small. The cores share the tiles out; each tile is
independent of the others, so the result does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import cdf, coder
from pixelzip.codec.conditional import Conditional, Shape
from pixelzip.codec.workers import share_out

_ROWS_IN_STEP = 8192
"""Tiles with so many rows in all step together. More would make the fronts' activations outgrow the
caches and the memory; fewer would leave each front too little to do."""

Progress = Callable[[float], None]
"""Receives the fraction done, 0 to 1."""


def front_order(steps: NDArray[np.int32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The pixels of a tile in decoding order, and where each front ends in it.

    ``steps`` is (height, width), see `Conditional.steps`. Both answers are for pixels numbered in
    raster order; the second has one entry for each step that has pixels.
    """
    flat = steps.reshape(-1)
    order = np.argsort(flat, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(flat[order])) + 1, len(order))
    return order, ends


def encode_tiles(
    conditional: Conditional,
    tiles: Sequence[NDArray[np.uint8]],
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[bytes]:
    """Each tile's payload. Tiles are (height, width, channels), channels 3 or 1."""
    return _in_parallel(_encode, conditional, tiles, threads, progress)


def _encode(conditional: Conditional, tile: NDArray[np.uint8], tally: _Tally) -> bytes:
    height, width, channels = tile.shape
    scored = np.empty((height * width, channels, 2, 3), np.float32)
    done = 0
    for band in _scored(conditional, tile, tally):
        scored[done : done + len(band)] = band
        done += len(band)
    order, ends = front_order(conditional.steps((height, width)))
    scored = scored[order]
    # Each front: from (pixels, channels, nibbles) to (channels, nibbles, pixels).
    pieces = [front.transpose(1, 2, 0, 3).reshape(-1, 3) for front in np.split(scored, ends[:-1])]
    return coder.encode(np.concatenate(pieces))


def score_tiles(
    conditional: Conditional,
    tiles: Sequence[NDArray[np.uint8]],
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[NDArray[np.float32]]:
    """The theoretical bits that each pixel of each tile costs: (height, width) for each.

    Tiles are (height, width, channels), channels 3 or 1. This is what `encode_tiles` codes, without
    the coder: the sum over a tile is its payload's length but for the coder's own few bits.
    """
    return _in_parallel(_score, conditional, tiles, threads, progress)


def _score(conditional: Conditional, tile: NDArray[np.uint8], tally: _Tally) -> NDArray[np.float32]:
    bands = _scored(conditional, tile, tally)
    bits = [cdf.symbol_bits(band).sum(axis=(1, 2)).astype(np.float32) for band in bands]
    return np.concatenate(bits).reshape(tile.shape[:2])


def _scored(
    conditional: Conditional, tile: NDArray[np.uint8], tally: _Tally
) -> Iterator[NDArray[np.float32]]:
    """The intervals of a tile's values in bands: (pixels, channels, 2 nibbles, 3), raster order."""
    channels = tile.shape[2]
    values, done = tile.reshape(-1, channels), 0
    for band in conditional.parallel(tile):
        end = done + len(band)
        scored = [cdf.intervals(band[:, c], values[done:end, c]) for c in range(channels)]
        yield np.stack(scored, axis=1)
        tally.add(end - done)
        done = end


def decode_tiles(
    conditional: Conditional,
    payloads: Sequence[bytes],
    shapes: Sequence[Shape],
    channels: int,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[NDArray[np.uint8]]:
    """The tiles of these shapes, (height, width, channels) each. FormatError if damaged."""

    def decode(group: Sequence[int]) -> list[NDArray[np.uint8]]:
        tally = _Tally(sum(shapes[i][0] * shapes[i][1] for i in group), progress)
        decoded = []
        for together in _in_step(group, shapes):
            chosen = [shapes[i] for i in together]
            found = [payloads[i] for i in together]
            decoded += _decode_in_step(conditional, found, chosen, channels, tally)
        return decoded

    return _in_groups(decode, _groups(shapes, threads), conditional)


def _in_step(group: Sequence[int], shapes: Sequence[Shape]) -> Iterator[Sequence[int]]:
    """Cut a group of tiles into runs of about the same number of rows, that step together."""
    rows = np.cumsum([shapes[i][0] for i in group])
    runs = -(-int(rows[-1]) // _ROWS_IN_STEP)
    ends = np.unique(np.searchsorted(rows, rows[-1] * np.arange(1, runs + 1) / runs)) + 1
    for start, end in zip([0, *ends], ends, strict=False):
        yield group[start:end]


Result = TypeVar("Result")


def _in_parallel(
    work: Callable[[Conditional, NDArray[np.uint8], _Tally], Result],
    conditional: Conditional,
    tiles: Sequence[NDArray[np.uint8]],
    threads: int,
    progress: Progress | None,
) -> list[Result]:
    """What ``work`` makes of each tile, all of whose pixels are known."""

    def do(group: Sequence[int]) -> list[Result]:
        tally = _Tally(sum(tiles[i].shape[0] * tiles[i].shape[1] for i in group), progress)
        return [work(conditional, tiles[i], tally) for i in group]

    return _in_groups(do, _groups([tile.shape[:2] for tile in tiles], threads), conditional)


def _in_groups(
    work: Callable[[Sequence[int]], list[Result]],
    groups: Sequence[Sequence[int]],
    conditional: Conditional,
) -> list[Result]:
    """Do each group's tiles, ``work(numbers)``; return the results in the tiles' order."""
    shares = share_out(work, groups, fork=conditional.forkable)
    by_number = {
        number: result
        for group, results in zip(groups, shares, strict=True)
        for number, result in zip(group, results, strict=True)
    }
    return [by_number[number] for number in sorted(by_number)]


def _groups(shapes: Sequence[Shape], threads: int) -> list[list[int]]:
    """Share the tiles out: at most as many groups as threads, of about the same size."""
    groups: list[list[int]] = [[] for _ in range(max(1, min(threads, len(shapes))))]
    filled = [0] * len(groups)
    # Largest first, each to the group that has least: similar tiles then step together.
    for i in sorted(range(len(shapes)), key=lambda i: -shapes[i][0] * shapes[i][1]):
        least = filled.index(min(filled))
        groups[least].append(i)
        filled[least] += shapes[i][0] * shapes[i][1]
    return groups


def _decode_in_step(
    conditional: Conditional,
    payloads: Sequence[bytes],
    shapes: Sequence[Shape],
    channels: int,
    tally: _Tally,
) -> list[NDArray[np.uint8]]:
    decoders = [coder.Decoder(payload) for payload in payloads]
    stepper = conditional.stepwise(shapes, channels, [0] * len(shapes))
    widths = np.array([width for _, width in shapes])
    areas = np.array([height * width for height, width in shapes])
    starts = np.cumsum(areas) - areas
    pixels = np.empty((areas.sum(), channels), np.uint8)  # of one tile after the other
    for spans in fronts(conditional, shapes):
        lengths = [len(numbers) for _, numbers in spans]
        members = np.repeat([tile for tile, _ in spans], lengths)
        numbers = np.concatenate([numbers for _, numbers in spans])
        stepper.select(members, *np.divmod(numbers, widths[members]))
        here = starts[members] + numbers
        readers = [decoders[tile] for tile, _ in spans]
        for channel in range(channels):
            parameters = stepper.parameters(channel)
            high = _read(readers, lengths, cdf.high_table(parameters))
            low = _read(readers, lengths, cdf.low_table(parameters, high))
            values = (16 * high + low).astype(np.uint8)
            stepper.reveal(channel, values)
            pixels[here, channel] = values
        tally.add(len(numbers))
    parts = np.split(pixels, starts[1:])
    return [part.reshape(*shape, channels) for part, shape in zip(parts, shapes, strict=True)]


def _read(
    decoders: Sequence[coder.Decoder], lengths: Sequence[int], table: NDArray[np.float32]
) -> NDArray[np.int32]:
    """A front's nibbles: so many of each tile, from its decoder and its rows of the table."""
    nibbles, start = [], 0
    for decoder, length in zip(decoders, lengths, strict=True):
        nibbles.append(decoder.decode(table[start : start + length]))
        start += length
    return np.concatenate(nibbles)


def fronts(
    conditional: Conditional, shapes: Sequence[Shape]
) -> Iterator[list[tuple[int, NDArray[np.intp]]]]:
    """For each step, the tiles that have a front left, with the numbers of its pixels."""
    orders = {shape: front_order(conditional.steps(shape)) for shape in set(shapes)}
    begun = dict.fromkeys(orders, 0)
    for front in range(max(len(ends) for _, ends in orders.values())):
        now = {}
        for shape, (order, ends) in orders.items():
            if front < len(ends):
                now[shape] = order[begun[shape] : ends[front]]
                begun[shape] = ends[front]
        yield [(tile, now[shape]) for tile, shape in enumerate(shapes) if shape in now]


class _Tally:
    """Adds up the pixels that a share of the work has done."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.total, self.progress = total, progress
        self.done = 0

    def add(self, pixels: int) -> None:
        self.done += pixels
        if self.progress is not None:
            self.progress(self.done / self.total)
