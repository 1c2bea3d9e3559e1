"""SDXL's shape: the embedded model in it edits as itself, and a random model agrees with diffusers' pipeline."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor

from pinpoint.locinv_core.backbones import single_file
from pinpoint.locinv_core.backbones.attention import AttentionControl, MapReader, list_attention_layers, map_layers
from pinpoint.locinv_core.backbones.loading import load_edit_model
from pinpoint.locinv_core.backbones.sdxl import SDXLModel
from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.editing.prompt_to_prompt import plan_edit, prompt_to_prompt
from pinpoint.locinv_core.editing.settings import EditSettings
from pinpoint.locinv_core.inversion.ddim_inversion import ddim_invert
from pinpoint.locinv_core.inversion.null_text import reconstruct_by
from pinpoint.locinv_core.localization.priors import from_boxes
from pinpoint.locinv_core.options import NullMethod
from pinpoint.locinv_core.pipeline import EditRequest, localized_edit
from pinpoint.locinv_core.text.prompt import empty_prompt, parse_prompt
from pinpoint.methods.registry import edit_by_method, method_names, recipe_named
from pinpoint.methods.types import EditTask, MethodModels
from pinpoint.tests.fixtures.tiny_models import WIDTH
from pinpoint.tests.fixtures.tiny_sdxl import POOLED, WIDTH_2, as_sdxl, tiny_sdxl
from pinpoint.tests.fixtures.trials import held_out_trial

TEXT = "a red cat on a mat"


@pytest.fixture(name="model", scope="module")
def _model() -> SDXLModel:
    return tiny_sdxl()


def encode(
    model: EditModel, text: str = TEXT, vectors: Tensor | None = None, positions: tuple[int, ...] = ()
) -> Tensor:
    prompt = parse_prompt(text, model.tokenizer) if text else empty_prompt(model.tokenizer)
    return model.encode_prompt(prompt, vectors, positions)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pipeline_of(model: SDXLModel) -> StableDiffusionXLPipeline:
    from pinpoint.locinv_core.backbones.clip_tokenizer import clip_tokenizer
    from pinpoint.tests.fixtures.tiny_models import tiny_scheduler

    return StableDiffusionXLPipeline(
        vae=model.vae,
        text_encoder=model.text_encoder,
        text_encoder_2=model.text_encoder_2,
        tokenizer=model.tokenizer,
        tokenizer_2=clip_tokenizer(pad_token="!"),
        unet=model.unet,
        scheduler=tiny_scheduler(),
        add_watermarker=False,
    )


# The embedded model in SDXL's shape


@pytest.mark.parametrize("method", ["locinv", "nti"])
def test_the_embedded_model_in_sdxls_shape_edits_as_itself(method: str) -> None:
    """The second encoder and the added conditions contribute nothing, so nothing may differ."""
    own = load_edit_model("embedded", device="cpu")
    trial = held_out_trial(7000, objects=2, kind="swap")
    request = EditRequest(trial.image, trial.source, trial.target, trial.prior(), recipe=recipe_named(method), steps=4)
    costs, edits = [], []
    for model in (own, as_sdxl(own)):
        tracker = CostTracker()
        edits.append(localized_edit(model, request, tracker=tracker))
        costs.append(tracker.total)
    plain, wrapped = edits
    assert isinstance(wrapped.edit.latents, Tensor)
    torch.testing.assert_close(wrapped.edited, plain.edited, atol=1e-4, rtol=0)
    torch.testing.assert_close(wrapped.edit.latents, plain.edit.latents, atol=1e-3, rtol=1e-3)
    for word, grid in plain.edit.source_maps.items():
        torch.testing.assert_close(wrapped.edit.source_maps[word], grid, atol=1e-5, rtol=1e-3)
    if plain.inversion.token_vectors is not None:
        assert wrapped.inversion.token_vectors is not None
        width = plain.inversion.token_vectors.shape[-1]
        tuned = wrapped.inversion.token_vectors[..., :width]
        torch.testing.assert_close(tuned, plain.inversion.token_vectors, atol=1e-3, rtol=1e-2)
    assert costs[1] == pytest.approx(costs[0], rel=0.05)


# Against diffusers


@pytest.mark.parametrize("text", [TEXT, "", "a cat " * 37 + "a"])
def test_a_context_is_what_diffusers_encodes_with_the_pooled_embedding_in_a_last_row(
    model: SDXLModel, text: str
) -> None:
    prompt, _, pooled, _ = pipeline_of(model).encode_prompt(text, do_classifier_free_guidance=False)
    context = encode(model, text)
    assert context.shape == (1, 78, WIDTH + WIDTH_2)
    torch.testing.assert_close(context[:, :77], prompt)
    torch.testing.assert_close(context[:, 77, :POOLED], pooled)
    assert not context[:, 77, POOLED:].any()


@pytest.mark.parametrize("control", [None, AttentionControl()])
def test_a_prediction_is_the_unets_with_the_conditions_that_diffusers_gives(
    model: SDXLModel, control: AttentionControl | None
) -> None:
    pipeline = pipeline_of(model)
    prompt, _, pooled, _ = pipeline.encode_prompt(TEXT, do_classifier_free_guidance=False)
    height, width = 16 * 4, 24 * 4
    times = pipeline._get_add_time_ids(
        (height, width), (0, 0), (height, width), prompt.dtype, text_encoder_projection_dim=POOLED
    )
    latents = noise(1, 4, 16, 24)
    with torch.no_grad():
        expected = model.unet(
            latents,
            481,
            encoder_hidden_states=prompt,
            added_cond_kwargs={"text_embeds": pooled, "time_ids": times},
        ).sample
    predicted = model.predict_noise(latents, 481, encode(model), control=control)
    torch.testing.assert_close(predicted, expected, atol=1e-5, rtol=1e-5)


def test_every_row_of_a_batch_has_its_own_pooled_embedding_and_values_may_have_another_context(
    model: SDXLModel,
) -> None:
    latents, contexts = noise(2, 4, 16, 16), torch.cat([encode(model), encode(model, "two dogs")])
    together = model.predict_noise(latents, 481, contexts)
    for row in range(2):
        alone = model.predict_noise(latents[row : row + 1], 481, contexts[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=1e-4)
    same = model.predict_noise(latents, 481, contexts, value_context=contexts)
    torch.testing.assert_close(same, together, atol=1e-5, rtol=1e-4)


def test_the_prompts_pooled_embedding_and_the_images_size_matter(model: SDXLModel) -> None:
    context = encode(model)
    other = torch.cat([context[:, :77], encode(model, "two dogs")[:, 77:]], dim=1)
    latents = noise(1, 4, 16, 16)
    assert not torch.allclose(model.predict_noise(latents, 481, context), model.predict_noise(latents, 481, other))


# Attention


def test_maps_and_keys_have_a_column_for_every_token_and_none_for_the_pooled_embedding(model: SDXLModel) -> None:
    context, reader = encode(model), MapReader(model.map_layers)
    model.capture(noise(1, 4, 16, 16), 481, context, reader)
    assert reader.mean().shape == (1, 8 * 8, 77)
    layer = model.map_layers[0].name
    keys = model.word_keys(layer, context)
    assert keys.shape[2] == 77
    torch.testing.assert_close(model.word_keys(layer, context[:, [2, 3]]), keys[:, :, [2, 3]])


def test_sdxls_maps_are_read_on_the_32x32_grid_in_every_transformer_block() -> None:
    with torch.device("meta"):
        config = UNet2DConditionModel.load_config(single_file.CONFIGS / "sdxl" / "unet")
        layers = list_attention_layers(UNet2DConditionModel.from_config(config))
    # Of the published network: 2·2 + 2·10 layers on the way down, 10 in the middle, 3·10 + 3·2 on the way up.
    assert sum(layer.kind == "cross" for layer in layers) == 70
    chosen = map_layers(layers, 128)
    assert {layer.grid(128, 128) for layer in chosen} == {(32, 32)}
    assert [sum(layer.place == place for layer in chosen) for place in ("down", "mid", "up")] == [20, 0, 30]


def test_a_pass_that_stops_early_is_counted_with_the_added_conditions(model: SDXLModel) -> None:
    assert 0.2 < model.share(model.map_layers[-1], 16, 16) < 1


# Token embeddings of both encoders


def test_tuned_vectors_of_both_encoders_have_one_scale(model: SDXLModel) -> None:
    every = model.token_vectors(range(49408))
    assert every.shape == (49408, WIDTH + WIDTH_2)
    for part in every.split((WIDTH, WIDTH_2), dim=-1):
        assert float(part.square().mean().sqrt()) == pytest.approx(model.embedding_scale, rel=1e-4)


def test_another_tokens_vectors_are_like_writing_that_token_to_both_encoders(model: SDXLModel) -> None:
    ids, others = (parse_prompt(text, model.tokenizer).token_ids for text in (TEXT, "a red dog on a mat"))
    (position,) = [i for i, (a, b) in enumerate(zip(ids, others, strict=True)) if a != b]
    context = encode(model, TEXT, model.token_vectors([others[position]]), (position,))
    torch.testing.assert_close(context, encode(model, "a red dog on a mat"), atol=1e-5, rtol=1e-4)


def test_the_gradient_of_a_context_in_the_vectors_of_both_encoders_is_its_finite_difference() -> None:
    model = tiny_sdxl()
    model.text_encoder.double()
    model.text_encoder_2.double()
    weight = noise(1, 78, WIDTH + WIDTH_2, seed=4).double()
    ids = parse_prompt(TEXT, model.tokenizer).token_ids
    vectors = model.token_vectors([ids[2], ids[3]]).double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: (encode(model, TEXT, v, (2, 3)) * weight).sum(), vectors, eps=1e-6, atol=1e-6
    )


def test_the_second_encoder_is_part_of_the_fingerprint() -> None:
    model, other = tiny_sdxl(), tiny_sdxl()
    assert model.fingerprint == other.fingerprint
    changed = tiny_sdxl()
    changed.text_encoder_2.text_projection.weight.data *= 2  # type: ignore[union-attr, operator]
    assert changed.fingerprint != model.fingerprint


# v-prediction with zero terminal SNR, and every method


ZERO_SNR: dict[str, Any] = {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}


@pytest.mark.parametrize("null", ["none", "direct"])
def test_with_v_prediction_and_zero_terminal_snr_an_inversion_reconstructs(null: NullMethod) -> None:
    model = tiny_sdxl(**ZERO_SNR)
    latents, prompt = 0.5 * noise(1, 4, 16, 16, seed=3), parse_prompt(TEXT, model.tokenizer)
    inversion = reconstruct_by(null, model, ddim_invert(model, latents, prompt, 30), 1.0)
    assert inversion.timesteps[0] == 996
    settings = EditSettings(guidance=1.0, local_blend="off")
    plan = plan_edit(model, inversion, [parse_prompt("a red dog on a mat", model.tokenizer)], settings)
    made = prompt_to_prompt(model, inversion, plan)
    assert torch.isfinite(made.latents).all()
    error = float((made.source_latents - latents).norm() / latents.norm())
    assert error < (1e-6 if null == "direct" else 0.1)


# Without those that require another model: one that reads a mask or an image, or a ViT and a CLIP.
OTHERS = {"inpaint", "instruct-pix2pix", "learnable-regions"}
METHODS: dict[str, dict[str, Any]] = {
    **{name: {"steps": 2} for name in method_names() if name not in OTHERS},
    "ledits++": {"steps": 4},
    "imagic": {"steps": 2, "embedding_steps": 2, "tuning_steps": 2},
}


@pytest.mark.parametrize("schedule", [{}, ZERO_SNR], ids=["epsilon", "zero SNR"])
@pytest.mark.parametrize("name", METHODS)
def test_a_method_edits_with_sdxl(name: str, schedule: dict[str, Any]) -> None:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    prior = from_boxes({"cat": [(8, 8, 40, 48)]}, (64, 64))
    task = EditTask(image, "a red cat", "a red fox", prior)
    made = edit_by_method(name, MethodModels(tiny_sdxl(**schedule)), task, settings=METHODS[name])
    assert made.edited.shape == image.shape
    assert torch.isfinite(made.edited).all()
