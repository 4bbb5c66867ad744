"""A picture to a file, each part in whichever way is smallest.

`encode_many` goes through four short acts:

* *survey*: look at each component (constant? grey? computed from something? of few colours?) and
  write down the *candidates* to store it as (`pixelzip.codec.survey` and `candidates`);
* *narrow down*: where a sample of a large picture shows clearly which one wins, drop the others;
  of several networks take the one that a sample prefers; where a sample of a tile shows that the
  fallback wins by far, leave the tile to that;
* *code*: all the tiles of all the candidates of all the pictures go through the networks together;
* *choose*: tile by tile, then plane by plane, then candidate by candidate, the smallest of what
  became of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from threading import Lock

import numpy as np

from pixelzip.codec import methods, transforms
from pixelzip.codec.candidates import (
    INDEX_COST,
    Area,
    Candidate,
    Choice,
    CodedPlane,
    Place,
    allowed,
    fall_back,
    planes_of,
    told,
)
from pixelzip.codec.conditional import whole_tiles
from pixelzip.codec.container import (
    MAX_PIXELS,
    MIN_TILE,
    Component,
    Container,
    area,
    check_limits,
    fingerprint_length,
    pack,
    tile_grid,
    truncated_checksum,
)
from pixelzip.codec.errors import LimitError, OptionError, of_file
from pixelzip.codec.methods import MAX_ADAPTIVE_SIDE, MAX_NETWORK_SIDE, Method, Tile
from pixelzip.codec.picture import MODES, Picture, Plane
from pixelzip.codec.progress import Progress, parts, share
from pixelzip.codec.survey import Networks, choose_networks, leave_to_fallback, narrow_down, survey
from pixelzip.codec.transforms import Form, Transform
from pixelzip.codec.workers import Map, side_by_side

DEFAULT_TILE = 256
"""The largest side, in samples, of the tiles that a network codes."""

_SMALL = DEFAULT_TILE**2
"""The pixels of the largest small picture: no more than a tile has."""
_GROUP = 8
"""So many small pictures, at most, does a thread take at once."""

_UNADAPTED = 0.15
"""About the part of the time that the network takes by itself where the stage comes after it."""


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
        raise OptionError(f"the tile size is 0 or at least {MIN_TILE}, not {tile_size}")
    for number, picture in enumerate(pictures):
        with of_file(number):
            _check_limits(picture)
    most = MAX_ADAPTIVE_SIDE if adaptive else MAX_NETWORK_SIDE
    tile_size = min(tile_size or most, most)
    files = [b""] * len(pictures)
    groups = _groups(pictures, networks, threads)
    with side_by_side(threads) as parallel:
        surveying = Lock()

        def make(group: Sequence[int], part: Progress | None) -> list[bytes]:
            some = [pictures[number] for number in group]
            if len(groups) == 1 or not _is_small(some[0]):
                drafts = survey(some, networks, origins, parallel)
                return _make(some, drafts, tile_size, adaptive, label, threads, part, parallel)
            with surveying:
                drafts = survey(some, networks, origins, map)
            return _make(some, drafts, tile_size, adaptive, label, 1, part, map)

        reports = parts(progress, [len(group) for group in groups])
        for group, made in zip(groups, parallel(make, groups, reports), strict=True):
            for number, data in zip(group, made, strict=True):
                files[number] = data
    return files


def _check_limits(picture: Picture) -> None:
    check_limits(picture.width, picture.height, picture.metadata)
    if picture.height * picture.width > MAX_PIXELS:
        raise LimitError(
            f"the image has {picture.width}x{picture.height} pixels and the limit is "
            f"{MAX_PIXELS} in total"
        )


def _groups(pictures: Sequence[Picture], networks: Networks, threads: int) -> list[list[int]]:
    """Groups of pictures, by number: each thread makes the files of one after the other.

    A large one is a group of its own, so that no more of them are at work than there are threads;
    what of it can be shared out is done by whoever has nothing else to do. A small one has no work
    for several threads, and its survey is Python's, which one thread does at a time: so one surveys
    a group after the other, while others are in compiled code. Networks that code tiles in step
    want as many as there are.
    """
    everything = list(range(len(pictures)))
    if len(pictures) < 2:
        return [everything] if pictures else []
    if not all(whole_tiles(network) for some in networks.values() for network in some):
        return [everything]
    small = [number for number in everything if _is_small(pictures[number])]
    size = len(small) if threads == 1 else max(1, min(_GROUP, len(small) // (2 * threads)))
    groups = [small[start : start + size] for start in range(0, len(small), max(1, size))]
    return groups + [[number] for number in everything if not _is_small(pictures[number])]


def _is_small(picture: Picture) -> bool:
    return picture.height * picture.width <= _SMALL


def _make(
    pictures: Sequence[Picture],
    drafts: Sequence[list[Choice]],
    tile_size: int,
    adaptive: bool,
    label: int | None,
    threads: int,
    progress: Progress | None,
    parallel: Map,
) -> list[bytes]:
    """The other three acts, after the survey."""
    narrow_down(pictures, drafts, parallel)
    planes = [plane for draft in drafts for plane in planes_of(draft)]
    choose_networks(planes, parallel)
    _cut(planes, tile_size, parallel)
    leave_to_fallback(planes, parallel)
    _code(planes, label, adaptive, threads, progress)
    for plane in planes:
        plane.join()
    alike: dict[int, list[Area]] = defaultdict(list)
    for tile in (tile for plane in planes for tile in plane.tiles):
        alike[id(tile.pixels)].append(tile)
    list(parallel(fall_back, list(alike.values())))
    made = list(parallel(_finish, pictures, drafts))
    if progress is not None:
        progress(1.0)
    return made


# Coding.


def _cut(planes: Sequence[CodedPlane], tile_size: int, parallel: Map) -> None:
    """Cut the planes that a network shall try into tiles."""
    waiting: dict[int, tuple[list[CodedPlane], Iterator[Area]]] = {}
    for plane in planes:
        height, width, _ = plane.layout.shape
        if plane.network is not None and tile_size < max(height, width):
            plane.tile_size = tile_size
            same = id(plane.whole.pixels)
            if same not in waiting:
                grid = tile_grid(height, width, tile_size)
                cuts = [plane.whole.pixels[area(box)] for box in grid]
                waiting[same] = [], parallel(Area, cuts)
            waiting[same][0].append(plane)
    for alike, areas in waiting.values():
        tiles = list(areas)
        for plane in alike:
            plane.tiles = [copy(tile) for tile in tiles]


def _code(
    planes: Sequence[CodedPlane],
    label: int | None,
    adaptive: bool,
    threads: int,
    progress: Progress | None,
) -> None:
    """Offer each area what its network makes of it."""
    together: dict[tuple[int, int, bool, bool], list[Place]] = defaultdict(list)
    for plane in planes:
        sparse = plane.colours is not None
        key = id(plane.network), plane.layout.channels, bool(plane.earlier), sparse
        together[key] += [(plane, *one) for one in plane.open()]
    sizes = {key: sum(one.pixels.size for _, one, _ in group) for key, group in together.items()}
    total, done = sum(sizes.values()), 0
    for key, group in together.items():
        if group:
            adapts = adaptive and not key[-1]  # the stage knows no sets of colours
            part = share(progress, done / total, sizes[key] / total)
            if adapts:
                first = share(part, 0.0, _UNADAPTED)
                _code_together(group, label, False, threads, first)
                part = share(part, _UNADAPTED, 1 - _UNADAPTED)
            _code_together(group, label, adapts, threads, part)
            done += sizes[key]


def _code_together(
    group: Sequence[Place],
    label: int | None,
    adaptive: bool,
    threads: int,
    progress: Progress | None,
) -> None:
    """The same, of areas that have the network and the number of channels in common.

    If it shall be ``adaptive``, the stage of `pixelzip.codec.adaptive` follows the network.
    """
    from pixelzip.codec import tiles  # slow to load, and not every file needs it

    network = group[0][0].network
    assert network is not None
    pixels = [one.pixels for _, one, _ in group]
    known = told([(plane, box) for plane, _, box in group])
    if adaptive:
        adapted = tiles.encode_adaptively(
            network, pixels, given=known, threads=threads, progress=progress
        )
        made = [None if payload is None else Tile(Method.ADAPTIVE, payload) for payload in adapted]
        _offer(group, made)
        return
    colours = allowed([plane for plane, _, _ in group])
    if colours is None and not network.classes:
        fitted = tiles.encode_fitted(
            network, pixels, given=known, threads=threads, progress=progress
        )
        _offer(group, fitted)
        return
    payloads = tiles.encode_tiles(
        network,
        pixels,
        given=known,
        colours=colours,
        label=label if network.classes else None,
        threads=threads,
        progress=progress,
    )
    _offer(group, [Tile(Method.NETWORK, payload) for payload in payloads])


def _offer(group: Sequence[Place], made: Sequence[Tile | None]) -> None:
    for (_, one, _), tile in zip(group, made, strict=True):
        if tile and len(tile.payload) >= methods.least_length(tile.method, one.shape):
            one.offer(tile)


# Choosing.


def _finish(picture: Picture, draft: Sequence[Choice]) -> bytes:
    """Choose the smallest way to store each component, and lay out the file."""
    chosen: list[tuple[Candidate, Component]] = []
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


def _numbered(candidate: Candidate, component: Component, fingerprints: list[bytes]) -> Component:
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
    plane = CodedPlane(Plane(np.concatenate(coded, axis=2), "labels"), [])
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
    payloads = sum(len(tile.payload) + INDEX_COST for tile in tiles)
    return head + side + len(component.corrections) + payloads
