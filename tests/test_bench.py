"""The measurements measure: real pictures, compressed, brought back and compared."""

import re
import subprocess
import sys
from pathlib import Path

IMAGES = Path(__file__).parent / "images"


def test_measure_prints_what_files_and_theory_take() -> None:
    command = [sys.executable, "-m", "pixelzip.bench.measure", IMAGES, "--no-peers"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    figures = dict(re.findall(r"^(\w+) +([\d.]+) (?:bits/dim|MP/s)$", done.stdout, re.MULTILINE))
    assert set(figures) == {"file", "frozen", "encode", "decode"}
    # The files hold a header of ten bytes or more each, so they are above the theory, but not far.
    assert 1 < float(figures["file"]) / float(figures["frozen"]) < 1.03
    assert len(re.findall(r"\.png +[\d.]+$", done.stdout, re.MULTILINE)) == len(
        list(IMAGES.glob("*.png"))
    )
