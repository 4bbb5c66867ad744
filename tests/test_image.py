"""Pictures to files and back; and damaged files to clear errors, whatever the damage."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import room
from conftest import IMAGES
from fuzzing import attack, same
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import pixelzip
from pixelzip.codec import tiles
from pixelzip.codec.conditional import Conditional, Given, lagged
from pixelzip.codec.container import pack, tile_grid, unpack
from pixelzip.codec.decode import decode, decode_many, decode_tile
from pixelzip.codec.encode import encode, encode_many
from pixelzip.codec.errors import FormatError, LimitError, UnknownNetworkError
from pixelzip.codec.methods import Method, Tile
from pixelzip.codec.picture import MODES, Picture
from pixelzip.codec.transforms import Transform
from pixelzip.models import zoo

Bytes = NDArray[np.uint8]


class Neighbours:
    """A conditional without a network: a linear guess, and how far off it was a channel ago."""

    fingerprint = bytes(range(100, 132))
    classes = 0
    given = 0

    def codes(self, channels: int) -> bool:
        return channels in (1, 3)

    def steps(self, shape: tuple[int, int]) -> NDArray[np.int32]:
        return lagged(shape, 2)

    def parallel(
        self, pixels: Bytes, label: int = 0, given: Given | None = None
    ) -> Iterator[NDArray[np.int32]]:
        height, width, channels = pixels.shape
        known = np.full((height + 1, width + 1, channels), 128, np.int32)
        known[1:, 1:] = pixels
        for row in range(height):
            guess = self.guess(known[row + 1, :-1], known[row, 1:], known[row, :-1])
            mean = guess.copy()
            mean[:, 1:] += known[row + 1, 1:, :-1] * 256 - guess[:, :-1]
            yield np.stack([self.mixture(mean[:, c]) for c in range(channels)], axis=1)

    def stepwise(
        self,
        shapes: Sequence[tuple[int, int]],
        channels: int,
        labels: Sequence[int],
        given: Sequence[Given] | None = None,
    ) -> NeighboursStepper:
        return NeighboursStepper(self, shapes, channels)

    def guess(
        self, left: NDArray[np.int32], above: NDArray[np.int32], corner: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """A guess in units of 1/256 of a pixel value."""
        return 192 * (left + above) - 128 * corner

    def mixture(self, mean: NDArray[np.int32]) -> NDArray[np.int32]:
        """(n, 3, 3) parameters: three logistics of different widths around the same mean."""
        logits, scales = np.array([[0, 0, -256], [0, 40, 80]], np.int32)[:, None]
        return np.stack(np.broadcast_arrays(logits, mean[:, None], scales), axis=1)


class NeighboursStepper:
    """The same, front by front."""

    def __init__(
        self, network: Neighbours, shapes: Sequence[tuple[int, int]], channels: int
    ) -> None:
        self.network = network
        self.known = [np.full((h + 1, w + 1, channels), 128, np.int32) for h, w in shapes]

    def select(
        self, tiles: NDArray[np.intp], rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> None:
        self.at = list(zip(tiles, rows, columns, strict=True))
        seen = [[self.known[t][r + 1 - y, c + 1 - x] for t, r, c in self.at] for y, x in AROUND]
        self.guess = self.network.guess(*np.array(seen))

    def parameters(self, channel: int) -> NDArray[np.int32]:
        mean = self.guess[:, channel]
        if channel:
            known = [self.known[t][r + 1, c + 1, channel - 1] for t, r, c in self.at]
            mean = mean + np.array(known) * 256 - self.guess[:, channel - 1]
        return self.network.mixture(mean)

    def reveal(self, channel: int, values: Bytes) -> None:
        for (t, r, c), value in zip(self.at, values, strict=True):
            self.known[t][r + 1, c + 1, channel] = value


AROUND = ((0, 1), (1, 0), (1, 1))
"""How far up and left the neighbours are: left, above, and the corner between."""

NETWORK = Neighbours()
NETWORKS = {"colour": [NETWORK]}
PHOTO = {"colour": [zoo.load("photo")]}


def texture(height: int, width: int, channels: int, seed: int = 0) -> Bytes:
    """Pixels of the kind that this conditional is good at."""
    noise = np.random.default_rng(seed).logistic(0, 1.5, (height + 1, width + 1, channels))
    pixels = np.full((height + 1, width + 1, channels), 128, np.int32)
    for r in range(1, height + 1):
        for c in range(1, width + 1):
            guess = NETWORK.guess(pixels[r, c - 1], pixels[r - 1, c], pixels[r - 1, c - 1]) / 256
            pixels[r, c] = np.clip(guess + np.cumsum(noise[r, c]), 0, 255)
    return pixels[1:, 1:].astype(np.uint8)


def find(prefix: bytes) -> Neighbours:
    if not NETWORK.fingerprint.startswith(prefix):
        raise UnknownNetworkError("no such network")
    return NETWORK


def content(kind: str, height: int, width: int, channels: int, seed: int) -> Bytes:
    rng = np.random.default_rng(seed)
    if kind == "constant":
        return np.broadcast_to(
            rng.integers(0, 256, channels, dtype=np.uint8), (height, width, channels)
        )
    if kind == "noise":
        return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    y, x = np.mgrid[0:height, 0:width]
    smooth = [(x * rng.integers(8) + y * rng.integers(8)) % 256 for _ in range(channels)]
    if kind == "grey":
        smooth = [smooth[0]] * channels
    pixels = np.stack(smooth, axis=2).astype(np.uint8)
    if kind == "palette":
        colours = rng.integers(0, 256, (rng.integers(2, 20), channels), dtype=np.uint8)
        pixels = colours[rng.integers(0, len(colours), (height, width))]
    return pixels


def picture(mode: str, kind: str, height: int, width: int, seed: int = 0) -> Picture:
    """A picture with this content in each of its planes; 0 and 1 only in mode 1."""
    planes = tuple(
        content(kind, height, width, channels, seed + position)
        for position, channels in enumerate(MODES[mode])
    )
    if mode == "1":
        planes = (planes[0] & 1,)
    return Picture(mode, planes, bytes(range(seed % 40)))


KINDS = ["constant", "noise", "gradient", "palette", "grey"]

pictures = st.builds(
    picture,
    st.sampled_from(list(MODES)),
    st.sampled_from(KINDS),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 1000),
)


@given(pictures)
def test_anything_comes_back_without_a_network(original: Picture) -> None:
    data = encode(original, {})
    assert same(decode(data, find), original)
    raw = sum(plane.size for plane in original.planes)
    assert len(data) <= raw + len(original.metadata) + 10 + 4 * len(original.planes)
    assert unpack(data).networks == ()


@settings(max_examples=40)
@given(pictures, st.sampled_from([0, 16, 23]))
def test_anything_comes_back_with_a_network(original: Picture, tile_size: int) -> None:
    data = encode(original, NETWORKS, tile_size=tile_size)
    assert same(decode(data, find), original)
    assert len(data) <= len(encode(original, {})) + 20


@pytest.fixture(scope="module")
def textured() -> Picture:
    """RGB, 64x48, best coded with the network."""
    return Picture("RGB", (texture(48, 64, 3),))


@pytest.mark.parametrize("tile_size", [0, 32])
def test_photographs_come_back(crops: dict[str, Bytes], tile_size: int) -> None:
    used = set()
    for pixels in crops.values():
        original = Picture("RGB", (pixels,))
        data = encode(original, NETWORKS, tile_size=tile_size)
        used |= {method for part in methods(data) for method in part}
        assert same(decode(data, find), original)
    assert Method.NETWORK in used


def methods(data: bytes) -> list[list[Method]]:
    return [
        [tile.method for tile in plane.tiles]
        for component in unpack(data).components
        for plane in component.planes
    ]


def test_a_texture_goes_through_the_network_in_tiles(textured: Picture) -> None:
    data = encode(textured, NETWORKS, tile_size=32)
    container = unpack(data)
    assert methods(data) == [[Method.NETWORK] * 4]
    assert container.networks == (NETWORK.fingerprint[:2],)
    assert same(decode(data, find, threads=2), textured)
    grid = tile_grid(48, 64, 32)
    for number, (top, left, height, width) in enumerate(grid):
        tile = decode_tile(container, 0, 0, number, find)
        assert np.array_equal(tile, textured.planes[0][top : top + height, left : left + width])


def test_only_the_tiles_that_gain_go_through_the_network() -> None:
    flat = np.full((32, 32, 3), 200, np.uint8)
    above = np.concatenate([texture(32, 32, 3, seed=1), flat], axis=1)
    below = np.concatenate([content("noise", 32, 32, 3, 0), texture(32, 32, 3, seed=2)], axis=1)
    mixed = Picture("RGB", (np.concatenate([above, below]),))
    data = encode(mixed, NETWORKS, tile_size=32)
    assert methods(data) == [[Method.NETWORK, Method.CONSTANT, Method.RAW, Method.NETWORK]]
    assert same(decode(data, find), mixed)


def test_a_32x32_picture_spends_twelve_bytes() -> None:
    data = encode(Picture("RGB", (texture(32, 32, 3),)), NETWORKS)
    ((tile,),) = (plane.tiles for part in unpack(data).components for plane in part.planes)
    assert tile.method == Method.NETWORK
    assert len(data) - len(tile.payload) == 12


def test_labels_and_low_bytes_are_kept_from_the_network() -> None:
    for mode in ("1", "P"):
        original = picture(mode, "palette", 30, 30, 3)
        assert Method.NETWORK not in methods(encode(original, NETWORKS))[0]
    high = texture(40, 40, 1)
    low = content("noise", 40, 40, 1, 1)
    data = encode(Picture("I;16", (high, low)), NETWORKS)
    assert methods(data) == [[Method.NETWORK], [Method.RAW]]


def test_grey_is_coded_as_one_channel(textured: Picture) -> None:
    grey = Picture("RGB", (textured.planes[0][:, :, :1].repeat(3, axis=2),))
    for networks in ({}, NETWORKS):
        data = encode(grey, networks, tile_size=32)
        assert unpack(data).components[0].form.transform == Transform.GREY
        assert same(decode(data, find), grey)
    assert len(data) < 0.5 * len(encode(textured, NETWORKS))


def test_components_that_repeat_each_other_are_joined() -> None:
    sixteen = content("palette", 40, 40, 3, 7)
    twice = Picture("RGB;16", (sixteen, sixteen))
    data = encode(twice, {})
    assert len(unpack(data).components) == 1
    assert same(decode(data, find), twice)
    assert len(data) < 1.05 * len(encode(Picture("RGB", (sixteen,)), {}))


def test_many_are_as_one_by_one(crops: dict[str, Bytes]) -> None:
    originals = [Picture("RGB", (pixels[:32, :32],)) for pixels in crops.values()]
    originals += [picture(mode, "gradient", 20, 20) for mode in MODES]
    together = encode_many(originals, NETWORKS, tile_size=16, threads=2)
    assert together == [encode(original, NETWORKS, tile_size=16) for original in originals]
    assert all(map(same, decode_many(together, find, threads=2), originals))
    assert encode_many([], NETWORKS) == []
    assert decode_many([], find) == []


def test_noise_costs_next_to_nothing() -> None:
    for mode in ("1", "L", "RGB", "RGBA", "I;16"):
        original = picture(mode, "noise", 80, 90)
        least = sum(plane.size for plane in original.planes) // (8 if mode == "1" else 1)
        assert len(encode(original, NETWORKS)) <= least * 1.002 + 2 * 80 * (mode == "1") + 40


def test_progress_goes_from_nothing_to_everything(textured: Picture) -> None:
    grey = Picture("LA", (texture(32, 32, 1, seed=1), texture(32, 32, 1, seed=2)))
    for colour in (textured, grey):
        seen: list[float] = []
        data = encode(colour, NETWORKS, tile_size=16, progress=seen.append)
        assert seen == sorted(seen)
        assert len(seen) > 3
        assert seen[-1] == 1.0
        seen.clear()
        decode(data, find, progress=seen.append)
        assert seen == sorted(seen)
        assert len(seen) > 3
        assert seen[-1] == 1.0


def test_a_network_that_is_not_at_hand(textured: Picture) -> None:
    data = encode(textured, NETWORKS)

    def nothing(prefix: bytes) -> Neighbours:
        raise UnknownNetworkError(f"there is no network {prefix.hex()}")

    with pytest.raises(UnknownNetworkError, match="there is no network 6465"):
        decode(data, nothing)

    class Other(Neighbours):
        fingerprint = bytes(32)

    with pytest.raises(UnknownNetworkError, match="given another"):
        decode(data, lambda prefix: Other())


@pytest.mark.parametrize(("length", "used"), [(4, True), (3, False), (0, False)])
def test_a_network_that_does_too_well_is_not_used(
    length: int, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The format bounds the time to decode 64x64 sub-pixels by a payload of 4 bytes."""
    made = [Tile(Method.NETWORK, bytes(length))]
    monkeypatch.setattr(tiles, "encode_fitted", lambda *_, **__: made)
    data = encode(Picture("L", (texture(64, 64, 1),)), NETWORKS)
    assert methods(data) == [[Method.NETWORK if used else Method.PACKED]]


@pytest.mark.parametrize("rows", [16, 40, 1000])
def test_tiles_need_not_all_step_together(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = [(15, 19), (16, 13), (12, 12), (20, 14), (16, 16), (17, 12)]
    originals = [Picture("RGB", (texture(h, w, 3),)) for h, w in shapes]
    files = encode_many(originals, NETWORKS)
    monkeypatch.setattr(tiles, "_ROWS_IN_STEP", rows)
    runs: list[int] = []
    stepwise = Neighbours.stepwise

    def counted(self: Neighbours, shapes: Sequence[tuple[int, int]], *rest: Any) -> Any:
        runs.append(sum(height for height, _ in shapes))
        return stepwise(self, shapes, *rest)

    monkeypatch.setattr(Neighbours, "stepwise", counted)
    assert all(map(same, decode_many(files, find), originals))
    assert sum(runs) == 96
    assert max(runs) <= rows + 20
    assert len(runs) > 1 or rows == 1000


def test_limits() -> None:
    data = encode(picture("L", "constant", 100, 100), {})
    with pytest.raises(LimitError, match="limit is 9999"):
        decode(data, find, max_pixels=9999)
    huge = np.broadcast_to(np.zeros(1, np.uint8), (2**14, 2**13 + 1, 1))
    with pytest.raises(LimitError, match="8193x16384"):
        encode(Picture("L", (huge,)), {})


@pytest.mark.parametrize(
    ("mode", "shape"),
    [("CMY", (2, 2, 3)), ("RGB", (2, 2, 4)), ("RGBA", (2, 2, 3)), ("L", (0, 2, 1))],
)
def test_pictures_that_cannot_be(mode: str, shape: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"mode|plane|pixel"):
        Picture(mode, (np.zeros(shape, np.uint8),))


# Damage: more than 20,000 ways in all.


def real_files() -> dict[str, bytes]:
    """Small real files that between them use every mode, method, form and flag."""
    files = {
        f"{mode} {kind}": encode(picture(mode, kind, 11 + 3 * number, 14, 17 + number), {})
        for number, mode in enumerate(MODES)
        for kind in (("gradient", "palette") if number % 2 else ("noise", "grey"))
    }
    files["one pixel"] = encode(picture("RGB", "noise", 1, 1), {})
    files["network"] = encode(Picture("RGB", (texture(6, 8, 3),)), NETWORKS)
    alpha = texture(8, 20, 1)
    alpha[:, 10:] = 7
    files["network tiles"] = encode(
        Picture("RGBA", (texture(8, 20, 3), alpha), b"hello"), NETWORKS, tile_size=16
    )
    flower = np.asarray(Image.open(IMAGES / "flower-64x48.png"))[10:20, 20:38]
    files["network photo"] = encode(Picture("RGB", (flower,)), PHOTO, origins=False)
    bikes = np.asarray(Image.open(IMAGES / "bikes-96x64.png"))[20:40, 30:58]
    files["network photo, adaptive"] = encode(
        Picture("RGB", (bikes,)), PHOTO, origins=False, adaptive=True
    )
    darker = np.asarray(Image.open(IMAGES / "bikes-96x64.png")) // 2
    files["network photo, fitted"] = encode(Picture("RGB", (darker,)), PHOTO, origins=False)
    retouched = np.asarray(Image.open(IMAGES / "flower-64x48.png"))[10:30, 20:44].copy()
    retouched[5, 7] = 255, 0, 9
    files["network photo, origin"] = encode(Picture("RGB", (retouched,)), PHOTO)
    files["network photo, tiles"] = encode(
        Picture("LA", (flower[..., :1], flower[..., 1:2])), PHOTO, tile_size=16
    )
    jpeg = io.BytesIO()
    Image.open(IMAGES / "bikes-96x64.png").save(jpeg, "JPEG", quality=85, subsampling=0)
    decoded = np.asarray(Image.open(jpeg))[:60, 3:].copy()
    decoded[20, 30] = 255, 0, 9
    files["blocks of a JPEG"] = encode(Picture("RGB", (decoded,)), {})
    files["metadata"] = encode(
        replace(picture("L", "constant", 3, 3), metadata=b"All work and no play. " * 20), {}
    )
    return files


FILES = real_files()
WAYS = {name: 300 if name.startswith("network") else 920 for name in FILES}


def find_any(prefix: bytes) -> Conditional:
    return NETWORK if NETWORK.fingerprint.startswith(prefix) else zoo.find(prefix)


def read(data: bytes) -> Picture:
    return decode(data, find_any, max_pixels=2**20)


def test_the_files_to_damage_use_everything() -> None:
    assert sum(WAYS.values()) >= 20_000
    containers = [unpack(data) for data in FILES.values()]
    assert {container.mode for container in containers} == set(MODES)
    planes = [plane for file in containers for part in file.components for plane in part.planes]
    tiles = [tile for plane in planes for tile in plane.tiles]
    assert {tile.method for tile in tiles} == set(Method)
    used = {part.form.transform for file in containers for part in file.components}
    assert used == set(Transform)
    assert any(part.corrections for file in containers for part in file.components)
    assert any(data[2] & 0x80 for data in FILES.values())  # plain
    assert any(plane.tile_size for plane in planes)
    packed = [tile.payload for tile in tiles if tile.method == Method.PACKED]
    assert {payload[0] & 7 for payload in packed} >= {0, 1, 4}
    assert {payload[0] >> 5 for payload in packed} >= {0, 2}


@pytest.mark.parametrize("name", FILES)
def test_damage_gives_a_clear_error_or_the_right_pixels(name: str) -> None:
    donors = [data for other, data in FILES.items() if other != name]
    survivors = attack(FILES[name], read, count=WAYS[name], donors=donors)
    assert survivors < WAYS[name] / 4


def attacked() -> int:
    """The most memory that damaged files take."""
    with room.Peak() as peak:
        for name, data in FILES.items():
            if not name.startswith("network"):
                attack(data, read, count=15, donors=list(FILES.values()), seed=1)
    return peak.room


def test_damage_takes_little_memory() -> None:
    """Pictures of 2^20 pixels, eight bytes each, are allowed; so are a few copies, no more."""
    assert room.alone(attacked) < 2**26


def test_long_pictures_are_tiled_even_when_tiles_are_not_wanted() -> None:
    """A front takes time however short it is: a hostile thin tile must not have millions."""
    plane = texture(2, 4100, 1)
    data = encode(Picture("L", (plane,)), NETWORKS, tile_size=0)
    container = unpack(data)
    (stored,) = container.components[0].planes
    assert stored.tile_size == 4096
    assert np.array_equal(read(data).planes[0], plane)
    whole = replace(stored, tile_size=0, tiles=stored.tiles[:1])
    hostile = replace(container.components[0], planes=(whole,))
    with pytest.raises(FormatError, match="long"):
        unpack(pack(replace(container, components=(hostile,))))


def simple(colours: int) -> NDArray[np.uint8]:
    """A large picture of few colours, (3000, 2000, 3)."""
    rows, columns = np.indices((3000, 2000))
    table = np.array([[1, 2, 3], [255, 255, 255], [255, 0, 0], [9, 9, 90]], np.uint8)
    return table[(rows // 50 + columns // 70) % colours]


def peaks_of_simple(colours: int) -> list[float]:
    """What coding it takes besides itself; its array; its image: each in parts of its array."""
    array = simple(colours)
    small = pixelzip.compress(array[:60, :80])  # what is loaded once does not count
    pixelzip.decompress(small)
    pixelzip.decompress_array(small)
    with room.Peak() as encoding:
        data = pixelzip.compress(array, threads=1)
    with room.Peak() as of_array:
        pixelzip.decompress_array(data, threads=1)
    with room.Peak() as of_image:
        pixelzip.decompress(data, threads=1)
    return [peak.room / array.nbytes for peak in (encoding, of_array, of_image)]


@pytest.mark.parametrize(("colours", "most"), [(1, (0.3, 1.4, 1.8)), (4, (1.7, 1.9, 2.8))])
def test_a_large_simple_picture_is_held_once(
    colours: int, most: tuple[float, float, float]
) -> None:
    """An image of Pillow takes a third more than an array. Of four colours, LZMA takes the rest."""
    assert np.less(room.alone(peaks_of_simple, colours), most).all()


@pytest.mark.parametrize("colours", [1, 4])
def test_a_large_simple_picture_comes_back(colours: int) -> None:
    array = simple(colours)
    data = pixelzip.compress(array)
    back = pixelzip.decompress_array(data)
    assert np.array_equal(back, array)
    back[0, 0] = 7  # it is the caller's
    assert np.array_equal(np.asarray(pixelzip.decompress(data)), array)


def peak_of_deep() -> tuple[int, float]:
    """Of a file of 28 bytes with 12 megapixels, 96 MB of them."""
    pixel = np.array([1, 2, 3, 65535], np.uint16)
    data = pixelzip.compress(np.ascontiguousarray(np.broadcast_to(pixel, (3000, 4000, 4))))
    assert len(data) == 28
    pixelzip.decompress_array(pixelzip.compress(np.zeros((2, 2, 4), np.uint16)))
    with room.Peak() as peak:
        assert (pixelzip.decompress_array(data) == pixel).all(axis=2).all()
    return peak.room, peak.seconds


def test_a_few_bytes_of_one_deep_colour_take_room_for_the_pixels() -> None:
    most, seconds = room.alone(peak_of_deep)
    assert most < 260e6  # the array, its bytes, and what compares them
    assert seconds < 5
