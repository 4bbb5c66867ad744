"""The weights of ``dct``, the network of JPEG coefficients: `network.xz`, part of the format.

`pixelzip.models.freezing.dct` makes it of what was trained. It holds, compressed with LZMA, all
weights (signed bytes), then all biases (4 bytes), then all shifts (bytes), in the order in which
docs/format.md, "The network of coefficients", names them.
"""

from __future__ import annotations

import hashlib
import lzma
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.errors import PixelzipError

SHA256 = "03852b2574571ada682b1e1bc82394dbe08018671ad39b5ec6d3852b992938c2"

Weights = tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.uint8]]
"""Weights, biases, shifts."""


def load(sizes: tuple[int, ...]) -> Weights:
    """The weights, of which there are so many."""
    stored = (files(__package__) / "network.xz").read_bytes()
    if hashlib.sha256(stored).hexdigest() != SHA256:
        raise PixelzipError("pixelzip's own file network.xz is damaged: install pixelzip again")
    return unpack(stored, sizes)


def unpack(stored: bytes, sizes: tuple[int, ...]) -> Weights:
    data = lzma.decompress(stored)
    weights, biases, shifts = sizes
    if len(data) != weights + 4 * biases + shifts:
        raise PixelzipError("the network of coefficients is of another pixelzip")
    return (
        np.frombuffer(data, np.int8, weights),
        np.frombuffer(data, "<i4", biases, weights).astype(np.int32),
        np.frombuffer(data, np.uint8, shifts, weights + 4 * biases),
    )
