"""What a run writes of its requests, line by line and counted: the one place that knows these files' keys."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from roiae.config import Role
from roiae.errors import RunFolderError

PARTICIPATION = "participation.json"  # in the run's folder

Number = int | float  # kept as it came, so that a file's bytes are


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Line(_Record):
    """A line of `rounds.jsonl`: what became of one request to one site."""

    model_config = ConfigDict(frozen=True)

    step: str = Field(description="of the plan: a training arm, `score` or `shift`")
    round: int = Field(description="from 1 within the step's name")
    site: str = Field(description="who was asked, or answered unasked")
    status: Literal["aggregated", "missing", "refused", "discarded"] = Field(description="what became of the request")
    reason: str | None = Field(description="why nothing came, or was refused")
    metrics: dict[str, Number] = Field(description="of an admitted reply; empty otherwise")
    seconds: Number | None = Field(description="of the site's own work; null without an admitted reply")
    bytes_out: int = Field(description="coordinator to site, as serialised")
    bytes_in: int = Field(description="site to coordinator, as serialised")

    def to_bytes(self) -> bytes:
        """With its end of line."""
        return json.dumps(self.model_dump(), allow_nan=False).encode() + b"\n"


class Participation(_Record):
    """One site's part in a run, counted over its requests: its entry in `participation.json`."""

    role: Role = Field(description="of the site")
    asked: int = Field(0, description="requests")
    replied: int = Field(0, description="replies, refused ones among them")
    aggregated: int = Field(0, description="replies that counted")
    not_counted: dict[str, int] = Field({}, description="reason → count, of what was refused, missing or discarded")


def read_participation(folder: Path) -> dict[str, Participation]:
    """By site, as a run's folder has it.

    Raises:
        RunFolderError: the file is missing or damaged.
    """
    path = folder / PARTICIPATION
    try:
        return TypeAdapter(dict[str, Participation]).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RunFolderError(f"{path}: cannot be read. Restore it from a backup.") from error


def participation(sites: Mapping[str, Role], lines: Iterable[Line] = ()) -> dict[str, Participation]:
    """Count a run's lines by site; a site that was never asked has zeros."""
    table = {site: Participation(role=role) for site, role in sorted(sites.items())}
    count(table, lines)
    return table


def count(table: Mapping[str, Participation], lines: Iterable[Line]) -> None:
    """Add lines to what was counted before; those of sites that are not of the run are left out."""
    for line in lines:
        if (row := table.get(line.site)) is None:
            continue
        row.asked += 1
        row.replied += line.status != "missing"
        if line.status == "aggregated":
            row.aggregated += 1
        else:
            reason = line.reason or line.status
            row.not_counted[reason] = row.not_counted.get(reason, 0) + 1
