"""The other codecs, each as two functions: pixels to a file's bytes, and back.

They run in this process through Pillow and imagecodecs, or as a program on the PATH, at the
settings that people take for the smallest files. Whoever uses them compares what comes back: a peer
that does not return the very pixels is no lossless codec for that image.

Where a format has no such images, it gets the nearest that it has: bits as bytes 0 and 255 (all but
PNG), grey as RGB and grey with alpha as RGBA (WebP and QOI).
"""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ic: Any = import_module("imagecodecs") if find_spec("imagecodecs") else None  # an extra

Pixels = NDArray[Any]
"""(height, width) or (height, width, channels) of uint8, uint16 or bool."""


@dataclass(frozen=True)
class Peer:
    """A codec to compare with. Its functions are given the number of threads, too."""

    key: str
    """What it is called on the command line."""
    name: str
    """What it is called in tables."""
    encode: Callable[[Pixels, int], Any]
    decode: Callable[[bytes, int], Pixels]
    program: str | None = None
    """The program that has to be on the PATH."""
    packaged: bool = True
    """Whether it comes with imagecodecs."""
    colour_only: bool = False
    """Whether it has no grey images."""
    bits: bool = False
    """Whether it has 1-bit images."""
    threaded: bool = False
    """Whether it makes use of several threads."""

    def missing(self) -> str | None:
        """Why it cannot run here, as a sentence; None if it can."""
        if self.program is not None:
            if shutil.which(self.program) is None:
                return f"{self.name} is left out: there is no program {self.program} on the PATH."
        elif self.packaged and ic is None:
            return f'{self.name} is left out: it needs imagecodecs, pip install "pixelzip[bench]".'
        return None

    def compress(self, pixels: Pixels, threads: int) -> bytes:
        """A file's bytes. Raises whatever the codec raises."""
        if pixels.dtype == np.bool_ and not self.bits:
            pixels = pixels.astype(np.uint8) * np.uint8(255)
        if self.colour_only and pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        elif self.colour_only and pixels.shape[2] == 2:
            pixels = pixels[..., [0, 0, 0, 1]]
        return bytes(self.encode(np.ascontiguousarray(pixels), threads))

    def restore(self, data: bytes, threads: int, like: Pixels) -> Pixels:
        """The pixels of the file that `compress` made of an image ``like`` them."""
        pixels = self.decode(data, threads)
        if self.colour_only and like.ndim == 2:
            pixels = pixels[..., 0]
        elif self.colour_only and like.shape[2] == 2:
            pixels = pixels[..., [0, 3]]
        return pixels > 0 if like.dtype == np.bool_ else pixels


def _png(pixels: Pixels, _threads: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _from_png(data: bytes, _threads: int) -> Pixels:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        return np.asarray(image)


def _jpeg_xl(effort: int) -> Peer:
    return Peer(
        f"jpeg-xl-{effort}",
        f"JPEG XL, effort {effort}",
        lambda pixels, threads: ic.jpegxl_encode(
            pixels, lossless=True, effort=effort, usecontainer=False, numthreads=threads
        ),
        lambda data, threads: ic.jpegxl_decode(data, numthreads=threads),
        threaded=True,
    )


def _program(name: str, program: str, suffix: str, encode: list[str], decode: list[str]) -> Peer:
    """A program that makes of a picture's file another file, and back."""

    def run(words: list[str], suffixes: tuple[str, str], data: bytes) -> bytes:
        with TemporaryDirectory() as folder:
            source, target = (Path(folder) / f"file{suffix}" for suffix in suffixes)
            source.write_bytes(data)
            subprocess.run(
                [program, *words, source, target],
                check=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            # Some add a suffix of their own.
            (made,) = [path for path in Path(folder).iterdir() if path != source]
            return made.read_bytes()

    def to_file(pixels: Pixels, _threads: int) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG" if suffix == ".png" else "PPM")
        return run(encode, (suffix, f".{program}"), stream.getvalue())

    def from_file(data: bytes, _threads: int) -> Pixels:
        with Image.open(io.BytesIO(run(decode, (f".{program}", suffix), data))) as image:
            return np.asarray(image)

    return Peer(program, name, to_file, from_file, program=program)


PEERS = {
    peer.key: peer
    for peer in (
        Peer("png", "PNG, optimised", _png, _from_png, packaged=False, bits=True),
        Peer(
            "qoi",
            "QOI",
            lambda pixels, _: ic.qoi_encode(pixels),
            lambda data, _: ic.qoi_decode(data),
            colour_only=True,
        ),
        Peer(
            "jpeg-ls",
            "JPEG-LS",
            lambda pixels, _: ic.jpegls_encode(pixels),
            lambda data, _: ic.jpegls_decode(data),
        ),
        Peer(
            "jpeg-2000",
            "JPEG 2000",
            # The bare codestream: the boxes of a JP2 file would cost small images some 85 bytes.
            lambda pixels, threads: ic.jpeg2k_encode(
                pixels, reversible=True, codecformat="j2k", numthreads=threads
            ),
            lambda data, threads: ic.jpeg2k_decode(data, numthreads=threads),
            threaded=True,
        ),
        Peer(
            "avif",
            "AVIF, lossless",
            lambda pixels, threads: ic.avif_encode(
                pixels, ic.AVIF.QUALITY.LOSSLESS, speed=6, numthreads=threads
            ),
            lambda data, threads: ic.avif_decode(data, numthreads=threads),
            threaded=True,
        ),
        Peer(
            "webp",
            "WebP, slowest",
            lambda pixels, threads: ic.webp_encode(
                pixels, 100, lossless=True, method=6, numthreads=threads
            ),
            lambda data, _: ic.webp_decode(data),
            colour_only=True,
            threaded=True,
        ),
        _program("FLIF, -E100", "flif", ".png", ["-e", "-E100", "-K"], ["-d"]),
        _jpeg_xl(7),
        _jpeg_xl(9),
        _jpeg_xl(10),
        _program("paq8px, -8", "paq8px", ".pnm", ["-8"], ["-d"]),
    )
}
"""Every peer by its key."""
DEFAULT = tuple(key for key in PEERS if key != "jpeg-xl-10")
"""Those that run unless others are asked for."""
