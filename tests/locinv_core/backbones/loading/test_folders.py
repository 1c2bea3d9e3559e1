"""Opening diffusers folders, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pinpoint.locinv_core.backbones.loading import load_edit_model
from pinpoint.locinv_core.backbones.single_file import load_single_file
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.tests.fixtures.tiny_models import (
    tiny_text_encoder,
    tiny_unet,
    tiny_vae,
    write_tiny_file,
    write_tiny_folder,
)
from pinpoint.tests.locinv_core.backbones.loading.comparing import CPU, assert_same_weights, edit_json


def test_a_folder_gives_the_weights_that_were_saved_in_it(folder: Path) -> None:
    model = load_edit_model(folder, device="cpu")
    assert_same_weights(model.unet, tiny_unet())
    assert_same_weights(model.vae, tiny_vae())
    assert_same_weights(model.text_encoder, tiny_text_encoder())
    assert model.name == "tiny-sd"
    assert model.dtype == torch.float32
    assert model.context_length == 77


def test_a_folder_may_be_named_by_a_string(folder: Path) -> None:
    assert load_edit_model(str(folder), device="cpu").name == "tiny-sd"


def test_nothing_that_is_opened_requires_a_gradient_or_is_in_training_mode(folder: Path) -> None:
    model = load_edit_model(folder, device="cpu")
    for part in (model.unet, model.vae, model.text_encoder):
        assert not part.training
        assert not any(weight.requires_grad for weight in part.parameters())


def test_weights_opened_inside_inference_mode_still_take_part_in_a_gradient(folder: Path) -> None:
    with torch.inference_mode():
        model = load_edit_model(folder, device="cpu")
    prompt = parse_prompt("a cat", model.tokenizer)
    vectors = model.token_vectors([prompt.token_ids[2]]).requires_grad_()
    model.encode_prompt(prompt, vectors, [2]).sum().backward()
    assert vectors.grad is not None


def test_the_schedule_of_a_folder_is_its_scheduler_config(folder: Path, tmp_path: Path) -> None:
    model = load_edit_model(folder, device="cpu")
    assert model.schedule.prediction_type == "epsilon"
    # √β from √0.00085 to √0.012 in 1000 steps; ᾱ_t = Π (1 − β).
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    expected = torch.cumprod(1 - betas, 0)
    assert torch.allclose(model.schedule.alphas_cumprod.double(), expected, atol=1e-6)
    assert model.schedule.timesteps(50)[:2] == (981, 961)
    assert model.schedule.timesteps(50)[-1] == 1


def test_a_v_prediction_folder_says_so_in_its_scheduler_config(tmp_path: Path) -> None:
    path = write_tiny_folder(tmp_path / "v", prediction_type="v_prediction")
    assert load_edit_model(path, device="cpu").schedule.prediction_type == "v_prediction"


def test_prediction_overrides_the_scheduler_config(folder: Path) -> None:
    model = load_edit_model(folder, device="cpu", prediction="v_prediction")
    assert model.schedule.prediction_type == "v_prediction"


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("float32", torch.float32),
        ("fp32", torch.float32),
        ("float16", torch.float16),
        ("fp16", torch.float16),
        ("bfloat16", torch.bfloat16),
        ("bf16", torch.bfloat16),
    ],
)
def test_every_part_of_a_folder_has_the_dtype_that_was_asked_for(
    folder: Path, dtype: str, expected: torch.dtype
) -> None:
    model = load_edit_model(folder, device="cpu", dtype=dtype)
    for part in (model.unet, model.vae, model.text_encoder):
        assert {weight.dtype for weight in part.parameters()} == {expected}


def test_files_of_the_fp16_variant_are_found_and_opened_in_any_dtype(tmp_path: Path) -> None:
    path = write_tiny_folder(tmp_path / "half", dtype=torch.float16, variant="fp16")
    assert (path / "unet" / "diffusion_pytorch_model.fp16.safetensors").is_file()
    assert not (path / "unet" / "diffusion_pytorch_model.safetensors").exists()
    model = load_edit_model(path, device="cpu", dtype="float32")
    assert model.dtype == torch.float32
    assert_same_weights(model.unet, tiny_unet().half())
    assert_same_weights(model.text_encoder, tiny_text_encoder().half())


def test_the_same_weights_have_one_fingerprint_in_a_folder_a_file_and_any_precision(
    folder: Path, tmp_path: Path, configs: Path
) -> None:
    single = load_single_file(write_tiny_file(tmp_path / "m.safetensors"), CPU, torch.float32, config_folder=configs)
    # SD 1.5's folder comes with PNDM's config, which describes the same schedule.
    pndm = {
        "_class_name": "PNDMScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "num_train_timesteps": 1000,
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
        "trained_betas": None,
        "clip_sample": False,
    }
    other = write_tiny_folder(tmp_path / "pndm", scheduler_config=pndm)
    prints = {
        load_edit_model(folder, device="cpu").fingerprint,
        load_edit_model(folder, device="cpu", dtype="float16").fingerprint,
        load_edit_model(other, device="cpu").fingerprint,
        single.fingerprint,
    }
    assert len(prints) == 1


def test_other_weights_and_another_prediction_have_another_fingerprint(folder: Path, tmp_path: Path) -> None:
    other = write_tiny_folder(tmp_path / "other", seed=1)
    prints = {
        load_edit_model(folder, device="cpu").fingerprint,
        load_edit_model(folder, device="cpu", prediction="v_prediction").fingerprint,
        load_edit_model(other, device="cpu").fingerprint,
    }
    assert len(prints) == 3


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_folder_that_lacks_a_part_is_refused_by_that_parts_name(copied: Path, part: str) -> None:
    shutil.rmtree(copied / part)
    with pytest.raises(ValueError, match=rf"{copied.name}.*lacks .*{part}"):
        load_edit_model(copied, device="cpu")


def test_a_folder_whose_weights_are_missing_is_refused(copied: Path) -> None:
    (copied / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks vae/diffusion_pytorch_model\.safetensors"):
        load_edit_model(copied, device="cpu")


@pytest.mark.parametrize(
    ("part", "pickled"), [("unet", "diffusion_pytorch_model.bin"), ("text_encoder", "pytorch_model.bin")]
)
def test_a_folder_with_pickled_weights_alone_is_refused_with_the_reason(copied: Path, part: str, pickled: str) -> None:
    for file in (copied / part).glob("*.safetensors"):
        file.rename(copied / part / pickled)
    with pytest.raises(ValueError, match=rf"{part}.*{pickled}.*run code"):
        load_edit_model(copied, device="cpu")


def test_a_truncated_weights_file_in_a_folder_is_refused_by_name(copied: Path) -> None:
    weights = copied / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"unet/diffusion_pytorch_model\.safetensors is damaged"):
        load_edit_model(copied, device="cpu")


@pytest.mark.parametrize(
    ("part", "file"),
    [("unet", "diffusion_pytorch_model.safetensors"), ("text_encoder", "model.safetensors")],
)
def test_weights_that_lack_a_tensor_are_never_filled_in_at_random(copied: Path, part: str, file: str) -> None:
    weights = load_file(copied / part / file)
    lost = sorted(weights)[3]
    del weights[lost]
    save_file(weights, copied / part / file, {"format": "pt"})
    with pytest.raises(ValueError, match=rf"{part}'s weights do not fit.*1 are missing"):
        load_edit_model(copied, device="cpu")


def test_weights_of_another_width_are_refused(copied: Path) -> None:
    edit_json(copied / "unet" / "config.json", cross_attention_dim=48)
    with pytest.raises(ValueError, match=r"model folder .*unet"):
        load_edit_model(copied, device="cpu")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"in_channels": 9}, "9 channels.*inpainting.*requires 4"),
        ({"in_channels": 5}, "5 channels.*depth.*requires 4"),
        ({"addition_embed_type": "text_time"}, "lacks text_encoder_2.*tokenizer_2"),
        ({"addition_embed_type": "image"}, "more than a prompt"),
        ({"class_embed_type": "projection"}, "a class beside the prompt"),
        ({"num_class_embeds": 1000}, "a class beside the prompt"),
        ({"_class_name": "UNetSpatioTemporalConditionModel"}, "UNetSpatioTemporalConditionModel"),
    ],
)
def test_a_folder_with_another_kind_of_unet_is_refused_with_what_it_is(
    copied: Path, changes: dict[str, Any], reason: str
) -> None:
    edit_json(copied / "unet" / "config.json", **changes)
    with pytest.raises(ValueError, match=rf"{copied.name}.*{reason}"):
        load_edit_model(copied, device="cpu")


def test_a_folder_with_another_kind_of_vae_or_text_encoder_is_refused(copied: Path) -> None:
    edit_json(copied / "vae" / "config.json", latent_channels=16)
    with pytest.raises(ValueError, match="VAE has 16 latent channels"):
        load_edit_model(copied, device="cpu")
    edit_json(copied / "vae" / "config.json", latent_channels=4)
    edit_json(copied / "text_encoder" / "config.json", model_type="t5")
    with pytest.raises(ValueError, match="text encoder is a t5"):
        load_edit_model(copied, device="cpu")


def test_a_config_that_is_no_json_is_refused_by_name(copied: Path) -> None:
    (copied / "unet" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"unet/config\.json cannot be read"):
        load_edit_model(copied, device="cpu")


def test_a_unet_without_cross_attention_on_the_way_down_and_up_is_refused(tmp_path: Path) -> None:
    path = write_tiny_folder(tmp_path / "plain")
    shutil.rmtree(path / "unet")
    tiny_unet(
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D")
    ).save_pretrained(path / "unet")
    with pytest.raises(ValueError, match=r"model folder .*cross-attention"):
        load_edit_model(path, device="cpu")


def test_a_text_encoder_of_another_width_than_the_unet_reads_is_refused(copied: Path) -> None:
    shutil.rmtree(copied / "text_encoder")
    tiny_text_encoder(hidden_size=48).save_pretrained(copied / "text_encoder")
    with pytest.raises(ValueError, match="gives 48 channels, and the UNet requires 32"):
        load_edit_model(copied, device="cpu")


def test_a_tokenizer_that_does_not_say_how_much_it_reads_gets_the_text_encoders_length(copied: Path) -> None:
    edit_json(copied / "tokenizer" / "tokenizer_config.json", model_max_length=None)
    assert load_edit_model(copied, device="cpu").context_length == 77
