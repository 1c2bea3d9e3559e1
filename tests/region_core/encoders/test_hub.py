"""Opening networks by name: folders, names that are none, and what the local cache of the hub has."""

from __future__ import annotations

import io
import logging
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from pinpoint.region_core.encoders import hub as opening
from pinpoint.region_core.encoders.hub import open_network, weights_place

RETRIES = logging.getLogger("huggingface_hub.utils._http")
"""What tells of every request that is made again."""


class Library:
    """Something with a `from_pretrained`, which has the network at the hub, or in the local cache, too."""

    def __init__(self, *, cached: bool) -> None:
        self.cached = cached
        self.asked: list[bool] = []
        self.heard: list[bool] = []

    def from_pretrained(
        self, place: str, *, local_files_only: bool = False, **options: Any
    ) -> tuple[nn.Module, dict[str, list[str]]]:
        self.asked.append(local_files_only)
        self.heard.append(RETRIES.isEnabledFor(logging.WARNING))
        if local_files_only and not self.cached:
            raise OSError("not among the cached files")
        return nn.Linear(1, 1), {"missing_keys": [], "mismatched_keys": []}


def reach(monkeypatch: pytest.MonkeyPatch, answers: bool) -> list[str]:
    """Let the hub answer or not; returns what is asked of it."""
    requests: list[str] = []

    def urlopen(request: urllib.request.Request, **options: Any) -> io.BytesIO:
        requests.append(request.full_url)
        if not answers:
            raise urllib.error.URLError("no network")
        return io.BytesIO()

    for variable in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return requests


@pytest.mark.parametrize("name", ["dinno", "vit-b16", "./nowhere", "a/b/c", ""])
def test_a_name_without_an_owner_that_is_no_folder_is_refused_before_any_request(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, library = reach(monkeypatch, True), Library(cached=True)
    with pytest.raises(ValueError, match=f"vit: got {name!r}, a folder that does not exist; requires 'embedded'"):
        open_network(library, name, "vit")
    assert requests == [] and library.asked == []


def test_a_name_without_an_owner_is_taken_from_the_local_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The cache's layout as huggingface_hub documents it: refs name a commit, snapshots have its files.
    stored = tmp_path / "models--old-vit"
    (stored / "snapshots" / "abc").mkdir(parents=True)
    (stored / "snapshots" / "abc" / "config.json").write_text("{}")
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text("abc")
    with pytest.raises(ValueError, match="a folder that does not exist"):
        weights_place("old-vit", "vit")
    for module in ("constants", "file_download"):
        monkeypatch.setattr(f"huggingface_hub.{module}.HF_HUB_CACHE", str(tmp_path), raising=False)
    assert weights_place("old-vit", "vit") == "old-vit"


def test_a_cached_network_is_opened_without_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    requests, library = reach(monkeypatch, True), Library(cached=True)
    open_network(library, "someone/vit", "vit")
    assert requests == [] and library.asked == [True]


def test_what_the_cache_lacks_is_fetched_from_a_hub_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    requests, library = reach(monkeypatch, True), Library(cached=False)
    open_network(library, "someone/vit", "vit")
    assert len(requests) == 1 and library.asked == [True, False]


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    requests, library = reach(monkeypatch, False), Library(cached=False)
    with pytest.raises(ValueError, match=r"vit 'someone/vit': no folder of that name, and the Hugging Face hub's"):
        open_network(library, "someone/vit", "vit")
    assert len(requests) == 1 and all(library.asked)


def test_a_folder_asks_nothing_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = reach(monkeypatch, True)
    open_network(Library(cached=False), tmp_path, "vit")
    assert opening.preprocessor_config(tmp_path, "vit") == {} and requests == []


def test_retries_are_not_told_while_a_network_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    reach(monkeypatch, True)
    library, before = Library(cached=False), RETRIES.isEnabledFor(logging.WARNING)
    open_network(library, "someone/vit", "vit")
    assert library.heard == [False, False]
    assert RETRIES.isEnabledFor(logging.WARNING) == before
