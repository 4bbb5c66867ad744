"""The compiled parts of pixelzip, where they could be built: plain C libraries, called by ctypes.

They are installed beside this package if there was a compiler (`_coding` here, `_engine` in
`pixelzip.models.frozen`). ctypes lets go of the interpreter's lock during each call, so threads run
side by side. Arrays that go in must be C-contiguous and of the right type: `array` sees to it.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache, update_wrapper
from importlib.util import find_spec
from threading import RLock
from typing import Any, Generic, ParamSpec, TypeVar

import numpy as np

from pixelzip.codec import tables

NONE = "none"
"""What ``PIXELZIP_ISA`` says for loops that numba compiles in place of C."""
_LARGEST_KEPT = (32 << 20) - (64 << 10)
"""Bytes: nearly as many as glibc's threshold goes up to."""


P = ParamSpec("P")
T = TypeVar("T")


class once(Generic[P, T]):  # noqa: N801 - a decorator
    """`functools.cache`, but the first call is over before another thread gets anything.

    With `functools.cache` two threads may both make the first call, and then one of them fills the
    tables of a library anew while the other codes with them.
    """

    def __init__(self, prepare: Callable[P, T]) -> None:
        self._lock, self._made = RLock(), cache(prepare)
        self.cache_clear = self._made.cache_clear
        update_wrapper(self, prepare)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        with self._lock:
            return self._made(*args, **kwargs)  # type: ignore[arg-type]


def library(name: str) -> ctypes.CDLL | None:
    """The library that is installed as a module of this name, None if there is none.

    Nor is there one if the environment's ``PIXELZIP_ISA`` is ``none``.
    """
    if os.environ.get("PIXELZIP_ISA") == NONE:
        return None
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        return None
    try:
        return ctypes.CDLL(spec.origin)
    except OSError:  # built for another machine
        return None


def array(dtype: type[np.generic]) -> Any:
    """The type of an argument that is an array; None is NULL."""
    wanted = np.dtype(dtype)

    def from_param(cls: Any, given: Any) -> Any:
        if given is None:
            return None
        flags = given.flags
        if given.dtype != wanted or not flags.c_contiguous:
            raise TypeError(f"an array of {given.dtype}, and {wanted} side by side are wanted")
        if flags.writeable and given.size:  # the address in a third of the time
            return ctypes.byref(ctypes.c_char.from_buffer(given))
        return ctypes.c_void_p(given.__array_interface__["data"][0])

    return type("Array", (), {"from_param": classmethod(from_param)})


def names(name_of: Callable[[int], bytes | None]) -> list[str]:
    """Of the instruction sets that a library knows and this machine has, fastest first."""
    found: list[str] = []
    while (name := name_of(len(found))) is not None:
        found.append(name.decode())
    return found


def proven(
    name_of: Callable[[int], bytes | None], is_exact: Callable[[int], bool]
) -> tuple[str, ...]:
    """Those of `names` whose products are exact, by their number."""
    return tuple(name for number, name in enumerate(names(name_of)) if is_exact(number))


def fill_tables(function: Any) -> None:
    """Hand the tables of `pixelzip.codec.tables` to a library."""
    function.argtypes = [array(np.int64)] * 3
    function(tables.EXP, tables.INVERSE_SCALE, tables.SIGMOID)


def _keep_memory() -> None:
    """Have the system's allocator keep what a tile took for the next one.

    glibc gives free memory back beyond twice the size of the largest array that it mapped and that
    was freed, up to this one. With less, threads spend a twentieth of their time in page faults.
    """
    np.empty(_LARGEST_KEPT, np.uint8)


@once
def coding() -> ctypes.CDLL | None:
    """The library of ``csrc``; where there is none, `pixelzip.codec.loops` does its work."""
    found = library("pixelzip.codec._coding")
    if found is None:
        return None
    _keep_memory()
    fill_tables(found.coding_tables)
    fill_tables(found.masked_tables)
    octets, integers, floats = array(np.uint8), array(np.int32), array(np.float32)
    doubles = array(np.float64)
    states, words, sets = array(np.uint64), array(np.uint32), array(np.uint16)
    size, number, message = ctypes.c_int64, ctypes.c_int, ctypes.c_char_p
    bits, indices = [states, words, size], array(np.int64)
    clipped = [floats, floats, size, doubles, integers]
    for name, result, arguments in (
        ("mixture_intervals", None, [integers, size, number, octets, floats]),
        ("softmax_intervals", None, [integers, size, octets, floats]),
        ("mixture_tables", None, [integers, size, number, integers, floats]),
        ("softmax_tables", None, [integers, size, integers, floats]),
        ("masked_mixture_intervals", None, [integers, size, number, octets, sets, floats]),
        ("masked_softmax_intervals", None, [integers, size, octets, sets, floats]),
        ("masked_mixture_tables", None, [integers, size, number, integers, sets, floats]),
        ("masked_softmax_tables", None, [integers, size, integers, sets, floats]),
        ("decoder_start", None, [message, size, states]),
        ("decoder_decode", number, [message, size, states, floats, size, number, integers]),
        ("encode", size, [floats, size, octets, states]),
        ("offsets_add", None, [
            integers, size, number, number, integers, number, integers, integers,
        ]),
        ("bits_tables", None, [indices] * 2),
        ("flags_code", number, [*bits, octets, size]),
        ("corrections_code", number, [*bits, octets, octets, size, size, number]),
        ("colours_code", number, [*bits, sets, size]),
        ("colours_room", None, [sets, octets, doubles, size, doubles]),
        ("colours_mark", None, [octets, size, sets]),
        ("conversion_render", None, [integers, number, *[octets] * 3, size, octets]),
        ("conversion_invert", None, [integers, number, doubles, octets, size, octets, octets]),
        ("conversions_count", None, [
            integers, integers, doubles, number, octets, size, indices,
        ]),
        ("shrinking_sweep", size, [
            integers, integers, octets, indices, integers, number, array(np.int8), number,
            number, number, number, states,
        ]),
        ("clipped_gap", None, [*clipped, indices, octets, octets, size, doubles]),
        ("shrinking_wrong", None, [
            integers, integers, size, size, number, *clipped, indices, indices, octets,
        ]),
        ("shrinking_settle", None, [
            integers, integers, integers, octets, indices, indices, integers, number, *clipped,
            indices, indices, octets, size, array(np.int8), number, number,
            ctypes.c_double, ctypes.c_double,
        ]),
        ("stretching_pixels", number, [
            octets, size, size, integers, integers, number, *[size] * 5, octets,
        ]),
        ("stretching_sums", number, [
            floats, size, size, integers, integers, ctypes.c_float, octets, octets, size, size,
            floats,
        ]),
        ("stretching_adjoint", number, [floats, *[size] * 2, integers, *[size] * 2, floats]),
        ("blocks_render", None, [
            array(np.int16), sets, size, size, number, size, size, size, size, octets,
        ]),
        ("blocks_windows", size, [*[octets] * 3, *[size] * 3, array(np.int16)]),
        ("blocks_scores", None, [
            array(np.int16), size, indices, size, array(np.int16), ctypes.c_int32, indices,
        ]),
        ("blocks_gains", None, [
            floats, floats, integers, size, sets, size, ctypes.c_float, floats,
        ]),
        ("blocks_histogram", size, [*[octets] * 3, *[size] * 4, number, sets, floats]),
        ("blocks_levels", size, [*[octets] * 3, *[size] * 4, number, size, integers]),
        ("blocks_solve", number, [
            octets, octets, octets, size, size, sets, size, size, size, number, number,
            doubles, doubles, doubles,
            indices, size, array(np.int16), octets,
        ]),
        ("filters_apply", None, [octets, size, size, size, octets, octets]),
        ("filters_choose", None, [octets, size, size, size, octets]),
        ("filters_undo", None, [octets, size, size, size, octets]),
    ):  # fmt: skip
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found
