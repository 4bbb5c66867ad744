"""The top of the codec: a picture to a file and back, each part by whichever method is smallest.

`encode_many` goes through three short acts. *Survey*: look at each component (is it constant? grey?
does the fallback make it so small that no network is needed?) and cut the rest into tiles. *Code*:
all the tiles of all the pictures go through the network together. *Choose*: tile by tile and then
component by component, the smallest of what the methods made of it.

`decode_many` is the same backwards: all the network's tiles of all the files step together, then
everything is put in its place and the checksum decides whether it is returned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import packed
from pixelzip.codec.conditional import Conditional
from pixelzip.codec.container import (
    MAX_NETWORK_SIDE,
    MAX_PIXELS,
    MIN_TILE,
    MODES,
    Component,
    Container,
    Method,
    Tile,
    check_limits,
    fingerprint_length,
    groups,
    least_payload,
    pack,
    tile_grid,
    truncated_checksum,
    unpack,
)
from pixelzip.codec.errors import FormatError, LimitError, UnknownNetworkError

Bytes = NDArray[np.uint8]
Progress = Callable[[float], None]
"""Told now and then which fraction of the work is done, 0 to 1."""
FindNetwork = Callable[[bytes], Conditional]
"""Finds the network whose fingerprint starts with these bytes, or raises UnknownNetworkError."""

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


@dataclass(frozen=True)
class Picture:
    """An image as the codec sees it: planes of bytes, a mode, and metadata that it does not read.

    ``planes`` holds one (height, width, channels) uint8 array for each component of
    ``MODES[mode]``; ``metadata`` comes back as it went in.
    """

    mode: str
    planes: tuple[Bytes, ...]
    metadata: bytes = b""

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"there is no mode {self.mode!r}")
        if len(self.planes) != len(MODES[self.mode]):
            raise ValueError(f"mode {self.mode} has {len(MODES[self.mode])} planes")
        for plane, channels in zip(self.planes, MODES[self.mode], strict=True):
            if plane.dtype != np.uint8 or plane.shape != (self.height, self.width, channels):
                raise ValueError(f"a plane of mode {self.mode} is {plane.dtype} {plane.shape}")
        if self.height == 0 or self.width == 0:
            raise ValueError("a picture has at least one pixel")

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.planes[0].shape[0])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.planes[0].shape[1])


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
    pixels, or a side or metadata beyond the format.
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
    """Decode the bytes of ``.pxz`` files; all the tiles of a network step together.

    Raises FormatError if a file is damaged, LimitError if its picture has more than ``max_pixels``
    pixels, UnknownNetworkError if it needs a network that ``find_network`` does not find.
    """
    containers = [unpack(data, max_pixels) for data in files]
    jobs = [
        _Job(container, component, tile, (height, width))
        for container in containers
        for component in container.components
        for tile, (_, _, height, width) in zip(
            component.tiles,
            tile_grid(container.height, container.width, component.tile_size),
            strict=True,
        )
    ]
    decoded = iter(_decode(jobs, find_network, threads, progress))
    pictures = [_assemble(container, decoded) for container in containers]
    if progress is not None:
        progress(1.0)
    return pictures


def decode_tile(
    container: Container, component: int, tile: int, find_network: FindNetwork
) -> Bytes:
    """Decode one tile alone: (height, width, coded channels) of the component.

    Nothing guards a lone tile against damage: the checksum covers the whole picture. Raises as
    `decode_many` does.
    """
    part = container.components[component]
    grid = tile_grid(container.height, container.width, part.tile_size)
    job = _Job(container, part, part.tiles[tile], grid[tile][2:])
    return _decode([job], find_network, 1, None)[0]


# Encoding.


class _Area:
    """Pixels (height, width, channels) to code as one tile, and the smallest tile found so far."""

    def __init__(self, pixels: Bytes) -> None:
        self.pixels = np.ascontiguousarray(pixels)
        self.best: Tile | None = None
        self.estimate = 0.0
        if (pixels == pixels[0, 0]).all():
            self.best = Tile(Method.CONSTANT, pixels[0, 0].tobytes())
        else:
            self.estimate = packed.estimate(self.pixels)
            if self.estimate * 8 < _FLAT * pixels.size:
                self.fall_back()

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
            self.offer(Tile(Method.PACKED, packed.pack_pixels(self.pixels)))
            if self.cost >= self.pixels.size:
                self.best = Tile(Method.RAW, self.pixels.tobytes())


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
    looks = [pool.map(_whole, picture.planes) for picture in pictures]
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


def _whole(plane: Bytes) -> _Area:
    """A component as one area, of one channel if that is enough."""
    return _Area(plane[:, :, :1] if _is_grey(plane) else plane)


def _part(whole: _Area, to_try: bool, looked_at: Iterator[_Area], tile_size: int) -> _Part:
    tiles = list(looked_at)
    areas = (tiles or [whole]) if to_try else []
    return _Part(whole, tile_size, tiles, [area for area in areas if area.best is None])


def _is_grey(plane: Bytes) -> bool:
    """Whether red, green and blue are equal everywhere."""
    return plane.shape[2] == 3 and bool((plane[:, :, :1] == plane[:, :, 1:]).all())


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
            if len(payload) >= least_payload(Method.NETWORK, area.pixels.size):
                area.offer(Tile(Method.NETWORK, payload))
        done += size


def _finish(picture: Picture, parts: list[_Part], fingerprint: bytes) -> bytes:
    """Choose the smallest way to code each component, and lay out the file."""
    components = [part.settle() for part in parts]
    if sum(component.tiles[0].method != Method.CONSTANT for component in components) > 1:
        joined = _Area(_join(picture.planes, [part.whole.pixels for part in parts]))
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
            checksum=_checksum(picture),
        )
    )


def _join(planes: Sequence[Bytes], coded: Sequence[Bytes]) -> Bytes:
    """All channels side by side; colour as one channel if that is enough everywhere."""
    grey = all(plane.shape[2] == 1 for plane in coded)
    return np.concatenate(coded if grey else planes, axis=2)


def _component_cost(component: Component) -> int:
    return sum(len(tile.payload) + _INDEX_COST for tile in component.tiles)


def _checksum(picture: Picture) -> int:
    crc = 0
    for plane in picture.planes:
        crc = crc32(np.ascontiguousarray(plane).data, crc)
    return truncated_checksum(crc, picture.width, picture.height)


# Decoding.


@dataclass(frozen=True)
class _Job:
    """One tile to decode, and where it comes from."""

    container: Container
    component: Component
    tile: Tile
    shape: tuple[int, int]


def _decode(
    jobs: Sequence[_Job], find_network: FindNetwork, threads: int, progress: Progress | None
) -> list[Bytes]:
    """Pixels (height, width, channels) of each tile; those of one network step together."""
    pixels: dict[int, Bytes] = {}
    together: dict[tuple[bytes, int], list[int]] = defaultdict(list)
    for number, job in enumerate(jobs):
        if job.tile.method == Method.NETWORK:
            together[job.container.network, job.component.channels].append(number)
        else:
            pixels[number] = _decode_alone(job)
    sizes = {
        group: sum(jobs[k].shape[0] * jobs[k].shape[1] * group[1] for k in numbers)
        for group, numbers in together.items()
    }
    total, done = sum(sizes.values()), 0
    for group, numbers in together.items():
        from pixelzip.codec import tiles  # slow to load, and not every file needs it

        prefix, channels = group
        conditional = find_network(prefix)
        if not conditional.fingerprint.startswith(prefix):
            raise UnknownNetworkError(
                f"the file needs the network {prefix.hex()} and was given another"
            )
        restored = tiles.decode_tiles(
            conditional,
            [jobs[number].tile.payload for number in numbers],
            [jobs[number].shape for number in numbers],
            channels,
            threads=threads,
            progress=share(progress, done / total, sizes[group] / total),
        )
        pixels.update(zip(numbers, restored, strict=True))
        done += sizes[group]
    return [pixels[number] for number in range(len(jobs))]


def _decode_alone(job: _Job) -> Bytes:
    """Pixels of a tile that needs no network."""
    shape = (*job.shape, job.component.channels)
    payload = job.tile.payload
    if job.tile.method == Method.PACKED:
        return packed.unpack_pixels(payload, shape)
    values = np.frombuffer(payload, np.uint8)
    if job.tile.method == Method.CONSTANT:
        return np.broadcast_to(values, shape)
    return values.reshape(shape)


def _assemble(container: Container, decoded: Iterator[Bytes]) -> Picture:
    """Put the tiles in their places, undo grey and joined, and verify the checksum."""
    height, width = container.height, container.width
    planes: list[Bytes] = []
    for component, group in zip(
        container.components, groups(container.mode, container.joined), strict=True
    ):
        coded = np.empty((height, width, component.channels), np.uint8)
        for top, left, rows, columns in tile_grid(height, width, component.tile_size):
            coded[top : top + rows, left : left + columns] = next(decoded)
        start = 0
        for channels in group:
            grey = component.channels < sum(group)
            plane = coded[:, :, start : start + (1 if grey else channels)]
            start += plane.shape[2]
            planes.append(np.ascontiguousarray(plane.repeat(channels, 2) if grey else plane))
    picture = Picture(container.mode, tuple(planes), container.metadata)
    if _checksum(picture) != container.checksum:
        raise FormatError("the file is damaged: its pixels do not match its checksum")
    return picture


def share(progress: Progress | None, start: float, share: float) -> Progress | None:
    """A progress report for a part of the work: ``share`` of it, from ``start`` on."""
    if progress is None:
        return None
    return lambda fraction: progress(start + share * fraction)
