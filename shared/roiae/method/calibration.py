"""Loss weights from gradient magnitudes: measured at each site, combined at the coordinator, tuned by nobody.

Source: arXiv 2604.23839; the mean over sites is ours. The magnitudes are measured in a first round of phase 2 with
equal weights: where phase 1 ends, MS-SSIM is close to its own minimum, and its small gradient tells how well phase 1
has converged, not how the terms compare. A magnitude is that of the round's own steps: measured at a single model, it
swings with where training happens to have left it (docs/RESULTS.md has both).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn

from roiae.errors import CalibrationError
from roiae.method.losses import TERMS

REFERENCE = "ms_ssim"  # the term whose weight is 1
EQUAL = dict.fromkeys(TERMS, 1.0)  # weights of phase 2's first round, in which the magnitudes are measured
WEIGHT_RANGE = (1e-3, 1e3)


def gradient_norms(terms: Iterable[Tensor], parameters: Sequence[nn.Parameter]) -> Tensor:
    """[terms], ‖∇θ Lt‖₂ of each over all parameters, in their own precision; what the terms came from is kept.

    Args:
        terms: scalars of one batch.
        parameters: all of the model's; their gradients are left as they were.
    """
    gradients = (torch.autograd.grad(term, parameters, retain_graph=True) for term in terms)
    return torch.stack([nn.utils.get_total_norm(gradient) for gradient in gradients])


@dataclass(frozen=True)
class Calibration:
    """What every site measured and what came of it; `calibration.json` is this."""

    weights: dict[str, float]  # w[t] = global[reference] / global[t]
    magnitudes: dict[str, dict[str, float]]  # by site
    frames: dict[str, int]  # training frames by site
    global_magnitudes: dict[str, float]
    spread: dict[str, float]  # largest over smallest magnitude between sites, as reported

    def to_json(self) -> dict[str, object]:
        return {
            "weights": self.weights,
            "magnitudes": self.magnitudes,
            "frames": self.frames,
            "global": self.global_magnitudes,
            "spread": self.spread,
        }


def calibrate(
    magnitudes: Mapping[str, Mapping[str, float]], frames: Mapping[str, int], max_ratio: float
) -> Calibration:
    """Global weights from the sites' magnitudes.

    A frame-weighted geometric mean over sites, in which one site's ratio to the median of the others is bounded by
    `max_ratio` either way, so that no single hospital decides the balance.

    Args:
        magnitudes: g[t] by site, every site with the same terms, the reference among them.
        frames: training frames by site, the weights of the mean.

    Raises:
        CalibrationError: a magnitude that is zero or not finite, or a weight outside [1e-3, 1e3]; it names the term
            and the site.

    >>> measured = {"a": {"ms_ssim": 0.2, "roi_l1": 0.4}, "b": {"ms_ssim": 0.2, "roi_l1": 0.1}}
    >>> calibrate(measured, {"a": 100, "b": 100}, max_ratio=10).weights
    {'ms_ssim': 1.0, 'roi_l1': 1.0}
    """
    sites = sorted(magnitudes)
    for site in sites:
        for term, value in magnitudes[site].items():
            if not (math.isfinite(value) and value > 0):
                raise CalibrationError(
                    f"calibration: {site} reports a gradient magnitude of {value} for {term}; expected a positive "
                    "number. Look at that hospital's training frames and ROIs, and at its loss in rounds.jsonl."
                )
    terms = list(magnitudes[sites[0]])
    overall = {term: _bounded_mean({s: magnitudes[s][term] for s in sites}, frames, max_ratio) for term in terms}
    return Calibration(
        weights=_weights(overall),
        magnitudes={site: dict(magnitudes[site]) for site in sites},
        frames={site: frames[site] for site in sites},
        global_magnitudes=overall,
        spread={t: max(magnitudes[s][t] for s in sites) / min(magnitudes[s][t] for s in sites) for t in terms},
    )


def _bounded_mean(values: Mapping[str, float], frames: Mapping[str, int], max_ratio: float) -> float:
    """Frame-weighted geometric mean of values bounded against the median of the others."""
    total = sum(frames[site] for site in values)
    log_mean = 0.0
    for site, value in values.items():
        others = median(v for name, v in values.items() if name != site) if len(values) > 1 else value
        bounded = min(max(value, others / max_ratio), others * max_ratio)
        log_mean += frames[site] / total * math.log(bounded)
    return math.exp(log_mean)


def _weights(overall: Mapping[str, float]) -> dict[str, float]:
    low, high = WEIGHT_RANGE
    weights = {term: overall[REFERENCE] / value for term, value in overall.items()}
    for term, weight in weights.items():
        if not low <= weight <= high:
            raise CalibrationError(
                f"calibration: the weight of {term} came to {weight:.3g}, outside [{low:g}, {high:g}] (magnitudes: "
                + ", ".join(f"{name} {value:.3g}" for name, value in overall.items())
                + "). One term has next to no gradient: look at the ROIs and at phase 1's loss."
            )
    return weights
