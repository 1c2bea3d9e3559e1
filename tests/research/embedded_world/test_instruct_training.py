"""The small InstructPix2Pix: its pairs are the scenes' true edits, it starts as the model that it widens, and
the recipe runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from transformers import CLIPTokenizer

from pinpoint.locinv_core.backbones.loading import EMBEDDED_FOLDER
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.methods import instruct_pix2pix
from pinpoint.methods.instruct_pix2pix import InstructPix2PixSettings, load_instruct_model
from pinpoint.research.embedded_world.networks.diffusion import (
    build_text_encoder,
    build_unet,
    export_diffusion,
)
from pinpoint.research.embedded_world.networks.instruct import drop_conditions, widened
from pinpoint.research.embedded_world.networks.vae import build_vae, export_vae
from pinpoint.research.embedded_world.training.recipe import Recipe
from pinpoint.tests.fixtures.smoke_training import train


@pytest.fixture(name="start", scope="module")
def _start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny text-to-image model with the shipped tokenizer."""
    folder = tmp_path_factory.mktemp("start")
    recipe = Recipe().smoke()
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(EMBEDDED_FOLDER / "tokenizer")
    tokenizer.save_pretrained(folder / "tokenizer")
    export_vae(build_vae(recipe.vae), folder / "vae", 0.5)
    text = build_text_encoder(recipe.diffusion, vocabulary=len(tokenizer), length=int(tokenizer.model_max_length))
    export_diffusion(build_unet(recipe.diffusion, (recipe.vae.latents, 16, 16)), text, folder)
    return folder


def test_the_widened_unet_begins_as_the_one_it_widens_whatever_the_image() -> None:
    torch.manual_seed(1)
    unet = build_unet(Recipe().smoke().diffusion, (8, 16, 16)).eval()
    wide = widened(unet).eval()
    assert (wide.config.in_channels, wide.config.out_channels) == (16, 8)
    noisy, image, context = torch.randn(2, 8, 16, 16), torch.randn(2, 8, 16, 16), torch.randn(2, 5, 16)
    with torch.no_grad():
        before = unet(noisy, 500, encoder_hidden_states=context).sample
        after = wide(torch.cat([noisy, image], dim=1), 500, encoder_hidden_states=context).sample
    torch.testing.assert_close(after, before)


def test_a_share_has_no_order_one_no_image_and_one_neither() -> None:
    count = 20_000
    beside, ids = torch.ones(count, 1, 1, 1), torch.ones(count, 3, dtype=torch.long)
    empty = torch.zeros(3, dtype=torch.long)
    image, text = drop_conditions(beside, ids, empty, 0.05, torch.Generator().manual_seed(0))
    no_image, no_text = image.flatten() == 0, text[:, 0] == 0
    shares = [float(kind.float().mean()) for kind in (no_text & ~no_image, no_image & ~no_text, no_text & no_image)]
    assert shares == pytest.approx([0.05] * 3, abs=0.01)
    assert set(image.flatten().tolist()) == {0.0, 1.0}
    assert set(map(tuple, text.tolist())) == {(0, 0, 0), (1, 1, 1)}


def test_a_smoke_run_writes_a_folder_that_diffusers_and_the_method_open(
    start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--stages", "instruct", "--smoke", "--start", str(start)]
    words += ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    train(*words)
    assert "instruct: step 3/3" in capsys.readouterr().out
    folder = tmp_path / "out" / "instruct"
    model = load_instruct_model(folder, device="cpu")
    assert (model.unet.config.in_channels, model.unet.config.out_channels) == (16, 8)
    # Training has reached the channels that began at zero.
    assert bool((model.unet.conv_in.weight[:, 8:] != 0).any())
    latents = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    order = parse_prompt("turn the cat into a fox", model.tokenizer)
    edited = instruct_pix2pix.edit(model, latents, order, InstructPix2PixSettings(steps=2))
    assert edited.shape == latents.shape and bool(edited.isfinite().all())
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        folder, torch_dtype=torch.float32, local_files_only=True
    )
    assert pipeline.unet.config.in_channels == 16

    train(*words, "--steps-instruct", "4")
    assert "instruct: going on from step 3" in capsys.readouterr().out


def test_what_is_no_model_to_start_from_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "start" / "unet").mkdir(parents=True)
    words = ["--stages", "instruct", "--start", str(tmp_path / "start"), "--work", str(tmp_path / "work")]
    with pytest.raises(ValueError, match="has no text_encoder, vae, tokenizer"):
        train(*words)
    assert not (tmp_path / "work").exists()
