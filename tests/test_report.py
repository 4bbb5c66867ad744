"""The page of a run: whole in itself, true to the figures, and looked at in a browser."""

from __future__ import annotations

import base64
import io
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import pixelzip
from pixelzip import heatmap
from pixelzip.bench import report, tables
from pixelzip.bench.figures import CodecFigures, ImageFigures, Results
from pixelzip.bench.report import Sample

Pixels = NDArray[np.uint8]
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
MACHINE = {
    "date": "2001-02-03 04:05 UTC",
    "processor": "abacus",
    "cores": 2,
    "system": "Linux",
    "python": "3.11",
    "threads": 1,
    "repeat": 1,
    "versions": {"pixelzip": "0.1.0"},
    "git": None,
}


def measured(
    name: str, compress: Callable[[Pixels], bytes], images: dict[str, Pixels], **theory: float
) -> CodecFigures:
    """Figures of real files; a network's are those with ``theory``, bits by image."""
    figures = []
    for image, pixels in images.items():
        started = time.perf_counter()
        data = compress(pixels)
        seconds = time.perf_counter() - started
        payload = pixelzip.info(data).payload_bytes if theory else None
        figures.append(
            ImageFigures(
                name=image,
                width=pixels.shape[1],
                height=pixels.shape[0],
                subpixels=pixels.size,
                bytes=len(data),
                payload_bytes=payload,
                theoretical_bits=theory.get(image),
                float_bits=None,
                encode_seconds=seconds,
                decode_seconds=seconds / 2,
            )
        )
    return CodecFigures(name, bool(theory), tuple(figures), None)


def pillow(kind: str, **options: object) -> Callable[[Pixels], bytes]:
    def compress(pixels: Pixels) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind, **options)
        return stream.getvalue()

    return compress


@pytest.fixture(scope="module")
def samples(crops: dict[str, Pixels]) -> list[Sample]:
    chosen = {name: crops[name] for name in ("parrot-32x32", "flower-64x48", "bikes-96x64")}
    return [
        Sample(name, pixels, pixelzip.cost_map(pixelzip.compress(pixels)))
        for name, pixels in chosen.items()
    ]


@pytest.fixture(scope="module")
def results(samples: list[Sample]) -> Results:
    images = {sample.name: sample.pixels for sample in samples}
    theory = {sample.name: float(sample.bits.sum(dtype=np.float64)) for sample in samples}
    codecs = (
        measured("pixelzip photo", pixelzip.compress, images, **theory),
        measured("PNG, optimised", pillow("PNG", optimize=True), images),
        measured("WebP lossless", pillow("WEBP", lossless=True), images),
    )
    return Results("crops", len(images), MACHINE, codecs, "PNG, optimised", ("FLIF is missing.",))


class Page(HTMLParser):
    """What a page holds: its text, its tags, its pictures; and that its tags are closed."""

    VOID = ("meta", "img", "br")

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, tag: str, name: str) -> list[str]:
        return [value for each, key, value in self.attributes if (each, key) == (tag, name)]

    def images(self) -> list[Image.Image]:
        return [
            Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/png;base64,"))))
            for source in self.values("img", "src")
        ]


def test_the_page_needs_nothing_else(
    results: Results, samples: list[Sample], tmp_path: Path
) -> None:
    page = Page(report.write(results, samples, tmp_path / "new" / "page"))
    assert [path.name for path in (tmp_path / "new" / "page").iterdir()] == ["index.html"]
    fetched = [value for _, name, value in page.attributes if name in ("src", "href", "xlink:href")]
    assert fetched
    assert all(value.startswith(("data:", "#")) for value in fetched)
    used = [*re.findall(r"url\((.*?)\)", page.source), *page.values("use", "xlink:href")]
    defined = {value for _, name, value in page.attributes if name == "id"}
    assert {reference.lstrip("#") for reference in used} <= defined
    assert "http:" not in page.source
    assert "https:" not in page.source
    assert "<script" not in page.source
    assert "default-src 'none'" in page.values("meta", "content")[0]


def test_the_page_has_every_figure(results: Results, samples: list[Sample], tmp_path: Path) -> None:
    page = Page(report.write(results, samples, tmp_path))
    for table in tables.all_tables(results):
        assert table.title in page.texts
        for cell in (*table.columns, *(cell for row in table.rows for cell in row if cell)):
            assert cell in page.texts
    assert "FLIF is missing." in page.texts
    network, _, webp = results.codecs
    percent = 100 * (network.bits_per_dim / webp.bits_per_dim - 1)
    (finding,) = (text for text in page.texts if text.startswith("pixelzip photo takes"))
    assert f"{abs(percent):.1f} % {'more' if percent > 0 else 'less'} than the smallest" in finding
    assert f"WebP lossless ({webp.bits_per_dim:.3f})" in finding
    assert "abacus" in page.source


def test_pictures_stand_beside_their_heat_maps(
    results: Results, samples: list[Sample], tmp_path: Path
) -> None:
    images = Page(report.write(results, samples, tmp_path)).images()
    assert len(images) == 2 * len(samples)
    end = heatmap.scale(np.concatenate([sample.bits.ravel() for sample in samples]))[-1]
    for sample, picture, heat in zip(samples, images[::2], images[1::2], strict=True):
        np.testing.assert_array_equal(np.asarray(picture), sample.pixels)
        expected = heatmap.paint(sample.bits, end).convert("RGB")
        np.testing.assert_array_equal(np.asarray(heat.convert("RGB")), np.asarray(expected))


@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 1), (40, 30, 2), (40, 30, 4), (9, 2500, 3)])
def test_samples_of_all_shapes(results: Results, shape: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    bits = rng.uniform(1, 9, shape[:2]).astype(np.float32)
    page = Page(report.write(results, [Sample("any", pixels, bits)], tmp_path))
    picture, heat = page.images()
    assert picture.size == heat.size
    assert max(picture.size) <= report.LARGEST_SAMPLE
    if shape[1] == 30:
        np.testing.assert_array_equal(np.asarray(picture), pixels.reshape(40, 30, -1).squeeze())
    else:
        assert picture.size == (834, 3)
        assert any("shown at 834 x 3" in text for text in page.texts)


def test_plots_in_the_colours_of_the_page(
    results: Results, samples: list[Sample], tmp_path: Path
) -> None:
    page = Page(report.write(results, samples, tmp_path))
    titles = page.values("svg", "aria-label")
    assert [title.split()[0] for title in titles] == ["Size", "Size", "Files", "Image"]
    drawings = re.findall(r"<svg.*?</svg>", page.source, re.DOTALL)
    for drawing in drawings:
        assert "var(--ink)" in drawing
        assert "var(--net-1)" in drawing
        assert set(re.findall(r"#[0-9a-f]{6}\b", drawing)) <= {"#ffffff"}
    for name in ("pixelzip photo", "PNG, optimised", "WebP lossless"):
        assert [name in drawing for drawing in drawings[:2]] == [True, True]
    for sample in samples:
        assert sample.name in drawings[3]


def test_a_network_less_run_has_no_gaps_to_show(results: Results, tmp_path: Path) -> None:
    page = Page(report.write(replace(results, codecs=results.codecs[1:]), [], tmp_path))
    assert len(page.values("svg", "role")) == 3
    assert page.images() == []
    assert "Where the bits go" not in page.texts


def test_of_many_images_some_of_each_size_are_plotted(results: Results, tmp_path: Path) -> None:
    def many(codec: CodecFigures) -> CodecFigures:
        first = codec.images[0]
        images = [replace(first, name=f"n{i:03}", bytes=900 + 7 * i % 1000) for i in range(200)]
        return replace(codec, images=tuple(images))

    large = replace(results, images=200, codecs=tuple(many(codec) for codec in results.codecs))
    page = Page(report.write(large, [], tmp_path))
    named = {text for text in page.texts if re.fullmatch(r"n\d\d\d", text)}
    assert len(named) == report.MOST_BARS
    by_size = sorted(large.codecs[0].images, key=lambda image: image.bytes)
    assert {by_size[0].name, by_size[-1].name} <= named


def test_names_cannot_become_markup(results: Results, tmp_path: Path) -> None:
    evil = "<b>&$x^2$"
    codecs = tuple(
        replace(codec, name=evil + codec.name, images=tuple(
            replace(image, name=evil) for image in codec.images
        ))
        for codec in results.codecs
    )  # fmt: skip
    sample = Sample(evil, np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.float32))
    nasty = replace(results, dataset=evil, codecs=codecs, reference=None, notes=(evil,))
    page = Page(report.write(nasty, [sample], tmp_path))
    assert "<b>" not in page.source
    assert evil in page.texts
    assert escape(evil) in page.source
    assert f"heat map of {evil}" in page.values("img", "alt")


def test_a_new_page_takes_the_place_of_the_old(results: Results, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("old")
    (tmp_path / "figures.json").write_text("kept")
    report.write(results, [], tmp_path)
    assert "old" not in {*Page(tmp_path / "index.html").texts}
    assert {path.name for path in tmp_path.iterdir()} == {"index.html", "figures.json"}


needs_chromium = pytest.mark.skipif(not CHROMIUM, reason="no chromium on the PATH")


def browse(url: str, folder: Path, *options: str) -> str:
    """What headless Chromium prints."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += [f"--user-data-dir={folder / 'profile'}", *options, url]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs_chromium
def test_it_fits_a_phone(results: Results, samples: list[Sample], tmp_path: Path) -> None:
    report.write(results, samples, tmp_path)
    (tmp_path / "phone.html").write_text("""<iframe id=phone src=index.html width=360 height=640>
        </iframe><p id=told></p><script>
        phone.onload = () => {
            const page = phone.contentDocument, all = query => [...page.querySelectorAll(query)];
            told.textContent = JSON.stringify([
                page.documentElement.scrollWidth <= page.documentElement.clientWidth,
                all("img").every(image => image.complete && image.naturalWidth > 0),
                all("img").length,
                all("svg text").every(text => {
                    const to = text.getScreenCTM(), size = getComputedStyle(text).fontSize;
                    return parseFloat(size) * Math.hypot(to.a, to.b) > 7;
                }),
            ]);
        };
        </script>""")
    page = browse(
        (tmp_path / "phone.html").as_uri(), tmp_path,
        "--allow-file-access-from-files", "--virtual-time-budget=10000", "--dump-dom",
    )  # fmt: skip
    assert f'<p id="told">[true,true,{2 * len(samples)},true]</p>' in page


@needs_chromium
def test_it_is_dark_where_the_reader_wants_it(
    results: Results, samples: list[Sample], tmp_path: Path
) -> None:
    """Looked at in a browser: background, plots and heat maps have the colours that they should."""
    path = report.write(results, samples, tmp_path)
    seen = {}
    for scheme, number in (("dark", 0), ("light", 1)):
        browse(
            path.as_uri(), tmp_path, f"--screenshot={scheme}.png", "--window-size=1000,2600",
            f"--blink-settings=preferredColorScheme={number}",
        )  # fmt: skip
        with Image.open(tmp_path / f"{scheme}.png") as image:
            counted = image.convert("RGB").getcolors(maxcolors=1 << 24)
        assert counted is not None
        seen[scheme] = {f"#{bytes(colour).hex()}": number for number, colour in counted}
    for scheme, paper, network in (("dark", "#14131a", "#ff7ba8"), ("light", "#fbfaf7", "#b3265e")):
        assert max(seen[scheme], key=seen[scheme].__getitem__) in (paper, "#1d1c25", "#ffffff")
        assert seen[scheme][paper] > 100_000
        assert seen[scheme][network] > 1000  # bars
        drawn = {f"#{bytes(colour).hex()}" for colour in heatmap.PALETTE}
        assert len(drawn & set(seen[scheme])) > 200
