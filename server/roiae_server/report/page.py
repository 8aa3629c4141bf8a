"""`report.html`: one file that needs no network and no script."""

import base64
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

from roiae.contract import SHIFT_ARMS
from roiae.page import templates
from roiae.page.charts import COLOURS, Chart
from roiae.page.measures import MEASURES, NT_HEADING, nt_cell
from roiae_server.report import words
from roiae_server.report.charts import curve_chart, entropy_chart, score_chart
from roiae_server.report.summary import held_out
from roiae_server.report.tables import ARM_NAMES, is_best, shift_rows

Facts = Mapping[str, Any]  # `report.json`

ALL_SOURCES = "all sources"  # a row beside hospitals, whose names have no space
_AXES = {
    "mahalanobis": "squared Mahalanobis distance",
    "knn": "distance to the k-th neighbour",
    "provenance": "entropy of the provenance probe, nats",
}


def real_page(facts: Facts) -> bytes:
    """The report of a run between hospitals. There is no way to hand it a picture: frames stay where they are."""
    return _page(facts, None)


def simulation_page(facts: Facts, reconstructions: bytes) -> bytes:
    """The report of a simulation, whose frames are the reader's own.

    Args:
        reconstructions: `reconstructions.png`.
    """
    return _page(facts, base64.b64encode(reconstructions).decode())


def model_card(facts: Facts) -> bytes:
    """`MODEL_CARD.md` of an exported model."""
    template = _environment(autoescape=False).get_template("model_card.md")
    return template.render(
        **facts,
        arm_names=ARM_NAMES,
        measures=MEASURES,
        nt_heading=NT_HEADING,
        holdout=held_out(facts),
        quality_groups=quality_groups(facts),
    ).encode()


def _environment(autoescape: bool) -> Environment:
    found = templates("roiae_server.report", autoescape=autoescape)
    found.filters |= {"percent": words.percent, "signed": words.signed, "reason": words.reason, "size": _size}
    found.filters |= {"duration": _duration, "listing": words.listing}
    return found


def _page(facts: Facts, reconstructions: str | None) -> bytes:
    template = _environment(autoescape=True).get_template("report.html")
    shown = {
        "arm_names": ARM_NAMES,
        "measures": MEASURES,
        "nt_heading": NT_HEADING,
        "holdout": held_out(facts),
        "quality_groups": quality_groups(facts),
        "curve_charts": _curves(facts),
        "score_charts": _distributions(facts["shift"]),
        "shift_rows": shift_rows(facts["shift"]),
        "all_sources": ALL_SOURCES,
        "colours": COLOURS,
    }
    return template.render(**facts, **shown, reconstructions=reconstructions).encode()


def _curves(facts: Facts) -> list[Chart]:
    sites = list(facts["participants"])
    began = facts["settings"]["all"]["phase1.rounds"]
    return [curve_chart(heading, facts["curves"][name], sites, began) for name, heading, _, _ in MEASURES]


def _distributions(shift: Mapping[str, Any]) -> list[Chart]:
    """A row a score, a column a phase; the table says why there is none where there is none."""
    charts = []
    for name, label in _AXES.items():
        for arm in SHIFT_ARMS:
            title, of = f"{label[0].upper()}{label[1:]}, {ARM_NAMES[arm]}", shift[arm]
            if "not_computed" in of[name]:
                continue
            if name == "provenance":
                charts.append(entropy_chart(title, label, of[name]))
            else:
                charts.append(score_chart(title, label, of[name], of["scores"].get(name, {}), shift["holdout"]))
    return charts


def quality_groups(facts: Facts) -> list[tuple[str, str, list[tuple[str, list[tuple[str, bool]]]]]]:
    """Site, which frames and how many, and its rows: arm, and of each column the text and whether it is the best."""
    groups = []
    by_site = {
        site: {arm: of[site] for arm, of in facts["quality"].items() if site in of} for site in facts["participants"]
    }
    if facts["validation"]["phase2"]:
        by_site = {ALL_SOURCES: facts["validation"], **by_site}
    for site, scored in by_site.items():
        kind = "held out" if site == held_out(facts) else "validation"
        rows = []
        for arm, of in scored.items():
            cells = [(format(of[name], form), is_best(scored, arm, name, more)) for name, _, form, more in MEASURES]
            rows.append((arm, [*cells, (nt_cell(of), False)]))
        if scored:
            frames = max(of["frames"] for of in scored.values())
            groups.append((site, f"{kind}, {frames:.0f} frames", rows))
    return groups


def _size(count: float) -> str:
    """Bytes in the unit that suits them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
