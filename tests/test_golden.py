"""Golden files decode for ever: the format, the coder and the networks of every release."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import released
from make_golden import GOLDEN, INDEX, digest

import pixelzip
from pixelzip.codec.container import SEAL, pack, seal, unpack
from pixelzip.codec.methods import Method, Tile

EXPECTED = json.loads(INDEX.read_text())


def test_every_golden_file_has_its_pixels_written_down() -> None:
    assert {path.stem for path in GOLDEN.glob("*.pxz")} == set(EXPECTED)
    assert EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_golden_file_decodes_to_its_pixels(name: str) -> None:
    assert digest(pixelzip.decompress_array(GOLDEN / f"{name}.pxz")) == EXPECTED[name]


def test_what_was_released_stays() -> None:
    """Until the first release there is nothing on the list."""
    lines, gone = released.listed(), f"0.9.0 {'0' * 64} tests/golden/gone.pxz"
    assert not released.missing(lines)
    assert released.missing([*lines, gone]) == [gone]


def test_a_release_lists_what_it_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(released, "LIST", tmp_path / "released.txt")
    released.main("1.0.0")
    lines = released.listed()
    assert {line.split()[2] for line in lines} >= {
        "tests/golden/rgb-small.pxz", "tests/golden/jpeg/inner.pxz",
        "models/zoo/photo.safetensors", "codec/jpeg/network.xz", "codec/jpeg/prior.xz",
    }  # fmt: skip
    released.main("1.1.0")
    assert released.listed() == lines  # nothing is new
    short = tmp_path / "released.txt"
    short.write_text("".join(f"{line}\n" for line in lines[1:]), "ascii")
    released.main("1.1.0")
    assert released.listed()[:-1] == lines[1:]
    assert released.listed()[-1] == lines[0].replace("1.0.0", "1.1.0")


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("rgb-small", "photo"), ("rgb-tiled", "photo"), ("grey", "photo"), ("rgba", "photo"),
        ("rgb-small-tiny", "tiny"), ("rgb-small-fast", "fast"), ("digit", "mnist"),
    ],
)  # fmt: skip
def test_golden_pictures_are_coded_by_their_networks(name: str, network: str) -> None:
    assert pixelzip.info(GOLDEN / f"{name}.pxz").networks == (network,)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_nothing_can_be_added_to_a_golden_file(name: str) -> None:
    """Behind its seal or before a new one."""
    data = (GOLDEN / f"{name}.pxz").read_bytes()
    for more in (b"\0", b"\1", b"more" * 100):
        for longer in (data + more, seal(data[:-SEAL] + more)):
            with pytest.raises(pixelzip.FormatError):
                pixelzip.decompress_array(longer)


def test_info_says_what_is_corrected() -> None:
    about = pixelzip.info(GOLDEN / "jpeg-retouched.pxz")
    assert about.corrections_bytes > 100
    said = f"; {about.corrections_bytes} bytes correct what differs"
    assert about.found[0].endswith(said)
    exact = pixelzip.info(GOLDEN / "jpeg-halved.pxz")
    assert exact.corrections_bytes == 0
    assert "correct" not in exact.found[0]


def test_blocks_that_are_too_short_to_say_their_steps() -> None:
    container = unpack((GOLDEN / "jpeg-halved.pxz").read_bytes())
    (component,) = container.components
    luma, *others = component.planes
    short = replace(luma, tiles=(Tile(Method.BLOCKS, b"\0"),))
    hurt = replace(component, planes=(short, *others))
    data = pack(replace(container, components=(hurt,)))
    for read in (pixelzip.info, pixelzip.decompress):
        with pytest.raises(pixelzip.FormatError):
            read(data)
