"""What a picture may be stored as, while it is being encoded.

Areas make planes, planes a candidate, candidates a way, ways a choice: each area keeps the smallest
tile that was found for it, and whatever is made of areas adds up what they take.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from pixelzip.codec import given, methods, packed
from pixelzip.codec.colours import Colours
from pixelzip.codec.conditional import Conditional
from pixelzip.codec.container import Component, StoredPlane, tile_grid
from pixelzip.codec.methods import Method, Tile
from pixelzip.codec.origins.blocks import Blocks
from pixelzip.codec.picture import Box, Bytes, Plane, bands
from pixelzip.codec.transforms import Form
from pixelzip.codec.workers import Map

INDEX_COST = 3
"""About the bytes that the index spends on a tile."""
_FLAT = 0.1
"""Bits/dim below which the fallback is good enough to spare the network the work."""
_OPTIMISM = ((0.5, 0.0), (1.5, 0.45), (3, 0.75), (5, 0.85), (np.inf, 0.89))
"""The fallback ends at no less than this fraction of an estimate below so many bits/dim: the fewer
these are, the less a sample tells ..."""
_OPTIMISM_ALONE = ((0.1, 0.0), (1, 0.55), (1.5, 0.7), *_OPTIMISM[2:])
"""... which is more of a single channel, as there are fewer ways to write it down ..."""
_LARGE = 2**22
_LARGE_OPTIMISM = 0.4
"""... except that trying takes seconds in an area of more bytes than _LARGE; there this counts."""

_PLAIN = 1.5
"""Bits/dim."""
_USEFUL = 0.8
"""The part of a fallback's estimate that a network has to undercut, lest it seem of no use."""
_RICH = 2.5
"""What is estimated to take more bits/dim than that is left to networks, where fewer samples are
fewer bytes."""


class Area:
    """Pixels (height, width, channels) to code as one tile, and the smallest tile found so far."""

    def __init__(self, pixels: Bytes, is_settled: bool = False) -> None:
        """If it ``is_settled`` that it is stored in another way, nothing is looked for."""
        self.pixels = pixels
        self.best: Tile | None = None
        self.estimate = 0.0
        self.is_left = False
        """Whether it is left to the fallback, since no network comes near that."""
        self._packed: list[tuple[float, bytes]] = []  # shared with copies
        if is_settled:
            return
        if is_constant(pixels):
            self.best = methods.encode(Method.CONSTANT, pixels)
        else:
            self.estimate = packed.estimate(self.pixels)
            if self.estimate * 8 < _FLAT * pixels.size:
                self.fall_back()

    def packed(self, rival: float = np.inf) -> bytes:
        """The fallback's payload, as good as `packed.pack_pixels` makes it for that rival."""
        for most, payload in self._packed:
            if most >= rival:
                return payload
        payload = packed.pack_pixels(self.pixels, rival)
        self._packed.append((rival, payload))
        return payload

    @property
    def is_plain(self) -> bool:
        """Whether it has so little detail that the fallback may be far ahead of any network."""
        return self.estimate * 8 < _PLAIN * self.pixels.size

    @property
    def shape(self) -> methods.Shape:
        """(height, width, channels)."""
        height, width, channels = self.pixels.shape
        return height, width, channels

    @property
    def is_rich(self) -> bool:
        """Whether it is full of detail, so that it hardly repeats itself."""
        return self.estimate * 8 > _RICH * self.pixels.size

    @property
    def floor(self) -> float:
        """Bytes that the fallback hardly goes below."""
        rate = self.estimate * 8 / self.pixels.size
        optimism = _OPTIMISM_ALONE if self.pixels.shape[2] == 1 else _OPTIMISM
        fraction = next(fraction for limit, fraction in optimism if rate < limit)
        if self.pixels.size > _LARGE:
            fraction = max(fraction, _LARGE_OPTIMISM)
        return self.estimate * fraction

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
        if self.best is not None and not self.best.method.needs_network:
            return
        rival = min(self.cost, rival)
        if self.floor < rival:
            self.offer(Tile(Method.PACKED, self.packed(rival)))
            if self.cost >= self.pixels.size:
                self.best = methods.encode(Method.RAW, self.pixels)


class CodedPlane:
    """A plane as a whole and, where a network may code it, in tiles; or as coefficients."""

    def __init__(
        self,
        plane: Plane,
        earlier: Sequence[Plane],
        blocks: Blocks | None = None,
        earlier_blocks: Sequence[Blocks | None] = (),
    ) -> None:
        self.layout = plane.layout
        self.earlier = [(other.layout, other.samples) for other in earlier]
        self.blocks, self.earlier_blocks = blocks, earlier_blocks
        self.whole = Area(plane.samples, is_settled=blocks is not None)
        self.network: Conditional | None = None
        """The one that shall try it."""
        self.rivals: list[Conditional] = []
        """Others that a sample may prefer to it."""
        self.colours: Colours | None = None
        """All that there are, if the network shall know that."""
        self.tile_size = 0
        self.tiles: list[Area] = []

    def open(self) -> Iterator[tuple[Area, Box]]:
        """The areas that the network shall try, and where they are."""
        if self.network is not None:
            height, width, _ = self.layout.shape
            grid = tile_grid(height, width, self.tile_size)
            for one, box in zip(self.tiles or [self.whole], grid, strict=True):
                if one.best is None and not one.is_left:
                    yield one, box

    def code_blocks(self, parallel: Map) -> bool:
        """Code its coefficients, if it has some; False if they take more than its samples.

        Nothing else may take their place, since those of later planes rely on them.
        """
        if self.blocks is None or (self.whole.best and self.whole.best.method == Method.BLOCKS):
            return True
        from pixelzip.codec import coefficients  # slow to load, and few pictures need it

        earlier = [
            (layout, blocks)
            for (layout, _), blocks in zip(self.earlier, self.earlier_blocks, strict=True)
        ]
        payload = coefficients.encode(self.layout, self.blocks, earlier, parallel)
        if payload is None:
            return False
        self.whole.best = Tile(Method.BLOCKS, payload)
        return True

    def take(self, networks: Sequence[Conditional]) -> None:
        """Let the first of these try it, unless a sample prefers another."""
        self.network, self.rivals = (networks[0], list(networks[1:])) if networks else (None, [])

    def with_network(self, network: Conditional) -> CodedPlane:
        """The same for another network to try."""
        other = copy(self)
        other.whole, other.network = copy(self.whole), network
        return other

    @property
    def aside(self) -> int:
        """Bytes besides its tiles."""
        return 0 if self.colours is None else len(self.colours.data)

    @property
    def cost(self) -> float:
        """Bytes of its tiles, or of the whole where it has none."""
        if not self.tiles:
            return self.whole.cost + self.aside
        return sum(tile.cost + INDEX_COST for tile in self.tiles) + self.aside

    def join(self) -> None:
        """Give up the tiles if the network is of no use in any: the fallback wants them joined."""
        useless = (
            tile.is_plain and tile.cost > tile.estimate * _USEFUL
            for tile in self.tiles
            if tile.best is None or tile.best.method.needs_network
        )
        if self.tiles and self.whole.is_plain and all(useless):
            self.tiles, self.network = [], None

    def settle(self, rival: float = np.inf) -> StoredPlane:
        """The smaller of the tiles and the whole, once the tiles are settled.

        More than ``rival`` bytes are of no use, once there is something.
        """
        total = self.cost if self.tiles else np.inf
        # Where the fallback has won the tiles, it may do far better with all of them at once.
        won = all(tile.best and not tile.best.method.needs_network for tile in self.tiles)
        if not won:
            if self.whole.is_rich:  # a sample of the whole tells less than those of its tiles
                apart = sum(tile.estimate for tile in self.tiles)
                self.whole.estimate = max(self.whole.estimate, apart)
            rival = min(rival, total)
        elif self.tiles or self.whole.best is None:
            rival = np.inf
        self.whole.fall_back(rival)
        chosen = [self.whole] if self.whole.cost < total else self.tiles
        tiles = tuple(one.best for one in chosen if one.best is not None)
        coded = any(tile.method.needs_network for tile in tiles)
        return StoredPlane(
            layout=self.layout,
            tile_size=0 if chosen[0] is self.whole else self.tile_size,
            tiles=tiles,
            colours=self.colours.data if self.colours is not None and coded else b"",
        )


@dataclass
class Candidate:
    """A way to store one component, or several together."""

    position: int
    form: Form
    planes: list[CodedPlane] = field(default_factory=list)
    corrections: bytes = b""

    @property
    def cost(self) -> float:
        """Bytes of what is there so far."""
        return sum(plane.cost for plane in self.planes) + len(self.corrections)

    def settle(self, rival: float = np.inf) -> Component:
        """What it comes to; more than ``rival`` bytes are of no use."""
        spare = rival - self.cost if np.isfinite(self.cost) else np.inf
        planes = tuple(plane.settle(plane.cost + spare) for plane in self.planes)
        return Component(self.position, self.form, planes, self.corrections)


def fall_back(areas: Sequence[Area]) -> None:
    """`Area.fall_back` of several of the same pixels, for which the fallback is tried once."""
    for one in sorted(areas, key=lambda area: -area.cost):
        one.fall_back()


Place = tuple[CodedPlane, Area, Box]
"""An area of a plane, and where it is."""
Way = list[Candidate]
"""Candidates that together carry some components."""
Choice = list[Way]
"""Ways to store the same components."""


def planes_of(draft: Sequence[Choice]) -> list[CodedPlane]:
    """All planes, each once: ways may share them."""
    ways = [way for choice in draft for way in choice]
    planes = [plane for way in ways for candidate in way for plane in candidate.planes]
    return list({id(plane): plane for plane in planes}.values())


def allowed(planes: Sequence[CodedPlane]) -> list[Colours | None] | None:
    """The set of colours of each plane, if there are any."""
    sets = [plane.colours for plane in planes]
    return None if sets[0] is None else sets


def told(places: Sequence[tuple[CodedPlane, Box]]) -> Sequence[Bytes] | None:
    """What a network is told of earlier planes at each place, if it wants to know."""
    plane, _ = places[0]
    if plane.network is None or not plane.network.given:
        return None
    return given.Lazy(
        [partial(given.samples, plane.layout, box, plane.earlier) for plane, box in places]
    )


def is_constant(pixels: Bytes) -> bool:
    """Whether all pixels are the same."""
    first = pixels[0, 0]
    return bool((pixels[0] == first).all()) and all((band == first).all() for band in bands(pixels))
