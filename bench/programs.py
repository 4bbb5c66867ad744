"""What a small image costs under the papers' networks: ``python -m pixelzip.bench.programs``.

Of each architecture, with weights as training starts with and frozen to 16 bits, the milliseconds
of processor time that one 32x32 image takes to encode and to decode, alone and in one thread, and
what its products alone would take: those of all pixels, one row after the other.
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

SIDE = 32
SETTINGS: dict[str, dict[str, str]] = {
    "diagonal-bilstm": {"layers": "3"},
    "multi-scale": {"layers": "2"},
}
"""As docs/papers.md has them, where that is not by default."""


def main() -> None:
    """Print the table."""
    lines = [_measured(name) for name in architectures.NAMES if _is_program(name)]
    head = ("network", "parameters", "encode, ms", "decode, ms", "decode, us/pixel")
    print(Table("", head, tuple(lines)).markdown())


def _is_program(name: str) -> bool:
    return architectures.find(name).build.__name__ != "Photo"


def _measured(name: str) -> tuple[str, ...]:
    architecture = architectures.find(name)
    config = architecture.configure(SETTINGS.get(name, {}))
    torch.manual_seed(0)
    drawn = np.random.default_rng(0).integers(-9, 10, (4, SIDE, SIDE, 3))
    images = np.clip(drawn.cumsum(2) + 128, 0, 255).astype(np.uint8)
    network = architecture.build(config).eval()
    parts = freeze_program(network, config.field.lag, torch.from_numpy(images), 16)
    made, image = integers.make(name, parts), images[0]
    payloads = tiles.encode_tiles(made, [image])

    def decode() -> list[NDArray[np.uint8]]:
        return tiles.decode_tiles(made, payloads, [(SIDE, SIDE)], 3)

    assert np.array_equal(decode()[0], image)
    encoding = _milliseconds(lambda: tiles.encode_tiles(made, [image]))
    decoding = _milliseconds(decode)
    return (
        name,
        f"{architecture.parameters(config):,}",
        f"{encoding:.1f}",
        f"{decoding:.1f}",
        f"{1000 * decoding / SIDE**2:.1f}",
    )


def _milliseconds(work: Callable[[], object], rounds: int = 5) -> float:
    """Of processor time, the best of some rounds."""
    found = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return 1000 * min(found)


if __name__ == "__main__":
    main()
