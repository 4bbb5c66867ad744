"""numba's loops, which stand in for C, work where their cache cannot be written, and say so."""

from __future__ import annotations

import errno
import os

import numpy as np
import pytest
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
