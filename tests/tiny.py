"""Tiny networks for tests: random, but alive in every part, so that any mistake shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelzip.models.freezing import freeze
from pixelzip.models.frozen import file
from pixelzip.models.frozen.architecture import PhotoConfig
from pixelzip.models.networks.photo import Photo
from pixelzip.models.training.photographs import blocks

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


WILD = PhotoConfig(channels=10, blocks="NMM", head=6, components=3)
SCALES = {"first.scale": (-15, -9), "a.scale": (-9, -3), "input_scale": (-9, -3)}
"""Ranges of the logarithms of scales that land about the clamps, on either side; else -6 to 3."""


def wild(seed: int, **members: Any) -> tuple[dict[str, NDArray[Any]], PhotoConfig]:
    """A network of random integers up to what a loader allows, so that clamps are reached."""
    config, random = replace(WILD, **members), np.random.default_rng(seed)
    # Large biases reach the clamps of the sums; small ones let the trunk be heard.
    least = 2 if seed % 2 else 14
    tensors = {}
    for name, (shape, dtype) in file.layout(config).items():
        size = tuple(
            {"first.table": 41, "code.bins": 900, "code.rows": 61}.get(name, 0) if n < 0 else n
            for n in shape
        )
        if dtype == np.float32:
            kind = name.split(".")
            first, last = SCALES.get(".".join(kind[-2:]), SCALES.get(kind[-1], (-6, 3)))
            array = np.exp(random.uniform(first, last, size))
        elif name == "first.weight":
            array = random.integers(-32639, 32640, size)
        elif name == "code.bins":
            array = np.append(0, random.integers(0, 31, size[0] - 1))
        elif name == "code.rows":
            array = random.integers(-(2**26), 2**26 + 1, size) >> random.integers(least, 28, size)
        elif name.endswith("bias"):
            array = random.integers(-(2**30), 2**30, size) >> random.integers(least, 28, size)
        else:
            array = random.integers(-127, 128, size)
        tensors[name] = np.asarray(array).astype(dtype)
    return tensors, config


def write(path: Path, tensors: dict[str, NDArray[Any]], config: PhotoConfig) -> None:
    """The file of a network's integers."""
    freeze.write(path, {n: torch.from_numpy(t) for n, t in tensors.items()}, config, "a test")
