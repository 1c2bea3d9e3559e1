"""Muon: momentum whose matrices are made nearly orthogonal (Jordan et al. 2024); small UNets need fewer steps.

The step's size follows Liu et al., "Muon is scalable for LLM training" (2025): rates and weight decay are as AdamW's.
``torch.optim.Muon`` takes matrices alone, one by one: here convolutions are flattened to (out, in · height · width),
matrices of one shape are made orthogonal in one call, and the workers of a training share them out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .workers import add_up, count_workers, rank

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic whose iterates drive singular values towards 1 fastest (Jordan et al.)."""
_FIRST_AND_LAST = frozenset({"conv_in", "conv_out", "embedding", "embeddings", "time_embedding", "mlm_layer"})


def orthogonalised(matrices: Tensor, *, iterations: int = 5) -> Tensor:
    """U Vᵀ of matrices U S Vᵀ, (..., m, n), nearly: singular values end between about 0.7 and 1.2.

    Newton-Schulz: X ← a X + (b G + c G²) X with G = X Xᵀ, in bf16 as the authors do. Many matrices in one
    call take a fraction of the time that one call each would.
    """
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).reshape(-1, *sorted(matrices.shape[-2:]))
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16().contiguous()
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    made = x.to(matrices.dtype)
    return (made.mT if tall else made).reshape(matrices.shape)


def split_for_muon(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(for Muon, for AdamW): weights of inner layers; and vectors, embeddings, first and last layers."""
    inner: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in module.named_parameters():
        ends = not _FIRST_AND_LAST.isdisjoint(name.split("."))
        (rest if ends or parameter.ndim < 2 else inner).append(parameter)
    return inner, rest


def build_optimizers(module: nn.Module, *, muon: float, adam: float) -> list[torch.optim.Optimizer]:
    """Muon for the inner layers, AdamW for the rest, at these peak rates, which each group remembers."""
    inner, rest = split_for_muon(module)
    adamw = torch.optim.AdamW(rest, adam, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    optimizers = [Muon(inner, muon), adamw]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; W ← (1 − lr · decay) W − lr · 0.2 √max(out, in) · O."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, *, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update from gradients that are the same in every worker."""
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            owners = _share_out([parameter.numel() for parameter in parameters], count_workers())
            updates = [torch.zeros_like(parameter) for parameter in parameters]
            mine_by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for parameter, owner, update in zip(parameters, owners, updates, strict=True):
                state = self.state[parameter]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - group["momentum"])
                if owner == rank():
                    ahead = parameter.grad.lerp(momentum, group["momentum"]).flatten(1)
                    mine_by_shape[ahead.shape].append((ahead, update))
            for alike in mine_by_shape.values():
                made = orthogonalised(torch.stack([ahead for ahead, _ in alike]))
                for one, (_, update) in zip(made, alike, strict=True):
                    update.copy_(one.view_as(update))
            add_up(updates)
            for parameter, update in zip(parameters, updates, strict=True):
                size = 0.2 * max(update.flatten(1).shape) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * size)


def _share_out(sizes: list[int], workers: int) -> list[int]:
    """Whose each item is: the largest first, always to the worker with the least."""
    load, owners = [0] * workers, [0] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        owners[index] = min(range(workers), key=load.__getitem__)
        load[owners[index]] += sizes[index]
    return owners
