"""Modules built from weights in the names that ComfyUI uses are the modules that the weights came from."""

from __future__ import annotations

import pytest
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextConfig, CLIPTextModel

from pinpoint.nodes.bridge.comfy_weights import text_encoder_of, vae_of
from pinpoint.tests.fixtures.ldm_names import ldm_vae


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=[32, 64, 64],
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        layers_per_block=2,
        latent_channels=4,
    ).eval()


@torch.no_grad()
def test_a_vae_encodes_and_decodes_as_the_one_that_its_weights_came_from(vae):
    built = vae_of(ldm_vae(vae), 0.25, torch.float32)
    assert built.config.scaling_factor == 0.25
    image = torch.rand(1, 3, 32, 48)
    latents = vae.encode(image).latent_dist.mode()
    assert torch.equal(built.encode(image).latent_dist.mode(), latents)
    assert torch.equal(built.decode(latents).sample, vae.decode(latents).sample)


def test_the_weights_are_copies(vae):
    state = ldm_vae(vae)
    built = vae_of(state, 1.0, torch.float32)
    built.encoder.conv_in.weight.data.zero_()
    assert bool((state["encoder.conv_in.weight"] != 0).any())


def test_another_vae_is_refused_and_says_which_is_wanted(vae):
    with pytest.raises(ValueError, match=r"vae: .*requires the VAE of such a checkpoint"):
        vae_of({"decoder.conv1.weight": torch.zeros(1)}, 1.0, torch.float32)
    state = ldm_vae(vae)
    del state["decoder.conv_out.bias"]
    with pytest.raises(ValueError, match=r"decoder\.conv_out\.bias requires"):
        vae_of(state, 1.0, torch.float32)


@torch.no_grad()
@pytest.mark.parametrize("skipped", [0, 1])
def test_a_text_encoder_gives_the_normed_output_of_the_layer_that_clip_skip_names(skipped):
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=99,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=8,
        eos_token_id=2,
    )
    whole = CLIPTextModel(config).eval()
    state = {"text_model." + name.removeprefix("text_model."): weight for name, weight in whole.state_dict().items()}
    state["text_projection.weight"] = torch.eye(32)
    built = text_encoder_of(state, 4, "quick_gelu", 3 - skipped, 49407, torch.float32)
    ids = torch.tensor([[1, 5, 9, 2, 2, 2, 2, 2]])
    layers = whole(ids, output_hidden_states=True).hidden_states
    inner = getattr(whole, "text_model", whole)
    wanted = inner.final_layer_norm(layers[3 - skipped])
    assert torch.allclose(built(ids)[0], wanted, atol=1e-6)
