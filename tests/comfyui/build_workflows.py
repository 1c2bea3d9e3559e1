"""Write the workflows that the pack brings, also as API prompts, and make each one's thumbnail by running it.

`python tests/comfyui/build_workflows.py [--no-thumbnails] [NAME …]` needs what the ComfyUI tests need;
`--api` writes the prompts of the workflows that are there, and needs no ComfyUI. A workflow that requires weights
which Pinpoint does not bring has its thumbnail made by its likeness on the embedded ones.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pinpoint.tests.comfyui import locinv_workflows, region_workflows
from pinpoint.tests.comfyui.comfyui_server import ROOT, ComfyUI, comfyui_folder, comfyui_python
from pinpoint.tests.comfyui.workflow_files import Canvas, api_prompt, load

WORKFLOWS = ROOT / "workflows"
API = WORKFLOWS / "api"
THUMBNAIL = 256

BUILDERS: tuple[Callable[..., None], ...] = (
    locinv_workflows.word_swap_with_a_mask,
    locinv_workflows.word_swap_with_a_box,
    locinv_workflows.attribute_edit,
    locinv_workflows.methods_side_by_side,
    locinv_workflows.compared_methods,
    locinv_workflows.text_prior,
    locinv_workflows.from_your_own_checkpoint,
    region_workflows.learnable_regions,
    region_workflows.learnable_regions_with_locinv,
    region_workflows.learnable_regions_with_amused,
    region_workflows.learnable_regions_with_a_comfyui_sampler,
    region_workflows.no_mask_at_all,
)
NEED_WEIGHTS: tuple[Callable[..., None], ...] = (
    locinv_workflows.text_prior,
    locinv_workflows.from_your_own_checkpoint,
)
"""Those that require weights which Pinpoint does not bring."""


def main() -> int:
    """Write `workflows/`."""
    parser = argparse.ArgumentParser(description="Write the workflows and their thumbnails.")
    parser.add_argument("--no-thumbnails", action="store_true", help="only the workflows, without running them")
    parser.add_argument("--api", action="store_true", help="only the API prompts of the workflows that are there")
    names = [build.__name__ for build in BUILDERS]
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"only these, of {', '.join(names)}")
    args = parser.parse_args()
    unknown = set(args.names) - set(names)
    if unknown:
        parser.error(f"no workflow is called {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    if args.api:
        for path in sorted(WORKFLOWS.glob("*.json")):
            write(API / path.name, api_prompt(load(path)))
        return 0
    folder, python = comfyui_folder(), comfyui_python()
    if folder is None or python is None:
        print("NO COMFYUI: see make test-comfyui", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as base:
        comfyui = ComfyUI(folder, python, Path(base))
        try:
            info = comfyui.get("/object_info")
            for build in BUILDERS:
                if args.names and build.__name__ not in args.names:
                    continue
                path = WORKFLOWS / f"{build.__name__}.json"
                workflow = laid_out(build, info)
                write(path, workflow)
                write(API / path.name, api_prompt(workflow))
                print(path.relative_to(ROOT), flush=True)
                if not args.no_thumbnails:
                    shown = laid_out(build, info, likeness=True)
                    thumbnail(comfyui, api_prompt(shown)).save(path.with_suffix(".jpg"), quality=88)
        finally:
            comfyui.stop()
    return 0


def write(path: Path, content: dict[str, Any]) -> None:
    """Write JSON as all of `workflows/` is written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def laid_out(build: Callable[..., None], info: dict[str, Any], *, likeness: bool = False) -> dict[str, Any]:
    """The workflow; as a `likeness` with embedded weights in the place of those that it requires."""
    canvas = Canvas(info)
    if likeness and build in NEED_WEIGHTS:
        build(canvas, embedded=True)
    else:
        build(canvas)
    return canvas.finished(build.__name__)


def thumbnail(comfyui: ComfyUI, prompt: dict) -> Image.Image:
    """The image and each of its edits, side by side, as the workflow's Compare nodes show them."""
    outcome = comfyui.run(prompt)
    if outcome.status != "success":
        raise RuntimeError(f"the workflow failed: {outcome.error}")
    compared = [name for name, node in prompt.items() if node["class_type"] == "PinpointCompare"]
    pairs = [outcome.outputs[number]["pinpoint_compare"][0]["pairs"][0] for number in compared]
    shown = [pairs[0]["before"], *(pair["after"] for pair in pairs)]
    images = [Image.fromarray(comfyui.image(image)) for image in shown]
    sized = [np.asarray(picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)) for picture in images]
    return Image.fromarray(np.concatenate(sized, axis=1))


if __name__ == "__main__":
    sys.exit(main())
