"""What one protocol came to, as `reproduce.json` has it: figures and nothing of where or when they were computed."""

import json
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roiae.config import Role, RunConfig
from roiae.errors import RunFolderError
from roiae.files import write_json
from roiae.method.metrics import Evaluation
from roiae.site.answers import Site
from roiae.wire.contract import SHIFT_ARMS, EvaluateTask, Request
from roiae_lab.reproduce.arms import METHOD
from roiae_lab.reproduce.model_run import Model, ModelRun, load_model, open_run
from roiae_lab.reproduce.protocol import Protocol
from roiae_server.report.changes import Scores
from roiae_server.run.run_folder import SHIFT

SCORES = "scores.json"  # beside the arms' folders
SHIFT_FIGURES = (("mahalanobis", "auroc"), ("provenance", "max_softmax"), ("provenance", "entropy"))

BySite = Mapping[str, Scores]


@dataclass(frozen=True)
class Result:
    """One held-out hospital and one seed."""

    holdout: str
    seed: int
    roles: Mapping[str, Role]
    quality: Mapping[str, BySite]  # by model
    steps: Mapping[str, int]  # by model: of the optimisers behind it
    weights: Mapping[str, Mapping[str, float]]  # by model: of phase 2's terms
    shift: Mapping[str, Mapping[str, float]]  # by arm and figure; a figure that was not computed is missing


def gather(protocol: Protocol, arms: Iterable[str]) -> Result:
    """Score every model that has not been scored, and read what the runs say.

    Raises:
        RunFolderError: a file of a run is missing or damaged.
    """
    trainings = list(protocol.trainings([*arms]))
    models = {name: (training, model) for training in trainings for name, model in training.models.items()}
    return Result(
        holdout=protocol.holdout,
        seed=protocol.config.seed,
        roles={site.name: site.role for site in protocol.sites},
        quality=_scores(protocol, models),
        steps={name: training.steps_of(model.arm) for name, (training, model) in models.items()},
        weights={name: _weights(training) for name, (training, model) in models.items() if model.arm == "phase2"},
        shift=_shift(protocol),
    )


def score(arrays: Mapping[str, Any], sites: Iterable[Site], config: RunConfig) -> BySite:
    """A model's quality on each source's validation frames and on all frames of the held-out hospital."""
    train = config.train
    assert isinstance(train.threads, int), "resolved when it began"
    task = EvaluateTask(model=config.model, batch_size=train.batch_size, threads=train.threads)
    request = Request(task, dict(arrays))
    return {site.name: Evaluation.from_sums(site.answer(request).metrics).means() for site in sites}


def _scores(protocol: Protocol, models: Mapping[str, tuple[ModelRun, Model]]) -> dict[str, BySite]:
    path = protocol.folder / SCORES
    kept = _kept(path)
    for name, (training, model) in models.items():
        if name not in kept:
            kept[name] = score(load_model(training.path, model.arm), model.sites, protocol.config)
            write_json(path, kept)
    return {name: kept[name] for name in models}


def _kept(path: Path) -> dict[str, BySite]:
    try:
        kept: dict[str, BySite] = json.loads(path.read_bytes()) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path}: cannot be read. Delete it, and the models are scored again.") from error
    return kept


def _weights(training: ModelRun) -> dict[str, float]:
    with closing(open_run(training.path)) as run:
        return run.weights


def _shift(protocol: Protocol) -> dict[str, dict[str, float]]:
    with closing(open_run(protocol.folder / METHOD)) as run:
        said = run.read_json(SHIFT)
    return {
        arm: {name: said[arm][kind][name] for kind, name in SHIFT_FIGURES if name in said[arm][kind]}
        | _interval(said[arm]["mahalanobis"])
        for arm in SHIFT_ARMS
    }


def _interval(detection: Mapping[str, Any]) -> dict[str, float]:
    """The ends of the AUROC's 95 % interval, where it was computed."""
    return dict(zip(("auroc_low", "auroc_high"), detection["ci"]["auroc"], strict=True)) if "ci" in detection else {}
