"""Encode and decode in a process of its own, for `test_exactness`: ``matrix.py FOLDER``.

The folder holds pictures (PNG), networks (.safetensors) and, for each pair of them, a payload and a
file that were made elsewhere. Prints as JSON what this process makes of all that.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import pixelzip
from pixelzip.codec.tiles import decode_tiles, encode_tiles
from pixelzip.models import carriers, zoo


def saturates() -> bool:
    """Whether this process gets sums of int8 products wrong."""
    x = torch.full((32, 64), 127, dtype=torch.int8)
    return bool((torch._int_mm(x, x.t().contiguous()) != 64 * 127 * 127).any())


def main(folder: Path) -> None:
    made: dict[str, str] = {}
    right = True
    for picture in sorted(folder.glob("*.png")):
        with Image.open(picture) as image:
            pixels = np.asarray(image)
        for path in sorted(folder.glob("*.safetensors")):
            network = zoo.load(str(path))
            pair = f"{picture.stem}.{path.stem}"
            top, bottom = pixels[:20], pixels[20:]
            payloads = encode_tiles(network, [top, bottom], threads=2)
            made[pair] = hashlib.sha256(b"".join(payloads)).hexdigest()
            elsewhere = [(folder / f"{pair}.{i}").read_bytes() for i in range(2)]
            decoded = decode_tiles(network, elsewhere, [top.shape[:2], bottom.shape[:2]], 3)
            right &= np.array_equal(np.concatenate(decoded), pixels)
        data = pixelzip.compress(picture, strip=True, threads=1)
        made[picture.stem] = hashlib.sha256(data).hexdigest()
        file = (folder / f"{picture.stem}.pxz").read_bytes()
        right &= np.array_equal(pixelzip.decompress_array(file), pixels)
    ranking = carriers.ranking(torch.device("cpu"))
    print(json.dumps({"made": made, "right": right, "carriers": ranking, "bad": saturates()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
