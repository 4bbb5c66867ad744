"""The loop of a run: what is found goes to the crew, what comes back into the manifest."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from pixelzip.codec.errors import PixelzipError
from pixelzip.fleet.crew import Crew, Outcome
from pixelzip.fleet.manifest import FAILED, SKIPPED, Manifest, Record
from pixelzip.fleet.plan import Batch, Item, batches, halves

ATTEMPTS = 3
"""How many workers may die of a file that is alone, until it is given up."""
MOST_DEATHS = 48
"""In a row, with nothing finished between them, until the run stops."""
_DEATHS_OF_ONE = 12
"""So many workers may well die of one file; after more of them in a row, the run takes its time."""
_LONGEST_REST = 30.0
_MOST_ASIDE = 1000


class RunError(PixelzipError):
    """The run has to stop. What it has done stands in its manifest."""


def run(
    items: Iterable[Item],
    manifest: Manifest,
    crew: Crew,
    *,
    seen: Callable[[Record], None],
    force: bool = False,
    retry_failed: bool = False,
) -> None:
    """Do all items that the manifest does not settle; ``seen`` gets each record once it is noted.

    Raises RunError if nothing can go on, StorageError if places can't be listed any more.
    """
    aside: list[Record] = []  # what was settled without a worker

    def note(records: list[Record]) -> None:
        records, aside[:] = aside + records, []
        manifest.finish(records)
        for record in records:
            seen(record)

    def left() -> Iterator[Item]:
        past = manifest.past
        for item in items:
            if past.is_settled(item.source) or (item.source in past.failures and not retry_failed):
                continue
            if not (item.error or item.skipped):
                may_exist = past.may_have_left(item.source)
                yield replace(item, may_replace=force, may_exist=may_exist)
                continue
            aside.append(_aside(item))
            if len(aside) == _MOST_ASIDE:
                note([])

    again: deque[Batch] = deque()
    attempts: dict[str, int] = {}  # of files that are alone
    deaths = under_way = 0
    plan = batches(left(), lambda: crew.most)
    while True:
        while under_way < crew.most:
            batch = again.popleft() if again else next(plan, None)
            if batch is None:
                break
            manifest.begin([item.source for item in batch])
            crew.submit(batch)
            under_way += 1
        if not under_way:
            note([])
            return
        outcomes = crew.wait()
        under_way -= len(outcomes)
        records = [record for outcome in outcomes for record in outcome.records]
        for outcome in outcomes:
            deaths = deaths + 1 if outcome.death else 0
            if outcome.death:
                records += _after_death(outcome, again, attempts)
        note(records)
        for outcome in outcomes:
            if outcome.stop:
                raise RunError(outcome.stop)
            if outcome.death and deaths > MOST_DEATHS:
                raise RunError(f"one worker after the other dies; the last one: {outcome.death}")
        if deaths > _DEATHS_OF_ONE:
            time.sleep(min(0.1 * 2 ** (deaths - _DEATHS_OF_ONE), _LONGEST_REST))


def _aside(item: Item) -> Record:
    status = FAILED if item.error else SKIPPED
    return Record(item.source, status, bytes_in=item.size, error=item.error or item.skipped)


def _after_death(outcome: Outcome, again: deque[Batch], attempts: dict[str, int]) -> list[Record]:
    """What is to be done again, in halves; a record for a file that has been tried enough."""
    batch = tuple(replace(item, may_exist=True) for item in outcome.batch)
    if len(batch) > 1:
        again.extend(halves(batch))
        return []
    (item,) = batch
    attempts[item.source] = attempts.get(item.source, 0) + 1
    if attempts[item.source] < ATTEMPTS:
        again.append(batch)
        return []
    error = f"{outcome.death}, {ATTEMPTS} times; perhaps there is not enough memory for it"
    tried = attempts.pop(item.source)
    return [
        Record(
            item.source, FAILED, item.target, item.size, error=error, may_exist=True,
            attempts=tried,
        )
    ]  # fmt: skip
