"""What a network takes for pictures: `sample` draws some, `complete` draws the rest of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pixelzip import coding
from pixelzip.codec.errors import LimitError, UnsuitableNetworkError, UnsupportedImageError
from pixelzip.codec.methods import MAX_NETWORK_SIDE
from pixelzip.codec.picture import Picture
from pixelzip.coding import DEFAULT_DEVICE, PHOTO, SMALL, TINY, thread_count
from pixelzip.sources import ImageLike, to_picture

if TYPE_CHECKING:
    from pixelzip.codec.conditional import Conditional
    from pixelzip.codec.tiles import Known


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
        coding.check_label(network, label, device)
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
        coding.check_label(network, label, device)
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
    conditional = coding.load_network(network, device)
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
        threads=thread_count(threads),
        progress=progress,
    )
    return [Image.fromarray(tile[:, :, 0] if channels == 1 else tile) for tile in drawn]
