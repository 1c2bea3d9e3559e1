"""How often each method was preferred, with Wilson's intervals: the tables of the user study (LocInv,
Tables 1 and 4)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .answers import Answer, latest
from .session import QUESTIONS
from .site import Study

OVERALL: Final = "overall"
Z: Final = 1.959963984540054
"""The normal distribution's 97.5 % point, for intervals of 95 %."""


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
        """Wilson's 95 % interval of the share."""
        return wilson(self.chosen, self.asked)


def wilson(chosen: int, asked: int, z: float = Z) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share of `chosen` in `asked`; (0, 1) where nobody was asked.

    (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n). Raises ValueError for counts that are no share.
    """
    if not 0 <= chosen <= asked:
        raise ValueError(f"share: got {chosen} of {asked}")
    if asked == 0:
        return 0.0, 1.0
    share, spread = chosen / asked, z * z / asked
    centre = share + spread / 2
    reach = z * math.sqrt(share * (1 - share) / asked + spread / (4 * asked))
    return max(0.0, (centre - reach) / (1 + spread)), min(1.0, (centre + reach) / (1 + spread))


def preference_rates(study: Study, answers: Sequence[Answer]) -> list[Rate]:
    """The rates by group, question and method, the groups in the trials' order, "overall" last.

    Of an answer that was changed the last counts, and answers of another study do not. Every answer counts as
    one observation, as in the paper.
    """
    groups = {trial.item: trial.group for trial in study.trials}
    counted = [
        answer
        for answer in latest(list(answers))
        if answer.study == study.fingerprint and answer.item in groups and answer.method in study.methods
    ]
    chosen = Counter((groups[a.item], a.question, a.method) for a in counted)
    asked = Counter((groups[a.item], a.question) for a in counted)
    names = list(dict.fromkeys(groups.values()))
    rates = [
        Rate(group, question, method, chosen[group, question, method], asked[group, question])
        for group in names
        for question in QUESTIONS
        for method in study.methods
    ]
    if len(names) == 1:
        return rates
    return rates + [
        Rate(
            OVERALL,
            question,
            method,
            sum(chosen[group, question, method] for group in names),
            sum(asked[group, question] for group in names),
        )
        for question in QUESTIONS
        for method in study.methods
    ]


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
