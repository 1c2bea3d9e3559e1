"""Several single-threaded workers that train one model together, each on its share of every batch.

On a few CPU cores this is faster than one worker with several threads: they wait for each other once a step,
not once an operation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["average_gradients", "meet", "rank", "run_workers", "share"]


def rank() -> int:
    """This worker's number, 0 when it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def meet() -> int:
    """Wait for all workers; how many they are."""
    if not dist.is_initialized():
        return 1
    dist.barrier()
    return int(dist.get_world_size())


def share(batch: Tensor) -> Tensor:
    """This worker's rows of ``batch`` (B, ...): every ``workers``-th.

    Raises:
        ValueError: when the batch cannot be shared out evenly.
    """
    workers = dist.get_world_size() if dist.is_initialized() else 1
    if len(batch) % workers:
        raise ValueError(f"batch: got {len(batch)} rows, needs a multiple of the {workers} workers")
    return batch[rank() :: workers]


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace every worker's gradients by their mean over the workers."""
    if not dist.is_initialized():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(gradients, [part.view_as(own) for part, own in zip(parts, gradients, strict=True)])


def _worker(number: int, count: int, meeting: str, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=number, world_size=count)
    try:
        work(*arguments)
    finally:
        dist.destroy_process_group()


def run_workers(count: int, work: Callable[..., None], *arguments: Any) -> None:
    """Call ``work(*arguments)`` in ``count`` processes, or here when ``count`` is 1.

    ``work`` is a module's function; it saves what it makes in worker 0.
    """
    if count == 1:
        work(*arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        meeting = str(Path(folder) / "meeting")
        torch.multiprocessing.spawn(_worker, args=(count, meeting, work, arguments), nprocs=count)
