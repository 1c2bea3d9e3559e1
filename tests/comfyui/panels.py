"""The pack's panels as an artist meets them on the page, and workflows to meet them in."""

from __future__ import annotations

from typing import Any

from pinpoint.tests.comfyui.browser import IMAGE, CanvasPage
from pinpoint.tests.comfyui.comfyui_server import ROOT
from pinpoint.tests.comfyui.prompts import SOURCE
from pinpoint.tests.comfyui.workflow_files import Canvas, load

PRIOR = "PinpointPriorFromBoxes"
SIDE = 128
"""Pixels of the sample image, which is square."""
CAT, STAR = "cat=11,30,57,73", "star=74,48,119,91"
LEARN, PICK = "PinpointLearnRegions", "PinpointPickBestEdit"
ANCHORS = 4


def box_workflow(*, loaded: bool) -> dict:
    """Word swap with a box in two steps; `loaded` puts Load Image in the place of the sample."""
    workflow = load(ROOT / "workflows" / "word_swap_with_a_box.json")
    for node in workflow["nodes"]:
        if node["type"] == "PinpointLocInv":
            node["widgets_values"][0] = 2
        if loaded and node["type"] == "PinpointSamplePicture":
            node |= {
                "type": "LoadImage",
                "widgets_values": [IMAGE.name, "image"],
                "inputs": [],
                "outputs": node["outputs"][:2],
            }
    return workflow


class Editor:
    """The box editor of the page's only Prior from Boxes, in the image's pixels."""

    def __init__(self, canvas: CanvasPage) -> None:
        self.canvas, self.page = canvas, canvas.page
        self.panel = self.page.locator(".pp-boxes-editor")
        self.stage = self.panel.locator(".pp-stage")

    def at(self, x: float, y: float) -> tuple[float, float]:
        frame = self.stage.bounding_box()
        return frame["x"] + x / SIDE * frame["width"], frame["y"] + y / SIDE * frame["height"]

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*self.at(*start))
        mouse.down()
        mouse.move(*self.at((start[0] + end[0]) / 2, (start[1] + end[1]) / 2))
        mouse.move(*self.at(*end))
        mouse.up()

    @property
    def lines(self) -> list[str]:
        return self.canvas.value(PRIOR, "boxes").split("\n")

    def last(self) -> tuple[str, list[float]]:
        word, _, sides = self.lines[-1].partition("=")
        return word, [float(side) for side in sides.split(",")]

    def wait_for(self, lines: list[str]) -> None:
        self.page.wait_for_function(
            "(text) => app.graph._nodes.find(({ type }) => type === 'PinpointPriorFromBoxes')"
            "?.widgets[0].value === text",
            arg="\n".join(lines),
        )

    def shows(self, boxes: int) -> None:
        # An undone change makes the node anew, and its image has to load.
        self.page.wait_for_function(
            "(count) => document.querySelectorAll('.pp-boxes-editor .pp-box').length === count", arg=boxes
        )

    def says(self) -> str:
        return self.panel.locator(".pp-status").inner_text()


def near(sides: list[float], wanted: list[float]) -> bool:
    # A pixel of the screen may be half a pixel of the image.
    return all(abs(side - want) <= 1 for side, want in zip(sides, wanted, strict=True))


def region_workflow(nodes_info: dict[str, Any], place: tuple[int, int, int, int] | None = None) -> dict:
    """The sample's cat to a fox with no mask, in few steps, with the tests' tiny ViT and CLIP.

    place: x0, y0, x1, y1 of where the edit belongs; LocInv edits there.
    """
    canvas = Canvas(nodes_info)
    canvas.column("1  Image and where it could change")
    sample = canvas.add("PinpointSamplePicture", sample=SOURCE)
    model = canvas.add("PinpointLoadEditModel")
    seeing = canvas.add("PinpointLoadViT", name="tiny_vit")
    anchors = canvas.add("PinpointProposeAnchors", image=(sample, 0), vit=(seeing, 0), k=ANCHORS, m=3, min_distance=4.0)
    canvas.column("2  Which box")
    judge = canvas.add("PinpointLoadCLIP", name="tiny_clip")
    placed: dict[str, Any] = {}
    if place is None:
        editor = canvas.add("PinpointEditorBlended", model=(model, 0), steps=4, batch=4)
    else:
        x0, y0, x1, y1 = place
        black = canvas.add("SolidMask", value=0.0, width=128, height=128)
        white = canvas.add("SolidMask", value=1.0, width=x1 - x0, height=y1 - y0)
        inside = canvas.add("MaskComposite", destination=(black, 0), source=(white, 0), x=x0, y=y0, operation="add")
        placed = {"region_mask": (inside, 0), "caption": SOURCE, "prompt": SOURCE.replace("cat", "fox")}
        editor = canvas.add("PinpointEditorLocInv", model=(model, 0), source=SOURCE, steps=4)
    learned = canvas.add(
        LEARN, proposals=(anchors, 0), editor=(editor, 0), clip=(judge, 0), plan="preview", epochs=1, **placed
    )
    canvas.column("3  Which edit")
    pick = canvas.add(PICK, regions=(learned, 0))
    canvas.add("PreviewImage", images=(pick, 0))
    return canvas.finished("regions in the browser")


class Chooser:
    """A panel with the anchors' boxes, on the only node of a kind."""

    def __init__(self, canvas: CanvasPage, kind: str) -> None:
        self.canvas, self.page = canvas, canvas.page
        canvas.show(kind)
        # Both nodes have such a panel, and both are on the page.
        self.panel = self.page.locator(".pp-regions").nth((LEARN, PICK).index(kind))
        self.panel.wait_for()

    def box(self, anchor: int) -> Any:
        return self.panel.locator(f".pp-box[data-word='{anchor}']")

    def click(self, anchor: int) -> None:
        # Its name is over every other box.
        self.box(anchor).locator(".pp-label").click()

    @property
    def choice(self) -> int:
        return self.canvas.value(PICK, "choice")

    @property
    def pressed(self) -> list[str]:
        return self.panel.locator(".pp-chip[aria-pressed=true]").all_inner_texts()

    def says(self) -> str:
        return self.panel.locator(".pp-status").inner_text()
