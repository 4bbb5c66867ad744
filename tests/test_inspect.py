"""The cost map: every bit of a file's payloads, at the pixel that took it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import pixelzip
from pixelzip import heatmap
from pixelzip.codec import cdf
from pixelzip.codec.container import Container, tile_grid, unpack
from pixelzip.codec.methods import Method
from pixelzip.codec.tiles import fronts
from pixelzip.models import zoo

COMMAND = str(Path(sys.executable).with_name("pixelzip"))
GOLDEN = Path(__file__).parent / "golden"

Bits = NDArray[np.float32]
Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the command in a folder with copies of some golden files; check its exit status."""
    for name in ("rgb-small.pxz", "bilevel.pxz"):
        (tmp_path / name).write_bytes((GOLDEN / name).read_bytes())

    def run(
        *arguments: object, status: int = 0, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        command = [COMMAND, *map(str, arguments)]
        done = subprocess.run(command, cwd=tmp_path, input=stdin, capture_output=True, timeout=300)
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert done.returncode == status, done.stderr.decode()
        return done

    return run


def payloads(container: Container) -> list[tuple[Method, int]]:
    """Method and bytes of each tile."""
    planes = [plane for component in container.components for plane in component.planes]
    return [(tile.method, len(tile.payload)) for plane in planes for tile in plane.tiles]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.pxz")), ids=lambda path: path.stem)
def test_the_map_adds_up_to_the_payloads(path: Path) -> None:
    """In every mode: alpha, high and low bytes, tiles of all methods."""
    container = unpack(path.read_bytes())
    bits = pixelzip.cost_map(path)
    assert (bits.shape, bits.dtype) == ((container.height, container.width), np.float32)
    assert bits.min() > 0
    overhead = 8 * pixelzip.info(path).payload_bytes - bits.sum(dtype=np.float64)
    network_tiles = sum(method.needs_network for method, _ in payloads(container))
    tables = sum(method == Method.BLOCKS for method, _ in payloads(container))
    # The coder takes the shortest number of its last interval, which can be a byte of luck. The
    # tables of a JPEG's coefficients are no pixel's.
    most = 40 * network_tiles + 320 * tables
    assert -0.01 - 8 * (network_tiles + tables) < overhead < 0.01 + most


@pytest.mark.parametrize("network", [None, "none"])
def test_an_origins_planes_and_corrections_add_up(
    crops: dict[str, NDArray[np.uint8]], network: str | None
) -> None:
    """A sample of chroma costs something at each of the pixels that it covers."""
    pixels = crops["flower-64x48"][1:, 1:]  # an odd crop, whose edges cut samples in two
    data = pixelzip.compress(pixels, network=network)
    container = unpack(data)
    (component,) = container.components
    assert len(component.planes) == 3
    assert component.corrections
    bits = pixelzip.cost_map(data)
    assert bits.shape == pixels.shape[:2]
    overhead = 8 * pixelzip.info(data).payload_bytes - bits.sum(dtype=np.float64)
    network_tiles = sum(method.needs_network for method, _ in payloads(container))
    assert network_tiles == (0 if network == "none" else 3)
    assert -0.01 - 8 * network_tiles < overhead < 0.01 + 40 * network_tiles


def test_joined_and_grey_components_add_up() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 4, (40, 30, 1), dtype=np.uint8)
    data = pixelzip.compress(np.tile(noise, 4), network="none")
    container = unpack(data)
    (component,) = container.components
    assert component.planes[0].layout.channels == 2  # grey and alpha, side by side
    bits = pixelzip.cost_map(data)
    assert bits.sum(dtype=np.float64) == pytest.approx(8 * payloads(container)[0][1])
    assert np.ptp(bits) == 0


def test_each_pixel_costs_what_the_decoder_reads_for_it(
    crops: dict[str, NDArray[np.uint8]],
) -> None:
    """The same map from the other face of the network: front by front, from its tables."""
    pixels = crops["flower-64x48"]
    data = pixelzip.compress(pixels, network="photo", origin="none", tile_size=32)
    container = unpack(data)
    network = zoo.load("photo")
    expected = np.zeros(pixels.shape[:2], np.float64)
    grid = tile_grid(container.height, container.width, 32)
    ((plane,),) = (component.planes for component in container.components)
    for tile, (top, left, height, width) in zip(plane.tiles, grid, strict=True):
        assert tile.method == Method.NETWORK
        stepper = network.stepwise([(height, width)], 3, [0])
        for [(_, numbers)] in fronts(network, [(height, width)]):
            rows, columns = np.divmod(numbers, width)
            stepper.select(np.zeros(len(rows), np.intp), rows, columns)
            for channel in range(3):
                values = pixels[top + rows, left + columns, channel]
                parameters = stepper.parameters(channel)
                high, low = (values >> 4).astype(np.int32), (values & 15).astype(np.int32)
                tables = cdf.high_table(parameters), cdf.low_table(parameters, high)
                for table, symbol in zip(tables, (high, low), strict=True):
                    frequency = table[np.arange(len(rows)), 1 + symbol].astype(np.float64) + 1
                    expected[top + rows, left + columns] += 24 - np.log2(frequency)
                stepper.reveal(channel, values)
    np.testing.assert_allclose(pixelzip.cost_map(data), expected, rtol=1e-5)


def test_tiles_and_threads_leave_each_cost_in_its_place(
    crops: dict[str, NDArray[np.uint8]],
) -> None:
    """A picture that is noise on the right is dear there, and only there, and flat tiles free."""
    pixels = crops["bikes-96x64"].copy()
    pixels[:, 48:] = np.random.default_rng(1).integers(0, 256, pixels[:, 48:].shape)
    pixels[:32, :32] = 77
    data = pixelzip.compress(pixels, tile_size=32)
    assert {Method.CONSTANT, Method.NETWORK} <= {method for method, _ in payloads(unpack(data))}
    bits = pixelzip.cost_map(data, threads=1)
    assert bits[:, 64:].mean() > 23.5
    assert bits[32:, :32].mean() < 16
    np.testing.assert_allclose(bits[:32, :32], 24 / 32**2)
    np.testing.assert_array_equal(pixelzip.cost_map(data, threads=3), bits)


def test_progress_grows_to_one() -> None:
    seen: list[float] = []
    pixelzip.cost_map(GOLDEN / "rgb-tiled.pxz", threads=1, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert any(0.1 < fraction < 0.45 for fraction in seen)
    assert any(0.55 < fraction < 0.95 for fraction in seen)


@pytest.mark.parametrize(
    ("most", "marks"),
    [
        (16.3, [0, 5, 10, 15, 20]),
        (1, [0, 0.25, 0.5, 0.75, 1]),
        (0.96, [0, 0.25, 0.5, 0.75, 1]),
        (23, [0, 5, 10, 15, 20, 25]),
        (1.2e-3, [0, 5e-4, 1e-3, 1.5e-3]),
    ],
)
def test_the_scale_ends_at_a_round_number_just_above(most: float, marks: list[float]) -> None:
    assert heatmap.scale(np.full((5, 5), most, np.float32)) == pytest.approx(marks)


def test_a_few_pixels_beyond_the_scale_share_its_end() -> None:
    bits = np.ones((100, 100), np.float32)
    bits[0, :20] = 400
    assert heatmap.scale(bits)[-1] == 1
    drawn = np.asarray(heatmap.paint(bits, 1).convert("RGB"))
    np.testing.assert_array_equal(drawn[0, 0], heatmap.PALETTE[255])
    np.testing.assert_array_equal(drawn[9, 9], heatmap.PALETTE[255])


def test_brighter_is_dearer_in_grey_as_well() -> None:
    luminance = heatmap.PALETTE @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > 0).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 700), (900, 2), (64, 48)])
def test_each_pixel_has_its_colour_in_the_picture(height: int, width: int) -> None:
    rng = np.random.default_rng(2)
    bits = rng.uniform(0.5, 20, (height, width)).astype(np.float32)
    drawn = np.asarray(heatmap.draw(bits))
    zoom = max(1, -(-480 // max(height, width)))
    painted = heatmap.paint(bits, heatmap.scale(bits)[-1]).convert("RGB")
    expected = np.asarray(painted).repeat(zoom, 0).repeat(zoom, 1)
    rows = np.flatnonzero((drawn != 255).any(axis=(1, 2)))
    top = int(rows[0])
    columns = np.flatnonzero((drawn[top] != 255).any(axis=1))
    left = int(columns[0])
    area = drawn[top : top + height * zoom, left : left + width * zoom]
    np.testing.assert_array_equal(area, expected)
    # Below it the scale, all of its colours in order, and text.
    below = drawn[top + height * zoom + 2 :]
    assert {tuple(c) for c in heatmap.PALETTE} <= {tuple(c) for c in below.reshape(-1, 3)}
    assert (below == [0x1D, 0x1B, 0x26]).all(axis=2).any()


def test_inspect_draws_the_map(run: Run, tmp_path: Path) -> None:
    done = run("inspect", "rgb-small.pxz", "-o", "bits.png")
    bits = pixelzip.cost_map(GOLDEN / "rgb-small.pxz")
    total = f"{bits.sum(dtype=np.float64):,.0f} bits"
    assert done.stdout.decode().startswith("rgb-small.pxz -> bits.png: 1,024 pixels took " + total)
    with Image.open(tmp_path / "bits.png") as image:
        assert image.format == "PNG"
        np.testing.assert_array_equal(np.asarray(image), np.asarray(heatmap.draw(bits)))

    refused = run("inspect", "bilevel.pxz", "-o", "bits.png", status=1)
    assert b"--force" in refused.stderr
    run("inspect", "bilevel.pxz", "-o", "bits.png", "--force", "--quiet")
    with Image.open(tmp_path / "bits.png") as image:
        assert image.size != (0, 0)
        again = heatmap.draw(pixelzip.cost_map(GOLDEN / "bilevel.pxz"))
        np.testing.assert_array_equal(np.asarray(image), np.asarray(again))


def test_inspect_without_a_name_never_takes_that_of_the_picture(run: Run, tmp_path: Path) -> None:
    (tmp_path / "bilevel.png").write_bytes(b"the original")
    run("inspect", "bilevel.pxz", "--force")
    assert (tmp_path / "bilevel.png").read_bytes() == b"the original"
    assert (tmp_path / "bilevel.bits.png").read_bytes()[1:4] == b"PNG"


def test_inspect_says_figures_to_programs(run: Run, tmp_path: Path) -> None:
    done = run("inspect", "--json", "-r", ".", "-o", "maps")
    told = {record["input"]: record for record in map(json.loads, done.stdout.splitlines())}
    assert set(told) == {"./bilevel.pxz", "./rgb-small.pxz"}
    assert {p.name for p in (tmp_path / "maps").iterdir()} == {
        "bilevel.bits.png",
        "rgb-small.bits.png",
    }
    record = told["./rgb-small.pxz"]
    bits = pixelzip.cost_map(GOLDEN / "rgb-small.pxz").astype(np.float64)
    assert record["output"] == "maps/rgb-small.bits.png"
    assert record["bytes_in"] == (GOLDEN / "rgb-small.pxz").stat().st_size
    assert record["bytes_out"] == (tmp_path / record["output"]).stat().st_size
    assert record["total_bits"] == pytest.approx(bits.sum())
    assert record["mean_bits"] == pytest.approx(bits.mean())
    assert record["median_bits"] == pytest.approx(np.median(bits))
    assert record["least_bits"] == pytest.approx(bits.min())
    assert record["most_bits"] == pytest.approx(bits.max())
    assert -8 < 8 * record["payload_bytes"] - record["total_bits"] < 40  # a byte of luck
    assert record["bytes_in"] - record["payload_bytes"] == 12


def test_inspect_works_in_a_pipe(run: Run) -> None:
    done = run("inspect", "-", "-o", "-", stdin=(GOLDEN / "bilevel.pxz").read_bytes())
    with Image.open(io.BytesIO(done.stdout)) as image:
        assert image.format == "PNG"
    assert b"6,144 pixels" in done.stderr


def test_what_cannot_be_inspected_is_said_in_a_sentence(run: Run, tmp_path: Path) -> None:
    whole = (tmp_path / "rgb-small.pxz").read_bytes()
    (tmp_path / "short.pxz").write_bytes(whole[:-100])
    (tmp_path / "wrong.pxz").write_bytes(whole[:-100] + bytes(100))
    kept = {p.name for p in tmp_path.iterdir()}
    for name in ("short.pxz", "wrong.pxz"):
        failed = run("inspect", name, "-o", "bits.png", status=1)
        assert re.fullmatch(f"{name}: error: the .*damaged.*\n", failed.stderr.decode())
    jpeg = run("inspect", "rgb-small.pxz", "-o", "bits.jpg", status=1)
    assert b"name it .png and not bits.jpg" in jpeg.stderr
    absent = run("inspect", "absent.pxz", "-o", "bits.png", status=1)
    assert absent.stderr == b"absent.pxz: error: No such file or directory\n"
    assert {p.name for p in tmp_path.iterdir()} == kept
