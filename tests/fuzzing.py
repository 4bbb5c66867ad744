"""Damage to real files: any of it gives a clear error or the right pixels, soon and in little room.

`attack` is for every entry point that reads files: give it real ones and what decodes them.
`campaign` is the command line of those fuzzers that are run by hand, for hours.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from random import Random

import numpy as np

from pixelzip.codec import document
from pixelzip.codec.container import SEAL, Container, pack, seal, unpack
from pixelzip.codec.errors import PixelzipError
from pixelzip.codec.methods import Method, Tile
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
        try:
            with soon():
                picture = decode(hurt)
        except PixelzipError:
            continue
        is_right = any(same(picture, other) for other in right)
        assert is_right or forged, (number, hurt.hex())
        survivors += is_right
    return survivors


def same(one: Picture, other: Picture) -> bool:
    """Whether two pictures have the same mode, pixels and metadata."""
    return (
        one.mode == other.mode
        and one.metadata == other.metadata
        and len(one.planes) == len(other.planes)
        and all(map(np.array_equal, one.planes, other.planes))
    )


@contextmanager
def soon() -> Iterator[None]:
    """What is done to one file takes at most SECONDS."""
    start = time.process_time()
    yield
    assert time.process_time() - start < SECONDS


# Damage behind a checksum, or several, where only someone who means harm does any.


def damage_field(data: bytes, donor: bytes, random: Random) -> bytes:
    """A .pxz file of pictures of which one field is damaged: lengths and checksums fit again."""
    if document.holds_document(data):
        pages = document.unpack(data)
        number = random.randrange(len(pages))
        pages[number] = damage_field(pages[number], donor, random)
        return document.pack(pages)
    container = _container(data)
    number = random.randrange(len(container.components))
    component = container.components[number]
    fields = ["metadata", "networks", "corrections", "parameters"]
    fields += ["colours", "method", "payload", "payload", "payload"] * bool(component.planes)
    match random.choice(fields):
        case "metadata":
            metadata = damage(container.metadata or donor[:99], donor, random)
            return pack(replace(container, metadata=metadata))
        case "networks":
            networks = tuple(random.randbytes(len(one)) for one in container.networks)
            return pack(replace(container, networks=networks))
        case "corrections":
            corrections = damage(component.corrections or donor[:9], donor, random)
            component = replace(component, corrections=corrections)
        case "parameters":
            form = component.form
            parameters = damage(form.parameters or donor[:9], donor, random)
            if random.random() < 0.1:
                form = replace(form, origin=random.randrange(8))
            component = replace(component, form=replace(form, parameters=parameters))
        case field:
            which = random.randrange(len(component.planes))
            plane = component.planes[which]
            if field == "colours":
                plane = replace(plane, colours=damage(plane.colours or donor[:9], donor, random))
            else:
                tiles = list(plane.tiles)
                place = random.randrange(len(tiles))
                method, payload = tiles[place].method, tiles[place].payload
                if field == "method":
                    method = random.choice(list(Method))
                else:
                    payload = damage(payload or donor[:9], donor, random)
                tiles[place] = Tile(method, payload)
                plane = replace(plane, tiles=tuple(tiles))
            planes = [*component.planes[:which], plane, *component.planes[which + 1 :]]
            component = replace(component, planes=tuple(planes))
    others = container.components
    components = (*others[:number], component, *others[number + 1 :])
    return pack(replace(container, components=components))


@cache
def _container(data: bytes) -> Container:
    return unpack(data)


def damage_chunk(data: bytes, donor: bytes, random: Random) -> bytes:
    """A PNG of which one chunk is damaged, or what it compresses: its checksums fit again."""
    chunks = _chunks(data)
    number = random.randrange(len(chunks))
    kind, body = chunks[number]
    start = body.find(b"x", 0, 90) if kind in (b"IDAT", b"iCCP", b"zTXt", b"iTXt") else -1
    if start >= 0 and random.random() < 0.7:
        try:
            inside = zlib.decompress(body[start:])
        except zlib.error:
            inside = donor[:99]
        body = body[:start] + zlib.compress(damage(inside or donor[:9], donor, random), 1)
    elif random.random() < 0.1:
        kind = random.choice([one for one, _ in chunks])
    else:
        body = damage(body or donor[:9], donor, random)
    chunks[number] = kind, body
    if random.random() < 0.1:
        chunks.insert(random.randrange(len(chunks)), random.choice(chunks))
    out = data[:8]
    for kind, body in chunks:
        whole = kind + body
        out += len(body).to_bytes(4, "big") + whole + zlib.crc32(whole).to_bytes(4, "big")
    return out


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """The kind and the body of each chunk of a sound PNG."""
    found, at = [], 8
    while at < len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        found.append((data[at + 4 : at + 8], data[at + 8 : end]))
        at = end + 4
    return found


def campaign(doc: str, attack: Callable[[int, Random], str], count: int) -> None:
    """The command line of a fuzzer: what became of so many files.

    ``attack`` damages and reads one, and says what came of it; each follows from its number, so
    that one that fails can be had again by itself.
    """
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--first", type=int, default=0, help="the number to begin with")
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # of Pillow, about what is damaged
    found = Counter[str]()
    for number in range(given.first, given.first + given.count):
        try:
            found[attack(number, Random(number))] += 1
        except Exception:
            print("failed: --count 1 --first", number, flush=True)
            raise
        done = number + 1 - given.first
        if done % 10_000 == 0 or done == given.count:
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            print(done, dict(sorted(found.items())), f"{most} MB", flush=True)
