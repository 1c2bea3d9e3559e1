"""The papers' ablations: what is varied, what the tasks do with it, the tables and plots that come of it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.imaging.io import load_image
from pinpoint.locinv_core.localization.losses import DETECTION, SEGMENT, LossPreset
from pinpoint.methods.registry import edit_by_method
from pinpoint.methods.types import EditTask, MethodModels
from pinpoint.region_core.editors.base import Editor
from pinpoint.region_core.editors.blended import BlendedEditor
from pinpoint.research.evaluation.ablation.performers import (
    MapsPerformer,
    RegionsPerformer,
    RememberingEditor,
)
from pinpoint.research.evaluation.ablation.sweeps import (
    LOCINV_SWEEPS,
    REGION_SWEEPS,
    Sweep,
    locinv_sweeps,
    region_sweeps,
    variants_of,
)
from pinpoint.research.evaluation.ablation.tables import (
    MAPS_METRICS,
    REGIONS_METRICS,
    write_ablation,
)
from pinpoint.research.evaluation.datasets.types import Item
from pinpoint.research.evaluation.evaluator import Evaluator, png
from pinpoint.research.evaluation.execution.work_items import Outcome, Task, Variant
from pinpoint.research.evaluation.metrics.suite import MetricSuite
from pinpoint.research.evaluation.results import ROW_FIELDS
from pinpoint.research.evaluation.variants import named_variants
from pinpoint.tests.fixtures.tiny_editors import box_masks, small_model, smooth_image
from pinpoint.tests.fixtures.tiny_encoders import tiny_clip, tiny_vit
from pinpoint.tests.research.evaluation.tiny_items import BOXES, SIZE, drawn_item

STEPS = 3
SHARED = {"editor": "blended", "plan": "full", "epochs": 1}


@pytest.fixture(name="item", scope="module")
def _item(tmp_path_factory: pytest.TempPathFactory) -> Item:
    return drawn_item(tmp_path_factory.mktemp("pets"))


def by_name(sweeps: tuple[Sweep, ...]) -> dict[str, Sweep]:
    return {sweep.name: sweep for sweep in sweeps}


# What is varied


def test_each_sweep_varies_one_object_around_what_the_paper_chooses() -> None:
    sweeps = by_name(locinv_sweeps(LOCINV_SWEEPS, ["segment", "detection"]))
    terms = ("α_sim", "β_sim", "α_ovl", "β_ovl", "λ", "methods")
    assert list(sweeps) == [f"{prior} {term}" for prior in ("segment", "detection") for term in terms]
    standards: Mapping[str, LossPreset] = {"segment": SEGMENT, "detection": DETECTION}
    for name, sweep in sweeps.items():
        prior, _, term = name.partition(" ")
        (chosen,) = [point for point in sweep.points if point.chosen]
        preset = standards[prior]
        for loss in ("similarity", "overlap"):
            part = getattr(preset, loss)
            assert chosen.variant.settings[loss] == [part.weight, part.alpha, part.beta]
        if term in ("λ", "methods"):
            continue
        for point in sweep.points:
            changed = [
                (loss, k)
                for loss in ("similarity", "overlap")
                for k in range(3)
                if point.variant.settings[loss][k] != chosen.variant.settings[loss][k]
            ]
            place = ("similarity" if term.endswith("sim") else "overlap", "λαβ".index(term[0]))
            assert changed == ([] if point.chosen else [place])
            assert point.variant.settings[place[0]][place[1]] == point.x == float(point.label)


def test_column_3_has_each_loss_alone() -> None:
    (sweep,) = locinv_sweeps(["weights"], ["segment"])
    weights = [(p.variant.settings["similarity"][0], p.variant.settings["overlap"][0]) for p in sweep.points]
    assert {(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)} <= set(weights)


def test_points_with_the_same_settings_are_run_once() -> None:
    sweeps = locinv_sweeps(LOCINV_SWEEPS, ["segment", "detection"])
    variants = variants_of(sweeps)
    settings = [repr(sorted(variant.settings.items())) for variant in variants]
    assert len(set(settings)) == len(settings)
    named: dict[str, Any] = {}
    for sweep in sweeps:
        for point in sweep.points:
            assert named.setdefault(point.variant.name, point.variant.settings) == point.variant.settings


def test_the_region_sweeps_are_the_papers_tables() -> None:
    sweeps = by_name(region_sweeps(REGION_SWEEPS, SHARED))
    published = {name: [tuple(p.published.values()) for p in sweep.points] for name, sweep in sweeps.items()}
    assert published["losses"] == [(0.301, 0.801), (0.294, 0.806), (0.301, 0.805)]
    assert [p.variant.settings["losses"] for p in sweeps["losses"].points] == [
        [1, 0, 0],
        [1, 1, 0],
        [1, 1, 1],
    ]
    assert [p.variant.settings["m"] for p in sweeps["proposals"].points] == [1, 3, 5, 7, 9]
    assert published["proposals"][0] == (0.231, 0.915) and published["proposals"][3] == (0.300, 0.805)
    assert [p.variant.settings["k"] for p in sweeps["anchors"].points] == [1, 4, 6, 8, 10]
    assert published["anchors"][0] == (0.275, 0.824) and published["anchors"][4] == (0.298, 0.803)
    for sweep in sweeps.values():
        (chosen,) = [point.variant for point in sweep.points if point.chosen]
        assert (chosen.name, chosen.settings["k"], chosen.settings["m"]) == ("standard", 8, 7)
    # Three, five, five and three points, the standard one in each of the four.
    assert len(variants_of(tuple(sweeps.values()))) == 13


@pytest.mark.parametrize(
    ("sweeps", "priors", "message"),
    [
        (["gamma"], ["segment"], "sweeps: got 'gamma', requires some of similarity, overlap, weights, methods"),
        (["weights"], ["box"], "prior: got 'box', requires some of segment, detection"),
        ([], ["segment"], "sweeps: got none"),
    ],
)
def test_an_unknown_sweep_or_prior_is_refused(sweeps: list[str], priors: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        locinv_sweeps(sweeps, priors)


# What the tasks do


@pytest.fixture(name="maps", scope="module")
def _maps(item: Item) -> dict[str, Outcome]:
    """Some points of Fig. 3 on the tiny model, and LocInv itself by the evaluation's own way, as "locinv"."""
    model = small_model()
    performer = MapsPerformer(model)
    sweeps = locinv_sweeps(["weights", "methods"], ["segment", "detection"], steps=STEPS)
    found = {variant.name: performer(Task(item, variant)) for variant in variants_of(sweeps)}
    locinv, boxed = named_variants(["locinv", "locinv-box"], steps=STEPS)
    evaluator = Evaluator(MethodModels(model=model), MetricSuite(["mse"]))
    return {**found, "locinv": evaluator(Task(item, locinv)), "locinv-box": evaluator(Task(item, boxed))}


@pytest.mark.parametrize(("point", "method"), [("segment", "locinv"), ("detection", "locinv-box")])
def test_the_published_point_has_the_maps_of_locinv(point: str, method: str, maps: dict[str, Outcome]) -> None:
    for word in BOXES:
        assert maps[point].words[word]["iou_curve"] == pytest.approx(maps[method].words[word]["iou_curve"], abs=1e-5)


def test_other_weights_make_other_maps_and_no_tuning_leaves_them(maps: dict[str, Outcome]) -> None:
    curves = {name: tuple(outcome.words["cat"]["iou_curve"]) for name, outcome in maps.items()}
    assert len({curves["segment"], curves["segment λ_sim=0"], curves["segment λ_ovl=0"]}) == 3
    assert curves["dpl"] != curves["untuned"]
    untuned = maps["untuned"].words["cat"]
    assert untuned["iou_before"] == untuned["iou_after"] == maps["segment"].words["cat"]["iou_before"]


def test_maps_cost_the_inversion_and_the_tuning(maps: dict[str, Outcome]) -> None:
    # One pass a step inverts, and the fast solver takes one early-stopped pass a step for the queries.
    assert maps["untuned"].fe == STEPS
    assert STEPS < maps["segment"].fe < 2 * STEPS
    assert sum(o.fe - o.fe_spent for name, o in maps.items() if not name.startswith("locinv")) == (
        pytest.approx(STEPS * (len(maps) - 3))
    )


class CountingEditor(Editor):
    """Fills masks with a shade of the seed and notes how many it was given at a time."""

    name = "counting"
    model: Any = None

    def __init__(self) -> None:
        self.calls: list[int] = []

    def edit(
        self,
        image: torch.Tensor,
        masks: torch.Tensor,
        prompt: str,
        seed: int,
        *,
        steps: int | None = None,
        tracker: CostTracker | None = None,
    ) -> torch.Tensor:
        self.calls.append(len(masks))
        if tracker is not None:
            tracker.count_forward(len(masks) * (steps or 10))
        return torch.where(masks > 0, torch.tensor(0.1 * len(prompt) + 0.01 * (steps or 10)), image)


def test_a_box_is_edited_once_and_its_cost_is_remembered() -> None:
    inner = CountingEditor()
    editor, image, tracker = RememberingEditor(inner), smooth_image(), CostTracker()
    masks = box_masks((0, 0, 8, 8), (8, 8, 16, 16), (0, 0, 32, 32))
    first = editor.edit(image, masks[:2], "fox", 0, tracker=tracker)
    assert (inner.calls, tracker.total, editor.remembered) == ([2], 20, 0)
    again = editor.edit(image, masks, "fox", 0, tracker=tracker)
    assert (inner.calls, tracker.total, editor.remembered) == ([2, 1], 30, 20)
    assert torch.equal(again[:2], first)
    assert torch.equal(again, CountingEditor().edit(image, masks, "fox", 0))
    for changes in ({"steps": 4}, {"prompt": "cats"}, {"seed": 1}):
        arguments: dict[str, Any] = {"prompt": "fox", "seed": 0, "tracker": tracker, **changes}
        editor.edit(image, masks[:1], **arguments)
    assert inner.calls == [2, 1, 1, 1, 1]


def test_a_model_that_has_no_fingerprint_is_told_by_its_name() -> None:
    editor = CountingEditor()
    performer, variant = RegionsPerformer(editor, tiny_clip(), tiny_vit()), region_variant("both")
    assert performer.fingerprint(variant) == "counting"
    editor.model = SimpleNamespace(name="models/amused")
    assert performer.fingerprint(variant) == "counting models/amused"
    editor.model = small_model()
    assert performer.fingerprint(variant) == small_model().fingerprint


def region_variant(name: str, **changes: Any) -> Variant:
    settings = {"k": 2, "m": 2, "losses": [1.0, 1.0, 1.0], "anchors": "dino", "sizes": "learned"}
    return Variant(name, "regions", {**SHARED, **settings, **changes})


def regions_performer() -> RegionsPerformer:
    return RegionsPerformer(BlendedEditor(small_model(), steps=2, window=1.5), tiny_clip(), tiny_vit())


def test_a_region_is_scored_as_clip_sees_its_edit_and_costs_what_it_costs_alone(item: Item) -> None:
    guide, performer = tiny_clip(), regions_performer()
    both = region_variant("both")
    one = performer(Task(item, both))
    clip_alone = performer(Task(item, region_variant("clip", losses=[1.0, 0.0, 0.0])))
    drawn = performer(Task(item, region_variant("drawn", anchors="random", sizes="random"), seed=3))
    assert one.image is not None
    edited = load_image(Image.open(io.BytesIO(one.image)))
    prompt = guide.encode_texts(["a fox"])
    source = guide.encode_images(load_image(item.image))
    seen = guide.encode_images(edited)
    assert one.metrics["s_t2i"] == pytest.approx(float((seen @ prompt.T)[0, 0]), abs=5e-3)
    assert one.metrics["s_i2i"] == pytest.approx(float((seen @ source.T)[0, 0]), abs=5e-3)
    for outcome in (one, clip_alone, drawn):
        t2i, i2i = outcome.metrics["s_t2i"], outcome.metrics["s_i2i"]
        assert t2i is not None and i2i is not None
        assert outcome.metrics["region_score"] == pytest.approx(2 * t2i + i2i, abs=1e-5)
    # The same boxes are edited for both losses: the second time they cost nothing more, but count.
    assert clip_alone.fe == pytest.approx(one.fe) == pytest.approx(one.fe_spent)
    assert clip_alone.fe_spent == 0
    assert drawn.fe_spent == pytest.approx(drawn.fe)
    assert drawn.fe > 0
    alone = regions_performer()(Task(item, region_variant("clip", losses=[1.0, 0.0, 0.0])))
    assert alone.image == clip_alone.image
    assert alone.fe == pytest.approx(clip_alone.fe)


def test_a_point_is_the_method_learnable_regions_with_its_settings(item: Item) -> None:
    variant = region_variant("both")
    choices = {name: variant.settings[name] for name in ("editor", "plan", "epochs", "k", "m")}
    task = EditTask(item.open().image, item.source, item.target)
    models = MethodModels(model=small_model(), clip=tiny_clip(), vit=tiny_vit())
    made = edit_by_method("learnable-regions", models, task, settings={**choices, "steps": 2})
    assert regions_performer()(Task(item, variant)).image == png(made.edited)


def test_the_box_is_held_against_the_place_without_the_border(item: Item) -> None:
    rows, columns = SIZE
    item = replace(item, change_runs=(columns, (rows - 2) * columns))  # all but the first row and the last
    plain, bordered = (
        regions_performer()(Task(one, region_variant("clip", losses=[1.0, 0.0, 0.0])))
        for one in (item, replace(item, change_border=True))
    )
    assert plain.metrics["box_iou"] == bordered.metrics["box_iou"] != 0


def test_the_box_is_held_against_where_the_edit_is(item: Item) -> None:
    from pinpoint.research.evaluation.ablation.performers import _box_iou

    change = torch.zeros(10, 10)
    change[2:6, 2:6] = 1
    assert _box_iou((2, 2, 6, 6), change) == 1
    assert _box_iou((4, 2, 8, 6), change) == pytest.approx(8 / 24)
    assert _box_iou((0, 0, 2, 2), change) == 0
    assert _box_iou((0, 0, 2, 2), torch.zeros(10, 10)) is None


# Tables and plots


def row(item: str, method: str, curve: list[float] | None = None, **metrics: float) -> dict[str, Any]:
    words = {} if curve is None else {"cat": {"iou_before": 0.1, "iou_after": max(curve), "iou_curve": curve}}
    fields: dict[str, Any] = dict.fromkeys(ROW_FIELDS)
    return fields | {"item": item, "method": method, "fe": 10.0, "metrics": metrics, "words": words}


def test_a_table_has_the_means_beside_what_was_published_and_a_mark_on_the_papers_choice(
    tmp_path: Path,
) -> None:
    sweeps = region_sweeps(["proposals"], SHARED)
    rows = [row("a", "M=3", s_t2i=0.2, s_i2i=0.9), row("b", "M=3", s_t2i=0.3, s_i2i=0.7)]
    rows += [row("a", "standard", s_t2i=0.1, s_i2i=0.5)]
    write_ablation(sweeps, rows, REGIONS_METRICS, tmp_path)
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    (three,) = [line for line in lines if line.startswith("| 3 |")]
    cells = [cell.strip() for cell in three.strip("|").split("|")]
    assert cells[1].startswith("**0.250** ") and cells[2].startswith("**0.800** ")
    assert cells[-3:] == ["0.273", "0.837", "2"]
    assert any(line.startswith("| → 7 |") for line in lines)
    assert not any(line.startswith("| 9 |") for line in lines), "nothing was measured there"
    with (tmp_path / "table.csv").open(encoding="utf-8") as file:
        table = {(r["value"], r["metric"]): r for r in csv.DictReader(file)}
    assert float(table["3", "s_t2i"]["mean"]) == pytest.approx(0.25)
    assert table["3", "s_t2i"]["published"] == "0.273"
    assert (table["7", "s_i2i"]["chosen"], table["3", "s_i2i"]["chosen"]) == ("1", "0")


def test_each_figure_of_the_paper_is_an_image_with_something_on_it(tmp_path: Path) -> None:
    sweeps = locinv_sweeps(LOCINV_SWEEPS, ["segment", "detection"])
    rows = []
    for n, variant in enumerate(variants_of(sweeps)):
        for name in ("a", "b"):
            curve = np.clip(np.linspace(0.2, 0.8, 19) + 0.01 * n, 0, 1).tolist()
            rows.append(row(name, variant.name, curve))
    written = write_ablation(sweeps, rows, MAPS_METRICS, tmp_path)
    assert {path.name for path in written} == {
        "table.md",
        "table.csv",
        "fig3_segment.png",
        "fig3_detection.png",
    }
    for name in ("fig3_segment.png", "fig3_detection.png"):
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        assert min(pixels.shape[:2]) > 500
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50


def test_a_sweep_of_which_nothing_was_measured_is_left_out(tmp_path: Path) -> None:
    sweeps = region_sweeps(["losses", "proposals"], SHARED)
    write_ablation(sweeps, [row("a", "M=3", s_t2i=0.2, s_i2i=0.9)], REGIONS_METRICS, tmp_path)
    assert "Table 3" not in (tmp_path / "table.md").read_text(encoding="utf-8")
