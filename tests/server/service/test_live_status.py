from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from roiae.config import Role, build_config
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from roiae_server.run.plan import plan
from roiae_server.run.records import Line, read_participation
from roiae_server.run.run_folder import RunFolder, RunState
from roiae_server.service.live_status import LiveStatus
from roiae_server.service.site_registry import SiteRegistry

NO_FOLDER, NO_DIRECTORY = cast(CoordinatorFolder, None), cast(SiteRegistry, None)  # not used by what is counted


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", build_config({}), RunState({"a": Role.SOURCE}, {}, {}))


def commit_round(run: RunFolder, round_: int) -> None:
    line = Line(
        step="phase1", round=round_, site="a", status="missing", reason="offline", metrics={}, seconds=None,
        bytes_out=0, bytes_in=0,
    )  # fmt: skip
    run.commit(replace(run.state, completed=round_), [line], None, {})


def complete(live: LiveStatus, round_: int) -> None:
    live.completed(plan(build_config({}))[round_ - 1], round_, 10)


def test_lines_that_were_counted_are_not_read_again(run: RunFolder) -> None:
    live, rounds = LiveStatus(NO_FOLDER, NO_DIRECTORY, run), run.path / "rounds.jsonl"
    commit_round(run, 1)
    complete(live, 1)
    rounds.write_bytes(b"?" * rounds.stat().st_size)
    commit_round(run, 2)

    complete(live, 2)

    assert read_participation(run.path)["a"].asked == 2


def test_lines_of_an_earlier_process_and_of_a_failed_try_are_counted_once(run: RunFolder) -> None:
    commit_round(run, 1)
    live = LiveStatus(NO_FOLDER, NO_DIRECTORY, run)
    commit_round(run, 2)  # as a try without a quorum: nobody is told that it is completed
    commit_round(run, 3)

    complete(live, 3)
    complete(live, 3)

    assert read_participation(run.path)["a"].not_counted == {"offline": 3}
