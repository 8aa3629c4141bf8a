"""Ten thousand malformed messages against each side: none ends it, holds it up or fills its memory.

`ROIAE_FUZZ_SEED=7 pytest -m slow tests/fuzz -s` tries others.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from roiae.shift.latents import digest
from roiae.site.answers import Site
from roiae.wire.contract import Arrays, EvaluateTask, KeysTask, Request, StatisticsTask, TrainTask
from roiae_client.answering.ledger import Ledger
from roiae_client.answering.responder import Responder
from roiae_client.folder.site_config import Limits, MaxRequests, SiteConfig
from tests.conftest import MODEL
from tests.fuzz.driving import (
    Figures,
    drive_coordinator,
    drive_hospital,
    request_message,
    still_served,
    taken,
)
from tests.fuzz.wire import on_wire
from tests.server.flower.test_network import KEYS
from tests.signing import TRUSTED

SEED = int(os.environ.get("ROIAE_FUZZ_SEED", "22"))
MAX_SECONDS, MAX_MEBIBYTES = 60.0, 400.0  # of one message, some of which are worked on; of growth over all
AMOUNTS = [pytest.param(150, id="some"), pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])]


@pytest.fixture
def responder(make_site: Callable[..., Site], initial: Arrays, tmp_path: Path) -> Iterator[Responder]:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    endless = MaxRequests(**dict.fromkeys(MaxRequests.model_fields, 10**6))
    limits = Limits(
        min_frames=2,
        min_subjects=2,
        max_requests=endless,
        max_passes=10**6,
        max_runs=10**6,
        start_models=(digest(initial),),
    )
    config = SiteConfig(name="a", data=Path("data"), limits=limits, threads=1)
    site = make_site("a")
    yield Responder(config, KEYS["a"], TRUSTED, ledger, lambda side, config: site)
    ledger.close()


@pytest.fixture
def requests(train_task: TrainTask, initial: Arrays) -> list[Request]:
    common: dict[str, Any] = {"model": MODEL, "batch_size": 8, "threads": 1}
    statistics = StatisticsTask(**common, arms=("phase1",), sources=("a", "b"), keys={"a": "0" * 64, "b": "1" * 64})
    return [
        Request(KeysTask(**common), {}),
        Request(KeysTask(**common), {}),
        Request(EvaluateTask(**common), initial),
        Request(statistics, {f"phase1/{name}": array for name, array in initial.items()}),
        Request(train_task, initial),
    ]


def told(side: str, count: int, figures: Figures, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{side}, seed {SEED}, {count} messages: {figures}")
    assert figures.slowest[0] < MAX_SECONDS
    assert figures.mebibytes < MAX_MEBIBYTES


@pytest.mark.parametrize("count", AMOUNTS)
def test_no_message_ends_a_coordinator(count: int, train_task: TrainTask, capsys: pytest.CaptureFixture[str]) -> None:
    figures = drive_coordinator(SEED, count, train_task)

    told("coordinator", count, figures, capsys)
    assert still_served(train_task)


@pytest.mark.parametrize("count", AMOUNTS)
def test_no_message_ends_a_hospital(
    count: int, responder: Responder, requests: list[Request], capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate = requests[2]
    before = taken(responder, on_wire(request_message(evaluate)))

    figures = drive_hospital(SEED, count, responder, requests)

    told("hospital", count, figures, capsys)
    assert before == "answered" == taken(responder, on_wire(request_message(evaluate)))
