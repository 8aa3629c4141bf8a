"""The shift step alone, over real sites in memory."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roiae.config import PrivacyConfig, Role, RunConfig, build_config
from roiae.errors import Reason, RefusalError
from roiae.site.answers import Site
from roiae.wire.contract import Arrays, Reply, Request, Task
from roiae_server.run.federation import MODEL_FILES, Federation
from roiae_server.run.run_folder import RunFolder, RunState
from roiae_server.run.transport import Outcome
from tests.conftest import MODEL
from tests.server.conftest import MeanAggregator, Silent

HELD_OUT = "held"
Hide = Callable[[str, Task], bool]


class Sites:
    """A transport to sites in this process; `away` says who does not answer what."""

    def __init__(self, sites: list[Site], away: Hide = lambda site, task: False) -> None:
        self.sites, self.away = {site.name: site for site in sites}, away
        self.asked: list[tuple[str, Request]] = []
        self.replies: list[Reply] = []

    def exchange(self, requests: Mapping[str, Request]) -> Iterator[Outcome]:
        for name, request in requests.items():
            self.asked.append((name, request))
            yield self._outcome(name, request)

    def _outcome(self, name: str, request: Request) -> Outcome:
        if self.away(name, request.task):
            return Outcome(name, None, Reason.NO_REPLY, 1, 0)
        try:
            self.replies.append(self.sites[name].answer(request))
            return Outcome(name, self.replies[-1], None, 1, 1)
        except RefusalError as refusal:
            return Outcome(name, None, refusal.reason, 1, 1)


@pytest.fixture
def sites(make_site: Callable[..., Site]) -> list[Site]:
    """Two sources of uneven size, and a held-out site."""
    limits = PrivacyConfig(min_subjects=30, min_scored_frames=5)
    made = [make_site("alpha", 40, 12), make_site("beta", 55, 9), make_site(HELD_OUT, 10, 10, Role.HELD_OUT)]
    return [replace(site, privacy=limits) for site in made]


@pytest.fixture
def score(tmp_path: Path, initial: Arrays) -> Callable[..., dict[str, Any]]:
    """Runs, or resumes, the shift step alone, over two untrained encoders; returns `shift.json`."""
    later = {name: array * np.float32(1.1) for name, array in initial.items()}
    config = build_config({"model": MODEL.model_dump(), "control": False, "train": {"threads": 1}, "shift": {"k": 20}})
    config = config.model_copy(update={"train": config.train.model_copy(update={"precision": "float32"})})

    def run(transport: Sites, crash_after: int = 10**9) -> dict[str, Any]:
        path = tmp_path / "run"
        folder = RunFolder.open(path) or _at_the_shift(path, config, transport, {"phase1": initial, "phase2": later})
        try:
            Federation(folder, transport, MeanAggregator, lambda: initial, Silent(crash_after)).run()
        finally:
            folder.close()
        found: dict[str, Any] = json.loads((path / "shift.json").read_text())
        return found

    return run


def _at_the_shift(path: Path, config: RunConfig, transport: Sites, models: Mapping[str, Arrays]) -> RunFolder:
    """A run of which only the shift step is left."""
    from roiae_server.run.plan import plan

    roles = {name: site.role for name, site in transport.sites.items()}
    state = RunState(roles, {}, {}, contributed=dict.fromkeys(roles, 1))
    folder = RunFolder.create(path, config, state)
    for arm, arrays in models.items():
        folder.save_arrays(MODEL_FILES[arm], arrays)
    completed = replace(state, completed=len(plan(config)) - 1)
    folder.commit(completed, [], models["phase2"], MeanAggregator().state)
    return folder
