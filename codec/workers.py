"""Sharing work out to threads: what is compiled lets go of the interpreter's lock."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from itertools import pairwise
from operator import attrgetter
from threading import Condition, Thread, local
from typing import Any, NamedTuple

from numpy.typing import NDArray

Map = Callable[..., Iterator[Any]]
"""What is called like ``map``; the first thing to go through has a length."""

Array = NDArray[Any]


@contextmanager
def side_by_side(threads: int) -> Iterator[Map]:
    """A ``map`` that so many threads work on: this one, while it waits for results, and others.

    What it calls may call it in turn: threads that have nothing to do take part. So do they where
    what it calls asks for several threads itself: these are the same. What they are at ends in
    `OverError` when this is left.
    """
    if threads == 1:
        yield map
    elif (crew := getattr(_at, "crew", None)) is not None:
        yield crew.share
    else:
        resting = _resting[threads - 1]
        crew = _at.crew = resting.pop() if resting else _Crew(threads - 1)
        waits = True
        try:
            yield crew.share
        except KeyboardInterrupt:  # whoever wants to stop gets on, and they follow
            waits = False
            raise
        finally:
            _at.crew = None
            crew.stop(waits)
        resting.append(crew)


_at = local()
"""The crew that a thread works in, if any."""
_resting: dict[int, list[_Crew]] = defaultdict(list)
"""Crews of so many helpers that have nothing to do: threads take long to start, and longer where
all cores are busy."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_resting.clear)  # there, they have no threads


class OverError(Exception):
    """Nobody waits for the result any more."""


class _Piece(NamedTuple):
    """A piece of work, and what will come of it."""

    number: int
    """Of the call that it was shared out by, as they came."""
    result: Future[Any]
    work: Callable[..., Any]
    arguments: tuple[Any, ...]

    def do(self) -> None:
        try:
            self.result.set_result(self.work(*self.arguments))
        except BaseException as error:  # it is raised again where the result is asked for
            self.result.set_exception(error)


class _Crew:
    """Threads that take pieces of work from a heap, which is in the order of the calls.

    They start when there is something to share. Who waits for results does pieces of that call
    meanwhile, and only if there are none left, of later ones. As nothing waits for earlier ones
    than itself, there is always somebody who gets on. Who waits for nothing takes pieces of the
    oldest call, which are the largest. So as long as there are pictures for all, each thread does
    the pieces of its own one, one after the other, and waits for nobody.
    """

    def __init__(self, helpers: int) -> None:
        self.helpers = helpers
        self.heap: list[_Piece] = []
        self.news = Condition()
        self.calls = self.busy = 0
        self.is_over = False

    def share(
        self, work: Callable[..., Any], first: Sequence[Any], *others: Iterable[Any]
    ) -> Iterator[Any]:
        """A `Map`."""
        if len(first) < 2:
            return map(work, first, *others)
        with self.news:
            self.calls += 1
            if self.calls == 1:
                for _ in range(self.helpers):
                    Thread(target=self._help, daemon=True).start()
            together = zip(first, *others, strict=True)
            pieces = [_Piece(self.calls, Future(), work, each) for each in together]
            self.heap += reversed(pieces)
            self.news.notify_all()
        return self._results(pieces)

    def stop(self, waits: bool) -> None:
        """Have the helpers stop. If it ``waits`` for them, they can be of use again."""
        with self.news:
            self.is_over = True
            self.heap.clear()
            self.news.notify_all()
            if waits:
                self.news.wait_for(lambda: not self.busy)
                self.heap.clear()  # of what those at work have asked for
                self.is_over = False

    def _results(self, pieces: Sequence[_Piece]) -> Iterator[Any]:
        number, results = pieces[0].number, [piece.result for piece in reversed(pieces)]
        try:
            while results:
                self._work(number, results[-1].done)
                yield results.pop().result()
        finally:  # perhaps nobody wants the rest
            with self.news:
                self.heap[:] = [piece for piece in self.heap if piece.number != number]

    def _help(self) -> None:
        _at.crew = self
        while True:
            with self.news:
                self.news.wait_for(lambda: self.heap)
                piece = self._take(self.heap[0].number)
                self.busy += 1
            piece.do()
            del piece  # whoever rests holds on to nothing
            with self.news:
                self.busy -= 1
                self.news.notify_all()

    def _work(self, number: int, is_done: Callable[[], bool]) -> None:
        """Do pieces of that call and of later ones, until something is done. Raises OverError."""

        def wake_up() -> bool:
            has_work = bool(self.heap) and self.heap[-1].number >= number
            return self.is_over or is_done() or has_work

        while True:
            with self.news:
                self.news.wait_for(wake_up)
                if is_done():
                    return
                if self.is_over:
                    raise OverError
                piece = self._take(number)
            piece.do()
            with self.news:
                self.news.notify_all()

    def _take(self, number: int) -> _Piece:
        """The next piece of that call; if there is none, of the newest one."""
        end = bisect_right(self.heap, number, key=attrgetter("number"))
        own = end and self.heap[end - 1].number == number
        return self.heap.pop(end - 1 if own else -1)


_SHARES = 16


def shares(items: Array, least: int) -> list[Array]:
    """Work on an array (n, ...) in parts for several threads, each of so many items at least."""
    count = max(1, min(_SHARES, len(items) // least))
    cuts = [len(items) * k // count for k in range(count + 1)]
    return [items[start:end] for start, end in pairwise(cuts)]
