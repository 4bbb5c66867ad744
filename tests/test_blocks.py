"""Planes that a JPEG decoder made: rendering exactly, and finding the blocks again."""

from __future__ import annotations

from pathlib import Path

import jpeglib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pixelzip.codec import native
from pixelzip.codec.origins import blocks
from pixelzip.codec.origins.blocks import Blocks, find, render

EXAMPLES = Path(__file__).parent.parent / "examples"
ORDER = np.arange(64)


def photograph(size: tuple[int, int] = (200, 120)) -> Image.Image:
    with Image.open(EXAMPLES / "parrots.png") as image:
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def encoded(image: Image.Image, path: Path, quality: int) -> Path:
    image.save(path, "JPEG", quality=quality, subsampling=0)
    return path


def planes_of(path: Path) -> NDArray[np.uint8]:
    """(height, width, components) as libjpeg-turbo decodes them, without conversion of colours."""
    with Image.open(path) as image:
        if image.mode == "RGB":
            image.draft("YCbCr", image.size)
        planes = np.asarray(image)
    return planes if planes.ndim == 3 else planes[:, :, None]


def blocks_of(path: Path, component: int = 0) -> Blocks:
    """As libjpeg reads them."""
    file = jpeglib.read_dct(str(path))
    coefficients = (file.Y, file.Cb, file.Cr)[component]
    steps = file.qt[file.quant_tbl_no[component]]
    shape = (*coefficients.shape[:2], 64)
    return Blocks(
        steps.reshape(64).astype(np.uint16),
        np.ascontiguousarray(coefficients.reshape(shape), np.int16),
        *(0, 0, False),
    )


def by_definition(block: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.int64]:
    """The transform in plain loops over Python's integers: (64,) each -> (8, 8)."""

    def saturated(number: int) -> int:
        return max(-(1 << 15), min((1 << 15) - 1, number))

    waves = blocks.WAVES.tolist()
    d = [saturated(int(c) * int(s)) for c, s in zip(block, steps, strict=True)]
    h = [
        [
            saturated((sum(waves[v][y] * d[8 * v + u] for v in range(8)) + 1024) >> 11)
            for u in range(8)
        ]
        for y in range(8)
    ]
    rows = [
        [(sum(waves[u][x] * h[y][u] for u in range(8)) + (1 << 17)) >> 18 for x in range(8)]
        for y in range(8)
    ]
    return np.clip(np.array(rows) + 128, 0, 255)


@pytest.fixture(params=["compiled", "numpy"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to render."""
    if request.param == "numpy":
        monkeypatch.setattr(native, "coding", lambda: None)
    elif native.coding() is None:
        pytest.skip("there is no compiled library")
    return str(request.param)


@pytest.mark.parametrize("quality", [1, 20, 50, 75, 90, 95, 100])
def test_renders_what_libjpeg_turbo_decodes(tmp_path: Path, engine: str, quality: int) -> None:
    path = encoded(photograph(), tmp_path / "a.jpg", quality)
    planes = planes_of(path)
    for component in range(3):
        made = render(blocks_of(path, component), planes.shape[:2])
        assert np.array_equal(made, planes[:, :, component])


@pytest.mark.parametrize("version", ["6b", "7", "8d", "9e", "turbo210", "mozjpeg403"])
def test_renders_what_each_libjpeg_decodes(tmp_path: Path, engine: str, version: str) -> None:
    path = encoded(photograph().convert("L"), tmp_path / "a.jpg", 85)
    with jpeglib.version(version):
        pixels = jpeglib.read_spatial(str(path), jpeglib.JCS_GRAYSCALE).spatial[:, :, 0]
    assert np.array_equal(render(blocks_of(path), pixels.shape), pixels)


def test_renders_black_and_white_as_libjpeg_does(tmp_path: Path, engine: str) -> None:
    random = np.random.default_rng(1)
    pixels = np.repeat(np.repeat(random.integers(0, 2, (30, 40)) * 255, 3, 0), 5, 1)
    path = encoded(Image.fromarray(pixels.astype(np.uint8)), tmp_path / "a.jpg", 30)
    planes = planes_of(path)
    assert np.array_equal(render(blocks_of(path), planes.shape[:2]), planes[:, :, 0])


@given(
    numbers=st.lists(st.integers(-(1 << 15), (1 << 15) - 1), min_size=64, max_size=64),
    sizes=st.sampled_from([1, 4, 255, 65535]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_any_coefficients_render_by_the_definition(
    numbers: list[int], sizes: int, seed: int
) -> None:
    steps = np.random.default_rng(seed).integers(0, sizes + 1, 64)
    wild = np.array(numbers)
    wild[seed % 64 :] >>= seed % 16  # some blocks are tame
    expected = by_definition(wild, steps)
    for transposed in (False, True):
        order = ORDER.reshape(8, 8).T.ravel() if transposed else ORDER
        coefficients = wild[order].reshape(1, 1, 64).astype(np.int16)
        given_ = Blocks(steps[order].astype(np.uint16), coefficients, 0, 0, transposed)
        made = render(given_, (8, 8))
        assert np.array_equal(made.T if transposed else made, expected)


@pytest.mark.parametrize("shape", [(1, 1), (5, 30), (24, 16), (23, 17), (9, 64)])
@pytest.mark.parametrize(("top", "left"), [(0, 0), (7, 7), (3, 0), (1, 6)])
def test_planes_cut_anywhere(shape: tuple[int, int], top: int, left: int, engine: str) -> None:
    random = np.random.default_rng(7)
    rows, columns = blocks.size(shape, top, left)
    coefficients = random.integers(-40, 41, (rows, columns, 64)).astype(np.int16)
    steps = random.integers(1, 20, 64).astype(np.uint16)
    whole = render(Blocks(steps, coefficients, 0, 0, False), (8 * rows, 8 * columns))
    made = render(Blocks(steps, coefficients, top, left, False), shape)
    assert np.array_equal(made, whole[top : top + shape[0], left : left + shape[1]])


def test_transposed_is_another_rounding(engine: str) -> None:
    random = np.random.default_rng(2)
    coefficients = random.integers(-3, 4, (8, 8, 64)).astype(np.int16)
    steps = np.full(64, 7, np.uint16)
    across, down = (render(Blocks(steps, coefficients, 0, 0, t), (64, 64)) for t in (False, True))
    order = ORDER.reshape(8, 8).T.ravel()
    turned = Blocks(steps[order], coefficients.swapaxes(0, 1)[:, :, order], 0, 0, True)
    assert np.array_equal(render(turned, (64, 64)), across.T)
    assert 0 < (across != down).mean() < 0.1


def test_too_few_blocks(engine: str) -> None:
    given_ = Blocks(np.ones(64, np.uint16), np.zeros((2, 2, 64), np.int16), 1, 0, False)
    with pytest.raises(ValueError, match="cover"):
        render(given_, (16, 16))


compiled = pytest.mark.skipif(native.coding() is None, reason="only compiled code searches")


@compiled
@pytest.mark.parametrize(("quality", "share"), [(60, 1.0), (90, 0.99), (95, 0.97), (98, 0.95)])
@pytest.mark.parametrize("turned", [False, True])
def test_finds_the_blocks_of_a_crop(
    tmp_path: Path, quality: int, share: float, turned: bool
) -> None:
    path = encoded(photograph((300, 200)), tmp_path / "a.jpg", quality)
    plane, truth = planes_of(path)[13:189, 5:285, 0], blocks_of(path)
    order = ORDER.reshape(8, 8).T.ravel() if turned else ORDER
    plane = np.ascontiguousarray(plane.T) if turned else plane
    found = find(plane, np.ones(plane.shape, np.bool_))
    assert found is not None
    assert (found.top, found.left) == ((5, 5))
    assert found.transposed == turned
    coefficients = truth.coefficients[1:24, :36]
    coefficients = coefficients.swapaxes(0, 1) if turned else coefficients
    used = (coefficients[..., order][1:-1, 1:-1] != 0).any((0, 1))
    assert np.array_equal(found.steps[used], truth.steps[order][used])
    inner = np.s_[1:-1, 1:-1]
    same = (found.coefficients[inner] == coefficients[..., order][inner]).all(-1)
    assert same.mean() >= share - 0.05
    fits = (render(found, plane.shape) == plane)[8:-8, 8:-8]
    assert fits.mean() >= share


@compiled
def test_small_planes_are_found_with_hints(tmp_path: Path) -> None:
    path = encoded(photograph((48, 32)), tmp_path / "a.jpg", 85)
    luma, cb = (np.ascontiguousarray(p) for p in np.moveaxis(planes_of(path), 2, 0)[:2])
    known = np.ones(luma.shape, np.bool_)
    like = find(luma, known, offsets=[(0, 0)])
    assert like is not None
    found = find(cb, known, offsets=[(0, 0), (4, 0)], like=like)
    assert found is not None
    truth = blocks_of(path, 1)
    assert np.array_equal(found.steps, truth.steps)
    assert np.array_equal(found.coefficients, truth.coefficients)


@compiled
def test_guesses_are_held_to_their_bounds(tmp_path: Path) -> None:
    path = encoded(photograph(), tmp_path / "a.jpg", 90)
    plane, random = np.ascontiguousarray(planes_of(path)[:, :, 0]), np.random.default_rng(3)
    known = random.random(plane.shape) < 0.95
    off = random.integers(-2, 3, plane.shape)
    guess = np.where(known, plane, np.clip(plane.astype(int) + off, 0, 255)).astype(np.uint8)
    low, high = (np.clip(guess + d, 0, 255).astype(np.uint8) for d in (-2.0, 2.0))
    found = find(guess, known, low, high)
    assert found is not None
    assert (found.coefficients == blocks_of(path).coefficients).all(2).mean() > 0.99
    assert (render(found, plane.shape) == plane).mean() > 0.999


@compiled
def test_a_retouched_plane_is_found_all_the_same(tmp_path: Path) -> None:
    path = encoded(photograph(), tmp_path / "a.jpg", 85)
    plane = planes_of(path)[:, :, 0].copy()
    plane[30:60, 20:150] = np.where(np.random.default_rng(2).random((30, 130)) < 0.4, 250, 20)
    found = find(plane, np.ones(plane.shape, np.bool_))
    assert found is not None
    same = (found.coefficients == blocks_of(path).coefficients).all(2)
    assert same[8:].all()
    assert same[:, 20:].all()


@compiled
def test_finds_nothing_where_there_is_no_jpeg() -> None:
    random = np.random.default_rng(5)
    noise = random.integers(0, 256, (100, 100)).astype(np.uint8)
    flat = np.full((64, 64), 77, np.uint8)
    smooth = np.add.outer(np.arange(90), np.arange(120)).astype(np.uint8)
    clean = np.asarray(photograph().convert("L"))
    for plane in (noise, flat, smooth, clean, clean[:5], clean[:, :1]):
        assert find(plane, np.ones(plane.shape, np.bool_)) is None


@compiled
def test_finds_nothing_where_a_decoded_jpeg_was_edited(tmp_path: Path) -> None:
    plane = planes_of(encoded(photograph(), tmp_path / "a.jpg", 85))[:, :, 0]
    for edited in (plane * 0.9 + 12, 255 * (plane / 255) ** 0.9):
        assert find(np.rint(edited).astype(np.uint8), np.ones(plane.shape, np.bool_)) is None
