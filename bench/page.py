"""The results page of the repository, and the README's table, from one run of all datasets::

    python -m pixelzip.bench.page DATA -o docs/benchmarks.md --readme README.md

``DATA`` holds ``kodak/``, the 24 Kodak images; ``photos/valid/``, photographs as JPEG, whose
decoded pixels are coded, as they are and halved (`pixelzip.bench.halved`); and two sheets in which
each row of pixels is one image:
``cifar10/batch_2.png`` (CIFAR-10's training images 2000 to 2999, of which the second half was kept
from training) and ``mnist/b20.png`` (MNIST's test images, from the first on).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from pixelzip import coding, files
from pixelzip.bench import datasets, report, run, scaling, tables
from pixelzip.bench import halved as without_origin
from pixelzip.bench.datasets import Dataset, DatasetError
from pixelzip.bench.figures import CodecFigures, Results
from pixelzip.bench.peers import DEFAULT, PEERS
from pixelzip.codec.errors import PixelzipError
from pixelzip.meter import Meter

REFERENCE = "jpeg-xl-9"
USUAL, ALL = (coding.DEFAULT_EFFORT,), tuple(coding.EFFORTS)
"""Efforts. The highest takes a minute and more for a megapixel, there and back."""
PLOT = "speeds.png"
"""Of the photographs without an origin, beside the page."""
SUMMARY = (
    "codec", "Kodak, bits/dim", "origins off", "CIFAR-10, bits/dim", "encode, MP/s", "decode, MP/s"
)  # fmt: skip
"""The columns of the README's table, by which it is found there."""

_INTRODUCTION = """\
# Benchmarks

`make bench` wrote this page: every image was compressed to a file by every codec, brought back and
compared, in one run on one machine:

{machine}

*pixelzip, default* is what one gets without an option: a sample of the picture chooses the network.
Bits/dim is *file bytes x 8 / sub-pixels*, headers and all. *Payload* is the coded tiles alone;
*theory* is the networks' negative log-likelihood of what they say. Speeds are in megapixels a
second, one image after the other; ratios above 1 are faster. Memory is the peak of a fresh process
that codes one image, Python and libraries included. All files hold pixels and no metadata.
`pixelzip bench` measures the same on any images.

*Origins off* is what the files take if pixelzip does not look for the samples that the pixels were
computed from ([origins.md](origins.md)): what an origin saves is no merit of the network. The
Kodak images were computed from a PhotoCD's Y, C1 and C2 with a quarter of the chroma, and the
decoded JPEGs from Y, Cb and Cr. The photographs without an origin are the same JPEGs at half their
size (`python -m pixelzip.bench.halved photos/valid -o halved`): there the model counts alone.
"""

_THREADS = """\
## Threads

Several threads share a large picture by tile, and a folder, or all that `compress_many` is given,
by image. The pictures are made of noise at all scales, and some decoded from JPEGs; `pixelzip bench
--scaling` measures the same, and how time and memory grow with a picture. One thread's time, and
how many times faster all of them are, measured twice, turn by turn:
"""


@click.command()
@click.argument("data", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option("--readme", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--network", "networks", multiple=True, help="[default: those that pixelzip takes by itself]"
)
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The float network of the first --network (repeat: of the second...), for its theory.",
)
@click.option("--peers", default=",".join(DEFAULT), help="Separated by commas.")
@click.option("--limit", type=click.IntRange(1), help="At most so many images of each dataset.")
@click.option("--threads", type=click.IntRange(1), help="For all.  [default: all cores]")
def main(
    data: Path,
    output: Path,
    readme: Path | None,
    networks: tuple[str, ...],
    checkpoints: tuple[Path, ...],
    peers: str,
    limit: int | None,
    threads: int | None,
) -> None:
    """Measure on DATA, write the page, and bring the README's table up to date."""
    others = [PEERS[key] for key in peers.split(",")]
    measured = []
    try:
        if readme is not None:
            with_table(
                readme.read_text("utf-8"), tables.Table("", SUMMARY, ())
            )  # says now if it has none
        for dataset, efforts in _datasets(data, limit):
            click.echo(f"{dataset.name}: {tables.count(len(dataset.items), 'image')}", err=True)
            with Meter(1, shown=sys.stderr.isatty()) as meter:
                results = run.measure(
                    dataset,
                    [*run.networks(networks, checkpoints, efforts), *others],
                    threads=threads or coding.available_threads(),
                    reference=REFERENCE,
                    progress=meter.fraction,
                )
            measured.append(results)
        kodak, cifar, free, *_ = measured
        sharing = _sharing((networks or (coding.PHOTO,))[0], threads or coding.available_threads())
        files.write(str(output), (page(measured) + sharing).encode(), force=True)
        files.write(str(output.with_name(PLOT)), report.speeds(free), force=True)
        if readme is not None:
            text = with_table(readme.read_text("utf-8"), summary(kodak, cifar))
            files.write(str(readme), text.encode(), force=True)
    except (PixelzipError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error


def _datasets(data: Path, limit: int | None) -> list[tuple[Dataset, Sequence[str]]]:
    """Each with the efforts to measure: Kodak, the CIFAR images, photographs without an origin,
    MNIST's images, and decoded JPEGs by the size of their chroma."""
    kodak = datasets.load(str(data / "kodak"), limit=limit)
    whole, halved = _decoded(data / "photos" / "valid")
    free = without_origin.dataset(data / "photos" / "valid")
    cifar = _sheet(data / "cifar10" / "batch_2.png", (32, 32, 3))[500:1000]
    mnist = _sheet(data / "mnist" / "b20.png", (28, 28))
    return [
        (Dataset("Kodak", kodak.items), USUAL),
        (Dataset("CIFAR-10, training images 2500 to 2999", cifar[:limit]), ALL),
        (Dataset(free.name, free.items[:limit]), ALL),
        (Dataset("MNIST, the first test images", mnist[:limit]), USUAL),
        (Dataset("Decoded JPEGs, chroma whole", whole[:limit]), USUAL),
        (Dataset("Decoded JPEGs, chroma halved both ways", halved[:limit]), USUAL),
    ]


def _decoded(folder: Path) -> tuple[list[datasets.Item], list[datasets.Item]]:
    """The pixels of JPEGs: those whose chroma is whole, those whose chroma is halved both ways."""
    found: dict[tuple[int, int], list[datasets.Item]] = {(1, 1): [], (2, 2): []}
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as image:
            sampling = image.layer[0][1:3] if isinstance(image, JpegImageFile) else None
            if image.mode == "RGB" and sampling in found:
                item = datasets.Item(path.name, partial(datasets.read, path), path)
                found[sampling].append(item)
    if not all(found.values()):
        raise DatasetError(f"{folder} does not hold JPEGs of both kinds of chroma")
    return found[1, 1], found[2, 2]


def _sheet(path: Path, shape: tuple[int, ...]) -> list[datasets.Item]:
    """The images of a sheet: each row of its pixels is one."""
    try:
        with Image.open(path) as sheet:
            return datasets.rows(np.asarray(sheet).reshape(-1, *shape))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} is not there or is no sheet of images: {error}") from error


def page(measured: Sequence[Results]) -> str:
    """The whole page, in Markdown."""
    kodak, cifar, *_ = measured
    machine = tables.machine_sentence(kodak.machine)
    parts = [_INTRODUCTION.format(machine=machine), summary(kodak, cifar).markdown()]
    for results in measured:
        count = tables.count(results.images, "image")
        parts.append(f"## {results.dataset}: {count}\n")
        parts.append(_list(losses(results)))
        for table in tables.all_tables(results):
            parts.append(f"{table.title}:\n\n{table.markdown()}")
        if results.dataset == without_origin.NAME:
            parts.append(f"![Size against speed, for all codecs]({PLOT})\n")
        parts.append(_list(results.notes))
    return "\n".join(part for part in parts if part)


def _sharing(network: str, threads: int) -> str:
    """What threads gain, in Markdown; nothing if there is only one."""
    click.echo("what threads share", err=True)
    found = scaling.shared(network, threads, repeat=3)
    if not found:
        return ""
    return f"\n{_THREADS}\n{scaling.shared_table(found, threads).markdown()}"


def _list(sentences: Sequence[str]) -> str:
    return "".join(f"- {sentence}\n" for sentence in sentences)


def losses(results: Results) -> list[str]:
    """How each network compares with the reference, and where it is behind: whose files are
    smaller, and who is faster."""
    peers = [codec for codec in results.codecs if not codec.network]
    sentences = []
    for codec in results.codecs:
        if not codec.network:
            continue
        smaller = sorted(
            (peer for peer in peers if peer.bits_per_dim < codec.bits_per_dim),
            key=lambda peer: peer.bits_per_dim,
        )
        faster = [peer.name for peer in peers if peer.encode_mps > codec.encode_mps]
        reads = [peer.name for peer in peers if peer.decode_mps > codec.decode_mps]
        of_reference = [peer for peer in peers if peer.name == results.reference]
        sentences += [
            f"{codec.name} against {peer.name}: {100 * _growth(codec, peer):+.1f} % of its bytes."
            for peer in of_reference
        ]
        sentences += [
            f"Smaller files than {codec.name}: {_or_none([_less(p, codec) for p in smaller])}.",
            f"Faster to encode than {codec.name}: {_or_none(faster, len(peers))}.",
            f"Faster to decode than {codec.name}: {_or_none(reads, len(peers))}.",
        ]
    return sentences


def _growth(codec: CodecFigures, peer: CodecFigures) -> float:
    return codec.bits_per_dim / peer.bits_per_dim - 1


def _less(peer: CodecFigures, codec: CodecFigures) -> str:
    return f"{peer.name} by {-100 * _growth(peer, codec):.1f} %"


def _or_none(names: Sequence[str], all_of: int | None = None) -> str:
    if len(names) == all_of:
        return "all others"
    return "; ".join(names) or "none"


def summary(kodak: Results, cifar: Results) -> tables.Table:
    """The README's table: both datasets' bits/dim, and the speeds on Kodak; the best last."""
    plain = {codec.name: codec.plain_bits_per_dim for codec in kodak.codecs}
    small = {codec.name: f"{codec.bits_per_dim:.3f}" for codec in cifar.codecs}
    rows = [
        (
            f"**{codec.name}**" if codec.network else codec.name,
            f"{codec.bits_per_dim:.3f}",
            "" if plain[codec.name] is None else f"{plain[codec.name]:.3f}",
            small.get(codec.name, ""),
            tables.short(codec.encode_mps),
            tables.short(codec.decode_mps),
        )
        for codec in sorted(kodak.codecs, key=lambda codec: -codec.bits_per_dim)
    ]
    return tables.Table("", SUMMARY, tuple(rows))


def with_table(text: str, table: tables.Table) -> str:
    """A Markdown text whose table with the same first line is replaced; ValueError without one."""
    new = table.markdown()
    head = re.escape(new.splitlines()[0])
    text, found = re.subn(rf"^{head}\n(?:\|.*\n)+", lambda _: new, text, flags=re.MULTILINE)
    if found != 1:
        raise ValueError(f"the text has {found} tables that begin with {new.splitlines()[0]}")
    return text


if __name__ == "__main__":
    main()
