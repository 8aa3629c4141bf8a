import pytest
from hypothesis import given
from hypothesis import strategies as st

from roiae.config import RunConfig, build_config
from roiae_server.run.plan import calibrates, learning_rate, plan, precision

LATER = ("phase2", "control")


def test_the_control_arm_is_left_out_when_not_asked_for() -> None:
    steps = plan(RunConfig(control=False))

    assert {step.name for step in steps} == {"phase1", "phase2", "score", "shift"}
    assert [step.arm for step in steps if step.name == "score"] == ["phase1", "phase2"]


@given(st.integers(1, 500))
def test_the_learning_rate_warms_up_peaks_and_falls_but_never_to_zero(rounds: int) -> None:
    rates = [learning_rate(1.0, r, rounds) for r in range(1, rounds + 1)]

    peak = rates.index(max(rates))
    assert all(rate > 0 for rate in rates)
    assert max(rates) == pytest.approx(1.0)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


@pytest.mark.parametrize(
    ("weights", "calibrating"), [(None, [("phase2", 1)]), ({"ms_ssim": 1, "roi_l1": 0.5, "roi_edge": 2}, [])]
)
def test_the_first_round_of_phase_2_calibrates_weights_that_are_not_set(
    weights: dict[str, float] | None, calibrating: list[tuple[str, int]]
) -> None:
    config = build_config({"phase2": {"weights": weights}})

    assert [(step.name, step.round) for step in plan(config) if calibrates(step, config)] == calibrating


def test_each_phase_begins_in_float32_and_goes_on_in_the_precision_that_was_chosen() -> None:
    rounds = {"phase1": {"rounds": 12}, "phase2": {"rounds": 3}}
    config = build_config({**rounds, "train": {"precision": "bfloat16"}})

    by_arm = {arm: [precision(s, config) for s in plan(config) if s.name == arm] for arm in ("phase1", *LATER)}

    assert by_arm["phase1"] == ["float32"] * 3 + ["bfloat16"] * 9
    assert all(by_arm[arm] == ["float32", "bfloat16", "bfloat16"] for arm in LATER)


def test_float32_stays_float32() -> None:
    config = build_config({"train": {"precision": "float32"}})

    assert {precision(step, config) for step in plan(config) if step.trains} == {"float32"}
