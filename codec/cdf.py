"""From a network's integers to integer frequencies: the CDF of one sub-pixel.

A conditional arrives in one of two forms, and all that follows is integer arithmetic, so every
machine finds the same frequencies:

* (3, K): a mixture of K discretized logistics in fixed point (PixelCNN++, section 2.1): logits in
  1/256 nat, means in 1/256 of a pixel value, log-scales in 1/32 nat. The CDF at the edge below the
  value x is, in units of 2^-36,

      C(x) = sum over k of weight[k] * sigmoid((x - 1/2 - mean[k]) / scale[k])      C(0) = 0

* (256,): the logits of a softmax over the values (PixelRNN, section 3.4) in 1/256 nat. Then, in
  units of its last entry C(256),

      C(x) = sum over v < x of exp(logit[v] - largest logit)

A value is coded as two nibbles, the high one first. Each has 16 symbols whose frequencies add up to
2^24 with the two guards, so that nothing lies ever outside an interval::

    guard | symbol 0 | symbol 1 | ...           | symbol 15 | guard
      1      >= 1       >= 1                        >= 1       1

The coder wants each frequency less one, as a float (see `pixelzip.codec.coder`).

Where it is known which values there can be at all (`pixelzip.codec.colours`), the others are left
out: they keep their one, and the mass of the *allowed* ones is scaled to fill the rest. Which these
are is said by sixteen words of sixteen bits for each sub-pixel, bit j of word i for 16 * i + j.
"""

from __future__ import annotations

from decimal import Decimal, localcontext

import numba
import numpy as np
from numpy.typing import NDArray

LOGIT_UNIT = 256  # per nat
MEAN_UNIT = 256  # per pixel value
SCALE_UNIT = 32  # per nat
LOG_SCALE_MIN = -4 * SCALE_UNIT
LOG_SCALE_MAX = 5 * SCALE_UNIT
MEAN_LIMIT = 1 << 18
SYMBOLS = 18  # of a nibble: 16 and two guards
TOTAL_BITS = 24

_WEIGHT_BITS = 14
_SIGMOID_BITS = 22
_UNIT_BITS = _WEIGHT_BITS + _SIGMOID_BITS  # of the CDF
_SPREAD = (1 << TOTAL_BITS) - SYMBOLS  # what is left when each symbol and guard has its one
_INVERSE_BITS = 20
_STEP_BITS = 6  # the sigmoid's table has 2^6 steps for each unit of its argument
_FRACTION_BITS = 8  # between two steps it is a straight line
_ARGUMENT_BITS = _STEP_BITS + _FRACTION_BITS
_REACH = 16  # the table spans -16 to 16
_EXP_RANGE = 12 * LOGIT_UNIT  # components e^-12 times less likely than the first have no weight


def _tables() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    # Decimal's exp is correctly rounded by definition, on every machine; libm's is not.
    with localcontext() as context:
        context.prec = 30

        def scaled(x: Decimal, bits: int) -> int:
            return int((x * (1 << bits)).to_integral_value())

        exp = [scaled((Decimal(-i) / LOGIT_UNIT).exp(), 20) for i in range(_EXP_RANGE + 1)]
        inverse = [
            scaled((Decimal(-i) / SCALE_UNIT).exp(), _INVERSE_BITS)
            for i in range(LOG_SCALE_MIN, LOG_SCALE_MAX + 1)
        ]
        half = _REACH << _STEP_BITS
        sigmoid = [
            scaled(1 / (1 + (Decimal(-i) / (1 << _STEP_BITS)).exp()), _SIGMOID_BITS)
            for i in range(-half, half + 1)
        ]
    return np.array(exp), np.array(inverse), np.array(sigmoid)


EXP, INVERSE_SCALE, SIGMOID = _tables()
"""exp(-i / LOGIT_UNIT), exp(-log-scale), and the logistic function, as integers."""
SLOPE = np.append(np.diff(SIGMOID), 0)

_kernel = numba.njit(nogil=True, cache=True)


@_kernel
def _weights(logits, weight):  # type: ignore[no-untyped-def]
    """Softmax in integers; the weights add up to 2^14 exactly."""
    components = logits.shape[0]
    top = 0
    for k in range(1, components):
        if logits[k] > logits[top]:
            top = k
    total = np.int64(0)
    for k in range(components):
        below = np.int64(logits[top]) - np.int64(logits[k])
        weight[k] = EXP[below] if below <= _EXP_RANGE else 0
        total += weight[k]
    rest = np.int64(1) << _WEIGHT_BITS
    for k in range(components):
        weight[k] = (weight[k] << _WEIGHT_BITS) // total
        rest -= weight[k]
    weight[top] += rest


@_kernel
def _clamp(x, lowest, highest):  # type: ignore[no-untyped-def]
    return min(max(x, lowest), highest)


@_kernel
def _line(edge, step, parameters, k):  # type: ignore[no-untyped-def]
    """The sigmoid's argument at ``edge``, and how much ``step`` more edges add to it.

    Mean and inverse scale have 8 and 20 bits behind the point, so these numbers have 28.
    """
    mean = _clamp(np.int64(parameters[1, k]), -MEAN_LIMIT, MEAN_LIMIT)
    log_scale = _clamp(np.int64(parameters[2, k]), LOG_SCALE_MIN, LOG_SCALE_MAX)
    inverse = INVERSE_SCALE[np.uint64(log_scale - LOG_SCALE_MIN)]
    return (edge * MEAN_UNIT - MEAN_UNIT // 2 - mean) * inverse, step * MEAN_UNIT * inverse


@_kernel
def _sigmoid(z):  # type: ignore[no-untyped-def]
    """The logistic function of z / 2^28 in units of 2^-22, on straight lines between steps."""
    limit = np.int64(_REACH) << _ARGUMENT_BITS
    z = _clamp(z >> (8 + _INVERSE_BITS - _ARGUMENT_BITS), -limit, limit) + limit
    at = np.uint64(z >> _FRACTION_BITS)
    fraction = z & ((1 << _FRACTION_BITS) - 1)
    return SIGMOID[at] + ((SLOPE[at] * fraction) >> _FRACTION_BITS)


@_kernel
def _cdf(edge, weight, parameters):  # type: ignore[no-untyped-def]
    """C(edge) in units of 2^-36, for an edge from 0 to 256."""
    if edge == 0:
        return np.int64(0)
    if edge == 256:
        return np.int64(1) << _UNIT_BITS
    total = np.int64(0)
    for k in range(weight.shape[0]):
        if weight[k] > 0:
            z, _ = _line(edge, 0, parameters, k)
            total += weight[k] * _sigmoid(z)
    return total


@_kernel
def _cdfs(first, step, weight, parameters, out):  # type: ignore[no-untyped-def]
    """C at the sixteen edges first, first + step, ...; the last one is of no meaning."""
    out[:] = 0
    for k in range(weight.shape[0]):
        if weight[k] > 0:
            z, stride = _line(first, step, parameters, k)
            for i in range(16):  # a constant, so that the compiler can unroll it
                out[i] += weight[k] * _sigmoid(z + i * stride)


@_kernel
def _high(c):  # type: ignore[no-untyped-def]
    """The cumulative frequency that a CDF value stands for among the high nibbles."""
    return (c * _SPREAD) >> _UNIT_BITS


@_kernel
def _low(c, bottom, top, nibble):  # type: ignore[no-untyped-def]
    """The same among the low nibbles of a high nibble that spans bottom to top."""
    if top == bottom:
        return (np.int64(nibble) * _SPREAD) >> 4
    return ((c - bottom) * _SPREAD) // (top - bottom)


@_kernel
def _fill_interval(symbol, start, end, out):  # type: ignore[no-untyped-def]
    """A nibble's interval, from what its two edges stand for: below, the symbol, above."""
    # Below: a guard and one for each lower symbol. The interval itself has its own one.
    below = start + symbol + 1
    frequency = end - start + 1
    out[0] = below - 1
    out[1] = frequency - 1
    out[2] = (1 << TOTAL_BITS) - below - frequency - 1


@_kernel
def _fill_table(ends, out):  # type: ignore[no-untyped-def]
    """A nibble's table, from what the upper edges of its first 15 symbols stand for."""
    out[0] = 0
    start = np.int64(0)
    for symbol in range(15):
        out[symbol + 1] = ends[symbol] - start
        start = ends[symbol]
    out[16] = _SPREAD - start
    out[17] = 0


# Mixtures.


@_kernel
def _mixture_intervals(parameters, values, out):  # type: ignore[no-untyped-def]
    weight = np.empty(parameters.shape[2], np.int64)
    for i in range(parameters.shape[0]):
        _weights(parameters[i, 0], weight)
        value = np.int64(values[i])
        high, low = value >> 4, value & 15
        bottom = _cdf(16 * high, weight, parameters[i])
        top = _cdf(16 * high + 16, weight, parameters[i])
        first = _cdf(value, weight, parameters[i])
        last = _cdf(value + 1, weight, parameters[i])
        _fill_interval(high, _high(bottom), _high(top), out[i, 0])
        start, end = _low(first, bottom, top, low), _low(last, bottom, top, low + 1)
        _fill_interval(low, start, end, out[i, 1])


@_kernel
def _mixture_high_table(parameters, out):  # type: ignore[no-untyped-def]
    weight, c = np.empty(parameters.shape[2], np.int64), np.empty(16, np.int64)
    for i in range(parameters.shape[0]):
        _weights(parameters[i, 0], weight)
        _cdfs(16, 16, weight, parameters[i], c)
        for symbol in range(15):
            c[symbol] = _high(c[symbol])
        _fill_table(c, out[i])


@_kernel
def _mixture_low_table(parameters, high, out):  # type: ignore[no-untyped-def]
    weight, c = np.empty(parameters.shape[2], np.int64), np.empty(16, np.int64)
    for i in range(parameters.shape[0]):
        _weights(parameters[i, 0], weight)
        edge = 16 * np.int64(high[i])
        bottom = _cdf(edge, weight, parameters[i])
        top = _cdf(edge + 16, weight, parameters[i])
        _cdfs(edge + 1, 1, weight, parameters[i], c)
        for symbol in range(15):
            c[symbol] = _low(c[symbol], bottom, top, symbol + 1)
        _fill_table(c, out[i])


# Logits. C is not scaled to 2^36: with a bottom of 0 and a top of C(256), the rule of the low
# nibbles is that of the high ones.


@_kernel
def _largest(logits):  # type: ignore[no-untyped-def]
    top = logits[0]
    for value in range(1, 256):
        top = max(top, logits[value])
    return np.int64(top)


@_kernel
def _sums(logits, top, first, step, out):  # type: ignore[no-untyped-def]
    """What C grows by, up to the edges ``first + step``, ``first + 2 * step``, ... of ``out``."""
    total = np.int64(0)
    value = first
    for i in range(out.shape[0]):
        for _ in range(step):
            below = top - np.int64(logits[value])
            if below <= _EXP_RANGE:
                total += EXP[np.uint64(below)]
            value += 1
        out[i] = total


@_kernel
def _softmax_intervals(logits, values, out):  # type: ignore[no-untyped-def]
    highs, lows = np.empty(16, np.int64), np.empty(16, np.int64)
    for i in range(logits.shape[0]):
        value = np.int64(values[i])
        high, low = value >> 4, value & 15
        top = _largest(logits[i])
        _sums(logits[i], top, 0, 16, highs)
        _sums(logits[i], top, 16 * high, 1, lows)
        for nibble, symbol, c in ((0, high, highs), (1, low, lows)):
            before = c[symbol - 1] if symbol > 0 else np.int64(0)
            start = _low(before, np.int64(0), c[15], symbol)
            _fill_interval(symbol, start, _low(c[symbol], np.int64(0), c[15], symbol + 1),
                           out[i, nibble])  # fmt: skip


@_kernel
def _softmax_table(logits, first, step, out):  # type: ignore[no-untyped-def]
    """Of the nibbles whose symbols span ``step`` values each, from ``first`` (n,) on."""
    c = np.empty(16, np.int64)
    for i in range(logits.shape[0]):
        _sums(logits[i], _largest(logits[i]), np.int64(first[i]), step, c)
        whole = c[15]
        for symbol in range(15):
            c[symbol] = _low(c[symbol], np.int64(0), whole, symbol + 1)
        _fill_table(c, out[i])


# Allowed values only.


@_kernel
def _count(word):  # type: ignore[no-untyped-def]
    """The number of ones in sixteen bits."""
    word = np.int64(word)
    word = (word & 0x5555) + (word >> 1 & 0x5555)
    word = (word & 0x3333) + (word >> 2 & 0x3333)
    word = (word & 0x0F0F) + (word >> 4 & 0x0F0F)
    return (word & 31) + (word >> 8)


@_kernel
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


@_kernel
def _members(allowed, high, symbol):  # type: ignore[no-untyped-def]
    """How many allowed values a low nibble of ``high`` has, or a high one if that is negative."""
    if high < 0:
        return _count(allowed[symbol])
    return np.int64(allowed[high]) >> symbol & 1


@_kernel
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


@_kernel
def _mixture_high_mass(weight, parameters, allowed, spare, mass):  # type: ignore[no-untyped-def]
    """What C grows by over the allowed values of each high nibble."""
    if _only_symbol(allowed, -1, mass):
        return
    _cdfs(16, 16, weight, parameters, mass)
    mass[15] = np.int64(1) << _UNIT_BITS
    before = np.int64(0)
    for symbol in range(16):
        before, mass[symbol] = mass[symbol], mass[symbol] - before
        word = np.int64(allowed[symbol])
        if word == 0:
            mass[symbol] = 0
        elif word != 0xFFFF and mass[symbol] > 0:
            _each_mass(weight, parameters, word, symbol, spare)
            mass[symbol] = spare.sum()


@_kernel
def _each_mass(weight, parameters, word, high, mass):  # type: ignore[no-untyped-def]
    """What C grows by over each value of a high nibble, if allowed."""
    _cdfs(16 * high + 1, 1, weight, parameters, mass)
    mass[15] = _cdf(16 * high + 16, weight, parameters)
    before = _cdf(16 * high, weight, parameters)
    for symbol in range(16):
        before, mass[symbol] = mass[symbol], (mass[symbol] - before) * (word >> symbol & 1)


@_kernel
def _mixture_low_mass(weight, parameters, allowed, high, mass):  # type: ignore[no-untyped-def]
    """The same, whatever it is where only one value is allowed."""
    if not _only_symbol(allowed, high, mass):
        _each_mass(weight, parameters, np.int64(allowed[high]), high, mass)


@_kernel
def _softmax_mass(logits, top, allowed, high, mass):  # type: ignore[no-untyped-def]
    """The same of a softmax: of the low nibbles of ``high``, or of the high ones if negative."""
    if _only_symbol(allowed, high, mass):
        return
    mass[:] = 0
    for value in range(max(16 * high, 0), 16 * high + 16 if high >= 0 else 256):
        below = top - np.int64(logits[value])
        if np.int64(allowed[value >> 4]) >> (value & 15) & 1 and below <= _EXP_RANGE:
            mass[value >> 4 if high < 0 else value & 15] += EXP[np.uint64(below)]


@_kernel
def _fill_allowed_interval(symbol, mass, total, out):  # type: ignore[no-untyped-def]
    """A nibble's interval, from the masses of all the symbols and their total."""
    below = np.int64(0)
    for i in range(symbol):
        below += mass[i]
    start, end = below * _SPREAD // total, (below + mass[symbol]) * _SPREAD // total
    _fill_interval(symbol, start, end, out)


@_kernel
def _fill_allowed_table(mass, total, out):  # type: ignore[no-untyped-def]
    """A nibble's table, from the masses of all the symbols and their total."""
    below, end = np.int64(0), np.int64(0)
    for symbol in range(16):
        if mass[symbol] > 0:  # divisions are slow
            below += mass[symbol]
            end = below * _SPREAD // total
        mass[symbol] = end
    _fill_table(mass, out)


@_kernel
def _allowed_mixture_intervals(parameters, values, allowed, out):  # type: ignore[no-untyped-def]
    weight = np.empty(parameters.shape[2], np.int64)
    mass, spare = np.empty(16, np.int64), np.empty(16, np.int64)
    for i in range(parameters.shape[0]):
        high, low = np.int64(values[i]) >> 4, np.int64(values[i]) & 15
        _weights(parameters[i, 0], weight)
        _mixture_high_mass(weight, parameters[i], allowed[i], spare, mass)
        _fill_allowed_interval(high, mass, _settle(mass, allowed[i], -1), out[i, 0])
        _mixture_low_mass(weight, parameters[i], allowed[i], high, mass)
        _fill_allowed_interval(low, mass, _settle(mass, allowed[i], high), out[i, 1])


@_kernel
def _allowed_softmax_intervals(logits, values, allowed, out):  # type: ignore[no-untyped-def]
    mass = np.empty(16, np.int64)
    for i in range(logits.shape[0]):
        high, low = np.int64(values[i]) >> 4, np.int64(values[i]) & 15
        top = _largest(logits[i])
        _softmax_mass(logits[i], top, allowed[i], -1, mass)
        _fill_allowed_interval(high, mass, _settle(mass, allowed[i], -1), out[i, 0])
        _softmax_mass(logits[i], top, allowed[i], high, mass)
        _fill_allowed_interval(low, mass, _settle(mass, allowed[i], high), out[i, 1])


@_kernel
def _allowed_mixture_table(parameters, allowed, highs, out):  # type: ignore[no-untyped-def]
    """Of the low nibbles of ``highs`` (n,), or of the high nibbles where that is negative."""
    weight = np.empty(parameters.shape[2], np.int64)
    mass, spare = np.empty(16, np.int64), np.empty(16, np.int64)
    for i in range(parameters.shape[0]):
        high = np.int64(highs[i])
        _weights(parameters[i, 0], weight)
        if high < 0:
            _mixture_high_mass(weight, parameters[i], allowed[i], spare, mass)
        else:
            _mixture_low_mass(weight, parameters[i], allowed[i], high, mass)
        total = _settle(mass, allowed[i], high)
        _fill_allowed_table(mass, total, out[i])


@_kernel
def _allowed_softmax_table(logits, allowed, highs, out):  # type: ignore[no-untyped-def]
    mass = np.empty(16, np.int64)
    for i in range(logits.shape[0]):
        high = np.int64(highs[i])
        _softmax_mass(logits[i], _largest(logits[i]), allowed[i], high, mass)
        total = _settle(mass, allowed[i], high)
        _fill_allowed_table(mass, total, out[i])


# Of either form: (n, 3, K) mixture parameters or (n, 256) logits.


Allowed = NDArray[np.uint16]
"""(n, 16): which values each sub-pixel can have."""


def intervals(
    parameters: NDArray[np.int32], values: NDArray[np.uint8], allowed: Allowed | None = None
) -> NDArray[np.float32]:
    """Parameters and (n,) values -> (n, 2 nibbles, 3): below, the symbol, above.

    Each is a frequency less one, and the three add up to 2^24 - 3.
    """
    out = np.empty((len(values), 2, 3), np.float32)
    if parameters.ndim == 3:
        if allowed is None:
            _mixture_intervals(parameters, values, out)
        else:
            _allowed_mixture_intervals(parameters, values, allowed, out)
    elif allowed is None:
        _softmax_intervals(parameters, values, out)
    else:
        _allowed_softmax_intervals(parameters, values, allowed, out)
    return out


def high_table(
    parameters: NDArray[np.int32], allowed: Allowed | None = None
) -> NDArray[np.float32]:
    """Parameters -> (n, 18) frequencies less one of the high nibbles and the guards."""
    if allowed is not None:
        return _allowed_table(parameters, allowed, np.full(len(parameters), -1, np.int32))
    out = np.empty((len(parameters), SYMBOLS), np.float32)
    if parameters.ndim == 3:
        _mixture_high_table(parameters, out)
    else:
        _softmax_table(parameters, np.zeros(len(parameters), np.int32), 16, out)
    return out


def low_table(
    parameters: NDArray[np.int32], high: NDArray[np.int32], allowed: Allowed | None = None
) -> NDArray[np.float32]:
    """The same of the low nibbles, given the high ones (n,)."""
    if allowed is not None:
        return _allowed_table(parameters, allowed, high)
    out = np.empty((len(parameters), SYMBOLS), np.float32)
    if parameters.ndim == 3:
        _mixture_low_table(parameters, high, out)
    else:
        _softmax_table(parameters, 16 * high, 1, out)
    return out


def _allowed_table(
    parameters: NDArray[np.int32], allowed: Allowed, high: NDArray[np.int32]
) -> NDArray[np.float32]:
    out = np.empty((len(parameters), SYMBOLS), np.float32)
    table = _allowed_mixture_table if parameters.ndim == 3 else _allowed_softmax_table
    table(parameters, allowed, high, out)
    return out


def symbol_bits(frequencies_less_one: NDArray[np.float32]) -> NDArray[np.float64]:
    """Intervals (..., 3) -> the theoretical length in bits of each symbol (...) coded with them."""
    frequency = frequencies_less_one[..., 1].astype(np.float64) + 1
    bits: NDArray[np.float64] = TOTAL_BITS - np.log2(frequency)
    return bits


def ideal_bits(frequencies_less_one: NDArray[np.float32]) -> float:
    """The theoretical length in bits of all the symbols coded with these intervals (..., 3)."""
    return float(symbol_bits(frequencies_less_one).sum())
