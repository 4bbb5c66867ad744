"""A progress bar for several files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

SLOW = 1.0  # seconds before a progress bar appears


class Meter:
    """A progress bar on standard error that appears once the work has taken a while."""

    def __init__(self, total: int, *, shown: bool) -> None:
        self._total = total
        self._finished = 0
        self._bar: Progress | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(SLOW, self._appear)
        self._timer.daemon = True
        self._shown = shown

    def __enter__(self) -> Meter:
        if self._shown:
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
                self._bar = None
            self._shown = False

    def _appear(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TimeRemainingColumn

        bar = Progress(
            "{task.fields[count]}",
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        bar.add_task("", total=self._total, completed=self._finished, count=self._count())
        with self._lock:
            if self._shown:
                self._bar = bar
                bar.start()

    def _count(self, done: float = 0) -> str:
        number = min(self._finished + int(done) + 1, self._total)
        return f"{number}/{self._total}" if self._total > 1 else ""

    def fraction(self, done: float) -> None:
        """How much of the present file is done, 0 to 1, or how many of those under way."""
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=self._finished + done, count=self._count(done))

    def next(self) -> None:
        """A file is finished."""
        self._finished += 1
        self.fraction(0)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Make room for lines on the terminal."""
        with self._lock:
            if self._bar is not None:
                self._bar.stop()
            try:
                yield
            finally:
                if self._bar is not None:
                    self._bar.start()
