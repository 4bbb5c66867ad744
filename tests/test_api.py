"""The Python interface: whatever holds an image in, the same image out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jpegs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import pixelzip
from pixelzip import coding, pictures
from pixelzip.codec import document
from pixelzip.codec.container import SEAL, pack, seal, unpack
from pixelzip.codec.picture import MODES
from pixelzip.dataset import PxzFolder


def assert_same_image(one: Image.Image, other: Image.Image) -> None:
    assert (one.mode, one.size) == (other.mode, other.size)
    assert one.tobytes() == other.tobytes()
    assert one.getpalette() == other.getpalette()
    assert one.info == other.info


@pytest.fixture
def photo(crop_paths: list[Path]) -> Path:
    return next(path for path in crop_paths if path.stem == "flower-64x48")


def test_files_images_and_arrays_give_the_same(photo: Path) -> None:
    with Image.open(photo) as image:
        data = pixelzip.compress(photo, network="none")
        assert pixelzip.compress(str(photo), network="none") == data
        assert pixelzip.compress(image, network="none") == data
        assert_same_image(pixelzip.decompress(data), image)
        array = pixelzip.decompress_array(data)
        np.testing.assert_array_equal(array, np.asarray(image))
        bare = pixelzip.compress(array, network="none")
        assert bare == pixelzip.compress(photo, network="none", strip=True)


def test_packed_files_are_bytes_or_paths(photo: Path, tmp_path: Path) -> None:
    data = pixelzip.compress(photo, network="none")
    path = tmp_path / "photo.pxz"
    path.write_bytes(data)
    for source in (data, bytearray(data), memoryview(data), path, str(path)):
        assert_same_image(pixelzip.decompress(source), pixelzip.decompress(data))
        assert pixelzip.info(source) == pixelzip.info(data)
    np.testing.assert_array_equal(pixelzip.decompress_array(path), pixelzip.decompress_array(data))


@pytest.mark.parametrize("other", [None, 0, 1.5, np.zeros(4, np.uint8), Image.new("L", (2, 2))])
def test_what_is_no_packed_file_is_said_with_its_place(other: Any) -> None:
    data = pixelzip.compress(np.zeros((2, 2), np.uint8), network="none")
    said = f"a .pxz file is bytes or a path, not {type(other).__name__}"
    for use in (
        pixelzip.decompress,
        pixelzip.decompress_array,
        pixelzip.info,
        pixelzip.peek,
        pixelzip.original,
        pixelzip.holds_jpeg,
        pixelzip.cost_map,
    ):
        with pytest.raises(pixelzip.PixelzipError, match=f"^{said}$") as caught:
            use(other)  # 0 is no descriptor either
        assert isinstance(caught.value, TypeError)
    for many in (pixelzip.decompress_many, pixelzip.decompress_arrays):
        with pytest.raises(TypeError, match=rf"^files\[1\]: {said}$"):
            many([data, other, data])


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_all_modes_of_pillow(mode: str, photo: Path) -> None:
    with Image.open(photo) as image:
        image = Image.fromarray(np.asarray(image))
        if mode == "I;16":
            image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257 + 3)
        elif mode.endswith("A"):
            image.putalpha(image.convert("L"))
            image = image.convert(mode)
        else:
            image = image.convert(mode)
    assert image.mode == mode
    assert_same_image(pixelzip.decompress(pixelzip.compress(image, network="none")), image)


def contents(mode: str, width: int, height: int, kind: str, seed: int) -> NDArray[Any]:
    """Pixels of several natures: noise, flat, a gradient, few colours."""
    rng = np.random.default_rng(seed)
    channels = pictures.samples_per_pixel(mode)
    dtype = bool if mode == "1" else np.uint16 if mode.endswith(";16") else np.uint8
    top = 2 if mode == "1" else np.iinfo(dtype).max + 1
    shape = (height, width, channels)
    match kind:
        case "flat":
            array = np.broadcast_to(rng.integers(0, top, channels), shape)
        case "gradient":
            array = np.add.outer(np.arange(height), np.arange(width))[..., np.newaxis] * 3
            array = (array + rng.integers(0, top, channels)) % top
        case "few":
            array = rng.integers(0, top, (3, channels))[rng.integers(0, 3, (height, width))]
        case _:
            array = rng.integers(0, top, shape)
    array = array.astype(dtype)
    return array[..., 0] if channels == 1 else array


@settings(max_examples=150)
@given(
    st.sampled_from(sorted(set(MODES) - {"P", "CMYK", "CMYK;16"})),
    st.one_of(st.integers(1, 3), st.integers(1, 70)),
    st.one_of(st.integers(1, 3), st.integers(1, 70)),
    st.sampled_from(["flat", "gradient", "few", "noise"]),
    st.integers(0, 2**32 - 1),
)
def test_any_array_returns(mode: str, width: int, height: int, kind: str, seed: int) -> None:
    array = contents(mode, width, height, kind, seed)
    data = pixelzip.compress(array, network="none", threads=1)
    back = pixelzip.decompress_array(data, threads=1)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)
    about = pixelzip.info(data)
    assert (about.mode, about.width, about.height) == (mode, width, height)
    assert about.bits_per_dim == len(data) * 8 / array.size
    assert len(data) <= array.nbytes + 32


def test_many_are_as_one(crop_paths: list[Path]) -> None:
    apart = [pixelzip.compress(path, network="none") for path in crop_paths]
    together = pixelzip.compress_many(crop_paths, network="none", threads=2)
    assert together == apart
    for image, path in zip(pixelzip.decompress_many(together), crop_paths, strict=True):
        with Image.open(path) as original:
            assert_same_image(image, original)
    assert pixelzip.compress_many([], network="none") == []
    assert pixelzip.decompress_many([]) == []


def test_options_do_not_change_the_pixels(photo: Path) -> None:
    image = pixelzip.decompress(pixelzip.compress(photo, network="none"))
    for options in ({"tile_size": 0}, {"tile_size": 16}, {"threads": 1}, {"threads": 3}):
        data = pixelzip.compress(photo, network="none", **options)
        assert_same_image(pixelzip.decompress(data, threads=2), image)
        if "threads" in options:
            assert data == pixelzip.compress(photo, network="none")


def test_the_default_network(photo: Path) -> None:
    data = pixelzip.compress(photo)
    assert pixelzip.info(data).networks == ("luma", "chroma")
    as_it_is = pixelzip.compress(photo, origin="none")
    assert set(pixelzip.info(as_it_is).networks) < set(coding.OF_PHOTOGRAPHS["colour"])
    assert len(data) < len(as_it_is) < len(pixelzip.compress(photo, network="none", origin="none"))
    assert len(data) < len(pixelzip.compress(photo, network="none"))
    for threads in (1, 2):
        assert pixelzip.compress(photo, threads=threads) == data
        with Image.open(photo) as image:
            assert_same_image(pixelzip.decompress(data, threads=threads), image)
    small = pixelzip.compress(photo, tile_size=16)
    assert all(part.tiles > 1 for part in pixelzip.info(small).parts)
    np.testing.assert_array_equal(pixelzip.decompress_array(small), pixelzip.decompress_array(data))
    batch = pixelzip.compress_many([photo, photo])
    assert batch == [data, data]
    assert_same_image(pixelzip.decompress_many(batch)[1], pixelzip.decompress(data))


def test_peek_needs_the_beginning_of_a_file_only(tmp_path: Path) -> None:
    text = PngInfo()
    noise = np.random.default_rng(0).integers(0, 256, 9000, np.uint8)
    text.add_text("Comment", noise.tobytes().decode("latin-1"))
    path = tmp_path / "image.png"
    Image.radial_gradient("L").save(path, pnginfo=text, dpi=(300, 300))
    data = pixelzip.compress(path, network="none")
    path = tmp_path / "image.pxz"
    path.write_bytes(data)
    head = pixelzip.peek(path)
    assert head == pixelzip.peek(data) == pixelzip.peek(data[:-8])
    assert (head.width, head.height, head.mode) == (256, 256, "L")
    assert head.metadata == pixelzip.info(data).metadata
    with pytest.raises(pixelzip.TruncatedError):
        pixelzip.peek(data[:4096])
    small = pixelzip.compress(Image.radial_gradient("L"), network="none")
    assert pixelzip.peek(small[:40]).width == 256
    with pytest.raises(pixelzip.FormatError, match="checksum"):
        pixelzip.info(small[:-1])


def test_info_counts_what_is_there(photo: Path) -> None:
    data = pixelzip.compress(photo, network="none", origin="none")
    about = pixelzip.info(data)
    assert (about.width, about.height, about.mode, about.bytes) == (64, 48, "RGB", len(data))
    assert about.sub_pixels == 64 * 48 * 3
    assert (about.networks, about.found) == ((), ())
    (part,) = about.parts
    assert (part.height, part.width, part.channels) == (48, 64, 3)
    assert (part.tiles, part.methods) == (1, {"packed": 1})
    assert len(data) - 60 - about.metadata_bytes < part.bytes == about.payload_bytes < len(data)
    deep = pixelzip.info(pixelzip.compress(np.zeros((4, 5, 4), np.uint16), network="none"))
    assert (deep.mode, deep.sub_pixels) == ("RGBA;16", 80)


def test_info_tells_what_was_found(photo: Path) -> None:
    """Of a photograph that is luma and chroma of half the size, once converted by PhotoCD."""
    data = pixelzip.compress(photo, network="none")
    about = pixelzip.info(data)
    (found,) = about.found
    assert found.startswith("colour: luma and chroma, as converted by PhotoCD")
    assert about.sub_pixels == 64 * 48 * 3  # the picture's, however they are stored
    sizes = [(part.height, part.width, part.channels) for part in about.parts]
    assert sizes == [(48, 64, 1), (25, 33, 1), (25, 33, 1)]
    # The rest is corrections and the origin's parameters.
    assert sum(part.bytes for part in about.parts) < about.payload_bytes
    assert len(data) - 60 - about.metadata_bytes < about.payload_bytes < len(data)


# What goes wrong is said in one sentence that names the file.


def test_errors_name_the_file(tmp_path: Path, photo: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("Once upon a time")
    with pytest.raises(pixelzip.UnsupportedImageError, match=r"words\.txt: the file is not an im"):
        pixelzip.compress(words)
    with pytest.raises(pixelzip.FormatError, match=r"words\.txt: "):
        pixelzip.decompress(words)
    with pytest.raises(pixelzip.FormatError, match=r"words\.txt: "):
        pixelzip.info(words)
    with pytest.raises(FileNotFoundError):
        pixelzip.compress(tmp_path / "none.png")
    with pytest.raises(pixelzip.UnsupportedImageError, match="floating-point pixels"):
        pixelzip.compress(Image.new("F", (2, 2)))
    data = bytearray(pixelzip.compress(photo, network="none"))
    data[len(data) // 2] ^= 4
    with pytest.raises(pixelzip.FormatError) as caught:
        pixelzip.decompress(data)
    assert isinstance(caught.value, pixelzip.PixelzipError)


def test_sixteen_bit_colour_is_for_arrays() -> None:
    array = np.arange(24, dtype=np.uint16).reshape(2, 4, 3) * 2000
    data = pixelzip.compress(array, network="none")
    np.testing.assert_array_equal(pixelzip.decompress_array(data), array)
    with pytest.raises(pixelzip.UnsupportedImageError, match="Pillow cannot hold 16-bit samples"):
        pixelzip.decompress(data)


def test_a_packed_file_is_not_packed_again(photo: Path) -> None:
    data = pixelzip.compress(photo, network="none")
    with pytest.raises(pixelzip.UnsupportedImageError, match="the file is a \\.pxz already"):
        pictures.read(data)


# The package.


def test_everything_promised_is_there() -> None:
    assert set(pixelzip.__all__) <= set(dir(pixelzip))
    for name in pixelzip.__all__:
        assert getattr(pixelzip, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        pixelzip.nonesuch  # noqa: B018


@pytest.mark.parametrize("module", ["numpy", "torch", "rich", "click", "pixelzip.api"])
def test_import_is_light(module: str, tmp_path: Path) -> None:
    code = f"import sys, pixelzip; assert {module!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60, check=True)


def test_import_adds_little_to_pillow(tmp_path: Path) -> None:
    """In processor time, so that a busy machine does not matter; the best of three."""
    code = "import os; print(sum(os.times()[:2]))"

    def best(imports: str) -> float:
        command = [sys.executable, "-c", f"{imports}; {code}"]
        runs = [
            subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=60, check=True)
            for _ in range(3)
        ]
        return min(float(run.stdout) for run in runs)

    assert best("import pixelzip") - best("from PIL import Image, ImageFile") < 0.15


def test_default_threads_are_the_cores_at_hand() -> None:
    from pixelzip.coding import available_threads

    assert 1 <= available_threads() <= (os.cpu_count() or 1)


def test_what_repeats_far_away_is_left_to_the_fallback(crops: dict[str, NDArray[np.uint8]]) -> None:
    """No sample shows it; the network codes each copy anew."""
    pixels = np.tile(crops["palms-96x64"], (4, 3, 1))
    assert len(pixelzip.compress(pixels)) <= len(pixelzip.compress(pixels, network="none"))


@pytest.mark.parametrize("threads", [-1, 0, 1.5, "2", True])
def test_threads_that_are_none(crop_paths: list[Path], threads: Any, tmp_path: Path) -> None:
    image = np.zeros((3, 4, 3), np.uint8)
    data = pixelzip.compress(image, network="none")
    (tmp_path / "a.pxz").write_bytes(data)
    calls: list[Callable[[], object]] = [
        lambda: pixelzip.compress(image, threads=threads),
        lambda: pixelzip.compress_many([image], threads=threads),
        lambda: pixelzip.decompress(tmp_path / "a.pxz", threads=threads),
        lambda: pixelzip.decompress(data, region=(0, 0, 1, 1), threads=threads),
        lambda: pixelzip.decompress_array(data, threads=threads),
        lambda: pixelzip.decompress_many([data], threads=threads),
        lambda: pixelzip.decompress_arrays([data], threads=threads),
        lambda: pixelzip.original(crop_paths[0], threads=threads),
        lambda: pixelzip.cost_map(data, threads=threads),
        lambda: pixelzip.ideal_bits(image, threads=threads),
        lambda: pixelzip.sample("tiny", 1, width=2, height=2, threads=threads),
        lambda: pixelzip.complete(image, 1, threads=threads),
        lambda: PxzFolder(tmp_path, threads=threads),
    ]
    for call in calls:
        with pytest.raises(pixelzip.OptionError, match=r"^threads is a number from 1 on"):
            call()
    assert issubclass(pixelzip.OptionError, ValueError)
    assert pixelzip.compress(image, network="none", threads=np.int64(2)) == data


def test_which_of_many_is_bad(crop_paths: list[Path], tmp_path: Path) -> None:
    """By its path, or by its place in the list."""
    noise = np.random.default_rng(1).integers(0, 256, (9, 8, 3), np.uint8)
    good = pixelzip.compress(noise, network="none")
    page = pixelzip.compress(noise[:5], network="none")
    cut, forged = good[:-9], seal(good[: -SEAL - 1] + bytes([good[-SEAL - 1] ^ 1]))
    missing = pack(replace(unpack(pixelzip.compress(noise, network="tiny")), networks=(b"123456",)))
    jpeg = pixelzip.compress(jpegs.photo(crop_paths[0], (40, 27), quality=80))
    bad_jpeg = seal(jpeg[: len(jpeg) // 2])
    pages = document.pack([good, page])
    bad_pages = document.pack([good, forged])
    (tmp_path / "bad.pxz").write_bytes(forged)
    for bad in (cut, forged, missing, bad_jpeg, bad_pages):
        files = [pages, jpeg, good, bad, good]
        with pytest.raises(pixelzip.PixelzipError, match=r"^files\[3\]: the "):
            pixelzip.decompress_many(files)
        if bad is not bad_pages:
            with pytest.raises(pixelzip.PixelzipError, match=r"^files\[2\]: the "):
                pixelzip.decompress_arrays(files[1:])
        with pytest.raises(pixelzip.PixelzipError, match=r"^the "):
            pixelzip.decompress_many([bad])
    with pytest.raises(pixelzip.FormatError, match=r"^\S+bad\.pxz: the file is damaged"):
        pixelzip.decompress_many([good, tmp_path / "bad.pxz"])
    (tmp_path / "bad.png").write_bytes(b"\x89PNG and no more")
    for bad_image in (b"no image", np.zeros((2, 2), np.float32), Image.new("F", (2, 2))):
        with pytest.raises(pixelzip.UnsupportedImageError, match=r"^images\[1\]: "):
            pixelzip.compress_many(iter([noise, bad_image]))
    with pytest.raises(pixelzip.LimitError, match=r"^images\[1\]: the image is"):
        pixelzip.compress_many([noise, np.zeros((1, (1 << 20) + 1), np.uint8)])
    with pytest.raises(pixelzip.UnsupportedImageError, match=r"^\S+bad\.png: (?!\S*bad)"):
        pixelzip.compress_many([noise, tmp_path / "bad.png"])
