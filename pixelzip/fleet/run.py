"""The loop of a run: what is found goes to the crew, what comes back into the manifest."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from pixelzip.codec.errors import PixelzipError
from pixelzip.fleet.crew import Crew, Outcome
from pixelzip.fleet.manifest import FAILED, SKIPPED, UNNEEDED, Manifest, Record
from pixelzip.fleet.plan import MOST_FILES, Batch, Item, batches, halves, pieces

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
    kept: Callable[[str, str], None],
    retry_failed: bool = False,
) -> None:
    """Do all items that the manifest does not settle; ``seen`` gets each record once it is noted.

    Sources that may be removed are, once that is noted; ``kept`` gets those that stay all the same,
    and why. Raises RunError if nothing can go on, StorageError if places can't be listed any more.
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
            if not item.error and item.refusal is None:
                yield replace(item, may_exist=past.may_have_left(item.source))
                continue
            aside.append(_aside(item))
            if len(aside) == _MOST_ASIDE:
                note([])

    again = deque(pieces(_removals(manifest.past.to_remove.values()), MOST_FILES))
    attempts: dict[str, int] = {}  # of files that are alone
    deaths = under_way = 0
    last_death = ""
    plan = batches(left(), lambda: crew.most)
    while True:
        while under_way < crew.most:
            if again:
                batch: Batch | None = again.popleft()
            elif batch := next(plan, None):
                manifest.begin([item.source for item in batch])
            if batch is None:
                break
            crew.submit(batch)
            under_way += 1
        if not under_way:
            note([])
            return
        outcomes = crew.wait()
        under_way -= len(outcomes)
        for number, outcome in enumerate(outcomes):
            deaths = deaths + 1 if outcome.death else 0
            if outcome.death:
                last_death = outcome.death
                outcomes[number] = _after_death(outcome, again, attempts)
            if outcome.rest:
                again.extend(pieces(outcome.rest, len(outcome.batch) - len(outcome.rest)))
        note([record for outcome in outcomes for record in outcome.records])
        for outcome in outcomes:
            if removals := _removals(outcome.records):
                again.append(tuple(removals))
            manifest.removed(outcome.removed)
            manifest.kept(outcome.kept)
            for source, why in outcome.kept.items():
                kept(source, why)
            if outcome.stop:
                raise RunError(outcome.stop)
        if deaths > MOST_DEATHS:
            raise RunError(f"one worker after the other dies; the last one: {last_death}")
        if deaths > _DEATHS_OF_ONE:
            time.sleep(min(0.1 * 2 ** (deaths - _DEATHS_OF_ONE), _LONGEST_REST))


def _aside(item: Item) -> Record:
    record = Record(item.source, FAILED, bytes_in=item.size)
    if item.refusal is None:
        return replace(record, error=item.error)
    status = SKIPPED if item.refusal.is_missed else UNNEEDED
    return replace(record, status=status, reason=item.refusal.why)


def _removals(records: Iterable[Record]) -> list[Item]:
    """What is still to do for files that may be removed."""
    return [
        Item(record.input, record.output, sums=(record.sha256_in, record.sha256_out))
        for record in records
        if record.may_remove and record.sha256_in and record.sha256_out
    ]


def _after_death(outcome: Outcome, again: deque[Batch], attempts: dict[str, int]) -> Outcome:
    """Have the batch done again, in halves. What comes of a file that has been tried enough."""
    nothing = Outcome(outcome.batch)
    batch = tuple(replace(item, may_exist=True) for item in outcome.batch)
    if len(batch) > 1:
        again.extend(halves(batch))
        return nothing
    if outcome.is_machines:
        again.append(batch)
        return nothing
    (item,) = batch
    attempts[item.source] = attempts.get(item.source, 0) + 1
    if attempts[item.source] < ATTEMPTS:
        again.append(batch)
        return nothing
    error = f"{outcome.death}, {ATTEMPTS} times; perhaps there is not enough memory for it"
    tried = attempts.pop(item.source)
    if item.sums is not None:  # it is done, and was to be removed
        return replace(nothing, kept={item.source: error})
    record = Record(item.source, FAILED, item.target, item.size, error=error, attempts=tried)
    return replace(nothing, records=(replace(record, may_exist=True),))
