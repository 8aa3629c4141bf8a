"""Hospitals that lag, break or cheat: the run goes on without them, and says so."""

import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roiae.config import Role
from tests.faults.processes import (
    SETTINGS,
    SITES,
    Member,
    RealFederation,
    ask,
    await_that,
    running,
    simulate,
)
from tests.faults.rogue import TRICKS

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

INCOMPLETE = 10  # the exit code of a run to which a hospital never contributed
GRACE = 25.0  # seconds that the slow have once the quorum has answered
HASTY = {**SETTINGS, "federation": {"deadline": 120, "grace": GRACE, "quorum": 2}}


@pytest.fixture(scope="session")
def without_gamma(fault_data: Path, fault_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Weights of the same run on one machine by the other hospitals alone."""
    folder = tmp_path_factory.mktemp("without-gamma")
    (folder / "data").mkdir()
    for site in SITES.keys() - {"gamma"}:
        (folder / "data" / site).symlink_to(fault_data / site)
    return simulate(folder / "run", folder / "data", fault_cache)


def test_a_hospital_slower_than_the_deadline_misses_a_round_and_is_asked_again(
    fault_data: Path, tmp_path: Path, record: Callable[..., None]
) -> None:
    with running(RealFederation(tmp_path, fault_data, HASTY)) as federation:
        await_that(lambda: federation.state["completed"] == 1 and federation.at_work("gamma"), 540, "gamma works")
        executor, began = federation.hospitals["gamma"].part("roiae_client.flower.executor"), time.monotonic()
        os.kill(executor, signal.SIGSTOP)
        federation.await_completed(2)
        waited = time.monotonic() - began
        os.kill(executor, signal.SIGCONT)

        assert federation.finish() == 0
        assert waited < 2 * GRACE
        _expect_excluded(federation, "gamma", {"no-reply"})
        assert _row(federation, "gamma")["aggregated"] >= 2  # before, and after
        _record(record, "hospital: slower than the deadline", "left out of that round", federation, [waited])


def test_a_hospital_whose_data_break_is_left_out(
    fault_data: Path, tmp_path: Path, without_gamma: dict[str, bytes], record: Callable[..., None]
) -> None:
    data = shutil.copytree(fault_data, tmp_path / "data")
    federation = RealFederation(tmp_path, data, HASTY)
    (data / "gamma" / "manifest.csv").rename(data / "gamma" / "manifest.bak")
    with running(federation):  # it has trained on none of the weights that it is asked to evaluate in the end
        _expect_without_gamma(federation, {"site-failed", "weights-off-course"}, without_gamma)
        _record(record, "hospital: raises at every request", "the bytes of a run without it", federation)


def test_a_hospital_whose_disk_is_full_is_left_out(
    fault_data: Path, tmp_path: Path, without_gamma: dict[str, bytes], record: Callable[..., None]
) -> None:
    """No file of its two processes can grow beyond a byte, so that neither ledger nor state can be written."""
    federation = RealFederation(tmp_path, fault_data, HASTY)
    with federation.watch:
        try:
            for name, hospital in federation.hospitals.items():
                hospital.start()
                if name == "gamma":
                    _connected(federation, name)
                    for pid in hospital.tree()[1:]:
                        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, 1))
            federation.coordinator.start()
            _expect_without_gamma(federation, {"site-failed"}, without_gamma)
            assert not (tmp_path / "gamma" / "ledger.jsonl").read_bytes()[1:]
            _record(record, "hospital: disk full", "the bytes of a run without it", federation)
        finally:
            federation.stop()


@pytest.mark.parametrize(
    "tricks",
    [pytest.param(("forged",), marks=pytest.mark.slow, id="forged"), tuple(TRICKS.keys() - {"forged"})],
)
def test_hospitals_that_cheat_are_refused_by_name(
    fault_data: Path,
    tmp_path: Path,
    without_gamma: dict[str, bytes],
    record: Callable[..., None],
    tricks: tuple[str, ...],
) -> None:
    (tmp_path / "data").mkdir()
    honest = {site: role for site, role in SITES.items() if site != "gamma"}
    for site in (*honest, *tricks):
        (tmp_path / "data" / site).symlink_to(fault_data / (site if site in honest else "gamma"))
    federation = RealFederation(tmp_path, tmp_path / "data", HASTY, {**honest, **dict.fromkeys(tricks, Role.SOURCE)})
    for trick in tricks:
        folder = tmp_path / trick
        federation.hospitals[trick] = Member(folder, [sys.executable, "-m", "tests.faults.rogue", trick, str(folder)])
    with running(federation):
        assert federation.finish(600) == INCOMPLETE

        for trick in tricks:
            _expect_excluded(federation, trick, {TRICKS[trick]})
            assert f"{trick}" in federation.coordinator.printed.splitlines()[-1]
        assert federation.weights()["phase1.safetensors"] == without_gamma["phase1.safetensors"]
        for trick in tricks:
            outcome = f"refused: {TRICKS[trick]}; phase 1 has the bytes of a run without it"
            _record(record, f"hospital: {trick}", outcome, federation)


def _connected(federation: RealFederation, site: str) -> None:
    """Its executor is up; the coordinator is not yet."""
    log = federation.root / site / "log" / "executor.log"
    await_that(lambda: log.exists() and "ready" in log.read_text(), 180, f"{site}'s executor")


def _expect_without_gamma(federation: RealFederation, reasons: set[str], without_gamma: dict[str, bytes]) -> None:
    assert federation.finish() == INCOMPLETE
    assert "gamma never contributed" in federation.coordinator.printed
    _expect_excluded(federation, "gamma", reasons)
    assert _row(federation, "gamma")["aggregated"] == 0
    assert federation.weights() == without_gamma


def _expect_excluded(federation: RealFederation, site: str, reasons: set[str]) -> None:
    assert federation.reasons(site) == reasons
    assert federation.rounds_lost(excluded=site) in (0, 3)  # 3 where others are excluded, too
    assert reasons <= _row(federation, site)["not_counted"].keys()
    said = ask("roiae-server", "status", str(federation.folder.path)).stdout
    (line,) = (line for line in said.splitlines() if line.split()[:1] == [site])
    assert all(reason in line for reason in reasons)


def _row(federation: RealFederation, site: str) -> dict[str, Any]:
    return dict(json.loads((federation.run / "participation.json").read_bytes())[site])


def _record(
    record: Callable[..., None],
    fault: str,
    outcome: str,
    federation: RealFederation,
    recovery: list[float] | None = None,
) -> None:
    stall = federation.watch.longest_stall
    record(fault, outcome=outcome, recovery=recovery or [], rounds_lost=0, stall=stall)
