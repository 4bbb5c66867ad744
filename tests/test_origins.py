"""Origins: what real libraries make of luma and chroma is found, and rendered again exactly."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import jpeglib
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pixelzip.codec.errors import FormatError
from pixelzip.codec.origins import ALL, conversions, downsampling, origin, ycc
from pixelzip.codec.origins.origin import Found
from pixelzip.codec.origins.upsampling import RULES, Stretch, Upsampling, extents
from pixelzip.codec.workers import side_by_side

Bytes = NDArray[np.uint8]


@pytest.fixture(scope="module")
def kodak(photo_path: Path) -> Bytes:
    """The photograph of the repository, 768x512: a rendered PhotoCD file."""
    return np.asarray(Image.open(photo_path))


@pytest.fixture(scope="module")
def photo(kodak: Bytes) -> Bytes:
    """The same halved with a good filter, which leaves no origin: 384x256."""
    return np.asarray(Image.fromarray(kodak).resize((384, 256), Image.Resampling.LANCZOS))


def saved(pixels: Bytes, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def decoded(file: bytes) -> Bytes:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def jpeg(pixels: Bytes, subsampling: int = 0, quality: int = 90) -> Bytes:
    return decoded(saved(pixels, format="JPEG", quality=quality, subsampling=subsampling))


def lying(pixels: Bytes, way: int) -> Bytes:
    """The pixels in one of the eight ways that a picture can lie."""
    turned = np.rot90(pixels, way % 4)
    return np.ascontiguousarray(turned[:, ::-1] if way >= 4 else turned)


def rendered(found: Found, shape: tuple[int, int]) -> Bytes:
    """What the planes render to, after checking that they are what their parameters say."""
    layouts = ycc.layout(found.parameters, shape)
    for plane, layout in zip(found.planes, layouts, strict=True):
        assert plane.samples.shape == (layout.height, layout.width, layout.channels)
        assert (plane.kind, plane.step, plane.phase) == (layout.kind, layout.step, layout.phase)
    return ycc.render(found.parameters, [plane.samples for plane in found.planes], shape)


def found(pixels: Bytes, conversion: str, steps: tuple[int, int], wrong: float) -> Found:
    """Finds the origin that the pixels must have.

    At most a share ``wrong`` of those that are not clipped differ, and few of the others.
    """
    origin = ycc.find(pixels)
    assert origin is not None
    assert conversions.conversion(origin.parameters[0]).name == conversion
    assert origin.planes[1].step == steps
    shape = (pixels.shape[0], pixels.shape[1])
    different = (rendered(origin, shape) != pixels).any(2)
    clipped = ((pixels == 0) | (pixels == 255)).any(2)
    assert (different & ~clipped).mean() <= wrong
    assert (different & clipped).mean() <= 0.04
    return origin


# --- Conversions: our tables against the real libraries, over all samples ---

C1, C2 = (a.astype(np.uint8) for a in np.meshgrid(range(256), range(256), indexing="ij"))


def from_pillow(y: Bytes) -> Bytes:
    return np.asarray(Image.fromarray(np.stack([y, C1, C2], -1), "YCbCr").convert("RGB"))


def from_opencv(y: Bytes) -> Bytes:
    return np.asarray(cv2.cvtColor(np.stack([y, C2, C1], -1), cv2.COLOR_YCrCb2RGB))


def from_opencv_video(y: Bytes) -> Bytes:
    frame = np.concatenate([y.repeat(4).ravel(), C1.ravel(), C2.ravel()]).reshape(768, 512)
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_I420))[::2, ::2]


def from_ffmpeg(space: Colorspace, full: bool) -> Callable[[Bytes], Bytes]:
    def convert(y: Bytes) -> Bytes:
        frame = av.VideoFrame(512, 512, "yuvj420p" if full else "yuv420p")
        for plane, samples in zip(frame.planes, (y.repeat(2, 0).repeat(2, 1), C1, C2), strict=True):
            padded = np.zeros((plane.height, plane.line_size), np.uint8)
            padded[:, : samples.shape[1]] = samples
            plane.update(padded.tobytes())
        return frame.reformat(
            format="rgb24",
            src_colorspace=space,
            dst_colorspace=space,
            src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
            dst_color_range=ColorRange.JPEG,
        ).to_ndarray()[::2, ::2]

    return convert


def photocd_by_the_formula(y: Bytes) -> Bytes:
    """Y, C1, C2 to RGB with factors in 1/65536, in Python's own integers at each step."""
    blue = [145352 * (k - 156) for k in range(256)]
    red = [119374 * (k - 137) for k in range(256)]
    luma = 89024 * int(y[0, 0])
    pixels = np.empty((256, 256, 3), np.int64)
    pixels[..., 0] = np.array([(luma + r) >> 16 for r in red])[None, :]
    green1 = np.array([-12714 * (b >> 16) for b in blue])[:, None]
    green2 = np.array([-33358 * (r >> 16) for r in red])[None, :]
    pixels[..., 1] = (luma + green1 + green2) >> 16
    pixels[..., 2] = np.array([(luma + b) >> 16 for b in blue])[:, None]
    return pixels.clip(0, 255).astype(np.uint8)


REAL: dict[str, Callable[[Bytes], Bytes]] = {
    "PhotoCD": photocd_by_the_formula,
    "Pillow": from_pillow,
    "OpenCV": from_opencv,
    "OpenCV, video range": from_opencv_video,
    "FFmpeg, BT.601, video range": from_ffmpeg(Colorspace.ITU601, False),
    "FFmpeg, BT.601, full range": from_ffmpeg(Colorspace.ITU601, True),
    "FFmpeg, BT.709, video range": from_ffmpeg(Colorspace.ITU709, False),
    "FFmpeg, BT.709, full range": from_ffmpeg(Colorspace.ITU709, True),
}
NUMBERS = {conversions.conversion(n).name: n for n in range(conversions.COUNT)}


@pytest.mark.parametrize("name", REAL)
def test_a_conversion_is_the_librarys_for_all_samples(name: str) -> None:
    conversion = conversions.conversion(NUMBERS[name])
    # PhotoCD is quick enough for all 2^24; of the others every third luma and both ends.
    lumas = range(256) if name == "PhotoCD" else sorted({*range(0, 256, 3), 1, 16, 17, 254, 255})
    for value in lumas:
        y = np.full((256, 256), value, np.uint8)
        assert np.array_equal(conversion.render(y, C1, C2), REAL[name](y)), value


@pytest.mark.parametrize("number", range(conversions.COUNT))
def test_inverting_finds_all_unclipped_colours(number: int) -> None:
    conversion = conversions.conversion(number)
    y = np.random.default_rng(0).integers(0, 256, C1.shape, dtype=np.uint8)
    pixels = conversion.render(y, C1, C2).reshape(-1, 3)
    inside = ((pixels > 0) & (pixels < 255)).all(1)
    samples, known = conversion.invert(pixels[inside])
    assert known.all()
    assert np.array_equal(samples, np.stack([y, C1, C2]).reshape(3, -1)[:, inside])


# --- Pictures: found as they are, whichever way they lie, and in part ---


@pytest.mark.parametrize("way", range(8))
def test_photocd_is_found_whichever_way_it_lies(kodak: Bytes, way: int) -> None:
    found(lying(kodak, way)[:300, :300], "PhotoCD", (2, 2), 0.0005)


def test_no_unclipped_pixel_of_a_photocd_differs(kodak: Bytes) -> None:
    origin = found(kodak, "PhotoCD", (2, 2), 0.0001)
    assert origin.planes[1].samples.shape == (256, 384, 1)


@pytest.mark.parametrize(("top", "left", "bottom", "right"), [*itertools.product((0, 1), repeat=4)])
def test_photocd_is_found_in_any_crop(
    kodak: Bytes, top: int, left: int, bottom: int, right: int
) -> None:
    crop = kodak[100 + top : 200 - bottom, 300 + left : 420 - right]
    found(np.ascontiguousarray(crop), "PhotoCD", (2, 2), 0.0005)


STEPS = {0: (1, 1), 1: (1, 2), 2: (2, 2)}


@pytest.mark.parametrize(("subsampling", "way"), [*itertools.product(STEPS, (0, 3, 6))])
def test_decoded_jpeg_is_found(photo: Bytes, subsampling: int, way: int) -> None:
    pixels = lying(jpeg(photo, subsampling), way)
    rows, columns = STEPS[subsampling]
    found(pixels, "libjpeg", (columns, rows) if way % 2 else (rows, columns), 0.003)


@pytest.mark.parametrize("subsampling", STEPS)
@pytest.mark.parametrize(("top", "left", "height", "width"), [(40, 60, 100, 120), (41, 63, 99, 80)])
def test_decoded_jpeg_is_found_in_any_crop(
    photo: Bytes, subsampling: int, top: int, left: int, height: int, width: int
) -> None:
    crop = jpeg(photo, subsampling)[top : top + height, left : left + width]
    found(np.ascontiguousarray(crop), "libjpeg", STEPS[subsampling], 0.005)


def test_a_white_background_and_clipped_colours_need_no_corrections(photo: Bytes) -> None:
    pixels = photo.copy()
    pixels[:, 200:] = 255
    pixels = jpeg(pixels, 0, quality=85)
    clipped = ((pixels == 0) | (pixels == 255)).any(2)
    assert 0.3 < clipped.mean() < 0.7
    origin = found(pixels, "libjpeg", (1, 1), 0)
    assert (rendered(origin, (256, 384)) != pixels).any(2).sum() <= 20


def test_chroma_that_looks_halved_in_part_stays_whole(photo: Bytes) -> None:
    """The busiest part of the picture is of halved chroma, all around it is not."""
    pixels = jpeg(photo // 2 + 60, 0).copy()
    pixels[96:192, 96:192] = jpeg(photo, 2)[96:192, 96:192]
    found(pixels, "libjpeg", (1, 1), 0)


@pytest.mark.parametrize("subsampling", STEPS)
def test_decoded_jpeg_of_odd_size_is_found(photo: Bytes, subsampling: int) -> None:
    found(jpeg(photo[:201, :151], subsampling), "libjpeg", STEPS[subsampling], 0.003)


@pytest.mark.parametrize("version", ["6b", "turbo210", "mozjpeg403"])
@pytest.mark.parametrize("fancy", [True, False])
@pytest.mark.parametrize("factors", ["4:4:4", "4:2:2", "4:2:0", "4:4:0"])
def test_versions_of_libjpeg(
    photo: Bytes, tmp_path: Path, version: str, fancy: bool, factors: str
) -> None:
    path = str(tmp_path / "x.jpg")
    with jpeglib.version(version):
        image = jpeglib.from_spatial(photo)
        image.samp_factor = factors
        image.write_spatial(path, qt=90)
        sign = "+" if fancy else "-"
        pixels = jpeglib.read_spatial(path, flags=[f"{sign}DO_FANCY_UPSAMPLING"]).spatial
    steps = {"4:4:4": (1, 1), "4:2:2": (1, 2), "4:2:0": (2, 2), "4:4:0": (2, 1)}[factors]
    found(np.ascontiguousarray(pixels), "libjpeg", steps, 0.003)


def test_webp_is_found(photo: Bytes) -> None:
    found(decoded(saved(photo, format="WEBP", quality=80)), "WebP", (2, 2), 0.003)


def planes_of(photo: Bytes) -> tuple[Bytes, Bytes, Bytes]:
    """Plausible luma, and chroma of half its size."""
    ycc_image = Image.fromarray(photo).convert("YCbCr")
    half = np.asarray(ycc_image.resize((photo.shape[1] // 2, photo.shape[0] // 2)))
    return np.asarray(ycc_image)[..., 0], half[..., 1], half[..., 2]


@pytest.mark.parametrize("space", [Colorspace.ITU601, Colorspace.ITU709])
@pytest.mark.parametrize("full", [True, False])
def test_a_video_frame_of_ffmpeg_is_found(photo: Bytes, space: Colorspace, full: bool) -> None:
    y, *chroma = planes_of(photo)
    frame = av.VideoFrame(384, 256, "yuvj420p" if full else "yuv420p")
    for plane, samples in zip(frame.planes, (y if full else y // 2 + 50, *chroma), strict=True):
        plane.update(np.ascontiguousarray(samples).tobytes())
    pixels = frame.reformat(
        format="rgb24",
        src_colorspace=space,
        dst_colorspace=space,
        src_color_range=ColorRange.JPEG if full else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
    ).to_ndarray()
    matrix = "BT.601" if space == Colorspace.ITU601 else "BT.709"
    found(pixels, f"FFmpeg, {matrix}, {'full' if full else 'video'} range", (2, 2), 0.002)


def test_a_video_frame_of_opencv_is_found(photo: Bytes) -> None:
    y, c1, c2 = planes_of(photo)
    frame = np.concatenate([a.ravel() for a in (y // 2 + 50, c1, c2)]).reshape(384, 384)
    pixels = np.asarray(cv2.cvtColor(frame, cv2.COLOR_YUV2RGB_I420))
    found(pixels, "OpenCV, video range", (2, 2), 0.002)


def test_conversions_by_pillow_and_opencv_are_found(photo: Bytes) -> None:
    image = Image.fromarray(photo).convert("YCbCr")
    found(np.asarray(image.convert("RGB")), "Pillow", (1, 1), 0.003)
    ycrcb = cv2.cvtColor(photo, cv2.COLOR_RGB2YCrCb)
    found(np.asarray(cv2.cvtColor(ycrcb, cv2.COLOR_YCrCb2RGB)), "OpenCV", (1, 1), 0.003)


# --- Retouched pictures, and those without an origin ---


@pytest.mark.parametrize("subsampling", STEPS)
def test_a_caption_hides_nothing(photo: Bytes, subsampling: int) -> None:
    image = Image.fromarray(jpeg(photo, subsampling))
    ImageDraw.Draw(image).text((20, 100), "A caption, in two\nlines", (250, 30, 60), font_size=40)
    pixels = np.asarray(image)
    touched = (pixels != jpeg(photo, subsampling)).any(2)
    origin = found(pixels, "libjpeg", STEPS[subsampling], touched.mean() + 0.02)
    different = (rendered(origin, (256, 384)) != pixels).any(2)
    assert (different & ~touched).mean() < 0.02


def test_noise_on_a_few_pixels_hides_nothing(photo: Bytes) -> None:
    rng = np.random.default_rng(0)
    pixels = jpeg(photo, 2)
    touched = rng.random(pixels.shape[:2]) < 0.02
    pixels = np.where(touched[..., None], rng.integers(0, 256, pixels.shape), pixels)
    found(pixels.astype(np.uint8), "libjpeg", (2, 2), 0.06)


def test_strips_of_a_large_picture_fit_together(
    kodak: Bytes, photo: Bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In strips, a picture renders to the same, and is found as well, whatever its rows' phase."""
    for pixels in (kodak[:151, :220], kodak[1:152, 3:220], jpeg(photo, 2)[:153], jpeg(photo, 1)):
        monkeypatch.setattr(origin, "_STRIP", 1 << 30)
        whole = ycc.find(pixels)
        assert whole is not None
        at_once = rendered(whole, (pixels.shape[0], pixels.shape[1]))
        monkeypatch.setattr(origin, "_STRIP", 26 * pixels.shape[1])
        in_strips = ycc.find(pixels)
        assert in_strips is not None
        assert in_strips.parameters == whole.parameters
        np.testing.assert_array_equal(rendered(whole, (pixels.shape[0], pixels.shape[1])), at_once)
        again = rendered(in_strips, (pixels.shape[0], pixels.shape[1]))
        assert (again != pixels).any(2).mean() < (at_once != pixels).any(2).mean() + 0.001


@pytest.mark.parametrize("factor", [1.5, 2, 3])
def test_shrunk_photographs_have_no_origin(kodak: Bytes, factor: float) -> None:
    size = (int(768 / factor), int(512 / factor))
    shrunk = Image.fromarray(kodak).resize(size, Image.Resampling.LANCZOS)
    assert ycc.find(np.asarray(shrunk)) is None


def test_noise_drawings_and_grey_have_no_origin(photo: Bytes) -> None:
    rng = np.random.default_rng(0)
    assert ycc.find(rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)) is None
    palette = rng.integers(0, 256, (16, 3), dtype=np.uint8)
    assert ycc.find(palette[rng.integers(0, 16, (200, 200))]) is None
    assert ycc.find(photo[..., :1].repeat(3, 2)) is None
    assert ycc.find(np.zeros((1, 1, 3), np.uint8)) is None


# --- The format's side ---


@pytest.mark.parametrize("number", range(len(RULES)))
@given(data=st.data())
def test_any_planes_of_the_right_shape_render(number: int, data: st.DataObject) -> None:
    rule = RULES[number]
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    rows = data.draw(st.sampled_from(extents(height, rule.rows)))
    columns = data.draw(st.sampled_from(extents(width, rule.columns)))
    conversion = data.draw(st.integers(0, conversions.COUNT - 1))
    packed = rows.before | rows.after << 2 | columns.before << 4 | columns.after << 6
    parameters = bytes((conversion, number, packed))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    planes = [
        rng.integers(0, 256, (p.height, p.width, 1), dtype=np.uint8)
        for p in ycc.layout(parameters, (height, width))
    ]
    pixels = ycc.render(parameters, planes, (height, width))
    assert np.array_equal(pixels, slowly(parameters, planes, height, width))


def slowly(parameters: bytes, planes: list[Bytes], height: int, width: int) -> Bytes:
    """The rendering again as docs/format.md has it, pixel by pixel."""
    conversion, rule = conversions.conversion(parameters[0]), RULES[parameters[1]]
    rows, columns = parameters[2] & 15, parameters[2] >> 4

    def parts(
        at: int, packed: int, stretch: Stretch, count: int
    ) -> tuple[list[tuple[int, int]], int]:
        if stretch.step == 1:
            return [(at, 1)], 0
        k, which = divmod(at + (packed & 3), 2)
        near, far = stretch.second if which else stretch.first
        other = min(max(k + (1 if which else -1), 0), count - 1)
        return [(k, near), (other, far)], which

    pixels = np.empty((height, width, 3), np.uint8)
    for i, j in itertools.product(range(height), range(width)):
        chroma = []
        for plane in planes[1:]:
            down, second_row = parts(i, rows, rule.rows, plane.shape[0])
            across, second_column = parts(j, columns, rule.columns, plane.shape[1])
            total = rule.bias[second_row][second_column]
            for (r, wr), (c, wc) in itertools.product(down, across):
                total += wr * wc * int(plane[r, c, 0])
            chroma.append(total >> rule.shift)
        y, (c1, c2) = int(planes[0][i, j, 0]), chroma
        luma = int(conversion.luma[y])
        for k, term in enumerate(
            (
                int(conversion.red[c2]),
                int(conversion.green1[c1]) + int(conversion.green2[c2]),
                int(conversion.blue[c1]),
            )
        ):
            pixels[i, j, k] = min(max((luma + term) >> conversion.shift, 0), 255)
    return pixels


@given(st.binary(max_size=5), st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_hostile_parameters_are_refused_or_render(
    parameters: bytes, shape: tuple[int, int]
) -> None:
    try:
        layouts = ycc.layout(parameters, shape)
    except FormatError:
        return
    planes = [np.zeros((p.height, p.width, p.channels), np.uint8) for p in layouts]
    assert ycc.render(parameters, planes, shape).shape == (*shape, 3)
    assert ycc.describe(parameters)


def test_numbers_of_origins_differ() -> None:
    assert len({origin.NUMBER for origin in ALL}) == len(ALL)


def test_a_hole_is_filled_from_its_surroundings() -> None:
    values = np.tile(np.arange(32, dtype=np.float32), (32, 1))
    known = np.ones((32, 32), bool)
    known[8:20, 8:20] = False
    filled = downsampling.fill(np.where(known, values, 0), known)
    assert np.abs(filled - values).max() < 8
    assert np.array_equal(filled[known], values[known])


@pytest.mark.parametrize("subsampling", [0, 2])
def test_threads_change_nothing(
    photo: Bytes, subsampling: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clipped pixels are searched in parts, coefficients too, and strips side by side."""
    pixels = jpeg(np.clip(photo[:96, :160] * 1.7, 0, 255).astype(np.uint8), subsampling)
    for strip in (origin._STRIP, 1 << 13):
        monkeypatch.setattr(ycc, "_SHARE", strip)
        monkeypatch.setattr(origin.strips, "__defaults__", (strip,))
        alone = ycc.find(pixels)
        assert alone is not None
        for threads in (2, 3, 7):
            with side_by_side(threads) as parallel:
                shared = ycc.find(pixels, parallel)
            assert shared is not None
            assert alone.parameters == shared.parameters
            for one, other in zip(alone.planes, shared.planes, strict=True):
                np.testing.assert_array_equal(one.samples, other.samples)
            for own, same in zip(alone.blocks, shared.blocks, strict=True):
                assert own is not None
                assert same is not None
                np.testing.assert_array_equal(own.coefficients, same.coefficients)


def test_a_mosaic_is_given_up_soon(photo: Bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parts contradict each other; that need not be found out of each strip."""
    whole = jpeg(np.tile(photo[:, :160], (6, 1, 1)), 2)
    dull = jpeg((whole // 2 + whole.mean(2, keepdims=True) / 2).astype(np.uint8), 2)
    mosaic = np.roll(dull, (1, 1), (0, 1))
    mosaic[:256] = whole[:256]  # where chroma changes most
    monkeypatch.setattr(origin.strips, "__defaults__", (1 << 14,))
    rows: list[int] = []
    shrink = downsampling.shrink

    def counted(chroma: Bytes, known: Bytes, rule: Upsampling, *others: Any, **named: Any) -> Bytes:
        if rule.steps != (1, 1) and known.shape == (known.shape[0], mosaic.shape[1]):
            rows.append(len(known))
        return shrink(chroma, known, rule, *others, **named)

    monkeypatch.setattr(downsampling, "shrink", counted)
    searched = []
    for pixels, steps in ((mosaic, (1, 1)), (whole, (2, 2))):
        rows.clear()
        found = ycc.find(pixels)
        assert found is not None
        assert found.planes[1].step == steps
        searched.append(sum(rows))
    assert 0 < searched[0] < searched[1] / 2


@pytest.mark.parametrize(
    ("height", "width"),
    [(500, 500), (1000, 1000), (1200, 1174), (414, 69), (3000, 4000), (1080, 1920), (512, 512)],
)
def test_a_sample_is_from_all_over_the_picture(height: int, width: int) -> None:
    """Also where sides are round numbers, or have factors such as 3, 23 and 587."""
    rows, columns = np.divmod(ycc._places(256, height * width), width)
    for at, side in ((rows, height), (columns, width)):
        hit = np.bincount(at * 8 // side, minlength=8)
        assert hit.min() >= 8  # of 32
    assert len(np.unique(columns)) > min(width, 256) / 2
