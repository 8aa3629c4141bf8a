"""A site's answers to shift queries: what leaves is sealed for the other hospitals, or scores, sorted and rounded.

Every answer is checked, then entered in the register, and only then given.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from roiae.config import PrivacyConfig, Role
from roiae.data.site_data import SiteData
from roiae.errors import Reason, RefusalError
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
from roiae.shift.disclosures import open_disclosures
from roiae.shift.group import Group
from roiae.shift.knn import Prototypes, knn_scores
from roiae.shift.latents import digest, encode, load_encoder
from roiae.shift.mahalanobis import SourceGaussians, latent_sums, mahalanobis_scores
from roiae.shift.messages import (
    Choice,
    FittedProbe,
    about,
    known_arrays,
    open_probe,
    open_statistics,
    open_step,
    seal_statistics,
    seal_step,
)
from roiae.shift.newton import Probe, ProbeFit, start_probe
from roiae.shift.outcome import Matrix, finite_latents
from roiae.shift.probe import probe_reading, probe_sums
from roiae.shift.session import Session
from roiae.shift.wire import to_arrays
from roiae.wire.contract import (
    NUM_EXAMPLES,
    Arrays,
    KeysTask,
    ProbeTask,
    ScoreTask,
    ShiftArm,
    ShiftTask,
    StatisticsTask,
)

_ENCODERS_KEPT = 2  # whose latents stay in memory between two queries


@dataclass(frozen=True)
class Encoded:
    """What a site sees of one encoder."""

    digest: str
    train: NDArray[np.float32]  # [N, D]
    validation: NDArray[np.float32]

    @property
    def dim(self) -> int:
        return int(self.train.shape[1])


Encoders = dict[ShiftArm, Encoded]


@dataclass(frozen=True)
class ShiftResponder:
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
        if isinstance(task, KeysTask):
            return self._key()
        encoders = self._encoded(task, arrays)
        group = self._group(task, encoders)
        besides = {name: array for name, array in arrays.items() if name.partition("/")[0] not in task.arms}
        match task:
            case StatisticsTask():
                return self._statistics(group, encoders)
            case ProbeTask():
                return self._step(task, group, encoders, besides)
            case ScoreTask():
                return self._scores(task, group, encoders, besides)

    def _key(self) -> tuple[dict[str, float], Arrays]:
        """Only a site that will be able to answer joins: the others' sums need it to the end."""
        if self.role is Role.HELD_OUT:
            frames = len(self.data.train) + len(self.data.validation)
            check_frames(frames, self.privacy.min_scored_frames)
        else:
            frames = len(self.data.train)
            check_subjects(self.data.train.subjects, self.privacy.min_subjects)
        public = self._session.new_key().public_key().public_bytes_raw()
        return {NUM_EXAMPLES: float(frames)}, {"key": np.frombuffer(public, dtype=np.uint8)}

    def _statistics(self, group: Group, encoders: Encoders) -> tuple[dict[str, float], Arrays]:
        subjects, least = self.data.train.subjects, self.privacy.min_subjects
        check_subjects(subjects, least)
        told: Arrays = {}
        for arm, of in encoders.items():
            told |= seal_statistics(group, arm, of.train, subjects)
        with open_disclosures(self.state) as register:
            for of in encoders.values():
                register.note_statistics(of.digest, self.data.fingerprint, subjects, least)
                register.note_sources(of.digest, group.sources)
        return {NUM_EXAMPLES: float(len(subjects))}, {"statistics": group.seal("statistics", told)}

    def _step(
        self, task: ProbeTask, group: Group, encoders: Encoders, arrays: Arrays
    ) -> tuple[dict[str, float], Arrays]:
        subjects = self.data.train.subjects
        with open_disclosures(self.state) as register:
            for of in encoders.values():
                register.note_sources(of.digest, group.sources)
        fits = self._session.fits(task.step, group.about, group.sources)
        if fits is None:
            fits = self._advanced(task, group, encoders, arrays)
            self._session.save_fits(task.step, group.about, fits)
        told: Arrays = {}
        clear: Arrays = {}
        questions = {arm: fit.question() for arm, fit in fits.items()}
        for arm, question in questions.items():
            if question is not None:
                latents = encoders[arm].train
                check_question(question, latents, subjects, self.name)
                check_standard(question.standard, latent_sums(latents))
                topic = f"{arm}/{task.step}/{digest(arrays)}"
                told |= seal_step(group, arm, topic, question, probe_sums(latents, subjects, self.name, question))
        if done := not any(questions.values()):
            for arm, fit in fits.items():
                if isinstance(probe := fit.result(), Probe):
                    told |= to_arrays(f"{arm}/standard", probe.standard) | {f"{arm}/weights": probe.weights}
                    clear |= to_arrays(f"{arm}/choice", Choice.of(probe))
        sealed = group.seal(f"probe/{task.step}", told)
        return {NUM_EXAMPLES: float(len(subjects)), "done": float(done)}, {"probe": sealed} | clear

    def _advanced(self, task: ProbeTask, group: Group, encoders: Encoders, arrays: Arrays) -> dict[ShiftArm, ProbeFit]:
        """The fits after the answers that have come."""
        if task.step == 1:
            known = {arm: open_statistics(group, arm, arrays, of.dim) for arm, of in encoders.items()}
            varied = {arm: k.moments for arm, k in known.items() if isinstance(k.gaussians, SourceGaussians)}
            return {arm: start_probe(moments) for arm, moments in varied.items()}
        before = self._session.fits(task.step - 1, group.about, group.sources)
        if before is None:
            raise RefusalError(Reason.BAD_REQUEST, f"step {task.step} of the probe does not follow the last one")
        return {arm: open_step(group, arm, task.step - 1, arrays, fit) for arm, fit in before.items()}

    def _scores(
        self, task: ScoreTask, group: Group, encoders: Encoders, arrays: Arrays
    ) -> tuple[dict[str, float], Arrays]:
        reply: Arrays = {}
        frames = 0
        for arm, of in encoders.items():
            scored = finite_latents(of.validation)
            if self.role is Role.HELD_OUT:
                scored = np.concatenate([finite_latents(of.train), scored])
            frames = len(scored)
            check_frames(frames, self.privacy.min_scored_frames)
            known = open_statistics(group, arm, arrays, of.dim)
            if not isinstance(known.gaussians, SourceGaussians):
                continue
            probe = open_probe(group, arm, task.step, arrays)
            asked = digest(
                known_arrays(known.gaussians, known.prototypes, probe), group.sources, task.k, self.data.fingerprint
            )
            with open_disclosures(self.state) as register:
                register.note_scoring(of.digest, asked)
            scores = self._score(task.k, of, scored, known.gaussians, known.prototypes)
            scores |= self._reading(of, scored, probe, group.sources) if probe else {}
            reply |= {f"{arm}/{name}": array for name, array in scores.items()}
        return {"frames": float(frames)}, reply

    def _score(self, k: int, of: Encoded, scored: Matrix, gaussians: SourceGaussians, pooled: Prototypes) -> Arrays:
        held_out = self.role is Role.HELD_OUT
        own = latent_sums(scored if held_out else of.train)
        check_gaussians(gaussians, own, None if held_out else self.name)
        scores = {"scores.mahalanobis": outgoing_scores(mahalanobis_scores(scored, gaussians))}
        if k <= pooled.frames.sum():
            check_prototypes(pooled, of.dim, k)
            scores["scores.knn"] = outgoing_scores(knn_scores(scored, pooled, k))
        return scores | {"shrinkage": np.array(gaussians.shrinkage)}

    def _reading(self, of: Encoded, scored: Matrix, probe: FittedProbe, sources: tuple[str, ...]) -> Arrays:
        own = latent_sums(scored if self.role is Role.HELD_OUT else of.train)
        check_weights(probe.weights, len(sources), probe.standard, of.dim)
        check_standard(probe.standard, own)
        place = sources.index(self.name) if self.name in sources else None
        return to_arrays("reading", probe_reading(scored, probe.standard, probe.weights, place))

    @property
    def _session(self) -> Session:
        return Session(self.state / "scoring", self.data.fingerprint)

    def _group(self, task: StatisticsTask | ProbeTask | ScoreTask, encoders: Encoders) -> Group:
        keys = {name: bytes.fromhex(key) for name, key in task.keys.items()}
        encoder_digests = {arm: of.digest for arm, of in encoders.items()}
        return Group(self.name, self._session.key(), task.sources, keys, about(encoder_digests))

    def _encoded(self, task: StatisticsTask | ProbeTask | ScoreTask, arrays: Arrays) -> Encoders:
        """This site's latents under each encoder that came, from memory where they are there."""
        return {
            arm: self._encode(task, {n.partition("/")[2]: a for n, a in arrays.items() if n.partition("/")[0] == arm})
            for arm in task.arms
        }

    def _encode(self, task: StatisticsTask | ProbeTask | ScoreTask, encoder: Arrays) -> Encoded:
        key = digest(encoder)
        if key not in self._latents:
            model = load_encoder(task.model, encoder)
            while len(self._latents) >= _ENCODERS_KEPT:
                del self._latents[next(iter(self._latents))]
            train, validation = (encode(model, d, task.batch_size) for d in (self.data.train, self.data.validation))
            self._latents[key] = train, validation
        return Encoded(key, *self._latents[key])
