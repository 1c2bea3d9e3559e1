"""LocInv (Tang et al., CVPR AI4CC 2024): token embeddings optimized until cross-attention stays inside the prior."""

from __future__ import annotations

from ..locinv_core.recipe import LOCINV
from .shared.inversion_methods import inversion_method

METHOD = inversion_method(LOCINV, "LocInv", "Tang et al. 2024", ("model", "prior"))
