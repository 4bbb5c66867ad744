"""What a billion pictures would cost: hours of cores and money, from a batch that is really coded.

    python -m pixelzip.bench.fleet DATA [--core-hour 0.04] [--get 0.0004] [--put 0.005]
    python -m pixelzip.bench.fleet --folder FOLDER [--folder FOLDER...]

Runs `pixelzip compress` and `decompress` on each kind of pictures as a run does on one core of a
cluster (one worker, one thread, checksums and manifest included), and takes the CPU time of all of
it, so that what else runs on the machine matters little. Prints what docs/cluster.md shows, in
Markdown. Prices are the caller's: dollars for an hour of a core, and for a thousand requests of an
object store. ``DATA`` is that of `pixelzip.bench.page`; folders of one's own make no mixture.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from pixelzip.bench import halved
from pixelzip.bench.datasets import DatasetError, Pixels
from pixelzip.bench.tables import Table

BILLION = 10**9
CORES = 1000
MONTH = 0.023
"""Dollars for a gigabyte that is stored for a month."""
WEB, DECODED, WHOLE = (
    "JPEG files of the web", "the same decoded, as PNG", "PNG, photographs without an origin in one"
)  # fmt: skip
KODAK, CIFAR = "PNG of Kodak, whose origin is found", "PNG of CIFAR-10"
MIXTURE = {WEB: 0.6, DECODED: 0.1, WHOLE: 0.1, CIFAR: 0.2}
"""Which part of all files each kind has in a mixed collection."""
SQUARE = 160
"""Pixels of each side of a photograph in ``WHOLE``."""
_COUNTS = 8, 6, 256
"""Photographs of the web, images of Kodak, of CIFAR-10."""
_MOST_BYTES = 200_000
"""Of a photograph of the web."""


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


def kinds(data: Path, into: Path) -> list[Path]:
    """Make a folder of each kind."""
    photographs, of_kodak, of_cifar = _COUNTS
    folders = [into / name for name in (WEB, DECODED, WHOLE, KODAK, CIFAR)]
    for folder in folders:
        folder.mkdir()
    jpegs, decoded, whole, kodak, cifar = folders
    valid = sorted((data / "photos" / "valid").glob("*.jpg"))
    for path in [path for path in valid if path.stat().st_size <= _MOST_BYTES][:photographs]:
        shutil.copy(path, jpegs)
        with Image.open(path) as image:
            image.convert("RGB").save(decoded / f"{path.stem}.png")
    for path in sorted((data / "kodak").glob("*.png"))[:of_kodak]:
        shutil.copy(path, kodak)
    with Image.open(data / "cifar10" / "batch_2.png") as sheet:  # an image in each row
        for number, row in enumerate(np.asarray(sheet)[:of_cifar]):
            Image.fromarray(row.reshape(32, 32, 3)).save(cifar / f"{number}.png")
    items = halved.dataset(data / "photos" / "valid").items
    _mosaic(item.load() for item in items).save(whole / "mosaic.png")
    return folders


def _mosaic(pictures: Iterable[Pixels]) -> Image.Image:
    """Squares of pictures side by side, in rows of ten; smaller pictures are left out."""
    squares = [one[:SQUARE, :SQUARE] for one in pictures if min(one.shape[:2]) >= SQUARE]
    rows = [np.concatenate(squares[i : i + 10], axis=1) for i in range(0, len(squares) - 9, 10)]
    if not rows:
        raise DatasetError("there are too few photographs")
    return Image.fromarray(np.concatenate(rows))


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
    columns = (
        "", "pixels", "bytes before", "after", "core-seconds to compress", "for a megapixel",
        "to bring back", "for a megapixel", "core-hours for a billion", f"days on {CORES:,} cores",
        "dollars for cores", "for requests",
    )  # fmt: skip
    rows, requests = [], f"{_requests(get, put):,.0f}"
    for batch in batches:
        hours, millions = batch.compress * BILLION / 3600, batch.pixels / 1e6
        rows.append((
            f"{batch.count} {batch.name}", f"{batch.pixels:,.0f}", f"{batch.bytes_in:,.0f}",
            f"{batch.bytes_out:,.0f}", f"{batch.compress:.4f}", f"{batch.compress / millions:.2f}",
            f"{batch.decompress:.4f}", f"{batch.decompress / millions:.2f}", f"{hours:,.0f}",
            f"{hours / 24 / CORES:,.1f}", f"{hours * core_hour:,.0f}", requests,
        ))  # fmt: skip
    return Table("", columns, tuple(rows)).markdown()


def mixture(batches: Iterable[Batch], core_hour: float, get: float, put: float) -> str:
    """What a billion files of all kinds would take, as sums that can be done again."""
    parts = [(part, batch) for batch in batches if (part := MIXTURE.get(batch.name))]
    seconds, before, after = (
        sum(part * getattr(batch, name) for part, batch in parts)
        for name in ("compress", "bytes_in", "bytes_out")
    )
    hours, saved = seconds * BILLION / 3600, (before - after) * BILLION / 1e9  # gigabytes
    cores, requests = hours * core_hour, _requests(get, put)
    both, monthly = cores + requests, saved * MONTH
    summed = " + ".join(f"{part:.1f} x {batch.compress:.4f}" for part, batch in parts)
    of_jpegs = parts[0][1]
    each = 12e6 / of_jpegs.pixels * of_jpegs.compress
    return f"""\
- *Time*: {summed} = {seconds:.4f} core-seconds
  for a file; for a billion, x 10^9 / 3,600 = {hours:,.0f} core-hours, which are
  {hours / 24 / CORES:,.1f} days on {CORES:,} cores.
- *Money*: {hours:,.0f} x {core_hour} = {cores:,.0f} dollars for cores and {requests:,.0f} for requests, {both:,.0f} in all.
- *Storage*: likewise {before:,.0f} bytes for a file before and {after:,.0f} after: of {before / 1e3:,.0f} TB {saved / 1e3:,.0f} are
  saved, {monthly:,.0f} dollars a month, which pay for the work in {both / monthly:,.1f} months.
- *Larger files* take as many times longer as they have more pixels: JPEGs of 12 megapixels some {each:.0f} core-seconds
  each, a billion of them {each * BILLION / 3.6e9:,.1f} million core-hours.
"""  # noqa: E501


def _requests(get: float, put: float) -> float:
    """Dollars for a billion files: each is looked for, read once and written once."""
    return (2 * get + put) * BILLION / 1000


@click.command()
@click.argument("data", required=False, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--folder", "folders", multiple=True, type=click.Path(path_type=Path, exists=True),
    help="Pictures of one's own, in place of DATA.",
)  # fmt: skip
@click.option("--core-hour", default=0.04, show_default=True, help="Dollars for an hour of a core.")
@click.option("--get", default=0.0004, show_default=True, help="Dollars for 1,000 reads.")
@click.option("--put", default=0.005, show_default=True, help="Dollars for 1,000 writes.")
def main(
    data: Path | None, folders: tuple[Path, ...], core_hour: float, get: float, put: float
) -> None:
    """Measure what a billion pictures like those of DATA, or of each folder, would take."""
    if (data is None) == (not folders):
        raise click.UsageError("either DATA or --folder")
    with tempfile.TemporaryDirectory() as made:
        found = [measure(one) for one in (kinds(data, Path(made)) if data else folders)]
    click.echo(table(found, core_hour, get, put))
    if data:
        click.echo(mixture(found, core_hour, get, put))


if __name__ == "__main__":
    main()
