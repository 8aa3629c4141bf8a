"""What `--arms` takes, and what each arm changes of the method's settings."""

import pytest

from roiae.config import RunConfig, differences
from roiae.errors import ConfigError
from roiae_lab.reproduce.arms import ARMS, BRANCHES, alone_config, branch_config, branches_of, parse_arms
from roiae_server.run.plan import calibrates, plan


def test_arms_come_with_commas_or_repeated_and_the_method_is_always_among_them() -> None:
    assert parse_arms(["pooled, equal", "fedprox"]) == ["method", "equal", "pooled", "fedprox"]
    assert parse_arms(["all"]) == list(ARMS)


def test_an_unknown_arm_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"fedsgd: no such arm. There are: method, equal, hand, .*, and all"):
        parse_arms(["equal,fedsgd"])


def test_every_branch_belongs_to_an_arm() -> None:
    assert sorted(branches_of([*ARMS])) == sorted(BRANCHES)


def test_a_branch_differs_from_the_method_in_what_it_is_about() -> None:
    changed = {
        name: [
            line.partition(":")[0] for line in differences(branch_config(RunConfig(), name).model_dump(), RunConfig())
        ]
        for name in BRANCHES
    }

    assert changed["fedadam"] == ["control", "strategy.name"]
    assert changed["equal"] == ["control", "phase2.weights"]
    assert changed["other-roi"] == ["control"]


def test_hand_picked_weights_leave_nothing_to_calibrate() -> None:
    configs = [branch_config(RunConfig(), "hand-3-0.3"), alone_config(RunConfig())]

    assert [any(calibrates(step, config) for step in plan(config)) for config in configs] == [False, True]
