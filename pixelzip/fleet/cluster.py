"""A crew on a Ray cluster that is there already. The one module that imports ray."""

from __future__ import annotations

import logging
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any, Self

import ray

import pixelzip
from pixelzip.codec.errors import PixelzipError
from pixelzip.fleet.crew import Do, Outcome
from pixelzip.fleet.plan import Batch

_REACH = 10.0  # seconds, for a connection
_ASK_AGAIN = 10.0  # seconds, for how large the cluster is: it may grow
_MACHINES = (ray.exceptions.NodeDiedError, ray.exceptions.LocalRayletDiedError)


class Cluster:
    """The workers of a Ray cluster: a task for each batch, tried again here and not by Ray."""

    def __init__(
        self, do: Do, address: str, *, most: int | None = None, threads: int = 1, gpus: int = 0
    ) -> None:
        """``most`` bounds the batches under way; ``threads`` and ``gpus`` are what each occupies.

        Raises PixelzipError if there is no such cluster.
        """
        _look_for(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            if "AuthToken" in f"{error} {error.__cause__}":
                reason = "it asks for a token (set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN)"
            else:
                reason = _first_sentence(error)
            raise PixelzipError(f"there is no Ray cluster at {address}: {reason}") from error
        self._each: Mapping[str, float] = {"CPU": threads} | ({"GPU": gpus} if gpus else {})
        self._do = ray.put(do)
        self._remote: Any = ray.remote(num_cpus=threads, num_gpus=gpus, max_retries=0)(_serve)
        self._under_way: dict[Any, Batch] = {}
        self._bound = most or sys.maxsize
        self._most, self._asked = 0, float("-inf")

    @property
    def most(self) -> int:
        if time.monotonic() - self._asked > _ASK_AGAIN:
            there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
            workers = min(there.get(kind, 0) // number for kind, number in self._each.items())
            # At least one waits, which is what makes a cluster grow that can.
            self._most = min(self._bound, max(2, 2 * int(workers)))
            self._asked = time.monotonic()
        return self._most

    def submit(self, batch: Batch) -> None:
        self._under_way[self._remote.remote(self._do, batch, pixelzip.__version__)] = batch

    def wait(self) -> list[Outcome]:
        if not self._under_way:
            return []
        references = list(self._under_way)
        ray.wait(references, num_returns=1)
        ready, _ = ray.wait(references, num_returns=len(references), timeout=0)
        return [self._outcome(reference) for reference in ready]

    def _outcome(self, reference: Any) -> Outcome:
        batch = self._under_way.pop(reference)
        try:
            outcome: Outcome = ray.get(reference)
        except ray.exceptions.RayTaskError as error:  # of our code, or for want of it
            return Outcome(batch, stop=f"a machine of the cluster cannot work: {error.cause}")
        except ray.exceptions.RayError as error:  # of a process or a machine that is no more
            death = f"a worker was lost: {_first_sentence(error)}"
            return Outcome(batch, death=death, is_machines=isinstance(error, _MACHINES))
        return outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()


def _look_for(address: str) -> None:
    """Raises PixelzipError unless something listens there; Ray itself would try for minutes.

    Addresses are HOST:PORT, ray://HOST:PORT, or names that Ray knows, such as ``auto``.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH).close()
    except (OSError, OverflowError) as error:
        reason = "nothing answers there"
        raise PixelzipError(f"there is no Ray cluster at {address}: {reason}") from error


def _first_sentence(error: Exception) -> str:
    return str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__


def _serve(do: Do, batch: Batch, version: str) -> Outcome:
    """On a machine of the cluster."""
    if pixelzip.__version__ != version:
        here = f"a machine of the cluster has pixelzip {pixelzip.__version__}"
        return Outcome(batch, stop=f"{here}, and this one {version}")
    return do(batch)
