"""What the commands do alike: find their files, have the work done, report, add up."""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from pixelzip import batch, files
from pixelzip.batch import Done, Rules, Totals, Work
from pixelzip.codec.errors import PixelzipError
from pixelzip.files import STANDARD, Job, Judge, Refusal
from pixelzip.meter import Meter
from pixelzip.telling import telling

Result = TypeVar("Result")


def is_png(job: Job) -> bool:
    return job.target == STANDARD or Path(job.target or "").suffix.lower() == ".png"


def packed_only(suffix: str) -> Refusal | None:
    """Take .pxz files; others lie there for themselves."""
    return None if suffix == ".pxz" else Refusal("not a .pxz file", is_missed=False)


def threads(threads: int | None, jobs: int) -> int:
    from pixelzip.coding import available_threads

    return threads or max(1, available_threads() // jobs)


def listed(sources: Sequence[str], listing: IO[bytes] | None, zero: bool) -> list[str]:
    """The names in the file of --files-from, which are inputs like the ``sources``."""
    if listing is None:
        if zero:
            raise click.UsageError("-0 says how names are parted in the file of --files-from")
        if not sources:
            raise click.UsageError("Missing argument 'IN...'.")
        return []
    read = sentences(listing.read)
    if b"\0" in read and not zero:
        raise click.UsageError("there are NUL bytes in the file of --files-from: add -0")
    names = read.split(b"\0" if zero else b"\n")
    return [os.fsdecode(name if zero else name.removesuffix(b"\r")) for name in names if name]


def plan(
    sources: Sequence[str],
    output: str | None,
    suffix: str | Callable[[str], str],
    judge: Judge,
    recursive: bool,
    listed: Sequence[str] = (),
) -> list[Job]:
    try:
        return files.plan(sources, output, suffix, judge, recursive=recursive, listed=listed)
    except files.PlanError as error:
        raise click.UsageError(str(error)) from error


def run(
    todo: list[Job],
    work: Work,
    rules: Rules,
    *,
    jobs: int = 1,
    quiet: bool,
    as_json: bool,
    with_totals: bool = True,
) -> None:
    """Do the work of all jobs, write what they made, report each in order, and the totals."""
    to_stdout = any(job.target == STANDARD for job in todo)
    if to_stdout and sys.__stdout__ is None:
        raise click.UsageError("standard output is closed; give a file with -o")
    if to_stdout and sys.stdout.isatty() and not rules.force:
        raise click.UsageError(
            "a picture would go to the terminal; give a file with -o, or --force"
        )
    reports = sys.stderr if to_stdout else sys.stdout
    start, totals = time.perf_counter(), Totals()
    with Meter(len(todo), shown=sys.stderr.isatty() and not quiet) as meter:

        def tell(sentence: str) -> None:
            with meter.hidden():
                click.echo(f"note: {sentence}", err=True)

        results = batch.all_done(todo, work, rules, jobs=jobs, progress=meter.fraction, quiet=quiet)
        with closing(results), telling(None if quiet else tell):
            for job, done in results:
                done = batch.written(job, done, rules)
                totals.add(done)
                with meter.hidden():
                    _print(job, done, reports, quiet=quiet, as_json=as_json)
                meter.next()
    if with_totals and (as_json or totals.files > 1):
        print_totals(totals, time.perf_counter() - start, reports, quiet=quiet, as_json=as_json)
    if totals.status:
        raise click.exceptions.Exit(totals.status)


def _print(job: Job, done: Done, reports: IO[str], *, quiet: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_as_json(job, done)), file=reports)
        return
    if not quiet:
        for note in done.notes:
            click.echo(f"{job.source}: note: {note}", err=True)
    if done.error:
        click.echo(f"{job.source}: error: {done.error}", err=True)
    elif done.skipped and not quiet:
        click.echo(f"{job.source}: skipped: {done.skipped}", err=True)
    elif done.line and not quiet:
        click.echo(done.line, file=reports)


def _as_json(job: Job, done: Done) -> dict[str, Any]:
    told: dict[str, Any] = {"input": job.source}
    if done.report is not None:
        told = asdict(done.report)
    if reason := done.error or done.skipped or done.unneeded:
        told["error" if done.error else "reason"] = reason
    told |= {"verdict": done.verdict, "notes": done.notes, "not_kept": done.not_kept}
    return told | done.more


def print_totals(
    totals: Totals, seconds: float, reports: IO[str], *, quiet: bool, as_json: bool
) -> None:
    """What became of all files, for people or as JSON."""
    if as_json:
        told = counted(totals) | {"seconds": round(seconds, 3)}
        click.echo(json.dumps({"totals": told}), file=reports)
    elif not quiet:
        click.echo(summary(totals, seconds), file=reports)
        for line in details(totals):
            click.echo(line, file=reports)


def counted(totals: Totals) -> dict[str, Any]:
    """The totals for JSON."""
    plain = {k: dict(v) if isinstance(v, Counter) else v for k, v in vars(totals).items()}
    return plain | {"ratio": totals.ratio}


def summary(totals: Totals, seconds: float | None = None) -> str:
    """The totals in a line."""
    verdicts = ", ".join(f"{totals.verdicts[name]:,} {name}" for name in sorted(totals.verdicts))
    parts = [f"{totals.bytes_in:,} bytes"] if totals.bytes_in else []
    if totals.ratio is not None:
        parts = [f"{totals.bytes_in:,} -> {totals.bytes_out:,} bytes ({totals.ratio:.1%})"]
    if seconds is not None:
        parts.append(f"{seconds:.2f} s")
    named = count(totals.files, "file")
    said = f"{named}: {verdicts}" if verdicts else named
    return f"{said}; {', '.join(parts)}" if parts else said


def details(totals: Totals) -> list[str]:
    """What was left out of all, and why."""
    lines = []
    for what, reasons in (
        ("skipped", totals.skipped),
        ("unneeded", totals.unneeded),
        ("not kept", totals.not_kept),
    ):
        if reasons:
            parts = (f"{reason} ({number:,})" for reason, number in reasons.items())
            lines.append(f"  {what}: {', '.join(parts)}")
    if totals.larger:
        lines.append(f"  larger than the originals: {totals.larger:,}")
    if totals.removed:
        lines.append(f"  removed: {totals.removed:,}")
    return lines


def sentences(work: Callable[[], Result]) -> Result:
    """Do the work; say what went wrong in one sentence."""
    try:
        return work()
    except PixelzipError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(batch.os_sentence(error, "")) from error


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
