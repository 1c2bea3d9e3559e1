"""Make the README's images of ComfyUI: the canvas with a workflow that has run, and each of the panels.

`python tests/comfyui/screenshots.py` needs what the browser tests need, and writes docs/images/*.png.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from pinpoint.tests.comfyui.browser import CanvasPage, canvas_page, chromium
from pinpoint.tests.comfyui.comfyui_server import ROOT, ComfyUI, comfyui_folder, comfyui_python
from pinpoint.tests.comfyui.panels import LEARN, PRIOR, Editor
from pinpoint.tests.comfyui.workflow_files import load

IMAGES = ROOT / "docs" / "images"
SCALE = 1.4
"""Zoom at which a node is taken."""
WIDTH, HEIGHT = 1600, 1500
"""Of the page: room for the tallest node at that zoom."""
COLOURS = 256
MOST_BYTES = 250_000
SETTINGS = {
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
    # Texts of nodes are drawn however small they are.
    "LiteGraph.Canvas.LowQualityRenderingZoomThreshold": 0.1,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}


def opened(canvas: CanvasPage, name: str) -> None:
    """A workflow of the pack, run."""
    canvas.open(load(ROOT / "workflows" / f"{name}.json"))
    canvas.run()
    # What ran says its time on the node; the tab and the images settle.
    canvas.page.wait_for_timeout(3000)


def whole_canvas(canvas: CanvasPage) -> bytes:
    """The page with all of the workflow in it."""
    opened(canvas, "word_swap_with_a_box")
    canvas.page.set_viewport_size({"width": 1500, "height": 1180})
    canvas.fit(margin=25)
    content: bytes = canvas.page.screenshot()
    canvas.page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    return content


def box_editor(canvas: CanvasPage) -> bytes:
    """The boxes of the same workflow, the cat's chosen."""
    canvas.show(PRIOR, SCALE)
    editor = Editor(canvas)
    editor.page.mouse.click(*editor.at(34, 50))
    return node_shot(canvas, PRIOR)


def prompt_chips(canvas: CanvasPage) -> bytes:
    """Nouns and adjectives of the same workflow's prompt."""
    return node_shot(canvas, "PinpointParsePrompt")


def compare(canvas: CanvasPage) -> bytes:
    """Before and after of the same workflow, the divider across the cat."""
    canvas.show("PinpointCompare", SCALE)
    frame = canvas.page.locator(".pp-compare").bounding_box()
    canvas.page.mouse.click(frame["x"] + 0.27 * frame["width"], frame["y"] + 0.8 * frame["height"])
    return node_shot(canvas, "PinpointCompare")


def maps(canvas: CanvasPage) -> bytes:
    """Where the cat looks, after tuning."""
    opened(canvas, "word_swap_with_a_mask")
    return node_shot(canvas, "PinpointCrossAttentionMaps")


def regions(canvas: CanvasPage) -> bytes:
    """The anchors' boxes with their scores, the best taken."""
    opened(canvas, "learnable_regions")
    return node_shot(canvas, LEARN)


# In this order: some go on with what the one before has opened.
SHOTS: dict[str, Callable[[CanvasPage], bytes]] = {
    "canvas": whole_canvas,
    "box_editor": box_editor,
    "prompt_chips": prompt_chips,
    "compare": compare,
    "maps": maps,
    "learn_regions": regions,
}


def node_shot(canvas: CanvasPage, kind: str) -> bytes:
    """The only node of a kind, with its title and a little of the canvas around it."""
    canvas.show(kind, SCALE)
    canvas.page.mouse.move(2, 2)
    # No frame around the node, and no tools over it.
    canvas.page.evaluate("() => app.canvas.deselectAll()")
    canvas.page.wait_for_timeout(800)
    clip = canvas.page.evaluate(
        """(kind) => {
          const node = app.graph._nodes.find((node) => node.type === kind), { ds } = app.canvas;
          const frame = app.canvas.canvas.getBoundingClientRect();
          const title = LiteGraph.NODE_TITLE_HEIGHT, edge = 10;
          const x = frame.x + (node.pos[0] + ds.offset[0]) * ds.scale - edge;
          const y = frame.y + (node.pos[1] - title + ds.offset[1]) * ds.scale - edge;
          return { x, y, width: node.size[0] * ds.scale + 2 * edge,
                   height: (node.size[1] + title) * ds.scale + 2 * edge };
        }""",
        kind,
    )
    content: bytes = canvas.page.screenshot(clip=clip)
    return content


def keep(name: str, content: bytes) -> Path:
    """Write an image, with few colours where it would be large with all."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    IMAGES.mkdir(parents=True, exist_ok=True)
    path = IMAGES / f"{name}.png"
    image.save(path, optimize=True)
    if path.stat().st_size > MOST_BYTES:
        image.quantize(COLOURS, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)
    return path


def main() -> int:
    """Start ComfyUI, open the page, take the images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--without", nargs="*", default=[], choices=SHOTS, help="images to leave as they are")
    given = parser.parse_args()
    folder, python, browser = comfyui_folder(), comfyui_python(), chromium()
    if folder is None or python is None or browser is None:
        print("screenshots: requires a ComfyUI, its Python (make test-comfyui) and a Chromium", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as base:
        comfyui = ComfyUI(folder, python, Path(base))
        try:
            with canvas_page(comfyui, browser, size=(WIDTH, HEIGHT), touch=False) as canvas:
                for setting, value in SETTINGS.items():
                    canvas.page.evaluate(
                        "([name, value]) => app.extensionManager.setting.set(name, value)", [setting, value]
                    )
                for name, shot in SHOTS.items():
                    if name in given.without:
                        continue
                    path = keep(name, shot(canvas))
                    print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1000} kB")
        finally:
            comfyui.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
