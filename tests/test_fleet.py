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
from doubling import deadly, double
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import pixelzip
from pixelzip.codec.errors import PixelzipError
from pixelzip.fleet import plan, storage
from pixelzip.fleet.crew import Alone, Crew, Processes
from pixelzip.fleet.manifest import Manifest, ManifestError, Past, Record, read
from pixelzip.fleet.plan import Item, batches, find
from pixelzip.fleet.run import RunError, run
from pixelzip.fleet.work import Task

RUN = {"command": "double"}


def is_file(suffix: str) -> bool:
    return suffix == ".in"


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
    force: bool = False,
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
        crew or Alone(Task(double)) as on,
    ):
        items = find(source, output, ".out", is_file)
        run(items, manifest, on, seen=see, force=force, retry_failed=retry_failed)
    return {Path(name).name: record for name, record in records.items()}


def check_outputs(folder: Path) -> None:
    """Each of the forty has become what it should, and there is nothing else."""
    made = {p.name: p.read_bytes() for p in (folder / "out").rglob("*") if p.is_file()}
    assert made == {f"{n:02}.out": b"%d%d" % (n, n) for n in range(40)}
    assert (folder / "out" / "b" / "01.out").exists()


@pytest.mark.parametrize("in_processes", [False, True])
def test_a_run(folder: Path, in_processes: bool) -> None:
    task = Task(double)
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
    assert (past.totals.done, past.totals.failed, past.totals.skipped) == (40, 3, 1)
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
    assert (past.totals.done, past.totals.failed) == (42, 2)


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
        go(folder, Processes(Task(double), 2), seen=pull)
    manifest = folder / "manifest"
    if torn:
        manifest.write_bytes(manifest.read_bytes() + b'{"input": "in/a/0')
    noted = {Path(line["input"]).name for line in read(str(manifest)) if "input" in line}
    assert set(settled) <= noted
    records = go(folder, Processes(Task(double), 2))
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
    go(folder, retry_failed=True, force=True)
    check_outputs(folder)


def test_a_worker_that_dies(folder: Path) -> None:
    """Its batch is done by others, and the file that kills everyone is found."""
    (folder / "in" / "a" / "06.in").write_bytes(b"deadly")
    (folder / "in" / "b" / "07.in").write_bytes(b"deadly once")
    records = go(folder, Processes(Task(deadly), 2))
    assert records["06.in"].status == "failed"
    assert "signal 9" in (records["06.in"].error or "")
    assert records["07.in"].status == "done"
    (folder / "in" / "a" / "06.in").write_bytes(b"6")
    assert set(go(folder, retry_failed=True)) >= {"06.in"}
    (folder / "out" / "b" / "07.out").write_bytes(b"77")
    check_outputs(folder)


def test_a_run_ends_when_all_workers_die(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelzip.fleet.run.MOST_DEATHS", 5)
    for path in (folder / "in" / "a").iterdir():
        path.write_bytes(b"deadly")
    shutil.rmtree(folder / "in" / "b")
    with pytest.raises(RunError, match="one worker after the other dies"):
        go(folder, Processes(Task(deadly), 1))


def test_workers_go_when_a_run_ends(folder: Path) -> None:
    with Processes(Task(double), 1) as crew:
        crew.submit((Item(str(folder / "in" / "a" / "00.in")),))
        (outcome,) = crew.wait()
        pid = int((outcome.records[0].worker or "").rpartition(":")[2])
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


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
    impatient = partial(Task, double, patience=0.02)
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
    items = list(find(str(tmp_path), str(out), ".out", is_file))
    targets = {str(Path(item.source).relative_to(tmp_path)): item.target for item in items}
    assert targets == {
        "round": None,
        "x.b.in": f"{out}/x.b.out",
        "x.in": f"{out}/x.out",
        "y.in": f"{out}/y.out",
        "y.other": None,
        "z.IN": f"{out}/z.IN.out",
        "z.in": f"{out}/z.in.out",
        "deep/er/x.in": f"{out}/deep/er/x.out",
    }
    assert [item.error for item in items if item.source.endswith("round")] != [""]
    assert [item.skipped for item in items if item.source.endswith("other")] != [""]
    alone = list(find(str(tmp_path / "x.in"), str(out), ".out", is_file))
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
    assert [item for batch in made for item in batch] == items
    for batch in made:
        assert 1 <= len(batch) <= plan.MOST_FILES
        assert len(batch) == 1 or sum(item.size or 0 for item in batch) <= plan.MOST_BYTES


def test_few_files_are_shared_out() -> None:
    items = [Item(str(number), size=10_000) for number in range(48)]
    assert [len(batch) for batch in batches(items, lambda: 4)] == [3] * 16


def test_few_batches_are_under_way(folder: Path) -> None:
    """However many files there are."""
    most = 0

    class Counted(Alone):
        most = 3

        def submit(self, batch: plan.Batch) -> None:
            nonlocal most
            super().submit(batch)
            most = max(most, len(self._waiting))

    go(folder, Counted(Task(double)))
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


def test_many_files_are_told_apart() -> None:
    lines = [{"input": f"{n}.png", "status": "done"} for n in range(0, 20_000, 2)]
    past = Past(lines)
    assert [past.is_settled(f"{n}.png") for n in range(20_000)] == [True, False] * 10_000
    assert past.totals.done == 10_000


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
            st.sampled_from([*KEYS, "run", "begun", "other"]),
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
                "status": st.sampled_from(["done", "failed", "skipped"]),
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
    assert past.totals.failed == len(past.failures)


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
    skipped = f"{photos}/photos/crops/README.md: note: no kind of file that is taken: .md"
    assert skipped in errors
    assert errors[-1].startswith(f"{photos}/photos/broken.png: error: the file is a damaged PNG")
    assert len(errors) == 2
    assert re.fullmatch(r"6 files done: [\d,]+ -> [\d,]+ bytes \(\d+\.\d%\); 1 failed; 1 skipped; "
                        r"all of it stands in m\.jsonl", out[0])  # fmt: skip
    made = {path.stem: path.read_bytes() for path in (photos / "archive" / "crops").iterdir()}
    assert made == {p.stem: pixelzip.compress(p, network="none") for p in crop_paths}

    told, _ = command(photos, "manifest", "m.jsonl")
    assert told[0] == f"compress {photos}/photos -> {photos}/archive, started 1 time"
    assert out[0].startswith(told[1])
    assert any(line.startswith("failed: 1 x the file is a damaged PNG") for line in told)
    (failure,), _ = command(photos, "manifest", "m.jsonl", "--failed")
    assert failure.startswith(f"{photos}/photos/broken.png: the file is a damaged PNG")
    (as_json,), _ = command(photos, "manifest", "m.jsonl", "--json")
    assert {k: json.loads(as_json)[k] for k in ("done", "failed", "skipped", "unfinished")} == {
        "done": 6, "failed": 1, "skipped": 1, "unfinished": 0,
    }  # fmt: skip

    shutil.copy(crop_paths[0], photos / "photos" / "broken.png")
    assert command(photos, *compress, status=1)[0] == out  # known, and not looked at
    out, errors = command(photos, *compress, "--retry-failed", status=3)  # but for the README
    assert "7 files done" in out[0]
    assert not errors

    url = f"file://{photos}/archive"
    reports, _ = command(photos, "verify", "-r", url, "--json", "--manifest", "v.jsonl")
    assert {json.loads(line)["status"] for line in reports} == {"done"}
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
        (["-r", "photos", "photos", "-o", "out"], 2, "a run has one input"),
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
    assert out[0].endswith(f"stands in {name}")
    assert (photos / "knob.pxz").exists()
    command(photos, "compress", place, "-o", "other.pxz", "-n", "none")
    assert len(list(photos.glob("pixelzip-*.jsonl"))) == 2
