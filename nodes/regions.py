"""Propose Anchors, Score Regions, Learn Regions and Pick Best Edit: editing with no mask."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from comfy_api.latest import io, ui

from . import sockets
from .networks import CATEGORY
from .tensors import image_of, one_picture

if TYPE_CHECKING:
    from torch import Tensor

    from ..region_core.budget import EditPlan
    from ..region_core.features import VisionFeatures
    from ..region_core.guidance import Guide
    from ..region_core.learning import RegionScores
    from .managed_networks import Managed, ManagedEditor
    from .progress import NodeRun
    from .region_results import JudgedRegions, ProposedRegions

# Written out, so that the pack loads without torch-heavy libraries; a test keeps them in step with the core.
SIZES = ["learned", "random"]
ESTIMATORS = ["expected", "straight-through"]
PLANS = ["screened", "preview", "halving", "stand-in", "full"]
_MOST_SEED = 2**63 - 1


class ProposeAnchors(io.ComfyNode):
    """Draws boxes around what stands out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointProposeAnchors",
            display_name="Propose Anchors",
            category=CATEGORY,
            description="Finds the points that stand out in a picture and draws boxes of growing size around"
            " each.",
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The picture to edit, one at a time."),
                sockets.Vision.Input("vit", tooltip="From Load ViT."),
                io.Combo.Input(
                    "anchors",
                    options=["dino", "random"],
                    default="dino",
                    tooltip="'dino' takes the points that the ViT attends to most; 'random' any, to compare.",
                ),
                io.Int.Input("k", default=8, min=1, max=64, tooltip="How many anchors."),
                io.Int.Input("m", default=7, min=1, max=32, tooltip="How many boxes around each of them."),
                io.Float.Input(
                    "min_distance",
                    default=0.0,
                    min=0.0,
                    max=64.0,
                    step=0.5,
                    tooltip="How many of the ViT's patches lie between any two anchors at least. 0 as"
                    " published, where all may lie on one thing.",
                ),
                io.Combo.Input(
                    "sizes",
                    options=SIZES,
                    default="learned",
                    tooltip="'learned': squares of growing size to choose from; 'random': one box of any size"
                    " an anchor, to compare.",
                ),
                _seed_input("Draws what is random."),
            ],
            outputs=[
                sockets.Proposals.Output(
                    display_name="proposals", tooltip="For Learn Regions or Score Regions."
                ),
                io.Image.Output(display_name="image", tooltip="All anchors and boxes on the picture."),
                io.Mask.Output(
                    display_name="attention", tooltip="What the ViT attends to, as a share of its maximum."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        vit: Managed[VisionFeatures],
        anchors: str,
        k: int,
        m: int,
        min_distance: float,
        sizes: Literal["learned", "random"],
        seed: int,
    ) -> io.NodeOutput:
        from dataclasses import replace

        from ..region_core.anchors import dino_anchors, random_anchors
        from ..region_core.proposal_picture import proposal_picture
        from ..region_core.proposals import propose
        from .region_drawing import attention_mask, drawn
        from .region_results import ProposedRegions

        picture = one_picture(image)
        with vit.ready() as vision:
            seen = vision.look(picture)
            seen = replace(seen, attention=seen.attention.cpu(), features=seen.features.cpu())
            if anchors == "dino":
                points = dino_anchors(seen.attention, k, min_distance=min_distance)
            else:
                points = random_anchors(seen.grid, k, seed)
            proposals = propose(points, seen.grid, seen.patch, seen.size, m, sizes, seed)
            shown = image_of(drawn(proposal_picture(picture, proposals)))
            mask = attention_mask(seen.attention, seen.patch, seen.size)
        return io.NodeOutput(
            ProposedRegions(picture, seen, proposals), shown, mask, ui=ui.PreviewImage(shown, cls=cls)
        )


class ScoreRegions(io.ComfyNode):
    """Judges every box, with nothing learned."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointScoreRegions",
            display_name="Score Regions",
            category=CATEGORY,
            description="Edits in each box, has CLIP judge the edits, and takes each anchor's best box;"
            " nothing is learned.",
            is_output_node=True,
            inputs=[*_judging_inputs(), _seed_input("The noise that edits start from.")],
            outputs=_regions_outputs(),
        )

    @classmethod
    def execute(
        cls,
        proposals: ProposedRegions,
        editor: ManagedEditor,
        clip: Managed[Guide],
        caption: str,
        prompt: str,
        plan: str,
        finalists: int,
        batch: int,
        seed: int,
    ) -> io.NodeOutput:
        from ..region_core.scoring import score_regions
        from .managed_networks import EditorAmong, all_ready

        chosen = _plan(plan, finalists)
        patchers = [*editor.patchers, *clip.patchers]
        with all_ready(patchers):
            run = _run(chosen, proposals, editor)
            scores = score_regions(
                proposals.image,
                proposals.proposals,
                EditorAmong(editor.value, patchers),
                clip.value,
                caption=caption,
                prompt=prompt,
                seed=seed,
                plan=chosen,
                batch=batch,
                run=run,
            )
        return _judged(cls, proposals, scores, editor, clip, run)


class LearnRegions(io.ComfyNode):
    """Learns which box of each anchor the edit should use."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLearnRegions",
            display_name="Learn Regions",
            category=CATEGORY,
            description="Learns, on this one picture, which box around each anchor the edit should use: a"
            " small network is trained so that CLIP finds the edits as the prompt says.",
            is_output_node=True,
            inputs=[
                *_judging_inputs(),
                io.Combo.Input(
                    "estimator",
                    options=ESTIMATORS,
                    default="expected",
                    tooltip="How the network learns from boxes: 'expected' from all that were judged,"
                    " 'straight-through' from boxes drawn by Gumbel-softmax, as published.",
                ),
                io.Int.Input("epochs", default=5, min=1, max=100, tooltip="Epochs of ten steps each."),
                io.Float.Input(
                    "learning_rate",
                    default=0.003,
                    min=0.00001,
                    max=1.0,
                    step=0.0001,
                    round=False,
                    tooltip="Adam's learning rate.",
                ),
                io.Float.Input(
                    "temperature",
                    default=1.0,
                    min=0.01,
                    max=100.0,
                    step=0.05,
                    tooltip="Of Gumbel-softmax, for 'straight-through' alone: lower draws more boldly.",
                ),
                io.Float.Input(
                    "exploration",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    tooltip="For 'expected' alone: how long undecided anchors are rewarded. 0 as published,"
                    " where all anchors may run to the same choice.",
                ),
                _seed_input("The network's first weights, its draws, and the noise that edits start from."),
            ],
            outputs=_regions_outputs(),
        )

    @classmethod
    def execute(
        cls,
        proposals: ProposedRegions,
        editor: ManagedEditor,
        clip: Managed[Guide],
        caption: str,
        prompt: str,
        plan: str,
        finalists: int,
        batch: int,
        estimator: Literal["expected", "straight-through"],
        epochs: int,
        learning_rate: float,
        temperature: float,
        exploration: float,
        seed: int,
    ) -> io.NodeOutput:
        from ..region_core.learning import learn_regions
        from .managed_networks import EditorAmong, all_ready

        chosen = _plan(plan, finalists)
        patchers = [*editor.patchers, *clip.patchers]
        with all_ready(patchers):
            run = _run(chosen, proposals, editor)
            scores = learn_regions(
                proposals.image,
                proposals.proposals,
                proposals.features,
                EditorAmong(editor.value, patchers),
                clip.value,
                caption=caption,
                prompt=prompt,
                epochs=epochs,
                lr=learning_rate,
                estimator=estimator,
                temperature=temperature,
                exploration=exploration,
                seed=seed,
                plan=chosen,
                batch=batch,
                run=run,
            )
        return _judged(cls, proposals, scores, editor, clip, run)


class PickBestEdit(io.ComfyNode):
    """Edits in each anchor's box, ranks the edits, and takes the best or the one that is asked for."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPickBestEdit",
            display_name="Pick Best Edit",
            category=CATEGORY,
            description="Edits in the box of each anchor, ranks the edits by how well they fit the prompt and"
            " the picture, and takes the best, or another if you say so.",
            is_output_node=True,
            inputs=[
                sockets.Regions.Input("regions", tooltip="From Learn Regions or Score Regions."),
                io.Int.Input(
                    "choice",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="0 takes the best; another number the edit of that anchor, as numbered in the"
                    " pictures. Changing it costs nothing.",
                ),
                io.Float.Input(
                    "prompt_weight",
                    default=2.0,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    tooltip="What it counts that an edit shows the prompt.",
                ),
                io.Float.Input(
                    "picture_weight",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    tooltip="What it counts that an edit is like the picture.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The edit."),
                io.Mask.Output(
                    display_name="mask", tooltip="Its box: what lies outside is the picture's own."
                ),
                io.Image.Output(display_name="candidates", tooltip="The edits of all anchors, best first."),
                sockets.BoundingBox.Output(display_name="box", tooltip="Its box."),
                io.String.Output(display_name="scores", tooltip="All candidates with their scores, as JSON."),
            ],
        )

    @classmethod
    def execute(
        cls, regions: JudgedRegions, choice: int, prompt_weight: float, picture_weight: float
    ) -> io.NodeOutput:
        import torch

        from ..region_core.pictures import candidates_picture
        from ..region_core.proposals import box_masks, pixel_box
        from .managed_networks import EditorAmong, all_ready
        from .region_drawing import bounding_box, drawn
        from .region_progress import metered_run
        from .region_results import candidate_rows, check_choice, expected_cost, finished, picked

        scores, editor = regions.scores, regions.editor
        check_choice(choice, scores.proposals.k)
        patchers = [*editor.patchers, *regions.guide.patchers]
        with all_ready(patchers):
            known = regions.has_ranked(prompt_weight, picture_weight)
            preview = None if known else editor.preview(scores.edits.image)
            run = metered_run(expected_cost(scores, editor.cost), preview)
            found = regions.ranked(prompt_weight, picture_weight, EditorAmong(editor.value, patchers), run)
            edits = found.scores.edits
            candidate = finished(picked(found, choice), edits, run)
            sheet = image_of(drawn(candidates_picture(edits.image, found.candidates)))
            every = image_of(torch.cat([one.image for one in found.candidates]))
            mask = box_masks([pixel_box(candidate.box, edits.size)], edits.size)[:, 0]
        run.show_cost()
        rows = candidate_rows(found.candidates)
        told = {"pinpoint_candidates": rows, "pinpoint_choice": [candidate.index + 1]}
        return io.NodeOutput(
            image_of(candidate.image),
            mask,
            every,
            bounding_box(candidate.box),
            json.dumps(rows, indent=1),
            ui={**ui.PreviewImage(sheet, cls=cls).as_dict(), **told},
        )


def _judging_inputs() -> list[io.Input]:
    return [
        sockets.Proposals.Input("proposals", tooltip="From Propose Anchors."),
        sockets.Editor.Input("editor", tooltip="What edits inside a box: one of the Editor nodes."),
        sockets.Guide.Input("clip", tooltip="From Load CLIP to Judge Edits."),
        io.String.Input(
            "caption",
            multiline=True,
            default="a yellow cat",
            tooltip="What the picture shows where it is to change.",
        ),
        io.String.Input(
            "prompt", multiline=True, default="a yellow fox", tooltip="What it should show there instead."
        ),
        io.Combo.Input(
            "plan",
            options=PLANS,
            default="screened",
            tooltip="How boxes are judged. 'full' edits in each; 'preview' with 3 steps; 'stand-in' sees one"
            " edit of the whole picture through each; 'halving' and 'screened' drop the worse half on the"
            " way.",
        ),
        io.Int.Input(
            "finalists",
            default=0,
            min=0,
            max=64,
            tooltip="How many anchors are edited in full in the end: those that promise most. 0: all.",
        ),
        io.Int.Input("batch", default=8, min=1, max=64, tooltip="Boxes judged at a time."),
    ]


def _regions_outputs() -> list[io.Output]:
    return [
        sockets.Regions.Output(display_name="regions", tooltip="For Pick Best Edit."),
        io.Image.Output(display_name="image", tooltip="The anchors' boxes, the chosen ones drawn strongly."),
        io.Image.Output(display_name="loss", tooltip="How the loss fell while learning."),
    ]


def _seed_input(tooltip: str) -> io.Input:
    return io.Int.Input("seed", default=0, min=0, max=_MOST_SEED, tooltip=tooltip)


def _plan(name: str, finalists: int) -> EditPlan:
    from ..region_core.budget import plan_named

    return plan_named(name).with_finalists(finalists or None)


def _run(plan: EditPlan, proposals: ProposedRegions, editor: ManagedEditor) -> NodeRun:
    """A run whose bar goes with the edits that the plan needs, without those of the finalists."""
    from ..region_core.budget import forecast
    from .region_progress import metered_run

    boxes = proposals.proposals
    in_the_end = min(boxes.k, plan.finalists or boxes.k) * editor.cost(None)
    expected = forecast(plan, boxes, editor.cost, learned=boxes.m > 1)
    own = plan.rounds[-1]
    if own.steps is not None or own.stand_in or boxes.m == 1:
        expected -= in_the_end
    return metered_run(expected, editor.preview(proposals.image))


def _judged(
    cls: type[io.ComfyNode],
    proposals: ProposedRegions,
    scores: RegionScores,
    editor: ManagedEditor,
    clip: Managed[Guide],
    run: NodeRun,
) -> io.NodeOutput:
    from dataclasses import replace

    import torch

    from ..region_core.pictures import loss_picture
    from ..region_core.proposal_picture import proposal_picture
    from .region_drawing import drawn
    from .region_results import JudgedRegions, region_rows, settled

    run.show_cost()
    with torch.inference_mode(False), torch.no_grad():
        kept = replace(scores, edits=settled(scores.edits, editor.value))
        shown = image_of(drawn(proposal_picture(proposals.image, scores.proposals, scores.chosen)))
        loss = image_of(drawn(loss_picture(scores.loss_curve)))
    told: dict[str, Any] = {"pinpoint_regions": region_rows(scores.proposals, scores)}
    return io.NodeOutput(
        JudgedRegions(kept, clip, editor),
        shown,
        loss,
        ui={**ui.PreviewImage(shown, cls=cls).as_dict(), **told},
    )
