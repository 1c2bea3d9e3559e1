"""How often each method was preferred, with Wilson's intervals: the tables of the user study (LocInv,
Tables 1 and 4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from scipy.stats import binomtest

from .answers import Answer, latest
from .session import QUESTIONS
from .site import Study

OVERALL: Final = "overall"


@dataclass(frozen=True)
class Rate:
    """How often a method was chosen: `chosen` of `asked` answers. group: of the items, or "overall"."""

    group: str
    question: str
    method: str
    chosen: int
    asked: int

    @property
    def share(self) -> float | None:
        """Between 0 and 1; None where nobody was asked."""
        return self.chosen / self.asked if self.asked else None

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval (1927) of the share; (0, 1) where nobody was asked."""
        if not self.asked:
            return 0.0, 1.0
        found = binomtest(self.chosen, self.asked).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


def preference_rates(study: Study, answers: Sequence[Answer]) -> list[Rate]:
    """The rates by group, question and method, the groups in the trials' order, "overall" last.

    Of an answer that was changed the last counts, and answers of another study do not.
    """
    groups = {trial.item: trial.group for trial in study.trials}
    counted = [
        answer
        for answer in latest(list(answers))
        if answer.study == study.fingerprint and answer.item in groups and answer.method in study.methods
    ]
    names = list(dict.fromkeys(groups.values()))
    chosen: Counter[tuple[str, str, str]] = Counter()
    for answer in counted:
        for group in (groups[answer.item], OVERALL):
            chosen[group, answer.question, answer.method] += 1
    rates = []
    for group in (*names, *([OVERALL] if len(names) > 1 else [])):
        for question in QUESTIONS:
            own = {method: chosen[group, question, method] for method in study.methods}
            rates += [Rate(group, question, method, own[method], sum(own.values())) for method in study.methods]
    return rates


def rates_table(study: Study, answers: Sequence[Answer]) -> str:
    """The rates in percent as a Markdown table in the form of Table 4, the best of each row in bold."""
    rates = preference_rates(study, answers)
    people = len({answer.participant for answer in answers if answer.study == study.fingerprint})
    lines = [
        f"| group | question | answers | {' | '.join(study.methods)} |",
        "|---|---|--:|" + "--:|" * len(study.methods),
    ]
    for group, question in dict.fromkeys((rate.group, rate.question) for rate in rates):
        row = [rate for rate in rates if (rate.group, rate.question) == (group, question)]
        best = max(rate.chosen for rate in row)
        cells = [_cell(rate, rate.chosen == best) for rate in row]
        lines.append(f"| {group} | {question} | {row[0].asked} | {' | '.join(cells)} |")
    note = f"{people} participant{'' if people == 1 else 's'}; % preferred, with Wilson's 95 % interval."
    return "\n".join([*lines, "", note])


def _cell(rate: Rate, best: bool) -> str:
    if rate.share is None:
        return "-"
    low, high = rate.interval
    share = f"{100 * rate.share:.1f}"
    return f"{f'**{share}**' if best else share} ({100 * low:.1f} to {100 * high:.1f})"
