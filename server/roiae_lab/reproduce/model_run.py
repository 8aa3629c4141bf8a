"""One model's training in a run folder of its own, begun or taken up again."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from roiae.config import RunConfig
from roiae.errors import RunFolderError
from roiae.method.calibration import EQUAL
from roiae.method.hardware import prepare_process
from roiae.method.model import Autoencoder
from roiae.method.training import train_round
from roiae.site.answers import Site
from roiae.wire.contract import Arrays
from roiae_lab.simulation import federate
from roiae_server.run.federation import MODEL_FILES, train_task
from roiae_server.run.plan import Arm, Step, phase_of, plan
from roiae_server.run.run_folder import STATE, RunFolder, RunState, installed_versions

GLANCE = 10.0  # seconds: more than another process takes to look whether a training is done


@dataclass(frozen=True)
class Model:
    """What comes of a training, and the hospitals that score it."""

    arm: Arm
    sites: Sequence[Site]


@dataclass(frozen=True)
class ModelRun:
    """What is to be trained, and where."""

    name: str  # as a person reads it
    label: str  # the arm, or the point of the grid, as tables have it
    path: Path  # the run's folder
    config: RunConfig
    fingerprints: dict[str, str]  # of the data of every hospital in the run
    frames: Sequence[int]  # training frames of each hospital that trains
    arms: Sequence[Arm]  # that are trained; what begins with another run's phase 1 lacks it
    train: Callable[[Console], None]
    models: Mapping[str, Model]  # by their names in tables and in reproduce.json
    after: Path | None = None  # the folder of the training whose phase 1 it begins with
    last_file: str = STATE  # that it writes

    @property
    def steps(self) -> int:
        """Optimiser steps that the training takes, all hospitals' together."""
        return optimiser_steps(self.frames, self.config, self.arms)

    def steps_of(self, arm: Arm) -> int:
        """Optimiser steps behind a model, those of a phase 1 of another run among them."""
        return optimiser_steps(self.frames, self.config, ["phase1"] if arm == "phase1" else ["phase1", arm])

    def is_done(self) -> bool:
        """
        Raises:
            RunFolderError: it was begun with other settings or other data.
            ServiceError: another process is at it.
        """
        run = RunFolder.open(self.path)
        if run is None:
            return False
        with closing(run):
            if run.config != self.config:
                raise RunFolderError(f"{self.path}: was begun with another configuration. Give --out another folder.")
            if run.state.fingerprints != self.fingerprints:
                raise RunFolderError(
                    f"{self.path}: the data have changed since it was begun. Restore them, or give another --out."
                )
            return run.state.status == "done" and (self.path / self.last_file).exists()


def train_branch(path: Path, config: RunConfig, sites: list[Site], phase1: Arrays, console: Console) -> None:
    """Phase 2, with its calibration unless the weights are set, from another run's phase 1."""
    done = config.phase1.rounds
    state = RunState(
        sites={site.name: site.role for site in sites},
        fingerprints=fingerprints(sites),
        versions=installed_versions(),
        completed=done,
        step="phase1",
        round=done,
        checkpoint=MODEL_FILES["phase1"],
    )
    with closing(RunFolder.open(path) or RunFolder.create(path, config, state)) as run:
        run.save_arrays(MODEL_FILES["phase1"], phase1)
        federate(run, _of_this_run(path, sites), [], "local", console, _training_steps(config))


def train_alone(path: Path, config: RunConfig, site: Site, console: Console) -> None:
    """Both phases and the calibration at one site: its weights after a round are the next round's."""
    state = RunState({site.name: site.role}, fingerprints([site]), installed_versions())
    with closing(RunFolder.open(path) or RunFolder.create(path, config, state)) as run:
        federate(run, _of_this_run(path, [site]), [], "local", console, _training_steps(config), quorum=1)


def _of_this_run(path: Path, sites: Iterable[Site]) -> list[Site]:
    """The sites as they begin a run: none has answered anything about weights that another run has trained as well."""
    return [replace(site, state=path / "sites" / site.name) for site in sites]


def fingerprints(sites: Iterable[Site]) -> dict[str, str]:
    return {site.name: site.data.fingerprint for site in sites}


def load_model(path: Path, arm: Arm) -> Arrays:
    """A trained model of a run.

    Raises:
        RunFolderError: the run or its checkpoint is missing or damaged.
        ServiceError: another process is working on the run.
    """
    with closing(open_run(path)) as run:
        return run.load_arrays(MODEL_FILES[arm])


def open_run(path: Path) -> RunFolder:
    """
    Raises:
        RunFolderError: there is no run in the folder, or it is damaged.
        ServiceError: another process is working on the run.
    """
    run = RunFolder.open(path, wait=GLANCE)
    if run is None:
        raise RunFolderError(f"{path}: the run that was here is gone. Repeat the command to train it again.")
    return run


def optimiser_steps(frames: Iterable[int], config: RunConfig, arms: Iterable[Arm]) -> int:
    """Steps that optimisers take in these arms, each hospital's own over its training frames."""
    batches = sum(math.ceil(count / config.train.batch_size) for count in frames)
    return batches * sum(phase.rounds * phase.local_epochs for phase in (phase_of(arm, config) for arm in arms))


def seconds_a_step(site: Site, config: RunConfig) -> float:
    """Seconds of an optimiser's step with all terms of phase 2, measured on a few batches, as in most of its rounds."""
    last = Step("phase2", config.phase2.rounds, True, "phase2")
    task = train_task(config, last, EQUAL, proximal_mu=0.0)
    prepare_process(task.threads)
    few = site.data.train[: 4 * task.batch_size]
    model = Autoencoder(**task.model.model_dump()).to(site.device)
    seconds = train_round(model, few, task, site=site.name).seconds
    return seconds / (math.ceil(len(few) / task.batch_size) * task.local_epochs)


def _training_steps(config: RunConfig) -> list[Step]:
    """The run's plan without its scores: what is compared is scored on the same frames for every arm."""
    return [step for step in plan(config) if step.name not in ("score", "shift")]
