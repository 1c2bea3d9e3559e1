"""The boxes of Learn Regions in a browser: looked at, chosen by mouse and keyboard, used by the next run.

ViT and CLIP are tiny random ones, so that only the panel is tested here, not how good the choice is.
"""

from __future__ import annotations

import pytest

from pinpoint.tests.comfyui.browser import CanvasPage, rendering_names
from pinpoint.tests.comfyui.panels import ANCHORS, LEARN, PICK, Chooser, region_workflow
from pinpoint.tests.fixtures.tiny_encoders import write_tiny_clip, write_tiny_vit


@pytest.fixture(scope="module", params=rendering_names())
def ran(request: pytest.FixtureRequest, canvas: CanvasPage) -> CanvasPage:
    models = canvas.comfyui.base / "models"
    write_tiny_vit(models / "tiny_vit")
    write_tiny_clip(models / "tiny_clip")
    canvas.vue_nodes(request.param == "vue")
    canvas.open(region_workflow(canvas.comfyui.get("/object_info")))
    canvas.run()
    return canvas


def test_every_anchors_box_is_on_the_image_and_the_best_is_taken(ran):
    for kind in (LEARN, PICK):
        chooser = Chooser(ran, kind)
        chooser.box(1).wait_for()
        assert chooser.panel.locator(".pp-box").count() == ANCHORS
        # Best first, as Pick Best Edit has ranked them.
        scores = [float(text.split(" · ")[1]) for text in chooser.panel.locator(".pp-label").all_inner_texts()]
        assert scores == sorted(scores, reverse=True)
        assert chooser.pressed == ["Best"] and chooser.choice == 0
        ran.shot(f"regions-{kind}")
    assert ran.problems == []


def test_a_click_on_a_box_chooses_it_and_the_next_run_takes_it(ran):
    learned, node_of = Chooser(ran, LEARN), "() => app.graph._nodes.find(({ type }) => type === '%s').id"
    best = int(learned.panel.locator(".pp-box.pp-taken").get_attribute("data-word"))
    other = next(anchor for anchor in range(1, ANCHORS + 1) if anchor != best)
    learned.click(other)
    assert learned.choice == other and learned.pressed == [str(other)]
    assert learned.says().startswith(f"box {other} · ") and learned.says().endswith("run to take it")
    ran.run()
    ran.page.wait_for_function("(node) => app.nodeOutputs[node]", arg=str(ran.page.evaluate(node_of % PICK)))
    taken = ran.page.evaluate(
        "(node) => app.nodeOutputs[node].pinpoint_choice[0]", str(ran.page.evaluate(node_of % PICK))
    )
    assert taken == other
    history = ran.comfyui.get("/history")
    latest = max(history.values(), key=lambda entry: entry["prompt"][0])
    kept = [
        node
        for kind, details in latest["status"]["messages"]
        if kind == "execution_cached"
        for node in details["nodes"]
    ]
    assert str(ran.page.evaluate(node_of % LEARN)) in kept, "another choice learns nothing anew"
    picked = Chooser(ran, PICK)
    picked.panel.locator(f".pp-box.pp-chosen[data-word='{other}']").wait_for()
    assert picked.pressed == [str(other)] and not picked.says().endswith("run to take it")


def test_boxes_are_chosen_by_keyboard_and_escape_leaves_it_to_the_score(ran):
    picked = Chooser(ran, PICK)
    stage = picked.panel.locator(".pp-stage")
    ranked = [int(text) for text in picked.panel.locator(".pp-chip").all_inner_texts()[1:]]
    stage.press("Escape")
    assert picked.choice == 0 and picked.pressed == ["Best"]
    for anchor in ranked[:2]:
        stage.press("ArrowRight")
        assert picked.choice == anchor and picked.pressed == [str(anchor)]
    stage.press("ArrowLeft")
    assert picked.choice == ranked[0]
    stage.press("Delete")
    assert picked.panel.locator(".pp-box").count() == ANCHORS, "a run's boxes are not deleted"
    picked.panel.get_by_role("button", name="Best").press("Enter")
    assert picked.choice == 0


def test_the_edit_of_the_chosen_box_is_shown_and_the_image_before(ran):
    picked = Chooser(ran, PICK)
    image = picked.panel.locator(".pp-image")

    def shown_after(press: str) -> str:
        former = image.get_attribute("src")
        picked.panel.get_by_role("button", name=press, exact=True).click()
        ran.page.wait_for_function(
            "([former]) => [...document.querySelectorAll('.pp-regions')].at(-1).querySelector('.pp-image')"
            ".getAttribute('src') !== former",
            arg=[former],
        )
        return image.get_attribute("src")

    # The best's edit is shown to begin with.
    best, second = picked.panel.locator(".pp-chip").all_inner_texts()[1:3]
    seen = [shown_after(name) for name in (second, best, "Before", "Edit")]
    assert len(set(seen[:3])) == 3 and seen[3] == seen[1]
    picked.panel.get_by_role("button", name="Best").click()


def test_a_choice_is_undone(ran):
    learned = Chooser(ran, LEARN)
    learned.click(1)
    assert learned.choice == 1
    learned.panel.locator(".pp-stage").press("Control+z")
    ran.page.wait_for_function(
        "() => app.graph._nodes.find(({ type }) => type === 'PinpointPickBestEdit')"
        "?.widgets.find(({ name }) => name === 'choice').value === 0"
    )
    ran.page.wait_for_function(
        "(count) => document.querySelectorAll('.pp-regions .pp-box').length === 2 * count", arg=ANCHORS
    )
    assert ran.problems == []


def test_variants_in_other_boxes_have_their_scores_in_both_panels(ran):
    """With a region mask, anchors away from it have variants in another's box or in the region's own."""
    ran.open(region_workflow(ran.comfyui.get("/object_info"), place=(8, 8, 40, 48)))
    ran.run()
    for kind in (LEARN, PICK):
        chooser = Chooser(ran, kind)
        chooser.panel.locator(".pp-label", has_text="·").first.wait_for()
        labels = chooser.panel.locator(".pp-label").all_inner_texts()
        assert len(labels) == ANCHORS and not any("loss" in label for label in labels), labels
        told = [chip.get_attribute("title") for chip in chooser.panel.locator(".pp-chip").all()[1:]]
        assert any(" · variant 2 · " in title for title in told), told
        assert all("loss" not in title for title in told if "variant" in title or "region mask" in title), told
        ran.shot(f"regions-variants-{kind}")
    assert ran.problems == []
