"""An edit of an inverted image: Prompt-to-Prompt with what the inversion and the settings bring to it.

Those are proximal guidance, after proximal negative-prompt inversion, and attribute preservation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..backbones.base import Backbone
from ..cost import CostTracker
from ..inversion.ddim_inversion import Inversion
from ..localization.priors import LocalizationPrior
from ..text.prompt import Prompt
from ..text.word_alignment import align
from .attention_control import check_words
from .attribute_preservation import preserved_attention
from .local_blend import blended_objects
from .prompt_to_prompt import Edit, plan_edit, prompt_to_prompt
from .proximal import ProximalStep
from .settings import EditSettings


@torch.no_grad()
def edit(
    model: Backbone,
    inversion: Inversion,
    targets: Sequence[Prompt],
    settings: EditSettings | None = None,
    *,
    prior: LocalizationPrior | None = None,
    tracker: CostTracker | None = None,
) -> Edit:
    """Edit an inverted image towards each of n target prompts.

    A step costs 1 + 2n passes with Direct Inversion, null-text and both kinds of negative prompt, 2 + 2n
    without any; at guidance 1 (proximal aside) 1 + n. Null text is used with any guidance, though it
    reconstructs at the one that it was fitted for; the source branch replays what it was then.
    prior: masks of source words at the image's size, for local blend and attribute preservation.
    Raises ValueError for an inversion of another model, no targets or ones of another tokenizer, words of the
    settings that no target has, a prior of another size than the image, and a local blend without its prior.
    """
    settings = settings or EditSettings()
    plan = plan_edit(model, inversion, targets, settings, prior)
    proximal = None
    if inversion.null_method == "proximal":
        clean = inversion.pivot(inversion.steps).to(model.device, torch.float32)
        proximal = ProximalStep(model.schedule, settings, clean)
    preserved = preserved_attention(model, inversion, plan.targets, plan.alignments, settings, prior)
    return prompt_to_prompt(model, inversion, plan, sampling=proximal, source_attention=preserved, tracker=tracker)


def check_choices(
    model: Backbone,
    source: Prompt,
    targets: Sequence[Prompt],
    settings: EditSettings,
    prior: LocalizationPrior | None = None,
) -> None:
    """Raise ValueError, before there is an inversion, for what `edit` would refuse of the settings: a word
    that no target has, a local blend without its prior."""
    check_words(targets, settings)
    for target in targets:
        blended_objects(source, target, align(source, target), settings, prior)
