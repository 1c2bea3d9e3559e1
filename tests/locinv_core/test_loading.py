"""Opening models: folders, single files, devices and dtypes, offline, and what is refused."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from pinpoint.locinv_core import loading, single_file
from pinpoint.locinv_core.diffusers_folder import load_folder
from pinpoint.locinv_core.loading import load_edit_model
from pinpoint.locinv_core.single_file import inspect_file, load_single_file
from pinpoint.tests.locinv_core.ldm_names import checkpoint
from pinpoint.tests.locinv_core.tiny_models import (
    tiny_text_encoder,
    tiny_unet,
    tiny_vae,
    write_tiny_configs,
    write_tiny_file,
    write_tiny_folder,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any look at the network is an error, whatever the hub libraries were told."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a model was looked for on the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("folder") / "tiny-sd")


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copied"))


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_configs(tmp_path_factory.mktemp("configs"))


@pytest.fixture(scope="module", params=["sd1", "sd2"])
def family_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp("file") / f"my {request.param} model.safetensors"
    return request.param, write_tiny_file(path, family=request.param)


def text_weights(encoder: nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("text_model."): weight for name, weight in encoder.state_dict().items()}


def assert_same_weights(got: nn.Module, wanted: nn.Module) -> None:
    ours, theirs = text_weights(got), text_weights(wanted)
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert torch.equal(weight.float(), theirs[name].float()), name


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# Folders


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


def test_nothing_that_is_opened_wants_a_gradient_or_is_in_training_mode(folder: Path) -> None:
    model = load_edit_model(folder, device="cpu")
    for part in (model.unet, model.vae, model.text_encoder):
        assert not part.training
        assert not any(weight.requires_grad for weight in part.parameters())


def test_weights_opened_inside_inference_mode_still_take_part_in_a_gradient(folder: Path) -> None:
    with torch.inference_mode():
        model = load_edit_model(folder, device="cpu")
    ids = model.tokenizer("a cat", padding="max_length")["input_ids"]
    vectors = model.token_vectors([ids[2]]).requires_grad_()
    model.encode_prompt(ids, vectors, [2]).sum().backward()
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
    single = load_single_file(
        write_tiny_file(tmp_path / "m.safetensors"), CPU, torch.float32, config_folder=configs
    )
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
def test_a_folder_with_pickled_weights_alone_is_refused_with_the_reason(
    copied: Path, part: str, pickled: str
) -> None:
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
        ({"in_channels": 9}, "9 channels.*inpainting.*wants 4"),
        ({"in_channels": 5}, "5 channels.*depth.*wants 4"),
        ({"addition_embed_type": "text_time"}, "SDXL"),
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
    with pytest.raises(ValueError, match="gives 48 channels, and the UNet wants 32"):
        load_edit_model(copied, device="cpu")


def test_a_tokenizer_that_does_not_say_how_much_it_reads_gets_the_text_encoders_length(copied: Path) -> None:
    edit_json(copied / "tokenizer" / "tokenizer_config.json", model_max_length=None)
    assert load_edit_model(copied, device="cpu").context_length == 77


# Single files


def test_a_single_file_gives_the_weights_that_were_written_under_ldm_names(
    family_file: tuple[str, Path], configs: Path
) -> None:
    family, path = family_file
    model = load_single_file(path, CPU, torch.float32, config_folder=configs)
    assert_same_weights(model.unet, tiny_unet())
    assert_same_weights(model.vae, tiny_vae())
    assert_same_weights(model.text_encoder, tiny_text_encoder())
    assert model.name == f"my {family} model"


def test_a_single_file_in_half_precision_opens_in_the_dtype_that_was_asked_for(
    tmp_path: Path, configs: Path
) -> None:
    path = write_tiny_file(tmp_path / "half.safetensors", dtype=torch.float16)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        model = load_single_file(path, CPU, dtype, config_folder=configs)
        for part in (model.unet, model.vae, model.text_encoder):
            assert {weight.dtype for weight in part.parameters()} == {dtype}
    assert_same_weights(
        load_single_file(path, CPU, torch.float32, config_folder=configs).unet, tiny_unet().half()
    )


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
        (
            [
                "conditioner.embedders.0.transformer.text_model.embeddings.position_embedding.weight",
                "model.diffusion_model.input_blocks.0.0.weight",
                "first_stage_model.decoder.conv_in.weight",
            ],
            "an SDXL checkpoint",
        ),
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
def test_a_foreign_file_is_refused_with_what_it_seems_to_be(
    tmp_path: Path, names: list[str], seems: str
) -> None:
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


def true_networks(family: str) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The networks of the pack's configs, on the meta device."""
    folder = single_file.CONFIGS / family
    with torch.device("meta"):
        return (
            UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet")),
            AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae")),
            CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")),
        )


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


# Names, devices, dtypes


@pytest.mark.parametrize(
    "name", ["no-such-model", "stabilityai/stable-diffusion-2-1", "gone.safetensors", ""]
)
def test_an_unknown_name_is_refused_with_the_possibilities(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        load_edit_model(name, device="cpu")
    for word in ("embedded", "folder", ".safetensors", "1.x", "2.x"):
        assert word in str(error.value)


def test_a_file_that_is_no_model_is_refused_with_the_possibilities(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"notes\.txt.*wants 'embedded'"):
        load_edit_model(path, device="cpu")


def test_embedded_opens_the_packs_own_folder_through_the_same_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "EMBEDDED_FOLDER", folder)
    model = load_edit_model("embedded", device="cpu")
    assert model.name == "embedded"
    assert model.fingerprint == load_folder(folder, CPU, torch.float32).fingerprint


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta:x", "99"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_opened(device: str) -> None:
    with pytest.raises(ValueError, match=f"device: got '{device}'"):
        load_edit_model("no-such-model", device=device)


def test_an_unknown_dtype_or_prediction_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(ValueError, match=r"dtype: got 'int8', wants one of auto, float32"):
        load_edit_model("no-such-model", device="cpu", dtype="int8")
    with pytest.raises(ValueError, match=r"prediction: got 'sample', wants"):
        load_edit_model("no-such-model", device="cpu", prediction="sample")  # type: ignore[arg-type]


def test_auto_takes_cuda_in_half_precision_then_mps_then_cpu_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert loading.resolve_device("auto") == CPU
    assert loading.resolve_dtype("auto", CPU) == torch.float32
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert loading.resolve_device("auto").type == "mps"
    assert loading.resolve_dtype("auto", torch.device("mps")) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert loading.resolve_device("auto").type == "cuda"
    assert loading.resolve_dtype("auto", torch.device("cuda")) == torch.float16


# The true architectures

TRUE_SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "sd1": {
        "model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3),
        "model.diffusion_model.time_embed.0.weight": (1280, 320),
        "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        "model.diffusion_model.input_blocks.3.0.op.weight": (320, 320, 3, 3),
        "model.diffusion_model.input_blocks.4.0.skip_connection.weight": (640, 320, 1, 1),
        "model.diffusion_model.input_blocks.8.1.proj_in.weight": (1280, 1280, 1, 1),
        "model.diffusion_model.middle_block.1.transformer_blocks.0.ff.net.0.proj.weight": (10240, 1280),
        "model.diffusion_model.output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.output_blocks.5.2.conv.weight": (1280, 1280, 3, 3),
        "model.diffusion_model.output_blocks.11.0.skip_connection.weight": (320, 640, 1, 1),
        "model.diffusion_model.out.2.weight": (4, 320, 3, 3),
        "first_stage_model.encoder.down.3.block.0.norm1.weight": (512,),
        "first_stage_model.encoder.conv_out.weight": (8, 512, 3, 3),
        "first_stage_model.decoder.up.0.block.0.nin_shortcut.weight": (128, 256, 1, 1),
        "first_stage_model.decoder.mid.attn_1.q.weight": (512, 512, 1, 1),
        "first_stage_model.quant_conv.weight": (8, 8, 1, 1),
        "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": (49408, 768),
        "cond_stage_model.transformer.text_model.encoder.layers.11.mlp.fc1.weight": (3072, 768),
    },
    "sd2": {
        "model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024),
        "model.diffusion_model.input_blocks.1.1.proj_in.weight": (320, 320),
        "cond_stage_model.model.token_embedding.weight": (49408, 1024),
        "cond_stage_model.model.transformer.resblocks.23.attn.in_proj_weight": (3072, 1024),
        "cond_stage_model.model.transformer.resblocks.0.mlp.c_fc.weight": (4096, 1024),
    },
}
# Tensors of the released files: UNet, VAE, and SD 1.x's text encoder with its position_ids.
TRUE_COUNTS = {"model.diffusion_model.": 686, "first_stage_model.": 248, "cond_stage_model.": 197}


@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_the_names_of_the_test_checkpoints_are_those_of_the_released_ones(family: str) -> None:
    weights = checkpoint(*true_networks(family), family)
    for name, shape in TRUE_SHAPES[family].items():
        assert tuple(weights[name].shape) == shape, name
    if family == "sd1":
        for prefix, count in TRUE_COUNTS.items():
            assert sum(name.startswith(prefix) for name in weights) == count


@pytest.fixture
def true_checkpoint(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    """About two gigabytes: random half-precision weights of the true architecture under the true names."""
    family: str = request.param
    generator = torch.Generator().manual_seed(5)
    weights: dict[str, Tensor] = {}
    for name, weight in checkpoint(*true_networks(family), family).items():
        if weight.is_meta:
            values = torch.empty(weight.shape, dtype=torch.float16).uniform_(-1, 1, generator=generator)
            gain = 1.0 if weight.ndim < 2 else weight[0].numel() ** -0.5
            weights[name] = values.mul_(gain)
        else:
            weights[name] = weight
    path = tmp_path / f"true-{family}.safetensors"
    save_file(weights, path)
    del weights
    yield family, path
    path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("true_checkpoint", ["sd1", "sd2"], indirect=True)
def test_a_checkpoint_of_the_true_architecture_opens_and_runs_offline(
    true_checkpoint: tuple[str, Path],
) -> None:
    family, path = true_checkpoint
    model = load_edit_model(path, device="cpu", dtype="float16")
    assert model.native_size == (512 if family == "sd1" else 768)
    assert model.schedule.prediction_type == ("epsilon" if family == "sd1" else "v_prediction")
    opened = checkpoint(model.unet, model.vae, model.text_encoder, family)
    for name, weight in load_file(path).items():
        # What Stable Diffusion does not use is not kept: OpenCLIP's last layer and its scale.
        if not re.search(r"\.resblocks\.23\.|logit_scale", name):
            assert torch.equal(weight, opened[name]), name
    ids = model.tokenizer("a cat", padding="max_length")["input_ids"]
    context = model.encode_prompt(ids)
    assert context.shape == (1, 77, 768 if family == "sd1" else 1024)
    latents = model.encode(torch.rand(1, 3, 64, 64))
    noise = model.predict_noise(latents, 981, context)
    assert noise.shape == latents.shape == (1, 4, 8, 8)
    assert torch.isfinite(noise).all()
    assert torch.isfinite(model.decode(latents)).all()
    assert len(model.read_sites) == 5
