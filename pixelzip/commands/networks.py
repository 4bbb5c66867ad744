"""`pixelzip networks`."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from pixelzip.commands.running import sentences
from pixelzip.models.networks import architectures

if TYPE_CHECKING:
    from pixelzip.models.zoo import Entry


@click.command()
@click.argument("files", metavar="[FILE]...", nargs=-1)
@click.option(
    "--architectures", "trainable", is_flag=True,
    help="The networks that can be trained instead, as they are by default.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per network.")
def networks(files: tuple[str, ...], trainable: bool, as_json: bool) -> None:
    """List the networks of the zoo, or those that can be trained, or describe FILEs of networks.

    Of a FILE, or a network's name, everything is checked and told.

    Their parameters are the numbers that training found. A frozen network's file holds more: tables
    and scales that freezing makes of them.

    \b
    pixelzip networks
    pixelzip networks --architectures    # what --network of pixelzip train can be
    pixelzip networks mine.safetensors
    """
    if trainable and files:
        raise click.UsageError("--architectures goes with no FILE")
    if trainable:
        _architectures(as_json)
        return
    from pixelzip.models import zoo

    for card in sentences(lambda: [zoo.describe_file(f) for f in files] or zoo.describe()):
        parameters = zoo.parameters(card)
        if as_json:
            click.echo(json.dumps(card | {"parameters": parameters}))
        elif files:
            _in_full(card, parameters)
        else:
            size = f"{parameters:>12,} parameters {card['bytes']:>12,} bytes"
            click.echo(f"{card['name']:12} {size}  {card['fingerprint'][:16]}")


def _in_full(card: Entry, parameters: int) -> None:
    settings = dict(card["architecture"])
    lines = {
        "architecture": settings.pop("network"),
        "settings": _pairs(settings) or "as they are by default",
        "parameters": f"{parameters:,}, {card['integers']:,} integers in {card['bytes']:,} bytes",
        "field": f"{card['field']}, lag {card['lag']}",
        "trained": card["trained"] or "not said",
        "fingerprint": card["fingerprint"],
    }
    click.echo(f"{card['name']}:")
    for key, value in lines.items():
        click.echo(f"  {key}: {value}")


def _pairs(settings: dict[str, Any]) -> str:
    words = {True: "yes", False: "no"}
    return " ".join(f"{k}={words[v] if isinstance(v, bool) else v}" for k, v in settings.items())


def _architectures(as_json: bool) -> None:
    """Each with its hyper-parameters' defaults, and what these make of it."""
    for name in architectures.NAMES:
        architecture = architectures.find(name)
        config = architecture.config()
        parameters, settings = architecture.parameters(config), asdict(config)
        if as_json:
            seen = asdict(config.field)
            field = {key: seen[key] for key in ("above", "left", "right")}
            card = {"name": name, "parameters": parameters, "field": field,
                    "lag": config.field.lag, "settings": settings}  # fmt: skip
            click.echo(json.dumps(card))
            continue
        lag = "whole rows" if config.field.lag is None else f"lag {config.field.lag}"
        click.echo(f"{name:16} {parameters:>10,} parameters  field {config.field}  {lag}")
        click.echo(f"{'':16} {_pairs(settings)}")
