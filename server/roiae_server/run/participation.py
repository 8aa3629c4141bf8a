"""Which hospital was asked how often, what came back, and what of it counted."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from roiae.config import Role


@dataclass
class Participation:
    """One hospital's part in a run, counted over its requests."""

    role: Role
    asked: int = 0
    replied: int = 0
    aggregated: int = 0
    not_counted: dict[str, int] = field(default_factory=dict)  # by reason; what was refused, missing or discarded

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def participation(sites: Mapping[str, Role], lines: Iterable[str]) -> dict[str, Participation]:
    """Count the lines of a run's rounds.jsonl, by site; a site that was never asked has zeros."""
    table = {site: Participation(role) for site, role in sorted(sites.items())}
    for text in lines:
        line = json.loads(text)
        if line["site"] not in table:
            continue
        row = table[line["site"]]
        row.asked += 1
        row.replied += line["status"] != "missing"
        if line["status"] == "aggregated":
            row.aggregated += 1
        else:
            reason = line["reason"] or line["status"]
            row.not_counted[reason] = row.not_counted.get(reason, 0) + 1
    return table
