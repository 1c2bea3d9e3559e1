"""Opening the networks that find a prior: a folder of transformers' layout, a Hugging Face name, or one file.

Nothing is downloaded unless the caller says so, and nothing is read that can run code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...backbones.diffusers_folder import quiet_loading

HUB = "hub:"
_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
_HUB_FILES = ("*.json", "*.txt", "*.safetensors")


@dataclass(frozen=True)
class Architecture:
    """A network of transformers: its classes by name, since an older transformers may lack them.

    title: what people call it. model_types: what config.json may call it. network, processor: the classes.
    since: the first transformers that has them.
    """

    title: str
    model_types: tuple[str, ...]
    network: str
    processor: str
    since: str

    def classes(self) -> tuple[Any, Any]:
        """The two classes. Raises ValueError, naming the least version, where transformers lacks them."""
        import transformers

        if not hasattr(transformers, self.network):
            raise ValueError(
                f"{self.title} requires transformers {self.since} or newer, and {transformers.__version__} is installed"
            )
        return getattr(transformers, self.network), getattr(transformers, self.processor)


def split_hub(name: str) -> tuple[str, bool]:
    """A model's name as it is written on the command line, and whether it may be downloaded: "hub:OWNER/NAME"."""
    name = name.strip()
    return name.removeprefix(HUB), name.startswith(HUB)


def model_folder(name: str | Path, *, download: bool = False) -> Path:
    """The folder called `name`, or that of a Hugging Face name in the local cache.

    download: fetch what the cache lacks. Raises ValueError for what is neither, and what cannot be fetched.
    """
    folder, wrong = Path(name).expanduser(), f"model: {str(name)!r} cannot be opened"
    if str(name) and folder.is_dir() and not download:
        return folder
    if not _HUB_NAME.fullmatch(str(name)):
        raise ValueError(f"{wrong}: there is no such folder, and a Hugging Face name is OWNER/NAME")
    import huggingface_hub

    if download:
        try:
            return Path(huggingface_hub.snapshot_download(str(name), allow_patterns=list(_HUB_FILES)))
        except Exception as error:  # what the hub's client raises differs between its versions
            raise ValueError(f"{wrong}: the Hugging Face hub does not give it ({_first_line(error)})") from error
    cached = huggingface_hub.try_to_load_from_cache(str(name), "config.json")
    if isinstance(cached, str):
        return Path(cached).parent
    raise ValueError(
        f"{wrong}: there is no such folder, and it is not in the local Hugging Face cache;"
        f" 'hf download {name}' fetches it, or on the command line {HUB}{name}"
    )


def open_pretrained(
    name: str | Path, known: Sequence[Architecture], *, download: bool = False
) -> tuple[Architecture, Any, Any]:
    """The architecture of the model `name`, its network (float32, no gradients, on the CPU) and its processor.

    name, download: as `model_folder` takes them. Only safetensors are read. Raises ValueError for what cannot
    be had, another architecture than those `known`, and weights that do not fit.
    """
    folder = model_folder(name, download=download)
    titles = [one.title for one in known]
    listed = titles[0] if len(titles) == 1 else f"{', '.join(titles[:-1])} or {titles[-1]}"
    required = f"requires a {listed} with safetensors, as a folder of transformers' layout or a Hugging Face name"
    wrong = f"model: {str(name)!r} cannot be opened"
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{wrong} (its config.json names no model); {required}") from error
    found = next((one for one in known if kind in one.model_types), None)
    if found is None:
        raise ValueError(f"{wrong} (it is a {kind}); {required}")
    network, processor = found.classes()
    options = {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        # Weights made inside a caller's inference mode (ComfyUI's) could never take part in a gradient.
        with torch.inference_mode(False), quiet_loading():
            model, told = network.from_pretrained(str(folder), **options)
            beside = processor.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # tokenizers raises nothing more special for a damaged file
        raise ValueError(f"{wrong} ({_first_line(error)}); {required}") from error
    if lacking := [*told["missing_keys"], *told["mismatched_keys"]]:
        raise ValueError(f"model: {str(name)!r}: {len(lacking)} of its weights are missing or of another shape")
    # Weights kept in half precision come as such, and images are prepared in float32.
    return found, model.float().requires_grad_(False).eval(), beside


def read_weights(file: Path) -> dict[str, Tensor]:
    """The weights by name in a .safetensors file, or in a pickled state dict (.pth, .pt), on the CPU.

    A pickle is read by torch's `weights_only` loader, which builds tensors and runs nothing else. Raises
    ValueError for a file that cannot be read so, and for a pickle under a torch before 2.6, whose loader can
    be tricked (CVE-2025-32434).
    """
    if file.suffix.lower() not in (".safetensors", ".pth", ".pt") or not file.is_file():
        raise ValueError(f"checkpoint: got {str(file)!r}, requires a .safetensors, .pth or .pt file")
    if file.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"checkpoint {file.name!r} cannot be read: {error}") from error
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6):
        raise ValueError(
            f"checkpoint {file.name!r} is a pickle, which torch {torch.__version__} cannot read safely;"
            " requires torch 2.6 or newer, or a .safetensors file"
        )
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its first wrong byte leads to
        raise ValueError(f"checkpoint {file.name!r} cannot be read as weights alone: {_first_line(error)}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"checkpoint {file.name!r} holds no weights by name, requires a state dict")
    return weights


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
