"""Photographs without an origin: halved, so that nothing of how they were stored is left.

    python -m pixelzip.bench.halved photos/valid -o halved

writes each picture of a folder at half its size, by Lanczos' filter, as a PNG. No decoder's
rounding survives that, so what a codec saves on them it owes to its model alone. `pixelzip bench
-d halved` measures on them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click
import numpy as np
from PIL import Image

from pixelzip.bench.datasets import Dataset, DatasetError, Item, Pixels
from pixelzip.pictures import READABLE

NAME = "Photographs without an origin: halved"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False))
def main(folder: Path, output: Path) -> None:
    """Write the pictures of FOLDER at half their size."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        for item in dataset(folder).items:
            target = (output / item.name).with_suffix(".png")
            Image.fromarray(item.load()).save(target)
            click.echo(target)
    except (DatasetError, OSError) as error:
        raise click.ClickException(str(error)) from error


def dataset(folder: Path) -> Dataset:
    """The colour pictures of a folder, halved when they are loaded. DatasetError without any."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in READABLE)
    items = [Item(path.name, partial(halve, path)) for path in paths]
    if not items:
        raise DatasetError(f"there are no images in {folder}")
    return Dataset(NAME, items)


def halve(path: Path) -> Pixels:
    """(height, width, 3) uint8: half of each side, rounded down, by Lanczos' filter."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:  # so does Pillow say it
        raise DatasetError(f"{path} cannot be read as an image: {error}") from error
    size = max(1, image.width // 2), max(1, image.height // 2)
    return np.asarray(image.resize(size, Image.Resampling.LANCZOS))


if __name__ == "__main__":
    main()
