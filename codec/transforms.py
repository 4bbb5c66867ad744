"""What a picture's components are stored as, and how they come back.

A component of the mode (colour, alpha, low bytes...) becomes *planes*, which the methods code:

* *direct*: itself;
* *grey*: one channel of the three, which are equal everywhere;
* *joined*: one plane with the channels of all of the mode's components, *joined grey* with colour
  as one channel;
* *constant*: no plane at all, one pixel is said in the header;
* *origin*: the planes that its pixels were computed from (`pixelzip.codec.origins`), and
  *corrections* where rendering them gives other pixels. Of a 16-bit mode it carries two
  components, the high and the low bytes of the same samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import origins
from pixelzip.codec.errors import FormatError
from pixelzip.codec.origins.origin import Samples
from pixelzip.codec.picture import MODES, Box, Bytes, PlaneLayout, bands, is_deep, kind_of


class Transform(IntEnum):
    """What components become, by their numbers in the file."""

    DIRECT = 0
    GREY = 1
    JOINED = 2
    JOINED_GREY = 3
    CONSTANT = 4
    ORIGIN = 5


@dataclass(frozen=True)
class Form:
    """How components are stored, but for the samples of the planes."""

    transform: Transform
    origin: int = 0
    """Of an origin: its number."""
    parameters: bytes = b""
    """Of an origin; or a constant component's pixel."""


def carried(mode: str, position: int, transform: Transform) -> tuple[int, ...]:
    """The components that one stored in place of that of this position carries, itself first."""
    count = len(MODES[mode])
    if transform in (Transform.JOINED, Transform.JOINED_GREY):
        return tuple(range(count))
    if transform == Transform.ORIGIN and is_deep(mode):
        return position, position + count // 2
    return (position,)


def is_possible(mode: str, position: int, transform: Transform) -> bool:
    """Whether the component of this position can be stored so."""
    channels = MODES[mode]
    if transform == Transform.GREY:
        return channels[position] == 3
    if transform == Transform.JOINED:
        return position == 0 and len(channels) > 1
    if transform == Transform.JOINED_GREY:
        return position == 0 and len(channels) > 1 and 3 in channels
    if transform == Transform.ORIGIN:
        return kind_of(mode, position) != "labels"
    return True


def layouts(mode: str, position: int, form: Form, shape: tuple[int, int]) -> list[PlaneLayout]:
    """The planes that components of a picture of (height, width) become.

    Raises FormatError for an origin or parameters that there are not.
    """
    channels = [MODES[mode][p] for p in carried(mode, position, form.transform)]
    kind = kind_of(mode, position)
    if form.transform == Transform.DIRECT:
        return [PlaneLayout(*shape, channels[0], kind)]
    if form.transform == Transform.GREY:
        return [PlaneLayout(*shape, 1, "labels" if kind == "labels" else "luma")]
    if form.transform == Transform.JOINED:
        return [PlaneLayout(*shape, sum(channels), "labels")]
    if form.transform == Transform.JOINED_GREY:
        return [PlaneLayout(*shape, len(channels), "labels")]
    if form.transform == Transform.CONSTANT:
        return []
    origin = origins.by_number(form.origin)
    return list(origin.layout(form.parameters, shape))


def restore(
    mode: str,
    position: int,
    form: Form,
    planes: Sequence[Bytes],
    corrections: bytes,
    shape: tuple[int, int],
) -> list[Bytes]:
    """The components that were stored so: the inverse of all transforms. FormatError if damaged."""
    channels = [MODES[mode][p] for p in carried(mode, position, form.transform)]
    if form.transform == Transform.ORIGIN:
        rendered = render(mode, form, planes, shape)
        if rendered.shape[2] != sum(channels):
            raise FormatError("the file is damaged: its pixels have an impossible origin")
        return split(correct(rendered, corrections), channels)
    if form.transform == Transform.CONSTANT:
        return [np.broadcast_to(np.frombuffer(form.parameters, np.uint8), (*shape, channels[0]))]
    if form.transform in (Transform.GREY, Transform.JOINED_GREY):
        whole = split(planes[0], [1] * len(channels))
        return [plane.repeat(n, axis=2) for plane, n in zip(whole, channels, strict=True)]
    return split(planes[0], channels)


def render(mode: str, form: Form, planes: Sequence[Bytes], shape: tuple[int, int]) -> Bytes:
    """An origin's pixels as bytes (height, width, channels); all the high ones before the low."""
    origin = origins.by_number(form.origin)
    samples = origin.render(form.parameters, planes, shape)
    if samples.itemsize != 1 + is_deep(mode):
        raise FormatError("the file is damaged: its pixels have an impossible origin")
    return bytes_of(samples) if is_deep(mode) else samples


def part(form: Form, shape: tuple[int, int], box: Box) -> tuple[Form, Box]:
    """What to restore a box of a picture of (height, width) from: a form and a part around it.

    That part is restored as if it were the picture, of the samples that lie over it.
    """
    if form.transform != Transform.ORIGIN:
        return form, box
    parameters, around = origins.by_number(form.origin).part(form.parameters, shape, box)
    return replace(form, parameters=parameters), around


def corrections_of(pixels: Bytes, rendered: Bytes) -> bytes:
    """What it takes to know the pixels from the rendered ones; nothing if they are the same."""
    if all(map(np.array_equal, bands(pixels), bands(rendered))):
        return b""
    from pixelzip.codec import corrections  # slow to load, and few pictures need it

    return corrections.encode(pixels, rendered)


def correct(rendered: Bytes, data: bytes) -> Bytes:
    """The pixels, from the rendered ones and their corrections. FormatError if damaged."""
    if not data:
        return rendered
    from pixelzip.codec import corrections  # slow to load, and few pictures need it

    return corrections.apply(data, rendered)


def samples_of(high: Bytes, low: Bytes) -> NDArray[np.uint16]:
    """16-bit samples from their bytes."""
    return high.astype(np.uint16) << np.uint16(8) | low


def bytes_of(samples: Samples) -> Bytes:
    """(height, width, channels) samples -> all high bytes, then all low ones, side by side."""
    halves = [samples >> np.uint16(8), samples & np.uint16(255)]
    return np.concatenate(halves, axis=2).astype(np.uint8)


def split(joined: Bytes, channels: Sequence[int]) -> list[Bytes]:
    """Channels that lie side by side -> planes of so many each."""
    ends = accumulate(channels)
    return [joined[:, :, end - count : end] for end, count in zip(ends, channels, strict=True)]


def is_grey(plane: Bytes) -> bool:
    """Whether red, green and blue are equal everywhere."""
    if plane.shape[2] != 3:
        return False
    parts = (plane[::step] for step in (len(plane), 16, 1))  # most are told by a few rows
    return all(bool((p[:, :, :1] == p[:, :, 1:]).all()) for p in parts)


def describe(mode: str, position: int, form: Form) -> str | None:
    """What was found out about components, in words; None of those that are as they are."""
    alpha = len(MODES[mode]) > 1 and position % (2 if "A" in mode else 1) == 1
    name = "alpha" if alpha else "colour" if MODES[mode][position] == 3 else "grey"
    if is_deep(mode) and form.transform != Transform.ORIGIN:
        name += ", low bytes" if kind_of(mode, position) == "labels" else ", high bytes"
    if form.transform == Transform.ORIGIN:
        return f"{name}: {origins.by_number(form.origin).describe(form.parameters)}"
    if form.transform == Transform.CONSTANT:
        return f"{name}: everywhere {', '.join(map(str, form.parameters))}"
    return {
        Transform.GREY: f"{name}: grey, one channel says it all",
        Transform.JOINED: "all channels side by side",
        Transform.JOINED_GREY: "grey, and all channels side by side",
    }.get(form.transform)
