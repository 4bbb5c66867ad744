"""What an image file carries besides its pixels, and how a ``.pxz`` file keeps it.

PNG has a word for everything that is worth keeping, so metadata is a list of `Chunk` in PNG's
terms, whatever the image came from: a JPEG's EXIF becomes an ``eXIf`` chunk, a TIFF's resolution
becomes a ``pHYs`` chunk. From a PNG file they are taken as they are and in their order, so they
come back as they were. Compressed chunks are held uncompressed, because the container compresses
all metadata together.

Serialised, metadata is a sequence of

::

    | kind, 1 byte | length, LEB128 | body |

with the kind's position in `KINDS`. ``docs/format.md`` describes each body. No metadata at all is
no bytes at all.
"""

from __future__ import annotations

import math
import re
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import iTXt
from PIL.TiffImagePlugin import TiffImageFile

from pixelzip.codec.container import MAX_METADATA
from pixelzip.codec.errors import FormatError, LimitError, UnsupportedImageError

KINDS = (
    b"PLTE",
    b"tRNS",
    b"iCCP",
    b"sRGB",
    b"gAMA",
    b"cHRM",
    b"cICP",
    b"pHYs",
    b"eXIf",
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"IDAT",
    b"",
    b"acTL",
    b"pages",
)
"""The PNG chunks that have a number in the file, their position here. ``IDAT`` is empty and stands
for the pixels where chunks stand after them; `_OTHER` stands for all other chunks; ``acTL`` says
that the picture is the frames of an animation, one below the other, and ``pages``, which is no
chunk of a PNG, the same of the pages of a document."""

_OTHER = KINDS.index(b"")
"""The number of all other chunks, whose bodies in the file begin with their kinds."""

LOOK = (b"PLTE", b"tRNS", b"acTL", b"pages")
"""The kinds without which the pixels would not look the same; they are never stripped."""

OF_ANIMATIONS = (
    b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"pHYs", b"eXIf", b"tEXt", b"zTXt", b"iTXt",
    b"tIME",
)  # fmt: skip
"""The kinds that can be kept whatever the samples of the frames were."""

_NAMES = {
    b"PLTE": "palette",
    b"tRNS": "transparency",
    b"iCCP": "ICC profile",
    b"sRGB": "sRGB intent",
    b"gAMA": "gamma",
    b"cHRM": "chromaticity",
    b"cICP": "CICP colour",
    b"pHYs": "resolution",
    b"eXIf": "EXIF",
    b"tEXt": "text",
    b"zTXt": "text",
    b"iTXt": "text",
    b"IDAT": "place of the pixels",
    b"acTL": "animation",
    b"pages": "pages",
    b"tIME": "time of change",
    b"sBIT": "significant bits",
    b"bKGD": "background",
    b"hIST": "histogram",
    b"sPLT": "suggested palette",
    b"caBX": "C2PA",
}
MAX_CHUNKS = 2**14
"""So many chunks at most, or a few bytes could stand for millions of them."""

_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_LENGTHS = {b"sRGB": 1, b"gAMA": 4, b"cHRM": 32, b"cICP": 4, b"pHYs": 9}
_TRANSPARENCY_LENGTHS = {"1": 2, "L": 2, "I;16": 2, "RGB": 6, "RGB;16": 6}
_UNNAMED = b"ICC profile"
"""What a PNG calls a profile that has no name, since it must have one there."""
_XMP = b"XML:com.adobe.xmp"
_IPTC = b"Raw profile type iptc"
_NAMED_TEXTS = {_XMP: "XMP", _IPTC: "IPTC"}
_METRE = 0.0254  # metres in an inch
_EXIF_PREFIX = b"Exif\0\0"
_PHOTOSHOP = b"Photoshop 3.0\0"

# TIFF keeps what it says about the picture (EXIF tags, IPTC, places on the Earth...) among
# tags that say where and how the pixels lie, or have chunks of their own (resolution, XMP, ICC...).
_TIFF_STRUCTURE = frozenset([
    *range(254, 260), *range(262, 267), 273, *range(277, 285), *range(288, 294), 296, 317,
    *range(320, 328), 330, 332, 334, 336, *range(338, 342), 347, *range(512, 522), 529, 530, 531,
    559, 700, 34675,
])  # fmt: skip
_PAGE_NUMBER = 297
_TIFF_DIRECTORIES = (0x8769, 0x8825)  # EXIF and GPS


@dataclass(frozen=True)
class Chunk:
    """One PNG chunk. Bodies are as in PNG, except that nothing is compressed:

    * ``iCCP``: name, a zero byte, the profile;
    * ``zTXt``: keyword, a zero byte, the text;
    * ``iTXt``: keyword, a zero byte, one byte (1: compressed in the PNG), language, a zero byte,
      translated keyword, a zero byte, the text.

    * ``acTL``: how often it plays (0: for ever), 4 bytes, and the duration of each frame in
      seconds: numerator and denominator, 2 bytes each;
    * ``pages``: how many, 4 bytes.

    Of ancillary chunks that are not in `KINDS` the bodies are as they stand.
    """

    kind: bytes
    body: bytes

    @property
    def name(self) -> str:
        """What people call it: "ICC profile", "EXIF", "XMP", "text"..."""
        if self.kind in _TEXTS and (name := _NAMED_TEXTS.get(self.body.partition(b"\0")[0])):
            return name
        return _NAMES.get(self.kind) or f"{self.kind.decode('ascii')} chunk"


Metadata = tuple[Chunk, ...]


def serialise(metadata: Iterable[Chunk]) -> bytes:
    """The bytes that a .pxz file keeps; `parse` gives the chunks back.

    Raises LimitError if they are more than it can hold.
    """
    out = bytearray()
    for number, chunk in enumerate(metadata):
        if number >= MAX_CHUNKS or len(out) + len(chunk.body) > MAX_METADATA:
            raise too_much()
        number, body = _OTHER, chunk.kind + chunk.body
        if chunk.kind in KINDS:
            number, body = KINDS.index(chunk.kind), chunk.body
        out.append(number)
        length = len(body)
        while length >= 0x80:
            out.append(length & 0x7F | 0x80)
            length >>= 7
        out.append(length)
        out += body
    return bytes(out)


def too_much() -> LimitError:
    """That the metadata is more than a .pxz file can hold."""
    return LimitError(
        f"the image carries more metadata than {MAX_CHUNKS} pieces or {MAX_METADATA} bytes: "
        "strip it"
    )


def parse(data: bytes, mode: str) -> Metadata:
    """The chunks of a picture of this mode. Raises FormatError if they cannot be what we wrote."""
    chunks: list[Chunk] = []
    at = 0
    while at < len(data):
        if len(chunks) == MAX_CHUNKS:
            raise FormatError("the file is damaged: it has too many pieces of metadata")
        number = data[at]
        if number >= len(KINDS):
            raise FormatError(f"the file is damaged: there is no metadata of kind {number}")
        length, shift = 0, 0
        while True:
            at += 1
            if at >= len(data) or shift > 28:
                raise FormatError("the file is damaged: its metadata is cut short")
            length |= (data[at] & 0x7F) << shift
            shift += 7
            if data[at] < 0x80:
                break
        if data[at] == 0 and shift > 7:
            raise FormatError("the file is damaged: a length is not in its shortest form")
        at += 1
        if at + length > len(data):
            raise FormatError("the file is damaged: its metadata is cut short")
        body = data[at : at + length]
        if number == _OTHER:
            kind, body = body[:4], body[4:]
            if kind in KINDS or not is_ancillary(kind):
                raise FormatError("the file is damaged: it has metadata of an impossible kind")
        else:
            kind = KINDS[number]
        chunk = Chunk(kind, body)
        if not is_sound(chunk, mode):
            raise FormatError(f"the file is damaged: its {chunk.name} makes no sense")
        chunks.append(chunk)
        at += length
    return tuple(chunks)


def is_ancillary(kind: bytes) -> bool:
    """Whether a decoder of PNG files may pass over chunks of this kind."""
    return re.fullmatch(rb"[a-z][A-Za-z]{3}", kind) is not None


def is_sound(chunk: Chunk, mode: str) -> bool:
    """Whether the body is one that a PNG of this mode may have."""
    body = chunk.body
    match chunk.kind:
        case b"PLTE":
            return mode == "P" and len(body) % 3 == 0 and 3 <= len(body) <= 768
        case b"tRNS" if mode == "P":
            return 1 <= len(body) <= 256
        case b"tRNS":
            return len(body) == _TRANSPARENCY_LENGTHS.get(mode)
        case b"iCCP":
            name, zero, _ = body.partition(b"\0")
            return len(name) <= 79 and zero != b""
        case b"tEXt" | b"zTXt" | b"iTXt":
            keyword, zero, rest = body.partition(b"\0")
            fields = chunk.kind != b"iTXt" or (rest[:1] in (b"\0", b"\1") and rest.count(0, 1) >= 2)
            return 1 <= len(keyword) <= 79 and zero != b"" and fields
        case b"eXIf":
            return body != b""
        case b"IDAT":
            return body == b""
        case b"acTL":
            return len(body) >= 8 and len(body) % 4 == 0
        case b"pages":
            return len(body) == 4 and int.from_bytes(body, "big") >= 2
        case kind:
            return len(body) == _LENGTHS.get(kind, len(body))


def find(metadata: Iterable[Chunk], kind: bytes) -> bytes | None:
    """The body of the first chunk of a kind."""
    return next((chunk.body for chunk in metadata if chunk.kind == kind), None)


def frames(metadata: Iterable[Chunk]) -> int:
    """How many frames or pages the picture consists of: 1 unless there are several."""
    for chunk in metadata:
        if chunk.kind == b"acTL":
            return len(chunk.body) // 4 - 1
        if chunk.kind == b"pages":
            return int.from_bytes(chunk.body, "big")
    return 1


def frame_height(metadata: Iterable[Chunk], height: int) -> int:
    """The height of each frame or page of a picture. FormatError if it has no such frames."""
    count = frames(metadata)
    if height % count:
        raise FormatError("the file is damaged: its frames are not of one size")
    return height // count


# From and to the chunks of a PNG file.


def all_from_png(chunks: Sequence[Chunk]) -> Iterator[Chunk]:
    """The chunks of a PNG file, inflated.

    Raises UnsupportedImageError if one is damaged, LimitError before they take more room than a
    .pxz file has for them.
    """
    if len(chunks) > MAX_CHUNKS:
        raise too_much()
    room = MAX_METADATA
    for chunk in chunks:
        inflated = from_png(chunk.kind, chunk.body, room)
        room -= len(inflated.body)
        yield inflated


def from_png(kind: bytes, body: bytes, room: int = MAX_METADATA) -> Chunk:
    """A chunk as it stands in a PNG file. Raises UnsupportedImageError if it is damaged.

    LimitError if it is larger than ``room``.
    """
    if len(body) > room:
        raise too_much()
    try:
        if kind in (b"iCCP", b"zTXt"):
            keyword, rest = body.split(b"\0", 1)
            if (kind, keyword) == (b"iCCP", _UNNAMED):
                keyword = b""
            return Chunk(kind, keyword + b"\0" + _inflate(rest[:1], rest[1:], room))
        if kind == b"iTXt":
            keyword, rest = body.split(b"\0", 1)
            flag, method, fields = rest[:1], rest[1:2], rest[2:]
            language, translated, text = fields.split(b"\0", 2)
            if flag == b"\1":
                text = _inflate(method, text, room)
            return Chunk(kind, b"\0".join([keyword, flag + language, translated, text]))
    except (ValueError, zlib.error) as error:
        what = f"the image's {_NAMES[kind]} ({kind.decode()} chunk)"
        raise UnsupportedImageError(f"{what} is damaged; strip the metadata to drop it") from error
    return Chunk(kind, body)


def to_png(chunk: Chunk) -> bytes:
    """The body of the chunk as it stands in a PNG file."""
    match chunk.kind:
        case b"iCCP":
            name, profile = chunk.body.split(b"\0", 1)
            return (name or _UNNAMED) + b"\0\0" + zlib.compress(profile, 9)
        case b"zTXt":
            keyword, text = chunk.body.split(b"\0", 1)
            return keyword + b"\0\0" + zlib.compress(text, 9)
        case b"iTXt":
            keyword, rest = chunk.body.split(b"\0", 1)
            language, translated, text = rest[1:].split(b"\0", 2)
            if rest[:1] == b"\1":
                text = zlib.compress(text, 9)
            return b"\0".join([keyword, rest[:1] + b"\0" + language, translated, text])
        case _:
            return chunk.body


def _inflate(method: bytes, data: bytes, room: int) -> bytes:
    if method != b"\0":
        raise ValueError("unknown compression method")
    inflater = zlib.decompressobj()
    plain = inflater.decompress(data, room + 1)
    if len(plain) > room:
        raise too_much()
    if not inflater.eof:
        raise ValueError("cut short")
    return plain


# From and to `Image.info`, as Pillow's own PNG plugin fills it.


def from_pillow(image: Image.Image, info: Mapping[Any, Any]) -> Metadata:
    """The metadata of a loaded Pillow image.

    ``info`` is ``image.info``, perhaps with entries that a caller gave to ``save``. Raises
    ValueError if the EXIF data of a TIFF file is damaged.
    """
    chunks = [*look_from_pillow(image, info)]
    if profile := _blob(info.get("icc_profile")):
        chunks.append(Chunk(b"iCCP", b"\0" + profile))
    if info.get("srgb") is not None:
        chunks.append(Chunk(b"sRGB", bytes([info["srgb"]])))
    if info.get("gamma"):
        chunks.append(Chunk(b"gAMA", struct.pack(">I", round(info["gamma"] * 100000))))
    if info.get("chromaticity"):
        numbers = [round(number * 100000) for number in info["chromaticity"]]
        chunks.append(Chunk(b"cHRM", struct.pack(">8I", *numbers)))
    if resolution := _resolution(image, info):
        chunks.append(Chunk(b"pHYs", struct.pack(">IIB", *resolution)))
    if exif := _exif(image, info):
        chunks.append(Chunk(b"eXIf", exif))
    texts = _texts(image, info)
    chunks += texts
    chunks += _segments(image)
    xmp = _blob(info.get("xmp"))
    if xmp and not any(chunk.name == "XMP" for chunk in texts):
        chunks.append(Chunk(b"iTXt", _XMP + b"\0\0\0\0" + xmp))
    return tuple(chunks)


def of_page(image: Image.Image, extra: Mapping[str, Any]) -> Metadata:
    """The metadata of a page, of a TIFF file before it is loaded, but for its number.

    ``extra`` adds to it as in `from_pillow`.
    """
    if not isinstance(image, TiffImageFile):
        return from_pillow(image, {**image.info, **extra})
    tags = image.getexif()
    tags.pop(_PAGE_NUMBER, None)
    return from_pillow(image, {**image.info, "exif": descriptive(tags), **extra})


def without_number(metadata: bytes, mode: str) -> bytes:
    """The metadata of a page, serialised, but for the page's number."""
    kept = []
    for chunk in parse(metadata, mode):
        if chunk.kind == b"eXIf":
            tags = Image.Exif()
            tags.load(chunk.body)
            if _PAGE_NUMBER in tags:
                del tags[_PAGE_NUMBER]
                if not (exif := descriptive(tags)):
                    continue
                chunk = Chunk(b"eXIf", exif)
        kept.append(chunk)
    return serialise(kept)


def to_pillow(metadata: Iterable[Chunk], mode: str) -> dict[Any, Any]:
    """What `Image.info` is to say. The palette is not in it."""
    info: dict[Any, Any] = {}
    for chunk in metadata:
        body = chunk.body
        match chunk.kind:
            case b"tRNS":
                info["transparency"] = _transparency(body, mode)
            case b"iCCP":
                info["icc_profile"] = body.split(b"\0", 1)[1]
            case b"sRGB":
                info["srgb"] = body[0]
            case b"gAMA":
                info["gamma"] = int.from_bytes(body, "big") / 100000
            case b"cHRM":
                info["chromaticity"] = tuple(n / 100000 for n in struct.unpack(">8I", body))
            case b"pHYs":
                x, y, unit = struct.unpack(">IIB", body)
                info["dpi" if unit else "aspect"] = (x * _METRE, y * _METRE) if unit else (x, y)
            case b"eXIf":
                info["exif"] = _EXIF_PREFIX + body
            case b"tEXt" | b"zTXt":
                keyword, text = body.split(b"\0", 1)
                info[keyword.decode("latin-1")] = text.decode("latin-1")
            case b"iTXt":
                keyword, rest = body.split(b"\0", 1)
                language, translated, text = rest[1:].split(b"\0", 2)
                if keyword == _XMP:
                    info["xmp"] = text
                info[keyword.decode("latin-1")] = iTXt(
                    text.decode("utf-8", "replace"),
                    language.decode("utf-8", "replace"),
                    translated.decode("utf-8", "replace"),
                )
    return info


def _blob(value: object) -> bytes:
    """The bytes in an entry of ``Image.info``; none if it holds something else, as a TIFF may."""
    if isinstance(value, str):
        return value.encode()
    return bytes(value) if isinstance(value, bytes | bytearray | memoryview) else b""


def look_from_pillow(image: Image.Image, info: Mapping[Any, Any]) -> list[Chunk]:
    """Palette and transparency."""
    chunks = []
    transparency = info.get("transparency")
    if image.mode == "P":
        palette = bytes(image.getpalette("RGB") or b"")
        if palette:
            chunks.append(Chunk(b"PLTE", palette[:768]))
        if isinstance(transparency, int):
            transparency = b"\xff" * transparency + b"\0"
        elif transparency is None and image.palette and image.palette.mode == "RGBA":
            transparency = bytes(image.getpalette("RGBA") or b"")[3::4]
            if transparency == b"\xff" * len(transparency):
                transparency = None
        if transparency:
            chunks.append(Chunk(b"tRNS", bytes(transparency)[:256]))
    elif image.mode == "RGB" and isinstance(transparency, tuple):
        chunks.append(Chunk(b"tRNS", struct.pack(">3H", *transparency)))
    elif image.mode == "1" and isinstance(transparency, int):
        chunks.append(Chunk(b"tRNS", struct.pack(">H", transparency > 0)))
    elif (image.mode == "L" or image.mode.startswith("I;16")) and isinstance(transparency, int):
        chunks.append(Chunk(b"tRNS", struct.pack(">H", transparency)))
    return chunks


def _transparency(body: bytes, mode: str) -> object:
    """As Pillow's PNG plugin says it: an index, an alpha for each index, a grey or a colour."""
    if mode == "P":
        return body.index(0) if re.fullmatch(rb"\xff*\0\xff*", body) else body
    values = struct.unpack(f">{len(body) // 2}H", body)
    if mode == "1":
        return 255 if values[0] else 0
    return values if len(values) > 1 else values[0]


def _resolution(image: Image.Image, info: Mapping[Any, Any]) -> tuple[int, int, int] | None:
    """(x, y, unit) as in a pHYs chunk: unit 1 is pixels per metre, 0 only an aspect ratio."""
    if info.get("aspect"):
        return (*info["aspect"], 0)
    if info.get("dpi") == image.info.get("dpi") and not names_resolution(image):
        return None
    try:
        x, y = (float(value) / _METRE for value in info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if not all(math.isfinite(value) and 0.5 <= value < 2**31 for value in (x, y)):
        return None
    return round(x), round(y), 1


def _exif(image: Image.Image, info: Mapping[Any, Any]) -> bytes:
    """The TIFF structure of the EXIF data, without a prefix; empty if there is none."""
    exif = info.get("exif")
    if exif is None and image.format == "TIFF":
        exif = descriptive(image.getexif())
    if isinstance(exif, Image.Exif):
        exif = exif.tobytes()
    return _blob(exif).removeprefix(_EXIF_PREFIX)


def descriptive(tags: Image.Exif) -> bytes:
    """The EXIF data of a TIFF file, without what says where its pixels lie; empty if none.

    Raises ValueError if it is damaged.
    """
    exif = Image.Exif()
    try:
        for tag in tags:
            if tag not in _TIFF_STRUCTURE and tag not in _TIFF_DIRECTORIES:
                exif[tag] = tags[tag]
        for directory in _TIFF_DIRECTORIES:
            if entries := tags.get_ifd(directory):
                exif[directory] = entries
        return exif.tobytes() if len(exif) else b""
    except Exception as error:  # a tag of the wrong type gives whatever its use first gives
        raise ValueError("its EXIF data is damaged; strip the metadata to drop it") from error


def names_resolution(image: Image.Image) -> bool:
    """Whether a resolution that Pillow tells is the file's own.

    Where a TIFF names none, Pillow makes up 1; a JPEG's it takes from the EXIF data or makes up 72.
    """
    if isinstance(image, TiffImageFile):
        return {282, 283} <= set(image.tag_v2)
    return image.format not in ("JPEG", "MPO") or image.info.get("jfif_unit") in (1, 2)


def dots_per_inch(x: float, y: float) -> tuple[float, float]:
    """The resolution in ``Image.info``, for a file that holds it in dots per inch.

    PNG's whole pixels per metre make 299.9994 of 300, so what is that near to a whole number is it.
    """

    def whole(dots: float) -> float:
        nearest = round(dots)
        return nearest if round(nearest / _METRE) == round(dots / _METRE) else dots

    return whole(x), whole(y)


def _texts(image: Image.Image, info: Mapping[Any, Any]) -> list[Chunk]:
    """PNG text. Other formats fill ``info`` with strings that are not the picture's words."""
    if image.format not in (None, "PNG", "PXZ"):
        return []
    return [
        chunk
        for key, text in info.items()
        if isinstance(text, str) and key not in ("xmp", "compression")
        for chunk in [_text(key, text)]
        if is_sound(chunk, image.mode)
    ]


def _segments(image: Image.Image) -> Iterator[Chunk]:
    """The comments and the IPTC data of a JPEG, the comment of a GIF file."""
    for name, body in getattr(image, "applist", []):
        if name == "COM":
            yield Chunk(b"tEXt", b"Comment\0" + body)
        elif name == "APP13" and body.startswith(_PHOTOSHOP):
            yield Chunk(b"zTXt", _IPTC + b"\0" + _as_hex(body.removeprefix(_PHOTOSHOP)))
    if image.format == "GIF" and (comment := _blob(image.info.get("comment"))):
        yield Chunk(b"tEXt", b"Comment\0" + comment)


def _as_hex(profile: bytes) -> bytes:
    """A profile as the text that ImageMagick and ExifTool write and read."""
    digits = profile.hex().encode()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    return b"\niptc\n%8d\n%s\n" % (len(profile), b"\n".join(lines))


def _text(key: str, text: str) -> Chunk:
    """A tEXt chunk if that can hold the text, else iTXt."""
    keyword = key.encode("latin-1", "replace")
    if not isinstance(text, iTXt):
        try:
            return Chunk(b"tEXt", keyword + b"\0" + text.encode("latin-1"))
        except UnicodeEncodeError:
            text = iTXt(text)
    language, translated = str(text.lang or ""), str(text.tkey or "")
    fields = [keyword, b"\0" + language.encode(), translated.encode(), text.encode()]
    return Chunk(b"iTXt", b"\0".join(fields))
