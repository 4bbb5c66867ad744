"""The papers' networks, trained and measured: the tables and pictures of docs/papers.md::

    python -m pixelzip.bench.papers RUNS --images cifar.png --images mnist.png -o docs/papers.md

``RUNS`` holds a folder for each run, named as in `COMPARISONS`; those that are missing or still
being trained are left out. ``--images`` are files of rows (`pixelzip.models.training.images`),
colour ones for the colour networks and grey ones for the others.

The page is written by hand but for its tables, each of which stands between two marks::

    <!-- table:colour -->
    ...
    <!-- end -->
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from pixelzip import coding, files
from pixelzip.bench import curves, runs
from pixelzip.bench.datasets import DatasetError
from pixelzip.bench.runs import Coding, Measured
from pixelzip.bench.tables import Table, count, machine_sentence
from pixelzip.codec.errors import PixelzipError, TrainingError
from pixelzip.meter import Meter
from pixelzip.models.training import images as rows


@dataclass(frozen=True)
class Entry:
    """A run as it stands in a table."""

    run: str
    name: str
    paper: float | None = None
    """The paper's figure: bits/dim, for MNIST nats per image."""
    remark: str = ""
    """What is to be said of that figure."""


COMPARISONS: dict[str, tuple[Entry, ...]] = {
    "colour": (
        Entry("pixelcnn", "PixelCNN", 3.14),
        Entry("row-lstm", "Row LSTM", 3.07),
        Entry("diagonal-bilstm", "Diagonal BiLSTM", 3.00),
        Entry("multi-scale", "Multi-Scale PixelRNN"),
        Entry("gated", "Gated PixelCNN", 3.03),
        Entry("pp", "PixelCNN++", 2.92),
    ),
    "connections": (
        Entry("row-none", "neither", 3.22),
        Entry("row-skip", "skip", 3.09),
        Entry("row-residual", "residual", 3.07),
        Entry("row-lstm", "skip and residual", 3.06),
    ),
    "depth": (
        Entry("row-1", "1 layer", 3.30),
        Entry("row-2", "2 layers", 3.20),
        Entry("row-lstm", "4 layers", 3.17, "3 layers"),
        Entry("row-6", "6 layers", 3.09),
    ),
    "plusplus": (
        Entry("pp", "PixelCNN++", 2.92, "with dropout"),
        Entry("pp-classes", "class-conditional", 2.94),
        Entry("pp-softmax", "256-way softmax", None, "slower, and worse"),
        Entry("pp-continuous", "continuous mixture", 3.11),
        Entry("pp-no-shortcuts", "no short-cuts", None, "fails to train"),
        Entry("pp-dropout", "dropout of one half", None, "2.92; without it never below 3.0"),
    ),
    "small": (
        Entry("small-11x5-plain", "11x5, plain", 3.11),
        Entry("small-11x5-nin", "11x5, NIN", 3.09),
        Entry("small-11x5-autoregressive", "11x5, autoregressive channels", 3.07),
        Entry("small-15x8-plain", "15x8, plain", 3.07),
        Entry("small-15x8-nin", "15x8, NIN", 3.04),
        Entry("small-15x8-autoregressive", "15x8, autoregressive channels", 3.03),
        Entry("photo", "`photo`'s"),
    ),
    "mnist": (
        Entry("mnist-pixelcnn", "PixelCNN", 81.30),
        Entry("mnist-row-lstm", "Row LSTM", 80.54),
        Entry("mnist-diagonal-bilstm", "Diagonal BiLSTM", 79.20, "7 layers"),
        Entry("mnist-pp", "PixelCNN++"),
    ),
}
"""The papers' tables, and our runs for their rows."""

NAMES = {
    "connections": "Row LSTM, {}",
    "depth": "Row LSTM, {}",
    "plusplus": "PixelCNN++, {}",
    "small": "small PixelCNN++, {}",
    "mnist": "MNIST: {}",
}
"""What a row is called outside of its own table."""
DISTRIBUTIONS = {"pp-softmax": "256-way softmax", "pp": "mixture of logistics"}
"""The runs whose predictions are drawn, and what they are called there."""
PICTURED = 6
"""The image whose sub-pixels they predict."""

Found = Mapping[str, Measured]
"""What was measured, by the runs' names."""
_MARKED = re.compile(r"(<!-- table:(\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


@click.command()
@click.argument("folder", metavar="RUNS", type=click.Path(path_type=Path, exists=True))
@click.option("--images", "sources", multiple=True, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The page; its pictures go to a folder beside it that has its name.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Of images.")
@click.option(
    "--bits", type=click.Choice(["8", "16"]), multiple=True, default=["16"], show_default=True,
    help="Of frozen weights and activations; repeat.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="[default: all cores]")
@click.option("--again", is_flag=True, help="Measure also what was measured before.")
@click.option("--only", multiple=True, metavar="RUN", help="Measure none but these; repeat.")
def main(
    folder: Path,
    sources: tuple[Path, ...],
    output: Path,
    limit: int,
    bits: tuple[str, ...],
    threads: int | None,
    again: bool,
    only: tuple[str, ...],
) -> None:
    """Measure the runs in the folder RUNS, and bring the page's tables and pictures up to date."""
    named = dict.fromkeys(entry.run for entries in COMPARISONS.values() for entry in entries)
    present = [folder / name for name in named if runs.finished(folder / name)]
    todo = [run for run in present if not only or run.name in only]
    found: dict[str, Measured] = {}
    try:
        images = _read(sources, limit)
        with Meter(len(todo), shown=sys.stderr.isatty()) as meter:
            for run in todo:
                found[run.name] = runs.measure(
                    run,
                    images,
                    bits=[int(b) for b in bits],
                    threads=threads or coding.available_threads(),
                    again=again,
                )
                meter.next()
        folder_of = {name: folder / name for name in found}
        for name, picture in pictures(found, folder_of, images).items():
            files.write(str(output.with_suffix("") / name), picture, force=True, makes_folder=True)
        files.write(
            str(output), filled(output.read_text("utf-8"), tables(found)).encode(), force=True
        )
    except (PixelzipError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    for name in named:
        if name not in found:
            click.echo(f"{name}: not measured", err=True)


def _read(sources: Sequence[Path], limit: int) -> dict[int, rows.Images]:
    """At most so many images of each number of colours that the sources have."""
    found: dict[int, rows.Images] = {}
    for source in sources:
        for colours in (3, 1):
            try:
                read = rows.read([source], colours)
            except TrainingError:
                if colours == 1:
                    raise
                continue
            if read is None:
                raise DatasetError(f"{source} is no file of rows")
            found[colours] = read[:limit]
            break
    return found


# The tables.


def tables(found: Found) -> dict[str, str]:
    """The text between each pair of marks, in Markdown."""
    made = {name: _comparison(name, found) for name in COMPARISONS}
    coded = [(name, run, run.coding()) for name, run in _named(found)]
    with_files = [(name, run, coding) for name, run, coding in coded if coding is not None]
    made["speed"] = _speed(with_files) + _note(with_files)
    made["precision"] = _precision(found)
    made["training"] = _training(found)
    return made


def filled(text: str, texts: Mapping[str, str]) -> str:
    """A page with these texts between their marks. ValueError if it lacks one, or has others."""
    marked = [match[2] for match in _MARKED.finditer(text)]
    if sorted(marked) != sorted(texts):
        raise ValueError(f"the page marks tables {marked}, and there are {list(texts)}")
    return _MARKED.sub(lambda match: f"{match[1]}\n{texts[match[2]]}\n{match[3]}", text)


def _named(found: Found) -> list[tuple[str, Measured]]:
    """Each run that was measured, once, by what it is called outside of its own table."""
    named: dict[str, str] = {}
    for table, entries in COMPARISONS.items():
        for entry in entries:
            named.setdefault(entry.run, NAMES.get(table, "{}").format(entry.name))
    return [(name, found[run]) for run, name in named.items() if run in found]


def _comparison(table: str, found: Found) -> str:
    """A paper's table: our figures beside the paper's, and in which order both have the rows."""
    entries = [entry for entry in COMPARISONS[table] if entry.run in found]
    nats = table == "mnist"
    unit, digits = ("nats", 2) if nats else ("bits/dim", 3)
    columns = (
        "network", "parameters", "field", f"float, {unit}", f"frozen, {unit}",
        f"payload, {unit}", f"file, {unit}", *(["file, bits/dim"] if nats else []),
        "encode, ms", "decode, ms", f"the paper, {unit}",
    )  # fmt: skip
    lines: list[tuple[str, ...]] = []
    for entry in entries:
        run = found[entry.run]
        coding = run.coding()

        def size(value: float, run: Measured = run) -> str:
            return f"{run.nats(value) if nats else value:.{digits}f}"

        frozen = ["-"] * (5 + nats)
        if coding is not None:
            frozen = [size(coding.theory), size(coding.payload), size(coding.file)]
            frozen += [f"{coding.file:.4f}"] * nats
            frozen += [_milliseconds(coding.encode), _milliseconds(coding.decode)]
        paper = "" if entry.paper is None else f"{entry.paper:.2f}"
        paper += f" ({entry.remark})" if paper and entry.remark else entry.remark
        cells = entry.name, f"{run.parameters:,}", run.field, size(run.theory), *frozen, paper
        lines.append(cells)
    return Table("", columns, tuple(lines)).markdown() + _orders(entries, found)


def _orders(entries: Sequence[Entry], found: Found) -> str:
    """Who comes before whom, in the paper and here, where the paper has figures."""
    compared = [entry for entry in entries if entry.paper is not None]
    if len(compared) < 2:
        return ""

    def order(key: Callable[[Entry], float]) -> str:
        return "; ".join(entry.name for entry in sorted(compared, key=key))

    theirs = order(lambda entry: entry.paper or 0)
    ours = order(lambda entry: found[entry.run].theory)
    return f"\nThe paper's order, the best first: {theirs}. Ours: {ours}.\n"


def _speed(coded: Sequence[tuple[str, Measured, Coding]]) -> str:
    """How long an image takes, with others and on its own."""
    lines = [
        (
            name,
            *map(
                _milliseconds,
                (coding.encode, coding.encode_alone, coding.decode, coding.decode_alone),
            ),
        )
        for name, _, coding in coded
    ]
    columns = "ms per image", "encode", "encode alone", "decode", "decode alone"
    text = Table("", columns, tuple(lines)).markdown()
    if coded:
        run = coded[0][1]
        together = f"{count(run.images, 'image')} together; alone: medians of {runs.ALONE}"
        text += f"\n{together}. {machine_sentence(run.machine)}\n"
    return text


def _note(coded: Sequence[tuple[str, Measured, Coding]]) -> str:
    """Which files are not the network's own."""
    simpler = [
        f"{run.images - coding.by_network} of {name}"
        for name, run, coding in coded
        if coding.by_network < run.images
    ]
    if not simpler:
        return ""
    return (
        f"\nFiles in which a simpler form was smaller than the network's: {', '.join(simpler)}.\n"
    )


def _precision(found: Found) -> str:
    """Freezing to 16 bits beside freezing to 8, for those networks that were frozen to both."""
    lines: list[tuple[str, ...]] = []
    for name, run in _named(found):
        both = run.coding(16), run.coding(8)
        if both[0] is None or both[1] is None:
            continue
        lines.append(
            (
                name,
                f"{run.theory:.4f}",
                *(f"{coding.theory:.4f}" for coding in both if coding),
                *(f"{coding.megabytes:.2f}" for coding in both if coding),
                *(_milliseconds(coding.decode) for coding in both if coding),
            )
        )
    columns = (
        "network", "float, bits/dim", "16 bits", "8 bits", "16 bits, MB", "8 bits, MB",
        "16 bits, decode ms", "8 bits, decode ms",
    )  # fmt: skip
    return Table("", columns, tuple(lines)).markdown()


def _training(found: Found) -> str:
    """What each network is, and how much it saw."""
    lines: list[tuple[str, ...]] = []
    for name, run in _named(found):
        settings = ", ".join(f"{key}={_word(value)}" for key, value in run.settings.items())
        seen = f"{run.pixels / 1e6:.1f}"
        lines.append((name, run.network, settings, f"{run.steps:,}", seen, f"{run.seconds:.0f}"))
    columns = "run", "architecture", "settings", "steps", "million pixels", "seconds"
    return Table("", columns, tuple(lines)).markdown()


def _word(value: object) -> str:
    """A setting as `pixelzip train --set` takes it."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f}"


# The pictures.


def pictures(
    found: Found, folders: Mapping[str, Path], images: Mapping[int, rows.Images]
) -> dict[str, bytes]:
    """The pictures that can be made of what was measured, as PNG by their names."""
    made: dict[str, bytes] = {}
    colour = [(name, run) for name, run in _named(found) if run.colours == 3]
    if colour:
        logs = {name: folders[run.run] / "log.csv" for name, run in colour}
        made["training.png"] = curves.training(logs)
    if all(run in found for run in DISTRIBUTIONS):
        drawn = {name: folders[run] / "checkpoint.pt" for run, name in DISTRIBUTIONS.items()}
        made["distributions.png"] = curves.distributions(drawn, images[3].pixels[PICTURED])
    return made


if __name__ == "__main__":
    main()
