"""Encode and decode in a process of its own, for `test_exactness`: ``matrix.py FOLDER``.

The folder holds pictures (PNG), networks (.safetensors) and what was made of them elsewhere: for
each pair a payload, for each picture two files. Prints as JSON what this process makes of all that.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import pixelzip
from pixelzip.codec.tiles import decode_tiles, encode_tiles
from pixelzip.models import zoo
from pixelzip.models.gpu import carriers
from pixelzip.models.programs.integers import Integers


def saturates() -> bool:
    """Whether this process gets sums of int8 products wrong."""
    x = torch.full((32, 64), 127, dtype=torch.int8)
    return bool((torch._int_mm(x, x.t().contiguous()) != 64 * 127 * 127).any())


def halves(pixels: NDArray[np.uint8], network: Any) -> list[NDArray[np.uint8]]:
    """Two tiles of a picture; little ones for the papers' networks, some go pixel by pixel."""
    if isinstance(network, Integers):
        return [pixels[:7, :9], pixels[7:12, :11]]
    return [pixels[:20], pixels[20:]]


def main(folder: Path) -> None:
    made: dict[str, str] = {}
    right = True
    for picture in sorted(folder.glob("*.png")):
        with Image.open(picture) as image:
            pixels = np.asarray(image)
        for path in sorted(folder.glob("*.safetensors")):
            network = zoo.load(str(path))
            pair = f"{picture.stem}.{path.stem}"
            together = halves(pixels, network)
            payloads = encode_tiles(network, together, threads=2)
            made[pair] = hashlib.sha256(b"".join(payloads)).hexdigest()
            elsewhere = [(folder / f"{pair}.{i}").read_bytes() for i in range(2)]
            decoded = decode_tiles(network, elsewhere, [t.shape[:2] for t in together], 3)
            right &= all(map(np.array_equal, decoded, together))
        for origin in ("auto", "none"):
            data = pixelzip.compress(picture, origin=origin, strip=True, threads=1)
            made[f"{picture.stem}.{origin}"] = hashlib.sha256(data).hexdigest()
            file = (folder / f"{picture.stem}.{origin}.pxz").read_bytes()
            right &= np.array_equal(pixelzip.decompress_array(file), pixels)
    ranking = carriers.ranking(torch.device("cpu"))
    print(json.dumps({"made": made, "right": right, "carriers": ranking, "bad": saturates()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
