"""`start`, `status`, `report` and `stop` without any process: what they say, and what they refuse."""

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from roiae.config import Role
from roiae_server.cli import main
from roiae_server.commands.status import start_again
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from roiae_server.service.live_status import STATUS
from tests.signing import new_keys

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def roiae_server(run_main: Callable[..., int], capfd: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = run_main(main, ["roiae-server", *map(str, arguments)])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def folder(tmp_path: Path) -> CoordinatorFolder:
    """Two sources and a held-out hospital."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = CoordinatorFolder.create(tmp_path / "c", "localhost", port, "test")
    for name, role in {"alpha": Role.SOURCE, "beta": Role.SOURCE, "gamma": Role.HELD_OUT}.items():
        folder.add_site(name, role, new_keys())
    return folder


def test_a_run_without_enough_hospitals_is_not_started(roiae_server: Command, folder: CoordinatorFolder) -> None:
    folder.remove_site("gamma")

    code, _, err = roiae_server("start", folder.path)

    assert (code, "2 source and 0 held-out" in err) == (3, True)
    assert list(folder.runs.iterdir()) == []


def test_a_quorum_that_the_hospitals_cannot_make_is_named(roiae_server: Command, folder: CoordinatorFolder) -> None:
    (folder.path / "federation.yaml").write_text("federation: {quorum: 3}\n")

    code, _, err = roiae_server("start", folder.path)

    assert (code, "federation.quorum: 3 sources, and 2 are enrolled" in err) == (3, True)
    assert list(folder.runs.iterdir()) == []


def test_a_wrong_configuration_is_named_before_anything_starts(
    roiae_server: Command, folder: CoordinatorFolder
) -> None:
    (folder.path / "federation.yaml").write_text("phase1: {round: 3}\n")

    code, _, err = roiae_server("start", folder.path)

    assert (code, "Did you mean phase1.rounds?" in err) == (3, True)


def test_a_port_in_use_is_named(roiae_server: Command, folder: CoordinatorFolder) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", folder.config.port))
        taken.listen()
        code, _, err = roiae_server("start", folder.path)

    assert (code, f"port {folder.config.port}" in err) == (12, True)


def test_a_second_start_of_a_folder_is_refused(roiae_server: Command, folder: CoordinatorFolder) -> None:
    with FileLock(folder.superlink / "service.lock"):
        code, _, err = roiae_server("start", folder.path)

    assert (code, "is served already" in err) == (12, True)


def test_a_lock_that_a_dead_process_left_is_none(roiae_server: Command, folder: CoordinatorFolder) -> None:
    (folder.superlink / "service.lock").touch()
    (folder.superlink / "service.pid").write_text("999999\n")

    code, out, _ = roiae_server("stop", folder.path)

    assert (code, "Nothing is running" in out) == (0, True)


def test_a_changed_configuration_is_refused_for_a_run_that_has_begun(
    roiae_server: Command, folder: CoordinatorFolder
) -> None:
    from roiae_server.service.begin_or_resume import open_run

    open_run(folder, "first").close()
    (folder.path / "federation.yaml").write_text("phase1: {rounds: 3}\n")

    code, _, err = roiae_server("start", folder.path)

    assert (code, "begun with another configuration" in err) == (5, True)


def write_status(folder: CoordinatorFolder, updated: float) -> None:
    status = {
        "pid": os.getpid(), "run": "first", "state": "running", "step": "phase1 round 2/60", "since": updated,
        "updated": updated,
        "sites": {"alpha": {"online": True, "last": "asked"}, "gone": {"online": False, "last": ""}},
    }  # fmt: skip
    (folder.path / "status.json").write_text(json.dumps(status))


def test_status_shows_each_hospital_and_whether_it_is_connected(
    roiae_server: Command, folder: CoordinatorFolder
) -> None:
    write_status(folder, time.time())

    code, out, _ = roiae_server("status", folder.path)

    assert code == 0
    assert "service: up" in out and "certificate good for 39" in out
    assert "phase1 round 2/60" in out
    rows = {line.split()[0]: line.split()[1:3] for line in out.splitlines() if line.strip()}
    assert rows["alpha"] == ["source", "yes"]
    assert rows["gamma"] == ["held-out", "no"]
    assert rows["gone"] == ["removed", "no"]


def test_health_is_that_the_service_gets_on_not_that_a_process_lives(
    roiae_server: Command, folder: CoordinatorFolder
) -> None:
    write_status(folder, time.time())
    assert roiae_server("status", folder.path, "--healthy")[0] == 12  # of a service that has ended

    (folder.superlink / "service.pid").write_text("1\n")
    assert roiae_server("status", folder.path, "--healthy")[0] == 0

    write_status(folder, time.time() - 60)
    assert roiae_server("status", folder.path, "--healthy")[0] == 12


def test_a_report_of_a_run_that_is_not_finished_is_refused(roiae_server: Command, folder: CoordinatorFolder) -> None:
    from roiae_server.service.begin_or_resume import open_run

    assert roiae_server("report", folder.path)[0] == 5
    open_run(folder, "first").close()
    code, _, err = roiae_server("report", folder.path)

    assert (code, "is not finished" in err) == (5, True)


@pytest.mark.parametrize(("run", "typed"), [("first", ""), ("second", " --run second")])
def test_what_goes_on_is_the_run_that_was_at_work(folder: CoordinatorFolder, run: str, typed: str) -> None:
    (folder.path / STATUS).write_text(json.dumps({"run": run}))
    assert start_again(folder) == f"roiae-server start {folder.path}{typed}"
