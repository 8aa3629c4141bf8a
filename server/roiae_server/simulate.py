"""A whole federation on one machine: hospitals from folders, or phantom ones, and the very code of a real run.

The one door through which the coordinator's side imports the hospitals': they run in this process or its workers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console

from roiae.config import RunConfig, build_config, differences
from roiae.contract import Arrays, Role
from roiae.errors import RunFolderError
from roiae.hardware import resolve
from roiae.model import Autoencoder
from roiae.site import Site, SiteFolder
from roiae.training import arrays_of
from roiae_client.flower import client_app
from roiae_server.federation import MODEL_FILES, Federation
from roiae_server.flower.aggregation import FlowerAggregator
from roiae_server.flower.engines import PARTITION, require_ray, run_local, run_on_ray
from roiae_server.hospitals import find_hospitals, open_sites
from roiae_server.progress import RunProgress
from roiae_server.report.pictures import reconstructions_png
from roiae_server.report.tables import ARM_NAMES, quality_table
from roiae_server.run_folder import RunFolder, RunState, write_atomically
from roiae_server.transport import Transport

Engine = Literal["local", "ray"]
PACKAGES = ("roiae", "flwr", "torch", "numpy")  # whose versions a run records


@dataclass(frozen=True)
class Simulation:
    """What was asked for on the command line."""

    settings: Mapping[str, Any]  # nested; only what was given
    data: Path | None  # one folder a hospital; None for phantoms
    holdout: str | None  # None for the last by name
    out: Path
    engine: Engine
    resume: bool


def simulate(asked: Simulation, console: Console) -> None:
    """Run, or resume, and show what came of it.

    Raises:
        RoiaeError: the input, the data or the run; nothing half-written stays.
    """
    if asked.engine == "ray":
        require_ray()
    run = _existing(asked)
    config = run.config if run else resolve(build_config(asked.settings))
    try:
        folders = find_hospitals(asked.data, asked.holdout, config, console)
        sites = open_sites(folders, console)
        run = run or RunFolder.create(asked.out, config, _first_state(sites))
        _check_same_sites(run, sites)
        if run.state.status != "done":
            _train(run, folders, asked.engine, console)
        _show(run, sites, console)
    finally:
        if run:
            run.close()


def _existing(asked: Simulation) -> RunFolder | None:
    """The run to resume, if there is one; what was given must be what it was begun with."""
    if not asked.resume:
        if asked.out.exists():
            raise RunFolderError(
                f"{asked.out}: exists already. Add --resume to go on with the run in it, or give --out another folder."
            )
        return None
    run = RunFolder.open(asked.out)
    if run and (changed := differences(asked.settings, run.config)):
        run.close()
        raise RunFolderError(
            f"{asked.out}: was begun with another configuration:\n  "
            + "\n  ".join(changed)
            + "\nLeave these settings out to resume it, or begin a new run in another folder."
        )
    return run


def _first_state(sites: list[Site]) -> RunState:
    return RunState(
        sites={site.name: site.role for site in sites},
        fingerprints={site.name: site.data.fingerprint for site in sites},
        versions={package: version(package) for package in PACKAGES},
    )


def _check_same_sites(run: RunFolder, sites: list[Site]) -> None:
    if (begun := run.state.sites) != (now := {site.name: site.role for site in sites}):
        raise RunFolderError(
            f"{run.path}: was begun with {_roles(begun)}; now there are {_roles(now)}. "
            "Give the same --data and --holdout."
        )
    for site in sites:
        if run.state.fingerprints[site.name] != site.data.fingerprint:
            raise RunFolderError(
                f"{run.path}: the data of {site.name} have changed since the run began. "
                "Restore them, or begin a new run in another folder."
            )


def _roles(roles: Mapping[str, Role]) -> str:
    return ", ".join(f"{name} ({role})" for name, role in roles.items())


def _train(run: RunFolder, folders: list[SiteFolder], engine: Engine, console: Console) -> None:
    sites = [folder.name for folder in folders]
    app = client_app(_site_of(folders))
    with RunProgress(console, run.config, run.state.completed) as progress:

        def federate(transport: Transport) -> None:
            Federation(
                run,
                transport,
                new_aggregator=lambda: FlowerAggregator(run.config.strategy),
                initial_arrays=lambda: initial_arrays(run.config),
                observer=progress,
            ).run()

        if engine == "ray":
            assert isinstance(run.config.train.threads, int), "resolved when the run began"
            run_on_ray(app, sites, run.config.train.threads, federate)
        else:
            run_local(app, sites, federate)


def initial_arrays(config: RunConfig) -> Arrays:
    """The untrained model's weights, decided by the run's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return arrays_of(Autoencoder(**config.model.model_dump()))


def _site_of(folders: list[SiteFolder]) -> Callable[[Any], Site]:
    """The site of a Flower context, opened once a process; small enough to travel to Ray's workers."""

    def site_of(context: Any) -> Site:
        return _opened(folders[int(context.node_config[PARTITION])])

    return site_of


@cache
def _opened(folder: SiteFolder) -> Site:
    return folder.open()


def _show(run: RunFolder, sites: list[Site], console: Console) -> None:
    picture = run.path / "reconstructions.png"
    arms = [arm for arm in ARM_NAMES if arm in run.state.quality]
    if not picture.exists():
        weights = {ARM_NAMES[arm]: run.load_arrays(MODEL_FILES[arm]) for arm in arms}
        write_atomically(picture, reconstructions_png(sites, run.config.model, weights))
    console.print(quality_table(run.state.quality, run.state.sites))
    terms = ", ".join(f"{term} {weight:.3g}" for term, weight in run.state.weights.items())
    console.print(f"phase 2 weights, from gradient magnitudes: {terms}", highlight=False, soft_wrap=True)
    console.print(f"picture: {picture}", highlight=False, soft_wrap=True)
