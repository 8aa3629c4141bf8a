"""Whatever the shift step carries weighs no more than is let through."""

from collections.abc import Callable
from typing import Any

from roiae.site.answers import Site
from roiae.site.bounds import largest_reply, reply_bytes, request_bytes
from roiae.wire.contract import Arrays, KeysTask, ScoreTask
from roiae.wire.packing import pack
from tests.server.run.shift.conftest import Sites


def test_every_request_and_reply_of_the_shift_step_is_within_its_bound(
    sites: list[Site], score: Callable[..., dict[str, Any]]
) -> None:
    transport = Sites(sites)

    score(transport)

    kinds = {type(request.task) for _, request in transport.asked}
    assert len(kinds) == 4 and {KeysTask, ScoreTask} < kinds
    assert len(transport.replies) == len(transport.asked)
    for (_, request), reply in zip(transport.asked, transport.replies, strict=True):
        assert weight(request.arrays) <= request_bytes(request.task)
        assert weight(reply.arrays) <= reply_bytes(request) <= largest_reply(request.task.model, len(sites))


def weight(arrays: Arrays) -> int:
    return len(pack(arrays)[3])
