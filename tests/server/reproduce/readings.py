"""Of which gradient a term's magnitude is taken, and when: the readings side by side, on a finished experiment.

    python -m tests.server.reproduce.readings OUT DATA     the tables of docs/RESULTS.md; some 7 minutes a protocol

OUT is a folder of `roiae-server reproduce`, DATA the folder that it was given. The weights of each reading are measured
where the method's phase 1 ends and after a round of phase 2 with equal weights. Phase 2 is then trained with those of
the mean gradient where phase 1 ends, beside the method's own. Nothing is written to OUT.
"""

import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from roiae.calibration import EQUAL, REFERENCE, calibrate
from roiae.config import RunConfig, build_config, merge
from roiae.contract import Arrays, Request
from roiae.losses import TERMS
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


def _of_median(batches: Sequence[Sequence[Tensor]]) -> float:
    return median(_norm(batch) for batch in batches)


Reading = tuple[Callable[[Autoencoder], nn.Module], Callable[[Sequence[Sequence[Tensor]]], float]]
MEAN = "mean gradient"
READINGS: Mapping[str, Reading] = {
    MEAN: (lambda model: model, _of_mean),
    "median of batches": (lambda model: model, _of_median),
    "mean gradient, last layer": (lambda model: model.decoder[-1], _of_mean),
}
PHASE1_END, AFTER_A_ROUND = "where phase 1 ends", "after a round"


def weights_by(reading: Reading, config: RunConfig, arrays: Arrays, sources: Sequence[Site]) -> dict[str, float]:
    """The weights of phase 2's terms by a reading, combined over the sources as the coordinator does."""
    part, norm = reading
    model = Autoencoder(**config.model.model_dump())
    load_arrays(model, arrays)
    parameters = list(part(model).parameters())
    magnitudes = {}
    for site in sources:
        by_term: dict[str, list[Sequence[Tensor]]] = {term: [] for term in TERMS}
        for frames, rois in calibration_batches(site.data.train, config.train.batch_size, config.calibration.batches):
            recon = model(frames)
            for term, gradients in by_term.items():
                loss = TERMS[term](recon, frames, rois)
                gradients.append(torch.autograd.grad(loss, parameters, retain_graph=True))
        magnitudes[site.name] = {term: norm(gradients) for term, gradients in by_term.items()}
    frames_of = {site.name: len(site.data.train) for site in sources}
    return calibrate(magnitudes, frames_of, config.calibration.max_ratio).weights


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


def main(out: Path, data: Path) -> None:
    measured: dict[tuple[str, str], list[dict[str, float]]] = {}
    changes: dict[tuple[str, str, str], list[Mapping[str, float | None]]] = {}
    for one in opened(out, data):
        models = {PHASE1_END: one.phase1, AFTER_A_ROUND: after_a_round(one.config, one.phase1, one.sources)}
        weights = {
            (name, when): weights_by(reading, one.config, arrays, one.sources)
            for name, reading in READINGS.items()
            for when, arrays in models.items()
        }
        for key, of_terms in weights.items():
            measured.setdefault(key, []).append(of_terms)
        with tempfile.TemporaryDirectory() as work:
            early = trained_with(weights[MEAN, PHASE1_END], one, Path(work))
        before = one.quality["phase1"]
        for when, after in ((PHASE1_END, early), (AFTER_A_ROUND, one.quality[METHOD])):
            validation = change(pooled(before, one.roles), pooled(after, one.roles))
            changes.setdefault((when, one.holdout, "validation"), []).append(validation)
            held_out = change(before[one.holdout], after[one.holdout])
            changes.setdefault((when, one.holdout, "held out"), []).append(held_out)
        print(one.holdout, "seed", one.config.seed, "done", file=sys.stderr, flush=True)
    terms = [term for term in TERMS if term != REFERENCE]
    print("| reading | measured |", " | ".join(terms), "|")
    print("|---|---|" + "---|" * len(terms))
    for (name, when), several in measured.items():
        ranges = (sorted(weights[term] for weights in several) for term in terms)
        print(f"| {name} | {when} |", " | ".join(f"{each[0]:.2f} to {each[-1]:.2f}" for each in ranges), "|")
    print("\n| held out | frames | measured |", " | ".join(heading for heading, _ in MEASURES.values()), "|")
    print("|---|---|---|" + "---|" * len(MEASURES))
    for (when, holdout, frames), runs in sorted(changes.items(), key=lambda item: item[0][1:]):
        cells = (form.format(mean(run[name] or 0 for run in runs)) for name, (_, form) in MEASURES.items())
        print(f"| {holdout} | {frames} | {when} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
