"""numba's loops, which stand in for C: little to compile, and a cache that may fail."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from numba.core.caching import FunctionCache

from pixelzip.codec import compiled
from pixelzip.codec.errors import UncachedWarning


def plus(one: int, other: int) -> int:
    return one + other


def fail(number: int) -> None:
    raise OSError(number, os.strerror(number))


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FunctionCache, "save_overload", lambda *_: fail(errno.ENOSPC))
    function = compiled.kernel(plus)
    with pytest.warns(UncachedWarning, match="No space left"):
        assert function(1, 2) == 3


def test_a_cache_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FunctionCache, "load_overload", lambda *_: fail(errno.EACCES))
    function = compiled.kernel(plus)
    with pytest.warns(UncachedWarning, match="Permission denied"):
        assert function(np.float32(1), np.float32(2)) == 3


def test_no_folder_for_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locator(*_: object) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(FunctionCache, "__init__", no_locator)
    with pytest.warns(UncachedWarning, match="no folder can be written"):
        function = compiled.kernel(plus)
    assert function(2, 3) == 5


COUNTS = """
import sys
from collections import Counter
from numba.core import event
from pixelzip.cli import main
sys.argv[0] = "pixelzip"
with event.install_recorder("numba:compile") as recorder:
    try:
        main()
    finally:
        ends = [e.data["dispatcher"].py_func for _, e in recorder.buffer if e.is_end]
        names = Counter(f"{f.__module__}.{f.__qualname__}" for f in ends)
        ours = {name for name in names if name.startswith("pixelzip.")}
        print(len(ours), len(ends), [name for name in ours if names[name] > 1])
"""


def test_first_use_compiles_little(tmp_path: Path) -> None:
    """No function twice, and hardly any of numba's own, as each takes 20 to 500 ms; it is told."""
    run = subprocess.run(
        [sys.executable, "-c", COUNTS, "decompress", str(ROOT / "tests/golden/photocd.pxz"),
         "-o", str(tmp_path / "out.png")],
        env=dict(os.environ, NUMBA_CACHE_DIR=str(tmp_path / "cache"), PIXELZIP_ISA="none"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stderr.count("note: compiling for the first use, which takes some seconds\n") == 1
    ours, every, *twice = run.stdout.splitlines()[-1].split(maxsplit=2)
    assert twice == ["[]"]
    assert 10 < int(ours) < 45
    assert int(every) < int(ours) + 15
