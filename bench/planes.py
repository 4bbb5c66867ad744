"""The picture of docs/origins.md: a photograph, and the planes that it was computed from::

python -m pixelzip.bench.planes examples/parrots.png -o docs/origins.png
"""

from __future__ import annotations

import io
from pathlib import Path

import click
import numpy as np
from PIL import Image

from pixelzip import api, files
from pixelzip.codec.errors import PixelzipError
from pixelzip.codec.origins import ycc


def draw(image: Image.Image) -> bytes:
    """A PNG: the picture, and beside it its planes at their own sizes, with what each takes.

    Raises PixelzipError if the picture has no such origin.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pixels = np.asarray(image.convert("RGB"))
    found = ycc.find(pixels)
    if found is None:
        raise PixelzipError("it was not computed from luma and chroma")
    data = api.compress(pixels)
    about = api.info(data)
    plain = api.compress(pixels, origin="none")
    height, width, _ = pixels.shape
    figure = pyplot.figure(figsize=(12, 12 * height / width / 2.5 + 0.6), layout="constrained")
    places = figure.subplot_mosaic([["picture", "picture", "luma", "luma", "first"],
                                    ["picture", "picture", "luma", "luma", "second"]])  # fmt: skip
    coded = len(data) - about.metadata_bytes
    shown = [
        ("picture", pixels, f"as it is: {len(plain):,} bytes; from its planes: {coded:,}"),
        *(
            (place, plane.samples[..., 0], f"{name}, {plane.samples.shape[1]} x "
             f"{plane.samples.shape[0]}: {part.bytes:,}")
            for place, name, plane, part in zip(
                ("luma", "first", "second"), ("luma", "chroma", "chroma"), found.planes,
                about.parts, strict=True,
            )
        ),
    ]  # fmt: skip
    for place, values, title in shown:
        axes = places[place]
        axes.imshow(values, cmap="gray")
        axes.set_title(title, fontsize=9)
        axes.set_axis_off()
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100)
    pyplot.close(figure)
    return out.getvalue()


@click.command()
@click.argument("picture", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False))
def main(picture: Path, output: str) -> None:
    """Draw what PICTURE was computed from."""
    try:
        with Image.open(picture) as image:
            files.write(output, draw(image), force=True)
    except (PixelzipError, OSError) as error:
        raise click.ClickException(f"{picture}: {error}") from error


if __name__ == "__main__":
    main()
