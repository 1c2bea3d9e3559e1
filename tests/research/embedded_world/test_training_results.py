"""What the shipped models can do, on scenes that they were never trained on."""

from __future__ import annotations

import pytest
import torch

from pinpoint.locinv_core.backbones.loading import load_edit_model
from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.research.embedded_world.evaluation import (
    attention_statistics,
    draw_captions,
    judge_images,
    reconstructions,
    scene_images,
)
from pinpoint.research.embedded_world.judge import LOOKS, PATTERNS, Finding, Judge, cell_labels
from pinpoint.research.embedded_world.scenes.dataset import held_out_seeds
from pinpoint.research.embedded_world.scenes.render import render
from pinpoint.research.embedded_world.scenes.spec import (
    COLOURS,
    NOUNS,
    SceneObject,
    SceneSpec,
    sample_scene,
)


@pytest.fixture(scope="module")
def model() -> EditModel:
    return load_edit_model("embedded", device="cpu")


class Told(Judge):
    """A judge that says what it was told, whatever it is shown."""

    def __init__(self, *verdicts: list[Finding]) -> None:
        super().__init__(width=8)
        self.verdicts = list(verdicts)

    def findings(self, images: torch.Tensor) -> list[list[Finding]]:
        return [self.verdicts.pop(0) for _ in images]


def scene(*objects: tuple[str, str | None, str]) -> SceneSpec:
    box = (2, 60, 42, 100)
    return SceneSpec(tuple(SceneObject(noun, colour, kind, box) for noun, colour, kind in objects), "beach", 0)


def test_the_verdict_requires_every_object_in_its_colour_and_pattern() -> None:
    cat_and_cup = scene(("cat", "red", "plain"), ("cup", None, "wooden"))
    striped = scene(("fox", "blue", "striped"))
    right_cat, right_cup = Finding("cat", "red", "plain", 9), Finding("cup", "wooden", "plain", 9)
    judge = Told(
        [right_cat, right_cup],
        [right_cat],  # the cup is missing
        [right_cat, Finding("cup", "red", "plain", 9)],  # the cup is red
        [
            Finding("fox", "blue", "dotted", 9),
            Finding("star", "pink", "plain", 5),
        ],  # wrong pattern, and a star
    )
    shares, verdicts = judge_images(
        judge, torch.zeros(4, 3, 128, 128), [cat_and_cup, cat_and_cup, cat_and_cup, striped]
    )
    assert verdicts == [True, False, False, False]
    assert (shares["nouns"], shares["colours"], shares["all"]) == (0.75, 0.5, 0.25)
    assert shares["objects"] == pytest.approx(4 / 7)
    assert shares["by_objects"] == {"1": 0.0, "2": pytest.approx(1 / 3)}
    assert shares["extra"] == 0.25


def test_the_judge_names_the_noun_that_covers_enough_cells_and_its_commonest_look() -> None:
    judge = Judge(width=8)
    nouns = torch.zeros(1, 1 + len(NOUNS), 16, 16)
    looks = torch.zeros(1, len(LOOKS), 16, 16)
    patterns = torch.zeros(1, len(PATTERNS), 16, 16)
    nouns[0, 0] = 1.0
    nouns[0, 1 + NOUNS.index("boat"), 3:6, 3:6] = 2.0
    nouns[0, 1 + NOUNS.index("cat"), 12, 12:15] = 2.0  # three cells: too few
    looks[0, LOOKS.index("green"), 3:6, 3:6] = 1.0
    looks[0, LOOKS.index("red")] += 0.5  # elsewhere it matters not
    patterns[0, PATTERNS.index("dotted"), 3:6, 3:6] = 1.0
    judge.forward = lambda images: (nouns, looks, patterns)  # type: ignore[method-assign]
    assert judge.findings(torch.zeros(1, 3, 128, 128)) == [[Finding("boat", "green", "dotted", 9)]]


def test_the_judges_cells_are_where_the_objects_are() -> None:
    seed = 500_000
    spec = sample_scene(seed)
    masks = render(spec)[1]
    _, labels = cell_labels(seed)
    for row in range(16):
        for column in range(16):
            cells = [mask[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].mean() for mask in masks]
            for obj, share in zip(spec.objects, cells, strict=True):
                if share >= 0.5:
                    assert labels[0, row, column] == 1 + NOUNS.index(obj.noun)
                    if obj.colour is not None:
                        assert labels[1, row, column] == COLOURS.index(obj.colour)
            if sum(cells) < 0.2:
                assert labels[0, row, column] == 0


def test_the_autoencoder_gives_held_out_scenes_back(model: EditModel) -> None:
    images = scene_images([sample_scene(seed) for seed in held_out_seeds(12)])
    made, values = reconstructions(model, images)
    assert made.shape == images.shape
    assert sum(values) / len(values) > 28  # dB; the target of the embedded world


@pytest.mark.slow
def test_a_nouns_untuned_attention_finds_its_object_and_leaks_to_the_other(model: EditModel) -> None:
    statistics = attention_statistics(model, held_out_seeds(6), steps=10)
    assert statistics["iou"] > statistics["iou_chance"]
    assert statistics["inside"] > statistics["area"]
    assert statistics["other"] > 0.01


@pytest.mark.slow
def test_images_from_captions_depend_on_their_seed_and_place_alone(model: EditModel) -> None:
    texts = ["a red cat on the beach", "a blue star at night", "a green cup in a meadow"]
    together = draw_captions(model, texts, steps=2, seed=4, batch=3)
    apart = draw_captions(model, texts, steps=2, seed=4, batch=1)
    torch.testing.assert_close(together, apart, atol=2e-3, rtol=0)
    assert not torch.allclose(together, draw_captions(model, texts, steps=2, seed=5), atol=0.05)
