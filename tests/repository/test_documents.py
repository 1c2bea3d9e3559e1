"""The documents: links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pinpoint.tests.repository.source_tree import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_documents_link_to_files_and_headings_that_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    missing = []
    for target, _, heading in (link.partition("#") for link in links if not re.match(r"https?:", link)):
        linked = page.parent / target if target else page
        if not linked.exists() or (heading and heading not in headings(linked)):
            missing.append(f"{target}#{heading}")
    assert missing == []


def headings(page: Path) -> set[str]:
    """The anchors that a page's headings have on GitHub."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
