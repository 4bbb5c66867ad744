"""Compiling with numba, whose cache is a help and no condition: without it each start compiles."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numba
from numba.core.caching import FunctionCache

from pixelzip.codec.errors import UncachedWarning


class _Cache(FunctionCache):
    """numba's, but a disk that is full or cannot be written is no reason not to code."""

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except OSError as error:
            _warn(error)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except OSError as error:
            _warn(error)
            return None


def kernel(function: Callable[..., Any]) -> Any:
    """The function compiled, at its first call or from the cache; it leaves Python's lock alone."""
    compiled: Any = numba.njit(nogil=True)(function)
    try:
        cache: Any = _Cache
        compiled._cache = cache(function)  # as numba's own cache=True does
        compiled._cache.enable()
    except (RuntimeError, OSError) as error:  # there is no folder for it
        _warn(error)
    return compiled


def _warn(error: Exception) -> None:
    reason = error.strerror if isinstance(error, OSError) else None
    warnings.warn(
        f"compiled code cannot be kept ({reason or 'no folder can be written'}), so each start"
        " takes longer: set NUMBA_CACHE_DIR to a folder with room",
        UncachedWarning,
        stacklevel=2,
    )
