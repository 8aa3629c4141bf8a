import pytest
from hypothesis import given
from hypothesis import strategies as st

from roiae.config import RunConfig, build_config
from roiae_server.plan import learning_rate, plan


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
