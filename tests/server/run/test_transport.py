import itertools

import pytest

from roiae.wire.contract import Reply
from roiae_server.run.transport import InOrder

SITES = ("a", "bb", "ccc")
REPLY = Reply({}, {}, 1.0)


@pytest.mark.parametrize("arrival", list(itertools.permutations(SITES)))
def test_replies_are_handed_on_by_name_in_whatever_order_they_come(arrival: tuple[str, ...]) -> None:
    handed: list[str] = []
    in_order = InOrder(SITES, lambda site, reply: handed.append(site))

    for site in arrival:
        in_order.settle(site, REPLY)

    assert handed == list(SITES)


def test_a_reply_waits_only_for_those_before_it() -> None:
    handed: list[str] = []
    in_order = InOrder(SITES, lambda site, reply: handed.append(site))

    in_order.settle("a", REPLY)
    in_order.settle("ccc", REPLY)

    assert handed == ["a"]


def test_a_site_of_which_nothing_comes_holds_nobody_back() -> None:
    handed: list[str] = []
    in_order = InOrder(SITES, lambda site, reply: handed.append(site))

    in_order.settle("ccc", REPLY)
    in_order.settle("bb", REPLY)
    in_order.settle("a", None)

    assert handed == ["bb", "ccc"]
