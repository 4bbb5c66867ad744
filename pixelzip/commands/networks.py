"""`pixelzip networks`."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from pixelzip.models.networks import architectures


@click.command()
@click.option(
    "--architectures", "trainable", is_flag=True,
    help="The networks that can be trained instead, as they are by default.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per network.")
def networks(trainable: bool, as_json: bool) -> None:
    """List the networks of the zoo, or those that can be trained.

    Their parameters are the numbers that training found. A frozen network's file holds more: tables
    and scales that freezing makes of them.

    \b
    pixelzip networks
    pixelzip networks --architectures    # what --network of pixelzip train can be
    """
    if trainable:
        _architectures(as_json)
        return
    from pixelzip.models import zoo

    for card in zoo.describe():
        parameters = zoo.parameters(card)
        if as_json:
            click.echo(json.dumps(card | {"parameters": parameters}))
        else:
            size = f"{parameters:>12,} parameters {card['bytes']:>12,} bytes"
            click.echo(f"{card['name']:12} {size}  {card['fingerprint'][:16]}")


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
        words = {True: "yes", False: "no"}
        pairs = (f"{k}={words[v] if isinstance(v, bool) else v}" for k, v in settings.items())
        click.echo(f"{'':16} {' '.join(pairs)}")
