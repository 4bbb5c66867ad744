"""The file of a frozen network of programs: what it holds, and what has to hold of it.

It is one safetensors file with the programs as JSON in the metadata; its fingerprint is a hash over
all of that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.errors import NetworkFileError
from pixelzip.models.frozen.shell import Tensors, fingerprint_of, opened
from pixelzip.models.programs import FORMAT, causality, program
from pixelzip.models.programs.program import Part, Program

_MOST_MATRIX = 1 << 24  # numbers in one


def fingerprint(parts: Sequence[Part]) -> bytes:
    """SHA-256 over the programs and every tensor's name, type, shape and bytes."""
    plain = [p.as_dict() for p, _ in parts]
    described = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return fingerprint_of(FORMAT, described, joined(parts))


def joined(parts: Sequence[Part]) -> Tensors:
    """The tensors of all parts, as their file names them: the number of a part comes first."""
    return {f"{k}.{name}": t for k, (_, own) in enumerate(parts) for name, t in own.items()}


def check(parts: Sequence[Part]) -> None:
    """Raise NetworkFileError unless the parts belong together and no sum can overflow."""
    if len(parts) not in (1, 3):
        raise NetworkFileError("it has neither one program nor three")
    for p, tensors in parts:
        expected = _layout(p)
        if set(tensors) != set(expected):
            raise NetworkFileError("it does not hold the tensors of its program")
        for name, (shape, dtype) in expected.items():
            tensor = tensors[name]
            if tensor.shape != shape or tensor.dtype != dtype:
                raise NetworkFileError(f"tensor {name} has the wrong shape or type")
            if dtype == np.float64 and not ((tensor > 0) & (tensor < 2.0**40)).all():
                raise NetworkFileError(f"tensor {name} holds a scale that is not positive")
            if name.endswith(".hidden") and _size(tensor) > p.state_unit:
                raise NetworkFileError(f"tensor {name} holds a state out of range")
            if name.endswith(".cell") and _size(tensor) > 1 << 30:
                raise NetworkFileError(f"tensor {name} holds a state out of range")
        for name, tensor in tensors.items():
            if name.endswith(".weight"):
                bias = tensors.get(name.removesuffix("weight") + "bias", np.zeros(1, np.int64))
                sums = np.abs(tensor, dtype=np.int64).sum(0)
                most = int(sums.max()) * (p.largest + 1) + _size(bias)
                if most >= (1 << 31 if p.bits == 8 else 1 << 53):
                    raise NetworkFileError(f"the sums of {name} could overflow")
        if p.output != "map":  # which is made of an image that is known
            causality.check(p, tensors)
    if len(parts) == 3:
        first, between, rest = (p for p, _ in parts)
        given = [node.channels for node in rest.nodes if node.op == "given"]
        last = between.nodes[-1]
        whole = (
            between.output == "map" and last.level == 0 and between.nodes[0].level > 0
            and between.narrow(len(between.nodes) - 1) and given == [last.channels]
            and first.lag is None and rest.lag is None and not first.coupled and not rest.coupled
            and first.colours == between.colours == rest.colours
            and first.bits == between.bits == rest.bits
            and first.output == rest.output != "map"
            and not any(node.op == "given" for p in (first, between) for node in p.nodes)
            and not any(p.classes for p, _ in parts)
        )  # fmt: skip
        if not whole:
            raise NetworkFileError("its three programs do not belong together")
    elif parts[0][0].output == "map" or any(n.op == "given" for n in parts[0][0].nodes):
        raise NetworkFileError("its program is only a part of one")


def _size(tensor: NDArray[Any]) -> int:
    """The largest absolute value; that of the most negative number does not fit its type."""
    return max(int(tensor.max()), -int(tensor.min()))


def _layout(p: Program) -> dict[str, tuple[tuple[int, ...], type[np.generic]]]:
    """The name, shape and type of every tensor of a program."""
    narrow = np.int8 if p.bits == 8 else np.int16
    found: dict[str, tuple[tuple[int, ...], type[np.generic]]] = {}
    for i, node in enumerate(p.nodes):
        if node.op == "linear":
            inputs = len(node.taps) * p.nodes[node.inputs[0]].channels
            if inputs * node.channels > _MOST_MATRIX:
                raise NetworkFileError("one of its matrices is too large")
            found[f"{i}.weight"] = ((inputs, node.channels), narrow)
            found[f"{i}.bias"] = ((node.channels,), np.int64)
            found[f"{i}.scale"] = ((node.channels,), np.float64)
            if i in _of_classes(p):
                found[f"{i}.bias"] = ((p.classes, node.channels), np.int64)
        elif node.op == "lstm":
            taps = len(program.STATES[node.kind])
            h = node.channels
            found[f"{i}.weight"] = ((taps * h, 4 * h), narrow)
            found[f"{i}.scale"] = ((4 * h,), np.float64)
            found[f"{i}.hidden"], found[f"{i}.cell"] = ((h,), narrow), ((h,), np.int32)
        elif node.op == "activate":
            found[f"{i}.scale"] = ((node.channels,), np.float64)
    return found


def _of_classes(p: Program) -> set[int]:
    """The linear nodes whose biases a class chooses: those that gates read (PixelCNN++, 3.2)."""
    if not p.classes:
        return set()
    return {node.inputs[0] for node in p.nodes if (node.op, node.kind) == ("gate", "linear")}


def read(path: Path) -> tuple[list[Part], bytes]:
    """The programs and tensors of a frozen network's file, and its fingerprint; never unpickles.

    Raises NetworkFileError for a file that is damaged, hostile or not a frozen network.
    """
    parts: list[Part] = []
    with opened(path, FORMAT) as (metadata, tensors):
        for k, found in enumerate(json.loads(metadata["programs"])):
            start = f"{k}."
            own = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
            parts.append((program.from_dict(found), own))
        if sum(len(own) for _, own in parts) != len(tensors):
            raise NetworkFileError("it holds tensors of no program")
        check(parts)
        sound = fingerprint(parts)
        if sound.hex() != metadata.get("fingerprint"):
            raise NetworkFileError("its integers do not match its fingerprint")
    return parts, sound
