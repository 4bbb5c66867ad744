"""`pixelzip train` and `pixelzip freeze`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pixelzip.codec.errors import TrainingError
from pixelzip.commands import options, running
from pixelzip.models.networks import architectures

DATA = click.Path(path_type=Path)  # of a folder, of a file, or of some rows of one


@click.command()
@click.option(
    "--network", type=click.Choice(architectures.NAMES), default="photo", show_default=True,
    help="What to train; pixelzip networks --architectures tells more.",
)  # fmt: skip
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="A hyper-parameter of the network; repeat. The others keep their defaults.",
)  # fmt: skip
@click.option("--data", required=True, multiple=True, type=DATA, help="What to learn from; repeat.")
@click.option("--valid", multiple=True, type=DATA, help="What to validate on; else some of --data.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the checkpoint, the log and the curve; a run that it holds is resumed.",
)  # fmt: skip
@click.option(
    "--start", type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Begin with the weights of this checkpoint or frozen network, to adapt them to other"
    " images. A frozen network like photo may have more channels, hidden units and components.",
)  # fmt: skip
@click.option("--steps", type=click.IntRange(1), default=20_000, show_default=True)
@click.option(
    "--batch", type=click.IntRange(1), default=8, show_default=True, help="Crops or images a step."
)
@click.option(
    "--side", type=click.IntRange(16), default=64, show_default=True, help="Of a crop, in pixels."
)
@click.option(
    "--developed", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of the crops"
    " that photo learns from, how many are softened, strewn with grain, sharpened and so on.",
)  # fmt: skip
@click.option(
    "--rounded", is_flag=True, help="Let photo, luma or chroma compute as when it is frozen, so"
    " that it learns to live with the rounding: for the last part of a run.",
)  # fmt: skip
@click.option(
    "--rate",
    type=click.FloatRange(0, 1, min_open=True),
    default=2e-3,
    show_default=True,
    help="Learning rate of the matrices of photo's trunk (Muon); all else (Adam) has half of it.",
)
@click.option(
    "--decay",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.65,
    show_default=True,
    help="The last part of the steps, over which the rate falls to zero.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--checkpoint-minutes", type=click.FloatRange(0), default=5.0, show_default=True,
    help="Time between checkpoints.",
)  # fmt: skip
@click.option(
    "--compile/--no-compile", default=True, help="Fuse the loss of photo with torch.compile (wants"
    " a C++ compiler on a CPU)."
)  # fmt: skip
@options.QUIET
def train(
    network: str,
    settings: tuple[str, ...],
    data: tuple[Path, ...],
    valid: tuple[Path, ...],
    output: Path,
    checkpoint_minutes: float,
    quiet: bool,
    **others: Any,
) -> None:
    """Train a network on images, or go on where a run stopped.

    \b
    pixelzip train --network photo --data photos/ -o runs/photo
    pixelzip train --network photo --data photos/ -o runs/photo --steps 40000   # longer
    pixelzip train --network pixelcnn --set layers=15 --data small-images/ -o runs/pixelcnn
    torchrun --nproc-per-node 4 -m pixelzip train --data photos/ -o runs/photo --device cuda

    What to learn from is one of

    \b
    - a folder of photographs: random crops of them, shrunk;
    - a folder of images that all have one size, up to 64x64: as they are;
    - a file of rows: a PNG each of whose rows is one image, of 1024 RGB pixels
      (32x32, as CIFAR-10's) or 784 grey ones (28x28, as MNIST's). FILE:500-999
      means some rows, from 0. For a class-conditional network the rows' classes
      stand in a text file beside it, batch_0.txt for batch_0.png.

    Grey images want --set colours=1. With --set output=binary they are turned black and white at
    random, by their values, whenever they are drawn:

    \b
    pixelzip train --network diagonal-bilstm --set colours=1 --set output=binary
        --data mnist/batch_0.png --valid mnist/test.png -o runs/mnist
    """
    from pixelzip.models.training import train as training

    pairs = dict[str, str]()
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise click.BadParameter(f"{setting} is not KEY=VALUE", param_hint="--set")
        pairs[key] = value
    architecture = architectures.find(network)
    try:
        made = architecture.configure(pairs)
        architecture.parameters(made)
    except (TrainingError, ValueError) as error:
        raise click.BadParameter(str(error), param_hint="--set") from error
    config = training.TrainConfig(
        data=data,
        valid=valid,
        output=output,
        network=network,
        architecture=made,
        minutes_between_checkpoints=checkpoint_minutes,
        **others,
    )

    def report(progress: training.Progress) -> None:
        valid, nats = progress.valid_bits_per_dim, progress.valid_nats_per_image
        click.echo(
            f"step {progress.step:,}/{config.steps:,}"
            f"  train {progress.train_bits_per_dim:.3f}"
            f"  {'' if valid is None else f'validation {valid:.4f} '}bits/dim"
            f"{'' if nats is None else f' = {nats:,.2f} nats/image'}"
            f"  {progress.pixels_per_second:,.0f} pixels/s"
            f"  {progress.seconds_left / 60:.0f} min left",
            err=True,
        )

    tell = (lambda _: None) if quiet else report
    checkpoint = running.sentences(lambda: training.train(config, tell))
    if not quiet:
        click.echo(f"{checkpoint}: freeze it with pixelzip freeze {checkpoint} -o NETWORK")


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--bits",
    type=click.Choice(["8", "16"]),
    help="Bits of weights and activations. 8 makes a file of half the size and codes faster; 16,"
    " the default but for photo, which has 8, stays closer to the trained network.",
)
@options.FORCE
def freeze(checkpoint: Path, output: Path, bits: str | None, force: bool) -> None:
    """Freeze a trained network into the integers that code.

    \b
    pixelzip freeze runs/photo/checkpoint.pt -o my.safetensors
    pixelzip compress --network my.safetensors picture.png
    """
    from pixelzip.models.freezing.freeze import freeze_checkpoint

    if output.exists() and not force:
        raise click.ClickException(f"{output} exists; --force overwrites it")
    wanted = int(bits or 0) or None
    fingerprint = running.sentences(lambda: freeze_checkpoint(checkpoint, output, wanted))
    click.echo(f"{output}: {output.stat().st_size:,} bytes, fingerprint {fingerprint.hex()[:16]}")
