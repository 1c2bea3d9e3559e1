"""The papers' ablations as sweeps: LocInv's Fig. 3 over λ, α and β, and Learnable Regions' Tables 2 to 5.

A sweep is a row of points; a point is a variant that runs on the same machinery as any evaluation. Points
with the same settings are one variant, run once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from ..execution.work_items import Variant

Prior = Literal["segment", "detection"]
Term = tuple[float, float, float]
"""λ, α and β of one loss."""

PRIORS: Final[tuple[Prior, ...]] = ("segment", "detection")
PUBLISHED_TERMS: Final[Mapping[Prior, tuple[Term, Term]]] = {
    "segment": ((1.0, 50.0, 0.7), (1.0, 10.0, 0.7)),
    "detection": ((0.1, 25.0, 0.5), (1.0, 25.0, 0.3)),
}
"""The similarity loss and the overlap loss (LocInv §4.1)."""

ALPHAS: Final = (5.0, 10.0, 25.0, 50.0, 100.0)
BETAS: Final = (0.1, 0.3, 0.5, 0.7, 0.9)
WEIGHTS: Final = ((1.0, 0.0), (0.0, 1.0), (1.0, 0.1), (1.0, 1.0), (0.1, 1.0))
"""λ_sim and λ_ovl; the first two are one of the losses alone."""

K: Final = 8
M: Final = 7


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
    published: Mapping[str, float] | None = None


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
    for prior in PRIORS:
        if prior not in priors:
            continue
        terms = PUBLISHED_TERMS[prior]
        for part, loss in enumerate(("similarity", "overlap")):
            if loss not in names:
                continue
            for k, symbol, values in ((1, "α", ALPHAS), (2, "β", BETAS)):
                sweeps.append(_term_sweep(prior, terms, part, k, symbol, values, shared))
        if "weights" in names:
            published = (terms[0][0], terms[1][0])
            points = []
            for sim, ovl in WEIGHTS:
                varied = (sim, *terms[0][1:]), (ovl, *terms[1][1:])
                label = f"λ_sim={sim:g} λ_ovl={ovl:g}"
                points.append(Point(label, _tuned(prior, varied, shared), chosen=(sim, ovl) == published))
            sweeps.append(Sweep(f"{prior} λ", f"fig3_{prior}", "Fig. 3, column 3: weights", "λ", tuple(points)))
        if "methods" in names:
            untuned = Variant("untuned", "maps", {"objective": "none", **shared})
            dpl = Variant("dpl", "maps", {"objective": "dpl", **shared})
            own = Point(f"LocInv, {prior} prior", _tuned(prior, terms, shared), chosen=True)
            points = [Point("untuned (NTI)", untuned), Point("DPL", dpl), own]
            title = "Fig. 3, column 4: IoU curves"
            sweeps.append(Sweep(f"{prior} methods", f"fig3_{prior}", title, "method", tuple(points)))
    return tuple(sweeps)


def region_sweeps(names: Sequence[str], settings: Mapping[str, Any]) -> tuple[Sweep, ...]:
    """Learnable Regions' Table 3 (losses), 4 (proposals: M), 5 (anchors: K) and 2 (generation).

    settings: what all points share, such as the editor and its steps. Table 2 is a user study; here its
    baselines are measured as the others are. Raises ValueError for an unknown name.
    """
    _known("sweeps", names, REGION_SWEEPS)

    def variant(name: str, **changes: Any) -> Variant:
        standard = {"k": K, "m": M, "losses": [1.0, 1.0, 1.0], "anchors": "dino", "sizes": "learned"}
        same = all(standard[key] == value for key, value in changes.items())
        return Variant("standard" if same else name, "regions", {**settings, **standard, **changes})

    def point(label: str, made: Variant, x: float | None = None, scores: tuple[float, float] | None = None) -> Point:
        published = None if scores is None else dict(zip(("s_t2i", "s_i2i"), scores, strict=True))
        return Point(label, made, x, chosen=made.name == "standard", published=published)

    made = {
        "losses": Sweep(
            "losses",
            "tables3to5",
            "Table 3: loss components",
            "losses",
            (
                point("L_Clip", variant("L_Clip", losses=[1.0, 0.0, 0.0]), None, (0.301, 0.801)),
                point("L_Clip + L_Str", variant("L_Clip+L_Str", losses=[1.0, 1.0, 0.0]), None, (0.294, 0.806)),
                point("L_Clip + L_Str + L_Dir", variant("all"), None, (0.301, 0.805)),
            ),
        ),
        "proposals": Sweep(
            "proposals",
            "tables3to5",
            "Table 4: region proposals",
            "M",
            tuple(
                point(str(m), variant(f"M={m}", m=m), m, scores)
                for m, scores in zip((1, 3, 5, 7, 9), _TABLE_4, strict=True)
            ),
        ),
        "anchors": Sweep(
            "anchors",
            "tables3to5",
            "Table 5: anchor points",
            "K",
            tuple(
                point(str(k), variant(f"K={k}", k=k), k, scores)
                for k, scores in zip((1, 4, 6, 8, 10), _TABLE_5, strict=True)
            ),
        ),
        "generation": Sweep(
            "generation",
            "table2",
            "Table 2: how regions are generated",
            "regions",
            (
                point("random anchors, random sizes", variant("random", anchors="random", sizes="random")),
                point("DINO anchors, random sizes", variant("dino-random", sizes="random")),
                point("DINO anchors, learned sizes", variant("learned")),
            ),
        ),
    }
    return tuple(made[name] for name in REGION_SWEEPS if name in names)


_TABLE_4: Final = ((0.231, 0.915), (0.273, 0.837), (0.295, 0.809), (0.300, 0.805), (0.301, 0.802))
_TABLE_5: Final = ((0.275, 0.824), (0.296, 0.805), (0.301, 0.802), (0.300, 0.805), (0.298, 0.803))


def variants_of(sweeps: Sequence[Sweep]) -> tuple[Variant, ...]:
    """The variants of all points, each once."""
    return tuple({point.variant.name: point.variant for sweep in sweeps for point in sweep.points}.values())


def rows_of(sweep: Sweep, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The sweep's rows of a run's results, under its points' labels as methods."""
    return [
        {**row, "method": point.label} for point in sweep.points for row in rows if row["method"] == point.variant.name
    ]


def _term_sweep(
    prior: Prior,
    terms: tuple[Term, Term],
    part: int,
    k: int,
    symbol: str,
    values: Sequence[float],
    shared: Mapping[str, Any],
) -> Sweep:
    """α (k = 1) or β (k = 2) of the similarity loss (part 0) or the overlap loss (part 1) varied alone."""
    loss, short = (("similarity", "sim"), ("overlap", "ovl"))[part]
    points = []
    for value in values:
        changed = list(terms[part])
        changed[k] = value
        term = (changed[0], changed[1], changed[2])
        varied = (term, terms[1]) if part == 0 else (terms[0], term)
        made = _tuned(prior, varied, shared)
        points.append(Point(f"{value:g}", made, value, chosen=value == terms[part][k]))
    name = f"{symbol}_{short}"
    title = f"Fig. 3, column {part + 1}: {loss} loss"
    return Sweep(f"{prior} {name}", f"fig3_{prior}", title, name, tuple(points))


def _tuned(prior: Prior, terms: tuple[Term, Term], shared: Mapping[str, Any]) -> Variant:
    """LocInv with these terms, named by what differs from the published."""
    parts = []
    for short, term, published in zip(("sim", "ovl"), terms, PUBLISHED_TERMS[prior], strict=True):
        for symbol, value, standard in zip("λαβ", term, published, strict=True):
            if value != standard:
                parts.append(f"{symbol}_{short}={value:g}")
    settings = {"objective": "locinv", "prior": prior, "similarity": [*terms[0]], "overlap": [*terms[1]]}
    return Variant(" ".join([prior, *parts]), "maps", {**settings, **shared})


def _known(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{what}: got {name!r}, requires some of {', '.join(known)}")
    if not names:
        raise ValueError(f"{what}: got none, requires some of {', '.join(known)}")
