"""What `report.json` holds."""

import json
import re
from pathlib import Path

import pytest

from roiae_server.report.facts import gather
from tests.server.report.conftest import MakeRun

ROOT = Path(__file__).parents[3]


def test_a_curve_has_what_a_site_received_at_each_round_and_the_score_at_its_end(make_run: MakeRun) -> None:
    psnr = gather(make_run())["curves"]["psnr"]

    assert psnr["phase1"]["alpha"] == [[0, 11.0], [1, 12.0], [2, 20.0]]
    assert psnr["phase1"]["beta"] == [[0, 11.0], [2, 20.0]]  # offline in the second round
    assert psnr["control"]["alpha"] == [[2, 11.0], [3, 12.0], [4, 20.2]]
    assert psnr["phase2"]["gamma"] == [[4, 20.1]]


def test_bytes_and_seconds_are_summed_over_every_request(make_run: MakeRun) -> None:
    transfer = gather(make_run())["transfer"]

    assert transfer["alpha"] == {"bytes_sent_to_it": 6000, "bytes_received_from_it": 3000, "seconds": 10800.0}
    assert transfer["beta"] == {"bytes_sent_to_it": 6000, "bytes_received_from_it": 2500, "seconds": 9000.0}


def test_every_hospital_is_a_participant_the_held_out_one_last(make_run: MakeRun) -> None:
    participants = gather(make_run())["participants"]

    assert list(participants) == ["alpha", "beta", "gamma"]
    assert participants["beta"]["not_counted"] == {"offline": 1}
    assert participants["beta"]["training_frames"] == 40
    assert participants["gamma"]["training_frames"] is None
    assert participants["gamma"]["scored_frames"] == 60


def test_changed_settings_are_those_that_are_not_the_default(make_run: MakeRun) -> None:
    settings = gather(make_run())["settings"]

    assert settings["changed"] == {
        "phase1.rounds": {"value": 2, "default": 60},
        "phase2.rounds": {"value": 2, "default": 40},
    }
    assert settings["all"]["train.batch_size"] == 4


def test_phase_2_is_compared_with_every_other_model(make_run: MakeRun) -> None:
    changes = gather(make_run())["changes"]

    assert changes["control"]["validation"]["psnr"] == pytest.approx(-0.1)
    assert changes["phase1"]["sites"]["gamma"]["roi_edge_mae"] == pytest.approx(-0.25)
    assert list(gather(make_run("second", control=False))["changes"]) == ["phase1"]


def test_every_key_is_documented(make_run: MakeRun) -> None:
    page = (ROOT / "docs" / "REPORT.md").read_text()
    rows = {key for row in re.findall(r"^\| ((?:`[\w.]+`(?:, )?)+)", page, re.M) for key in re.findall(r"`(\w+)`", row)}

    assert rows == set(json.loads(json.dumps(gather(make_run()))))
