"""`Picture` to ``.pxz`` bytes and back: which networks, what effort, how many threads.

What `pixelzip.api`, the command line and the Pillow plugin build on.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pixelzip import metadata
from pixelzip.codec import document, transforms
from pixelzip.codec.container import MAX_PIXELS
from pixelzip.codec.errors import (
    OptionError,
    PixelzipError,
    RegionError,
    UnsuitableNetworkError,
    UnsupportedImageError,
    of_file,
)
from pixelzip.codec.picture import Picture, kind_of
from pixelzip.codec.workers import side_by_side
from pixelzip.sources import holds_jpeg

if TYPE_CHECKING:
    from pixelzip.codec.conditional import Conditional
    from pixelzip.codec.decode import Partial

Region = tuple[int, int, int, int]
"""(x, y, width, height) in pixels."""

PHOTO = "photo"
"""The network of the zoo that suits pictures of any kind and size."""
CLEAN, TINY = "clean", "tiny"
"""Specialists that a sample may choose in its place, if the zoo has them: for pictures without
grain, and for small ones."""
FAST = "fast"
"""The one that does a third of `PHOTO`'s work."""
OF_COLOUR = (PHOTO, CLEAN, TINY, FAST)
OF_PLANES = {"luma": ("luma",), "chroma": ("chroma",)}
"""Those that code planes of these kinds in place of `OF_COLOUR`, if the zoo has them."""
OF_PHOTOGRAPHS = {"colour": (PHOTO, CLEAN, TINY), "small": (TINY,), **OF_PLANES}
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

    networks: Mapping[str, Sequence[str]]
    """The zoo's networks for each kind of plane: see `pixelzip.codec.survey.Networks`."""
    adaptive: bool = False
    """Whether what the network says is corrected by what each tile has taught so far."""


EFFORTS = {
    "fast": Effort({"colour": (FAST,), **OF_PLANES}),
    "photo": Effort(OF_PHOTOGRAPHS),
    "max": Effort(OF_PHOTOGRAPHS, adaptive=True),
}
"""By name, the least first."""
DEFAULT_EFFORT = "photo"


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
        raise OptionError(f'the origin is "auto" or "none", not {origin!r}')
    if effort not in EFFORTS:
        raise OptionError(f'the effort is "fast", "photo" or "max", not {effort!r}')
    if label is not None:
        check_label(network, label, device)
    return codec.encode_many(
        pictures,
        Networks(network, device, effort),
        origins=origin == "auto",
        adaptive=EFFORTS[effort].adaptive,
        tile_size=codec.DEFAULT_TILE if tile_size is None else tile_size,
        label=label,
        threads=thread_count(threads),
        progress=progress,
    )


def encode_documents(
    documents: Sequence[Sequence[Picture]],
    network: str | None,
    origin: str,
    effort: str,
    label: int | None,
    tile_size: int | None,
    threads: int | None,
    device: str,
    progress: Callable[[float], None] | None,
) -> list[bytes]:
    """As `encode_many`, a file of the pages of each document: of one page, just that picture's."""
    pages = [page for them in documents for page in them]
    with of_files(_owners(documents)):
        coded = iter(
            encode_many(pages, network, origin, effort, label, tile_size, threads, device, progress)
        )
    files = [list(islice(coded, len(them))) for them in documents]
    return [document.pack(them) if len(them) > 1 else them[0] for them in files]


def check_label(network: str | None, label: int, device: str) -> None:
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
    """A file's picture, or a region of it. ``progress`` is called with the fraction done.

    Raises UnsupportedImageError if it holds a document.
    """
    from pixelzip import jpegs

    check_single(data)
    if region is not None and holds_jpeg(data):
        picture = jpegs.picture(data, threads=thread_count(threads), max_pixels=max_pixels)
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


def check_single(data: bytes) -> None:
    """Raise UnsupportedImageError of a file that holds no single picture."""
    if document.holds_document(data):
        raise UnsupportedImageError(
            "it holds pages that are not of one size and kind: decompress it to a TIFF file"
        )


def decode_documents(
    files: Sequence[bytes],
    networks: Sequence[str],
    threads: int | None,
    device: str,
    progress: Callable[[float], None] | None,
    max_pixels: int,
) -> list[list[Picture]]:
    """As `decode_many`, of each file the pages: one, unless it holds a document."""
    stored = [[data] for data in files]
    for number, data in enumerate(files):
        if document.holds_document(data):
            with of_file(number):
                stored[number] = document.unpack(data, max_pixels)
    pages = [page for them in stored for page in them]
    with of_files(_owners(stored)):
        decoded = iter(decode_many(pages, networks, threads, device, progress, max_pixels))
    return [list(islice(decoded, len(them))) for them in stored]


@contextmanager
def of_files(numbers: Sequence[int]) -> Iterator[None]:
    """Say in an error which file it is about, where what fails is the k-th of these."""
    try:
        yield
    except PixelzipError as error:
        if error.file is not None:
            error.file = numbers[error.file]
        raise


def _owners(documents: Sequence[Sequence[object]]) -> list[int]:
    """The number of the document that each page is of."""
    return [number for number, pages in enumerate(documents) for _ in pages]


def decode_many(
    files: Sequence[bytes],
    networks: Sequence[str],
    threads: int | None,
    device: str,
    progress: Callable[[float], None] | None,
    max_pixels: int,
) -> list[Picture]:
    """The pictures of several files. ``progress`` is called with the fraction done of all.

    An error's ``file`` is the number of the file that it is about.
    """
    from pixelzip import jpegs
    from pixelzip.codec import decode as codec

    for number, data in enumerate(files):
        with of_file(number):
            check_single(data)
    threads = thread_count(threads)
    jpeg = [number for number, data in enumerate(files) if holds_jpeg(data)]
    others = [number for number, data in enumerate(files) if not holds_jpeg(data)]

    def picture(number: int) -> Picture:
        with of_file(number):
            return jpegs.picture(files[number], threads=threads, max_pixels=max_pixels)

    with side_by_side(threads) as parallel:
        kept = parallel(picture, jpeg)
        with of_files(others):
            decoded = codec.decode_many(
                [files[number] for number in others],
                finder(networks, device),
                threads=threads,
                progress=progress,
                max_pixels=max_pixels,
            )
        made = dict(zip([*others, *jpeg], [*decoded, *kept], strict=True))
    return [made[number] for number in range(len(files))]


def encode_jpeg(data: bytes, *, name: object = None, threads: int | None = None) -> bytes:
    """The ``.pxz`` file of a JPEG file; ``name`` is its path, the ending of which is kept."""
    from pixelzip.codec.jpeg import file

    ending = Path(name).suffix if isinstance(name, str | os.PathLike) else file.ENDING
    return file.encode(data, thread_count(threads), ending)


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

    check_single(data)
    return Partial(
        data,
        finder(networks, device),
        threads=thread_count(threads),
        max_pixels=max_pixels,
    )


def score(
    picture: Picture, network: str, threads: int | None = None, device: str = DEFAULT_DEVICE
) -> NDArray[np.float32]:
    """A picture's bits under a network: see `pixelzip.api.ideal_bits`."""
    from pixelzip.codec import tiles
    from pixelzip.codec.container import area, tile_grid
    from pixelzip.codec.encode import DEFAULT_TILE

    bits = np.zeros((picture.height, picture.width), np.float32)
    grid = tile_grid(picture.height, picture.width, DEFAULT_TILE)
    networks = Networks(network, device)
    for position, plane in enumerate(picture.planes):
        coded = plane[..., :1] if transforms.is_grey(plane) else plane
        kind = "colour" if coded.shape[2] == 3 else "luma"
        (conditional,) = networks.get(kind) or networks.get("colour") or (None,)
        suits = conditional is not None and conditional.codes(coded.shape[2])
        if conditional is None or not suits or kind_of(picture.mode, position) == "labels":
            raise UnsuitableNetworkError(
                f"the network {network} does not code images of mode {picture.mode}"
            )
        scores = tiles.score_tiles(
            conditional,
            [np.ascontiguousarray(coded[area(box)]) for box in grid],
            threads=thread_count(threads),
        )
        for box, own in zip(grid, scores, strict=True):
            bits[area(box)] += own
    return bits


def thread_count(threads: int | None) -> int:
    """So many threads as were asked for; by default as many as there are cores.

    Raises OptionError if it is no number, or none from 1 on.
    """
    if threads is None:
        return available_threads()
    try:
        count = operator.index(threads)
    except TypeError as error:
        kind = type(threads).__name__
        raise OptionError(f"threads is a number from 1 on, or None, not a {kind}") from error
    if isinstance(threads, bool) or count < 1:
        raise OptionError(f"threads is a number from 1 on, or None for all cores, not {threads}")
    return count


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


class Networks(Mapping[str, "Sequence[Conditional]"]):
    """The networks that code each kind of plane, loaded when they are first asked for."""

    def __init__(self, name: str | None, device: str, effort: str = DEFAULT_EFFORT) -> None:
        """``name`` is that of the network for colour, which stands in for others that are not.

        None stands for those of the effort, of which the zoo may lack all but the first.
        """
        self.device = device
        self.names: dict[str, list[str]] = {}
        self._loaded: dict[str, list[Conditional]] = {}
        if name != NO_NETWORK:
            from pixelzip.models import zoo

            wanted = EFFORTS[effort].networks
            if name is not None:
                wanted = {"colour": (name,)} | (OF_PLANES if name in OF_COLOUR else {})
            here = {wanted["colour"][0], *zoo.names()}
            for kind, names in wanted.items():
                if found := [one for one in names if one in here]:
                    self.names[kind] = found

    def __getitem__(self, kind: str) -> Sequence[Conditional]:
        if kind not in self._loaded:
            loaded = [load_network(name, self.device) for name in self.names[kind]]
            self._loaded[kind] = [one for one in loaded if one is not None]
        return self._loaded[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def finder(networks: Sequence[str], device: str) -> Callable[[bytes], Conditional]:
    """What finds a file's networks by their fingerprints, in those files and in the zoo."""

    def find(fingerprint: bytes) -> Conditional:
        from pixelzip.models import zoo

        return zoo.find(fingerprint, networks, device=device)

    return find
