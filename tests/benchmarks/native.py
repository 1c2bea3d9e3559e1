"""`python tests/benchmarks/native.py [sd1] [sdxl]`: a Prompt-to-Prompt step on ComfyUI's own MODEL beside a plain one.

Wall time and peak memory as ratios within one run, on random weights of a released model's size in half precision.
Needs what the ComfyUI tests need.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from pinpoint.tests.comfyui.inside_process import measured


def main(names: list[str]) -> None:
    """Print a line for each model."""
    for name in names or ["sd1", "sdxl"]:
        with tempfile.TemporaryDirectory() as holder:
            told = measured("inside_cost", name, Path(holder), seconds=3000)
        weights, loaded, after = (round(told[f"{part} MiB"]) for part in ("weights", "loaded", "after"))
        print(f"{name}: wall {told['wall ratio']:.3f}x, peak memory {told['peak ratio']:.3f}x of a plain step")
        print(f"  weights {weights} MiB, process {loaded} MiB when loaded, {after} MiB after")


if __name__ == "__main__":
    main(sys.argv[1:])
