"""All methods behind their one signature: what each needs, costs and keeps, on tiny models."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.localization.priors import from_boxes
from pinpoint.locinv_core.pipeline import EditRequest, localized_edit
from pinpoint.locinv_core.recipe import LOCINV
from pinpoint.methods import imagic
from pinpoint.methods.registry import all_methods, edit_by_method, method_names, method_table, open_models
from pinpoint.methods.types import EditTask, MethodModels
from pinpoint.tests.fixtures.tiny_editors import small_model, smooth_image, write_inpaint_folder
from pinpoint.tests.fixtures.tiny_encoders import tiny_clip, tiny_vit, write_tiny_clip, write_tiny_vit
from pinpoint.tests.fixtures.tiny_models import tiny_unet, write_tiny_folder

BY_INVERSION = {
    *("locinv", "dpl", "nti", "npi", "proxnpi", "direct", "ddim"),
    *("pnp", "masactrl", "diffedit", "pix2pix-zero"),
}
OTHERS = {"ledits++", "blended", "inpaint", "imagic", "instruct-pix2pix", "learnable-regions"}
FAST = {
    "dpl": {"tuning": {"inner_steps": 1}, "null_text": {"inner_steps": 1}},
    "nti": {"null_text": {"inner_steps": 1}},
    "diffedit": {"noises": 1},
    "imagic": {"embedding_steps": 1, "tuning_steps": 1},
    "learnable-regions": {"k": 2, "m": 2, "epochs": 1},
}
COSTS = {
    "ledits++": {"inversion": 2, "edit": 2 * 3},  # nothing, the red cat, the red fox
    "blended": {"edit": 1 * 2},  # three quarters of two steps
    "inpaint": {"edit": 2 * 2},
    "imagic": {imagic.EMBEDDING_STAGE: 3, imagic.TUNING_STAGE: 3, "edit": 2 * 2},
    "instruct-pix2pix": {"edit": 2 * 3},
    "direct": {"inversion": 2, "edit": 2 * 3},
}


@pytest.fixture(name="models", scope="module")
def _models():
    return MethodModels(
        model=small_model(),
        inpaint=small_model(unet_channels=9),
        instruct=small_model(unet_channels=8),
        clip=tiny_clip(),
        vit=tiny_vit(),
    )


@pytest.fixture(name="task", scope="module")
def _task():
    prior = from_boxes({"cat": (8, 8, 40, 36), "dog": (44, 40, 60, 56)}, (64, 64))
    return EditTask(smooth_image(), "a red cat and a dog", "a red fox and a dog", prior)


def test_every_method_is_what_its_file_is_called_and_has_a_row_in_the_table():
    methods = all_methods()
    assert set(methods) == {*BY_INVERSION, *OTHERS}
    assert all(method.name == name and method.label and method.paper for name, method in methods.items())
    assert len({method.label for method in methods.values()}) == len(methods)
    assert {name for name, method in methods.items() if method.recipe is not None} == BY_INVERSION
    rows = method_table().splitlines()
    assert len(rows) == 2 + len(methods)
    assert "| `ledits++` | LEDITS++ | Brack et al. 2024 | frozen | model |" in rows


@pytest.mark.parametrize("name", method_names())
def test_every_method_edits_one_image_by_the_same_call(models, task, name):
    tracker = CostTracker()
    settings = json.loads(json.dumps({"steps": 2, **FAST.get(name, {})}))
    outcome = edit_by_method(name, models, task, settings=settings, seed=1, tracker=tracker)
    assert outcome.edited.shape == task.image.shape and outcome.edited.dtype == torch.float32
    assert 0 <= float(outcome.edited.min()) and float(outcome.edited.max()) <= 1
    assert tracker.total > 0
    if name in COSTS:
        assert {stage: cost for stage, cost in tracker.forward_equivalents.items() if cost} == COSTS[name]
    assert (outcome.localized is not None) == (name in BY_INVERSION)
    json.dumps(dict(outcome.details))


@pytest.mark.parametrize("name", sorted(OTHERS - {"learnable-regions"}))
def test_any_size_of_image_is_edited_and_every_step_reported(models, name):
    image = smooth_image(50, 70)
    prior = from_boxes({"cat": (8, 8, 40, 36)}, (50, 70))
    seen = []
    tracker = CostTracker(lambda stage, step, steps, preview: seen.append((stage, step, steps)))
    settings = {"steps": 2, **FAST.get(name, {})}
    outcome = edit_by_method(name, models, EditTask(image, "a cat", "a fox", prior), settings=settings, tracker=tracker)
    assert outcome.edited.shape == image.shape
    last = [entry for entry in seen if entry[0] == "edit"][-1]
    assert last[1] == last[2]
    if outcome.mask is not None:
        assert outcome.mask.shape == image.shape[-2:]


@pytest.mark.parametrize("name", ["blended", "inpaint"])
def test_a_masked_method_edits_the_place_of_the_object_that_changes_alone(models, task, name):
    outcome = edit_by_method(name, models, task, settings={"steps": 2, "composite": True})
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[8:36, 8:40] = True
    assert torch.equal(outcome.mask, inside.float())
    assert torch.equal(outcome.edited[..., ~inside], task.image[..., ~inside])
    assert (outcome.edited[..., inside] - task.image[..., inside]).abs().mean() > 0.01
    # A mask of its own goes before the words' places.
    own = torch.zeros(64, 64)
    own[40:, :20] = 1
    masked = dataclasses.replace(task, mask=own)
    again = edit_by_method(name, models, masked, settings={"steps": 2, "composite": True})
    assert torch.equal(again.edited[..., own == 0], task.image[..., own == 0])


@pytest.mark.parametrize("name", ["blended", "inpaint"])
def test_without_a_composite_latents_outside_the_mask_are_still_the_sources(models, task, name, monkeypatch):
    model = models.inpaint if name == "inpaint" else models.model
    decoded = []
    plain = type(model).decode
    monkeypatch.setattr(type(model), "decode", lambda self, z: decoded.append(z) or plain(self, z))
    edit_by_method(name, models, task, settings={"steps": 2})
    (latents,) = decoded
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[2:9, 2:10] = False
    assert torch.equal(latents[0, :, outside], model.encode(task.image)[0, :, outside])


def test_a_preset_gives_what_localized_edit_gives(models, task):
    tracker = CostTracker()
    settings = {
        "steps": 2,
        "guidance": 3.0,
        "target_embeddings": "tuned",
        "tuning": {"inner_steps": 2},
        "composite": True,
    }
    ours = edit_by_method("locinv", models, task, settings=settings, tracker=tracker)
    from pinpoint.locinv_core.localization.token_optimizer import TuningSettings

    request = EditRequest(
        task.image,
        task.source,
        task.target,
        task.prior,
        steps=2,
        settings=LOCINV.settings(guidance=3.0, target_embeddings="tuned"),
        tuning=TuningSettings("fast", inner_steps=2),
        composite=True,
    )
    theirs = localized_edit(models.model, request)
    assert torch.equal(ours.edited, theirs.edited)
    assert set(ours.source_maps) == {"a", "red", "cat", "and", "a#2", "dog"}


def test_learnable_regions_leaves_the_image_outside_its_box_as_it_is(models, task):
    settings = {"steps": 2, "k": 2, "m": 2, "epochs": 1}
    bare = dataclasses.replace(task, prior=None)
    outcome = edit_by_method("learnable-regions", models, bare, settings=settings)
    assert (outcome.details["caption"], outcome.details["prompt"]) == ("a red cat", "a red fox")
    x0, y0, x1, y1 = outcome.details["box"]
    outside = torch.ones(64, 64, dtype=torch.bool)
    outside[math.floor(y0) : math.ceil(y1), math.floor(x0) : math.ceil(x1)] = False
    assert bool(outside.any())
    assert torch.equal(outcome.edited[..., outside], task.image[..., outside])
    other = edit_by_method(
        "learnable-regions", models, bare, settings={**settings, "editor": "inpaint", "caption": "a dog"}
    )
    assert (other.details["editor"], other.details["caption"]) == ("inpaint", "a dog")


@pytest.mark.parametrize("editor", ["blended", "locinv"])
def test_learnable_regions_looks_for_what_changes_where_it_is_asked_to(models, task, editor):
    settings = {"steps": 2, "k": 2, "m": 2, "epochs": 1, "word": "auto", "editor": editor}
    bare = dataclasses.replace(task, prior=None)
    tracker = CostTracker()
    details = edit_by_method("learnable-regions", models, bare, settings=settings, tracker=tracker).details
    assert (details["editor"], details["word"]) == (editor, "cat")
    assert (details["caption"], details["prompt"]) == (task.source, task.target)
    # LocInv edits the whole text; who draws anew is told of the fox alone.
    assert details["edit_prompt"] == (task.target if editor == "locinv" else "a red fox")
    assert tracker.forward_equivalents["locate"] > 0
    everywhere = {**settings, "word": "none"}
    tracker = CostTracker()
    details = edit_by_method("learnable-regions", models, bare, settings=everywhere, tracker=tracker).details
    assert details["word"] is None and tracker.forward_equivalents.get("locate", 0) == 0


def test_an_instruction_is_obeyed_or_made_of_the_prompts(models, task):
    made = edit_by_method("instruct-pix2pix", models, task, settings={"steps": 2})
    assert made.details["instruction"] == "turn the red cat into a red fox"
    written = dataclasses.replace(task, instruction="turn the red cat into a red fox")
    same = edit_by_method("instruct-pix2pix", models, written, settings={"steps": 2})
    other = edit_by_method(
        "instruct-pix2pix", models, dataclasses.replace(task, instruction="snow"), settings={"steps": 2}
    )
    assert torch.equal(made.edited, same.edited)
    assert not torch.equal(made.edited, other.edited)


def test_ledits_keeps_its_concepts_inside_the_mask_where_it_is_told_to(models, task):
    everywhere = {"steps": 1, "threshold": 0.0, "guidance": 20.0}
    free = edit_by_method("ledits++", models, task, settings=everywhere)
    held = edit_by_method("ledits++", models, task, settings={**everywhere, "within_mask": True})
    assert bool((free.mask == 1).all())
    inside = torch.zeros(64, 64)
    inside[8:36, 8:40] = 1
    assert torch.equal(held.mask, inside)
    assert free.details["concepts"] == ["-red cat", "+red fox"]
    same = edit_by_method("ledits++", models, dataclasses.replace(task, target=task.source))
    torch.testing.assert_close(same.edited, same.reconstruction, atol=1e-3, rtol=0)


LACKS = {
    "locinv": ("prior", "requires a mask or a box for a word"),
    "blended": ("prior", "requires a mask, or a mask or a box for a word"),
    "inpaint": ("inpaint", "whose UNet reads a mask: 9 channels)"),
    "instruct-pix2pix": ("instruct", "whose UNet reads an image: 8 channels)"),
    "imagic": ("model", "requires a text-to-image model"),
    "learnable-regions": ("clip", "requires a CLIP"),
}


@pytest.mark.parametrize("name", LACKS)
def test_what_a_method_lacks_is_named_before_any_work(models, task, name):
    part, message = LACKS[name]
    tracker = CostTracker()
    there = models if part == "prior" else dataclasses.replace(models, **{part: None})
    given = dataclasses.replace(task, prior=None) if part == "prior" else task
    with pytest.raises(ValueError, match=f"the method '{name}' ") as caught:
        edit_by_method(name, there, given, tracker=tracker)
    assert str(caught.value).endswith(f"{message}, and there is none")
    assert tracker.total == 0


BAD = {
    "an unknown method": ("magic", {}, "method: got 'magic', requires one of blended, "),
    "another's setting": ("blended", {"noises": 3}, "noises: the method 'blended' has no such setting"),
    "a preset's unknown setting": ("nti", {"strength": 1}, "strength: the method 'nti' has no such setting"),
    "tuning without words": ("nti", {"tuning": {"inner_steps": 2}}, "the method 'nti' optimizes no tokens"),
    "an unknown tuning": ("locinv", {"tuning": {"speed": 2}}, "tuning: there is no 'speed'"),
    "no strength": ("inpaint", {"strength": 0}, "strength: got 0"),
    "an unknown editor": ("learnable-regions", {"editor": "brush"}, "editor: got 'brush', requires one of"),
    "an editor without its model": ("learnable-regions", {"editor": "amused"}, "requires an aMUSEd model"),
    "an editor without a strength": (
        "learnable-regions",
        {"editor": "locinv", "strength": 0.5},
        "strength: got 0.5, but the editor 'locinv' has none",
    ),
    "a word that is not there": ("learnable-regions", {"word": "horse"}, "horse"),
    "an empty word": ("learnable-regions", {"word": " "}, "word: got ' '"),
    "too many steps": ("ledits++", {"steps": 999}, "steps: got 1148"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_are_refused_before_any_work(models, task, case):
    name, settings, message = BAD[case]
    tracker = CostTracker()
    with pytest.raises(ValueError, match=message):
        edit_by_method(name, models, task, settings=settings, tracker=tracker)
    assert tracker.total == 0


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(10, 10), "mask: got the shape"),
        (torch.zeros(64, 64), "mask: it is empty"),
        (torch.full((64, 64), 0.5), "mask: got values other than 0 and 1"),
    ],
)
def test_a_bad_mask_is_refused(models, task, mask, message):
    with pytest.raises(ValueError, match=message):
        edit_by_method("blended", models, dataclasses.replace(task, mask=mask))


def test_open_models_opens_what_the_methods_need_and_nothing_else(tmp_path):
    plain = write_tiny_folder(tmp_path / "plain")
    inpaint = write_inpaint_folder(tmp_path / "inpaint")
    instruct = write_tiny_folder(tmp_path / "instruct")
    tiny_unet(in_channels=8, out_channels=4).save_pretrained(instruct / "unet")
    clip, vit = write_tiny_clip(tmp_path / "clip"), write_tiny_vit(tmp_path / "vit")
    folders = {"model": plain, "inpaint": inpaint, "instruct": instruct, "clip": clip, "vit": vit}
    opened = open_models(["nti", "inpaint", "instruct-pix2pix"], **folders, device="cpu")
    channels = {part: getattr(opened, part).unet.config.in_channels for part in ("model", "inpaint", "instruct")}
    assert channels == {"model": 4, "inpaint": 9, "instruct": 8}
    assert opened.clip is None and opened.vit is None
    opened = open_models(["learnable-regions"], **folders, device="cpu")
    assert opened.clip is not None and opened.vit is not None and opened.inpaint is not None
    assert opened.instruct is None
    with pytest.raises(ValueError, match="reads 4 channels, requires 8"):
        open_models(["instruct-pix2pix"], instruct=plain, model=tmp_path / "nowhere", device="cpu")


def test_open_models_says_what_is_lacking_before_it_reads_anything(tmp_path):
    nowhere = tmp_path / "nowhere"
    with pytest.raises(ValueError, match=r"instruct: the method 'instruct-pix2pix' requires .*none is named"):
        open_models(["nti", "instruct-pix2pix"], model=nowhere)
    with pytest.raises(ValueError, match="inpaint: the method 'inpaint' requires"):
        open_models(["inpaint"], model=nowhere)
    with pytest.raises(ValueError, match=r"clip: got .*nowhere"):
        open_models(["learnable-regions"], model=tmp_path / "no model", clip=nowhere)
    with pytest.raises(ValueError, match="method: got 'magic'"):
        open_models(["magic"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ledits++", "blended", "imagic"])
def test_the_embedded_model_serves(name):
    """Latents of eight channels, maps on a grid of its own."""
    models = open_models([name], device="cpu")
    image = smooth_image(128, 128)
    prior = from_boxes({"cat": (30, 40, 90, 100)}, (128, 128))
    task = EditTask(image, "a red cat on the beach", "a red fox on the beach", prior)
    tracker = CostTracker()
    settings = {"steps": 4, **({"embedding_steps": 2, "tuning_steps": 2} if name == "imagic" else {})}
    outcome = edit_by_method(name, models, task, settings=settings, tracker=tracker)
    assert bool(outcome.edited.isfinite().all()) and not torch.equal(outcome.edited, image)
    assert tracker.total == {"ledits++": 4 + 12, "blended": 6, "imagic": 6 + 6 + 8}[name]
