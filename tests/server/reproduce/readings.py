"""Of which gradient a term's magnitude is taken, and when: the readings side by side, on a finished experiment.

    python -m tests.server.reproduce.readings OUT DATA     the tables of docs/RESULTS.md; some 9 minutes a protocol

OUT is a folder of `roiae-server reproduce`, DATA the folder that it was given. The weights of each reading are measured
where the method's phase 1 ends and after a round of phase 2 with equal weights, which is trained with five orders of
the frames: how far the weights then differ says how steady a reading is. Phase 2 is trained with those of the method's
reading where phase 1 ends, beside the method's own. Nothing is written to OUT.
"""

import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, mean, median, stdev

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from roiae.calibration import EQUAL, REFERENCE, calibrate
from roiae.config import RunConfig, build_config, merge
from roiae.contract import Arrays, Request
from roiae.losses import TERMS, Comparison
from roiae.model import Autoencoder
from roiae.site import Site
from roiae.training import calibration_batches, load_arrays
from roiae_server.federation import train_task
from roiae_server.plan import Step
from roiae_server.report.changes import change, pooled
from roiae_server.reproduce.arms import METHOD
from roiae_server.reproduce.results import BySite, score
from roiae_server.reproduce.trainings import load_model, train_branch
from tests.server.reproduce.experiment import Opened, opened

MEASURES = {  # heading, and how a change is written
    "psnr": ("PSNR dB", "{:+.2f}"),
    "ms_ssim": ("MS-SSIM", "{:+.4f}"),
    "roi_mae": ("ROI MAE", "{:+.1%}"),
    "roi_edge_mae": ("ROI Edge-MAE", "{:+.1%}"),
}


def _norm(gradient: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(part.double().square().sum()) for part in gradient))


def _of_mean(batches: Sequence[Sequence[Tensor]]) -> float:
    return _norm(torch.stack(parts).mean(0) for parts in zip(*batches, strict=True))


def _root_mean_square(batches: Sequence[Sequence[Tensor]]) -> float:
    return math.sqrt(fmean(_norm(batch) ** 2 for batch in batches))


def _of_median(batches: Sequence[Sequence[Tensor]]) -> float:
    return median(_norm(batch) for batch in batches)


SHIPPED = "batches, root mean square"
READINGS: Mapping[str, Callable[[Sequence[Sequence[Tensor]]], float]] = {  # of every batch's gradient
    SHIPPED: _root_mean_square,
    "batches, median": _of_median,
    "mean gradient": _of_mean,
}
PHASE1_END, AFTER_A_ROUND = "where phase 1 ends", "after a round"
ORDERS = 5  # of the frames
Weights = dict[str, dict[str, float]]  # by reading and term
CALIBRATED = [term for term in TERMS if term != REFERENCE]


def weights_by_reading(config: RunConfig, arrays: Arrays, sources: Sequence[Site]) -> Weights:
    """The weights of phase 2's terms by each reading, combined over the sources as the coordinator does."""
    model = Autoencoder(**config.model.model_dump())
    load_arrays(model, arrays)
    magnitudes: dict[str, dict[str, dict[str, float]]] = {name: {} for name in READINGS}
    for site in sources:
        by_term: dict[str, list[Sequence[Tensor]]] = {term: [] for term in TERMS}
        for frames, rois in calibration_batches(site.data.train, config.train.batch_size, config.calibration.batches):
            of = Comparison(model(frames), frames, rois)
            for term, gradients in by_term.items():
                gradients.append(torch.autograd.grad(TERMS[term](of), list(model.parameters()), retain_graph=True))
        for name, norm in READINGS.items():
            magnitudes[name][site.name] = {term: norm(gradients) for term, gradients in by_term.items()}
    frames_of = {site.name: len(site.data.train) for site in sources}
    return {
        name: calibrate(by_site, frames_of, config.calibration.max_ratio).weights
        for name, by_site in magnitudes.items()
    }


def after_a_round(config: RunConfig, phase1: Arrays, sources: Sequence[Site]) -> Arrays:
    """The weights of the model once phase 2 has gone its first round, with equal weights."""
    request = Request(train_task(config, Step("phase2", 1, False, "phase2"), EQUAL, proximal_mu=0.0), phase1)
    updates = [site.answer(request).arrays for site in sources]
    frames = [len(site.data.train) for site in sources]
    return {name: np.average([update[name] for update in updates], axis=0, weights=frames) for name in phase1}


def trained_with(weights: Mapping[str, float], one: Opened, work: Path) -> BySite:
    """Quality of a phase 2 with these weights from its first round on."""
    settings = {"control": False, "phase2": {"weights": dict(weights)}}
    branch = build_config(merge(one.config.model_dump(mode="json"), settings))
    train_branch(work, branch, one.sites, one.phase1, Console(quiet=True))
    return score(load_model(work, "phase2"), one.sites, branch)


def measured(one: Opened) -> tuple[Weights, list[Weights]]:
    """Where phase 1 ends, and after a round with each order of the frames, the run's own first."""
    seeds = range(one.config.seed, one.config.seed + ORDERS)
    configs = [one.config.model_copy(update={"seed": seed}) for seed in seeds]
    rounds = [after_a_round(config, one.phase1, one.sources) for config in configs]
    early, *late = (weights_by_reading(one.config, arrays, one.sources) for arrays in (one.phase1, *rounds))
    return early, late


def weights_table(runs: Sequence[tuple[Weights, list[Weights]]]) -> Iterable[str]:
    """A line a reading and a time: the weights' range over runs, and the mean spread of their logarithms by order."""
    spreads = (f"{term}, by order" for term in CALIBRATED)
    yield f"| reading | measured | {' | '.join(CALIBRATED)} | {' | '.join(spreads)} |"
    yield "|---" * (2 + 2 * len(CALIBRATED)) + "|"
    for name in READINGS:
        for when, several in (
            (PHASE1_END, [early for early, _ in runs]),
            (AFTER_A_ROUND, [late[0] for _, late in runs]),
        ):
            ranges = [sorted(weights[name][term] for weights in several) for term in CALIBRATED]
            cells = [f"{each[0]:.2f} to {each[-1]:.2f}" for each in ranges]
            for term in CALIBRATED:
                spread = mean(stdev(math.log(weights[name][term]) for weights in late) for _, late in runs)
                cells.append(f"{spread:.0%}" if when == AFTER_A_ROUND else "–")
            yield f"| {name} | {when} | {' | '.join(cells)} |"


def quality_table(changes: Mapping[tuple[str, str, str], Sequence[Mapping[str, float | None]]]) -> Iterable[str]:
    yield f"| held out | frames | measured | {' | '.join(heading for heading, _ in MEASURES.values())} |"
    yield "|---" * (3 + len(MEASURES)) + "|"
    for (when, holdout, frames), runs in sorted(changes.items(), key=lambda item: item[0][1:]):
        cells = (form.format(mean(run[name] or 0 for run in runs)) for name, (_, form) in MEASURES.items())
        yield f"| {holdout} | {frames} | {when} | {' | '.join(cells)} |"


def main(out: Path, data: Path) -> None:
    runs = []
    for one in opened(out, data):
        runs.append(measured(one))
        print(one.holdout, "seed", one.config.seed, "measured", file=sys.stderr, flush=True)
    print("\n".join(weights_table(runs)), "\n", flush=True)
    changes: dict[tuple[str, str, str], list[Mapping[str, float | None]]] = {}
    for one, (early, _) in zip(opened(out, data), runs, strict=True):
        with tempfile.TemporaryDirectory() as work:
            trained = trained_with(early[SHIPPED], one, Path(work))
        before = one.quality["phase1"]
        for when, after in ((PHASE1_END, trained), (AFTER_A_ROUND, one.quality[METHOD])):
            validation = change(pooled(before, one.roles), pooled(after, one.roles))
            changes.setdefault((when, one.holdout, "validation"), []).append(validation)
            held_out = change(before[one.holdout], after[one.holdout])
            changes.setdefault((when, one.holdout, "held out"), []).append(held_out)
        print(one.holdout, "seed", one.config.seed, "trained", file=sys.stderr, flush=True)
    print("\n".join(quality_table(changes)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
