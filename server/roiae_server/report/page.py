"""`report.html`: one file that needs no network and no script."""

import base64
from collections.abc import Mapping
from typing import Any

from roiae.page import templates
from roiae.page.charts import COLOURS, Chart
from roiae.page.measures import MEASURES, NT_HEADING, nt_cell
from roiae.wire.contract import SHIFT_ARMS
from roiae_server.report import words
from roiae_server.report.charts import curve_chart, entropy_chart, score_chart
from roiae_server.report.summary import held_out
from roiae_server.report.tables import ARM_NAMES, is_best, shift_rows

Facts = Mapping[str, Any]  # `report.json`
# A site, which of its frames, and its rows: a heading, and of each column the text and whether it is the best.
Group = tuple[str, str, list[tuple[str, list[tuple[str, bool]]]]]

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
    template = templates("roiae_server.report", autoescape=False).get_template("model_card.md")
    return template.render(
        **facts,
        measures=MEASURES,
        nt_heading=NT_HEADING,
        holdout=held_out(facts),
        quality_groups=quality_groups(facts),
    ).encode()


def _page(facts: Facts, reconstructions: str | None) -> bytes:
    found = templates("roiae_server.report")
    found.filters |= {"reason": words.reason, "listing": words.listing}
    shown = {
        "sections": _sections(with_pictures=reconstructions is not None),
        "headings": [heading for _, heading, _, _ in MEASURES],
        "nt_heading": NT_HEADING,
        "holdout": held_out(facts),
        "quality_groups": quality_groups(facts),
        "gain_groups": _gain_groups(facts),
        "curve_charts": _curves(facts),
        "score_charts": _distributions(facts["shift"]),
        "shift_rows": shift_rows(facts["shift"]),
        "transfer_rows": _transfer_rows(facts),
        "colours": COLOURS,
    }
    return found.get_template("report.html").render(**facts, **shown, reconstructions=reconstructions).encode()


def _sections(with_pictures: bool) -> dict[str, str]:
    """Heading by id, in order."""
    return {
        "summary": "Summary",
        "quality": "Quality",
        **({"reconstructions": "Reconstructions"} if with_pictures else {}),
        "shift": "Domain shift",
        "curves": "Curves",
        "ran": "What ran",
        "transfer": "Bytes and hours",
    }


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


def quality_groups(facts: Facts) -> list[Group]:
    """Every model's measures and NT, by site; the best of a site's models is marked."""
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
            rows.append((ARM_NAMES[arm], [*cells, (nt_cell(of), False)]))
        if scored:
            frames = max(of["frames"] for of in scored.values())
            groups.append((site, f"{kind}, {frames:.0f} frames", rows))
    return groups


def _gain_groups(facts: Facts) -> list[Group]:
    """Phase 2's change against each other model, by site."""
    groups = []
    for site in (ALL_SOURCES, *facts["participants"]):
        by_arm = {
            arm: changed["validation"] if site == ALL_SOURCES else changed["sites"].get(site)
            for arm, changed in facts["changes"].items()
        }
        rows = [
            (ARM_NAMES[arm], [(words.changed(name, of[name], form), False) for name, _, form, _ in MEASURES])
            for arm, of in by_arm.items()
            if of
        ]
        if rows:
            groups.append((site, "held out" if site == held_out(facts) else "validation", rows))
    return groups


def _transfer_rows(facts: Facts) -> list[list[str]]:
    return [
        [
            site,
            words.size(of["bytes_sent_to_it"]),
            words.size(of["bytes_received_from_it"]),
            words.duration(of["seconds"]),
        ]
        for site, of in facts["transfer"].items()
    ]
