"""The geometry of a page's vector charts; `templates/chart.html` draws them, and the page's style colours them.

No raster image, no file of its own, the same bytes from the same numbers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
class Axes:
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


def histogram(title: str, text: str, label: str, edges: Sequence[float], counts: Mapping[str, Any]) -> Chart:
    """Shares of each side's frames; the second side is dashed.

    Args:
        edges: one more than a side has bins.
        counts: by side, frames in each bin, of which there are some.
    """
    shares = {name: of / of.sum() for name, of in counts.items()}
    axes = Axes((edges[0], edges[-1]), (0.0, 1.05 * max(float(of.max()) for of in shares.values())))
    marks = []
    for colour, (name, of) in enumerate(shares.items()):
        corners = [(edges[0], 0.0)]
        for left, right, share in zip(edges[:-1], edges[1:], of.tolist(), strict=True):
            corners += [(left, share), (right, share)]
        places = [axes.at(x, y) for x, y in [*corners, (edges[-1], 0.0)]]
        marks.append(Mark(name, colour, path_of(places), dashed=colour == 1, area=True))
    return Chart(title, text, label, axes.x_ticks(), axes.y_ticks(), tuple(marks))


def cloud(title: str, text: str, axes: Axes, label: str, points: Sequence[tuple[float, float]]) -> Chart:
    """A dot for each point."""
    dots = tuple(axes.at(x, y) for x, y in points)
    return Chart(title, text, label, axes.x_ticks(), axes.y_ticks(), (Mark("", 0, "", dots=dots),))


def path_of(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in places)


def _ticks(low: float, high: float, whole: bool = False) -> list[tuple[float, str]]:
    """Round numbers from one end to the other, in steps of 1, 2 or 5 times a power of ten; six at most."""
    low, high = min(low, high), max(low, high)
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(size for size in (1, 2, 5, 10) if size * power >= rough * (1 - 1e-9))
    step = max(step, 1.0) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(place * step, f"{place * step:.10g}".replace("-", "−")) for place in range(first, last + 1)]


def padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin


def widened(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(max(values), min(values) + 1)
