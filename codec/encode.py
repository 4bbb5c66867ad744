"""A picture to a file, each part by whichever method is smallest.

`encode_many` goes through three short acts. *Survey*: look at each component (is it constant? grey?
does the fallback make it so small that no network is needed?) and cut the rest into tiles. *Code*:
all the tiles of all the pictures go through the network together. *Choose*: tile by tile and then
component by component, the smallest of what the methods made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from pixelzip.codec import methods, packed, transforms
from pixelzip.codec.conditional import Conditional
from pixelzip.codec.container import (
    MAX_PIXELS,
    MIN_TILE,
    Component,
    Container,
    fingerprint_length,
    pack,
    tile_grid,
    truncated_checksum,
)
from pixelzip.codec.errors import LimitError
from pixelzip.codec.methods import MAX_NETWORK_SIDE, Method, Tile
from pixelzip.codec.picture import MODES, Bytes, Picture
from pixelzip.codec.progress import Progress, share

DEFAULT_TILE = 256
"""The largest side, in pixels, of the tiles that a network codes."""

_INDEX_COST = 3
"""About the bytes that the index spends on a tile."""
_FLAT = 0.1
"""Bits/dim below which the fallback is good enough to spare the network the work."""
_OPTIMISM = 0.85
"""The fallback ends at no less than this fraction of its estimate ..."""
_SMOOTH = 1.5
"""... except below so many bits/dim, where a sample tells little: there it is always tried ..."""
_LARGE = 2**22
_LARGE_OPTIMISM = 0.4
"""... unless that takes seconds, in an area of more bytes than _LARGE; there this counts."""


def encode(
    picture: Picture,
    conditional: Conditional | None,
    *,
    tile_size: int = DEFAULT_TILE,
    label: int | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> bytes:
    """Encode a picture into the bytes of a ``.pxz`` file: `encode_many` of one."""
    return encode_many(
        [picture],
        conditional,
        tile_size=tile_size,
        label=label,
        threads=threads,
        progress=progress,
    )[0]


def encode_many(
    pictures: Sequence[Picture],
    conditional: Conditional | None,
    *,
    tile_size: int = DEFAULT_TILE,
    label: int | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[bytes]:
    """Encode pictures into the bytes of a ``.pxz`` file each; the same as one at a time.

    Without a ``conditional`` only the fallback is used. ``tile_size`` is the largest side of a
    network-coded tile in pixels, or 0 for the largest there can be (4096). ``label`` is the class
    of a network that has classes; without it each tile gets the one that makes it the smallest.
    ``threads`` does not change the result. Raises LimitError if a picture has more than MAX_PIXELS
    pixels.
    """
    if tile_size != 0 and tile_size < MIN_TILE:
        raise ValueError(f"the tile size is 0 or at least {MIN_TILE}, not {tile_size}")
    for picture in pictures:
        if picture.height * picture.width > MAX_PIXELS:
            raise LimitError(
                f"the image has {picture.width}x{picture.height} pixels and the limit is "
                f"{MAX_PIXELS} in total"
            )
    with ThreadPoolExecutor(threads) as pool:
        drafts = _survey(pictures, conditional is not None, tile_size, pool)
        parts = [part for draft in drafts for part in draft]
        fingerprint = b""
        if conditional is not None:
            fingerprint = conditional.fingerprint
            areas = [area for part in parts for area in part.open]
            _code(areas, conditional, label, threads, progress)
        list(pool.map(_Area.fall_back, [area for part in parts for area in part.tiles]))
        finisher = partial(_finish, fingerprint=fingerprint)
        files = list(pool.map(finisher, pictures, drafts))
    if progress is not None:
        progress(1.0)
    return files


class _Area:
    """Pixels (height, width, channels) to code as one tile, and the smallest tile found so far."""

    def __init__(self, pixels: Bytes) -> None:
        self.pixels = np.ascontiguousarray(pixels)
        self.best: Tile | None = None
        self.estimate = 0.0
        if (pixels == pixels[0, 0]).all():
            self.best = methods.encode(Method.CONSTANT, pixels)
        else:
            self.estimate = packed.estimate(self.pixels)
            if self.estimate * 8 < _FLAT * pixels.size:
                self.fall_back()

    @property
    def shape(self) -> methods.Shape:
        """(height, width, channels)."""
        height, width, channels = self.pixels.shape
        return height, width, channels

    @property
    def cost(self) -> float:
        """Bytes of the smallest tile so far."""
        return np.inf if self.best is None else len(self.best.payload)

    def offer(self, tile: Tile) -> None:
        """Take a tile if it is smaller."""
        if len(tile.payload) < self.cost:
            self.best = tile

    def fall_back(self, rival: float = np.inf) -> None:
        """Try what needs no network, unless it can hardly beat what there is or ``rival`` bytes."""
        if self.best is not None and self.best.method != Method.NETWORK:
            return
        smooth = self.estimate * 8 < _SMOOTH * self.pixels.size
        large = self.pixels.size > _LARGE
        fraction = _OPTIMISM if not smooth else _LARGE_OPTIMISM if large else 0
        if self.estimate * fraction < min(self.cost, rival):
            self.offer(methods.encode(Method.PACKED, self.pixels))
            if self.cost >= self.pixels.size:
                self.best = methods.encode(Method.RAW, self.pixels)


@dataclass(frozen=True)
class _Part:
    """A component on its way: as a whole and, where a network may code it, in tiles."""

    whole: _Area
    tile_size: int
    tiles: list[_Area]
    open: list[_Area]
    """The areas that the network shall try."""

    def settle(self) -> Component:
        """The smaller of the tiles and the whole, once the tiles are settled."""
        total = sum(tile.cost + _INDEX_COST for tile in self.tiles) if self.tiles else np.inf
        self.whole.fall_back(total)
        chosen = [self.whole] if self.whole.cost < total else self.tiles
        return Component(
            channels=self.whole.pixels.shape[2],
            tile_size=0 if chosen[0] is self.whole else self.tile_size,
            tiles=tuple(area.best for area in chosen if area.best is not None),
        )


def _survey(
    pictures: Sequence[Picture], with_network: bool, tile_size: int, pool: ThreadPoolExecutor
) -> list[list[_Part]]:
    """Look at each picture's components; find what is left for the network to try."""
    tile_size = min(tile_size or MAX_NETWORK_SIDE, MAX_NETWORK_SIDE)
    looks = [pool.map(_Area, map(transforms.reduce, picture.planes)) for picture in pictures]
    drafts = []
    for picture, look in zip(pictures, looks, strict=True):
        draft = []
        for position, whole in enumerate(look):
            to_try = with_network and whole.best is None and _is_continuous(picture.mode, position)
            cuts = []
            if to_try and tile_size < max(picture.height, picture.width):
                grid = tile_grid(picture.height, picture.width, tile_size)
                cuts = [whole.pixels[top : top + h, left : left + w] for top, left, h, w in grid]
            draft.append((whole, to_try, pool.map(_Area, cuts)))
        drafts.append(draft)
    return [[_part(*found, tile_size) for found in draft] for draft in drafts]


def _part(whole: _Area, to_try: bool, looked_at: Iterator[_Area], tile_size: int) -> _Part:
    tiles = list(looked_at)
    areas = (tiles or [whole]) if to_try else []
    return _Part(whole, tile_size, tiles, [area for area in areas if area.best is None])


def _is_continuous(mode: str, position: int) -> bool:
    """Whether a component is made of tones, not of labels or low-order noise."""
    low_bytes = mode.endswith(";16") and position >= len(MODES[mode]) // 2
    return mode not in ("1", "P") and not low_bytes


def _code(
    areas: Sequence[_Area],
    conditional: Conditional,
    label: int | None,
    threads: int,
    progress: Progress | None,
) -> None:
    """Offer each area what the network makes of it, if it codes such."""
    from pixelzip.codec import tiles  # slow to load, and not every file needs it

    areas = [area for area in areas if conditional.codes(area.pixels.shape[2])]
    total = sum(area.pixels.size for area in areas)
    done = 0
    for channels in (1, 3):
        chosen = [area for area in areas if area.pixels.shape[2] == channels]
        if not chosen:
            continue
        size = sum(area.pixels.size for area in chosen)
        payloads = tiles.encode_tiles(
            conditional,
            [area.pixels for area in chosen],
            label=label,
            threads=threads,
            progress=share(progress, done / total, size / total),
        )
        for area, payload in zip(chosen, payloads, strict=True):
            if len(payload) >= methods.lengths(Method.NETWORK, area.shape)[0]:
                area.offer(Tile(Method.NETWORK, payload))
        done += size


def _finish(picture: Picture, parts: list[_Part], fingerprint: bytes) -> bytes:
    """Choose the smallest way to code each component, and lay out the file."""
    components = [part.settle() for part in parts]
    if sum(component.tiles[0].method != Method.CONSTANT for component in components) > 1:
        joined = _Area(transforms.join(picture.planes, [part.whole.pixels for part in parts]))
        total = sum(_component_cost(component) for component in components)
        joined.fall_back(total)
        if joined.best is not None and joined.cost < total:
            components = [Component(joined.pixels.shape[2], 0, (joined.best,))]
    uses_network = any(
        tile.method == Method.NETWORK for component in components for tile in component.tiles
    )
    length = fingerprint_length(picture.width, picture.height)
    return pack(
        Container(
            mode=picture.mode,
            width=picture.width,
            height=picture.height,
            network=fingerprint[:length] if uses_network else b"",
            components=tuple(components),
            metadata=picture.metadata,
            checksum=truncated_checksum(picture.crc, picture.width, picture.height),
        )
    )


def _component_cost(component: Component) -> int:
    return sum(len(tile.payload) + _INDEX_COST for tile in component.tiles)
