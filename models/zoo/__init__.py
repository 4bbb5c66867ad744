"""The zoo: the frozen networks that ship with pixelzip, each beside a card that describes it.

``NAME.safetensors`` is a network, ``NAME.md`` its card. Networks that a better one of the same name
has replaced are in ``retired``: files that they coded find them, and nothing else does. `names` and
`describe` read headers only; torch is imported only for devices that are not the CPU.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from pixelzip.codec.errors import NetworkFileError, UnknownNetworkError
from pixelzip.models.programs import FORMAT

if TYPE_CHECKING:
    from pixelzip.models.frozen.network import Frozen
    from pixelzip.models.programs.integers import Integers

_FOLDER = Path(__file__).parent
_RETIRED = "retired"
_LARGEST_HEADER = 1 << 20


class Entry(TypedDict):
    """What the header of a frozen network tells of it."""

    name: str
    fingerprint: str  # hexadecimal
    integers: int
    """How many its file holds: weights, tables, scales."""
    bytes: int
    architecture: dict[str, Any]
    """The architecture's name, as ``network``, and its hyper-parameters."""
    lag: int
    field: str
    trained: str
    card: str  # path of its card


def names() -> list[str]:
    """The networks that ship with pixelzip."""
    return list(_shipped())


def _shipped() -> Mapping[str, Path]:
    """Their files by their names, in order: each image asks."""
    return _files(_FOLDER, _FOLDER.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _files(folder: Path, changed: int) -> Mapping[str, Path]:
    """Of a folder as it was changed last."""
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def folders() -> list[Path]:
    """Where networks of one's own are looked for: as PIXELZIP_NETWORKS says, then the user's."""
    named = os.environ.get("PIXELZIP_NETWORKS", "").split(os.pathsep)
    if sys.platform == "win32":
        data = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        data = Path.home() / "Library" / "Application Support"
    else:
        data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return [*map(Path, filter(None, named)), Path(data, "pixelzip", "networks")]


def _own() -> list[Path]:
    """The files of networks in these folders."""
    return [path for folder in folders() for path in sorted(folder.glob("*.safetensors"))]


def describe() -> list[Entry]:
    """What is known of each network in the zoo, without loading it."""
    return [entry.copy() for entry in _entries(_FOLDER, _FOLDER.stat().st_mtime_ns)]


@lru_cache(maxsize=2)
def _entries(folder: Path, changed: int) -> tuple[Entry, ...]:
    """The same, of a folder as it was changed last: each file to decode asks."""
    return tuple(map(_describe, _files(folder, changed).values()))


def _known() -> list[Entry]:
    """All that the file of any release may need: what the zoo has, then what it had once."""
    here = _entries(_FOLDER, _FOLDER.stat().st_mtime_ns)
    return [*here, *_entries(_FOLDER / _RETIRED, 0)]


def name_of(fingerprint: bytes) -> str | None:
    """What the network is called whose fingerprint begins so, if it ships, be it retired."""
    start = fingerprint.hex()
    return next((one["name"] for one in _known() if one["fingerprint"].startswith(start)), None)


def describe_file(name_or_path: str) -> Entry:
    """The same of any network that `load` finds, which is loaded and so checked.

    Raises what `load` raises.
    """
    path = _path(name_or_path)
    load(name_or_path)
    return _describe(path)


def parameters(entry: Entry) -> int:
    """How many weights of the network were trained; more integers come of them. Loads torch."""
    from pixelzip.models.networks import architectures

    settings = dict(entry["architecture"])
    architecture = architectures.find(settings.pop("network"))
    return architecture.parameters(architecture.config(**settings))


def _describe(path: Path) -> Entry:
    header = _header(path)
    metadata: dict[str, str] = header.pop("__metadata__", {})
    architecture = {"network": "photo"} | json.loads(metadata.get("architecture", "{}"))
    return Entry(
        name=path.stem,
        fingerprint=metadata.get("fingerprint", ""),
        integers=sum(math.prod(tensor["shape"]) for tensor in header.values()),
        bytes=path.stat().st_size,
        architecture=architecture,
        lag=int(metadata.get("lag", 0)),
        field=metadata.get("field", ""),
        trained=metadata.get("trained", ""),
        card=str(path.with_suffix(".md")),
    )


def _header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file: eight bytes of length, then the text."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > _LARGEST_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
            if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
                raise ValueError("its header is of another kind")
            return header
    except (OSError, ValueError, RecursionError) as error:
        raise NetworkFileError(f"{path} is not a network file: {error}") from error


def load(
    name_or_path: str, *, carrier: str | None = None, device: str = "cpu"
) -> Frozen | Integers:
    """A network of the zoo by its name, any frozen network by its path, or one's own by its name.

    Raises UnknownNetworkError if there is no such network, NetworkFileError if its file is
    damaged, DeviceError if there is no such device. ``carrier`` and ``device`` are those of
    `pixelzip.models.frozen.backends.make`; they change the speed and never the result.
    """
    return _load(_path(name_or_path), carrier, device)


def _path(name_or_path: str) -> Path:
    if shipped := _shipped().get(name_or_path):
        return shipped
    own = [path for path in _own() if path.stem == name_or_path]
    for path in (Path(name_or_path), *own):
        if path.is_file():
            return path
    known = ", ".join(names()) or "none"
    raise UnknownNetworkError(
        f"there is no network {name_or_path!r}: give the name of one that ships"
        f" ({known}) or the path of a frozen network"
    )


@lru_cache(maxsize=8)
def _load(path: Path, carrier: str | None, device: str) -> Frozen | Integers:
    if _header(path).get("__metadata__", {}).get("format") == FORMAT:
        from pixelzip.models.programs import file, integers

        return integers.make(path.stem, *file.read(path), carrier=carrier, device=device)
    from pixelzip.models.frozen import backends
    from pixelzip.models.frozen import file as of_photos

    return backends.make(path.stem, *of_photos.read(path), carrier=carrier, device=device)


def find(
    fingerprint: bytes, extra: Sequence[str] = (), *, device: str = "cpu"
) -> Frozen | Integers:
    """The network whose fingerprint begins so, in the zoo, the paths in ``extra`` or `folders`.

    Retired ones are found, too. Raises UnknownNetworkError if none does, and what `load` raises.
    """
    for entry in _known():
        if bytes.fromhex(entry["fingerprint"]).startswith(fingerprint):
            return _load(Path(entry["card"]).with_suffix(".safetensors"), None, device)
    for path in extra:
        network = load(path, device=device)
        if network.fingerprint.startswith(fingerprint):
            return network
    for path in map(str, filter(partial(_begins, fingerprint), _own())):
        network = load(path, device=device)
        if network.fingerprint.startswith(fingerprint):
            return network
    raise UnknownNetworkError(
        f"the file needs the network {fingerprint.hex()}, which is not here:"
        " install the version of pixelzip that made the file, or pass the network's file"
    )


def _begins(fingerprint: bytes, path: Path) -> bool:
    """Whether a file says that its network has a fingerprint that begins so."""
    try:
        return _describe(path)["fingerprint"].startswith(fingerprint.hex())
    except (NetworkFileError, ValueError, KeyError, TypeError, AttributeError):
        return False  # of another kind
