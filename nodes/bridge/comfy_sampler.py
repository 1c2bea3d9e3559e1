"""An editor that samples with ComfyUI itself: any MODEL that it can sample, with a mask over the noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import comfy.patcher_extension
import comfy.sample
import torch
from einops import rearrange

from ...region_core.editors.base import Editor, cells_of, check_request, check_strength
from .tensors import to_comfy_image

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE
    from torch import Tensor

    from ...locinv_core.cost import CostTracker
    from ...locinv_core.imaging.padding import Padding
    from .previews import LatentPreview

_COUNTER = "pinpoint"
# Twice what the VAE takes together: many transformers read latents two by two.
_CELLS = 2


@dataclass(frozen=True)
class ComfyUISampler(Editor):
    """Edits inside a mask as a KSampler with a noise mask does.

    What the edit shows is said by `positive`; the prompt of an edit is not read here. Masks are
    sampled one by one, so that samplers which draw noise as they go give each mask the same. Outside the mask
    the result is the VAE's image of the source.
    """

    model: ModelPatcher
    vae: VAE
    positive: Any
    negative: Any
    sampler: str = "euler"
    scheduler: str = "normal"
    steps: int = 20
    cfg: float = 7.0
    denoise: float = 0.8
    name = "ComfyUI sampler"

    def __post_init__(self) -> None:
        _check_steps(self.steps)
        check_strength(self.denoise)

    @torch.no_grad()
    def edit(
        self,
        image: Tensor,
        masks: Tensor,
        prompt: str,
        seed: int,
        *,
        steps: int | None = None,
        tracker: CostTracker | None = None,
    ) -> Tensor:
        """Edit `image` inside each of the masks, as `Editor.edit` says."""
        from ...locinv_core.cost import CostTracker

        check_request(image, masks)
        steps = self.steps if steps is None else steps
        _check_steps(steps)
        tracker = tracker or CostTracker()
        padding = self._padding(image)
        factor = int(self.vae.spacial_compression_encode())
        cells = cells_of(padding.pad_mask(masks.cpu()), factor)
        # ComfyUI's networks were loaded in inference mode, and run in it.
        with torch.inference_mode():
            source = self._encode(padding.pad_image(image.detach().cpu()))
            model = self._counted(tracker)
            noise = comfy.sample.prepare_noise(source, seed)
            images = []
            for number, inside in enumerate(cells):

                def report(step: int, x0: Tensor, x: Tensor, total: int, done: int = number) -> None:
                    tracker.report(done * steps + step + 1, len(cells) * steps, x0 if x0.ndim == 4 else None)

                latents = comfy.sample.sample(
                    model,
                    noise,
                    steps,
                    self.cfg,
                    self.sampler,
                    self.scheduler,
                    self.positive,
                    self.negative,
                    source,
                    denoise=self.denoise,
                    noise_mask=inside[None],
                    callback=report,
                    disable_pbar=True,
                    seed=seed,
                )
                images.append(padding.crop(self._decode(latents)))
        with torch.inference_mode(False):
            return torch.cat([image.clone() for image in images])

    def cost(self, steps: int | None = None) -> float:
        """About what an edit costs: samplers of higher order make more passes a step."""
        return float((self.steps if steps is None else steps) * (1 if self.cfg == 1 else 2))

    def preview(self, image: Tensor) -> LatentPreview | None:
        """How this model's latents look; None for a model whose latents are no images, as of videos."""
        from .previews import LatentPreview

        with torch.inference_mode():
            padded = self._padding(image).pad_image(image.detach().cpu())
            latents = self.model.model.process_latent_in(self._encode(padded))
        return LatentPreview.fit(latents, padded) if latents.ndim == 4 else None

    def _padding(self, image: Tensor) -> Padding:
        from ...locinv_core.imaging.padding import Padding

        multiple = _CELLS * int(self.vae.spacial_compression_encode())
        return Padding.of(image.shape[-2], image.shape[-1], multiple)

    def _encode(self, padded: Tensor) -> Tensor:
        """ComfyUI's latents of an image (1, 3, H, W)."""
        latents = self.vae.encode(to_comfy_image(padded))
        fixed: Tensor = comfy.sample.fix_empty_latent_channels(self.model, latents)
        return fixed

    def _decode(self, latents: Tensor) -> Tensor:
        """The image (1, 3, H, W) in [0, 1], on the CPU, of ComfyUI's latents."""
        pixels = self.vae.decode(latents)
        first: Tensor = rearrange(pixels.reshape(-1, *pixels.shape[-3:])[:1], "b h w c -> b c h w")
        return first.float().clamp(0, 1).cpu()

    def _counted(self, tracker: CostTracker) -> ModelPatcher:
        """The model, each of whose passes is counted; a cancel stops it before the next."""
        model = self.model.clone()

        def apply(executor: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
            tracker.count_forward(len(x))
            return executor(x, *args, **kwargs)

        model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.APPLY_MODEL, _COUNTER, apply)
        return model


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps: got {steps}, requires at least 1")
