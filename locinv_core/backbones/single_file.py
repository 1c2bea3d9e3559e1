"""Opening a single-file checkpoint of Stable Diffusion 1.x, 2.x or SDXL with configs that the pack carries, offline."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from ..ddim import PredictionType
from .clip_tokenizer import CONFIGS, END, clip_tokenizer
from .diffusers_folder import REQUIRED, assemble, quiet_loading, unfit_channels, vae_dtype
from .stable_diffusion import EditModel

_UNET = "model.diffusion_model."
_FIRST_CONVOLUTION = _UNET + "input_blocks.0.0.weight"
_TEXT_1 = "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"
_TOKENS = "token_embedding.weight"
_TEXT_2 = "cond_stage_model.model." + _TOKENS
_TEXT_XL = (
    "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight",
    "conditioner.embedders.1.model." + _TOKENS,
)
_REFINER = "conditioner.embedders.0.model." + _TOKENS
_VAE = "first_stage_model."
_NAMES = {"sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "SDXL"}
# What a file seems to be, by the first of these patterns that one of its names matches.
_FOREIGN = (
    (r"lora_|.*\.lora_|.*\.lokr_|.*\.hada_", "a LoRA"),
    (re.escape(_REFINER), "SDXL's refiner"),
    (r"conditioner\.embedders\.", "SDXL's text encoders"),
    (r"control_model\.|controlnet_cond_embedding\.", "a ControlNet"),
    (r"(model\.diffusion_model\.)?joint_blocks\.", "a Stable Diffusion 3 checkpoint"),
    (r"(model\.diffusion_model\.)?double_blocks\.", "a Flux checkpoint"),
    (r"emb_params$|string_to_param|clip_[lg]$", "a textual inversion"),
    (r"down_blocks\.\d+\.(resnets|attentions)\.", "a diffusers UNet alone"),
    (r"(first_stage_model\.|vae\.)?(encoder|decoder)\.(conv_in|down|up|mid)", "a VAE alone"),
    (r"(cond_stage_model\.|text_model\.|transformer\.text_model\.|text_encoders?\.)", "a text encoder alone"),
)


@dataclass(frozen=True)
class FileFacts:
    """What a checkpoint's header says: the family, what the UNet predicts, and its native size in pixels."""

    family: Literal["sd1", "sd2", "sdxl"]
    prediction_type: PredictionType
    native_size: int
    zero_terminal_snr: bool = False


def inspect_file(path: Path, prediction: PredictionType | None = None) -> FileFacts:
    """Read the header of a `.safetensors` checkpoint and say what it is.

    The families differ by the text encoders' names. What the UNet predicts is, in this order: `prediction`
    if given; v if there is a tensor named `v_pred`; what the ModelSpec metadata says (`prediction_type` or
    `predict_key`, then `architecture`, then for SD 2.x ε if `resolution` is 512); else v
    for SD 2.x, as its released 768-pixel models do, and ε for the others. The native size is ModelSpec's
    `resolution`; without it 1024 for SDXL, 768 for an SD 2.x that predicts v, else 512. A tensor named `ztsnr`
    says that the schedule ends in pure noise.
    Raises ValueError naming the file and what it seems to be.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(f"model file {path}: it is damaged or no safetensors file ({error})") from error
    _refuse_foreign(path, shapes)
    family: Literal["sd1", "sd2", "sdxl"] = "sd1" if _TEXT_1 in shapes else "sd2"
    if any(name in shapes for name in _TEXT_XL):
        family = "sdxl"
    resolution = _resolution(metadata)
    chosen = prediction or _told_prediction(shapes, metadata)
    if chosen is None:
        chosen = "v_prediction" if family == "sd2" and resolution != 512 else "epsilon"
    default = 768 if chosen == "v_prediction" else 512
    native = {"sd1": 512, "sd2": default, "sdxl": 1024}[family]
    return FileFacts(family, chosen, resolution or native, "ztsnr" in shapes)


def load_single_file(
    path: Path,
    device: torch.device,
    dtype: torch.dtype,
    prediction: PredictionType | None = None,
    *,
    config_folder: Path | None = None,
) -> EditModel:
    """Open a `.safetensors` checkpoint of SD 1.x, 2.x or SDXL by diffusers' conversions of names.

    prediction: None works it out (`inspect_file`). config_folder: diffusers configs of another architecture
    with the same names; None takes the pack's for the family.
    Raises ValueError naming the file and what it seems to be.
    """
    facts = inspect_file(path, prediction)
    configs = config_folder or CONFIGS / facts.family
    tokenizer = clip_tokenizer(pad_token="!" if facts.family == "sd2" else END)
    where = f"model file {path}"
    family = _NAMES[facts.family]
    with quiet_loading():
        try:
            parts = _parts(load_file(path), configs, dtype)
        except (OSError, ValueError, KeyError, RuntimeError, AttributeError) as error:
            raise ValueError(f"{where}: its names are {family}'s, its weights are not ({error})") from error
    for part, (module, lacking) in parts.items():
        if lacking:
            raise ValueError(f"{where}: it lacks {len(lacking)} weights of {family}'s {part}, first {lacking[0]}")
        module.eval()
    networks = {part: module for part, (module, _) in parts.items()}
    if config_folder is None:
        networks["unet"].register_to_config(sample_size=facts.native_size // 8)
    schedule = json.loads((configs / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    schedule["prediction_type"] = facts.prediction_type
    if facts.zero_terminal_snr:
        schedule.update(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    return assemble(
        **networks,
        tokenizer=tokenizer,
        schedule_config=schedule,
        name=path.stem,
        device=device,
        where=where,
    )


def _parts(weights: dict[str, Tensor], configs: Path, dtype: torch.dtype) -> dict[str, tuple[Any, list[str]]]:
    """UNet, VAE and text encoders of a checkpoint, each with the names of the weights that it lacks.

    diffusers' conversions of names, without its `from_single_file`: that one leaves random what a file lacks
    unless accelerate is installed, and of every diffusers a newer transformers breaks its text encoder.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from diffusers.loaders import single_file_utils as convert
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(configs / "unet"))
        vae = AutoencoderKL.from_config(AutoencoderKL.load_config(configs / "vae"))
    text = CLIPTextModel(CLIPTextConfig.from_pretrained(configs / "text_encoder"))
    if _TEXT_2 in weights:
        named = convert.convert_open_clip_checkpoint(text, weights, prefix=_TEXT_2.removesuffix(_TOKENS))
    else:
        named = convert.convert_ldm_clip_checkpoint(weights)
    parts = {
        "unet": (unet, convert.convert_ldm_unet_checkpoint(weights, unet.config)),
        "vae": (vae, convert.convert_ldm_vae_checkpoint(weights, vae.config)),
        "text_encoder": (text, _known(named, text)),
    }
    dtypes = dict.fromkeys(parts, dtype)
    if _TEXT_XL[1] in weights:
        second = CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(configs / "text_encoder_2"))
        named = convert.convert_open_clip_checkpoint(second, weights, prefix=_TEXT_XL[1].removesuffix(_TOKENS))
        parts["text_encoder_2"] = (second, _known(named, second))
        dtypes |= {"text_encoder_2": dtype, "vae": vae_dtype(vae.config, dtype)}
    loaded = {}
    for part, (module, state) in parts.items():
        state = {n: weight.to(dtypes[part]) if weight.is_floating_point() else weight for n, weight in state.items()}
        loaded[part] = (module, module.load_state_dict(state, strict=False, assign=True).missing_keys)
    return loaded


def _known(named: dict[str, Tensor], module: Any) -> dict[str, Tensor]:
    """A text encoder's weights by the names of this transformers: since 5 they do not begin with `text_model.`."""
    known = module.state_dict()
    return {name if name in known else name.removeprefix("text_model."): w for name, w in named.items()}


def _refuse_foreign(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    required = REQUIRED.replace("requires", "requires a whole checkpoint of")
    if _FIRST_CONVOLUTION not in shapes or _REFINER in shapes:
        raise ValueError(f"model file {path}: it seems to be {_seems(shapes)}, {required}")
    channels = shapes[_FIRST_CONVOLUTION][1]
    if channels != 4:
        raise ValueError(f"model file {path}: {unfit_channels(channels)}")
    if any(name.startswith("edm_") for name in shapes):
        raise ValueError(f"model file {path}: it predicts neither noise nor v (EDM), {required}")
    two = any(name in shapes for name in _TEXT_XL)
    if not two and any(name.startswith(_UNET + "label_emb.") for name in shapes):
        raise ValueError(f"model file {path}: its UNet reads more than a prompt (unCLIP's does), {required}")
    if two:
        lacking = [f"a CLIP text encoder ({'.'.join(name.split('.')[:3])})" for name in _TEXT_XL if name not in shapes]
    else:
        lacking = [] if _TEXT_1 in shapes or _TEXT_2 in shapes else ["a CLIP text encoder (cond_stage_model)"]
    lacking += [] if any(name.startswith(_VAE) for name in shapes) else ["a VAE (first_stage_model)"]
    if lacking:
        raise ValueError(f"model file {path}: it has a UNet and lacks {' and '.join(lacking)}, {required}")


def _seems(shapes: Mapping[str, tuple[int, ...]]) -> str:
    for pattern, kind in _FOREIGN:
        if any(re.match(pattern, name) for name in shapes):
            return kind
    return f"something else ({len(shapes)} tensors{f', first {min(shapes)!r}' if shapes else ''})"


def _told_prediction(shapes: Mapping[str, tuple[int, ...]], metadata: Mapping[str, str]) -> PredictionType | None:
    """What the header says that the UNet predicts, if it does."""
    if "v_pred" in shapes:
        return "v_prediction"
    told = metadata.get("modelspec.prediction_type") or metadata.get("modelspec.predict_key") or ""
    if not told:
        architecture = metadata.get("modelspec.architecture", "").lower()
        told = {"stable-diffusion-v2-768": "v", "stable-diffusion-v2-512": "epsilon"}.get(architecture[:23], "")
    if told.lower() in ("v", "v_prediction", "v-prediction"):
        return "v_prediction"
    return "epsilon" if told.lower() in ("epsilon", "eps") else None


def _resolution(metadata: Mapping[str, str]) -> int | None:
    """The longer side of ModelSpec's resolution ("768x768"), if there is one that is a multiple of 64."""
    sides = [int(side) for side in re.findall(r"\d+", metadata.get("modelspec.resolution", ""))]
    return max(sides) if sides and max(sides) % 64 == 0 and max(sides) > 0 else None
