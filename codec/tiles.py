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

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from threading import Lock
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import adaptive as adaptive_stage
from pixelzip.codec import cdf, coder, offsets
from pixelzip.codec.colours import Colours, Several
from pixelzip.codec.conditional import (
    Conditional,
    FactoredStepper,
    Given,
    Order,
    Shape,
    Shift,
    Stepper,
    factored,
    fitted_tiles,
    front_order,
    trails_by_two,
    whole_tiles,
)
from pixelzip.codec.errors import FormatError
from pixelzip.codec.methods import Method, Tile
from pixelzip.codec.offsets import Fit
from pixelzip.codec.progress import Progress
from pixelzip.codec.workers import Map, side_by_side

_ROWS_IN_STEP = 8192
"""Tiles with so many rows in all step together. More would make the fronts' activations outgrow the
caches and the memory; fewer would leave each front too little to do."""
_BAND_ROWS, _BAND_PIXELS = 12, 256
"""A band that a thread scores of a tile has so many rows and pixels at least: for each it computes
some rows above once more, and to start the thread takes as long as a hundred pixels."""
_MANY = 4
"""Of more tiles for each thread than that it does not matter which thread is done first."""
_LEAST_FITTED, _MOST_FITTED = 1 << 12, 1 << 19
"""Pixels of a tile: what its offsets take has to be saved, and its integers take 0.4 kB each."""
_ORDERS = 16
"""The orders of so many shapes are remembered; the tiles of a picture have at most four shapes."""

Known = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""A tile (height, width, channels), and (height, width): which of its pixels are known."""


class Source(Protocol):
    """Where nibbles come from: a payload, or chance (see `pixelzip.codec.coder`)."""

    def decode(self, table: NDArray[np.float32]) -> NDArray[np.int32]:
        """(n, 18) frequencies less one -> the n nibbles."""

    def finish(self) -> None:
        """Raise FormatError if there is more than was read."""


def encode_tiles(
    conditional: Conditional,
    tiles: Sequence[NDArray[np.uint8]],
    *,
    given: Sequence[Given] | None = None,
    colours: Sequence[Colours | None] | None = None,
    label: int | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[bytes]:
    """Each tile's payload. Tiles are (height, width, channels), of channels that the network codes.

    If the network wants to know earlier planes, each tile has what it is ``given``. ``colours``, of
    tiles of three channels, are all that there can be in each; None if any can. If the network has
    classes, all tiles are of class ``label``, or each of the one that makes it the smallest.
    ValueError if there is no such class.
    """
    if label is not None and not 0 <= label < conditional.classes:
        raise ValueError(f"there is no class {label} among {conditional.classes}")
    labels = _all_labels(conditional) if label is None else [label]
    remembered = lru_cache(_ORDERS)(lambda shape: front_order(conditional.steps(shape)))

    def encode(number: int, tally: _Tally) -> bytes:
        tile = np.ascontiguousarray(tiles[number])
        told = None if given is None else given[number]
        own = None if colours is None else colours[number]
        bands = _bands(len(tiles), shapes[number], threads)
        tried = [
            _encode(conditional, tile, label, told, own, bands, parallel, remembered, tally)
            for label in labels
        ]
        return min(tried, key=len)  # the first one of several

    shapes = [tile.shape[:2] for tile in tiles]
    with side_by_side(threads) as parallel:
        return _in_parallel(encode, conditional, shapes, len(labels), threads, progress)


def _bands(count: int, shape: Shape, threads: int) -> int:
    """How many bands of each of so many tiles give all threads the same to do."""
    if count % threads == 0 or count > _MANY * threads:
        return 1
    height, width = shape
    return max(1, min(threads, height // _BAND_ROWS, height * width // _BAND_PIXELS))


def _encode(
    conditional: Conditional,
    tile: NDArray[np.uint8],
    label: int,
    given: Given | None,
    colours: Colours | None,
    bands: int,
    parallel: Map,
    order_of: Callable[[Shape], Order],
    tally: _Tally,
) -> bytes:
    whole = whole_tiles(conditional)
    if whole is not None and colours is None:
        message = coder.encode(whole.score_tile(tile, label, given, bands, parallel))
        tally.add(tile.shape[0] * tile.shape[1])
    else:
        scored = _score_bands(conditional, tile, label, given, colours, tally)
        message = coder.encode(in_order(scored, order_of((tile.shape[0], tile.shape[1]))))
    return bytes([label]) + message if conditional.classes else message


def encode_fitted(
    conditional: Conditional,
    tiles: Sequence[NDArray[np.uint8]],
    *,
    given: Sequence[Given] | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[Tile]:
    """Each tile, as in `encode_tiles`, by method FITTED where that pays, by NETWORK elsewhere.

    Of a network that has no classes.
    """
    assert not conditional.classes
    remembered = lru_cache(_ORDERS)(lambda shape: front_order(conditional.steps(shape)))
    trails = lru_cache(_ORDERS)(partial(trails_by_two, conditional))

    def encode(number: int, tally: _Tally) -> Tile:
        tile = np.ascontiguousarray(tiles[number])
        told = None if given is None else given[number]
        bands = _bands(len(tiles), shapes[number], threads)
        suits = _LEAST_FITTED <= tile[..., 0].size <= _MOST_FITTED
        if suits and trails(shapes[number]):
            fitted = _encode_fitted(conditional, tile, told, bands, parallel, remembered, tally)
            if fitted is not None:
                return fitted
        payload = _encode(conditional, tile, 0, told, None, bands, parallel, remembered, tally)
        return Tile(Method.NETWORK, payload)

    shapes = [tile.shape[:2] for tile in tiles]
    with side_by_side(threads) as parallel:
        return _in_parallel(encode, conditional, shapes, 1, threads, progress)


def _encode_fitted(
    conditional: Conditional,
    tile: NDArray[np.uint8],
    given: Given | None,
    bands: int,
    parallel: Map,
    order_of: Callable[[Shape], Order],
    tally: _Tally,
) -> Tile | None:
    """The same of a tile; None if the network gives no mixtures, or of too many components."""
    found = _parameters(conditional, tile, given, bands, parallel)
    if found is None or found[0].shape[3] > offsets.MOST_COMPONENTS:
        return None
    parameters, factors = found
    values = tile.reshape(-1, tile.shape[2])
    fit = _fit(conditional, parameters, values, factors, parallel)
    shift = None if fit is None else fit.shift(factors.shape[1] - tile.shape[2])

    def score(
        known: NDArray[np.int32], own: NDArray[np.uint8], seen: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        if shift is not None:
            offsets.add(known, seen, shift)  # nobody else wants them
        flat = known.reshape(-1, *known.shape[2:])
        return cdf.intervals(flat, own.reshape(-1)).reshape(*own.shape, 2, 3)

    parts = [np.array_split(each, bands) for each in (parameters, values, factors)]
    found_bands = list(parallel(score, *parts))
    scored = found_bands[0] if bands == 1 else np.concatenate(found_bands)
    ordered = in_order(scored, order_of((tile.shape[0], tile.shape[1])))
    tally.add(len(values))
    if fit is None:
        return Tile(Method.NETWORK, coder.encode(ordered))
    message = coder.encode(np.concatenate([offsets.intervals(fit), ordered]))
    return Tile(Method.FITTED, offsets.start(fit) + message)


def _fit(
    conditional: Conditional,
    parameters: NDArray[np.int32],
    values: NDArray[np.uint8],
    factors: NDArray[np.int32],
    parallel: Map,
) -> Fit | None:
    """What pays best: offsets with weights, offsets alone, or nothing."""
    every = len(values) // offsets.SAMPLES | 1
    few, channels = slice(None, None, every), values.shape[1]
    best, most = None, 0.0
    for weighed in (True, False):
        if weighed and (factored(conditional) is None or factors.shape[1] > offsets.MOST_FACTORS):
            continue
        fit = offsets.fit(parameters, values, factors, every, weighed=weighed, parallel=parallel)
        shift = fit.shift(factors.shape[1] - channels)
        saved = every * offsets.gain(parameters[few], values[few], factors[few], shift)
        taken = offsets.taken(fit)
        left = saved - every * offsets.luck(fit) - taken
        if left > most:
            best, most = fit, left
        if left > taken:
            break  # clearly
    return best


def _parameters(
    conditional: Conditional,
    tile: NDArray[np.uint8],
    given: Given | None,
    bands: int,
    parallel: Map,
) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
    """(pixels, channels, 3, K) mixtures of a tile, and factors; None if there are none."""
    whole = factored(conditional)
    if whole is not None:
        return whole.parameters_of_tile(tile, given, bands, parallel)
    found = conditional.parallel(tile, 0, given)
    first = next(found)
    if first.ndim < 4:
        return None
    parameters = np.concatenate([first, *found])
    return parameters, np.zeros(parameters.shape[:2], np.int32)


def fits_of(
    conditional: Conditional, channels: int, payloads: Sequence[bytes], method: Method
) -> list[Fit] | None:
    """What the method adds to each tile's mixtures; None if nothing. FormatError if damaged."""
    if method != Method.FITTED:
        return None
    return [offsets.read(payload, channels, _shared(conditional))[0] for payload in payloads]


def _shared(conditional: Conditional) -> int | None:
    """How many factors the sub-pixels of a pixel share; None without factors."""
    found = factored(conditional)
    return None if found is None else found.shared()


def encode_adaptively(
    conditional: Conditional,
    tiles: Sequence[NDArray[np.uint8]],
    *,
    given: Sequence[Given] | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[bytes | None]:
    """Each tile's payload with the stage of `pixelzip.codec.adaptive`, as in `encode_tiles`.

    None where the stage does not go with the network or the tile.
    """

    def encode(number: int, tally: _Tally) -> bytes | None:
        told = None if given is None else given[number]
        scored = _scored(conditional, tiles[number], told, tally)
        return None if scored is None else coder.encode(scored[0])

    shapes = [tile.shape[:2] for tile in tiles]
    return _in_parallel(encode, conditional, shapes, 1, threads, progress)


def _scored(
    conditional: Conditional, tile: NDArray[np.uint8], given: Given | None, tally: _Tally
) -> adaptive_stage.Scored | None:
    """What a tile takes with the stage; None where it does not go with them."""
    height, width, _ = tile.shape
    suits = adaptive_stage.suits(conditional, (height, width))
    found = adaptive_stage.score(conditional, tile, given) if suits else None
    tally.add(height * width)
    return found


def in_order(scored: NDArray[Any], order: Order) -> NDArray[Any]:
    """What is (pixels, channels, 2 nibbles, ...) in raster order, nibble by nibble as decoded."""
    pixels, ends = order
    each = scored.shape[1] * scored.shape[2]
    counts = np.diff(ends, prepend=0)
    starts, stride = np.repeat(ends - counts, counts), np.repeat(counts, counts)
    first = each * starts + np.arange(len(pixels)) - starts
    taken = np.empty(each * len(pixels), np.intp)
    for i in range(each):  # each front: from (pixels, nibbles) to (nibbles, pixels)
        taken[first + i * stride] = each * pixels + i
    return scored.reshape(each * len(pixels), *scored.shape[3:]).take(taken, 0)


def score_tiles(
    conditional: Conditional,
    tiles: Sequence[NDArray[np.uint8]],
    *,
    given: Sequence[Given] | None = None,
    colours: Sequence[Colours | None] | None = None,
    labels: Sequence[int] | None = None,
    fits: Sequence[Fit] | None = None,
    adaptive: bool = False,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[NDArray[np.float32]]:
    """The theoretical bits that each pixel of each tile costs: (height, width) for each.

    Tiles are (height, width, channels), of channels that the network codes, ``given`` and
    ``colours`` are as in `encode_tiles`, and ``labels`` are the tiles' classes; if the network has
    classes and there are no labels, each tile has the one that makes it the cheapest. ``fits`` are
    the tiles'. This is what `encode_tiles` codes (`encode_fitted` with fits, `encode_adaptively`
    if ``adaptive``), without the coder: the sum over a tile is its payload's length but for the
    class or fit and the coder's own few bits.
    """

    @lru_cache(_ORDERS)
    def nibbles_of(shape: tuple[int, int, int]) -> NDArray[np.intp]:
        """The numbers of a tile's nibbles, (pixel, channel, nibble), in the order of decoding."""
        numbers = np.arange(2 * math.prod(shape)).reshape(-1, shape[2], 2)
        return in_order(numbers, front_order(conditional.steps(shape[:2])))

    def score(number: int, tally: _Tally) -> NDArray[np.float32]:
        tried = _all_labels(conditional) if labels is None else [labels[number]]
        tile = np.ascontiguousarray(tiles[number])
        told = None if given is None else given[number]
        if adaptive:
            return _score_adaptively(conditional, tile, told, tally)
        own = None if colours is None else colours[number]
        fit = None if fits is None else fits[number]
        maps = [
            _score(conditional, tile, label, told, own, fit, nibbles_of, tally) for label in tried
        ]
        return min(maps, key=lambda bits: float(bits.sum(dtype=np.float64)))

    rounds = len(_all_labels(conditional)) if labels is None else 1
    shapes = [tile.shape[:2] for tile in tiles]
    return _in_parallel(score, conditional, shapes, rounds, threads, progress)


def _score(
    conditional: Conditional,
    tile: NDArray[np.uint8],
    label: int,
    given: Given | None,
    colours: Colours | None,
    fit: Fit | None,
    nibbles_of: Callable[[tuple[int, int, int]], NDArray[np.intp]],
    tally: _Tally,
) -> NDArray[np.float32]:
    height, width, channels = tile.shape
    whole = whole_tiles(conditional)
    if fit is not None:
        bits = cdf.symbol_bits(_score_fitted(conditional, tile, given, fit))
        tally.add(height * width)
    elif whole is not None and colours is None:
        bits = np.empty((height * width, channels, 2))
        intervals = whole.score_tile(tile, label, given)
        bits.reshape(-1)[nibbles_of((height, width, channels))] = cdf.symbol_bits(intervals)
        tally.add(height * width)
    else:
        scored = _score_bands(conditional, tile, label, given, colours, tally)
        bits = cdf.symbol_bits(scored)
    summed: NDArray[np.float32] = bits.sum(axis=(1, 2)).astype(np.float32)
    return summed.reshape(height, width)


def _score_adaptively(
    conditional: Conditional, tile: NDArray[np.uint8], given: Given | None, tally: _Tally
) -> NDArray[np.float32]:
    height, width, channels = tile.shape
    scored = _scored(conditional, tile, given, tally)
    assert scored is not None, "it has been decoded in this way"
    intervals, counts = scored
    starts = np.cumsum(counts, dtype=np.int64) - counts  # no sub-pixel is without a decision
    bits = np.add.reduceat(cdf.symbol_bits(intervals), starts)
    order, ends = front_order(conditional.steps((height, width)))
    summed, start = np.empty(height * width, np.float32), 0
    for front in np.split(order, ends[:-1]):  # channel by channel
        end = start + len(front) * channels
        summed[front] = bits[start:end].reshape(channels, -1).sum(0)
        start = end
    return summed.reshape(height, width)


def _score_fitted(
    conditional: Conditional, tile: NDArray[np.uint8], given: Given | None, fit: Fit
) -> NDArray[np.float32]:
    """As `_score_bands`, of a fitted tile."""
    found = _parameters(conditional, tile, given, 1, map)
    assert found is not None, "it has been decoded in this way"
    parameters, factors = found
    offsets.add(parameters, factors, fit.shift(factors.shape[1] - tile.shape[2]))
    flat = parameters.reshape(-1, *parameters.shape[2:])
    return cdf.intervals(flat, tile.reshape(-1)).reshape(-1, tile.shape[2], 2, 3)


def _score_bands(
    conditional: Conditional,
    tile: NDArray[np.uint8],
    label: int,
    given: Given | None,
    colours: Colours | None,
    tally: _Tally,
) -> NDArray[np.float32]:
    """The intervals of a tile's values, (pixels, channels, 2 nibbles, 3), in raster order."""
    height, width, channels = tile.shape
    scored = np.empty((height * width, channels, 2, 3), np.float32)
    values, done = tile.reshape(-1, channels), 0
    for band in conditional.parallel(tile, label, given):
        end = done + len(band)
        for c in range(channels):
            allowed = None if colours is None else colours.allowed(values[done:end, :c])
            scored[done:end, c] = cdf.intervals(band[:, c], values[done:end, c], allowed)
        tally.add(end - done)
        done = end
    return scored


def _all_labels(conditional: Conditional) -> range:
    """The classes that there are to try; without classes the label is 0."""
    return range(max(1, conditional.classes))


def label_of(conditional: Conditional, payload: bytes) -> int:
    """The class that a tile's payload says, 0 for a network without. FormatError if damaged."""
    if not conditional.classes:
        return 0
    if not payload or payload[0] >= conditional.classes:
        raise FormatError("the file is damaged: its network has no such class")
    return payload[0]


def decode_tiles(
    conditional: Conditional,
    payloads: Sequence[bytes],
    shapes: Sequence[Shape],
    channels: int,
    *,
    given: Sequence[Given] | None = None,
    colours: Sequence[Colours | None] | None = None,
    method: Method = Method.NETWORK,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[NDArray[np.uint8]]:
    """The tiles of these shapes, (height, width, channels) each. FormatError if damaged.

    ``given`` and ``colours`` are as in `encode_tiles`. Payloads of ``method`` FITTED are those of
    `encode_fitted`, and of ADAPTIVE those of `encode_adaptively`.
    """
    if not conditional.codes(channels) or (conditional.given > 0) != (given is not None):
        raise FormatError("the file is damaged: its network does not code such pixels")
    if method == Method.ADAPTIVE:

        def adapt(number: int, tally: _Tally) -> NDArray[np.uint8]:
            told, shape = None if given is None else given[number], shapes[number]
            pixels = adaptive_stage.decode(conditional, payloads[number], shape, channels, told)
            tally.add(shape[0] * shape[1])
            return pixels

        return _in_parallel(adapt, conditional, shapes, 1, threads, progress)
    shifts: list[Shift] | None = None
    decoders: list[coder.Decoder] = []
    labels = [0] * len(payloads)
    if method == Method.FITTED:
        if not all(trails_by_two(conditional, shape) for shape in set(shapes)):
            raise FormatError("the file is damaged: its network does not go with its method")
        shared = _shared(conditional)
        shifts = []
        for payload in payloads:
            fit, decoder = offsets.read(payload, channels, shared)
            shifts.append(fit.shift(shared or 0))
            decoders.append(decoder)
    else:
        labels = [label_of(conditional, payload) for payload in payloads]
        messages = [payload[1 if conditional.classes else 0 :] for payload in payloads]
    whole, fitted = whole_tiles(conditional), fitted_tiles(conditional)

    def decode(number: int, tally: _Tally) -> NDArray[np.uint8]:
        shape = shapes[number]
        told = None if given is None else given[number]
        if shifts is None:
            assert whole is not None
            coder.check_end(messages[number])
            pixels = whole.decode_tile(messages[number], shape, channels, labels[number], told)
        else:
            assert fitted is not None
            pixels = fitted.decode_fitted(decoders[number], shape, channels, shifts[number], told)
        tally.add(shape[0] * shape[1])
        return pixels

    if colours is None and (whole if shifts is None else fitted) is not None:
        return _in_parallel(decode, conditional, shapes, 1, threads, progress)

    def source(number: int) -> Source:
        return coder.Decoder(messages[number]) if shifts is None else decoders[number]

    return _find_out(
        conditional,
        shapes,
        channels,
        labels,
        given,
        colours,
        shifts,
        source,
        None,
        threads,
        progress,
    )


def sample_tiles(
    conditional: Conditional,
    shapes: Sequence[Shape],
    channels: int,
    *,
    seed: int,
    labels: Sequence[int] | None = None,
    known: Sequence[Known] | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[NDArray[np.uint8]]:
    """Tiles of these shapes, (height, width, channels) each, drawn from what the network believes.

    ``labels`` are the tiles' classes, all 0 if not given. What is ``known`` of the tiles is taken
    as it is, and only the other pixels are drawn. A tile depends on ``seed``, on its number and on
    what is known of it, and on nothing else.
    """

    def source(number: int) -> Source:
        return coder.RandomBits([seed, number])

    labels = [0] * len(shapes) if labels is None else labels
    return _find_out(
        conditional, shapes, channels, labels, None, None, None, source, known, threads, progress
    )


def _find_out(
    conditional: Conditional,
    shapes: Sequence[Shape],
    channels: int,
    labels: Sequence[int],
    given: Sequence[Given] | None,
    colours: Sequence[Colours | None] | None,
    shifts: Sequence[Shift] | None,
    source: Callable[[int], Source],
    known: Sequence[Known] | None,
    threads: int,
    progress: Progress | None,
) -> list[NDArray[np.uint8]]:
    """The tiles that the network and each tile's source of nibbles make together."""

    def find_out(group: Sequence[int]) -> list[NDArray[np.uint8]]:
        tally = _Tally(sum(shapes[i][0] * shapes[i][1] for i in group), progress)
        found = []
        for together in _in_step(group, shapes):
            found += _step(
                conditional,
                [shapes[i] for i in together],
                channels,
                [labels[i] for i in together],
                None if given is None else [given[i] for i in together],
                None if colours is None else [colours[i] for i in together],
                None if shifts is None else [shifts[i] for i in together],
                [source(i) for i in together],
                None if known is None else [known[i] for i in together],
                tally,
            )
        return found

    return _in_groups(find_out, _groups(shapes, threads))


def _in_step(group: Sequence[int], shapes: Sequence[Shape]) -> Iterator[Sequence[int]]:
    """Cut a group of tiles into runs of about the same number of rows, that step together."""
    rows = np.cumsum([shapes[i][0] for i in group])
    runs = -(-int(rows[-1]) // _ROWS_IN_STEP)
    ends = np.unique(np.searchsorted(rows, rows[-1] * np.arange(1, runs + 1) / runs)) + 1
    for start, end in zip([0, *ends], ends, strict=False):
        yield group[start:end]


Result = TypeVar("Result")


def _in_parallel(
    work: Callable[[int, _Tally], Result],
    conditional: Conditional,
    shapes: Sequence[Shape],
    rounds: int,
    threads: int,
    progress: Progress | None,
) -> list[Result]:
    """What ``work`` makes of each tile, by number, in so many rounds over its pixels."""
    if whole_tiles(conditional) is not None:  # any thread takes the next tile
        tally = _Tally(rounds * sum(height * width for height, width in shapes), progress)
        with side_by_side(max(1, min(threads, len(shapes)))) as parallel:
            return list(parallel(lambda number: work(number, tally), range(len(shapes))))

    def do(group: Sequence[int]) -> list[Result]:
        tally = _Tally(rounds * sum(shapes[i][0] * shapes[i][1] for i in group), progress)
        return [work(i, tally) for i in group]

    return _in_groups(do, _groups(shapes, threads))


def _in_groups(
    work: Callable[[Sequence[int]], list[Result]],
    groups: Sequence[Sequence[int]],
) -> list[Result]:
    """Do each group's tiles, ``work(numbers)``; return the results in the tiles' order."""
    # Even a single group gets a thread: what it sets for its thread must not outlive it.
    with ThreadPoolExecutor(len(groups)) as pool:
        shares = list(pool.map(work, groups))
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


def _step(
    conditional: Conditional,
    shapes: Sequence[Shape],
    channels: int,
    labels: Sequence[int],
    given: Sequence[Given] | None,
    colours: Sequence[Colours | None] | None,
    shifts: Sequence[Shift] | None,
    sources: Sequence[Source],
    known: Sequence[Known] | None,
    tally: _Tally,
) -> list[NDArray[np.uint8]]:
    """Step through tiles together, front by front."""
    stepper = conditional.stepwise(shapes, channels, labels, given)
    widths = np.array([width for _, width in shapes])
    areas = np.array([height * width for height, width in shapes])
    starts = np.cumsum(areas) - areas
    pixels = np.empty((areas.sum(), channels), np.uint8)  # of one tile after the other
    is_known = None
    if known is not None:
        pixels[:] = np.concatenate([tile.reshape(-1, channels) for tile, _ in known])
        is_known = np.concatenate([mask.reshape(-1) for _, mask in known])
    several = None if colours is None else Several(colours)
    for spans in fronts(conditional, shapes):
        members = np.repeat([tile for tile, _ in spans], [len(numbers) for _, numbers in spans])
        numbers = np.concatenate([numbers for _, numbers in spans])
        stepper.select(members, *np.divmod(numbers, widths[members]))
        here = starts[members] + numbers
        asked: slice | NDArray[np.bool_] = slice(None)
        if is_known is not None:
            asked = ~is_known[here]
        lengths = np.bincount(members[asked], minlength=len(shapes)).tolist()
        for channel in range(channels):
            parameters = stepper.parameters(channel)[asked]
            if shifts is not None:
                assert is_known is None, "what is fitted is not sampled"
                parameters = _shifted(parameters, stepper, channel, shifts, members)
            allowed = None
            if several is not None:
                allowed = several.allowed(members[asked], pixels[here[asked], :channel])
            high = _read(sources, lengths, cdf.high_table(parameters, allowed))
            low = _read(sources, lengths, cdf.low_table(parameters, high, allowed))
            pixels[here[asked], channel] = 16 * high + low
            stepper.reveal(channel, pixels[here, channel])
        tally.add(len(numbers))
    for source in sources:
        source.finish()
    parts = np.split(pixels, starts[1:])
    return [part.reshape(*shape, channels) for part, shape in zip(parts, shapes, strict=True)]


def _shifted(
    parameters: NDArray[np.int32],
    stepper: Stepper,
    channel: int,
    shifts: Sequence[Shift],
    members: NDArray[np.intp],
) -> NDArray[np.int32]:
    """(n, 3, K) mixtures of a channel, of pixels in these tiles, with their tiles' shifts."""
    mixtures = np.stack([shift.mixtures[channel] for shift in shifts])
    if parameters.shape[-2:] != mixtures.shape[-2:]:
        raise FormatError("the file is damaged: its network does not go with its method")
    parameters = parameters + mixtures[members]
    weights = np.stack([shift.weights[channel] for shift in shifts])
    if weights.any():
        factors = cast(FactoredStepper, stepper).factors(channel)
        own = weights[members, : factors.shape[1]]
        parameters[:, 1] += offsets.moved(factors, own)[:, None]
    return parameters


def _read(
    sources: Sequence[Source], lengths: Sequence[int], table: NDArray[np.float32]
) -> NDArray[np.int32]:
    """A front's nibbles: so many of each tile, from its source and its rows of the table."""
    nibbles, start = np.empty(len(table), np.int32), 0
    for source, length in zip(sources, lengths, strict=True):
        if length:
            nibbles[start : start + length] = source.decode(table[start : start + length])
            start += length
    return nibbles


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
        self.done, self.lock = 0, Lock()

    def add(self, pixels: int) -> None:
        with self.lock:
            self.done += pixels
            if self.progress is not None:
                self.progress(self.done / self.total)
