"""Everything that can go wrong for a user, as types; ``str(error)`` is one clear sentence.

The command line prints that sentence and nothing else, so it says what is wrong, with which thing,
and where possible what to do. A bug of ours is never one of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class PixelzipError(Exception):
    """Base of all errors that pixelzip raises on purpose."""

    file: int | None = None
    """Which it is about, of several that are dealt with together."""


class FormatError(PixelzipError):
    """The bytes are not a .pxz file, or a damaged, truncated or hostile one."""


class TruncatedError(FormatError):
    """The bytes end before what they begin does."""


class UnknownNetworkError(PixelzipError):
    """The file was coded with a network that is not at hand."""


class NetworkFileError(PixelzipError):
    """The file of a frozen network is damaged or hostile."""


class UnsuitableNetworkError(PixelzipError):
    """The network cannot do what was asked of it: it has no such class, or codes no such pixels."""


class MissingLibraryError(PixelzipError):
    """The file needs compiled code that this installation does not have."""


class DeviceError(PixelzipError):
    """The device that was asked for is not in this machine, or does not compute exactly."""


class UnsupportedImageError(PixelzipError):
    """The image holds something that cannot be kept: floats, channels that are no colours..."""


class NotAnImageError(UnsupportedImageError, TypeError):
    """What was given is of a type that holds no image."""


class NotAFileError(FormatError, TypeError):
    """What was given is of a type that holds no .pxz file: neither bytes nor a path."""


class OptionError(PixelzipError, ValueError):
    """An option has a value that means nothing."""


class TrainingError(PixelzipError):
    """Training cannot begin or go on: no images, or a checkpoint of something else."""


class LimitError(PixelzipError):
    """The image is larger than the declared limit."""


class RegionError(PixelzipError):
    """The region that was asked for does not lie within the image."""


class UncachedWarning(RuntimeWarning):
    """Compiled code could not be kept for the next process. Nothing else comes of it."""


@contextmanager
def of_file(number: int) -> Iterator[None]:
    """Say in an error which of several files it is about."""
    try:
        yield
    except PixelzipError as error:
        error.file = number
        raise
