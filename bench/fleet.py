"""What a billion pictures would cost: hours of cores and money, from a batch that is really coded.

    python -m pixelzip.bench.fleet FOLDER... [--core-hour 0.04] [--get 0.0004] [--put 0.005]

Runs `pixelzip compress` and `decompress` on each folder of pictures as a run does on one core of a
cluster (one worker, one thread, checksums and manifest included), and takes the CPU time of all of
it, so that what else runs on the machine matters little. Prints a table in Markdown. Prices are the
caller's: dollars for an hour of a core, and for a thousand requests of an object store.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

BILLION = 10**9
CORES = 1000


@dataclass(frozen=True)
class Batch:
    """What was measured of a folder's pictures; all but the count is of one, on average."""

    name: str
    count: int
    pixels: float
    bytes_in: float
    bytes_out: float
    compress: float
    """Seconds of one core."""
    decompress: float


def measure(folder: Path) -> Batch:
    """Code a folder's pictures and bring them back."""
    with tempfile.TemporaryDirectory() as made:
        compress, totals = _run("compress", str(folder), made, "out")
        decompress, _ = _run("decompress", f"{made}/out", made, "back")
    count = totals["verdicts"]["done"]
    return Batch(
        folder.name,
        count,
        totals["pixels"] / count,
        totals["bytes_in"] / count,
        totals["bytes_out"] / count,
        compress / count,
        decompress / count,
    )


def _run(command: str, source: str, folder: str, output: str) -> tuple[float, dict[str, Any]]:
    """CPU seconds of a command and of its workers, and what its manifest adds up to."""
    manifest = f"{folder}/{command}.jsonl"
    pixelzip = [sys.executable, "-m", "pixelzip"]
    options = ["--recursive", "--output", f"{folder}/{output}", "--manifest", manifest, "--jobs=1"]
    before = _cpu_seconds()
    subprocess.run([*pixelzip, command, source, *options], check=True, stdout=subprocess.DEVNULL)
    seconds = _cpu_seconds() - before
    said = subprocess.check_output([*pixelzip, "manifest", "--json", manifest])
    totals: dict[str, Any] = json.loads(said)
    return seconds, totals


def _cpu_seconds() -> float:
    """Of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def table(batches: Iterable[Batch], core_hour: float, get: float, put: float) -> str:
    """The measurements, and what they mean for a billion pictures, in Markdown."""
    lines = [
        "| | pixels | bytes before | after | core-seconds to compress | to bring back "
        "| core-hours for a billion "
        f"| days on {CORES:,} cores | dollars for cores | for requests |",
        "|---|" + "---:|" * 9,
    ]
    for batch in batches:
        hours = batch.compress * BILLION / 3600
        # Each file is read once and written once, and looked for before.
        requests = (2 * get + put) * BILLION / 1000
        lines.append(
            f"| {batch.name}, {batch.count} files | {batch.pixels:,.0f} | {batch.bytes_in:,.0f} "
            f"| {batch.bytes_out:,.0f} | {batch.compress:.4f} | {batch.decompress:.4f} "
            f"| {hours:,.0f} | {hours / 24 / CORES:,.1f} | {hours * core_hour:,.0f} "
            f"| {requests:,.0f} |"
        )
    return "\n".join(lines)


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--core-hour", default=0.04, show_default=True, help="Dollars for an hour of a core.")
@click.option("--get", default=0.0004, show_default=True, help="Dollars for 1,000 reads.")
@click.option("--put", default=0.005, show_default=True, help="Dollars for 1,000 writes.")
def main(folders: tuple[Path, ...], core_hour: float, get: float, put: float) -> None:
    """Measure what a billion pictures like those in each of FOLDERS would take."""
    click.echo(table(map(measure, folders), core_hour, get, put))


if __name__ == "__main__":
    main()
