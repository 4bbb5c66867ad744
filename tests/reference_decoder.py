"""A second decoder for network payloads, short and slow, that follows ``docs/format.md``.

It shares no line with pixelzip and does not import it: if the two agree on real images, then the
specification says what the code does. Names and order are those of the specification.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Sequence
from decimal import Decimal, getcontext
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

Mixture = tuple[list[int], list[int], list[int]]
"""Logits, means, log-scales."""

WINDOW = [
    (-above, column)
    for above, first, last in ((3, -4, 4), (2, -5, 3), (1, -5, 1), (0, -6, -1))
    for column in range(first, last + 1)
]
NEIGHBOURS = [
    (0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0),
    (-2, 1), (-2, -1), (-1, -2), (-2, 2), (0, -3), (-3, 0),
]  # fmt: skip
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


def frequencies(mixture: Mixture, high: int | None = None) -> list[int]:
    """The 18 frequencies of the high nibble or, given it, of the low one."""
    weight = weights(mixture[0])
    return nibble_frequencies(lambda x: cumulative(x, weight, mixture), high)


def frequencies_of_logits(logits: Sequence[int], high: int | None = None) -> list[int]:
    """The same where there are logits of all values."""
    top = max(logits)
    e = [EXP[top - logit] if top - logit <= 3072 else 0 for logit in logits]
    return nibble_frequencies(lambda x: sum(e[:x]), high)


def nibble_frequencies(cdf: Callable[[int], int], high: int | None) -> list[int]:
    spread = 2**24 - 18
    if high is None:
        g = [(cdf(16 * j) * spread) // cdf(256) for j in range(17)]
    else:
        c = [cdf(16 * high + j) for j in range(17)]
        divisor = c[16] - c[0]
        g = [(x - c[0]) * spread // divisor for x in c] if divisor else [
            (j * spread) >> 4 for j in range(17)
        ]  # fmt: skip
    return [1, *(g[j + 1] - g[j] + 1 for j in range(16)), 1]


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
        if k in (0, 17):
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
        architecture = json.loads(metadata["architecture"])
        self.channels: int = architecture["channels"]
        self.blocks: str = architecture["blocks"]
        self.head: int = architecture["head"]
        self.components: int = architecture["components"]
        self.fingerprint = bytes.fromhex(metadata["fingerprint"])
        text = (
            f'pixelzip frozen network 1\n{{"blocks": "{self.blocks}", "channels": {self.channels}, '
            f'"components": {self.components}, "head": {self.head}}}\n'
        )
        assert hashlib.sha256(text.encode("ascii") + content).digest() == self.fingerprint
        self.check()

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
                limit = np.full(tensor.shape[1], 2**31)
                if name == "first.weight":
                    bias = np.append(bias, t["first.predictor_bias"])
                    limit[-3:] -= 16
                assert (np.abs(tensor).sum(0) * largest + np.abs(bias) < limit).all()
        assert np.abs(t["first.weight"]).max() <= 32639
        assert np.abs(t["first.table"]).max() <= 127
        assert np.abs(t["code.rows"]).max() <= 2**26
        bins, rows = t["code.bins"], t["code.rows"].shape[1]
        assert bins[0] == 0
        assert 0 <= bins.min() <= bins.max() <= (rows - 1) // 2
        assert rows % 2 == len(t["first.table"]) % 2 == 1

    def layer(self, name: str, x: NDArray[np.int64]) -> NDArray[np.int64]:
        """What comes before the scale."""
        result: NDArray[np.int64] = (
            x @ self.tensors[f"{name}.weight"] + self.tensors[f"{name}.bias"]
        )
        return result


MARGIN = 6
"""Rows and columns of zeros around a tile, enough for the window."""


class Tile:
    """What is known of a tile: the inputs of its pixels and the activations of its blocks."""

    def __init__(self, network: Network, height: int, width: int, channels: int) -> None:
        self.network, self.channels = network, channels
        padded = (height + 2 * MARGIN, width + 2 * MARGIN)
        self.inputs = np.zeros((*padded, 4), np.int64)
        self.caches = [np.zeros((*padded, network.channels), np.int64) for _ in network.blocks]


class Pixel:
    """A pixel whose window is known, and the trunk there."""

    def __init__(self, tile: Tile, row: int, column: int) -> None:
        self.tile, self.row, self.column = tile, row + MARGIN, column + MARGIN
        net, t = tile.network, tile.network.tensors
        v = np.concatenate([tile.inputs[self.near(offset)] for offset in WINDOW])
        y = v @ t["first.weight"]
        u, p = y[: net.channels], y[net.channels :]
        r = (len(t["first.table"]) - 1) // 2
        x = t["first.table"][r + scaled(u + t["first.bias"], t["first.scale"]).clip(-r, r)]
        self.predicted = (p + t["first.predictor_bias"] + 16) >> 5
        stream = rescale(net.layer("stem", x), t["stem.scale"])
        for i, (kind, cache) in enumerate(zip(net.blocks, tile.caches, strict=True)):
            name = f"blocks.{i}"
            x = activate(stream, t[f"{name}.input_scale"])
            if kind == "M":
                cache[self.near((0, 0))] = x
                x = np.concatenate([cache[self.near(offset)] for offset in TAPS])
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
        rows, bins = t["code.rows"], t["code.bins"]
        for e, residual in enumerate(self.residual):
            size = min(abs(residual) >> 4, len(bins) - 1)
            i = -bins[size] if residual < 0 else bins[size]
            hidden = hidden + rows[q + e - 1, (rows.shape[1] - 1) // 2 + i]
        x = activate(hidden, t[f"heads.{q}.input_scale"])
        o = rescale(net.layer(f"heads.{q}", x), t[f"heads.{q}.scale"])
        near = np.stack([self.tile.inputs[self.near(offset)][:3] for offset in NEIGHBOURS])
        contrast = (256 * near - self.predicted).ravel()
        factors = [*contrast.tolist(), *self.residual]
        total = sum(a * b for a, b in zip(o[3 * k :].tolist(), factors, strict=True))
        centre = int(self.predicted[q]) + 128 * 256 + ((total + 2048) >> 12)
        self.centre = clamp(centre, -(2**26), 2**26)
        logits, shifts, log_scales = o[: 3 * k].reshape(3, k).tolist()
        return logits, [self.centre + shift for shift in shifts], log_scales

    def learn(self, value: int) -> None:
        """Take in the value of that sub-pixel."""
        inputs = self.tile.inputs[self.row, self.column]
        if self.tile.channels == 1:
            inputs[:3] = value - 128
        else:
            inputs[len(self.residual)] = value - 128
        inputs[3] = 64
        self.residual.append(256 * value - self.centre)


def decode_tile(
    network: Network, payload: bytes, height: int, width: int, channels: int
) -> NDArray[np.uint8]:
    """(height, width, channels) pixels of a network payload."""
    coder = RangeDecoder(payload)
    tile = Tile(network, height, width, channels)
    out = np.zeros((height, width, channels), np.uint8)
    for t in range(width + 2 * (height - 1)):
        places = [(row, t - 2 * row) for row in range(height) if 0 <= t - 2 * row < width]
        front = [Pixel(tile, row, column) for row, column in places]
        for channel in range(channels):
            mixtures = [pixel.mixture() for pixel in front]
            highs = [coder.nibble(frequencies(mixture)) for mixture in mixtures]
            for place, pixel, mixture, high in zip(places, front, mixtures, highs, strict=True):
                value = 16 * high + coder.nibble(frequencies(mixture, high))
                pixel.learn(value)
                out[place][channel] = value
    return out


def decode_plain(
    data: bytes, network: Any, decode: Callable[..., NDArray[np.uint8]] = decode_tile
) -> NDArray[np.uint8]:
    """(height, width, channels) pixels of a plain file of mode L or RGB."""
    assert data[:2] == b"\xf5\x7a"
    channels = {0x91: 1, 0x94: 3}[data[2]]
    at, sides = 3, []
    for _ in range(2):
        number = shift = 0
        while True:
            byte = data[at]
            at += 1
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        sides.append(number + 1)
    width, height = sides
    small = width * height <= 4096
    length = 2 if small else 4
    assert network.fingerprint.startswith(data[at : at + length])
    at += length
    header = data[:at]
    length = 3 if small else 4
    (check,) = struct.unpack("<I", data[at : at + length].ljust(4, b"\0"))
    pixels = decode(network, data[at + length :], height, width, channels)
    assert (crc32(header) ^ crc32(pixels.tobytes())) & (256**length - 1) == check
    return pixels
