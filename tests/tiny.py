"""Tiny networks for tests: random, but alive in every part, so that any mistake shows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelzip.models.photo import Photo, PhotoConfig
from pixelzip.models.photographs import blocks

CONFIG = PhotoConfig(channels=16, blocks="MN", head=8, components=3)
DEEP = PhotoConfig(channels=8, blocks="MMN", head=9, components=2)


def photo(config: PhotoConfig = CONFIG, seed: int = 0) -> Photo:
    """A float network whose weights are random, those that training starts from zero included."""
    torch.manual_seed(seed)
    network = Photo(config)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter += 0.1 * torch.randn_like(parameter)
            elif name == "predictor":
                parameter += 0.01 * torch.randn_like(parameter)
            elif name.endswith(".b"):
                parameter += torch.randn_like(parameter) * config.channels**-0.5
            elif name.startswith("heads."):
                parameter *= 3
    return network.eval()


def sample(crops: Iterable[NDArray[np.uint8]], side: int = 32) -> Tensor:
    """(N, side, side, 3): the crops in blocks, to calibrate with."""
    return torch.from_numpy(blocks(list(crops), side))
