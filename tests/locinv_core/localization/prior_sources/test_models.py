"""The networks of prior sources: found in folders and in the local cache, downloaded only when that is asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
import transformers

from pinpoint.locinv_core.localization.prior_sources.from_text import load_text_locator, text_locators
from pinpoint.locinv_core.localization.prior_sources.models import Architecture, model_folder, split_hub
from pinpoint.locinv_core.localization.prior_sources.registry import prior_from_argument
from pinpoint.tests.fixtures.tiny_encoders import write_tiny_vit
from pinpoint.tests.fixtures.tiny_locators import write_tiny_clipseg

NAME = "someone/clipseg"


@pytest.fixture(name="clipseg_folder", scope="module")
def _clipseg_folder(tmp_path_factory):
    return write_tiny_clipseg(tmp_path_factory.mktemp("clipseg"))


@pytest.fixture(name="hub")
def _hub(clipseg_folder, monkeypatch):
    """A hub that has `NAME`, and a cache that is empty; what was fetched."""
    fetched = []

    def fetch(name, **options):
        fetched.append(name)
        if name != NAME:
            raise OSError("404\nsecond line")
        return str(clipseg_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda name, file: None)
    return fetched


def test_a_folder_is_taken_for_the_folder_that_it_is(clipseg_folder, hub, monkeypatch):
    monkeypatch.chdir(clipseg_folder.parent)
    assert model_folder(clipseg_folder.name) == Path(clipseg_folder.name)
    assert model_folder(clipseg_folder) == clipseg_folder
    assert hub == []


def test_a_hub_name_is_looked_up_in_the_local_cache_alone(clipseg_folder, hub, monkeypatch):
    with pytest.raises(ValueError, match=rf"'{NAME}' cannot be opened: .*not in the local.*'hf download {NAME}'"):
        model_folder(NAME)
    cached = {(NAME, "config.json"): str(clipseg_folder / "config.json")}
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *wanted: cached.get(wanted))
    assert model_folder(NAME) == clipseg_folder
    assert hub == []


def test_hub_before_a_name_downloads_it(hub):
    image = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ValueError, match="not in the local"):
        prior_from_argument(f"cat=text:a cat@{NAME}", image)
    assert hub == []
    assert prior_from_argument(f"cat=clipseg:a cat@ hub:{NAME}", image).words == ("cat",)
    assert hub == [NAME]
    with pytest.raises(ValueError, match=r"'nobody/nothing' cannot be opened: .* does not give it \(404\)$"):
        model_folder("nobody/nothing", download=True)
    assert split_hub(" hub:a/b ") == ("a/b", True) and split_hub("a/b") == ("a/b", False)


@pytest.mark.parametrize("name", ["/no/such/folder", "./folder", "a/b/c", "hub:a/b", "", "~/nowhere"])
def test_what_is_neither_a_folder_nor_a_hub_name_is_refused(name, hub):
    with pytest.raises(ValueError, match="there is no such folder, and a Hugging Face name is OWNER/NAME"):
        model_folder(name)


def test_another_network_is_refused_with_what_is_required(clipseg_folder, tmp_path):
    with pytest.raises(ValueError, match=r"it is a vit\); requires a CLIPSeg.* or .* with safetensors"):
        load_text_locator(write_tiny_vit(tmp_path / "vit"))
    with pytest.raises(ValueError, match=r"it is a clipseg\); requires a Grounding DINO with"):
        prior_from_argument(f"cat=grounding-dino:cat@{clipseg_folder}", torch.zeros(1, 3, 32, 32))
    for text in (None, "{", "[]", "{}"):
        if text is not None:
            (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=r"its config\.json names no model"):
            load_text_locator(tmp_path)


def test_weights_that_were_cut_short_or_do_not_fit_are_refused(clipseg_folder, tmp_path):
    for name in ("cut", "other"):
        shutil.copytree(clipseg_folder, tmp_path / name)
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(ValueError, match="cannot be opened"):
        load_text_locator(tmp_path / "cut")
    config = json.loads((clipseg_folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] += 1
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"\d+ of its weights are missing or of another shape"):
        load_text_locator(tmp_path / "other")


def test_a_transformers_that_lacks_the_network_is_told_with_the_least_version(monkeypatch):
    monkeypatch.setattr(transformers, "__version__", "4.57.0")
    with pytest.raises(ValueError, match=r"Newer requires transformers 9\.1 or newer, and 4\.57\.0 is installed"):
        Architecture("Newer", ("newer",), "NewerModel", "NewerProcessor", "9.1").classes()


def test_the_installed_transformers_has_every_network():
    for kind in text_locators():
        assert all(kind.architecture.classes())
