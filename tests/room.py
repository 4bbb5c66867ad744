"""How much memory work takes, of a process of its own and of all that it holds.

As the system counts it, so what libraries take without Python's knowledge counts, too.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

import pytest

Given = ParamSpec("Given")
Result = TypeVar("Result")

_PEAK = Path("/proc/self/clear_refs")
_RESET = "5"


def alone(work: Callable[Given, Result], *arguments: Given.args, **named: Given.kwargs) -> Result:
    """What a function of a module returns in a fresh process, or raises there."""
    if not _PEAK.exists():
        pytest.skip("only Linux says how much memory a process had at most")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments, **named).result()


class Peak:
    """The most memory within a ``with``, beyond what there was before, and its processor time."""

    room = 0
    """Bytes."""
    seconds = 0.0

    def __enter__(self) -> Self:
        gc.collect()
        if trim := getattr(
            ctypes.CDLL(None), "malloc_trim", None
        ):  # what is free is not used again
            trim(0)
        _PEAK.write_text(_RESET)
        self._before, self._began = _status("VmRSS"), time.process_time()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.process_time() - self._began
        self.room = _status("VmHWM") - self._before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))
