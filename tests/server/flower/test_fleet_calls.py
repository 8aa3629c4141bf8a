"""What a node may say, and what it may not."""

import random
import time
from typing import Any

import pytest
from flwr.proto.error_pb2 import Error
from flwr.proto.fab_pb2 import GetFabRequest
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import ObjectTree

from roiae_server.flower.fleet_calls import (
    CHUNK_BYTES,
    FLEET_OPERATIONS,
    SESSION_SECONDS,
    Conversation,
    RefusedError,
    call_bytes,
    reply_objects,
)
from tests.server.gateway.node_calls import BETA, object_id, part, push, tree

REPLY = 12 * 2**20
CHAIN = [object_id(str(place)) for place in range(40)]


def refusal(operation: str, body: bytes, conversation: Conversation | None = None) -> int | None:
    try:
        (conversation or Conversation(time.monotonic() - 1e6)).check(operation, body, REPLY)
    except RefusedError as refused:
        return refused.status
    return None


def pushed(request: PushMessagesRequest) -> int | None:
    return refusal("push-messages", request.SerializeToString())


def chain(depth: int) -> ObjectTree:
    return ObjectTree(object_id=CHAIN[depth], children=[chain(depth - 1)] if depth else [])


def test_a_reply_of_our_executor_passes() -> None:
    chunks = [tree(f"chunk {place}") for place in range(3)]
    records = [tree("arrays", [tree("packed", chunks)]), tree("metrics"), tree("envelope")]

    assert pushed(push(tree("message", [tree("records", records)]))) is None


def test_an_error_of_flowers_own_passes_and_a_long_one_does_not() -> None:
    request = push(tree("m"))
    request.messages_list[0].error.CopyFrom(Error(code=8, reason="ClientApp stopped responding."))
    assert pushed(request) is None

    request.messages_list[0].error.reason = "x" * 2000
    assert pushed(request) == 400


@pytest.mark.parametrize(
    ("metadata", "status"),
    [
        ({"reply_to_message_id": ""}, 403),  # an instruction, to whomever
        ({"reply_to_message_id": "", "src_node_id": 1, "dst_node_id": 1}, 403),
        ({"src_node_id": BETA}, 403),
        ({"src_node_id": 1}, 403),
        ({"dst_node_id": BETA}, 403),
        ({"dst_node_id": 0}, 403),
        ({"reply_to_message_id": "short"}, 400),
        ({"reply_to_message_id": "A" * 64}, 400),
        ({"message_id": "b" * 64}, 400),  # another than its tree's root
        ({"message_type": "train\x1b[2J"}, 400),
        ({"message_type": "x" * 65}, 400),
        ({"group_id": "a\nforged: line"}, 400),
        ({"created_at": float("nan")}, 400),
        ({"ttl": float("inf")}, 400),
        ({"ttl": -1.0}, 410),
    ],
)
def test_what_is_no_reply_of_this_node_to_the_coordinator_is_refused(metadata: dict[str, Any], status: int) -> None:
    assert pushed(push(tree("m"), **metadata)) == status


def test_an_instruction_among_replies_is_refused_as_one() -> None:
    request = push(tree("m"))
    request.messages_list.append(push(tree("n"), reply_to_message_id="").messages_list[0])

    assert pushed(request) == 403


def test_one_call_has_one_reply() -> None:
    double, bare = push(tree("m")), push(tree("m"))
    double.messages_list.append(double.messages_list[0])
    double.message_object_trees.append(double.message_object_trees[0])
    del bare.message_object_trees[:]

    assert [pushed(double), pushed(bare), pushed(PushMessagesRequest())] == [400, 400, 400]


def test_content_beside_its_objects_is_refused() -> None:
    request = push(tree("m"))
    request.messages_list[0].content.items.add().key = "x"

    assert pushed(request) == 400


@pytest.mark.parametrize("runtimes", [[float("nan")], [-1.0], [1.0] * 1000])
def test_times_that_are_none_are_refused(runtimes: list[float]) -> None:
    request = push(tree("m"))
    del request.clientapp_runtime_list[:]
    request.clientapp_runtime_list.extend(runtimes)

    assert pushed(request) == 400


def test_a_tree_is_bounded_in_number_and_depth() -> None:
    most = reply_objects(REPLY)
    wide = [tree("m", [tree(str(place)) for place in range(children)]) for children in (most - 1, most)]

    assert [pushed(push(objects)) for objects in wide] == [None, 413]
    assert [pushed(push(chain(depth))) for depth in (7, 8, 30)] == [None, 400, 400]


def test_an_object_twice_or_without_an_id_is_refused() -> None:
    for objects in (
        tree("m", [tree("c"), tree("c")]),
        tree("m", [tree("m")]),
        tree("m", [tree("a", [tree("c")]), tree("b", [tree("c")])]),
        tree("m", [ObjectTree(object_id="g" * 64)]),
        ObjectTree(object_id=""),
    ):
        assert pushed(push(objects)) == 400


def test_a_tree_as_deep_as_the_parser_goes_is_refused_in_no_time() -> None:
    request = push(tree("m"))
    body = request.SerializeToString()
    nested = b""
    for _ in range(5000):
        length = len(nested)
        varint = b""
        while length > 127:
            varint += bytes([length & 127 | 128])
            length >>= 7
        nested = b"\x12" + varint + bytes([length]) + nested

    began = time.monotonic()
    assert refusal("push-messages", body + b"\x1a" + nested[1:]) == 400
    assert time.monotonic() - began < 1


def test_parts_are_those_that_were_announced_within_the_weight_of_a_reply() -> None:
    talk = Conversation(time.monotonic() - 1e6)
    names = [f"c{place}" for place in range(4)]
    asked = PushMessagesResponse(objects_to_push=[object_id(name) for name in names], session_id="s")
    talk.announced(asked.SerializeToString())

    def deliver(session: str, name: str, size: int = 10) -> int | None:
        return refusal("push-object", part(session, name, bytes(size)).SerializeToString(), talk)

    assert deliver("s", "c0") is None
    assert deliver("s", "other") == deliver("t", "c0") == deliver("", "c0") == 403
    assert [deliver("s", name, CHUNK_BYTES) for name in names] == [None, None, 413, 413]
    assert deliver("s", "c1", CHUNK_BYTES) is None  # again, as after a lost answer: it weighs once


def test_only_the_last_announcements_are_remembered() -> None:
    talk = Conversation(time.monotonic() - 1e6)
    for place in range(1000):
        talk.announced(
            PushMessagesResponse(objects_to_push=[object_id("c")], session_id=str(place)).SerializeToString()
        )

    assert len(talk._uploads) == 4
    assert refusal("push-object", part("0", "c").SerializeToString(), talk) == 403
    assert refusal("push-object", part("999", "c").SerializeToString(), talk) is None


def test_a_reply_that_was_announced_to_the_gateway_before_this_one_is_not_lost() -> None:
    young, old = Conversation(time.monotonic()), Conversation(time.monotonic() - SESSION_SECONDS - 1)
    first, second = (part(session, "c", bytes(CHUNK_BYTES)).SerializeToString() for session in ("s", "t"))

    assert refusal("push-object", first, old) == 403
    assert refusal("push-object", first, young) is None
    assert refusal("push-object", second, young) == 403  # one, and no more than a reply weighs
    assert refusal("push-object", part("s", "d", bytes(CHUNK_BYTES)).SerializeToString(), young) is None
    assert refusal("push-object", part("s", "e", bytes(CHUNK_BYTES)).SerializeToString(), young) == 413


def test_text_for_the_superlinks_log_is_a_word() -> None:
    assert refusal("get-fab", GetFabRequest(hash_str="a" * 64).SerializeToString()) is None
    assert refusal("get-fab", GetFabRequest(hash_str="\x1b[31m").SerializeToString()) == 400
    assert refusal("get-fab", GetFabRequest(hash_str="a" * 65).SerializeToString()) == 400


def test_calls_are_as_large_as_they_need_be() -> None:
    largest = push(tree("m", [tree(str(place)) for place in range(reply_objects(REPLY) - 1)]))

    assert largest.ByteSize() < call_bytes("push-messages", REPLY)
    assert part("s" * 36, "c", bytes(CHUNK_BYTES + 100)).ByteSize() < call_bytes("push-object", REPLY)
    assert call_bytes("push-object", 1000) < 10_000
    assert {call_bytes(name, REPLY) for name in FLEET_OPERATIONS - {"push-messages", "push-object"}} == {4096}


def test_ten_thousand_spoilt_calls_are_refused_or_harmless() -> None:
    """Bytes flipped, cut out and doubled in good calls: an answer each, and no error of another kind."""
    chance = random.Random(1)
    good = push(tree("m", [tree("r", [tree("a"), tree("b")])])).SerializeToString()
    refused = 0
    for _ in range(10_000):
        body = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(body))
            match chance.randrange(3):
                case 0:
                    body[place] ^= 1 << chance.randrange(8)
                case 1:
                    del body[place : place + chance.randrange(20)]
                    body = body or bytearray(b"\0")
                case _:
                    body[place:place] = bytes(chance.randrange(256) for _ in range(chance.randrange(20)))
        operation = chance.choice(["push-messages"] * 5 + sorted(FLEET_OPERATIONS))
        refused += refusal(operation, bytes(body)) is not None
    assert refused > 7000
