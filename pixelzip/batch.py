"""The work of one file after the other, here or in other processes; nothing of it is printed.

Each kind of work is a function that makes one output from one input, and only this process writes
files, so nothing else needs cleaning up when it is interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pixelzip import files
from pixelzip.codec.errors import PixelzipError, UncachedWarning
from pixelzip.files import STANDARD, Job

if TYPE_CHECKING:
    from concurrent.futures import Future

    from pixelzip.api import Info

Fraction = Callable[[float], None]


@dataclass(frozen=True)
class Report:
    """What is said about a file that went well; the fields are the keys of ``--json``."""

    input: str
    output: str | None
    width: int
    height: int
    mode: str
    bytes_in: int
    bytes_out: int | None
    bits_per_dim: float
    seconds: float
    networks: tuple[str, ...]


@dataclass(frozen=True)
class Done:
    """What became of one file. ``error`` is the sentence to print if it failed."""

    report: Report | None = None
    line: str = ""
    data: bytes = b""
    notes: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)  # that only JSON says
    error: str = ""


class Work:
    """A file's work: ``work(job, progress)`` never raises what is the file's own fault."""

    def __init__(self, make: Callable[[Job, Fraction | None], Done]) -> None:
        self.make = make

    def __call__(self, job: Job, progress: Fraction | None = None) -> Done:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UncachedWarning)
            done = self._do(job, progress)
        for warning in caught:
            if not issubclass(warning.category, UncachedWarning):
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )
        notes = {str(w.message): None for w in caught if issubclass(w.category, UncachedWarning)}
        return replace(done, notes=[*done.notes, *notes])

    def _do(self, job: Job, progress: Fraction | None) -> Done:
        try:
            return self.make(job, progress)
        except PixelzipError as error:
            return Done(error=str(error))
        except OSError as error:
            return Done(error=os_sentence(error, job.source))
        except MemoryError:
            return Done(error="there is not enough memory; try a smaller --tile or fewer --jobs")


def os_sentence(error: OSError, known: str) -> str:
    """What the system says, with the file's name if it is not the one that is ``known``."""
    sentence = error.strerror or str(error)
    named = error.filename is not None and os.fspath(error.filename) != known
    return f"{os.fspath(error.filename)}: {sentence}" if named else sentence


def read(job: Job) -> bytes:
    if job.data is not None:
        return job.data
    if job.source == STANDARD:
        return sys.stdin.buffer.read()
    return files.read(job.source)


def line(report: Report) -> str:
    sizes = f"{report.bytes_in:,} -> {report.bytes_out:,} bytes"
    rest = f"{sizes}, {report.bits_per_dim:.3f} bits/dim, {report.seconds:.2f} s"
    return f"{report.input} -> {report.output}: {rest}"


def report(job: Job, about: Info, bytes_in: int, bytes_out: int | None, start: float) -> Report:
    return Report(
        input=job.source,
        output=job.target,
        width=about.width,
        height=about.height,
        mode=about.mode,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        bits_per_dim=about.bits_per_dim,
        seconds=round(time.perf_counter() - start, 3),
        networks=about.networks,
    )


def do(job: Job, work: Work, force: bool, progress: Fraction | None) -> Done:
    objection = files.objection(job, force=force)
    return work(job, progress) if objection is None else Done(error=objection)


def written(job: Job, done: Done, force: bool) -> Done:
    """Put what was made where it belongs."""
    if done.error or job.target is None:
        return done
    try:
        if job.target == STANDARD:
            files.pour(done.data, sys.stdout.buffer)
        else:
            files.write(job.target, done.data, force=force, makes_folder=job.makes_folder)
    except OSError as error:
        name = "standard output" if job.target == STANDARD else job.target
        return Done(error=f"{name} cannot be written: {error.strerror or error}")
    return done


def in_processes(
    todo: list[Job], work: Work, jobs: int, force: bool
) -> Generator[tuple[Job, Done], None, None]:
    """Do the work in other processes; the results in order, and never many of them waiting."""
    import multiprocessing  # slow to load, and one file needs none
    from concurrent.futures import ProcessPoolExecutor

    pool = ProcessPoolExecutor(
        min(jobs, len(todo)), multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    waiting: deque[tuple[Job, Future[Done]]] = deque()
    try:
        for job in todo:
            if len(waiting) == 2 * jobs:
                yield _result(*waiting.popleft())
            waiting.append((job, pool.submit(do, job, work, force, None)))
        while waiting:
            yield _result(*waiting.popleft())
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _result(job: Job, future: Future[Done]) -> tuple[Job, Done]:
    from concurrent.futures.process import BrokenProcessPool

    try:
        return job, future.result()
    except BrokenProcessPool:
        reason = "a process was killed at work, perhaps for want of memory; try fewer --jobs"
        return job, Done(error=reason)


def _start_worker() -> None:
    """Workers hold nothing worth saving, so they go at once when they are told or left alone."""
    import multiprocessing

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
