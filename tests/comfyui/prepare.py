"""Make the environment that ComfyUI runs in for the tests: `.venv-comfyui`, on top of this `.venv`.

torch and everything else that is installed for Pinpoint is shared with it, so that only what ComfyUI asks for
beside that is downloaded. torchaudio is left out: it must be built for the very torch that is here, and
nothing in Pinpoint needs ComfyUI's audio nodes. The newest frontend goes beside it, into a folder of its own:
ComfyUI itself keeps the one that it pins.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import site
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from pinpoint.tests.comfyui.comfyui_server import ROOT, comfyui_folder

FOLDER = ROOT / ".venv-comfyui"
SHARED = ("torch", "torchvision", "torchaudio")
FRONTEND = "comfyui-frontend-package"
NEWEST_FRONTEND = FOLDER / "newest-frontend"


def main() -> int:
    """Build the environment if there is a ComfyUI and it has not been built for these requirements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--newest-frontend", action="store_true", help="install the newest frontend, too")
    given = parser.parse_args()
    comfyui = comfyui_folder()
    if comfyui is None:
        print("NO COMFYUI: set COMFYUI_DIR to a checkout, or put one at ~/ComfyUI; its tests will be skipped")
        return 0
    wanted = [
        line
        for line in (comfyui / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#") and re.split(r"[<>=~\[ ]", line)[0] not in SHARED
    ]
    print(f"ComfyUI: {comfyui}")
    prepare(wanted)
    if given.newest_frontend:
        into = ["--target", str(NEWEST_FRONTEND), "--upgrade", "--no-deps"]
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *into, FRONTEND], check=True)
        print(f"frontend: {next(NEWEST_FRONTEND.glob('comfyui_frontend_package-*.dist-info')).stem}")
    return 0


def prepare(wanted: Sequence[str]) -> None:
    """Make the environment with these requirements, unless it is there."""
    stamp = FOLDER / ".prepared"
    digest = hashlib.sha256("\n".join([sys.version, str(ROOT), *wanted]).encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == digest:
        return
    venv.create(FOLDER, with_pip=True, clear=True)
    python = FOLDER / "bin" / "python"
    (FOLDER / ".gitignore").write_text("*\n")
    inner = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"],
        check=True,
        capture_output=True,
        text=True,
    )
    # Last on the path, so that what ComfyUI pins goes before what is shared.
    Path(inner.stdout.strip(), "shared.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    stamp.write_text(digest)


if __name__ == "__main__":
    sys.exit(main())
