"""Carriers: number formats in which a matrix product of small integers is exact.

============  ==========================================  =========================
carrier       exact because                               holds sums up to
============  ==========================================  =========================
``int8``      int8 times int8, summed in int32            2^31
``float32``   every partial sum is an integer it can hold  2^24
``float64``   every partial sum is an integer it can hold  2^53
============  ==========================================  =========================

Whatever the carrier, the result is the same int32 numbers. Before one is used in a process it has
to prove itself on inputs that saturate: some processors add pairs of int8 products in 16 bits.
Among those that pass, the fastest carries each matrix; ``PIXELZIP_CARRIER`` or an argument
overrides that. Products of 16-bit integers are float64 everywhere, and that has to be proven too:
a library might make do with fewer bits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from pixelzip.codec.errors import DeviceError, PixelzipError

CARRIERS = {"int8": 2**31, "float32": 2**24, "float64": 2**53}
"""Each carrier and the size that no sum may reach in it."""

Product = Callable[[Tensor], Tensor]
"""(n, K) int8 -> (n, N) int32."""


def device_of(name: str) -> torch.device:
    """The torch device of this name. DeviceError if it is not here, or no place to code."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"torch knows no device {name!r}: use cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise DeviceError(f"networks run on cpu and cuda only, not on {name}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise DeviceError("torch finds no CUDA device here: use the CPU")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(f"torch finds no device {name} here")
    return device


def bound(weight: Tensor, largest: int) -> int:
    """The largest sum that ``weight`` (K, N) can give for inputs of up to ``largest``."""
    return int(weight.long().abs().sum(0).max()) * largest


def product(weight: Tensor, largest: int, carrier: str | None, device: torch.device) -> Product:
    """The product with an int8 matrix (K, N), for inputs within +-``largest``."""
    reached = bound(weight, largest)
    allowed = [c for c in ranking(device) if reached < CARRIERS[c]]
    if carrier in allowed:
        return _carried(weight.to(device), carrier)
    if carrier is not None:
        # This matrix is too large for the carrier asked for: the next larger one takes it.
        allowed = [c for c in ("float32", "float64") if c in allowed]
    return _carried(weight.to(device), allowed[0])


def _carried(weight: Tensor, carrier: str) -> Product:
    if carrier == "int8":
        return _on_cuda(weight) if weight.device.type == "cuda" else _on_cpu(weight)
    dtype = torch.float32 if carrier == "float32" else torch.float64
    held = weight.to(dtype)

    return lambda x: _as_floats(x, held).to(torch.int32)


def _as_floats(x: Tensor, held: Tensor) -> Tensor:
    """The product with a float matrix (K, N) of integers, in its type."""
    if torch.is_autocast_enabled(x.device.type):  # by a program around us: it would round the sums
        with torch.autocast(x.device.type, enabled=False):
            return x.to(held.dtype) @ held
    return x.to(held.dtype) @ held


def _on_cpu(weight: Tensor) -> Product:
    weight = weight.contiguous()
    return lambda x: torch._int_mm(x, weight)


def _on_cuda(weight: Tensor) -> Product:
    """CUDA's kernel wants multiples of 8, and more than 16 rows; zeros add nothing."""
    rows, columns = weight.shape
    padded = F.pad(weight, (0, -columns % 8, 0, -rows % 8)).contiguous()

    def multiply(x: Tensor) -> Tensor:
        n = len(x)
        return torch._int_mm(F.pad(x, (0, -rows % 8, 0, max(0, 17 - n))), padded)[:n, :columns]

    return multiply


def _test_matrices(largest: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Inputs and weights that break a carrier that saturates; int8 sums are within 24 bits."""
    x = torch.full((64, 640), -largest, dtype=dtype, device="cpu")
    weight = torch.full((640, 128), largest, dtype=dtype, device="cpu")
    x[1::2] = largest
    x[2::4, ::2] = largest
    weight[:, 1::2] = -largest
    weight[1::2, 2::4] = -largest
    weight[::3, 3::4] = 1
    return x, weight


def _seconds(multiply: Product, x: Tensor) -> float:
    started = time.perf_counter()
    multiply(x).cpu()
    return time.perf_counter() - started


@cache
def ranking(device: torch.device) -> tuple[str, ...]:
    """The carriers that are exact on this device, fastest first."""
    x, weight = _test_matrices(127, torch.int8)
    exact = (x.long() @ weight.long()).to(torch.int32)
    times = {}
    for carrier in CARRIERS:
        try:
            multiply = _carried(weight.to(device), carrier)
            on_device = x.to(device)
            if not torch.equal(multiply(on_device).cpu(), exact):
                continue
            times[carrier] = min(_seconds(multiply, on_device) for _ in range(9))
        except (RuntimeError, NotImplementedError):
            continue  # this build of torch has no such product
    return tuple(sorted(times, key=times.__getitem__))


@cache
def float64_is_exact(device: torch.device) -> bool:
    """Whether float64 carries products of 16-bit integers on this device."""
    x, weight = _test_matrices(2**15 - 1, torch.int16)
    found = _as_floats(x.to(device), weight.to(device, torch.float64)).cpu()
    return torch.equal(found, (x.long() @ weight.long()).double())


def asked_for() -> str | None:
    """The carrier that the environment asks for, if any. PixelzipError if there is none such."""
    carrier = os.environ.get("PIXELZIP_CARRIER")
    if carrier is not None and carrier not in CARRIERS:
        raise PixelzipError(f"PIXELZIP_CARRIER is {carrier!r}; choose one of {', '.join(CARRIERS)}")
    return carrier


def integer_product(
    weight: Tensor, largest: int, carrier: str | None, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """The product with an int8 or int16 matrix (K, N), for inputs within +-``largest``.

    int8 matrices are carried as by `product`. The sums of 16-bit ones come as the float64 numbers
    that carry them, and must stay below 2^53. Raises DeviceError where these are not exact.
    """
    if weight.dtype == torch.int8:
        return product(weight, largest, carrier, device)
    if not float64_is_exact(device):
        raise DeviceError(f"float64 products are not exact on {device}: choose another device")
    held = weight.to(device, torch.float64)
    return lambda x: _as_floats(x, held)
