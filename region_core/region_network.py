"""The region generation network S (Learnable Regions Eq. 2), and the Gumbel-softmax choice it is trained by."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .proposals import POOLED

_CHANNELS = (16, 8)
_HIDDEN = 32


class RegionNetwork(nn.Module):
    """Two convolutions and two linear layers with ReLU between: [f_1 … f_M] (K, M·d, 7, 7) to logits (K, M).

    features: d. boxes: M. The same `seed` gives the same weights; torch's own random numbers are left alone.
    """

    def __init__(self, features: int, boxes: int, *, seed: int = 0) -> None:
        super().__init__()
        if features < 1 or boxes < 1:
            raise ValueError(f"region network: got d = {features} and M = {boxes}, requires 1 or more of each")
        channels = boxes * features
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            first = nn.Conv2d(channels, _CHANNELS[0], 1)
            self.layers = nn.Sequential(
                first,
                nn.ReLU(),
                nn.Conv2d(_CHANNELS[0], _CHANNELS[1], 1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(_CHANNELS[1] * POOLED * POOLED, _HIDDEN),
                nn.ReLU(),
                nn.Linear(_HIDDEN, boxes),
            )
            # M·d is in the thousands, and Adam moves every weight by the learning rate: small weights would leap.
            # So they have size 1, and the features are made small (see forward): the same function, calm steps.
            nn.init.normal_(first.weight, std=math.sqrt(2.0))

    def forward(self, pooled: Tensor) -> Tensor:
        """S([f_1 … f_M]) = [π_1 … π_M] (Learnable Regions Eq. 2): (K, M·d, 7, 7) to logits (K, M)."""
        logits: Tensor = self.layers(pooled / math.sqrt(pooled.shape[1]))
        return logits


def gumbel_choice(
    logits: Tensor, temperature: float = 1.0, generator: torch.Generator | None = None, *, hard: bool = True
) -> Tensor:
    """Draw one box an anchor: logits (K, M) to one-hot rows (K, M), with the gradient of a softmax.

    g_j = −log(−log u_j), u_j ~ Uniform(0, 1) is added to π_j (Learnable Regions §3.1). `hard`: forward the argmax,
    backward softmax((π + g) / temperature), which is the straight-through estimator; otherwise that softmax
    both ways. `generator` is on the CPU. Raises ValueError for a temperature that is not above 0.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature: got {temperature}, requires a number above 0")
    smallest = torch.finfo(torch.float32).tiny
    uniform = torch.rand(logits.shape, generator=generator).clamp(smallest, 1 - 2**-24)
    noise = -torch.log(-torch.log(uniform)).to(logits)
    soft = F.softmax((logits + noise) / temperature, dim=-1)
    if not hard:
        return soft
    one_hot = F.one_hot(soft.argmax(dim=-1), logits.shape[-1]).to(soft)
    return one_hot + soft - soft.detach()
