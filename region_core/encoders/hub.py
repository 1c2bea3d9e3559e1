"""Opening the networks that regions need by name: `embedded`, a local folder, or a name on the Hugging Face
hub, which is asked only for what the local cache lacks. Only safetensors are read."""

from __future__ import annotations

import json
import logging
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError

from ...assets import EMBEDDED as EMBEDDED_WEIGHTS
from ...locinv_core.backbones.diffusers_folder import quiet_loading

EMBEDDED = "embedded"

Part = Literal["clip", "vit", "amused"]

_PATIENCE = 10.0
"""Seconds that the hub has to answer in."""

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_TRUE = ("1", "ON", "YES", "TRUE")

_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def weights_place(name: str | Path, part: Part) -> str:
    """Where `from_pretrained` finds the network `name`: a folder that exists, or a name on the hub.

    "embedded" is the pack's own network of that part. Raises ValueError for a folder that does not exist; a
    name without an owner ("dino") is taken for one unless the local cache of the hub has it.
    """
    if str(name) == EMBEDDED:
        folder = EMBEDDED_WEIGHTS / part
        if not folder.is_dir():
            raise ValueError(f"{part}: got {EMBEDDED!r}, which this installation lacks; requires a folder")
        return str(folder)
    path = Path(name).expanduser()
    if str(name) and path.is_dir():
        return str(path)
    named = isinstance(name, str) and _HUB_NAME.fullmatch(name) and not name.startswith(".")
    if not named or not ("/" in str(name) or _in_cache(str(name), "config.json", "model_index.json")):
        raise ValueError(
            f"{part}: got {str(name)!r}, a folder that does not exist; requires {EMBEDDED!r}, a folder,"
            " or a name on the Hugging Face hub (OWNER/NAME)"
        )
    return str(name)


def open_network(kind: Any, name: str | Path, part: Part, *, may_lack: Sequence[str] = (), **options: Any) -> Any:
    """`kind.from_pretrained` of the network `name`, in evaluation mode and without gradients.

    Offline, a hub name is found only in the local cache. Weights whose names begin with one of `may_lack` are
    not needed. Raises ValueError for what cannot be had, is no safetensors, or does not fit its config.
    """
    place = weights_place(name, part)
    options |= {"use_safetensors": True, "output_loading_info": True}
    try:
        with _quiet_hub():
            network, told = _cache_first(kind, place, **options)
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


def open_tokenizer(kind: Any, name: str | Path, part: Part) -> Any:
    """`kind.from_pretrained` of the tokenizer beside a network's weights.

    Raises ValueError as `open_network`, and for a folder that has none: transformers would make an empty one.
    """
    place = weights_place(name, part)
    there = _has_tokenizer(place)
    if not there and Path(place).is_dir():
        raise ValueError(
            f"{part} {str(name)!r}: the folder lacks a tokenizer, wants tokenizer.json, or vocab.json and"
            " merges.txt, beside the weights"
        )
    try:
        with _quiet_hub():
            return kind.from_pretrained(place, local_files_only=there or not _hub_answers())
    except Exception as error:  # tokenizers raises nothing more special for a file that is damaged
        raise ValueError(f"{part} {str(name)!r}: {_unopened(place, error)}") from error


def preprocessor_config(name: str | Path, part: Part) -> dict[str, Any]:
    """What `preprocessor_config.json` beside the weights says; empty where there is none.

    Raises ValueError for a file that is no JSON object.
    """
    from transformers.utils import cached_file

    place = weights_place(name, part)
    there = Path(place).is_dir() or _in_cache(place, "preprocessor_config.json")
    with _quiet_hub():
        found = cached_file(
            place,
            "preprocessor_config.json",
            local_files_only=there or not _hub_answers(),
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    if found is None:
        return {}
    try:
        config = json.loads(Path(found).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{part} {str(name)!r}: preprocessor_config.json cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise ValueError(f"{part} {str(name)!r}: preprocessor_config.json is no JSON object")
    return config


def _cache_first(kind: Any, place: str, **options: Any) -> Any:
    """`kind.from_pretrained` of a folder, or of a hub name: from the local cache where that has all of it."""
    if not Path(place).is_dir():
        with suppress(OSError, ValueError):
            return kind.from_pretrained(place, local_files_only=True, **options)
        options["local_files_only"] = not _hub_answers()
    return kind.from_pretrained(place, **options)


def _has_tokenizer(place: str) -> bool:
    """Whether a folder, or the local cache of a name on the hub, has the files of a tokenizer."""

    def there(file: str) -> bool:
        return (Path(place) / file).is_file() if Path(place).is_dir() else _in_cache(place, file)

    return there("tokenizer.json") or (there("vocab.json") and there("merges.txt"))


def _in_cache(name: str, *files: str) -> bool:
    """Whether the local cache has one of these files of a name on the hub."""
    from transformers.utils import cached_file

    lacking = {
        "_raise_exceptions_for_missing_entries": False,
        "_raise_exceptions_for_connection_errors": False,
    }
    return any(cached_file(name, file, local_files_only=True, **lacking) is not None for file in files)


def _hub_answers() -> bool:
    """Whether the hub can be reached now, by one request: the libraries would try for half a minute."""
    if any(os.environ.get(name, "").upper() in _TRUE for name in _OFFLINE):
        return False
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=_PATIENCE).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        # The libraries bring certificates of their own.
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False
    return True


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """`quiet_loading`, with the hub's remarks about what it tries again kept off the terminal, too."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    try:
        log.setLevel(logging.ERROR)
        with quiet_loading():
            yield
    finally:
        log.setLevel(level)


def _unopened(place: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(place).is_dir():
        return f"cannot be opened ({reason}); requires a folder of transformers' layout with safetensors"
    return (
        f"no folder of that name, and the Hugging Face hub's cannot be had ({reason}); offline, only models"
        " in the local cache can"
    )
