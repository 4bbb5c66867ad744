"""The networks that can be trained, by name: each a dataclass of hyper-parameters and a builder.

torch is imported when one of them is looked up; their names are known without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from pixelzip.codec.errors import TrainingError
from pixelzip.models.networks.field import Field

if TYPE_CHECKING:
    from torch import nn


class Config(Protocol):
    """The hyper-parameters of a network: a frozen dataclass of numbers, flags and words."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def field(self) -> Field:
        """What the conditionals see."""


@dataclass(frozen=True)
class Architecture:
    """A network's hyper-parameters, and what makes a network of them."""

    name: str
    config: Callable[..., Config]
    build: Callable[[Any], nn.Module]

    def configure(self, settings: Mapping[str, str]) -> Config:
        """Its hyper-parameters: the defaults, but for these ``settings`` in writing.

        Raises TrainingError if there is no such hyper-parameter, or not with such a value.
        """
        defaults = asdict(self.config())
        unknown = set(settings) - set(defaults)
        if unknown:
            raise TrainingError(
                f"{self.name} has no {sorted(unknown)[0]} to set; it has {', '.join(defaults)}"
            )
        given = {key: _value(key, text, defaults[key]) for key, text in settings.items()}
        try:
            return self.config(**given)
        except ValueError as error:
            raise TrainingError(f"{self.name}: {error}") from error

    def parameters(self, config: Config) -> int:
        """How many weights there are to train."""
        import torch

        with torch.device("meta"):  # counted without being made
            return sum(p.numel() for p in self.build(config).parameters())


_PLACES = {
    "photo": ("photo", "PhotoConfig", "Photo"),
    "luma": ("photo", "luma", "Photo"),
    "chroma": ("photo", "chroma", "Photo"),
    "pixelcnn": ("pixelcnn", "PixelCNNConfig", "build"),
    "row-lstm": ("pixelrnn", "RowLSTMConfig", "build"),
    "diagonal-bilstm": ("pixelrnn", "DiagonalBiLSTMConfig", "build"),
    "multi-scale": ("multiscale", "MultiScaleConfig", "build"),
    "gated-pixelcnn": ("gated", "GatedConfig", "build"),
    "pixelcnn++": ("pixelcnnpp", "PixelCNNppConfig", "build"),
    "small-pixelcnn++": ("small", "SmallConfig", "build"),
}

NAMES = tuple(_PLACES)


def find(name: str) -> Architecture:
    """The architecture of that name, one of `NAMES`."""
    module, config, build = _PLACES[name]
    found = import_module(f"pixelzip.models.networks.{module}")
    return Architecture(name, getattr(found, config), getattr(found, build))


def _value(key: str, text: str, default: Any) -> Any:
    """``text`` as a value of the default's type."""
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "yes": True, "false": False, "no": False}[text.lower()]
        value = kind(text)
    except (KeyError, ValueError):
        wanted = {bool: "yes or no", int: "a whole number", float: "a number"}[kind]
        raise TrainingError(f"{key} is {wanted}, not {text}") from None
    if kind is int and not (default > 0) <= value <= 4096:
        raise TrainingError(f"{key} is from {int(default > 0)} to 4096, not {text}")
    return value
