"""What components are stored as: each by itself or joined, colour as one channel where it is grey.

A picture's planes go into stored components here and come back out; the methods know nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pixelzip.codec.picture import MODES, Bytes


def groups(mode: str, joined: bool) -> tuple[tuple[int, ...], ...]:
    """For each stored component, the channels of the mode's components that it carries."""
    return (MODES[mode],) if joined else tuple((channels,) for channels in MODES[mode])


def is_grey(plane: Bytes) -> bool:
    """Whether red, green and blue are equal everywhere."""
    return plane.shape[2] == 3 and bool((plane[:, :, :1] == plane[:, :, 1:]).all())


def reduce(plane: Bytes) -> Bytes:
    """A component alone: of one channel if that is enough."""
    return plane[:, :, :1] if is_grey(plane) else plane


def join(planes: Sequence[Bytes], reduced: Sequence[Bytes]) -> Bytes:
    """All channels side by side; colour as one channel if that is enough everywhere."""
    grey = all(plane.shape[2] == 1 for plane in reduced)
    return np.concatenate(reduced if grey else planes, axis=2)


def restore(stored: Bytes, group: Sequence[int]) -> list[Bytes]:
    """The planes, of these channels, that a stored component carries."""
    grey = stored.shape[2] < sum(group)
    planes, start = [], 0
    for channels in group:
        plane = stored[:, :, start : start + (1 if grey else channels)]
        start += plane.shape[2]
        planes.append(np.ascontiguousarray(plane.repeat(channels, 2) if grey else plane))
    return planes
