"""A request on its way from the SuperNode: its records first, then its arrays, up to what its task can come with."""

from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from roiae.config import ModelConfig
from roiae.wire.contract import Arrays, EvaluateTask, KeysTask, Task
from roiae.wire.envelope import IDENTIFY
from roiae.wire.packing import pack
from roiae_client.flower import inbox as intake
from roiae_client.flower.inbox import NO_KIND, pull_request
from roiae_server.flower.grid import act_as_coordinator
from tests.conftest import MODEL
from tests.fuzz.driving import Link
from tests.fuzz.wire import Wire, on_wire

COMMON: dict[str, Any] = {"model": MODEL, "batch_size": 8, "threads": 1}


class Counting(Link):
    """Remembers what was asked for, in its order."""

    def __init__(self, wire: Wire) -> None:
        super().__init__()
        self.announce(wire)
        self.pulled: list[bytes] = []

    def PullObject(self, request: Any) -> Any:  # noqa: N802
        answer = super().PullObject(request)
        self.pulled.append(answer.object_content)
        return answer


def wire(kind: str, task: Task | str, arrays: Arrays) -> Wire:
    act_as_coordinator()
    text = task if isinstance(task, str) else task.model_dump_json()
    content = {
        "arrays": ArrayRecord({"packed": Array(*pack(arrays))}),
        "config": ConfigRecord({"task": text}),
        "ask": ConfigRecord({"run": "r"}),
    }
    return on_wire(Message(RecordDict(content), dst_node_id=1, message_type=kind))  # type: ignore[arg-type]


def taken(link: Counting) -> Message:
    message, _ = pull_request(link)  # type: ignore[arg-type]
    return message


def test_a_request_comes_whole_with_its_records_before_its_arrays(initial: Arrays) -> None:
    link = Counting(wire("evaluate", EvaluateTask(**COMMON), initial))

    message = taken(link)

    assert message.metadata.message_type == "evaluate"
    assert message.content.array_records["arrays"]["packed"].data == pack(initial)[3]
    chunks = [part.startswith(b"ArrayChunk") for part in link.pulled]
    assert chunks == sorted(chunks) and chunks[-1]


@pytest.mark.parametrize("kind", ["evaluate", "query.keys", IDENTIFY])
def test_arrays_larger_than_the_tasks_model_are_not_taken(kind: str, initial: Arrays) -> None:
    tasks: dict[str, Task | str] = {"evaluate": EvaluateTask(**COMMON), "query.keys": KeysTask(**COMMON), IDENTIFY: ""}
    large = {f"w{place}": np.random.default_rng(place).random(2**20) for place in range(4)}  # 8 MiB each
    link = Counting(wire(kind, tasks[kind], large))

    message = taken(link)

    assert (message.metadata.message_type, list(message.content)) == (NO_KIND, [])
    assert sum(map(len, link.pulled)) < 12 * 2**20  # one object beyond the bound, and not the next


def test_arrays_that_this_machine_cannot_hold_are_not_fetched_whatever_model_the_task_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody has signed for them yet."""
    monkeypatch.setattr(intake, "available_memory", lambda: 2.0**33)
    largest = ModelConfig(image_size=4096, width=256, latent_dim=1024)  # 137 GB
    link = Counting(wire("evaluate", EvaluateTask(**{**COMMON, "model": largest}), {"w": np.zeros(2**20)}))

    message = taken(link)

    assert (message.metadata.message_type, list(message.content)) == (NO_KIND, [])
    assert not any(part.startswith(b"ArrayChunk") for part in link.pulled)


def test_a_task_of_another_version_still_comes_to_the_desk() -> None:
    message = taken(Counting(wire("train", '{"news": 1}', {"w": np.zeros(100_000, np.float32)})))

    assert set(message.content) == {"arrays", "config", "ask"}
