"""How far the work has come."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float], None]
"""Told now and then which fraction of the work is done, 0 to 1."""


def share(progress: Progress | None, start: float, share: float) -> Progress | None:
    """A progress report for a part of the work: ``share`` of it, from ``start`` on."""
    if progress is None:
        return None
    return lambda fraction: progress(start + share * fraction)
