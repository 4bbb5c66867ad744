"""Corrections: where a rendered picture differs from the real one, and what is there instead."""

from __future__ import annotations

from pixelzip.codec import packed
from pixelzip.codec.picture import Bytes


def make(rendered: Bytes, pixels: Bytes) -> bytes:
    """What it takes to know these pixels (height, width, channels) from the rendered ones.

    Nothing if they are the same.
    """
    differences = pixels - rendered  # modulo 256
    return packed.pack_pixels(differences) if differences.any() else b""


def correct(rendered: Bytes, corrections: bytes) -> Bytes:
    """The pixels. FormatError if the corrections are damaged."""
    height, width, channels = rendered.shape
    return rendered + packed.unpack_pixels(corrections, (height, width, channels))
