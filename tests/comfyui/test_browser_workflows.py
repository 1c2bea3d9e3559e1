"""Each workflow opens in a browser from the template browser, with every node known and no error, and runs by
a press on Run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinpoint.tests.comfyui.browser import CanvasPage
from pinpoint.tests.comfyui.build_workflows import NEED_WEIGHTS
from pinpoint.tests.comfyui.comfyui_server import PACK, ROOT
from pinpoint.tests.comfyui.workflow_files import load

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))
COMPLETE = [path for path in WORKFLOWS if path.stem not in {build.__name__ for build in NEED_WEIGHTS}]
# So that a run takes seconds.
FASTER = {"steps": 2, "inner_steps": 1, "k": 2, "m": 2, "epochs": 1, "final_count": 1}


def open_template(canvas: CanvasPage, path: Path) -> None:
    """Open a workflow of the pack as an artist does, and wait until all of its nodes are there."""
    page = canvas.page
    # What another test has met is not this workflow's.
    canvas.problems.clear()
    page.evaluate("() => void app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text(PACK, exact=False).first.click()
    dialog.get_by_text(path.stem, exact=True).first.click()
    page.wait_for_function(
        "(types) => app.graph._nodes.map(({ type }) => type).sort().join() === types",
        arg=",".join(sorted(node["type"] for node in load(path)["nodes"])),
    )
    page.wait_for_timeout(2000)
    for model in (model for node in load(path)["nodes"] for model in node["properties"].get("models", [])):
        # The frontend offers what is not there, some in a dialog that lies over the page until it is closed.
        offer = page.get_by_role("dialog").filter(has_text=model["name"])
        if offer.is_visible():
            page.keyboard.press("Escape")
            offer.wait_for(state="hidden")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_opens_with_every_node_known_and_none_over_another(canvas: CanvasPage, path):
    canvas.vue_nodes(False)
    open_template(canvas, path)
    assert canvas.missing() == []
    assert canvas.problems == []
    canvas.fit()
    canvas.shot(f"workflow-{path.stem}")
    frames = canvas.page.evaluate("() => app.graph._nodes.map(({ title, pos, size }) => [title, ...pos, ...size])")
    over = [
        (a[0], b[0])
        for i, a in enumerate(frames)
        for b in frames[:i]
        if a[1] < b[1] + b[3] and b[1] < a[1] + a[3] and a[2] < b[2] + b[4] and b[2] < a[2] + a[4]
    ]
    assert over == [], "panels must have room in the file"


@pytest.mark.parametrize("path", COMPLETE, ids=lambda path: path.stem)
def test_a_workflow_runs_by_a_press_on_run(canvas: CanvasPage, path):
    canvas.vue_nodes(False)
    open_template(canvas, path)
    canvas.page.evaluate(
        """(faster) => {
          for (const widget of app.graph._nodes.flatMap(({ widgets }) => widgets ?? []))
            if (widget.name in faster) widget.value = faster[widget.name];
        }""",
        FASTER,
    )
    canvas.run()
    latest = max(canvas.comfyui.get("/history").values(), key=lambda entry: entry["prompt"][0])
    assert latest["status"]["status_str"] == "success", latest["status"]["messages"][-1]
    compared = canvas.page.locator(".pp-compare:visible, .pp-regions .pp-stage:visible")
    compared.first.wait_for()
    told = canvas.page.locator(".pp-run-text").all_text_contents()
    nodes = load(path)["nodes"]
    costs = sum(slot["name"] == "cost" for node in nodes for slot in node["outputs"])
    assert sum(" NFE, " in text for text in told) == costs
    assert sum("SSIM" in text for text in told) == sum(node["type"] == "PinpointEditMetrics" for node in nodes)
    canvas.fit()
    canvas.shot(f"ran-{path.stem}")
    assert canvas.problems == []
