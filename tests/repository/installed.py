"""A folder with some of the installed distributions and what they require, and nothing else."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def installed() -> set[str]:
    return {canonicalize_name(found.name) for found in metadata.distributions()}


def closure(requirements: list[str]) -> set[str]:
    """The distributions that these requirements bring, with their own requirements."""
    known: set[str] = set()
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in known:
            continue
        known.add(name)
        for line in metadata.requires(name) or ():
            inner = Requirement(line)
            extras = requirement.extras or {""}
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(inner)
    return known


def site_with(requirements: list[str], folder: Path) -> Path:
    """A folder for PYTHONPATH, of links to what these requirements bring: all there is for a `python -S`."""
    folder.mkdir()
    for name in closure(requirements):
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}:
            if not (folder / top).exists():
                (folder / top).symlink_to(str(distribution.locate_file(top)))
    return folder
