"""Several processes: everything is done once, the dead are replaced, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from pinpoint.research.evaluation.execution.runner import Workforce, run_work
from pinpoint.research.evaluation.execution.work_items import Outcome, Task
from pinpoint.research.evaluation.execution.workers import dispatch, in_processes
from pinpoint.tests.research.evaluation.fake_work import (
    FakeRecipe,
    ThreadsRecipe,
    alive,
    begun,
    items,
    process_ids,
    tasks,
    variants,
    wait_for,
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


# The order of the work


class Workers:
    """Starts workers that do each task at once, or die of it as often as `deaths` says."""

    def __init__(self, **deaths: int) -> None:
        self.deaths = Counter(deaths)
        self.begun: list[tuple[int, str, str]] = []
        self.alive: list[int] = []
        self.started = 0

    def start(self) -> InstantWorker:
        self.started += 1
        return InstantWorker(self, self.started)


class InstantWorker:
    death = ConnectionError

    def __init__(self, workers: Workers, number: int) -> None:
        self.workers, self.number = workers, number
        workers.alive.append(number)
        self.opened: Future[Any] = Future()
        self.opened.set_result(None)

    def submit(self, task: Task) -> Future[Any]:
        item, method = task.key
        self.workers.begun.append((self.number, item, method))
        made: Future[Any] = Future()
        if self.workers.deaths[method]:
            self.workers.deaths[method] -= 1
            made.set_exception(ConnectionError())
        else:
            made.set_result(Outcome(metrics={"worker": self.number}))
        return made

    def end(self) -> str:
        self.workers.alive.remove(self.number)
        return "gone"


def test_a_worker_does_all_variants_of_an_item_in_turn(tmp_path: Path) -> None:
    workers = Workers()
    outcomes = list(dispatch(workers.start, tasks(tmp_path, 5, "a", "b"), 2, "jobs"))
    assert sorted(task.key for task, _ in outcomes) == [(f"item-{n}", m) for n in range(5) for m in "ab"]
    by_item = {item: [(n, m) for n, i, m in workers.begun if i == item] for _, item, _ in workers.begun}
    assert all(own == [(own[0][0], "a"), (own[0][0], "b")] for own in by_item.values())
    assert len({number for number, _, _ in workers.begun}) == 2
    assert workers.alive == []


def test_the_first_death_gives_the_task_to_another_worker_and_the_second_gives_it_up(tmp_path: Path) -> None:
    workers = Workers(b=2, c=1)
    outcomes = list(dispatch(workers.start, tasks(tmp_path, 1, "a", "b", "c"), 1, "jobs"))
    assert [method for _, _, method in workers.begun] == ["a", "b", "b", "c", "c"]
    assert [(task.variant.name, outcome.error) for task, outcome in outcomes] == [
        ("a", None),
        ("b", "the worker died 2 times (gone)"),
        ("c", None),
    ]
    assert workers.alive == []


# The processes


def test_every_task_is_done_once_by_the_processes_and_written_by_this_one(tmp_path: Path, log: Path) -> None:
    all_items = items(tmp_path, 6)
    rows = run_work(FakeRecipe(log), all_items, variants("a", "b"), tmp_path, workforce=Workforce(2))
    expected = [f"item-{n} {m}" for n in range(6) for m in "ab"]
    assert [f"{row['item']} {row['method']}" for row in rows] == expected
    assert sorted(begun(log)) == expected
    assert os.getpid() not in process_ids(log)
    assert 1 <= len(set(process_ids(log))) <= 2
    for name in expected:
        item, _, method = name.partition(" ")
        assert (tmp_path / f"pictures/{method}/{item}.png").read_bytes() == b"image of " + name.encode()
    assert not any(alive(process) for process in set(process_ids(log)))


def test_a_worker_that_dies_is_replaced_and_its_task_begun_once_more(tmp_path: Path, log: Path) -> None:
    recipe = FakeRecipe(log, fatal_once=["item-1 a"])
    rows = run_work(recipe, items(tmp_path, 3), variants("a", "b"), tmp_path, workforce=Workforce(2))
    assert [row["error"] for row in rows] == [None] * 6
    assert begun(log).count("item-1 a") == 2
    assert len(begun(log)) == 7


def test_a_task_that_kills_every_worker_is_written_down_and_the_others_are_done(tmp_path: Path, log: Path) -> None:
    recipe = FakeRecipe(log, deadly=["item-1 a"], failing=["item-2 b"])
    rows = run_work(recipe, items(tmp_path, 3), variants("a", "b"), tmp_path, workforce=Workforce(2))
    errors = {(row["item"], row["method"]): row["error"] for row in rows if row["error"]}
    assert errors == {
        ("item-1", "a"): "the worker died 2 times (killed by SIGKILL)",
        ("item-2", "b"): "RuntimeError: no item-2 b today",
    }
    assert begun(log).count("item-1 a") == 2


def test_what_a_worker_refuses_is_raised_here(tmp_path: Path, log: Path) -> None:
    with pytest.raises(ValueError, match="no weights on this machine"):
        list(in_processes(FakeRecipe(log, refuses="no weights on this machine"), tasks(tmp_path, 2, "a"), 2))


def test_workers_that_all_die_while_they_open_end_the_run(tmp_path: Path, log: Path) -> None:
    (tmp_path / "opened once").touch()
    with pytest.raises(ChildProcessError, match=r"3 workers in a row died .*killed by SIGKILL"):
        list(in_processes(FakeRecipe(log, dies_opening=True), tasks(tmp_path, 2, "a"), 1))


def test_a_loop_that_is_left_early_leaves_no_process_behind(tmp_path: Path, log: Path) -> None:
    outcomes = in_processes(FakeRecipe(log, slow=["item-0 a"]), tasks(tmp_path, 3, "a"), 2)
    task, _ = next(outcomes)
    assert task.key == ("item-1", "a")
    wait_for("item-0 a", log)
    outcomes.close()  # type: ignore[attr-defined]
    assert not any(alive(process) for process in process_ids(log))


@pytest.mark.parametrize(("kill", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_ctrl_c_and_a_kill_end_the_workers_too(kill: signal.Signals, code: int, tmp_path: Path, log: Path) -> None:
    script = f"""
import signal
import sys
from pathlib import Path
from pinpoint.research.evaluation.execution.runner import Workforce, run_work
from pinpoint.tests.research.evaluation.fake_work import FakeRecipe, items, variants
# Tests that a shell has put into the background ignore Ctrl-C, and so would this.
signal.signal(signal.SIGINT, signal.default_int_handler)
folder = Path({str(tmp_path)!r})
slow = ["item-0 a", "item-1 a"]
try:
    run_work(FakeRecipe(folder / "log", slow=slow), items(folder, 3), variants("a"), folder,
             workforce=Workforce(2))
except KeyboardInterrupt:
    sys.exit(130)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], start_new_session=True, stderr=subprocess.PIPE, text=True
    )
    wait_for("item-0 a", log)
    wait_for("item-1 a", log)
    if kill == signal.SIGINT:
        os.killpg(process.pid, kill)  # as a terminal does: the whole group hears of it
    else:
        os.kill(process.pid, kill)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Traceback" not in err
    workers = process_ids(log)
    end = time.monotonic() + 30
    while any(alive(worker) for worker in workers) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(alive(worker) for worker in workers)


def test_a_worker_computes_with_one_thread(tmp_path: Path) -> None:
    rows = run_work(ThreadsRecipe(), items(tmp_path, 2), variants("a"), tmp_path, workforce=Workforce(2))
    assert [row["metrics"] for row in rows] == [{"threads": 1.0}] * 2
