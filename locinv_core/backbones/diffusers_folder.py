"""Opening a Stable Diffusion 1.x or 2.x model in diffusers' folder layout, part by part, safetensors only."""

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
from .stable_diffusion import EditModel

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

Configs = Mapping[str, Mapping[str, Any]]
"""The configs of a model's parts by the parts' names."""

_WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
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
    text = configs["text_encoder"].get("model_type", "clip_text_model")
    if text not in ("clip_text_model", "clip"):
        raise ValueError(f"{where}: its text encoder is a {text}, requires a CLIP text encoder")
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
    from transformers import CLIPTextModel

    variants = {part: _variant(folder, part) for part in _WEIGHTS}
    with quiet_loading():
        unet = _load_part(UNet2DConditionModel, folder, "unet", variants, torch_dtype=dtype)
        vae = _load_part(AutoencoderKL, folder, "vae", variants, torch_dtype=dtype)
        # transformers 4 and 5 call the dtype by different names; neither name is needed.
        text_encoder = _load_part(CLIPTextModel, folder, "text_encoder", variants).to(dtype)
    return assemble(
        unet=unet,
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=_load_tokenizer(folder, configs["text_encoder"]),
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
) -> EditModel:
    """The EditModel of these parts on `device`. Raises ValueError, naming `where`, if they do not fit."""
    read, wanted = text_encoder.config.hidden_size, unet.config.cross_attention_dim
    if read != wanted:
        raise ValueError(f"{where}: the text encoder gives {read} channels, and the UNet requires {wanted}")
    tokens, known = len(tokenizer), text_encoder.config.vocab_size
    if tokens > known:
        raise ValueError(f"{where}: the tokenizer has {tokens} tokens, and the text encoder knows {known}")
    model = EditModel(
        unet=unet.to(device),
        vae=vae.to(device),
        text_encoder=text_encoder.to(device),
        tokenizer=tokenizer,
        schedule=schedule_from_config(schedule_config),
        name=name,
    )
    try:
        assert model.map_layers
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return model


def refuse_unfit_unet(config: Mapping[str, Any], where: str) -> None:
    """Raise ValueError if this is not the config of a text-to-image UNet of SD 1.x or 2.x."""
    _refuse_class(config, "UNet", "UNet2DConditionModel", where)
    channels, made = config.get("in_channels", 4), config.get("out_channels", 4)
    if channels != made:
        raise ValueError(f"{where}: {unfit_channels(channels, made)}")
    added = config.get("addition_embed_type") or config.get("encoder_hid_dim_type")
    if added is not None:
        raise ValueError(
            f"{where}: its UNet reads more than a prompt ({added!r}; SDXL's does), requires Stable Diffusion 1.x or 2.x"
        )
    if config.get("class_embed_type") is not None or config.get("num_class_embeds") is not None:
        beside = "a class beside the prompt (an upscaler or unCLIP)"
        raise ValueError(f"{where}: its UNet reads {beside}, requires Stable Diffusion 1.x or 2.x")


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
    """The configs of a model's parts by name. Raises ValueError naming what the folder lacks."""
    names = dict.fromkeys(_WEIGHTS, "config.json") | {"scheduler": "scheduler_config.json"}
    missing = [f"{part}/{file}" for part, file in names.items() if not (folder / part / file).is_file()]
    if not any((folder / "tokenizer" / file).is_file() for file in ("tokenizer.json", "vocab.json")):
        missing.append("tokenizer/tokenizer.json (or vocab.json and merges.txt)")
    if missing:
        raise ValueError(
            f"model folder {folder}: it lacks {', '.join(missing)}; requires a diffusers folder of"
            " Stable Diffusion 1.x or 2.x with unet, vae, text_encoder, tokenizer and scheduler"
        )
    configs = {}
    for part, file in names.items():
        try:
            configs[part] = json.loads((folder / part / file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"model folder {folder}: {part}/{file} cannot be read ({error})") from error
        if not isinstance(configs[part], dict):
            raise ValueError(f"model folder {folder}: {part}/{file} is no JSON object")
    return configs


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
        tokenizer = CLIPTokenizerFast.from_pretrained(str(folder / "tokenizer"), local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"model folder {folder}: tokenizer cannot be opened ({error})") from error
    # A tokenizer config that does not say how much it reads leaves an astronomical number here.
    limit = int(text_config.get("max_position_embeddings", 77))
    tokenizer.model_max_length = min(int(tokenizer.model_max_length), limit)
    return tokenizer
