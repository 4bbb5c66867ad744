"""How fast each backend of a frozen network is on one core of this machine.

    python -m pixelzip.bench.engine [PICTURE] [--network photo]

Prints, for each instruction set of the compiled engine and for the loops that take its place, the
microseconds of CPU time that a pixel takes: when a tile is encoded, when it is decoded, and what
its matrix products alone would take, at the speed of a large one; and which share of that speed
the encoder reaches. Takes a minute.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelzip.bench import scaling
from pixelzip.codec import tiles
from pixelzip.models import zoo
from pixelzip.models.frozen import file, native
from pixelzip.models.frozen.kernels import Kernels
from pixelzip.models.frozen.network import Frozen
from pixelzip.models.frozen.shell import Tensors
from pixelzip.models.frozen.walk import Walked

LARGEST = 256
"""A middle part of the picture, so large at most, is what is coded."""
ROWS, INPUTS, OUTPUTS = 960, 640, 128
"""The product that is timed by itself: a masked convolution of ``photo``."""


LONG = 2.0
"""No further round begins after so many seconds."""


def best(work: Callable[[], object], rounds: int = 5) -> float:
    """CPU seconds of the fastest of several rounds."""
    seconds: list[float] = []
    while len(seconds) < rounds and sum(seconds) < LONG:
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return min(seconds)


def multiplications(tensors: Tensors) -> int:
    """8-bit multiply-adds for a pixel; those of 16-bit weights count twice."""
    matrices = [t for name, t in tensors.items() if name.endswith(".weight")]
    return sum(t.size * t.dtype.itemsize for t in matrices)


def product(number: int) -> float:
    """Multiply-adds a second of an instruction set's product alone."""
    engine = native.library()
    assert engine is not None
    made = native.Product(engine, number, np.full((INPUTS, OUTPUTS), 3, np.int8))
    x, sums = np.full((ROWS, INPUTS), 100, np.uint8), np.empty((ROWS, OUTPUTS), np.int32)
    layer = ctypes.byref(made.layer)
    seconds = best(lambda: engine.engine_product(layer, number, ROWS, x, sums), 50)
    return x.size * OUTPUTS / seconds


def backends(path: Path) -> dict[str, tuple[Frozen, float]]:
    """Each backend on the CPU, and what its products do in a second, 0 if that is not known."""
    tensors, config, _ = file.read(path)
    found: dict[str, tuple[Frozen, float]] = {}
    for number, isa in enumerate(native.instruction_sets()):
        found[isa] = native.Native(path.stem, tensors, config, isa), product(number)
    found["numba"] = Walked(path.stem, tensors, config, Kernels()), 0.0
    return found


def measure(network: Frozen, pixels: NDArray[np.uint8]) -> tuple[float, float]:
    """Microseconds for a pixel: encoding and decoding a tile."""
    height, width, channels = pixels.shape
    given = None
    if network.given:  # of chroma as large as luma, and all grey
        given = [np.concatenate([pixels] * 4 + [np.full_like(pixels, 128)], axis=2)]
    payloads = tiles.encode_tiles(network, [pixels], given=given)
    encode = best(lambda: tiles.encode_tiles(network, [pixels], given=given))
    decode = best(
        lambda: tiles.decode_tiles(network, payloads, [(height, width)], channels, given=given)
    )
    return encode * 1e6 / (height * width), decode * 1e6 / (height * width)


@click.command()
@click.argument(
    "picture", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--network", default="photo", show_default=True, help="A network of the zoo.")
def main(picture: Path | None, network: str) -> None:
    """Time each backend of a frozen network on one core, with PICTURE or with coloured noise."""
    if picture is None:
        pixels = scaling.picture(LARGEST, LARGEST)
    else:
        with Image.open(picture) as image:
            pixels = np.asarray(image.convert("RGB"))
    top, left = (max(0, side - LARGEST) // 2 for side in pixels.shape[:2])
    pixels = np.ascontiguousarray(pixels[top : top + LARGEST, left : left + LARGEST])
    path = Path(zoo.__file__).with_name(f"{network}.safetensors")
    count = multiplications(file.read(path)[0])
    click.echo("| backend | encode | decode | decode / encode | products alone | share of peak |")
    click.echo("|---|---|---|---|---|---|")
    for name, (frozen, speed) in backends(path).items():
        encode, decode = measure(frozen, pixels[..., : frozen.config.colours])
        alone = count / speed * 1e6 if speed else math.nan
        row = f"{encode:.2f} | {decode:.2f} | {decode / encode:.2f} | {alone:.2f} | "
        click.echo(f"| {name} | {row}{alone / encode:.2f} |".replace("nan", "-"))


if __name__ == "__main__":
    main()
