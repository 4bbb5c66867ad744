"""Crews: those who do a run's batches. This machine's processes here, a cluster in `cluster`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Protocol, Self

from pixelzip.fleet.manifest import Record
from pixelzip.fleet.plan import Batch
from pixelzip.telling import Voice


@dataclass(frozen=True)
class Outcome:
    """What came of a batch."""

    batch: Batch
    records: tuple[Record, ...] = ()
    """Of those of its files that are finished."""
    rest: Batch = ()
    """Those that are not begun: the others were work enough."""
    removed: tuple[str, ...] = ()
    """Sources that are no more."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """Sources that were to be removed and are not, and why."""
    death: str = ""
    """How the worker ended, if it did not live to tell."""
    is_machines: bool = False
    """Whether its machine was lost, which is no fault of the batch."""
    stop: str = ""
    """Why no other file of the run can be done either."""


_TO_TIDY_UP = 2.0
"""Seconds that a worker has when it is told to go; one that codes does not listen."""

Do = Callable[[Batch], Outcome]
"""A worker's work, which can be pickled."""


class Crew(Protocol):
    """Workers. As a context manager, they go when it ends."""

    @property
    def most(self) -> int:
        """How many batches may be under way: as many as keep the workers busy, and few more."""

    def submit(self, batch: Batch) -> None:
        """Hand out a batch."""

    def wait(self) -> list[Outcome]:
        """What came of at least one batch; nothing only if none is under way."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class Alone:
    """This process itself: for places that no other process sees (``memory://``), and for tests."""

    most = 1

    def __init__(self, do: Do) -> None:
        self._do = do
        self._waiting: deque[Batch] = deque()

    def submit(self, batch: Batch) -> None:
        self._waiting.append(batch)

    def wait(self) -> list[Outcome]:
        return [self._do(self._waiting.popleft())] if self._waiting else []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Processes:
    """Processes on this machine. One that dies takes only its own batch along, and is replaced."""

    def __init__(self, do: Do, count: int, voice: Voice | None = None) -> None:
        """``voice`` is for what takes a while, and None if nobody wants to know."""
        self.most = 2 * count
        self._do, self._voice = do, voice
        self._count = count
        self._workers: list[_Worker] = []
        self._waiting: deque[Batch] = deque()

    def submit(self, batch: Batch) -> None:
        idle = [worker for worker in self._workers if worker.batch is None]
        if not idle and len(self._workers) < self._count:
            idle = [_Worker(self._do, self._voice)]
            self._workers += idle
        if idle:
            idle[0].give(batch)
        else:
            self._waiting.append(batch)

    def wait(self) -> list[Outcome]:
        busy = {worker.pipe: worker for worker in self._workers if worker.batch is not None}
        outcomes = []
        for worker in [busy[pipe] for pipe in wait(list(busy)) if isinstance(pipe, Connection)]:
            outcome = worker.take()
            if outcome.death:
                self._workers.remove(worker)
            outcomes.append(outcome)
        for _ in range(min(len(outcomes), len(self._waiting))):
            self.submit(self._waiting.popleft())
        return outcomes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()


class _Worker:
    """A process, and our end of the pipe to it."""

    def __init__(self, do: Do, voice: Voice | None) -> None:
        # Not forked: libraries of object stores have threads, and a fork has only one of them.
        context = multiprocessing.get_context("spawn")
        self.pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(do, other, voice), daemon=True)
        self._process.start()
        other.close()  # so that the pipe ends when the process does
        self.batch: Batch | None = None

    def give(self, batch: Batch) -> None:
        self.batch = batch
        with suppress(OSError):  # if it has died, `take` will see
            self.pipe.send(batch)

    def take(self) -> Outcome:
        assert self.batch is not None
        batch, self.batch = self.batch, None
        try:
            outcome: Outcome = self.pipe.recv()
        except (EOFError, OSError):
            self.end()
            code = self._process.exitcode or 0
            how = f"signal {-code}" if code < 0 else f"exit status {code}"
            return Outcome(batch, death=f"a process was ended at work ({how})")
        return outcome

    def end(self) -> None:
        """Tell it to go, and see to it."""
        self._process.terminate()
        self._process.join(_TO_TIDY_UP)
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _serve(do: Do, pipe: Connection, voice: Voice | None) -> None:
    """A worker's life: it holds nothing worth saving, and goes at once when it is left alone."""
    if voice is not None:
        voice.lend()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # half a file is taken away first
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        signal.raise_signal(signal.SIGTERM)
        time.sleep(_TO_TIDY_UP)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    while True:
        try:
            batch = pipe.recv()
        except EOFError:
            return
        pipe.send(do(batch))
