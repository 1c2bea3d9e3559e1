"""Score Regions, Learn Regions and Pick Best Edit: which box of each anchor an edit uses, and which edit is best."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io, ui

from ..region_core.options import ESTIMATORS, PLAN_NAMES
from .bridge import types
from .bridge.inputs import SOURCE, TARGET, choice, number, seed_input, text, whole
from .bridge.tensors import from_comfy_mask, to_comfy_image

if TYPE_CHECKING:
    from torch import Tensor

    from ..region_core.editors.base import Editor
    from ..region_core.encoders.clip import ClipEncoder
    from ..region_core.search.budget import BudgetedSearch
    from ..region_core.trainer import LearningSettings, RegionScores, RegionTask
    from .bridge.memory import Managed, ManagedEditor
    from .bridge.payloads import JudgedRegions, ProposedRegions
    from .bridge.progress import NodeTracker

CATEGORY = "Pinpoint/regions"


class ScoreRegions(io.ComfyNode):
    """Scores every box, with nothing learned."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointScoreRegions",
            display_name="Score Regions",
            category=CATEGORY,
            description="Edits in each box, scores the edits with CLIP, and takes each anchor's best box;"
            " nothing is learned.",
            is_output_node=True,
            inputs=[*_judging_inputs(), seed_input("The noise that edits start from.")],
            outputs=_regions_outputs(),
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        from ..region_core.trainer import score_regions

        work = JudgingWork.of(**given)
        boxes = work.proposals.proposals

        def judge(editor: Editor, tracker: NodeTracker) -> RegionScores:
            parts = work.task, boxes, editor, work.clip.value, work.settings
            return score_regions(*parts, search=work.search, tracker=tracker)

        return work.output(cls, judge)


class LearnRegions(io.ComfyNode):
    """Learns which box of each anchor the edit should use."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLearnRegions",
            display_name="Learn Regions",
            category=CATEGORY,
            description="Learns, on this one image, which box around each anchor the edit should use: a"
            " small network is trained so that CLIP scores the edits as close to the prompt.",
            is_output_node=True,
            is_experimental=True,
            inputs=[
                *_judging_inputs(),
                choice(
                    "estimator",
                    ESTIMATORS,
                    "How the network learns from boxes: 'expected' from all that were judged,"
                    " 'straight-through' from boxes drawn by Gumbel-softmax, as published.",
                    "expected",
                ),
                whole("epochs", 5, (1, 100), "Epochs of ten steps each."),
                number("learning_rate", 0.003, (1e-05, 1.0, 0.0001), "Adam's learning rate.", round=False),
                number(
                    "temperature",
                    1.0,
                    (0.01, 100.0, 0.05),
                    "Of Gumbel-softmax, for 'straight-through' alone: lower draws more boldly.",
                ),
                number(
                    "exploration",
                    1.0,
                    (0.0, 10.0, 0.1),
                    "For 'expected' alone: how long undecided anchors are rewarded. 0 as published,"
                    " where all anchors may run to the same choice.",
                ),
                seed_input("The network's first weights, its draws, and the noise that edits start from."),
            ],
            outputs=_regions_outputs(),
        )

    @classmethod
    def execute(cls, learning_rate: float, **given: Any) -> io.NodeOutput:
        from ..region_core.trainer import learn_regions

        work = JudgingWork.of(lr=learning_rate, **given)
        boxes, features = work.proposals.proposals, work.proposals.features

        def judge(editor: Editor, tracker: NodeTracker) -> RegionScores:
            parts = work.task, boxes, features, editor, work.clip.value, work.settings
            return learn_regions(*parts, search=work.search, tracker=tracker)

        return work.output(cls, judge)


class PickBestEdit(io.ComfyNode):
    """Edits in each anchor's box, ranks the edits, and takes the best or another one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPickBestEdit",
            display_name="Pick Best Edit",
            category=CATEGORY,
            description="Edits in the box of each anchor, ranks the edits by how well they fit the prompt and"
            " the image, and takes the best, or another that you choose.",
            is_output_node=True,
            inputs=[
                types.Regions.Input("regions", tooltip="From Learn Regions or Score Regions."),
                whole(
                    "choice",
                    0,
                    (0, 64),
                    "0 takes the best; another number the edit of that anchor, as numbered in the"
                    " images. Changing it costs nothing, but for a preview, which is edited in full.",
                ),
                number(
                    "prompt_weight",
                    2.0,
                    (0.0, 10.0, 0.1),
                    "Weight α of the text-image similarity (Learnable Regions Eq. 7).",
                ),
                number(
                    "image_weight",
                    1.0,
                    (0.0, 10.0, 0.1),
                    "Weight β of the image-image similarity (Learnable Regions Eq. 7).",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The edit."),
                io.Mask.Output(display_name="mask", tooltip="Its box: what lies outside is the image's own."),
                io.Image.Output(display_name="candidates", tooltip="The edits of all anchors, best first."),
                types.BoundingBox.Output(display_name="box", tooltip="Its box."),
                io.String.Output(display_name="scores", tooltip="All candidates with their scores, as JSON."),
            ],
        )

    @classmethod
    def execute(cls, regions: JudgedRegions, choice: int, prompt_weight: float, image_weight: float) -> io.NodeOutput:
        import torch

        from ..region_core.proposals import box_masks, pixel_box
        from ..region_core.visualize import candidates_image
        from .bridge.memory import EditorAmong, all_ready, load
        from .bridge.payloads import check_choice, expected_cost, finished, picked
        from .bridge.progress import metered_tracker
        from .bridge.ui_payloads import bounding_box, candidate_rows, saved

        scores, editor = regions.scores, regions.editor
        check_choice(choice, scores.proposals.k)
        patchers = [*editor.patchers, *regions.clip.patchers]
        with all_ready(patchers):
            known = regions.has_ranked(prompt_weight, image_weight)
            preview = None if known else editor.preview(scores.edits.image)
            # A preview may have taken their memory on the device.
            load(patchers)
            tracker = metered_tracker(expected_cost(scores, editor.value.cost), preview)
            found = regions.ranked(prompt_weight, image_weight, EditorAmong(editor.value, patchers), tracker)
            edits = found.scores.edits
            candidate = finished(picked(found, choice), edits, tracker)
            sheet = to_comfy_image(candidates_image(edits.image, found.candidates))
            every = to_comfy_image(torch.cat([one.image for one in found.candidates]))
            box = pixel_box(candidate.box, edits.size)
            mask = box_masks([box], edits.size)[:, 0]
        tracker.show_cost()
        rows = candidate_rows(found.candidates)
        finals = [candidate if one.index == candidate.index else one for one in found.candidates]
        told: dict[str, Any] = {"pinpoint_candidates": rows, "pinpoint_choice": [candidate.index + 1]}
        told["pinpoint_image"] = saved(edits.image, cls)
        told["pinpoint_edits"] = saved(torch.cat([one.image for one in finals]), cls)
        return io.NodeOutput(
            to_comfy_image(candidate.image),
            mask,
            every,
            bounding_box(box),
            json.dumps(rows, indent=1),
            ui={**ui.PreviewImage(sheet, cls=cls).as_dict(), **told},
        )


NODES = [ScoreRegions, LearnRegions, PickBestEdit]


def _judging_inputs() -> list[io.Input]:
    return [
        types.Proposals.Input("proposals", tooltip="From Propose Anchors."),
        types.Editor.Input("editor", tooltip="What edits inside a box: one of the Editor nodes."),
        types.ClipEncoder.Input("clip", tooltip="From Load CLIP to Judge Edits."),
        text(
            "caption", SOURCE, "What the image shows, for CLIP: best the object with its surroundings.", multiline=True
        ),
        text("prompt", TARGET, "What it should show, for CLIP.", multiline=True),
        text(
            "edit_prompt",
            "",
            "What the editor should draw inside a box: best the new object and what it stands on. Empty: the prompt.",
            optional=True,
        ),
        io.Mask.Input(
            "region_mask",
            optional=True,
            tooltip="White where the object to be edited is, as from Find Word: boxes that do not fit it are left out.",
        ),
        choice(
            "plan",
            PLAN_NAMES,
            "How boxes are judged. 'full' edits in each; 'preview' with 3 steps; 'stand-in' crops one"
            " edit of the whole image to each; 'halving' and 'screened' drop the worse half on the"
            " way; 'shortlist' previews, and edits only the two boxes of least loss in full.",
            "preview",
        ),
        whole(
            "final_count",
            0,
            (0, 64),
            "How many boxes are edited in full in the end: those of least loss. 0: every anchor's,"
            " or 2 with the plan 'shortlist'.",
        ),
        whole("batch", 8, (1, 64), "Boxes judged at a time."),
    ]


def _regions_outputs() -> list[io.Output]:
    return [
        types.Regions.Output(display_name="regions", tooltip="For Pick Best Edit."),
        io.Image.Output(display_name="image", tooltip="The anchors' boxes, the chosen ones drawn strongly."),
        io.Image.Output(display_name="loss", tooltip="How the loss fell while learning."),
    ]


@dataclass(frozen=True)
class JudgingWork:
    """What judging boxes needs, whether they are scored or learned."""

    proposals: ProposedRegions
    editor: ManagedEditor
    clip: Managed[ClipEncoder]
    task: RegionTask
    settings: LearningSettings
    search: BudgetedSearch

    @classmethod
    def of(
        cls,
        proposals: ProposedRegions,
        editor: ManagedEditor,
        clip: Managed[ClipEncoder],
        caption: str,
        prompt: str,
        *,
        plan: str,
        final_count: int,
        edit_prompt: str = "",
        region_mask: Tensor | None = None,
        **settings: Any,
    ) -> JudgingWork:
        """The work that a node's inputs describe."""
        from ..region_core.search.budget import BudgetedSearch
        from ..region_core.search.plans import plan_named
        from ..region_core.trainer import LearningSettings, RegionTask

        mask = None if region_mask is None else from_comfy_mask(region_mask, "region_mask")
        search = BudgetedSearch(plan_named(plan).with_final_count(final_count or None), mask)
        task = RegionTask(proposals.image, caption, prompt, edit_prompt.strip() or None)
        return cls(proposals, editor, clip, task, LearningSettings(**settings), search)

    def output(self, cls: type[io.ComfyNode], judge: Callable[[Editor, NodeTracker], RegionScores]) -> io.NodeOutput:
        """Run `judge` with the networks loaded, and show the boxes that it chose."""
        import torch

        from ..region_core.visualize import loss_image, proposals_image
        from .bridge.memory import EditorAmong, all_ready, load
        from .bridge.payloads import JudgedRegions, settled
        from .bridge.ui_payloads import region_rows, saved

        patchers = [*self.editor.patchers, *self.clip.patchers]
        with all_ready(patchers):
            tracker = self._tracker()
            # A preview may have taken their memory on the device.
            load(patchers)
            scores = judge(EditorAmong(self.editor.value, patchers), tracker)
        tracker.show_cost()
        with torch.inference_mode(False), torch.no_grad():
            kept = replace(scores, edits=settled(scores.edits, self.editor.value))
            shown = to_comfy_image(proposals_image(self.proposals.image, scores.proposals, scores.chosen))
            loss = to_comfy_image(loss_image(scores.loss_curve))
        told: dict[str, Any] = {"pinpoint_regions": region_rows(scores.proposals, scores)}
        told["pinpoint_image"] = saved(self.proposals.image, cls)
        payload = {**ui.PreviewImage(shown, cls=cls).as_dict(), **told}
        return io.NodeOutput(JudgedRegions(kept, self.clip, self.editor), shown, loss, ui=payload)

    def _tracker(self) -> NodeTracker:
        """A tracker whose bar goes with the edits that the plan needs, without those in full at the end."""
        from .bridge.progress import metered_tracker

        expected = self.search.judging_cost(self.proposals.proposals, self.editor.value.cost)
        return metered_tracker(expected, self.editor.preview(self.proposals.image))
