"""Workflow files in the format of ComfyUI's frontend: laid out from a description, and read as prompts."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from pinpoint.tests.repository.source_tree import PYPROJECT

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
NOTE = "MarkdownNote"
CHECKPOINT_URLS = "https://huggingface.co/Comfy-Org/stable-diffusion-v1-5-archive/resolve/main/"
"""Where ComfyUI's own templates take Stable Diffusion 1.5 from."""
_WIDTH, _GAP, _TITLE, _ROW, _MULTILINE = 340, 40, 40, 24, 110
# What nodes show beside their widgets, and how high it is.
_SHOWS = {
    "PreviewImage": 260,
    "SaveImage": 260,
    "MaskPreview": 260,
    "PinpointCompare": 400,
    "PinpointCrossAttentionMaps": 450,
    "PinpointPriorFromBoxes": 400,
    "PinpointParsePrompt": 150,
    "PinpointProposeAnchors": 260,
    "PinpointFindWord": 260,
    "PinpointScoreRegions": 430,
    "PinpointLearnRegions": 430,
    "PinpointPickBestEdit": 430,
    "PinpointEditMetrics": 100,
    "PinpointPromptToPromptEdit": 60,
}
_COLOURS = ("#3f789e", "#88a", "#8a8", "#a1309b", "#b06634", "#3f789e")

Info = dict[str, Any]
Link = tuple[int, int]
"""(node, output)."""


def inputs_of(info: Info) -> list[tuple[str, str, dict[str, Any]]]:
    """(name, type, options) of a node's inputs, in the order in which the frontend makes them."""
    found = []
    for part in ("required", "optional"):
        for name in info["input_order"].get(part, []):
            kind, options = (*info["input"][part][name], {})[:2]
            if isinstance(kind, list):
                kind, options = "COMBO", {**options, "options": kind}
            found.append((name, kind, {**options, "optional": part == "optional"}))
    return found


def is_widget(kind: str, options: dict[str, Any]) -> bool:
    """Whether the frontend makes a widget of an input."""
    return kind in WIDGETS and not options.get("forceInput")


@dataclass
class Canvas:
    """A workflow while it is laid out: columns from left to right, each a group of nodes."""

    nodes_info: dict[str, Info]
    nodes: list[dict[str, Any]] = field(default_factory=list)
    links: list[list[Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    _x: float = 0
    _y: float = 0
    _top: float = 0

    def column(self, title: str) -> None:
        """Begin a column to the right of all others."""
        if self.groups:
            self._close()
            self._x += _WIDTH + 2 * _GAP
        self._y = self._top + _TITLE
        self.groups.append(
            {
                "id": len(self.groups) + 1,
                "title": title,
                "bounding": [self._x - 20, self._top - 20, _WIDTH + 40, 100],
                "color": _COLOURS[len(self.groups) % len(_COLOURS)],
                "font_size": 24,
                "flags": {},
            }
        )

    def note(self, text: str) -> None:
        """A note in the current column."""
        height = 60 + 22 * sum(1 + len(line) // 44 for line in text.split("\n"))
        self._place({"type": NOTE, "widgets_values": [text], "color": "#432", "bgcolor": "#653"}, height)

    def add(self, kind: str, title: str | None = None, **given: Any) -> int:
        """A node in the current column; `given` are links (node, output) or widgets' values by input."""
        info = self.nodes_info[kind]
        wanted = inputs_of(info)
        unknown = set(given) - {name for name, _, _ in wanted}
        if unknown:
            raise ValueError(f"{kind} has no inputs {sorted(unknown)}")
        sockets = [item for item in wanted if not is_widget(item[1], item[2])]
        widgets = [item for item in wanted if is_widget(item[1], item[2])]
        number = len(self.nodes) + 1
        slots: list[dict[str, Any]] = []
        for name, type_name, options in [*sockets, *widgets]:
            slot: dict[str, Any] = {"name": name, "type": type_name, "link": None}
            if options["optional"]:
                slot["shape"] = 7
            if is_widget(type_name, options):
                slot["widget"] = {"name": name}
            if isinstance(given.get(name), tuple):
                slot["link"] = self._link(given[name], number, len(slots))
            slots.append(slot)
        values = []
        for name, _, options in widgets:
            default = options.get("default", (options.get("options") or [""])[0])
            values.append(default if isinstance(given.get(name), tuple) else given.get(name, default))
        outputs = [
            {"name": label, "type": type_name, "links": []}
            for label, type_name in zip(info["output_name"], info["output"], strict=True)
        ]
        multiline = sum(bool(options.get("multiline")) for _, _, options in widgets)
        height = _ROW * (max(len(sockets), len(outputs)) + len(widgets)) + 20 + multiline * (_MULTILINE - _ROW)
        content: dict[str, Any] = {"type": kind, "inputs": slots, "outputs": outputs, "widgets_values": values}
        if title:
            content["title"] = title
        if kind == "CheckpointLoaderSimple":
            content["models"] = [{"name": values[0], "url": CHECKPOINT_URLS + values[0], "directory": "checkpoints"}]
        self._place(content, height + _SHOWS.get(kind, 0))
        return number

    def finished(self, name: str) -> dict[str, Any]:
        """The workflow, whose identity follows from its name."""
        self._close()
        for number, source, output, *_ in self.links:
            self.nodes[source - 1]["outputs"][output]["links"].append(number)
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"pinpoint/{name}")),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": {"ds": {"scale": 0.6, "offset": [60, 120]}},
            "version": 0.4,
        }

    def _link(self, source: Link, target: int, slot: int) -> int:
        number = len(self.links) + 1
        kind = self.nodes[source[0] - 1]["outputs"][source[1]]["type"]
        self.links.append([number, source[0], source[1], target, slot, kind])
        return number

    def _place(self, content: dict[str, Any], height: float) -> None:
        number = len(self.nodes) + 1
        models = {"models": content.pop("models")} if "models" in content else {}
        self.nodes.append(
            {
                "id": number,
                "type": content["type"],
                "pos": [self._x, self._y],
                "size": [_WIDTH, height],
                "flags": {},
                "order": number - 1,
                "mode": 0,
                "inputs": [],
                "outputs": [],
                "properties": {"Node name for S&R": content["type"], **_pack(content["type"]), **models},
                **content,
            }
        )
        self._y += height + _TITLE + _GAP // 2

    def _close(self) -> None:
        self.groups[-1]["bounding"][3] = self._y - self._top


def _pack(kind: str) -> dict[str, str]:
    """Which pack of the registry a node comes from, so that the Manager finds it where it is missing."""
    if kind == NOTE:
        return {}
    if not kind.startswith("Pinpoint"):
        return {"cnr_id": "comfy-core", "ver": PYPROJECT["tool"]["comfy"]["requires-comfyui"].removeprefix(">=")}
    return {"cnr_id": PYPROJECT["project"]["name"], "ver": PYPROJECT["project"]["version"]}


def api_prompt(workflow: dict[str, Any]) -> dict[str, Any]:
    """What the frontend queues for a workflow: nodes with their widgets' values and links, by id."""
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for shown in workflow["nodes"]:
        if shown["type"] == NOTE:
            continue
        widgets = [slot["name"] for slot in shown["inputs"] if "widget" in slot]
        inputs = dict(zip(widgets, shown["widgets_values"], strict=True))
        inputs |= {slot["name"]: sources[slot["link"]] for slot in shown["inputs"] if slot["link"] is not None}
        prompt[str(shown["id"])] = {"class_type": shown["type"], "inputs": inputs}
    return prompt


def load(path: Any) -> dict[str, Any]:
    """A workflow from its file."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
