"""Each workflow has its API prompt, and the script of docs/pipelines.md queues one with another image and words."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from pinpoint.tests.fixtures.pipeline_script import SAMPLE, run_script
from pinpoint.tests.repository.source_tree import PROJECT, ROOT

FILES = sorted((ROOT / "workflows").glob("*.json"))


def test_each_workflow_has_an_api_prompt_and_no_prompt_is_without_one() -> None:
    assert [path.name for path in FILES] == sorted(path.name for path in (ROOT / "workflows/api").glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_api_prompt_has_the_workflows_nodes_values_and_links(path: Path) -> None:
    workflow, prompt = (json.loads(file.read_text("utf-8")) for file in (path, path.parent / "api" / path.name))
    nodes = {str(node["id"]): node for node in workflow["nodes"] if node["type"] != "MarkdownNote"}
    assert {name: node["class_type"] for name, node in prompt.items()} == {n: node["type"] for n, node in nodes.items()}
    links = {
        (str(target), nodes[str(target)]["inputs"][slot]["name"]): [str(source), output]
        for _, source, output, target, slot, _ in workflow["links"]
    }
    queued = {(name, key): value for name, node in prompt.items() for key, value in node["inputs"].items()}
    assert {place: value for place, value in queued.items() if isinstance(value, list)} == links
    for name, node in nodes.items():
        widgets = [slot["name"] for slot in node["inputs"] if "widget" in slot]
        assert [queued[name, key] for key in widgets if (name, key) not in links] == [
            value for key, value in zip(widgets, node["widgets_values"], strict=True) if (name, key) not in links
        ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_tells_which_packs_and_which_files_it_requires(path: Path) -> None:
    packs = {"cnr_id": PROJECT["name"], "ver": PROJECT["version"]}
    for node in json.loads(path.read_text("utf-8"))["nodes"]:
        properties = node["properties"]
        if node["type"].startswith("Pinpoint"):
            assert packs.items() <= properties.items()
        elif node["type"] != "MarkdownNote":
            assert properties["cnr_id"] == "comfy-core" and properties["ver"]
        if node["type"] == "CheckpointLoaderSimple":
            (model,) = properties["models"]
            assert model["name"] == node["widgets_values"][0] == model["url"].rpartition("/")[2]
            assert model["directory"] == "checkpoints"


class Server(HTTPServer):
    """What the script needs of ComfyUI: it keeps what it was sent, and answers that the edit is being made, then
    that it is done or failed."""

    def __init__(self, status: str) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.status, self.uploads, self.prompts, self.asked = status, [], [], 0  # type: ignore[var-annotated]


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/upload/image":
            self.server.uploads.append(content)
            return self.answer({"name": "uploaded.png", "subfolder": "", "type": "input"})
        self.server.prompts.append(json.loads(content)["prompt"])
        return self.answer({"prompt_id": "7"})

    def do_GET(self) -> None:
        if self.path == "/history/7":
            self.server.asked += 1
            image = {"filename": "a b.png", "subfolder": "pinpoint", "type": "output"}
            status = {"status_str": self.server.status, "messages": [["execution_error", "out of paper"]]}
            (prompt,) = self.server.prompts
            shown = {name: {"images": [image]} for name, node in prompt.items() if node["class_type"] == "SaveImage"}
            done = {"7": {"outputs": shown, "status": status}}
            return self.answer(done if self.server.asked > 1 else {})
        assert self.path == "/view?filename=a+b.png&subfolder=pinpoint&type=output"
        return self.answer(b"the edit")

    def answer(self, content: Any) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    serving = Server(request.param)
    threading.Thread(target=serving.serve_forever, daemon=True).start()
    yield serving
    serving.shutdown()
    serving.server_close()


EDIT = ("a cat and a star", "an owl and a star", "cat=10,30,60,80")


@pytest.mark.parametrize("server", ["success"], indirect=True)
def test_the_script_sends_image_and_words_waits_and_fetches_the_result(server: Server, tmp_path: Path) -> None:
    done = run_script(f"http://127.0.0.1:{server.server_port}", tmp_path, *EDIT)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "edited.png").read_bytes() == b"the edit"
    assert SAMPLE.read_bytes() in server.uploads[0]
    (prompt,) = server.prompts
    inputs = {node["class_type"]: node["inputs"] for node in prompt.values()}
    assert inputs["LoadImage"] == {"image": "uploaded.png"}
    assert inputs["PinpointParsePrompt"]["text"] == "a cat and a star"
    assert inputs["PinpointPriorFromBoxes"]["boxes"] == "cat=10,30,60,80"
    assert inputs["PinpointPromptToPromptEdit"]["target"] == "an owl and a star"


@pytest.mark.parametrize("server", ["error"], indirect=True)
def test_the_script_says_why_an_edit_failed(server: Server, tmp_path: Path) -> None:
    done = run_script(f"http://127.0.0.1:{server.server_port}", tmp_path, *EDIT)
    assert done.returncode == 1 and "out of paper" in done.stderr
    assert not (tmp_path / "edited.png").exists()
