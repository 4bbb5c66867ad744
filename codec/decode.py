"""A file to a picture: the way of `pixelzip.codec.encode`, backwards.

Planes come in ranks: first all those that are given nothing, then first chroma planes, then
second ones. The network-coded tiles of a rank, of all the files, step together. Then transforms are
undone, and the checksum decides whether the picture is returned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from pixelzip.codec import given, methods, transforms
from pixelzip.codec.colours import Colours
from pixelzip.codec.conditional import Conditional, whole_tiles
from pixelzip.codec.container import (
    MAX_PIXELS,
    Component,
    Container,
    StoredPlane,
    area,
    truncated_checksum,
    unpack,
)
from pixelzip.codec.errors import (
    FormatError,
    PixelzipError,
    RegionError,
    UnknownNetworkError,
    of_file,
)
from pixelzip.codec.methods import Method
from pixelzip.codec.origins import blocks
from pixelzip.codec.picture import MODES, Box, Bytes, Picture, PlaneLayout
from pixelzip.codec.progress import Progress, parts, share
from pixelzip.codec.transforms import Form, Transform
from pixelzip.codec.workers import Map, side_by_side

if TYPE_CHECKING:
    from pixelzip.codec.coefficients import Decoded

FindNetwork = Callable[[bytes], Conditional]
"""Finds the network whose fingerprint starts with these bytes, or raises UnknownNetworkError."""

_SMALL = 256 * 256
"""The pixels of the largest small picture."""


def decode(
    data: bytes,
    find_network: FindNetwork,
    *,
    threads: int = 1,
    progress: Progress | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """Decode the bytes of a ``.pxz`` file: `decode_many` of one."""
    return decode_many(
        [data], find_network, threads=threads, progress=progress, max_pixels=max_pixels
    )[0]


def decode_many(
    files: Sequence[bytes],
    find_network: FindNetwork,
    *,
    threads: int = 1,
    progress: Progress | None = None,
    max_pixels: int = MAX_PIXELS,
) -> list[Picture]:
    """Decode the bytes of ``.pxz`` files.

    Those of large pictures go apart, as many at a time as there are threads; all tiles of small
    ones step together, or of all where a network decodes several tiles at a time.

    Raises FormatError if a file is damaged, LimitError if its picture has more than ``max_pixels``
    pixels, UnknownNetworkError if it needs a network that ``find_network`` does not find; the
    error's ``file`` is the number of that file.
    """
    containers: list[Container] = []
    for number, data in enumerate(files):
        with of_file(number):
            containers.append(unpack(data, max_pixels))
    pictures: dict[int, Picture] = {}
    with side_by_side(threads) as parallel:

        def make(group: Sequence[int], part: Progress | None) -> list[Picture]:
            some = [containers[number] for number in group]
            try:
                return _decode_together(some, find_network, threads, part, parallel)
            except PixelzipError:  # which of them is it?
                for number in group:
                    with of_file(number):
                        _decode_together([containers[number]], find_network, 1, None, map)
                raise

        groups = _groups(containers, find_network)
        reports = parts(progress, [len(group) for group in groups])
        for group, made in zip(groups, parallel(make, groups, reports), strict=True):
            pictures.update(zip(group, made, strict=True))
    return [pictures[number] for number in range(len(files))]


def _groups(containers: Sequence[Container], find_network: FindNetwork) -> list[list[int]]:
    """Those that are decoded together, by number. UnknownNetworkError if a network is missing."""
    everything = list(range(len(containers)))
    if len(containers) < 2 or not all(_whole_tiles(containers, find_network)):
        return [everything] if containers else []
    small: list[int] = []
    large: list[int] = []
    for number, one in enumerate(containers):
        (small if one.height * one.width <= _SMALL else large).append(number)
    return ([small] if small else []) + [[number] for number in large]


def _whole_tiles(containers: Sequence[Container], find_network: FindNetwork) -> Iterator[bool]:
    """Of each network of each file, whether it codes whole tiles."""
    for number, container in enumerate(containers):
        with of_file(number):
            found = [find_network(name) for name in container.networks]
        yield from map(whole_tiles, found)


def _decode_together(
    containers: Sequence[Container],
    find_network: FindNetwork,
    threads: int,
    progress: Progress | None,
    parallel: Map,
) -> list[Picture]:
    drafts = [[canvases(container, c) for c in container.components] for container in containers]
    fill(
        [canvas for draft in drafts for component in draft for canvas in component],
        find_network,
        threads=threads,
        progress=progress,
    )
    pictures = list(parallel(assemble, containers, drafts))
    if progress is not None:
        progress(1.0)
    return pictures


class Partial:
    """A file of which regions are decoded: each tile once, when a region first needs it.

    The checksum of the pixels covers the whole picture, so only that of the file's bytes guards a
    region. A picture whose origin needs corrections is decoded whole.
    """

    def __init__(
        self,
        data: bytes,
        find_network: FindNetwork,
        *,
        threads: int = 1,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        """Decodes nothing yet. Raises as `decode_many` does."""
        self.container = unpack(data, max_pixels)
        self.drafts = [canvases(self.container, c) for c in self.container.components]
        self._find_network, self._threads = find_network, threads
        for canvas in self._canvases:
            canvas.wanted.clear()

    @property
    def _canvases(self) -> list[Canvas]:
        return [canvas for draft in self.drafts for canvas in draft]

    def region(self, box: Box, progress: Progress | None = None) -> Picture:
        """The pixels within a box, and all the metadata. Raises as `decode_many` does.

        RegionError if the box is empty or does not lie within the picture.
        """
        container = self.container
        if not _contains((0, 0, container.height, container.width), box):
            top, left, height, width = box
            raise RegionError(
                f"the image is {container.width}x{container.height} and has no region of "
                f"{width}x{height} at {left},{top}"
            )
        parts = [self._part(component, box) for component in container.components]
        for draft, (_, around, layouts) in zip(self.drafts, parts, strict=True):
            for canvas, layout in zip(draft, layouts, strict=True):
                canvas.want(_place(canvas, layout, around))
        fill(self._canvases, self._find_network, threads=self._threads, progress=progress)
        for canvas in self._canvases:
            canvas.known |= canvas.wanted
            canvas.wanted.clear()
        planes: dict[int, Bytes] = {}
        for component, draft, (form, around, layouts) in zip(
            container.components, self.drafts, parts, strict=True
        ):
            samples = [
                canvas.samples[area(_place(canvas, layout, around))]
                for canvas, layout in zip(draft, layouts, strict=True)
            ]
            restored = transforms.restore(
                container.mode,
                component.position,
                form,
                samples,
                component.corrections,
                around[2:],
            )
            inside = box[0] - around[0], box[1] - around[1], box[2], box[3]
            carried = transforms.carried(container.mode, component.position, form.transform)
            for place, plane in zip(carried, restored, strict=True):
                planes[place] = np.ascontiguousarray(plane[area(inside)])
        ordered = tuple(plane for _, plane in sorted(planes.items()))
        return Picture(container.mode, ordered, container.metadata)

    def _part(self, component: Component, box: Box) -> tuple[Form, Box, list[PlaneLayout]]:
        """What a component's pixels within a box are restored from: see `transforms.part`."""
        shape = self.container.height, self.container.width
        form, around = component.form, (0, 0, *shape)
        if not component.corrections:
            form, around = transforms.part(form, shape, box)
        layouts = transforms.layouts(self.container.mode, component.position, form, around[2:])
        return form, around, layouts


def _contains(box: Box, other: Box) -> bool:
    """Whether the other box has pixels, and all of them lie within the first."""
    return all(
        other[axis + 2] > 0
        and box[axis] <= other[axis]
        and other[axis] + other[axis + 2] <= box[axis] + box[axis + 2]
        for axis in (0, 1)
    )


def _place(canvas: Canvas, layout: PlaneLayout, around: Box) -> Box:
    """The samples of a plane that lie over a part of the picture, where they have that layout."""
    whole = canvas.plane.layout
    top, left = (
        (around[axis] + whole.phase[axis] - layout.phase[axis]) // whole.step[axis]
        for axis in (0, 1)
    )
    return top, left, layout.height, layout.width


def decode_tile(
    container: Container, component: int, plane: int, tile: int, find_network: FindNetwork
) -> Bytes:
    """Decode one tile alone: (height, width, channels) of a component's plane.

    What a tile of a chroma plane is given is decoded with it. Nothing guards a lone tile against
    damage: the checksum covers the whole picture. Raises as `decode_many` does.
    """
    drafts = canvases(container, container.components[component])
    for canvas in drafts:
        canvas.wanted.clear()
    drafts[plane].want(drafts[plane].grid[tile])
    fill(drafts[: plane + 1], find_network)
    return drafts[plane].samples[area(drafts[plane].grid[tile])].copy()


# Planes.


class Canvas:
    """A stored plane, and its samples as they get known."""

    def __init__(self, plane: StoredPlane, network: bytes, earlier: Sequence[Canvas]) -> None:
        self.plane, self.network, self.earlier = plane, network, earlier
        self.rank: int = max((canvas.rank + 1 for canvas in earlier), default=0)
        self.grid = plane.grid
        self.wanted = set(range(len(self.grid)))
        """The tiles to decode."""
        self.known: set[int] = set()
        """Those that were decoded for an earlier region."""
        self.coefficients: Decoded | None = None
        """What the samples were rendered from, where they were."""

    @cached_property
    def samples(self) -> Bytes:
        """(height, width, channels), as far as they are known."""
        return np.empty(self.plane.layout.shape, np.uint8)

    @property
    def is_blocks(self) -> bool:
        """Whether it is stored as coefficients."""
        return self.plane.tiles[0].method == Method.BLOCKS

    @cached_property
    def colours(self) -> Colours | None:
        """All that the network-coded tiles can have; None if any. FormatError if damaged."""
        return colours_of(self.plane)

    def want(self, box: Box) -> None:
        """Want the tiles that hold a part of the plane, and those that they are given."""
        layout = self.plane.layout
        for number, tile in enumerate(self.grid):
            if number not in self.known and _overlap(box, tile):
                self.wanted.add(number)
                for canvas in self.earlier:
                    if self.plane.tiles[number].method.needs_network:
                        canvas.want(given.reach(layout, tile, canvas.plane.layout))
                    elif self.is_blocks and canvas.is_blocks:
                        canvas.want(canvas.grid[0])

    def given(self, tile: int) -> Bytes:
        """What a tile is given, once the earlier planes are known."""
        planes = [(canvas.plane.layout, canvas.samples) for canvas in self.earlier]
        return given.samples(self.plane.layout, self.grid[tile], planes)

    def decode_blocks(self, parallel: Map) -> None:
        """Decode a plane that is stored as coefficients; earlier ones are known."""
        from pixelzip.codec import coefficients  # slow to load, and few files need it

        layout, found = self.plane.layout, [canvas.coefficients for canvas in self.earlier]
        earlier = [
            (canvas.plane.layout, None if one is None else one.blocks)
            for canvas, one in zip(self.earlier, found, strict=True)
        ]
        payload = self.plane.tiles[0].payload
        self.coefficients = coefficients.decode(payload, layout, earlier, parallel)
        shape = layout.height, layout.width
        self.put(0, blocks.render(self.coefficients.blocks, shape)[:, :, None])

    def size(self, tile: int) -> int:
        """The sub-pixels of a tile."""
        _, _, height, width = self.grid[tile]
        return height * width * self.plane.layout.channels

    def put(self, tile: int, pixels: Bytes) -> None:
        """Take in a tile."""
        if pixels.shape == self.plane.layout.shape and pixels.flags.carray:
            self.samples = pixels  # a large picture is held once
        else:
            self.samples[area(self.grid[tile])] = pixels


def _overlap(one: Box, other: Box) -> bool:
    """Whether two boxes have something in common."""
    return all(
        one[axis] < other[axis] + other[axis + 2] and other[axis] < one[axis] + one[axis + 2]
        for axis in (0, 1)
    )


def colours_of(plane: StoredPlane) -> Colours | None:
    """The set of colours that a plane comes with, if any. FormatError if damaged."""
    if not plane.colours:
        return None
    return Colours.from_bytes(plane.colours, plane.layout.height * plane.layout.width)


def canvases(container: Container, component: Component) -> list[Canvas]:
    """The planes of a component, empty."""
    layouts = [plane.layout for plane in component.planes]
    made: list[Canvas] = []
    for number, plane in enumerate(component.planes):
        network = b"" if plane.network is None else container.networks[plane.network]
        earlier = [made[i] for i in given.earlier(layouts, number)]
        made.append(Canvas(plane, network, earlier))
    return made


Job = tuple[Canvas, int]
"""A tile of a plane, by its number."""


def fill(
    drafts: Sequence[Canvas],
    find_network: FindNetwork,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> None:
    """Decode the tiles that are wanted, rank by rank; those of one network step together."""
    for canvas in drafts:
        for number in canvas.wanted:
            tile = canvas.plane.tiles[number]
            if not (tile.method.needs_network or tile.method == Method.BLOCKS):
                _, _, height, width = canvas.grid[number]
                shape = height, width, canvas.plane.layout.channels
                canvas.put(number, methods.decode(tile, shape))
    _fill_blocks([canvas for canvas in drafts if canvas.wanted and canvas.is_blocks], threads)
    groups = network_tiles(drafts)
    sizes = [sum(canvas.size(number) for canvas, number in jobs) for jobs in groups]
    done = 0
    for jobs, size in zip(groups, sizes, strict=True):
        part = share(progress, done / sum(sizes), size / sum(sizes))
        _step(jobs, find_network, threads, part)
        done += size


def _fill_blocks(drafts: Sequence[Canvas], threads: int) -> None:
    """Decode planes that are stored as coefficients, rank by rank."""
    with side_by_side(threads) as parallel:
        for rank in sorted({canvas.rank for canvas in drafts}):
            some = [canvas for canvas in drafts if canvas.rank == rank]
            list(parallel(lambda canvas: canvas.decode_blocks(parallel), some))


def network_tiles(drafts: Sequence[Canvas]) -> list[list[Job]]:
    """The tiles that are wanted and network-coded, those in a list together that may step so.

    They have their rank, their network, their number of channels and their method in common, and
    whether there are sets of colours. The lists are by ascending rank.
    """
    together: dict[tuple[int, bytes, int, bool, Method], list[Job]] = defaultdict(list)
    for canvas in drafts:
        plane = canvas.plane
        key = canvas.rank, canvas.network, plane.layout.channels, bool(plane.colours)
        for number in sorted(canvas.wanted):
            method = plane.tiles[number].method
            if method.needs_network:
                together[*key, method].append((canvas, number))
    return [together[key] for key in sorted(together, key=lambda key: key[0])]


def network_of(jobs: Sequence[Job], find_network: FindNetwork) -> Conditional:
    """The network of some tiles. UnknownNetworkError if it is not at hand."""
    prefix = jobs[0][0].network
    conditional = find_network(prefix)
    if not conditional.fingerprint.startswith(prefix):
        raise UnknownNetworkError(
            f"the file needs the network {prefix.hex()} and was given another"
        )
    return conditional


def told(conditional: Conditional, jobs: Sequence[Job]) -> Sequence[Bytes] | None:
    """What a network is told of earlier planes for each tile, if it wants to know and they are."""
    if not conditional.given or not jobs[0][0].earlier:
        return None
    return given.Lazy([partial(canvas.given, tile) for canvas, tile in jobs])


def allowed(jobs: Sequence[Job]) -> list[Colours | None] | None:
    """The set of colours of each tile, if there are any."""
    return [canvas.colours for canvas, _ in jobs] if jobs[0][0].plane.colours else None


def method_of(jobs: Sequence[Job]) -> Method:
    """The method that tiles have in common."""
    canvas, number = jobs[0]
    return canvas.plane.tiles[number].method


def _step(
    jobs: Sequence[Job], find_network: FindNetwork, threads: int, progress: Progress | None
) -> None:
    """Decode network-coded tiles together."""
    from pixelzip.codec import tiles  # slow to load, and not every file needs it

    conditional = network_of(jobs, find_network)
    restored = tiles.decode_tiles(
        conditional,
        [canvas.plane.tiles[tile].payload for canvas, tile in jobs],
        [canvas.grid[tile][2:] for canvas, tile in jobs],
        jobs[0][0].plane.layout.channels,
        given=told(conditional, jobs),
        colours=allowed(jobs),
        method=method_of(jobs),
        threads=threads,
        progress=progress,
    )
    for (canvas, tile), pixels in zip(jobs, restored, strict=True):
        canvas.put(tile, pixels)


# Pictures.


def assemble(container: Container, drafts: Sequence[Sequence[Canvas]]) -> Picture:
    """Undo the transforms, and verify the checksum."""
    height, width = container.height, container.width
    planes: list[Bytes] = [np.empty(0, np.uint8)] * len(MODES[container.mode])
    for component, draft in zip(container.components, drafts, strict=True):
        position, form = component.position, component.form
        restored = transforms.restore(
            container.mode,
            position,
            form,
            [canvas.samples for canvas in draft],
            component.corrections,
            (height, width),
        )
        carried = transforms.carried(container.mode, position, form.transform)
        for place, plane in zip(carried, restored, strict=True):
            is_constant = form.transform == Transform.CONSTANT  # which is one pixel in memory
            planes[place] = plane if is_constant else np.ascontiguousarray(plane)
    picture = Picture(container.mode, tuple(planes), container.metadata)
    if truncated_checksum(picture.crc, width, height) != container.checksum:
        raise FormatError("the file is damaged: its pixels do not match its checksum")
    return picture
