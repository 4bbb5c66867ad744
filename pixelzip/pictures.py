"""Pictures from and to what people have: image files, Pillow images, numpy arrays.

The codec takes a `Picture`: planes of bytes and metadata that it does not read. Everything that
knows an image format stands here and, where Pillow would cut samples down, in `pixelzip.png`,
`pixelzip.tiff`, `pixelzip.netpbm` and `pixelzip.isobmff`.

An animation is a tall picture of its frames, each as it is shown: one below the other; and so are
the pages of a TIFF file. What cannot come back exactly is refused with UnsupportedImageError:
floats, and whatever else Pillow would cut down without a word.
EXIF orientation is kept, not applied: the pixels stay as they are in the file.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from pixelzip import isobmff, metadata, netpbm, png, tiff
from pixelzip.codec.container import MAGIC, MAX_PIXELS, MAX_SIDE
from pixelzip.codec.errors import LimitError, PixelzipError, UnsupportedImageError
from pixelzip.codec.picture import MODES, Picture, bands
from pixelzip.codec.transforms import split

Array = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.bool_]

READABLE = {
    ".avif": "AVIF",
    ".avifs": "AVIF",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".heic": "HEIC",
    ".heif": "HEIC",
    ".j2k": "JPEG2000",
    ".jp2": "JPEG2000",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".jpx": "JPEG2000",
    ".mpo": "JPEG",
    ".npy": "NPY",
    ".pam": "PAM",
    ".pbm": "PPM",
    ".pcx": "PCX",
    ".pgm": "PPM",
    ".png": "PNG",
    ".pnm": "PPM",
    ".ppm": "PPM",
    ".qoi": "QOI",
    ".tga": "TGA",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
"""File name suffix -> Pillow's name of each format that is read. The name does not matter when a
file is read, only its content; a folder is searched by these suffixes."""

_OF_WEBP = ("exif", "icc_profile", "xmp")
_OURS = frozenset(["HEIC", "NPY", "PAM"])

_RAW = "a camera's raw file"
UNREADABLE = {
    **dict.fromkeys((".heics", ".heifs"), "a sequence of pictures"),
    **dict.fromkeys((".jpc", ".jpf", ".jpm", ".mj2"), "JPEG 2000 by that name"),
    **dict.fromkeys((".jls",), "JPEG-LS"),
    **dict.fromkeys((".jxl",), "JPEG XL"),
    **dict.fromkeys((".jxr", ".wdp"), "JPEG XR"),
    **dict.fromkeys((".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef"), _RAW),
    **dict.fromkeys((".raw", ".srw", ".x3f", ".3fr", ".iiq"), _RAW),
    **dict.fromkeys((".psd", ".psb"), "Photoshop"),
    **dict.fromkeys((".exr",), "OpenEXR"),
    **dict.fromkeys((".hdr",), "Radiance"),
    **dict.fromkeys((".xcf",), "GIMP"),
    **dict.fromkeys((".ico", ".cur"), "ICO"),
    **dict.fromkeys((".svg", ".svgz", ".ai", ".eps", ".pdf"), "a drawing or a document"),
}
"""File name suffix -> what each format of images is called that is not read."""

# Formats that can be written -> the modes that they hold, and the metadata, by the names of
# `metadata.Chunk.name`. PNG holds all.
_NPY_MODES = frozenset(MODES) - {"P", "CMYK", "CMYK;16"}
_WRITABLE: dict[str, tuple[str, frozenset[str], frozenset[str]]] = {
    ".tif": (
        "TIFF",
        frozenset(MODES),
        frozenset(["palette", "ICC profile", "EXIF", "XMP", "resolution", "pages"]),
    ),
    ".bmp": (
        "BMP",
        frozenset(["1", "L", "P", "RGB"]),
        frozenset(["palette", "resolution"]),
    ),
    ".webp": (
        "WEBP",
        frozenset(["RGB", "RGBA"]),
        frozenset(["ICC profile", "EXIF", "XMP"]),
    ),
    ".pbm": ("PPM", frozenset(["1"]), frozenset()),
    ".pgm": ("PPM", frozenset(["L", "I;16"]), frozenset()),
    ".ppm": ("PPM", frozenset(["RGB", "RGB;16"]), frozenset()),
    ".pam": ("PAM", _NPY_MODES, frozenset()),
    ".pnm": ("PPM", frozenset(["1", "L", "I;16", "RGB", "RGB;16"]), frozenset()),
    ".npy": ("NPY", _NPY_MODES, frozenset(["animation", "pages"])),
}
_WRITABLE[".tiff"] = _WRITABLE[".tif"]

_ARRAY_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_DEEP_COLOURS = frozenset(mode for mode in MODES if mode.endswith(";16") and mode != "I;16")
"""16-bit modes that Pillow has nothing for."""
_DEEP_MODES = {1: "I;16", 2: "LA;16", 3: "RGB;16", 4: "RGBA;16"}
_REFUSED = {
    "F": "floating-point pixels cannot be kept; convert it to 8 or 16 bits first",
    "I": "32-bit integer pixels cannot be kept; convert it to 8 or 16 bits first",
}
_NPY_START = b"\x93NUMPY"
_JPEG_START = b"\xff\xd8\xff"


def samples_per_pixel(mode: str) -> int:
    """Sub-pixels of a pixel. A 16-bit sample is one sub-pixel, and so is a palette index."""
    return sum(MODES[mode]) // (2 if mode.endswith(";16") else 1)


def is_jpeg(data: bytes) -> bool:
    """Whether a file's content is a JPEG."""
    return data.startswith(_JPEG_START)


def read_pages(data: bytes, *, strip: bool = False) -> list[Picture]:
    """As `read`, but of a TIFF file whose pages are not alike a picture of each page."""
    if not tiff.is_tiff(data):
        return [_read(data, strip)]
    pages: list[Picture] = []
    with _decoding():
        for page in tiff.apart(data):
            pages.append(_read(page, strip))
            check_together(pages)
    kinds = {
        (p.mode, p.width, p.height, metadata.without_number(p.metadata, p.mode)) for p in pages
    }
    if len(pages) == 1 or len(kinds) > 1:
        return pages
    ((mode, width, height, about),) = kinds
    _check_size(width, height * len(pages))
    planes = zip(*(page.planes for page in pages), strict=True)
    count = metadata.Chunk(b"pages", len(pages).to_bytes(4, "big"))
    whole = metadata.serialise((count, *metadata.parse(about, mode)))
    return [Picture(mode, tuple(map(np.concatenate, planes)), whole)]


def read(data: bytes, *, strip: bool = False) -> Picture:
    """The picture in the bytes of an image file, with its metadata unless ``strip``.

    Raises UnsupportedImageError if it is not an image of a known format, is damaged, or cannot be
    kept; LimitError if it is too large.
    """
    first, *others = read_pages(data, strip=strip)
    if others:
        raise UnsupportedImageError(
            f"its {len(others) + 1} pages are not of one size and kind: they are no single picture"
        )
    return first


def _read(data: bytes, strip: bool) -> Picture:
    """The same of a file that is no TIFF, or one of a single page."""
    if not data:
        raise UnsupportedImageError("the file is empty")
    if data.startswith(MAGIC):
        raise UnsupportedImageError("the file is a .pxz already")
    chunks: list[metadata.Chunk] | None = None
    header = None
    if data.startswith(png.SIGNATURE):
        header, data, chunks = png.take_apart(data)
    samples: png.Samples
    if data.startswith(_NPY_START):
        with _decoding():
            return from_array(_npy(data))
    if netpbm_header := netpbm.header_of(data):
        _check_size(netpbm_header.width, netpbm_header.height)
        samples = netpbm.read(netpbm_header, data)
        if netpbm_header.largest == 1:
            return _picture("1", samples, ())
        return from_array(samples)
    if isobmff.is_heic(data):
        with _decoding():
            return _from_heic(data, strip)
    if tiff.is_tiff(data):
        with _decoding():
            return _from_tiff(data, strip)
    with _decoding(), Image.open(io.BytesIO(data), formats=_formats()) as image:
        _check_size(*image.size)
        if header is not None and chunks is not None and _is_animation(image):
            png.check_rows(header, data)
            of_frames = (c for c in chunks if c.kind in metadata.OF_ANIMATIONS and not strip)
            kept = metadata.all_from_png(list(of_frames))
            if header.depth == 16:
                return _deep_animation(header, data, kept)
            return _animation(image, kept)
        if image.format == "AVIF":
            image.info["loop"] = isobmff.plays_of(data)
        if _is_animation(image) and (frames := _deep(image, data)) is not None:
            return _deep_sequence(image, frames, strip)
        if (found := _deep(image, data)) is not None:
            chunks_of = metadata.look_from_pillow if strip else metadata.from_pillow
            return _picture(_DEEP_MODES[found.shape[2]], found, chunks_of(image, image.info))
        if header is None or chunks is None:
            return from_pillow(image, strip=strip)
        png.check_rows(header, data)
        if header.is_deep:
            deep = png.read_deep(header, data)
            mode, samples = _DEEP_MODES[deep.shape[2]], deep
        else:
            mode, samples = _samples(image)
    return _picture(mode, samples, _from_png(chunks, mode, header.depth, strip))


def _formats() -> list[str]:
    """All that can be read; first those that Pillow knows without loading all the others."""
    Image.preinit()
    return sorted(set(READABLE.values()) - _OURS, key=lambda name: (name not in Image.OPEN, name))


def _deep(image: Image.Image, data: bytes) -> NDArray[np.uint16] | None:
    """The samples of 16 bits that Pillow would cut; None of an image that has none such.

    Of a sequence of frames (frames, height, width, channels).
    """
    if image.format not in ("AVIF", "JPEG2000") or image.mode == "I;16":
        return None
    depth = isobmff.depth_of(data, image.format)
    if depth <= 8:
        return None
    frames = getattr(image, "n_frames", 1)
    _check_size(image.width, image.height * frames)
    return isobmff.read_deep(data, image.format, depth, frames)


def _from_tiff(data: bytes, strip: bool) -> Picture:
    with tiff.opened(data) as opened:
        image = opened.image
        _check_size(*image.size)
        if not opened.mode:
            return from_pillow(image, strip=strip)
        chunks_of = metadata.look_from_pillow if strip else metadata.from_pillow
        chunks = chunks_of(image, image.info)  # before Pillow forgets how the pixels lay
        return _picture(opened.mode, opened.samples(), chunks)


def _from_heic(data: bytes, strip: bool) -> Picture:
    image, samples = isobmff.read_heic(data, _check_size)
    chunks_of = metadata.look_from_pillow if strip else metadata.from_pillow
    chunks = chunks_of(image, image.info)
    if samples is not None:
        return _picture(_DEEP_MODES[samples.shape[2]], samples, chunks)
    return _picture(*_samples(image), chunks)


def _npy(data: bytes) -> NDArray[Any]:
    """The array of a .npy file, which is as long as it says, and holds no objects."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise UnsupportedImageError("the file is an array of another version")
    array = np.frombuffer(data, dtype, math.prod(shape), file.tell())
    if file.tell() + array.nbytes != len(data):
        raise UnsupportedImageError("the file is a damaged array: bytes follow it")
    array = array.reshape(shape, order="F" if is_fortran else "C")
    return array.astype(dtype.newbyteorder("="))


CATCHING = RLock()
"""One thread at a time: which warnings are caught is the same for all."""


@contextmanager
def _decoding() -> Iterator[None]:
    """Turn whatever Pillow raises into our errors: of damaged files that can be any exception."""
    try:
        with CATCHING, warnings.catch_warnings():
            # Of large images: our own limit stands below Pillow's error and above its warning. Of
            # tags that cannot be read: `leftovers` names them.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except (PixelzipError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise LimitError(f"the image has more than the limit of {MAX_PIXELS} pixels") from error
    except UnidentifiedImageError as error:
        known = ", ".join(sorted(set(READABLE.values())))
        raise UnsupportedImageError(
            f"the file is not an image that pixelzip reads ({known})"
        ) from error
    except Exception as error:
        raise UnsupportedImageError(f"the file is damaged: {_sentence(error)}") from error


def _sentence(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def check_together(pages: Sequence[Picture]) -> None:
    """Raise LimitError if pictures have more pixels in all than one may have."""
    if sum(page.width * page.height for page in pages) > MAX_PIXELS:
        raise LimitError(f"its pages have more than the limit of {MAX_PIXELS} pixels in all")


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise LimitError(
            f"the image is {width}x{height}, more than the limit of {MAX_PIXELS} pixels"
        )
    if max(width, height) > MAX_SIDE:
        raise LimitError(f"the image is {width}x{height} and each side may be 1 to {MAX_SIDE}")


def _as_stored(image: Image.Image, strip: bool) -> Image.Image:
    """Pillow turns a TIFF file's pixels upright and forgets how they lay: lay them back."""
    if not isinstance(image, TiffImageFile) or (turn_back := tiff.turned_back(image)) is None:
        return image
    _check_keepable(image)
    exif = b"" if strip else metadata.descriptive(image.getexif())
    stored = image.transpose(turn_back)
    stored.info["exif"] = exif
    if not metadata.names_resolution(image):
        stored.info.pop("dpi", None)
    return stored


def _from_png(
    chunks: list[metadata.Chunk], mode: str, depth: int, strip: bool
) -> metadata.Metadata:
    """The chunks that a picture of this mode can have."""
    if strip:
        chunks = [chunk for chunk in chunks if chunk.kind in metadata.LOOK]
    if mode == "L" and depth < 8:
        # Pillow has spread the grey levels over 8 bits; the transparent one and that of the
        # background go with them.
        spread = 255 // (2**depth - 1)
        chunks = [
            metadata.Chunk(c.kind, (int.from_bytes(c.body, "big") * spread).to_bytes(2, "big"))
            if c.kind in (b"tRNS", b"bKGD")
            and len(c.body) == 2
            and c.body[0] == 0
            and c.body[1] < 2**depth
            else c
            for c in chunks
        ]
    kept = metadata.all_from_png(chunks)
    return tuple(chunk for chunk in kept if metadata.is_sound(chunk, mode))


def from_pillow(
    image: Image.Image, *, strip: bool = False, extra: Mapping[str, Any] | None = None
) -> Picture:
    """The picture in a Pillow image of mode 1, L, LA, P, RGB, RGBA, CMYK or I;16.

    ``extra`` adds to the metadata in ``image.info``, under the same names. Raises
    UnsupportedImageError if the image cannot be kept, LimitError if it is too large.
    """
    _check_size(*image.size)
    if _is_animation(image):
        known = () if strip else metadata.from_pillow(image, dict(image.info) | dict(extra or {}))
        return _animation(image, [c for c in known if c.kind in metadata.OF_ANIMATIONS])
    if _has_pages(image):
        return _pages(image, strip, extra or {})
    _check_keepable(image)
    image = _as_stored(image, strip)
    mode, samples = _samples(image)
    chunks = metadata.look_from_pillow if strip else metadata.from_pillow
    return _picture(mode, samples, chunks(image, dict(image.info) | dict(extra or {})))


def _is_animation(image: Image.Image) -> bool:
    moving = image.format in ("AVIF", "GIF", "PNG", "PXZ", "WEBP") and not _has_pages(image)
    return moving and getattr(image, "n_frames", 1) > 1


def _has_pages(image: Image.Image) -> bool:
    if isinstance(image, TiffImageFile):
        return tiff.pages(image) > 1
    return getattr(image, "has_pages", False)


def _animation(image: Image.Image, chunks: Iterable[metadata.Chunk]) -> Picture:
    """The frames of an animation as they are shown, with their durations."""
    if image.info.get("default_image"):
        raise UnsupportedImageError("the image that stands in for the animation cannot be kept")
    count = getattr(image, "n_frames", 1)
    _check_size(image.width, image.height * count)
    samples = np.empty((image.height * count, image.width, 4), np.uint8)
    durations, place = b"", image.tell()
    for number, frame in enumerate(np.split(samples, count)):
        image.seek(number)
        frame[:] = np.asarray(image.convert("RGBA"))
        durations += _duration(image.info.get("duration", 0))
    plays = image.info.get("loop", 0 if image.format == "AVIF" else 1)
    if image.format == "GIF" and plays and "loop" in image.info:
        plays += 1  # it says how often it is repeated
    image.seek(place)
    animation = metadata.Chunk(b"acTL", plays.to_bytes(4, "big") + durations)
    if (samples[..., 3] == 255).all():
        return _picture("RGB", samples[..., :3], [animation, *chunks])
    return _picture("RGBA", samples, [animation, *chunks])


def _pages(image: Image.Image, strip: bool, extra: Mapping[str, Any]) -> Picture:
    """The pages of a document, one below the other; the first one's metadata stands for all."""

    def kind() -> tuple[object, ...]:
        look = metadata.look_from_pillow(image, image.info)
        turn = tiff.turned_back(image) if isinstance(image, TiffImageFile) else None
        return image.mode, image.size, turn, look

    count, place = getattr(image, "n_frames", 1), image.tell()
    _check_size(image.width, image.height * count)
    image.seek(0)
    first, chunks = kind(), metadata.of_page(image, extra)
    for number in range(count):
        image.seek(number)
        _check_keepable(image)
        if kind() != first:
            raise UnsupportedImageError(
                f"its {count} pages are not of one size and kind; save each as an image of its own"
            )
        mode, page = _samples(_as_stored(image, strip))
        if number == 0:
            samples = np.empty((count, *page.shape), page.dtype)
        samples[number] = page
    image.seek(place)
    chunks = (metadata.Chunk(b"pages", count.to_bytes(4, "big")), *chunks)
    kept = [chunk for chunk in chunks if chunk.kind in metadata.LOOK or not strip]
    return _picture(mode, samples.reshape(-1, *samples.shape[2:]), kept)


def _deep_animation(header: png.Header, data: bytes, chunks: Iterable[metadata.Chunk]) -> Picture:
    """The same of an animated PNG of 16 bits a sample; ``data`` is what `png.take_apart` gives."""
    plays, count = png.animation(data)
    _check_size(header.width, header.height * count)
    samples = np.empty((header.height * count, header.width, 4), np.uint16)
    durations = b""
    for into, (frame, milliseconds) in zip(
        np.split(samples, count), png.deep_frames(header, data), strict=True
    ):
        into[:] = frame
        durations += _duration(milliseconds)
    animation = metadata.Chunk(b"acTL", plays.to_bytes(4, "big") + durations)
    if (samples[..., 3] == 65535).all():
        return _picture("RGB;16", samples[..., :3], [animation, *chunks])
    return _picture("RGBA;16", samples, [animation, *chunks])


def _deep_sequence(image: Image.Image, frames: NDArray[np.uint16], strip: bool) -> Picture:
    """The same of an AVIF sequence whose samples Pillow cuts down, from (frame, ...) samples."""
    durations = b""
    for number in range(len(frames)):
        image.seek(number)
        image.load()  # which says how long it is shown
        durations += _duration(image.info.get("duration", 0))
    animation = metadata.Chunk(b"acTL", image.info["loop"].to_bytes(4, "big") + durations)
    chunks = () if strip else metadata.from_pillow(image, image.info)
    kept = [chunk for chunk in chunks if chunk.kind in metadata.OF_ANIMATIONS]
    samples = frames.reshape(-1, *frames.shape[2:])
    return _picture(_DEEP_MODES[samples.shape[2]], samples, [animation, *kept])


def _duration(milliseconds: float | Fraction) -> bytes:
    """Seconds as a fraction of two bytes each: see `metadata.Chunk`."""
    seconds = Fraction(milliseconds).limit_denominator(2**24) / 1000
    seconds = seconds.limit_denominator(65535)
    if seconds.numerator > 65535:
        raise UnsupportedImageError(f"a frame of {float(seconds)} seconds cannot be kept")
    return struct.pack(">HH", seconds.numerator, seconds.denominator)


def frame_height(picture: Picture) -> int:
    """The height of a picture, or of each frame or page. FormatError if it is damaged."""
    chunks = metadata.parse(picture.metadata, picture.mode)
    return metadata.frame_height(chunks, picture.height)


def _check_keepable(image: Image.Image) -> None:
    """Refuse several images, and what Pillow cuts to 8 bits, drops or changes without a word."""
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in ("MPO", "PXZ", "TIFF"):  # a JPEG and more; pages
        raise UnsupportedImageError(
            f"the image has {frames} frames or pages; save the one to keep as an image"
        )
    if isinstance(image, TiffImageFile):
        tiff.check(image)
        if image.mode in MODES | {"I;16B": ()} and tiff.is_cut(image):
            raise _deep_kind(max(tiff.bits_of(image.tag_v2)))
    elif image.format == "PPM" and image.tile and image.tile[0].codec_name.startswith("ppm"):  # type: ignore[attr-defined]
        largest = int(image.tile[0].args[-1])  # type: ignore[attr-defined]
        bits = largest.bit_length()
        if image.mode == "I":
            raise UnsupportedImageError(
                f"{bits}-bit grey cannot be kept; convert it to 8 or 16 bits first"
            )
        if bits > 8:
            raise _deep_kind(bits)
        if 255 % largest:  # of others Pillow makes whole multiples
            raise UnsupportedImageError(
                f"samples from 0 to {largest} cannot be kept; convert it to 8 or 16 bits first"
            )


def _deep_kind(bits: int) -> UnsupportedImageError:
    return UnsupportedImageError(
        f"{bits}-bit samples of this kind cannot be read; convert the image to PNG first"
    )


def _samples(image: Image.Image) -> tuple[str, png.Samples]:
    """Mode and (height, width, channels) samples of a Pillow image."""
    if image.width == 0 or image.height == 0:
        raise UnsupportedImageError("the image has no pixels")
    if image.format == "PPM" and image.mode == "I" and image.tile[0].codec_name == "raw":  # type: ignore[attr-defined]
        image = Image.fromarray(np.asarray(image).astype(np.uint16))  # a 16-bit PGM file
    if image.mode.startswith("I;16"):
        return "I;16", np.asarray(image).astype(np.uint16)[..., np.newaxis]
    if image.mode not in MODES:
        reason = f"images of mode {image.mode} cannot be kept; convert it to RGB or L first"
        raise UnsupportedImageError(_REFUSED.get(image.mode, reason))
    pixels = np.asarray(image).astype(np.uint8, copy=False)
    if image.mode == "CMYK":
        pixels = 255 - pixels
    return image.mode, pixels if pixels.ndim == 3 else pixels[..., np.newaxis]


def to_pillow(picture: Picture, *others: Picture) -> Image.Image:
    """The picture as a Pillow image, metadata in its ``info``; with others, one of all as pages.

    Raises UnsupportedImageError for 16-bit samples of more than one channel: Pillow has no mode for
    them.
    """
    for page in (picture, *others):
        if page.mode in _DEEP_COLOURS:
            raise deep_error(page.mode)
    if others:
        return Image.open(io.BytesIO(write_pages([picture, *others], ".tif")[0]))
    chunks = metadata.parse(picture.metadata, picture.mode)
    if metadata.frames(chunks) > 1:
        suffix = suffix_of(picture.mode, chunks)
        return Image.open(io.BytesIO(write(picture, suffix)[0]))
    return _still(picture.mode, _joined(picture), chunks)


def _apart(picture: Picture) -> list[Picture]:
    """The pages of a picture of several that are alike. FormatError if it is damaged."""
    chunks = metadata.parse(picture.metadata, picture.mode)
    count = metadata.frames(chunks)
    metadata.frame_height(chunks, picture.height)
    planes = zip(*(np.split(plane, count) for plane in picture.planes), strict=True)
    about = metadata.serialise(chunk for chunk in chunks if chunk.kind != b"pages")
    return [Picture(picture.mode, of_page, about) for of_page in planes]


def _still(mode: str, samples: png.Samples, chunks: metadata.Metadata) -> Image.Image:
    """A single Pillow image."""
    height, width = samples.shape[:2]
    if mode == "1":
        image = Image.frombytes(
            "1", (width, height), np.packbits(samples[..., 0], axis=1).tobytes()
        )
    elif mode == "I;16":
        image = Image.frombytes("I;16", (width, height), samples.astype("<u2").tobytes())
    else:
        image = Image.new(mode, (width, height))
        top = 0
        for band in bands(samples):
            shown = (255 - band if mode == "CMYK" else band).tobytes()
            image.paste(Image.frombytes(mode, (width, len(band)), shown), (0, top))
            top += len(band)
    if palette := metadata.find(chunks, b"PLTE"):
        image.putpalette(palette, "RGB")
    image.info.update(metadata.to_pillow(chunks, mode))
    return image


def deep_error(mode: str) -> UnsupportedImageError:
    """That Pillow has nothing for 16-bit samples of more than one channel."""
    format_ = "TIFF" if mode.startswith("CMYK") else "PNG"
    return UnsupportedImageError(
        f"Pillow cannot hold 16-bit samples of mode {mode.partition(';')[0]}; "
        f"decompress it to a {format_} file or to a numpy array"
    )


def from_array(array: NDArray[Any]) -> Picture:
    """The picture in a (height, width) or (height, width, channels) array.

    One channel is grey, 2 are grey and alpha, 3 RGB, 4 RGBA, of dtype uint8 or uint16; a bool array
    without a channel axis is a 1-bit image. Raises UnsupportedImageError for anything else,
    LimitError if it is too large.
    """
    samples = array[..., np.newaxis] if array.ndim == 2 else array
    if samples.ndim != 3 or samples.shape[2] not in _ARRAY_MODES or 0 in samples.shape:
        raise UnsupportedImageError(
            f"an array of shape {array.shape} is not an image; it must be (height, width) or "
            "(height, width, 1 to 4)"
        )
    _check_size(samples.shape[1], samples.shape[0])
    if array.dtype.newbyteorder("=") == np.uint16:
        return _picture(_DEEP_MODES[samples.shape[2]], samples.astype(np.uint16), ())
    if array.dtype == np.bool_ and array.ndim == 2:
        return _picture("1", samples.astype(np.uint8), ())
    if array.dtype != np.uint8:
        raise UnsupportedImageError(
            f"arrays of {array.dtype} cannot be kept; convert it to uint8 or uint16 first"
        )
    return _picture(_ARRAY_MODES[samples.shape[2]], samples, ())


def to_array(picture: Picture) -> Array:
    """The samples: (height, width) of one channel, else (height, width, channels).

    Of an animation, all its frames: (frames, height, width) or (frames, height, width, channels).

    uint8, or uint16 for 16-bit modes, or bool for a 1-bit image. Of a palette image they are the
    indices, of a CMYK image cyan, magenta, yellow and black.
    """
    samples = _joined(picture)
    if picture.mode.startswith("CMYK"):
        samples = np.iinfo(samples.dtype).max - samples
    if (height := frame_height(picture)) < picture.height:
        samples = samples.reshape(-1, height, *samples.shape[1:])
    flat = samples[..., 0] if samples.shape[-1] == 1 else samples
    if picture.mode == "1":
        return flat.astype(np.bool_)
    return np.require(flat, requirements=["C", "W"])


def suffix_of(mode: str, chunks: metadata.Metadata) -> str:
    """That of the image files which hold all of such a picture: ``.png``, or else ``.tif``."""
    has_pages = metadata.find(chunks, b"pages") is not None
    return ".tif" if has_pages or mode.startswith("CMYK") else ".png"


def check_writable(suffix: str) -> None:
    """Raise UnsupportedImageError unless files with this suffix can be written without loss."""
    if suffix.lower() not in (".png", *_WRITABLE):
        names = ", ".join([".png", *_WRITABLE])
        raise UnsupportedImageError(f"{suffix} files cannot be written without loss; use {names}")


def write(picture: Picture, suffix: str) -> tuple[bytes, list[str]]:
    """The bytes of an image file, and the names of the metadata that its format cannot hold.

    ``suffix`` is the file name's (``.png``, ``.tif``, ``.bmp``, ``.ppm``, ``.npy``...). Raises
    UnsupportedImageError if the format would lose pixels or does not exist.
    """
    check_writable(suffix)
    chunks = metadata.parse(picture.metadata, picture.mode)
    has_pages = metadata.find(chunks, b"pages") is not None
    if suffix.lower() == ".png" and suffix_of(picture.mode, chunks) != ".png":
        what = "several pages" if has_pages else f"an image of mode {picture.mode}"
        raise UnsupportedImageError(f"{suffix} cannot hold {what}; use .tif")
    if suffix.lower() == ".png":
        return png.write(picture.mode, _joined(picture), chunks), []
    format_, modes, kept = _WRITABLE[suffix.lower()]
    lost = [chunk.name for chunk in chunks if chunk.name not in kept]
    if "animation" in lost:
        raise UnsupportedImageError(f"{suffix} cannot hold an animation; use .png")
    if "pages" in lost:
        raise UnsupportedImageError(f"{suffix} cannot hold several pages; use .tif")
    what = f"an image of mode {picture.mode}"
    if picture.mode not in modes or "transparency" in lost:
        what += " with transparency" if "transparency" in lost else ""
        other = suffix_of(picture.mode, chunks)
        raise UnsupportedImageError(f"{suffix} cannot hold {what}; use {other}")
    if format_ == "TIFF" and has_pages:
        return write_pages(_apart(picture), suffix)
    if format_ == "NPY":
        return _array_file(to_array(picture)), sorted(set(lost))
    out = io.BytesIO()
    samples = _joined(picture)
    if format_ == "PAM":
        out.write(netpbm.write_pam(picture.mode, samples))
    elif format_ == "PPM" and picture.mode == "RGB;16":
        out.write(netpbm.write_ppm(samples))
    elif format_ == "TIFF" and picture.mode in _DEEP_COLOURS:
        info = metadata.to_pillow(chunks, picture.mode)
        dots = metadata.dots_per_inch(*info["dpi"]) if "dpi" in info else None
        out.write(tiff.write(picture.mode, samples.astype(np.uint16), _tiff_tags(info), info, dots))
    else:
        image = _still(picture.mode, samples, chunks)
        info = image.info
        if format_ == "WEBP" and picture.mode == "RGBA" and picture.planes[1].min() == 255:
            lost.append("opaque alpha")
        options: dict[str, Any] = {}
        if kept and "dpi" in info:
            options["dpi"] = metadata.dots_per_inch(*info["dpi"])
        elif format_ == "BMP":
            options["dpi"] = (0, 0)  # none; Pillow would make up 96
        if format_ == "TIFF":
            options |= {"exif": _tiff_tags(info), "icc_profile": info.get("icc_profile")}
        if format_ == "WEBP":
            options |= {"lossless": True, "exact": True, "quality": 100}
            options |= {name: info[name] for name in _OF_WEBP if name in info}
        image.info = {}
        image.save(out, format_, **options)
    return out.getvalue(), sorted(set(lost))


def write_pages(pages: Sequence[Picture], suffix: str) -> tuple[bytes, list[str]]:
    """As `write`, of pictures that are the pages of a document."""
    check_writable(suffix)
    if suffix.lower() not in (".tif", ".tiff"):
        raise UnsupportedImageError(f"{suffix} cannot hold pages of several kinds; use .tif")
    files, lost = zip(*(write(page, suffix) for page in pages), strict=True)
    return tiff.joined(files), sorted({name for names in lost for name in names})


def _array_file(array: Array) -> bytes:
    """A .npy file; `np.save` would have the array in memory twice more."""
    head = io.BytesIO()
    about = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(head, about)
    return b"".join([head.getvalue(), np.ascontiguousarray(array).data])


def _tiff_tags(info: Mapping[Any, Any]) -> Image.Exif:
    """EXIF and XMP as a TIFF file's tags. Raises UnsupportedImageError for EXIF that is damaged."""
    given, tags = Image.Exif(), Image.Exif()
    try:
        given.load(info.get("exif", b""))
        tags.load(metadata.descriptive(given))
    except (SyntaxError, ValueError, struct.error) as error:
        raise UnsupportedImageError("its EXIF data is damaged; use .png") from error
    if "xmp" in info:
        tags[700] = info["xmp"]
    return tags


def _picture(mode: str, samples: png.Samples, chunks: Iterable[metadata.Chunk]) -> Picture:
    """Cut (height, width, channels) samples into the mode's planes."""
    if samples.dtype == np.uint16:
        samples = np.concatenate([samples >> 8, samples & 255], axis=2).astype(np.uint8)
    parts = split(np.ascontiguousarray(samples, np.uint8), MODES[mode])
    return Picture(mode, tuple(map(np.ascontiguousarray, parts)), metadata.serialise(chunks))


def _joined(picture: Picture) -> png.Samples:
    """The inverse of `_picture`."""
    if not picture.mode.endswith(";16"):
        one, *others = picture.planes
        return np.concatenate(picture.planes, axis=2) if others else one
    half = len(picture.planes) // 2
    samples = np.concatenate(picture.planes[:half], axis=2, dtype=np.uint16)
    samples <<= 8
    samples |= np.concatenate(picture.planes[half:], axis=2)
    return samples
