"""The command ``pixelzip bench``. Every ``pixelzip --help`` loads it, so it imports little."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pixelzip import files
from pixelzip.codec.errors import PixelzipError

if TYPE_CHECKING:
    from pixelzip.bench.datasets import Dataset
    from pixelzip.bench.report import Sample
    from pixelzip.bench.tables import Table
    from pixelzip.meter import Meter

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
SAMPLES = 4
"""How many images the report shows beside their heat maps."""


@click.command()
@click.option(
    "-d",
    "--dataset",
    metavar="SOURCE",
    help="cifar10, cifar100, mnist, fashion-mnist, imagenet32, imagenet64, kodak, or any image,"
    " folder, glob, .npy or .npz of images.  [default: kodak]",
)
@click.option("--split", type=click.Choice(["train", "test"]), help="Of a dataset that has both.")
@click.option("--limit", metavar="N", type=click.IntRange(1), help="The first N images only.")
@click.option("--seed", metavar="S", type=click.IntRange(0), help="With --limit: N random images.")
@click.option(
    "--data-dir",
    metavar="DIR",
    type=FOLDER,
    help="Where named datasets are, or are downloaded to.  [default: ~/.cache/pixelzip]",
)
@click.option(
    "-n",
    "--network",
    "networks",
    metavar="NAME",
    multiple=True,
    help="A network of the zoo, a frozen network's file, or none; repeat for several.  [default:"
    " those that pixelzip takes by itself]",
)
@click.option(
    "--effort",
    "efforts",
    multiple=True,
    type=click.Choice(["fast", "photo", "max"]),
    default=["photo"],
    show_default=True,
    help="How much time pixelzip's files may take; repeat for several.",
)
@click.option(
    "--checkpoint",
    "checkpoints",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="The float network of the first --network (repeat: of the second...), for its theory.",
)
@click.option(
    "--peers",
    metavar="LIST",
    help="Other codecs, separated by commas: png, qoi, jpeg-ls, jpeg-2000, avif, webp, flif,"
    " jpeg-xl-7, jpeg-xl-9, jpeg-xl-10, paq8px; or none.  [default: all but jpeg-xl-10]",
)
@click.option(
    "--reference",
    metavar="PEER",
    default="jpeg-xl-9",
    show_default=True,
    help="The codec that speeds are compared with.",
)
@click.option(
    "-t", "--threads", metavar="N", type=click.IntRange(1), help="For all.  [default: all cores]"
)
@click.option(
    "--repeat",
    metavar="N",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Time everything N times and take the medians.",
)
@click.option("--scaling", is_flag=True, help="Measure how time and memory grow with size instead.")
@click.option(
    "--up-to",
    metavar="MP",
    type=click.FloatRange(0.4),
    default=24.0,
    show_default=True,
    help="With --scaling: the largest picture, in megapixels.",
)
@click.option("--json", "json_file", metavar="FILE", type=FILE, help="Write all figures as JSON.")
@click.option("--csv", "csv_file", metavar="FILE", type=FILE, help="Write a row for each image.")
@click.option("--report", metavar="DIR", type=FOLDER, help="Write a page to look at, index.html.")
@click.option("-f", "--force", is_flag=True, help="Overwrite files that exist.")
@click.option("-q", "--quiet", is_flag=True, help="Print no tables.")
def bench(
    dataset: str | None,
    split: str | None,
    limit: int | None,
    seed: int | None,
    data_dir: Path | None,
    networks: tuple[str, ...],
    efforts: tuple[str, ...],
    checkpoints: tuple[Path, ...],
    peers: str | None,
    reference: str,
    threads: int | None,
    repeat: int,
    scaling: bool,
    up_to: float,
    json_file: Path | None,
    csv_file: Path | None,
    report: Path | None,
    force: bool,
    quiet: bool,
) -> None:
    """Measure networks beside other codecs, with real files.

    Every image is compressed, brought back and compared. Sizes are those of whole files, and stand
    beside those in theory.

    \b
    Examples:
      pixelzip bench --dataset cifar10 --limit 500 --seed 1
      pixelzip bench --dataset photos/ --report report --json figures.json
      pixelzip bench --dataset kodak --network photo --network mine.safetensors
      pixelzip bench --dataset "scans/*.png" --peers png,jpeg-xl-7 --repeat 5
      pixelzip bench --scaling --up-to 6 --report scaling
    """
    if scaling and (dataset or split or limit or seed or peers or csv_file or checkpoints):
        raise click.UsageError("--scaling measures pictures of its own, and no peers")
    if scaling and efforts != ("photo",):
        raise click.UsageError("--scaling measures the usual effort")
    if scaling and len(networks) > 1:
        raise click.UsageError("--scaling measures one network")
    if scaling and networks == ("none",):
        raise click.UsageError("--scaling measures a network")
    if len(checkpoints) > len(networks):
        raise click.UsageError("there are more checkpoints than networks that are named")
    keys = _keys(peers)
    _keys(reference)
    page = None if report is None else report / ("scaling.png" if scaling else "index.html")
    _check([json_file, csv_file], page, force)

    from pixelzip.coding import available_threads

    threads = threads or available_threads()
    try:
        if scaling:
            from pixelzip.bench import scaling as growth

            with _meter(quiet) as meter:
                found = growth.measure(
                    (networks or ("photo",))[0], threads, repeat, up_to, meter.fraction
                )
            _write(json_file, json.dumps(found.to_json(), indent=1) + "\n", force)
            if page is not None:
                files.write(str(page), found.plot(), force=force, makes_folder=True)
            tables = found.tables()
            lines = found.sentences()
        else:
            from pixelzip.bench import datasets, run
            from pixelzip.bench import tables as made
            from pixelzip.bench.peers import PEERS

            images = datasets.load(
                dataset or "kodak", split=split, limit=limit, seed=seed, data_dir=data_dir
            )
            codecs: list[run.Codec] = [
                *run.networks(networks, checkpoints, efforts),
                *(PEERS[key] for key in keys),
            ]
            with _meter(quiet) as meter:
                results = run.measure(
                    images,
                    codecs,
                    threads=threads,
                    repeat=repeat,
                    reference=reference,
                    progress=meter.fraction,
                )
            _write(json_file, json.dumps(results.to_json(), indent=1) + "\n", force)
            _write(csv_file, results.to_csv(), force)
            if report is not None:
                from pixelzip.bench import report as writer

                writer.write(results, _samples(images, (networks or (None,))[0]), report)
            tables = made.all_tables(results)
            lines = [*results.notes, made.machine_sentence(results.machine)]
    except PixelzipError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror or error}") from error
    if not quiet:
        _show(tables, lines)


def _keys(peers: str | None) -> list[str]:
    """The keys of the peers in a list with commas. BadParameter if one of them is none."""
    from pixelzip.bench.peers import DEFAULT, PEERS

    if peers is None:
        return list(DEFAULT)
    keys = [] if peers == "none" else [key.strip() for key in peers.split(",")]
    for key in keys:
        if key not in PEERS:
            raise click.BadParameter(f"{key} is none of {', '.join(PEERS)}")
    return list(dict.fromkeys(keys))


def _check(written: Sequence[Path | None], page: Path | None, force: bool) -> None:
    """Refuse outputs that could not be written, before any work is done for them."""
    for path in (*written, page):
        if path is None:
            continue
        if path.exists() and not force:
            raise click.ClickException(f"{path} exists already; add --force to overwrite it")
        if path is not page and not path.parent.is_dir():
            raise click.ClickException(f"there is no folder {path.parent} to write {path.name} to")


def _meter(quiet: bool) -> Meter:
    from pixelzip.meter import Meter

    return Meter(1, shown=sys.stderr.isatty() and not quiet)


def _write(path: Path | None, text: str, force: bool) -> None:
    if path is not None:
        files.write(str(path), text.encode(), force=force)


def _samples(dataset: Dataset, network: str | None) -> list[Sample]:
    """A few images, evenly out of all, with the bits that each of their pixels takes."""
    import numpy as np

    import pixelzip
    from pixelzip.bench.report import Sample

    samples = []
    for item in dataset.items[:: -(-len(dataset.items) // SAMPLES)]:
        pixels = item.load()
        data = pixelzip.compress(pixels, network=network)
        bits = pixelzip.cost_map(data, networks=[] if network in (None, "none") else [network])
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        elif pixels.dtype == np.bool_:
            pixels = pixels.astype(np.uint8) * np.uint8(255)
        samples.append(Sample(item.name, pixels, bits))
    return samples


def _show(tables: Sequence[Table], lines: Sequence[str]) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120  # a file has no width of its own
    for table in tables:
        table.show(console)
        console.print()
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
