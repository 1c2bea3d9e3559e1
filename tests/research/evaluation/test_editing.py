"""What a task's outcome says: what the method costs by itself, and figures of the image that is saved."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.inversion.null_text import NullTextSettings
from pinpoint.locinv_core.localization.priors import from_mask_files
from pinpoint.locinv_core.localization.token_optimizer import TuningSettings
from pinpoint.locinv_core.pipeline import EditOptions, EditRequest, judge, localized_edit
from pinpoint.methods.registry import method_named, method_names, recipe_named
from pinpoint.methods.types import MethodModels
from pinpoint.research.evaluation.datasets.types import Item
from pinpoint.research.evaluation.evaluator import EvaluationRecipe, Evaluator, OpenedItem
from pinpoint.research.evaluation.execution.work_items import Outcome, Task, Variant
from pinpoint.research.evaluation.metrics.suite import MetricSuite
from pinpoint.research.evaluation.variants import known_variants, named_variants
from pinpoint.tests.fixtures.tiny_editors import small_model
from pinpoint.tests.fixtures.tiny_models import write_tiny_folder
from pinpoint.tests.research.evaluation.tiny_items import BOXES, SIZE, drawn_item

STEPS = 3
METRICS = ("psnr_background", "mse", "mse_target")


@pytest.fixture(name="model", scope="module")
def _model() -> EditModel:
    return small_model()


@pytest.fixture(name="item", scope="module")
def _item(tmp_path_factory: pytest.TempPathFactory) -> Item:
    return drawn_item(tmp_path_factory.mktemp("pets"))


def evaluator(model: EditModel) -> Evaluator:
    return Evaluator(MethodModels(model=model), MetricSuite(METRICS))


def pixels(outcome: Outcome) -> np.ndarray:
    assert outcome.image is not None
    return np.asarray(Image.open(io.BytesIO(outcome.image)))


def outcomes(model: EditModel, item: Item, names: Sequence[str]) -> list[Outcome]:
    performer = evaluator(model)
    return [performer(Task(item, variant)) for variant in named_variants(names, steps=STEPS)]


NAMES = ("ddim", "direct", "pnp", "locinv", "nti", "ledits++", "blended")


@pytest.fixture(name="together", scope="module")
def _together(model: EditModel, item: Item) -> dict[str, Outcome]:
    """The methods of NAMES by one evaluator, which may share work between them."""
    return dict(zip(NAMES, outcomes(model, item, NAMES), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_method_among_others_makes_the_same_image_at_the_same_cost_as_alone(
    name: str, together: dict[str, Outcome], model: EditModel, item: Item
) -> None:
    (alone,) = outcomes(model, item, [name])
    assert together[name].image == alone.image
    assert together[name].metrics == alone.metrics
    assert together[name].fe == pytest.approx(alone.fe)
    assert alone.fe == pytest.approx(alone.fe_spent)


def test_the_cost_is_that_of_the_whole_edit_by_itself(
    together: dict[str, Outcome], model: EditModel, item: Item
) -> None:
    tracker = CostTracker()
    opened = item.open()
    request = EditRequest(opened.image, item.source, item.target, recipe=recipe_named("direct"), steps=STEPS)
    localized_edit(model, request, tracker=tracker)
    assert together["direct"].fe == pytest.approx(tracker.total)


def test_one_inversion_is_spent_for_all_methods_that_invert_alike(together: dict[str, Outcome]) -> None:
    spared = {name: outcome.fe - outcome.fe_spent for name, outcome in together.items()}
    first, *others = ("ddim", "direct", "pnp", "locinv", "nti")
    assert spared[first] == 0
    # DDIM inversion is one pass a step.
    assert {name: spared[name] for name in others} == dict.fromkeys(others, pytest.approx(STEPS))
    assert spared["ledits++"] == spared["blended"] == 0


def test_metrics_are_those_of_the_png(together: dict[str, Outcome], item: Item) -> None:
    source = np.asarray(Image.open(item.image).convert("RGB")) / 255
    assert item.target_image is not None
    truth = np.asarray(Image.open(item.target_image).convert("RGB")) / 255
    for outcome in together.values():
        edited = pixels(outcome) / 255
        assert edited.shape == (*SIZE, 3)
        assert outcome.metrics["mse"] == pytest.approx(((edited - source) ** 2).mean(), rel=1e-4)
        assert outcome.metrics["mse_target"] == pytest.approx(((edited - truth) ** 2).mean(), rel=1e-4)


def test_the_words_ious_are_those_that_an_edits_own_report_finds(
    together: dict[str, Outcome], model: EditModel, item: Item
) -> None:
    opened = item.open()
    prior = from_mask_files({obj.word: obj.mask or "" for obj in item.objects})
    request = EditRequest(opened.image, item.source, item.target, prior, steps=STEPS)
    quality = judge(model, localized_edit(model, request))
    words = together["locinv"].words
    assert list(words) == ["cat", "dog"]
    for word, figures in words.items():
        assert figures["iou_before"] == pytest.approx(quality.iou_before[word], abs=1e-4)
        assert figures["iou_after"] == pytest.approx(quality.iou_after[word], abs=1e-4)
        assert len(figures["iou_curve"]) == 19
        assert max(figures["iou_curve"]) == figures["iou_after"]
    for untuned in ("ddim", "nti"):
        for word, figures in together[untuned].words.items():
            assert figures["iou_after"] == figures["iou_before"] == words[word]["iou_before"]
    assert together["pnp"].words == together["blended"].words == {}


def test_the_composite_leaves_the_background_as_it_was(model: EditModel, item: Item) -> None:
    (outcome,) = outcomes(model, item, ["locinv-composite"])
    outside = item.open().change.numpy() == 0
    source = np.asarray(Image.open(item.image).convert("RGB"))
    assert np.array_equal(pixels(outcome)[outside], source[outside])
    assert not np.array_equal(pixels(outcome), source)
    assert outcome.metrics["psnr_background"] == 100.0


def test_a_detection_prior_is_the_boxes_and_a_segment_prior_the_masks(item: Item) -> None:
    opened = OpenedItem(item, item.open())
    boxed, masked = opened.prior("detection"), opened.prior("segment")
    assert boxed is not None and masked is not None
    assert (boxed.kind, masked.kind) == ("detection", "segment")
    for word, (x0, y0, x1, y1) in BOXES.items():
        box = torch.zeros(SIZE)
        box[y0:y1, x0:x1] = 1
        assert torch.equal(boxed.mask(word), box)
        box[y0 : y0 + 4, x0 : x0 + 4] = 0
        assert torch.equal(masked.mask(word), box)


def test_the_seed_is_the_tasks_own_whatever_came_before(model: EditModel, item: Item) -> None:
    (variant,) = named_variants(["blended"], steps=STEPS)
    performer = evaluator(model)
    first, other, again = (performer(Task(item, variant, seed)).image for seed in (1, 2, 1))
    assert first == again != other


# What is refused before any work


def recipe(*names: str, metrics: tuple[str, ...] = METRICS) -> EvaluationRecipe:
    return EvaluationRecipe(named_variants(names), metrics)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["locinv", "magic"], r"methods: got 'magic', requires some of blended, .*locinv, .*all"),
        (["locinv", "ddim", "locinv"], "methods: 'locinv' comes twice"),
        (["frozen", "ddim"], "methods: 'ddim' comes twice"),
        ([], "methods: got none"),
    ],
)
def test_methods_that_there_are_not_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        named_variants(names)


def test_metrics_and_weights_that_there_are_not_are_refused() -> None:
    with pytest.raises(ValueError, match="metrics: got 'beauty'"):
        recipe("ddim", metrics=("beauty",)).open()
    with pytest.raises(ValueError, match="metric clip_score: no clip given"):
        recipe("ddim", metrics=("clip_score",)).open()
    with pytest.raises(ValueError, match="inpaint: the method 'inpaint' requires an inpainting model"):
        recipe("inpaint").open()
    with pytest.raises(ValueError, match="steps: got 1001"):
        EvaluationRecipe(named_variants(["ddim"], steps=1001), METRICS).open()


def test_steps_for_which_the_schedule_of_ledits_is_too_long_are_refused_before_any_work(
    tmp_path: Path,
) -> None:
    models = {"model": str(write_tiny_folder(tmp_path)), "device": "cpu"}
    # Its schedule has 15 % more steps than are asked for: 999 of 869, 1000 of 870, 1138 of 990.
    for steps in (871, 990):
        with pytest.raises(ValueError, match=f"steps: got {steps}, .*'ledits"):
            EvaluationRecipe(named_variants(["ddim", "ledits++"], steps=steps), METRICS, models).open()
    for name, steps in (("ledits++", 860), ("ddim", 990)):
        EvaluationRecipe(named_variants([name], steps=steps), METRICS, models).open()


# The variants


def in_full(made: Any) -> Any:
    """A method's settings with what a preset leaves to its solver filled in."""
    if not isinstance(made, EditOptions):
        return made
    solver = made.recipe.tokens
    tuning = made.tuning or (None if solver == "off" else TuningSettings.for_solver(solver))
    return replace(made, tuning=tuning, null_text=made.null_text or NullTextSettings())


def test_settings_are_written_in_full_and_make_the_same_settings_again() -> None:
    weights = dict.fromkeys(("clip", "vit", "inpaint", "instruct", "amused"), "a")
    for variant in named_variants(list(known_variants()), weights=weights):
        settings = method_named(variant.method).settings
        written = json.loads(json.dumps(variant.settings["method"]))
        asked = known_variants()[variant.name].choices
        assert in_full(settings(**written)) == in_full(settings(**asked)), variant.name


def test_what_a_variant_changes_is_in_its_settings() -> None:
    found = {
        variant.name: variant.settings
        for variant in named_variants(
            ["locinv", "dpl", "nti", "npi", "proxnpi", "direct", "ddim", "pnp", "masactrl", "diffedit", "pix2pix-zero"]
            + ["locinv-box", "locinv-composite", "locinv-exact", "locinv-published", "locinv-unbound"]
        )
    }
    assert found["locinv"]["method"]["tuning"]["solver"] == "fast"
    assert found["locinv"]["prior"] == "segment" and found["locinv-box"]["prior"] == "detection"
    assert found["locinv-composite"]["method"]["composite"] is True
    exact = found["locinv-exact"]["method"]
    assert (exact["tokens"], exact["null"], exact["tuning"]["inner_steps"]) == ("exact", "null-text", 31)
    assert exact["null_text"]["inner_steps"] == 10
    published = found["locinv-published"]["method"]
    assert (published["local_blend"], published["target_embeddings"]) == ("off", "tuned")
    assert found["locinv-unbound"]["bindings"] == "none"
    assert "tuning" not in found["ddim"]["method"]


def test_steps_and_guidance_are_for_the_methods_that_have_them() -> None:
    variants: dict[str, Variant] = {
        v.name: v for v in named_variants(["locinv", "pnp", "ledits++", "imagic"], steps=7, guidance=3.0)
    }
    assert {name: v.settings["method"]["steps"] for name, v in variants.items()} == dict.fromkeys(variants, 7)
    assert variants["locinv"].settings["method"]["guidance"] == 3.0
    with pytest.raises(ValueError, match="guidance: got -1"):
        named_variants(["locinv"], guidance=-1.0)


def test_a_group_stands_for_the_methods_that_there_are_models_for() -> None:
    def names(group: str, **weights: str) -> set[str]:
        return {variant.name for variant in named_variants([group], weights=weights)}

    assert names("masked") == {"blended"}
    assert names("masked", inpaint="folder") == {"blended", "inpaint"}
    assert "learnable-regions" not in names("frozen")
    assert "learnable-regions" in names("frozen", clip="a", vit="b")
    everything = names("all", clip="a", vit="b", inpaint="c", instruct="d")
    assert everything == set(method_names())


def test_regions_by_another_editor_require_and_tell_its_weights() -> None:
    weights = {"clip": "a", "vit": "b", "amused": "c"}
    near, by_amused = named_variants(["learnable-regions-near", "learnable-regions-amused"], weights=weights)
    assert near.settings["weights"] == {"clip": "a", "vit": "b"}
    assert by_amused.settings["weights"] == weights
    assert by_amused.settings["method"]["editor"] == "amused"
    assert {v.settings["method"]["word"] for v in (near, by_amused)} == {"auto"}
    with pytest.raises(ValueError, match="inpaint: 'learnable-regions-inpaint' requires such a model"):
        named_variants(["learnable-regions-inpaint"], weights=weights)


@pytest.mark.parametrize("name", ["learnable-regions", "learnable-regions-near"])
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"clip": None, "vit": "b"}, "clip: '{}' requires a CLIP, and none is named"),
        ({"clip": "a", "vit": None}, "dino: '{}' requires a ViT, and none is named"),
    ],
)
def test_regions_are_not_learned_by_networks_that_nobody_named(
    name: str, weights: dict[str, str | None], message: str
) -> None:
    with pytest.raises(ValueError, match=message.format(name)):
        named_variants([name], weights=weights)


# What the metrics are given


def test_the_square_that_clip_reads_is_the_places_and_the_background_is_outside_the_border(
    model: EditModel, tmp_path: Path
) -> None:
    item = replace(drawn_item(tmp_path), change_border=True)
    given: dict[str, Any] = {}

    class Noting(MetricSuite):
        def __call__(self, *images: Any, **more: Any) -> dict[str, float | None]:
            given.update(change=images[2], place=more["edit_mask"])
            return {}

    (variant,) = named_variants(["direct"], steps=STEPS)
    Evaluator(MethodModels(model=model), Noting(METRICS))(Task(item, variant))
    expected = np.asarray(Image.open(tmp_path / "pets-0-cat.png")) / 255
    assert np.array_equal(given["place"].numpy(), expected)
    expected[[0, -1]] = expected[:, [0, -1]] = 1
    assert np.array_equal(given["change"].numpy(), expected)
