"""`pixelzip sample` and `pixelzip complete`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from pixelzip.batch import Alone, Done, Fraction, Rules, read
from pixelzip.commands import options, running
from pixelzip.files import Job

if TYPE_CHECKING:
    from PIL.Image import Image

NOT_A_GRID = "a grid is a PNG file, so name it .png and not {}"

SEED = click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Chooses the random bits: the same seed gives the same pictures.",
)
SCALE = click.option(
    "--scale",
    metavar="K",
    type=click.IntRange(1, 64),
    help="Make each pixel a square of K pixels.  [default: small pictures are enlarged]",
)
GRID = click.option(
    "-o",
    "--output",
    metavar="OUT",
    required=True,
    type=options.PATH,
    help="A PNG file, or -.",
)


def _size(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, int]:
    sides = value.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise click.BadParameter(f"{value} is not of the form WIDTHxHEIGHT, such as 32x32")
    return int(sides[0]), int(sides[1])


@click.command()
@click.option(
    "--network",
    metavar="NAME",
    required=True,
    help="A network of the zoo (see `pixelzip networks`), or a frozen network's file.",
)
@click.option(
    "-n", "--count", metavar="N", type=click.IntRange(min=1), default=16, show_default=True,
    help="Draw N pictures.",
)  # fmt: skip
@click.option(
    "--size", metavar="WxH", callback=_size, default="32x32",
    show_default=True, help="Width and height of each, in pixels.",
)  # fmt: skip
@SEED
@options.LABEL
@SCALE
@GRID
@options.FORCE
@options.THREADS
@options.DEVICE
@options.QUIET
def sample(
    network: str,
    count: int,
    size: tuple[int, int],
    seed: int,
    label: int | None,
    scale: int | None,
    output: str,
    force: bool,
    threads: int | None,
    device: str,
    quiet: bool,
) -> None:
    """Let a network draw pictures, as a grid in a PNG file.

    They are drawn by decoding random bits in place of a file: what the network takes for likely.

    \b
    Examples:
      pixelzip sample --network photo -n 16 -o grid.png
      pixelzip sample --network photo -n 4 --size 128x96 --seed 7 -o grid.png
    """

    def make(job: Job, progress: Fraction | None) -> Done:
        from pixelzip import api

        if not running.is_png(job):
            return Done(error=NOT_A_GRID.format(output))
        width, height = size
        images = api.sample(
            network,
            count,
            width=width,
            height=height,
            seed=seed,
            label=label,
            threads=threads,
            device=device,
            progress=progress,
        )
        line = f"{network} -> {output}: {running.count(count, 'picture')} of {width} x {height}"
        return _grid(images, scale, output, line)

    running.run([Job(network, output)], Alone(make), Rules(force), quiet=quiet, as_json=False)


@click.command()
@click.argument("source", metavar="IMAGE", type=options.PATH)
@click.option(
    "--network",
    metavar="NAME",
    show_default="automatic",
    help="A network of the zoo (see `pixelzip networks`), or a frozen network's file.",
)
@click.option(
    "--keep-top", metavar="PART", type=click.FloatRange(0, 1), default=0.5, show_default=True,
    help="The part of the rows that is kept.",
)  # fmt: skip
@click.option(
    "-n", "--count", metavar="N", type=click.IntRange(min=1), default=8, show_default=True,
    help="Complete it N times.",
)  # fmt: skip
@SEED
@options.LABEL
@SCALE
@GRID
@options.FORCE
@options.THREADS
@options.DEVICE
@options.QUIET
def complete(
    source: str,
    network: str | None,
    keep_top: float,
    count: int,
    seed: int,
    label: int | None,
    scale: int | None,
    output: str,
    force: bool,
    threads: int | None,
    device: str,
    quiet: bool,
) -> None:
    """Let a network complete a picture of which it sees the upper part.

    The grid in the PNG file shows the picture, what the network sees of it, and the completions.

    \b
    Examples:
      pixelzip complete photo.png --keep-top 0.5 -n 8 -o grid.png
    """

    def make(job: Job, progress: Fraction | None) -> Done:
        from pixelzip import api, grid, pictures, sampling

        if not running.is_png(job):
            return Done(error=NOT_A_GRID.format(output))
        original = pictures.to_pillow(pictures.read(read(job), strip=True))
        images = api.complete(
            original,
            count,
            network=network,
            keep_top=keep_top,
            seed=seed,
            label=label,
            threads=threads,
            device=device,
            progress=progress,
        )
        kept = sampling.kept_rows(original.height, keep_top)
        seen = grid.masked(original, kept)
        rows = f"{kept} of {running.count(original.height, 'row')}"
        keep = "keeps" if count == 1 else "keep"
        what = f"{running.count(count, 'completion')} that {keep} {rows}"
        line = f"{source} -> {output}: {what}"
        return _grid([original, seen, *images], scale, output, line)

    running.run([Job(source, output)], Alone(make), Rules(force), quiet=quiet, as_json=False)


def _grid(images: Sequence[Image], scale: int | None, output: str, line: str) -> Done:
    """The pictures as the PNG file of a grid."""
    from pixelzip import grid

    drawn = io.BytesIO()
    grid.arrange(images, scale).save(drawn, "PNG")
    return Done(line=line, data=drawn.getvalue())
