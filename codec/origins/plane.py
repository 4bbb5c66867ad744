"""What an origin says about the samples that a picture's pixels were computed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class PlaneLayout:
    """Size and meaning of a plane, known before its samples are.

    ``kind`` is "colour", "luma", "chroma" or "labels". A sample stands for ``step`` pixels of the
    picture, down and right; sample k covers rows (columns) step*k - phase and, where the step is 2,
    the one after. A plane may reach beyond the picture: up to ``phase`` (0, 1 or 2) rows before
    it, and at most 2 after it.
    """

    height: int
    width: int
    channels: int
    kind: str
    step: tuple[int, int] = (1, 1)
    phase: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Plane:
    """Samples that are coded as one image: (height, width, channels) uint8; see `PlaneLayout`."""

    samples: Bytes
    kind: str
    step: tuple[int, int] = (1, 1)
    phase: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Found:
    """An origin of a picture: the parameters of its rendering, and the planes it starts from."""

    parameters: bytes
    planes: tuple[Plane, ...]
