"""Workers that do tasks side by side and are replaced when they die; here, processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from .work_items import Outcome, Performer, Recipe, Task, attempt

Work = Sequence[Sequence[Task]]
"""Tasks in groups, of one item each: a worker does a group in turn, and may share work between its tasks."""
Done = tuple[Task, Outcome]

ATTEMPTS = 2
"""How often a task is begun, where each time its worker has died of it, before it is recorded as failed."""
LOST_STARTS = 3
"""Workers in a row that may die before they are ready."""
PATIENCE = 5.0
"""Seconds that a process gets to end when it is told to."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Worker(Protocol):
    """One worker, opening its recipe or doing one task."""

    opened: Future[Any]
    """Ends with None, or with what is wrong with the recipe."""

    @property
    def death(self) -> type[Exception]:
        """What its futures raise where it is gone."""
        ...

    def submit(self, task: Task) -> Future[Any]:
        """Do a task; the future's result is its outcome."""
        ...

    def end(self) -> str:
        """End it, and say how it died where it was dead."""
        ...


def dispatch(start: Callable[[], Worker], work: Work, limit: int, option: str) -> Iterator[Done]:
    """Do the tasks by at most `limit` workers; outcomes come in the order in which they are done.

    A worker that dies is replaced and its task begun once more; if that kills a worker again, the task's
    outcome is an error. However the loop over this ends, Ctrl-C too, the workers are ended.
    Raises ValueError where a worker cannot open the recipe, ChildProcessError, naming `option`, where workers die of
    opening it.
    """
    waiting = deque(deque(group) for group in work if group)
    workers: set[Worker] = set()
    running: dict[Future[Any], tuple[Worker, deque[Task]]] = {}  # no tasks: it is opening the recipe
    deaths: Counter[tuple[str, str]] = Counter()
    lost_starts = 0
    try:
        while waiting or running:
            while len(workers) < limit and len(waiting) > sum(not tasks for _, tasks in running.values()):
                workers.add(worker := start())
                running[worker.opened] = worker, deque()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                worker, tasks = running.pop(future)
                try:
                    result = future.result()
                except worker.death as error:
                    workers.remove(worker)
                    how = worker.end()
                    lost_starts = 0 if tasks else lost_starts + 1
                    if lost_starts >= LOST_STARTS:
                        raise ChildProcessError(
                            f"{option}: {lost_starts} workers in a row died while they opened the model ({how});"
                            " requires fewer of them or more memory"
                        ) from error
                    if tasks:
                        deaths[tasks[0].key] += 1
                        if deaths[tasks[0].key] >= ATTEMPTS:
                            yield tasks.popleft(), Outcome(error=f"the worker died {ATTEMPTS} times ({how})")
                    if tasks:
                        waiting.appendleft(tasks)
                    continue
                lost_starts = 0
                if tasks:
                    yield tasks.popleft(), result
                elif result is not None:
                    raise ValueError(result)
                tasks = tasks or (waiting.popleft() if waiting else deque())
                if tasks:
                    running[worker.submit(tasks[0])] = worker, tasks
                else:
                    workers.remove(worker)
                    worker.end()
    finally:
        for worker in workers:
            worker.end()


def in_process(performer: Performer, work: Work) -> Iterator[Done]:
    """Do the tasks here, one after the other."""
    for group in work:
        for task in group:
            yield task, attempt(performer, task)


def in_processes(recipe: Recipe, work: Work, jobs: int) -> Iterator[Done]:
    """Do the tasks in `jobs` processes of one thread each, as `dispatch` does."""
    if jobs < 1:
        raise ValueError(f"jobs: got {jobs}, requires 1 or more")
    return dispatch(lambda: _Process(recipe), work, jobs, "jobs")


class _Process:
    """A pool of one process: in a pool of several, the death of one would end them all, and not say whose task it
    was that killed."""

    death = BrokenProcessPool

    def __init__(self, recipe: Recipe) -> None:
        others = set(multiprocessing.active_children())
        self._pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
        with _ignoring_interrupts(), _one_thread():
            self.opened = self._pool.submit(_open, recipe)
        (self._process,) = set(multiprocessing.active_children()) - others

    def submit(self, task: Task) -> Future[Any]:
        return self._pool.submit(_perform, task)

    def end(self) -> str:
        self._process.terminate()
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._pool.shutdown()
        code = self._process.exitcode
        if code is not None and code < 0:
            with suppress(ValueError):
                return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"


_opened: list[Performer] = []
"""The performer of a worker's process; empty in any other. A pool's functions have nowhere else to keep it."""


def _open(recipe: Recipe) -> str | None:
    """What a worker's process does first; what is wrong with the recipe, if something is."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    try:
        _opened.append(recipe.open())
    except (ValueError, OSError) as error:
        return str(error)
    return None


def _perform(task: Task) -> Outcome:
    return attempt(_opened[0], task)


def _end_with_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
    os._exit(1)


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """A process started in here never hears of Ctrl-C, not even while its interpreter starts."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _one_thread() -> Iterator[None]:
    """A process started in here computes with one thread."""
    before = {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name in THREAD_VARIABLES:
            del os.environ[name]
        os.environ.update(before)
