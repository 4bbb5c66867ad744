"""A backend in plain torch, for any device: the twin of `pixelzip.models.frozen.kernels`.

Every function takes and returns what its namesake there does, as tensors. Each line is one exact
operation; nothing here may be fused by a compiler. Products are carried by whichever number format
proves to be exact and fast (`pixelzip.models.gpu.carriers`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pixelzip.models.frozen.shell import LIMIT
from pixelzip.models.gpu import carriers


class Twins:
    """The functions, of tensors on a device. ``carrier``: see `pixelzip.models.gpu.carriers`."""

    def __init__(self, device: str = "cpu", carrier: str | None = None) -> None:
        self.device, self.carrier = carriers.device_of(device), carrier or carriers.asked_for()

    def begin(self) -> None:
        if self.device.type == "cpu":
            # Threads share out tiles; inside one, a second level only gets in the way.
            torch.set_num_threads(1)

    def array(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)

    def numbers(self, array: Tensor) -> NDArray[Any]:
        found: NDArray[Any] = array.cpu().numpy()
        return found

    def product(self, weight: NDArray[np.int8], largest: int) -> Callable[[Tensor], Tensor]:
        return carriers.product(torch.from_numpy(weight), largest, self.carrier, self.device)

    def positions(
        self,
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

    def gather(self, store: Tensor, at: Tensor) -> Tensor:
        return store[at.long()].flatten(1)

    def scatter(self, store: Tensor, at: Tensor, values: Tensor) -> None:
        store[at.long()] = values

    def first(
        self,
        product: Tensor,
        bias: Tensor,
        scale: Tensor,
        table: Tensor,
        predictor_bias: Tensor,
        shift: int,
    ) -> tuple[Tensor, Tensor]:
        half = product.shape[1] // 2
        total = 256 * product[:, :half] + product[:, half:]
        channels, reach = len(bias), (len(table) - 1) // 2
        x = _scaled(total[:, :channels], bias, scale).clamp(-reach, reach)
        predicted = total[:, channels:] + predictor_bias
        return table[x.long() + reach], (predicted + (1 << (shift - 1))) >> shift

    def rescale(self, product: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
        return _scaled(product[:, : len(bias)], bias, scale).clamp(-LIMIT, LIMIT).to(torch.int32)

    def add(self, stream: Tensor, product: Tensor, bias: Tensor, scale: Tensor) -> None:
        stream += self.rescale(product, bias, scale)

    def activate(self, x: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
        return _scaled(x, bias, scale).clamp(0, 127).to(torch.int8)

    def spell(self, residual: Tensor, bins: Tensor, code: Tensor, hidden: Tensor) -> None:
        size = (residual.abs() >> 4).clamp(max=len(bins) - 1)
        index = bins[size.long()].to(torch.int32) * torch.sign(residual)
        hidden += code[(len(code) // 2 + index).long()]

    def side_by_side(self, one: Tensor, other: Tensor) -> Tensor:
        return torch.cat([one, other], 1)

    def columns(self, x: Tensor, first: int, last: int) -> Tensor:
        return x[:, first:last].clone()

    def mixture(
        self,
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
        value = self.rescale(product, bias, scale)
        total = (value[:, 3 * k : 3 * k + j].long() * contrast).sum(1)
        total += (value[:, 3 * k + j :].long() * residuals).sum(1)
        middle = predicted + ((total + (1 << (bits - 1))) >> bits)
        centre = middle.clamp(-LIMIT, LIMIT).to(torch.int32)
        parameters = value[:, : 3 * k].view(-1, 3, k).clone()
        parameters[:, 1] += centre[:, None]
        return parameters, centre

    def contrasts(self, store: Tensor, at: Tensor, predicted: Tensor, shift: int) -> Tensor:
        colours = predicted.shape[1]
        near = store[at.long()][..., :colours].to(torch.int32) << shift  # (n, J, S)
        return (near - predicted[:, None]).flatten(1)

    def look_contrasts(self, store: Tensor, at: Tensor, here: Tensor) -> Tensor:
        there, own = store[at.long()].to(torch.int32), store[here.long()].to(torch.int32)[:, None]
        luma = 64 * (there[..., :4] - own[..., :4]).sum(2)
        chroma = 256 * (there[..., 5] - own[..., 5])
        return torch.stack([luma.to(torch.int32), chroma], 2).flatten(1)


def _scaled(product: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
    return torch.round((product + bias).to(torch.float32) * scale)
