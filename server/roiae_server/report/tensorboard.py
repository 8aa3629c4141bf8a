"""A finished run as TensorBoard's event files, in RUN/tensorboard: a curve a model and hospital, by round."""

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from roiae.errors import EngineError
from roiae.method.losses import TERMS
from roiae_server.report.facts import gather
from roiae_server.run.run_folder import RunFolder

FOLDER = "tensorboard"

Scalar = tuple[str, str, str, int, float]  # model, hospital, what, round from the run's start, value


def require_tensorboard() -> None:
    """
    Raises:
        EngineError: the extra `tensorboard` is not installed.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise EngineError(
            "--tensorboard: tensorboardX is not installed. Install it with `pip install roiae[tensorboard]`."
        )


def write_events(run: RunFolder) -> Path:
    """Write the folder anew.

    Returns:
        Where it is.

    Raises:
        RunFolderError: a file of the run is missing or damaged.
    """
    from tensorboardX import SummaryWriter

    target = run.path / FOLDER
    with tempfile.TemporaryDirectory(dir=run.path) as partial:
        written = Path(partial) / FOLDER
        writers: dict[str, Any] = {}
        for model, site, what, round_, value in _scalars(run):
            name = f"{model}/{site}"
            if name not in writers:
                writers[name] = SummaryWriter(str(written / name))
            writers[name].add_scalar(what, value, round_)
        for writer in writers.values():
            writer.close()
        shutil.rmtree(target, ignore_errors=True)
        written.replace(target)
    return target


def _scalars(run: RunFolder) -> Iterator[Scalar]:
    """What hospitals measured of the weights they received, the end's scores, and the losses of each round."""
    facts = gather(run)
    for measure, by_model in facts["curves"].items():
        for model, by_site in by_model.items():
            for site, points in by_site.items():
                yield from ((model, site, measure, round_, value) for round_, value in points)
    phase1 = run.config.phase1.rounds
    for model, by_site in facts["quality"].items():
        last = phase1 if model == "phase1" else phase1 + run.config.phase2.rounds
        for site, scores in by_site.items():
            yield from ((model, site, what, last, scores[what]) for what in ("nt_px", "nt_mm") if what in scores)
    for line in run.rounds():
        if "loss" in line.metrics:
            round_ = line.round + (0 if line.step == "phase1" else phase1)
            losses = {"loss": line.metrics["loss"]}
            losses |= {f"loss/{term}": line.metrics[term] for term in TERMS if term in line.metrics}
            yield from ((line.step, line.site, what, round_, value) for what, value in losses.items())
