"""`shift.png`: scores of the sources' validation frames and of the held-out site, phase 1 beside phase 2."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from roiae.wire.contract import SHIFT_ARMS
from roiae_server.report.figures import png
from roiae_server.report.tables import ARM_NAMES

SOURCES, HELD_OUT = "#3b6ea5", "#d1652c"
BINS = 30
AXES = {"mahalanobis": "squared Mahalanobis distance", "knn": "distance to the k-th neighbour"}


def shift_png(shift: Mapping[str, Any]) -> bytes:
    """A row a score, a column a phase.

    Args:
        shift: the content of `shift.json`.
    """
    figure = Figure(figsize=(9, 8), layout="constrained")
    grid: Any = figure.subplots(3, 2, squeeze=False, sharex="row")
    for column, arm in enumerate(SHIFT_ARMS):
        of = shift[arm]
        for row, name in enumerate(AXES):
            _scores(grid[row][column], of[name], of["scores"].get(name, {}), shift["holdout"], AXES[name])
        _entropy(grid[2][column], of["provenance"])
        grid[0][column].set_title(ARM_NAMES[arm])
    grid[0][0].legend(
        handles=[
            Patch(color=SOURCES, alpha=0.6, label="sources, validation"),
            Patch(color=HELD_OUT, alpha=0.6, label=f"{shift['holdout']}, held out"),
        ],
        fontsize=8,
        frameon=False,
    )
    return png(figure)


def _scores(axes: Any, found: Mapping[str, Any], scores: Mapping[str, Any], holdout: str, label: str) -> None:
    axes.set_xlabel(label, fontsize=8)
    if _says_why_not(axes, found):
        return
    sources = np.concatenate([values for site, values in scores.items() if site != holdout])
    edges = np.histogram_bin_edges(np.concatenate([sources, scores[holdout]]), BINS)
    for values, colour in ((sources, SOURCES), (scores[holdout], HELD_OUT)):
        axes.hist(values, edges, weights=np.full(len(values), 1 / len(values)), color=colour, alpha=0.6)
    axes.text(0.98, 0.9, f"AUROC {found['auroc']:.3f}", transform=axes.transAxes, ha="right", fontsize=8)
    axes.set_ylabel("share of frames", fontsize=8)


def _entropy(axes: Any, found: Mapping[str, Any]) -> None:
    axes.set_xlabel("entropy of the provenance probe, nats", fontsize=8)
    if _says_why_not(axes, found):
        return
    histogram = found["histograms"]["entropy"]
    edges = np.linspace(histogram["low"], histogram["high"], len(histogram["sources"]) + 1)
    for counts, colour in ((histogram["sources"], SOURCES), (histogram["held_out"], HELD_OUT)):
        axes.stairs(np.array(counts) / sum(counts), edges, color=colour, fill=True, alpha=0.6)
    axes.set_ylabel("share of frames", fontsize=8)


def _says_why_not(axes: Any, found: Mapping[str, Any]) -> bool:
    """Whether there is nothing to draw; the place then says why."""
    if "not_computed" not in found:
        return False
    axes.text(0.5, 0.5, f"not computed:\n{found['not_computed']}", transform=axes.transAxes, ha="center", fontsize=9)
    return True
