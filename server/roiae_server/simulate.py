"""A whole federation on one machine: hospitals from folders, or phantom ones, and the very code of a real run.

The one door through which the coordinator's side imports the hospitals': they run in this process or its workers.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.progress import Progress

from roiae.config import RunConfig, build_config, differences
from roiae.contract import Arrays, Role
from roiae.data.phantom import SCANNERS, write_hospital
from roiae.data.site_data import default_cache_dir, find_sites
from roiae.errors import ConfigError, RunFolderError
from roiae.hardware import resolve
from roiae.model import Autoencoder
from roiae.site import Site, SiteFolder
from roiae.training import arrays_of
from roiae_client.flower import client_app
from roiae_server.federation import MODEL_FILES, Federation
from roiae_server.flower.aggregation import FlowerAggregator
from roiae_server.flower.engines import PARTITION, run_local, run_on_ray
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
    run = _existing(asked)
    config = run.config if run else resolve(build_config(asked.settings))
    try:
        folders = _site_folders(asked, config, console)
        sites = _open(folders, console)
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


def _site_folders(asked: Simulation, config: RunConfig, console: Console) -> list[SiteFolder]:
    """Every hospital with its role, sorted by name."""
    cache_dir = default_cache_dir()
    folders = find_sites(asked.data) if asked.data else _phantoms(config, cache_dir, console)
    holdout = asked.holdout or max(folders)
    if holdout not in folders:
        raise ConfigError(f"--holdout {holdout}: no such hospital. There are: {', '.join(folders)}.")
    if len(folders) < 3:
        raise ConfigError(
            f"{len(folders) - 1} source hospital(s) besides the held-out {holdout}; a federation needs at least two. "
            "Give --data a folder with at least three hospitals."
        )
    return [
        SiteFolder(
            name=name,
            role=Role.HELD_OUT if name == holdout else Role.SOURCE,
            folder=folder.resolve(),
            cache_dir=cache_dir,
            image_size=config.model.image_size,
            validation_share=config.data.validation_share,
            max_bad_share=config.data.max_bad_share,
        )
        for name, folder in sorted(folders.items())
    ]


def _phantoms(config: RunConfig, cache_dir: Path, console: Console) -> dict[str, Path]:
    """Phantom hospitals by name, drawn once and kept beside the cache."""
    scanners = list(SCANNERS)
    width = len(str(config.phantom.hospitals))
    hospitals = {}
    for index in range(config.phantom.hospitals):
        scanner = scanners[index % len(scanners)]
        name = f"phantom-{index + 1:0{width}d}"
        folder = cache_dir / "phantoms" / f"v{version('roiae')}-{config.seed}-{config.phantom.subjects}-{index + 1}"
        if not folder.exists():
            console.print(f"drawing {config.phantom.subjects} frames of {name} ({scanner.name})", highlight=False)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
                drawn = Path(partial) / "site"
                write_hospital(drawn, scanner, subjects=config.phantom.subjects, seed=config.seed + 1000 * index)
                drawn.replace(folder)
        hospitals[name] = folder
    return hospitals


def _open(folders: list[SiteFolder], console: Console) -> list[Site]:
    sites = []
    for folder in folders:
        with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(f"reading {folder.name}", total=None)

            def on_frame(done: int, total: int, bar: Progress = bar, task: Any = task) -> None:
                bar.update(task, completed=done, total=total)

            site = folder.open(on_frame)
        data = site.data
        console.print(
            f"{site.name}, {site.role}: {len(data.train)} training and {len(data.validation)} validation frames"
            + (f", {len(data.set_aside)} set aside" if data.set_aside else ""),
            highlight=False,
        )
        for bad in data.set_aside:
            console.print(f"  line {bad.line}: {bad.reason}", highlight=False, markup=False)
        sites.append(site)
    return sites


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
    console.print(f"phase 2 weights, from gradient magnitudes: {terms}", highlight=False)
    console.print(f"picture: {picture}", highlight=False, soft_wrap=True)
