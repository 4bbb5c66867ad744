"""The method BLOCKS: a plane that a JPEG decoder made, as the coefficients that it was made from.

A payload is what `Blocks` says::

    | place | steps           | bands, edition | lengths of all but the last | band by band |
    |   1   | 1 or a few more | varint         | a varint each               |              |

*Place* is how the blocks lie (bits 0-2: top, 3-5: left, 6: transposed), and in bit 7, whether the
steps that follow are those of the transposed blocks. Coefficients are coded by the model of JPEG
files (`pixelzip.codec.jpeg.model`), knowing the blocks that lie there in the planes which a plane
of chroma is given, if these are stored so as well. Each plane is a message of its own: any of them
may be stored so, and the blocks of one need not fit those of another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.errors import FormatError, MissingLibraryError
from pixelzip.codec.jpeg import model, quality
from pixelzip.codec.jpeg.headers import Component, Frame
from pixelzip.codec.jpeg.quality import ZIGZAG, Table
from pixelzip.codec.numbers import Reader, varint
from pixelzip.codec.origins.blocks import Blocks, size
from pixelzip.codec.picture import PlaneLayout
from pixelzip.codec.workers import Map

Earlier = Sequence[tuple[PlaneLayout, Blocks | None]]
"""The planes that one is given, see `pixelzip.codec.given`; with blocks where they have some."""

_OWN, _OWN_WIDE, _AS_BEFORE = range(quality.COUNT, quality.COUNT + 3)
"""Steps that follow, of a byte or two each; those of the plane before. Smaller numbers are those
of `quality.tables`."""
_EDITION = 5  # bits that come before it, and hold how many bands there are

_MISSING = (
    "it holds coefficients of a JPEG, which only pixelzip's compiled library can decode, and this "
    "pixelzip was installed without a C compiler"
)


def is_possible() -> bool:
    """Whether this installation can code such planes."""
    return model.library() is not None


def with_usual_steps(blocks: Sequence[Blocks | None]) -> list[Blocks | None]:
    """The same planes, luma first, with steps that take few bytes.

    A frequency that all coefficients of a plane are zero of may have any step.
    """
    done: list[Blocks | None] = []
    like: int | None = None
    before: Table | None = None
    for number, one in enumerate(blocks):
        if one is not None:
            used: NDArray[np.bool_] = np.any(one.coefficients, axis=(0, 1))
            usual = quality.usual(one.steps, used, like, number > 0)
            if usual is not None:
                before, like = usual
            elif before is None or not (before == one.steps)[used].all():
                before = one.steps
            one = replace(one, steps=before)
        done.append(one)
    return done


def encode(
    layout: PlaneLayout, blocks: Blocks, earlier: Earlier, parallel: Map = map
) -> bytes | None:
    """The payload of a plane; None if it is larger than the plane's samples."""
    turned, steps = _pack_steps(blocks, earlier)
    place = blocks.top | blocks.left << 3 | blocks.transposed << 6 | turned << 7
    known = _known(layout, blocks, earlier)
    own = blocks.coefficients.reshape(-1, 64)[:, ZIGZAG]
    frame, room = _frame(blocks, len(earlier)), layout.height * layout.width + 64
    try:
        bands = model.encode_blocks(
            frame, _steps(blocks, earlier), np.vstack([known, own]), room, parallel, len(earlier)
        )
    except model.NoRoomError:
        return None
    lengths = b"".join(varint(len(band)) for band in bands[:-1])
    count = varint(len(bands) | model.EDITION << _EDITION)
    return bytes([place]) + steps + count + lengths + b"".join(bands)


@dataclass(frozen=True)
class Decoded:
    """What there is in a payload."""

    blocks: Blocks
    prices: NDArray[np.float32]
    """(rows, columns): the bits that each block took."""


def decode(payload: bytes, layout: PlaneLayout, earlier: Earlier, parallel: Map = map) -> Decoded:
    """The blocks of a plane.

    Raises FormatError if the payload is damaged, MissingLibraryError where there was no compiler,
    UnknownNetworkError if it needs the coefficients' network of a newer pixelzip.
    """
    if not is_possible():
        raise MissingLibraryError(_MISSING)
    reader = Reader(payload)
    place, number = reader.take(2)
    own = reader.take(reader.varint()) if number in (_OWN, _OWN_WIDE) else b""
    counts = reader.varint()
    model.check_edition(counts >> _EDITION)
    steps = _steps_of(number, own, earlier)
    if place >> 7:
        steps = quality.transposed(steps)
    count = counts & 31
    if not 1 <= count <= model.MAX_BANDS:
        raise _damaged()
    bands = [reader.take(length) for length in [reader.varint() for _ in range(count - 1)]]
    bands.append(reader.take(reader.remaining))
    top, left, transposed = place & 7, place >> 3 & 7, bool(place >> 6 & 1)
    shape = size((layout.height, layout.width), top, left)
    blocks = Blocks(steps, np.zeros((*shape, 64), np.int16), top, left, transposed)
    known, frame = _known(layout, blocks, earlier), _frame(blocks, len(earlier))
    found, prices = model.decode_blocks(frame, _steps(blocks, earlier), bands, parallel, known)
    blocks.coefficients.reshape(-1, 64)[:, ZIGZAG] = found[len(known) :]
    prices = prices[len(known) :].reshape(shape)
    return Decoded(blocks, (prices / 1024).astype(np.float32))


def describe(payload: bytes) -> str:
    """Which quantisation table a payload says, in words. FormatError if it is too short to."""
    number = Reader(payload).take(2)[1]
    if number < quality.COUNT:
        return f"quality {number % 100 + 1}"
    return "the same" if number == _AS_BEFORE else "a table of its own"


def _known(layout: PlaneLayout, blocks: Blocks, earlier: Earlier) -> NDArray[np.int16]:
    """Of each earlier plane the block where each of these is, (planes * blocks, 64) in zigzag.

    That is the one which lies over a block's first sample, or over the next one that there is.
    """
    rows, columns, _ = blocks.coefficients.shape
    found = np.zeros((len(earlier), rows * columns, 64), np.int16)
    for out, (other, there) in zip(found, earlier, strict=True):
        if there is not None:
            starts = (blocks.top, there.top), (blocks.left, there.left)
            sides = zip((rows, columns), starts, strict=True)
            down, across = (
                _over(layout, other, axis, 8 * np.arange(count) - own, its)
                for axis, (count, (own, its)) in enumerate(sides)
            )
            out[:] = there.coefficients[np.ix_(down, across)].reshape(-1, 64)[:, ZIGZAG]
    return found.reshape(-1, 64)


def _over(
    layout: PlaneLayout, other: PlaneLayout, axis: int, samples: NDArray[np.intp], start: int
) -> NDArray[np.intp]:
    """The rows (or columns) of another plane's blocks that lie over those samples' rows."""
    pixels = layout.step[axis] * samples - layout.phase[axis]
    there = (pixels + other.phase[axis]) // other.step[axis]
    return (there.clip(0, other.shape[axis] - 1) + start) // 8


def _frame(blocks: Blocks, earlier: int) -> Frame:
    """These blocks as a component after others of as many."""
    rows, columns, _ = blocks.coefficients.shape
    components = (
        Component(i, 1, 1, 0, columns, rows, columns, rows, i * rows * columns)
        for i in range(earlier + 1)
    )
    return Frame(8 * columns, 8 * rows, False, tuple(components))


def _steps(blocks: Blocks, earlier: Earlier) -> NDArray[np.int32]:
    """(components, 64) in zigzag order; 1 of a plane without blocks."""
    none = np.ones(64, np.int32)
    known = [none if there is None else there.steps[ZIGZAG] for _, there in earlier]
    return np.stack([*known, blocks.steps[ZIGZAG]]).astype(np.int32)


# Steps.


def _pack_steps(blocks: Blocks, earlier: Earlier) -> tuple[bool, bytes]:
    """How steps are said; and whether it is those of transposed blocks that are said."""
    before = [one.steps for _, one in earlier if one is not None]
    if before and np.array_equal(before[-1], blocks.steps):
        return False, bytes([_AS_BEFORE])
    both = blocks.steps, quality.transposed(blocks.steps)
    for turned, steps in enumerate(both):
        number = quality.number(steps)
        if number is not None:
            return bool(turned), bytes([number])
    steps = both[blocks.transposed]
    wide = int(steps.max()) > 255
    text = model.encode_bytes(_segment(wide) + steps[ZIGZAG].astype(_TYPES[wide]).tobytes())
    return blocks.transposed, bytes([_OWN + wide]) + varint(len(text)) + text


def _steps_of(number: int, own: bytes, earlier: Earlier) -> Table:
    if number < quality.COUNT:
        steps: Table = quality.tables()[number]
        return steps
    if number == _AS_BEFORE:
        before = [one.steps for _, one in earlier if one is not None]
        if not before:
            raise _damaged()
        return before[-1]
    if number not in (_OWN, _OWN_WIDE):
        raise _damaged()
    wide = number == _OWN_WIDE
    head = _segment(wide)
    text = model.decode_bytes(own, len(head) + 64 * (1 + wide))
    steps = np.empty(64, np.uint16)
    steps[ZIGZAG] = np.frombuffer(text, _TYPES[wide], offset=len(head))
    if not text.startswith(head) or not steps.all():
        raise _damaged()
    return steps


_TYPES = ("u1", ">u2")


def _segment(wide: bool) -> bytes:
    """What a JPEG file has before 64 steps: with it, its model knows what they are."""
    return b"\xff\xdb\x00\x83\x10" if wide else b"\xff\xdb\x00\x43\x00"


def _damaged() -> FormatError:
    return FormatError("the file is damaged: it has impossible coefficients")
