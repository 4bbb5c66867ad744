"""Offsets and weights: what a tile adds to the parameters of its mixtures, fitted to it and sent.

A network is the same for all pictures, and none is quite like those that it was trained on: on one
all mixtures are a little too wide, on another the second component is hardly ever right, on a third
the pixel above says more than usual. An encoder, which knows the tile, finds for each channel

* *offsets*: what to add to the K logits, means and log-scales of all of its sub-pixels;
* *weights*: how far the *factors* of a sub-pixel, which the network names, move its means. Those of
  ``photo``'s kind are how neighbours differ from what it predicts linearly, and how earlier
  sub-pixels of the pixel differ from their centres.

Together they are biases of the last layer. They are coded in front of the pixels, as values of a
mixture of one logistic. A decoder adds them, which takes next to no time.

The fit is maximum likelihood: a few steps of Fisher's method of scoring, with the gradients' own
products for the information (E. Berndt, B. Hall, R. Hall, J. Hausman: *Estimation and inference in
nonlinear structural models*, 1974), on a part of the pixels. Weights are rounded one by one, and
those that are left make up for it (L. Babai: *On Lovász' lattice reduction and the nearest lattice
point problem*, 1986). It is for encoders alone, and of floats; but all machines find the same.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import cdf, native
from pixelzip.codec.coder import Decoder
from pixelzip.codec.conditional import Shift
from pixelzip.codec.errors import FormatError
from pixelzip.codec.workers import Map

Whole = NDArray[np.int8]
Integers = NDArray[np.int32]

SAMPLES = 1 << 13
"""About as many pixels of a tile are fitted to, and tell what that is good for."""
MOST_COMPONENTS, MOST_FACTORS = 16, 80
_UNITS = np.array([16, 16, 1], np.int32)[:, None]
_PER_ONE = (16.0, 16.0, 32.0)
"""Units of offsets for a nat or value."""
_DOUBTS, _WEIGHT_DOUBT = (11.0, 4.0, 11.0), 700.0
"""The prior's precision: deviations of 0.3 nat, 0.5 values, 0.3 nat; and 0.04 of a weight."""
_ROUNDS, _WEIGHED = 3, 2
_COARSE = 4
"""Of so many pixels that are fitted to, the first round looks at one."""
_MOVED_BITS, _MOST_MOVED = 12, 1 << 26
_MOST_STEP = 12

_UNWEIGHED = 255
"""In place of a step: a channel has no weights."""


@dataclass(frozen=True)
class Fit:
    """What is fitted to a tile of one or three channels.

    ``offsets`` (channels, 3, K) are in 1/16 nat of logits, 1/16 of a value of means, 1/32 nat of
    log-scales. ``weights`` are those of each channel, (factors) or (0), in units of two to the
    power of its step, in 1/4096.
    """

    offsets: Whole
    weights: tuple[Whole, ...]
    steps: tuple[int, ...]

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return self.offsets.size + sum(map(len, self.weights))

    def shift(self, shared: int) -> Shift:
        """What it adds to the integers of a network with so many factors of the first channel."""
        channels = len(self.offsets)
        weights = np.zeros((channels, shared + channels), np.int32)
        for own, numbers, step in zip(weights, self.weights, self.steps, strict=True):
            own[: len(numbers)] = numbers.astype(np.int32) << (step if len(numbers) else 0)
        return Shift(self.offsets.astype(np.int32) * _UNITS, weights)


def fit(
    parameters: Integers,
    values: NDArray[np.uint8],
    factors: Integers,
    every: int = 1,
    *,
    weighed: bool = True,
    parallel: Map = map,
) -> Fit:
    """The fit for (n, channels, 3, K) mixtures of (n, channels) values, by one in ``every`` pixels.

    There are at most `MOST_COMPONENTS`. ``factors`` are (n, shared + channels), at most
    `MOST_FACTORS`, of which channel c has the first shared + c; they get weights if they shall be
    ``weighed``. Channels may go side by side.
    """
    channels = values.shape[1]
    # Side by side, since they are read again and again.
    mixtures = np.ascontiguousarray(parameters[::every])
    some, seen = np.ascontiguousarray(values[::every]), np.ascontiguousarray(factors[::every])

    def of(channel: int) -> tuple[Whole, Whole, int]:
        count = factors.shape[1] - channels + channel if weighed else 0
        return _fit(mixtures, some, seen, channel, count, every)

    offsets, weights, steps = zip(*parallel(of, range(channels)), strict=True)
    return Fit(np.stack(offsets), weights, steps)


def gain(parameters: Integers, values: NDArray[np.uint8], factors: Integers, shift: Shift) -> float:
    """How many bits a shift saves of these sub-pixels, as `fit` takes them."""
    moved = parameters.copy()
    add(moved, factors, shift)
    shape = (-1, *parameters.shape[2:])
    before, after = (
        float(cdf.symbol_bits(cdf.intervals(some.reshape(shape), values.reshape(-1))).sum())
        for some in (parameters, moved)
    )
    return before - after


def luck(found: Fit) -> float:
    """How many of the bits that it saves of what it was fitted to it will not save elsewhere.

    As many nats as there are numbers are luck (H. Akaike, 1974).
    """
    return found.count / math.log(2)


def add(parameters: Integers, factors: Integers, shift: Shift) -> None:
    """Add a shift to (n, channels, 3, K) mixtures, in place; ``factors`` as `fit` takes them.

    FormatError if it is of other mixtures.
    """
    n, channels, _, components = parameters.shape
    if shift.mixtures.shape[2] != components:
        raise FormatError("the file is damaged: its network does not go with its method")
    library = native.coding()
    if library is not None:
        library.offsets_add(
            parameters, n, channels, components, np.ascontiguousarray(factors),
            factors.shape[1] - channels, shift.mixtures, shift.weights,
        )  # fmt: skip
        return
    parameters += shift.mixtures
    for channel, weights in enumerate(shift.weights):
        parameters[:, channel, 1] += moved(factors, weights)[:, None]


def moved(factors: Integers, weights: Integers) -> Integers:
    """(n): what means move by, of (n, count) factors and (count) weights or (n, count) of them."""
    total = (factors.astype(np.int64) * weights).sum(1) + (1 << (_MOVED_BITS - 1))
    found: Integers = np.clip(total >> _MOVED_BITS, -_MOST_MOVED, _MOST_MOVED).astype(np.int32)
    return found


def start(found: Fit) -> bytes:
    """How many components, and of each channel the weights' step and how large numbers are."""
    parts = [bytes([found.offsets.shape[2]])]
    for offsets, weights, step in zip(found.offsets, found.weights, found.steps, strict=True):
        sizes = np.array([_log_scale(offsets), _log_scale(weights)], np.int8)
        parts.append(bytes([step if len(weights) else _UNWEIGHED]) + sizes.tobytes())
    return b"".join(parts)


def intervals(found: Fit) -> NDArray[np.float32]:
    """(nibbles, 3) intervals of the numbers, as `pixelzip.codec.coder` wants them."""
    numbers, sizes = [], []
    for offsets, weights in zip(found.offsets, found.weights, strict=True):
        for some in (offsets.reshape(-1), weights):
            numbers.append(some)
            sizes += [_log_scale(some)] * len(some)
    values = (np.concatenate(numbers).astype(np.int32) + 128).astype(np.uint8)
    coded = cdf.intervals(_logistics(sizes), values)
    return coded.transpose(1, 0, 2).reshape(-1, 3)


def taken(found: Fit) -> float:
    """The theoretical length in bits of both."""
    return 8 * len(start(found)) + cdf.ideal_bits(intervals(found))


def read(payload: bytes, channels: int, shared: int | None) -> tuple[Fit, Decoder]:
    """A payload's fit, and what decodes the rest. FormatError if damaged.

    ``shared`` are the factors of the first channel, None if a network names none.
    """
    components = payload[0] if payload else 0
    each, end = 3 * components, 1 + 3 * channels
    if not components or len(payload) < end:
        raise FormatError("the file is damaged: a tile's offsets are not all there")
    head, decoder = np.frombuffer(payload[1:end], np.int8), Decoder(payload[end:])
    sizes: list[int] = []
    counts, steps = [], []
    for channel, (step, *log_scales) in enumerate(head.reshape(channels, 3).tolist()):
        step &= 255
        if step != _UNWEIGHED and (step > _MOST_STEP or shared is None):
            raise FormatError("the file is damaged: its network does not go with its method")
        count = 0 if step == _UNWEIGHED else (shared or 0) + channel
        counts.append(count)
        steps.append(step)
        sizes += [log_scales[0]] * each + [log_scales[1]] * count
    logistics = _logistics(sizes)
    high = decoder.decode(cdf.high_table(logistics))
    low = decoder.decode(cdf.low_table(logistics, high))
    numbers = (16 * high + low - 128).astype(np.int8)
    parts = np.split(numbers, np.cumsum([each + count for count in counts])[:-1])
    offsets = np.stack([part[:each].reshape(3, components) for part in parts])
    return Fit(offsets, tuple(part[each:] for part in parts), tuple(steps)), decoder


def _log_scale(numbers: Whole) -> int:
    """That of the logistic which they are likeliest of, nearly: in 1/32 nat."""
    size = float(np.abs(numbers.astype(np.int32)).mean()) if numbers.size else 0.0
    return min(round(32 * math.log(max(size, 0.2) / (2 * math.log(2)))), 127)


def _logistics(log_scales: Sequence[int]) -> Integers:
    """(n, 3, 1) mixtures of a number and 128."""
    found = np.zeros((len(log_scales), 3, 1), np.int32)
    found[:, 1, 0], found[:, 2, 0] = 128 * cdf.MEAN_UNIT, log_scales
    return found


@native.once
def _library() -> ctypes.CDLL | None:
    """The compiled fit, None where there is none."""
    library = native.coding()
    if library is None or not hasattr(library, "offsets_fit"):
        return None
    native.fill_tables(library.offsets_tables)
    integers, octets, numbers = (native.array(kind) for kind in (np.int32, np.uint8, np.int8))
    library.offsets_fit.restype = ctypes.c_int
    size, number = ctypes.c_int64, ctypes.c_int
    library.offsets_fit.argtypes = [
        *(integers, size, number, number, number, octets, integers, number, number, size),
        *(numbers, numbers),
    ]
    return library


def _fit(
    parameters: Integers,
    values: NDArray[np.uint8],
    factors: Integers,
    channel: int,
    count: int,
    every: int,
) -> tuple[Whole, Whole, int]:
    """Offsets (3, K) of a channel, the weights of its first factors, and their step."""
    library, (n, channels, _, components) = _library(), parameters.shape
    whole = np.zeros(3 * components + count, np.int8)
    offsets, weights = whole[: 3 * components].reshape(3, components), whole[3 * components :]
    if library is not None:
        step = library.offsets_fit(
            parameters, n, channels, channel, components, values, factors, factors.shape[1], count,
            every, offsets, weights,
        )  # fmt: skip
        if step < -1:
            raise MemoryError
        return offsets, weights, max(0, step)
    from pixelzip.codec.loops import offsets as loops

    some = parameters[:, channel], values[:, channel], factors[:, :count]
    own = [np.ascontiguousarray(each) for each in some]
    per_one = np.repeat(_PER_ONE, components)
    doubt = np.concatenate([np.repeat(_DOUBTS, components), np.full(count, _WEIGHT_DOUBT)])
    found, weights_found, step = np.zeros(len(whole)), np.zeros(count, np.int32), -1
    for number in range(_ROUNDS):
        m = len(whole) if number < _WEIGHED else 3 * components
        information, slope = np.zeros((m, m)), np.zeros(m)
        shift = offsets.astype(np.int32) * _UNITS
        seen = [each[:: 1 if number else _COARSE] for each in own]
        loops.look(*seen, shift, weights_found, information, slope)
        information[np.diag_indices(m)] += doubt[:m]
        slope -= doubt[:m] * found[:m]
        loops.eliminate(information, slope)
        rounding = number == _WEIGHED - 1 and count > 0
        if rounding:
            known = 0.0
            for one in np.diag(information)[3 * components :]:  # one after the other
                known += float(one)
            step = _step_for(known / count * every)
        loops.improve(
            information, slope, step if rounding else -1, per_one, found, whole, weights_found
        )
    return offsets, weights, max(0, step)


def _step_for(information: float) -> int:
    """The largest step, as a power of two in 1/4096, whose rounding errors take less than finer
    numbers would, of weights with this information on each."""
    steps = range(1, _MOST_STEP + 1)
    return max([0, *(step for step in steps if information * 4.0 ** (step - 12) <= 24)])
