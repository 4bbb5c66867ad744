"""How time and memory grow with the picture, and what stepping by fronts is worth.

Both should take the same time for each pixel of a large picture as of a small one, so that a change
that makes something grow faster than the picture is seen at once. The pictures are made here, from
noise at all scales, as alike at every size as photographs are.

The *naive* decoder runs the whole network over the whole picture for each pixel that it wants to
know, which is how such networks are usually sampled. Some of its passes over a small picture are
really run, and give the parameters that coding used; the rest is multiplication.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelzip import api, coding
from pixelzip.bench import memory
from pixelzip.bench.run import LossError, machine
from pixelzip.bench.tables import Table, count, machine_sentence, short

MEGAPIXELS = (0.1, 0.4, 1.5, 6.0, 24.0)
BATCHES = (1, 4, 16, 64, 256)
WARM = 128
"""Pixels a side of what is coded first, so that all that its kind needs is loaded."""
SMALL = 32
"""The side of a small image, in pixels."""
SHARED = (
    ("picture", 1, 1225, 817),
    ("pictures", 8, 600, 400),
    ("decoded JPEGs", 8, 600, 400),
    ("images", 64, SMALL, SMALL),
)
"""What is coded with one thread, too: so many, so wide and so high. Threads share the tiles of the
first one; a folder of others, of which each is too small to keep several busy, by image."""
NAIVE_SIDE = 64
"""The side of the picture that the naive decoder is tried on."""
NAIVE_PASSES = 16
"""How many of its passes are really run."""
TOLERATED = 1.15
"""Beyond this power of the number of pixels, growth is called out."""


@dataclass(frozen=True)
class Point:
    """What one picture, or one batch of small ones, took."""

    images: int
    pixels: int
    """Of all images together."""
    encode_seconds: float
    decode_seconds: float
    peak_megabytes: float | None


@dataclass(frozen=True)
class Shared:
    """The same work done by one thread and by all of them."""

    name: str
    one: Point
    all: Point

    @property
    def gain(self) -> dict[str, float]:
        """How many times faster all of them are."""
        return {
            "encode": self.one.encode_seconds / self.all.encode_seconds,
            "decode": self.one.decode_seconds / self.all.decode_seconds,
        }


@dataclass(frozen=True)
class Naive:
    """One small picture, decoded by fronts and, in part, naively; both with one thread."""

    pixels: int
    fronts_seconds: float
    pass_seconds: float
    """Of one pass of the network over the whole picture."""

    def seconds(self, pixels: int) -> float:
        """A picture of so many pixels: as many passes, each as long as the picture is large."""
        return pixels * self.pass_seconds * pixels / self.pixels


@dataclass(frozen=True)
class Scaling:
    """All that was measured."""

    network: str
    machine: dict[str, Any]
    pictures: tuple[Point, ...]
    batches: tuple[Point, ...]
    naive: Naive
    shared: tuple[Shared, ...] = ()
    """If there are several threads."""

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        naive = {"seconds": self.naive.seconds(self.naive.pixels)}
        gains = [asdict(one) | {"gain": one.gain} for one in self.shared]
        return asdict(self) | {"naive": asdict(self.naive) | naive} | {
            "growth": self.growth(), "shared": gains
        }  # fmt: skip

    def growth(self) -> dict[str, float]:
        """The power of the number of pixels by which time grows: 1 is linear."""
        return {
            "encode": _power(self.pictures, lambda point: point.encode_seconds),
            "decode": _power(self.pictures, lambda point: point.decode_seconds),
        }

    def tables(self) -> list[Table]:
        """Pictures, batches, and the naive decoder."""
        columns = (
            "encode, us/pixel", "decode, us/pixel", "encode, s", "decode, s", "memory, MB", "",
        )  # fmt: skip
        longest = max(_per_pixel(point)[1] for point in (*self.pictures, *self.batches))

        def row(name: str, point: Point) -> tuple[str, ...]:
            encode, decode = _per_pixel(point)
            peak = "" if point.peak_megabytes is None else short(point.peak_megabytes)
            return (
                name, short(encode), short(decode), short(point.encode_seconds),
                short(point.decode_seconds), peak, "#" * max(1, round(20 * decode / longest)),
            )  # fmt: skip

        pictures = [row(_size(point.pixels), point) for point in self.pictures]
        batches = [row(count(point.images, "image"), point) for point in self.batches]
        here = self.naive.seconds(self.naive.pixels)
        naive = [
            (
                f"{NAIVE_SIDE}x{NAIVE_SIDE}",
                f"{short(self.naive.fronts_seconds)} s",
                f"{short(here)} s",
                f"{short(here / self.naive.fronts_seconds)} x",
            )
        ]
        for point in self.pictures:
            seconds = self.naive.seconds(point.pixels)
            naive.append(
                (
                    _size(point.pixels),
                    f"{short(point.decode_seconds)} s",
                    f"{short(seconds / 86400)} days",
                    f"{short(seconds / point.decode_seconds)} x",
                )
            )
        all_of_them = count(self.machine["threads"], "thread")
        title = f"One picture, {self.network}, {all_of_them}"
        return [
            Table(title, ("size", *columns), tuple(pictures)),
            Table(f"Images of {SMALL}x{SMALL}, coded together", ("", *columns), tuple(batches)),
            Table(
                "Decoding, against a pass of the whole network for each pixel",
                ("size", "by fronts", "naive, extrapolated", "fronts are faster"),
                tuple(naive),
            ),
            *([shared_table(self.shared, self.machine["threads"])] if self.shared else []),
        ]

    def sentences(self) -> list[str]:
        """What to make of it, and where it was measured."""
        found = []
        for direction, power in self.growth().items():
            verdict = "which is at most linear" if power <= TOLERATED else "WHICH IS NOT LINEAR"
            found.append(f"The time to {direction} grows as pixels^{power:.2f}, {verdict}.")
        return [*found, machine_sentence(self.machine)]

    def plot(self) -> bytes:
        """Time per pixel over size, as PNG."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for axes, points, label, scale in (
            (left, self.pictures, "megapixels", 1e-6),
            (right, self.batches, f"images of {SMALL}x{SMALL}", SMALL**-2),
        ):
            sizes = [point.pixels * scale for point in points]
            encode, decode = zip(*map(_per_pixel, points), strict=True)
            axes.plot(sizes, encode, "o-", label="encode")
            axes.plot(sizes, decode, "s--", label="decode")
            axes.set_xscale("log")
            axes.set_xlabel(label)
            axes.set_ylabel("microseconds per pixel")
            axes.set_ylim(bottom=0)
            axes.legend()
        figure.suptitle(f"{self.network}: linear growth is a level line")
        stream = io.BytesIO()
        figure.savefig(stream, format="png", dpi=120)
        return stream.getvalue()


def measure(
    network: str,
    threads: int,
    repeat: int,
    up_to: float,
    progress: Callable[[float], None] = lambda _: None,
) -> Scaling:
    """Measure pictures up to so many megapixels, and batches of small images.

    Each in a fresh process, which is watched for its memory. Raises LossError if one does not come
    back, or if the naive decoder's parameters are not those of the coder.
    """
    coding.load_network(network)  # says what is wrong with it here and not in another process
    jobs = [(1, *_sides(size)) for size in MEGAPIXELS if size <= up_to]
    jobs += [(images, SMALL, SMALL) for images in BATCHES]
    total = sum(images * width * height for images, width, height in jobs)
    points, done = [], 0
    for images, width, height in jobs:
        with TemporaryDirectory() as folder:
            points.append(_point(network, _saved(folder, images, width, height), threads, repeat))
        done += images * width * height
        progress(0.9 * done / total)
    pictures = len(jobs) - len(BATCHES)
    return Scaling(
        network=network,
        machine=machine(threads, repeat),
        pictures=tuple(points[:pictures]),
        batches=tuple(points[pictures:]),
        naive=naive(network),
        shared=tuple(shared(network, threads, repeat)),
    )


def shared(network: str, threads: int, repeat: int) -> list[Shared]:
    """Measure what threads share, with one and with all; nothing if there is only one."""
    found = []
    for kind, images, width, height in SHARED if threads > 1 else ():
        each = f"{width}x{height}"
        with TemporaryDirectory() as folder:
            paths = _saved(folder, images, width, height, is_jpeg="JPEG" in kind)
            one, many = _in_turn(network, paths, (1, threads), repeat)
        name = f"a {kind} of {each}" if images == 1 else f"{images} {kind} of {each}"
        found.append(Shared(name, one, many))
    return found


def _in_turn(
    network: str, paths: Sequence[Path], threads: Sequence[int], repeat: int
) -> list[Point]:
    """With each number of threads, the better of two measurements of so many runs each.

    Turn by turn, so that whatever else the machine does falls on all of them; and all cores are
    the threads', so nobody looks at the memory.
    """

    def point(some: int) -> Point:
        encode, decode, pixels = memory.alone(_code, network, paths, some, repeat)
        return Point(len(paths), pixels, encode, decode, None)

    runs = [[point(some) for some in threads] for _ in range(2)]
    return [
        replace(
            points[0],
            encode_seconds=min(point.encode_seconds for point in points),
            decode_seconds=min(point.decode_seconds for point in points),
        )
        for points in zip(*runs, strict=True)
    ]


def shared_table(found: Sequence[Shared], threads: int) -> Table:
    """For people."""
    rows = [
        (
            one.name,
            f"{short(one.one.encode_seconds)} s",
            f"{one.gain['encode']:.2f} x",
            f"{short(one.one.decode_seconds)} s",
            f"{one.gain['decode']:.2f} x",
        )
        for one in found
    ]
    title = f"One thread, and how many times faster {threads} threads are"
    several = count(threads, "thread")
    return Table(title, ("", "encode", several, "decode", several), tuple(rows))


def _saved(
    folder: str, images: int, width: int, height: int, *, is_jpeg: bool = False
) -> list[Path]:
    """Pictures in files. To make them takes more memory than to code them, which is measured."""
    paths = [Path(folder) / f"{seed}.npy" for seed in range(images)]
    for seed, path in enumerate(paths):
        pixels = picture(width, height, seed)
        np.save(path, _as_jpeg(pixels) if is_jpeg else pixels)
    return paths


def _point(network: str, paths: Sequence[Path], threads: int, repeat: int) -> Point:
    (encode, decode, pixels), peak = memory.watch(_code, network, paths, threads, repeat)
    return Point(len(paths), pixels, encode, decode, peak)


def naive(network: str) -> Naive:
    """Compare the two ways to decode a small picture."""
    conditional = coding.load_network(network)
    if conditional is None:
        raise ValueError("without a network there is no naive decoder")
    pixels = picture(NAIVE_SIDE, NAIVE_SIDE)
    data = api.compress(pixels, network=network, threads=1)
    networks = [network]
    api.decompress_array(data, networks=networks, threads=1)
    started = time.perf_counter()
    api.decompress_array(data, networks=networks, threads=1)
    fronts = time.perf_counter() - started
    wanted = np.concatenate(list(conditional.parallel(pixels)))
    seconds = []
    for position in np.linspace(0, NAIVE_SIDE**2 - 1, NAIVE_PASSES).astype(int):
        known = pixels.reshape(-1, 3).copy()
        known[position + 1 :] = 0
        started = time.perf_counter()
        found = np.concatenate(list(conditional.parallel(known.reshape(pixels.shape))))
        seconds.append(time.perf_counter() - started)
        if not np.array_equal(found[position], wanted[position]):
            raise LossError(f"{network} looks at pixels that the decoder does not know yet")
    return Naive(NAIVE_SIDE**2, fronts, median(seconds))


def picture(width: int, height: int, seed: int = 0) -> NDArray[np.uint8]:
    """(height, width, 3): noise at all scales, as strong at each, and a little grain."""
    rng = np.random.default_rng(seed)
    total = rng.normal(128, 2, (height, width, 3)).astype(np.float32)
    for scale in (4, 16, 64, 256):
        grid = -(-height // scale) + 1, -(-width // scale) + 1
        brightness = rng.normal(0, 16, grid)
        for channel in range(3):
            noise = (brightness + rng.normal(0, 6, grid)).astype(np.float32)
            smooth = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
            total[..., channel] += np.asarray(smooth)
    return np.clip(np.rint(total), 0, 255).astype(np.uint8)


def _code(
    network: str, paths: Sequence[Path], threads: int, repeat: int
) -> tuple[float, float, int]:
    """In a fresh process: the median seconds to encode and to decode the pictures together.

    And their pixels.
    """
    networks = [network]
    batch = [np.load(path) for path in paths]
    warm = api.compress_many([batch[0][:WARM, :WARM]], network=network, threads=threads)
    api.decompress_many(warm, networks=networks, threads=threads)
    seconds = []
    for _ in range(repeat):
        started = time.perf_counter()
        encoded = api.compress_many(batch, network=network, threads=threads)
        between = time.perf_counter()
        decoded = api.decompress_many(encoded, networks=networks, threads=threads)
        seconds.append((between - started, time.perf_counter() - between))
        if not all(np.array_equal(a, np.asarray(b)) for a, b in zip(batch, decoded, strict=True)):
            raise LossError(f"{network} did not bring the pixels back")
    encode, decode = (median(column) for column in zip(*seconds, strict=True))
    return encode, decode, sum(one.shape[0] * one.shape[1] for one in batch)


def _as_jpeg(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90)  # with halved chroma
    return np.asarray(Image.open(stream))


def _size(pixels: float) -> str:
    return f"{pixels / 1e6:.1f} MP"


def _sides(megapixels: float) -> tuple[int, int]:
    """Width and height of a picture of so many megapixels, 3:2."""
    height = round(math.sqrt(megapixels * 1e6 / 1.5))
    return round(1.5 * height), height


def _per_pixel(point: Point) -> tuple[float, float]:
    """Microseconds to encode and to decode."""
    scale = 1e6 / point.pixels
    return point.encode_seconds * scale, point.decode_seconds * scale


def _power(points: tuple[Point, ...], seconds: Callable[[Point], float]) -> float:
    """The slope of time over pixels, both as logarithms, over the larger half of the sizes."""
    larger = points[-max(2, len(points) // 2 + 1) :]
    pixels = np.log([point.pixels for point in larger])
    return float(np.polyfit(pixels, np.log([seconds(point) for point in larger]), 1)[0])
