"""Sharing work out to threads: what is compiled lets go of the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

Map = Callable[..., Iterator[Any]]
"""What is called like ``map``; the first thing to go through has a length."""


@contextmanager
def side_by_side(threads: int) -> Iterator[Map]:
    """A ``map`` that so many threads work on, which start when there is something to share."""
    if threads == 1:
        yield map
        return
    with ExitStack() as stack:
        pool = cache(lambda: stack.enter_context(ThreadPoolExecutor(threads)))

        def parallel(
            work: Callable[..., Any], first: Sequence[Any], *others: Iterable[Any]
        ) -> Iterator[Any]:
            run: Map = map if len(first) < 2 else pool().map
            return run(work, first, *others)

        yield parallel
