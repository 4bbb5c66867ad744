"""That every file and every byte of a run is accounted for, and files are made with care."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import pixelzip
from pixelzip import batch, coding
from pixelzip.batch import Done, Fraction, Rules
from pixelzip.cli import cli
from pixelzip.files import Job
from pixelzip.meter import Meter


def run(*arguments: object, status: int = 0, stdin: bytes = b"") -> Result:
    """The command in this process."""
    done = CliRunner().invoke(cli, [str(a) for a in arguments], input=stdin)
    assert done.exit_code == status, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done


def told(*arguments: object, status: int = 0) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What ``--json`` says of each file, and the totals."""
    lines = run(*arguments, "--json", status=status).stdout.splitlines()
    *reports, last = map(json.loads, lines)
    return reports, last["totals"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def small(here: Path) -> list[Path]:
    """Twelve small colour images in a folder."""
    (here / "small").mkdir()
    random = np.random.default_rng(0)
    paths = []
    for number in range(12):
        rising = np.add.outer(np.arange(32), np.arange(32))[..., None] * [1, 2, 3]
        pixels = (rising + random.integers(0, 20, (32, 32, 3))).astype(np.uint8)
        path = here / "small" / f"{number:02}.png"
        Image.fromarray(pixels).save(path)
        paths.append(path)
    return paths


# What is in a folder and is not taken.


def test_what_is_not_taken_is_listed(small: list[Path]) -> None:
    folder = small[0].parent
    names = ["a.jxl", "b.PSD", "c.heics", "d.cr2", "e.xyz", "noending", "f.pxz", ".hidden"]
    for name in names:
        (folder / name).write_bytes(b"x")
    (folder / "elsewhere").symlink_to(folder.parent, target_is_directory=True)
    done = run("compress", "-r", "small", "-o", "out", "-n", "none", status=3)
    assert done.stderr.splitlines() == [
        "small/elsewhere: skipped: links to folders are not followed",
        "small/a.jxl: skipped: JPEG XL is not read",
        "small/b.PSD: skipped: Photoshop is not read",
        "small/c.heics: skipped: a sequence of pictures is not read",
        "small/d.cr2: skipped: a camera's raw file is not read",
        "small/e.xyz: skipped: not an image by its name",
        "small/noending: skipped: not an image by its name",
    ]
    assert "  unneeded: hidden (1), a .pxz file already (1)" in done.stdout.splitlines()
    reports, totals = told("compress", "-fr", "small", "-o", "out", "-n", "none", status=3)
    assert {os.path.basename(report["input"]) for report in reports} == {*os.listdir(folder)}
    assert totals["verdicts"] == {"done": 12, "skipped": 7, "unneeded": 2}
    assert totals["skipped"]["not an image by its name"] == 2


def test_the_output_is_not_an_input(small: list[Path]) -> None:
    run("compress", "-r", ".", "-o", "out", "-n", "none")
    _, totals = told("compress", "-fr", ".", "-o", "out", "-n", "none")
    assert totals["unneeded"] == {"the folder of the output": 1}
    run("decompress", "-r", ".", "-o", "out/back", status=3)  # the originals do not come along
    run("verify", "-r", ".")


def test_what_is_not_kept_is_said(small: list[Path]) -> None:
    for path in small[:2]:
        path.write_bytes(path.read_bytes() + b"a secret")
    done = run("compress", small[0], "--rm", "-n", "none", status=3)
    assert "note: not kept: bytes after the image" in done.stderr
    assert "note: not removed: not all of it would come back" in done.stderr
    assert small[0].exists()
    _, totals = told("compress", *small[:3], "-f", "-n", "none", status=3)
    assert totals["not_kept"] == {"bytes after the image": 2}
    packed = small[0].with_suffix(".pxz")
    done = run("verify", packed, "--against", small[0], status=3)
    assert "but not the same metadata: bytes after the image" in done.stdout


def test_larger_than_the_original(here: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (64, 64), np.uint8) * 255
    Image.fromarray(noise).convert("1").save("noise.tif", compression="group4")
    Image.fromarray(noise).save("noise.webp", lossless=True)
    reports, totals = told("compress", "noise.tif", "noise.webp", "-n", "none")
    larger = [report for report in reports if report["bytes_out"] > report["bytes_in"]]
    assert totals["larger"] == len(larger)
    for report in reports:
        more = report["bytes_out"] - report["bytes_in"]
        said = [f"larger than the original by {more:,} bytes"]
        assert report["notes"] == (said if more > 0 else [])


# Small files together.


def test_small_files_are_coded_together(small: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    groups = []
    encode = coding.encode_many

    def counted(pictures: Sequence[Any], *more: Any) -> list[bytes]:
        groups.append(len(pictures))
        return encode(pictures, *more)

    expected = pixelzip.compress_many(small)
    monkeypatch.setattr(coding, "encode_many", counted)
    small[5].write_bytes(small[5].read_bytes()[:90])
    done = run("compress", *small, "-o", "out/", status=1)
    assert groups == [11]
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{small[5]}: error: ")
    for number, path in enumerate(small):
        packed = Path("out", path.name).with_suffix(".pxz")
        assert packed.exists() == (number != 5)
        assert number == 5 or packed.read_bytes() == expected[number]
    # Nor more at a time than memory holds.
    for threads, few in ((1, 4), (3, 4), (3, 0)):
        monkeypatch.setattr(batch, "FEW", few)
        monkeypatch.setattr(batch, "TOGETHER", 3 * 32 * 32 // threads)
        monkeypatch.setattr(batch, "EACH", 32 * 32)
        groups.clear()
        run("compress", *small[6:], "-f", "-o", "out/", "--threads", str(threads))
        assert groups == [3, 3]


def test_what_fails_together_is_done_alone(
    small: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = coding.encode_many

    def choosy(pictures: Sequence[Any], *more: Any) -> list[bytes]:
        if any(picture.mode == "L" for picture in pictures):
            raise pixelzip.LimitError("no grey today")
        return encode(pictures, *more)

    monkeypatch.setattr(coding, "encode_many", choosy)
    with Image.open(small[3]) as image:
        image.convert("L").save(small[3])
    reports, totals = told("compress", *small, "-o", "out/", status=1)
    assert totals["verdicts"] == {"done": 11, "failed": 1}
    assert reports[3]["error"] == "no grey today"


def test_the_meter_counts_what_is_under_way() -> None:
    meter = Meter(20, shown=False)
    assert meter._count(0.5) == "1/20"
    assert meter._count(7.2) == "8/20"
    meter.next()
    assert meter._count(19) == "20/20"


class Deadly(batch.Work):
    """Takes a process's life with some files."""

    def some(self, jobs: Sequence[Job], progress: Fraction | None = None) -> list[Done]:
        if any(job.source.startswith("deadly") for job in jobs):
            os.kill(os.getpid(), signal.SIGKILL)
        return [Done(line=job.source) for job in jobs]


def test_a_killed_process_costs_one_file() -> None:
    names = [f"{'deadly' if number in (3, 17) else 'good'}{number}" for number in range(24)]
    todo = [Job(name) for name in names]
    results = list(batch.all_done(todo, Deadly(), Rules(), jobs=2, progress=None))
    assert [job.source for job, _ in results] == names
    for job, done in results:
        assert done.line == (job.source if job.source.startswith("good") else "")
        assert ("was killed" in done.error) == job.source.startswith("deadly")


# Starting again, and taking away.


def test_skip_existing_looks_at_what_is_there(small: list[Path]) -> None:
    options = ["-r", "small", "-o", "out", "--skip-existing"]
    run("compress", *options)
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    assert len(before) == 12
    _, totals = told("compress", *options)
    assert totals["unneeded"] == {"there already, and whole": 12}
    # A damaged one, one that is cut short, and one of another picture.
    Path("out/00.pxz").write_bytes(before[Path("out/00.pxz")][:-1] + b"?")
    Path("out/01.pxz").write_bytes(b"")
    Path("out/02.pxz").write_bytes(before[Path("out/03.pxz")])
    reports, totals = told("compress", *options)
    assert [report["verdict"] for report in reports] == ["done"] * 3 + ["unneeded"] * 9
    for report in reports[:3]:
        assert report["notes"] == [f"{report['output']} is damaged or of something else: made anew"]
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before
    # And back.
    options = ["-r", "out", "-o", "back", "--skip-existing"]
    run("decompress", *options)
    images = {path: path.read_bytes() for path in Path("back").iterdir()}
    Path("back/00.png").write_bytes(images[Path("back/00.png")][:-20])
    shutil.copy("back/02.png", "back/01.png")
    _, totals = told("decompress", *options)
    assert totals["verdicts"] == {"done": 2, "unneeded": 10}
    assert {path: path.read_bytes() for path in Path("back").iterdir()} == images


def test_skip_existing_of_large_pictures(here: Path, photo_path: Path) -> None:
    """Which are not decoded for it."""
    shutil.copy(photo_path, "photo.png")
    run("compress", "photo.png", "-n", "none")
    _, totals = told("compress", "photo.png", "-n", "none", "--skip-existing")
    assert totals["verdicts"] == {"unneeded": 1}
    with Image.open("photo.png") as image:
        other = np.asarray(image).copy()
    other[-1, -1] ^= 1
    Image.fromarray(other).save("photo.png")
    _, totals = told("compress", "photo.png", "-n", "none", "--skip-existing")
    assert totals["verdicts"] == {"done": 1}
    run("verify", "photo.pxz", "--against", "photo.png")


def test_rm(small: list[Path]) -> None:
    before = {path.name: np.asarray(Image.open(path)) for path in small}
    _, totals = told("compress", "-r", "small", "--rm", "-n", "none")
    assert totals["removed"] == 12
    assert {path.suffix for path in small[0].parent.iterdir()} == {".pxz"}
    _, totals = told("decompress", "-r", "small", "--rm")
    assert totals["removed"] == 12
    assert {path.name: np.asarray(Image.open(path)).tobytes() for path in small} == {
        name: pixels.tobytes() for name, pixels in before.items()
    }


def test_rm_keeps_what_would_not_come_back(here: Path, small: list[Path]) -> None:
    with Image.open(small[0]) as image:
        image.save("lossy.jpg")
        image.save("text.png", dpi=(300, 300))
    run("compress", "lossy.jpg", "--rm", "--pixels")
    run("compress", "text.png", "--rm", "--strip", "-n", "none", "-o", "stripped.pxz")
    run("compress", "text.png", "--rm", "-n", "none", "-o", "/dev/null")
    run("compress", "text.png", "--rm", "-n", "none", "-o", "-")
    run("compress", "text.png", "--rm", "-n", "none", "-o", "no/such/folder.pxz", status=1)
    assert Path("lossy.jpg").exists()
    assert Path("text.png").exists()
    run("compress", "text.png", "-n", "none")
    run("decompress", "text.pxz", "--rm", "-o", "text.ppm", status=3)
    assert Path("text.pxz").exists()


def test_rm_of_jpegs(here: Path, small: list[Path]) -> None:
    """Which come back byte for byte."""
    with Image.open(small[0]) as image:
        image.save("lossy.JPG", "JPEG")
    before = Path("lossy.JPG").read_bytes()
    _, totals = told("compress", "lossy.JPG", small[1], "--rm", "-o", "out/")
    assert totals["removed"] == 2
    _, totals = told("decompress", "out/lossy.pxz", "--rm", "-o", ".")
    assert totals["removed"] == 1
    assert Path("lossy.JPG").read_bytes() == before
    run("compress", "lossy.JPG")
    _, totals = told("compress", "lossy.JPG", "--skip-existing")
    assert totals["verdicts"] == {"unneeded": 1}
    run("verify", "lossy.pxz", "--against", "lossy.JPG")
    _, totals = told("decompress", "lossy.pxz", "--skip-existing")
    assert totals["verdicts"] == {"unneeded": 1}


def test_rm_waits_for_the_disk(small: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written is read again."""
    from pixelzip import files

    monkeypatch.setattr(files, "read", lambda path: Path(path).read_bytes()[:-1]
                        if path.endswith(".pxz") else Path(path).read_bytes())  # fmt: skip
    done = run("compress", small[0], "--rm", "-n", "none")
    assert "note: not removed: " in done.stderr
    assert small[0].exists()


# Which files, and what they are called.


@pytest.mark.parametrize("zero", [False, True])
def test_files_from(small: list[Path], zero: bool) -> None:
    names = ["small/00.png", "./small/01.png", str(small[2]), "nothing.png"]
    listing = ("\0" if zero else "\r\n").join(names).encode()
    Path("list").write_bytes(listing)
    options = ["--files-from", "list", "-o", "out", "-n", "none"]
    _, totals = told("compress", *options, *(["--null"] if zero else []), status=1)
    assert totals["verdicts"] == {"done": 3, "failed": 1}
    found = {str(path.relative_to("out")) for path in Path("out").rglob("*.pxz")}
    whole = str(small[2].with_suffix(".pxz")).lstrip("/")
    assert found == {"small/00.pxz", "small/01.pxz", whole}
    done = run("verify", "--files-from", "-", stdin=b"out/small/00.pxz\nout/small/01.pxz\n")
    assert "2 files: 2 done" in done.stdout


def test_an_empty_list_is_no_trouble(here: Path) -> None:
    assert run("compress", "--files-from", "-").output == ""
    assert "Missing argument" in run("compress", status=2).stderr
    assert "-0 says" in run("compress", "a.png", "-0", status=2).stderr
    assert "No such file" in run("compress", "--files-from", "nothing", status=2).stderr
    done = run("compress", "--files-from", "-", stdin=b"a.png\0b.png\0", status=2)
    assert "add -0" in done.stderr


def test_names_do_not_collide(small: list[Path]) -> None:
    for number, name in enumerate(["IMG_1.png", "IMG_1.bmp", "scan.001", "scan.002"]):
        with Image.open(small[number]) as image:
            image.save(name, "BMP" if name.endswith("bmp") else "PNG")
    run("compress", "IMG_1.png", "IMG_1.bmp", "scan.001", "scan.002", "-n", "none")
    packed = ["IMG_1.png.pxz", "IMG_1.bmp.pxz", "scan.001.pxz", "scan.002.pxz"]
    assert {str(path) for path in Path().glob("*.pxz")} == set(packed)
    run("decompress", *packed, "-o", "back/")
    images = ["IMG_1.png", "IMG_1.bmp.png", "scan.001.png", "scan.002.png"]
    assert {path.name for path in Path("back").iterdir()} == set(images)
    # The same name in two folders is another matter.
    os.mkdir("other")
    shutil.copy("scan.001", "other/scan.001")
    done = run("compress", "scan.001", "other/scan.001", "-o", "out/", "-n", "none", status=1)
    assert done.stderr == (
        "other/scan.001: error: it would become out/scan.001.pxz, and so does scan.001; name it "
        "with -o\n"
    )


# Comparing.


def test_verify_against_a_folder(small: list[Path]) -> None:
    folder = small[0].parent
    with Image.open(small[1]) as image:
        image.save(folder / "01.bmp")
    run("compress", "-r", "small", "-o", "out", "-n", "none")
    done = run("verify", "-r", "out", "--against", "small")
    assert "out/01.bmp.pxz: intact, the same as small/01.bmp" in done.stdout.splitlines()
    assert "13 files: 13 done" in done.stdout
    os.remove("out/00.pxz")
    (folder / "notes.txt").touch()
    shutil.copy("out/02.pxz", "out/more.pxz")
    shutil.copy("out/02.pxz", "out/03.pxz")
    done = run("verify", "-r", "out", "--against", "small", status=1)
    assert done.stderr.splitlines() == [
        "out/03.pxz: error: its pixels differ: it is not small/03.png",
        "out/more.pxz: error: intact, but its original is not there",
        "small/00.png: error: there is no out/00.pxz of it",
        "small/notes.txt: skipped: not an image by its name",
    ]
    assert "a single folder" in run("verify", "out/02.pxz", "--against", "small", status=2).stderr


def test_what_is_no_image_is_said_with_what_is() -> None:
    for thing in ([[1, 2]], None, io.BytesIO()):
        with pytest.raises(pixelzip.UnsupportedImageError, match="path") as caught:
            pixelzip.compress(thing)
        assert isinstance(caught.value, TypeError)
        assert type(thing).__name__ in str(caught.value)
    with pytest.raises(TypeError, match="bytes or a path"):
        pixelzip.decompress(np.zeros(3, np.uint8))  # type: ignore[arg-type]


def test_a_network_that_was_not_used_is_said(small: list[Path]) -> None:
    Image.new("RGB", (32, 32), "red").save("red.png")
    reports, _ = told("compress", "red.png", "-n", "photo")
    assert reports[0]["notes"] == ["the network photo was not used: the file is smaller without"]
    reports, _ = told("compress", small[0], "-n", "mnist")
    assert reports[0]["notes"] == ["the network mnist codes no images of mode RGB: not used"]


# What a run needs and what it leaves.


def test_no_traceback_at_the_edges(small: list[Path]) -> None:
    """The rest is in `test_cli`, with real pipes and real disks."""
    for names in (["."], ["/"], [""], ["-r", "/proc/self/fdinfo/"], ["-r", str(Path("none"))]):
        done = run("compress", *names, small[0], "-o", "out/", "-f", "-n", "none", "-q", status=1)
        assert len(done.stderr.splitlines()) == 1, done.stderr
