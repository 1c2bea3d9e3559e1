"""Writing the embedded models in the layouts of transformers and diffusers, weights in fp16."""

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
_HALF = [0.5, 0.5, 0.5]


def _write_json(content: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def write_half(model: Any, folder: Path) -> None:
    """Write a transformers or diffusers model, as it is in fp16; the model itself stays as it was."""
    with quiet_loading():
        copy.deepcopy(model).half().save_pretrained(folder, safe_serialization=True)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy a CLIP tokenizer's files.

    Raises:
        ValueError: when ``source`` lacks one of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in _TOKENIZER_FILES:
        if not (source / name).is_file():
            raise ValueError(f"tokenizer: {source} has no {name}; train that stage first")
        if source.resolve() != folder.resolve():
            shutil.copyfile(source / name, folder / name)


def write_index(folder: Path, pipeline: str, parts: Mapping[str, str], **settings: Any) -> None:
    """Write ``model_index.json``, by which diffusers knows the folder as one of its pipelines.

    Args:
        parts: of each part, which lies in the folder of that name, "diffusers.CLASS" or "transformers.CLASS".
        settings: other entries of the index.
    """
    index = {name: kind.split(".") for name, kind in parts.items()} | settings
    _write_json({"_class_name": pipeline} | dict(sorted(index.items())), folder / "model_index.json")


def write_clip(model: CLIPModel, tokenizer: Path, folder: Path) -> None:
    """Write a CLIPModel, its tokenizer, and how its images are prepared, all in one folder."""
    write_half(model, folder)
    copy_tokenizer(tokenizer, folder)
    side = int(model.config.vision_config.image_size)
    settings = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
    }
    _write_preprocessor(folder, settings)


def write_vit(model: ViTModel, folder: Path) -> None:
    """Write a ViTModel and how its images are prepared."""
    write_half(model, folder)
    side = int(model.config.image_size)
    size = {"height": side, "width": side}
    _write_preprocessor(folder, {"image_processor_type": "ViTImageProcessor", "do_resize": True, "size": size})


def _write_preprocessor(folder: Path, settings: Mapping[str, Any]) -> None:
    common = {
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": _HALF,
        "image_std": _HALF,
        "resample": 3,
    }
    _write_json({**settings, **common}, folder / "preprocessor_config.json")
