"""The recipe of the embedded models: what is trained, on how much, how fast."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

__all__ = ["DecoderRecipe", "DiffusionRecipe", "Recipe", "TokenizerRecipe", "VaeRecipe"]


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
class VaeRecipe:
    """The autoencoder: latents at an eighth of the image's side, as Stable Diffusion's.

    Attributes:
        channels: per level, finest first; each but the last halves the side. latents: their channels.
        crop: side of the training crops in pixels.
        rate: peak of a one-cycle schedule, for Muon; rate_of_ends: for AdamW, which trains vectors and the
            first and last layers. average: decay of the running average.
        kl: weight of the KL term. edges: weight of the L1 distance of image gradients.
    """

    channels: tuple[int, ...] = (32, 64, 96, 96)
    latents: int = 8
    groups: int = 4
    steps: int = 3000
    batch: int = 16
    crop: int = 64
    rate: float = 2e-3
    rate_of_ends: float = 1e-3
    average: float = 0.998
    kl: float = 1e-6
    edges: float = 0.5

    @property
    def factor(self) -> int:
        """Pixels of a side that one latent stands for."""
        return int(2 ** (len(self.channels) - 1))


@dataclass(frozen=True)
class DecoderRecipe:
    """The autoencoder's decoder, trained further while the encoder, and with it every latent, stays.

    Attributes:
        noise: standard deviation, in scaled latents, of the most noise that is added to an image's latents:
            latents that a UNet made are not quite those of an image.
        rate, rate_of_ends, average, edges: as in ``VaeRecipe``.
    """

    steps: int = 3000
    batch: int = 8
    noise: float = 0.2
    rate: float = 2e-3
    rate_of_ends: float = 1e-3
    average: float = 0.998
    edges: float = 0.5


@dataclass(frozen=True)
class DiffusionRecipe:
    """UNet and text encoder, trained together to predict the noise.

    Attributes:
        channels: per level of the UNet, finest first.
        width, depth: of the text encoder. rate, rate_of_ends: as in ``VaeRecipe``.
        dropout: share of captions replaced by the empty one.
        weight_cap: the most that an epsilon error counts.
        crowd: an image with n objects is drawn n^crowd times as often as one with one: several are harder
            to learn.
    """

    channels: tuple[int, ...] = (96, 128)
    groups: int = 16
    layers: int = 1
    width: int = 128
    depth: int = 3
    steps: int = 6500
    batch: int = 32
    rate: float = 5e-3
    rate_of_ends: float = 1e-3
    average: float = 0.9985
    dropout: float = 0.12
    weight_cap: float = 8.0
    crowd: float = 1.5


@dataclass(frozen=True)
class Recipe:
    """Everything that ``train-embedded`` needs besides folders.

    Attributes:
        scenes: images in the training set. captions: wordings of each.
        seed: first seed of the scenes, and of all the training's random numbers.
    """

    scenes: int = 16000
    captions: int = 4
    seed: int = 0
    tokenizer: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    vae: VaeRecipe = field(default_factory=VaeRecipe)
    decoder: DecoderRecipe = field(default_factory=DecoderRecipe)
    diffusion: DiffusionRecipe = field(default_factory=DiffusionRecipe)

    def smoke(self) -> Recipe:
        """The same models but tiny, for a few steps on a few scenes: to see that the recipe runs."""
        return replace(
            self,
            scenes=12,
            vae=replace(self.vae, channels=(8, 8, 16, 16), groups=4, steps=3, batch=2, crop=32),
            decoder=replace(self.decoder, steps=3, batch=2),
            diffusion=replace(self.diffusion, channels=(8, 16), groups=4, width=16, depth=1, steps=3, batch=4),
        )
