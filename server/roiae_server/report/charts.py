"""The geometry of a report's vector charts; `templates/chart.html` draws them, and the page's style colours them.

No raster image, no file of its own, the same bytes from the same numbers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from roiae_server.report.tables import ARM_NAMES

WIDTH, HEIGHT = 440.0, 240.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 12.0, 10.0, 40.0
COLOURS = 8  # of the page's style; sites beyond share them
BINS = 24


@dataclass(frozen=True)
class Mark:
    """One line or area. `colour` is a number of the style's; a path is SVG's."""

    name: str
    colour: int
    path: str
    dashed: bool = False
    area: bool = False
    dots: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Chart:
    title: str
    text: str  # for who cannot see it
    x_label: str
    x_ticks: tuple[tuple[float, str], ...]  # place, and what stands there
    y_ticks: tuple[tuple[float, str], ...]
    marks: tuple[Mark, ...]
    rule: float | None = None  # place of a vertical line


@dataclass(frozen=True)
class _Axes:
    """Where numbers come to lie."""

    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        across, up = (x - self.x[0]) / (self.x[1] - self.x[0]), (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT), 1),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM), 1),
        )

    def x_ticks(self, whole: bool = False) -> tuple[tuple[float, str], ...]:
        return tuple((self.at(value, 0)[0], text) for value, text in _ticks(*self.x, whole))

    def y_ticks(self) -> tuple[tuple[float, str], ...]:
        return tuple((self.at(self.x[0], value)[1], text) for value, text in _ticks(*self.y))


def curve_chart(title: str, curves: Mapping[str, Mapping[str, Any]], sites: Sequence[str], began: int) -> Chart:
    """One measure by round: a line a site and arm, the control's dashed; a dot where a site was scored only there.

    Args:
        curves: arm → site → [round, value], as in `report.json`.
        sites: in the order of their colours.
        began: the round in which phase 2 began.
    """
    points = [point for of in curves.values() for line in of.values() for point in line]
    axes = _Axes(_widened([x for x, _ in points]), _padded([y for _, y in points]))
    marks, texts = [], []
    for arm, of in curves.items():
        for site, line in sorted(of.items()):
            places = tuple(axes.at(x, y) for x, y in line)
            dots = places if len(places) == 1 else ()
            marks.append(Mark(site, sites.index(site) % COLOURS, _path(places), arm == "control", dots=dots))
            ends = f"{line[0][1]:.4g} to " if len(line) > 1 else ""
            texts.append(f"{site}, {ARM_NAMES[arm]}: {ends}{line[-1][1]:.4g}")
    text = f"{title} by round. {'; '.join(texts)}."
    rule = axes.at(began, axes.y[0])[0]
    return Chart(title, text, "rounds of training", axes.x_ticks(True), axes.y_ticks(), tuple(marks), rule)


def score_chart(title: str, label: str, found: Mapping[str, Any], scores: Mapping[str, Any], holdout: str) -> Chart:
    """Shares of the sources' and the held-out hospital's frames by score.

    Args:
        found: the score's entry in `shift.json`, which was computed.
        scores: site → its frames' scores.
    """
    sources = np.concatenate([values for site, values in sorted(scores.items()) if site != holdout])
    edges = np.histogram_bin_edges(np.concatenate([sources, scores[holdout]]), BINS)
    counts = [np.histogram(values, edges)[0] for values in (sources, scores[holdout])]
    low, high = found["ci"]["auroc"]
    text = f"{title}: AUROC {found['auroc']:.3f}, 95 % interval {low:.3f} to {high:.3f}."
    return _histogram(title, text, label, edges.tolist(), counts)


def entropy_chart(title: str, label: str, found: Mapping[str, Any]) -> Chart:
    """Shares of frames by the provenance probe's entropy, from the histograms that the hospitals sent."""
    histogram = found["histograms"]["entropy"]
    edges = np.linspace(histogram["low"], histogram["high"], len(histogram["sources"]) + 1).tolist()
    text = f"{title}: on the held-out hospital {found['entropy']:.3f} nats on average, of at most {edges[-1]:.3f}."
    return _histogram(title, text, label, edges, [np.array(histogram[side]) for side in ("sources", "held_out")])


def _histogram(title: str, text: str, label: str, edges: list[float], counts: Sequence[Any]) -> Chart:
    shares = [of / of.sum() for of in counts]
    axes = _Axes((edges[0], edges[-1]), (0.0, 1.05 * max(float(of.max()) for of in shares)))
    marks = []
    for colour, (name, of) in enumerate(zip(("sources", "held out"), shares, strict=True)):
        corners = [(edges[0], 0.0)]
        for left, right, share in zip(edges[:-1], edges[1:], of.tolist(), strict=True):
            corners += [(left, share), (right, share)]
        places = [axes.at(x, y) for x, y in [*corners, (edges[-1], 0.0)]]
        marks.append(Mark(name, colour, _path(places), dashed=colour == 1, area=True))
    return Chart(title, text, label, axes.x_ticks(), axes.y_ticks(), tuple(marks))


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in places)


def _ticks(low: float, high: float, whole: bool = False) -> list[tuple[float, str]]:
    values = MaxNLocator(5, integer=whole).tick_values(low, high)
    inside = [float(value) for value in values if low - 1e-9 * abs(low) <= value <= high + 1e-9 * abs(high)]
    return [(value, f"{0.0 if abs(value) < 1e-12 else value:g}".replace("-", "−")) for value in inside]


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin


def _widened(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(max(values), min(values) + 1)
