"""Where the bits of a file go: the *cost map*, how many bits each pixel took.

A network-coded tile is scored again with its pixels known: a pixel costs ``-log2 p`` of its
sub-pixels, summed, which is what the coder spent on it. The other methods do not spend bits on
pixels one by one, so their tiles' payloads are spread evenly. What a picture holds in several
components (colour, alpha, the low bytes of 16-bit samples) adds up.

The sum of the map is thus the theoretical size of all payloads. The file is longer by its header,
its metadata, and the few bytes that the coder adds to each network-coded tile.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.container import Container, tile_grid, unpack
from pixelzip.codec.decode import FindNetwork, decode
from pixelzip.codec.methods import Method, Tile
from pixelzip.codec.picture import Bytes, Picture
from pixelzip.codec.progress import Progress, share
from pixelzip.codec.transforms import groups


def cost_map(
    data: bytes,
    find_network: FindNetwork,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """The bits that each pixel of a ``.pxz`` file took: (height, width), summed over sub-pixels.

    The file is decoded first, since only known pixels can be scored; raises as `decode` does.
    """
    container = unpack(data)
    picture = decode(data, find_network, threads=threads, progress=share(progress, 0.0, 0.5))
    bits = np.zeros((container.height, container.width), np.float32)
    network_tiles = []
    for area, tile, pixels in _tiles(container, picture):
        if tile.method == Method.NETWORK:
            network_tiles.append((area, tile, pixels))
        else:
            bits[area] += 8 * len(tile.payload) / (pixels.shape[0] * pixels.shape[1])
    if network_tiles:
        from pixelzip.codec import tiles  # slow to load, and not every file needs it

        conditional = find_network(container.network)
        scores = tiles.score_tiles(
            conditional,
            [pixels for _, _, pixels in network_tiles],
            labels=[tiles.label_of(conditional, tile.payload) for _, tile, _ in network_tiles],
            threads=threads,
            progress=share(progress, 0.5, 0.5),
        )
        for (area, _, _), score in zip(network_tiles, scores, strict=True):
            bits[area] += score
    if progress is not None:
        progress(1.0)
    return bits


def _tiles(
    container: Container, picture: Picture
) -> Iterator[tuple[tuple[slice, slice], Tile, Bytes]]:
    """Each tile of the file: where it lies, the tile, its (height, width, coded channels)."""
    planes = iter(picture.planes)
    for component, group in zip(
        container.components, groups(container.mode, container.joined), strict=True
    ):
        carried = [next(planes) for _ in group]
        if component.channels < sum(group):  # grey: colour is coded as one channel
            carried = [plane[:, :, :1] for plane in carried]
        coded = np.concatenate(carried, axis=2)
        grid = tile_grid(container.height, container.width, component.tile_size)
        for tile, (top, left, height, width) in zip(component.tiles, grid, strict=True):
            area = slice(top, top + height), slice(left, left + width)
            yield area, tile, np.ascontiguousarray(coded[area])
