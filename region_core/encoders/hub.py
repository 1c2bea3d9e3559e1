"""Opening the networks that regions need by name: "embedded", a local folder, or a name on the Hugging Face hub.

The hub is asked only for what the local cache lacks, and once: the libraries would try for half a minute. Only
safetensors are read.
"""

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

from huggingface_hub import hf_hub_download, try_to_load_from_cache

from ...assets import EMBEDDED as EMBEDDED_WEIGHTS
from ...locinv_core.backbones.diffusers_folder import quiet_loading

EMBEDDED = "embedded"

Part = Literal["clip", "vit", "amused"]
Channels = tuple[float, float, float]

_HUB_NAME = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")


def weights_place(name: str | Path, part: Part) -> str:
    """Where `from_pretrained` finds the network `name`: a folder that exists, or a name on the hub.

    "embedded" is the pack's own network of that part. Raises ValueError for a folder that does not exist; a
    name without an owner ("dino") is taken for one unless the local cache of the hub has it.
    """
    path = EMBEDDED_WEIGHTS / part if str(name) == EMBEDDED else Path(name).expanduser()
    if str(name) and path.is_dir():
        return str(path)
    if str(name) == EMBEDDED:
        raise ValueError(f"{part}: got {EMBEDDED!r}, which this installation lacks; requires a folder")
    if isinstance(name, str) and _HUB_NAME.fullmatch(name):
        if "/" in name or _here(name, "config.json") or _here(name, "model_index.json"):
            return name
    raise ValueError(
        f"{part}: got {str(name)!r}, a folder that does not exist; requires {EMBEDDED!r}, a folder,"
        " or a name on the Hugging Face hub (OWNER/NAME)"
    )


def open_network(kind: Any, name: str | Path, part: Part, *, may_lack: Sequence[str] = (), **options: Any) -> Any:
    """`kind.from_pretrained` of the network `name`, in evaluation mode and without gradients.

    Weights that begin with one of `may_lack` are not needed. Raises ValueError for what cannot be had or does not fit.
    """
    place = weights_place(name, part)
    options |= {"use_safetensors": True, "output_loading_info": True}
    with _one_line_error(place, f"{part} {str(name)!r}"):
        network, told = _cache_first(kind, place, options)
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
    there = _here(place, "tokenizer.json") or (_here(place, "vocab.json") and _here(place, "merges.txt"))
    if not there and Path(place).is_dir():
        raise ValueError(
            f"{part} {str(name)!r}: the folder lacks a tokenizer, requires tokenizer.json, or vocab.json and"
            " merges.txt, beside the weights"
        )
    with _one_line_error(place, f"{part} {str(name)!r}"):
        return kind.from_pretrained(place, local_files_only=bool(there) or not _hub_answers())


def preprocessor_config(name: str | Path, part: Part) -> dict[str, Any]:
    """What `preprocessor_config.json` beside the weights says; empty where there is none.

    Raises ValueError for a file that is no JSON object.
    """
    place, file = weights_place(name, part), "preprocessor_config.json"
    found = _here(place, file)
    if found is None and not Path(place).is_dir() and _hub_answers():
        with _quiet_hub(), suppress(OSError, ValueError):
            found = hf_hub_download(place, file)
    try:
        config = {} if found is None else json.loads(Path(found).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{part} {str(name)!r}: {file} cannot be read ({error})") from error
    if not isinstance(config, dict):
        raise ValueError(f"{part} {str(name)!r}: {file} is no JSON object")
    return config


def normalization(name: str | Path, part: Part, mean: Channels, std: Channels) -> tuple[Channels, Channels]:
    """Mean and deviation of a network's images, as `preprocessor_config.json` says; else these.

    Raises ValueError as `preprocessor_config`, and for anything but a number for each channel.
    """
    config = preprocessor_config(name, part)
    return _channels(config.get("image_mean"), mean), _channels(config.get("image_std"), std)


def _channels(values: Any, otherwise: Channels) -> Channels:
    if values is None:
        return otherwise
    match values:
        case [int() | float() as red, int() | float() as green, int() | float() as blue]:
            return float(red), float(green), float(blue)
    raise ValueError(f"preprocessor config: got {values!r}, requires a number for each of 3 channels")


def _here(place: str, file: str) -> str | None:
    """The file in a folder, or in the local cache of a name on the hub; None where it is not."""
    if Path(place).is_dir():
        return str(Path(place) / file) if (Path(place) / file).is_file() else None
    found = try_to_load_from_cache(place, file)
    return found if isinstance(found, str) else None


def _cache_first(kind: Any, place: str, options: dict[str, Any]) -> Any:
    if not Path(place).is_dir():
        with suppress(OSError, ValueError):
            return kind.from_pretrained(place, local_files_only=True, **options)
        options["local_files_only"] = not _hub_answers()
    return kind.from_pretrained(place, **options)


def _hub_answers() -> bool:
    """Whether the hub can be reached now, by one request."""
    offline = (os.environ.get(name, "").upper() for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    if any(value in ("1", "ON", "YES", "TRUE") for value in offline):
        return False
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=10.0).close()
    except urllib.error.HTTPError:
        return True
    except OSError as error:
        return isinstance(getattr(error, "reason", None), ssl.SSLError)  # the libraries have their own certificates
    return True


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """`quiet_loading`, without the hub's remarks about what it tries again."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    try:
        log.setLevel(logging.ERROR)
        with quiet_loading():
            yield
    finally:
        log.setLevel(level)


@contextmanager
def _one_line_error(place: str, what: str) -> Iterator[None]:
    """Load quietly, and turn what goes wrong into one line."""
    try:
        with _quiet_hub():
            yield
    except Exception as error:  # tokenizers raises nothing more special for a damaged file
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        wrong = f"cannot be opened ({reason}); requires a folder of transformers' layout with safetensors"
        if not Path(place).is_dir():
            wrong = (
                f"no folder of that name, and the Hugging Face hub's cannot be had ({reason}); offline, only models"
                " in the local cache can"
            )
        raise ValueError(f"{what}: {wrong}") from error
