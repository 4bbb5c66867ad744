"""`pixelzip compress`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

import click

from pixelzip import batch, files
from pixelzip.batch import Done, Fraction, Rules, Steps, Together
from pixelzip.codec import container
from pixelzip.commands import options, running
from pixelzip.commands.many import Many
from pixelzip.commands.many import options as many_options
from pixelzip.files import STANDARD, Job, Refusal
from pixelzip.fleet.plan import Rule

if TYPE_CHECKING:
    from pixelzip.contents import Content


def _tile(_context: click.Context, _option: click.Parameter, value: int | None) -> int | None:
    if value is not None and value != 0 and value < container.MIN_TILE:
        raise click.BadParameter(f"must be 0 (the largest) or at least {container.MIN_TILE}")
    return value


@click.command()
@options.SOURCES
@options.OUTPUT
@options.RECURSIVE
@options.FORCE
@options.SKIP_EXISTING
@options.REMOVE
@click.option(
    "-n",
    "--network",
    metavar="NAME",
    show_default="automatic",
    help="A network of the zoo (see `pixelzip networks`), a frozen network's file, or none.",
)
@options.LABEL
@click.option(
    "--tile",
    metavar="PIXELS",
    type=int,
    callback=_tile,
    help="Largest side of a tile; 0 for the largest there can be.",
)
@click.option(
    "--origin",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="Whether to look for the samples that the pixels were computed from.",
)
@click.option(
    "--pixels", is_flag=True, help="Of a JPEG, code the pixels and not the file that it is."
)
@click.option(
    "--effort",
    type=click.Choice(["fast", "photo", "max"]),
    default="photo",
    show_default=True,
    help="Of pixels: fast makes larger files in half of the time; max makes smaller files and takes"
    " several times as long. Both ways.",
)
@click.option("--strip", is_flag=True, help="Drop the metadata (palette and transparency stay).")
@options.WORK
@many_options
def compress(
    sources: tuple[str, ...],
    listing: IO[bytes] | None,
    zero: bool,
    output: str | None,
    recursive: bool,
    force: bool,
    skip_existing: bool,
    removes: bool,
    network: str | None,
    label: int | None,
    tile: int | None,
    origin: str,
    effort: str,
    pixels: bool,
    strip: bool,
    jobs: int,
    threads: int | None,
    device: str,
    quiet: bool,
    as_json: bool,
    many: Many,
) -> None:
    """Compress images to .pxz files.

    The output is named after the input and lies next to it, unless -o says otherwise; where two
    inputs differ in their suffix only, both keep it (IMG_1.jpg.pxz). It gets the input's mode and
    time. Metadata comes along: ICC profile, EXIF, XMP, text, resolution, gamma. The inputs stay as
    they are, or are removed with --rm once their outputs have been decoded and compared.

    \b
    The exit status is 0 if all is done, 1 if a file failed, 2 for a command line that makes no
    sense, 3 if nothing failed but something was left out: a file that is no image that can be
    read, or metadata that is not kept. Totals at the end say what and why.

    A JPEG is kept byte for byte, and comes back as the file that it was. Its pixels are coded in
    its place with --pixels, or any other option that is about pixels: --network, --class, --tile,
    --origin none, --strip.

    By itself it takes the network photo or a specialist, whichever codes a sample of the pixels in
    fewer bytes: clean, for pictures without grain, or tiny, for small ones, which codes all of up
    to 32x32 pixels. With --effort fast it takes the network fast, whatever the picture. Where the
    pixels turn out to have been computed from fewer samples (by a JPEG decoder, say), it codes
    those instead, with the networks luma and chroma, and makes the very same pixels of them again
    when it decodes.

    \b
    Examples:
      pixelzip compress photo.png
      pixelzip compress photo.jpg
      pixelzip compress photo.png -o smaller.pxz --force
      pixelzip compress *.png -o archive/ --jobs 4
      pixelzip compress --recursive photos -o archive --skip-existing
      find photos -name '*.tif' -print0 | pixelzip compress -0 --files-from - -o archive
      pixelzip compress --recursive s3://bucket/in -o s3://bucket/out --cluster 10.0.0.1:6379
      convert scan.tif png:- | pixelzip compress - > scan.pxz
    """
    steps = Compression(
        network=network,
        label=label,
        tile=tile,
        origin=origin,
        effort=effort,
        pixels=pixels,
        strip=strip,
        skips_existing=skip_existing,
        proves=removes,
        threads=running.threads(threads, jobs),
        device=device,
    )
    listed = running.listed(sources, listing, zero)
    rules = Rules(force=force, checks_existing=skip_existing, alike=True, removes=removes)
    if many.is_asked_for(output, *sources, *listed):
        many.run(steps, Rule(judge, ".pxz"), rules, listed=listed)
        return
    todo = running.plan(sources, output, ".pxz", judge, recursive, listed)
    running.run(todo, Together(steps), rules, jobs=jobs, quiet=quiet, as_json=as_json)


def judge(suffix: str) -> Refusal | None:
    """Take the images that can be read; name the others."""
    from pixelzip.pictures import READABLE, UNREADABLE

    if suffix in READABLE:
        return None
    if suffix == ".pxz":
        return Refusal("a .pxz file already", is_missed=False)
    if suffix in UNREADABLE:
        return Refusal(f"{UNREADABLE[suffix]} is not read")
    return Refusal("not an image by its name")


@dataclass(frozen=True)
class Taken:
    """A picture that was read."""

    content: Content
    length: int
    """Of its file, in bytes."""
    is_jpeg: bool
    """Whether the file is one."""
    notes: list[str]

    @property
    def pixels(self) -> int:
        """How many there are."""
        return self.content.pixels


@dataclass(frozen=True)
class Compression(Steps[Taken, bytes]):
    """The work of `pixelzip compress` on each file."""

    network: str | None = None
    label: int | None = None
    tile: int | None = None
    origin: str = "auto"
    effort: str = "photo"
    pixels: bool = False
    """Whether JPEGs are taken for their pixels, as other images are."""
    strip: bool = False
    skips_existing: bool = False
    """Whether what lies in an output's place stays if it is whole and holds the same."""
    proves: bool = False
    """Whether each file is decoded again and compared."""

    def take(self, job: Job) -> Taken | Done:
        from pixelzip import contents, pictures

        source = batch.read(job)
        plain = (self.network, self.label, self.tile, self.origin) == (None, None, None, "auto")
        pixels = self.pixels or not plain
        content = contents.take(source, strip=self.strip, pixels=pixels, name=job.source)
        notes: list[str] = []
        if self.skips_existing and (there := files.existing(job)) is not None:
            if content.is_in(there, self._own_networks()):
                return Done(unneeded="there already, and whole")
            notes.append(f"{job.target} is damaged or of something else: made anew")
        return Taken(content, len(source), pictures.is_jpeg(source), notes)

    def code(self, items: Sequence[Taken], progress: Fraction | None) -> list[bytes]:
        from pixelzip import contents

        return contents.encode(
            [item.content for item in items],
            network=self.network,
            origin=self.origin,
            effort=self.effort,
            label=self.label,
            tile_size=self.tile,
            threads=self.threads,
            device=self.device,
            progress=progress,
        )

    def finish(self, job: Job, item: Taken, coded: bytes, seconds: float) -> Done:
        from pixelzip import api, coding, contents

        about = api.info(coded, max_pixels=coding.NO_LIMIT)
        report = batch.report(job, about, item.length, len(coded), seconds)
        notes = [*item.notes, *self._unused(item.content, report.networks)]
        if isinstance(item.content, contents.Jpeg):
            notes += about.found[1:]  # what of it no model knows
        if len(coded) > item.length:
            notes.append(f"larger than the original by {len(coded) - item.length:,} bytes")
        not_kept = item.content.not_kept
        if not_kept:
            notes.append(f"not kept: {', '.join(not_kept)}")
        return Done(
            report,
            batch.line(report),
            coded,
            notes,
            not_kept,
            is_larger=len(coded) > item.length,
            may_replace=self.skips_existing,
            may_remove=self.proves and self._is_proven(job, item, coded, notes),
        )

    def _unused(self, content: Content, networks: Sequence[str]) -> list[str]:
        """That a network was asked for by name, and no pixel coded with any."""
        from pixelzip.coding import NO_NETWORK

        if self.network in (None, NO_NETWORK) or networks:
            return []
        if content.codes(self.network, self.device):
            return [f"the network {self.network} was not used: the file is smaller without"]
        reason = f"codes no images of mode {content.mode}: not used"
        return [f"the network {self.network} {reason}"]

    def _is_proven(self, job: Job, item: Taken, coded: bytes, notes: list[str]) -> bool:
        """Whether all of the source comes back; a note says if not. Raises FormatError."""
        from pixelzip import coding, contents
        from pixelzip.codec.errors import FormatError

        if job.source == STANDARD or job.target == STANDARD:
            return False
        is_whole = isinstance(item.content, contents.Jpeg) or not item.is_jpeg
        if self.strip or item.content.not_kept or not is_whole:
            notes.append("not removed: not all of it would come back")
            return False
        (back,) = contents.decode(
            [coded],
            networks=self._own_networks(),
            max_pixels=coding.NO_LIMIT,
            threads=self.threads,
            device=self.device,
        )
        if back.compare(item.content):
            raise FormatError("the file does not give the picture back; please report this")
        return True

    def _own_networks(self) -> list[str]:
        """The paths of networks that are not of the zoo, to decode what they have coded."""
        from pixelzip.coding import NO_NETWORK
        from pixelzip.models import zoo

        names = [] if self.network in (None, NO_NETWORK) else [self.network]
        return [name for name in names if name not in zoo.names()]
