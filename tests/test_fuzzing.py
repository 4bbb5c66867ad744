"""Manifests and networks' files that are damaged: a thousand of the hundred thousands by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import fuzz_runs


def test_damaged_manifests(tmp_path: Path) -> None:
    found = Counter(fuzz_runs.attack_manifest(tmp_path / "m", Random(n)) for n in range(2000))
    assert min(found["manifest: refused"], found["manifest: taken"]) > 300


def test_damaged_networks(tmp_path: Path) -> None:
    path = tmp_path / "hurt.safetensors"
    found = Counter(fuzz_runs.attack_network(path, Random(n)) for n in range(1000))
    assert min(found["network: refused"], 5 * found["network: taken"]) > 300
