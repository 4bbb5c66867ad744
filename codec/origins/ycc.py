"""Pixels that were computed from luma and two chroma planes: decoded JPEG, PhotoCD, WebP, video.

Parameters are three bytes: the number of the conversion (`conversions`), the number of the rule by
which chroma was stretched to the picture's size (`upsampling`), and how the chroma samples overhang
the picture: overhangs before the rows, after the rows, before the columns, after the columns, in
two bits each, the first in the lowest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import native
from pixelzip.codec.errors import FormatError
from pixelzip.codec.origins import conversions, downsampling, recovery
from pixelzip.codec.origins.blocks import Blocks
from pixelzip.codec.origins.conversions import Conversion
from pixelzip.codec.origins.downsampling import Floats, Mask, fill
from pixelzip.codec.origins.origin import Found, Samples, strips
from pixelzip.codec.origins.upsampling import RULES, Extent, Upsampling, extents, upsample
from pixelzip.codec.picture import Box, Bytes, Plane, PlaneLayout
from pixelzip.codec.workers import Map

NUMBER = 1

_LEAST_COLOURS = 24
"""So many different colours have to be seen before anything is concluded from them."""

_COVERED = 0.85
"""The least share of them that a conversion has to explain. By chance it is 0.1 to 0.25."""

_FEW, _HOPELESS = 48, 0.4
"""If less than this share of so few of them is explained, there is nothing to find."""

_MOVES = 40
"""So many moves of a sample are tried where pixels are clipped."""

_CONTRADICTED = 0.02
"""Where more of the known pixels contradict halved chroma, it is kept at full size."""

_SHARE = 1 << 17
"""So many pixels are inverted by one thread."""

_STRIDE = 2_654_435_761
"""A prime, so that counting by it visits all columns; and not near a multiple of a round number,
so that it does not begin with a few rows."""

_MARGIN = 16
"""So many rows of samples beyond a strip are looked at, and found again in the next one."""


def find(pixels: Samples, parallel: Map = map) -> Found | None:
    """(height, width, 3) uint8 -> the planes that they were computed from, if they were.

    A few hundred pixels decide whether it is worth looking at all of them.
    """
    if pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        return None
    number = _conversion_of(pixels)
    if number is None:
        return None
    conversion = conversions.conversion(number)
    luma, chroma, known, clipped = _inverted(conversion, pixels, parallel)
    choice = downsampling.choose(chroma, known, parallel)
    shrink = partial(_shrink, conversion, pixels, chroma, known, clipped, parallel=parallel)
    shrunk = shrink(choice, _CONTRADICTED * known.sum())
    if shrunk is None:  # a part of the picture looked stretched, the whole is not
        choice = (0, Extent(0, 0), Extent(0, 0))
        shrunk = shrink(choice, known.size)
        assert shrunk is not None
    samples, stretched, right = shrunk
    rule, rows, columns = choice
    known &= right

    def complete(part: slice) -> None:
        parts = [plane[part] for plane in stretched]
        luma[part] = _luma(conversion, pixels[part], luma[part], known[part], parts)

    list(parallel(complete, list(strips(*known.shape))))
    step, phase = RULES[rule].steps, (rows.before, columns.before)
    found: tuple[Blocks | None, ...] = ()
    if native.coding() is not None:  # which codes coefficients
        certain = _certain(known, choice)
        picture = recovery.Picture(pixels, conversion, choice)
        chroma_planes = (recovery.Known(plane, certain) for plane in samples)
        found = recovery.find(
            picture, recovery.Known(luma, known), *chroma_planes, parallel=parallel
        )
    return Found(
        bytes((number, rule, _pack(rows, columns))),
        (
            Plane(luma[..., None], "luma"),
            *(Plane(s[..., None], "chroma", step, phase) for s in samples),
        ),
        found,
    )


def layout(parameters: bytes, shape: tuple[int, int]) -> tuple[PlaneLayout, ...]:
    """The planes of a picture of that (height, width). FormatError if find never says so."""
    _, rule, rows, columns = _parse(parameters, shape)
    chroma = PlaneLayout(
        rows.samples(shape[0], rule.rows),
        columns.samples(shape[1], rule.columns),
        1,
        "chroma",
        rule.steps,
        (rows.before, columns.before),
    )
    return (PlaneLayout(*shape, 1, "luma"), chroma, chroma)


def render(parameters: bytes, planes: Sequence[Bytes], shape: tuple[int, int]) -> Bytes:
    """Luma and chroma, (height, width, 1) uint8 by `layout` -> pixels, (height, width, 3) uint8."""
    conversion, rule, rows, columns = _parse(parameters, shape)
    y, *chroma = (plane[..., 0] for plane in planes)
    return conversion.render(y, *(upsample(c, rule, rows, columns, shape) for c in chroma))


def part(parameters: bytes, shape: tuple[int, int], box: Box) -> tuple[bytes, Box]:
    """The box and a pair of pixels more on each side, which interpolation may want to know."""
    _, rule, *overhangs = _parse(parameters, shape)
    cuts = [
        extent.cut(box[axis], box[axis] + box[axis + 2], shape[axis], stretch)
        for axis, (extent, stretch) in enumerate(
            zip(overhangs, (rule.rows, rule.columns), strict=True)
        )
    ]
    (rows, top, bottom), (columns, left, right) = cuts
    packed = bytes((*parameters[:2], _pack(rows, columns)))
    return packed, (top, left, bottom - top, right - left)


def describe(parameters: bytes) -> str:
    """What the parameters say, in words."""
    conversion, rule, _ = parameters
    chroma = {
        (1, 1): "at full size",
        (1, 2): "with half the columns",
        (2, 1): "with half the rows",
        (2, 2): "halved both ways",
    }[RULES[rule].steps]
    how = f", {RULES[rule].name}" if rule else ""
    name = conversions.conversion(conversion).name
    return f"luma and chroma, as converted by {name}; chroma {chroma}{how}"


def _inverted(
    conversion: Conversion, pixels: Bytes, parallel: Map
) -> tuple[Bytes, Bytes, Mask, Mask]:
    """Luma, both chroma planes in one array, and the pixels where they are known, or clipped."""
    height, width, _ = pixels.shape
    luma = np.empty((height, width), np.uint8)
    chroma = np.empty((2, height, width), np.uint8)
    known, clipped = np.empty((2, height, width), np.bool_)
    unexplained = np.empty((height, width), np.bool_)

    def invert(part: slice) -> None:
        some = pixels[part]
        found, fits = conversion.invert(np.ascontiguousarray(some).reshape(-1, 3))
        luma[part], chroma[0, part], chroma[1, part] = found.reshape(3, -1, width)
        clipped[part] = ((some == 0) | (some == 255)).any(2)
        known[part] = fits.reshape(-1, width)
        unexplained[part] = ~(known[part] | clipped[part])
        known[part] &= ~clipped[part]

    def leave_out(part: slice) -> None:
        above = max(0, part.start - 1)
        lonely = _lonely(unexplained[above : part.stop + 1])[part.start - above :]
        known[part] &= ~lonely[: part.stop - part.start]

    parts = list(strips(height, width, _SHARE))
    list(parallel(invert, parts))
    list(parallel(leave_out, parts))
    return luma, chroma, known, clipped


def _shrink(
    conversion: Conversion,
    pixels: Bytes,
    chroma: Bytes,
    known: Mask,
    clipped: Mask,
    choice: tuple[int, Extent, Extent],
    most: float,
    parallel: Map,
) -> tuple[list[Bytes], list[Bytes], Mask] | None:
    """Both planes' samples by a rule and its extents, what they stretch to, and where that fits.

    Strip by strip, each with something of its neighbours. None if more than ``most`` known pixels
    contradict them, as soon as that is clear: then a search takes long, and finds nothing.
    """
    number, rows, columns = choice
    rule, (height, width) = RULES[number], known.shape
    count, step = rows.samples(height, rule.rows), rule.rows.step
    samples = np.empty((2, count, columns.samples(width, rule.columns)), np.uint8)

    def search(part: slice) -> int:
        """How many pixels contradict a strip, but for those that its neighbours have a say in."""
        first, last = max(0, part.start - _MARGIN), min(count, part.stop + _MARGIN)
        own = Extent(rows.before if first == 0 else 0, rows.after if last == count else 0)
        here = slice(max(0, step * first - rows.before), min(height, step * last - rows.before))
        bounds = None
        if clipped[here].any():
            bounds = _Clipped(conversion, pixels[here], clipped[here])
        some = downsampling.shrink(
            chroma[:, here], known[here], rule, own, columns, bounds, parallel=parallel
        )
        samples[:, part] = some[:, part.start - first : part.stop - first]
        alone = (step * (part.stop - part.start), width)
        made = [upsample(s[part], rule, Extent(0, 0), columns, alone) for s in samples]
        top = step * part.start - rows.before
        inner = slice(top + step, top + alone[0] - step)
        wrong = [p[inner] != m[step : alone[0] - step] for p, m in zip(chroma, made, strict=True)]
        return int(((wrong[0] | wrong[1]) & known[inner]).sum())

    contradicted = 0
    for found in parallel(search, list(strips(count, step * width))):
        contradicted += found
        if contradicted > most:
            return None
    stretch = partial(upsample, rule=rule, rows=rows, columns=columns, shape=(height, width))
    stretched = list(parallel(stretch, samples))
    fits = (stretched[0] == chroma[0]) & (stretched[1] == chroma[1])
    if (known & ~fits).sum() > most:
        return None
    return list(samples), stretched, fits


def _certain(known: Mask, choice: tuple[int, Extent, Extent]) -> Mask:
    """The chroma samples that are the nearest ones of known pixels, and of no others."""
    rule, *overhangs = choice
    for axis, (before, after) in enumerate(overhangs):
        step = RULES[rule].steps[axis]
        pairs = np.pad(known.swapaxes(0, axis), ((before % 2, after % 2), (0, 0)), "edge")
        pairs = np.all(pairs.reshape(-1, step, pairs.shape[1]), axis=1)
        # Samples beyond an edge are the nearest ones of no pixel.
        known = np.pad(pairs, ((before // 2, after // 2), (0, 0))).swapaxes(0, axis)
    return np.ascontiguousarray(known)


def _pack(rows: Extent, columns: Extent) -> int:
    return rows.before | rows.after << 2 | columns.before << 4 | columns.after << 6


def _parse(
    parameters: bytes, shape: tuple[int, int]
) -> tuple[Conversion, Upsampling, Extent, Extent]:
    if len(parameters) != 3:
        raise FormatError("the parameters of a luma and chroma origin are not 3 bytes")
    number, rule_number, packed = parameters
    if number >= conversions.COUNT or rule_number >= len(RULES):
        raise FormatError("a conversion of luma and chroma that this version doesn't know")
    rule = RULES[rule_number]
    rows = Extent(packed & 3, packed >> 2 & 3)
    columns = Extent(packed >> 4 & 3, packed >> 6)
    if rows not in extents(shape[0], rule.rows) or columns not in extents(shape[1], rule.columns):
        raise FormatError("the chroma planes of an origin don't fit the picture")
    return conversions.conversion(number), rule, rows, columns


def _conversion_of(pixels: Bytes) -> int | None:
    """The conversion that explains most of the different colours in a sample of the pixels."""
    height, width, _ = pixels.shape
    flat = pixels.reshape(-1, 3)
    for count in (256, 2048):
        some = flat[_places(count, height * width)]
        some = some[((some > 0) & (some < 255)).all(1) & (some != some[:, :1]).any(1)]
        code = some[:, 0].astype(np.int32) << 16 | some[:, 1].astype(np.int32) << 8 | some[:, 2]
        some = some[np.unique(code, return_index=True)[1]]
        if len(some) < _LEAST_COLOURS:
            return None
        if conversions.shares(some[:: max(1, len(some) // _FEW)]).max() < _HOPELESS:
            return None
        shares = conversions.shares(some)
        best = int(np.argmax(shares))
        if shares[best] < (_COVERED if count == 2048 else _COVERED - 0.15):
            return None
    return best


def _places(count: int, area: int) -> NDArray[np.int64]:
    """So many pixels from all over a picture."""
    return np.arange(count, dtype=np.int64) * _STRIDE % area


def _lonely(unexplained: Mask) -> Mask:
    """Pixels that are explained by chance: most of those around them are not explained at all."""
    if not unexplained.any():
        return unexplained
    padded = np.pad(unexplained, 1).astype(np.uint8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    around = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return np.asarray(around >= 4)


class _Clipped:
    """What clipped pixels say of their chroma: see `downsampling.Bounds`.

    A channel that is clipped bounds luma plus its chroma term from one side, the others do from
    both. The bounds that two channels put on luma must not exclude each other.
    """

    def __init__(self, conversion: Conversion, pixels: Bytes, clipped: Mask) -> None:
        self.conversion = conversion
        luma, red, green1, green2, blue = conversion.slopes
        # The last row is luma itself, which ends at 0 and 255 and has no chroma term.
        self.slopes = np.array([[0, red], [green1, green2], [blue, 0], [0, 0]], np.float32)
        neutral = conversion.chroma_terms(*np.full((2, 1), 128, np.uint8))
        self.neutral = np.array([*neutral, [0]], np.float32)
        self.unit = np.float32(luma)
        self.black = np.float32(conversion.luma[255] - 255 * luma)
        rows, columns = np.nonzero(clipped)
        self.where = (rows, columns)
        ends = pixels[self.where] % 255 == 0
        self.kinds = ends.astype(np.uint8) @ np.array([1, 2, 4], np.uint8)
        values = pixels[self.where].astype(np.float32).T  # (3, n)
        scale = np.float32(1 << conversion.shift)
        limits = np.full((2, 1, values.shape[1]), conversion.luma[[0, 255], None, None], np.float32)
        least = np.where(values == 0, np.float32(-1e9), values * scale)
        most = np.where(values == 255, np.float32(1e9), (values + 1) * scale - 1)
        self.least = np.vstack([least, limits[0]])  # (4, n)
        self.most = np.vstack([most, limits[1]])

    @cached_property
    def moves(self) -> NDArray[np.int8]:
        """Those that a change of luma can best make up for, in the channels that are not clipped.

        If red is clipped, say, then green and blue allow a narrow valley of chroma: along it lie
        (1, -3), (2, -6) and so on. If two are clipped the third allows any move.
        """
        reach = np.mgrid[-6:7, -16:17].reshape(2, -1)
        terms = self.slopes[:3] @ reach / self.unit  # (3, moves), in steps of luma
        moves = []
        for kind in range(8):
            sure = terms[[k for k in range(3) if not kind >> k & 1]]
            apart = np.ptp(sure, axis=0) if len(sure) else 0
            rank = apart + 0.05 * np.hypot(*reach)
            moves.append(reach.T[np.argsort(rank, kind="stable")[:_MOVES]])
        return np.ascontiguousarray(moves, np.int8)

    def pull(self, chroma: Floats, which: slice) -> Floats:
        """(2, n) chroma -> the step to what the two channels that disagree most allow."""
        least, most = self.least[:, which], self.most[:, which]
        terms = self.slopes @ (chroma - 128) + self.neutral  # (4, n)
        low, high = least - terms, most - terms  # bounds on luma's term, by channel
        lowest, highest = low.argmax(0), high.argmin(0)
        each = np.arange(chroma.shape[1])
        gap = np.maximum(low[lowest, each] - high[highest, each], 0)
        normal = self.slopes[highest] - self.slopes[lowest]  # (n, 2): the gap grows along it
        step: Floats = -(gap / np.maximum((normal**2).sum(1), 1e-6) * normal.T)
        return step

    @cached_property
    def compiled(self) -> tuple[Any, ...]:
        """See `downsampling.Bounds`."""
        scale = np.array([self.black, self.unit], np.float64)
        least, most = (np.ascontiguousarray(a) for a in (self.least, self.most))
        return least, most, least.shape[1], scale, self.conversion.tables

    def gap(self, which: NDArray[np.int64], c1: Bytes, c2: Bytes) -> NDArray[np.float64]:
        """How many steps of luma the bounds of two channels are apart."""
        library = native.coding()
        if library is not None:
            out = np.empty(len(which))
            c1, c2 = (np.ascontiguousarray(chroma, np.uint8) for chroma in (c1, c2))
            library.clipped_gap(*self.compiled, which, c1, c2, len(which), out)
            return out
        low, high = np.float64(0), np.float64(255)
        for k, term in enumerate(self.conversion.chroma_terms(c1, c2)):
            offset = term + self.black
            low = np.maximum(low, np.ceil((self.least[k][which] - offset) / self.unit))
            high = np.minimum(high, np.floor((self.most[k][which] - offset) / self.unit))
        gap: NDArray[np.float64] = np.maximum(low - high, 0)
        return gap


def _luma(
    conversion: Conversion, pixels: Bytes, y: Bytes, known: Mask, chroma: Sequence[Bytes]
) -> Bytes:
    """Luma where it is known; elsewhere as smooth as the pixels allow."""
    if known.all():
        return y
    luma = np.rint(fill(y.astype(np.float32), known)).astype(np.int64)
    left = np.nonzero(~known)
    values = pixels[left].astype(np.int64)
    low, high = np.zeros(len(values), np.int64), np.full(len(values), 255)
    for k, terms in enumerate(conversion.chroma_terms(chroma[0][left], chroma[1][left])):
        value = values[:, k]
        least = np.where(value == 0, -(1 << 40), (value << conversion.shift) - terms)
        most = np.where(value == 255, 1 << 40, (value + 1 << conversion.shift) - terms)
        low = np.maximum(low, np.searchsorted(conversion.luma, least))
        high = np.minimum(high, np.searchsorted(conversion.luma, most) - 1)
    # Bounds that nearly meet: luma is at least close to them. Others are of no use.
    middle = (low + high) // 2
    close = (low > high) & (low - high <= 8)
    low, high = np.where(close, middle, low), np.where(close, middle, high)
    possible = low <= high
    at = tuple(a[possible] for a in left)
    luma[at] = np.clip(luma[at], low[possible], high[possible])
    return luma.astype(np.uint8)
