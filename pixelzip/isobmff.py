"""AVIF, HEIC and JPEG 2000 files: how deep their samples are, and how to get them whole.

Pillow reads AVIF and JPEG 2000 of 8 bits, and cuts deeper colour to 8. With imagecodecs (the extra
``pixelzip[deep]``) these are read as they are; HEIC is read with pillow-heif (``pixelzip[heif]``).
Samples of 9 to 15 bits become the high ones of 16, as Pillow does with grey JPEG 2000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelzip.codec.errors import UnsupportedImageError

_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_SIZ = b"\xff\x4f\xff\x51"  # the beginning of a JPEG 2000 codestream
_BESIDES = {
    "depth_images": "depth map",
    "aux": "auxiliary images, such as a gain map",
    "thumbnails": "thumbnails",
}
"""What pillow-heif says of an image -> what people call it."""
_DEEP = {"RGB;16": 3, "RGBA;16": 4}  # as pillow-heif calls them


def is_heic(data: bytes) -> bool:
    """Whether a file's content is a HEIC image."""
    brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
    is_avif = b"avif" in brands or b"avis" in brands
    return data[4:8] == b"ftyp" and data[8:12] in _HEIC and not is_avif


def is_avif(data: bytes) -> bool:
    """Whether a file's content may be an AVIF image: it is in such a file and no HEIC."""
    return data[4:8] == b"ftyp" and not is_heic(data)


def besides_heic(data: bytes) -> Iterator[str]:
    """The names of what a HEIC file holds besides its primary image and that one's metadata.

    Raises ImportError if pillow-heif is not there.
    """
    import pillow_heif

    heif = pillow_heif.open_heif(data)
    if len(heif) > 1:
        yield f"{len(heif) - 1} more images of a HEIC file"
    for name, title in _BESIDES.items():
        if heif.info.get(name):
            yield title
    if has_frames(data):
        yield "frames of a sequence"


def has_frames(data: bytes) -> bool:
    """Whether there is a sequence of frames in an AVIF or HEIC file."""
    return b"moov" in _boxes(data)


def _boxes(data: bytes) -> Iterator[bytes]:
    """The kinds of the outermost boxes."""
    at = 0
    while at + 8 <= len(data):
        yield data[at + 4 : at + 8]
        length = int.from_bytes(data[at : at + 4], "big")
        if length == 1:
            length = int.from_bytes(data[at + 8 : at + 16], "big")
        at += length if length >= 8 else len(data)


def plays_of(data: bytes) -> int:
    """How often the sequence of an AVIF file plays; 0 for ever, also where the file does not say.

    Its edit list says how long it is, and the header of its track for how long it plays.
    """
    edits, track = data.find(b"elst") + 4, data.find(b"tkhd") + 4
    if edits < 4 or track < 4 or len(data) < max(edits, track) + 40:
        return 0
    if not data[edits + 3] & 1:
        return 1
    length = _number(data, edits, edits + 8)
    total = _number(data, track, track + (28 if data[track] else 20))
    for_ever = total == (1 << 64) - 1 or (total == (1 << 32) - 1 and not data[track])
    return 0 if for_ever or not length else min(-(-total // length), (1 << 31) - 1)


def _number(data: bytes, box: int, at: int) -> int:
    """One of 8 bytes in a box of version 1, of 4 in one of version 0."""
    return int.from_bytes(data[at : at + (8 if data[box] else 4)], "big")


def depth_of(data: bytes, format_: str) -> int:
    """The bits of a sample of an AVIF or JPEG 2000 file, by Pillow's name of the format.

    Raises UnsupportedImageError if its samples may be negative.
    """
    if format_ == "AVIF":
        at = data.find(b"av1C")
        flags = data[at + 6] if 0 <= at < len(data) - 6 else 0
        return (12 if flags & 0x20 else 10) if flags & 0x40 else 8
    at = data.find(_SIZ)
    if at < 0 or len(data) < at + 42:
        return 8
    count = int.from_bytes(data[at + 40 : at + 42], "big")
    depths = data[at + 42 : at + 42 + 3 * count : 3]
    if any(depth & 0x80 for depth in depths):
        raise UnsupportedImageError("signed samples cannot be kept; convert it to 8 or 16 bits")
    return max((depth + 1 for depth in depths), default=8)


def read_deep(data: bytes, format_: str, depth: int, frames: int = 1) -> NDArray[np.uint16]:
    """The samples of a file of more than 8 bits: (height, width, channels), or (frames, ...).

    Raises UnsupportedImageError if imagecodecs is not there, or gives no such samples.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise UnsupportedImageError(
            f'{depth}-bit colours of this format need a library: pip install "pixelzip[deep]"'
        ) from error
    read = imagecodecs.avif_decode if format_ == "AVIF" else imagecodecs.jpeg2k_decode
    samples = np.asarray(read(data))
    axes = 3 if frames == 1 else 4
    if samples.ndim == axes - 1:
        samples = samples[..., np.newaxis]
    is_whole = samples.ndim == axes and (frames == 1 or len(samples) == frames)
    if samples.dtype != np.uint16 or not is_whole or samples.shape[-1] > 4 or depth > 16:
        raise UnsupportedImageError(
            f"{depth}-bit colours of this format cannot be read; convert the image to PNG first"
        )
    return samples << np.uint16(16 - depth)


def read_heic(
    data: bytes, check_size: Callable[[int, int], None]
) -> tuple[Image.Image, NDArray[np.uint16] | None]:
    """The primary image of a HEIC file, its metadata in ``info``; and its samples, if of 16 bits.

    ``check_size`` is told its size before it is decoded. Raises UnsupportedImageError if
    pillow-heif is not there.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise UnsupportedImageError(
            'HEIC images need a library: pip install "pixelzip[heif]"'
        ) from error
    if has_frames(data) and b"meta" not in _boxes(data):
        raise UnsupportedImageError(
            "sequences of HEIC pictures cannot be read: pillow-heif does not give their frames"
        )
    heif = pillow_heif.open_heif(data, convert_hdr_to_8bit=False)
    check_size(*heif.size)
    if heif.mode not in _DEEP:
        image: Image.Image = heif.to_pillow()
        return image, None
    samples = np.asarray(heif).reshape(heif.size[1], heif.size[0], -1).astype(np.uint16)
    image = Image.new("RGB", (1, 1))
    image.info = dict(heif.info)
    return image, samples
