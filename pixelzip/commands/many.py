"""What `compress`, `decompress` and `verify` do with a manifest, a URL or a cluster: a run."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from functools import wraps
from hashlib import blake2b
from typing import IO, TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pixelzip import files
from pixelzip.batch import Rules, Steps, Together
from pixelzip.codec.errors import PixelzipError
from pixelzip.commands import running
from pixelzip.fleet import storage
from pixelzip.fleet.plan import Item, Root, Rule
from pixelzip.telling import Voice

if TYPE_CHECKING:
    from pixelzip.fleet.crew import Crew, Do
    from pixelzip.fleet.manifest import Record, Totals

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
        rule: Rule,
        rules: Rules = Rules(),  # noqa: B008 (it is frozen)
        *,
        listed: Sequence[str] = (),
        against: tuple[str, Rule] | None = None,
    ) -> None:
        """Begin a run of the command that click is at, or go on where it stopped.

        ``steps`` do the files; their fields are all that has a say in that. ``listed`` files are
        inputs, too. Files can be compared with those of a place that stands in ``against``, of
        which they would be made by that rule.
        """
        context = click.get_current_context()
        running.sentences(lambda: _run(self, context, steps, rule, rules, listed, against))


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
    rule: Rule,
    rules: Rules,
    listed: Sequence[str],
    against: tuple[str, Rule] | None,
) -> None:
    import pixelzip
    from pixelzip.fleet.manifest import Manifest
    from pixelzip.fleet.run import run
    from pixelzip.fleet.work import Task

    given = context.params
    quiet, as_json = given["quiet"], given["as_json"]
    roots = _roots(given["sources"], listed, given.get("output"))
    output = _output(given.get("output"), rule)
    about: dict[str, Any] = {"command": context.info_name, **_about(given), "output": output}
    about |= {k: v for k, v in asdict(steps).items() if k not in ("threads", "device")}
    if against is not None:
        about["against"] = _absolute(against[0])
    found = _Found(_items(roots, output, rule, against, recursive=given["recursive"]))
    path = many.manifest or _default_name(about)
    reports, start = sys.stdout, time.perf_counter()
    task = Task(Together(replace(steps, threads=given["threads"] or 1)), rules, rule.ending)
    with Manifest(path, about, pixelzip.__version__) as manifest:
        totals = manifest.past.totals
        news = _News(totals, reports, quiet=quiet, as_json=as_json)
        places = [output, *(root.path for root in roots)]
        # Ray prints what it notices of its cluster, and not where errors belong.
        with redirect_stdout(sys.stderr), _crew(many, context, places, task) as on:
            again = many.retry_failed
            run(found, manifest, on, seen=news.see, kept=news.keep, retry_failed=again)
    seconds = time.perf_counter() - start
    running.print_totals(totals, seconds, reports, quiet=quiet, as_json=as_json)
    if not quiet:
        click.echo(f"all of it stands in {path}", err=as_json)
    if roots and not (found.any_to_do or totals.verdicts["done"]):
        raise PixelzipError(f"{roots[0].path}: there is nothing to do in this folder")
    if totals.status:
        raise click.exceptions.Exit(totals.status)


def _roots(sources: Sequence[str], listed: Sequence[str], output: str | None) -> list[Root]:
    """Where to look, by names that mean the same everywhere."""
    if files.STANDARD in (*sources, *listed, output):
        raise click.UsageError("a run reads and writes files, not standard input or output")
    named = [Root(_absolute(source)) for source in sources]
    return named + [Root(_absolute(name), files.place(name)) for name in listed]


def _output(output: str | None, rule: Rule) -> str | None:
    if rule.suffix is None:
        return None
    if output is None:
        raise click.UsageError("a run needs a place for what it makes: -o FOLDER or -o URL")
    return _absolute(output)


def _about(given: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a run from others, beside its settings: where its files come from."""
    sources = [_absolute(source) for source in given["sources"]]
    about: dict[str, Any] = {"input": sources[0] if len(sources) == 1 else sources}
    if given["listing"] is not None:
        name = given["listing"].name
        about["listing"] = files.STANDARD if name == "<stdin>" else _absolute(name)
    return about


def _items(
    roots: Sequence[Root],
    output: str | None,
    rule: Rule,
    against: tuple[str, Rule] | None,
    *,
    recursive: bool,
) -> Iterator[Item]:
    """The files of a run. Raises what makes it impossible before any work is done."""
    from pixelzip.fleet import plan

    if output is not None:
        plan.look(output)  # so that a place that cannot be reached is an error at once
    if len(roots) == 1:
        (root,) = roots
        there = plan.look(root.path)
        if there is None:
            raise PixelzipError(f"there is no {root.path}")
        if there.is_folder and not recursive:
            raise click.UsageError(f"{root.path} is a folder; add --recursive")
    if against is None:
        return plan.find(roots, output, rule, recursive=recursive)
    path = _absolute(against[0])
    original = plan.look(path)
    if original is None:
        raise PixelzipError(f"there is no {path}")
    if len(roots) != 1 or there is None or there.is_folder != original.is_folder:
        raise click.UsageError("--against compares one file with its original, or two folders")
    return plan.pairs(root.path, path, rule, against[1])


class _Found:
    """Items, and whether there are any to do."""

    def __init__(self, items: Iterator[Item]) -> None:
        self._items = items
        self.any_to_do = False

    def __iter__(self) -> Iterator[Item]:
        for item in self._items:
            self.any_to_do = self.any_to_do or item.refusal is None
            yield item


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
    from pixelzip.coding import available_threads
    from pixelzip.fleet.crew import Alone, Processes

    if any(place is not None and place.startswith("memory:") for place in places):
        return Alone(do)
    is_default = context.get_parameter_source("jobs") is ParameterSource.DEFAULT
    jobs: int | None = None if is_default else context.params["jobs"]
    threads: int = context.params["threads"] or 1
    if many.cluster is None:
        voice = None if context.params["quiet"] else Voice()
        return Processes(do, jobs or max(1, available_threads() // threads), voice)
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
        else:
            for note in () if self._quiet else record.notes:
                click.echo(f"{record.input}: note: {note}", err=True)
            if record.error:
                click.echo(f"{record.input}: error: {record.error}", err=True)
            elif record.status == "skipped" and not self._quiet:
                click.echo(f"{record.input}: skipped: {record.reason}", err=True)
        if not self._quiet and time.monotonic() - self._last > self._every:
            self._last = time.monotonic()
            line = f"so far: {running.summary(self._totals)}"
            click.echo(
                f"{line}\r" if self._on_terminal else line, nl=not self._on_terminal, err=True
            )

    def keep(self, source: str, why: str) -> None:
        """A file that was to be removed stays."""
        if self._as_json:
            click.echo(json.dumps({"kept": {source: why}}), file=self._reports)
        elif not self._quiet:
            click.echo(f"{source}: note: not removed: {why}", err=True)
