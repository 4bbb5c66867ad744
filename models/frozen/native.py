"""The backend that is compiled C: whole tiles in one call, for the CPU.

`models/frozen/csrc` holds the C: one library with the same layers for each instruction set. Which
of these a processor has, the library finds out; each has to prove itself on inputs that saturate
before it is used, because there have been products that saturate. ``PIXELZIP_ISA`` overrides which
one that is, or asks for ``none`` of this; the result is always the same.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import coder, native
from pixelzip.codec.conditional import Given, Shape, Shift
from pixelzip.codec.errors import FormatError, PixelzipError
from pixelzip.codec.workers import Map
from pixelzip.models.frozen import network
from pixelzip.models.frozen.architecture import (
    NEIGHBOURS,
    WINDOW,
    PhotoConfig,
)
from pixelzip.models.frozen.network import Frozen
from pixelzip.models.frozen.shell import Tensors

_WIDTH = 32  # columns of weights, and bytes of inputs, come in multiples of this
_MOST_BLOCKS, _MOST_NEAR, _MOST_COLOURS = 24, 24, 3


class _Layer(ctypes.Structure):
    """struct layer of engine.h."""

    _fields_ = (
        ("weights", ctypes.c_void_p), ("bias", ctypes.c_void_p), ("scale", ctypes.c_void_p),
        ("inputs", ctypes.c_int32), ("pitch", ctypes.c_int32), ("outputs", ctypes.c_int32),
    )  # fmt: skip


class _Network(ctypes.Structure):
    """struct network of engine.h."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in (
            "colours", "given", "channels", "head", "components", "near", "blocks",
        )),
        ("masked", ctypes.c_int32 * _MOST_BLOCKS),
        ("neighbours", ctypes.c_int32 * 2 * _MOST_NEAR),
        ("first", _Layer), ("stem", _Layer),
        ("a", _Layer * _MOST_BLOCKS), ("b", _Layer * _MOST_BLOCKS),
        ("trunk", _Layer), ("heads", _Layer * _MOST_COLOURS),
        ("input_scale", ctypes.c_void_p * _MOST_BLOCKS), ("trunk_scale", ctypes.c_void_p),
        ("head_scale", ctypes.c_void_p * _MOST_COLOURS),
        ("table", ctypes.c_void_p), ("reach", ctypes.c_int32),
        ("bins", ctypes.c_void_p), ("last_bin", ctypes.c_int32), ("code_rows", ctypes.c_int32),
        ("code", ctypes.c_void_p),
    )  # fmt: skip


@native.once
def library() -> ctypes.CDLL | None:
    """The library, None where it could not be built."""
    found = native.library("pixelzip.models.frozen._engine")
    if found is None:
        return None
    native.fill_tables(found.engine_start)
    pointer, number, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
    octets, integers = native.array(np.uint8), native.array(np.int32)
    states = native.array(np.uint64)
    network = ctypes.POINTER(_Network)
    for name, result, arguments in (
        ("engine_name", ctypes.c_char_p, [number]),
        ("engine_group", number, [number]),
        ("engine_depth", number, [number]),
        ("engine_offset", number, [number]),
        ("engine_network_size", size, []),
        ("engine_product", None, [ctypes.POINTER(_Layer), number, number, octets, integers]),
        ("engine_open", pointer, [network, *[number] * 4, octets, number, octets, number]),
        ("engine_close", None, [pointer]),
        ("engine_score", number, [pointer, number, *[integers] * 2, native.array(np.float32)]),
        (
            "engine_decode",
            number,
            [
                pointer,
                *[integers] * 2,
                ctypes.c_char_p,
                size,
                octets,
                states,
            ],
        ),
        ("engine_select", number, [pointer]),
        ("engine_parameters", None, [pointer, number, integers]),
        ("engine_factors", None, [pointer, number, integers]),
        ("engine_reveal", None, [pointer, number, octets]),
    ):
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    if found.engine_network_size() != ctypes.sizeof(_Network):
        raise ImportError(f"{found._name} was built from other sources: install pixelzip again")
    return found


@cache
def instruction_sets() -> tuple[str, ...]:
    """Those that are here and exact, fastest first; none where there is no library."""
    engine = library()
    if engine is None:
        return ()
    return native.proven(engine.engine_name, partial(_is_exact, engine))


def _is_exact(engine: ctypes.CDLL, number: int) -> bool:
    """Whether products of bytes that saturate 16 bits come out right."""
    x = np.full((64, 192), 255, np.uint8)
    weight = np.full((192, 64), 127, np.int8)
    x[1::2, ::2], x[2::4] = 0, 127
    weight[:, 1::2], weight[1::2, 2::4], weight[::3, 3::4] = -128, -127, 1
    sums = Product(engine, number, weight)(x)
    return np.array_equal(sums, x.astype(np.int64) @ weight.astype(np.int64))


class Product:
    """An instruction set's own product with a matrix (K, N) of signed bytes."""

    def __init__(self, engine: ctypes.CDLL, number: int, weight: NDArray[np.int8]) -> None:
        self.engine, self.number, self.shape = engine, number, weight.shape
        self._packer = _Packer(engine, number)
        self.layer = self._packer.layer(weight, np.zeros(weight.shape[1], np.int32), None)

    def __call__(self, x: NDArray[np.uint8]) -> NDArray[np.int32]:
        """(n, K) bytes -> (n, N)."""
        rows = np.zeros((len(x) + _WIDTH, self.layer.pitch), np.uint8)
        rows[: len(x), : self.shape[0]] = x
        sums = np.empty((len(x), self.layer.outputs), np.int32)
        self.engine.engine_product(ctypes.byref(self.layer), self.number, len(x), rows, sums)
        return sums[:, : self.shape[1]]


def asked_for() -> str | None:
    """The instruction set that the environment asks for. PixelzipError if it is not here."""
    name = os.environ.get("PIXELZIP_ISA")
    if name is not None and name not in (*instruction_sets(), native.NONE):
        here = ", ".join((*instruction_sets(), native.NONE))
        raise PixelzipError(f"PIXELZIP_ISA is {name!r}; choose one of {here}")
    return name


def _filled(size: int, multiple: int = _WIDTH) -> int:
    return -(-size // multiple) * multiple


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    """A copy that begins at a cache line, so that no vector lies across two."""
    room = np.empty(array.nbytes + 64, np.uint8)
    start = -room.ctypes.data % 64
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


class _Packer:
    """Lays tensors out as the library wants them, and keeps them alive."""

    def __init__(self, engine: ctypes.CDLL, number: int) -> None:
        self.group, self.depth = engine.engine_group(number), engine.engine_depth(number)
        self.offset = engine.engine_offset(number)
        self.kept: list[NDArray[Any]] = []

    def address(self, array: NDArray[Any]) -> int:
        """Where a copy of the array lies."""
        self.kept.append(_aligned(array))
        return int(self.kept[-1].ctypes.data)

    def vector(self, values: NDArray[Any], size: int | None = None) -> int:
        """A vector, filled up with zeros."""
        room = np.zeros(_filled(len(values)) if size is None else size, values.dtype)
        room[: len(values)] = values
        return self.address(room)

    def layer(
        self,
        weight: NDArray[np.int8],
        bias: NDArray[np.int32],
        scale: NDArray[np.float32] | None,
        *,
        taps: int = 1,
        signed: bool = False,
    ) -> _Layer:
        """``weight`` (taps * inputs, outputs). ``signed``: its inputs are stored plus 128."""
        inputs, outputs = weight.shape[0] // taps, weight.shape[1]
        deep, wide = _filled(inputs, self.depth), _filled(outputs)
        room = np.zeros((taps, deep, wide), np.int8 if self.group == 4 else np.int16)
        room[:, :inputs, :outputs] = weight.reshape(taps, inputs, outputs)
        groups = room.reshape(taps * deep // self.group, self.group, wide // _WIDTH, _WIDTH)
        total = bias.astype(np.int64)
        total += (self.offset - 128 * signed) * weight.sum(0, dtype=np.int64)
        return _Layer(
            weights=self.address(groups.transpose(2, 0, 3, 1)),
            bias=self.vector(total.astype(np.int32)),  # modulo 2^32, as the sums are
            scale=self.vector(np.zeros(1, np.float32) if scale is None else scale),
            inputs=deep,
            pitch=_filled(inputs),
            outputs=wide,
        )

    def first(self, tensors: Tensors, config: PhotoConfig) -> _Layer:
        """The first layer: 16-bit weights as two signed bytes, in groups of 16 columns each."""
        c, half = config.channels, _WIDTH // 2
        wide = tensors["first.weight"].astype(np.int64)
        bias = tensors["first.bias"].astype(np.int64)
        linear = tensors["first.predictor_bias"].astype(np.int64)
        size = _filled(c)
        columns = np.zeros((len(wide), size + half), np.int64)
        columns[:, :c], columns[:, size : size + config.colours] = wide[:, :c], wide[:, c:]
        biases = np.zeros(size + half, np.int64)
        biases[:c], biases[size : size + config.colours] = bias, linear
        biases -= 128 * columns.sum(0)
        high = (columns + 128) >> 8
        pairs = np.stack([high, columns - 256 * high]).reshape(2, len(wide), -1, half)
        weight = pairs.transpose(1, 2, 0, 3).reshape(len(wide), -1).astype(np.int8)
        both = np.stack([np.zeros_like(biases), biases]).reshape(2, -1, half)
        scale = np.zeros(_filled(c), np.float32)
        scale[:c] = tensors["first.scale"]
        return self.layer(weight, both.transpose(1, 0, 2).reshape(-1).astype(np.int32), scale)

    def network(self, tensors: Tensors, config: PhotoConfig) -> _Network:
        """All of it."""
        c, h, s = _filled(config.channels), _filled(config.head), config.colours

        def layer(name: str, taps: int = 1, signed: bool = False) -> _Layer:
            weight, bias, scale = (tensors[f"{name}.{p}"] for p in ("weight", "bias", "scale"))
            return self.layer(weight, bias, scale, taps=taps, signed=signed)

        def apart(values: NDArray[Any]) -> NDArray[Any]:
            """The trunk's columns, those of each sub-pixel filled up on their own."""
            room = np.zeros((*values.shape[:-1], s, h), values.dtype)
            room[..., : config.head] = values.reshape(*values.shape[:-1], s, -1)
            return room.reshape(*values.shape[:-1], s * h)

        blocks, table = range(len(config.blocks)), tensors["first.table"]
        trunk = [apart(tensors[f"trunk.{part}"]) for part in ("weight", "bias", "scale")]
        found = _Network(
            colours=s,
            given=config.given,
            channels=c,
            head=h,
            components=config.components,
            near=config.near,
            blocks=len(blocks),
            first=self.first(tensors, config),
            stem=layer("stem", signed=True),
            trunk=self.layer(*trunk),
            trunk_scale=self.vector(tensors["trunk.input_scale"]),
            table=self.address((table.astype(np.int16) + 128).astype(np.uint8)),
            reach=len(table) // 2,
        )
        found.neighbours[: config.near] = NEIGHBOURS[: config.near]
        for i, kind in enumerate(config.blocks):
            found.masked[i] = kind == "M"
            found.a[i] = layer(f"blocks.{i}.a", 5 if kind == "M" else 1)
            found.b[i] = layer(f"blocks.{i}.b")
            found.input_scale[i] = self.vector(tensors[f"blocks.{i}.input_scale"])
        for q in range(s):
            found.heads[q] = layer(f"heads.{q}")
            found.head_scale[q] = self.vector(tensors[f"heads.{q}.input_scale"])
        if s == 3:
            bins, rows = tensors["code.bins"], tensors["code.rows"]
            code = np.zeros((*rows.shape[:2], h), np.int32)
            code[..., : config.head] = rows
            found.bins, found.last_bin = self.address(bins), len(bins) - 1
            found.code, found.code_rows = self.address(code), rows.shape[1]
        return found


class Native(Frozen):
    """A frozen network in compiled code, for an instruction set."""

    def __init__(
        self,
        name: str,
        tensors: Tensors,
        config: PhotoConfig,
        isa: str,
        sound: bytes | None = None,
    ) -> None:
        super().__init__(name, tensors, config, sound)
        engine = library()
        assert engine is not None, "there is none without a library"
        self.engine, self.isa = engine, isa
        self.number = native.names(engine.engine_name).index(isa)
        self._packer = _Packer(engine, self.number)
        self.network = self._packer.network(tensors, config)

    def parallel(
        self, pixels: NDArray[np.uint8], label: int = 0, given: Given | None = None
    ) -> Iterator[NDArray[np.int32]]:
        """See `pixelzip.codec.conditional.Conditional.parallel`."""
        height, width, channels = pixels.shape
        evaluation = Evaluation(self, pixels.shape[:2], channels, given, pixels)
        rows = max(1, network.BAND // width)
        for top in range(0, height, rows):
            some = min(rows, height - top)
            out = np.empty((some * width, channels, 3, self.config.components), np.int32)
            evaluation.score(some, out, None, None)
            yield out

    def score_tile(
        self,
        pixels: NDArray[np.uint8],
        label: int = 0,
        given: Given | None = None,
        bands: int = 1,
        parallel: Map = map,
    ) -> NDArray[np.float32]:
        """See `pixelzip.codec.conditional.WholeTiles.score_tile`."""
        height, width, channels = pixels.shape
        intervals = np.empty((height * width * channels * 2, 3), np.float32)
        self._score_bands(pixels, given, bands, parallel, None, None, intervals)
        return intervals

    def parameters_of_tile(
        self,
        pixels: NDArray[np.uint8],
        given: Given | None = None,
        bands: int = 1,
        parallel: Map = map,
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """See `pixelzip.codec.conditional.Factored.parameters_of_tile`."""
        height, width, channels = pixels.shape
        out = np.empty((height, width, channels, 3, self.config.components), np.int32)
        factors = np.empty((height, width, self.shared() + channels), np.int32)
        self._score_bands(pixels, given, bands, parallel, out, factors, None)
        return out.reshape(-1, *out.shape[2:]), factors.reshape(height * width, -1)

    def _score_bands(
        self,
        pixels: NDArray[np.uint8],
        given: Given | None,
        bands: int,
        parallel: Map,
        parameters: NDArray[np.int32] | None,
        factors: NDArray[np.int32] | None,
        intervals: NDArray[np.float32] | None,
    ) -> None:
        """Of a whole tile fill in ``parameters`` and ``factors`` by row, or ``intervals``."""
        height, width, channels = pixels.shape

        def score(first: int, end: int) -> None:
            evaluation = Evaluation(self, (height, width), channels, given, pixels, first)
            own, seen = (
                None if some is None else some[first:end] for some in (parameters, factors)
            )
            evaluation.score(end - first, own, seen, intervals)

        # All bands but the first compute rows above them once more, one for each masked layer.
        again = self.config.blocks.count("M")
        own = (height + (bands - 1) * again) / bands - again
        inner = (min(height, round(band * own + again)) for band in range(1, bands))
        cuts = [0, *inner, height]
        list(parallel(score, cuts[:-1], cuts[1:]))

    def decode_tile(
        self,
        payload: bytes,
        shape: Shape,
        channels: int,
        label: int = 0,
        given: Given | None = None,
    ) -> NDArray[np.uint8]:
        """See `pixelzip.codec.conditional.WholeTiles.decode_tile`."""
        return self._decode(payload, coder.start(payload), shape, channels, None, given)

    def decode_fitted(
        self,
        decoder: coder.Decoder,
        shape: Shape,
        channels: int,
        shift: Shift,
        given: Given | None = None,
    ) -> NDArray[np.uint8]:
        """See `pixelzip.codec.conditional.FittedTiles.decode_fitted`."""
        mixtures, weights = shift.mixtures.shape, shift.weights.shape
        if mixtures != (channels, 3, self.config.components) or weights != (
            channels,
            self.shared() + channels,
        ):
            raise FormatError("the file is damaged: its network does not go with its method")
        return self._decode(decoder.payload, decoder.state, shape, channels, shift, given)

    def _decode(
        self,
        payload: bytes,
        state: NDArray[np.uint64],
        shape: Shape,
        channels: int,
        shift: Shift | None,
        given: Given | None,
    ) -> NDArray[np.uint8]:
        """All pixels, from a payload that has been decoded up to a ``state`` of the coder."""
        pixels = np.empty((*shape, channels), np.uint8)
        mixtures = None if shift is None else np.ascontiguousarray(shift.mixtures)
        weights = None if shift is None else np.ascontiguousarray(shift.weights)
        evaluation = Evaluation(self, shape, channels, given)
        address, size = evaluation.address, len(payload)
        _raise(self.engine.engine_decode(address, mixtures, weights, payload, size, pixels, state))
        coder.check_finished(payload, state)
        return pixels

    def stepwise(
        self,
        shapes: Sequence[Shape],
        channels: int,
        labels: Sequence[int],
        given: Sequence[Given] | None = None,
    ) -> Steps:
        """See `pixelzip.codec.conditional.Conditional.stepwise`."""
        return Steps(self, shapes, channels, given)


class Evaluation:
    """struct evaluation of engine.h: of a tile, row by row if its ``pixels`` are known.

    Then it begins at the ``first`` row that is asked for.
    """

    def __init__(
        self,
        owner: Native,
        shape: Shape,
        channels: int,
        given: Given | None,
        pixels: NDArray[np.uint8] | None = None,
        first: int = 0,
    ) -> None:
        owner.check_given(shape, given)
        self.engine = owner.engine
        samples = None if given is None else np.ascontiguousarray(given, np.uint8)
        self.address = self.engine.engine_open(
            ctypes.byref(owner.network),
            owner.number,
            *shape,
            channels,
            None if pixels is None else np.ascontiguousarray(pixels),
            first,
            samples,
            0 if samples is None else samples.shape[2],
        )
        if not self.address:
            raise MemoryError("there is not enough memory for a tile")

    def score(
        self,
        rows: int,
        parameters: NDArray[np.int32] | None,
        factors: NDArray[np.int32] | None,
        intervals: NDArray[np.float32] | None,
    ) -> None:
        """Fill in ``parameters``, and ``factors`` if wanted, or ``intervals``, of the next rows."""
        _raise(self.engine.engine_score(self.address, rows, parameters, factors, intervals))

    def __del__(self) -> None:
        if getattr(self, "address", None):
            self.engine.engine_close(self.address)


def _raise(result: int) -> None:
    """What the library's answer means."""
    if result == 1:
        raise FormatError("the compressed data is damaged")
    if result == 2:
        raise MemoryError("there is not enough memory for a tile")


class Steps:
    """Several tiles in step: a `pixelzip.codec.conditional.Stepper`."""

    def __init__(
        self,
        owner: Native,
        shapes: Sequence[Shape],
        channels: int,
        given: Sequence[Given] | None,
    ) -> None:
        self.owner, self.engine = owner, owner.engine
        self.tiles = [
            Evaluation(owner, shape, channels, None if given is None else given[i])
            for i, shape in enumerate(shapes)
        ]

    def select(
        self, tiles: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> None:
        """See `pixelzip.codec.conditional.Stepper.select`."""
        self.here = [self.tiles[tile].address for tile in np.unique(tiles)]
        counts = [self.engine.engine_select(address) for address in self.here]
        self.ends = np.cumsum(counts)
        assert self.ends[-1] == len(tiles), "fronts come whole, and in order"

    def parameters(self, channel: int) -> NDArray[np.int32]:
        """See `pixelzip.codec.conditional.Stepper.parameters`."""
        out = np.empty((self.ends[-1], 3, self.owner.config.components), np.int32)
        for address, part in zip(self.here, np.split(out, self.ends[:-1]), strict=True):
            self.engine.engine_parameters(address, channel, part)
        return out

    def factors(self, channel: int) -> NDArray[np.int32]:
        """See `pixelzip.codec.conditional.FactoredStepper.factors`."""
        out = np.empty((self.ends[-1], self.owner.shared() + channel), np.int32)
        for address, part in zip(self.here, np.split(out, self.ends[:-1]), strict=True):
            self.engine.engine_factors(address, channel, part)
        return out

    def reveal(self, channel: int, values: NDArray[np.uint8]) -> None:
        """See `pixelzip.codec.conditional.Stepper.reveal`."""
        values = np.ascontiguousarray(values, np.uint8)
        assert len(values) == self.ends[-1], "all of a front's values"
        for address, part in zip(self.here, np.split(values, self.ends[:-1]), strict=True):
            self.engine.engine_reveal(address, channel, part)


assert len(NEIGHBOURS) <= _MOST_NEAR
assert len(WINDOW) == 31  # engine.c copies its four rows as they are
