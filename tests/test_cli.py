"""The `pixelzip` command, always as a real process in a folder of its own."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
import random
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from fuzzing import damage, damage_field
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import pixelzip
from pixelzip import files
from pixelzip.cli import MODULES, cli
from pixelzip.codec.container import MIN_TILE, SEAL, seal
from pixelzip.commands.compress import judge
from pixelzip.meter import Meter
from pixelzip.models import zoo

COMMAND = str(Path(sys.executable).with_name("pixelzip"))
GOLDEN = Path(__file__).parent / "golden"
KEYS = [
    "input",
    "output",
    "width",
    "height",
    "mode",
    "bytes_in",
    "bytes_out",
    "bits_per_dim",
    "seconds",
    "networks",
    "verdict",
    "notes",
    "not_kept",
]

Run = Callable[..., subprocess.CompletedProcess[bytes]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the command in an empty folder; check its exit status."""

    def run(
        *arguments: object, status: int = 0, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        command = [COMMAND, *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, input=stdin, capture_output=True, timeout=60, check=False
        )
        assert b"Traceback" not in done.stderr, done.stderr.decode()
        assert done.returncode == status, done.stderr.decode()
        return done

    return run


@pytest.fixture
def photo(tmp_path: Path, crop_paths: list[Path]) -> Path:
    """A small photograph in the folder, with a text and a resolution."""
    text = PngInfo()
    text.add_text("Author", "Jürgen")
    with Image.open(next(path for path in crop_paths if path.stem == "flower-64x48")) as image:
        pixels = Image.fromarray(np.asarray(image))
    pixels.save(tmp_path / "photo.png", pnginfo=text, dpi=(300, 300))
    return tmp_path / "photo.png"


def same_pixels(one: Path, other: Path) -> bool:
    with Image.open(one) as mine, Image.open(other) as theirs:
        return mine.mode == theirs.mode and np.array_equal(np.asarray(mine), np.asarray(theirs))


def listing(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def reports_of(output: bytes) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What ``--json`` says of each file, and the totals."""
    *told, last = [json.loads(line) for line in output.splitlines()]
    assert list(last) == ["totals"]
    assert last["totals"]["files"] == len(told)
    return told, last["totals"]


def error_of(done: subprocess.CompletedProcess[bytes]) -> str:
    """The one line on standard error."""
    (line,) = done.stderr.decode().splitlines()
    return line


# There and back.


def test_there_and_back(run: Run, photo: Path) -> None:
    before = photo.read_bytes()
    done = run("compress", "photo.png", "--network", "none")
    packed = photo.with_suffix(".pxz")
    size = packed.stat().st_size
    bits = size * 8 / (64 * 48 * 3)
    line = rf"photo\.png -> photo\.pxz: {len(before):,} -> {size:,} bytes, {bits:.3f} bits/dim, "
    assert re.fullmatch(line + r"\d+\.\d\d s\n", done.stdout.decode())
    assert done.stderr == b""
    assert photo.read_bytes() == before

    run("decompress", "photo.pxz", "-o", "back.png")
    back = photo.with_name("back.png")
    assert same_pixels(photo, back)
    with Image.open(photo) as want, Image.open(back) as got:
        assert got.info == want.info
    photo.unlink()
    run("decompress", "photo.pxz")
    assert photo.read_bytes() == back.read_bytes()
    assert listing(photo.parent) == {"photo.png", "photo.pxz", "back.png"}


def test_module_is_the_command(photo: Path) -> None:
    command = [sys.executable, "-m", "pixelzip", "compress", photo, "-n", "none", "-q"]
    done = subprocess.run(command, cwd=photo.parent, capture_output=True, timeout=60, check=True)
    assert done.stdout + done.stderr == b""
    assert photo.with_suffix(".pxz").exists()


def test_the_default_network(run: Run, photo: Path) -> None:
    (report,), _ = reports_of(run("compress", "photo.png", "--json").stdout)
    assert report["networks"] == ["luma", "chroma"]
    run("verify", "photo.pxz", "--against", "photo.png")
    assert b"networks: luma, chroma\n" in run("info", "photo.pxz").stdout
    cards = [json.loads(line) for line in run("networks", "--json").stdout.splitlines()]
    assert {"luma", "chroma", "photo"} <= {card["name"] for card in cards}
    assert b"photo" in run("networks").stdout
    assert b"row-lstm" in run("networks", "--architectures").stdout
    assert photo.with_suffix(".pxz").read_bytes() == pixelzip.compress(photo)
    run("decompress", "photo.pxz", "-o", "back.png", "--threads", 1)
    assert same_pixels(photo, photo.with_name("back.png"))


def test_pipes(run: Run, photo: Path) -> None:
    packed = run("compress", "-", "--network=none", stdin=photo.read_bytes())
    assert packed.stdout.startswith(b"\xf5z")
    assert b"- -> -: " in packed.stderr
    back = run("decompress", "-", stdin=packed.stdout)
    with Image.open(photo) as want, Image.open(io.BytesIO(back.stdout)) as got:
        np.testing.assert_array_equal(got, want)
    run("decompress", "-", "-o", "named.png", stdin=packed.stdout)
    assert same_pixels(photo, photo.with_name("named.png"))
    assert run("compress", "photo.png", "-o", "-", "-n", "none", "-q").stdout == packed.stdout
    (report,), _ = reports_of(run("compress", "photo.png", "-o-", "-nnone", "--json").stderr)
    assert (report["output"], report["bytes_out"]) == ("-", len(packed.stdout))
    assert b"intact" in run("verify", "-", stdin=packed.stdout).stdout
    assert b"64 x 48 pixels" in run("info", "-", stdin=packed.stdout).stdout


def test_other_formats(run: Run, photo: Path) -> None:
    run("compress", "photo.png", "-n", "none")
    for suffix in ("tif", "bmp", "ppm"):
        done = run("decompress", "photo.pxz", "-o", f"back.{suffix}", status=3)
        assert same_pixels(photo, photo.with_name(f"back.{suffix}"))
        assert f"note: .{suffix} files cannot hold its " in error_of(done)
    run("decompress", "photo.pxz", "-o", "back.npy", "--quiet", status=3)
    with Image.open(photo) as image:
        np.testing.assert_array_equal(np.load(photo.with_name("back.npy")), image)
    done = run("decompress", "photo.pxz", "-o", "back.jpg", status=1)
    assert "back.jpg" not in listing(photo.parent)
    assert error_of(done).startswith("photo.pxz: error: .jpg files cannot be written without loss;")


def test_sixteen_bits(run: Run, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 65536, (9, 7, 3), dtype=np.uint16)
    (tmp_path / "deep.pxz").write_bytes(pixelzip.compress(array, network="none"))
    run("decompress", "deep.pxz")
    run("compress", "deep.png", "-o", "again.pxz", "-n", "none")
    np.testing.assert_array_equal(pixelzip.decompress_array(tmp_path / "again.pxz"), array)


# Several files and folders.


@pytest.fixture
def album(tmp_path: Path, crop_paths: list[Path]) -> Path:
    folder = tmp_path / "album"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    shutil.copy(crop_paths[0], folder / "a.png")
    shutil.copy(crop_paths[1], folder / "deep" / "b.PNG")
    shutil.copy(crop_paths[2], folder / "deep" / "er" / "c.png")
    shutil.copy(crop_paths[3], folder / ".hidden" / "d.png")
    (folder / "notes.txt").write_text("not a picture")
    return folder


@pytest.mark.parametrize("jobs", [1, 2])
def test_folders(run: Run, album: Path, jobs: int) -> None:
    options = ["-n", "none", "--jobs", jobs]
    done = run("compress", "--recursive", "album", "-o", "packed", *options, status=3)
    packed = album.with_name("packed")
    assert listing(packed) == {"a.pxz", "deep/b.pxz", "deep/er/c.pxz"}
    *reports, totals, skipped, unneeded = done.stdout.decode().splitlines()
    names = [line.split(" -> ")[0] for line in reports]
    assert names == ["album/a.png", "album/deep/b.PNG", "album/deep/er/c.png"]
    assert error_of(done) == "album/notes.txt: skipped: not an image by its name"
    sizes = [sum(path.stat().st_size for path in paths) for paths in (
        [album / "a.png", *(album / "deep").rglob("*.[pP]*")], packed.rglob("*.pxz"))]  # fmt: skip
    assert totals.startswith(
        f"5 files: 3 done, 1 skipped, 1 unneeded; {sizes[0]:,} -> {sizes[1]:,} bytes "
        f"({sizes[1] / sizes[0]:.1%}), "
    )
    assert skipped == "  skipped: not an image by its name (1)"
    assert unneeded == "  unneeded: hidden (1)"

    done = run("verify", "-r", "packed", "--jobs", jobs)
    *reports, totals = done.stdout.decode().splitlines()
    assert reports == [
        "packed/a.pxz: intact",
        "packed/deep/b.pxz: intact",
        "packed/deep/er/c.pxz: intact",
    ]
    assert totals.startswith(f"3 files: 3 done; {sizes[1]:,} bytes, ")
    run("decompress", "-r", "packed", "--output", "back", "-j", jobs)
    assert listing(album.with_name("back")) == {"a.png", "deep/b.png", "deep/er/c.png"}
    for name, original in [("a.png", "a.png"), ("deep/b.png", "deep/b.PNG")]:
        assert same_pixels(album.with_name("back") / name, album / original)
    # Next to the originals without -o; the second time they are in the way, unless forced.
    run("compress", "-r", "album", *options, status=3)
    assert {"a.pxz", "deep/b.pxz", "deep/er/c.pxz"} < listing(album)
    done = run("compress", "-r", "album", *options, status=1)
    assert done.stderr.count(b"exists already; add --force") == 3
    run("compress", "-r", "album", "--force", *options, status=3)


@pytest.mark.parametrize("jobs", [1, 2])
def test_one_failure_does_not_stop_the_others(run: Run, album: Path, jobs: int) -> None:
    names = ["album/a.png", "album/none.png", "album/notes.txt", "album/deep", "album/deep/b.PNG"]
    done = run("compress", *names, "-o", "out/", "-n", "none", "-j", jobs, "--json", status=1)
    reports, totals = reports_of(done.stdout)
    assert totals["verdicts"] == {"done": 2, "failed": 3}
    assert [report["input"] for report in reports] == names
    for report in (reports[0], reports[4]):
        assert list(report) == KEYS
    errors = [report["error"] for report in reports[1:4]]
    keys = ["input", "error", "verdict", "notes", "not_kept"]
    assert [list(report) for report in reports[1:4]] == [keys] * 3
    assert errors[0] == "No such file or directory"
    assert errors[1].startswith("the file is not an image that pixelzip reads (AVIF, BMP, GIF,")
    assert errors[2] == "it is a folder; add --recursive"
    assert listing(album.with_name("out")) == {"a.pxz", "b.pxz"}
    # The same for people: a sentence each on standard error.
    done = run("compress", *names, "-n", "none", "-j", jobs, status=1)
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "album/none.png: error: No such file or directory"
    assert len(lines) == 3
    *reports, totals = done.stdout.decode().splitlines()
    assert len(reports) == 2
    assert totals.startswith("5 files: 2 done, 3 failed; ")


def test_json(run: Run, photo: Path) -> None:
    (report,), totals = reports_of(run("compress", photo, "-n", "none", "--json").stdout)
    size = photo.with_suffix(".pxz").stat().st_size
    assert list(report) == KEYS
    assert 0 < report.pop("seconds") < 60
    assert report == {
        "input": str(photo),
        "output": str(photo.with_suffix(".pxz")),
        "width": 64,
        "height": 48,
        "mode": "RGB",
        "bytes_in": photo.stat().st_size,
        "bytes_out": size,
        "bits_per_dim": pytest.approx(size * 8 / 9216, abs=1e-6),
        "networks": [],
        "verdict": "done",
        "notes": [],
        "not_kept": [],
    }
    assert 0 < totals.pop("seconds") < 60
    assert totals == {
        "files": 1,
        "verdicts": {"done": 1},
        "bytes_in": photo.stat().st_size,
        "bytes_out": size,
        "larger": 0,
        "removed": 0,
        "skipped": {},
        "unneeded": {},
        "not_kept": {},
        "ratio": pytest.approx(size / photo.stat().st_size, abs=1e-6),
    }
    (back,), _ = reports_of(run("decompress", "photo.pxz", "-o", "b.png", "--json").stdout)
    assert list(back) == KEYS
    assert (back["bytes_in"], back["output"]) == (size, "b.png")
    about = json.loads(run("info", "photo.pxz", "--json").stdout)
    assert set(KEYS) < set(about)
    assert (about["width"], about["output"], about["metadata"]) == (
        64,
        None,
        ["text", "resolution"],
    )
    (checked,), _ = reports_of(run("verify", "photo.pxz", "--json").stdout)
    assert list(checked) == KEYS


def test_info(run: Run, photo: Path) -> None:
    run("compress", "photo.png", "-n", "none", "--origin", "none")
    lines = run("info", "photo.pxz").stdout.decode().splitlines()
    size = photo.with_suffix(".pxz").stat().st_size
    assert lines[0] == "photo.pxz:"
    assert lines[1] == "  64 x 48 pixels, mode RGB"
    assert lines[2].startswith(f"  {size:,} bytes for 9,216 sub-pixels, ")
    assert lines[3] == "  networks: none"
    assert re.fullmatch(r"  64 x 48, 3 channels in 1 tile \(1 packed\): [\d,]+ bytes", lines[4])
    assert lines[5].startswith("  metadata: text, resolution; ")
    assert b"not a .pxz file" in run("info", "photo.png", status=1).stderr


def test_info_tells_what_was_found(run: Run, photo: Path) -> None:
    run("compress", "photo.png", "-n", "none")
    lines = run("info", "photo.pxz").stdout.decode().splitlines()
    assert lines[4].startswith("  colour: luma and chroma, as converted by PhotoCD; chroma halved")
    sizes = [line.partition(":")[0] for line in lines[5:8]]
    assert sizes == [
        "  64 x 48, 1 channel in 1 tile (1 packed)",
        *["  33 x 25, 1 channel in 1 tile (1 packed)"] * 2,
    ]
    assert lines[8].startswith("  metadata: ")
    about = json.loads(run("info", "photo.pxz", "--json").stdout)
    assert [f"  {words}" for words in about["found"]] == lines[4:5]


def test_info_needs_no_network_code(photo: Path) -> None:
    packed = photo.with_suffix(".pxz")
    packed.write_bytes(pixelzip.compress(photo, network="none"))
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(
        [COMMAND, "info", packed], env=environment, capture_output=True, timeout=60, check=True
    )
    assert b"pixelzip.codec" in done.stderr
    assert b"torch" not in done.stderr


# Options.


def test_strip(run: Run, photo: Path) -> None:
    run("compress", "photo.png", "--strip", "-n", "none")
    assert pixelzip.info(photo.with_suffix(".pxz")).metadata == ()
    done = run("verify", "photo.pxz", "--against", "photo.png", status=3)
    assert done.stdout.decode() == (
        "photo.pxz: intact, with the pixels of photo.png, but not the same metadata: "
        "text, resolution\n"
    )


def test_tile(run: Run, photo: Path) -> None:
    for size in (0, MIN_TILE):
        run("compress", "photo.png", "--tile", size, "-n", "none", "--force", "--threads", 2)
        run("verify", "photo.pxz", "--against", "photo.png")
    done = run("compress", "photo.png", "--tile", MIN_TILE - 1, status=2)
    assert b"must be 0 (the largest) or at least 16" in done.stderr


def test_class(run: Run, photo: Path) -> None:
    done = run("compress", "photo.png", "-n", "photo", "--class", 1, status=1)
    expected = "photo.png: error: the network photo has no classes: leave out class 1"
    assert error_of(done) == expected
    assert "name the network" in error_of(run("compress", "photo.png", "--class", 1, status=1))


MEASURED = """
import atexit, re
from pixelzip.cli import main
def tell():
    print(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
atexit.register(tell)
main()
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks into /proc")
def test_damaged_files_take_little_memory(tmp_path: Path) -> None:
    """All of the process, with libraries and networks; files of a few hundred bytes took 887 MB."""
    golden = [path.read_bytes() for path in sorted(GOLDEN.rglob("*.pxz"))]
    small = [data for data in golden if len(data) < 2000]
    names = []
    for number in range(120):
        chance = Random(number)
        data, donor = chance.choice(small), chance.choice(small)
        if number % 2 and not pixelzip.holds_jpeg(data):
            hurt = damage_field(data, donor, chance)
        else:
            hurt = seal(damage(data[:-SEAL], donor[:-SEAL], chance))
        names.append(f"{number}.pxz")
        (tmp_path / names[-1]).write_bytes(hurt)
    command = [sys.executable, "-c", MEASURED, "verify", "-q", "--max-pixels", str(1 << 20), *names]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count(b": error: ") == len(done.stderr.splitlines()) > 80
    assert int(done.stdout) < 400 << 10


def test_verify_finds_damage(run: Run, photo: Path) -> None:
    run("compress", "photo.png", "-n", "none")
    packed = photo.with_suffix(".pxz")
    good = packed.read_bytes()
    packed.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
    assert error_of(run("verify", "photo.pxz", status=1)).startswith(
        "photo.pxz: error: the file is"
    )
    assert "back.png" not in listing(photo.parent)
    run("decompress", "photo.pxz", "-o", "back.png", status=1)
    assert "back.png" not in listing(photo.parent)
    packed.write_bytes(good)
    with Image.open(photo) as image:
        pixels = np.asarray(image).copy()
    pixels[7, 5, 2] ^= 1
    Image.fromarray(pixels).save(photo.with_name("other.png"))
    done = run("verify", "photo.pxz", "--against", "other.png", status=1)
    assert error_of(done) == "photo.pxz: error: its pixels differ: it is not other.png"
    Image.fromarray(pixels[:9]).save(photo.with_name("small.png"))
    done = run("verify", "photo.pxz", "--against", "small.png", status=1)
    sizes = "its size is 64 x 48 and not 64 x 9"
    assert error_of(done) == f"photo.pxz: error: {sizes}: it is not small.png"
    done = run("verify", "photo.pxz", "photo.pxz", "--against", "photo.png", status=2)
    assert b"--against compares one file" in done.stderr


def test_jpeg_comes_back_as_the_file_that_it_was(run: Run, photo: Path) -> None:
    jpeg = photo.with_name("small.JPG")
    with Image.open(photo) as image:
        image.save(jpeg, "JPEG", quality=80)
    original = jpeg.read_bytes()
    run("compress", "small.JPG")
    jpeg.rename(photo.with_name("moved.jpg"))
    assert photo.with_name("small.pxz").stat().st_size < 0.95 * len(original)
    done = run("info", "small.pxz")
    assert f"a JPEG file (.JPG) of {len(original):,} bytes, byte for byte".encode() in done.stdout
    run("verify", "small.pxz", "--against", "moved.jpg")
    done = run("verify", "small.pxz", "--against", photo.name, status=1)
    why = "it holds a JPEG file and no picture"
    assert error_of(done) == f"small.pxz: error: {why}: it is not {photo.name}"
    run("decompress", "small.pxz")
    assert jpeg.read_bytes() == original
    run("decompress", "small.pxz", "-o", "back.jpeg")
    assert photo.with_name("back.jpeg").read_bytes() == original
    run("decompress", "small.pxz", "-o", "pixels.png")
    with Image.open(jpeg) as wanted, Image.open(photo.with_name("pixels.png")) as pixels:
        assert pixels.tobytes() == wanted.tobytes()
    run("inspect", "small.pxz")
    assert "small.bits.png" in listing(photo.parent)


def test_pixels_of_a_jpeg(run: Run, photo: Path) -> None:
    with Image.open(photo) as image:
        image.save(photo.with_name("small.jpg"))
    for options in (["--pixels"], ["-n", "none"], ["--strip"]):
        run("compress", "small.jpg", *options, "--quiet", "--force")
        assert not pixelzip.holds_jpeg(photo.with_name("small.pxz"))
    run("decompress", "small.pxz")
    assert "small.png" in listing(photo.parent)


def test_jpeg_in_a_pipe_and_a_folder(run: Run, photo: Path) -> None:
    folder = photo.with_name("album")
    folder.mkdir()
    with Image.open(photo) as image:
        image.save(folder / "one.jpg")
        image.save(folder / "two.jpeg", "JPEG", progressive=True)
    jpeg = (folder / "one.jpg").read_bytes()
    piped = run("compress", "-", "-o", "-", stdin=jpeg).stdout
    assert run("decompress", "-", "-o", "-", stdin=piped).stdout == jpeg
    run("compress", "-r", "album", "-o", "archive")
    run("decompress", "-r", "archive", "-o", "restored")
    for name in ("one.jpg", "two.jpeg"):
        assert (photo.with_name("restored") / name).read_bytes() == (folder / name).read_bytes()


def test_a_jpeg_without_a_model_is_said_to_be_kept(run: Run, photo: Path) -> None:
    photo.with_name("odd.jpg").write_bytes(b"\xff\xd8\xff\xd9 and more")
    done = run("compress", "odd.jpg")
    first, second = done.stderr.decode().splitlines()
    assert first.startswith("odd.jpg: note: kept as it is: ")
    assert second.startswith("odd.jpg: note: larger than the original by ")
    run("decompress", "odd.pxz", "-o", "back.jpg")
    assert photo.with_name("back.jpg").read_bytes() == b"\xff\xd8\xff\xd9 and more"
    run("decompress", "odd.pxz", "-o", "back.png", status=1)


def test_devices(run: Run, photo: Path) -> None:
    run("compress", photo.name, "--device", "cpu", "-o", "on-cpu.pxz")
    there_is_one = torch.cuda.is_available()
    asked = run(
        "compress", photo.name, "--device", "cuda", "-o", "on-gpu.pxz", status=int(not there_is_one)
    )
    if there_is_one:
        on_cpu, on_gpu = photo.with_name("on-cpu.pxz"), photo.with_name("on-gpu.pxz")
        assert on_gpu.read_bytes() == on_cpu.read_bytes()
    else:
        assert "no CUDA device" in error_of(asked)


def test_help_version_completion(run: Run) -> None:
    assert run("--version").stdout.decode() == f"pixelzip {version('pixelzip')}\n"
    listed = re.findall(r"^  (\w+)  ", run("-h").stdout.decode(), re.MULTILINE)
    commands = [name for name in listed if name != "pixelzip"]
    assert commands[:-2] == list(MODULES)
    assert "bench" in commands
    for shell in ("bash", "zsh", "fish"):
        script = run("completion", shell).stdout.decode()
        assert f"_PIXELZIP_COMPLETE={shell}_complete" in script
    assert b"Invalid value" in run("completion", "cmd.exe", status=2).stderr


def test_completion_completes(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "_PIXELZIP_COMPLETE": "bash_complete",
        "COMP_WORDS": "pixelzip com",
        "COMP_CWORD": "1",
    }
    done = subprocess.run([COMMAND], env=environment, capture_output=True, timeout=60, check=True)
    found = done.stdout.decode().split()
    assert found == ["plain,compress", "plain,complete", "plain,completion"]


# Output that must not be written.


def test_nothing_is_overwritten_without_force(run: Run, photo: Path) -> None:
    packed = photo.with_suffix(".pxz")
    packed.write_bytes(b"precious")
    done = run("compress", "photo.png", "-n", "none", status=1)
    assert (
        error_of(done) == "photo.png: error: photo.pxz exists already; add --force to overwrite it"
    )
    assert packed.read_bytes() == b"precious"
    run("compress", "photo.png", "-n", "none", "--force")
    assert packed.read_bytes() != b"precious"


def test_the_input_is_never_the_output(run: Run, photo: Path) -> None:
    before = photo.read_bytes()
    photo.with_name("link.pxz").symlink_to(photo)
    for output in ("photo.png", "./photo.png", "link.pxz"):
        done = run("compress", "photo.png", "-o", output, "--force", "-n", "none", status=1)
        assert "the output would be the input itself" in error_of(done)
    assert photo.read_bytes() == before


def test_two_inputs_do_not_become_one_output(run: Run, photo: Path) -> None:
    photo.with_suffix(".bmp").write_bytes(photo.read_bytes())
    run("compress", "photo.png", "photo.bmp", "photo.png", "-n", "none")
    packed = {"photo.png.pxz", "photo.bmp.pxz"}
    assert listing(photo.parent) == {"photo.png", "photo.bmp", *packed}
    run("decompress", *packed, "-o", "back/")
    assert listing(photo.parent / "back") == {"photo.png", "photo.bmp.png"}
    (photo.parent / "photo.pxz").touch()
    done = run("compress", "photo.png", "photo.bmp", "-o", "photo.pxz", status=2)
    assert b"photo.pxz is a file; several inputs need a folder" in done.stderr
    done = run("compress", "photo.png", "photo.bmp", "-o", "-", status=2)
    assert b"only one image can go to standard output" in done.stderr
    done = run("compress", "-", "photo.png", status=2)
    assert b"standard input needs an output file" in done.stderr
    assert b"Missing argument" in run("compress", status=2).stderr


def test_folders_that_do_not_do(run: Run, photo: Path) -> None:
    done = run("compress", "photo.png", "-o", "no/where.pxz", "-n", "none", status=1)
    assert error_of(done) == "photo.png: error: there is no folder no to write to"
    photo.with_name("empty").mkdir()
    done = run("compress", "-r", "empty", status=1)
    assert error_of(done) == "empty: error: there is nothing to do in this folder"
    photo.with_name("photo.pxz").mkdir()
    assert "photo.pxz is a folder" in error_of(run("compress", "photo.png", status=1))
    run("compress", "photo.png", "-o", "empty", "-n", "none")
    assert photo.with_name("empty").joinpath("photo.pxz").is_file()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that root can't write")
def test_unwritable_folder(run: Run, photo: Path) -> None:
    done = run("compress", "photo.png", "-o", "/proc/photo.pxz", "-n", "none", status=1)
    assert re.fullmatch(r"photo\.png: error: .*/proc.* cannot be written.*", error_of(done))


def test_devices_are_written_to_and_not_replaced(run: Run, photo: Path) -> None:
    run("compress", "photo.png", "-o", "/dev/null", "-n", "none", "--force")
    assert Path("/dev/null").is_char_device()


def test_links_stay_links(run: Run, photo: Path) -> None:
    photo.with_name("target.pxz").write_bytes(b"old")
    photo.with_name("link.pxz").symlink_to("target.pxz")
    run("compress", "photo.png", "-o", "link.pxz", "--force", "-n", "none")
    assert photo.with_name("link.pxz").is_symlink()
    run("verify", "target.pxz", "--against", "photo.png")


@pytest.mark.parametrize("mode", [0o640, 0o400])
def test_mode_and_time_are_kept(run: Run, photo: Path, mode: int) -> None:
    photo.chmod(mode)
    os.utime(photo, ns=(10**18, 10**18 + 1))
    run("compress", "photo.png", "-n", "none")
    run("decompress", "photo.pxz", "-o", "back.png")
    for name in ("photo.pxz", "back.png"):
        found = photo.with_name(name).stat()
        assert (found.st_mode & 0o777, found.st_mtime_ns) == (mode, 10**18 + 1)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_follow_the_umask(photo: Path, umask: int) -> None:
    command = [COMMAND, "compress", "-", "-n", "none", "-o", photo.with_suffix(".pxz")]
    subprocess.run(command, umask=umask, stdin=photo.open(), capture_output=True, check=True)
    assert photo.with_suffix(".pxz").stat().st_mode & 0o777 == 0o666 & ~umask


def test_long_names(run: Run, photo: Path) -> None:
    name = "é" * 125
    photo.rename(photo.with_name(name + ".png"))
    run("compress", name + ".png", "-n", "none")
    assert name + ".pxz" in listing(photo.parent)


def test_unknown_network(run: Run, photo: Path) -> None:
    done = run("compress", "photo.png", "--network", "nonesuch", status=1)
    assert "nonesuch" in error_of(done)
    done = run("compress", "photo.png", "--network", "no/such.safetensors", status=1)
    assert "no/such.safetensors" in error_of(done)
    assert listing(photo.parent) == {"photo.png"}


# Interruptions.

STOPPED = """
import os, signal, sys
from pixelzip.cli import main
def stop(*_):
    os.kill(os.getpid(), signal.{signal})
os.{moment} = stop
sys.argv = ["pixelzip", "compress", "photo.png", "-n", "none"]
main()
"""


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_kill_while_writing_leaves_nothing_under_the_name(
    run: Run, photo: Path, moment: str
) -> None:
    code = STOPPED.format(signal="SIGKILL", moment=moment)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=photo.parent, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    (partial,) = listing(photo.parent) - {"photo.png"}
    assert re.fullmatch(r"\.photo\.pxz\.[0-9a-f]{8}\.part", partial)
    # The next run works and leaves alone what it does not know.
    run("compress", "photo.png", "-n", "none")
    run("verify", "photo.pxz", "--against", "photo.png")
    assert listing(photo.parent) == {"photo.png", "photo.pxz", partial}


def test_interrupt_while_writing_leaves_nothing(photo: Path) -> None:
    command = [sys.executable, "-c", STOPPED.format(signal="SIGINT", moment="fsync")]
    done = subprocess.run(command, cwd=photo.parent, capture_output=True, timeout=60, check=False)
    assert done.returncode == 130
    assert b"Traceback" not in done.stderr
    assert listing(photo.parent) == {"photo.png"}


def start(folder: Path, *arguments: object) -> subprocess.Popen[bytes]:
    command = [COMMAND, *map(str, arguments)]
    return subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@pytest.fixture
def long_album(tmp_path: Path, crop_paths: list[Path]) -> Path:
    """Enough work to be stopped in the middle of it."""
    for number in range(400):
        (tmp_path / f"{number:03}.png").symlink_to(crop_paths[number % len(crop_paths)])
    return tmp_path


@pytest.mark.parametrize("jobs", [1, 2])
def test_kill_at_any_time_leaves_whole_files_only(long_album: Path, jobs: int) -> None:
    process = start(long_album, "compress", "-r", ".", "-o", "out", "-n", "none", "-j", jobs)
    out = long_album / "out"
    deadline = time.monotonic() + 300
    while not any(out.glob("**/*.pxz")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(random.random() / 2)
    process.kill()
    process.wait(timeout=10)
    assert process.returncode == -signal.SIGKILL
    # Its workers go as well: only then is the pipe that they share with it closed.
    assert select.select([process.stderr], [], [], 10)[0]
    process.communicate(timeout=10)
    whole = [out / name for name in listing(out) if name.endswith(".pxz")]
    assert 1 <= len(whole) < 400
    done = subprocess.run([COMMAND, "verify", *whole[:3]], capture_output=True, timeout=60)
    assert done.returncode == 0
    for name in listing(out) - {path.name for path in whole}:
        assert re.fullmatch(r"\.\d{3}\.pxz\.[0-9a-f]{8}\.part", name)


def worked(process: int) -> dict[str, float]:
    """The seconds of processor time that each child of a process has had."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    ticks = os.sysconf("SC_CLK_TCK")
    return {child: int(state(child)[11]) / ticks for child in children}


def state(process: str) -> list[str]:
    """What the system says of a process after its name: its state, its parent..."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return ["X", *["0"] * 20]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into /proc")
@pytest.mark.parametrize("is_run", [False, True])
def test_workers_do_not_outlive_a_killed_command(tmp_path: Path, is_run: bool) -> None:
    """Not even deep in a picture, which takes a worker minutes."""
    noise = np.random.default_rng(1).integers(0, 256, (1500, 1500, 3), np.uint8)
    for name in ("a", "b"):
        Image.fromarray(noise).save(tmp_path / f"{name}.png", compress_level=0)
    more = ["--manifest", "log"] if is_run else []
    process = start(tmp_path, "compress", "-r", ".", "-o", "out", "-j2", "--effort", "max",
                    "--origin", "none", "-n", "photo", *more)  # fmt: skip
    deadline = time.monotonic() + 120
    while sum(spent > 1 for spent in worked(process.pid).values()) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = worked(process.pid)
    process.kill()
    process.communicate(timeout=10)  # and so all that held its pipes are gone, or all but gone
    deadline = time.monotonic() + 5
    while not all(state(worker)[0] in "ZX" for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not list((tmp_path / "out").glob("*.pxz"))


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("whom", ["process", "terminal"])
def test_ctrl_c(long_album: Path, jobs: int, whom: str) -> None:
    process = start(long_album, "compress", "-r", ".", "-o", "out", "-n", "none", "-j", jobs)
    assert process.stdout is not None
    process.stdout.readline()  # the first file is done
    (os.kill if whom == "process" else os.killpg)(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.strip() == b""
    assert all(name.endswith(".pxz") for name in listing(long_album / "out"))


def test_broken_pipe(long_album: Path) -> None:
    process = start(long_album, "compress", "000.png", "001.png", "-n", "none", "-o", "out/")
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    assert process.wait(timeout=30) == 1
    assert errors == b""


def test_progress_on_a_terminal(tmp_path: Path, photo_path: Path) -> None:
    """A bar appears on a slow job, and the lines of the reports stay whole."""
    master, terminal = pty.openpty()
    names = ["one.png", "two.png"]
    for name in names:
        (tmp_path / name).symlink_to(photo_path)
    process = subprocess.Popen(
        [COMMAND, "compress", *names, "-n", "none", "-o", "out/"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    reports, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    *lines, totals = reports.decode().splitlines()
    assert [line.split(" ")[0] for line in lines] == names
    assert totals.startswith("2 files: 2 done; ")
    assert b"%" in shown
    assert b"/2" in shown


def test_a_picture_does_not_go_to_the_terminal(photo: Path) -> None:
    master, terminal = pty.openpty()
    done = subprocess.run(
        [COMMAND, "compress", photo, "-o", "-", "-n", "none"],
        stdout=terminal,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(terminal)
    os.close(master)
    assert done.returncode == 2
    assert b"a picture would go to the terminal" in done.stderr


def test_every_help_has_examples_and_every_option_is_tried_here(run: Run) -> None:
    here = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    for command in ("compress", "decompress", "verify", "info", "networks", "completion"):
        text = run(command, "--help").stdout.decode()
        assert text.startswith(f"Usage: pixelzip {command} ")
        assert f"    pixelzip {command} " in text or command in ("networks", "completion")
        for option in re.findall(r"--[a-z][a-z-]*", text):
            assert f'"{option}' in here, f"{command} {option}"


# What cannot be written, whole.


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A file whose picture is larger than what any pipe holds."""
    pixels = np.random.default_rng(1).integers(0, 256, (300, 400, 3), np.uint8)
    path = tmp_path / "noise.pxz"
    path.write_bytes(pixelzip.compress(pixels, network="none"))
    return path


def shell(folder: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which ``pixelzip`` is the command."""
    script = f'pixelzip() {{ "{COMMAND}" "$@"; }}; {script}'
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env={**os.environ, **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("(ulimit -f 100; pixelzip decompress noise.pxz -o - > cut.png)", "File too large"),
        ("pixelzip decompress noise.pxz -o - > /dev/full", "No space left on device"),
        ("pixelzip decompress noise.pxz -o - | true; exit ${PIPESTATUS[0]}", "Broken pipe"),
    ],
)
def test_no_picture_is_cut_short_in_silence(
    noise: Path, script: str, reason: str, unbuffered: str
) -> None:
    done = shell(noise.parent, script, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr == f"noise.pxz: error: standard output cannot be written: {reason}\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_slow_reader_gets_it_all(noise: Path, unbuffered: str) -> None:
    # The pipe does not block, so it takes what it has room for and no more.
    script = (
        "pixelzip decompress noise.pxz -o direct.png;"
        "(python3 -c 'import os; os.set_blocking(1, False)';"
        " pixelzip decompress noise.pxz -q -o -) | (sleep 1; cat) > piped.png;"
        "cmp direct.png piped.png"
    )
    assert shell(noise.parent, script, PYTHONUNBUFFERED=unbuffered).returncode == 0


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["info noise.pxz", "verify noise.pxz", "networks", "--help"])
def test_a_report_that_cannot_be_written(noise: Path, command: str, unbuffered: str) -> None:
    done = shell(noise.parent, f"pixelzip {command} > /dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Error: what there is to say cannot be written: No space left on device"
    ]


def test_closed_streams(noise: Path) -> None:
    folder = noise.parent
    for command in ("info noise.pxz", "verify noise.pxz", "info --json noise.pxz", "networks"):
        done = shell(folder, f"pixelzip {command} >&-")
        assert done.returncode == 1
        assert done.stderr.startswith("Error: what there is to say cannot be written: ")
    assert shell(folder, "pixelzip decompress -q noise.pxz -o one.png >&- 2>&- <&-").returncode == 0
    assert shell(folder, "pixelzip decompress nothing.pxz -o two.png 2>&-").returncode == 1
    done = shell(folder, "pixelzip decompress noise.pxz -o - >&-")
    assert done.returncode == 2
    assert "standard output is closed" in done.stderr
    with Image.open(folder / "one.png") as image:
        assert np.array_equal(np.asarray(image), pixelzip.decompress_array(noise))


# Whatever is wrong with one file is one line, and the others are done.


@pytest.mark.parametrize("source", [".", "/", "", "..", "nothing/", "photo.png/", "\udcff.png"])
def test_what_is_no_file_is_one_line(run: Run, photo: Path, source: str) -> None:
    done = run("compress", source, "photo.png", "-n", "none", status=1)
    assert re.match(rf"{re.escape(source)}: error: .", error_of(done)) or "\udcff" in source
    assert done.stdout.startswith(b"photo.png -> photo.pxz")


@pytest.mark.parametrize("source", [".", "/proc/self/empty", "empty"])
def test_a_folder_without_anything_to_do(run: Run, tmp_path: Path, source: str) -> None:
    (tmp_path / "empty").mkdir()
    assert re.match(rf"{source}: error: .", error_of(run("compress", "-r", source, status=1)))


def test_damaged_images_of_a_batch(run: Run, photo: Path) -> None:
    for format_ in ("TIFF", "GIF"):
        with Image.open(photo) as image:
            image.convert("L").save(photo.with_suffix("." + format_.lower()), format_)
    tiff = bytearray(photo.with_suffix(".tiff").read_bytes())
    at = tiff.index((258).to_bytes(2, "little") + b"\3\0")
    tiff[at + 2] = 2  # bits per sample, as text
    photo.with_suffix(".tiff").write_bytes(tiff)
    gif = photo.with_suffix(".gif").read_bytes()
    photo.with_suffix(".gif").write_bytes(gif[:20])
    done = run("compress", "photo.tiff", "photo.gif", "photo.png", "-o", "out/", "-n", "none",
               status=1)  # fmt: skip
    lines = done.stderr.decode().splitlines()
    assert [line.split(" ")[:2] for line in lines] == [
        ["photo.tiff:", "error:"], ["photo.gif:", "error:"]
    ]  # fmt: skip
    assert listing(photo.parent / "out") == {"photo.png.pxz"}


def test_a_folder_that_cannot_be_read_is_said(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def guarded(path: str) -> object:
        if os.path.basename(path) == "shut":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scandir(path)

    (album / "shut").mkdir()
    monkeypatch.setattr(os, "scandir", guarded)
    jobs = files.find([str(album)], judge, recursive=True)
    assert len(jobs) > 1
    assert [(job.source, job.error) for job in jobs if job.error] == [
        (str(album / "shut"), "the folder cannot be read: Permission denied")
    ]


def test_a_file_that_cannot_be_read_is_one_line(
    photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read all, so its right to is taken in another way."""
    other = shutil.copy(photo, photo.with_name("other.png"))
    may, opens = os.access, os.open

    def refuses(path: str, *arguments: int, **more: int) -> int:
        if str(path) == str(photo):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return opens(path, *arguments, **more)

    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK and may(path, mode))
    monkeypatch.setattr(os, "open", refuses)
    done = CliRunner().invoke(cli, ["compress", str(photo), str(other), "-n", "none"])
    assert done.exit_code == 1
    assert f"{photo}: error: Permission denied" in done.output
    assert Path(other).with_suffix(".pxz").exists()


def test_pipes_in_folders_and_without_writers(run: Run, photo: Path) -> None:
    os.mkfifo(photo.with_name("pipe.png"))
    done = run("compress", "-r", ".", "-o", "out", "-n", "none", status=1)
    assert error_of(done) == ("./pipe.png: error: it is not a regular file; name it to read it")
    assert listing(photo.parent / "out") == {"photo.pxz"}
    done = run("compress", "pipe.png", "-n", "none", status=1)
    assert error_of(done) == "pipe.png: error: nobody writes to it"


def test_a_refused_input_is_in_nobodys_way(run: Run, photo: Path) -> None:
    Image.new("F", (8, 8)).save(photo.with_name("anim.gif"), "TIFF")
    for name in ("anim.png", "anim.tif"):
        with Image.open(photo) as image:
            image.save(photo.with_name(name))
    done = run("compress", "anim.gif", "anim.png", "anim.tif", "-n", "none", status=1)
    assert done.stdout.startswith(b"anim.png -> anim.png.pxz")
    assert error_of(done).startswith("anim.gif: error: floating-point pixels")
    assert {"anim.png.pxz", "anim.tif.pxz"} < listing(photo.parent)


def test_standard_output_by_its_names(photo: Path) -> None:
    folder = photo.parent
    shell(folder, "pixelzip compress photo.png -n none -o plain.pxz")
    plain = (folder / "plain.pxz").read_bytes()
    for script in (
        "pixelzip compress photo.png -n none -o /dev/stdout > out.pxz",
        "pixelzip compress photo.png -n none -o /dev/fd/1 | cat > out.pxz",
        "pixelzip compress photo.png -n none -q -o >(cat > out.pxz); sleep 0.5",
    ):
        done = shell(folder, script)
        assert done.returncode == 0, done.stderr
        assert (folder / "out.pxz").read_bytes() == plain, script
        (folder / "out.pxz").unlink()
    done = shell(folder, "pixelzip compress <(cat photo.png) -n none -o in.pxz")
    assert done.returncode == 0, done.stderr
    assert (folder / "in.pxz").read_bytes() == plain


def test_a_network_that_codes_no_such_pixels_is_said(run: Run, photo: Path) -> None:
    done = run("compress", "photo.png", "-n", "mnist")
    assert error_of(done) == (
        "photo.png: note: the network mnist codes no images of mode RGB: not used"
    )


def test_limits_can_be_given(run: Run, photo: Path) -> None:
    run("compress", "photo.png", "-n", "none")
    for command in (
        ["decompress", "-f", "-o", "b.png"],
        ["verify"],
        ["info"],
        ["inspect", "-f", "-o", "m.png"],
    ):
        run(*command, "photo.pxz", "--max-pixels", 64 * 48)
        done = run(*command, "photo.pxz", "--max-pixels", 64 * 48 - 1, "-q", status=1)
        assert "the limit is 3071" in error_of(done)


def test_networks_have_one_number_of_parameters(run: Run) -> None:
    def of(*arguments: str) -> dict[str, int]:
        lines = run("networks", "--json", *arguments).stdout.splitlines()
        return {card["name"]: card["parameters"] for card in map(json.loads, lines)}

    shipped, architectures = of(), of("--architectures")
    assert all(shipped[name] == architectures[name] for name in ("photo", "luma", "chroma"))


def test_networks_describes_a_file(run: Run, tmp_path: Path) -> None:
    ours = Path(zoo.__file__).with_name("luma.safetensors")
    mine, damaged = tmp_path / "mine.safetensors", tmp_path / "damaged.safetensors"
    mine.write_bytes(ours.read_bytes())
    damaged.write_bytes(ours.read_bytes()[:-1])
    text = run("networks", mine).stdout.decode()
    assert text.startswith("mine:\n  architecture: photo\n  settings: ")
    assert "colours=1" in text
    (line,) = run("networks", "--json", mine).stdout.splitlines()
    card = json.loads(line)
    assert f"fingerprint: {card['fingerprint']}" in text
    (named,) = run("networks", "--json", "luma").stdout.splitlines()
    assert json.loads(named)["fingerprint"] == card["fingerprint"]
    assert "damaged.safetensors" in error_of(run("networks", damaged, status=1))
    assert "no network 'nope'" in error_of(run("networks", "nope", status=1))
    run("networks", "--architectures", mine, status=2)


def test_the_meter_ends_with_the_last_file() -> None:
    meter = Meter(2, shown=False)
    meter.next()
    assert meter._count() == "2/2"
    meter.next()
    assert meter._count() == "2/2"
