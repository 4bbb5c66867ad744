"""`pixelzip decompress`."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import click

from pixelzip import batch
from pixelzip.batch import Done, Fraction, Work
from pixelzip.commands import options, running
from pixelzip.commands.many import Many
from pixelzip.commands.many import options as many_options
from pixelzip.files import Job


@click.command()
@options.IN
@options.OUTPUT
@options.RECURSIVE
@options.FORCE
@options.REGION
@options.DECODING
@options.WORK
@many_options
def decompress(
    sources: tuple[str, ...],
    output: str | None,
    recursive: bool,
    force: bool,
    region: tuple[int, int, int, int] | None,
    networks: tuple[str, ...],
    max_pixels: int,
    jobs: int,
    threads: int | None,
    device: str,
    quiet: bool,
    as_json: bool,
    many: Many,
) -> None:
    """Bring images back from .pxz files.

    The output is a PNG file named after the input, unless the name after -o ends with the suffix
    of another lossless format: .tif, .bmp, .ppm, .pgm, .pbm, .npy.

    \b
    Examples:
      pixelzip decompress photo.pxz
      pixelzip decompress photo.pxz -o photo.tif
      pixelzip decompress map.pxz -o corner.png --region 0,0,640,480
      pixelzip decompress --recursive archive -o photos
      pixelzip decompress photo.pxz -o - | display
    """
    make = partial(
        _decompress,
        region=region,
        networks=networks,
        max_pixels=max_pixels,
        threads=running.threads(threads, jobs),
        device=device,
    )
    if many.is_asked_for(output, *sources):
        many.run(make, running.is_pxz, ".png")
        return
    todo = running.plan(sources, output, ".png", running.is_pxz, recursive)
    running.run(todo, Work(make), jobs=jobs, force=force, quiet=quiet, as_json=as_json)


def _decompress(
    job: Job,
    progress: Fraction | None,
    *,
    region: tuple[int, int, int, int] | None,
    networks: tuple[str, ...],
    max_pixels: int,
    threads: int,
    device: str,
) -> Done:
    from pixelzip import api, pictures

    start = time.perf_counter()
    suffix = Path(job.target or "").suffix or ".png"
    pictures.check_writable(suffix)
    source = batch.read(job)
    picture = api.decode(
        source,
        region=region,
        networks=networks,
        max_pixels=max_pixels,
        threads=threads,
        device=device,
        progress=progress,
    )
    data, lost = pictures.write(picture, suffix)
    notes = [f"{suffix} files cannot hold its {', '.join(lost)}"] if lost else []
    about = api.info(source, max_pixels=max_pixels)
    report = batch.report(job, about, len(source), len(data), start)
    return Done(report, batch.line(report), data, notes)
