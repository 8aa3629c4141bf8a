"""`check.html`: one file without scripts or links, with the frames in it, so it stays in the hospital."""

import base64
import io
from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from roiae.console.doctor import Level
from roiae.data.reading import Reading
from roiae.page import templates
from roiae.page.charts import Axes, Chart, Mark, cloud, padded, path_of
from roiae_client.checks.facts import Facts
from roiae_client.checks.findings import RULES
from roiae_client.checks.survey import Survey

_PICTURES = 48
_MAX_LINES = 40
_MAX_DOTS = 1000  # of a chart
_BOX_COLOUR = (255, 200, 0)
_EVERYWHERE = 0.5  # a finding at more than this share of the frames singles none out


def render(survey: Survey) -> str:
    """The page of a survey, as HTML."""
    reading = survey.reading
    usable = [] if reading is None else reading.usable
    charts = _charts(reading, survey.facts, survey.image_size) if reading and survey.facts else []
    pictures = list(_pictures(survey, reading)) if reading else []
    sections = {"findings": "Findings"}
    if charts:
        sections["data"] = "The data"
    if pictures:
        sections["frames"] = "Frames with their boxes"
    return (
        templates("roiae_client.checks")
        .get_template("check.html")
        .render(
            frames=len(reading.rows) if reading else 0,
            subjects=len({row.subject for row in reading.rows}) if reading else 0,
            usable=len(usable),
            image_size=survey.image_size,
            fingerprint=reading.fingerprint if reading else None,
            verdict=_verdict(survey),
            findings=survey.findings,
            rules=RULES,
            most_lines=_MAX_LINES,
            charts=charts,
            splits=_split_rows(reading) if charts and reading else [],
            overlay=_overlay(survey.facts) if charts and survey.facts else "",
            pictures=pictures,
            sections=sections,
        )
    )


def _verdict(survey: Survey) -> str:
    kinds = Counter(finding.level for finding in survey.findings)
    ready = "Ready" if survey.passed else "Not ready"
    return f"{ready} for a run: {kinds[Level.FAIL]} codes with FAIL, {kinds[Level.WARN]} with WARN to look at."


def _pictures(survey: Survey, reading: Reading) -> Iterator[dict[str, object]]:
    codes: dict[int, list[str]] = {}
    for finding in survey.findings:
        if len(finding.lines) <= max(_EVERYWHERE * len(reading.rows), 1):
            for line in finding.lines:
                codes.setdefault(line, []).append(finding.code)
    usable = reading.usable
    rank = {line: at for at, line in enumerate(codes)}  # the gravest findings come first
    lines = [reading.rows[place].line for place in usable]
    found = sorted((at for at, line in enumerate(lines) if line in codes), key=lambda at: rank[lines[at]])
    rest = sorted(set(range(len(usable))) - set(found))
    left = max(_PICTURES - len(found), 0)
    evenly = [rest[at] for at in np.linspace(0, len(rest) - 1, min(left, len(rest))).astype(int)] if rest else []
    rois = reading.rois(survey.image_size)
    for at in (*found[:_PICTURES], *evenly):
        row = reading.rows[usable[at]]
        yield {
            "jpeg": _jpeg(reading.cached.frames[at], rois[at]),
            "line": row.line,
            "name": row.image.name,
            "split": reading.splits[usable[at]],
            "codes": codes.get(row.line, []),
        }


def _jpeg(frame: NDArray[np.uint8], roi: NDArray[np.int64]) -> str:
    picture = Image.fromarray(frame).convert("RGB")
    x0, y0, x1, y1 = (int(side) for side in roi)
    ImageDraw.Draw(picture).rectangle((x0 - 1, y0 - 1, x1, y1), outline=_BOX_COLOUR)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return base64.b64encode(stream.getvalue()).decode()


def _charts(reading: Reading, facts: Facts, side: int) -> list[Chart]:
    """Intensity, ROI size and where the ROI lies."""
    shares = np.log10(np.maximum(facts.histogram / facts.histogram.sum(), 1e-7)).tolist()
    axes = Axes((0.0, 255.0), padded(shares))
    line = path_of([axes.at(level, share) for level, share in enumerate(shares)])
    title = "Intensity: share of pixels, log₁₀"
    text = f"{title}, by grey level: from {min(shares):.1f} to {max(shares):.1f}."
    intensity = Chart(title, text, "grey level", axes.x_ticks(), axes.y_ticks(), (Mark("", 0, line),))

    rois = reading.rois(side)
    shown = rois[np.linspace(0, len(rois) - 1, min(len(rois), _MAX_DOTS)).astype(int)].astype(float)
    sizes = (shown[:, 2:] - shown[:, :2]).tolist()
    widest, highest = (1.05 * max(of) for of in zip(*sizes, strict=True))
    text = f"Boxes are up to {widest / 1.05:g} px wide and {highest / 1.05:g} px high."
    size = cloud("ROI: height by width, px", text, Axes((0.0, widest), (0.0, highest)), "width, px", sizes)
    middles = ((shown[:, 2:] + shown[:, :2]) / 2).tolist()
    text = "Where the middle of each box lies in the frame, the frame's upper left at the chart's."
    position = cloud("ROI: its middle in the frame, px", text, Axes((0.0, side), (side, 0.0)), "x, px", middles)
    return [intensity, size, position]


def _split_rows(reading: Reading) -> list[tuple[str, int, int]]:
    """Frames and subjects of each split."""
    sides = [(reading.splits[place], reading.rows[place].subject) for place in reading.usable]
    return [
        (name, sum(split == name for split, _ in sides), len({subject for split, subject in sides if split == name}))
        for name in ("train", "validation")
    ]


def _overlay(facts: Facts) -> str:
    """Base64 PNG: white where all frames have a bright line."""
    stream = io.BytesIO()
    Image.fromarray((255 * np.clip(facts.always_stroke, 0, 1)).astype(np.uint8)).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()
