"""Opening a Stable Diffusion 1.x, 2.x or SDXL model in diffusers' folder layout, part by part, safetensors only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from ..ddim import PredictionType, schedule_from_config
from .sdxl import SDXLModel
from .stable_diffusion import EditModel

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

Configs = Mapping[str, Mapping[str, Any]]
"""The configs of a model's parts by the parts' names."""

REQUIRED = "requires Stable Diffusion 1.x, 2.x or SDXL"
_WEIGHTS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}
_PICKLED_WEIGHTS = ("*.bin", "*.ckpt", "*.pt", "*.pth", "*.msgpack")


def load_folder(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    prediction: PredictionType | None = None,
    *,
    name: str | None = None,
) -> EditModel:
    """Open the model in `folder`, which has `unet`, `vae`, `text_encoder`, `tokenizer` and `scheduler`.

    SDXL's has `text_encoder_2` and `tokenizer_2` besides.

    prediction: None takes the scheduler config's. name: what the model is called; None takes the folder's.
    Files of a variant (`….fp16.safetensors`) are taken where there are no plain ones.
    Raises ValueError naming the folder for what is missing, pickled, damaged, or of another architecture.
    """
    configs = read_configs(folder)
    where = f"model folder {folder}"
    refuse_unfit_unet(configs["unet"], where)
    _refuse_class(configs["vae"], "VAE", "AutoencoderKL", where)
    made, read = configs["vae"].get("latent_channels", 4), configs["unet"].get("in_channels", 4)
    if made != read:
        raise ValueError(f"{where}: its VAE has {made} latent channels, its UNet reads {read}")
    for part in configs.keys() & {"text_encoder", "text_encoder_2"}:
        text = configs[part].get("model_type", "clip_text_model")
        if text not in ("clip_text_model", "clip"):
            raise ValueError(f"{where}: its {part.replace('_', ' ')} is a {text}, requires a CLIP text encoder")
    if prediction is not None:
        configs["scheduler"]["prediction_type"] = prediction
    return open_parts(folder, configs, device, dtype, name=name, where=where)


def open_parts(
    folder: Path, configs: Configs, device: torch.device, dtype: torch.dtype, *, name: str | None = None, where: str
) -> EditModel:
    """Read the weights in `folder`, whose configs are known and good, and put the model together.

    The UNet may read more than latents. Raises ValueError, naming `where`, as `load_folder` does.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    variants = {part: _variant(folder, part) for part in _WEIGHTS if part in configs}
    two = "text_encoder_2" in configs
    precision = vae_dtype(configs["vae"], dtype) if two else dtype
    with quiet_loading():
        unet = _load_part(UNet2DConditionModel, folder, "unet", variants, torch_dtype=dtype)
        vae = _load_part(AutoencoderKL, folder, "vae", variants, torch_dtype=precision)
        # transformers 4 and 5 call the dtype by different names; neither name is needed.
        text_encoder = _load_part(CLIPTextModel, folder, "text_encoder", variants).to(dtype)
        second = _load_part(CLIPTextModelWithProjection, folder, "text_encoder_2", variants).to(dtype) if two else None
    return assemble(
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        text_encoder_2=second,
        tokenizer=_load_tokenizer(folder / "tokenizer", configs["text_encoder"]),
        pad_id_2=_load_tokenizer(folder / "tokenizer_2", configs["text_encoder_2"]).pad_token_id if two else 0,
        schedule_config=configs["scheduler"],
        name=name or folder.resolve().name,
        device=device,
        where=where,
    )


def assemble(
    *,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: Any,
    schedule_config: Mapping[str, Any],
    name: str,
    device: torch.device,
    where: str,
    text_encoder_2: CLIPTextModelWithProjection | None = None,
    pad_id_2: int = 0,
) -> EditModel:
    """The EditModel of these parts on `device`; with a second text encoder an SDXLModel.

    Raises ValueError, naming `where`, if they do not fit.
    """
    encoders = [encoder for encoder in (text_encoder, text_encoder_2) if encoder is not None]
    told = "the text encoder gives" if len(encoders) == 1 else "the text encoders give"
    read, wanted = sum(encoder.config.hidden_size for encoder in encoders), unet.config.cross_attention_dim
    if read != wanted:
        raise ValueError(f"{where}: {told} {read} channels, and the UNet requires {wanted}")
    tokens, known = len(tokenizer), min(encoder.config.vocab_size for encoder in encoders)
    if tokens > known:
        raise ValueError(f"{where}: the tokenizer has {tokens} tokens, and the text encoder knows {known}")
    if text_encoder_2 is not None:
        pooled, sizes = text_encoder_2.config.projection_dim, 6 * unet.config.addition_time_embed_dim
        if pooled + sizes != (added := unet.config.projection_class_embeddings_input_dim):
            raise ValueError(f"{where}: its UNet reads {added} channels beside the prompt, requires {pooled + sizes}")
    parts: dict[str, Any] = {
        "unet": unet.to(device),
        "vae": vae.to(device),
        "text_encoder": text_encoder.to(device),
        "tokenizer": tokenizer,
        "schedule": schedule_from_config(schedule_config),
        "name": name,
    }
    if text_encoder_2 is None:
        model = EditModel(**parts)
    else:
        model = SDXLModel(**parts, text_encoder_2=text_encoder_2.to(device), pad_id_2=pad_id_2)
    try:
        assert model.map_layers
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return model


def refuse_unfit_unet(config: Mapping[str, Any], where: str) -> None:
    """Raise ValueError if this is not the config of a text-to-image UNet of SD 1.x, 2.x or SDXL."""
    _refuse_class(config, "UNet", "UNet2DConditionModel", where)
    channels, made = config.get("in_channels", 4), config.get("out_channels", 4)
    if channels != made:
        raise ValueError(f"{where}: {unfit_channels(channels, made)}")
    added = {str(config.get(key)) for key in ("addition_embed_type", "encoder_hid_dim_type")} - {"None", "text_time"}
    if added:
        raise ValueError(f"{where}: its UNet reads more than a prompt ({', '.join(sorted(added))}), {REQUIRED}")
    if config.get("class_embed_type") is not None or config.get("num_class_embeds") is not None:
        beside = "a class beside the prompt (an upscaler or unCLIP)"
        raise ValueError(f"{where}: its UNet reads {beside}, {REQUIRED}")


def vae_dtype(config: Mapping[str, Any], dtype: torch.dtype) -> torch.dtype:
    """float32 in place of float16 for a VAE of SDXL whose config says that it overflows there."""
    return torch.float32 if dtype == torch.float16 and config.get("force_upcast", True) else dtype


def unfit_channels(channels: int, wanted: int = 4) -> str:
    """What a UNet that reads this many channels, and not as many as it makes, seems to be."""
    seems = {5: "a depth model", 7: "an upscaler", 8: "InstructPix2Pix", 9: "an inpainting model"}.get(channels)
    found = f"{channels} channels" + (f" ({seems})" if seems else "")
    return f"its UNet reads {found}, requires {wanted} (a plain text-to-image model)"


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep diffusers' and transformers' loading bars and warnings off the terminal within the block.

    What matters in the warnings (weights that are missing or do not fit) is an error here.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    with ExitStack() as restored:
        for log in (diffusers_logging, transformers_logging):
            restored.callback(log.set_verbosity, log.get_verbosity())
            if getattr(log, "is_progress_bar_enabled", lambda: True)():
                restored.callback(log.enable_progress_bar)
            log.disable_progress_bar()
            log.set_verbosity_error()
        yield


def read_configs(folder: Path) -> dict[str, dict[str, Any]]:
    """The configs of a model's parts by name; where the UNet is SDXL's, of a second text encoder, too.

    Raises ValueError naming what the folder lacks.
    """
    names = {part: "config.json" for part in _WEIGHTS if part != "text_encoder_2"} | {
        "scheduler": "scheduler_config.json"
    }
    tokenizers = ["tokenizer"]
    if not (folder / "text_encoder").is_dir() and (folder / "text_encoder_2").is_dir():
        raise ValueError(f"model folder {folder}: it seems to be SDXL's refiner, {REQUIRED} (its base model)")
    if (folder / "unet" / "config.json").is_file():
        unet = _read_json(folder, "unet/config.json")
        if unet.get("addition_embed_type") == "text_time":
            names, tokenizers = names | {"text_encoder_2": "config.json"}, ["tokenizer", "tokenizer_2"]
    missing = [f"{part}/{file}" for part, file in names.items() if not (folder / part / file).is_file()]
    for part in tokenizers:
        if not any((folder / part / file).is_file() for file in ("tokenizer.json", "vocab.json")):
            missing.append(f"{part}/tokenizer.json (or vocab.json and merges.txt)")
    if missing:
        raise ValueError(
            f"model folder {folder}: it lacks {', '.join(missing)}; requires a diffusers folder of Stable Diffusion"
            " 1.x, 2.x or SDXL with unet, vae, text_encoder, tokenizer and scheduler, for SDXL text_encoder_2 and"
            " tokenizer_2 too"
        )
    return {part: _read_json(folder, f"{part}/{file}") for part, file in names.items()}


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        config = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"model folder {folder}: {name} cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise ValueError(f"model folder {folder}: {name} is no JSON object")
    return config


def _refuse_class(config: Mapping[str, Any], part: str, required: str, where: str) -> None:
    kind = config.get("_class_name", required)
    if kind != required:
        raise ValueError(f"{where}: its {part} is a {kind}, requires {'an' if required[0] == 'A' else 'a'} {required}")


def _variant(folder: Path, part: str) -> str | None:
    """The variant of the weights to read: None for plain files, else "fp16" or the first there is."""
    pattern = re.compile(re.escape(_WEIGHTS[part]) + r"(?:\.(?P<variant>[^.-]+))?(?:-\d+-of-\d+)?\.safetensors$")
    found: dict[str | None, list[Path]] = {}
    for file in sorted((folder / part).iterdir()):
        if match := pattern.match(file.name):
            found.setdefault(match["variant"], []).append(file)
    if not found:
        pickled = sorted(file.name for kind in _PICKLED_WEIGHTS for file in (folder / part).glob(kind))
        if pickled:
            raise ValueError(
                f"model folder {folder}: {part} has its weights as {pickled[0]} only, a format that can run"
                f" code when it is opened, so it is not read; requires {_WEIGHTS[part]}.safetensors"
            )
        raise ValueError(f"model folder {folder}: it lacks {part}/{_WEIGHTS[part]}.safetensors")
    variant = next((v for v in (None, "fp16") if v in found), min(found, key=str))
    for file in found[variant]:
        try:
            with safe_open(str(file), framework="pt"):
                pass
        except (SafetensorError, OSError) as error:
            reason = f"{part}/{file.name} is damaged or no safetensors file ({error})"
            raise ValueError(f"model folder {folder}: {reason}") from error
    return variant


def _load_part(kind: Any, folder: Path, part: str, variants: Mapping[str, str | None], **options: Any) -> Any:
    try:
        options |= {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
        module, told = kind.from_pretrained(str(folder / part), variant=variants[part], **options)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f"model folder {folder}: {part} cannot be opened ({error})") from error
    lacking = sorted(told["missing_keys"]) + [str(key) for key in told["mismatched_keys"]]
    if lacking:
        raise ValueError(
            f"model folder {folder}: {part}'s weights do not fit its config: {len(lacking)} are missing or of"
            f" another shape, first {lacking[0]}"
        )
    return module


def _load_tokenizer(folder: Path, text_config: Mapping[str, Any]) -> Any:
    from transformers import CLIPTokenizerFast

    try:
        tokenizer = CLIPTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"model folder {folder.parent}: {folder.name} cannot be opened ({error})") from error
    # A tokenizer config that does not say how much it reads leaves an astronomical number here.
    limit = int(text_config.get("max_position_embeddings", 77))
    tokenizer.model_max_length = min(int(tokenizer.model_max_length), limit)
    return tokenizer
