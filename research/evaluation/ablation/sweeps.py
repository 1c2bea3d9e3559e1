"""The papers' ablations as sweeps: LocInv's Fig. 3 over λ, α and β, and Learnable Regions' Tables 2 to 5.

A sweep is a row of points; a point is a variant that runs on the same machinery as any evaluation. Points
with the same settings are one variant, run once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ..execution.work_items import Variant

Prior = Literal["segment", "detection"]
Term = tuple[float, float, float]
"""λ, α and β of one loss."""

PRIORS: Final[tuple[Prior, ...]] = ("segment", "detection")
PUBLISHED_TERMS: Final[Mapping[Prior, Mapping[str, Term]]] = {
    "segment": {"similarity": (1.0, 50.0, 0.7), "overlap": (1.0, 10.0, 0.7)},
    "detection": {"similarity": (0.1, 25.0, 0.5), "overlap": (1.0, 25.0, 0.3)},
}
"""The similarity loss and the overlap loss (LocInv §4.1)."""
_SHORT: Final = {"similarity": "sim", "overlap": "ovl"}

ALPHAS: Final = (5.0, 10.0, 25.0, 50.0, 100.0)
BETAS: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
WEIGHTS: Final = ((1.0, 0.0), (0.0, 1.0), (1.0, 0.1), (1.0, 1.0), (0.1, 1.0))
"""λ_sim and λ_ovl; the first two are one of the losses alone."""


@dataclass(frozen=True)
class Point:
    """One value of what a sweep varies.

    label: the value for people. x: where it lies on an axis; None for what is no number. chosen: whether the
    paper takes it. published: what the paper measured there, by the metric's name.
    """

    label: str
    variant: Variant
    x: float | None = None
    chosen: bool = False
    published: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sweep:
    """What is varied, in which figure or table of the paper, and the points.

    group: sweeps of one group are drawn in one figure, of that name. symbol: what varies.
    """

    name: str
    group: str
    title: str
    symbol: str
    points: tuple[Point, ...]

    def __post_init__(self) -> None:
        labels = [point.label for point in self.points]
        if len(set(labels)) != len(labels):
            raise ValueError(f"sweep {self.name!r}: its points are {labels}, requires each once")


LOCINV_SWEEPS: Final = ("similarity", "overlap", "weights", "methods")
REGION_SWEEPS: Final = ("losses", "proposals", "anchors", "generation")


def locinv_sweeps(
    names: Sequence[str], priors: Sequence[str], *, steps: int = 50, solver: str = "fast"
) -> tuple[Sweep, ...]:
    """The sweeps of Fig. 3 for each kind of prior: columns 1 (similarity: α_sim, β_sim), 2 (overlap: α_ovl,
    β_ovl), 3 (weights: λ) and 4 (methods: the IoU curves beside untuned maps, those of NTI, and DPL).

    steps: of DDIM. solver: how words are tuned, "fast" or "exact". Raises ValueError for an unknown name.
    """
    _known("sweeps", names, LOCINV_SWEEPS)
    _known("prior", priors, PRIORS)
    shared = {"steps": steps, "solver": solver}
    sweeps: list[Sweep] = []
    for prior in (prior for prior in PRIORS if prior in priors):

        def add(name: str, column: int, what: str, points: Sequence[Point], prior: Prior = prior) -> None:
            title = f"Fig. 3, column {column}: {what}"
            symbol = "method" if name == "methods" else name
            sweeps.append(Sweep(f"{prior} {name}", f"fig3_{prior}", title, symbol, tuple(points)))

        published = PUBLISHED_TERMS[prior]
        for column, loss in enumerate(("similarity", "overlap"), start=1):
            for k, symbol, values in ((1, "α", ALPHAS), (2, "β", BETAS)) if loss in names else ():
                points = []
                for value in values:
                    term = [*published[loss]]
                    term[k] = value
                    points.append(_tuned(f"{value:g}", prior, {loss: (term[0], term[1], term[2])}, shared, value))
                add(f"{symbol}_{_SHORT[loss]}", column, f"{loss} loss", points)
        if "weights" in names:
            points = []
            for weights in WEIGHTS:
                terms = {loss: (weight, *published[loss][1:]) for loss, weight in zip(_SHORT, weights, strict=True)}
                points.append(_tuned(f"λ_sim={weights[0]:g} λ_ovl={weights[1]:g}", prior, terms, shared))
            add("λ", 3, "weights", points)
        if "methods" in names:
            untuned = Point("untuned (NTI)", Variant("untuned", "maps", {"objective": "none", **shared}))
            dpl = Point("DPL", Variant("dpl", "maps", {"objective": "dpl", **shared}))
            add("methods", 4, "IoU curves", (untuned, dpl, _tuned(f"LocInv, {prior} prior", prior, {}, shared)))
    return tuple(sweeps)


def region_sweeps(names: Sequence[str], settings: Mapping[str, Any]) -> tuple[Sweep, ...]:
    """Learnable Regions' Table 3 (losses), 4 (proposals: M), 5 (anchors: K) and 2 (generation).

    settings: what all points share, such as the editor and its steps. Table 2 is a user study; here its
    baselines are measured as the others are. Raises ValueError for an unknown name.
    """
    _known("sweeps", names, REGION_SWEEPS)
    return tuple(_region_sweep(name, settings) for name in REGION_SWEEPS if name in names)


def _region_sweep(name: str, settings: Mapping[str, Any]) -> Sweep:
    group, title, symbol, rows = _TABLES[name]
    points = []
    for label, own_name, changes, scores in rows:
        choices = {**_STANDARD, **changes}
        chosen = choices == _STANDARD
        variant = Variant("standard" if chosen else own_name, "regions", {**settings, **choices})
        x = float(label) if label.isdecimal() else None
        published = {} if scores is None else dict(zip(("s_t2i", "s_i2i"), scores, strict=True))
        points.append(Point(label, variant, x, chosen, published))
    return Sweep(name, group, title, symbol, tuple(points))


_STANDARD: Final[Mapping[str, Any]] = {"k": 8, "m": 7, "losses": [1.0, 1.0, 1.0], "anchors": "dino", "sizes": "learned"}
"""What Learnable Regions chooses."""
_TABLE_4: Final = {1: (0.231, 0.915), 3: (0.273, 0.837), 5: (0.295, 0.809), 7: (0.300, 0.805), 9: (0.301, 0.802)}
_TABLE_5: Final = {1: (0.275, 0.824), 4: (0.296, 0.805), 6: (0.301, 0.802), 8: (0.300, 0.805), 10: (0.298, 0.803)}
_Row = tuple[str, str, Mapping[str, Any], tuple[float, float] | None]
_TABLES: Final[Mapping[str, tuple[str, str, str, Sequence[_Row]]]] = {
    "losses": (
        "tables3to5",
        "Table 3: loss components",
        "losses",
        [
            ("L_Clip", "L_Clip", {"losses": [1.0, 0.0, 0.0]}, (0.301, 0.801)),
            ("L_Clip + L_Str", "L_Clip+L_Str", {"losses": [1.0, 1.0, 0.0]}, (0.294, 0.806)),
            ("L_Clip + L_Str + L_Dir", "standard", {}, (0.301, 0.805)),
        ],
    ),
    "proposals": (
        "tables3to5",
        "Table 4: region proposals",
        "M",
        [(str(m), f"M={m}", {"m": m}, scores) for m, scores in _TABLE_4.items()],
    ),
    "anchors": (
        "tables3to5",
        "Table 5: anchor points",
        "K",
        [(str(k), f"K={k}", {"k": k}, scores) for k, scores in _TABLE_5.items()],
    ),
    "generation": (
        "table2",
        "Table 2: how regions are generated",
        "regions",
        [
            ("random anchors, random sizes", "random", {"anchors": "random", "sizes": "random"}, None),
            ("DINO anchors, random sizes", "dino-random", {"sizes": "random"}, None),
            ("DINO anchors, learned sizes", "standard", {}, None),
        ],
    ),
}
"""Sweep -> figure, title, symbol, and its rows: label, variant's name, what is changed, published S_t2i and S_i2i."""


def variants_of(sweeps: Sequence[Sweep]) -> tuple[Variant, ...]:
    """The variants of all points, each once."""
    return tuple({point.variant.name: point.variant for sweep in sweeps for point in sweep.points}.values())


def rows_of(sweep: Sweep, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The sweep's rows of a run's results, under its points' labels as methods."""
    return [
        {**row, "method": point.label} for point in sweep.points for row in rows if row["method"] == point.variant.name
    ]


def _tuned(
    label: str, prior: Prior, changes: Mapping[str, Term], shared: Mapping[str, Any], x: float | None = None
) -> Point:
    """LocInv with some of its terms changed, named by what differs from the published."""
    published = PUBLISHED_TERMS[prior]
    terms = {**published, **changes}
    differs = [
        f"{symbol}_{_SHORT[loss]}={value:g}"
        for loss, term in terms.items()
        for symbol, value, standard in zip("λαβ", term, published[loss], strict=True)
        if value != standard
    ]
    lists = {loss: [*term] for loss, term in terms.items()}
    variant = Variant(" ".join([prior, *differs]), "maps", {"objective": "locinv", "prior": prior, **lists, **shared})
    return Point(label, variant, x, chosen=not differs)


def _known(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{what}: got {name!r}, requires some of {', '.join(known)}")
    if not names:
        raise ValueError(f"{what}: got none, requires some of {', '.join(known)}")
