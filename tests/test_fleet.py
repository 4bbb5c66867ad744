"""Runs over many files on this machine: what is made, what is noted, and how a run goes on."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import fsspec
import numpy as np
import pytest
from click.testing import CliRunner
from doubling import DEADLY, DOUBLE
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import pixelzip
from pixelzip import batch, files
from pixelzip.batch import Rules
from pixelzip.cli import cli
from pixelzip.codec.errors import PixelzipError
from pixelzip.files import Refusal
from pixelzip.fleet import plan, storage
from pixelzip.fleet.crew import Alone, Crew, Outcome, Processes
from pixelzip.fleet.manifest import Manifest, ManifestError, Past, Record, read
from pixelzip.fleet.plan import Item, Root, Rule, batches, find
from pixelzip.fleet.run import ATTEMPTS, RunError, run
from pixelzip.fleet.work import Task

RUN = {"command": "double"}


def judge(suffix: str) -> Refusal | None:
    return None if suffix == ".in" else Refusal("no .in file")


RULE = Rule(judge, ".out")
PLAIN = Rules()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Forty files in two folders, and what else there is among files."""
    for number in range(40):
        path = tmp_path / "in" / "ab"[number % 2] / f"{number:02}.in"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
    (tmp_path / "in" / "damaged.in").write_bytes(b"damaged")
    (tmp_path / "in" / "faulty.in").write_bytes(b"faulty")
    (tmp_path / "in" / "notes.txt").write_bytes(b"not to be taken")
    (tmp_path / "in" / "gone.in").symlink_to("nowhere")
    return tmp_path


def go(
    folder: Path,
    crew: Crew | None = None,
    *,
    source: str = "",
    output: str = "",
    seen: Callable[[Record], None] = lambda _: None,
    kept: Callable[[str, str], None] = lambda _source, _why: None,
    rules: Rules = PLAIN,
    retry_failed: bool = False,
) -> dict[str, Record]:
    """A run from ``in`` to ``out``; the records by the files' names."""
    source, output = source or str(folder / "in"), output or str(folder / "out")
    records: dict[str, Record] = {}

    def see(record: Record) -> None:
        assert record.input not in records, "a file was done twice"
        records[record.input] = record
        seen(record)

    with (
        Manifest(str(folder / "manifest"), RUN, "1") as manifest,
        crew or Alone(Task(DOUBLE, rules)) as on,
    ):
        items = find([Root(source)], output, RULE)
        run(items, manifest, on, seen=see, kept=kept, retry_failed=retry_failed)
    return {Path(name).name: record for name, record in records.items()}


def check_outputs(folder: Path) -> None:
    """Each of the forty has become what it should, and there is nothing else."""
    made = {p.name: p.read_bytes() for p in (folder / "out").rglob("*") if p.is_file()}
    assert made == {f"{n:02}.out": b"%d%d" % (n, n) for n in range(40)}
    assert (folder / "out" / "b" / "01.out").exists()


@pytest.mark.parametrize("in_processes", [False, True])
def test_a_run(folder: Path, in_processes: bool) -> None:
    task = Task(DOUBLE)
    records = go(folder, Processes(task, 2) if in_processes else Alone(task))
    check_outputs(folder)
    seven = records["07.in"]
    assert seven.status == "done"
    assert seven.sha256_in == sha256(b"7").hexdigest()
    assert seven.sha256_out == sha256(b"77").hexdigest()
    assert (seven.bytes_in, seven.bytes_out, seven.networks) == (1, 2, ("none",))
    failed = {name: record.error for name, record in records.items() if record.status == "failed"}
    assert failed == {
        "damaged.in": "it is damaged",
        "faulty.in": "ZeroDivisionError: no one thought of that",
        "gone.in": os.strerror(errno.ENOENT),
    }
    assert {name for name, record in records.items() if record.status == "skipped"} == {"notes.txt"}
    assert len(records) == 44
    # The manifest says all of it again.
    past = Past(read(str(folder / "manifest")))
    assert past.totals.verdicts == {"done": 40, "failed": 3, "skipped": 1}
    assert past.totals.skipped == {"no .in file": 1}
    assert (past.totals.bytes_in, past.totals.bytes_out) == (70, 140)


def test_nothing_is_done_again(folder: Path) -> None:
    go(folder)
    (folder / "in" / "a" / "99.in").write_bytes(b"new")
    (folder / "in" / "damaged.in").write_bytes(b"whole")
    assert set(go(folder)) == {"99.in"}
    assert set(go(folder, retry_failed=True)) == {"damaged.in", "faulty.in", "gone.in"}
    assert (folder / "out" / "damaged.out").read_bytes() == b"wholewhole"
    assert set(go(folder)) == set()
    past = Past(read(str(folder / "manifest")))
    assert past.totals.verdicts == {"done": 42, "failed": 2, "skipped": 1}


class PulledPlug(BaseException):
    """The driver is no more."""


@pytest.mark.parametrize("after", [1, 39])
@pytest.mark.parametrize("torn", [False, True])
def test_a_run_goes_on_where_it_stopped(folder: Path, after: int, torn: bool) -> None:
    settled: list[str] = []

    def pull(record: Record) -> None:
        settled.append(Path(record.input).name)
        if len(settled) == after:
            raise PulledPlug

    with pytest.raises(PulledPlug):
        go(folder, Processes(Task(DOUBLE), 2), seen=pull)
    manifest = folder / "manifest"
    if torn:
        manifest.write_bytes(manifest.read_bytes() + b'{"input": "in/a/0')
    noted = {Path(line["input"]).name for line in read(str(manifest)) if "input" in line}
    assert set(settled) <= noted
    records = go(folder, Processes(Task(DOUBLE), 2))
    assert not set(records) & noted
    assert len(records) + len(noted) == 44
    check_outputs(folder)
    assert all(json.loads(line) for line in manifest.read_bytes().splitlines())


def test_what_was_under_way_may_be_there_already(folder: Path) -> None:
    """Written, but not noted: that is found out, and costs no error."""
    target = folder / "out" / "a" / "00.out"
    target.parent.mkdir(parents=True)
    with Manifest(str(folder / "manifest"), RUN, "1") as manifest:
        manifest.begin([str(folder / "in" / "a" / "00.in"), str(folder / "in" / "a" / "02.in")])
    target.write_bytes(b"00")
    inode = target.stat().st_ino
    target.with_name("02.out").write_bytes(b"somebody else's")
    records = go(folder)
    assert records["00.in"].status == "done"
    assert target.stat().st_ino == inode
    assert "differs" in (records["02.in"].error or "")
    assert target.with_name("02.out").read_bytes() == b"somebody else's"


def test_other_files_are_not_overwritten(folder: Path) -> None:
    target = folder / "out" / "a" / "00.out"
    target.parent.mkdir(parents=True)
    target.write_bytes(b"somebody else's")
    for _ in range(2):
        error = go(folder, retry_failed=True)["00.in"].error
        assert error == f"{target} exists already; add --force to overwrite it"
        assert target.read_bytes() == b"somebody else's"
    go(folder, retry_failed=True, rules=Rules(force=True))
    check_outputs(folder)


def test_a_worker_that_dies(folder: Path) -> None:
    """Its batch is done by others, and the file that kills everyone is found."""
    (folder / "in" / "a" / "06.in").write_bytes(b"deadly")
    (folder / "in" / "b" / "07.in").write_bytes(b"deadly once")
    records = go(folder, Processes(Task(DEADLY), 2))
    assert records["06.in"].status == "failed"
    assert "signal 9" in (records["06.in"].error or "")
    assert records["07.in"].status == "done"
    (folder / "in" / "a" / "06.in").write_bytes(b"6")
    assert set(go(folder, retry_failed=True)) >= {"06.in"}
    (folder / "out" / "b" / "07.out").write_bytes(b"77")
    check_outputs(folder)


def test_a_machine_that_is_lost_is_no_files_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a file was at work there."""
    monkeypatch.setattr("pixelzip.fleet.run._LONGEST_REST", 0)

    class Losing(Alone):
        lost = 0

        def wait(self) -> list[Outcome]:
            if self.lost < ATTEMPTS + 1 and len(self._waiting[0]) == 1:
                self.lost += 1
                return [Outcome(self._waiting.popleft(), death="gone", is_machines=True)]
            if self.lost < ATTEMPTS + 1:
                return [Outcome(self._waiting.popleft(), death="gone")]
            return super().wait()

    crew = Losing(Task(DOUBLE))
    records = go(folder, crew)
    assert crew.lost == ATTEMPTS + 1
    assert [record.error for record in records.values() if "gone" in (record.error or "")] == []
    check_outputs(folder)


def test_a_run_ends_when_all_workers_die(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelzip.fleet.run.MOST_DEATHS", 5)
    for path in (folder / "in" / "a").iterdir():
        path.write_bytes(b"deadly")
    shutil.rmtree(folder / "in" / "b")
    with pytest.raises(RunError, match="one worker after the other dies"):
        go(folder, Processes(Task(DEADLY), 1))


def test_workers_go_when_a_run_ends(folder: Path) -> None:
    with Processes(Task(DOUBLE), 1) as crew:
        crew.submit((Item(str(folder / "in" / "a" / "00.in")),))
        (outcome,) = crew.wait()
        pid = int((outcome.records[0].worker or "").rpartition(":")[2])
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# What else there is to a run of files.


def test_a_batch_ends_after_so_many_pixels(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rest is done by whoever has time, in batches as long as what was enough."""
    sizes = []

    class Counted(Alone):
        def submit(self, batch: plan.Batch) -> None:
            sizes.append(len(batch))
            super().submit(batch)

    for number in range(40):  # each file has a hundred pixels
        (folder / "in" / "ab"[number % 2] / f"{number:02}.in").write_bytes(b"100")
    monkeypatch.setattr("pixelzip.fleet.work.MOST_PIXELS", 300)
    records = go(folder, Counted(Task(DOUBLE)))
    assert Counter(record.status for record in records.values())["done"] == 40
    begun = [line["begun"] for line in read(str(folder / "manifest")) if "begun" in line]
    assert sum(map(len, begun)) == 42  # once each
    again = Counter(sizes) - Counter(map(len, begun))
    assert again
    assert max(again) <= 5  # two files of a batch had no pixels


def test_skip_existing(folder: Path) -> None:
    """What is there and whole stays, what is there and is not is made anew."""
    (folder / "out" / "a").mkdir(parents=True)
    (folder / "out" / "a" / "00.out").write_bytes(b"00")
    (folder / "out" / "a" / "02.out").write_bytes(b"of something else")
    records = go(folder, rules=Rules(checks_existing=True))
    check_outputs(folder)
    there = records["00.in"]
    assert (there.status, there.reason) == ("unneeded", "there already")
    assert (there.bytes_out, there.sha256_out) == (2, sha256(b"00").hexdigest())
    assert records["02.in"].status == "done"
    assert go(folder, rules=Rules(checks_existing=True)) == {}
    totals = Past(read(str(folder / "manifest"))).totals
    assert totals.verdicts == {"done": 39, "failed": 3, "skipped": 1, "unneeded": 1}


REMOVING = Rules(removes=True)


def sources(folder: Path) -> set[str]:
    return {path.name for path in (folder / "in").rglob("*.in")}


LEFT = {"damaged.in", "faulty.in", "gone.in"}


@pytest.mark.parametrize("place", ["", "file://"])
def test_sources_are_removed(folder: Path, place: str) -> None:
    """Once a line of the manifest says that they are done, and the next one that they are gone."""
    (folder / "in" / "odd.in").write_bytes(b"odd")  # of which not all comes back
    there = partial(go, source=f"{place}{folder}/in", output=f"{place}{folder}/out")
    there(folder, rules=REMOVING)
    assert sources(folder) == LEFT | {"odd.in"}
    lines = list(read(str(folder / "manifest")))
    done = {line["input"]: n for n, line in enumerate(lines) if line.get("may_remove")}
    removed = {name: n for n, line in enumerate(lines) for name in line.get("removed", ())}
    assert len(done) == 40
    assert done.keys() == removed.keys()
    assert all(removed[name] > done[name] for name in done)
    assert Past(lines).totals.removed == 40
    assert there(folder, rules=REMOVING) == {}


def test_sources_that_changed_or_whose_output_did_stay(folder: Path) -> None:
    def change(record: Record) -> None:
        if record.input.endswith("04.in"):
            Path(record.input).write_bytes(b"changed meanwhile")
        if record.input.endswith("06.in"):
            Path(record.output or "").write_bytes(b"damaged meanwhile")

    kept: dict[str, str] = {}
    go(folder, rules=REMOVING, seen=change, kept=kept.__setitem__)
    assert sources(folder) == LEFT | {"04.in", "06.in"}
    a = folder / "in" / "a"
    output = folder / "out" / "a" / "06.out"
    assert kept == {
        str(a / "04.in"): "it is not what it was when it was done",
        str(a / "06.in"): f"{output} is not what was written",
    }
    past = Past(read(str(folder / "manifest")))
    assert not past.to_remove
    assert past.totals.removed == 38


def test_what_was_to_be_removed_is_removed_by_the_next_start(folder: Path) -> None:
    """Whether or not it was, the last time; and nothing that has taken its place since."""

    def pull(record: Record) -> None:
        if record.input.endswith("06.in"):
            raise PulledPlug

    with pytest.raises(PulledPlug):
        go(folder, rules=REMOVING, seen=pull)
    waiting = sorted(Past(read(str(folder / "manifest"))).to_remove)
    assert len(waiting) > 2
    assert all(Path(source).exists() for source in waiting)
    Path(waiting[0]).unlink()
    Path(waiting[1]).write_bytes(b"another one")
    kept: dict[str, str] = {}
    records = go(folder, rules=REMOVING, kept=kept.__setitem__)
    assert not {str(folder / "in" / name) for name in records} & set(waiting)
    assert list(kept) == [waiting[1]]
    assert sources(folder) == LEFT | {Path(waiting[1]).name}
    past = Past(read(str(folder / "manifest")))
    assert (past.totals.removed, past.totals.verdicts["done"]) == (39, 40)
    check_outputs(folder)


def test_outputs_have_mode_and_time(folder: Path) -> None:
    source = folder / "in" / "a" / "00.in"
    source.chmod(0o640)
    os.utime(source, (1, 1))
    go(folder, rules=Rules(alike=True))
    made = (folder / "out" / "a" / "00.out").stat()
    assert (made.st_mode & 0o777, made.st_mtime) == (0o640, 1)


def test_several_places(folder: Path) -> None:
    """Files and folders; files by their names below the output; each once, none over another."""
    a, b = folder / "in" / "a", folder / "in" / "b"
    shutil.copy(a / "00.in", b / "00.in")
    shutil.copy(a / "00.in", folder / "scan.001")
    roots = [
        Root(str(a)), Root(str(b)), Root(str(a / "00.in")), Root(str(folder / "scan.001"), "x/y"),
        Root("memory://bucket/in/1.in", "bucket/in"), Root(str(folder / "nowhere")),
    ]  # fmt: skip
    items = {item.source: item for item in find(roots, "out", RULE)}
    assert len(items) == 44
    targets = {Path(source).name: item.target for source, item in items.items()}
    assert targets["01.in"] == "out/01.out"
    assert targets["scan.001"] == "out/x/y/scan.001.out"
    assert targets["1.in"] == "out/bucket/in/1.out"
    assert items[str(folder / "nowhere")].error == os.strerror(errno.ENOENT)
    # The first one that is found, which is the one that was named, has the name.
    assert items[str(a / "00.in")].target == "out/00.out"
    assert "so does" in items[str(b / "00.in")].error
    scan = roots[3:4]
    assert [item.target for item in find(scan, "out", RULE)] == ["out"]
    assert [item.target for item in find(scan, "out/", RULE)] == ["out/x/y/scan.001.out"]
    (only,) = (item for item in find(roots[:1] * 2, "out", RULE, recursive=False))
    assert "add --recursive" in only.error


def test_names_that_would_be_the_same(tmp_path: Path) -> None:
    for name in ("x.in", "x.in.in", "x.IN", "y.out.in"):
        (tmp_path / name).touch()
    items = {Path(i.source).name: i for i in find([Root(str(tmp_path))], "o", RULE)}
    assert items["x.IN"].target == "o/x.IN.out"
    assert items["x.in"].target == "o/x.in.out"
    assert "so does" in items["x.in.in"].error
    assert items["y.out.in"].target == "o/y.out"


def test_no_source_is_its_own_output(tmp_path: Path) -> None:
    (tmp_path / "a.in").touch()
    (item,) = find([Root(str(tmp_path / "a.in"))], str(tmp_path / "a.in"), RULE)
    assert "the input itself" in item.error


def test_pairs(tmp_path: Path) -> None:
    for name in ("p/a.in", "p/a.b.in", "p/deep/c.in", "p/lone.in", "p/n.txt", "p/only/o.in"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name in ("q/a.out", "q/a.b.out", "q/deep/c.out", "q/orphan.out", "q/here/h.out"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    packed = Rule(lambda suffix: None if suffix == ".out" else Refusal("no .out file"))
    items = list(plan.pairs(str(tmp_path / "q"), str(tmp_path / "p"), packed, RULE))
    partners = {
        str(Path(item.source).relative_to(tmp_path)): Path(item.original).name
        for item in items
        if item.original is not None
    }
    assert partners == {"q/a.out": "a.in", "q/a.b.out": "a.b.in", "q/deep/c.out": "c.in"}
    rest = {
        str(Path(item.source).relative_to(tmp_path)): item.error or item.refusal
        for item in items
        if item.original is None
    }
    q = tmp_path / "q"
    assert rest == {
        "q/orphan.out": None,  # for the work to say
        "q/here/h.out": None,
        "p/n.txt": Refusal("no .in file"),
        "p/lone.in": f"there is no {q / 'lone.out'} of it",
        "p/only/o.in": f"there is no {q / 'only' / 'o.out'} of it",
    }


class Weather:
    """A place of fsspec's, `memory://`, whose connection breaks now and then."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = Counter[str]()
        self.bad: Callable[[str, int], bool] = lambda _name, _call: False
        memory = type(fsspec.filesystem("memory"))
        for name in ("cat_file", "pipe_file", "info", "ls"):
            monkeypatch.setattr(memory, name, self._broken(name, getattr(memory, name)))

    def _broken(self, name: str, whole: Callable[..., object]) -> Callable[..., object]:
        def method(*arguments: object, **keywords: object) -> object:
            self.calls[name] += 1
            if self.bad(name, self.calls[name]):
                raise ConnectionResetError(errno.ECONNRESET, "the line is dead")
            return whole(*arguments, **keywords)

        return method


@pytest.fixture
def weather(monkeypatch: pytest.MonkeyPatch) -> Iterator[Weather]:
    fs = fsspec.filesystem("memory")
    for number in range(40):
        fs.pipe_file(f"/in/{'ab'[number % 2]}/{number:02}.in", b"%d" % number)
    monkeypatch.setattr("pixelzip.fleet.storage._FIRST_WAIT", 0.001)
    yield Weather(monkeypatch)
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]


def test_a_place_that_is_away_now_and_then(tmp_path: Path, weather: Weather) -> None:
    weather.bad = lambda name, call: name != "info" and call % 3 != 0
    records = go(tmp_path, source="memory://in", output="memory://out")
    assert {record.status for record in records.values()} == {"done"}
    fs = fsspec.filesystem("memory")
    weather.bad = lambda _name, _call: False
    assert {path: fs.cat_file(path) for path in fs.find("/out")} == {
        f"/out/{'ab'[n % 2]}/{n:02}.out": b"%d%d" % (n, n) for n in range(40)
    }


def test_a_place_that_stays_away(tmp_path: Path, weather: Weather) -> None:
    weather.bad = lambda name, call: name == "cat_file" and call > 10
    impatient = partial(Task, DOUBLE, patience=0.02)
    first: list[Record] = []
    with pytest.raises(RunError, match=r"has not answered for 0 seconds: the line is dead"):
        go(tmp_path, Alone(impatient()), source="memory://in", output="memory://out",
           seen=first.append)  # fmt: skip
    assert [record.status for record in first] == ["done"] * 10
    weather.bad = lambda _name, _call: False
    records = go(tmp_path, source="memory://in", output="memory://out")
    assert len(records) == 30
    assert len(fsspec.filesystem("memory").find("/out")) == 40


def test_a_place_that_is_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("pixelzip.files.write", full)
        with pytest.raises(RunError, match=r"00\.out cannot be written: No space"):
            go(folder)
    go(folder)
    check_outputs(folder)


def test_places_that_are_renamed_into(folder: Path) -> None:
    """`file://` stands for all that fsspec knows and that show a file while it grows."""
    go(folder, source=f"file://{folder}/in", output=f"file://{folder}/out")
    check_outputs(folder)
    place = storage.of(f"file://{folder}")
    path = f"file://{folder}/out/a/00.out"
    place.write(path, b"anew")
    assert place.read(path) == b"anew"
    assert {p.name for p in (folder / "out" / "a").iterdir()} == {
        f"{n:02}.out" for n in range(0, 40, 2)
    }


def test_unknown_places() -> None:
    with pytest.raises(PixelzipError, match="no place that fsspec knows"):
        storage.of("nowhere://bucket/in")


def test_names(tmp_path: Path) -> None:
    for name in ("x.in", "x.b.in", "y.in", "y.other", "z.in", "z.IN"):
        (tmp_path / name).touch()
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "x.in").touch()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "x.in").touch()
    (tmp_path / "round").symlink_to(tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (out / "x.in").touch()
    items = list(find([Root(str(tmp_path))], str(out), RULE))
    names = {str(Path(item.source).relative_to(tmp_path)): item for item in items}
    targets = {name: item.target for name, item in names.items()}
    assert targets == {
        "round": None,
        "out": None,
        ".hidden": None,
        "x.b.in": f"{out}/x.b.out",
        "x.in": f"{out}/x.out",
        "y.in": f"{out}/y.out",
        "y.other": None,
        "z.IN": f"{out}/z.IN.out",
        "z.in": f"{out}/z.in.out",
        "deep/er/x.in": f"{out}/deep/er/x.out",
    }
    assert {name: item.refusal for name, item in names.items() if item.target is None} == {
        "round": files.LINK,
        "out": files.OWN_OUTPUT,
        ".hidden": files.HIDDEN,
        "y.other": Refusal("no .in file"),
    }
    alone = list(find([Root(str(tmp_path / "x.in"))], str(out), RULE))
    assert alone == [Item(str(tmp_path / "x.in"), f"{out}/x.out", 0)]


def test_a_folder_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def closed(path: str) -> object:
        if path.endswith("b"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    records = go(folder)
    assert records["b"].error == f"the folder cannot be read: {os.strerror(errno.EACCES)}"
    assert records["00.in"].status == "done"


@given(
    sizes=st.lists(st.none() | st.integers(0, 2 * plan.MOST_BYTES), max_size=300),
    lots=st.integers(1, 9),
)
def test_batches(sizes: list[int | None], lots: int) -> None:
    items = [Item(str(number), size=size) for number, size in enumerate(sizes)]
    made = list(batches(items, lambda: lots))
    assert [item for one in made for item in one] == items
    for one in made:
        assert 1 <= len(one) <= plan.MOST_FILES
        assert len(one) == 1 or sum(item.size or 0 for item in one) <= plan.MOST_BYTES


def test_few_files_are_shared_out() -> None:
    """But not so thinly that small ones would not be coded together any more."""

    def shared(count: int, size: int) -> list[int]:
        items = [Item(str(number), size=size) for number in range(count)]
        return [len(batch) for batch in batches(items, lambda: 4)]

    assert shared(48, 40_000) == [3] * 16
    assert shared(8, 40_000) == [1] * 8
    assert shared(256, 2252) == [29] * 8 + [24]
    assert shared(100, 2252) == [25] * 4


def test_few_batches_are_under_way(folder: Path) -> None:
    """However many files there are."""
    most = 0

    class Counted(Alone):
        most = 3

        def submit(self, batch: plan.Batch) -> None:
            nonlocal most
            super().submit(batch)
            most = max(most, len(self._waiting))

    go(folder, Counted(Task(DOUBLE)))
    assert most == 3


# The manifest.


def test_a_manifest_belongs_to_one_run(tmp_path: Path) -> None:
    path = str(tmp_path / "manifest")
    with (
        Manifest(path, RUN, "1"),
        pytest.raises(ManifestError, match="another run writes"),
        Manifest(path, RUN, "1"),
    ):
        pass
    with Manifest(path, RUN, "2"):
        pass
    with pytest.raises(ManifestError, match=r"manifest of another run \(command differ"):
        Manifest(path, {"command": "verify"}, "1")


def test_no_room_for_a_manifest_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Manifest(str(tmp_path / "m"), RUN, "1") as manifest:
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space") as caught:
            manifest.begin(["a"])
    assert caught.value.filename == str(tmp_path / "m")


def test_many_files_are_told_apart() -> None:
    lines = [{"input": f"{n}.png", "status": "done"} for n in range(0, 20_000, 2)]
    past = Past(lines)
    assert [past.is_settled(f"{n}.png") for n in range(20_000)] == [True, False] * 10_000
    assert past.totals.verdicts == {"done": 10_000}


def test_names_of_any_bytes(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9\n\xff.png")
    with Manifest(str(tmp_path / "m"), RUN, "1") as manifest:
        manifest.begin([name])
        manifest.finish([Record(name, "done")])
    assert Past(read(str(tmp_path / "m"))).is_settled(name)


KEYS = tuple(Record.__dataclass_fields__)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*KEYS, "run", "begun", "removed", "kept", "other"]),
            inner,
            max_size=5,
        )
    ),
)


@given(
    st.lists(
        st.binary(max_size=30)
        | JSON.map(lambda value: json.dumps(value).encode())
        | st.fixed_dictionaries(
            {
                "input": st.text(max_size=3),
                "status": st.sampled_from(["done", "failed", "skipped", "unneeded"]),
            },
            optional={
                name: JSON
                for name in Record.__dataclass_fields__
                if name not in ("input", "status")
            },
        ).map(lambda value: json.dumps(value).encode()),
        max_size=4,
    )
)
def test_a_damaged_manifest_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(b"".join(line + b"\n" for line in [b'{"run": {}}', *lines]))
    try:
        past = Past(read(str(path)))
    except ManifestError:
        return
    assert past.totals.verdicts["failed"] == len(past.failures)


# The commands.

COMMAND = str(Path(sys.executable).with_name("pixelzip"))


@pytest.fixture
def photos(tmp_path: Path, crop_paths: list[Path]) -> Path:
    """A folder with `photos` in it: pictures, a broken one, and a text."""
    shutil.copytree(crop_paths[0].parent, tmp_path / "photos" / "crops")
    (tmp_path / "photos" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    return tmp_path


def command(folder: Path, *arguments: str, status: int = 0) -> tuple[list[str], list[str]]:
    """Lines of standard output and of standard error."""
    done = subprocess.run(
        [COMMAND, *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == status, done.stderr
    return done.stdout.splitlines(), done.stderr.splitlines()


def test_commands(photos: Path, crop_paths: list[Path]) -> None:
    """The files are those of `pixelzip.compress`, and they come back."""
    compress = ("compress", "-r", "photos", "-o", "archive", "-n", "none", "--manifest", "m.jsonl")
    out, errors = command(photos, *compress, status=1)
    skipped = f"{photos}/photos/crops/README.md: skipped: not an image by its name"
    assert skipped in errors
    assert errors[-1].startswith(f"{photos}/photos/broken.png: error: the file is a damaged PNG")
    assert len(errors) == 2
    assert re.fullmatch(r"8 files: 6 done, 1 failed, 1 skipped; "
                        r"[\d,]+ -> [\d,]+ bytes \(\d+\.\d%\), \d+\.\d\d s", out[0])  # fmt: skip
    assert out[1:] == ["  skipped: not an image by its name (1)", "all of it stands in m.jsonl"]
    made = {path.stem: path.read_bytes() for path in (photos / "archive" / "crops").iterdir()}
    assert made == {p.stem: pixelzip.compress(p, network="none") for p in crop_paths}

    told, _ = command(photos, "manifest", "m.jsonl")
    assert told[0] == f"compress {photos}/photos -> {photos}/archive, started 1 time"
    assert out[0].startswith(told[1])
    assert out[1] == told[-1]
    assert any(line.startswith("failed: 1 x the file is a damaged PNG") for line in told)
    (failure,), _ = command(photos, "manifest", "m.jsonl", "--failed")
    assert failure.startswith(f"{photos}/photos/broken.png: the file is a damaged PNG")
    (as_json,), _ = command(photos, "manifest", "m.jsonl", "--json")
    assert json.loads(as_json)["verdicts"] == {"done": 6, "failed": 1, "skipped": 1}
    assert json.loads(as_json)["unfinished"] == 0

    shutil.copy(crop_paths[0], photos / "photos" / "broken.png")
    again, _ = command(photos, *compress, status=1)
    assert again[0].rpartition(",")[0] == out[0].rpartition(",")[0]  # known, and not looked at
    out, errors = command(photos, *compress, "--retry-failed", status=3)  # but for the README
    assert out[0].startswith("8 files: 7 done, 1 skipped; ")
    assert not errors

    url = f"file://{photos}/archive"
    reports, _ = command(photos, "verify", "-r", url, "--json", "--manifest", "v.jsonl")
    assert {json.loads(line)["status"] for line in reports[:-1]} == {"done"}
    assert json.loads(reports[-1])["totals"]["verdicts"] == {"done": 7}
    command(photos, "decompress", "-r", url, "-o", "back", "--jobs", "1", "--quiet")
    for path in crop_paths:
        with Image.open(path) as one, Image.open(photos / "back" / "crops" / path.name) as other:
            assert np.array_equal(np.asarray(one), np.asarray(other))


def test_jpegs_come_back(tmp_path: Path, crop_paths: list[Path]) -> None:
    """Byte for byte, by their own names, among other pictures."""
    (tmp_path / "in").mkdir()
    with Image.open(crop_paths[0]) as image:
        image.save(tmp_path / "in" / "one.jpg", quality=90)
        image.save(tmp_path / "in" / "two.png")
    command(tmp_path, "compress", "-r", "in", "-o", "packed", "--manifest", "1", "-j", "1")
    command(tmp_path, "decompress", "-r", "packed", "-o", "out", "--manifest", "2", "-j", "1")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"one.jpg", "two.png"}
    assert (tmp_path / "out" / "one.jpg").read_bytes() == (tmp_path / "in/one.jpg").read_bytes()
    outputs = {line.get("output") for line in read(str(tmp_path / "2")) if "input" in line}
    assert outputs == {f"{tmp_path}/out/one.jpg", f"{tmp_path}/out/two.png"}
    packed = f"file://{tmp_path}/packed/one.pxz"
    command(tmp_path, "decompress", packed, "-o", "pixels.png", "--manifest", "3", "-j", "1")
    with Image.open(tmp_path / "pixels.png") as image:
        assert image.format == "PNG"


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["photos", "-o", "out"], 2, "photos is a folder; add --recursive"),
        (["-r", "photos"], 2, "a run needs a place for what it makes: -o FOLDER or -o URL"),
        (["-", "-o", "out"], 2, "a run reads and writes files, not standard input or output"),
        (["-r", "nothing", "-o", "out"], 1, "there is no "),
        (["-r", "photos", "-o", "out", "--manifest", "photos/a.png"], 1, "a.png is no manifest"),
        (["-r", "nowhere://bucket", "-o", "out"], 1, "no place that fsspec knows"),
    ],
)
def test_commands_that_cannot_be(
    photos: Path, arguments: list[str], status: int, sentence: str
) -> None:
    (photos / "photos" / "a.png").write_bytes(b"no line's end")
    if "--manifest" not in arguments:
        arguments = [*arguments, "--manifest", "m.jsonl"]
    _, errors = command(photos, "compress", *arguments, status=status)
    assert sentence in errors[-1]
    assert (photos / "photos" / "a.png").read_bytes() == b"no line's end"
    assert not (photos / "m.jsonl").exists()
    assert not (photos / "out").exists()


def test_a_manifest_has_a_name_of_its_own(photos: Path) -> None:
    place = f"file://{photos}/photos/crops/knob-32x32.png"
    out, _ = command(photos, "compress", place, "-o", "knob.pxz", "-n", "none")
    (name,) = (path.name for path in photos.glob("pixelzip-*.jsonl"))
    assert out[-1].endswith(f"stands in {name}")
    assert (photos / "knob.pxz").exists()
    command(photos, "compress", place, "-o", "other.pxz", "-n", "none")
    assert len(list(photos.glob("pixelzip-*.jsonl"))) == 2


# Runs and batches without a manifest mean the same.


@pytest.fixture
def messy(tmp_path: Path, crop_paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """All kinds of things, as they lie in an archive; runs are done by this process."""
    folder = tmp_path / "in"
    (folder / "deep" / ".hidden").mkdir(parents=True)
    small = next(path for path in crop_paths if path.stem == "parrot-32x32")
    with Image.open(small) as image:
        for number in range(6):
            rolled = Image.fromarray(np.roll(np.asarray(image), number, (0, 1)))
            rolled.save(folder / "deep" / f"{number}.png")
        image.save(folder / "deep" / "0.jpg", quality=80)
        image.save(folder / "b.png")
        image.save(folder / "b.c.png")
    (folder / "deep" / "5.png").write_bytes(small.read_bytes() + b"a secret")
    (folder / "deep" / ".hidden" / "x.png").write_bytes(b"x")
    for name in ("raw.nef", "notes.txt", "noending", "old.pxz", ".b.png", "cut.png"):
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    (folder / "round").symlink_to(folder)
    (folder / "gone.png").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe.txt")
    monkeypatch.setattr("pixelzip.commands.many._crew", lambda _m, _c, _p, task: Alone(task))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def totals(*arguments: object) -> tuple[dict[str, object], int]:
    """Those of a command, and its exit status."""
    done = CliRunner().invoke(cli, [*map(str, arguments), "--json"])
    assert isinstance(done.exception, SystemExit | None), done.output
    (told,) = (line for line in map(json.loads, done.stdout.splitlines()) if "totals" in line)
    return {k: told["totals"][k] for k in vars(batch.Totals())}, done.exit_code


def tree(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def both_ways(folder: Path, *arguments: str) -> tuple[dict[str, object], dict[str, bytes]]:
    """A command as a batch and as a run, in two copies of a folder; what comes of both."""
    ends = []
    for name, more in (("batch", []), ("run", ["--manifest", str(folder / "m.jsonl")])):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir()
        shutil.copytree(folder / "in", folder / name / "in", symlinks=True,
                        copy_function=copy_file)  # fmt: skip
        if (folder / "out").exists():
            shutil.copytree(folder / "out", folder / name / "out")
        os.chdir(folder / name)
        ends.append((totals(*arguments, *more), tree(folder / name)))
    (batch_totals, batch_tree), (run_totals, run_tree) = ends
    assert run_totals == batch_totals
    assert run_tree == batch_tree
    return run_totals[0] | {"status": run_totals[1]}, run_tree


def copy_file(source: str, target: str) -> None:
    if Path(source).is_fifo():
        os.mkfifo(target)
    else:
        shutil.copy2(source, target)


def test_a_run_and_a_batch_say_the_same(messy: Path) -> None:
    compress = ("compress", "-r", "in", "-o", "out", "-n", "none")
    (messy / "in" / "scan.001").write_bytes(b"no image by its name")
    told, files = both_ways(messy, *compress)
    assert told["verdicts"] == {"done": 9, "failed": 3, "skipped": 6, "unneeded": 3}
    assert told["status"] == 1
    assert told["not_kept"] == {"bytes after the image": 1}
    assert {name for name in files if name.startswith("out/")} >= {
        "out/b.pxz", "out/b.c.pxz", "out/deep/0.jpg.pxz", "out/deep/0.png.pxz", "out/deep/1.pxz",
    }  # fmt: skip


def test_a_run_removes_what_a_batch_does(messy: Path) -> None:
    told, files = both_ways(messy, "compress", "-r", "in", "-o", "out", "--rm", "-n", "none")
    assert told["removed"] == 7  # neither what has a secret nor a JPEG's pixels
    assert "in/deep/5.png" in files
    assert "in/deep/1.png" not in files


def test_a_run_leaves_what_a_batch_does(messy: Path, crop_paths: list[Path]) -> None:
    (messy / "out" / "deep").mkdir(parents=True)
    whole = pixelzip.compress(messy / "in" / "deep" / "1.png", network="none")
    (messy / "out" / "deep" / "1.pxz").write_bytes(whole)
    (messy / "out" / "deep" / "2.pxz").write_bytes(whole)  # of another picture
    (messy / "out" / "b.pxz").write_bytes(whole[:-1])
    told, files = both_ways(messy, "compress", "-r", "in", "-o", "out", "--skip-existing",
                            "-n", "none")  # fmt: skip
    assert told["unneeded"]["there already, and whole"] == 1
    assert files["out/deep/2.pxz"] != whole


@pytest.mark.parametrize("zero", [False, True])
def test_a_run_takes_the_list_that_a_batch_does(messy: Path, zero: bool) -> None:
    names = ["in/deep/1.png", "in/deep/0.png", "in/deep/0.jpg", "in/./b.png", "nowhere.png",
             "in/deep/../notes.txt"]  # fmt: skip
    (messy / "names").write_text(("\0" if zero else "\r\n").join(names))
    compress = ["compress", "-o", "out", "-n", "none", "--files-from", str(messy / "names")]
    told, files = both_ways(messy, *compress, *["-0"] * zero)
    assert told["verdicts"] == {"done": 4, "failed": 2}
    assert {name for name in files if name.startswith("out/")} == {
        "out/in/deep/1.pxz", "out/in/deep/0.png.pxz", "out/in/deep/0.jpg.pxz", "out/in/b.pxz",
    }  # fmt: skip


def test_a_run_compares_as_a_batch_does(messy: Path) -> None:
    compress = ("compress", "-r", "in", "-o", "out", "-n", "none", "--quiet")
    CliRunner().invoke(cli, compress)
    (messy / "in" / "cut.png").unlink()
    verify = ("verify", "-r", "out", "--against", "in")
    told, _ = both_ways(messy, *verify)
    assert told["verdicts"]["done"] == 9
    assert told["not_kept"] == {"bytes after the image": 1}
    shutil.copy(messy / "in" / "b.png", messy / "in" / "deep" / "3.png")
    shutil.copy(messy / "in" / "b.png", messy / "in" / "lone.png")
    (messy / "m.jsonl").unlink()
    told, _ = both_ways(messy, *verify)
    assert told["verdicts"]["done"] == 8
    assert told["status"] == 1


def test_a_run_restores_what_a_batch_does(messy: Path) -> None:
    jpeg = str(messy / "in" / "deep" / "0.jpg")
    CliRunner().invoke(cli, ["compress", jpeg])
    CliRunner().invoke(cli, ["compress", "-r", "in", "-o", "in", "-n", "none"])
    _, files = both_ways(messy, "decompress", "-r", "in", "-o", "out", "--rm")
    assert files["out/deep/0.jpg"] == files["in/deep/0.jpg"]
    assert "in/deep/0.pxz" not in files
    assert "out/deep/1.png" in files
