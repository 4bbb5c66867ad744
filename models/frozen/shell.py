"""What the files of all frozen networks share, whatever the network is.

A safetensors file whose metadata name its format, describe its architecture and hold its
fingerprint: a hash over format, description and every integer, which names the network in the
files that it codes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pixelzip.codec.errors import NetworkFileError

LIMIT = 1 << 26
"""Rescaled numbers are clamped to +-LIMIT, so that a few of them add up inside 32 bits."""

Tensors = Mapping[str, NDArray[Any]]

_LARGEST_FILE = 1 << 28


def fingerprint_of(format_: str, described: str, tensors: Tensors) -> bytes:
    """SHA-256 over the description and every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256(f"{format_}\n{described}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        # The format calls types by torch's names, and shapes as Python writes tuples.
        digest.update(f"{name} torch.{tensor.dtype.name} {tensor.shape}\n".encode())
        digest.update(tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes())
    return digest.digest()


def write(path: Path, tensors: Tensors, metadata: dict[str, str]) -> None:
    """Write a network's file, which is there when it is complete."""
    partial = path.with_name(path.name + ".part")
    save_file({name: np.ascontiguousarray(t) for name, t in tensors.items()}, partial, metadata)
    os.replace(partial, path)


@contextmanager
def opened(
    path: Path, expected: str, framework: str = "np"
) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """The metadata and tensors of a network's file of the ``expected`` format.

    ``framework`` is that of safetensors: whose tensors they are. Whatever turns out to be wrong
    with them inside of the context becomes a NetworkFileError.
    """
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise NetworkFileError("it is too large")
        with safe_open(path, framework=framework) as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != expected:
                raise NetworkFileError("it is not a frozen network of this version")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        yield metadata, tensors
    except OSError as error:
        raise NetworkFileError(f"{path}: {error.strerror or error}") from error
    except (
        SafetensorError, LookupError, TypeError, ValueError, AttributeError, RecursionError
    ) as error:  # fmt: skip
        raise NetworkFileError(f"{path} is not a sound network file: {error}") from error
    except NetworkFileError as error:
        raise NetworkFileError(f"{path} is not a sound network file: {error}") from None
