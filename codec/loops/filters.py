"""Undoes the filters of `pixelzip.codec.packed`: each byte waits for the last one."""

from __future__ import annotations

import numpy as np

from pixelzip.codec.compiled import kernel

NONE, SUB, UP, AVERAGE, PAETH = range(5)  # as in `pixelzip.codec.packed.Filter`


@kernel
def undo(rows, step, kinds):  # type: ignore[no-untyped-def]
    """Turn residuals (R, N) into rows, in place, under each row's filter (R,).

    ``step`` is the distance in bytes to the pixel on the left; what lies outside is zero.
    """
    for r in range(rows.shape[0]):
        kind = kinds[r]
        for i in range(rows.shape[1]):
            left = np.int32(rows[r, i - step]) if i >= step else np.int32(0)
            above = np.int32(rows[r - 1, i]) if r > 0 else np.int32(0)
            predicted = np.int32(0)
            if kind == SUB:
                predicted = left
            elif kind == UP:
                predicted = above
            elif kind == AVERAGE:
                predicted = (left + above) >> 1
            elif kind == PAETH:
                corner = np.int32(rows[r - 1, i - step]) if r > 0 and i >= step else np.int32(0)
                to_left, to_above = abs(above - corner), abs(left - corner)
                to_corner = abs(left + above - 2 * corner)
                predicted = above if to_above <= to_corner else corner
                if to_left <= to_above and to_left <= to_corner:
                    predicted = left
            rows[r, i] = np.uint8(rows[r, i] + predicted)
