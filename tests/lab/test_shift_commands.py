"""Domain shift as its user types it: left-out hospitals, every hospital in turn, a finished run scored again."""

import json
import shutil
from pathlib import Path

import pytest

from roiae.data.phantom import SCANNERS, write_hospital
from tests.conftest import Arguments, Command

HOSPITALS = ("alpha", "beta", "gamma")


def test_hospitals_with_too_few_subjects_are_left_out_of_the_shift_scores_and_the_run_ends_well(
    tiny_run: Arguments, roiae_server: Command, tmp_path: Path
) -> None:
    code, out, err = roiae_server(tiny_run("run", privacy__min_subjects=50, control="false"))

    assert (code, err) == (0, "")
    assert "left out: alpha (few-subjects), beta (few-subjects)" in " ".join(out.split())
    shift = json.loads((tmp_path / "run" / "shift.json").read_text())
    assert shift["phase1"]["mahalanobis"]["not_computed"] == "fewer-than-two-sources"


@pytest.mark.slow
def test_every_hospital_is_held_out_in_turn_and_each_run_resumes_on_its_own(
    tiny_run: Arguments, roiae_server: Command, tmp_path: Path
) -> None:
    arguments = [*tiny_run("turns", phase1__rounds=1, phase2__rounds=2, control="false"), "--holdout", "each"]
    code, out, err = roiae_server(arguments)
    assert (code, err) == (0, "")
    files = {path: path.read_bytes() for path in (tmp_path / "turns").rglob("*") if path.is_file()}
    assert {name: json.loads(files[tmp_path / "turns" / name / "shift.json"])["holdout"] for name in HOSPITALS} == {
        name: name for name in HOSPITALS
    }
    table = out[out.index("every hospital held out in turn") :]
    assert all(name in table for name in HOSPITALS)
    assert roiae_server(arguments)[0] == 5

    shutil.rmtree(tmp_path / "turns" / "beta")
    code, _, err = roiae_server([*arguments, "--resume"])

    assert (code, err) == (0, "")
    again = {path: path.read_bytes() for path in (tmp_path / "turns").rglob("shift.json")}
    assert again == {path: content for path, content in files.items() if path.name == "shift.json"}


def test_a_finished_run_is_scored_against_another_hospital_without_training(
    finished: Path, tiny_run: Arguments, roiae_server: Command, hospitals: Path, tmp_path: Path
) -> None:
    shutil.copytree(hospitals, tmp_path / "data")
    write_hospital(tmp_path / "data" / "delta", SCANNERS[3], subjects=40, seed=3)
    arguments = ["score", str(finished), "--data", str(tmp_path / "data"), "--holdout", "delta"]
    tiny_run()  # for its cache

    code, out, err = roiae_server(arguments)

    assert (code, err) == (0, "")
    assert "Domain shift: delta against alpha, beta" in " ".join(out.split())
    first = json.loads((finished / "shift.json").read_text())
    second = json.loads((finished / "scores" / "delta" / "shift.json").read_text())
    scores, scored_before = (shift["phase2"]["scores"]["mahalanobis"] for shift in (second, first))
    assert scores.keys() & scored_before.keys() >= {"beta"}
    assert all(scores[site] == scored_before[site] for site in scores.keys() & scored_before.keys())
    assert len(scores["delta"]) == 40
    assert roiae_server(arguments)[0] == 0


def test_scoring_refuses_a_source_and_an_unfinished_run(
    finished: Path, tiny_run: Arguments, roiae_server: Command, hospitals: Path, tmp_path: Path
) -> None:
    tiny_run()
    flags = ["--data", str(hospitals), "--holdout"]

    code, _, err = roiae_server(["score", str(finished), *flags, "alpha"])
    assert (code, "trained this run's model" in err) == (3, True)
    code, _, err = roiae_server(["score", str(tmp_path / "none"), *flags, "gamma"])
    assert (code, "no such run" in err) == (5, True)
