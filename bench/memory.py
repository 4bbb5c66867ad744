"""Peak memory of a piece of work in a process of its own, the processes that it starts included.

A benchmark that has loaded PyTorch and a dataset cannot tell how much of its memory a codec needs,
so the work is done again in a fresh process and watched from here. A page that several processes
share counts once: what is private to each is added up, and of what they share the largest part is
taken.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pixelzip.codec.errors import PixelzipError

INTERVAL = 0.02
"""Seconds between looks: a peak that is shorter can be missed."""
_PROCESSES = Path("/proc")


class EndedError(PixelzipError):
    """The work was not done: its process has ended."""


def watch(work: Callable[..., Any], *arguments: object) -> tuple[Any, float | None]:
    """What ``work(*arguments)`` returns in a fresh process, and its peak memory in megabytes.

    Function, arguments and result have to be picklable. The memory is None where there is no
    Linux ``/proc`` to read it from. Raises EndedError if the process ends before it is done.
    """
    peak = 0

    def look(pid: int | None) -> None:
        nonlocal peak
        peak = max(peak, _memory(pid))

    result = _apart(work, arguments, look)
    return result, peak / 1e6 if peak else None


def alone(work: Callable[..., Any], *arguments: object) -> Any:
    """The same, but nobody looks at its memory: that takes a fortieth of a core."""
    return _apart(work, arguments, None)


def _apart(
    work: Callable[..., Any], arguments: Sequence[object], look: Callable[[int | None], None] | None
) -> Any:
    """What it returns in a fresh process, at which one may have a look now and then."""
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_do, args=(sending, work, arguments))
    process.start()
    sending.close()
    try:
        while not receiving.poll(INTERVAL if look else None):
            if look:
                look(process.pid)
        return receiving.recv()
    except EOFError as error:
        raise EndedError(
            "a process that was measured has ended early, perhaps for want of memory"
        ) from error
    finally:
        process.kill()
        process.join()
        receiving.close()


def _do(sending: Any, work: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    result = work(*arguments)
    time.sleep(2 * INTERVAL)  # so that what was reached last is seen, too
    sending.send(result)


def _memory(pid: int | None) -> int:
    """Bytes of a process and all its descendants; 0 if the system does not tell."""
    private, shared = 0, 0
    for each in _family(str(pid)):
        with suppress(OSError):  # it has just ended
            sizes = _rollup(each)
            private += sizes["Private_Clean"] + sizes["Private_Dirty"]
            shared = max(shared, sizes["Shared_Clean"] + sizes["Shared_Dirty"])
    return private + shared


def _family(pid: str) -> Iterator[str]:
    yield pid
    with suppress(OSError):
        for listed in (_PROCESSES / pid / "task").glob("*/children"):
            for child in listed.read_text("ascii").split():
                yield from _family(child)


def _rollup(pid: str) -> dict[str, int]:
    """The sums over all mappings of a process, in bytes."""
    lines = (_PROCESSES / pid / "smaps_rollup").read_text("utf-8").splitlines()[1:]
    return {line.split(":")[0]: 1024 * int(line.split()[1]) for line in lines}
