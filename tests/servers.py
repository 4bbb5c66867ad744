"""Real servers for the tests of runs: an S3 store and a Ray cluster, on the loopback."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import fsspec

BINARIES = Path(sys.executable).parent
KEY, SECRET = "pixelzip", "of-no-worth"
PATIENCE = 180.0  # seconds, for a server to answer, be the machine ever so busy


class Seaweed:
    """A SeaweedFS server that speaks S3, on ports and with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        parts = [
            f"{n}.{p}" for n in ("master", "volume", "filer", "s3") for p in ("port", "port.grpc")
        ]
        self._ports = {part: _free_port() for part in parts}
        url = f"http://127.0.0.1:{self._ports['s3.port']}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": url,
        }
        self.fs = fsspec.filesystem(
            "s3", key=KEY, secret=SECRET, endpoint_url=url, use_listings_cache=False
        )
        who = {"accessKey": KEY, "secretKey": SECRET}
        rights = {"name": KEY, "credentials": [who], "actions": ["Admin"]}
        (folder / "s3.json").write_text(json.dumps({"identities": [rights]}))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it takes files."""
        command = [
            str(BINARIES / "weed"), "server", "-s3", "-filer", f"-dir={self._folder}",
            "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={self._folder / 's3.json'}",
            "-master.volumeSizeLimitMB=64", "-volume.max=20",
            *(f"-{name}={port}" for name, port in self._ports.items()),
        ]  # fmt: skip
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + PATIENCE
        while True:
            try:
                self.fs.makedirs("bucket", exist_ok=True)
                self.fs.pipe_file("bucket/there", b"yes")
                self.fs.rm_file("bucket/there")
                return
            except Exception:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def stop(self) -> None:
        """Without a warning, as when its machine breaks down."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class RayHead:
    """The first machine of a Ray cluster, with some cores; its workers are processes here."""

    def __init__(self, folder: Path, environment: Mapping[str, str], cores: int) -> None:
        self.folder = folder  # with a short name: sockets have theirs below it
        self._cores = cores
        who = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.environment = {**environment, **who, "HOME": str(folder)}
        self.address = ""

    def __enter__(self) -> Self:
        # On a very busy machine Ray's parts lose patience with each other, and it gives up.
        until = time.monotonic() + PATIENCE
        while not (said := self._start()):
            assert time.monotonic() < until, (self.folder / "log").read_text()
        self.address = said.partition("--address='")[2].partition("'")[0]
        return self

    def _start(self) -> str:
        """What it says once it is there; nothing if it could not start."""
        command = [
            str(BINARIES / "ray"), "start", "--head", "--block", f"--num-cpus={self._cores}",
            "--port=0", "--node-ip-address=127.0.0.1", "--include-dashboard=false",
            f"--temp-dir={self.folder}", "--object-store-memory=80000000", "--disable-usage-stats",
        ]  # fmt: skip
        log = self.folder / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=out, env=self.environment, start_new_session=True
            )
        while self._process.poll() is None:
            if "--address='" in (said := log.read_text()):
                return said
            time.sleep(0.2)
        return ""

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class RayMachine:
    """Another machine of a head's cluster: all of it can be lost at once."""

    def __init__(self, head: RayHead, cores: int) -> None:
        self._head = head
        self._cores = cores

    def __enter__(self) -> Self:
        command = [
            str(BINARIES / "ray"), "start", "--block", f"--address={self._head.address}",
            f"--num-cpus={self._cores}", "--node-ip-address=127.0.0.1",
            "--object-store-memory=80000000", "--disable-usage-stats",
        ]  # fmt: skip
        log = self._head.folder / "log-of-another"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=out, env=self._head.environment, start_new_session=True
            )
        until = time.monotonic() + PATIENCE
        while "runtime started" not in log.read_text():
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        return self

    def processes(self) -> set[int]:
        """Those that are on it, its workers among them."""
        return {pid for pid in _pids() if _session(pid) == self._process.pid}

    def lose(self) -> None:
        """Without a warning to anybody."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()

    def __exit__(self, *_: object) -> None:
        self.lose()


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
