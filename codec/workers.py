"""Sharing work out to threads: what is compiled lets go of the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from threading import get_ident
from typing import Any

import numpy as np
from numpy.typing import NDArray

Map = Callable[..., Iterator[Any]]
"""What is called like ``map``; the first thing to go through has a length."""

Array = NDArray[Any]


@contextmanager
def side_by_side(threads: int) -> Iterator[Map]:
    """A ``map`` that so many threads work on, which start when there is something to share.

    These threads may call it as well, and then do themselves what they ask for.
    """
    if threads == 1:
        yield map
        return
    owner = get_ident()
    with ExitStack() as stack:
        pool = cache(lambda: stack.enter_context(ThreadPoolExecutor(threads)))

        def parallel(
            work: Callable[..., Any], first: Sequence[Any], *others: Iterable[Any]
        ) -> Iterator[Any]:
            alone = len(first) < 2 or get_ident() != owner
            run: Map = map if alone else pool().map
            return run(work, first, *others)

        yield parallel


_SHARES = 16


def shares(items: Array, least: int) -> list[Array]:
    """Work on an array (n, ...) in parts for several threads, each of so many items at least."""
    return np.array_split(items, max(1, min(_SHARES, len(items) // least)))
