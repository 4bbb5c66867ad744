"""A file to a picture: the way of `pixelzip.codec.encode`, backwards.

All the network's tiles of all the files step together, then everything is put in its place, and the
checksum decides whether it is returned.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pixelzip.codec import methods, transforms
from pixelzip.codec.conditional import Conditional
from pixelzip.codec.container import (
    MAX_PIXELS,
    Component,
    Container,
    tile_grid,
    truncated_checksum,
    unpack,
)
from pixelzip.codec.errors import FormatError, UnknownNetworkError
from pixelzip.codec.methods import Method, Tile
from pixelzip.codec.picture import Bytes, Picture
from pixelzip.codec.progress import Progress, share

FindNetwork = Callable[[bytes], Conditional]
"""Finds the network whose fingerprint starts with these bytes, or raises UnknownNetworkError."""


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
            pixels[number] = methods.decode(job.tile, (*job.shape, job.component.channels))
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


def _assemble(container: Container, decoded: Iterator[Bytes]) -> Picture:
    """Put the tiles in their places, undo grey and joined, and verify the checksum."""
    height, width = container.height, container.width
    planes: list[Bytes] = []
    groups = transforms.groups(container.mode, container.joined)
    for component, group in zip(container.components, groups, strict=True):
        coded = np.empty((height, width, component.channels), np.uint8)
        for top, left, rows, columns in tile_grid(height, width, component.tile_size):
            coded[top : top + rows, left : left + columns] = next(decoded)
        planes += transforms.restore(coded, group)
    picture = Picture(container.mode, tuple(planes), container.metadata)
    if truncated_checksum(picture.crc, width, height) != container.checksum:
        raise FormatError("the file is damaged: its pixels do not match its checksum")
    return picture
