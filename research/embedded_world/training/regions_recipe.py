"""The recipe of the regions' embedded models: what is trained, on how much, how fast."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

__all__ = ["ClipRecipe", "RegionsRecipe", "TransformerRecipe", "VitRecipe", "VqRecipe"]


@dataclass(frozen=True)
class ClipRecipe:
    """The dual encoder of images and texts.

    Attributes:
        side: of the images, and of crops after resizing, in pixels. patch: side of a patch.
        width, layers, heads: of the vision tower. text_width, text_layers, text_heads: of the text tower.
        embedding: numbers that an image or a text becomes.
        batch: scenes in a step; each also gives a crop, every second one a poor crop too.
        pairs: how many of them are in the batch a second time, after an edit, at most half of it, and a third
            time, beside the batch, with the edit in the wrong place.
        edited: scenes of the training set that are drawn after an edit, too.
        scale: the most that cosines are multiplied by for the contrast. A low one asks for cosines far apart,
            which is what edits are scored by; OpenAI's may reach 100.
        rate: peak of a one-cycle schedule, for Muon; rate_of_ends: for AdamW, which trains vectors and
            embeddings. average: decay of the running average.
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
    pairs: int = 18
    edited: int = 8000
    scale: float = 10.0
    rate: float = 3e-3
    rate_of_ends: float = 1e-3
    average: float = 0.995
    save_steps: int = 100


@dataclass(frozen=True)
class VitRecipe:
    """The self-distilled transformer.

    Attributes:
        side: of the images it is made for, in pixels. patch: side of a patch.
        width, layers, heads: its shape. hidden, bottleneck: widths of the head that is only for training.
        large, small: sides of the two kinds of views after resizing, multiples of ``patch``.
        locals: small views of an image, beside two large ones. batch: images in a step.
        scenes: how many of the training set's are used.
        rate, rate_of_ends: as in ``ClipRecipe``.
        average: decay of the running average of the student, which is the teacher, and what is shipped.
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
    batch: int = 32
    rate: float = 3e-3
    rate_of_ends: float = 1e-3
    average: float = 0.99
    temperature: float = 0.1
    save_steps: int = 100


@dataclass(frozen=True)
class VqRecipe:
    """The autoencoder with a codebook: one code for each square of the image.

    Attributes:
        channels: per level, finest first; each but the last halves the side. latents: numbers in a code.
        codes: entries of the codebook. free_steps: steps before the codebook is made from the latents.
        renew_steps: how often codes that nothing uses are given a new place, up to the share ``settle`` of
            the steps. probe: images that say what is used.
        crop: side of the training crops in pixels. edges: weight of the L1 distance of image gradients.
        commitment: weight of the quantizer's own loss. rate, rate_of_ends: as in ``ClipRecipe``.
    """

    channels: tuple[int, ...] = (16, 32, 48, 48)
    latents: int = 16
    codes: int = 512
    groups: int = 4
    steps: int = 2000
    batch: int = 16
    crop: int = 64
    rate: float = 2e-3
    rate_of_ends: float = 1e-3
    average: float = 0.998
    edges: float = 0.5
    commitment: float = 0.125
    free_steps: int = 300
    renew_steps: int = 150
    settle: float = 0.7
    probe: int = 24
    save_steps: int = 400

    @property
    def factor(self) -> int:
        """Pixels of a side that one code stands for."""
        return int(2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class TransformerRecipe:
    """The masked-token transformer and its text encoder, which starts as the dual encoder's text tower.

    Attributes:
        width, layers, heads, inner: of the transformer, which works at half the codes' resolution.
        channels: of the convolutions around it. dropout: share of captions replaced by the empty one.
        blocks: of convolution, before the transformer and after it. Nothing else tells places apart, by how
            far the image's edge is: as many in all as half of the transformer's grid is wide (4 of 8), or
            the middle of an image with all codes masked is one place.
        objects: share of images of which one object is masked, with its surroundings, which is what an editor
            asks for; half of them under a caption of that object alone.
        boxes: share of the others of which only a box is masked, wherever it lies.
        rate, rate_of_ends: as in ``ClipRecipe``.
    """

    width: int = 96
    layers: int = 3
    heads: int = 4
    inner: int = 192
    channels: int = 64
    blocks: int = 2
    steps: int = 14000
    batch: int = 32
    rate: float = 4e-3
    rate_of_ends: float = 1e-3
    average: float = 0.998
    dropout: float = 0.12
    objects: float = 0.8
    boxes: float = 0.4
    save_steps: int = 250


@dataclass(frozen=True)
class RegionsRecipe:
    """Everything that the regions' stages of ``train-embedded`` need besides folders.

    Attributes:
        scenes: images in the training set. captions: wordings of each, for aMUSEd.
        seed: first seed of the scenes, and of all the training's random numbers.
    """

    scenes: int = 16000
    captions: int = 4
    seed: int = 0
    clip: ClipRecipe = field(default_factory=ClipRecipe)
    vit: VitRecipe = field(default_factory=VitRecipe)
    vq: VqRecipe = field(default_factory=VqRecipe)
    transformer: TransformerRecipe = field(default_factory=TransformerRecipe)

    def smoke(self) -> RegionsRecipe:
        """The same models but tiny, for a few steps on a few scenes: to see that the recipe runs."""
        return replace(
            self,
            scenes=12,
            clip=replace(
                self.clip,
                width=16,
                layers=1,
                text_width=16,
                text_layers=2,
                embedding=8,
                steps=3,
                batch=4,
                pairs=2,
                edited=3,
            ),
            vit=replace(
                self.vit,
                width=16,
                layers=1,
                scenes=12,
                hidden=16,
                bottleneck=8,
                steps=3,
                batch=2,
                locals=1,
            ),
            vq=replace(
                self.vq,
                channels=(8, 8, 8, 8),
                latents=4,
                codes=16,
                steps=3,
                batch=2,
                crop=32,
                free_steps=1,
                renew_steps=1,
                probe=2,
            ),
            transformer=replace(self.transformer, width=16, layers=1, inner=16, channels=16, steps=3, batch=4),
        )

    def with_steps(
        self,
        *,
        clip: int | None = None,
        vit: int | None = None,
        vq: int | None = None,
        transformer: int | None = None,
    ) -> RegionsRecipe:
        """The recipe with other numbers of steps, where given."""
        changed = self
        if clip is not None:
            changed = replace(changed, clip=replace(self.clip, steps=clip))
        if vit is not None:
            changed = replace(changed, vit=replace(self.vit, steps=vit))
        if vq is not None:
            changed = replace(changed, vq=replace(self.vq, steps=vq))
        if transformer is not None:
            changed = replace(changed, transformer=replace(self.transformer, steps=transformer))
        return changed
