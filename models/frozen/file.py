"""The file of a frozen network of ``photo``'s kind: what it holds, and what has to hold of it.

It is one safetensors file: weights, tables, and its architecture as JSON in the metadata. Its
*fingerprint* is a hash over all of that; it names the dialect of a ``.pxz`` file.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec import cdf
from pixelzip.codec.errors import NetworkFileError
from pixelzip.models.frozen.architecture import ENTRY, LOOK, WINDOW, PhotoConfig, head_sizes
from pixelzip.models.frozen.shell import LIMIT, Tensors, fingerprint_of, opened

FORMAT = "pixelzip frozen network 1"
MEAN_BITS = 8  # means, predictions and residuals are in 1/256 of a pixel value
FILTER_BITS = 12  # the adaptive filter's weights are in 1/4096
PREDICTOR_BITS = 13  # the linear predictor's weights are in 1/8192

_LATE = ("colours", "near", "given")
_INT32 = 2**31 - 16  # room for the half that rounding adds
_BLOCKS = 24  # each adds up to 2^26 to the residual stream, which has 32 bits


def layout(config: PhotoConfig) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    """The name, shape and type of every tensor in the file; -1 is a length that is free."""
    c, h, s = config.channels, config.head, config.colours
    inputs = (s + 1) * len(WINDOW) + (ENTRY * len(LOOK) if config.given else 0)
    tensors: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {
        "first.weight": ((inputs, c + s), np.int16),
        "first.predictor_bias": ((s,), np.int32),
        "first.table": ((-1,), np.int8),
    }
    if s == 3:
        tensors["code.bins"] = ((-1,), np.int16)
        tensors["code.rows"] = ((3, -1, h), np.int32)

    def layer(name: str, inputs: int, outputs: int) -> None:
        tensors[f"{name}.weight"] = ((inputs, outputs), np.int8)
        tensors[f"{name}.bias"] = ((outputs,), np.int32)
        tensors[f"{name}.scale"] = ((outputs,), np.float32)

    tensors["first.bias"] = ((c,), np.int32)
    tensors["first.scale"] = ((c,), np.float32)
    layer("stem", c, c)
    for i, kind in enumerate(config.blocks):
        tensors[f"blocks.{i}.input_scale"] = ((c,), np.float32)
        layer(f"blocks.{i}.a", 5 * c if kind == "M" else c, c)
        layer(f"blocks.{i}.b", c, c)
    tensors["trunk.input_scale"] = ((c,), np.float32)
    layer("trunk", c, s * h)
    for i in range(s):
        tensors[f"heads.{i}.input_scale"] = ((h,), np.float32)
        layer(f"heads.{i}", h, sum(head_sizes(config, i)))
    return tensors


def fingerprint(tensors: Tensors, config: PhotoConfig) -> bytes:
    """SHA-256 over the architecture and every tensor's name, type, shape and bytes."""
    return fingerprint_of(FORMAT, described(config), tensors)


def described(config: PhotoConfig) -> str:
    """The architecture in JSON. Members that came later are left out where they say nothing new."""
    members, plain = asdict(config), asdict(PhotoConfig())
    for late in _LATE:
        if members[late] == plain[late]:
            del members[late]
    return json.dumps(members, sort_keys=True)


def check(tensors: Tensors, config: PhotoConfig) -> None:
    """Raise NetworkFileError unless every tensor has its shape and no sum can overflow."""
    expected = layout(config)
    if set(tensors) != set(expected):
        raise NetworkFileError("it does not hold the tensors of its architecture")
    for name, (shape, dtype) in expected.items():
        tensor = tensors[name]
        fits = tensor.ndim == len(shape) and all(
            want in (-1, have) for want, have in zip(shape, tensor.shape, strict=True)
        )
        if not fits or tensor.dtype != dtype or tensor.size == 0:
            raise NetworkFileError(f"tensor {name} has the wrong shape or type")
        if dtype == np.float32 and not bool(((tensor > 0) & (tensor < 2.0**20)).all()):
            raise NetworkFileError(f"tensor {name} holds a scale that is not positive and finite")
    for name, tensor in tensors.items():
        if name.endswith(".weight"):
            largest = 128 if name.startswith("first") else 127
            sums = np.abs(tensor, dtype=np.int64).sum(0) * largest
            bias = tensors.get(name.removesuffix("weight") + "bias")
            if name.startswith("first"):
                bias = np.concatenate([tensors["first.bias"], tensors["first.predictor_bias"]])
            assert bias is not None
            if int((sums + np.abs(bias, dtype=np.int64)).max()) >= _INT32:
                raise NetworkFileError(f"the sums of {name} could overflow 32 bits")
    table = tensors["first.table"]
    if len(table) % 2 == 0 or len(table) > 1 << 20 or int(table.min()) < -127:
        raise NetworkFileError("first.table has the wrong length or range")
    # Two signed bytes hold no more.
    if int(np.abs(tensors["first.weight"], dtype=np.int64).max()) > 32639:
        raise NetworkFileError("first.weight holds numbers that are too large")
    if config.colours == 3:
        _check_code(tensors["code.bins"], tensors["code.rows"])


def _check_code(bins: NDArray[np.int16], rows: NDArray[np.int32]) -> None:
    """What earlier residuals add to a head."""
    # A residual of 0 has no sign, so the row in the middle is its own.
    middle = rows.shape[1] // 2
    if rows.shape[1] % 2 == 0 or int(bins[0]) or int(bins.min()) < 0 or int(bins.max()) > middle:
        raise NetworkFileError("code.bins points outside of code.rows")
    if int(np.abs(rows, dtype=np.int64).max()) > LIMIT:
        raise NetworkFileError("code.rows holds numbers that are too large")


def read(path: Path) -> tuple[dict[str, NDArray[Any]], PhotoConfig, bytes]:
    """The tensors, the architecture and the fingerprint of a frozen network's file.

    It never unpickles.

    Raises NetworkFileError for a file that is damaged, hostile or not a frozen network.
    """
    with opened(path, FORMAT) as (metadata, tensors):
        config = _architecture(json.loads(metadata["architecture"]))
        check(tensors, config)
        sound = fingerprint(tensors, config)
        if sound.hex() != metadata.get("fingerprint"):
            raise NetworkFileError("its integers do not match its fingerprint")
    return tensors, config, sound


def _architecture(members: dict[str, Any]) -> PhotoConfig:
    """The architecture that a file names, all of it and within bounds."""
    named = set(asdict(PhotoConfig()))
    if not named - {*_LATE} <= set(members) <= named:
        raise NetworkFileError("its architecture has other members than it should")
    config = PhotoConfig(**members)
    numbers = (config.channels, config.head, config.components, config.colours, config.near)
    if not all(type(size) is int and 1 <= size <= 1024 for size in numbers):
        raise NetworkFileError("its architecture has a size out of range")
    if type(config.given) is not int:
        raise NetworkFileError("its architecture has a size out of range")
    blocks = config.blocks
    if not isinstance(blocks, str) or len(blocks) > _BLOCKS or set(blocks) - {*"MN"}:
        raise NetworkFileError("its architecture has unknown blocks, or too many")
    return config


assert cdf.MEAN_UNIT.bit_length() - 1 == MEAN_BITS
