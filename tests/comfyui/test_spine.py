"""The spine in a real ComfyUI: it loads, says what it takes, edits, caches, fails and stops as it should."""

from __future__ import annotations

import re

import numpy as np
import pytest

from pinpoint.tests.comfyui.comfyui_server import PACK, ROOT, ComfyUI, Outcome
from pinpoint.tests.comfyui.prompts import BOX, node, nothing_of_ours, word_swap

NODES = {
    "PinpointLoadEditModel",
    "PinpointEditModelFromComfyUI",
    "PinpointEmbeddedCheckpoint",
    "PinpointSamplePicture",
    "PinpointParsePrompt",
    "PinpointDDIMInvert",
    "PinpointNullTextInversion",
    "PinpointLocInv",
    "PinpointSaveInversion",
    "PinpointLoadInversion",
    "PinpointPriorFromBBOX",
    "PinpointPriorFromMask",
    "PinpointPriorFromSEGS",
    "PinpointPriorFromBoxes",
    "PinpointCombinePriors",
    "PinpointOptimizeTokens",
    "PinpointPromptToPromptEdit",
    "PinpointPlugAndPlayEdit",
    "PinpointMasaCtrlEdit",
    "PinpointDiffEdit",
    "PinpointPix2PixZeroEdit",
    "PinpointLeditsEdit",
    "PinpointImagicEdit",
    "PinpointLoadInstructPix2Pix",
    "PinpointInstructPix2PixEdit",
    "PinpointCrossAttentionMaps",
    "PinpointCompare",
    "PinpointEditMetrics",
    "PinpointPriorFromSegmentAnything",
    "PinpointPriorFromText",
    "PinpointFindWord",
    "PinpointLoadViT",
    "PinpointLoadCLIP",
    "PinpointProposeAnchors",
    "PinpointScoreRegions",
    "PinpointLearnRegions",
    "PinpointPickBestEdit",
    "PinpointEditorBlended",
    "PinpointEditorLocInv",
    "PinpointEditorInpaint",
    "PinpointEditorAmused",
    "PinpointEditorComfyUISampler",
}


def our_nodes(comfyui: ComfyUI) -> dict[str, dict]:
    return {name: info for name, info in comfyui.get("/object_info").items() if name.startswith("Pinpoint")}


def shown(comfyui: ComfyUI, outcome: Outcome, name: str) -> np.ndarray:
    return comfyui.image(outcome.outputs[name]["images"][0])


def failed(comfyui: ComfyUI, prompt: dict, at: str) -> str:
    outcome = comfyui.run(prompt)
    assert outcome.status == "error"
    assert outcome.error["node_id"] == at
    assert outcome.error["exception_type"].endswith("ValueError")
    return outcome.error["exception_message"].strip()


@pytest.fixture(scope="module")
def swapped(comfyui: ComfyUI) -> Outcome:
    # ComfyUI keeps what belongs to the last prompt: after another one every node runs.
    comfyui.run(nothing_of_ours())
    outcome = comfyui.run(word_swap())
    assert outcome.status == "success", outcome.error
    return outcome


def test_the_pack_loads_without_a_warning(comfyui):
    log = comfyui.log.read_text()
    line = re.search(rf"^ *(\d+\.\d) seconds(.*): \S*/{PACK}$", log, re.MULTILINE)
    assert line, log
    assert line[2] == ""
    started = log[: log.index("To see the GUI")]
    about_us = [text for text in started.splitlines() if re.search(PACK, text.replace(str(ROOT), ""), re.IGNORECASE)]
    assert about_us == [line[0]]


def test_every_node_is_there_and_every_input_and_output_explains_itself(comfyui):
    nodes = our_nodes(comfyui)
    assert set(nodes) == NODES
    for name, info in nodes.items():
        assert info["display_name"] and info["description"], name
        assert info["category"].startswith("Pinpoint/"), name
        inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
        assert inputs or name == "PinpointEmbeddedCheckpoint", name
        for wanted, (_, options) in inputs.items():
            assert options.get("tooltip"), f"{name}.{wanted}"
        assert len(info["output_tooltips"]) == len(info["output"]) and all(info["output_tooltips"]), name


def test_no_seed_changes_by_itself_so_that_a_second_run_finds_the_results_of_the_first(comfyui):
    # The frontend adds a control that draws a new seed after each run, unless it is told not to.
    seeds = [
        options["control_after_generate"]
        for info in our_nodes(comfyui).values()
        for name, (_, options) in info["input"]["required"].items()
        if name == "seed"
    ]
    assert seeds and not any(seeds)


def test_every_node_has_a_help_page_that_names_each_of_its_inputs(comfyui):
    for name, info in our_nodes(comfyui).items():
        page = comfyui.get_bytes(f"/extensions/{PACK}/docs/{name}.md").decode()
        for wanted in {**info["input"].get("required", {}), **info["input"].get("optional", {})}:
            assert f"`{wanted}`" in page, f"{name}.{wanted}"


def test_a_word_swap_changes_the_image_inside_the_prior_and_nothing_outside(comfyui, swapped):
    before, after = (shown(comfyui, swapped, name).astype(int) for name in ("source_shown", "edit_shown"))
    assert before.shape == after.shape
    x0, y0, x1, y1 = (int(side) for side in BOX.removeprefix("cat=").split(","))
    inside = np.zeros(before.shape[:2], dtype=bool)
    inside[y0:y1, x0:x1] = True
    composited = comfyui.run(word_swap(composite=True))
    assert composited.status == "success", composited.error
    kept = shown(comfyui, composited, "edit_shown").astype(int)
    assert np.array_equal(kept[~inside], before[~inside])
    assert np.abs(kept[inside] - before[inside]).mean() > 1
    grown = comfyui.run(word_swap(composite=True, composite_grow=8.0))
    assert grown.status == "success", grown.error
    wider = shown(comfyui, grown, "edit_shown").astype(int) != before
    near = np.zeros_like(inside)
    near[y0 - 8 : y1 + 8, x0 - 8 : x1 + 8] = True
    assert wider[near & ~inside].any() and not wider[~near].any()
    # Without the composite the background is the source's own latents through the VAE.
    assert np.abs(after - before)[~inside].mean() < np.abs(after - before)[inside].mean()


def test_progress_previews_and_cost_reach_the_browser(swapped):
    ends = {name: (value, most) for name, value, most in swapped.progress}
    for name in ("invert", "tokens", "edit"):
        assert ends[name] == (4, 4)
    assert swapped.previews >= 2
    assert re.fullmatch(r"\d+ NFE, \d+\.\d s", swapped.texts["edit"])
    # Direct Inversion: the source, and the target with and without its prompt, in each of 4 steps.
    assert swapped.texts["edit"].startswith("12 ")
    assert swapped.texts["prompt"].startswith("objects: cat, star")


def test_changing_only_the_target_runs_only_the_edit_again(comfyui, swapped):
    again = comfyui.run(word_swap(target="a blue cat and a red star in a meadow"))
    assert again.status == "success", again.error
    assert set(again.ran) == {"edit", "edit_shown", "mask_shown"}


def test_changing_only_the_prior_runs_from_the_tokens_on_again(comfyui, swapped):
    again = comfyui.run(word_swap(boxes="cat=8,28,60,76"))
    assert again.status == "success", again.error
    assert set(again.ran) == {"prior", "tokens", "null", "edit", "edit_shown", "mask_shown"}


def test_bad_input_is_an_error_on_its_node_that_says_what_is_wanted(comfyui):
    said = failed(comfyui, word_swap(boxes="dog=11,30,57,73"), "tokens")
    assert "'dog'" in said and "a, yellow, cat, and" in said
    said = failed(comfyui, word_swap(boxes="cat=11,30,500,73"), "prior")
    assert "leaves the image" in said
    said = failed(comfyui, word_swap(boxes="cat 11 30"), "prior")
    assert "word=x0,y0,x1,y1" in said
    said = failed(comfyui, word_swap(target=" "), "edit")
    assert "empty" in said
    said = failed(comfyui, word_swap(target="very " * 200 + "big"), "edit")
    assert "too long" in said
    said = failed(comfyui, word_swap(equalizer="wolf=2"), "edit")
    assert "'wolf'" in said


def test_objects_of_one_name_are_told_apart_and_a_dash_says_that_there_are_none(comfyui):
    prompt = {"model": node("PinpointLoadEditModel", model="embedded", dtype="auto", prediction="auto")}
    for name, nouns in {"two": "cat, cat#2", "none": "-"}.items():
        prompt[name] = node("PinpointParsePrompt", model=["model", 0], text="a cat and a yellow cat", nouns=nouns)
    prompt["named"] = node("PreviewAny", source=["two", 1])
    outcome = comfyui.run(prompt)
    assert outcome.status == "success", outcome.error
    assert outcome.outputs["named"]["text"] == ["cat, cat#2"]
    assert outcome.texts["none"].startswith("objects: none; pairs: none;")


def test_maps_with_a_prior_of_another_image_are_refused(comfyui):
    prompt = word_swap()
    prompt["large"] = node(
        "ImageScale", image=["sample", 0], upscale_method="area", width=256, height=256, crop="disabled"
    )
    prompt["other"] = node("PinpointPriorFromBoxes", image=["large", 0], boxes="fox=11,30,57,73")
    prompt["maps"] = node("PinpointCrossAttentionMaps", source=["edit", 4], prior=["other", 0], words="")
    said = failed(comfyui, prompt, "maps")
    assert "256x256" in said and "128x128" in said


def test_a_composite_that_cannot_be_is_refused_before_the_edit_is_made(comfyui):
    prompt = word_swap(composite=True, local_blend="off")
    prompt["dog"] = node("PinpointPriorFromBoxes", image=["sample", 0], boxes="dog=11,30,57,73")
    prompt["edit"]["inputs"]["prior"] = ["dog", 0]
    outcome = comfyui.run(prompt)
    assert outcome.status == "error" and outcome.error["node_id"] == "edit"
    assert "'dog'" in outcome.error["exception_message"]
    assert "edit" not in {name for name, _, _ in outcome.progress}


def test_a_batch_is_refused_with_the_node_that_splits_it_and_runs_through_it(comfyui):
    prompt = word_swap(steps=2)
    prompt["batch"] = node("ImageBatch", image1=["sample", 0], image2=["sample", 6])
    prompt["invert"]["inputs"]["image"] = ["batch", 0]
    assert "batch of 2 images" in failed(comfyui, prompt, "invert")
    prompt["split"] = node("RebatchImages", images=["batch", 0], batch_size=1)
    prompt["invert"]["inputs"]["image"] = ["split", 0]
    outcome = comfyui.run(prompt)
    assert outcome.status == "success", outcome.error
    assert len(outcome.outputs["edit_shown"]["images"]) == 2


def test_a_cancel_stops_at_once_and_the_next_run_gives_the_same_image(comfyui, swapped):
    reached: list[str] = []

    def cancel_in_tokens(kind: str, data: dict) -> None:
        if kind == "progress" and data["node"] == "tokens" and not reached:
            reached.append(data["node"])
            comfyui.interrupt()

    # The prior differs from all others, so that the tokens are tuned anew.
    longer = word_swap(steps=20, boxes="cat=12,31,56,72")
    outcome = comfyui.run(longer, cancel_in_tokens)
    assert outcome.status == "interrupted"
    assert [value for name, value, _ in outcome.progress if name == "tokens"][-1] < 20
    again = comfyui.run(word_swap())
    assert again.status == "success", again.error
    assert "tokens" in again.ran
    assert np.array_equal(shown(comfyui, again, "edit_shown"), shown(comfyui, swapped, "edit_shown"))


def test_a_saved_inversion_opens_again_and_gives_the_same_edit(comfyui, swapped):
    prompt = word_swap()
    prompt["keep"] = node("PinpointSaveInversion", inversion=["null", 0], filename_prefix="pinpoint/kept")
    saved = comfyui.run(prompt)
    assert saved.status == "success", saved.error
    name = saved.outputs["keep"]["text"][0]
    assert (comfyui.base / "output" / name).is_file()
    prompt = word_swap()
    prompt["open"] = node("PinpointLoadInversion", model=["model", 0], image=["sample", 0], file=f"{name} [output]")
    prompt["edit"]["inputs"]["inversion"] = ["open", 0]
    opened = comfyui.run(prompt)
    assert opened.status == "success", opened.error
    assert np.array_equal(shown(comfyui, opened, "edit_shown"), shown(comfyui, swapped, "edit_shown"))
    prompt["open"]["inputs"]["image"] = ["sample", 6]
    assert "another image" in failed(comfyui, prompt, "open")


def test_a_null_text_inversion_and_locinv_in_one_node_run_in_inference_mode(comfyui):
    # Both take gradients, through the UNet and through the text encoder.
    prompt = word_swap(steps=2)
    prompt["locinv"] = node(
        "PinpointLocInv",
        model=["model", 0],
        image=["sample", 0],
        prompt=["prompt", 0],
        prior=["mask_prior", 0],
        steps=2,
        guidance=5.0,
        null_text="null-text",
        solver="exact",
        bind_adjectives=True,
        inner_steps=1,
        interleaved=True,
    )
    prompt["mask_prior"] = node("PinpointPriorFromMask", mask=["sample", 1], word="cat", kind="outline")
    prompt["edit"]["inputs"]["inversion"] = ["locinv", 0]
    prompt["maps"] = node("PinpointCrossAttentionMaps", source=["locinv", 0], prior=["mask_prior", 0], words="")
    prompt["edit_maps"] = node("PinpointCrossAttentionMaps", source=["edit", 4], words="fox, star")
    prompt["compare"] = node("PinpointCompare", before=["sample", 0], after=["edit", 0], mask=["edit", 2], gain=2.0)
    prompt["metrics"] = node(
        "PinpointEditMetrics",
        before=["sample", 0],
        after=["edit", 0],
        mask=["sample", 1],
        truth=["sample", 6],
    )
    outcome = comfyui.run(prompt)
    assert outcome.status == "success", outcome.error
    (compared,) = outcome.outputs["compare"]["pinpoint_compare"]
    (pair,) = compared["pairs"]
    assert (comfyui.image(pair["before"]) != comfyui.image(pair["after"])).any()
    assert "background: PSNR" in outcome.outputs["metrics"]["text"][0]
    for name, words in {"maps": {"cat", "star", "meadow"}, "edit_maps": {"fox", "star"}}.items():
        (shown,) = outcome.outputs[name]["pinpoint_maps"]
        assert {word["word"] for word in shown["words"]} == words
        assert comfyui.image(shown["image"]).shape == (shown["height"], shown["width"], 3)
    # Two steps, before and after tuning.
    tuned = outcome.outputs["maps"]["pinpoint_maps"][0]["words"][0]
    assert len(tuned["before_steps"]) == len(tuned["after_steps"]) == 2


def test_the_pack_is_linked_from_this_checkout(comfyui):
    assert (comfyui.base / "custom_nodes" / PACK).resolve() == ROOT
