"""Two pictures of the papers' networks: how they learnt, and what they predict."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pixelzip.models.freezing.freeze import load_checkpoint
from pixelzip.models.networks.outputs import Network

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUANTILES = (0.05, 0.35, 0.65, 0.95)
"""The sub-pixels whose distributions are drawn: from one that is easy to predict to a hard one."""
CHANNELS = ("red", "green", "blue")
COLOURS = ("#c0392b", "#2e8b57", "#2c5fa8")
"""Of the channels, dark enough to read on white."""
BUDGET = 620
"""Every colour network has as many steps as one core does in so many seconds."""
HIGHEST = 7.0
"""The training curves begin here: above they all fall alike."""


def training(logs: Mapping[str, Path]) -> bytes:
    """Training bits/dim over the seconds of the budget, from each ``log.csv``, as PNG.

    A step counts as its share of the budget, however long it took on cores that had other work.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    curves = []
    for name, log in logs.items():
        with log.open(newline="") as file:
            lines = list(csv.DictReader(file))
        steps = np.array([int(line["step"]) for line in lines])
        sizes = np.array([float(line["train_bits_per_dim"]) for line in lines])
        since = np.diff(steps, prepend=0)
        told = since >= np.median(since) / 2  # the mean of a few steps says little
        name = name.replace("`", "")
        curves.append((sizes[told][-1], name, BUDGET * steps[told] / steps[-1], sizes[told]))
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    axes = figure.subplots()
    # The legend has the order in which the curves end.
    for number, (_, name, seconds, sizes) in enumerate(sorted(curves, key=lambda curve: -curve[0])):
        style = ("-", "--", ":")[number // 10 % 3]
        colour = colormaps["tab10"](number % 10)
        axes.plot(seconds, sizes, color=colour, linestyle=style, lw=1.5, label=name)
    axes.set(
        xlabel="seconds of the budget", ylabel="bits/dim on training images",
        xlim=(0, BUDGET), ylim=(None, HIGHEST),
    )  # fmt: skip
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small", frameon=False)
    return _png(figure)


@torch.no_grad()
def distributions(checkpoints: Mapping[str, Path], image: NDArray[np.uint8]) -> bytes:
    """What float networks predict of a few sub-pixels of an (H, W, 3) image, as PNG.

    A row for each network; the true values are marked. The first network chooses the sub-pixels.
    """
    from matplotlib.figure import Figure

    predicted: dict[str, NDArray[np.float64]] = {}
    for name, checkpoint in checkpoints.items():
        network, _ = load_checkpoint(checkpoint)
        assert isinstance(network, Network)
        found = network.log_probabilities(torch.from_numpy(image[None]))[0]
        predicted[name] = found.exp().double().numpy()  # (H, W, 3, 256)
    chosen = _choose(next(iter(predicted.values())))

    figure = Figure(figsize=(11, 1 + 1.8 * len(predicted)), layout="constrained")
    grid = figure.add_gridspec(1, 2, width_ratios=(1, 3))
    left, right = figure.add_subfigure(grid[0]), figure.add_subfigure(grid[1])
    picture = left.subplots()
    picture.imshow(image, interpolation="nearest")
    picture.set_axis_off()
    for number, (row, column, channel) in enumerate(chosen, 1):
        picture.plot(column, row, "s", ms=8, mfc="none", mec="white", mew=3)
        picture.plot(column, row, "s", ms=8, mfc="none", mec=COLOURS[channel], mew=1.5)
        away = 1.2 if column < image.shape[1] - 4 else -2.4
        picture.text(
            column + away, row, str(number), color="black", va="center", fontsize=9,
            bbox={"boxstyle": "round,pad=0.15", "fc": "white", "ec": "none", "alpha": 0.85},
        )  # fmt: skip
    plots = right.subplots(len(predicted), len(chosen), sharex=True, squeeze=False)
    for line, (name, probabilities) in zip(plots, predicted.items(), strict=True):
        for axes, (number, place) in zip(line, enumerate(chosen, 1), strict=True):
            value, height = int(image[place]), probabilities[place]
            colour = COLOURS[place[2]]
            axes.bar(np.arange(256), height, width=1.0, color=colour)
            axes.axvline(value, color="black", lw=0.9, ls="--")
            axes.set_title(f"{number}: {CHANNELS[place[2]]} is {value}", fontsize=9)
            axes.set(xlim=(-1, 256), xticks=(0, 128, 255), ylim=(0, 1.1 * height.max()))
            axes.tick_params(labelsize=7)
            axes.locator_params(axis="y", nbins=4)
        line[0].set_ylabel(name, fontsize=9)
    return _png(figure)


def _choose(probabilities: NDArray[np.float64]) -> Sequence[tuple[int, int, int]]:
    """Sub-pixels (row, column, channel) at these quantiles of the predictions' entropy."""
    entropy = -(probabilities * np.log2(probabilities.clip(1e-12))).sum(3)
    order = np.argsort(entropy, axis=None)
    at = order[(np.array(QUANTILES) * (order.size - 1)).astype(int)]
    rows, columns, channels = np.unravel_index(at, entropy.shape)
    return list(zip(rows.tolist(), columns.tolist(), channels.tolist(), strict=True))


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()
