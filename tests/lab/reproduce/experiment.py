"""A finished experiment of `roiae-server reproduce`, opened for what is measured on it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from roiae.config import Role, RunConfig, build_config, merge, read_settings
from roiae.site.answers import Site
from roiae.wire.contract import Arrays
from roiae_lab.reproduce.arms import METHOD
from roiae_lab.reproduce.command import JSON
from roiae_lab.reproduce.model_run import load_model
from roiae_lab.simulated_sites import find_hospitals, open_sites
from roiae_server.report.changes import Scores
from roiae_server.run.run_folder import CONFIG


@dataclass(frozen=True)
class Opened:
    """One held-out hospital and one seed."""

    holdout: str
    config: RunConfig
    sites: list[Site]
    phase1: Arrays
    quality: dict[str, dict[str, Scores]]  # by model and site

    @property
    def roles(self) -> dict[str, Role]:
        return {site.name: site.role for site in self.sites}

    @property
    def sources(self) -> list[Site]:
        return [site for site in self.sites if site.role is Role.SOURCE]


def opened(out: Path, data: Path) -> Iterator[Opened]:
    """Every held-out hospital and seed of the experiment in `out`, which was given the folder `data`."""
    results: list[dict[str, Any]] = json.loads((out / JSON).read_text())["results"]
    quiet = Console(quiet=True)
    for result in results:
        holdout, seed = result["holdout"], result["seed"]
        config = build_config(merge(read_settings(out / CONFIG), {"seed": seed}))
        sites = open_sites(find_hospitals(data, holdout, out / "sites", config, quiet), quiet)
        phase1 = load_model(out / holdout / f"seed-{seed}" / METHOD, "phase1")
        yield Opened(holdout, config, sites, phase1, result["quality"])
