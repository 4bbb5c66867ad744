"""Which network codes a picture if nobody says: a sample of it chooses among several."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray
from toys import LUMA, Toy

import pixelzip
from pixelzip import coding, sources
from pixelzip.bench import choice
from pixelzip.codec import encode, tiles
from pixelzip.codec.container import unpack
from pixelzip.codec.picture import Picture
from pixelzip.models import zoo
from pixelzip.models.freezing import freeze

ZOO = Path(zoo.__file__).parent
COLOUR = coding.EFFORTS["photo"].networks["colour"]

Pixels = NDArray[np.uint8]
Crops = dict[str, Pixels]


class Off(Toy):
    """A toy that expects pixels above what they are."""

    def __init__(self, by: int) -> None:
        super().__init__("raster")
        self.by = by
        self.fingerprint = hashlib.sha256(f"off by {by}".encode()).digest()

    def guess(self, near: NDArray[np.int32], known: NDArray[np.bool_]) -> NDArray[np.int32]:
        return super().guess(near, known) + self.by


class Same(Off):
    """Another one that expects what `Off` does."""

    def __init__(self, by: int) -> None:
        super().__init__(by)
        self.fingerprint = hashlib.sha256(f"the same, off by {by}".encode()).digest()


def drawn(network: Toy, shape: tuple[int, int], seed: int = 0) -> Picture:
    """A picture as the network expects it."""
    (pixels,) = tiles.sample_tiles(network, [shape], 3, seed=seed)
    return Picture("RGB", (pixels,))


def used(picture: Picture, *networks: Toy) -> list[Toy]:
    """Those that code a picture."""
    data = encode.encode(picture, {"colour": networks, "luma": [LUMA]}, origins=False)
    return [
        network
        for prefix in unpack(data).networks
        for network in (*networks, LUMA)
        if network.fingerprint.startswith(prefix)
    ]


@pytest.mark.parametrize("shape", [(33, 40), (70, 90), (9, 300)])
def test_the_network_that_suits_is_chosen_wherever_it_stands(shape: tuple[int, int]) -> None:
    near, far, farther = Off(0), Off(3), Off(20)
    picture = drawn(near, shape)
    for order in ((near, far, farther), (far, near, farther), (farther, far, near)):
        assert used(picture, *order) == [near]


def test_of_networks_that_are_alike_the_first_is_taken() -> None:
    one, same = Off(2), Same(2)
    picture = drawn(one, (40, 50))
    assert used(picture, one, same) == [one]
    assert used(picture, same, one) == [same]


def test_those_that_do_not_code_a_plane_are_not_asked() -> None:
    near, grey = Off(0), Toy("rows", coded=[1])
    (pixels,) = drawn(near, (40, 50)).planes
    (alpha,) = tiles.sample_tiles(LUMA, [(40, 50)], 1, seed=1)
    picture = Picture("RGBA", (pixels, alpha))
    assert used(picture, grey, Off(3), near) == [near, LUMA]


def test_a_sample_is_small(crops: Crops, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 2.2 % of a picture of the web's size for each network, whatever they say."""
    pixels = np.tile(crops["bikes-96x64"], (3, 3, 1))[:187, :250]
    scored, score_tiles = [0], tiles.score_tiles

    def counted(network: Toy, patches: list[Pixels], **more: object) -> object:
        scored[0] += sum(patch[..., 0].size for patch in patches)
        return score_tiles(network, patches, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(tiles, "score_tiles", counted)
    used(Picture("RGB", (pixels,)), Off(0), Same(0), Off(1))
    assert 0 < scored[0] <= 0.022 * 3 * pixels[..., 0].size
    scored[0] = 0
    used(Picture("RGB", (pixels,)), Off(0))
    assert scored[0] == 0


def test_a_network_that_is_named_is_taken_without_a_sample(
    crops: Crops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(tiles, "score_tiles")
    for name in ("photo", "tiny"):
        data = pixelzip.compress(crops["bikes-96x64"], network=name, origin="none")
        assert pixelzip.info(data).networks == (name,)


@pytest.fixture(scope="module")
def poor(crops: Crops, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a network that was never trained."""
    path = tmp_path_factory.mktemp("network") / "poor.safetensors"
    freeze.write(path, tiny.photo().freeze(tiny.sample(crops.values())[:8]), tiny.CONFIG, "a test")
    return path


@pytest.fixture(params=COLOUR)
def best(
    request: pytest.FixtureRequest, poor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The name of the best network of a zoo, in which all others for colour are poor."""
    for name in COLOUR:
        shipped = ZOO / "photo.safetensors"
        (tmp_path / f"{name}.safetensors").symlink_to(shipped if name == request.param else poor)
    monkeypatch.setattr(zoo, "_FOLDER", tmp_path)
    zoo._load.cache_clear()
    yield request.param
    zoo._load.cache_clear()


@pytest.mark.parametrize("effort", ["photo", "max"])
def test_pictures_of_any_kind_and_size_have_the_best(best: str, crops: Crops, effort: str) -> None:
    large = crops["bikes-96x64"]
    opaque = np.concatenate([large, crops["palms-96x64"][..., :1]], axis=2)
    pictures = [crops["flower-64x48"], crops["palms-96x64"][:50, 9:90], large, opaque]
    pictures.append(large.astype(np.uint16) * 259 + crops["palms-96x64"])
    files = pixelzip.compress_many(pictures, origin="none", effort=effort)
    for picture, data in zip(pictures, files, strict=True):
        assert best in pixelzip.info(data).networks
        named = pixelzip.compress(picture, network=best, origin="none", effort=effort)
        if picture.shape[2] == 3 and picture.dtype == np.uint8:
            assert pixelzip.info(data).networks == (best,)
            assert data == named
        assert np.array_equal(pixelzip.decompress_array(data), picture)


def test_one_picture_alone_has_the_same_file(best: str, crops: Crops) -> None:
    pictures = [crops[name] for name in ("flower-64x48", "bikes-96x64", "parrot-32x32")]
    files = pixelzip.compress_many(pictures, origin="none")
    for picture, data in zip(pictures, files, strict=True):
        for threads in (1, 3):
            assert pixelzip.compress(picture, origin="none", threads=threads) == data
    seen: list[float] = []
    progress = coding.encode(sources.to_picture(pictures[1]), origin="none", progress=seen.append)
    assert progress == files[1]
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_the_zoo_may_lack_specialists(
    crops: Crops, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photo.safetensors").symlink_to(ZOO / "photo.safetensors")
    monkeypatch.setattr(zoo, "_FOLDER", tmp_path)
    for name in ("parrot-32x32", "bikes-96x64"):
        data = pixelzip.compress(crops[name], origin="none")
        assert pixelzip.info(data).networks == ("photo",)


def test_the_network_for_small_pictures_codes_the_smallest(crops: Crops) -> None:
    for name in ("parrot-32x32", "knob-32x32"):
        assert pixelzip.compress(crops[name]) == pixelzip.compress(crops[name], network="tiny")


def test_the_choice_of_a_network_costs_little(crops: Crops) -> None:
    """A sample may be wrong, but not by much, and mostly it is right."""
    chosen, least, most = 0, 0, 0
    for name in ("bikes-96x64", "palms-96x64"):
        for left in (0, 11, 22, 33):
            picture = crops[name][:, left : left + 63]
            tried = [
                len(pixelzip.compress(picture, network=name, origin="none"))
                for name in COLOUR
                if name in zoo.names()
            ]
            chosen += len(pixelzip.compress(picture, origin="none"))
            least, most = least + min(tried), most + max(tried)
    assert chosen <= 1.003 * least
    assert chosen < (least + most) / 2


def test_what_the_choice_gains_is_measured(crops: Crops) -> None:
    pictures = [crops["bikes-96x64"], crops["flower-64x48"]]
    row = dict(zip(choice.COLUMNS, choice.compare("crops", pictures), strict=True))
    assert (row["pictures"], row["pixels"]) == ("2 crops", "4,608")
    first, *others = choice.NETWORKS
    whole = sum(len(pixelzip.compress(each, network=first, origin="none")) for each in pictures)
    for column, network in (*zip(others, others, strict=True), ("chosen", None)):
        own = sum(len(pixelzip.compress(each, network=network, origin="none")) for each in pictures)
        assert row[column] == f"{100 * (own / whole - 1):+.2f} %"
    assert float(row["the best of all"][:-2]) <= min(0, *(float(row[n][:-2]) for n in others))
