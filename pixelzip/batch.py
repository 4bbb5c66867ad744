"""The work of one file after the other, here or in other processes; nothing of it is printed.

A `Work` makes what becomes of files, and never raises what is a file's own fault: `Alone` one by
one, `Together` several small ones in one go, which costs far less. Only this process writes files
(`written`), so nothing else needs cleaning up when it is interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pixelzip import files
from pixelzip.codec.errors import PixelzipError, UncachedWarning
from pixelzip.codec.workers import side_by_side
from pixelzip.files import STANDARD, Job
from pixelzip.telling import Voice

if TYPE_CHECKING:
    from concurrent.futures import Future, ProcessPoolExecutor

    from pixelzip.api import Info

Fraction = Callable[[float], None]
Result = TypeVar("Result")

TOGETHER = 2**15
"""The pixels of small files that a thread codes together: more of them gain nothing."""
EACH, FEW = 2**20, 4
"""Several threads share so many pixels for each of them, at most: more take memory. So many files
each are enough, lest some wait at the end, or the first reports be long in coming."""
_MOST_FILES, _MOST_BYTES = 256, 2**20  # of those that are handed to a process at a time
_LEAST_BYTES = 4096  # that a file counts for: opening, reading and writing one takes time, too


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
    """What became of one file."""

    report: Report | None = None
    line: str = ""
    data: bytes = b""
    notes: list[str] = field(default_factory=list)
    not_kept: tuple[str, ...] = ()
    """What the file held besides, and its output does not: "text", "resolution"..."""
    more: dict[str, Any] = field(default_factory=dict)  # that only JSON says
    error: str = ""
    """The sentence to print if it failed."""
    skipped: str = ""
    """Why it was left out, though nothing failed."""
    unneeded: str = ""
    """Why there was nothing to do."""
    is_larger: bool = False
    """Whether a compressed file is larger than what it was made of."""
    may_replace: bool = False
    """Whether the output takes the place of one that is there, even unforced."""
    may_remove: bool = False
    """Whether it is proven that all of the input comes back of the output."""
    is_removed: bool = False
    """Whether the input is no more."""

    @property
    def verdict(self) -> str:
        """``failed``, ``skipped``, ``unneeded`` or ``done``."""
        if self.error:
            return "failed"
        return "skipped" if self.skipped else "unneeded" if self.unneeded else "done"


@dataclass
class Totals:
    """What became of all files of a run; the fields are the keys of ``totals`` in JSON."""

    files: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    """`Done.verdict` -> files."""
    bytes_in: int = 0
    bytes_out: int = 0
    """These two of the files that are done."""
    larger: int = 0
    """Compressed files that are larger than what they were made of."""
    removed: int = 0
    """Inputs that are no more."""
    skipped: Counter[str] = field(default_factory=Counter)
    unneeded: Counter[str] = field(default_factory=Counter)
    """Reason -> files."""
    not_kept: Counter[str] = field(default_factory=Counter)
    """What was not kept -> of how many files."""

    def add(self, done: Done) -> None:
        """Count a file."""
        self.files += 1
        self.verdicts[done.verdict] += 1
        match done.verdict:
            case "skipped":
                self.skipped[done.skipped] += 1
            case "unneeded":
                self.unneeded[done.unneeded] += 1
            case "done":
                self.not_kept.update(done.not_kept)
                self.removed += done.is_removed
                self.larger += done.is_larger
                if done.report is not None:
                    self.bytes_in += done.report.bytes_in
                    self.bytes_out += done.report.bytes_out or 0

    @property
    def ratio(self) -> float | None:
        """The bytes after for each one before."""
        both = self.bytes_in and self.bytes_out
        return round(self.bytes_out / self.bytes_in, 6) if both else None

    @property
    def status(self) -> int:
        """The exit status: 1 if a file failed, 3 if something was left out, else 0."""
        if self.verdicts["failed"]:
            return 1
        return 3 if self.skipped or self.not_kept else 0


class Work(ABC):
    """What makes one output of one input, or several of several."""

    @abstractmethod
    def some(self, jobs: Iterable[Job], progress: Fraction | None = None) -> list[Done]:
        """What became of the first of the jobs, one or as many as go together.

        No more of ``jobs`` than these are taken from an iterator. ``progress`` is called with how
        many of them are done, in fractions of a file.
        """

    def __call__(self, job: Job, progress: Fraction | None = None) -> Done:
        """What became of one job."""
        (done,) = self.some([job], progress)
        return done


class Alone(Work):
    """One file at a time: ``make(job, progress)``."""

    def __init__(self, make: Callable[[Job, Fraction | None], Done]) -> None:
        self.make = make

    def some(self, jobs: Iterable[Job], progress: Fraction | None = None) -> list[Done]:
        job = next(iter(jobs))
        with _noting() as notes:
            done = _guarded(lambda: self.make(job, progress), job)
        return [replace(done, notes=[*done.notes, *notes])]


class Item(Protocol):
    """What was read of a file."""

    @property
    def pixels(self) -> int:
        """How much work it is."""


Taken = TypeVar("Taken", bound=Item)
Coded = TypeVar("Coded")


@dataclass(frozen=True)
class Steps(ABC, Generic[Taken, Coded]):
    """A file's work in three steps, of which the second is done for several files at once.

    Its fields say what is asked for; these two have no say in what becomes of a file.
    """

    threads: int = 1
    device: str = "cpu"

    @abstractmethod
    def take(self, job: Job) -> Taken | Done:
        """Read it; or say what became of it, if that is all."""

    @abstractmethod
    def code(self, items: Sequence[Taken], progress: Fraction | None) -> Sequence[Coded]:
        """The long part. ``progress`` is called with the fraction done, 0 to 1."""

    @abstractmethod
    def finish(self, job: Job, item: Taken, coded: Coded, seconds: float) -> Done:
        """Make what is to be written. ``seconds`` is the file's share of the time of all."""


class Together(Work, Generic[Taken, Coded]):
    """Small files together, as many as give all threads enough to do; a large one alone."""

    def __init__(self, steps: Steps[Taken, Coded]) -> None:
        self.steps = steps

    def some(self, jobs: Iterable[Job], progress: Fraction | None = None) -> list[Done]:
        start = time.perf_counter()
        became: list[Done | tuple[Job, Taken]] = []
        pixels = 0
        with _noting() as notes:
            for job in jobs:
                item = _guarded(partial(self.steps.take, job), job)
                became.append(item if isinstance(item, Done) else (job, item))
                pixels += 0 if isinstance(item, Done) else item.pixels
                if self._are_enough(len(became), pixels):
                    break
            taken = [one for one in became if not isinstance(one, Done)]
            with side_by_side(self.steps.threads) as parallel:
                coded = self._code(taken, progress) if taken else []
                each = (time.perf_counter() - start) / max(1, pixels)  # seconds a pixel
                finish = partial(self._finish, each=each)
                finished = parallel(finish, taken, coded)
                done = [one if isinstance(one, Done) else next(finished) for one in became]
        done[0] = replace(done[0], notes=[*done[0].notes, *notes])
        return done

    def _are_enough(self, files: int, pixels: int) -> bool:
        threads = self.steps.threads
        few = threads > 1 and files < FEW * threads
        return pixels >= (EACH if few else TOGETHER) * threads

    def _code(
        self, taken: Sequence[tuple[Job, Taken]], progress: Fraction | None
    ) -> Sequence[Coded | Done]:
        """All at once; if that fails each alone, to see which of them it was."""

        def count(part: float) -> None:
            if progress is not None:
                progress(part * len(taken))

        items = [item for _, item in taken]
        coded = _guarded(lambda: self.steps.code(items, count), taken[0][0])
        if not isinstance(coded, Done):
            return coded
        return [coded] if len(taken) == 1 else [self._code([one], None)[0] for one in taken]

    def _finish(self, taken: tuple[Job, Taken], coded: Coded | Done, each: float) -> Done:
        job, item = taken
        if isinstance(coded, Done):
            return coded
        return _guarded(lambda: self.steps.finish(job, item, coded, each * item.pixels), job)


def _guarded(do: Callable[[], Result], job: Job) -> Result | Done:
    """Do it, or say what is wrong with the file."""
    try:
        return do()
    except PixelzipError as error:
        return Done(error=str(error))
    except OSError as error:
        return Done(error=os_sentence(error, job.source))
    except MemoryError:
        return Done(error="there is not enough memory; try a smaller --tile or fewer --jobs")


@contextmanager
def _noting() -> Iterator[list[str]]:
    """Warnings of ours, as they come to be known at the end; others go their way."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UncachedWarning)
        yield notes
    for warning in caught:
        if not issubclass(warning.category, UncachedWarning):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
        elif str(warning.message) not in notes:
            notes.append(str(warning.message))


def os_sentence(error: OSError, known: str) -> str:
    """What the system says, with the file's name if it is not the one that is ``known``."""
    sentence = error.strerror or str(error)
    named = error.filename is not None and os.fspath(error.filename) != known
    return f"{os.fspath(error.filename)}: {sentence}" if named else sentence


def read(job: Job) -> bytes:
    """What is in a job's source. Raises OSError."""
    if job.source == STANDARD:
        return sys.stdin.buffer.read()
    return files.content(job, job.source)


def line(report: Report) -> str:
    """What people are told of a file that became another one."""
    sizes = f"{report.bytes_in:,} -> {report.bytes_out:,} bytes"
    rest = f"{sizes}, {report.bits_per_dim:.3f} bits/dim, {report.seconds:.2f} s"
    return f"{report.input} -> {report.output}: {rest}"


def report(job: Job, about: Info, bytes_in: int, bytes_out: int | None, seconds: float) -> Report:
    """The report on a job, of which a ``.pxz`` file was read or made."""
    return Report(
        input=job.source,
        output=job.target,
        width=about.width,
        height=about.height,
        mode=about.mode,
        bytes_in=bytes_in,
        bytes_out=bytes_out,
        bits_per_dim=about.bits_per_dim,
        seconds=round(seconds, 3),
        networks=about.networks,
    )


# Where and when the work is done.


@dataclass(frozen=True)
class Rules:
    """How outputs are written."""

    force: bool = False
    """Over files that are there."""
    checks_existing: bool = False
    """Files that are there are the work's to look at."""
    alike: bool = False
    """With the mode and the time of their sources."""
    removes: bool = False
    """And then the sources go, if it is proven that all of them comes back."""


def all_done(
    todo: Sequence[Job],
    work: Work,
    rules: Rules,
    *,
    jobs: int = 1,
    progress: Fraction | None,
    quiet: bool = True,
) -> Generator[tuple[Job, Done], None, None]:
    """What became of each job, in order, done here or by several processes.

    Unless they are ``quiet``, these say by themselves what takes a while.
    """
    some = partial(_some, work, rules)
    if min(jobs, len(todo)) > 1 and all(job.source != STANDARD for job in todo):
        yield from _in_processes(todo, some, jobs, None if quiet else Voice())
        return
    at = 0
    while at < len(todo):
        done = some(todo[at : at + _MOST_FILES], progress)
        yield from zip(todo[at:], done, strict=False)
        at += len(done)


def _some(
    work: Work, rules: Rules, jobs: Sequence[Job], progress: Fraction | None = None
) -> list[Done]:
    """What became of the first of the jobs: of those that need no work, or go together."""
    settled = [_settled(job, rules) for job in jobs]
    ready = list(takewhile(lambda pair: pair[1] is None, zip(jobs, settled, strict=True)))
    if ready:
        return work.some([job for job, _ in ready], progress)
    return [done for done in takewhile(lambda done: done is not None, settled) if done]


def _settled(job: Job, rules: Rules) -> Done | None:
    """What became of a job that there is nothing to do for."""
    if job.refusal is not None:
        why = job.refusal.why
        return Done(skipped=why) if job.refusal.is_missed else Done(unneeded=why)
    objection = files.objection(job, force=rules.force or rules.checks_existing)
    return None if objection is None else Done(error=objection)


def written(job: Job, done: Done, rules: Rules) -> Done:
    """Put what was made where it belongs, and take away what it was made of if that is wanted."""
    if done.verdict != "done" or job.target is None:
        return done
    try:
        if job.target == STANDARD:
            files.pour(done.data, sys.stdout.buffer)
        else:
            files.write(
                job.target,
                done.data,
                force=rules.force or done.may_replace,
                makes_folder=job.makes_folder,
                like=job.source if rules.alike and job.source != STANDARD else None,
            )
    except OSError as error:
        name = "standard output" if job.target == STANDARD else job.target
        return Done(error=f"{name} cannot be written: {error.strerror or error}")
    if not (rules.removes and done.may_remove):
        return done
    try:
        files.replaced(job.source, job.target, done.data)
    except OSError as error:
        return replace(done, notes=[*done.notes, f"not removed: {os_sentence(error, job.source)}"])
    return replace(done, is_removed=True)


def _in_processes(
    todo: Sequence[Job],
    some: Callable[[Sequence[Job]], list[Done]],
    jobs: int,
    voice: Voice | None,
) -> Generator[tuple[Job, Done], None, None]:
    """Do the work in other processes; the results in order, and never many of them waiting."""
    import multiprocessing  # slow to load, and one file needs none
    from concurrent.futures.process import BrokenProcessPool

    crew, left = _Crew(min(jobs, len(todo)), voice), _handfuls(todo, jobs)
    waiting: deque[tuple[Sequence[Job], Future[list[Done]]]] = deque()
    try:
        while True:
            for handful in islice(left, 2 * jobs - len(waiting)):
                waiting.append((handful, crew.submit(some, handful)))
            if not waiting:
                break
            handful, future = waiting.popleft()
            try:
                done = future.result()
            except BrokenProcessPool:
                # Whose fault it was shows when all that were at work are done again, one by one.
                crew.dismiss()
                suspects = [*handful, *(job for others, _ in waiting for job in others)]
                waiting.clear()
                yield from _one_by_one(suspects, some)
                continue
            if rest := handful[len(done) :]:
                waiting.appendleft((rest, crew.submit(some, rest)))
            yield from zip(handful, done, strict=False)
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        crew.dismiss()


def _one_by_one(
    suspects: Sequence[Job], some: Callable[[Sequence[Job]], list[Done]]
) -> Generator[tuple[Job, Done], None, None]:
    """Jobs done each alone, so that a process that is killed costs that job only."""
    from concurrent.futures.process import BrokenProcessPool

    crew = _Crew(1, None)
    try:
        for job in suspects:
            try:
                (done,) = crew.submit(some, [job]).result()
            except BrokenProcessPool:
                crew.dismiss()
                reason = "its process was killed, perhaps for want of memory; try fewer --jobs"
                done = Done(error=reason)
            yield job, done
    finally:
        crew.dismiss()


class _Crew:
    """Processes, which start when there is work, and again after they have been dismissed."""

    def __init__(self, number: int, voice: Voice | None) -> None:
        self._number, self._voice = number, voice
        self._pool: ProcessPoolExecutor | None = None

    def submit(
        self, some: Callable[[Sequence[Job]], list[Done]], jobs: Sequence[Job]
    ) -> Future[list[Done]]:
        """Have it done. What it gives raises BrokenProcessPool if a process was killed."""
        import multiprocessing
        from concurrent.futures import Future, ProcessPoolExecutor
        from concurrent.futures.process import BrokenProcessPool

        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(
                self._number, context, initializer=_start_worker, initargs=(self._voice,)
            )
        try:
            return self._pool.submit(some, jobs)
        except BrokenProcessPool as error:
            broken: Future[list[Done]] = Future()
            broken.set_exception(error)
            return broken

    def dismiss(self) -> None:
        """Let them go; what they had not begun is not done."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _handfuls(todo: Sequence[Job], jobs: int) -> Iterator[Sequence[Job]]:
    """Jobs to hand to a process at a time: small files in such numbers that all get some."""
    most = max(1, min(_MOST_FILES, len(todo) // (4 * jobs)))
    handful: list[Job] = []
    size = 0
    for job in todo:
        weight = max(_LEAST_BYTES, files.size(job.source))
        if handful and (size + weight > _MOST_BYTES or len(handful) == most):
            yield handful
            handful, size = [], 0
        handful.append(job)
        size += weight
    yield handful


def _start_worker(voice: Voice | None) -> None:
    """Workers hold nothing worth saving, so they go at once when they are told or left alone."""
    import multiprocessing

    if voice is not None:
        voice.lend()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
