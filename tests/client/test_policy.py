"""What a site refuses, whatever it is asked."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from roiae.config import ModelConfig
from roiae.contract import EvaluateTask, TrainTask
from roiae.errors import Reason, RefusalError
from roiae.site import Site
from roiae_client.policy import check_data, check_task, clip_update
from roiae_client.site_config import Limits
from tests.conftest import MODEL

OPEN = Limits(min_frames=1, min_subjects=1, min_local_steps=1)
EVALUATE = EvaluateTask(model=MODEL, batch_size=4, threads=1)


def refused(question: Callable[[], object]) -> tuple[Reason, str]:
    with pytest.raises(RefusalError) as refusal:
        question()
    return refusal.value.reason, str(refusal.value)


def test_a_request_that_is_not_allowed_is_refused() -> None:
    reason, message = refused(lambda: check_task(EVALUATE, Limits(requests=frozenset({"train"}))))

    assert (reason, "limits.requests" in message) == (Reason.NOT_ALLOWED, True)


def test_as_many_local_epochs_as_the_site_allows_and_no_more(train_task: TrainTask) -> None:
    limits = Limits(max_local_epochs=3)

    check_task(train_task.model_copy(update={"local_epochs": 3}), limits)
    reason, message = refused(lambda: check_task(train_task.model_copy(update={"local_epochs": 4}), limits))
    assert (reason, "4 local epochs" in message) == (Reason.NOT_ALLOWED, True)


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        ({"model": ModelConfig(image_size=544)}, "max_image_size"),
        ({"model": ModelConfig(image_size=10**9 * 32)}, "max_image_size"),
        ({"model": ModelConfig(width=256)}, "max_parameters"),
        ({"model": ModelConfig(image_size=512, latent_dim=1024)}, "max_parameters"),
        ({"batch_size": 65}, "max_batch_size"),
    ],
)
def test_what_would_not_fit_into_a_machine_is_refused(change: dict[str, Any], limit: str) -> None:
    reason, message = refused(lambda: check_task(EVALUATE.model_copy(update=change), Limits()))

    assert (reason, limit in message) == (Reason.NOT_ALLOWED, True)


def test_the_defaults_allow_the_default_model_at_twice_its_side() -> None:
    check_task(EVALUATE.model_copy(update={"model": ModelConfig(image_size=512)}), Limits())


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"min_frames": 7}, Reason.NO_FRAMES),
        ({"min_subjects": 7}, Reason.FEW_SUBJECTS),
        ({"min_local_steps": 3}, Reason.NOT_ALLOWED),
    ],
)
def test_an_update_has_enough_frames_subjects_and_steps_behind_it(
    make_site: Callable[..., Site], train_task: TrainTask, limit: dict[str, int], reason: Reason
) -> None:
    data = make_site("alpha", train=6).data
    task = train_task.model_copy(update={"batch_size": 4, "local_epochs": 1})  # two steps

    check_data(task, data, OPEN)
    assert refused(lambda: check_data(task, data, OPEN.model_copy(update=limit)))[0] == reason


def test_an_evaluation_needs_neither_frames_nor_subjects_nor_steps(make_site: Callable[..., Site]) -> None:
    check_data(EVALUATE, make_site("alpha", train=6).data, Limits())


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


def test_without_a_bound_nothing_is_clipped() -> None:
    trained = {"a": np.full(3, 1e6, np.float32)}

    assert clip_update({"a": np.zeros(3, np.float32)}, trained, None)[0] is trained


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_stay(value: float) -> None:
    trained = {"a": np.array([1.0, value], np.float32)}

    reason, _ = refused(lambda: clip_update({"a": np.zeros(2, np.float32)}, trained, None))
    assert reason == Reason.NOT_FINITE
