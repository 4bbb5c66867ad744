"""What was measured, as plain data: figures of images, of codecs, and the results of a whole run.

A codec's figures over a dataset are those of one long file: the sum of all bits over the sum of all
sub-pixels, the sum of all pixels over the sum of all seconds. So large images count for more, and
nothing is an average of averages.

The sizes of a file made by a network stand in a row, and each step of it has a cause and a name::

    float network's theory -> frozen network's theory -> payload -> file
                       freezing                   coding       headers

*Theory* is the networks' negative log-likelihood of what the file holds, in bits; the *payload* is
all that is coded of it; the *file* is what a user gets. Where the codec finds a simpler form
smaller than the network's, coding is negative.

What a network saves and what an *origin* saves (see docs/origins.md) are two things: beside each
file stands what it takes if no origin is looked for.
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ImageFigures:
    """Of one codec on one image, which it brought back unchanged."""

    name: str
    width: int
    height: int
    subpixels: int
    bytes: int
    """Of the whole file."""
    payload_bytes: int | None
    """Of all coded tiles, without headers and checksum; None for peers."""
    theoretical_bits: float | None
    """The frozen network's negative log-likelihood of all pixels, if a network can code them."""
    float_bits: float | None
    """The float network's, if its checkpoint was given."""
    encode_seconds: float
    """The median over the repeats."""
    decode_seconds: float
    """The median over the repeats."""
    binary: bool = False
    """Whether its sub-pixels are bits; then nats per image are of interest too."""
    origin: str | None = None
    """What the pixels were found to be computed from; None of peers and where there is nothing."""
    plain_bytes: int | None = None
    """Of the file that is made without looking for an origin; None of peers."""
    jpeg_bytes: int | None = None
    """Of pixelzip's file of the JPEG that the image was decoded from, where that is at hand."""

    @property
    def bits_per_dim(self) -> float:
        """Bits of the whole file over sub-pixels."""
        return 8 * self.bytes / self.subpixels

    @property
    def over_jpeg(self) -> float | None:
        """Bytes for each byte of the JPEG's own file."""
        return None if self.jpeg_bytes is None else self.bytes / self.jpeg_bytes

    @property
    def growth(self) -> float | None:
        """How much looking for origins makes the file larger, as a fraction; mostly negative."""
        return None if self.plain_bytes is None else self.bytes / self.plain_bytes - 1


@dataclass(frozen=True)
class Gap:
    """What one step on the way from theory to file costs."""

    cause: str
    """freezing, coding or headers."""
    percent: float
    """Of the size before the step."""
    bytes_per_image: float


@dataclass(frozen=True)
class CodecFigures:
    """Of one codec on all images of a dataset."""

    name: str
    network: bool
    """Whether it is a network of pixelzip, not a peer."""
    images: tuple[ImageFigures, ...]
    peak_megabytes: float | None
    """Of memory (10^6 bytes) of a fresh process that codes the largest image, with all its
    children; None where the system does not tell."""

    @property
    def subpixels(self) -> int:
        """Of all images."""
        return sum(image.subpixels for image in self.images)

    @property
    def bits_per_dim(self) -> float:
        """Bits of the whole files over sub-pixels."""
        return 8 * sum(image.bytes for image in self.images) / self.subpixels

    @property
    def payload_bits_per_dim(self) -> float | None:
        """Bits of the coded tiles over sub-pixels."""
        return self._per_dim(_sum([_bits(image.payload_bytes) for image in self.images]))

    @property
    def plain_bits_per_dim(self) -> float | None:
        """Bits over sub-pixels of the whole files that are made without looking for origins."""
        return self._per_dim(_sum([_bits(image.plain_bytes) for image in self.images]))

    @property
    def origins(self) -> dict[str, int]:
        """How many images had which origin, the most frequent first."""
        found = Counter(image.origin for image in self.images if image.origin is not None)
        return dict(found.most_common())

    @property
    def over_jpegs(self) -> float | None:
        """Bytes for each byte of the JPEGs' own files, of those images that were JPEGs."""
        known = [(image.bytes, image.jpeg_bytes) for image in self.images if image.jpeg_bytes]
        return sum(own for own, _ in known) / sum(of for _, of in known) if known else None

    @property
    def worst_origin(self) -> ImageFigures | None:
        """The image whose file an origin saves least in, or makes largest; None without any."""
        found = [i for i in self.images if i.origin is not None and i.plain_bytes is not None]
        return max(found, key=lambda image: image.growth or 0, default=None)

    @property
    def theoretical_bits_per_dim(self) -> float | None:
        """The frozen network's negative log-likelihood over sub-pixels."""
        return self._per_dim(_sum([image.theoretical_bits for image in self.images]))

    @property
    def float_bits_per_dim(self) -> float | None:
        """The float network's negative log-likelihood over sub-pixels."""
        return self._per_dim(_sum([image.float_bits for image in self.images]))

    def _per_dim(self, bits: float | None) -> float | None:
        return None if bits is None else bits / self.subpixels

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Of the steps from theory to file, those whose two ends are known, in their order."""
        steps = {
            "freezing": (self.float_bits_per_dim, self.theoretical_bits_per_dim),
            "coding": (self.theoretical_bits_per_dim, self.payload_bits_per_dim),
            "headers": (self.payload_bits_per_dim, self.bits_per_dim),
        }
        to_bytes = self.subpixels / len(self.images) / 8
        return tuple(
            Gap(cause, 100 * (after / before - 1) if before else 0.0, (after - before) * to_bytes)
            for cause, (before, after) in steps.items()
            if before is not None and after is not None
        )

    @property
    def binary(self) -> bool:
        """Whether all images are binary."""
        return all(image.binary for image in self.images)

    def nats_per_image(self, bits_per_dim: float | None) -> float | None:
        """The same size as nats per image, as papers give it; None if the images aren't binary."""
        if bits_per_dim is None or not self.binary:
            return None
        return bits_per_dim * self.subpixels * math.log(2) / len(self.images)

    @property
    def encode_mps(self) -> float:
        """Megapixels encoded a second."""
        return self._megapixels / sum(image.encode_seconds for image in self.images)

    @property
    def decode_mps(self) -> float:
        """Megapixels decoded a second."""
        return self._megapixels / sum(image.decode_seconds for image in self.images)

    @property
    def encode_seconds_per_image(self) -> float:
        """The mean over the images."""
        return sum(image.encode_seconds for image in self.images) / len(self.images)

    @property
    def decode_seconds_per_image(self) -> float:
        """The mean over the images."""
        return sum(image.decode_seconds for image in self.images) / len(self.images)

    @property
    def _megapixels(self) -> float:
        return sum(image.width * image.height for image in self.images) / 1e6


@dataclass(frozen=True)
class Results:
    """Of one run: all codecs on the same images."""

    dataset: str
    images: int
    machine: dict[str, Any]
    """Date, processor, threads, repeats, versions, git state: what one has to know to repeat it."""
    codecs: tuple[CodecFigures, ...]
    reference: str | None = None
    """The name of the peer that speeds are compared with."""
    notes: tuple[str, ...] = ()
    """Sentences: which peers are missing, and why."""

    def speeds(self, codec: CodecFigures) -> tuple[float, float] | None:
        """How many times as fast as the reference the codec encodes and decodes."""
        for peer in self.codecs:
            if peer.name == self.reference:
                return codec.encode_mps / peer.encode_mps, codec.decode_mps / peer.decode_mps
        return None

    def to_json(self) -> dict[str, Any]:
        """For ``--json``: figures that there are not are None."""
        return {
            "dataset": self.dataset,
            "images": self.images,
            "machine": self.machine,
            "reference": self.reference,
            "notes": list(self.notes),
            "codecs": [self._codec_json(codec) for codec in self.codecs],
        }

    def _codec_json(self, codec: CodecFigures) -> dict[str, Any]:
        encode, decode = self.speeds(codec) or (None, None)
        return {
            "name": codec.name,
            "network": codec.network,
            "bits_per_dim": codec.bits_per_dim,
            "plain_bits_per_dim": codec.plain_bits_per_dim,
            "origins": codec.origins,
            "over_jpegs": codec.over_jpegs,
            "worst_origin": asdict(codec.worst_origin) if codec.worst_origin else None,
            "payload_bits_per_dim": codec.payload_bits_per_dim,
            "theoretical_bits_per_dim": codec.theoretical_bits_per_dim,
            "float_bits_per_dim": codec.float_bits_per_dim,
            "gaps": [asdict(gap) for gap in codec.gaps],
            "nats_per_image": codec.nats_per_image(codec.bits_per_dim),
            "theoretical_nats_per_image": codec.nats_per_image(codec.theoretical_bits_per_dim),
            "float_nats_per_image": codec.nats_per_image(codec.float_bits_per_dim),
            "encode_mps": codec.encode_mps,
            "decode_mps": codec.decode_mps,
            "encode_seconds_per_image": codec.encode_seconds_per_image,
            "decode_seconds_per_image": codec.decode_seconds_per_image,
            "encode_relative": encode,
            "decode_relative": decode,
            "peak_megabytes": codec.peak_megabytes,
            "per_image": [
                asdict(image) | {"bits_per_dim": image.bits_per_dim} for image in codec.images
            ],
        }

    def to_csv(self) -> str:
        """For ``--csv``: a row for each codec and image, the machine repeated in each."""
        machine = {f"machine.{key}": value for key, value in _flat(self.machine).items()}
        rows = [
            {"dataset": self.dataset, "codec": codec.name}
            | asdict(image)
            | {"bits_per_dim": image.bits_per_dim, "peak_megabytes": codec.peak_megabytes}
            | machine
            for codec in self.codecs
            for image in codec.images
        ]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def _bits(size: int | None) -> float | None:
    return None if size is None else 8.0 * size


def _sum(values: Sequence[float | None]) -> float | None:
    """Their sum, if all are known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} as {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
