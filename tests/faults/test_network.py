"""The line between hospitals and the coordinator is cut, or somebody on it answers with errors of his own."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from roiae.process.service import free_port
from tests.faults.door import CUT, Door
from tests.faults.processes import SITES, RealFederation, await_that, running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

CUT_SECONDS = 90.0
ERROR_SECONDS = 15.0
ROUND = 1  # the step in which it happens, counted from 0
SECONDS = 80.0  # to recover, as a goal: the minute until Flower gives up a session, and a round
HANGING = 400.0


@pytest.fixture
def door(fault_data: Path, tmp_path: Path) -> Iterator[tuple[RealFederation, Door]]:
    """A started federation whose hospitals reach the coordinator through a door."""
    port = free_port()
    federation = RealFederation(tmp_path, fault_data, hospital_port=port)
    with Door(federation.port, federation.folder.pki).open(port) as door, running(federation):
        yield federation, door


def test_a_line_that_is_cut_for_90_seconds_loses_nothing(
    door: tuple[RealFederation, Door], unfaulted: dict[str, bytes], record: Callable[..., None]
) -> None:
    recovered = _fail(*door, CUT, CUT_SECONDS)

    _expect_unfaulted(door[0], unfaulted, "network: cut for 90 s", recovered, SECONDS, record)


@pytest.mark.parametrize("status", [pytest.param(500, marks=pytest.mark.slow), 404, 503])
def test_errors_in_the_coordinators_name_lose_nothing(
    door: tuple[RealFederation, Door], unfaulted: dict[str, bytes], record: Callable[..., None], status: int
) -> None:
    recovered = _fail(*door, status, ERROR_SECONDS)

    _expect_unfaulted(door[0], unfaulted, f"network: {status} for 15 s", recovered, SECONDS, record)


def test_a_reply_that_is_refused_once_is_made_again(
    door: tuple[RealFederation, Door], unfaulted: dict[str, bytes], record: Callable[..., None]
) -> None:
    federation, wrong = door
    await_that(lambda: _works(federation), 540, "work in the round")
    wrong.once["/v1/fleet/push-messages"] = 500
    await_that(lambda: not wrong.once, 180, "a reply is refused")
    recovered = _seconds_until_completed(federation)

    _expect_unfaulted(federation, unfaulted, "network: 500 to one reply", recovered, 40.0, record)


def _fail(federation: RealFederation, door: Door, status: int, seconds: float) -> float:
    """Let the door fail for so long while a hospital works; seconds from its end to the end of the round."""
    await_that(lambda: _works(federation), 540, "work in the round")
    door.status = status
    time.sleep(seconds)
    door.status = None
    assert federation.state["completed"] == ROUND
    return _seconds_until_completed(federation)


def _works(federation: RealFederation) -> bool:
    return federation.state["completed"] == ROUND and any(federation.at_work(site) for site in SITES)


def _seconds_until_completed(federation: RealFederation) -> float:
    began = time.monotonic()
    federation.await_completed(ROUND + 1)
    return time.monotonic() - began


def _expect_unfaulted(
    federation: RealFederation,
    unfaulted: dict[str, bytes],
    fault: str,
    recovered: float,
    goal: float,
    record: Callable[..., None],
) -> None:
    assert federation.finish() == 0
    lost, stall = federation.rounds_lost(), federation.watch.longest_stall
    assert federation.weights() == unfaulted
    assert lost == 0
    record(fault, outcome="the same bytes", recovery=[recovered], goal=goal, rounds_lost=lost, stall=stall)
    assert recovered < HANGING
