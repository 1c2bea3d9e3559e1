"""LPIPS (Zhang et al. 2018) on a backbone from a local file.

The network is torchmetrics' own, with its linear heads, under the name that it keeps for itself: its public class,
like the package `lpips`, downloads the backbone as a pickle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

BACKBONES: Final[Mapping[str, tuple[str, str]]] = {
    "squeeze": ("squeezenet1_1-b8a52dc0", "features.3.squeeze.weight"),
    "alex": ("alexnet-owt-7be5be79", "features.3.weight"),
    "vgg": ("vgg16-397923af", "features.28.weight"),
}
"""LPIPS' networks: torchvision's file of each, a weight that only it has. DirectInversion's is squeeze."""

_SMALLEST: Final[Mapping[str, int]] = {"squeeze": 17, "alex": 63, "vgg": 16}


@dataclass(frozen=True, eq=False)
class PerceptualDistance:
    """LPIPS with the backbone `net` ("squeeze", "alex" or "vgg")."""

    network: Any
    net: str

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> float:
        """The distance of two images (1, 3, H, W) in [0, 1]; 0 for equal ones.

        Raises ValueError for images that are too small for the backbone.
        """
        smallest = _SMALLEST[self.net]
        if min(a.shape[-2:]) < smallest:
            raise ValueError(
                f"edited: got {a.shape[-1]}x{a.shape[-2]} pixels, LPIPS ({self.net}) requires {smallest} at"
                " least on each side"
            )
        device = next(self.network.parameters()).device
        one, other = (image.to(device, torch.float32).clamp(0, 1) for image in (a, b))
        return float(self.network(one, other, normalize=True))


def load_lpips(path: str | Path, device: torch.device | str = "cpu") -> PerceptualDistance:
    """Open LPIPS with torchvision's backbone from a .safetensors file, or the one of a folder.

    Raises ValueError for a pickle (how torchvision publishes them; the message says how to convert it once), for
    another file, and for a folder without one or with several.
    """
    file = _file(Path(path).expanduser())
    from safetensors import SafetensorError
    from safetensors.torch import load_file
    from torchmetrics.functional.image.lpips import _LPIPS

    try:
        weights = load_file(file)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"lpips {file.name!r}: it cannot be read ({error}), requires {_wanted()}") from error
    net = next((net for net, (_, only) in BACKBONES.items() if only in weights), None)
    if net is None:
        raise ValueError(f"lpips {file.name!r}: it is no network that LPIPS knows, requires {_wanted()}")
    with torch.inference_mode(False):
        network = _LPIPS(net=net, pnet_rand=True, use_dropout=True, eval_mode=True)  # type: ignore[arg-type]
        for key, own in network.net.state_dict().items():
            # torchmetrics' slices keep torchvision's numbers: slice2.3.weight is features.3.weight.
            name = f"features.{key.split('.', 2 if key.startswith('slices.') else 1)[-1]}"
            given = weights.get(name)
            if given is None or given.shape != own.shape:
                got = "nothing" if given is None else tuple(given.shape)
                raise ValueError(f"lpips {file.name!r}: {name} is {got}, requires {tuple(own.shape)}")
            own.copy_(given)
        network = network.to(device).requires_grad_(False).eval()
    return PerceptualDistance(network, net)


def _file(path: Path) -> Path:
    """The backbone's file: `path`, or the one in that folder."""
    if path.is_dir():
        published = tuple(name for name, _ in BACKBONES.values())
        found = [p for p in sorted(path.iterdir()) if p.stem in published]
        readable = [p for p in found if p.suffix == ".safetensors"]
        if len(readable) > 1:
            names = ", ".join(p.name for p in readable)
            raise ValueError(f"lpips {str(path)!r}: it has {names}, requires one of them")
        if not found:
            raise ValueError(f"lpips {str(path)!r}: the folder has no backbone, requires {_wanted()}")
        path = readable[0] if readable else found[0]
    if path.suffix == ".pth":
        raise ValueError(
            f"lpips {path.name!r} is a pickle, which can run code when it is opened, so it is not read;"
            f" convert it once: python -c \"import torch, safetensors.torch as s; s.save_file(torch.load('"
            f"{path.name}', weights_only=True), '{path.stem}.safetensors')\""
        )
    if not path.is_file():
        raise ValueError(f"lpips: got {str(path)!r}, which does not exist; requires {_wanted()}")
    return path


def _wanted() -> str:
    names = ", ".join(f"{name}.safetensors" for name, _ in BACKBONES.values())
    return f"torchvision's weights of one of LPIPS' backbones: {names}"
