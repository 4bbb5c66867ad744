"""`pixelzip bench` as a user runs it: every figure is that of a real file, and adds up."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

import pixelzip
from pixelzip.bench import datasets, halved, page, report, run, tables
from pixelzip.bench.datasets import Dataset, DatasetError, Item
from pixelzip.bench.figures import CodecFigures, ImageFigures, Results
from pixelzip.bench.peers import PEERS
from pixelzip.codec.container import unpack
from pixelzip.models.networks.photo import Photo

COMMAND = str(Path(sys.executable).with_name("pixelzip"))
ROOT = Path(__file__).resolve().parent.parent


def bench(
    *arguments: object, status: int = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [COMMAND, "bench", *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == status, done.stderr
    return done


@pytest.fixture(scope="module")
def measured(
    tmp_path_factory: pytest.TempPathFactory, crop_paths: list[Path]
) -> tuple[Path, dict[str, Any]]:
    """A run on two pictures of which one is grey: what it wrote, and its JSON."""
    folder = tmp_path_factory.mktemp("bench")
    pictures = folder / "pictures"
    pictures.mkdir()
    with Image.open(crop_paths[-1]) as image:
        image.save(pictures / "colour.png")
        image.convert("L").resize((24, 20)).save(pictures / "grey.png")
    done = bench(
        *("--dataset", pictures, "--network", "photo", "--network", "none", "--threads", 1),
        *("--peers", "png,jpeg-xl-7,flif", "--reference", "png", "--repeat", 3),
        *("--json", folder / "f.json", "--csv", folder / "f.csv", "--report", folder / "report"),
        PATH=str(folder),  # where there is no flif
    )
    (folder / "stdout").write_text(done.stdout)
    return folder, json.loads((folder / "f.json").read_text())


def codec(figures: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [codec for codec in figures["codecs"] if codec["name"] == name]
    return dict(found)


def test_sizes_are_those_of_the_files(measured: tuple[Path, dict[str, Any]]) -> None:
    folder, figures = measured
    assert (figures["dataset"], figures["images"]) == (str(folder / "pictures"), 2)
    total, payload, stream = 0, 0, io.BytesIO()
    photo = codec(figures, "pixelzip photo")
    for image in photo["per_image"]:
        with Image.open(folder / "pictures" / image["name"]) as opened:
            data = pixelzip.compress(np.asarray(opened), network="photo")
            stream.seek(0)
            opened.save(stream, "PNG", optimize=True)
            stream.truncate()
        assert image["bytes"] == len(data)
        parts = unpack(data).components
        tiles = [tile for part in parts for plane in part.planes for tile in plane.tiles]
        aside = sum(len(part.corrections) + len(part.form.parameters) for part in parts)
        assert image["payload_bytes"] == sum(len(tile.payload) for tile in tiles) + aside
        # Of luma and chroma there are three tiles; to end each takes the coder some bits.
        assert (aside > 0) == (len(tiles) == 3)
        theory = pytest.approx(image["theoretical_bits"], abs=40 * len(tiles))
        assert 8 * image["payload_bytes"] == theory
        (png,) = [
            each["bytes"]
            for each in codec(figures, "PNG, optimised")["per_image"]
            if each["name"] == image["name"]
        ]
        assert png == len(stream.getvalue())
        total, payload = total + len(data), payload + image["payload_bytes"]
    subpixels = 32 * 32 * 3 + 24 * 20
    assert photo["bits_per_dim"] == pytest.approx(8 * total / subpixels)
    assert photo["payload_bits_per_dim"] == pytest.approx(8 * payload / subpixels)
    causes = {gap["cause"]: gap["bytes_per_image"] for gap in photo["gaps"]}
    assert causes["headers"] == pytest.approx((total - payload) / 2)
    assert set(causes) == {"coding", "headers"}


def test_what_there_is_not_is_null(measured: tuple[Path, dict[str, Any]]) -> None:
    _, figures = measured
    assert codec(figures, "pixelzip photo")["float_bits_per_dim"] is None
    assert codec(figures, "pixelzip none")["theoretical_bits_per_dim"] is None
    png = codec(figures, "PNG, optimised")
    assert png["payload_bits_per_dim"] is None
    assert png["nats_per_image"] is None
    assert not [each for each in figures["codecs"] if each["name"].startswith("FLIF")]
    assert any("no program flif" in note for note in figures["notes"])


def test_speeds_are_also_ratios(measured: tuple[Path, dict[str, Any]]) -> None:
    _, figures = measured
    png, photo = codec(figures, "PNG, optimised"), codec(figures, "pixelzip photo")
    assert (png["encode_relative"], png["decode_relative"]) == (1, 1)
    assert photo["decode_relative"] == pytest.approx(photo["decode_mps"] / png["decode_mps"])
    spent = sum(image["encode_seconds"] for image in photo["per_image"])
    assert photo["encode_mps"] == pytest.approx((32 * 32 + 24 * 20) / 1e6 / spent)
    assert photo["encode_seconds_per_image"] == pytest.approx(spent / 2)
    # Neither process holds PyTorch, which alone takes twice as much.
    assert png["peak_megabytes"] < photo["peak_megabytes"] < 150


def test_a_row_for_each_image(measured: tuple[Path, dict[str, Any]]) -> None:
    folder, figures = measured
    rows = list(csv.DictReader((folder / "f.csv").read_text().splitlines()))
    assert len(rows) == 2 * len(figures["codecs"])
    first = figures["codecs"][0]["per_image"][0]
    assert (rows[0]["name"], int(rows[0]["bytes"])) == (first["name"], first["bytes"])
    for row in rows:
        assert (row["machine.threads"], row["machine.repeat"]) == ("1", "3")
        assert row["machine.versions.torch"] == torch.__version__.partition("+")[0]


def test_tables_and_report(measured: tuple[Path, dict[str, Any]]) -> None:
    folder, figures = measured
    shown = (folder / "stdout").read_text()
    for each in figures["codecs"]:
        (line,) = [line for line in shown.splitlines() if f"{each['bits_per_dim']:.3f}" in line]
        assert each["name"] in line
    html = (folder / "report" / "index.html").read_text()
    assert "grey.png" in html
    assert f"{codec(figures, 'pixelzip photo')['bits_per_dim']:.3f}" in html


def test_outputs_are_not_overwritten(measured: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = measured
    before = (folder / "f.json").read_bytes()
    for option, file in (("--json", "f.json"), ("--report", "report")):
        error = bench("--dataset", folder / "pictures", option, folder / file, status=1).stderr
        assert "--force" in error
    assert (folder / "f.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--peers", "png,gif"], "gif is none of png"),
        (["--reference", "gif"], "gif"),
        (["--scaling", "--dataset", "x"], "--scaling measures pictures of its own"),
        (["--checkpoint", __file__, "--checkpoint", __file__], "more checkpoints than networks"),
    ],
)
def test_command_lines_that_make_no_sense(arguments: list[str], said: str) -> None:
    assert said in bench(*arguments, status=2).stderr


# In this process, on pictures that are small enough.


def dataset(pixels: np.ndarray[Any, Any]) -> Dataset:
    return Dataset("one", [Item("image", lambda: pixels)])


@pytest.fixture
def no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the processes that measure memory where that is not what is tested."""
    monkeypatch.setattr(run, "peak_megabytes", lambda *_: None)


@pytest.mark.usefixtures("no_memory")
def test_a_lossy_peer_is_left_out(crops: dict[str, Any]) -> None:
    def forget(data: bytes, threads: int) -> np.ndarray[Any, Any]:
        return PEERS["png"].decode(data, threads) & np.uint8(254)

    lossy = replace(PEERS["png"], key="lossy", name="Lossy", decode=forget)
    results = run.measure(dataset(crops["parrot-32x32"]), [PEERS["png"], lossy])
    assert [codec.name for codec in results.codecs] == ["PNG, optimised"]
    assert results.notes == ("Lossy is left out: image: Lossy did not bring the pixels back.",)


@pytest.mark.usefixtures("no_memory")
def test_a_lossy_network_is_an_error(
    crops: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = crops["parrot-32x32"]
    monkeypatch.setattr(pixelzip.api, "decompress_array", lambda *_, **__: pixels ^ np.uint8(1))
    with pytest.raises(run.LossError, match="did not bring the pixels back"):
        run.measure(dataset(pixels), run.networks(["none"]))


@pytest.mark.usefixtures("no_memory")
def test_a_decoded_jpeg_stands_beside_the_jpeg(tmp_path: Path, photo_path: Path) -> None:
    path = tmp_path / "a.jpg"
    with Image.open(photo_path) as image:
        image.resize((240, 160)).convert("L").save(path, quality=85)
    results = run.measure(datasets.load(str(path)), [*run.networks(["photo"]), PEERS["png"]])
    ours, peer = results.codecs
    assert ours.images[0].jpeg_bytes == len(pixelzip.compress(path))
    assert ours.over_jpegs == ours.images[0].over_jpeg
    assert peer.over_jpegs is None
    (table,) = [one for one in tables.all_tables(results) if "of decoded JPEGs" in one.title]
    (row,) = table.rows
    assert row[:3] == ("pixelzip photo", "1", "1")
    assert 0.9 < float(row[3]) < 1.1


@pytest.mark.usefixtures("no_memory")
def test_efforts_are_codecs_of_their_own(crops: dict[str, Any]) -> None:
    codecs = run.networks(["photo"], efforts=["photo", "max"])
    assert [codec.name for codec in codecs] == ["pixelzip photo", "pixelzip photo, effort max"]
    usual, greatest = run.measure(dataset(crops["bikes-96x64"]), codecs).codecs
    (few,), (many,) = greatest.images, usual.images
    assert few.bytes < many.bytes
    assert few.theoretical_bits == pytest.approx(8 * few.bytes, rel=0.02)


def test_networks_that_are_named_have_their_checkpoints() -> None:
    codecs = run.networks(["photo", "tiny"], [Path("photo.pt")], efforts=["fast", "photo"])
    assert [(codec.name, codec.network, codec.checkpoint) for codec in codecs] == [
        ("pixelzip photo, effort fast", "photo", Path("photo.pt")),
        ("pixelzip photo", "photo", Path("photo.pt")),
        ("pixelzip tiny, effort fast", "tiny", None),
        ("pixelzip tiny", "tiny", None),
    ]


@pytest.mark.usefixtures("no_memory")
def test_by_itself_pixelzip_is_measured_as_users_have_it(crops: dict[str, Any]) -> None:
    codecs = run.networks([], efforts=["fast", "photo"])
    assert [codec.name for codec in codecs] == ["pixelzip, effort fast", "pixelzip, default"]
    large, small = crops["bikes-96x64"], crops["parrot-32x32"]
    for pixels in (large, small, small[..., 1]):
        for codec, found in zip(codecs, run.measure(dataset(pixels), codecs).codecs, strict=True):
            (image,) = found.images
            assert image.bytes == len(pixelzip.compress(pixels, effort=codec.effort))
            assert image.theoretical_bits == pytest.approx(8 * image.bytes, rel=0.05)


@pytest.mark.usefixtures("no_memory")
def test_binary_images_have_nats(crops: dict[str, Any]) -> None:
    bits = crops["parrot-32x32"][..., 0] > 100
    results = run.measure(dataset(bits), [*run.networks(["photo"]), PEERS["png"], PEERS["webp"]])
    for figures in results.to_json()["codecs"]:
        assert figures["nats_per_image"] == pytest.approx(
            8 * math.log(2) * figures["per_image"][0]["bytes"]
        )
    assert "file, nats/image" in tables.sizes(results).columns


@pytest.mark.usefixtures("no_memory")
def test_the_float_network_has_a_theory_too(crops: dict[str, Any], tmp_path: Path) -> None:
    """Of a checkpoint, in colour and in grey, where only one sub-pixel a pixel counts."""
    from pixelzip.models.freezing.freeze import freeze_checkpoint

    torch.manual_seed(0)
    network = Photo(tiny.CONFIG).eval()
    checkpoint, frozen = tmp_path / "checkpoint.pt", tmp_path / "tiny.safetensors"
    torch.save(
        {
            "network_name": "photo",
            "architecture": vars(tiny.CONFIG),
            "average": network.state_dict(),
            "calibration": tiny.sample(crops.values()),
            "pixels": 0,
            "seconds": 0.0,
        },
        checkpoint,
    )
    freeze_checkpoint(checkpoint, frozen)
    mixed = crops["parrot-32x32"][..., ::-1]  # blue, green, red: no origin makes that
    grey = crops["parrot-32x32"][..., 1]
    for pixels, channels in ((mixed, 3), (grey, 1)):
        (figures,) = run.measure(dataset(pixels), run.networks([str(frozen)], [checkpoint])).codecs
        assert figures.name == "pixelzip tiny"
        colour = torch.from_numpy(np.broadcast_to(pixels.reshape(32, 32, -1), (32, 32, 3)).copy())
        with torch.no_grad():
            nats = -network(colour[None])[..., :channels].mean()
        assert figures.float_bits_per_dim == pytest.approx(float(nats) / math.log(2), rel=1e-4)
        # Freezing costs a network that was never trained more than it costs one that was.
        assert figures.theoretical_bits_per_dim == pytest.approx(
            figures.float_bits_per_dim, rel=0.2
        )
        assert [gap.cause for gap in figures.gaps] == ["freezing", "coding", "headers"]


@pytest.mark.parametrize("key", PEERS)
def test_peers_are_lossless_where_they_run(key: str, crops: dict[str, Any]) -> None:
    """What a format has no image for, it may refuse; it may never lose."""
    peer, colour = PEERS[key], crops["parrot-32x32"]
    if peer.missing():
        pytest.skip(str(peer.missing()))
    kinds = {
        "colour": colour,
        "grey": colour[..., 1],
        "alpha": np.dstack([colour, colour[..., 0]]),
        "grey with alpha": colour[..., :2],
        "bits": colour[..., 0] > 100,
        "deep": colour[..., 0].astype(np.uint16) * 250,
    }
    kept = []
    for name, pixels in kinds.items():
        try:
            data = peer.compress(np.ascontiguousarray(pixels), 2)
        except Exception:
            continue
        restored = peer.restore(data, 2, pixels)
        assert restored.dtype == pixels.dtype
        assert np.array_equal(restored, pixels), name
        kept.append(name)
    assert {"colour", "grey", "bits"} <= set(kept)


@pytest.mark.parametrize("key", ["flif", "paq8px"])
def test_programs_on_the_path(
    key: str, crops: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in with the program's command line, which keeps the picture's file as it is."""
    peer = PEERS[key]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert peer.missing() is not None
    stand_in = tmp_path / key
    # Like paq8px, it adds a suffix of its own to what it packs.
    stand_in.write_text(
        f"#!{sys.executable}\nimport shutil, sys\n*options, source, target = sys.argv[1:]\n"
        "shutil.copy(source, target if options == ['-d'] else target + '.own')\n"
    )
    stand_in.chmod(0o755)
    assert peer.missing() is None
    for pixels in (crops["parrot-32x32"], crops["parrot-32x32"][..., 1]):
        data = peer.compress(pixels, 1)
        assert np.array_equal(peer.restore(data, 1, pixels), pixels)


# The page.


def figures_of(name: str, size: int, speed: float, network: bool = False) -> CodecFigures:
    image = ImageFigures("a", 100, 100, 30_000, size, None, None, None, 1 / speed, 1 / speed)
    if network:
        image = replace(image, plain_bytes=9500, origin="a scan")
    return CodecFigures(name, network, (image,), None)


def made_up(dataset: str) -> Results:
    codecs = (
        figures_of("Old", 9000, 9),
        figures_of("Ours", 8000, 1, True),
        figures_of("X", 7600, 2),
    )
    return Results(dataset, 1, run.machine(2, 1), codecs, reference="X")


def test_the_page_says_where_networks_lose() -> None:
    text = page.page([made_up("Kodak"), made_up("CIFAR"), made_up("MNIST")])
    assert "- Smaller files than Ours: X by 5.0 %.\n" in text
    assert "- Ours against X: +5.3 % of its bytes.\n" in text
    assert "- Faster to decode than Ours: all others.\n" in text
    assert "| Ours | a scan | 1 |\n" in text
    assert "| Ours | a | 8,000 | 9,500 | -15.79% |\n" in text
    assert "| **Ours** | 2.133 | 2.533 | 2.133 | 0.0100 | 0.0100 |\n" in text


def test_photographs_without_an_origin(tmp_path: Path, photo_path: Path) -> None:
    folder, small = tmp_path / "photos", tmp_path / "small"
    folder.mkdir()
    with Image.open(photo_path) as photo:
        photo.crop((0, 0, 97, 64)).convert("RGB").save(folder / "a.jpg", quality=90)
    command = [sys.executable, "-m", "pixelzip.bench.halved", folder, "-o", small]
    subprocess.run(command, check=True, timeout=300)
    (item,) = halved.dataset(folder).items
    with Image.open(small / "a.png") as image:
        assert image.size == (48, 32)
        assert np.array_equal(np.asarray(image), item.load())
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DatasetError, match="there are no images"):
        halved.dataset(tmp_path / "nothing")
    text = page.page([made_up("Kodak"), made_up("CIFAR"), made_up(halved.NAME)])
    assert f"({page.PLOT})" in text.partition(halved.NAME)[2]
    with Image.open(io.BytesIO(report.speeds(made_up("any")))) as plot:
        assert plot.format == "PNG"


def test_the_readme_gets_its_table() -> None:
    table = page.summary(made_up("Kodak"), made_up("CIFAR"))
    before = (ROOT / "README.md").read_text()
    after = page.with_table(before, table)
    assert table.markdown() in after
    assert after.partition(table.markdown())[2] in before
    with pytest.raises(ValueError, match="0 tables"):
        page.with_table("no table", table)


def test_readme_and_page_agree() -> None:
    results = ROOT / "docs" / "benchmarks.md"
    if not results.exists():
        pytest.skip("make bench has not been run yet")
    head = f"| {' | '.join(page.SUMMARY)} |\n"
    readme, written = (
        (head + text.partition(head)[2]).partition("\n\n")[0]
        for text in ((ROOT / "README.md").read_text(), results.read_text())
    )
    assert readme == written
