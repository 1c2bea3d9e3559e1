"""Who does the tasks: this process, or several on this machine that are replaced when they die."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Final, Literal

from .work_items import ATTEMPTS, Outcome, Performer, Recipe, Task, TaskQueue, WorkItem, attempt

Done = tuple[Task, Outcome]

READY: Final = "ready"
REFUSED: Final = "refused"
OUTCOME: Final = "outcome"
Message = tuple[Literal["ready", "refused", "outcome"], Any]

LOST_STARTS = 3
"""Workers in a row that may die before they are ready."""
PATIENCE = 5.0
"""Seconds that a worker gets to end when it is told to."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def in_process(performer: Performer, work: Sequence[WorkItem], seed: int = 0) -> Iterator[Done]:
    """Do the tasks here, one after the other."""
    queue = TaskQueue(work, seed)
    while (task := queue.take(0)) is not None:
        yield task, attempt(performer, task)
        queue.done(0)


def in_processes(recipe: Recipe, work: Sequence[WorkItem], jobs: int, seed: int = 0) -> Iterator[Done]:
    """Do the tasks in `jobs` processes of one thread each; outcomes come in the order in which they are done.

    A worker that dies is replaced and its task begun once more; if that kills a worker again, the task's
    outcome is an error. However the loop over this ends, Ctrl-C too, the workers are ended.
    Raises ValueError where a worker cannot open the recipe, ChildProcessError where they die of it.
    """
    if jobs < 1:
        raise ValueError(f"jobs: got {jobs}, requires 1 or more")
    queue = TaskQueue(work, seed)
    workers: dict[int, _Worker] = {}
    started = lost_starts = 0
    try:
        while queue.open:
            idle = sum(worker.idle for worker in workers.values())
            while len(workers) < jobs and queue.waiting > idle + started_up(workers):
                workers[started] = _Worker.start(recipe)
                started += 1
            for number, worker in list(workers.items()):
                if worker.idle and (task := queue.take(number)) is not None:
                    worker.send(task)
            by_connection = {worker.connection: number for number, worker in workers.items()}
            for connection in wait(list(by_connection)):
                number = by_connection[connection]  # type: ignore[index]
                worker = workers[number]
                message = worker.receive()
                if message is None:
                    del workers[number]
                    code = worker.end()
                    lost_starts = 0 if worker.opened else lost_starts + 1
                    if lost_starts >= LOST_STARTS:
                        raise ChildProcessError(
                            f"jobs: {lost_starts} workers in a row died while they opened the model"
                            f" ({_way_of_dying(code)}); requires fewer jobs or more memory"
                        )
                    if (task := queue.died(number)) is not None:
                        yield task, lost_outcome(_way_of_dying(code))
                    continue
                kind, content = message
                if kind == REFUSED:
                    raise ValueError(content)
                lost_starts = 0
                if kind == OUTCOME:
                    yield queue.done(number), content
    finally:
        for worker in workers.values():
            worker.process.terminate()
        for worker in workers.values():
            worker.end()


def lost_outcome(reason: str) -> Outcome:
    """The outcome of a task that each of its workers has died of."""
    return Outcome(error=f"the worker died {ATTEMPTS} times ({reason})")


@dataclass
class _Worker:
    """One process, and what is known of it here."""

    process: BaseProcess
    connection: Connection
    opened: bool = False
    idle: bool = False

    @classmethod
    def start(cls, recipe: Recipe) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True)
        with _ignoring_interrupts(), _one_thread():
            process.start()
        theirs.close()
        worker = cls(process, ours)
        with suppress(OSError):
            ours.send(recipe)
        return worker

    def send(self, task: Task) -> None:
        self.idle = False
        with suppress(OSError):  # it is dead, which is seen when its answer is read
            self.connection.send(task)

    def receive(self) -> Message | None:
        """What it says; None where it is dead."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            return None
        self.opened = True
        self.idle = True
        return message

    def end(self) -> int | None:
        """Wait for it, not for ever; its exit code."""
        self.connection.close()
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        return self.process.exitcode


def started_up(workers: dict[int, _Worker]) -> int:
    """How many workers are still opening their recipe."""
    return sum(not worker.opened for worker in workers.values())


def _work(connection: Connection) -> None:
    """A worker's life: open the recipe, then one task after the other until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        recipe: Recipe = connection.recv()
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)
        try:
            performer = recipe.open()
        except (ValueError, OSError) as error:
            connection.send((REFUSED, str(error)))
            return
        connection.send((READY, None))
        while True:
            connection.send((OUTCOME, attempt(performer, connection.recv())))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
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
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _way_of_dying(code: int | None) -> str:
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"
