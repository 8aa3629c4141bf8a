"""How a request reaches sites and replies come back: all that the federation's logic knows of any network."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from roiae.errors import Reason
from roiae.wire.contract import Arrays, Reply, Request

Take = Callable[[str, Reply], None]  # is given a site and its reply


@dataclass(frozen=True)
class Outcome:
    """What became of one site's request: a reply, or the reason why there is none."""

    site: str
    reply: Reply | None
    reason: Reason | None
    bytes_out: int  # coordinator to site, as serialised
    bytes_in: int


class Transport(Protocol):
    """Carries one request to each of many sites."""

    def exchange(self, requests: Mapping[str, Request]) -> Iterator[Outcome]:
        """Send every site its request, and yield one outcome a site as they come."""
        ...


class Aggregator(Protocol):
    """Makes new global weights of the sites' updates; may keep a state of its own between rounds."""

    def configure(self, round_: int, arrays: Arrays) -> float:
        """Begin a round from these weights; returns the weight of the proximal term that sites shall add."""
        ...

    def add(self, arrays: Arrays, weight: float) -> None:
        """One site's update of the round: its weights after training, and how much they count.

        The order is part of the result, as sums round: the same order gives the same bytes.
        """
        ...

    def aggregate(self, round_: int) -> Arrays:
        """New global weights; the updates' names, shapes and types."""
        ...

    @property
    def state(self) -> Arrays:
        """What the next round needs besides the weights, by name."""
        ...

    def restore(self, state: Arrays) -> None:
        """Go on from a state that an aggregator of the same kind had."""
        ...


class InOrder:
    """Hands replies on in the order of their sites' names, each as soon as nobody before it is awaited any more.

    Replies come in any order, and sums of them round: so the bytes of a run do not depend on who was quick, and no
    more is held back than came early. A site of which nothing comes is settled with None.
    """

    def __init__(self, sites: Iterable[str], hand_on: Take) -> None:
        self._awaited = deque(sorted(sites))
        self._settled: dict[str, Reply | None] = {}
        self._hand_on = hand_on

    def settle(self, site: str, reply: Reply | None) -> None:
        """The site's reply, or None where there will be none that counts."""
        self._settled[site] = reply
        while self._awaited and self._awaited[0] in self._settled:
            first = self._awaited.popleft()
            if (waited := self._settled.pop(first)) is not None:
                self._hand_on(first, waited)
