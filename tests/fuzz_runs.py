"""Damaged manifests and networks' files by the hundred thousand. By hand::

    python tests/fuzz_runs.py --count 200000

Half of them are manifests, of which a run has to go on, or to say that it cannot. Half are files of
networks: of small ones of both engines, mostly with integers, shapes and programs that are damaged
and a fingerprint that fits them. What is not refused has to code a tile, and to bring it back.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import tiny
from architectures import KINDS, frozen
from fuzzing import campaign, damage, soon
from numpy.typing import NDArray

from pixelzip.codec import tiles
from pixelzip.codec.errors import NetworkFileError
from pixelzip.fleet import manifest
from pixelzip.models.frozen import backends, shell
from pixelzip.models.frozen import file as of_photos
from pixelzip.models.frozen.architecture import PhotoConfig
from pixelzip.models.programs import file as of_programs
from pixelzip.models.programs import integers, program

Tensors = dict[str, NDArray[Any]]
RUN = {"command": "compress", "input": "/a", "output": "/b"}
NUMBERS = (
    0,
    1,
    -1,
    2,
    127,
    255,
    8193,
    2**15,
    2**31 - 1,
    -(2**31),
    2**63,
    10**30,
    1.5,
    float("nan"),
)
VALUES = (*NUMBERS, None, True, "", "row", "linear", "add", "cat", [], {}, [0, 16], [[1, 0]])


# Manifests.


@cache
def manifests() -> list[bytes]:
    """One of a run that was stopped and went on, and one that hardly began."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m")
        for _ in range(2):
            with manifest.Manifest(path, RUN, "1") as made:
                names = [f"/a/{number}.png" for number in range(6)]
                made.begin(names)
                made.finish(
                    manifest.Record(
                        name, state, bytes_in=9, bytes_out=5, notes=("x",), may_remove=True
                    )
                    for name, state in zip(names, ("done", "failed", "skipped"), strict=False)
                )
                made.removed(names[:1])
                made.kept({names[1]: "it differs"})
        whole = Path(path).read_bytes()
    return [whole, whole.split(b"\n")[0] + b"\n"]


def attack_manifest(path: Path, random: Random) -> str:
    """What became of a damaged one."""
    data = random.choice(manifests())
    if random.random() < 0.5:
        data = damage(data, manifests()[0], random)
    else:
        lines = data.splitlines()
        number = random.randrange(len(lines))
        lines[number] = json.dumps(changed(json.loads(lines[number]), random)).encode()
        data = b"\n".join(lines) + b"\n" * random.randrange(2)
    path.write_bytes(data)
    try:
        with soon(), manifest.Manifest(str(path), RUN, "1") as opened:
            opened.begin(["/a/new.png"])
            opened.finish([manifest.Record("/a/new.png", "done")])
    except manifest.ManifestError as error:
        if "\n" in str(error):
            raise ValueError("an error of several lines") from error
        return "manifest: refused"
    past = manifest.Past(manifest.read(str(path)))
    if not past.is_settled("/a/new.png"):
        raise ValueError("what was written does not come back")
    return "manifest: taken"


def changed(tree: Any, random: Random) -> Any:
    """JSON of which one or two values are others."""
    tree = deepcopy(tree)
    for _ in range(random.choice([1, 1, 2])):
        inside, key = random.choice(_places(tree) or [([tree], 0)])
        if random.random() < 0.2 and isinstance(inside, dict):
            del inside[key]
        else:
            inside[key] = deepcopy(random.choice(VALUES))
    return tree


def _places(x: Any) -> list[tuple[Any, Any]]:
    keys = list(x) if isinstance(x, dict) else range(len(x)) if isinstance(x, list) else []
    return [(x, key) for key in keys] + [place for key in keys for place in _places(x[key])]


# Networks.


def attack_network(path: Path, random: Random) -> str:
    """What became of a damaged network."""
    attack = random.choice([_attack_photo, _attack_program])
    with soon():
        try:
            network = attack(path, random)
        except NetworkFileError as error:
            if "\n" in str(error):
                raise ValueError("an error of several lines") from error
            return "network: refused"
        channels = next(count for count in (3, 1) if network.codes(count))
        pixels = np.random.default_rng(random.randrange(9)).integers(0, 256, (5, 4, channels))
        tile = (pixels if network.name != "binary" else pixels // 128 * 255).astype(np.uint8)
        (payload,) = tiles.encode_tiles(network, [tile])
        (back,) = tiles.decode_tiles(network, [payload], [(5, 4)], channels)
    if not np.array_equal(back, tile):
        raise ValueError("another tile comes back")
    return "network: taken"


def _attack_photo(path: Path, random: Random) -> Any:
    tensors, config = tiny.wild(random.randrange(4))
    about = asdict(config)
    if random.random() < 0.3:
        about = changed(about, random)
    else:
        _hurt(tensors, random)
    fingerprint = _fingerprint(lambda: of_photos.fingerprint(tensors, PhotoConfig(**about)))
    metadata = {"format": of_photos.FORMAT, "architecture": json.dumps(about)}
    _write(path, tensors, {**metadata, "fingerprint": fingerprint}, random)
    return backends.make("n", *of_photos.read(path))


def _attack_program(path: Path, random: Random) -> Any:
    parts = frozen(random.choice(KINDS), random.choice([8, 16]))
    tensors = dict(of_programs.joined(parts))
    programs = json.loads(json.dumps([p.as_dict() for p, _ in parts]))
    if random.random() < 0.6:
        programs = changed(programs, random)
    else:
        _hurt(tensors, random)

    def name() -> bytes:
        own = [
            (program.from_dict(p), {n[2:]: t for n, t in tensors.items() if n[0] == str(k)})
            for k, p in enumerate(programs)
        ]
        return of_programs.fingerprint(own)

    metadata = {"format": of_programs.FORMAT, "programs": json.dumps(programs)}
    _write(path, tensors, {**metadata, "fingerprint": _fingerprint(name)}, random)
    read, sound = of_programs.read(path)
    return integers.make("binary" if read[0][0].output == "binary" else "n", read, sound)


def _fingerprint(make: Callable[[], bytes]) -> str:
    try:
        return make().hex()
    except Exception:  # there is none, whatever the reason is
        return ""


def _write(path: Path, tensors: Tensors, metadata: dict[str, str], random: Random) -> None:
    shell.write(path, tensors, metadata)
    if random.random() < 0.2:  # the header, mostly
        data = path.read_bytes()
        path.write_bytes(damage(data, data, random))


def _hurt(tensors: Tensors, random: Random) -> None:
    """Change a tensor: a value, its shape, its type; or leave it out."""
    name = random.choice(sorted(tensors))
    tensor = np.array(tensors[name])
    match random.randrange(7):
        case 0:
            del tensors[name]
            return
        case 1:
            tensor = tensor[: random.randrange(len(tensor) + 1)] if tensor.ndim else tensor[None]
        case 2:
            tensor = tensor.reshape(-1) if random.random() < 0.5 else tensor[..., None]
        case 3:
            kinds = ["i1", "u1", "i2", "i4", "i8", "f4", "f8", "f2", "?"]
            with np.errstate(all="ignore"):
                tensor = tensor.astype(random.choice(kinds))
        case 4:
            tensor = np.concatenate([tensor, tensor]) if tensor.ndim else tensor
        case _ if tensor.size:
            with np.errstate(all="ignore"):
                values = np.array(random.choice(NUMBERS), np.float64).astype(tensor.dtype)
            tensor.reshape(-1)[random.randrange(tensor.size)] = values
    tensors[name] = tensor


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "hurt")

        def one(number: int, random: Random) -> str:
            return attack_network(path, random) if number % 2 else attack_manifest(path, random)

        campaign(__doc__ or "", one, 200_000)


if __name__ == "__main__":
    main()
