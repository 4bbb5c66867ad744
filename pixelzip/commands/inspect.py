"""`pixelzip inspect`."""

from __future__ import annotations

import io
import time
from functools import partial

import click

from pixelzip import batch
from pixelzip.batch import Alone, Done, Fraction, Rules
from pixelzip.commands import options, running
from pixelzip.files import Job


@click.command()
@options.IN
@options.OUTPUT
@options.RECURSIVE
@options.FORCE
@options.DECODING
@options.WORK
def inspect(
    sources: tuple[str, ...],
    output: str | None,
    recursive: bool,
    force: bool,
    networks: tuple[str, ...],
    max_pixels: int,
    jobs: int,
    threads: int | None,
    device: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Draw where the bits of .pxz files go: a heat map of what each pixel took.

    The output is a PNG file, and for photo.pxz it is photo.bits.png unless -o says otherwise. What
    a network codes is shown pixel by pixel; a tile in a simpler form has the same colour all over.

    \b
    Examples:
      pixelzip inspect photo.pxz -o bits.png
      pixelzip inspect --recursive archive -o maps
      pixelzip inspect --json photo.pxz -o bits.png
    """
    todo = running.plan(sources, output, ".bits.png", running.packed_only, recursive)
    make = partial(
        _inspect,
        networks=networks,
        max_pixels=max_pixels,
        threads=running.threads(threads, jobs),
        device=device,
    )
    running.run(
        todo,
        Alone(make),
        Rules(force),
        jobs=jobs,
        quiet=quiet,
        as_json=as_json,
        with_totals=False,
    )


def _inspect(
    job: Job,
    progress: Fraction | None,
    *,
    networks: tuple[str, ...],
    max_pixels: int,
    threads: int,
    device: str,
) -> Done:
    import numpy as np

    from pixelzip import api, heatmap

    start = time.perf_counter()
    if not running.is_png(job):
        return Done(error=f"a heat map is a PNG file, so name it .png and not {job.target}")
    source = batch.read(job)
    bits = api.cost_map(
        source,
        networks=networks,
        max_pixels=max_pixels,
        threads=threads,
        device=device,
        progress=progress,
    )
    drawn = io.BytesIO()
    heatmap.draw(bits).save(drawn, "PNG")
    about = api.info(source, max_pixels=max_pixels)
    report = batch.report(job, about, len(source), drawn.tell(), time.perf_counter() - start)
    payload = about.payload_bytes
    total = float(bits.sum(dtype=np.float64))
    more = {
        "payload_bytes": payload,
        "total_bits": total,
        "mean_bits": total / bits.size,
        "median_bits": float(np.median(bits)),
        "least_bits": float(bits.min()),
        "most_bits": float(bits.max()),
    }
    line = (
        f"{report.input} -> {report.output}: {bits.size:,} pixels took {total:,.0f} bits, each "
        f"{more['least_bits']:.2f} to {more['most_bits']:.2f}, {more['mean_bits']:.2f} on average; "
        f"{len(source) - payload:,} bytes of header and metadata come on top"
    )
    return Done(report, line, drawn.getvalue(), more=more)
