"""Compresses a photograph, brings it back, compares: the whole product in one page.

Run it with `make demo`. It uses nothing but the command line that `pip install` gives.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
PHOTO = Path("examples", "parrots.png")
OUTPUT = Path("demo-output")
PIXELZIP = Path(sys.executable).with_name("pixelzip")


def run(*arguments: str | Path) -> float:
    """Run the pixelzip command and show it; return how many seconds it took."""
    print("$ pixelzip", *arguments, flush=True)
    start = time.perf_counter()
    subprocess.run([PIXELZIP, *arguments], check=True)
    return time.perf_counter() - start


def saved_size(image: Image.Image, **options: object) -> int:
    """Bytes of the image's pixels alone as Pillow saves them."""
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(buffer, **options)  # type: ignore[arg-type]
    return buffer.tell()


def main() -> None:
    os.chdir(ROOT)
    OUTPUT.mkdir(exist_ok=True)
    packed, returned = OUTPUT / "parrots.pxz", OUTPUT / "parrots.png"
    encoding = run("compress", "--force", PHOTO, "-o", packed)
    decoding = run("decompress", "--force", packed, "-o", returned)

    before, after = Image.open(PHOTO), Image.open(returned)
    if before.mode != after.mode or not np.array_equal(np.asarray(before), np.asarray(after)):
        sys.exit("The photo that came back differs from the one that went in. Please report this.")

    sub_pixels = before.width * before.height * len(before.getbands())
    sizes = {
        "raw pixels": sub_pixels,
        "PNG, optimised": saved_size(before, format="PNG", optimize=True),
        "WebP lossless, slowest": saved_size(
            before, format="WebP", lossless=True, quality=100, method=6
        ),
        "pixelzip": packed.stat().st_size,
    }
    print(f"\nEvery pixel came back: {before.width}x{before.height}, {sub_pixels:,} sub-pixels.\n")
    print(f"{'':24}{'bytes':>10}{'bits/dim':>10}")
    for name, size in sizes.items():
        print(f"{name:24}{size:10,}{size * 8 / sub_pixels:10.3f}")
    print(f"\n{encoding:.1f} s to compress, {decoding:.1f} s to decompress, start-up included.")


if __name__ == "__main__":
    main()
