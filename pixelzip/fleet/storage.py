"""Where files lie: folders of this machine, and whatever fsspec knows by a URL.

Paths are as people write them: ``s3://bucket/in/a.png``, ``hdfs://host/in``, ``photos/a.png``. The
bytes of a file come and go whole; a file that is being written is never seen half.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeVar

from pixelzip import files
from pixelzip.codec.errors import PixelzipError
from pixelzip.files import Refusal

Result = TypeVar("Result")

PATIENCE = 600.0
"""Seconds that storage may stay away before a run stops."""
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0

_WHOLE_AT_ONCE = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "memory"}
"""The protocols under which a file appears when all of it is there; others are renamed."""

_TRANSIENT = {
    None,  # said by a library, not by this system
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.EIO,
    errno.ENETUNREACH,
    errno.ENOTCONN,
    errno.EPIPE,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
_FINAL = (ImportError, LookupError, NotImplementedError, TypeError, ValueError)
_NOWHERE = {errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS}


class StorageError(PixelzipError):
    """Storage is away, or full, or closed to us: no file of the run can go on."""


@dataclass(frozen=True)
class Entry:
    """Something in a folder."""

    name: str
    is_folder: bool = False
    size: int | None = None
    error: str = ""
    """Why it cannot be read, if that is known already."""
    refusal: Refusal | None = None
    """Why it is none to read."""


class Storage(Protocol):
    """One place's way to do it. Each method raises OSError, or what the place's library raises."""

    def entries(self, folder: str) -> list[Entry]:
        """What is in a folder, sorted by name."""

    def stat(self, path: str) -> Entry: ...

    def exists(self, path: str) -> bool: ...

    def read(self, path: str) -> bytes: ...

    def start(self, path: str, count: int) -> bytes:
        """A file's first bytes."""

    def write(self, path: str, data: bytes, like: str | None = None) -> None:
        """Make a file, and the folders above it; one that is there is replaced.

        Between folders of this machine it gets the mode and the time of the file ``like``.
        """

    def remove(self, path: str) -> None:
        """Take a file away."""


class Disk:
    """Folders of this machine."""

    def entries(self, folder: str) -> list[Entry]:
        with os.scandir(folder) as found:
            return sorted(map(self._entry, found), key=lambda entry: entry.name)

    def stat(self, path: str) -> Entry:
        is_folder = os.path.isdir(path)
        return Entry(
            os.path.basename(path), is_folder, None if is_folder else os.stat(path).st_size
        )

    @staticmethod
    def _entry(found: os.DirEntry[str]) -> Entry:
        if found.is_dir():
            # As for `os.walk`: a link to a folder could lead round in circles.
            is_link = found.is_symlink()
            return Entry(found.name, not is_link, refusal=files.LINK if is_link else None)
        try:
            size = found.stat().st_size
        except OSError as error:
            return Entry(found.name, error=error.strerror or str(error))
        special = "" if found.is_file() else "it is not a regular file; name it to read it"
        return Entry(found.name, size=size, error=special)

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def read(self, path: str) -> bytes:
        return files.read(path)

    def start(self, path: str, count: int) -> bytes:
        return files.start(path, count)

    def write(self, path: str, data: bytes, like: str | None = None) -> None:
        like = None if like is None or is_url(like) else like
        files.write(path, data, force=True, makes_folder=True, like=like)

    def remove(self, path: str) -> None:
        os.unlink(path)


_DISK = Disk()


class Remote:
    """A file system of fsspec."""

    def __init__(self, fs: Any, *, whole_at_once: bool) -> None:
        self._fs = fs
        self._whole_at_once = whole_at_once

    def entries(self, folder: str) -> list[Entry]:
        inside = self._strip(folder)
        # An object store may hold an object that stands for the folder itself.
        found = [i for i in self._fs.ls(folder, detail=True) if i["name"].rstrip("/") != inside]
        return sorted(map(self._entry, found), key=lambda entry: entry.name)

    def stat(self, path: str) -> Entry:
        return self._entry(self._fs.info(path))

    @staticmethod
    def _entry(info: dict[str, Any]) -> Entry:
        name = info["name"].rstrip("/").rpartition("/")[2]
        is_folder = info["type"] == "directory"
        return Entry(name, is_folder, None if is_folder else info.get("size"))

    def exists(self, path: str) -> bool:
        try:
            self._fs.info(path)  # and not `exists`, for which a place that is away is empty
        except FileNotFoundError:
            return False
        return True

    def read(self, path: str) -> bytes:
        data: bytes = self._fs.cat_file(path)
        return data

    def start(self, path: str, count: int) -> bytes:
        data: bytes = self._fs.cat_file(path, start=0, end=count)
        return data

    def write(self, path: str, data: bytes, like: str | None = None) -> None:
        if self._whole_at_once:
            self._fs.pipe_file(path, data)
            return
        folder, _, name = path.rpartition("/")
        partial = f"{folder}/.{name[:50]}.{os.urandom(4).hex()}.part"
        self._fs.makedirs(folder, exist_ok=True)
        try:
            self._fs.pipe_file(partial, data)
            if self.exists(path):
                self._fs.rm_file(path)  # not every file system renames over a file
            self._fs.mv(partial, path)
        except BaseException:
            if self.exists(partial):
                self._fs.rm_file(partial)
            raise

    def remove(self, path: str) -> None:
        self._fs.rm_file(path)

    def _strip(self, path: str) -> str:
        stripped: str = self._fs._strip_protocol(path)
        return stripped.rstrip("/")


def is_url(path: str) -> bool:
    """Whether a path names a place of fsspec's."""
    return "://" in path


def of(path: str) -> Storage:
    """The storage of a path. Raises PixelzipError if there is no such kind, or not here."""
    if not is_url(path):
        return _DISK
    protocol, _, rest = path.partition("://")
    return _remote(protocol, rest.partition("/")[0])


@cache
def _remote(protocol: str, host: str) -> Remote:
    """The file system of a protocol, and of a host where that matters."""

    root = f"{protocol}://{host}"
    try:
        import fsspec

        kind = fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        raise PixelzipError(f"{root} wants a package that is not installed: {error}") from error
    except ValueError as error:
        raise PixelzipError(f"{root} is no place that fsspec knows: {error}") from error
    options = kind._get_kwargs_from_urls(root)
    fs = fsspec.filesystem(protocol, use_listings_cache=False, **options)
    return Remote(fs, whole_at_once=protocol in _WHOLE_AT_ONCE)


def join(folder: str, name: str) -> str:
    """The path of something in a folder, spelled as the folder's is."""
    if is_url(folder):
        return folder.rstrip("/") + "/" + name.replace(os.sep, "/")
    return os.path.join(folder, name)


def patiently(
    action: Callable[[], Result],
    *,
    patience: float = PATIENCE,
    sleep: Callable[[float], None] = time.sleep,
) -> Result:
    """What ``action`` gives, which is tried again, ever more rarely, while storage is away.

    Raises StorageError if it is away for longer than ``patience`` seconds; whatever is the file's
    own (it is not there, its name is too long) as it comes.
    """
    begun = time.monotonic()
    for wait in _waits():
        try:
            return action()
        except Exception as error:
            if not is_transient(error):
                raise
            if time.monotonic() - begun + wait > patience:
                raise StorageError(
                    f"storage has not answered for {patience:.0f} seconds: {sentence(error)}"
                ) from error
        sleep(wait)
    raise AssertionError


def _waits() -> Iterator[float]:
    """Twice as long each time, and not all workers at once."""
    wait = _FIRST_WAIT
    while True:
        yield wait * random.uniform(0.5, 1)
        wait = min(2 * wait, _LONGEST_WAIT)


def is_transient(error: Exception) -> bool:
    """Whether the same may go well later."""
    if isinstance(error, OSError):
        return error.errno in _TRANSIENT and not isinstance(
            error,
            FileNotFoundError
            | PermissionError
            | FileExistsError
            | IsADirectoryError
            | NotADirectoryError,
        )
    # Libraries of the network have exceptions of their own for a connection that broke.
    return not isinstance(error, (PixelzipError, MemoryError, AssertionError, *_FINAL))


def is_nowhere(error: OSError) -> bool:
    """Whether, where this could not be written, no other file can."""
    return error.errno in _NOWHERE or isinstance(error, PermissionError)


def sentence(error: Exception) -> str:
    """What went wrong, on one line."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(said.split()) or type(error).__name__
