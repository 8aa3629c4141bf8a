"""A site's answers to shift queries: what leaves is a sum over many subjects, or sorted and rounded scores.

Every answer is checked, then entered in the register, and only then given.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roiae.config import PrivacyConfig, Role
from roiae.contract import NUM_EXAMPLES, Arrays, ProbeTask, ScoreTask, ShiftTask, StatisticsTask
from roiae.data.site_data import SiteData
from roiae.shift.checks import (
    check_frames,
    check_gaussians,
    check_prototypes,
    check_question,
    check_standard,
    check_subjects,
    check_weights,
    outgoing_scores,
)
from roiae.shift.knn import Prototypes, knn_scores, prototypes
from roiae.shift.latents import digest, encode, encoder_arrays, load_encoder
from roiae.shift.mahalanobis import SourceGaussians, latent_sums, mahalanobis_scores
from roiae.shift.outcome import Matrix, finite_latents
from roiae.shift.probe import ProbeQuestion, Standard, probe_reading, probe_sums
from roiae.shift.register import open_register
from roiae.shift.wire import from_arrays, has, to_arrays

_ENCODERS_KEPT = 2  # whose latents stay in memory between two queries


@dataclass(frozen=True)
class Encoded:
    """What a site sees of one encoder."""

    digest: str
    arrays: Arrays  # that came with the query besides the encoder
    train: NDArray[np.float32]  # [N, D]
    validation: NDArray[np.float32]


@dataclass(frozen=True)
class ShiftDesk:
    """Answers shift queries for one site.

    Args:
        state: the site's own folder, for the register of what it has answered.
    """

    name: str
    role: Role
    data: SiteData
    privacy: PrivacyConfig
    state: Path
    _latents: dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]] = field(default_factory=dict)

    def answer(self, task: ShiftTask, arrays: Arrays) -> tuple[dict[str, float], Arrays]:
        """Metrics and arrays of the reply.

        Raises:
            RefusalError: too few subjects or frames, latents that are not finite, a question that would single a
                subject out or that adds up with one answered before, or arrays that are not the contract's.
        """
        match task:
            case StatisticsTask():
                return self._statistics(task, arrays)
            case ProbeTask():
                return self._step(task, arrays)
            case ScoreTask():
                return self._scores(task, arrays)

    def _statistics(self, task: StatisticsTask, arrays: Arrays) -> tuple[dict[str, float], Arrays]:
        subjects, least = self.data.train.subjects, self.privacy.min_subjects
        check_subjects(subjects, least)
        reply: Arrays = {}
        encoded = {arm: self._encoded(task, arm, arrays) for arm in task.arms}
        for arm, of in encoded.items():
            reply |= to_arrays(f"{arm}/sums", latent_sums(of.train))
            reply |= to_arrays(f"{arm}/prototypes", prototypes(of.train, subjects))
        with open_register(self.state) as register:
            for of in encoded.values():
                register.note_statistics(of.digest, self.data.fingerprint, subjects, least)
        return {NUM_EXAMPLES: float(len(subjects))}, reply

    def _step(self, task: ProbeTask, arrays: Arrays) -> tuple[dict[str, float], Arrays]:
        subjects = self.data.train.subjects
        check_subjects(subjects, self.privacy.min_subjects)
        reply: Arrays = {}
        for arm in task.arms:
            of = self._encoded(task, arm, arrays)
            question = ProbeQuestion(
                task.sources,
                from_arrays(Standard, "standard", of.arrays),
                of.arrays.get("probe.weights", np.empty(0)),
                np.array(task.folds.get(arm, ()), dtype=np.int64),
            )
            asked = digest(of.arrays, task.folds.get(arm))
            with open_register(self.state) as register:
                steps = register.note_step(of.digest, self.data.fingerprint, task.sources, asked)
            check_question(question, of.train, subjects, self.name, steps)
            check_standard(question.standard, latent_sums(of.train))
            reply |= to_arrays(f"{arm}/probe", probe_sums(of.train, subjects, self.name, question))
        return {NUM_EXAMPLES: float(len(subjects))}, reply

    def _scores(self, task: ScoreTask, arrays: Arrays) -> tuple[dict[str, float], Arrays]:
        reply: Arrays = {}
        frames = 0
        for arm in task.arms:
            of = self._encoded(task, arm, arrays)
            scored = finite_latents(of.validation)
            if self.role is Role.HELD_OUT:
                scored = np.concatenate([finite_latents(of.train), scored])
            frames = len(scored)
            check_frames(frames, self.privacy.min_scored_frames)
            asked = digest(of.arrays, task.sources, task.probe_sources, task.k, self.data.fingerprint)
            with open_register(self.state) as register:
                register.note_scoring(of.digest, asked)
            reply |= {f"{arm}/{name}": array for name, array in self._score(task, of, scored).items()}
        return {"frames": float(frames)}, reply

    def _score(self, task: ScoreTask, of: Encoded, scored: Matrix) -> Arrays:
        """With the models that came: the Gaussians always, prototypes and probe where there are any."""
        held_out = self.role is Role.HELD_OUT
        own = latent_sums(scored if held_out else of.train)
        gaussians = from_arrays(SourceGaussians, "gaussians", of.arrays, sources=task.sources)
        check_gaussians(gaussians, own, None if held_out else self.name)
        scores = {"scores.mahalanobis": mahalanobis_scores(scored, gaussians)}
        if has("prototypes", of.arrays):
            pooled = from_arrays(Prototypes, "prototypes", of.arrays)
            sent = None if held_out else prototypes(of.train, self.data.train.subjects)
            check_prototypes(pooled, len(own.total), task.k, sent)
            scores["scores.knn"] = knn_scores(scored, pooled, gaussians.covariance, task.k)
        leaving = {name: outgoing_scores(values) for name, values in scores.items()}
        if has("standard", of.arrays):
            leaving |= self._reading(task, of, scored)
        return leaving

    def _reading(self, task: ScoreTask, of: Encoded, scored: Matrix) -> Arrays:
        standard, weights = from_arrays(Standard, "standard", of.arrays), of.arrays.get("probe.weights", np.empty(0))
        own = latent_sums(scored if self.role is Role.HELD_OUT else of.train)
        check_weights(weights, len(task.probe_sources), standard, len(own.total))
        check_standard(standard, own)
        place = task.probe_sources.index(self.name) if self.name in task.probe_sources else None
        return to_arrays("reading", probe_reading(scored, standard, weights, place))

    def _encoded(self, task: ShiftTask, arm: str, arrays: Arrays) -> Encoded:
        """What came for one encoder, and this site's latents under it, from memory where they are there."""
        came = {name.removeprefix(f"{arm}/"): a for name, a in arrays.items() if name.startswith(f"{arm}/")}
        encoder = encoder_arrays(came)
        key = digest(encoder)
        if key not in self._latents:
            model = load_encoder(task.model, encoder)
            while len(self._latents) >= _ENCODERS_KEPT:
                del self._latents[next(iter(self._latents))]
            train, validation = (encode(model, d, task.batch_size) for d in (self.data.train, self.data.validation))
            self._latents[key] = train, validation
        besides = {name: array for name, array in came.items() if name not in encoder}
        return Encoded(key, besides, *self._latents[key])
