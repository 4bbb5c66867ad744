"""A frozen network as the codec sees it, whatever computes it.

Backends are subclasses of `Frozen`. All of them give the same integers for the same pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.conditional import Given, Shape, Stepper, lagged
from pixelzip.models.frozen.architecture import LAG, PhotoConfig, shared_factors
from pixelzip.models.frozen.file import check, fingerprint
from pixelzip.models.frozen.shell import Tensors

BAND = 4096
"""A parallel pass gives the parameters of about so many pixels at once."""


class Frozen(ABC):
    """A frozen network: a `pixelzip.codec.conditional.Conditional`.

    ``sound`` is the fingerprint of integers that `pixelzip.models.frozen.file.read` has looked at;
    others are looked at here.
    """

    classes = 0

    def __init__(
        self, name: str, tensors: Tensors, config: PhotoConfig, sound: bytes | None = None
    ) -> None:
        if sound is None:
            check(tensors, config)
            sound = fingerprint(tensors, config)
        self.name, self.config, self.fingerprint = name, config, sound

    @property
    def given(self) -> int:
        """See `pixelzip.codec.conditional.Conditional.given`."""
        return self.config.given

    def codes(self, channels: int) -> bool:
        """See `pixelzip.codec.conditional.Conditional.codes`."""
        return channels in (1, self.config.colours)

    def steps(self, shape: Shape) -> NDArray[np.int32]:
        """See `pixelzip.codec.conditional.Conditional.steps`."""
        return lagged(shape, LAG)

    def shared(self) -> int:
        """See `pixelzip.codec.conditional.Factored.shared`."""
        return shared_factors(self.config)

    @abstractmethod
    def parallel(
        self, pixels: NDArray[np.uint8], label: int = 0, given: Given | None = None
    ) -> Iterator[NDArray[np.int32]]:
        """See `pixelzip.codec.conditional.Conditional.parallel`."""

    @abstractmethod
    def stepwise(
        self,
        shapes: Sequence[Shape],
        channels: int,
        labels: Sequence[int],
        given: Sequence[Given] | None = None,
    ) -> Stepper:
        """See `pixelzip.codec.conditional.Conditional.stepwise`."""

    def check_given(self, shape: Shape, given: Given | None) -> None:
        """ValueError unless a tile is given what the network wants to know."""
        wanted = given is not None if self.given else given is None
        if not wanted:
            raise ValueError(f"the network {self.name} wants {self.given} given samples at a pixel")
        if given is not None and (given.shape[:2] != shape or given.shape[2] not in (4, 5)):
            raise ValueError(f"given samples of shape {given.shape} do not fit a tile of {shape}")
