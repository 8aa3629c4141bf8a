"""How far the held-out hospital lies from the sources, at the encoders of phase 1 and phase 2: `shift.json`.

Three kinds of exchange: the sources' statistics once, the provenance probe's steps, and one scoring. A site that does
not answer is left out of what follows; a score that cannot be had becomes a reason, and the run goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roiae.config import RunConfig
from roiae.contract import Arrays, ProbeTask, Reply, ScoreTask, ShiftArm, StatisticsTask, Task
from roiae.shift.knn import Prototypes, pooled_prototypes
from roiae.shift.mahalanobis import LatentSums, SourceGaussians, source_gaussians
from roiae.shift.newton import Probe, fit_probes
from roiae.shift.outcome import NotComputed
from roiae.shift.probe import ProbeQuestion, ProbeReading, ProbeSums
from roiae.shift.wire import from_arrays, to_arrays
from roiae_server.admission import Admit, admit_probe, admit_scores, admit_statistics
from roiae_server.report.shift_json import detection_json, not_computed_json, provenance_json, scores_json

# One exchange: the task, its arrays, the sites that are asked, and the check of a reply → the admitted replies.
Exchange = Callable[[Task, Arrays, Sequence[str], Admit], dict[str, Reply]]

SCORES = ("mahalanobis", "knn", "provenance")


@dataclass(frozen=True)
class Reference:
    """What one encoder's frames are held against."""

    gaussians: SourceGaussians
    prototypes: Prototypes | NotComputed
    probe: Probe | NotComputed

    def arrays(self) -> Arrays:
        """As the sites get it; what could not be computed is not there."""
        arrays = to_arrays("gaussians", self.gaussians, without=("sources",))
        if isinstance(self.prototypes, Prototypes):
            arrays |= to_arrays("prototypes", self.prototypes)
        if isinstance(self.probe, Probe):
            arrays |= to_arrays("standard", self.probe.standard) | {"probe.weights": self.probe.weights}
        return arrays


@dataclass(frozen=True)
class ShiftScoring:
    """The scoring of one run's encoders.

    Args:
        encoders: the encoder's arrays of each arm.
        common: what every task has: model, batch size, threads.
    """

    exchange: Exchange
    encoders: Mapping[ShiftArm, Arrays]
    config: RunConfig
    common: Mapping[str, Any]

    def run(self, sources: Sequence[str], holdout: str) -> dict[str, Any]:
        """The content of `shift.json`: by arm, each score, or the reason why it was not computed."""
        statistics = self._ask_statistics(sources)
        moments = {
            arm: {s: from_arrays(LatentSums, f"{arm}/sums", reply.arrays) for s, reply in statistics.items()}
            for arm in self.encoders
        }
        made = {arm: source_gaussians(by_source) for arm, by_source in moments.items()}
        gaussians = {arm: of for arm, of in made.items() if isinstance(of, SourceGaussians)}
        report: dict[str, Any] = {"holdout": holdout, "sources": sorted(statistics)}
        for arm, of in made.items():
            if isinstance(of, NotComputed):  # without the covariance there is neither a k-NN score nor a probe
                report[arm] = {**{name: not_computed_json(of) for name in SCORES}, "scores": {}}
        if gaussians:
            probes = fit_probes(self._ask_step, {arm: moments[arm] for arm in gaussians})
            references = {
                arm: Reference(of, self._prototypes(arm, statistics), probes[arm]) for arm, of in gaussians.items()
            }
            replies = self._ask_scores(references, holdout)
            report |= {arm: self._outcome(arm, of, replies, holdout) for arm, of in references.items()}
        return {name: report[name] for name in ("holdout", "sources", *self.encoders)}

    def _ask_statistics(self, sources: Sequence[str]) -> dict[str, Reply]:
        arms, dim = tuple(self.encoders), self.config.model.latent_dim
        task = StatisticsTask(**self.common, arms=arms)
        return self.exchange(task, self._encoders(arms), sources, lambda reply: admit_statistics(reply, arms, dim))

    def _prototypes(self, arm: ShiftArm, statistics: Mapping[str, Reply]) -> Prototypes | NotComputed:
        sent = {site: from_arrays(Prototypes, f"{arm}/prototypes", r.arrays) for site, r in statistics.items()}
        return pooled_prototypes(sent, self.config.shift.k)

    def _ask_step(self, questions: Mapping[str, ProbeQuestion]) -> dict[str, dict[str, ProbeSums]]:
        """One exchange for `fit_probes`; a site that does not answer, or refuses, is missing from every arm."""
        asked = {arm: questions[arm] for arm in self.encoders if arm in questions}
        sources = next(iter(asked.values())).sources
        folds = {arm: tuple(question.folds.tolist()) for arm, question in asked.items()}
        task = ProbeTask(**self.common, arms=tuple(asked), sources=sources, folds=folds)
        arrays = self._encoders(task.arms)
        for arm, question in asked.items():
            arrays |= to_arrays(f"{arm}/standard", question.standard) | {f"{arm}/probe.weights": question.weights}
        replies = self.exchange(task, arrays, sources, lambda reply: admit_probe(reply, asked))
        return {
            arm: {site: from_arrays(ProbeSums, f"{arm}/probe", reply.arrays) for site, reply in replies.items()}
            for arm in asked
        }

    def _ask_scores(self, references: Mapping[ShiftArm, Reference], holdout: str) -> dict[str, Reply]:
        sources = next(iter(references.values())).gaussians.sources
        task = ScoreTask(
            **self.common,
            arms=tuple(references),
            sources=sources,
            probe_sources=_probe_sources(references),
            k=self.config.shift.k,
        )
        arrays = self._encoders(task.arms)
        for arm, of in references.items():
            arrays |= {f"{arm}/{name}": array for name, array in of.arrays().items()}
        return self.exchange(task, arrays, [*sources, holdout], lambda reply: admit_scores(reply, task.arms, arrays))

    def _outcome(self, arm: ShiftArm, of: Reference, replies: Mapping[str, Reply], holdout: str) -> dict[str, Any]:
        """One arm's part of `shift.json`."""
        own = {
            "mahalanobis": {"shrinkage": of.gaussians.shrinkage},
            "knn": of.prototypes if isinstance(of.prototypes, NotComputed) else {"k": self.config.shift.k},
        }
        outcome: dict[str, Any] = {}
        scores: dict[str, dict[str, list[float]]] = {}
        for name, settings in own.items():
            if isinstance(settings, NotComputed):
                outcome[name] = not_computed_json(settings)
                continue
            by_site = {site: reply.arrays[f"{arm}/scores.{name}"] for site, reply in replies.items()}
            outcome[name] = detection_json(by_site, holdout, self.config.seed) | settings
            scores[name] = scores_json(by_site)
        outcome["provenance"] = _provenance(arm, of.probe, replies, holdout)
        return {**outcome, "scores": scores}

    def _encoders(self, arms: Sequence[ShiftArm]) -> Arrays:
        return {f"{arm}/{name}": array for arm in arms for name, array in self.encoders[arm].items()}


def _probe_sources(references: Mapping[ShiftArm, Reference]) -> tuple[str, ...]:
    """The probes of all arms are fitted together, over the sources that stayed to the end."""
    return next((of.probe.sources for of in references.values() if isinstance(of.probe, Probe)), ())


def _provenance(
    arm: ShiftArm, probe: Probe | NotComputed, replies: Mapping[str, Reply], holdout: str
) -> dict[str, Any]:
    if isinstance(probe, NotComputed):
        return not_computed_json(probe)
    readings = {
        site: from_arrays(ProbeReading, f"{arm}/reading", reply.arrays)
        for site, reply in replies.items()
        if site in (*probe.sources, holdout)
    }
    return provenance_json(probe, readings, holdout)
