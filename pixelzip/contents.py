"""What a file turns into, and all that a command has to know of it, whatever its kind.

`take` makes a `Content` of an image file, `encode` a ``.pxz`` file of each of several, `decode`
brings them back, `Content.write` makes image files of them again. `Content.compare` and
`Content.is_in` are the two ways to tell whether something is still what it was: by all of its
samples, and by what a ``.pxz`` file says of itself.

There are three kinds: a `Still` picture (an animation is one, too: a tall one of all its frames), a
`Document` of pages that are pictures of their own, and a `Jpeg` file that is kept byte for byte.
Another one is another class here, which `take`, `encode` and `decode` know.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from pixelzip import api, coding, jpegs, leftovers, metadata, pictures
from pixelzip.codec import container, document
from pixelzip.codec.errors import PixelzipError
from pixelzip.codec.jpeg import file as jpeg
from pixelzip.codec.picture import Picture
from pixelzip.codec.progress import Progress, parts
from pixelzip.codec.workers import side_by_side


@dataclass(frozen=True)
class Difference:
    """How a content differs from an original; it is falsy if they are the same."""

    pixels: str = ""
    """In what the pixels differ, in words."""
    metadata: tuple[str, ...] = ()
    """The names of the metadata that is not the same: "text", "EXIF"..."""

    def __bool__(self) -> bool:
        return bool(self.pixels or self.metadata)


class Content(Protocol):
    """What a file holds."""

    @property
    def pixels(self) -> int:
        """How many there are to code: the measure of the work."""

    @property
    def mode(self) -> str:
        """As in ``Image.mode``, with ``;16`` after it for samples of 16 bits."""

    @property
    def not_kept(self) -> tuple[str, ...]:
        """What the file holds besides, and a .pxz file does not keep: names as of metadata."""

    @property
    def suffix(self) -> str:
        """That of the image file which holds all of it."""

    @property
    def noun(self) -> str:
        """What it is called."""

    def codes(self, network: str, device: str) -> bool:
        """Whether a network (a name or a path) can code any part of it."""

    def write(self, suffix: str) -> tuple[bytes, list[str]]:
        """As `pictures.write`."""

    def compare(self, original: Content) -> Difference:
        """How it differs from an original."""

    def is_in(self, data: bytes, networks: Sequence[str] = ()) -> bool:
        """Whether a .pxz file is whole and holds just this; damaged ones do not.

        Told by the file's checksums; only small pictures, whose checksums are short, are decoded.
        ``networks`` are those of `decode`.
        """


@dataclass(frozen=True)
class Still:
    """A single picture."""

    picture: Picture
    not_kept: tuple[str, ...] = ()
    noun: str = "picture"

    @property
    def pixels(self) -> int:
        return self.picture.width * self.picture.height

    @property
    def mode(self) -> str:
        return self.picture.mode

    @property
    def suffix(self) -> str:
        chunks = metadata.parse(self.picture.metadata, self.mode)
        return pictures.suffix_of(self.mode, chunks)

    def codes(self, network: str, device: str) -> bool:
        conditional = coding.load_network(network, device)
        if conditional is None:
            return False
        return any(conditional.codes(plane.shape[2]) for plane in self.picture.planes)

    def write(self, suffix: str) -> tuple[bytes, list[str]]:
        return pictures.write(self.picture, suffix)

    def compare(self, original: Content) -> Difference:
        if not isinstance(original, Still):
            return Difference(f"it holds a picture and no {original.noun}")
        mine, theirs = self.picture, original.picture
        names = _different(mine, theirs)
        if mine.mode != theirs.mode:
            return Difference(f"its mode is {mine.mode} and not {theirs.mode}", names)
        if (mine.width, mine.height) != (theirs.width, theirs.height):
            sizes = f"{mine.width} x {mine.height} and not {theirs.width} x {theirs.height}"
            return Difference(f"its size is {sizes}", names)
        planes = zip(mine.planes, theirs.planes, strict=True)
        if not all(np.array_equal(one, other) for one, other in planes):
            return Difference("its pixels differ", names)
        return Difference(metadata=names)

    def is_in(self, data: bytes, networks: Sequence[str] = ()) -> bool:
        try:
            there = container.unpack(data)
            size = self.picture.width, self.picture.height
            if (there.mode, there.width, there.height) != (self.mode, *size):
                return False
            if self.pixels <= container.SMALL:
                return not self.compare(Still(coding.decode(data, networks=networks)))
        except PixelzipError:
            return False
        check = container.truncated_checksum(self.picture.crc, *size)
        return (there.checksum, there.metadata) == (check, self.picture.metadata)


def _different(mine: Picture, theirs: Picture) -> tuple[str, ...]:
    """The names of metadata that two pictures do not share."""
    if mine.metadata == theirs.metadata:
        return ()
    one, other = (metadata.parse(picture.metadata, picture.mode) for picture in (mine, theirs))
    names = dict.fromkeys(chunk.name for chunk in (*one, *other))
    of = {name: [[c.body for c in chunks if c.name == name] for chunks in (one, other)]
          for name in names}  # fmt: skip
    return tuple(name for name in names if of[name][0] != of[name][1]) or ("order of metadata",)


@dataclass(frozen=True)
class Document:
    """Pages that are pictures of their own, since they are not alike."""

    pages: tuple[Still, ...]
    not_kept: tuple[str, ...] = ()
    suffix: str = ".tif"
    noun: str = "document"

    @property
    def pixels(self) -> int:
        return sum(page.pixels for page in self.pages)

    @property
    def mode(self) -> str:
        return ", ".join(dict.fromkeys(page.mode for page in self.pages))

    def codes(self, network: str, device: str) -> bool:
        return any(page.codes(network, device) for page in self.pages)

    def write(self, suffix: str) -> tuple[bytes, list[str]]:
        return pictures.write_pages([page.picture for page in self.pages], suffix)

    def compare(self, original: Content) -> Difference:
        if not isinstance(original, Document):
            return Difference(f"it holds a document and no {original.noun}")
        mine, theirs = len(self.pages), len(original.pages)
        if mine != theirs:
            return Difference(f"it has {mine} pages and not {theirs}")
        found = [one.compare(other) for one, other in zip(self.pages, original.pages, strict=True)]
        words = (f"on page {n} {one.pixels}" for n, one in enumerate(found, 1) if one.pixels)
        names = dict.fromkeys(name for one in found for name in one.metadata)
        return Difference(next(words, ""), tuple(names))

    def is_in(self, data: bytes, networks: Sequence[str] = ()) -> bool:
        try:
            files = document.unpack(data)
        except PixelzipError:
            return False
        same = [one.is_in(file, networks) for one, file in zip(self.pages, files, strict=False)]
        return len(files) == len(self.pages) and all(same)


@dataclass(frozen=True)
class Jpeg:
    """A JPEG file, of which every byte is kept."""

    data: bytes
    suffix: str
    mode: str = "JPEG"
    not_kept: tuple[str, ...] = ()
    noun: str = "JPEG file"

    @property
    def pixels(self) -> int:
        return 4 * len(self.data)  # about as many as a photograph's has, and no harm if not

    def codes(self, network: str, device: str) -> bool:
        return False

    def write(self, suffix: str) -> tuple[bytes, list[str]]:
        if suffix.lower() in (*jpegs.ENDINGS, self.suffix.lower()):
            return self.data, []
        return pictures.write(pictures.read(self.data), suffix)

    def compare(self, original: Content) -> Difference:
        if not isinstance(original, Jpeg):
            return Difference(f"it holds a JPEG file and no {original.noun}")
        return Difference("" if self.data == original.data else "its JPEG file differs")

    def is_in(self, data: bytes, networks: Sequence[str] = ()) -> bool:
        try:
            return api.original(data, max_pixels=coding.NO_LIMIT) == self.data
        except PixelzipError:
            return False


def take(data: bytes, *, strip: bool = False, pixels: bool = False, name: str = "") -> Content:
    """What the bytes of an image file hold.

    Of a JPEG that is the file, with the suffix of its ``name``; its picture if only the ``pixels``
    are wanted, or they are to be stripped. Raises what `pictures.read` raises.
    """
    if pictures.is_jpeg(data) and not (pixels or strip):
        return Jpeg(data, os.path.splitext(name)[1] or ".jpg")
    first, *others = pictures.read_pages(data, strip=strip)
    not_kept = () if strip else leftovers.left_behind(data)
    if others:
        return Document(tuple(map(Still, (first, *others))), not_kept)
    return Still(first, not_kept)


def encode(
    contents: Sequence[Content],
    *,
    network: str | None,
    origin: str,
    effort: str,
    label: int | None,
    tile_size: int | None,
    threads: int,
    device: str,
    progress: Progress | None = None,
) -> list[bytes]:
    """The ``.pxz`` files of several contents, coded together; raises what `coding.encode` does."""
    stills = [pages for content in contents if (pages := _pages(content))]
    files = [content for content in contents if isinstance(content, Jpeg)]
    part, *others = parts(progress, [len(stills), *[1] * len(files)])

    def keep(content: Jpeg, part: Progress | None) -> bytes:
        data = coding.encode_jpeg(content.data, name=f"x{content.suffix}", threads=threads)
        if part is not None:
            part(1.0)
        return data

    with side_by_side(threads) as parallel:
        kept = parallel(keep, files, others)
        coded = iter(
            coding.encode_documents(
                stills, network, origin, effort, label, tile_size, threads, device, part
            )
        )
        return [next(kept if isinstance(one, Jpeg) else coded) for one in contents]


def _pages(content: Content) -> list[Picture]:
    """The pictures that are to be coded."""
    if isinstance(content, Document):
        return [page.picture for page in content.pages]
    return [content.picture] if isinstance(content, Still) else []


def decode(
    files: Sequence[bytes],
    *,
    networks: Sequence[str],
    max_pixels: int,
    threads: int,
    device: str,
    region: tuple[int, int, int, int] | None = None,
    progress: Progress | None = None,
) -> list[Content]:
    """What ``.pxz`` files hold, decoded together; raises what `coding.decode` raises.

    ``region`` is (x, y, width, height), if only that is wanted of each.
    """
    if region is not None:
        one = partial(coding.decode, region=region, networks=networks, max_pixels=max_pixels)
        return [Still(one(data, threads=threads, device=device)) for data in files]
    stills = [data for data in files if not api.holds_jpeg(data)]
    whole = [data for data in files if api.holds_jpeg(data)]
    part, *others = parts(progress, [len(stills), *[1] * len(whole)])

    def original(data: bytes, part: Progress | None) -> Jpeg:
        found = Jpeg(api.original(data, threads=threads, max_pixels=max_pixels), jpeg.ending(data))
        if part is not None:
            part(1.0)
        return found

    with side_by_side(threads) as parallel:
        kept = parallel(original, whole, others)
        decoded = coding.decode_documents(stills, networks, threads, device, part, max_pixels)
        pages = (tuple(map(Still, document)) for document in decoded)
        pictures = (Document(them) if len(them) > 1 else them[0] for them in pages)
        return [next(kept if api.holds_jpeg(data) else pictures) for data in files]
