"""How many bits an image takes in theory: a network's negative log-likelihood of its pixels.

That of the whole image, cut into tiles as the codec does by default, also where the codec would
find a simpler form for some of them. A grey plane has one sub-pixel a pixel, as it has for the
codec. For images that a network codes in part or not at all (bits, 16-bit samples), there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pixelzip import api, coding
from pixelzip.codec.container import tile_grid
from pixelzip.codec.encode import DEFAULT_TILE
from pixelzip.codec.errors import UnsuitableNetworkError
from pixelzip.codec.picture import Picture
from pixelzip.models.freezing.freeze import load_checkpoint

_MODES = ("L", "LA", "RGB", "RGBA")


def frozen_bits(network: str, picture: Picture, threads: int) -> float | None:
    """Under a frozen network, given by name or path: what it would code, without the coder.

    Each tile has the class that suits it best, if the network has classes. Grey is luma, of which
    another network may take care.
    """
    try:
        return float(coding.score(picture, network, threads).sum(dtype=np.float64))
    except UnsuitableNetworkError:
        return None


def file_bits(data: bytes, networks: Sequence[str], threads: int) -> float:
    """What all that a file's payloads say takes in theory; parts without a network as they are."""
    return float(api.cost_map(data, networks=networks, threads=threads).sum(dtype=np.float64))


@torch.no_grad()
def float_bits(checkpoint: Path | None, picture: Picture) -> float | None:
    """Under the float network of a checkpoint, in float32."""
    if checkpoint is None or picture.mode not in _MODES:
        return None
    network, colours = _network(checkpoint)
    nats = 0.0
    for channels in (1, 3):
        for tile in _tiles(picture, channels):
            if channels > colours:
                return None
            colour = torch.from_numpy(np.repeat(tile, colours // channels, axis=2))
            nats -= float(network(colour[None])[..., :channels].double().sum())
    return nats / math.log(2)


@cache
def _network(checkpoint: Path) -> tuple[nn.Module, int]:
    """The float network of a checkpoint, and how many colours it knows."""
    network, state = load_checkpoint(checkpoint)
    return network, state["architecture"].get("colours", 3)


def _tiles(picture: Picture, channels: int) -> list[NDArray[np.uint8]]:
    """The picture's tiles (height, width, channels) that have so many channels."""
    grid = tile_grid(picture.height, picture.width, DEFAULT_TILE)
    planes = [_coded(plane) for plane in picture.planes]
    return [
        np.ascontiguousarray(plane[top : top + height, left : left + width])
        for plane in planes
        if plane.shape[2] == channels
        for top, left, height, width in grid
    ]


def _coded(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    grey = plane.shape[2] == 3 and bool((plane[..., :1] == plane[..., 1:]).all())
    return plane[..., :1] if grey else plane
