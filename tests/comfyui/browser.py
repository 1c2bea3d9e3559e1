"""A real browser on a real ComfyUI: opens workflows, presses Run, drives panels, keeps screenshots."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pinpoint.tests.comfyui.comfyui_server import ROOT, ComfyUI

SHOTS = ROOT / "out" / "browser"
SLOW = 300_000
"""Milliseconds: a busy machine takes minutes to start the frontend."""
# What the frontend asks for and does without, in every ComfyUI without these files.
_NOT_OURS = (
    "user.css",
    "/userdata",
    "favicon.ico",
    "api.comfy.org",
    # The default workflow of a newer frontend asks how large its models are.
    "huggingface.co/Comfy-Org/",
    "apple-mobile-web-app-capable",
    # A newer frontend asks an older server for these.
    "/api/jobs",
    "JobsApiError",
    "/api/global_subgraphs",
    "/templates/index_logo.json",
    # Two fingers, which it zooms by.
    "Ignored attempt to cancel a touchmove event",
)
IMAGE = ROOT / "assets" / "samples" / "02352.png"
"""In ComfyUI's input folder before the page opens, so that Load Image knows it."""
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Workflow.Persist": True,
    "Comfy.Graph.CanvasInfo": False,
}


def chromium() -> str | None:
    """CHROMIUM, else the one on the path."""
    given = os.environ.get("CHROMIUM")
    return given or next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def rendering_names() -> tuple[str, ...]:
    """How nodes can be rendered: on the canvas, and by Vue where the frontend is a newer one.

    The frontend that ComfyUI pins has the new rendering only as a hidden experiment, without other people's
    panels.
    """
    return ("canvas", "vue") if os.environ.get("COMFYUI_FRONTEND") else ("canvas",)


class CanvasPage:
    """ComfyUI's canvas in a browser. `problems` are the errors in its console, but for ComfyUI's own."""

    def __init__(self, page: Any, comfyui: ComfyUI) -> None:
        self.page, self.comfyui = page, comfyui
        self.problems: list[str] = []
        page.set_default_timeout(SLOW)
        page.on("console", self._said)
        page.on("pageerror", self._failed)
        self.reload()

    def _said(self, message: Any) -> None:
        where = message.location.get("url", "")
        of_the_frontend = any(part in where + message.text for part in _NOT_OURS)
        if message.type == "error" and ("/extensions/pinpoint/" in where or not of_the_frontend):
            self.problems.append(f"{message.text} ({where})")

    def _failed(self, error: Any) -> None:
        # The frontend's own slips, when a machine is slow, are not the pack's.
        if "/extensions/pinpoint/" in (error.stack or ""):
            self.problems.append(error.stack)

    def reload(self) -> None:
        """Open the frontend, or open it again."""
        self.page.goto(f"http://127.0.0.1:{self.comfyui.port}/", wait_until="domcontentloaded", timeout=SLOW)
        self.page.wait_for_function(
            "() => window.app?.graph && app.canvas && app.extensionManager?.workflow?.activeWorkflow"
            " && app.extensions.some(({ name }) => name === 'Pinpoint')"
        )

    def vue_nodes(self, on: bool) -> None:
        """Choose how nodes are rendered."""
        self.page.evaluate("(on) => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", on)

    def open(self, workflow: dict[str, Any]) -> None:
        """Open a workflow as from its file."""
        self.page.evaluate("(workflow) => app.loadGraphData(workflow)", workflow)
        self.page.wait_for_function("(count) => app.graph._nodes.length === count", arg=len(workflow["nodes"]))

    def missing(self) -> list[str]:
        """The types of nodes that the frontend does not know, or has a fault to find with.

        A newer frontend finds fault with a checkpoint that the server does not have; these nodes are known.
        """
        return self.page.evaluate(
            "() => app.graph._nodes.filter((node) =>"
            " (node.has_errors && node.type !== 'CheckpointLoaderSimple')"
            " || !(node.type in LiteGraph.registered_node_types) || (!node.constructor.nodeData &&"
            " !['MarkdownNote', 'Note', 'Reroute'].includes(node.type))).map((node) => node.type)"
        )

    def value(self, kind: str, widget: str) -> Any:
        """What a widget of the only node of a kind holds."""
        return self.page.evaluate(
            "([kind, widget]) => app.graph._nodes.find((node) => node.type === kind)"
            ".widgets.find(({ name }) => name === widget).value",
            [kind, widget],
        )

    def set_value(self, kind: str, widget: str, value: Any) -> None:
        """Set a widget, as typing would."""
        self.page.evaluate(
            "([kind, widget, value]) => { app.graph._nodes.find((node) => node.type === kind)"
            ".widgets.find(({ name }) => name === widget).value = value }",
            [kind, widget, value],
        )

    def show(self, kind: str, scale: float = 1.0) -> None:
        """Move the canvas until the only node of a kind is in its middle."""
        self.page.evaluate(
            """([kind, scale]) => {
              const node = app.graph._nodes.find((node) => node.type === kind), { ds } = app.canvas;
              const frame = app.canvas.canvas.getBoundingClientRect();
              ds.scale = scale;
              ds.offset[0] = frame.width / 2 / scale - node.pos[0] - node.size[0] / 2;
              ds.offset[1] = frame.height / 2 / scale - node.pos[1] - node.size[1] / 2;
              app.canvas.setDirty(true, true);
            }""",
            [kind, scale],
        )
        self.page.wait_for_timeout(1500)

    def fit(self, margin: float = 50) -> None:
        """Move and zoom the canvas until all of the workflow is in it, between the page's bars."""
        self.page.evaluate(
            """(margin) => {
              const boxes = [...app.graph._groups, ...app.graph._nodes].map(({ pos, size }) =>
                [pos[0], pos[1] - 30, pos[0] + size[0], pos[1] + size[1]]);
              const [left, top] = [0, 1].map((side) => Math.min(...boxes.map((box) => box[side])));
              const [right, bottom] = [2, 3].map((side) => Math.max(...boxes.map((box) => box[side])));
              const { ds, canvas } = app.canvas, { width, height } = canvas.getBoundingClientRect();
              const bar = 60, room = [width - 2 * margin, height - 2 * margin - 2 * bar];
              ds.scale = Math.min(room[0] / (right - left), room[1] / (bottom - top));
              ds.offset[0] = width / 2 / ds.scale - (left + right) / 2;
              ds.offset[1] = height / 2 / ds.scale - (top + bottom) / 2;
              app.canvas.deselectAll?.();
              app.canvas.setDirty(true, true);
            }""",
            margin,
        )
        self.page.wait_for_timeout(1500)

    def run(self) -> None:
        """Press Run and wait until nothing is queued."""
        before = len(self.comfyui.get("/history"))
        self.page.get_by_role("button", name="Run", exact=True).first.click()
        until = time.monotonic() + 3 * SLOW / 1000
        while time.monotonic() < until:
            # Through Playwright, so that the page's messages are heard meanwhile.
            self.page.wait_for_timeout(1000)
            queue = self.comfyui.get("/queue")
            if len(self.comfyui.get("/history")) > before and not queue["queue_running"]:
                return
        raise TimeoutError("the workflow did not end")

    def shot(self, name: str, locator: Any = None) -> Path:
        """Keep an image of the page, or of a part of it."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        path = SHOTS / f"{name}.png"
        (locator or self.page).screenshot(path=path, timeout=SLOW)
        return path


@contextmanager
def canvas_page(
    comfyui: ComfyUI, executable: str, *, size: tuple[int, int] = (1280, 900), touch: bool = True
) -> Iterator[CanvasPage]:
    """A page of a width and height on a running ComfyUI, in a Chromium of its own."""
    from playwright.sync_api import sync_playwright

    comfyui.post("/settings", SETTINGS)
    shutil.copy(IMAGE, comfyui.base / "input" / IMAGE.name)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu"], timeout=SLOW
        )
        try:
            width, height = size
            context = browser.new_context(viewport={"width": width, "height": height}, has_touch=touch)
            # The frontend asks how large the models are that a template names; nothing else asks the hub.
            context.route("https://huggingface.co/**", lambda asked: asked.fulfill(headers={"content-length": "4"}))
            yield CanvasPage(context.new_page(), comfyui)
        finally:
            browser.close()
