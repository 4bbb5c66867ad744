"""Narrowing: a network of ``photo``'s kind becomes a smaller one, for training to go on from.

Of each layer's inputs those are kept that the others can be told from best, and what reads them
makes up for the others: these are fitted to those that are kept, by least squares, on some
photographs. So the smaller network computes nearly the same before it has learnt anything itself.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from pixelzip.models.frozen.architecture import PhotoConfig
from pixelzip.models.networks.photo import Photo, compand

EVERY = 7
"""One pixel of so many is enough to fit to."""
RIDGE = 1e-5


@torch.no_grad()
def narrow(wide: Photo, config: PhotoConfig, crops: Tensor) -> Photo:
    """The smaller network that is most like ``wide`` on (N, H, W, 3) uint8 crops.

    It may have fewer channels, hidden units and components; ValueError if it differs otherwise.
    """
    if not narrows(wide.config, config):
        raise ValueError("the smaller network has channels, hidden units and components to spare")
    seen, made = _activations(wide, crops), Photo(config)
    old = {name: weight.double() for name, weight in wide.state_dict().items()}
    new = {name: old[name] for name in ("predictor", "predictor_bias")}
    blocks = [f"blocks.{i}" for i in range(len(config.blocks))]
    readers = [*((f"{block}.a", old[f"{block}.a"]) for block in blocks), ("trunk", old["trunk"])]
    grams = torch.stack([_gram(seen[name], weight) for name, weight in readers])
    stream = chosen(grams.sum(0), config.channels)

    def layer(name: str, inputs: Tensor, outputs: Tensor) -> None:
        weight, bias = _fitted(seen[name], old[name], old[f"{name}_bias"], inputs)
        new[name], new[f"{name}_bias"] = weight[outputs], bias[outputs]

    first = chosen(_gram(seen["stem"], old["stem"]), config.channels)
    new["first"], new["first_bias"] = old["first"][first], old["first_bias"][first]
    layer("stem", first, stream)
    for block in blocks:
        hidden = chosen(_gram(seen[f"{block}.b"], old[f"{block}.b"]), config.channels)
        layer(f"{block}.a", stream, hidden)
        layer(f"{block}.b", hidden, stream)
    units = [
        chosen(_gram(seen[f"heads.{c}"], old[f"heads.{c}.weight"]), config.head) for c in range(3)
    ]
    layer("trunk", stream, torch.cat([c * wide.config.head + own for c, own in enumerate(units)]))
    told = (1, 2, 2)  # whom each table of the code tells of a residual
    new["code"] = torch.stack([old["code"][i][:, units[c]] for i, c in enumerate(told)])
    for c, own in enumerate(units):
        name, k = f"heads.{c}", wide.config.components
        weight, bias = _fitted(seen[name], old[f"{name}.weight"], old[f"{name}.bias"], own)
        shares = torch.softmax(seen[name][:, own] @ weight[:k].t() + bias[:k], 1).mean(0)
        kept = shares.topk(config.components).indices.sort().values
        rows = torch.cat([kept, kept + k, kept + 2 * k, torch.arange(3 * k, len(bias))])
        new[f"{name}.weight"], new[f"{name}.bias"] = weight[rows], bias[rows]
    made.load_state_dict({name: weight.float() for name, weight in new.items()})
    return made


def narrows(found: PhotoConfig, wanted: PhotoConfig) -> bool:
    """Whether a network of the second configuration is a smaller one of the first."""
    same = ("blocks", "colours", "near", "given")
    alike = found.colours == 3 and all(getattr(found, m) == getattr(wanted, m) for m in same)
    fewer = ("channels", "head", "components")
    smaller = all(getattr(found, m) >= getattr(wanted, m) for m in fewer)
    return alike and smaller and found != wanted


def chosen(gram: Tensor, count: int) -> Tensor:
    """Which columns explain the others best, given all products of two: pivoted Cholesky."""
    left, columns = gram.diag().clone(), list[int]()
    factor = torch.zeros(len(gram), count, dtype=gram.dtype)
    for i in range(count):
        pivot = int(left.argmax())
        columns.append(pivot)
        column = gram[:, pivot] - factor[:, :i] @ factor[pivot, :i]
        factor[:, i] = column / left[pivot].clamp(min=1e-12).sqrt()
        left -= factor[:, i] ** 2
        left[columns] = -torch.inf
    return torch.tensor(sorted(columns))


def _activations(network: Photo, crops: Tensor) -> dict[str, Tensor]:
    """What each layer reads, (pixels, inputs), by the layer's name."""
    found = dict[str, list[Tensor]]()

    def see(name: str, x: Tensor) -> None:
        rows = x.permute(0, 2, 3, 1).flatten(0, 2) if x.ndim == 4 else x
        found.setdefault(name, []).append(rows[::EVERY].double())

    def contrast(x: Tensor) -> Tensor:
        companded = compand(x)
        see("stem", companded)
        return companded

    network.contrast = contrast
    network.watched({name: partial(see, name) for name in network.rectifiers()}, crops)
    network.contrast = compand
    return {name: torch.cat(parts) for name, parts in found.items()}


def _by_taps(weight: Tensor, inputs: int) -> Tensor:
    """(outputs, taps, inputs)."""
    return weight.view(len(weight), -1, inputs)


def _gram(x: Tensor, weight: Tensor) -> Tensor:
    """All products of two inputs, each weighed as its reader does it; a square is 1 on average."""
    weighed = x * _by_taps(weight, x.shape[1]).pow(2).sum((0, 1)).sqrt()
    gram = weighed.t() @ weighed
    return gram / gram.diag().mean()


def _fitted(x: Tensor, weight: Tensor, bias: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """A layer's weights and biases where it reads only the inputs that are kept."""
    own = torch.cat([x[:, kept], torch.ones_like(x[:, :1])], 1)
    gram = own.t() @ own
    gram += RIDGE * gram.diag().mean() * torch.eye(len(gram), dtype=gram.dtype)
    fit = torch.linalg.solve(gram, own.t() @ x)  # (kept + 1, inputs)
    taps = _by_taps(weight, x.shape[1])
    return (taps @ fit[:-1].t()).flatten(1), bias + (taps @ fit[-1]).sum(1)
