"""The compared methods by their names: one image in, its edit out, as by every other method."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from pinpoint.__main__ import main
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.editing.settings import EditSettings
from pinpoint.locinv_core.localization.priors import from_boxes
from pinpoint.locinv_core.pipeline import EditRequest, localized_edit
from pinpoint.methods.diffedit import DiffEditSettings
from pinpoint.methods.masactrl import MasaCtrlSettings
from pinpoint.methods.pix2pix_zero import Pix2PixZeroSettings
from pinpoint.methods.pnp import PlugAndPlaySettings
from pinpoint.methods.registry import recipe_named
from pinpoint.tests.fixtures.tiny_models import write_tiny_folder

SETTINGS = {
    "pnp": PlugAndPlaySettings,
    "masactrl": MasaCtrlSettings,
    "diffedit": DiffEditSettings,
    "pix2pix-zero": Pix2PixZeroSettings,
}
COSTS = {
    "pnp": {"inversion": 2.0, "edit": 6.0},
    "masactrl": {"inversion": 2.0, "edit": 6.0},
    "diffedit": {"inversion": 2.0, "mask": 20.0, "edit": 4.0},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_method_edits_an_image_end_to_end_with_its_own_settings(tiny_model, name):
    image = torch.rand(1, 3, 60, 64, generator=torch.Generator().manual_seed(2))
    method, tracker = recipe_named(name), CostTracker()
    request = EditRequest(image, "a red cat", "a red fox", recipe=method, steps=2)
    assert type(request.edit_settings) is SETTINGS[name]
    outcome = localized_edit(tiny_model, request, tracker=tracker)
    assert outcome.edited.shape == image.shape
    assert bool(outcome.edited.isfinite().all())
    assert torch.equal(outcome.edit.source_latents, outcome.inversion.latents[:1])
    if name in COSTS:
        assert {stage: cost for stage, cost in tracker.forward_equivalents.items() if cost} == COSTS[name]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_method_takes_no_other_methods_settings_or_choices(tiny_model, name):
    method = recipe_named(name)
    image = torch.zeros(1, 3, 64, 64)
    request = EditRequest(image, "a cat", "a fox", recipe=method, settings=EditSettings(), steps=2)
    tracker = CostTracker()
    with pytest.raises(ValueError, match=f"settings: got EditSettings, but the method '{name}' requires"):
        localized_edit(tiny_model, request, tracker=tracker)
    assert tracker.total == 0
    with pytest.raises(ValueError, match=f"blend: the method '{name}' has no such setting, only guidance"):
        method.settings(blend="map")
    with pytest.raises(ValueError, match=f"null: got 'none', but the method '{name}' leaves no choice"):
        method.with_choices(null="none")
    assert method.with_choices() == method


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (1, 1, 64, 64), (3, 64, 64)])
def test_what_is_not_one_image_is_refused_before_any_pass(tiny_model, shape):
    request, tracker = EditRequest(torch.zeros(shape), "a cat", "a fox", recipe=recipe_named("direct")), CostTracker()
    with pytest.raises(ValueError, match=r"image: got the shape .* requires one image"):
        localized_edit(tiny_model, request, tracker=tracker)
    assert tracker.total == 0


REFUSED = {
    "a factor of a word that the target lacks": (
        "direct",
        EditSettings(local_blend="off", equalizer={"dog": 2.0}),
        "equalizer: the word 'dog' is in no target prompt",
    ),
    "a range of a word that the target lacks": (
        "direct",
        EditSettings(local_blend="off", cross_replace_steps={"dog": (0.0, 0.5)}),
        "cross_replace_steps: the word 'dog' is in no target prompt",
    ),
    "a blend by a prior that is not there": (
        "nti",
        EditSettings(local_blend="prior"),
        "local_blend: 'prior' requires a prior for cat, but there is no prior",
    ),
    "a layer to start from that the UNet lacks": (
        "masactrl",
        MasaCtrlSettings(start_layer=99),
        "start_layer: got 99",
    ),
    "a feature layer that the UNet lacks": (
        "pnp",
        PlugAndPlaySettings(feature_layers=("up_blocks.9",)),
        "feature_layers: the UNet has no 'up_blocks.9'",
    ),
    "an attention layer that the UNet lacks": (
        "pnp",
        PlugAndPlaySettings(attention_layers=("up_blocks.9",)),
        "attention_layers: the UNet has no 'up_blocks.9'",
    ),
    "a sentence that is too long": (
        "pix2pix-zero",
        Pix2PixZeroSettings(pairs=(("a cat", "fox " * 80),)),
        "is too long: it has 80 tokens",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_an_edit_would_refuse_is_refused_before_any_pass(tiny_model, case):
    name, settings, message = REFUSED[case]
    image, tracker = torch.zeros(1, 3, 64, 64), CostTracker()
    request = EditRequest(image, "a red cat", "a red fox", recipe=recipe_named(name), settings=settings, steps=2)
    with pytest.raises(ValueError, match=message):
        localized_edit(tiny_model, request, tracker=tracker)
    assert tracker.forward_equivalents == {}


def test_dpl_without_a_noun_and_a_seam_of_less_than_nothing_are_refused_before_any_pass(tiny_model):
    image, tracker = torch.zeros(1, 3, 64, 64), CostTracker()
    nameless = EditRequest(image, "very quickly", "very slowly", recipe=recipe_named("dpl"), steps=2)
    with pytest.raises(ValueError, match="source: DPL tunes nouns, and none was found in 'very quickly'"):
        localized_edit(tiny_model, nameless, tracker=tracker)
    prior = from_boxes({"cat": (0, 0, 32, 32)}, (64, 64))
    seamless = EditRequest(image, "a cat", "a fox", prior, steps=2, composite=True, feather=-1.0)
    with pytest.raises(ValueError, match=r"feather: got -1\.0, requires a number of pixels, 0 or more"):
        localized_edit(tiny_model, seamless, tracker=tracker)
    nowhere = replace(seamless, feather=2.0, composite_grow=math.nan)
    with pytest.raises(ValueError, match=r"composite_grow: got nan, requires a number of pixels, 0 or more"):
        localized_edit(tiny_model, nowhere, tracker=tracker)
    assert tracker.forward_equivalents == {}


def test_prompt_to_prompt_takes_no_settings_of_theirs_and_keeps_its_own():
    assert recipe_named("locinv").settings(guidance=2.0) == EditSettings(guidance=2.0, local_blend="auto")
    assert recipe_named("direct").settings() == EditSettings(local_blend="off")
    with pytest.raises(ValueError, match="noises: the method 'direct' has no such setting"):
        recipe_named("direct").settings(noises=3)


def test_the_command_line_runs_them_and_refuses_what_they_lack(tmp_path, capsys):
    model = str(write_tiny_folder(tmp_path / "model"))
    picture = tmp_path / "picture.png"
    rows, columns = np.mgrid[0:64, 0:72]
    Image.fromarray(np.stack([rows * 3, columns * 2, rows + columns], axis=-1).astype(np.uint8)).save(picture)
    texts = ["--source", "a red cat", "--target", "a red fox", "--model", model, "--steps", "2"]
    command = ["edit", str(picture), *texts, "--method", "masactrl"]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["method"], report["null"], report["blend"]) == ("masactrl", "direct", None)
    assert report["forward_equivalents"]["edit"] == 6
    assert main([*command, "--blend", "map", "--out", str(tmp_path / "other")]) == 2
    assert "local_blend: the method 'masactrl' has no such setting" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
