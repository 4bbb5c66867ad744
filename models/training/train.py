"""Training: from images to a checkpoint of a float network.

One process uses all its cores or one GPU; several are started by ``torchrun``::

    pixelzip train --network photo --data photos/train --valid photos/valid -o runs/photo
    torchrun --nproc-per-node 4 -m pixelzip train --network photo --data photos/train ...
    pixelzip train --network diagonal-bilstm --set colours=1 --set output=binary \\
        --data mnist/train_0.png --valid mnist/test.png -o runs/mnist

On a CPU with glibc, two variables of the environment keep freed memory in the process, which
saves the time to get it anew at each step: ``MALLOC_MMAP_THRESHOLD_=33554432`` and
``MALLOC_TRIM_THRESHOLD_=2147483647``.

Matrix products run in bfloat16 under autocast, the likelihood in float32. The matrices of
``photo``'s trunk are trained with Muon, all else with Adam. The learning rate is constant after its
warm-up and falls linearly to zero over the last part of the steps, so that a run can be prolonged:
before it falls, or at its end with a rate lower than before.

A checkpoint holds everything that the next step depends on (weights, optimizers, moving average,
generator); a resumed run takes the very same steps as one that was never interrupted. What is
random inside of a network, such as dropout, is seeded anew for each step.
"""

from __future__ import annotations

import csv
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn

from pixelzip.codec.errors import DeviceError, NetworkFileError, TrainingError
from pixelzip.models.freezing import narrow
from pixelzip.models.freezing.freeze import load_checkpoint
from pixelzip.models.freezing.thaw import thaw
from pixelzip.models.frozen import file
from pixelzip.models.frozen.architecture import PhotoConfig
from pixelzip.models.networks import architectures
from pixelzip.models.networks.architectures import Config
from pixelzip.models.networks.photo import Photo
from pixelzip.models.training import images, photographs, planes

EMA_DECAY = 0.999
CLIP = 1.0
VALIDATION_SIDE = 64
CALIBRATION_CROPS = 256  # of what is learnt from, for `pixelzip.models.freezing.freeze`
FITTED_CROPS = 96  # that a smaller network is fitted to a larger one on
HELD_OUT = 25  # one picture of so many is held out where no validation set is given


@dataclass(frozen=True)
class TrainConfig:
    """What to train, on what, and for how long."""

    data: tuple[Path, ...]  # photographs, or whole small images: see `images`
    valid: tuple[Path, ...]  # if empty, a few of ``data`` are held out
    output: Path
    start: Path | None = None  # the checkpoint whose averaged weights a new run begins with, or a
    # frozen network of the same kind, also a larger one
    network: str = "photo"
    architecture: Config = field(default_factory=PhotoConfig)
    steps: int = 20_000
    batch: int = 8  # crops or images a step and process
    side: int = 64  # of a crop, in pixels
    rounded: bool = False  # compute as the frozen network will, so that its rounding costs less
    developed: float = photographs.DEVELOPED_SHARE  # of the crops: softened, with grain and so on
    rate: float = 2e-3  # Muon's learning rate; Adam's is half of it
    warmup: int = 200  # steps
    decay: float = 0.65  # the last part of the steps, over which the rate falls
    seed: int = 0
    device: str = "cpu"
    minutes_between_checkpoints: float = 5.0
    compile: bool = True


@dataclass(frozen=True)
class Progress:
    """One line of the log. Bits/dim are theoretical, of the float network."""

    step: int
    seconds: float
    pixels: int
    pixels_per_second: float
    seconds_left: float
    train_bits_per_dim: float
    valid_bits_per_dim: float | None
    valid_nats_per_image: float | None = None  # of whole images


class Source(Protocol):
    """Where the images of a step come from."""

    def draw(self, count: int) -> tuple[NDArray[np.generic], ...]:
        """Pixels (count, H, W, C), the weights (count, C) of their losses, and what else the
        network is told of them: labels, or samples that it is given."""


@dataclass(frozen=True)
class Data:
    """What a run learns from, and what it is validated on."""

    source: Source
    valid: Tensor  # (N, H, W, C) uint8
    labels: Tensor | None  # (N, ...): what else the network is told of ``valid``
    pixels: int  # of a crop or image
    whole: bool  # whether ``valid`` holds whole images


def learning_rate_factor(step: int, config: TrainConfig) -> float:
    rising = (step + 1) / config.warmup
    falling = (config.steps - step) / (config.decay * config.steps)
    return max(0.0, min(1.0, rising, falling))


def optimizers(network: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the trunk, Adam for what touches pixels or parameters."""
    inner = [p for n, p in network.named_parameters() if n.startswith("blocks.") and p.ndim == 2]
    chosen = {id(p) for p in inner}
    outer = [p for p in network.parameters() if id(p) not in chosen]
    adam = torch.optim.AdamW(outer, lr=config.rate / 2, betas=(0.9, 0.98), weight_decay=0.0)
    if not inner:
        return [adam]
    muon = torch.optim.Muon(inner, lr=config.rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    return [muon, adam]


class Average:
    """An exponential moving average of a network's weights."""

    def __init__(self, network: nn.Module) -> None:
        self.network = deepcopy(network).eval().requires_grad_(False)
        self.steps = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        self.steps += 1
        decay = min(EMA_DECAY, self.steps / (self.steps + 10))
        mine = [p.data for p in self.network.parameters()]
        theirs = [p.data for p in network.parameters()]
        torch._foreach_lerp_(mine, theirs, 1 - decay)


@torch.no_grad()
def bits_per_dim(
    network: nn.Module, blocks: Tensor, device: str, labels: Tensor | None = None
) -> float:
    """The mean theoretical bits/dim of (N, H, W, C) uint8 blocks, perhaps with labels (N, ...)."""
    total = 0.0
    tensors = (blocks,) if labels is None else (blocks, labels)
    for parts in zip(*(torch.split(tensor, 16) for tensor in tensors), strict=True):
        with torch.autocast(device, torch.bfloat16, enabled=has_bfloat16(device)):
            total -= float(network(*(part.to(device) for part in parts)).double().sum())
    return total / blocks.numel() / math.log(2)


def has_bfloat16(device: str) -> bool:
    """Whether bfloat16 products are faster than float32's there."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def save(path: Path, state: dict[str, Any]) -> None:
    partial = path.with_name(path.name + ".part")
    torch.save(state, partial)
    os.replace(partial, path)


def train(config: TrainConfig, report: Callable[[Progress], None] = lambda progress: None) -> Path:
    """Train, or resume what ``config.output`` holds; return the checkpoint's path.

    Writes ``checkpoint.pt``, ``log.csv`` and ``curve.png`` to ``config.output``. Under torchrun
    each process draws its own crops, and process 0 writes.
    """
    if find_spec("matplotlib") is None:  # said now, not when hours of training are over
        raise TrainingError('the curve needs matplotlib: pip install "pixelzip[train]"')
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    device = config.device
    if device == "cuda":
        if not torch.cuda.is_available():
            raise DeviceError("torch finds no CUDA device here: use the CPU")
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if device == "cuda" else "gloo")
    torch.manual_seed(config.seed)
    network = architectures.find(config.network).build(config.architecture).to(device)
    optimizing = optimizers(network, config)
    checkpoint, log = config.output / "checkpoint.pt", config.output / "log.csv"
    rng = np.random.default_rng([config.seed, rank])
    data = load(config, rng)
    calibration, _, *known = data.source.draw(CALIBRATION_CROPS)  # the same when it is resumed
    if config.start is not None and not checkpoint.exists():
        begin(network, config.start, config, data.source)
    average = Average(network)

    config.output.mkdir(parents=True, exist_ok=True)
    step, seconds_before, state = 0, 0.0, dict[str, Any]()
    run = {"seed": config.seed, "batch": config.batch, "side": config.side, "processes": world}
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        found = state["network_name"], state["architecture"], state["run"]
        if found != (config.network, asdict(config.architecture), run):
            raise TrainingError(
                f"{checkpoint} is of another run ({found[0]}, {found[1]}, {found[2]}):"
                " resume it with the same settings, or choose another output folder"
            )
        network.load_state_dict(state["network"])
        average.network.load_state_dict(state["average"])
        average.steps = step = int(state["step"])
        seconds_before = state["seconds"]
        for optimizer, saved in zip(optimizing, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        rng.bit_generator.state = state["generators"][rank]
    steps = None
    if config.rounded:
        steps = state.get("steps") or calibrated(average.network, calibration, known, world)
    for one in (network, average.network):
        if isinstance(one, Photo):
            prepare(one, steps, compiled=config.compile)
    if rank == 0:
        cut(log, step)

    def snapshot() -> None:
        generators: list[Any] = [rng.bit_generator.state]
        if world > 1:
            generators = [None] * world
            dist.all_gather_object(generators, rng.bit_generator.state)
        if rank == 0:
            save(
                checkpoint,
                {
                    "network_name": config.network,
                    "architecture": asdict(config.architecture),
                    "run": run,
                    "calibration": torch.from_numpy(calibration),
                    "calibration_labels": torch.from_numpy(known[0]) if known else None,
                    "steps": steps,
                    "step": step,
                    "seconds": seconds_before + time.monotonic() - started,
                    "pixels": step * config.batch * world * data.pixels,
                    "network": network.state_dict(),
                    "average": average.network.state_dict(),
                    "optimizers": [o.state_dict() for o in optimizing],
                    "generators": generators,
                },
            )

    started = last_report = last_checkpoint = time.monotonic()
    first_step, losses = step, list[float]()
    while step < config.steps:
        # One number of seed, process and step: nothing that a checkpoint would have to hold.
        seeds = np.random.SeedSequence([config.seed, rank, step])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        loss = take_step(network, optimizing, data.source, step, config, world)
        average.update(network)
        losses.append(loss)
        step += 1
        now = time.monotonic()
        # Every process takes the same decision, or they would wait for each other for ever.
        due = agree(now - last_checkpoint > 60 * config.minutes_between_checkpoints, world)
        last = step == config.steps
        if due or last or now - last_report > 20:
            rate = (step - first_step) / (now - started)
            valid = nats = None
            if due or last:
                valid = bits_per_dim(average.network, data.valid, device, data.labels)
                if data.whole:
                    nats = valid * math.log(2) * data.valid[0].numel()
            progress = Progress(
                step=step,
                seconds=seconds_before + now - started,
                pixels=step * config.batch * world * data.pixels,
                pixels_per_second=rate * config.batch * world * data.pixels,
                seconds_left=(config.steps - step) / rate,
                train_bits_per_dim=float(np.mean(losses)),
                valid_bits_per_dim=valid,
                valid_nats_per_image=nats,
            )
            if rank == 0:
                append(log, progress)
                report(progress)
            last_report, losses = time.monotonic(), []
        if due or last:
            snapshot()
            last_checkpoint = time.monotonic()
    if rank == 0:
        plot(log, config.output / "curve.png")
    return checkpoint


def calibrated(
    network: nn.Module, crops: NDArray[np.generic], known: Sequence[NDArray[np.generic]], world: int
) -> dict[str, Tensor]:
    """The steps that activations of ``photo``'s kind are rounded at, process 0's for all.

    Raises TrainingError if it is not of that kind.
    """
    if not isinstance(network, Photo):
        raise TrainingError("only networks like photo, luma and chroma learn to be rounded")
    device = network.stem.device
    told = [torch.from_numpy(array).to(device) for array in (crops, *known[:1])]
    steps = network.steps(*told)
    if world > 1:
        for step in steps.values():
            dist.broadcast(step, 0)
    return steps


def prepare(network: Photo, steps: Mapping[str, Tensor] | None, *, compiled: bool) -> None:
    """Let it compute rounded, as it will when it is frozen, if there are steps, and faster.

    What is compiled holds on to its network: each is prepared by itself, after it was copied.
    """
    if steps:
        network.round_at(steps)
    if compiled:
        network.likelihood = torch.compile(network.likelihood)  # type: ignore[method-assign]
        network.contrast = torch.compile(network.contrast)
        for rectifier in network.rectifiers().values():
            rectifier.rounded = torch.compile(rectifier.rounded)


def begin(network: nn.Module, start: Path, config: TrainConfig, source: Source) -> None:
    """Give a new network the averaged weights of another run's checkpoint, or a frozen network's.

    A network of ``photo``'s kind may be smaller than the frozen one, to which it is then fitted on
    crops of the source. Raises TrainingError if that is none, or of another network.
    """
    if start.suffix == ".safetensors":
        try:
            larger = file.read(start)[1]
            if isinstance(network, Photo) and narrow.narrows(larger, network.config):
                thawed = Photo(larger)
                thaw(start, thawed)
                crops = torch.from_numpy(source.draw(FITTED_CROPS)[0])
                network.load_state_dict(narrow.narrow(thawed, network.config, crops).state_dict())
            else:
                thaw(start, network)
        except (NetworkFileError, ValueError) as error:
            raise TrainingError(str(error)) from error
        return
    try:
        begun, state = load_checkpoint(start)
    except NetworkFileError as error:
        raise TrainingError(str(error)) from error
    found = state["network_name"], state["architecture"]
    if found != (config.network, asdict(config.architecture)):
        raise TrainingError(
            f"{start} is of another network ({found[0]}, {found[1]}):"
            " choose the same network with the same settings"
        )
    network.load_state_dict(begun.state_dict())


def load(config: TrainConfig, rng: np.random.Generator) -> Data:
    """What the configuration names. The source draws with ``rng``.

    Raises TrainingError if there is nothing there, or nothing that suits the network.
    """
    architecture = config.architecture
    if isinstance(architecture, PhotoConfig) and architecture.colours == 1:
        return load_planes(config, rng, chroma=architecture.given > 0)
    colours = getattr(architecture, "colours", 3)
    classes = getattr(architecture, "classes", 0)
    binary = getattr(architecture, "output", "") == "binary"
    learnt, valid = images.read(config.data, colours), images.read(config.valid, colours)
    if learnt is not None and not config.valid:
        every = max(2, min(HELD_OUT, len(learnt.pixels) // 2))
        held_out = np.arange(len(learnt.pixels)) % every == 0
        valid, learnt = learnt[held_out], learnt[~held_out]
    for part in (learnt, valid):
        labels = None if part is None else part.labels
        if classes and labels is None:
            raise TrainingError(
                "a class-conditional network learns from files of rows with a text file of classes"
                " beside each"
            )
        if classes and labels is not None and not 0 <= labels.min() <= labels.max() < classes:
            raise TrainingError(f"the classes are not all from 0 to {classes - 1}")
        if part is None and colours == 1:
            raise TrainingError("photographs have colours; this network is one for grey images")
    if learnt is None:
        for path in filter(images.is_rows, config.data):
            raise TrainingError(f"{path} holds whole images: they do not mix with photographs")
        paths = photographs.find(config.data) if valid is not None else pictures(config)[0]
        album = photographs.Album(photographs.load(paths, config.side), rng, config.developed)
        source: Source = photographs.Crops(album, config.side)
        pixels = config.side**2
    else:
        _check_developed(config)
        source = images.Whole(learnt if classes else replace(learnt, labels=None), rng, binary)
        pixels = math.prod(learnt.pixels.shape[1:3])
    if valid is None:
        blocks = photographs.validation(pictures(config)[1], VALIDATION_SIDE)
        return Data(source, torch.from_numpy(blocks), None, pixels, False)
    if binary:
        valid = valid.binarised(np.random.default_rng(0))  # once, the same for every run
    labels = valid.labels if classes else None
    known = None if labels is None else torch.from_numpy(labels)
    return Data(source, torch.from_numpy(valid.pixels.copy()), known, pixels, True)


def _check_developed(config: TrainConfig) -> None:
    if config.developed != photographs.DEVELOPED_SHARE:
        raise TrainingError("only crops of photographs in colours can be developed more or less")


def load_planes(config: TrainConfig, rng: np.random.Generator, *, chroma: bool) -> Data:
    """Planes of photographs, for ``luma`` and ``chroma``."""
    _check_developed(config)
    learnt, held_out = pictures(config)
    source = planes.Crops(learnt, config.side, rng, chroma=chroma)
    valid, *seen = planes.validation(held_out, VALIDATION_SIDE, chroma=chroma)
    labels = torch.from_numpy(seen[0]) if seen else None
    return Data(source, torch.from_numpy(valid), labels, config.side**2, False)


def pictures(config: TrainConfig) -> tuple[list[Path], list[Path]]:
    """The pictures to learn from, and those held out for validation: given, or every 25th."""
    paths = photographs.find(config.data)
    if config.valid:
        return paths, photographs.find(config.valid)
    held_out = paths[:: max(2, min(HELD_OUT, len(paths) // 2))]
    return [p for p in paths if p not in held_out], held_out


def take_step(
    network: nn.Module,
    optimizing: Sequence[torch.optim.Optimizer],
    source: Source,
    step: int,
    config: TrainConfig,
    world: int,
) -> float:
    """One step of the optimizers; returns the batch's theoretical bits/dim."""
    rate = config.rate * learning_rate_factor(step, config)
    for optimizer in optimizing:
        share = 1.0 if isinstance(optimizer, torch.optim.Muon) else 0.5
        for group in optimizer.param_groups:
            group["lr"] = share * rate
    drawn = (torch.from_numpy(array).to(config.device) for array in source.draw(config.batch))
    pixels, weights, *labels = drawn
    weights = weights[:, None, None]
    with torch.autocast(config.device, torch.bfloat16, enabled=has_bfloat16(config.device)):
        likelihood = network(pixels, *labels)
    area = math.prod(pixels.shape[1:3])
    loss = -(likelihood * weights).sum() / (weights.sum() * area) / math.log(2)
    loss.backward()
    parameters = list(network.parameters())
    if world > 1:
        for parameter in parameters:
            assert parameter.grad is not None
            dist.all_reduce(parameter.grad)
            parameter.grad.div_(world)
    torch.nn.utils.clip_grad_norm_(parameters, CLIP)
    for optimizer in optimizing:
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def agree(decision: bool, world: int) -> bool:
    """Process 0's decision, for all."""
    if world == 1:
        return decision
    told = torch.tensor([decision], dtype=torch.int32)
    if dist.get_backend() == "nccl":
        told = told.cuda()
    dist.broadcast(told, 0)
    return bool(told)


def append(log: Path, progress: Progress) -> None:
    """Add a line; an older log keeps the columns that it began with."""
    row = asdict(progress)
    with log.open("a+", newline="") as file:
        file.seek(0)
        header = next(csv.reader(file), None)
        writer = csv.DictWriter(file, header or row.keys(), extrasaction="ignore")
        if header is None:
            writer.writeheader()
        writer.writerow(row)


def cut(log: Path, step: int) -> None:
    """Drop what comes after ``step``: a killed run may have logged more than it has saved."""
    if not log.exists():
        return
    header, *lines = log.read_bytes().splitlines(keepends=True) or [b""]
    whole = (line for line in lines if line.endswith(b"\n"))
    kept = [line for line in whole if int(line.split(b",")[0]) <= step]
    if not kept:
        log.unlink()
        return
    partial = log.with_name(log.name + ".part")
    partial.write_bytes(b"".join([header, *kept]))
    os.replace(partial, log)


def plot(log: Path, picture: Path) -> None:
    """The training curve: bits/dim against pixels seen."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with log.open() as file:
        rows = list(csv.DictReader(file))
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    seen = [int(r["pixels"]) / 1e6 for r in rows]
    axes.plot(seen, [float(r["train_bits_per_dim"]) for r in rows], lw=0.8, label="train")
    checked = [(s, float(r["valid_bits_per_dim"])) for s, r in zip(seen, rows, strict=True)
               if r["valid_bits_per_dim"]]  # fmt: skip
    axes.plot(*zip(*checked, strict=True), marker="o", ms=3, label="validation, moving average")
    lowest = min(v for _, v in checked)
    axes.set(xlabel="million pixels seen", ylabel="bits/dim", ylim=(None, lowest + 1))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(picture, dpi=120)
    pyplot.close(figure)
