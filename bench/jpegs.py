"""JPEG files, kept byte for byte: by pixelzip, by JPEG XL's transcoding, by Lepton.

    python -m pixelzip.bench.jpegs photos/*.jpg
    python -m pixelzip.bench.jpegs photos/*.jpg --encode camera
    python -m pixelzip.bench.jpegs photos/*.jpg --encode 420:85

Each codec's file is decoded, and compared with the JPEG, byte for byte. Figures are *bytes left*:
the bytes of the codec's files for each byte of the JPEGs. A file that a codec refuses counts as it
is, and the number of those stands beside.

``--encode`` measures not the files but what they are once they are encoded anew, at half their
size: with a subsampling and a quality of libjpeg, or with tables as fine as a camera's.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

import pixelzip

Codec = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]
SAMPLINGS = {"444": "4:4:4", "422": "4:2:2", "420": "4:2:0"}
CAMERA = "camera"
LUMA = [
    *(1, 1, 1, 2, 3, 6, 8, 10),
    *(1, 1, 2, 3, 4, 8, 9, 8),
    *(2, 2, 2, 3, 6, 8, 10, 8),
    *(2, 2, 3, 4, 7, 12, 11, 9),
    *(3, 3, 8, 11, 10, 16, 15, 11),
    *(3, 5, 8, 10, 12, 15, 16, 13),
    *(7, 10, 11, 12, 15, 17, 17, 14),
    *(14, 13, 13, 15, 15, 14, 14, 14),
]
"""Quantisation steps of cameras, row by row: fine for low frequencies, and not libjpeg's."""
CHROMA = [
    *(4, 4, 5, 9, 15, 26, 26, 26),
    *(4, 4, 5, 10, 19, 26, 26, 26),
    *(5, 5, 8, 9, 26, 26, 26, 26),
    *(9, 10, 9, 13, 26, 26, 26, 26),
    *(15, 19, 26, 26, 26, 26, 26, 26),
    *([26] * 24),
]


@dataclass
class Result:
    """What a codec made of the files."""

    before: int = 0
    after: int = 0
    refused: int = 0
    megapixels: float = 0.0
    encode_seconds: float = 0.0
    decode_seconds: float = 0.0

    def row(self, name: str) -> tuple[str, ...]:
        return (
            name,
            f"{self.after / self.before:.4f}",
            f"{self.megapixels / self.encode_seconds:.2f}",
            f"{self.megapixels / self.decode_seconds:.2f}" if self.decode_seconds else "",
            str(self.refused) if self.refused else "",
        )


def codecs(threads: int) -> dict[str, Codec]:
    """Those that are installed: a function to code a file with, and one to bring it back."""
    found: dict[str, Codec] = {
        "pixelzip": (
            lambda data: pixelzip.compress(data, threads=threads),
            lambda data: pixelzip.original(data, threads=threads),
        )
    }
    if find_spec("imagecodecs"):
        ic: Any = import_module("imagecodecs")
        found["JPEG XL, transcoding"] = (
            lambda data: bytes(ic.jpegxl_encode_jpeg(data, numthreads=threads)),
            lambda data: bytes(ic.jpegxl_decode_jpeg(data, numthreads=threads)),
        )
    if find_spec("lepton_jpeg_python"):
        lepton: Any = import_module("lepton_jpeg_python")
        found["Lepton"] = lepton.compress_bytes, lepton.decompress_bytes
    return found


def measure(codec: Codec, files: Sequence[bytes]) -> Result:
    """Code all files and bring them back. Raises AssertionError if one does not come back."""
    encode, decode = codec
    result = Result()
    for data in files:
        with Image.open(io.BytesIO(data)) as image:
            result.megapixels += image.width * image.height / 1e6
        result.before += len(data)
        start = time.perf_counter()
        try:
            coded = encode(data)
        except Exception:  # whatever a codec of others raises
            coded = None
        between = time.perf_counter()
        result.encode_seconds += between - start
        if coded is None:
            result.refused += 1
            result.after += len(data)
            continue
        assert decode(coded) == data, "a file did not come back"
        result.decode_seconds += time.perf_counter() - between
        result.after += min(len(coded), len(data))
    return result


def encoded(data: bytes, how: str) -> bytes:
    """A picture at half its size as JPEG: ``420:85``, or ``camera`` for tables as cameras have."""
    with Image.open(io.BytesIO(data)) as image:
        picture = image.convert("RGB").resize(
            (max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.LANCZOS
        )
    out = io.BytesIO()
    if how == CAMERA:
        picture.save(out, "JPEG", qtables=[LUMA, CHROMA], subsampling="4:2:2")
    else:
        sampling, quality = how.split(":")
        picture.save(out, "JPEG", quality=int(quality), subsampling=SAMPLINGS[sampling])
    return out.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--encode", metavar="HOW", help="camera, or as 420:85")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    files = [path.read_bytes() for path in given.files]
    if given.encode:
        files = [encoded(data, given.encode) for data in files]
    rows = [measure(codec, files).row(name) for name, codec in codecs(given.threads).items()]
    head = ("", "bytes left", "encode, MP/s", "decode, MP/s", "refused")
    print(f"{len(files)} JPEGs, {sum(map(len, files)):,} bytes")
    for row in (head, *rows):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
