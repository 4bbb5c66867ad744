"""16-bit colour in TIFF files, of which Pillow gives the high bytes only, and writes none.

Samples are (height, width, channels) uint16 arrays.
"""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

_ROWS = 64  # in a strip
_DEFLATE, _HORIZONTAL = 8, 2
_RGB, _SEPARATED = 2, 5
_UNASSOCIATED = 2
_ORIENTATION = 274
_ICC = 34675
_OTHER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
"""The end of a raw mode -> that of the other byte order."""


_TURNED_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation to the turn that undoes how such an image is turned upright."""


def turned_back(image: TiffImageFile) -> Image.Transpose | None:
    """What lays pixels back that Pillow turns upright; None if it does not turn them."""
    return _TURNED_BACK.get(image.tag_v2.get(_ORIENTATION, 1))


def is_deep(image: TiffImageFile) -> bool:
    """Whether its pixels have several samples, of 16 bits each, that `read` can take."""
    raw = [_raw_mode(tile.args) for tile in image.tile]
    return bool(raw) and all(
        name.startswith(("RGB;16", "RGBA;16")) and name[-1] in _OTHER for name in raw
    )


def is_premultiplied(image: TiffImageFile) -> bool:
    """Whether its colours are multiplied by its alpha, which Pillow undoes as well as it can."""
    return any(_raw_mode(tile.args).startswith("RGBa") for tile in image.tile)


def read(data: bytes) -> NDArray[np.uint16]:
    """The samples of a file that `is_deep`, as they lie in it.

    Pillow unpacks the high byte of each sample by the byte order that it is told: so both bytes
    come out in two passes.
    """
    high, low = (_unpacked(data, other=other).astype(np.uint16) for other in (False, True))
    return np.asarray(high << 8 | low, np.uint16)


def _unpacked(data: bytes, *, other: bool) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
        assert isinstance(image, TiffImageFile)
        turn_back = turned_back(image)
        if other:
            image.tile = [tile._replace(args=_swapped(tile.args)) for tile in image.tile]
        return np.asarray(image if turn_back is None else image.transpose(turn_back))


def _raw_mode(args: Any) -> str:
    return str(args if isinstance(args, str) else args[0])


def _swapped(args: Any) -> Any:
    """A tile's arguments, with the other byte order."""
    name = _raw_mode(args)
    name = name[:-1] + _OTHER[name[-1]]
    return name if isinstance(args, str) else (name, *args[1:])


def write(
    samples: NDArray[np.uint16],
    tags: Image.Exif,
    info: Mapping[Any, Any],
    resolution: tuple[float, float] | None,
) -> bytes:
    """A file of RGB or RGBA samples, deflated, with an ICC profile from ``info`` and more tags.

    ``resolution`` is None or a pair of dots per inch.
    """
    height, width, channels = samples.shape
    strips = [_strip(samples[top : top + _ROWS]) for top in range(0, height, _ROWS)]
    lengths = tuple(map(len, strips))
    directory = ImageFileDirectory_v2()
    for tag in tags:
        value = tags.get_ifd(tag) if tag in (0x8769, 0x8825) else tags[tag]
        directory[tag] = value
    directory[256], directory[257] = width, height
    directory[258] = (16,) * channels
    directory[259], directory[262], directory[277] = _DEFLATE, _RGB, channels
    directory[278], directory[317] = min(_ROWS, height), _HORIZONTAL
    directory[273] = tuple(sum(lengths[:number]) for number in range(len(strips)))
    directory[279] = lengths
    if channels == 4:
        directory[338] = _UNASSOCIATED
    if resolution is not None:
        directory[282], directory[283], directory[296] = *resolution, 2
    if profile := info.get("icc_profile"):
        directory.tagtype[_ICC] = 7
        directory[_ICC] = profile
    out = io.BytesIO()
    directory.save(out)
    return out.getvalue() + b"".join(strips)


def _strip(rows: NDArray[np.uint16]) -> bytes:
    """Each sample's difference from that of the pixel to the left, compressed."""
    left = np.pad(rows, ((0, 0), (1, 0), (0, 0)))[:, :-1]
    return zlib.compress((rows - left).astype("<u2").tobytes(), 9)
