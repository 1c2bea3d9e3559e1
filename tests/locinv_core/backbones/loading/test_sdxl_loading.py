"""Opening SDXL as a folder and as a file, and what of its family is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from pinpoint.locinv_core.backbones.loading import load_edit_model
from pinpoint.locinv_core.backbones.sdxl import SDXLModel
from pinpoint.locinv_core.backbones.single_file import CONFIGS, inspect_file, load_single_file
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.tests.fixtures.ldm_names import checkpoint
from pinpoint.tests.fixtures.tiny_sdxl import (
    tiny_sdxl,
    write_tiny_sdxl_configs,
    write_tiny_sdxl_file,
    write_tiny_sdxl_folder,
)
from pinpoint.tests.locinv_core.backbones.loading.comparing import CPU, assert_same_weights, edit_json
from pinpoint.tests.locinv_core.backbones.loading.true_sizes import true_networks

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


@pytest.fixture(name="sdxl_folder", scope="module")
def _sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sdxl_folder(tmp_path_factory.mktemp("folder") / "tiny-sdxl")


@pytest.fixture(name="sdxl_copied")
def _sdxl_copied(sdxl_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sdxl_folder, tmp_path / "copied"))


def assert_is_the_tiny_sdxl(model: Any) -> None:
    assert isinstance(model, SDXLModel)
    expected = tiny_sdxl()
    for part in PARTS:
        assert_same_weights(getattr(model, part), getattr(expected, part))
    assert model.fingerprint == expected.fingerprint
    assert model.pad_id_2 == 0


def test_a_folder_with_two_text_encoders_opens_as_sdxl(sdxl_folder: Path) -> None:
    assert_is_the_tiny_sdxl(load_edit_model(sdxl_folder, device="cpu"))


def test_the_fp16_variant_opens_with_the_vae_in_float32_unless_its_config_says_that_it_does_not_overflow(
    tmp_path: Path,
) -> None:
    path = write_tiny_sdxl_folder(tmp_path / "half", dtype=torch.float16, variant="fp16")
    model = load_edit_model(path, device="cpu", dtype="float16")
    assert isinstance(model, SDXLModel)
    dtypes = {part: next(getattr(model, part).parameters()).dtype for part in PARTS}
    assert dtypes == {**dict.fromkeys(PARTS, torch.float16), "vae": torch.float32}
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert torch.isfinite(model.decode(model.encode(image))).all()
    assert load_edit_model(path, device="cpu", dtype="bfloat16").vae.dtype == torch.bfloat16
    edit_json(path / "vae" / "config.json", force_upcast=False)
    assert load_edit_model(path, device="cpu", dtype="float16").vae.dtype == torch.float16


@pytest.mark.parametrize("part", ["text_encoder_2", "tokenizer_2"])
def test_a_folder_that_lacks_a_second_part_is_refused_by_its_name(sdxl_copied: Path, part: str) -> None:
    shutil.rmtree(sdxl_copied / part)
    with pytest.raises(ValueError, match=rf"copied: it lacks {part}/"):
        load_edit_model(sdxl_copied, device="cpu")


def test_the_refiner_is_refused_as_what_it_is(sdxl_copied: Path) -> None:
    for part in ("text_encoder", "tokenizer"):
        shutil.rmtree(sdxl_copied / part)
    with pytest.raises(ValueError, match=r"seems to be SDXL's refiner, requires .*base model"):
        load_edit_model(sdxl_copied, device="cpu")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"in_channels": 9}, "9 channels.*inpainting.*requires 4"),
        ({"projection_class_embeddings_input_dim": 64}, "channels beside the prompt|unet"),
        ({"encoder_hid_dim_type": "text_image_proj"}, r"more than a prompt \(text_image_proj\)"),
    ],
)
def test_a_folder_with_another_unet_of_the_family_is_refused(
    sdxl_copied: Path, changes: dict[str, Any], reason: str
) -> None:
    edit_json(sdxl_copied / "unet" / "config.json", **changes)
    with pytest.raises(ValueError, match=reason):
        load_edit_model(sdxl_copied, device="cpu")


def test_second_text_encoders_of_another_width_or_kind_are_refused(sdxl_copied: Path) -> None:
    edit_json(sdxl_copied / "text_encoder_2" / "config.json", model_type="t5")
    with pytest.raises(ValueError, match="text encoder 2 is a t5"):
        load_edit_model(sdxl_copied, device="cpu")


# Single files


def test_a_file_in_the_original_names_gives_what_the_folder_gives(sdxl_folder: Path, tmp_path: Path) -> None:
    path, configs = write_tiny_sdxl_file(tmp_path / "m.safetensors"), write_tiny_sdxl_configs(tmp_path / "configs")
    single = load_single_file(path, CPU, torch.float32, config_folder=configs)
    assert_is_the_tiny_sdxl(single)
    opened = load_edit_model(sdxl_folder, device="cpu")
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    outputs = []
    for model in (single, opened):
        context = model.encode_prompt(parse_prompt("a red cat", model.tokenizer))
        outputs.append((context, model.predict_noise(latents, 481, context), model.decode(latents)))
    for ours, theirs in zip(*outputs, strict=True):
        assert torch.equal(ours, theirs)
    half = load_single_file(path, CPU, torch.float16, config_folder=configs)
    assert (half.dtype, half.vae.dtype) == (torch.float16, torch.float32)


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ((), ("epsilon", False)),
        (("v_pred",), ("v_prediction", False)),
        (("v_pred", "ztsnr"), ("v_prediction", True)),
    ],
)
def test_marker_tensors_say_what_a_file_predicts_and_whether_its_schedule_ends_in_pure_noise(
    tmp_path: Path, extra: tuple[str, ...], expected: tuple[str, bool]
) -> None:
    path = write_tiny_sdxl_file(tmp_path / "m.safetensors", extra={name: torch.zeros(0) for name in extra})
    facts = inspect_file(path)
    assert (facts.family, facts.native_size) == ("sdxl", 1024)
    assert (facts.prediction_type, facts.zero_terminal_snr) == expected
    model = load_single_file(path, CPU, torch.float32, config_folder=write_tiny_sdxl_configs(tmp_path / "configs"))
    assert (float(model.schedule.alphas_cumprod[-1]) == 0) == expected[1]
    assert model.schedule.timesteps(50)[0] == (996 if expected[1] else 981)


@pytest.mark.parametrize(
    ("extra", "without", "reason"),
    [
        ({"conditioner.embedders.0.model.token_embedding.weight": torch.zeros(2, 2)}, "-", "to be SDXL's refiner"),
        ({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 9, 3, 3)}, "-", "9 channels .an inpainting"),
        ({"edm_vpred.sigma_max": torch.zeros(1)}, "-", "neither noise nor v"),
        ({}, "conditioner.embedders.1.", r"lacks a CLIP text encoder \(conditioner.embedders.1\)"),
        ({}, "first_stage_model.", "lacks a VAE"),
        ({}, "model.diffusion_model.", "to be SDXL's text encoders"),
    ],
)
def test_a_file_of_the_family_that_cannot_be_edited_with_is_refused_as_what_it_is(
    tmp_path: Path, extra: dict[str, torch.Tensor], without: str, reason: str
) -> None:
    path = write_tiny_sdxl_file(tmp_path / "m.safetensors", extra=extra, without=(without,))
    with pytest.raises(ValueError, match=reason):
        load_edit_model(path, device="cpu")


@pytest.mark.parametrize("lost", ["model.text_projection", "model.transformer.resblocks.2.ln_1.weight"])
def test_a_file_that_lacks_a_weight_of_the_second_encoder_is_refused(tmp_path: Path, lost: str) -> None:
    path = write_tiny_sdxl_file(tmp_path / "m.safetensors", without=(f"conditioner.embedders.1.{lost}",))
    with pytest.raises(ValueError, match="lacks 1 weights of SDXL's text_encoder_2"):
        load_single_file(path, CPU, torch.float32, config_folder=write_tiny_sdxl_configs(tmp_path / "configs"))


def test_the_carried_configs_and_the_test_checkpoints_names_are_those_of_the_released_base_model() -> None:
    folder = CONFIGS / "sdxl"
    unet, vae, text = true_networks("sdxl")
    with torch.device("meta"):
        second = CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(folder / "text_encoder_2"))
    counts = [sum(w.numel() for w in part.parameters()) for part in (unet, vae, text, second)]
    assert counts == [2_567_463_684, 83_653_863, 123_060_480, 694_659_840]
    weights = checkpoint(unet, vae, text, "sdxl", second)
    for name, shape in {
        "model.diffusion_model.label_emb.0.0.weight": (1280, 2816),
        "model.diffusion_model.input_blocks.4.1.transformer_blocks.1.attn2.to_k.weight": (640, 2048),
        "model.diffusion_model.middle_block.1.transformer_blocks.9.attn2.to_v.weight": (1280, 2048),
        "model.diffusion_model.output_blocks.2.2.conv.weight": (1280, 1280, 3, 3),
        "conditioner.embedders.0.transformer.text_model.encoder.layers.11.mlp.fc1.weight": (3072, 768),
        "conditioner.embedders.1.model.text_projection": (1280, 1280),
        "conditioner.embedders.1.model.transformer.resblocks.31.attn.in_proj_weight": (3840, 1280),
    }.items():
        assert tuple(weights[name].shape) == shape, name
    # Tensors of the released file: UNet, VAE, and the text encoders with the first's position_ids.
    prefixes = ("model.diffusion_model.", "first_stage_model.", "conditioner.embedders.0.", "conditioner.embedders.1.")
    assert [sum(name.startswith(prefix) for name in weights) for prefix in prefixes] == [1680, 248, 197, 390]
