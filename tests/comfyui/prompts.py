"""Prompts in ComfyUI's API format that the tests queue."""

from __future__ import annotations

from typing import Any

SOURCE = "a yellow cat and a red star in a meadow"
TARGET = "a yellow fox and a red star in a meadow"
BOX = "cat=11,30,57,73"

Node = dict[str, Any]


def node(class_type: str, /, **inputs: Any) -> Node:
    return {"class_type": class_type, "inputs": inputs}


def nothing_of_ours() -> dict[str, Node]:
    """A prompt of ComfyUI's own nodes."""
    empty = node("EmptyImage", width=64, height=64, batch_size=1, color=0)
    return {"empty": empty, "empty_shown": node("PreviewImage", images=["empty", 0])}


def word_swap(
    *, steps: int = 4, target: str = TARGET, boxes: str = BOX, source: str = SOURCE, **edit: Any
) -> dict[str, Node]:
    """The sample's cat becomes a fox: one stage a node, so that each can be looked at."""
    settings: dict[str, Any] = {
        "guidance": 5.0,
        "cross_replace_steps": 0.8,
        "self_replace_steps": 0.4,
        "local_blend": "auto",
        "target_embeddings": "original",
        "composite": False,
        "feather": 2.0,
        "blend_start": 0.2,
        "blend_threshold": 0.3,
        "blend_grow": 1,
    }
    return {
        "model": node("PinpointLoadEditModel", model="embedded", dtype="auto", prediction="auto"),
        "sample": node("PinpointSamplePicture", sample=SOURCE),
        "prompt": node("PinpointParsePrompt", model=["model", 0], text=source),
        "prior": node("PinpointPriorFromBoxes", image=["sample", 0], boxes=boxes),
        "invert": node(
            "PinpointDDIMInvert", model=["model", 0], image=["sample", 0], prompt=["prompt", 0], steps=steps
        ),
        "tokens": node(
            "PinpointOptimizeTokens",
            inversion=["invert", 0],
            prior=["prior", 0],
            objective="locinv",
            solver="fast",
            bind_adjectives=False,
            inner_steps=3,
            learning_rate=5.0,
            share=1.0,
        ),
        "null": node(
            "PinpointNullTextInversion",
            inversion=["tokens", 0],
            mode="direct",
            guidance=5.0,
            inner_steps=2,
            learning_rate=0.01,
        ),
        "edit": node(
            "PinpointPromptToPromptEdit",
            inversion=["null", 0],
            prior=["prior", 0],
            target=target,
            **{**settings, **edit},
        ),
        "source_shown": node("PreviewImage", images=["sample", 0]),
        "edit_shown": node("PreviewImage", images=["edit", 0]),
        "mask_shown": node("MaskPreview", mask=["edit", 2]),
    }


def edits_to_queue(count: int) -> list[dict[str, Node]]:
    """Edits that differ as those of an artist who tries objects out: another place, another target, and, in
    turns, the model loaded anew, so that each runs from its model on."""
    objects = ("fox", "owl", "house", "boat", "mushroom")
    prompts = []
    for number in range(count):
        prompt = word_swap(
            steps=2,
            target=TARGET.replace("fox", objects[number % len(objects)]),
            boxes=f"cat=11,30,{50 + number % 7},{70 + number % 3}",
        )
        prompt["model"]["inputs"]["dtype"] = ("auto", "float32")[number % 2]
        prompts.append(prompt)
    return prompts
