"""The study's folder, what each participant sees, the answers on disk, and the rates."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from PIL import Image

from pinpoint.research.evaluation.datasets.reader import read_dataset
from pinpoint.research.evaluation.user_study import answers as answers_module
from pinpoint.research.evaluation.user_study.answers import Answer, AnswersFile, read_answers
from pinpoint.research.evaluation.user_study.rates import Rate, preference_rates, rates_table
from pinpoint.research.evaluation.user_study.session import session, session_for_page
from pinpoint.research.evaluation.user_study.site import Study, Trial, build_site, read_study
from pinpoint.tests.research.evaluation.study_site import (
    COLOURS,
    METHODS,
    make_results,
    make_site,
    row,
    write_rows,
)


def answer(participant: str, item: str, question: str, method: str, study: str) -> Answer:
    return Answer(study, participant, item, question, method, 0, "2026-01-02T03:04:05+00:00")


def drawn_study(**groups: int) -> Study:
    """A study without files: so many trials of each group."""
    trials = [
        Trial(f"{group}-{k}", group, "a cat", "a fox", "p", {method: method for method in METHODS})
        for group, count in groups.items()
        for k in range(count)
    ]
    return Study("drawn", 0, 20, METHODS, tuple(trials))


# The folder


def test_a_site_holds_the_page_and_every_image_unchanged(tmp_path: Path) -> None:
    study = make_site(tmp_path)
    site = tmp_path / "site"
    assert sorted(path.name for path in site.iterdir()) == [
        *("index.html", "pictures", "study.css", "study.js", "study.json"),
    ]
    assert [trial.item for trial in study.trials] == [f"item-{k}" for k in range(6)]
    assert len(list((site / "pictures").iterdir())) == 6 * 4
    for k, trial in enumerate(study.trials):
        assert np.asarray(Image.open(site / "pictures" / trial.picture))[0, 0].tolist() == [10 * k, 90, 90]
        for method, name in trial.edits.items():
            shown = np.asarray(Image.open(site / "pictures" / name))
            assert (shown == COLOURS[method]).all()


def test_neither_an_images_name_nor_its_file_tells_the_method(tmp_path: Path) -> None:
    make_site(tmp_path)
    for path in (tmp_path / "site" / "pictures").iterdir():
        assert not any(method in path.name for method in METHODS)
        with Image.open(path) as image:
            assert image.info == {}


def test_an_item_without_an_image_by_every_method_is_left_out(tmp_path: Path) -> None:
    dataset = make_results(tmp_path, single=4, multi=0)
    rows = [row(f"item-{k}", method) for k in range(4) for method in METHODS]
    rows[0] |= {"error": "out of memory", "picture": None}
    rows[4] |= {"picture": None}
    write_rows(tmp_path, rows[:-1])
    study = build_site(tmp_path, dataset, tmp_path / "site")
    assert [trial.item for trial in study.trials] == ["item-2"]


def test_the_methods_can_be_chosen(tmp_path: Path) -> None:
    dataset = make_results(tmp_path)
    study = build_site(tmp_path, dataset, tmp_path / "site", methods=["pnp", "locinv"])
    assert study.methods == ("pnp", "locinv")
    assert set(study.trials[0].edits) == {"pnp", "locinv"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ["locinv", "imagic"]}, "no 'imagic', but locinv, nti, pnp"),
        ({"methods": ["locinv"]}, "got 1 .* requires 2 to 9"),
        ({"tasks": 0}, "tasks: got 0"),
    ],
)
def test_a_study_that_cannot_be_is_refused(tmp_path: Path, arguments: dict, message: str) -> None:
    dataset = make_results(tmp_path)
    with pytest.raises(ValueError, match=message):
        build_site(tmp_path, dataset, tmp_path / "site", **arguments)
    assert not (tmp_path / "site").exists()


def test_results_cannot_name_images_outside_their_folder(tmp_path: Path) -> None:
    dataset = make_results(tmp_path / "run")
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64)).save(secret)
    for name in ("../secret.png", str(secret)):
        rows = [row(item.id, method, picture=name) for item in dataset.items for method in METHODS]
        write_rows(tmp_path / "run", rows)
        with pytest.raises(ValueError, match="requires a name relative"):
            build_site(tmp_path / "run", dataset, tmp_path / "site")


def test_a_study_that_was_begun_is_taken_up_and_another_is_refused(tmp_path: Path) -> None:
    study = make_site(tmp_path)
    site = tmp_path / "site"
    (site / "answers.jsonl").write_text("kept", encoding="utf-8")
    assert make_site(tmp_path) == study
    assert (site / "answers.jsonl").read_text(encoding="utf-8") == "kept"
    with pytest.raises(ValueError, match="holds another study"):
        make_site(tmp_path, tasks=5)


@pytest.mark.parametrize("changed", ["images/2.png", "pictures/nti/item-2.png"])
def test_the_same_items_and_methods_with_other_images_are_another_study(tmp_path: Path, changed: str) -> None:
    study, site = make_site(tmp_path), tmp_path / "site"
    Image.new("RGB", (64, 64), (1, 2, 3)).save(tmp_path / "run" / changed)
    dataset = read_dataset(tmp_path / "run")
    with pytest.raises(ValueError, match="holds another study"):
        build_site(tmp_path / "run", dataset, site, tasks=4)
    assert read_study(site) == study
    assert build_site(tmp_path / "run", dataset, tmp_path / "new", tasks=4).fingerprint != study.fingerprint


def test_a_folder_with_another_page_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("mine", encoding="utf-8")
    with pytest.raises(ValueError, match=r"holds another index\.html"):
        make_site(tmp_path)
    assert [(path.name, path.read_text(encoding="utf-8")) for path in site.iterdir()] == [("index.html", "mine")]


def test_a_study_whose_writing_was_interrupted_is_written_anew(tmp_path: Path) -> None:
    study = make_site(tmp_path)
    (tmp_path / "site" / "study.json").unlink()
    assert make_site(tmp_path) == study == read_study(tmp_path / "site")


def test_a_study_with_foreign_content_is_refused(tmp_path: Path) -> None:
    make_site(tmp_path)
    path = tmp_path / "site" / "study.json"
    good = json.loads(path.read_text(encoding="utf-8"))
    for change, message in (
        ({"format": "other"}, "requires 'pinpoint-study'"),
        ({"trials": [{"item": "x"}]}, "is no study"),
        ({"methods": None}, "is no study"),
        ({"methods": "abc"}, "methods: got 'abc', requires a list"),
        (
            {"methods": ["locinv", "nti", "imagic"]},
            "has edits by locinv, nti, pnp, requires locinv, nti, imagic",
        ),
        ({"trials": [good["trials"][0] | {"edits": []}]}, r"edits: got \[\], requires an object"),
        ({"trials": [good["trials"][0] | {"source": 3}]}, "'item-0': got 3, requires a text"),
        ({"trials": [good["trials"][0] | {"picture": "../study.json"}]}, "requires a name relative"),
    ):
        path.write_text(json.dumps(good | change), encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            read_study(tmp_path / "site")
    with pytest.raises(ValueError, match=r"holds no study\.json"):
        read_study(tmp_path)


# What a participant sees


def test_a_participant_sees_the_same_again_and_another_sees_another_order() -> None:
    study = drawn_study(single=30, multi=30)
    assert session(study, "anna") == session(study, "anna")
    assert session(study, "anna") != session(study, "berta")


def test_ten_trials_of_twenty_are_of_each_group_and_none_comes_twice() -> None:
    study = drawn_study(single=30, multi=30)
    for number in range(20):
        shown = session(study, f"participant-{number}")
        assert Counter(one.trial.group for one in shown) == {"single": 10, "multi": 10}
        assert len({one.trial.item for one in shown}) == 20


def test_a_small_group_is_shown_whole_and_the_other_fills_up() -> None:
    shown = session(drawn_study(single=30, multi=3), "anna")
    assert Counter(one.trial.group for one in shown) == {"single": 17, "multi": 3}
    assert len(session(drawn_study(single=2, multi=3), "anna")) == 5


def test_every_method_stands_everywhere_equally_often() -> None:
    study = drawn_study(single=30, multi=30)
    places = Counter(
        (method, place)
        for number in range(100)
        for one in session(study, f"participant-{number}")
        for place, method in enumerate(one.order)
    )
    # 2,000 orders of 3 methods: 667 of each at each place, with a standard deviation of 21.
    assert len(places) == 9
    assert all(abs(count - 2000 / 3) < 5 * 21.1 for count in places.values())


def test_the_page_is_not_told_the_methods_and_gets_the_answers_back(tmp_path: Path) -> None:
    study = make_site(tmp_path)
    first = session(study, "anna")[0]
    given = [
        answer("anna", first.trial.item, "quality", first.order[1], study.fingerprint),
        answer("anna", first.trial.item, "quality", first.order[2], study.fingerprint),
        answer("berta", first.trial.item, "background", first.order[0], study.fingerprint),
        answer("anna", first.trial.item, "background", first.order[0], "another study"),
    ]
    page = session_for_page(study, "anna", given)
    assert page["trials"][0]["answers"] == {"quality": 2, "background": None}
    assert page["trials"][0]["edits"] == [first.trial.edits[method] for method in first.order]
    assert len(page["trials"]) == 4
    text = json.dumps(page)
    assert not any(method in text for method in METHODS)


def test_the_words_that_change_are_marked(tmp_path: Path) -> None:
    page = json.loads(json.dumps(session_for_page(make_site(tmp_path), "anna", [])))
    for trial in page["trials"]:
        assert trial["source"] == [["a", False], [" cat", True], [" and a dog", False]]
        assert trial["target"] == [["a", False], [" fox", True], [" and a dog", False]]


# Answers


def test_answers_are_kept_on_disk_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    one = answer("anna", "item-1", "quality", "pnp", "s")
    two = answer("anna", "item-1", "background", "nti", "s")
    file = AnswersFile(path)
    file.append(one)
    assert read_answers(path) == [one]
    file.append(two)
    assert AnswersFile(path).answers == read_answers(path) == [one, two]
    assert json.loads(path.read_text(encoding="utf-8").splitlines()[0])["method"] == "pnp"


def test_half_a_line_at_the_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    one, two = answer("anna", "a", "quality", "pnp", "s"), answer("anna", "b", "quality", "pnp", "s")
    AnswersFile(path).append(one)
    whole = path.read_bytes()
    for cut in (1, 12, 40):
        path.write_bytes(whole[:cut])
        assert AnswersFile(path).answers == [] and path.read_bytes() == b""
    path.write_bytes(whole + whole[:20])
    assert read_answers(path) == [one]
    file = AnswersFile(path)
    file.append(two)
    assert read_answers(path) == [one, two]


@pytest.mark.parametrize(
    "content",
    [
        *(f"{line}\n" for line in ("{}", "3", "no", '{"study": 1}')),
        json.dumps({**vars(answer("a", "b", "c", "d", "e")), "place": "0"}) + "\n",
        "notes of mine",
    ],
)
def test_another_file_is_not_taken_for_answers_and_stays_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text(content, encoding="utf-8")
    for opened in (read_answers, AnswersFile):
        with pytest.raises(ValueError, match=r"line 1 .* is not an answer"):
            opened(path)
    assert path.read_text(encoding="utf-8") == content


def test_a_file_that_is_full_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "answers.jsonl"
    file = AnswersFile(path)
    file.append(answer("anna", "a", "quality", "pnp", "s"))
    monkeypatch.setattr(answers_module, "LARGEST_FILE", path.stat().st_size + 10)
    with pytest.raises(OSError, match="is full"):
        file.append(answer("anna", "b", "quality", "pnp", "s"))
    assert len(file.answers) == len(read_answers(path)) == 1


# Rates


@pytest.mark.parametrize(("chosen", "asked"), [(0, 7), (7, 7), (8, 20), (1, 400)])
def test_intervals_are_wilsons(chosen: int, asked: int) -> None:
    # (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n), at the normal distribution's 97.5 % point
    share, z = chosen / asked, NormalDist().inv_cdf(0.975)
    reach = z * math.sqrt(share * (1 - share) / asked + z * z / (4 * asked * asked))
    expected = [(share + z * z / (2 * asked) + way * reach) / (1 + z * z / asked) for way in (-1, 1)]
    assert Rate("all", "quality", "pnp", chosen, asked).interval == pytest.approx(expected, abs=1e-9)


def test_where_nobody_was_asked_every_share_is_possible() -> None:
    assert Rate("all", "quality", "pnp", 0, 0).interval == (0.0, 1.0)


def test_rates_are_the_shares_of_the_answers_that_count() -> None:
    study = drawn_study(single=2, multi=1)
    s = study.fingerprint
    given = [
        answer("anna", "single-0", "quality", "pnp", s),
        answer("anna", "single-0", "quality", "locinv", s),  # changed her mind
        answer("anna", "single-1", "quality", "locinv", s),
        answer("berta", "single-0", "quality", "nti", s),
        answer("berta", "multi-0", "quality", "pnp", s),
        answer("berta", "multi-0", "background", "pnp", s),
        answer("carla", "single-0", "quality", "pnp", "another study"),
        answer("carla", "gone", "quality", "pnp", s),
    ]
    rates = {(r.group, r.question, r.method): (r.chosen, r.asked) for r in preference_rates(study, given)}
    assert len(rates) == 3 * 2 * 3
    assert [rates["single", "quality", m] for m in METHODS] == [(2, 3), (1, 3), (0, 3)]
    assert [rates["multi", "quality", m] for m in METHODS] == [(0, 1), (0, 1), (1, 1)]
    assert [rates["overall", "quality", m] for m in METHODS] == [(2, 4), (1, 4), (1, 4)]
    assert [rates["overall", "background", m] for m in METHODS] == [(0, 1), (0, 1), (1, 1)]
    assert [rates["single", "background", m] for m in METHODS] == [(0, 0)] * 3


def test_the_table_has_the_form_of_the_papers() -> None:
    study = drawn_study(single=1)
    given = [answer(f"p{k}", "single-0", "quality", "locinv" if k < 8 else "pnp", study.fingerprint) for k in range(20)]
    lines = rates_table(study, given).splitlines()
    assert lines[0] == "| group | question | answers | locinv | nti | pnp |"
    # Wilson's intervals of 8, 0 and 12 of 20, from scipy.
    assert lines[2] == ("| single | quality | 20 | 40.0 (21.9 to 61.3) | 0.0 (0.0 to 16.1) | **60.0** (38.7 to 78.1) |")
    assert lines[3] == "| single | background | 0 | - | - | - |"
    assert lines[-1].startswith("20 participants;")
