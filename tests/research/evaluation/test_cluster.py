"""Work on a Ray cluster: a local one of two workers, of which one is killed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinpoint.research.evaluation.execution.cluster import LOCAL, on_cluster, workers_and_gpus
from pinpoint.research.evaluation.execution.runner import Workforce, run_work
from pinpoint.tests.research.evaluation.fake_work import (
    DevicesRecipe,
    FakeRecipe,
    alive,
    begun,
    items,
    process_ids,
    tasks,
    variants,
)


def test_without_ray_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ray", "ray.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    log = tmp_path / "log"
    with pytest.raises(ValueError, match=r'pip install "comfyui-pinpoint\[cluster\]"'):
        run_work(FakeRecipe(log), items(tmp_path, 1), variants("a"), tmp_path, workforce=Workforce(cluster=LOCAL))
    assert begun(log) == []


@pytest.mark.parametrize(
    ("resources", "jobs", "expected"),
    [
        ({"CPU": 8.0}, None, (8, 0.0)),
        ({"CPU": 8.0}, 3, (3, 0.0)),
        ({}, None, (1, 0.0)),
        ({"CPU": 64.0, "GPU": 2.0}, None, (2, 1.0)),
        ({"CPU": 64.0, "GPU": 2.0}, 1, (1, 1.0)),
        # Two on one GPU and one on the other.
        ({"CPU": 64.0, "GPU": 2.0}, 3, (3, 0.5)),
        ({"CPU": 64.0, "GPU": 2.0}, 8, (8, 0.25)),
    ],
)
def test_workers_share_the_gpus_that_there_are(
    resources: dict[str, float], jobs: int | None, expected: tuple[int, float]
) -> None:
    assert workers_and_gpus(resources, jobs) == expected


@pytest.mark.slow
def test_a_worker_sees_the_gpu_that_is_its_own_and_no_other(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    # Ray hands GPUs out by their number, whether there are any or not.
    ray.init(address=LOCAL, num_cpus=2, num_gpus=2, include_dashboard=False)
    try:
        rows = run_work(
            DevicesRecipe(), items(tmp_path, 3), variants("a"), tmp_path, workforce=Workforce(cluster=LOCAL)
        )
    finally:
        ray.shutdown()
    assert [row["metrics"] for row in rows] == [{"devices": 1.0}] * 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two machines (two of its processes, here) of one CPU each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        machines.add_node(num_cpus=1)
        machines.wait_for_nodes()
        yield machines.address
    finally:
        machines.shutdown()


@pytest.mark.slow
def test_a_cluster_does_everything_once_and_this_process_writes_it(cluster: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    workforce = Workforce(cluster=cluster)
    rows = run_work(FakeRecipe(log), items(tmp_path, 4), variants("a", "b"), tmp_path, workforce=workforce)
    expected = [f"item-{n} {m}" for n in range(4) for m in "ab"]
    assert [f"{row['item']} {row['method']}" for row in rows] == expected
    assert sorted(begun(log)) == expected
    assert os.getpid() not in process_ids(log)
    assert (tmp_path / "pictures/b/item-3.png").read_bytes() == b"image of item-3 b"


@pytest.mark.slow
def test_a_run_on_two_workers_survives_one_of_them_being_killed(cluster: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    recipe = FakeRecipe(log, fatal_once=["item-1 a"], deadly=["item-2 b"], failing=["item-0 b"])
    workforce = Workforce(2, cluster=cluster)
    rows = run_work(recipe, items(tmp_path, 4), variants("a", "b"), tmp_path, workforce=workforce)
    errors = {f"{row['item']} {row['method']}": row["error"] for row in rows if row["error"]}
    assert errors == {
        "item-0 b": "RuntimeError: no item-0 b today",
        "item-2 b": "the worker died 2 times (its process or machine is gone)",
    }
    assert (begun(log).count("item-1 a"), begun(log).count("item-2 b")) == (2, 2)
    assert len(begun(log)) == 10
    assert len(set(process_ids(log))) >= 4, "each of three deaths calls for another worker"


@pytest.mark.slow
def test_what_a_worker_of_the_cluster_refuses_is_raised_here(cluster: str, tmp_path: Path) -> None:
    recipe = FakeRecipe(tmp_path / "log", refuses="no weights on this machine")
    work = tasks(tmp_path, 2, "a")
    with pytest.raises(ValueError, match="no weights on this machine"):
        list(on_cluster(recipe, work, cluster))


@pytest.mark.slow
def test_leaving_early_ends_the_workers(cluster: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    work = tasks(tmp_path, 3, "a")
    outcomes = on_cluster(FakeRecipe(log, slow=["item-0 a"]), work, cluster)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    end = time.monotonic() + 60
    while any(alive(process) for process in process_ids(log)) and time.monotonic() < end:
        time.sleep(0.2)
    assert not any(alive(process) for process in process_ids(log))


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("localhost:1", "no Ray cluster answers at 'localhost:1' .*requires host:port"),
        ("ray://localhost:1", "no Ray cluster answers at 'ray://localhost:1'"),
        ("somewhere", "got 'somewhere', requires host:port"),
    ],
)
def test_an_address_where_no_cluster_is_is_refused(address: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    log, workforce = tmp_path / "log", Workforce(cluster=address)
    with pytest.raises(ValueError, match=message):
        run_work(FakeRecipe(log), items(tmp_path, 1), variants("a"), tmp_path, workforce=workforce)
    assert begun(log) == []
