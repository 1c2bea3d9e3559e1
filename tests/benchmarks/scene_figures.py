"""What a benchmark measures of scene after scene, kept as it goes: a later run goes on from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import track

Row = TypeVar("Row")
"""A scene's figures: plain JSON."""


def measured(
    scenes: Iterable[int], measure: Callable[[int], Row], *, keep: Path | None, choices: Mapping[str, Any]
) -> list[Row]:
    """`measure` of every scene in their order; those that the file `keep` holds a line of are not done anew.

    choices: whatever else the figures depend on, plain JSON. Several runs may write to one file, each its own
    scenes. Raises SystemExit for a file that was made with other choices.
    """
    wanted, known = list(scenes), json.loads(json.dumps(dict(choices)))
    done: dict[int, Row] = {}
    if keep is not None and keep.exists():
        for line in keep.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row["choices"] != known:
                raise SystemExit(f"{keep} was made with other choices or another model; name another file")
            done[row["scene"]] = row["figures"]
    for scene in track([scene for scene in wanted if scene not in done], "scenes", transient=True):
        done[scene] = measure(scene)
        if keep is not None:
            keep.parent.mkdir(parents=True, exist_ok=True)
            line = json.dumps({"scene": scene, "choices": known, "figures": done[scene]})
            with keep.open("a", encoding="utf-8") as file:
                file.write(f"{line}\n")
    return [done[scene] for scene in wanted]
