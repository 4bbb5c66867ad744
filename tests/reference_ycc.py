"""Luma and chroma, once more: a short and slow renderer that follows ``docs/format.md``.

It shares no line with pixelzip and does not import it. Names and order are those of the page.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Samples = list[list[int]]
"""A plane, [row][column]."""
Shape = tuple[int, int]
Axis = tuple[Sequence[int], Sequence[int], tuple[int, int], tuple[int, int]]
"""Overhangs before and after; weights (near, far) of a pair's first pixel and of its second."""
Tables = tuple[list[int], list[int], list[int], list[int], list[int]]


# Stretching.

WHOLE: Axis = (0,), (0,), (1, 0), (1, 0)
COPY: Axis = (0, 1), (0, 1), (1, 0), (1, 0)
FANCY: Axis = (0, 1, 2), (0, 1, 2), (3, 1), (3, 1)
FIRST: Axis = (0,), (0, 1, 2), (2, 0), (1, 1)
SECOND: Axis = (0, 2), (0, 1), (1, 1), (2, 0)

RULES: list[tuple[Axis, Axis, int, Samples]] = [
    (WHOLE, WHOLE, 0, [[0, 0], [0, 0]]),
    (WHOLE, COPY, 0, [[0, 0], [0, 0]]),
    (COPY, WHOLE, 0, [[0, 0], [0, 0]]),
    (COPY, COPY, 0, [[0, 0], [0, 0]]),
    (WHOLE, FANCY, 2, [[1, 2], [1, 2]]),
    (WHOLE, FANCY, 2, [[2, 1], [2, 1]]),
    (FANCY, WHOLE, 2, [[1, 1], [2, 2]]),
    (FANCY, WHOLE, 2, [[2, 2], [1, 1]]),
    (FANCY, FANCY, 4, [[8, 7], [8, 7]]),
    (FANCY, FANCY, 4, [[7, 8], [7, 8]]),
    (FANCY, FANCY, 4, [[8, 8], [7, 7]]),
    (FANCY, FANCY, 4, [[7, 7], [8, 8]]),
    (FANCY, FANCY, 4, [[8, 8], [8, 8]]),
    (FIRST, FIRST, 2, [[2, 2], [2, 2]]),
    (FIRST, SECOND, 2, [[2, 2], [2, 2]]),
    (SECOND, FIRST, 2, [[2, 2], [2, 2]]),
    (SECOND, SECOND, 2, [[2, 2], [2, 2]]),
]
"""Rows, columns, shift, bias[row of the pair][column of the pair]."""


def overhangs(packed: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(before, after) the rows, and the columns."""
    return (packed & 3, packed >> 2 & 3), (packed >> 4 & 3, packed >> 6)


def chroma(parameters: bytes, shape: Shape) -> tuple[Shape, Shape, Shape]:
    """The size of the chroma planes, their steps and their phases. ValueError if refused."""
    if len(parameters) != 3 or parameters[0] >= len(CONVERSIONS) or parameters[1] >= len(RULES):
        raise ValueError("damaged")
    size, steps, phases = [], [], []
    rows, columns, _, _ = RULES[parameters[1]]
    for n, axis, (before, after) in zip(
        shape, (rows, columns), overhangs(parameters[2]), strict=True
    ):
        step = 1 if axis is WHOLE else 2
        total = before + n + after
        if before not in axis[0] or after not in axis[1] or total % step:
            raise ValueError("damaged")
        size.append(total // step)
        steps.append(step)
        phases.append(before)
    return (size[0], size[1]), (steps[0], steps[1]), (phases[0], phases[1])


def place(i: int, m: int, axis: Axis, before: int) -> tuple[list[tuple[int, int]], int]:
    """(sample, weight), near and far, of the pixel at place i; and 1 if it is a pair's second."""
    if axis is WHOLE:
        return [(i, 1)], 0
    k, second = (i + before) // 2, (i + before) % 2
    far = k + 1 if second else k - 1
    if far in (-1, m):
        far = k
    near_weight, far_weight = axis[2 + second]
    return [(k, near_weight), (far, far_weight)], second


def stretched(s: Samples, parameters: bytes, shape: Shape) -> Samples:
    """A chroma plane in the picture's size."""
    rows, columns, shift, bias = RULES[parameters[1]]
    (top, _), (left, _) = overhangs(parameters[2])
    out: Samples = []
    for i in range(shape[0]):
        down, lower = place(i, len(s), rows, top)
        out.append([])
        for j in range(shape[1]):
            across, right = place(j, len(s[0]), columns, left)
            total = sum(v * sum(w * s[r][c] for c, w in across) for r, v in down)
            out[i].append((total + bias[lower][right]) >> shift)
    return out


# Conversion.


def tables(*entries: Callable[[int], int]) -> Tables:
    """Luma, red, green1, green2 and blue, from what they hold at k."""
    luma, red, green1, green2, blue = ([entry(k) for k in range(256)] for entry in entries)
    return luma, red, green1, green2, blue


def products(luma: Callable[[int], int], *factors: int) -> Tables:
    """Tables of a factor times d."""
    return tables(luma, *(lambda k, f=f: f * (k - 128) for f in factors))


def photocd() -> Tables:
    red = [119374 * (k - 137) for k in range(256)]
    blue = [145352 * (k - 156) for k in range(256)]
    return (
        [89024 * k for k in range(256)],
        red,
        [-12714 * (b >> 16) for b in blue],
        [-33358 * (r >> 16) for r in red],
        blue,
    )


def pillow(f: int) -> Callable[[int], int]:
    def t(k: int) -> int:
        n = 2 * 64 * (k - 128) * f + 100000
        return abs(n) // 200000 * (1 if n > 0 else -1)

    return t


def ffmpeg(black: int, luma: int, *factors: int) -> Tables:
    def m(f: int, x: int) -> int:
        return 8 * x * f >> 16

    rest = (lambda k, f=f: m(f, k - 128) for f in factors)
    return tables(lambda k: m(luma, k - black), *rest)


CONVERSIONS: list[tuple[int, Tables]] = [
    (16, products(lambda k: 65536 * k + 32768, 91881, -22554, -46802, 116130)),
    (16, photocd()),
    (6, tables(lambda k: 64 * k, *map(pillow, (140200, -34414, -71414, 177200)))),
    (14, products(lambda k: 16384 * k + 8192, 22987, -5636, -11698, 29049)),
    (
        20,
        products(lambda k: 1220542 * max(k - 16, 0) + 524288, 1673527, -409993, -852492, 2116026),
    ),
    (
        6,
        tables(
            lambda k: 19077 * k >> 8,
            lambda k: (26149 * k >> 8) - 14234,
            lambda k: 8708 - (6419 * k >> 8),
            lambda k: -(13320 * k >> 8),
            lambda k: (33050 * k >> 8) - 17685,
        ),
    ),
    (0, ffmpeg(16, 9539, 13075, -3209, -6660, 16525)),
    (0, ffmpeg(0, 8192, 11485, -2819, -5850, 14516)),
    (0, ffmpeg(16, 9539, 14686, -1747, -4366, 17305)),
    (0, ffmpeg(0, 8192, 12901, -1534, -3835, 15201)),
]
"""Shift and tables."""


def clip(value: int) -> int:
    return max(0, min(value, 255))


def rendered(
    parameters: bytes, y: Samples, c1: Samples, c2: Samples
) -> list[list[tuple[int, int, int]]]:
    """The pixels that three planes stand for."""
    shape = len(y), len(y[0])
    shift, (luma, red, green1, green2, blue) = CONVERSIONS[parameters[0]]
    first, second = stretched(c1, parameters, shape), stretched(c2, parameters, shape)
    return [
        [
            (
                clip((luma[k] + red[b]) >> shift),
                clip((luma[k] + green1[a] + green2[b]) >> shift),
                clip((luma[k] + blue[a]) >> shift),
            )
            for k, a, b in zip(*row, strict=True)
        ]
        for row in zip(y, first, second, strict=True)
    ]
