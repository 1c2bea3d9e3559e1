"""The same tasks on a Ray cluster: one actor a worker, replaced when it dies.

Every machine of the cluster needs this package, and the model and the data set under the same paths; what
comes back, images too, is written by the process that asked for it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from ....locinv_core.extras import require
from .work_items import Outcome, Performer, Recipe, Task, attempt
from .workers import Done, Work, dispatch

LOCAL = "local"
"""The address that starts a cluster of this machine alone."""
AUTO = "auto"
"""The address of the cluster that this machine is part of."""
ADDRESSES = "requires host:port, ray://host:port, auto or local"
PATIENCE = 10.0
"""Seconds that an address gets to answer; Ray itself would try for minutes."""


class ClusterWorker:
    """What runs as a Ray actor: a performer, opened where the actor is."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._performer: Performer | None = None

    def open(self) -> str | None:
        """Open the recipe; says what is wrong with it, if something is."""
        try:
            self._performer = self._recipe.open()
        except (ValueError, OSError) as error:
            return str(error)
        return None

    def perform(self, task: Task) -> Outcome:
        """Do one task."""
        assert self._performer is not None
        return attempt(self._performer, task)


class _Actor:
    """A `ClusterWorker` from outside, as `dispatch` takes it."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self.death: type[Exception] = ray.exceptions.RayActorError
        self.opened: Future[Any] = actor.open.remote().future()

    def submit(self, task: Task) -> Future[Any]:
        future: Future[Any] = self._actor.perform.remote(task).future()
        return future

    def end(self) -> str:
        self._ray.kill(self._actor)
        return "its process or machine is gone"


def on_cluster(recipe: Recipe, work: Work, address: str, jobs: int | None = None) -> Iterator[Done]:
    """Do the tasks on the Ray cluster at `address`, as `dispatch` does: `host:port`, `ray://host:port`, "auto" or
    "local".

    jobs: actors, as `workers_and_gpus` takes them. Ray's own retries are off: they would not say of which task an
    actor has died. Raises ValueError without Ray, for an address where no cluster is, and as `dispatch`.
    """
    ray = require_ray()
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs: got {jobs}, requires 1 or more")
    connected_here = not ray.is_initialized()
    if connected_here:
        _connect(ray, address)
    try:
        limit, gpus = workers_and_gpus(ray.cluster_resources(), jobs)
        make = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0, max_task_retries=0)(ClusterWorker)
        yield from dispatch(lambda: _Actor(ray, make.remote(recipe)), work, limit, "cluster")
    finally:
        if connected_here:
            ray.shutdown()


def require_ray() -> Any:
    """Ray. Raises ValueError, saying how to get it, where it is not installed."""
    require("ray.exceptions", "cluster")
    return require("ray", "cluster")


def workers_and_gpus(resources: Mapping[str, float], jobs: int | None) -> tuple[int, float]:
    """How many workers of one CPU a cluster of these resources gets (jobs None: one for each GPU, or for each CPU
    where there is none), and how much of a GPU each; without it a worker would see none, or all and take the first."""
    gpus, cpus = int(resources.get("GPU", 0)), max(1, int(resources.get("CPU", 1)))
    workers = jobs or gpus or cpus
    return workers, 1 / -(-workers // gpus) if gpus else 0.0


def _connect(ray: Any, address: str) -> None:
    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == LOCAL:
        settings["include_dashboard"] = False
    elif address != AUTO:
        _check_that_someone_listens(address)
    try:
        ray.init(address=address, **settings)
    except (ValueError, RuntimeError, OSError) as error:
        raise ValueError(_no_answer(address, " ".join(str(error).split())[:200])) from error


def _check_that_someone_listens(address: str) -> None:
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not (colon and host and port.isdigit()):
        raise ValueError(f"cluster: got {address!r}, {ADDRESSES}")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise ValueError(_no_answer(address, error.strerror or str(error))) from error


def _no_answer(address: str, reason: str) -> str:
    return f"cluster: no Ray cluster answers at {address!r} ({reason}), {ADDRESSES}"
