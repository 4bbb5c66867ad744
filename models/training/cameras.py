"""What a digital camera does to a crop: light on a mosaic of colours, and software that fills it.

A clean crop is turned back into light, its colours are sampled in Bayer's pattern with a sensor's
noise, and developed: by one of three published demosaicing methods, denoised, sharpened and put
through the usual curve. What neighbouring pixels then tell of each other is what cameras leave in
their pictures, and no shrinking does.

* bilinear interpolation;
* H. S. Malvar, L. He, R. Cutler: *High-quality linear interpolation for demosaicing of
  Bayer-patterned color images*, ICASSP 2004;
* J. F. Hamilton, J. E. Adams: *Adaptive color plane interpolation*, US patent 5,629,734, 1997:
  green along the direction in which it changes less, then differences of colour.

Arrays are (height, width) or (height, width, 3) floats, light from 0 to 1. Edges wrap around: crops
come with a margin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]

GAMMA = 2.2
NOISE = (1e-5, 3e-3)
"""Of a sensor: the variance of full light, which falls with the light."""
READ_NOISE = 2e-3
"""The largest deviation in the dark."""
WHITE = (1.2, 2.4)
"""How much less a sensor sees of red and of blue than of green."""
DENOISED_SHARE = 0.5


def _weights(*rows: Sequence[float], unit: int) -> Floats:
    return np.array(rows, np.float32) / np.float32(unit)


_CROSS = _weights([0, 1, 0], [1, 4, 1], [0, 1, 0], unit=4)
_TENT = _weights([1, 2, 1], [2, 4, 2], [1, 2, 1], unit=4)
_BLUR = _weights([1, 2, 1], [2, 4, 2], [1, 2, 1], unit=16)
# Malvar, He and Cutler's filters, figure 2: green where red or blue was; red where green was, in a
# row of red ones and (turned) in one of blue ones; red where blue was. Likewise for blue.
_GREEN = _weights(
    [0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0], unit=8
)
_BESIDE = _weights(
    [0, 0, 1, 0, 0], [0, -2, 0, -2, 0], [-2, 8, 10, 8, -2], [0, -2, 0, -2, 0], [0, 0, 1, 0, 0],
    unit=16,
)  # fmt: skip
_ACROSS = _weights(
    [0, 0, -3, 0, 0], [0, 4, 0, 4, 0], [-3, 0, 12, 0, -3], [0, 4, 0, 4, 0], [0, 0, -3, 0, 0],
    unit=16,
)  # fmt: skip


def photographed(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A crop (height, width, 3), both even, as a camera might have delivered it."""
    white = np.array([rng.uniform(*WHITE), 1, rng.uniform(*WHITE)], np.float32)
    light = np.asarray((pixels / 255) ** GAMMA / white, np.float32)
    mosaic = sampled(light, int(rng.integers(4)))
    noise = np.exp(rng.uniform(*np.log(NOISE)))
    dark = rng.uniform(0, READ_NOISE)
    deviation = np.sqrt(noise * np.where(np.isnan(mosaic), 0, mosaic) + dark**2)
    mosaic += deviation * rng.standard_normal(mosaic.shape, np.float32)
    method = METHODS[int(rng.integers(len(METHODS)))]
    picture = np.clip(method(mosaic) * white, 0, 1) ** (1 / GAMMA)
    if rng.random() < DENOISED_SHARE:
        picture = denoised(picture, rng.uniform(0.01, 0.06), rng.uniform(1, 3))
    picture += rng.uniform(0, 1.2) * (picture - blurred(picture))
    return np.asarray(np.clip(np.rint(255 * picture), 0, 255), np.uint8)


def sampled(light: Floats, phase: int) -> Floats:
    """(height, width, 3) light -> what the sensor sees of it: NaN where a pixel has no such colour.

    ``phase``: where in its 2x2 pixels the pattern begins; red, green / green, blue at 0.
    """
    rows, columns = np.indices(light.shape[:2])
    rows, columns = (rows + (phase >> 1)) % 2, (columns + phase % 2) % 2
    seen = np.stack([(rows + columns == 0), rows != columns, (rows + columns == 2)], -1)
    return np.where(seen, light, np.float32(np.nan)).astype(np.float32)


def bilinear(mosaic: Floats) -> Floats:
    """Means of the nearest samples of each colour."""
    red, green, blue = np.moveaxis(np.nan_to_num(mosaic), 2, 0)
    return np.stack([_filter(red, _TENT), _filter(green, _CROSS), _filter(blue, _TENT)], -1)


def malvar(mosaic: Floats) -> Floats:
    """Malvar, He and Cutler's linear filters: means, corrected by the colour that is known."""
    known = ~np.isnan(mosaic)
    plain = np.nan_to_num(mosaic).sum(2)
    green = np.where(known[..., 1], plain, _filter(plain, _GREEN))
    beside, above, across = (_filter(plain, f) for f in (_BESIDE, _BESIDE.T, _ACROSS))
    planes = [green, green, green]
    for colour in (0, 2):
        here = known[..., colour]
        in_row = here | np.roll(here, 1, 1)  # whether the row has such samples
        planes[colour] = np.where(
            here,
            plain,
            np.where(known[..., 1], np.where(in_row, beside, above), across),
        )
    return np.stack(planes, -1)


def hamilton(mosaic: Floats) -> Floats:
    """Hamilton and Adams' green along edges, then red and blue as smooth differences from it."""
    known = ~np.isnan(mosaic)
    plain: Floats = np.nan_to_num(mosaic).sum(2)
    along = []
    for axis in (0, 1):
        one, other = np.roll(plain, 1, axis), np.roll(plain, -1, axis)
        bend = 2 * plain - np.roll(plain, 2, axis) - np.roll(plain, -2, axis)
        along.append((np.abs(one - other) + np.abs(bend), (one + other) / 2 + bend / 4))
    (down, rows), (right, columns) = along
    mean = (rows + columns) / 2
    guess = np.where(down < right, rows, np.where(right < down, columns, mean))
    green = np.where(known[..., 1], plain, guess)
    planes = [green, green, green]
    for colour in (0, 2):
        difference = np.where(known[..., colour], plain - green, 0)
        planes[colour] = green + _filter(difference, _TENT)
    return np.stack(planes, -1)


METHODS: tuple[Callable[[Floats], Floats], ...] = (bilinear, malvar, hamilton)


def denoised(picture: Floats, strength: float, colour: float) -> Floats:
    """A bilateral filter of 5x5: means of the pixels that are alike, colour ``colour`` times more.

    ``strength`` is the difference, of 1, from which on pixels are not alike.
    """
    bright = picture.mean(2, keepdims=True)
    tints = picture - bright
    filtered = []
    for planes, unlike in ((bright, strength), (tints, colour * strength)):
        total, weights = np.zeros_like(planes), np.zeros_like(bright)
        for down in range(-2, 3):
            for right in range(-2, 3):
                moved = np.roll(planes, (down, right), (0, 1))
                apart = ((moved - planes) ** 2).sum(2, keepdims=True)
                weight = np.exp(-(down**2 + right**2) / 4 - apart / (2 * unlike**2))
                total += weight * moved
                weights += weight
        filtered.append(total / weights)
    return np.asarray(filtered[0] + filtered[1], np.float32)


def blurred(picture: Floats) -> Floats:
    """By a tent of 3x3 pixels."""
    return np.stack([_filter(plane, _BLUR) for plane in np.moveaxis(picture, 2, 0)], -1)


def _filter(plane: Floats, weights: Floats) -> Floats:
    """Correlation of (height, width) with a small odd square of weights."""
    reach = len(weights) // 2
    total = np.zeros_like(plane)
    for (row, column), weight in np.ndenumerate(weights):
        if weight:
            total += weight * np.roll(plane, (reach - row, reach - column), (0, 1))
    return total
