"""`report.html` of a whole experiment: one file that needs no network and no script, and has no pixel in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from roiae.config import RunConfig
from roiae.page import templates
from roiae.page.charts import COLOURS
from roiae_lab.reproduce.arms import METHOD
from roiae_lab.reproduce.charts import BY_HAND, change_charts, shift_charts, weights_chart
from roiae_lab.reproduce.summary import summarise
from roiae_lab.reproduce.tables import Results, Table
from roiae_lab.reproduce.verdicts import Judgement
from roiae_server.report.facts import settings
from roiae_server.report.write import HTML

SECTIONS = {
    "summary": "Summary",
    "changes": "What phase 2 changes",
    "claims": "Claims and targets",
    "shift": "Domain shift",
    "weights": "Weights of the loss",
    "arms": "Every arm",
    "hospitals": "What federation gives",
    "ran": "What ran",
}


@dataclass(frozen=True)
class Ran:
    """What an experiment was made of."""

    name: str  # of its folder
    config: RunConfig
    versions: Mapping[str, str]
    arms: Sequence[str]
    seeds: Sequence[int]
    hospitals: Table
    costs: Table


def experiment_page(
    ran: Ran, results: Results, judgements: Sequence[Judgement], tables: Mapping[str, Sequence[Table]]
) -> bytes:
    """
    Args:
        tables: those of `reproduce.md`, by section.
    """
    shown: dict[str, Any] = {
        "sections": {id: heading for id, heading in SECTIONS.items() if tables.get(id, True)},
        "ran": ran,
        "summary": summarise(results, judgements),
        "tables": tables,
        "change_charts": change_charts(results),
        "shift_charts": shift_charts(results),
        "weights_chart": weights_chart(results),
        "by_hand": BY_HAND,
        "colours": COLOURS,
        "runs": {holdout: [_link(holdout, result.seed) for result in of] for holdout, of in results.items()},
        "settings": settings(ran.config),
    }
    return templates("roiae_lab.reproduce").get_template("report.html").render(**shown).encode()


def _link(holdout: str, seed: int) -> tuple[int, str]:
    """The report of the method's own run, as the experiment's page refers to it."""
    return seed, quote(str(PurePosixPath(holdout, f"seed-{seed}", METHOD, HTML)))
