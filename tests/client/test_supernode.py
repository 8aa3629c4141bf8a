"""What our wrapper adds to Flower's SuperNode."""

from typing import Any

import httpx
import pytest

from roiae_client.flower.command import DEAF
from roiae_client.flower.supernode import _sent


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
