"""The discretized logistic mixture in floats: the training loss (PixelCNN++, section 2.1)."""

from __future__ import annotations

import torch
from torch import Tensor

LOG_SCALE_MIN = -4.0  # nats; a logistic of scale e^-4 pixel puts all its mass on one value
LOG_SCALE_MAX = 5.0


def _log_sigmoid(x: Tensor) -> Tensor:
    # Spelt out, since a compiler vectorises exp and log but not log1p.
    return torch.clamp(x, max=0) - torch.log(1 + torch.exp(-torch.abs(x)))


def _log_sum_exp(x: Tensor) -> Tensor:
    top = x.amax(-1, keepdim=True)
    return torch.log(torch.exp(x - top).sum(-1)) + top.squeeze(-1)


def component_log_likelihood(value: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """Log-probability in nats of integer values 0..255 under each discretized logistic.

    ``value`` (..., 1), as a float; ``means`` (in pixel values) and ``log_scales`` (natural, of
    pixel values) are (..., K), and so is the result. The lowest value owns everything below it and
    the highest everything above, as in equation 2 of the paper.
    """
    inverse = torch.exp(-log_scales.clamp(LOG_SCALE_MIN, LOG_SCALE_MAX))
    distance = value - means
    upper = (distance + 0.5) * inverse
    lower = (distance - 0.5) * inverse
    # log(sigmoid(upper) - sigmoid(lower)), in a form that keeps its precision in both tails.
    first = _log_sigmoid(upper)
    last = _log_sigmoid(-lower)
    inside = first + last + torch.log(1 - torch.exp(-inverse))
    return torch.where(value < 0.5, first, torch.where(value > 254.5, last, inside))


def log_likelihood(value: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """Log-probability in nats of integer values 0..255 under a mixture of discretized logistics.

    ``value`` (...), as a float; ``logits``, ``means`` and ``log_scales`` (..., K), the latter two
    as for `component_log_likelihood`.
    """
    component = component_log_likelihood(value.unsqueeze(-1), means, log_scales)
    mixed = _log_sum_exp(component + logits) - _log_sum_exp(logits)
    # The coder gives every nibble at least 2^-24; the loss knows a similar floor.
    return torch.log(torch.exp(mixed) + 2.0**-20)
