"""JPEG files that are kept byte for byte: their pictures, and what `info` says of them."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import TYPE_CHECKING

from PIL import Image

from pixelzip import metadata, pictures
from pixelzip.codec.errors import PixelzipError, RegionError
from pixelzip.codec.jpeg import file
from pixelzip.codec.jpeg.file import Form

if TYPE_CHECKING:
    from pixelzip.codec.picture import Picture

ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo")
"""Of the names of JPEG files, in lower case."""
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}


def picture(data: bytes, *, threads: int, max_pixels: int) -> Picture:
    """The picture in a ``.pxz`` file that holds a JPEG file, as libjpeg decodes it."""
    return pictures.read(file.decode(data, threads, max_pixels))


def region(whole: Picture, box: tuple[int, int, int, int]) -> Picture:
    """The pixels within (x, y, width, height), and all metadata. RegionError if there are none."""
    x, y, width, height = box
    inside = 0 <= x < x + width <= whole.width and 0 <= y < y + height <= whole.height
    if not inside:
        raise RegionError(
            f"the image is {whole.width}x{whole.height} and has no region of {width}x{height} at "
            f"{x},{y}"
        )
    planes = tuple(plane[y : y + height, x : x + width].copy() for plane in whole.planes)
    return replace(whole, planes=planes)


def is_name(suffix: str, data: bytes) -> bool:
    """Whether a name with this suffix asks for the JPEG file and not for its pixels."""
    return suffix.lower() in (*ENDINGS, file.ending(data).lower())


def mode_of(about: file.Description) -> str:
    """The mode of the picture as far as the number of its components says; "" if it does not."""
    return "" if about.frame is None else _MODES.get(len(about.frame.components), "")


def words(about: file.Description) -> list[str]:
    """What there is to say of it."""
    found = [f"a JPEG file ({about.ending}) of {about.length:,} bytes, byte for byte"]
    if about.form != Form.MODEL:
        found.append(f"kept as it is: {about.trouble}")
    elif about.trouble:
        found.append(f"part of it kept as it is: {about.trouble}")
    return found


def metadata_names(data: bytes) -> tuple[str, ...]:
    """What it carries besides the pixels, as far as a picture could carry it, too."""
    try:
        with Image.open(io.BytesIO(file.beginning(data)), formats=["JPEG"]) as image:
            chunks = metadata.from_pillow(image, image.info)
    except (PixelzipError, OSError, SyntaxError):
        return ()
    return tuple(dict.fromkeys(chunk.name for chunk in chunks))
