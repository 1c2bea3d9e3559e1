"""Prompts, inversions of random latents, and a spy on the UNet, for the tests of the edit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.inversion.ddim_inversion import Inversion, NullMethod, ddim_invert
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.tests.locinv_core.editing.setting import SIDE, STEPS, Invert, L, Parse


@pytest.fixture(name="parse")
def _parse(tiny_model: EditModel) -> Parse:
    return lambda text: parse_prompt(text, tiny_model.tokenizer, nouns=[], bindings=[])


@pytest.fixture(name="inverted")
def _inverted(tiny_model: EditModel, parse: Parse) -> Invert:
    """inverted(method, text) of fixed random latents of 16×16 cells."""

    def make(method: NullMethod = "direct", text: str = "a cat and a dog") -> Inversion:
        z0 = torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
        inversion = ddim_invert(tiny_model, z0, parse(text), STEPS)
        if method != "null-text":
            return replace(inversion, null_method=method)
        generator = torch.Generator().manual_seed(6)
        return replace(
            inversion,
            null_method=method,
            null_text=torch.randn(STEPS, L, 32, generator=generator),
            trajectory=torch.randn(STEPS + 1, 4, SIDE, SIDE, generator=generator),
            guidance=7.5,
        )

    return make


class Spy:
    """Records what goes through `EditModel.predict_noise`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.latents: list[Tensor] = []
        self.keys: list[Tensor] = []
        self.values: list[Tensor | None] = []
        original = EditModel.predict_noise

        def predict_noise(model, latents, timestep, context, *, value_context=None, **rest):
            self.latents.append(latents.clone())
            self.keys.append(context.clone())
            self.values.append(value_context)
            return original(model, latents, timestep, context, value_context=value_context, **rest)

        monkeypatch.setattr(EditModel, "predict_noise", predict_noise)


@pytest.fixture(name="spy")
def _spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    return Spy(monkeypatch)
