"""Inversions on disk: one safetensors file, tensors as they are and all else as JSON in its metadata."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..imaging.io import written_whole
from ..options import NULL_METHODS
from ..text.prompt import Prompt, Word
from .ddim_inversion import Inversion

FORMAT = "pinpoint-inversion"
VERSION = 1
_TENSORS = ("latents", "token_vectors", "null_text", "trajectory")


def save_inversion(inversion: Inversion, path: str | Path) -> Path:
    """Write an inversion atomically."""
    tensors = {
        name: value.detach().to("cpu").contiguous()
        for name in _TENSORS
        if (value := getattr(inversion, name)) is not None
    }
    facts = {
        "timesteps": inversion.timesteps,
        "prompt": asdict(inversion.prompt),
        "fingerprint": inversion.fingerprint,
        "token_positions": inversion.token_positions,
        "null_method": inversion.null_method,
        "guidance": inversion.guidance,
    }
    metadata = {"format": FORMAT, "version": str(VERSION), "inversion": json.dumps(facts)}
    with written_whole(path) as beside:
        save_file(tensors, beside, metadata=metadata)
    return Path(path)


def open_inversion(path: str | Path) -> Inversion:
    """Read an inversion that `save_inversion` wrote.

    Raises ValueError for a file that is missing, corrupt, of another kind or of a later version.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"inversion: there is no file {str(path)!r}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys() if name in _TENSORS}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"inversion: {str(path)!r} is not a whole safetensors file ({error})") from None
    if metadata.get("format") != FORMAT:
        raise ValueError(f"inversion: {str(path)!r} is a safetensors file, but not one of Pinpoint's inversions")
    if metadata.get("version") != str(VERSION):
        raise ValueError(
            f"inversion: {str(path)!r} has version {metadata.get('version')}, this Pinpoint reads {VERSION}"
        )
    try:
        return _checked(Inversion(**tensors, **_facts(json.loads(metadata["inversion"]))))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"inversion: {str(path)!r} does not hold what it says ({error})") from None


def _facts(stored: dict[str, Any]) -> dict[str, Any]:
    prompt = stored["prompt"]
    words = tuple(Word(w["text"], w["start"], w["end"], tuple(w["tokens"])) for w in prompt["words"])
    return {
        "timesteps": tuple(stored["timesteps"]),
        "prompt": Prompt(
            text=prompt["text"],
            token_ids=tuple(prompt["token_ids"]),
            words=words,
            nouns=tuple(prompt["nouns"]),
            pairs=tuple((noun, adjective) for noun, adjective in prompt["pairs"]),
            length=prompt["length"],
            weights=tuple(prompt.get("weights", ())),
        ),
        "fingerprint": stored["fingerprint"],
        "token_positions": tuple(stored["token_positions"]),
        "null_method": stored["null_method"],
        "guidance": stored["guidance"],
    }


def _checked(inversion: Inversion) -> Inversion:
    steps = inversion.steps
    shape = (steps + 1, *inversion.latents.shape[1:])
    lengths = {
        "latents": (inversion.latents, steps + 1),
        "trajectory": (inversion.trajectory, steps + 1),
        "token_vectors": (inversion.token_vectors, steps),
        "null_text": (inversion.null_text, steps),
    }
    for name, (tensor, rows) in lengths.items():
        if tensor is not None and len(tensor) != rows:
            raise ValueError(f"{name} has {len(tensor)} rows for {steps} steps")
    if inversion.latents.ndim != 4:
        raise ValueError(f"latents have the shape {tuple(inversion.latents.shape)}")
    if inversion.trajectory is not None and inversion.trajectory.shape != shape:
        raise ValueError("trajectory and latents differ in shape")
    if inversion.token_vectors is not None and inversion.token_vectors.shape[1] != len(inversion.token_positions):
        raise ValueError("token vectors and positions differ in number")
    if inversion.null_method not in NULL_METHODS:
        raise ValueError(f"null method {inversion.null_method!r} is unknown")
    if inversion.null_method == "null-text" and (inversion.null_text is None or inversion.trajectory is None):
        raise ValueError("null text is missing")
    return inversion
