"""Lossless image compression with trained networks: the same pixels back, on any machine.

`compress`, `decompress` and `info` are the interface (see `pixelzip.api`). Importing this package
costs little and makes Pillow open and save ``.pxz`` files (see `pixelzip.plugin`); numpy, PyTorch
and the networks are imported when they are first needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

# In a checkout `codec` and its sisters lie beside this folder; installed, they lie inside it.
if not (Path(__file__).parent / "codec").is_dir():
    __path__.append(str(Path(__file__).parent.parent))

from pixelzip import plugin
from pixelzip.codec.errors import (
    DeviceError,
    FormatError,
    LimitError,
    MissingLibraryError,
    NetworkFileError,
    NotAFileError,
    NotAnImageError,
    OptionError,
    PixelzipError,
    RegionError,
    TruncatedError,
    UnknownNetworkError,
    UnsuitableNetworkError,
    UnsupportedImageError,
)

if TYPE_CHECKING:
    from pixelzip.api import (
        Header,
        Info,
        complete,
        compress,
        compress_many,
        cost_map,
        decompress,
        decompress_array,
        decompress_arrays,
        decompress_many,
        holds_jpeg,
        ideal_bits,
        info,
        original,
        peek,
        sample,
    )

    __version__: str

__all__ = [
    "DeviceError",
    "FormatError",
    "Header",
    "Info",
    "LimitError",
    "MissingLibraryError",
    "NetworkFileError",
    "NotAFileError",
    "NotAnImageError",
    "OptionError",
    "PixelzipError",
    "RegionError",
    "TruncatedError",
    "UnknownNetworkError",
    "UnsuitableNetworkError",
    "UnsupportedImageError",
    "__version__",
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

plugin.register()


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("pixelzip")
    if name in __all__:
        from pixelzip import api

        return getattr(api, name)
    raise AttributeError(f"module 'pixelzip' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
