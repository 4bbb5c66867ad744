"""JPEG files within a JPEG file: thumbnails in its metadata, and pictures behind its end.

Each is taken apart as the whole file is, so that its coefficients are coded as such and not as
bytes. An inner file begins somewhere in the segments and goes on to their end: what follows its own
end marker is among its segments, and comes out as it went in. So one takes the data of its scans
out of the segments, and is put back at the same place; several are taken out one after the other,
and put back from the last to the first.

The *late* ones stand behind the end of the file, and are taken out first; the *early* ones stand
before its first scan, where its headers cannot be read without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pixelzip.codec.errors import FormatError, LimitError
from pixelzip.codec.jpeg import model, parts
from pixelzip.codec.jpeg.headers import MAX_BLOCKS, SOI
from pixelzip.codec.workers import side_by_side

MOST = 16
"""Inner files of each kind."""
EARLY_BLOCKS = 1 << 15
"""Of all early ones: `info` and all that reads headers decodes them."""
_TRIES = 64
_OVERHEAD = 16  # bytes that say what and where an inner file is, and more


@dataclass(frozen=True)
class Inner:
    """An inner file, without its segments."""

    place: int
    """Where it begins."""
    removed: int
    """Bytes that its scans have."""
    notes: bytes
    bands: list[bytes]

    def is_like(self, before: Inner | None) -> bool:
        """Whether it has the coefficients of the one before, as the copy of a thumbnail has."""
        return before is not None and (self.notes, self.bands) == (before.notes, before.bands)


def take_out(segments: bytes, notes: bytes, threads: int) -> tuple[bytes, list[Inner], list[Inner]]:
    """The segments without the scans of inner files, the late and the early ones of these."""
    first, last = parts.scan_ends(segments, notes)
    late = _take_out(segments, last, len(segments), MAX_BLOCKS, threads)
    early = _take_out(late[0], 0, first, EARLY_BLOCKS, threads)
    return early[0], late[1], early[1]


def _take_out(
    text: bytes, begin: int, end: int, most: int, threads: int
) -> tuple[bytes, list[Inner]]:
    """Take out those that lie from ``begin`` to ``end``, of at most ``most`` blocks together."""
    found: list[Inner] = []
    at = begin
    for _ in range(_TRIES):
        at = text.find(SOI + b"\xff", at + 1, end)
        if at < 0 or len(found) == MOST:
            break
        one = parts.take_apart(text[at:])
        removed = len(text) - at - len(one.segments)
        frame = one.headers.frame
        is_sound = frame is not None and one.headers.ended and not one.headers.trouble
        lies_within = one.segments.endswith(text[end:]) and removed < end - at
        if frame is None or not (is_sound and lies_within) or frame.blocks > most:
            continue
        steps = one.headers.model_steps()
        try:
            with side_by_side(threads) as parallel:
                bands = model.encode_blocks(frame, steps, one.blocks, removed, parallel)
        except model.NoRoomError:
            continue
        if sum(map(len, bands)) + len(one.notes) + _OVERHEAD > removed:
            continue
        found.append(Inner(at, removed, one.notes, bands))
        text, end, most = text[:at] + one.segments, end - removed, most - frame.blocks
    return text, found


def put_back(
    segments: bytes, inner: Sequence[Inner], most: int, max_pixels: int, threads: int
) -> bytes:
    """The segments with the scans of inner files, of at most ``most`` blocks together.

    Raises FormatError if they are damaged, LimitError if the pictures have more than
    ``max_pixels`` pixels together.
    """
    for one in reversed(inner):
        own = segments[one.place :]
        headers = parts.first_headers(own)
        if headers.frame is None or headers.frame.blocks > most:
            raise FormatError("the file is damaged: it has impossible parts of a JPEG file")
        most -= headers.frame.blocks
        max_pixels -= headers.frame.width * headers.frame.height
        if max_pixels < 0:
            raise LimitError("the images within the image have too many pixels")
        with side_by_side(threads) as parallel:
            steps = headers.model_steps()
            blocks, _ = model.decode_blocks(headers.frame, steps, one.bands, parallel)
        whole = parts.put_together(own, one.notes, blocks, len(own) + one.removed)
        segments = segments[: one.place] + whole
    return segments
