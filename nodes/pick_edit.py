"""Pick Best Edit: the anchors' edits, ranked, and one of them taken."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io, ui

from .bridge import types as sockets
from .bridge.tensors import image_of
from .networks import CATEGORY

if TYPE_CHECKING:
    from .bridge.region_results import JudgedRegions


class PickBestEdit(io.ComfyNode):
    """Edits in each anchor's box, ranks the edits, and takes the best or the one that is asked for."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPickBestEdit",
            display_name="Pick Best Edit",
            category=CATEGORY,
            description="Edits in the box of each anchor, ranks the edits by how well they fit the prompt and"
            " the image, and takes the best, or another if you say so.",
            is_output_node=True,
            inputs=[
                sockets.Regions.Input("regions", tooltip="From Learn Regions or Score Regions."),
                io.Int.Input(
                    "choice",
                    default=0,
                    min=0,
                    max=64,
                    tooltip="0 takes the best; another number the edit of that anchor, as numbered in the"
                    " images. Changing it costs nothing, but for a preview, which is edited in full.",
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
                    "image_weight",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    tooltip="What it counts that an edit is like the image.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The edit."),
                io.Mask.Output(display_name="mask", tooltip="Its box: what lies outside is the image's own."),
                io.Image.Output(display_name="candidates", tooltip="The edits of all anchors, best first."),
                sockets.BoundingBox.Output(display_name="box", tooltip="Its box."),
                io.String.Output(display_name="scores", tooltip="All candidates with their scores, as JSON."),
            ],
        )

    @classmethod
    def execute(cls, regions: JudgedRegions, choice: int, prompt_weight: float, image_weight: float) -> io.NodeOutput:
        import torch

        from ..region_core.proposals import box_masks, pixel_box
        from ..region_core.visualize import candidates_image
        from .bridge.managed_networks import EditorAmong, all_ready, load
        from .bridge.region_drawing import bounding_box, drawn
        from .bridge.region_progress import metered_run
        from .bridge.region_results import candidate_rows, check_choice, expected_cost, finished, picked
        from .bridge.ui_payloads import saved

        scores, editor = regions.scores, regions.editor
        check_choice(choice, scores.proposals.k)
        patchers = [*editor.patchers, *regions.guide.patchers]
        with all_ready(patchers):
            known = regions.has_ranked(prompt_weight, image_weight)
            preview = None if known else editor.preview(scores.edits.image)
            # A preview may have taken their place on the device.
            load(patchers)
            tracker = metered_run(expected_cost(scores, editor.cost), preview)
            found = regions.ranked(prompt_weight, image_weight, EditorAmong(editor.value, patchers), tracker)
            edits = found.scores.edits
            candidate = finished(picked(found, choice), edits, tracker)
            sheet = image_of(drawn(candidates_image(edits.image, found.candidates)))
            every = image_of(torch.cat([one.image for one in found.candidates]))
            box = pixel_box(candidate.box, edits.size)
            mask = box_masks([box], edits.size)[:, 0]
        tracker.show_cost()
        rows = candidate_rows(found.candidates)
        as_taken = [candidate if one.index == candidate.index else one for one in found.candidates]
        told: dict[str, Any] = {"pinpoint_candidates": rows, "pinpoint_choice": [candidate.index + 1]}
        told["pinpoint_picture"] = saved(edits.image, cls)
        told["pinpoint_edits"] = saved(torch.cat([one.image for one in as_taken]), cls)
        return io.NodeOutput(
            image_of(candidate.image),
            mask,
            every,
            bounding_box(box),
            json.dumps(rows, indent=1),
            ui={**ui.PreviewImage(sheet, cls=cls).as_dict(), **told},
        )
