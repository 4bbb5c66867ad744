"""Damaged JPEG files by the hundred thousand: each comes back byte for byte, soon. Run by hand::

    python tests/fuzz_jpegs.py --count 200000

Most runs stop at the parts of a file, which is where its bytes are read; each hundredth goes on to
the .pxz file and back, and then damages that (with a checksum that fits) for the decoder. Compile
the C sources with ``-fsanitize=address,undefined`` for it to see more.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import jpegs
from fuzzing import campaign, soon

from pixelzip.codec.container import seal
from pixelzip.codec.errors import FormatError, PixelzipError
from pixelzip.codec.jpeg import file
from pixelzip.codec.jpeg.parts import put_together, take_apart

WHOLE = 100
"""Each so-many-th goes to the .pxz file."""

SUCCESSIVE = [
    ((0, 1, 2), 0, 0, 0, 1),
    ((0,), 1, 5, 0, 2),
    ((2,), 1, 63, 0, 1),
    ((1,), 1, 63, 0, 1),
    ((0,), 6, 63, 0, 2),
    ((0,), 1, 63, 2, 1),
    ((0, 1, 2), 0, 0, 1, 0),
    ((2,), 1, 63, 1, 0),
    ((1,), 1, 63, 1, 0),
    ((0,), 1, 63, 1, 0),
]


def seeds(photo: Path) -> list[bytes]:
    """Small files of many kinds."""
    found = []
    for options in (
        {},
        {"subsampling": "4:4:4", "restart_marker_blocks": 2},
        {"subsampling": "4:2:2", "restart_marker_rows": 1},
        {"progressive": True},
        {"progressive": True, "subsampling": "4:4:4", "restart_marker_blocks": 3},
        {"optimize": True, "comment": b"a comment"},
    ):
        found += [jpegs.photo(photo, (40, 27), quality=quality, **options) for quality in (30, 90)]
    found += [jpegs.photo(photo, (33, 20), mode, quality=75) for mode in ("L", "CMYK")]
    for sampling in ([(2, 2), (1, 1), (1, 1)], [(1, 1), (2, 1), (1, 3)], [(3, 2), (1, 1), (3, 1)]):
        head = jpegs.headers(41, 35, sampling, progressive=True, interval=5)
        found.append(jpegs.build(head, SUCCESSIVE, len(found), odd=0.1)[0])
        head = jpegs.headers(41, 35, sampling)
        script = [((0, 1, 2), 0, 63, 0, 0)]
        found.append(jpegs.build(head, script, len(found), pads=None, odd=0.3)[0])
    small = jpegs.segment(0xE1, b"Exif\0\0" + found[0])
    return [*found, found[1][:2] + small + found[1][2:] + found[0]]


def damaged(data: bytes, donor: bytes, random: Random) -> bytes:
    """One to five mutations, half of them in the headers."""
    out = bytearray(data)
    for _ in range(random.choice([1, 1, 1, 2, 5])):
        reach = len(out) if random.random() < 0.5 else min(len(out), 620)
        at = random.randrange(2, max(3, reach))
        kind = random.randrange(7)
        if kind < 2:
            out[at : at + 1] = bytes([random.choice([0, 255, random.randrange(256)])])
        elif kind == 2 and at < len(out):
            out[at] ^= 1 << random.randrange(8)
        elif kind == 3:
            del out[at : at + random.choice([1, 2, 40, len(out)])]
        elif kind == 4:
            start = random.randrange(len(donor))
            out[at:at] = donor[start : start + random.randrange(1, 200)]
        elif kind == 5:
            out[at : at + 2] = bytes([255, random.choice([0, 0xC0, 0xC2, 0xC4, 0xD0, 0xD9, 0xDA])])
        else:
            out += random.randbytes(random.randrange(1, 50))
    return bytes(out)


@soon()
def attack(data: bytes, random: Random, whole: bool) -> str:
    """What became of a damaged file; AssertionError if it does not come back."""
    parts = take_apart(data)
    try:
        same = put_together(parts.segments, parts.notes, parts.blocks, len(data)) == data
        outcome = "parts" if same else "other bytes"
    except FormatError:
        outcome = "refused"
    if parts.headers.trouble and outcome == "parts":
        outcome = "parts with trouble" if parts.notes else "no scan"
    if whole and (not parts.headers.frame or parts.headers.frame.blocks < 5000):
        coded = file.encode(data)
        assert file.decode(coded) == data
        body = bytearray(coded[:-4])
        for _ in range(random.choice([1, 2])):
            body[random.randrange(3, len(body))] = random.randrange(256)
        try:
            file.decode(seal(bytes(body)), max_pixels=1 << 20)
        except PixelzipError:
            outcome += ", whole"
    return outcome


def main() -> None:
    files = seeds(Path(__file__).resolve().parent.parent / "examples" / "parrots.png")

    def one(number: int, random: Random) -> str:
        data = damaged(random.choice(files), random.choice(files), random)
        return attack(data, random, number % WHOLE == 0)

    campaign(__doc__ or "", one, 200_000)


if __name__ == "__main__":
    main()
