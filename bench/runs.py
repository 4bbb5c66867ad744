"""A trained run, measured: from the float network's theory to real files, and how long they take.

A run is a folder that `pixelzip train` filled. Measuring it puts two kinds of files beside its
checkpoint: the frozen networks (``frozen.safetensors`` of 16 bits, ``frozen-8.safetensors``) and
``measured.json``. Both are used again until there is a newer checkpoint.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelzip import api
from pixelzip.bench.datasets import DatasetError
from pixelzip.bench.run import LossError, machine
from pixelzip.bench.tables import count
from pixelzip.codec import tiles
from pixelzip.codec.conditional import Conditional
from pixelzip.codec.container import unpack
from pixelzip.coding import load_network
from pixelzip.models.freezing.freeze import freeze_checkpoint, load_checkpoint
from pixelzip.models.networks import architectures
from pixelzip.models.training.images import Images

Pixels = NDArray[np.uint8]

BITS = 16
"""Of the weights and activations that the tables are about ..."""
ONLY_BITS = {"photo": 8}
"""... but for architectures that are not frozen otherwise."""
ALONE = 3
"""So many images are also coded each on its own."""
BATCH = 16
"""The float network sees so many images at once."""


@dataclass(frozen=True)
class Coding:
    """What one frozen network makes of the images. Seconds are those of one image."""

    bits: int
    """Of weights and activations."""
    megabytes: float
    """Of the frozen network."""
    theory: float
    """The frozen network's negative log-likelihood in bits/dim."""
    payload: float
    """Of what the network itself makes of the images, in bits/dim."""
    file: float
    """Of whole files, in bits/dim."""
    by_network: int
    """How many of the files hold that; in the others a simpler form was smaller."""
    encode: float
    """From pixels to the network's payloads, all images together."""
    decode: float
    encode_alone: float
    """One image at a time: the median of a few."""
    decode_alone: float


@dataclass(frozen=True)
class Measured:
    """A run's figures."""

    run: str
    network: str
    settings: dict[str, Any]
    """Those hyper-parameters that are not the architecture's own."""
    output: str
    colours: int
    parameters: int
    field: str
    steps: int
    pixels: int
    """Seen in training."""
    seconds: float
    """Of training."""
    images: int
    """Measured on so many."""
    subpixels: int
    """Of one image."""
    theory: float
    """The float network's negative log-likelihood in bits/dim, averaged weights, float32."""
    codings: tuple[Coding, ...]
    machine: dict[str, Any]

    def coding(self, bits: int | None = None) -> Coding | None:
        """What the network frozen to so many bits does, if that was measured; else the usual."""
        if bits is None:
            bits = ONLY_BITS.get(self.network, BITS)
        return next((coding for coding in self.codings if coding.bits == bits), None)

    def has(self, bits: Sequence[int]) -> bool:
        """Whether all of these were measured that can be."""
        return all(self.coding(b) for b in widths(self.network, self.output, bits))

    def nats(self, bits_per_dim: float) -> float:
        """Nats per image."""
        return bits_per_dim * self.subpixels * math.log(2)

    def is_of(self, images: Mapping[int, Images]) -> bool:
        """Whether it was measured on as many images as there are of its kind."""
        return self.colours in images and self.images == len(images[self.colours].pixels)

    @staticmethod
    def from_json(text: str) -> Measured:
        """What `to_json` wrote. ValueError, TypeError or KeyError if it is of another version."""
        fields = json.loads(text)
        codings = tuple(Coding(**coding) for coding in fields.pop("codings"))
        return Measured(**fields, codings=codings)

    def to_json(self) -> str:
        """Everything, to be read again."""
        return json.dumps(asdict(self), indent=1)


def widths(network: str, output: str, bits: Sequence[int]) -> Sequence[int]:
    """To which of these numbers of bits an architecture is frozen: a continuous output to none."""
    if output == "continuous":
        return ()
    return [ONLY_BITS[network]] if network in ONLY_BITS else bits


def finished(run: Path) -> bool:
    """Whether a folder holds a run that has done all its steps."""
    try:
        with (run / "log.csv").open(newline="") as file:
            *_, last = csv.DictReader(file)
        return float(last["seconds_left"]) == 0 and (run / "checkpoint.pt").exists()
    except (OSError, ValueError, KeyError):
        return False


def measure(
    run: Path,
    images: Mapping[int, Images],
    *,
    bits: Sequence[int] = (BITS,),
    threads: int = 1,
    again: bool = False,
) -> Measured:
    """Measure a run on the images of as many colours as it knows, or read what was measured before.

    They are turned black and white, by chance but always in the same way, where the network wants
    them so. Raises LossError if a file is not its image, DatasetError if there are no such images,
    and what loading and freezing raise.
    """
    checkpoint, kept = run / "checkpoint.pt", run / "measured.json"
    if not again and kept.exists() and kept.stat().st_mtime > checkpoint.stat().st_mtime:
        with suppress(ValueError, TypeError, KeyError):  # written by another version
            before = Measured.from_json(kept.read_text("utf-8"))
            if before.has(bits) and before.is_of(images):
                return before
    network, state = load_checkpoint(checkpoint)
    architecture, chosen = architectures.find(state["network_name"]), state["architecture"]
    config = architecture.config(**chosen)
    defaults = asdict(architecture.config())
    colours, output = chosen.get("colours", 3), chosen.get("output", "mixture")
    if colours not in images:
        raise DatasetError(f"{run} needs images of {count(colours, 'colour')}")
    suited = images[colours]
    if output == "binary":
        suited = suited.binarised(np.random.default_rng(0))
    pixels = suited.pixels
    found = Measured(
        run=run.name,
        network=architecture.name,
        settings={k: v for k, v in chosen.items() if v != defaults[k]},
        output=output,
        colours=colours,
        parameters=architecture.parameters(config),
        field=str(config.field),
        steps=int(state["step"]),
        pixels=int(state["pixels"]),
        seconds=float(state["seconds"]),
        images=len(pixels),
        subpixels=pixels[0].size,
        theory=float_theory(network, pixels, chosen.get("classes", 0)),
        codings=tuple(
            coding(frozen(run, b), b, pixels, threads)
            for b in widths(architecture.name, output, bits)
        ),
        machine=machine(threads, repeat=1),
    )
    kept.write_text(found.to_json(), "utf-8")
    return found


def frozen(run: Path, bits: int) -> Path:
    """The run's network frozen to so many bits; freezes it if that was not done yet."""
    checkpoint = run / "checkpoint.pt"
    path = run / ("frozen.safetensors" if bits == BITS else f"frozen-{bits}.safetensors")
    if not path.exists() or path.stat().st_mtime < checkpoint.stat().st_mtime:
        freeze_checkpoint(checkpoint, path, bits)
    return path


@torch.no_grad()
def float_theory(network: nn.Module, images: Pixels, classes: int = 0) -> float:
    """A float network's bits/dim on images; where it has classes, each image's best one counts."""
    torch.manual_seed(0)  # a continuous output draws noise
    labels: Sequence[int | None] = range(classes) if classes else [None]
    nats = []
    for batch in torch.split(torch.from_numpy(images), BATCH):
        tried = [_nats(network, batch, label) for label in labels]
        nats.append(torch.stack(tried).amin(0))
    return float(torch.cat(nats).sum()) / math.log(2) / images.size


def _nats(network: nn.Module, batch: Tensor, label: int | None) -> Tensor:
    labels = [] if label is None else [torch.full((len(batch),), label)]
    likelihood: Tensor = network(batch, *labels)
    return -likelihood.double().flatten(1).sum(1)


def coding(path: Path, bits: int, images: Pixels, threads: int) -> Coding:
    """Compress, restore and compare images; then see what the network's part takes how long.

    Raises LossError if a file or a payload is not its image.
    """
    network = str(path)
    conditional = load_network(network)
    assert conditional is not None
    files = api.compress_many(_planes(images), network=network, origin="none", threads=threads)
    restored = api.decompress_many(files, networks=[network], threads=threads)
    _compare(network, _planes(images), restored)
    scores = tiles.score_tiles(conditional, list(images), threads=threads)
    _there_and_back(conditional, images[:1], threads)  # compiles what the files did not need
    payloads, encode, decode = _there_and_back(conditional, images, threads)
    alone = [_there_and_back(conditional, image[None], 1)[1:] for image in images[:ALONE]]
    return Coding(
        bits=bits,
        megabytes=path.stat().st_size / 1e6,
        theory=sum(float(score.sum(dtype=np.float64)) for score in scores) / images.size,
        payload=8 * sum(map(len, payloads)) / images.size,
        file=8 * sum(map(len, files)) / images.size,
        by_network=sum(bool(unpack(data).networks) for data in files),
        encode=encode,
        decode=decode,
        encode_alone=median(seconds for seconds, _ in alone),
        decode_alone=median(seconds for _, seconds in alone),
    )


def _there_and_back(
    conditional: Conditional, images: Pixels, threads: int
) -> tuple[list[bytes], float, float]:
    """The images' payloads, and the seconds an image took to encode and to decode."""
    shapes = [image.shape[:2] for image in images]
    started = time.perf_counter()
    payloads = tiles.encode_tiles(conditional, list(images), threads=threads)
    between = time.perf_counter()
    restored = tiles.decode_tiles(conditional, payloads, shapes, images.shape[3], threads=threads)
    ended = time.perf_counter()
    _compare("the network", images, restored)
    return payloads, (between - started) / len(images), (ended - between) / len(images)


def _compare(network: str, images: Iterable[Pixels], restored: Iterable[object]) -> None:
    for image, found in zip(images, restored, strict=True):
        if not np.array_equal(image, np.asarray(found)):
            raise LossError(f"{network} did not bring the pixels back")


def _planes(images: Pixels) -> list[Pixels]:
    """One array for each image; grey ones without an axis of channels."""
    return list(images[..., 0] if images.shape[3] == 1 else images)
