"""The choices by name of settings, the command line and the nodes. Imports nothing that is heavy."""

from __future__ import annotations

from typing import Literal, get_args

NullMethod = Literal["direct", "null-text", "negative-prompt", "proximal", "none"]
"""How guided sampling is made to give the image back."""

Solver = Literal["fast", "exact"]
"""How token embeddings are optimized: through one layer's keys alone, or through the UNet."""

Tokens = Literal["off", "fast", "exact"]
"""The solver, or none."""

LocalBlendMode = Literal["auto", "off", "prior", "prior+map", "map"]
"""Where a target may differ from the source (see `editing.local_blend`)."""

TargetEmbeddings = Literal["original", "tuned", "keys"]
"""What a target prompt takes of the tuned vectors of the words that it shares with the source."""

AttributeAttention = Literal["original", "tuned"]
"""How the word of an object that changes its look alone attends inside its own mask."""

Keep = Literal["best", "all"]
"""Which of the boxes that a detector finds for a word are kept."""

NULL_METHODS: tuple[str, ...] = get_args(NullMethod)
SOLVERS: tuple[str, ...] = get_args(Solver)
TOKENS: tuple[str, ...] = get_args(Tokens)
LOCAL_BLENDS: tuple[str, ...] = get_args(LocalBlendMode)
TARGET_EMBEDDINGS: tuple[str, ...] = get_args(TargetEmbeddings)
ATTRIBUTE_ATTENTION: tuple[str, ...] = get_args(AttributeAttention)
KEEPS: tuple[str, ...] = get_args(Keep)
