"""How far the held-out hospital lies from the sources, at the encoders of phase 1 and phase 2: `shift.json`.

The coordinator carries what hospitals have sealed for each other, and reads none of it: their keys, the sources'
statistics, the provenance probe's steps. What it is told are the scores. A score that cannot be had becomes a reason,
and the run goes on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from roiae.config import RunConfig
from roiae.shift.group import MIN_SOURCES
from roiae.shift.messages import Choice
from roiae.shift.outcome import NotComputed, WhyNot
from roiae.shift.probe import ProbeReading
from roiae.shift.wire import from_arrays, has
from roiae.wire.contract import (
    MAX_STEPS,
    NUM_EXAMPLES,
    Arrays,
    KeysTask,
    ProbeTask,
    Reply,
    ScoreTask,
    ShiftArm,
    StatisticsTask,
    Task,
)
from roiae_server.run.reply_checks import Admit, admit_key, admit_probe, admit_scores, admit_statistics
from roiae_server.run.shift_json import detection_json, not_computed_json, provenance_json, scores_json

# One exchange: the task, its arrays, the sites that are asked, and the check of a reply → the admitted replies.
Exchange = Callable[[Task, Arrays, Sequence[str], Admit], dict[str, Reply]]

SCORES = ("mahalanobis", "knn", "provenance")


@dataclass(frozen=True)
class _Group:
    """Who scores together."""

    sources: tuple[str, ...]
    keys: dict[str, str]  # public, hexadecimal, of the sources and the held-out site
    frames: int  # training frames of the sources


@dataclass(frozen=True)
class _Fitted:
    """How the probe's steps ended."""

    step: int  # the last
    sealed: Arrays  # the result, as the first source has sealed it
    choices: Mapping[ShiftArm, Choice]


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
        group = self._ask_keys(sources, holdout)
        if isinstance(group, NotComputed):
            return self._nothing(group, holdout, [])
        statistics = self._ask_statistics(group)
        if isinstance(statistics, NotComputed):
            return self._nothing(statistics, holdout, group.sources)
        fitted = self._fit(group, statistics)
        replies = self._ask_scores(group, statistics, fitted, holdout)
        report: dict[str, Any] = {"holdout": holdout, "sources": list(group.sources)}
        for arm in self.encoders:
            report[arm] = self._outcome(arm, group, fitted, replies, holdout)
        return report

    def _nothing(self, why: NotComputed, holdout: str, sources: Sequence[str]) -> dict[str, Any]:
        report: dict[str, Any] = {"holdout": holdout, "sources": sorted(sources)}
        for arm in self.encoders:
            report[arm] = {**{name: not_computed_json(why) for name in SCORES}, "scores": {}}
        return report

    def _ask_keys(self, sources: Sequence[str], holdout: str) -> _Group | NotComputed:
        replies = self.exchange(KeysTask(**self.common), {}, [*sources, holdout], admit_key)
        keys = {site: reply.arrays["key"].tobytes().hex() for site, reply in replies.items()}
        if holdout not in keys:
            return NotComputed(WhyNot.NO_FRAMES, "the held-out site takes no part")
        frames = {site: int(reply.metrics[NUM_EXAMPLES]) for site, reply in replies.items() if site != holdout}
        if len(frames) < MIN_SOURCES:
            return NotComputed(WhyNot.ONE_SOURCE, f"{len(frames)} sources take part; {MIN_SOURCES} are needed")
        return _Group(tuple(sorted(frames)), keys, sum(frames.values()))

    def _ask_statistics(self, group: _Group) -> Arrays | NotComputed:
        """What all sources have sealed, by `statistics/<site>`."""
        task = StatisticsTask(**self._asked(group))
        replies = self.exchange(task, self._encoders, group.sources, admit_statistics)
        if missing := len(group.sources) - len(replies):
            return _dropped_out(missing)
        return {f"statistics/{site}": reply.arrays["statistics"] for site, reply in replies.items()}

    def _fit(self, group: _Group, statistics: Arrays) -> _Fitted | NotComputed:
        """Carry the sources' steps from each to all, until they say that the probe is fitted."""
        carried = statistics
        for step in range(1, MAX_STEPS + 2):
            task = ProbeTask(**self._asked(group), step=step)
            replies = self.exchange(task, self._encoders | carried, group.sources, admit_probe)
            if missing := len(group.sources) - len(replies):
                return _dropped_out(missing)
            if all(reply.metrics["done"] for reply in replies.values()):
                break
            carried = {f"probe/{site}": reply.arrays["probe"] for site, reply in replies.items()}
        first = replies[group.sources[0]].arrays
        choices = {
            arm: from_arrays(Choice, f"{arm}/choice", first) for arm in self.encoders if has(f"{arm}/choice", first)
        }
        return _Fitted(step, {"probe": first["probe"]}, choices)

    def _ask_scores(
        self, group: _Group, statistics: Arrays, fitted: _Fitted | NotComputed, holdout: str
    ) -> dict[str, Reply]:
        step, sealed = (fitted.step, fitted.sealed) if isinstance(fitted, _Fitted) else (None, {})
        task = ScoreTask(**self._asked(group), k=self.config.shift.k, step=step)
        arrays = self._encoders | statistics | sealed
        return self.exchange(task, arrays, [*group.sources, holdout], lambda reply: admit_scores(reply, task.arms))

    def _outcome(
        self,
        arm: ShiftArm,
        group: _Group,
        fitted: _Fitted | NotComputed,
        replies: Mapping[str, Reply],
        holdout: str,
    ) -> dict[str, Any]:
        """One arm's part of `shift.json`."""
        outcome: dict[str, Any] = {}
        scores: dict[str, dict[str, list[float]]] = {}
        settings: dict[str, dict[str, Any]] = {"mahalanobis": {}, "knn": {"k": self.config.shift.k}}
        for name, given in settings.items():
            by_site = {
                site: reply.arrays[f"{arm}/scores.{name}"]
                for site, reply in replies.items()
                if f"{arm}/scores.{name}" in reply.arrays
            }
            if replies and not by_site:
                outcome[name] = not_computed_json(self._why_no_score(name, group))
                continue
            outcome[name] = detection_json(by_site, holdout, self.config.seed) | given
            scores[name] = scores_json(by_site)
        if "auroc" in outcome["mahalanobis"]:
            outcome["mahalanobis"]["shrinkage"] = float(replies[holdout].arrays[f"{arm}/shrinkage"])
        outcome["provenance"] = _provenance(arm, group, fitted, replies, holdout)
        return {**outcome, "scores": scores}

    def _why_no_score(self, name: str, group: _Group) -> NotComputed:
        """The reasons for which sites that answer leave a score out."""
        k = self.config.shift.k
        if name == "knn" and group.frames < k:
            return NotComputed(WhyNot.FEW_FRAMES, f"{group.frames} training frames have no {k}-th neighbour")
        return NotComputed(WhyNot.CONSTANT, "the latents of each source hospital are all the same")

    def _asked(self, group: _Group) -> dict[str, Any]:
        return {**self.common, "arms": tuple(self.encoders), "sources": group.sources, "keys": group.keys}

    @property
    def _encoders(self) -> Arrays:
        return {f"{arm}/{name}": array for arm, arrays in self.encoders.items() for name, array in arrays.items()}


def _dropped_out(missing: int) -> NotComputed:
    return NotComputed(WhyNot.DROPPED_OUT, f"{missing} sources dropped out, and there is no sum without them")


def _provenance(
    arm: ShiftArm, group: _Group, fitted: _Fitted | NotComputed, replies: Mapping[str, Reply], holdout: str
) -> dict[str, Any]:
    if isinstance(fitted, NotComputed):
        return not_computed_json(fitted)
    if arm not in fitted.choices:
        return not_computed_json(NotComputed(WhyNot.NOT_CONVERGED, "the provenance probe did not converge"))
    readings = {
        site: from_arrays(ProbeReading, f"{arm}/reading", reply.arrays)
        for site, reply in replies.items()
        if has(f"{arm}/reading", reply.arrays)
    }
    return provenance_json(fitted.choices[arm], len(group.sources), readings, holdout)
