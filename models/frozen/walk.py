"""The backends in arrays: for where there is no compiled engine, and for GPUs.

Both ways to evaluate a network, all pixels of a tile at once (`Bands`) and front by front
(`Steps`), are the same code over the same functions, `_Walk`. They differ only in which pixels come
together and in where the neighbours' activations lie:

* the window's pixels, and those that are given, lie in stores of all the tiles' pixels;
* each masked 2x3 layer reads its inputs from a store of its own. While stepping it keeps the last
  four columns of each row; band by band it keeps one band and the row above.

Entry 0 of every store is what lies outside of the tile: zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.conditional import Given, Shape
from pixelzip.codec.workers import Map
from pixelzip.models.frozen import network
from pixelzip.models.frozen.architecture import (
    ENTRY,
    GIVEN,
    INSIDE,
    LOOK,
    LOOK_NEAR,
    MIDDLE,
    NEIGHBOURS,
    WINDOW,
    PhotoConfig,
)
from pixelzip.models.frozen.file import FILTER_BITS, MEAN_BITS, PREDICTOR_BITS
from pixelzip.models.frozen.shell import Tensors

_TAPS = np.array([(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0)], np.int32)
_WINDOW = np.array(WINDOW, np.int32)
_LOOK = np.array(LOOK, np.int32)
_NEAR = np.array([WINDOW.index(offset) for offset in NEIGHBOURS])
_LOOK_NEAR = np.array([LOOK.index(offset) for offset in LOOK_NEAR])
_HERE = LOOK.index((0, 0))


class Functions(Protocol):
    """What a backend does to arrays of its own kind; `Kernels` says what each function is."""

    def begin(self) -> None: ...
    def array(self, values: NDArray[Any]) -> Any: ...
    def numbers(self, array: Any) -> NDArray[Any]: ...
    def product(self, weight: NDArray[np.int8], largest: int) -> Callable[[Any], Any]: ...
    def positions(self, *arguments: Any) -> Any: ...
    def gather(self, store: Any, at: Any) -> Any: ...
    def scatter(self, store: Any, at: Any, values: Any) -> None: ...
    def first(self, *arguments: Any) -> tuple[Any, Any]: ...
    def rescale(self, product: Any, bias: Any, scale: Any) -> Any: ...
    def add(self, stream: Any, product: Any, bias: Any, scale: Any) -> None: ...
    def activate(self, x: Any, bias: Any, scale: Any) -> Any: ...
    def spell(self, residual: Any, bins: Any, code: Any, hidden: Any) -> None: ...
    def columns(self, x: Any, first: int, last: int) -> Any: ...
    def side_by_side(self, one: Any, other: Any) -> Any: ...
    def mixture(self, *arguments: Any) -> tuple[Any, Any]: ...
    def contrasts(self, store: Any, at: Any, predicted: Any, shift: int) -> Any: ...
    def look_contrasts(self, store: Any, at: Any, here: Any) -> Any: ...


@dataclass(frozen=True)
class _Layer:
    """A matrix product with what rescales its sums."""

    multiply: Callable[[Any], Any]
    bias: Any
    scale: Any


class Walked(network.Frozen):
    """A frozen network whose arithmetic is a backend's functions."""

    def __init__(
        self,
        name: str,
        tensors: Tensors,
        config: PhotoConfig,
        functions: Functions,
        sound: bytes | None = None,
    ) -> None:
        super().__init__(name, tensors, config, sound)
        self.functions = functions
        array, product = functions.array, functions.product

        def layer(name: str) -> _Layer:
            weight, bias, scale = (
                tensors[f"{name}.{part}"] for part in ("weight", "bias", "scale")
            )
            return _Layer(product(weight, 127), array(bias), array(scale))

        # A 16-bit weight is two signed bytes: one product of twice the width carries both.
        wide = tensors["first.weight"].astype(np.int32)
        high = (wide + 128) >> 8
        self.first = product(np.concatenate([high, wide - 256 * high], 1).astype(np.int8), 128)
        self.first_rest = [
            array(tensors[f"first.{part}"]) for part in ("bias", "scale", "table", "predictor_bias")
        ]
        self.stem = layer("stem")
        self.blocks = [
            (
                kind == "M",
                array(tensors[f"blocks.{i}.input_scale"]),
                layer(f"blocks.{i}.a"),
                layer(f"blocks.{i}.b"),
            )
            for i, kind in enumerate(config.blocks)
        ]
        self.trunk_scale = array(tensors["trunk.input_scale"])
        self.trunk = layer("trunk")
        colours = range(config.colours)
        if config.colours == 3:
            self.bins = array(tensors["code.bins"])
            self.code = [array(np.ascontiguousarray(rows)) for rows in tensors["code.rows"]]
        self.head_scales = [array(tensors[f"heads.{i}.input_scale"]) for i in colours]
        self.heads = [layer(f"heads.{i}") for i in colours]
        self.zeros = array(np.zeros(config.channels, np.int32))
        self.head_zeros = array(np.zeros(config.head, np.int32))
        self.window, self.taps, self.look = array(_WINDOW), array(_TAPS), array(_LOOK)

    def parallel(
        self, pixels: NDArray[np.uint8], label: int = 0, given: Given | None = None
    ) -> Iterator[NDArray[np.int32]]:
        """See `pixelzip.codec.conditional.Conditional.parallel`."""
        self.check_given(pixels.shape[:2], given)
        return Bands(self, pixels, given).run()

    def parameters_of_tile(
        self,
        pixels: NDArray[np.uint8],
        given: Given | None = None,
        bands: int = 1,
        parallel: Map = map,
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """See `pixelzip.codec.conditional.Factored.parameters_of_tile`."""
        self.check_given(pixels.shape[:2], given)
        evaluation = Bands(self, pixels, given)
        found = [(band, evaluation.factors(pixels.shape[2])) for band in evaluation.run()]
        parameters, factors = zip(*found, strict=True)
        return np.concatenate(parameters), np.concatenate(factors)

    def stepwise(
        self,
        shapes: Sequence[Shape],
        channels: int,
        labels: Sequence[int],
        given: Sequence[Given] | None = None,
    ) -> Steps:
        """See `pixelzip.codec.conditional.Conditional.stepwise`."""
        for i, shape in enumerate(shapes):
            self.check_given(shape, None if given is None else given[i])
        return Steps(self, shapes, channels, given)


def _less_middle(values: NDArray[np.uint8]) -> NDArray[np.int8]:
    return (values ^ MIDDLE).view(np.int8)


class _Walk:
    """One evaluation of a network: its stores, and the pixels that it stands at."""

    def __init__(
        self, network: Walked, pixels: int, cached: int, given: Sequence[Given] | None
    ) -> None:
        self.network, self.functions = network, network.functions
        self.functions.begin()
        config, array = network.config, network.functions.array
        self.colours = config.colours
        self.pixels = array(np.zeros((1 + pixels, config.colours + 1), np.int8))
        self.caches = [
            array(np.zeros((1 + cached, config.channels), np.int8))
            for masked, *_ in network.blocks
            if masked
        ]
        if given is not None:
            seen = np.zeros((1 + pixels, ENTRY), np.int8)
            start = 1
            for samples in given:
                flat = _less_middle(np.ascontiguousarray(samples)).reshape(-1, samples.shape[2])
                own = seen[start : start + len(flat)]
                own[:, :4], own[:, 4] = flat[:, :4], INSIDE
                if samples.shape[2] == GIVEN:
                    own[:, 5], own[:, 6] = flat[:, 4], INSIDE
                start += len(flat)
            self.given = array(seen)

    def visit(self, window: Any, taps: Any, write: Any, look: Any) -> None:
        """The trunk, for the n pixels with these positions in the stores."""
        net, do = self.network, self.functions
        seen = do.gather(self.pixels, window)
        if look is not None:
            seen = do.side_by_side(seen, do.gather(self.given, look))
        x, self.predicted = do.first(net.first(seen), *net.first_rest, PREDICTOR_BITS - MEAN_BITS)
        stream = do.rescale(net.stem.multiply(x), net.stem.bias, net.stem.scale)
        caches = iter(self.caches)
        for masked, input_scale, a, b in net.blocks:
            x = do.activate(stream, net.zeros, input_scale)
            if masked:
                cache = next(caches)
                do.scatter(cache, write, x)
                x = do.gather(cache, taps)
            x = do.activate(a.multiply(x), a.bias, a.scale)
            do.add(stream, b.multiply(x), b.bias, b.scale)
        x = do.activate(stream, net.zeros, net.trunk_scale)
        self.hidden = do.rescale(net.trunk.multiply(x), net.trunk.bias, net.trunk.scale)
        near = window[:, _NEAR[: net.config.near]]
        self.contrast = do.contrasts(self.pixels, near, self.predicted, MEAN_BITS)
        if look is not None:
            own = do.look_contrasts(self.given, look[:, _LOOK_NEAR], look[:, _HERE])
            self.contrast = do.side_by_side(self.contrast, own)
        self.residuals = do.array(np.zeros((len(window), self.colours), np.int32))
        self.known = 0  # of the pixels' sub-pixels

    def parameters(self, channel: int) -> NDArray[np.int32]:
        """(n, 3, K) mixture parameters of one sub-pixel, given the earlier ones' values."""
        net, do, size = self.network, self.functions, self.network.config.head
        hidden = do.columns(self.hidden, channel * size, (channel + 1) * size)
        for i in range(channel):
            do.spell(self.residuals[:, i], net.bins, net.code[channel + i - 1], hidden)
        x = do.activate(hidden, net.head_zeros, net.head_scales[channel])
        head = net.heads[channel]
        out, self.centre = do.mixture(
            head.multiply(x), head.bias, head.scale, net.config.components, FILTER_BITS,
            self.contrast, self.predicted[:, channel] + (MIDDLE << MEAN_BITS),
            self.residuals[:, :channel],
        )  # fmt: skip
        return do.numbers(out)

    def factors(self, channel: int) -> NDArray[np.int32]:
        """(n, shared + channel): contrasts, and residuals of the earlier sub-pixels."""
        earlier = self.residuals[:, :channel]
        return self.functions.numbers(self.functions.side_by_side(self.contrast, earlier))

    def learn(self, values: NDArray[np.uint8]) -> None:
        """Take in the values (n,) of the sub-pixel whose parameters were asked for last."""
        value = self.functions.array(values.astype(np.int32))
        self.residuals[:, self.known] = (value << MEAN_BITS) - self.centre
        self.known += 1


class Bands(_Walk):
    """A parallel pass over one tile, all of whose pixels are known."""

    def __init__(self, network_: Walked, pixels: NDArray[np.uint8], given: Given | None) -> None:
        self.height, self.width, self.channels = pixels.shape
        self.rows = max(1, min(self.height, network.BAND // self.width))
        cached = (self.rows + 1) * self.width
        told = None if given is None else [given]
        super().__init__(network_, self.height * self.width, cached, told)
        self.values = pixels.reshape(-1, self.channels)
        self.pixels[1:, : self.colours] = self.functions.array(_less_middle(self.values))
        self.pixels[1:, self.colours] = INSIDE

    def run(self) -> Iterator[NDArray[np.int32]]:
        """Yield (n, channels, 3, K) parameters of bands, top to bottom."""
        net, do, width = self.network, self.functions, self.width
        for top in range(0, self.height, self.rows):
            rows = min(self.rows, self.height - top)
            n = rows * width
            first = top * width
            row, column = np.divmod(np.arange(first, first + n, dtype=np.int32), np.int32(width))
            place = [self._full(n, v) for v in (self.height, width, width)]
            row, column = do.array(row), do.array(column)
            here = (self._full(n, 1), row, column, *place, -1)
            window = do.positions(*here, net.window)
            look = do.positions(*here, net.look) if net.given else None
            above = 1 - (top - 1) * width  # the row above the band is the cache's first
            taps = do.positions(self._full(n, above), row, column, *place, -1, net.taps)
            self.visit(window, taps, taps[:, 4], look)
            band = []
            for channel in range(self.channels):
                band.append(self.parameters(channel))
                self.learn(self.values[first : first + n, channel])
            for cache in self.caches:
                cache[1 : 1 + width] = cache[1 + rows * width : 1 + (rows + 1) * width]
            yield np.stack(band, 1)

    def _full(self, n: int, value: int) -> Any:
        return self.functions.array(np.full(n, value, np.int32))


class Steps(_Walk):
    """Stepwise evaluation of several tiles: a `pixelzip.codec.conditional.Stepper`."""

    def __init__(
        self,
        network: Walked,
        shapes: Sequence[Shape],
        channels: int,
        given: Sequence[Given] | None,
    ) -> None:
        self.heights, self.widths = np.array(shapes, np.int32).reshape(-1, 2).T.copy()
        areas = self.heights.astype(np.int64) * self.widths
        super().__init__(network, int(areas.sum()), 4 * int(self.heights.sum()), given)
        self.channels = channels
        self.bases = (1 + np.cumsum(areas) - areas).astype(np.int32)
        self.cache_bases = 1 + 4 * (np.cumsum(self.heights) - self.heights).astype(np.int32)

    def select(
        self, tiles: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> None:
        """See `pixelzip.codec.conditional.Stepper.select`."""
        net, do = self.network, self.functions
        row, column = rows.astype(np.int32), columns.astype(np.int32)
        height, width = self.heights[tiles], self.widths[tiles]
        base, cache_base = self.bases[tiles], self.cache_bases[tiles]
        four = np.full(len(row), 4, np.int32)
        self.here = do.array((base + row * width + column).astype(np.int64))

        def place(base: NDArray[np.int32], pitch: NDArray[np.int32]) -> list[Any]:
            return [do.array(a) for a in (base, row, column, height, width, pitch)]

        window = do.positions(*place(base, width), -1, net.window)
        look = do.positions(*place(base, width), -1, net.look) if net.given else None
        taps = do.positions(*place(cache_base, four), 3, net.taps)
        self.visit(window, taps, taps[:, 4], look)

    def reveal(self, channel: int, values: NDArray[np.uint8]) -> None:
        """See `pixelzip.codec.conditional.Stepper.reveal`."""
        self.learn(values)
        signed = self.functions.array(_less_middle(values))
        if self.channels < self.colours:
            self.pixels[self.here, : self.colours] = signed[:, None]
        else:
            self.pixels[self.here, channel] = signed
        self.pixels[self.here, self.colours] = INSIDE
