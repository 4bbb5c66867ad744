"""How far the work has come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import Lock

Progress = Callable[[float], None]
"""Told now and then which fraction of the work is done, 0 to 1."""


def share(progress: Progress | None, start: float, share: float) -> Progress | None:
    """A progress report for a part of the work: ``share`` of it, from ``start`` on."""
    if progress is None:
        return None
    return lambda fraction: progress(start + share * fraction)


def parts(progress: Progress | None, sizes: Sequence[float]) -> list[Progress | None]:
    """A report for each part of the work; several may be at work at the same time."""
    if progress is None:
        return [None] * len(sizes)
    done, total, lock = 0.0, sum(sizes), Lock()

    def report(size: float) -> Progress:
        before = 0.0

        def tell(fraction: float) -> None:
            nonlocal before, done
            with lock:
                done += (fraction - before) * size
                before = fraction
                progress(min(1.0, done / total))

        return tell

    return [report(size) for size in sizes]
