"""The recipe of the embedded models: what is trained, on how much, how fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final


@dataclass(frozen=True)
class TokenizerRecipe:
    """Byte-level BPE over captions.

    Attributes:
        vocabulary: entries at most, the 512 byte symbols and the two marks included.
        length: tokens that the text encoder reads, marks included.
        in_pieces: words of the captions that stay in two tokens.
    """

    vocabulary: int = 700
    length: int = 40
    in_pieces: tuple[str, ...] = ("balloon", "mushroom", "wooden")


@dataclass(frozen=True)
class StageRecipe:
    """Training of any network: steps of a one-cycle schedule, examples in each.

    Attributes:
        rate, rate_of_ends: the schedule's peaks for Muon, and for AdamW, which trains vectors, embeddings, and the
            first and last layers. average: decay of the running average.
        save_steps, report_steps: how often there is a checkpoint, and a line of progress.
    """

    steps: int = 3000
    batch: int = 32
    rate: float = 2e-3
    rate_of_ends: float = 1e-3
    average: float = 0.998
    save_steps: int = 100
    report_steps: int = 50


@dataclass(frozen=True)
class AutoencoderRecipe(StageRecipe):
    """An autoencoder whose latents are an eighth of the image's side.

    Attributes:
        channels: per level, finest first; each but the last halves the side. latents: channels of a latent.
        crop: side of the training crops in pixels. edges: weight of the L1 distance of image gradients.
    """

    channels: tuple[int, ...] = (32, 64, 96, 96)
    latents: int = 8
    groups: int = 4
    batch: int = 16
    crop: int = 64
    edges: float = 0.5

    @property
    def factor(self) -> int:
        """Pixels of a side that one latent stands for."""
        return int(2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class VaeRecipe(AutoencoderRecipe):
    """The autoencoder of Stable Diffusion's kind. ``kl``: weight of the KL term."""

    save_steps: int = 200
    kl: float = 1e-6


@dataclass(frozen=True)
class DecoderRecipe(StageRecipe):
    """The autoencoder's decoder, trained further while the encoder, and with it every latent, stays.

    ``noise``: standard deviation, in scaled latents, of the most noise that is added to an image's latents: those
    that a UNet made are not quite an image's. ``edges``: as in ``AutoencoderRecipe``.
    """

    batch: int = 8
    report_steps: int = 25
    noise: float = 0.2
    edges: float = 0.5


@dataclass(frozen=True)
class DiffusionRecipe(StageRecipe):
    """UNet and text encoder, trained together to predict the noise.

    Attributes:
        channels: per level of the UNet, finest first. width, depth: of the text encoder.
        dropout: share of captions replaced by the empty one. weight_cap: the most that an epsilon error counts.
        crowd: an image with n objects is drawn n^crowd times as often as one with one, which is easier to learn.
    """

    channels: tuple[int, ...] = (96, 128)
    groups: int = 16
    layers: int = 1
    width: int = 128
    depth: int = 3
    steps: int = 6500
    rate: float = 5e-3
    average: float = 0.9985
    save_steps: int = 250
    dropout: float = 0.12
    weight_cap: float = 8.0
    crowd: float = 1.5


@dataclass(frozen=True)
class InstructRecipe(StageRecipe):
    """InstructPix2Pix, from the text-to-image model.

    Attributes:
        pairs: scenes with an edit each. weight_cap: as in ``DiffusionRecipe``.
        dropout: the shares of a batch without order, without image, and without both, each; the published 5 %.
    """

    pairs: int = 12000
    steps: int = 4000
    rate: float = 2.5e-3
    rate_of_ends: float = 5e-4
    average: float = 0.9985
    save_steps: int = 250
    dropout: float = 0.05
    weight_cap: float = 4.0


@dataclass(frozen=True)
class ClipRecipe(StageRecipe):
    """The dual encoder of images and texts.

    Attributes:
        side: of the images, and of crops after resizing, in pixels. patch: side of a patch.
        width, layers, heads: of the vision tower. text_width, text_layers, text_heads: of the text tower.
        embedding: numbers that an image or a text becomes.
        batch: scenes in a step; each also gives a crop, every second one a poor crop too. pairs: how many, at most
            half, are in the batch after an edit too, and beside it with the edit in the wrong place.
        edited: scenes of the training set that are drawn after an edit, too.
        scale: the most that cosines are multiplied by for the contrast. A low one (OpenAI's may reach 100) asks for
            cosines far apart, which is what edits are scored by.
    """

    side: int = 128
    patch: int = 16
    width: int = 128
    layers: int = 4
    heads: int = 4
    text_width: int = 64
    text_layers: int = 3
    text_heads: int = 2
    embedding: int = 96
    steps: int = 4200
    batch: int = 48
    rate: float = 3e-3
    average: float = 0.995
    report_steps: int = 25
    pairs: int = 18
    edited: int = 8000
    scale: float = 10.0


@dataclass(frozen=True)
class VitRecipe(StageRecipe):
    """The self-distilled transformer; its running average is the teacher, and what is shipped.

    Attributes:
        side: of the images it is made for, in pixels. patch: side of a patch.
        width, layers, heads: its shape. hidden, bottleneck: widths of the head that is only for training.
        large, small: sides of the two kinds of views after resizing, multiples of ``patch``.
        locals: small views of an image, beside two large ones.
        scenes: how many of the training set's are used.
        temperature: of the student's guess at the image that the teacher saw.
    """

    side: int = 128
    patch: int = 8
    width: int = 96
    layers: int = 5
    heads: int = 4
    hidden: int = 192
    bottleneck: int = 64
    large: int = 80
    small: int = 40
    locals: int = 4
    scenes: int = 6000
    steps: int = 450
    rate: float = 3e-3
    average: float = 0.99
    report_steps: int = 25
    temperature: float = 0.1


@dataclass(frozen=True)
class VqRecipe(AutoencoderRecipe):
    """The autoencoder with a codebook: one code of ``latents`` numbers for each square of the image.

    Attributes:
        codes: entries of the codebook. free_steps: steps before the codebook is made from the latents.
        renew_steps: how often codes that nothing uses are moved, up to the share ``settle`` of the steps.
        probe: images that say what is used. commitment: weight of the quantizer's own loss.
    """

    channels: tuple[int, ...] = (16, 32, 48, 48)
    latents: int = 16
    codes: int = 512
    steps: int = 2000
    save_steps: int = 400
    commitment: float = 0.125
    free_steps: int = 300
    renew_steps: int = 150
    settle: float = 0.7
    probe: int = 24


@dataclass(frozen=True)
class TransformerRecipe(StageRecipe):
    """The masked-token transformer and its text encoder, which starts as the dual encoder's text tower.

    Attributes:
        width, layers, heads, inner: of the transformer, which works at half the codes' resolution.
        channels: of the convolutions around it. dropout: share of captions replaced by the empty one.
        blocks: of convolution, before the transformer and after it. Nothing else tells positions apart: as many in
            all as half of the transformer's grid is wide (4 of 8), or the middle of a masked image is one position.
        objects: share of images of which one object is masked, half of them under a caption of that object alone.
        boxes: share of the others of which only a box is masked, wherever it lies.
    """

    width: int = 96
    layers: int = 3
    heads: int = 4
    inner: int = 192
    channels: int = 64
    blocks: int = 2
    steps: int = 14000
    rate: float = 4e-3
    save_steps: int = 250
    dropout: float = 0.12
    objects: float = 0.8
    boxes: float = 0.4


_SMOKE: Final[Mapping[str, Mapping[str, Any]]] = {
    "vae": {"channels": (8, 8, 16, 16), "batch": 2, "crop": 32},
    "decoder": {"batch": 2},
    "diffusion": {"channels": (8, 16), "groups": 4, "width": 16, "depth": 1, "batch": 4},
    "clip": {"width": 16, "layers": 1, "text_width": 16, "text_layers": 2, "embedding": 8, "batch": 4, "pairs": 2,
             "edited": 3},
    "vit": {"width": 16, "layers": 1, "hidden": 16, "bottleneck": 8, "batch": 2, "locals": 1, "scenes": 12},
    "vq": {"channels": (8, 8, 8, 8), "latents": 4, "codes": 16, "batch": 2, "crop": 32, "free_steps": 1,
           "renew_steps": 1, "probe": 2},
    "transformer": {"width": 16, "layers": 1, "inner": 16, "channels": 16, "batch": 4},
    "instruct": {"batch": 4, "pairs": 6},
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """``scenes``: images in the training set; ``captions``: wordings of each; ``seed``: the first of the scenes, and of
    all random numbers."""

    scenes: int = 16000
    captions: int = 4
    seed: int = 0
    tokenizer: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    vae: VaeRecipe = field(default_factory=VaeRecipe)
    decoder: DecoderRecipe = field(default_factory=DecoderRecipe)
    diffusion: DiffusionRecipe = field(default_factory=DiffusionRecipe)
    clip: ClipRecipe = field(default_factory=ClipRecipe)
    vit: VitRecipe = field(default_factory=VitRecipe)
    vq: VqRecipe = field(default_factory=VqRecipe)
    transformer: TransformerRecipe = field(default_factory=TransformerRecipe)
    instruct: InstructRecipe = field(default_factory=InstructRecipe)

    def changed(self, changes: Mapping[str, Mapping[str, Any]]) -> Recipe:
        """The recipe with other numbers in some networks' recipes: {"vae": {"steps": 3}}."""
        return replace(self, **{name: replace(getattr(self, name), **given) for name, given in changes.items()})

    def smoke(self) -> Recipe:
        """The same models but tiny, for three steps on a few scenes: to see that the recipe runs."""
        tiny = replace(self, scenes=12).changed(_SMOKE)
        return tiny.changed({name: {"steps": 3} for name in _SMOKE})
