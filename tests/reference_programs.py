"""The second decoder, for frozen programs: they too are read as ``docs/format.md`` says.

Every number of every map is computed when it is first asked for, from the sub-pixels that are known
by then. That is slow, but needs no thought about what a front is or in which order nodes go.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference_decoder import (
    INVERSE_SCALE,
    SIGMOID,
    Mixture,
    RangeDecoder,
    clamp,
    frequencies,
    frequencies_of_logits,
    read,
    rounded,
)

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Place = tuple[int, int]
"""Row and column."""

sys.setrecursionlimit(20_000)  # a map asks for those that it reads, an LSTM's for its whole row


# Tables.

DECAY = rounded([2**18 * (Decimal(i - 1024) / 64).exp() for i in range(1025)])
LOG_SIGMOID = rounded([-(2**12) * (1 + (Decimal(1024 - i) / 64).exp()).ln() for i in range(2049)])
WIDTH = rounded([2**12 * (1 - (-(Decimal(128 - i) / 32).exp()).exp()).ln() for i in range(289)])


def line(table: list[int], bits: int) -> Callable[[Integers], Integers]:
    """The function that has a table's entries at the multiples of 2^bits, straight in between."""
    entries = np.array(table)
    slopes = np.diff(entries, append=entries[-1])  # 0 at the last entry

    def function(z: Integers) -> Integers:
        a, f = z >> bits, z & (2**bits - 1)
        return entries[a] + ((slopes[a] * f) >> bits)

    return function


decay, logistic, log_logistic = line(DECAY, 6), line(SIGMOID, 6), line(LOG_SIGMOID, 8)


# Arithmetic.


def wide(x: Integers) -> Integers:
    return x.clip(-(2**26), 2**26)


def scaled(t: Integers, scale: Floats, limit: int) -> Integers:
    return np.rint(t.astype(np.float64) * scale).clip(-limit, limit).astype(np.int64)


def elu(x: Integers) -> Integers:
    below = decay(x.clip(-(2**16), 0) + 2**16)
    return np.where(x > 0, x, (below - 2**18 + 32) >> 6)


def sigmoid(x: Integers) -> Integers:
    """In units of 2^-22."""
    return logistic(x.clip(-(2**16), 2**16) + 2**16)


def tanh(x: Integers) -> Integers:
    """In units of 2^-15."""
    return (sigmoid(2 * x) - 2**21) >> 6


def gated(a: Integers, b: Integers, unit: int) -> Integers:
    """``a``, in units of 2^-15, as far as ``sigmoid(b)`` lets it through."""
    return (a * (sigmoid(b) >> 7) * unit + 2**29) >> 30


ACTIVATIONS = {
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "elu": elu,
    "concat_elu": lambda x: np.concatenate([elu(x), elu(-x)]),
}
STATES: dict[str, tuple[list[Place], Place]] = {
    "row": ([(-1, -1), (-1, 0), (-1, 1)], (-1, 0)),
    "left": ([(-1, 0), (0, -1)], (0, -1)),
    "right": ([(-1, 0), (0, 1)], (0, 1)),
}
"""Where an LSTM finds hidden states, and where its cell."""


# Files.

DEFAULTS: dict[str, Any] = {
    "kind": "", "inputs": [], "taps": [], "stride": 1, "level": 0, "parts": 0, "start": 0,
    "blank": 0,
}  # fmt: skip
TENSORS = {
    "linear": ["weight", "bias", "scale"],
    "activate": ["scale"],
    "lstm": ["weight", "scale", "hidden", "cell"],
}


class Program:
    """One program: its members, and each node together with its tensors."""

    def __init__(self, members: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> None:
        self.colours: int = members["colours"]
        self.output: str = members["output"]
        self.components: int = members["components"]
        self.lag: int | None = members["lag"]
        self.beyond: int = members["beyond"]
        self.classes: int = members["classes"]
        self.bits: int = members["bits"]
        self.largest, self.unit = {8: (127, 63), 16: (32767, 16384)}[self.bits]
        self.nodes = []
        for i, node in enumerate(members["nodes"]):
            own = {name: tensors[f"{i}.{name}"] for name in TENSORS.get(node["op"], [])}
            self.nodes.append(DEFAULTS | node | own)
            self.check(own)
        assert len(tensors) == sum(len(TENSORS.get(node["op"], [])) for node in self.nodes)

    def check(self, own: dict[str, NDArray[Any]]) -> None:
        """The bounds that a loader must check."""
        if "scale" in own:
            assert (own["scale"] > 0).all()
            assert (own["scale"] < 2.0**40).all()
        if "weight" in own:
            largest = np.abs(own["weight"]).sum(0).max() * (self.largest + 1)
            assert largest + np.abs(own.get("bias", 0)).max() < 2 ** (31 if self.bits == 8 else 53)
        if "hidden" in own:
            assert np.abs(own["hidden"]).max() <= self.unit
            assert np.abs(own["cell"]).max() <= 2**30


class Network:
    """The content of a frozen network's file: one program or three."""

    def __init__(self, data: bytes) -> None:
        metadata, tensors, content = read(data)
        assert metadata["format"] == "pixelzip frozen program 1"
        programs = json.loads(metadata["programs"])
        self.fingerprint = bytes.fromhex(metadata["fingerprint"])
        text = json.dumps(programs, sort_keys=True, separators=(",", ":"))
        text = f"pixelzip frozen program 1\n{text}\n"
        assert hashlib.sha256(text.encode("ascii") + content).digest() == self.fingerprint
        self.programs = [
            Program(members, {name[2:]: t for name, t in tensors.items() if name[0] == str(k)})
            for k, members in enumerate(programs)
        ]


# Maps.


class Maps:
    """The maps of a program on one tile."""

    def __init__(
        self,
        program: Program,
        height: int,
        width: int,
        channels: int,
        label: int = 0,
        given: Maps | None = None,
    ) -> None:
        self.program, self.height, self.width = program, height, width
        self.label, self.given = label, given
        side = 2 ** program.nodes[0]["level"]
        self.pixels = np.zeros((-(-height // side), -(-width // side), channels), np.uint8)
        self.known = np.zeros(self.pixels.shape[:2], np.int64)
        """How many sub-pixels of each pixel are."""
        self.numbers: dict[tuple[int, int, int], Integers] = {}
        self.cells: dict[tuple[int, int, int], Integers] = {}
        self.guesses: dict[tuple[int, int, int], Integers] = {}
        """Numbers that were computed with any value in place of unknown sub-pixels."""
        self.guessed = False
        """Whether the numbers that are being computed now are such."""

    def size(self, level: int) -> tuple[int, int]:
        """Rows and columns of maps on a level, those beyond the tile among them."""
        return -(-self.height >> level), -(-(self.width + self.program.beyond) >> level)

    def learn(self, place: Place, channel: int, value: int) -> None:
        self.pixels[place][channel] = value
        self.known[place] += 1
        self.guesses.clear()

    def last(self, row: int, column: int) -> Integers:
        """What the output reads there."""
        return self.at(len(self.program.nodes) - 1, row, column)

    def at(self, i: int, row: int, column: int) -> Integers:
        """What node ``i`` has there."""
        node, key = self.program.nodes[i], (i, row, column)
        rows, columns = self.size(node["level"])
        if not (node["blank"] <= row < rows and 0 <= column < columns):
            return np.zeros(node["channels"], np.int64)
        if key in self.numbers:
            return self.numbers[key]
        if key not in self.guesses:
            others, self.guessed = self.guessed, False
            found = self.compute(i, row, column)
            (self.guesses if self.guessed else self.numbers)[key] = found
            self.guessed |= others
            return found
        self.guessed = True
        return self.guesses[key]

    def compute(self, i: int, row: int, column: int) -> Integers:
        program, node = self.program, self.program.nodes[i]
        inputs = node["inputs"]
        if node["op"] in ("input", "given") and column >= self.pixels.shape[1]:
            return np.zeros(node["channels"], np.int64)
        if node["op"] == "input":
            self.guessed |= bool(self.known[row, column] < self.pixels.shape[2])
            values = self.pixels[row, column].astype(np.int64) - 128
            return np.append(np.broadcast_to(values, program.colours), 64)
        if node["op"] == "given":
            assert self.given is not None
            return self.given.last(row, column)
        if node["op"] == "linear":
            return self.linear(node, row, column)
        if node["op"] == "add":
            first, *others = [
                self.at(k, row + down, column + right)
                for k, (down, right) in zip(inputs, node["taps"], strict=True)
            ]
            for x in others:
                first = wide(first + x)
            return first
        x = np.concatenate([self.at(k, row, column) for k in inputs])
        if node["op"] == "activate":
            return scaled(ACTIVATIONS[node["kind"]](x), node["scale"], program.largest)
        if node["op"] == "gate":
            a, b = np.split(x, 2)
            if node["kind"] == "tanh":
                return gated(tanh(a), b, program.unit)
            return (a * sigmoid(b) + 2**21) >> 22
        if node["op"] == "lstm":
            return self.lstm(i, x, row, column)
        if node["op"] == "slice":
            return x[node["start"] :][: node["channels"]]
        assert node["op"] == "cat"
        return x

    def linear(self, node: dict[str, Any], row: int, column: int) -> Integers:
        (source,), stride = node["inputs"], node["stride"]
        x = []
        for down, right in node["taps"]:
            r, c = max(stride, 1) * row + down, max(stride, 1) * column + right
            if stride > 0:
                x.append(self.at(source, r, c))
            elif r % 2 or c % 2:
                x.append(np.zeros(self.program.nodes[source]["channels"], np.int64))
            else:
                x.append(self.at(source, r // 2, c // 2))
        bias = node["bias"]
        if bias.ndim == 2:
            bias = bias[self.label]
        return scaled(bias + np.concatenate(x) @ node["weight"], node["scale"], 2**26)

    def lstm(self, n: int, x: Integers, row: int, column: int) -> Integers:
        node = self.program.nodes[n]

        def state(place: Place) -> tuple[Integers, Integers]:
            """The hidden states and the cell there."""
            r, c = row + place[0], column + place[1]
            beside = not 0 <= c < self.size(0)[1]
            if r >= 0 and not beside:
                hidden = self.at(n, r, c)
                return hidden, self.cells[n, r, c]
            found = node["kind"] != "row" or not beside
            return found * node["hidden"], found * node["cell"]

        taps, tap = STATES[node["kind"]]
        hidden = np.concatenate([state(place)[0] for place in taps])
        s = scaled(hidden @ node["weight"], node["scale"], 2**26)
        o, f, i, g = np.split(wide(x + s), 4)
        kept = ((sigmoid(f) >> 7) * state(tap)[1]) >> 15
        cell = (kept + (((sigmoid(i) >> 7) * tanh(g)) >> 14)).clip(-(2**30), 2**30)
        self.cells[n, row, column] = cell
        return gated(tanh(cell >> 4), o, self.program.unit)


# Outputs.

PAIRS = [(0, 1), (0, 2), (1, 2)]
"""Of colours. Outputs that are not coupled have no blocks for them."""


def softmax(program: Program, row: list[int], values: list[int]) -> list[int]:
    """The 256 logits of the sub-pixel that comes after these of its pixel."""
    q = len(values)
    blocks = [row[n : n + 256] for n in range(0, len(row), 256)]
    totals = [2048 * m + 1024 for m in blocks[q]]
    for (first, second), k in zip(PAIRS, blocks[program.colours :], strict=False):
        if second == q:
            v = values[first] - 128
            totals = [total + one * v for total, one in zip(totals, k, strict=True)]
    return [total >> 11 for total in totals]


def binary(program: Program, row: list[int], values: list[int]) -> list[int]:
    """The same, where only 0 and 255 are likely."""
    return [0] + [-(2**30)] * 254 + [row[len(values)]]


def mixture(program: Program, row: list[int], values: list[int]) -> Mixture:
    """The mixture of the sub-pixel that comes after these of its pixel."""
    q, colours, size = len(values), program.colours, program.components
    blocks = [row[n : n + size] for n in range(0, len(row), size)]
    shifts, log_scales = blocks[1 : 1 + colours], blocks[1 + colours : 1 + 2 * colours]
    means = [shift + 128 * 256 for shift in shifts[q]]
    for (first, second), k in zip(PAIRS, blocks[1 + 2 * colours :], strict=False):
        if second == q:
            t = tanh(np.array(k)) * (values[first] - 128) + 64
            means = [mean + one for mean, one in zip(means, (t >> 7).tolist(), strict=True)]
    means = [clamp(mean, -(2**18), 2**18) for mean in means]
    own = [clamp(s, -128, 160) for s in log_scales[q]]
    if q == 0:
        return blocks[0], means, own
    *before, value = values
    now = [
        logit + likely(value, mean, log_scale)
        for logit, mean, log_scale in zip(*mixture(program, row, before), strict=True)
    ]
    return [max(x - max(now), -(2**30)) for x in now], means, own


def likely(v: int, mean: int, log_scale: int) -> int:
    """The logarithm of the probability that a component gives to a value."""
    inverse = INVERSE_SCALE[log_scale + 128]

    def log(z: int) -> int:
        y = np.array(clamp(z, -(2**18), 2**18) + 2**18)
        return int(log_logistic(y)) + (min(z + 2**18, 0) >> 2)

    upper = log(((256 * v - mean + 128) * inverse) >> 14)
    lower = log((-(256 * v - mean - 128) * inverse) >> 14)
    p = upper if v == 0 else lower if v == 255 else upper + lower + WIDTH[log_scale + 128]
    return (p + 8) >> 4


OUTPUTS: dict[str, tuple[Callable[..., Any], Callable[..., list[int]]]] = {
    "softmax": (softmax, frequencies_of_logits),
    "binary": (binary, frequencies_of_logits),
    "mixture": (mixture, frequencies),
}
"""What is made of a row of the last map, and the frequencies of that."""


# Tiles.


def decode_front(coder: RangeDecoder, maps: Maps, front: list[Place]) -> None:
    make, table = OUTPUTS[maps.program.output]
    for channel in range(maps.pixels.shape[2]):
        outputs = [
            make(maps.program, maps.last(*place).tolist(), maps.pixels[place][:channel].tolist())
            for place in front
        ]
        highs = [coder.nibble(table(output)) for output in outputs]
        for place, output, high in zip(front, outputs, highs, strict=True):
            maps.learn(place, channel, 16 * high + coder.nibble(table(output, high)))


def decode_tile(
    network: Network, payload: bytes, height: int, width: int, channels: int
) -> NDArray[np.uint8]:
    """(height, width, channels) pixels of a network payload."""
    first = network.programs[0]
    label = 0
    if first.classes:
        label, payload = payload[0], payload[1:]
        if label >= first.classes:
            raise ValueError("damaged")
    coder = RangeDecoder(payload)
    if len(network.programs) == 3:
        return decode_scales(network, coder, height, width, channels)
    maps = Maps(first, height, width, channels, label)
    lag = width if first.lag is None else first.lag
    for t in range(width + lag * (height - 1)):
        front = [(row, t - lag * row) for row in range(height) if 0 <= t - lag * row < width]
        decode_front(coder, maps, front)
    return maps.pixels


def decode_scales(
    network: Network, coder: RangeDecoder, height: int, width: int, channels: int
) -> NDArray[np.uint8]:
    """The same of three programs: the small image first, then the other pixels."""
    one, two, three = network.programs
    f = 2 ** two.nodes[0]["level"]
    small = Maps(one, -(-height // f), -(-width // f), channels)
    for place in np.ndindex(small.known.shape):
        decode_front(coder, small, [place])
    enlarged = Maps(two, height, width, channels)
    enlarged.pixels[:], enlarged.known[:] = small.pixels, channels
    whole = Maps(three, height, width, channels, given=enlarged)
    whole.pixels[::f, ::f], whole.known[::f, ::f] = small.pixels, channels
    for row, column in np.ndindex(height, width):
        if row % f or column % f:
            decode_front(coder, whole, [(row, column)])
    return whole.pixels
