"""A backbone over what the artist has wired: ComfyUI's MODEL, CLIP and VAE, with no copy of their weights.

A pass calls the MODEL as ComfyUI's sampler does, so what patches it (LoRA, quantized weights, FreeU, ControlNet in a
conditioning, weight streaming) is in it. ComfyUI keeps noise added, x = z_0 + σ·ε, where the core keeps variance,
z = x/√(1 + σ²): latents are turned at every pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import comfy.hooks
import comfy.model_management
import comfy.model_sampling
import comfy.ops
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import torch
from einops import rearrange
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ...locinv_core.backbones.attention import (
    AttentionControl,
    AttentionLayer,
    StoppedEarly,
    map_layers,
)
from ...locinv_core.backbones.flops import ExplicitAt
from ...locinv_core.backbones.passes import CountedPasses
from ..bridge.tensors import to_comfy_image
from . import fingerprint
from .attention import attention_layers, replaced_attention, with_values
from .checks import check_model
from .differentiable import differentiable
from .schedule import DEFAULT, ComfySchedule
from .text_encoders import ComfyText

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

    from ...locinv_core.text.prompt import Prompt

NATIVE_SIZE = "pinpoint_native_size"
"""The attachment of a MODEL that says its native size in pixels, where its family does not."""
_ROWS = 4
"""Of an edit's batch: the source, and a target with and without its prompt, and one to spare."""


@dataclass(frozen=True, eq=False)
class ComfyBackbone(CountedPasses):
    """Stable Diffusion 1.x, 2.x or SDXL as ComfyUI holds it; a `Backbone`.

    scheduler: whose steps are walked on, "auto" or one of ComfyUI's. conditioning: a CONDITIONING that brings what
    is not words to every pass (a ControlNet). negative: a CONDITIONING in place of the empty prompt.
    Raises ValueError for a MODEL of another family and for patches that a pass would not carry out.
    """

    model: ModelPatcher
    clip: CLIP
    vae: VAE
    scheduler: str = DEFAULT
    conditioning: Any = None
    negative: Any = None
    name: str = "the MODEL"
    _shares: dict[tuple[str, int, int], float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        check_model(self.model)
        self.schedule.timesteps(1)
        self._check_conditions()
        width = self._network_config.get("context_dim")
        if self.text.width != width:
            raise ValueError(f"clip: it gives {self.text.width} channels, and the MODEL requires {width}")
        channels = getattr(self.vae, "latent_channels", None)
        if channels not in (None, self.latent_channels):
            raise ValueError(f"vae: its latents have {channels} channels, the MODEL's {self.latent_channels}")

    @cached_property
    def text(self) -> ComfyText:
        """The text encoders."""
        pooled = self._network_config.get("adm_in_channels") is not None
        return ComfyText(self.clip, pooled=pooled, negative=self.negative)

    @cached_property
    def schedule(self) -> ComfySchedule:
        """ComfyUI's own σ."""
        return ComfySchedule.of(self.model.get_model_object("model_sampling"), self.scheduler)

    @property
    def device(self) -> torch.device:
        """Where ComfyUI computes."""
        device: torch.device = self.model.load_device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """What the UNet computes in, whatever its weights are kept in."""
        base = self.model.model
        chosen: torch.dtype = getattr(base, "manual_cast_dtype", None) or base.get_dtype()
        return chosen

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of the first text encoder."""
        return self.text.tokenizer

    @property
    def context_length(self) -> int:
        """Tokens of one chunk."""
        return self.text.length

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self.model.model.latent_format.latent_channels)

    @property
    def latent_factor(self) -> int:
        """Pixels a latent cell is wide."""
        return int(self.vae.spacial_compression_encode())

    @property
    def latent_scale(self) -> float:
        """What the VAE's own latents are multiplied by."""
        return float(self.model.model.latent_format.scale_factor)

    @property
    def size_multiple(self) -> int:
        """What an image's sides must be multiples of, so that every level halves evenly."""
        return int(self.latent_factor * 2 ** max(layer.level for layer in self.layers))

    @property
    def native_size(self) -> int:
        """Side in pixels of the square images that the family was trained on."""
        told = self.model.get_attachment(NATIVE_SIZE)
        if told is not None:
            return int(told)
        if self._network_config.get("adm_in_channels") is not None:
            return 1024
        v = comfy.model_sampling.V_PREDICTION
        return 768 if self.text.keys == ("h",) and isinstance(self.schedule.sampling, v) else 512

    @cached_property
    def _layers(self) -> dict[AttentionLayer, Any]:
        return attention_layers(self.model.model.diffusion_model)

    @property
    def layers(self) -> tuple[AttentionLayer, ...]:
        """Every attention layer in the order of execution."""
        return tuple(self._layers)

    @cached_property
    def map_layers(self) -> tuple[AttentionLayer, ...]:
        """The cross-attention layers that word maps are averaged over."""
        return map_layers(self.layers, self.native_size // self.latent_factor)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of samples of every weight, of the patches on it, and of σ."""
        digest = hashlib.sha256(repr((self.clip.layer_idx, self.scheduler)).encode())
        for patcher in (self.model, self.clip.patcher):
            for key, value in sorted(patcher.get_key_patches().items()):
                digest.update(key.encode())
                fingerprint.add(digest, value)
        fingerprint.add(digest, self.schedule.alphas_cumprod[::50])
        return digest.hexdigest()[:32]

    @property
    def embedding_scale(self) -> float:
        """Root mean square of the token embeddings."""
        return self.text.embedding_scale

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to latents (B, C, h, w)."""
        with torch.inference_mode():
            latents = self.model.model.process_latent_in(self.vae.encode(to_comfy_image(images.cpu())))
        return latents.clone().float().to(self.device)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) to images (B, 3, H, W), float32 in [0, 1]."""
        with torch.inference_mode():
            pixels = self.vae.decode(self.model.model.process_latent_out(latents.clone()))
        return rearrange(pixels.clone().float().clamp(0, 1), "b h w c -> b c h w")

    def token_vectors(self, token_ids: Sequence[int]) -> Tensor:
        """The input embeddings (K, D) of these tokens, of all text encoders side by side."""
        return self.text.vectors(token_ids)

    def encode_prompt(self, prompt: Prompt, vectors: Tensor | None = None, positions: Sequence[int] = ()) -> Tensor:
        """The context (1, L, D), or (1, L + 1, D) with the pooled embedding as last row."""
        return self.text.encode(prompt, vectors, positions).to(self.device)

    def word_keys(self, layer: str, context: Tensor) -> Tensor:
        """The keys (B, heads, L, d) float32 of contexts in a cross-attention layer; differentiable."""
        module = self._module(layer)
        rows = context[:, : self.context_length].to(self.device, self.dtype)
        with differentiable(module) if context.requires_grad else nullcontext():
            keys = module.to_k(rows)
        return rearrange(keys.float(), "b l (h d) -> b h l d", h=module.heads)

    def key_scale(self, layer: str) -> float:
        """What a layer multiplies Q·Kᵀ by: 1/√d."""
        return float(self._module(layer).dim_head) ** -0.5

    def load(self, memory: int = 0) -> None:
        """Have ComfyUI put the MODEL, and what its conditioning brings, on its device, as far as there is room.

        memory: bytes that the work takes beside the weights; 0 for those of an edit's batch at the native size.
        """
        side = self.native_size // self.latent_factor
        memory = memory or int(self.model.model.memory_required([_ROWS, self.latent_channels, side, side]))
        with torch.inference_mode():
            comfy.model_management.load_models_gpu([self.model, *self._additional], memory_required=memory)

    def release(self) -> None:
        """Free what ControlNets keep of an image."""
        with torch.inference_mode():
            comfy.sampler_helpers.cleanup_models({"positive": self._conditions}, self._additional)

    @property
    def _network_config(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self.model.model.model_config.unet_config
        return config

    @cached_property
    def _conditions(self) -> list[dict[str, Any]]:
        given: list[dict[str, Any]] = comfy.sampler_helpers.convert_cond(self.conditioning or [])
        return given

    def _check_conditions(self) -> None:
        given = self._conditions
        if len(given) > 1 or any(key in part for part in given for key in ("area", "mask", "hooks")):
            raise ValueError(
                "conditioning: it has several parts, areas, masks or hooks; requires one part over the whole image"
            )
        self.text.check_negative()

    @cached_property
    def _additional(self) -> list[Any]:
        return list(comfy.sampler_helpers.get_additional_models({"positive": self._conditions}, self.dtype)[0])

    def _module(self, layer: str) -> Any:
        return next(module for found, (_, module) in self._layers.items() if found.name == layer)

    def _noise(
        self,
        latents: Tensor,
        timestep: float,
        context: Tensor,
        control: AttentionControl | None,
        stop_after: AttentionLayer | None,
        value_context: Tensor | None,
        unconditional: slice,
    ) -> Tensor:
        if not any(held.model is self.model for held in comfy.model_management.current_loaded_models):
            self.load()  # the text encoder or the VAE took its room
        wants_gradient = torch.is_grad_enabled() and context.requires_grad
        sigma = self.schedule.sigma(timestep)
        x = latents.to(self.device, torch.float32) * (1 + sigma**2) ** 0.5
        options = self._options(value_context, control, stop_after, wants_gradient)
        with differentiable(self.model.model.diffusion_model) if wants_gradient else torch.no_grad():
            return ((x - self._denoised(x, sigma, context.float(), options, unconditional)) / sigma).float()

    def _denoised(
        self, x: Tensor, sigma: float, context: Tensor, options: dict[str, Any], unconditional: slice
    ) -> Tensor:
        """x_0 as the MODEL predicts it, called as ComfyUI's samplers call it."""
        base, samples = self.model.model, len(x)
        self.model.pre_run()
        try:
            sigmas = torch.full((samples,), sigma, device=x.device)
            self.model.prepare_state(sigmas)
            factor, (height, width) = self.latent_factor, x.shape[-2:]
            given = {key: value for condition in self._conditions for key, value in condition.items()}
            given |= {"cross_attn": self.text.tokens(context), "pooled_output": self.text.pooled_of(context)}
            given |= {"device": x.device, "noise": x, "width": width * factor, "height": height * factor}
            made = base.extra_conds(**given, prompt_type="positive")
            conds = {key: value.process_cond(batch_size=samples, area=None).cond for key, value in made.items()}
            # One entry a row, as where ComfyUI puts conditions of one image into a batch.
            kinds = [0] * samples
            kinds[unconditional] = [1] * len(kinds[unconditional])
            options |= {"cond_or_uncond": kinds, "sigmas": sigmas[:1], "uuids": []}
            conds["transformer_options"] = options
            control = given.get("control")
            if control is not None:
                control.pre_run(base, self.schedule.sampling.percent_to_sigma)
                conds["control"] = control.get_control(x, sigmas, conds, samples, options)
            wrapper = self.model.model_options.get("model_function_wrapper")
            if wrapper is None:
                denoised: Tensor = base.apply_model(x, sigmas, **conds)
                return denoised
            parts = {"input": x, "timestep": sigmas, "c": conds, "cond_or_uncond": kinds}
            wrapped: Tensor = wrapper(base.apply_model, parts)
            return wrapped
        finally:
            self.model.cleanup()

    def _options(
        self,
        values: Tensor | None,
        control: AttentionControl | None,
        stop_after: AttentionLayer | None,
        wants_gradient: bool,
    ) -> dict[str, Any]:
        """The MODEL's `transformer_options` with the control in them; the MODEL's own stay as they are."""
        patcher = self.model
        options: dict[str, Any] = {**patcher.model_options.get("transformer_options", {})}
        for name, own in (("wrappers", patcher.wrappers), ("callbacks", patcher.callbacks)):
            options[name] = comfy.patcher_extension.merge_nested_dicts(dict(options.get(name, {})), own)
        if values is not None:
            options["patches"] = with_values(options.get("patches", {}), self.text.tokens(values.float()))
        if control is not None or stop_after is not None or wants_gradient:
            options["patches_replace"] = replaced_attention(
                options.get("patches_replace", {}),
                self._layers,
                control or AttentionControl(),
                stop_after=stop_after,
                differentiable=wants_gradient,
            )
        return options

    def _flops(self, stop_after: AttentionLayer | None, latent_height: int, latent_width: int) -> int:
        # Traced on the meta device from the config, as `count_flops` does it.
        config = {k: v for k, v in self._network_config.items() if k not in ("disable_unet_model_creation", "dtype")}
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            operations = comfy.ops.disable_weight_init
            hollow = type(self.model.model.diffusion_model)(
                **config, device=torch.device("meta"), dtype=torch.float32, operations=operations
            )
            layers = attention_layers(hollow)
            patches = replaced_attention({}, layers, ExplicitAt(stop_after), stop_after=stop_after, differentiable=True)
            label = config.get("adm_in_channels")
            with suppress(StoppedEarly):
                hollow(
                    torch.empty(1, self.latent_channels, latent_height, latent_width),
                    torch.zeros(1),
                    context=torch.empty(1, self.context_length, config["context_dim"]),
                    y=None if label is None else torch.empty(1, label),
                    transformer_options={"patches_replace": patches},
                )
        return int(counter.get_total_flops())
