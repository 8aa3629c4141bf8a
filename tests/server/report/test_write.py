"""The report's two files, as the commands write them."""

import inspect
import json
from pathlib import Path

import pytest

from roiae.config import Role
from roiae.errors import RunFolderError
from roiae_server.enrolment.coordinator_folder import CoordinatorFolder
from roiae_server.report.facts import gather
from roiae_server.report.write import write_real_report, write_simulation_report
from tests.conftest import Command
from tests.server.report.conftest import MakeRun
from tests.signing import new_keys


def test_the_page_and_the_same_figures_for_machines_are_written(make_run: MakeRun) -> None:
    run = make_run()

    page = write_real_report(run)

    assert page == run.path / "report.html"
    assert json.loads((run.path / "report.json").read_text()) == json.loads(json.dumps(gather(run)))
    assert list(run.path.glob("*.tmp")) == []


def test_a_real_report_takes_no_picture_even_where_one_lies_in_the_folder(make_run: MakeRun) -> None:
    run = make_run()
    (run.path / "reconstructions.png").write_bytes(b"\x89PNG")

    assert list(inspect.signature(write_real_report).parameters) == ["run"]
    assert b"<img" not in write_real_report(run).read_bytes()


def test_a_simulations_report_holds_its_picture(make_run: MakeRun, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG")

    assert b"<img" in write_simulation_report(make_run(simulated=True), picture).read_bytes()


def test_a_run_whose_file_is_lost_has_no_report(make_run: MakeRun) -> None:
    run = make_run()
    (run.path / "shift.json").unlink()

    with pytest.raises(RunFolderError, match=r"shift\.json: cannot be read"):
        write_real_report(run)
    assert not (run.path / "report.html").exists()


def test_report_writes_the_page_of_a_finished_run(make_run: MakeRun, roiae_server: Command, tmp_path: Path) -> None:
    folder = CoordinatorFolder.create(tmp_path / "c", "localhost", 8443, "test")
    for name, role in {"alpha": Role.SOURCE, "beta": Role.SOURCE, "gamma": Role.HELD_OUT}.items():
        folder.add_site(name, role, new_keys())
    make_run("c/runs/first").close()

    code, out, err = roiae_server(["report", str(folder.path)])

    assert (code, err) == (0, "")
    assert str(folder.runs / "first" / "report.html") in out
    assert b"<img" not in (folder.runs / "first" / "report.html").read_bytes()
