"""How a request reaches sites and replies come back: all that the federation's logic knows of any network."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from roiae.contract import Arrays, Reply, Request
from roiae.errors import Reason


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
    """Makes new global weights of the sites' replies; may keep a state of its own between rounds."""

    def configure(self, round_: int, arrays: Arrays) -> float:
        """Begin a round from these weights; returns the weight of the proximal term that sites shall add."""
        ...

    def aggregate(self, round_: int, replies: Mapping[str, Reply]) -> Arrays:
        """New global weights; the replies' names, shapes and types."""
        ...

    @property
    def state(self) -> Arrays:
        """What the next round needs besides the weights, by name."""
        ...

    def restore(self, state: Arrays) -> None:
        """Go on from a state that an aggregator of the same kind had."""
        ...
