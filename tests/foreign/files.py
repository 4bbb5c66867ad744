"""Whole golden files under another machine's Python: decoded, pictures encoded to the same bytes.

`whole.sh` starts it in an emulator; without arguments it takes all golden files.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

import pixelzip
from pixelzip.codec import native

TESTS = Path(__file__).parent.parent
GOLDEN = TESTS / "golden"


def main(names: list[str]) -> None:
    expected = json.loads((GOLDEN / "pixels.json").read_text())
    print(platform.machine(), sys.version.split()[0], "numpy", np.__version__, flush=True)
    assert native.coding() is not None, "the C code is not there"
    for name in names or sorted(expected):
        start = time.process_time()
        pixels = pixelzip.decompress_array(GOLDEN / f"{name}.pxz", threads=1)
        samples = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
        same = hashlib.sha256(samples).hexdigest() == expected[name]["sha256"]
        print("same pixels" if same else "OTHER PIXELS", name, flush=True)
        assert same, f"{name} after {time.process_time() - start:.0f} s"
    for name, network in (("rgb-small", "photo"), ("rgb-small-tiny", "tiny")):
        small = Image.open(TESTS / "images" / "knob-32x32.png").convert("RGB")
        data = pixelzip.compress(small, network=network, tile_size=512, origin="none", threads=1)
        assert data == (GOLDEN / f"{name}.pxz").read_bytes(), f"other bytes of {name}"
        print("same bytes", name, flush=True)
    coded = (GOLDEN / "jpeg" / "progressive.pxz").read_bytes()
    jpeg = pixelzip.original(coded, threads=1)
    assert pixelzip.compress(jpeg, threads=1) == coded, "other bytes of a JPEG"
    print("same bytes jpeg/progressive, both ways", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
