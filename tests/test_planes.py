"""Planes to train on, and the networks of one plane, up to their integers."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from conftest import ROOT
from numpy.typing import NDArray
from PIL import Image

from pixelzip.codec.errors import TrainingError
from pixelzip.models.freezing import freeze
from pixelzip.models.freezing.narrow import narrow
from pixelzip.models.freezing.thaw import thaw
from pixelzip.models.frozen import file
from pixelzip.models.frozen.architecture import GIVEN, LAG, PhotoConfig
from pixelzip.models.networks.photo import Photo, entries
from pixelzip.models.training import images, planes, train

LUMA = PhotoConfig(channels=16, blocks="MN", head=8, components=3, colours=1, near=24)
CHROMA = PhotoConfig(
    channels=16, blocks="MN", head=8, components=3, colours=1, near=24, given=GIVEN
)


@pytest.fixture(scope="module")
def jpegs(photo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A photograph as JPEG with full (1) and halved (2) chroma."""
    folder = tmp_path_factory.mktemp("jpegs")
    with Image.open(photo_path) as image:
        for step, subsampling in ((1, 0), (2, 2)):
            image.save(folder / f"{step}.jpg", quality=93, subsampling=subsampling)
    return {step: folder / f"{step}.jpg" for step in (1, 2)}


@pytest.mark.parametrize("step", [1, 2])
def test_native_planes_are_the_decoders(jpegs: dict[int, Path], step: int) -> None:
    found = planes.native(jpegs[step])
    assert found is not None
    with Image.open(jpegs[step]) as image:
        image.draft("YCbCr", image.size)
        full = np.asarray(image)
    assert found.step == step
    assert (found.luma == full[..., 0]).all()
    assert found.chroma.shape == (2, 512 // step, 768 // step)
    # The decoder's fancy upsampling weighs a sample and its neighbours 9, 3, 3, 1.
    small = found.chroma[0].astype(int)
    if step == 2:
        a, b, c, d = small[4, 4], small[4, 5], small[5, 4], small[5, 5]
        assert full[9, 9, 1] == (9 * a + 3 * b + 3 * c + d + 7) >> 4
    else:
        assert (small == full[..., 1]).all()


def test_grey_and_odd_jpegs(photo_path: Path) -> None:
    def saved(mode: str, **options: int) -> io.BytesIO:
        file = io.BytesIO()
        with Image.open(photo_path) as image:
            image.convert(mode).crop((0, 0, 99, 77)).save(file, "JPEG", **options)
        return file

    grey = planes.native(saved("L"))
    assert grey is not None
    assert grey.luma.shape == (77, 99)
    assert grey.chroma.size == 0
    odd = planes.native(saved("RGB", subsampling=2))
    assert odd is not None
    assert odd.chroma.shape == (2, 39, 50)
    assert planes.native(saved("RGB", subsampling=1)) is None  # 4:2:2
    assert planes.native(photo_path) is None


def test_rendered_planes_render_back(crops: dict[str, NDArray[np.uint8]]) -> None:
    pixels = crops["palms-96x64"]
    rng = np.random.default_rng(0)
    found = planes.rendered(pixels, planes.RENDERED, 1, rng)
    y, cb, cr = (p.astype(float) for p in (found.luma, *found.chroma))
    back = np.stack([y + 1.402 * (cr - 128), y, y + 1.772 * (cb - 128)], -1)
    error = np.abs(back - pixels)[..., [0, 2]]
    assert error.max() <= 2
    scanned = planes.rendered(pixels, planes.SCANNED, 2, rng)
    assert scanned.chroma.shape == (2, 32, 48)
    red = 1.3584 * scanned.luma[::2, ::2] + 1.8215 * (scanned.chroma[1].astype(float) - 137)
    assert np.abs(red - pixels[::2, ::2, 0]).mean() < 6  # but for what chroma's softening took


def test_given_samples_lie_over_the_chroma() -> None:
    luma = np.arange(48, dtype=np.uint8).reshape(6, 8)
    four = planes.given(luma, None, 2)
    assert four.shape == (3, 4, 4)
    assert four[1, 2].tolist() == [20, 21, 28, 29]
    same = planes.given(luma, luma + 100, 1)
    assert same[2, 3].tolist() == [19, 19, 19, 19, 119]
    seen = entries(torch.from_numpy(same))[2, 3].tolist()
    assert seen == [-109, -109, -109, -109, 64, -9, 64]
    assert entries(torch.from_numpy(four))[0, 0].tolist() == [-128, -127, -120, -119, 64, 0, 0]


@pytest.mark.parametrize("chroma", [False, True])
def test_crops_repeat_with_their_generator(
    jpegs: dict[int, Path], photo_path: Path, chroma: bool
) -> None:
    def draw() -> list[NDArray[np.generic]]:
        paths = [*jpegs.values(), photo_path]
        source = planes.Crops(paths, 32, np.random.default_rng(3), chroma=chroma)
        return [*source.draw(12), *source.draw(1)]

    first, second = draw(), draw()
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert first[0].shape == (12, 32, 32, 1)
    assert first[0].dtype == np.uint8
    if chroma:
        assert first[2].shape == (12, 32, 32, 7)
        present = first[2][:, 0, 0, 6].tolist()  # type: ignore[index]
        assert set(present) == {0, 64}  # first and second chroma planes


def network(config: PhotoConfig) -> Photo:
    made = tiny.photo(config)
    if config.given:
        with torch.no_grad():
            made.look_predictor += 0.01 * torch.randn_like(made.look_predictor)
    return made


def differ(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of two (1, H, W, 1) likelihoods, where they differ by more than what floats round: (H, W)."""
    return ((a - b).abs() > 1e-4)[0, ..., 0]


def test_chroma_looks_ahead_in_what_it_is_given_and_nowhere_else() -> None:
    made = network(CHROMA)
    torch.manual_seed(1)
    pixels = torch.randint(120, 136, (1, 14, 24, 1), dtype=torch.uint8)
    given = entries(torch.randint(120, 136, (1, 14, 24, 5), dtype=torch.uint8))
    before = made(pixels, given)
    row, column = 8, 12
    changed = pixels.clone()
    changed[0, row, column] ^= 4
    ahead = differ(made(changed, given), before)
    earlier = torch.zeros_like(ahead)
    for r in range(14):
        for c in range(24):  # not after it: the pixel itself, and what its front condition lets see
            earlier[r, c] = c + LAG * r < column + LAG * row
    assert not (ahead & earlier).any()
    assert ahead[row, column]
    assert ahead[row, column + 1]
    changed_given = given.clone()
    changed_given[0, row, column, 0] ^= 32
    seen = differ(made(pixels, changed_given), before)
    assert seen[row - 2, column - 2]
    assert seen[row - 1, column]
    assert not seen[: row - 2].any()


@pytest.mark.parametrize("config", [tiny.CONFIG, LUMA, CHROMA])
def test_thawed_networks_are_close(
    config: PhotoConfig, crops: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    made = network(config)
    pixels = tiny.sample(crops.values())[:4]
    told = [pixels]
    if config.colours == 1:
        told = [pixels[..., :1].contiguous()]
    if config.given:
        luma, chroma = pixels[..., 1:2].expand(-1, -1, -1, 4), pixels[..., 2:]
        told.append(entries(torch.cat([luma, chroma], -1)))
    path = tmp_path / "frozen.safetensors"
    freeze.write(path, made.freeze(*told), config, "")
    fresh = Photo(config)
    thaw(path, fresh)
    with torch.no_grad():
        expected, found = made(*told), fresh(*told)
    assert float((expected - found).abs().mean()) < 0.1
    assert float((expected.mean() - found.mean()).abs()) < 0.02


def test_a_network_of_one_plane_begins_with_photo(crops: dict[str, NDArray[np.uint8]]) -> None:
    path = ROOT / "models" / "zoo" / "photo.safetensors"
    config = file.read(path)[1]
    photo = Photo(config)
    thaw(path, photo)
    grey = tiny.sample(crops.values())[:3, ..., 1:2].contiguous()
    with torch.no_grad():
        expected = photo(grey.expand(-1, -1, -1, 3))[..., 0].mean()
        for given in (0, GIVEN):
            fresh = Photo(replace(config, colours=1, near=24, given=given))
            before = fresh.first[:, 62:].clone()
            thaw(path, fresh)
            assert (fresh.first[:, 62:] == before).all()  # random filters on what photo never saw
            fresh.first[:, 62:] = 0
            told = (entries(grey.expand(-1, -1, -1, 5)),) if given else ()
            assert float((fresh(grey, *told).mean() - expected).abs()) < 0.02
    with pytest.raises(ValueError, match="another size"):
        thaw(path, Photo(LUMA))


def test_a_deeper_network_begins_as_a_shallower_one(crops: dict[str, NDArray[np.uint8]]) -> None:
    path, pixels = ROOT / "models" / "zoo" / "photo.safetensors", tiny.sample(crops.values())[:3]
    config = file.read(path)[1]
    shallow, deep = Photo(config), Photo(replace(config, blocks=config.blocks + "MN"))
    thaw(path, shallow)
    thaw(path, deep)
    with torch.no_grad():
        assert torch.equal(shallow(pixels), deep(pixels))
    with pytest.raises(ValueError, match="another size"):
        thaw(path, Photo(replace(config, blocks=config.blocks[:-1])))


def test_a_smaller_network_begins_with_photo(
    crops: dict[str, NDArray[np.uint8]], tmp_path: Path
) -> None:
    path, pixels = ROOT / "models" / "zoo" / "photo.safetensors", tiny.sample(crops.values())
    shipped = file.read(path)[1]
    photo = Photo(shipped)
    thaw(path, photo)
    nearly = replace(shipped, channels=120, head=60)
    small = replace(shipped, channels=64, head=32, components=4)
    with torch.no_grad():
        expected = float(photo(pixels).mean())
        found = float(narrow(photo, nearly, pixels)(pixels).mean())
        assert found == pytest.approx(expected, rel=0.01)
        begun = Photo(small)
        fresh = float(begun(pixels).mean() - expected)
        config = train.TrainConfig((), (), tmp_path, architecture=small)
        source = images.Whole(images.Images(pixels.numpy()), np.random.default_rng(0), False)
        train.begin(begun, path, config, source)
        fitted = float(begun(pixels).mean() - expected)
    assert -0.2 < fitted < 0  # nats
    assert fresh < 5 * fitted
    for other in (shipped, replace(shipped, channels=160), replace(shipped, blocks="MNMN"), LUMA):
        with pytest.raises(ValueError, match="to spare"):
            narrow(photo, other, pixels)


@pytest.mark.parametrize("name", ["luma", "chroma"])
def test_training_on_planes(
    name: str,
    jpegs: dict[int, Path],
    photo_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planes, "VALIDATION", 8)
    config = train.TrainConfig(
        data=(jpegs[1].parent,), valid=(jpegs[1].parent,), output=tmp_path / "run", network=name,
        architecture=LUMA if name == "luma" else CHROMA, steps=3, batch=2, side=32, warmup=1,
        compile=False,
    )  # fmt: skip
    said = list[train.Progress]()
    checkpoint = train.train(config, said.append)
    assert said[-1].valid_bits_per_dim is not None
    output = tmp_path / "frozen.safetensors"
    assert len(freeze.freeze_checkpoint(checkpoint, output)) == 32
    again = tmp_path / "again"
    started = train.TrainConfig(**{**config.__dict__, "output": again, "start": output})
    train.train(started)
    wrong = train.TrainConfig(**{**config.__dict__, "output": tmp_path / "w", "start": photo_path})
    with pytest.raises(TrainingError):
        train.train(wrong)
