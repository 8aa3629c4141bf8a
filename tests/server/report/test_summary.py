"""The plain-language front of a report."""

from dataclasses import replace

import pytest

from roiae_server.report.facts import gather
from roiae_server.report.summary import summarise
from roiae_server.run.run_folder import RunFolder
from tests.server.report.conftest import MakeRun


def with_control_roi_mae(run: RunFolder, values: dict[str, float]) -> RunFolder:
    quality = run.read_json("quality.json")
    for site, value in values.items():
        quality["control"][site]["roi_mae"] = value
    run.write_json("quality.json", quality)
    return run


def test_a_model_ahead_of_its_control_everywhere_is_better(make_run: MakeRun) -> None:
    better, how_much, _ = gather(make_run())["summary"]

    assert better["verdict"] == "Yes"
    assert "At all 3 hospitals" in better["answer"] and "control" in better["answer"]
    assert how_much["verdict"].replace("\xa0", " ") == (
        "ROI error −5.3 % on the sources' validation frames, −5.3 % at gamma"
    )
    assert "−0.10 dB on the sources' validation frames" in how_much["answer"]


def test_one_hospital_behind_its_control_is_named(make_run: MakeRun) -> None:
    better = gather(with_control_roi_mae(make_run(), {"beta": 0.1}))["summary"][0]

    assert (better["verdict"], "Not at beta. At alpha and gamma" in better["answer"]) == ("In part", True)


def test_a_model_behind_its_control_is_not_better_whatever_phase_1_was(make_run: MakeRun) -> None:
    run = with_control_roi_mae(make_run(), dict.fromkeys(("alpha", "beta", "gamma"), 0.1))

    assert gather(run)["summary"][0]["verdict"] == "No"


def test_without_a_control_the_report_says_what_that_leaves_open(make_run: MakeRun) -> None:
    better = gather(make_run(control=False))["summary"][0]

    assert "phase-1 model" in better["answer"]
    assert any("no control arm" in detail for detail in better["details"])


@pytest.mark.parametrize(
    ("auroc", "verdict"),
    [(0.53, "No sign against it"), (0.7, "With care"), (0.9, "Only after a look at its own frames")],
)
def test_trust_at_the_held_out_hospital_follows_the_interval(make_run: MakeRun, auroc: float, verdict: str) -> None:
    trusted = gather(make_run(auroc=auroc))["summary"][2]

    assert trusted["verdict"] == verdict
    assert f"{auroc:.3f} (95\xa0% interval {auroc - 0.05:.3f} to {auroc + 0.05:.3f})" in trusted["answer"]
    assert any("40 frames" in detail for detail in trusted["details"])


def test_scores_that_were_not_computed_are_explained(make_run: MakeRun) -> None:
    run = make_run()
    shift = run.read_json("shift.json")
    for arm in ("phase1", "phase2"):
        for score in ("mahalanobis", "knn", "provenance"):
            shift[arm][score] = {"not_computed": "fewer-than-two-sources", "detail": "1 source hospital sent sums"}
    run.write_json("shift.json", shift | {"left_out": {"beta": "not-allowed"}})

    trusted = gather(run)["summary"][2]

    assert trusted["verdict"] == "Not known"
    assert "fewer than two sources gave statistics" in trusted["answer"]
    assert any("beta is left out" in detail and "policy" in detail for detail in trusted["details"])


def test_an_incomplete_run_says_so_before_all_else(make_run: MakeRun) -> None:
    run = make_run()
    run.state = replace(run.state, status="incomplete", contributed={"alpha": 6})

    first = summarise(gather(run))[0]

    assert (first["verdict"], first["answer"].startswith("beta never contributed")) == ("No", True)
