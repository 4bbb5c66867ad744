"""What each network's conditionals depend on: by gradient, and by changing sub-pixels.

Nothing may depend on its own value or a later one. All that is earlier and inside the field that
the network declares does matter, nothing outside of it does; and the lag is as declared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import architectures as tiny
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelzip.models.networks.field import Field

IMAGES = 3  # so that a rectifier that is off in one of them is on in another
NOISE = 1e-12  # differences that double precision makes of nothing
Influence = NDArray[np.bool_]
"""(H, W, C, queries, C): whether a sub-pixel changes a conditional of one of some pixels."""


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Case:
    """A network, an image size that its field fits in, and the pixels to ask about."""

    network: nn.Module
    field: Field
    pixels: Tensor  # (IMAGES, H, W, C)
    queries: NDArray[np.intp]  # (queries, 2) rows and columns


@pytest.fixture(params=tiny.SETTINGS)
def case(request: pytest.FixtureRequest) -> Case:
    name: str = request.param
    field = tiny.config(name).field
    side = 6 if field.lag is None and not name.startswith("pixelcnn++") else 8
    height = side if field.above is None else field.above + 2
    width = side if field.left is None or field.right is None else field.left + field.right + 3
    pixels = tiny.random_pixels(name, IMAGES, height, width)
    queries = np.argwhere(np.ones((height, width), bool))
    if not name.startswith("pixelcnn++"):  # where each may see something else
        within = width // 2 if field.left is None else field.left + 1
        corners = [(0, 0), (0, width - 1), (height - 1, 0), (height - 1, width - 1)]
        some = queries[:: len(queries) // 8]
        queries = np.concatenate([some, corners, [(height - 1, within)]])
    return Case(tiny.make(name), field, pixels, queries)


def log_probabilities(case: Case, pixels: Tensor) -> Tensor:
    """(B, queries, C, V)"""
    rows, columns = torch.from_numpy(case.queries).T
    method: Any = case.network.log_probabilities
    return tiny.evaluate(case.network, method, pixels)[:, rows, columns]


def by_gradient(case: Case) -> Influence:
    pixels = case.pixels.double().requires_grad_()
    found = log_probabilities(case, pixels)
    weights = torch.randn(found.shape[-1], generator=torch.Generator().manual_seed(1))
    # Images do not depend on each other: one gradient of a sum tells of all of them.
    sums = (found * weights.double()).sum((0, 3)).flatten()
    parts = [
        torch.autograd.grad(sums, pixels, chosen, retain_graph=True, is_grads_batched=True)[0]
        for chosen in torch.eye(len(sums), dtype=torch.float64).split(32)
    ]
    gradients = torch.cat(parts).abs().amax(1)  # (queries * C, H, W, C)
    colours = gradients.shape[-1]
    return (gradients.unflatten(0, (-1, colours)) != 0).permute(2, 3, 4, 0, 1).numpy()


@torch.no_grad()
def by_perturbation(case: Case) -> Influence:
    size = case.pixels[0].numel()
    ever = []
    for pixels in case.pixels:
        image = pixels.flatten()
        expected = log_probabilities(case, pixels[None].double())[0]
        differs = []
        for chosen in torch.arange(size).split(32):
            changed = image.repeat(len(chosen), 1)
            changed[torch.arange(len(chosen)), chosen] ^= 255
            found = log_probabilities(case, changed.unflatten(1, pixels.shape).double())
            differs.append(((found - expected).abs() > NOISE).any(-1))
        ever.append(torch.cat(differs))
    together = torch.stack(ever).any(0)  # (H * W * C, queries, C)
    return together.unflatten(0, case.pixels.shape[1:]).numpy()


def coding_order(name: str, height: int, width: int) -> NDArray[np.intp]:
    """(H, W) the step in which each pixel is coded."""
    order = np.arange(height * width).reshape(height, width)
    if name.startswith("multi-scale"):
        factor: int = vars(tiny.config(name))["factor"]
        order[::factor, ::factor] -= height * width
    return order


@pytest.mark.parametrize("influence", [by_gradient, by_perturbation])
def test_causality(case: Case, influence: Any, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["case"]
    found = influence(case)
    height, width, colours = found.shape[:3]
    order = coding_order(name, height, width)
    earlier = np.triu(np.ones((colours, colours), bool), 1)
    rows, columns = np.mgrid[:height, :width]
    offsets = set()
    for q, (row, column) in enumerate(case.queries):
        matters = found[:, :, :, q]  # (H, W, C, C)
        # The pixel itself: earlier sub-pixels matter, no others.
        np.testing.assert_array_equal(matters[row, column], earlier)
        late = order > order[row, column]
        assert not matters[late].any(), (row, column)
        seen = np.vectorize(case.field.sees)(rows - row, columns - column)
        some = matters.any((2, 3))
        some[row, column] = False
        if not name.startswith("multi-scale"):  # which knows small pixels from below as well
            assert not (some & ~seen).any(), (row, column)
            if not name.startswith("pixelcnn++"):  # where it depends on the place in the grids
                assert matters[seen].all(), (row, column)
        offsets |= {(int(r - row), int(c - column)) for r, c in np.argwhere(some)}
    # Every offset that is declared matters to some pixel, and the field is no larger or smaller.
    inside = {
        (r, c)
        for r in range(-height + 1, 1)
        for c in range(-width + 1, width)
        if case.field.sees(r, c) and any(
            0 <= row + r < height and 0 <= column + c < width for row, column in case.queries
        )
    }  # fmt: skip
    before = {(r, c) for r, c in offsets if r < 0 or (r == 0 and c < 0)}
    assert before == inside
    above = max(-r for r, _ in before)
    left, right = max(-c for _, c in before), max(c for _, c in before)
    assert above == (height - 1 if case.field.above is None else case.field.above)
    assert left == (width - 1 if case.field.left is None else case.field.left)
    assert right == (width - 1 if case.field.right is None else case.field.right)
    # The lag: the least that lets a pixel at (r, c) see row r - j up to column c + lag * j - 1.
    lag = max(-(-(c + 1) // -r) for r, c in before if r < 0)
    assert lag == (width if case.field.lag is None else case.field.lag)


def test_fields_are_as_drawn() -> None:
    """The drawings in the docstring of `Field`."""
    drawn = {
        Field(2, 2, 2, lag=3): {-2: (-2, 2), -1: (-2, 2), 0: (-2, -1)},
        Field(3, 2, 3, lag=2, slope=1): {-3: (-2, 3), -2: (-2, 2), -1: (-2, 1), 0: (-2, -1)},
        Field(3, None, None, lag=2, slope=1, own=2): {
            -3: (-5, 3), -2: (-4, 2), -1: (-3, 1), 0: (-2, -1),
        },
    }  # fmt: skip
    for field, rows in drawn.items():
        for row in range(-5, 3):
            first, last = rows.get(row, (0, -1))
            seen = [column for column in range(-9, 10) if field.sees(row, column)]
            assert seen == list(range(first, last + 1)), (field, row)
    everything = Field(None, None, None, lag=None)
    assert everything.sees(-100, 1000)
    assert everything.sees(0, -1000)
    assert not everything.sees(0, 0)
    assert not everything.sees(0, 1)
    assert not everything.sees(1, -1)
