"""Runs the nodes for regions and for finding places in ComfyUI's own process, on tiny random models:
`python -m pinpoint.tests.comfyui.inside_regions HOLDER sampler|regions|places`, as `inside_comfyui`."""

# ruff: noqa: E402 (ComfyUI reads the command line as it is imported)
from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from pinpoint.tests.comfyui.inside_process import begin, tell

HOLDER, WHAT = begin()

import comfy.model_management
import folder_paths
import torch

from pinpoint.nodes.anchor_proposals import ProposeAnchors
from pinpoint.nodes.bridge.memory import ManagedEditor, manage, managed
from pinpoint.nodes.region_editors import EditorBlended, EditorComfyUISampler, EditorLocInv
from pinpoint.nodes.region_scorer import LearnRegions, PickBestEdit, ScoreRegions
from pinpoint.tests.comfyui.tiny_checkpoint import shallow_parts
from pinpoint.tests.fixtures.tiny_editors import small_model, smooth_image
from pinpoint.tests.fixtures.tiny_encoders import PaintingEditor, tiny_clip, tiny_vit


def sampler_node(**changes: Any) -> tuple[ManagedEditor, dict[str, Any]]:
    """The node's editor, and what it was made of."""
    model, clip, vae = shallow_parts()
    given = {
        "model": model,
        "vae": vae,
        "positive": clip.encode_from_tokens_scheduled(clip.tokenize("a yellow fox")),
        "negative": clip.encode_from_tokens_scheduled(clip.tokenize("")),
        "sampler_name": "euler_ancestral",
        "scheduler": "normal",
        "steps": 3,
        "cfg": 5.0,
        "denoise": 0.7,
    }
    return EditorComfyUISampler.execute(**{**given, **changes})[0], given


def sampler() -> dict[str, Any]:
    """The editor against ComfyUI's own KSampler with the same noise mask."""
    nodes: Any = importlib.import_module("nodes")  # ComfyUI's
    from pinpoint.locinv_core.cost import CostTracker

    tracker = CostTracker()
    with torch.inference_mode():
        editor, given = sampler_node()
        image = smooth_image(64, 96)
        masks = torch.zeros(2, 1, 64, 96)
        masks[0, :, 16:48, 32:72] = 1
        masks[1, :, :24, :24] = 1
        ours = editor.value.edit(image, masks, "", 7, tracker=tracker)
        wanted = []
        for mask in masks:
            latent = {
                "samples": given["vae"].encode(image.permute(0, 2, 3, 1)),
                "noise_mask": mask[:, ::8, ::8],
            }
            (sampled,) = nodes.common_ksampler(
                given["model"],
                7,
                3,
                5.0,
                "euler_ancestral",
                "normal",
                given["positive"],
                given["negative"],
                latent,
                denoise=0.7,
            )
            wanted.append(given["vae"].decode(sampled["samples"]).permute(0, 3, 1, 2))
        single = editor.value.edit(image, masks[1:], "", 7)
        odd = editor.value.edit(image[..., :61, :83], masks[..., :61, :83], "", 7, steps=2)
        other = editor.value.edit(image, masks, "", 8)
        preview = editor.preview(image)
        assert preview is not None
    return {
        "apart": float((ours - torch.cat(wanted)).abs().max()),
        "changed": float((ours - image)[0, :, 20:44, 36:68].abs().mean()),
        "one by one": float((single - ours[1:]).abs().max()),
        "other seed": float((other - ours).abs().max()),
        "odd": [list(odd.shape), bool(torch.isfinite(odd).all())],
        "inference": ours.is_inference(),
        "passes": tracker.total,
        "cost": [editor.value.cost(None), editor.value.cost(9)],
        "preview": list(preview.image(torch.zeros(1, 4, 8, 12)).size),
        "wrappers left": len(given["model"].wrappers.get("apply_model", {})),
    }


def proposals(image: torch.Tensor) -> Any:
    vision = tiny_vit()
    vit = managed(vision, vision.model)
    return ProposeAnchors.execute(image, vit, anchors="dino", k=3, m=3, min_distance=2.0, sizes="learned", seed=0)


def judging(editor: ManagedEditor, found: Any, clip: Any, **changes: Any) -> dict[str, Any]:
    given = {
        "proposals": found,
        "editor": editor,
        "clip": clip,
        "caption": "a yellow cat",
        "prompt": "a red star",
        "plan": "preview",
        "final_count": 0,
        "batch": 4,
        "seed": 0,
    }
    return {**given, **changes}


LEARNING: dict[str, Any] = {
    "estimator": "expected",
    "epochs": 1,
    "learning_rate": 0.003,
    "temperature": 1.0,
    "exploration": 1.0,
}


def regions() -> dict[str, Any]:
    """From anchors to the picked edit, with editors that paint, blend, and sample with ComfyUI."""
    told: dict[str, Any] = {}
    picture = smooth_image()
    image = picture.permute(0, 2, 3, 1)
    with torch.inference_mode():
        encoder = tiny_clip()
        clip = managed(encoder, encoder.model)
        proposed = proposals(image)
        found = proposed[0]
        told["proposed"] = [
            list(found.proposals.boxes.shape),
            list(proposed[2].shape),
            float(proposed[2].max()),
        ]
        painting = PaintingEditor(steps=4)
        editor = ManagedEditor(painting, (), lambda image: None)
        learned = LearnRegions.execute(**judging(editor, found, clip), **LEARNING)
        calls = len(painting.calls)
        scores = learned[0].scores
        made = dict(scores.edits.made())
        picked = PickBestEdit.execute(learned[0], 0, 2.0, 1.0)
        told["edits of picking"] = len(painting.calls) - calls
        told["input left alone"] = made == dict(scores.edits.made())
        calls = len(painting.calls)
        rows = json.loads(picked[4])
        second = PickBestEdit.execute(learned[0], rows[1]["anchor"], 2.0, 1.0)
        told["edits of overruling"] = len(painting.calls) - calls
        outside = picked[1][0] == 0
        told["outside"] = float((picked[0] - image)[0][outside].abs().max())
        told["inside is red"] = float((picked[0][0][~outside] - torch.tensor([1.0, 0, 0])).abs().max())
        x, y, width, height = (picked[3][key] for key in ("x", "y", "width", "height"))
        told["box is the mask"] = (
            int((~outside).sum()) == width * height == int((~outside)[y : y + height, x : x + width].sum())
        )
        told["best first"] = [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
        told["second is the second candidate"] = bool(torch.equal(second[0], picked[2][1:2]))
        told["ui"] = sorted(picked.ui)
        told["learned ui"] = [len(learned.ui["pinpoint_regions"]), len(learned.ui["images"])]

        scored = ScoreRegions.execute(**judging(editor, found, clip, plan="full"))
        losses = scored[0].scores.losses
        told["least loss is chosen"] = list(scored[0].scores.chosen) == losses.argmin(dim=1).tolist()

        few = LearnRegions.execute(**judging(editor, found, clip, final_count=1), **LEARNING)
        last = json.loads(PickBestEdit.execute(few[0], 0, 2.0, 1.0)[4])[-1]
        told["preview at first"] = not last["final"]
        calls = len(painting.calls)
        PickBestEdit.execute(few[0], last["anchor"], 2.0, 1.0)
        told["edits of overruling by a preview"] = len(painting.calls) - calls

        told["after a cancel"] = cancelled(found, clip, learned)

        blended = EditorBlended.execute(manage(small_model()), strength=0.75, guidance=5.0, steps=4, batch=4)[0]
        result = LearnRegions.execute(**judging(blended, found, clip), **LEARNING)[0]
        edit = PickBestEdit.execute(result, 0, 2.0, 1.0)
        told["blended"] = [list(edit[0].shape), float((edit[0] - image).abs().max()) > 0]
        told["cost of blended"] = [blended.value.cost(None), blended.value.cost(8)]

        with torch.inference_mode(False):  # as Load Edit Model loads: words are tuned by gradients
            own = manage(small_model())
        locinv = EditorLocInv.execute(own, "a yellow cat", 5.0, 4)[0]
        corner = torch.zeros(1, 64, 64)
        corner[:, :24, :24] = 1
        wanted = judging(locinv, found, clip, prompt="a yellow star", region_mask=corner)
        result = LearnRegions.execute(**wanted, **LEARNING)[0]
        edit = PickBestEdit.execute(result, 0, 2.0, 1.0)
        told["locinv"] = [list(edit[0].shape), float((edit[0] - image).abs().max()) > 0]
        told["near"] = sum(result.scores.prior.in_region)
        told["in full"] = sum(candidate["final"] for candidate in json.loads(edit[4]))
        told["steps of locinv"] = locinv.value.cost(8) / locinv.value.cost(4)

        sampling, _ = sampler_node(sampler_name="euler", steps=2)
        result = LearnRegions.execute(**judging(sampling, found, clip, plan="stand-in"), **LEARNING)[0]
        edit = PickBestEdit.execute(result, 0, 2.0, 1.0)
        told["sampled"] = [list(edit[0].shape), float((edit[0] - image).abs().max()) > 0]
        for choice, name in ((4, "above"), (-1, "below")):
            try:
                PickBestEdit.execute(learned[0], choice, 2.0, 1.0)
            except ValueError as error:
                told[f"choice {name}"] = str(error)
    return told


def cancelled(found: Any, clip: Any, undisturbed: Any) -> dict[str, Any]:
    """A run that is cancelled in an edit, and the same run afterwards."""

    class Impatient(PaintingEditor):
        def edit(self, *args: Any, **kwargs: Any) -> torch.Tensor:
            if len(self.calls) == 4:
                comfy.model_management.interrupt_current_processing()
            return super().edit(*args, **kwargs)

    impatient = Impatient(steps=4)
    editor = ManagedEditor(impatient, (), lambda image: None)
    told: dict[str, Any] = {}
    try:
        LearnRegions.execute(**judging(editor, found, clip), **LEARNING)
    except comfy.model_management.InterruptProcessingException:
        told["stopped after"] = len(impatient.calls)
    again = LearnRegions.execute(**judging(editor, found, clip), **LEARNING)[0]
    told["same"] = bool(torch.equal(again.scores.logits, undisturbed[0].scores.logits))
    return told


def places() -> dict[str, Any]:
    """Segment Anything, text and attention as nodes."""
    import segment_anything
    from safetensors.torch import save_file

    from pinpoint.locinv_core.localization.prior_sources import from_sam
    from pinpoint.locinv_core.text.prompt import parse_prompt
    from pinpoint.nodes.priors.found import NO_SAM, SAMS, FindWord, PriorFromSegmentAnything, PriorFromText, sam_names
    from pinpoint.tests.fixtures.tiny_locators import tiny_sam, write_tiny_clipseg, write_tiny_sam2

    told: dict[str, Any] = {}
    image = smooth_image().permute(0, 2, 3, 1)

    def refused(node: Any, *args: Any, **given: Any) -> str:
        try:
            node.execute(image, *args, **given)
        except ValueError as error:
            return str(error)
        return ""

    with torch.inference_mode():
        told["none"] = [sam_names(), refused(PriorFromSegmentAnything, NO_SAM, boxes="cat=1,1,9,9")]
        folder = Path(HOLDER, "sams")
        folder.mkdir()
        folder_paths.add_model_folder_path(SAMS, str(folder))
        with torch.inference_mode(False):
            weights = {name: weight.contiguous() for name, weight in tiny_sam().state_dict().items()}
        save_file(weights, folder / "tiny.safetensors")
        from_sam.MODELS[32] = "tiny"
        segment_anything.sam_model_registry["tiny"] = tiny_sam
        torch.save(weights, folder / "published.pth")
        (folder / "broken.pth").write_bytes(b"")
        write_tiny_sam2(folder / "new" / "sam2")
        told["names"] = sam_names()
        prior, mask = PriorFromSegmentAnything.execute(image, "tiny.safetensors", boxes="cat=10,6,40,30").args
        told["outlined"] = [list(prior.words), prior.kind, list(mask.shape), float(mask.max())]
        again = PriorFromSegmentAnything.execute(image, "tiny.safetensors", prior=prior)[0]
        told["outlined again"] = list(again.words)
        published = PriorFromSegmentAnything.execute(image, "published.pth", boxes="cat=10,6,40,30")[0]
        told["published"] = bool(torch.equal(published.mask("cat"), prior.mask("cat")))
        told["by sam 2"] = PriorFromSegmentAnything.execute(image, "new/sam2", boxes="cat=10,6,40,30")[0].kind
        told["broken"] = refused(PriorFromSegmentAnything, "broken.pth", boxes="cat=1,1,9,9")
        told["no place"] = refused(PriorFromSegmentAnything, "tiny.safetensors")
        text = str(write_tiny_clipseg(Path(HOLDER, "clipseg")))
        prior, mask = PriorFromText.execute(image, "star=red star", text, 0.01, "all").args
        told["by text"] = [list(prior.words), prior.kind, list(mask.shape)]
        told["no model"] = refused(PriorFromText, "cat", "nobody/nothing", 0.3, "best")
        with torch.inference_mode(False):
            model = small_model()
        prompt = parse_prompt("a yellow cat and a red star", model.tokenizer)
        networks: dict[str, Any] = {"vit": tiny_vit(), "clip": tiny_clip()}
        both: dict[str, Any] = {name: managed(one, one.model) for name, one in networks.items()}
        for name, helpers in (("alone", {}), ("helped", both)):
            answer = FindWord.execute(manage(model), image, prompt, "cat, star", 0.25, **helpers)
            told[f"found {name}"] = [list(answer[0].words), answer[0].kind, answer[2], answer[3]]
    return told


tell({"sampler": sampler, "regions": regions, "places": places}[WHAT]())
