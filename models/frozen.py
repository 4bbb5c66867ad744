"""The frozen network: ``photo`` in integers, the only form that ever codes.

A frozen network is one safetensors file: weights, tables, and its architecture as JSON in the
metadata. Its *fingerprint* is a hash over all of that; it names the dialect of a ``.pxz`` file.

Both ways to evaluate it, all pixels of a tile at once (`Bands`) and front by front (`Steps`), are
the same code over the same kernels, `_Walk`. They differ only in which pixels come together and in
where the neighbours' activations lie:

* the window's pixels lie in a store of all the tiles' pixels;
* each masked 2x3 layer reads its inputs from a store of its own. While stepping it keeps the last
  four columns of each row; band by band it keeps one band and the row above.

Entry 0 of every store is what lies outside of the tile: zeros.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from pixelzip.codec import cdf
from pixelzip.codec.conditional import Given, Shape, lagged
from pixelzip.codec.errors import DeviceError, NetworkFileError
from pixelzip.models import carriers, kernels, twins
from pixelzip.models.photo import (
    ENTRY,
    INSIDE,
    LAG,
    LOOK,
    MIDDLE,
    NEIGHBOURS,
    WINDOW,
    PhotoConfig,
    head_sizes,
)

FORMAT = "pixelzip frozen network 1"
MEAN_BITS = 8  # means, predictions and residuals are in 1/256 of a pixel value
FILTER_BITS = 12  # the adaptive filter's weights are in 1/4096
PREDICTOR_BITS = 13  # the linear predictor's weights are in 1/8192
BAND = 4096
"""About so many pixels are evaluated at once in a parallel pass: their activations fit a cache."""

_TAPS = np.array([(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0)], np.int32)
_WINDOW = np.array(WINDOW, np.int32)
_NEAR = np.array([WINDOW.index(offset) for offset in NEIGHBOURS[:12]])
_LARGEST_FILE = 1 << 28
_LATE = ("colours", "near", "given")
_INT32 = 2**31 - 16  # room for the half that rounding adds
_BLOCKS = 24  # each adds up to 2^26 to the residual stream, which has 32 bits


def layout(config: PhotoConfig) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """The name, shape and type of every tensor in the file of a frozen ``photo``."""
    c, h, s = config.channels, config.head, config.colours
    inputs = (s + 1) * len(WINDOW) + (ENTRY * len(LOOK) if config.given else 0)
    tensors: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "first.weight": ((inputs, c + s), torch.int16),
        "first.predictor_bias": ((s,), torch.int32),
        "first.table": ((-1,), torch.int8),
    }
    if s == 3:
        tensors["code.bins"] = ((-1,), torch.int16)
        tensors["code.rows"] = ((3, -1, h), torch.int32)

    def layer(name: str, inputs: int, outputs: int) -> None:
        tensors[f"{name}.weight"] = ((inputs, outputs), torch.int8)
        tensors[f"{name}.bias"] = ((outputs,), torch.int32)
        tensors[f"{name}.scale"] = ((outputs,), torch.float32)

    tensors["first.bias"] = ((c,), torch.int32)
    tensors["first.scale"] = ((c,), torch.float32)
    layer("stem", c, c)
    for i, kind in enumerate(config.blocks):
        tensors[f"blocks.{i}.input_scale"] = ((c,), torch.float32)
        layer(f"blocks.{i}.a", 5 * c if kind == "M" else c, c)
        layer(f"blocks.{i}.b", c, c)
    tensors["trunk.input_scale"] = ((c,), torch.float32)
    layer("trunk", c, s * h)
    for i in range(s):
        tensors[f"heads.{i}.input_scale"] = ((h,), torch.float32)
        layer(f"heads.{i}", h, sum(head_sizes(config, i)))
    return tensors


def fingerprint(tensors: Mapping[str, Tensor], config: PhotoConfig) -> bytes:
    """SHA-256 over the architecture and every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(f"{FORMAT}\n{described(config)}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.numpy().astype(tensor.numpy().dtype.newbyteorder("<")).tobytes())
    return digest.digest()


def described(config: PhotoConfig) -> str:
    """The architecture in JSON. Members that came later are left out where they say nothing new."""
    members, plain = asdict(config), asdict(PhotoConfig())
    for late in _LATE:
        if members[late] == plain[late]:
            del members[late]
    return json.dumps(members, sort_keys=True)


def check(tensors: Mapping[str, Tensor], config: PhotoConfig) -> None:
    """Raise NetworkFileError unless every tensor has its shape and no sum can overflow."""
    expected = layout(config)
    if set(tensors) != set(expected):
        raise NetworkFileError("it does not hold the tensors of its architecture")
    for name, (shape, dtype) in expected.items():
        tensor = tensors[name]
        fits = tensor.ndim == len(shape) and all(
            want in (-1, have) for want, have in zip(shape, tensor.shape, strict=True)
        )
        if not fits or tensor.dtype != dtype or tensor.numel() == 0:
            raise NetworkFileError(f"tensor {name} has the wrong shape or type")
        if dtype == torch.float32 and not bool(((tensor > 0) & (tensor < 2.0**20)).all()):
            raise NetworkFileError(f"tensor {name} holds a scale that is not positive and finite")
        if name.endswith(".weight"):
            largest = 128 if name.startswith("first") else 127
            sums = tensor.long().abs().sum(0) * largest
            bias = tensors.get(name.removesuffix("weight") + "bias")
            if name.startswith("first"):
                bias = torch.cat([tensors["first.bias"], tensors["first.predictor_bias"]])
            assert bias is not None
            if int((sums + bias.long().abs()).max()) >= _INT32:
                raise NetworkFileError(f"the sums of {name} could overflow 32 bits")
    table = tensors["first.table"]
    if len(table) % 2 == 0 or len(table) > 1 << 20 or int(table.min()) < -127:
        raise NetworkFileError("first.table has the wrong length or range")
    if int(tensors["first.weight"].long().abs().max()) > 32639:  # two signed bytes hold no more
        raise NetworkFileError("first.weight holds numbers that are too large")
    if config.colours == 3:
        _check_code(tensors["code.bins"], tensors["code.rows"])


def _check_code(bins: Tensor, rows: Tensor) -> None:
    """What earlier residuals add to a head."""
    # A residual of 0 has no sign, so the row in the middle is its own.
    middle = rows.shape[1] // 2
    if rows.shape[1] % 2 == 0 or int(bins[0]) or int(bins.min()) < 0 or int(bins.max()) > middle:
        raise NetworkFileError("code.bins points outside of code.rows")
    if int(rows.long().abs().max()) > kernels.LIMIT:
        raise NetworkFileError("code.rows holds numbers that are too large")


@dataclass(frozen=True)
class _Layer:
    """A matrix product with what rescales its sums."""

    multiply: Callable[[Any], Any]
    bias: Any
    scale: Any


class Frozen:
    """A frozen ``photo``: a `pixelzip.codec.conditional.Conditional`.

    ``carrier`` asks for a number format (see `pixelzip.models.carriers`), ``device`` is a torch
    device. On the CPU the compiled kernels run, elsewhere their twins; ``glue`` overrides that.
    """

    classes = 0
    given = 0

    def __init__(
        self,
        name: str,
        tensors: Mapping[str, Tensor],
        config: PhotoConfig,
        *,
        carrier: str | None = None,
        device: str = "cpu",
        glue: ModuleType | None = None,
    ) -> None:
        check(tensors, config)
        self.name, self.config = name, config
        self.fingerprint = fingerprint(tensors, config)
        self.device = torch.device(device)
        if self.device.type == "cuda" and not torch.cuda.is_available():
            raise DeviceError("torch finds no CUDA device here: use the CPU")
        self.glue = glue or (kernels if self.device.type == "cpu" else twins)
        carrier = carrier or carriers.asked_for()

        def multiply(weight: Tensor, largest: int) -> Callable[[Any], Any]:
            inner = carriers.product(weight, largest, carrier, self.device)
            if self.glue is twins:
                return inner
            return lambda x: inner(torch.from_numpy(x)).numpy()

        def layer(name: str) -> _Layer:
            weight, bias, scale = (
                tensors[f"{name}.{part}"] for part in ("weight", "bias", "scale")
            )
            return _Layer(multiply(weight, 127), self.array(bias), self.array(scale))

        # A 16-bit weight is two signed bytes: one product of twice the width carries both.
        wide = tensors["first.weight"].to(torch.int32)
        high = (wide + 128) >> 8
        first = torch.cat([high, wide - 256 * high], 1).to(torch.int8)
        self.first = multiply(first, 128)
        self.first_rest = [
            self.array(tensors[f"first.{part}"])
            for part in ("bias", "scale", "table", "predictor_bias")
        ]
        self.stem = layer("stem")
        self.blocks = [
            (
                kind == "M",
                self.array(tensors[f"blocks.{i}.input_scale"]),
                layer(f"blocks.{i}.a"),
                layer(f"blocks.{i}.b"),
            )
            for i, kind in enumerate(config.blocks)
        ]
        self.trunk_scale = self.array(tensors["trunk.input_scale"])
        self.trunk = layer("trunk")
        self.bins = self.array(tensors["code.bins"])
        self.code = [self.array(rows.contiguous()) for rows in tensors["code.rows"]]
        self.head_scales = [self.array(tensors[f"heads.{i}.input_scale"]) for i in range(3)]
        self.heads = [layer(f"heads.{i}") for i in range(3)]
        self.zeros = self.array(torch.zeros(config.channels, dtype=torch.int32))
        self.head_zeros = self.array(torch.zeros(config.head, dtype=torch.int32))
        self.window = self.array(torch.from_numpy(_WINDOW))
        self.taps = self.array(torch.from_numpy(_TAPS))

    @property
    def forkable(self) -> bool:
        """See `pixelzip.codec.conditional.Conditional.forkable`."""
        return self.device.type == "cpu"

    def codes(self, channels: int) -> bool:
        """See `pixelzip.codec.conditional.Conditional.codes`."""
        return channels in (1, 3)

    def steps(self, shape: Shape) -> NDArray[np.int32]:
        """See `pixelzip.codec.conditional.Conditional.steps`."""
        return lagged(shape, LAG)

    def array(self, tensor: Tensor) -> Any:
        """The tensor as the kernels want it: a numpy array, or a tensor on the device."""
        if self.glue is twins:
            return tensor.to(self.device)
        return tensor.contiguous().numpy()

    def numbers(self, array: Any) -> NDArray[np.int32]:
        """The way back from `array`."""
        if self.glue is twins:
            array = array.cpu().numpy()
        return array  # type: ignore[no-any-return]

    def parallel(
        self, pixels: NDArray[np.uint8], label: int = 0, given: Given | None = None
    ) -> Iterator[NDArray[np.int32]]:
        """See `pixelzip.codec.conditional.Conditional.parallel`."""
        return Bands(self, pixels).run()

    def stepwise(
        self,
        shapes: Sequence[Shape],
        channels: int,
        labels: Sequence[int],
        given: Sequence[Given] | None = None,
    ) -> Steps:
        """See `pixelzip.codec.conditional.Conditional.stepwise`."""
        return Steps(self, shapes, channels)


class _Walk:
    """One evaluation of a network: its stores, and the pixels that it stands at."""

    def __init__(self, network: Frozen, pixels: int, cached: int) -> None:
        self.network = network
        if network.device.type == "cpu":
            # Threads share out tiles; inside one, a second level of threads only gets in the way.
            torch.set_num_threads(1)
        channels = network.config.channels
        self.pixels = network.array(torch.zeros(1 + pixels, 4, dtype=torch.int8))
        self.caches = [
            network.array(torch.zeros(1 + cached, channels, dtype=torch.int8))
            for masked, *_ in network.blocks
            if masked
        ]

    def visit(self, window: Any, taps: Any, write: Any) -> None:
        """The trunk, for the n pixels with these positions in the stores."""
        net, glue = self.network, self.network.glue
        product = net.first(glue.gather(self.pixels, window))
        x, self.predicted = glue.first(product, *net.first_rest, PREDICTOR_BITS - MEAN_BITS)
        stream = glue.rescale(net.stem.multiply(x), net.stem.bias, net.stem.scale)
        caches = iter(self.caches)
        for masked, input_scale, a, b in net.blocks:
            x = glue.activate(stream, net.zeros, input_scale)
            if masked:
                cache = next(caches)
                glue.scatter(cache, write, x)
                x = glue.gather(cache, taps)
            x = glue.activate(a.multiply(x), a.bias, a.scale)
            glue.add(stream, b.multiply(x), b.bias, b.scale)
        x = glue.activate(stream, net.zeros, net.trunk_scale)
        self.hidden = glue.rescale(net.trunk.multiply(x), net.trunk.bias, net.trunk.scale)
        near = window[:, _NEAR]
        self.contrast = glue.contrasts(self.pixels, near, self.predicted, MEAN_BITS)
        self.residuals = net.array(torch.zeros(len(window), 3, dtype=torch.int32))
        self.known = 0  # of the pixels' sub-pixels

    def parameters(self, channel: int) -> NDArray[np.int32]:
        """(n, 3, K) mixture parameters of one sub-pixel, given the earlier ones' values."""
        net, glue, size = self.network, self.network.glue, self.network.config.head
        hidden = glue.columns(self.hidden, channel * size, (channel + 1) * size)
        for i in range(channel):
            glue.spell(self.residuals[:, i], net.bins, net.code[channel + i - 1], hidden)
        x = glue.activate(hidden, net.head_zeros, net.head_scales[channel])
        head = net.heads[channel]
        out, self.centre = glue.mixture(
            head.multiply(x), head.bias, head.scale, net.config.components, FILTER_BITS,
            self.contrast, self.predicted[:, channel] + (MIDDLE << MEAN_BITS),
            self.residuals[:, :channel],
        )  # fmt: skip
        return net.numbers(out)

    def learn(self, values: NDArray[np.uint8]) -> None:
        """Take in the values (n,) of the sub-pixel whose parameters were asked for last."""
        value = self.network.array(torch.from_numpy(values.astype(np.int32)))
        self.residuals[:, self.known] = (value << MEAN_BITS) - self.centre
        self.known += 1


class Bands(_Walk):
    """A parallel pass over one tile, all of whose pixels are known."""

    def __init__(self, network: Frozen, pixels: NDArray[np.uint8]) -> None:
        self.height, self.width, self.channels = pixels.shape
        self.rows = max(1, min(self.height, BAND // self.width))
        super().__init__(network, self.height * self.width, (self.rows + 1) * self.width)
        self.values = pixels.reshape(-1, self.channels)
        signed = torch.from_numpy((self.values ^ 128).view(np.int8))  # less 128
        self.pixels[1:, :3] = network.array(signed)
        self.pixels[1:, 3] = INSIDE

    def run(self) -> Iterator[NDArray[np.int32]]:
        """Yield (n, channels, 3, K) parameters of bands, top to bottom."""
        net, glue, width = self.network, self.network.glue, self.width
        for top in range(0, self.height, self.rows):
            rows = min(self.rows, self.height - top)
            n = rows * width
            first = top * width
            row, column = np.divmod(np.arange(first, first + n, dtype=np.int32), np.int32(width))
            place = [self._full(n, v) for v in (self.height, width, width)]
            row, column = net.array(torch.from_numpy(row)), net.array(torch.from_numpy(column))
            window = glue.positions(self._full(n, 1), row, column, *place, -1, net.window)
            above = 1 - (top - 1) * width  # the row above the band is the cache's first
            taps = glue.positions(self._full(n, above), row, column, *place, -1, net.taps)
            self.visit(window, taps, taps[:, 4])
            band = []
            for channel in range(self.channels):
                band.append(self.parameters(channel))
                self.learn(self.values[first : first + n, channel])
            for cache in self.caches:
                cache[1 : 1 + width] = cache[1 + rows * width : 1 + (rows + 1) * width]
            yield np.stack(band, 1)

    def _full(self, n: int, value: int) -> Any:
        return self.network.array(torch.full((n,), value, dtype=torch.int32))


class Steps(_Walk):
    """Stepwise evaluation of several tiles: a `pixelzip.codec.conditional.Stepper`."""

    def __init__(self, network: Frozen, shapes: Sequence[Shape], channels: int) -> None:
        self.heights, self.widths = np.array(shapes, np.int32).reshape(-1, 2).T.copy()
        areas = self.heights.astype(np.int64) * self.widths
        super().__init__(network, int(areas.sum()), 4 * int(self.heights.sum()))
        self.channels = channels
        self.bases = (1 + np.cumsum(areas) - areas).astype(np.int32)
        self.cache_bases = 1 + 4 * (np.cumsum(self.heights) - self.heights).astype(np.int32)

    def select(
        self, tiles: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> None:
        """See `pixelzip.codec.conditional.Stepper.select`."""
        net, glue = self.network, self.network.glue
        row, column = rows.astype(np.int32), columns.astype(np.int32)
        height, width = self.heights[tiles], self.widths[tiles]
        base, cache_base = self.bases[tiles], self.cache_bases[tiles]
        four = np.full(len(row), 4, np.int32)
        self.here = net.array(torch.from_numpy(base + row * width + column).long())

        def place(base: NDArray[np.int32], pitch: NDArray[np.int32]) -> list[Any]:
            arrays = (base, row, column, height, width, pitch)
            return [net.array(torch.from_numpy(a)) for a in arrays]

        window = glue.positions(*place(base, width), -1, net.window)
        taps = glue.positions(*place(cache_base, four), 3, net.taps)
        self.visit(window, taps, taps[:, 4])

    def reveal(self, channel: int, values: NDArray[np.uint8]) -> None:
        """See `pixelzip.codec.conditional.Stepper.reveal`."""
        self.learn(values)
        signed = self.network.array(torch.from_numpy((values ^ 128).view(np.int8)))
        if self.channels == 1:
            self.pixels[self.here, :3] = signed[:, None]
        else:
            self.pixels[self.here, channel] = signed
        self.pixels[self.here, 3] = INSIDE


def read(path: Path) -> tuple[dict[str, Tensor], PhotoConfig]:
    """The tensors and the architecture of a frozen network's file; never unpickles.

    Raises NetworkFileError for a file that is damaged, hostile or not a frozen network.
    """
    with opened(path, FORMAT) as (metadata, tensors):
        config = _architecture(json.loads(metadata["architecture"]))
        check(tensors, config)
        if fingerprint(tensors, config).hex() != metadata.get("fingerprint"):
            raise NetworkFileError("its integers do not match its fingerprint")
    return tensors, config


@contextmanager
def opened(path: Path, expected: str) -> Iterator[tuple[dict[str, str], dict[str, Tensor]]]:
    """The metadata and tensors of a network's file of the ``expected`` format.

    Whatever turns out to be wrong with them inside of the context becomes a NetworkFileError.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise NetworkFileError("it is too large")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != expected:
                raise NetworkFileError("it is not a frozen network of this version")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        yield metadata, tensors
    except OSError as error:
        raise NetworkFileError(f"{path}: {error.strerror or error}") from error
    except (SafetensorError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise NetworkFileError(f"{path} is not a sound network file: {error}") from error
    except NetworkFileError as error:
        raise NetworkFileError(f"{path} is not a sound network file: {error}") from None


def _architecture(members: dict[str, Any]) -> PhotoConfig:
    """The architecture that a file names, all of it and within bounds."""
    named = set(asdict(PhotoConfig()))
    if not named - {*_LATE} <= set(members) <= named:
        raise NetworkFileError("its architecture has other members than it should")
    config = PhotoConfig(**members)
    sizes = (config.channels, config.head, config.components)
    if not all(type(size) is int and 1 <= size <= 1024 for size in sizes):
        raise NetworkFileError("its architecture has a size out of range")
    blocks = config.blocks
    if not isinstance(blocks, str) or len(blocks) > _BLOCKS or set(blocks) - {*"MN"}:
        raise NetworkFileError("its architecture has unknown blocks, or too many")
    return config


assert cdf.MEAN_UNIT.bit_length() - 1 == MEAN_BITS
