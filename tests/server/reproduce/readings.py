"""Of which gradient a term's magnitude is taken: the readings side by side, on a finished experiment.

    python -m tests.server.reproduce.readings OUT DATA     the table of docs/RESULTS.md; minutes a reading and protocol

OUT is a folder of `roiae-server reproduce`, DATA the folder that it was given. Each reading's weights are measured at
the method's phase 1, and phase 2 is trained with them; nothing is written to OUT.
"""

import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, median

import torch
from rich.console import Console
from torch import Tensor, nn

from roiae.calibration import calibrate
from roiae.config import Role, RunConfig, build_config, merge, read_settings
from roiae.contract import Arrays
from roiae.losses import TERMS
from roiae.model import Autoencoder
from roiae.site import Site
from roiae.training import calibration_batches, load_arrays
from roiae_server.hospitals import find_hospitals, open_sites
from roiae_server.report.changes import change, pooled
from roiae_server.reproduce.arms import METHOD
from roiae_server.reproduce.command import JSON
from roiae_server.reproduce.results import BySite, score
from roiae_server.reproduce.trainings import load_model, train_branch
from roiae_server.run_folder import CONFIG

Gradients = Mapping[str, Sequence[Sequence[Tensor]]]  # by term: of each batch, a tensor a parameter
MEASURES = ("psnr", "ms_ssim", "roi_mae", "roi_edge_mae")


def _norm(gradient: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(part.double().square().sum()) for part in gradient))


def _of_mean(batches: Sequence[Sequence[Tensor]]) -> float:
    return _norm(torch.stack(parts).mean(0) for parts in zip(*batches, strict=True))


def _of_median(batches: Sequence[Sequence[Tensor]]) -> float:
    return median(_norm(batch) for batch in batches)


Reading = tuple[Callable[[Autoencoder], nn.Module], Callable[[Sequence[Sequence[Tensor]]], float]]
READINGS: Mapping[str, Reading] = {
    "mean gradient, all parameters": (lambda model: model, _of_mean),
    "median of batches, all parameters": (lambda model: model, _of_median),
    "mean gradient, last layer": (lambda model: model.decoder[-1], _of_mean),
}


def weights_by(reading: Reading, config: RunConfig, phase1: Arrays, sites: Sequence[Site]) -> dict[str, float]:
    """The weights of phase 2's terms by a reading, combined over the sources as the coordinator does."""
    part, norm = reading
    model = Autoencoder(**config.model.model_dump())
    load_arrays(model, phase1)
    parameters = list(part(model).parameters())
    sources = [site for site in sites if site.role is Role.SOURCE]
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


def after_one_round(config: RunConfig, phase1: Arrays, sites: Sequence[Site], work: Path) -> dict[str, float]:
    """The weights by the mean gradient once phase 2 has gone a round with those of its start."""
    begun = build_config(merge(config.model_dump(mode="json"), {"control": False, "phase2": {"rounds": 1}}))
    train_branch(work, begun, list(sites), phase1, Console(quiet=True))
    return weights_by(READINGS["mean gradient, all parameters"], config, load_model(work, "phase2"), sites)


def trained_with(
    weights: Mapping[str, float], config: RunConfig, phase1: Arrays, sites: list[Site], work: Path
) -> BySite:
    branch = build_config(
        merge(config.model_dump(mode="json"), {"control": False, "phase2": {"weights": dict(weights)}})
    )
    train_branch(work, branch, sites, phase1, Console(quiet=True))
    return score(load_model(work, "phase2"), sites, branch)


def main(out: Path, data: Path) -> None:
    found = json.loads((out / JSON).read_text())
    rows: dict[str, list[tuple[dict[str, float], dict[str, dict[str, float | None]]]]] = {}
    for result in found["results"]:
        holdout, seed = result["holdout"], result["seed"]
        config = build_config(merge(read_settings(out / CONFIG), {"seed": seed}))
        quiet = Console(quiet=True)
        sites = open_sites(find_hospitals(data, holdout, out / "sites", config, quiet), quiet)
        roles = {site.name: site.role for site in sites}
        phase1 = load_model(out / holdout / f"seed-{seed}" / METHOD, "phase1")
        before = result["quality"]["phase1"]
        with tempfile.TemporaryDirectory() as scratch:
            weights = {name: weights_by(reading, config, phase1, sites) for name, reading in READINGS.items()}
            weights["after one round"] = after_one_round(config, phase1, sites, Path(scratch, "one"))
            for index, (name, chosen) in enumerate(weights.items()):
                after = trained_with(chosen, config, phase1, sites, Path(scratch, str(index)))
                changes = {
                    "validation": change(pooled(before, roles), pooled(after, roles)),
                    "held out": change(before[holdout], after[holdout]),
                }
                rows.setdefault(name, []).append((chosen, changes))
                print(holdout, seed, name, chosen, changes, file=sys.stderr, flush=True)
    print("| reading | weights | frames |", " | ".join(MEASURES), "|")
    print("|---|---|---|" + "---|" * len(MEASURES))
    for name, runs in rows.items():
        weights_mean = " : ".join(f"{mean(chosen[term] for chosen, _ in runs):.2f}" for term in TERMS)
        for frames in ("validation", "held out"):
            cells = (f"{mean(changes[frames][measure] or 0 for _, changes in runs):+.4f}" for measure in MEASURES)
            print(f"| {name} | {weights_mean} | {frames} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
