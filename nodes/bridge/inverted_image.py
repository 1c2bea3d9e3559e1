"""What travels between the stages: an inversion with its image, framing and model; and word maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from ...locinv_core.imaging.padding import Padding
    from ...locinv_core.inversion.ddim_inversion import Inversion
    from ...locinv_core.localization.priors import LocalizationPrior
    from ...locinv_core.text.prompt import Prompt
    from .managed_model import ManagedModel
    from .previews import LatentPreview


@dataclass(frozen=True)
class InvertedImage:
    """An inversion, and what later stages need to know of where it came from."""

    model: ManagedModel
    image: Tensor
    """(1, 3, H, W) in [0, 1], as it came in."""
    framing: Padding
    """From the image's own size to the padded one that was inverted."""
    inversion: Inversion

    def with_inversion(self, inversion: Inversion) -> InvertedImage:
        """The same image with another inversion."""
        return replace(self, inversion=inversion)

    def framed(self, prior: LocalizationPrior) -> LocalizationPrior:
        """The prior on the padded image. Raises ValueError for a prior of another size."""

        return prior.padded(self.framing)

    def on_image(self, values: Tensor) -> Tensor:
        """A map (rows, columns) of the padded image as one (H, W) of the image."""

        return self.framing.map_to_pixels(values.cpu())

    def preview(self) -> LatentPreview:
        """How latents of this image look."""
        from .previews import LatentPreview

        return LatentPreview.fit(self.inversion.latents[:1], self.framing.pad_image(self.image))


@dataclass(frozen=True)
class WordMaps:
    """Where the words of a prompt look: maps (H, W) at the image's size, by word.

    `before` are those of the same words before tuning; empty where there are none. `by_step` and
    `before_by_step` are the maps at each step, noisiest first, reduced to a small size; empty where they were
    not read.
    """

    image: Tensor
    """(1, 3, H, W): what the maps are drawn over."""
    maps: Mapping[str, Tensor]
    before: Mapping[str, Tensor]
    by_step: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)
    before_by_step: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)


def check_prompt(prompt: Prompt, model: ManagedModel) -> None:
    """Raise ValueError unless the prompt was read by this model's tokenizer."""
    from ...locinv_core.text.prompt import parse_prompt

    if parse_prompt(prompt.text, model.model.tokenizer).token_ids != prompt.token_ids:
        raise ValueError(
            f"prompt: {prompt.text!r} was read for another model than {model.model.name!r}; requires the same"
            " model on Parse Prompt"
        )


def noun_names(prompt: Prompt) -> list[str]:
    """What other nodes call the words that name objects: the second cat is cat#2."""
    from ...locinv_core.localization.plan import word_name

    return [word_name(prompt, index) for index in prompt.nouns]
