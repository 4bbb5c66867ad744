"""What the README shows is run as a newcomer would: pasted, in a folder with a photo in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str, page: str) -> list[str]:
    """The fenced blocks of a page in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)


def block(language: str) -> str:
    """The README's one fenced block in that language."""
    (code,) = blocks(language, README)
    return code


@pytest.fixture
def folder(tmp_path: Path, photo_path: Path, crop_paths: list[Path]) -> Path:
    """A folder with `photo.png`, `beach.jpg`, and `holiday` with two more."""
    with Image.open(photo_path) as photo:
        photo.crop((200, 100, 520, 148)).save(tmp_path / "photo.png", dpi=(300, 300))
        photo.crop((0, 0, 160, 96)).save(tmp_path / "beach.jpg")
    holiday = tmp_path / "holiday" / "beach"
    holiday.mkdir(parents=True)
    for path in crop_paths[:2]:
        shutil.copy(path, holiday)
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    binaries = str(Path(sys.executable).parent)
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": binaries + os.pathsep + os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pixels(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


def test_commands(folder: Path) -> None:
    run(["bash", "-euo", "pipefail", "-c", block("sh")], folder)
    assert np.array_equal(pixels(folder / "back.png"), pixels(folder / "photo.png"))
    with Image.open(folder / "back.png") as back:
        assert back.info["dpi"] == pytest.approx((300, 300), abs=0.01)
    assert (folder / "same.jpg").read_bytes() == (folder / "beach.jpg").read_bytes()
    assert (folder / "piped.pxz").read_bytes() == (folder / "photo.pxz").read_bytes()
    assert len(list((folder / "archive").rglob("*.pxz"))) == 2


def test_python(folder: Path) -> None:
    run([sys.executable, "-c", block("python")], folder)
    run(["pixelzip", "decompress", "photo-2.pxz", "-o", "back.png"], folder)
    assert np.array_equal(pixels(folder / "back.png"), pixels(folder / "photo.png"))


def test_python_for_researchers(folder: Path) -> None:
    page = (ROOT / "docs" / "researchers.md").read_text()
    run(["pixelzip", "compress", "-r", "holiday", "-o", "archive"], folder)
    printed = run([sys.executable, "-c", "".join(blocks("python", page))], folder)
    assert printed.count("bits/dim") == 2


def test_the_site_builds(tmp_path: Path) -> None:
    """Strictly: each page is in the navigation, and each link leads to a page or a heading."""
    run([sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path)], ROOT)
    assert (tmp_path / "index.html").exists()


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    links = [
        (page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    ]
    assert links
    assert not [f"{page.name}: {link}" for page, link in links if not (page.parent / link).exists()]
