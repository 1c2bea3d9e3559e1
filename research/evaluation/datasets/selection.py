"""Part of a data set: the items of some tasks, and a number of them that is spread over the tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .types import Item


def of_tasks(items: Sequence[Item], tasks: Sequence[str] | None) -> tuple[Item, ...]:
    """The items of these tasks or groups of tasks ("attribute", "single-object: cat → fox"); None takes all.

    Raises ValueError for no name, and for one that no item has.
    """
    if tasks is None:
        return tuple(items)
    if not tasks:
        raise ValueError("tasks: got none, requires at least one")
    for name in tasks:
        if not any(name in (item.group, item.task) for item in items):
            groups = ", ".join(dict.fromkeys(item.group for item in items))
            raise ValueError(f"tasks: got {name!r}, and the data set has {groups}")
    return tuple(item for item in items if item.group in tasks or item.task in tasks)


def spread(items: Sequence[Item], limit: int | None) -> tuple[Item, ...]:
    """At most `limit` items, evenly over their tasks, in their order; None takes all.

    Those of a smaller limit are among those of a larger. Raises ValueError for a limit below 1.
    """
    if limit is None:
        return tuple(items)
    if limit < 1:
        raise ValueError(f"limit: got {limit}, requires 1 or more")
    turns: Counter[str] = Counter()
    ranked = []
    for number, item in enumerate(items):
        ranked.append((turns[item.task], number))
        turns[item.task] += 1
    return tuple(items[number] for number in sorted(number for _, number in sorted(ranked)[:limit]))
