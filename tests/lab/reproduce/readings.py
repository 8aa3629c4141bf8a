"""When the gradients that phase 2 is calibrated by are measured: three times side by side, on a finished experiment.

    python -m tests.lab.reproduce.readings OUT DATA     the table of docs/RESULTS.md; some 4 minutes a protocol

OUT is a folder of `roiae-server reproduce`, DATA the folder that it was given. Phase 2's first round is trained from
where the method's phase 1 ended, with several orders of the frames: how far the weights then differ says how steady a
reading is. Nothing is written to OUT.
"""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev

import numpy as np

from roiae.config import RunConfig
from roiae.method.calibration import EQUAL, REFERENCE, calibrate, gradient_norms
from roiae.method.losses import TERMS, Comparison
from roiae.method.model import Autoencoder
from roiae.method.training import load_arrays, ordered_batches
from roiae.site.answers import Site
from roiae.wire.contract import GRADIENT, Arrays, Request
from roiae_server.run.federation import train_task
from roiae_server.run.plan import Step
from tests.lab.reproduce.experiment import Opened, opened

PHASE1_END, AFTER_THE_ROUND, IN_THE_ROUND = "where phase 1 ends", "after the round", "in the round"
ORDERS = 5  # of the frames
Weights = dict[str, float]  # by term
CALIBRATED = [term for term in TERMS if term != REFERENCE]


def weights_at(arrays: Arrays, config: RunConfig, sources: Sequence[Site]) -> Weights:
    """From the root mean square, over batches of all training frames, of the gradients at one model."""
    model = Autoencoder(**config.model.model_dump())
    load_arrays(model, arrays)
    parameters = list(model.parameters())
    magnitudes = {}
    for site in sources:
        norms = []
        for frames, rois in ordered_batches(site.data.train, config.train.batch_size):
            of = Comparison(model(frames), frames, rois)
            norms.append(gradient_norms((term(of) for term in TERMS.values()), parameters).numpy())
        magnitudes[site.name] = dict(zip(TERMS, np.sqrt(np.mean(np.square(norms), axis=0)).tolist(), strict=True))
    return _combined(magnitudes, config, sources)


def weights_around_a_round(one: Opened, seed: int) -> dict[str, Weights]:
    """Measured in phase 2's first round, with this seed's order of the frames, and at the model after it."""
    config = one.config.model_copy(update={"seed": seed})
    request = Request(train_task(config, Step("phase2", 1, False, "phase2"), EQUAL, proximal_mu=0.0), one.phase1)
    replies = {site.name: site.answer(request) for site in one.sources}
    told = {name: {term: reply.metrics[f"{GRADIENT}{term}"] for term in TERMS} for name, reply in replies.items()}
    frames = [len(site.data.train) for site in one.sources]
    updates = [reply.arrays for reply in replies.values()]
    after = {name: np.average([update[name] for update in updates], axis=0, weights=frames) for name in one.phase1}
    return {
        IN_THE_ROUND: _combined(told, config, one.sources),
        AFTER_THE_ROUND: weights_at(after, config, one.sources),
    }


def _combined(magnitudes: Mapping[str, Mapping[str, float]], config: RunConfig, sources: Sequence[Site]) -> Weights:
    """As the coordinator does."""
    frames = {site.name: len(site.data.train) for site in sources}
    return calibrate(magnitudes, frames, config.calibration.max_ratio).weights


def table(runs: Sequence[Mapping[str, Sequence[Weights]]]) -> Iterable[str]:
    """A line a time: the weights' range over runs, and the mean spread of their logarithms by order."""
    spreads = (f"{term}, by order" for term in CALIBRATED)
    yield f"| measured | {' | '.join(CALIBRATED)} | {' | '.join(spreads)} |"
    yield "|---" * (1 + 2 * len(CALIBRATED)) + "|"
    for when in (PHASE1_END, AFTER_THE_ROUND, IN_THE_ROUND):
        ranges = [sorted(run[when][0][term] for run in runs) for term in CALIBRATED]
        cells = [f"{each[0]:.2f} to {each[-1]:.2f}" for each in ranges]
        for term in CALIBRATED:
            by_order = [[math.log(weights[term]) for weights in run[when]] for run in runs]
            cells.append(f"{fmean(map(stdev, by_order)):.0%}" if len(by_order[0]) > 1 else "–")
        yield f"| {when} | {' | '.join(cells)} |"


def main(out: Path, data: Path) -> None:
    runs = []
    for one in opened(out, data):
        around = [weights_around_a_round(one, one.config.seed + order) for order in range(ORDERS)]
        run = {when: [weights[when] for weights in around] for when in (AFTER_THE_ROUND, IN_THE_ROUND)}
        runs.append({PHASE1_END: [weights_at(one.phase1, one.config, one.sources)], **run})
        print(one.holdout, "seed", one.config.seed, "measured", file=sys.stderr, flush=True)
    print("\n".join(table(runs)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
