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

import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelzip import metadata, pictures
from pixelzip.codec import transforms
from pixelzip.codec.container import MAGIC, MAX_PIXELS, Component, header_of, unpack
from pixelzip.codec.errors import (
    FormatError,
    LimitError,
    NotAnImageError,
    PixelzipError,
    RegionError,
    UnsuitableNetworkError,
    UnsupportedImageError,
)
from pixelzip.codec.methods import MAX_NETWORK_SIDE, Method
from pixelzip.codec.picture import Picture, kind_of

if TYPE_CHECKING:
    from pixelzip.codec.conditional import Conditional
    from pixelzip.codec.decode import Partial
    from pixelzip.codec.tiles import Known

DataLike = bytes | bytearray | memoryview | str | os.PathLike[str]
ImageLike = Image.Image | NDArray[Any] | DataLike
Region = tuple[int, int, int, int]
"""(x, y, width, height) in pixels."""

PHOTO = "photo"
"""The network of the zoo that suits pictures of any size."""
TINY = "tiny"
"""The one that may take its place in small pictures, if the zoo has it."""
FAST = "fast"
"""The one that does a third of `PHOTO`'s work."""
OF_PLANES = {"luma": "luma", "chroma": "chroma"}
"""Those that code planes of these kinds in place of the zoo's for colour, if it has them."""
SMALL = 64 * 64
"""The pixels of the largest small picture."""
DEFAULT_DEVICE = "cpu"
NO_LIMIT = 1 << 62
"""Pixels: more than any picture has."""
NO_NETWORK = "none"
"""The name to give instead of a network's for the fallback codec alone, which needs no network."""


@dataclass(frozen=True)
class Effort:
    """How much time a picture's file may take."""

    networks: Mapping[str, str]
    """The zoo's network for each kind of plane: see `pixelzip.codec.encode.Networks`."""
    adaptive: bool = False
    """Whether what the network says is corrected by what each tile has taught so far."""


EFFORTS = {
    "fast": Effort({"colour": FAST, **OF_PLANES}),
    "photo": Effort({"colour": PHOTO, "small": TINY, **OF_PLANES}),
    "max": Effort({"colour": PHOTO, "small": TINY, **OF_PLANES}, adaptive=True),
}
"""By name, the least first."""
DEFAULT_EFFORT = "photo"
COEFFICIENTS = "stored as a JPEG's coefficients"
"""What `Info.found` and `Info.origins` say of pixels that a JPEG decoder made."""


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
    given, the effort says which: ``photo``, or ``tiny`` if the picture is small; or ``fast``.
    ``origin`` is ``"auto"`` to look for what the pixels were computed from, ``"none"`` to code them
    as they are.
    ``effort`` is ``"photo"``, or ``"fast"`` for larger files in about half of the time, or
    ``"max"`` for smaller ones that take several times as long, to decompress too: what the network
    says is corrected by what each tile has taught so far.
    ``label`` is a class of a network that has classes; without it each tile gets the best one.
    ``tile_size`` is the largest side of a tile in pixels (0: 4096, the largest there can be).
    ``threads`` defaults to the cores that this process may use, and ``device`` (a torch device, say
    ``"cuda"``) is where the network runs; neither changes the result. ``strip`` drops the metadata,
    except palette and transparency.

    Raises UnsupportedImageError if the image cannot be kept (NotAnImageError, also a TypeError, if
    it is none of these), LimitError if it is too large, UnknownNetworkError or NetworkFileError if
    the network cannot be had, UnsuitableNetworkError if it has no such class, DeviceError if there
    is no such device.
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
    """Compress several images together; the results are those of `compress`, in order."""
    of_pixels = pixels or strip or origin != "auto"
    of_pixels = of_pixels or not (network is None and label is None and tile_size is None)
    made: dict[int, bytes] = {}
    batch: dict[int, Picture] = {}
    for number, image in enumerate(images):
        if not of_pixels and (jpeg := _jpeg(image)) is not None:
            with _named(image):
                made[number] = encode_jpeg(jpeg, name=image, threads=threads)
        else:
            batch[number] = to_picture(image, strip=strip)
    coded = encode_many(
        list(batch.values()), network, origin, effort, label, tile_size, threads, device, None
    )
    made.update(zip(batch, coded, strict=True))
    return [made[number] for number in sorted(made)]


def original(data: DataLike, *, threads: int | None = None, max_pixels: int = MAX_PIXELS) -> bytes:
    """The JPEG file that a ``.pxz`` file was made of, byte for byte.

    Raises FormatError if the file is damaged or holds a picture and no file, LimitError if its
    picture has more than ``max_pixels`` pixels, MissingLibraryError if this installation lacks the
    compiled code that it needs.
    """
    from pixelzip.codec.jpeg import file

    with _named(data):
        stored = _bytes(data)
        if stored.startswith(MAGIC) and not file.holds_jpeg(stored):
            raise FormatError("it holds a picture and no JPEG file: decompress it")
        return file.decode(stored, threads or available_threads(), max_pixels)


def holds_jpeg(data: DataLike) -> bool:
    """Whether a ``.pxz`` file holds a JPEG file, which `original` gives back, and not a picture."""
    from pixelzip.codec.jpeg import file

    if isinstance(data, bytes | bytearray | memoryview):
        return file.holds_jpeg(bytes(data[:3]))
    with open(data, "rb") as stream:
        return file.holds_jpeg(stream.read(3))


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

    Raises FormatError if the file is damaged, LimitError if it has more than ``max_pixels`` pixels,
    UnknownNetworkError if its network is not at hand, DeviceError if there is no such device,
    RegionError if the region does not lie within the picture,
    UnsupportedImageError if Pillow cannot hold it (16-bit colour: use `decompress_array`).
    """
    with _named(data):
        return pictures.to_pillow(
            decode(
                _bytes(data),
                region=region,
                networks=networks,
                threads=threads,
                device=device,
                max_pixels=max_pixels,
            )
        )


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
    array holds the indices. Raises what `decompress` raises, except UnsupportedImageError.
    """
    with _named(data):
        return pictures.to_array(
            decode(
                _bytes(data),
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

    Raises what `decompress` raises, and then none of the images comes back.
    """
    stored = [_bytes(data) for data in files]
    decoded = decode_many(stored, networks, threads, device, None, max_pixels)
    return [pictures.to_pillow(picture) for picture in decoded]


def decompress_arrays(
    files: Iterable[DataLike],
    *,
    networks: Sequence[str] = (),
    threads: int | None = None,
    device: str = DEFAULT_DEVICE,
    max_pixels: int = MAX_PIXELS,
) -> list[pictures.Array]:
    """As `decompress_many`, to arrays: see `decompress_array`."""
    stored = [_bytes(data) for data in files]
    decoded = decode_many(stored, networks, threads, device, None, max_pixels)
    return [pictures.to_array(picture) for picture in decoded]


@dataclass(frozen=True)
class Part:
    """A plane as it is stored: colour, alpha, low bytes, luma..."""

    height: int
    width: int
    channels: int
    tile_size: int
    """The largest side of a tile in samples; 0 if there is one tile only."""
    tiles: int
    methods: dict[str, int]
    """How many tiles each method codes: raw, constant, packed, network, adaptive, blocks."""
    bytes: int


@dataclass(frozen=True)
class Info:
    """What a ``.pxz`` file says about itself."""

    width: int
    height: int
    mode: str
    frames: int
    """1 unless it is an animation or has pages; the height is that of one of them."""
    bytes: int
    sub_pixels: int
    bits_per_dim: float
    networks: tuple[str, ...]
    """The networks' names; of one that is not in the zoo the start of its fingerprint."""
    found: tuple[str, ...]
    """What was found out about the pixels, in words."""
    origins: tuple[str, ...]
    """Those of them that are origins: samples that pixels were computed from, or few colours."""
    parts: tuple[Part, ...]
    corrections_bytes: int
    """What says which pixels differ from those that were computed, and how; 0 if none does."""
    payload_bytes: int
    """All that says something of the pixels: not the metadata, nor what is where."""
    metadata: tuple[str, ...]
    """What it carries besides the pixels: "ICC profile", "EXIF", "text"..."""
    metadata_bytes: int
    """Its length before compression."""


@dataclass(frozen=True)
class Header:
    """What stands before the pixels in a ``.pxz`` file."""

    width: int
    height: int
    mode: str
    networks: tuple[str, ...]
    """The networks' names; of one that is not in the zoo the start of its fingerprint."""
    metadata: tuple[str, ...]
    """What it carries besides the pixels: "ICC profile", "EXIF", "text"..."""


def peek(data: DataLike, *, max_pixels: int = MAX_PIXELS) -> Header:
    """What the beginning of a ``.pxz`` file says: its first 4096 bytes nearly always are enough.

    ``data`` is that beginning or a path, of which no more is read than is needed. Damage to what
    comes after the header does not show. Raises TruncatedError if the header goes on after what
    there is, and what `info` raises.
    """
    if holds_jpeg(data):
        about = info(data, max_pixels=max_pixels)
        return Header(about.width, about.height, about.mode, about.networks, about.metadata)
    with _named(data), _opened(data) as file:
        header = header_of(file, max_pixels)
        chunks = metadata.parse(header.metadata, header.mode)
    return Header(
        width=header.width,
        height=metadata.frame_height(chunks, header.height),
        mode=header.mode,
        networks=tuple(map(_network_name, header.networks)),
        metadata=_names(chunks),
    )


def info(data: DataLike, *, max_pixels: int = MAX_PIXELS) -> Info:
    """Describe a ``.pxz`` file without decoding it.

    Raises FormatError if any byte of the file is not as it was written, LimitError if it has more
    than ``max_pixels`` pixels.
    """
    from pixelzip.codec.decode import colours_of

    with _named(data):
        data = _bytes(data)
        if holds_jpeg(data):
            return _jpeg_info(data, max_pixels)
        container = unpack(data, max_pixels)
        chunks = metadata.parse(container.metadata, container.mode)
        planes = [plane for component in container.components for plane in component.planes]
        sets = [colours_of(plane) for plane in planes if plane.colours]
        tables = [_jpeg_tables(component) for component in container.components]
    dims = sub_pixels(container.mode, container.width, container.height)
    parts = [
        Part(
            height=plane.layout.height,
            width=plane.layout.width,
            channels=plane.layout.channels,
            tile_size=plane.tile_size,
            tiles=len(plane.tiles),
            methods=dict(Counter(tile.method.name.lower() for tile in plane.tiles)),
            bytes=sum(len(tile.payload) for tile in plane.tiles) + len(plane.colours),
        )
        for plane in planes
    ]
    words = [transforms.describe(container.mode, c.position, c.form) for c in container.components]
    words = [
        f"{word}; {COEFFICIENTS}" if word and said is not None else word
        for word, said in zip(words, tables, strict=True)
    ]
    computed = [c.form.transform == transforms.Transform.ORIGIN for c in container.components]
    origins = [word for word, so in zip(words, computed, strict=True) if so and word]
    words = [f"{word}, {said}" if said else word for word, said in zip(words, tables, strict=True)]
    corrections = [len(component.corrections) for component in container.components]
    words = [
        f"{word}; {count:,} bytes correct what differs" if word and count else word
        for word, count in zip(words, corrections, strict=True)
    ]
    few = [one for one in sets if one is not None]
    words += [f"colour: only {len(one)} of all colours occur" for one in few]
    origins += ["colour: few of all colours occur"] * len(few)
    aside = sum(corrections) + sum(len(c.form.parameters) for c in container.components)
    return Info(
        width=container.width,
        height=metadata.frame_height(chunks, container.height),
        mode=container.mode,
        frames=metadata.frames(chunks),
        bytes=len(data),
        sub_pixels=dims,
        bits_per_dim=len(data) * 8 / dims,
        networks=tuple(map(_network_name, container.networks)),
        found=tuple(filter(None, words)),
        origins=tuple(origins),
        parts=tuple(parts),
        corrections_bytes=sum(corrections),
        payload_bytes=sum(part.bytes for part in parts) + aside,
        metadata=_names(chunks),
        metadata_bytes=len(container.metadata),
    )


def _jpeg_tables(component: Component) -> str | None:
    """What quantisation tables a component's planes have; None if none is stored in blocks."""
    stored = {
        plane.layout.kind: plane.tiles[0].payload
        for plane in reversed(component.planes)  # of chroma the first
        if plane.tiles[0].method == Method.BLOCKS
    }
    if not stored:
        return None
    from pixelzip.codec import coefficients  # slow to load, and few files need it

    said = {kind: coefficients.describe(payload) for kind, payload in stored.items()}
    if len(set(said.values())) == 1 and len(said) == len({p.layout.kind for p in component.planes}):
        return said["luma"]
    return ", ".join(f"{word} in {kind}" for kind, word in reversed(said.items()))


def _jpeg_info(data: bytes, max_pixels: int) -> Info:
    from pixelzip import jpegs
    from pixelzip.codec.jpeg import file

    about = file.describe(data, max_pixels)
    width, height = (about.frame.width, about.frame.height) if about.frame else (0, 0)
    dims = width * height * (len(about.frame.components) if about.frame else 0)
    return Info(
        width=width,
        height=height,
        mode=jpegs.mode_of(about),
        bytes=len(data),
        sub_pixels=dims,
        bits_per_dim=len(data) * 8 / dims if dims else 0.0,
        frames=1,
        networks=(),
        found=tuple(jpegs.words(about)),
        origins=(),
        parts=(),
        corrections_bytes=0,
        payload_bytes=sum(about.coefficients),
        metadata=jpegs.metadata_names(data),
        metadata_bytes=about.segments,
    )


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
    ``photo`` and ``tiny``, grey is coded by ``luma``.

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

    with _named(data):
        if holds_jpeg(data):
            return file.costs(_bytes(data), threads or available_threads(), max_pixels)
        return costs.cost_map(
            _bytes(data),
            _finder(networks, device),
            threads=threads or available_threads(),
            progress=progress,
            max_pixels=max_pixels,
        )


def sample(
    network: str,
    count: int = 16,
    *,
    width: int = 32,
    height: int = 32,
    channels: int | None = None,
    seed: int = 0,
    label: int | None = None,
    threads: int | None = None,
    device: str = DEFAULT_DEVICE,
    progress: Callable[[float], None] | None = None,
) -> list[Image.Image]:
    """Pictures that a network dreams up: the decoder's own work, on random bits and not a file's.

    ``channels`` is 3 (RGB) or 1 (grey), by default the first of these that the network codes.
    ``label`` is the class of all of them; without it they go through a network's classes in turn.
    ``seed`` is a number from 0 on: the same one gives the same pictures, and a smaller ``count``
    the first of them. Neither ``threads`` nor ``device`` changes the result. ``progress`` is called
    with the fraction done, 0 to 1.

    Raises LimitError if the pictures are too large (4096 a side), UnsuitableNetworkError if the
    network has no such class or codes no such channels, and what `compress` raises of networks.
    """
    conditional = _dreaming(network, device)
    if channels is None:
        channels = 3 if conditional.codes(3) else 1
    _check_channels(network, conditional, channels)
    if label is not None:
        _check_label(network, label, device)
    return _draw(
        conditional, [(height, width)] * count, channels, seed, label, None, threads, progress
    )


def complete(
    image: ImageLike,
    count: int = 8,
    *,
    network: str | None = None,
    keep_top: float = 0.5,
    seed: int = 0,
    label: int | None = None,
    threads: int | None = None,
    device: str = DEFAULT_DEVICE,
    progress: Callable[[float], None] | None = None,
) -> list[Image.Image]:
    """A picture with its lower part left to a network's imagination, several times.

    ``keep_top`` is the part of the rows, from 0 to 1, that every completion keeps as they are. The
    picture is grey or RGB with 8 bits a sample. If no ``network`` is given, it is ``photo``, or
    ``tiny`` for a small picture if the zoo has it. All else is as in `sample`; raises what that
    raises, and UnsupportedImageError if the picture is of another kind.
    """
    if not 0 <= keep_top <= 1:
        raise ValueError(f"the part to keep is from 0 to 1, not {keep_top}")
    picture = to_picture(image, strip=True)
    if picture.mode not in ("L", "RGB"):
        raise UnsupportedImageError(
            f"only grey and RGB images of 8 bits can be completed, and its mode is {picture.mode}"
        )
    (pixels,) = picture.planes
    network = network or _network_for(picture)
    conditional = _dreaming(network, device)
    _check_channels(network, conditional, pixels.shape[2])
    if label is not None:
        _check_label(network, label, device)
    rows = kept_rows(picture.height, keep_top)
    is_known = np.arange(picture.height)[:, None] < np.full(picture.width, rows)
    shape, known = (picture.height, picture.width), (pixels, is_known)
    return _draw(
        conditional,
        [shape] * count,
        pixels.shape[2],
        seed,
        label,
        [known] * count,
        threads,
        progress,
    )


def _network_for(picture: Picture) -> str:
    from pixelzip.models import zoo

    small = picture.width * picture.height <= SMALL
    return TINY if small and TINY in zoo.names() else PHOTO


def kept_rows(height: int, keep_top: float) -> int:
    """How many rows of a picture `complete` keeps."""
    return round(height * keep_top)


def _dreaming(network: str, device: str) -> Conditional:
    conditional = load_network(network, device)
    if conditional is None:
        raise UnsuitableNetworkError("only a network can draw: give the name of one")
    return conditional


def _check_channels(network: str, conditional: Conditional, channels: int) -> None:
    if not conditional.codes(channels) or conditional.given:
        kind = {1: "grey", 3: "RGB"}.get(channels, f"{channels}-channel")
        raise UnsuitableNetworkError(f"the network {network} knows nothing of {kind} images")


def _draw(
    conditional: Conditional,
    shapes: Sequence[tuple[int, int]],
    channels: int,
    seed: int,
    label: int | None,
    known: Sequence[Known] | None,
    threads: int | None,
    progress: Callable[[float], None] | None,
) -> list[Image.Image]:
    from pixelzip.codec import tiles

    if not shapes or min(map(min, shapes)) < 1:
        raise ValueError("there is at least one picture, of at least one pixel")
    if max(map(max, shapes)) > MAX_NETWORK_SIDE:
        raise LimitError(f"a network draws at most {MAX_NETWORK_SIDE} pixels a side")
    classes = max(1, conditional.classes)
    drawn = tiles.sample_tiles(
        conditional,
        shapes,
        channels,
        seed=seed,
        labels=[number % classes if label is None else label for number in range(len(shapes))],
        known=known,
        threads=threads or available_threads(),
        progress=progress,
    )
    return [Image.fromarray(tile[:, :, 0] if channels == 1 else tile) for tile in drawn]


def sub_pixels(mode: str, width: int, height: int) -> int:
    """How many colour values an image of this mode and size has."""
    return width * height * pictures.samples_per_pixel(mode)


# What the command line and the Pillow plugin build on: the same, with a `Picture` in the middle.


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
    with _named(image):
        return pictures.read(_bytes(image), strip=strip)


def _jpeg(image: ImageLike) -> bytes | None:
    """The bytes of a JPEG file, if that is what this is."""
    from pixelzip.codec.jpeg import file

    if not isinstance(image, str | os.PathLike | bytes | bytearray | memoryview):
        return None
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image) if file.is_jpeg(bytes(image[:3])) else None
    with open(image, "rb") as stream:
        start = stream.read(3)
        return start + stream.read() if file.is_jpeg(start) else None


def encode_jpeg(data: bytes, *, name: object = None, threads: int | None = None) -> bytes:
    """The ``.pxz`` file of a JPEG file; ``name`` is its path, the ending of which is kept."""
    from pixelzip.codec.jpeg import file

    ending = Path(name).suffix if isinstance(name, str | os.PathLike) else file.ENDING
    return file.encode(data, threads or available_threads(), ending)


def score(
    picture: Picture, network: str, threads: int | None = None, device: str = DEFAULT_DEVICE
) -> NDArray[np.float32]:
    """A picture's bits under a network: see `ideal_bits`."""
    from pixelzip.codec import tiles
    from pixelzip.codec.container import area, tile_grid
    from pixelzip.codec.encode import DEFAULT_TILE

    bits = np.zeros((picture.height, picture.width), np.float32)
    grid = tile_grid(picture.height, picture.width, DEFAULT_TILE)
    networks = Networks(network, device)
    for position, plane in enumerate(picture.planes):
        coded = plane[..., :1] if transforms.is_grey(plane) else plane
        kind = "colour" if coded.shape[2] == 3 else "luma"
        conditional = networks.get(kind) or networks.get("colour")
        suits = conditional is not None and conditional.codes(coded.shape[2])
        if conditional is None or not suits or kind_of(picture.mode, position) == "labels":
            raise UnsuitableNetworkError(
                f"the network {network} does not code images of mode {picture.mode}"
            )
        scores = tiles.score_tiles(
            conditional,
            [np.ascontiguousarray(coded[area(box)]) for box in grid],
            threads=threads or available_threads(),
        )
        for box, own in zip(grid, scores, strict=True):
            bits[area(box)] += own
    return bits


def encode(
    picture: Picture,
    *,
    network: str | None = None,
    origin: str = "auto",
    effort: str = DEFAULT_EFFORT,
    label: int | None = None,
    tile_size: int | None = None,
    threads: int | None = None,
    device: str = DEFAULT_DEVICE,
    progress: Callable[[float], None] | None = None,
) -> bytes:
    """A picture's file. ``progress`` is called with the fraction done, 0 to 1."""
    return encode_many(
        [picture], network, origin, effort, label, tile_size, threads, device, progress
    )[0]


def encode_many(
    pictures: Sequence[Picture],
    network: str | None,
    origin: str,
    effort: str,
    label: int | None,
    tile_size: int | None,
    threads: int | None,
    device: str,
    progress: Callable[[float], None] | None,
) -> list[bytes]:
    """The files of pictures, of that network or, if it is None, of whichever makes each smaller."""
    from pixelzip.codec import encode as codec

    if origin not in ("auto", "none"):
        raise ValueError(f'the origin is "auto" or "none", not {origin!r}')
    if effort not in EFFORTS:
        raise ValueError(f'the effort is "fast", "photo" or "max", not {effort!r}')
    if label is not None:
        _check_label(network, label, device)
    return codec.encode_many(
        pictures,
        Networks(network, device, effort),
        origins=origin == "auto",
        adaptive=EFFORTS[effort].adaptive,
        tile_size=codec.DEFAULT_TILE if tile_size is None else tile_size,
        label=label,
        threads=threads or available_threads(),
        progress=progress,
    )


def _check_label(network: str | None, label: int, device: str) -> None:
    """Raise UnsuitableNetworkError if the network has no such class."""
    conditional = None if network is None else load_network(network, device)
    if conditional is None:
        raise UnsuitableNetworkError(f"class {label} is one of a network's: name the network, too")
    if not conditional.classes:
        raise UnsuitableNetworkError(
            f"the network {network} has no classes: leave out class {label}"
        )
    if not 0 <= label < conditional.classes:
        raise UnsuitableNetworkError(
            f"the network {network} has no class {label}, only 0 to {conditional.classes - 1}"
        )


def decode(
    data: bytes,
    *,
    region: Region | None = None,
    networks: Sequence[str] = (),
    threads: int | None = None,
    device: str = DEFAULT_DEVICE,
    progress: Callable[[float], None] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Picture:
    """A file's picture, or a region of it. ``progress`` is called with the fraction done."""
    from pixelzip import jpegs

    if region is not None and holds_jpeg(data):
        picture = jpegs.picture(data, threads=threads or available_threads(), max_pixels=max_pixels)
        return jpegs.region(picture, region)
    if region is not None:
        partial = open_partly(
            data, networks=networks, threads=threads, device=device, max_pixels=max_pixels
        )
        if metadata.frames(metadata.parse(partial.container.metadata, partial.container.mode)) > 1:
            raise RegionError("the image has several frames or pages, which are decoded whole")
        x, y, width, height = region
        return partial.region((y, x, height, width), progress)
    (picture,) = decode_many([data], networks, threads, device, progress, max_pixels)
    return picture


def decode_many(
    files: Sequence[bytes],
    networks: Sequence[str],
    threads: int | None,
    device: str,
    progress: Callable[[float], None] | None,
    max_pixels: int,
) -> list[Picture]:
    """The pictures of several files, all of whose tiles step at once."""
    from pixelzip import jpegs
    from pixelzip.codec import decode as codec

    threads = threads or available_threads()
    made: dict[int, Picture] = {}
    others = [number for number, data in enumerate(files) if not holds_jpeg(data)]
    for number, data in enumerate(files):
        if holds_jpeg(data):
            made[number] = jpegs.picture(data, threads=threads, max_pixels=max_pixels)
    decoded = codec.decode_many(
        [files[number] for number in others],
        _finder(networks, device),
        threads=threads,
        progress=progress,
        max_pixels=max_pixels,
    )
    made.update(zip(others, decoded, strict=True))
    return [made[number] for number in range(len(files))]


def open_partly(
    data: bytes,
    *,
    networks: Sequence[str] = (),
    threads: int | None = None,
    device: str = DEFAULT_DEVICE,
    max_pixels: int = MAX_PIXELS,
) -> Partial:
    """A file of which one region after another is decoded."""
    from pixelzip.codec.decode import Partial

    return Partial(
        data,
        _finder(networks, device),
        threads=threads or available_threads(),
        max_pixels=max_pixels,
    )


def available_threads() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_network(network: str, device: str = DEFAULT_DEVICE) -> Conditional | None:
    """The network of a name or path, on a torch device; None for ``"none"``."""
    if network == NO_NETWORK:
        return None
    from pixelzip.models import zoo

    return zoo.load(network, device=device)


class Networks(Mapping[str, "Conditional"]):
    """The networks that code each kind of plane, each loaded when it is first asked for."""

    def __init__(self, name: str | None, device: str, effort: str = DEFAULT_EFFORT) -> None:
        """``name`` is that of the network for colour, which stands in for others that are not.

        None stands for those of the effort.
        """
        self.device = device
        own = EFFORTS[effort].networks
        self.names = {} if name == NO_NETWORK else {"colour": name or own["colour"]}
        if name in (None, PHOTO, TINY, FAST):
            from pixelzip.models import zoo

            others, here = OF_PLANES if name else own, zoo.names()
            self.names |= {kind: other for kind, other in others.items() if other in here}
        self._loaded: dict[str, Conditional] = {}

    def __getitem__(self, kind: str) -> Conditional:
        if kind not in self._loaded:
            conditional = load_network(self.names[kind], self.device)
            assert conditional is not None
            self._loaded[kind] = conditional
        return self._loaded[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _finder(networks: Sequence[str], device: str) -> Callable[[bytes], Conditional]:
    def find(fingerprint: bytes) -> Conditional:
        from pixelzip.models import zoo

        return zoo.find(fingerprint, networks, device=device)

    return find


def _network_name(fingerprint: bytes) -> str:
    from pixelzip.models import zoo

    start = fingerprint.hex()
    names = [card["name"] for card in zoo.describe() if card["fingerprint"].startswith(start)]
    return names[0] if names else start


def _of_tensor(tensor: Any) -> NDArray[Any]:
    """torch has channels first."""
    array: NDArray[Any] = tensor.detach().cpu().numpy()
    return np.moveaxis(array, 0, 2) if array.ndim == 3 else array


def _names(chunks: metadata.Metadata) -> tuple[str, ...]:
    """What people call the chunks, each name once."""
    return tuple(dict.fromkeys(chunk.name for chunk in chunks))


def _opened(data: DataLike) -> IO[bytes]:
    if isinstance(data, bytes | bytearray | memoryview):
        return io.BytesIO(data)
    return Path(data).open("rb")


def _bytes(data: DataLike) -> bytes:
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    if not isinstance(data, str | os.PathLike):
        raise TypeError(f"a .pxz file is bytes or a path, not {type(data).__name__}")
    return Path(data).read_bytes()


@contextmanager
def _named(source: object) -> Iterator[None]:
    """Say in an error which file it is about."""
    try:
        yield
    except PixelzipError as error:
        if isinstance(source, str | os.PathLike):
            raise type(error)(f"{os.fspath(source)}: {error}") from error
        raise
