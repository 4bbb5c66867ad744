"""Bits, flags, corrections, levels and sets of colours, decoded as docs/format.md has it.

In plain Python, from that page alone, and none of the codec's code.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Decimal, getcontext
from itertools import product

getcontext().prec = 30
LOGIT = [
    int(((Decimal(2 * i + 1) / (8191 - 2 * i)).ln() * 2**14).to_integral_value())
    for i in range(4096)
]
SIGMOID = [
    int((2**22 / (1 + (Decimal(1024 - i) / 64).exp())).to_integral_value()) for i in range(2049)
]
LOGIT_DIGEST = hashlib.sha256(
    b"".join(x.to_bytes(8, "little", signed=True) for x in LOGIT)
).hexdigest()
Pixel = tuple[int, ...]
Image = list[list[Pixel]]


def clamp(a: int, low: int, high: int) -> int:
    return min(max(a, low), high)


class Bits:
    """The decoder of bits."""

    def __init__(self, message: bytes) -> None:
        if message.endswith(b"\0") or message.startswith(b"\xff" * 8):
            raise ValueError("damaged")
        self.message, self.at = message, 0
        self.range, self.offset = 2**64 - 1, self.take(8)

    def take(self, count: int) -> int:
        taken = self.message[self.at : self.at + count]
        self.at += count
        return int.from_bytes(taken.ljust(count, b"\0"), "big")

    def bit(self, one: int) -> int:
        bound = (self.range >> 20) * (2**20 - clamp(one, 1, 2**20 - 1))
        if self.offset < bound:
            bit, self.range = 0, bound
        else:
            bit, self.offset, self.range = 1, self.offset - bound, self.range - bound
        if self.range < 2**32:
            self.range, self.offset = self.range << 32, self.offset << 32 | self.take(4)
        return bit


class Contexts:
    """Contexts of one purpose, by their numbers."""

    def __init__(self, bits: Bits, limit: int) -> None:
        self.bits, self.limit = bits, limit
        self.p: dict[int, int] = defaultdict(lambda: 2**39)
        self.n: dict[int, int] = defaultdict(int)

    def learn(self, context: int, bit: int) -> None:
        self.p[context] += 2 * (bit * 2**40 - self.p[context]) // (2 * self.n[context] + 3)
        self.n[context] = min(self.n[context] + 1, self.limit)

    def bit(self, context: int) -> int:
        bit = self.bits.bit(self.p[context] >> 20)
        self.learn(context, bit)
        return bit

    def mixed(self, contexts: Sequence[int], weight: list[int]) -> int:
        t = [LOGIT[min(self.p[k] >> 28, 4095)] for k in contexts]
        total = sum(w * x for w, x in zip(weight, t, strict=True))
        a, f = divmod(clamp(total >> 16, -(2**18), 2**18) + 2**18, 256)
        q = SIGMOID[a]
        if a < 2048:
            q += ((SIGMOID[a + 1] - SIGMOID[a]) * f) >> 8
        bit = self.bits.bit(q >> 2)
        for k, context in enumerate(contexts):
            weight[k] += ((bit * 2**22 - q) * t[k]) >> 28
            self.learn(context, bit)
        return bit


def mixer(inputs: int) -> list[int]:
    return [3 * 2**16 // (2 * inputs + 1)] * inputs


def flags(message: bytes, count: int) -> list[int]:
    contexts, weight = Contexts(Bits(message), 255), mixer(4)
    out: list[int] = []
    h = 0
    for _ in range(count):
        bit = contexts.mixed([2**s + h % 2**s for s in (2, 5, 9, 13)], weight)
        out.append(bit)
        h = 2 * h + bit
    return out


# Corrections.

NEAR = [(-2, -1), (-2, 0), (-2, 1), (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2), (0, -2), (0, -1)]


def corrected(message: bytes, rendered: Image) -> Image:
    """Pixels by rows, each a tuple of its channels."""
    if not message:
        return rendered
    bits = Bits(message)
    masks = Contexts(bits, 65535)
    kinds, sizes, signs, places = (Contexts(bits, 255) for _ in range(4))
    channels = len(rendered[0][0])
    pixels = [list(row) for row in rendered]
    kind: dict[tuple[int, int], int] = defaultdict(int)
    again: Pixel = (255,) * channels
    gap = 0

    def pixel(y: int, x: int) -> Pixel:
        return pixels[y][x] if y >= 0 and x >= 0 else (0,) * channels

    def coded(y: int, x: int, g: int) -> Pixel:
        out: list[int] = []
        before = story = 0
        for channel in range(channels):
            w, n, nw = (pixel(*at)[channel] for at in ((y, x - 1), (y - 1, x), (y - 1, x - 1)))
            if g:
                m = clamp(w + n - nw, min(w, n), max(w, n))
                base, activity = clamp(m + before, 0, 255), (abs(w - nw) + abs(n - nw)).bit_length()
            else:
                r = rendered[y][x][channel]
                base, activity = (r if abs(before) < 8 else clamp(r + before, 0, 255)), 0
            where = 2 * min(channel, 3) + g
            size = 0
            while size < 8 and sizes.bit(((5 * where + story) * 10 + activity) * 9 + size):
                size += 1
            difference = 0
            if size:
                side = 1 if before > 0 else 2 if before < 0 else 0
                negative = signs.bit(3 * where + side)
                difference = 1
                for j in range(size - 2, -1, -1):
                    difference = 2 * difference + places.bit((9 * g + size) * 9 + j)
                if negative:
                    difference = -difference
            out.append((base + difference) % 256)
            before = difference
            if difference == 0 and (channel == 0 or story == 1):
                story = 1
            else:
                story = 2 + min(abs(difference).bit_length(), 2)
        return tuple(out)

    for y in range(len(rendered)):
        for x in range(len(rendered[0])):
            near = 0
            for down, right in NEAR:
                near = 2 * near + (kind[y + down, x + right] > 0)
            clipped = int(any(v in (0, 255) for v in rendered[y][x]))
            context = 2 * near + clipped
            if not near:
                context = 2048 + 2 * min((gap.bit_length() + 2) // 3, 9) + clipped
            if not masks.bit(context):
                gap += 1
                continue
            gap = 0
            around = 4 * (6 * kind[y, x - 1] + kind[y - 1, x])
            found = next((k for k in (1, 2, 3, 4) if kinds.bit(around + k - 1)), 5)
            kind[y, x] = found
            if found in (1, 2):
                again = pixel(y, x - 1) if found == 1 else pixel(y - 1, x)
            pixels[y][x] = again if found <= 3 else coded(y, x, found - 4)
    return pixels


# Levels.


def levels(data: bytes, d: int) -> tuple[list[int], bytes]:
    """The levels that these bytes begin with, and what follows."""
    top = 2**d - 1
    rule, b, n = data[0], data[1], 1 + int.from_bytes(data[1:3], "little")
    by_bits: dict[int, Callable[[int], int]] = {
        0: lambda v: v,
        1: lambda v: v << (d - b),
        2: lambda v: v << (d - b) | v >> (2 * b - d),
    }
    if rule in by_bits:
        return [by_bits[rule](v) for v in range(2**b)], data[2:]
    if rule == 3:
        return [(2 * v * top + n - 1) // (2 * n - 2) for v in range(n)], data[3:]
    if rule == 4:
        return [v * top // (n - 1) for v in range(n)], data[3:]
    found = flags(data[3 : 2 + n], 2**d)
    return [v for v in range(2**d) if found[v]], data[2 + n :]


def all_levels(parameters: bytes) -> list[list[int]]:
    """The levels of each channel."""
    head, rest = parameters[0], parameters[1:]
    channels, d = (head & 3) + 1, 16 if head & 4 else 8
    tables = []
    for _ in range(channels if head & 8 else 1):
        table, rest = levels(rest, d)
        tables.append(table)
    return tables * (channels // len(tables))


def digits(tables: list[list[int]]) -> int:
    return (max(len(table) for table in tables) - 1).bit_length()


def levels_planes(parameters: bytes) -> tuple[int, bool]:
    """The channels of the planes, and whether there are two."""
    tables = all_levels(parameters)
    return len(tables), digits(tables) > 8


def with_levels(parameters: bytes, planes: Sequence[Image]) -> Image:
    """Pixels by rows."""
    tables = all_levels(parameters)
    channels, k = len(tables), digits(tables)

    def value(y: int, x: int, channel: int) -> int:
        number = planes[0][y][x][channel]
        if k > 8:
            number = (number << (k - 8)) + planes[1][y][x][channel]
        table = tables[channel]
        return table[min(number, len(table) - 1)]

    height, width = len(planes[0]), len(planes[0][0])
    return [
        [tuple(value(y, x, c) for c in range(channels)) for x in range(width)]
        for y in range(height)
    ]


# Colours.

BLOCKS = [(0, 0, -1), (0, -1, 0), (-1, 0, 0), (-1, -1, -1), (-1, -1, 0), (-1, 0, 1), (0, -1, 1),
          (-1, 1, 0), (-1, 1, 1)]  # fmt: skip
NEAR_COLOURS = [(0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 2), (0, 1, 1), (1, 1, 1), (1, 1, 0),
                (1, 0, 1), (0, 1, -1), (1, 0, -1)]  # fmt: skip
IN_LINE = [(0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 0, 4), (0, 0, 5), (0, 0, 6), (0, 1, 0), (1, 0, 0)]
DIAGONAL = [(1, 1, 1), (2, 2, 2), (1, 1, 0), (1, 0, 0), (1, 1, -1), (1, 1, 2), (1, 0, -1),
            (1, -1, -1), (1, -1, 0), (1, 0, 1)]  # fmt: skip
AROUND = [(0, 0, 1), (0, 0, 2), (0, 1, 0), (0, 2, 0), (1, 0, 0), (2, 0, 0), (0, 1, 2), (0, 1, -2),
          (0, 2, 1), (0, 2, -1), (1, 2, 0), (1, -2, 0), (1, 0, -2), (1, 0, 2), (2, 2, 2),
          (1, 1, 1), (1, -1, -1), (1, 1, -1), (1, -1, 1), (2, -1, 0)]  # fmt: skip


def colours(message: bytes) -> set[Pixel]:
    bits = Bits(message)
    block_contexts, contexts = Contexts(bits, 1023), Contexts(bits, 1023)
    mixers = [mixer(4) for _ in range(32)]
    blocks: set[Pixel] = set()
    found: set[Pixel] = set()
    for block in product(range(32), repeat=3):
        context = 0
        for step in BLOCKS:
            near = tuple(a + b for a, b in zip(block, step, strict=True))
            context = 2 * context + (near in blocks)
        if not block_contexts.bit(context):
            continue
        blocks.add(block)
        for colour in product(*(range(8 * i, 8 * i + 8) for i in block)):

            def known(step: Pixel, colour: Pixel = colour) -> bool:
                return tuple(a - b for a, b in zip(colour, step, strict=True)) in found

            numbers = []
            for base, steps in ((0, NEAR_COLOURS), (1024, IN_LINE), (1280, DIAGONAL)):
                number = 0
                for step in steps:
                    number = 2 * number + known(step)
                numbers.append(base + number)
            around = sum(map(known, AROUND))
            numbers.append(2304 + around)
            at = 4 * min(around * 8 // 20, 7) + 2 * known((0, 0, 1)) + known((0, 1, 0))
            if contexts.mixed(numbers, mixers[at]):
                found.add(colour)
    return found
