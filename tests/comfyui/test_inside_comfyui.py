"""What can only be measured in ComfyUI's own process: the same weights predict the same noise, and loading is
quick."""

from __future__ import annotations

from pinpoint.tests.comfyui.inside_process import measured


def test_the_same_weights_predict_the_same_noise_with_and_without_a_lora_and_clip_skip(tmp_path):
    found = measured("inside_comfyui", "parity", tmp_path)
    for name in ("plain", "lora", "clip skip"):
        assert found[name]["inference"] is False
        for timestep in ("981", "401", "1"):
            assert found[name][f"size {timestep}"] > 0.5, "the noise is too small for the test to mean much"
            assert found[name][timestep] < 1e-3, name
    # Had they been left out, it would have shown.
    assert found["moved by lora"] > 0.01 and found["moved by clip skip"] > 0.01
    assert found["encode"] < 1e-3 and found["decode"] < 1e-3


def test_loading_the_pack_takes_comfyui_less_than_a_third_of_a_second_of_computing(tmp_path):
    found = measured("inside_comfyui", "load", tmp_path)
    assert found["succeeded"] is True
    # Computing, not waiting: so that a busy machine does not decide.
    assert found["seconds"] < 0.3
