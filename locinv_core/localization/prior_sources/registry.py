"""Where a prior can come from: a box, a mask file, or a module `from_NAME.py` of this folder.

Such a module says by its `PRIOR_SOURCE` what is written after `WORD=NAME:` and makes the prior.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import prior_sources

if TYPE_CHECKING:
    from torch import Tensor

    from ..priors import Box, LocalizationPrior
    from .from_text import TextLocator

_MODULE = "from_"


@dataclass(frozen=True)
class PriorSource:
    """One way to get a prior.

    label: what it gives, for people. form: how its text is written, such as "x0,y0,x1,y1". prior: (word,
    text, image (1, 3, H, W)) to the word's prior; it raises ValueError for a text that it cannot read.
    locator: the class of its model, if that finds by a phrase; the source `text` takes its models, too.
    """

    label: str
    form: str
    prior: Callable[[str, str, Tensor], LocalizationPrior]
    locator: type[TextLocator] | None = None


def prior_source_names() -> list[str]:
    """The NAME of every `from_NAME.py`, with `-` for `_`; nothing is imported."""
    modules = [module.name for module in pkgutil.iter_modules(prior_sources.__path__)]
    return sorted(name.removeprefix(_MODULE).replace("_", "-") for name in modules if name.startswith(_MODULE))


def prior_source(name: str) -> PriorSource:
    """The source called `name`. Raises ValueError, listing the names, for another one."""
    if name not in prior_source_names():
        raise ValueError(f"prior source: got {name!r}, requires one of {', '.join(prior_source_names())}")
    source: PriorSource = importlib.import_module(
        f"{prior_sources.__name__}.{_MODULE}{name.replace('-', '_')}"
    ).PRIOR_SOURCE
    return source


def prior_from_argument(argument: str, image: Tensor) -> LocalizationPrior:
    """The prior of "cat=x0,y0,x1,y1", "cat=mask.png" or "cat=NAME:text" on `image` (1, 3, H, W).

    A box that ends in % is in percent of the image's sides. Raises ValueError for anything else, and as the source
    does.
    """
    from ..priors import from_boxes, from_mask_files

    word, equals, value = (part.strip() for part in argument.partition("="))
    if not equals or not word or not value:
        forms = ["WORD=MASK.png", "WORD=x0,y0,x1,y1", *(f"WORD={name}:…" for name in prior_source_names())]
        raise ValueError(f"prior {argument!r}: require {', '.join(forms[:-1])} or {forms[-1]}")
    size = (image.shape[-2], image.shape[-1])
    name, colon, text = value.partition(":")
    if colon and name in prior_source_names():
        return prior_source(name).prior(word, text.strip(), image)
    if value.endswith("%") and _numbers(value[:-1]) is not None:
        sides = (size[1], size[0]) * 2
        box = [round(share * side / 100, 6) for share, side in zip(parse_box(word, value[:-1]), sides, strict=True)]
        if max(box) <= 1:
            raise ValueError(f"prior of {word!r}: the box {value} is a pixel at most, requires percent of the sides")
        return from_boxes({word: box}, size)
    if _numbers(value) is not None:
        return from_boxes({word: parse_box(word, value)}, size)
    return from_mask_files({word: value}, size=size)


def prior_from_arguments(arguments: Sequence[str], image: Tensor) -> LocalizationPrior:
    """One prior of several arguments, each as `prior_from_argument` reads it."""
    from ..priors import merge

    return merge(*(prior_from_argument(argument, image) for argument in arguments))


def parse_box(word: str, text: str) -> Box:
    """The box of "x0,y0,x1,y1". Raises ValueError, naming the word, for other than four numbers."""
    numbers = _numbers(text)
    if numbers is None or len(numbers) != 4:
        got = repr(text) if numbers is None else len(numbers)
        raise ValueError(f"prior of {word!r}: a box is four numbers x0,y0,x1,y1, got {got}")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _numbers(text: str) -> list[float] | None:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        return None
