"""The options that several commands have."""

from __future__ import annotations

from collections.abc import Callable

import click

from pixelzip.codec import container

Command = Callable[..., None]
Option = Callable[[Command], Command]

PATH = click.Path(readable=False)  # one that cannot be read is its file's own trouble
IN = click.argument("sources", metavar="IN...", nargs=-1, required=True, type=PATH)
_SOURCES = click.argument("sources", metavar="[IN...]", nargs=-1, type=PATH)
_FILES_FROM = click.option(
    "--files-from",
    "listing",
    metavar="FILE",
    type=click.File("rb"),
    help="Take the files that it names too, one a line; - for stdin.",
)
_ZERO = click.option("-0", "--null", "zero", is_flag=True, help="They end with NUL bytes instead.")
SKIP_EXISTING = click.option(
    "--skip-existing",
    is_flag=True,
    help="Leave outputs that are there, whole and up to date; make the others anew.",
)
REMOVE = click.option(
    "--rm",
    "removes",
    is_flag=True,
    help="Remove each input once its output is proven to give all of it back.",
)
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
JSON = click.option("--json", "as_json", is_flag=True, help="Print a JSON object per file.")
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
    help="Threads that share the files, and the parts of large ones; the result is the same."
    "  [default: all cores]",
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


class _Region(click.ParamType[tuple[int, int, int, int]]):
    """Four numbers with commas between them."""

    name = "region"

    def convert(
        self, value: str, param: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, int, int, int]:
        parts = value.split(",")
        if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
            self.fail(f"{value!r} is not x,y,width,height in pixels", param, context)
        x, y, width, height = map(int, parts)
        return x, y, width, height


REGION = click.option(
    "--region",
    metavar="X,Y,W,H",
    type=_Region(),
    help="Only these pixels; only the tiles that they need are decoded.",
)

LABEL = click.option(
    "--class",
    "label",
    metavar="N",
    type=click.IntRange(min=0),
    help="A class of a network that has classes.  [default: each tile's best, or all in turn]",
)


def _together(*options: Option) -> Option:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


SOURCES = _together(_SOURCES, _FILES_FROM, _ZERO)
DECODING = _together(NETWORKS, MAX_PIXELS)
WORK = _together(JOBS, THREADS, DEVICE, QUIET, JSON)
