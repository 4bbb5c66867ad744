"""`pixelzip compress`."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import click

from pixelzip import batch
from pixelzip.batch import Done, Fraction, Work
from pixelzip.codec import container
from pixelzip.commands import options, running
from pixelzip.commands.many import Many
from pixelzip.commands.many import options as many_options
from pixelzip.files import Job

if TYPE_CHECKING:
    from pixelzip.codec.picture import Picture

def _tile(_context: click.Context, _option: click.Parameter, value: int | None) -> int | None:
    if value is not None and value != 0 and value < container.MIN_TILE:
        raise click.BadParameter(f"must be 0 (the largest) or at least {container.MIN_TILE}")
    return value


@click.command()
@options.IN
@options.OUTPUT
@options.RECURSIVE
@options.FORCE
@click.option(
    "-n",
    "--network",
    metavar="NAME",
    show_default="automatic",
    help="A network of the zoo (see `pixelzip networks`), a frozen network's file, or none.",
)
@options.LABEL
@click.option(
    "--tile",
    metavar="PIXELS",
    type=int,
    callback=_tile,
    help="Largest side of a tile; 0 for the largest there can be.",
)
@click.option(
    "--origin",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="Whether to look for the samples that the pixels were computed from.",
)
@click.option(
    "--pixels", is_flag=True, help="Of a JPEG, code the pixels and not the file that it is."
)
@click.option("--strip", is_flag=True, help="Drop the metadata (palette and transparency stay).")
@options.WORK
@many_options
def compress(
    sources: tuple[str, ...],
    output: str | None,
    recursive: bool,
    force: bool,
    network: str | None,
    label: int | None,
    tile: int | None,
    origin: str,
    pixels: bool,
    strip: bool,
    jobs: int,
    threads: int | None,
    device: str,
    quiet: bool,
    as_json: bool,
    many: Many,
) -> None:
    """Compress images to .pxz files.

    The output is named after the input and lies next to it, unless -o says otherwise. The inputs
    stay as they are. Metadata comes along: ICC profile, EXIF, XMP, text, resolution, gamma.

    A JPEG is kept byte for byte, and comes back as the file that it was. Its pixels are coded in
    its place with --pixels, or any other option that is about pixels: --network, --class, --tile,
    --origin none, --strip.

    By itself it takes the network photo, and for small images (up to 64x64 pixels) also tries tiny,
    if the zoo has it, and keeps the smaller file. Where the pixels turn out to have been computed
    from fewer samples (by a JPEG decoder, say), it codes those instead, with the networks luma and
    chroma, and makes the very same pixels of them again when it decodes.

    \b
    Examples:
      pixelzip compress photo.png
      pixelzip compress photo.jpg
      pixelzip compress photo.png -o smaller.pxz --force
      pixelzip compress *.png -o archive/ --jobs 4
      pixelzip compress --recursive photos -o archive
      convert scan.tif png:- | pixelzip compress - > scan.pxz
      pixelzip compress --recursive s3://bucket/in -o s3://bucket/out --cluster 10.0.0.1:6379
    """
    from pixelzip.pictures import READABLE

    make = partial(
        _compress,
        network=network,
        label=label,
        tile=tile,
        origin=origin,
        pixels=pixels,
        strip=strip,
        threads=running.threads(threads, jobs),
        device=device,
    )
    if many.is_asked_for(output, *sources):
        many.run(make, READABLE.__contains__, ".pxz")
        return
    todo = running.plan(sources, output, ".pxz", READABLE.__contains__, recursive)
    running.run(todo, Work(make), jobs=jobs, force=force, quiet=quiet, as_json=as_json)


def _compress(
    job: Job,
    progress: Fraction | None,
    *,
    network: str | None,
    label: int | None,
    tile: int | None,
    origin: str,
    pixels: bool,
    strip: bool,
    threads: int,
    device: str,
) -> Done:
    from pixelzip import api, pictures

    start = time.perf_counter()
    source = batch.read(job)
    plain = network is None and label is None and tile is None and origin == "auto"
    if pictures.is_jpeg(source) and plain and not strip and not pixels:
        return _keep_jpeg(job, source, threads, start)
    notes = []
    picture = pictures.read(source, strip=strip)
    data = api.encode(
        picture,
        network=network,
        origin=origin,
        label=label,
        tile_size=tile,
        threads=threads,
        device=device,
        progress=progress,
    )
    report = batch.report(job, api.info(data), len(source), len(data), start)
    if network is not None and not report.networks and not _codes(network, device, picture):
        notes.append(f"the network {network} codes no images of mode {picture.mode}: not used")
    return Done(report, batch.line(report), data, notes)


def _keep_jpeg(job: Job, source: bytes, threads: int, start: float) -> Done:
    from pixelzip import api

    data = api.encode_jpeg(source, name=job.source, threads=threads)
    about = api.info(data, max_pixels=api.NO_LIMIT)
    report = batch.report(job, about, len(source), len(data), start)
    return Done(report, batch.line(report), data, list(about.found[1:]))


def _codes(network: str, device: str, picture: Picture) -> bool:
    """Whether a network can code some part of a picture; ``none`` promises nothing."""
    from pixelzip import api

    conditional = api.load_network(network, device)
    return conditional is None or any(conditional.codes(p.shape[2]) for p in picture.planes)
