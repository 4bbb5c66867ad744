"""A run: every codec on every image, each image really compressed, brought back and compared.

All codecs do one image before any does the next, so that a machine that slows down for a while
slows all of them. Before its clock starts, each has coded a part of the first image of that kind.
"""

from __future__ import annotations

import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from pixelzip import api, coding, pictures
from pixelzip.bench import memory
from pixelzip.bench.datasets import Dataset, Item, Pixels
from pixelzip.bench.figures import CodecFigures, ImageFigures, Results
from pixelzip.bench.peers import PEERS, Peer
from pixelzip.codec.errors import PixelzipError

Progress = Callable[[float], None]
"""Told now and then which fraction of the work is done, 0 to 1."""

PACKAGES = ("pixelzip", "torch", "numba", "numpy", "constriction", "pillow", "imagecodecs")
LIBRARIES = ("webp", "jpegls", "jpeg2k", "jpegxl", "avif", "qoi")
"""Those of imagecodecs whose versions are noted."""


class LossError(PixelzipError):
    """A file of ours gave back other pixels than those that went in: a bug, and a grave one."""


@dataclass(frozen=True)
class Network:
    """pixelzip with its networks, or with one, as a codec among the others."""

    name: str
    """What it is called in tables."""
    network: str | None
    """A network of the zoo, a frozen network's file, or "none"; None for what users get who name
    none: those of the effort, as a sample chooses among them."""
    checkpoint: Path | None = None
    """Where its float network is."""
    effort: str = coding.DEFAULT_EFFORT
    """How much time a file may take: see `pixelzip.compress`."""

    def compress(self, pixels: Pixels, threads: int, origin: str = "auto") -> bytes:
        """A file's bytes."""
        return api.compress(
            pixels, network=self.network, origin=origin, effort=self.effort, threads=threads
        )

    def restore(self, data: bytes, threads: int, like: Pixels) -> Pixels:
        """The pixels of the file."""
        return api.decompress_array(data, networks=self.networks, threads=threads)

    @property
    def networks(self) -> list[str]:
        """Those that decoding may need besides the zoo's."""
        return [] if self.network in (None, coding.NO_NETWORK) else [self.network]

    def sizes(self, pixels: Pixels, data: bytes, threads: int) -> dict[str, Any]:
        """The figures of a file that only a network has."""
        from pixelzip.bench import theory  # the peers' processes shall not need PyTorch

        picture, about = pictures.from_array(pixels), api.info(data)
        figures: dict[str, Any] = {"payload_bytes": about.payload_bytes}
        if about.origins:
            plain = self.compress(pixels, threads, "none")
            if not np.array_equal(self.restore(plain, threads, pixels), pixels):
                raise LossError(f"{self.name} did not bring the pixels back")
            return figures | {
                "origin": "; ".join(about.origins),
                "plain_bytes": len(plain),
                "theoretical_bits": theory.file_bits(data, self.networks, threads),
            }
        if self.network is None or coding.EFFORTS[self.effort].adaptive:
            bits = theory.file_bits(data, self.networks, threads)
            return figures | {"plain_bytes": len(data), "theoretical_bits": bits}
        return figures | {
            "plain_bytes": len(data),
            "theoretical_bits": theory.frozen_bits(self.network, picture, threads),
            "float_bits": theory.float_bits(self.checkpoint, picture),
        }


Codec = Network | Peer


def networks(
    names: Sequence[str],
    checkpoints: Sequence[Path] = (),
    efforts: Sequence[str] = (coding.DEFAULT_EFFORT,),
) -> list[Network]:
    """Codecs of networks by name or path, the first ones with the checkpoint of their order.

    If none is named, those that pixelzip takes by itself. All with each effort.
    """
    stems = [Path(name).stem for name in names]
    padded = [*checkpoints, *[None] * (len(names) - len(checkpoints))]
    found = []
    for name, stem, checkpoint in zip(names, stems, padded, strict=True):
        title = f"pixelzip {name if stems.count(stem) > 1 else stem}"
        for effort in efforts:
            suffix = "" if effort == coding.DEFAULT_EFFORT else f", effort {effort}"
            found.append(Network(title + suffix, name, checkpoint, effort))
    if not names:
        for effort in efforts:
            suffix = "default" if effort == coding.DEFAULT_EFFORT else f"effort {effort}"
            found.append(Network(f"pixelzip, {suffix}", None, None, effort))
    return found


def measure(
    dataset: Dataset,
    codecs: Sequence[Codec],
    *,
    threads: int = 1,
    repeat: int = 1,
    reference: str | None = None,
    progress: Progress = lambda _: None,
) -> Results:
    """Measure codecs on a dataset.

    Each codes with ``threads`` threads if it can, ``repeat`` times; the medians count. A peer that
    is missing or that does not bring an image back is left out, and a note says so. ``reference``
    is the key of the peer that speeds are compared with.

    Raises LossError if a network's file is not its image, and what `pixelzip.compress` raises.
    """
    present, notes = _present(codecs)
    figures: dict[str, list[ImageFigures]] = {codec.name: [] for codec in present}
    warm: set[tuple[str, str, tuple[int, ...]]] = set()
    largest: Pixels | None = None
    for number, item in enumerate(dataset.items):
        pixels = np.ascontiguousarray(item.load())
        jpeg = _jpeg_bytes(item, threads)
        if largest is None or pixels.size > largest.size:
            largest = pixels
        for position, codec in enumerate(list(present)):
            kind = (codec.name, str(pixels.dtype), pixels.shape[2:])
            try:
                if kind not in warm:
                    _once(codec, np.ascontiguousarray(pixels[:128, :128]), threads)
                    warm.add(kind)
                measured = _measure(codec, item.name, pixels, threads, repeat)
            except Exception as error:  # whatever a peer's library raises
                if isinstance(codec, Network):
                    raise
                present.remove(codec)
                notes.append(f"{codec.name} is left out: {item.name}: {_sentence(error)}")
                continue
            if isinstance(codec, Network):
                measured = replace(measured, jpeg_bytes=jpeg)
            figures[codec.name].append(measured)
            progress((number + (position + 1) / len(present)) / (len(dataset.items) + 1))
    assert largest is not None
    measured_codecs = []
    for codec in present:
        peak = peak_megabytes(codec, largest, threads)
        images = tuple(figures[codec.name])
        measured_codecs.append(CodecFigures(codec.name, isinstance(codec, Network), images, peak))
    names = [codec.name for codec in present]
    compared = PEERS[reference].name if reference else None
    return Results(
        dataset=dataset.name,
        images=len(dataset.items),
        machine=machine(threads, repeat),
        codecs=tuple(measured_codecs),
        reference=compared if compared in names else None,
        notes=tuple(notes + _single_threaded(present, threads)),
    )


def _jpeg_bytes(item: Item, threads: int) -> int | None:
    """What the JPEG takes that an image is decoded from."""
    if item.jpeg is None:
        return None
    return len(coding.encode_jpeg(item.jpeg.read_bytes(), threads=threads))


def _present(codecs: Sequence[Codec]) -> tuple[list[Codec], list[str]]:
    """Those codecs that can run here, and why the others cannot."""
    missing = {codec.name: codec.missing() for codec in codecs if isinstance(codec, Peer)}
    present = [codec for codec in codecs if missing.get(codec.name) is None]
    return present, [note for note in missing.values() if note is not None]


def _single_threaded(codecs: Sequence[Codec], threads: int) -> list[str]:
    names = [c.name for c in codecs if isinstance(c, Peer) and not c.threaded]
    if threads == 1 or not names:
        return []
    return [f"One thread, whatever the number: {'; '.join(names)}."]


def _sentence(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".") + "."


def _once(codec: Codec, pixels: Pixels, threads: int) -> tuple[bytes, float, float]:
    """Compress and bring back: the file, and the seconds of each."""
    started = time.perf_counter()
    data = codec.compress(pixels, threads)
    encoded = time.perf_counter()
    restored = codec.restore(data, threads, pixels)
    decoded = time.perf_counter()
    same = restored.shape == pixels.shape and restored.dtype == pixels.dtype
    if not same or not np.array_equal(restored, pixels):
        raise LossError(f"{codec.name} did not bring the pixels back")
    return data, encoded - started, decoded - encoded


def _measure(codec: Codec, name: str, pixels: Pixels, threads: int, repeat: int) -> ImageFigures:
    runs = [_once(codec, pixels, threads) for _ in range(repeat)]
    data = runs[0][0]
    figures = ImageFigures(
        name=name,
        width=pixels.shape[1],
        height=pixels.shape[0],
        subpixels=pixels.size,
        bytes=len(data),
        payload_bytes=None,
        theoretical_bits=None,
        float_bits=None,
        encode_seconds=median(run[1] for run in runs),
        decode_seconds=median(run[2] for run in runs),
        binary=pixels.dtype == np.bool_,
    )
    if isinstance(codec, Network):
        return replace(figures, **codec.sizes(pixels, data, threads))
    return figures


def peak_megabytes(codec: Codec, pixels: Pixels, threads: int) -> float | None:
    """Peak memory of a fresh process that compresses the image and brings it back."""
    chosen = codec if isinstance(codec, Network) else codec.key
    return memory.watch(_alone, chosen, pixels, threads)[1]


def _alone(chosen: Network | str, pixels: Pixels, threads: int) -> None:
    """In the fresh process. Peers travel by their key: their functions cannot be pickled."""
    _once(PEERS[chosen] if isinstance(chosen, str) else chosen, pixels, threads)


# What one has to know to repeat a run.


def machine(threads: int, repeat: int) -> dict[str, Any]:
    """When, on what, with which settings and versions."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": coding.available_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads": threads,
        "repeat": repeat,
        "versions": _versions(),
        "git": _git(),
    }


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    with suppress(ImportError):
        import imagecodecs

        for library in LIBRARIES:
            found[library] = str(getattr(imagecodecs, f"{library}_version")())
    return found


def _git() -> str | None:
    """The commit that this checkout is at, and whether it was changed; None if it is none."""
    here = Path(__file__).resolve()

    def git(*words: str) -> str:
        command = ["git", "-C", str(here.parent), *words]
        return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True).strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        changed = " with changes" if git("status", "--porcelain", "-uno") else ""
        return git("rev-parse", "--short=12", "HEAD") + changed
    except (OSError, subprocess.CalledProcessError):
        return None
