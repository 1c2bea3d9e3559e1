"""The study's page in a real Chromium: answered by keyboard alone, taken up again, its server gone."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pinpoint.research.evaluation.user_study.answers import latest, read_answers
from pinpoint.research.evaluation.user_study.server import StudyServer
from pinpoint.research.evaluation.user_study.session import session
from pinpoint.tests.comfyui.browser import SLOW, chromium
from pinpoint.tests.research.evaluation.study_site import COLOURS, METHODS, make_site

pytestmark = pytest.mark.slow

COLOURS_ON_PAGE = """() => [...document.querySelectorAll('#edits img')].map((image) => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 });
  const paper = canvas.getContext('2d');
  paper.drawImage(image, 0, 0, 1, 1);
  return [...paper.getImageData(0, 0, 1, 1).data].slice(0, 3);
})"""
LOADED = "() => [...document.querySelectorAll('#edits img')].every((one) => one.complete && one.naturalWidth)"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    make_site(tmp_path, tasks=4)
    return tmp_path / "site"


@pytest.fixture
def serve(site: Path) -> Iterator[Callable[[int], StudyServer]]:
    running: list[StudyServer] = []

    def start(port: int = 0) -> StudyServer:
        server = StudyServer(site, port)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return server

    yield start
    for server in running:
        stop(server)


def stop(server: StudyServer) -> None:
    server.shutdown()
    server.server_close()


@pytest.fixture
def page() -> Iterator[Any]:
    pytest.importorskip("playwright", reason="NO PLAYWRIGHT: install the dev extras")
    from playwright.sync_api import sync_playwright

    executable = chromium()
    if executable is None:
        pytest.skip("NO CHROMIUM: install one (apt-get install chromium), or set CHROMIUM to it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=executable, args=["--no-sandbox", "--disable-gpu"], timeout=SLOW
        )
        opened: Any = browser.new_page(viewport={"width": 1280, "height": 860})
        opened.set_default_timeout(SLOW)
        opened.problems = []
        opened.on("pageerror", lambda error: opened.problems.append(str(error)))
        opened.on("console", lambda said: said.type == "error" and opened.problems.append(said.text))
        yield opened
        browser.close()


def question(page: Any) -> str:
    """Which of the two is asked, once its images are there."""
    page.wait_for_selector("#trial:not([hidden])")
    page.wait_for_function(LOADED)
    return "background" if "everything else" in page.inner_text("#question") else "quality"


def press_method(page: Any, method: str) -> None:
    """Press the digit of the image that has the method's colour, and wait until it is saved."""
    place = page.evaluate(COLOURS_ON_PAGE).index(list(COLOURS[method]))
    page.keyboard.press(str(place + 1))
    page.wait_for_function("() => document.getElementById('status').textContent === 'Saved'")


def test_a_study_is_answered_with_the_keyboard_alone(page: Any, site: Path, serve: Any) -> None:
    server = serve()
    page.goto(server.url)
    page.wait_for_selector("#welcome:not([hidden])")
    page.keyboard.press("Enter")
    wanted = {"quality": "locinv", "background": "pnp"}
    for number in range(8):
        asked = question(page)
        assert asked == ("quality", "background")[number % 2]
        assert page.inner_text("#target mark") == "fox"
        assert len(read_answers(site / "answers.jsonl")) == number
        page.keyboard.press("Enter")  # before a choice it leads nowhere
        assert page.inner_text("#where") == f"Image {number // 2 + 1} of 4"
        press_method(page, wanted[asked])
        assert len(read_answers(site / "answers.jsonl")) == number + 1
        page.keyboard.press("Enter")
    page.wait_for_selector("#done:not([hidden])")
    answers = read_answers(site / "answers.jsonl")
    assert Counter((one.question, one.method) for one in answers) == {
        ("quality", "locinv"): 4,
        ("background", "pnp"): 4,
    }
    (participant,) = {one.participant for one in answers}
    shown = session(server.study, participant)
    assert [one.item for one in answers] == [one.trial.item for one in shown for _ in range(2)]
    assert page.problems == []


def test_tab_arrows_and_the_mouse_answer_too(page: Any, site: Path, serve: Any) -> None:
    page.goto(f"{serve().url}?participant=anna")
    page.click("#start")
    question(page)
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.getElementById('status').textContent === 'Saved'")
    by_key = page.evaluate("document.querySelector('#edits input:checked').value")
    page.click(f"#edits .edit:nth-child({(int(by_key) + 1) % 3 + 1})")
    page.wait_for_function(f"() => !document.querySelectorAll('#edits input')[{by_key}].checked")
    page.wait_for_function("() => document.getElementById('status').textContent === 'Saved'")
    page.click("#next")
    assert question(page) == "background"
    page.click("#back")
    assert question(page) == "quality"
    chosen = int(page.evaluate("document.querySelector('#edits input:checked').value"))
    answers = read_answers(site / "answers.jsonl")
    assert [one.place for one in latest(answers)] == [chosen] != [int(by_key)]
    assert page.problems == []


def test_the_page_goes_on_where_it_was_left(page: Any, serve: Any) -> None:
    server = serve()
    page.goto(f"{server.url}?participant=anna")
    page.click("#start")
    question(page)
    press_method(page, "nti")
    page.reload()
    assert question(page) == "background"
    assert page.inner_text("#where") == "Image 1 of 4"
    page.click("#back")
    assert question(page) == "quality"
    assert page.evaluate(COLOURS_ON_PAGE)[
        int(page.evaluate("document.querySelector('#edits input:checked').value"))
    ] == list(COLOURS["nti"])


def test_a_name_that_the_server_refuses_is_not_kept(page: Any, serve: Any) -> None:
    server = serve()
    page.goto(f"{server.url}?participant=Zo%C3%AB")
    page.wait_for_selector("#problem:not([hidden])")
    assert "4 to 64 letters, digits and hyphens" in page.inner_text("#reason")
    page.goto(server.url)
    page.wait_for_selector("#welcome:not([hidden])")


def test_the_original_is_shown_in_the_place_of_the_edits(page: Any, serve: Any) -> None:
    server = serve()
    page.goto(f"{server.url}?participant=anna")
    page.click("#start")
    question(page)
    before = page.evaluate(COLOURS_ON_PAGE)
    number = int(session(server.study, "anna")[0].trial.item.removeprefix("item-"))
    page.keyboard.down("c")
    page.wait_for_function(LOADED)
    page.wait_for_function("() => document.getElementById('trial').classList.contains('comparing')")
    assert page.evaluate(COLOURS_ON_PAGE) == [[10 * number, 90, 90]] * len(METHODS)
    page.keyboard.up("c")
    page.wait_for_function(LOADED)
    assert page.evaluate(COLOURS_ON_PAGE) == before


def test_nothing_is_taken_for_saved_while_the_server_is_gone(page: Any, site: Path, serve: Any) -> None:
    server = serve()
    page.goto(f"{server.url}?participant=anna")
    page.click("#start")
    question(page)
    port = server.server_port
    stop(server)
    page.keyboard.press("1")
    page.wait_for_function("() => document.getElementById('status').textContent.startsWith('Not saved')")
    assert page.is_disabled("#next")
    assert not (site / "answers.jsonl").exists()
    serve(port)
    press_method(page, "pnp")
    assert page.is_enabled("#next")
    assert [one.method for one in read_answers(site / "answers.jsonl")] == ["pnp"]
