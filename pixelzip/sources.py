"""Whatever holds a picture or a ``.pxz`` file, taken apart: paths, bytes, arrays, tensors."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelzip import pictures
from pixelzip.codec.errors import (
    NotAFileError,
    NotAnImageError,
    OptionError,
    PixelzipError,
    UnsupportedImageError,
)
from pixelzip.codec.picture import Picture

DataLike = bytes | bytearray | memoryview | str | os.PathLike[str]
ImageLike = Image.Image | NDArray[Any] | DataLike


def to_picture(image: ImageLike, *, strip: bool = False) -> Picture:
    """The picture in whatever holds one. Errors of a file name it."""
    if isinstance(image, Image.Image):
        return pictures.from_pillow(image, strip=strip)
    if isinstance(image, np.ndarray):
        return pictures.from_array(image)
    if type(image).__module__ == "torch":
        return pictures.from_array(_of_tensor(image))
    if not isinstance(image, str | os.PathLike | bytes | bytearray | memoryview):
        raise NotAnImageError(
            f"{type(image).__name__} is no image: give a path, a Pillow image, an array of "
            "(height, width) or (height, width, channels), or a tensor of (channels, height, width)"
        )
    with named(image):
        return pictures.read(bytes_of(image), strip=strip)


def to_pictures(image: ImageLike, *, strip: bool = False) -> list[Picture]:
    """As `to_picture`, of a TIFF file whose pages are not alike a picture of each.

    Errors of a file do not name it.
    """
    if isinstance(image, str | os.PathLike | bytes | bytearray | memoryview):
        return pictures.read_pages(bytes_of(image), strip=strip)
    return [to_picture(image, strip=strip)]


def holds_jpeg(data: DataLike) -> bool:
    """Whether a ``.pxz`` file holds a JPEG file, which `original` gives back, and not a picture."""
    from pixelzip.codec.jpeg import file

    with opened(data) as stream:
        return file.holds_jpeg(stream.read(3))


def jpeg_of(image: ImageLike) -> bytes | None:
    """The bytes of a JPEG file, if that is what this is."""
    from pixelzip.codec.jpeg import file

    if not isinstance(image, str | os.PathLike | bytes | bytearray | memoryview):
        return None
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image) if file.is_jpeg(bytes(image[:3])) else None
    with open(image, "rb") as stream:
        start = stream.read(3)
        return start + stream.read() if file.is_jpeg(start) else None


def _of_tensor(tensor: Any) -> NDArray[Any]:
    """torch has channels first."""
    try:
        array: NDArray[Any] = tensor.detach().cpu().numpy()
    except TypeError as error:  # numpy has no such numbers
        kind = f"tensors of {tensor.dtype} cannot be kept"
        raise UnsupportedImageError(f"{kind}; convert it to torch.uint8 first") from error
    return np.moveaxis(array, 0, 2) if array.ndim == 3 else array


def opened(data: DataLike) -> IO[bytes]:
    """A file to be read from its beginning. Raises NotAFileError if it is no bytes and no path."""
    if isinstance(data, bytes | bytearray | memoryview):
        return io.BytesIO(data)
    if not isinstance(data, str | os.PathLike):
        raise NotAFileError(f"a .pxz file is bytes or a path, not {type(data).__name__}")
    return Path(data).open("rb")


def bytes_of(data: DataLike) -> bytes:
    """All of a file. Raises NotAFileError if it is neither bytes nor a path."""
    if isinstance(data, bytes):
        return data
    with opened(data) as stream:
        return stream.read()


@contextmanager
def named(source: object) -> Iterator[None]:
    """Say in an error which file it is about. Of options it is about none."""
    try:
        yield
    except OptionError:
        raise
    except PixelzipError as error:
        if isinstance(source, str | os.PathLike):
            raise type(error)(f"{os.fspath(source)}: {error}") from error
        raise


@contextmanager
def named_among(sources: Sequence[object], argument: str) -> Iterator[None]:
    """Say in an error which of several files it is about: by its path, or its place in a list."""
    try:
        yield
    except PixelzipError as error:
        if error.file is None:
            raise
        source, name = sources[error.file], f"{argument}[{error.file}]"
        if isinstance(source, str | os.PathLike):
            name = os.fspath(source)
        elif len(sources) == 1:
            raise
        raise type(error)(f"{name}: {error}") from error
