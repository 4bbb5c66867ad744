"""`pixelzip verify`."""

from __future__ import annotations

import time
from functools import partial

import click

from pixelzip import batch, files
from pixelzip.batch import Done, Fraction, Work
from pixelzip.commands import options, running
from pixelzip.commands.many import Many
from pixelzip.commands.many import options as many_options
from pixelzip.files import Job


@click.command()
@options.IN
@click.option(
    "--against",
    metavar="IMAGE",
    type=options.PATH,
    help="Compare with this original, too.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="Check the files' bytes only, which takes no time, and decode nothing.",
)
@options.RECURSIVE
@options.DECODING
@options.WORK
@many_options
def verify(
    sources: tuple[str, ...],
    against: str | None,
    quick: bool,
    recursive: bool,
    networks: tuple[str, ...],
    max_pixels: int,
    jobs: int,
    threads: int | None,
    device: str,
    quiet: bool,
    as_json: bool,
    many: Many,
) -> None:
    """Decode .pxz files and check their checksums, without writing anything.

    \b
    Examples:
      pixelzip verify archive/*.pxz
      pixelzip verify --recursive archive --jobs 4
      pixelzip verify --recursive archive --quick
      pixelzip verify photo.pxz --against photo.png
    """
    if against is not None and quick:
        raise click.UsageError("--against compares pixels, and --quick decodes none")
    make = partial(
        _verify,
        quick=quick,
        against=against,
        networks=networks,
        max_pixels=max_pixels,
        threads=running.threads(threads, jobs),
        device=device,
    )
    if many.is_asked_for(*sources):
        many.run(make, running.is_pxz)
        return
    todo = files.find(sources, running.is_pxz, recursive=recursive)
    if against is not None and len(todo) != 1:
        raise click.UsageError("--against compares one file with its original")
    running.run(todo, Work(make), jobs=jobs, force=False, quiet=quiet, as_json=as_json)


def _verify(
    job: Job,
    progress: Fraction | None,
    *,
    against: str | None,
    quick: bool,
    networks: tuple[str, ...],
    max_pixels: int,
    threads: int,
    device: str,
) -> Done:
    import numpy as np

    from pixelzip import api, metadata

    start = time.perf_counter()
    source = batch.read(job)
    about = api.info(source, max_pixels=max_pixels)
    if quick:
        line = f"{job.source}: its bytes are as they were written"
        return Done(batch.report(job, about, len(source), None, start), line)
    if api.holds_jpeg(source):
        jpeg = api.original(source, threads=threads, max_pixels=max_pixels)
        line = f"{job.source}: intact"
        if against is not None:
            if files.read(against) != jpeg:
                return Done(error=f"its JPEG file differs from {against}")
            line += f", with the bytes of {against}"
        return Done(batch.report(job, about, len(source), None, start), line)
    picture = api.decode(
        source,
        networks=networks,
        max_pixels=max_pixels,
        threads=threads,
        device=device,
        progress=progress,
    )
    metadata.parse(picture.metadata, picture.mode)
    line = f"{job.source}: intact"
    if against is not None:
        original = api.to_picture(against)
        same_shape = picture.planes[0].shape == original.planes[0].shape
        if picture.mode != original.mode or not same_shape:
            return Done(error=f"its mode or size differs from that of {against}")
        pairs = zip(picture.planes, original.planes, strict=True)
        if not all(np.array_equal(mine, theirs) for mine, theirs in pairs):
            return Done(error=f"its pixels differ from those of {against}")
        line += f", with the pixels of {against}"
        if picture.metadata != original.metadata:
            line += " (the metadata differs)"
    return Done(batch.report(job, about, len(source), None, start), line)
