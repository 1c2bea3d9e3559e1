"""Opening single checkpoint files, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from pinpoint.locinv_core.backbones.loading import load_edit_model
from pinpoint.locinv_core.backbones.single_file import inspect_file, load_single_file
from pinpoint.tests.fixtures.tiny_models import tiny_text_encoder, tiny_unet, tiny_vae, write_tiny_file
from pinpoint.tests.locinv_core.backbones.loading.comparing import CPU, assert_same_weights
from pinpoint.tests.locinv_core.backbones.loading.true_sizes import true_networks


def test_a_single_file_gives_the_weights_that_were_written_under_ldm_names(
    family_file: tuple[str, Path], configs: Path
) -> None:
    family, path = family_file
    model = load_single_file(path, CPU, torch.float32, config_folder=configs)
    assert_same_weights(model.unet, tiny_unet())
    assert_same_weights(model.vae, tiny_vae())
    assert_same_weights(model.text_encoder, tiny_text_encoder())
    assert model.name == f"my {family} model"


def test_a_single_file_in_half_precision_opens_in_the_dtype_that_was_asked_for(tmp_path: Path, configs: Path) -> None:
    path = write_tiny_file(tmp_path / "half.safetensors", dtype=torch.float16)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        model = load_single_file(path, CPU, dtype, config_folder=configs)
        for part in (model.unet, model.vae, model.text_encoder):
            assert {weight.dtype for weight in part.parameters()} == {dtype}
    assert_same_weights(load_single_file(path, CPU, torch.float32, config_folder=configs).unet, tiny_unet().half())


def test_sd1_pads_with_the_end_token_and_sd2_with_the_exclamation_mark(
    family_file: tuple[str, Path], configs: Path
) -> None:
    family, path = family_file
    tokenizer = load_single_file(path, CPU, torch.float32, config_folder=configs).tokenizer
    ids = tokenizer("a photo of a cat", padding="max_length")["input_ids"]
    assert len(ids) == 77
    # CLIP's ids of "a photo of a cat".
    assert ids[:7] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert set(ids[7:]) == ({49407} if family == "sd1" else {0})


@pytest.mark.parametrize(
    ("family", "metadata", "prediction", "expected"),
    [
        ("sd1", None, None, ("sd1", "epsilon", 512)),
        ("sd2", None, None, ("sd2", "v_prediction", 768)),
        ("sd1", None, "v_prediction", ("sd1", "v_prediction", 512)),
        ("sd2", None, "epsilon", ("sd2", "epsilon", 512)),
        ("sd2", {"modelspec.prediction_type": "epsilon"}, None, ("sd2", "epsilon", 512)),
        ("sd2", {"modelspec.predict_key": "epsilon"}, None, ("sd2", "epsilon", 512)),
        ("sd1", {"modelspec.prediction_type": "v"}, None, ("sd1", "v_prediction", 512)),
        ("sd2", {"modelspec.resolution": "512x512"}, None, ("sd2", "epsilon", 512)),
        ("sd2", {"modelspec.resolution": "768x768"}, None, ("sd2", "v_prediction", 768)),
        ("sd2", {"modelspec.architecture": "stable-diffusion-v2-512"}, None, ("sd2", "epsilon", 512)),
        ("sd2", {"modelspec.architecture": "stable-diffusion-v2-768-v"}, None, ("sd2", "v_prediction", 768)),
        ("sd1", {"modelspec.resolution": "640x704"}, None, ("sd1", "epsilon", 704)),
        ("sd1", {"modelspec.resolution": "big"}, None, ("sd1", "epsilon", 512)),
        ("sd2", {"modelspec.prediction_type": "v"}, "epsilon", ("sd2", "epsilon", 512)),
    ],
)
def test_family_prediction_and_size_are_told_from_names_and_metadata(
    tmp_path: Path,
    family: str,
    metadata: dict[str, str] | None,
    prediction: Any,
    expected: tuple[str, str, int],
) -> None:
    path = header_only(tmp_path / "m.safetensors", family, metadata=metadata)
    facts = inspect_file(path, prediction)
    assert (facts.family, facts.prediction_type, facts.native_size) == expected


def test_a_tensor_named_v_pred_means_v_prediction(tmp_path: Path) -> None:
    path = header_only(tmp_path / "m.safetensors", "sd1", extra={"v_pred": torch.zeros(0)})
    assert inspect_file(path).prediction_type == "v_prediction"


def header_only(
    path: Path,
    family: str,
    *,
    metadata: dict[str, str] | None = None,
    extra: dict[str, Tensor] | None = None,
    without: tuple[str, ...] = (),
) -> Path:
    """A few telling tensors of a checkpoint: enough to be inspected, not to be opened."""
    text = {
        "sd1": "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight",
        "sd2": "cond_stage_model.model.token_embedding.weight",
    }[family]
    weights = {
        "model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 4, 3, 3),
        "first_stage_model.decoder.conv_in.weight": torch.zeros(8, 4, 3, 3),
        text: torch.zeros(2, 2),
        **(extra or {}),
    }
    save_file({n: w for n, w in weights.items() if not n.startswith(without or ("-",))}, path, metadata)
    return path


@pytest.mark.parametrize(
    ("names", "seems"),
    [
        (["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"], "a LoRA"),
        (["unet.down_blocks.0.attentions.0.proj_in.lora_A.weight"], "a LoRA"),
        (["encoder.conv_in.weight", "decoder.conv_in.weight"], "a VAE alone"),
        (["first_stage_model.decoder.conv_in.weight"], "a VAE alone"),
        (["control_model.input_blocks.0.0.weight"], "a ControlNet"),
        (["model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale"], "a Flux checkpoint"),
        (["model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight"], "a Stable Diffusion 3 checkpoint"),
        (["down_blocks.0.resnets.0.conv1.weight"], "a diffusers UNet alone"),
        (["text_model.embeddings.position_embedding.weight"], "a text encoder alone"),
        (["emb_params"], "a textual inversion"),
        (["layer.weight", "layer.bias"], r"something else \(2 tensors, first 'layer.bias'\)"),
        ([], r"something else \(0 tensors\)"),
    ],
)
def test_a_foreign_file_is_refused_with_what_it_seems_to_be(tmp_path: Path, names: list[str], seems: str) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({name: torch.zeros(2, 4, 3, 3) for name in names}, path)
    with pytest.raises(ValueError, match=rf"foreign\.safetensors: it seems to be {seems}"):
        load_edit_model(path, device="cpu")


@pytest.mark.parametrize(
    ("without", "lacks"),
    [(("first_stage_model.",), "a VAE"), (("cond_stage_model.",), "a CLIP text encoder")],
)
def test_a_checkpoint_without_its_vae_or_text_encoder_is_refused_with_what_it_lacks(
    tmp_path: Path, without: tuple[str, ...], lacks: str
) -> None:
    path = header_only(tmp_path / "part.safetensors", "sd1", without=without)
    with pytest.raises(ValueError, match=rf"part\.safetensors: it has a UNet and lacks {lacks}"):
        load_edit_model(path, device="cpu")


def test_an_inpainting_checkpoint_is_refused_with_what_it_is(tmp_path: Path) -> None:
    wide = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(8, 9, 3, 3)}
    path = header_only(tmp_path / "inpaint.safetensors", "sd1", extra=wide)
    with pytest.raises(ValueError, match=r"inpaint\.safetensors.*9 channels.*inpainting"):
        load_edit_model(path, device="cpu")


def test_an_unclip_checkpoint_is_refused(tmp_path: Path) -> None:
    label = {"model.diffusion_model.label_emb.0.0.weight": torch.zeros(8, 8)}
    path = header_only(tmp_path / "unclip.safetensors", "sd2", extra=label)
    with pytest.raises(ValueError, match=r"unclip\.safetensors.*unCLIP"):
        load_edit_model(path, device="cpu")


def test_a_checkpoint_with_the_right_names_and_other_shapes_is_refused(tmp_path: Path) -> None:
    path = write_tiny_file(tmp_path / "small.safetensors")
    with pytest.raises(ValueError, match=r"small\.safetensors: its names are Stable Diffusion 1\.x's"):
        load_edit_model(path, device="cpu")


@pytest.mark.parametrize(
    "lost",
    [
        "model.diffusion_model.middle_block.0.in_layers.2.weight",
        "first_stage_model.decoder.conv_out.bias",
        "cond_stage_model.transformer.text_model.final_layer_norm.weight",
    ],
)
def test_a_checkpoint_that_lacks_a_tensor_is_never_filled_in_at_random(
    tmp_path: Path, configs: Path, lost: str
) -> None:
    path = write_tiny_file(tmp_path / "holed.safetensors")
    weights = load_file(path)
    del weights[lost]
    save_file(weights, path)
    with pytest.raises(ValueError, match=r"model file .*holed\.safetensors"):
        load_single_file(path, CPU, torch.float32, config_folder=configs)


def test_a_corrupt_or_truncated_or_empty_file_is_refused_by_name(tmp_path: Path) -> None:
    whole = write_tiny_file(tmp_path / "whole.safetensors").read_bytes()
    for content in (whole[:-100], whole[:50], b"", b"\x80\x02}q\x00." * 100):
        path = tmp_path / "broken.safetensors"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"broken\.safetensors: it is damaged or no safetensors file"):
            load_edit_model(path, device="cpu")


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".pth", ".bin", ".CKPT"])
def test_a_pickled_checkpoint_is_refused_unopened_with_the_reason(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"not even a pickle")
    with pytest.raises(ValueError, match=r"pickle, which can run code.*safetensors"):
        load_edit_model(path, device="cpu")


def test_the_carried_configs_describe_networks_of_the_published_sizes() -> None:
    # Parameter counts of the released models.
    published: dict[str, dict[str, int]] = {
        "sd1": {"unet": 859_520_964, "vae": 83_653_863, "text": 123_060_480},
        "sd2": {"unet": 865_910_724, "vae": 83_653_863, "text": 340_387_840},
    }
    for family, expected in published.items():
        unet, vae, text = true_networks(family)
        counts = {"unet": unet, "vae": vae, "text": text}
        assert {k: sum(w.numel() for w in m.parameters()) for k, m in counts.items()} == expected


def test_opening_a_model_prints_nothing_and_leaves_the_libraries_logging_as_it_was(
    folder: Path, tmp_path: Path, configs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_tiny_file(tmp_path / "m.safetensors", dtype=torch.float16)
    levels = [library.utils.logging.get_verbosity() for library in (diffusers, transformers)]
    capfd.readouterr()
    load_edit_model(folder, device="cpu")
    load_single_file(path, CPU, torch.float32, config_folder=configs)
    assert capfd.readouterr() == ("", "")
    assert [library.utils.logging.get_verbosity() for library in (diffusers, transformers)] == levels
    assert diffusers.utils.logging.is_progress_bar_enabled()
