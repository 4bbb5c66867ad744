"""Teaches the model of JPEG files what photographs' coefficients are like: `codec/jpeg/prior.xz`.

    python -m pixelzip.models.training.jpegs photos -o prior.xz

The prior is part of the format, so a new one takes a new SHA-256 in `pixelzip.codec.jpeg.prior`,
new golden files, and leaves old files behind. It learns from half of the photographs as they are
and from others at half their size, encoded anew with various qualities and subsamplings. The
dictionary is made of the headers, one of a few at a time, that help those of others most.
"""

from __future__ import annotations

import argparse
import io
import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelzip.codec.jpeg import model, parts, prior
from pixelzip.codec.jpeg.parts import Parts

LARGEST = 400_000
"""Bytes of a file, so that no picture rules."""
QUALITIES = (60, 70, 75, 80, 85, 90, 92, 95, 97)
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0", "4:2:0")
COUNTED = 0.4
"""After this part of the files the busiest slots are those that have counted to the end."""
CANDIDATES = 14
ROUNDS = 7


def examples(paths: Sequence[Path], random: Random) -> Iterator[Parts]:
    """Files to learn from."""
    for number, path in enumerate(paths):
        data = path.read_bytes()
        if len(data) > LARGEST:
            continue
        if number % 2 == 0:
            yield parts.take_apart(data)
        elif number % 4 == 1:
            with Image.open(io.BytesIO(data)) as image:
                size = max(1, image.width // 2), max(1, image.height // 2)
                small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
            out, grey = io.BytesIO(), number % 40 == 1
            (small.convert("L") if grey else small).save(
                out,
                "JPEG",
                quality=random.choice(QUALITIES),
                subsampling=random.choice(SUBSAMPLINGS),
                progressive=random.random() < 0.2,
            )
            yield parts.take_apart(out.getvalue())


def dictionary(texts: Sequence[bytes], random: Random) -> bytes:
    """A few headers, the most useful last, that make those of other files small."""
    middle = min(40, len(texts) // 2)
    held, candidates = texts[:middle], texts[middle:]
    chosen, best = b"", model.cost_of_texts(b"", held)
    for _ in range(ROUNDS):
        tried = random.sample(candidates, min(CANDIDATES, len(candidates)))
        costs = [(model.cost_of_texts(text + chosen, held), text) for text in tried]
        cost, text = min(costs)
        if cost < best:
            chosen, best = text + chosen, cost
    return chosen


def taught(found: Sequence[Parts]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """A memory that has coded all of these, and which of its slots are worth keeping."""
    memory, known = model.fresh_memory(), np.zeros(0, np.bool_)
    for number, one in enumerate(found):
        frame = one.headers.frame
        if frame is not None:
            model.teach(memory, frame, one.headers.model_steps(), one.blocks)
        if number <= COUNTED * len(found):
            slots = memory[: model.memory_sizes()[0]].view(np.uint32)
            known = slots & model.COUNT_LIMIT == model.COUNT_LIMIT
    return memory, known


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    given = parser.parse_args()
    random = Random(1)
    paths = sorted(given.folder.glob("*.jp*g"))
    random.shuffle(paths)
    found = list(examples(paths, random))
    texts = [one.segments + one.notes for one in found if len(one.segments) < 6000]
    memory, known = taught(found)
    sizes = model.memory_sizes()
    made = prior.pack(dictionary(texts, random), sizes, model.fresh_memory(), memory, known)
    given.output.write_bytes(made)
    print(f"{len(found)} files, {known.sum():,} slots, {len(lzma.decompress(made)):,} numbers")


if __name__ == "__main__":
    main()
