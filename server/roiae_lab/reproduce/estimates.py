"""Numbers that claims and tables are about, each of one result: a held-out hospital and a seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from roiae_lab.reproduce.results import Result
from roiae_server.report.changes import Scores, change, pooled

VALIDATION, HELD_OUT = "validation", "held out"  # the frames that a figure is about

Figure = Callable[[Result], float | None]  # None where it was not computed


@dataclass(frozen=True)
class Spread:
    """A mean over seeds, and the standard deviation around it."""

    mean: float
    deviation: float | None  # with n − 1 below; None of one seed

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Spread | None":
        """None where a seed's value is missing."""
        known = [value for value in values if value is not None]
        if len(known) < len(values) or not known:
            return None
        return cls(mean(known), stdev(known) if len(known) > 1 else None)


def scores_on(result: Result, model: str, frames: str) -> Scores | None:
    """A model's means over all sources' validation frames, or over the held-out hospital's; None if it is not there."""
    found = result.quality.get(model)
    if found is None:
        return None
    return pooled(found, result.roles) if frames == VALIDATION else found[result.holdout]


def measured(model: str, measure: str, frames: str) -> Figure:
    def figure(result: Result) -> float | None:
        found = scores_on(result, model, frames)
        return found.get(measure) if found else None

    return figure


def changed(earlier: str, later: str, measure: str, frames: str) -> Figure:
    """How a measure differs between two models: PSNR in dB and MS-SSIM as they are, ROI errors as shares."""

    def figure(result: Result) -> float | None:
        before, after = (scores_on(result, model, frames) for model in (earlier, later))
        return change(before, after)[measure] if before and after else None

    return figure


def worst(earlier: str, later: str, measure: str) -> Figure:
    """The same of an ROI error, at the hospital where it fares worst; the held-out one is among them."""

    def figure(result: Result) -> float | None:
        before, after = (result.quality.get(model) for model in (earlier, later))
        if before is None or after is None:
            return None
        changes = [change(before[site], after[site])[measure] for site in sorted(result.roles)]
        known = [of for of in changes if of is not None]
        return max(known) if len(known) == len(changes) else None

    return figure


def shifted(name: str, arm: str | None = None) -> Figure:
    """A shift figure of an arm; without one, phase 2's less phase 1's."""

    def figure(result: Result) -> float | None:
        if arm:
            return result.shift[arm].get(name)
        before, after = (result.shift[of].get(name) for of in ("phase1", "phase2"))
        return None if before is None or after is None else after - before

    return figure
