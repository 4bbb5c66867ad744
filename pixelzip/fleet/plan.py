"""What a run has to do: the files below a place, what becomes of each, and who goes with whom."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

from pixelzip.codec.errors import PixelzipError
from pixelzip.fleet import storage
from pixelzip.fleet.storage import Entry, StorageError

MOST_FILES = 256
MOST_BYTES = 2 << 20
"""Of the files of a batch, unless a single one has more: some seconds to a minute of one core."""
_TURNS = 4
"""Batches that each worker gets at least, so that they come to an end together."""
_FOR_EACH = 4096
"""Bytes that a file counts at least: opening, reading and writing one takes time, too."""


@dataclass(frozen=True)
class Item:
    """A file to do, or why it is not one."""

    source: str
    target: str | None = None
    size: int | None = None
    may_replace: bool = False
    """Whether a target that is there may be replaced."""
    may_exist: bool = False
    """Whether a target that is there may be this run's, and is left alone if it is the same."""
    is_named: bool = False
    """Whether the target's name was given, suffix and all."""
    error: str = ""
    """Why it can't be done."""
    skipped: str = ""
    """Why it is none to do."""


Batch = tuple[Item, ...]


def find(
    source: str, output: str | None, suffix: str | None, wanted: Callable[[str], bool]
) -> Iterator[Item]:
    """The files below a folder, folder by folder, sorted; or the one file ``source``.

    Each becomes the file of its name, with ``suffix``, at its place below ``output``; those of one
    folder that would become the same one keep their own suffixes besides. A name's lower-case
    suffix says whether it is ``wanted``. Hidden ones are left out, and so is ``output`` itself.

    Raises StorageError if there is no ``source``, or if its place is away for too long.
    """
    start = look(source)
    if start is None:
        raise StorageError(f"there is no {source}")
    if not start.is_folder:
        target = _target(source, output, suffix)
        yield Item(source, target, start.size, is_named=target == output)
        return
    folders = [(source, output)]
    while folders:
        folder, target = folders.pop()
        try:
            found = storage.patiently(partial(storage.of(folder).entries, folder))
        except OSError as error:
            yield Item(folder, error=f"the folder cannot be read: {storage.sentence(error)}")
            continue
        shown = [entry for entry in found if not entry.name.startswith(".")]
        files = [entry for entry in shown if not entry.is_folder]
        yield from _files(files, folder, target, suffix, wanted)
        for entry in reversed([entry for entry in shown if entry.is_folder]):
            inner = storage.join(folder, entry.name)
            if output is None or not _is_same(inner, output):
                folders.append((inner, target and storage.join(target, entry.name)))


def look(path: str) -> Entry | None:
    """What there is, if anything. Raises StorageError if the place cannot be reached."""
    try:
        return storage.of(path).stat(path)
    except FileNotFoundError:
        return None
    except PixelzipError:
        raise
    except Exception as error:  # of whatever library looks after the place
        raise StorageError(f"{path} cannot be read: {storage.sentence(error)}") from error


def _target(source: str, output: str | None, suffix: str | None) -> str | None:
    """What a single file becomes: the file ``output``, or one in it if it is a folder."""
    if output is None or suffix is None:
        return None
    there = look(output)
    if not output.endswith("/") and not (there and there.is_folder):
        return output
    name = os.path.basename(source)
    return storage.join(output, os.path.splitext(name)[0] + suffix)


def _is_same(one: str, other: str) -> bool:
    if storage.is_url(one) or storage.is_url(other):
        return one.rstrip("/") == other.rstrip("/")
    return os.path.realpath(one) == os.path.realpath(other)


def _files(
    entries: Sequence[Entry],
    folder: str,
    target: str | None,
    suffix: str | None,
    wanted: Callable[[str], bool],
) -> Iterator[Item]:
    """The items of one folder's files."""
    taken = [entry for entry in entries if wanted(os.path.splitext(entry.name)[1].lower())]
    stems = Counter(os.path.splitext(entry.name)[0] for entry in taken)
    for entry in entries:
        source = storage.join(folder, entry.name) if folder else entry.name
        stem, ending = os.path.splitext(entry.name)
        if entry.error:
            yield Item(source, size=entry.size, error=entry.error)
        elif not wanted(ending.lower()):
            yield Item(source, size=entry.size, skipped=f"no kind of file that is taken: {ending}")
        elif target is None or suffix is None:
            yield Item(source, size=entry.size)
        else:
            name = (stem if stems[stem] == 1 else entry.name) + suffix
            yield Item(source, storage.join(target, name), entry.size)


def batches(items: Iterable[Item], lots: Callable[[], int]) -> Iterator[Batch]:
    """Items that are worked on together, in order.

    No batch is larger than the limits say, and where there are few items, all of ``lots()`` workers
    get some.
    """
    left = iter(items)
    while window := list(islice(left, lots() * MOST_FILES)):
        share = min(MOST_BYTES, sum(map(_weight, window)) // (lots() * _TURNS))
        batch: list[Item] = []
        weight = 0
        for item in window:
            weight += _weight(item)
            if batch and (weight > share or len(batch) == MOST_FILES):
                yield tuple(batch)
                batch, weight = [], _weight(item)
            batch.append(item)
        yield tuple(batch)


def _weight(item: Item) -> int:
    return max(_FOR_EACH, item.size or 0)


def halves(batch: Batch) -> list[Batch]:
    """A batch in two, to find out which part of it does harm."""
    middle = len(batch) // 2
    return [batch[:middle], batch[middle:]]
