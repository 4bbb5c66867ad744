"""Work for the tests of runs that takes no time. Workers import it, so it imports little."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from pixelzip import batch
from pixelzip.batch import Alone, Done, Fraction, Report
from pixelzip.files import Job, existing


def double(job: Job, _progress: Fraction | None = None) -> Done:
    """Work that takes no time: each file becomes itself twice, and has the pixels that it says."""
    data = batch.read(job)
    if data == b"damaged":
        return Done(error="it is damaged")
    if data == b"faulty":
        raise ZeroDivisionError("no one thought of that")
    if existing(job) == 2 * data:
        return Done(unneeded="there already")
    pixels = int(data) if data.isdigit() else 1
    report = Report(job.source, job.target, pixels, 1, "L", len(data), None, 8.0, 0.0, ("none",))
    may_replace = existing(job) is not None
    return Done(report, data=2 * data, may_replace=may_replace, may_remove=data != b"odd")


def deadly(job: Job, _progress: Fraction | None = None) -> Done:
    """The same, but some files kill who works on them; one of them only the first."""
    once = Path(job.source).with_suffix(".once")
    data = batch.read(job)
    if data == b"deadly" or (data == b"deadly once" and not once.exists()):
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return double(job)


DOUBLE, DEADLY = Alone(double), Alone(deadly)
