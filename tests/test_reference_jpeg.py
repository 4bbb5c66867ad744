"""Coefficients and text of a golden JPEG, decoded as the page says, are those of the codec."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import reference_jpeg as reference

from pixelzip.codec import bits, tables
from pixelzip.codec.jpeg import file, parts, syntax

GOLDEN = Path(__file__).parent / "golden" / "jpeg" / "progressive.pxz"
PRIOR = Path(file.__file__).parent / "prior.xz"


@pytest.mark.skipif(syntax.library() is None, reason="there is no compiled library")
def test_the_page_is_enough() -> None:
    coded = GOLDEN.read_bytes()
    found = parts.take_apart(file.decode(coded))
    stored = file.model_form(coded)
    logits, sigmoid = bits.LOGIT.tolist(), tables.SIGMOID.tolist()

    memory = reference.Memory(logits, sigmoid)
    dictionary = memory.learn_prior(PRIOR.read_bytes())
    frame = found.headers.frame
    assert frame is not None
    steps = found.headers.model_steps().tolist()
    planes = [
        reference.Plane(one.h, one.v, one.stride, one.rows, own)
        for one, own in zip(frame.components, steps, strict=True)
    ]
    (band,) = stored.bands
    coder = reference.Coder(memory, band)
    reference.decode_band(coder, planes, 0, frame.units_down)
    coder.finish()
    blocks = [block for plane in planes for row in plane.blocks for block in row]
    assert np.array_equal(blocks, found.blocks)

    memory = reference.Memory(logits, sigmoid)
    given = [byte >> i & 1 for byte in dictionary for i in range(7, -1, -1)]
    assert reference.bytes_of(reference.Coder(memory, given=given), len(dictionary)) == dictionary
    text = found.segments + found.notes
    coder = reference.Coder(memory, stored.text)
    assert reference.bytes_of(coder, len(text)) == text
    coder.finish()
