"""What a run has to do: the files below its places, what becomes of each, and who goes with whom.

The names are those of `pixelzip.files`, which plans what is done without a manifest; but here files
come one by one, and only those of one folder are known together.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from pixelzip import files
from pixelzip.codec.errors import PixelzipError
from pixelzip.files import Judge, Refusal
from pixelzip.fleet import storage
from pixelzip.fleet.storage import Entry, StorageError

MOST_FILES = 256
MOST_BYTES = 2 << 20
"""Of the files of a batch, unless a single one has more."""
MOST_PIXELS = 1 << 20
"""After so many the rest of a batch goes back: some seconds to a minute of one core."""
_TURNS = 4
"""Batches that each worker gets at least, so that they come to an end together."""
_FOR_EACH = 2048
"""Bytes that a file counts at least: opening, reading and writing one takes time, too."""
_START = 16
"""Bytes that say what is in a file."""
_LEAST = 1 << 16
"""Bytes of a batch, if all workers get one: fewer small files do not gain all by company."""


@dataclass(frozen=True)
class Item:
    """A file to do, or why it is not one."""

    source: str
    target: str | None = None
    size: int | None = None
    original: str | None = None
    """The file that the source is to be compared with."""
    stem: str | None = None
    """The target without its suffix, if what is in the source may say another one."""
    error: str = ""
    """Why it can't be done."""
    refusal: Refusal | None = None
    """Why it is none to do."""
    may_exist: bool = False
    """Whether a target that is there may be this run's, and is left alone if it is the same."""
    sums: tuple[str, str] | None = None
    """The checksums of source and target, if all is done but that the source is to be removed."""


Batch = tuple[Item, ...]


@dataclass(frozen=True)
class Rule:
    """Which files of a folder are taken, and what they become."""

    judge: Judge
    suffix: str | None = None
    """That of what is made of each, if anything is."""
    ending: Callable[[bytes], str] | None = None
    """Says another suffix, where what is in the file matters."""


@dataclass(frozen=True)
class Root:
    """A file or a folder that was named."""

    path: str
    place: str = ""
    """The folder below the output in which its files go."""


def find(
    roots: Sequence[Root], output: str | None, rule: Rule, *, recursive: bool = True
) -> Iterator[Item]:
    """The files of all roots, folders' files folder by folder, sorted.

    Each becomes a file of its name at its place below the folder ``output``, those of one folder
    that would become the same one with their own suffixes besides; or what a single one becomes is
    ``output``. Raises StorageError if there is no single root, or if its place is away for too
    long.
    """
    if len(roots) != 1:
        yield from _apart(_several(roots, output, rule, recursive=recursive))
        return
    (root,) = roots
    start = look(root.path)
    if start is None:
        raise StorageError(f"there is no {root.path}")
    if start.is_folder:
        yield from _below(root.path, _place(output, root), rule)
    elif output is None or _is_folder(output):
        yield from _files([replace(start, name=root.path)], "", _place(output, root), rule)
    else:
        yield _unless_itself(Item(root.path, output, start.size))


def pairs(source: str, against: str, rule: Rule, rule_against: Rule) -> Iterator[Item]:
    """The files of a folder, each with that one of another folder of which it would be made.

    Whatever has no partner is an error. Or two files. Raises StorageError as `find`.
    """
    start = look(source)
    if start is None or look(against) is None:
        raise StorageError(f"there is no {against if start else source}")
    if not start.is_folder:
        yield Item(source, size=start.size, original=against)
        return
    folders = [(source, against)]
    while folders:
        here, there = folders.pop()
        mine, inner = _in_folder(here, None, rule, is_there=here == source)
        theirs, others = _in_folder(there, here, rule_against, is_there=there == against)
        planned = list(theirs)
        lone = {item.target: item for item in planned if item.target is not None}
        for item in mine:
            partner = lone.pop(item.source, None)
            yield item if partner is None else replace(item, original=partner.source)
        for item in planned:
            if item.target is None:
                yield item
            elif item.target in lone:
                yield replace(item, target=None, error=f"there is no {item.target} of it")
        for name in sorted({*inner, *others}, reverse=True):
            folders.append((storage.join(here, name), storage.join(there, name)))


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


def _is_folder(output: str) -> bool:
    """Whether what is made goes into it, and is not to be it."""
    there = look(output)
    return output.endswith("/") or (there is not None and there.is_folder)


def _several(
    roots: Sequence[Root], output: str | None, rule: Rule, *, recursive: bool
) -> Iterator[Item]:
    """The files of all roots, those that are files first: all of their names are known."""
    named: dict[str, list[Entry]] = {}
    folders = []
    for root in roots:
        # To ask a store about every name of a list would take longer than to do small files.
        is_known = storage.is_url(root.path) and not root.path.endswith("/")
        start = Entry(root.path) if is_known else look(root.path)
        if start is None:
            yield Item(root.path, error=os.strerror(errno.ENOENT))
        elif start.is_folder and not recursive:
            yield Item(root.path, error="it is a folder; add --recursive")
        elif start.is_folder:
            folders.append(root)
        else:
            named.setdefault(root.place, []).append(replace(start, name=root.path))
    for place, entries in named.items():
        yield from _files(entries, "", _place(output, Root("", place)), rule)
    for root in folders:
        yield from _below(root.path, _place(output, root), rule)


def _place(output: str | None, root: Root) -> str | None:
    return storage.join(output, root.place) if output and root.place else output


def _apart(items: Iterable[Item]) -> Iterator[Item]:
    """Items of several roots, each file once, and none that becomes what another one does."""
    sources, targets = set[str](), dict[str, str]()
    for item in items:
        if item.source in sources:
            continue
        sources.add(item.source)
        key = item.stem or item.target
        other = item.source if key is None else targets.setdefault(key, item.source)
        yield item if other == item.source else _second(item, other)


def _second(item: Item, other: str) -> Item:
    error = f"it would become {item.target}, and so does {other}; name it with -o"
    return replace(item, target=None, stem=None, error=error)


def _below(source: str, output: str | None, rule: Rule) -> Iterator[Item]:
    """The files below a folder."""
    folders = [(source, output)]
    while folders:
        folder, target = folders.pop()
        items, inner = _in_folder(folder, target, rule)
        yield from items
        for name in reversed(inner):
            path = storage.join(folder, name)
            if output is not None and _is_same(path, output):
                yield Item(path, refusal=files.OWN_OUTPUT)
            else:
                folders.append((path, target and storage.join(target, name)))


def _in_folder(
    folder: str, target: str | None, rule: Rule, *, is_there: bool = True
) -> tuple[Iterator[Item], list[str]]:
    """The items of a folder's files, and the names of the folders in it."""
    try:
        found = storage.patiently(partial(storage.of(folder).entries, folder))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not is_there:
            return iter(()), []
        reason = f"the folder cannot be read: {storage.sentence(error)}"
        return iter([Item(folder, error=reason)]), []
    hidden = [entry for entry in found if entry.is_folder and entry.name.startswith(".")]
    entries = [entry for entry in found if not entry.is_folder] + hidden
    inner = [e.name for e in found if e.is_folder and not e.name.startswith(".")]
    return _files(entries, folder, target, rule), inner


def _files(entries: Sequence[Entry], folder: str, target: str | None, rule: Rule) -> Iterator[Item]:
    """The items of files that become files of one folder; without a ``folder`` they are named."""
    named = not folder
    sources = [e.name if named else storage.join(folder, e.name) for e in entries]
    refusals = [None if named else _refusal(entry, rule.judge) for entry in entries]
    stems = {
        source: files.stem(os.path.basename(source), rule.judge)
        for source, refusal in zip(sources, refusals, strict=True)
        if refusal is None
    }
    known = _endings(stems, rule)
    short = {
        source: files.suffixed(stem, known.get(source, rule.suffix or ""))
        for source, stem in stems.items()
    }
    wanted = Counter(short.values())
    taken: dict[str, str] = {}
    for entry, source, refusal in zip(entries, sources, refusals, strict=True):
        item = Item(source, size=entry.size)
        if refusal is not None:
            yield replace(item, refusal=refusal)
        elif entry.error and not named:
            yield replace(item, error=entry.error)
        elif target is None or rule.suffix is None:
            yield item
        else:
            is_alone = wanted[short[source]] == 1
            stem = storage.join(target, stems[source] if is_alone else os.path.basename(source))
            whole = files.suffixed(stem, known.get(source, rule.suffix))
            is_open = rule.ending is not None and source not in known
            item = replace(item, target=whole, stem=stem if is_open else None)
            other = taken.setdefault(whole, item.source)
            yield _unless_itself(item) if other == item.source else _second(item, other)


def _endings(stems: Mapping[str, str], rule: Rule) -> dict[str, str]:
    """The suffixes that files say themselves, of those whose names depend on it.

    Of ``x.pxz`` and ``x.jpg.pxz``: both may become ``x.jpg``.
    """
    if rule.ending is None:
        return {}
    all_stems = set(stems.values())
    extended = {os.path.splitext(stem)[0] for stem in all_stems if os.path.splitext(stem)[1]}
    known = {}
    for source, stem in stems.items():
        bare, suffix = os.path.splitext(stem)
        if (suffix and bare in all_stems) or stem in extended:
            try:
                data = storage.patiently(partial(storage.of(source).start, source, _START))
            except OSError:
                data = b""  # its worker will say
            known[source] = rule.ending(data)
    return known


def _refusal(entry: Entry, judge: Judge) -> Refusal | None:
    if entry.name.startswith("."):
        return files.HIDDEN
    return entry.refusal or judge(os.path.splitext(entry.name)[1].lower())


def _unless_itself(item: Item) -> Item:
    if item.target is None or not _is_same(item.source, item.target):
        return item
    error = "the output would be the input itself; give another name with -o"
    return replace(item, target=None, stem=None, error=error)


def _is_same(one: str, other: str) -> bool:
    if storage.is_url(one) or storage.is_url(other):
        return one.rstrip("/") == other.rstrip("/")
    return os.path.realpath(one) == os.path.realpath(other)


def batches(items: Iterable[Item], lots: Callable[[], int]) -> Iterator[Batch]:
    """Items that are worked on together, in order.

    No batch is larger than the limits say, and where there are few items, all of ``lots()`` workers
    get some. How many pixels are in a file is not known here, but by its worker.
    """
    left = iter(items)
    while window := list(islice(left, lots() * MOST_FILES)):
        each = sum(map(_weight, window)) // lots()
        share = min(MOST_BYTES, max(each // _TURNS, min(each, _LEAST)))
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


def pieces(items: Sequence[Item], count: int) -> list[Batch]:
    """Items in batches of at most ``count``."""
    return [tuple(items[at : at + count]) for at in range(0, len(items), count)]


def halves(batch: Batch) -> list[Batch]:
    """A batch in two, to find out which part of it does harm."""
    return pieces(batch, (len(batch) + 1) // 2)
