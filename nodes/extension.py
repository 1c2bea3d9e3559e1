"""The list of Pinpoint's nodes that ComfyUI asks for: the NODES of every module here and in the folders here."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

from comfy_api.latest import ComfyExtension, io

from . import __name__ as PACKAGE
from . import __path__ as FOLDERS

CATEGORIES = ("model", "prompt", "prior", "inversion", "tokens", "edit", "see", "regions", "regions/editors")
"""Of Pinpoint's nodes, in the order of ComfyUI's menu; others come after them."""


_NO_NODES = ("bridge", "extension", "native")


def collected(folders: Iterable[str] = FOLDERS, package: str = PACKAGE) -> list[type[io.ComfyNode]]:
    """The nodes of all modules in `folders`, those of the package of that name, by category.

    A module lists its nodes as NODES.
    """
    modules = []
    for found in sorted(pkgutil.iter_modules(folders), key=lambda one: one.name):
        if found.name in _NO_NODES:
            continue
        module = importlib.import_module(f"{package}.{found.name}")
        modules.append(module)
        if found.ispkg:
            modules += [
                importlib.import_module(f"{module.__name__}.{inner.name}")
                for inner in pkgutil.iter_modules(module.__path__)
            ]
    nodes = [node for module in modules for node in getattr(module, "NODES", [])]
    order = {f"Pinpoint/{name}": place for place, name in enumerate(CATEGORIES)}
    return sorted(nodes, key=lambda node: order.get(node.define_schema().category, len(order)))


class PinpointExtension(ComfyExtension):
    """Pinpoint in ComfyUI."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        from server import PromptServer

        from .bridge.old_names import rename_old_inputs

        # Not in `on_load`, which ComfyUI 0.3.64 does not call yet.
        server = getattr(PromptServer, "instance", None)
        if server is not None:
            server.add_on_prompt_handler(rename_old_inputs)
        return collected()
