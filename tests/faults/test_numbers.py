"""How fast a federation starts, what a round costs besides its work, and what the coordinator's memory does."""

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from flwr.app import Message
from flwr.superlink.grid import HttpGrid

from roiae_server.flower.network import POLL_SECONDS
from tests.faults.bare import bare_superlink, run_of, send_handshake, signed_handshake
from tests.faults.processes import SETTINGS, SITES, SOURCES, RealFederation, await_that, running

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(3600),
    pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning"),  # Flower's, as it builds a bundle
]

ROUNDS = 100
LONG = {**SETTINGS, "phase1": {"rounds": ROUNDS, "local_epochs": 1}}
DEFAULT_MODEL = {**SETTINGS, "model": {}, "phase1": {"rounds": 5, "local_epochs": 1}}


def test_the_first_round_begins_within_seconds_of_the_start(
    fault_data: Path, tmp_path: Path, record: Callable[..., None]
) -> None:
    """Three hospitals: two sources and the held-out one; three times, since one start is chance by seconds."""
    starts = [_starts(tmp_path / str(attempt), fault_data) for attempt in range(3)]
    together, alone = zip(*starts, strict=True)
    _number(record, "`start` of all four to the first hospital at work", "15 s", together)
    _number(record, "`start` of the coordinator to the first hospital at work, hospitals up already", "15 s", alone)


def _starts(root: Path, data: Path) -> tuple[float, float]:
    """Seconds to the first hospital at work: of everybody's start, and of the coordinator's second one."""
    federation = RealFederation(root, data, sites={site: SITES[site] for site in ("alpha", "beta", "delta")})
    try:
        together = _seconds_to_work(federation, federation.start)
        await_that(lambda: all(map(federation.has_work, ("alpha", "beta"))), 270, "both sources are asked")
        federation.coordinator.kill()
        await_that(lambda: not any(map(federation.at_work, federation.hospitals)), 270, "nobody has work left over")
        for site in federation.hospitals:
            federation.forget_work(site)
        return together, _seconds_to_work(federation, federation.coordinator.start)
    finally:
        federation.stop()


def _seconds_to_work(federation: RealFederation, start: Callable[[], None]) -> float:
    began = time.monotonic()
    start()
    await_that(lambda: any(map(federation.has_work, federation.hospitals)), 270, "a hospital is asked")
    return time.monotonic() - began


def test_a_round_costs_little_more_than_an_empty_exchange(
    fault_data: Path, tmp_path: Path, record: Callable[..., None]
) -> None:
    """For the default model."""
    with running(RealFederation(tmp_path, fault_data, DEFAULT_MODEL)) as federation:
        ended = [_step_ended(federation, step, 300) for step in range(1, 6)]
        work = [_slowest(federation, round_) for round_ in range(2, 6)]
        overhead = [end - began - own for (began, end), own in zip(pairwise(ended), work, strict=True)]
    _number(record, "an empty exchange with three hospitals", "", _empty(tmp_path / "bare", fault_data))
    _number(
        record, "a round of the default model, less the slowest hospital's work", "3 s above an empty one", overhead
    )


def test_the_coordinators_memory_stays_flat(fault_data: Path, tmp_path: Path, record: Callable[..., None]) -> None:
    with running(RealFederation(tmp_path, fault_data, LONG)) as federation:
        memory = []
        for round_ in range(1, ROUNDS + 1):
            federation.await_completed(round_)
            memory.append(sum(map(_resident, federation.coordinator.tree())))
    settled = memory[ROUNDS // 5 :]
    slope = float(np.polyfit(range(len(settled)), settled, 1)[0])
    record(
        f"memory of the coordinator's processes over {ROUNDS} rounds",
        value=f"{settled[-1]:.0f} MiB, {slope:+.2f} MiB a round",
        goal="flat",
        samples=memory[:: ROUNDS // 10],
    )
    assert abs(slope) < 0.5


def _empty(root: Path, data: Path) -> list[float]:
    """Seconds of an exchange in which nothing is asked but who answers."""
    seconds = []
    federation = RealFederation(root, data)
    signer = federation.folder.load_signer()
    with bare_superlink(federation) as socket, run_of(federation, socket, SOURCES) as (grid, nodes):
        for _ in range(5):
            began = time.monotonic()
            waiting = {send_handshake(grid, node, signed_handshake(signer, site)) for site, node in nodes.items()}
            while waiting:
                waiting -= {reply.metadata.reply_to_message_id for reply in _pull(grid, waiting)}
            seconds.append(time.monotonic() - began)
    return seconds


def _pull(grid: HttpGrid, waiting: set[str]) -> list[Message]:
    """At the pace of our transport."""
    time.sleep(POLL_SECONDS)
    return list(grid.pull_messages(waiting))


def _number(record: Callable[..., None], what: str, goal: str, seconds: Sequence[float]) -> None:
    record(what, value=f"{median(seconds):.1f} s", goal=goal, samples=seconds)


def _step_ended(federation: RealFederation, step: int, patience: float) -> float:
    federation.await_completed(step, patience)
    return time.monotonic()


def _slowest(federation: RealFederation, round_: int) -> float:
    return max(
        float(line["seconds"]) for line in federation.lines if (line["step"], line["round"]) == ("phase1", round_)
    )


def _resident(pid: int) -> float:
    """MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20
