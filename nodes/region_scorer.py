"""Score Regions and Learn Regions: which box of each anchor an edit with no mask should use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io, ui

from ..region_core.options import ESTIMATORS, PLAN_NAMES, Estimator
from .bridge import types as sockets
from .bridge.inputs import seed_input
from .bridge.tensors import image_of, mask_of
from .networks import CATEGORY

if TYPE_CHECKING:
    from torch import Tensor

    from ..region_core.editors.base import Editor
    from ..region_core.encoders.clip import ClipEncoder
    from ..region_core.search.plans import EditPlan
    from ..region_core.trainer import RegionScores
    from .bridge.managed_networks import Managed, ManagedEditor
    from .bridge.progress import NodeRun
    from .bridge.region_results import ProposedRegions


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
            inputs=[*_judging_inputs(), seed_input("The noise that edits start from.")],
            outputs=_regions_outputs(),
        )

    @classmethod
    def execute(
        cls,
        proposals: ProposedRegions,
        editor: ManagedEditor,
        clip: Managed[ClipEncoder],
        caption: str,
        prompt: str,
        plan: str,
        finalists: int,
        batch: int,
        seed: int,
        edit_prompt: str = "",
        place: Tensor | None = None,
    ) -> io.NodeOutput:
        from ..region_core.scoring import score_regions

        judged = JudgingWork(proposals, editor, clip, _plan(plan, finalists), _place(place))
        return judged.output(
            cls,
            lambda among, tracker: score_regions(
                proposals.image,
                proposals.proposals,
                among,
                clip.value,
                caption=caption,
                prompt=prompt,
                edit_prompt=edit_prompt.strip() or None,
                place=judged.place,
                seed=seed,
                plan=judged.plan,
                batch=batch,
                tracker=tracker,
            ),
        )


class LearnRegions(io.ComfyNode):
    """Learns which box of each anchor the edit should use."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLearnRegions",
            display_name="Learn Regions",
            category=CATEGORY,
            description="Learns, on this one image, which box around each anchor the edit should use: a"
            " small network is trained so that CLIP finds the edits as the prompt says.",
            is_output_node=True,
            inputs=[
                *_judging_inputs(),
                io.Combo.Input(
                    "estimator",
                    options=list(ESTIMATORS),
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
                seed_input("The network's first weights, its draws, and the noise that edits start from."),
            ],
            outputs=_regions_outputs(),
        )

    @classmethod
    def execute(
        cls,
        proposals: ProposedRegions,
        editor: ManagedEditor,
        clip: Managed[ClipEncoder],
        caption: str,
        prompt: str,
        plan: str,
        finalists: int,
        batch: int,
        estimator: Estimator,
        epochs: int,
        learning_rate: float,
        temperature: float,
        exploration: float,
        seed: int,
        edit_prompt: str = "",
        place: Tensor | None = None,
    ) -> io.NodeOutput:
        from ..region_core.trainer import learn_regions

        judged = JudgingWork(proposals, editor, clip, _plan(plan, finalists), _place(place))
        return judged.output(
            cls,
            lambda among, tracker: learn_regions(
                proposals.image,
                proposals.proposals,
                proposals.features,
                among,
                clip.value,
                caption=caption,
                prompt=prompt,
                edit_prompt=edit_prompt.strip() or None,
                place=judged.place,
                epochs=epochs,
                lr=learning_rate,
                estimator=estimator,
                temperature=temperature,
                exploration=exploration,
                seed=seed,
                plan=judged.plan,
                batch=batch,
                tracker=tracker,
            ),
        )


def _judging_inputs() -> list[io.Input]:
    return [
        sockets.Proposals.Input("proposals", tooltip="From Propose Anchors."),
        sockets.Editor.Input("editor", tooltip="What edits inside a box: one of the Editor nodes."),
        sockets.ClipEncoder.Input("clip", tooltip="From Load CLIP to Judge Edits."),
        io.String.Input(
            "caption",
            multiline=True,
            default="a yellow cat and a red star in a meadow",
            tooltip="What the image shows, for CLIP: best the object with what surrounds it.",
        ),
        io.String.Input(
            "prompt",
            multiline=True,
            default="a yellow fox and a red star in a meadow",
            tooltip="What it should show, for CLIP.",
        ),
        io.String.Input(
            "edit_prompt",
            default="",
            optional=True,
            tooltip="What the editor should draw inside a box: best the new object and what it stands"
            " on. Empty: the prompt.",
        ),
        io.Mask.Input(
            "place",
            optional=True,
            tooltip="White where the object to be edited is, of the image's size, as from Find Word: boxes"
            " that do not fit it are left out. Without it all boxes are judged, as published.",
        ),
        io.Combo.Input(
            "plan",
            options=list(PLAN_NAMES),
            default="preview",
            tooltip="How boxes are judged. 'full' edits in each; 'preview' with 3 steps; 'stand-in' sees one"
            " edit of the whole image through each; 'halving' and 'screened' drop the worse half on the"
            " way; 'shortlist' previews, and edits only the two boxes of least loss in full.",
        ),
        io.Int.Input(
            "finalists",
            default=0,
            min=0,
            max=64,
            tooltip="How many boxes are edited in full in the end: those of least loss. 0: every anchor's,"
            " or 2 with the plan 'shortlist'.",
        ),
        io.Int.Input("batch", default=8, min=1, max=64, tooltip="Boxes judged at a time."),
    ]


def _regions_outputs() -> list[io.Output]:
    return [
        sockets.Regions.Output(display_name="regions", tooltip="For Pick Best Edit."),
        io.Image.Output(display_name="image", tooltip="The anchors' boxes, the chosen ones drawn strongly."),
        io.Image.Output(display_name="loss", tooltip="How the loss fell while learning."),
    ]


def _place(mask: Tensor | None) -> Tensor | None:
    """(H, W) from 0 to 1, the masks of a batch joined."""
    return None if mask is None else mask_of(mask, "place")


def _plan(name: str, finalists: int) -> EditPlan:
    from ..region_core.search.plans import plan_named

    return plan_named(name).with_final_count(finalists or None)


@dataclass(frozen=True)
class JudgingWork:
    """What judging boxes needs, whether they are scored or learned."""

    proposals: ProposedRegions
    editor: ManagedEditor
    clip: Managed[ClipEncoder]
    plan: EditPlan
    place: Tensor | None
    """(H, W): where the object to be edited is; None where that was not said."""

    def output(self, cls: type[io.ComfyNode], judge: Callable[[Editor, NodeRun], RegionScores]) -> io.NodeOutput:
        """Run `judge` with the networks loaded, and show the boxes that it chose."""
        import torch

        from ..region_core.proposal_image import proposal_picture
        from ..region_core.visualize import loss_image
        from .bridge.managed_networks import EditorAmong, all_ready, load
        from .bridge.region_drawing import drawn
        from .bridge.region_results import JudgedRegions, region_rows, settled
        from .bridge.ui_payloads import saved

        patchers = [*self.editor.patchers, *self.clip.patchers]
        with all_ready(patchers):
            tracker = self._run()
            # A preview may have taken their place on the device.
            load(patchers)
            scores = judge(EditorAmong(self.editor.value, patchers), tracker)
        tracker.show_cost()
        with torch.inference_mode(False), torch.no_grad():
            kept = replace(scores, edits=settled(scores.edits, self.editor.value))
            boxes = proposal_picture(self.proposals.image, scores.proposals, scores.chosen)
            shown = image_of(drawn(boxes))
            loss = image_of(drawn(loss_image(scores.loss_curve)))
        told: dict[str, Any] = {"pinpoint_regions": region_rows(scores.proposals, scores)}
        told["pinpoint_picture"] = saved(self.proposals.image, cls)
        return io.NodeOutput(
            JudgedRegions(kept, self.clip, self.editor),
            shown,
            loss,
            ui={**ui.PreviewImage(shown, cls=cls).as_dict(), **told},
        )

    def _run(self) -> NodeRun:
        """A run whose bar goes with the edits that the plan needs, without those of the finalists."""
        from ..region_core.search.box_prior import box_prior
        from ..region_core.search.budget import forecast
        from .bridge.region_progress import metered_run

        plan, boxes, editor = self.plan, self.proposals.proposals, self.editor
        in_play = box_prior(boxes, self.place).in_play
        in_the_end = min(boxes.k, plan.final_count or boxes.k) * editor.cost(None)
        expected = forecast(plan, boxes, editor.cost, learned=boxes.m > 1, in_play=in_play)
        own = plan.rounds[-1]
        if own.steps is not None or own.stand_in or boxes.m == 1:
            expected -= in_the_end
        return metered_run(expected, editor.preview(self.proposals.image))
