"""One mask, drawn by hand, that the tests of priors know in every form."""

from __future__ import annotations

import numpy as np
import torch

SIZE = (6, 8)
DRAWN = np.zeros(SIZE, dtype=bool)
DRAWN[1:4, 2:7] = True


def drawn() -> torch.Tensor:
    return torch.from_numpy(DRAWN).float()
