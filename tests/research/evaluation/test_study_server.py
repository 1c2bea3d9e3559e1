"""The study's server, asked over HTTP: its own page gets through, and nobody else."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from pinpoint.research.evaluation.user_study import answers as answers_module
from pinpoint.research.evaluation.user_study.answers import read_answers
from pinpoint.research.evaluation.user_study.server import LARGEST_ANSWER, StudyServer
from pinpoint.research.evaluation.user_study.session import session
from pinpoint.tests.research.evaluation.study_site import METHODS, make_site


class Served:
    """A running server and a way to ask it."""

    def __init__(self, site: Path) -> None:
        self.server = StudyServer(site)
        self.answers = site / "answers.jsonl"
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str | None
    ) -> tuple[HTTPResponse, bytes]:
        """The reply to a request with just these headers, beside Host; None leaves one out."""
        connection = HTTPConnection("127.0.0.1", self.server.server_port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            given = {"Host": self.host} | {name.replace("_", "-"): value for name, value in headers.items()}
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            reply = connection.getresponse()
            return reply, reply.read()
        finally:
            connection.close()

    def post(self, content: Any, path: str = "/answer", **headers: str | None) -> int:
        """The status of an answer as the page sends it, but for these headers."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        sent: dict[str, str | None] = {
            "Origin": f"http://{self.host}",
            "Content_Type": "application/json",
            "Content_Length": str(len(body)),
        }
        return self.ask("POST", path, body, **(sent | headers))[0].status


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    make_site(folder)
    return folder / "site"


@pytest.fixture
def served(site: Path) -> Iterator[Served]:
    running = Served(site)
    try:
        yield running
    finally:
        running.server.shutdown()
        running.server.server_close()
        running.answers.unlink(missing_ok=True)


def good(served: Served, participant: str = "anna", question: str = "quality", choice: int = 1) -> dict[str, Any]:
    item = session(served.server.study, participant)[0].trial.item
    return {"participant": participant, "item": item, "question": question, "choice": choice}


def test_the_page_and_its_images_are_served(served: Served) -> None:
    for path, start, kind in (
        ("/", b"<!doctype html>", "text/html"),
        ("/study.css", b":root", "text/css"),
        ("/study.js", b"/**", "text/javascript"),
    ):
        reply, body = served.ask("GET", path)
        assert (reply.status, body[: len(start)]) == (200, start)
        assert (reply.getheader("Content-Type") or "").startswith(kind)
        assert "default-src 'self'" in (reply.getheader("Content-Security-Policy") or "")
        assert reply.getheader("X-Content-Type-Options") == "nosniff"
    for trial in served.server.study.trials:
        reply, body = served.ask("GET", f"/pictures/{trial.picture}")
        assert reply.status == 200 and body.startswith(b"\x89PNG")


def test_it_listens_on_this_machine_only(served: Served) -> None:
    assert served.server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "path",
    ["/study.json", "/answers.jsonl", "/pictures/", "/pictures", "/../study.json", "/pictures/../study.json",
     "/pictures/%2e%2e/study.json", "//study.json", "/etc/passwd", "/answer", "/%2e%2e/run/results.jsonl"],
)  # fmt: skip
def test_nothing_else_in_the_folder_or_out_of_it_is_served(served: Served, path: str) -> None:
    assert served.post(good(served)) == 200
    reply, body = served.ask("GET", path)
    assert reply.status == 404
    assert not any(method.encode() in body for method in METHODS)


def test_an_answer_is_on_disk_when_the_page_hears_that_it_is_saved(served: Served) -> None:
    assert served.post(good(served, choice=2)) == 200
    (kept,) = read_answers(served.answers)
    shown = session(served.server.study, "anna")[0]
    assert (kept.participant, kept.item, kept.question) == ("anna", shown.trial.item, "quality")
    assert (kept.method, kept.place) == (shown.order[2], 2)
    assert kept.study == served.server.study.fingerprint


def test_a_participant_goes_on_where_they_were_also_on_a_new_server(served: Served, site: Path) -> None:
    served.post(good(served, choice=2))
    again = Served(site)
    for one in (served, again):
        reply, body = one.ask("GET", "/session?participant=anna")
        assert reply.status == 200
        trials = json.loads(body)["trials"]
        assert trials[0]["answers"] == {"quality": 2, "background": None}
        assert not any(method in body.decode() for method in METHODS)
    again.server.shutdown()
    again.server.server_close()


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "https://127.0.0.1", "http://127.0.0.1:1"])
def test_another_pages_answers_are_refused(served: Served, origin: str | None) -> None:
    assert served.post(good(served), Origin=origin) == 403
    assert not served.answers.exists()


def test_a_foreign_name_for_this_machine_is_refused(served: Served) -> None:
    port = served.server.server_port
    for host in (f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", None):
        assert served.post(good(served), Host=host, Origin=f"http://{host}") == 403
        assert served.ask("GET", "/session?participant=anna", Host=host)[0].status == 403
    assert not served.answers.exists()
    named = f"localhost:{port}"
    assert served.post(good(served), Host=named, Origin=f"http://{named}") == 200


def test_what_is_no_small_json_is_refused(served: Served) -> None:
    assert served.post(good(served), Content_Type="text/plain") == 415
    assert served.post(good(served), Content_Type=None) == 415
    assert served.post(b"{" + b" " * LARGEST_ANSWER) == 413
    assert served.post(good(served), Content_Length="99999999") == 413
    assert served.post(good(served), Content_Length=None) == 411
    assert served.post(good(served), Content_Length="-1") == 411
    assert served.post(good(served), Transfer_Encoding="chunked") == 411
    assert served.post(good(served), "/other") == 404
    assert served.post(b"{") == 400
    assert served.post(b"[" * 2000) == 400
    assert served.post(b"\xff") == 400
    assert not served.answers.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"item": "item-99"},
        {"item": None},
        {"question": "taste"},
        {"question": []},
        {"choice": 3},
        {"choice": -1},
        {"choice": True},
        {"choice": "1"},
        {"participant": "a b c d"},
        {"participant": "x" * 65},
        {"participant": None},
    ],
)
def test_an_answer_to_what_was_not_asked_is_refused(served: Served, change: dict[str, Any]) -> None:
    assert served.post(good(served) | change) == 400
    assert served.post([good(served)]) == 400
    assert not served.answers.exists()


def test_an_item_that_this_participant_was_not_shown_is_refused(served: Served) -> None:
    study = served.server.study
    shown = {one.trial.item for one in session(study, "anna")}
    (unseen, *_) = (trial.item for trial in study.trials if trial.item not in shown)
    assert served.post(good(served) | {"item": unseen}) == 400


def test_an_answer_that_cannot_be_kept_is_not_acknowledged(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers_module, "LARGEST_FILE", 10)
    assert served.post(good(served)) == 507
    assert read_answers(served.answers) == []


def test_other_requests_are_not_understood(served: Served) -> None:
    assert served.ask("PUT", "/answer")[0].status == 501
    assert served.ask("GET", "/session?participant=..")[0].status == 400
    assert served.ask("GET", "/session")[0].status == 400


def test_answers_at_the_same_time_are_all_kept_whole(served: Served) -> None:
    people = [f"participant-{number}" for number in range(16)]
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda one=one: statuses.append(served.post(good(served, one)))) for one in people
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 16
    assert sorted(kept.participant for kept in read_answers(served.answers)) == sorted(people)


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no study\.json"):
        StudyServer(tmp_path)


def test_an_image_that_was_deleted_is_not_found(tmp_path: Path) -> None:
    study = make_site(tmp_path)
    running = Served(tmp_path / "site")
    try:
        name = study.trials[0].picture
        assert running.ask("GET", f"/pictures/{name}")[0].status == 200
        (tmp_path / "site" / "pictures" / name).unlink()
        assert running.ask("GET", f"/pictures/{name}")[0].status == 404
        assert running.ask("GET", "/")[0].status == 200
    finally:
        running.server.shutdown()
        running.server.server_close()
