"""The shift scores of a finished run against another held-out hospital, without training.

A run of its own, in `scores/<hospital>` of the first, that has the trained models and only its last step to do. The
sources' registers are the first run's: they are asked the question that they answered there, and give the same answer.
"""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from roiae.config import Role
from roiae.errors import ConfigError
from roiae.site.answers import Site
from roiae.wire.contract import SHIFT_ARMS
from roiae_lab.simulated_sites import find_hospitals, open_sites
from roiae_lab.simulation import check_same_data, federate, show_shift
from roiae_server.run.federation import MODEL_FILES
from roiae_server.run.plan import plan
from roiae_server.run.run_folder import RunFolder, RunState


@dataclass(frozen=True)
class Rescoring:
    """What was asked for on the command line."""

    run: Path
    data: Path | None  # None for the run's phantoms
    holdout: str


def rescore(asked: Rescoring, console: Console) -> None:
    """Score, or show what was scored before.

    Raises:
        RoiaeError: the run is not finished or its sources' data have changed, or the hospital is one of its sources.
    """
    run = RunFolder.open_finished(asked.run, "Finish it with `simulate --resume` first.", incomplete=False)
    try:
        sources = {name for name, role in run.state.sites.items() if role is Role.SOURCE}
        if asked.holdout in sources:
            raise ConfigError(
                f"--holdout {asked.holdout}: trained this run's model. Give another hospital, or hold it out in a run "
                "of its own with `simulate`."
            )
        found = find_hospitals(asked.data, asked.holdout, run.path / "sites", run.config, console)
        folders = [folder for folder in found if folder.name in {*sources, asked.holdout}]
        sites = open_sites(folders, console)
        if missing := sources - {site.name for site in sites}:
            raise ConfigError(f"--data: {', '.join(sorted(missing))} of this run is not there. Give all its sources.")
        check_same_data(run, (site for site in sites if site.role is Role.SOURCE))
        scored = _begun(run, sites, asked.holdout)
        try:
            check_same_data(scored, sites)
            if scored.state.status != "done":
                federate(scored, sites, folders, "local", console)
            show_shift(scored, sites, console)
        finally:
            scored.close()
    finally:
        run.close()


def _begun(run: RunFolder, sites: list[Site], holdout: str) -> RunFolder:
    """The run of one step, with the trained models in it."""
    path = run.path / "scores" / holdout
    state = RunState(
        sites={site.name: site.role for site in sites},
        fingerprints={site.name: site.data.fingerprint for site in sites},
        versions=run.state.versions,
        contributed=run.state.contributed,
        completed=len(plan(run.config)) - 1,
    )
    scored = RunFolder.open(path) or RunFolder.create(path, run.config, state)
    for arm in SHIFT_ARMS:
        scored.save_arrays(MODEL_FILES[arm], run.load_arrays(MODEL_FILES[arm]))
    return scored
