"""Which file becomes which, and how a file is written so that it is whole or not there at all."""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

STANDARD = "-"
"""Standard input or output."""
_STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


class PlanError(Exception):
    """The file names on the command line do not fit together."""


_BINARY: int = getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class Job:
    """One file to read and one to make of it, or the reason why that cannot be."""

    source: str
    target: str | None = None
    error: str | None = None
    makes_folder: bool = False
    """Whether the target's folder is made if it is not there."""
    data: bytes | None = None
    """What is in the source, where it has been read already."""


def find(sources: Sequence[str], wanted: Callable[[str], bool], *, recursive: bool) -> list[Job]:
    """A job without a target for each input file.

    A folder stands for the files below it whose lower-case suffix is ``wanted``, sorted.
    """
    found = [each for source in sources for each in _find(source, wanted, recursive)]
    return [Job(file, None, error) for file, _, error in found]


def plan(
    sources: Sequence[str],
    output: str | None,
    suffix: str | Callable[[str], str],
    wanted: Callable[[str], bool],
    *,
    recursive: bool,
) -> list[Job]:
    """Pair each input file, as in `find`, with its output file.

    Outputs are named after the inputs, with ``suffix`` (or what that says of an input), and lie
    next to them; or all in the folder ``output``, those from an input folder as they lie in that;
    or ``output`` is the file to make of a single input. Raises PlanError if several inputs are to
    become one file.
    """
    found = [file for source in sources for file in _find(source, wanted, recursive)]
    several = len(sources) > 1 or any(recursive and os.path.isdir(source) for source in sources)
    if output in _STANDARD_OUTPUT:
        output = STANDARD
    if output == STANDARD or (output is None and list(sources) == [STANDARD]):
        if several:
            raise PlanError("only one image can go to standard output")
        return [Job(source, STANDARD, error) for source, _, error in found]
    if output is None:
        if STANDARD in sources:
            raise PlanError(
                "standard input needs an output file: -o FILE, or -o - for standard output"
            )
        jobs = [_named(file, file, suffix, error) for file, _, error in found]
    elif several or output.endswith(os.sep) or os.path.isdir(output):
        if os.path.exists(output) and not os.path.isdir(output):
            raise PlanError(f"{output} is a file; several inputs need a folder to go to")
        jobs = []
        for file, relative, error in found:
            name = "stdin" if file == STANDARD else relative
            jobs.append(_named(file, name, suffix, error, output))
    else:
        jobs = [Job(source, output, error) for source, _, error in found]
    return jobs


def _named(
    file: str,
    name: str,
    suffix: str | Callable[[str], str],
    error: str | None,
    folder: str | None = None,
) -> Job:
    """The job that makes a file of that name and suffix, if it is one that a file can have."""
    if error is not None or not Path(name).name:
        return Job(file, error=error or "this is not the name of a file")
    ending = suffix if isinstance(suffix, str) else suffix(file)
    target = str(Path(folder or "", name).with_suffix(ending))
    return Job(file, target, makes_folder=folder is not None)


def _find(
    source: str, wanted: Callable[[str], bool], recursive: bool
) -> Iterator[tuple[str, str, str | None]]:
    """(file, its path relative to the folder that was asked for, what is wrong)."""
    if source == STANDARD or not os.path.isdir(source):
        yield source, os.path.basename(source), None
        return
    if not recursive:
        yield source, os.path.basename(source), "it is a folder; add --recursive"
        return
    unreadable: list[OSError] = []
    empty = True
    for folder, folders, names in os.walk(source, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if wanted(os.path.splitext(name)[1].lower()) and not name.startswith("."):
                empty = False
                file = os.path.join(folder, name)
                special = os.path.exists(file) and not _is_regular(file)
                error = "it is not a regular file; name it to read it" if special else None
                yield file, os.path.relpath(file, source), error
    for trouble in unreadable:
        name = os.fspath(trouble.filename)
        yield name, os.path.relpath(name, source), f"the folder cannot be read: {trouble.strerror}"
    if empty and not unreadable:
        yield source, os.path.basename(source), "there is nothing to do in this folder"


def take_turns(jobs: Sequence[Job], made: Mapping[str, str]) -> tuple[list[Job], list[Job]]:
    """The jobs to do now, and those that wait because others of ``jobs`` have the same target.

    The first input that can become a file does. ``made`` is what became of which source: whoever
    waited for that has an error.
    """
    now: list[Job] = []
    later: list[Job] = []
    taken = set[str]()
    for job in jobs:
        place = real_target(job)
        if place is None:
            now.append(job)
        elif place in made:
            error = f"it would become {job.target}, and so does {made[place]}; name it with -o"
            now.append(Job(job.source, error=error))
        elif place in taken:
            later.append(job)
        else:
            taken.add(place)
            now.append(job)
    return now, later


def real_target(job: Job) -> str | None:
    """The file that a job makes, by the one name that all who make it know it by."""
    if job.target is None or job.target == STANDARD or job.error is not None:
        return None
    return os.path.realpath(job.target)


def objection(job: Job, *, force: bool) -> str | None:
    """Why the target cannot or must not be written, before any work is done for it."""
    if job.error is not None or job.target is None or job.target == STANDARD:
        return job.error
    folder = os.path.dirname(job.target) or os.curdir
    if os.path.isdir(job.target):
        return f"{job.target} is a folder"
    if os.path.exists(job.target):
        if job.source != STANDARD and _is_same(job.source, job.target):
            return "the output would be the input itself; give another name with -o"
        if _is_regular(job.target) and not force:
            return f"{job.target} exists already; add --force to overwrite it"
        if not _is_regular(job.target):
            return None
    if not os.path.isdir(folder):
        return None if job.makes_folder else f"there is no folder {folder} to write to"
    if not os.access(folder, os.W_OK):
        return f"the folder {folder} cannot be written to"
    return None


def _is_same(source: str, target: str) -> bool:
    return os.path.exists(source) and os.path.samefile(source, target)


def _is_regular(path: str) -> bool:
    return stat.S_ISREG(os.stat(path).st_mode)


def read(source: str) -> bytes:
    """All of a file. Raises OSError, also for a named pipe to which nobody writes."""
    # Waits for no writer, but for all that a writer has to say.
    descriptor = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _BINARY)
    with open(descriptor, "rb") as stream:
        if _is_regular(source):
            return stream.read()
        os.set_blocking(descriptor, True)
        data = stream.read()
    if not data:
        raise OSError(errno.EPIPE, "nobody writes to it")
    return data


def start(source: str, count: int) -> bytes:
    """The first bytes of a regular file; of any other none, since they could be read only once."""
    if not _is_regular(source):
        return b""
    with open(source, "rb") as stream:
        return stream.read(count)


def write(target: str, data: bytes, *, force: bool, makes_folder: bool = False) -> None:
    """Put ``data`` under the target's name at once: nobody ever sees a part of it there.

    It is written to ``.NAME.XXXXXXXX.part`` in the same folder, which is then renamed. Only a kill
    in between leaves that file behind. Raises OSError, FileExistsError without ``force``.
    """
    if makes_folder:
        os.makedirs(os.path.dirname(target) or os.curdir, exist_ok=True)
    if os.path.exists(target) and not _is_regular(target):
        with open(target, "wb") as stream:  # a device or a pipe cannot be replaced
            stream.write(data)
        return
    target = os.path.realpath(target)  # through links, so that a link stays one
    folder, name = os.path.split(target)
    partial = os.path.join(folder, f".{name[:50]}.{os.urandom(4).hex()}.part")
    try:
        # Inside of the try: Ctrl-C may strike as soon as the file is there. Unlike tempfile's, it
        # gets the permissions that the umask gives to any new file.
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if os.path.exists(target) and not force:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.replace(partial, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
        raise


def pour(data: bytes, stream: IO[bytes]) -> None:
    """Write all of ``data`` to a stream, in however many pieces it takes. Raises OSError.

    What lies below a buffer, and all there is of an unbuffered standard output, may take a part of
    what it is given (a full disk, a limit, a signal) and only say how much that was.
    """
    stream.flush()
    raw = getattr(stream, "raw", stream)
    left = memoryview(data)
    while left:
        taken = raw.write(left)
        if taken is None:  # a pipe that does not block, and is full
            select.select([], [raw], [])
        left = left[taken or 0 :]
