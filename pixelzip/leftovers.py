"""What an image file holds and a picture made of it does not: named, so nothing goes unsaid."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator

from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from pixelzip import isobmff, pictures, png, tiff

_KEPT = {
    "APP0": (b"JFIF",),
    "APP1": (b"Exif\0", b"http://ns.adobe.com/xap/1.0/\0"),
    "APP2": (b"ICC_PROFILE\0",),
    "APP13": (b"Photoshop 3.0\0",),
    "APP14": (b"Adobe",),  # how the colours are coded
    "COM": (b"",),
}
"""JPEG's segments that are kept, by their beginnings."""
_NAMED = {
    b"JFXX": "JFXX thumbnail",
    b"http://ns.adobe.com/xmp/extension/": "extended XMP",
    b"MPF\0": "table of the images of an MPO",
    b"FPXR": "FlashPix",
    b"JP": "C2PA",
}
_SMALLER = 330
_OF_WEBP = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"EXIF", b"XMP ", b"ANIM", b"ANMF")


def left_behind(data: bytes) -> tuple[str, ...]:
    """The names of what `pictures.read` does not keep of a file that it can read."""
    with pictures.CATCHING, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        names = dict.fromkeys(_names(data))
    if any(word in str(one.message).lower() for one in said for word in ("tag", "exif")):
        names["tags that cannot be read"] = None
    return tuple(names)


def _names(data: bytes) -> Iterator[str]:
    if data.startswith(png.SIGNATURE):
        header, _, chunks = png.take_apart(data)
        if header.colour_type in (2, 6) and any(chunk.kind == b"PLTE" for chunk in chunks):
            yield "suggested palette"
        if png.has_idle_frames(data):
            yield "frames of a damaged animation"
        if len(data) > png.end_of(data):
            yield "bytes after the image"
    elif data.startswith(b"\xff\xd8"):
        yield from _of_jpeg(data)
    elif data[:2] == b"BM":
        yield from _of_bmp(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        yield from _of_webp(data)
    elif tiff.is_tiff(data):
        for page in tiff.apart(data):
            with tiff.opened(page) as opened:
                yield from _of_tiff(opened.image)
    elif isobmff.is_heic(data):
        yield from isobmff.besides_heic(data)
    elif isobmff.is_avif(data):
        with Image.open(io.BytesIO(data)) as image:
            if isobmff.has_frames(data) and getattr(image, "n_frames", 1) == 1:
                yield "frames of a sequence"


def _of_tiff(image: TiffImageFile) -> Iterator[str]:
    if image.n_frames > 1 or _SMALLER in image.tag_v2:
        yield "smaller images of a TIFF"


def _of_bmp(data: bytes) -> Iterator[str]:
    """A pixel's fourth byte says nothing by the standard, but some programs keep alpha there."""
    with Image.open(io.BytesIO(data), formats=["BMP"]) as image:
        bits = int.from_bytes(data[28:30], "little")
        if bits == 32 and image.mode == "RGB":
            start = int.from_bytes(data[10:14], "little")
            fourth = data[start : start + 4 * image.width * image.height][3::4]
            if len(set(fourth)) > 1:
                yield "fourth channel"


def _of_jpeg(data: bytes) -> Iterator[str]:
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        segments: list[tuple[str, bytes]] = getattr(image, "applist", [])
        frames = getattr(image, "n_frames", 1)
    for name, body in segments:
        if not body.startswith(_KEPT.get(name, ())):
            yield next(
                (title for start, title in _NAMED.items() if body.startswith(start)),
                f"{name} segment",
            )
    if frames > 1:
        yield "second image of an MPO" if frames == 2 else f"{frames - 1} more images of an MPO"
    elif _after_jpeg(data):
        yield "bytes after the image"


def _after_jpeg(data: bytes) -> bytes:
    """What stands after the end of a JPEG."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        if marker == 0xD9:
            return data[at + 2 :]
        if marker in (0, 1, 0xFF) or 0xD0 <= marker <= 0xD7:
            at += 1 if marker == 0xFF else 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return b""


def _of_webp(data: bytes) -> Iterator[str]:
    at, end = 12, 8 + int.from_bytes(data[4:8], "little")
    while at + 8 <= min(end, len(data)):
        kind = data[at : at + 4]
        if kind not in _OF_WEBP:
            yield f"{kind.decode()} chunk" if kind.isalnum() else "unknown chunk"
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    if end < len(data):
        yield "bytes after the image"
