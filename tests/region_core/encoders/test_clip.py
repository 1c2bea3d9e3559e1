"""CLIP's encoders: embeddings against transformers' own way, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor

from pinpoint.assets import EMBEDDED
from pinpoint.region_core.encoders.clip import ClipEncoder, load_clip
from pinpoint.tests.fixtures.tiny_encoders import tiny_clip, tiny_clip_model, write_tiny_clip


@pytest.fixture(scope="module", name="guide")
def _guide() -> ClipEncoder:
    return tiny_clip()


def pictures(count: int, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


# The encoders


def test_images_are_prepared_as_clips_own_processor_does(guide: ClipEncoder) -> None:
    values = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    size = {"height": 32, "width": 32}
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    pixels = processor(Image.fromarray(values), return_tensors="pt")["pixel_values"]
    output = guide.model.visual_projection(guide.model.vision_model(pixel_values=pixels).pooler_output)
    image = torch.from_numpy(values).permute(2, 0, 1)[None] / 255
    found = guide.encode_images(image)
    # The processor rounds to 8 bits after resizing.
    assert float(torch.cosine_similarity(found, output)) > 0.999
    torch.testing.assert_close(found.norm(dim=1), torch.ones(1))


def test_texts_are_encoded_as_transformers_does(guide: ClipEncoder) -> None:
    texts = ["a red fox", "two boats on the sea, at night"]
    tokens = guide.tokenizer(texts, padding=True, return_tensors="pt")
    output = guide.model.text_model(**tokens).pooler_output @ guide.model.text_projection.weight.T
    expected = output / output.norm(dim=1, keepdim=True)
    torch.testing.assert_close(guide.encode_texts(texts), expected, atol=1e-5, rtol=1e-4)


def test_looking_gives_embeddings_and_patches_in_one_pass(guide: ClipEncoder) -> None:
    images = pictures(2)
    embeddings, patches = guide.look(images)
    assert patches.shape == (2, 16, 32)
    torch.testing.assert_close(embeddings, guide.encode_images(images))
    torch.testing.assert_close(patches, guide.patch_features(images))


def test_an_image_of_any_shape_is_seen_whole(guide: ClipEncoder) -> None:
    wide = pictures(1, 40, 90)
    changed = wide.clone()
    changed[..., -8:] = 0
    assert float((guide.encode_images(wide) - guide.encode_images(changed)).norm()) > 1e-3


def test_a_clip_folder_opens_with_what_it_says(tmp_path: Path, guide: ClipEncoder) -> None:
    opened = load_clip(write_tiny_clip(tmp_path / "clip"))
    plain = load_clip(write_tiny_clip(tmp_path / "plain", preprocessor=False))
    assert opened.mean == plain.mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-3)
    for other in (opened, plain):
        torch.testing.assert_close(other.encode_images(pictures(1)), guide.encode_images(pictures(1)))
        torch.testing.assert_close(other.encode_texts(["a cat"]), guide.encode_texts(["a cat"]))


# What is refused


@pytest.mark.parametrize("left", [(), ("vocab.json",), ("merges.txt", "tokenizer_config.json")])
def test_a_clip_folder_without_a_tokenizer_is_refused(left: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    tiny_clip_model().save_pretrained(folder)
    for file in left:
        shutil.copy(EMBEDDED / "clip" / file, folder)
    with pytest.raises(ValueError, match=r"the folder lacks a tokenizer, requires tokenizer\.json, or vocab\.json"):
        load_clip(folder)


def test_a_tokenizer_in_two_files_is_one(tmp_path: Path) -> None:
    assert not (EMBEDDED / "clip" / "tokenizer.json").exists()
    assert load_clip("embedded").token_ids("a cat") == load_clip(EMBEDDED / "clip").token_ids("a cat")


def test_another_clips_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_clip(tmp_path / "clip")  # of OpenAI's 49408 tokens; the embedded CLIP has fewer
    (folder / "tokenizer.json").unlink(missing_ok=True)
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(EMBEDDED / "clip" / file, folder)
    words = len(json.loads((folder / "vocab.json").read_text(encoding="utf-8")))
    with pytest.raises(ValueError, match=f"its tokenizer has {words} tokens and its text model 49408"):
        load_clip(folder)


def test_a_tokenizer_that_is_damaged_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_clip(tmp_path / "clip")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"clip .* cannot be opened"):
        load_clip(folder)


def test_tensors_that_are_no_images_are_refused(guide: ClipEncoder) -> None:
    with pytest.raises(ValueError, match="images: got the shape"):
        guide.encode_images(torch.rand(3, 32, 32))
