"""Opening the networks that regions need by name: `embedded`, a local folder, or a name on the Hugging Face
hub. Only safetensors are read."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError

from ..locinv_core.diffusers_folder import quiet_loading

EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).parent / "embedded" / "weights"

Part = Literal["clip", "vit", "amused"]

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def weights_place(name: str | Path, part: Part) -> str:
    """Where `from_pretrained` finds the network `name`: a folder that exists, or a name on the hub.

    "embedded" is the pack's own network of that part. Raises ValueError for a folder that does not exist.
    """
    if str(name) == EMBEDDED:
        folder = EMBEDDED_FOLDER / part
        if not folder.is_dir():
            raise ValueError(f"{part}: got {EMBEDDED!r}, which this installation lacks; wants a folder")
        return str(folder)
    path = Path(name).expanduser()
    if str(name) and path.is_dir():
        return str(path)
    if isinstance(name, Path) or not _HUB_NAME.fullmatch(name) or name.startswith("."):
        raise ValueError(
            f"{part}: got {str(name)!r}, a folder that does not exist; wants {EMBEDDED!r}, a folder,"
            " or a name on the Hugging Face hub"
        )
    return name


def open_network(
    kind: Any, name: str | Path, part: Part, *, may_lack: Sequence[str] = (), **options: Any
) -> Any:
    """`kind.from_pretrained` of the network `name`, in evaluation mode and without gradients.

    Offline, a hub name is found only in the local cache. Weights whose names begin with one of `may_lack` are
    not needed. Raises ValueError for what cannot be had, is no safetensors, or does not fit its config.
    """
    place = weights_place(name, part)
    try:
        with quiet_loading():
            network, told = kind.from_pretrained(
                place, use_safetensors=True, output_loading_info=True, **options
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"{part} {str(name)!r}: {_unopened(place, error)}") from error
    lacking = [key for key in sorted(told["missing_keys"]) if not key.startswith(tuple(may_lack))]
    lacking += [str(key) for key in told["mismatched_keys"]]
    if lacking:
        raise ValueError(
            f"{part} {str(name)!r}: its weights do not fit its config: {len(lacking)} are missing or of"
            f" another shape, first {lacking[0]}"
        )
    return network.requires_grad_(False).eval()


def open_beside(kind: Any, name: str | Path, part: Part) -> Any:
    """`kind.from_pretrained` of what lies beside a network's weights: a tokenizer. Raises as open_network."""
    place = weights_place(name, part)
    try:
        with quiet_loading():
            return kind.from_pretrained(place)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{part} {str(name)!r}: {_unopened(place, error)}") from error


def preprocessor_config(name: str | Path, part: Part) -> dict[str, Any]:
    """What `preprocessor_config.json` beside the weights says; empty where there is none.

    Raises ValueError for a file that is no JSON object.
    """
    from transformers.utils import cached_file

    place = weights_place(name, part)
    found = cached_file(
        place,
        "preprocessor_config.json",
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if found is None:
        return {}
    try:
        config = json.loads(Path(found).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{part} {str(name)!r}: preprocessor_config.json cannot be read ({error})"
        ) from error
    if not isinstance(config, dict):
        raise ValueError(f"{part} {str(name)!r}: preprocessor_config.json is no JSON object")
    return config


def _unopened(place: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(place).is_dir():
        return f"cannot be opened ({reason}); wants a folder of transformers' layout with safetensors"
    return (
        f"no folder of that name, and the Hugging Face hub's cannot be had ({reason}); offline, only models"
        " in the local cache can"
    )
