"""The page of a run: one HTML file that needs nothing else, and no network, to be looked at.

`write` puts ``index.html`` into a folder. Styles, plots (SVG) and pictures (PNG in data URIs) are
all inside; a content security policy forbids the page to fetch anything. It follows the reader's
light or dark setting, and fits a phone.

The plots are matplotlib's. Each colour that it is told is a placeholder, for which the page's own
CSS variable is put in (`_INKS`), and text stays text, so that plots look like the rest of the page.
"""

from __future__ import annotations

import base64
import html
import io
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pixelzip import files, heatmap
from pixelzip.bench import tables
from pixelzip.bench.figures import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

MOST_BARS = 36
"""Images in the plot of single images: of more, so many of all sizes are shown."""
LARGEST_SAMPLE = 1024
"""The longer side, in pixels, above which a sample is shown smaller."""
SMALL_SAMPLE = 160
"""The longer side, in pixels, up to which a sample is shown with its pixels as squares."""

_INKS = {
    "#010101": "var(--ink)",
    "#020202": "var(--muted)",
    "#030303": "var(--line)",
    "#040401": "var(--net-1)",
    "#040402": "var(--net-2)",
    "#040403": "var(--net-3)",
}
_INK, _MUTED, _LINE, *_NETWORKS = _INKS
_ON_WHITE = ("#c0392b", "#2c5fa8", "#2e8b57")
"""Of networks where there is no page with its own colours."""


@dataclass(frozen=True)
class Sample:
    """An image to show beside the heat map of what its pixels cost."""

    name: str
    pixels: NDArray[np.uint8]
    """(height, width) or (height, width, 1 to 4): grey, grey and alpha, RGB, RGBA."""
    bits: NDArray[np.float32]
    """Its cost map, (height, width), see `pixelzip.cost_map`."""


def write(results: Results, samples: Sequence[Sample], folder: Path) -> Path:
    """Write ``index.html`` into the folder, which is made, over one that is there; return its path.

    Raises OSError if it cannot be written.
    """
    path = folder / "index.html"
    page = _page(results, samples).encode()
    files.write(str(path), page, force=True, makes_folder=True)
    return path


# The page.


def _page(results: Results, samples: Sequence[Sample]) -> str:
    title = html.escape(f"pixelzip bench: {results.dataset}")
    count = tables.count(results.images, "image")
    parts = [
        f"<h1>{title}</h1><p class=where>{html.escape(count)}, each compressed to a real file, "
        f"brought back and compared. {html.escape(tables.machine_sentence(results.machine))}</p>",
        _list("lead", _findings(results)),
        "".join(_table(table, results) for table in tables.all_tables(results)),
        _list("notes", results.notes),
        "<h2>Plots</h2><div class=plots>" + "".join(_plots(results)) + "</div>",
        _samples(samples),
    ]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}</style></head><body><main>
{"".join(parts)}
</main></body></html>
"""


def _findings(results: Results) -> list[str]:
    """A sentence for each network: how it compares with the smallest and the fastest other."""
    peers = [codec for codec in results.codecs if not codec.network]
    sentences = []
    for codec in results.codecs:
        if not codec.network:
            continue
        sentence = f"{codec.name} takes {codec.bits_per_dim:.3f} bits/dim"
        if peers:
            best = min(peers, key=lambda peer: peer.bits_per_dim)
            percent = 100 * (codec.bits_per_dim / best.bits_per_dim - 1)
            sentence += (
                f", {abs(percent):.1f} % {'more' if percent > 0 else 'less'} than the smallest of "
                f"the others, {best.name} ({best.bits_per_dim:.3f})"
            )
        theory = codec.theoretical_bits_per_dim
        if theory:
            percent = 100 * (codec.bits_per_dim / theory - 1)
            sentence += (
                f"; its files are {abs(percent):.2f} % {'above' if percent > 0 else 'below'} their "
                "theoretical size"
            )
        sentences.append(sentence + ".")
    return sentences


def _list(kind: str, sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in sentences)
    return f"<ul class={kind}>{items}</ul>" if items else ""


def _table(table: tables.Table, results: Results) -> str:
    inks = {name: f' style="color:{_INKS[ink]}"' for name, ink in _network_inks(results).items()}
    head = "".join(f"<th scope=col>{html.escape(column)}</th>" for column in table.columns)
    rows = "".join(
        f"<tr{inks.get(name, '')}><th scope=row>{html.escape(name)}</th>"
        + "".join(f"<td>{html.escape(cell) or '&ndash;'}</td>" for cell in cells)
        + "</tr>"
        for name, *cells in table.rows
    )
    return (
        f"<h2>{html.escape(table.title)}</h2><div class=scroll><table>"
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _samples(samples: Sequence[Sample]) -> str:
    """Each picture beside its heat map, all in the same scale."""
    if not samples:
        return ""
    shown = [(sample, *_shrunk(sample)) for sample in samples]
    marks = heatmap.scale(np.concatenate([bits.ravel() for _, _, bits in shown]))
    colours = [f"#{bytes(colour).hex()}" for colour in heatmap.PALETTE[::15]]
    ticks = "".join(f"<span>{mark:g}</span>" for mark in marks)
    figures = []
    for sample, picture, bits in shown:
        height, width = sample.bits.shape
        kind = "small" if max(height, width) <= SMALL_SAMPLE else "large"
        total = float(sample.bits.sum(dtype=np.float64))
        caption = (
            f"{sample.name}: {width} x {height} pixels, {total:,.0f} bits, "
            f"{total / sample.bits.size:.2f} per pixel"
        )
        if picture.size != (width, height):
            caption += f"; shown at {picture.width} x {picture.height}"
        figures.append(
            f"<figure class={kind}><div>{_img(picture, sample.name)}"
            f"{_img(heatmap.paint(bits, marks[-1]), f'heat map of {sample.name}')}</div>"
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        )
    return (
        "<h2>Where the bits go</h2><div class=scale>"
        f'<div style="background:linear-gradient(90deg,{",".join(colours)})"></div>'
        f"<p>{ticks}</p><p>bits per pixel; what costs more than the scale's end has its colour</p>"
        f"</div><div class=samples>{''.join(figures)}</div>"
    )


def _shrunk(sample: Sample) -> tuple[Image.Image, NDArray[np.float32]]:
    """The picture and its cost map, both smaller if they are large."""
    pixels = sample.pixels
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    picture = Image.fromarray(pixels)
    factor = -(-max(picture.size) // LARGEST_SAMPLE)
    if factor == 1:
        return picture, sample.bits
    return picture.reduce(factor), np.asarray(Image.fromarray(sample.bits).reduce(factor))


def _img(image: Image.Image, text: str) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    data = base64.b64encode(stream.getvalue()).decode()
    return (
        f'<img alt="{html.escape(text)}" width={image.width} height={image.height} '
        f'src="data:image/png;base64,{data}">'
    )


# The plots.


def _plots(results: Results) -> list[str]:
    import matplotlib

    inks = _network_inks(results)
    with matplotlib.rc_context(
        {
            "axes.edgecolor": _MUTED,
            "axes.labelcolor": _INK,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.unicode_minus": False,
            "font.size": 10,
            "grid.color": _LINE,
            "legend.frameon": False,
            "legend.labelcolor": _INK,
            "svg.fonttype": "none",
            "svg.hashsalt": "pixelzip",
            "text.color": _INK,
            "text.parse_math": False,  # names of files may hold dollars
            "xtick.color": _MUTED,
            "ytick.color": _MUTED,
        }
    ):
        plots = [
            _speed_plot(results, inks, "encode"),
            _speed_plot(results, inks, "decode"),
        ]
        if any(image.theoretical_bits for codec in results.codecs for image in codec.images):
            plots.append(_gap_plot(results, inks))
        return [*plots, _image_plot(results, inks)]


def _network_inks(results: Results) -> dict[str, str]:
    names = [codec.name for codec in results.codecs if codec.network]
    return {name: _NETWORKS[i % len(_NETWORKS)] for i, name in enumerate(names)}


def _figure(height: float) -> tuple[Figure, Axes]:
    """A figure of about a phone's width, ``height`` inches high, not registered with pyplot."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(True, linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Figure, caption: str) -> str:
    stream = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(stream, format="svg", transparent=True, metadata=metadata)
    drawing = stream.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    # In a page names need no name spaces, and the ids of several drawings would clash; those that
    # are referred to (of markers and clips) are hashes of what they stand for.
    drawing = re.sub(r' xmlns(:xlink)?="[^"]*"| id="[\w.]+_\d+"', "", drawing)
    drawing = re.sub("|".join(_INKS), lambda match: _INKS[match[0]], drawing)
    drawing = drawing.replace("<svg", f'<svg role="img" aria-label="{html.escape(caption)}"', 1)
    return f"<figure>{drawing}<figcaption>{html.escape(caption)}</figcaption></figure>"


def speeds(results: Results) -> bytes:
    """Bits/dim against speed, to encode and to decode, as a PNG for pages that are not a report."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    inks = dict(zip(_network_inks(results), itertools.cycle(_ON_WHITE), strict=False))
    both = figure.subplots(1, 2, sharey=True)
    for axes in both:
        axes.grid(True, linewidth=0.6, alpha=0.5)
        axes.spines[["right", "top"]].set_visible(False)
    _draw_speeds(figure, both, results, inks, ("encode", "decode"))
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=110)
    return stream.getvalue()


def _speed_plot(results: Results, inks: dict[str, str], action: str) -> str:
    """Bits/dim against speed, a mark for each codec."""
    figure, axes = _figure(3.9)
    _draw_speeds(figure, [axes], results, inks, [action])
    return _svg(figure, f"Size against speed to {action}: further down is smaller, right is faster")


def _draw_speeds(
    figure: Figure,
    plots: Sequence[Axes],
    results: Results,
    inks: dict[str, str],
    actions: Sequence[str],
) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    sizes, drawn = [codec.bits_per_dim for codec in results.codecs], []
    for axes, action in zip(plots, actions, strict=True):
        speeds = [c.encode_mps if action == "encode" else c.decode_mps for c in results.codecs]
        axes.set_xscale("log")
        axes.margins(0.16, 0.16)
        for codec, speed in zip(results.codecs, speeds, strict=True):
            colour, marker = inks.get(codec.name, _MUTED), "D" if codec.network else "o"
            axes.plot(speed, codec.bits_per_dim, marker, color=colour, markersize=7)
        wide = max(speeds) > 300 * min(speeds)
        axes.xaxis.set_major_locator(LogLocator(subs=(1,) if wide else (1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel(f"{action}, megapixels a second")
        drawn.append(speeds)
    plots[0].set_ylabel("bits/dim of the files")
    names = [codec.name for codec in results.codecs]
    colours = [inks.get(name, _INK) for name in names]
    for axes, speeds in zip(plots, drawn, strict=True):  # when all have their places
        _label(figure, axes, speeds, sizes, names, colours)


def _label(
    figure: Figure,
    axes: Axes,
    xs: list[float],
    ys: list[float],
    names: list[str],
    colours: list[str],
) -> None:
    """Write each name beside its mark, where there is most room left."""
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()  # so that there is a layout to measure in
    centres = axes.transData.transform(list(zip(xs, ys, strict=True)))
    marks = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in centres]
    frame = axes.get_window_extent()
    places = [(9, 0), (-9, 0), (0, 13), (0, -13), (7, 11), (7, -11), (-7, 11), (-7, -11)]
    places += [(x, y) for y in (18, -18, 25, -25) for x in (0, 9, -9)]

    def place(text: Annotation, offset: tuple[int, int]) -> Bbox:
        text.xyann = offset
        text.set_horizontalalignment(("center", "left", "right")[int(np.sign(offset[0]))])
        return text.get_window_extent()

    def cost(text: Annotation, offset: tuple[int, int]) -> float:
        box = place(text, offset)
        others = marks + [other.get_window_extent() for other in texts if other is not text]
        outside = box.width * box.height - _overlap(box, frame)
        far = 2 * float(np.hypot(*offset))
        return 4 * outside + far + sum(_overlap(box, other) for other in others)

    texts = [
        axes.annotate(name, at, (0, 0), textcoords="offset points", color=colour, fontsize=9)
        for at, name, colour in zip(zip(xs, ys, strict=True), names, colours, strict=True)
    ]
    for text in texts:
        text.set_verticalalignment("center")
        text.set_in_layout(False)
    for _ in range(3):  # each finds the others where they settled last
        for text in texts:
            place(text, min(places, key=partial(cost, text)))


def _overlap(one: Bbox, other: Bbox) -> float:
    """The area that two boxes share."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(width, 0.0) * max(height, 0.0))


def _image_plot(results: Results, inks: dict[str, str]) -> str:
    """A bar for each image and network; the other codecs are strokes across it."""
    peers = sorted(
        (codec for codec in results.codecs if not codec.network), key=lambda c: c.bits_per_dim
    )
    barred = [codec for codec in results.codecs if codec.network] or peers[:1]
    peers = [codec for codec in peers if codec not in barred]
    order = sorted(range(results.images), key=lambda i: barred[0].images[i].bits_per_dim)
    picked = np.linspace(0, len(order) - 1, min(MOST_BARS, len(order))).round().astype(int)
    chosen = [order[i] for i in picked]
    rows = np.arange(len(chosen))
    figure, axes = _figure(1.4 + 0.19 * len(chosen) * max(1, 0.6 * len(barred)))
    thickness = 0.76 / len(barred)
    for number, codec in enumerate(barred):
        axes.barh(
            rows + (number - (len(barred) - 1) / 2) * thickness,
            [codec.images[i].bits_per_dim for i in chosen],
            thickness,
            color=inks.get(codec.name, _MUTED),
            label=codec.name,
        )
    for rank, codec in enumerate(peers):
        colour, width, label = (_INK, 2.2, codec.name) if rank == 0 else (_MUTED, 1, "others")
        axes.plot(
            [codec.images[i].bits_per_dim for i in chosen],
            rows,
            "|",
            color=colour,
            markersize=8,
            markeredgewidth=width,
            label=label if rank < 2 else None,
            zorder=4 - rank / len(peers),
        )
    figure.legend(loc="outside upper left", ncols=2, fontsize=9)
    axes.set_yticks(rows, [_brief(barred[0].images[i].name) for i in chosen], fontsize=8)
    axes.set_ylim(len(chosen) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.set_xlabel("bits/dim of the file")
    caption = "Image by image, the smallest file first"
    if len(chosen) < results.images:
        caption += f"; {len(chosen)} of {results.images:,}, evenly from the smallest to the largest"
    return _svg(figure, caption)


def _brief(name: str) -> str:
    """A name that leaves room for the plot."""
    return name if len(name) <= 20 else f"…{name[-19:]}"


def _gap_plot(results: Results, inks: dict[str, str]) -> str:
    """How many files are how far above their theoretical size."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure(3.3)
    gaps = {
        codec.name: [
            100 * (8 * image.bytes / image.theoretical_bits - 1)
            for image in codec.images
            if image.theoretical_bits
        ]
        for codec in results.codecs
    }
    gaps = {name: values for name, values in gaps.items() if values}
    bins = min(24, max(map(len, gaps.values())) + 4)
    edges = np.histogram_bin_edges(np.concatenate(list(gaps.values())), bins)
    for name, values in gaps.items():
        axes.hist(values, edges.tolist(), color=inks[name], alpha=0.75, label=name)
        axes.axvline(float(np.mean(values)), color=_INK, linewidth=1, linestyle="--")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("file above theory, percent")
    axes.set_ylabel("images")
    figure.legend(loc="outside upper left", ncols=2, fontsize=9)
    caption = "Files against the frozen network's theory; the dashed line is the mean"
    if any(min(values) < 0 for values in gaps.values()):
        caption += "; below zero a simpler form was smaller than the network's"
    return _svg(figure, caption)


_STYLE = """
:root { color-scheme: light dark; --paper: #fbfaf7; --card: #fff; --ink: #1d1b26; --muted: #6b6878;
  --line: #dedbe2; --net-1: #b3265e; --net-2: #1f6f8b; --net-3: #b86e00; }
@media (prefers-color-scheme: dark) { :root { --paper: #14131a; --card: #1d1c25; --ink: #eceaf2;
  --muted: #9d9aab; --line: #35333f; --net-1: #ff7ba8; --net-2: #6cc5e4; --net-3: #f3b04c; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
main { max-width: 70rem; margin: auto; padding: 1rem }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1rem 0 .5rem; overflow-wrap: anywhere }
h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; overflow-wrap: anywhere }
p { margin: .4rem 0; overflow-wrap: anywhere }
.where, .notes, figcaption, .scale p { color: var(--muted); font-size: .85rem }
ul { padding-left: 1.2rem }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px }
table { border-collapse: collapse; width: 100%; font-size: .9rem;
  font-variant-numeric: tabular-nums }
th, td { padding: .4rem .8rem; text-align: right; white-space: nowrap;
  border-top: 1px solid var(--line) }
thead th { border-top: 0; color: var(--muted); font-weight: 500 }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--card) }
tbody th { font-weight: 400 }
tr[style] > * { font-weight: 650 }
figure { margin: 0; padding: .8rem; background: var(--card); border: 1px solid var(--line);
  border-radius: 8px; min-width: 0 }
figcaption { margin-top: .4rem; overflow-wrap: anywhere }
svg { display: block; width: 100%; height: auto }
svg text { font-family: system-ui, sans-serif !important }
.plots { columns: 2 24rem; column-gap: 1rem }
.plots figure { break-inside: avoid; margin-bottom: 1rem }
.scale { max-width: 36rem; margin-bottom: 1rem }
.scale div { height: 1rem; border-radius: 3px }
.scale p { display: flex; justify-content: space-between }
.samples { display: flex; flex-wrap: wrap; gap: 1rem; align-items: start }
.large { flex: 1 1 100% }
.small { flex: 0 1 20rem }
.samples figure > div { display: grid; gap: .6rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)) }
.samples .small > div { grid-template-columns: 1fr 1fr }
img { display: block; width: 100%; height: auto }
.small img { image-rendering: pixelated }
"""
