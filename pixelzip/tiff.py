"""TIFF files whose samples Pillow would cut down, or whose kind it does not know.

Of 16-bit colour Pillow gives the high bytes only, and writes none; 16-bit grey with alpha it does
not open; 16-bit grey of which 0 is white it gives as a negative; channels besides the colours it
drops. Samples are (height, width, channels) uint16 arrays.
"""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from pixelzip.codec.errors import UnsupportedImageError

_ROWS = 64  # in a strip
_DEFLATE, _HORIZONTAL = 8, 2
_WHITE_IS_0, _BLACK_IS_0, _RGB, _SEPARATED = 0, 1, 2, 5
_UNASSOCIATED = 2
_KIND_OF_PAGE = 254
_BITS, _PHOTOMETRIC, _ORIENTATION, _CHANNELS, _PREDICTOR = 258, 262, 274, 277, 317
_PLANAR, _TILE_WIDTH, _EXTRA, _SAMPLE_FORMAT = 284, 322, 338, 339
_ICC = 34675
_SHORT = 3  # a kind of value
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of each kind of value."""
_PLACES, _DIRECTORIES = (273, 324), (330, 0x8769, 0x8825, 0xA005)
"""Tags that say where pixels, and other directories, lie."""
MAX_PAGES = 4096
_OTHER = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
"""The end of a raw mode -> that of the other byte order."""
_PHOTOMETRICS = {"LA;16": _BLACK_IS_0, "RGB;16": _RGB, "RGBA;16": _RGB, "CMYK;16": _SEPARATED}

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


def is_tiff(data: bytes) -> bool:
    """Whether a file's content is a TIFF."""
    return data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class Opened:
    """A TIFF file in Pillow's hands."""

    image: TiffImageFile
    mode: str
    """Of samples of more than 8 bits, which `samples` gives; "" of those that Pillow does."""
    tags: ImageFileDirectory_v2
    """Those of the first page, as they stand in the file."""
    data: bytes
    """The file as Pillow can open it."""

    def samples(self) -> NDArray[np.uint16]:
        """The samples of the first page as they lie in the file, 0 being black."""
        if self.mode == "LA;16":
            return self._pairs()
        if self.mode != "I;16":
            high, low = (self._unpacked(other=other) for other in (False, True))
            samples = high.astype(np.uint16)
            samples <<= 8
            samples |= low
            return np.bitwise_not(samples) if self.mode == "CMYK;16" else samples
        grey = np.asarray(as_stored(self.image)).astype(np.uint16)[..., np.newaxis]
        grey <<= 16 - bits_of(self.tags)[0]
        return np.bitwise_not(grey) if self.tags[_PHOTOMETRIC] == _WHITE_IS_0 else grey

    def _unpacked(self, *, other: bool) -> NDArray[np.uint8]:
        """Pillow unpacks the high byte of each sample by the byte order that it is told."""
        with Image.open(io.BytesIO(self.data), formats=["TIFF"]) as image:
            assert isinstance(image, TiffImageFile)
            if other:
                image.tile = [tile._replace(args=_swapped(tile.args)) for tile in image.tile]
            return np.asarray(as_stored(image))

    def _pairs(self) -> NDArray[np.uint16]:
        """Two samples of two bytes each, which Pillow takes for four of one byte."""
        order = "<u2" if self.data[:2] == b"II" else ">u2"
        pairs = np.asarray(as_stored(self.image)).view(order).astype(np.uint16)
        if self.tags.get(_PREDICTOR, 1) == _HORIZONTAL:
            width = self.tags.get(_TILE_WIDTH, pairs.shape[1])
            for left in range(0, pairs.shape[1], width):
                tile = pairs[:, left : left + width]
                np.cumsum(tile, axis=1, dtype=np.uint16, out=tile)
        return pairs


@contextmanager
def opened(data: bytes) -> Iterator[Opened]:
    """Open a file.

    Raises UnsupportedImageError if Pillow does not know its kind, or would drop some of its
    channels or change its colours; and whatever Pillow raises if it is damaged.
    """
    tags = _tags(data)
    mode = _mode(tags)
    unknown = mode == "LA;16" or (mode == "I;16" and tags[_PHOTOMETRIC] == _WHITE_IS_0)
    if unknown and data[2:4] in (b"*\0", b"\0*"):
        data = _relabelled(data, tags.next, mode)
    try:
        image = Image.open(io.BytesIO(data), formats=["TIFF"])
    except UnidentifiedImageError as error:
        raise UnsupportedImageError(
            f"TIFF files of {_in_words(tags)} cannot be read; convert it to another kind first"
        ) from error
    with image:
        assert isinstance(image, TiffImageFile)
        check(image)
        yield Opened(image, mode, tags, data)


def _tags(data: bytes, at: int | None = None) -> ImageFileDirectory_v2:
    """Of the page whose directory lies there, or of the first one."""
    tags = ImageFileDirectory_v2(data[: 16 if data[2] == 43 else 8])
    file = io.BytesIO(data)
    at = tags.next if at is None else at
    file.seek(at)
    tags.load(file)
    tags.next = at
    return tags


def apart(data: bytes) -> Iterator[bytes]:
    """Each page as a file of its own; the file itself if all others are smaller versions of one.

    The bytes are those of the file, but for where it begins, and that nothing follows. Raises
    UnsupportedImageError if there are too many, struct.error if the file is damaged.
    """
    order = "<" if data[:2] == b"II" else ">"
    is_big = 43 in data[2:4]
    start, count, entry, place = (8, "Q", 20, "Q") if is_big else (4, "H", 12, "I")
    pointer, many = struct.Struct(order + place), struct.Struct(order + count)
    pages: dict[int, int] = {}  # where each directory begins and ends
    (at,) = pointer.unpack_from(data, start)
    while at and at not in pages:
        if len(pages) == MAX_PAGES:
            raise UnsupportedImageError(f"the file has more than {MAX_PAGES} pages")
        pages[at] = at + many.size + entry * many.unpack_from(data, at)[0]
        following = data[pages[at] : pages[at] + pointer.size]
        at = int.from_bytes(following, "little" if order == "<" else "big")
    if all(_tags(data, begin).get(_KIND_OF_PAGE, 0) & 1 for begin in [*pages][1:]):
        yield data
        return
    for begin, end in pages.items():
        parts = data[start + pointer.size : end], pointer.pack(0), data[end + pointer.size :]
        yield b"".join([data[:start], pointer.pack(begin), *parts])


def joined(pages: Sequence[bytes]) -> bytes:
    """A file of several pages, of files of one page each that `write` or Pillow made."""
    out, last = bytearray(), 4  # where the place of the next directory is written down
    for page in pages:
        base = len(out)
        out += page + bytes(len(page) % 2)
        at = base + int.from_bytes(page[4:8], "little")
        struct.pack_into("<I", out, last, at)
        last = _moved(out, at, base)
    return bytes(out)


def _moved(out: bytearray, at: int, base: int) -> int:
    """Add ``base`` to all places in a directory; where the place of the next one stands."""
    end: int = at + 2 + 12 * struct.unpack_from("<H", out, at)[0]
    for entry in range(at + 2, end, 12):
        tag, kind, length = struct.unpack_from("<HHI", out, entry)
        values = entry + 8
        if length * _SIZES[kind] > 4:
            (values,) = struct.unpack_from("<I", out, values)
            values += base
            struct.pack_into("<I", out, entry + 8, values)
        for place in range(values, values + 4 * length, 4) if tag in _PLACES + _DIRECTORIES else ():
            (there,) = struct.unpack_from("<I", out, place)
            struct.pack_into("<I", out, place, there + base)
            if tag in _DIRECTORIES:
                _moved(out, there + base, base)
    return end


def bits_of(tags: ImageFileDirectory_v2) -> tuple[int, ...]:
    """The bits of each channel of a pixel."""
    bits = tags.get(_BITS, 1)
    bits = bits if isinstance(bits, tuple) else (bits,)
    return bits * tags.get(_CHANNELS, 1) if len(bits) == 1 else bits


def _mode(tags: ImageFileDirectory_v2) -> str:
    """That of samples of more than 8 bits; "" of others, and of kinds that cannot be read."""
    bits, photometric = bits_of(tags), tags.get(_PHOTOMETRIC, -1)
    if tags.get(_SAMPLE_FORMAT, (1,))[0] != 1:
        return ""
    if len(bits) == 1 and 8 < bits[0] <= 16 and photometric in (_WHITE_IS_0, _BLACK_IS_0):
        return "I;16"
    if len(bits) == 1 or set(bits) != {16} or tags.get(_PLANAR, 1) != 1:
        return ""
    extra = tags.get(_EXTRA, ())
    kinds = {
        (_BLACK_IS_0, 2, (_UNASSOCIATED,)): "LA;16",
        (_RGB, 3, ()): "RGB;16",
        (_RGB, 4, ()): "RGBA;16",
        (_RGB, 4, (_UNASSOCIATED,)): "RGBA;16",
        (_SEPARATED, 4, ()): "CMYK;16",
    }
    return kinds.get((photometric, len(bits), extra), "")


def _in_words(tags: ImageFileDirectory_v2) -> str:
    bits = bits_of(tags)
    depth = f"{len(bits)} x {bits[0]} bits" if len(bits) > 1 else f"{bits[0]} bits"
    return f"{depth} a pixel and photometric interpretation {tags.get(_PHOTOMETRIC, 'unknown')!r}"


def _relabelled(data: bytes, directory: int, mode: str) -> bytes:
    """The file, said to be of a kind that Pillow opens; ``directory`` is where that begins.

    Grey with alpha of 2 x 16 bits becomes RGBA of 4 x 8 bits, whose predictor is left to us; 16-bit
    grey of which 0 is white becomes that of which 0 is black.
    """
    order = "<" if data[:2] == b"II" else ">"
    out = bytearray(data)
    values = {_PHOTOMETRIC: _BLACK_IS_0}
    changed: dict[int, bytes] = {}
    if mode == "LA;16":
        values = {_PHOTOMETRIC: _RGB, _CHANNELS: 4, _PREDICTOR: 1}
        changed[_BITS] = struct.pack(f"{order}HHII", _BITS, _SHORT, 4, len(out))
        out += struct.pack(f"{order}4H", 8, 8, 8, 8)
    for tag, value in values.items():
        changed[tag] = struct.pack(f"{order}HHIH2x", tag, _SHORT, 1, value)
    (count,) = struct.unpack_from(f"{order}H", out, directory)
    for at in range(directory + 2, directory + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from(f"{order}H", out, at)
        out[at : at + 12] = changed.get(tag, out[at : at + 12])
    return bytes(out)


def check(image: TiffImageFile) -> None:
    """Raise UnsupportedImageError if Pillow drops channels or divides colours by their alpha."""
    if any(_raw_mode(tile.args).startswith("RGBa") for tile in image.tile) or image.mode == "La":
        raise UnsupportedImageError(
            "colours that are multiplied by alpha cannot be kept; convert it to plain alpha"
        )
    channels, kept = len(bits_of(image.tag_v2)), len(image.getbands())
    if channels > kept:
        raise UnsupportedImageError(
            f"the image has {channels} channels, of which only {kept} are colours or opacity; save "
            "it without the others"
        )


def pages(image: TiffImageFile) -> int:
    """How many pages there are: 1 if all others are smaller versions of the first."""
    count, place = image.n_frames, image.tell()
    if count == 1:
        return 1
    are_smaller = []
    for number in range(1, count):
        image.seek(number)
        are_smaller.append(image.tag_v2.get(_KIND_OF_PAGE, 0) & 1)
    image.seek(place)
    return 1 if all(are_smaller) else count


def is_cut(image: TiffImageFile) -> bool:
    """Whether Pillow gives other samples than the file has: the high bytes only, a negative..."""
    bits = bits_of(image.tag_v2)
    usual = image.mode.startswith("I;16") and bits == (16,)
    return max(bits) > 8 and not (usual and image.tag_v2.get(_PHOTOMETRIC) == _BLACK_IS_0)


def turned_back(image: TiffImageFile) -> Image.Transpose | None:
    """What lays pixels back that Pillow turns upright; None if it does not turn them."""
    return _TURNED_BACK.get(image.tag_v2.get(_ORIENTATION, 1))


def as_stored(image: TiffImageFile) -> Image.Image:
    """The image as it lies in the file."""
    turn_back = turned_back(image)
    return image if turn_back is None else image.transpose(turn_back)


def _raw_mode(args: Any) -> str:
    return str(args if isinstance(args, str) else args[0])


def _swapped(args: Any) -> Any:
    """A tile's arguments, with the other byte order."""
    name = _raw_mode(args)
    name = name[:-1] + _OTHER[name[-1]]
    return name if isinstance(args, str) else (name, *args[1:])


def write(
    mode: str,
    samples: NDArray[np.uint16],
    tags: Image.Exif,
    info: Mapping[Any, Any],
    resolution: tuple[float, float] | None,
) -> bytes:
    """A file of a picture of mode LA;16, RGB;16, RGBA;16 or CMYK;16, deflated.

    It has the ICC profile from ``info`` and more tags.
    ``resolution`` is None or a pair of dots per inch.
    """
    height, width, channels = samples.shape
    if mode == "CMYK;16":
        samples = 65535 - samples
    strips = [_strip(samples[top : top + _ROWS]) for top in range(0, height, _ROWS)]
    lengths = tuple(map(len, strips))
    directory = ImageFileDirectory_v2()
    for tag in tags:
        value = tags.get_ifd(tag) if tag in (0x8769, 0x8825) else tags[tag]
        directory[tag] = value
    directory[256], directory[257] = width, height
    directory[258] = (16,) * channels
    directory[259], directory[262], directory[277] = _DEFLATE, _PHOTOMETRICS[mode], channels
    directory[278], directory[317] = min(_ROWS, height), _HORIZONTAL
    directory[273] = tuple(sum(lengths[:number]) for number in range(len(strips)))
    directory[279] = lengths
    if mode in ("LA;16", "RGBA;16"):
        directory[_EXTRA] = _UNASSOCIATED
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
