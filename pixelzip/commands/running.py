"""What the commands do alike: find their files, do the work of each, report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import IO, TypeVar

import click

from pixelzip import batch, files
from pixelzip.batch import Done, Work
from pixelzip.codec.errors import PixelzipError
from pixelzip.files import STANDARD, Job
from pixelzip.meter import Meter

Result = TypeVar("Result")


def is_png(job: Job) -> bool:
    return job.target == STANDARD or Path(job.target or "").suffix.lower() == ".png"


def is_pxz(suffix: str) -> bool:
    return suffix == ".pxz"


def threads(threads: int | None, jobs: int) -> int:
    from pixelzip.api import available_threads

    return threads or max(1, available_threads() // jobs)


def plan(
    sources: Sequence[str],
    output: str | None,
    suffix: str | Callable[[str], str],
    wanted: Callable[[str], bool],
    recursive: bool,
) -> list[Job]:
    try:
        return files.plan(sources, output, suffix, wanted, recursive=recursive)
    except files.PlanError as error:
        raise click.UsageError(str(error)) from error


def run(
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
                results = batch.in_processes(now, work, jobs, force)
            else:
                results = ((job, batch.do(job, work, force, meter.fraction)) for job in now)
            with closing(results):
                for job, done in results:
                    done = batch.written(job, done, force)
                    failed |= bool(done.error)
                    if not done.error and (target := files.real_target(job)):
                        made[target] = job.source
                    with meter.hidden():
                        _print(job, done, reports, quiet=quiet, as_json=as_json)
                    meter.next()
    if failed:
        raise click.exceptions.Exit(1)


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


def sentences(work: Callable[[], Result]) -> Result:
    """Do the work; say what went wrong in one sentence."""
    try:
        return work()
    except PixelzipError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(batch.os_sentence(error, "")) from error


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
