"""The adaptive stage, once more: short and slow, as ``docs/format.md`` has it.

Floats are numpy's binary32, whose operations round once; of whole rows they are the same, number by
number. Sums are loops.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray
from reference_decoder import (
    INVERSE_SCALE,
    NEIGHBOURS,
    SIGMOID,
    Mixture,
    Pixel,
    RangeDecoder,
    Tile,
    clamp,
    rounded,
    weights,
)

Array = NDArray[Any]
F = np.float32
LN = rounded([2**16 * (1 + Decimal(i) / 1024).ln() for i in range(1025)])
LAST = {8: 7, 7: 7, 6: 7, 5: 7, 4: 7, 3: 5, 2: 3, 1: 1, 0: -1}
KEEP = [F(0.998), F(0.9998)]
BEGIN = [1050000, 100000, 100000, 100000, 0, 0, 100000, *[40000] * 8, 0]
Cdf = list[tuple[int, int, int]]
"""Of each component its weight, its m and its inverse scale."""
Memory = tuple[int, list[int]]
"""The value that it expects, and its counts."""


def ln(a: int) -> int:
    e = a.bit_length() - 1
    y = (a >> (e - 22) if e >= 22 else a << (22 - e)) - 2**22
    at = y >> 12
    more = LN[at + 1] - LN[at] if y & 4095 else 0
    return 45426 * e + LN[at] + ((more * (y & 4095)) >> 12)


def squash(z: int) -> int:
    a, f = divmod(z + 2**18, 256)
    slope = SIGMOID[a + 1] - SIGMOID[a] if a < 2048 else 0
    return SIGMOID[a] + ((slope * f) >> 8)


def cumulative(x: int, components: Cdf) -> int:
    if x in (0, 256):
        return 2**36 if x else 0
    return sum(
        weight * squash(clamp(((256 * x - 128 - m) * inverse) >> 14, -(2**18), 2**18))
        for weight, m, inverse in components
    )


def eliminate(a: Array, b: Array) -> None:
    unknowns = len(b)
    for j in range(unknowns):
        if not a[j, j] >= F(2.0**-40):
            a[j, j] = F(2.0**-40)
        for i in range(j + 1, unknowns):
            f = a[j, i] / a[j, j]
            a[i, i:] = a[i, i:] - f * a[j, i:]
            b[i] = b[i] - f * b[j]


def substitute(a: Array, b: Array, unknowns: int) -> Array:
    b, w = b[:unknowns].copy(), np.zeros(unknowns, F)
    for i in range(unknowns - 1, -1, -1):
        w[i] = b[i] / a[i, i]
        b[:i] = b[:i] - a[:i, i] * w[i]
    return w


def prediction(base: F, w: Array, y: Array) -> int:
    total = F(0)
    for one, other in zip(w, y, strict=True):
        total = total + one * other
    p = base + total
    return int(min(p, F(255)) * F(256) + F(0.5)) if p >= 0 else 0


class Recursive:
    """A recursive filter."""

    def __init__(self, unknowns: int, keep: F) -> None:
        self.a, self.b = np.zeros((unknowns, unknowns), F), np.zeros(unknowns, F)
        self.w, self.keep, self.count = np.zeros(unknowns, F), keep, 0
        self.w[-1] = 1

    def learn(self, y: Array, v: F) -> None:
        part = F(1) - self.keep
        self.a = self.a * self.keep + (y * part)[:, None] * y
        self.b = self.b * self.keep + (v * part) * y
        self.count += 1
        if self.count % 4 == 0:
            a, b = self.a.copy(), self.b.copy()
            a[np.diag_indices(len(b))] += F(0.5)
            b[-1] += F(0.5)
            eliminate(a, b)
            self.w = substitute(a, b, len(b))


class Stage:
    """What is known of a tile, and what it has taught."""

    def __init__(self, width: int, channels: int) -> None:
        self.width, self.channels = width, channels
        self.samples: dict[tuple[int, int, int], int] = {}
        self.notes: dict[tuple[int, int, int], list[int]] = {}
        """The filters' errors, what the network missed, its spread."""
        counts = [21] if channels == 1 else [25, 26, 27]
        self.filters = [[Recursive(count, keep) for keep in KEEP] for count in counts]
        self.weights: dict[tuple[int, int, int], list[int]] = {}
        self.counts: dict[tuple[int, int], list[int]] = {}

    def sample(self, r: int, c: int, k: int) -> int:
        if r < 0:
            return self.samples[0, c + r - 2, k] if c + r - 2 >= 0 else 128
        if c < 0:
            return self.samples[r - 1, 0, k] if r > 0 else 128
        return self.samples[r, min(c, self.width - 1), k]

    def seen(self, r: int, c: int, k: int, mean: int) -> Array:
        near = NEIGHBOURS[: 20 if self.channels == 1 else 12]
        found: list[float] = [self.sample(r + i, c + j, k) for i, j in near]
        for other in range(self.channels):
            if other < k:
                found.append(self.sample(r, c, other))
            if other != k:
                found += [self.sample(r + i, c + j, other) for i, j in NEIGHBOURS[:6]]
        return np.array([*found, mean / 256], F)

    def locally(self, r: int, c: int, k: int, x: Array, y: Array, base: F) -> list[int]:
        u, twice, here = len(x) - 1, int(2 * base), [int(v) for v in x[:-1]]
        sums, total = np.zeros((u, u + 1), np.int64), 0
        for i in range(9):
            for j in range(-8, LAST[i] + 1):
                if r - i < 0 or not 0 <= c + j < self.width:
                    continue
                own = [int(v) for v in self.seen(r - i, c + j, k, 0)[:-1]]
                unlike = sum(abs(p - q) for p, q in zip(own[:6], here[:6], strict=True))
                g = 648000 // (18 + i + abs(j)) // (9 + unlike)
                total += g * g
                values = [*own, self.samples[r - i, c + j, k]]
                z = np.array([(64 * (2 * v - twice) * g + 2**14) >> 15 for v in values])
                sums += z[:-1, None] * z
        ridge = max(F(total) / F(65536), F(1))
        a, b = sums[:, :u].astype(F), sums[:, u].astype(F)
        a[np.diag_indices(u)] += ridge
        b[:2] += F(0.5) * ridge
        eliminate(a, b)
        counts = [u, 10 if self.channels == 1 else 12, 6]
        return [prediction(base, substitute(a, b, count), y[:count]) for count in counts]

    def note(self, r: int, c: int, k: int, which: int) -> int:
        return self.notes.get((r, c, k), [0] * 7)[which]

    def scale(self, r: int, c: int, k: int, which: int) -> int:
        def e(i: int, j: int) -> int:
            return self.note(r + i, c + j, k, which)

        near = 4 * (e(0, -1) + e(-1, 0)) + 3 * (e(-1, -1) + e(-1, 1)) + 2 * (e(0, -2) + e(-2, 0))
        scale = 35 + near // 24
        if k > 0:
            scale = (5 * scale + 3 * max(self.note(r, c, k - 1, which), 77)) // 10
        return scale

    def code(self, r: int, c: int, k: int, mixture: Mixture, coder: RangeDecoder) -> int:
        """The value of a sub-pixel, and all that there is to learn of it."""
        m = [clamp(mean, -(2**18), 2**18) for mean in mixture[1]]
        inverse = [INVERSE_SCALE[clamp(s, -128, 160) + 128] for s in mixture[2]]
        own = list(zip(weights(mixture[0]), m, inverse, strict=True))
        mean = sum(w * m for w, m, _ in own) >> 14
        spread = sum(w * (2**28 // i + abs(m - mean)) for w, m, i in own) >> 14
        mean = clamp(mean, 0, 65280)
        x = self.seen(r, c, k, mean)
        base = (x[0] + x[1]) * F(0.5)
        y = x - base
        predicted = [prediction(base, filter.w, y) for filter in self.filters[k]]
        predicted += self.locally(r, c, k, x, y, base)
        together = (mean + sum(predicted[:3])) // 4
        away = together - mean
        experts: list[Cdf] = [own]
        experts += [[(2**14, p, 2**28 // self.scale(r, c, k, i))] for i, p in enumerate(predicted)]
        experts.append([(w, m + away, i) for w, m, i in own])
        centre = clamp((together + 128) >> 8, 1, 255)
        size = next((e for e in range(7) if 185 * 2**e >= spread), 7)
        memories = self.remember(r, c, k)
        choices = [*self.choices(r, c, k, mean, spread, predicted[2]), size]
        value = self.decisions(k, experts, memories, centre, choices, coder)
        for expected, counts in memories:
            counts[clamp(value - expected + 7, 0, 15)] += 32
            if sum(counts) > 2**14:
                counts[:] = [count - (count >> 1) for count in counts]
        self.samples[r, c, k] = value
        errors = [abs(256 * value - p) for p in predicted]
        self.notes[r, c, k] = [*errors, abs(256 * value - mean), spread]
        for filter in self.filters[k]:
            filter.learn(y, F(value) - base)
        return value

    def remember(self, r: int, c: int, k: int) -> list[Memory]:
        """What each memory expects, and its counts."""

        def s(i: int, j: int, channel: int = k) -> int:
            return self.sample(r + i, c + j, channel) if channel >= 0 else 0

        def d(i: int, j: int) -> int:
            return s(i, j) - s(i, j, k - 1)

        def u(i: int, j: int) -> int:
            return s(i, j, k - 1) - s(i, j, k - 2)

        def changed(i: int, j: int) -> tuple[int, int, int, int]:
            more = u(i, j) if k > 1 else 0
            return d(i, j), u(0, 0) - u(i, j), more, s(0, 0, k - 1) + d(i, j)

        if k == 0:
            left, above, corner = s(0, -1), s(-1, 0), s(-1, -1)
            found = [
                (above - s(-2, 0), left - corner, 0, above),
                (left - s(0, -2), above - corner, 0, left),
                (left - corner, above - corner, 0, left + above - corner),
                (above - corner, s(-1, 1) - above, 0, above),
                (above - s(-2, 0), left - s(0, -2), 0, (left + above) >> 1),
                (left, above, 0, (left + above) >> 1),
                (left - above, s(-1, 1) - above, 0, above),
                (s(-1, 1) - s(-2, 0), left - corner, 0, s(-1, 1)),
            ]
        else:
            last, left, above, right = s(0, 0, k - 1), d(0, -1), d(-1, 0), d(-1, 1)
            found = [
                changed(-1, 0),
                changed(0, -1),
                (left, above, 0, last + ((left + above) >> 1)),
                (above, right, 0, last + ((above + right) >> 1)),
                (above, d(-2, 0), 0, last + above),
                (left, d(0, -2), 0, last + left),
                changed(-1, -1),
                changed(-1, 1),
            ]
        memories = []
        for i, (one, other, third, expected) in enumerate(found):
            number = 2**20 * (one + 512) + 2**10 * (other + 512) + third + 512
            context = number * 0x9E3779B1 % 2**32 >> 18
            counts = self.counts.setdefault((8 * k + i, context), [0] * 16)
            memories.append((expected, counts))
        return memories

    def choices(self, r: int, c: int, k: int, mean: int, spread: int, local: int) -> list[int]:
        near = [(r, c - 1, k, 2), (r - 1, c, k, 2), (r - 1, c - 1, k, 1), (r - 1, c + 1, k, 1)]
        far = 0
        if k > 0:
            near.append((r, c, k - 1, 2))
            one, other = self.note(r, c, k - 1, 5), self.note(r, c, k - 1, 6)
            far = (one > other) + (one > 2 * other)
        missed = 16 + sum(times * self.note(*place, 5) for *place, times in near)  # type: ignore[call-arg]
        promised = 16 + sum(times * self.note(*place, 6) for *place, times in near)  # type: ignore[call-arg]
        story = clamp((ln(missed) - ln(promised) + 5 * 2**15) >> 15, 0, 11)
        wide = clamp((ln(spread + 1) - 3 * 2**16) >> 15, 0, 11)
        apart = local - mean
        dispute = min(ln(16 * abs(apart) // (spread // 16 + 1) + 1) >> 15, 9)
        return [story, 3 * wide + far, dispute + 10 * (apart < 0)]

    def decisions(
        self,
        k: int,
        experts: list[Cdf],
        memories: list[Memory],
        centre: int,
        choices: list[int],
        coder: RangeDecoder,
    ) -> int:
        low, high = 0, 256
        size = choices[-1]

        def decide(edge: int, node: int, place: int) -> int:
            nonlocal low, high
            bounds = low, edge, high
            tree = 8 * node + size
            above = self.decision(k, experts, memories, bounds, tree, place, choices, coder)
            low, high = (edge, high) if above else (low, edge)
            return above

        side, jump = decide(centre, 0, 0), 0
        while True:
            reach = (2 ** (jump + 1) - 1) << size
            edge = centre + reach if side else centre - reach
            if not low < edge < high:
                break
            if decide(edge, 1 + 8 * side + jump, min(1 + jump, 3)) != side:
                break
            jump += 1
        while high - low > 1:
            level = sum(high - low > width for width in (2, 4, 8))
            decide((low + high) >> 1, 17 + 4 * (4 * side + min(jump, 3)) + level, 4 + level)
        return low

    def decision(
        self,
        k: int,
        experts: list[Cdf],
        memories: list[Memory],
        bounds: tuple[int, int, int],
        tree: int,
        place: int,
        choices: list[int],
        coder: RangeDecoder,
    ) -> int:
        story, width, dispute, _ = choices
        t = []
        for i, expert in enumerate(experts):
            doubt = 2**23 if i else 2**16
            below, at, above = (cumulative(edge, expert) for edge in bounds)
            up, down = ln(above - at + doubt), ln(at - below + doubt)
            t.append(clamp(up - down, -12 * 2**16, 12 * 2**16))
        t[1:] = [other - t[0] for other in t[1:]]
        for expected, counts in memories:
            least, at, most = (sum(counts[: max(edge - expected + 7, 0)]) for edge in bounds)
            t.append(ln(most - at + 48) - ln(at - least + 48))
        certainty = clamp((t[0] + 2**19) >> 15, 0, 31)
        t.append(19661)
        numbers = [
            12 * place + story, 32 * place + certainty, tree,
            36 * place + width, 20 * place + dispute,
        ]  # fmt: skip
        rows = [
            self.weights.setdefault((k, s, number), BEGIN.copy())
            for s, number in enumerate(numbers)
        ]
        sums = [sum(w * x for w, x in zip(row, t, strict=True)) >> 22 for row in rows]
        z = [clamp(total, -(2**18), 2**18) for total in sums]
        chance = clamp(squash(sum(z) // 5), 8, 2**22 - 8)
        above = coder.nibble([1, 2**24 - 3 - 4 * chance, 4 * chance + 1, 1])
        for row, own in zip(rows, z, strict=True):
            error = above * 2**22 - squash(own)
            for i in range(16):
                step = (((error * t[i]) >> 14) * 400 + 2**19) >> 20
                row[i] = clamp(row[i] + step, -(2**25), 2**25)
        return above


def decode_tile(
    network: Any,
    payload: bytes,
    height: int,
    width: int,
    channels: int,
    told: Array | None = None,
) -> NDArray[np.uint8]:
    """(height, width, channels) pixels of an adaptive payload."""
    coder, stage = RangeDecoder(payload), Stage(width, channels)
    tile = Tile(network, height, width, channels, told)
    out = np.zeros((height, width, channels), np.uint8)
    for t in range(width + 2 * (height - 1)):
        places = [(row, t - 2 * row) for row in range(height) if 0 <= t - 2 * row < width]
        front = [Pixel(tile, row, column) for row, column in places]
        for channel in range(channels):
            for place, pixel in zip(places, front, strict=True):
                value = stage.code(*place, channel, pixel.mixture(), coder)
                pixel.learn(value)
                out[place][channel] = value
    return out
