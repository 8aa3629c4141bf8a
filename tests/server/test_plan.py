import pytest
from hypothesis import given
from hypothesis import strategies as st

from roiae.config import RunConfig, build_config
from roiae_server.plan import learning_rate, plan, precision

LATER = ("phase2", "control")


def test_the_control_arm_is_left_out_when_not_asked_for() -> None:
    steps = plan(RunConfig(control=False))

    assert {step.name for step in steps} == {"phase1", "calibrate", "phase2", "score", "shift"}
    assert [step.arm for step in steps if step.name == "score"] == ["phase1", "phase2"]


@given(st.integers(1, 500))
def test_the_learning_rate_warms_up_peaks_and_falls_but_never_to_zero(rounds: int) -> None:
    rates = [learning_rate(1.0, r, rounds) for r in range(1, rounds + 1)]

    peak = rates.index(max(rates))
    assert all(rate > 0 for rate in rates)
    assert max(rates) == pytest.approx(1.0)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_the_weights_are_calibrated_after_the_first_round_of_phase_2() -> None:
    names = [step.name for step in plan(build_config({"phase1": {"rounds": 1}, "phase2": {"rounds": 3}}))]

    assert names[:5] == ["phase1", "phase2", "calibrate", "phase2", "phase2"]


def test_weights_that_are_set_need_no_calibration() -> None:
    config = build_config({"phase2": {"weights": {"ms_ssim": 1, "roi_l1": 0.5, "roi_edge": 2}}})

    assert [step.name for step in plan(config)].count("calibrate") == 0
    assert len(plan(config)) == len(plan(RunConfig())) - 1


def test_each_phase_begins_in_float32_and_goes_on_in_the_precision_that_was_chosen() -> None:
    rounds = {"phase1": {"rounds": 12}, "phase2": {"rounds": 3}}
    config = build_config({**rounds, "train": {"precision": "bfloat16"}})

    by_arm = {arm: [precision(s, config) for s in plan(config) if s.name == arm] for arm in ("phase1", *LATER)}

    assert by_arm["phase1"] == ["float32"] * 3 + ["bfloat16"] * 9
    assert all(by_arm[arm] == ["float32", "bfloat16", "bfloat16"] for arm in LATER)


def test_float32_stays_float32() -> None:
    config = build_config({"train": {"precision": "float32"}})

    assert {precision(step, config) for step in plan(config) if step.trains} == {"float32"}
