"""The study's server: it hands out the page and takes its answers, on this machine and from it alone."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from .answers import Answer, AnswersFile
from .session import QUESTIONS, session, session_for_page
from .site import ANSWERS_NAME, IMAGES, Study, read_study

HOST: Final = "127.0.0.1"
LARGEST_ANSWER: Final = 2048
"""Bytes of a request's body."""
_PATIENCE: Final = 15.0  # seconds for which a connection may say nothing
_PARTICIPANT: Final = re.compile(r"[A-Za-z0-9-]{4,64}")
_TYPES: Final = {
    "index.html": "text/html; charset=utf-8",
    "study.css": "text/css; charset=utf-8",
    "study.js": "text/javascript; charset=utf-8",
}
_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class _Refused(Exception):
    """A request that is not answered, and why."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class StudyServer(ThreadingHTTPServer):
    """A study's page at http://127.0.0.1:PORT/, and its answers in answers.jsonl.

    Only what the study names is served: the page's three files, its images, and a participant's session. An answer is
    taken from the page itself (Host and Origin are this server's), for an image that the participant was shown.
    """

    daemon_threads = True

    def __init__(self, site: Path, port: int = 0) -> None:
        """Open the study of `site` and listen; port 0 takes a free one.

        Raises ValueError for a folder without a study, OSError for a port that is taken.
        """
        self.study: Study = read_study(site)
        self.answers = AnswersFile(site / ANSWERS_NAME)
        self.files: Mapping[str, tuple[Path, str]] = _served(self.study, site)
        super().__init__((HOST, port), _Handler)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self.server_port}/"

    def take(self, content: Any) -> Answer:
        """Keep an answer. Raises ValueError for one to what was not asked, OSError if it cannot be kept."""
        if not isinstance(content, dict):
            raise ValueError("an answer is an object")
        participant = _participant(content.get("participant"))
        item, question, place = (content.get(key) for key in ("item", "question", "choice"))
        shown = {one.trial.item: one for one in session(self.study, participant)}.get(str(item))
        if shown is None or not isinstance(question, str) or question not in QUESTIONS:
            raise ValueError("nothing like that was asked")
        if type(place) is not int or not 0 <= place < len(shown.order):
            raise ValueError("there is no such image")
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        method = shown.order[place]
        answer = Answer(self.study.fingerprint, participant, shown.trial.item, question, method, place, now)
        self.answers.append(answer)
        return answer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a browser that has hung up; say anything else."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: StudyServer
    timeout = _PATIENCE
    server_version = "pinpoint-study"
    sys_version = ""

    def do_GET(self) -> None:
        with self._refusing():
            path, query = self._target()
            if path == "/session":
                participant = _participant(query.get("participant"))
                answers = self.server.answers.answers
                self._reply_json(session_for_page(self.server.study, participant, answers))
                return
            if path not in self.server.files:
                raise _Refused(HTTPStatus.NOT_FOUND, "there is nothing here")
            file, kind = self.server.files[path]
            try:
                content = file.read_bytes()
            except OSError as error:
                raise _Refused(HTTPStatus.NOT_FOUND, "this file cannot be read any more") from error
            self._reply(HTTPStatus.OK, content, kind)

    def do_POST(self) -> None:
        with self._refusing():
            if self.headers.get("Origin") != f"http://{self.headers['Host']}":
                raise _Refused(HTTPStatus.FORBIDDEN, "answers are taken from the study's own page only")
            if self._target()[0] != "/answer":
                raise _Refused(HTTPStatus.NOT_FOUND, "there is nothing here")
            answer = json.loads(self._body())
            try:
                self.server.take(answer)
            except OSError as error:
                reason = f"the answer cannot be kept: {error.strerror or error}"
                raise _Refused(HTTPStatus.INSUFFICIENT_STORAGE, reason) from error
            self._reply_json({"saved": True})

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal is the study's."""

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Answer a request to this server by its own name; one by another is of a foreign page, whose name was made to
        lead here. What goes wrong is said."""
        try:
            if self.headers.get("Host") not in [f"{name}:{self.server.server_port}" for name in (HOST, "localhost")]:
                raise _Refused(HTTPStatus.FORBIDDEN, "this server answers to its own name only")
            yield
        except (ValueError, RecursionError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except _Refused as refused:
            self._refuse(refused.status, refused.reason)

    def _body(self) -> bytes:
        if self.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json":
            raise _Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "an answer is JSON")
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") is not None or not re.fullmatch(r"\d{1,9}", length, re.ASCII):
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "an answer says how long it is")
        if int(length) > LARGEST_ANSWER:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "an answer is small")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            raise _Refused(HTTPStatus.BAD_REQUEST, "the answer ends early")
        return body

    def _target(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        return parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()}

    def _reply_json(self, content: Any) -> None:
        text = json.dumps(content, ensure_ascii=False)
        self._reply(HTTPStatus.OK, text.encode(), "application/json; charset=utf-8")

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        # What is left of the request's body is not read: the connection cannot go on.
        self.close_connection = True
        self._reply(status, reason.encode(), "text/plain; charset=utf-8")

    def _reply(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (_HEADERS | {"Content-Type": kind, "Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _participant(given: Any) -> str:
    if not isinstance(given, str) or not _PARTICIPANT.fullmatch(given):
        raise ValueError("a participant is 4 to 64 letters, digits and hyphens")
    return given


def _served(study: Study, site: Path) -> dict[str, tuple[Path, str]]:
    """Every path that is served, with its file and type. Nothing else is looked up in the file system."""
    files = {f"/{name}": (site / name, kind) for name, kind in _TYPES.items()}
    files["/"] = files["/index.html"]
    for trial in study.trials:
        for name in (trial.picture, *trial.edits.values()):
            files[f"/{IMAGES}/{name}"] = (site / IMAGES / name, "image/png")
    return files
