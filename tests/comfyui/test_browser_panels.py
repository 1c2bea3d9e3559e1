"""The nodes' panels in a browser: boxes drawn on the image, the prompt's words, maps, before and after."""

from __future__ import annotations

import pytest

from pinpoint.tests.comfyui.browser import CanvasPage, rendering_names
from pinpoint.tests.comfyui.panels import CAT, PRIOR, STAR, Editor, box_workflow, near


@pytest.fixture(params=rendering_names())
def editor(request, canvas: CanvasPage) -> Editor:
    canvas.vue_nodes(request.param == "vue")
    canvas.open(box_workflow(loaded=True))
    canvas.show(PRIOR)
    editor = Editor(canvas)
    editor.stage.wait_for(state="visible")
    editor.wait_for([CAT, STAR])
    return editor


def test_a_box_is_drawn_moved_resized_and_deleted_with_the_mouse(editor, request):
    editor.drag((20, 85), (60, 115))
    word, sides = editor.last()
    assert editor.lines[:2] == [CAT, STAR] and len(editor.lines) == 3
    assert near(sides, [20, 85, 60, 115])
    assert word, "a new box takes a word of the prompt"
    editor.drag((40, 100), (50, 90))
    assert near(editor.last()[1], [30, 75, 70, 105])
    editor.drag((70, 105), (90, 120))
    assert near(editor.last()[1], [30, 75, 90, 120])
    editor.drag((30, 97.5), (10, 97.5))
    assert near(editor.last()[1], [10, 75, 90, 120])
    editor.canvas.shot(f"boxes-{request.node.callspec.id}")
    editor.panel.get_by_role("button", name="Delete").click()
    assert editor.lines == [CAT, STAR]
    assert editor.canvas.problems == []


def test_a_box_never_leaves_the_image(editor):
    editor.drag((96, 70), (200, 200))
    assert editor.last()[1] == [83, 85, 128, 128]
    editor.drag((20, 100), (-50, 300))
    assert near(editor.last()[1], [0, 100, 20, 128])


def test_boxes_are_chosen_moved_resized_added_and_deleted_by_keyboard(editor):
    page = editor.page
    editor.stage.focus()
    page.keyboard.press("PageDown")
    for key in ("ArrowRight", "Shift+ArrowDown", "Alt+ArrowLeft", "Alt+Shift+ArrowUp"):
        page.keyboard.press(key)
    assert editor.lines == ["cat=12,40,57,73", STAR]
    page.keyboard.press("n")
    assert editor.last()[1] == [43, 43, 85, 85]
    page.keyboard.press("Enter")
    page.keyboard.type("meadow")
    page.keyboard.press("Enter")
    assert editor.last()[0] == "meadow"
    page.keyboard.press("Delete")
    page.keyboard.press("PageUp")
    page.keyboard.press("Backspace")
    assert editor.lines == [STAR]
    count = page.evaluate("() => app.graph._nodes.length")
    assert count == len(box_workflow(loaded=True)["nodes"]), "the key must not delete the node"


def test_a_box_is_drawn_and_moved_by_touch(editor):
    touch = editor.page.context.new_cdp_session(editor.page)

    def finger(*points: tuple[float, float]) -> None:
        for number, point in enumerate(points):
            x, y = editor.at(*point)
            touch.send(
                "Input.dispatchTouchEvent",
                {"type": "touchMove" if number else "touchStart", "touchPoints": [{"x": x, "y": y}]},
            )
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    finger((10, 90), (30, 100), (50, 120))
    assert near(editor.last()[1], [10, 90, 50, 120])
    finger((30, 105), (40, 102), (50, 100))
    assert near(editor.last()[1], [30, 85, 70, 115])


def test_a_second_finger_on_the_image_does_not_disturb_the_first(editor):
    touch = editor.page.context.new_cdp_session(editor.page)

    def fingers(kind: str, *points: tuple[float, float]) -> None:
        places = [editor.at(*point) for point in points]
        named = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": named})

    fingers("touchStart", (10, 90))
    fingers("touchMove", (30, 100))
    fingers("touchMove", (50, 120))
    fingers("touchStart", (50, 120), (100, 20))
    fingers("touchMove", (50, 120), (90, 30))
    fingers("touchEnd")
    assert len(editor.lines) == 3 and near(editor.last()[1], [10, 90, 50, 120])


def test_a_key_pressed_while_a_box_is_dragged_loses_none(editor):
    mouse = editor.page.mouse
    mouse.move(*editor.at(30, 50))
    mouse.down()
    mouse.move(*editor.at(40, 55))
    editor.page.keyboard.press("Delete")
    mouse.move(*editor.at(50, 60))
    mouse.up()
    assert len(editor.lines) == 2 and near([float(side) for side in editor.lines[0][4:].split(",")], [31, 40, 77, 83])
    assert editor.lines[1] == STAR


def test_a_box_is_named_by_a_click_on_a_word_of_the_prompt(editor):
    editor.page.mouse.click(*editor.at(30, 50))
    assert editor.says() == "cat · 46 × 43 at 11, 30"
    editor.panel.get_by_role("button", name="meadow", exact=True).click()
    assert editor.lines == ["meadow=11,30,57,73", STAR]
    editor.panel.get_by_role("textbox").fill("dog")
    editor.panel.get_by_role("textbox").press("Enter")
    assert editor.lines == ["dog=11,30,57,73", STAR]
    assert editor.says() == "dog is not in the prompt"


def test_an_input_method_s_enter_names_no_box_and_no_name_breaks_the_line(editor):
    editor.page.mouse.click(*editor.at(30, 50))
    typed = editor.panel.get_by_role("textbox")
    typed.fill("ねこ")
    composing = "{ key: 'Enter', isComposing: true, bubbles: true }"
    typed.evaluate(f"(field) => field.dispatchEvent(new KeyboardEvent('keydown', {composing}))")
    assert editor.lines == [CAT, STAR]
    typed.press("Enter")
    assert editor.lines == ["ねこ=11,30,57,73", STAR]
    typed.fill("cat=1;2")
    typed.press("Enter")
    assert editor.lines == ["cat 1 2=11,30,57,73", STAR]


def test_boxes_come_and_go_with_undo_and_redo(editor):
    editor.drag((20, 85), (60, 115))
    drawn = editor.lines
    editor.stage.press("Control+z")
    editor.wait_for([CAT, STAR])
    editor.shows(2)
    editor.page.keyboard.press("Control+Shift+z")
    editor.wait_for(drawn)
    editor.shows(3)


def test_boxes_survive_copy_and_paste(editor):
    editor.drag((20, 85), (60, 115))
    editor.stage.press("Control+c")
    editor.page.keyboard.press("Control+v")
    editor.page.wait_for_function(
        "() => app.graph._nodes.filter(({ type }) => type === 'PinpointPriorFromBoxes').length === 2"
    )
    values = editor.page.evaluate(
        "() => app.graph._nodes.filter(({ type }) => type === 'PinpointPriorFromBoxes')"
        ".map(({ widgets }) => widgets[0].value)"
    )
    assert values[0] == values[1] == "\n".join(editor.lines)


def test_a_node_that_is_made_only_to_be_copied_keeps_nothing_going(editor):
    """Copying clones a node, reads it, and drops it without ever putting it into the graph."""
    began, joined, ended = editor.page.evaluate(
        """() => {
          const [start, stop] = [window.setInterval, window.clearInterval], timers = new Set();
          window.setInterval = (...given) => [...timers.add(start(...given))].at(-1);
          window.clearInterval = (timer) => (timers.delete(timer), stop(timer));
          try {
            const copy = app.graph._nodes.find(({ type }) => type === 'PinpointPriorFromBoxes').clone();
            const counts = [timers.size];
            app.graph.add(copy);
            counts.push(timers.size);
            app.graph.remove(copy);
            return [...counts, timers.size];
          } finally {
            Object.assign(window, { setInterval: start, clearInterval: stop });
          }
        }"""
    )
    assert began == ended == 0 < joined


def test_what_is_typed_in_the_lines_is_drawn_and_what_is_no_box_is_kept(editor):
    editor.canvas.set_value(PRIOR, "boxes", "cat=10,10,50,50\nstar is here\nstar=60,60,200,100")
    boxes = editor.panel.locator(".pp-box")
    boxes.nth(1).wait_for()
    assert boxes.count() == 2
    assert editor.says() == "“star is here” is not word=x0,y0,x1,y1"
    editor.drag((30, 30), (40, 45))
    assert editor.lines[1:] == ["star is here", "star=60,60,200,100"]
    assert near([float(side) for side in editor.lines[0][4:].split(",")], [20, 25, 60, 65])


def test_markup_in_a_word_stays_text(editor):
    editor.canvas.set_value(PRIOR, "boxes", "<img src=x onerror=alert(1)>\n<b>cat</b>=10,10,50,50")
    editor.panel.locator(".pp-box").first.wait_for()
    assert editor.panel.locator(".pp-label").inner_text() == "<b>cat</b>"
    assert editor.panel.locator("b, .pp-label img").count() == 0


def test_the_panel_adds_nothing_to_what_is_saved_and_queued(editor):
    saved, queued = editor.page.evaluate(
        """async () => {
          const node = app.graph._nodes.find(({ type }) => type === 'PinpointPriorFromBoxes');
          return [node.serialize().widgets_values, (await app.graphToPrompt()).output[node.id].inputs];
        }"""
    )
    assert saved == ["\n".join([CAT, STAR])]
    assert set(queued) == {"image", "boxes"}


@pytest.fixture(scope="module")
def ran(canvas: CanvasPage) -> CanvasPage:
    canvas.vue_nodes(False)
    canvas.open(box_workflow(loaded=False))
    canvas.run()
    return canvas


def test_after_a_run_the_prompts_nouns_and_their_adjectives_are_marked(ran):
    ran.show("PinpointParsePrompt", 1.3)
    prompt = ran.page.locator(".pp-prompt")
    ran.shot("prompt")
    marked = {kind: prompt.locator(f".pp-{kind}").all_inner_texts() for kind in ("noun", "adjective", "plain")}
    assert marked["noun"] == ["cat", "star", "meadow"]
    assert marked["adjective"] == ["yellow", "red"]
    assert marked["plain"] == ["a", "and", "a", "in", "a"]
    prompt.get_by_role("button", name="meadow").click()
    assert ran.value("PinpointParsePrompt", "nouns") == "cat, star"
    prompt.get_by_role("button", name="meadow").press("Enter")
    assert ran.value("PinpointParsePrompt", "nouns") == "cat, star, meadow"


def test_the_last_object_of_a_prompt_can_be_unmarked_and_all_be_marked_again(ran):
    ran.show("PinpointParsePrompt", 1.3)
    prompt = ran.page.locator(".pp-prompt")
    for name in ("cat", "star", "meadow"):
        prompt.get_by_role("button", name=name).click()
    assert ran.value("PinpointParsePrompt", "nouns") == "-"
    assert prompt.locator(".pp-noun, .pp-adjective").count() == 0
    for name in ("meadow", "cat", "star"):
        prompt.get_by_role("button", name=name).click()
    assert ran.value("PinpointParsePrompt", "nouns") == "cat, star, meadow"
    assert prompt.locator(".pp-adjective").all_inner_texts() == ["yellow", "red"]


def test_of_a_phrase_the_last_word_is_the_object_and_a_pair_makes_its_noun_one(ran):
    ran.show("PinpointParsePrompt", 1.3)
    prompt = ran.page.locator(".pp-prompt")
    before = {name: ran.value("PinpointParsePrompt", name) for name in ("nouns", "bindings")}
    ran.set_value("PinpointParsePrompt", "nouns", "yellow cat")
    ran.set_value("PinpointParsePrompt", "bindings", "red:star")
    prompt.locator(".pp-plain", has_text="meadow").wait_for()
    prompt.locator(".pp-noun", has_text="star").wait_for()
    assert prompt.locator(".pp-noun").all_inner_texts() == ["cat", "star"]
    prompt.get_by_role("button", name="star").click()
    assert ran.value("PinpointParsePrompt", "bindings") == ""
    assert prompt.locator(".pp-noun").all_inner_texts() == ["cat"]
    for name, value in before.items():
        ran.set_value("PinpointParsePrompt", name, value)
    prompt.locator(".pp-noun", has_text="meadow").wait_for()


def test_after_a_run_the_sample_is_under_the_boxes_and_the_nouns_are_offered(ran):
    ran.show(PRIOR, 1.3)
    editor = Editor(ran)
    editor.stage.wait_for(state="visible")
    ran.shot("boxes-after-a-run")
    assert editor.panel.locator(".pp-chip").all_inner_texts() == ["cat", "star", "meadow"]


def test_a_map_is_chosen_by_its_word(ran):
    ran.show("PinpointCrossAttentionMaps", 1.3)
    panel = ran.page.locator(".pp-panel", has=ran.page.locator(".pp-heat"))
    assert panel.locator(".pp-chip").all_inner_texts() == ["fox", "star"]

    def pixels() -> list[int]:
        return panel.locator("canvas").evaluate(
            "(canvas) => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"
        )

    fox = pixels()
    ran.shot("maps")
    panel.get_by_role("button", name="star").press("Enter")
    assert pixels() != fox
    assert panel.locator(".pp-status").inner_text().startswith("star")


def test_the_divider_between_before_and_after_follows_the_mouse_and_the_keys(ran):
    ran.show("PinpointCompare", 1.3)
    stage = ran.page.locator(".pp-compare")
    divider = ran.page.get_by_role("slider", name="Divider")
    frame = stage.bounding_box()
    ran.page.mouse.click(frame["x"] + 0.25 * frame["width"], frame["y"] + 20)
    assert divider.get_attribute("aria-valuenow") == "25"
    divider.press("Shift+ArrowRight")
    assert divider.get_attribute("aria-valuenow") == "35"
    ran.shot("compare")
    panel = ran.page.locator(".pp-panel", has=stage)
    panel.get_by_role("button", name="Mask").click()
    assert panel.locator(".pp-outline").is_hidden()
    panel.get_by_role("button", name="Difference").click()
    assert divider.is_hidden()
    ran.shot("difference")
    assert ran.problems == []


def test_images_that_the_nodes_ran_for_one_by_one_can_all_be_compared(ran):
    ran.show("PinpointCompare", 1.3)
    again = """(count) => {
      const node = app.graph._nodes.find(({ type }) => type === 'PinpointCompare');
      const one = JSON.stringify(app.nodeOutputs[node.id].pinpoint_compare[0]);
      node.onExecuted({ pinpoint_compare: Array.from({ length: count }, () => JSON.parse(one)) });
    }"""
    ran.page.evaluate(again, 3)
    panel = ran.page.locator(".pp-panel", has=ran.page.locator(".pp-compare"))
    image = panel.get_by_role("slider", name="Image")
    assert image.get_attribute("max") == "3"
    image.press("End")
    assert "3 of 3" in panel.inner_text()
    ran.page.evaluate(again, 1)
    assert image.is_hidden()
    assert ran.problems == []
