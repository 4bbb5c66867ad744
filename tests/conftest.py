"""What all tests share: real photographs, and how hypothesis runs on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray
from PIL import Image

from pixelzip.codec import native

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "tests" / "images"

# Compiling and loading happen in the first example, and say nothing about the others.
settings.register_profile(
    "pixelzip", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("pixelzip")


@pytest.fixture(scope="session")
def photo_path() -> Path:
    """A whole photograph as PNG, 768x512, RGB."""
    return ROOT / "examples" / "parrots.png"


@pytest.fixture(scope="session")
def crop_paths() -> list[Path]:
    """Small crops of photographs as PNG, RGB, 32x32 to 96x64; see tests/images/README.md."""
    return sorted(IMAGES.glob("*.png"))


@pytest.fixture(scope="session")
def crops(crop_paths: list[Path]) -> dict[str, NDArray[np.uint8]]:
    """The pixels of those crops by name ("parrot-32x32"): (height, width, 3) uint8, read-only."""
    pixels = {}
    for path in crop_paths:
        with Image.open(path) as image:
            pixels[path.stem] = np.asarray(image)
        pixels[path.stem].flags.writeable = False
    return pixels


@pytest.fixture(scope="module", params=["compiled", "loops"])
def coding(request: pytest.FixtureRequest) -> Iterator[str]:
    """Which of its two implementations the codec takes: C, or the loops that take its place."""
    assert native.coding() is not None
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "loops":
            patch.setattr(native, "coding", lambda: None)
        yield request.param
