"""The integer glue in plain torch: the twins of `pixelzip.models.kernels`, for any device.

Every function takes and returns what its namesake there does, as tensors. Each line is one exact
operation; nothing here may be fused by a compiler.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pixelzip.models.kernels import LIMIT


def positions(
    base: Tensor,
    row: Tensor,
    column: Tensor,
    height: Tensor,
    width: Tensor,
    pitch: Tensor,
    mask: int,
    offsets: Tensor,
) -> Tensor:
    r = row[:, None] + offsets[:, 0]
    c = column[:, None] + offsets[:, 1]
    inside = (r >= 0) & (r < height[:, None]) & (c >= 0) & (c < width[:, None])
    return torch.where(inside, base[:, None] + r * pitch[:, None] + (c & mask), 0)


def gather(store: Tensor, at: Tensor) -> Tensor:
    return store[at.long()].flatten(1)


def scatter(store: Tensor, at: Tensor, values: Tensor) -> None:
    store[at.long()] = values


def first(
    product: Tensor, bias: Tensor, scale: Tensor, table: Tensor, predictor_bias: Tensor, shift: int
) -> tuple[Tensor, Tensor]:
    half = product.shape[1] // 2
    total = 256 * product[:, :half] + product[:, half:]
    channels, reach = len(bias), (len(table) - 1) // 2
    x = _scaled(total[:, :channels], bias, scale).clamp(-reach, reach)
    predicted = total[:, channels : channels + 3] + predictor_bias
    return table[x.long() + reach], (predicted + (1 << (shift - 1))) >> shift


def _scaled(product: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
    return torch.round((product + bias).to(torch.float32) * scale)


def rescale(product: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
    return _scaled(product[:, : len(bias)], bias, scale).clamp(-LIMIT, LIMIT).to(torch.int32)


def add(stream: Tensor, product: Tensor, bias: Tensor, scale: Tensor) -> None:
    stream += rescale(product, bias, scale)


def activate(x: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
    return _scaled(x, bias, scale).clamp(0, 127).to(torch.int8)


def spell(residual: Tensor, bins: Tensor, code: Tensor, hidden: Tensor) -> None:
    size = (residual.abs() >> 4).clamp(max=len(bins) - 1)
    index = bins[size.long()].to(torch.int32) * torch.sign(residual)
    hidden += code[(len(code) // 2 + index).long()]


def columns(x: Tensor, first: int, last: int) -> Tensor:
    return x[:, first:last].clone()


def mixture(
    product: Tensor,
    bias: Tensor,
    scale: Tensor,
    components: int,
    bits: int,
    contrast: Tensor,
    predicted: Tensor,
    residuals: Tensor,
) -> tuple[Tensor, Tensor]:
    k, j = components, contrast.shape[1]
    value = rescale(product, bias, scale)
    total = (value[:, 3 * k : 3 * k + j].long() * contrast).sum(1)
    total += (value[:, 3 * k + j :].long() * residuals).sum(1)
    middle = predicted + ((total + (1 << (bits - 1))) >> bits)
    centre = middle.clamp(-LIMIT, LIMIT).to(torch.int32)
    parameters = value[:, : 3 * k].view(-1, 3, k).clone()
    parameters[:, 1] += centre[:, None]
    return parameters, centre


def contrasts(store: Tensor, at: Tensor, predicted: Tensor, shift: int) -> Tensor:
    near = store[at.long()][..., :3].to(torch.int32) << shift  # (n, J, 3)
    return (near - predicted[:, None]).flatten(1)
