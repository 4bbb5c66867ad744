"""Whatever a network is like: its order, its kind of answer, its classes; coding and sampling."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from toys import ORDERS, Toy, raster

from pixelzip import coding
from pixelzip.bench import theory
from pixelzip.codec import cdf, tiles
from pixelzip.codec.container import unpack
from pixelzip.codec.costs import cost_map
from pixelzip.codec.decode import decode
from pixelzip.codec.encode import encode
from pixelzip.codec.errors import FormatError, PixelzipError
from pixelzip.codec.methods import Method
from pixelzip.codec.picture import Picture

Bytes = NDArray[np.uint8]
SHAPES = [(1, 1), (1, 7), (6, 1), (2, 2), (9, 5), (5, 9), (9, 5)]


def drawn(toy: Toy, shapes: list[tuple[int, int]], channels: int, seed: int = 1) -> list[Bytes]:
    """Tiles such as the toy expects them."""
    labels = [number % max(1, toy.classes) for number in range(len(shapes))]
    return tiles.sample_tiles(toy, shapes, channels, seed=seed, labels=labels)


# --- Orders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ORDERS)
def test_fronts_are_the_steps(order: str) -> None:
    toy = Toy(order)
    seen: list[list[int]] = [[] for _ in SHAPES]
    for spans in tiles.fronts(toy, SHAPES):
        for tile, numbers in spans:
            steps = toy.steps(SHAPES[tile]).reshape(-1)
            (step,) = set(steps[numbers].tolist())  # all of one step, and all that it has
            assert numbers.tolist() == np.flatnonzero(steps == step).tolist()
            seen[tile].append(step)
    for tile, shape in enumerate(SHAPES):
        assert seen[tile] == sorted(set(toy.steps(shape).reshape(-1).tolist()))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ORDERS)
def test_any_order_comes_back(order: str, channels: int) -> None:
    toy = Toy(order, classes=3)
    originals = drawn(toy, SHAPES, channels)
    payloads = tiles.encode_tiles(toy, originals, threads=2)
    assert payloads == [tiles.encode_tiles(toy, [tile])[0] for tile in originals]
    for threads in (1, 3):
        back = tiles.decode_tiles(toy, payloads, SHAPES, channels, threads=threads)
        assert all(map(np.array_equal, back, originals))


def test_an_order_is_found_once_for_each_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    toy = Toy("raster")

    def order(shape: tuple[int, int]) -> NDArray[np.int32]:
        asked.append(shape)
        return raster(shape)

    monkeypatch.setattr(toy, "order", order)
    wanted = [np.zeros((6, 4, 1), np.uint8)] * 5 + [np.zeros((4, 4, 1), np.uint8)] * 5
    monkeypatch.setattr(toy, "parallel", lambda pixels, *_: Toy("raster").parallel(pixels))
    payloads = tiles.encode_tiles(toy, wanted)
    tiles.decode_tiles(toy, payloads, [tile.shape[:2] for tile in wanted], 1)
    assert sorted(asked) == [(4, 4), (4, 4), (6, 4), (6, 4)]


# --- Classes --------------------------------------------------------------------------------------


def test_the_best_class_is_the_first_byte() -> None:
    toy = Toy("raster", classes=6)
    shapes = [(12, 12)] * 6
    originals = drawn(toy, shapes, 1)
    payloads = tiles.encode_tiles(toy, originals)
    assert [payload[0] for payload in payloads] == [0, 0, 2, 2, 4, 4]  # of equals the lower one
    for label in range(6):
        given = tiles.encode_tiles(toy, originals, label=label)
        assert [payload[0] for payload in given] == [label] * 6
        assert all(len(best) <= len(other) for best, other in zip(payloads, given, strict=True))
        back = tiles.decode_tiles(toy, given, shapes, 1)
        assert all(map(np.array_equal, back, originals))
        scores = tiles.score_tiles(toy, originals, labels=[label] * 6)
        for payload, bits in zip(given, scores, strict=True):
            assert 8 * (len(payload) - 1) == pytest.approx(float(bits.sum()), abs=20)
    best = [float(bits.sum()) for bits in tiles.score_tiles(toy, originals)]
    assert 8 * len(b"".join(payloads)) == pytest.approx(sum(best), abs=6 * 28)


def test_classes_that_are_not() -> None:
    toy, plain = Toy("raster", classes=3), Toy("raster")
    (tile,) = drawn(plain, [(8, 8)], 1)
    for network, label in ((toy, 3), (toy, -1), (plain, 0)):
        with pytest.raises(ValueError, match="no class"):
            tiles.encode_tiles(network, [tile], label=label)
    (payload,) = tiles.encode_tiles(toy, [tile])
    for damaged in (b"", b"\x03" + payload[1:], b"\xff"):
        with pytest.raises(FormatError, match="no such class"):
            tiles.decode_tiles(toy, [damaged], [(8, 8)], 1)
    assert tiles.encode_tiles(plain, [tile])[0] == payload[1:]


def test_files_and_their_cost_maps_have_classes() -> None:
    toy = Toy("coarse", classes=3)
    (pixels,) = drawn(toy, [(40, 50)], 3)
    picture = Picture("RGB", (pixels,))
    sizes = {}
    for label in (None, 0, 2):
        seen: list[float] = []
        data = encode(picture, {"colour": [toy]}, tile_size=32, label=label, progress=seen.append)
        assert seen == sorted(seen)
        assert seen[-1] == 1
        ((plane,),) = (component.planes for component in unpack(data).components)
        assert {tile.method for tile in plane.tiles} == {Method.NETWORK}
        assert {tile.payload[0] for tile in plane.tiles} == {label or 0}
        assert np.array_equal(decode(data, lambda _: toy).planes[0], pixels)
        sizes[label] = sum(8 * len(tile.payload) for tile in plane.tiles)
        assert sizes[label] == pytest.approx(float(cost_map(data, lambda _: toy).sum()), abs=120)
    assert sizes[None] == sizes[0] < sizes[2]


def test_damage_to_a_file_with_classes_is_noticed() -> None:
    toy = Toy("rows", classes=3)
    (pixels,) = drawn(toy, [(9, 9)], 3)
    data = encode(Picture("RGB", (pixels,)), {"colour": [toy]})
    assert unpack(data).components[0].planes[0].tiles[0].method == Method.NETWORK
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        with pytest.raises(PixelzipError):
            decode(bytes(damaged), lambda _: toy)


# --- Channels -------------------------------------------------------------------------------------


def test_what_a_network_does_not_code_falls_back() -> None:
    colour, both = Toy("raster", coded=[3]), Toy("raster")
    (pixels,), (alpha,) = drawn(both, [(40, 40)], 3), drawn(both, [(40, 40)], 1)
    picture = Picture("RGBA", (pixels, alpha))
    data = encode(picture, {"colour": [colour]})
    methods = [part.planes[0].tiles[0].method for part in unpack(data).components]
    assert methods[0] == Method.NETWORK
    assert methods[1] in (Method.PACKED, Method.RAW)
    assert all(map(np.array_equal, decode(data, lambda _: colour).planes, picture.planes))
    grey = Picture("L", (alpha,))
    (part,) = unpack(encode(grey, {"colour": [colour]})).components
    assert part.planes[0].tiles[0].method != Method.NETWORK
    data = encode(grey, {"colour": [both]})
    assert unpack(data).components[0].planes[0].tiles[0].method == Method.NETWORK
    with pytest.raises(FormatError, match="does not code such pixels"):
        decode(data, lambda _: colour)


def test_theory_is_of_what_a_network_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Toy("coarse", classes=3, coded=[3])
    monkeypatch.setattr(coding, "load_network", lambda name, device="cpu": toy)
    (pixels,) = drawn(toy, [(20, 20)], 3)
    bits = theory.frozen_bits("toy", Picture("RGB", (pixels,)), 1)
    (payload,) = tiles.encode_tiles(toy, [pixels])
    assert bits == pytest.approx(8 * len(payload), abs=30)
    assert theory.frozen_bits("toy", Picture("L", (pixels[:, :, :1],)), 1) is None


# --- Samples --------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_depends_on_its_seed_its_number_and_nothing_else(channels: int) -> None:
    toy = Toy("coarse", classes=4)
    originals = drawn(toy, SHAPES, channels)
    assert [tile.shape for tile in originals] == [(*shape, channels) for shape in SHAPES]
    labels = [0, 1, 2, 3, 0, 1, 2]
    for threads in (2, 5):
        again = tiles.sample_tiles(toy, SHAPES, channels, seed=1, labels=labels, threads=threads)
        assert all(map(np.array_equal, again, originals))
    fewer = tiles.sample_tiles(toy, SHAPES[:5], channels, seed=1, labels=labels[:5])
    assert all(map(np.array_equal, fewer, originals))
    others = drawn(toy, SHAPES, channels, seed=2)
    assert not any(map(np.array_equal, originals[3:], others[3:]))
    assert not np.array_equal(originals[4], originals[6])  # the same shape, another number


def test_samples_follow_the_distribution() -> None:
    """What a sample costs is, on average, the entropy of its conditionals."""
    toy = Toy("raster")
    surprise = []
    for tile in drawn(toy, [(24, 24)] * 4, 3):
        for c, logits in enumerate(np.concatenate(list(toy.parallel(tile))).transpose(1, 0, 2)):
            every = np.arange(256, dtype=np.uint8)
            scored = [cdf.symbol_bits(cdf.intervals(np.tile(row, (256, 1)), every)).sum(1)
                      for row in logits]  # fmt: skip
            bits = np.array(scored)  # (pixels, 256)
            entropy = (bits * 0.5**bits).sum(1)
            spread = (bits**2 * 0.5**bits).sum(1) - entropy**2
            own = bits[np.arange(len(bits)), tile[:, :, c].reshape(-1)]
            surprise.append((own - entropy).sum() / np.sqrt(spread.sum()))
    z = np.array(surprise)  # twelve, each nearly normal
    assert abs(z.mean()) < 3 / np.sqrt(len(z))
    assert (abs(z) < 4).all()
    assert z.std() > 0.3


def test_known_pixels_are_taken_as_they_are() -> None:
    toy = Toy("coarse", classes=2)
    originals = drawn(toy, SHAPES, 3)
    rng = np.random.default_rng(0)
    masks = [rng.random(shape) < 0.5 for shape in SHAPES]
    known = list(zip(originals, masks, strict=True))
    drawn_anew = tiles.sample_tiles(toy, SHAPES, 3, seed=9, known=known)
    for new, tile, mask in zip(drawn_anew, originals, masks, strict=True):
        assert np.array_equal(new[mask], tile[mask])
    assert (drawn_anew[4] != originals[4])[~masks[4]].any()
    # What is not known has no influence.
    noise = [np.where(mask[:, :, None], tile, 77).astype(np.uint8) for tile, mask in known]
    again = tiles.sample_tiles(
        toy, SHAPES, 3, seed=9, known=list(zip(noise, masks, strict=True)), threads=2
    )
    assert all(map(np.array_equal, drawn_anew, again))
    # Nothing to draw, nothing drawn; nothing known, a sample like any other.
    for whole, expected in ((True, originals), (False, drawn(Toy("coarse"), SHAPES, 3, seed=9))):
        masks = [np.full(shape, whole) for shape in SHAPES]
        found = tiles.sample_tiles(
            toy, SHAPES, 3, seed=9, known=list(zip(originals, masks, strict=True))
        )
        assert all(map(np.array_equal, found, expected))
