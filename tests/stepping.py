"""The two faces of a conditional, side by side: all of what it says of some tiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import tiles
from pixelzip.codec.conditional import Conditional

Tile = NDArray[np.uint8]


def known(network: Conditional, tile: Tile, label: int = 0) -> NDArray[np.int32]:
    """The parameters of a parallel pass, (height * width, channels, ...)."""
    return np.concatenate(list(network.parallel(tile, label)))


def learnt(
    network: Conditional,
    together: Sequence[Tile],
    label: int = 0,
    given: Sequence[NDArray[np.uint8]] | None = None,
) -> list[NDArray[np.int32]]:
    """The same parameters, front by front, of several tiles in step."""
    shapes = [tile.shape[:2] for tile in together]
    channels = together[0].shape[2]
    told = () if given is None else (given,)
    stepper = network.stepwise(shapes, channels, [label] * len(shapes), *told)
    found: list[NDArray[np.int32]] = []
    for spans in tiles.fronts(network, shapes):
        members = np.concatenate([np.full(len(numbers), tile) for tile, numbers in spans])
        widths = np.array([shapes[tile][1] for tile in members])
        rows, columns = np.divmod(np.concatenate([numbers for _, numbers in spans]), widths)
        stepper.select(members, rows, columns)
        for channel in range(channels):
            parameters = stepper.parameters(channel)
            rest = parameters.shape[1:]
            found = found or [np.zeros((h * w, channels, *rest), np.int32) for h, w in shapes]
            for i, (tile, r, c) in enumerate(zip(members, rows, columns, strict=True)):
                found[tile][r * shapes[tile][1] + c, channel] = parameters[i]
            places = zip(members, rows, columns, strict=True)
            stepper.reveal(channel, np.array([together[t][r, c, channel] for t, r, c in places]))
    return found
