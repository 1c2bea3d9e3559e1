"""The training of aMUSEd: its codebook, which codes it masks, and models that diffusers reads."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AmusedImg2ImgPipeline, AmusedScheduler, UVit2DModel, VQModel
from PIL import Image
from scipy.cluster.vq import kmeans2
from transformers import CLIPTextModelWithProjection

from pinpoint.locinv_core.backbones.loading import EMBEDDED_FOLDER
from pinpoint.research.embedded_world.networks.amused import (
    MICRO_CONDITIONS,
    Captions,
    build_transformer,
    draw_masks,
    object_masks,
    text_tower,
    train_transformer,
)
from pinpoint.research.embedded_world.networks.clip import build_clip
from pinpoint.research.embedded_world.networks.exporting import write_half
from pinpoint.research.embedded_world.networks.vq import (
    build_vq,
    decode_codes,
    encode_codes,
    k_means,
    reconstructed,
    train_vq,
    vq_loss,
)
from pinpoint.research.embedded_world.training.fitting import Run
from pinpoint.research.embedded_world.training.recipe import Recipe

SMOKE = Recipe().smoke()


def quiet(line: str) -> None:
    pass


def noise_images(count: int = 3, side: int = 64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def test_the_autoencoders_loss_agrees_with_a_hand_calculation() -> None:
    target, decoded = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    decoded[:, :, 0, 0] = 1.0  # L1 1/4, MSE 1/4, vertical and horizontal differences 1/2 each
    assert vq_loss(decoded, target, 0.5).item() == pytest.approx(0.25 + 0.25 + 0.5 * (0.5 + 0.5))


def test_k_means_comes_as_close_to_clusters_as_scipys() -> None:
    rng = torch.Generator().manual_seed(0)
    middles = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    points = (middles[:, None] + torch.randn(3, 200, 2, generator=rng)).flatten(0, 1)
    # Like scipy's, Lloyd's iterations may stop short of the best; from a few starts one arrives there.
    centres = min(
        (k_means(points, 3, torch.Generator().manual_seed(seed)) for seed in range(5)),
        key=lambda found: torch.cdist(points, found).min(1).values.square().sum().item(),
    )
    theirs, _ = kmeans2(points.double().numpy(), middles.double().numpy(), minit="matrix")
    error = torch.cdist(points, centres).min(1).values.square().sum()
    least = torch.cdist(points, torch.from_numpy(theirs).float()).min(1).values.square().sum()
    assert error.item() == pytest.approx(least.item(), rel=1e-3)


def test_every_mask_has_a_code_and_their_shares_follow_the_cosine() -> None:
    masks = draw_masks(4000, 16, 0.0, torch.Generator().manual_seed(0))
    counts = masks.flatten(1).sum(1)
    assert counts.min() >= 1
    # The mean of cos(u π/2) over u in 0 to 1 is 2/π; rounding up adds half a code of 256.
    assert counts.float().mean().item() / 256 == pytest.approx(2 / math.pi + 0.5 / 256, abs=0.02)


def test_masks_in_boxes_leave_the_rest_of_the_image() -> None:
    masks = draw_masks(2000, 16, 1.0, torch.Generator().manual_seed(0))
    full = [mask for mask in masks if mask.float().mean() > 0.03]
    spans = []
    for mask in full:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        spans.append(float((rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)) / 256)
    assert max(spans) <= 1
    # Sides are even in 3 to 16, so a box covers (9.5 / 16)^2 of the image on average.
    assert sum(spans) / len(spans) == pytest.approx((9.5 / 16) ** 2, abs=0.06)


def test_masks_of_objects_cover_the_codes_that_an_object_touches_and_a_few_around_it() -> None:
    # From pixel 40 to 70 and 16 to 48 of 128: columns 5 to 8 and rows 2 to 5 of 16; up to two more a side.
    boxes = torch.tensor([[40.0, 16.0, 70.0, 48.0]]).expand(2000, 4) / 128
    masks = object_masks(boxes, 16, torch.Generator().manual_seed(0))
    most = torch.zeros(16, 16, dtype=torch.bool)
    most[0:8, 3:11] = True
    assert not bool((masks & ~most).any())
    counts = masks.flatten(1).sum(1)
    assert counts.min().item() >= 1 and counts.max().item() == 64
    # A margin is 0, 1 or 2: a side has 4 + 2 codes in the mean, a window 36. Half are masked whole, of the
    # others 2/π in the mean.
    assert counts.float().mean().item() == pytest.approx(36 * (0.5 + 1 / math.pi), rel=0.03)
    whole = masks[:, 2:6, 5:9].flatten(1).all(1).float().mean()
    # All 16 codes of the object: the half, and of the others the mean of cos(u π/2)^16, by Wallis 15!!/16!!.
    assert whole.item() == pytest.approx(0.5 + 0.5 * 0.196, abs=0.03)


def two_scenes() -> Captions:
    """The first image shows one object, the second two: wordings 1x, what an object is alone 2x, empty 0."""
    return Captions(
        whole=torch.tensor([[[10], [11]], [[15], [16]]]),
        empty=torch.tensor([0]),
        alone=torch.tensor([[[20], [20]], [[25], [26]]]),
        boxes=torch.tensor([[[0.0] * 4, [0.0] * 4], [[0.5] * 4, [0.6] * 4]]),
        objects=torch.tensor([1, 2]),
    )


def test_an_object_alone_has_its_own_caption_and_box() -> None:
    rows = torch.tensor([0, 1]).repeat(200)
    alone = torch.tensor([True, True, False, False]).repeat(100)
    ids, boxes = two_scenes().draw(rows, alone, torch.Generator().manual_seed(0))
    seen = {
        (int(row), bool(one), int(token), round(float(box[0]), 1))
        for row, one, token, box in zip(rows, alone, ids[:, 0], boxes, strict=True)
    }
    of_the_second = {(1, False, token, box) for token in (15, 16) for box in (0.5, 0.6)}
    assert seen == {
        (0, True, 20, 0.0),
        (0, False, 10, 0.0),
        (0, False, 11, 0.0),
        (1, True, 25, 0.5),
        (1, True, 26, 0.6),
        *of_the_second,
    }


def test_codes_and_their_images_are_those_of_diffusers_aMUSEd() -> None:
    torch.manual_seed(0)
    model = build_vq(SMOKE.vq).eval()
    model.quantize.embedding.weight.data.normal_(std=0.3)
    images = noise_images()
    # What the pipeline does to an image before its VQ model sees it, and after.
    pipeline: Any = AmusedImg2ImgPipeline(model, None, None, None, None)
    given = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    seen = pipeline.image_processor.preprocess(given)
    with torch.no_grad():
        _, _, (_, _, theirs) = model.quantize(model.encode(seen).latents)
        whole = pipeline.image_processor.postprocess(model(seen).sample.clip(0, 1), "pt")

    codes = encode_codes(model, images)

    assert codes.shape == (3, 8, 8)
    assert codes.flatten().tolist() == theirs.flatten().tolist()
    torch.testing.assert_close(decode_codes(model, codes), whole, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(reconstructed(model, images), whole, atol=1e-5, rtol=1e-5)


def test_the_autoencoder_learns_to_give_back_images_of_0_to_1(tmp_path: Path) -> None:
    # Free of its codebook, and so easy an image that the smallest model learns it at once.
    recipe = replace(SMOKE.vq, steps=60, free_steps=60, rate=2e-2, rate_of_ends=2e-2, average=0.9)
    bright = torch.full((3, 3, 64, 64), 200, dtype=torch.uint8)
    train_vq(bright, recipe, Run(tmp_path / "vq.safetensors", tmp_path / "vqvae", 0, quiet))
    opened = VQModel.from_pretrained(tmp_path / "vqvae", local_files_only=True).float()
    with torch.no_grad():
        latents = opened.encode(torch.full((1, 3, 64, 64), 200 / 255)).latents
        given_back = opened.decoder(opened.post_quant_conv(latents))
    assert given_back.mean().item() == pytest.approx(200 / 255, abs=0.05)


def test_the_codebook_is_made_from_the_latents_and_none_of_it_is_lost(tmp_path: Path) -> None:
    recipe = replace(SMOKE.vq, steps=6, free_steps=2, renew_steps=2, rate=1e-6, probe=3)
    lines: list[str] = []
    train_vq(noise_images(), recipe, Run(tmp_path / "vq.safetensors", tmp_path / "vqvae", 0, lines.append))
    opened = VQModel.from_pretrained(tmp_path / "vqvae", local_files_only=True).float()
    used = encode_codes(opened, noise_images()).unique()
    assert len(used) == recipe.codes  # a codebook left as it was made would use one or two
    assert "codes in use 16" in lines[-1]


def test_vq_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    recipe = replace(SMOKE.vq, steps=4, save_steps=2)
    train_vq(noise_images(), recipe, Run(tmp_path / "a.safetensors", tmp_path / "a", 3, quiet))

    class Stopped(Exception):
        pass

    class Breaking:
        """The images, for two steps of training: a probe and a batch each but the first."""

        shape = noise_images().shape
        asked = 0

        def __len__(self) -> int:
            return 3

        def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
            self.asked += 1
            if self.asked > 3:
                raise Stopped
            return noise_images()[rows]

    half = Run(tmp_path / "b.safetensors", tmp_path / "b", 3, quiet)
    with pytest.raises(Stopped):
        train_vq(Breaking(), recipe, half)  # type: ignore[arg-type]
    assert half.checkpoint.exists()
    train_vq(noise_images(), recipe, half)
    assert (tmp_path / "a.safetensors").read_bytes() == half.checkpoint.read_bytes()


def test_the_text_encoder_starts_as_the_dual_encoders() -> None:
    torch.manual_seed(0)
    clip = build_clip(SMOKE.clip, vocabulary=634, length=40).eval()
    tower = text_tower(clip).eval()
    ids = torch.tensor([[632, 320, 539, 633, 633]])
    expected = clip.get_text_features(input_ids=ids, return_dict=True).pooler_output
    torch.testing.assert_close(tower(input_ids=ids).text_embeds, expected)
    tower.text_projection.weight.data.zero_()  # and is a copy
    assert clip.text_projection.weight.abs().sum() > 0


def test_every_place_of_an_image_with_all_codes_masked_is_told_apart() -> None:
    # The transformer has no positions: without its convolutions, what is masked is the same everywhere.
    torch.manual_seed(0)
    recipe = Recipe().transformer
    model = build_transformer(recipe, codes=8, grid=16, text_width=4, embedding=4).double().eval()
    with torch.no_grad():
        logits = model(
            torch.full((1, 16, 16), 8),
            encoder_hidden_states=torch.randn(1, 5, 4, dtype=torch.float64),
            pooled_text_emb=torch.randn(1, 4, dtype=torch.float64),
            micro_conds=torch.tensor([MICRO_CONDITIONS], dtype=torch.float64),
        )
    assert logits.shape == (1, 8, 16, 16)
    # A place of the transformer's grid is two by two codes.
    places = logits[0].unfold(1, 2, 2).unfold(2, 2, 2).permute(1, 2, 0, 3, 4).reshape(64, -1)
    apart = (places[:, None] - places[None]).abs().amax(dim=2) + torch.eye(64, dtype=torch.float64)
    assert apart.min() > 1e-9


def test_what_is_certain_is_predicted_with_certainty_as_the_pipelines_ask(tmp_path: Path) -> None:
    # They draw codes from the chances as they are: a chance left to every code is noise in the image.
    torch.manual_seed(0)
    recipe = replace(SMOKE.transformer, steps=100, rate=5e-2, rate_of_ends=2e-2, average=0.9)
    ids = torch.tensor([632, 320, 539, *[633] * 37])
    train_transformer(
        torch.full((3, 8, 8), 5, dtype=torch.int16),
        Captions(
            whole=ids.expand(3, 1, -1),
            empty=torch.tensor([632, *[633] * 39]),
            alone=ids.expand(3, 1, -1),
            boxes=torch.tensor([0.2, 0.2, 0.8, 0.8]).expand(3, 1, -1),
            objects=torch.ones(3, dtype=torch.long),
        ),
        build_clip(SMOKE.clip, vocabulary=634, length=40),
        recipe,
        Run(tmp_path / "transformer.safetensors", tmp_path / "amused", 0, quiet),
        codebook=16,
        tokenizer=EMBEDDED_FOLDER / "tokenizer",
    )
    folder = tmp_path / "amused"
    transformer = UVit2DModel.from_pretrained(folder / "transformer", local_files_only=True).float().eval()
    encoder = CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder").float().eval()
    scheduler = AmusedScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
    with torch.no_grad():
        text = encoder(input_ids=ids[None], output_hidden_states=True)
        logits = transformer(
            torch.full((1, 8, 8), scheduler.config["mask_token_id"]),
            encoder_hidden_states=text.hidden_states[-2],
            pooled_text_emb=text.text_embeds,
            micro_conds=torch.tensor([MICRO_CONDITIONS]),
        )
    chances = logits.softmax(dim=1)
    assert chances[:, 5].min() > 0.97


def test_aMUSEds_models_keep_to_their_size(tmp_path: Path) -> None:
    recipe = Recipe()
    clip = build_clip(recipe.clip, vocabulary=634, length=40)
    vq = build_vq(recipe.vq)
    transformer = build_transformer(
        recipe.transformer,
        codes=recipe.vq.codes,
        grid=16,
        text_width=recipe.clip.text_width,
        embedding=recipe.clip.embedding,
    )
    for name, model in (("vqvae", vq), ("text", text_tower(clip)), ("transformer", transformer)):
        write_half(model, tmp_path / name)
    size = sum(file.stat().st_size for file in tmp_path.rglob("*.safetensors"))
    assert size < 4_800_000  # of 24 MiB for everything, the other models have 20.3 million bytes
