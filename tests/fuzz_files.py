"""Damaged files by the hundred thousand: each gives a clear error or a picture, soon. By hand::

    python tests/fuzz_files.py --count 1000000

Takes the golden .pxz files, of pictures and of JPEGs, and small images of the formats that are
read. Mostly the damage stands behind checksums that were made to fit again, as by someone who means
harm; `fuzzing.attack`, which the tests use, also compares what is taken with the right picture.
Compile the C sources with ``-fsanitize=address,undefined`` for it to see more.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pillow_heif
from fuzzing import campaign, damage, damage_chunk, damage_field, soon
from PIL import Image

from pixelzip import api, leftovers, pictures
from pixelzip.codec import document
from pixelzip.codec.container import SEAL, seal
from pixelzip.codec.errors import PixelzipError
from pixelzip.coding import decode_many

GOLDEN = Path(__file__).parent / "golden"
PNG = b"\x89PNG"
MOST_PIXELS = 1 << 20
DECODED = 20
"""Each so-many-th .pxz file is decoded, the others are only described."""
FORMATS = {
    **{"GIF": "L", "PNG": "RGBA", "TIFF": "RGB", "WEBP": "RGBA", "BMP": "RGB", "PPM": "L"},
    **{"PCX": "RGB", "TGA": "RGBA", "QOI": "RGB", "JPEG2000": "RGB", "AVIF": "RGB"},
}
MOVING = ("GIF", "PNG", "TIFF", "WEBP", "AVIF")
PAGES = ((7, np.uint8), (8, np.uint16))
DEEP = {".tif": (2, 3, 4), ".png": (2, 4), ".ppm": (3,), ".pam": (2,), ".npy": (1,)}

WRITTEN = (".png", ".tif", ".webp", ".bmp", ".ppm", ".pam", ".npy")


def constant() -> list[bytes]:
    """Files of pictures of one pixel, repeated, with 8 and 16 bits."""
    kinds = [np.full((9, 7, n), 77, kind) for n in range(1, 5) for kind in (np.uint8, np.uint16)]
    return [api.compress(array) for array in kinds]


def images() -> list[bytes]:
    """Small files of several formats: still ones, animations, pages, and 16-bit ones."""
    found = []
    for format_, mode in FORMATS.items():
        frames = [Image.linear_gradient("L").resize((24, 20)).rotate(90 * i) for i in range(3)]
        first, *others = (frame.convert(mode) for frame in frames)
        films: list[dict[str, Any]] = [{}, {"save_all": True, "append_images": others}]
        for film in films if format_ in MOVING else films[:1]:
            out = io.BytesIO()
            first.save(out, format_, **film)
            found.append(out.getvalue())
    heif = pillow_heif.from_pillow(Image.linear_gradient("L").resize((64, 64)).convert("RGB"))
    heif.info["thumbnails"] = [32]
    out = io.BytesIO()
    heif.save(out)
    found.append(out.getvalue())
    pages = [pictures.from_array(np.full((9, side, 3), side, kind)) for side, kind in PAGES]
    found.append(pictures.write_pages(pages, ".tif")[0])
    for suffix, kinds in DEEP.items():
        for channels in kinds:
            samples = np.random.default_rng(1).integers(0, 65536, (9, 7, channels), np.uint16)
            found.append(pictures.write(pictures.from_array(samples), suffix)[0])
    return found


def read(data: bytes) -> None:
    """Read an image file as `pixelzip compress` does."""
    pictures.read_pages(data)
    leftovers.left_behind(data)


def attack_image(data: bytes, donor: bytes, random: Random) -> str:
    """What became of a damaged image."""
    forge = damage_chunk if data.startswith(PNG) and random.random() < 0.8 else damage
    data = forge(data, donor, random)
    return _outcome(lambda: read(data), "image")


def attack_file(data: bytes, donor: bytes, random: Random, decodes: bool) -> str:
    """What became of a damaged .pxz file: as `info` sees it, or decoded and written."""
    which = random.random()
    if which < 0.5 and not api.holds_jpeg(data):
        data = damage_field(data, donor, random)
    elif which < 0.95:
        data = seal(damage(data[:-SEAL], donor[:-SEAL], random))
    else:  # the seal is nearly all that is looked at
        data = damage(data, donor, random)

    def look() -> None:
        api.info(data, max_pixels=MOST_PIXELS)
        if decodes and api.holds_jpeg(data):
            api.original(data, threads=1, max_pixels=MOST_PIXELS)
        elif decodes and document.holds_document(data):
            with api.decompress(data, threads=1, max_pixels=MOST_PIXELS) as image:
                image.load()
        elif decodes:
            (picture,) = decode_many([data], (), 1, "cpu", None, MOST_PIXELS)
            pictures.write(picture, random.choice(WRITTEN))

    return _outcome(look, "decoded" if decodes else "info")


def _outcome(do: Callable[[], None], what: str) -> str:
    try:
        with soon():
            do()
    except PixelzipError as error:
        if "\n" in str(error):
            raise ValueError("an error of several lines") from error
        return f"{what}: {type(error).__name__}"
    return f"{what}: taken"


def main() -> None:
    golden = [path.read_bytes() for path in sorted(GOLDEN.rglob("*.pxz"))] + constant()
    originals = images()

    def one(number: int, random: Random) -> str:
        kind = golden if number % 4 else originals
        data, donor = random.choice(kind), random.choice(kind)
        if kind is originals:
            return attack_image(data, donor, random)
        return attack_file(data, donor, random, number % DECODED == 1)

    campaign(__doc__ or "", one, 100_000)


if __name__ == "__main__":
    main()
