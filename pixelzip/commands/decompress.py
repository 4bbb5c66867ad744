"""`pixelzip decompress`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
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
    from pixelzip.api import Info
    from pixelzip.contents import Content

_HEADER = 1 << 22
"""Bytes in which nearly all headers end."""


@click.command()
@options.SOURCES
@options.OUTPUT
@options.RECURSIVE
@options.FORCE
@options.SKIP_EXISTING
@options.REMOVE
@click.option(
    "--format",
    "format_",
    metavar="NAME",
    type=click.Choice(["png", "tif", "webp", "bmp", "pbm", "pgm", "ppm", "pam", "npy"]),
    help="What to write, whatever the name after -o ends with: png, tif, webp, ppm, npy...",
)
@options.REGION
@options.DECODING
@options.WORK
@many_options
def decompress(
    sources: tuple[str, ...],
    listing: IO[bytes] | None,
    zero: bool,
    output: str | None,
    recursive: bool,
    force: bool,
    skip_existing: bool,
    removes: bool,
    format_: str | None,
    region: tuple[int, int, int, int] | None,
    networks: tuple[str, ...],
    max_pixels: int,
    jobs: int,
    threads: int | None,
    device: str,
    quiet: bool,
    as_json: bool,
    many: Many,
) -> None:
    """Bring images back from .pxz files.

    The output is a PNG file named after the input (a TIFF file if it is of CMYK or has several
    pages), unless the name after -o ends with the suffix of another lossless format: .tif, .webp,
    .bmp, .ppm, .pgm, .pbm, .pam, .npy. It gets the input's mode and time. What was made of a JPEG
    becomes that JPEG again, byte for byte; with -o and another suffix, or --format, its pixels. The
    inputs stay, or are removed with --rm once the image holds all that they do.

    The exit status and the totals are those of `pixelzip compress`.

    \b
    Examples:
      pixelzip decompress photo.pxz
      pixelzip decompress photo.pxz -o photo.tif
      pixelzip decompress from-a-jpeg.pxz -o pixels.png
      pixelzip decompress --recursive archive -o photos --format webp
      pixelzip decompress photo.pxz -o - | display
    """
    if region is not None and (removes or skip_existing):
        raise click.UsageError("with --region not all of a picture comes back: no --rm or the like")
    ending = f".{format_}" if format_ else ""
    steps = Decompression(
        suffix=ending,
        region=region,
        networks=networks,
        max_pixels=max_pixels,
        skips_existing=skip_existing,
        proves=removes,
        threads=running.threads(threads, jobs),
        device=device,
    )
    listed = running.listed(sources, listing, zero)
    rules = Rules(force=force, checks_existing=skip_existing, alike=True, removes=removes)
    if many.is_asked_for(output, *sources, *listed):
        rule = Rule(judge, ending) if ending else Rule(judge, ".png", ending_of)
        many.run(steps, rule, rules, listed=listed)
        return
    named = (lambda _source: ending) if ending else suffix_of
    todo = running.plan(sources, output, named, judge, recursive, listed)
    running.run(todo, Together(steps), rules, jobs=jobs, quiet=quiet, as_json=as_json)


def suffix_of(source: str) -> str:
    """Of what comes out of a file; that of one that cannot be read does not matter."""
    try:
        return ending_of(b"" if source == STANDARD else files.start(source, _HEADER))
    except OSError:
        return ".png"


def ending_of(data: bytes) -> str:
    """The same, by the file's header at least."""
    from pixelzip import metadata, pictures
    from pixelzip.codec import document
    from pixelzip.codec.errors import PixelzipError
    from pixelzip.codec.jpeg import file

    try:
        if file.holds_jpeg(data):
            return file.ending(data)
        if document.holds_document(data):
            return ".tif"
        header = container.read_header(data, 1 << 62)
        return pictures.suffix_of(header.mode, metadata.parse(header.metadata, header.mode))
    except PixelzipError:
        return ".png"


def judge(suffix: str) -> Refusal | None:
    """Take .pxz files; whatever else lies there does not come along."""
    return None if suffix == ".pxz" else Refusal("not a .pxz file")


@dataclass(frozen=True)
class Packed:
    """A .pxz file that was read."""

    data: bytes
    about: Info

    @property
    def pixels(self) -> int:
        """How many there are."""
        return self.about.width * self.about.height


@dataclass(frozen=True)
class Decoding(Steps[Packed, "Content"]):
    """Reads .pxz files, and decodes several of them at once."""

    networks: tuple[str, ...] = ()
    max_pixels: int = container.MAX_PIXELS
    region: tuple[int, int, int, int] | None = None
    """(x, y, width, height), if only that is wanted."""

    def take(self, job: Job) -> Packed | Done:
        from pixelzip import api

        data = batch.read(job)
        return Packed(data, api.info(data, max_pixels=self.max_pixels))

    def code(self, items: Sequence[Packed], progress: Fraction | None) -> list[Content]:
        from pixelzip import contents

        return contents.decode(
            [item.data for item in items],
            networks=self.networks,
            max_pixels=self.max_pixels,
            threads=self.threads,
            device=self.device,
            region=self.region,
            progress=progress,
        )


@dataclass(frozen=True)
class Decompression(Decoding):
    """The work of `pixelzip decompress` on each file."""

    suffix: str = ""
    """That of the format to write, if the outputs' names do not say it."""
    skips_existing: bool = False
    """Whether what lies in an output's place stays if it holds the same."""
    proves: bool = False
    """Whether each image is read again and compared."""

    def take(self, job: Job) -> Packed | Done:
        from pixelzip import api, pictures

        item = super().take(job)
        if isinstance(item, Packed) and not api.holds_jpeg(item.data):
            pictures.check_writable(self.suffix or _suffix(job))
        if isinstance(item, Packed) and self._is_there(job, item):
            return Done(unneeded="there already, and whole")
        return item

    def finish(self, job: Job, item: Packed, coded: Content, seconds: float) -> Done:
        own = coded.suffix if job.target == STANDARD else _suffix(job)
        suffix = self.suffix or own
        data, lost = coded.write(suffix)
        report = batch.report(job, item.about, len(item.data), len(data), seconds)
        notes = [f"{suffix} files cannot hold its {', '.join(lost)}"] if lost else []
        may_remove = self.proves and STANDARD not in (job.source, job.target)
        if may_remove and not _comes_back(coded, data):
            notes.append("not removed: not all of it is in the image")
            may_remove = False
        return Done(
            report,
            batch.line(report),
            data,
            notes,
            tuple(lost),
            may_replace=self.skips_existing,
            may_remove=may_remove,
        )

    def _is_there(self, job: Job, item: Packed) -> bool:
        from pixelzip import api, contents
        from pixelzip.codec.errors import PixelzipError

        there = files.existing(job) if self.skips_existing else None
        if there is None:
            return False
        try:
            content = contents.take(there, pixels=not api.holds_jpeg(item.data))
            return content.is_in(item.data, self.networks)
        except PixelzipError:
            return False


def _comes_back(content: Content, image: bytes) -> bool:
    """Whether an image file holds just what a content is."""
    from pixelzip import contents
    from pixelzip.codec.errors import PixelzipError

    try:
        pixels = not isinstance(content, contents.Jpeg)
        return not content.compare(contents.take(image, pixels=pixels))
    except PixelzipError:
        return False


def _suffix(job: Job) -> str:
    """That of the image's file."""
    return Path(job.target or "").suffix or ".png"
