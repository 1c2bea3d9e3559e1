"""The choices by name of Learnable Regions, but for editors (`editors.registry`). Imports nothing that is heavy."""

from __future__ import annotations

from typing import Literal, get_args

Anchors = Literal["dino", "random"]
"""Where boxes are proposed."""

Sizes = Literal["learned", "random"]
"""Squares to choose from around each anchor, or one box of any size."""

Estimator = Literal["expected", "straight-through"]
"""How the gradient is estimated."""

PlanName = Literal["preview", "screened", "halving", "stand-in", "full", "shortlist"]
"""How boxes are judged for learning: each edited in full, or cheaper."""

ANCHORS: tuple[str, ...] = get_args(Anchors)
SIZES: tuple[str, ...] = get_args(Sizes)
ESTIMATORS: tuple[str, ...] = get_args(Estimator)
PLAN_NAMES: tuple[str, ...] = get_args(PlanName)
