"""What origins are made of: planes of samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["colour", "luma", "chroma", "labels"]


@dataclass(frozen=True)
class PlaneLayout:
    """The size and place of a plane's samples, all but the samples themselves."""

    height: int
    width: int
    channels: int
    kind: Kind
    step: tuple[int, int] = (1, 1)
    phase: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Plane:
    """Samples that are coded as one image: (height, width, channels) uint8."""

    samples: NDArray[np.uint8]
    kind: Kind
    step: tuple[int, int] = (1, 1)
    phase: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Found:
    """An origin's parameters and planes."""

    parameters: bytes
    planes: tuple[Plane, ...]
