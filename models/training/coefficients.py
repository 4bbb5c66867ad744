"""Trains ``dct``, the network of JPEG coefficients.

    python -m pixelzip.models.training.coefficients photos/train --valid photos/valid -o runs/dct

It learns from JPEGs as they come, and from the same photographs shrunk and encoded anew as cameras
and programs do it. A checkpoint holds all that the next step depends on, so that a resumed run
takes the very same steps as one that was never interrupted. The learning rate falls to zero over
the last part of the steps: before it falls, their number may still be changed.
"""

from __future__ import annotations

import argparse
import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pixelzip.codec.errors import TrainingError
from pixelzip.codec.jpeg import parts
from pixelzip.codec.jpeg.headers import Frame
from pixelzip.models.networks.dct import (
    EARLIER_SIGNED,
    EARLIER_SIZES,
    PLANE,
    SIGNED,
    SIZES,
    STAGES,
    Dct,
    DctConfig,
    coefficient_cost,
    end_cost,
)
from pixelzip.models.training import photographs
from pixelzip.models.training.jpegs import LARGEST
from pixelzip.models.training.train import EMA_DECAY, has_bfloat16, save

SAMPLINGS = ("4:4:4", "4:2:2", "4:2:0", "4:2:0")
LEAST_QUALITY = 50
FACTORS = (1.4, 2.6)
"""By which pictures are shrunk before they are encoded, so that no trace of a JPEG is left."""
GREY_SHARE = 0.05
ANEW = 2
"""How often each picture is encoded anew."""
CAMERA_SHARE, ROBIDOUX_SHARE = 0.25, 0.25
VALIDATION_BLOCKS = 20_000
CLIP = 8.0
"""Of a gradient, in bits a block."""
WEIGHT_DECAY = 1e-4
WARM_UP = 200
FALL = 0.6
"""The last part of the steps, over which the rate falls."""

Integers = NDArray[np.int64]

_BASIS = np.array([[2896, 4017, 3784, 3406, 2896, 2276, 1567, 799]] * 2) * [[1] * 8, [1, -1] * 4]
"""What coefficients add to the first pixel, and to the last, in units of 2^-13."""
_ZIGZAG = np.array(
    [
        *(0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48),
        *(41, 34, 27, 20, 13, 6, 7, 14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23),
        *(30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63),
    ]
)
_ACROSS, _DOWN = _ZIGZAG & 7, _ZIGZAG >> 3
"""Frequencies of coefficients."""


def _edge(pixel: int) -> NDArray[np.float64]:
    """(64, 16): from coefficients to the spectra of a column, and of a row of a block's pixels."""
    found = np.zeros((64, 16))
    found[np.arange(64), _DOWN] = _BASIS[pixel][_ACROSS]
    found[np.arange(64), 8 + _ACROSS] = _BASIS[pixel][_DOWN]
    found[0] = 0
    return found


_NEAR, _FAR = _edge(0), _edge(1)
DEQUANTISED = 1 << 16


def logarithm(numbers: NDArray[Any]) -> NDArray[np.int32]:
    """16 times the binary logarithm of integers from 1 to 2^24, straight between powers of 2."""
    bits = numbers.astype(np.float32).view(np.int32)
    return np.asarray((bits >> 19) - (127 << 4), np.int32)


def squeezed(numbers: NDArray[Any]) -> NDArray[np.int8]:
    """Integers below 2^24 to -127..127, by the logarithm of what is above 4."""
    size = np.minimum(logarithm(np.abs(numbers) + 4) - 32, 127)
    return np.asarray(np.sign(numbers) * size, np.int8)


@dataclass(frozen=True)
class Neighbours:
    """Of each block, the numbers of others; -1 is none.

    ``around`` (N, 6): above, left, above left, above right, two above, two left. ``earlier``
    (N, 2, 3): of the first component and of the one before, the blocks at the same place, at the
    place of the block to the left, and at that of the block above.
    """

    around: NDArray[np.int32]
    earlier: NDArray[np.int32]


def neighbours(frame: Frame) -> Neighbours:
    around = np.full((frame.blocks, 6), -1, np.int32)
    earlier = np.full((frame.blocks, 2, 3), -1, np.int32)
    for number, one in enumerate(frame.components):
        row, column = np.mgrid[0 : one.rows, 0 : one.stride]
        own = one.first + row * one.stride + column
        here = slice(one.first, one.first + one.blocks)
        for slot, (up, left) in enumerate(((1, 0), (0, 1), (1, 1), (1, -1), (2, 0), (0, 2))):
            there = (row >= up) & (column >= left) & (column - left < one.stride)
            around[here, slot] = np.where(there, own - up * one.stride - left, -1).ravel()
        for slot, which in enumerate((0, number - 1)):
            if number <= slot:
                continue
            other = frame.components[which]
            for place, (up, left) in enumerate(((0, 0), (0, 1), (1, 0))):
                y, x = (row - up) * other.v // one.v, (column - left) * other.h // one.h
                found = other.first + y * other.stride + x
                there = (row >= up) & (column >= left)
                earlier[here, slot, place] = np.where(there, found, -1).ravel()
    return Neighbours(around, earlier)


@dataclass(frozen=True)
class Batch:
    """What `Dct` takes, and what it is to say: see there."""

    inputs: NDArray[np.int8]
    values: NDArray[np.int8]
    ends: NDArray[np.int64]
    edges: NDArray[np.int8]
    steps: NDArray[np.float32]
    targets: NDArray[np.float32]
    """Coefficients (N, 64) in steps, of the DC one how far it is from `guess`."""


class Coefficients:
    """The blocks of many JPEG files."""

    def __init__(self, found: Sequence[tuple[Frame, NDArray[np.int32], NDArray[np.int16]]]) -> None:
        around, earlier, tables, steps = [], [], [], []
        planes: list[tuple[int, bool, bool]] = []
        count = 0
        for frame, own, _ in found:
            near = neighbours(frame)
            around.append(np.where(near.around < 0, -1, near.around + count))
            earlier.append(np.where(near.earlier < 0, -1, near.earlier + count))
            most = max(c.h for c in frame.components), max(c.v for c in frame.components)
            for number, one in enumerate(frame.components):
                tables.append(np.full(one.blocks, len(planes), np.int32))
                planes.append((min(number, 2), one.h < most[0], one.v < most[1]))
            steps.append(own)
            count += frame.blocks
        self.count = count
        self.blocks = np.concatenate([*(b for _, _, b in found), np.zeros((1, 64), np.int16)])
        self.around, self.earlier = np.concatenate(around), np.concatenate(earlier)
        self.tables = np.concatenate([*tables, np.zeros(1, np.int32)])
        self.steps = np.concatenate(steps)
        self.planes = self._planes(planes)
        self._keep()

    def _planes(self, planes: Sequence[tuple[int, bool, bool]]) -> NDArray[np.int8]:
        out = np.zeros((len(planes), PLANE), np.int8)
        out[:, :64] = np.minimum(logarithm(self.steps) >> 1, 127)
        for row, (number, across, down) in zip(out, planes, strict=True):
            row[64 + number] = 64
            row[67:] = 64 * across, 64 * down
        return out

    def _keep(self) -> None:
        """What is kept of each block, and of one that there is not."""
        total = len(self.blocks)
        self.values = np.zeros((total, 64), np.int8)
        self.dc = np.zeros(total, np.int32)
        self.far = np.zeros((total, 16), np.int32)
        self.last = np.zeros(total, np.int8)
        self.counts = np.zeros(total, np.int8)
        for start in range(0, total, 1 << 14):
            part = slice(start, start + (1 << 14))
            sizes = self._sizes(np.arange(total)[part])
            self.values[part] = squeezed(sizes)
            self.dc[part] = sizes[:, 0]
            self.far[part] = (sizes @ _FAR).astype(np.int32)
            there = self.blocks[part, 1:] != 0
            self.counts[part] = there.sum(1)
            self.last[part] = np.where(there.any(1), 63 - there[:, ::-1].argmax(1), 0)
        self.values[:, 0] = 0

    def _sizes(self, chosen: NDArray[np.int64]) -> NDArray[np.int32]:
        """Coefficients times steps."""
        sizes = self.blocks[chosen].astype(np.int32) * self.steps[self.tables[chosen]]
        return np.asarray(np.clip(sizes, -DEQUANTISED, DEQUANTISED), np.int32)

    def batch(self, chosen: NDArray[np.int64]) -> Batch:
        """The blocks of these numbers."""
        around, earlier = self.around[chosen], self.earlier[chosen]
        near = self.values[around]  # (N, 6, 64)
        then = self.values[earlier[:, :, 0]]  # (N, 2, 64)
        size, then_size = np.abs(near), np.abs(then)
        far = self.far[around[:, :2]]
        spectra = np.concatenate([far[:, 1, :8], far[:, 0, 8:]], 1).astype(np.int64)
        inputs = np.concatenate(
            [
                *(size[:, i, 1 : 1 + n] for i, n in enumerate(SIZES)),
                *(near[:, i, 1 : 1 + SIGNED] for i in range(2)),
                squeezed(spectra >> 12),
                self._differences(around[:, [1, 0, 1, 3, 4, 5]], around[:, [0, 2, 2, 0, 0, 1]]),
                64 * (around >= 0),
                2 * self.last[around],
                2 * self.counts[around],
                *(then_size[:, i, 1 : 1 + n] for i, n in enumerate(EARLIER_SIZES)),
                *(then[:, i, 1 : 1 + n] for i, n in enumerate(EARLIER_SIGNED)),
                self._differences(
                    earlier[:, [0, 0, 1, 1], [0, 0, 0, 0]], earlier[:, [0, 0, 1, 1], [1, 2, 1, 2]]
                ),
                64 * (earlier[:, :, 0] >= 0),
                2 * self.last[earlier[:, :, 0]],
                2 * self.counts[earlier[:, :, 0]],
                self.planes[self.tables[chosen]],
            ],
            axis=1,
            dtype=np.int8,
            casting="unsafe",
        )
        edges, guess = self._edges(chosen, around, spectra)
        steps = self.steps[self.tables[chosen]].astype(np.float32)
        targets = self.blocks[chosen].astype(np.float32)
        targets[:, 0] -= guess / steps[:, 0]
        ends = self.last[chosen].astype(np.int64)
        return Batch(inputs, self.values[chosen], ends, edges, steps, targets)

    def _differences(self, one: NDArray[np.int32], other: NDArray[np.int32]) -> NDArray[np.int8]:
        """Of DC coefficients, quarters; 0 if one of both is missing."""
        difference = (self.dc[one] - self.dc[other]) >> 2
        return squeezed(np.where((one >= 0) & (other >= 0), difference, 0))

    def _edges(
        self, chosen: NDArray[np.int64], around: NDArray[np.int32], spectra: NDArray[np.int64]
    ) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
        """How far spectra of the first column and row are from those of the blocks' beside, at each
        stage, and what the DC coefficient is guessed to be, times the step."""
        count = len(chosen)
        sizes = self._sizes(chosen).astype(np.float64)
        missing = np.repeat(around[:, [1, 0]] < 0, 8, 1)
        edges = np.zeros((count, len(STAGES), 16), np.int64)
        own = np.zeros((count, 16))
        for number, (start, to) in enumerate(STAGES):
            edges[:, number] = (spectra - own.astype(np.int64)) >> 12
            own += sizes[:, start:to] @ _NEAR[start:to]
        edges[np.repeat(missing[:, None], len(STAGES), 1)] = 0
        # The DC coefficient by the one to the left, and by the one above.
        rest = (spectra - own.astype(np.int64))[:, [0, 8]]
        by = self.dc[around[:, [1, 0]]] + ((rest * 181) >> 19)
        there = around[:, [1, 0]] >= 0
        total = np.where(there, by, 0).sum(1)
        guess = np.where(there.all(1), total >> 1, total).astype(np.int32)
        edges[:, -1, [0, 8]] = np.where(there, by - guess[:, None], 0)
        return squeezed(edges), guess


# --- Files to learn from --------------------------------------------------------------------------

_CAMERA = [
    *(1, 1, 1, 2, 3, 6, 8, 10, 1, 1, 2, 3, 4, 8, 9, 8, 2, 2, 2, 3, 6, 8, 10, 8, 2, 2, 3, 4, 7, 12),
    *(11, 9, 3, 3, 8, 11, 10, 16, 15, 11, 3, 5, 8, 10, 12, 15, 16, 13, 7, 10, 11, 12, 15, 17, 17),
    *(14, 14, 13, 13, 15, 15, 14, 14, 14),
]
_CAMERA_CHROMA = [
    *(4, 4, 5, 9, 15, 26, 26, 26, 4, 4, 5, 10, 19, 26, 26, 26, 5, 5, 8, 9, 26, 26, 26, 26),
    *(9, 10, 9, 13, 26, 26, 26, 26, 15, 19, *([26] * 30)),
]
_ROBIDOUX = [
    *(16, 16, 16, 18, 25, 37, 56, 85, 16, 17, 20, 27, 34, 40, 53, 75, 16, 20, 24, 31, 43, 62, 91),
    *(135, 18, 27, 31, 40, 53, 74, 106, 156, 25, 34, 43, 53, 69, 94, 131, 189, 37, 40, 62, 74, 94),
    *(124, 169, 238, 56, 53, 91, 106, 131, 169, 226, 311, 85, 75, 135, 156, 189, 238, 311, 418),
]
"""What mozjpeg and ImageMagick use, by N. Robidoux; row by row, as the others."""


def files(paths: Sequence[Path], random: np.random.Generator, anew: int) -> Iterator[bytes]:
    """Each photograph as it comes, and so many times shrunk and encoded anew."""
    for path in paths:
        data = path.read_bytes()
        if len(data) > LARGEST:
            continue
        if data[:2] == b"\xff\xd8":
            yield data
        with Image.open(io.BytesIO(data)) as image:
            picture = image.convert("RGB")
        for _ in range(anew):
            yield encoded(picture, random)


def encoded(picture: Image.Image, random: np.random.Generator) -> bytes:
    """A picture shrunk, and encoded with the tables of some camera or program."""
    factor = random.uniform(*FACTORS)
    size = max(1, int(picture.width / factor)), max(1, int(picture.height / factor))
    small = picture.resize(size, Image.Resampling.LANCZOS)
    if random.random() < 0.5:
        small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if random.random() < GREY_SHARE:
        small = small.convert("L")
    settings: dict[str, Any] = {"subsampling": SAMPLINGS[random.integers(len(SAMPLINGS))]}
    kind = random.random()
    if kind < CAMERA_SHARE:
        times = math.exp(random.uniform(0, 1.2))
        settings["qtables"] = [_times(_CAMERA, times), _times(_CAMERA_CHROMA, times)]
    elif kind < CAMERA_SHARE + ROBIDOUX_SHARE:
        quality = random.integers(LEAST_QUALITY, 98)
        settings["qtables"] = [_times(_ROBIDOUX, (200 - 2 * quality) / 100)] * 2
    else:
        settings["quality"] = int(random.integers(LEAST_QUALITY, 101))
    out = io.BytesIO()
    small.save(out, "JPEG", **settings)
    return out.getvalue()


def _times(table: Sequence[int], factor: float) -> list[int]:
    return [min(max(round(step * factor), 1), 255) for step in table]


def coefficients(paths: Sequence[Path], seed: int, anew: int) -> Coefficients:
    """The blocks of `files`. Raises TrainingError if there are none."""
    found = []
    for data in files(paths, np.random.default_rng(seed), anew):
        one = parts.take_apart(data)
        if one.headers.frame is not None:
            found.append((one.headers.frame, one.headers.model_steps(), one.blocks))
    if not found:
        raise TrainingError("there are no JPEGs, of less than 400,000 bytes, to learn from")
    return Coefficients(found)


# --- Training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """What has to stay the same when a run is resumed."""

    batch: int = 1024  # blocks
    rate: float = 2e-3
    seed: int = 0


def cost(network: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """The mean bits that a block's end and its coefficients take."""
    given = (batch.inputs, batch.values, batch.ends, batch.edges, batch.steps, batch.targets)
    inputs, values, ends, edges, steps, targets = map(torch.from_numpy, given)
    with torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16("cpu")):
        end, said = network(inputs, values, ends, edges)
    coefficients = coefficient_cost(said, steps, targets, ends).sum(1).mean()
    return end_cost(end, ends).mean() / math.log(2), coefficients / math.log(2)


@torch.no_grad()
def validated(network: nn.Module, held: Coefficients) -> tuple[float, float]:
    """What the ends and the coefficients of held-out blocks take, always the same ones."""
    count = min(VALIDATION_BLOCKS, held.count)
    chosen = np.random.default_rng(0).choice(held.count, count, replace=False)
    total = np.zeros(2)
    for some in np.array_split(chosen, -(-count // 1000)):
        total += [len(some) * float(one) for one in cost(network, held.batch(some))]
    return total[0] / count, total[1] / count


def rate_at(step: int, steps: int, rate: float) -> float:
    return rate * max(0.0, min(1.0, (step + 1) / WARM_UP, (steps - step) / (FALL * steps)))


def train(
    learnt: Coefficients,
    held: Coefficients,
    output: Path,
    steps: int,
    run: Run,
    minutes_between_checkpoints: float = 5.0,
    report: Callable[[str], None] = print,
) -> Path:
    """Train, or resume what ``output`` holds; return the checkpoint's path.

    Raises TrainingError if that is of another run.
    """
    torch.manual_seed(run.seed)
    config = DctConfig()
    network = Dct(config)
    average = deepcopy(network).requires_grad_(False)
    adam = torch.optim.AdamW(
        network.parameters(), lr=run.rate, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY
    )
    checkpoint, step = output / "checkpoint.pt", 0
    kind = {"network_name": "dct", "architecture": asdict(config), "run": asdict(run)}
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if any(state[key] != value for key, value in kind.items()):
            raise TrainingError(f"{checkpoint} is of another run: choose another output folder")
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        adam.load_state_dict(state["optimizer"])
        step = int(state["step"])
    output.mkdir(parents=True, exist_ok=True)
    started = saved = time.monotonic()
    first, seen = step, np.zeros(2)
    last_line = step
    while step < steps:
        for group in adam.param_groups:
            group["lr"] = rate_at(step, steps, run.rate)
        drawn = np.random.default_rng([run.seed, step]).integers(0, learnt.count, run.batch)
        costs = cost(network, learnt.batch(drawn))
        sum(costs).backward()  # type: ignore[union-attr]
        nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        adam.step()
        adam.zero_grad(set_to_none=True)
        step += 1
        _follow(average, network, min(EMA_DECAY, step / (step + 10)))
        seen += [float(one.detach()) for one in costs]
        now = time.monotonic()
        if now - saved > 60 * minutes_between_checkpoints or step == steps:
            state = {
                **kind,
                "step": step,
                "network": network.state_dict(),
                "average": average.state_dict(),
                "optimizer": adam.state_dict(),
            }
            save(checkpoint, state)
            seen /= step - last_line
            valid = validated(average, held)
            speed = (step - first) * run.batch / (now - started)
            report(
                f"step {step}: {seen[0]:.3f} + {seen[1]:.3f} bits a block, held out"
                f" {valid[0]:.3f} + {valid[1]:.3f}, {speed:,.0f} blocks/s"
            )
            saved, last_line, seen = time.monotonic(), step, np.zeros(2)
    return checkpoint


@torch.no_grad()
def _follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    mine = [one.data for one in average.parameters()]
    theirs = [one.data for one in network.parameters()]
    torch._foreach_lerp_(mine, theirs, 1 - decay)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--valid", nargs="+", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=50_000)
    parser.add_argument("--minutes-between-checkpoints", type=float, default=5.0)
    given = parser.parse_args()
    learnt = coefficients(photographs.find(given.data), 0, ANEW)
    held = coefficients(photographs.find(given.valid), 1, 1)
    print(f"{learnt.count:,} blocks, {held.count:,} held out", flush=True)
    minutes = given.minutes_between_checkpoints
    train(learnt, held, given.output, given.steps, Run(), minutes, lambda s: print(s, flush=True))


if __name__ == "__main__":
    main()
