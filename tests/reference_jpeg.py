"""The coefficients and the text of a JPEG file's .pxz, decoded by docs/format.md alone.

Imports nothing of pixelzip; whoever calls it brings the tables of logits and of the sigmoid, which
another test holds to the page, and the files of the prior and the network. Slow, and written to be
compared with the page, sentence by sentence.
"""

from __future__ import annotations

import lzma
import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

WORD = 2**32 - 1
Block = list[int]
EMPTY: Block = [0] * 64
PLACES = sorted(
    ((row, column) for row in range(8) for column in range(8)),
    key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]),
)
SCALES = [math.sqrt(1 / 8)] + [0.5] * 7
BASIS = [
    [round(8192 * SCALES[u] * math.cos((2 * x + 1) * u * math.pi / 16)) for u in range(8)]
    for x in range(8)
]


def limit(x: int, most: int) -> int:
    return max(-most, min(most, x))


def mix(a: int, b: int) -> int:
    return ((a * 0x2C1B3C6D + b) & WORD) * 0x297A2D39 & WORD


def toward_0(x: int, y: int) -> int:
    return x // y if x >= 0 else -(-x // y)


def q(x: int, y: int) -> int:
    size = min((2 * abs(x) + y) // (2 * y) if y % 2 == 0 else (abs(x) + y // 2) // y, 32767)
    return size if x >= 0 else -size


def level(x: int) -> int:
    if abs(x) <= 4:
        return x
    size, e = abs(x) - 1, 0
    while size >> e > 3:
        e += 1
    found = 3 + 2 * e + (size >> e & 1)
    return found if x > 0 else -found


class Memory:
    def __init__(self, logits: Sequence[int], sigmoid: Sequence[int]) -> None:
        self.logits = [limit(x >> 6, 2047) for x in logits]
        self.table = sigmoid
        self.slots: list[int] = [2**31] * (12 * 2**15 * 8)
        self.weights = [19660 * (1 - i % 2) for i in range(24)] * (5 * 3840)
        self.finals = [13107, 13107, 13107, 13107, 13107, 0] * 128
        curve = [self.sigmoid(128 * (bin - 16)) for bin in range(33)]
        self.curves = curve * (2 * 2048)

    def sigmoid(self, x: int) -> int:
        x = limit(x, 2047) + 16 * 256
        a, b = self.table[x >> 2], self.table[(x >> 2) + 1]
        return (a + ((b - a) * (x & 3) >> 2)) >> 6

    def learn_prior(self, stored: bytes) -> bytes:
        """Add the prior; its dictionary."""
        data = lzma.decompress(stored)
        length = int.from_bytes(data[:4], "little")
        at = 4 + length
        for i in range(len(self.slots)):
            if code := data[at + i]:
                probability = self.table[(min(code, 31) - 16 + 32) * 32]
                self.slots[i] = probability << 10 | 15
        at += len(self.slots)
        for numbers, unit in ((self.weights, 2048), (self.finals, 512), (self.curves, 512)):
            for i in range(len(numbers)):
                numbers[i] += ((data[at + i] + 128) % 256 - 128) * unit
            at += len(numbers)
        return data[4 : 4 + length]


Numbers = NDArray[np.int64]
STAGES = [64, 54, 43, 36, 28, 21, 15, 10, 8, 6, 4, 3, 2, 1, 0]


def logarithm(x: int) -> int:
    e = x.bit_length() - 1
    return 16 * e + ((x << 4) >> e) - 16


def squeeze(x: int) -> int:
    size = min(logarithm(abs(x) + 4) - 32, 127)
    return size if x >= 0 else -size


class Network:
    """The network of coefficients, from its file."""

    def __init__(self, stored: bytes) -> None:
        data = lzma.decompress(stored)
        counts = [start - end for start, end in pairwise(STAGES)]
        first = [(192, 577), (192, 192), (192, 192), (2, 192)]
        shapes = [*first, *[(192, 16)] * 14, *[(2 * n, 192) for n in counts]]
        shapes += [(192, 2 * n) for n in counts[:-1]]
        layers = []
        at = 0
        for outputs, inputs in shapes:
            weights = np.frombuffer(data, np.int8, outputs * inputs, at).astype(np.int64)
            layers.append(weights.reshape(outputs, inputs))
            at += outputs * inputs
        self.trunk, self.edges = layers[:4], layers[4:18]
        self.heads, self.shown = layers[18:32], layers[32:]
        biases = []
        for outputs in [192, 192, 192, 2, *(2 * n for n in counts)]:
            biases.append(np.frombuffer(data, "<i4", outputs, at).astype(np.int64))
            at += 4 * outputs
        self.biases, self.head_biases = biases[:4], biases[4:]
        ends = np.frombuffer(data, "<i4", 64 * 192, at).astype(np.int64)
        self.ends = ends.reshape(64, 192)
        at += 4 * 64 * 192
        shifts = []
        for outputs in [192, 192, 192, 192, 2, *(2 * n for n in counts)]:
            shifts.append(np.frombuffer(data, np.uint8, outputs, at).astype(np.int64))
            at += outputs
        self.unit_shifts, self.base_shifts = shifts[:3], shifts[3]
        self.end_shifts, self.head_shifts = shifts[4], shifts[5:]
        assert at == len(data)

    def units(self, sums: Numbers, which: int) -> Numbers:
        return np.clip(sums >> self.unit_shifts[which], 0, 127)

    def see(self, inputs: Sequence[int]) -> tuple[Numbers, list[int]]:
        """The sum that stages add to, and what it says of the end."""
        units = self.units(self.trunk[0] @ np.array(inputs) + self.biases[0], 0)
        units = self.units(self.trunk[1] @ units + self.biases[1], 1)
        sums = (self.trunk[2] @ units + self.biases[2]) >> self.base_shifts
        end = (self.trunk[3] @ units + self.biases[3]) >> self.end_shifts
        return sums, end.tolist()

    def say(self, sums: Numbers, stage: int, edges: Sequence[int]) -> list[tuple[int, int]]:
        """Mean and scale of each coefficient of a stage."""
        units = self.units(sums + self.edges[stage] @ np.array(edges), 2)
        said = (self.heads[stage] @ units + self.head_biases[stage]) >> self.head_shifts[stage]
        return list(zip(said[::2].tolist(), said[1::2].tolist(), strict=True))

    def show(self, sums: Numbers, stage: int, values: list[int]) -> Numbers:
        own = values[STAGES[stage + 1] : STAGES[stage]]
        total: Numbers = sums + self.shown[stage] @ np.array([*own, *map(abs, own)])
        return total


class Coder:
    """Decodes bits; or, of a dictionary, is given them."""

    def __init__(self, memory: Memory, data: bytes = b"", given: list[int] | None = None) -> None:
        self.memory, self.data, self.given = memory, data, given
        self.low, self.high, self.position = 0, WORD, 4
        self.offset = int.from_bytes(data[:4].ljust(4, b"\0"), "big")
        self.contexts: list[tuple[int, bool, bool]] = []  # hash, has signs, is mirrored
        self.selectors: list[int] = []
        self.distance = self.final = self.shade = 0
        self.refined = (0, 0)

    def add(self, kind: int, x: int) -> None:
        self.contexts.append((mix(kind, x & WORD), False, False))

    def add_signs(self, kind: int, s: int, t: int, x: int) -> None:
        mirrored = s < 0 or (s == 0 and t < 0)
        if mirrored:
            s, t = -s, -t
        hashed = mix(mix(mix(kind, x & WORD), s & WORD), t & WORD)
        self.contexts.append((hashed, True, mirrored))

    def group(self, number: int) -> None:
        self.lines = []
        for i, (hashed, _, _) in enumerate(self.contexts):
            x = (hashed + number * 0x9E3779B1 & WORD) * 0x85EBCA6B & WORD
            line = ((x ^ x >> 15) * 0xC2B2AE35 & WORD) >> 17
            self.lines.append((i * 2**15 + line) * 8)

    def bit(self, decision: int, is_sign: bool = False) -> int:
        memory = self.memory
        inputs = [0] * 24
        for i, line in enumerate(self.lines):
            slot = memory.slots[line + decision]
            p, n = slot >> 10, slot & 1023
            t = 256 * n // (n + 2)
            sign = -1 if is_sign and self.contexts[i][2] else 1
            inputs[2 * i] = sign * memory.logits[p >> 10] * t >> 8
            inputs[2 * i + 1] = sign * ((p >> 6) - 32768) * t >> 13
        sets, outputs = [], []
        for j, selector in enumerate(self.selectors):
            at = (j * 3840 + selector + self.shade * self.distance) * 24
            own = memory.weights[at : at + 24]
            total = sum(x * (w >> 2) >> 8 for x, w in zip(inputs, own, strict=True))
            sets.append(at)
            outputs.append(limit(total >> 6, 2047))
        outputs.append(256)
        final = (self.final + self.shade) * 6
        total = sum(outputs[j] * (memory.finals[final + j] >> 2) >> 8 for j in range(6))
        x = limit(total >> 6, 2047)
        believed = memory.sigmoid(x)
        place, part = (x + 2048) >> 7, (x + 2048) & 127
        one, near = 2 * believed, []
        for r, refined in enumerate(self.refined):
            curve = mix(8 * refined + decision & WORD, self.shade) >> 21
            at = (r * 2048 + curve) * 33 + place
            one += (memory.curves[at] * (128 - part) + memory.curves[at + 1] * part) >> 7
            near.append(at + (part >= 64))
        bit = self.read(max(32, min(65536 - 32, one >> 2)))
        target = 65535 * bit
        for at in near:
            memory.curves[at] += (target - memory.curves[at]) >> 6
        for at, output in zip(sets, outputs, strict=False):
            error = target - memory.sigmoid(output)
            for i in range(24):
                change = ((inputs[i] * error >> 9) * 8 + 1024) >> 11
                memory.weights[at + i] = limit(memory.weights[at + i] + change, 2**20)
        for j in range(6):
            change = ((outputs[j] * (target - believed) >> 9) * 4 + 1024) >> 11
            memory.finals[final + j] = limit(memory.finals[final + j] + change, 2**20)
        for i, line in enumerate(self.lines):
            slot = memory.slots[line + decision]
            p, n = slot >> 10, slot & 1023
            seen = bit ^ (is_sign and self.contexts[i][2])
            p += ((2**22 - 1) * seen - p) * (2**17 // (2 * n + 3)) >> 16
            memory.slots[line + decision] = p << 10 | min(n + 1, 1023)
        return bit

    def read(self, probability: int) -> int:
        if self.given is not None:
            return self.given.pop(0)
        middle = self.low + ((self.high - self.low) * probability >> 16)
        bit = int(self.offset <= middle)
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        while (self.low ^ self.high) >> 24 == 0:
            self.low = self.low << 8 & WORD
            self.high = self.high << 8 & WORD | 255
            byte = self.data[self.position] if self.position < len(self.data) else 0
            self.offset = self.offset << 8 & WORD | byte
            self.position += 1
        return bit

    def finish(self) -> None:
        assert self.position - len(self.data) in (3, 4), "damaged"

    def shaded(self, shade: int, decision: int, is_sign: bool = False) -> int:
        self.shade = shade
        return self.bit(decision, is_sign)

    def number(self, known: bool) -> int:
        """``known`` not to be 0."""
        self.group(0)
        if not known and not self.shaded(0, 0):
            return 0
        negative = self.shaded(1, 1, True)
        self.contexts = [
            (hashed + signs * (1 + (negative ^ mirrored)) * 0x51ED270B & WORD, signs, mirrored)
            for hashed, signs, mirrored in self.contexts
        ]
        self.group(0)
        n = 1
        while n <= 16:
            if n in (6, 12):
                self.group(n // 6)
            if not self.shaded(min(n, 12) + 1, n + 1 if n <= 5 else n % 6):
                break
            n += 1
        found = 1
        for d in range(n - 1):
            if d == 0:
                self.group(2 + n)
            if d == 3:
                self.group(32)
            i = n - 2 - d
            found = 2 * found + (self.shaded(14 + d, found) if d < 3 else self.shaded(18, i & 7))
        return -found if negative else found


def bytes_of(coder: Coder, count: int) -> bytes:
    """The text, or, given its bits, a dictionary."""
    text, marker, since = b"", 0, 0
    for _ in range(count):
        before = bytes(64) + text
        last = before[-1]
        coder.contexts = []
        for n in range(1, 7):
            number = int.from_bytes(before[-n:], "big")
            coder.add(16384 + n, mix(number & WORD, number >> 32))
        coder.add(16384 + 8, mix(marker, since))
        coder.add(16384 + 9, mix(marker, last))
        coder.add(16384 + 10, mix(512 * marker + min(since, 511), last))
        coder.add(16384 + 11, before[-64])
        coder.add(16384 + 12, 256 * before[-12] + last if len(text) >= 12 else 0)
        coder.add(16384 + 13, int.from_bytes(before[-3:-1], "big"))
        found = 1
        coder.shade = coder.distance = 0
        for number in range(7, -1, -1):
            if number in (7, 4, 1):
                coder.group(found)
                inside = 1
            chosen = (number, 8 + 8 * (marker & 15) + number, found, last, min(since, 255))
            coder.selectors = [3456 + one for one in chosen]
            coder.final = 112 + number
            coder.refined = (256 * 16384 + found, 256 * 16384 + found + 65536 * last)
            bit = coder.bit(inside)
            found, inside = 2 * found + bit, 2 * inside + bit
        text += bytes([found & 255])
        since += 1
        if last == 255 and text[-1] not in (0, 255):
            marker, since = text[-1], 1
    return text


class Plane:
    """A component: blocks across and down a unit, blocks a row, steps in zigzag order."""

    def __init__(self, h: int, v: int, stride: int, rows: int, steps: Sequence[int]) -> None:
        self.h, self.v, self.stride, self.steps = h, v, stride, steps
        self.blocks = [[list(EMPTY) for _ in range(stride)] for _ in range(rows)]
        self.residues = [[0] * stride for _ in range(rows)]

    def size(self, k: int, value: int) -> int:
        return limit(value * self.steps[k], 2**16)

    def squeezed(self, block: Block) -> list[int]:
        return [0, *(squeeze(self.size(k, block[k])) for k in range(1, 64))]

    def spectrum(self, block: Block, x: int, across: bool) -> list[int]:
        """Of column x at each v; of row x at each u if ``across``."""
        total = [0] * 8
        for k, (row, column) in enumerate(PLACES):
            u, v = (row, column) if across else (column, row)
            total[v] += BASIS[x][u] * self.size(k, block[k])
        return total

    def pixels(self, block: Block, with_dc: bool) -> list[list[int]]:
        half = [[0] * 8 for _ in range(8)]
        for k, (v, u) in enumerate(PLACES):
            for x in range(8):
                half[v][x] += BASIS[x][u] * self.size(k, block[k] if k else 0)
        half = [[h >> 8 for h in row] for row in half]
        dc = self.size(0, block[0]) if with_dc else 0
        return [
            [(sum(BASIS[y][v] * half[v][x] for v in range(8)) >> 15) + dc for x in range(8)]
            for y in range(8)
        ]


def end_of(block: Block) -> int:
    return max((k for k in range(1, 64) if block[k]), default=0)


def count_of(block: Block) -> int:
    return sum(x != 0 for x in block[1:])


def energy_of(block: Block) -> int:
    return sum(map(abs, block[1:]))


def decode_band(
    coder: Coder,
    network: Network,
    planes: Sequence[Plane],
    first: int,
    last: int,
    known: int = 0,
) -> None:
    """The blocks of the rows of units from ``first`` up to ``last``, into the planes.

    So many of the planes are ``known`` already.
    """
    for number, plane in list(enumerate(planes))[known:]:
        for row in range(first * plane.v, last * plane.v):
            for column in range(plane.stride):
                _decode_block(coder, network, planes, number, row, column, first * plane.v)


def _inputs(planes: Sequence[Plane], number: int, row: int, column: int, top: int) -> list[int]:
    """Of the network's trunk."""
    plane = planes[number]
    here = [(-1, 0), (0, -1), (-1, -1), (-1, 1), (-2, 0), (0, -2)]
    there = [
        (row + y, column + x) if top <= row + y and 0 <= column + x < plane.stride else None
        for y, x in here
    ]
    blocks = [plane.blocks[one[0]][one[1]] if one else EMPTY for one in there]
    above, left = blocks[:2]
    squeezed = [plane.squeezed(block) for block in blocks]
    inputs = [abs(x) for one, n in zip(squeezed, (63, 63, 35, 35, 20, 20), strict=True)
              for x in one[1 : 1 + n]]  # fmt: skip
    inputs += [x for one in squeezed[:2] for x in one[1:21]]
    inputs += [squeeze(x >> 12) for x in plane.spectrum([0, *left[1:]], 7, False)]
    inputs += [squeeze(x >> 12) for x in plane.spectrum([0, *above[1:]], 7, True)]
    for one, other in ((1, 0), (0, 2), (1, 2), (3, 0), (4, 0), (5, 1)):
        both = bool(there[one] and there[other])
        difference = plane.size(0, blocks[one][0]) - plane.size(0, blocks[other][0])
        inputs.append(squeeze(difference >> 2) if both else 0)
    inputs += [64 if one else 0 for one in there]
    inputs += [2 * end_of(block) for block in blocks]
    inputs += [2 * count_of(block) for block in blocks]

    others = [planes[0] if number else None, planes[number - 1] if number > 1 else None]

    def dc(other: Plane, y: int, x: int) -> int:
        return other.size(0, _same_place(other, plane, y, x)[0])

    blocks = [_same_place(one, plane, row, column) if one else EMPTY for one in others]
    squeezed = [
        one.squeezed(block) if one else [0] * 64 for one, block in zip(others, blocks, strict=True)
    ]
    inputs += [abs(x) for x in squeezed[0][1:64]] + [abs(x) for x in squeezed[1][1:37]]
    inputs += squeezed[0][1:64] + squeezed[1][1:21]
    for other in others:
        for y, x in ((row, column - 1), (row - 1, column)):
            if other and x >= 0 and y >= top:
                inputs.append(squeeze((dc(other, row, column) - dc(other, y, x)) >> 2))
            else:
                inputs.append(0)
    inputs += [64 if one else 0 for one in others]
    inputs += [2 * end_of(block) for block in blocks]
    inputs += [2 * count_of(block) for block in blocks]

    inputs += [min(logarithm(step) >> 1, 127) for step in plane.steps]
    inputs += [64 * (min(number, 2) == one) for one in range(3)]
    inputs.append(64 if plane.h < max(one.h for one in planes) else 0)
    inputs.append(64 if plane.v < max(one.v for one in planes) else 0)
    return inputs


def _same_place(other: Plane, plane: Plane, row: int, column: int) -> Block:
    return other.blocks[row * other.v // plane.v][column * other.h // plane.h]


def _edges(
    plane: Plane,
    block: Block,
    above: Block,
    left: Block,
    there: tuple[bool, bool],
    is_last: bool,
) -> tuple[list[int], int]:
    """The gaps of a stage; the guess of the DC coefficient, which the last one uses."""
    pairs = []
    for has, other, across in ((there[1], left, False), (there[0], above, True)):
        far = plane.spectrum([0, *other[1:]], 7, across)
        near = plane.spectrum([0, *block[1:]], 0, across)
        pairs.append([f - n if has else 0 for f, n in zip(far, near, strict=True)])
    by_left = plane.size(0, left[0]) + (pairs[0][0] * 181 >> 19) if there[1] else 0
    by_above = plane.size(0, above[0]) + (pairs[1][0] * 181 >> 19) if there[0] else 0
    guess = (by_left + by_above) >> 1 if all(there) else by_left + by_above
    gaps = [squeeze(gap >> 12) for pair in pairs for gap in pair]
    if is_last:
        gaps[0] = squeeze(by_left - guess) if there[1] else 0
        gaps[8] = squeeze(by_above - guess) if there[0] else 0
    return gaps, guess


def _decode_block(
    coder: Coder,
    network: Network,
    planes: Sequence[Plane],
    number: int,
    row: int,
    column: int,
    top: int,
) -> None:
    plane, colour = planes[number], min(number, 2)
    steps, block = plane.steps, plane.blocks[row][column]

    def is_there(y: int, x: int) -> bool:
        return top <= y and 0 <= x < plane.stride

    def at(y: int, x: int) -> Block:
        return plane.blocks[y][x] if is_there(y, x) else EMPTY

    def residue(y: int, x: int) -> int:
        return plane.residues[y][x] if is_there(y, x) else 0

    above, left = at(row - 1, column), at(row, column - 1)
    above_left, above_right = at(row - 1, column - 1), at(row - 1, column + 1)
    has_above, has_left = is_there(row - 1, column), is_there(row, column - 1)
    luma = _same_place(planes[0], plane, row, column) if number else EMPTY
    before = _same_place(planes[number - 1], plane, row, column) if number > 1 else EMPTY
    sums, said_end = network.see(_inputs(planes, number, row, column, top))

    # The end.
    kind = 4096 + colour
    a, le, al, ar = map(end_of, (above, left, above_left, above_right))
    n = count_of(above) + count_of(left)
    ea, el = level(energy_of(above)), level(energy_of(left))
    e, y = ea + el, end_of(luma) if number else 64
    b = end_of(before) if number > 1 else 64
    s = level(steps[1] + steps[2] + steps[5])
    m, w = (a + le + 1) // 2, (2 * a + 2 * le + al + ar + 3) // 6
    coder.contexts = []
    t = max(0, min(255, said_end[0]))
    for x in (
        *(64 * a + le, w, n, 65 * y + b, 65 * y + m // 2),
        *(64 * ea + el, 64 * s + w, 64 * e + n // 2, 65 * b + w // 2, 128 * s + e),
        *(0x40000 + t, 0x50000 + 64 * (t // 4) + w),
    ):
        coder.add(kind, x)
    node, coder.shade, coder.distance = 1, 0, 0
    for i in range(5, -1, -1):
        if i in (5, 2):
            coder.group(node)
            inside = 1
        start = 3072 + (192 if colour else 0)
        chosen = (m // 2, min(e, 63) // 2, min(s, 31), (y if number else a) // 2)
        coder.selectors = [start + node, *(start + 32 * (5 - i) + one for one in chosen)]
        coder.final = 64 + 8 * colour + i
        coder.refined = (64 * kind + node, 64 * kind + m)
        bit = coder.bit(inside)
        node, inside = 2 * node + bit, 2 * inside + bit
    end = node - 64

    # The coefficients.
    sums = sums + network.ends[end]
    for stage in range(14):
        start = STAGES[stage + 1]
        if start > end:
            continue
        there = (has_above, has_left)
        gaps, guess = _edges(plane, block, above, left, there, start == 0)
        said = network.say(sums, stage, gaps)
        hints = [_hint(*one, step) for one, step in zip(said, steps[start:], strict=False)]
        for k in range(min(STAGES[stage] - 1, end), max(start, 1) - 1, -1):
            _set_contexts(
                coder, plane, colour, k, end, block, (above, left, above_left, above_right),
                (luma, before), (has_above, has_left), bool(number), hints[k - start],
            )  # fmt: skip
            block[k] = limit(coder.number(k == end), 32767)
        if start:
            sums = network.show(sums, stage, plane.squeezed(block))
    mean, scale = hints[0]
    mean = limit(q(8 * guess, steps[0]) + mean, 2**20)

    # DC.
    pixels, step = plane.pixels(block, False), steps[0]
    estimates, sums = [], [0, 0]
    if has_above:
        rows = plane.pixels(above, True)
        for x in range(8):
            f, s, g, h = pixels[0][x], pixels[1][x], rows[6][x], rows[7][x]
            estimates.append(toward_0(3 * h - g - 3 * f + s, 2))
        sums[0] = sum(estimates)
    if has_left:
        rows = plane.pixels(left, True)
        for v in range(8):
            f, s, g, h = pixels[v][0], pixels[v][1], rows[v][6], rows[v][7]
            estimates.append(toward_0(3 * h - g - 3 * f + s, 2))
        sums[1] = sum(estimates[-8:])
    estimates.sort()
    count, r, spread = len(estimates), 0, 0
    if count:
        middle = estimates[count // 4 : count - count // 4]
        r = q(8 * sum(middle), count // 2 * step)
        spread = q(8 * (estimates[count - count // 8 - 1] - estimates[count // 8]), step)
    predicted = toward_0(r + (-4 if r < 0 else 4), 8)
    f = r - 8 * predicted
    ta = q(sums[0], step) - r if has_above else 0
    tl = q(sums[1], step) - r if has_left else 0
    a, le = above[0] - predicted, left[0] - predicted
    g = a + left[0] - above_left[0]
    ra, rl = residue(row - 1, column), residue(row, column - 1)
    d, c, near, s = level(spread), level(count_of(block)), level(abs(ra) + abs(rl)), level(step)
    kind = 12288 + colour
    beyond, scale = mean - 8 * predicted, scale // 2
    coder.contexts = []
    coder.add_signs(kind, f, 0, d)
    coder.add_signs(kind, level(ta), level(tl), 0)
    coder.add_signs(kind, level(ta), 0, d)
    coder.add_signs(kind, level(tl), 0, d)
    coder.add_signs(kind, level(ra), level(rl), 0)
    coder.add_signs(kind, level(g), 0, d // 2)
    coder.add(kind, 64 * near + d)
    coder.add(kind, 64 * c + d)
    coder.add_signs(kind, level(le), level(a), 0)
    coder.add_signs(kind, limit(beyond, 200), 0, 0x20000 + scale // 4)
    coder.add_signs(kind, level(beyond), level(f), 0x20000 + scale // 4)
    coder.add(kind, 0x30000 + scale)
    start = 1536 * (colour > 0)
    coder.selectors = [start, start + scale // 2, *(start + min(one, 63) for one in (near, s, c))]
    coder.distance, coder.final = 64, 88
    coder.refined = (kind, kind + 64 * (1 + d))
    plane.residues[row][column] = coder.number(False)
    block[0] = limit(predicted + plane.residues[row][column], 32767)


def _hint(mean: int, scale: int, step: int) -> tuple[int, int]:
    """Mean, in eighths, and scale of a coefficient, in steps."""
    scale = max(0, min(255, scale - logarithm(step)))
    return limit(mean, 1000) * ((16 + scale % 16) << scale // 16) >> 13, scale


def _set_contexts(
    coder: Coder,
    plane: Plane,
    colour: int,
    k: int,
    end: int,
    block: Block,
    around: tuple[Block, Block, Block, Block],
    earlier: tuple[Block, Block],
    there: tuple[bool, bool],
    is_later: bool,
    hint: tuple[int, int],
) -> None:
    v, u = PLACES[k]

    def known(column: int, row: int) -> int:
        return block[PLACES.index((row, column))] if column < 8 and row < 8 else 0

    c1, c2, c3 = known(u + 1, v), known(u, v + 1), known(u + 1, v + 1)
    c4, c5 = known(u + 2, v), known(u, v + 2)
    above, left = around[:2]
    a, le, al, ar = (one[k] for one in around)
    y, b = (one[k] for one in earlier)
    near = 2 * (abs(a) + abs(le)) + abs(al) + abs(ar)
    inside = 2 * (abs(c1) + abs(c2)) + abs(c3) + abs(c4) + abs(c5)
    pa = pl = 0
    step = plane.steps[k]
    if there[1]:
        difference = plane.spectrum(left, 7, False)[v] - plane.spectrum(block, 0, False)[v]
        pl = q(4 * difference, BASIS[0][u] * step)
    if there[0]:
        difference = plane.spectrum(above, 7, True)[u] - plane.spectrum(block, 0, True)[u]
        pa = q(4 * difference, BASIS[0][v] * step)
    p = pl if u == 0 else pa if v == 0 else toward_0(pl + pa, 2)
    big_n, big_i, s = level(near), level(inside), level(step)
    z1, z2 = (abs(block[one]) if one < 64 else 0 for one in (k + 1, k + 2))
    kind = 3 * k + colour
    mean, scale = hint[0], hint[1] // 2
    coder.contexts = []
    if is_later:
        coder.add_signs(kind, limit(y, 20), limit(b, 20), 0)
    else:
        coder.add_signs(kind, limit(al, 3), limit(ar, 3), 2 * (a != 0) + (le != 0))
    coder.add(kind, 1024 * level(abs(c1)) + 32 * level(abs(c2)) + level(abs(c3)))
    coder.add_signs(kind, level(pl), limit(le, 2), 64)
    coder.add(kind, 1024 * level(abs(y)) + 32 * level(abs(b)) + big_n)
    coder.add_signs(kind, limit(p, 60), 0, 4 * s + (2 if big_i > 6 else big_i > 2))
    coder.add(kind, z1 + 8 * z2)
    coder.add(kind, 0x10000 + scale)
    coder.add(9000 + colour, 4096 * scale + 64 * big_i + level(end - k))
    coder.add_signs(kind, limit(mean, 60), 0, 0x20000 + scale // 4)
    coder.add_signs(kind, limit(p, 40), 0, 0x30000 + scale // 4)
    coder.add_signs(9100, limit(mean, 200), 0, 0x20000 + scale)
    coder.add_signs(9200, limit(mean, 60), level(p), 0x20000 + scale // 4)
    start = 1536 * (colour > 0)
    coder.selectors = [
        start + k,
        start + scale // 2,
        start + 4 * min(level(abs(p)), 15) + bisect((6, 16, 32), end),
        start + 4 * min(s, 15) + bisect((3, 5, 8), u + v),
        start + 4 * min(level(abs(mean)), 15) + bisect((32, 44, 56), scale),
    ]
    coder.distance, coder.final = 64, 24 * (colour > 0)
    coder.refined = ((limit(mean, 30) + 32) * 128 + scale, 8192 + 64 * scale + big_i)


@dataclass
class Within:
    """A JPEG file within another, or that itself."""

    place: int
    removed: int
    notes: int
    bands: list[bytes]


@dataclass
class Body:
    """Of the form MODEL."""

    segments: int
    text: bytes
    own: Within
    inner: list[Within]
    late: int


def body_of(file: bytes) -> Body:
    """What is where in a .pxz file that holds a JPEG file in the form MODEL."""
    at = 4 + file[3]  # magic, head, ending

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            value |= (file[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if file[at - 1] < 128:
                return value

    varint()  # length
    assert file[at + 4] == 2
    at += 5
    segments, notes, text, counts = (varint() for _ in range(4))
    late, early = counts >> 5 & 31, counts >> 10 & 31
    assert counts >> 15 == 0
    numbers = [[varint() for _ in range(4)] for _ in range(late + early)]
    counted = [counts & 31, *(one[3] for one in numbers)]
    lengths = [varint() for _ in range(sum(counted) - 1)]
    stored = file[at : at + (text >> 2)]
    at += text >> 2
    bands = []
    for length in [*lengths, len(file)]:
        bands.append(file[at : min(at + length, len(file) - 4)])
        at += length
    own = Within(0, 0, notes, bands[: counted[0]])
    bands = bands[counted[0] :]
    inner: list[Within] = []
    for place, removed, length, count in numbers:
        inner.append(Within(place, removed, length, bands[:count]))
        bands = bands[count:]
    return Body(segments, stored, own, inner, late)
