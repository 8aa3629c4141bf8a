"""`report.html` of a hospital: one file without network access or script, with the hospital's frames in it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from roiae.config import Role
from roiae.method.exported import Exported
from roiae.method.metrics import Evaluation
from roiae.page import templates
from roiae.page.charts import BINS, Chart, histogram
from roiae.page.measures import MEASURES, NT_HEADING, nt_cell
from roiae_client.folder.site_config import SiteConfig
from roiae_client.report.pictures import picture
from roiae_client.report.readings import FrameReading

PICTURES = 8
_SHARES = (5, 50, 95)  # percentiles of the frames


def render(
    target: Path, site: SiteConfig, fingerprint: str, exported: Exported, readings: Sequence[FrameReading]
) -> str:
    """
    Args:
        target: where the page will lie, for it to say.
        fingerprint: of the hospital's data.
        readings: of at least one frame.
    """
    total = sum((reading.evaluation for reading in readings), Evaluation())
    ranked = sorted(readings, key=lambda reading: reading.roi_mae)
    shown = np.unique(np.linspace(0, len(ranked) - 1, PICTURES).round().astype(int)).tolist()
    return (
        templates("roiae_client.report")
        .get_template("report.html")
        .render(
            target=target.resolve(),
            site=site.name,
            frames_are="validation frames" if site.role is Role.SOURCE else "frames, none of which was trained on",
            fingerprint=fingerprint,
            exported=exported,
            frames=len(readings),
            quality_headings=["measure", "mean", *("median" if share == 50 else f"{share} %" for share in _SHARES)],
            rows=_rows(readings),
            nt_rows=[(f"mean difference, {NT_HEADING}", nt_cell(total.nt.means())), *_nt_counts(readings).items()],
            charts=[*_measure_charts(readings), *_thickness_charts(readings)],
            pictures=[_shown(exported, ranked[rank], rank + 1) for rank in shown],
        )
    )


def _values(readings: Sequence[FrameReading], name: str) -> list[float]:
    return [reading.evaluation.means()[name] for reading in readings]


def _rows(readings: Sequence[FrameReading]) -> list[list[str]]:
    """Of each measure its heading, its mean over the frames, and its percentiles."""
    rows = []
    for name, heading, form, _ in MEASURES:
        values = _values(readings, name)
        rows.append([heading, *(format(of, form) for of in (np.mean(values), *np.percentile(values, _SHARES)))])
    return rows


def _nt_counts(readings: Sequence[FrameReading]) -> dict[str, int]:
    """Frames by where the NT could be read."""
    seen = [tuple(of is not None for of in reading.thickness) for reading in readings]
    return {
        "frames, read in frame and reconstruction": seen.count((True, True)),
        "frames, read in the frame alone": seen.count((True, False)),
        "frames, read in the reconstruction alone": seen.count((False, True)),
        "frames, read in neither": seen.count((False, False)),
    }


def _measure_charts(readings: Sequence[FrameReading]) -> list[Chart]:
    charts = []
    for name, heading, form, _ in MEASURES:
        values = _values(readings, name)
        counts, edges = np.histogram(values, BINS)
        low, middle, high = (format(of, form) for of in np.percentile(values, _SHARES))
        text = f"{heading} by frame: median {middle}, nine of ten frames between {low} and {high}."
        charts.append(histogram(heading, text, heading, edges.tolist(), {"frames": counts}))
    return charts


def _thickness_charts(readings: Sequence[FrameReading]) -> list[Chart]:
    """Of the frames in which both readings exist; none where there is no such frame."""
    pairs = np.array([reading.thickness for reading in readings if None not in reading.thickness], dtype=float)
    if not len(pairs):
        return []
    edges = np.histogram_bin_edges(pairs, BINS)
    counts = {side: np.histogram(of, edges)[0] for side, of in zip(("frames", "reconstructions"), pairs.T, strict=True)}
    there, back = np.median(pairs, axis=0)
    text = f"NT thickness: median {there:.1f} px in the frames, {back:.1f} px in their reconstructions."
    return [histogram("NT thickness", text, "px of the stored frame", edges.tolist(), counts)]


def _shown(exported: Exported, reading: FrameReading, rank: int) -> dict[str, Any]:
    there, back = ("not seen" if of is None else f"{of:.1f} px" for of in reading.thickness)
    return {
        "jpeg": picture(exported.model, reading),
        "rank": rank,
        "subject": reading.of.subjects[reading.place],
        "roi_mae": format(reading.roi_mae, ".4f"),
        "nt": f"NT {there}, reconstructed {back}",
    }
