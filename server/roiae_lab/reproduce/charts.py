"""The charts of an experiment's report: a dot a seed, a bar their mean, a line what was to be reached."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import mean

from roiae.page.charts import COLOURS, LEFT, RIGHT, WIDTH, Axes, Chart, Mark, padded, path_of
from roiae.wire.contract import SHIFT_ARMS
from roiae_lab.reproduce.arms import HAND_PICKED, METHOD
from roiae_lab.reproduce.claims import CHANGES, GAINS, NOT_BEHIND, Form, decimals
from roiae_lab.reproduce.estimates import HELD_OUT, VALIDATION, Figure, changed, shifted
from roiae_lab.reproduce.tables import SHIFT_ROWS, Results
from roiae_server.report.tables import ARM_NAMES
from roiae_server.report.words import signed

MEASURES = ("psnr", "roi_mae", "roi_edge_mae")  # that are drawn
SIDES = ("phase1", "control")  # what phase 2 is set against, in the order of their colours
WEIGHTS = ("roi_l1", "roi_edge")  # across and up, beside 1 for MS-SSIM
BY_HAND = "picked by hand"
_APART, _JITTER, _BAR = 0.36, 0.08, 0.14  # of the place between two hospitals
_LETTER = 6.5  # px of a label


@dataclass(frozen=True)
class Series:
    """What is drawn in one colour: by held-out hospital a value a seed, and what it is to reach."""

    name: str
    values: Mapping[str, Sequence[float]]
    bound: float | None = None


def change_charts(results: Results) -> list[Chart]:
    """Phase 2 against phase 1 and against the control: a measure, on validation frames beside held-out ones."""
    charts = []
    for measure in MEASURES:
        heading, _ = CHANGES[measure]
        unit = 100.0 if heading.endswith("%") else 1.0
        _, *gains = GAINS[measure]
        _, *ahead = NOT_BEHIND.get(measure, ("<", 0.0, 0.0))  # an ROI error is to be smaller
        for frames, *bounds in zip((VALIDATION, HELD_OUT), gains, ahead, strict=True):
            series = [
                Series(
                    f"against {ARM_NAMES[side]}",
                    _values(results, changed(side, METHOD, measure, frames), unit),
                    unit * bound,
                )
                for side, bound in zip(SIDES, bounds, strict=True)
            ]
            charts.append(
                _dot_chart(f"{heading}, {frames.replace(' ', '-')} frames", series, partial(signed, form=".2f"))
            )
    return charts


def shift_charts(results: Results) -> list[Chart]:
    """A score, phase 1 beside phase 2; none of a score that was never computed."""
    charts = []
    for name, heading, _ in SHIFT_ROWS:
        series = [Series(ARM_NAMES[arm], _values(results, shifted(name, arm))) for arm in SHIFT_ARMS]
        if any(values for of in series for values in of.values.values()):
            charts.append(_dot_chart(heading, series, decimals(".3f")))
    return charts


def weights_chart(results: Results) -> Chart:
    """The calibrated weights, a dot a held-out hospital and seed, among those of the grid that were trained."""
    picked = {name: of for found in results.values() for name, of in found[0].weights.items() if name in HAND_PICKED}
    series = {
        **{holdout: [of.weights[METHOD] for of in found] for holdout, found in results.items()},
        **({BY_HAND: list(picked.values())} if picked else {}),
    }
    places = {name: [_logarithms(of) for of in weights] for name, weights in series.items()}
    every = [place for of in places.values() for place in of]
    axes = Axes(padded([x for x, _ in every]), padded([y for _, y in every]))
    marks, texts = [], []
    for index, (name, of) in enumerate(places.items()):
        hand = name == BY_HAND
        dots = tuple(axes.at(*place) for place in of)
        marks.append(Mark(name, COLOURS - 1 if hand else index % (COLOURS - 1), "", dashed=hand, dots=dots))
        texts.append(
            f"{name}: "
            + ", ".join(f"{weights['roi_l1']:.3g} and {weights['roi_edge']:.3g}" for weights in series[name])
        )
    text = f"Weights of roi_l1 and roi_edge beside 1 for ms_ssim. {'; '.join(texts)}."
    x_ticks = tuple((axes.at(math.log10(value), 0)[0], f"{value:g}") for value in _decades(*axes.x))
    y_ticks = tuple((axes.at(0, math.log10(value))[1], f"{value:g}") for value in _decades(*axes.y))
    return Chart("Weight of roi_edge (upwards) and of roi_l1", text, "roi_l1", x_ticks, y_ticks, tuple(marks))


def _logarithms(weights: Mapping[str, float]) -> tuple[float, float]:
    return math.log10(weights["roi_l1"]), math.log10(weights["roi_edge"])


def _decades(low: float, high: float) -> list[float]:
    """1 and 3 of every power of ten between two logarithms."""
    values = [digit * 10.0**power for power in range(math.floor(low), math.ceil(high) + 1) for digit in (1, 3)]
    return [value for value in values if low <= math.log10(value) <= high]


def _values(results: Results, figure: Figure, unit: float = 1.0) -> dict[str, list[float]]:
    """Those that were computed."""
    return {
        holdout: [unit * value for result in of if (value := figure(result)) is not None]
        for holdout, of in results.items()
    }


def _dot_chart(title: str, series: Sequence[Series], form: Form) -> Chart:
    """By held-out hospital; the second series is hollow, and its bound dashed.

    Args:
        series: with some value.
    """
    holdouts = list(series[0].values)
    bounds = [of.bound for of in series if of.bound is not None]
    values = [value for of in series for by in of.values.values() for value in by]
    axes = Axes((-0.5, len(holdouts) - 0.5), padded([*values, *bounds, *([0.0] if bounds else [])]))
    marks = [mark for index in range(len(series)) for mark in _marks(axes, series, index)]
    text = f"{title}, by held-out hospital. {' '.join(_said(of, form) for of in series)}"
    width = (WIDTH - LEFT - RIGHT) / len(holdouts)
    x_ticks = tuple((axes.at(place, 0)[0], _short(name, width)) for place, name in enumerate(holdouts))
    return Chart(title, text, "held-out hospital", x_ticks, axes.y_ticks(), tuple(marks))


def _marks(axes: Axes, series: Sequence[Series], index: int) -> list[Mark]:
    """The bound, the bars and the dots, the latter above."""
    of, second = series[index], index == 1
    bars, dots = [], []
    for place, values in enumerate(of.values.values()):
        middle = place + (index - (len(series) - 1) / 2) * _APART
        dots += [axes.at(middle + _JITTER * (at - (len(values) - 1) / 2), value) for at, value in enumerate(values)]
        if values:
            bars.append(path_of([axes.at(middle + way * _BAR, mean(values)) for way in (-1, 1)]))
    drawn = [Mark("mean", index, "".join(bars)), Mark(of.name, index, "", dashed=second, dots=tuple(dots))]
    if of.bound is None:
        return drawn
    line = path_of([axes.at(x, of.bound) for x in axes.x])
    return [Mark("bound", index, line, dashed=second), *drawn]


def _said(of: Series, form: Form) -> str:
    bound = "" if of.bound is None else f" (bound {form(of.bound)})"
    by_holdout = [f"{holdout} {_with_seeds(values, form)}" for holdout, values in of.values.items()]
    return f"{of.name[0].upper()}{of.name[1:]}{bound}: {'; '.join(by_holdout)}."


def _with_seeds(values: Sequence[float], form: Form) -> str:
    if not values:
        return "not computed"
    seeds = f" (seeds {', '.join(map(form, values))})" if len(values) > 1 else ""
    return form(mean(values)) + seeds


def _short(name: str, width: float) -> str:
    """As much of a hospital's name as there is room for."""
    most = max(int(width / _LETTER), 2)
    return name if len(name) <= most else f"{name[: most - 1]}…"
