"""A second decoder of files, short and slow, that follows ``docs/format.md``.

It shares no line with pixelzip and does not import it: if the two agree on real images, then the
specification says what the code does. Names and order are those of the specification.
"""

from __future__ import annotations

import hashlib
import json
import lzma
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, getcontext
from functools import cache
from itertools import pairwise
from typing import Any
from zlib import crc32

import numpy as np
import reference_blocks
import reference_sparse as sparse
import reference_ycc as ycc
from numpy.typing import NDArray

Mixture = tuple[list[int], list[int], list[int]]
"""Logits, means, log-scales."""
Array = NDArray[Any]
Fit = list[tuple[Array, list[int]]]
"""Of each channel what is added to logits, means and log-scales, and weights if there are any."""

WINDOW = [
    (-above, column)
    for above, first, last in ((3, -4, 4), (2, -5, 3), (1, -5, 1), (0, -6, -1))
    for column in range(first, last + 1)
]
NEIGHBOURS = [
    (0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0),
    (-2, 1), (-2, -1), (-1, -2), (-2, 2), (0, -3), (-3, 0),
    (-2, -2), (-1, -3), (0, -4), (-3, 1), (-3, -1), (-2, 3),
    (-3, 2), (-2, -3), (-3, -2), (-1, -4), (-3, 3), (0, -5),
]  # fmt: skip
LOOK = [(row, column) for row in range(-2, 3) for column in range(-2, 3)]
LOOK_NEIGHBOURS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]
TAPS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0)]


# Tables.

getcontext().prec = 40


def rounded(values: list[Decimal]) -> list[int]:
    """A table of these."""
    return [int(value.to_integral_value()) for value in values]


EXP = rounded([2**20 * (Decimal(-i) / 256).exp() for i in range(3073)])
INVERSE_SCALE = rounded([2**20 * (Decimal(128 - i) / 32).exp() for i in range(289)])
SIGMOID = rounded([2**22 / (1 + (Decimal(1024 - i) / 64).exp()) for i in range(2049)])


# Frequencies.


def clamp(a: int, low: int, high: int) -> int:
    return max(low, min(a, high))


def weights(logits: Sequence[int]) -> list[int]:
    top = logits.index(max(logits))
    distances = [logits[top] - logit for logit in logits]
    e = [EXP[d] if d <= 3072 else 0 for d in distances]
    weight = [(x << 14) // sum(e) for x in e]
    weight[top] += 2**14 - sum(weight)
    return weight


def cumulative(x: int, weight: Sequence[int], mixture: Mixture) -> int:
    """C(x)."""
    if x in (0, 256):
        return 2**36 if x else 0
    total = 0
    for share, mean, log_scale in zip(weight, mixture[1], mixture[2], strict=True):
        m, s = clamp(mean, -(2**18), 2**18), clamp(log_scale, -128, 160)
        z = ((256 * x - 128 - m) * INVERSE_SCALE[s + 128]) >> 14
        a, f = divmod(clamp(z, -(2**18), 2**18) + 2**18, 256)
        slope = SIGMOID[a + 1] - SIGMOID[a] if a < 2048 else 0
        total += share * (SIGMOID[a] + ((slope * f) >> 8))
    return total


def frequencies(
    mixture: Mixture, high: int | None = None, allowed: set[int] | None = None
) -> list[int]:
    """The 18 frequencies of the high nibble or, given it, of the low one."""
    weight = weights(mixture[0])
    return nibble_frequencies(cache(lambda x: cumulative(x, weight, mixture)), high, allowed)


def frequencies_of_logits(logits: Sequence[int], high: int | None = None) -> list[int]:
    """The same where there are logits of all values."""
    top = max(logits)
    e = [EXP[top - logit] if top - logit <= 3072 else 0 for logit in logits]
    return nibble_frequencies(lambda x: sum(e[:x]), high)


def nibble_frequencies(
    cdf: Callable[[int], int], high: int | None, allowed: set[int] | None = None
) -> list[int]:
    spread = 2**24 - 18
    if allowed is not None:
        masses = allowed_masses(cdf, high, allowed)
        g = [sum(masses[:j]) * spread // sum(masses) for j in range(17)]
    elif high is None:
        g = [(cdf(16 * j) * spread) // cdf(256) for j in range(17)]
    else:
        c = [cdf(16 * high + j) for j in range(17)]
        divisor = c[16] - c[0]
        g = [(x - c[0]) * spread // divisor for x in c] if divisor else [
            (j * spread) >> 4 for j in range(17)
        ]  # fmt: skip
    return [1, *(g[j + 1] - g[j] + 1 for j in range(16)), 1]


def allowed_masses(cdf: Callable[[int], int], high: int | None, allowed: set[int]) -> list[int]:
    first, size = (0, 16) if high is None else (16 * high, 1)
    values = [
        [v for v in range(first + size * j, first + size * (j + 1)) if v in allowed]
        for j in range(16)
    ]
    masses = [sum(cdf(v + 1) - cdf(v) for v in some) for some in values]
    if not any(masses):
        masses = [len(some) for some in values]
    return masses if any(masses) else [1] * 16


class RangeDecoder:
    def __init__(self, payload: bytes) -> None:
        if payload.endswith(b"\0"):
            raise ValueError("damaged")
        self.payload = payload
        self.at = 0
        self.range = 2**64 - 1
        self.offset = self.take(8)

    def take(self, count: int) -> int:
        taken = self.payload[self.at : self.at + count]
        self.at += count
        return int.from_bytes(taken.ljust(count, b"\0"), "big")

    def nibble(self, f: Sequence[int]) -> int:
        scale = self.range >> 24
        quantile = self.offset // scale
        if quantile >= 2**24:
            raise ValueError("damaged")
        k = below = 0
        while below + f[k] <= quantile:
            below += f[k]
            k += 1
        if k in (0, len(f) - 1):
            raise ValueError("damaged")
        self.offset -= scale * below
        self.range = scale * f[k]
        if self.range < 2**32:
            self.range <<= 32
            self.offset = self.offset << 32 | self.take(4)
        return k - 1


# Frozen networks.

TYPES = {
    "I8": ("<i1", "int8"),
    "I16": ("<i2", "int16"),
    "I32": ("<i4", "int32"),
    "I64": ("<i8", "int64"),
    "F32": ("<f4", "float32"),
    "F64": ("<f8", "float64"),
}
"""What safetensors calls a type -> how it is stored, what fingerprints call it."""


def read(data: bytes) -> tuple[dict[str, str], dict[str, NDArray[Any]], bytes]:
    """Metadata and tensors of a safetensors file, and what a fingerprint takes of the tensors."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    metadata = header.pop("__metadata__")
    tensors, content = {}, b""
    for name in sorted(header):
        entry = header[name]
        stored, called = TYPES[entry["dtype"]]
        first, last = entry["data_offsets"]
        raw, shape = data[end + first : end + last], entry["shape"]
        tensor = np.frombuffer(raw, stored).reshape(shape)
        # Integers in 64 bits, scales as they are.
        tensors[name] = tensor.astype(np.int64 if "int" in called else called)
        sides = f"({shape[0]},)" if len(shape) == 1 else f"({', '.join(map(str, shape))})"
        content += f"{name} torch.{called} {sides}\n".encode("ascii") + raw
    return metadata, tensors, content


def scaled(t: NDArray[np.int64], s: NDArray[np.float32]) -> NDArray[np.int64]:
    rounded: NDArray[np.float32] = np.rint(t.astype(np.float32) * s)
    return rounded.astype(np.int64)


def rescale(t: NDArray[np.int64], s: NDArray[np.float32]) -> NDArray[np.int64]:
    return scaled(t, s).clip(-(2**26), 2**26)


def activate(t: NDArray[np.int64], s: NDArray[np.float32]) -> NDArray[np.int64]:
    return scaled(t, s).clip(0, 127)


class Network:
    """The content of a frozen network's file."""

    def __init__(self, data: bytes) -> None:
        metadata, self.tensors, content = read(data)
        assert metadata["format"] == "pixelzip frozen network 1"
        left_out = {"colours": 3, "near": 12, "given": 0}
        architecture = left_out | json.loads(metadata["architecture"])
        self.channels: int = architecture["channels"]
        self.blocks: str = architecture["blocks"]
        self.head: int = architecture["head"]
        self.components: int = architecture["components"]
        self.colours: int = architecture["colours"]
        self.neighbours = NEIGHBOURS[: architecture["near"]]
        self.given: int = architecture["given"]
        assert (self.colours, self.given) in ((3, 0), (1, 0), (1, 5))
        assert architecture["near"] in (12, 24)
        self.fingerprint = bytes.fromhex(metadata["fingerprint"])
        members = ", ".join(
            f'"{name}": {json.dumps(value)}'
            for name, value in sorted(architecture.items())
            if left_out.get(name) != value
        )
        text = f"pixelzip frozen network 1\n{{{members}}}\n"
        assert hashlib.sha256(text.encode("ascii") + content).digest() == self.fingerprint
        self.check()
        # What has been checked fits these exactly, and they are faster.
        weights = [name for name in self.tensors if name.endswith(".weight")]
        self.matrices = {name: self.tensors[name].astype(np.float64) for name in weights}

    def check(self) -> None:
        """The bounds that a loader must check; shapes show up when they are used."""
        t = self.tensors
        for name, tensor in t.items():
            if tensor.dtype == np.float32:
                assert (tensor > 0).all()
                assert (tensor < 2.0**20).all()
            if name.endswith(".weight"):
                largest = 128 if name == "first.weight" else 127
                bias = t[name.removesuffix("weight") + "bias"]
                if name == "first.weight":
                    bias = np.append(bias, t["first.predictor_bias"])
                sums = np.abs(tensor).sum(0) * largest + np.abs(bias)
                assert (sums < 2**31 - 16).all()
        assert np.abs(t["first.weight"]).max() <= 32639
        assert np.abs(t["first.table"]).max() <= 127
        assert len(t["first.table"]) % 2 == 1
        assert ("code.bins" in t) == ("code.rows" in t) == (self.colours == 3)
        if self.colours == 1:
            return
        assert np.abs(t["code.rows"]).max() <= 2**26
        bins, rows = t["code.bins"], t["code.rows"].shape[1]
        assert bins[0] == 0
        assert 0 <= bins.min() <= bins.max() <= (rows - 1) // 2
        assert rows % 2 == 1

    def product(self, name: str, x: NDArray[np.int64]) -> NDArray[np.int64]:
        found: NDArray[np.float64] = x @ self.matrices[f"{name}.weight"]
        return found.astype(np.int64)

    def layer(self, name: str, x: NDArray[np.int64]) -> NDArray[np.int64]:
        """What comes before the scale."""
        found: NDArray[np.int64] = self.product(name, x) + self.tensors[f"{name}.bias"]
        return found


MARGIN = 6
"""Rows and columns of zeros around a tile, enough for the window."""


class Tile:
    """What is known of a tile: the inputs of its pixels and the activations of its blocks."""

    def __init__(
        self, network: Network, height: int, width: int, channels: int, told: Array | None
    ) -> None:
        assert channels in (1, network.colours)
        self.network, self.channels = network, channels
        padded = (height + 2 * MARGIN, width + 2 * MARGIN)
        self.inputs = np.zeros((*padded, network.colours + 1), np.int64)
        self.look = np.zeros((*padded, 7), np.int64)
        if network.given:
            assert told is not None
            inside = self.look[MARGIN : MARGIN + height, MARGIN : MARGIN + width]
            luma, first_chroma = told[:, :, :4].astype(int), told[:, :, 4:].astype(int)
            inside[:, :, :4], inside[:, :, 4] = luma - 128, 64
            if first_chroma.size:
                inside[:, :, 5:6], inside[:, :, 6] = first_chroma - 128, 64
        self.caches = [np.zeros((*padded, network.channels), np.int64) for _ in network.blocks]


class Pixel:
    """A pixel whose window is known, and the trunk there."""

    def __init__(self, tile: Tile, row: int, column: int) -> None:
        self.tile, self.row, self.column = tile, row + MARGIN, column + MARGIN
        net, t = tile.network, tile.network.tensors
        seen = [tile.inputs[self.near(offset)] for offset in WINDOW]
        if net.given:
            seen += [tile.look[self.near(offset)] for offset in LOOK]
        v = np.concatenate(seen)
        y = net.product("first", v)
        u, p = y[: net.channels], y[net.channels :]
        r = (len(t["first.table"]) - 1) // 2
        x = t["first.table"][r + scaled(u + t["first.bias"], t["first.scale"]).clip(-r, r)]
        self.predicted = (p + t["first.predictor_bias"] + 16) >> 5
        stream = rescale(net.layer("stem", x), t["stem.scale"])
        for i, (kind, kept) in enumerate(zip(net.blocks, tile.caches, strict=True)):
            name = f"blocks.{i}"
            x = activate(stream, t[f"{name}.input_scale"])
            if kind == "M":
                kept[self.near((0, 0))] = x
                x = np.concatenate([kept[self.near(offset)] for offset in TAPS])
            x = activate(net.layer(f"{name}.a", x), t[f"{name}.a.scale"])
            stream = stream + rescale(net.layer(f"{name}.b", x), t[f"{name}.b.scale"])
        x = activate(stream, t["trunk.input_scale"])
        self.hidden = rescale(net.layer("trunk", x), t["trunk.scale"])
        self.residual: list[int] = []

    def near(self, offset: tuple[int, int]) -> tuple[int, int]:
        return self.row + offset[0], self.column + offset[1]

    def mixture(self) -> Mixture:
        """The mixture of the next sub-pixel."""
        net, t, q = self.tile.network, self.tile.network.tensors, len(self.residual)
        k = net.components
        hidden = self.hidden[q * net.head : (q + 1) * net.head]
        for e, residual in enumerate(self.residual):
            rows, bins = t["code.rows"], t["code.bins"]
            size = min(abs(residual) >> 4, len(bins) - 1)
            i = -bins[size] if residual < 0 else bins[size]
            hidden = hidden + rows[q + e - 1, (rows.shape[1] - 1) // 2 + i]
        x = activate(hidden, t[f"heads.{q}.input_scale"])
        o = rescale(net.layer(f"heads.{q}", x), t[f"heads.{q}.scale"])
        near = np.stack([self.tile.inputs[self.near(offset)][:-1] for offset in net.neighbours])
        contrast = (256 * near - self.predicted).ravel()
        self.factors = [*contrast.tolist(), *self.look_contrasts(), *self.residual]
        total = sum(a * b for a, b in zip(o[3 * k :].tolist(), self.factors, strict=True))
        centre = int(self.predicted[q]) + 128 * 256 + ((total + 2048) >> 12)
        self.centre = clamp(centre, -(2**26), 2**26)
        logits, shifts, log_scales = o[: 3 * k].reshape(3, k).tolist()
        return logits, [self.centre + shift for shift in shifts], log_scales

    def fitted_mixture(self, fit: Fit) -> Mixture:
        """The same with what is fitted to the tile."""
        logits, means, log_scales = self.mixture()
        offsets, weights = fit[len(self.residual)]
        assert len(offsets) == 3 * self.tile.network.components
        total = sum(a * b for a, b in zip(weights, self.factors, strict=bool(weights)))
        moved = clamp((total + 2048) >> 12, -(2**26), 2**26)
        means = [mean + moved for mean in means]
        found = (np.array([*logits, *means, *log_scales]) + offsets).reshape(3, -1).tolist()
        return found[0], found[1], found[2]

    def look_contrasts(self) -> list[int]:
        """Of each look neighbour, that of the luma and that of the first chroma plane."""
        if not self.tile.network.given:
            return []
        here, found = self.tile.look[self.row, self.column], []
        for offset in LOOK_NEIGHBOURS:
            there = self.tile.look[self.near(offset)]
            found.append(64 * int(there[:4].sum() - here[:4].sum()))
            found.append(256 * int(there[5] - here[5]))
        return found

    def learn(self, value: int) -> None:
        """Take in the value of that sub-pixel."""
        inputs = self.tile.inputs[self.row, self.column]
        if self.tile.channels == 1:
            inputs[:-1] = value - 128
        else:
            inputs[len(self.residual)] = value - 128
        inputs[-1] = 64
        self.residual.append(256 * value - self.centre)


def decode_tile(
    network: Network,
    payload: bytes,
    height: int,
    width: int,
    channels: int,
    told: Array | None = None,
    colours: set[sparse.Pixel] | None = None,
    fitted: bool = False,
) -> NDArray[np.uint8]:
    """(height, width, channels) pixels of a network payload, or one that is ``fitted``.

    The tile is given what is ``told``, (height, width, 4 or 5), and has these ``colours`` only.
    """
    coder, fit = read_fit(network, payload, channels) if fitted else (RangeDecoder(payload), None)
    tile = Tile(network, height, width, channels, told)
    out = np.zeros((height, width, channels), np.uint8)
    for t in range(width + 2 * (height - 1)):
        places = [(row, t - 2 * row) for row in range(height) if 0 <= t - 2 * row < width]
        front = [Pixel(tile, row, column) for row, column in places]
        for channel in range(channels):
            mixtures = [
                pixel.mixture() if fit is None else pixel.fitted_mixture(fit) for pixel in front
            ]
            allowed: list[set[int] | None] = [None] * len(front)
            if colours is not None:
                earlier = [tuple(out[place][:channel].tolist()) for place in places]
                allowed = [{c[channel] for c in colours if c[:channel] == e} for e in earlier]
            highs = [
                coder.nibble(frequencies(mixture, None, values))
                for mixture, values in zip(mixtures, allowed, strict=True)
            ]
            for place, pixel, mixture, high, values in zip(
                places, front, mixtures, highs, allowed, strict=True
            ):
                value = 16 * high + coder.nibble(frequencies(mixture, high, values))
                pixel.learn(value)
                out[place][channel] = value
    return out


def read_fit(network: Network, payload: bytes, channels: int) -> tuple[RangeDecoder, Fit]:
    """What is fitted to each channel of a tile, and the decoder of what follows."""
    k = payload[0]
    assert k > 0
    units = np.repeat([16, 16, 1], k)
    end = 1 + 3 * channels
    assert len(payload) >= end
    heads = np.frombuffer(payload[1:end], np.int8).reshape(channels, 3).tolist()
    shared = len(network.neighbours) * network.colours + (16 if network.given else 0)
    mixtures: list[Mixture] = []
    counts = []
    for channel, (step, of_offsets, of_weights) in enumerate(heads):
        assert step == -1 or 0 <= step <= 12
        counts.append(0 if step == -1 else shared + channel)
        sizes = [of_offsets] * 3 * k + [of_weights] * counts[-1]
        mixtures += [([0], [128 * 256], [size]) for size in sizes]
    coder = RangeDecoder(payload[end:])
    highs = [coder.nibble(frequencies(mixture)) for mixture in mixtures]
    numbers = [
        16 * high + coder.nibble(frequencies(mixture, high)) - 128
        for mixture, high in zip(mixtures, highs, strict=True)
    ]
    fit: Fit = []
    for (step, *_), count in zip(heads, counts, strict=True):
        offsets, weights = np.array(numbers[: 3 * k]), numbers[3 * k : 3 * k + count]
        fit.append((offsets * units, [number << step for number in weights]))
        del numbers[: 3 * k + count]
    return coder, fit


# The file.

MODES = [
    ("1", [1]), ("L", [1]), ("LA", [1, 1]), ("P", [1]), ("RGB", [3]), ("RGBA", [3, 1]),
    ("I;16", [1, 1]), ("LA;16", [1, 1, 1, 1]), ("RGB;16", [3, 3]), ("RGBA;16", [3, 1, 3, 1]),
    ("CMYK", [3, 1]), ("CMYK;16", [3, 1, 3, 1]),
]  # fmt: skip
DIRECT, GREY, JOINED, JOINED_GREY, CONSTANT, ORIGIN = range(6)
RAW, ALL_EQUAL, PACKED, NETWORK, ADAPTIVE, BLOCKS, FITTED = range(7)

Origins = dict[int, Any]
"""By number: what has ``layout`` and ``render``."""


@dataclass
class Plane:
    """What the header says of a plane, and then its samples."""

    height: int
    width: int
    channels: int
    kind: str
    step: tuple[int, int] = (1, 1)
    phase: tuple[int, int] = (0, 0)
    tile_size: int = 0
    colours: int = 0
    index: list[tuple[int, int]] = field(default_factory=list)
    network: int = -1
    colour_set: set[sparse.Pixel] | None = None
    blocks: reference_blocks.Blocks | None = None
    samples: Array = field(default_factory=lambda: np.zeros(0, np.uint8))

    def tiles(self) -> list[tuple[int, int, int, int]]:
        """Top, left, height and width of each."""
        edges = []
        for n in (self.height, self.width):
            p = (n + self.tile_size - 1) // self.tile_size if self.tile_size else 1
            edges.append([n * k // p for k in range(p + 1)])
        spans = [[(start, end - start) for start, end in pairwise(side)] for side in edges]
        return [(top, left, h, w) for top, h in spans[0] for left, w in spans[1]]


@dataclass
class Component:
    """What the header says of the components that are stored together."""

    carried: list[int]
    transform: int
    pixel: bytes = b""
    origin: int = 0
    parameters: bytes = b""
    corrections: int = 0
    planes: list[Plane] = field(default_factory=list)


class File:
    """The bytes of a file, and how far they are read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        assert self.at + count <= len(self.data)
        self.at += count
        return self.data[self.at - count : self.at]

    def varint(self) -> int:
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number


def decode_file(
    data: bytes,
    find_network: Callable[[bytes], Any],
    decode: Callable[..., Array] = decode_tile,
    origins: Origins | None = None,
) -> list[Array]:
    """The components of a file, (height, width, channels) each."""
    file = File(data[:-4])
    assert crc32(data[:-4]) == int.from_bytes(data[-4:], "little")
    assert file.take(2) == b"\xf5\x7a"
    head = file.take(1)[0]
    assert head >> 4 & 7 == 1
    mode, channels = MODES[head & 15]
    width, height = file.varint() + 1, file.varint() + 1
    if head & 128:
        plane = Plane(height, width, channels[0], kind_of(mode, 0, len(channels)), network=0)
        plane.index = [(NETWORK, -1)]
        components, networks = [Component([0], DIRECT, planes=[plane])], 1
    else:
        components, networks = read_components(
            file, mode, channels, height, width, origins or ORIGINS
        )
        size = file.varint()
        file.take(size >> 1)  # the metadata
    small = width * height <= 4096
    fingerprints = [file.take(2 if small else 4) for _ in range(networks)]
    check = int.from_bytes(file.take(1 if small else 4), "little")
    restored: list[Array] = [np.zeros(0, np.uint8)] * len(channels)
    for component in components:
        corrections = file.take(component.corrections)
        for number, plane in enumerate(component.planes):
            message = file.take(plane.colours)
            plane.colour_set = sparse.colours(message) if message else None
            network = find_network(fingerprints[plane.network]) if plane.network >= 0 else None
            read_plane(file, plane, network, decode, component.planes[:number])
        counts = [channels[p] for p in component.carried]
        found = undo(component, counts, height, width, corrections, origins or ORIGINS)
        for position, pixels in zip(component.carried, found, strict=True):
            restored[position] = pixels
    assert file.at == len(file.data)
    crc = crc32(b"".join(pixels.tobytes() for pixels in restored))
    assert crc & (2**8 - 1 if small else 2**32 - 1) == check
    return restored


def decode_pages(data: bytes, find_network: Callable[[bytes], Any]) -> list[list[Array]]:
    """The components of each page of a document."""
    file = File(data[:-4])
    assert crc32(data[:-4]) == int.from_bytes(data[-4:], "little")
    assert file.take(3) == b"\xf5\x7a\x1e"
    lengths = [file.varint() for _ in range(file.varint() + 2)]
    pages = [decode_file(file.take(length), find_network) for length in lengths]
    assert file.at == len(file.data)
    return pages


def kind_of(mode: str, position: int, count: int) -> str:
    """The kind of the plane that a component becomes."""
    if mode in ("1", "P") or (mode.endswith(";16") and position >= count // 2):
        return "labels"
    return "colour" if mode.startswith("RGB") and position == 0 else "luma"


def read_components(
    file: File, mode: str, channels: list[int], height: int, width: int, origins: Origins
) -> tuple[list[Component], int]:
    """The components, and how many networks they use."""
    deep, count = mode.endswith(";16"), len(channels)
    missing, components, networks = list(range(count)), [], 0
    while missing:
        form, first = file.varint(), missing[0]
        transform, rest = form & 7, form >> 3
        carried = [first]
        if transform in (JOINED, JOINED_GREY):
            carried = list(range(count))
        elif transform == ORIGIN and deep:
            carried = [first, first + count // 2]
        missing = [position for position in missing if position not in carried]
        component = Component(carried, transform)
        components.append(component)
        kind, shapes = kind_of(mode, first, count), [rest]
        if transform == CONSTANT:
            component.pixel = file.take(channels[first])
        elif transform == ORIGIN:
            component.origin, shapes = rest, []
            component.parameters = file.take(file.varint())
            component.corrections = file.varint()
            layouts = origins[rest].layout(component.parameters, (height, width))
            component.planes = [
                Plane(p.height, p.width, p.channels, p.kind, p.step, p.phase) for p in layouts
            ]
        elif transform == DIRECT:
            component.planes = [Plane(height, width, channels[first], kind)]
        elif transform == GREY:
            component.planes = [Plane(height, width, 1, "luma")]
        else:
            total = sum(channels) if transform == JOINED else count
            component.planes = [Plane(height, width, total, "labels")]
        for plane in component.planes:
            shape = shapes.pop() if shapes else file.varint()
            plane.tile_size = shape >> 1
            plane.colours = file.varint() if shape & 1 else 0
            for _, _, rows, columns in plane.tiles():
                number = file.varint()
                implied = {RAW: rows * columns * plane.channels, ALL_EQUAL: plane.channels}
                plane.index.append((number & 7, implied.get(number & 7, number >> 3)))
            if any(method in (NETWORK, ADAPTIVE, FITTED) for method, _ in plane.index):
                plane.network = file.varint() if networks else 0
                networks = max(networks, plane.network + 1)
    return components, networks


def read_plane(
    file: File, plane: Plane, network: Any, decode: Callable[..., Array], earlier: list[Plane]
) -> None:
    """The samples of a plane from its tiles."""
    from reference_adaptive import decode_tile as decode_adaptively

    plane.samples = np.zeros((plane.height, plane.width, plane.channels), np.uint8)
    network_decode = decode
    for (method, length), (top, left, rows, columns) in zip(
        plane.index, plane.tiles(), strict=True
    ):
        decode = decode_adaptively if method == ADAPTIVE else network_decode
        if method == BLOCKS:
            assert plane.tile_size == 0
            assert plane.channels == 1
            assert plane.kind in ("luma", "chroma")
            before = told_of(plane, earlier)
            plane.blocks = reference_blocks.decode(file, length, plane, before)
            rendered = reference_blocks.rendered(plane.blocks, rows, columns)
            plane.samples[:, :, 0] = rendered
            continue
        payload = file.take(len(file.data) - file.at if length < 0 else length)
        shape = rows, columns, plane.channels
        more: dict[str, Any] = {}
        if method == FITTED:
            more["fitted"] = True
        if method == RAW:
            tile = np.frombuffer(payload, np.uint8).reshape(shape)
        elif method == ALL_EQUAL:
            tile = np.broadcast_to(np.frombuffer(payload, np.uint8), shape)
        elif method == PACKED:
            tile = unpack(payload, *shape)
        elif plane.colour_set is not None:
            assert plane.kind == "colour"
            assert method == NETWORK
            assert len(plane.colour_set) <= plane.height * plane.width
            tile = decode(network, payload, *shape, colours=plane.colour_set)
        elif plane.kind == "chroma" and network.given:
            told = np.array([
                [given(plane, earlier, r, c) for c in range(left, left + columns)]
                for r in range(top, top + rows)
            ], np.uint8)  # fmt: skip
            tile = decode(network, payload, *shape, told, **more)
        else:
            tile = decode(network, payload, *shape, **more)
        plane.samples[top : top + rows, left : left + columns] = tile


def told_of(plane: Plane, earlier: list[Plane]) -> list[Plane]:
    """The planes that a plane is given: of chroma the luma, and the first one of chroma."""
    if plane.kind != "chroma":
        return []
    kinds = [other.kind for other in earlier]
    return [earlier[kinds.index(kind)] for kind in ("luma", "chroma") if kind in kinds]


def given(plane: Plane, earlier: list[Plane], r: int, c: int) -> list[int]:
    """The given samples of one sample of a chroma plane."""
    luma, *chroma = told_of(plane, earlier)
    (sy, sx), (py, px) = (a // b for a, b in zip(plane.step, luma.step, strict=True)), plane.phase
    found = []
    for i in (0, 1):
        for j in (0, 1):
            row = clamp(r * sy - py + (i * sy) // 2, 0, luma.height - 1)
            column = clamp(c * sx - px + (j * sx) // 2, 0, luma.width - 1)
            found.append(int(luma.samples[row, column, 0]))
    return found + [int(other.samples[r, c, 0]) for other in chroma]


def undo(
    component: Component,
    channels: list[int],
    height: int,
    width: int,
    corrections: bytes,
    origins: Origins,
) -> list[Array]:
    """The components that one carries, from its planes."""
    transform, planes = component.transform, component.planes
    if transform == CONSTANT:
        pixel = np.frombuffer(component.pixel, np.uint8)
        return [np.tile(pixel, (height, width, 1))]
    if transform in (GREY, JOINED_GREY):
        tones = np.split(planes[0].samples, len(channels), axis=2)
        return [np.repeat(tone, n, axis=2) for tone, n in zip(tones, channels, strict=True)]
    pixels = planes[0].samples
    if transform == ORIGIN:
        deep = len(channels) == 2
        origin = origins[component.origin]
        samples = [plane.samples for plane in planes]
        pixels = origin.render(component.parameters, samples, (height, width))
        if deep:
            pixels = np.concatenate([pixels >> 8, pixels & 255], axis=2).astype(np.uint8)
        if corrections:
            pixels = correct(pixels, corrections)
    return np.split(pixels, np.cumsum(channels)[:-1], axis=2)


def image(samples: Array) -> sparse.Image:
    return [[tuple(pixel) for pixel in row] for row in samples.tolist()]


def correct(pixels: Array, corrections: bytes) -> Array:
    """The pixels that the rendered ones should be."""
    return np.array(sparse.corrected(corrections, image(pixels)), np.uint8)


class LumaAndChroma:
    """Origin number 1."""

    def layout(self, parameters: bytes, shape: tuple[int, int]) -> list[Plane]:
        size, step, phase = ycc.chroma(parameters, shape)
        first, second = (Plane(*size, 1, "chroma", step, phase) for _ in range(2))
        return [Plane(*shape, 1, "luma"), first, second]

    def render(self, parameters: bytes, planes: list[Array], shape: tuple[int, int]) -> Array:
        y, c1, c2 = (plane[:, :, 0].tolist() for plane in planes)
        return np.array(ycc.rendered(parameters, y, c1, c2), np.uint8)


class OneTone:
    """Origin number 2."""

    def layout(self, parameters: bytes, shape: tuple[int, int]) -> list[Plane]:
        assert parameters in (b"\1", b"\3")
        return [Plane(*shape, 1, "luma")]

    def render(self, parameters: bytes, planes: list[Array], shape: tuple[int, int]) -> Array:
        return np.repeat(planes[0], parameters[0], axis=2)


class Levels:
    """Origin number 3."""

    def layout(self, parameters: bytes, shape: tuple[int, int]) -> list[Plane]:
        channels, low_bits = sparse.levels_planes(parameters)
        first = Plane(*shape, channels, "colour" if channels == 3 else "luma")
        return [first, Plane(*shape, channels, "labels")] if low_bits else [first]

    def render(self, parameters: bytes, planes: list[Array], shape: tuple[int, int]) -> Array:
        rendered = sparse.with_levels(parameters, [image(plane) for plane in planes])
        return np.array(rendered, np.uint16 if parameters[0] & 4 else np.uint8)


ORIGINS: Origins = {1: LumaAndChroma(), 2: OneTone(), 3: Levels()}


# Packed payloads.


def expand(payload: bytes, properties: int) -> bytes:
    """Undo LZMA."""
    lc, rest = properties % 9, properties // 9
    options = {"id": lzma.FILTER_LZMA1, "dict_size": 2**24, "lc": lc, "lp": rest % 5}
    return lzma.decompress(payload, lzma.FORMAT_RAW, filters=[options | {"pb": rest // 5}])


def unpack(payload: bytes, h: int, w: int, c: int) -> Array:
    """(h, w, c) pixels of a packed payload."""
    chosen, layout, colours = payload[0] & 7, payload[0] >> 3 & 3, payload[0] >> 5
    serial = payload[2:] if payload[1] == 225 else expand(payload[2:], payload[1])
    at, palette, coded, depth = 0, None, c, 8
    if colours == 2:
        size = serial[0] + 1
        at, coded = 1 + size * c, 1
        palette = np.frombuffer(serial[1:at], np.uint8).reshape(size, c)
        if layout == 2:
            depth = 1 if size <= 2 else 2 if size <= 4 else 4
    rows = h * coded if layout == 1 else h
    length = w if layout == 1 else (w * coded * depth + 7) // 8
    step = coded if layout == 0 else 1
    filters = [chosen] * rows
    if chosen == 5:
        filters, at = list(serial[at : at + rows]), at + rows
    residuals = np.frombuffer(serial[at:], np.uint8).reshape(rows, length).tolist()
    known = [[0] * length]
    for residual, kind in zip(residuals, filters, strict=True):
        row: list[int] = []
        for i, value in enumerate(residual):
            a, b = row[i - step] if i >= step else 0, known[-1][i]
            corner = known[-1][i - step] if i >= step else 0
            p = a + b - corner
            nearest = min((a, b, corner), key=lambda x, p=p: abs(x - p))  # type: ignore[misc]
            row.append((value + (0, a, b, (a + b) // 2, nearest)[kind]) % 256)
        known.append(row)
    values = np.array(known[1:], np.uint8)
    if palette is not None:
        if depth < 8:
            bits = np.unpackbits(values, axis=1).reshape(h, -1, depth)
            values = (bits @ (1 << np.arange(depth)[::-1]))[:, :w]
        return palette[values]
    pixels = values.reshape(coded, h, w).transpose(1, 2, 0) if layout == 1 else values
    pixels = np.array(pixels.reshape(h, w, c))
    if colours == 1:
        pixels[:, :, 0] += pixels[:, :, 1]
        pixels[:, :, 2] += pixels[:, :, 1]
    return pixels
