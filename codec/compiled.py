"""Compiling with numba, whose cache is a help and no condition: without it each start compiles.

Somebody waits for what is compiled, so there should be little of it, and the logger "pixelzip" says
so once. `kernel` is for functions that Python calls, `part` for those that only kernels call.
Arrays are best made and filled outside, as numba compiles some twenty functions for a `np.full`,
and more for the message of an assignment whose shapes differ.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
from numba.core.caching import FunctionCache
from numba.core.types import unliteral

from pixelzip.codec.errors import UncachedWarning


class _Cache(FunctionCache):
    """numba's, but a disk that is full or cannot be written is no reason not to code."""

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except OSError as error:
            _warn(error)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = None
        try:
            found = super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except OSError as error:
            _warn(error)
        if found is None:
            _tell()
        return found


def kernel(function: Callable[..., Any]) -> Any:
    """The function compiled, at its first call or from the cache; it leaves Python's lock alone."""
    compiled: Any = numba.njit(nogil=True)(function)
    try:
        kept: Any = _Cache
        compiled._cache = kept(function)  # as numba's own cache=True does
        compiled._cache.enable()
    except (RuntimeError, OSError) as error:  # there is no folder for it
        _warn(error)
        _tell()
    return compiled


def part(function: Callable[..., Any]) -> Any:
    """The function compiled into the kernels that call it, with no way in from Python."""
    options: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    compiled: Any = numba.njit(nogil=True, **options)(function)
    template = compiled.get_call_template

    def of_plain_types(args: Any, kws: Any) -> Any:
        return template([unliteral(kind) for kind in args], kws)  # type: ignore[no-untyped-call]

    compiled.get_call_template = of_plain_types  # else it is compiled again for each constant
    return compiled


@cache
def _tell() -> None:
    logging.getLogger("pixelzip").info("compiling for the first use, which takes some seconds")


def _warn(error: Exception) -> None:
    reason = error.strerror if isinstance(error, OSError) else None
    warnings.warn(
        f"compiled code cannot be kept ({reason or 'no folder can be written'}), so each start"
        " takes longer: set NUMBA_CACHE_DIR to a folder with room",
        UncachedWarning,
        stacklevel=2,
    )
