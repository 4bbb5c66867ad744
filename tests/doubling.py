"""Work for the tests of runs that takes no time. Workers import it, so it imports little."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from pixelzip.batch import Done, Report
from pixelzip.files import Job


def double(job: Job) -> Done:
    """Work that takes no time: each file becomes itself twice."""
    assert job.data is not None
    if job.data == b"damaged":
        return Done(error="it is damaged")
    if job.data == b"faulty":
        raise ZeroDivisionError("no one thought of that")
    report = Report(job.source, job.target, 1, 1, "L", len(job.data), None, 8.0, 0.0, ("none",))
    return Done(report, data=2 * job.data)


def deadly(job: Job) -> Done:
    """The same, but some files kill who works on them; one of them only the first."""
    assert job.data is not None
    once = Path(job.source).with_suffix(".once")
    if job.data == b"deadly" or (job.data == b"deadly once" and not once.exists()):
        once.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return double(job)
