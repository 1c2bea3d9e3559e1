"""An edit model from what the artist has loaded and patched: ComfyUI's MODEL, CLIP and VAE."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import comfy.model_base
import comfy.model_management
import comfy.model_sampling
import comfy.utils
import torch

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

    from ...locinv_core.backbones.stable_diffusion import EditModel

_WANTS = "requires Stable Diffusion 1.x or 2.x"
_ACTIVATIONS = {"clip_l": "quick_gelu", "clip_h": "gelu"}
_SAME_SCHEDULE = 1e-5


def edit_model_of(model: ModelPatcher, clip: CLIP, vae: VAE, dtype: torch.dtype) -> EditModel:
    """The edit model of these weights, LoRAs and all, copied to the CPU.

    Raises ValueError for another architecture, and for patches that are no weights: ours is another UNet, and
    could not carry them.
    """
    from ...locinv_core.backbones.clip_tokenizer import END, clip_tokenizer
    from ...locinv_core.backbones.diffusers_folder import assemble
    from .comfy_weights import text_encoder_of, unet_of, vae_of

    _check_model(model)
    name, text_model = _text_model(clip)
    sampling = model.get_model_object("model_sampling")
    prediction = _prediction(sampling)
    config = model.model.model_config.unet_config
    names = comfy.utils.unet_to_diffusers(config)
    native = 96 if name == "clip_h" and prediction == "v_prediction" else 64
    # What inference mode makes can take part in no gradient.
    with torch.inference_mode(False), torch.no_grad():
        comfy.model_management.load_models_gpu([model, clip.patcher], force_patch_weights=True)
        unet = unet_of(model.model.diffusion_model.state_dict(), config, names, native, dtype)
        encoder = text_encoder_of(
            text_model.transformer.state_dict(),
            heads=text_model.transformer.text_model.encoder.layers[0].self_attn.heads,
            activation=_ACTIVATIONS[name],
            layers=_layers(clip, text_model),
            pad_token=text_model.special_tokens["pad"],
            dtype=dtype,
        )
        decoder = vae_of(vae.get_sd(), float(model.model.latent_format.scale_factor), dtype)
        return assemble(
            unet=unet,
            vae=decoder,
            text_encoder=encoder,
            tokenizer=clip_tokenizer(pad_token=END if name == "clip_l" else "!"),
            schedule_config=_schedule_config(sampling, prediction, name),
            name="the MODEL",
            device=torch.device("cpu"),
            where="model",
        )


def _check_model(model: ModelPatcher) -> None:
    base = model.model
    unet = base.model_config.unet_config
    if type(base) is not comfy.model_base.BaseModel or unet.get("adm_in_channels") is not None:
        raise ValueError(f"model: it is a {type(base).__name__}, {_WANTS}")
    if not hasattr(base, "diffusion_model") or "num_res_blocks" not in unet or "context_dim" not in unet:
        raise ValueError(f"model: it is of another architecture, {_WANTS}")
    if unet["in_channels"] != 4:
        from ...locinv_core.backbones.diffusers_folder import unfit_channels

        raise ValueError(f"model: {unfit_channels(unet['in_channels'])}")
    if any(name.endswith("scale_weight") for name in base.diffusion_model.state_dict()):
        raise ValueError("model: its weights are scaled 8-bit numbers, requires float16, bfloat16 or float32")
    options = model.model_options
    inner = options.get("transformer_options", {})
    kept = [key for key in ("patches", "patches_replace", "wrappers", "callbacks") if any(inner.get(key) or {})]
    kept += [key for key in options if key.endswith("_function") or key == "model_function_wrapper"]
    kept += [key for key in model.object_patches if key != "model_sampling"]
    kept += list(model.injections)
    if kept:
        raise ValueError(
            f"model: it has patches that are not weights ({', '.join(sorted(map(str, kept)))}), which an edit"
            " model cannot carry; requires a MODEL with LoRAs at most"
        )


def _text_model(clip: CLIP) -> tuple[str, Any]:
    """("clip_l" or "clip_h", ComfyUI's text model)."""
    stage = clip.cond_stage_model
    found = [name for name in ("clip_l", "clip_h") if hasattr(stage, name)]
    if len(found) != 1 or hasattr(stage, "clip_g") or hasattr(stage, "t5xxl"):
        raise ValueError(f"clip: it is a {type(stage).__name__}, {_WANTS}'s text encoder")
    return found[0], getattr(stage, found[0])


def _layers(clip: CLIP, text_model: Any) -> int:
    """How many layers the text encoder's output has gone through."""
    layer, index, _ = text_model.options_default
    if clip.layer_idx is not None:
        layer, index = "hidden", clip.layer_idx
    count = int(text_model.num_layers)
    if layer == "last" or index is None or abs(index) > count:
        return count
    return int(count + index + 1 if index < 0 else index + 1)


def _prediction(sampling: Any) -> str:
    kinds = comfy.model_sampling
    if not isinstance(sampling, kinds.EPS) or isinstance(sampling, (kinds.X0, kinds.EDM)):
        raise ValueError(f"model: it predicts neither noise nor v, {_WANTS}")
    return "v_prediction" if isinstance(sampling, kinds.V_PREDICTION) else "epsilon"


def _schedule_config(sampling: Any, prediction: str, name: str) -> dict[str, Any]:
    """diffusers' scheduler config: the family's own, where the MODEL keeps its schedule, else its betas."""
    from diffusers import DDIMScheduler

    from ...locinv_core.backbones.single_file import CONFIGS

    family = CONFIGS / ("sd1" if name == "clip_l" else "sd2")
    text = (family / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8")
    usual: dict[str, Any] = {**json.loads(text), "prediction_type": prediction}
    alphas = 1 / (1 + sampling.sigmas.detach().double().cpu() ** 2)
    own = DDIMScheduler.from_config(usual).alphas_cumprod.double()
    if alphas.shape == own.shape and float((alphas - own).abs().max()) < _SAME_SCHEDULE:
        return usual
    betas = 1 - alphas / torch.cat([torch.ones(1, dtype=torch.float64), alphas[:-1]])
    return {**usual, "trained_betas": betas.tolist(), "num_train_timesteps": len(betas)}
