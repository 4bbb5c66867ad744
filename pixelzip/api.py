"""The Python interface: images to ``.pxz`` bytes and back.

::

    data = pixelzip.compress("photo.png")      # a file, a Pillow image or a numpy array
    kept = pixelzip.compress("photo.jpg")      # of a JPEG all of the file, not only its picture
    jpeg = pixelzip.original(kept)             # which comes back byte for byte
    image = pixelzip.decompress(data)          # a Pillow image
    array = pixelzip.decompress_array(data)    # a numpy array, also for 16-bit colour
    print(pixelzip.info(data).bits_per_dim)
    images = pixelzip.sample("photo", 4)       # what the network takes for a picture

Wherever a picture goes in, it is a path, the bytes of a file, a Pillow image, an array of (height,
width) or (height, width, channels), or a torch tensor of (channels, height, width); a ``.pxz`` file
is bytes or a path. Errors are subclasses of `pixelzip.PixelzipError`, apart from the usual OSError
of a file that cannot be read.

*bits/dim* is always the bits of the whole file divided by its sub-pixels: width x height x samples
of a pixel. A 16-bit sample counts as one sub-pixel, and so does a palette index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelzip import pictures
from pixelzip.codec.container import MAGIC, MAX_PIXELS
from pixelzip.codec.errors import FormatError, of_file
from pixelzip.codec.picture import Picture
from pixelzip.codec.workers import side_by_side
from pixelzip.coding import (
    DEFAULT_DEVICE,
    DEFAULT_EFFORT,
    PHOTO,
    Region,
    check_single,
    decode,
    decode_documents,
    decode_many,
    encode_documents,
    encode_jpeg,
    finder,
    of_files,
    score,
    thread_count,
)
from pixelzip.description import Header, Info, Part, info, peek
from pixelzip.sampling import complete, sample
from pixelzip.sources import (
    DataLike,
    ImageLike,
    bytes_of,
    holds_jpeg,
    jpeg_of,
    named,
    named_among,
    to_picture,
    to_pictures,
)

Made = TypeVar("Made")

__all__ = [
    "DataLike",
    "Header",
    "ImageLike",
    "Info",
    "Part",
    "Region",
    "complete",
    "compress",
    "compress_many",
    "cost_map",
    "decompress",
    "decompress_array",
    "decompress_arrays",
    "decompress_many",
    "holds_jpeg",
    "ideal_bits",
    "info",
    "original",
    "peek",
    "sample",
]


def compress(
    image: ImageLike,
    *,
    network: str | None = None,
    origin: str = "auto",
    effort: str = DEFAULT_EFFORT,
    label: int | None = None,
    tile_size: int | None = None,
    threads: int | None = None,
    device: str = DEFAULT_DEVICE,
    strip: bool = False,
    pixels: bool = False,
) -> bytes:
    """Compress one image to the bytes of a ``.pxz`` file.

    A JPEG file is kept as a whole, and `original` gives it back. Its pixels are coded in its place
    if ``pixels`` says so, or any of the other options that are about pixels is given.

    ``network`` is a name from the zoo, the path of a frozen network, or ``"none"``; if it is not
    given, the effort says which: that of ``photo``, ``clean`` and ``tiny`` which a sample of the
    picture speaks for; or ``fast``. What it does not suit is coded without it: `info` says which
    networks a file uses.
    ``origin`` is ``"auto"`` to look for what the pixels were computed from, ``"none"`` to code them
    as they are.
    ``effort`` is ``"photo"``, or ``"fast"`` for larger files in about half of the time, or
    ``"max"`` for smaller ones that take several times as long, to decompress too: what the network
    says is corrected by what each tile has taught so far.
    ``label`` is a class of a network that has classes; without it each tile gets the best one.
    ``tile_size`` is the largest side of a tile in pixels (0: 4096, the largest there can be).
    ``threads``, from 1 on, defaults to the cores that this process may use, and ``device`` (a torch
    device, say ``"cuda"``) is where the network runs; neither changes the result. ``strip`` drops
    the metadata, except palette and transparency.

    Raises UnsupportedImageError if the image cannot be kept (NotAnImageError, also a TypeError, if
    it is none of these), LimitError if it is too large, UnknownNetworkError or NetworkFileError if
    the network cannot be had, UnsuitableNetworkError if it has no such class, DeviceError if there
    is no such device, OptionError if another option has a value that means nothing.
    """
    return compress_many(
        [image],
        network=network,
        origin=origin,
        effort=effort,
        label=label,
        tile_size=tile_size,
        threads=threads,
        device=device,
        strip=strip,
        pixels=pixels,
    )[0]


def compress_many(
    images: Iterable[ImageLike],
    *,
    network: str | None = None,
    origin: str = "auto",
    effort: str = DEFAULT_EFFORT,
    label: int | None = None,
    tile_size: int | None = None,
    threads: int | None = None,
    device: str = DEFAULT_DEVICE,
    strip: bool = False,
    pixels: bool = False,
) -> list[bytes]:
    """Compress several images together; the results are those of `compress`, in order.

    Raises what `compress` raises, with the path of the image or, say, ``images[3]`` before it.
    """
    of_pixels = pixels or strip or origin != "auto"
    of_pixels = of_pixels or not (network is None and label is None and tile_size is None)
    threads = thread_count(threads)
    images = list(images)
    jpegs: dict[int, bytes] = {}
    batch: dict[int, list[Picture]] = {}

    def kept(number: int) -> bytes:
        with of_file(number):
            return encode_jpeg(jpegs[number], name=images[number], threads=threads)

    with named_among(images, "images"), side_by_side(threads) as parallel:
        for number, image in enumerate(images):
            if not of_pixels and (jpeg := jpeg_of(image)) is not None:
                jpegs[number] = jpeg
            else:
                with of_file(number):
                    batch[number] = to_pictures(image, strip=strip)
        files = parallel(kept, list(jpegs))
        with of_files(list(batch)):
            coded = encode_documents(
                list(batch.values()),
                network,
                origin,
                effort,
                label,
                tile_size,
                threads,
                device,
                None,
            )
        made = dict(zip([*batch, *jpegs], [*coded, *files], strict=True))
    return [made[number] for number in sorted(made)]


def original(data: DataLike, *, threads: int | None = None, max_pixels: int = MAX_PIXELS) -> bytes:
    """The JPEG file that a ``.pxz`` file was made of, byte for byte.

    Raises FormatError if the file is damaged or holds a picture and no file, LimitError if its
    picture has more than ``max_pixels`` pixels, MissingLibraryError if this installation lacks the
    compiled code that it needs.
    """
    from pixelzip.codec.jpeg import file

    with named(data):
        stored = bytes_of(data)
        if stored.startswith(MAGIC) and not file.holds_jpeg(stored):
            raise FormatError("it holds a picture and no JPEG file: decompress it")
        return file.decode(stored, thread_count(threads), max_pixels)


def decompress(
    data: DataLike,
    *,
    region: Region | None = None,
    networks: Sequence[str] = (),
    threads: int | None = None,
    device: str = DEFAULT_DEVICE,
    max_pixels: int = MAX_PIXELS,
) -> Image.Image:
    """Decompress a ``.pxz`` file to a Pillow image, metadata in its ``info``.

    ``region`` is (x, y, width, height) in pixels, a crop for which only the tiles that it needs are
    decoded; the checksum of the file's bytes guards it, that of the pixels only a whole picture.
    ``networks`` are paths of frozen networks to look at besides those of the zoo; ``threads`` and
    ``device`` are those of `compress`. ``max_pixels`` bounds time and memory: a few bytes can stand
    for a large picture of one colour.

    Raises FormatError if the file is damaged (NotAFileError, also a TypeError, if it is neither
    bytes nor a path), LimitError if it has more than ``max_pixels`` pixels, UnknownNetworkError if
    its network is not at hand, DeviceError if there is no such device, RegionError if the region
    does not lie within the picture, UnsupportedImageError if Pillow cannot hold it (16-bit colour:
    use `decompress_array`).
    """
    with named(data):
        stored = bytes_of(data)
        if region is not None:
            partly = decode(
                stored,
                region=region,
                networks=networks,
                threads=threads,
                device=device,
                max_pixels=max_pixels,
            )
            return pictures.to_pillow(partly)
        (pages,) = decode_documents([stored], networks, threads, device, None, max_pixels)
        return pictures.to_pillow(*pages)


def decompress_array(
    data: DataLike,
    *,
    region: Region | None = None,
    networks: Sequence[str] = (),
    threads: int | None = None,
    device: str = DEFAULT_DEVICE,
    max_pixels: int = MAX_PIXELS,
) -> pictures.Array:
    """Decompress a ``.pxz`` file to an array of (height, width) or (height, width, channels).

    The dtype is uint8, uint16 for 16-bit images, bool for 1-bit images. Of a palette image the
    array holds the indices. Raises what `decompress` raises; UnsupportedImageError only if it holds
    pages that are not of one size and kind.
    """
    with named(data):
        return pictures.to_array(
            decode(
                bytes_of(data),
                region=region,
                networks=networks,
                threads=threads,
                device=device,
                max_pixels=max_pixels,
            )
        )


def decompress_many(
    files: Iterable[DataLike],
    *,
    networks: Sequence[str] = (),
    threads: int | None = None,
    device: str = DEFAULT_DEVICE,
    max_pixels: int = MAX_PIXELS,
) -> list[Image.Image]:
    """Decompress several files together: all their tiles step at once.

    Raises what `decompress` raises, with the path of the file or, say, ``files[3]`` before it, and
    then none of the images comes back.
    """
    files = list(files)
    with named_among(files, "files"):
        stored = [_of_file(number, bytes_of, data) for number, data in enumerate(files)]
        decoded = decode_documents(stored, networks, threads, device, None, max_pixels)
        return [_of_file(number, pictures.to_pillow, *them) for number, them in enumerate(decoded)]


def decompress_arrays(
    files: Iterable[DataLike],
    *,
    networks: Sequence[str] = (),
    threads: int | None = None,
    device: str = DEFAULT_DEVICE,
    max_pixels: int = MAX_PIXELS,
) -> list[pictures.Array]:
    """As `decompress_many`, to arrays: see `decompress_array`."""
    files = list(files)
    with named_among(files, "files"):
        stored = [_of_file(number, bytes_of, data) for number, data in enumerate(files)]
        decoded = decode_many(stored, networks, threads, device, None, max_pixels)
        return [_of_file(number, pictures.to_array, one) for number, one in enumerate(decoded)]


def _of_file(number: int, make: Callable[..., Made], *parts: Any) -> Made:
    """What is made of one of several files or its pictures; an error is about that file."""
    with of_file(number):
        return make(*parts)


def ideal_bits(
    image: ImageLike,
    *,
    network: str = PHOTO,
    threads: int | None = None,
    device: str = DEFAULT_DEVICE,
) -> NDArray[np.float32]:
    """The bits that each pixel of an image takes under a network: (height, width), in theory.

    That is the negative logarithm of its probability to the base 2, all its sub-pixels summed, cut
    into tiles as files are. Nothing is coded, and no origin or simpler form is looked for. With
    ``photo``, ``clean``, ``tiny`` and ``fast``, grey is coded by ``luma``.

    Raises UnsuitableNetworkError if the network does not code such pixels, and what `compress`
    raises of images and networks.
    """
    return score(to_picture(image, strip=True), network, threads, device)


def cost_map(
    data: DataLike,
    *,
    networks: Sequence[str] = (),
    threads: int | None = None,
    device: str = DEFAULT_DEVICE,
    progress: Callable[[float], None] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.float32]:
    """The bits that each pixel of a ``.pxz`` file took: (height, width), all its sub-pixels summed.

    In a network-coded tile this is each pixel's theoretical size, elsewhere the tile's payload
    spread evenly. ``progress`` is called with the fraction done, 0 to 1. Decodes the file, and
    raises what `decompress_array` raises.
    """
    from pixelzip.codec import costs
    from pixelzip.codec.jpeg import file

    with named(data):
        if holds_jpeg(data):
            return file.costs(bytes_of(data), thread_count(threads), max_pixels)
        check_single(bytes_of(data))
        return costs.cost_map(
            bytes_of(data),
            finder(networks, device),
            threads=thread_count(threads),
            progress=progress,
            max_pixels=max_pixels,
        )
