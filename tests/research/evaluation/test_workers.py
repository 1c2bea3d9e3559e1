"""Several processes: everything is done once, the dead are replaced, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pinpoint.research.evaluation.execution.runner import Workforce, run_work
from pinpoint.research.evaluation.execution.work_items import TaskQueue, WorkItem
from pinpoint.research.evaluation.execution.workers import in_processes
from pinpoint.tests.research.evaluation.fake_work import (
    FakeRecipe,
    ThreadsRecipe,
    alive,
    begun,
    items,
    process_ids,
    variants,
    wait_for,
)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def work(folder: Path, count: int, *methods: str) -> list[WorkItem]:
    return [WorkItem(item, tuple(variants(*methods))) for item in items(folder, count)]


# The queue


def test_a_worker_keeps_an_item_until_all_its_variants_are_done(tmp_path: Path) -> None:
    queue = TaskQueue(work(tmp_path, 2, "a", "b"))
    first, second = queue.take(7), queue.take(8)
    assert first is not None and first.key == ("item-0", "a")
    assert second is not None and second.key == ("item-1", "a")
    assert queue.take(7) == first
    assert queue.done(7).key == ("item-0", "a")
    after = queue.take(7)
    assert after is not None and after.key == ("item-0", "b")
    queue.done(7)
    assert queue.take(7) is None and queue.open
    queue.done(8), queue.done(8)
    assert not queue.open


def test_the_first_death_gives_the_task_to_another_worker_and_the_second_gives_it_up(tmp_path: Path) -> None:
    queue = TaskQueue(work(tmp_path, 1, "a", "b", "c"))
    queue.take(0)
    queue.done(0)
    assert queue.died(0) is None
    again = queue.take(1)
    assert again is not None and again.key == ("item-0", "b")
    given_up = queue.died(1)
    assert given_up is not None and given_up.key == ("item-0", "b")
    rest = queue.take(2)
    assert rest is not None and rest.key == ("item-0", "c")
    assert queue.died(2) is None, "each task has its own two attempts"
    assert queue.died(9) is None, "a worker that held nothing takes nothing with it"


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
        list(in_processes(FakeRecipe(log, refuses="no weights on this machine"), work(tmp_path, 2, "a"), 2))


def test_workers_that_all_die_while_they_open_end_the_run(tmp_path: Path, log: Path) -> None:
    (tmp_path / "opened once").touch()
    with pytest.raises(ChildProcessError, match=r"3 workers in a row died .*killed by SIGKILL"):
        list(in_processes(FakeRecipe(log, dies_opening=True), work(tmp_path, 2, "a"), 1))


def test_a_loop_that_is_left_early_leaves_no_process_behind(tmp_path: Path, log: Path) -> None:
    outcomes = in_processes(FakeRecipe(log, slow=["item-0 a"]), work(tmp_path, 3, "a"), 2)
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
