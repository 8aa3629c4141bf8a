"""The paper's claims and this project's targets, each as numbers with bounds.

The paper is arXiv 2604.23839.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Literal

from roiae.page.measures import MEASURES
from roiae_lab.reproduce.arms import HAND_PICKED, METHOD, OTHER_ROI, POOLED
from roiae_lab.reproduce.estimates import HELD_OUT, VALIDATION, Figure, changed, measured, shifted, worst
from roiae_lab.reproduce.results import Result
from roiae_server.report.changes import ROI_ERRORS
from roiae_server.report.tables import ARM_NAMES
from roiae_server.report.words import signed

Relation = Literal["≥", "≤", "<", ">"]
Source = Literal["paper", "target"]
Form = Callable[[float], str]
Figures = Callable[[Sequence[Result]], list[float | None]]  # of one held-out hospital's results, a seed each


def per_cent(value: float) -> str:
    return signed(100 * value, ".2f")


def difference(spec: str) -> Form:
    return lambda value: signed(value, spec)


def decimals(spec: str) -> Form:
    return lambda value: format(value, spec)


# How a measure's change is headed and written: an ROI error's as a share, the others' in their own unit.
CHANGES: Mapping[str, tuple[str, Form]] = {
    name: (f"{heading} %", per_cent) if name in ROI_ERRORS else (heading, difference(spec))
    for name, heading, spec, _ in MEASURES
}

# What a measure's change must reach on validation frames, and at the held-out hospital.
Bounds = Mapping[str, tuple[Relation, float, float]]
PAPER_GAINS: Bounds = {
    "psnr": ("≥", 0.27, 0.29),
    "roi_mae": ("≤", -0.0887, -0.0643),
    "roi_edge_mae": ("≤", -0.1110, -0.0490),
}
GAINS: Bounds = {"psnr": ("≥", 0.3, 0.3), "roi_mae": ("≤", -0.10, -0.07), "roi_edge_mae": ("≤", -0.12, -0.06)}
NOT_BEHIND: Bounds = {"psnr": ("≥", -0.02, -0.02), "ms_ssim": ("≥", -0.005, -0.005)}
LITTLE: Bounds = {"psnr": ("≥", -0.1, -0.1), "roi_mae": ("≤", 0.02, 0.02)}


@dataclass(frozen=True)
class Part:
    """One number of a claim, and its bound."""

    what: str
    form: Form
    figures: Figures
    relation: Relation
    bound: float | None  # None for the number's own spread over seeds, 0 of one seed
    paper: str = ""  # what the paper reports of it


@dataclass(frozen=True)
class Claim:
    text: str
    source: Source
    parts: Sequence[Part]


def _each(figure: Figure) -> Figures:
    return lambda results: [figure(result) for result in results]


def _against(earlier: str, source: Source, text: str, bounds: Bounds) -> Claim:
    """The method against another model."""
    parts = []
    for measure, (relation, *two) in bounds.items():
        heading, form = CHANGES[measure]
        for frames, bound in zip((VALIDATION, HELD_OUT), two, strict=True):
            what = f"{heading} against {ARM_NAMES.get(earlier, earlier)}, {frames}"
            figures = _each(changed(earlier, METHOD, measure, frames))
            parts.append(Part(what, form, figures, relation, bound, form(bound) if source == "paper" else ""))
    return Claim(text, source, parts)


def _ahead(earlier: str, later: str, text: str, where: str) -> Claim:
    """Both errors inside the ROI smaller, also at the hospital where they are least so."""
    parts = []
    for measure in ROI_ERRORS:
        heading, form = CHANGES[measure]
        what = f"{heading} against control, worst hospital{where}"
        parts.append(Part(what, form, _each(worst(earlier, later, measure)), "<", 0.0))
    return Claim(text, "target", parts)


def over_best_hand_picked(results: Sequence[Result]) -> list[float | None]:
    """The held-out hospital's ROI MAE against that of the grid's weights which are best on validation frames.

    None unless every point of the grid was trained with every seed.
    """
    on_validation = {name: [measured(name, "roi_mae", VALIDATION)(of) for of in results] for name in HAND_PICKED}
    means = {
        name: mean(v for v in values if v is not None) for name, values in on_validation.items() if None not in values
    }
    if len(means) < len(HAND_PICKED):
        return [None] * len(results)
    best = min(means, key=means.__getitem__)
    return [changed(best, METHOD, "roi_mae", HELD_OUT)(result) for result in results]


def _gains(source: Source, bounds: Bounds, over: str = "") -> list[Claim]:
    """A claim a measure, over phase 1."""
    texts = {"psnr": "PSNR gains", "roi_mae": "ROI intensity gains", "roi_edge_mae": "ROI edges gain"}
    return [_against("phase1", source, text + over, {name: bounds[name]}) for name, text in texts.items()]


def _moved(what: str, name: str, relation: Relation, paper: str) -> Part:
    """A shift figure after phase 2, less that after phase 1."""
    return Part(f"{what}, held out", difference(".4f"), _each(shifted(name)), relation, 0.0, paper)


PROVENANCE = Claim(
    "Provenance is less clear after phase 2",
    "paper",
    [
        _moved("max-softmax against phase 1", "max_softmax", "<", "−0.015 (0.556 → 0.541)"),
        _moved("entropy against phase 1, nats", "entropy", ">", "+0.004 (0.684 → 0.688)"),
    ],
)
TOLD_APART = Claim(
    "The held-out hospital is told apart",
    "paper",
    [
        Part(
            "Mahalanobis AUROC after phase 2",
            decimals(".4f"),
            _each(shifted("auroc", "phase2")),
            "≥",
            0.9956,
            "up to 0.9956",
        )
    ],
)
AHEAD = _ahead("control", METHOD, "Ahead of the control inside the ROI, at every hospital", "")
CHEAP = _against(POOLED, "target", "Federation costs little against pooled training", LITTLE)
CALIBRATED = Claim(
    "Calibrated weights are no worse than the best hand-picked ones",
    "target",
    [Part("ROI MAE % against best hand-picked weights, held out", per_cent, over_best_hand_picked, "≤", None)],
)
CLAIMS: Sequence[Claim] = (
    *_gains("paper", PAPER_GAINS),
    PROVENANCE,
    TOLD_APART,
    *_gains("target", GAINS, " over phase 1"),
    AHEAD,
    _against("control", "target", "Not behind the control on the whole frame", NOT_BEHIND),
    CHEAP,
    CALIBRATED,
    _ahead(
        f"{OTHER_ROI}/control",
        f"{OTHER_ROI}/{METHOD}",
        "Ahead of the control inside another ROI too, at every hospital",
        ", other ROI",
    ),
)
