"""A picture to a file, each part in whichever way is smallest.

`encode_many` goes through four short acts:

* *survey*: look at each component (constant? grey? computed from something? of few colours?) and
  write down the *candidates* to store it as, their planes cut into tiles;
* *narrow down*: where a sample of a large picture shows clearly which one wins, drop the others;
* *code*: all the tiles of all the candidates of all the pictures go through the networks together;
* *choose*: tile by tile, then plane by plane, then candidate by candidate, the smallest of what
  became of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cache, partial
from operator import call
from threading import Lock
from typing import Any

import numpy as np

from pixelzip.codec import colours, given, methods, origins, packed, transforms
from pixelzip.codec.colours import Colours
from pixelzip.codec.conditional import Conditional, whole_tiles
from pixelzip.codec.container import (
    MAX_PIXELS,
    MIN_TILE,
    Component,
    Container,
    StoredPlane,
    area,
    check_limits,
    fingerprint_length,
    pack,
    tile_grid,
    truncated_checksum,
)
from pixelzip.codec.errors import LimitError
from pixelzip.codec.methods import MAX_ADAPTIVE_SIDE, MAX_NETWORK_SIDE, Method, Tile
from pixelzip.codec.origins.blocks import Blocks, render
from pixelzip.codec.origins.origin import Found, Origin
from pixelzip.codec.picture import MODES, Box, Bytes, Picture, Plane, is_deep
from pixelzip.codec.progress import Progress, share
from pixelzip.codec.transforms import Form, Transform
from pixelzip.codec.workers import Map, side_by_side

Networks = Mapping[str, Conditional]
"""The network for each kind of plane: "colour", "luma", "chroma". One that is missing is stood in
for by another that codes such planes: luma by colour's, chroma by luma's. If there is one for
"small", it may take the place of colour's in small pictures."""

DEFAULT_TILE = 256
"""The largest side, in samples, of the tiles that a network codes."""

_STAND_INS = {"colour": ("colour",), "luma": ("luma", "colour"), "labels": ()} | {
    "chroma": ("chroma", "luma", "colour")
}

_GROUP = 4
"""So many small pictures, at most, does a thread take at once."""

_INDEX_COST = 3
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

_FEW_CORRECTIONS, _FEW_BESIDES = 32, 8
"""So many pixels to a byte of corrections, or more, say that an origin is no accident; the second
where its chroma is halved, which saves far more than that byte."""

_RICH = 2.5
"""What is estimated to take more bits/dim than that is left to networks, where fewer samples are
fewer bytes."""

_UNADAPTED = 0.15
"""About the part of the time that the network takes by itself where the stage comes after it."""

_TINY = 32 * 32
"""Pictures of at most so many pixels are for the network for small ones, if there is one."""
_SMALL = 64 * 64
"""Of others of at most so many, patch after patch is coded with that and with colour's ..."""
_AHEAD = 0.99
"""... until one has taken less than this fraction of the bytes of the other."""

_PATCH, _SMALL_PATCH, _PATCHES = 64, 16, 5
"""So many patches are a sample, of so many pixels a side in a larger picture and in a small one."""
_CLEAR = 0.9
"""A larger picture is not coded in a way of which the sample takes more bytes, so that another one
takes less than this fraction of them."""


def encode(
    picture: Picture,
    networks: Networks,
    *,
    origins: bool = True,
    tile_size: int = DEFAULT_TILE,
    adaptive: bool = False,
    label: int | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> bytes:
    """Encode a picture into the bytes of a ``.pxz`` file: `encode_many` of one."""
    return encode_many(
        [picture],
        networks,
        origins=origins,
        tile_size=tile_size,
        adaptive=adaptive,
        label=label,
        threads=threads,
        progress=progress,
    )[0]


def encode_many(
    pictures: Sequence[Picture],
    networks: Networks,
    *,
    origins: bool = True,
    tile_size: int = DEFAULT_TILE,
    adaptive: bool = False,
    label: int | None = None,
    threads: int = 1,
    progress: Progress | None = None,
) -> list[bytes]:
    """Encode pictures into the bytes of a ``.pxz`` file each; the same as one at a time.

    Without ``networks`` only the fallback is used, and unless ``origins`` are wanted, pixels are
    coded as they are. ``tile_size`` is the largest side of a network-coded tile in samples, or 0
    for the largest there can be (4096). If it shall be ``adaptive``, each tile is also coded with
    the stage of `pixelzip.codec.adaptive`, which takes several times as long, and has sides of at
    most 1024. ``label`` is the class, for networks that have classes;
    without it each tile gets the one that makes it the smallest. ``threads`` does not change the
    result. Raises LimitError if a picture has more than MAX_PIXELS pixels, or a side or metadata
    beyond the format.
    """
    if tile_size != 0 and tile_size < MIN_TILE:
        raise ValueError(f"the tile size is 0 or at least {MIN_TILE}, not {tile_size}")
    for picture in pictures:
        check_limits(picture.width, picture.height, picture.metadata)
        if picture.height * picture.width > MAX_PIXELS:
            raise LimitError(
                f"the image has {picture.width}x{picture.height} pixels and the limit is "
                f"{MAX_PIXELS} in total"
            )
    most = MAX_ADAPTIVE_SIDE if adaptive else MAX_NETWORK_SIDE
    tile_size = min(tile_size or most, most)
    files = [b""] * len(pictures)
    groups = _apart(pictures, networks, threads)
    others = sorted({*range(len(pictures))}.difference(*groups))

    def of(numbers: Sequence[int]) -> list[Picture]:
        return [pictures[number] for number in numbers]

    def put(numbers: Sequence[int], made: Sequence[bytes]) -> None:
        for number, data in zip(numbers, made, strict=True):
            files[number] = data

    with side_by_side(threads) as parallel:
        surveying = Lock()

        def make(group: Sequence[int]) -> list[bytes]:
            with surveying:
                drafts = _survey(of(group), networks, origins, map)
            return _make(of(group), drafts, tile_size, adaptive, label, 1, None, map)

        made = parallel(make, groups)
        done = 0
        for group, some in zip(groups, made, strict=True):
            put(group, some)
            done += len(group)
            if progress is not None:
                progress(done / len(pictures))
        if others:
            part = share(progress, done / len(pictures), len(others) / len(pictures))
            drafts = _survey(of(others), networks, origins, parallel)
            rest = _make(of(others), drafts, tile_size, adaptive, label, threads, part, parallel)
            put(others, rest)
    if progress is not None:
        progress(1.0)
    return files


def _apart(pictures: Sequence[Picture], networks: Networks, threads: int) -> list[Sequence[int]]:
    """Groups of pictures that threads make files of, each a group; they share all others.

    A small picture has no work for several threads, and its survey is Python's, which one thread
    does at a time: so one surveys a group after the other, while others are in compiled code.
    """
    small = [i for i, one in enumerate(pictures) if one.height * one.width <= DEFAULT_TILE**2]
    if threads == 1 or len(small) < threads:
        return []
    if not all(whole_tiles(one) for one in networks.values()):
        return []
    size = max(1, min(_GROUP, len(small) // (2 * threads)))
    return [small[i : i + size] for i in range(0, len(small), size)]


def _make(
    pictures: Sequence[Picture],
    drafts: Sequence[list[_Choice]],
    tile_size: int,
    adaptive: bool,
    label: int | None,
    threads: int,
    progress: Progress | None,
    parallel: Map,
) -> list[bytes]:
    """The other three acts, after the survey."""
    _narrow_down(pictures, drafts, parallel)
    planes = [plane for draft in drafts for plane in _planes(draft)]
    _cut(planes, tile_size, parallel)
    _code(planes, label, adaptive, threads, progress)
    list(parallel(_Area.fall_back, [tile for plane in planes for tile in plane.tiles]))
    return list(parallel(_finish, pictures, drafts))


def _is_small(picture: Picture) -> bool:
    return picture.height * picture.width <= _SMALL


def _is_tiny(picture: Picture) -> bool:
    return picture.height * picture.width <= _TINY


# What is being encoded: areas make planes, planes a candidate, candidates a way, ways a choice.


class _Area:
    """Pixels (height, width, channels) to code as one tile, and the smallest tile found so far."""

    def __init__(self, pixels: Bytes) -> None:
        self.pixels = pixels
        self.best: Tile | None = None
        self.estimate = 0.0
        self.packed = cache(partial(packed.pack_pixels, pixels))
        """The fallback's payload, also of copies."""
        if _is_constant(pixels):
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


class _Plane:
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
        self.whole = _Area(plane.samples)
        self.network: Conditional | None = None
        """The one that shall try it."""
        self.colours: Colours | None = None
        """All that there are, if the network shall know that."""
        self.tile_size = 0
        self.tiles: list[_Area] = []

    def open(self) -> Iterator[tuple[_Area, Box]]:
        """The areas that the network shall try, and where they are."""
        if self.network is not None:
            height, width, _ = self.layout.shape
            grid = tile_grid(height, width, self.tile_size)
            for one, box in zip(self.tiles or [self.whole], grid, strict=True):
                if one.best is None:
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

    def with_network(self, network: Conditional) -> _Plane:
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
        return sum(tile.cost + _INDEX_COST for tile in self.tiles) + self.aside

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
class _Candidate:
    """A way to store one component, or several together."""

    position: int
    form: Form
    planes: list[_Plane] = field(default_factory=list)
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


_Place = tuple[_Plane, _Area, Box]
"""An area of a plane, and where it is."""
_Way = list[_Candidate]
"""Candidates that together carry some components."""
_Choice = list[_Way]
"""Ways to store the same components."""


def _planes(draft: Sequence[_Choice]) -> list[_Plane]:
    ways = [way for choice in draft for way in choice]
    planes = [plane for way in ways for candidate in way for plane in candidate.planes]
    return list({id(plane): plane for plane in planes}.values())  # ways may share them


# Survey.


def _survey(
    pictures: Sequence[Picture],
    networks: Networks,
    with_origins: bool,
    parallel: Map,
) -> list[list[_Choice]]:
    """Each picture's choices, one for each component, or each pair of high and low bytes."""
    todo = [(picture, carried) for picture in pictures for carried in _carried_together(picture)]
    choices = parallel(lambda one: _look(one[0], one[1], with_origins, parallel), todo)
    drafts: list[list[_Choice]] = []
    for picture in pictures:
        drafts.append([next(choices) for _ in _carried_together(picture)])
    undecided = []
    for picture, draft in zip(pictures, drafts, strict=True):
        is_between = _is_small(picture) and not _is_tiny(picture)
        for plane in _planes(draft):
            if plane.whole.best is None and plane.blocks is None:
                plane.network = _network(networks, plane, _is_tiny(picture))
                if plane.network and plane.layout.kind == "colour" and is_between:
                    undecided.append(plane)
    if "small" in networks:
        list(parallel(partial(_choose_network, networks=networks), undecided))
    if with_origins:
        list(parallel(_restrict, [choice for draft in drafts for choice in draft]))
    return drafts


def _carried_together(picture: Picture) -> list[tuple[int, ...]]:
    """The components that an origin would carry together."""
    count = len(MODES[picture.mode])
    if is_deep(picture.mode):
        return [(high, high + count // 2) for high in range(count // 2)]
    return [(position,) for position in range(count)]


def _look(picture: Picture, carried: tuple[int, ...], with_origins: bool, parallel: Map) -> _Choice:
    """The ways to store some components: as they are, or as what they were computed from."""
    if _is_small(picture):
        parallel = map  # to share it out takes longer
    tried: Sequence[Origin] = origins.ALL if with_origins else ()
    if not transforms.is_possible(picture.mode, carried[0], Transform.ORIGIN):
        tried = ()
    elif not is_deep(picture.mode) and transforms.is_grey(picture.planes[carried[0]]):
        tried = [origin for origin in tried if origin is origins.tone]
    ways: list[Callable[[], _Choice]] = [lambda: [[_as_it_is(picture, p) for p in carried]]]
    ways += [partial(_computed, picture, carried, origin, parallel) for origin in tried]
    found = parallel(call, ways)
    choice: _Choice = next(found)
    if all(plane.whole.best for one in choice[0] for plane in one.planes):
        return choice  # trivial
    return _unless_clear(choice + [way for some in found for way in some])


def _unless_clear(choice: _Choice) -> _Choice:
    """All ways, or those that can only be better: fewer samples of what is full of detail."""
    if not all(plane.whole.is_rich for one in choice[0] for plane in one.planes):
        return choice
    fewer = [
        way for way in choice if all(_has_fewer_samples(c) and _explains_holes(c) for c in way)
    ]
    return fewer or choice


def _as_it_is(picture: Picture, position: int) -> _Candidate:
    """A component without an origin."""
    samples = picture.planes[position]
    if _is_constant(samples):
        return _Candidate(position, Form(Transform.CONSTANT, parameters=samples[0, 0].tobytes()))
    form = Form(Transform.GREY if transforms.is_grey(samples) else Transform.DIRECT)
    (layout,) = transforms.layouts(picture.mode, position, form, samples.shape[:2])
    plane = Plane(samples[:, :, : layout.channels], layout.kind)
    return _Candidate(position, form, [_Plane(plane, [])])


def _computed(picture: Picture, carried: tuple[int, ...], origin: Origin, parallel: Map) -> _Choice:
    """The ways to store components as what they may have been computed from."""
    parts = [picture.planes[position] for position in carried]
    deep = is_deep(picture.mode)
    found = origin.find(transforms.samples_of(*parts) if deep else parts[0], parallel)
    if found is None:
        return []
    form = Form(Transform.ORIGIN, origin.NUMBER, found.parameters)
    pixels = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
    layouts = [plane.layout for plane in found.planes]
    earlier = [given.earlier(layouts, number) for number in range(len(layouts))]

    def corrections(planes: Sequence[Plane]) -> bytes:
        made = [plane.samples for plane in planes]
        return transforms.corrections_of(
            pixels, transforms.render(picture.mode, form, made, pixels.shape[:2])
        )

    def store(blocks: Sequence[Blocks | None]) -> _Way:
        planes = list(parallel(_rendered, found.planes, blocks))
        jobs: list[Callable[[], Any]] = [partial(corrections, planes)]
        for plane, own, before in zip(planes, blocks, earlier, strict=True):
            told, told_blocks = [planes[i] for i in before], [blocks[i] for i in before]
            jobs.append(partial(_Plane, plane, told, own, told_blocks))
        correction, *made = parallel(call, jobs)
        return [_Candidate(carried[0], form, made, correction)]

    return list(parallel(store, _with_and_without_blocks(found)))


def _with_and_without_blocks(found: Found) -> list[Sequence[Blocks | None]]:
    """The coefficients that planes are stored as, if there are some; and none at all.

    Not so for a plane that is the picture itself: that needs no origin.
    """
    ways: list[Sequence[Blocks | None]] = []
    if any(found.blocks):
        from pixelzip.codec import coefficients  # slow to load, and few pictures need it

        ways.append(coefficients.with_usual_steps(found.blocks))
    if len(found.planes) > 1 or not any(found.blocks):
        ways.append([None] * len(found.planes))
    return ways


def _rendered(plane: Plane, blocks: Blocks | None) -> Plane:
    if blocks is None:
        return plane
    samples = render(blocks, (plane.layout.height, plane.layout.width))
    return replace(plane, samples=samples[:, :, None])


def _network(networks: Networks, plane: _Plane, tiny: bool) -> Conditional | None:
    """The network for a plane, or one that stands in for it."""
    kinds = _STAND_INS[plane.layout.kind]
    if tiny and plane.layout.kind == "colour":
        kinds = ("small", *kinds)
    for kind in kinds:
        network = networks.get(kind)
        if (
            network is not None
            and network.codes(plane.layout.channels)
            and not (network.given and not plane.earlier)
        ):
            return network
    return None


def _choose_network(plane: _Plane, networks: Networks) -> None:
    """Take the one for small pictures instead, unless a sample speaks for the usual one."""
    from pixelzip.codec import tiles  # slow to load, and not every file needs it

    assert plane.network is not None
    height, width, _ = plane.layout.shape
    tried, sizes = (plane.network, networks["small"]), np.zeros(2)
    for box in _patches(height, width, _SMALL_PATCH):
        patch = plane.whole.pixels[area(box)]
        sizes += [len(tiles.encode_tiles(network, [patch])[0]) for network in tried]
        if sizes.min() < _AHEAD * sizes.max():
            break
    plane.network = tried[0] if sizes[0] < sizes[1] else tried[1]


def _restrict(choice: _Choice) -> None:
    """Add a way that leaves out the colours that do not occur, if that seems to be worth it."""
    if any(_explains_holes(candidate) for way in choice[1:] for candidate in way):
        return
    sparse = [_sparse(candidate) for candidate in choice[0]]
    if any(sparse):
        choice.append([one or other for one, other in zip(sparse, choice[0], strict=True)])


def _explains_holes(candidate: _Candidate) -> bool:
    """Whether it gives nearly all pixels from luma and chroma, which make few of the colours."""
    chroma = any(plane.layout.kind == "chroma" for plane in candidate.planes)
    pixels = candidate.planes[0].whole.pixels.size  # those of the luma
    few = _FEW_BESIDES if _has_fewer_samples(candidate) else _FEW_CORRECTIONS
    return chroma and len(candidate.corrections) * few <= pixels


def _has_fewer_samples(candidate: _Candidate) -> bool:
    """Whether its chroma is halved."""
    return any(plane.layout.step != (1, 1) for plane in candidate.planes)


def _sparse(candidate: _Candidate) -> _Candidate | None:
    """A component as it is but for the colours that do not occur; None if that is not worth it."""
    for plane in candidate.planes:
        if plane.network is not None and plane.layout.kind == "colour":
            pixels = plane.whole.pixels
            found = colours.find(pixels)
            if found is not None:
                sparse = plane.with_network(plane.network)
                sparse.colours = found
                return replace(candidate, planes=[sparse])
    return None


def _is_constant(pixels: Bytes) -> bool:
    first = pixels[0, 0]
    return bool((pixels[0] == first).all()) and bool((pixels == first).all())


# Narrowing down.


def _narrow_down(
    pictures: Sequence[Picture], drafts: Sequence[list[_Choice]], parallel: Map
) -> None:
    """Code all coefficients, and drop the ways that they or a sample show to be out."""
    coded = [plane for draft in drafts for plane in _planes(draft) if plane.blocks is not None]
    jobs: list[Callable[[], Any]] = [partial(plane.code_blocks, parallel) for plane in coded]
    sampled: list[_Plane] = []
    for picture, draft in zip(pictures, drafts, strict=True):
        boxes = _patches(picture.height, picture.width, _PATCH)
        unclear = [choice for choice in draft if len(choice) > 1 and not _is_small(picture)]
        some = [p for p in _planes(unclear) if p.network is not None and p.whole.best is None]
        jobs += [partial(_rate, plane, boxes) for plane in some]
        sampled += some
    done = list(parallel(call, jobs))
    fits = {id(plane): fit for plane, fit in zip(coded, done[: len(coded)], strict=True)}
    rates = {id(plane): rate for plane, rate in zip(sampled, done[len(coded) :], strict=True)}
    for picture, draft in zip(pictures, drafts, strict=True):
        for choice in draft:
            choice[:] = [
                way for way in choice if all(fits.get(id(p), True) for p in _planes([[way]]))
            ]
            if not _is_small(picture):
                _drop_losers(choice, rates)


def _drop_losers(choice: _Choice, rates: Mapping[int, float]) -> None:
    """Keep the ways that may win, by their planes' rates."""
    if len(choice) > 1:
        sizes = [[_expect(one, rates) for one in way] for way in choice]
        mosts = [sum(most for _, most in way) for way in sizes]
        # Of ways that differ in their sets of colours only, the sample alone decides.
        alike: dict[tuple[Form, ...], float] = {}
        for way, most in zip(choice, mosts, strict=True):
            forms = _forms(way)
            alike[forms] = min(most, alike.get(forms, np.inf))
        choice[:] = [
            way
            for way, size, most in zip(choice, sizes, mosts, strict=True)
            if sum(least for least, _ in size) * _CLEAR <= min(mosts) and most == alike[_forms(way)]
        ]


def _forms(way: _Way) -> tuple[Form, ...]:
    return tuple(candidate.form for candidate in way)


def _patches(height: int, width: int, side: int) -> list[Box]:
    """Patches spread over the picture, in each row and column of a grid one."""
    h, w, last = min(height, side), min(width, side), _PATCHES - 1
    return [
        ((height - h) * k // last, (width - w) * (2 * k % _PATCHES) // last, h, w)
        for k in range(_PATCHES)
    ]


def _expect(candidate: _Candidate, rates: Mapping[int, float]) -> tuple[float, float]:
    """About the least and the most bytes that a candidate comes to, by its planes' rates."""
    least = most = float(len(candidate.corrections) + len(candidate.form.parameters))
    for plane in candidate.planes:
        whole = plane.whole
        if whole.best is not None:
            rate, fallback = whole.cost, whole.cost
        else:
            rate = plane.aside + rates.get(id(plane), np.inf)
            fallback = whole.floor
        least += min(rate, fallback)
        most += min(rate, whole.estimate or np.inf)
    return least, most


def _rate(plane: _Plane, boxes: Sequence[Box]) -> float:
    """The bytes that a plane would take if its network coded all of it as it codes a sample."""
    from pixelzip.codec import tiles  # slow to load, and not every file needs it

    assert plane.network is not None
    places = [_place(box, plane) for box in boxes]
    patches = [plane.whole.pixels[area(place)] for place in places]
    told = _told([(plane, place) for place in places])
    allowed = _allowed([plane] * len(patches))
    scores = tiles.score_tiles(plane.network, patches, given=told, colours=allowed)
    bits = sum(float(score.sum(dtype=np.float64)) for score in scores)
    return bits / 8 * plane.whole.pixels.size / sum(patch.size for patch in patches)


def _place(box: Box, plane: _Plane) -> Box:
    """A part of the picture in a plane's own samples."""
    (down, right), (y, x) = plane.layout.step, plane.layout.phase
    top, left, height, width = box
    bottom = min(plane.layout.height, -(-(top + height) // down))
    end = min(plane.layout.width, -(-(left + width) // right))
    top, left = min((top + y) // down, bottom - 1), min((left + x) // right, end - 1)
    return top, left, bottom - top, end - left


# Coding.


def _cut(planes: Sequence[_Plane], tile_size: int, parallel: Map) -> None:
    """Cut the planes that a network shall try into tiles."""
    waiting = []
    for plane in planes:
        height, width, _ = plane.layout.shape
        if plane.network is not None and tile_size < max(height, width):
            plane.tile_size = tile_size
            grid = tile_grid(height, width, tile_size)
            cuts = [plane.whole.pixels[area(box)] for box in grid]
            waiting.append((plane, parallel(_Area, cuts)))
    for plane, areas in waiting:
        plane.tiles = list(areas)


def _code(
    planes: Sequence[_Plane],
    label: int | None,
    adaptive: bool,
    threads: int,
    progress: Progress | None,
) -> None:
    """Offer each area what its network makes of it."""
    together: dict[tuple[int, int, bool, bool], list[_Place]] = defaultdict(list)
    for plane in planes:
        sparse = plane.colours is not None
        key = id(plane.network), plane.layout.channels, bool(plane.earlier), sparse
        together[key] += [(plane, *one) for one in plane.open()]
    sizes = {key: sum(one.pixels.size for _, one, _ in group) for key, group in together.items()}
    total, done = sum(sizes.values()), 0
    for key, group in together.items():
        if group:
            part = share(progress, done / total, sizes[key] / total)
            if adaptive and not key[3]:
                _code_together(group, label, threads, share(part, 0.0, _UNADAPTED))
                part = share(part, _UNADAPTED, 1 - _UNADAPTED)
                _code_adaptively(group, threads, part)
            else:
                _code_together(group, label, threads, part)
            done += sizes[key]


def _code_together(
    group: Sequence[_Place],
    label: int | None,
    threads: int,
    progress: Progress | None,
) -> None:
    """The same, of areas that have the network and the number of channels in common."""
    from pixelzip.codec import tiles  # slow to load, and not every file needs it

    network = group[0][0].network
    assert network is not None
    payloads = tiles.encode_tiles(
        network,
        [one.pixels for _, one, _ in group],
        given=_told([(plane, box) for plane, _, box in group]),
        colours=_allowed([plane for plane, _, _ in group]),
        label=label if network.classes else None,
        threads=threads,
        progress=progress,
    )
    _offer(group, Method.NETWORK, payloads)


def _code_adaptively(group: Sequence[_Place], threads: int, progress: Progress | None) -> None:
    """The same with the adaptive stage, of areas without sets of colours."""
    from pixelzip.codec import tiles  # slow to load, and not every file needs it

    network = group[0][0].network
    assert network is not None
    payloads = tiles.encode_adaptively(
        network,
        [one.pixels for _, one, _ in group],
        given=_told([(plane, box) for plane, _, box in group]),
        threads=threads,
        progress=progress,
    )
    _offer(group, Method.ADAPTIVE, payloads)


def _offer(group: Sequence[_Place], method: Method, payloads: Sequence[bytes | None]) -> None:
    for (_, one, _), payload in zip(group, payloads, strict=True):
        if payload is not None and len(payload) >= methods.least_length(method, one.shape):
            one.offer(Tile(method, payload))


def _allowed(planes: Sequence[_Plane]) -> list[Colours | None] | None:
    """The set of colours of each plane, if there are any."""
    sets = [plane.colours for plane in planes]
    return None if sets[0] is None else sets


def _told(places: Sequence[tuple[_Plane, Box]]) -> Sequence[Bytes] | None:
    """What a network is told of earlier planes at each place, if it wants to know."""
    plane, _ = places[0]
    if plane.network is None or not plane.network.given:
        return None
    return given.Lazy(
        [partial(given.samples, plane.layout, box, plane.earlier) for plane, box in places]
    )


# Choosing.


def _finish(picture: Picture, draft: Sequence[_Choice]) -> bytes:
    """Choose the smallest way to store each component, and lay out the file."""
    chosen: list[tuple[_Candidate, Component]] = []
    for choice in draft:
        least = min(sum(candidate.cost for candidate in way) for way in choice)
        ways = [[(one, one.settle(least)) for one in way] for way in choice]
        chosen += min(ways, key=lambda way: sum(_cost(component) for _, component in way))
    chosen.sort(key=lambda pair: pair[1].position)
    joined = _join(picture, [component for _, component in chosen])
    fingerprints: list[bytes] = []
    components = [joined] if joined else [_numbered(*pair, fingerprints) for pair in chosen]
    length = fingerprint_length(picture.width, picture.height)
    return pack(
        Container(
            mode=picture.mode,
            width=picture.width,
            height=picture.height,
            networks=tuple(fingerprint[:length] for fingerprint in fingerprints),
            components=tuple(components),
            metadata=picture.metadata,
            checksum=truncated_checksum(picture.crc, picture.width, picture.height),
        )
    )


def _numbered(candidate: _Candidate, component: Component, fingerprints: list[bytes]) -> Component:
    """The component with its planes' networks numbered, and added to those of the file if new."""
    planes = []
    for plane, stored in zip(candidate.planes, component.planes, strict=True):
        if plane.network and any(tile.method.needs_network for tile in stored.tiles):
            if plane.network.fingerprint not in fingerprints:
                fingerprints.append(plane.network.fingerprint)
            stored = replace(stored, network=fingerprints.index(plane.network.fingerprint))
        planes.append(stored)
    return replace(component, planes=tuple(planes))


def _join(picture: Picture, components: Sequence[Component]) -> Component | None:
    """All components in one, if that makes them smaller."""
    transforms_used = [component.form.transform for component in components]
    alone = [t for t in transforms_used if t != Transform.CONSTANT]
    if len(alone) < 2 or Transform.ORIGIN in alone:
        return None
    planes = picture.planes
    grey = 3 in MODES[picture.mode] and all(
        plane.shape[2] == 1 or transforms.is_grey(plane) for plane in planes
    )
    form = Form(Transform.JOINED_GREY if grey else Transform.JOINED)
    coded = [plane[:, :, :1] for plane in planes] if grey else planes
    plane = _Plane(Plane(np.concatenate(coded, axis=2), "labels"), [])
    total = sum(map(_cost, components))
    plane.whole.fall_back(total)
    if plane.whole.cost >= total:
        return None
    return Component(0, form, (plane.settle(),))


def _cost(component: Component) -> int:
    """About its bytes in the file."""
    form, planes = component.form, component.planes
    tiles = [tile for plane in planes for tile in plane.tiles]
    side = sum(len(plane.colours) for plane in planes) + len(form.parameters)
    head = 3 + len(planes) if form.transform == Transform.ORIGIN else 1
    payloads = sum(len(tile.payload) + _INDEX_COST for tile in tiles)
    return head + side + len(component.corrections) + payloads
