"""`pixelzip info`."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial

import click

from pixelzip import batch
from pixelzip.batch import Alone, Done, Fraction, Rules
from pixelzip.commands import options, running
from pixelzip.files import Job


@click.command()
@options.IN
@options.MAX_PIXELS
@options.QUIET
@options.JSON
def info(sources: tuple[str, ...], max_pixels: int, quiet: bool, as_json: bool) -> None:
    """Say what is in .pxz files, without decoding them.

    \b
    Examples:
      pixelzip info photo.pxz
      pixelzip info --json archive/*.pxz
    """
    todo = [Job(source) for source in sources]
    make = partial(_info, max_pixels=max_pixels)
    running.run(todo, Alone(make), Rules(), quiet=quiet, as_json=as_json, with_totals=False)


def _info(job: Job, _progress: Fraction | None, *, max_pixels: int) -> Done:
    from pixelzip import api

    start = time.perf_counter()
    data = batch.read(job)
    about = api.info(data, max_pixels=max_pixels)
    report = batch.report(job, about, len(data), None, time.perf_counter() - start)
    several = "pages" if "pages" in about.metadata else "frames"
    lines = [
        f"{job.source}:",
        f"{about.width} x {about.height} pixels, mode {about.mode}"
        + (f", {about.frames} {several}" if about.frames > 1 else ""),
        f"{about.bytes:,} bytes for {about.sub_pixels:,} sub-pixels, "
        f"{about.bits_per_dim:.3f} bits/dim",
        f"networks: {', '.join(about.networks) or 'none'}",
        *about.found,
    ]
    for part in about.parts:
        tiles = running.count(part.tiles, "tile")
        tiles += f" of at most {part.tile_size} x {part.tile_size}" if part.tile_size else ""
        methods = ", ".join(f"{count} {name}" for name, count in part.methods.items())
        channels = running.count(part.channels, "channel")
        size = f"{part.width} x {part.height}, {channels}"
        lines.append(f"{size} in {tiles} ({methods}): {part.bytes:,} bytes")
    if about.metadata:
        names = ", ".join(about.metadata)
        lines.append(f"metadata: {names}; {about.metadata_bytes:,} bytes before compression")
    return Done(report, "\n  ".join(lines), more=asdict(about))
