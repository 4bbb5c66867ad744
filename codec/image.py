"""Pictures to files and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Picture:
    """An image as the codec sees it: raw planes of bytes, a mode, and metadata it does not read.

    ``planes`` holds one (height, width, channels) array for each component of ``MODES[mode]``.
    """

    mode: str
    planes: tuple[NDArray[np.uint8], ...]
    metadata: bytes = b""
