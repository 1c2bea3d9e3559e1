"""The edit model: encoding and decoding, noise predictions, and tokens injected without a trace."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from pinpoint.locinv_core.backbones.attention import AttentionControl
from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.text.prompt import Prompt
from pinpoint.tests.fixtures.tiny_models import tiny_model as make_tiny_model
from pinpoint.tests.fixtures.tiny_models import tiny_scheduler, tiny_text_encoder, tiny_vae


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tokens(model: EditModel, text: str = "a red cat on a mat") -> list[int]:
    ids: list[int] = model.tokenizer(text, padding="max_length")["input_ids"]
    return ids


def of_ids(ids: list[int]) -> Prompt:
    return Prompt("", tuple(ids), (), (), (), len(ids))


# Images and latents


@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 96), (8, 8)])
def test_images_become_latents_and_latents_images(tiny_model: EditModel, height: int, width: int) -> None:
    latents = tiny_model.encode(torch.rand(2, 3, height, width))
    assert latents.shape == (2, 4, height // 4, width // 4)
    assert latents.dtype == torch.float32
    images = tiny_model.decode(latents)
    assert images.shape == (2, 3, height, width)
    assert images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1


def test_latents_are_the_scaled_mean_of_what_the_vae_says_of_pixels_from_minus_one_to_one(
    tiny_model: EditModel,
) -> None:
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    vae = tiny_vae()
    with torch.no_grad():
        # The moments' first half of the channels is the mean, the second the log-variance.
        expected = vae.quant_conv(vae.encoder(image * 2 - 1))[:, :4] * 0.18215
    assert torch.allclose(tiny_model.encode(image), expected, atol=1e-6)


def test_decoding_undoes_the_scale_and_brings_pixels_back_to_zero_and_one(tiny_model: EditModel) -> None:
    latents = noise(1, 4, 16, 16)
    vae = tiny_vae()
    with torch.no_grad():
        pixels = vae.decoder(vae.post_quant_conv(latents / 0.18215))
    expected = ((pixels + 1) / 2).clamp(0, 1)
    assert torch.allclose(tiny_model.decode(latents), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 128, 128), (1, 4, 128, 128), (128,), (1, 1, 3, 128, 128)])
def test_a_tensor_that_is_no_batch_of_rgb_images_is_refused(tiny_model: EditModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"image: got the shape .*requires \(B, 3, H, W\)"):
        tiny_model.encode(torch.zeros(shape))


def test_an_image_whose_sides_do_not_divide_is_refused_with_what_they_must_divide_by(
    tiny_model: EditModel,
) -> None:
    with pytest.raises(ValueError, match="got 100x128 pixels, requires both sides a multiple of 8"):
        tiny_model.encode(torch.zeros(1, 3, 128, 100))


@pytest.mark.parametrize("shape", [(4, 32, 32), (1, 3, 32, 32), (1, 77, 32)])
def test_a_tensor_that_is_no_batch_of_latents_is_refused(tiny_model: EditModel, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"latents: got the shape .*requires \(B, 4, h, w\)"):
        tiny_model.decode(torch.zeros(shape))


def test_sizes_follow_from_the_networks_levels(tiny_model: EditModel) -> None:
    # Three VAE levels halve twice; two UNet levels once more.
    assert tiny_model.latent_factor == 4
    assert tiny_model.size_multiple == 8
    assert tiny_model.native_size == 128


# Noise


@pytest.mark.parametrize("timestep", [1, 481, 981])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_a_ddim_step_along_the_predicted_noise_is_diffusers_own(
    request: pytest.FixtureRequest, prediction_type: str, timestep: int
) -> None:
    model: EditModel = request.getfixturevalue("tiny_model" if prediction_type == "epsilon" else "tiny_v_model")
    latents, context = noise(1, 4, 32, 32), noise(1, 77, 32, seed=1)
    scheduler: DDIMScheduler = tiny_scheduler(prediction_type=prediction_type)
    scheduler.set_timesteps(50)
    with torch.no_grad():
        raw = model.unet(latents, timestep, encoder_hidden_states=context).sample
    theirs = scheduler.step(raw, timestep, latents, eta=0.0)
    predicted = model.predict_noise(latents, timestep, context)
    previous = timestep - 20
    assert torch.allclose(
        model.schedule.ddim_step(latents, predicted, timestep, previous), theirs.prev_sample, atol=1e-5
    )
    clean = model.schedule.predict_clean(latents, predicted, timestep)
    assert torch.allclose(clean, theirs.pred_original_sample, atol=1e-4, rtol=1e-4)
    if prediction_type == "v_prediction":
        assert not torch.allclose(predicted, raw, atol=1e-2)


def test_one_prompt_serves_a_batch_of_latents(tiny_model: EditModel) -> None:
    latents, context = noise(3, 4, 32, 32), noise(1, 77, 32, seed=1)
    together = tiny_model.predict_noise(latents, 481, context)
    for index in range(3):
        alone = tiny_model.predict_noise(latents[index : index + 1], 481, context)
        assert torch.allclose(together[index : index + 1], alone, atol=1e-5)


def test_a_controlled_prediction_equals_a_plain_one(tiny_model: EditModel) -> None:
    latents, context = noise(2, 4, 32, 32), noise(2, 77, 32, seed=1)
    plain = tiny_model.predict_noise(latents, 481, context)
    controlled = tiny_model.predict_noise(latents, 481, context, control=AttentionControl())
    assert torch.allclose(plain, controlled, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_runs_on_the_cpu_and_hands_back_full_precision(
    tiny_model: EditModel, dtype: torch.dtype
) -> None:
    half = make_tiny_model()
    for part in (half.unet, half.vae, half.text_encoder):
        part.to(dtype)
    assert half.dtype == dtype
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    latents = half.encode(image)
    context = half.encode_prompt(of_ids(tokens(half)))
    predicted = half.predict_noise(latents, 481, context)
    controlled = half.predict_noise(latents, 481, context, control=AttentionControl())
    for result in (latents, predicted, controlled, half.decode(latents)):
        assert result.dtype == torch.float32
        assert torch.isfinite(result).all()
    tolerance = 0.01 if dtype == torch.float16 else 0.05
    full_latents = tiny_model.encode(image)
    full = tiny_model.predict_noise(full_latents, 481, tiny_model.encode_prompt(of_ids(tokens(tiny_model))))
    assert (latents - full_latents).abs().max() < tolerance
    assert (predicted - full).abs().max() < tolerance * full.abs().max() * 2
    assert (controlled - predicted).abs().max() < tolerance * full.abs().max() * 2


# Prompts and injected tokens


def test_a_context_is_the_text_encoders_last_hidden_state(tiny_model: EditModel) -> None:
    ids = tokens(tiny_model)
    with torch.no_grad():
        expected = tiny_text_encoder()(torch.tensor([ids])).last_hidden_state
    context = tiny_model.encode_prompt(of_ids(ids))
    assert context.shape == (1, 77, 32)
    assert torch.equal(context, expected)


def test_token_vectors_are_rows_of_the_embedding_table_and_not_views_of_it(tiny_model: EditModel) -> None:
    table = tiny_text_encoder().get_input_embeddings().weight
    vectors = tiny_model.token_vectors([320, 2368])
    assert torch.equal(vectors, table[[320, 2368]])
    vectors.zero_()
    assert torch.equal(tiny_model.token_vectors([320, 2368]), table[[320, 2368]])


def test_injecting_the_tables_own_rows_gives_the_same_context(tiny_model: EditModel) -> None:
    ids = tokens(tiny_model)
    plain = tiny_model.encode_prompt(of_ids(ids))
    vectors = tiny_model.token_vectors([ids[2], ids[3]])
    assert torch.equal(tiny_model.encode_prompt(of_ids(ids), vectors, [2, 3]), plain)


def test_injecting_another_tokens_row_is_like_writing_that_token(tiny_model: EditModel) -> None:
    ids = tokens(tiny_model, "a red cat on a mat")
    other = tokens(tiny_model, "a red dog on a mat")
    (position,) = [i for i, (a, b) in enumerate(zip(ids, other, strict=True)) if a != b]
    injected = tiny_model.encode_prompt(of_ids(ids), tiny_model.token_vectors([other[position]]), [position])
    assert torch.equal(injected, tiny_model.encode_prompt(of_ids(other)))


def test_the_same_token_elsewhere_in_the_prompt_keeps_its_own_vector(tiny_model: EditModel) -> None:
    """Vectors belong to positions: of two cats one may be tuned."""
    two_cats = tokens(tiny_model, "a cat and a cat")
    cat_and_dog = tokens(tiny_model, "a cat and a dog")
    dog = tiny_model.token_vectors([cat_and_dog[5]])
    assert torch.equal(
        tiny_model.encode_prompt(of_ids(two_cats), dog, [5]), tiny_model.encode_prompt(of_ids(cat_and_dog))
    )


def test_injection_leaves_no_trace_also_when_the_encoder_fails(
    tiny_model: EditModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = tokens(tiny_model)
    encoder = tiny_model.text_encoder
    before = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    plain = tiny_model.encode_prompt(of_ids(ids))
    tiny_model.encode_prompt(of_ids(ids), torch.full((1, 32), 9.0), [2])
    with pytest.raises(RuntimeError):
        tiny_model.encode_prompt(of_ids(ids), torch.zeros(1, 31), [2])
    assert torch.equal(tiny_model.encode_prompt(of_ids(ids)), plain)
    for name, weight in encoder.state_dict().items():
        assert torch.equal(weight, before[name]), name


def test_the_gradient_of_a_context_in_the_injected_vectors_is_its_finite_difference() -> None:
    model = make_tiny_model()
    model = replace(model, text_encoder=model.text_encoder.double())
    ids = tokens(model)
    weight = noise(1, 77, 32, seed=4).double()
    table = model.text_encoder.get_input_embeddings().weight  # type: ignore[operator]
    vectors = table.detach()[[ids[2], ids[3]]].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda v: (model.encode_prompt(of_ids(ids), v, [2, 3]) * weight).sum(), vectors, eps=1e-6, atol=1e-6
    )


def test_the_gradient_of_the_predicted_noise_reaches_the_injected_vectors() -> None:
    model = make_tiny_model()
    ids, latents, weight = tokens(model), noise(1, 4, 32, 32), noise(1, 4, 32, 32, seed=2)

    def loss(vectors: Tensor) -> Tensor:
        context = model.encode_prompt(of_ids(ids), vectors, [2, 3])
        return (model.predict_noise(latents, 481, context) * weight).sum()

    start = model.token_vectors([ids[2], ids[3]])
    vectors = start.clone().requires_grad_()
    loss(vectors).backward()
    assert vectors.grad is not None
    direction = vectors.grad / vectors.grad.norm()
    step = 0.02
    with torch.no_grad():
        difference = (loss(start + step * direction) - loss(start - step * direction)) / (2 * step)
    assert float(difference) == pytest.approx(float(vectors.grad.norm()), rel=0.02)
    assert all(weight.grad is None for weight in model.unet.parameters())


def test_a_prompt_of_another_length_is_refused(tiny_model: EditModel) -> None:
    with pytest.raises(ValueError, match="token_ids: got 3, requires 77"):
        tiny_model.encode_prompt(of_ids([49406, 320, 49407]))


def test_vectors_without_a_position_each_are_refused(tiny_model: EditModel) -> None:
    with pytest.raises(ValueError, match="positions: got 1, requires one for each of 2 vectors"):
        tiny_model.encode_prompt(of_ids(tokens(tiny_model)), torch.zeros(2, 32), [3])


def test_a_model_freezes_its_networks_and_puts_them_in_evaluation_mode() -> None:
    vae, encoder = tiny_vae(), tiny_text_encoder()
    vae.train()
    encoder.train()
    model = replace(make_tiny_model(), vae=vae, text_encoder=encoder)
    for part in (model.unet, model.vae, model.text_encoder):
        assert not part.training
        assert not any(weight.requires_grad for weight in part.parameters())
