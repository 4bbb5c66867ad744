"""Which file becomes which, and how a file is written so that it is whole or not there at all."""

from __future__ import annotations

import errno
import os
import select
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import IO

STANDARD = "-"
"""Standard input or output."""
_STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


class PlanError(Exception):
    """The file names on the command line do not fit together."""


_BINARY: int = getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class Refusal:
    """Why a file is not taken."""

    why: str
    is_missed: bool = True
    """Whether that leaves out something that somebody may have counted on."""


Judge = Callable[[str], Refusal | None]
"""Whether a file is taken that lies in a folder, by its lower-case suffix."""

HIDDEN = Refusal("hidden", is_missed=False)
TWICE = Refusal("named before", is_missed=False)
OWN_OUTPUT = Refusal("the folder of the output", is_missed=False)
LINK = Refusal("links to folders are not followed")


@dataclass(frozen=True)
class Job:
    """One file to read and one to make of it, or the reason why that cannot be."""

    source: str
    target: str | None = None
    error: str | None = None
    makes_folder: bool = False
    """Whether the target's folder is made if it is not there."""
    refusal: Refusal | None = None
    """Why there is nothing to make of it."""
    original: str | None = None
    """The file that the source is to be compared with."""
    held: Mapping[str, bytes] | None = None
    """What is in its files that are there, by path, where they have been read already."""


def find(sources: Sequence[str], judge: Judge, *, recursive: bool) -> list[Job]:
    """A job without a target for each input file.

    A folder stands for all the files below it, sorted, those that ``judge`` refuses as jobs that
    say why.
    """
    found = [place for source in sources for place in _find(source, judge, recursive, None)]
    return [place.job for place in _once(found)]


def plan(
    sources: Sequence[str],
    output: str | None,
    suffix: str | Callable[[str], str],
    judge: Judge,
    *,
    recursive: bool,
    listed: Sequence[str] = (),
) -> list[Job]:
    """Pair each input file, as in `find`, with its output file.

    Outputs are named after the inputs, with ``suffix`` (or what that says of an input) in place of
    one that ``judge`` takes, and lie next to them; or all in the folder ``output``, those from an
    input folder as they lie in that, and ``listed`` files as they are named; or ``output`` is the
    file to make of a single input. Inputs whose outputs would have the same name keep their own
    suffixes besides. Raises PlanError if several inputs are to become one file.
    """
    to_folder = output is not None and (output.endswith(os.sep) or os.path.isdir(output))
    several = len(sources) + len(listed) > 1 or any(
        recursive and os.path.isdir(source) for source in (*sources, *listed)
    )
    if output in _STANDARD_OUTPUT:
        output = STANDARD
    prune = output if to_folder or (several and output is not None) else None
    found = [place for source in sources for place in _find(source, judge, recursive, prune)]
    for source in listed:
        found += [
            replace(one, name=os.path.join(place(source), one.name))
            for one in _find(source, judge, recursive, prune)
        ]
    found = _once(found)
    if output == STANDARD or (output is None and [*sources, *listed] == [STANDARD]):
        if several:
            raise PlanError("only one image can go to standard output")
        return [replace(place.job, target=STANDARD) for place in found]
    if output is None:
        if STANDARD in sources:
            raise PlanError(
                "standard input needs an output file: -o FILE, or -o - for standard output"
            )
        beside = [replace(place, name=place.job.source) for place in found]
        return _named(beside, suffix, judge, None)
    if several or to_folder:
        if os.path.exists(output) and not os.path.isdir(output):
            raise PlanError(f"{output} is a file; several inputs need a folder to go to")
        return _named(found, suffix, judge, output)
    return [replace(place.job, target=output) for place in found]


def place(listed: str) -> str:
    """The folder below that of the outputs where what becomes of a listed file goes."""
    _, _, path = listed.rpartition("://")
    kept = os.path.normpath(path).lstrip(os.sep)
    return "" if kept.startswith(os.pardir + os.sep) else os.path.dirname(kept)


@dataclass(frozen=True)
class _Place:
    """A file that was found, and its path below the folder that was asked for."""

    job: Job
    name: str

    @property
    def is_to_do(self) -> bool:
        """Whether anything is to become of it."""
        return not self.job.error and self.job.refusal is None


def _once(places: Sequence[_Place]) -> list[_Place]:
    """Places, those of files that had one before as such."""
    first = {place.job.source: place for place in reversed(places)}
    return [
        place if place is first[place.job.source] or place.job.source == STANDARD
        else replace(place, job=replace(place.job, refusal=TWICE))
        for place in places
    ]  # fmt: skip


def _named(
    places: Sequence[_Place],
    suffix: str | Callable[[str], str],
    judge: Judge,
    folder: str | None,
) -> list[Job]:
    """Jobs with targets in a folder, or each beside its source; no two have the same."""

    ending_of = suffix if callable(suffix) else lambda _source: suffix
    suffixes = [ending_of(place.job.source) if place.is_to_do else "" for place in places]
    names = [
        suffixed(stem(place.name, judge), ending)
        for place, ending in zip(places, suffixes, strict=True)
    ]
    wanted = Counter(n for n, place in zip(names, places, strict=True) if place.is_to_do)
    jobs: list[Job] = []
    taken: dict[str, str] = {}  # target -> source
    for place, name, ending in zip(places, names, suffixes, strict=True):
        job = place.job
        if place.is_to_do and not os.path.basename(place.name):
            job = replace(job, error="this is not the name of a file")
        elif place.is_to_do:
            name = name if wanted[name] == 1 else place.name + ending
            target = os.path.join(folder or "", name)
            other = taken.get(os.path.realpath(target))
            if other is None:
                taken[os.path.realpath(target)] = job.source
                job = replace(job, target=target, makes_folder=folder is not None)
            else:
                error = f"it would become {target}, and so does {other}; name it with -o"
                job = replace(job, error=error)
        jobs.append(job)
    return jobs


def stem(name: str, judge: Judge) -> str:
    """A name without the suffix of what ``judge`` takes."""
    shorter, ending = os.path.splitext(name)
    return shorter if judge(ending.lower()) is None else name


def suffixed(stem: str, suffix: str) -> str:
    """A name with a suffix, which it may have already."""
    return stem if stem.lower().endswith(suffix.lower()) else stem + suffix


def _find(source: str, judge: Judge, recursive: bool, output: str | None) -> Iterator[_Place]:
    """All the files that a source stands for, but for those in the folder ``output``."""
    name = "stdin" if source == STANDARD else os.path.basename(source)
    if source == STANDARD or not os.path.isdir(source):
        yield _Place(Job(source), name)
        return
    if not recursive:
        yield _Place(Job(source, error="it is a folder; add --recursive"), name)
        return
    unreadable: list[OSError] = []
    empty = True
    for folder, folders, names in os.walk(source, onerror=unreadable.append):
        inner: list[str] = []
        for name in sorted(folders):
            path = os.path.join(folder, name)
            job = Job(path)
            if name.startswith("."):
                job = replace(job, refusal=HIDDEN)
            elif output is not None and os.path.realpath(path) == os.path.realpath(output):
                job = replace(job, refusal=OWN_OUTPUT)
            elif os.path.islink(path):
                job = replace(job, refusal=LINK)
            else:
                inner.append(name)
                continue
            yield _Place(job, os.path.relpath(path, source))
        folders[:] = inner
        for name in sorted(names):
            path = os.path.join(folder, name)
            job = _judged(path, name, judge)
            empty = empty and job.refusal is not None
            yield _Place(job, os.path.relpath(path, source))
    for trouble in unreadable:
        path = os.fspath(trouble.filename)
        job = Job(path, error=f"the folder cannot be read: {trouble.strerror}")
        yield _Place(job, os.path.relpath(path, source))
    if empty and not unreadable:
        yield _Place(Job(source, error="there is nothing to do in this folder"), source)


def _judged(path: str, name: str, judge: Judge) -> Job:
    """The job of a file in a folder."""
    refusal = HIDDEN if name.startswith(".") else judge(os.path.splitext(name)[1].lower())
    special = refusal is None and os.path.exists(path) and not _is_regular(path)
    error = "it is not a regular file; name it to read it" if special else None
    return Job(path, error=error, refusal=refusal)


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


def size(source: str) -> int:
    """The bytes of a file, or 0 if that cannot be known."""
    try:
        return os.stat(source).st_size
    except (OSError, ValueError):
        return 0


def content(job: Job, path: str) -> bytes:
    """What is in one of a job's files. Raises OSError."""
    return read(path) if job.held is None else job.held[path]


def existing(job: Job) -> bytes | None:
    """What lies where a job's output is to be, if anything does. Raises OSError."""
    if job.target in (None, STANDARD):
        return None
    if job.held is not None:
        return job.held.get(job.target)
    return read(job.target) if os.path.isfile(job.target) else None


def start(source: str, count: int) -> bytes:
    """The first bytes of a regular file; of any other none, since they could be read only once."""
    if not _is_regular(source):
        return b""
    with open(source, "rb") as stream:
        return stream.read(count)


def write(
    target: str, data: bytes, *, force: bool, makes_folder: bool = False, like: str | None = None
) -> None:
    """Put ``data`` under the target's name at once: nobody ever sees a part of it there.

    It is written to ``.NAME.XXXXXXXX.part`` in the same folder, which is then renamed. Only a kill
    in between leaves that file behind. It gets the mode and the time of the file ``like``. Raises
    OSError, FileExistsError without ``force``.
    """
    if makes_folder:
        os.makedirs(os.path.dirname(target) or os.curdir, exist_ok=True)
    if os.path.exists(target) and not _is_regular(target):
        with open(target, "wb") as stream:  # a device or a pipe cannot be replaced
            stream.write(data)
        return
    model = os.stat(like) if like is not None and _is_regular(like) else None
    mode = 0o666 if model is None else stat.S_IMODE(model.st_mode) & 0o777
    target = os.path.realpath(target)  # through links, so that a link stays one
    folder, name = os.path.split(target)
    partial = os.path.join(folder, f".{name[:50]}.{os.urandom(4).hex()}.part")
    try:
        # Inside of the try: Ctrl-C may strike as soon as the file is there. Unlike tempfile's, it
        # gets the permissions that the umask gives to any new file.
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, mode)
        with open(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        if model is not None:
            with suppress(OSError):  # not every file system has them
                os.chmod(partial, mode)
                os.utime(partial, ns=(model.st_atime_ns, model.st_mtime_ns))
        if os.path.exists(target) and not force:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.replace(partial, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
        raise


def replaced(source: str, target: str, data: bytes) -> None:
    """Remove a source of which the target was made, if that is on the disk just as it was written.

    Raises OSError if it is not, or if the source cannot be removed.
    """
    if not _is_regular(target) or read(target) != data:
        raise OSError(errno.EIO, "what was written does not come back", target)
    os.unlink(source)


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
