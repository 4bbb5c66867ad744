"""What the codec says while it is at work: that something takes a while.

It comes by the logger "pixelzip", from whichever thread or process is at it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.synchronize import Lock

Tell = Callable[[str], None]


@contextmanager
def telling(tell: Tell | None) -> Iterator[None]:
    """Tell what is said meanwhile, if anybody wants to know."""
    handler = None if tell is None else _begin(tell)
    try:
        yield
    finally:
        if handler is not None:
            logging.getLogger("pixelzip").removeHandler(handler)


class Voice:
    """Says on standard error what one of several processes says first, and no more."""

    def __init__(self) -> None:
        import multiprocessing  # slow to load, and one process needs none

        self._turn: Lock = multiprocessing.get_context("spawn").Lock()

    def lend(self) -> None:
        """Let this process, which has just begun, speak by it."""
        _begin(self._say)

    def _say(self, sentence: str) -> None:
        if self._turn.acquire(block=False):
            print(f"note: {sentence}", file=sys.stderr, flush=True)


class _Teller(logging.Handler):
    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())


def _begin(tell: Tell) -> logging.Handler:
    logger = logging.getLogger("pixelzip")
    logger.setLevel(logging.INFO)
    handler = _Teller(tell)
    logger.addHandler(handler)
    return handler
