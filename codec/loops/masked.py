"""Frequencies of allowed values only.

Values that are not allowed keep their one, and the mass of the others is scaled to fill the rest:
see `pixelzip.codec.cdf`, which calls these where it is given a mask.
"""

from __future__ import annotations

import numpy as np

from pixelzip.codec.compiled import kernel, part
from pixelzip.codec.loops.frequencies import (
    SPREAD,
    UNIT_BITS,
    cdf,
    cdfs,
    fill_interval,
    fill_table,
    largest,
    weights,
)
from pixelzip.codec.tables import EXP, EXP_RANGE


@part
def _count(word):  # type: ignore[no-untyped-def]
    """The number of ones in sixteen bits."""
    word = np.int64(word)
    word = (word & 0x5555) + (word >> 1 & 0x5555)
    word = (word & 0x3333) + (word >> 2 & 0x3333)
    word = (word & 0x0F0F) + (word >> 4 & 0x0F0F)
    return (word & 31) + (word >> 8)


@part
def _settle(mass, allowed, high):  # type: ignore[no-untyped-def]
    """The total of the masses, once there is some where there was none.

    It is the number of allowed values, or, if there are none, the same of all symbols.
    """
    total = mass.sum()
    if total > 0:
        return total
    for symbol in range(16):
        mass[symbol] = _members(allowed, high, symbol)
    if mass.sum() == 0:
        mass[:] = 1
    return mass.sum()


@part
def _members(allowed, high, symbol):  # type: ignore[no-untyped-def]
    """How many allowed values a low nibble of ``high`` has, or a high one if that is negative."""
    if high < 0:
        return _count(allowed[symbol])
    return np.int64(allowed[high]) >> symbol & 1


@part
def _only_symbol(allowed, high, mass):  # type: ignore[no-untyped-def]
    """Whether no more than one symbol has allowed values: then its mass is whatever it is."""
    if high < 0:
        symbols = np.int64(0)
        for symbol in range(16):
            symbols += np.int64(allowed[symbol] != 0)
        only = symbols <= 1
    else:
        word = np.int64(allowed[high])
        only = word & (word - 1) == 0
    if only:
        for symbol in range(16):
            mass[symbol] = _members(allowed, high, symbol)
    return only


@part
def _mixture_high_mass(weight, parameters, allowed, spare, mass):  # type: ignore[no-untyped-def]
    """What C grows by over the allowed values of each high nibble."""
    if _only_symbol(allowed, -1, mass):
        return
    cdfs(16, 16, weight, parameters, mass)
    mass[15] = np.int64(1) << UNIT_BITS
    before = np.int64(0)
    for symbol in range(16):
        before, mass[symbol] = mass[symbol], mass[symbol] - before
        word = np.int64(allowed[symbol])
        if word == 0:
            mass[symbol] = 0
        elif word != 0xFFFF and mass[symbol] > 0:
            _each_mass(weight, parameters, word, symbol, spare)
            mass[symbol] = spare.sum()


@part
def _each_mass(weight, parameters, word, high, mass):  # type: ignore[no-untyped-def]
    """What C grows by over each value of a high nibble, if allowed."""
    cdfs(16 * high + 1, 1, weight, parameters, mass)
    mass[15] = cdf(16 * high + 16, weight, parameters)
    before = cdf(16 * high, weight, parameters)
    for symbol in range(16):
        before, mass[symbol] = mass[symbol], (mass[symbol] - before) * (word >> symbol & 1)


@part
def _mixture_low_mass(weight, parameters, allowed, high, mass):  # type: ignore[no-untyped-def]
    """The same, whatever it is where only one value is allowed."""
    if not _only_symbol(allowed, high, mass):
        _each_mass(weight, parameters, np.int64(allowed[high]), high, mass)


@part
def _softmax_mass(logits, top, allowed, high, mass):  # type: ignore[no-untyped-def]
    """The same of a softmax: of the low nibbles of ``high``, or of the high ones if negative."""
    if _only_symbol(allowed, high, mass):
        return
    mass[:] = 0
    for value in range(max(16 * high, 0), 16 * high + 16 if high >= 0 else 256):
        below = top - np.int64(logits[value])
        if np.int64(allowed[value >> 4]) >> (value & 15) & 1 and below <= EXP_RANGE:
            mass[value >> 4 if high < 0 else value & 15] += EXP[np.uint64(below)]


@part
def _share_interval(symbol, mass, total, out):  # type: ignore[no-untyped-def]
    """A nibble's interval, from the masses of all the symbols and their total."""
    below = np.int64(0)
    for i in range(symbol):
        below += mass[i]
    start, end = below * SPREAD // total, (below + mass[symbol]) * SPREAD // total
    fill_interval(symbol, start, end, out)


@part
def _share_table(mass, total, out):  # type: ignore[no-untyped-def]
    """A nibble's table, from the masses of all the symbols and their total."""
    below, end = np.int64(0), np.int64(0)
    for symbol in range(16):
        if mass[symbol] > 0:  # divisions are slow
            below += mass[symbol]
            end = below * SPREAD // total
        mass[symbol] = end
    fill_table(mass, out)


@kernel
def mixture_intervals(parameters, values, allowed, out):  # type: ignore[no-untyped-def]
    weight = np.empty(parameters.shape[2], np.int64)
    mass, spare = np.empty(16, np.int64), np.empty(16, np.int64)
    for i in range(parameters.shape[0]):
        high, low = np.int64(values[i]) >> 4, np.int64(values[i]) & 15
        weights(parameters[i, 0], weight)
        _mixture_high_mass(weight, parameters[i], allowed[i], spare, mass)
        _share_interval(high, mass, _settle(mass, allowed[i], -1), out[i, 0])
        _mixture_low_mass(weight, parameters[i], allowed[i], high, mass)
        _share_interval(low, mass, _settle(mass, allowed[i], high), out[i, 1])


@kernel
def softmax_intervals(logits, values, allowed, out):  # type: ignore[no-untyped-def]
    mass = np.empty(16, np.int64)
    for i in range(logits.shape[0]):
        high, low = np.int64(values[i]) >> 4, np.int64(values[i]) & 15
        top = largest(logits[i])
        _softmax_mass(logits[i], top, allowed[i], -1, mass)
        _share_interval(high, mass, _settle(mass, allowed[i], -1), out[i, 0])
        _softmax_mass(logits[i], top, allowed[i], high, mass)
        _share_interval(low, mass, _settle(mass, allowed[i], high), out[i, 1])


@kernel
def mixture_table(parameters, allowed, highs, out):  # type: ignore[no-untyped-def]
    """Of the low nibbles of ``highs`` (n,), or of the high nibbles where that is negative."""
    weight = np.empty(parameters.shape[2], np.int64)
    mass, spare = np.empty(16, np.int64), np.empty(16, np.int64)
    for i in range(parameters.shape[0]):
        high = np.int64(highs[i])
        weights(parameters[i, 0], weight)
        if high < 0:
            _mixture_high_mass(weight, parameters[i], allowed[i], spare, mass)
        else:
            _mixture_low_mass(weight, parameters[i], allowed[i], high, mass)
        total = _settle(mass, allowed[i], high)
        _share_table(mass, total, out[i])


@kernel
def softmax_table(logits, allowed, highs, out):  # type: ignore[no-untyped-def]
    mass = np.empty(16, np.int64)
    for i in range(logits.shape[0]):
        high = np.int64(highs[i])
        _softmax_mass(logits[i], largest(logits[i]), allowed[i], high, mass)
        total = _settle(mass, allowed[i], high)
        _share_table(mass, total, out[i])
