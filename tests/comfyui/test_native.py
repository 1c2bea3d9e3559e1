"""The backbone over ComfyUI's own MODEL, CLIP and VAE, beside ComfyUI's samplers and beside diffusers."""

from __future__ import annotations

import pytest

from pinpoint.tests.comfyui.inside_process import measured


@pytest.fixture(scope="module")
def passes(tmp_path_factory):
    return measured("inside_native", "passes", tmp_path_factory.mktemp("passes"))


@pytest.mark.parametrize("name", ["plain", "lora", "clip skip", "xl"])
def test_a_pass_is_comfyuis_own_and_a_control_that_changes_nothing_changes_nothing(passes, name):
    told = passes[name]
    assert told["apart"] < 1e-6
    assert told["idle control"] == 0
    assert told["map shape"] == [2, 4 * 6, 77] and told["map sums"] < 1e-5
    assert 0.2 < told["share"] < 0.9
    assert told["options unchanged"] is True


def test_weights_patches_and_clip_skip_are_told_apart(passes):
    assert len({passes[name]["fingerprint"] for name in ("plain", "lora", "clip skip", "xl")}) == 4


@pytest.mark.parametrize("scheduler", ["normal", "karras", "simple", "ddim_uniform", "sgm_uniform"])
def test_sampling_with_a_scheduler_is_ksamplers_euler(passes, scheduler):
    assert passes[scheduler] < 1e-5


@pytest.fixture(scope="module")
def patches(tmp_path_factory):
    return measured("inside_native", "patches", tmp_path_factory.mktemp("patches"))


@pytest.mark.parametrize("name", ["FreeU", "adapter", "ControlNet", "fp8", "scaled fp8", "streamed LoRA"])
def test_what_patches_a_model_is_in_every_pass_also_where_maps_are_read(patches, name):
    told = patches[name]
    assert told["apart"] < 1e-5 and told["with maps"] < 1e-4
    assert told.get("moved", 1) > 0.01, "a patch that changes nothing shows nothing"
    assert told["gradient"] < 0.01


def test_weights_in_a_prompt_are_comfyuis_and_its_words_stay_words(patches):
    told = patches["weights"]
    assert told["apart"] < 1e-5 and told["moved"] > 0.01
    assert told["words"] == ["a", "yellow", "cat", "and", "a", "red", "star"]


def test_what_acts_on_the_sampler_or_does_not_fit_is_refused_by_name(patches):
    guided, wrapped, other = patches["refused"]
    assert ".adapter acts on the sampler" in guided
    assert "EasyCache wraps the sampler" in wrapped and "bypass" in guided and "bypass" in wrapped
    assert other.startswith("clip: it gives 160 channels, and the MODEL requires 64")


def test_the_embedded_model_as_model_clip_and_vae_edits_as_the_command_line_does(tmp_path):
    told = measured("inside_native", "edits", tmp_path)
    assert max(told[part] for part in ("context", "noise", "encode", "decode")) < 1e-3
    assert told["maps"][0] == told["maps"][1] and told["maps"][2:] == [128, 128]
    assert told["share"][0] == pytest.approx(told["share"][1], rel=0.02)
    for kind in ("fast", "exact, null-text"):
        assert told[kind]["edited"] > 50 and told[kind]["reconstruction"] > 50
        assert told[kind]["moved"] < 30, "an edit that changes nothing shows nothing"
    assert told["unchanged"] is True
