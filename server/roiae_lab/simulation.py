"""A whole federation on one machine: hospitals from folders, or phantom ones, and the very code of a real run.

Hospitals run in this process or its workers, and answer as real ones do: to signed requests, through their limits and
their ledger.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from roiae.config import Role, build_config, differences
from roiae.console.terminal import say
from roiae.errors import RunFolderError
from roiae.files import write_atomically
from roiae.method.hardware import resolve
from roiae.method.training import initial_arrays
from roiae.site.answers import Site, SiteFolder
from roiae.wire.contract import SHIFT_ARMS, Arrays
from roiae_lab.exact_knn import has_exact_knn, with_exact_knn
from roiae_lab.flower.engines import require_ray
from roiae_lab.reconstructions import reconstructions_png
from roiae_lab.simulated_federation import SimulatedFederation
from roiae_lab.simulated_sites import find_hospitals, hospital_folders, open_sites
from roiae_server.flower.aggregation import FlowerAggregator
from roiae_server.report.tables import ARM_NAMES, quality_table, rotation_table, shift_table, weights_line
from roiae_server.report.tensorboard import require_tensorboard, write_events
from roiae_server.report.write import write_simulation_report
from roiae_server.run.federation import MODEL_FILES, Federation, Observer
from roiae_server.run.plan import Step
from roiae_server.run.progress import RunProgress
from roiae_server.run.run_folder import SHIFT, STATE, RunFolder, RunState, installed_versions
from roiae_server.run.transport import Transport

Engine = Literal["local", "ray"]
EACH = "each"  # in place of the held-out hospital's name


@dataclass(frozen=True)
class Simulation:
    """What was asked for on the command line."""

    settings: Mapping[str, Any]  # nested; only what was given
    data: Path | None  # one folder a hospital; None for phantoms
    holdout: str | None  # None for the last by name; EACH for every hospital in turn
    out: Path
    engine: Engine
    resume: bool
    tensorboard: bool = False  # event files as well


def simulate(asked: Simulation, console: Console, observer: Observer | None = None) -> None:
    """Run, or resume, and show what came of it.

    Args:
        observer: is told of each step; None shows them on the console.

    Raises:
        RoiaeError: the input, the data or the run; nothing half-written stays.
    """
    if asked.engine == "ray":
        require_ray()
    if asked.tensorboard:
        require_tensorboard()
    if asked.holdout == EACH:
        _rotate(asked, console, observer)
    else:
        _simulate(asked, console, observer)


def _rotate(asked: Simulation, console: Console, observer: Observer | None) -> None:
    """Every hospital held out in turn, each in a run folder of its own that resumes on its own; then one table."""
    if asked.out.exists() and not asked.resume:
        raise _taken(asked.out)
    if (asked.out / STATE).exists():
        raise RunFolderError(f"{asked.out}: is one run, not a folder of runs. Give --out another folder.")
    shifts = {}
    for holdout in hospital_folders(asked.data, build_config(asked.settings), console):
        say(f"held out: {holdout}", console)
        shifts[holdout] = _simulate(replace(asked, holdout=holdout, out=asked.out / holdout), console, observer)
    console.print(rotation_table(shifts))


def _simulate(asked: Simulation, console: Console, observer: Observer | None) -> Mapping[str, Any]:
    """One run; what its `shift.json` says."""
    run = _existing(asked)
    config = run.config if run else resolve(build_config(asked.settings))
    try:
        folders = find_hospitals(asked.data, asked.holdout, asked.out / "sites", config, console)
        sites = open_sites(folders, console)
        run = run or RunFolder.create(asked.out, config, _first_state(sites))
        _check_same_sites(run, sites)
        if run.state.status != "done":
            federate(run, sites, folders, asked.engine, console, observer=observer)
        shift = _show(run, sites, console)
        if asked.tensorboard:
            say(f"tensorboard --logdir {write_events(run)}", console)
        return shift
    finally:
        if run:
            run.close()


def _existing(asked: Simulation) -> RunFolder | None:
    """The run to resume, if there is one; what was given must be what it was begun with."""
    if not asked.resume:
        if asked.out.exists():
            raise _taken(asked.out)
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


def _taken(out: Path) -> RunFolderError:
    return RunFolderError(
        f"{out}: exists already. Add --resume to go on with the run in it, or give --out another folder."
    )


def _first_state(sites: list[Site]) -> RunState:
    return RunState(
        sites={site.name: site.role for site in sites},
        fingerprints={site.name: site.data.fingerprint for site in sites},
        versions=installed_versions(),
    )


def _check_same_sites(run: RunFolder, sites: list[Site]) -> None:
    if (begun := run.state.sites) != (now := {site.name: site.role for site in sites}):
        raise RunFolderError(
            f"{run.path}: was begun with {_roles(begun)}; now there are {_roles(now)}. "
            "Give the same --data and --holdout."
        )
    check_same_data(run, sites)


def check_same_data(run: RunFolder, sites: Iterable[Site]) -> None:
    """
    Raises:
        RunFolderError: the data of a site are not those that the run began with.
    """
    for site in sites:
        if run.state.fingerprints[site.name] != site.data.fingerprint:
            raise RunFolderError(
                f"{run.path}: the data of {site.name} have changed since the run began. "
                "Restore them, or begin a new run in another folder."
            )


def _roles(roles: Mapping[str, Role]) -> str:
    return ", ".join(f"{name} ({role})" for name, role in roles.items())


def federate(
    run: RunFolder,
    sites: list[Site],
    folders: list[SiteFolder],
    engine: Engine,
    console: Console,
    steps: Sequence[Step] | None = None,
    quorum: int | None = None,
    observer: Observer | None = None,
) -> None:
    """Do all steps of the run that are not done yet, with these hospitals in this process or its workers.

    Args:
        folders: of the sites, in the same order; workers, and they alone, open them for themselves.
        steps, quorum: as `Federation` takes them.
        observer: in place of the one that shows each step on the console.

    Raises:
        RoiaeError: as `Federation.run`.
    """
    federation = SimulatedFederation(run)
    with RunProgress(console, run.config, run.state.completed, steps) as progress:

        def over(transport: Transport) -> None:
            Federation(
                run,
                transport,
                new_aggregator=lambda: FlowerAggregator(run.config.strategy),
                initial_arrays=lambda: initial_arrays(run.config.model, run.config.seed),
                observer=observer or progress,
                steps=steps,
                quorum=quorum,
            ).run()

        if engine == "ray":
            assert isinstance(run.config.train.threads, int), "resolved when the run began"
            federation.on_ray(folders, run.config.train.threads, over)
        else:
            federation.locally(sites, over)
    federation.forget_weights()


def _show(run: RunFolder, sites: list[Site], console: Console) -> Mapping[str, Any]:
    """Tables and pictures; what `shift.json` says."""
    picture = run.path / "reconstructions.png"
    arms = [arm for arm in ARM_NAMES if arm in run.state.quality]
    if not picture.exists():
        weights = {ARM_NAMES[arm]: run.load_arrays(MODEL_FILES[arm]) for arm in arms}
        write_atomically(picture, reconstructions_png(sites, run.config.model, weights))
    console.print(quality_table(run.state.quality, run.state.sites))
    say(weights_line(run), console)
    say(f"picture: {picture}", console)
    shift = show_shift(run, sites, console)
    report = write_simulation_report(run, picture)
    say(f"report: {report}", console)
    return shift


def show_shift(run: RunFolder, sites: list[Site], console: Console) -> Mapping[str, Any]:
    """The shift scores' table, the exact k-NN figure of pooled latents beside; what `shift.json` says."""
    shift: Mapping[str, Any] = run.read_json(SHIFT)
    if not has_exact_knn(shift):
        models: dict[str, Arrays] = {arm: run.load_arrays(MODEL_FILES[arm]) for arm in SHIFT_ARMS}
        shift = with_exact_knn(shift, sites, models, run.config)
        run.write_json(SHIFT, shift)
    console.print(shift_table(shift))
    return shift
