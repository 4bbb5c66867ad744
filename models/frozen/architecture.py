"""What networks of ``photo``'s kind look like: sizes, and which pixels they see.

Shared by the float network (`pixelzip.models.networks.photo`) and its frozen form.
"""

from __future__ import annotations

from dataclasses import dataclass

from pixelzip.models.networks.field import Field

LAG = 2
ROWS_ABOVE, COLUMNS_LEFT, COLUMNS_RIGHT = 3, 6, 4
WINDOW = tuple(
    (row, column)
    for row, first, last in ((-3, -4, 4), (-2, -5, 3), (-1, -5, 1), (0, -6, -1))
    for column in range(first, last + 1)
)
"""(row, column) offsets that the first layer sees. A row j above reaches at most 2 j - 1 right."""

NEIGHBOURS = (
    (0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0),
    (-2, 1), (-2, -1), (-1, -2), (-2, 2), (0, -3), (-3, 0),
    (-2, -2), (-1, -3), (0, -4), (-3, 1), (-3, -1), (-2, 3),
    (-3, 2), (-2, -3), (-3, -2), (-1, -4), (-3, 3), (0, -5),
)  # fmt: skip
"""The pixels that the adaptive filter may weigh, a part of the window: as many of the first ones as
the configuration says."""

LOOK = tuple((row, column) for row in range(-2, 3) for column in range(-2, 3))
"""(row, column) offsets at which the first layer sees the given samples."""
LOOK_NEAR = tuple(offset for offset in LOOK if offset != (0, 0) and max(map(abs, offset)) == 1)
"""Those whose given samples the head weighs."""
GIVEN = 5
"""Given samples at a pixel: four of the luma that lie over it, one of the first chroma plane."""
ENTRY = GIVEN + 2
"""What the first layer sees at each of `LOOK`: the four, `INSIDE`, the chroma's, `INSIDE`."""

MIDDLE = 128  # pixels enter the network less this, to fit a signed byte
INSIDE = 64  # last input channel: this inside the tile, 0 outside


@dataclass(frozen=True)
class PhotoConfig:
    """Hyper-parameters of ``photo``."""

    channels: int = 128
    blocks: str = "MNMNMNMN"  # M: masked 2x3 convolution, then 1x1; N: two 1x1 layers
    head: int = 64  # hidden units of each sub-pixel's head
    components: int = 5  # logistics in each mixture
    colours: int = 3  # sub-pixels of a pixel
    near: int = 12  # neighbours that the head's filter weighs
    given: int = 0  # samples of earlier planes at each pixel: none, or GIVEN

    def __post_init__(self) -> None:
        if self.colours not in (1, 3) or self.near not in (12, 24) or self.given not in (0, GIVEN):
            raise ValueError(f"colours are 1 or 3, near 12 or 24, given 0 or {GIVEN}")
        if self.given and self.colours != 1:
            raise ValueError("only a network of one plane is given others")
        if not set(self.blocks) <= {"M", "N"}:
            raise ValueError(f"blocks are the letters M and N, not {self.blocks}")

    @property
    def field(self) -> Field:
        masked = self.blocks.count("M")
        above, left, right = (side + masked for side in (ROWS_ABOVE, COLUMNS_LEFT, COLUMNS_RIGHT))
        return Field(above, left, right, LAG)


def head_sizes(config: PhotoConfig, c: int) -> tuple[int, int, int, int]:
    """Outputs of sub-pixel ``c``'s head: mixture, weights of pixels, given samples, residuals."""
    looked = 2 * len(LOOK_NEAR) if config.given else 0
    return 3 * config.components, config.near * config.colours, looked, c


def shared_factors(config: PhotoConfig) -> int:
    """How many factors the sub-pixels of a pixel share: the contrasts that heads weigh."""
    return sum(head_sizes(config, 0)[1:])
