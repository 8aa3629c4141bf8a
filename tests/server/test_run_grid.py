"""Replies that come in parts, over a stand-in for the SuperLink's Runtime API."""

from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.run import Run

from roiae_server.flower.grid import act_as_coordinator
from roiae_server.flower.network import LOST
from roiae_server.flower.run_grid import RunGrid


class Runtime:
    """A SuperLink that was told of replies, and has parts of them; like Flower's, it announces each of them once."""

    def __init__(self) -> None:
        self.announced: list[Message] = []
        self.forgotten: set[str] = set()  # what was answered by a reply that has been announced
        self.parts: dict[str, bytes] = {}
        self.gone = False  # whether what is not there never comes

    def announce(self, asked: str, text: str) -> dict[str, bytes]:
        """A reply; its parts, none of which is there yet."""
        reply = Message(RecordDict({"envelope": ConfigRecord({"text": text})}), 1, "query.identify")
        reply.metadata.__dict__["_reply_to_message_id"] = asked
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            self.announced.append(reply)
            return {key: part.deflate() for key, part in get_all_nested_objects(reply).items()}

    def PullMessages(self, request: Any) -> PullAppMessagesResponse:  # noqa: N802
        asked = set(request.message_ids)
        assert not asked & self.forgotten, "the SuperLink would answer that there is no such message"
        replies = [reply for reply in self.announced if reply.metadata.reply_to_message_id in asked]
        self.announced = [reply for reply in self.announced if reply not in replies]
        self.forgotten |= {reply.metadata.reply_to_message_id for reply in replies}
        with no_object_id_recompute():
            return PullAppMessagesResponse(
                messages_list=[message_to_proto(remove_content_from_message(reply)) for reply in replies],
                message_object_trees=[get_object_tree(reply) for reply in replies],
            )

    def PullObject(self, request: Any) -> PullObjectResponse:  # noqa: N802
        part = self.parts.get(request.object_id)
        return PullObjectResponse(
            object_found=part is not None or not self.gone,
            object_available=part is not None,
            object_content=part or b"",
        )

    def ConfirmMessageReceived(self, request: Any) -> None:  # noqa: N802
        pass


@pytest.fixture
def runtime() -> Runtime:
    act_as_coordinator()
    return Runtime()


@pytest.fixture
def grid(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> RunGrid:
    monkeypatch.setattr(RunGrid, "_runtime_client", runtime)
    grid = RunGrid(Path("no-socket"), "token")
    grid.set_run(Run.create_empty(1))
    return grid


def texts(messages: Any) -> list[Any]:
    return [message.content.config_records["envelope"]["text"] for message in messages]


def test_a_reply_on_its_way_holds_up_no_other(grid: RunGrid, runtime: Runtime) -> None:
    late, parts = runtime.announce("a", "late"), runtime.announce("b", "whole")
    runtime.parts = dict(list(late.items())[:1]) | parts

    assert texts(grid.pull_messages(["a", "b"])) == ["whole"]
    assert texts(grid.pull_messages(["a"])) == []
    runtime.parts |= late
    assert texts(grid.pull_messages(["a"])) == ["late"]


def test_a_reply_that_is_no_longer_wanted_is_let_go(grid: RunGrid, runtime: Runtime) -> None:
    runtime.parts = runtime.announce("a", "late")
    late = runtime.parts.popitem()
    grid.pull_messages(["a"])
    runtime.parts |= dict([late])

    assert texts(grid.pull_messages(["b"])) == []


def test_a_reply_whose_parts_never_come_is_lost(grid: RunGrid, runtime: Runtime) -> None:
    runtime.announce("a", "gone")
    runtime.gone = True

    (message,) = grid.pull_messages(["a"])

    assert message.has_error() and message.error.code in LOST
    assert message.metadata.reply_to_message_id == "a"
