"""The ``pixelzip`` command.

Reports go to standard output, unless a picture goes there; errors, notes and progress always go to
standard error. The exit status is 0 if all went well, 1 if any file failed (the others are still
done), 2 for a command line that makes no sense, 130 after Ctrl-C.

Each command is a function that makes one output from one input (`_compress`, `_decompress`,
`_verify`), and `_run` does that for all files, here or in other processes. Only this process writes
files, so nothing else needs cleaning up when it is interrupted.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, TypeVar

import click
from click.shell_completion import get_completion_class

from pixelzip import files
from pixelzip.codec import container
from pixelzip.codec.errors import PixelzipError, TrainingError, UncachedWarning
from pixelzip.files import STANDARD, Job
from pixelzip.models.networks import architectures

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.progress import Progress

    from pixelzip.api import Info
    from pixelzip.codec.picture import Picture

Command = TypeVar("Command", bound=Callable[..., None])
Result = TypeVar("Result")
Fraction = Callable[[float], None]

JPEG_NOTE = (
    "this is a JPEG: its decoded pixels usually need more bytes than the JPEG itself, so keep the "
    "JPEG unless it is the pixels that you need"
)
NOT_A_GRID = "a grid is a PNG file, so name it .png and not {}"
SLOW = 1.0  # seconds before a progress bar appears


@dataclass(frozen=True)
class Report:
    """What is said about a file that went well; the fields are the keys of ``--json``."""

    input: str
    output: str | None
    width: int
    height: int
    mode: str
    bytes_in: int
    bytes_out: int | None
    bits_per_dim: float
    seconds: float
    networks: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """What became of one file. ``error`` is the sentence to print if it failed."""

    report: Report | None = None
    line: str = ""
    data: bytes = b""
    notes: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)  # that only JSON says
    error: str = ""


class Work:
    """A file's work: ``work(job, progress)`` never raises what is the file's own fault."""

    def __init__(self, make: Callable[[Job, Fraction | None], Done]) -> None:
        self.make = make

    def __call__(self, job: Job, progress: Fraction | None = None) -> Done:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UncachedWarning)
            done = self._do(job, progress)
        for warning in caught:
            if not issubclass(warning.category, UncachedWarning):
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
        notes = {str(w.message): None for w in caught if issubclass(w.category, UncachedWarning)}
        return replace(done, notes=[*done.notes, *notes])

    def _do(self, job: Job, progress: Fraction | None) -> Done:
        try:
            return self.make(job, progress)
        except PixelzipError as error:
            return Done(error=str(error))
        except OSError as error:
            return Done(error=_os_sentence(error, job.source))
        except MemoryError:
            return Done(error="there is not enough memory; try a smaller --tile or fewer --jobs")


def _os_sentence(error: OSError, known: str) -> str:
    """What the system says, with the file's name if it is not the one that is ``known``."""
    sentence = error.strerror or str(error)
    named = error.filename is not None and os.fspath(error.filename) != known
    return f"{os.fspath(error.filename)}: {sentence}" if named else sentence


# The commands' options.

PATH = click.Path(readable=False)  # one that cannot be read is its file's own trouble
IN = click.argument("sources", metavar="IN...", nargs=-1, required=True, type=PATH)
DATA = click.Path(path_type=Path)  # of a folder, of a file, or of some rows of one
OUTPUT = click.option(
    "-o",
    "--output",
    metavar="OUT",
    type=PATH,
    help="Output file, folder, or - for stdout.",
)
RECURSIVE = click.option("-r", "--recursive", is_flag=True, help="Go into folders.")
FORCE = click.option("-f", "--force", is_flag=True, help="Overwrite files that exist.")
QUIET = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file.")
JOBS = click.option(
    "-j",
    "--jobs",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Work on N files at the same time.",
)
THREADS = click.option(
    "-t",
    "--threads",
    metavar="N",
    type=click.IntRange(min=1),
    help="Threads for each file; the result is the same.  [default: all cores]",
)
DEVICE = click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where the network runs; the result is the same.",
)
NETWORKS = click.option(
    "--network",
    "networks",
    metavar="FILE",
    multiple=True,
    type=PATH,
    help="Look for the file's network here too; can be given several times.",
)
MAX_PIXELS = click.option(
    "--max-pixels",
    metavar="N",
    type=click.IntRange(min=1),
    default=container.MAX_PIXELS,
    show_default=True,
    help="Refuse larger pictures, however small their files.",
)

LABEL = click.option(
    "--class",
    "label",
    metavar="N",
    type=click.IntRange(min=0),
    help="A class of a network that has classes.  [default: each tile's best, or all in turn]",
)
SEED = click.option(
    "--seed",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Chooses the random bits: the same seed gives the same pictures.",
)
SCALE = click.option(
    "--scale",
    metavar="K",
    type=click.IntRange(1, 64),
    help="Make each pixel a square of K pixels.  [default: small pictures are enlarged]",
)
GRID = click.option(
    "-o",
    "--output",
    metavar="OUT",
    required=True,
    type=PATH,
    help="A PNG file, or -.",
)


def _options(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def _size(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, int]:
    sides = value.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and int(side) > 0 for side in sides):
        raise click.BadParameter(f"{value} is not of the form WIDTHxHEIGHT, such as 32x32")
    return int(sides[0]), int(sides[1])


def _tile(_context: click.Context, _option: click.Parameter, value: int | None) -> int | None:
    if value is not None and value != 0 and value < container.MIN_TILE:
        raise click.BadParameter(f"must be 0 (the largest) or at least {container.MIN_TILE}")
    return value


class Commands(click.Group):
    """Lists the commands as they stand here; those of other packages come last, loaded on use."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return [*self.commands, *entry_points(group="pixelzip.commands").names]

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        for entry in () if name in self.commands else entry_points(group="pixelzip.commands"):
            if entry.name == name:
                self.add_command(entry.load(), name)
        return super().get_command(context, name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="pixelzip", message="pixelzip %(version)s")
def cli() -> None:
    """Compress images without loss, with the probabilities of a trained network.

    \b
    pixelzip compress photo.png          makes photo.pxz
    pixelzip decompress photo.pxz        makes photo.png, the same picture
    pixelzip info photo.pxz              says what is in it
    pixelzip verify photo.pxz            decodes it and checks its checksum

    A file made on any machine decodes on any machine.
    """


@cli.command()
@_options(IN, OUTPUT, RECURSIVE, FORCE)
@click.option(
    "-n",
    "--network",
    metavar="NAME",
    show_default="automatic",
    help="A network of the zoo (see `pixelzip networks`), a frozen network's file, or none.",
)
@_options(LABEL)
@click.option(
    "--tile",
    metavar="PIXELS",
    type=int,
    callback=_tile,
    help="Largest side of a tile; 0 for the largest there can be.",
)
@click.option(
    "--origin",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="Whether to look for the samples that the pixels were computed from.",
)
@click.option("--strip", is_flag=True, help="Drop the metadata (palette and transparency stay).")
@_options(JOBS, THREADS, DEVICE, QUIET, JSON)
def compress(
    sources: tuple[str, ...],
    output: str | None,
    recursive: bool,
    force: bool,
    network: str | None,
    label: int | None,
    tile: int | None,
    origin: str,
    strip: bool,
    jobs: int,
    threads: int | None,
    device: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compress images to .pxz files.

    The output is named after the input and lies next to it, unless -o says otherwise. The inputs
    stay as they are. Metadata comes along: ICC profile, EXIF, XMP, text, resolution, gamma.

    By itself it takes the network photo, and for small images (up to 64x64 pixels) also tries tiny,
    if the zoo has it, and keeps the smaller file. Where the pixels turn out to have been computed
    from fewer samples (by a JPEG decoder, say), it codes those instead, with the networks luma and
    chroma, and makes the very same pixels of them again when it decodes.

    \b
    Examples:
      pixelzip compress photo.png
      pixelzip compress photo.png -o smaller.pxz --force
      pixelzip compress *.png -o archive/ --jobs 4
      pixelzip compress --recursive photos -o archive
      convert scan.tif png:- | pixelzip compress - > scan.pxz
    """
    from pixelzip.pictures import READABLE

    todo = _plan(sources, output, ".pxz", READABLE.__contains__, recursive)
    make = partial(
        _compress,
        network=network,
        label=label,
        tile=tile,
        origin=origin,
        strip=strip,
        threads=_threads(threads, jobs),
        device=device,
    )
    _run(todo, Work(make), jobs=jobs, force=force, quiet=quiet, as_json=as_json)


def _compress(
    job: Job,
    progress: Fraction | None,
    *,
    network: str | None,
    label: int | None,
    tile: int | None,
    origin: str,
    strip: bool,
    threads: int,
    device: str,
) -> Done:
    from pixelzip import api, pictures

    start = time.perf_counter()
    source = _read(job.source)
    notes = [JPEG_NOTE] if pictures.is_jpeg(source) else []
    picture = pictures.read(source, strip=strip)
    data = api.encode(
        picture,
        network=network,
        origin=origin,
        label=label,
        tile_size=tile,
        threads=threads,
        device=device,
        progress=progress,
    )
    report = _report(job, api.info(data), len(source), len(data), start)
    if network is not None and not report.networks and not _codes(network, device, picture):
        notes.append(f"the network {network} codes no images of mode {picture.mode}: not used")
    return Done(report, _line(report), data, notes)


def _codes(network: str, device: str, picture: Picture) -> bool:
    """Whether a network can code some part of a picture; ``none`` promises nothing."""
    from pixelzip import api

    conditional = api.load_network(network, device)
    return conditional is None or any(conditional.codes(p.shape[2]) for p in picture.planes)


@cli.command()
@_options(IN, OUTPUT, RECURSIVE, FORCE, NETWORKS, MAX_PIXELS, JOBS, THREADS, DEVICE, QUIET, JSON)
def decompress(
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
    """Bring images back from .pxz files.

    The output is a PNG file named after the input, unless the name after -o ends with the suffix
    of another lossless format: .tif, .bmp, .ppm, .pgm, .pbm, .npy.

    \b
    Examples:
      pixelzip decompress photo.pxz
      pixelzip decompress photo.pxz -o photo.tif
      pixelzip decompress --recursive archive -o photos
      pixelzip decompress photo.pxz -o - | display
    """
    todo = _plan(sources, output, ".png", _is_pxz, recursive)
    make = partial(
        _decompress,
        networks=networks,
        max_pixels=max_pixels,
        threads=_threads(threads, jobs),
        device=device,
    )
    _run(todo, Work(make), jobs=jobs, force=force, quiet=quiet, as_json=as_json)


def _decompress(
    job: Job,
    progress: Fraction | None,
    *,
    networks: tuple[str, ...],
    max_pixels: int,
    threads: int,
    device: str,
) -> Done:
    from pixelzip import api, pictures

    start = time.perf_counter()
    suffix = Path(job.target or "").suffix or ".png"
    pictures.check_writable(suffix)
    source = _read(job.source)
    picture = api.decode(
        source,
        networks=networks,
        max_pixels=max_pixels,
        threads=threads,
        device=device,
        progress=progress,
    )
    data, lost = pictures.write(picture, suffix)
    notes = [f"{suffix} files cannot hold its {', '.join(lost)}"] if lost else []
    about = api.info(source, max_pixels=max_pixels)
    report = _report(job, about, len(source), len(data), start)
    return Done(report, _line(report), data, notes)


@cli.command()
@_options(IN)
@click.option(
    "--against",
    metavar="IMAGE",
    type=PATH,
    help="Compare with this original, too.",
)
@_options(RECURSIVE, NETWORKS, MAX_PIXELS, JOBS, THREADS, DEVICE, QUIET, JSON)
def verify(
    sources: tuple[str, ...],
    against: str | None,
    recursive: bool,
    networks: tuple[str, ...],
    max_pixels: int,
    jobs: int,
    threads: int | None,
    device: str,
    quiet: bool,
    as_json: bool,
) -> None:
    """Decode .pxz files and check their checksums, without writing anything.

    \b
    Examples:
      pixelzip verify archive/*.pxz
      pixelzip verify --recursive archive --jobs 4
      pixelzip verify photo.pxz --against photo.png
    """
    todo = files.find(sources, _is_pxz, recursive=recursive)
    if against is not None and len(todo) != 1:
        raise click.UsageError("--against compares one file with its original")
    make = partial(
        _verify,
        against=against,
        networks=networks,
        max_pixels=max_pixels,
        threads=_threads(threads, jobs),
        device=device,
    )
    _run(todo, Work(make), jobs=jobs, force=False, quiet=quiet, as_json=as_json)


def _verify(
    job: Job,
    progress: Fraction | None,
    *,
    against: str | None,
    networks: tuple[str, ...],
    max_pixels: int,
    threads: int,
    device: str,
) -> Done:
    import numpy as np

    from pixelzip import api, metadata

    start = time.perf_counter()
    source = _read(job.source)
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
    about = api.info(source, max_pixels=max_pixels)
    return Done(_report(job, about, len(source), None, start), line)


@cli.command()
@_options(IN, MAX_PIXELS, QUIET, JSON)
def info(sources: tuple[str, ...], max_pixels: int, quiet: bool, as_json: bool) -> None:
    """Say what is in .pxz files, without decoding them.

    \b
    Examples:
      pixelzip info photo.pxz
      pixelzip info --json archive/*.pxz
    """
    todo = [Job(source) for source in sources]
    make = partial(_info, max_pixels=max_pixels)
    _run(todo, Work(make), jobs=1, force=False, quiet=quiet, as_json=as_json)


def _info(job: Job, _progress: Fraction | None, *, max_pixels: int) -> Done:
    from pixelzip import api

    start = time.perf_counter()
    data = _read(job.source)
    about = api.info(data, max_pixels=max_pixels)
    report = _report(job, about, len(data), None, start)
    lines = [
        f"{job.source}:",
        f"{about.width} x {about.height} pixels, mode {about.mode}",
        f"{about.bytes:,} bytes for {about.sub_pixels:,} sub-pixels, "
        f"{about.bits_per_dim:.3f} bits/dim",
        f"networks: {', '.join(about.networks) or 'none'}",
        *about.found,
    ]
    for part in about.parts:
        tiles = _count(part.tiles, "tile")
        tiles += f" of at most {part.tile_size} x {part.tile_size}" if part.tile_size else ""
        methods = ", ".join(f"{count} {name}" for name, count in part.methods.items())
        channels = _count(part.channels, "channel")
        size = f"{part.width} x {part.height}, {channels}"
        lines.append(f"{size} in {tiles} ({methods}): {part.bytes:,} bytes")
    if about.metadata:
        names = ", ".join(about.metadata)
        lines.append(f"metadata: {names}; {about.metadata_bytes:,} bytes before compression")
    return Done(report, "\n  ".join(lines), more=asdict(about))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


@cli.command()
@_options(IN, OUTPUT, RECURSIVE, FORCE, NETWORKS, MAX_PIXELS, JOBS, THREADS, DEVICE, QUIET, JSON)
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
    todo = _plan(sources, output, ".bits.png", _is_pxz, recursive)
    make = partial(
        _inspect,
        networks=networks,
        max_pixels=max_pixels,
        threads=_threads(threads, jobs),
        device=device,
    )
    _run(todo, Work(make), jobs=jobs, force=force, quiet=quiet, as_json=as_json)


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
    if not _is_png(job):
        return Done(error=f"a heat map is a PNG file, so name it .png and not {job.target}")
    source = _read(job.source)
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
    report = _report(job, about, len(source), drawn.tell(), start)
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


@cli.command()
@click.option(
    "--architectures", "trainable", is_flag=True,
    help="The networks that can be trained instead, as they are by default.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per network.")
def networks(trainable: bool, as_json: bool) -> None:
    """List the networks of the zoo, or those that can be trained.

    Their parameters are the numbers that training found. A frozen network's file holds more: tables
    and scales that freezing makes of them.

    \b
    pixelzip networks
    pixelzip networks --architectures    # what --network of pixelzip train can be
    """
    if trainable:
        _architectures(as_json)
        return
    from pixelzip.models import zoo

    for card in zoo.describe():
        parameters = zoo.parameters(card)
        if as_json:
            click.echo(json.dumps(card | {"parameters": parameters}))
        else:
            size = f"{parameters:>12,} parameters {card['bytes']:>12,} bytes"
            click.echo(f"{card['name']:12} {size}  {card['fingerprint'][:16]}")


def _architectures(as_json: bool) -> None:
    """Each with its hyper-parameters' defaults, and what these make of it."""
    for name in architectures.NAMES:
        architecture = architectures.find(name)
        config = architecture.config()
        parameters, settings = architecture.parameters(config), asdict(config)
        if as_json:
            seen = asdict(config.field)
            field = {key: seen[key] for key in ("above", "left", "right")}
            card = {"name": name, "parameters": parameters, "field": field,
                    "lag": config.field.lag, "settings": settings}  # fmt: skip
            click.echo(json.dumps(card))
            continue
        lag = "whole rows" if config.field.lag is None else f"lag {config.field.lag}"
        click.echo(f"{name:16} {parameters:>10,} parameters  field {config.field}  {lag}")
        words = {True: "yes", False: "no"}
        pairs = (f"{k}={words[v] if isinstance(v, bool) else v}" for k, v in settings.items())
        click.echo(f"{'':16} {' '.join(pairs)}")


@cli.command()
@click.option(
    "--network",
    metavar="NAME",
    required=True,
    help="A network of the zoo (see `pixelzip networks`), or a frozen network's file.",
)
@click.option(
    "-n", "--count", metavar="N", type=click.IntRange(min=1), default=16, show_default=True,
    help="Draw N pictures.",
)  # fmt: skip
@click.option(
    "--size", metavar="WxH", callback=_size, default="32x32",
    show_default=True, help="Width and height of each, in pixels.",
)  # fmt: skip
@_options(SEED, LABEL, SCALE, GRID, FORCE, THREADS, DEVICE, QUIET)
def sample(
    network: str,
    count: int,
    size: tuple[int, int],
    seed: int,
    label: int | None,
    scale: int | None,
    output: str,
    force: bool,
    threads: int | None,
    device: str,
    quiet: bool,
) -> None:
    """Let a network draw pictures, as a grid in a PNG file.

    They are drawn by decoding random bits in place of a file: what the network takes for likely.

    \b
    Examples:
      pixelzip sample --network photo -n 16 -o grid.png
      pixelzip sample --network photo -n 4 --size 128x96 --seed 7 -o grid.png
    """

    def make(job: Job, progress: Fraction | None) -> Done:
        from pixelzip import api

        if not _is_png(job):
            return Done(error=NOT_A_GRID.format(output))
        width, height = size
        images = api.sample(
            network,
            count,
            width=width,
            height=height,
            seed=seed,
            label=label,
            threads=threads,
            device=device,
            progress=progress,
        )
        line = f"{network} -> {output}: {_count(count, 'picture')} of {width} x {height}"
        return _grid(images, scale, output, line)

    _run([Job(network, output)], Work(make), jobs=1, force=force, quiet=quiet, as_json=False)


@cli.command()
@click.argument("source", metavar="IMAGE", type=PATH)
@click.option(
    "--network",
    metavar="NAME",
    show_default="automatic",
    help="A network of the zoo (see `pixelzip networks`), or a frozen network's file.",
)
@click.option(
    "--keep-top", metavar="PART", type=click.FloatRange(0, 1), default=0.5, show_default=True,
    help="The part of the rows that is kept.",
)  # fmt: skip
@click.option(
    "-n", "--count", metavar="N", type=click.IntRange(min=1), default=8, show_default=True,
    help="Complete it N times.",
)  # fmt: skip
@_options(SEED, LABEL, SCALE, GRID, FORCE, THREADS, DEVICE, QUIET)
def complete(
    source: str,
    network: str | None,
    keep_top: float,
    count: int,
    seed: int,
    label: int | None,
    scale: int | None,
    output: str,
    force: bool,
    threads: int | None,
    device: str,
    quiet: bool,
) -> None:
    """Let a network complete a picture of which it sees the upper part.

    The grid in the PNG file shows the picture, what the network sees of it, and the completions.

    \b
    Examples:
      pixelzip complete photo.png --keep-top 0.5 -n 8 -o grid.png
    """

    def make(job: Job, progress: Fraction | None) -> Done:
        from pixelzip import api, grid, pictures

        if not _is_png(job):
            return Done(error=NOT_A_GRID.format(output))
        original = pictures.to_pillow(pictures.read(_read(job.source), strip=True))
        images = api.complete(
            original,
            count,
            network=network,
            keep_top=keep_top,
            seed=seed,
            label=label,
            threads=threads,
            device=device,
            progress=progress,
        )
        kept = api.kept_rows(original.height, keep_top)
        seen = grid.masked(original, kept)
        rows = f"{kept} of {_count(original.height, 'row')}"
        line = f"{source} -> {output}: {_count(count, 'completion')} that keep {rows}"
        return _grid([original, seen, *images], scale, output, line)

    _run([Job(source, output)], Work(make), jobs=1, force=force, quiet=quiet, as_json=False)


def _grid(images: Sequence[Image], scale: int | None, output: str, line: str) -> Done:
    """The pictures as the PNG file of a grid."""
    from pixelzip import grid

    drawn = io.BytesIO()
    grid.arrange(images, scale).save(drawn, "PNG")
    return Done(line=line, data=drawn.getvalue())


@cli.command()
@click.option(
    "--network", type=click.Choice(architectures.NAMES), default="photo", show_default=True,
    help="What to train; pixelzip networks --architectures tells more.",
)  # fmt: skip
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="A hyper-parameter of the network; repeat. The others keep their defaults.",
)  # fmt: skip
@click.option("--data", required=True, multiple=True, type=DATA, help="What to learn from; repeat.")
@click.option("--valid", multiple=True, type=DATA, help="What to validate on; else some of --data.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the checkpoint, the log and the curve; a run that it holds is resumed.",
)  # fmt: skip
@click.option(
    "--start", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Begin with the weights of this checkpoint, to adapt them to other images.",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(1), default=20_000, show_default=True)
@click.option(
    "--batch", type=click.IntRange(1), default=8, show_default=True, help="Crops or images a step."
)
@click.option(
    "--side", type=click.IntRange(16), default=64, show_default=True, help="Of a crop, in pixels."
)
@click.option(
    "--rate",
    type=click.FloatRange(0, 1, min_open=True),
    default=2e-3,
    show_default=True,
    help="Learning rate of the matrices of photo's trunk (Muon); all else (Adam) has half of it.",
)
@click.option(
    "--decay",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.65,
    show_default=True,
    help="The last part of the steps, over which the rate falls to zero.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--checkpoint-minutes", type=click.FloatRange(0), default=5.0, show_default=True,
    help="Time between checkpoints.",
)  # fmt: skip
@click.option(
    "--compile/--no-compile", default=True, help="Fuse the loss of photo with torch.compile (wants"
    " a C++ compiler on a CPU)."
)  # fmt: skip
@_options(QUIET)
def train(
    network: str,
    settings: tuple[str, ...],
    data: tuple[Path, ...],
    valid: tuple[Path, ...],
    output: Path,
    checkpoint_minutes: float,
    quiet: bool,
    **others: Any,
) -> None:
    """Train a network on images, or go on where a run stopped.

    \b
    pixelzip train --network photo --data photos/ -o runs/photo
    pixelzip train --network photo --data photos/ -o runs/photo --steps 40000   # longer
    pixelzip train --network pixelcnn --set layers=15 --data small-images/ -o runs/pixelcnn
    torchrun --nproc-per-node 4 -m pixelzip train --data photos/ -o runs/photo --device cuda

    What to learn from is one of

    \b
    - a folder of photographs: random crops of them, shrunk;
    - a folder of images that all have one size, up to 64x64: as they are;
    - a file of rows: a PNG each of whose rows is one image, of 1024 RGB pixels
      (32x32, as CIFAR-10's) or 784 grey ones (28x28, as MNIST's). FILE:500-999
      means some rows, from 0. For a class-conditional network the rows' classes
      stand in a text file beside it, batch_0.txt for batch_0.png.

    Grey images want --set colours=1. With --set output=binary they are turned black and white at
    random, by their values, whenever they are drawn:

    \b
    pixelzip train --network diagonal-bilstm --set colours=1 --set output=binary
        --data mnist/batch_0.png --valid mnist/test.png -o runs/mnist
    """
    from pixelzip.models.training import train as training

    pairs = dict[str, str]()
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise click.BadParameter(f"{setting} is not KEY=VALUE", param_hint="--set")
        pairs[key] = value
    architecture = architectures.find(network)
    try:
        made = architecture.configure(pairs)
        architecture.parameters(made)
    except (TrainingError, ValueError) as error:
        raise click.BadParameter(str(error), param_hint="--set") from error
    config = training.TrainConfig(
        data=data,
        valid=valid,
        output=output,
        network=network,
        architecture=made,
        minutes_between_checkpoints=checkpoint_minutes,
        **others,
    )

    def report(progress: training.Progress) -> None:
        valid, nats = progress.valid_bits_per_dim, progress.valid_nats_per_image
        click.echo(
            f"step {progress.step:,}/{config.steps:,}"
            f"  train {progress.train_bits_per_dim:.3f}"
            f"  {'' if valid is None else f'validation {valid:.4f} '}bits/dim"
            f"{'' if nats is None else f' = {nats:,.2f} nats/image'}"
            f"  {progress.pixels_per_second:,.0f} pixels/s"
            f"  {progress.seconds_left / 60:.0f} min left",
            err=True,
        )

    checkpoint = _sentences(lambda: training.train(config, (lambda _: None) if quiet else report))
    if not quiet:
        click.echo(f"{checkpoint}: freeze it with pixelzip freeze {checkpoint} -o NETWORK")


@cli.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--bits",
    type=click.Choice(["8", "16"]),
    help="Bits of weights and activations. 8 makes a file of half the size and codes faster; 16,"
    " the default but for photo, which has 8, stays closer to the trained network.",
)
@_options(FORCE)
def freeze(checkpoint: Path, output: Path, bits: str | None, force: bool) -> None:
    """Freeze a trained network into the integers that code.

    \b
    pixelzip freeze runs/photo/checkpoint.pt -o my.safetensors
    pixelzip compress --network my.safetensors picture.png
    """
    from pixelzip.models.freezing.freeze import freeze_checkpoint

    if output.exists() and not force:
        raise click.ClickException(f"{output} exists; --force overwrites it")
    fingerprint = _sentences(lambda: freeze_checkpoint(checkpoint, output, int(bits or 0) or None))
    click.echo(f"{output}: {output.stat().st_size:,} bytes, fingerprint {fingerprint.hex()[:16]}")


def _sentences(work: Callable[[], Result]) -> Result:
    """Do the work; say what went wrong in one sentence."""
    try:
        return work()
    except PixelzipError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(_os_sentence(error, "")) from error


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that makes a shell complete this command.

    \b
    bash, in ~/.bashrc:    eval "$(pixelzip completion bash)"
    zsh, in ~/.zshrc:      eval "$(pixelzip completion zsh)"
    fish:                  pixelzip completion fish > ~/.config/fish/completions/pixelzip.fish
    """
    completer = get_completion_class(shell)
    assert completer is not None
    click.echo(completer(cli, {}, "pixelzip", "_PIXELZIP_COMPLETE").source())


# What the commands share.


def _is_png(job: Job) -> bool:
    return job.target == STANDARD or Path(job.target or "").suffix.lower() == ".png"


def _is_pxz(suffix: str) -> bool:
    return suffix == ".pxz"


def _threads(threads: int | None, jobs: int) -> int:
    from pixelzip.api import available_threads

    return threads or max(1, available_threads() // jobs)


def _plan(
    sources: Sequence[str],
    output: str | None,
    suffix: str,
    wanted: Callable[[str], bool],
    recursive: bool,
) -> list[Job]:
    try:
        return files.plan(sources, output, suffix, wanted, recursive=recursive)
    except files.PlanError as error:
        raise click.UsageError(str(error)) from error


def _read(source: str) -> bytes:
    if source == STANDARD:
        return sys.stdin.buffer.read()
    return files.read(source)


def _line(report: Report) -> str:
    sizes = f"{report.bytes_in:,} -> {report.bytes_out:,} bytes"
    rest = f"{sizes}, {report.bits_per_dim:.3f} bits/dim, {report.seconds:.2f} s"
    return f"{report.input} -> {report.output}: {rest}"


def _report(job: Job, about: Info, bytes_in: int, bytes_out: int | None, start: float) -> Report:
    return Report(
        input=job.source,
        output=job.target,
        width=about.width,
        height=about.height,
        mode=about.mode,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        bits_per_dim=about.bits_per_dim,
        seconds=round(time.perf_counter() - start, 3),
        networks=about.networks,
    )


def _run(
    todo: list[Job], work: Work, *, jobs: int, force: bool, quiet: bool, as_json: bool
) -> None:
    """Do the work of all jobs, write what they made, report each in order."""
    to_stdout = any(job.target == STANDARD for job in todo)
    if to_stdout and sys.__stdout__ is None:
        raise click.UsageError("standard output is closed; give a file with -o")
    if to_stdout and sys.stdout.isatty() and not force:
        raise click.UsageError(
            "a picture would go to the terminal; give a file with -o, or --force"
        )
    reports = sys.stderr if to_stdout else sys.stdout
    in_parallel = min(jobs, len(todo)) > 1 and all(job.source != STANDARD for job in todo)
    failed, waiting, made = False, todo, dict[str, str]()
    with Meter(len(todo), shown=sys.stderr.isatty() and not quiet) as meter:
        while waiting:
            now, waiting = files.take_turns(waiting, made)
            if in_parallel:
                results = _in_processes(now, work, jobs, force)
            else:
                results = ((job, _done(job, work, force, meter.fraction)) for job in now)
            with closing(results):
                for job, done in results:
                    done = _written(job, done, force)
                    failed |= bool(done.error)
                    if not done.error and (target := files.real_target(job)):
                        made[target] = job.source
                    with meter.hidden():
                        _print(job, done, reports, quiet=quiet, as_json=as_json)
                    meter.next()
    if failed:
        raise click.exceptions.Exit(1)


def _done(job: Job, work: Work, force: bool, progress: Fraction | None) -> Done:
    objection = files.objection(job, force=force)
    return work(job, progress) if objection is None else Done(error=objection)


def _written(job: Job, done: Done, force: bool) -> Done:
    """Put what was made where it belongs."""
    if done.error or job.target is None:
        return done
    try:
        if job.target == STANDARD:
            files.pour(done.data, sys.stdout.buffer)
        else:
            files.write(job.target, done.data, force=force, makes_folder=job.makes_folder)
    except OSError as error:
        name = "standard output" if job.target == STANDARD else job.target
        return Done(error=f"{name} cannot be written: {error.strerror or error}")
    return done


def _print(job: Job, done: Done, reports: IO[str], *, quiet: bool, as_json: bool) -> None:
    if not quiet:
        for note in done.notes:
            click.echo(f"{job.source}: note: {note}", err=True)
    if done.error:
        if as_json:
            click.echo(json.dumps({"input": job.source, "error": done.error}), file=reports)
        else:
            click.echo(f"{job.source}: error: {done.error}", err=True)
    elif as_json:
        told = {} if done.report is None else asdict(done.report)
        click.echo(json.dumps(told | done.more), file=reports)
    elif not quiet:
        click.echo(done.line, file=reports)


def _in_processes(
    todo: list[Job], work: Work, jobs: int, force: bool
) -> Generator[tuple[Job, Done], None, None]:
    """Do the work in other processes; the results in order, and never many of them waiting."""
    pool = ProcessPoolExecutor(
        min(jobs, len(todo)), multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    waiting: deque[tuple[Job, Future[Done]]] = deque()
    try:
        for job in todo:
            if len(waiting) == 2 * jobs:
                yield _result(*waiting.popleft())
            waiting.append((job, pool.submit(_done, job, work, force, None)))
        while waiting:
            yield _result(*waiting.popleft())
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _result(job: Job, future: Future[Done]) -> tuple[Job, Done]:
    try:
        return job, future.result()
    except BrokenProcessPool:
        reason = "a process was killed at work, perhaps for want of memory; try fewer --jobs"
        return job, Done(error=reason)


def _start_worker() -> None:
    """Workers hold nothing worth saving, so they go at once when they are told or left alone."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


class Meter:
    """A progress bar on standard error that appears once the work has taken a while."""

    def __init__(self, total: int, *, shown: bool) -> None:
        self._total = total
        self._finished = 0
        self._bar: Progress | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(SLOW, self._appear)
        self._timer.daemon = True
        self._shown = shown

    def __enter__(self) -> Meter:
        if self._shown:
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None
            self._shown = False

    def _appear(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

        bar = Progress(
            "{task.fields[count]}",
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        bar.add_task("", total=self._total, completed=self._finished, count=self._count())
        with self._lock:
            if self._shown:
                self._bar = bar
                bar.start()

    def _count(self) -> str:
        number = min(self._finished + 1, self._total)
        return f"{number}/{self._total}" if self._total > 1 else ""

    def fraction(self, done: float) -> None:
        """How far the present file is, 0 to 1."""
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=self._finished + done, count=self._count())

    def next(self) -> None:
        """A file is finished."""
        self._finished += 1
        self.fraction(0)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Make room for lines on the terminal."""
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
            try:
                yield
            finally:
                if self._bar is not None:
                    self._bar.start()


def main() -> NoReturn:
    """The console script."""
    for number in range(3):  # else a file of ours could become a standard stream that was closed
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    try:
        status = cli.main(prog_name="pixelzip", standalone_mode=False) or 0
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        status = 130
    except OSError as error:
        # Of a reader that has left nobody wants to know; a flush at exit must not fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            click.echo(f"Error: what there is to say cannot be written: {error.strerror}", err=True)
        status = 1
    sys.exit(status)
