"""Measuring the embedded models on scenes that none of them was trained on.

Reconstruction of the autoencoder; whether the images drawn from captions show what the captions name, by a
judge trained apart; and where the nouns' untuned cross-attention lies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ....locinv_core.backbones.stable_diffusion import EditModel
from ....locinv_core.ddim import step_pairs
from ....locinv_core.imaging.metrics import best_iou, psnr
from ....locinv_core.inversion.ddim_inversion import ddim_invert
from ....locinv_core.localization.attention_maps import average_maps, maps_of_words
from ....locinv_core.text.prompt import empty_prompt, parse_prompt
from ..scenes.spec import SceneSpec, caption, render, sample_scene
from .judge import Finding, Judge, look_of

__all__ = ["attention_statistics", "draw_captions", "judge_images", "reconstructions", "scene_images"]

Report = Callable[[str], None]


def scene_images(specs: Sequence[SceneSpec]) -> Tensor:
    """The true images, (N, 3, H, W) in [0, 1]."""
    return torch.stack([torch.from_numpy(render(spec)[0]) for spec in specs]).permute(0, 3, 1, 2).float() / 255


def reconstructions(model: EditModel, images: Tensor, *, batch: int = 16) -> tuple[Tensor, list[float]]:
    """Images (N, 3, H, W) through the autoencoder, at 8 bits a channel, and the PSNR of each in dB."""
    parts = [model.decode(model.encode(part)) for part in images.split(batch)]
    made = torch.cat(parts).mul(255).round().div(255)
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
    channels = int(model.unet.config.in_channels)
    timesteps = model.schedule.timesteps(steps)
    empty = model.encode_prompt(empty_prompt(model.tokenizer).token_ids)
    pictures = []
    for first in range(0, len(texts), batch):
        part = texts[first : first + batch]
        contexts = [
            model.encode_prompt(parse_prompt(text, model.tokenizer, nouns=(), bindings=()).token_ids) for text in part
        ]
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

    ``nouns``: every noun found; ``colours``: and each in its colour (wooden counts as one); ``all``: and in
    its pattern, which is the verdict. ``by_objects`` gives ``all`` by the number of objects, ``objects`` by
    object; ``extra`` is the share of images in which the judge sees an object that was not asked for.
    """
    found: list[list[Finding]] = []
    for part in pictures.split(32):
        found += judge.findings(part)
    nouns, colours, everything, extra = [], [], [], []
    things = right = 0
    for spec, findings in zip(specs, found, strict=True):
        seen = {finding.noun: (finding.look, finding.pattern) for finding in findings}
        asked = {obj.noun: look_of(obj) for obj in spec.objects}
        nouns.append(all(noun in seen for noun in asked))
        colours.append(all(noun in seen and seen[noun][0] == look for noun, (look, _) in asked.items()))
        hits = [seen.get(noun) == look for noun, look in asked.items()]
        everything.append(all(hits))
        extra.append(bool(seen.keys() - asked.keys()))
        things += len(hits)
        right += sum(hits)
    counts = sorted({len(spec.objects) for spec in specs})
    by_objects = {
        str(count): _share([ok for ok, spec in zip(everything, specs, strict=True) if len(spec.objects) == count])
        for count in counts
    }
    shares = {
        "nouns": _share(nouns),
        "colours": _share(colours),
        "all": _share(everything),
        "objects": right / things,
        "by_objects": by_objects,
        "extra": _share(extra),
    }
    return shares, everything


def _always(context: Tensor) -> Callable[[int], Tensor]:
    return lambda step: context


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
        context = model.encode_prompt(prompt.token_ids)
        averaged = average_maps(model, inversion, _always(context))
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
    named = {
        "iou": own,
        "iou_chance": chance,
        "inside": inside,
        "other": other,
        "area": area,
    }
    return {name: sum(values) / len(values) for name, values in named.items() if values}
