"""`pixelzip verify`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING

import click

from pixelzip import batch, files
from pixelzip.batch import Done, Rules, Together
from pixelzip.codec.errors import PixelzipError
from pixelzip.commands import options, running
from pixelzip.commands.compress import judge
from pixelzip.commands.decompress import Decoding, Packed
from pixelzip.commands.many import Many
from pixelzip.commands.many import options as many_options
from pixelzip.files import Job
from pixelzip.fleet.plan import Rule

if TYPE_CHECKING:
    from pixelzip.contents import Content


@click.command()
@options.SOURCES
@click.option(
    "--against",
    metavar="ORIGINAL",
    type=options.PATH,
    help="Compare pixels and metadata with this original, too; a folder's with those in this one.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="Check the files' bytes only, which takes no time, and decode nothing.",
)
@options.RECURSIVE
@options.DECODING
@options.WORK
@many_options
def verify(
    sources: tuple[str, ...],
    listing: IO[bytes] | None,
    zero: bool,
    against: str | None,
    quick: bool,
    recursive: bool,
    networks: tuple[str, ...],
    max_pixels: int,
    jobs: int,
    threads: int | None,
    device: str,
    quiet: bool,
    as_json: bool,
    many: Many,
) -> None:
    """Decode .pxz files and check their checksums, without writing anything.

    With --against a file is also compared with its original: all pixels and all metadata. Of two
    folders each file of one is compared with that of the other which it would be made of, and
    whatever has no partner is an error. The exit status is 3 if all pixels are there, but not all
    of the metadata.

    \b
    Examples:
      pixelzip verify archive/*.pxz
      pixelzip verify --recursive archive --jobs 4
      pixelzip verify --recursive archive --quick
      pixelzip verify photo.pxz --against photo.png
      pixelzip verify --recursive archive --against photos
    """
    if against is not None and quick:
        raise click.UsageError("--against compares pixels, and --quick decodes none")
    steps = Verification(
        quick=quick,
        networks=networks,
        max_pixels=max_pixels,
        threads=running.threads(threads, jobs),
        device=device,
        compares=against is not None,
    )
    listed = running.listed(sources, listing, zero)
    if many.is_asked_for(against, *sources, *listed):
        partners = None if against is None else (against, Rule(judge, ".pxz"))
        many.run(steps, Rule(running.packed_only), listed=listed, against=partners)
        return
    named = [*sources, *listed]
    todo = files.find(named, running.packed_only, recursive=recursive)
    if against is not None:
        todo = _paired(todo, named, against)
    running.run(todo, Together(steps), Rules(), jobs=jobs, quiet=quiet, as_json=as_json)


def _paired(todo: list[Job], sources: Sequence[str], against: str) -> list[Job]:
    """Jobs with the original of each file; those that have no partner are errors."""
    if not os.path.isdir(against):
        if len(todo) != 1:
            raise click.UsageError("--against compares one file with its original, or two folders")
        return [replace(todo[0], original=against)]
    if len(sources) != 1 or not os.path.isdir(sources[0]):
        raise click.UsageError(f"{against} is a folder: a single folder is compared with it")
    planned = running.plan([against], sources[0] + os.sep, ".pxz", judge, True)
    originals = {job.target: job.source for job in planned if job.target is not None}
    there = {job.source for job in todo}
    lone = [
        Job(source, error=f"there is no {target} of it")
        for target, source in originals.items()
        if target not in there
    ]
    others = [job for job in planned if job.target is None]  # refused, or unreadable
    return [replace(job, original=originals.get(job.source)) for job in todo] + lone + others


@dataclass(frozen=True)
class Verification(Decoding):
    """The work of `pixelzip verify` on each file."""

    quick: bool = False
    """Whether only the files' bytes are checked."""
    compares: bool = False
    """Whether each job names the original that its file is to be compared with."""

    def take(self, job: Job) -> Packed | Done:
        item = super().take(job)
        if not self.quick or isinstance(item, Done):
            return item
        report = batch.report(job, item.about, len(item.data), None, 0)
        return Done(report, f"{job.source}: its bytes are as they were written")

    def finish(self, job: Job, item: Packed, coded: Content, seconds: float) -> Done:
        from pixelzip import contents

        report = batch.report(job, item.about, len(item.data), None, seconds)
        line = f"{job.source}: intact"
        against = job.original
        if against is None and self.compares:
            return Done(error="intact, but its original is not there")
        if against is None:
            return Done(report, line)
        try:
            pixels = not isinstance(coded, contents.Jpeg)
            original = contents.take(files.content(job, against), pixels=pixels)
        except PixelzipError as error:
            return Done(error=f"{against}: {error}")
        difference = coded.compare(original)
        if difference.pixels:
            return Done(error=f"{difference.pixels}: it is not {against}")
        missing = (*difference.metadata, *original.not_kept)
        if missing:
            names = ", ".join(missing)
            line += f", with the pixels of {against}, but not the same metadata: {names}"
            return Done(report, line, not_kept=missing)
        return Done(report, f"{line}, the same as {against}")
