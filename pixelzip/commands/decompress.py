"""`pixelzip decompress`."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import click

from pixelzip import batch, files
from pixelzip.batch import Done, Fraction, Work
from pixelzip.commands import options, running
from pixelzip.commands.many import Many
from pixelzip.commands.many import options as many_options
from pixelzip.files import STANDARD, Job


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
    of another lossless format: .tif, .bmp, .ppm, .pgm, .pbm, .npy. What was made of a JPEG becomes
    that JPEG again, byte for byte; with -o and another suffix, its pixels.

    \b
    Examples:
      pixelzip decompress photo.pxz
      pixelzip decompress photo.pxz -o photo.tif
      pixelzip decompress map.pxz -o corner.png --region 0,0,640,480
      pixelzip decompress from-a-jpeg.pxz -o pixels.png
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
    todo = running.plan(sources, output, _suffix, running.is_pxz, recursive)
    running.run(todo, Work(make), jobs=jobs, force=force, quiet=quiet, as_json=as_json)


def _suffix(source: str) -> str:
    """Of what comes out of a file; that of one that cannot be read does not matter."""
    from pixelzip.codec.errors import PixelzipError
    from pixelzip.codec.jpeg import file

    try:
        start = b"" if source == STANDARD else files.start(source, 16)
        return file.ending(start) if file.holds_jpeg(start) else ".png"
    except (OSError, PixelzipError):
        return ".png"


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
    from pixelzip import api, jpegs, pictures

    start = time.perf_counter()
    suffix = Path(job.target or "").suffix or ".png"
    source = batch.read(job)
    is_file = region is None and api.holds_jpeg(source)
    if is_file and (job.target == STANDARD or jpegs.is_name(suffix, source)):
        data = api.original(source, threads=threads, max_pixels=max_pixels)
        about = api.info(source, max_pixels=max_pixels)
        report = batch.report(job, about, len(source), len(data), start)
        return Done(report, batch.line(report), data)
    pictures.check_writable(suffix)
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
