"""What a run does, as a list of steps; a step's result is committed as a whole."""

import math
from dataclasses import dataclass
from typing import Literal

from roiae.config import PhaseConfig, Precision, RunConfig

Arm = Literal["phase1", "phase2", "control"]  # a model that is trained and scored

WARM_UP = 1  # rounds
SETTLING = 0.2  # share of a phase's rounds in float32, whatever the precision


@dataclass(frozen=True)
class Step:
    name: Literal["phase1", "phase2", "control", "score", "shift"]
    round: int  # from 1 within the name; of score, one a model
    last: bool  # of its name
    arm: Arm  # the model that is trained or scored; of shift, the later of the two that it compares

    @property
    def trains(self) -> bool:
        """Whether sites train in it, so that the weights are others after it."""
        return self.name == self.arm


def phase_of(arm: Arm, config: RunConfig) -> PhaseConfig:
    """The settings an arm is trained by; the control has phase 2's."""
    return config.phase1 if arm == "phase1" else config.phase2


def plan(config: RunConfig) -> list[Step]:
    """All steps of a run, in order."""
    arms: list[Arm] = ["phase1", "phase2", "control"] if config.control else ["phase1", "phase2"]
    rounds = {arm: phase_of(arm, config).rounds for arm in arms}
    train = [Step(arm, r, r == rounds[arm], arm) for arm in arms for r in range(1, rounds[arm] + 1)]
    score = [Step("score", i, i == len(arms), arm) for i, arm in enumerate(arms, start=1)]
    return [*train, *score, Step("shift", 1, True, "phase2")]


def learning_rate(peak: float, round_: int, rounds: int) -> float:
    """A linear warm-up over the first rounds, then half a cosine down towards zero; constant within a round."""
    warm_up = min(WARM_UP, rounds - 1)
    if round_ <= warm_up:
        return peak * round_ / (warm_up + 1)
    return peak * (1 + math.cos(math.pi * (round_ - 1 - warm_up) / (rounds - warm_up))) / 2


def calibrates(step: Step, config: RunConfig) -> bool:
    """Whether sites measure in it what phase 2's weights are made of: in its first round, unless they are by hand."""
    return step.name == "phase2" and step.round == 1 and not config.phase2.weights


def precision(step: Step, config: RunConfig) -> Precision:
    """Of the network in a step of training: float32 where a phase begins, then as configured.

    In its first rounds a training settles which minimum it will end in (Frankle et al. 2020, "Linear Mode Connectivity
    and the Lottery Ticket Hypothesis"). bfloat16's rounding is coarse enough to lead elsewhere then, and not later:
    docs/PERFORMANCE.md has the figures. Phase 2's first round, which calibrates it, is among them.
    """
    assert config.train.precision != "auto", "resolved when the run began"
    settling = math.ceil(SETTLING * phase_of(step.arm, config).rounds)
    return "float32" if step.round <= settling else config.train.precision
