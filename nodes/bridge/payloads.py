"""What travels between nodes: an inversion with its image, an edit, word maps, proposed and judged regions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ...locinv_core.cost import CostTracker

if TYPE_CHECKING:
    from torch import Tensor

    from ...locinv_core.imaging.padding import Padding
    from ...locinv_core.inversion.ddim_inversion import Inversion
    from ...locinv_core.localization.priors import LocalizationPrior
    from ...locinv_core.recipe import EditFunction
    from ...locinv_core.text.prompt import Prompt
    from ...region_core.editors.base import Editor
    from ...region_core.encoders.clip import ClipEncoder
    from ...region_core.encoders.vit import PatchFeatures
    from ...region_core.proposals import RegionProposals
    from ...region_core.scorer import Candidate, RegionEdit
    from ...region_core.search.edit_cache import BoxEdits
    from ...region_core.trainer import RegionScores
    from .memory import Managed, ManagedEditor, ManagedModel
    from .previews import LatentPreview
    from .progress import NodeTracker

T = TypeVar("T")
RANKINGS = 4
"""How many weightings' edits are kept of one judging."""


@dataclass(frozen=True)
class InvertedImage:
    """An inversion, and what later stages need to know of where it came from."""

    model: ManagedModel
    image: Tensor
    """(1, 3, H, W) in [0, 1], as it came in."""
    padding: Padding
    """From the image's own size to the padded one that was inverted."""
    inversion: Inversion

    def with_inversion(self, inversion: Inversion) -> InvertedImage:
        """The same image with another inversion."""
        return replace(self, inversion=inversion)

    def padded(self, prior: LocalizationPrior) -> LocalizationPrior:
        """The prior on the padded image. Raises ValueError for a prior of another size."""
        return prior.padded(self.padding)

    def on_image(self, values: Tensor) -> Tensor:
        """A map (rows, columns) of the padded image as one (H, W) of the image."""
        return self.padding.map_to_pixels(values.cpu())

    def preview(self) -> LatentPreview:
        """How latents of this image look."""
        from .previews import LatentPreview

        return LatentPreview.fit(self.inversion.latents[:1], self.padding.pad_image(self.image))


def check_prompt(prompt: Prompt, model: ManagedModel) -> None:
    """Raise ValueError unless the prompt was read by this model's tokenizer."""
    from ...locinv_core.text.prompt import parse_prompt

    if parse_prompt(prompt.text, model.value.tokenizer).token_ids != prompt.token_ids:
        raise ValueError(
            f"prompt: {prompt.text!r} was read for another model than {model.value.name!r}; requires the same"
            " model on Parse Prompt"
        )


def noun_names(prompt: Prompt) -> list[str]:
    """What other nodes call the words that name objects: the second cat is cat#2."""
    from ...locinv_core.localization.plan import word_name

    return [word_name(prompt, index) for index in prompt.nouns]


@dataclass(frozen=True)
class WordMaps:
    """Cross-attention maps (H, W) of words at the image's size.

    `before` are those of the same words before optimization; empty where there are none. `by_step` and
    `before_by_step` are the maps at each step, noisiest first, reduced to a small size; empty where they were
    not read.
    """

    image: Tensor
    """(1, 3, H, W): what the maps are drawn over."""
    maps: Mapping[str, Tensor]
    before: Mapping[str, Tensor]
    by_step: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)
    before_by_step: Mapping[str, Sequence[Tensor]] = field(default_factory=dict)

    def only(self, words: Sequence[str]) -> WordMaps:
        """The maps of `words`; all without any. Raises ValueError for a word that has none."""
        if not words:
            return self
        spelled = {name.casefold(): name for name in reversed(list(self.maps))}
        for word in words:
            if word.casefold() not in spelled:
                raise ValueError(f"words: there is no map of {word!r}; there are maps of: {', '.join(self.maps)}")
        names = [spelled[word.casefold()] for word in words]

        def kept(values: Mapping[str, T]) -> dict[str, T]:
            return {name: values[name] for name in names if name in values}

        return WordMaps(self.image, kept(self.maps), kept(self.before), kept(self.by_step), kept(self.before_by_step))

    def masks_of(self, prior: LocalizationPrior | None) -> dict[str, Tensor]:
        """The prior's masks (H, W) of these words, whatever their capitals; none without a prior.

        Raises ValueError for a prior of another size than the image's.
        """
        from ...locinv_core.localization.priors import prior_word

        if prior is None:
            return {}
        height, width = self.image.shape[-2:]
        if prior.size != (height, width):
            raise ValueError(
                f"prior: its masks have {prior.size[1]}x{prior.size[0]} pixels, requires the image's {width}x{height}"
            )
        keys = {word: prior_word(word) for word in self.maps}
        return {word: prior.masks[key] for word, key in keys.items() if key in prior.masks}

    def shares(self) -> Tensor:
        """(words, H, W): each map as a share of its maximum."""
        import torch

        stacked = torch.stack(list(self.maps.values()))
        return stacked / stacked.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)


def read_maps(
    source: InvertedImage, words: Sequence[str], prior: LocalizationPrior | None, tracker: CostTracker
) -> WordMaps:
    """The maps of `words` at the inversion's latents, after optimization and, if there was any, before it.

    Without words: the prior's, and all other nouns. Raises ValueError for a word that the prompt lacks and
    for a prior of another size or of other words.
    """
    from ...locinv_core.localization.attention_maps import maps_by_step
    from ...locinv_core.localization.plan import word_name
    from ...locinv_core.localization.priors import prior_word
    from .ui_payloads import STEP_SIDE, reduced

    inversion = source.inversion
    prompt = inversion.prompt
    located: tuple[str, ...] = ()
    if prior is not None:
        source.padded(prior).check_against(prompt)
        located = prior.words
    if not words:
        words = [*located, *(name for name in noun_names(prompt) if prior_word(name) not in located)]
    if not words:
        words = [word_name(prompt, index) for index in range(len(prompt.words))]
    for word in words:
        prompt.find(word)
    with source.model.ready() as model, tracker.stage("maps"):
        before, after = maps_by_step(model, inversion, words, tracker=tracker)
    if inversion.token_vectors is None:
        before = {}

    def mean(by_word: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {word: source.on_image(maps.mean(dim=0)) for word, maps in by_word.items()}

    def small(by_word: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        return {word: [reduced(source.on_image(step), STEP_SIDE) for step in maps] for word, maps in by_word.items()}

    return WordMaps(source.image, mean(after), mean(before), small(after), small(before))


@dataclass(frozen=True)
class EditedImage:
    """An edit at the image's own size, on the CPU."""

    edited: Tensor
    """(1, 3, H, W) in [0, 1]."""
    reconstruction: Tensor
    """(1, 3, H, W) in [0, 1]."""
    mask: Tensor
    """(H, W): where the edit could change the image."""
    latents: Tensor
    """(1, C, h, w) of the padded image, as ComfyUI's VAE has them."""
    cell: int
    """Pixels that one of the latents' cells is wide."""
    maps: Mapping[str, Tensor]
    """(H, W) by word of the target."""
    tracker: NodeTracker
    """What it cost."""


def edited_by(
    edit: EditFunction,
    inverted: InvertedImage,
    target: str,
    settings: Any,
    prior: LocalizationPrior | None = None,
) -> EditedImage:
    """Sample the target from the inverted image by a method's `edit`, with its settings.

    Raises ValueError for a target that does not fit the model and a prior that does not fit the image.
    """
    import torch

    from ...locinv_core.text.prompt import parse_prompt
    from .progress import node_tracker

    padding = inverted.padding
    prompt = parse_prompt(target, inverted.model.value.tokenizer)
    padded = None if prior is None else inverted.padded(prior)
    tracker = node_tracker("edit", preview=inverted.preview())
    with inverted.model.ready() as model:
        result = edit(model, inverted.inversion, [prompt], settings, prior=padded, tracker=tracker)
        edited, reconstruction = (padding.crop(model.decode(z)).cpu() for z in (result.latents, result.source_latents))
        if result.blend_masks is None:
            mask = torch.ones(padding.height, padding.width)
        else:
            mask = padding.mask_to_pixels(result.blend_masks[0].cpu()).clone()
        latents = (result.latents / model.latent_scale).cpu()
        maps = {word: inverted.on_image(values) for word, values in result.target_maps[0].items()}
        cell = model.latent_factor
    return EditedImage(edited, reconstruction, mask, latents, cell, maps, tracker)


@dataclass(frozen=True, eq=False)
class ProposedRegions:
    """Boxes on an image, and the ViT's features of it; all on the CPU."""

    image: Tensor
    """(1, 3, H, W) in [0, 1]."""
    features: PatchFeatures
    proposals: RegionProposals


@dataclass(frozen=True, eq=False)
class JudgedRegions:
    """Boxes with their scores, and the networks that judged them, which ranking goes on with."""

    scores: RegionScores
    clip: Managed[ClipEncoder]
    editor: ManagedEditor
    _ranked: dict[tuple[float, float], RegionEdit] = field(default_factory=dict)

    def has_ranked(self, alpha: float, beta: float) -> bool:
        """Whether the edits are ranked with these weights already."""
        return (alpha, beta) in self._ranked

    def ranked(self, alpha: float, beta: float, editor: Editor, tracker: CostTracker) -> RegionEdit:
        """The edits of all anchors, ranked by S = α·S_t2i + β·S_i2i (Learnable Regions Eq. 7).

        Those of the last few weights are kept, so that the same ones cost nothing again. Each (α, β) begins with
        the edits that judging has made: what is ranked first does not change what comes after. The networks
        are ready.
        """
        from ...region_core.scorer import choose

        key = (alpha, beta)
        if key not in self._ranked:
            own = replace(self.scores, edits=settled(self.scores.edits, editor))
            found = choose(own, self.clip.value, alpha=alpha, beta=beta, tracker=tracker)
            kept = replace(own, edits=settled(own.edits, self.editor.value))
            self._ranked[key] = replace(found, scores=kept)
            while len(self._ranked) > RANKINGS:
                del self._ranked[next(iter(self._ranked))]
        return self._ranked[key]


def settled(edits: BoxEdits, editor: Editor) -> BoxEdits:
    """The same edits on the CPU, in a cache of their own that this editor adds to."""
    return edits.copied(editor, "cpu")


def check_choice(choice: int, anchors: int) -> None:
    """Raise ValueError unless `choice` is the number of an anchor, or 0 for the best."""
    if not 0 <= choice <= anchors:
        raise ValueError(f"choice: got {choice}, requires an anchor from 1 to {anchors}, or 0 for the best")


def picked(found: RegionEdit, choice: int) -> Candidate:
    """The candidate of the anchor numbered `choice` from 1; 0 is the best. Raises ValueError for no such."""
    check_choice(choice, len(found.candidates))
    return next((candidate for candidate in found.candidates if candidate.index == choice - 1), found.chosen)


def finished(candidate: Candidate, edits: BoxEdits, tracker: CostTracker) -> Candidate:
    """The candidate edited in full, which it is unless the plan's finalists were others."""
    if candidate.final:
        return candidate
    from ...region_core.proposals import pixel_box

    with tracker.stage("final edits"):
        image = edits.edited([pixel_box(candidate.box, edits.size)], tracker=tracker).cpu()
    return replace(candidate, image=image, final=True)


def expected_cost(scores: RegionScores, cost: Callable[[int | None], float]) -> float:
    """NFE that choosing among the anchors' edits needs at most, where an edit of so many
    steps (None: the editor's own) costs `cost`."""
    from ...region_core.scorer import final_edit_count

    return final_edit_count(scores) * cost(None)
