"""Where the bits of a file go: the *cost map*, how many bits each pixel took.

A network-coded tile is scored again with its samples known: a sample costs ``-log2 p`` of its sub-
pixels, summed, which is what the coder spent on it. The other methods do not spend bits on samples
one by one, so their tiles' payloads are spread evenly. From there to the picture's pixels: what is
stored in several planes adds up, the bits of a sample that covers several pixels are spread over
them, those of corrections over the pixels that they correct, those of a tile's offsets over the
tile, and those of a set of colours, an origin's parameters and a constant component's pixel over
the picture.

The sum of the map is thus the theoretical size of all that. The file is longer by the rest of its
header, its metadata, and the few bytes that the coder adds to each network-coded tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import transforms
from pixelzip.codec.container import MAX_PIXELS, Component, Container, area, unpack
from pixelzip.codec.decode import (
    Canvas,
    FindNetwork,
    allowed,
    assemble,
    canvases,
    fill,
    method_of,
    network_of,
    network_tiles,
    told,
)
from pixelzip.codec.methods import Method
from pixelzip.codec.picture import PlaneLayout
from pixelzip.codec.progress import Progress, share

if TYPE_CHECKING:
    from pixelzip.codec.coefficients import Decoded

Bits = NDArray[np.float32]


def cost_map(
    data: bytes,
    find_network: FindNetwork,
    *,
    threads: int = 1,
    progress: Progress | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Bits:
    """The bits that each pixel of a ``.pxz`` file took: (height, width), summed over sub-pixels.

    The file is decoded first, since only known pixels can be scored; raises as `decode` does.
    """
    container = unpack(data, max_pixels)
    drafts = [canvases(container, component) for component in container.components]
    every = [canvas for draft in drafts for canvas in draft]
    fill(every, find_network, threads=threads, progress=share(progress, 0.0, 0.5))
    assemble(container, drafts)
    bits = np.zeros((container.height, container.width), np.float32)
    spent = _scores(every, find_network, threads, share(progress, 0.5, 0.5))
    for canvas, own in zip(every, spent, strict=True):
        for number, tile in enumerate(canvas.plane.tiles):
            place = own[area(canvas.grid[number])]
            if canvas.coefficients is not None:
                place += _of_blocks(canvas.coefficients, place.shape)
            elif not tile.method.needs_network:
                place += 8 * len(tile.payload) / place.size
        bits += _spread(own, canvas.plane.layout, bits.shape)
        bits += 8 * len(canvas.plane.colours) / bits.size
    for component, draft in zip(container.components, drafts, strict=True):
        bits += 8 * len(component.form.parameters) / bits.size
        if component.corrections:
            wrong = _corrected(container, component, draft)
            bits[wrong] += 8 * len(component.corrections) / wrong.sum()
    if progress is not None:
        progress(1.0)
    return bits


def _scores(
    every: Sequence[Canvas], find_network: FindNetwork, threads: int, progress: Progress | None
) -> list[Bits]:
    """What the network-coded samples of each plane cost, and zero for the others."""
    spent = [np.zeros(canvas.samples.shape[:2], np.float32) for canvas in every]
    maps = dict(zip(map(id, every), spent, strict=True))
    groups = network_tiles(every)
    sizes = [sum(canvas.size(number) for canvas, number in jobs) for jobs in groups]
    done = 0
    for jobs, size in zip(groups, sizes, strict=True):
        from pixelzip.codec import offsets, tiles  # slow to load, and not every file needs it

        conditional = network_of(jobs, find_network)
        payloads = [canvas.plane.tiles[number].payload for canvas, number in jobs]
        method = method_of(jobs)
        channels = jobs[0][0].plane.layout.channels
        fits = tiles.fits_of(conditional, channels, payloads, method)
        scores = tiles.score_tiles(
            conditional,
            [np.ascontiguousarray(c.samples[area(c.grid[number])]) for c, number in jobs],
            given=told(conditional, jobs),
            colours=allowed(jobs),
            labels=[tiles.label_of(conditional, payload) for payload in payloads],
            fits=fits,
            adaptive=method == Method.ADAPTIVE,
            threads=threads,
            progress=share(progress, done / sum(sizes), size / sum(sizes)),
        )
        for score, fit in zip(scores, fits or (), strict=False):
            score += offsets.taken(fit) / score.size  # its numbers, spread evenly
        for (canvas, number), score in zip(jobs, scores, strict=True):
            maps[id(canvas)][area(canvas.grid[number])] = score
        done += size
    return spent


def _of_blocks(decoded: Decoded, shape: tuple[int, ...]) -> Bits:
    """What each sample of a plane took, where the bits of a block are spread evenly over it."""
    blocks = decoded.blocks
    down, across = (
        (np.arange(count) + start) // 8
        for count, start in zip(shape, (blocks.top, blocks.left), strict=True)
    )
    sizes = np.outer(np.bincount(down), np.bincount(across))
    spent: Bits = (decoded.prices / sizes).astype(np.float32)[np.ix_(down, across)]
    return spent


def _spread(spent: Bits, layout: PlaneLayout, shape: tuple[int, int]) -> Bits:
    """The bits of a plane's samples, over the picture's pixels that each of them covers.

    Those of samples beyond the picture's edges go to the samples at the edges.
    """
    for axis, (pixels, step, phase) in enumerate(
        zip(shape, layout.step, layout.phase, strict=True)
    ):
        covering = np.minimum((np.arange(pixels) + phase) // step, spent.shape[axis] - 1)
        first, last = covering[0], covering[-1]
        inside = np.add.reduceat(spent, np.append(0, np.arange(first + 1, last + 1)), axis=axis)
        covered = np.expand_dims(np.bincount(covering - first), 1 - axis)
        spent = (inside / covered).astype(np.float32).take(covering - first, axis=axis)
    return spent


def _corrected(
    container: Container, component: Component, draft: Sequence[Canvas]
) -> NDArray[np.bool_]:
    """(height, width): the pixels that rendering does not give."""
    shape = container.height, container.width
    samples = [canvas.samples for canvas in draft]
    rendered = transforms.render(container.mode, component.form, samples, shape)
    right = transforms.correct(rendered, component.corrections)
    wrong: NDArray[np.bool_] = (rendered != right).any(axis=2)
    return wrong
