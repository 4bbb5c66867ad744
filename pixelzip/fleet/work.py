"""What a worker does: read a batch's files, do them, write what they became, and say so."""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from typing import TypeVar

from pixelzip import files
from pixelzip.batch import Done, Rules, Work
from pixelzip.files import Job
from pixelzip.fleet import storage
from pixelzip.fleet.crew import Outcome
from pixelzip.fleet.manifest import DONE, FAILED, UNNEEDED, Record
from pixelzip.fleet.plan import MOST_PIXELS, Batch, Item
from pixelzip.fleet.storage import StorageError

Result = TypeVar("Result")


class _FileError(Exception):
    """A file that can't be done."""


class _HalfDoneError(_FileError):
    """One whose target may be there all the same."""


@dataclass(frozen=True)
class _Taken:
    """A file that is at work; what is in it is known to the work only."""

    item: Item
    """With the target that it turned out to have."""
    record: Record
    is_there: bool
    """Whether there is a target, which is not just written over."""
    record_if_unneeded: Record
    """That of one whose target may stay as it is."""


@dataclass(frozen=True)
class Task:
    """The same for all batches of a run."""

    work: Work
    """What makes files of others."""
    rules: Rules = Rules()  # noqa: RUF009 (it is frozen)
    """How they are written."""
    ending: Callable[[bytes], str] | None = None
    """The suffix of what becomes of a file, by its bytes; None where that of all is the same."""
    patience: float = storage.PATIENCE
    """Seconds that storage may stay away."""

    def __call__(self, batch: Batch) -> Outcome:
        """Do a batch, as far as there are not too many pixels in it.

        Whatever is wrong with a file is in its record.
        """
        if batch[0].sums is not None:
            return self._remove(batch)
        records: list[Record] = []
        taken: deque[_Taken] = deque()
        items, stop = iter(batch), ""
        jobs = self._jobs(items, taken, records)
        try:
            for job in jobs:
                for done in self._made(chain([job], jobs), taken):
                    records.append(self._finished(taken.popleft(), done))
                if sum((r.width or 0) * (r.height or 0) for r in records) >= MOST_PIXELS:
                    break
        except StorageError as error:
            stop = str(error)
        worker = f"{socket.gethostname()}:{os.getpid()}"
        finished = tuple(replace(record, worker=worker) for record in records)
        return Outcome(batch, finished, rest=tuple(items), stop=stop)

    def _jobs(
        self, items: Iterator[Item], taken: deque[_Taken], records: list[Record]
    ) -> Iterator[Job]:
        """Items, each read when it is wanted; records of those that cannot be."""
        for item in items:
            record = Record(item.source, FAILED, item.target, item.size)
            try:
                one, job = self._take(item, record)
            except StorageError:
                raise
            except Exception as error:
                records.append(replace(record, error=_reason(error)))
                continue
            taken.append(one)
            yield job

    def _made(self, jobs: Iterator[Job], taken: deque[_Taken]) -> list[Done]:
        """What became of those jobs that are taken."""
        try:
            return self.work.some(jobs)
        except StorageError:
            raise
        except Exception as error:  # a fault of ours, too, must cost one file only
            if len(taken) == 1:
                return [Done(error=_reason(error))]
            return [self._alone(one) for one in taken]

    def _alone(self, taken: _Taken) -> Done:
        try:
            _, job = self._take(replace(taken.item, may_exist=True), taken.record)
        except _FileError as error:
            return Done(error=_reason(error))
        (done,) = self._made(iter([job]), deque([taken]))
        return done

    def _take(self, item: Item, record: Record) -> tuple[_Taken, Job]:
        """Raises _FileError, StorageError."""
        data = self._read(item.source)
        record = replace(record, bytes_in=len(data), sha256_in=sha256(data).hexdigest())
        held, target, is_there = {item.source: data}, item.target, False
        if self.ending is not None and item.stem is not None:
            target = files.suffixed(item.stem, self.ending(data))
        item, record = replace(item, target=target), replace(record, output=target)
        unneeded = replace(record, status=UNNEEDED)
        looks = self.rules.checks_existing
        if target is not None and (looks or not self.rules.force):
            is_there = self._patiently(lambda: storage.of(target).exists(target))
        if target is not None and is_there and not item.may_exist:
            if not looks:
                raise _FileError(f"{target} exists already; add --force to overwrite it")
            held[target] = self._read(target)
            unneeded = _with_output(unneeded, held[target])
        if item.original is not None:
            try:
                held[item.original] = self._read(item.original)
            except _FileError as error:
                raise _FileError(f"{item.original}: {error}") from error
        job = Job(item.source, target, original=item.original, held=held)
        return _Taken(item, record, is_there, unneeded), job

    def _finished(self, taken: _Taken, done: Done) -> Record:
        """Write what was made. Raises StorageError."""
        begun = time.perf_counter()
        record = replace(taken.record, notes=tuple(done.notes))
        target = taken.item.target
        if done.error:
            return replace(record, error=done.error)
        if done.unneeded:
            return replace(taken.record_if_unneeded, reason=done.unneeded, notes=record.notes)
        try:
            if target is not None:
                self._write(taken, target, done)
        except StorageError:
            raise
        except Exception as error:
            is_half = isinstance(error, _HalfDoneError)
            return replace(record, error=_reason(error), may_exist=is_half)
        seconds = (done.report.seconds if done.report else 0) + time.perf_counter() - begun
        record = _succeeded(replace(record, seconds=round(seconds, 3)), done)
        return replace(record, may_remove=self.rules.removes and done.may_remove)

    def _write(self, taken: _Taken, target: str, done: Done) -> None:
        place, source = storage.of(target), taken.item.source
        like = source if self.rules.alike and not storage.is_url(source) else None
        try:
            if not taken.is_there or self.rules.force or done.may_replace:
                self._patiently(lambda: place.write(target, done.data, like))
            elif self._patiently(lambda: place.read(target)) != done.data:
                raise _FileError(f"{target} exists already, and differs; --force overwrites it")
        except OSError as error:
            reason = f"{target} cannot be written: {storage.sentence(error)}"
            kind = StorageError if storage.is_nowhere(error) else _HalfDoneError
            raise kind(reason) from error

    def _remove(self, batch: Batch) -> Outcome:
        """Take away sources that are what they were, if what was made of them is there."""
        removed: list[str] = []
        kept: dict[str, str] = {}
        try:
            for item in batch:
                why = self._not_removed(item)
                if why:
                    kept[item.source] = why
                else:
                    removed.append(item.source)
        except StorageError as error:
            return Outcome(batch, removed=tuple(removed), kept=kept, stop=str(error))
        return Outcome(batch, removed=tuple(removed), kept=kept)

    def _not_removed(self, item: Item) -> str:
        """Why a source stays; nothing if it is no more. Raises StorageError."""
        assert item.sums is not None
        assert item.target is not None
        before, after = item.sums
        try:
            if sha256(self._read(item.target)).hexdigest() != after:
                return f"{item.target} is not what was written"
            place = storage.of(item.source)
            if not self._patiently(lambda: place.exists(item.source)):
                return ""  # by an earlier start of the run, which had no time to say so
            if sha256(self._read(item.source)).hexdigest() != before:
                return "it is not what it was when it was done"
            self._patiently(lambda: place.remove(item.source))
        except FileNotFoundError:
            return ""
        except (OSError, _FileError) as error:
            return storage.sentence(error)
        return ""

    def _read(self, path: str) -> bytes:
        try:
            return self._patiently(lambda: storage.of(path).read(path))
        except OSError as error:
            raise _FileError(storage.sentence(error)) from error

    def _patiently(self, action: Callable[[], Result]) -> Result:
        return storage.patiently(action, patience=self.patience)


def _reason(error: Exception) -> str:
    """What is said of a file; the kind of error, too, if nobody has thought of it."""
    said = storage.sentence(error)
    return said if isinstance(error, _FileError) else f"{type(error).__name__}: {said}"


def _with_output(record: Record, data: bytes) -> Record:
    return replace(record, bytes_out=len(data), sha256_out=sha256(data).hexdigest())


def _succeeded(record: Record, done: Done) -> Record:
    report = done.report
    assert report is not None
    if record.output is not None:
        record = _with_output(record, done.data)
    return replace(
        record,
        status=DONE,
        width=report.width,
        height=report.height,
        mode=report.mode,
        networks=tuple(report.networks),
        not_kept=tuple(done.not_kept),
        is_larger=done.is_larger,
    )
