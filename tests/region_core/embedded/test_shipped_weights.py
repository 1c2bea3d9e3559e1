"""What the regions' shipped weights can do, on a few held-out scenes; `evaluate-embedded` measures more."""

from __future__ import annotations

import torch

from pinpoint.locinv_core.embedded.dataset import held_out_seeds
from pinpoint.locinv_core.embedded.evaluation import scene_images
from pinpoint.locinv_core.embedded.scenes import caption, sample_scene
from pinpoint.region_core.embedded.evaluation import (
    attention_anchors,
    codes_and_reconstructions,
    edit_with_amused,
    text_picks,
)
from pinpoint.region_core.features import load_vit
from pinpoint.region_core.guidance import load_clip
from pinpoint.region_core.opening import EMBEDDED_FOLDER


def test_clip_picks_a_scenes_caption_among_32() -> None:
    assert text_picks(load_clip("embedded"), held_out_seeds(64))["caption"] >= 0.9


def test_the_vits_attention_lies_on_things() -> None:
    hits, chance, _ = attention_anchors(load_vit("embedded"), held_out_seeds(64))
    assert hits.any >= 0.9
    assert hits.share > 2 * chance.share


def test_amuseds_codes_keep_the_picture() -> None:
    images = scene_images([sample_scene(seed) for seed in held_out_seeds(16)])
    _, values, used = codes_and_reconstructions(EMBEDDED_FOLDER / "amused" / "vqvae", images)
    assert sum(values) / len(values) > 24
    assert used > 256  # of 512


def test_amuseds_edits_are_more_like_what_they_should_show_than_what_was_there() -> None:
    seeds = held_out_seeds(24, seed=1)
    before = [sample_scene(seed) for seed in seeds]
    edited, after = edit_with_amused(EMBEDDED_FOLDER / "amused", seeds)
    clip = load_clip("embedded")
    with torch.no_grad():
        shown = clip.encode_images(edited).cpu()
    wanted, was = (clip.encode_texts([caption(one) for one in specs]).cpu() for specs in (after, before))
    assert ((shown * wanted).sum(1) > (shown * was).sum(1)).float().mean() >= 0.7
