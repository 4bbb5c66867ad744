"""What a small image costs under the papers' networks: ``python -m pixelzip.bench.programs``.

Of each network of docs/papers.md, with the weights that training starts with and frozen to 16 bits,
the milliseconds of processor time that one image takes to encode and to decode, alone and in one
thread. What the weights are makes no difference to that.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pixelzip.bench.tables import Table
from pixelzip.codec import tiles
from pixelzip.models.freezing.freeze import freeze_program
from pixelzip.models.networks import architectures
from pixelzip.models.programs import integers

ROUNDS = 5
_BINARY = {"output": "binary", "colours": "1"}
_DIGITS = {**_BINARY, "channels": "16", "top": "32"}
NETWORKS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("PixelCNN", "pixelcnn", {}),
    ("Row LSTM", "row-lstm", {}),
    ("Diagonal BiLSTM", "diagonal-bilstm", {"layers": "3"}),
    ("Multi-Scale PixelRNN", "multi-scale", {"layers": "2"}),
    ("Gated PixelCNN", "gated-pixelcnn", {}),
    ("PixelCNN++", "pixelcnn++", {}),
    ("Row LSTM, 1 layer", "row-lstm", {"layers": "1"}),
    ("Row LSTM, 6 layers", "row-lstm", {"layers": "6"}),
    ("PixelCNN++, class-conditional", "pixelcnn++", {"classes": "2"}),
    ("PixelCNN++, 256-way softmax", "pixelcnn++", {"output": "softmax"}),
    ("small PixelCNN++, 11x5, plain", "small-pixelcnn++", {}),
    ("small PixelCNN++, 11x5, NIN", "small-pixelcnn++", {"variant": "nin"}),
    (
        "small PixelCNN++, 11x5, autoregressive channels",
        "small-pixelcnn++",
        {"variant": "autoregressive"},
    ),
    ("small PixelCNN++, 15x8, plain", "small-pixelcnn++", {"size": "15x8"}),
    ("MNIST: PixelCNN", "pixelcnn", _DIGITS),
    ("MNIST: Row LSTM", "row-lstm", _DIGITS),
    ("MNIST: Diagonal BiLSTM", "diagonal-bilstm", {**_DIGITS, "layers": "3"}),
    ("MNIST: PixelCNN++", "pixelcnn++", _BINARY),
)


def main() -> None:
    """Print the table."""
    lines = [measured(*network) for network in NETWORKS]
    head = ("processor time of an image, ms", "encode", "decode")
    print(Table("", head, tuple(lines)).markdown())


def measured(name: str, architecture_name: str, settings: dict[str, str]) -> tuple[str, ...]:
    """A line of the table."""
    architecture = architectures.find(architecture_name)
    config = architecture.configure(settings)
    torch.manual_seed(0)
    images = _images(settings)
    network = architecture.build(config).eval()
    parts = freeze_program(network, config.field.lag, torch.from_numpy(images), 16)
    made, image = integers.make(name, parts), images[0]
    payloads = tiles.encode_tiles(made, [image], label=0 if made.classes else None)

    def encode() -> list[bytes]:
        return tiles.encode_tiles(made, [image])

    def decode() -> list[NDArray[np.uint8]]:
        return tiles.decode_tiles(made, payloads, [image.shape[:2]], image.shape[2])

    assert np.array_equal(decode()[0], image)
    return name, f"{_milliseconds(encode):.1f}", f"{_milliseconds(decode):.1f}"


def _images(settings: dict[str, str]) -> NDArray[np.uint8]:
    """Four of CIFAR-10's size or, binary ones, of MNIST's, smooth but for a little noise."""
    side, colours = (28, 1) if "colours" in settings else (32, 3)
    drawn = np.random.default_rng(0).integers(-9, 10, (4, side, side, colours))
    images: NDArray[np.uint8] = np.clip(drawn.cumsum(2) + 128, 0, 255).astype(np.uint8)
    return np.where(images > 128, 255, 0).astype(np.uint8) if "colours" in settings else images


def _milliseconds(work: Callable[[], object]) -> float:
    """Of processor time, the best of some rounds."""
    found = []
    for _ in range(ROUNDS):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return 1000 * min(found)


if __name__ == "__main__":
    main()
