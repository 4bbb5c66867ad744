"""What a ``.pxz`` file says about itself, without being decoded: `info`, and `peek`'s header."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pixelzip import metadata, pictures
from pixelzip.codec import document, transforms
from pixelzip.codec.container import MAX_PIXELS, Component, header_of, unpack
from pixelzip.codec.methods import Method
from pixelzip.sources import DataLike, bytes_of, holds_jpeg, named, opened

_PREFIX = 1 << 16
"""Bytes in which a document's first page begins, and nearly always its header ends."""
COEFFICIENTS = "stored as a JPEG's coefficients"
"""What `Info.found` and `Info.origins` say of pixels that a JPEG decoder made."""


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
    """How many tiles each method codes: raw, constant, packed, network, adaptive, blocks,
    fitted."""
    bytes: int


@dataclass(frozen=True)
class Info:
    """What a ``.pxz`` file says about itself."""

    width: int
    height: int
    mode: str
    frames: int
    """1 unless it is an animation or has pages; the height is that of the first of them."""
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
    with named(data), opened(data) as file:
        start = file.read(_PREFIX)
        if document.holds_document(start):
            return peek(document.beginning(start), max_pixels=max_pixels)
    if holds_jpeg(data):
        about = info(data, max_pixels=max_pixels)
        return Header(about.width, about.height, about.mode, about.networks, about.metadata)
    with named(data), opened(data) as file:
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

    with named(data):
        data = bytes_of(data)
        if holds_jpeg(data):
            return _jpeg_info(data, max_pixels)
        if document.holds_document(data):
            pages = [info(page) for page in document.unpack(data, max_pixels)]
            return _document_info(data, pages)
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


def _document_info(data: bytes, pages: Sequence[Info]) -> Info:
    """What its pages say, one after the other, and added up; its size is that of the first one."""
    words = [
        "; ".join([f"page {number}: {page.width} x {page.height}, mode {page.mode}", *page.found])
        for number, page in enumerate(pages, 1)
    ]
    dims = sum(page.sub_pixels for page in pages)
    return Info(
        width=pages[0].width,
        height=pages[0].height,
        mode=", ".join(dict.fromkeys(page.mode for page in pages)),
        frames=len(pages),
        bytes=len(data),
        sub_pixels=dims,
        bits_per_dim=len(data) * 8 / dims,
        networks=_each(page.networks for page in pages),
        found=tuple(words),
        origins=_each(page.origins for page in pages),
        parts=tuple(part for page in pages for part in page.parts),
        corrections_bytes=sum(page.corrections_bytes for page in pages),
        payload_bytes=sum(page.payload_bytes for page in pages),
        metadata=("pages", *_each(page.metadata for page in pages)),
        metadata_bytes=sum(page.metadata_bytes for page in pages),
    )


def _each(names: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """Each name once."""
    return tuple(dict.fromkeys(name for some in names for name in some))


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


def sub_pixels(mode: str, width: int, height: int) -> int:
    """How many colour values an image of this mode and size has."""
    return width * height * pictures.samples_per_pixel(mode)


def _network_name(fingerprint: bytes) -> str:
    from pixelzip.models import zoo

    return zoo.name_of(fingerprint) or fingerprint.hex()


def _names(chunks: metadata.Metadata) -> tuple[str, ...]:
    """What people call the chunks, each name once."""
    return tuple(dict.fromkeys(chunk.name for chunk in chunks))
