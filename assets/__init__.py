"""The embedded weights and the sample images, as paths. Nothing is loaded here."""

from __future__ import annotations

from pathlib import Path
from typing import Final

EMBEDDED: Final = Path(__file__).parent / "embedded"
"""Folders `sd` (a diffusers model), `clip`, `vit` and `amused`."""

SAMPLES: Final = Path(__file__).parent / "samples"
"""A scene with its masks, its true edit and `scenes.json`."""
