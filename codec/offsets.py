"""Offsets: what a tile adds to the parameters of its mixtures, fitted to it and sent along.

A network is the same for all pictures, and none is quite like those that it was trained on: on one
all mixtures are a little too wide, on another the second component is hardly ever right. An
encoder, which knows the tile, finds for each channel what to add to the K logits, means and
log-scales of all of its sub-pixels so that the values become likelier, and sends it in 3 K bytes.
It is the last layer's bias that is fitted. A decoder adds it, which takes no time.

The fit is maximum likelihood: a few steps of Fisher's method of scoring, with the gradients' own
products for the information (E. Berndt, B. Hall, R. Hall, J. Hausman: *Estimation and inference in
nonlinear structural models*, 1974), on a part of the pixels. It is for encoders alone, and of
doubles; but all machines find the same offsets.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import cdf, native
from pixelzip.codec.errors import FormatError
from pixelzip.codec.workers import Map

Offsets = NDArray[np.int8]
"""(channels, 3, K): in 1/16 nat of logits, 1/16 of a value of means, 1/32 nat of log-scales."""

SAMPLES = 8192
"""About as many pixels of a tile are fitted to."""
MOST_COMPONENTS = 16
_UNITS = np.array([16, 16, 1], np.int32)[:, None]
_PER_ONE = (16.0, 16.0, 32.0)
"""Units of offsets for a nat or value."""
_DOUBTS = (11.0, 4.0, 11.0)
"""The prior's precision: deviations of 0.3 nat, 0.5 values, 0.3 nat."""


def shifts(offsets: Offsets) -> NDArray[np.int32]:
    """(channels, 3, K): what they add to a network's integers (`pixelzip.codec.cdf`)."""
    return offsets.astype(np.int32) * _UNITS


def fit(
    parameters: NDArray[np.int32], values: NDArray[np.uint8], parallel: Map = map
) -> Offsets:
    """The offsets for (n, channels, 3, K) mixtures of (n, channels) values: some of a tile's.

    There are at most `MOST_COMPONENTS`. Channels may go side by side.
    """

    def of(channel: int) -> Offsets:
        own = np.ascontiguousarray(parameters[:, channel], np.int32)
        return _fit(own, np.ascontiguousarray(values[:, channel]))

    return np.stack(list(parallel(of, range(values.shape[1]))))


def gain(parameters: NDArray[np.int32], values: NDArray[np.uint8], offsets: Offsets) -> float:
    """How many bits the offsets save of what they were fitted to, if less is to be expected of
    what they were not: as many nats as there are offsets are luck (H. Akaike, 1974)."""
    moved = parameters + shifts(offsets)
    shape = (-1, *parameters.shape[2:])
    before, after = (
        float(cdf.symbol_bits(cdf.intervals(some.reshape(shape), values.reshape(-1))).sum())
        for some in (parameters, moved)
    )
    return before - after - offsets.size / math.log(2)


def to_bytes(offsets: Offsets) -> bytes:
    """How many components, and the offsets."""
    return bytes([offsets.shape[2]]) + offsets.tobytes()


def from_bytes(payload: bytes, channels: int) -> tuple[Offsets, bytes]:
    """The offsets at the beginning of a payload, and what follows. FormatError if damaged."""
    components = payload[0] if payload else 0
    end = 1 + 3 * channels * components
    if not components or len(payload) < end:
        raise FormatError("the file is damaged: a tile's offsets are not all there")
    found = np.frombuffer(payload[1:end], np.int8).reshape(channels, 3, components)
    return found, payload[end:]


@cache
def _library() -> ctypes.CDLL | None:
    """The compiled fit, None where there is none."""
    library = native.coding()
    if library is None or not hasattr(library, "offsets_fit"):
        return None
    native.fill_tables(library.offsets_tables)
    library.offsets_fit.restype = None
    library.offsets_fit.argtypes = [
        *(native.array(np.int32), ctypes.c_int64, ctypes.c_int),
        *(native.array(np.uint8), native.array(np.int8)),
    ]
    return library


def _fit(parameters: NDArray[np.int32], values: NDArray[np.uint8]) -> Offsets:
    """(3, K), for (n, 3, K) mixtures of (n) values."""
    library, components = _library(), parameters.shape[2]
    out = np.zeros((3, components), np.int8)
    if library is not None:
        library.offsets_fit(parameters, len(values), components, values, out)
        return out
    from pixelzip.codec.loops import offsets as loops

    unknowns, size = 3 * components, np.repeat(_PER_ONE, components)
    found, doubt = np.zeros(unknowns), np.repeat(_DOUBTS, components)
    for _ in range(loops.ROUNDS):
        loops.improve(
            parameters, values, shifts(out), doubt, found,
            np.zeros((unknowns, unknowns)), np.zeros(unknowns),
            np.zeros((3, components), np.int32), np.zeros(components, np.int64),
            np.zeros(unknowns), np.zeros(components),
        )  # fmt: skip
        whole = np.trunc(np.clip(found * size, -127, 127) + 127.5).astype(np.int64) - 127
        out[:] = whole.reshape(3, components)
    return out
