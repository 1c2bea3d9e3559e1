"""Running the regions command with small numbers, and reading what it leaves."""

from __future__ import annotations

import json

import numpy as np
from PIL import Image

from pinpoint.__main__ import main

CAPTION, PROMPT = "a red cat", "a blue fox"


def pinpoint_regions(image, models, out, *more):
    """The command with small numbers; a later option wins over an earlier one."""
    small = ["--k", "2", "--m", "2", "--epochs", "1", "--steps", "2", "--device", "cpu"]
    networks = ["--model", str(models["plain"]), "--clip", str(models["clip"]), "--vit", str(models["vit"])]
    texts = ["--caption", CAPTION, "--prompt", PROMPT]
    return main(["regions", str(image), *texts, *networks, *small, "--out", str(out), *more])


def report_of(out):
    return json.loads((out / "report.json").read_text())


def pixels_of(path):
    return np.asarray(Image.open(path).convert("RGB"))
