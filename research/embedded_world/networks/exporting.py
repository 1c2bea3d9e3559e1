"""Shapes of the embedded models in transformers' terms; writing them in its and diffusers' layouts, in fp16."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import CLIPModel, ViTModel

from ....locinv_core.backbones.diffusers_folder import quiet_loading

_TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")


def tower_settings(width: int, layers: int, heads: int) -> dict[str, Any]:
    """A transformer's shape."""
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
    }


def text_settings(width: int, layers: int, heads: int, vocabulary: int, length: int) -> dict[str, Any]:
    """A CLIP text tower's shape; the vocabulary's last two entries are the marks of start and end."""
    end = vocabulary - 1
    marks = {"bos_token_id": vocabulary - 2, "eos_token_id": end, "pad_token_id": end}
    read = {"vocab_size": vocabulary, "max_position_embeddings": length}
    return tower_settings(width, layers, heads) | read | marks


def _write_json(content: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def write_half(model: Any, folder: Path) -> None:
    """Write a transformers or diffusers model, as it is in fp16; the model itself stays as it was."""
    with quiet_loading():
        copy.deepcopy(model).half().save_pretrained(folder, safe_serialization=True)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy a CLIP tokenizer's files; ValueError when ``source`` lacks one of them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _TOKENIZER_FILES:
        if not (source / name).is_file():
            raise ValueError(f"tokenizer: {source} has no {name}; train that stage first")
        if source.resolve() != folder.resolve():
            shutil.copyfile(source / name, folder / name)


def write_index(folder: Path, pipeline: str, parts: Mapping[str, str], **settings: Any) -> None:
    """Write ``model_index.json``, by which diffusers knows the folder as one of its pipelines.

    ``parts``: "diffusers.CLASS" or "transformers.CLASS" by the name of the part's folder. ``settings``: other entries.
    """
    index = {name: kind.split(".") for name, kind in parts.items()} | settings
    _write_json({"_class_name": pipeline} | dict(sorted(index.items())), folder / "model_index.json")


def write_clip(model: CLIPModel, tokenizer: Path, folder: Path) -> None:
    """Write a CLIPModel, its tokenizer, and how its images are prepared, all in one folder."""
    write_half(model, folder)
    copy_tokenizer(tokenizer, folder)
    side = int(model.config.vision_config.image_size)
    crop = {"do_center_crop": True, "crop_size": {"height": side, "width": side}}
    _write_preprocessor(folder, "CLIP", {"do_convert_rgb": True}, {"shortest_edge": side}, crop)


def write_vit(model: ViTModel, folder: Path) -> None:
    """Write a ViTModel and how its images are prepared."""
    write_half(model, folder)
    side = int(model.config.image_size)
    _write_preprocessor(folder, "ViT", {}, {"height": side, "width": side}, {})


def _write_preprocessor(
    folder: Path, kind: str, first: Mapping[str, Any], size: Mapping[str, int], then: Mapping[str, Any]
) -> None:
    half = [0.5, 0.5, 0.5]
    resized = {"image_processor_type": f"{kind}ImageProcessor", **first, "do_resize": True, "size": size, **then}
    scaled = {"do_rescale": True, "rescale_factor": 1 / 255}
    normalised = {"do_normalize": True, "image_mean": half, "image_std": half, "resample": 3}
    _write_json(resized | scaled | normalised, folder / "preprocessor_config.json")
