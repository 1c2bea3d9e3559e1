"""Single-threaded workers that train one model, each on its share of every batch: on a few CPU cores faster than one
worker with several threads, as they wait for each other once a step, not once an operation."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from einops import rearrange
from torch import Tensor, nn


def rank() -> int:
    """This worker's number, 0 when it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def count_workers() -> int:
    """How many workers train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def meet() -> None:
    """Wait for all workers."""
    if dist.is_initialized():
        dist.barrier()


def share(batch: Tensor) -> Tensor:
    """This worker's rows of ``batch`` (B, ...): every ``workers``-th.

    Raises:
        ValueError: when the batch cannot be shared out evenly.
    """
    workers = count_workers()
    if len(batch) % workers:
        raise ValueError(f"batch: got {len(batch)} rows, requires a multiple of the {workers} workers")
    return batch[rank() :: workers]


def gathered(rows: Tensor) -> Tensor:
    """The rows of all workers' shares (B / W, d), in the batch's order before it was shared: (B, d).

    Gradients flow to this worker's own rows, times the number of workers: their mean over workers is the gradient of
    a loss of all rows that every worker takes.
    """
    if not dist.is_initialized():
        return rows
    workers = count_workers()
    parts = [torch.empty_like(rows) for _ in range(workers)]
    dist.all_gather(parts, rows.detach().contiguous())
    parts[rank()] = workers * rows - (workers - 1) * rows.detach()
    return rearrange(parts, "workers rows d -> (rows workers) d")


@torch.no_grad()
def add_up(tensors: Sequence[Tensor], divisor: int = 1) -> None:
    """Replace every worker's tensors by their sums over the workers, divided by ``divisor``."""
    if not dist.is_initialized() or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    parts = (flat / divisor).split([tensor.numel() for tensor in tensors])
    torch._foreach_copy_(list(tensors), [part.view_as(own) for part, own in zip(parts, tensors, strict=True)])


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every worker's gradients by their mean over the workers."""
    add_up([parameter.grad for parameter in parameters if parameter.grad is not None], count_workers())


def _worker(number: int, count: int, meeting: str, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=number, world_size=count)
    try:
        work(*arguments)
    finally:
        dist.destroy_process_group()


def run_workers(count: int, work: Callable[..., None], *arguments: Any) -> None:
    """Call ``work(*arguments)``, a module's function, in ``count`` processes, or here when ``count`` is 1."""
    if count == 1:
        work(*arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        torch.multiprocessing.spawn(_worker, args=(count, meeting, work, arguments), nprocs=count)
