"""Opening the models that some methods need, each once, and saying what is lacking before any is opened."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..locinv_core.backbones.loading import EMBEDDED, load_edit_model, resolve_device
from ..region_core.editors.amused import load_amused_model
from ..region_core.editors.inpaint import load_inpaint_model
from ..region_core.encoders.clip import load_clip
from ..region_core.encoders.hub import weights_place
from ..region_core.encoders.vit import load_vit
from .instruct_pix2pix import load_instruct_model
from .registry import any_method_named
from .types import WANTS, MethodModels

Name = str | Path
REGIONS = "learnable-regions"


def open_models(
    names: Iterable[str],
    *,
    model: Name = EMBEDDED,
    inpaint: Name | None = None,
    instruct: Name | None = None,
    amused: Name | None = None,
    clip: Name = EMBEDDED,
    vit: Name = EMBEDDED,
    device: str = "auto",
    dtype: str = "auto",
) -> MethodModels:
    """Open what the methods called `names` need, and nothing else.

    model: as `load_edit_model` takes it. inpaint, instruct, amused: diffusers folders; those of `inpaint` and
    `amused` serve as editors of learnable-regions too. clip, vit: "embedded", a folder, or a hub name.
    Raises ValueError, before any weights are read, for an unknown method and for a model that one lacks.
    """
    methods = [any_method_named(name) for name in names]
    needs = {need for method in methods for need in method.needs}
    regions = any(method.name == REGIONS for method in methods)
    for need, name in (("inpaint", inpaint), ("instruct", instruct)):
        if need in needs and name is None:
            whose = next(method.name for method in methods if need in method.needs)
            raise ValueError(f"{need}: the method {whose!r} requires {WANTS[need]}, and none is named")
    if "clip" in needs:
        weights_place(clip, "clip")
    if "vit" in needs:
        weights_place(vit, "vit")
    chosen = resolve_device(device)
    places: dict[str, Any] = {"device": device, "dtype": dtype}
    takes_inpaint = inpaint is not None and ("inpaint" in needs or regions)
    takes_amused = amused is not None and regions
    return MethodModels(
        # The folders that may turn out to be of another kind come first: their configs are read at once.
        inpaint=load_inpaint_model(inpaint or "", **places) if takes_inpaint else None,
        instruct=load_instruct_model(instruct or "", **places) if "instruct" in needs else None,
        amused=load_amused_model(amused or "", **places) if takes_amused else None,
        model=load_edit_model(model, **places) if "model" in needs else None,
        clip=load_clip(clip, chosen) if "clip" in needs else None,
        vit=load_vit(vit, chosen) if "vit" in needs else None,
    )
