"""Coefficients and text of a golden JPEG, decoded as the page says, are those of the codec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference_jpeg as reference

from pixelzip.codec import probabilities, tables
from pixelzip.codec.jpeg import file, parts, syntax

GOLDEN = Path(__file__).parent / "golden" / "jpeg"
PRIOR = Path(file.__file__).parent / "prior.xz"
NETWORK = Path(file.__file__).parent / "network.xz"


compiled = pytest.mark.skipif(syntax.library() is None, reason="there is no compiled library")


def decoded(data: bytes, bands: list[bytes]) -> list[list[int]]:
    """The blocks of a JPEG file's bands; of the file only the headers are looked at."""
    found = parts.take_apart(data)
    frame = found.headers.frame
    assert frame is not None
    memory = reference.Memory(probabilities.LOGIT.tolist(), tables.SIGMOID.tolist())
    memory.learn_prior(PRIOR.read_bytes())
    steps = found.headers.model_steps().tolist()
    planes = [
        reference.Plane(one.h, one.v, one.stride, one.rows, own)
        for one, own in zip(frame.components, steps, strict=True)
    ]
    (band,) = bands
    coder = reference.Coder(memory, band)
    network = reference.Network(NETWORK.read_bytes())
    reference.decode_band(coder, network, planes, 0, frame.units_down)
    coder.finish()
    return [block for plane in planes for row in plane.blocks for block in row]


def text_of(stored: bytes, length: int) -> bytes:
    """Segments and notes."""
    memory = reference.Memory(probabilities.LOGIT.tolist(), tables.SIGMOID.tolist())
    dictionary = memory.learn_prior(PRIOR.read_bytes())
    memory = reference.Memory(probabilities.LOGIT.tolist(), tables.SIGMOID.tolist())
    given = [byte >> i & 1 for byte in dictionary for i in range(7, -1, -1)]
    assert reference.bytes_of(reference.Coder(memory, given=given), len(dictionary)) == dictionary
    coder = reference.Coder(memory, stored)
    text = reference.bytes_of(coder, length)
    coder.finish()
    return text


@compiled
def test_the_page_is_enough() -> None:
    coded = (GOLDEN / "progressive.pxz").read_bytes()
    stored = file.model_form(coded)
    found = parts.take_apart(file.decode(coded))
    assert np.array_equal(decoded(file.decode(coded), stored.bands), found.blocks)
    text = found.segments + found.notes
    assert text_of(stored.text, len(text)) == text


@compiled
def test_files_within_as_the_page_says() -> None:
    """A picture behind the end, and three times the same thumbnail: its, and two of the file."""
    coded = (GOLDEN / "inner.pxz").read_bytes()
    body = reference.body_of(coded)
    assert (body.late, len(body.inner)) == (2, 4)
    assert [len(one.bands) for one in body.inner] == [1, 1, 0, 0]
    files = [body.own, *body.inner]
    text = text_of(body.text, body.segments + sum(one.notes for one in files))
    segments, text = text[: body.segments], text[body.segments :]
    known: list[tuple[bytes, list[bytes]]] = []
    for one in files:
        known.append((text[: one.notes], one.bands) if one.bands else known[-1])
        text = text[one.notes :]
    assert not text
    for one, (notes, bands) in reversed(list(zip(files, known, strict=True))):
        own = segments[one.place :]
        length = len(own) + one.removed if one is not body.own else len(file.decode(coded))
        blocks = np.array(decoded(own, bands), np.int16)
        segments = segments[: one.place] + parts.put_together(own, notes, blocks, length)
    assert segments == file.decode(coded)
