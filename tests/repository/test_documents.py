"""The documents: links lead somewhere, the README is short, and the paper map finds each equation."""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
from pathlib import Path

import pytest

from pinpoint.methods.registry import method_table
from pinpoint.tests.repository.source_tree import ROOT, run_python

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


def test_the_readme_has_at_most_900_words() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900


def mapped() -> list[tuple[str, str]]:
    """(equation or line, `module:function`) of each row of the paper map."""
    rows = re.findall(
        r"^\| ([^|]+) \| [^|]+ \| (.+) \|$", (ROOT / "docs/paper_map.md").read_text("utf-8"), re.MULTILINE
    )
    return [(cited, name) for cited, names in rows for name in re.findall(r"`([\w.]+:[\w.]+)`", names)]


@pytest.mark.parametrize(("cited", "name"), mapped())
def test_the_paper_map_leads_to_functions_that_cite_what_they_compute(cited: str, name: str) -> None:
    module, _, path = name.partition(":")
    found = importlib.import_module(f"pinpoint.{module}")
    for part in path.split("."):
        found = getattr(found, part)
    if cited.startswith(("LocInv", "Learnable Regions")):
        assert cited in " ".join((inspect.getdoc(found) or "").split())


def test_every_equation_of_both_papers_is_mapped() -> None:
    cited = {equation for equation, _ in mapped()}
    assert {f"LocInv Eq. {n}" for n in range(2, 9)} | {f"Learnable Regions Eq. {n}" for n in range(1, 8)} <= cited


def test_the_table_of_methods_is_the_registrys() -> None:
    page = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    written = re.search(r"<!-- methods: begin.*-->\n(.*)\n<!-- methods: end -->", page, re.DOTALL)
    assert written is not None and written[1] == method_table()


def test_the_readmes_python_edits_an_image(tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    shutil.copy(ROOT / "assets" / "samples" / "02352.png", tmp_path / "photo.png")
    run_python("-c", block, cwd=tmp_path)
    assert (tmp_path / "fox.png").is_file()
