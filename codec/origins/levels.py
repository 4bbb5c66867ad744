"""Fewer levels: channels in which only some of the values occur.

An editor that stretches the contrast leaves gaps in a histogram, and 16-bit files often hold
samples of 8 to 14 bits, which were shifted up, repeated or stretched. The samples that were there
before are the numbers of the *levels*, the values that a channel can have, counted from 0 on.

Levels follow a rule, or are a set where no rule is known. Numbers of more than 8 bits fall into a
plane of their top 8 bits and one of the bits below.

Parameters: a byte (bits 0-1: channels less one; bit 2: samples have 16 bits; bit 3: each channel
has levels of its own), then the levels of each channel, or of all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from enum import IntEnum
from functools import lru_cache
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.errors import FormatError
from pixelzip.codec.origins.origin import Found, Samples
from pixelzip.codec.picture import Box, Bytes, Kind, Plane, PlaneLayout, bands
from pixelzip.codec.workers import Map

NUMBER = 3

Table = NDArray[np.int64]
"""The levels (n,) in ascending order."""


class Rule(IntEnum):
    """How level ``v`` follows from a number of bits ``b``, or of levels ``n``, in ``d`` bits."""

    PLAIN = 0
    """b: v."""
    SHIFTED = 1
    """b: v << (d - b)."""
    REPEATED = 2
    """b of at least d / 2: v << (d - b) | v >> (2 * b - d), the top bits again below."""
    ROUNDED = 3
    """n: v * (2^d - 1) / (n - 1), rounded to the nearest integer, halves up."""
    TRUNCATED = 4
    """n: the same, rounded down."""
    SET = 5
    """The flags of all 2^d values, see `pixelzip.codec.bits`."""


_MOST_BITS = {8: 7, 16: 14}
"""Of numbers, by the depth of the samples. With more there is little to gain."""
_SAMPLE = 1 << 15
"""So many pixels are looked at before all of them are."""
_NEAR = 4
"""About as far as a network's guess at an 8-bit sample reaches ..."""
_SAVED = np.log2((2 * _NEAR + 1) / np.arange(2 * _NEAR + 2).clip(1))
"""Bits that a sample takes less where so many of the values in reach are levels ..."""
_DOUBT = 0.5
"""... and how much of the bits that its gaps should save is believed."""
_LEAST = 64
"""Gaps of 8-bit samples that save fewer bits are not looked at: small pictures have such."""
_EXCESS = 1.1
"""A rule may have so many times as many levels as occur between the first and the last ..."""
_SPARE = 8
"""... and some more."""


def find(samples: Samples, parallel: Map = map) -> Found | None:
    """(height, width, 1 or 3), uint8 or uint16 -> their numbers, if there are few enough levels."""
    channels, depth = samples.shape[2], 8 * samples.itemsize
    if channels not in (1, 3):
        return None
    pixels = samples.reshape(-1, channels)
    if not _is_likely(_used(pixels[:: max(1, len(pixels) // _SAMPLE)], depth), depth):
        return None
    counts = list(_occurrences(samples))
    if depth == 16:  # what digitises one channel digitises all
        counts = [np.sum(counts, axis=0)]
    gains = [_gain(count, np.flatnonzero(count), depth) for count in counts]
    if depth == 8 and sum(gains) * _DOUBT < _LEAST:
        return None
    rules, tables = zip(*(_levels(count > 0, depth) for count in counts), strict=True)
    if len(tables[0]) > _most_levels(depth):
        return None
    for number, rule in enumerate(rules):
        if rule:  # there are levels that do not occur
            gains[number] = _gain(counts[number], tables[number], depth)
    worth, specs = sum(gains) * _DOUBT / 8, []
    for rule, count in zip(rules, counts, strict=True):
        specs.append(rule or _set(count > 0))
        if 1 + len(specs[-1]) > worth:
            return None
    if len(set(specs)) == 1:
        specs = specs[:1]
    head = channels - 1 | (depth == 16) << 2 | (len(specs) > 1) << 3
    parameters = bytes([head]) + b"".join(specs)
    if len(parameters) > worth:
        return None
    return Found(parameters, tuple(_planes(samples, tables * (channels // len(tables)))))


def layout(parameters: bytes, shape: tuple[int, int]) -> tuple[PlaneLayout, ...]:
    """The planes' layouts. FormatError for parameters that `find` never gives."""
    tables, _ = _read(parameters)
    kind: Kind = "colour" if len(tables) == 3 else "luma"
    layouts = [PlaneLayout(*shape, len(tables), kind)]
    if _low_bits(tables) > 0:
        layouts.append(PlaneLayout(*shape, len(tables), "labels"))
    return tuple(layouts)


def render(parameters: bytes, planes: Sequence[Bytes], shape: tuple[int, int]) -> Samples:
    """(height, width, channels), uint8 or uint16. A number beyond the last level stands for it."""
    tables, depth = _read(parameters)
    out = np.empty((*shape, len(tables)), np.uint8 if depth == 8 else np.uint16)
    for into, highs, *lows in zip(bands(out), *map(bands, planes), strict=True):
        numbers = highs.astype(np.int64)
        if lows:
            numbers = (numbers << _low_bits(tables)) + lows[0]
        for channel, table in enumerate(tables):
            into[:, :, channel] = table[np.minimum(numbers[:, :, channel], len(table) - 1)]
    return out


def part(parameters: bytes, shape: tuple[int, int], box: Box) -> tuple[bytes, Box]:
    """Each pixel is rendered by itself."""
    return parameters, box


def describe(parameters: bytes) -> str:
    """In words."""
    tables, depth = _read(parameters)
    words = {Rule.PLAIN: "stored", Rule.SHIFTED: "shifted", Rule.REPEATED: "repeated"}
    rule = Rule(parameters[1])
    if rule in words and not parameters[0] >> 3 & 1:
        return f"samples of {len(tables[0]).bit_length() - 1} bits, {words[rule]} in {depth}"
    counts = dict.fromkeys(len(table) for table in tables)
    return f"{', '.join(map(str, counts))} of {1 << depth} levels"


def _planes(samples: Samples, tables: Sequence[Table]) -> Iterator[Plane]:
    depth, low_bits = 8 * samples.itemsize, _low_bits(tables)
    numbers = np.zeros((len(tables), 1 << depth), np.int64)  # of each value
    for number, table in zip(numbers, tables, strict=True):
        number[table] = np.arange(len(table))
    yield Plane(_numbered(samples, numbers >> low_bits), "colour" if len(tables) == 3 else "luma")
    if low_bits > 0:
        yield Plane(_numbered(samples, numbers & (1 << low_bits) - 1), "labels")


def _numbered(samples: Samples, numbers: NDArray[np.int64]) -> Bytes:
    """What stands for each sample, of its channel's numbers below 256."""
    out = np.empty(samples.shape, np.uint8)
    for band, into in zip(bands(samples), bands(out), strict=True):
        for channel, number in enumerate(numbers.astype(np.uint8)):
            into[:, :, channel] = number[band[:, :, channel]]
    return out


def _low_bits(tables: Sequence[Table]) -> int:
    """How many bits of the numbers are in the second plane."""
    return max(0, (max(len(table) for table in tables) - 1).bit_length() - 8)


# Looking for levels.


def _occurrences(samples: Samples) -> NDArray[np.int64]:
    """(channels, 2^depth): how often each value occurs in each channel."""
    counts = np.zeros((samples.shape[2], 1 << 8 * samples.itemsize), np.int64)
    for band in bands(samples):
        for channel, count in enumerate(counts):
            count += np.bincount(band[:, :, channel].ravel(), minlength=len(count))
    return counts


def _used(pixels: Samples, depth: int) -> NDArray[np.bool_]:
    """(n, channels) -> (channels, 2^depth): which values occur in each channel."""
    used = np.zeros((pixels.shape[1], 1 << depth), np.bool_)
    for channel, row in enumerate(used):
        row[pixels[:, channel]] = True
    return used


def _is_likely(used: NDArray[np.bool_], depth: int) -> bool:
    """Whether what occurs in a sample of the pixels may be all the levels that there are."""
    if depth == 16:
        together: NDArray[np.bool_] = np.any(used, axis=0)
        bits = _as_bits(together)
        return any(bits | levels == levels for levels, _, _ in _matched(16)) or (
            int(together.sum()) < _SAMPLE // 4
        )
    return any(not row[row.argmax() : 256 - row[::-1].argmax()].all() for row in used)


def _levels(used: NDArray[np.bool_], depth: int) -> tuple[bytes, Table]:
    """Bytes and levels of the rule of the fewest that include those used; or nothing and these."""
    values, bits, rules = np.flatnonzero(used), _as_bits(used), _matched(depth)
    enough = bisect_left(_counts(depth), len(values))
    for levels, spec, table in islice(rules, enough, None):
        if bits | levels == levels:
            inside = int(((table >= values[0]) & (table <= values[-1])).sum())
            if depth == 16 or inside <= _EXCESS * len(values) + _SPARE:
                return spec, table
    return b"", values


def _set(used: NDArray[np.bool_]) -> bytes:
    """The bytes of levels without a rule."""
    from pixelzip.codec.bits import encode_flags  # slow to load, and few pictures need it

    data = encode_flags(used)
    return bytes([Rule.SET]) + len(data).to_bytes(2, "little") + data


def _gain(count: NDArray[np.int64], table: Table, depth: int) -> float:
    """The bits that the levels may save, of samples that have each value so often."""
    if depth == 16:
        return float(count.sum()) * (16 - (len(table) - 1).bit_length())
    known = np.zeros(257 + 2 * _NEAR, np.intp)
    known[1 + _NEAR + table] = 1
    before = known.cumsum()
    near = before[2 * _NEAR + 1 :] - before[: -2 * _NEAR - 1]
    inside = slice(int(table[0]) + _NEAR, max(0, int(table[-1]) + 1 - _NEAR))
    return float(count[inside] @ _SAVED[near[inside]])


# Parameters.


@lru_cache(2)
def _rules(depth: int) -> dict[bytes, Table]:
    """The bytes and the levels of all rules, by the number of levels; each table once."""
    rules: dict[bytes, Table] = {}
    top = (1 << depth) - 1
    for b in range(1, _MOST_BITS[depth] + 1):
        v = np.arange(1 << b)
        rules[bytes([Rule.PLAIN, b])] = v
        rules[bytes([Rule.SHIFTED, b])] = v << (depth - b)
        if 2 * b >= depth:
            rules[bytes([Rule.REPEATED, b])] = v << (depth - b) | v >> (2 * b - depth)
    most = 1 << _MOST_BITS[depth]
    for n in range(2, 256) if depth == 8 else [1 << b for b in range(2, most.bit_length())]:
        stretched = np.arange(n) * top
        two = (n - 1).to_bytes(2, "little")
        rules[bytes([Rule.ROUNDED]) + two] = (2 * stretched + n - 1) // (2 * n - 2)
        rules[bytes([Rule.TRUNCATED]) + two] = stretched // (n - 1)
    unlike = {table.tobytes(): (spec, table) for spec, table in reversed(rules.items())}
    return dict(sorted(unlike.values(), key=lambda rule: (len(rule[1]), rule[0])))


@lru_cache(2)
def _matched(depth: int) -> list[tuple[int, bytes, Table]]:
    """All rules, each behind its levels as `_as_bits` has them."""
    used = np.zeros((len(_rules(depth)), 1 << depth), np.bool_)
    for row, table in zip(used, _rules(depth).values(), strict=True):
        row[table] = True
    return [(_as_bits(row), *rule) for row, rule in zip(used, _rules(depth).items(), strict=True)]


@lru_cache(2)
def _counts(depth: int) -> list[int]:
    """How many levels each of them has, from the fewest on."""
    return [len(table) for _, _, table in _matched(depth)]


def _as_bits(used: NDArray[np.bool_]) -> int:
    """A bit for each value that is used: whether all are among others is one operation."""
    return int.from_bytes(np.packbits(used).tobytes(), "big")


@lru_cache(16)
def _read(parameters: bytes) -> tuple[tuple[Table, ...], int]:
    """The levels of each channel, and the depth. FormatError for what `find` never gives."""
    head, rest = parameters[0] if parameters else 0xFF, parameters[1:]
    channels, depth, own = 1 + (head & 3), 16 if head & 4 else 8, head >> 3 & 1
    if channels not in (1, 3) or head >> 4 or (own and (channels == 1 or depth == 16)):
        raise _damaged()
    tables = []
    for _ in range(channels if own else 1):
        table, rest = _read_levels(rest, depth)
        tables.append(table)
    if rest:
        raise _damaged()
    return tuple(tables) * (1 if own else channels), depth


def _read_levels(data: bytes, depth: int) -> tuple[Table, bytes]:
    """The levels that these bytes begin with, and the rest of the bytes."""
    if data[:1] != bytes([Rule.SET]):
        for length in (2, 3):
            if data[:length] in _rules(depth):
                return _rules(depth)[data[:length]], data[length:]
        raise _damaged()
    end = 3 + int.from_bytes(data[1:3], "little")
    if len(data) < end:
        raise _damaged()
    from pixelzip.codec import bits  # slow to load, and few pictures need it

    table = np.flatnonzero(bits.decode_flags(data[3:end], 1 << depth))
    if not 1 <= len(table) <= _most_levels(depth):
        raise _damaged()
    return table, data[end:]


def _most_levels(depth: int) -> int:
    return 256 if depth == 8 else 1 << _MOST_BITS[16]


def _damaged() -> FormatError:
    return FormatError("the file is damaged: its levels are impossible")
