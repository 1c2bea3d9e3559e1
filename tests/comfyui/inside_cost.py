"""What a Prompt-to-Prompt step costs beside ComfyUI's own step of the same batch, at a released model's size:
`python -m pinpoint.tests.comfyui.inside_cost HOLDER sd1|sdxl`, as `inside_comfyui`. Weights are random."""

# ruff: noqa: E402 (ComfyUI reads the command line as it is imported)
from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

from pinpoint.tests.comfyui.inside_process import begin, tell

HOLDER, WHAT = begin()

import torch

from pinpoint.locinv_core.editing.attention_control import AttentionPlan, PromptToPromptControl
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.nodes.native.backbone import ComfyBackbone
from pinpoint.tests.comfyui.tiny_checkpoint import released_parts

ROWS = 3
"""The source, and a target without and with its prompt."""
LATENTS = 64
PAIRS = {"sd1": 3, "sdxl": 1}
PROMPTS = ("a yellow cat and a red star in a meadow", "", "a yellow fox and a red star in a meadow")


class Peak:
    """The process's memory in MiB, and the most of it within a block."""

    def __enter__(self) -> Peak:
        self.most, self._ended = resident(), threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            self.most = max(self.most, resident())


def resident() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def cost() -> dict[str, Any]:
    with torch.inference_mode():
        parts = released_parts(xl=WHAT == "sdxl")
    with torch.inference_mode(False), torch.no_grad():
        native = ComfyBackbone(*parts)
        native.load()
        z = torch.randn(ROWS, 4, LATENTS, LATENTS, generator=torch.Generator().manual_seed(0))
        prompts = [parse_prompt(text, native.tokenizer) if text else None for text in PROMPTS]
        first = native.encode_prompt(prompts[0])  # type: ignore[arg-type]
        target = native.encode_prompt(prompts[2])  # type: ignore[arg-type]
        context, length = torch.cat([first, torch.zeros_like(first), target]), native.context_length
        coarse = frozenset(layer.name for layer in native.layers if layer.kind == "self" and layer.level >= 2)
        plan = AttentionPlan(torch.eye(length)[None], torch.ones(1, 1, length), torch.ones(1, length), 1, coarse)

        def plain() -> torch.Tensor:
            return native.predict_noise(z, 401, context)

        def edit() -> torch.Tensor:
            control = PromptToPromptControl(plan, 0, map_layers=native.map_layers, device=native.device)
            return native.predict_noise(z, 401, context, control=control, unconditional=slice(1, 2))

        weights = sum(p.numel() * p.element_size() for p in parts[0].model.parameters()) / 2**20
        told: dict[str, Any] = {"weights MiB": weights, "loaded MiB": resident()}
        seconds: dict[str, list[float]] = {"plain": [], "edit": []}
        peaks: dict[str, float] = {}
        steps: dict[str, Callable[[], torch.Tensor]] = {"plain": plain, "edit": edit}
        plain()
        for _ in range(PAIRS[WHAT]):
            for name, step in steps.items():
                with Peak() as peak:
                    began = time.perf_counter()
                    step()
                    seconds[name].append(time.perf_counter() - began)
                peaks[name] = max(peaks.get(name, 0.0), peak.most)
        ratios = [edit / plain for plain, edit in zip(seconds["plain"], seconds["edit"], strict=True)]
        return {
            **told,
            "after MiB": resident(),
            "peak MiB": peaks,
            "seconds": seconds,
            "wall ratio": statistics.median(ratios),
            "peak ratio": peaks["edit"] / peaks["plain"],
        }


tell(cost())
