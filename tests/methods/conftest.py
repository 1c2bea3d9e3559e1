"""Fixtures of the compared methods' tests: inverted latents, prompts, and Stable Diffusion's layout."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from diffusers import UNet2DConditionModel

from pinpoint.locinv_core.backbones.attention import list_attention_layers, map_layers
from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.inversion.ddim_inversion import Inversion, ddim_invert
from pinpoint.locinv_core.text.prompt import Prompt, parse_prompt

STEPS = 4
SIDE = 16


@pytest.fixture(name="model", params=["epsilon", "v_prediction"])
def _model(request: pytest.FixtureRequest, tiny_model: EditModel, tiny_v_model: EditModel) -> EditModel:
    return tiny_model if request.param == "epsilon" else tiny_v_model


@pytest.fixture(name="parse")
def _parse(tiny_model: EditModel) -> Callable[[str], Prompt]:
    return lambda text: parse_prompt(text, tiny_model.tokenizer)


@pytest.fixture(name="invert")
def _invert(parse: Callable[[str], Prompt]) -> Callable[[EditModel], Inversion]:
    """invert(model): "a cat and a dog", random latents of 16×16 cells, four steps."""

    def make(model: EditModel) -> Inversion:
        z0 = torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
        return ddim_invert(model, z0, parse("a cat and a dog"), STEPS)

    return make


@pytest.fixture(scope="session", name="stable_diffusion")
def _stable_diffusion() -> SimpleNamespace:
    """The layout of Stable Diffusion 1's UNet, without weights."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    layers = list_attention_layers(unet)
    return SimpleNamespace(unet=unet, layers=layers, map_layers=map_layers(layers, 64))
