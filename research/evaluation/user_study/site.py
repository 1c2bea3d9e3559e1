"""A study's folder: what is compared, images under names that tell no method, the page, the answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from ..datasets.fields import file_inside, list_of, mapping_of, read_json, text_of
from ..datasets.types import Dataset, Item
from ..results import Row, read_results, row_key

FORMAT: Final = "pinpoint-study"
VERSION: Final = 1
STUDY_NAME: Final = "study.json"
ANSWERS_NAME: Final = "answers.jsonl"
IMAGES: Final = "pictures"
PAGE: Final = Path(__file__).parent / "page"
PAGE_FILES: Final = ("index.html", "study.css", "study.js")
MOST_METHODS: Final = 9
"""A digit key chooses one."""


@dataclass(frozen=True)
class Trial:
    """An image and its edits. image, edits: method -> file names in the study's images, others for other
    images. group: of the item's task. source, target: the prompts."""

    item: str
    group: str
    source: str
    target: str
    picture: str
    edits: Mapping[str, str]


@dataclass(frozen=True)
class Study:
    """A study: its methods, in the results' order, its trials, and how many of them a participant sees."""

    name: str
    seed: int
    tasks: int
    methods: tuple[str, ...]
    trials: tuple[Trial, ...]

    @property
    def fingerprint(self) -> str:
        """Of the study and its images: answers say which one they are of."""
        text = json.dumps(asdict(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def build_site(
    results: Path, dataset: Dataset, site: Path, *, methods: Sequence[str] | None = None, tasks: int = 20, seed: int = 0
) -> Study:
    """Write a study of the images that `pinpoint evaluate` left in the folder `results`.

    An item is compared when every method has an image of it. Images are copied without what their files
    say beside the pixels, under names that do not tell the method. A site that holds this very study, of the
    same images, stays as it is, with its answers.

    methods: which of the results' to compare, 2 to 9; None takes all. tasks: items that a participant sees.
    Raises ValueError for methods that the results lack, a number of tasks below 1, an image outside the
    folder, when nothing can be compared, and for a site that holds another study or another page.
    """
    if tasks < 1:
        raise ValueError(f"tasks: got {tasks}, requires 1 or more")
    rows = read_results(results)
    chosen = _methods(rows, methods)
    images = {row_key(row): row["picture"] for row in rows if not row["error"] and row["picture"]}
    items = [item for item in dataset.items if all((item.id, method) in images for method in chosen)]
    if not items:
        raise ValueError(f"study: no item of {dataset.name!r} has an image by each of {', '.join(chosen)}")
    files: dict[str, Path] = {}

    def shown(item: Item, method: str) -> str:
        """The study's name of an item's image, or of its edit by a method: other files have other names."""
        file = item.image
        if method:
            file = file_inside(results, images[item.id, method], f"image of {item.id!r} by {method}")
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        name = hashlib.sha256(f"{seed}|{item.id}|{method}|{content}".encode()).hexdigest()[:20] + ".png"
        files[name] = file
        return name

    trials = tuple(
        Trial(
            *(item.id, item.group, item.source, item.target, shown(item, "")),
            edits={method: shown(item, method) for method in chosen},
        )
        for item in items
    )
    study = Study(dataset.name, seed, tasks, chosen, trials)
    if (site / STUDY_NAME).exists():
        if read_study(site) != study:
            raise ValueError(f"out: {str(site)!r} holds another study, requires a new folder or the same study")
        return study
    for name in PAGE_FILES:
        if (site / name).exists() and (site / name).read_bytes() != (PAGE / name).read_bytes():
            raise ValueError(f"out: {str(site)!r} holds another {name}, requires a new or an empty folder")
    _write(study, files, site)
    return study


def read_study(site: Path) -> Study:
    """The study of a folder that `build_site` wrote. Raises ValueError for another folder."""
    path = site / STUDY_NAME
    if not path.is_file():
        raise ValueError(f"study: {str(site)!r} holds no {STUDY_NAME}")
    content = mapping_of(read_json(path, "study"), f"study {str(path)!r}")
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise ValueError(f"study {str(path)!r}: requires {FORMAT!r} version {VERSION}")
    entries = [mapping_of(entry, "study: trial") for entry in list_of(content.get("trials"), "study: trials")]
    try:
        study = Study(
            name=text_of(content["name"], "study: name"),
            seed=int(content["seed"]),
            tasks=int(content["tasks"]),
            methods=tuple(text_of(name, "methods") for name in list_of(content["methods"], "methods")),
            trials=tuple(Trial(**entry) for entry in entries),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"study {str(path)!r} is no study: {error}") from error
    for trial in study.trials:
        _check_trial(trial, study.methods, site)
    return study


def _check_trial(trial: Trial, methods: Sequence[str], site: Path) -> None:
    """Raise ValueError for a trial that cannot be shown, or that names an image outside the site."""
    named = f"study: trial {trial.item!r}"
    for text in (trial.item, trial.source, trial.target):
        text_of(text, named)
    if not isinstance(trial.group, str):
        raise ValueError(f"{named}: group: got {trial.group!r}, requires a text")
    edits = mapping_of(trial.edits, f"{named}: edits")
    if set(edits) != set(methods):
        has = ", ".join(edits) or "none"
        raise ValueError(f"{named}: it has edits by {has}, requires {', '.join(methods)}")
    for name in (trial.picture, *edits.values()):
        file_inside(site, f"{IMAGES}/{text_of(name, 'study: picture')}", "study: image")


def _methods(rows: Sequence[Row], asked: Sequence[str] | None) -> tuple[str, ...]:
    there = tuple(dict.fromkeys(str(row["method"]) for row in rows))
    chosen = there if asked is None else tuple(dict.fromkeys(asked))
    missing = [method for method in chosen if method not in there]
    if missing:
        raise ValueError(f"methods: the results have no {missing[0]!r}, but {', '.join(there) or 'none'}")
    if not 2 <= len(chosen) <= MOST_METHODS:
        raise ValueError(f"methods: got {len(chosen)} ({', '.join(chosen)}), requires 2 to {MOST_METHODS} of them")
    return chosen


def _write(study: Study, files: Mapping[str, Path], site: Path) -> None:
    from ....locinv_core.imaging.io import load_image, save_png, written_whole

    (site / IMAGES).mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        save_png(load_image(file), site / IMAGES / name)
    for name in PAGE_FILES:
        with written_whole(site / name) as unfinished:
            unfinished.write_bytes((PAGE / name).read_bytes())
    content: dict[str, Any] = {"format": FORMAT, "version": VERSION, **asdict(study)}
    with written_whole(site / STUDY_NAME) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
