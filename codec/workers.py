"""Sharing work out to threads: what is compiled lets go of the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

Map = Callable[..., Iterator[Any]]
"""What is called like ``map``."""


@contextmanager
def side_by_side(threads: int) -> Iterator[Map]:
    """A ``map`` that so many threads work on."""
    if threads == 1:
        yield map
        return
    with ThreadPoolExecutor(threads) as pool:
        yield pool.map
