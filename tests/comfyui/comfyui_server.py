"""A real ComfyUI with this pack in it: started on a free port with a base folder of its own, and spoken to
over HTTP and the websocket as the browser does."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import websocket
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
PACK = "pinpoint"
START_SECONDS = 600
RUN_SECONDS = 900
_BINARY_KINDS = {1: "preview", 2: "preview", 3: "text", 4: "preview"}


def comfyui_folder() -> Path | None:
    """COMFYUI_DIR, else ~/ComfyUI, if ComfyUI is there."""
    folder = Path(os.environ.get("COMFYUI_DIR") or "~/ComfyUI").expanduser()
    return folder if (folder / "main.py").is_file() else None


def comfyui_python() -> Path | None:
    """COMFYUI_PYTHON, else the interpreter that `make test-comfyui` prepares."""
    path = Path(os.environ.get("COMFYUI_PYTHON") or ROOT / ".venv-comfyui" / "bin" / "python")
    return path if path.is_file() else None


class PromptRefused(Exception):
    """ComfyUI did not accept a prompt; `details` is what it said."""

    def __init__(self, details: dict[str, Any]) -> None:
        super().__init__(json.dumps(details, indent=1))
        self.details = details


@dataclass
class Outcome:
    """What the browser was told of one run."""

    status: str = ""
    """success, error or interrupted."""
    ran: list[str] = field(default_factory=list)
    """The nodes that were executed, in order: not those that came out of the cache."""
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What nodes showed, by node."""
    error: dict[str, Any] = field(default_factory=dict)
    progress: list[tuple[str, float, float]] = field(default_factory=list)
    """(node, value, max)."""
    previews: int = 0
    texts: dict[str, str] = field(default_factory=dict)
    """The line under each node."""


class ComfyUI:
    """A running ComfyUI; `stop` ends it."""

    def __init__(self, folder: Path, python: Path, base: Path) -> None:
        for name in (
            "custom_nodes",
            "input",
            "output",
            "temp",
            "user",
            "models/checkpoints",
            "models/diffusers",
        ):
            (base / name).mkdir(parents=True, exist_ok=True)
        (base / "custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
        # Nodes that stand in for Load Checkpoint and for other packs' detectors.
        for name in ("tiny_checkpoint.py", "detections.py"):
            (base / "custom_nodes" / name).symlink_to(Path(__file__).with_name(name))
        self.base = base
        self.log = base / "comfyui.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [str(python), "-u", "main.py", "--cpu", "--disable-api-nodes", "--listen", "127.0.0.1"]
        command += ["--port", str(self.port), "--base-directory", str(base)]
        command += ["--database-url", f"sqlite:///{base / 'user' / 'comfyui.db'}"]
        if os.environ.get("COMFYUI_FRONTEND"):
            # The static folder of another comfyui-frontend-package than the pinned one.
            command += ["--front-end-root", os.environ["COMFYUI_FRONTEND"]]
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=environment)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def get(self, path: str) -> Any:
        """The JSON at a path of the API."""
        return json.loads(self.get_bytes(path))

    def get_bytes(self, path: str) -> bytes:
        """What is at a path."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as response:
            content: bytes = response.read()
            return content

    def post(self, path: str, content: dict[str, Any] | None = None) -> Any:
        """The JSON that comes back for JSON; None for nothing."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            json.dumps(content or {}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            raise PromptRefused(json.loads(error.read() or b"{}")) from None
        return json.loads(body) if body else None

    def image(self, shown: dict[str, str]) -> np.ndarray:
        """(H, W, 3) uint8 of an image that a node showed."""
        content = self.get_bytes("/view?" + urllib.parse.urlencode(shown))
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))

    def run(self, prompt: dict[str, Any], watch: Callable[[str, dict[str, Any]], None] | None = None) -> Outcome:
        """Queue a prompt and listen until it has ended; `watch(kind, data)` sees every message."""
        client = uuid.uuid4().hex
        address = f"ws://127.0.0.1:{self.port}/ws?clientId={client}"
        outcome = Outcome()
        listening = websocket.create_connection(address, timeout=RUN_SECONDS)
        try:
            ticket = self.post("/prompt", {"prompt": prompt, "client_id": client})["prompt_id"]
            while not outcome.status:
                message = listening.recv()
                if isinstance(message, bytes):
                    self._take_binary(message, outcome)
                    continue
                told = json.loads(message)
                kind, data = told["type"], told["data"]
                if data.get("prompt_id", ticket) != ticket:
                    continue
                if watch is not None:
                    watch(kind, data)
                self._take(kind, data, outcome)
        finally:
            listening.close()
        return outcome

    def interrupt(self) -> None:
        """Press Cancel."""
        self.post("/interrupt")

    @staticmethod
    def _take(kind: str, data: dict[str, Any], outcome: Outcome) -> None:
        if kind == "executing" and data.get("node") is not None:
            outcome.ran.append(data["node"])
        elif kind == "executed":
            outcome.outputs[data["node"]] = data["output"] or {}
        elif kind == "progress":
            outcome.progress.append((data["node"], data["value"], data["max"]))
        elif kind in ("execution_success", "execution_error", "execution_interrupted"):
            outcome.status = kind.removeprefix("execution_")
            if kind == "execution_error":
                outcome.error = data

    @staticmethod
    def _take_binary(message: bytes, outcome: Outcome) -> None:
        kind = _BINARY_KINDS.get(struct.unpack(">I", message[:4])[0])
        if kind == "preview":
            outcome.previews += 1
        elif kind == "text":
            length = struct.unpack(">I", message[4:8])[0]
            outcome.texts[message[8 : 8 + length].decode()] = message[8 + length :].decode()

    def _wait(self) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self.process.poll() is not None:
                break
            try:
                self.get("/system_stats")
                return
            except (urllib.error.URLError, ConnectionError, OSError):
                time.sleep(0.3)
        raise RuntimeError(f"ComfyUI did not start:\n{self.log.read_text()[-4000:]}")
