"""What names, devices and dtypes a model is opened by."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pinpoint.locinv_core.backbones import loading
from pinpoint.locinv_core.backbones.diffusers_folder import load_folder
from pinpoint.locinv_core.backbones.loading import load_edit_model
from pinpoint.tests.locinv_core.backbones.loading.comparing import CPU


@pytest.mark.parametrize("name", ["no-such-model", "stabilityai/stable-diffusion-2-1", "gone.safetensors", ""])
def test_an_unknown_name_is_refused_with_the_possibilities(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        load_edit_model(name, device="cpu")
    for word in ("embedded", "folder", ".safetensors", "1.x", "2.x"):
        assert word in str(error.value)


def test_a_file_that_is_no_model_is_refused_with_the_possibilities(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("hello")
    with pytest.raises(ValueError, match=r"notes\.txt.*requires 'embedded'"):
        load_edit_model(path, device="cpu")


def test_embedded_opens_the_packs_own_folder_through_the_same_code(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "EMBEDDED_FOLDER", folder)
    model = load_edit_model("embedded", device="cpu")
    assert model.name == "embedded"
    assert model.fingerprint == load_folder(folder, CPU, torch.float32).fingerprint


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta:x", "99"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_opened(device: str) -> None:
    with pytest.raises(ValueError, match=f"device: got '{device}'"):
        load_edit_model("no-such-model", device=device)


def test_an_unknown_dtype_or_prediction_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(ValueError, match=r"dtype: got 'int8', requires one of auto, float32"):
        load_edit_model("no-such-model", device="cpu", dtype="int8")
    with pytest.raises(ValueError, match=r"prediction: got 'sample', requires"):
        load_edit_model("no-such-model", device="cpu", prediction="sample")  # type: ignore[arg-type]


def test_auto_takes_cuda_in_half_precision_then_mps_then_cpu_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert loading.resolve_device("auto") == CPU
    assert loading.resolve_dtype("auto", CPU) == torch.float32
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert loading.resolve_device("auto").type == "mps"
    assert loading.resolve_dtype("auto", torch.device("mps")) == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert loading.resolve_device("auto").type == "cuda"
    assert loading.resolve_dtype("auto", torch.device("cuda")) == torch.float16
