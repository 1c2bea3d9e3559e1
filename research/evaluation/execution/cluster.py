"""The same tasks on a Ray cluster: one actor a worker, replaced when it dies.

Every machine of the cluster needs this package, and the model and the data set under the same paths; what
comes back, images too, is written by the process that asked for it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .work_items import Performer, Recipe, Task, TaskQueue, WorkItem, attempt
from .workers import LOST_STARTS, OUTCOME, READY, REFUSED, Done, Message, lost_outcome

LOCAL = "local"
"""The address that starts a cluster of this machine alone."""
AUTO = "auto"
"""The address of the cluster that this machine is part of."""
WANTED = "requires host:port, ray://host:port, auto or local"
PATIENCE = 10.0
"""Seconds that an address gets to answer; Ray itself would try for minutes."""


class ClusterWorker:
    """What runs as a Ray actor: a performer, opened where the actor is."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        self._performer: Performer | None = None

    def open(self) -> Message:
        """Open the recipe; says READY, or REFUSED and why."""
        try:
            self._performer = self._recipe.open()
        except (ValueError, OSError) as error:
            return REFUSED, str(error)
        return READY, None

    def perform(self, task: Task) -> Message:
        """Do one task; says OUTCOME and what it is."""
        assert self._performer is not None
        return OUTCOME, attempt(self._performer, task)


def on_cluster(
    recipe: Recipe, work: Sequence[WorkItem], address: str, jobs: int | None = None, seed: int = 0
) -> Iterator[Done]:
    """Do the tasks on the Ray cluster at `address`: `host:port`, `ray://host:port`, "auto" or "local".

    jobs: actors, of one CPU each, and of a GPU or a part of one where the cluster has any; None takes one for
    each GPU, or for each CPU where there is none. A worker that dies, or whose machine does, is replaced and
    its task begun once more; if it is lost again, the outcome is an error.
    Raises ValueError without Ray, for an address where no cluster is, and where a worker cannot open the
    recipe; ChildProcessError where workers die of opening it.
    """
    ray = import_ray()
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs: got {jobs}, requires 1 or more")
    queue = TaskQueue(work, seed)
    connected_here = not ray.is_initialized()
    if connected_here:
        _connect(ray, address)
    actors: dict[int, Any] = {}
    opened: set[int] = set()
    under_way: dict[Any, int] = {}
    started = lost_starts = 0
    try:
        limit, gpus = workers_and_gpus(ray.cluster_resources(), jobs)
        make = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=0, max_task_retries=0)(ClusterWorker)
        while queue.open:
            while len(actors) < limit and queue.waiting > len(actors.keys() - opened):
                actors[started] = make.remote(recipe)
                under_way[actors[started].open.remote()] = started
                started += 1
            (finished,), _ = ray.wait(list(under_way), num_returns=1)
            number = under_way.pop(finished)
            try:
                kind, content = ray.get(finished)
            except ray.exceptions.RayActorError as error:
                del actors[number]
                lost_starts = 0 if number in opened else lost_starts + 1
                if lost_starts >= LOST_STARTS:
                    raise ChildProcessError(
                        f"cluster: {lost_starts} workers in a row died while they opened the model"
                    ) from error
                if (lost := queue.died(number)) is not None:
                    yield lost, lost_outcome("its process or machine is gone")
                continue
            if kind == REFUSED:
                raise ValueError(content)
            lost_starts = 0
            opened.add(number)
            if kind == OUTCOME:
                yield queue.done(number), content
            task = queue.take(number)
            if task is None:
                ray.kill(actors.pop(number))
            else:
                under_way[actors[number].perform.remote(task)] = number
    finally:
        for actor in actors.values():
            ray.kill(actor)
        if connected_here:
            ray.shutdown()


def workers_and_gpus(resources: Mapping[str, float], jobs: int | None) -> tuple[int, float]:
    """How many workers a cluster of these resources gets, and how much of a GPU each of them.

    Without its share a worker would see no GPU, or all of them and take the first.
    """
    gpus, cpus = int(resources.get("GPU", 0)), max(1, int(resources.get("CPU", 1)))
    workers = jobs or gpus or cpus
    return workers, 1 / -(-workers // gpus) if gpus else 0.0


def import_ray() -> Any:
    """Ray, if it is installed. Raises ValueError, saying how to get it, if not."""
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ValueError(
            'cluster: Ray is not installed, requires it: pip install "comfyui-pinpoint[cluster]"'
        ) from error
    return ray


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
        raise ValueError(f"cluster: got {address!r}, {WANTED}")
    try:
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise ValueError(_no_answer(address, error.strerror or str(error))) from error


def _no_answer(address: str, reason: str) -> str:
    return f"cluster: no Ray cluster answers at {address!r} ({reason}), {WANTED}"
