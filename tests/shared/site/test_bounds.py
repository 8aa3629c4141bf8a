"""What a message can weigh is known from its request, and honest messages weigh less."""

from typing import Any

import pytest

from roiae.config import Upload
from roiae.errors import RefusalError
from roiae.site.bounds import MAX_SITES, reply_bytes, request_bytes
from roiae.wire.contract import Arrays, EvaluateTask, KeysTask, ProbeTask, Request, ScoreTask, StatisticsTask, TrainTask
from roiae.wire.packing import pack
from roiae.wire.upload import packed
from tests.conftest import MODEL

COMMON: dict[str, Any] = {"model": MODEL, "batch_size": 4, "threads": 1}
KIBIBYTE = 1024


def weight(arrays: Arrays) -> int:
    return len(pack(arrays)[3])


def group(sources: int = 3) -> dict[str, Any]:
    names = tuple(f"s{place:03d}" for place in range(sources))
    return {**COMMON, "arms": ("phase1", "phase2"), "sources": names, "keys": dict.fromkeys((*names, "t"), "0" * 64)}


@pytest.mark.parametrize("upload", ["float32", "float16"])
def test_an_update_is_bounded_to_a_few_kilobytes(train_task: TrainTask, initial: Arrays, upload: Upload) -> None:
    task = train_task.model_copy(update={"upload": upload})

    honest = weight(packed(initial, initial, task.upload))

    assert honest <= reply_bytes(Request(task, initial)) <= honest + 64 * KIBIBYTE


def test_an_answer_of_numbers_has_no_room_for_arrays(initial: Arrays) -> None:
    assert weight({}) <= reply_bytes(Request(EvaluateTask(**COMMON), initial)) <= 64 * KIBIBYTE


def test_a_request_is_bounded_by_its_model(train_task: TrainTask, initial: Arrays) -> None:
    for task in (train_task, EvaluateTask(**COMMON)):
        assert weight(initial) <= request_bytes(task) <= weight(initial) + 64 * KIBIBYTE
    for none in (None, KeysTask(**COMMON)):
        assert weight({}) <= request_bytes(none) <= 64 * KIBIBYTE


def test_a_sealed_step_of_the_probe_is_bounded_by_the_number_of_sources() -> None:
    few, many = (reply_bytes(Request(ProbeTask(**group(n), step=1), {})) for n in (2, 20))

    assert few < many < 64 * 2**20


def test_a_group_of_more_hospitals_than_there_can_be_is_refused() -> None:
    crowd = group(MAX_SITES + 1)
    for task in (ProbeTask(**crowd, step=1), ScoreTask(**crowd, k=1, step=None)):
        with pytest.raises(RefusalError, match="at most"):
            request_bytes(task)
    with pytest.raises(RefusalError, match="at most"):
        reply_bytes(Request(StatisticsTask(**crowd), {}))
