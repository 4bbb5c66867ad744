"""`pixelzip bits`."""

from __future__ import annotations

import time
from functools import partial

import click

from pixelzip import batch
from pixelzip.batch import Alone, Done, Fraction, Rules
from pixelzip.commands import options, running
from pixelzip.files import Job


@click.command()
@options.IN
@click.option(
    "-n",
    "--network",
    metavar="NAME|FILE",
    default="photo",
    show_default=True,
    help="The network whose probabilities count.",
)
@options.WORK
def bits(
    sources: tuple[str, ...],
    network: str,
    jobs: int,
    threads: int | None,
    device: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Say how many bits images take in theory, and how many in a file.

    In theory: the negative log-likelihood of the pixels under the network, in bits/dim. The file
    is what compress makes with that network, metadata left out and origins off.

    \b
    Examples:
      pixelzip bits photo.png
      pixelzip bits -n mine.safetensors --json held-out/*.png
    """
    make = partial(_bits, network=network, threads=running.threads(threads, jobs), device=device)
    todo = [Job(source) for source in sources]
    running.run(
        todo, Alone(make), Rules(), jobs=jobs, quiet=quiet, as_json=as_json, with_totals=False
    )


def _bits(job: Job, progress: Fraction | None, *, network: str, threads: int, device: str) -> Done:
    import numpy as np

    from pixelzip import api, coding, pictures

    start = time.perf_counter()
    source = batch.read(job)
    picture = pictures.read(source, strip=True)
    ideal = float(coding.score(picture, network, threads, device).sum(dtype=np.float64))
    data = coding.encode(
        picture, network=network, origin="none", threads=threads, device=device, progress=progress
    )
    about = api.info(data)
    report = batch.report(job, about, len(source), len(data), time.perf_counter() - start)
    more = {
        "network": network,
        "ideal_bits": ideal,
        "ideal_bits_per_dim": ideal / about.sub_pixels,
        "file_bits": 8 * len(data),
    }
    line = (
        f"{job.source}: {ideal / about.sub_pixels:.4f} bits/dim under {network}, "
        f"{about.bits_per_dim:.4f} in a file of {len(data):,} bytes"
    )
    return Done(report, line, more=more)
