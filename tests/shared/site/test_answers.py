from collections.abc import Callable

import numpy as np
import pytest

from roiae.config import Role
from roiae.errors import Reason, RefusalError
from roiae.method.calibration import EQUAL
from roiae.method.losses import TERMS
from roiae.method.metrics import MEASURES, NT_SUMS
from roiae.site.answers import Site
from roiae.wire.contract import Arrays, EvaluateTask, Request, TrainTask, parse_task
from tests.conftest import MODEL

MakeSite = Callable[..., Site]
EVALUATE = EvaluateTask(model=MODEL, batch_size=4, threads=1)


def test_a_source_trains_and_reports_the_quality_of_what_it_received(
    make_site: MakeSite, initial: Arrays, train_task: TrainTask
) -> None:
    site = make_site("a", train=5, validation=3)

    reply = site.answer(Request(train_task, initial))
    evaluated = site.answer(Request(EVALUATE, initial))

    assert reply.metrics["num-examples"] == 5
    quality = {f"validation_{name}": evaluated.metrics[name] for name in (*MEASURES, "frames")}
    assert quality.items() <= reply.metrics.items()
    assert set(evaluated.metrics) == {*MEASURES, "frames", *NT_SUMS}
    assert any((reply.arrays[name] != initial[name]).any() for name in initial)


def test_a_held_out_site_refuses_to_contribute(make_site: MakeSite, initial: Arrays, train_task: TrainTask) -> None:
    site = make_site("a", role=Role.HELD_OUT)

    with pytest.raises(RefusalError) as refused:
        site.answer(Request(train_task, initial))

    assert refused.value.reason is Reason.HELD_OUT


def test_a_held_out_site_is_evaluated_on_all_its_frames(make_site: MakeSite, initial: Arrays) -> None:
    reply = make_site("a", train=5, validation=3, role=Role.HELD_OUT).answer(Request(EVALUATE, initial))

    assert reply.metrics["frames"] == 8
    assert reply.arrays == {}


def test_a_source_tells_its_gradients_magnitudes_when_asked_and_only_then(
    make_site: MakeSite, initial: Arrays, train_task: TrainTask
) -> None:
    task = train_task.model_copy(update={"weights": EQUAL})
    unasked, asked = (
        make_site("a").answer(Request(task.model_copy(update={"measure": measure}), initial)).metrics
        for measure in (False, True)
    )

    assert set(asked) - set(unasked) == {f"gradient_{term}" for term in TERMS}
    assert min(asked[f"gradient_{term}"] for term in TERMS) > 0


@pytest.mark.parametrize("damage", ["missing", "misshapen", "nan"])
def test_weights_that_are_not_the_models_are_refused(make_site: MakeSite, initial: Arrays, damage: str) -> None:
    name = next(iter(initial))
    bad = dict(initial)
    if damage == "missing":
        del bad[name]
    else:
        bad[name] = initial[name][:1] if damage == "misshapen" else np.full_like(initial[name], np.nan)

    with pytest.raises(RefusalError) as refused:
        make_site("a").answer(Request(EVALUATE, bad))

    assert refused.value.reason is (Reason.NOT_FINITE if damage == "nan" else Reason.ARRAYS_MISMATCH)


@pytest.mark.parametrize(
    "change",
    [{"local_epochs": 0}, {"learning_rate": -1.0}, {"weights": {"frame": 1.0}}, {"weights": {}}, {"code": "x"}],
)
def test_a_task_that_does_not_fit_the_contract_is_refused(train_task: TrainTask, change: dict[str, object]) -> None:
    import json

    with pytest.raises(RefusalError) as refused:
        parse_task("train", json.dumps(train_task.model_dump() | change))

    assert refused.value.reason is Reason.BAD_REQUEST


def test_a_task_survives_the_wire(train_task: TrainTask) -> None:
    assert parse_task("train", train_task.model_dump_json()) == train_task
