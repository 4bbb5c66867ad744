"""The plainest backend, for tests: docs/format.md line by line, in integers of 64 bits.

It evaluates all pixels of a tile at once, one shifted map after the other, and shares nothing with
the other backends but the file. Decoding it leaves to them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.conditional import Given
from pixelzip.models.frozen.architecture import LOOK, LOOK_NEAR, NEIGHBOURS, WINDOW
from pixelzip.models.frozen.network import Frozen

Map = NDArray[np.int64]
_TAPS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0))


def at(values: Map, offset: tuple[int, int]) -> Map:
    """(H, W, C): what lies at this offset (rows down, columns right) of each pixel, or zero."""
    height, width, _ = values.shape
    reach = max(map(abs, offset))
    around = np.pad(values, ((reach, reach), (reach, reach), (0, 0)))
    top, left = reach + offset[0], reach + offset[1]
    found: Map = around[top : top + height, left : left + width]
    return found


def seen(values: Map, offsets: Sequence[tuple[int, int]]) -> Map:
    """(H, W, offsets * C): what lies at each of the offsets, side by side."""
    return np.concatenate([at(values, offset) for offset in offsets], 2)


def scaled(total: Map, scale: NDArray[np.float32], lowest: int, highest: int) -> Map:
    """One conversion, one product, one rounding, each to nearest, ties to even; then clamped."""
    nearest = np.rint(total.astype(np.float32) * scale)
    found: Map = np.clip(nearest.astype(np.float64), lowest, highest).astype(np.int64)
    return found


def rescale(total: Map, scale: NDArray[np.float32]) -> Map:
    return scaled(total, scale, -(2**26), 2**26)


def activate(total: Map, scale: NDArray[np.float32]) -> Map:
    return scaled(total, scale, 0, 127)


class Reference(Frozen):
    """A frozen network that can only be read."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        tensors = arguments[1]
        scales = (np.float32,)
        self.tensors = {
            name: tensor if tensor.dtype in scales else tensor.astype(np.int64)
            for name, tensor in tensors.items()
        }

    def parallel(
        self, pixels: NDArray[np.uint8], label: int = 0, given: Given | None = None
    ) -> Iterator[NDArray[np.int32]]:
        """See `pixelzip.codec.conditional.Conditional.parallel`; all in one band."""
        self.check_given(pixels.shape[:2], given)
        height, width, channels = pixels.shape
        found = [*self.mixtures(pixels.astype(np.int64), given)]
        band = np.stack(found, 2).reshape(height * width, channels, 3, -1)
        yield band.astype(np.int32)

    def stepwise(self, *arguments: Any, **settings: Any) -> NoReturn:
        """There is none."""
        raise NotImplementedError("the reference does not decode")

    def mixtures(self, pixels: Map, given: Given | None) -> Iterator[Map]:
        """(H, W, 3 K) logits, means and log-scales, for one sub-pixel after the other."""
        t, s, k = self.tensors, self.config.colours, self.config.components
        shape = pixels.shape[:2]
        colour = (pixels if pixels.shape[2] == s else pixels.repeat(s, 2)) - 128
        inputs = np.concatenate([colour, np.full((*shape, 1), 64)], 2)
        window = seen(inputs, WINDOW)
        if given is not None:
            entries = self.entries(given)
            window = np.concatenate([window, seen(entries, LOOK)], 2)
        stream, predicted = self.trunk(window)
        x = activate(stream, t["trunk.input_scale"])
        hidden = rescale(x @ t["trunk.weight"] + t["trunk.bias"], t["trunk.scale"])
        contrasts = [
            256 * at(inputs, offset)[..., :s] - predicted
            for offset in NEIGHBOURS[: self.config.near]
        ]
        if given is not None:
            luma, chroma = 64 * entries[..., :4].sum(2, keepdims=True), 256 * entries[..., 5:6]
            both = np.concatenate([luma, chroma], 2)
            contrasts += [at(both, offset) - both for offset in LOOK_NEAR]
        contrast = np.concatenate(contrasts, 2)
        residuals: list[Map] = []
        for q in range(pixels.shape[2]):
            part = hidden[..., q * self.config.head : (q + 1) * self.config.head]
            for e, residual in enumerate(residuals):
                part = part + self.coded(q + e - 1, residual)
            x = activate(part, t[f"heads.{q}.input_scale"])
            total = x @ t[f"heads.{q}.weight"] + t[f"heads.{q}.bias"]
            o = rescale(total, t[f"heads.{q}.scale"])
            weighed = np.concatenate([contrast, *(r[..., None] for r in residuals)], 2)
            moved = ((o[..., 3 * k :] * weighed).sum(2) + 2048) >> 12
            centre = np.clip(predicted[..., q] + 128 * 256 + moved, -(2**26), 2**26)
            means = o[..., k : 2 * k] + centre[..., None]
            yield np.concatenate([o[..., :k], means, o[..., 2 * k : 3 * k]], 2)
            residuals.append(256 * pixels[..., q] - centre)

    def entries(self, given: Given) -> Map:
        """(H, W, 7): four samples of the luma and whether there are any, one of the chroma."""
        found = np.zeros((*given.shape[:2], 7), np.int64)
        found[..., :4], found[..., 4] = given[..., :4].astype(np.int64) - 128, 64
        if given.shape[2] == 5:
            found[..., 5], found[..., 6] = given[..., 4].astype(np.int64) - 128, 64
        return found

    def trunk(self, window: Map) -> tuple[Map, Map]:
        """The residual stream (H, W, C) and the predicted colours (H, W, S)."""
        t, c = self.tensors, self.config.channels
        y = window @ t["first.weight"]
        table = t["first.table"]
        r = len(table) // 2
        x = table[r + scaled(y[..., :c] + t["first.bias"], t["first.scale"], -r, r)]
        predicted = (y[..., c:] + t["first.predictor_bias"] + 16) >> 5
        stream = rescale(x @ t["stem.weight"] + t["stem.bias"], t["stem.scale"])
        for i, kind in enumerate(self.config.blocks):
            name = f"blocks.{i}"
            x = activate(stream, t[f"{name}.input_scale"])
            if kind == "M":
                x = seen(x, _TAPS)
            x = activate(x @ t[f"{name}.a.weight"] + t[f"{name}.a.bias"], t[f"{name}.a.scale"])
            total = x @ t[f"{name}.b.weight"] + t[f"{name}.b.bias"]
            stream = stream + rescale(total, t[f"{name}.b.scale"])
        return stream, predicted

    def coded(self, table: int, residual: Map) -> Map:
        """(H, W, head): what an earlier sub-pixel's residual adds."""
        bins, rows = self.tensors["code.bins"], self.tensors["code.rows"][table]
        size = np.minimum(abs(residual) >> 4, len(bins) - 1)
        index = np.where(residual < 0, -bins[size], bins[size])
        found: Map = rows[len(rows) // 2 + index]
        return found
