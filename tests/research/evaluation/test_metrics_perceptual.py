"""LPIPS on a backbone from a file, against torchvision's own layers and the published linear heads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchmetrics
import torchvision
from safetensors.torch import save_file
from torch import Tensor

from pinpoint.research.evaluation.metrics.perceptual import BACKBONES, load_lpips
from pinpoint.research.evaluation.metrics.suite import MetricSuite

HEADS = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
# The layers whose output LPIPS compares (Zhang et al. 2018): after each ReLU or fire module that it names.
TAPS = {
    "squeeze": (1, 4, 7, 9, 10, 11, 12),
    "alex": (1, 4, 7, 9, 11),
    "vgg": (3, 8, 15, 22, 29),
}
QUICK, SLOW = ("squeeze", "alex"), "vgg"


def backbone(net: str) -> Any:
    """Torchvision's network, random; of VGG only the part that LPIPS reads, for its head is 470 MB."""
    torch.manual_seed(0)
    if net == "vgg":
        from torchvision.models.vgg import cfgs, make_layers

        made = torch.nn.Module()
        made.features = make_layers(cfgs["D"])
    else:
        made = {"squeeze": torchvision.models.squeezenet1_1, "alex": torchvision.models.alexnet}[net](weights=None)
    return made.eval().requires_grad_(False)


def write_backbone(net: str, folder: Path) -> Path:
    save_file(backbone(net).state_dict(), folder / f"{BACKBONES[net][0]}.safetensors")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with torchvision's file of a random backbone, for each of two networks."""
    return {net: write_backbone(net, tmp_path_factory.mktemp(net)) for net in QUICK}


def picture(seed: int) -> Tensor:
    return torch.rand(1, 3, 64, 72, generator=torch.Generator().manual_seed(seed))


def lpips_by_hand(net: str, a: Tensor, b: Tensor) -> float:
    """Sum over layers of the mean over pixels of w · (difference of unit features)²."""
    heads = torch.load(HEADS / f"{net}.pth", map_location="cpu", weights_only=True)
    shift = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
    x, y = ((2 * image - 1 - shift) / scale for image in (a, b))
    total, level = 0.0, 0
    for k, layer in enumerate(backbone(net).features):
        x, y = layer(x), layer(y)
        if k in TAPS[net]:
            one, other = (f / (f.square().sum(dim=1, keepdim=True) + 1e-8).sqrt() for f in (x, y))
            weights = heads[f"lin{level}.model.1.weight"]
            total += float((weights * (one - other).square()).sum(dim=1).mean())
            level += 1
    return total


@pytest.mark.parametrize("net", QUICK)
def test_lpips_is_the_weighted_distance_of_the_backbones_layers(net: str, folders: dict[str, Path]) -> None:
    distance = load_lpips(folders[net])
    expected = lpips_by_hand(net, picture(1), picture(2))
    assert distance.net == net
    assert expected > 1e-3
    assert distance(picture(1), picture(2)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_lpips_reads_vgg_the_same_way(tmp_path: Path) -> None:
    distance = load_lpips(write_backbone(SLOW, tmp_path))
    assert distance.net == SLOW
    expected = lpips_by_hand(SLOW, picture(1), picture(2))
    assert distance(picture(1), picture(2)) == pytest.approx(expected, rel=1e-3)


def test_equal_images_have_no_distance(folders: dict[str, Path]) -> None:
    assert load_lpips(folders["squeeze"])(picture(3), picture(3)) == 0


def test_outside_the_mask_both_images_are_blackened_first(folders: dict[str, Path]) -> None:
    mask = torch.zeros(64, 72)
    mask[:30, 40:] = 1
    keep = (1 - mask)[None, None]
    suite = MetricSuite(["lpips", "lpips_background", "lpips_target"], lpips=folders["squeeze"])
    found = suite(picture(4), picture(5), mask, source_text="a", target_text="b", target_image=picture(6))
    assert found["lpips"] == pytest.approx(lpips_by_hand("squeeze", picture(4), picture(5)), rel=1e-3)
    assert found["lpips_target"] == pytest.approx(lpips_by_hand("squeeze", picture(4), picture(6)), rel=1e-3)
    assert found["lpips_background"] == pytest.approx(
        lpips_by_hand("squeeze", picture(4) * keep, picture(5) * keep), rel=1e-3
    )


def test_a_pickle_is_refused_with_how_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(ValueError, match=r"is a pickle.*weights_only=True.*alexnet-owt-7be5be79.safetensors"):
        load_lpips(tmp_path)


def test_a_folder_without_a_backbone_says_which_files_would_do(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no backbone, requires .*squeezenet1_1-b8a52dc0.safetensors"):
        load_lpips(tmp_path)


def test_a_folder_with_two_backbones_requires_one_of_them(tmp_path: Path) -> None:
    for net in ("squeeze", "alex"):
        save_file({"x": torch.zeros(1)}, tmp_path / f"{BACKBONES[net][0]}.safetensors")
    with pytest.raises(ValueError, match=r"alexnet.*squeezenet.*requires one of them"):
        load_lpips(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        load_lpips(tmp_path / "weights.safetensors")


def test_another_network_and_one_that_lacks_layers_are_refused(tmp_path: Path) -> None:
    save_file({"head.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="no network that LPIPS knows"):
        load_lpips(tmp_path / "other.safetensors")
    save_file({BACKBONES["squeeze"][1]: torch.zeros(1)}, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match=r"features\..* is .*, requires \("):
        load_lpips(tmp_path / "part.safetensors")


def test_a_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        load_lpips(tmp_path / "squeezenet1_1-b8a52dc0.safetensors")


def test_images_too_small_for_the_backbone_are_refused(folders: dict[str, Path]) -> None:
    small = torch.zeros(1, 3, 16, 64)
    with pytest.raises(ValueError, match="got 64x16 pixels, LPIPS"):
        load_lpips(folders["squeeze"])(small, small)
