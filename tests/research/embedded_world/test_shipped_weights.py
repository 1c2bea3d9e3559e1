"""What the regions' shipped weights can do, on a few held-out scenes; `evaluate-embedded` measures more."""

from __future__ import annotations

import torch

from pinpoint.assets import EMBEDDED
from pinpoint.region_core.encoders.clip import load_clip
from pinpoint.region_core.encoders.vit import load_vit
from pinpoint.research.embedded_world.evaluation import (
    attention_anchors,
    codes_and_reconstructions,
    edit_with_amused,
    scene_images,
    text_picks,
)
from pinpoint.research.embedded_world.scenes.dataset import held_out_seeds
from pinpoint.research.embedded_world.scenes.spec import caption, sample_scene


def test_clip_picks_a_scenes_caption_among_32() -> None:
    assert text_picks(load_clip("embedded"), held_out_seeds(64))["caption"] >= 0.9


def test_the_vits_attention_lies_on_objects() -> None:
    hits, chance, _ = attention_anchors(load_vit("embedded"), held_out_seeds(64))
    assert hits.any >= 0.9
    assert hits.share > 2 * chance.share


def test_amuseds_codes_keep_the_image() -> None:
    images = scene_images([sample_scene(seed) for seed in held_out_seeds(16)])
    _, values, used = codes_and_reconstructions(EMBEDDED / "amused" / "vqvae", images)
    assert sum(values) / len(values) > 24
    assert used > 256  # of 512


def test_amuseds_edits_are_more_like_what_they_should_show_than_what_was_there() -> None:
    seeds = held_out_seeds(24, seed=1)
    before = [sample_scene(seed) for seed in seeds]
    edited, after = edit_with_amused(EMBEDDED / "amused", seeds)
    clip = load_clip("embedded")
    with torch.no_grad():
        shown = clip.encode_images(edited).cpu()
    wanted, was = (clip.encode_texts([caption(one) for one in specs]).cpu() for specs in (after, before))
    assert ((shown * wanted).sum(1) > (shown * was).sum(1)).float().mean() >= 0.7
