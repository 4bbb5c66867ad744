"""`pixelzip manifest`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import click

from pixelzip.commands import options, running

MOST_REASONS = 10


@click.command()
@click.argument("file", metavar="FILE", type=options.PATH)
@click.option("--failed", is_flag=True, help="List the files that failed, each with its reason.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead.")
def manifest(file: str, failed: bool, as_json: bool) -> None:
    """Say what a run has done, by its manifest.

    A manifest is a text file of JSON lines, one for each file that is done, failed or skipped (see
    docs/cluster.md). It may be read while the run goes on.

    \b
    Examples:
      pixelzip manifest photos.jsonl
      pixelzip manifest photos.jsonl --failed
    """
    running.sentences(lambda: _manifest(file, failed, as_json))


def _manifest(file: str, failed: bool, as_json: bool) -> None:
    from pixelzip.fleet.manifest import Past, read

    networks = Counter[str]()
    past = Past(_counted(read(file), networks))
    reasons = Counter(record.error or "" for record in past.failures.values())
    if as_json:
        about = {"runs": past.runs, "unfinished": past.unfinished, **running.counted(past.totals)}
        counts = {"networks": networks, "reasons": reasons}
        files = {"failures": {name: r.error for name, r in past.failures.items()}} if failed else {}
        click.echo(json.dumps(about | counts | files))
    elif failed:
        for name, record in past.failures.items():
            click.echo(f"{name}: {record.error}")
    else:
        for run in past.runs[-1:]:
            places = " -> ".join(str(run[key]) for key in ("input", "output") if run.get(key))
            times = running.count(len(past.runs), "time")
            click.echo(f"{run.get('command')} {places}, started {times}")
        totals = past.totals
        click.echo(running.summary(totals))
        seconds = f"{totals.worker_seconds:,.1f} s of workers"
        click.echo(f"{totals.pixels / 1e6:,.1f} megapixels in {seconds}")
        if past.unfinished:
            click.echo(f"{running.count(past.unfinished, 'file')} under way, now or when it ended")
        if networks:
            click.echo("networks: " + ", ".join(f"{n} {c:,}" for n, c in networks.most_common()))
        for reason, number in reasons.most_common(MOST_REASONS):
            click.echo(f"failed: {number:,} x {reason}")
        for line in running.details(totals):
            click.echo(line)


def _counted(lines: Iterable[dict[str, Any]], networks: Counter[str]) -> Iterator[dict[str, Any]]:
    """The same lines, counted on the way."""
    for line in lines:
        networks.update(line.get("networks", ()))
        yield line
