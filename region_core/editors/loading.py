"""Opening an editor by its name, with the model that it works with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...locinv_core.backbones.loading import load_edit_model
from .amused import load_amused_editor
from .base import Editor
from .blended_latent_diffusion import BlendedEditor
from .locinv import LocInvEditor
from .sd_inpainting import load_inpaint_editor

EDITORS = ("inpaint", "blended", "amused", "locinv")


def load_editor(
    name: str, model: str | Path = "embedded", *, device: str = "auto", dtype: str = "auto", **settings: Any
) -> Editor:
    """The editor called `name`, one of EDITORS, with the model called `model`.

    blended, locinv: "embedded", a diffusers folder or a .safetensors file. amused: "embedded" or an aMUSEd
    folder. inpaint: the diffusers folder of an inpainting model. settings: fields of the editor (locinv requires
    the source); one that is None is left to the editor. Raises ValueError for another name and for a model
    that does not fit the editor.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    if name == "blended":
        return BlendedEditor(load_edit_model(model, device=device, dtype=dtype), **given)
    if name == "locinv":
        return LocInvEditor(load_edit_model(model, device=device, dtype=dtype), **given)
    if name == "inpaint":
        return load_inpaint_editor(model, device=device, dtype=dtype, **given)
    if name == "amused":
        return load_amused_editor(model, device=device, dtype=dtype, **given)
    raise ValueError(f"editor: got {name!r}, requires one of {', '.join(EDITORS)}")
