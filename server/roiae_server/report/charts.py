"""The charts of a run's report: curves by round, and the scores of the sources beside the held-out hospital's."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from roiae.page.charts import BINS, COLOURS, Axes, Chart, Mark, histogram, padded, path_of, widened
from roiae_server.report.tables import ARM_NAMES


def curve_chart(title: str, curves: Mapping[str, Mapping[str, Any]], sites: Sequence[str], began: int) -> Chart:
    """One measure by round: a line a site and arm, the control's dashed; a dot where a site was scored only there.

    Args:
        curves: arm → site → [round, value], as in `report.json`.
        sites: in the order of their colours.
        began: the round in which phase 2 began.
    """
    points = [point for of in curves.values() for line in of.values() for point in line]
    axes = Axes(widened([x for x, _ in points]), padded([y for _, y in points]))
    marks, texts = [], []
    for arm, of in curves.items():
        for site, line in sorted(of.items()):
            places = tuple(axes.at(x, y) for x, y in line)
            dots = places if len(places) == 1 else ()
            marks.append(Mark(site, sites.index(site) % COLOURS, path_of(places), arm == "control", dots=dots))
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
    sides = {"sources": sources, "held out": scores[holdout]}
    counts = {side: np.histogram(values, edges)[0] for side, values in sides.items()}
    low, high = found["ci"]["auroc"]
    text = f"{title}: AUROC {found['auroc']:.3f}, 95 % interval {low:.3f} to {high:.3f}."
    return histogram(title, text, label, edges.tolist(), counts)


def entropy_chart(title: str, label: str, found: Mapping[str, Any]) -> Chart:
    """Shares of frames by the provenance probe's entropy, from the histograms that the hospitals sent."""
    found_in = found["histograms"]["entropy"]
    edges = np.linspace(found_in["low"], found_in["high"], len(found_in["sources"]) + 1).tolist()
    text = f"{title}: on the held-out hospital {found['entropy']:.3f} nats on average, of at most {edges[-1]:.3f}."
    counts = {side.replace("_", " "): np.array(found_in[side]) for side in ("sources", "held_out")}
    return histogram(title, text, label, edges, counts)
