"""The manifest: a run's journal, from which it goes on wherever it stopped.

A text file of JSON lines, each of one of these kinds::

    {"run": {"command": "compress", "input": "s3://b/in", ...}, "version": "1.0.0", "at": ...}
    {"begun": ["s3://b/in/1.png", "s3://b/in/2.png"]}
    {"input": "s3://b/in/1.png", "status": "done", "output": "s3://b/out/1.pxz", ...}
    {"removed": ["s3://b/in/1.png"]}
    {"kept": {"s3://b/in/2.png": "it has changed"}}

A line of the first kind each time that the run is started, of the second before a batch is handed
out, of the third (`Record`) when a file is finished. Of several for a file the last one counts. One
of the last two kinds follows if a file's record says that it may be removed. Lines are appended
whole and are on the disk before the run goes on; a last line that a pulled plug has torn is taken
away when the run starts again.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Self

import numpy as np

from pixelzip import batch
from pixelzip.codec.errors import PixelzipError

_START = b'{"run":'
DONE, FAILED, SKIPPED, UNNEEDED = "done", "failed", "skipped", "unneeded"


class ManifestError(PixelzipError):
    """The file is no manifest, a damaged one, one of another run, or in use."""


@dataclass(frozen=True)
class Record:
    """What became of a file: the line of a manifest."""

    input: str
    status: str
    """A `pixelzip.batch.Done.verdict`."""
    output: str | None = None
    bytes_in: int | None = None
    bytes_out: int | None = None
    sha256_in: str | None = None
    """Of the whole file that was read, in hexadecimal."""
    sha256_out: str | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    networks: Sequence[str] = ()
    seconds: float | None = None
    """Of one worker, reading and writing included."""
    notes: Sequence[str] = ()
    not_kept: Sequence[str] = ()
    """What the file held besides, and its output does not."""
    error: str | None = None
    reason: str | None = None
    """Why it was skipped, or needs nothing."""
    is_larger: bool = False
    """Whether a compressed file is larger than what it was made of."""
    may_remove: bool = False
    """Whether it is proven that all of it comes back, and it is to be removed therefore."""
    may_exist: bool = False
    """Whether an output may be there although the file failed: writing it had begun."""
    worker: str | None = None
    """Machine and process."""
    attempts: int = 1
    at: str = field(default_factory=lambda: now())


_RUN: dict[str, Any] = {"run": dict}
_BEGUN: dict[str, Any] = {"begun": list}
_REMOVED: dict[str, Any] = {"removed": list}
_KEPT: dict[str, Any] = {"kept": dict}
_TYPES: dict[str, Any] = {
    **dict.fromkeys(("input", "status", "output", "mode", "error", "reason", "worker", "at"), str),
    **dict.fromkeys(("sha256_in", "sha256_out"), str),
    **dict.fromkeys(("bytes_in", "bytes_out", "width", "height", "attempts"), int),
    **dict.fromkeys(("networks", "notes", "not_kept"), list),
    "seconds": int | float,
    **dict.fromkeys(("is_larger", "may_remove", "may_exist"), bool),
}
"""Of a record's values in a line; those that are None are left out."""


def now() -> str:
    """The time in UTC, to the second, as ISO 8601 writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class Totals(batch.Totals):
    """Sums over a manifest's files."""

    pixels: int = 0
    worker_seconds: float = 0.0
    """Of all workers together."""

    def count(self, record: Record) -> None:
        """Count a file in."""
        self.files += 1
        self.verdicts[record.status] += 1
        match record.status:
            case "skipped":
                self.skipped[record.reason or ""] += 1
            case "unneeded":
                self.unneeded[record.reason or ""] += 1
            case "done":
                self.not_kept.update(record.not_kept)
                self.larger += record.is_larger
                self.bytes_in += record.bytes_in or 0
                self.bytes_out += record.bytes_out or 0
                self.pixels += (record.width or 0) * (record.height or 0)
                self.worker_seconds += record.seconds or 0.0

    def uncount_failure(self) -> None:
        """A file that had failed is no more counted as such."""
        self.files -= 1
        self.verdicts[FAILED] -= 1
        self.verdicts += Counter()  # without zeros


class Past:
    """What a manifest says of each file; 16 bytes of memory for each that is settled."""

    def __init__(self, lines: Iterable[Mapping[str, Any]] = ()) -> None:
        self.totals = Totals()
        self.failures: dict[str, Record] = {}
        self.to_remove: dict[str, Record] = {}
        """Those whose source is to be removed, and nothing says yet that it is."""
        self.runs: list[Mapping[str, Any]] = []
        self._started: set[str] = set()  # and not finished, or failed with a target that may exist
        settled = bytearray()
        for line in lines:
            if "run" in line:
                self.runs.append(line["run"])
            elif "begun" in line:
                self._started.update(line["begun"])
            elif "removed" in line:
                self.removed(line["removed"])
            elif "kept" in line:
                self.kept(line["kept"])
            else:
                record = Record(**line)
                self.add(record)
                if record.status != FAILED:
                    settled += _digest(record.input)
        self._settled = np.sort(np.frombuffer(bytes(settled), "S16"))

    def add(self, record: Record) -> None:
        """Count one more file in, or in another way."""
        if self.failures.pop(record.input, None) is not None:
            self.totals.uncount_failure()
        self.totals.count(record)
        if record.status == FAILED:
            self.failures[record.input] = record
        if record.may_remove:
            self.to_remove[record.input] = record
        if not record.may_exist:
            self._started.discard(record.input)

    def removed(self, sources: Iterable[str]) -> None:
        """Count files as removed."""
        for source in sources:
            self.totals.removed += self.to_remove.pop(source, None) is not None

    def kept(self, sources: Iterable[str]) -> None:
        """Files that were to be removed, and are not."""
        for source in sources:
            self.to_remove.pop(source, None)

    @property
    def unfinished(self) -> int:
        """How many files were begun, and nothing is said of their end."""
        return len(self._started - self.failures.keys())

    def is_settled(self, source: str) -> bool:
        """Whether the file is done, or there was nothing to do."""
        digest = _digest(source)
        place = int(np.searchsorted(self._settled, np.bytes_(digest)))
        # numpy drops zeros at the end, in both.
        return place < len(self._settled) and self._settled[place] == digest.rstrip(b"\0")

    def may_have_left(self, source: str) -> bool:
        """Whether this run may have written the file's target without saying so."""
        return source in self._started


def _digest(source: str) -> bytes:
    return blake2b(source.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def read(path: str) -> Iterator[dict[str, Any]]:
    """A manifest's lines, but for a last one that is torn. Raises ManifestError, OSError."""
    with open(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            if number == 1 and line[: len(_START)] != _START[: len(line)]:
                raise ManifestError(f"{path} is no manifest")  # nor is its last line a torn one
            if line.endswith(b"\n"):
                yield _parse(line, f"{path}, line {number}")


def _parse(line: bytes, place: str) -> dict[str, Any]:
    """What is known of a line, each value of the type that it should have."""
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{place} is not a manifest's") from error
    kinds = (_RUN, _BEGUN, _REMOVED, _KEPT, _TYPES)
    for kind in kinds if isinstance(parsed, dict) else ():
        known = {key: parsed[key] for key in parsed.keys() & kind.keys()}
        if known and _is_sound(known, kind):
            return known
    raise ManifestError(f"{place} is not a manifest's")


def _is_sound(line: Mapping[str, Any], kind: Mapping[str, Any]) -> bool:
    if not all(isinstance(value, kind[key]) for key, value in line.items()):
        return False
    lists = ("begun", "removed", "kept", "networks", "notes", "not_kept")
    texts = [text for key in lists for text in line.get(key, ())]
    states = (DONE, FAILED, SKIPPED, UNNEEDED)
    whole = kind is not _TYPES or ("input" in line and line.get("status") in states)
    return whole and all(isinstance(text, str) for text in texts)


class Manifest:
    """An open manifest that a run writes to; a context manager. ``past`` is what it says.

    Raises ManifestError if the file is another run's, or another process writes to it.
    """

    def __init__(self, path: str, run: Mapping[str, Any], version: str) -> None:
        self.path = path
        run = json.loads(json.dumps(run))  # as it will come back
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            self._lock()
            self.past = Past(read(path))
            for earlier in self.past.runs:
                if earlier != run:
                    differ = sorted(k for k in {*earlier, *run} if earlier.get(k) != run.get(k))
                    raise ManifestError(
                        f"{path} is the manifest of another run ({', '.join(differ)} differ); "
                        "name another one with --manifest"
                    )
            self._drop_torn_line()
            self._append([{"run": run, "version": version, "at": now()}])
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def begin(self, sources: Sequence[str]) -> None:
        """Note that these are about to be worked on."""
        self._append([{"begun": list(sources)}])

    def finish(self, records: Iterable[Record]) -> None:
        """Note what became of these."""
        records = list(records)
        self._append([without_defaults(record) for record in records])
        for record in records:
            self.past.add(record)

    def removed(self, sources: Sequence[str]) -> None:
        """Note that these are no more."""
        if sources:
            self._append([{"removed": list(sources)}])
            self.past.removed(sources)

    def kept(self, reasons: Mapping[str, str]) -> None:
        """Note that these stay, and why."""
        if reasons:
            self._append([{"kept": dict(reasons)}])
            self.past.kept(reasons)

    def _append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        if not lines:
            return
        left = memoryview(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
            os.fsync(self._descriptor)
        except OSError as error:
            error.filename = self.path
            raise

    def _lock(self) -> None:
        """For as long as the file is open. Where there are no locks, people take care."""
        with suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ManifestError(f"another run writes to {self.path} just now") from error
            except OSError:  # not on this file system
                pass

    def _drop_torn_line(self) -> None:
        size = os.fstat(self._descriptor).st_size
        whole, step = size, 1 << 16
        with open(self.path, "rb") as stream:
            while whole:
                start = max(0, whole - step)
                stream.seek(start)
                end = stream.read(whole - start).rfind(b"\n")
                if end >= 0:
                    whole = start + end + 1
                    break
                whole = start
        if whole < size:
            os.ftruncate(self._descriptor, whole)


def without_defaults(record: Record) -> dict[str, Any]:
    """A record as JSON. A billion lines need not say what goes without saying."""
    default = asdict(Record("", "", at=""))
    keep = ("input", "status", "at")
    return {k: v for k, v in asdict(record).items() if k in keep or v != default[k]}
