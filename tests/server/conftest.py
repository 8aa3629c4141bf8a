"""A federation without Flower, torch or data: sites that answer with numbers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roiae.config import Role, RunConfig
from roiae.errors import Reason
from roiae.wire.contract import Arrays, EvaluateTask, Reply, Request, ShiftTask, TrainTask
from roiae_server.run.federation import Federation
from roiae_server.run.plan import Step
from roiae_server.run.records import Line
from roiae_server.run.run_folder import RunFolder, RunState
from roiae_server.run.transport import Outcome

Answer = Callable[[str, Request], Reply | Reason]
START: Arrays = {"w": np.zeros(3, dtype=np.float32)}


def honest(site: str, request: Request) -> Reply:
    """Moves the weights by a step of its own size, and knows its magnitudes and its quality."""
    sums = {"psnr": 20.0, "ms_ssim": 0.5, "roi_mae": 0.1, "roi_edge_mae": 0.2, "frames": 2.0}
    nt = {"nt_frames": 2.0, "nt_px": 1.0, "nt_mm_frames": 1.0, "nt_mm": 0.25, "nt_one_sided": 0.0}
    match request.task:
        case TrainTask() as task:
            step = np.float32(len(site) + task.round)
            metrics = {"num-examples": 10.0, "frames_a_second": 1.0, "loss": 0.5, **dict.fromkeys(task.weights, 0.5)}
            if task.measure:
                metrics |= {f"gradient_{term}": 1.0 if term == "ms_ssim" else 2.0 for term in task.weights}
            validation = {f"validation_{name}": value for name, value in sums.items()}
            return Reply(metrics | validation, {"w": request.arrays["w"] + step}, 1.0)
        case EvaluateTask():
            return Reply(sums | nt, {}, 1.0)
        case _:
            raise AssertionError("shift queries need latents; tests/server/shift/ has sites with some")


@dataclass
class ScriptedTransport:
    """Asks a function instead of hospitals, and remembers what was asked."""

    answer: Answer = honest
    uninvited: Mapping[str, Answer] = field(default_factory=dict)  # sites that answer whatever is asked of others
    asked: list[tuple[str, Request]] = field(default_factory=list)

    def exchange(self, requests: Mapping[str, Request]) -> Iterator[Outcome]:
        for site, request in requests.items():
            self.asked.append((site, request))
            if isinstance(request.task, ShiftTask):
                yield self._outcome(site, Reason.FEW_SUBJECTS)
                continue
            yield self._outcome(site, self.answer(site, request))
        for site, answer in self.uninvited.items():
            if isinstance(request.task, ShiftTask):
                continue
            yield self._outcome(site, answer(site, next(iter(requests.values()))))

    def _outcome(self, site: str, answered: Reply | Reason) -> Outcome:
        if isinstance(answered, Reply):
            return Outcome(site, answered, None, 100, 100)
        return Outcome(site, None, answered, 100, 0)


class MeanAggregator:
    """The mean of the replies, and a count of the rounds as its own state."""

    def __init__(self) -> None:
        self.rounds = np.zeros(1)

    def configure(self, round_: int, arrays: Arrays) -> float:
        self.updates: list[Arrays] = []
        return 0.0

    def add(self, arrays: Arrays, weight: float) -> None:
        self.updates.append(arrays)

    def aggregate(self, round_: int) -> Arrays:
        self.rounds = self.rounds + 1
        mean = np.mean([arrays["w"] for arrays in self.updates], axis=0)
        return {"w": (mean + self.rounds[0] % 3).astype(np.float32)}

    @property
    def state(self) -> Arrays:
        return {"rounds": self.rounds}

    def restore(self, state: Arrays) -> None:
        self.rounds = state["rounds"]


class Silent:
    """An observer that may be told to fail after some steps, as a machine would."""

    def __init__(self, crash_after: int = 10**9) -> None:
        self.left = crash_after

    def asked(self, step: Step, sites: list[str]) -> None: ...
    def answered(self, step: Step, line: Line) -> None:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def completed(self, step: Step, done: int, steps: int) -> None: ...


@pytest.fixture
def federate(tmp_path: Path, config: RunConfig) -> Callable[..., Path]:
    """Runs a federation of sources a, bb, ccc and the held-out dddd; returns the run's folder.

    A second call with the same name resumes the run.
    """

    def run(
        transport: ScriptedTransport, name: str = "run", crash_after: int = 10**9, config: RunConfig = config
    ) -> Path:
        path = tmp_path / name
        roles = {"a": Role.SOURCE, "bb": Role.SOURCE, "ccc": Role.SOURCE, "dddd": Role.HELD_OUT}
        folder = RunFolder.open(path) or RunFolder.create(path, config, RunState(roles, {}, {}))
        try:
            Federation(folder, transport, MeanAggregator, lambda: START, Silent(crash_after)).run()
        finally:
            folder.close()
        return path

    return run


@pytest.fixture
def read_lines() -> Callable[[Path], list[dict[str, Any]]]:
    import json

    return lambda run: [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
