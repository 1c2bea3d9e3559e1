"""Each workflow opens in a browser from the template browser, with every node known and no error."""

from __future__ import annotations

import pytest

from pinpoint.tests.comfyui.browser import CanvasPage
from pinpoint.tests.comfyui.comfyui_server import PACK, ROOT
from pinpoint.tests.comfyui.workflow_files import load

WORKFLOWS = sorted((ROOT / "workflows").glob("*.json"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_opens_with_every_node_known_and_none_over_another(canvas: CanvasPage, path):
    canvas.vue_nodes(False)
    workflow = load(path)
    canvas.open(workflow)
    canvas.page.wait_for_timeout(2000)
    assert canvas.missing() == []
    assert canvas.problems == []
    canvas.shot(f"workflow-{path.stem}")
    frames = canvas.page.evaluate(
        "() => app.graph._nodes.map(({ title, pos, size }) => [title, ...pos, ...size])"
    )
    over = [
        (a[0], b[0])
        for i, a in enumerate(frames)
        for b in frames[:i]
        if a[1] < b[1] + b[3] and b[1] < a[1] + a[3] and a[2] < b[2] + b[4] and b[2] < a[2] + a[4]
    ]
    assert over == [], "panels must have room in the file"


def test_the_template_browser_offers_the_workflows_and_opens_one(canvas: CanvasPage):
    page = canvas.page
    assert {path.stem for path in WORKFLOWS} <= set(canvas.comfyui.get("/workflow_templates")[PACK])
    page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    dialog = page.get_by_role("dialog")
    dialog.get_by_text(PACK, exact=False).first.click()
    card = dialog.get_by_text("word_swap_with_a_box").first
    card.wait_for()
    canvas.shot("templates")
    card.click()
    page.wait_for_function("() => app.graph._nodes.some(({ type }) => type === 'PinpointPriorFromBoxes')")
    page.locator(".pp-boxes-editor").wait_for()
    assert canvas.missing() == [] and canvas.problems == []
