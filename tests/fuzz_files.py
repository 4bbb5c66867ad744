"""Damaged files by the hundred thousand: each gives a clear error or a picture, soon. By hand::

    python tests/fuzz_files.py --count 1000000

Takes the golden .pxz files, of pictures and of JPEGs, and small images of the formats that are
read. Most .pxz files are sealed anew, as by someone who means harm; `fuzzing.attack`, which the
tests use, also compares what is taken with the right picture. Compile the C sources with
``-fsanitize=address,undefined`` for it to see more.
"""

from __future__ import annotations

import argparse
import io
import time
import warnings
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzzing import SECONDS, damage
from PIL import Image

from pixelzip import api, leftovers, pictures
from pixelzip.codec.container import SEAL, seal
from pixelzip.codec.errors import PixelzipError

GOLDEN = Path(__file__).parent / "golden"
MOST_PIXELS = 1 << 20
FORMATS = {"GIF": "L", "PNG": "RGBA", "TIFF": "RGB", "WEBP": "RGBA", "BMP": "RGB", "PPM": "L"}
DEEP = {".tif": (2, 3, 4), ".png": (2, 4), ".ppm": (3,), ".pam": (2,), ".npy": (1,)}


def images() -> list[bytes]:
    """Small files of several formats: still ones, animations, pages, and 16-bit ones."""
    found = []
    for format_, mode in FORMATS.items():
        frames = [Image.linear_gradient("L").resize((24, 20)).rotate(90 * i) for i in range(3)]
        first, *others = (frame.convert(mode) for frame in frames)
        films: list[dict[str, Any]] = [{}, {"save_all": True, "append_images": others}]
        for film in films if format_ not in ("BMP", "PPM") else films[:1]:
            out = io.BytesIO()
            first.save(out, format_, **film)
            found.append(out.getvalue())
    for suffix, kinds in DEEP.items():
        for channels in kinds:
            samples = np.random.default_rng(1).integers(0, 65536, (9, 7, channels), np.uint16)
            found.append(pictures.write(pictures.from_array(samples), suffix)[0])
    return found


def read(data: bytes) -> None:
    """Read an image file as `pixelzip compress` does."""
    pictures.read(data)
    leftovers.left_behind(data)


def attack_image(data: bytes, donor: bytes, random: Random) -> str:
    """What became of a damaged image."""
    return _outcome(lambda: read(damage(data, donor, random)), "image")


def attack_file(data: bytes, donor: bytes, random: Random, decodes: bool) -> str:
    """What became of a damaged .pxz file: as `info` sees it, or decoded."""
    forged = random.random() < 0.9  # of others the seal is nearly all that is looked at
    if forged:
        data = seal(damage(data[:-SEAL], donor[:-SEAL], random))
    else:
        data = damage(data, donor, random)

    def look() -> None:
        api.info(data, max_pixels=MOST_PIXELS)
        if decodes and api.holds_jpeg(data):
            api.original(data, threads=1, max_pixels=MOST_PIXELS)
        elif decodes:
            api.decompress_array(data, threads=1, max_pixels=MOST_PIXELS)

    return _outcome(look, "decoded" if decodes else "info")


def _outcome(do: Any, what: str) -> str:
    begin = time.process_time()
    try:
        do()
    except PixelzipError as error:
        sentence, outcome = str(error), type(error).__name__
    else:
        sentence, outcome = "", "taken"
    assert "\n" not in sentence, repr(sentence)
    assert time.process_time() - begin < SECONDS
    return f"{what}: {outcome}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--decode", type=int, default=20, help="each so-many-th is decoded")
    given = parser.parse_args()
    random, found = Random(given.seed), Counter[str]()
    warnings.simplefilter("ignore")  # of Pillow, about what is damaged
    golden = [path.read_bytes() for path in sorted(GOLDEN.rglob("*.pxz"))]
    originals = images()
    for number in range(given.count):
        kind = golden if number % 4 else originals
        data, donor = random.choice(kind), random.choice(kind)
        try:
            if kind is originals:
                outcome = attack_image(data, donor, random)
            else:
                outcome = attack_file(data, donor, random, number % given.decode == 1)
        except Exception:
            print("number", number, "of seed", given.seed, flush=True)
            raise
        found[outcome] += 1
        if number % 10_000 == 9_999 or number + 1 == given.count:
            print(number + 1, dict(found), flush=True)


if __name__ == "__main__":
    main()
