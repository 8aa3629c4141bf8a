"""Replies that come in parts, over a stand-in for the SuperLink's Runtime API."""

from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.message_pb2 import ObjectTree, PullObjectResponse
from flwr.proto.runtime_pb2 import PullAppMessagesResponse
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.run import Run

from roiae_server.flower.grid import UNREADABLE, act_as_coordinator
from roiae_server.flower.network import LOST
from roiae_server.flower.run_grid import RunGrid


class Runtime:
    """A SuperLink that was told of replies, and has parts of them; like Flower's, it announces each of them once."""

    def __init__(self) -> None:
        self.announced: list[Message] = []
        self.forgotten: set[str] = set()  # what was answered by a reply that has been announced
        self.parts: dict[str, bytes] = {}
        self.gone = False  # whether what is not there never comes
        self.unasked = False  # whether it tells of messages that nobody asked for
        self.extra: list[str] = []  # objects that are said to be below a reply, too
        self.last = ""
        self.trees: dict[int, bytes] = {}  # as they were announced
        self.pulled: list[str] = []
        self.confirmed: set[str] = set()

    def announce(self, asked: str, text: str) -> dict[str, bytes]:
        """A reply; its parts, none of which is there yet."""
        reply = Message(RecordDict({"envelope": ConfigRecord({"text": text})}), 1, "query.identify")
        reply.metadata.__dict__["_reply_to_message_id"] = asked
        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            self.last = reply.object_id
            self.trees[id(reply)] = get_object_tree(reply).SerializeToString()
            self.announced.append(reply)
            return {key: part.deflate() for key, part in get_all_nested_objects(reply).items()}

    def PullMessages(self, request: Any) -> PullAppMessagesResponse:  # noqa: N802
        asked = set(request.message_ids)
        assert not asked & self.forgotten, "the SuperLink would answer that there is no such message"
        told = self.announced if self.unasked else []
        replies = told or [reply for reply in self.announced if reply.metadata.reply_to_message_id in asked]
        self.announced = [reply for reply in self.announced if reply not in replies]
        self.forgotten |= {reply.metadata.reply_to_message_id for reply in replies}
        with no_object_id_recompute():
            return PullAppMessagesResponse(
                messages_list=[message_to_proto(remove_content_from_message(reply)) for reply in replies],
                message_object_trees=[self._tree(reply) for reply in replies],
            )

    def _tree(self, reply: Message) -> ObjectTree:
        tree = ObjectTree()
        tree.ParseFromString(self.trees[id(reply)])
        tree.children.extend(ObjectTree(object_id=key) for key in self.extra)
        return tree

    def PullObject(self, request: Any) -> PullObjectResponse:  # noqa: N802
        self.pulled.append(request.object_id)
        part = self.parts.get(request.object_id)
        return PullObjectResponse(
            object_found=part is not None or not self.gone,
            object_available=part is not None,
            object_content=part or b"",
        )

    def ConfirmMessageReceived(self, request: Any) -> None:  # noqa: N802
        self.confirmed.add(request.message_object_id)


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


def only(messages: Any) -> int:
    """The code of the one error that came."""
    (message,) = messages
    assert message.metadata.reply_to_message_id == "a"
    return int(message.error.code)


def test_a_reply_is_fetched_up_to_what_it_can_weigh(grid: RunGrid, runtime: Runtime) -> None:
    runtime.parts = runtime.announce("a", "x" * 300_000)

    assert only(grid.pull_messages(["a"])) == UNREADABLE
    assert runtime.confirmed == {runtime.last}


def test_a_reply_with_room_for_arrays_has_none_for_other_objects(grid: RunGrid, runtime: Runtime) -> None:
    runtime.parts = runtime.announce("a", "x" * 300_000)

    assert only(grid.pull_messages({"a": 10**9})) == UNREADABLE


def test_objects_without_end_are_not_asked_for(grid: RunGrid, runtime: Runtime) -> None:
    runtime.announce("a", "x")
    runtime.extra = [f"{place:064d}" for place in range(10_000)]

    assert only(grid.pull_messages(["a"])) == UNREADABLE
    assert runtime.pulled == []


def test_a_reply_whose_root_is_no_message_is_unreadable(grid: RunGrid, runtime: Runtime) -> None:
    parts = runtime.announce("a", "x")
    root = next(key for key, part in parts.items() if part.startswith(b"ConfigRecord"))
    runtime.parts = parts | {runtime.last: parts[root]}

    assert only(grid.pull_messages(["a"])) == UNREADABLE


@pytest.mark.parametrize("asked", ["", "somebody else's"])
def test_a_message_that_answers_nothing_is_let_go(grid: RunGrid, runtime: Runtime, asked: str) -> None:
    runtime.parts = runtime.announce(asked, "stray")
    runtime.unasked = True

    assert texts(grid.pull_messages(["a"])) == []
    assert runtime.confirmed == {runtime.last}


def test_what_a_reply_says_of_itself_does_not_move_it(grid: RunGrid, runtime: Runtime) -> None:
    """The object says that it answers b; the SuperLink had it as an answer to a."""
    runtime.parts = runtime.announce("b", "moved")
    runtime.announced[0].metadata.__dict__["_reply_to_message_id"] = "a"

    (message,) = grid.pull_messages(["a"])

    assert message.metadata.reply_to_message_id == "a"
