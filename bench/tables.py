"""The tables of a run, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from pixelzip.bench.figures import CodecFigures, Results
from pixelzip.description import COEFFICIENTS


@dataclass(frozen=True)
class Table:
    """A title, the columns' names and rows of text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """A table of GitHub's kind; the numbers to the right."""
        rule = ("---", *["---:"] * (len(self.columns) - 1))
        lines = [self.columns, rule, *self.rows]
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)

    def show(self, console: Console) -> None:
        """Print it."""
        table = RichTable(title=self.title, title_justify="left", title_style="bold")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left", no_wrap=not number)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)


def all_tables(results: Results) -> list[Table]:
    """Sizes, speeds, origins, the worst of them, JPEGs, and gaps."""
    makers = sizes, speeds, origins, worst, jpegs, gaps
    return [table for make in makers if (table := make(results))]


def sizes(results: Results) -> Table:
    """From whole files down to theory, in bits/dim, the smallest files last."""
    columns: dict[str, Callable[[CodecFigures], float | None]] = {
        "file": lambda codec: codec.bits_per_dim,
        "origins off": lambda codec: codec.plain_bits_per_dim,
        "payload": lambda codec: codec.payload_bits_per_dim,
        "theory, frozen": lambda codec: codec.theoretical_bits_per_dim,
        "theory, float": lambda codec: codec.float_bits_per_dim,
        "file, nats/image": lambda codec: codec.nats_per_image(codec.bits_per_dim),
        "theory, nats/image": lambda codec: codec.nats_per_image(codec.theoretical_bits_per_dim),
    }
    ordered = sorted(results.codecs, key=lambda codec: -codec.bits_per_dim)
    title = f"Sizes in bits/dim: {results.dataset}, {count(results.images, 'image')}"
    return _table(title, columns, ordered, lambda value: f"{value:.3f}")


def speeds(results: Results) -> Table:
    """Megapixels and images a second, and the memory, in the order of `sizes`."""
    columns: dict[str, Callable[[CodecFigures], float | None]] = {
        "encode MP/s": lambda codec: codec.encode_mps,
        "decode MP/s": lambda codec: codec.decode_mps,
        "encode ratio": lambda codec: (results.speeds(codec) or (None, None))[0],
        "decode ratio": lambda codec: (results.speeds(codec) or (None, None))[1],
        "encode s/image": lambda codec: codec.encode_seconds_per_image,
        "decode s/image": lambda codec: codec.decode_seconds_per_image,
        "memory MB": lambda codec: codec.peak_megabytes,
    }
    ordered = sorted(results.codecs, key=lambda codec: -codec.bits_per_dim)
    title = f"Speeds, {count(results.machine['threads'], 'thread')}"
    if results.reference is not None:
        title += f"; ratios to {results.reference}"
    return _table(title, columns, ordered, short)


def origins(results: Results) -> Table | None:
    """How many images the networks found which origin of; None without any."""
    rows = [
        (codec.name, origin, f"{number:,}")
        for codec in results.codecs
        for origin, number in codec.origins.items()
    ]
    columns = ("codec", "computed from", "images")
    return Table("Origins found", columns, tuple(rows)) if rows else None


def worst(results: Results) -> Table | None:
    """Of each network's files that have an origin, the one that gains least; None without any."""
    rows = [
        (codec.name, image.name, f"{image.bytes:,}", f"{image.plain_bytes:,}", f"{growth:+.2%}")
        for codec in results.codecs
        for image in [codec.worst_origin]
        if image is not None and (growth := image.growth) is not None
    ]
    columns = ("codec", "image", "bytes, on", "bytes, off", "difference")
    return Table("Origins on against off: worst file", columns, tuple(rows)) if rows else None


def jpegs(results: Results) -> Table | None:
    """What pixels take that a JPEG decoder made, beside the JPEGs themselves; None without any."""
    rows = []
    for codec in results.codecs:
        ratios = [ratio for image in codec.images if (ratio := image.over_jpeg) is not None]
        if codec.over_jpegs is not None:
            stored = sum(COEFFICIENTS in (image.origin or "") for image in codec.images)
            worst = f"{max(ratios):.3f}"
            rows.append(
                (codec.name, f"{len(ratios):,}", f"{stored:,}", f"{codec.over_jpegs:.3f}", worst)
            )
    columns = ("codec", "images", "as coefficients", "bytes for each of the JPEGs'", "worst")
    title = "Files of decoded JPEGs beside pixelzip's files of the JPEGs themselves"
    return Table(title, columns, tuple(rows)) if rows else None


def gaps(results: Results) -> Table | None:
    """What each step from theory to file costs the networks; None without any."""
    rows = [
        (codec.name, gap.cause, f"{gap.percent:+.3f} %", f"{gap.bytes_per_image:+,.1f}")
        for codec in results.codecs
        for gap in codec.gaps
    ]
    columns = ("codec", "step", "gap", "bytes/image")
    return Table("From theory to file", columns, tuple(rows)) if rows else None


def _table(
    title: str,
    columns: dict[str, Callable[[CodecFigures], float | None]],
    codecs: Sequence[CodecFigures],
    text: Callable[[float], str],
) -> Table:
    """Leaves out columns in which there is nothing."""
    cells = {name: [value(codec) for codec in codecs] for name, value in columns.items()}
    kept = {n: column for n, column in cells.items() if any(v is not None for v in column)}
    rows = [
        (codec.name, *["" if v is None else text(v) for v in values])
        for codec, *values in zip(codecs, *kept.values(), strict=True)
    ]
    return Table(title, ("codec", *kept), tuple(rows))


def short(value: float) -> str:
    """Three digits that count: 0.00123, 1.23, 123, 1,230."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}" if abs(value) >= 1e-3 else f"{value:.6f}"


def count(number: int, noun: str) -> str:
    """1 image, 2 images."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def machine_sentence(machine: dict[str, Any]) -> str:
    """Where and when it was measured."""
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    git = f"; git {machine['git']}" if machine["git"] else ""
    runs = count(machine["repeat"], "run")
    return (
        f"{machine['date']}; {machine['processor']}, {count(machine['cores'], 'core')}, "
        f"{machine['system']}; {count(machine['threads'], 'thread')}, "
        f"{f'medians of {runs}' if machine['repeat'] > 1 else runs}; "
        f"Python {machine['python']}, {versions}{git}."
    )
