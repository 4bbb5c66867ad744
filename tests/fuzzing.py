"""Damage to real files: any of it gives a clear error or the right pixels, soon and in little room.

`attack` is for every entry point that reads files: give it real ones and what decodes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from random import Random

import numpy as np

from pixelzip.codec.container import SEAL, seal
from pixelzip.codec.errors import PixelzipError
from pixelzip.codec.picture import Picture

SECONDS = 5.0
"""Processor time within which any damaged version of a small file is dealt with."""

_EXTREMES = [
    b"\x00",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xff\x7f",
    b"\x80\x80\x01",
    b"\xff\xff\x3f",
    b"\xff\xff\xff\x7f",
    b"\xff\xff\xff\xff\x0f",
    b"\xff" * 8 + b"\x7f",
    b"\xff" * 12,
]


def damage(data: bytes, donor: bytes, random: Random) -> bytes:
    """One random mutation of a file; most of them fall on its first bytes, where the header is."""
    out = bytearray(data)

    def position() -> int:
        reach = len(data) if random.random() < 0.5 else min(len(data), 24)
        return random.randrange(reach)

    def flip_bits() -> None:
        for _ in range(random.choice([1, 1, 1, 2, 5])):
            out[position()] ^= 1 << random.randrange(8)

    def overwrite() -> None:
        at = position()
        out[at : at + random.randrange(1, 9)] = random.randbytes(random.randrange(1, 9))

    def truncate() -> None:
        del out[position() :]

    def insert() -> None:
        at = position()
        out[at:at] = random.randbytes(random.randrange(1, 17))

    def delete() -> None:
        at = position()
        del out[at : at + random.randrange(1, 17)]

    def repeat() -> None:
        at = position()
        out[at:at] = out[at : at + random.randrange(1, 65)]

    def append() -> None:
        out.extend(random.choice([bytes(random.randrange(1, 9)), random.randbytes(3), donor]))

    def splice() -> None:
        at = position()
        out[at:] = donor[random.choice([at, random.randrange(len(donor))]) :]

    def graft() -> None:
        start = random.randrange(len(donor))
        piece = donor[start : start + random.randrange(1, 33)]
        at = position()
        out[at : at + len(piece)] = piece

    def extreme_number() -> None:
        at = position()
        out[at : at + random.randrange(3)] = random.choice(_EXTREMES)

    kinds: list[Callable[[], None]] = [flip_bits, flip_bits, overwrite, truncate, insert, delete]
    kinds += [repeat, append, splice, graft, extreme_number, extreme_number]
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        if out:
            random.choice(kinds)()
            data = bytes(out) or data
    return bytes(out)


def attack(
    data: bytes,
    decode: Callable[[bytes], Picture],
    *,
    count: int,
    donors: Sequence[bytes],
    seed: int = 0,
) -> int:
    """Decode ``count`` damaged versions of a file; return how many still gave the right pixels.

    Every second one is sealed anew, as by someone who means harm. Fails on an error that is not a
    PixelzipError, on more than SECONDS, and on other pixels of what is not sealed anew. A splice
    may restore a whole donor, so its pixels are right as well.
    """
    random = Random(f"{seed} {data.hex()}")
    right = [decode(file) for file in (data, *donors)]
    survivors = 0
    for number in range(count):
        forged = bool(number % 2)
        if forged:
            hurt = seal(damage(data[:-SEAL], random.choice(donors)[:-SEAL], random))
        else:
            hurt = damage(data, random.choice(donors), random)
        start = time.process_time()
        try:
            picture = decode(hurt)
        except PixelzipError:
            pass
        else:
            is_right = any(same(picture, other) for other in right)
            assert is_right or forged, (number, hurt.hex())
            survivors += is_right
        assert time.process_time() - start < SECONDS, (number, hurt.hex())
    return survivors


def same(one: Picture, other: Picture) -> bool:
    """Whether two pictures have the same mode, pixels and metadata."""
    return (
        one.mode == other.mode
        and one.metadata == other.metadata
        and len(one.planes) == len(other.planes)
        and all(map(np.array_equal, one.planes, other.planes))
    )
