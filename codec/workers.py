"""Sharing work out to the cores.

Evaluating a network is thousands of short calls, between which Python threads would queue for the
interpreter's lock. So where a process can fork (Linux, and a network on the CPU) each share gets a
process of its own, which inherits all that is in memory and starts at once; elsewhere a thread.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

Share = TypeVar("Share")
Result = TypeVar("Result")

Map = Callable[..., Iterator[Any]]
"""What is called like ``map``."""

CAN_FORK = sys.platform == "linux"


@contextmanager
def side_by_side(threads: int) -> Iterator[Map]:
    """A ``map`` that so many threads work on; for compiled code, which needs no lock."""
    if threads == 1:
        yield map
        return
    with ThreadPoolExecutor(threads) as pool:
        yield pool.map


def share_out(
    work: Callable[[Share], Result], shares: Sequence[Share], *, fork: bool
) -> list[Result]:
    """``[work(share) for share in shares]``, all at the same time.

    Results and exceptions of forked shares come back through pipes, pickled. The first share
    always stays in this process, so progress that it reports is seen.
    """
    forked = shares[1:] if fork and CAN_FORK else []
    children = [_Child(work, share) for share in forked]
    try:
        # Even a single share gets a thread: what it sets for its thread must not outlive it.
        with ThreadPoolExecutor(max(1, len(shares) - len(forked))) as pool:
            results = list(pool.map(work, shares[: len(shares) - len(forked)]))
        return results + [child.result() for child in children]
    finally:
        for child in children:
            child.end()


class _Child(Generic[Share, Result]):
    """A forked process that does one share of the work."""

    def __init__(self, work: Callable[[Share], Result], share: Share) -> None:
        self.reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(writing)
            return
        # In the child: nothing may escape from here, or the caller's code would run twice.
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
            os.close(self.reading)
            try:
                answer = pickle.dumps((True, work(share)))
            except BaseException as error:
                answer = pickle.dumps((False, error))
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(answer)
        finally:
            os._exit(0)

    def result(self) -> Result:
        """Wait for what the work gave; raise what it raised."""
        with os.fdopen(self.reading, "rb", closefd=False) as pipe:
            answer = pipe.read()
        if not answer:
            raise MemoryError("a process that shared the work was killed")
        done, value = pickle.loads(answer)  # our own bytes, from our own child
        if not done:
            raise value
        result: Result = value
        return result

    def end(self) -> None:
        os.close(self.reading)
        try:
            os.kill(self.pid, signal.SIGKILL)
        finally:
            os.waitpid(self.pid, 0)
