"""`check.html`: one file without scripts or links, with the frames in it, so it stays in the hospital."""

import base64
import io
from collections import Counter
from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from roiae.data.reading import Reading
from roiae.page import templates
from roiae_client.checks.facts import Facts
from roiae_client.checks.findings import RULES, Level
from roiae_client.checks.survey import Survey

_PICTURES = 48
_MOST_LINES = 40
_BOX_COLOUR = (255, 200, 0)
_EVERYWHERE = 0.5  # a finding at more than this share of the frames singles none out


def render(survey: Survey) -> str:
    """The page of a survey, as HTML."""
    reading = survey.reading
    usable = [] if reading is None else reading.usable
    charts = _charts(reading, survey.facts, survey.image_size) if reading and survey.facts else None
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
            most_lines=_MOST_LINES,
            charts=charts,
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


def _charts(reading: Reading, facts: Facts, side: int) -> str:
    """Intensity, ROI size, ROI position, splits and what stays in place, as a base64 PNG."""
    rois = reading.rois(side)
    figure = Figure(figsize=(16, 3.2), dpi=100, layout="constrained")
    intensity, size, position, splits, overlay = figure.subplots(1, 5)
    intensity.fill_between(range(256), facts.histogram / facts.histogram.sum(), step="mid")
    intensity.set(title="intensity", xlabel="grey level", ylabel="share of pixels", yscale="log")
    size.scatter(rois[:, 2] - rois[:, 0], rois[:, 3] - rois[:, 1], s=6, alpha=0.5)
    size.set(title="ROI size", xlabel="width, px", ylabel="height, px", xlim=(0, None), ylim=(0, None))
    position.scatter((rois[:, 0] + rois[:, 2]) / 2, (rois[:, 1] + rois[:, 3]) / 2, s=6, alpha=0.5)
    position.set(title="ROI centre", xlabel="x, px", ylabel="y, px", xlim=(0, side), ylim=(side, 0), aspect="equal")
    sides = [(split, reading.rows[place].subject) for place in reading.usable for split in [reading.splits[place]]]
    names = ("train", "validation")
    frames = [sum(split == name for split, _ in sides) for name in names]
    subjects = [len({subject for split, subject in sides if split == name}) for name in names]
    splits.bar([0, 1], frames, width=0.4, align="edge", label="frames")
    splits.bar([0, 1], subjects, width=-0.4, align="edge", label="subjects")
    splits.set(title="splits", xticks=[0, 1], xticklabels=names)
    splits.legend()
    overlay.imshow(facts.always_stroke, cmap="gray", vmin=0, vmax=1)
    overlay.set(title="bright lines", xlabel="x, px (white: in all frames)", ylabel="y, px")
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return base64.b64encode(stream.getvalue()).decode()
