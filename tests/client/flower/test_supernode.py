"""What our wrapper adds to Flower's SuperNode."""

from typing import Any

import httpx
import pytest

from roiae_client.flower.command import DEAF
from roiae_client.flower.supernode import _received, _sent


def answering(status: int) -> Any:
    def push(request: Any) -> str:
        response = httpx.Response(status, request=httpx.Request("POST", "https://coordinator/"))
        response.raise_for_status()
        return "taken"

    return push


@pytest.mark.parametrize("status", [400, 404, 500])
def test_a_node_whose_reply_is_refused_ends(status: int) -> None:
    with pytest.raises(SystemExit) as ended:
        _sent(answering(status), None)

    assert ended.value.code == DEAF


@pytest.mark.parametrize("status", [401, 403, 502, 503, 504])
def test_what_flower_deals_with_is_left_to_flower(status: int) -> None:
    with pytest.raises(httpx.HTTPStatusError):
        _sent(answering(status), None)


def test_a_reply_that_is_taken_passes() -> None:
    assert _sent(answering(200), None) == "taken"


def test_a_request_whose_run_ends_while_it_arrives_fails_as_any_other() -> None:
    """Flower takes its task back after an Exception, but not after what it makes of the status."""
    with pytest.raises(InterruptedError):
        _received(answering(403), None)
    with pytest.raises(httpx.HTTPStatusError):
        _received(answering(503), None)

    assert _received(answering(200), None) == "taken"
