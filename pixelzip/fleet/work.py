"""What a worker does: read a batch's files, do them, write what they became, and say so."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TypeVar

from pixelzip.batch import Done, Work
from pixelzip.files import Job
from pixelzip.fleet import storage
from pixelzip.fleet.crew import Outcome
from pixelzip.fleet.manifest import DONE, FAILED, Record
from pixelzip.fleet.plan import Batch, Item
from pixelzip.fleet.storage import StorageError

Result = TypeVar("Result")


class _FileError(Exception):
    """A file that can't be done."""


class _HalfDoneError(_FileError):
    """One whose target may be there all the same."""


@dataclass(frozen=True)
class Task:
    """The same for all batches of a run."""

    work: Work
    """What makes one file of another."""
    ending: Callable[[bytes], str] | None = None
    """The suffix of what becomes of a file, by its bytes; None where that of all is the same."""
    patience: float = storage.PATIENCE
    """Seconds that storage may stay away."""

    def __call__(self, batch: Batch) -> Outcome:
        """Do a batch. Whatever is wrong with a file is in its record."""
        worker = f"{socket.gethostname()}:{os.getpid()}"
        records: list[Record] = []
        for item in batch:
            begun = time.perf_counter()
            try:
                record = self._do(item)
            except StorageError as error:
                return Outcome(batch, tuple(records), stop=str(error))
            seconds = round(time.perf_counter() - begun, 3)
            records.append(replace(record, seconds=seconds, worker=worker))
        return Outcome(batch, tuple(records))

    def _do(self, item: Item) -> Record:
        """Raises StorageError."""
        record = Record(item.source, FAILED, item.target, item.size)
        try:
            data = self._read(item.source)
            record = replace(record, bytes_in=len(data), sha256_in=sha256(data).hexdigest())
            if self.ending is not None and item.target is not None and not item.is_named:
                target = os.path.splitext(item.target)[0] + self.ending(data)
                item, record = replace(item, target=target), replace(record, output=target)
            is_there = item.target is not None and self._is_there(item.target, item)
            done = self.work(Job(item.source, item.target, data=data))
            record = replace(record, notes=tuple(done.notes))
            if done.error:
                raise _FileError(done.error)
            if item.target is not None:
                self._write(item.target, done.data, is_there=is_there)
            return _succeeded(record, done)
        except _FileError as error:
            return replace(record, error=str(error), may_exist=isinstance(error, _HalfDoneError))
        except StorageError:
            raise
        except Exception as error:  # a fault of ours, too, must cost this file only
            return replace(record, error=f"{type(error).__name__}: {storage.sentence(error)}")

    def _read(self, source: str) -> bytes:
        try:
            return self._patiently(lambda: storage.of(source).read(source))
        except OSError as error:
            raise _FileError(storage.sentence(error)) from error

    def _is_there(self, target: str, item: Item) -> bool:
        """Whether there is a target that this run may have left."""
        if item.may_replace or not self._patiently(lambda: storage.of(target).exists(target)):
            return False
        if not item.may_exist:
            raise _FileError(f"{target} exists already; add --force to overwrite it")
        return True

    def _write(self, target: str, data: bytes, *, is_there: bool) -> None:
        place = storage.of(target)
        try:
            if not is_there:
                self._patiently(lambda: place.write(target, data))
            elif self._patiently(lambda: place.read(target)) != data:
                raise _FileError(f"{target} exists already, and differs; --force overwrites it")
        except OSError as error:
            reason = f"{target} cannot be written: {storage.sentence(error)}"
            kind = StorageError if storage.is_nowhere(error) else _HalfDoneError
            raise kind(reason) from error

    def _patiently(self, action: Callable[[], Result]) -> Result:
        return storage.patiently(action, patience=self.patience)


def _succeeded(record: Record, done: Done) -> Record:
    report = done.report
    assert report is not None
    written = record.output is not None
    return replace(
        record,
        status=DONE,
        bytes_out=len(done.data) if written else None,
        sha256_out=sha256(done.data).hexdigest() if written else None,
        width=report.width,
        height=report.height,
        mode=report.mode,
        networks=tuple(report.networks),
    )
