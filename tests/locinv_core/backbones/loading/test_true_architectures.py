"""Checkpoints of the true architectures of Stable Diffusion 1.x and 2.x."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pinpoint.locinv_core.backbones.loading import load_edit_model
from pinpoint.tests.fixtures.ldm_names import checkpoint
from pinpoint.tests.locinv_core.backbones.loading.true_sizes import true_networks

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
    assert len(model.map_layers) == 5
