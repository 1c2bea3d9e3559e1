"""What an artist has done in the panels is in the saved workflow, in what is queued, and there again after a
reload."""

from __future__ import annotations

import json

import pytest

from pinpoint.tests.comfyui.browser import SLOW, CanvasPage, rendering_names
from pinpoint.tests.comfyui.panels import (
    CAT,
    LEARN,
    PICK,
    PRIOR,
    STAR,
    Chooser,
    Editor,
    box_workflow,
    region_workflow,
)

PARSER = "PinpointParsePrompt"


def saved(canvas: CanvasPage, name: str) -> dict:
    """Save the workflow under a new name, as Ctrl+S asks for it; the file that ComfyUI then has."""
    canvas.page.evaluate("() => void app.extensionManager.command.execute('Comfy.SaveWorkflowAs')")
    asked = canvas.page.get_by_role("dialog").get_by_role("textbox").first
    asked.fill(name)
    asked.press("Enter")
    path = canvas.comfyui.base / "user" / "default" / "workflows" / f"{name}.json"
    for _ in range(SLOW // 500):
        if path.is_file() and path.stat().st_size:
            break
        canvas.page.wait_for_timeout(500)
    content: dict = json.loads(path.read_text(encoding="utf-8"))
    return content


def queued(canvas: CanvasPage) -> dict[str, dict]:
    """The inputs of each kind of node in the API's format, as the menu exports it and Run queues it."""
    output = canvas.page.evaluate("async () => (await app.graphToPrompt()).output")
    return {node["class_type"]: node["inputs"] for node in output.values()}


def values(workflow: dict, kind: str) -> list:
    found: list = next(node["widgets_values"] for node in workflow["nodes"] if node["type"] == kind)
    return found


@pytest.mark.parametrize("rendering", rendering_names())
def test_boxes_and_marked_words_survive_saving_and_a_reload(canvas: CanvasPage, rendering):
    canvas.vue_nodes(rendering == "vue")
    canvas.open(box_workflow(loaded=True))
    canvas.show(PRIOR)
    editor = Editor(canvas)
    editor.stage.wait_for(state="visible")
    editor.wait_for([CAT, STAR])
    editor.drag((20, 85), (60, 115))
    editor.panel.get_by_role("button", name="meadow", exact=True).click()
    lines = editor.lines
    assert lines[:2] == [CAT, STAR] and lines[2].startswith("meadow=")
    canvas.show(PARSER)
    words = canvas.page.locator(".pp-prompt")
    for word in ("cat", "meadow"):
        words.get_by_role("button", name=word, exact=True).click()
    nouns = canvas.value(PARSER, "nouns")
    assert nouns == "cat, meadow"

    file = saved(canvas, f"boxes in {rendering}")
    assert values(file, PRIOR)[0] == "\n".join(lines) and nouns in values(file, PARSER)
    canvas.reload()
    for bring_back in (lambda: None, lambda: canvas.open(file)):
        # By itself, for the page remembers its workflow; then opened from the file.
        bring_back()
        editor.wait_for(lines)
        canvas.show(PRIOR)
        editor.shows(3)
        assert [name.split()[0] for name in editor.panel.locator(".pp-label").all_inner_texts()] == [
            "cat",
            "star",
            "meadow",
        ]
        canvas.show(PARSER)
        marked = words.locator(".pp-chip[aria-pressed=true]")
        marked.nth(1).wait_for()
        assert marked.all_inner_texts() == ["cat", "meadow"]
        sent = queued(canvas)
        assert sent[PRIOR]["boxes"] == "\n".join(lines) and sent[PARSER]["nouns"] == nouns
    assert canvas.problems == []


def test_the_chosen_region_survives_saving_and_a_reload(canvas: CanvasPage):
    canvas.vue_nodes(False)
    workflow = region_workflow(canvas.comfyui.get("/object_info"))
    pick = next(node for node in workflow["nodes"] if node["type"] == PICK)
    pick["widgets_values"][0] = 3
    canvas.open(workflow)
    chooser = Chooser(canvas, PICK)
    file = saved(canvas, "regions")
    assert values(file, PICK)[0] == 3
    canvas.reload()
    canvas.open(file)
    for kind in (LEARN, PICK):
        chooser = Chooser(canvas, kind)
        chooser.panel.get_by_text("Box 3 is chosen").wait_for()
    assert chooser.choice == 3 and queued(canvas)[PICK]["choice"] == 3
