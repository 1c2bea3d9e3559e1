"""``python -m pinpoint evaluate-embedded``: how good the embedded models are, on scenes never trained on."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .run_options import listed, report

if TYPE_CHECKING:
    from torch import Tensor

    from ...locinv_core.backbones.stable_diffusion import EditModel
    from ..embedded_world.judge import Judge
    from ..embedded_world.scenes.spec import SceneSpec

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["PARTS", "add_parser", "run"]

PARTS = ("vae", "text", "attention", "clip", "vit", "amused")
_EDIT_MODEL_PARTS = ("vae", "text", "attention")
_NEEDED = {"clip": "config.json", "vit": "config.json", "amused": "model_index.json"}
"""A file of each of the regions' models; aMUSEd's is written last, when its transformer is there too."""
_AMONG = 32
_ANCHORS = 8
_JUDGED = {
    "nouns": "every noun",
    "colours": "every noun in its colour",
    "all": "every noun in its colour and pattern",
    "objects": "objects right, one by one",
    "extra": "images with another object besides",
}
_ATTENTION = {
    "iou": "noun map, best IoU with its object",
    "iou_chance": "the same with an object of another scene",
    "inside": "noun's attention on its object",
    "other": "noun's attention on the other object",
    "area": "area of an object",
}
_CLIP = {
    "caption": f"the scene's caption, among {_AMONG}",
    "scene": f"the caption's scene, among {_AMONG}",
    "swap": "caption over the one with another noun",
    "attribute": "caption over the one with another look",
    "swap_score": "a true swap over the scene as it was, by S",
    "attribute_score": "a true attribute edit over the scene as it was, by S",
    "phrase": f"a crop's phrase, among {_AMONG}",
    "crop": "an object's crop, over eight poor ones",
}
_VIT = {
    "any": f"scenes with one of the {_ANCHORS} on an object",
    "most": f"scenes with more than half of the {_ANCHORS} on objects",
    "share": f"of the {_ANCHORS}, on objects",
    "things": "objects with an anchor on them",
}
Cells = list[tuple[str, Any]]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "evaluate-embedded",
        help="measure the embedded models on held-out scenes",
        description="On held-out scenes: reconstruction by the autoencoder (vae), images drawn from "
        "captions (text), untuned attention maps (attention), and of the regions' models whether CLIP "
        "picks the right text (clip), where the ViT's attention lies (vit), and what aMUSEd reconstructs "
        "and draws (amused). A table, evaluation.json and images in DIR. The judge of drawn images is "
        "trained first and kept in --work.",
    )
    for name, default, help in (
        ("count", 200, "scenes"),
        ("attention-count", 40, "scenes of two objects, for the maps"),
        ("amused-steps", 16, "steps of aMUSEd's drawing"),
        ("steps", 50, "DDIM steps"),
        ("seed", 0, "block of held-out scenes, and the noise"),
        ("judge-steps", 4000, "training of the judge"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{help} (default {default})")
    every = ",".join(PARTS)
    parser.add_argument("--parts", default=every, help=f"what to measure, separated by commas (default {every})")
    parser.add_argument("--model", default="embedded", help="embedded, or a folder (default embedded)")
    own = "folder with the regions' models clip, vit and amused (default: the package's own)"
    parser.add_argument("--regions", type=Path, metavar="DIR", help=own)
    parser.add_argument("--guidance", type=float, default=7.5, help="guidance scale (default 7.5)")
    parser.add_argument("--work", type=Path, default=Path("training"), metavar="DIR", help="where the judge is kept")
    parser.add_argument("--out", type=Path, default=Path("out/evaluation"), metavar="DIR", help="folder to write to")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print; the exit status.

    Raises:
        ValueError: for a number out of bounds, an unknown part, and one without a model, before any work.
    """
    parts = tuple(listed(args.parts))
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise ValueError(f"--parts: got {', '.join(unknown) or 'none'}, requires some of {', '.join(PARTS)}")
    for name in ("count", "attention_count", "steps", "amused_steps", "judge_steps"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')}: got {getattr(args, name)}, requires 1 or more")
    if not (math.isfinite(args.guidance) and args.guidance >= 1):
        raise ValueError(f"--guidance: got {args.guidance}, requires 1 or more")

    if "clip" in parts and args.count < _AMONG:
        raise ValueError(f"--count: got {args.count}, requires {_AMONG} or more for the part clip")
    for part in parts:
        if part not in _EDIT_MODEL_PARTS:
            _regions_model(args, part)

    from ...locinv_core.imaging.io import written_whole
    from ..embedded_world.evaluation import scene_images
    from ..embedded_world.scenes.dataset import held_out_seeds
    from ..embedded_world.scenes.spec import sample_scene

    started = time.monotonic()
    specs = [sample_scene(seed) for seed in held_out_seeds(args.count, seed=args.seed)]
    args.out.mkdir(parents=True, exist_ok=True)
    found = _Findings(args, specs, scene_images(specs), {"scenes": args.count, "seed": args.seed})
    measure = {"vae": _vae, "text": _text, "attention": _attention, "clip": _clip, "vit": _vit, "amused": _amused}
    for part in PARTS:
        if part in parts:
            measure[part](found)
    found.figures["seconds"] = round(time.monotonic() - started, 1)
    with written_whole(args.out / "evaluation.json") as partial:
        partial.write_text(json.dumps(found.figures, indent=2) + "\n")
    width = max(len(label) for label, _ in found.rows)
    for label, value in found.rows:
        print(f"{label:<{width}}  {value}")
    print(f"{args.out / 'evaluation.json'}")
    return 0


@dataclass
class _Findings:
    """What the parts measure on, and what they find: `figures` for the file, `rows` for the printed table."""

    args: argparse.Namespace
    specs: list[SceneSpec]
    images: Tensor
    figures: dict[str, Any]
    rows: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def model(self) -> EditModel:
        """The edit model, named in the figures with how it is sampled."""
        from ...locinv_core.backbones.loading import load_edit_model

        model = load_edit_model(self.args.model, device="cpu")
        self.figures |= {"model": model.name, "fingerprint": model.fingerprint}
        self.figures |= {"steps": self.args.steps, "guidance": self.args.guidance}
        return model

    @cached_property
    def judge(self) -> Judge:
        """The judge of drawn images, trained where `--work` has none."""
        from ..embedded_world.judge import train_judge

        return train_judge(self.args.work / "judge.safetensors", steps=self.args.judge_steps, report=report)

    @cached_property
    def texts(self) -> list[str]:
        """The scenes' captions."""
        from ..embedded_world.scenes.spec import caption

        return [caption(spec) for spec in self.specs]

    def add_psnr(self, label: str, values: Sequence[float]) -> dict[str, float]:
        """Rows of a mean and the worst of PSNRs, which are returned."""
        mean, worst = sum(values) / len(values), min(values)
        self.rows += [(f"{label}, mean", f"{mean:.2f} dB"), (f"{label}, worst", f"{worst:.2f} dB")]
        return {"mean": mean, "worst": worst}

    def add_shares(self, shares: Mapping[str, Any], labels: Mapping[str, str], before: str = "") -> None:
        """A row in percent for each label."""
        self.rows += [(f"{before}{label}", f"{shares[key]:.1%}") for key, label in labels.items()]

    def add_judged(self, name: str, shares: Mapping[str, Any]) -> None:
        """Rows of what the judge says of drawn images."""
        self.add_shares(shares, _JUDGED, f"{name}: ")
        for count, share in shares["by_objects"].items():
            self.rows.append((f"{name}: all right, {count} object(s)", f"{share:.1%}"))

    def save_sheet(self, cells: Cells, name: str, columns: int = 8) -> None:
        """Write a contact sheet into the output folder."""
        from ...locinv_core.imaging.io import save_png
        from ...locinv_core.imaging.visualize import contact_sheet

        save_png(contact_sheet(cells, columns=columns), self.args.out / name)

    def save_pairs(self, label: str, made: Tensor, name: str) -> None:
        """Write a contact sheet of the first scenes, each beside what was made of it."""
        pairs = zip(self.images[:8], made[:8], strict=True)
        self.save_sheet([cell for scene, own in pairs for cell in (("scene", scene), (label, own))], name)


def _vae(found: _Findings) -> None:
    """How well the autoencoder reconstructs."""
    from ..embedded_world.evaluation import reconstructions

    made, values = reconstructions(found.model, found.images)
    found.figures["vae_psnr"] = found.add_psnr("autoencoder PSNR", values)
    found.save_pairs("decoded", made, "reconstructions.png")


def _text(found: _Findings) -> None:
    """Whether images drawn from captions show what the captions name; the judge is tried on true scenes first."""
    from ..embedded_world.evaluation import draw_captions, judge_images

    args, model = found.args, found.model
    own, _ = judge_images(found.judge, found.images, found.specs)
    decoded, _ = judge_images(found.judge, model.decode(model.encode(found.images)), found.specs)
    drawn = draw_captions(model, found.texts, guidance=args.guidance, steps=args.steps, seed=args.seed, report=report)
    shares, verdicts = judge_images(found.judge, drawn, found.specs)
    found.figures |= {"judge_on_scenes": own, "judge_on_decoded": decoded, "text_to_image": shares}
    found.add_shares(own, _JUDGED, "judge, true scenes: ")
    found.add_judged("text to image", shares)
    cells = _judged_cells(found.texts, drawn, verdicts)
    found.save_sheet(cells[:40], "text_to_image.png")
    wrong = [cell for cell, ok in zip(cells, verdicts, strict=True) if not ok]
    if wrong:
        found.save_sheet(wrong[:24], "text_to_image_wrong.png", columns=6)


def _judged_cells(texts: Sequence[str], images: Tensor, verdicts: Sequence[bool]) -> Cells:
    marks = ("" if ok else "WRONG: " for ok in verdicts)
    return [(f"{mark}{text}", image) for mark, text, image in zip(marks, texts, images, strict=True)]


def _attention(found: _Findings) -> None:
    """Where the nouns' untuned attention maps lie."""
    from ..embedded_world.evaluation import attention_statistics
    from ..embedded_world.scenes.dataset import held_out_seeds

    seeds = held_out_seeds(found.args.attention_count, seed=found.args.seed)
    statistics = attention_statistics(found.model, seeds, steps=found.args.steps, report=report)
    found.figures["attention"] = statistics
    for key, label in _ATTENTION.items():
        if key in statistics:  # of one scene there is no chance
            found.rows.append((label, f"{statistics[key]:.3f}" if key.startswith("iou") else f"{statistics[key]:.1%}"))


def _regions_model(args: argparse.Namespace, part: str) -> Path:
    """The folder of a part of the regions' models. Raises ValueError where there is none."""
    from ...assets import EMBEDDED

    folder: Path = (args.regions or EMBEDDED) / part
    if not (folder / _NEEDED[part]).is_file():
        lacking = folder / _NEEDED[part] if folder.is_dir() else folder
        raise ValueError(f"--regions: requires {lacking}; train it first, or leave {part} out of --parts")
    return folder


def _clip(found: _Findings) -> None:
    """Whether CLIP picks the right text, on the largest number of whole groups of scenes."""
    from ...region_core.encoders.clip import load_clip
    from ..embedded_world.evaluation import text_picks
    from ..embedded_world.scenes.dataset import held_out_seeds

    count = found.args.count // _AMONG * _AMONG
    clip = load_clip(_regions_model(found.args, "clip"))
    shares = text_picks(clip, held_out_seeds(count, seed=found.args.seed), among=_AMONG)
    found.figures["clip"] = {"scenes": count, "among": _AMONG, **shares}
    found.add_shares(shares, _CLIP, "CLIP picks ")


def _vit(found: _Findings) -> None:
    """Where the vision transformer's attention lies, beside random patches."""
    from ...locinv_core.imaging.visualize import heat_map
    from ...region_core.encoders.vit import load_vit
    from ..embedded_world.evaluation import attention_anchors
    from ..embedded_world.scenes.dataset import held_out_seeds

    vision = load_vit(_regions_model(found.args, "vit"))
    seeds = held_out_seeds(found.args.count, seed=found.args.seed)
    hits, chance, seen = attention_anchors(vision, seeds, count=_ANCHORS)
    found.figures["vit"] = {"anchors": _ANCHORS, "attention": asdict(hits), "random": asdict(chance)}
    cells: Cells = []
    for image, attention, anchors in seen[:16]:
        marked = image.clone()
        for row, column in (anchors * vision.patch).tolist():
            marked[:, row : row + vision.patch, column : column + vision.patch] *= 0.4
        cells += [("anchors, dark", marked), ("attention", heat_map(image, attention))]
    found.save_sheet(cells, "attention_anchors.png")
    for key, label in _VIT.items():
        shares = f"{getattr(hits, key):.1%} (random {getattr(chance, key):.1%})"
        found.rows.append((f"ViT anchors: {label}", shares))


def _amused(found: _Findings) -> None:
    """What aMUSEd's autoencoder reconstructs, and the images that it draws and edits."""
    from ..embedded_world.evaluation import codes_and_reconstructions, draw_with_amused, edit_with_amused, judge_images
    from ..embedded_world.scenes.spec import caption

    args, judge = found.args, found.judge
    folder = _regions_model(args, "amused")
    made, values, used = codes_and_reconstructions(folder / "vqvae", found.images)
    sampling = {"guidance": args.guidance, "steps": args.amused_steps}
    drawn = draw_with_amused(folder, found.texts, **sampling, seed=args.seed, report=report)
    rebuilt, _ = judge_images(judge, made, found.specs)
    shares, verdicts = judge_images(judge, drawn, found.specs)
    seeds = [spec.seed for spec in found.specs]
    edited, edited_specs = edit_with_amused(folder, seeds, seed=args.seed, report=report)
    edit_shares, edit_verdicts = judge_images(judge, edited, edited_specs)
    found.figures["amused"] = {
        **sampling,
        "psnr": found.add_psnr("aMUSEd's codes: PSNR", values),
        "codes_in_use": used,
        "judge_on_reconstructions": rebuilt,
        "text_to_image": shares,
        "edits": edit_shares,
    }
    found.rows.append(("aMUSEd's codes in use", str(used)))
    found.rows.append((f"aMUSEd's codes, judge: {_JUDGED['all']}", f"{rebuilt['all']:.1%}"))
    found.add_judged("aMUSEd text to image", shares)
    found.add_judged("aMUSEd's edits in the object's box", edit_shares)
    found.save_sheet(_judged_cells(found.texts, drawn, verdicts)[:40], "amused_drawn.png")
    found.save_pairs("codes", made, "amused_reconstructions.png")
    edits = _judged_cells([caption(spec) for spec in edited_specs], edited, edit_verdicts)
    pairs = list(zip(found.images, edits, strict=False))[:16]
    found.save_sheet([cell for scene, edit in pairs for cell in (("scene", scene), edit)], "amused_edits.png")
