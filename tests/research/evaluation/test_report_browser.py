"""The report in a real browser: it sorts, filters, opens and closes, asks for nothing and says no error."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pinpoint.research.evaluation.report.html import write_report
from pinpoint.tests.comfyui.browser import chromium
from pinpoint.tests.research.evaluation.report_fixture import small_dataset, small_rows

pytestmark = pytest.mark.slow

SLOW = 240_000
"""Milliseconds: a busy machine takes minutes to start a browser."""

COUNT = 24
# Item k of "plain" is the better the larger k is; "careful" goes the other way, and failed once.
PLAIN: list[float | None] = [10.0 + k for k in range(COUNT)]
CAREFUL: list[float | None] = [60.0 - 2 * k if k != 3 else None for k in range(COUNT)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    dataset = small_dataset(folder / "data", COUNT)
    written = write_report(small_rows(dataset, folder, {"plain": PLAIN, "careful": CAREFUL}), dataset, folder)
    # Alone in its folder: what it needs must be inside.
    alone = tmp_path_factory.mktemp("alone") / "report.html"
    shutil.move(written, alone)
    return alone


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    pytest.importorskip("playwright", reason="NO PLAYWRIGHT: install the dev extras")
    from playwright.sync_api import sync_playwright

    executable = chromium()
    if executable is None:
        pytest.skip("NO CHROMIUM: install one (apt-get install chromium), or set CHROMIUM to it")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu"], timeout=SLOW
        )
        yield started
        started.close()


@contextmanager
def opened_page(browser: Any, report: Path) -> Iterator[Any]:
    """The open report; at the end nothing may have been asked for or gone wrong."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    opened = context.new_page()
    opened.set_default_timeout(SLOW)
    troubles: list[str] = []
    asked: list[str] = []
    opened.on("console", lambda said: troubles.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: troubles.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(report.as_uri(), wait_until="load", timeout=SLOW)
    opened.wait_for_selector(".card", state="attached")
    yield opened
    assert troubles == []
    assert [url for url in asked if not url.startswith("data:")] == [report.as_uri()]
    context.close()


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    with opened_page(browser, report) as opened:
        yield opened


def shown(page: Any) -> list[str]:
    """The items' ids in the order of the cards."""
    return page.eval_on_selector_all(".card", "cards => cards.map((card) => card.getAttribute('aria-label'))")


def ids(*numbers: int) -> list[str]:
    return [f"p{k:02d}" for k in numbers]


def test_the_gallery_sorts_by_a_metric_of_a_method_the_worst_first(page: Any) -> None:
    page.select_option("#metric", "psnr")
    page.select_option("#method", "plain")
    assert shown(page) == ids(*range(COUNT))
    page.select_option("#order", "best")
    assert shown(page) == ids(*reversed(range(COUNT)))
    # A lower MSE is better, so its worst are those with the lowest PSNR; what failed has none and comes last.
    page.select_option("#metric", "mse")
    page.select_option("#method", "careful")
    page.select_option("#order", "worst")
    assert shown(page) == ids(*(k for k in reversed(range(COUNT)) if k != 3), 3)
    # The mean of both: 35 − k / 2, and item 3 has only the plain edit's 13.
    page.select_option("#metric", "psnr")
    page.select_option("#method", "")
    assert shown(page) == ids(3, *(k for k in reversed(range(COUNT)) if k != 3))


def test_images_are_filled_in_only_near_the_window(page: Any) -> None:
    page.select_option("#method", "plain")
    page.locator(".card").first.scroll_into_view_if_needed()
    page.wait_for_selector(".card img")
    filled = page.eval_on_selector_all(".card", "cards => cards.map((card) => !!card.querySelector('img'))")
    assert filled[0] and not filled[-1]
    page.locator(".card").last.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('.card:last-child img')?.naturalWidth === 64")


def test_a_card_shows_its_values_and_what_failed(page: Any) -> None:
    page.fill("#find", "p03")
    assert shown(page) == ids(3)
    page.locator(".card").scroll_into_view_if_needed()
    page.wait_for_selector(".card .error")
    assert page.locator(".card .error").inner_text() == "ValueError: it <broke>"
    assert page.locator(".card .sorted td").all_inner_texts() == ["13.00", "–"]
    assert [marked.strip() for marked in page.locator(".card mark").all_inner_texts()] == ["cat", "fox"]
    assert page.locator(".card .given .over").get_attribute("d") == "M16 8h32M16 24h32M16 8v16M48 8v16"
    assert page.locator("#count").inner_text() == f"1 of {COUNT} images"


def test_groups_and_words_narrow_the_gallery(page: Any) -> None:
    page.select_option("#group", "multi")
    page.select_option("#order", "given")
    assert shown(page) == ids(*range(1, COUNT, 2))
    page.fill("#find", "FOX")
    assert len(shown(page)) == COUNT // 2
    page.fill("#find", "no such word")
    assert shown(page) == []


def test_the_keyboard_reaches_everything(page: Any) -> None:
    page.select_option("#order", "given")
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "p01"
    page.keyboard.press("k")
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')") == "p00"
    page.wait_for_selector(".card button.frame")
    for _ in range(2):  # the card's table, then its first image
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("#large[open]")
    assert page.locator("#large-title").inner_text() == "p00: plain"
    page.keyboard.press("ArrowRight")
    assert page.locator("#large-title").inner_text() == "p00: careful"
    page.keyboard.press("Escape")
    page.wait_for_selector("#large:not([open])", state="attached")


def test_a_heading_sorts_the_table(page: Any) -> None:
    names = "rows => rows.map((row) => row.querySelector('th').textContent)"
    body = "#table > .scroll tbody tr"
    page.locator("#table > .scroll thead button").first.click()
    assert page.eval_on_selector_all(body, names) == ["careful", "plain"]
    page.locator("#table > .scroll thead button").first.click()
    assert page.eval_on_selector_all(body, names) == ["plain", "careful"]


def test_it_follows_light_and_dark(page: Any) -> None:
    luma = (
        "() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        ".map((colour) => colour.match(/\\d+/g).slice(0, 3).map(Number).reduce((a, b) => a + b))"
    )
    page.emulate_media(color_scheme="light")
    paper, ink = page.evaluate(luma)
    assert paper > ink + 400
    page.emulate_media(color_scheme="dark")
    paper, ink = page.evaluate(luma)
    assert ink > paper + 400


def test_an_item_that_cannot_be_read_has_a_card_that_says_so(browser: Any, tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data", 1)
    rows = small_rows(dataset, tmp_path, {"plain": [None], "careful": [None]})
    (tmp_path / "data" / "source.png").write_bytes(b"no image")
    with opened_page(browser, write_report(rows, dataset, tmp_path)) as page:
        page.locator(".card").first.scroll_into_view_if_needed()
        page.wait_for_selector(".card .error")
        assert "source.png" in page.locator(".card .given .error").inner_text()
        assert page.locator(".card .methods .error").all_inner_texts() == ["ValueError: it <broke>"] * 2
        assert page.locator(".card img").count() == 0


def test_where_every_edit_failed_the_report_says_so(browser: Any, tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data", 2)
    rows = small_rows(dataset, tmp_path, {"plain": [None, None]})
    with opened_page(browser, write_report(rows, dataset, tmp_path)) as page:
        page.locator(".card").first.scroll_into_view_if_needed()
        page.wait_for_selector(".card .error")
        assert shown(page) == ids(0, 1)
        assert page.locator(".facts").first.inner_text() == "2 images · 1 method · 2 edits · 2 failed"
