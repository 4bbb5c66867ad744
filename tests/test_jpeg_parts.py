"""JPEG files taken apart into segments, notes and coefficients, and put together again."""

from __future__ import annotations

from pathlib import Path
from random import Random

import fuzz_jpegs
import jpeglib
import jpegs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelzip.codec.errors import FormatError
from pixelzip.codec.jpeg import syntax
from pixelzip.codec.jpeg.parts import Parts, put_together, take_apart

pytestmark = pytest.mark.skipif(syntax.library() is None, reason="there is no compiled library")

BASELINE = [((0, 1, 2), 0, 63, 0, 0)]
PLANES = [((0,), 0, 63, 0, 0), ((1,), 0, 63, 0, 0), ((2,), 0, 63, 0, 0)]
SPECTRAL = [((0, 1, 2), 0, 0, 0, 0)] + [((i,), 1, 63, 0, 0) for i in range(3)]
SUCCESSIVE = [
    ((0, 1, 2), 0, 0, 0, 2),
    ((0,), 1, 5, 0, 2),
    ((2,), 1, 63, 0, 1),
    ((1,), 1, 63, 0, 1),
    ((0,), 6, 63, 0, 2),
    ((0,), 1, 63, 2, 1),
    ((0, 1, 2), 0, 0, 2, 1),
    ((0, 1), 0, 0, 1, 0),
    ((0,), 1, 63, 1, 0),
    ((2,), 0, 0, 1, 0),
    ((2,), 1, 63, 1, 0),
    ((1,), 1, 63, 1, 0),
]
SCRIPTS = {"baseline": BASELINE, "planes": PLANES, "spectral": SPECTRAL, "successive": SUCCESSIVE}


def back(data: bytes) -> Parts:
    """The parts of a file that comes back from them, byte for byte."""
    parts = take_apart(data)
    assert put_together(parts.segments, parts.notes, parts.blocks, len(data)) == data
    return parts


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("size", [(96, 64), (97, 51), (1, 1), (8, 300)])
def test_files_of_libjpeg_are_understood(
    photo_path: Path, size: tuple[int, int], subsampling: str, progressive: bool
) -> None:
    for quality, interval in (15, 0), (80, 3), (98, 1):
        data = jpegs.photo(
            *(photo_path, size),
            quality=quality,
            subsampling=subsampling,
            progressive=progressive,
            restart_marker_blocks=interval,
        )
        parts = back(data)
        assert not parts.headers.trouble
        assert parts.blocks.any()
        assert len(parts.segments) < 1500


@pytest.mark.parametrize("mode", ["L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_grey_and_cmyk(photo_path: Path, mode: str, progressive: bool) -> None:
    data = jpegs.photo(photo_path, (130, 77), mode, quality=90, progressive=progressive)
    assert not back(data).headers.trouble


def test_coefficients_are_those_that_libjpeg_reads(photo_path: Path, tmp_path: Path) -> None:
    data = jpegs.photo(photo_path, (120, 72), quality=85, subsampling="4:2:0", progressive=True)
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    read = jpeglib.read_dct(str(path))
    parts = take_apart(data)
    assert parts.headers.frame is not None
    luma, *chroma = parts.headers.frame.components
    order = np.array([int(at) for at in _zigzag()])
    planes = [(luma, read.Y), *zip(chroma, (read.Cb, read.Cr), strict=True)]
    for component, theirs in planes:
        ours = parts.blocks[component.first : component.first + component.blocks]
        ours = ours.reshape(component.rows, component.stride, 64)
        wanted = theirs.reshape(*theirs.shape[:2], 64)[:, :, order]
        rows, columns = min(ours.shape[0], wanted.shape[0]), min(ours.shape[1], wanted.shape[1])
        assert np.array_equal(ours[:rows, :columns], wanted[:rows, :columns])


def _zigzag() -> list[int]:
    """Row by row numbers of the places in a block, from low frequencies to high ones."""
    places = [(row, column) for row in range(8) for column in range(8)]
    places.sort(key=lambda at: (sum(at), at[0] if sum(at) % 2 else at[1]))
    return [8 * row + column for row, column in places]


SAMPLING = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(
    st.sampled_from(sorted(SCRIPTS)),
    st.tuples(SAMPLING, SAMPLING, SAMPLING),
    st.integers(1, 70),
    st.integers(1, 70),
    st.integers(0, 12),
    st.sampled_from([0, 255, None]),
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=150)
def test_any_sampling_script_padding_and_intervals(
    name: str,
    sampling: tuple[tuple[int, int], ...],
    width: int,
    height: int,
    interval: int,
    pads: int | None,
    seed: int,
    odd: float,
) -> None:
    progressive = name in ("spectral", "successive")
    head = jpegs.headers(width, height, sampling, progressive=progressive, interval=interval)
    data, blocks = jpegs.build(head, SCRIPTS[name], seed, pads=pads, odd=odd)
    parts = back(data)
    if not odd:
        assert not parts.headers.trouble
        if name == "baseline":
            assert np.array_equal(parts.blocks, blocks)


def test_long_runs_of_empty_blocks() -> None:
    """As many blocks as one run can hold, and more."""
    head = jpegs.headers(8 * 300, 8 * 240, [(1, 1)], progressive=True)
    script = [((0,), 0, 0, 0, 0), ((0,), 1, 63, 0, 1), ((0,), 1, 63, 1, 0)]
    for most in 0, 1:
        data, _ = jpegs.build(head, script, 1, most=most + 1)
        parts = back(data)
        assert not parts.headers.trouble


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("interval", [0, 4])
def test_cut_anywhere(photo_path: Path, progressive: bool, interval: int) -> None:
    data = jpegs.photo(
        photo_path, (64, 48), quality=80, progressive=progressive, restart_marker_blocks=interval
    )
    for end in range(0, len(data), 7):
        parts = back(data[:end])
        assert parts.headers.trouble
    # What stands before the cut is understood.
    assert len(back(data[: len(data) * 3 // 4]).segments) < len(data) // 2


@pytest.mark.parametrize("tail", [b"", b"\xff\xd9", b"\0" * 100, b"video" * 1000, None])
def test_what_follows_the_end(photo_path: Path, tail: bytes | None) -> None:
    data = jpegs.photo(photo_path, (64, 48), quality=80)
    parts = back(data[:-2] if tail is None else data + tail)
    assert parts.headers.ended == (tail is not None)
    assert parts.blocks.any()


@pytest.mark.parametrize("progressive", [False, True])
def test_damage_comes_back(photo_path: Path, progressive: bool) -> None:
    data = jpegs.photo(
        photo_path, (64, 48), quality=80, progressive=progressive, restart_marker_blocks=5
    )
    random = Random(4)
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(random.choice([1, 1, 2, 5])):
            damaged[random.randrange(2, len(data))] = random.randrange(256)
        back(bytes(damaged))


def test_thousands_of_damaged_files_come_back(photo_path: Path) -> None:
    random, files = Random(6), fuzz_jpegs.seeds(photo_path)
    outcomes = set()
    for number in range(3000):
        data = fuzz_jpegs.damaged(random.choice(files), random.choice(files), random)
        outcomes.add(fuzz_jpegs.attack(data, random, number % 300 == 0))
    assert {"parts", "parts with trouble", "no scan"} <= outcomes
    assert not outcomes & {"refused", "other bytes"}


def test_notes_that_do_not_fit_are_refused(photo_path: Path) -> None:
    data = jpegs.photo(photo_path, (64, 48), quality=80, restart_marker_blocks=5)
    parts = take_apart(data)
    random = Random(5)
    for _ in range(300):
        notes = bytes(random.randrange(256) for _ in range(random.randrange(1, 9)))
        try:
            other = put_together(parts.segments, notes, parts.blocks, len(data))
        except FormatError:
            continue
        assert len(other) == len(data)


def test_coefficients_without_codes_are_refused(photo_path: Path) -> None:
    data = jpegs.photo(photo_path, (64, 48), quality=80)
    parts = take_apart(data)
    with pytest.raises(FormatError, match="do not fit"):
        put_together(parts.segments, parts.notes, parts.blocks * 0 + 32767, len(data))
