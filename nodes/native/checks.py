"""What a MODEL must be, and what must not be on it, so that a backbone can sample with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import comfy.patcher_extension

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_HONOURED_WRAPPERS = ("apply_model", "diffusion_model", "prepare_sampling")
_SAMPLER_FUNCTIONS = (
    "sampler_cfg_function",
    "sampler_pre_cfg_function",
    "sampler_post_cfg_function",
    "sampler_calc_cond_batch_function",
    "denoise_mask_function",
    "context_handler",
)


def check_model(model: ModelPatcher) -> None:
    """Raise ValueError for another family, and for patches of the sampler, which no pass carries out."""
    network = getattr(model.model, "diffusion_model", None)
    config = model.model.model_config.unet_config
    if not hasattr(network, "input_blocks") or "context_dim" not in config or config.get("use_temporal_attention"):
        raise ValueError(
            f"model: it is a {type(model.model).__name__}, requires Stable Diffusion 1.x, 2.x or SDXL; to edit inside"
            " a mask, ComfyUI Sampler as Region Editor takes any MODEL"
        )
    if config["in_channels"] != model.model.latent_format.latent_channels:
        from ...locinv_core.backbones.diffusers_folder import unfit_channels

        raise ValueError(f"model: {unfit_channels(config['in_channels'])}")
    for key in _SAMPLER_FUNCTIONS:
        if found := model.model_options.get(key):
            first = found[0] if isinstance(found, list) else found
            origin = f"{getattr(first, '__module__', '')}.{getattr(first, '__qualname__', type(first).__qualname__)}"
            raise ValueError(
                f"model: {origin} acts on the sampler and not on the model, and Pinpoint samples itself; bypass the"
                " node that adds it"
            )
    merged = comfy.patcher_extension.merge_nested_dicts(
        dict(model.model_options.get("transformer_options", {}).get("wrappers", {})), model.wrappers
    )
    for kind, wrappers in merged.items():
        if kind not in _HONOURED_WRAPPERS and any(wrappers.values()):
            names = ", ".join(str(key) for key, added in wrappers.items() if added)
            raise ValueError(
                f"model: {names} wraps the sampler ({kind}) and not the model, and Pinpoint samples itself; bypass the"
                " node that adds it"
            )
