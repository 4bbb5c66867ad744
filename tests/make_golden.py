"""Make the golden files: run once for each released format version or network, then never again.

    python tests/make_golden.py

Writes ``tests/golden/NAME.pxz`` for pictures that use every method and most modes, and
``tests/golden/pixels.json`` with each one's mode, size and the SHA-256 of its pixels. Files that
are there already are kept: what was released must decode for ever.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import pixelzip
from pixelzip import tiff

TESTS = Path(__file__).parent
ZOO = TESTS.parent / "models" / "zoo"
GOLDEN = TESTS / "golden"
INDEX = GOLDEN / "pixels.json"


def digest(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> dict[str, object]:
    """What a decoder must give: shape, type and SHA-256 of the little-endian samples."""
    samples = pixels.astype(pixels.dtype.newbyteorder("<"))
    return {
        "shape": list(pixels.shape),
        "dtype": str(pixels.dtype),
        "sha256": hashlib.sha256(samples.tobytes()).hexdigest(),
    }


def pictures() -> Iterator[tuple[str, object, int, str | None]]:
    """Name, picture, tile size and network of each golden file; with None as by itself."""
    photo = Image.open(TESTS / "images" / "bikes-96x64.png").convert("RGB")
    small = Image.open(TESTS / "images" / "knob-32x32.png").convert("RGB")
    ramp = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
    yield "rgb-small", small, 512, "photo"
    yield "rgb-small-tiny", small, 512, "tiny"
    yield "rgb-small-fast", small, 512, "fast"
    yield "rgb-tiled", photo, 48, "photo"
    # By its path, or else a network of planes codes what is grey.
    yield "grey", photo.convert("L"), 512, str(ZOO / "photo.safetensors")
    yield "rgb-small-clean", small, 512, "clean"
    # Darker than the network knows. Nor does it know of noise that is the opposite in green, so
    # that weights pay.
    yield "fitted", Image.fromarray(np.asarray(photo) // 2), 512, "photo"
    noise = np.random.default_rng(1).normal(0, 9, (64, 96, 1)) * (1, -1, 1)
    strange = np.clip(np.asarray(photo) + noise, 0, 255).astype(np.uint8)
    yield "weighed", Image.fromarray(strange), 512, "photo"
    with_alpha = photo.copy()
    with_alpha.putalpha(Image.fromarray(ramp))
    yield "rgba", with_alpha, 512, "photo"
    yield "palette", photo.quantize(16, dither=Image.Dither.NONE), 512, "photo"
    yield "bilevel", photo.convert("1"), 512, "photo"
    yield "flat", Image.new("RGB", (40, 30), (12, 200, 7)), 512, "photo"
    deep = np.asarray(photo.convert("L")).astype(np.uint16) * 257 + ramp
    yield "grey-16bit", deep, 512, "photo"
    digit = Image.new("L", (28, 28))
    pen = ImageDraw.Draw(digit)
    pen.line([(18, 6), (10, 7), (10, 13), (16, 13), (19, 17), (16, 22), (9, 22)], fill=255, width=2)
    yield "digit", digit, 512, "mnist"
    yield "photocd", photo, 48, None
    jpeg = io.BytesIO()
    photo.crop((0, 0, 95, 63)).save(jpeg, "JPEG", quality=92, subsampling=2)
    decoded = Image.open(jpeg).convert("RGB")
    ImageDraw.Draw(decoded).rectangle((10, 10, 40, 20), outline=(255, 0, 0))
    yield "jpeg-retouched", decoded.crop((1, 1, 95, 63)), 64, None
    yield "grey-luma", photo.convert("L"), 512, None
    levels = np.asarray(photo.convert("L")).astype(np.uint16) << 4
    yield "grey-12bit", levels, 512, None
    yield "cmyk", photo.crop((0, 0, 48, 40)).convert("CMYK"), 512, "photo"
    film = io.BytesIO()
    steps = [photo.crop((x, 8, x + 40, 32)) for x in (0, 3, 6)]
    steps[0].save(film, "GIF", save_all=True, append_images=steps[1:], duration=[40, 80, 120])
    yield "animation", Image.open(film), 512, None
    few = photo.crop((0, 0, 64, 40)).quantize(60).convert("RGB")
    yield "few-colours", few, 512, None
    small = photo.crop((0, 0, 64, 48))
    yield "jpeg-halved", from_jpeg(small, quality=75, subsampling=2).crop((1, 1, 64, 47)), 512, None
    turned = (
        from_jpeg(small, quality=75, subsampling=0).crop((3, 5, 64, 48)).rotate(90, expand=True)
    )
    ImageDraw.Draw(turned).line((10, 10, 20, 10), fill=(255, 0, 0))
    yield "jpeg-turned", turned, 512, None
    table = [2 + k % 8 + k // 8 for k in range(64)]
    grey = from_jpeg(small.convert("L"), qtables=[table]).crop((2, 3, 64, 48))
    yield "jpeg-grey", grey, 512, None
    document = io.BytesIO()
    pages = [photo.convert("L").crop((x, 8, x + 24, 24)) for x in (0, 30, 60)]
    pages[0].save(document, "TIFF", save_all=True, append_images=pages[1:], dpi=(300, 300))
    yield "pages", document.getvalue(), 512, "photo"
    inks = np.asarray(photo.crop((0, 0, 24, 16)).convert("CMYK")).astype(np.uint16) * 257
    inks[..., 3] += ramp[:16, :24]
    yield "cmyk-16bit", tiff.write("CMYK;16", 65535 - inks, Image.Exif(), {}, None), 512, "photo"


def from_jpeg(image: Image.Image, **options: Any) -> Image.Image:
    """What a JPEG of the image is decoded to."""
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return Image.open(file).convert(image.mode)


def main() -> None:
    index = json.loads(INDEX.read_text()) if INDEX.exists() else {}
    for name, picture, tile_size, network in pictures():
        path = GOLDEN / f"{name}.pxz"
        if path.exists():
            continue
        origin = "none" if network else "auto"
        path.write_bytes(
            pixelzip.compress(picture, tile_size=tile_size, network=network, origin=origin)
        )
        index[name] = digest(pixelzip.decompress_array(path))
    path = GOLDEN / "adaptive.pxz"
    if not path.exists():  # small, for the second decoder
        small = Image.open(TESTS / "images" / "bikes-96x64.png").crop((30, 20, 58, 40))
        path.write_bytes(pixelzip.compress(small, network="photo", origin="none", effort="max"))
        index[path.stem] = digest(pixelzip.decompress_array(path))
    INDEX.write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
