"""`pixelzip manifest`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

import click

from pixelzip.commands import many, options, running

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

    networks, skipped = Counter[str](), Counter[str]()
    past = Past(_counted(read(file), networks, skipped))
    reasons = Counter(record.error or "" for record in past.failures.values())
    if as_json:
        about = {"runs": past.runs, "unfinished": past.unfinished, **asdict(past.totals)}
        counts = {"networks": networks, "reasons": reasons, "reasons_skipped": skipped}
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
        click.echo(many.summary(past.totals))
        totals = past.totals
        click.echo(f"{totals.pixels / 1e6:,.1f} megapixels in {totals.seconds:,.1f} s of workers")
        if past.unfinished:
            click.echo(f"{running.count(past.unfinished, 'file')} under way, now or when it ended")
        if networks:
            click.echo("networks: " + ", ".join(f"{n} {c:,}" for n, c in networks.most_common()))
        for title, counted in (("failed", reasons), ("skipped", skipped)):
            for reason, number in counted.most_common(MOST_REASONS):
                click.echo(f"{title}: {number:,} x {reason}")


def _counted(
    lines: Iterable[dict[str, Any]], networks: Counter[str], skipped: Counter[str]
) -> Iterator[dict[str, Any]]:
    """The same lines, counted on the way."""
    for line in lines:
        networks.update(line.get("networks", ()))
        if line.get("status") == "skipped":
            skipped[line.get("error", "")] += 1
        yield line
