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

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native
from pixelzip.codec.tables import (
    EXP,
    INVERSE_SCALE,
    LOG_SCALE_MAX,
    LOG_SCALE_MIN,
    LOGIT_UNIT,
    MEAN_LIMIT,
    MEAN_UNIT,
    SCALE_UNIT,
    SIGMOID,
    SYMBOLS,
    TOTAL_BITS,
)

__all__ = [
    "EXP", "INVERSE_SCALE", "LOGIT_UNIT", "LOG_SCALE_MAX", "LOG_SCALE_MIN", "MEAN_LIMIT",
    "MEAN_UNIT", "SCALE_UNIT", "SIGMOID", "SYMBOLS", "TOTAL_BITS",
]  # fmt: skip


def _loops() -> Any:
    from pixelzip.codec.loops import frequencies  # slow to load: where nothing is compiled

    return frequencies


def _masked() -> Any:
    from pixelzip.codec.loops import masked  # likewise

    return masked


# Of either form: (n, 3, K) mixture parameters or (n, 256) logits.


Allowed = NDArray[np.uint16]
"""(n, 16): which values each sub-pixel can have."""


def intervals(
    parameters: NDArray[np.int32], values: NDArray[np.uint8], allowed: Allowed | None = None
) -> NDArray[np.float32]:
    """Parameters and (n,) values -> (n, 2 nibbles, 3): below, the symbol, above.

    Each is a frequency less one, and the three add up to 2^24 - 3.
    """
    n, mixture, library = len(values), parameters.ndim == 3, native.coding()
    out = np.empty((n, 2, 3), np.float32)
    parameters = np.ascontiguousarray(parameters, np.int32)
    values = np.ascontiguousarray(values, np.uint8)
    if library is None:
        loops = _loops() if allowed is None else _masked()
        fill = loops.mixture_intervals if mixture else loops.softmax_intervals
        fill(parameters, values, *([] if allowed is None else [allowed]), out)
        return out
    components = [parameters.shape[2]] if mixture else []
    if allowed is None:
        fill = library.mixture_intervals if mixture else library.softmax_intervals
        fill(parameters, n, *components, values, out)
    else:
        fill = library.masked_mixture_intervals if mixture else library.masked_softmax_intervals
        fill(parameters, n, *components, values, np.ascontiguousarray(allowed), out)
    return out


def high_table(
    parameters: NDArray[np.int32], allowed: Allowed | None = None
) -> NDArray[np.float32]:
    """Parameters -> (n, 18) frequencies less one of the high nibbles and the guards."""
    return _table(parameters, None) if allowed is None else _masked_table(parameters, allowed, None)


def low_table(
    parameters: NDArray[np.int32], high: NDArray[np.int32], allowed: Allowed | None = None
) -> NDArray[np.float32]:
    """The same of the low nibbles, given the high ones (n,)."""
    return _table(parameters, high) if allowed is None else _masked_table(parameters, allowed, high)


def _table(parameters: NDArray[np.int32], high: NDArray[np.int32] | None) -> NDArray[np.float32]:
    n, mixture, library = len(parameters), parameters.ndim == 3, native.coding()
    out = np.empty((n, SYMBOLS), np.float32)
    parameters = np.ascontiguousarray(parameters, np.int32)
    high = None if high is None else np.ascontiguousarray(high, np.int32)
    if library is not None and mixture:
        library.mixture_tables(parameters, n, parameters.shape[2], high, out)
    elif library is not None:
        library.softmax_tables(parameters, n, high, out)
    elif mixture:
        _loops().mixture_table(parameters, np.full(n, -1, np.int32) if high is None else high, out)
    elif high is None:
        _loops().softmax_table(parameters, np.zeros(n, np.int32), 16, out)
    else:
        _loops().softmax_table(parameters, 16 * high, 1, out)
    return out


def _masked_table(
    parameters: NDArray[np.int32], allowed: Allowed, high: NDArray[np.int32] | None
) -> NDArray[np.float32]:
    n, mixture, library = len(parameters), parameters.ndim == 3, native.coding()
    out = np.empty((n, SYMBOLS), np.float32)
    parameters = np.ascontiguousarray(parameters, np.int32)
    allowed = np.ascontiguousarray(allowed)
    if library is None:
        masked = _masked()
        fill = masked.mixture_table if mixture else masked.softmax_table
        fill(parameters, allowed, np.full(n, -1, np.int32) if high is None else high, out)
        return out
    high = None if high is None else np.ascontiguousarray(high, np.int32)
    if mixture:
        library.masked_mixture_tables(parameters, n, parameters.shape[2], high, allowed, out)
    else:
        library.masked_softmax_tables(parameters, n, high, allowed, out)
    return out


def symbol_bits(frequencies_less_one: NDArray[np.float32]) -> NDArray[np.float64]:
    """Intervals (..., 3) -> the theoretical length in bits of each symbol (...) coded with them."""
    frequency = frequencies_less_one[..., 1].astype(np.float64) + 1
    bits: NDArray[np.float64] = TOTAL_BITS - np.log2(frequency)
    return bits


def ideal_bits(frequencies_less_one: NDArray[np.float32]) -> float:
    """The theoretical length in bits of all the symbols coded with these intervals (..., 3)."""
    return float(symbol_bits(frequencies_less_one).sum())
