"""The metrics of an edit, against their libraries and by hand, under masks of every kind."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pinpoint.region_core.encoders.clip import ClipEncoder
from pinpoint.research.evaluation.metrics.registry import METRICS, PSNR_LIMIT, metrics_for
from pinpoint.research.evaluation.metrics.suite import MetricSuite, cut_to
from pinpoint.tests.fixtures.tiny_encoders import CLIP_SIDE, tiny_clip, tiny_vit

SIDE = 24
TEXTS: Any = {"source_text": "a photo of a cat", "target_text": "a photo of a fox"}
PIXEL_METRICS = ["psnr_background", "ssim_background", "mse_background", "psnr", "ssim", "mse"]


def picture(seed: int, side: int = SIDE) -> Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


def box_mask(top: int, bottom: int, left: int, right: int, side: int = SIDE) -> Tensor:
    mask = torch.zeros(side, side)
    mask[top:bottom, left:right] = 1
    return mask


MASKS = {
    "in the middle": box_mask(8, 16, 6, 18),
    "touching two edges": box_mask(0, 10, 14, SIDE),
    "touching all edges": 1 - box_mask(3, 20, 4, 19),
    "all but one pixel": 1 - box_mask(0, 1, 0, 1),
    "empty": torch.zeros(SIDE, SIDE),
}


class TensorsOnly(torch.nn.Module):
    """A CLIP whose features are tensors, as torchmetrics expects; newer transformers wrap them."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.config = model, model.config

    def get_image_features(self, *args: Any) -> Tensor:
        return getattr(found := self.model.get_image_features(*args), "pooler_output", found)

    def get_text_features(self, *args: Any) -> Tensor:
        return getattr(found := self.model.get_text_features(*args), "pooler_output", found)


def masked_in_numpy(image: Tensor, mask: Tensor) -> Any:
    """DirectInversion's masking, pixel by pixel: (H, W, 3) with zeros where the mask is set."""
    pixels = image[0].permute(1, 2, 0).double().numpy().copy()
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            if mask[y, x]:
                pixels[y, x] = 0.0
    return pixels


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_error_outside_the_mask_is_averaged_over_the_whole_frame_of_blackened_images(mask: Tensor) -> None:
    edited, source = picture(1), picture(2)
    one, other = masked_in_numpy(edited, mask), masked_in_numpy(source, mask)
    expected = float(((one - other) ** 2).mean())

    found = MetricSuite(["mse_background", "psnr_background"])(edited, source, mask, **TEXTS)

    assert found["mse_background"] == pytest.approx(expected, rel=1e-6)
    assert found["psnr_background"] == pytest.approx(-10 * math.log10(expected), rel=1e-6)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())
def test_pixel_metrics_are_those_of_torchmetrics_classes_on_blackened_images(mask: Tensor) -> None:
    from torchmetrics import MeanSquaredError
    from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

    edited, source = picture(3), picture(4)
    pairs = {
        "_background": [
            torch.from_numpy(masked_in_numpy(image, mask)).permute(2, 0, 1)[None].contiguous()
            for image in (edited, source)
        ],
        "": [edited.double(), source.double()],
    }
    expected = {}
    for part, (a, b) in pairs.items():
        expected[f"psnr{part}"] = PeakSignalNoiseRatio(data_range=1.0).set_dtype(torch.float64)(a, b)
        expected[f"ssim{part}"] = StructuralSimilarityIndexMeasure(data_range=1.0)(a, b)
        expected[f"mse{part}"] = MeanSquaredError().set_dtype(torch.float64)(a, b)

    found = MetricSuite(PIXEL_METRICS)(edited, source, mask, **TEXTS)

    assert found == pytest.approx({name: float(expected[name]) for name in PIXEL_METRICS}, rel=1e-5)


def test_what_changes_inside_the_mask_is_no_background_error() -> None:
    source, mask = picture(5), MASKS["touching two edges"]
    edited = torch.where(mask > 0, picture(6), source)

    found = MetricSuite(PIXEL_METRICS)(edited, source, mask, **TEXTS)

    assert found["mse_background"] == 0
    assert found["psnr_background"] == PSNR_LIMIT
    assert found["ssim_background"] == pytest.approx(1)
    assert found["mse"] is not None and found["mse"] > 0.01


def test_under_a_mask_that_covers_everything_there_is_no_background_to_measure() -> None:
    suite = MetricSuite(metrics_for(clip=1, dino=1), clip=tiny_clip(), dino=tiny_vit())
    found = suite(picture(7), picture(8), torch.ones(SIDE, SIDE), **TEXTS)

    nothing = {name for name, value in found.items() if value is None}
    assert nothing == {name for name, metric in METRICS.items() if "background" in metric.needs} - {
        "lpips_background"
    } | {"psnr_target", "psnr_target_change", "mse_target", "success_target"}


def test_under_an_empty_mask_there_is_no_change_to_measure_and_the_background_is_everything() -> None:
    of_change = ["clip_score_change", "psnr_target_change", "success_target", "success_clip"]
    suite = MetricSuite([*PIXEL_METRICS, *of_change, "psnr_target"], clip=tiny_clip())
    found = suite(picture(9), picture(10), MASKS["empty"], **TEXTS, target_image=picture(11))

    assert {name for name, value in found.items() if value is None} == set(of_change)
    for name in ("psnr", "ssim", "mse"):
        assert found[name] == found[f"{name}_background"]


def test_distance_to_the_true_edit_looks_at_that_image_and_at_no_other() -> None:
    edited, mask = torch.full((1, 3, SIDE, SIDE), 0.5), box_mask(0, 12, 0, SIDE)
    target = edited.clone()
    target[..., :12, :] += 0.1
    names = ["mse_target", "psnr_target", "psnr_target_change"]

    found = MetricSuite(names)(edited, picture(12), mask, **TEXTS, target_image=target)

    # Half of the pixels are 0.1 off: 0.01 inside the mask, 0.005 over the frame.
    assert found["mse_target"] == pytest.approx(0.005, rel=1e-4)
    assert found["psnr_target_change"] == pytest.approx(20, rel=1e-4)
    assert found["psnr_target"] == pytest.approx(20 + 10 * math.log10(2), rel=1e-4)


@pytest.mark.parametrize(("inside", "succeeds"), [(0.49, 0.0), (0.5, 0.0), (0.51, 1.0)])
def test_an_edit_succeeds_where_its_inside_is_past_half_way_from_the_source_to_the_truth(
    inside: float, succeeds: float
) -> None:
    source, mask = torch.zeros(1, 3, SIDE, SIDE), MASKS["touching two edges"]
    # Outside the mask the edit is the truth, which does not count.
    edited = torch.where(mask > 0, inside, 1.0).expand_as(source)

    found = MetricSuite(["success_target"])(edited, source, mask, **TEXTS, target_image=torch.ones_like(source))

    assert found["success_target"] == succeeds


@pytest.mark.parametrize(
    ("mask", "rows", "columns"),
    [
        (box_mask(8, 12, 6, 18), slice(4, 16), slice(6, 18)),
        (box_mask(0, 10, 20, SIDE), slice(0, 10), slice(14, SIDE)),
        (box_mask(5, 6, 0, SIDE), slice(0, SIDE), slice(0, SIDE)),
        (torch.maximum(box_mask(2, 4, 2, 4), box_mask(9, 10, 5, 7)), slice(2, 10), slice(1, 9)),
    ],
)
def test_clip_reads_the_square_around_the_change_and_says_which_text_is_nearer(
    mask: Tensor, rows: slice, columns: slice
) -> None:
    guide, edited = tiny_clip(), picture(15)
    with torch.no_grad():
        texts = guide.encode_texts([TEXTS["target_text"], TEXTS["source_text"]])
        near = texts @ guide.encode_images(edited[..., rows, columns])[0]

    def success(target: str, source: str) -> float | None:
        suite = MetricSuite(["success_clip"], clip=guide)
        texts = {"target_text": TEXTS[target], "source_text": TEXTS[source]}
        return suite(edited, picture(16), mask, **texts)["success_clip"]

    assert torch.equal(cut_to(edited, mask), edited[..., rows, columns])
    assert success("target_text", "source_text") == float(near[0] > near[1])
    assert success("source_text", "target_text") == float(near[1] > near[0])


def test_clip_reads_the_square_around_the_place_where_the_change_mask_has_the_border_besides(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guide, edited, edit = tiny_clip(), picture(15), box_mask(8, 12, 6, 18)
    bordered = 1 - box_mask(1, SIDE - 1, 1, SIDE - 1) + edit
    names = ["success_clip", "mse_background"]
    suite = MetricSuite(names, clip=guide)
    read: list[Tensor] = []
    encode = ClipEncoder.encode_images

    def noting(self: ClipEncoder, image: Tensor) -> Tensor:
        read.append(image)
        return encode(self, image)

    monkeypatch.setattr(ClipEncoder, "encode_images", noting)
    found = suite(edited, picture(16), bordered, **TEXTS, edit_mask=edit)

    assert [torch.equal(one, edited[..., 4:16, 6:18]) for one in read] == [True]
    one, other = (masked_in_numpy(image, bordered) for image in (edited, picture(16)))
    assert found["mse_background"] == pytest.approx(float(((one - other) ** 2).mean()), rel=1e-6)
    nowhere = suite(edited, picture(16), bordered, **TEXTS, edit_mask=MASKS["empty"])
    assert nowhere["success_clip"] is None and nowhere["mse_background"] == found["mse_background"]


def test_clip_scores_are_those_of_torchmetrics() -> None:
    from torchmetrics.functional.multimodal import clip_score
    from transformers import CLIPImageProcessor, CLIPProcessor

    guide, mask = tiny_clip(), box_mask(4, 20, 0, 16, CLIP_SIDE)
    side = {"height": CLIP_SIDE, "width": CLIP_SIDE}
    processor = CLIPProcessor(CLIPImageProcessor(size={"shortest_edge": CLIP_SIDE}, crop_size=side), guide.tokenizer)
    # In 8-bit values, because that is what the library takes.
    edited, source = ((picture(seed, CLIP_SIDE) * 255).round() / 255 for seed in (13, 14))

    def theirs(image: Tensor, text: str) -> float:
        eight_bit = (image[0] * 255).round().to(torch.uint8)
        return float(clip_score(eight_bit, text, lambda: (TensorsOnly(guide.model), processor)))

    names = ["clip_score", "clip_score_change", "clip_score_source"]
    found = MetricSuite(names, clip=guide)(edited, source, mask, **TEXTS)

    expected = {
        "clip_score": theirs(edited, TEXTS["target_text"]),
        "clip_score_change": theirs(edited * mask, TEXTS["target_text"]),
        "clip_score_source": theirs(source, TEXTS["source_text"]),
    }
    # The library gives 0 for less than 0; the seeds give some above.
    assert max(expected.values()) > 1
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "part"), [("clip_score", "clip"), ("structure_distance", "dino"), ("lpips_background", "lpips")]
)
def test_a_metric_without_its_weights_is_refused_with_what_to_give(name: str, part: str) -> None:
    with pytest.raises(ValueError, match=rf"metric {name}: no {part} given, requires a"):
        MetricSuite(["psnr", name])


def test_weights_that_no_metric_needs_are_not_opened() -> None:
    suite = MetricSuite(["psnr"], clip="/no/such/folder", lpips="/no/such/folder")
    assert suite.clip is None and suite.lpips is None


@pytest.mark.parametrize("names", [["psnr", "beauty"], ["psnr", "psnr"], ["fe"]])
def test_names_that_are_no_metrics_of_an_image_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="metrics: got"):
        MetricSuite(names)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"edited": torch.zeros(3, SIDE, SIDE)}, "edited: got the shape"),
        ({"edited": torch.full((1, 3, SIDE, SIDE), math.nan)}, "edited: it has values that are not finite"),
        ({"source": torch.zeros(1, 3, SIDE, 32)}, "source: got the shape"),
        ({"change_mask": torch.zeros(SIDE, 32)}, "change mask: got the shape"),
        ({"change_mask": torch.full((SIDE, SIDE), 1.5)}, "change mask: it has values outside"),
        ({"edit_mask": torch.zeros(SIDE, 32)}, "edit mask: got the shape"),
        ({"edit_mask": torch.full((SIDE, SIDE), -0.5)}, "edit mask: it has values outside"),
        ({"target_image": torch.zeros(1, 3, 8, 8)}, "target image: got the shape"),
    ],
)
def test_images_and_masks_that_do_not_fit_are_refused(changed: dict[str, Any], said: str) -> None:
    given = {"edited": picture(1), "source": picture(2), "change_mask": MASKS["empty"], **TEXTS, **changed}
    with pytest.raises(ValueError, match=said):
        MetricSuite(["psnr"])(**given)


def test_every_metric_is_computed_under_its_own_name() -> None:
    names = metrics_for(clip=1, dino=1)
    suite = MetricSuite(names, clip=tiny_clip(), dino=tiny_vit())
    found = suite(picture(1), picture(2), MASKS["in the middle"], **TEXTS, target_image=picture(3))
    assert tuple(found) == names
    assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())


def test_metrics_for_leaves_out_what_has_no_weights() -> None:
    assert not {"clip_score", "dino_similarity", "lpips_target"} & set(metrics_for())
    assert {"psnr", "clip_score"} < set(metrics_for(clip="embedded"))
    assert set(metrics_for(clip=1, dino=1, lpips=1)) == set(METRICS)
