"""What the choice among networks gains and costs: a table of docs/photo-network.md::

    python -m pixelzip.bench.choice DATA

``DATA`` is that of `pixelzip.bench.page`. Each picture is coded with each network by its name, and
with none named, origins off.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import process_time

import click
import numpy as np
from PIL import Image

from pixelzip import api, coding
from pixelzip.bench import datasets, tables
from pixelzip.bench.datasets import Pixels
from pixelzip.bench.halved import halve
from pixelzip.codec.errors import PixelzipError
from pixelzip.models import zoo
from pixelzip.models.training.photographs import developed

NETWORKS = tuple(
    name for name in coding.OF_PHOTOGRAPHS["colour"] if name in zoo.names()
)  # the first one is what the others are compared with
COLUMNS = ("pictures", "pixels", *NETWORKS[1:], "chosen", "the best of all", "time")
_SIDE, _SMALL, _MINIATURE = 512, (48, 64), 64
"""Pixels of a side: of parts of pictures as they are, and of small ones."""


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
def main(data: Path) -> None:
    """Print what DATA's pictures take with each network, and with the one that a sample chooses."""
    try:
        rows = [compare(name, pictures) for name, pictures in sets(data)]
    except (PixelzipError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(tables.Table("", COLUMNS, tuple(rows)).markdown())


def sets(data: Path) -> Iterator[tuple[str, Sequence[Pixels]]]:
    """Sets of pictures, each with its name."""
    rng = np.random.default_rng(0)
    paths = sorted((data / "photos" / "valid").iterdir())
    whole = [datasets.read(path) for path in paths]
    colour = [pixels for pixels in whole if pixels.ndim == 3]
    halved = [halve(path) for path in paths]
    yield "photographs, halved", halved
    yield "the same, developed", [developed(_square(pixels), rng) for pixels in halved]
    yield "the same at full size", [pixels[:_SIDE, :_SIDE] for pixels in colour]
    yield "parts of 64x48, halved", [_part(pixels, rng) for pixels in halved]
    yield "miniatures of 64 pixels", [_miniature(pixels) for pixels in colour]
    with Image.open(data / "cifar10" / "batch_2.png") as sheet:
        yield "CIFAR-10, 2500 to 2999", list(np.asarray(sheet).reshape(-1, 32, 32, 3)[500:1000])


def _square(pixels: Pixels) -> Pixels:
    """As much as there is of it, of an even side."""
    side = min(pixels.shape[:2]) // 2 * 2
    return pixels[:side, :side]


def _part(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    top, left = (
        rng.integers(length - side + 1) for length, side in zip(pixels.shape, _SMALL, strict=False)
    )
    return pixels[top : top + _SMALL[0], left : left + _SMALL[1]]


def _miniature(pixels: Pixels) -> Pixels:
    image = Image.fromarray(pixels)
    image.thumbnail((_MINIATURE, _MINIATURE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def compare(name: str, pictures: Sequence[Pixels]) -> tuple[str, ...]:
    """A row: what they take, against the first network, and how much longer the choice takes."""
    sizes, seconds = np.zeros((len(NETWORKS) + 1, len(pictures))), np.zeros(len(NETWORKS) + 1)
    for number, pixels in enumerate(map(np.ascontiguousarray, pictures)):
        for row, network in enumerate([*NETWORKS, None]):
            started = process_time()
            data = api.compress(pixels, network=network, origin="none", threads=1)
            seconds[row] += process_time() - started
            sizes[row, number] = len(data)
    *named, chosen = sizes.sum(axis=1)
    best = sizes[:-1].min(axis=0).sum()
    compared = [f"{100 * (size / named[0] - 1):+.2f} %" for size in (*named[1:], chosen, best)]
    pixels_each = sum(p.shape[0] * p.shape[1] for p in pictures) / len(pictures)
    longer = seconds[-1] / seconds[:-1].mean() - 1
    return f"{len(pictures)} {name}", f"{pixels_each:,.0f}", *compared, f"{100 * longer:+.0f} %"


if __name__ == "__main__":
    main()
