"""Measuring the embedded models on scenes that none of them was trained on.

Images that a model has drawn or edited are judged by a network trained apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AmusedPipeline, VQModel
from torch import Tensor

from ...locinv_core.backbones.diffusers_folder import quiet_loading
from ...locinv_core.backbones.stable_diffusion import EditModel
from ...locinv_core.ddim import step_pairs
from ...locinv_core.imaging.metrics import best_iou, psnr
from ...locinv_core.inversion.ddim_inversion import ddim_invert
from ...locinv_core.localization.attention_maps import average_maps, maps_of_words
from ...locinv_core.text.prompt import empty_prompt, parse_prompt
from ...region_core.anchors import dino_anchors, random_anchors
from ...region_core.editors.amused import EDITOR
from ...region_core.encoders.clip import ClipEncoder
from ...region_core.encoders.vit import VisionFeatures
from ...region_core.proposals import box_masks
from ...region_core.scorer import quality_score
from .judge import Judge, look_of
from .networks.vq import encode_codes, reconstructed
from .scenes.edits import sample_edit
from .scenes.render import render
from .scenes.spec import SceneSpec, caption, sample_scene, with_article
from .scenes.views import look
from .scenes.wording import object_window, poor_window
from .training.fitting import Report

_POOR_CROPS = 8


def scene_images(specs: Sequence[SceneSpec]) -> Tensor:
    """The true images, (N, 3, H, W) in [0, 1]."""
    return torch.stack([torch.from_numpy(render(spec)[0]) for spec in specs]).permute(0, 3, 1, 2).float() / 255


def reconstructions(model: EditModel, images: Tensor, *, batch: int = 16) -> tuple[Tensor, list[float]]:
    """Images (N, 3, H, W) through the autoencoder, at 8 bits a channel, and the PSNR of each in dB."""
    parts = [model.decode(model.encode(part)) for part in images.split(batch)]
    return _rounded(torch.cat(parts), images)


def _rounded(made: Tensor, images: Tensor) -> tuple[Tensor, list[float]]:
    """``made`` at 8 bits a channel, and the PSNR of each with its image."""
    made = made.mul(255).round().div(255)
    return made, [psnr(one[None], true[None]) for one, true in zip(made, images, strict=True)]


@torch.no_grad()
def draw_captions(
    model: EditModel,
    texts: Sequence[str],
    *,
    guidance: float = 7.5,
    steps: int = 50,
    seed: int = 0,
    batch: int = 10,
    report: Report = lambda line: None,
) -> Tensor:
    """Images (N, 3, H, W) drawn from captions by DDIM with classifier-free guidance.

    Image n starts from noise that depends on ``seed`` and n alone.
    """
    size = model.native_size // model.latent_factor
    channels = int(model.vae.config.latent_channels)
    timesteps = model.schedule.timesteps(steps)
    empty = model.encode_prompt(empty_prompt(model.tokenizer))
    pictures = []
    for first in range(0, len(texts), batch):
        part = texts[first : first + batch]
        contexts = [model.encode_prompt(parse_prompt(text, model.tokenizer, nouns=(), bindings=())) for text in part]
        both = torch.cat([empty.expand(len(part), -1, -1), *contexts])
        noise = [
            torch.randn(channels, size, size, generator=torch.Generator().manual_seed(seed * 1_000_000 + first + i))
            for i in range(len(part))
        ]
        latents = torch.stack(noise).to(model.device)
        for upper, lower in step_pairs(timesteps):
            plain, named = model.predict_noise(latents.repeat(2, 1, 1, 1), upper, both).chunk(2)
            latents = model.schedule.ddim_step(latents, plain + guidance * (named - plain), start=upper, end=lower)
        pictures.append(model.decode(latents).cpu())
        report(f"text to image: {first + len(part)}/{len(texts)}")
    return torch.cat(pictures)


def judge_images(judge: Judge, pictures: Tensor, specs: Sequence[SceneSpec]) -> tuple[dict[str, Any], list[bool]]:
    """Shares of images (N, 3, H, W) that show what their scenes name, and the verdict on each.

    ``nouns``: every noun found; ``colours``: and each in its colour (wooden counts as one); ``all``: and in its
    pattern, which is the verdict; ``by_objects``: by the number of objects; ``objects``: by object. ``extra``: the
    share of images with an object that was not asked for.
    """
    found = [findings for part in pictures.split(32) for findings in judge.findings(part)]
    nouns, colours, everything, extra = [], [], [], []
    all_hits: list[bool] = []
    for spec, findings in zip(specs, found, strict=True):
        seen = {finding.noun: (finding.look, finding.pattern) for finding in findings}
        asked = {obj.noun: look_of(obj) for obj in spec.objects}
        nouns.append(all(noun in seen for noun in asked))
        colours.append(all(noun in seen and seen[noun][0] == look for noun, (look, _) in asked.items()))
        hits = [seen.get(noun) == look for noun, look in asked.items()]
        everything.append(all(hits))
        extra.append(bool(seen.keys() - asked.keys()))
        all_hits += hits
    counts = [len(spec.objects) for spec in specs]
    by_objects = {
        str(count): _share([ok for ok, own in zip(everything, counts, strict=True) if own == count])
        for count in sorted(set(counts))
    }
    named = {"nouns": nouns, "colours": colours, "all": everything, "objects": all_hits}
    shares = {name: _share(verdicts) for name, verdicts in named.items()}
    return {**shares, "by_objects": by_objects, "extra": _share(extra)}, everything


def _share(verdicts: Sequence[bool]) -> float:
    return sum(verdicts) / len(verdicts)


def attention_statistics(
    model: EditModel, seeds: Sequence[int], *, steps: int = 50, report: Report = lambda line: None
) -> dict[str, float]:
    """Where the nouns' untuned cross-attention lies in held-out scenes of two objects, over a DDIM inversion.

    ``iou``: mean over nouns of the best IoU over thresholds with the noun's own mask. ``iou_chance``: the
    same with the mask of an object in another scene. ``inside``, ``other``: the share of a noun's attention on
    its own object, and on the other one. ``area``: the mean share of the image that an object covers, which
    all three would be for a map that is the same everywhere.
    """
    own, chance, inside, other, area = [], [], [], [], []
    previous: list[Tensor] = []
    for done, seed in enumerate(seeds, start=1):
        spec = sample_scene(seed, objects=2)
        picture, drawn = render(spec)
        image = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        masks = [torch.from_numpy(mask).float() for mask in drawn]
        words = [obj.noun for obj in spec.objects]
        prompt = parse_prompt(caption(spec), model.tokenizer, nouns=words, bindings=())
        inversion = ddim_invert(model, model.encode(image), prompt, steps)
        contexts = [model.encode_prompt(prompt)] * steps
        averaged = average_maps(model, inversion, contexts.__getitem__)
        maps = maps_of_words(averaged[0], prompt, words)
        for word, mask, rest in zip(words, masks, reversed(masks), strict=True):
            values = maps[word]
            full = torch.nn.functional.interpolate(values[None, None], size=mask.shape, mode="bilinear")[0, 0]
            own.append(best_iou(values, mask))
            if previous:
                chance.append(best_iou(values, previous[0]))
            inside.append(float((full * mask).sum() / full.sum()))
            other.append(float((full * rest).sum() / full.sum()))
            area.append(float(mask.mean()))
        previous = masks
        if done % 10 == 0 or done == len(seeds):
            report(f"attention: {done}/{len(seeds)}")
    named = {"iou": own, "iou_chance": chance, "inside": inside, "other": other, "area": area}
    return {name: sum(values) / len(values) for name, values in named.items() if values}


def picks(images: Tensor, texts: Tensor, among: int) -> tuple[float, float]:
    """How often an image's own text is nearest of ``among``, and a text's own image.

    ``images``, ``texts``: (N, e) unit vectors that belong together row by row, compared in groups as they stand.
    Raises ValueError for rows that make no whole groups.
    """
    if among < 2 or len(images) < among or len(images) % among:
        raise ValueError(f"count: got {len(images)}, requires a multiple of {among}")
    right = [0, 0]
    own = torch.arange(among)
    for some, others in zip(images.split(among), texts.split(among), strict=True):
        near = some @ others.T
        right[0] += int((near.argmax(1) == own).sum())
        right[1] += int((near.argmax(0) == own).sum())
    return right[0] / len(images), right[1] / len(images)


def text_picks(guide: ClipEncoder, seeds: Sequence[int], *, among: int = 32) -> dict[str, float]:
    """Whether the dual encoder tells right from wrong, over the scenes of ``seeds``, groups of ``among``.

    ``caption``: a scene's own caption is nearest among ``among`` captions of scenes. ``scene``: a caption's
    own scene is, among the scenes. ``swap``, ``attribute``: a scene is nearer to its caption than to the
    caption after an edit of that kind. ``swap_score``, ``attribute_score``: the true image of such an edit
    has a higher S (Eq. 7, towards the caption after the edit) than the scene as it was. ``phrase``: a crop of
    an object has the object's phrase nearest among those of the group (what reads the same counts as right).
    ``crop``: an object's phrase is nearer to a good crop of it than to all of eight poor ones (IoU with the
    object's box under 0.3) of the same scene.
    """
    specs = [sample_scene(seed) for seed in seeds]
    pictures = scene_images(specs)
    with torch.no_grad():
        scenes = guide.encode_images(pictures).cpu()
    captions = guide.encode_texts([caption(spec) for spec in specs]).cpu()
    caption_share, scene_share = picks(scenes, captions, among)
    shares = {"caption": caption_share, "scene": scene_share}
    for kind in ("swap", "attribute"):
        edited = [sample_edit(spec, 0, kind)[1] for spec in specs]
        wrong = guide.encode_texts([caption(spec) for spec in edited]).cpu()
        shares[kind] = float(((scenes * captions).sum(1) > (scenes * wrong).sum(1)).float().mean())
        with torch.no_grad():
            after = guide.encode_images(scene_images(edited)).cpu()
        left = quality_score((scenes * wrong).sum(1), torch.ones(len(scenes)))
        done = quality_score((after * wrong).sum(1), (after * scenes).sum(1))
        shares[f"{kind}_score"] = float((done > left).float().mean())
    shares["phrase"], shares["crop"] = _crop_picks(guide, specs, pictures, among)
    return shares


def _crop_picks(guide: ClipEncoder, specs: Sequence[SceneSpec], pictures: Tensor, among: int) -> tuple[float, float]:
    rng = np.random.default_rng(0)
    things = [spec.objects[int(rng.integers(len(spec.objects)))] for spec in specs]
    size = pictures.shape[-1]
    windows = []
    for obj in things:
        windows += [object_window(obj.box, rng, size=size)]
        windows += [poor_window(obj.box, rng, size=size) for _ in range(_POOR_CROPS)]
    drawn = pictures.mul(255).round().to(torch.uint8).repeat_interleave(1 + _POOR_CROPS, dim=0)
    vectors = []
    with torch.no_grad():
        for part, places in zip(drawn.split(64), torch.tensor(windows).split(64), strict=True):
            vectors.append(guide.encode_images(look(part, places, size)).cpu())
    crops = torch.cat(vectors).view(len(specs), 1 + _POOR_CROPS, -1)
    names = [with_article(obj.phrase) for obj in things]
    phrases = guide.encode_texts(names).cpu()
    right = 0
    for first in range(0, len(specs), among):
        near = crops[first : first + among, 0] @ phrases[first : first + among].T
        right += sum(names[first + k] == names[first + pick] for k, pick in enumerate(near.argmax(1).tolist()))
    by_crop = torch.einsum("nce,ne->nc", crops, phrases)
    return right / len(specs), float((by_crop.argmax(1) == 0).float().mean())


@dataclass(frozen=True)
class AnchorHits:
    """Where K anchors of each scene lie; an anchor is on an object when the objects cover half of its patch.

    ``any``, ``most``: shares of scenes with at least one anchor on an object, and with more than half of them.
    ``share``: mean share of the anchors that are on objects; ``area``: of the patches. ``things``: share of all
    objects that an anchor is on. The names are keys of evaluation.json.
    """

    any: float
    most: float
    share: float
    things: float
    area: float


def anchor_hits(anchors: Sequence[Tensor], masks: Sequence[Tensor], patch: int) -> AnchorHits:
    """The hits of each scene's anchors (K, 2), row and column, on its objects' masks (n, H, W) of 0 and 1.

    ``patch``: side of a patch in pixels, by which H and W can be divided.
    """
    any_hit, most, shares, found, areas = 0, 0, [], [], []
    for cells, things in zip(anchors, masks, strict=True):
        cover = F.avg_pool2d(things[None].float(), patch)[0]
        on = cover.sum(0) >= 0.5
        hit = on[cells[:, 0], cells[:, 1]]
        any_hit += bool(hit.any())
        most += bool(2 * hit.sum() > len(hit))
        shares.append(float(hit.float().mean()))
        areas.append(float(on.float().mean()))
        own = cover[:, cells[:, 0], cells[:, 1]]
        found += (own >= 0.5).any(1).tolist()
    scenes = len(shares)
    return AnchorHits(any_hit / scenes, most / scenes, sum(shares) / scenes, _share(found), sum(areas) / scenes)


def attention_anchors(
    vision: VisionFeatures, seeds: Sequence[int], *, count: int = 8
) -> tuple[AnchorHits, AnchorHits, list[tuple[Tensor, Tensor, Tensor]]]:
    """The hits of the ``count`` patches that [CLS] attends to most, and of random ones; and, of each scene, the image
    (3, H, W), the attention (h, w) and the anchors (K, 2)."""
    anchors, chance, masks, seen = [], [], [], []
    for seed in seeds:
        picture, drawn = render(sample_scene(seed))
        image = torch.from_numpy(picture).permute(2, 0, 1).float() / 255
        found = vision.look(image[None])
        anchors.append(dino_anchors(found.attention.cpu(), count))
        chance.append(random_anchors(found.grid, count, seed))
        masks.append(torch.from_numpy(np.stack(drawn)))
        seen.append((image, found.attention.cpu(), anchors[-1]))
    patch = found.patch
    return anchor_hits(anchors, masks, patch), anchor_hits(chance, masks, patch), seen


def codes_and_reconstructions(folder: Path, images: Tensor) -> tuple[Tensor, list[float], int]:
    """Images (N, 3, H, W) in [0, 1] through the codes of the model in ``folder``, at 8 bits a channel, the PSNR of
    each in dB, and how many different codes they took."""
    with quiet_loading():
        model = VQModel.from_pretrained(folder).float().eval()
    drawn = images.mul(255).round().to(torch.uint8)
    return *_rounded(reconstructed(model, drawn), images), len(encode_codes(model, drawn).unique())


def draw_with_amused(
    folder: Path,
    texts: Sequence[str],
    *,
    guidance: float = 5.0,
    steps: int = 16,
    seed: int = 0,
    batch: int = 20,
    report: Report = lambda line: None,
) -> Tensor:
    """Images (N, 3, H, W) drawn from captions by diffusers' AmusedPipeline; ``batch`` matters too."""
    with quiet_loading():
        pipeline: Any = AmusedPipeline.from_pretrained(folder).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pictures = []
    for first in range(0, len(texts), batch):
        part = list(texts[first : first + batch])
        generator = torch.Generator().manual_seed(seed * 1_000_000 + first)
        settings = {"num_inference_steps": steps, "guidance_scale": guidance, "output_type": "pt"}
        pictures += [pipeline(part, generator=generator, **settings).images]
        report(f"aMUSEd: {first + len(part)}/{len(texts)}")
    return torch.cat(pictures).float()


def edit_with_amused(
    folder: Path, seeds: Sequence[int], *, seed: int = 0, report: Report = lambda line: None
) -> tuple[Tensor, list[SceneSpec]]:
    """An object of each scene changed inside its true box: images (N, 3, H, W), and what they should show.

    The editor is told of the new object alone, as ``regions`` tells it where it has found the object.
    """
    editor = EDITOR.load(folder, device="cpu", dtype="float32", composite=True)
    specs = [sample_scene(one) for one in seeds]
    edits = [sample_edit(spec, 0) for spec in specs]
    images, pictures = scene_images(specs), []
    for number, (spec, (edit, _)) in enumerate(zip(specs, edits, strict=True)):
        image = images[number : number + 1]
        mask = box_masks([spec.objects[edit.index].box], (image.shape[-2], image.shape[-1]))
        wish = edit.wish(spec.background)
        pictures.append(editor.edit(image, mask, wish, seed))
        if (number + 1) % 20 == 0:
            report(f"aMUSEd's edits: {number + 1}/{len(seeds)}")
    return torch.cat(pictures), [after for _, after in edits]
