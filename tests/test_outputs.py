"""The outputs: their probabilities sum to one, and say what the papers' equations say."""

from __future__ import annotations

from typing import Any

import architectures as tiny
import pytest
import torch
from torch import Tensor

from pixelzip.models.networks import architectures, mixture, outputs

SIZE = (6, 5)


def conditionals(name: str) -> tuple[Any, Tensor, Tensor]:
    """A network, an image, and each sub-pixel's log-probabilities (1, H, W, C, V)."""
    network: Any = tiny.make(name)
    pixels = tiny.random_pixels(name, 1, *SIZE)
    with torch.no_grad():
        found = tiny.evaluate(network, network.log_probabilities, pixels.double())
    return network, pixels, found


@pytest.mark.parametrize("name", [n for n in tiny.SETTINGS if "continuous" not in n])
def test_every_conditional_sums_to_one(name: str) -> None:
    network, pixels, found = conditionals(name)
    settings: Any = tiny.config(name)
    values = network.output.values
    assert len(values) == (2 if settings.output == "binary" else 256)
    assert found.shape == (1, *SIZE, settings.colours, len(values))
    sums = found.exp().sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    # The likelihood of an image is made of them.
    at = torch.searchsorted(values, pixels.long())
    expected = found.gather(4, at.unsqueeze(4)).squeeze(4)
    with torch.no_grad():
        likelihoods = tiny.evaluate(network, network, pixels.double())
    torch.testing.assert_close(likelihoods, expected)
    # In single precision, from bytes, as it is trained.
    single = network.float()
    with torch.no_grad():
        likelihoods = tiny.evaluate(single, single, pixels)
    assert likelihoods.dtype == torch.float32
    assert likelihoods.shape == pixels.shape
    torch.testing.assert_close(likelihoods, expected.float(), rtol=1e-3, atol=1e-3)


def test_the_shared_indicator() -> None:
    """All sub-pixels of a pixel come from one component: equations 1 to 3, spelt out."""
    output = outputs.Mixture(3, 2)
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(1, output.parameters_per_pixel, 1, 1, generator=generator).double()
    assert parameters.numel() == 20
    parameters.view(10, 2)[4:7].abs_().neg_()  # log-scales, below the largest
    logits, *others = parameters.view(10, 2)
    means, log_scales, coefficients = others[:3], others[3:6], [c.tanh() for c in others[6:]]
    r, g, b = 30, 250, 0
    x = [(value - 128) / 128 for value in (r, g, b)]
    centre = [
        means[0],
        means[1] + coefficients[0] * x[0],
        means[2] + coefficients[1] * x[0] + coefficients[2] * x[1],
    ]
    joint = logits.softmax(0)
    expected = []
    for value, mean, log_scale in zip((r, g, b), centre, log_scales, strict=True):
        scale = 128 * log_scale.exp()
        upper = ((value + 0.5 - 128 - 128 * mean) / scale).sigmoid() if value < 255 else 1
        lower = ((value - 0.5 - 128 - 128 * mean) / scale).sigmoid() if value > 0 else 0
        before, joint = joint.sum(), joint * (upper - lower)
        expected.append((joint.sum() / before).log())
    pixels = torch.tensor([r, g, b], dtype=torch.float64).view(1, 1, 1, 3)
    found = output.log_likelihoods(parameters, pixels)
    torch.testing.assert_close(found.flatten(), torch.stack(expected))


def test_green_and_blue_are_coupled() -> None:
    """A softmax for whole pixels: 1536 numbers, linear in the earlier values (3.4.1)."""
    output = outputs.Softmax(3, coupled=True)
    assert output.parameters_per_pixel == 1536
    parameters = torch.randn(1, 1536, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    maps = parameters.view(6, 256)
    pixels = torch.tensor([0, 192, 7], dtype=torch.float64).view(1, 1, 1, 3)
    logits = torch.stack([maps[0], maps[1] - maps[3], maps[2] - maps[4] + 0.5 * maps[5]])
    found = output.log_probabilities(parameters, pixels)
    torch.testing.assert_close(found.view(3, 256), logits.log_softmax(1))


def test_a_density_is_a_lower_bound() -> None:
    """The dequantised mixture integrates to one, and its mean over the noise bounds log p."""
    output = outputs.Continuous(1, 2)
    parameters = torch.tensor([0.3, -0.2, 0.1, -0.4, -3.0, -2.0]).view(1, 6, 1, 1).double()
    _, means, log_scales = output.logistics(parameters, torch.zeros(1, 1, 1, 1).double())
    grid = torch.linspace(-3000, 3000, 600_001, dtype=torch.float64)
    density = output.component(grid[:, None], means.view(2), log_scales.view(2)).exp()
    torch.testing.assert_close(density.sum(0) * 0.01, torch.ones(2, dtype=torch.float64))
    torch.manual_seed(0)
    pixels = torch.full((1, 200, 100, 1), 120.0, dtype=torch.float64)
    found = output.log_likelihoods(parameters.expand(1, 6, 200, 100), pixels)
    assert found.std() > 0  # the noise is there
    exact = outputs.Mixture(1, 2).log_likelihoods(parameters, pixels[:, :1, :1])
    assert exact.item() - 0.01 < found.mean() <= exact.item() + 0.001


def test_logistics_without_overflow() -> None:
    """Far from every mean a likelihood is small, and its gradient finite."""
    means = torch.full((256, 2), 3.0, requires_grad=True)
    log_scales = torch.full((256, 2), -9.0, requires_grad=True)
    value = torch.arange(256.0)[:, None]
    found = mixture.component_log_likelihood(value, means, log_scales)
    assert found.isfinite().all()
    found.sum().backward()
    assert means.grad is not None
    assert means.grad.isfinite().all()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("pixelcnn", {"output": "mixture"}),
        ("pixelcnn", {"output": "binary"}),
        ("pixelcnn++", {"output": "binary"}),
        ("pixelcnn++", {"output": "softmin"}),
        ("small-pixelcnn++", {"size": "3x3"}),
        ("small-pixelcnn++", {"variant": "fancy"}),
        ("small-pixelcnn++", {"variant": "autoregressive", "channels": 30}),
        ("small-pixelcnn++", {"dropout": 1.0}),
        ("pixelcnn++", {"dropout": -0.1}),
        ("multi-scale", {"factor": 3}),
        ("photo", {"blocks": "MX"}),
    ],
)
def test_what_cannot_be_built(name: str, settings: dict[str, Any]) -> None:
    architecture = architectures.find(name)
    with pytest.raises(ValueError, match=str(next(iter(settings.values())))):
        architecture.build(architecture.config(**settings))
