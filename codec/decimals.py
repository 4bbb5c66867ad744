"""Tables of integers by decimal arithmetic, which every machine and every process finds the same.

Decimal's exp and ln are correctly rounded by definition; libm's are not. All that decides about the
other operations is a *context*, and a host program may have set any of its own: so this one is made
of nothing but what stands here, and each table is held to its digest before anything codes with it.
"""

from __future__ import annotations

import decimal
from collections.abc import Iterable
from decimal import Decimal
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from pixelzip.codec.errors import DeviceError

# All eight are given: what is left out would come from decimal.DefaultContext, which is anybody's.
_CONTEXT = decimal.Context(
    prec=40,
    rounding=decimal.ROUND_HALF_EVEN,
    Emin=-999999,
    Emax=999999,
    capitals=1,
    clamp=0,
    flags=[],
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)


def table(entries: Iterable[Decimal], bits: int, digest: str) -> NDArray[np.int64]:
    """These numbers in units of 2^-bits, rounded to nearest, ties to even.

    ``entries`` are computed as they are asked for, so that this context is theirs too. ``digest``
    is the SHA-256 of the table as little-endian 64-bit numbers, in hexadecimal. Raises DeviceError
    if the table is another one.
    """
    with decimal.localcontext(_CONTEXT):
        found = np.array(
            [int((entry * (1 << bits)).to_integral_value()) for entry in entries], np.int64
        )
    if sha256(found.astype("<i8").tobytes()).hexdigest() != digest:
        raise DeviceError(
            "the decimal arithmetic of this Python gives other tables than the format's: "
            "use another build of Python"
        )
    found.flags.writeable = False
    return found
