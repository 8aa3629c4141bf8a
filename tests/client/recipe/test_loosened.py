"""What IT is told of a limit that it has loosened."""

from typing import Any

import pytest

from roiae.config import flatten
from roiae_client.folder.site_config import Limits
from roiae_client.recipe.loosened import loosened, what_limits_stop


def test_the_limits_as_shipped_give_nothing_away() -> None:
    assert list(loosened(Limits())) == []


@pytest.mark.parametrize(
    ("change", "beginning"),
    [
        ({"max_learning_rate": 0.01}, "max_learning_rate 0.01 is above 0.003: one step may outgrow"),
        ({"min_batch_size": 1}, "min_batch_size 1 is below 4: "),
        ({"max_clip_norm": 100.0}, "max_clip_norm 100 is above 1: "),
        ({"max_local_epochs": 11}, "max_local_epochs 11 is above 10: "),
        ({"max_passes": 10_000}, "max_passes 10000 is above 400: "),
        ({"max_requests": {"evaluate": 100}}, "max_requests.evaluate 100 is above 12: "),
        ({"max_runs": 21}, "max_runs 21 is above 20: "),
        ({"min_frames": 1}, "min_frames 1 is below 20: "),
        ({"min_subjects": 1}, "min_subjects 1 is below 10: "),
        ({"max_hours_per_request": 100.0}, "max_hours_per_request 100 is above 4: "),
        ({"max_update_norm": 100.0}, "max_update_norm 100 is above 20: "),
        ({"requests": {"train", "query.scores"}}, "requests names query.scores: "),
        ({"optimizers": {"adamw", "sgd"}}, "optimizers names sgd: "),
        ({"require_augmentation": False}, "require_augmentation is false: "),
        ({"start_models": ["a" * 64]}, "start_models names 1: "),
    ],
)
def test_each_loosened_limit_is_one_sentence_that_names_it(change: dict[str, Any], beginning: str) -> None:
    (sentence,) = loosened(Limits.model_validate(change))

    assert sentence.startswith(beginning)


@pytest.mark.parametrize("change", [{"max_learning_rate": 0.001}, {"min_frames": 50}, {"max_requests": {"train": 1}}])
def test_a_tighter_limit_gives_nothing_away(change: dict[str, Any]) -> None:
    assert list(loosened(Limits.model_validate(change))) == []


def test_every_limit_says_what_it_stops() -> None:
    stops = dict(what_limits_stop())

    assert list(stops) == [name for name, _ in flatten(Limits().model_dump())]
    assert all(stops.values())
