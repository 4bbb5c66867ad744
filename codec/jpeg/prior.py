"""What the model of JPEG files knows before it has seen anything of one: `prior.xz`.

It is part of the format: another prior makes other files. `pixelzip.models.training.jpegs` makes
it, of photographs. It holds, one after the other, compressed with LZMA: the length of the
*dictionary* (4 bytes), the dictionary, and of each slot, weight, final weight and refined
probability how far it is from that of a model that knows nothing.
"""

from __future__ import annotations

import hashlib
import lzma
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.errors import PixelzipError
from pixelzip.codec.tables import SIGMOID

SHA256 = "f34f0e347e36369d1146dc187662d304ab2e8d75e265ca5e10fca30e4598f4d4"

SEEN = 15
"""How many bits a slot that is known is taken to have seen."""
WEIGHT_UNIT = 1 << 11
FINAL_UNIT = 1 << 9
REFINED_UNIT = 1 << 9


@dataclass(frozen=True)
class Prior:
    """``memory`` is that of coefficients; ``dictionary`` is coded before other bytes are."""

    memory: NDArray[np.int32]
    dictionary: bytes


def load(sizes: tuple[int, ...], fresh: NDArray[np.int32]) -> Prior:
    """The prior, for a memory of so many slots, weights, final weights and refined probabilities.

    ``fresh`` are the numbers of one that knows nothing.
    """
    stored = (files(__package__) / "prior.xz").read_bytes()
    if hashlib.sha256(stored).hexdigest() != SHA256:
        raise PixelzipError("pixelzip's own file prior.xz is damaged: install pixelzip again")
    return unpack(stored, sizes, fresh)


def unpack(stored: bytes, sizes: tuple[int, ...], fresh: NDArray[np.int32]) -> Prior:
    data = lzma.decompress(stored)
    length = int.from_bytes(data[:4], "little")
    rest = data[4 + length :]
    memory = fresh.copy()
    slots, weights, finals, refined = np.split(memory, np.cumsum(sizes)[:-1])
    codes = np.frombuffer(rest, np.uint8, sizes[0])
    small = np.frombuffer(rest, np.int8, offset=sizes[0]).astype(np.int32)
    steps = np.split(small, np.cumsum(sizes[1:])[:-1])
    known = np.flatnonzero(codes)
    slots.view(np.uint32)[known] = _slots()[codes[known]]
    weights += steps[0] * WEIGHT_UNIT
    finals += steps[1] * FINAL_UNIT
    refined += steps[2] * REFINED_UNIT
    memory.flags.writeable = False
    return Prior(memory, data[4 : 4 + length])


def _slots() -> NDArray[np.uint32]:
    """The slot of each code but 0: code - 16 is its logit in halves."""
    logits = np.clip(np.arange(256), 1, 31) - 16
    probabilities = SIGMOID[(logits + 32) * 32]  # in units of 2^-22, at 64 steps for each of logits
    slots: NDArray[np.uint32] = (probabilities << 10 | SEEN).astype(np.uint32)
    return slots


def _codes(slots: NDArray[np.uint32], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    probabilities = (slots >> 10).astype(np.float64) / (1 << 22)
    logits = np.log((probabilities + 1e-7) / (1 - probabilities + 1e-7))
    return np.where(known, np.clip(np.round(2 * logits), -15, 15) + 16, 0).astype(np.uint8)


def pack(
    dictionary: bytes,
    sizes: tuple[int, ...],
    fresh: NDArray[np.int32],
    memory: NDArray[np.int32],
    known: NDArray[np.bool_],
) -> bytes:
    """The bytes of a prior, from a memory that has learnt, and the slots of it to keep."""
    ends = np.cumsum(sizes)[:-1]
    parts = np.split(memory, ends)
    after = [part.astype(np.int64) for part in parts[1:]]
    before = [part.astype(np.int64) for part in np.split(fresh, ends)[1:]]
    units = WEIGHT_UNIT, FINAL_UNIT, REFINED_UNIT
    steps = [
        np.clip(np.round((now - then) / unit), -127, 127).astype(np.int8)
        for now, then, unit in zip(after, before, units, strict=True)
    ]
    codes = _codes(parts[0].view(np.uint32), known)
    data = b"".join([len(dictionary).to_bytes(4, "little"), dictionary, codes.tobytes()])
    data += b"".join(one.tobytes() for one in steps)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "pb": 0}]
    return lzma.compress(data, check=lzma.CHECK_NONE, filters=filters)
