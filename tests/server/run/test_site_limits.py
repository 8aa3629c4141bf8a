"""What a hospital would refuse is known from its handshake, and is what it does refuse."""

from typing import Any

import pytest

from roiae.config import Role, build_config
from roiae.errors import RefusalError
from roiae.method.hardware import resolve
from roiae_client.folder.site_config import Limits
from roiae_client.recipe.policy import check_task
from roiae_client.recipe.spending import Spent
from roiae_server.run.federation import train_task
from roiae_server.run.plan import plan
from roiae_server.run.site_limits import refused


def test_a_run_with_the_defaults_is_refused_nothing_by_a_site_with_the_limits_as_shipped() -> None:
    for role in Role:
        assert refused(build_config({}), role, Limits().as_numbers()) == []


@pytest.mark.parametrize(
    ("settings", "limits", "named"),
    [
        ({"train": {"optimizer": "sgd"}}, {}, "limits.optimizers"),
        ({"train": {"learning_rate": 0.01}}, {}, "limits.max_learning_rate"),
        ({"train": {"clip_norm": None}}, {}, "limits.max_clip_norm"),
        ({"train": {"clip_norm": 2.0}}, {}, "limits.max_clip_norm"),
        ({"train": {"batch_size": 2}}, {}, "limits.min_batch_size"),
        ({"train": {"augment": False}}, {}, "limits.require_augmentation"),
        ({"phase2": {"local_epochs": 11}}, {"max_passes": 10_000}, "limits.max_local_epochs"),
        ({"phase1": {"rounds": 150}}, {"max_requests": {"train": 500}}, "limits.max_passes"),
        ({"phase1": {"rounds": 150}}, {"max_passes": 10_000}, "limits.max_requests.train"),
        ({"phase2": {"weights": {"ms_ssim": 1.0, "roi_l1": 1e4, "roi_edge": 1.0}}}, {}, "phase2.weights"),
        ({}, {"requests": {"evaluate"}}, "limits.requests"),
    ],
)
def test_what_it_would_refuse_is_one_sentence_that_names_the_limit(
    settings: dict[str, Any], limits: dict[str, Any], named: str
) -> None:
    config, own = build_config(settings), Limits.model_validate(limits)

    (sentence,) = refused(config, Role.SOURCE, own.as_numbers())
    assert named in sentence

    spent = Spent()
    with pytest.raises(RefusalError):
        for step in plan(resolve(config)):
            if step.trains:
                task = train_task(resolve(config), step, config.phase2.weights or {}, 0.0)
                check_task(task, own, spent)
                spent.requests["train"] += 1
                spent.passes += task.local_epochs


def test_a_held_out_site_is_asked_for_no_training() -> None:
    config = build_config({"train": {"optimizer": "sgd"}})

    assert refused(config, Role.HELD_OUT, Limits().as_numbers()) == []
    (sentence,) = refused(config, Role.HELD_OUT, Limits(requests=frozenset({"train"})).as_numbers())
    assert "no evaluate request" in sentence


def test_a_site_that_tells_nothing_is_said_to_answer_nothing() -> None:
    assert len(refused(build_config({}), Role.SOURCE, {})) == 3
