"""What a site refuses, whatever it is asked."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import roiae_server
from roiae.config import LOSS_TERMS, RunConfig, build_config, read_settings
from roiae.errors import Reason, RefusalError
from roiae.method.calibration import WEIGHT_RANGE
from roiae.method.hardware import resolve
from roiae.wire.contract import TASKS, EvaluateTask, KeysTask, Task, TrainTask
from roiae_client.folder.site_config import Limits
from roiae_client.recipe.policy import check_task, clip_update, kind_of
from roiae_client.recipe.spending import Spent
from roiae_server.run.federation import train_task
from roiae_server.run.plan import calibrates, plan
from tests.conftest import MODEL

NOTHING = Spent()
EVALUATE = EvaluateTask(model=MODEL, batch_size=4, threads=1)
KEYS = KeysTask(model=MODEL, batch_size=4, threads=1)
PRESETS = Path(roiae_server.__file__).parent / "presets"


def refused(question: Callable[[], object]) -> tuple[Reason, str]:
    with pytest.raises(RefusalError) as refusal:
        question()
    return refusal.value.reason, str(refusal.value)


def tasks_of(config: RunConfig) -> Iterator[TrainTask]:
    """Every training that a run asks for, with the terms' weights as far apart as a calibration leaves them."""
    apart = dict(zip(LOSS_TERMS, (1.0, *WEIGHT_RANGE), strict=True))
    for step in plan(resolve(config)):
        if step.trains:
            yield train_task(resolve(config), step, {} if calibrates(step, config) else apart, 0.0)


@pytest.mark.parametrize("preset", [{}, read_settings(PRESETS / "quick.yaml")])
def test_the_defaults_of_a_run_fit_under_the_limits_as_shipped(preset: dict[str, Any]) -> None:
    spent = Spent()
    for task in tasks_of(build_config(preset)):
        check_task(task, Limits(), spent)
        spent.requests["train"] += 1
        spent.passes += task.local_epochs
    for _ in range(3):
        check_task(EVALUATE, Limits(), spent)
        spent.requests["evaluate"] += 1


def test_a_request_that_is_not_allowed_is_refused() -> None:
    reason, message = refused(lambda: check_task(EVALUATE, Limits(requests=frozenset({"train"})), NOTHING))

    assert (reason, "limits.requests" in message) == (Reason.NOT_ALLOWED, True)


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        ({"optimizer": "sgd"}, "limits.optimizers"),
        ({"learning_rate": 0.0031}, "limits.max_learning_rate"),
        ({"learning_rate": 1e6}, "limits.max_learning_rate"),
        ({"batch_size": 3}, "limits.min_batch_size"),
        ({"clip_norm": None}, "limits.max_clip_norm"),
        ({"clip_norm": 1.1}, "limits.max_clip_norm"),
        ({"augment": False}, "limits.require_augmentation"),
        ({"local_epochs": 11}, "limits.max_local_epochs"),
        ({"weights": {"ms_ssim": 1.0, "roi_l1": 1e30}}, "loss weights"),
        ({"weights": {"ms_ssim": 1e-30}}, "loss weights"),
        ({"weight_decay": 1e6}, "weight decay"),
        ({"proximal_mu": 1e6}, "proximal weight"),
    ],
)
def test_a_setting_that_would_let_one_frame_stand_out_is_refused_by_name(
    recipe: TrainTask, change: dict[str, Any], limit: str
) -> None:
    check_task(recipe, Limits(), NOTHING)
    reason, message = refused(lambda: check_task(recipe.model_copy(update=change), Limits(), NOTHING))

    assert (reason, limit in message) == (Reason.NOT_ALLOWED, True)


@pytest.mark.parametrize(
    ("limits", "change"),
    [
        ({"optimizers": {"adamw", "sgd"}}, {"optimizer": "sgd"}),
        ({"max_learning_rate": 1.0}, {"learning_rate": 0.5}),
        ({"min_batch_size": 1}, {"batch_size": 1}),
        ({"max_clip_norm": 5.0}, {"clip_norm": 5.0}),
        ({"require_augmentation": False}, {"augment": False}),
        ({"max_local_epochs": 20}, {"local_epochs": 20}),
    ],
)
def test_a_limit_that_the_site_has_loosened_lets_the_setting_pass(
    recipe: TrainTask, limits: dict[str, Any], change: dict[str, Any]
) -> None:
    check_task(recipe.model_copy(update=change), Limits.model_validate(limits), NOTHING)


def test_one_request_more_than_a_run_may_make_is_refused_whatever_its_kind() -> None:
    asked: dict[str, Task] = {"evaluate": EVALUATE, "query.keys": KEYS}
    for kind, task in asked.items():
        limits = Limits(requests=frozenset(TASKS))
        budget = limits.max_requests.of(kind_of(task))
        check_task(task, limits, Spent(requests=Counter({kind: budget - 1})))
        reason, message = refused(lambda: check_task(task, limits, Spent(requests=Counter({kind: budget}))))  # noqa: B023
        assert (reason, "limits.max_requests." in message) == (Reason.BUDGET_SPENT, True)


def test_passes_over_the_frames_are_counted_over_the_run(recipe: TrainTask) -> None:
    limits = Limits(max_passes=6)

    check_task(recipe.model_copy(update={"local_epochs": 2}), limits, Spent(passes=4))
    reason, message = refused(
        lambda: check_task(recipe.model_copy(update={"local_epochs": 2}), limits, Spent(passes=5))
    )
    assert (reason, "limits.max_passes" in message) == (Reason.BUDGET_SPENT, True)


def test_a_new_run_gives_no_budget_once_the_site_has_answered_as_many_as_it_allows(recipe: TrainTask) -> None:
    check_task(recipe, Limits(max_runs=2), Spent(runs_besides=1))
    reason, message = refused(lambda: check_task(recipe, Limits(max_runs=2), Spent(runs_besides=2)))
    assert (reason, "limits.max_runs" in message) == (Reason.BUDGET_SPENT, True)


weights = hnp.arrays(np.float32, (2, 3), elements=st.floats(-1e3, 1e3, width=32))


@given(weights, weights, weights, st.floats(1e-3, 1e4))
def test_a_clipped_update_is_the_same_direction_within_the_bound(
    first: Any, second: Any, sent: Any, bound: float
) -> None:
    trained = {"a": first, "b": second}
    start = {"a": sent, "b": np.zeros_like(sent)}
    clipped, norm = clip_update(start, trained, bound)

    together = np.concatenate([first.astype(float) - sent, second.astype(float)])
    assert norm == pytest.approx(np.linalg.norm(together))
    now = np.concatenate([clipped["a"].astype(float) - sent, clipped["b"].astype(float)])
    if norm <= bound:
        assert clipped is trained
    else:
        np.testing.assert_allclose(now, together * bound / norm, atol=1e-3)
        assert {array.dtype for array in clipped.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_stay(value: float) -> None:
    trained = {"a": np.array([1.0, value], np.float32)}

    reason, _ = refused(lambda: clip_update({"a": np.zeros(2, np.float32)}, trained, 1.0))
    assert reason == Reason.NOT_FINITE
