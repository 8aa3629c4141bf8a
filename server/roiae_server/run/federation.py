"""The run, step by step: phase 1, phase 2, which calibrates itself, the control, score and shift. Knows sites by name.

Every step asks, checks, and commits. What a step needs of the steps before it is in the run folder, so a run killed
anywhere goes on from the step it was in, and ends with the same bytes.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

from roiae.config import Role, RunConfig
from roiae.errors import QuorumError, Reason, RefusalError, RoiaeError
from roiae.method.calibration import EQUAL, REFERENCE, calibrate
from roiae.method.metrics import Evaluation
from roiae.shift.latents import encoder_arrays
from roiae.text import shown
from roiae.wire.contract import (
    GRADIENT,
    NUM_EXAMPLES,
    SHIFT_ARMS,
    Arrays,
    EvaluateTask,
    Reply,
    Request,
    Task,
    TrainTask,
)
from roiae.wire.upload import packed, unpacked
from roiae_server.run.plan import Step, calibrates, learning_rate, phase_of, plan, precision
from roiae_server.run.records import Line
from roiae_server.run.reply_checks import Admit, Metrics, admit_evaluation, admit_norm, admit_update, admitted
from roiae_server.run.run_folder import QUALITY, SHIFT, RunFolder, RunState
from roiae_server.run.shift import ShiftScoring
from roiae_server.run.transport import Aggregator, InOrder, Outcome, Take, Transport

MODEL_FILES = {"phase1": "phase1.safetensors", "phase2": "phase2.safetensors", "control": "control.safetensors"}

# What a site that is asked the same again refuses again, until a person has changed something.
REFUSED_AGAIN = (
    Reason.NOT_ALLOWED,
    Reason.BUDGET_SPENT,
    Reason.OFF_COURSE,
    Reason.TASK_TOO_LARGE,
    Reason.NO_FRAMES,
    Reason.FEW_SUBJECTS,
    Reason.WRONG_VERSION,
)
TOO_SMALL = (Reason.NO_FRAMES, Reason.FEW_SUBJECTS)  # to tell its quality: asked again, a site would say it again

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Is told what happens, for a person to see."""

    def asked(self, step: Step, sites: list[str]) -> None: ...
    def answered(self, step: Step, line: Line) -> None: ...
    def completed(self, step: Step, done: int, steps: int) -> None: ...


class Federation:
    """One run over one transport.

    Args:
        run: the folder, with the resolved configuration and how far the run has come.
        transport: reaches every site of the run.
        new_aggregator: a fresh one for each phase.
        initial_arrays: the untrained model's.
        observer: is told of progress.
        steps: the first of the run's plan, after which it is done; None for all of them.
        quorum: sources that a step needs; None for the run's own.
    """

    def __init__(
        self,
        run: RunFolder,
        transport: Transport,
        new_aggregator: Callable[[], Aggregator],
        initial_arrays: Callable[[], Arrays],
        observer: Observer,
        steps: Sequence[Step] | None = None,
        quorum: int | None = None,
    ) -> None:
        self._folder, self._transport, self._observer = run, transport, observer
        self._new_aggregator, self._initial_arrays = new_aggregator, initial_arrays
        self._config = run.config
        self._steps = plan(run.config) if steps is None else steps
        self._quorum = quorum or run.quorum
        self._sites = run.state.sites
        self._sources = run.sources
        self._arrays: Arrays = {}
        self._aggregator = new_aggregator()
        self._lines: list[Line] = []  # of the step in hand

    def run(self) -> None:
        """Do all steps that are not done yet.

        Raises:
            QuorumError: too few sites contributed to a step; the run is `failed` and can be resumed.
            CalibrationError: the magnitudes give no usable weights; likewise.
        """
        if self._folder.state.checkpoint:
            self._arrays, own = self._folder.load_checkpoint()
            self._aggregator.restore(own)
        steps = self._steps
        for index in range(self._folder.state.completed, len(steps)):
            step, self._lines = steps[index], []
            try:
                after = self._do(step)
            except RoiaeError as error:
                self._fail(error)
                raise
            after = replace(after, completed=index + 1, step=step.name, round=step.round, reason=None)
            after = replace(after, status=self._ending(after) if index + 1 == len(steps) else "running")
            self._folder.commit(after, self._lines, *self._checkpoint(step))
            self._observer.completed(step, index + 1, len(steps))
        if never := self._never_contributed(self._folder.state):
            raise QuorumError(
                f"the run is complete, but {', '.join(never)} never contributed to the model: it is not a model of all "
                "the hospitals of this run. rounds.jsonl has the reasons; begin a new run, with or without them."
            )

    def _ending(self, state: RunState) -> Literal["incomplete", "done"]:
        return "incomplete" if self._never_contributed(state) else "done"

    def _never_contributed(self, state: RunState) -> list[str]:
        return [site for site in self._sources if not state.contributed.get(site)]

    def _do(self, step: Step) -> RunState:
        """One step's work, and the state after it but for how far the run has come."""
        state = self._folder.state
        if step.name == "score":
            return replace(state, quality={**state.quality, step.arm: self._score(step)})
        if step.name == "shift":
            self._shift(step)
            return state
        contributed, weights = dict(state.contributed), state.weights
        told = self._train(step)
        for site in told:
            contributed[site] = contributed.get(site, 0) + 1
        if calibrates(step, self._config):
            weights = self._calibrate(told)
        return replace(state, contributed=contributed, weights=weights)

    def _train(self, step: Step) -> dict[str, Metrics]:
        """One round; what the sites said whose updates are in the new weights."""
        if step.round == 1:
            self._aggregator = self._new_aggregator()
            self._arrays = (
                self._initial_arrays() if step.arm == "phase1" else self._folder.load_arrays(MODEL_FILES["phase1"])
            )
        proximal_mu = self._aggregator.configure(step.round, self._arrays)
        task = train_task(self._config, step, self._folder.weights, proximal_mu)
        bounds = self._config.federation
        expected = packed(self._arrays, self._arrays, task.upload)
        told: dict[str, Metrics] = {}

        def admit(reply: Reply) -> Metrics:
            metrics = admit_update(reply, task, expected, bounds.max_frames)
            admit_norm(unpacked(reply.arrays, self._arrays, task.upload), self._arrays, bounds.max_update_norm)
            return metrics

        def fold(site: str, reply: Reply) -> None:
            self._aggregator.add(unpacked(reply.arrays, self._arrays, task.upload), reply.metrics[NUM_EXAMPLES])
            told[site] = reply.metrics

        self._ask(step, task, self._sources, admit, fold)
        self._arrays = self._aggregator.aggregate(step.round)
        if step.last:
            self._folder.save_arrays(MODEL_FILES[step.arm], self._arrays)
        return told

    def _calibrate(self, told: Mapping[str, Metrics]) -> dict[str, float]:
        """Phase 2's weights, from what the sites have measured in its first round."""
        calibration = calibrate(
            {site: {term: metrics[f"{GRADIENT}{term}"] for term in EQUAL} for site, metrics in told.items()},
            {site: int(metrics[NUM_EXAMPLES]) for site, metrics in told.items()},
            self._config.calibration.max_ratio,
        )
        self._folder.write_json("calibration.json", calibration.to_json())
        return calibration.weights

    def _score(self, step: Step) -> dict[str, Metrics]:
        """Quality of one model at every site, the held-out one among them."""
        self._arrays = self._folder.load_arrays(MODEL_FILES[step.arm])
        sites = sorted(self._sites)
        replies: dict[str, Reply] = {}
        self._ask(step, EvaluateTask(**self._common()), sites, admit_evaluation, replies.__setitem__)
        for site in set(sites) - set(self._sources) - set(replies):
            raise QuorumError(f"score: the held-out site {site} did not answer. Resume when it is back.")
        scores = {site: Evaluation.from_sums(reply.metrics).means() for site, reply in sorted(replies.items())}
        if step.last:
            self._folder.write_json(QUALITY, {**self._folder.state.quality, step.arm: scores})
        return scores

    def _shift(self, step: Step) -> None:
        """Any number of sites may fail to answer: `shift.json` then says which score was not computed, and why."""
        exchanges = 0
        left_out: dict[str, str | None] = {}

        def exchange(task: Task, arrays: Arrays, sites: Sequence[str], admit: Admit) -> dict[str, Reply]:
            nonlocal exchanges
            exchanges += 1
            replies: dict[str, Reply] = {}
            asked = replace(step, round=exchanges)
            self._exchange(asked, Request(task, arrays), sites, admit, replies.__setitem__)
            reasons = {line.site: line.reason for line in self._lines if line.round == exchanges}
            left_out.update({site: reasons[site] for site in sites if site not in replies})
            return replies

        encoders = {arm: encoder_arrays(self._folder.load_arrays(MODEL_FILES[arm])) for arm in SHIFT_ARMS}
        (holdout,) = set(self._sites) - set(self._sources)
        report = ShiftScoring(exchange, encoders, self._config, self._common()).run(self._sources, holdout)
        self._folder.write_json(SHIFT, {**report, "left_out": left_out, "exchanges": exchanges})

    def _ask(self, step: Step, task: Task, sites: Iterable[str], admit: Admit, take: Take) -> None:
        """Ask one task about the weights in hand; `take` gets each admitted reply, in the order of the sites' names.

        Raises:
            QuorumError: fewer sources than the quorum contributed.
        """
        replied = self._exchange(step, Request(task, self._arrays), sites, admit, take)
        contributed = sum(site in replied for site in self._sources)
        small = {line.site for line in self._lines if line.reason in TOO_SMALL and line.site in self._sources}
        too_small = len(small) if isinstance(task, EvaluateTask) else 0
        if contributed + too_small < self._quorum:
            missing = ", ".join(f"{line.site} ({line.reason})" for line in self._lines if line.reason)
            refusing = {line.site for line in self._lines if line.reason in REFUSED_AGAIN} & {*self._sources}
            raise QuorumError(
                f"{step.name} round {step.round}: {contributed} of {len(self._sources)} source sites contributed, "
                f"{self._quorum} are needed: {missing}. Mend what the reasons name, then resume the run.",
                refused=len(self._sources) - len(refusing) < self._quorum,
            )

    def _exchange(self, step: Step, request: Request, sites: Iterable[str], admit: Admit, take: Take) -> set[str]:
        """Hand on the admitted replies to one request, and say whose they were; every site's outcome becomes a line."""
        requests = dict.fromkeys(sites, request)
        self._observer.asked(step, list(requests))
        in_order = InOrder(requests, take)
        waiting, replied = set(requests), set()
        for outcome in self._transport.exchange(requests):
            line, reply, asked = _line(step, outcome), None, outcome.site in waiting
            try:
                if not asked:
                    held_out = self._sites.get(outcome.site) is Role.HELD_OUT
                    raise RefusalError(Reason.HELD_OUT if held_out else Reason.NOT_ASKED, "this site was not asked")
                waiting.remove(outcome.site)
                if outcome.reply is not None:
                    metrics = admitted(outcome.reply, admit)
                    told = {"metrics": metrics, "seconds": outcome.reply.seconds}
                    line = line.model_copy(update={"status": "aggregated", **told})
                    reply = outcome.reply
                    replied.add(outcome.site)
            except RefusalError as refusal:
                log.warning("%s: %s", outcome.site, shown(refusal))
                line = line.model_copy(update={"status": "refused", "reason": refusal.reason})
            if asked:
                in_order.settle(outcome.site, reply)
            self._lines.append(line)
            self._observer.answered(step, line)
        # Replies come in any order; a run's files do not.
        self._lines.sort(key=lambda line: (line.round, line.site))
        return replied

    def _common(self) -> dict[str, Any]:
        train = self._config.train
        return {"model": self._config.model, "batch_size": train.batch_size, "threads": train.threads}

    def _checkpoint(self, step: Step) -> tuple[Arrays | None, Arrays]:
        """What the step has changed of the weights and the aggregator's own state, if anything."""
        return (self._arrays, self._aggregator.state) if step.trains else (None, {})

    def _fail(self, error: RoiaeError) -> None:
        """Record the step's lines and the reason; what had been admitted was not used, and is asked again."""
        lines = [
            line.model_copy(update={"status": "discarded"}) if line.status == "aggregated" else line
            for line in self._lines
        ]
        self._folder.commit(replace(self._folder.state, status="failed", reason=str(error)), lines, None, {})


def train_task(config: RunConfig, step: Step, weights: Mapping[str, float], proximal_mu: float) -> TrainTask:
    """What a site is asked in a step of training.

    Args:
        weights: of phase 2's terms; empty before they are calibrated, and equal then.
    """
    train = config.train
    phase = phase_of(step.arm, config)
    before = 0 if step.arm == "phase1" else config.phase1.rounds
    return TrainTask(
        **train.model_dump(exclude={"learning_rate", "device", "precision"}),
        precision=precision(step, config),
        model=config.model,
        weights=dict(weights or EQUAL) if step.arm == "phase2" else {REFERENCE: 1.0},
        learning_rate=learning_rate(train.learning_rate, step.round, phase.rounds),
        local_epochs=phase.local_epochs,
        proximal_mu=proximal_mu,
        seed=config.seed,
        round=before + step.round,
        upload=config.federation.upload,
        measure=calibrates(step, config),
    )


def _line(step: Step, outcome: Outcome) -> Line:
    return Line(
        step=step.name,
        round=step.round,
        site=outcome.site,
        status="missing",
        reason=outcome.reason,
        metrics={},
        seconds=None,
        bytes_out=outcome.bytes_out,
        bytes_in=outcome.bytes_in,
    )
