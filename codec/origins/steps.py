"""Quantisation steps, from how often the coefficients of a decoded JPEG have a size.

Coefficients of samples that were rounded lie near multiples of their steps: the standard deviation
of a sample's rounding is 12^-1/2, and the transform keeps it. Sizes are counted in eighths. What
they say for a step is a sum of logarithms of likelihoods, beside that where all sizes near to a
coefficient are as likely.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native
from pixelzip.codec.jpeg import quality

Steps = NDArray[np.uint16]
"""(64,), row by row."""
Counts = NDArray[np.float32]
"""(64, SIZES): how often the coefficients of each frequency have a size."""

SIZES = 8192
WINDOW_SIZES = 512
WINDOW_STEPS = 48

_NOISE = 0.3
"""The standard deviation of a coefficient, and a little."""
_STRAY = 0.02
"""The share of coefficients that are wherever they like."""
_FAR = 1.2
"""A coefficient that is farther from a multiple of its step is none."""
_NEVER = -200.0
"""What such a one says, where there are no strays."""
_ZERO = 12
"""Eighths: smaller ones may all be zeros, and then say nothing of the step."""
_SHARES = (1.0, 0.98, 0.95, 0.9, 0.8, 0.6, 0.33)
_SMALL = 24.0
"""What has to speak for steps of 1 and 2 among sizes that may all be zeros."""
_SURPRISE = 6.0
"""How much less likely a step is that the likely table does not have, as a logarithm."""
_SURER = 5.0
"""So many times as unlikely, where most steps are those of the table."""
_FEW = 4
"""Fewer coefficients that aren't zero don't say much."""
_MISFIT = 40.0
"""What a block says against steps that it doesn't go with, at most."""
_COARSE = 1.5
"""The least mean of steps that leave out many sizes."""
_HINT = 20.0
"""How much likelier a table is that another component hints at."""


class Like(NamedTuple):
    """Another component: its steps, which of them are used, and whether it lies transposed."""

    steps: Steps
    used: NDArray[np.bool_]
    transposed: bool


def likely(counts: Counts, like: Like | None) -> tuple[Steps, Steps]:
    """The likeliest steps, and the known table that is the likeliest.

    The steps are those of the table where sizes don't say anything else.
    """
    evidence = _evidence(counts)
    family, hints = _family(like)
    fit = evidence[np.arange(64), family.astype(np.int64) - 1].sum(1) + hints
    table = family[fit.argmax()]
    steps = (evidence + _departures(table, _SURPRISE)).argmax(1) + 1
    if _goes_with(counts, steps, table):
        steps = (evidence + _departures(table, _SURPRISE * _SURER)).argmax(1) + 1
    else:
        # A table that is not known: something like it says what little else does.
        known = _says_something(counts)
        apart = np.abs(np.log(family[:, known] / steps[known])).sum(1)
        steps = (evidence + _departures(family[apart.argmin()], _SURPRISE)).argmax(1) + 1
    found: Steps = steps.astype(np.uint16)
    return found, table


def robust(sizes: NDArray[np.int32], like: Like | None, steps: Steps) -> Steps | None:
    """The known table that goes best with blocks' sizes (n, 64), if better than ``steps``.

    A block with a stray does not go with a table, whatever else there is in it. So neither can a
    caption hide the steps, nor what was quantised before. None where steps of 1 are as good.
    """
    library = native.coding()
    assert library is not None
    family, hints = _family(like)
    every = np.concatenate([family, steps[None]])
    gained = np.empty((len(every), len(sizes)), np.float32)
    gains, sizes = strict_gains(), np.minimum(sizes, SIZES - 1)
    library.blocks_gains(*gains, sizes, len(sizes), every, len(every), -_MISFIT, gained)
    fit = gained.sum(1)
    fit[:-1] += hints
    best: Steps = every[int(fit.argmax())]
    return None if np.array_equal(best, steps) or best.mean() <= _COARSE else best


def finer(counts: Counts, steps: Steps, table: Steps) -> Steps:
    """The steps themselves where what was quantised twice has hidden them.

    Most of its coefficients are multiples of another step, and those that are not tell the truth.
    """
    magnitude, found, gains = np.arange(SIZES) / 8, steps.copy(), log_gains(SIZES, 255)
    is_known = _goes_with(counts, steps, table)
    for k, step in enumerate(steps.astype(np.int64)):
        if is_known and step % table[k] == 0:
            found[k] = table[k]
            continue
        off = np.abs(magnitude - np.rint(magnitude / step) * step)
        stray = np.flatnonzero((counts[k] > 0) & (off > _FAR))
        others = counts[k, stray] @ gains[stray]
        others = np.where(step % np.arange(1, 256), 0, others)
        if others.max() > _SURPRISE:
            found[k] = others.argmax() + 1
    return found


@cache
def window_gains() -> NDArray[np.int16]:
    """(WINDOW_SIZES, WINDOW_STEPS): what a size says for a step from 1 on, in 16ths."""
    gains = np.rint(16 * log_gains(WINDOW_SIZES, WINDOW_STEPS)).astype(np.int16)
    gains[:4] = np.minimum(gains[:4], 0)  # a smooth plane has small ones everywhere
    gains[:3] = 0
    return gains


@cache
def log_gains(sizes: int, steps: int) -> NDArray[np.float32]:
    """(sizes, steps): what a size says for a step from 1 on."""
    gains = np.empty((sizes, steps), np.float32)
    for step in range(1, steps + 1):
        # A multiple of a step is like any other, but for 0, and for what is halfway between.
        magnitude = np.arange(min(sizes, 24 * step)) / 8
        number = np.rint(magnitude / step)
        off = magnitude - number * step
        density = sum(_bell(off + k * step) for k in (-1, 0, 1))
        found = _log(density * np.where(number == 0, min(step, 3), step))
        gains[: len(found), step - 1] = found
        for start in range(24 * step, sizes, 16 * step):
            again = found[8 * step : 8 * step + sizes - start]
            gains[start : start + len(again), step - 1] = again
    return gains


@cache
def strict_gains() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(SIZES, 255): the same where there are no strays; and the largest one for each size."""
    step = np.arange(8, 8 * 256, 8, dtype=np.int16)
    beyond = np.arange(SIZES, dtype=np.int16)[:, None] % step
    gains = log_gains(SIZES, 255).copy()
    gains[np.minimum(beyond, step - beyond) > 8 * _FAR] = _NEVER
    return gains, gains.max(1)


def _departures(table: Steps, surprise: float) -> NDArray[np.float64]:
    """(64, 255): what it says against a step that it is not that of a table."""
    prior = -surprise - np.abs(np.log(np.arange(1, 256) / table[:, None]))
    np.put_along_axis(prior, table[:, None].astype(np.int64) - 1, 0, 1)
    return prior


def _says_something(counts: Counts) -> NDArray[np.bool_]:
    """Which frequencies have coefficients that are not zero."""
    some: NDArray[np.bool_] = counts[:, _ZERO:].sum(1) > _FEW
    return some


def _goes_with(counts: Counts, steps: NDArray[Any], table: Steps) -> bool:
    """Whether most of the frequencies that say something have their step from the table."""
    used = _says_something(counts)
    return not used.any() or bool((steps == table)[used].mean() > 0.5)


def _evidence(counts: Counts) -> NDArray[np.float64]:
    """(64, 255): what the sizes of each frequency say for a step from 1 on."""
    occur = np.flatnonzero(counts.any(0))
    beyond = occur[occur >= _ZERO]
    evidence = (counts[:, beyond] @ log_gains(SIZES, 255)[beyond]).astype(np.float64)
    magnitude, small = np.arange(_ZERO) / 8, counts[:, :_ZERO]
    # About 0 there are as many zeros, and as many of 1 and -1, as fits best; but noise has tails.
    best: dict[int, NDArray[np.float64]] = {}
    for step, shares in ((1, _SHARES), (2, _SHARES), (3, (1.0,))):
        beside = _bell(magnitude - step) + _bell(magnitude + step)
        gains = [_log(3 * (p * _bell(magnitude) + (1 - p) / 2 * beside)) for p in shares]
        best[step] = (small @ np.array(gains).T).max(axis=1, keepdims=True)
    for step in (1, 2):
        evidence[:, step - 1 : step] += np.maximum(best[step] - best[3] - _SMALL, 0) / 2
    return evidence


def _family(like: Like | None) -> tuple[Steps, NDArray[np.float64]]:
    """Tables (n, 64) that are known, lying both ways, and what speaks for them beforehand (n,)."""
    upright = quality.tables()
    family = np.stack([upright, upright.reshape(-1, 8, 8).swapaxes(1, 2).reshape(-1, 64)])
    hints = np.zeros(family.shape[:2])
    if like is not None:
        same = family[int(like.transposed), :100] == like.steps
        hints[int(like.transposed), 100 + int((same & like.used).sum(1).argmax())] = _HINT
        family = np.concatenate([family, np.broadcast_to(like.steps, (2, 1, 64))], axis=1)
        hints = np.concatenate([hints, np.full((2, 1), _HINT)], axis=1)
    return family.reshape(-1, 64), hints.ravel()


@np.errstate(under="ignore")  # whatever the program around us wants of it
def _bell(off: NDArray[np.float64]) -> NDArray[np.float64]:
    density: NDArray[np.float64] = np.exp(-0.5 * (off / _NOISE) ** 2) / _NOISE
    return density / float(np.sqrt(2 * np.pi))


def _log(likelihood: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithm: NDArray[np.float64] = np.log((1 - _STRAY) * likelihood + _STRAY)
    return logarithm
