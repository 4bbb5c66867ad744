"""What `compress`, `decompress` and `verify` do with a manifest, a URL or a cluster: a run."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from functools import wraps
from hashlib import blake2b
from typing import IO, TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pixelzip import files
from pixelzip.batch import Steps, Together
from pixelzip.codec.errors import PixelzipError
from pixelzip.commands import running
from pixelzip.files import Judge
from pixelzip.fleet import storage

if TYPE_CHECKING:
    from pixelzip.fleet.crew import Crew, Do
    from pixelzip.fleet.manifest import Record, Totals

NOT_IN_RUNS = {
    "skip_existing": "--skip-existing",
    "removes": "--rm",
    "listing": "--files-from",
    "against": "--against",
}
ON_TERMINAL, IN_LOGS = 1.0, 60.0
"""Seconds between reports of how far a run is."""


@dataclass(frozen=True)
class Many:
    """The options that make a run of a command, or say how."""

    cluster: str | None
    manifest: str | None
    retry_failed: bool

    def is_asked_for(self, *paths: str | None) -> bool:
        """Whether the command is a run: an option says so, or one of its paths."""
        asked = self.cluster or self.manifest or self.retry_failed
        return bool(asked) or any(path is not None and storage.is_url(path) for path in paths)

    def run(
        self,
        steps: Steps[Any, Any],
        judge: Judge,
        suffix: str | None = None,
        ending: Callable[[bytes], str] | None = None,
    ) -> None:
        """Begin a run of the command that click is at, or go on where it stopped.

        ``steps`` do the files; their fields are all that has a say in that. ``judge`` says which
        files to take, and ``suffix`` is that of those that are made, if any are; ``ending`` says
        it, by what is in a file, where it is not the same for all.
        """
        context = click.get_current_context()
        running.sentences(lambda: _run(self, context, steps, judge, suffix, ending))


def options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a run, as ``many``."""

    @click.option(
        "--cluster",
        metavar="ADDRESS",
        help="Share the work out to this Ray cluster, such as 10.0.0.1:6379.",
    )
    @click.option(
        "--manifest",
        metavar="FILE",
        type=click.Path(dir_okay=False),
        help="Note there what becomes of each file, and go on from what it says already.",
    )
    @click.option(
        "--retry-failed", is_flag=True, help="Try the files again that failed, by the manifest."
    )
    @wraps(command)
    def with_many(
        cluster: str | None, manifest: str | None, retry_failed: bool, **others: Any
    ) -> None:
        command(many=Many(cluster, manifest, retry_failed), **others)

    return with_many


def _run(
    many: Many,
    context: click.Context,
    steps: Steps[Any, Any],
    judge: Judge,
    suffix: str | None,
    ending: Callable[[bytes], str] | None,
) -> None:
    import pixelzip
    from pixelzip.fleet import plan
    from pixelzip.fleet.manifest import Manifest
    from pixelzip.fleet.run import run
    from pixelzip.fleet.work import Task

    given = context.params
    for name, option in NOT_IN_RUNS.items():
        if given.get(name):
            raise click.UsageError(f"{option} is not for runs with a manifest")
    quiet, as_json = given["quiet"], given["as_json"]
    source, output = _places(given["sources"], given.get("output"), suffix)
    there = plan.look(source)
    if there is None:
        raise PixelzipError(f"there is no {source}")
    if there.is_folder and not given["recursive"]:
        raise click.UsageError(f"{source} is a folder; add --recursive")
    if output is not None:
        plan.look(output)  # so that a place that cannot be reached is an error at once
    settings = {k: v for k, v in asdict(steps).items() if k not in ("threads", "device")}
    about = {"command": context.info_name, "input": source, "output": output, **settings}
    path = many.manifest or _default_name(about)
    reports = sys.stdout
    threads = given["threads"] or 1
    task = Task(Together(replace(steps, threads=threads)), ending)
    with Manifest(path, about, pixelzip.__version__) as manifest:
        totals = manifest.past.totals
        news = _News(totals, reports, quiet=quiet, as_json=as_json)
        # Ray prints what it notices of its cluster, and not where errors belong.
        with redirect_stdout(sys.stderr), _crew(many, context, [source, output], task) as on:
            items = plan.find(source, output, suffix, lambda ending: judge(ending) is None)
            force, again = given.get("force", False), many.retry_failed
            run(items, manifest, on, seen=news.see, force=force, retry_failed=again)
    if not quiet:
        click.echo(f"{summary(totals)}; all of it stands in {path}", err=as_json)
    left_out = totals.skipped and suffix is not None
    if totals.failed or left_out:
        raise click.exceptions.Exit(1 if totals.failed else 3)


def _places(
    sources: Sequence[str], output: str | None, suffix: str | None
) -> tuple[str, str | None]:
    """Input and output, by names that mean the same everywhere."""
    if len(sources) != 1:
        raise click.UsageError("a run has one input: a file, a folder or a URL")
    if files.STANDARD in (*sources, output):
        raise click.UsageError("a run reads and writes files, not standard input or output")
    if suffix is None:
        return _absolute(sources[0]), None
    if output is None:
        raise click.UsageError("a run needs a place for what it makes: -o FOLDER or -o URL")
    return _absolute(sources[0]), _absolute(output)


def _absolute(path: str) -> str:
    if storage.is_url(path):
        return path
    # A last slash says that it is a folder; joining with nothing keeps it, or puts one there.
    absolute = os.path.abspath(path)
    return os.path.join(absolute, "") if path.endswith(os.sep) else absolute


def _default_name(about: Mapping[str, Any]) -> str:
    digest = blake2b(json.dumps(about, sort_keys=True).encode(), digest_size=4)
    return f"pixelzip-{digest.hexdigest()}.jsonl"


def _crew(many: Many, context: click.Context, places: Sequence[str | None], do: Do) -> Crew:
    from pixelzip.api import available_threads
    from pixelzip.fleet.crew import Alone, Processes

    if any(place is not None and place.startswith("memory:") for place in places):
        return Alone(do)
    is_default = context.get_parameter_source("jobs") is ParameterSource.DEFAULT
    jobs: int | None = None if is_default else context.params["jobs"]
    threads: int = context.params["threads"] or 1
    if many.cluster is None:
        return Processes(do, jobs or max(1, available_threads() // threads))
    try:
        from pixelzip.fleet.cluster import Cluster
    except ImportError as error:
        raise PixelzipError('--cluster wants ray: pip install "pixelzip[cluster]"') from error
    gpus = 1 if context.params["device"] == "cuda" else 0
    return Cluster(do, many.cluster, most=jobs, threads=threads, gpus=gpus)


class _News:
    """What a run says while it lasts: what failed, and how far it is."""

    def __init__(self, totals: Totals, reports: IO[str], *, quiet: bool, as_json: bool) -> None:
        self._totals = totals
        self._reports = reports
        self._quiet = quiet
        self._as_json = as_json
        self._on_terminal = sys.stderr.isatty()
        self._every = ON_TERMINAL if self._on_terminal else IN_LOGS
        self._last = time.monotonic()

    def see(self, record: Record) -> None:
        """A file is finished."""
        from pixelzip.fleet.manifest import without_defaults

        if self._as_json:
            click.echo(json.dumps(without_defaults(record)), file=self._reports)
        elif record.error and (record.status == "failed" or not self._quiet):
            kind = "error" if record.status == "failed" else "note"
            click.echo(f"{record.input}: {kind}: {record.error}", err=True)
        if not self._quiet and time.monotonic() - self._last > self._every:
            self._last = time.monotonic()
            line = f"so far: {summary(self._totals)}"
            click.echo(
                f"{line}\r" if self._on_terminal else line, nl=not self._on_terminal, err=True
            )


def summary(totals: Totals) -> str:
    """A manifest's sums in a line."""
    parts = [f"{totals.done:,} file{'' if totals.done == 1 else 's'} done"]
    if totals.bytes_out:
        ratio = totals.bytes_out / max(1, totals.bytes_in)
        parts[0] += f": {totals.bytes_in:,} -> {totals.bytes_out:,} bytes ({ratio:.1%})"
    if totals.failed:
        parts.append(f"{totals.failed:,} failed")
    if totals.skipped:
        parts.append(f"{totals.skipped:,} skipped")
    return "; ".join(parts)
