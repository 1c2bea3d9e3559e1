"""The sizes and types that the tests of the edit share."""

from __future__ import annotations

from collections.abc import Callable

from pinpoint.locinv_core.editing.settings import EditSettings
from pinpoint.locinv_core.inversion.ddim_inversion import Inversion
from pinpoint.locinv_core.text.prompt import Prompt

STEPS = 5
SIDE = 16
L = 77
FREE = EditSettings(cross_replace_steps=0.0, self_replace_steps=0.0, local_blend="off")

Parse = Callable[[str], Prompt]
Invert = Callable[..., Inversion]
