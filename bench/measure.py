"""Measure networks and peers on a folder of pictures, with real files::

    python -m pixelzip.bench.measure kodak/ --checkpoint runs/photo/checkpoint.pt

Every picture is compressed, decompressed and compared. Prints bits/dim of the files beside the
theoretical figures of the frozen network and, where a checkpoint is given, of the float one, and
megapixels per second of the library with the given number of threads, the first picture having
warmed it up. JPEG XL's encoder runs in the same process for comparison, at effort 9.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import click
import imagecodecs
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pixelzip import api
from pixelzip.codec import cdf
from pixelzip.codec.conditional import Conditional
from pixelzip.codec.container import tile_grid
from pixelzip.codec.image import DEFAULT_TILE
from pixelzip.models import zoo
from pixelzip.models.freeze import load_checkpoint
from pixelzip.models.photo import Photo

Tiles = list[NDArray[np.uint8]]


def tiles(pixels: NDArray[np.uint8]) -> Tiles:
    """The tiles that the codec cuts a picture into by default."""
    grid = tile_grid(pixels.shape[0], pixels.shape[1], DEFAULT_TILE)
    return [pixels[top : top + h, left : left + w] for top, left, h, w in grid]


def frozen_bits(network: Conditional, pixels: NDArray[np.uint8]) -> float:
    """The theoretical length in bits of an RGB picture under a frozen network."""
    total = 0.0
    for tile in tiles(pixels):
        values, done = tile.reshape(-1, 3), 0
        for band in network.parallel(tile):
            end = done + len(band)
            for channel in range(3):
                scored = cdf.intervals(band[:, channel], values[done:end, channel])
                total += cdf.ideal_bits(scored)
            done = end
    return total


@torch.no_grad()
def float_bits(network: Photo, pixels: NDArray[np.uint8]) -> float:
    """The theoretical length in bits of an RGB picture under a float network, in float32."""
    nats = 0.0
    for tile in tiles(pixels):
        nats -= float(network(torch.from_numpy(tile.copy())[None]).double().sum())
    return nats / math.log(2)


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--network", default="photo", show_default=True)
@click.option("--checkpoint", type=click.Path(exists=True, path_type=Path))
@click.option("--threads", default=2, show_default=True)
@click.option("--peers/--no-peers", default=True, help="Also time JPEG XL, effort 9.")
def main(folder: Path, network: str, checkpoint: Path | None, threads: int, peers: bool) -> None:
    """Measure a network on the pictures of a folder."""
    frozen = zoo.load(network)
    floating = load_checkpoint(checkpoint)[0] if checkpoint else None
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".png")
    totals = dict.fromkeys(("file", "frozen", "float", "jxl", "png"), 0.0)
    seconds = dict.fromkeys(("encode", "decode", "jxl"), 0.0)
    subpixels = 0
    warm = api.compress(Image.open(paths[0]), network=network, threads=threads)
    api.decompress_array(warm, threads=threads)
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        subpixels += pixels.size
        started = time.perf_counter()
        data = api.compress(pixels, network=network, threads=threads)
        encoded = time.perf_counter()
        decoded = api.decompress_array(data, threads=threads)
        seconds["decode"] += time.perf_counter() - encoded
        seconds["encode"] += encoded - started
        if not np.array_equal(decoded, pixels):
            raise SystemExit(f"{path}: the pixels differ")
        totals["file"] += 8 * len(data)
        totals["frozen"] += frozen_bits(frozen, pixels)
        line = f"{path.name:20} {8 * len(data) / pixels.size:.4f}"
        if floating is not None:
            totals["float"] += float_bits(floating, pixels)
        if peers:
            started = time.perf_counter()
            rival = imagecodecs.jpegxl_encode(pixels, lossless=True, effort=9, numthreads=threads)
            seconds["jxl"] += time.perf_counter() - started
            totals["jxl"] += 8 * len(rival)
            line += f"   JPEG XL {8 * len(rival) / pixels.size:.4f}"
        click.echo(line)
    for name, bits in totals.items():
        if bits:
            click.echo(f"{name:8} {bits / subpixels:.4f} bits/dim")
    click.echo(f"file against frozen theory {100 * (totals['file'] / totals['frozen'] - 1):+.3f} %")
    if totals["float"]:
        gap = 100 * (totals["frozen"] / totals["float"] - 1)
        click.echo(f"frozen against float theory {gap:+.3f} %")
    for name, spent in seconds.items():
        if spent:
            click.echo(f"{name:8} {subpixels / 3e6 / spent:.4f} MP/s")


if __name__ == "__main__":
    main()
